import numpy as np
import pytest

from benchmarks.peers import CONTENDERS, OURS, Numpy
from scripts import compare_peers
from scripts.compare_peers import Plan, check, race
from scripts.measuring import PeerError, in_turns
from tests.conftest import drawn_dataset

PACKAGES = {"torch": "torch", "jax": "jax", "sklearn": "sklearn"}

pytestmark = pytest.mark.usefixtures("torch_as_it_was")


@pytest.fixture(scope="module")
def data():
    return drawn_dataset()


def calling(contender):
    return lambda method, *arguments: getattr(contender, method)(*arguments)


class TestCheck:
    @pytest.mark.parametrize("name", CONTENDERS)
    def test_passes_every_contender(self, data, name):
        pytest.importorskip(PACKAGES.get(name, "numpy"))
        kind, loss = CONTENDERS[name]
        ours = CONTENDERS[OURS[loss]][0](data, loss)
        rows = check(name, calling(kind(data, loss)), calling(ours), ours.start_weights())
        assert {row["batch"] for row in rows} == {1, 128} & set(kind.batches)

    @pytest.mark.parametrize("batch", [1, 128])
    def test_refuses_another_step(self, data, batch):
        class Hasty(Numpy):
            def start(self, weights):
                super().start(weights)
                self.rate *= 1.01 if self.batch == batch else 1

        ours = CONTENDERS["ours"][0](data, "rashid")
        with pytest.raises(PeerError, match=f"numpy: .* at batch size {batch} in float64"):
            check("numpy", calling(Hasty(data, "rashid")), calling(ours), ours.start_weights())

    def test_refuses_another_precision(self, data):
        class Coarse(Numpy):
            def start(self, weights):
                super().start([w.astype(np.float32) for w in weights])

        with pytest.raises(TypeError, match="float32, not in float64"):
            Coarse(data, "rashid").check([np.ones((12, 200)), np.ones((200, 3))], "float64", 1)


class TestRace:
    def test_takes_turns_and_drops_the_first_round(self):
        calls = []
        jobs = {name: lambda name=name: calls.append(name) or float(len(calls)) for name in "abc"}
        assert in_turns(jobs, 2) == {"a": [6, 8], "b": [4, 9], "c": [5, 7]}
        assert "".join(calls) == "abcbcacab"

    def test_compares_under_the_same_rule_by_the_sample(self):
        class Still:
            def __init__(self, seconds):
                self.seconds = seconds

            def call(self, method, weights, n, batch):
                return self.seconds

        names = ("ours", "ours, squared error", "torch")
        workers = dict(zip(names, map(Still, (4.0, 6.0, 3.0)), strict=True))
        rows = race(workers, {"rashid": [], "squared_error": []}, Plan(3, 600, 30, 1.0), 1)
        assert [row["samples"] for row in rows] == [600, 600, 30]
        assert rows[2]["median"] == pytest.approx(0.1)
        assert rows[2]["times_ours"] == pytest.approx(10.0)


class TestCommand:
    @pytest.mark.parametrize("mistake", ["--threads 0", "--rounds 0", "--rounds x", "--nonsense"])
    def test_a_mistake_is_one_line(self, capsys, mistake):
        with pytest.raises(SystemExit) as ended:
            compare_peers.main(mistake.split())
        assert ended.value.code == 2
        message = capsys.readouterr().err
        assert message.startswith("error: ")
        assert message.count("\n") == 1

    def test_no_data_is_one_line(self, capsys, tmp_path):
        assert compare_peers.main(["--quick", "--data", str(tmp_path / "none")]) == 2
        assert capsys.readouterr().err.count("\n") == 1

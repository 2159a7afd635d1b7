import json

import pytest

from benchmarks.ingredient_peers import (
    CONTENDERS,
    INGREDIENTS,
    OURS,
    Ours,
    Reference,
    Work,
    fraction,
    start_arrays,
)
from scripts import compare_ingredients
from scripts.compare_ingredients import Comparison, chosen, markdown, row, rows
from scripts.measuring import PeerError, describe_machine, largest_difference
from tests.conftest import drawn_dataset

MNIST = 784, 10, 60_000

pytestmark = pytest.mark.usefixtures("torch_as_it_was")


@pytest.fixture(scope="module")
def data():
    return drawn_dataset()


def difference(data, work, one, other):
    start = start_arrays(data.train_x.shape[1], work, len(data.classes))
    return largest_difference(one(data).check(work), other(data).check(work), start)


class TestRows:
    def test_there_are_all(self):
        names = [work.name for work in rows(*MNIST)]
        assert len(names) == len(set(names)) == 5 * len(INGREDIENTS) + 2 * 2 * 2
        assert names[0] == "256/128/sgd"
        assert "2500-2000-1500-1000-500/512/adam" in names

    def test_an_epoch_is_whole_batches(self):
        samples = {(work.network, work.settings.batch_size): work.samples for work in rows(*MNIST)}
        assert samples["256", 128] == 59_904
        assert samples["2500-2000-1500-1000-500", 512] == 4_608

    def test_batches_larger_than_all_samples_are_left_out(self):
        assert max(work.settings.batch_size for work in rows(64, 10, 600)) == 512

    def test_they_are_chosen_by_pattern(self):
        works = rows(*MNIST)
        assert len(chosen(works, ["1000/128/*", "256/32/a*"])) == len(INGREDIENTS) + 5
        with pytest.raises(PeerError, match="--rows 300/\\*: there is no such row"):
            chosen(works, ["256/*", "300/*"])

    def test_all_settings_are_valid(self):
        for work in rows(*MNIST):
            work.settings.check()
            work.checked().settings.check()


def test_the_average_moves_as_ours_does():
    assert fraction(0.999, 1) == 1 - 2 / 11
    assert fraction(0.999, 10**6) == pytest.approx(0.001)


class TestContenders:
    @pytest.mark.parametrize("ingredient", INGREDIENTS)
    def test_ours_agrees_with_the_textbook(self, data, ingredient):
        work = Work.of((20,), 32, ingredient, 400).checked()
        assert difference(data, work, Ours, Reference) < 1e-9

    @pytest.mark.parametrize("name", ["jax", "torch"])
    @pytest.mark.parametrize("ingredient", ["adamw", "batch-norm", list(INGREDIENTS)[-1]])
    def test_others_agree_with_ours(self, data, name, ingredient):
        pytest.importorskip("optax" if name == "jax" else name)
        work = Work.of((20, 20), 32, ingredient, 400).checked()
        kind = CONTENDERS[name]
        assert difference(data, work, kind, Ours) < kind(data).tolerance(work)


class InProcess:
    alive = True

    def __init__(self, contender):
        self.contender, self.called = contender, []

    def call(self, method, *arguments):
        self.called.append(method)
        return getattr(self.contender, method)(*arguments)

    def stop(self):
        pass


class Missing(Reference):
    def check(self, work):
        raise ImportError("there is no such package")


class Hasty(Reference):
    def check(self, work):
        return [1.001 * a for a in super().check(work)]


class TestComparison:
    def test_who_differs_or_is_missing_is_not_timed(self, data):
        kinds = {OURS: Reference, "jax": Reference, "torch": Hasty, "torch.compile": Missing}
        workers = {name: InProcess(kind(data)) for name, kind in kinds.items()}
        report = {key: [] for key in ("checks", "skipped", "failed", "rows")}
        works = [Work.of((8,), batch, "clip", 400) for batch in (100, 200)]
        saved = []
        comparison = Comparison(dict(workers), data, 1, report)
        comparison.run(works, lambda: saved.append(len(report["rows"])))
        assert saved == [1, 2]
        for found in report["rows"]:
            assert set(found["times"]) == {OURS, "jax"}
            assert found["fastest_peer"] == "jax"
        assert report["skipped"] == ["there is no such package"]
        assert len(report["failed"]) == 1  # once, not in every row
        assert "8/100/clip: torch: does not compute the same" in report["failed"][0]
        assert "seconds" not in workers["torch"].called
        assert workers["jax"].called.count("check") == 1
        # in each row a round that does not count and one that does
        assert workers[OURS].called.count("seconds") == 4


class TestReport:
    def test_a_row_is_scaled_to_all_samples(self, data):
        work = Work.of((8,), 100, "adam", 200)
        runs = {OURS: [1.0, 2.0, 3.0], "jax": [2.0, 8.0, 4.5], "torch": [9.0, 9.0, 9.0]}
        found = row(work, runs, data)
        assert found["times"][OURS]["median"] == 4.0
        assert found["fastest_peer"] == "jax"
        assert found["fastest_peer_over_ours"] == 2.0  # the median of 2, 4 and 1.5
        assert row(work, {OURS: [1.0]}, data)["fastest_peer_over_ours"] is None

    def test_the_tables(self, data):
        works = [Work.of((8,), 100, name, 400) for name in ("momentum", "dropout")]
        times = [{OURS: [0.5], "jax": [1.0], "torch": [3.0]}, {OURS: [1.0], "torch": [2.5]}]
        check = {"contender": "torch", "ingredient": "dropout", "depth": 1, "difference": 2e-15}
        report = {
            "machine": describe_machine(1, ["numpy"]),
            "data": {"name": "drawn", "train": 400, "non_zero": 0.4},
            "rounds": 1,
            "contenders": [OURS, "jax", "torch"],
            "checks": [check],
            "skipped": ["torch.compile: there is no g++"],
            "failed": [],
            "rows": [row(*pair, data) for pair in zip(works, times, strict=True)],
        }
        report = json.loads(json.dumps(report))
        lines = markdown(report).splitlines()
        assert "Not timed: torch.compile: there is no g++." in lines
        assert "## 12-8-3, batch size 100, 400 samples" in lines
        assert (
            "| momentum | 0.500 (0.500 … 0.500) | 1.00 (1.00 … 1.00) | 3.00 (3.00 … 3.00) |"
            " 2.00 (jax) | 1.00 |" in lines
        )
        assert (
            "| dropout | 1.00 (1.00 … 1.00) | – | 2.50 (2.50 … 2.50) | 2.50 (torch) | 2.00 |"
            in lines
        )
        assert "| dropout without noise | 1 | – | 2.0e-15 |" in lines


class TestCommand:
    @pytest.mark.parametrize(
        "mistake", ["--threads 0", "--rounds 0", "--samples 0", "--contenders nobody", "--nonsense"]
    )
    def test_a_mistake_is_one_line(self, capsys, mistake):
        with pytest.raises(SystemExit) as ended:
            compare_ingredients.main(mistake.split())
        assert ended.value.code == 2
        message = capsys.readouterr().err
        assert message.startswith("error: ")
        assert message.count("\n") == 1

    @pytest.mark.parametrize("mistake", ["--data none-such", "--data digits --rows 300/*"])
    def test_one_of_the_data_too(self, capsys, mistake):
        assert compare_ingredients.main(["--quick", *mistake.split()]) == 2
        assert capsys.readouterr().err.count("\n") == 1

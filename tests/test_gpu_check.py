import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from importlib import import_module

import numpy as np
import pytest

from benchmarks import ingredient_peers
from benchmarks.gpu_peers import CONTENDERS, Machine, Process
from benchmarks.ingredient_peers import INGREDIENTS, ON_GPU, OURS, Work
from benchmarks.peers import ANSWERS, whole_batches
from scripts import gpu_check, gpu_ingredients
from scripts.gpu_check import FULL, ON_CPU, ROOT, CellRace, run_tests, slug
from scripts.gpu_ingredients import REFERENCE, Ingredients, Prepared, works_of
from scripts.gpu_limits import bytes_of_step, limits_of_step, shares
from scripts.gpu_report import failures, markdown, problems, which_pays
from scripts.measuring import PeerError, Worker, largest_difference, summary
from scripts.racing import Deadline
from trainer import TrainingSettings, load

pytestmark = pytest.mark.usefixtures("torch_as_it_was")

PACKAGES = {"torch": "torch", "jax": "jax"}
SCRIPT = str(ROOT / "scripts" / "gpu_check.py")


@pytest.fixture(scope="module")
def mnist(tmp_path_factory):
    """A folder of IDX files, 300 and 60 images of 6 × 6 pixels."""
    folder, rng = tmp_path_factory.mktemp("idx"), np.random.default_rng(0)
    for part, n in (("train", 300), ("t10k", 60)):
        pixels = rng.integers(0, 256, (n, 6, 6), np.uint8) * (rng.random((n, 6, 6)) < 0.4)
        labels = rng.permutation(np.arange(n) % 10).astype(np.uint8)
        for name, magic, array in (
            ("images-idx3", 0x803, pixels.astype(np.uint8)),
            ("labels-idx1", 0x801, labels),
        ):
            header = np.array([magic, *array.shape], ">u4").tobytes()
            (folder / f"{part}-{name}-ubyte").write_bytes(header + array.tobytes())
    return str(folder)


class TestDeadline:
    def test_sections_end_in_time_and_no_later_than_the_whole(self):
        now = [100.0]
        whole = Deadline(480, lambda: now[0])
        tests = whole.within(100)
        now[0] += 60
        assert (whole.left, tests.left) == (420, 40)
        assert whole.within(500).left == 420
        now[0] += 50
        assert tests.left == 0
        assert tests.within(10).left == 0  # what is over stays over

    def test_shares_leave_most_to_measuring(self):
        seconds = {name: share * FULL.seconds for name, share in gpu_check.SHARES.items()}
        assert seconds.pop("ingredients") == pytest.approx(50)
        assert seconds == pytest.approx({"tests": 160, "kernels": 90, "training": 60, "rest": 30})
        assert FULL.seconds <= 480


class TestCounts:
    def test_bytes_of_a_step(self):
        """Counted by hand: 3-2-1 has 8 weights, 3 biases and 2 gains."""
        plain = bytes_of_step([3, 2, 1], 4, TrainingSettings(), bias=False)
        assert plain == {
            "samples": 4 * (3 + 8),
            "activations": 4 * 3 * 4 * 2,
            "weights": 8 * 4 * 2,
            "states": 0,
            "gradients": 0,
        }
        every = TrainingSettings(optimizer="adamw", clip=1.0, averaging=0.9, batch_norm=True)
        found = bytes_of_step([3, 2, 1], 4, every, bias=True)
        assert found == plain | {"weights": 104, "states": 3 * 104, "gradients": 104}
        momentum = bytes_of_step([3, 2, 1], 4, TrainingSettings(momentum=0.9), bias=True)
        assert momentum["states"] == momentum["weights"] == 11 * 4 * 2

    def test_shares_name_the_larger_limit(self):
        sizes, rates = [784, 200, 10], {"copy": 1000.0, "torch float32": 50_000, "cupy tf32": 9e9}
        report = a_report() | {"limits": {name: summary([rate]) for name, rate in rates.items()}}
        report["launch"] = {}
        row = {"batch": 32, "precision": "float32", "second": summary([1e-7])}
        found = shares(report, row, sizes)
        moved = 8 * 158_800 + 32 * (784 + 8 + 8 * 210)
        assert found["products"] == pytest.approx(639_200 / 50_000e9 / 1e-7)
        assert found["copies"] == pytest.approx(moved / 32 / 1000e9 / 1e-7)
        assert found["larger"] == "copies"
        assert shares(report, row | {"batch": 8192}, sizes)["larger"] == "products"
        assert shares(report, row | {"batch": 1}, sizes)["larger"] == ""
        assert shares(report | {"limits": {}}, row, sizes) == {"larger": ""}
        report["launch"] = {"empty kernel in a graph, done": 1e-6}
        assert limits_of_step(report, sizes, 32)["launches"] == pytest.approx(4e-6)
        assert shares(report, row, sizes)["larger"] == "launches"
        assert "launches" not in shares(report, row | {"batch": 1}, sizes)

    @pytest.mark.parametrize(
        ("samples", "batch", "expected"),
        [(100, 32, 96), (1, 32, 32), (5000, 32, 288), (9, 512, 300)],
    )
    def test_whole_batches_but_for_too_large_ones(self, samples, batch, expected):
        assert whole_batches(samples, batch, 300) == expected


MADE_UP = """
import os
import pytest

def test_one(record_property):
    record_property("rows", [1.5])

def test_two():
    pytest.skip("no GPU")

def test_three():
    assert 1 == 2

def test_four():
    import cyclopts_missing

def test_five():
    raise RuntimeError("cudaErrorLost")

@pytest.mark.parametrize("number", range(20))
def test_six(number):
    pass
"""


class TestTests:
    """What `run_tests` records of a made-up project."""

    @pytest.fixture
    def run(self, tmp_path, monkeypatch):
        (tmp_path / "test_made_up.py").write_text(MADE_UP)
        (tmp_path / "test_tools.py").write_text("import cyclopts\n")
        (tmp_path / "cyclopts.py").write_text("raise ImportError(\"No module named 'cyclopts'\")")
        (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n    gpu: GPU\n")
        monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{ROOT}")
        monkeypatch.setattr(gpu_check, "ROOT", tmp_path)
        return lambda seconds, *arguments: run_tests(Deadline(seconds), "cpu", *arguments)

    @pytest.mark.parametrize("xdist", [False, pytest.param(True, marks=pytest.mark.thorough)])
    def test_outcomes_messages_and_properties(self, run, monkeypatch, xdist):
        if xdist:
            pytest.importorskip("xdist")
        else:
            monkeypatch.setattr(gpu_check, "find_spec", lambda name: None)
        found = run(120, 2)
        assert [found[k] for k in ("passed", "failed", "skipped")] == [21, 4, 1], found["tail"]
        assert found["ended"]
        assert not found["cut"]
        assert found["skipped_because"] == {"no GPU": 1}
        assert sorted(found["failures"]) == [
            "test_made_up.py::test_five - RuntimeError: cudaErrorLost",
            "test_made_up.py::test_four - ModuleNotFoundError: No module named 'cyclopts_missing'",
            "test_made_up.py::test_three - assert 1 == 2",
        ]
        (absent,) = found["not_collected"]
        assert "cyclopts" in absent
        assert [properties for _, properties in found["properties"]] == [{"rows": [1.5]}]

    @pytest.mark.thorough
    def test_what_ended_before_the_time_is_kept(self, run, tmp_path):
        (tmp_path / "test_made_up.py").write_text(
            "import time, pytest\n@pytest.mark.parametrize('seconds', [0, 600, 0])\n"
            "def test(seconds): time.sleep(seconds)\n"
        )
        found = run(12, 1, "test_made_up.py")
        assert [found[k] for k in ("passed", "cut", "ended")] == [1, True, False], found["tail"]
        assert failures(found) == found["failures"]

    @pytest.mark.thorough
    def test_one_that_hangs_ends_its_process_only(self, run, tmp_path):
        pytest.importorskip("xdist")
        (tmp_path / "test_made_up.py").write_text(
            "import time, pytest\n@pytest.mark.parametrize('n', range(9))\n"
            "def test(n): time.sleep(600 * (n == 1))\n"
        )
        found = run(120, 2, "--hang=1", "test_made_up.py")
        assert [found[k] for k in ("passed", "failed", "ended")] == [8, 1, True], found["tail"]
        assert "test_made_up.py::test[1] - " in found["failures"][0]

    def test_pytest_itself_may_fail(self, run):
        found = run(60, 1, "--no-such-option")
        assert failures(found)[0].startswith("pytest ended with exit code 4: ")


class TestChecks:
    @pytest.mark.thorough
    def test_kernels_are_compared(self, monkeypatch):
        monkeypatch.setattr(gpu_check, "CASES", 2)
        found = gpu_check.check_kernels("cpu", 5, Deadline(240))
        assert found["problems"] == []
        assert (found["seed"], found["cases"]) == (5, 2)
        rows = [(row["number"], row["dtype"]) for row in found["rows"]]
        assert rows == [(n, dtype) for n in (0, 1) for dtype in ("float64", "float32")]

    @pytest.mark.thorough
    def test_training_is_compared(self, mnist):
        found = gpu_check.check_training(mnist, 100, "cpu", Deadline(120))
        assert found["problems"] == found["cut"] == []
        assert found["exact"]["relative"] < 1e-9
        assert found["exact"]["samples"] == 100
        assert {"samples": 100, "batch": 128, "same": True} in found["twice"]
        assert len(found["twice"]) == 2
        assert found["common_epochs"] == len(found["epochs"]["cpu"]) == 5
        rows = [[row["accuracy"] for row in found["epochs"][name]] for name in ("cpu", "base")]
        assert rows[0] == rows[1]


class TestContenders:
    @pytest.mark.parametrize("name", CONTENDERS)
    @pytest.mark.parametrize("batch", [1, 128])
    def test_compute_what_the_textbook_does(self, mnist, name, batch):
        entry = CONTENDERS[name]
        pytest.importorskip(PACKAGES.get(entry.process, "numpy"))
        process = Process(mnist, "cpu", 0)
        if name in ("ours, tf32", "ours, squared error, tf32"):
            with pytest.raises(ValueError, match="is for a GPU"):
                process.check(name, 16, batch, 140, "float32")
            return
        wanted, answers = process.check(entry.loss, 16, batch, 140, "float64")
        weights, own = process.check(name, 16, batch, 140, "float32")
        start = process.do(name, "start_weights", 16)
        assert largest_difference(weights, wanted, start) < 1e-3
        assert np.array_equal(own, answers)

    @pytest.mark.parametrize("name", ["ours", "cupy"])
    def test_time_two_passes(self, mnist, name):
        process = Process(mnist, "cpu", 0)
        assert process.do(name, "samples_of_run", 8, 32, 1e9) == 288  # of 300, in whole batches
        n = process.do(name, "samples_of_run", 8, 32, 1e-9)
        assert n == 32
        for batch in (32, ANSWERS):
            found = process.do(name, "two_passes", 8, batch, n)
            assert found["first"] > 0
            assert found["second"] > 0

    def test_prepare_takes_no_mistake_to_heart(self, mnist):
        process = Process(mnist, "cpu", 0)
        assert process.prepare([("ours, tf32", 8, 32), ("cupy", 8, 32)], 60.0) == 1
        assert process.prepare([("cupy", 8, 32)], -1.0) == 0

    def test_none_is_checked_twice_before_all_are_once(self):
        found = gpu_check.checks(["ours", "cpu", "cupy", "torch", "jax"], FULL)
        assert [name for name, _ in found[: len(CONTENDERS)]] == list(CONTENDERS)
        ours = [cell[:2] for name, cell in found if name == "ours"]
        assert ours == [(h, b) for h in FULL.hidden for b in FULL.batches]
        assert [cell[:2] for name, cell in found if name == "jax"] == [(200, 1), (200, 128)]


class StandStill:
    """A team whose contenders take no time; "cupy" breaks at its fourth run."""

    def __init__(self):
        self.calls = []
        self.seconds = {"ours": 2.0, "cupy": 6.0, "torch": 9.0}

    def do(self, name, method, *arguments, seconds):
        if method == "samples_of_run":
            return {"ours": 10, "cupy": 5, "torch": 1}[name]
        self.calls.append(name)
        if name == "cupy" and self.calls.count("cupy") == 4:
            raise PeerError("cupy: out of memory")
        return {"first": 9.0, "second": self.seconds[name]}


class TestRace:
    def test_takes_turns_and_goes_on_without_what_broke(self):
        team, plan = StandStill(), replace(ON_CPU, rounds=3)
        race = CellRace(team, (16, 32, "float32"), ["ours", "cupy", "torch"], plan)
        race.run(1, Deadline(60), Deadline(60))
        assert len(team.calls) == 6
        race.run(3, Deadline(60), Deadline(60))
        assert team.calls[:7] == ["ours", "cupy", "torch", "cupy", "torch", "ours", "torch"]
        assert race.done
        rows = {row["contender"]: row for row in race.rows()}
        assert [len(row["second"]["runs"]) for row in rows.values()] == [3, 2, 3]
        assert rows["cupy"]["times_ours"] == pytest.approx(6.0)
        assert rows["torch"]["times_ours"] is None  # ours under its rule was not there
        assert rows["ours"]["second"]["median"] == pytest.approx(0.2)
        assert race.wrong == {
            "cupy": "batch size 32, 16 hidden units, float32: cupy: out of memory"
        }

    def test_leaves_out_what_hung_elsewhere(self):
        team = StandStill()
        race = CellRace(team, (16, 32, "float32"), ["ours", "cupy"], ON_CPU)
        race.leave_out({"cupy"})
        race.run(3, Deadline(60), Deadline(60))
        assert set(team.calls) == {"ours"}

    def test_begins_nothing_after_the_time(self):
        race = CellRace(StandStill(), (16, 32, "float32"), ["ours"], ON_CPU)
        race.run(3, Deadline(0), Deadline(0))
        assert race.rows() == []
        race.run(3, Deadline(0), Deadline(60))  # a counted round there is in any case
        assert len(race.rows()[0]["second"]["runs"]) == 1
        assert not race.done


class Nearby:
    """A team and a machine in this process."""

    names = ("ours", "cpu", "cupy")

    def __init__(self, source):
        self.machine = Machine("cpu")
        self.processes = {name: Process(source, "cpu", 0) for name in (*self.names, "reference")}

    def call(self, name, method, *arguments, seconds):
        try:
            return getattr(self.processes[name], method)(*arguments)
        except Exception as error:
            raise PeerError(f"{name}: {error}") from error

    def do(self, contender, method, *arguments, seconds):
        name = CONTENDERS[contender].process
        return self.call(name, "do", contender, method, *arguments, seconds=seconds)

    def wanted(self, key, seconds):
        return self.call("reference", "check", *key, "float64", seconds=seconds)


class Local:
    def __init__(self, machine):
        self.machine = machine

    def call(self, method, *arguments, seconds):
        return getattr(self.machine, method)(*arguments)


class TestMeasuring:
    def test_checks_then_times_everything(self, mnist):
        team, saved = Nearby(mnist), []
        team.machine.__dict__["torch"] = None
        plan = replace(ON_CPU, hidden=(8,), batches=(1, 32), tf32_hidden=(8,), tf32_batches=(32,))
        plan = replace(plan, rounds=3, run_seconds=1e-3, side=64, mebibytes=1, deformed=((8, 5),))
        report = a_report(gpu=False)
        report["data"] |= {"train": 300, "test": 60, "features": 36}
        lists = ("times", "memory", "deforming", "ingredients", "not_timed", "cut", "problems")
        report |= {name: [] for name in lists} | {"limits": {}}
        save = partial(saved.append, 1)
        gpu_check.measure_machine(Local(team.machine), plan, Deadline(60), report)
        gpu_check.measure(team, plan, "cpu", report, Deadline(60), save)
        assert problems(report) == []
        assert [line.split(":")[0] for line in report["not_timed"]] == [
            "ours, tf32",
            "ours, squared error, tf32",
        ]
        assert {row["contender"] for row in report["checks"]} == {
            "ours",
            "ours, squared error",
            "cpu",
            "cupy",
        }
        timed = {(row["batch"], row["contender"]) for row in report["times"]}
        assert (ANSWERS, "ours") in timed
        assert (32, "cupy") in timed
        assert (1, "ours, squared error") in timed
        assert set(report["limits"]) == {"copy", "numpy float32"}
        assert saved
        (sentence,) = which_pays(report)
        assert sentence.startswith("With 8 hidden units ")
        assert "## Training 36-8-10 in float32" in markdown(report)
        assert "\n| 36-8-5-10 | 100 | " in markdown(report)


class InThisProcess(Worker):
    """What is started at once, in this process."""

    def __init__(self, name, make, *arguments):
        self.name, self.alive = name, True
        self.made = partial(make, *arguments)

    def start(self, method, *arguments):
        call = Future()
        try:
            self.object = getattr(self, "object", None) or self.made()
            call.set_result(getattr(self.object, method)(*arguments))
        except Exception as error:
            call.set_exception(error)
        return call

    def kill(self):
        self.alive = False


class Hasty(Prepared):
    """Learns a little more than it should with momentum, and is never ready with Adam."""

    def check(self, work, dtype):
        return [
            a * (1 + 1e-6 * (work.ingredient == "momentum")) for a in super().check(work, dtype)
        ]

    def prepare(self, work):
        if work.ingredient == "adam":
            raise RuntimeError("CUDA graphs are unknown")
        super().prepare(work)


class TestIngredients:
    """The section on ingredients, measured in this process."""

    CELLS = (((8,), 32, ("momentum", "adam")), ((8, 8), 64, ("momentum",)))

    @pytest.fixture
    def team(self, mnist, monkeypatch):
        monkeypatch.setattr("scripts.racing.Worker", InThisProcess)
        kinds = ON_GPU | {"jax": ON_GPU[OURS], "torch graph": ON_GPU[OURS]}
        monkeypatch.setattr(gpu_ingredients, "ON_GPU", kinds)
        without = ["torch.compile", "cpu"]
        return Ingredients(mnist, "cpu", 0, without, works_of(self.CELLS, 300))

    @pytest.fixture
    def report(self):
        lists = ("ingredients", "ingredient_checks", "not_timed", "cut", "problems")
        return (
            a_report()
            | {name: [] for name in lists}
            | {"data": a_report()["data"] | {"features": 36}}
        )

    def test_are_compared_then_timed(self, team, report):
        assert team.names == [OURS, "torch graph", "jax"]
        team.prepare()
        team.settle(0, 0)
        saved = []
        team.measure(report, 2, 0.0, Deadline(60), partial(saved.append, 1))
        assert report["problems"] == report["not_timed"] == report["cut"] == []
        assert saved
        names = [(tuple(r["hidden"]), r["batch"], r["ingredient"]) for r in report["ingredients"]]
        assert names == [((8,), 32, "momentum"), ((8,), 32, "adam"), ((8, 8), 64, "momentum")]
        for row in report["ingredients"]:
            assert set(row["times"]) == set(row["times_ours"]) == {OURS, "torch graph", "jax"}
            assert len(row["times"][OURS]["runs"]) == 2
            assert row["times_ours"][OURS] == 1.0
            assert row["samples"] == 288 if row["batch"] == 32 else 256
        dtypes = [row["dtype"] for row in report["ingredient_checks"] if row["contender"] == OURS]
        assert dtypes == ["float64", "float32"] * 3
        assert "### 36-8-8-10, batch size 64, 256 samples" in markdown(report)

    def test_who_differs_or_fails_is_not_timed(self, team, report):
        team._workers["jax"].made = partial(Hasty, *team._objects["jax"][1:])
        team.prepare()
        team.settle(0, 0)
        team.measure(report, 1, 0.0, Deadline(60), lambda: None)
        assert [OURS in row["times"] for row in report["ingredients"]] == [True] * 3
        assert ["jax" in row["times"] for row in report["ingredients"]] == [False] * 3
        first, second, third = report["not_timed"]
        assert "jax: does not compute the same in float64: differs by " in first
        assert first.endswith(" in 32/32/momentum (8/32/momentum)")
        assert second == "jax: CUDA graphs are unknown (8/32/adam)"
        assert third.endswith(" in 32-32/32/momentum (8-8/64/momentum)")
        assert report["problems"] == []  # it is not this trainer

    def test_what_was_not_prepared_in_time_is_cut(self, team, report):
        team.prepare()
        late = [call for call in team._calls if call[0] == "jax" and call[1] == "prepare"]
        team._calls |= {call: Future() for call in late[1:]}  # which nobody begins
        team.settle(0, 0)
        team.measure(report, 1, 0.0, Deadline(60), lambda: None)
        assert ["jax" in row["times"] for row in report["ingredients"]] == [True, False, False]
        assert report["cut"] == ["jax: not prepared in the time: 8/32/adam, 8-8/64/momentum"]
        assert report["not_timed"] == []

    def test_what_hangs_ends_with_its_process(self, team, report):
        team.prepare()
        hangs = [call for call in team._calls if call[:2] == ("jax", "prepare")][-1]
        team._calls[hangs] = Future()
        team._calls[hangs].set_running_or_notify_cancel()
        team.settle(0, 0)
        assert not team._workers["jax"].alive
        team.measure(report, 1, 0.0, Deadline(60), lambda: None)
        assert report["cut"] == ["jax: not prepared in the time: 8-8/64/momentum"]
        # what it had prepared, a new process prepares again
        assert ["jax" in row["times"] for row in report["ingredients"]] == [True, True, False]

    def test_begins_nothing_after_the_time(self, team, report):
        team.prepare()
        team.settle(0, 0)
        team.measure(report, 3, 0.0, Deadline(0), lambda: None)
        assert report["ingredients"] == []
        assert report["cut"] == [f"{work.name}: 0 of 3 rounds" for work in team.works]

    def test_ours_must_compute_the_same(self, team, report):
        team._workers[OURS].made = partial(Hasty, *team._objects[OURS][1:])
        team.prepare()
        team.settle(0, 0)
        team.measure(report, 1, 0.0, Deadline(0), lambda: None)
        assert len(report["problems"]) == 3

    def test_all_ingredients_are_measured(self):
        names = {name for *_, ingredients in FULL.ingredients for name in ingredients}
        assert names == set(INGREDIENTS) - {"adam+dropout+clip+averaging"}
        works = works_of(FULL.ingredients, 60_000)
        assert len({work.name for work in works}) == len(works)
        for hidden in ((200,), (256,), (2500, 2000, 1500, 1000, 500)):
            found = {work.ingredient for work in works if work.hidden == hidden}
            assert found >= {"sgd", "momentum", "nesterov", "adam", "adamw"}

    @pytest.mark.parametrize(
        "name",
        ["torch graph", pytest.param("torch.compile graph", marks=pytest.mark.thorough), "jax"],
    )
    def test_others_compute_what_the_textbook_does(self, mnist, name):
        pytest.importorskip("optax" if name == "jax" else "torch")
        if "compile" in name and not shutil.which("g++"):
            pytest.skip("there is no C++ compiler")
        contenders = [Prepared(one, mnist, "cpu", 0) for one in (name, REFERENCE)]
        for ingredient in ["all"] if "compile" in name else ["sgd", "adam", "all"]:
            work = Work.of((8, 8), 32, ingredient, 300).checked()
            found, wanted = (one.check(work, "float64") for one in contenders)
            data = {"features": 36, "classes": 10}
            row = gpu_ingredients.compare(found, wanted, data, work, "float64", name)
            assert row["difference"] <= row["tolerance"]
            assert contenders[0].seconds(Work.of((8,), 32, ingredient, 300)) > 0

    def test_a_graph_forgets_the_steps_before_its_capture(self, mnist, monkeypatch):
        pytest.importorskip("torch")
        data, replayed = load(mnist), ingredient_peers.replayed

        def captured(torch, device, optimizer, row, step):
            for _ in range(3):  # as on a GPU
                replayed(torch, device, optimizer, row, step)()
            return replayed(torch, device, optimizer, row, step)

        monkeypatch.setattr(ingredient_peers, "replayed", captured)
        for ingredient in ("momentum", "nesterov", "adam", "all"):
            work = Work.of((8,), 32, ingredient, 300).checked()
            found = ON_GPU["torch graph"](data).check(work)
            wanted = ingredient_peers.Reference(data).check(work)
            row = {"features": 36, "classes": 10}
            row = gpu_ingredients.compare(found, wanted, row, work, "float64", "torch graph")
            assert row["difference"] <= row["tolerance"]


class TestWorker:
    def test_says_what_went_wrong_and_ends_what_hangs(self):
        worker = Worker("clock", import_module, "time")
        assert worker.call("sleep", 0.0, seconds=60.0) is None
        with pytest.raises(PeerError, match=r"clock: ValueError: time data .* does not match"):
            worker.call("strptime", "x", "%Y", seconds=60.0)
        with pytest.raises(PeerError, match="clock: no answer within 0 s"):
            worker.call("sleep", 60.0, seconds=0.2)
        assert not worker.alive
        with pytest.raises(PeerError, match="the process has ended"):
            worker.call("sleep", 0.0)


TESTS = {"exit_code": 0, "cut": False, "passed": 0, "failed": 0, "skipped": 0, "tail": ""}
TESTS |= {"failures": [], "ended": False}


def a_report(gpu=True):
    """One that has everything."""
    runs = [0.001, 0.002, 0.003]
    times = []
    for name in ("ours", "cpu", "torch", "ours, tf32"):
        for batch in (1, 128, ANSWERS):
            row = {"hidden": 200, "batch": batch, "precision": CONTENDERS[name].precision}
            row |= {"contender": name, "samples": 1000, "times_ours": 1.5}
            times.append(row | {"first": summary(runs), "second": summary(runs)})
    case = {"operation": "sgd", "number": 1, "case": "sgd, 3-2", "array": "W1", "problem": ""}
    case |= {"difference": 1e-11, "bit_for_bit": True}
    kernels = [
        case | {"dtype": dtype, "tolerance": tolerance}
        for dtype, tolerance in (("float64", 1e-9), ("float32", 1e-3))
    ]
    kernels.append(kernels[1] | {"difference": None})
    epochs = [{"accuracy": 0.97, "seconds": 1.0}]
    machine = {
        "device": "NVIDIA H200",
        "versions": {"numpy": "2"},
        "cpu": {"name": "c", "cores": 2},
    }
    machine |= {"system": "Linux", "python": "3.12", "date": "today", "load": [0.1, None]}
    machine |= {"compute_capability": "9.0", "memory_total": 2**37, "memory_free": 2**36}
    machine |= {"driver": "13.0", "cuda": "13.0", "nvidia_smi": ["580"], "multiprocessors": 132}
    return {
        "gpu": gpu,
        "machine": machine,
        "data": {"name": "mnist", "train": 60_000, "test": 10_000, "features": 784, "classes": 10},
        "seconds": 400.0,
        "allowed_seconds": 480.0,
        "tests": TESTS | {"passed": 1, "ended": True},
        "kernels": {"seed": 5, "cases": 1, "problems": [], "rows": kernels},
        "training": {
            "device": "gpu",
            "other": "cpu",
            "problems": [],
            "exact": {"samples": 2000, "relative": 1e-13, "allowed": 1e-9},
            "twice": [{"samples": 9, "batch": 1, "same": True}],
            "epochs": {"cpu": epochs, "gpu": epochs},
            "common_epochs": 1,
            "apart": 0.0,
            "allowed": 0.002,
        },
        "limits": {"copy": summary([4000.0]), "cupy float32": summary([5e4])},
        "launch": {"elementwise, host": 5e-6, "empty kernel in a graph, done": 1e-6},
        "checks": [
            {"contender": "ours", "hidden": 200, "batch": 1, "difference": 1e-5}
            | {"tolerance": 1e-3, "other_answers": 0.0}
        ],
        "times": times,
        "ingredient_checks": [
            {"contender": "jax", "name": f"32/32/{name}", "dtype": "float64"}
            | {"difference": difference, "tolerance": 1e-9}
            for name, difference in (("adam", 1e-15), ("clip", 2e-15))
        ],
        "ingredients": [
            {"hidden": [256], "batch": 128, "ingredient": name, "samples": 59_904}
            | {"times": {OURS: summary([ours]), "torch graph": summary([4e-5, 6e-5, 5e-5])}}
            | {"times_ours": {OURS: 1.0, "torch graph": 2.5}}
            for name, ours in (("momentum", 2e-5), ("adam", 3e-5))
        ],
        "memory": [{"hidden": 200, "batch": 1, "mib": 99.0}],
        "deforming": [
            {"sizes": [784, 800, 10], "batch": 100, "plain": [3e-5], "deformed": [4e-5]},
        ],
        "pays": ["With 200 hidden units …"],
        "not_timed": ["jax: No module named 'jax'"],
        "cut": ["batch size 8192"],
        "problems": [],
    }


class TestReport:
    def test_says_everything(self):
        text = markdown(a_report())
        assert text.startswith("# NVIDIA H200, checked and measured\n")
        for part in (
            "132 multiprocessors",
            "`--seed 5`",
            "| sgd against base.py, float64 | 1 case | 1.0e-11 (case 1, W1) | 1e-09 |",
            "Not compared in float32, where a rectifier came too near to 0: 1.",
            "made: 1 test, 1 kernel case, 3 training checks, 1 contender, 2 ingredients.**",
            "| copy, bytes read and written | 4,000 | 4,000 … 4,000 | GB/s |",
            "Not measured, for want of PyTorch: tf32, bfloat16.",
            "## Training 784-200-10 in float32",
            "## Training 784-200-10 in tf32",
            "| rashid | 128 | 120,000 | 60,000 … 180,000 |",
            "### 784-256-10, batch size 128, 59,904 samples",
            # 4 launches of a µs each are more than the products' and the bytes' time
            "| momentum | 4.00 | launches | 20.0 (20.0 … 20.0), 20% | 50.0 (40.0 … 60.0), 8%, ",
            "| adam | 4.00 | launches | 30.0 (30.0 … 30.0), 13% | 50.0 (40.0 … 60.0), 8%, × 2.50 |",
            "| jax | float64 | 2 | 2.0e-15 | 32/32/clip | 1e-09 |",
            "| 128 | × 1.50 | × 1.50 |",
            "## Answering 10,000 images",
            "| 784-800-10 | 100 | 30.0 | 40.0 | 25.0% |",
            "- jax: No module named 'jax'",
            "- batch size 8192",
        ):
            assert part in text
        assert problems(a_report()) == []

    def test_on_a_cpu_its_first_line_says_so(self):
        assert markdown(a_report(gpu=False)).startswith("# No GPU measurement: ")

    def test_says_what_failed(self):
        report = a_report()
        report["tests"] = TESTS | {"cut": True}
        report["kernels"]["problems"] = ["case 3: W1 differs by 1e-2"]
        report["problems"] = ["ours: does not compute the same"]
        assert len(problems(report)) == 3
        assert "**What failed:**\n\n- ours: does not compute the same\n" in markdown(report)

    def test_needs_none_of_its_parts(self):
        report = a_report() | dict.fromkeys(("tests", "kernels", "training"))
        report |= {"limits": {}, "launch": {}, "times": [], "deforming": [], "checks": []}
        report |= {"ingredients": [], "ingredient_checks": []}
        assert "**Nothing was checked.**" in markdown(report)

    def test_file_names_are_plain(self):
        assert slug("NVIDIA GeForce RTX 4090 (Laptop)") == "nvidia-geforce-rtx-4090-laptop"


class TestCommand:
    @pytest.mark.parametrize(
        "mistake", ["x", "x y --seconds 0", "x y --skip all", "x y --device tpu", "x y --nonsense"]
    )
    def test_a_mistake_is_one_line(self, capsys, mistake):
        with pytest.raises(SystemExit) as ended:
            gpu_check.main(mistake.split())
        assert ended.value.code == 2
        message = capsys.readouterr().err
        assert message.startswith("error: ")
        assert message.count("\n") == 1

    def test_no_data_is_one_line(self, capsys, tmp_path):
        assert gpu_check.main([str(tmp_path / "none"), str(tmp_path / "out")]) == 2
        assert capsys.readouterr().err.count("\n") == 1

    def test_needs_no_tools_of_development(self):
        code = (
            "import sys\n"
            "for name in 'cyclopts platformdirs array_api_strict pytest cupy torch jax'.split():\n"
            "    sys.modules[name] = None\n"
            "import scripts.gpu_check, benchmarks.gpu_peers"
        )
        subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=60)

    def test_runs_all_of_its_code_on_the_cpu(self, mnist, tmp_path):
        command = [sys.executable, SCRIPT, mnist, "--out", str(tmp_path), "--quick"]
        command += ["--device", "cpu", "--seconds", "4", "--skip", "tests,torch,jax", "--seed", "1"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
        assert (tmp_path / "gpu-cpu.md").read_text().startswith("# No GPU measurement: ")
        report = json.loads((tmp_path / "gpu-cpu.json").read_text())
        assert report["data"]["train"] == 300
        assert "torch: skipped, as asked" in report["cut"]

    def test_without_a_gpu_the_last_line_says_so(self, mnist, tmp_path):
        command = [sys.executable, SCRIPT, mnist, str(tmp_path), "--seconds", "6"]
        command += ["--skip", "tests,kernels,training,measuring,ingredients,torch,jax"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert done.returncode == 1
        *_, last = done.stdout.splitlines()
        assert last.startswith("no GPU: ")
        assert "what was checked on the CPU: " in last
        assert list(tmp_path.iterdir()) == []

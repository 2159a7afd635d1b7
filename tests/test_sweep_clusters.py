"""Sweeps on Dask and Ray: what is typed, what is lost with a worker, and real local clusters."""

from __future__ import annotations

import csv
import os
import signal
import sys
import threading
from collections import Counter
from concurrent.futures import BrokenExecutor, CancelledError, Future, ThreadPoolExecutor
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from backends.kernels.cpu.workers import core_count
from tests.test_cli_sweep import ended_by_ctrl_c, is_gone
from trainer import load
from trainer.cli import main
from trainer.recipes import RECIPES
from trainer.running.usage import UsageError
from trainer.sweep import Cluster, Plan, Workers, clusters, opened, sweep

FAST = ["sweep", "--data", "digits", "--device", "cpu", "--limit", "100", "--hidden", "5"]
ROOT = str(Path(__file__).parents[1])
PACKAGES = {"dask": "distributed", "ray": "ray"}


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", ROOT)  # workers are new processes, which must find all this


# --- what is typed --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--cluster", "flower"], ["--cluster flower: expected dask or ray", "ray://HOST:PORT"]),
        (["--cluster", "tcp://host"], ["--cluster tcp://host: expected", "tcp://HOST:PORT"]),
        (["--cluster", "http://host:80"], ["--cluster http://host:80: expected"]),
        (["--cluster", "dask", "--device", "gpu"], ["--device gpu", "expected --device cpu"]),
    ],
)
def test_a_mistake_is_one_line_and_starts_nothing(options, expected, capsys):
    assert main(["sweep", "--data", "digits", *options]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert all(words in error for words in expected), error
    assert not Path("sweeps").exists()


@pytest.mark.parametrize("cluster", ["dask", "tcp://127.0.0.1:8786", "ray", "auto"])
def test_without_the_package_it_is_said_what_to_type(cluster, monkeypatch, capsys):
    package = "ray" if cluster in ("ray", "auto") else "dask"
    monkeypatch.setitem(sys.modules, package, None)
    assert main([*FAST, "--epochs", "1", "--cluster", cluster]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "is not installed" in error
    assert f'python -m pip install "xptrainer[{package}]"' in error
    assert f"go on: python -m trainer sweep --resume sweeps/s1 --cluster {cluster}" in error
    assert main(["sweep", "--resume", "sweeps/s1", "--jobs", "1"]) == 0


# --- what is in flight ----------------------------------------------------------------------


class Threads(Cluster):
    """Two threads, of which some lose what they do."""

    name = "thread"
    lost = (CancelledError,)
    broken = (MemoryError,)

    def __init__(self, most=None):
        super().__init__(most, 1)
        self.pool, self.shared, self.in_flight = ThreadPoolExecutor(2), 0, 0

    def workers(self):
        return 2

    def share(self, arrays):
        self.shared += 1
        return arrays

    def submit(self, function, *args) -> Future:
        return self.pool.submit(function, *args)

    def close(self):
        self.pool.shutdown()


def test_what_is_lost_is_begun_again_and_nothing_else():
    begun: Counter[int] = Counter()

    def run(number, array):
        begun[number] += 1
        if number in (2, 5) and begun[number] < 3:
            raise CancelledError
        return number + array

    cluster = Threads()
    outcomes = list(cluster.train(run, [(n,) for n in range(8)], [np.float64(0.5)]))
    assert sorted(outcomes) == [n + 0.5 for n in range(8)]
    assert begun == {n: 3 if n in (2, 5) else 1 for n in range(8)}
    assert cluster.shared == 5  # the data may have been lost with each


@pytest.mark.parametrize(("error", "times"), [(CancelledError, 4), (MemoryError, 1)])
def test_what_is_lost_again_and_again_ends_the_sweep(error, times):
    begun = []

    def run(number):
        begun.append(number)
        raise error

    with pytest.raises(BrokenExecutor):
        list(Threads().train(run, [(0,)], []))
    assert len(begun) == times


@pytest.mark.parametrize("most", [None, 1])
def test_a_call_is_asked_for_when_a_worker_is_free_and_the_outcomes_are_taken(most):
    taken: list[int] = []

    def calls():
        for number in range(6):
            assert number - len(taken) < (most or 2)
            yield (number,)

    for outcome in Threads(most).train(lambda number: number, calls(), []):
        taken.append(outcome)
    assert sorted(taken) == list(range(6))


def test_a_mistake_of_the_programs_is_not_tried_again():
    with pytest.raises(ZeroDivisionError):
        list(Threads().train(lambda n: 1 // n, [(0,)], []))


def test_a_worker_with_other_versions_is_refused():
    for there, words in [
        (("0.0", "3.9"), "has xptrainer 0.0 on Python 3.9, and this machine xptrainer"),
        (ModuleNotFoundError("No module named 'trainer'"), "cannot import this program"),
    ]:
        with pytest.raises(UsageError, match=words):
            Threads()._compare(there)
    Threads()._compare(clusters._versions())
    assert eval(clusters._ASKED) == clusters._versions()
    with pytest.raises(clusters._OtherVersions):
        clusters._checked(("0.0", "3.9"), print)


def test_a_run_has_the_threads_of_its_worker_and_the_process_for_itself(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    inside = threading.Lock()

    def run():
        assert inside.acquire(blocking=False)
        count = core_count()
        inside.release()
        return count

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(lambda _: clusters._alone(1, run), range(8))) == {1}
    assert os.environ["OMP_NUM_THREADS"] == "7"
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert clusters._alone(1, core_count) == 1
    assert "OMP_NUM_THREADS" not in os.environ


# --- real clusters of two processes ---------------------------------------------------------

on_both = pytest.mark.parametrize(
    "kind",
    [
        pytest.param(
            kind,
            marks=[
                pytest.mark.thorough,
                pytest.mark.skipif(
                    find_spec(package) is None,
                    reason=f"not installed: python -m pip install '.[{kind}]'",
                ),
            ],
        )
        for kind, package in PACKAGES.items()
    ],
)


def _note_and_die(folder, number, times, array):
    """Leave a file for every attempt; die in the first ones."""
    attempt = len(list(Path(folder).glob(f"{number}-*")))
    Path(folder, f"{number}-{attempt}").touch()
    if attempt < times:
        os.kill(os.getpid(), signal.SIGKILL)
    return number, float(array.sum()), core_count()


@on_both
def test_a_cluster_trains_what_this_process_trains(kind):
    data = load("digits")
    plan = Plan(
        RECIPES["digits"], {"epochs": 2, "hidden": (10,)}, {"learning_rate": (0.1, 0.3)}, (0, 1)
    )
    trials = list(plan.trials())
    desired = list(sweep(plan, trials, data, workers=Workers(1, 1)))
    before = dict(os.environ)
    with opened(kind, 2, 1) as cluster:
        assert (cluster.slots(), cluster.name.lower()) == (2, kind)
        found = list(sweep(plan, trials, data, workers=Workers(2, 1), cluster=cluster))
    assert os.environ == before
    found.sort(key=lambda outcome: trials.index(next(t for t in trials if t.key == outcome.key)))
    assert [replace(o, seconds=0) for o in found] == [replace(o, seconds=0) for o in desired]


@on_both
def test_a_killed_worker_loses_one_run_which_is_done_again(kind, tmp_path, capfd):
    calls = [(str(tmp_path), number, int(number in (1, 4))) for number in range(6)]
    with opened(kind, 2, 1) as cluster:
        found = list(cluster.train(_note_and_die, calls, [np.ones(1_000_000)]))
    assert sorted(found) == [(number, 1e6, 1) for number in range(6)]
    attempts = Counter(path.name[0] for path in tmp_path.iterdir())
    assert attempts["1"] == attempts["4"] == 2
    assert all(attempts[str(number)] <= 2 for number in range(6))
    assert sum(attempts.values()) <= 6 + 2 + 2  # an outcome may be lost on its way from a worker
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")


@on_both
def test_a_run_that_kills_its_workers_ends_the_sweep(kind, tmp_path):
    with opened(kind, 2, 1) as cluster, pytest.raises(BrokenExecutor):
        list(cluster.train(_note_and_die, [(str(tmp_path), 0, 99)], [np.ones(10)]))
    # Dask may also send a run again whose data were lost with its worker
    assert 4 <= len(list(tmp_path.iterdir())) <= 6


@on_both
def test_ctrl_c_leaves_a_folder_that_can_be_resumed(kind, capsys):
    options = ["--epochs", "4000", "--learning-rate", "0.1:1.2:0.1", "--out", "s"]
    command = [*FAST, *options, "--cluster", kind]
    group, out, err = ended_by_ctrl_c(command, r" *2/12 ", timeout=120)
    assert err == ""
    with open("s/sweep.csv", newline="") as file:
        done = list(csv.DictReader(file))
    assert 2 <= len(done) < 12
    assert f"stopped by Ctrl-C after {len(done)} of 12 runs" in out
    assert f"go on:   python -m trainer sweep --resume s --cluster {kind}" in out
    assert is_gone(group)

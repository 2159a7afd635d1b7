"""What processes agree on, with threads in their place."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

import pytest

from backends import BackendUnavailable
from trainer.cli import main
from trainer.parallel import FAILED, Process, RanksError, join, launched, launched_index, process
from trainer.parallel.process import own_cores

from .threads import ThreadRanks, together


class _Communicator:
    def __init__(self, ranks: ThreadRanks) -> None:
        self.index, self.count, self.gather = ranks.index, ranks.count, ranks.gather
        self.closed = False

    def close(self) -> None:
        self.closed = True


def each(count: int, work: Callable[[Process], Any], monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Call a function as each of several processes; what ends one is its result."""
    monkeypatch.setattr(process, "limit_cores", lambda cores: None)
    monkeypatch.setattr(process.atexit, "register", lambda function: None)
    monkeypatch.setattr(process.signal, "signal", lambda number, handler: None)

    def run(ranks: ThreadRanks) -> Any:
        one = Process(_Communicator(ranks))  # type: ignore[arg-type]
        try:
            return (work(one),)
        except (Exception, SystemExit) as error:
            return (error,)  # in a tuple, not to be raised again
        finally:
            one._finalize()
            assert one._communicator is not None
            ended.append((one.index, one._communicator.closed))  # type: ignore[attr-defined]

    ended: list[tuple[int, bool]] = []
    results = [result for (result,) in together(count, run)]
    work.__dict__["ended"] = [closed for _, closed in sorted(ended)]
    return results


@pytest.mark.parametrize(
    ("environment", "count", "index"),
    [
        ({}, 1, 0),
        ({"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "3"}, 4, 3),
        ({"PMI_SIZE": "2", "PMI_RANK": "1"}, 2, 1),
        ({"SLURM_STEP_NUM_TASKS": "8", "SLURM_PROCID": "5"}, 8, 5),
        ({"SLURM_NTASKS": "8", "SLURM_PROCID": "0"}, 1, 0),  # a batch script outside of srun
        ({"PMI_SIZE": "many"}, 1, 0),
    ],
)
def test_launchers_are_known(environment: dict[str, str], count: int, index: int) -> None:
    assert launched(environment) == count
    assert launched_index(environment) == index


def test_alone_nothing_is_asked() -> None:
    alone = join()
    with alone.together(ValueError):
        pass
    with pytest.raises(ValueError, match="mine"), alone.together(ValueError):
        raise ValueError("mine")
    alone.check_same(data=1)
    assert (alone.count, alone.is_first, alone.vote(0), alone.vote(15)) == (1, True, 0, 15)
    assert alone.gather("a") == ["a"]


def test_the_first_process_goes_before_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[int] = []

    def work(one: Process) -> None:
        with one.together(ValueError):
            order.append(one.index)
        one.finished()

    assert each(3, work, monkeypatch) == [None] * 3
    assert order[0] == 0
    assert sorted(order) == [0, 1, 2]
    assert work.ended == [True] * 3  # type: ignore[attr-defined]


@pytest.mark.parametrize("who", [0, 2])
def test_a_mistake_of_one_ends_all_in_one_line(who: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def work(one: Process) -> None:
        with one.together(ValueError):
            if one.index == who:
                raise ValueError("no such file")

    first, *others = each(3, work, monkeypatch)
    assert isinstance(first, ValueError if who == 0 else RanksError)
    assert "no such file" in str(first)
    assert ("process 2 of 3, on " in str(first)) == (who == 2)
    assert [error.code for error in others] == [2, 2]
    assert work.ended == [True] * 3  # type: ignore[attr-defined]


def test_an_unexpected_error_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def work(one: Process) -> None:
        with one.together(ValueError):
            raise KeyError("fault")

    def alone(one: Process) -> None:
        if one.is_first:
            work(one)

    first, *_ = each(2, alone, monkeypatch)
    assert isinstance(first, KeyError)
    assert not alone.ended[0]  # type: ignore[attr-defined]


def test_what_differs_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def work(one: Process) -> None:
        one.check_same(settings={"epochs": 5}, data=7 + (one.index == 1))

    first, other = each(2, work, monkeypatch)
    assert "process 1 of 2" in str(first)
    assert "has another data than process 0, 8 instead of 7; start all with the same" in str(first)
    assert other.code == 2


def test_votes_are_the_largest(monkeypatch: pytest.MonkeyPatch) -> None:
    def work(one: Process) -> list[int]:
        return [one.vote(0), one.vote(signal.SIGTERM if one.index == 1 else 0)]

    assert each(2, work, monkeypatch) == [[0, signal.SIGTERM]] * 2
    assert work.ended == [True] * 2  # type: ignore[attr-defined]


def test_a_failure_between_two_votes_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def work(one: Process) -> int:
        if one.is_first:
            with one.until_vote():
                raise OSError("disk full")
        return one.vote(0)

    first, other = each(2, work, monkeypatch)
    assert isinstance(first, OSError)
    assert other == FAILED
    assert work.ended == [True] * 2  # type: ignore[attr-defined]


def test_cores_are_divided_among_those_that_share_them() -> None:
    assert [own_cores(index, [range(8)] * 3) for index in range(3)] == [2, 2, 2]
    assert [own_cores(index, [[0, 1], [2, 3, 4]]) for index in range(2)] == [2, 3]
    assert own_cores(0, [[0]] * 4) == 1


def test_each_process_takes_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "describe_gpus", lambda: [{}, {}])

    def work(one: Process) -> list[str]:
        return [one.device(name) for name in ("auto", "gpu", "cuda", "gpu:0", "cpu")]

    assert each(3, work, monkeypatch) == [
        ["gpu:0", "gpu:0", "gpu:0", "gpu:0", "cpu"],
        ["gpu:1", "gpu:1", "gpu:1", "gpu:0", "cpu"],
        ["gpu:0", "gpu:0", "gpu:0", "gpu:0", "cpu"],
    ]

    def none() -> list[Any]:
        raise BackendUnavailable("no driver")

    monkeypatch.setattr(process, "describe_gpus", none)
    assert each(2, work, monkeypatch) == [["cpu", "gpu", "cuda", "gpu:0", "cpu"]] * 2


# --- the command line under a launcher, without MPI ---------------------------------------------


def test_other_commands_are_refused(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PMI_SIZE", "2")
    assert main(["evaluate", "runs/r1"]) == 2
    assert "mpirun has started 2: start it without mpirun" in capfd.readouterr().err
    monkeypatch.setenv("PMI_RANK", "1")
    assert main(["evaluate", "runs/r1"]) == 0  # so that the first is not ended before it has told
    assert capfd.readouterr().err == ""


def test_without_mpi4py_there_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PMI_SIZE", "2")
    monkeypatch.setitem(__import__("sys").modules, "mpi4py", None)
    monkeypatch.delitem(__import__("sys").modules, "trainer.parallel.mpi", raising=False)
    assert main(["train", "--data", "digits", "--batch-size", "8"]) == 2
    told = capfd.readouterr().err
    assert told.count("error:") == 1
    assert 'pip install "xptrainer[mpi]"' in told.replace("\n", " ")


def test_a_page_is_for_one_process(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PMI_SIZE", "2")
    assert main(["train", "--watch"]) == 2
    assert "--watch: not with several processes" in capfd.readouterr().err

"""One process of a training: alone, or a rank of MPI, and what ranks agree on."""

from __future__ import annotations

import atexit
import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from backends import Backend, BackendUnavailable, describe_gpus, limit_cores
from backends.ranks import ALONE, Ranks

if TYPE_CHECKING:
    from .mpi import Communicator

# what launchers set: how many processes there are, and the number of this one
_LAUNCHERS = (
    ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),  # Open MPI
    ("PMI_SIZE", "PMI_RANK"),  # MPICH, Intel MPI
    ("SLURM_STEP_NUM_TASKS", "SLURM_PROCID"),  # srun
)
ENDED, FAILED = 1000, 1001  # votes above all numbers of signals


class RanksError(RuntimeError):
    """A training by several processes cannot begin; one line with what to do."""


class RankLost(RuntimeError):
    """Another process of the training has ended; what was waited for will not come."""


def launched(environment: Mapping[str, str] = os.environ) -> int:
    """Return how many processes a launcher of MPI has started, this one among them."""
    for count, _ in _LAUNCHERS:
        if environment.get(count, "").isdecimal():
            return int(environment[count])
    return 1


def launched_index(environment: Mapping[str, str] = os.environ) -> int:
    """Return the number of this process among the launched ones."""
    for _, index in _LAUNCHERS:
        if environment.get(index, "").isdecimal():
            return int(environment[index])
    return 0


def join() -> Process:
    """Return this process of a training, having found the others that a launcher has started.

    Raises
    ------
    RanksError
        If there are others, and mpi4py or a library of MPI is not there.
    """
    if launched() == 1:
        return Process()
    try:
        from .mpi import Communicator

        communicator = Communicator()
    except Exception as error:  # of many kinds: no package, no library, one that does not start
        why = " ".join(str(error).split())
        raise RanksError(
            f"{launched()} processes were started together, and MPI does not answer here ({why});"
            ' install it: pip install "xptrainer[mpi]", or start one process, without mpirun'
        ) from error
    if communicator.count == 1:
        raise RanksError(
            f"{launched()} processes were started together, and mpi4py knows of one: it was built"
            " for another MPI than this mpirun's; install both together: pip install"
            ' "xptrainer[mpi]"'
        )
    return Process(communicator)


def _ended(number: int, frame: Any) -> None:
    raise RankLost(
        "ended by mpirun before the training began: another process has ended, or it was stopped"
    )


def own_cores(index: int, allowed: Sequence[Sequence[int]]) -> int:
    """Return how many cores a process may keep busy, of the numbers of those each may run on."""
    mine = set(allowed[index])
    sharing = sum(bool(mine & set(others)) for others in allowed)
    return max(1, len(mine) // sharing)


class Process:
    """This process of a training.

    Attributes
    ----------
    index, count : int
        Its number, from 0, and how many there are.
    local_index : int
        Its number among those of its host.
    stopped : callable
        Returns the number of a signal that asked for an end, or 0.
    agreed : bool
        Whether the others know that it is to end.
    """

    def __init__(self, communicator: Communicator | None = None) -> None:
        self._communicator = communicator
        self.index, self.count, self.local_index = 0, 1, 0
        self.stopped: Callable[[], int] = lambda: 0
        self.agreed = False
        self._processes: list[tuple[str, int]] = []  # host and number of each
        if communicator is not None:
            self.index, self.count = communicator.index, communicator.count
            communicator.is_lost = self._is_lost
            signal.signal(signal.SIGTERM, _ended)  # until the training hears signals itself
            atexit.register(self._finalize)
            self._divide_cores()

    @property
    def is_first(self) -> bool:
        """Return whether this is the process that writes and prints."""
        return self.index == 0

    def _divide_cores(self) -> None:
        """Leave to each process of a host its part of the cores that several may use."""
        host, cores = socket.gethostname(), sorted(os.sched_getaffinity(0))
        said = [json.loads(t) for t in self.gather(json.dumps([host, os.getpid(), cores]))]
        self._processes = [(where, number) for where, number, _ in said]
        here = [rank for rank, (where, _) in enumerate(self._processes) if where == host]
        self.local_index = here.index(self.index)
        limit_cores(own_cores(self.local_index, [said[rank][2] for rank in here]))

    def device(self, device: str) -> str:
        """Return the device that this process takes of those asked for: a GPU of its own if any."""
        if self.count == 1 or device not in ("auto", "gpu", "cuda"):
            return device
        try:
            gpus = len(describe_gpus())
        except BackendUnavailable:
            return "cpu" if device == "auto" else device
        return f"gpu:{self.local_index % gpus}"

    def ranks(self, backend: Backend) -> Ranks:
        """Return what `fit` takes as `ranks`, for arrays of a backend."""
        if self._communicator is None:
            return ALONE
        from .mpi import MpiRanks

        return MpiRanks(self._communicator, backend)

    def gather(self, text: str) -> list[str]:
        """Return what every process has given, in their order."""
        return [text] if self._communicator is None else self._communicator.gather(text)

    # --- what all do, and how all end -------------------------------------------------------

    @contextmanager
    def together(self, *errors: type[Exception]) -> Iterator[None]:
        """Run what all processes do: the first one, then the others.

        If it ends one by such an error, it ends all: the first raises the error, or a RanksError
        with another's; the others exit.
        """
        if self.count == 1:
            yield
            return
        if not self.is_first:
            self._end_if_failed(self.gather(""))
        mine = ""
        try:
            yield
        except errors as error:
            mine = str(error) or type(error).__name__
            if self.is_first:
                self.gather(mine)
                self.agreed = True
                raise
        if self.is_first:
            self.gather("")
        self._end_if_failed(self.gather(mine))

    def _end_if_failed(self, said: list[str]) -> None:
        failed = [rank for rank, message in enumerate(said) if message]
        if failed:
            self.agreed = True
            if self.is_first:
                raise RanksError(f"{self._name(failed[0])}: {said[failed[0]]}")
            sys.exit(2)

    def check_same(self, **facts: Any) -> None:
        """Raise RanksError, on the first process, unless all have the same; the others exit."""
        all_facts = [json.loads(text) for text in self.gather(json.dumps(facts))]
        for rank, others in enumerate(all_facts):
            for name, value in all_facts[0].items():
                if others[name] != value:
                    self.agreed = True
                    if not self.is_first:
                        sys.exit(2)
                    raise RanksError(
                        f"{self._name(rank)} has another {name.replace('_', ' ')} than process 0,"
                        f" {others[name]} instead of {value}; start all with the same"
                    )

    def _name(self, rank: int) -> str:
        return f"process {rank} of {self.count}, on {self._processes[rank][0]},"

    def vote(self, wanted: int) -> int:
        """Return the largest of what all processes want: 0 to go on, or why to end."""
        if self._communicator is None:
            return wanted
        taken = max(map(int, self.gather(str(wanted))))
        self.agreed = taken > 0
        return taken

    @contextmanager
    def until_vote(self) -> Iterator[None]:
        """Run what a process does by itself before the next vote; if it fails, all will end."""
        try:
            yield
        except BaseException:
            self.vote(FAILED)
            raise

    def finished(self) -> None:
        """Note that all have come to the end."""
        self.agreed = True

    def _finalize(self) -> None:
        """End MPI, which waits for all; where they do not know, mpirun ends them."""
        if self.agreed and self._communicator is not None:
            self._communicator.close()

    def tells(self) -> bool:
        """Return whether it is this process that is to report a loss: no one before it is left."""
        host = self._processes[self.index][0] if self._processes else ""
        for where, number in self._processes[: self.index]:
            if where != host:
                return False
            try:
                os.kill(number, 0)
            except ProcessLookupError:
                continue
            except PermissionError:
                pass
            return False
        return True

    def _is_lost(self, seconds: float) -> bool:
        """Return whether what has been waited for so long will not come.

        Where a process dies, mpirun ends the others by SIGTERM, and a second later by force; after
        a signal from somebody else all agree to end.
        """
        return bool(self.stopped()) and seconds > 0.5

"""Ranks of MPI, by mpi4py: nothing is pickled, and every wait can be interrupted."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import mpi4py
import numpy as np

from backends import Backend
from backends.functions import Array

from .process import RankLost

mpi4py.rc.finalize = False  # which would wait for ranks that have ended
from mpi4py import MPI  # noqa: E402

_BUSY = 0.002  # seconds that a wait watches all the time, before it lets others have the core


class Communicator:
    """All ranks.

    Attributes
    ----------
    index, count : int
    is_lost : callable
        Asked, in a wait of so many seconds, whether what is waited for will not come.
    """

    def __init__(self) -> None:
        self._comm = MPI.COMM_WORLD
        self.index, self.count = self._comm.Get_rank(), self._comm.Get_size()
        self.is_lost: Callable[[float], bool] = lambda seconds: False

    def gather(self, text: str) -> list[str]:
        """Return the texts of all ranks."""
        content = np.frombuffer(text.encode(), np.uint8)
        lengths = np.zeros(self.count, np.int64)
        lengths[self.index] = len(content)
        self.wait(self._comm.Iallreduce(MPI.IN_PLACE, lengths))
        everything = np.empty(lengths.sum(), np.uint8)
        starts = [0, *np.cumsum(lengths)[:-1].tolist()]
        counts = lengths.tolist()
        self.wait(self._comm.Iallgatherv(content, [everything, counts, starts, MPI.BYTE]))
        return [
            everything[start : start + count].tobytes().decode()
            for start, count in zip(starts, counts, strict=True)
        ]

    def sum(self, buffer: np.ndarray) -> np.ndarray:
        """Sum a host array, shape (n,), over all ranks, always with the same bits.

        MPI's own sums depend on which ranks come first. Here each rank adds one part, in the order
        of the ranks, and gives it to all: the bytes that every rank sends are as many.
        """
        size = -(-len(buffer) // self.count)
        parts = np.zeros((self.count, size), buffer.dtype)
        parts.reshape(-1)[: len(buffer)] = buffer
        of_all = np.empty_like(parts)
        self.wait(self._comm.Ialltoall(parts, of_all))
        total = of_all[0]
        for other in of_all[1:]:
            total += other
        self.wait(self._comm.Iallgather(total, parts))
        return parts.reshape(-1)[: len(buffer)]

    def close(self) -> None:
        """End MPI."""
        MPI.Finalize()

    def wait(self, request: Any) -> None:
        """Wait for a collective operation; raise RankLost if it will not end.

        MPI's own wait hears no signal, and keeps a core from those that are waited for.
        """
        begun = time.perf_counter()
        while not request.Test():
            seconds = time.perf_counter() - begun
            if seconds > _BUSY:
                time.sleep(5e-5)
                if self.is_lost(seconds):
                    raise RankLost("another process of this training has ended")
            elif seconds > _BUSY / 20:
                os.sched_yield()


class MpiRanks:
    """The ranks, for arrays of one backend; see `backends.ranks.Ranks`."""

    def __init__(self, communicator: Communicator, backend: Backend) -> None:
        self.index, self.count = communicator.index, communicator.count
        self._communicator, self._backend = communicator, backend
        self._device_sum = backend.device_sum(self.index, communicator.gather)

    def sum(self, arrays: Sequence[Array]) -> list[Array]:
        if not arrays:
            return []
        if self._device_sum is not None:
            return self._device_sum(arrays)
        # one buffer, as every message costs some time of its own
        summed = self._communicator.sum(self._backend.fused(arrays))
        return self._backend.split(summed, arrays)

    def gather(self, text: str) -> list[str]:
        return self._communicator.gather(text)

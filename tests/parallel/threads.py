"""Ranks that are threads of this process, so that what they compute is tested without MPI."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np


class ThreadRanks:
    """One of several threads that learn together."""

    def __init__(self, index: int, barrier: threading.Barrier, given: list[Any]) -> None:
        self.index, self.count = index, barrier.parties
        self._barrier, self._given = barrier, given

    def _exchange(self, what: Any) -> list[Any]:
        self._given[self.index] = what
        self._barrier.wait(60)
        all_given = list(self._given)
        self._barrier.wait(60)
        return all_given

    def sum(self, arrays: Any) -> list[Any]:
        copies = [np.array(a) for a in arrays]
        return [np.asarray(sum(parts)) for parts in zip(*self._exchange(copies), strict=True)]

    def gather(self, text: str) -> list[str]:
        return self._exchange(text)


def together(count: int, work: Callable[[ThreadRanks], Any]) -> list[Any]:
    """Call a function as each of several ranks; return what each has returned."""
    barrier = threading.Barrier(count)
    given: list[Any] = [None] * count
    results: list[Any] = [None] * count

    def run(index: int) -> None:
        try:
            results[index] = work(ThreadRanks(index, barrier, given))
        except BaseException as error:
            results[index] = error
            barrier.abort()

    threads = [threading.Thread(target=run, args=(index,)) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    failed = [r for r in results if isinstance(r, BaseException)]
    others = [r for r in failed if not isinstance(r, threading.BrokenBarrierError)]
    for error in others or failed:
        raise error
    return results

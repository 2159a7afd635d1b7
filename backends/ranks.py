"""One training by several processes, the ranks: which samples of each batch are whose.

Every rank has all weights and a part of every batch. What a batch needs of all its samples, its
mean gradients and the moments of batch normalisation, is summed over the ranks; all then make the
same step. `ALONE` is a process that has every batch whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from .functions import Array


class Ranks(Protocol):
    """The processes of a training, as one of them sees them.

    Attributes
    ----------
    index, count : int
        This process's number, from 0, and how many there are.
    """

    index: int
    count: int

    def sum(self, arrays: Sequence[Array]) -> list[Array]:
        """Return sums of device arrays over all ranks, the same bits on each.

        Every rank calls it with as many arrays of the same shapes, in the same sequence of calls.
        """

    def gather(self, text: str) -> list[str]:
        """Return what every rank has given, in their order."""


class _Alone:
    index, count = 0, 1

    def sum(self, arrays: Sequence[Array]) -> list[Array]:
        return list(arrays)

    def gather(self, text: str) -> list[str]:
        return [text]


ALONE: Ranks = _Alone()


@dataclass(frozen=True)
class Share:
    """Which samples of an epoch's batches a rank has: of each batch a run of its own.

    Of a batch of B samples rank r of R has those from number r⌈B/R⌉ on, at most ⌈B/R⌉ of them; of a
    last batch with fewer samples those of these that it has, perhaps none. Samples are counted in
    two ways: by their place in the epoch, and among the rank's own.
    """

    ranks: Ranks = ALONE
    batch_size: int = 1

    @property
    def first(self) -> int:
        """Return the number within a whole batch of the rank's first sample."""
        a_rank = -(-self.batch_size // self.ranks.count)
        return min(self.ranks.index * a_rank, self.batch_size)

    @property
    def size(self) -> int:
        """Return how many samples of a whole batch the rank has."""
        a_rank = -(-self.batch_size // self.ranks.count)
        return min(a_rank, self.batch_size - self.first)

    @property
    def leaves_idle(self) -> bool:
        """Return whether some rank has no sample of a whole batch."""
        count = self.ranks.count
        return (count - 1) * -(-self.batch_size // count) >= self.batch_size

    def whole(self, number: int, total: int) -> int:
        """Return how many samples all ranks have of batch number 0, 1, … of `total` samples."""
        return min(self.batch_size, total - number * self.batch_size)

    def own(self, place: int) -> int:
        """Return how many of the first `place` samples of an epoch are the rank's."""
        batches, rest = divmod(place, self.batch_size)
        return batches * self.size + min(max(rest - self.first, 0), self.size)

    def place(self, own: int, n: int) -> int:
        """Return after which place of an epoch of n the rank has had so many, whole batches."""
        if not self.size or own >= self.own(n):
            return n
        return own // self.size * self.batch_size

    def runs(self, first: int, stop: int) -> Iterator[tuple[int, int]]:
        """Yield the places of the rank's samples first to stop - 1, as (first, stop) of runs."""
        if self.ranks.count == 1:
            yield first, stop
            return
        while first < stop:
            batch, within = divmod(first, self.size)
            length = min(self.size - within, stop - first)
            at = batch * self.batch_size + self.first + within
            yield at, at + length
            first += length

    def part(self, xp: Any, a: Array, first: int, stop: int) -> Array:
        """Return the rank's rows among those of places first to stop - 1, of an array of all."""
        if self.ranks.count == 1:
            return a[first:stop, ...]
        runs = self.runs(self.own(first), self.own(stop))
        return xp.concat([a[:0, ...], *(a[slice(*run), ...] for run in runs)])

    def together(self, xp: Any, own: Array, first: int, stop: int) -> Array:
        """Return the rows of places first to stop - 1, of which every rank has its own."""
        if self.ranks.count == 1:
            return own
        rows, done = xp.zeros((stop - first, *own.shape[1:]), dtype=own.dtype), 0
        for start, end in self.runs(self.own(first), self.own(stop)):
            rows[start - first : end - first, ...] = own[done : done + end - start, ...]
            done += end - start
        return self.ranks.sum([rows])[0]

    def order(self, order: Any, n: int) -> Any:
        """Return what of an epoch's order of n samples is the rank's; None means 0, 1, 2, …."""
        if self.ranks.count == 1:
            return order
        places = np.arange(n)
        within = places % self.batch_size
        places = places[(within >= self.first) & (within < self.first + self.size)]
        return places if order is None else order[places]


WHOLE = Share()

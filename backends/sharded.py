"""Samples in shards on the disk, larger than memory: mapped where and while they are read."""

from __future__ import annotations

import errno
import mmap
import os
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

_WINDOW_BYTES = 64 * 2**20  # of the samples that are shuffled at a time, where nothing is said
_BLOCK = 4096  # samples that are mapped and copied at a time
_MOST_AT_ONCE = 2**30  # bytes; more are never made an array of
_PROBES, _PROBE_BYTES = 32, 4096  # of a file, that its checksum is of


class Shard(Protocol):
    """A file of samples.

    Attributes
    ----------
    path : Path
    shape : tuple of int
        (n, features).
    """

    path: Path
    shape: tuple[int, int]

    def copy(self, rows: np.ndarray, out: np.ndarray, places: np.ndarray) -> None:
        """Copy samples, by their numbers in ascending order, to these places of an array."""


class MappedShard:
    """Samples that lie in a file row after row.

    It is open, and a part of it mapped, only while that is copied. So any number of shards needs
    one file descriptor, and none of their pages count as the process's memory.

    Parameters
    ----------
    path : Path
    shape : tuple of int
        (n, features).
    dtype : dtype
        As stored.
    offset : int
        Bytes before the first sample.
    """

    def __init__(self, path: Path, shape: tuple[int, int], dtype: Any, offset: int) -> None:
        self.path, self.shape, self.dtype = path, shape, np.dtype(dtype)
        self._offset, self._row = offset, shape[1] * self.dtype.itemsize

    def copy(self, rows: np.ndarray, out: np.ndarray, places: np.ndarray) -> None:
        """See `Shard.copy`."""
        with open(self.path, "rb") as file:
            if hasattr(os, "posix_fadvise"):  # in long reads, before the pages are asked for
                first, last = (self._offset + int(row) * self._row for row in (rows[0], rows[-1]))
                size = last + self._row - first
                os.posix_fadvise(file.fileno(), first, size, os.POSIX_FADV_WILLNEED)
            for start in range(0, len(rows), _BLOCK):
                block = slice(start, start + _BLOCK)
                low = int(rows[start])
                mapped = self._map(file.fileno(), low, int(rows[block][-1]) + 1)
                # the view must not outlive this, or the pages would stay
                out[places[block]] = mapped.take(rows[block] - low, axis=0)
                del mapped

    def _map(self, handle: int, low: int, high: int) -> np.ndarray:
        first, end = (self._offset + row * self._row for row in (low, high))
        # looked at each time: to read what lies beyond the end of a mapped file ends the process
        if os.fstat(handle).st_size < end:
            why = "has become shorter since it was first read; put back what it was"
            raise OSError(errno.EIO, why, os.fspath(self.path))
        start = first - first % mmap.ALLOCATIONGRANULARITY
        pages = mmap.mmap(handle, end - start, access=mmap.ACCESS_READ, offset=start)
        shape = high - low, self.shape[1]
        return np.frombuffer(pages, self.dtype, shape[0] * shape[1], first - start).reshape(shape)


class ShardedRows:
    """Samples by rows in shards; slicing, ``rows[first:stop]``, gives samples of the same kind.

    A slice with a step, or an array of numbers, gives an array of these samples. ``rows[a:b, :]``
    is the same as ``rows[a:b]``.

    Parameters
    ----------
    shards : sequence of Shard
        As many features in each.
    dtype : dtype
        uint8 or float32: what samples are read as.
    rows : sequence of ndarray or range, optional
        Which samples of each shard there are, ascending; all by default.
    window : int, optional
        How many samples `order` shuffles at a time, and a feed has in memory twice; by default the
        power of two that takes 32 to 64 MiB.

    Attributes
    ----------
    shape : tuple of int
        (n, features).
    lengths : list of int
        How many samples there are of each shard.
    """

    ndim = 2

    def __init__(
        self,
        shards: Sequence[Shard],
        dtype: Any,
        rows: Sequence[Any] | None = None,
        window: int | None = None,
    ) -> None:
        self._shards, self.dtype = list(shards), np.dtype(dtype)
        self._rows = [range(shard.shape[0]) for shard in shards] if rows is None else list(rows)
        self.lengths = [len(some) for some in self._rows]
        self._ends = np.cumsum([0, *self.lengths])
        features = self._shards[0].shape[1]
        self.shape = int(self._ends[-1]), features
        fitting = max(1, _WINDOW_BYTES // (features * self.dtype.itemsize))
        self.window = window or 1 << (fitting.bit_length() - 1)

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def nbytes(self) -> int:
        """Return how much memory an array of all would take."""
        return self.shape[0] * self.shape[1] * self.dtype.itemsize

    def __repr__(self) -> str:
        n, features = self.shape
        return f"ShardedRows({n:,} × {features:,} {self.dtype} in {len(self._shards):,} shards)"

    # --- some of them ---------------------------------------------------------------------

    def __getitem__(self, key: Any) -> Any:
        rows = key[0] if isinstance(key, tuple) else key
        if isinstance(rows, slice):
            first, stop, step = rows.indices(len(self))
            if step == 1:
                return self._part(first, max(first, stop))
            rows = np.arange(first, stop, step)
        if np.ndim(rows) == 0:
            return self.take(np.array([rows]))[0]
        return self.take(np.asarray(rows))

    def _part(self, first: int, stop: int) -> ShardedRows:
        starts = self._ends[:-1].tolist()
        rows = [
            some[max(0, first - start) : max(0, stop - start)]
            for start, some in zip(starts, self._rows, strict=True)
        ]
        return ShardedRows(self._shards, self.dtype, rows, self.window)

    def keeping(self, kept: np.ndarray) -> ShardedRows:
        """Return only some of the samples, whose numbers ascend, without reading them."""
        cuts = np.searchsorted(kept, self._ends)
        rows = []
        for i, some in enumerate(self._rows):
            local = kept[cuts[i] : cuts[i + 1]] - self._ends[i]
            # four bytes each: no shard is of more
            rows.append((np.asarray(some)[local]).astype(np.uint32))
        return ShardedRows(self._shards, self.dtype, rows, self.window)

    def in_windows(self, window: int | None) -> ShardedRows:
        """Return the same samples, to shuffle so many at a time, or as many as by default."""
        return ShardedRows(self._shards, self.dtype, self._rows, window)

    # --- reading them ---------------------------------------------------------------------

    def take(self, rows: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Copy samples, each of any number, into an array, shape (len(rows), features).

        They are read in the order in which they lie on the disk.
        """
        if out is None:
            out = self._empty(len(rows))
        in_order = np.argsort(rows, kind="stable")
        ascending = np.asarray(rows)[in_order]
        if len(rows) and not 0 <= ascending[0] <= ascending[-1] < len(self):
            raise IndexError(f"samples {ascending[0]} to {ascending[-1]} of {len(self)}")
        cuts = np.searchsorted(ascending, self._ends)
        for i in np.flatnonzero(cuts[1:] > cuts[:-1]).tolist():
            part, some = slice(cuts[i], cuts[i + 1]), self._rows[i]
            local = ascending[part] - self._ends[i]
            if not isinstance(some, range):
                local = some[local]
            elif some.start:
                local += some.start
            self._shards[i].copy(local, out, in_order[part])
        return out

    def _empty(self, n: int) -> np.ndarray:
        size = n * self.shape[1] * self.dtype.itemsize
        if size > _MOST_AT_ONCE:
            raise MemoryError(
                f"{size / 2**30:.1f} GiB of shards as one array: expected a part, such as x[:1000]"
            )
        return np.empty((n, self.shape[1]), self.dtype)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        self._empty(len(self))  # or an error, before the numbers of all are written out
        taken = self.take(np.arange(len(self)))
        return taken if dtype is None else taken.astype(dtype, copy=False)

    def blocks(self) -> Iterator[np.ndarray]:
        """Read all samples, one window at a time at most."""
        for start in range(0, len(self), self.window):
            yield np.asarray(self[start : start + self.window])

    def checksum(self, crc: int = 0) -> int:
        """Return a CRC-32 of the files' names, sizes and of some 32 places in each.

        It takes no longer for larger files, and misses what changes between those places.
        """
        for shard in self._shards:
            with open(shard.path, "rb") as file:
                size = os.fstat(file.fileno()).st_size
                crc = zlib.crc32(f"{shard.path.name} {size} ".encode(), crc)
                for probe in range(_PROBES):
                    file.seek(max(0, size - _PROBE_BYTES) * probe // (_PROBES - 1))
                    crc = zlib.crc32(file.read(_PROBE_BYTES), crc)
        return crc

    # --- the order of an epoch ------------------------------------------------------------

    def order(self, rng: np.random.Generator) -> np.ndarray:
        """Draw the order of an epoch: the shards shuffled, and within windows their samples.

        The shards' samples, in a drawn order of the shards, are cut into windows of `window`
        samples, the last of which may be smaller, and each window is shuffled. So a sample stands
        less than a window from where it would without that, and whoever learns in this order reads
        each shard from its beginning to its end.

        Returns
        -------
        ndarray of uint32, or int64 if there are more, shape (n,)
        """
        n = len(self)
        order = np.empty(n, np.uint32 if n <= 2**32 else np.int64)
        at = 0
        for i in rng.permutation(len(self.lengths)).tolist():
            start, end = int(self._ends[i]), int(self._ends[i + 1])
            order[at : at + end - start] = np.arange(start, end, dtype=order.dtype)
            at += end - start
        for first in range(0, n, self.window):
            rng.shuffle(order[first : first + self.window])
        return order

    # --- what they are like ---------------------------------------------------------------

    def extremes(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the least and the largest value of each feature."""
        first = self[0]
        low, high = first, first
        for block in self.blocks():
            low = np.minimum(low, block.min(axis=0))
            high = np.maximum(high, block.max(axis=0))
        return low, high

    def mean_and_deviation(self) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and standard deviation of each feature, in float64, from one pass.

        Means and sums of squared deviations of blocks are joined as by Chan, Golub and LeVeque,
        *Updating formulae and a pairwise algorithm for computing sample variances* (1979).
        """
        count, mean, squares = 0, np.zeros(self.shape[1]), np.zeros(self.shape[1])
        for window in self.blocks():
            for start in range(0, len(window), _BLOCK):
                block = window[start : start + _BLOCK].astype(np.float64)
                of_block = block.mean(axis=0)
                block -= of_block
                apart, total = of_block - mean, count + len(block)
                squares += (block * block).sum(axis=0) + apart**2 * (count * len(block) / total)
                mean += apart * (len(block) / total)
                count = total
        return mean, np.sqrt(squares / count)

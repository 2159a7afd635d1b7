"""What a device must do besides the network's operations: hold arrays, deliver samples, draw noise.

All in plain calls of the Python array API standard, except for what begins or ends on the host.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np

from .feeding import Feed, Resident, ShardedFeed, SparseFeed
from .functions import Array
from .images import deform, smooth
from .interchange import to_host
from .noise import uniform
from .sharded import ShardedRows
from .sparse import SparseRows, is_sparse, kept_dtype

if TYPE_CHECKING:
    from .base import NetworkSpec


class BackendUnavailable(RuntimeError):
    """A device that was asked for cannot be used; the message says why and what to type."""


class Device:
    """Arrays on one device.

    Parameters
    ----------
    xp : module
        A namespace of the Python array API standard.
    name : str
        What the user calls it: "cpu", "gpu:0".
    device_name : str
        What the maker calls it.

    Attributes
    ----------
    reason : str
        Why `select("auto")` chose this device; empty where it was asked for by name.
    matmul : str
        As `select` takes it: what the factors of float32 matrix products are rounded to.
    threads : int
        Of the host that compute; with another number sums may be rounded otherwise.
    reads_sparse : bool
        Whether the network's operations take `SparseRows` as they are; else they are handed a few
        dense samples at a time.
    chunk_size : int
        Samples to compute at a time where any number would do, to limit the memory.
    """

    reason = ""
    matmul = "float32"
    threads = 1
    reads_sparse = False
    chunk_size = 4096

    def __init__(self, xp: Any, name: str, device_name: str) -> None:
        self.xp = xp
        self.name = name
        self.device_name = device_name
        self._array_type = type(xp.empty(0))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}: {self.device_name}>"

    @property
    def kind(self) -> str:
        """Return what processes must have alike to learn together."""
        return self.name.partition(":")[0]

    def make_current(self) -> None:
        """Run on this device what the calling thread does from now on."""

    def synchronize(self) -> None:
        """Wait until the device has finished all work handed to it."""

    # --- training on it -----------------------------------------------------------------

    def has_kernels(self, spec: NetworkSpec) -> bool:
        """Return whether `learn` learns such a network faster than the textbook would."""
        return False

    def warm_up_spec(self, spec: NetworkSpec, batch_size: int) -> NetworkSpec:
        """Return a network, as small as may be, for which training compiles the same kernels."""
        return spec

    def release(self) -> None:
        """Free what training keeps from call to call, which refers to the weights."""

    def numpy_between(self, spec: NetworkSpec) -> AbstractContextManager[Any]:
        """Return a context to compute in with NumPy between the network's operations."""
        return nullcontext()

    # --- arrays -------------------------------------------------------------------------

    def asarray(self, a: Any, dtype: Any = None) -> Array:
        """Move an array to the device.

        Parameters
        ----------
        a : array, frame, nested sequence of real numbers or SparseRows
            Array of any library, on the host or a GPU; any strides, byte order and writability.
            What is on the device with the right dtype already is not copied. Rows that are sparse
            become dense.
        dtype : dtype of `xp` or str, optional
            Kept if not given, but for what no device computes with: a host array's booleans
            become uint8, its float16 float32, and its extended precision float64.

        Raises
        ------
        TypeError
            If a host array's values are not real numbers.
        """
        if isinstance(dtype, str):
            dtype = getattr(self.xp, dtype)
        a = self.dense(a) if isinstance(a, SparseRows) else self.shared(a)
        if self.is_host(a):
            a = self.xp.asarray(self.host_array(a))
        return a if dtype is None else self.xp.astype(a, dtype, copy=False)

    def shared(self, a: Any) -> Any:
        """Return another library's array of this device as one of its own, all else as it is."""
        return a

    def is_host(self, a: Any) -> bool:
        """Return whether that is anything but an array of this device."""
        return isinstance(a, np.ndarray) or not isinstance(a, self._array_type)

    def host_array(self, a: Any) -> np.ndarray:
        """Return an array as one of the host, as `asarray` says: contiguous, of a dtype to keep."""
        return kept_dtype(to_host(a))

    def to_numpy(self, a: Array) -> np.ndarray:
        """Copy a device array to the host."""
        return np.array(a)

    # --- several processes ---------------------------------------------------------------

    def fused(self, arrays: Sequence[Array]) -> np.ndarray:
        """Copy arrays of one dtype, one after the other, into one of the host.

        The next call may use its memory again.
        """
        flat = self.xp.concat([self.xp.reshape(a, (-1,)) for a in arrays])
        return self.to_numpy(flat)

    def split(self, fused: Any, arrays: Sequence[Array]) -> list[Array]:
        """Return what was fused, on the device, in the shapes of arrays."""
        flat, parts, done = self.asarray(fused), [], 0
        for a in arrays:
            parts.append(self.xp.reshape(flat[done : done + a.size], a.shape))
            done += a.size
        return parts

    def device_sum(
        self, index: int, gather: Callable[[str], list[str]]
    ) -> Callable[[Sequence[Array]], list[Array]] | None:
        """Return what sums arrays over processes without the host, or None if nothing does.

        This is process number `index`; `gather` returns what each of them says.
        """
        return None

    # --- samples and random numbers -----------------------------------------------------

    def dense(self, rows: SparseRows) -> Array:
        """Return sparse samples as a dense array of the device, or of the host."""
        return rows.dense()

    def place_samples(self, a: Any) -> Array | SparseRows | ShardedRows:
        """Move samples to the device.

        Sparse ones become `SparseRows`, which are on the host; shards stay on the disk. A backend
        may also leave on the host what is too large for the device.
        """
        if isinstance(a, ShardedRows):
            return a
        if isinstance(a, SparseRows) or is_sparse(a):
            return a if isinstance(a, SparseRows) else SparseRows(a)
        return self.asarray(a)

    def part(self, values: Array | SparseRows, rows: Any) -> Array | SparseRows:
        """Return some of placed samples as the network's operations take them.

        Ask for no more at a time than `at_once` allows.
        """
        part = values[rows, :]
        return part if self.reads_sparse and isinstance(part, SparseRows) else self.asarray(part)

    def blank(self, values: Array | SparseRows) -> Array | SparseRows:
        """Return one sample of zeros, like a part of placed samples."""
        if self.reads_sparse and isinstance(values, SparseRows):
            return values.blank()
        dtype = self.asarray(values[:1, :]).dtype
        return self.xp.zeros((1, values.shape[1]), dtype=dtype)

    def at_once(self, values: Array | SparseRows, unit: int = 1) -> int:
        """Return how many placed samples a part can have, at most: a multiple of `unit` or all."""
        if isinstance(values, SparseRows) and not self.reads_sparse:
            return values.at_once(unit)
        return values.window if isinstance(values, ShardedRows) else sys.maxsize

    def chunks(self, values: Array | SparseRows) -> Iterator[slice]:
        """Split placed samples into chunks of as many as to compute at a time."""
        size = min(self.chunk_size, self.at_once(values))
        for start in range(0, values.shape[0], size):
            yield slice(start, min(start + size, values.shape[0]))

    def feed(self, values: Array | SparseRows, labels: Array, unit: int) -> Feed:
        """Prepare to deliver placed samples in any order; parts end after multiples of `unit`."""
        if isinstance(values, SparseRows):
            return SparseFeed(self, values, labels, unit)
        if isinstance(values, ShardedRows):
            return ShardedFeed(self, values, labels, unit)
        return Resident(self.xp, values, labels)

    def rng(self, seed: int | None) -> np.random.Generator:
        """Return the host generator of weights and sample order, the same on every device."""
        return np.random.default_rng(seed)

    def noise(
        self, key: tuple[int, ...], layer: int, n: int, units: int, dtype: Any, first: int = 0
    ) -> Array:
        """Draw what follows from a key, a layer and rows alone, see `noise.uniform`."""
        return uniform(self.xp, key, layer, n, units, dtype, first)

    # --- images -------------------------------------------------------------------------

    def smooth(self, fields: Array, down: Array, across: Array) -> Array:
        """See `images.smooth`."""
        return smooth(self.xp, fields, down, across)

    def deform(self, images: Array, maps: Array, fields: Array | None, background: float) -> Array:
        """See `images.deform`."""
        return deform(self.xp, images, maps, fields, background)

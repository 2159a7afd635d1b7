"""Training samples: on the device, sparse, or streamed in chunks, and handed on in batches."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from .functions import Array
from .ranks import WHOLE, Share
from .regularization import NO_REGULARIZATION, Regularization
from .sharded import ShardedRows
from .sparse import SparseRows

if TYPE_CHECKING:
    from .device import Device


@dataclass(frozen=True, eq=False)
class Batches:
    """Samples to learn in order, and how; iterating yields the batches, each as `Batches` of one.

    Attributes
    ----------
    values : device array, SparseRows or PickedRows, shape (n, sizes[0])
        Before the input map; sparse if the backend `reads_sparse`, picked if its feed picks.
    labels : device array of int, shape (n,)
    rates : sequence of float
        The learning rate of each batch's step.
    size : int
        Samples a batch; the last batch may have fewer.
    penalty : float
        λ/m: every step also follows the gradient penalty · W of the weights.
    regularization : Regularization
        Dropout and batch normalisation.
    key : tuple of int
        What the noise of dropout follows from; the last number is that of the first batch's
        update, and one more for each further batch.
    weights : device array, shape (n,), optional
        Of the samples, 0 or above, all alike by default: a batch steps by the weighted mean of its
        samples' gradients.
    share : Share
        Which samples of each batch these are, where several processes learn; `size` is then that
        of the share.
    total : int, optional
        How many samples all ranks' shares of these batches have together; n where it is not given.
    """

    values: Array | SparseRows | PickedRows
    labels: Array
    rates: Sequence[float]
    size: int = 1
    penalty: float = 0.0
    regularization: Regularization = NO_REGULARIZATION
    key: tuple[int, ...] = (0,)
    weights: Array | None = None
    share: Share = WHOLE
    total: int | None = None

    @property
    def whole(self) -> int:
        """Return how many samples there are, the other ranks' too."""
        return self.labels.shape[0] if self.total is None else self.total

    def factors(self, xp: Any) -> Array | None:
        """Return by what each sample's error is multiplied: its weight over its batch's mean."""
        if self.weights is None:
            return None
        if self.share.ranks.count > 1:  # of a single batch
            mean = self.share.ranks.sum([xp.sum(self.weights)])[0] / self.whole
            return self.weights / xp.where(mean > 0, mean, mean + 1)
        whole = self.weights.shape[0] // self.size * self.size
        parts = xp.reshape(self.weights[:whole], (-1, self.size)), self.weights[None, whole:]
        factors = []
        for weights in parts if whole < self.weights.shape[0] else parts[:1]:
            mean = xp.mean(weights, axis=1, keepdims=True)
            # where all are 0, so are the factors
            factors.append(xp.reshape(weights / xp.where(mean > 0, mean, mean + 1), (-1,)))
        return xp.concat(factors)

    def __iter__(self) -> Iterator[Batches]:
        for i, rate in enumerate(self.rates):
            total = None if self.total is None else self.share.whole(i, self.total)
            rows = slice(i * self.size, min((i + 1) * self.size, self.labels.shape[0]))
            yield replace(
                self,
                values=self.values[rows, :],
                labels=self.labels[rows],
                rates=[rate],
                key=(*self.key[:-1], self.key[-1] + i),
                weights=None if self.weights is None else self.weights[rows],
                total=total,
            )


# the weights, then what a rule keeps for them: velocities, or means and squares
States = Sequence[Sequence[Array]]


class Rule(NamedTuple):
    """How gradients change the weights.

    Attributes
    ----------
    momentum, nesterov : float, bool
        μ of `Backend.sgd_step`, and whether it steps as Nesterov's.
    betas, epsilon, decay : tuple of float, float, float
        With betas the steps are `Backend.adam_step`'s, whose decay spares the biases.
    scales_epsilon : bool
        Whether its ε is divided by √(1 - β₂ᵗ) in step t, as where ε is added to the square root of
        a mean that is not corrected yet (Kingma and Ba 2015, end of section 2; scikit-learn).
    clip : float
        Largest joint norm of a batch's gradients.
    averaging : float
        β of `move_average`, 0 without an average.
    """

    momentum: float = 0.0
    nesterov: bool = False
    betas: tuple[float, ...] = ()
    epsilon: float = 0.0
    scales_epsilon: bool = False
    decay: float = 0.0
    clip: float = inf
    averaging: float = 0.0

    def has_extras(self, batches: Batches) -> bool:
        """Return whether there is more to do than steps of plain SGD, momentum or Adam."""
        steps = self.nesterov or self.clip < inf or self.averaging > 0
        shared = batches.share.ranks.count > 1
        return steps or shared or bool(batches.regularization) or batches.weights is not None

    def move_average(self, average: Sequence[Array], learned: Sequence[Array], step: int) -> None:
        """Move the average towards what was learned in step number `step`, counted from 1.

        a ← βa + (1 - β)w, with a smaller β for the first steps, (1 + t) / (10 + t) of step t
        (Polyak and Juditsky 1992; the form is that of Tan and Le 2019, *EfficientNet*).
        """
        fraction = 1 - min(self.averaging, (1 + step) / (10 + step))
        for a, w in zip(average, learned, strict=True):
            move = w - a
            move *= fraction  # in place, to need no third array
            a += move


class Feed(Protocol):
    """What `fit` asks of samples."""

    def start(self, order: Any) -> None:
        """Begin an epoch in such an order, or in the samples' own if None.

        An order is a host array of indices, as many as the epoch is to have; some samples may be
        in it several times and others not at all.
        """

    def stop(self, first: int) -> int:
        """Return up to which sample `rows` can go at once from the first."""

    def rows(self, first: int, stop: int) -> tuple[Array | SparseRows, Array]:
        """Return the values and labels of a part of the order, on the device.

        Values are sparse only where the backend `reads_sparse`.
        """


class Resident:
    """Samples that are on the device."""

    def __init__(self, xp: Any, values: Array, labels: Array) -> None:
        self._xp, self._values, self._labels = xp, values, labels
        self._order: Array | None = None

    def start(self, order: Any) -> None:
        self._order = None if order is None else self._xp.asarray(order)

    def stop(self, first: int) -> int:
        return int((self._labels if self._order is None else self._order).shape[0])

    def rows(self, first: int, stop: int) -> tuple[Array | SparseRows, Array]:
        return self._part(self._values, first, stop), self._part(self._labels, first, stop)

    def _part(self, a: Array, first: int, stop: int) -> Array:
        """Return what is first to stop - 1 in the order of the epoch."""
        if self._order is None:
            return a[first:stop, ...]
        return self._xp.take(a, self._order[first:stop], axis=0)


class PickedRows:
    """Samples of a host array in an order of their own, which are copied where an array is needed.

    Parameters
    ----------
    values : ndarray, shape (m, features)
    rows : ndarray of int64, shape (n,)
        Which of the values the samples are.
    """

    ndim = 2

    def __init__(self, values: np.ndarray, rows: np.ndarray) -> None:
        self.values, self.rows = values, rows
        self.shape, self.dtype = (len(rows), values.shape[1]), values.dtype

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: tuple[slice, slice]) -> np.ndarray:
        return np.take(self.values, self.rows[key[0]], axis=0)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        taken = self[:, :]
        return taken if dtype is None else taken.astype(dtype, copy=False)


class PickingFeed(Resident):
    """Samples of the host for kernels that read them wherever they lie."""

    def rows(self, first: int, stop: int) -> tuple[Any, Array]:
        if self._order is None:
            return super().rows(first, stop)
        picked = PickedRows(self._values, self._order[first:stop])
        return picked, self._part(self._labels, first, stop)


class SparseFeed(Resident):
    """Samples that are sparse: parts are as `Device.part` gives them, never all dense at once."""

    def __init__(self, device: Device, values: SparseRows, labels: Array, unit: int) -> None:
        super().__init__(device.xp, values, labels)
        self._device, self._rows = device, device.at_once(values, unit)
        self._host_order: np.ndarray | None = None

    def start(self, order: Any) -> None:
        self._host_order = None if order is None else np.asarray(order)
        super().start(self._host_order)

    def stop(self, first: int) -> int:
        return min((first // self._rows + 1) * self._rows, super().stop(first))

    def rows(self, first: int, stop: int) -> tuple[Array | SparseRows, Array]:
        order = self._host_order
        rows = slice(first, stop) if order is None else order[first:stop]
        return self._device.part(self._values, rows), self._part(self._labels, first, stop)


class Chunked(Resident, ABC):
    """Samples on the host, whose next chunk is gathered, by a thread, while one is learned.

    The values are on the host, shape (n, features), and the labels on the device; a chunk has at
    most so many rows of the epoch's order, a multiple of `unit`.
    """

    def __init__(
        self, xp: Any, values: np.ndarray | ShardedRows, labels: Array, rows: int, unit: int
    ) -> None:
        super().__init__(xp, values, labels)
        # an order may be longer than the samples: then too a chunk ends where a batch does
        self._rows = unit * max(1, min(rows // unit, -(-len(values) // unit)))
        self._worker = ThreadPoolExecutor(1, "feed")
        self._host_order: np.ndarray | None = None
        self._total = len(values)
        self._coming: dict[int, Future[Any]] = {}

    def start(self, order: Any) -> None:
        for future in self._coming.values():
            future.result()
        self._coming = {}
        self._host_order = None if order is None else np.asarray(order)
        super().start(self._host_order)
        self._total = len(self._values if order is None else order)

    def stop(self, first: int) -> int:
        return min((first // self._rows + 1) * self._rows, self._total)

    def _part(self, a: Array, first: int, stop: int) -> Array:
        # the labels of shards are kept in as few bytes as they fit into
        return self._xp.astype(super()._part(a, first, stop), self._xp.int64, copy=False)

    def _arrived(self, chunk: int) -> Any:
        """Wait for a chunk; return what the worker did."""
        if chunk not in self._coming:
            self._send(chunk)
        return self._coming[chunk].result()

    def _send_next(self, chunk: int) -> None:
        if chunk + 1 not in self._coming and (chunk + 1) * self._rows < self._total:
            self._send(chunk + 1)

    def _send(self, chunk: int, *more: Any) -> None:
        """Have the worker fetch a chunk, into the buffer of the one before the last."""
        self._coming.pop(chunk - 2, None)
        self._coming[chunk] = self._worker.submit(self._fetch, chunk, *more)

    @abstractmethod
    def _fetch(self, chunk: int, *more: Any) -> Any:
        """Bring a chunk to where `rows` takes it from, by the worker."""

    def _gather(self, chunk: int, buffer: np.ndarray) -> np.ndarray:
        """Copy a chunk's samples to the beginning of a buffer, and return that part of it."""
        first = chunk * self._rows
        stop = min(first + self._rows, self._total)
        part, order = buffer[: stop - first], self._host_order
        if isinstance(self._values, ShardedRows):
            rows = np.arange(first, stop) if order is None else order[first:stop]
            self._values.take(rows, part)
        elif order is None:
            part[...] = self._values[first:stop]
        else:
            np.take(self._values, order[first:stop], axis=0, out=part)
        return part


class ShardedFeed(Chunked):
    """Samples in shards, of which two chunks are in memory.

    A chunk has as many samples as a window of the order, down to a multiple of `unit`.
    """

    def __init__(self, device: Device, values: ShardedRows, labels: Array, unit: int) -> None:
        super().__init__(device.xp, values, labels, values.window, unit)
        self._device = device
        shape = (self._rows, values.shape[1])
        self._buffers = [np.empty(shape, values.dtype) for _ in range(2)]

    def rows(self, first: int, stop: int) -> tuple[Array, Array]:
        chunk = first // self._rows
        gathered, start = self._arrived(chunk), chunk * self._rows
        self._send_next(chunk)
        values = self._device.asarray(gathered[first - start : stop - start])
        return values, self._part(self._labels, first, stop)

    def _fetch(self, chunk: int, *more: Any) -> np.ndarray:
        return self._gather(chunk, self._buffers[chunk % 2])


class Streamed(Chunked):
    """Samples on the host for another device, to which the next chunk is copied likewise.

    Each chunk is gathered in the epoch's order into pinned memory and copied on a stream of its
    own, into the one of two device buffers that is not in use. `empty_pinned` is CuPyX's.
    """

    def __init__(
        self,
        cupy: Any,
        empty_pinned: Callable[..., np.ndarray],
        device: int,
        values: np.ndarray | ShardedRows,
        labels: Array,
        rows: int,
        unit: int,
    ) -> None:
        super().__init__(cupy, values, labels, rows, unit)
        self._device = device
        shape = (self._rows, values.shape[1])
        self._pinned = [empty_pinned(shape, values.dtype) for _ in range(2)]
        self._buffers = [cupy.empty(shape, values.dtype) for _ in range(2)]
        self._stream = cupy.cuda.Stream(non_blocking=True)

    def start(self, order: Any) -> None:
        super().start(order)
        self._send(0)

    def rows(self, first: int, stop: int) -> tuple[Array, Array]:
        chunk = first // self._rows
        self._xp.cuda.get_current_stream().wait_event(self._arrived(chunk))
        self._send_next(chunk)
        start = chunk * self._rows
        values = self._buffers[chunk % 2][first - start : stop - start]
        return values, self._part(self._labels, first, stop)

    def _send(self, chunk: int, *more: Any) -> None:
        # what was launched so far may still read the buffer
        free = self._xp.cuda.Event(disable_timing=True)
        free.record(self._xp.cuda.get_current_stream())
        super()._send(chunk, free)

    def _fetch(self, chunk: int, *more: Any) -> Any:
        cupy, (free,) = self._xp, more
        with cupy.cuda.Device(self._device):
            self._stream.synchronize()  # the last copy out of the pinned memory has ended
            pinned = self._gather(chunk, self._pinned[chunk % 2])
            self._stream.wait_event(free)
            self._buffers[chunk % 2][: len(pinned)].set(pinned, stream=self._stream)
            copied = cupy.cuda.Event(disable_timing=True)
            copied.record(self._stream)
            return copied

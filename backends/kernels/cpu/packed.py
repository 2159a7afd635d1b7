"""A network's arrays as the kernels want them: rows padded with zeros to whole registers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from ...base import NetworkSpec
from ...feeding import PickedRows, States
from ...functions import Array
from ...sparse import SparseRows
from ..codes import ACTIVATION_CODES, LOSS_CODES
from . import products
from .compiling import compiled
from .lanes import REGISTER_BYTES, lane_count
from .layers import Network
from .products import BLOCK, IN_ORDER, LISTED, First, SparseInputs
from .workers import work, worker_count

# fewer cost less than the start of a thread that takes them
_SAMPLES_A_WORKER = 256
_LARGE_MATRIX = 200_000


def aligned(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Return zeros whose first number begins where a register's worth of memory does."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory = np.zeros(size + REGISTER_BYTES, np.uint8)
    start = -memory.ctypes.data % REGISTER_BYTES
    return memory[start : start + size].view(dtype).reshape(shape)


def tile_of(spec: NetworkSpec) -> tuple[int, ...]:
    """Return the tile, see `lanes`, that pads the first layer's units least."""
    lanes, units = lane_count(spec.dtype), spec.sizes[1]
    return (0,) * min(products.TILES, key=lambda count: round_up(units, count * lanes))


def round_up(n: int, step: int) -> int:
    """Return the lowest multiple of step that is not below n."""
    return -(-n // step) * step


def tile_pairs(W: Array, tiles: np.ndarray) -> Iterator[tuple[Array, np.ndarray]]:
    """Pair the columns of the first layer's matrix with the tiles, (tiles, rows, columns)."""
    features, columns = W.shape[0], tiles.shape[2]
    for j, tile in enumerate(tiles):
        part = W[:, j * columns : (j + 1) * columns]
        yield part, tile[:features, : part.shape[1]]


class Packed:
    """Arrays in another layout: pairs of an array and the view of what stands for it there."""

    def __init__(self, pairs: Sequence[tuple[Array, np.ndarray]]) -> None:
        self._pairs = pairs
        for array, packed in pairs:
            _assign(packed, array)

    def unpack(self) -> None:
        """Write the numbers back to the arrays that they came from."""
        for array, packed in self._pairs:
            _assign(array, packed)


def _assign(target: np.ndarray, source: np.ndarray) -> None:
    """Copy an array; large matrices, of which one may be transposed, on all cores."""
    if target.ndim == 2 and target.size >= _LARGE_MATRIX:
        work(_copy_squares, worker_count(), source, target)
    else:
        target[...] = source


@compiled
def _copy_squares(worker, workers, barrier, source, target):  # type: ignore[no-untyped-def]
    """Copy a matrix in squares, which are in the cache however it lies; each worker takes rows."""
    rows, columns = source.shape
    for top in range(16 * worker, rows, 16 * workers):
        bottom = min(top + 16, rows)
        for left in range(0, columns, 16):
            for j in range(left, min(left + 16, columns)):
                for i in range(top, bottom):
                    target[i, j] = source[i, j]


class FirstLayer(Packed):
    """The first layer of a network in the layout of kernels, which may have so many workers.

    W has the shape (states, tiles, rows, columns): tiles of columns, see `lanes`, lie apart, since
    cores that work on neighbouring lines of the cache hinder each other. b has (states, width),
    zeros without biases. `scale` and `shift` are the input map, a number a row of W. `first` is all
    this for a kernel, with a workspace. The lists have room for so many numbers a
    sample, see `products.collect`, 0 for as many as there are inputs.
    """

    def __init__(self, spec: NetworkSpec, states: States, workers: int, listed: int = 0) -> None:
        self.spec, self.states, self.workers = spec, states, workers
        dtype = np.dtype(spec.dtype)
        lanes = lane_count(dtype)
        features, units = spec.sizes[:2]
        self.tile = tile_of(spec)
        columns = len(self.tile) * lanes
        self.tiles = -(-units // columns)
        rows = round_up(features, lanes)
        self.width = width = self.tiles * columns
        self.scale, self.shift = aligned((rows,), dtype), aligned((rows,), dtype)
        self.scale[:features] = spec.scale
        self.shift[:features] = spec.shift
        count = len(states)
        self.W = aligned((count, self.tiles, rows, columns), dtype)
        self.b = aligned((count, width), dtype)
        pairs: list[tuple[Array, np.ndarray]] = []
        for state, W, b in zip(states, self.W, self.b, strict=True):
            pairs += tile_pairs(state[0], W)
            if spec.bias:
                pairs.append((state[1], b[:units]))
        super().__init__(pairs)
        mapping = self.scale, self.shift, np.zeros_like(self.shift)
        # lists for each worker, and for two blocks at least, since one is listed beside another
        lists = max(workers, 2)
        index = np.zeros((lists, rows), np.uint64)
        values = aligned((lists, LISTED * (listed or rows)), dtype)
        marks = np.zeros((lists, rows), np.uint8)
        u, r = aligned((BLOCK, rows), dtype), aligned((max(workers, count), width), dtype)
        self.first = First(self.tile, *mapping, self.W, self.b, u, index, values, marks, r)

    def affine(self, x: np.ndarray, z: np.ndarray) -> None:
        """Compute z = x W + b of samples as `readable` gives them; z has `width` columns."""
        work(products.affine, self._workers_for(x), self.first, x, z)

    def update(self, x: np.ndarray, d: np.ndarray, d_sum: np.ndarray) -> None:
        """Compute W += xᵀ d; d, as wide as z, has the sum d_sum."""
        work(products.update, self._workers_for(x), self.first, x, d, d_sum)

    def _workers_for(self, x: np.ndarray) -> int:
        return max(1, min(self.workers, len(x) // _SAMPLES_A_WORKER))


def readable(spec: NetworkSpec, values: Array) -> np.ndarray:
    """Return samples as the kernels read them: uint8 or the network's dtype, row after row."""
    dtype = np.uint8 if values.dtype == np.uint8 else spec.dtype
    return read_only(np.ascontiguousarray(values, dtype))


def readable_in_order(
    spec: NetworkSpec, values: Array | PickedRows
) -> tuple[np.ndarray, np.ndarray]:
    """Return samples as `readable`, and which rows of these they are, see `products.row_of`."""
    if not isinstance(values, PickedRows):
        return readable(spec, values), IN_ORDER
    stored = values.values
    if stored.dtype in (np.uint8, spec.dtype) and stored.flags.c_contiguous:
        return readable(spec, stored), np.ascontiguousarray(values.rows, np.int64)
    return readable(spec, np.asarray(values)), IN_ORDER  # rather than convert all for some


def readable_sparse(spec: NetworkSpec, values: SparseRows) -> SparseInputs:
    """Return sparse samples as the kernels read them."""
    csr = values.csr
    kinds = (csr.data, spec.dtype), (csr.indices, np.int32), (csr.indptr, np.int64)
    return SparseInputs(*(read_only(np.ascontiguousarray(a, dtype)) for a, dtype in kinds))


def most_listed(values: SparseRows) -> int:
    """Return how many numbers `products.collect_sparse` lists of a sample at most."""
    return 2 * int(np.diff(values.csr.indptr).max(initial=1))


def read_only(a: Array) -> np.ndarray:
    """View an array such that writable and read-only ones are the same kind to Numba."""
    view = a.view()
    view.flags.writeable = False
    return view


class DeeperLayers(Packed):
    """The layers after the first in a flat buffer for each state, as `layers` describes it.

    `units` counts the numbers that all layers' activations take.
    """

    def __init__(self, first: FirstLayer) -> None:
        self._spec = spec = first.spec
        lanes = lane_count(spec.dtype)
        layout, inputs, matrix = [], 0, 0
        for layer, (fan_in, fan_out) in enumerate(pairwise(spec.sizes[1:])):
            columns = round_up(fan_in, lanes)
            logits = inputs + (columns if layer else first.width)
            biases = matrix + fan_out * columns
            layout.append((fan_in, columns, fan_out, inputs, logits, matrix, biases))
            inputs, matrix = logits, biases + (round_up(fan_out, lanes) if spec.bias else 0)
        self._layout = np.array(layout, np.int64).reshape(-1, 7)
        self.units = inputs + (round_up(spec.sizes[-1], lanes) if layout else first.width)
        self.flat = [aligned((matrix,), spec.dtype) for _ in first.states]
        pairs = []
        for flat, state in zip(self.flat, first.states, strict=True):
            for (W, b), row in zip(spec.layers(state)[1:], self._layout, strict=True):
                fan_in, columns, fan_out, _, _, matrix, biases = row
                pairs.append((W, flat[matrix:biases].reshape(fan_out, columns)[:, :fan_in].T))
                if b is not None:
                    pairs.append((b, flat[biases : biases + fan_out]))
        super().__init__(pairs)

    def network(self, momentum: float, penalty: float) -> Network:
        """Return these layers for a kernel."""
        spec, W = self._spec, self.flat[0]
        T = self.flat[1] if momentum else np.zeros_like(W)
        sizes = spec.sizes[1], spec.sizes[-1]
        codes = ACTIVATION_CODES[spec.activation], LOSS_CODES[spec.loss]
        numbers = map(W.dtype.type, (spec.target_low, spec.target_high, momentum, penalty))
        return Network(self._layout, W, T, *sizes, spec.bias, *codes, *numbers)

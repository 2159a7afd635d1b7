"""A network's arrays as the kernels want them: rows padded with zeros to whole registers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from ...base import NetworkSpec
from ...functions import Array
from . import products
from .lanes import REGISTER_BYTES, lane_count
from .layers import First
from .products import BLOCK
from .workers import work

# registers a tile may take: seven and seven are the 200 units of the lessons in float32
_TILES = (8, 7)
# fewer cost less than the start of a thread that takes them
_SAMPLES_A_WORKER = 256


def aligned(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Return zeros whose first number begins where a register's worth of memory does."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory = np.zeros(size + REGISTER_BYTES, np.uint8)
    start = -memory.ctypes.data % REGISTER_BYTES
    return memory[start : start + size].view(dtype).reshape(shape)


def round_up(n: int, step: int) -> int:
    """Return the lowest multiple of step that is not below n."""
    return -(-n // step) * step


class FirstLayer:
    """The first layer of a network in the kernels' layout.

    Parameters
    ----------
    spec : NetworkSpec
    states : sequence of sequences of arrays
        The weights, W1 (and b1) first, and with momentum their velocities.
    workers : int
        How many the kernels may have.

    Attributes
    ----------
    tile : tuple of zeros
        See `lanes`.
    tiles : int
        How many a row has.
    scale, shift : array, shape (rows,)
        The input map, a number a row of W.
    W : array, shape (states, rows, width)
    b : array, shape (states, width)
        Zeros without biases.
    """

    def __init__(self, spec: NetworkSpec, states: Sequence[Sequence[Array]], workers: int) -> None:
        dtype = np.dtype(spec.dtype)
        lanes = lane_count(dtype)
        features, units = spec.sizes[:2]
        registers = min(_TILES, key=lambda count: round_up(units, count * lanes))
        self.tile, self.tiles = (0,) * registers, -(-units // (registers * lanes))
        rows, width = round_up(features, lanes), round_up(units, registers * lanes)
        self.scale, self.shift = aligned((rows,), dtype), aligned((rows,), dtype)
        self.scale[:features] = spec.scale
        self.shift[:features] = spec.shift
        self.W = aligned((len(states), rows, width), dtype)
        self.b = aligned((len(states), width), dtype)
        self._first_layers = [
            (state[0], state[1] if spec.bias else np.zeros(0, dtype)) for state in states
        ]
        for k, (W, b) in enumerate(self._first_layers):
            self.W[k, :features, :units] = W
            self.b[k, : b.size] = b
        self.workers = workers
        self.no_shift = np.zeros_like(self.shift)
        self.workspace = (
            aligned((workers, BLOCK, rows), dtype),
            np.zeros((workers, rows), np.uint32),
            aligned((workers, width), dtype),
        )

    @property
    def first(self) -> First:
        """Return the arrays, for a kernel."""
        return First(self.tile, self.scale, self.shift, self.no_shift, self.W, self.b)

    def affine(self, x: np.ndarray, z: np.ndarray) -> None:
        """Compute z = x W + b of samples as `readable` gives them; z is padded like W."""
        mapped = (self.scale, self.shift, *self.workspace)
        work(products.affine, self._workers_for(x), self.tile, x, *mapped, self.W[0], self.b[0], z)

    def update(self, x: np.ndarray, d: np.ndarray, d_sum: np.ndarray) -> None:
        """Compute W += xᵀ d, or with momentum its velocity; d, padded like W, has the sum d_sum."""
        mapped = (self.scale, self.shift, self.no_shift, *self.workspace)
        work(products.update, self._workers_for(x), self.tile, x, *mapped, d, d_sum, self.W[-1])

    def _workers_for(self, x: np.ndarray) -> int:
        return max(1, min(self.workers, len(x) // _SAMPLES_A_WORKER))

    def unpack(self) -> None:
        """Write the numbers back to the arrays that they came from."""
        for k, (W, b) in enumerate(self._first_layers):
            W[...] = self.W[k, : W.shape[0], : W.shape[1]]
            b[...] = self.b[k, : b.size]


def readable(spec: NetworkSpec, values: Array) -> np.ndarray:
    """Return samples as the kernels read them: uint8 or the network's dtype, row after row."""
    dtype = np.uint8 if values.dtype == np.uint8 else spec.dtype
    return read_only(np.ascontiguousarray(values, dtype))


def read_only(a: Array) -> np.ndarray:
    """View an array such that writable and read-only ones are the same kind to Numba."""
    view = a.view()
    view.flags.writeable = False
    return view


class DeeperLayers:
    """The layers after the first in one flat buffer, as `layers` describes it.

    Attributes
    ----------
    layout : array of int, shape (layers, 7)
        What `layers._layer` reads.
    flat : list of arrays
        The weights, and with momentum their velocities.
    units : int
        Numbers that all layers' activations take.
    """

    def __init__(self, spec: NetworkSpec, states: Sequence[Sequence[Array]], width: int) -> None:
        lanes = lane_count(spec.dtype)
        layout, inputs, matrix = [], 0, 0
        for layer, (fan_in, fan_out) in enumerate(pairwise(spec.sizes[1:])):
            columns = round_up(fan_in, lanes)
            logits = inputs + (columns if layer else width)
            biases = matrix + fan_out * columns
            layout.append((fan_in, columns, fan_out, inputs, logits, matrix, biases))
            inputs, matrix = logits, biases + (round_up(fan_out, lanes) if spec.bias else 0)
        self.layout = np.array(layout, np.int64).reshape(-1, 7)
        self.units = inputs + (round_up(spec.sizes[-1], lanes) if layout else width)
        self.flat = [aligned((matrix,), spec.dtype) for _ in states]
        self._states = [spec.layers(state)[1:] for state in states]
        for flat, layers in zip(self.flat, self._states, strict=True):
            for (W, b), (packed_W, packed_b) in zip(layers, self._views(flat), strict=True):
                packed_W[...] = W
                if b is not None:
                    packed_b[...] = b

    def _views(self, flat: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for fan_in, columns, fan_out, _, _, matrix, biases in self.layout:
            yield (
                flat[matrix:biases].reshape(fan_out, columns)[:, :fan_in].T,
                flat[biases : biases + fan_out],
            )

    def unpack(self) -> None:
        """Write the numbers back to the arrays that they came from."""
        for flat, layers in zip(self.flat, self._states, strict=True):
            for (W, b), (packed_W, packed_b) in zip(layers, self._views(flat), strict=True):
                W[...] = packed_W
                if b is not None:
                    b[...] = packed_b

"""A network's arrays as the kernels want them: rows padded with zeros to whole registers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from ...base import NetworkSpec
from ...functions import Array
from ..codes import ACTIVATION_CODES, LOSS_CODES
from . import products
from .lanes import REGISTER_BYTES, lane_count
from .layers import Network
from .products import BLOCK, First
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
    first : First
        These for a kernel, with room for what it computes.
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
        count = len(states)
        self.W, self.b = aligned((count, rows, width), dtype), aligned((count, width), dtype)
        self._first_layers = [
            (state[0], state[1] if spec.bias else np.zeros(0, dtype)) for state in states
        ]
        for k, (W, b) in enumerate(self._first_layers):
            self.W[k, :features, :units] = W
            self.b[k, : b.size] = b
        self.workers = workers
        self.first = First(
            tile=self.tile,
            scale=self.scale,
            shift=self.shift,
            no_shift=np.zeros_like(self.shift),
            W=self.W,
            b=self.b,
            # for two blocks a worker, whose u is in its own cache
            u=aligned((workers, 2, BLOCK, rows), dtype),
            mask=np.zeros((workers, 2, rows), np.uint32),
            r=aligned((max(workers, count), width), dtype),
        )

    def affine(self, x: np.ndarray, z: np.ndarray) -> None:
        """Compute z = x W + b of samples as `readable` gives them; z is padded like W."""
        work(products.affine, self._workers_for(x), self.first, x, z)

    def update(self, x: np.ndarray, d: np.ndarray, d_sum: np.ndarray) -> None:
        """Compute W += xᵀ d, or with momentum its velocity; d, padded like W, has the sum d_sum."""
        work(products.update, self._workers_for(x), self.first, x, d, d_sum)

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
        self._spec, self._layout = spec, np.array(layout, np.int64).reshape(-1, 7)
        self.units = inputs + (round_up(spec.sizes[-1], lanes) if layout else width)
        self.flat = [aligned((matrix,), spec.dtype) for _ in states]
        self._states = [spec.layers(state)[1:] for state in states]
        for array, packed in self._pairs():
            packed[...] = array

    def network(self, momentum: float, penalty: float) -> Network:
        """Return these layers for a kernel."""
        spec, real = self._spec, np.dtype(self._spec.dtype).type
        return Network(
            layout=self._layout,
            W=self.flat[0],
            T=self.flat[1] if momentum else np.zeros_like(self.flat[0]),
            units=spec.sizes[1],
            classes=spec.sizes[-1],
            bias=spec.bias,
            activation=ACTIVATION_CODES[spec.activation],
            loss=LOSS_CODES[spec.loss],
            low=real(spec.target_low),
            high=real(spec.target_high),
            momentum=real(momentum),
            penalty=real(penalty),
        )

    def _pairs(self) -> Iterator[tuple[Array, np.ndarray]]:
        """Yield each array with the view of what stands for it here."""
        for flat, layers in zip(self.flat, self._states, strict=True):
            for (W, b), layout in zip(layers, self._layout, strict=True):
                fan_in, columns, fan_out, _, _, matrix, biases = layout
                yield W, flat[matrix:biases].reshape(fan_out, columns)[:, :fan_in].T
                if b is not None:
                    yield b, flat[biases : biases + fan_out]

    def unpack(self) -> None:
        """Write the numbers back to the arrays that they came from."""
        for array, packed in self._pairs():
            array[...] = packed

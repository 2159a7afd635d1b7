"""Batch size 1 on a GPU: which variant of `online_sgd.cu` fits a network, and its launches.

A stretch of blocks is one CUDA graph; what changes from block to block and from call to call stands
in a cursor on the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from ...base import NetworkSpec
from ...feeding import Batches, Rule, States
from ...functions import Array
from ..codes import ACTIVATION_CODES, LOSS_CODES
from .launching import Kernels, captured, input_map

_WARPS = 8
_CURSOR = 10  # numbers of 8 bytes, see blocks.cuh
_STRETCH = 32  # blocks in a graph
# a graph is worth its making, about as long as the launches of two stretches, from so many blocks
_WORTH_A_GRAPH = 4 * _STRETCH
# hidden units a thread, samples a block, and output weights a thread at most: together as many
# numbers as a thread has registers for
SHAPES = {
    "float32": ((2, 64, 64), (4, 32, 64), (8, 16, 48), (16, 8, 0)),
    "float64": ((2, 32, 32), (4, 16, 32), (8, 8, 24)),
}
MOST_CLASSES = 32  # one a lane


class Variant(NamedTuple):
    """What is fixed when the kernels are compiled, and how they are launched."""

    block: int
    macros: dict[str, int]  # for `Kernels`
    columns: int
    threads: int
    first_shared: int
    shared: int
    in_shared: bool


def choose_variant(
    spec: NetworkSpec, momentum: float, multiprocessors: int, shared_limit: int
) -> Variant | None:
    """Find the variant for a network; None where none is large enough.

    A thread block can have `shared_limit` bytes of the device's shared memory.
    """
    dtype = np.dtype(spec.dtype)
    features, *sizes = spec.sizes
    hidden, classes = sizes[0], sizes[-1]
    shapes = [s for s in SHAPES[dtype.name] if hidden <= s[0] * 32 * _WARPS]
    if not shapes:
        return None
    units, block, output_weights = shapes[0]
    few_classes = classes <= MOST_CLASSES and units * classes <= output_weights
    in_registers = len(sizes) == 2 and not momentum and few_classes
    threads = 32 * -(-hidden // (32 * units))

    # the fewer columns, the more thread blocks, each of which reads every sample
    few = -(-hidden // 4) <= multiprocessors
    for columns in (4, 2, 1) if few else (8, 4, 2, 1):
        static = (2 * block + _WARPS * block + 2) * columns * dtype.itemsize
        first_shared = (2 if momentum else 1) * features * columns * dtype.itemsize
        if static + first_shared <= shared_limit:
            break
    else:
        return None

    numbers, in_shared = block * (block + 2), False
    if not in_registers:
        widest = max(sizes)
        numbers += sum(sizes) + 4 * widest + max(widest, threads)
        padded = sum((rows + spec.bias) * (width | 1) for rows, width in pairwise(sizes))
        in_shared = not momentum and (numbers + padded) * dtype.itemsize <= shared_limit
        numbers += padded if in_shared else 0
    shared = numbers * dtype.itemsize
    if shared > shared_limit:
        return None
    macros = {"BLOCK": block, "UNITS": units, "CLASSES": classes if in_registers else 0}
    macros["COLUMNS"] = columns
    return Variant(block, macros, columns, threads, first_shared, shared, in_shared)


class OnlineSteps:
    """SGD with batch size 1 on one network, as `delayed.OnlineSGD`, and its workspace.

    The kernels are `online_sgd.cu` for the variant and the dtype of the samples. The states change
    in place. The launches of a stretch of blocks are captured once in a CUDA graph and replayed.
    """

    def __init__(
        self,
        kernels: Kernels,
        variant: Variant,
        spec: NetworkSpec,
        states: States,
        batches: Batches,
        rule: Rule,
    ) -> None:
        cupy, real = kernels.cupy, np.dtype(spec.dtype).type
        self._cupy, self._kernels, self._spec, self._real = cupy, kernels, spec, real
        self._size, self._momentum, self._penalty = variant.block, rule.momentum, batches.penalty
        self._cursor = cupy.empty(_CURSOR, np.int64)
        self._deeper: list[tuple[Array, Array]] = []  # the weights' own arrays and where they lie
        rest = [self._flat(state[2 if spec.bias else 1 :]) for state in states]
        deeper, speeds = rest[0], rest[1] if rule.momentum else None
        W, b = spec.layers(states[0])[0]
        U, u = spec.layers(states[1])[0] if rule.momentum else (None, None)
        hidden, bias = spec.sizes[1], int(spec.bias)
        z, d = (cupy.empty((self._size, hidden), real) for _ in range(2))
        sizes = cupy.asarray(spec.sizes[1:], dtype=np.int32)

        # of the same arguments for every block, so that a launch costs the host little
        arguments = self._cursor, spec.sizes[0], hidden, *input_map(spec), d, W, b, U, u, z
        shape = -(-hidden // variant.columns), 32 * _WARPS
        shared = variant.first_shared
        self._first_layer = kernels.bind("first_layer", *shape, *arguments, shared=shared)
        codes = ACTIVATION_CODES[spec.activation], LOSS_CODES[spec.loss]
        numbers = spec.target_low, spec.target_high, rule.momentum, batches.penalty
        network = sizes, len(spec.sizes) - 2, *codes, bias, *map(real, numbers)
        arguments = self._cursor, *network, z, deeper, speeds, int(variant.in_shared), d
        shape, shared = (1, variant.threads), variant.shared
        self._recurrence = kernels.bind("recurrence", *shape, *arguments, shared=shared)
        self._graph: Any = None
        self._launched = 0  # blocks, in all calls
        self._capturable = True

    def learn(self, batches: Batches) -> Array:
        """Learn samples in order; return their logits before their own updates, (n, classes)."""
        cupy, spec, n = self._cupy, self._spec, batches.values.shape[0]
        blocks = -(-n // self._size)
        logits = cupy.empty((n, spec.sizes[-1]), self._real)
        if not n:
            return logits
        host = np.asarray(batches.rates, dtype=np.float64)
        rates = cupy.asarray(host, dtype=self._real)
        tables, alike = self._tables(host)
        ahead = cupy.empty((blocks, self._size, self._size), self._real)
        arrays = batches.values, batches.labels, rates, logits, ahead, tables
        self._kernels("begin", 1, 1, self._cursor, np.int64(n), *arrays, np.int64(alike))
        samples = batches.values, np.int64(n), spec.sizes[0], *input_map(spec), int(spec.bias)
        self._kernels("mixing", blocks, 256, *samples, tables, np.int64(alike), ahead)
        for own, packed in self._deeper:
            packed[...] = own
        while blocks:
            # the first is launched as it is: nothing may be loaded or set up in a capture
            worth = self._launched > 0 and self._launched + blocks >= _WORTH_A_GRAPH
            if worth and blocks >= _STRETCH and self._graph is None and self._capturable:
                self._graph = captured(cupy, self._launch_stretch)
                self._capturable = self._graph is not None
            if self._graph is not None and blocks >= _STRETCH:
                self._graph.launch()
                blocks -= _STRETCH
            else:
                self._launch_block()
                self._launched += 1
                blocks -= 1
        self._first_layer()
        for own, packed in self._deeper:
            own[...] = packed
        return logits

    def _launch_block(self) -> None:
        self._first_layer()
        self._recurrence()

    def _launch_stretch(self) -> None:
        for _ in range(_STRETCH):
            self._launch_block()

    def _tables(self, rates: np.ndarray) -> tuple[Array | None, int]:
        """Make the blocks' coefficients, on the device; blocks 0 to the number returned share one.

        There are none where every coefficient is one.
        """
        if not self._momentum and not self._penalty:
            return None, 0
        size, bias = self._size, int(self._spec.bias)
        constant = bool((rates == rates[0]).all())  # one for the whole blocks and one for the rest
        alike = max(0, len(rates) // size - 1) if constant else 0
        own = rates[alike * size :]
        count = -(-len(own) // size)
        tables = self._cupy.empty((count, 1 + bias, size + 2, size + 2), self._real)
        rule = np.float64(self._momentum), np.float64(self._penalty), bias
        arguments = self._cupy.asarray(own), np.int64(len(own)), *rule, tables
        self._kernels("coefficients", count * (1 + bias), size + 2, *arguments)
        return tables, alike

    def _flat(self, arrays: Sequence[Array]) -> Array:
        """Make memory for arrays one after the other, which `learn` copies there and back."""
        flat = self._cupy.empty(max(1, sum(a.size for a in arrays)), self._real)
        start = 0
        for a in arrays:
            self._deeper.append((a, flat[start : start + a.size].reshape(a.shape)))
            start += a.size
        return flat

"""Batch size 1 on a GPU: which variant of `online_sgd.cu` fits a network, and its launches."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from ...base import NetworkSpec
from ...feeding import Batches, States
from ...functions import Array
from ..codes import ACTIVATION_CODES, LOSS_CODES
from ..coefficients import coefficient_tables
from .launching import NULL, Kernels, input_map

_WARPS = 8
# hidden units a thread, samples a block, and output weights a thread at most: together as many
# numbers as a thread has registers for
SHAPES = {
    "float32": ((2, 64, 64), (4, 32, 64), (8, 16, 48), (16, 8, 0)),
    "float64": ((2, 32, 32), (4, 16, 32), (8, 8, 32)),
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

    numbers, in_shared = block * block, False
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


def learn(
    kernels: Kernels,
    variant: Variant,
    spec: NetworkSpec,
    states: States,
    batches: Batches,
    momentum: float,
) -> Array:
    """Learn samples one by one, as `delayed.OnlineSGD`, and change the states in place.

    The kernels are `online_sgd.cu` for the variant and the dtype of the values. Return each
    sample's logits before its own update, shape (n, classes).
    """
    cupy, real = kernels.cupy, np.dtype(spec.dtype).type
    values, labels, penalty = batches.values, batches.labels, batches.penalty
    n, features = values.shape
    size, hidden = variant.block, spec.sizes[1]
    W, b = spec.layers(states[0])[0]
    U, u = spec.layers(states[1])[0] if momentum else (None, None)
    rest = [state[2 if spec.bias else 1 :] for state in states]
    flat = [_flat(cupy, spec, arrays) for arrays in rest]
    deeper, speeds = flat[0], flat[1] if momentum else None
    tables, stride = _tables(cupy, spec, batches, size, momentum)
    sizes = cupy.asarray(spec.sizes[1:], dtype=np.int32)
    rates = cupy.asarray(batches.rates, dtype=real)
    ahead = cupy.empty((len(tables), size, size), real)
    z, d = cupy.empty((size, hidden), real), cupy.empty((size, hidden), real)
    logits = cupy.empty((n, spec.sizes[-1]), real)
    mapping, bias = input_map(spec), int(spec.bias)
    for low, high in ((0, n // size), (n // size, len(tables))):  # the last block has its own table
        if low < high:
            part = values[low * size :], np.int64(n - low * size), features, *mapping, bias
            coefficients = tables[low], np.int64(stride)
            kernels("mixing", high - low, 256, *part, *coefficients, ahead[low])

    # what changes from block to block comes first, so that a launch costs the host little
    arguments = values, features, hidden, *mapping, d, W, b, U, u, z
    shape = -(-hidden // variant.columns), 32 * _WARPS
    first_layer = kernels.bind("first_layer", *shape, *arguments, shared=variant.first_shared)
    codes = ACTIVATION_CODES[spec.activation], LOSS_CODES[spec.loss]
    numbers = map(real, (spec.target_low, spec.target_high, momentum, penalty))
    network = sizes, len(spec.sizes) - 2, *codes, bias, *numbers
    arrays = rates, labels, z, ahead, deeper, speeds, int(variant.in_shared), d, logits
    shape = 1, variant.threads
    recurrence = kernels.bind("recurrence", *shape, *network, *arrays, shared=variant.shared)
    before, of_before = 0, NULL
    for block, of in enumerate(tables):
        start = block * size
        count = min(size, n - start)
        first_layer(np.int64(start - before), np.int32(before), np.int32(count), of_before, of)
        recurrence(np.int64(start), np.int32(count))
        before, of_before = count, of
    first_layer(np.int64(n - before), np.int32(before), np.int32(0), of_before, NULL)
    for packed, unpacked in zip(flat, rest, strict=True):
        _unpack(packed, unpacked)
    return logits


def _tables(
    cupy: Any, spec: NetworkSpec, batches: Batches, size: int, momentum: float
) -> tuple[list[Array], int]:
    """Return every block's coefficients, null where all are one, and how far apart they lie."""
    host, penalty = np.asarray(batches.rates), batches.penalty
    whole, blocks = len(host) // size, -(-len(host) // size)
    if not momentum and not penalty:
        return [NULL] * blocks, 0
    constant = bool((host == host[0]).all())
    if constant:  # one table for the whole blocks, one for what is left
        host = host[max(0, whole - 1) * size :]
    tables = cupy.asarray(coefficient_tables(host, size, momentum, penalty, spec.dtype))
    if constant:
        return [tables[0]] * whole + [tables[-1]] * (blocks - whole), 0
    return [tables[block] for block in range(blocks)], tables[0].size


def _flat(cupy: Any, spec: NetworkSpec, arrays: Sequence[Array]) -> Array:
    parts = [a.ravel() for a in arrays]
    return cupy.concatenate(parts) if parts else cupy.zeros(1, spec.dtype)


def _unpack(flat: Array, arrays: Sequence[Array]) -> None:
    start = 0
    for a in arrays:
        a[...] = flat[start : start + a.size].reshape(a.shape)
        start += a.size

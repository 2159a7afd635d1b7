"""Batch size 1 on a GPU: which variant of `online_sgd.cu` fits a network, and its launches."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from ...base import NetworkSpec
from ...feeding import Batches
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

    units: int
    block: int
    classes: int
    columns: int
    threads: int
    first_shared: int
    shared: int
    in_shared: bool


def choose_variant(
    spec: NetworkSpec, momentum: float, multiprocessors: int, shared_limit: int
) -> Variant | None:
    """Find the variant for a network; None where none is large enough.

    Parameters
    ----------
    spec : NetworkSpec
    momentum : float
    multiprocessors : int
        Of the device.
    shared_limit : int
        Bytes of shared memory that a thread block can have on it.
    """
    dtype = np.dtype(spec.dtype)
    features, *sizes = spec.sizes
    hidden, classes = sizes[0], sizes[-1]
    shapes = [s for s in SHAPES[dtype.name] if hidden <= s[0] * 32 * _WARPS]
    if not shapes:
        return None
    units, block, output_weights = shapes[0]
    in_registers = (
        len(sizes) == 2
        and not momentum
        and classes <= MOST_CLASSES
        and units * classes <= output_weights
    )
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
    own_classes = classes if in_registers else 0
    return Variant(units, block, own_classes, columns, threads, first_shared, shared, in_shared)


def learn(
    cupy: Any,
    kernels: Kernels,
    variant: Variant,
    spec: NetworkSpec,
    weights: Sequence[Array],
    velocities: Sequence[Array],
    batches: Batches,
    momentum: float,
) -> Array:
    """Learn samples one by one, as `delayed.OnlineSGD`.

    Parameters
    ----------
    cupy : module
    kernels : Kernels
        `online_sgd.cu`, compiled for the variant and the dtype of the values.
    variant : Variant

    The others are those of `Backend.sgd`.

    Returns
    -------
    array, shape (n, classes)
        Each sample's logits before its own update.
    """
    real = np.dtype(spec.dtype).type
    values, labels, rates = batches.values, batches.labels, batches.rates
    n, features = values.shape
    size, hidden, classes = variant.block, spec.sizes[1], spec.sizes[-1]
    first = 2 if spec.bias else 1
    W, b, U, u = weights[0], weights[1] if spec.bias else None, None, None
    if momentum:
        U, u = velocities[0], velocities[1] if spec.bias else None
    deeper = _flat(cupy, spec, weights[first:])
    speeds = _flat(cupy, spec, velocities[first:]) if momentum else None
    table = _Table(cupy, spec, rates, size, momentum, batches.penalty)
    sizes = cupy.asarray(spec.sizes[1:], dtype=np.int32)
    device_rates = cupy.asarray(rates, dtype=real)
    blocks = -(-n // size)
    ahead = cupy.empty((blocks, size, size), real)
    z, d = cupy.empty((size, hidden), real), cupy.empty((size, hidden), real)
    logits = cupy.empty((n, classes), real)
    for low, high in ((0, n // size), (n // size, blocks)):  # the last block has its own table
        if low < high:
            kernels(
                "mixing",
                high - low,
                256,
                values[low * size :],
                np.int64(n - low * size),
                features,
                *input_map(spec),
                int(spec.bias),
                table.of(low),
                np.int64(table.stride),
                ahead[low],
            )

    # what changes from block to block comes first, so that a launch costs the host little
    first_layer = kernels.bind(
        "first_layer",
        -(-hidden // variant.columns),
        32 * _WARPS,
        *(values, features, hidden, *input_map(spec), d, W, b, U, u, z),
        shared=variant.first_shared,
    )
    recurrence = kernels.bind(
        "recurrence",
        1,
        variant.threads,
        sizes,
        len(spec.sizes) - 2,
        ACTIVATION_CODES[spec.activation],
        LOSS_CODES[spec.loss],
        int(spec.bias),
        *map(real, (spec.target_low, spec.target_high, momentum, batches.penalty)),
        *(device_rates, labels, z, ahead, deeper, speeds, int(variant.in_shared), d, logits),
        shared=variant.shared,
    )
    before, of_before = 0, NULL
    for block in range(blocks):
        start = block * size
        count, of = min(size, n - start), table.of(block)
        first_layer(np.int64(start - before), np.int32(before), np.int32(count), of_before, of)
        recurrence(np.int64(start), np.int32(count))
        before, of_before = count, of
    first_layer(np.int64(n - before), np.int32(before), np.int32(0), of_before, NULL)
    _unpack(deeper, weights[first:])
    if momentum:
        _unpack(speeds, velocities[first:])
    return logits


class _Table:
    """The coefficients of every block, on the device; none where all are one."""

    def __init__(
        self,
        cupy: Any,
        spec: NetworkSpec,
        rates: Sequence[float],
        size: int,
        momentum: float,
        penalty: float,
    ) -> None:
        self._tables = None
        self.stride = 0
        if not momentum and not penalty:
            return
        host = np.asarray(rates)
        self._whole = len(host) // size
        self._constant_rate = bool((host == host[0]).all())
        if self._constant_rate:  # one table for the whole blocks, one for what is left
            host = host[max(0, self._whole - 1) * size :]
        tables = coefficient_tables(host, size, momentum, penalty, spec.dtype)
        self._tables = cupy.asarray(tables)
        if not self._constant_rate:
            self.stride = self._tables[0].size

    def of(self, block: int) -> Array:
        if self._tables is None:
            return NULL
        if self._constant_rate:
            block = int(block >= self._whole and self._whole > 0)
        return self._tables[block]


def _flat(cupy: Any, spec: NetworkSpec, arrays: Sequence[Array]) -> Array:
    parts = [a.ravel() for a in arrays]
    return cupy.concatenate(parts) if parts else cupy.zeros(1, spec.dtype)


def _unpack(flat: Array, arrays: Sequence[Array]) -> None:
    start = 0
    for a in arrays:
        a[...] = flat[start : start + a.size].reshape(a.shape)
        start += a.size

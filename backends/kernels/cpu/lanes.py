"""Vector registers as values in Numba code.

Numba hands loops to LLVM and hopes that they come out as vector instructions. Sums that should
stay in registers over a whole loop over rows do not: LLVM cannot know that the arrays differ, and
writes each of them back in every turn. Here a run of numbers is a value of its own: `load` it,
`fma` into it as often as needed, `store` it, and it is in registers all the while.

A *tile* is a tuple of zeros; its length says how many registers a value takes. It stands for a
number that must be known when the code is compiled, and is never read.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

import numpy as np
from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model


def _register_bytes() -> int:
    features = binding.get_host_cpu_features()
    return 64 if features.get("avx512f") else 32 if features.get("avx2") else 16


REGISTER_BYTES = _register_bytes()


def lane_count(dtype: Any) -> int:
    """Return how many numbers of a dtype a register holds."""
    return REGISTER_BYTES // np.dtype(dtype).itemsize


class Lanes(types.Type):
    """The Numba type of `count` registers of float32 or float64."""

    def __init__(self, dtype: types.Float, count: int) -> None:
        self.dtype = dtype
        self.count = count
        super().__init__(name=f"Lanes({dtype}, {count})")

    @property
    def register(self) -> ir.VectorType:
        """Return LLVM's type of one of them."""
        scalar = ir.FloatType() if self.dtype == types.float32 else ir.DoubleType()
        return ir.VectorType(scalar, REGISTER_BYTES * 8 // self.dtype.bitwidth)


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, lanes: Lanes) -> None:
        super().__init__(manager, lanes, ir.ArrayType(lanes.register, lanes.count))


def _build(builder: Any, lanes: Lanes, one: Any) -> Any:
    """Build a value from `one(k)` for each of its registers."""
    value = ir.Constant(ir.ArrayType(lanes.register, lanes.count), ir.Undefined)
    for k in range(lanes.count):
        value = builder.insert_value(value, one(k), k)
    return value


def shuffled(builder: Any, vector: Any, lanes: Iterable[int], other: Any = None) -> Any:
    """Build a vector of the lanes with these numbers, of another or, counted on, a second one."""
    indices = [ir.Constant(ir.IntType(32), lane) for lane in lanes]
    mask = ir.Constant(ir.VectorType(ir.IntType(32), len(indices)), indices)
    other = ir.Constant(vector.type, ir.Undefined) if other is None else other
    return builder.shuffle_vector(vector, other, mask)


def splat_of(builder: Any, lanes: Lanes, scalar: Any) -> Any:
    """Build a register with the same number everywhere."""
    undefined, first = ir.Constant(lanes.register, ir.Undefined), ir.Constant(ir.IntType(32), 0)
    vector = builder.insert_element(undefined, scalar, first)
    return shuffled(builder, vector, [0] * lanes.register.count)


def register_at(builder: Any, lanes: Lanes, data: Any, start: Any, k: int) -> Any:
    """Build the address of the k-th register from a `start`-th number on."""
    index = builder.add(start, ir.Constant(start.type, k * lanes.register.count))
    return builder.bitcast(builder.gep(data, [index]), lanes.register.as_pointer())


def _address(context: Any, builder: Any, array_type: Any, args: Any, lanes: Lanes, k: int) -> Any:
    array, start = args
    data = context.make_array(array_type)(context, builder, array).data
    return register_at(builder, lanes, data, start, k)


@intrinsic
def load(typing: Any, tile: Any, array: Any, start: Any) -> Any:
    """Return the numbers of a C-contiguous array of any shape from its `start`-th on."""
    lanes = Lanes(array.dtype, tile.count)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        align = lanes.dtype.bitwidth // 8
        addresses = partial(_address, context, builder, array, args[1:], lanes)
        return _build(builder, lanes, lambda k: builder.load(addresses(k), align=align))

    return lanes(tile, array, types.intp), generate


@intrinsic
def store(typing: Any, array: Any, start: Any, value: Any) -> Any:
    """Write a value to a C-contiguous array of any shape from its `start`-th number on."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        for k in range(value.count):
            address = _address(context, builder, array, args[:2], value, k)
            register = builder.extract_value(args[2], k)
            builder.store(register, address, align=value.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, value), generate


@intrinsic
def splat(typing: Any, tile: Any, scalar: Any) -> Any:
    """Return a value with the same number everywhere."""
    lanes = Lanes(scalar, tile.count)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        register = splat_of(builder, lanes, args[1])
        return _build(builder, lanes, lambda k: register)

    return lanes(tile, scalar), generate


@intrinsic
def fma(typing: Any, factor: Any, value: Any, addend: Any) -> Any:
    """Return factor · value + addend, the factor a number or a value of the same size."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        factors, values, addends = args
        number = None if factor == value else splat_of(builder, value, factors)

        def one(k: int) -> Any:
            left = builder.extract_value(factors, k) if number is None else number
            product = builder.fmul(left, builder.extract_value(values, k), flags=("contract",))
            return builder.fadd(product, builder.extract_value(addends, k), flags=("contract",))

        return _build(builder, addend, one)

    return addend(factor, value, addend), generate


@intrinsic
def total(typing: Any, value: Any) -> Any:
    """Return the sum of all numbers of a value."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        sums = builder.extract_value(args[0], 0)
        for k in range(1, value.count):
            sums = builder.fadd(sums, builder.extract_value(args[0], k))
        # halves onto each other; the order is fixed, so the sum is the same everywhere
        width = value.register.count
        while width > 1:
            halves = range(width // 2), range(width // 2, width)
            sums = builder.fadd(*(shuffled(builder, sums, half) for half in halves))
            width //= 2
        return builder.extract_element(sums, ir.Constant(ir.IntType(32), 0))

    return value.dtype(value), generate


@intrinsic
def bit_count(typing: Any, mask: Any) -> Any:
    """Count the bits that are set in an unsigned number of 64 bits."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.ctpop(args[0])

    return types.int64(types.uint64), generate


@intrinsic
def lowest_bit(typing: Any, mask: Any) -> Any:
    """Return the index of the lowest bit set in an unsigned number that is not zero."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.zext(builder.cttz(args[0], cgutils.true_bit), ir.IntType(64))

    return types.intp(mask), generate

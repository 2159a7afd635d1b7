"""Products of dense matrices, a block of the result in registers.

BLAS copies what it multiplies into an order of its own at every call, which takes a quarter of the
time where a batch is small and the weights are large. Here the weights lie in that order all along:
cut into tiles of columns, see `lanes`, each with a row for each input. All three products of a
layer are then of one form,

    C[i] = Σ_k a[i, k] B[k]         B[k] and C[i] as wide as a tile

whose C stays in registers while k goes on, for as many i as there are registers for. For z = h W
the B are rows of W, and i is a sample; for the gradient hᵀ δ they are rows of δ, and i an input.
The errors δ Wᵀ are computed the other way round, W δᵀ, with rows of the transposed δ, which `turn`
makes.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .lanes import REGISTER_BYTES, Lanes, register_at, shuffled, splat_of

# rows of C by the registers of a tile, so that C, a row of B and a number of a fit the registers
ROWS = {4: 6, 7: 3, 2: 10, 1: 12} if REGISTER_BYTES == 64 else {2: 6, 3: 4, 1: 8}

_LINE = 64  # bytes of a line of the cache


def registers_for(count: int) -> int:
    """Return into tiles of how many registers it is fastest to cut so many."""

    def cost(registers: int) -> float:  # of products, and of what they load
        return -(-count // registers) * registers * (1 + 1 / registers + 1 / ROWS[registers])

    return min(ROWS, key=cost)


def _prefetch(builder: Any, data: Any, at: Any) -> None:
    """Ask for the line of the cache that a number is in."""
    byte, whole = ir.IntType(8).as_pointer(), ir.IntType(32)
    kind = ir.FunctionType(ir.VoidType(), [byte, whole, whole, whole])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
    place = builder.bitcast(builder.gep(data, [at]), byte)
    to_read, to_keep, is_data = whole(0), whole(3), whole(1)
    builder.call(function, [place, to_read, to_keep, is_data])


@intrinsic
def multiply(  # type: ignore[no-untyped-def]
    typing, tile, rows, count, is_new, n, a, at_a, by_row, by_k, b, at_b, by_b, c, at_c, by_c
):
    """Compute C[i] += Σ_k a[i, k] B[k] for k < n, or C[i] = … if it is new, of `count` rows.

    `rows` is a tuple as long as there are rows of C; if `count` is less, the last one is computed
    more often. Each matrix begins at an array's `at`-th number, and the others say how far apart
    its rows, or numbers, are.
    """
    lanes = Lanes(a.dtype, tile.count)
    height, align = rows.count, a.dtype.bitwidth // 8

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        _, _, count, is_new, n, _, at_a, by_row, by_k, _, at_b, by_b, _, at_c, by_c = args
        a, b, c = (
            context.make_array(signature.args[k])(context, builder, args[k]).data
            for k in (5, 9, 12)
        )
        last = builder.sub(count, ir.Constant(count.type, 1))
        of_a, of_c = [], []
        for i in range(height):
            row = ir.Constant(count.type, i)
            row = builder.select(builder.icmp_signed("<", row, last), row, last)
            of_a.append(builder.add(at_a, builder.mul(row, by_row)))
            of_c.append(builder.add(at_c, builder.mul(row, by_c)))
        a_line = ir.Constant(at_a.type, _LINE // align)
        registers = range(lanes.count)
        sums = [[cgutils.alloca_once(builder, lanes.register) for _ in registers] for _ in of_c]
        zero = ir.Constant(lanes.register, [0.0] * lanes.register.count)
        places = [[register_at(builder, lanes, c, at, k) for k in registers] for at in of_c]
        with builder.if_else(is_new) as (new, old):
            with new:
                for k in registers:
                    for row in sums:
                        builder.store(zero, row[k])
            with old:
                for row, place in zip(sums, places, strict=True):
                    for k in registers:
                        builder.store(builder.load(place[k], align=align), row[k])
        with cgutils.for_range(builder, n) as loop:
            start = builder.add(at_b, builder.mul(loop.index, by_b))
            row_of_b = [
                builder.load(register_at(builder, lanes, b, start, k), align=align)
                for k in registers
            ]
            moved = builder.mul(loop.index, by_k)
            # where k goes down a column, the next rows' numbers are in lines that nothing foretells
            _prefetch(builder, a, builder.add(builder.add(of_a[0], moved), a_line))
            for at, row in zip(of_a, sums, strict=True):
                number = builder.load(builder.gep(a, [builder.add(at, moved)]))
                factor = splat_of(builder, lanes, number)
                for k in registers:
                    product = builder.fmul(factor, row_of_b[k], flags=("contract",))
                    sum_ = builder.fadd(product, builder.load(row[k]), flags=("contract",))
                    builder.store(sum_, row[k])
        for row, place in zip(sums, places, strict=True):
            for k in registers:
                builder.store(builder.load(row[k]), place[k], align=align)
        return context.get_dummy_value()

    size = types.intp
    signature = types.void(
        tile, rows, size, types.boolean, size, a, size, size, size, b, size, size, c, size, size
    )
    return signature, generate


@intrinsic
def turn(typing: Any, a: Any, at_a: Any, by_a: Any, b: Any, at_b: Any, by_b: Any, rows: Any) -> Any:
    """Write the first rows of the transpose of a block, as wide and high as a register is wide."""
    lanes, align = Lanes(a.dtype, 1), a.dtype.bitwidth // 8
    count = lanes.register.count

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        a, b = (
            context.make_array(signature.args[k])(context, builder, args[k]).data for k in (0, 3)
        )
        _, at_a, by_a, _, at_b, by_b, rows = args

        def place(data: Any, at: Any, by: Any, i: int) -> Any:
            row = builder.add(at, builder.mul(by, ir.Constant(by.type, i)))
            return register_at(builder, lanes, data, row, 0)

        block = [builder.load(place(a, at_a, by_a, i), align=align) for i in range(count)]
        half = count // 2
        in_turn = [lane for k in range(count) for lane in (k, count + k)]
        for _ in range(half.bit_length()):  # a perfect shuffle of the halves each
            block = [
                shuffled(builder, upper, order, lower)
                for upper, lower in zip(block[:half], block[half:], strict=True)
                for order in (in_turn[:count], in_turn[count:])
            ]
        for i, row in enumerate(block):
            with builder.if_then(builder.icmp_signed("<", ir.Constant(rows.type, i), rows)):
                builder.store(row, place(b, at_b, by_b, i), align=align)
        return context.get_dummy_value()

    size = types.intp
    return types.void(a, size, size, b, size, size, size), generate

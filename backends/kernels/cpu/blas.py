"""BLAS's matrix product as a part of a kernel: SciPy's, on the thread that calls it.

A kernel cuts a product into pieces whose sizes do not depend on the number of workers, and each
piece is computed by one thread, so that its sums have the same order on any number of cores.
"""

from __future__ import annotations

from typing import Any

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import get_cython_function_address, intrinsic

# under names of our own, so that compiled code on disk refers to them and not to addresses
_SYMBOLS = {types.float32: "sgemm", types.float64: "dgemm"}
for _name in _SYMBOLS.values():
    binding.add_symbol(
        f"trainer_{_name}", get_cython_function_address("scipy.linalg.cython_blas", _name)
    )


@intrinsic
def gemm(  # type: ignore[no-untyped-def]
    typing, transpose_a, transpose_b, m, n, k, a, at_a, lda, b, at_b, ldb, c, at_c, ldc
):
    """Compute C = A B of row-major matrices, of (m, k) and (k, n), within arrays.

    A matrix begins at an array's `at`-th number, and its rows are `ld` numbers apart; a transposed
    one is stored as (k, m) or (n, k).
    """
    integer, real = ir.IntType(32), c.dtype

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        scalar = ir.FloatType() if real == types.float32 else ir.DoubleType()

        def on_stack(value: Any) -> Any:
            place = cgutils.alloca_once(builder, value.type)
            builder.store(value, place)
            return place

        def whole(index: int) -> Any:
            return on_stack(builder.trunc(args[index], integer))

        def letter(index: int) -> Any:
            no, yes = (ir.Constant(ir.IntType(8), ord(c)) for c in "NT")
            return on_stack(builder.select(builder.trunc(args[index], ir.IntType(1)), yes, no))

        def start(array: int) -> Any:
            data = context.make_array(signature.args[array])(context, builder, args[array]).data
            return builder.gep(data, [args[array + 1]])

        one, zero = (on_stack(ir.Constant(scalar, number)) for number in (1.0, 0.0))
        # row-major C = A B is column-major Cᵀ = Bᵀ Aᵀ
        call = [letter(1), letter(0), whole(3), whole(2), whole(4), one, start(8), whole(10)]
        call += [start(5), whole(7), zero, start(11), whole(13)]
        kind = ir.FunctionType(ir.VoidType(), [value.type for value in call])
        name = f"trainer_{_SYMBOLS[real]}"
        builder.call(cgutils.get_or_insert_function(builder.module, kind, name), call)
        return context.get_dummy_value()

    size = types.int64
    signature = types.void(
        types.boolean, types.boolean, size, size, size,
        a, size, size, b, size, size, c, size, size,
    )  # fmt: skip
    return signature, generate

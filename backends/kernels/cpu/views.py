"""Parts of a flat array as arrays of their own, made without the checks that a slice costs.

A kernel that keeps all its numbers in one array, and knows where each of its arrays begins, takes
them from there. The parts do not own their memory: it must be held while they are used.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils, errors
from numba.extending import intrinsic


def _start(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    whole = context.make_array(signature.args[0])(context, builder, args[0])
    return builder.gep(whole.data, [args[1]])


def _array(context: Any, builder: Any, kind: Any, data: Any, shape: list[Any]) -> Any:
    made = context.make_array(kind)(context, builder)
    number = context.get_data_type(kind.dtype)
    size = context.get_constant(types.intp, context.get_abi_sizeof(number))
    strides, total = [size], shape[0]
    if len(shape) == 2:
        strides, total = [builder.mul(shape[1], size), size], builder.mul(*shape)
    made.data = data
    made.nitems, made.itemsize = total, size
    made.shape = _packed(builder, shape)
    made.strides = _packed(builder, strides)
    made.meminfo = ir.Constant(made.meminfo.type, None)
    made.parent = ir.Constant(made.parent.type, None)
    return made._getvalue()


def _packed(builder: Any, values: list[Any]) -> Any:
    array = ir.Constant(ir.ArrayType(values[0].type, len(values)), ir.Undefined)
    for k, value in enumerate(values):
        array = builder.insert_value(array, value, k)
    return array


@intrinsic
def vector(typing: Any, array: Any, start: Any, n: Any) -> Any:
    """Return the n numbers of an array of one dimension from its `start`-th on."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = _start(context, builder, signature, args)
        return _array(context, builder, signature.return_type, data, [args[2]])

    return types.Array(array.dtype, 1, "C")(array, types.intp, types.intp), generate


@intrinsic
def matrix(typing: Any, array: Any, start: Any, rows: Any, columns: Any) -> Any:
    """Return `rows` rows of numbers of an array of one dimension from its `start`-th on."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = _start(context, builder, signature, args)
        return _array(context, builder, signature.return_type, data, [args[2], args[3]])

    return types.Array(array.dtype, 2, "C")(array, *[types.intp] * 3), generate


@intrinsic
def matrix_at(typing: Any, address: Any, dtype: Any, rows: Any, columns: Any) -> Any:
    """Return rows of numbers of a dtype that begin at an address."""
    number = dtype.instance_type

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = signature.return_type
        data = builder.inttoptr(args[0], context.get_data_type(number).as_pointer())
        return _array(context, builder, kind, data, [args[2], args[3]])

    return types.Array(number, 2, "C")(types.int64, dtype, *[types.intp] * 2), generate


@intrinsic
def vector_at(typing: Any, address: Any, dtype: Any, n: Any) -> Any:
    """Return n numbers of a dtype that begin at an address."""
    number = dtype.instance_type

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = signature.return_type
        data = builder.inttoptr(args[0], context.get_data_type(number).as_pointer())
        return _array(context, builder, kind, data, [args[2]])

    return types.Array(number, 1, "C")(types.int64, dtype, types.intp), generate


@intrinsic
def local(typing: Any, like: Any, n: Any) -> Any:
    """Return n numbers, which the code says, of an array's dtype, that last until the return."""
    if not isinstance(n, types.IntegerLiteral):
        raise errors.RequireLiteralValue("n")
    size = n.literal_value

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        number = context.get_data_type(like.dtype)
        place = cgutils.alloca_once(builder, ir.ArrayType(number, size))
        data = builder.bitcast(place, number.as_pointer())
        length = context.get_constant(types.intp, size)
        return _array(context, builder, signature.return_type, data, [length])

    return types.Array(like.dtype, 1, "C")(like, n), generate


@intrinsic
def item(typing: Any, array: Any, index: Any) -> Any:
    """Return a number of a C-contiguous array of any shape, whose index is not negative."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        return builder.load(builder.gep(data, [args[1]]))

    return array.dtype(array, types.intp), generate

"""Programs: what workers do to one batch after the other, put together from compiled operations.

An operation is compiled by itself, once for each kind of number, and called by its address, so that
a program is a table: an ingredient more is an entry more, and compiles that operation alone. The
phases of a program follow each other, with a barrier behind each. A phase is cut into pieces, which
workers take as they are free, and do all its operations to a piece before they take the next. How
the pieces are cut follows from the network and the batch alone, never from the number of workers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numba import typeof, types
from numba.extending import intrinsic

from .compiling import compiled, separate
from .workers import count_up, wait_at_barrier


class Memory(NamedTuple):
    """All arrays: the layers' places, numbers, which inputs are not zero, noise, labels, rows."""

    layers: Any
    numbers: Any
    index: Any
    marks: Any
    words: Any
    labels: Any
    rows: Any


class Piece(NamedTuple):
    """What an operation is called for: rows `low` to `high` - 1 of whatever it goes over, and
    columns `begin` to `end` - 1, of a layer, in the batch of n samples from `start` on."""

    worker: int
    number: int
    layer: int
    start: int
    n: int
    low: int
    high: int
    begin: int
    end: int


# columns of a program's pieces
OPERATION, LAST, OF_SAMPLES, LOW, HIGH, BEGIN, END = range(7)


class Operation:
    """A function of job, memory and piece that a program can call."""

    def __init__(self, function: Callable[[Any, Any, Any], None]) -> None:
        self._dispatcher = separate(function)
        self._addresses: dict[np.dtype, int] = {}

    def address(self, job: np.void, memory: Memory) -> int:
        """Return where its code is, compiled if need be.

        What kind of arguments they are follows from the numbers' dtype.
        """
        kind = memory.numbers.dtype
        if kind not in self._addresses:
            signature = types.void(typeof(job), typeof(memory), typeof(Piece(*[0] * 9)))
            self._dispatcher.compile(signature)
            result = self._dispatcher.get_compile_result(signature)
            address = result.library.get_pointer_to_function(result.fndesc.llvm_func_name)
            self._addresses[kind] = int(address)
        return self._addresses[kind]


@intrinsic
def _call(typing: Any, address: Any, job: Any, memory: Any, piece: Any) -> Any:
    """Call the operation at an address."""
    kinds = job, memory, piece

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = context.call_conv.get_function_type(types.none, kinds)
        function = builder.inttoptr(args[0], kind.as_pointer())
        context.call_conv.call_function(builder, function, types.none, kinds, args[1:])
        return context.get_dummy_value()

    return types.void(types.int64, *kinds), generate


@compiled
def run(  # type: ignore[no-untyped-def]
    worker, workers, barrier, phases, pieces, operations, tickets, first, stop, batch, job, memory
):
    """Run a program on every batch of the samples first to stop - 1.

    A row of `phases` says where each worker's own pieces begin, and where the last one's end. A
    worker first takes its own, in every batch the same, whose numbers are in its cache, and then
    those that others have left. `tickets` has a row for each worker, and counts which of its pieces
    were taken, and once a phase every worker that found none.
    """
    passed = 0
    taken = np.zeros(workers, np.int64)
    for start in range(first, stop, batch):
        n = min(batch, stop - start)
        for phase in phases:
            for turn in range(workers):
                owner = (worker + turn) % workers
                own, end_of_own = phase[owner], phase[owner + 1]
                i = own + count_up(tickets[owner]) - taken[owner]
                while i < end_of_own:
                    row = pieces[i]
                    low, high = row[LOW], row[HIGH]
                    if row[OF_SAMPLES]:
                        high = min(high, n)
                    for o in range(row[OPERATION], row[LAST] if low < high else 0):
                        layer, end = operations[o, 1], row[END]
                        if end < 0:
                            end = memory.layers[layer].units
                        number, begin = i - phase[0], row[BEGIN]
                        piece = Piece(worker, number, layer, start, n, low, high, begin, end)
                        _call(operations[o, 0], job, memory, piece)
                    i = own + count_up(tickets[owner]) - taken[owner]
                taken[owner] += end_of_own - own + workers
            if not wait_at_barrier(workers, barrier, passed):
                return
            passed += 1

"""Threads that run one kernel together.

Every worker runs the same kernel and takes its part by its number. Where one needs what another
has done, all wait at a barrier: a counter in memory, which each raises and then watches. That costs
a fraction of a microsecond, little enough for two barriers a block of 32 samples.
"""

from __future__ import annotations

import os
import platform
import threading
from collections.abc import Sequence
from math import inf
from time import perf_counter, thread_time
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .compiling import compiled, part

_LINE = 16  # int64 numbers, to have the counter and the flag in cache lines of their own
_PATIENCE = 2000  # turns of watching before the core is offered to others


def core_count() -> int:
    """Count the workers a kernel may have at most.

    As many as there are cores that this process may use, fewer by NUMBA_NUM_THREADS or
    OMP_NUM_THREADS.
    """
    limits: list[int] = [numba.config.NUMBA_NUM_THREADS]  # type: ignore[attr-defined]
    if hasattr(os, "sched_getaffinity"):
        limits.append(len(os.sched_getaffinity(0)))
    wanted = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if wanted.isdecimal() and int(wanted):
        limits.append(int(wanted))
    return min(limits)


class _Crowd:
    """Notices when other processes take the cores, where fewer workers are faster.

    Workers wait for each other, and one without a core keeps all of them waiting for as long as the
    system lets another process run. Results do not depend on how many there are.
    """

    shortest = 0.005  # seconds that a kernel must take to be judged by
    longest = 8.0  # seconds until more workers are tried again

    def __init__(self) -> None:
        self._limit: float = inf
        self._until, self._pause = 0.0, 1.0

    def limit(self) -> float:
        """Return how many workers there are cores for, as far as is known."""
        return self._limit if perf_counter() < self._until else inf

    def judge(self, seconds: Sequence[float], on_cores: Sequence[float]) -> None:
        """Take note of each worker's time in a kernel, and of how much of it it was on a core."""
        if max(seconds) < self.shortest or len(seconds) == 1:
            return
        cores = sum(part / whole for part, whole in zip(on_cores, seconds, strict=True))
        if cores > 0.85 * len(on_cores):
            self._pause = 1.0
        else:
            self._limit = max(1, int(cores + 0.2))
            self._until = perf_counter() + self._pause
            self._pause = min(2 * self._pause, self.longest)


_crowd = _Crowd()


def worker_count() -> int:
    """Count the workers that a kernel should have now."""
    return int(min(core_count(), _crowd.limit()))


def new_barrier() -> np.ndarray:
    """Return memory for a barrier that no worker has come to."""
    return np.zeros(2 * _LINE, np.int64)


def work(kernel: Any, workers: int, *args: Any) -> None:
    """Call kernel(worker, workers, barrier, *args) for every worker, worker 0 on this thread.

    Results too small to be stored with all their digits are 0 in kernels: sums that decay, such as
    the velocity of a pixel that is rarely set, become such, and cost a hundred times as much.
    """
    barrier = new_barrier()
    seconds, on_cores = [1.0] * workers, [1.0] * workers
    known = len(getattr(kernel, "signatures", ()))

    def run(worker: int) -> None:
        mode, begun, on_core = _flush_denormals(), perf_counter(), thread_time()
        try:
            kernel(worker, workers, barrier, *args)
        finally:
            _restore(mode)
            seconds[worker] = max(perf_counter() - begun, 1e-9)
            on_cores[worker] = thread_time() - on_core

    others = [
        threading.Thread(target=run, args=(worker,), daemon=True) for worker in range(1, workers)
    ]
    try:
        for other in others:
            other.start()
        run(0)
    except BaseException:  # such as Ctrl-C before the kernel began: the others must not wait for it
        barrier[_LINE] = 1
        raise
    finally:
        for other in others:
            if other.ident is not None:
                other.join()
    if len(getattr(kernel, "signatures", ())) == known:  # others wait while one compiles
        _crowd.judge(seconds, on_cores)


@part
def wait_at_barrier(workers, barrier, passed):  # type: ignore[no-untyped-def]
    """Wait for all workers; `passed` counts the barriers so far. False if one will not come."""
    if workers == 1:
        return True
    count_up(barrier)
    turns = 0
    while _watch(barrier, 0) < (passed + 1) * workers:
        if _watch(barrier, _LINE):
            return False
        turns += 1
        _pause(turns > _PATIENCE)
    return True


_IS_X86 = platform.machine() in ("x86_64", "AMD64")
_FLUSH = 0x8000  # of results and not of operands, in the control register of vector arithmetic


def _control(builder: Any, name: str, place: Any) -> None:
    byte = ir.IntType(8).as_pointer()
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(ir.VoidType(), [byte]), f"llvm.x86.sse.{name}"
    )
    builder.call(function, [builder.bitcast(place, byte)])


@intrinsic
def _read_mode(typing: Any) -> Any:
    """Return the control register of this thread; 0 on other processors."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = cgutils.alloca_once_value(builder, ir.Constant(ir.IntType(32), 0))
        if _IS_X86:
            _control(builder, "stmxcsr", place)
        return builder.load(place)

    return types.uint32(), generate


@intrinsic
def _write_mode(typing: Any, mode: Any) -> Any:
    """Set the control register of this thread."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        if _IS_X86:
            _control(builder, "ldmxcsr", cgutils.alloca_once_value(builder, args[0]))
        return context.get_dummy_value()

    return types.void(types.uint32), generate


@compiled
def _flush_denormals():  # type: ignore[no-untyped-def]
    """Make the smallest results of this thread 0; return how it was before."""
    mode = _read_mode()
    _write_mode(mode | np.uint32(_FLUSH))
    return mode


@compiled
def _restore(mode):  # type: ignore[no-untyped-def]
    """Set a thread as it was before `_flush_denormals`."""
    _write_mode(np.uint32(mode))


def _element(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    return builder.gep(context.make_array(array_type)(context, builder, array).data, [index])


@intrinsic
def count_up(typing: Any, array: Any) -> Any:
    """Add one to the first number, and publish what was written before; return what it was."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        first = _element(context, builder, array, args[0], ir.IntType(64)(0))
        return builder.atomic_rmw("add", first, ir.IntType(64)(1), "seq_cst")

    return types.int64(array), generate


@intrinsic
def _watch(typing: Any, array: Any, index: Any) -> Any:
    """Read a number that others change, and see what they wrote before."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load_atomic(
            _element(context, builder, array, args[0], args[1]), "seq_cst", align=8
        )

    return types.int64(array, types.intp), generate


@intrinsic
def _pause(typing: Any, offer: Any) -> Any:
    """Pause the core for a moment, or offer it to other threads."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        with builder.if_then(args[0]):
            name = "SwitchToThread" if os.name == "nt" else "sched_yield"
            kind = ir.FunctionType(ir.IntType(32), [])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [])
        if _IS_X86:
            kind = ir.FunctionType(ir.VoidType(), [])
            name = "llvm.x86.sse2.pause"
            builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [])
        return context.get_dummy_value()

    return types.void(types.boolean), generate

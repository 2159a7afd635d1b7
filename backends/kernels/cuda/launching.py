"""CUDA C++ compiled at run time."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ...base import NetworkSpec
from ...functions import Array
from .cublas import Products

NULL = np.uintp(0)
_THREADS = 256
# what a source needs before it, besides what all do
_HEADERS = {
    "online_sgd": ("blocks.cuh", "first_layer.cuh", "deeper_layers.cuh"),
    "batches": ("philox.cuh", "strips.cuh", "updates.cuh"),
    "noise": ("philox.cuh",),
}


@cache
def source(name: str) -> str:
    """Read a kernel's source, after the headers that it needs."""
    files = ("network.cuh", *_HEADERS.get(name, ()), f"{name}.cu")
    return "\n".join((Path(__file__).parent / file).read_text() for file in files)


class Kernels:
    """The kernels of one source, compiled by NVRTC, and the products that multiply between them.

    The dtypes are those of the arithmetic and of the samples, where it reads some; the macros say
    what else is fixed when the source of that name (without its ending) is compiled.
    """

    def __init__(
        self, products: Products, name: str, dtype: Any, values: Any = None, **macros: int
    ) -> None:
        self.cupy, self.products = products.cupy, products
        names = {"REAL": np.dtype(dtype).name, "VALUE": np.dtype(values or dtype).name} | macros
        options = ("-std=c++17", *(f"-D{macro}={value}" for macro, value in names.items()))
        self._module = self.cupy.RawModule(code=source(name), options=options)
        self._kernel = lru_cache(self._module.get_function)

    def __call__(self, name: str, grid: int | tuple[int, int], threads: int, *args: Any) -> None:
        """Launch a kernel on the current stream; the arguments are those of `bind`."""
        self.bind(name, grid, threads, *args)()

    def bind(
        self, name: str, grid: int | tuple[int, int], threads: int, *args: Any, shared: int = 0
    ) -> Callable[[], None]:
        """Make a function that launches a kernel on the current stream, in a grid of thread blocks.

        The arguments are device arrays and NumPy scalars, None for a null pointer and int for
        int32. `shared` are bytes of dynamic memory.
        """
        kernel = self._kernel(name)
        if shared:  # with the static one it may be more than a kernel has unasked
            kernel.max_dynamic_shared_size_bytes = shared
        blocks = grid if isinstance(grid, tuple) else (grid,)
        bound = tuple(map(_argument, args))
        return lambda: kernel(blocks, (threads,), bound, shared_mem=shared)

    def for_each(self, name: str, count: int, *args: Any) -> None:
        """Launch a kernel of `FOR_EACH`, whose first argument is the count."""
        self(name, min(-(-count // _THREADS), 1 << 16), _THREADS, np.int64(count), *args)


def captured(
    cupy: Any, launch: Callable[[], None], prepare: Callable[[], None] = lambda: None
) -> Any:
    """Return a CUDA graph of what a function launches; None where none is to be had.

    `prepare` is called in the stream that captures, before it does.
    """
    stream = cupy.cuda.Stream(non_blocking=True)
    try:
        with stream:
            prepare()
            stream.begin_capture()
            try:
                launch()
            finally:
                graph = stream.end_capture()
        return graph
    except RuntimeError:  # CUDA's errors and CuPy's are of that kind
        return None


def input_map(spec: NetworkSpec) -> tuple[Array, Array, int, int]:
    """List what the kernels' `InputMap` is made of: each of the two may be a number or a vector."""
    return spec.scale, spec.shift, spec.scale.ndim, spec.shift.ndim


def _argument(a: Any) -> Any:
    if a is None:
        return NULL
    # CuPy takes Python's own for 64 bits
    return np.int32(a) if isinstance(a, int) else a

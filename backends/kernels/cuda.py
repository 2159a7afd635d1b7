"""CUDA C++ compiled at run time, and cuBLAS' products, for whoever hands over the `cupy` module."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ..base import NetworkSpec
from ..functions import Array

NULL = np.uintp(0)
_WORKSPACE = 32 << 20  # bytes, what NVIDIA recommends for its newest; the others take less
_THREADS = 256


@cache
def source(name: str) -> str:
    """Read a kernel's source, behind what all share."""
    folder = Path(__file__).parent
    return "\n".join((folder / file).read_text() for file in ("network.cuh", f"{name}.cu"))


class Kernels:
    """The kernels of one source, compiled by NVRTC for one set of macros.

    Parameters
    ----------
    cupy : module
    name : str
        Of the source, without its ending.
    dtype, values : dtype
        Of weights and arithmetic, and of the samples.
    **macros : int
        What else is fixed when it is compiled.
    """

    def __init__(self, cupy: Any, name: str, dtype: Any, values: Any, **macros: int) -> None:
        names = {"REAL": np.dtype(dtype).name, "VALUE": np.dtype(values).name} | macros
        options = ("-std=c++17", *(f"-D{macro}={value}" for macro, value in names.items()))
        self._module = cupy.RawModule(code=source(name), options=options)
        self._kernel = lru_cache(self._module.get_function)

    def __call__(
        self, name: str, grid: int, threads: int | tuple[int, int], *args: Any, shared: int = 0
    ) -> None:
        """Launch a kernel on the current stream.

        Parameters
        ----------
        name : str
        grid, threads : int or tuple
            Thread blocks, and threads of each.
        *args : device arrays and NumPy scalars
            None is a null pointer, an int is an int32.
        shared : int
            Bytes of dynamic shared memory.
        """
        self.bind(name, grid, threads, *args, shared=shared)()

    def bind(
        self, name: str, grid: int, threads: int | tuple[int, int], *args: Any, shared: int = 0
    ) -> Callable[..., None]:
        """Make a function that launches with further arguments, which come before these."""
        kernel = self._kernel(name)
        if shared:  # with the static one it may be more than a kernel has unasked
            kernel.max_dynamic_shared_size_bytes = shared
        block = threads if isinstance(threads, tuple) else (threads,)
        bound = tuple(map(_argument, args))
        return lambda *first: kernel((grid,), block, (*first, *bound), shared_mem=shared)

    def for_each(self, name: str, count: int, *args: Any) -> None:
        """Launch a kernel of `FOR_EACH`, whose first argument is the count."""
        self(name, min(-(-count // _THREADS), 1 << 16), _THREADS, np.int64(count), *args)

    def for_rows(self, name: str, rows: int, *args: Any) -> None:
        """Launch a kernel that takes a thread block a row."""
        self(name, rows, _THREADS, *args)


def input_map(spec: NetworkSpec) -> tuple[Array, Array, int, int]:
    """List what the kernels' `InputMap` is made of: each of the two may be a number or a vector."""
    return spec.scale, spec.shift, spec.scale.ndim, spec.shift.ndim


def _argument(a: Any) -> Any:
    if a is None:
        return NULL
    # CuPy takes Python's own for 64 bits
    return np.int32(a) if isinstance(a, int) else a


class CublasError(RuntimeError):
    """What cuBLAS answered where it should have multiplied."""


class Products:
    """Matrix products out = a b, or out = keep · out + share · a b with factors on the device.

    Parameters
    ----------
    cupy : module
    precision : str
        As `backends.select` takes it: what float32 factors are rounded to. float64 ones stay.

    Attributes
    ----------
    capturable : bool
        Whether a stream may capture them. CuPy's own wrapper refuses that (its issue 6290), cuBLAS
        does not, so it is called directly where it is found.
    """

    def __init__(self, cupy: Any, precision: str) -> None:
        self._cupy = cupy
        cublas = self._cublas = cupy.cuda.cublas
        self._handle = cublas.create()
        # CuPy destroys its own handle alone; at the process's end there may be no device any more
        weakref.finalize(self, _destroy, cupy, cupy.cuda.Device(), self._handle).atexit = False
        library = cublas_library(cupy.cuda.runtime.runtimeGetVersion() // 1000)
        self.capturable = library is not None
        self._gemm = library.cublasGemmEx if library else cublas.gemmEx
        self._set_workspace = library.cublasSetWorkspace_v2 if library else None
        self._workspace = cupy.empty(_WORKSPACE if library else 0, dtype=np.uint8)
        fast = {"tf32": "FAST_TF32", "bfloat16": "FAST_16BF", "float16": "FAST_16F"}
        kind = (
            f"CUBLAS_COMPUTE_32F_{fast[precision]}" if precision in fast else "CUBLAS_COMPUTE_32F"
        )
        self._kinds = {
            "float32": (cupy.cuda.runtime.CUDA_R_32F, getattr(cublas, kind)),
            "float64": (cupy.cuda.runtime.CUDA_R_64F, cublas.CUBLAS_COMPUTE_64F),
        }
        self._one = {dtype: np.ones(1, dtype) for dtype in self._kinds}
        self._zero = {dtype: np.zeros(1, dtype) for dtype in self._kinds}

    def bind(self) -> None:
        """Go on in the current stream; not while it captures."""
        stream = self._cupy.cuda.get_current_stream().ptr
        self._cublas.setStream(self._handle, stream)
        if self._set_workspace:  # its own: cuBLAS could not allocate one in a capture
            pointer, size = self._workspace.data.ptr, self._workspace.nbytes
            _check(self._set_workspace(self._handle, pointer, size))

    def __call__(
        self,
        out: Array,
        a: Array,
        b: Array,
        *,
        a_turned: bool = False,
        b_turned: bool = False,
        share: Array | None = None,
        keep: Array | None = None,
    ) -> None:
        """Multiply two C-contiguous matrices, either of them transposed.

        `share` and `keep`, both or neither, are arrays of one number on the device. Without them
        nothing of `out` is read; with a `keep` of 0 it may be, and must hold finite numbers.
        """
        dtype = out.dtype.name
        kind, compute = self._kinds[dtype]
        if share is None or keep is None:
            mode = self._cublas.CUBLAS_POINTER_MODE_HOST
            factors = self._one[dtype].ctypes.data, self._zero[dtype].ctypes.data
        else:
            mode = self._cublas.CUBLAS_POINTER_MODE_DEVICE
            factors = share.data.ptr, keep.data.ptr
        self._cublas.setPointerMode(self._handle, mode)
        rows, columns = out.shape
        # cuBLAS counts by columns and so sees every matrix transposed: outᵀ = bᵀ aᵀ
        operation = (self._cublas.CUBLAS_OP_N, self._cublas.CUBLAS_OP_T)
        _check(
            self._gemm(
                self._handle,
                operation[b_turned],
                operation[a_turned],
                columns,
                rows,
                a.shape[0 if a_turned else 1],
                factors[0],
                b.data.ptr,
                kind,
                b.shape[1],
                a.data.ptr,
                kind,
                a.shape[1],
                factors[1],
                out.data.ptr,
                kind,
                columns,
                compute,
                -1,  # CUBLAS_GEMM_DEFAULT
            )
        )


def _destroy(cupy: Any, device: Any, handle: int) -> None:
    with device:
        cupy.cuda.cublas.destroy(handle)


def _check(status: int | None) -> None:
    if status:
        raise CublasError(f"cuBLAS refused with status {status}")


def cublas_library(major: int) -> Any:
    """Find the cuBLAS that CuPy has loaded; None where that is not possible.

    Parameters
    ----------
    major : int
        CUDA's version.
    """
    for name in (f"libcublas.so.{major}", f"cublas64_{major}.dll"):
        try:
            library = ctypes.CDLL(name)
        except OSError:
            continue
        pointer, number = ctypes.c_void_p, ctypes.c_int
        matrix = (pointer, number, number)
        library.cublasGemmEx.argtypes = (
            *(pointer, number, number, number, number, number),
            *(pointer, *matrix, *matrix, pointer, *matrix, number, number),
        )
        library.cublasSetWorkspace_v2.argtypes = (pointer, pointer, ctypes.c_size_t)
        return library
    return None

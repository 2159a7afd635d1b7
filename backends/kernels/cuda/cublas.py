"""Matrix products by cuBLAS, for whoever hands over the `cupy` module."""

from __future__ import annotations

import ctypes
import weakref
from typing import Any

import numpy as np

from ...functions import Array

_WORKSPACE = 32 << 20  # bytes, what NVIDIA recommends for its newest; the others take less


class CublasError(RuntimeError):
    """What cuBLAS answered where it should have multiplied."""


class Products:
    """Matrix products out = a b, or out = beta · out + alpha · a b with factors on the device.

    float32 factors are rounded to `precision`, as `backends.select` takes it; float64 ones stay.
    `capturable` says whether a stream may capture them: CuPy's own wrapper refuses that (its issue
    6290), cuBLAS does not, so it is called directly where it is found.
    """

    def __init__(self, cupy: Any, precision: str) -> None:
        self.cupy = cupy
        cublas = self._cublas = cupy.cuda.cublas
        self._handle = cublas.create()
        # CuPy destroys its own handle alone; at the process's end there may be no device any more
        weakref.finalize(self, _destroy, cupy, cupy.cuda.Device(), self._handle).atexit = False
        library = cublas_library(cupy.cuda.runtime.runtimeGetVersion() // 1000)
        self.capturable = library is not None
        self._gemm = library.cublasGemmEx if library else cublas.gemmEx
        self._set_workspace = library.cublasSetWorkspace_v2 if library else None
        self._workspace = cupy.empty(_WORKSPACE if library else 0, dtype=np.uint8)
        fast = {"tf32": "_FAST_TF32", "bfloat16": "_FAST_16BF", "float16": "_FAST_16F"}
        kind = f"CUBLAS_COMPUTE_32F{fast.get(precision, '')}"
        self._kinds = {
            "float32": (cupy.cuda.runtime.CUDA_R_32F, getattr(cublas, kind)),
            "float64": (cupy.cuda.runtime.CUDA_R_64F, cublas.CUBLAS_COMPUTE_64F),
        }
        self._numbers = {dtype: (np.ones(1, dtype), np.zeros(1, dtype)) for dtype in self._kinds}

    def bind(self) -> None:
        """Multiply in the current stream from now on; not to be called while it captures."""
        stream = self.cupy.cuda.get_current_stream().ptr
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
        transpose_a: bool = False,
        transpose_b: bool = False,
        alpha: Array | None = None,
        beta: Array | None = None,
    ) -> None:
        """Multiply two C-contiguous matrices, either of them transposed.

        `alpha` and `beta`, both or neither, are arrays of one number on the device. Without them
        nothing of `out` is read; with a `beta` of 0 it may be, and must hold finite numbers.
        """
        dtype = out.dtype.name
        kind, compute = self._kinds[dtype]
        if alpha is None or beta is None:
            mode = self._cublas.CUBLAS_POINTER_MODE_HOST
            factor, factor_of_out = (number.ctypes.data for number in self._numbers[dtype])
        else:
            mode = self._cublas.CUBLAS_POINTER_MODE_DEVICE
            factor, factor_of_out = alpha.data.ptr, beta.data.ptr
        self._cublas.setPointerMode(self._handle, mode)
        rows, columns = out.shape
        # cuBLAS counts by columns and so sees every matrix transposed: outᵀ = bᵀ aᵀ
        operation = (self._cublas.CUBLAS_OP_N, self._cublas.CUBLAS_OP_T)
        left, right, result = ((matrix.data.ptr, kind, matrix.shape[1]) for matrix in (b, a, out))
        shape = columns, rows, a.shape[0 if transpose_a else 1]
        operations = operation[transpose_b], operation[transpose_a]
        arrays = factor, *left, *right, factor_of_out, *result
        default = -1  # CUBLAS_GEMM_DEFAULT
        _check(self._gemm(self._handle, *operations, *shape, *arrays, compute, default))


def _destroy(cupy: Any, device: Any, handle: int) -> None:
    with device:
        cupy.cuda.cublas.destroy(handle)


def _check(status: int | None) -> None:
    if status:
        raise CublasError(f"cuBLAS refused with status {status}")


def cublas_library(major: int) -> Any:
    """Find the cuBLAS that CuPy has loaded for CUDA `major`; None where that is not possible."""
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

"""Samples of which most numbers are 0, as CSR on the host: dense only a few at a time."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

_DENSE_BYTES = 64 * 2**20  # of the samples that are dense at a time


def is_sparse(a: Any) -> bool:
    """Return whether that is a sparse matrix or array of SciPy's or CuPy's."""
    names = "scipy.sparse", "cupyx.scipy.sparse"
    return any(name in sys.modules and sys.modules[name].issparse(a) for name in names)


class SparseRows:
    """Samples by rows; slicing, ``rows[first:stop, :]``, gives samples of the same kind.

    Parameters
    ----------
    a : sparse matrix or array, shape (n, features)
        In any of SciPy's or CuPy's formats; it is not changed. What a dense array of them would be
        counts: numbers at the same place are added up.

    Attributes
    ----------
    csr : scipy.sparse.csr_array
        Of a dtype to compute with, no place twice, columns ascending.

    Raises
    ------
    TypeError
        If its values are not real numbers.
    ValueError
        If it has not two dimensions, or indices are out of range.
    """

    ndim = 2

    def __init__(self, a: Any) -> None:
        from scipy import sparse

        if not sparse.issparse(a):
            a = a.get()  # CuPy's
        if a.ndim != 2:
            raise ValueError(f"a sparse array of shape {a.shape}: expected (n, features)")
        if hasattr(a, "check_format"):
            a.check_format(full_check=True)  # compiled code follows indices wherever they lead
        csr = a.tocsr()
        data = kept_dtype(csr.data[: csr.nnz])
        # the arrays may be the caller's
        own = sparse.csr_array((data, csr.indices[: csr.nnz], csr.indptr), csr.shape)
        if not own.has_canonical_format:
            own = own.copy()
            own.sum_duplicates()
        self.csr = own

    @property
    def shape(self) -> tuple[int, int]:
        """Return how many samples there are, and their features."""
        return self.csr.shape

    @property
    def dtype(self) -> np.dtype:
        """Return the dtype of the numbers."""
        return self.csr.dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: tuple[Any, slice]) -> SparseRows:
        part = object.__new__(SparseRows)
        part.csr = self.csr[key[0]]
        return part

    def blank(self) -> SparseRows:
        """Return one sample without a number, of the same dtype."""
        return SparseRows(type(self.csr)((1, self.shape[1]), dtype=self.dtype))

    def dense(self) -> np.ndarray:
        """Return all as an array of the host."""
        return self.csr.toarray()

    def at_once(self, unit: int) -> int:
        """Return how many can be dense at a time, a multiple of `unit`."""
        fitting = _DENSE_BYTES // max(1, self.shape[1] * self.dtype.itemsize)
        return max(1, fitting // unit) * unit

    def not_finite(self, dtype: str) -> tuple[int, int, float] | None:
        """Return row, column and value of the first that is NaN or infinite in a dtype."""
        with np.errstate(over="ignore"):
            values = self.csr.data.astype(dtype, copy=False)
        wrong = ~np.isfinite(values)
        if not wrong.any():
            return None
        at = int(wrong.argmax())
        row = int(np.searchsorted(self.csr.indptr, at, side="right")) - 1
        return row, int(self.csr.indices[at]), float(values[at])


def kept_dtype(host: np.ndarray) -> np.ndarray:
    """Return an array in a dtype to compute with, contiguous: its own if it is one.

    Raises
    ------
    TypeError
        If its values are not real numbers.
    """
    if host.dtype.kind not in "buif":
        raise TypeError(f"expected an array of real numbers, got dtype {host.dtype}")
    native = host.dtype.newbyteorder("=")
    odd = {np.bool_: np.uint8, np.float16: np.float32, np.longdouble: np.float64}
    return np.asarray(host, odd.get(native.type, native), order="C")

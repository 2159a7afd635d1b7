"""Arrays of other libraries, as NumPy's or as those of a CUDA device: shared where that can be."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import numpy as np

from .sparse import is_sparse

_CUDA_DEVICES = 2, 13  # kDLCUDA and kDLCUDAManaged, of DLPack


def to_host(a: Any) -> np.ndarray:
    """Return an array of any library, a frame or nested numbers as NumPy's.

    It shares the memory where that is the host's and the numbers lie there as an array's.

    Raises
    ------
    TypeError
        If that is no array, or cannot be read as a dense one.
    """
    if isinstance(a, np.ndarray):
        return a
    if is_sparse(a):
        raise TypeError(f"a sparse array of shape {a.shape}: expected a dense one, take .toarray()")
    a = on_host(without_gradient(a))
    _check_columns(a)
    try:
        if hasattr(a, "__dlpack__") and not _is_known_to_numpy(a):
            return np.from_dlpack(a)
        host = np.asarray(a)
    except MemoryError:
        raise
    except Exception as error:  # each library has its own
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise TypeError(f"{_name(a)} is not readable as an array of numbers: {reason}") from error
    if host.dtype == object and not host.shape:
        raise TypeError(f"expected an array of real numbers, got {_name(a)}")
    return host if host.dtype != object else _frame_as_floats(a, host)


def without_gradient(a: Any) -> Any:
    """Return a PyTorch tensor as NumPy and CuPy read it; anything else as it is."""
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(a, torch.Tensor):
        return a
    a = a.detach().resolve_conj().resolve_neg()
    if a.dtype.is_floating_point and a.dtype not in (torch.float16, torch.float32, torch.float64):
        a = a.float()  # what NumPy does not know: bfloat16, and smaller ones
    return a


def cuda_device(a: Any) -> int | None:
    """Return the number of the CUDA device that an array lies on, None if on none."""
    if hasattr(a, "__dlpack_device__"):
        with suppress(Exception):  # what cannot say it is read like anything else
            kind, number = a.__dlpack_device__()
            return int(number) if int(kind) in _CUDA_DEVICES else None
    # PyTorch's and Numba's say which in other ways
    return 0 if _has_cuda_interface(a) else None


def on_host(a: Any) -> Any:
    """Copy an array that lies on a GPU to the host, by its library's own means."""
    if cuda_device(a) is None:
        return a
    for name in ("get", "cpu", "copy_to_host"):  # CuPy's, PyTorch's, Numba's
        if hasattr(a, name):
            return getattr(a, name)()
    if hasattr(a, "__array__"):  # JAX's
        return a
    raise TypeError(f"{_name(a)} is on a GPU: expected an array of the host, copy it there first")


def _has_cuda_interface(a: Any) -> bool:
    try:
        return hasattr(a, "__cuda_array_interface__")
    except Exception:  # an object may refuse in its own way
        return False


def _is_known_to_numpy(a: Any) -> bool:
    names = "__array__", "__array_interface__", "__array_struct__", "__buffer__"
    return any(hasattr(a, name) for name in names)


def _name(a: Any) -> str:
    kind = type(a)
    package = kind.__module__.partition(".")[0]
    return kind.__name__ if package == "builtins" else f"{package}'s {kind.__name__}"


# --- frames and series -----------------------------------------------------------------------


def _columns(a: Any) -> Iterator[tuple[Any, bool]]:
    """Yield name, and whether it holds numbers, of the columns of a frame, pandas' or Polars'."""
    pandas, polars = sys.modules.get("pandas"), sys.modules.get("polars")
    if pandas is not None and isinstance(a, pandas.DataFrame):
        for name, dtype in zip(a.columns, a.dtypes, strict=True):
            yield name, dtype.kind in "biuf"
    elif polars is not None and isinstance(a, polars.DataFrame):
        for name, dtype in a.schema.items():
            yield name, dtype.is_numeric() or dtype == polars.Boolean


def _check_columns(a: Any) -> None:
    for name, is_number in _columns(a):
        if not is_number:
            raise TypeError(f"column {name!r} holds no real numbers: code it or leave it out")


def _frame_as_floats(a: Any, host: np.ndarray) -> np.ndarray:
    """Return columns of numbers of several kinds, or with gaps, as float64, with NaN for a gap."""
    pandas, polars = sys.modules.get("pandas"), sys.modules.get("polars")
    if pandas is not None and isinstance(a, pandas.DataFrame | pandas.Series):
        is_numeric = isinstance(a, pandas.DataFrame) or a.dtype.kind in "biuf"
        return a.to_numpy(dtype=np.float64, na_value=np.nan) if is_numeric else host
    if polars is not None and isinstance(a, polars.DataFrame | polars.Series):
        is_numeric = isinstance(a, polars.DataFrame) or a.dtype in (polars.Boolean, polars.Decimal)
        return a.cast(polars.Float64).to_numpy() if is_numeric else host
    return host

"""What scikit-learn calls array API dispatch: results stay with the library and device of X.

``sklearn.set_config(array_api_dispatch=True)`` asks for it; without it results are NumPy's.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np

from backends.interchange import cuda_device, to_host


def like(result: Any, x: Any) -> Any:
    """Return a result as an array of x's library, on x's device.

    Parameters
    ----------
    result : array
        NumPy's or a device's.
    x : array
        What the result follows from. Frames, lists and sparse arrays have no library to return to.

    Returns
    -------
    array
        NumPy's without dispatch, and of what is no number, such as the names of classes. Memory
        that both can reach is shared.
    """
    compat = _dispatched(x)
    if compat is None or compat.is_numpy_array(x):
        return to_host(result)
    xp = compat.array_namespace(x)
    device = cuda_device(result)
    if device is not None and device == cuda_device(x):
        return xp.from_dlpack(result)
    host = to_host(result)
    return xp.asarray(host, device=compat.device(x)) if host.dtype.kind in "biuf" else host


def device_for(device: str, x: Any) -> str:
    """Return where to compute with x: where it is, if dispatch is on and `device` is "auto"."""
    if device != "auto" or _dispatched(x) is None:
        return device
    number = cuda_device(x)
    return "cpu" if number is None else f"gpu:{number}"


def float_dtypes(x: Any) -> list[Any]:
    """Return float64 and float32 of x's library, for scikit-learn's checks."""
    compat = _dispatched(x)
    xp = np if compat is None else compat.array_namespace(x)
    return [xp.float64, xp.float32]


def on_host(x: Any) -> Any:
    """Return labels or weights on the host if dispatch is on, else as they are."""
    return x if _dispatched(x) is None else to_host(x)


def _dispatched(x: Any) -> Any:
    """Return array_api_compat if dispatch is on and x is an array of the standard, else None."""
    config = import_module("sklearn").get_config()
    if not config["array_api_dispatch"]:
        return None
    try:
        compat = import_module("sklearn.externals.array_api_compat")
    except ImportError:  # before 1.7, which has dispatch only where this is installed
        compat = import_module("array_api_compat")
    return compat if compat.is_array_api_obj(x) else None

"""Arrays and the network's operations, on NumPy or on CuPy.

>>> from backends import select
>>> backend = select("cpu")
>>> backend.asarray([1, 2, 3]) + 1
array([2, 3, 4])
"""

from __future__ import annotations

import difflib
import re
import sys
import warnings
from typing import Any

from .base import Backend, NetworkSpec
from .device import BackendUnavailable
from .feeding import Batches, Rule

MATMULS = ("float32", "tf32", "bfloat16", "float16")

__all__ = [
    "MATMULS",
    "Backend",
    "BackendUnavailable",
    "Batches",
    "NetworkSpec",
    "Rule",
    "describe_cpu",
    "describe_gpus",
    "device_failure",
    "limit_cores",
    "memory_shortage",
    "restored",
    "select",
]


def select(device: str | Backend = "auto", matmul: str = "float32") -> Backend:
    """Choose the device that the network lives on.

    Parameters
    ----------
    device : {"auto", "cpu", "gpu", "gpu:N", "cuda", "cuda:N"} or Backend
        "auto" takes the first CUDA GPU where CuPy is installed and a device answers, else the
        CPU; the backend's `reason` says why. "gpu" is "gpu:0", and "cuda:N" is "gpu:N", which is
        the backend's name. A backend is returned as it is.
    matmul : {"float32", "tf32", "bfloat16", "float16"}
        What a GPU rounds the factors of float32 matrix products to; sums are float32. The CPU
        knows float32 alone.

    Raises
    ------
    BackendUnavailable
        If a GPU was asked for by name and cannot be used; one line with the cause, the install
        command and the way out.
    ValueError
        If `device` is no device's name, or `matmul` is not for it.
    """
    if isinstance(device, Backend):
        return device
    if matmul not in MATMULS:
        raise ValueError(f"matmul={matmul!r} is unknown: expected {' or '.join(MATMULS)}")
    if device == "cpu":
        from .cpu import CpuBackend

        if matmul != "float32":
            raise ValueError(f"matmul={matmul!r} is for a GPU: the CPU multiplies in float32 alone")
        return CpuBackend()
    if device == "auto":
        try:
            backend = select("gpu", matmul)
        except BackendUnavailable as error:
            if matmul != "float32":
                raise
            backend = select("cpu")
            backend.reason = str(error).split(";")[0]
        else:
            backend.reason = "a CUDA GPU answers"
        return backend
    match = re.fullmatch(r"(?:gpu|cuda)(?::(\d{1,4}))?", str(device))
    if not match:
        near = difflib.get_close_matches(str(device).lower(), ["auto", "cpu", "gpu", "cuda"], n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(
            f"unknown device {device!r}: expected auto, cpu, gpu or gpu:N (cuda, cuda:N){hint}"
        )
    from .gpu import GpuBackend

    return GpuBackend(int(match[1] or 0), matmul)


def restored(device: str, matmul: str = "float32") -> Backend:
    """Return the backend that was used, or the CPU, with a UserWarning, where it is not here."""
    try:
        return select(device, matmul)
    except BackendUnavailable as error:
        cause = str(error).split(";")[0]
        warnings.warn(f"{cause}: what was on {device} is now on the CPU", stacklevel=3)
        return select("cpu")


def memory_shortage(error: MemoryError) -> str:
    """Return one line on what was needed and what was free, on whichever device it was."""
    if "cupy" in sys.modules:
        from . import gpu

        return gpu.memory_shortage(error)
    return str(error)


def device_failure(error: Exception) -> str | None:
    """Return one line on how a device failed, or None if an exception is about something else."""
    if "cupy" in sys.modules:
        from . import gpu

        return gpu.device_failure(error)
    return None


def limit_cores(count: int) -> None:
    """Let this process compute on so many cores of the host at most."""
    from . import cpu

    cpu.limit_cores(count)


def describe_cpu() -> dict[str, Any]:
    """See `backends.cpu.describe`."""
    from . import cpu

    return cpu.describe()


def describe_gpus() -> list[dict[str, Any]]:
    """See `backends.gpu.describe`."""
    from . import gpu

    return gpu.describe()

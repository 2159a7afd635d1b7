"""CUDA GPUs through CuPy. This is the one module that imports it, and `select` imports this
module only when a GPU was asked for."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from .base import Backend, BackendUnavailable
from .functions import Array


class GpuBackend(Backend):
    """CuPy on one CUDA device, which becomes the thread's current device.

    Parameters
    ----------
    index : int
        The device's number, from 0.

    Raises
    ------
    BackendUnavailable
        If CuPy, the driver or the device is missing, or does not answer.
    """

    block_size = 64

    def __init__(self, index: int = 0) -> None:
        self._cupy = cupy = _import_cupy()
        count = _device_count(cupy)
        if index >= count:
            there = "gpu:0" if count == 1 else f"gpu:0 to gpu:{count - 1}"
            raise BackendUnavailable(
                f"gpu:{index} does not exist; this machine has {there}, or use --device cpu"
            )
        try:
            cupy.cuda.Device(index).use()
            # an elementwise kernel and a matrix product: the compiler and cuBLAS answer too
            ones = cupy.ones((2, 2), cupy.float32) + 1
            answer = float((ones @ ones).sum())
        except Exception as error:  # CuPy raises errors of a dozen kinds from its libraries
            raise BackendUnavailable(
                f"gpu:{index} does not answer: {_first_line(error)}; install CuPy with CUDA's"
                f' libraries: python -m pip install "{_wheel()}", or use --device cpu'
            ) from error
        if answer != 32.0:
            raise BackendUnavailable(
                f"gpu:{index} calculates wrongly: 32 came out as {answer}; use --device cpu"
            )
        from cupyx.scipy.special import expit

        self._expit = expit
        super().__init__(cupy, f"gpu:{index}", _device_name(cupy, index))

    def to_numpy(self, a: Array) -> np.ndarray:
        return self._cupy.asnumpy(a)

    def synchronize(self) -> None:
        self._cupy.cuda.get_current_stream().synchronize()

    def activate(self, name: str, z: Array) -> Array:
        return self._expit(z) if name == "sigmoid" else super().activate(name, z)

    def output(self, name: str, z: Array) -> Array:
        return self._expit(z) if name == "sigmoid" else super().output(name, z)


def describe() -> list[dict[str, Any]]:
    """Describe every CUDA device.

    Returns
    -------
    list of dict
        index, name, memory free and total in bytes, compute capability, and the versions of
        driver (the newest CUDA it supports), CUDA runtime and CuPy.

    Raises
    ------
    BackendUnavailable
        If there is none, with the cause.
    """
    cupy = _import_cupy()
    runtime = cupy.cuda.runtime
    devices = []
    for index in range(_device_count(cupy)):
        with cupy.cuda.Device(index) as device:
            free, total = device.mem_info
        capability = device.compute_capability
        devices.append(
            {
                "index": index,
                "name": _device_name(cupy, index),
                "memory_free": free,
                "memory_total": total,
                "compute_capability": f"{capability[:-1]}.{capability[-1]}",
                "driver": _version(runtime.driverGetVersion()),
                "cuda": _version(runtime.runtimeGetVersion()),
                "cupy": cupy.__version__,
            }
        )
    return devices


def _import_cupy() -> Any:
    try:
        import cupy
    except ModuleNotFoundError as error:
        if error.name != "cupy":
            raise _broken(error) from error
        driver = "" if _driver_version() else " and no NVIDIA driver was found"
        raise BackendUnavailable(
            f"CuPy is not installed{driver};"
            f' install it: python -m pip install "{_wheel()}", or use --device cpu'
        ) from error
    except (
        Exception
    ) as error:  # a wheel of another CUDA, a missing library: CuPy explains at length
        raise _broken(error) from error
    return cupy


def _broken(error: Exception) -> BackendUnavailable:
    return BackendUnavailable(
        f"CuPy does not import: {_first_line(error)};"
        f' install it anew: python -m pip install "{_wheel()}", or use --device cpu'
    )


def _device_count(cupy: Any) -> int:
    """Count the CUDA devices, at least one."""
    runtime = cupy.cuda.runtime
    try:
        driver = runtime.driverGetVersion()
    except runtime.CUDARuntimeError:
        driver = 0
    if driver == 0:
        raise BackendUnavailable(
            "no NVIDIA driver was found; install the driver of the graphics card"
            f' (and python -m pip install "{_wheel()}"), or use --device cpu'
        )
    try:
        count = runtime.getDeviceCount()
    except runtime.CUDARuntimeError as error:
        if "InsufficientDriver" in str(error):
            raise BackendUnavailable(
                f"the NVIDIA driver supports CUDA {_version(driver)}, CuPy was built for a newer"
                f' one; python -m pip install "{_wheel()}" matches it, or use --device cpu'
            ) from error
        if "NoDevice" in str(error):
            count = 0
        else:
            raise BackendUnavailable(
                f"CUDA does not answer: {_first_line(error)}; use --device cpu"
            ) from error
    if count == 0:
        raise BackendUnavailable(
            "no CUDA device is visible to the driver (is CUDA_VISIBLE_DEVICES set?);"
            f' with one, python -m pip install "{_wheel()}"; here use --device cpu'
        )
    return count


def _device_name(cupy: Any, index: int) -> str:
    name = cupy.cuda.runtime.getDeviceProperties(index)["name"]
    return name.decode() if isinstance(name, bytes) else str(name)


def _driver_version() -> int:
    """Ask the driver itself, without CuPy, for the newest CUDA it supports (13000 is 13.0)."""
    version = ctypes.c_int(0)
    for library in ("libcuda.so.1", "nvcuda.dll"):
        try:
            ctypes.CDLL(library).cuDriverGetVersion(ctypes.byref(version))
        except (OSError, AttributeError):
            continue
    return version.value


def _wheel() -> str:
    """Name the CuPy wheel that matches the driver; without one, the newest."""
    driver = _driver_version()
    return "cupy-cuda12x[ctk]" if 0 < driver < 13000 else "cupy-cuda13x[ctk]"


def _version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip(" =")]
    return lines[0] if lines else type(error).__name__

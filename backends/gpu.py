"""CUDA GPUs through CuPy.

This is the one module that imports CuPy, and `backends` imports this module only when a GPU was
asked for.
"""

from __future__ import annotations

import ctypes
from importlib.metadata import PackageNotFoundError, distribution
from typing import Any

import numpy as np

from .base import Backend, BackendUnavailable, NetworkSpec
from .functions import Array

_WHEELS = {12: "cupy-cuda12x", 13: "cupy-cuda13x"}


class GpuBackend(Backend):
    """CuPy on one CUDA device, which becomes the calling thread's current device.

    Use one such backend a thread, and it in that thread only.

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
            raise _unavailable(f"gpu:{index} does not exist, this machine has {there}")
        try:
            cupy.cuda.Device(index).use()
            # an elementwise kernel and a matrix product: the compiler and cuBLAS answer too
            ones = cupy.ones((2, 2), cupy.float32) + 1
            answer = float((ones @ ones).sum())
        # CuPy hands on errors of a dozen kinds from its libraries
        except Exception as error:
            raise _unavailable(f"gpu:{index} does not answer: {_first_line(error)}") from error
        if answer != 32.0:
            raise _unavailable(f"gpu:{index} calculates wrongly: 32 came out as {answer}")
        from cupyx.scipy.special import expit

        self._expit = expit
        super().__init__(cupy, f"gpu:{index}", _device_name(cupy, index))

    def to_numpy(self, a: Array) -> np.ndarray:
        return self._cupy.asnumpy(a)

    def synchronize(self) -> None:
        self._cupy.cuda.get_current_stream().synchronize()

    def prepare(
        self, spec: NetworkSpec, dtype: Any, batch_size: int, momentum: float, penalty: float
    ) -> None:
        # CuPy compiles each elementwise kernel at its first use: use them on a network of zeros
        weights = [self.xp.zeros(shape, dtype=spec.dtype) for shape in spec.shapes]
        values = self.xp.zeros((2, spec.sizes[0]), dtype=dtype)
        labels = self.xp.zeros(2, dtype=self.xp.int64)
        rates = [0.0] * (2 if batch_size == 1 else 1)
        speeds = [self.xp.zeros_like(w) for w in weights] if momentum else []
        self.sgd(spec, weights, speeds, values, labels, rates, batch_size, momentum, penalty)
        self.synchronize()

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
        if error.name == "cupy":
            driver = "" if _driver_version() else " and no NVIDIA driver was found"
            raise _unavailable(f"CuPy is not installed{driver}") from error
        raise _unavailable(f"CuPy does not import: {_first_line(error)}") from error
    # a wheel of another CUDA, a missing library: CuPy explains at length
    except Exception as error:
        raise _unavailable(f"CuPy does not import: {_first_line(error)}") from error
    return cupy


def _device_count(cupy: Any) -> int:
    """Count the CUDA devices, at least one."""
    runtime = cupy.cuda.runtime
    try:
        driver = runtime.driverGetVersion()
    except runtime.CUDARuntimeError:
        driver = 0
    if driver == 0:
        raise _unavailable("no NVIDIA driver was found, which comes with the graphics card")
    try:
        count = runtime.getDeviceCount()
    except runtime.CUDARuntimeError as error:
        if "InsufficientDriver" in str(error):
            raise _unavailable(
                f"the NVIDIA driver supports CUDA {_version(driver)}, CuPy is built for a newer one"
            ) from error
        if "NoDevice" not in str(error):
            raise _unavailable(f"CUDA does not answer: {_first_line(error)}") from error
        count = 0
    if count == 0:
        raise _unavailable("no CUDA device is visible to the driver (is CUDA_VISIBLE_DEVICES set?)")
    return count


def _unavailable(cause: str) -> BackendUnavailable:
    """One line: the cause, what to type for a GPU, and what to type without one."""
    return BackendUnavailable(f"{cause}; for a GPU: {_install_command()}; else: --device cpu")


def _install_command() -> str:
    """Name the CuPy wheel for the driver; without a driver the installed one, or the newest."""
    installed = [wheel for wheel in _WHEELS.values() if _is_installed(wheel)]
    driver = _driver_version()
    if driver:
        wheel = _WHEELS[12 if driver < 13000 else 13]
    else:
        wheel = installed[0] if installed else _WHEELS[13]
    # two of CuPy's wheels overwrite each other's files
    others = [f"python -m pip uninstall -y {other} && " for other in installed if other != wheel]
    return f'{"".join(others)}python -m pip install "{wheel}[ctk]"'


def _is_installed(name: str) -> bool:
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True


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


def _version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip(" =")]
    return lines[0] if lines else type(error).__name__

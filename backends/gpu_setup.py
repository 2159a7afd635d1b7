"""Finding CUDA devices, and what to install where there is none.

CuPy is imported in `gpu.py` alone, which hands it over.
"""

from __future__ import annotations

import ctypes
import sys
from importlib.metadata import distributions
from typing import Any

from .device import BackendUnavailable

WHEELS = {12: "cupy-cuda12x", 13: "cupy-cuda13x"}
OLDEST_DRIVER = 12000  # for CUDA 12.0, as cuDriverGetVersion says it
OLDEST = "14.1"  # of CuPy: the first with all of the array API that is used, such as isdtype


def not_imported(error: Exception) -> BackendUnavailable:
    """Return what to raise where CuPy does not import."""
    if isinstance(error, ModuleNotFoundError) and error.name == "cupy":
        driver = "" if driver_version() else " and no NVIDIA driver was found"
        return unavailable(f"CuPy is not installed{driver}")
    return unavailable(f"CuPy does not import: {first_line(error)}")


def describe(cupy: Any) -> list[dict[str, Any]]:
    """Describe every CUDA device.

    Parameters
    ----------
    cupy : module

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
    runtime = cupy.cuda.runtime

    def about(index: int) -> dict[str, Any]:
        with cupy.cuda.Device(index) as device:
            free, total = device.mem_info
        capability = device.compute_capability
        return {
            "index": index,
            "name": device_name(cupy, index),
            "memory_free": free,
            "memory_total": total,
            "compute_capability": f"{capability[:-1]}.{capability[-1]}",
            "driver": version(runtime.driverGetVersion()),
            "cuda": version(runtime.runtimeGetVersion()),
            "cupy": cupy.__version__,
        }

    return [about(index) for index in range(device_count(cupy))]


def device_count(cupy: Any) -> int:
    """Count the CUDA devices, at least one."""
    runtime = cupy.cuda.runtime
    try:
        driver = runtime.driverGetVersion()
    except runtime.CUDARuntimeError:
        driver = 0
    if driver == 0:
        raise unavailable("no NVIDIA driver was found")
    try:
        count = runtime.getDeviceCount()
    except runtime.CUDARuntimeError as error:
        if "InsufficientDriver" in str(error):
            raise unavailable(
                f"the NVIDIA driver supports CUDA {version(driver)}, CuPy is built for a newer one"
            ) from error
        if "NoDevice" not in str(error):
            raise unavailable(f"CUDA does not answer: {first_line(error)}") from error
        count = 0
    if count == 0:
        raise unavailable("no CUDA device is visible to the driver (is CUDA_VISIBLE_DEVICES set?)")
    return count


def unavailable(cause: str) -> BackendUnavailable:
    """Return an error of one line: the cause, what to type for a GPU, and what without one."""
    return BackendUnavailable(f"{cause}; {_advice()}; else: --device cpu")


def _advice() -> str:
    """Return what a GPU needs here, the driver before CuPy."""
    if sys.platform == "darwin":
        return "macOS has no CUDA, and Apple's GPUs are not used: it computes on the CPU"
    driver = driver_version()
    if not driver:
        return (
            "for an NVIDIA GPU first its driver, 580 or newer (nvidia-smi then shows it), then:"
            f" {install_command()}; GPUs of other makers are not used"
        )
    if driver < OLDEST_DRIVER:
        older = f"this one is for CUDA {version(driver)}"
        return f"for a GPU first a newer driver, 525 at least ({older}), then: {install_command()}"
    return f"for a GPU: {install_command()}"


def install_command() -> str:
    """Name the CuPy wheel for the driver; without a driver the installed one, or the newest."""
    installed = [wheel for wheel in WHEELS.values() if is_installed(wheel)]
    driver = driver_version()
    if driver:
        wheel = WHEELS[12 if driver < 13000 else 13]
    else:
        wheel = installed[0] if installed else WHEELS[13]
    # two of CuPy's wheels overwrite each other's files
    others = [f"python -m pip uninstall -y {other} && " for other in installed if other != wheel]
    return f'{"".join(others)}python -m pip install "{wheel}[ctk]>={OLDEST}"'


def is_installed(name: str) -> bool:
    """Return whether there is a distribution of that name."""
    return any(distributions(name=name))


def device_name(cupy: Any, index: int) -> str:
    """Return what the maker calls a device."""
    name = cupy.cuda.runtime.getDeviceProperties(index)["name"]
    return name.decode() if isinstance(name, bytes) else str(name)


def driver_version() -> int:
    """Ask the driver itself, without CuPy, for the newest CUDA it supports (13000 is 13.0)."""
    version = ctypes.c_int(0)
    for library in ("libcuda.so.1", "nvcuda.dll"):
        try:
            ctypes.CDLL(library).cuDriverGetVersion(ctypes.byref(version))
        except (OSError, AttributeError):
            continue
    return version.value


def version(number: int) -> str:
    """Write a CUDA version as its makers do: 12040 is 12.4."""
    return f"{number // 1000}.{number % 1000 // 10}"


def first_line(error: Exception) -> str:
    """Return the first line of an error that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip(" =")]
    return lines[0] if lines else type(error).__name__

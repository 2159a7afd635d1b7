"""`devices`: what there is to train on, and what is missing for a GPU."""

from __future__ import annotations

from importlib.metadata import packages_distributions
from typing import Any

from backends import BackendUnavailable, describe_cpu, describe_gpus

from .. import display

_DISTRIBUTION = "xptrainer"
_PACKAGES = ("trainer", "backends")


def run() -> int:
    """List the CPU, every GPU, and what is missing for one."""
    cpu = describe_cpu()
    rows = [("cpu", [f"{cpu['name']}, {cpu['cores']} cores for this process", numpy_of(cpu)])]
    try:
        for gpu in describe_gpus():
            free, total = gpu["memory_free"] / 2**30, gpu["memory_total"] / 2**30
            lines = [
                f"{gpu['name']}, compute capability {gpu['compute_capability']}",
                f"{free:.1f} of {total:.1f} GiB free",
                f"CuPy {gpu['cupy']}, CUDA {gpu['cuda']}, driver for {gpu['driver']}",
            ]
            rows.append((f"gpu:{gpu['index']}", lines))
    except BackendUnavailable as error:
        rows.append(("gpu", [f"none: {error}"]))
    if conflicts := _conflicts():
        rows.append(("note", conflicts))
    display.devices(rows)
    return 0


def numpy_of(cpu: dict[str, Any]) -> str:
    """Return which NumPy with which BLAS the CPU computes with."""
    return f"NumPy {cpu['numpy']} with {', '.join(cpu['blas']) or 'a BLAS unknown to it'}"


def _conflicts() -> list[str]:
    """Return a line for each other installed distribution with a package `trainer` or `backends`.

    Distributions that install the same file overwrite each other's, and uninstalling one removes
    it.
    """
    installed = packages_distributions()
    found: dict[str, list[str]] = {}
    for package in _PACKAGES:
        for distribution in dict.fromkeys(installed.get(package, [])):
            if distribution.lower() != _DISTRIBUTION:
                found.setdefault(distribution, []).append(package)
    return [
        f"the distribution {name} also installs {' and '.join(packages)}, so that one of the two"
        " may overwrite the other's files; install xptrainer into a virtual environment of its"
        " own: python -m venv .venv"
        for name, packages in sorted(found.items())
    ]

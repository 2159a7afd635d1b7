"""`devices`: what there is to train on, and what is missing for a GPU."""

from __future__ import annotations

from importlib.metadata import packages_distributions

from backends import BackendUnavailable, describe_cpu, describe_gpus

from .. import display
from .words import numpy_words

_DISTRIBUTION = "xptrainer"
_PACKAGES = ("trainer", "backends")


def run() -> int:
    """List the CPU, every GPU, and what is missing for one."""
    cpu = describe_cpu()
    rows = [("cpu", [f"{cpu['name']}, {cpu['cores']} cores for this process", numpy_words(cpu)])]
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


def _conflicts() -> list[str]:
    """Return a line for each other installed distribution with a package `trainer` or `backends`.

    Distributions that install the same file overwrite each other's, and uninstalling one removes
    it.
    """
    installed = packages_distributions()
    held = {package: installed.get(package, []) for package in _PACKAGES}
    others = {name for names in held.values() for name in names if name.lower() != _DISTRIBUTION}
    return [
        f"the distribution {name} also installs"
        f" {' and '.join(package for package in held if name in held[package])}, so that one of the"
        " two may overwrite the other's files; install xptrainer into a virtual environment of its"
        " own: python -m venv .venv"
        for name in sorted(others)
    ]

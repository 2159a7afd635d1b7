"""`devices`: what there is to train on, and what is missing for a GPU."""

from __future__ import annotations

from importlib.metadata import packages_distributions
from typing import Any

from backends import BackendUnavailable, describe_cpu, describe_gpus

from .. import display
from .options import Json
from .words import numpy_words

_DISTRIBUTION = "xptrainer"
_PACKAGES = ("trainer", "backends")


def run(*, as_json: Json = False) -> int:
    """List the CPU, every GPU, and what is missing for one.

    A name in the first column is what --device takes; cuda:N is another name of gpu:N.

        python -m trainer devices
        python -m trainer devices --json
    """
    cpu, notes, missing = describe_cpu(), _conflicts(), ""
    gpus: list[dict[str, Any]] = []
    try:
        gpus = describe_gpus()
    except BackendUnavailable as error:
        missing = str(error)
    if as_json:
        named = [{"device": f"gpu:{gpu['index']}"} | gpu for gpu in gpus]
        about: dict[str, Any] = {"cpu": {"device": "cpu"} | cpu, "gpus": named}
        display.json_line(about | {"missing": missing or None, "notes": notes})
        return 0
    rows = [("cpu", [f"{cpu['name']}, {cpu['cores']} cores for this process", numpy_words(cpu)])]
    for gpu in gpus:
        free, total = gpu["memory_free"] / 2**30, gpu["memory_total"] / 2**30
        lines = [
            f"{gpu['name']}, compute capability {gpu['compute_capability']}",
            f"{free:.1f} of {total:.1f} GiB free",
            f"CuPy {gpu['cupy']}, CUDA {gpu['cuda']}, driver for {gpu['driver']}",
        ]
        rows.append((f"gpu:{gpu['index']}", lines))
    if missing:
        rows.append(("gpu", [f"none: {missing}"]))
    if notes:
        rows.append(("note", notes))
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

"""What files of weights state besides arrays: all that is needed to answer with them."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from backends.functions import ACTIVATIONS, LOSSES, OUTPUTS

from ..array_files import npz_names, read_npz
from ..files import read_plain
from .own import ForeignFileError, WeightFileError, read_metadata, read_safetensors, reading
from .weights import INPUT_MAP, NETWORK_FILE

PROGRAM = "xptrainer"  # who wrote a `NETWORK_FILE`
_KNOWN: dict[str, Collection[str]] = {"activation": ACTIVATIONS, "output": OUTPUTS, "loss": LOSSES}
_LISTS = ("classes", "value_range")
_WORD_BYTES = 1 << 20  # of an npz archive's words, which are not weights


def read_stated(files: Sequence[Path]) -> dict[str, Any]:
    """Return what the files say of their network besides its weights.

    Returns
    -------
    dict
        Those that are there of: activation, output and loss, names; classes, a tuple of labels;
        value_range, a tuple of two numbers; scale and shift, arrays of shape () or (inputs,).

    Raises
    ------
    WeightFileError
        If a file cannot be read, or says what this program does not know.
    """
    file, suffix = files[0], files[0].suffix.lower()
    if not file.is_file():
        return {}
    if suffix == ".onnx":
        from .onnx_graph import read_onnx

        weights = read_onnx(file)
        maps = zip(INPUT_MAP, weights.input_map or (), strict=False)
        return weights.stated | dict(maps)
    if suffix == ".safetensors":
        return _of_safetensors(file)
    if suffix == ".npz":
        with reading(file, "npz archive"):
            names = [n for n in npz_names(file) if n in (*_KNOWN, *_LISTS, *INPUT_MAP)]
            found = {n: a.tolist() for n, a in read_npz(file, names, _WORD_BYTES).items()}
        return _checked(found, file)
    beside = file.parent / NETWORK_FILE
    if suffix in (".csv", ".npy") and beside.exists():
        with reading(beside, "JSON file"):
            found = json.loads(read_plain(beside))
        if isinstance(found, dict) and found.get("program") == PROGRAM:
            return _checked(found, beside)
    return {}


def _of_safetensors(file: Path) -> dict[str, Any]:
    try:
        arrays, settings = read_safetensors(file)
        return _checked(settings | {n: arrays[n].tolist() for n in INPUT_MAP if n in arrays}, file)
    except ForeignFileError:
        metadata = read_metadata(file)
        with reading(file, "safetensors file"):
            found: dict[str, Any] = {n: metadata[n] for n in _KNOWN if n in metadata}
            found |= {n: json.loads(metadata[n]) for n in (*_LISTS, *INPUT_MAP) if n in metadata}
        return _checked(found, file)


def _checked(found: dict[str, Any], file: Path) -> dict[str, Any]:
    """Return what is known of it, in its types; raise WeightFileError for what is unknown."""
    stated: dict[str, Any] = {}
    for name, known in _KNOWN.items():
        value = found.get(name)
        if isinstance(value, str) and value not in known:
            raise WeightFileError(
                f"{file}: its {name} is {value[:40]!r}; expected {', '.join(known)}"
            )
        if isinstance(value, str):
            stated[name] = value
    for name in _LISTS:
        value = found.get(name)
        if isinstance(value, list) and all(isinstance(v, int | float | str) for v in value):
            stated[name] = tuple(value)
    maps = {n: _map_part(found[n]) for n in INPUT_MAP if n in found}
    if len(maps) == len(INPUT_MAP) and all(part is not None for part in maps.values()):
        stated |= maps
    return stated


def _map_part(value: Any) -> np.ndarray | None:
    """Return numbers as a scale or a shift; None if they are none."""
    try:
        part = np.asarray(value, np.float64)
    except (TypeError, ValueError):
        return None
    return part if part.ndim < 2 and np.isfinite(part).all() else None

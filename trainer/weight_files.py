"""Weights on disk: safetensors with the network's settings beside the arrays."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from .files import write_whole

MODEL_FILE = "model.safetensors"  # in a run folder
_KEY = "xptrainer"


class WeightFileError(ValueError):
    """A weight file cannot be read; one line with the file, what was found and what was wanted."""


def write_safetensors(
    path: str | Path, arrays: dict[str, np.ndarray], settings: dict[str, Any]
) -> None:
    """Write named arrays and JSON settings into one safetensors file, whole or not at all."""
    from safetensors.numpy import save

    # not ascontiguousarray, which makes a single number an array of one
    contiguous = {name: np.asarray(a, order="C") for name, a in arrays.items()}
    write_whole(path, save(contiguous, metadata={_KEY: json.dumps(settings)}))


def read_safetensors(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read what `write_safetensors` wrote.

    Raises
    ------
    WeightFileError
        If the file is missing, damaged or not one of this program's.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise WeightFileError(f"{path}: no such file; expected weights saved by this program")
    try:
        with safe_open(path, framework="numpy") as file:
            settings = json.loads((file.metadata() or {})[_KEY])
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except KeyError as error:
        raise WeightFileError(
            f"{path}: a safetensors file without this program's settings; expected one that "
            "`train` or MLP.save wrote"
        ) from error
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightFileError(f"{path}: not a whole safetensors file ({error})") from error
    if not isinstance(settings, dict):
        raise WeightFileError(f"{path}: its settings are no JSON object")
    return arrays, settings

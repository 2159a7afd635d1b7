"""Weights of this program: one safetensors file with the network's settings and a checksum."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ..array_files import ArrayFileError, FileError, parsing
from ..files import write_whole

MODEL_FILE = "model.safetensors"  # in a run folder
# of the metadata: the settings, and the sum of the file with zeros in its place
_KEY, _CHECKSUM = "xptrainer", "sha256"
_STATE = "training"  # of the arrays: a checkpoint's JSON
_NO_SUM = "0" * 64


class WeightFileError(FileError):
    """A weight file cannot be read; one line with the file, what was found and what was wanted."""


class ForeignFileError(WeightFileError):
    """A sound safetensors file that another program wrote."""


@contextmanager
def reading(path: Path, what: str) -> Iterator[None]:
    """Turn whatever a parser stumbles over into a WeightFileError that names the file."""
    try:
        with parsing(path, what):
            yield
    except ArrayFileError as error:
        raise WeightFileError(str(error)) from error


def write_safetensors(
    path: str | Path,
    arrays: dict[str, np.ndarray],
    settings: dict[str, Any],
    state: dict[str, Any] | None = None,
) -> None:
    """Write one safetensors file, whole or not at all, with a checksum over all of it.

    Its settings are the network's; with a state of the training it is a checkpoint, and still a
    network's file. Both must be fit for JSON.
    """
    from safetensors.numpy import save

    # not ascontiguousarray, which makes a single number an array of one
    contiguous = {name: np.asarray(a, order="C") for name, a in arrays.items()}
    if state is not None:  # as an array, for the length of the metadata has a limit
        contiguous[_STATE] = np.frombuffer(json.dumps(state).encode(), np.uint8)
    metadata = {_KEY: json.dumps(settings), _CHECKSUM: _NO_SUM}
    content = _in_one_order(save(contiguous, metadata=metadata))
    place = content.index(_sum_entry(_NO_SUM))
    entry = _sum_entry(hashlib.sha256(content).hexdigest())
    content[place : place + len(entry)] = entry
    write_whole(path, content)


def _in_one_order(content: bytes) -> bytearray:
    """Sort the header, so that equal contents make equal files."""
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8:end]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return bytearray(len(header).to_bytes(8, "little") + header + content[end:])


def read_safetensors(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read the arrays and settings that `write_safetensors` wrote, else WeightFileError."""
    arrays, settings, _ = _read_ours(Path(path))
    return arrays, settings


def read_checkpoint(
    path: str | Path,
) -> tuple[dict[str, np.ndarray], dict[str, Any], dict[str, Any]]:
    """Read the arrays, settings and state that `write_safetensors` wrote, else WeightFileError."""
    arrays, settings, state = _read_ours(Path(path))
    if not isinstance(state, dict):
        raise WeightFileError(f"{path}: weights alone; expected a checkpoint that `train` wrote")
    return arrays, settings, state


def _read_ours(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any], Any]:
    from safetensors.numpy import load

    if not path.is_file():
        raise WeightFileError(f"{path}: no such file; expected weights saved by this program")
    with reading(path, "safetensors file"):
        content = path.read_bytes()
        arrays = load(content)  # which checks the header
        size = 8 + int.from_bytes(content[:8], "little")
        metadata = json.loads(content[8:size]).get("__metadata__") or {}
        if _CHECKSUM in metadata or _STATE in arrays:  # else from before there were sums
            _check_sum(content, size, metadata[_CHECKSUM])
        settings = json.loads(metadata.get(_KEY, "null"))
        state = json.loads(arrays.pop(_STATE, np.frombuffer(b"null", np.uint8)).tobytes())
    if _KEY not in metadata:
        raise ForeignFileError(
            f"{path}: a safetensors file without this program's settings; expected one that `train`"
            " or MLP.save wrote"
        )
    if not isinstance(settings, dict):
        raise WeightFileError(f"{path}: its settings are no JSON object")
    return arrays, settings, state


def read_metadata(path: Path) -> dict[str, str]:
    """Return the texts in the header of any safetensors file, else raise WeightFileError."""
    from safetensors import safe_open

    with reading(path, "safetensors file"), safe_open(path, "numpy") as file:
        return file.metadata() or {}


def _check_sum(content: bytes, header: int, promised: str) -> None:
    was = content[:header].replace(_sum_entry(promised), _sum_entry(_NO_SUM), 1)
    found = hashlib.sha256(was)
    found.update(memoryview(content)[header:])
    if found.hexdigest() != promised:
        raise ValueError("its bytes have the wrong SHA-256, so it is damaged")


def _sum_entry(digits: str) -> bytes:
    return f'"{_CHECKSUM}":"{digits}"'.encode()

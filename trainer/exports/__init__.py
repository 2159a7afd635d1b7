"""A network in files that other programs read, with all that is needed to answer with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from . import arrays, html, onnx, torch
from .exported import Exported


class Format(NamedTuple):
    """One format: where it goes by default, what writes it, and what says in a line what it is."""

    default: str
    write: Callable[[Exported, Path], list[Path]]
    contents: Callable[[Exported], str]


FORMATS = {
    "npz": Format("weights.npz", arrays.write_npz, arrays.npz_contents),
    "npy-pair": Format("weights", arrays.write_pair, arrays.pair_contents),
    "mat": Format("weights.mat", arrays.write_mat, arrays.mat_contents),
    "csv": Format("weights", arrays.write_csv, arrays.csv_contents),
    "torch": Format("model.safetensors", torch.write, torch.contents),
    "onnx": Format("model.onnx", onnx.write, onnx.contents),
    "html": Format("network.html", html.write, html.contents),
}

__all__ = ["FORMATS", "Exported", "Format"]

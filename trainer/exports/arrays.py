"""Exports as plain arrays: NumPy's, MATLAB's, the lesson's pair, and tables of numbers."""

from __future__ import annotations

import io
import json
import os
import tempfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from ..files import write_whole
from ..weight_files import WeightFileError, from_matlab
from ..weight_files.stated import PROGRAM
from ..weight_files.weights import INPUT_MAP, NETWORK_FILE
from .exported import Exported, write_file

PAIR = ("weights.npy", "weights02.npy")  # the lesson's names: the output layer's come first


def write_npz(network: Exported, out: Path) -> list[Path]:
    """Write W1 (inputs, units), b1, W2, …, scale, shift, and the facts, words as strings."""
    facts = {n: v for n, v in network.facts().items() if v is not None}
    if "columns" in facts:
        facts["columns"] = json.dumps(facts["columns"])
    return write_file(
        out, ".npz", _bytes_of(np.savez, **_named(network), **_maps(network), **facts)
    )


def write_mat(network: Exported, out: Path) -> list[Path]:
    """Write Theta1 (units, 1 + inputs), Theta2, …, in MATLAB's order of pixels and classes.

    The biases, or zeros, stand first.
    """
    from scipy.io import savemat

    weights = network.weights
    thetas: dict[str, Any] = {}
    theirs = from_matlab(weights, network.image_shape, network.classes, undo=True)
    for layer, (W, b) in enumerate(theirs.layers, 1):
        first = np.zeros(W.shape[1], W.dtype) if b is None else b
        thetas[f"Theta{layer}"] = np.vstack([first, W]).T
    thetas |= dict(zip(INPUT_MAP, theirs.input_map or (), strict=False))
    facts = network.metadata()
    names = ("activation", "output", "loss", "value_range", "columns")
    thetas |= {name: facts[name] for name in names if name in facts}
    classes = np.array(network.classes)
    if list(network.classes) == list(range(10)):
        classes = np.roll(classes, -1)  # as the outputs are
    thetas["classes"] = classes if classes.dtype.kind == "i" else classes.astype(object)
    return write_file(out, ".mat", _bytes_of(savemat, thetas))


def write_pair(network: Exported, out: Path) -> list[Path]:
    """Write weights.npy (outputs, hidden), weights02.npy (hidden, inputs) and network.json."""
    weights = network.weights
    layers = weights.layers
    if len(layers) != 2 or weights.bias:
        what = f"{len(layers)} matrices{' and biases' if weights.bias else ''}"
        raise WeightFileError(
            "--format npy-pair: two matrices without biases are a pair; this network has"
            f" {what}: take --format npz"
        )
    pair = zip(PAIR, reversed(weights.arrays), strict=True)
    files = {name: _bytes_of(np.save, np.ascontiguousarray(W.T)) for name, W in pair}
    return _write_folder(out, files | {NETWORK_FILE: _network_file(network)})


def write_csv(network: Exported, out: Path) -> list[Path]:
    """Write W1.csv (inputs, units), b1.csv, W2.csv, … and network.json."""
    files = {}
    for name, array in _named(network).items():
        # so many digits that the very same number is read again
        digits = "%.9g" if array.dtype == np.float32 else "%.17g"
        table = np.atleast_2d(array)
        files[f"{name}.csv"] = _bytes_of(np.savetxt, table, fmt=digits, delimiter=",")
    return _write_folder(out, files | {NETWORK_FILE: _network_file(network)})


def npz_contents(network: Exported) -> str:
    """Return in a line what `write_npz` writes."""
    return f"{csv_contents(network)}, {', '.join(INPUT_MAP)}, activation, output, classes"


def csv_contents(network: Exported) -> str:
    """Return in a line which arrays `write_csv` writes."""
    layers = [
        f"W{i} ({inputs}, {units})" + (f", b{i} ({units})" if network.weights.bias else "")
        for i, (inputs, units) in enumerate(pairwise(network.weights.sizes), 1)
    ]
    return ", ".join(layers)


def pair_contents(network: Exported) -> str:
    """Return in a line which arrays `write_pair` writes."""
    shapes = reversed(list(pairwise(network.weights.sizes)))
    pair = zip(PAIR, shapes, strict=True)
    return ", ".join(f"{name} ({units}, {inputs})" for name, (inputs, units) in pair)


def mat_contents(network: Exported) -> str:
    """Return in a line what `write_mat` writes."""
    shapes = enumerate(pairwise(network.weights.sizes), 1)
    thetas = [f"Theta{i} ({units}, 1 + {inputs})" for i, (inputs, units) in shapes]
    order = "; images column by column" if network.image_shape is not None else ""
    if list(network.classes) == list(range(10)):
        order += ", the digit 0 as class 10" if order else "; the class 0 as the last"
    return ", ".join(thetas) + order


def _named(network: Exported) -> dict[str, np.ndarray]:
    layers = enumerate(network.weights.layers, 1)
    return {
        name: array
        for i, (W, b) in layers
        for name, array in ((f"W{i}", W), (f"b{i}", b))
        if array is not None
    }


def _maps(network: Exported) -> dict[str, np.ndarray]:
    return dict(zip(INPUT_MAP, network.weights.input_map or (), strict=False))


def _network_file(network: Exported) -> bytes:
    maps = {name: part.tolist() for name, part in _maps(network).items()}
    facts = {"program": PROGRAM} | network.facts() | maps
    return (json.dumps(facts, indent=2, ensure_ascii=False) + "\n").encode()


def _bytes_of(save: Callable[..., None], *things: Any, **named: Any) -> bytes:
    content = io.BytesIO()
    save(content, *things, **named)
    return content.getvalue()


def _write_folder(out: Path, files: dict[str, bytes]) -> list[Path]:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise WeightFileError(f"--out {out}: is there already; expected a new or empty folder")
    parent = out.absolute().parent
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=parent, prefix=f".{out.name}.") as temporary:
        whole = Path(temporary) / "whole"
        whole.mkdir()
        for name, content in files.items():
            write_whole(whole / name, content)
        if out.exists():
            out.rmdir()
        os.rename(whole, out)
    return [out / name for name in files]

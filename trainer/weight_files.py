"""Weights on disk: safetensors with the network's settings, and what other programs write.

Everybody else's files hold arrays and little more. `read_weights` finds out by their shapes which
is which and which way round it is stored, `write_weights` writes them as others expect them.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import re
import tempfile
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np

from .array_files import (
    ArrayFileError,
    FileError,
    check_lines,
    parsing,
    read_mat,
    read_npy,
    read_npz,
)
from .files import write_whole

MODEL_FILE = "model.safetensors"  # in a run folder
FORMATS = ("npz", "npy-pair", "mat", "csv")
SUFFIXES = (".npy", ".npz", ".mat", ".csv", ".safetensors")
PAIR = ("weights.npy", "weights02.npy")  # the lesson's names: the output layer's come first
# of the metadata: the settings, and the sum of the file with zeros in its place
_KEY, _CHECKSUM = "xptrainer", "sha256"
_STATE = "training"  # of the arrays: a checkpoint's JSON
_NO_SUM = "0" * 64
_INPUT_MAP = ("scale", "shift")
_LARGEST = 1 << 31  # bytes of weights
_ALONE = "; this is one matrix alone: give the folder that holds those of all layers"
_SMALLEST_SIDE = 7  # of a square image
_NUMBERED = re.compile(
    r"(?:.*[^a-z])?(?:theta|w|weights?|kernel|b|bias|biases)_?(\d{1,9})", re.IGNORECASE
)
_BIAS = re.compile(r"(.*[^a-z])?(b|bias|biases)(_?\d+)?", re.IGNORECASE)


class WeightFileError(FileError):
    """A weight file cannot be read; one line with the file, what was found and what was wanted."""


class ForeignFileError(WeightFileError):
    """A sound safetensors file that another program wrote."""


class ShapeError(WeightFileError):
    """Arrays that make no network of the wanted inputs and outputs, or more than one."""


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
    try:
        with parsing(path, "safetensors file"):
            content = path.read_bytes()
            arrays = load(content)  # which checks the header
            size = 8 + int.from_bytes(content[:8], "little")
            metadata = json.loads(content[8:size]).get("__metadata__") or {}
            if _CHECKSUM in metadata or _STATE in arrays:  # else from before there were sums
                _check_sum(content, size, metadata[_CHECKSUM])
            settings = json.loads(metadata.get(_KEY, "null"))
            state = json.loads(arrays.pop(_STATE, np.frombuffer(b"null", np.uint8)).tobytes())
    except ArrayFileError as error:
        raise WeightFileError(str(error)) from error
    if _KEY not in metadata:
        raise ForeignFileError(
            f"{path}: a safetensors file without this program's settings; expected one that `train`"
            " or MLP.save wrote"
        )
    if not isinstance(settings, dict):
        raise WeightFileError(f"{path}: its settings are no JSON object")
    return arrays, settings, state


def _check_sum(content: bytes, header: int, promised: str) -> None:
    was = content[:header].replace(_sum_entry(promised), _sum_entry(_NO_SUM), 1)
    found = hashlib.sha256(was)
    found.update(memoryview(content)[header:])
    if found.hexdigest() != promised:
        raise ValueError("its bytes have the wrong SHA-256, so it is damaged")


def _sum_entry(digits: str) -> bytes:
    return f'"{_CHECKSUM}":"{digits}"'.encode()


# --- everybody else's files -----------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Weights:
    """Arrays in the order and orientation of `MLP.get_weights`."""

    arrays: list[np.ndarray]  # W1 (fan_in, fan_out)[, b1 (fan_out,)], W2, …, of one float dtype
    bias: bool
    matlab: bool = False  # whether MATLAB wrote them; see `from_matlab`
    input_map: tuple[np.ndarray, np.ndarray] | None = None  # scale and shift, where it is there

    @property
    def layers(self) -> list[tuple[np.ndarray, np.ndarray | None]]:
        """W and b of every layer, b None without biases."""
        if not self.bias:
            return [(W, None) for W in self.arrays]
        return list(zip(self.arrays[::2], self.arrays[1::2], strict=True))

    @property
    def sizes(self) -> list[int]:
        """Units of every layer, inputs first."""
        return [self.arrays[0].shape[0], *(W.shape[1] for W, _ in self.layers)]


def weight_files(path: Path) -> list[Path]:
    """Name the files of weights that a path stands for: itself, or a folder's, of one kind."""
    if path.is_file() and path.suffix.lower() in SUFFIXES:
        return [path]
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES)
        if len({file.suffix.lower() for file in files}) == 1:
            return files
        found = ", ".join(file.name for file in files[:4]) or "none"
        hint = "; put those that belong together into a folder of their own" if files else ""
        raise WeightFileError(
            f"{path}: expected a folder of weight files of one kind, {_or(SUFFIXES)}; found"
            f" {found}{hint}"
        )
    expected = f"expected {_or(SUFFIXES)}, or a folder of such"
    if not path.exists():
        raise WeightFileError(f"{path}: no such file or folder; {expected}")
    raise WeightFileError(
        f"{path}: no weight file; {expected}; the program that has the weights writes one by"
        ' np.savez("weights.npz", W1, W2)'
    )


def read_weights(
    files: Sequence[Path],
    inputs: int,
    outputs: Iterable[int],
    *,
    transposed: bool | None = None,
    or_square: bool = False,
) -> Weights:
    """Read the weights of a network of any depth from one or several files.

    Parameters
    ----------
    files : sequence of Path
        ``.npy`` or ``.csv``, one an array, in either order; or one ``.npz``, ``.mat`` or
        ``.safetensors``. Arrays whose names are numbered (W1, b1, Theta2) are taken in that order.
    inputs, outputs : int, collection of int
        The network's inputs, and how many outputs it may have.
    transposed : bool, optional
        True for matrices (units, inputs of the layer), as the lessons and MATLAB store them, False
        for (inputs, units); found out by the shapes, and wanted only where both would fit. A
        first column (row) of biases is found out likewise.
    or_square : bool
        Whether another number of inputs will do, if it is that of a square image's pixels.

    Raises
    ------
    WeightFileError
        No numbers, unreadable files, or shapes that make no such network or more than one.
    """
    named = [part for file in files for part in _read_arrays(file, alone=len(files) == 1)]
    where = ", ".join(map(str, files))
    maps = {
        name: _as_numbers(array, f"{where}: {name}") for name, array in named if name in _INPUT_MAP
    }
    selected, in_order = _selected(named)
    parts = [
        (name, _as_numbers(array, f"{where}: {name}")) for name, array in selected if array.ndim
    ]
    outputs = sorted(outputs)
    found = ", ".join(f"{name} {array.shape}" for name, array in parts) or "no arrays"
    ways = _ways(parts, in_order, {inputs}, outputs)
    if or_square and not ways:
        ways = _ways(parts, in_order, _squares(parts), outputs)
    if transposed is not None:
        ways = {way: arrays for way, arrays in ways.items() if way == transposed}
    if not ways:
        how = "" if transposed is None else f" with --{'' if transposed else 'no-'}transposed"
        more = ", or of another square number of them" if or_square else ""
        raise ShapeError(
            f"{where}: {found} make no network of {inputs} inputs{more} and {_or(outputs)}"
            f" outputs{how};"
            f" expected matrices such as (200, {inputs}) and ({outputs[-1]}, 200), either way"
            " round, with a vector of biases each, a first column of them, or none"
            f"{_ALONE if len(parts) == 1 else ''}"
        )
    if len(ways) > 1:
        raise ShapeError(
            f"{where}: {found} fit either way round; say --transposed (a row a unit, as the lessons"
            " store them) or --no-transposed (a column a unit)"
        )
    [(arrays, bias)] = ways.values()
    dtype = np.result_type(*arrays)
    return Weights(
        [np.ascontiguousarray(array, dtype) for array in arrays],
        bias,
        matlab=files[0].suffix.lower() == ".mat",
        input_map=None if len(maps) < 2 else (maps["scale"], maps["shift"]),
    )


def _squares(parts: Sequence[tuple[str, np.ndarray]]) -> set[int]:
    """Return the numbers of pixels of square images that may be the inputs of one of the arrays."""
    lengths = {n - bias for _, array in parts for n in array.shape for bias in (0, 1)}
    return {n for n in lengths if n >= _SMALLEST_SIDE**2 and math.isqrt(n) ** 2 == n}


def _ways(
    parts: Sequence[tuple[str, np.ndarray]],
    in_order: bool,
    inputs: Collection[int],
    outputs: Sequence[int],
) -> dict[bool, tuple[list[np.ndarray], bool]]:
    """Find the ways in which arrays make such a network: by transposed, the arrays and bias.

    The other way about they are tried only if their order is not told by their numbers, and if
    the given order will not do.
    """
    matrices = [array for name, array in parts if not _is_bias(name, array)]
    vectors = [array.reshape(-1) for name, array in parts if _is_bias(name, array)]
    ways: dict[bool, tuple[list[np.ndarray], bool]] = {}
    for transposed, step, folded in product(
        (True, False), (1,) if in_order else (1, -1), (False, True)
    ):
        layers = [W.T if transposed else W for W in matrices][::step]
        biases = vectors[::step]
        if folded:
            if vectors:
                continue
            layers, biases = [W[1:] for W in layers], [W[0] for W in layers]
        if _is_network(layers, biases, inputs, outputs):
            pairs = zip(layers, biases, strict=True) if biases else zip(layers, strict=True)
            ways.setdefault(transposed, ([a for pair in pairs for a in pair], bool(biases)))
    return ways


def _is_network(
    layers: list[np.ndarray],
    biases: list[np.ndarray],
    inputs: Collection[int],
    outputs: Sequence[int],
) -> bool:
    return (
        bool(layers)
        and layers[0].shape[0] in inputs
        and layers[-1].shape[1] in outputs
        and all(W.shape[1] == V.shape[0] for W, V in pairwise(layers))
        and (not biases or [b.size for b in biases] == [W.shape[1] for W in layers])
    )


def _is_bias(name: str, array: np.ndarray) -> bool:
    return array.ndim == 1 or (1 in array.shape and bool(_BIAS.fullmatch(name)))


def _read_arrays(file: Path, *, alone: bool) -> list[tuple[str, np.ndarray]]:
    """Name and array of all that a file holds."""
    suffix = file.suffix.lower()
    if not file.is_file():
        raise WeightFileError(f"{file}: no such file; expected weights, {_or(SUFFIXES)}")
    if not alone and suffix not in (".npy", ".csv"):
        raise WeightFileError(
            f"{file}: one such file holds all the weights; only .npy and .csv files come several"
        )
    if not file.stat().st_size:
        raise WeightFileError(f"{file}: an empty file; write or copy it again")
    if file.stat().st_size > _LARGEST:
        raise WeightFileError(f"{file}: {file.stat().st_size:,} bytes; at most {_LARGEST:,}")
    try:
        if suffix == ".npy":
            return [(file.stem, read_npy(file))]
        if suffix == ".npz":
            return list(read_npz(file, limit=_LARGEST).items())
        if suffix == ".mat":
            found = read_mat(file, _LARGEST).items()
            return [(name, value) for name, value in found if isinstance(value, np.ndarray)]
        if suffix == ".csv":
            with parsing(file, "table of numbers"):
                check_lines(file)
                array = np.loadtxt(file, delimiter=",", ndmin=2, dtype=np.float64)
            return [(file.stem, array)]
        with parsing(file, "safetensors file"):
            from safetensors.numpy import load_file

            return list(load_file(file).items())
    except (ArrayFileError, OSError) as error:
        raise WeightFileError(str(error)) from error


def _selected(
    named: list[tuple[str, np.ndarray]],
) -> tuple[list[tuple[str, np.ndarray]], bool]:
    """Return the arrays that are numbered from 0 or 1 on, in order, and True; else all, False."""

    def number(part: tuple[str, np.ndarray]) -> int:
        match = _NUMBERED.fullmatch(part[0])
        return int(match[1]) if match else -1

    numbered = sorted((part for part in named if number(part) >= 0), key=number)
    if numbered and number(numbered[0]) <= 1:
        return numbered, True
    return [part for part in named if part[0] not in _INPUT_MAP], False


def _as_numbers(array: np.ndarray, where: str) -> np.ndarray:
    if array.dtype.kind not in "iuf" or array.ndim > 2 or not array.size:
        raise WeightFileError(
            f"{where} has shape {array.shape} and dtype {array.dtype}; expected a matrix or a"
            " vector of real numbers"
        )
    # float32 is kept, all else is as exact as float64 or exacter than is of use
    wide = array.dtype.kind != "f" or array.dtype.itemsize > 4
    numbers = array.astype(np.float64 if wide else np.float32)
    if not np.isfinite(numbers).all():
        raise WeightFileError(f"{where} holds NaN or infinite values; expected finite numbers")
    return numbers


def _or(things: Sequence[Any]) -> str:
    *rest, last = map(str, things)
    return f"{', '.join(rest)} or {last}" if rest else last


# --- MATLAB's order -------------------------------------------------------------------------


def from_matlab(
    weights: Weights,
    image_shape: tuple[int, int] | None,
    classes: Sequence[int | str],
    *,
    undo: bool = False,
) -> Weights:
    """Convert weights of MATLAB's into our order of inputs and outputs, or ours into MATLAB's.

    MATLAB stores an image column by column, and Ng's course calls the digit 0 class 10, its last.
    """
    arrays = list(weights.arrays)
    if image_shape is not None:
        rows, columns = image_shape if undo else image_shape[::-1]
        arrays[0] = arrays[0][np.arange(rows * columns).reshape(rows, columns).T.reshape(-1)]
    if list(classes) == list(range(10)):
        last = slice(-2 if weights.bias else -1, None)
        arrays[last] = [np.roll(array, -1 if undo else 1, axis=-1) for array in arrays[last]]
    return replace(weights, arrays=arrays, matlab=undo)


# --- writing --------------------------------------------------------------------------------


def write_weights(
    weights: Weights,
    format: str,
    out: Path,
    *,
    image_shape: tuple[int, int] | None,
    classes: Sequence[int | str],
) -> list[Path]:
    """Write weights as other programs expect them, whole or not at all.

    Parameters
    ----------
    weights : Weights
        With the input map.
    format : {"npz", "npy-pair", "mat", "csv"}
        ``npz``: W1 (inputs, units), b1, W2, …, scale and shift. ``npy-pair``: the lesson's
        ``weights.npy`` (outputs, hidden) and ``weights02.npy`` (hidden, inputs). ``mat``: Theta1
        (units, 1 + inputs), Theta2, …, the biases (or zeros) first, in MATLAB's order of pixels
        and classes. ``csv``: W1.csv (inputs, units), b1.csv, W2.csv, ….
    out : Path
        The file; for ``npy-pair`` and ``csv`` the folder, new or empty.

    Raises
    ------
    WeightFileError
        If the network does not go into this format, or `out` cannot be taken.
    """
    layers = list(enumerate(weights.layers, 1))
    if format == "npy-pair":
        if len(layers) != 2 or weights.bias:
            what = f"{len(layers)} matrices{' and biases' if weights.bias else ''}"
            raise WeightFileError(
                "--format npy-pair: two matrices without biases are a pair; this network has"
                f" {what}: take --format npz"
            )
        pair = zip(PAIR, reversed(weights.arrays), strict=True)
        return _write_folder(
            out, {name: _bytes_of(np.save, np.ascontiguousarray(W.T)) for name, W in pair}
        )
    if format == "mat":
        from scipy.io import savemat

        thetas = {}
        theirs = from_matlab(weights, image_shape, classes, undo=True)
        for layer, (W, b) in enumerate(theirs.layers, 1):
            first = np.zeros(W.shape[1], W.dtype) if b is None else b
            thetas[f"Theta{layer}"] = np.vstack([first, W]).T
        return _write_file(out, ".mat", _bytes_of(savemat, thetas))
    named = {f"W{layer}": W for layer, (W, _) in layers}
    named |= {f"b{layer}": b for layer, (_, b) in layers if b is not None}
    if format == "npz":
        named |= dict(zip(_INPUT_MAP, weights.input_map or (), strict=False))
        return _write_file(out, ".npz", _bytes_of(np.savez, **named))
    files = {}
    for name, array in named.items():
        # so many digits that the very same number is read again
        digits = "%.9g" if array.dtype == np.float32 else "%.17g"
        table = np.atleast_2d(array)
        files[f"{name}.csv"] = _bytes_of(np.savetxt, table, fmt=digits, delimiter=",")
    return _write_folder(out, files)


def _bytes_of(save: Callable[..., None], *things: Any, **named: Any) -> bytes:
    content = io.BytesIO()
    save(content, *things, **named)
    return content.getvalue()


def contents(weights: Weights, format: str) -> str:
    """Return in a line what `write_weights` writes."""
    shapes = list(enumerate(pairwise(weights.sizes), 1))
    if format == "npy-pair":
        pair = zip(PAIR, reversed(shapes), strict=False)
        return ", ".join(f"{name} ({units}, {inputs})" for name, (_, (inputs, units)) in pair)
    if format == "mat":
        thetas = [f"Theta{i} ({units}, 1 + {inputs})" for i, (inputs, units) in shapes]
        return f"{', '.join(thetas)}; images column by column, the digit 0 as class 10"
    layers = [
        f"W{i} ({inputs}, {units})" + (f", b{i} ({units})" if weights.bias else "")
        for i, (inputs, units) in shapes
    ]
    return ", ".join([*layers, *(_INPUT_MAP if format == "npz" else ())])


def _write_file(out: Path, suffix: str, content: bytes) -> list[Path]:
    if out.suffix.lower() != suffix or out.is_dir():
        raise WeightFileError(f"--out {out}: expected a file's name that ends in {suffix}")
    if not out.parent.is_dir():
        raise WeightFileError(f"--out {out}: there is no folder {out.parent}")
    write_whole(out, content)
    return [out]


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

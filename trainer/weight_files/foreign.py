"""Weights that other programs have written.

Their files hold arrays and little more. `read_weights` finds out by the shapes which is which and
which way round it is stored.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Sequence
from itertools import pairwise, permutations, product
from pathlib import Path
from typing import Any

import numpy as np

from ..array_files import ArrayFileError, check_lines, parsing, read_mat, read_npy, read_npz
from .own import WeightFileError
from .stated import read_stated
from .weights import INPUT_MAP, Weights

SUFFIXES = (".npy", ".npz", ".mat", ".csv", ".safetensors", ".onnx")
_LARGEST = 1 << 31  # bytes of weights
_ALONE = "; this is one matrix alone: give the folder that holds those of all layers"
_SMALLEST_SIDE = 7  # of a square image
_MOST_UNORDERED = 7  # layers, whose order is found out by their shapes
_PICKLES = (".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle")
_NUMBERED = re.compile(
    r"(?:.*[^a-z])?(?:theta|w|weights?|kernel|b|bias|biases)_?(\d{1,9})", re.IGNORECASE
)
_BIAS = re.compile(r"(.*[^a-z])?(b|bias|biases)(_?\d+)?", re.IGNORECASE)
_MODULE = re.compile(r"(.+)\.(weight|bias)")  # of a PyTorch state dict


class ShapeError(WeightFileError):
    """Arrays that make no network of the wanted inputs and outputs, or more than one."""


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
    if path.suffix.lower() in _PICKLES:
        raise WeightFileError(
            f"{path}: a pickle could run anything and is not read; save the numbers alone:"
            ' safetensors.torch.save_file(model.state_dict(), "model.safetensors")'
        )
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
    stated = read_stated(files)
    maps = [stated.pop(name, None) for name in INPUT_MAP]
    given = None if maps[0] is None else (maps[0], maps[1])
    where, outputs = ", ".join(map(str, files)), sorted(outputs)
    if files[0].suffix.lower() == ".onnx" and len(files) == 1:
        from .onnx_graph import read_onnx

        whole = read_onnx(files[0])
        squares = _squares([("", whole.arrays[0])]) if or_square else set()
        layers, biases = whole.arrays[::2], whole.arrays[1::2]
        if _is_network(layers, biases, {inputs} | squares, outputs):
            return whole
        found = " → ".join(map(str, whole.sizes))
        raise ShapeError(
            f"{where}: a network of {found} units; expected {inputs} inputs and {_or(outputs)}"
            " outputs"
        )
    named = [part for file in files for part in _read_arrays(file, alone=len(files) == 1)]
    selected, in_order, of_torch = _selected(named, where)
    if of_torch and transposed is None:
        transposed = True
    parts = [
        (name, _as_numbers(array, f"{where}: {name}")) for name, array in selected if array.ndim
    ]
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
        input_map=given,
        stated=stated,
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

            try:
                return list(load_file(file).items())
            except KeyError as error:  # a type that NumPy lacks
                raise WeightFileError(
                    f"{file}: holds numbers of type {error}; save it in float32: model.float()"
                ) from error
    except (ArrayFileError, OSError) as error:
        raise WeightFileError(str(error)) from error


def _selected(
    named: list[tuple[str, np.ndarray]], where: str
) -> tuple[list[tuple[str, np.ndarray]], bool, bool]:
    """Return the arrays that are weights, whether their order is known, and whether PyTorch's.

    Those that are numbered from 0 or 1 on are in this order; else it is all that may be weights.
    """

    def number(part: tuple[str, np.ndarray]) -> int:
        match = _NUMBERED.fullmatch(part[0])
        return int(match[1]) if match else -1

    numbered = sorted((part for part in named if number(part) >= 0), key=number)
    if numbered and number(numbered[0]) <= 1:
        return numbered, True, False
    rest = [part for part in named if part[0] not in INPUT_MAP and part[1].dtype.kind in "iuf"]
    modules = [match for name, _ in named if (match := _MODULE.fullmatch(name))]
    if not modules:
        return rest or named, False, False
    if norms := [name for name, _ in named if name.endswith(".running_mean")]:
        raise WeightFileError(
            f"{where}: {norms[0]} belongs to a batch normalisation, which is not read; fold it into"
            " the layer before it: torch.nn.utils.fusion.fuse_linear_bn_eval(linear, norm)"
        )
    arrays = dict(rest)
    prefixes = sorted({match[1] for match in modules}, key=_by_numbers)
    has_bias = any(f"{prefix}.bias" in arrays for prefix in prefixes)
    parts = []
    for prefix in prefixes:
        matrix = arrays.get(f"{prefix}.weight")
        if matrix is None or matrix.ndim != 2:
            continue
        parts.append((f"{prefix}.weight", matrix))
        if has_bias:  # a layer without one among others that have one has zeros
            none = np.zeros(len(matrix), matrix.dtype)
            parts.append((f"{prefix}.bias", arrays.get(f"{prefix}.bias", none)))
    if unused := sorted({name for name, _ in named} - {name for name, _ in parts}):
        shape = dict(named)[unused[0]].shape
        raise WeightFileError(
            f"{where}: {unused[0]} {shape} belongs to no linear layer; expected the state dict of"
            " linear layers with a function between them"
        )
    step = 2 if has_bias else 1
    layers = [parts[at : at + step] for at in range(0, len(parts), step)]
    if all(any(map(str.isdecimal, prefix)) for prefix in prefixes):
        return parts, True, True
    # names without numbers tell no order; the shapes may
    orders = [order for order in _orders(layers) if len(layers) > 1]
    if len(orders) > 1:
        names = ", ".join(prefixes)
        raise WeightFileError(
            f"{where}: in which order its layers come is told neither by their names ({names}) nor"
            " by their shapes; name them fc1, fc2, … in their order, or save an nn.Sequential"
        )
    if orders:
        parts = [part for layer in orders[0] for part in layer]
    return parts, True, True


def _orders(
    layers: list[list[tuple[str, np.ndarray]]],
) -> list[tuple[list[tuple[str, np.ndarray]], ...]]:
    """Return the orders of a few layers in which each takes what the one before it makes."""
    if len(layers) > _MOST_UNORDERED:
        return []
    return [
        order
        for order in permutations(layers)
        if all(a[0][1].shape[0] == b[0][1].shape[1] for a, b in pairwise(order))
    ]


def _by_numbers(name: str) -> list[Any]:
    """Return what to sort names by so that 10 comes after 2."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]


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

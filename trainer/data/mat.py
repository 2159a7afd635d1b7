"""MATLAB 5 files: of Andrew Ng's course, EMNIST's, and of others whose names say what they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from ..array_files import MatValue, read_mat
from . import emnist
from .arrays import Pair, Parts, parts_in, source_of
from .dataset import DataError, Source

_NG = Pair("X", "y")
_EMNIST = "dataset"  # a struct that holds everything


def read_file(path: Path) -> Source:
    """Read the arrays whose names say what they are, see `arrays`.

    Samples are the first or the last dimension, as there are labels. Ng's, X and y, have a row a
    sample, which holds an image by columns, and their labels 1…10 are MATLAB's way to count digits:
    10 becomes 0.
    """
    variables = read_mat(path)
    fields = variables.get(_EMNIST)
    if isinstance(fields, dict) and "train" in fields:
        return _read_emnist(path, fields)
    parts = parts_in(path, variables, _NG)
    arrays: dict[str, np.ndarray] = {}
    for pair in filter(None, parts):
        x, y = (_full(variables[name], f"{path}: {name}") for name in pair)
        if x.shape[0] != y.size == x.shape[-1] and (pair != _NG or x.ndim > 2):
            x = np.moveaxis(x, -1, 0)
        arrays |= {pair.x: x, pair.y: y}
    source = source_of(path, "mat", arrays, parts)
    if parts.train != _NG:
        return source
    x, y = source.train
    if y.min() >= 1 and y.max() == 10:
        y %= 10
    return replace(source, train=(x, y), column_major=arrays["X"].ndim == 2)


def _full(value: MatValue, where: str) -> np.ndarray:
    if not isinstance(value, np.ndarray) or value.ndim > 4:
        raise DataError(f"{where} is no plain matrix; a full, real one is wanted")
    if not value.size:  # and yet may have a billion rows
        raise DataError(f"{where} is empty: shape {value.shape}")
    return value


def _read_emnist(path: Path, fields: dict[str, MatValue]) -> Source:
    """Read EMNIST's struct: train.images, train.labels, test.images, … and mapping."""
    arrays, pairs = {}, []
    for part in ("train", "test"):
        inner = fields.get(part)
        pair = Pair(f"{_EMNIST}.{part}.images", f"{_EMNIST}.{part}.labels")
        for name in pair:
            value = inner.get(name.rpartition(".")[2]) if isinstance(inner, dict) else None
            arrays[name] = _full(value, f"{path}: {name}")
        pairs.append(pair)
    source = source_of(path, "mat", arrays, Parts(pairs[0], test=pairs[1]))
    source = replace(source, column_major=True)
    if "mapping" not in fields:
        return source
    rows = _full(fields["mapping"], where := f"{path}: {_EMNIST}.mapping")
    if rows.ndim != 2 or not ((rows >= 0) & (rows < 2**31) & (rows == np.floor(rows))).all():
        raise DataError(f"{where}: rows of a code and a letter's number are wanted, such as 1 65")
    return emnist.lettered(source, rows.astype(np.int64).tolist(), where)

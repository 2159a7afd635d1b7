"""MATLAB 5 files as in Andrew Ng's course: ``X`` (n, features) and ``y``."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .dataset import DataError, Source, as_features, as_labels, parsing, square

_HEADER = 128
_MATRIX, _COMPRESSED = 14, 15
# How numbers are stored, and what they are to MATLAB: a double may be stored as a byte.
_STORED = dict(
    zip(
        (1, 2, 3, 4, 5, 6, 7, 9, 12, 13),
        ("i1", "u1", "i2", "u2", "i4", "u4", "f4", "f8", "i8", "u8"),
        strict=True,
    )
)
_CLASSES = dict(enumerate(("f8", "f4", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"), start=6))
_COMPLEX = 0x0800


def read_file(path: Path) -> Source:
    """Read ``X`` and ``y``; square images are turned from column-major to row-major.

    Labels that run 1…10 are MATLAB's way to count digits: 10 becomes 0.

    Parameters
    ----------
    path : Path

    Returns
    -------
    Source
        Without a test part.

    Raises
    ------
    DataError
        Another format, missing arrays, or arrays that do not fit.
    """
    arrays = read_matrices(path)
    for name in ("X", "y"):
        if name not in arrays:
            found = ", ".join(arrays) or "nothing"
            raise DataError(f"{path}: no array {name}; {found} found, X, y wanted")
    full = {name: array for name, array in arrays.items() if array is not None and array.ndim == 2}
    for name in ("X", "y"):
        if name not in full:
            raise DataError(f"{path}: {name} is no plain matrix; a full, real one is wanted")

    x, _ = as_features(full["X"], f"{path}: X")
    y = as_labels(full["y"], len(x), f"{path}: y")
    if y.min() >= 1 and y.max() == 10:
        y %= 10
    if shape := square(x.shape[1]):
        x = x.reshape(-1, *shape).transpose(0, 2, 1).reshape(len(x), -1)
    return Source(name=path.stem, kind="mat", source=str(path), train=(x, y), image_shape=shape)


def read_matrices(path: Path) -> dict[str, np.ndarray | None]:
    """Read all variables of a MATLAB 5 file.

    SciPy's reader ends the whole process on some damaged files, hence one of our own.

    Parameters
    ----------
    path : Path

    Returns
    -------
    dict of str to numpy.ndarray or None
        In the order of the file; None for what is no full, real, numeric array.

    Raises
    ------
    DataError
        Another format, or a damaged file.
    """
    content = path.read_bytes()
    if 0 in content[:4]:
        raise DataError(f"{path}: MATLAB 4 file; version 5 is wanted: save(…, '-v7')")
    order = {b"IM": "<", b"MI": ">"}.get(content[126:_HEADER])
    if order is None:
        seen = content[126:_HEADER].hex() or "the end"
        raise DataError(f"{path}: byte 126: {seen} found, no MATLAB 5 file (IM or MI wanted)")
    if np.frombuffer(content, order + "u2", 1, 124)[0] == 0x0200:
        raise DataError(f"{path}: MATLAB 7.3 (HDF5) file; version 5 is wanted: save(…, '-v7')")
    arrays = {}
    with parsing(path, "MATLAB 5 file"):
        for kind, element in _elements(memoryview(content)[_HEADER:], order):
            if kind == _COMPRESSED:
                kind, element = next(_elements(memoryview(zlib.decompress(element)), order))
            if kind == _MATRIX:
                name, array = _matrix(element, order)
                arrays[name] = array
    return arrays


def _elements(content: memoryview, order: str) -> Iterator[tuple[int, memoryview]]:
    """Yield type and data of each element, none longer than what is there."""
    place = 0
    while place < len(content):
        kind, size = (int(i) for i in np.frombuffer(content, order + "u4", 2, place))
        start, step = place + 8, 8
        if kind >> 16:  # up to four bytes of data stand in the tag itself
            kind, size, start, step = kind & 0xFFFF, kind >> 16, place + 4, 4
        if start + size > len(content):
            raise ValueError(f"an element of {size} bytes where {len(content) - start} are left")
        yield kind, content[start : start + size]
        padding = 0 if kind == _COMPRESSED else -size % step
        place = start + size + padding


def _matrix(content: memoryview, order: str) -> tuple[str, np.ndarray | None]:
    elements = _elements(content, order)
    _, flags = next(elements)
    _, dimensions = next(elements)
    _, name = next(elements)
    flag = int(np.frombuffer(flags, order + "u4", 1)[0])
    dtype = _CLASSES.get(flag & 0xFF)
    if dtype is None or flag & _COMPLEX:
        return bytes(name).decode("latin1"), None
    shape = np.frombuffer(dimensions, order + "i4").tolist()
    stored, data = next(elements, (9, memoryview(b"")))
    if stored not in _STORED:
        raise ValueError(f"numbers of the unknown type {stored}")
    values = np.frombuffer(data, order + _STORED[stored])
    if min(shape) < 0 or values.size != math.prod(shape):
        raise ValueError(f"{values.size} values where dimensions {shape} are promised")
    with np.errstate(invalid="ignore", over="ignore"):
        array = values.astype(dtype).reshape(shape, order="F")
    return bytes(name).decode("latin1"), array

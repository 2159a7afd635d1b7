"""Named arrays as samples: which are whose labels, and what each may be."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .dataset import WORD_WANTED, DataError, Samples, Source, is_word

_BLOCK = 1 << 22  # values that are made grey at a time


class Pair(NamedTuple):
    """The names of a part's values and labels."""

    x: str
    y: str


class Parts(NamedTuple):
    """The names of each part's arrays; None for a part that is not there."""

    train: Pair
    validation: Pair | None = None
    test: Pair | None = None


_NAMES = (
    Parts(Pair("x_train", "y_train"), Pair("x_val", "y_val"), Pair("x_test", "y_test")),  # Keras
    Parts(Pair("X_train", "y_train"), Pair("X_val", "y_val"), Pair("X_test", "y_test")),
    Parts(
        Pair("train_images", "train_labels"),  # MedMNIST
        Pair("val_images", "val_labels"),
        Pair("test_images", "test_labels"),
    ),
    Parts(Pair("x", "y")),
    Parts(Pair("X", "y")),
    Parts(Pair("images", "labels")),
    Parts(Pair("data", "labels")),
    Parts(Pair("data", "label")),
    Parts(Pair("data", "target")),  # scikit-learn's Bunch
)
_IMAGES = {pair.x for parts in _NAMES for pair in parts if pair}
_LABELS = {pair.y for parts in _NAMES for pair in parts if pair}


def parts_in(path: Path, names: Iterable[str], usual: Pair = _NAMES[0].train) -> Parts:
    """Find which arrays train, validate and test; the usual ones are asked for if none are known.

    Raises
    ------
    DataError
        What is there and what is wanted.
    """
    found = set(names)
    ways = sorted(_NAMES, key=lambda parts: parts.train != usual)
    parts = max(ways, key=lambda parts: len(found.intersection(parts.train)))
    there = ", ".join(sorted(found)) or "nothing"
    if not found & _LABELS and (len(found) == 1 or found & _IMAGES):
        raise DataError(
            f"{path}: no labels: {there} found, {' and '.join(parts.train)} wanted, in one file:"
            ' np.savez("data.npz", x_train=x, y_train=y)'
        )
    for pair in filter(None, parts):
        for name in pair:
            if name not in found and (pair is parts.train or found.intersection(pair)):
                raise DataError(
                    f"{path}: no array {name}; {there} found, {' and '.join(pair)} wanted"
                )
    return Parts(parts.train, *(pair if pair and pair.x in found else None for pair in parts[1:]))


def source_of(path: Path, kind: str, arrays: Mapping[str, np.ndarray], parts: Parts) -> Source:
    """Make a source of named arrays."""
    samples: list[Samples | None] = []
    shapes = {}
    note = ""
    for pair in parts:
        if pair is None:
            samples.append(None)
            continue
        x, shapes[pair.x] = as_features(arrays[pair.x], f"{path}: {pair.x}")
        samples.append((x, as_labels(arrays[pair.y], len(x), f"{path}: {pair.y}")))
        if arrays[pair.x].ndim == 4 and arrays[pair.x].shape[3] > 1:
            note = f"{path.name} holds colour images: made grey, 0.299 R + 0.587 G + 0.114 B"
    if len(set(shapes.values())) > 1:
        found = ", ".join(f"{name} has shape {arrays[name].shape}" for name in shapes)
        raise DataError(f"{path}: {found}: they do not go together")
    train, validation, test = samples
    assert train is not None
    shape = shapes[parts.train.x]
    return Source(
        path.stem,
        kind,
        str(path),
        train,
        test,
        validation=validation,
        image_shape=shape,
        note=note,
    )


def as_features(array: np.ndarray, where: str) -> tuple[np.ndarray, tuple[int, int] | None]:
    """Check an array of samples and flatten each.

    It may be (n, features), (n, h, w) or (n, h, w, channels), of integers 0…255 or finite floats;
    it becomes (n, features), uint8 or float32 and C-contiguous, beside (h, w) where it has that.
    Of 3 or 4 channels, red, green, blue and opacity, a grey one is made.
    """
    if array.ndim not in (2, 3, 4) or (array.ndim == 4 and array.shape[3] not in (1, 3, 4)):
        last = array.ndim == 4 and array.shape[1] in (1, 3, 4)
        raise DataError(
            f"{where} has shape {array.shape}; (n, features), (n, height, width) or (n, height,"
            f" width, 1, 3 or 4) is wanted{': np.moveaxis(x, 1, -1)' if last else ''}"
        )
    if array.size == 0:
        raise DataError(f"{where} is empty: shape {array.shape}")
    if array.dtype.kind not in "buif":
        raise DataError(f"{where} has dtype {array.dtype}; integers or floats are wanted")
    if array.dtype.kind != "f":
        low, high = int(array.min()), int(array.max())
        if low < 0 or high > 255:
            raise DataError(
                f"{where}: integer pixels out of range: {low}…{high} found, 0…255 wanted"
            )
    dtype = np.dtype(np.float32 if array.dtype.kind == "f" else np.uint8)
    shape = (array.shape[1], array.shape[2]) if array.ndim > 2 else None
    with np.errstate(over="ignore", invalid="ignore"):
        if array.ndim == 4 and array.shape[3] > 1:
            array = _grey(array, dtype)
        array = array.reshape(len(array), -1)
        features = np.ascontiguousarray(array, dtype=dtype)
    if dtype.kind == "f" and not (finite := np.isfinite(features)).all():
        sample, feature = _first_true(~finite)
        value = array[sample, feature]
        raise DataError(
            f"{where}: sample {sample}, feature {feature} (from 0) is {value}; "
            "finite float32 values are wanted"
        )
    return features, shape


def _grey(images: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Make images (n, h, w, 3 or 4) grey as Pillow does; what is transparent is laid over white."""
    grey = np.empty(images.shape[:3], dtype)
    white = 1.0 if dtype.kind == "f" and images.max() <= 1 else 255.0
    step = max(1, _BLOCK // images[0].size)
    for start in range(0, len(images), step):
        part = images[start : start + step]
        mixed = _mixed(part[..., :3].astype(dtype))
        if images.shape[3] == 4:
            opacity = part[..., 3].astype(np.float32) / white
            mixed = mixed * opacity + white * (1 - opacity)
            mixed = np.rint(mixed) if dtype.kind == "u" else mixed
        grey[start : start + step] = mixed
    return grey


def _mixed(colours: np.ndarray) -> np.ndarray:
    if colours.dtype.kind == "f":
        return colours @ np.array([0.299, 0.587, 0.114], colours.dtype)
    weights = np.array([19595, 38470, 7471], np.uint32)  # of 65536, Pillow's
    return (colours @ weights + 0x8000) >> 16


def as_labels(array: np.ndarray, samples: int, where: str) -> np.ndarray:
    """Check an array of labels, one a sample, and return them as (n,) int64 or text.

    It may be (n,), (n, 1) or (1, n), of integers in any real dtype, or text.
    """
    if array.ndim != 1 and not (array.ndim == 2 and 1 in array.shape):
        hint = "; y.argmax(axis=1) makes it of one-hot rows" if _is_one_hot(array) else ""
        raise DataError(f"{where} has shape {array.shape}; one label a sample is wanted{hint}")
    if array.size != samples:
        raise DataError(f"{where} holds {array.size} labels for {samples} samples")
    if array.dtype.kind not in "buifU":
        raise DataError(f"{where} has dtype {array.dtype}; integer labels or text are wanted")
    array = array.ravel()
    if array.dtype.kind == "U":
        return _as_words(array, where)
    row = _first_non_integer(array)
    if row is not None:
        raise DataError(
            f"{where}: sample {row} (from 0) has label {array[row]}; an integer is wanted"
        )
    return array.astype(np.int64)


def _is_one_hot(array: np.ndarray) -> bool:
    if array.ndim != 2 or array.dtype.kind not in "buif":
        return False
    return bool(
        ((array == 0) | (array == 1)).all() and (np.count_nonzero(array, axis=1) == 1).all()
    )


def _as_words(array: np.ndarray, where: str) -> np.ndarray:
    letters = array.view(np.dtype("u4").newbyteorder(array.dtype.byteorder))
    if letters.max() > sys.maxunicode:
        raise DataError(f"{where} holds four bytes that are no letter; text is wanted")
    words = [word.strip() for word in array.tolist()]
    for row, word in enumerate(words):
        if not is_word(word):
            raise DataError(
                f"{where}: sample {row} (from 0) has label {word[:40]!r}; {WORD_WANTED}"
            )
    return np.array(words)


def _first_true(bad: np.ndarray) -> tuple[int, int]:
    """Return row and column of the first True of a matrix."""
    row, column = np.unravel_index(bad.argmax(), bad.shape)
    return int(row), int(column)


def _first_non_integer(values: np.ndarray) -> int | None:
    """Return the index of the first value that int64 cannot hold exactly, None if all are fine."""
    good = np.abs(values.astype(np.float64)) < 2**62
    if values.dtype.kind == "f":
        good &= values == np.floor(values)
    return None if good.all() else int(np.argmin(good))

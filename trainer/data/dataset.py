"""What every source becomes: a `Dataset`, by way of a `Source` with the labels as they stand."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from backends.sharded import ShardedRows

from ..array_files import ArrayFileError, FileError, cause

if TYPE_CHECKING:
    from .columns import Columns

Samples = tuple[Any, np.ndarray]  # values, of a table a `Table`, and labels
Label = int | str

SPLIT_SEED = 0  # of the fifth that tests, and of the order that classes are shuffled to
_LONGEST_LABEL = 64  # NumPy takes as much room for every label as for the longest
WORD_WANTED = f"a whole number or 1 to {_LONGEST_LABEL} printable letters are wanted"


class DataError(FileError):
    """Data that cannot be had or used; the message is one line, fit to be shown as it is."""


class Scale(NamedTuple):
    """The values a network was trained on: uint8 or float32, and from where to where they go."""

    dtype: str
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Dataset:
    """Samples for training and testing, with labels coded 0…k−1.

    Attributes
    ----------
    name : str
        "mnist", "digits", "ex4", or the file's or folder's stem.
    train_x, test_x : numpy.ndarray
        (n, features); integer pixels are uint8, float data float32; C-contiguous. Of a folder of
        shards `train_x` is a `backends.sharded.ShardedRows`.
    train_y, test_y : numpy.ndarray
        (n,) int64 codes, of shards of fewer bytes: ``classes[code]`` is the label.
    image_shape : tuple of int or None
        (height, width), None where the features are no image.
    classes : tuple of int or str
        The labels, in the order of their codes.
    value_range : tuple of float
        (0, 255) for pixels, (0, 16) for the 8×8 digits, the training part's own for floats.
    kind : str
        "mnist", "digits", "ex4", "idx", "csv", "npz", "mat", "images" or "shards".
    source : str
        "mnist", "digits", or the absolute path; after "ex4:" where that was asked for.
    test_source : str or None
        Likewise, where the test samples come from another source.
    columns : Columns or None
        Of a table, what the inputs are made of.
    label : str or None
        Of a table, which column is the label, as `load` takes it.
    note : str
        Lines worth showing, or nothing.
    is_shuffled : bool
        Whether the training samples stand in another order than in their source, which has them
        by class.
    tests_on_training : bool
        Whether the test samples are the training samples, which are too few to split.
    validation : tuple of numpy.ndarray or None
        Values and codes of a validation part of its own, to choose things by (see `hold_out`).
    column_major : bool
        Whether its source stores images by columns, for which they are turned.
    transpose : bool
        Whether images were taken the other way round than they would have been.
    """

    name: str
    train_x: Any  # an array, or what is read as one
    train_y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray
    image_shape: tuple[int, int] | None
    classes: tuple[Label, ...]
    value_range: tuple[float, float]
    kind: str
    source: str
    test_source: str | None = None
    columns: Columns | None = None
    label: str | None = None
    note: str = ""
    is_shuffled: bool = False
    tests_on_training: bool = False
    validation: Samples | None = None
    column_major: bool = False
    transpose: bool = False

    def __repr__(self) -> str:
        from .showing import line

        return line(self)

    def _repr_html_(self) -> str:
        from .showing import page

        return page(self)

    def fingerprint(self) -> str:
        """Return eight digits that differ where the samples do: a resumed run compares them.

        Of shards see `ShardedRows.checksum`.
        """
        crc = 0
        arrays = (self.train_x, self.train_y, self.test_x, self.test_y, *(self.validation or ()))
        for array in arrays:
            if isinstance(array, ShardedRows):
                crc = array.checksum(crc)
            else:
                crc = zlib.crc32(np.ascontiguousarray(array).data, crc)
        return f"{crc:08x}"


@dataclass(frozen=True, eq=False)
class Source:
    """What a reader found: one to three parts, labels (int64 or text) not yet coded.

    The samples of a table are a `Table` without its label, which is kept by name. Images are as
    they are stored, which may be by columns: `image_shape` is then (width, height). A reader takes
    the path of a file or folder and returns one of these, or raises an error that names the file,
    the place in it, what was found there and what was wanted.
    """

    name: str
    kind: str
    source: str
    train: Samples
    test: Samples | None = None
    _: KW_ONLY
    validation: Samples | None = None
    image_shape: tuple[int, int] | None = None
    column_major: bool = False
    pixel_range: tuple[float, float] = (0.0, 255.0)
    label: str | None = None
    note: str = ""

    @property
    def evaluation_part(self) -> Samples:
        """The test part if there is one, else the validation part, else everything."""
        if self.test is not None:
            return self.test
        return self.train if self.validation is None else self.validation


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what a reader stumbles over into a DataError that names the file."""
    try:
        yield
    except ArrayFileError as error:
        raise DataError(str(error)) from error
    except (OSError, MemoryError) as error:
        raise DataError(f"{getattr(error, 'filename', None) or path}: {cause(error)}") from error


def is_word(text: str) -> bool:
    """Whether this can be the name of a class."""
    return 0 < len(text) <= _LONGEST_LABEL and text.isprintable()


def named_classes(labels: np.ndarray) -> bool:
    """Whether labels are words, not numbers; folder names of digits alone are numbers."""
    return labels.dtype.kind == "U" and not all(
        name.isdecimal() and len(name) < 19 for name in np.unique(labels).tolist()
    )


def code_labels(labels: np.ndarray, classes: tuple[Label, ...], where: str) -> np.ndarray:
    """Replace each label, an int64 or text, by its place among the classes."""
    if any(isinstance(label, str) for label in classes):
        labels = labels.astype(str)
    elif labels.dtype.kind == "U" and not named_classes(labels):
        labels = labels.astype(np.int64)
    codes = {label: code for code, label in enumerate(classes)}
    found, inverse = np.unique(labels, return_inverse=True)
    for label in found.tolist():
        if label not in codes:
            known = ", ".join(map(str, classes))
            raise DataError(f"{where}: label {label!r} is none of the classes {known}")
    return np.array([codes[label] for label in found.tolist()], dtype=np.int64)[inverse]


def square(features: int) -> tuple[int, int] | None:
    """(side, side) of a square image with so many pixels, None where there is none."""
    side = math.isqrt(features)
    return (side, side) if side * side == features else None


def split(samples: Samples, where: str, tests: int | None = None) -> tuple[Samples, Samples]:
    """Split samples, shuffled with a fixed seed, the classes in proportion where they suffice.

    The second part gets so many tests, or a fifth if their number is not given.
    """
    from sklearn.model_selection import train_test_split

    x, y = samples
    if len(x) < 2:
        raise DataError(f"{where} holds one sample, too few to split: give test data as well")
    counts = np.unique(y, return_counts=True)[1]
    tests = math.ceil(len(x) / 5) if tests is None else tests
    stratify = y if counts.min() >= 2 and len(counts) <= min(tests, len(x) - tests) else None
    train, test = train_test_split(
        np.arange(len(x)), test_size=tests, random_state=SPLIT_SEED, stratify=stratify
    )
    return (x[train], y[train]), (x[test], y[test])


def limited(data: Dataset, samples: int | None) -> Dataset:
    """Keep only the first training samples, or all of them if None."""
    return replace(data, train_x=data.train_x[:samples], train_y=data.train_y[:samples])


def hold_out(data: Dataset, samples: int) -> tuple[Dataset, Samples | None]:
    """Return samples to choose things by: the validation part, or some of the training part.

    Parameters
    ----------
    data : Dataset
    samples : int
        How many training samples to take out, with a fixed seed and the classes in proportion;
        what is left keeps its order. None can be where the data has a validation part.

    Returns
    -------
    data : Dataset
        The same without them in the training part.
    held_out : tuple of numpy.ndarray or None
        Theirs; None for no samples.

    Raises
    ------
    DataError
        If too few would be left, or there is a validation part already.
    """
    if data.validation is not None and samples:
        raise DataError(
            f"{data.source} has a validation part of its own, {len(data.validation[1]):,} samples:"
            f" omit --validation {samples}"
        )
    if not samples:
        return data, data.validation
    n = len(data.train_y)
    if samples >= n:
        raise DataError(f"{samples:,} samples cannot be held out of {n:,}: at least one must train")
    rows = np.arange(n)
    (kept, _), (held, held_y) = split((rows, data.train_y), data.name, samples)
    kept = np.sort(kept)
    x = data.train_x
    kept_x = x.keeping(kept) if isinstance(x, ShardedRows) else x[kept]
    rest = replace(data, train_x=kept_x, train_y=data.train_y[kept])
    return rest, (data.train_x[held], held_y)


def on_scale(x: np.ndarray, scale: Scale, trained: str, where: str) -> np.ndarray:
    """Return values in the training values' dtype, if they are on the same scale.

    They are not, as 0…1 is not where 0…255 was trained on: DataError. What was trained on and
    where these values come from is said there.
    """
    if scale.dtype == str(x.dtype) == "float32":
        return x
    low, high = float(x.min()), float(x.max())
    if scale.dtype == "uint8":
        whole = x.dtype == np.uint8 or bool((x == np.floor(x)).all())
        fits = whole and low >= 0 and high <= scale.high
        wanted = f"whole numbers 0…{scale.high:g}"
    else:
        # Twice the training maximum tells 0…1 from 0…255 and lets a brighter test image pass.
        fits = high <= 2 * scale.high
        wanted = f"floats {scale.low:g}…{scale.high:g}"
    if not fits:
        raise DataError(
            f"{where} has values {low:g}…{high:g} ({x.dtype}), "
            f"not on the scale of {trained}: {wanted}"
        )
    return x.astype(scale.dtype)

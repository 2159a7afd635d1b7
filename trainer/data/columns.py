"""The columns of a table: what kind each is, and the inputs that a network makes of it.

What is learned of a training part (`Columns.learned`) is kept with the run, as JSON, and applied to
whatever is evaluated and predicted later.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np

from .dataset import DataError, square
from .tables import INDEX_NAMES, Table, choose_label

_SMALLEST_SIDE = 7  # of an image; four columns are none
_RANGES = (1, 16, 255)  # that pixels have, from 0
_FILLED = 0.75  # of a range, by the largest pixel
_MOST_CATEGORIES = 100  # of a column; the others count as unknown
_MOST_INPUTS = 100_000
_SHOWN = 5  # of columns or categories, in a line
_DIGITS = re.compile(r"\d+")
NUMBER, CATEGORY, PIXEL, LEFT_OUT = "number", "category", "pixel", "left out"


@dataclass(frozen=True)
class Column:
    """A column of features.

    Attributes
    ----------
    name : str
    kind : {"number", "category", "pixel", "left out"}
        Left out is a column of words that are all different, or without a single value.
    median : float
        Of the training part's numbers; it takes the place of missing ones.
    categories : tuple of str or None
        Each is an input; None among them stands for a missing cell.
    """

    name: str
    kind: str
    median: float = 0.0
    categories: tuple[str | None, ...] = ()

    @property
    def inputs(self) -> int:
        """Return how many inputs of a network the column becomes."""
        return {CATEGORY: len(self.categories), LEFT_OUT: 0}.get(self.kind, 1)


@dataclass(frozen=True)
class Columns:
    """The columns of the features of a table, in the order in which they were learned.

    Attributes
    ----------
    label : str
        The name of the label's column.
    named : bool
        Whether the names are the file's own; else columns go by their places.
    columns : tuple of Column
    high : float
        The upper end of the range of pixels, if all columns are pixels; else 0.
    """

    label: str
    named: bool
    columns: tuple[Column, ...]
    high: float = 0.0

    def __repr__(self) -> str:
        return f"Columns(label {self.label!r}; {len(self.columns):,} columns, {self.line()})"

    def _repr_html_(self) -> str:
        from .showing import columns_table

        return columns_table(self)

    # --- learning ---------------------------------------------------------------------------

    @classmethod
    def learned(cls, features: Table, label: str) -> Self:
        """Find out of what kind the columns of a training part are, the label not among them."""
        if (pixels := cls.of_pixels(features, label)) is not None:
            return pixels
        columns = [_column(features, name) for name in features.frame.columns]
        if (inputs := sum(column.inputs for column in columns)) > _MOST_INPUTS:
            raise DataError(
                f"{features.path}: its {len(columns):,} columns would be {inputs:,} inputs; at most"
                f" {_MOST_INPUTS:,} are taken: leave columns of words out"
            )
        if not any(column.inputs for column in columns):
            raise DataError(
                f"{features.path}: no column of features besides the label {label!r}: all others"
                " are empty, or words that are all different"
            )
        return cls(label, features.named, tuple(columns))

    @classmethod
    def of_pixels(cls, features: Table, label: str) -> Self | None:
        """Make the columns of a table that is images; None if it is none."""
        high = _pixel_range(features)
        columns = tuple(Column(name, PIXEL) for name in features.frame.columns)
        return cls(label, features.named, columns, high) if high else None

    @classmethod
    def unnamed(cls, inputs: int, high: float) -> Self:
        """Make columns for a network that was trained on no table: pixels 0…high, or numbers.

        There is no median for missing ones.
        """
        kind = PIXEL if high else NUMBER
        columns = [Column(f"column {i}", kind, math.nan) for i in range(1, inputs + 1)]
        return cls("label", False, tuple(columns), high)

    @classmethod
    def from_json(cls, recorded: dict[str, Any]) -> Self:
        """Make what `as_json` returned; raise KeyError, TypeError or ValueError for another."""
        columns = [
            Column(**{**column, "categories": tuple(column["categories"])})
            for column in recorded["columns"]
        ]
        made = cls(**recorded | {"columns": tuple(columns)})
        words = [made.label, *(column.name for column in columns)]
        words += [word for column in columns for word in column.categories if word is not None]
        numbers = [made.high, *(column.median for column in columns)]
        if not all(isinstance(word, str) for word in words):
            raise TypeError("a name or a category that is no text")
        if not all(isinstance(number, int | float) for number in numbers):
            raise TypeError("a median or a range that is no number")
        if not {column.kind for column in columns} <= {NUMBER, CATEGORY, PIXEL, LEFT_OUT}:
            raise ValueError("a column of an unknown kind")
        return made

    def as_json(self) -> dict[str, Any]:
        """Return all of it in lists, numbers and words."""
        return asdict(self)

    # --- what follows from it -----------------------------------------------------------------

    @property
    def is_image(self) -> bool:
        """Return whether the columns are pixels."""
        return self.high > 0

    @property
    def image_shape(self) -> tuple[int, int] | None:
        """Return (height, width) of the image that the columns are; None if they are none.

        Numbers may be the pixels of one too, if nothing but numbers tells their names apart.
        """
        shape = square(len(self.columns))
        numbers = all(column.kind in (PIXEL, NUMBER) for column in self.columns)
        plain = len({_DIGITS.sub("#", column.name) for column in self.columns}) == 1
        is_large = shape is not None and shape[0] >= _SMALLEST_SIDE
        return shape if is_large and numbers and (self.is_image or plain) else None

    @property
    def names(self) -> list[str]:
        """Return the name of each input."""
        return [
            column.name if column.kind != CATEGORY else _input_name(column.name, category)
            for column in self.columns
            for category in (column.categories if column.kind == CATEGORY else [None])
            if column.kind != LEFT_OUT
        ]

    @property
    def numbers(self) -> np.ndarray:
        """Return which inputs are numbers, not a category's 0 or 1, shape (inputs,)."""
        kinds = [column.kind for column in self.columns for _ in range(column.inputs)]
        return np.array([kind != CATEGORY for kind in kinds], bool)

    def line(self) -> str:
        """Return a line on the kinds of the columns."""
        kinds = Counter(column.kind for column in self.columns)
        if self.is_image:
            return f"{kinds[PIXEL]} of pixels 0…{self.high:g}"
        parts = [f"{kinds[NUMBER]} of numbers"] * bool(kinds[NUMBER])
        if found := [column for column in self.columns if column.kind == CATEGORY]:
            shown = [f"{column.name}: {column.inputs}" for column in found]
            parts.append(f"{len(found)} of categories ({_listed(shown)})")
        if left_out := [column.name for column in self.columns if column.kind == LEFT_OUT]:
            parts.append(f"{len(left_out)} left out, as nothing in it recurs ({_listed(left_out)})")
        return ", ".join(parts)

    # --- other tables of these columns --------------------------------------------------------

    def features(self, table: Table, classes: Sequence[int | str]) -> tuple[Table, str | None]:
        """Find the features in another table, by name or by place, and its label if it has one.

        Raises
        ------
        DataError
            If a column is missing or unknown, or which is the label cannot be told.
        """
        if self.named and table.named:
            return self._by_name(table)
        found, wanted, names = table.frame.columns, len(self.columns), self._names()
        label = None
        if len(found) == wanted + 1:
            label = self._label_of(table, classes)
        elif len(found) == len(self._needed()):
            names = self._needed()
        elif len(found) != wanted:
            raise DataError(
                f"{table.path}: {len(found)} columns found, expected the {wanted} that were"
                f" trained on, or one more with the label"
            )
        return table.select([name for name in found if name != label], names), label

    @property
    def file_names(self) -> list[str]:
        """Return the names that a file's header may have; none of files without one."""
        return [self.label, *self._names()] if self.named else []

    def _names(self) -> list[str]:
        return [column.name for column in self.columns]

    def _needed(self) -> list[str]:
        return [column.name for column in self.columns if column.kind != LEFT_OUT]

    def _by_name(self, table: Table) -> tuple[Table, str | None]:
        found, wanted = table.frame.columns, self._names()
        needed = self._needed()
        missing = sorted({*needed} - {*found}, key=needed.index)
        # an index was no feature in training either, though here it may count otherwise
        known = {self.label, *wanted}
        unknown = [n for n in found if n not in known and n.casefold() not in INDEX_NAMES]
        if missing or unknown:
            parts = [f"missing: {_listed(missing)}"] * bool(missing)
            parts += [f"unknown: {_listed(unknown)}"] * bool(unknown)
            raise DataError(
                f"{table.path}: its columns are not those that were trained on; {'; '.join(parts)};"
                f" expected {_listed(needed)}, in any order"
            )
        there = set(found)
        features = table.select([name for name in wanted if name in there])
        return features, self.label if self.label in there else None

    def _label_of(self, table: Table, classes: Sequence[int | str]) -> str:
        """Find the one end column that has labels of these classes, or if none are given, can."""
        if not classes:
            return choose_label(table).name
        known = {_as_label(label) for label in classes}
        first, last = table.frame.columns[0], table.frame.columns[-1]
        ends = [
            name
            for name in (first, last)
            if {_as_label(value) for value in table.frame[name].unique().to_list()} <= known
        ]
        if len(ends) == 2 and self.is_image:
            # at an image's corner there is mostly ground; without it the label stands first
            ends = [name for name in ends if table.frame[name].n_unique() > 1] or ends
            ends = ends[:1]
        if len(ends) != 1:
            why = "both its first and its last column have" if ends else "neither end column has"
            raise DataError(
                f"{table.path}: {len(self.columns) + 1} columns found, {len(self.columns)} were"
                f" trained on, and {why} the labels {_listed(sorted(known))} alone: leave the"
                " label out, or write the columns' names above them"
            )
        return ends[0]

    # --- inputs -------------------------------------------------------------------------------

    def encode(self, features: Table) -> tuple[np.ndarray, list[str]]:
        """Turn cells into inputs, shape (n, inputs): uint8 of pixels, else float32.

        Return also a line for what was missing and for categories that are not known.
        """
        if self.is_image:
            return self._pixels(features), []
        x = np.zeros((len(features), len(self.names)), np.float32)
        at, missing, unknown = 0, [0, 0], {}
        for column in self.columns:
            if column.kind == NUMBER:
                values, absent = _numbers(features, column)
                x[:, at] = values
                missing[0] += absent
            elif column.kind == CATEGORY:
                words = features.words(column.name)
                places = {category: i for i, category in enumerate(column.categories)}
                codes = np.array([places.get(word, -1) for word in words])
                rows = np.flatnonzero(codes >= 0)
                x[rows, at + codes[rows]] = 1
                missing[1] += words.count(None)
                if count := int((codes < 0).sum()):
                    unknown[column.name] = count
            at += column.inputs
        notes = []
        if missing[0]:
            notes.append(f"missing numbers ({missing[0]:,}) took their column's training median")
        if missing[1]:
            notes.append(f"missing categories ({missing[1]:,}) count as one of their own")
        if unknown:
            counts = [f"{name} ({count:,})" for name, count in unknown.items()]
            notes.append(f"categories that were rare or absent in training: {_listed(counts)}")
        return x, notes

    def _pixels(self, features: Table) -> np.ndarray:
        values = features.frame.to_numpy()
        if values.dtype.kind not in "iuf":
            name = next(n for n in features.frame.columns if features.is_words(n))
            raise _no_number(features, name)
        if values.dtype.kind == "f":
            whole = np.isfinite(values) & (values == np.floor(values))
            _refuse(features, ~whole, f"a pixel 0…{self.high:g}")
        if values.size and (values.min() < 0 or values.max() > self.high):
            outside = (values < 0) | (values > self.high)
            _refuse(features, outside, f"a pixel 0…{self.high:g}")
        return np.ascontiguousarray(values, dtype=np.uint8)


def encoded(
    parts: Sequence[Any],
    label: str | None,
    pixel_range: tuple[float, float],
    columns: Columns | None = None,
) -> tuple[list[np.ndarray], Columns | None, list[str]]:
    """Turn those parts that are tables into inputs: one to train, to test and perhaps to validate.

    Return also the columns, and lines to show.
    """
    train, *others = parts
    notes: list[str] = []
    if not isinstance(train, np.ndarray):
        columns = Columns.learned(train, label or "")
        train, found = columns.encode(train)
        notes = [f"training samples: {note}" for note in found]
    if columns is not None:
        notes.insert(0, f"columns: {columns.line()}")
    inputs = [train]
    for name, part in zip(("test", "validation"), others, strict=False):
        if not isinstance(part, np.ndarray):
            high = pixel_range[1] if train.dtype == np.uint8 else 0.0
            reader = columns or Columns.unnamed(train.shape[1], high)
            features, _ = reader.features(part, ())
            part, found = reader.encode(features)
            notes += [f"{name} samples: {note}" for note in found]
        inputs.append(part)
    return inputs, columns, notes


def _pixel_range(features: Table) -> float:
    """Return the upper end of the range of columns that are an image's pixels; else 0."""
    shape = square(features.frame.width)
    if shape is None or shape[0] < _SMALLEST_SIDE:
        return 0.0
    if not all(dtype.is_integer() for dtype in features.frame.dtypes):
        return 0.0
    if any(features.frame.null_count().row(0)):
        return 0.0
    low, high = (min(features.frame.min().row(0)), max(features.frame.max().row(0)))
    ranges = [most for most in _RANGES if high <= most]
    return float(ranges[0]) if low == 0 and ranges and high >= _FILLED * ranges[0] else 0.0


def _column(features: Table, name: str) -> Column:
    cells = features.frame[name]
    if cells.null_count() == len(cells):
        return Column(name, LEFT_OUT)
    if not features.is_words(name):
        return Column(name, NUMBER, median=_median(cells))
    counts = Counter(features.words(name))
    # of those that come once, nothing can be learned
    often = [word for word, count in counts.most_common() if count > 1][:_MOST_CATEGORIES]
    if not [word for word in often if word is not None]:
        return Column(name, LEFT_OUT)
    # a word that is there once only is a category too, where there are few
    kept = list(counts) if len(counts) <= _SHOWN else often
    words = sorted(word for word in kept if word is not None)
    return Column(name, CATEGORY, categories=(*words, *([None] if None in kept else [])))


def _median(cells: Any) -> float:
    return float(cells.median())


def _numbers(features: Table, column: Column) -> tuple[np.ndarray, int]:
    """Return a column's numbers, the median for missing ones, and how many these are."""
    if features.is_words(column.name):
        raise _no_number(features, column.name)
    cells = features.frame[column.name]
    values = cells.to_numpy().astype(np.float64)
    absent = np.isnan(values)
    with np.errstate(over="ignore"):
        values = np.where(absent, column.median, values).astype(np.float32)
    if not np.isfinite(values).all():
        row = int(np.argmin(np.isfinite(values)))
        where = features.where(row, column.name)
        found = "a missing cell" if cells[row] is None else f"{cells[row]:g}"
        raise DataError(f"{where}: {found} found, a finite float32 wanted")
    return values, int(absent.sum())


def _no_number(features: Table, name: str) -> DataError:
    """Return the error of a column of numbers that has something else."""
    for row, word in enumerate(features.words(name)):
        word = word or "nan"
        try:
            float(word)
        except ValueError:
            return DataError(f"{features.where(row, name)}: {word[:40]!r} found, a number wanted")
    return DataError(f"{features.path}: column {name!r} holds no numbers, as the training's did")


def _refuse(features: Table, bad: np.ndarray, wanted: str) -> None:
    if bad.any():
        row, column = np.unravel_index(int(bad.argmax()), bad.shape)
        name = features.frame.columns[int(column)]
        value = features.frame[name][int(row)]
        raise DataError(f"{features.where(int(row), name)}: {value} found, {wanted} wanted")


def _input_name(column: str, category: str | None) -> str:
    return f"{column} missing" if category is None else f"{column}={category}"


def _as_label(value: Any) -> str:
    """Write a label alike, whether it was read as a number or as a word."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more

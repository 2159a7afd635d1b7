"""CSV files: the label first, then one column a feature, with or without one header line."""

from __future__ import annotations

import mmap
import re
import warnings
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from .dataset import DataError, Samples, Source, cause, first_non_integer

_NUMBER = re.compile(
    r'\s*("?)\s*[+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d+)?|nan|inf(inity)?)\s*\1\s*',
    re.ASCII | re.IGNORECASE,
)
_DECIMAL = re.compile(rb"[.eE]")
_DECIMAL_AFTER_LABEL = re.compile(rb",[^,\r\n.eE]*[.eE]")


def read_file(path: Path) -> Source:
    """Read one labelled CSV file.

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
        Names the file, the line, the column and the cell at fault.
    """
    return Source(name=path.stem, kind="csv", source=str(path), train=_read_labelled(path))


def read_folder(folder: Path) -> Source:
    """Read a folder with one training and one test CSV.

    Parameters
    ----------
    folder : Path
        Holds exactly one ``*train*.csv`` and one ``*test*.csv``.

    Returns
    -------
    Source

    Raises
    ------
    DataError
        Other files than these two, or a bad file.
    """
    found = sorted(entry for entry in folder.iterdir() if entry.suffix.lower() == ".csv")
    parts = [[path for path in found if part in path.stem.lower()] for part in ("train", "test")]
    if [len(paths) for paths in parts] != [1, 1] or parts[0] == parts[1]:
        names = ", ".join(path.name for path in found)
        raise DataError(
            f"{folder}: one *train*.csv and one *test*.csv wanted, found {names}; "
            "give the file itself as --data, and another as --test-data"
        )
    return Source(
        name=folder.name,
        kind="csv",
        source=str(folder),
        train=_read_labelled(parts[0][0]),
        test=_read_labelled(parts[1][0]),
    )


def read_unlabelled(path: Path, features: int) -> np.ndarray:
    """Read the features of a CSV, a leading label column left out.

    Parameters
    ----------
    path : Path
    features : int
        The number of columns, one more where labels lead.

    Returns
    -------
    numpy.ndarray
        (n, features), uint8 or float32.

    Raises
    ------
    DataError
        Another number of columns, or a bad file.
    """
    values, skip, columns = _read_numbers(path)
    if columns not in (features, features + 1):
        raise DataError(
            f"{path}: {columns} columns found, {features} wanted (or {features + 1}, label first)"
        )
    return _features(path, values[:, columns - features :], skip, columns - features)


def _read_labelled(path: Path) -> Samples:
    values, skip, columns = _read_numbers(path)
    if columns < 2:
        raise DataError(f"{path}: one column found; a label and at least one feature are wanted")
    row = first_non_integer(values[:, 0])
    if row is not None:
        raise DataError(
            f"{path}: line {_line(path, skip, row)}, column 1: label {values[row, 0]:g} found, "
            "an integer wanted"
        )
    return _features(path, values[:, 1:], skip, label_columns=1), values[:, 0].astype(np.int64)


def _read_numbers(path: Path) -> tuple[np.ndarray, int, int]:
    """Return all cells as numbers, how many lines come before them, and how many columns."""
    try:
        skip, columns = _start(path)
        try:
            return _loadtxt(path, skip, np.int32), skip, columns
        except UnicodeDecodeError:
            raise
        except ValueError:
            # Decimals; or a fault, which then shows here again.
            try:
                return _loadtxt(path, skip, np.float64), skip, columns
            except ValueError as error:
                _find_fault(path, columns, skip)
                raise DataError(f"{path}: not readable as numbers: {cause(error)}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text: {_find_bad_byte(path)}") from error


def _loadtxt(path: Path, skip: int, dtype: type[np.generic]) -> np.ndarray:
    with warnings.catch_warnings():
        # Older NumPys only warn when they cut the decimals off for an integer dtype.
        warnings.simplefilter("error", DeprecationWarning)
        return np.loadtxt(
            str(path),  # NumPy reads a file that it opens itself by chunks, not by lines
            dtype=dtype,
            delimiter=",",
            comments=None,
            quotechar='"',
            skiprows=skip,
            ndmin=2,
            encoding="utf-8-sig",
        )


def _lines(path: Path, skip: int = 0) -> Iterator[tuple[int, str]]:
    """Yield the number (from 1) and the text of each line that is not blank."""
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if number > skip and line != "\n":
                yield number, line.removesuffix("\n")


def _start(path: Path) -> tuple[int, int]:
    """Return how many lines come before the first row of numbers, and its number of columns."""
    lines = _lines(path)
    number, line = next(lines, (0, ""))
    if number == 0:
        raise DataError(f"{path}: line 1: the file is empty")
    for separator in (";", "\t"):
        if separator in line and "," not in line:
            raise DataError(f"{path}: line {number}: cells separated by {separator!r}, not by ','")
    if _NUMBER.fullmatch(line.split(",")[0]):
        return 0, line.count(",") + 1
    _, first_row = next(lines, (0, ""))
    if not first_row:
        raise DataError(f"{path}: line {number}: a header and nothing else")
    return number, first_row.count(",") + 1


def _find_fault(path: Path, columns: int, skip: int) -> None:
    """Raise for the first line that is no row of so many numbers."""
    for number, line in _lines(path, skip):
        cells = line.split(",")
        for column, cell in enumerate(cells[:columns], start=1):
            if not _NUMBER.fullmatch(cell):
                label = " (labels, in the first column, are whole numbers)" if column == 1 else ""
                raise DataError(
                    f"{path}: line {number}, column {column}: {cell[:40]!r} found, "
                    f"a number wanted{label}"
                )
        if len(cells) != columns:
            raise DataError(
                f"{path}: line {number}: {len(cells)} values found, {columns} wanted "
                "as in the first row"
            )


def _find_bad_byte(path: Path) -> str:
    content = path.read_bytes()
    try:
        content.decode()
    except UnicodeDecodeError as error:
        return f"0x{content[error.start]:02x} at byte {error.start}"
    return "it changed while it was read"


def _features(path: Path, values: np.ndarray, skip: int, label_columns: int) -> np.ndarray:
    """Check the feature columns and return them as uint8 or, where decimals occur, float32."""
    if values.dtype != np.int32:
        with np.errstate(over="ignore"):
            floats = values.astype(np.float32)
        _refuse(path, skip, label_columns, values, ~np.isfinite(floats), "a finite float32")
        if _holds_decimals(path, skip, label_columns):
            return floats
    _refuse(path, skip, label_columns, values, (values < 0) | (values > 255), "a pixel 0…255")
    return values.astype(np.uint8)


def _holds_decimals(path: Path, skip: int, label_columns: int) -> bool:
    pattern = _DECIMAL_AFTER_LABEL if label_columns else _DECIMAL
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        header = re.match(rb"(?:[^\r\n]*(?:\r\n|\r|\n)){%d}" % skip, content)
        return pattern.search(content, header.end() if header else 0) is not None


def _refuse(
    path: Path, skip: int, label_columns: int, values: np.ndarray, bad: np.ndarray, wanted: str
) -> None:
    if bad.any():
        row, feature = (int(i) for i in np.argwhere(bad)[0])
        raise DataError(
            f"{path}: line {_line(path, skip, row)}, column {feature + label_columns + 1}: "
            f"{values[row, feature]:g} found, {wanted} wanted"
        )


def _line(path: Path, skip: int, row: int) -> int:
    return next(islice(_lines(path, skip), row, None))[0]

"""CSV files: the label first, a whole number or a word, then one column a feature."""

from __future__ import annotations

import mmap
import re
import warnings
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from ..array_files import ArrayFileError, cause, check_lines
from .dataset import (
    WORD_WANTED,
    DataError,
    Samples,
    Source,
    first_non_integer,
    first_true,
    is_word,
)

_NUMBER = re.compile(
    r'\s*("?)\s*[+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d+)?|nan|inf(inity)?)\s*\1\s*',
    re.ASCII | re.IGNORECASE,
)
_QUOTED = re.compile(r'\s*"((?:[^"]|"")*+)"\s*(?:,(.*)|\Z)', re.DOTALL)
_DECIMAL = re.compile(rb"[.eE]")
_DECIMAL_AFTER_LABEL = re.compile(rb",[^,\r\n.eE]*[.eE]")


def read_file(path: Path) -> Source:
    """Read one labelled CSV file.

    Labels are whole numbers or, if one of them is none, words. A first line that begins with no
    number is a header if the second line begins with one, or if its second cell is no number.

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
    found = sorted(
        entry for entry in folder.iterdir() if entry.suffix.lower() == ".csv" and entry.is_file()
    )
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
    words, values, skip, columns = _read(path)
    if columns not in (features, features + 1):
        raise DataError(
            f"{path}: {columns} columns found, {features} wanted (or {features + 1}, label first)"
        )
    if words is not None and columns == features:
        _find_fault(path, columns, skip, words=False)
    return _features(path, values[:, -features:], skip, columns - features)


def _read_labelled(path: Path) -> Samples:
    words, values, skip, columns = _read(path)
    if columns < 2:
        raise DataError(f"{path}: one column found; a label and at least one feature are wanted")
    if words is not None:
        for index, word in enumerate(words):
            if not is_word(word):
                raise DataError(
                    f"{path}: line {_line(path, skip, index)}, column 1: label {word[:40]!r} "
                    f"found, {WORD_WANTED}"
                )
        return _features(path, values, skip, label_columns=1), np.array(words)
    row = first_non_integer(values[:, 0])
    if row is not None:
        raise DataError(
            f"{path}: line {_line(path, skip, row)}, column 1: label {values[row, 0]:g} found, "
            "an integer wanted"
        )
    return _features(path, values[:, 1:], skip, label_columns=1), values[:, 0].astype(np.int64)


def _read(path: Path) -> tuple[list[str] | None, np.ndarray, int, int]:
    """Return the labels that are words, all other cells, the lines before them, and the columns.

    Where labels are numbers, they are among the cells, and there are no words.
    """
    try:
        check_lines(path)
        skip, columns, worded = _start(path)
        if not worded:
            try:
                return None, _numbers(path, skip), skip, columns
            except ValueError as error:
                if not _holds_words(path, skip):
                    _find_fault(path, columns, skip, words=False)
                    raise DataError(f"{path}: not readable as numbers: {cause(error)}") from error
        words: list[str] = []
        try:
            values = _numbers(path, skip, words)
        except ValueError as error:
            _find_fault(path, columns, skip, words=True)
            raise DataError(f"{path}: not readable as numbers: {cause(error)}") from error
        return words, values, skip, columns
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text: {_find_bad_byte(path)}") from error
    except ArrayFileError as error:
        raise DataError(str(error)) from error


def _numbers(path: Path, skip: int, words: list[str] | None = None) -> np.ndarray:
    """Read all cells as integers or, where that fails, as floats.

    With a list of words the first cell of each line goes there instead, as it stands.
    """
    try:
        return _loadtxt(path, skip, words, np.int32)
    except UnicodeDecodeError:
        raise
    except ValueError:  # decimals; or a fault, which then shows here again
        return _loadtxt(path, skip, words, np.float64)


def _loadtxt(path: Path, skip: int, words: list[str] | None, dtype: type[np.generic]) -> np.ndarray:
    # NumPy reads a file that it opens itself by chunks, not by lines
    source = str(path) if words is None else _after_words(path, skip, words)
    with warnings.catch_warnings():
        # Older NumPys only warn when they cut the decimals off for an integer dtype.
        warnings.simplefilter("error", DeprecationWarning)
        values = np.loadtxt(
            source,
            dtype=dtype,
            delimiter=",",
            comments=None,
            quotechar='"',
            skiprows=skip if words is None else 0,
            ndmin=2,
            encoding="utf-8-sig",
        )
    if words is not None and len(words) != len(values):
        raise ValueError("a quotation goes over several lines")
    return values


def _after_words(path: Path, skip: int, words: list[str]) -> Iterator[str]:
    words.clear()
    same: dict[str, str] = {}  # a label is kept once, not once a line
    for _, line in _lines(path, skip):
        word, rest = _cut(line)
        words.append(same.setdefault(word, word))
        yield rest or " "  # an empty line would be passed over


def _cut(line: str) -> tuple[str, str | None]:
    """Return the first cell without quotes, and the rest of the line if there is one."""
    if match := _QUOTED.match(line):
        return match[1].replace('""', '"').strip(), match[2]
    word, comma, rest = line.partition(",")
    return word.strip(), rest if comma else None


def _is_number(cell: str) -> bool:
    return _NUMBER.fullmatch(cell) is not None


def _holds_words(path: Path, skip: int) -> bool:
    """Whether a label, the first cell of a line, is no number."""
    return not all(_is_number(_cut(line)[0]) for _, line in _lines(path, skip))


def _lines(path: Path, skip: int = 0) -> Iterator[tuple[int, str]]:
    """Yield the number (from 1) and the text of each line that is not blank."""
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if number > skip and line != "\n":
                yield number, line.removesuffix("\n")


def _start(path: Path) -> tuple[int, int, bool]:
    """Return how many lines come before the first row, its columns, and whether labels are words.

    A line that begins with no number is a header if the next one does, or if its second cell is
    no number either.
    """
    lines = _lines(path)
    number, line = next(lines, (0, ""))
    if number == 0:
        raise DataError(f"{path}: line 1: the file is empty")
    for separator in (";", "\t"):
        if separator in line and "," not in line:
            raise DataError(f"{path}: line {number}: cells separated by {separator!r}, not by ','")
    word, rest = _cut(line)
    if _is_number(word):
        return 0, line.count(",") + 1, False
    _, second = next(lines, (0, ""))
    if second and _is_number(_cut(second)[0]):
        return number, second.count(",") + 1, False
    if rest is not None and _is_number(_cut(rest)[0]):
        return 0, rest.count(",") + 2, True
    if not second:
        raise DataError(f"{path}: line {number}: a header and nothing else")
    _, rest = _cut(second)
    return number, 1 if rest is None else rest.count(",") + 2, True


def _find_fault(path: Path, columns: int, skip: int, *, words: bool) -> None:
    """Raise for the first line that is no row of so many numbers, or a word and numbers."""
    for number, line in _lines(path, skip):
        numbers = _cut(line)[1] if words else line
        cells = [] if numbers is None else numbers.split(",")
        for column, cell in enumerate(cells[: columns - words], start=1 + words):
            if not _is_number(cell):
                raise DataError(
                    f"{path}: line {number}, column {column}: {cell[:40]!r} found, a number wanted"
                    " (labels stand in column 1)"
                )
        if len(cells) + words != columns:
            raise DataError(
                f"{path}: line {number}: {len(cells) + words} values found, {columns} wanted "
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
        row, feature = first_true(bad)
        raise DataError(
            f"{path}: line {_line(path, skip, row)}, column {feature + label_columns + 1}: "
            f"{values[row, feature]:g} found, {wanted} wanted"
        )


def _line(path: Path, skip: int, row: int) -> int:
    return next(islice(_lines(path, skip), row, None))[0]

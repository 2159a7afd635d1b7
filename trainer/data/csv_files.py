"""CSV files: the label first, a whole number or a word, then one column a feature."""

from __future__ import annotations

import mmap
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from ..array_files import cause, check_lines
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
    """Read one labelled file.

    Labels are whole numbers or, if one of them is no number, words. A first line that begins with
    no number is a header if the second line begins with one, or if its second cell is no number.
    """
    return Source(path.stem, "csv", str(path), _read_labelled(path))


def read_folder(folder: Path) -> Source:
    """Read a folder with exactly one ``*train*.csv`` and one ``*test*.csv``."""
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
    (train,), (test,) = parts
    return Source(folder.name, "csv", str(folder), _read_labelled(train), _read_labelled(test))


def read_unlabelled(path: Path, features: int) -> np.ndarray:
    """Read so many columns of features, or one more with labels first, which are left out."""
    return _read(path, features).features()


def _read_labelled(path: Path) -> Samples:
    table = _read(path)
    labels = table.labels()
    return table.features(), labels


@dataclass
class _Table:
    """All cells of a file as numbers; of labels that are words, these are their places."""

    path: Path
    skip: int  # lines before the first row
    label_columns: int  # 0 or 1
    words: list[str]
    values: np.ndarray

    def labels(self) -> np.ndarray:
        """Check the labels and return them as int64 or text."""
        labels = self.values[:, 0]
        if not self.words:
            row = first_non_integer(labels)
            if row is not None:
                raise self._fault(row, 1, f"label {labels[row]:g}", "an integer wanted")
            return labels.astype(np.int64)
        places = labels.astype(np.intp)
        for place, word in enumerate(self.words):
            if not is_word(word):
                row = int(np.argmax(places == place))
                raise self._fault(row, 1, f"label {word[:40]!r}", WORD_WANTED)
        return np.array(self.words)[places]

    def features(self) -> np.ndarray:
        """Check the other columns and return them as uint8 or, if decimals occur, float32."""
        values = self.values[:, self.label_columns :]
        if values.dtype != np.int32:
            with np.errstate(over="ignore"):
                floats = values.astype(np.float32)
            self._refuse(values, ~np.isfinite(floats), "a finite float32")
            if self._holds_decimals():
                return floats
        self._refuse(values, (values < 0) | (values > 255), "a pixel 0…255")
        return values.astype(np.uint8)

    def _refuse(self, values: np.ndarray, bad: np.ndarray, wanted: str) -> None:
        if bad.any():
            row, feature = first_true(bad)
            column = feature + self.label_columns + 1
            raise self._fault(row, column, f"{values[row, feature]:g}", f"{wanted} wanted")

    def _fault(self, row: int, column: int, found: str, wanted: str) -> DataError:
        line, _ = next(islice(_lines(self.path, self.skip), row, None))
        return DataError(f"{self.path}: line {line}, column {column}: {found} found, {wanted}")

    def _holds_decimals(self) -> bool:
        pattern = _DECIMAL_AFTER_LABEL if self.label_columns else _DECIMAL
        with (
            self.path.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
        ):
            header = re.match(rb"(?:[^\r\n]*(?:\r\n|\r|\n)){%d}" % self.skip, content)
            return pattern.search(content, header.end() if header else 0) is not None


def _read(path: Path, features: int | None = None) -> _Table:
    """Read a file that is labelled or, if it has no more columns than features, is not."""
    words: dict[str, int] = {}
    try:
        check_lines(path)
        skip, columns = _start(path)
        labels = 1 if features is None else columns - features
        if features is not None and labels not in (0, 1):
            raise DataError(
                f"{path}: {columns} columns found, {features} wanted "
                f"(or {features + 1}, label first)"
            )
        if columns == labels:
            raise DataError(
                f"{path}: one column found; a label and at least one feature are wanted"
            )
        try:
            try:
                values = _numbers(path, skip)
            except ValueError:
                if not labels or all(_is_number(_cut(line)[0]) for _, line in _lines(path, skip)):
                    raise
                values = _numbers(path, skip, words)
        except ValueError as error:
            _find_fault(path, skip, columns, labels)
            raise DataError(f"{path}: not readable as numbers: {cause(error)}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text: {_find_bad_byte(path)}") from error
    return _Table(path, skip, labels, list(words), values)


def _numbers(path: Path, skip: int, words: dict[str, int] | None = None) -> np.ndarray:
    """Read all cells as integers or, where that fails, as floats.

    With a dictionary of words, each first cell is read as its place there, and added if it is new.
    """

    def load(dtype: type[np.generic]) -> np.ndarray:
        # of a file that it opens itself, NumPy reads by chunks, not by lines
        return np.loadtxt(
            str(path) if words is None else _coded(path, skip, words),
            dtype=dtype,
            delimiter=",",
            comments=None,
            quotechar='"',
            skiprows=skip if words is None else 0,
            ndmin=2,
            encoding="utf-8-sig",
        )

    try:
        with warnings.catch_warnings():
            # Older NumPys only warn when they cut the decimals off for an integer dtype.
            warnings.simplefilter("error", DeprecationWarning)
            return load(np.int32)
    except ValueError:  # decimals; or a fault, which then shows here again
        return load(np.float64)


def _coded(path: Path, skip: int, words: dict[str, int]) -> Iterator[str]:
    for _, line in _lines(path, skip):
        word, rest = _cut(line)
        yield f"{words.setdefault(word, len(words))},{rest or ''}"


def _cut(line: str) -> tuple[str, str | None]:
    """Return the first cell without quotes, and the rest of the line if there is one."""
    if match := _QUOTED.match(line):
        return match[1].replace('""', '"').strip(), match[2]
    word, comma, rest = line.partition(",")
    return word.strip(), rest if comma else None


def _is_number(cell: str) -> bool:
    return _NUMBER.fullmatch(cell) is not None


def _lines(path: Path, skip: int = 0) -> Iterator[tuple[int, str]]:
    """Yield the number (from 1) and the text of each line that is not blank."""
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if number > skip and line != "\n":
                yield number, line.removesuffix("\n")


def _start(path: Path) -> tuple[int, int]:
    """Return how many lines come before the first row, and how many columns that has."""
    lines = _lines(path)
    number, line = next(lines, (0, ""))
    _, second = next(lines, (0, ""))
    if number == 0:
        raise DataError(f"{path}: line 1: the file is empty")
    for separator in (";", "\t"):
        if separator in line and "," not in line:
            raise DataError(f"{path}: line {number}: cells separated by {separator!r}, not by ','")
    label, rest = _cut(line)
    if not _is_number(label):
        numbered = rest is not None and _is_number(_cut(rest)[0])
        if _is_number(_cut(second)[0]) or (second and not numbered):
            return number, _columns(second)
        if not numbered:
            raise DataError(f"{path}: line {number}: a header and nothing else")
    return 0, _columns(line)


def _columns(line: str) -> int:
    _, rest = _cut(line)
    return 1 if rest is None else rest.count(",") + 2


def _find_fault(path: Path, skip: int, columns: int, labels: int) -> None:
    """Raise for the first line that is no row of so many columns, all but the labels' numbers."""
    for number, line in _lines(path, skip):
        numbers = _cut(line)[1] if labels else line
        cells = [] if numbers is None else numbers.split(",")
        for column, cell in enumerate(cells[: columns - labels], start=1 + labels):
            if not _is_number(cell):
                raise DataError(
                    f"{path}: line {number}, column {column}: {cell[:40]!r} found, a number wanted"
                    " (labels stand in column 1)"
                )
        if len(cells) + labels != columns:
            raise DataError(
                f"{path}: line {number}: {len(cells) + labels} values found, {columns} wanted "
                "as in the first row"
            )


def _find_bad_byte(path: Path) -> str:
    content = path.read_bytes()
    try:
        content.decode()
    except UnicodeDecodeError as error:
        return f"0x{content[error.start]:02x} at byte {error.start}"
    return "it changed while it was read"

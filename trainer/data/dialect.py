"""How a text table is written: packing, encoding, separator, quotes, comments and header.

Whatever is found, what comes out is plain: rows of cells between one separator, without quotes,
comments and blank lines, each row as long as the first.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..array_files import parsing, unpacked_limit
from .dataset import DataError

TEXTS = (".csv", ".tsv", ".tab", ".txt", ".data", ".dat")
PACKINGS = (".gz", ".bz2", ".xz", ".zip")
# What stands for a missing cell: most of what pandas takes for one, and UCI's question mark.
MISSING = frozenset(
    ["", "NA", "N/A", "n/a", "NaN", "nan", "-nan", "-NaN", "null", "NULL", "None", "?", "#N/A"]
)
# Column names that mark the label.
LABEL_NAMES = frozenset(
    ["label", "labels", "class", "classes", "class_label", "class label", "target", "targets"]
).union(
    ["classification", "class_name", "y", "species", "variety", "category", "outcome", "diagnosis"]
)

_BLANKS = " "  # runs of blanks and tabs
_SEPARATORS = (",", ";", "\t", "|", _BLANKS)
_PAIR = re.compile(r"\d+:[-+.\deE]+")  # of LIBSVM
_PLAIN = "\x1f"  # separates the cells of what had to be written anew
_BYTE_ORDER_MARKS = {b"\xef\xbb\xbf": "utf-8", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
_COMMENTS = ("#", "%", "@")
_LONGEST_LINE = 1 << 22
_XZ_MEMORY, _XZ_CHUNK = 1 << 27, 1 << 13  # xz -9 takes half of that
_MOST_COLUMNS = 1 << 16
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_ANY_NUMBER = re.compile(r"[+-]?([0-9]+[.,]?[0-9]*|[.,][0-9]+)([eE][+-]?[0-9]+)?")
_BLANK_CELLS = re.compile(r'"((?:[^"]|"")*+)"(?=\s|\Z)|(\S+)')


@dataclass(frozen=True)
class Text:
    """A text table, written plainly.

    Attributes
    ----------
    path : Path
    content : bytes
        UTF-8, one line a row, without the header.
    separator : str
        Between the cells of `content`.
    found : str
        The file's own separator.
    header : list of str or None
        The names that the file gives its columns.
    counted : bool
        Whether the header only counts the columns.
    width : int
        Cells a row.
    first_line : int
        Of the file, in which row 0 stands.
    lines : numpy.ndarray or None
        The line of each row; None where each is one further than the last.
    """

    path: Path
    content: bytes
    separator: str
    found: str
    header: list[str] | None
    counted: bool
    width: int
    first_line: int
    lines: np.ndarray | None

    def check(self) -> None:
        """Raise for a row that is too short or too long, where they make up for each other."""
        if self.lines is not None:
            return
        mark = self.separator.encode()
        rows = self.content.removesuffix(b"\n").split(b"\n")
        for line, row in enumerate(rows, start=self.first_line):
            if row.count(mark) != self.width - 1:
                raise _uneven(self.path, line, row.count(mark) + 1, self.width)


def read_text(path: Path, names: Sequence[str] = (), fewest: int = 2) -> Text:
    """Find out how a text table is written, and return it plainly.

    A first row that holds most of the names, where there are any, is a header.

    Raises
    ------
    DataError
        No text, no table, or a row of another length than the first.
    """
    content = _decoded(_unpacked(path), path)
    if said := re.match(rb'"?sep=([,;\t|])"?\n', content):  # by Excel, which shows no such row
        content = content[said.end() - 1 :]
    comment, comments = _comments(content, path)
    sample = _sample(content, comment, path)
    if not sample:
        raise DataError(f"{path}: line 1: the file is empty")
    separator = said[1].decode() if said else _separator(sample) or ("," if fewest == 1 else None)
    if separator is None:
        raise DataError(
            f"{path}: one column found, cells separated by none of ',', ';', '|', tab or blanks; "
            "a label and at least one feature are wanted"
        )
    wanted = max(20, min(1000, 20_000 // (len(sample[0]) // 2 + 1)))
    reader = _rows(content, separator, comment, path)
    rows = list(islice(reader, 1))
    if not rows:
        raise DataError(
            f"{path}: line 1: no cell found; a label and at least one feature are wanted"
        )
    first = rows[0].cells
    if len(first) > _MOST_COLUMNS:
        raise DataError(f"{path}: {len(first):,} columns; at most {_MOST_COLUMNS:,} are read")
    rows.extend(islice(reader, wanted))
    others = [row.cells for row in rows[1:]]
    if all(_PAIR.fullmatch(cell) for row in rows for cell in row.cells[1:]) and first[1:]:
        raise DataError(
            f"{path}: line {rows[0].line}: {first[1]!r} found, as in a LIBSVM file; read it with"
            " sklearn.datasets.load_svmlight_file and save it as CSV"
        )
    if not others and (_is_header_alone(first) or _holds(first, names)):
        raise DataError(f"{path}: line {rows[0].line}: a header and nothing else")
    header, counted, skip, width = None, False, 0, len(first)
    if _tells_size(first, others):
        skip, width = rows[0].end, len(others[0])
    elif _counts(first, others):
        header, counted, skip = first, True, rows[0].end
    elif _holds(first, names) or _names(first, others):
        header, skip = first, rows[0].end
    elif comments:
        header = _commented(comments[-1], separator, len(first))
    if skip and header and all(len(row) == width + 1 for row in others):  # R's, over row names
        header, width = ["", *first], width + 1
    return _plain(path, content, skip, separator, comment, header, counted, width)


# --- Bytes and letters ------------------------------------------------------------------------


def _unpacked(path: Path) -> bytes:
    """Read a file and unpack it, to no more than it can be trusted with."""
    packing = path.suffix.lower()
    if packing not in PACKINGS:
        return path.read_bytes()
    import bz2
    import gzip
    import zipfile

    limit = unpacked_limit(path.stat().st_size)
    with parsing(path, f"{packing} file"):
        if packing == ".zip":
            with zipfile.ZipFile(path) as archive:
                names = [name for name in archive.namelist() if not name.endswith("/")]
                names = [name for name in names if not name.startswith("__MACOSX/")]
                if len(names) != 1:
                    raise DataError(f"{path}: {len(names)} files found inside; one is wanted")
                with archive.open(names[0]) as file:
                    content = file.read(limit + 1)
        elif packing == ".xz":
            content = _without_xz(path, limit)
        else:
            opener: Any = {".gz": gzip.open, ".bz2": bz2.open}[packing]
            with opener(path, "rb") as file:
                content = file.read(limit + 1)
    if len(content) > limit:
        raise DataError(
            f"{path}: more than {limit:,} bytes unpacked; if so many are meant, unpack it"
        )
    return content


def _without_xz(path: Path, limit: int) -> bytes:
    """Unpack a file's streams, to a byte more than the limit at most.

    As `lzma.open`, which takes as much memory as a file asks for, up to 4 GB.
    """
    import lzma

    content, packed = bytearray(), b""
    stream = lzma.LZMADecompressor(memlimit=_XZ_MEMORY)
    with path.open("rb") as file:
        while len(content) <= limit and (packed := packed or file.read(_XZ_CHUNK)):
            if stream.eof:
                packed = packed.lstrip(b"\0")  # of which there may be four and four in between
                if not packed:
                    continue
                stream = lzma.LZMADecompressor(memlimit=_XZ_MEMORY)
            content += stream.decompress(packed, limit + 1 - len(content))
            packed = stream.unused_data
    if len(content) <= limit and not stream.eof:
        raise EOFError("it ends too early")
    return bytes(content)


def _decoded(content: bytes, path: Path) -> bytes:
    """Return UTF-8 without a mark, lines ended by newlines."""
    marks = [mark for mark in _BYTE_ORDER_MARKS if content.startswith(mark)]
    mark = marks[0] if marks else b""
    encoding = _BYTE_ORDER_MARKS.get(mark, "utf-8")
    try:
        if encoding == "utf-16":
            content = content.decode("utf-16").encode()
        elif not content.isascii():
            content.decode()
    except UnicodeError as error:
        at = getattr(error, "start", 0)
        byte = f"0x{content[at]:02x} at byte {at}" if at < len(content) else "it ends too early"
        raise DataError(f"{path}: not {encoding.upper()} text: {byte}; save it as UTF-8") from error
    if encoding == "utf-8":
        content = content[len(mark) :]
    if b"\0" in content:
        raise DataError(f"{path}: no text: a byte 0 at {content.index(0)}")
    if b"\r" in content:
        content = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return content


def _lines(content: bytes) -> Iterator[str]:
    return io.TextIOWrapper(io.BytesIO(content), encoding="utf-8", newline="\n")


def _comments(content: bytes, path: Path) -> tuple[str | None, list[str]]:
    """Return how comments begin, if the file begins with one, and those that it begins with."""
    comments: list[str] = []
    for line in _lines(content):
        text = line.strip()
        if text and not text.startswith(_COMMENTS):
            break
        if text.casefold().startswith(("@relation", "@attribute", "@data")):
            raise DataError(f"{path}: an ARFF file; save it as CSV")
        if text:
            comments.append(text)
    return (comments[0][0] if comments else None), comments


# --- Rows and cells ---------------------------------------------------------------------------


class _Row(NamedTuple):
    line: int  # in which it begins, from 1
    end: int  # in which it ends
    cells: list[str]


def _rows(
    content: bytes, separator: str, comment: str | None, path: Path, skip: int = 0
) -> Iterator[_Row]:
    """Yield every row but blank lines and comments."""
    lines = _lines(content)
    for _ in islice(lines, skip):
        pass
    if comment is not None:
        lines = ("\n" if line.lstrip().startswith(comment) else line for line in lines)
    if separator == _BLANKS:
        for number, line in enumerate(lines, start=skip + 1):
            if cells := _cut_at_blanks(line):
                yield _Row(number, number, cells)
        return
    reader = csv.reader(lines, delimiter=separator, skipinitialspace=True, strict=True)
    end = skip
    while True:
        start = end + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            why = str(error)
            if why == "unexpected end of data":
                why = "a quote that is never closed"
            raise DataError(f"{path}: line {start}: {why}") from error
        end = skip + reader.line_num
        if len(cells) > 1 or (cells and cells[0].strip()):
            yield _Row(start, end, cells)


def _cut_at_blanks(line: str) -> list[str]:
    if '"' not in line:
        return line.split()
    found = _BLANK_CELLS.findall(line)
    return [word or quoted.replace('""', '"') for quoted, word in found]


def _plain(
    path: Path,
    content: bytes,
    skip: int,
    separator: str,
    comment: str | None,
    header: list[str] | None,
    counted: bool,
    width: int,
) -> Text:
    """Write a table plainly, which most are already."""
    start = 0
    for _ in range(skip):
        start = content.index(b"\n", start) + 1
    body = content[start:] if start else content
    if body.endswith(b"\n\n"):
        body = body.rstrip(b"\n")
    if separator != _BLANKS and comment is None and _is_plain(body, separator, width):
        return Text(path, body, separator, separator, header, counted, width, skip + 1, None)
    numbers, lines = [], []
    for line, _, cells in _rows(content, separator, comment, path, skip):
        if len(cells) != width:
            raise _uneven(path, line, len(cells), width)
        row = _PLAIN.join(cells)
        if "\n" in row or row.count(_PLAIN) != width - 1:
            row = _PLAIN.join(re.sub(f"[\n{_PLAIN}]", " ", cell) for cell in cells)
        numbers.append(line)
        lines.append(row)
    places = np.array(numbers)
    # A word with half a surrogate cannot occur: it was decoded from UTF-8.
    if not lines:
        raise DataError(f"{path}: a header and nothing else")
    plain = "\n".join(lines).encode()
    return Text(path, plain, _PLAIN, separator, header, counted, width, numbers[0], places)


def _uneven(path: Path, line: int, found: int, wanted: int) -> DataError:
    return DataError(
        f"{path}: line {line}: {found} values found, {wanted} wanted as in the first row"
    )


def _is_plain(body: bytes, separator: str, width: int) -> bool:
    """Whether lines are rows of so many cells on the average, none of them in quotes."""
    if b'"' in body or width == 1:
        return False
    letters = np.frombuffer(body, np.uint8)
    rows, marks = int(not body.endswith(b"\n")), 0
    for at in range(0, len(letters), 1 << 22):
        part = letters[at : at + (1 << 22)]
        rows += int(np.count_nonzero(part == ord("\n")))
        marks += int(np.count_nonzero(part == ord(separator)))
    return marks == (width - 1) * rows


# --- The separator ----------------------------------------------------------------------------


def _sample(content: bytes, comment: str | None, path: Path) -> list[str]:
    """Return the first lines that are neither blank nor a comment."""
    lines: list[str] = []
    size = 0
    for line in _lines(content[: 2 * _LONGEST_LINE]):
        if len(line) > _LONGEST_LINE:
            raise DataError(f"{path}: a line of more than {_LONGEST_LINE:,} letters")
        if line.strip() and not (comment and line.lstrip().startswith(comment)):
            lines.append(line)
            size += len(line)
        if len(lines) >= 100 or (size > 1 << 15 and len(lines) >= 5):
            break
    return lines


def _separator(lines: list[str]) -> str | None:
    """Return what cuts most lines into the same number of cells that look like cells."""
    best, separator = 0.0, None
    for candidate in _SEPARATORS:
        score = _score(lines, candidate)
        if score > best:
            best, separator = score, candidate
    return separator


def _score(lines: list[str], separator: str) -> float:
    if separator == _BLANKS:
        rows = [_cut_at_blanks(line) for line in lines]
    else:
        try:
            rows = list(csv.reader(lines, delimiter=separator, skipinitialspace=True))
        except csv.Error:
            return 0.0
    widths = Counter(len(cells) for cells in rows if len(cells) > 1)
    if not widths:
        return 0.0
    width, count = widths.most_common(1)[0]
    others = "".join(set(_SEPARATORS) - {separator, _BLANKS})
    number = _NUMBER if separator == "," else _ANY_NUMBER
    good = 0.0
    for cells in rows:
        if len(cells) == width:
            for cell in map(str.strip, cells):
                if number.fullmatch(cell) or cell in MISSING:
                    good += 1
                elif not any(letter in cell for letter in others):
                    good += 0.5
    return count / len(rows) * (0.1 + good / (count * width))


# --- The header -------------------------------------------------------------------------------


def _is_number(cell: str) -> bool:
    """Whether a cell holds a finite number, written with a decimal point if with any."""
    return _NUMBER.fullmatch(cell.strip()) is not None


def _is_any_number(cell: str) -> bool:
    return _ANY_NUMBER.fullmatch(cell) is not None


def _is_missing(cell: str) -> bool:
    """Whether a cell says that there is nothing."""
    return cell.strip() in MISSING


def _is_header_alone(first: Sequence[str]) -> bool:
    return not any(map(_is_number, first)) and not all(map(_is_missing, first))


def _tells_size(first: list[str], others: list[list[str]]) -> bool:
    """Whether the first row is scikit-learn's: rows, features, and the names of the classes."""
    if len({len(row) for row in others}) != 1 or len(first) < 4:
        return False
    rows, features, *classes = (cell.strip() for cell in first)
    return (
        rows.isdecimal()
        and features == str(len(others[0]) - 1)
        and not any(map(_is_number, classes))
    )


def _counts(first: list[str], others: list[list[str]]) -> bool:
    """Whether the first row is 0, 1, 2, … or 1, 2, 3, …, as pandas writes by default, over rows."""
    cells = [cell.strip() for cell in first]
    index = not cells[0]
    if index:
        cells = cells[1:]
    if not others or not cells or not _is_count(cells):
        return False
    if index:
        return True
    following = range(int(cells[-1]) + 1, int(cells[-1]) + 1 + len(cells))
    second = [cell.strip() for cell in others[0]]
    if first in others or second == [str(number) for number in following]:
        return False
    if len(cells) > 3:
        return True
    # So few may be a row as well: what stands below must be of another kind.
    columns = [[cell.strip() for cell in column] for column in zip(*others, strict=False)]
    return any(not any(map(str.isdecimal, column)) for column in columns) and len(others) > 1


def _holds(first: list[str], names: Sequence[str]) -> bool:
    found = {cell.strip() for cell in first}
    return bool(names) and 2 * len(found.intersection(names)) > len(names)


def _names(first: list[str], others: list[list[str]]) -> bool:
    """Whether the first row names the columns: its cells are unlike all that stand below."""
    cells = [cell.strip() for cell in first]
    if not others:
        return False
    if len(cells) == len(others[0]) - 1 and len({len(row) for row in others}) == 1:
        return not any(map(_is_number, cells))  # R's, over row names
    columns = [[cell.strip() for cell in column] for column in zip(*others, strict=False)]
    numbers, over_numbers, over_words = [], False, []
    for cell, column in zip(cells, columns, strict=False):
        held = [other for other in column if other not in MISSING]
        if _is_number(cell):
            numbers.append(cell)
        elif cell not in MISSING and held:
            if all(map(_is_any_number, held)):
                over_numbers |= not _is_any_number(cell)
            else:
                over_words.append((cell, held))
    if over_numbers:
        # Numbers may be names too, such as years, but none twice.
        return len(set(numbers)) == len(numbers) and all(map(str.isdecimal, numbers))
    words = [cell for cell, _ in over_words]
    if not words or len(words) + len(numbers) < len([cell for cell in cells if cell]):
        return False
    if len(set(words)) < len(words) or any(cell in held for cell, held in over_words):
        return False
    if numbers and not (len(numbers) > 2 and _is_count(numbers)):
        return False
    if any(word.casefold() in LABEL_NAMES for word in words):
        return True
    return any(len(set(held)) <= len(held) / 2 for _, held in over_words)


def _is_count(cells: list[str]) -> bool:
    """Whether cells are 0, 1, 2, … or 1, 2, 3, …"""
    first = cells[0]
    if first not in ("0", "1"):
        return False
    return cells == [str(number) for number in range(int(first), int(first) + len(cells))]


def _commented(comment: str, separator: str, width: int) -> list[str] | None:
    """Return the names in a comment above the first row, as NumPy's savetxt writes them."""
    text = comment.lstrip("".join(_COMMENTS)).strip()
    if separator == _BLANKS:
        cells = _cut_at_blanks(text)
    else:
        cells = next(csv.reader([text], delimiter=separator, skipinitialspace=True), [])
    return cells if len(cells) == width and not any(map(_is_number, cells)) else None

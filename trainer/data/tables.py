"""Tables in text and Parquet files: cells by column, and which column is the label.

Polars parses: of pandas, Polars, PyArrow and DuckDB it was the fastest on MNIST's 110 MB of CSV.
How a text is written is found out in `dialect`, whose rows are plain, so that Polars guesses
nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..array_files import cause
from . import dialect, parquet
from .cells import read_cells
from .dataset import WORD_WANTED, DataError, is_word, reading
from .dialect import LABEL_NAMES

if TYPE_CHECKING:
    import polars as pl

PARQUET = ".parquet"
SUFFIXES = (
    *(text + packing for packing in ("", *dialect.PACKINGS) for text in dialect.TEXTS),
    PARQUET,
)
_SAMPLES = ("sample_submission", "samplesubmission", "gender_submission")
INDEX_NAMES = ("", "unnamed: 0", "index", "id")
_PANDAS_INDEX = "__index_level_0__"
_MOST_CLASSES = 2000
_FEWEST_PIXELS, _MOST_LABELS_OF_PIXELS = 49, 1000
_FEW_ROWS = 20  # up to which 1, 2, 3, … may be anything


@dataclass(frozen=True, eq=False)
class Table:
    """The cells of a file, column by column.

    Attributes
    ----------
    path : Path
    frame : polars.DataFrame
        A column of the file in each: integers, Float64, or String (stripped, none of them empty);
        null where a cell is missing.
    named : bool
        Whether the names are the file's own; else they are "column 1", "column 2", … or, where a
        first line counts the columns, those numbers.
    first_line : int
        Of the file, in which row 0 stands; 0 where it has no lines.
    note : str
        One line worth showing, or nothing.
    lines : numpy.ndarray or None
        In which each row stands, where it is not one further than the last.
    places : dict
        Of each column the file has, by name, from 1.
    """

    path: Path
    frame: pl.DataFrame
    named: bool
    first_line: int
    note: str = ""
    lines: np.ndarray | None = None
    places: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return the number of rows."""
        return self.frame.height

    def __getitem__(self, rows: np.ndarray) -> Table:
        """Return some rows, which keep their lines."""
        first = self.first_line or 1
        lines = rows + first if self.lines is None else self.lines[rows]
        return replace(self, frame=self.frame[rows], lines=lines)

    def select(self, names: Sequence[str], renamed: Sequence[str] | None = None) -> Table:
        """Return some columns in such an order, under other names if they are given."""
        places = {name: self.places.get(name, at) for at, name in enumerate(self.frame.columns, 1)}
        new = names if renamed is None else renamed
        # one by one, since Polars takes a name such as * for several
        columns = [self.frame.get_column(old).alias(n) for old, n in zip(names, new, strict=True)]
        frame = type(self.frame)(columns)
        kept = dict(zip(new, (places[name] for name in names), strict=True))
        return replace(self, frame=frame, places=kept)

    def is_words(self, name: str) -> bool:
        """Return whether a column holds words, not numbers."""
        return not self.frame[name].dtype.is_numeric()

    def words(self, name: str) -> list[str | None]:
        """Return a column's cells as words, None where one is missing."""
        cells = self.frame[name]
        return cells.cast(_string()).to_list()

    def without(self, names: Sequence[str]) -> Table:
        """Leave columns out."""
        kept = [column for column in self.frame.get_columns() if column.name not in names]
        return replace(self, frame=type(self.frame)(kept))

    def where(self, row: int, column: str) -> str:
        """Return the place of a cell, for messages."""
        line = (self.first_line or 1) + row if self.lines is None else int(self.lines[row])
        place = f"line {line}" if self.first_line else f"row {line}"
        return f"{self.path}: {place}, {self.column(column)}"

    def column(self, name: str) -> str:
        """Return a column's place and name, for messages."""
        place = self.places.get(name, 0) or self.frame.columns.index(name) + 1
        nameless = not self.named or name.startswith("column ")
        return f"column {place}" + ("" if nameless else f" ({name[:40]})")


class LabelChoice(NamedTuple):
    """Which column is the label, and a line that says so."""

    name: str
    line: str


# --- Reading ----------------------------------------------------------------------------------


def is_table(path: Path) -> bool:
    """Whether a file is one of these, by its name."""
    return path.name.lower().endswith(SUFFIXES)


def read_table(path: Path, names: Sequence[str] = (), fewest: int = 2) -> Table:
    """Read a table of at least one row.

    Parameters
    ----------
    path : Path
    names : sequence of str
        That its columns may have: a first row of them is a header, whatever stands below.
    fewest : int
        The columns that are wanted: two for a label and a feature.

    Raises
    ------
    DataError
        One line that names the file, the place, what was found and what is wanted.
    """
    with reading(path), _parsing(path):
        if path.suffix.lower() == PARQUET:
            table = _read_parquet(path)
        else:
            table = _read_text(path, names, fewest)
        table = _without_empty_end(table)
        _refuse_infinite(table)
        while (rest := _without_index(table, fewest)) is not table:  # a table written twice has two
            table = rest
    if table.frame.width < fewest:
        raise _too_narrow(path)
    return table


def _too_narrow(path: Path) -> DataError:
    return DataError(f"{path}: one column found; a label and at least one feature are wanted")


def read_folder(folder: Path) -> tuple[Table, Table]:
    """Read a folder with exactly one ``*train*`` and one ``*test*`` table."""
    found = sorted(entry for entry in folder.iterdir() if is_table(entry) and entry.is_file())
    parts = [
        [path for path in found if part in path.name.lower() and not _is_sample(path)]
        for part in ("train", "test")
    ]
    if [len(paths) for paths in parts] != [1, 1] or parts[0] == parts[1]:
        names = ", ".join(path.name for path in found)
        raise DataError(
            f"{folder}: one *train* and one *test* table wanted (*train*.csv, *test*.csv), found "
            f"{names}; give the file itself as --data, and another as --test-data"
        )
    (train_path,), (test_path,) = parts
    train, test = read_table(train_path), read_table(test_path)
    if _lacks_label(train, test):
        raise DataError(
            f"{test_path} has no labels: one column fewer than {train_path.name}; train with "
            f"--data {train_path}, then answer with predict RUN --data {test_path} "
            "--out answers.csv"
        )
    return train, test


def _is_sample(path: Path) -> bool:
    return path.name.lower().startswith(_SAMPLES)


def _lacks_label(train: Table, test: Table) -> bool:
    """Whether the test table has all columns of the other but one."""
    if train.named and test.named:
        lacking = set(train.frame.columns) - test.places.keys()
        return len(lacking) == 1 and train.places.keys() >= set(test.frame.columns)
    return test.frame.width == train.frame.width - 1


@contextmanager
def _parsing(path: Path) -> Iterator[None]:
    """Turn what Polars raises into a DataError."""
    import polars as pl

    try:
        yield
    except pl.exceptions.PolarsError as error:
        why = cause(error).splitlines()[0][:200]
        raise DataError(f"{path}: not a readable table: {why}") from error


def _read_parquet(path: Path) -> Table:
    frame = parquet.read(path)
    if _PANDAS_INDEX in frame.columns and frame.width > 1:
        frame = frame.drop(_PANDAS_INDEX)
    frame.columns = _distinct(frame.columns)
    places = {name: place for place, name in enumerate(frame.columns, start=1)}
    return Table(path, frame, True, 0, places=places)


def _read_text(path: Path, names: Sequence[str], fewest: int) -> Table:
    import polars as pl

    text = dialect.read_text(path, names, fewest)
    header = text.header or [""] * text.width
    names = _distinct([name.strip() for name in header])
    places = {name: place for place, name in enumerate(names, start=1)}
    named = text.header is not None and not text.counted
    note = ""
    if text.counted:
        note = f"the first line of {path.name}, {', '.join(header[:3])}, …, numbers the columns"
    table = Table(path, pl.DataFrame(), named, text.first_line, note, text.lines, places)
    return replace(table, frame=read_cells(text, names, table.where))


def _distinct(names: Sequence[str]) -> list[str]:
    """Name what has no name, and number what has another's."""
    taken, seen = set(names), set()
    numbers = dict.fromkeys(names, 2)  # of the next of each name
    result = []
    for place, name in enumerate(names, start=1):
        name = name or f"column {place}"
        if name in seen or (not names[place - 1] and name in taken):
            base, k = name, numbers.get(name, 2)
            while (name := f"{base} ({k})") in taken or name in seen:
                k += 1
            numbers[base] = k + 1
        seen.add(name)
        result.append(name)
    return result


def _without_empty_end(table: Table) -> Table:
    """Leave out what a separator at the end of every line makes: a last column of nothing."""
    *_, last = table.frame.columns
    nameless = not table.named or last == f"column {len(table.places)}"
    if nameless and table.frame.width > 2 and table.frame[last].null_count() == len(table):
        places = {name: place for name, place in table.places.items() if name != last}
        return replace(table.without([last]), places=places)
    return table


def _refuse_infinite(table: Table) -> None:
    import polars as pl

    infinite = table.frame.select(pl.col(pl.Float64).is_infinite())
    for column in infinite.get_columns():
        if column.any():
            row = column.fill_null(False).arg_max() or 0
            found = table.frame[column.name][row]
            raise DataError(
                f"{table.where(row, column.name)}: {found} found, a finite number wanted"
            )


def _without_index(table: Table, fewest: int) -> Table:
    """Leave out a first column that only counts the rows, and say so."""
    first = table.frame.columns[0]
    values = table.frame[first]
    if table.frame.width <= fewest or not values.dtype.is_integer() or values.null_count():
        return table
    steps = bool((values.diff().drop_nulls() == 1).all())
    if table.named or not table.frame.columns[-1].startswith("column "):
        name = "" if first == f"column {table.places[first]}" else first.casefold()
        # A part of a table keeps the rows' numbers of the whole, in any order.
        counts = steps and (len(values) > 1 or values[0] in (0, 1))
        scattered = name in INDEX_NAMES[:2] and values.n_unique() == len(values)
        if name not in INDEX_NAMES or not (counts or scattered):
            return table
        why = f"{table.column(first)} numbers the rows"
    else:
        if not (steps and values[0] in (0, 1) and len(values) > _FEW_ROWS):
            return table
        if table.frame.width < 3 or not _label_ends(table.without([first])):
            return table
        why = f"{table.column(first)} counts the rows from {values[0]}"
    notes = [table.note] if table.note else []
    note = "; ".join([*notes, f"{why} and is left out"])
    return replace(table.without([first]), note=note)


# --- The label --------------------------------------------------------------------------------


def choose_label(table: Table, wanted: str | None = None) -> LabelChoice:
    """Find the column that is the label.

    Parameters
    ----------
    table : Table
    wanted : str, optional
        Its name, or its number: from 1, or −1 for the last. Without it a header that says so
        counts; else the column at an end that can be one: words or whole numbers, mostly repeated.

    Raises
    ------
    DataError
        There is no such column, it is none of labels, or none can be found.
    """
    columns = table.frame.columns
    if len(columns) < 2:
        raise _too_narrow(table.path)
    ask = "--label NAME or NUMBER"
    hint = f"another: {ask}"
    if wanted is not None:
        name = column_named(table, wanted)
    else:
        said = [name for name in columns if name.casefold() in LABEL_NAMES] if table.named else []
        ends = _label_ends(table)
        if len(said) == 1:
            (name,) = said
        elif not ends:
            raise DataError(
                f"{table.path}: no column at an end can be the label (words or whole numbers, "
                f"mostly repeated); say which it is with {ask}: {_listed(table, columns)}"
            )
        else:
            words = [name for name in ends if table.frame[name].dtype == _string()]
            name = words[0] if len(words) == 1 else ends[0]
            if len(ends) == 2:
                other = next(end for end in ends if end != name)
                number = "-1" if other == columns[-1] else "1"
                hint = f"{table.column(other)} could be it too: --label {number}"
    classes = _classes(table, name)
    features = [column for column in columns if column != name]
    some = ", ".join(str(label)[:20] for label in classes[:4]) + (", …" if classes[4:] else "")
    few = f" ({', '.join(column[:20] for column in features)})" if len(features) <= 6 else ""
    others = f"{len(features):,} columns" if len(features) > 1 else "column"
    line = (
        f"label: {table.column(name)}, {len(classes):,} classes ({some}); "
        f"features: the other {others}{few if table.named else ''}; {hint}"
    )
    return LabelChoice(name, line)


def labels_of(table: Table, name: str) -> np.ndarray:
    """Return the labels as int64 or text.

    Raises
    ------
    DataError
        One is missing, no whole number, or a word too long.
    """
    labels = table.frame[name]
    if labels.null_count():
        row = labels.is_null().arg_max() or 0
        raise DataError(f"{table.where(row, name)}: the label is missing")
    if labels.dtype == _string():
        for word in labels.unique().to_list():
            if not is_word(word):
                row = (labels == word).arg_max() or 0
                found = f"label {word[:40]!r} found"
                raise DataError(f"{table.where(row, name)}: {found}, {WORD_WANTED}")
        return np.array(labels.to_list(), dtype=np.str_)
    values = labels.to_numpy()
    broken = None if values.dtype.kind in "iu" else _first_broken(values)
    if broken is not None:
        found = f"label {values[broken]:g} found"
        raise DataError(f"{table.where(broken, name)}: {found}, a whole number wanted")
    return values.astype(np.int64)


def _string() -> Any:
    import polars as pl

    return pl.String


def _first_broken(values: np.ndarray) -> int | None:
    good = (values == np.floor(values)) & (np.abs(values) < 2**62)
    return None if good.all() else int(np.argmin(good))


def _can_be_label(column: pl.Series) -> bool:
    """Whether a column holds words or whole numbers, at least two, mostly repeated."""
    held = column.drop_nulls()
    different = held.n_unique()
    if not 2 <= different <= min(max(2, len(held) // 2), _MOST_CLASSES) or different == len(held):
        return False
    if held.dtype == _string():
        return all(map(is_word, held.unique().to_list()))
    return held.dtype.is_integer() or _first_broken(held.to_numpy()) is None


def _label_ends(table: Table) -> list[str]:
    """Return which of the first and the last column can be the label."""
    first, *_, last = table.frame.columns
    ends = [name for name in (first, last) if _can_be_label(table.frame[name])]
    if first not in ends and _is_digit_before_pixels(table):
        ends.insert(0, first)
    return ends


def _is_digit_before_pixels(table: Table) -> bool:
    """Whether a first column of few whole numbers precedes pixels, which few rows do not show."""
    first, *pixels = table.frame.get_columns()
    whole = all(
        column.dtype.is_integer() and not column.null_count() for column in (first, *pixels)
    )
    if len(pixels) < _FEWEST_PIXELS or not whole:
        return False
    different = first.n_unique()
    if not 2 <= different <= min(_MOST_LABELS_OF_PIXELS, len(first) - 1):
        return False
    values = type(table.frame)(pixels)
    low, high = values.min_horizontal().min(), values.max_horizontal().max()
    return bool(low >= 0 and high <= 255)  # type: ignore[operator]


def _classes(table: Table, name: str) -> list[int | str]:
    """Return the classes of a column that is the label, or raise for what cannot be."""
    labels = labels_of(table, name)
    classes = np.unique(labels).tolist()
    what = f"{table.path}: {table.column(name)} as the label"
    wrong = ""
    if len(classes) == 1:
        wrong = f"one class only, {str(classes[0])[:40]!r}"
    elif len(classes) == len(table):
        wrong = f"as many classes as rows, {len(table):,}"
    if wrong:
        raise DataError(
            f"{what} has {wrong}; say which column it is with --label NAME or NUMBER: "
            f"{_listed(table, table.frame.columns)}"
        )
    return classes


def column_named(table: Table, wanted: str) -> str:
    """Return the column of a name, or of a number from 1, of which −1 is the last."""
    columns = table.frame.columns
    same = [name for name in columns if name.casefold() == wanted.strip().casefold()]
    if wanted in columns:
        return wanted
    if len(same) == 1:
        return same[0]
    try:
        number = int(wanted)
    except ValueError:
        number = 0
    by_place = {place: name for name, place in table.places.items()}
    place = number + 1 + len(by_place) if number < 0 else number
    if place in by_place and by_place[place] in columns:
        return by_place[place]
    near = get_close_matches(wanted, columns, n=1) if table.named else []
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise DataError(f"{table.path}: no column {wanted!r}{hint}; {_listed(table, columns)}")


def _listed(table: Table, columns: Sequence[str]) -> str:
    """Return the columns with their numbers, the middle of many left out."""
    shown = [
        f"{table.places.get(name, place)} {name[:30]}" if table.named else name
        for place, name in enumerate(columns, start=1)
    ]
    if len(shown) > 12:
        shown = [*shown[:6], "…", *shown[-5:]]
    return f"columns are {', '.join(shown)}"

"""Tables in text and Parquet files: cells by column, and which column is the label.

Polars parses: of pandas, Polars, PyArrow and DuckDB it was the fastest and the smallest in memory.
How a text is written is found out in `dialect`, whose rows are plain, so that Polars guesses
nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..array_files import cause, unpacked_limit
from . import dialect
from .dataset import WORD_WANTED, DataError, is_word, reading
from .dialect import LABEL_NAMES, MISSING

if TYPE_CHECKING:
    import polars as pl

PARQUET = ".parquet"
SUFFIXES = (
    *(text + packing for packing in ("", *dialect.PACKINGS) for text in dialect.TEXTS),
    PARQUET,
)
_SAMPLES = ("sample_submission", "samplesubmission", "gender_submission")
_INDEX_NAMES = ("", "unnamed: 0", "index", "id")
_NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"
_WHOLE = r"^[+-]?[0-9]+$"
_DECIMAL_COMMA = r"^[+-]?([0-9]+,[0-9]*|,[0-9]+)([eE][+-]?[0-9]+)?$"
_THOUSANDS = (
    r"^[+-]?[1-9][0-9]{0,2}(,[0-9]{3})+(\.[0-9]*)?$|^[+-]?[1-9][0-9]{0,2}(\.[0-9]{3})+,[0-9]*$"
)
_ONE_THOUSAND = r"^[+-]?[1-9][0-9]{0,2},[0-9]{3}$"
_INFINITE = r"(?i)^[+-]?inf(inity)?$"
_WORDS_AT_ONCE = 1 << 24  # cells, of 16 bytes each
_MOST_CLASSES = 2000
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

    def take(self, rows: np.ndarray) -> Table:
        """Return some rows, which keep their lines."""
        lines = self._lines()[rows]
        return replace(self, frame=self.frame[rows], lines=lines)

    def __getitem__(self, rows: np.ndarray) -> Table:
        """Return some rows, see `take`."""
        return self.take(rows)

    def with_frame(self, frame: pl.DataFrame) -> Table:
        """Return the same rows with other columns."""
        return replace(self, frame=frame)

    def is_words(self, name: str) -> bool:
        """Return whether a column holds words, not numbers."""
        return not self.frame.schema[name].is_numeric()

    def words(self, name: str) -> list[str | None]:
        """Return a column's cells as words, None where one is missing."""
        cells = self.frame[name]
        return cells.cast(_string()).to_list()

    def without(self, names: Sequence[str]) -> Table:
        """Leave columns out."""
        return replace(self, frame=self.frame.drop(names))

    def where(self, row: int, column: str) -> str:
        """Return the place of a cell, for messages."""
        line = int(self._lines()[row])
        place = f"line {line}" if self.first_line else f"row {line}"
        return f"{self.path}: {place}, {self.column(column)}"

    def column(self, name: str) -> str:
        """Return a column's place and name, for messages."""
        place = self.places.get(name, 0) or self.frame.columns.index(name) + 1
        return f"column {place}" + (f" ({name[:40]})" if self.named else "")

    def _lines(self) -> np.ndarray:
        if self.lines is not None:
            return self.lines
        first = self.first_line or 1
        return np.arange(first, first + len(self))


class LabelChoice(NamedTuple):
    """Which column is the label, and a line that says so."""

    name: str
    line: str


# --- Reading ----------------------------------------------------------------------------------


def is_table(path: Path) -> bool:
    """Whether a file is one of these, by its name."""
    return path.name.lower().endswith(SUFFIXES)


def read_table(path: Path) -> Table:
    """Read a table of at least two columns and one row.

    Raises
    ------
    DataError
        One line that names the file, the place, what was found and what is wanted.
    """
    with reading(path), _parsing(path):
        table = _read_parquet(path) if path.suffix.lower() == PARQUET else _read_text(path)
        table = _without_empty_end(table)
        _refuse_infinite(table)
        table = _without_index(table)
    if table.frame.width < 2:
        raise DataError(f"{path}: one column found; a label and at least one feature are wanted")
    return table


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
        return (
            len(set(train.places) - set(test.places)) == 1
            and test.places.keys() < train.places.keys()
        )
    return len(test.places) == len(train.places) - 1


@contextmanager
def _parsing(path: Path) -> Iterator[None]:
    """Turn what Polars raises into a DataError; it panics on some damaged files."""
    import polars as pl

    try:
        yield
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        kind = "Parquet file" if path.suffix.lower() == PARQUET else "table"
        why = cause(error).splitlines()[0][:200]
        raise DataError(f"{path}: not a readable {kind}: {why}") from error


def _read_parquet(path: Path) -> Table:
    import polars as pl

    with path.open("rb") as file:
        if file.read(4) != b"PAR1":
            raise DataError(f"{path}: no Parquet file: it does not begin with PAR1")
    lazy = pl.scan_parquet(path, hive_partitioning=False, glob=False)
    schema = lazy.collect_schema()
    rows = lazy.select(pl.len()).collect().item()
    limit = unpacked_limit(path.stat().st_size)
    if rows * len(schema) * 8 > limit:
        raise DataError(f"{path}: {rows:,} rows of {len(schema):,} columns: over {limit:,} bytes")
    if not rows:
        raise DataError(f"{path}: no row found")
    columns = []
    for name, kind in schema.items():
        column = pl.col(name)
        if kind == pl.Boolean:  # as pandas writes them into text
            truth = pl.when(column).then(pl.lit("True")).otherwise(pl.lit("False"))
            column = pl.when(column.is_not_null()).then(truth)
        elif kind in (pl.Float32, pl.Decimal, pl.UInt64, pl.Int128, pl.UInt128, pl.Null):
            column = column.cast(pl.Float64)
        elif (
            isinstance(kind, pl.Categorical | pl.Enum)
            or kind in (pl.Date, pl.Time)
            or kind in (pl.Datetime, pl.Duration)
        ):
            column = column.cast(pl.String)
        elif not (kind.is_integer() or kind in (pl.Float64, pl.String)):
            raise DataError(f"{path}: column {name} holds {kind}; numbers or words are wanted")
        columns.append(column.alias(name))
    frame = lazy.select(columns).collect()
    frame = frame.with_columns(
        pl.col(pl.Float64).fill_nan(None),
        _stripped(pl.col(pl.String)),
    )
    names = _distinct(frame.columns)
    frame.columns = names
    places = {name: place for place, name in enumerate(names, start=1)}
    return Table(path, frame, True, 0, places=places)


def _read_text(path: Path) -> Table:
    import polars as pl

    text = dialect.read_text(path)
    header = text.header or [""] * text.width
    names = _distinct([name.strip() for name in header])
    places = {name: place for place, name in enumerate(names, start=1)}
    named = text.header is not None and not text.counted
    note = ""
    if text.counted:
        note = f"the first line of {path.name}, {', '.join(header[:3])}, …, numbers the columns"
    table = Table(path, pl.DataFrame(), named, text.first_line, note, text.lines, places)
    frame = _numbers(text, names)
    found = {column.name: column for column in frame.get_columns()}
    rest = [name for name in names if name not in found or found[name].null_count()]
    rows = frame.height if found else text.content.count(b"\n") + 1
    step = max(1, _WORDS_AT_ONCE // rows)
    for at in range(0, len(rest), step):
        words = _parse(text, dict.fromkeys(names, pl.String), rest[at : at + step])
        for column in words.get_columns():
            if column.name == names[-1] and column.null_count():
                text.check()
            found[column.name] = _typed(column, table, text.found)
    return replace(table, frame=pl.DataFrame([found[name] for name in names]))


def _numbers(text: dialect.Text, names: list[str]) -> pl.DataFrame:
    """Read the columns that hold numbers in a sample; null where another is no such number."""
    import polars as pl

    content = text.content
    slices = []
    for part in range(5):
        start = content.find(b"\n", part * len(content) // 5) + 1 if part else 0
        rows = content[start : start + (1 << 22)].split(b"\n", 40)[:40]
        slices += rows[: len(rows) - 1 or 1]
    mark = text.separator.encode()
    slices = [row for row in slices if row.count(mark) == text.width - 1]
    if not slices:
        return pl.DataFrame()
    guessed = pl.read_csv(
        b"\n".join(slices) + b"\n",
        has_header=False,
        separator=text.separator,
        quote_char=None,
        infer_schema_length=None,
        raise_if_empty=False,
    )
    kinds: dict[str, Any] = dict.fromkeys(names, pl.String)
    for name, column in zip(names, guessed.get_columns(), strict=False):
        if column.dtype == pl.Int64:  # mostly small, and what does not fit is read again
            low, high = column.min(), column.max()
            small = low is not None and low >= -(2**15) and high < 2**15  # type: ignore[operator]
            kinds[name] = pl.Int16 if small else pl.Int64
        elif column.dtype == pl.Float64:
            kinds[name] = pl.Float64
    numbers = [name for name in names if kinds[name] != pl.String]
    if not numbers:
        return pl.DataFrame()
    return _parse(text, kinds, numbers).with_columns(pl.col(pl.Float64).fill_nan(None))


def _parse(text: dialect.Text, kinds: dict[str, Any], names: list[str]) -> pl.DataFrame:
    import polars as pl

    wanted = set(names)
    try:
        return pl.read_csv(
            text.content,
            has_header=False,
            separator=text.separator,
            quote_char=None,
            schema=kinds,
            columns=[place for place, name in enumerate(kinds) if name in wanted],
            ignore_errors=True,
            raise_if_empty=False,
        )
    except pl.exceptions.ComputeError:
        text.check()
        raise


def _stripped(column: pl.Expr) -> pl.Expr:
    import polars as pl

    words = column.str.strip_chars()
    return pl.when(~words.is_in(list(MISSING))).then(words).name.keep()


def _typed(column: pl.Series, table: Table, separator: str) -> pl.Series:
    """Return words as numbers if all are, else as they stand, stripped."""
    import polars as pl

    name = column.name
    words = column.to_frame().select(_stripped(pl.first())).to_series()
    held = words.drop_nulls()
    if not len(held):
        return words.cast(pl.Float64)
    numbers = held.str.contains(_NUMBER)
    if numbers.all():
        if held.str.contains(_WHOLE).all():
            whole = words.cast(pl.Int64, strict=False)
            if whole.null_count() == words.null_count():
                return whole
        return words.cast(pl.Float64, strict=False)

    def refuse(bad: pl.Series, why: str) -> DataError:
        row = bad.fill_null(False).arg_max() or 0
        return DataError(f"{table.where(row, name)}: {words[row][:40]!r} found, {why}")

    table = replace(table, frame=words.to_frame())
    comma = held.str.contains(_DECIMAL_COMMA)
    if (numbers | comma).all():
        if separator == "," and held.filter(~numbers).str.contains(_ONE_THOUSAND).all():
            raise refuse(
                words.str.contains(_ONE_THOUSAND),
                "a comma for thousands or for decimals? write it without, or with a point",
            )
        return words.str.replace(",", ".", literal=True).cast(pl.Float64, strict=False)
    if (numbers | comma | held.str.contains(_THOUSANDS)).all():
        raise refuse(words.str.contains(_THOUSANDS), "a number without marks for thousands wanted")
    infinite = held.str.contains(_INFINITE)
    if (numbers | infinite).all():
        raise refuse(words.str.contains(_INFINITE), "a finite number wanted")
    if int(numbers.sum()) > 0.99 * len(held):
        place = table.places[name]
        may_be_label = place in (1, len(table.places)) or name.casefold() in LABEL_NAMES
        if not may_be_label or held.n_unique() > len(held) / 2:
            raise refuse(~words.str.contains(_NUMBER), "a number wanted")
    return words


def _distinct(names: Sequence[str]) -> list[str]:
    """Name what has no name, and number what has another's."""
    taken = set(names)
    seen: set[str] = set()
    result = []
    for place, name in enumerate(names, start=1):
        name = name or f"column {place}"
        if name in seen or (not names[place - 1] and name in taken):
            name = next(new for k in count(2) if (new := f"{name} ({k})") not in taken | seen)
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


def _without_index(table: Table) -> Table:
    """Leave out a first column that only counts the rows, and say so."""
    first = table.frame.columns[0]
    values = table.frame[first]
    if not values.dtype.is_integer() or values.null_count():
        return table
    steps = bool((values.diff().drop_nulls() == 1).all())
    if table.places[first] != 1 or table.frame.width < 2:
        return table
    if table.named:
        name = "" if first == "column 1" else first.casefold()
        # A part of a table keeps the rows' numbers of the whole, in any order.
        counts = steps and (len(values) > 1 or values[0] in (0, 1))
        scattered = name in _INDEX_NAMES[:2] and values.n_unique() == len(values)
        if name not in _INDEX_NAMES or not (counts or scattered):
            return table
        why = f"{table.column(first)} numbers the rows"
    else:
        if not (steps and values[0] in (0, 1) and len(values) > _FEW_ROWS):
            return table
        others = table.frame.columns[1:]
        if not any(_can_be_label(table.frame[name]) for name in (others[0], others[-1])):
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
    ask = "--label NAME or NUMBER"
    hint = f"another: {ask}"
    if wanted is not None:
        name = _column_named(table, wanted)
    else:
        said = [name for name in columns if name.casefold() in LABEL_NAMES] if table.named else []
        ends = [name for name in (columns[0], columns[-1]) if _can_be_label(table.frame[name])]
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
    line = (
        f"label: {table.column(name)}, {len(classes)} classes ({some}); "
        f"features: the other {len(features):,} columns{few if table.named else ''}; {hint}"
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


def _classes(table: Table, name: str) -> list[int | str]:
    """Return the classes of a column that is the label, or raise for what cannot be."""
    labels = labels_of(table, name)
    classes = np.unique(labels).tolist()
    what = f"{table.path}: {table.column(name)} as the label"
    if len(classes) == 1:
        raise DataError(
            f"{what} has one class only, {str(classes[0])[:40]!r}; say which column it is with "
            f"--label NAME or NUMBER: {_listed(table, table.frame.columns)}"
        )
    if len(classes) == len(table):
        raise DataError(
            f"{what} has as many classes as rows, {len(table):,}; say which column it is with "
            f"--label NAME or NUMBER: {_listed(table, table.frame.columns)}"
        )
    return classes


def _column_named(table: Table, wanted: str) -> str:
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
    raise DataError(f"{table.path}: no column {wanted!r}{hint} {_listed(table, columns)}")


def _listed(table: Table, columns: Sequence[str]) -> str:
    """Return the columns with their numbers, the middle of many left out."""
    shown = [
        f"{table.places.get(name, place)} {name[:30]}" if table.named else name
        for place, name in enumerate(columns, start=1)
    ]
    if len(shown) > 12:
        shown = [*shown[:6], "…", *shown[-5:]]
    return f"columns are {', '.join(shown)}"

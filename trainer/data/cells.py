"""The cells of a text table as columns of numbers and words."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .dataset import DataError
from .dialect import LABEL_NAMES, MISSING, Text

if TYPE_CHECKING:
    import polars as pl

_NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"
_WHOLE = r"^[+-]?[0-9]+$"
_DECIMAL_COMMA = r"^[+-]?([0-9]+,[0-9]*|,[0-9]+)([eE][+-]?[0-9]+)?$"
_THOUSANDS = (
    r"^[+-]?[1-9][0-9]{0,2}(,[0-9]{3})+(\.[0-9]*)?$|^[+-]?[1-9][0-9]{0,2}(\.[0-9]{3})+,[0-9]*$"
)
_ONE_THOUSAND = r"^[+-]?[1-9][0-9]{0,2},[0-9]{3}$"
_INFINITE = r"(?i)^[+-]?inf(inity)?$"
_WORDS_AT_ONCE = 1 << 23  # cells, of 16 bytes each

Where = Callable[[int, str], str]  # the place of a row and a column in words


def read_cells(text: Text, names: list[str], where: Where) -> pl.DataFrame:
    """Return a column a name: integers, Float64 or stripped String, null where a cell is missing.

    Raises
    ------
    DataError
        A row too short or too long, or a cell that is no number where one is wanted.
    """
    import polars as pl

    frame = _numbers(text, names)
    found = {column.name: column for column in frame.get_columns()}
    rest = [name for name in names if name not in found or found[name].null_count()]
    rows = frame.height or text.content.count(b"\n") + 1
    step = max(1, _WORDS_AT_ONCE // rows)
    for at in range(0, len(rest), step):
        words = _parse(text, dict.fromkeys(names, pl.String), rest[at : at + step])
        for column in words.get_columns():
            if column.name == names[-1] and column.null_count():
                text.check()
            end = column.name in (names[0], names[-1])
            found[column.name] = _typed(column, text, end, where)
    return pl.DataFrame([found[name] for name in names])


def _numbers(text: Text, names: list[str]) -> pl.DataFrame:
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
        b"\n".join(slices).replace(b" ", b"") + b"\n",  # blanks beside numbers do not matter
        has_header=False,
        separator=text.separator,
        quote_char=None,
        infer_schema_length=None,
        ignore_errors=True,
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


def _parse(text: Text, kinds: dict[str, Any], names: list[str]) -> pl.DataFrame:
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
    except (pl.exceptions.ComputeError, pl.exceptions.SchemaError):
        text.check()
        raise


def stripped(column: pl.Expr) -> pl.Expr:
    """Return words without blanks around them, null where they say that there is nothing."""
    import polars as pl

    words = column.str.strip_chars()
    return pl.when(~words.is_in(list(MISSING))).then(words).name.keep()


def _typed(column: pl.Series, text: Text, end: bool, where: Where) -> pl.Series:
    """Return words as numbers if all are, else as they stand, stripped."""
    import polars as pl

    name = column.name
    words = column.to_frame().select(stripped(pl.first())).to_series()
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
        return DataError(f"{where(row, name)}: {words[row][:40]!r} found, {why}")

    comma = held.str.contains(_DECIMAL_COMMA)
    if (numbers | comma).all():
        if text.found == "," and held.filter(~numbers).str.contains(_ONE_THOUSAND).all():
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
        may_be_label = end or name.casefold() in LABEL_NAMES
        if not may_be_label or held.n_unique() > len(held) / 2:
            raise refuse(~words.str.contains(_NUMBER), "a number wanted")
    return words

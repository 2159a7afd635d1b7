"""Parquet files, read in a process of its own.

On some damaged files Polars' reader, having written pages of complaints, aborts its process.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ..array_files import cause, unpacked_limit
from .cells import stripped
from .dataset import DataError

if TYPE_CHECKING:
    import polars as pl

_MARK = b"PAR1"
_REFUSED = 3  # the exit status of a process that says why
_CONVERT = "import sys; from trainer.data.parquet import convert; sys.exit(convert(sys.argv[1]))"


def read(path: Path) -> pl.DataFrame:
    """Read columns of integers, Float64 and stripped String, null where a cell is missing.

    Raises
    ------
    DataError
        It cannot be read, holds no row, or something else than numbers and words.
    """
    import polars as pl

    _check_ends(path)
    done = subprocess.run(
        [sys.executable, "-c", _CONVERT, os.fspath(path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    if done.returncode == _REFUSED:
        raise DataError(f"{path}: {done.stdout.decode(errors='replace')}")
    if done.returncode:
        raise DataError(f"{path}: not a readable Parquet file")
    return pl.read_ipc(io.BytesIO(done.stdout))


def convert(name: str) -> int:
    """Write a Parquet file's columns to the standard output, or why not; return an exit status."""
    import polars as pl

    try:
        frame = _frame(Path(name))
    except (ValueError, OSError, MemoryError) as error:
        sys.stdout.write(cause(error))
        return _REFUSED
    except pl.exceptions.PolarsError as error:
        sys.stdout.write(f"not a readable Parquet file: {cause(error).splitlines()[0][:200]}")
        return _REFUSED
    frame.write_ipc(sys.stdout.buffer, compression="lz4")
    return 0


def _check_ends(path: Path) -> None:
    """Raise for what cannot be a Parquet file, without a process for it."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(4)
        file.seek(max(0, size - 8))
        end = file.read(8)
    if start != _MARK:
        raise DataError(f"{path}: no Parquet file: it does not begin with PAR1")
    if end[4:] != _MARK or int.from_bytes(end[:4], "little") > size - 12:
        raise DataError(f"{path}: not a readable Parquet file: its end is missing")


def _frame(path: Path) -> pl.DataFrame:
    import polars as pl

    lazy = pl.scan_parquet(path, hive_partitioning=False, glob=False)
    schema = lazy.collect_schema()
    rows = lazy.select(pl.len()).collect().item()
    limit = unpacked_limit(path.stat().st_size)
    size = rows * len(schema) * 8
    for name, kind in schema.items() if size <= limit else ():
        if kind == pl.String:  # whose dictionary may be small, and each word of it long
            length = pl.col(name).str.len_bytes().cast(pl.Int64).sum()
            size += lazy.select(length).collect(engine="streaming").item()
            if size > limit:
                break
    if size > limit:
        raise ValueError(f"{rows:,} rows of {len(schema):,} columns are over {limit:,} bytes")
    if not rows or not schema:
        raise ValueError("no row found")
    # What 64 bits with a sign cannot hold, of whichever width, becomes decimals.
    whole = (pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32)
    floats = (pl.Float32, pl.Decimal, pl.Null)
    columns = []
    for name, kind in schema.items():
        column = pl.col(name)
        if kind == pl.Boolean:  # as pandas writes them into text
            truth = pl.when(column).then(pl.lit("True")).otherwise(pl.lit("False"))
            column = pl.when(column.is_not_null()).then(truth)
        elif kind in floats or (kind.is_integer() and kind not in whole):
            column = column.cast(pl.Float64)
        elif kind.is_temporal() or isinstance(kind, pl.Categorical | pl.Enum):
            column = column.cast(pl.String)
        elif not (kind in whole or kind in (pl.Float64, pl.String)):
            raise ValueError(f"column {name} holds {kind}; numbers or words are wanted")
        columns.append(column.alias(name))
    frame = lazy.select(columns).collect()
    return frame.with_columns(pl.col(pl.Float64).fill_nan(None), stripped(pl.col(pl.String)))

"""Tables as sources: files whose cells are read by `tables` and understood by `columns`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from . import emnist, tables
from .columns import Columns
from .dataset import Label, Samples, Source
from .tables import Table


def read_test_file(path: Path, label: str) -> Source:
    """Read a table to test on: its label is known, and may be of one class only."""
    samples = _cut(tables.read_table(path), label)
    return Source(
        path.stem, "csv", str(path), samples, label=label, column_major=is_column_major(path)
    )


def read_file(path: Path, label: str | None = None) -> Source:
    """Read one labelled table; `label` says which column that is, by name or number."""
    table = tables.read_table(path)
    samples, name, lines = _labelled(table, label)
    return Source(
        path.stem,
        "csv",
        str(path),
        samples,
        label=name,
        note="\n".join(lines),
        column_major=is_column_major(path),
    )


def read_folder(folder: Path, label: str | None = None) -> Source:
    """Read a folder with exactly one train and one test table."""
    train, test = tables.read_folder(folder)
    samples, name, lines = _labelled(train, label)
    tests = _cut(test, name)
    return Source(
        folder.name,
        "csv",
        str(folder),
        samples,
        tests,
        label=name,
        note="\n".join(lines),
        column_major=is_column_major(train.path),
    )


def read_for(
    path: Path, columns: Columns, classes: tuple[Label, ...]
) -> tuple[np.ndarray, np.ndarray | None, list[str]]:
    """Read a table for a trained network: inputs, labels if it has them, and lines to show."""
    table = tables.read_table(path, columns.file_names, fewest=1)
    features, label = columns.features(table, classes)
    x, notes = columns.encode(features)
    return x, None if label is None else tables.labels_of(table, label), notes


def is_column_major(path: Path) -> bool:
    """Whether the images that a table holds, if it does, are stored by columns."""
    return emnist.is_column_major(path.name)


def _labelled(table: Table, wanted: str | None) -> tuple[Samples, str, list[str]]:
    """Cut a table into features and labels; return also the label's name and lines to show."""
    name, line = tables.choose_label(table, wanted)
    lines = [note for note in (table.note, line) if note]
    return _cut(table, name), name, lines


def _cut(table: Table, label: str) -> Samples:
    name = tables.column_named(table, label)
    return table.without([name]), tables.labels_of(table, name)

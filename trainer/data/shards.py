"""Folders of shards, which may be larger than memory: read in parts, never as a whole."""

from __future__ import annotations

import json
import math
import os
import re
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from backends.sharded import MappedShard, Shard, ShardedRows

from ..array_files import npy_layout, read_npy
from ..files import read_plain
from . import idx, tables
from .arrays import as_features, as_labels
from .building import stand_by_class, untrained
from .dataset import (
    DataError,
    Dataset,
    Label,
    Samples,
    Scale,
    Source,
    code_labels,
    named_classes,
    on_scale,
    square,
)
from .framing import Framing, polarity_note
from .orientation import upright

FACTS = "shards.json"
VERSION = 1
X, Y, _IMAGES, _LABELS, _TABLE = (
    ".x.npy",
    ".y.npy",
    "-images-idx3-ubyte",
    "-labels-idx1-ubyte",
    ".parquet",
)
_NAME = re.compile(
    r"(?P<part>train|test)-(?P<number>\d{1,9})(?:-of-\d{1,9})?"
    rf"(?P<what>{'|'.join(map(re.escape, (X, Y, _IMAGES, _LABELS, _TABLE)))})(?P<packed>\.gz)?"
)
_PAIRS = {X: Y, _IMAGES: _LABELS}
_DECODED = 2  # tables that are in memory at a time
_FEWEST_PIXELS = 49  # columns of a table that are taken for an image


class Facts(NamedTuple):
    """What `FACTS` says of a folder: see `docs/data.md`."""

    name: str
    image_shape: tuple[int, int] | None
    classes: tuple[Label, ...]  # by the codes that the files hold
    value_range: tuple[float, float]
    files: dict[str, int]  # samples of each shard, by the beginning of its files' names
    made: dict[str, Any]  # how they were made, to make them again

    def as_bytes(self) -> bytes:
        """Return the file's content."""
        return (json.dumps({"shards": VERSION} | self._asdict(), indent=1) + "\n").encode()


def read_facts(folder: Path) -> Facts | None:
    """Read a folder's `FACTS`, None where there is none."""
    file = folder / FACTS
    if not file.exists():
        return None
    try:
        found = json.loads(read_plain(file))
        if found.pop("shards") != VERSION:
            raise ValueError(f"another version than {VERSION}")
        facts = Facts(**found)
        shape, (low, high) = facts.image_shape, map(float, facts.value_range)
        if shape is not None:
            height, width = shape
            shape = int(height), int(width)
        if not (facts.classes and low < high and isinstance(facts.name, str)):
            raise ValueError("no classes or no range of values")
        classes = tuple(facts.classes)
        if not all(type(label) in (int, str) for label in classes):
            raise TypeError("classes that are neither whole numbers nor words")
        files = {str(stem): int(count) for stem, count in dict(facts.files).items()}
        return facts._replace(
            image_shape=shape,
            classes=classes,
            value_range=(low, high),
            files=files,
            made=dict(facts.made),
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(
            f"{file}: not readable ({error}); remove it, and the shards are read without it"
        ) from error


# --- which files there are -------------------------------------------------------------------


def is_folder(folder: Path) -> bool:
    """Whether a folder holds shards.

    One table to train on and one to test on are none, but small tables, whatever their names.
    """
    found = [match for entry in folder.iterdir() if (match := _NAME.fullmatch(entry.name))]
    trained = [m["what"] for m in found if m["part"] == "train"]
    arrays = any(what != _TABLE for what in trained)
    return arrays or trained.count(_TABLE) > 1 or (folder / FACTS).is_file()


class _Files(NamedTuple):
    """The file of a shard's values, or table, and that of its labels."""

    number: int
    x: Path
    y: Path | None


def _files(folder: Path, part: str) -> list[_Files]:
    found: dict[tuple[int, str], Path] = {}
    for entry in sorted(folder.iterdir()):
        match = _NAME.fullmatch(entry.name)
        if match is None or match["part"] != part:
            continue
        if match["packed"]:
            raise DataError(f"{entry}: gzipped, and so not to be read in parts; unpack it: gunzip")
        key = int(match["number"]), match["what"]
        if key in found:
            raise DataError(f"{entry}: the same number as {found[key].name}; one is wanted")
        found[key] = entry
    shards = []
    for (number, what), path in sorted(found.items()):
        other = {x: y for a, b in _PAIRS.items() for x, y in ((a, b), (b, a))}.get(what)
        partner = found.get((number, other or ""))
        if other is not None and partner is None:
            missing = path.name.replace(what, other)
            raise DataError(f"{path}: {missing} is not in the same folder")
        if what in _PAIRS or what == _TABLE:
            shards.append(_Files(number, path, partner))
    kinds = {_NAME.fullmatch(files.x.name)["what"]: files.x for files in shards}  # type: ignore[index]
    if len(kinds) > 1:
        names = " and ".join(path.name for path in kinds.values())
        raise DataError(f"{folder}: {names}: shards of one kind are wanted")
    return shards


# --- one of them ------------------------------------------------------------------------------


class _Read(NamedTuple):
    """A shard, its labels, as they stand, and the shape of its images."""

    shard: Shard
    labels: np.ndarray
    image_shape: tuple[int, int] | None
    is_whole: bool  # whether its values are whole numbers, 0 to 255
    extremes: tuple[float, float] | None = None  # of its values, where they were looked at


def _read_arrays(files: _Files, facts: Facts | None) -> _Read:
    assert files.y is not None
    if files.x.name.endswith(_IMAGES):
        count, shape, start = idx.images_layout(files.x)
        images = MappedShard(files.x, (count, shape[0] * shape[1]), np.uint8, start)
        labels = idx.read_labels(files.y)
        if len(labels) != count:
            raise DataError(f"{files.y}: {len(labels)} labels for the {count} of {files.x.name}")
        return _Read(images, _narrow(labels), shape, True)
    layout = npy_layout(files.x)
    (count, *sizes), dtype = layout.shape or (0,), layout.dtype
    if len(sizes) == 3 and sizes[2] == 1:
        sizes = sizes[:2]
    if len(sizes) not in (1, 2) or dtype.kind not in "buif" or layout.by_columns:
        stored = ", by columns" if layout.by_columns else ""
        raise DataError(
            f"{files.x} has shape {layout.shape}, {dtype}{stored}; integers or floats (n, features)"
            " or (n, height, width) by rows are wanted: np.save(file, np.ascontiguousarray(x))"
        )
    shard = MappedShard(files.x, (count, math.prod(sizes)), dtype, layout.offset)
    labels = _narrow(as_labels(read_npy(files.y), count, str(files.y)))
    image_shape = (sizes[0], sizes[1]) if len(sizes) == 2 else None
    is_whole = dtype.kind != "f"
    if dtype.kind == "b" or dtype == np.uint8 or facts is not None:
        return _Read(shard, labels, image_shape, is_whole)
    low, high, start = np.inf, -np.inf, 0
    for block in ShardedRows([shard], dtype).blocks():
        values, _ = as_features(block, f"{files.x}, from sample {start} on")
        low, high = min(low, float(values.min())), max(high, float(values.max()))
        start += len(block)
    return _Read(shard, labels, image_shape, is_whole, (low, high))


def _narrow(labels: np.ndarray) -> np.ndarray:
    """Return whole numbers in as few bytes as they fit into; words as they are."""
    if labels.dtype.kind == "U":
        return labels
    dtypes = np.min_scalar_type(labels.min()), np.min_scalar_type(labels.max())
    return labels.astype(np.result_type(*dtypes))


class _Tables:
    """Tables with the same columns, of which few are in memory at a time."""

    def __init__(self, first: Path, wanted: str | None) -> None:
        table = tables.read_table(first)
        self.label, self.line = tables.choose_label(table, wanted)
        self._names = [name for name in table.frame.columns if name != self.label]
        self._decoded: OrderedDict[Path, np.ndarray] = OrderedDict()

    def read(self, path: Path) -> _Read:
        """Read a table's labels and look at its values, which go to the cache."""
        table = tables.read_table(path)
        label = tables.column_named(table, self.label)
        values = self._values(table)
        self._keep(path, values)
        is_whole, extremes = values.dtype == np.uint8, (float(values.min()), float(values.max()))
        shape = square(values.shape[1]) if values.shape[1] >= _FEWEST_PIXELS else None
        labels = _narrow(tables.labels_of(table, label))
        return _Read(_TableShard(self, path, values.shape), labels, shape, is_whole, extremes)

    def values(self, path: Path) -> np.ndarray:
        """Return a table's values, from the cache or read anew."""
        if path not in self._decoded:
            self._keep(path, self._values(tables.read_table(path)))
        self._decoded.move_to_end(path)
        return self._decoded[path]

    def _keep(self, path: Path, values: np.ndarray) -> None:
        while len(self._decoded) >= _DECODED:
            self._decoded.popitem(last=False)
        self._decoded[path] = values

    def _values(self, table: tables.Table) -> np.ndarray:
        frame = table.frame
        for name in self._names:
            if name not in frame.columns:
                raise DataError(f"{table.path}: no column {name}, which the first shard has")
            if not frame[name].dtype.is_numeric():
                raise DataError(
                    f"{table.path}: {table.column(name)} holds words; shards of numbers are wanted,"
                    " or one table that fits into memory"
                )
            if frame[name].null_count():
                row = frame[name].is_null().arg_max() or 0
                raise DataError(f"{table.where(row, name)}: a number is missing")
        values = table.select(self._names).frame.to_numpy()
        if values.dtype.kind in "iu" and (values.min() < 0 or values.max() > 255):
            values = values.astype(np.float32)  # no pixels
        return as_features(values, str(table.path))[0]


class _TableShard:
    """A table as a shard: all of it is read for some of its samples."""

    def __init__(self, tables: _Tables, path: Path, shape: tuple[int, int]) -> None:
        self.tables, self.path, self.shape = tables, path, shape

    def copy(self, rows: np.ndarray, out: np.ndarray, places: np.ndarray) -> None:
        """See `Shard.copy`."""
        values = self.tables.values(self.path)
        if values.shape != self.shape:
            raise OSError(0, "has changed since it was first read", os.fspath(self.path))
        out[places] = values[rows]


# --- all of them ------------------------------------------------------------------------------


class _Folder:
    """The shards of a folder, checked, with the labels of all and the values of none."""

    def __init__(self, folder: Path, label: str | None, parts: Sequence[str]) -> None:
        self.path, self.facts = folder, read_facts(folder)
        self.label, self.notes = None, []
        found = {part: _files(folder, part) for part in parts}
        self._check_files(found)
        self.tables: _Tables | None = None
        first = next((files for part in parts for files in found[part]), None)
        if first is not None and first.y is None:
            self.tables = _Tables(first.x, label)
            self.label = self.tables.label
            self.notes.append(self.tables.line)
        elif label is not None:
            raise DataError(f"label={label!r}: {folder} holds no tables, whose labels are known")
        self.parts = {part: list(self._read(files)) for part, files in found.items()}
        self._check_alike()
        reads = [read for part in self.parts.values() for read in part]
        self.dtype = np.dtype(np.uint8 if all(r.is_whole for r in reads) else np.float32)
        self.image_shape = self._image_shape(reads)

    def _read(self, files: Sequence[_Files]) -> Iterator[_Read]:
        for each in files:
            yield self.tables.read(each.x) if self.tables else _read_arrays(each, self.facts)

    def _check_files(self, found: dict[str, list[_Files]]) -> None:
        """Raise for a shard that `FACTS` says there is; add a line on numbers that are left out."""
        for part, files in found.items():
            there = {f"{part}-{each.number:05d}" for each in files}
            for stem in self.facts.files if self.facts else ():
                if stem.startswith(f"{part}-") and stem not in there:
                    raise DataError(
                        f"{self.path}: {stem} is missing, which {FACTS} speaks of; put it back, or"
                        " write it again by the command that wrote the others"
                    )
            numbers = [each.number for each in files]
            lacking = set(range(numbers[0], numbers[-1])) - set(numbers) if numbers else set()
            if lacking and self.facts is None:
                some = ", ".join(f"{part}-{number:05d}" for number in sorted(lacking)[:3])
                self.notes.append(
                    f"{self.path}: no {some}{', …' if len(lacking) > 3 else ''}: it is taken to be"
                    " whole without"
                )

    def _check_alike(self) -> None:
        first: _Read | None = None
        for part, reads in self.parts.items():
            for read in reads:
                first = first or read
                stem = f"{part}-{read.shard.path.name.split('-')[1].split('.')[0]}"
                count = self.facts.files.get(stem) if self.facts else None
                if count not in (None, read.shard.shape[0]):
                    raise DataError(
                        f"{read.shard.path}: {read.shard.shape[0]:,} samples, {FACTS} speaks of"
                        f" {count:,}"
                    )
                if read.shard.shape[1] != first.shard.shape[1] or (
                    read.image_shape != first.image_shape
                ):
                    sizes = [
                        f"{'×'.join(map(str, r.image_shape))} pixels"
                        if r.image_shape
                        else f"{r.shard.shape[1]} features"
                        for r in (read, first)
                    ]
                    raise DataError(
                        f"{read.shard.path} has samples of {sizes[0]}, {first.shard.path.name} of"
                        f" {sizes[1]}"
                    )
                if self.tables is None and read.is_whole != first.is_whole:
                    raise DataError(
                        f"{read.shard.path} and {first.shard.path.name}: integers in one, floats in"
                        " the other; one of these is wanted"
                    )

    def _image_shape(self, reads: Sequence[_Read]) -> tuple[int, int] | None:
        features, shape = reads[0].shard.shape[1], reads[0].image_shape
        if self.tables is not None:
            return shape if self.dtype == np.uint8 else None
        if self.facts is None:
            return shape or square(features)
        shape = self.facts.image_shape
        if shape is not None and shape[0] * shape[1] != features:
            raise DataError(
                f"{self.path / FACTS}: images of {shape[0]}×{shape[1]} pixels, but the shards have"
                f" {features} features"
            )
        return shape

    def value_range(self) -> tuple[float, float]:
        """Return where values go from and to."""
        if self.facts is not None:
            return self.facts.value_range
        if self.dtype == np.uint8:
            return 0.0, 255.0
        found = [read.extremes for read in self.parts["train"] if read.extremes is not None]
        return min(low for low, _ in found), max(high for _, high in found)

    def rows(self, part: str) -> ShardedRows:
        """Return the samples of a part, none of which are read."""
        return ShardedRows([read.shard for read in self.parts[part]], self.dtype)

    def classes(self, *others: np.ndarray) -> tuple[Label, ...]:
        """Return the labels there are, in the folder and in other samples, in their order."""
        if self.facts is not None:
            return self.facts.classes
        labels = [read.labels for part in self.parts.values() for read in part]
        labels += others
        named = {named_classes(part) for part in labels}
        if len(named) > 1:
            raise DataError(f"{self.path}: integer labels in some files, names in others")
        kind = np.str_ if True in named else np.int64
        return tuple(sorted({a for y in labels for a in np.unique(y).astype(kind).tolist()}))

    def codes(self, part: str, classes: tuple[Label, ...]) -> np.ndarray:
        """Return the places of a part's labels among the classes, in as few bytes as they take."""
        kind = np.min_scalar_type(len(classes) - 1)
        found = []
        for read in self.parts[part]:
            codes, path = read.labels, read.shard.path
            if self.facts is None:
                codes = code_labels(codes, classes, str(path))
            elif codes.dtype.kind == "U" or codes.min() < 0 or codes.max() >= len(classes):
                raise DataError(
                    f"{path}: labels {codes.min()}…{codes.max()}; numbers of the {len(classes)}"
                    f" classes of {FACTS}, from 0, are wanted"
                )
            found.append(codes.astype(kind))
        return np.concatenate(found)


def load(path: Path, other: Source | None, label: str | None) -> Dataset:
    """Make the data set of a folder of shards: its training part stays on the disk.

    Parameters
    ----------
    path : Path
    other : Source or None
        To test on; else the folder's own test shards, which are read into memory.
    label : str or None
        Of tables, which column is the label.

    Returns
    -------
    Dataset
        Its `train_x` is a `ShardedRows`, its `train_y` of as few bytes as the codes fit into.
    """
    folder = _Folder(path, label, ("train",) if other is not None else ("train", "test"))
    for part, reads in folder.parts.items():
        if not reads:
            ask = "" if part == "train" else "; or name what tests: --test-data PATH"
            raise DataError(
                f"{path}: no {part} shards; {part}-00000{X} and {part}-00000{Y}, … are wanted{ask}"
            )
    x, shape, value_range = folder.rows("train"), folder.image_shape, folder.value_range()
    scale, notes = Scale(str(x.dtype), *value_range), [*folder.notes]
    if other is None:
        place, test_x = f"{path} (test)", np.asarray(folder.rows("test"))
        classes = folder.classes()
        test_y = folder.codes("test", classes).astype(np.int64)
    else:
        place, (test_x, labels) = other.source, _other_part(other, folder)
        classes = folder.classes(labels)
        test_y = code_labels(labels, classes, place)
    test_x = on_scale(np.ascontiguousarray(test_x), scale, str(path), place)
    if other is not None and shape is not None:
        trained, tested = (Framing.measured(a, shape) for a in (x, test_x))
        notes += polarity_note(trained, tested, place)
    y = folder.codes("train", classes)
    notes += untrained(classes, y, test_y, place)
    if stand_by_class(y):
        notes.append(
            f"{path}: its samples stand by class, and a window of {x.window:,} is too small to mix"
            " them; write the shards anew in a random order"
        )
    return Dataset(
        name=folder.facts.name if folder.facts else path.name,
        train_x=x,
        train_y=y,
        test_x=test_x,
        test_y=test_y,
        image_shape=shape,
        classes=classes,
        value_range=value_range,
        kind="shards",
        source=str(path),
        test_source=None if other is None else other.source,
        label=folder.label,
        note="\n".join(notes),
    )


def _other_part(other: Source, folder: _Folder) -> Samples:
    x, labels = other.evaluation_part
    if not isinstance(x, np.ndarray):
        raise DataError(f"{other.source}: a table; arrays or images test what shards train")
    x, _, _ = upright(x, other.image_shape or folder.image_shape, other, False)
    features = folder.rows("train").shape[1]
    if x.shape[1] != features:
        raise DataError(
            f"{folder.path} has {features} features a sample, but {other.source} has {x.shape[1]}"
        )
    return x, labels


def read_test_part(path: Path) -> Source:
    """Read the test shards of a folder, to evaluate a trained network on."""
    folder = _Folder(path, None, ("test",))
    if not folder.parts["test"]:
        raise DataError(
            f"{path}: training shards alone, which are not read as a whole; test-00000{X} and"
            f" test-00000{Y}, … are wanted"
        )
    classes = folder.classes()
    labels = np.array(classes)[folder.codes("test", classes)]
    samples = np.asarray(folder.rows("test")), labels
    return Source(path.name, "shards", str(path), samples, samples, image_shape=folder.image_shape)

"""`load` and its siblings: find out what a source is, and have it read."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path

import numpy as np

from ..array_files import read_npy
from . import (
    dialect,
    digits,
    exercise,
    idx,
    image_folders,
    mat,
    mnist,
    npz,
    shards,
    table_files,
    tables,
    unreadable,
)
from .arrays import as_features
from .building import build
from .columns import Columns
from .dataset import (
    DataError,
    Dataset,
    Label,
    Samples,
    Scale,
    Source,
    code_labels,
    on_scale,
    reading,
    square,
)
from .orientation import upright

NAMES = ("mnist", "digits", exercise.NAME, "auto")
_CUT = f"{exercise.NAME}:"
_CHOICE = (
    '"mnist", "digits", "ex4", a folder of IDX files or one of them, a table (.csv, .tsv, .data, '
    ".parquet, …), a folder with a train and a test table, an .npz, a .mat, a folder with one "
    "sub-folder of images a class, or a folder of shards (train-00000.x.npy, train-00000.y.npy, …)"
)
_NO_LABELS = np.empty(0, np.int64)  # where none are looked at
_FILE_READERS = {".npz": npz.read_file, ".mat": mat.read_file}


def load(
    source: str | os.PathLike[str] = "auto",
    test_data: str | os.PathLike[str] | None = None,
    *,
    label: str | None = None,
    validation_part: bool = True,
    transpose: bool = False,
    on_progress: mnist.Progress | None = None,
) -> Dataset:
    """Load data to train on and to test on.

    Parameters
    ----------
    source : str or path-like
        "mnist"; "digits"; "auto" (MNIST if it is cached or can be had soon, else the digits);
        "ex4", 5,000 of MNIST's images cut to 20×20, and "ex4:SOURCE" those of another source;
        a folder of IDX files named as MNIST's, EMNIST's or QMNIST's, or one of them; a folder of
        Kuzushiji-MNIST's files, of one train and one test table, of one sub-folder of images a
        class, or of train, valid and test with such sub-folders; a table (``.csv``, ``.tsv``,
        ``.data``, ``.parquet`` and the like, compressed or not); an ``.npz`` file (``x_train``,
        ``y_train``, …, ``train_images``, ``train_labels``, …, or ``x`` and ``y``, ``data`` and
        ``target`` and the like), or a ``.mat`` file with such names, Ng's (``X``, ``y``) or
        EMNIST's. Colour images are made grey.
        Or a folder of shards, ``train-00000.x.npy`` and ``train-00000.y.npy`` and so on, larger
        than memory: its training part is a `backends.sharded.ShardedRows`, which stays on the disk.
        Without a test part a validation part tests; without either it is split 80/20 with a fixed
        seed, or, of fewer than 20 samples, all train and test.
    test_data : str or path-like, optional
        Another source, whose test part (or its validation part, or all of it) tests, while the
        first one's training part (or all of it) trains.
    label : str, optional
        Of a table, the column of the labels: its name, or its number from 1, of which -1 is the
        last. Found by itself if not given.
    validation_part : bool
        False passes validation parts over, as older versions did.
    transpose : bool
        Take images the other way round, rows for columns. Those that are known to be stored by
        columns, Ng's and EMNIST's, are turned without it, and stay as they stand with it.
    on_progress : callable, optional
        Called with file name, bytes done and bytes in all while MNIST downloads.

    Returns
    -------
    Dataset

    Raises
    ------
    DataError
        One line: what was found where, what is wanted, and what to do.
    """

    shard_folder = _shard_folder(source)
    if shard_folder is not None:
        if transpose:
            raise DataError(f"{shard_folder}: shards are taken as they stand; omit --transpose")
        other = None if test_data is None else _read(test_data, on_progress, alone=True)
        with reading(shard_folder):
            return shards.load(shard_folder, other, label)

    def read(
        source: str | os.PathLike[str], label: str | None = None, alone: bool = False
    ) -> Source:
        found = _read(source, on_progress, label, alone=alone)
        return found if validation_part else replace(found, validation=None)

    first = read(source, label)
    if label is not None and first.label is None:
        raise DataError(f"label={label!r}: {os.fspath(source)} is no table, whose labels are known")
    if test_data is None:
        return build(first, transpose=transpose)
    file = _absolute(test_data)
    if first.label is not None and file.is_file() and tables.is_table(file):
        with reading(file), _known_for_what_it_is(file):
            other = table_files.read_test_file(file, first.label)
            return build(first, other, transpose=transpose)
    return build(first, read(test_data, alone=True), transpose=transpose)


def load_labelled(
    source: str | os.PathLike[str],
    classes: tuple[Label, ...],
    features: int,
    scale: Scale | None = None,
    columns: Columns | None = None,
    on_note: Callable[[str], object] = lambda line: None,
    *,
    transpose: bool = False,
) -> Samples:
    """Load samples to evaluate a trained network on.

    Parameters
    ----------
    source : str or path-like
        As for `load`; its test part if it has one, else all of it.
    classes : tuple of int or str
        The network's classes, which code the labels.
    features : int
        The network's inputs.
    scale : Scale, optional
        Of the values that it was trained on; checked if given.
    columns : Columns, optional
        Of the table that it was trained on.
    on_note : callable, optional
        Called with each line worth showing.
    transpose : bool
        As for `load`.

    Returns
    -------
    x : numpy.ndarray
        (n, features), uint8 or float32.
    y : numpy.ndarray
        (n,) int64 codes.

    Raises
    ------
    DataError
        Bad data, another number of features, another scale, or a label that is none of the
        classes.
    """
    where = os.fspath(source)
    x, y = _load_for(source, classes, features, scale, columns, on_note, transpose)
    if y is None:
        raise DataError(f"{where}: no column of labels, which are wanted here")
    return x, code_labels(y, classes, where)


def load_unlabelled(
    path: str | os.PathLike[str],
    features: int,
    scale: Scale | None = None,
    columns: Columns | None = None,
    classes: tuple[Label, ...] = (),
    on_note: Callable[[str], object] = lambda line: None,
    *,
    transpose: bool = False,
) -> np.ndarray:
    """Load samples to predict.

    Parameters
    ----------
    path : str or path-like
        An IDX image file; an ``.npy`` file, or an ``.npz`` file of one array; a table with labels
        or without; or whatever `load` takes, of which the test part (or all) is used. Labels are
        ignored.
    features, scale, columns, on_note, transpose
        As for `load_labelled`.
    classes : tuple of int or str, optional
        The network's classes, by which the column of labels is known where it has no name.

    Returns
    -------
    numpy.ndarray
        (n, features), uint8 or float32.

    Raises
    ------
    DataError
        Bad data, another number of features, or another scale.
    """
    file, where = _absolute(path), os.fspath(path)
    with reading(file):
        found = _images_alone(file) if where not in NAMES and file.is_file() else None
    if found is None:
        return _load_for(path, classes, features, scale, columns, on_note, transpose)[0]
    return _taken(found, features, scale, on_note, transpose, where)


def is_data_file(path: Path) -> bool:
    """Whether a file is named or begins as one that holds samples does."""
    is_array = path.suffix.lower() in (".npy", *_FILE_READERS)
    return path.is_file() and (is_array or tables.is_table(path) or idx.may_be(path))


def _images_alone(path: Path) -> Source | None:
    """Read a file of nothing but images; None of another kind."""
    suffix = path.suffix.lower()
    by_columns, shape = False, None
    unreadable.refuse_stand_in(path)
    if suffix == ".npy":
        x, shape = as_features(read_npy(path), str(path))
    elif suffix == ".npz" and (array := npz.read_alone(path)) is not None:
        x, shape = as_features(array, str(path))
    elif suffix in _FILE_READERS or tables.is_table(path) or not idx.may_be(path):
        return None
    else:
        x, shape = idx.read_images(path)
        by_columns = idx.is_column_major(path)
    return Source(
        path.stem, "idx", str(path), (x, _NO_LABELS), image_shape=shape, column_major=by_columns
    )


def _load_for(
    source: str | os.PathLike[str],
    classes: tuple[Label, ...],
    features: int,
    scale: Scale | None,
    columns: Columns | None,
    on_note: Callable[[str], object],
    transpose: bool,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Load inputs and, if there are any, labels for a trained network."""
    file, where = _absolute(source), os.fspath(source)
    if where in NAMES or not file.is_file() or not tables.is_table(file):
        data = _read(source, alone=True)
        x, labels = data.evaluation_part
        if isinstance(x, np.ndarray):
            if columns is not None and not columns.is_image:
                raise DataError(f"{where} is no table, as the training data was")
            for line in data.note.splitlines():
                on_note(line)
            return _taken(data, features, scale, on_note, transpose, where), labels
        file = Path(x.path)  # the test part of a folder of tables
    is_table = columns is not None
    high = scale.high if scale is not None and scale.dtype == "uint8" else 0.0
    with reading(file), _known_for_what_it_is(file):
        reader = columns or Columns.unnamed(features, high)
        x, y, lines = table_files.read_for(file, reader, classes)
    if not is_table and x.dtype == np.float32 and bool(((x % 1 == 0) & (x >= 0) & (x < 256)).all()):
        x = x.astype(np.uint8)  # whose scale is looked at
    for line in lines:
        on_note(line)
    if not is_table:
        x = _fitting(x, features, scale, where)
    shape = square(features) if columns is None else columns.image_shape
    by_columns = table_files.is_column_major(file)
    table = Source(file.stem, "csv", where, (x, _NO_LABELS), column_major=by_columns)
    return _upright(x, shape, table, on_note, transpose), y


def _taken(
    data: Source,
    features: int,
    scale: Scale | None,
    on_note: Callable[[str], object],
    transpose: bool,
    where: str,
) -> np.ndarray:
    """Return the values of a source's evaluation part, as a trained network takes them."""
    x = _fitting(data.evaluation_part[0], features, scale, where)
    shape = data.image_shape or square(features)
    return _upright(x, shape, replace(data, source=where), on_note, transpose)


def _upright(
    x: np.ndarray,
    shape: tuple[int, int] | None,
    data: Source,
    on_note: Callable[[str], object],
    transpose: bool,
) -> np.ndarray:
    x, _, said = upright(x, shape, data, transpose)
    if said:
        on_note(said)
    return x


def _fitting(x: np.ndarray, features: int, scale: Scale | None, where: str) -> np.ndarray:
    if x.shape[1] != features:
        cuttable = (x.shape[1], features) == (28 * 28, 20 * 20)
        hint = f"; {_CUT}{where} cuts its images to 20×20" if cuttable else ""
        raise DataError(
            f"{where} has {x.shape[1]} features a sample, this network takes {features}{hint}"
        )
    return x if scale is None else on_scale(x, scale, "the training data", where)


def _absolute(source: str | os.PathLike[str]) -> Path:
    return Path(os.path.abspath(os.path.expanduser(os.fspath(source))))


def _read(
    source: str | os.PathLike[str],
    on_progress: mnist.Progress | None = None,
    label: str | None = None,
    *,
    alone: bool = False,
) -> Source:
    """Read whatever it is; `alone`, of IDX files one of which is named, its own part only."""
    name = os.fspath(source)
    path = _absolute(name)
    if name.lower() in NAMES and not path.exists():
        name = name.lower()
    if name == exercise.NAME:
        name = f"{_CUT}mnist"
    if name.startswith(_CUT):
        return exercise.cut(_read(name.removeprefix(_CUT), on_progress, alone=alone))
    with reading(path):
        if name == "mnist":
            return mnist.read_mnist(on_progress)
        if name == "digits":
            return digits.read_digits()
        if name == "auto":
            return _read_auto(on_progress)
        if name and path.is_dir() and shards.is_folder(path):
            if alone:
                return shards.read_test_part(path)
            raise DataError(
                f"{path}: shards, whose images are not cut to 20×20 as ex4 cuts them; take another"
                " --recipe and the folder's own name"
            )
        if name and path.is_dir():
            folder = _unwrapped(path)
            return replace(_read_folder(folder, label), name=path.name, source=str(path))
        if path.is_file():
            return _read_table(path, label) if tables.is_table(path) else _read_arrays(path, alone)
    raise DataError(f"{name!r} is neither a name nor a file nor a folder{_hint(path)}")


def _shard_folder(source: str | os.PathLike[str]) -> Path | None:
    name, path = os.fspath(source), _absolute(source)
    with reading(path):
        is_folder = bool(name) and path.is_dir() and shards.is_folder(path)
    return path if is_folder else None


def _read_table(path: Path, label: str | None) -> Source:
    with _known_for_what_it_is(path):
        return table_files.read_file(path, label)


@contextmanager
def _known_for_what_it_is(path: Path) -> Iterator[None]:
    """Of a file that is something else than the table it is named as, raise what it is instead."""
    try:
        yield
    except DataError:
        if path.suffix.lower() not in dialect.PACKINGS:
            unreadable.refuse(path)
        raise


def _read_arrays(path: Path, alone: bool) -> Source:
    unreadable.refuse(path)
    if path.suffix.lower() in _FILE_READERS:
        return _FILE_READERS[path.suffix.lower()](path)
    if idx.is_named(path):
        return idx.read_file(path, alone=alone)
    if idx.holds_images(path):
        raise DataError(
            f"{path}: images without labels; name them as MNIST's, train-images-idx3-ubyte, and put"
            " their labels beside them, train-labels-idx1-ubyte"
        )
    raise DataError(f"{path}: a file of unknown kind; give {_CHOICE}")


def _read_auto(on_progress: mnist.Progress | None) -> Source:
    try:
        return mnist.read_mnist(on_progress, soon=True)
    except (DataError, OSError) as error:
        why = error.why if isinstance(error, mnist.NoMnist) else error
        note = f"{why}; using the 8×8 digits instead; --data FOLDER takes MNIST's four files"
        return replace(digits.read_digits(), note=note)


def _unwrapped(folder: Path) -> Path:
    """Return the folder to read: of one that only leads to another, as archives do, that other."""
    while not (idx.is_idx_folder(folder) or npz.is_folder(folder) or _has_train_table(folder)):
        inner = [entry for entry in image_folders.visible(folder) if entry.is_dir()]
        if len(inner) != 1:
            break
        if image_folders.is_class(inner[0]) and not idx.is_idx_folder(inner[0]):
            break
        folder = inner[0]
    return folder


def _has_train_table(folder: Path) -> bool:
    return any("train" in entry.name.lower() for entry in _tables(folder))


def _tables(folder: Path) -> list[Path]:
    entries = image_folders.visible(folder)
    return [entry for entry in entries if tables.is_table(entry) and entry.is_file()]


def _read_folder(path: Path, label: str | None) -> Source:
    if idx.is_idx_folder(path):
        return idx.read_folder(path)
    if npz.is_folder(path):
        return npz.read_folder(path)
    has_folders = any(entry.is_dir() for entry in image_folders.visible(path))
    # beside folders of images, another table is some readme.txt
    if _has_train_table(path) or (_tables(path) and not has_folders):
        return table_files.read_folder(path, label)
    if has_folders:
        return image_folders.read_folder(path)
    if any(entry.suffix and image_folders.is_image(entry) for entry in path.iterdir()):
        raise DataError(
            f"{path}: its pictures lie in no sub-folders, one a class, whose names are their"
            f" labels; for a trained run to look at them: python -m trainer predict RUN"
            f" {shlex.quote(str(path))}"
        )
    raise DataError(
        f"{path}: a folder without IDX files (train-images-idx3-ubyte[.gz] …), CSV files or "
        f"sub-folders of images; give {_CHOICE}"
    )


def _hint(path: Path) -> str:
    """Return what can be given, and what of it comes near to an unknown name."""
    try:
        siblings = os.listdir(path.parent)
    except OSError:
        siblings = []
    near = get_close_matches(path.name.lower(), NAMES, n=1) or get_close_matches(
        path.name, siblings, n=1
    )
    suggestion = f"; did you mean {near[0]!r}?" if near else ""
    return f"; give {_CHOICE}{suggestion}"

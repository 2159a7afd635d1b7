"""`load` and its siblings: find out what a source is, and have it read."""

from __future__ import annotations

import os
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path

import numpy as np

from . import csv_files, digits, exercise, idx, images, mat, mnist, npz
from .dataset import (
    DataError,
    Dataset,
    Label,
    Samples,
    Scale,
    Source,
    build,
    code_labels,
    on_scale,
    reading,
)

_NAMES = ("mnist", "digits", exercise.NAME, "auto")
_CUT = f"{exercise.NAME}:"
_CHOICE = (
    '"mnist", "digits", "ex4", a folder of IDX files, a .csv, a folder with a train and a test '
    ".csv, an .npz, a .mat, or a folder with one sub-folder of images a class"
)
_FILE_READERS = {".csv": csv_files.read_file, ".npz": npz.read_file, ".mat": mat.read_file}


def load(
    source: str | os.PathLike[str] = "auto",
    test_data: str | os.PathLike[str] | None = None,
    *,
    on_progress: mnist.Progress | None = None,
) -> Dataset:
    """Load data to train on and to test on.

    Parameters
    ----------
    source : str or path-like
        "mnist"; "digits"; "auto" (MNIST if it is cached or can be had soon, else the digits);
        "ex4", 5,000 of MNIST's images cut to 20×20, and "ex4:SOURCE" those of another source;
        a folder of IDX files, of one train and one test CSV, or of one sub-folder of images a
        class; a ``.csv`` (label first), ``.npz`` (Keras' names) or ``.mat`` (``X``, ``y``) file.
        Without a test part it is split 80/20 with a fixed seed.
    test_data : str or path-like, optional
        Another source, whose test part (or all of it) tests, while the first one's training
        part (or all of it) trains.
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
    first = _read(source, on_progress)
    return build(first, None if test_data is None else _read(test_data, on_progress))


def load_labelled(
    source: str | os.PathLike[str],
    classes: tuple[Label, ...],
    features: int,
    scale: Scale | None = None,
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
    data = _read(source)
    x, y = data.evaluation_part
    x = _fitting(x, features, scale, data.source)
    return x, code_labels(y, classes, data.source)


def load_unlabelled(
    path: str | os.PathLike[str], features: int, scale: Scale | None = None
) -> np.ndarray:
    """Load samples to predict.

    Parameters
    ----------
    path : str or path-like
        An IDX image file; a CSV of `features` columns, or one more with the label first; or
        whatever `load` takes, of which the test part (or all) is used. Labels are ignored.
    features : int
        The network's inputs.
    scale : Scale, optional
        As for `load_labelled`.

    Returns
    -------
    numpy.ndarray
        (n, features), uint8 or float32.

    Raises
    ------
    DataError
        Bad data, another number of features, or another scale.
    """
    file = _absolute(path)
    with reading(file):
        suffix = file.suffix.lower() if file.is_file() and os.fspath(path) not in _NAMES else None
        if suffix == ".csv":
            x = csv_files.read_unlabelled(file, features)
        elif suffix is not None and suffix not in _FILE_READERS:
            x, _ = idx.read_images(file)
        else:
            x, _ = _read(path).evaluation_part
    return _fitting(x, features, scale, os.fspath(path))


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


def _read(source: str | os.PathLike[str], on_progress: mnist.Progress | None = None) -> Source:
    name = os.fspath(source)
    path = _absolute(name)
    if name.lower() in _NAMES and not path.exists():
        name = name.lower()
    if name == exercise.NAME:
        name = f"{_CUT}mnist"
    if name.startswith(_CUT):
        return exercise.cut(_read(name.removeprefix(_CUT), on_progress))
    with reading(path):
        if name == "mnist":
            return mnist.read_mnist(on_progress)
        if name == "digits":
            return digits.read_digits()
        if name == "auto":
            return _read_auto(on_progress)
        if name and path.is_dir():
            return _read_folder(path)
        if path.is_file():
            if path.suffix.lower() in _FILE_READERS:
                return _FILE_READERS[path.suffix.lower()](path)
            raise DataError(f"{path}: a file of unknown kind; give {_CHOICE}")
    raise DataError(f"{name!r} is neither a name nor a file nor a folder{_hint(path)}")


def _read_auto(on_progress: mnist.Progress | None) -> Source:
    try:
        return mnist.read_mnist(on_progress, soon=True)
    except (DataError, OSError) as error:
        why = str(error).split("; give a folder")[0]
        return replace(digits.read_digits(), note=f"{why}; using the 8×8 digits instead")


def _read_folder(path: Path) -> Source:
    if idx.is_idx_folder(path):
        return idx.read_folder(path)
    entries = [entry for entry in path.iterdir() if not entry.name.startswith(".")]
    if any(entry.suffix.lower() == ".csv" for entry in entries):
        return csv_files.read_folder(path)
    if any(entry.is_dir() for entry in entries):
        return images.read_folder(path)
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
    near = get_close_matches(path.name.lower(), _NAMES, n=1) or get_close_matches(
        path.name, siblings, n=1
    )
    suggestion = f"; did you mean {near[0]!r}?" if near else ""
    return f"; give {_CHOICE}{suggestion}"

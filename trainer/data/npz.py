"""NPZ files, read without ever unpickling."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..array_files import npz_names, read_npz
from .arrays import Pair, Parts, parts_in, source_of
from .dataset import DataError, Source

_KUZUSHIJI = re.compile(r"(kmnist|k49)-(train|test)-(imgs|labels)\.npz")


def read_file(path: Path) -> Source:
    """Read the arrays whose names say what they are, see `arrays`."""
    if match := _KUZUSHIJI.fullmatch(path.name):
        lacks = "images" if match[3] == "labels" else "labels"
        raise DataError(
            f"{path}: no {lacks}, which are in a file of their own; give the folder of both: --data"
            f" {path.parent}"
        )
    parts = parts_in(path, npz_names(path))
    arrays = read_npz(path, [name for pair in parts if pair for name in pair])
    return source_of(path, "npz", arrays, parts)


def read_alone(path: Path) -> np.ndarray | None:
    """Read the array of a file that has one alone; None of another."""
    names = npz_names(path)
    return read_npz(path)[names[0]] if len(names) == 1 else None


def is_folder(folder: Path) -> bool:
    """Whether a folder holds a file named as those of Kuzushiji-MNIST or Kuzushiji-49 are."""
    return any(map(_is_named, folder.iterdir()))


def _is_named(path: Path) -> bool:
    return _KUZUSHIJI.fullmatch(path.name) is not None and path.is_file()


def read_folder(folder: Path) -> Source:
    """Read Kuzushiji's files, of which each holds one array."""
    found = sorted(entry.name for entry in folder.iterdir() if _is_named(entry))
    sets = sorted({name.split("-")[0] for name in found})
    if len(sets) > 1:
        raise DataError(f"{folder}: {' and '.join(sets)} found; give each a folder of its own")
    arrays, pairs = {}, []
    for part in ("train", "test"):
        pair = Pair(f"{sets[0]}-{part}-imgs.npz", f"{sets[0]}-{part}-labels.npz")
        there = [name for name in pair if name in found]
        for name in pair if there else ():
            if name not in found:
                raise DataError(f"{folder / there[0]}: {name} is not in the same folder")
            array = read_alone(folder / name)
            if array is None:
                raise DataError(f"{folder / name}: more than one array found; one is wanted")
            arrays[name] = array
        pairs += [pair] * bool(there)
    source = source_of(folder, "npz", arrays, Parts(pairs[0], None, *pairs[1:]))
    return replace(source, name=folder.name)

"""NPZ files with Keras' names, read without ever unpickling."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path

import numpy as np

from .dataset import DataError, Source, as_features, as_labels, parsing


def read_file(path: Path) -> Source:
    """Read ``x_train``, ``y_train`` and, where they are there, ``x_test``, ``y_test``.

    Parameters
    ----------
    path : Path

    Returns
    -------
    Source

    Raises
    ------
    DataError
        Missing arrays, arrays that do not fit, a damaged or encrypted archive.
    """
    with parsing(path, "npz archive"), zipfile.ZipFile(path) as archive:
        members = {
            entry.filename.removesuffix(".npy"): entry
            for entry in archive.infolist()
            if entry.filename.endswith(".npy")
        }
        wanted = ["x_train", "y_train"]
        if "x_test" in members or "y_test" in members:
            wanted += ["x_test", "y_test"]
        for name in wanted:
            if name not in members:
                there = ", ".join(sorted(members)) or "nothing"
                raise DataError(
                    f"{path}: no array {name}; {there} found, {', '.join(wanted)} wanted"
                )
        arrays = {name: _read_member(path, archive, members[name]) for name in wanted}

    parts, shapes = [], []
    for part in ("train", "test")[: len(wanted) // 2]:
        x, shape = as_features(arrays[f"x_{part}"], f"{path}: x_{part}")
        parts.append((x, as_labels(arrays[f"y_{part}"], len(x), f"{path}: y_{part}")))
        shapes.append(shape)
    if shapes[0] != shapes[-1]:
        raise DataError(
            f"{path}: x_train has shape {arrays['x_train'].shape}, "
            f"x_test {arrays['x_test'].shape}: they do not go together"
        )
    return Source(
        name=path.stem,
        kind="npz",
        source=str(path),
        train=parts[0],
        test=parts[1] if len(parts) == 2 else None,
        image_shape=shapes[0],
    )


def _read_member(path: Path, archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> np.ndarray:
    where = f"{path}: {entry.filename.removesuffix('.npy')}"
    if entry.flag_bits & 0x1:
        raise DataError(f"{where} is encrypted; an archive without a password is wanted")
    with archive.open(entry) as file:
        version = np.lib.format.read_magic(file)
        if version == (1, 0):
            shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
        elif version == (2, 0):
            shape, fortran, dtype = np.lib.format.read_array_header_2_0(file)
        else:
            raise DataError(f"{where} is in npy version {version}; 1.0 or 2.0 is wanted")
        if dtype.hasobject:
            raise DataError(
                f"{where} holds Python objects, which are never unpickled; save numbers"
            )
        promised = math.prod(shape) * dtype.itemsize
        held = entry.file_size - file.tell()
        # Before anything is allocated, and without believing the archive's directory either.
        content = file.read(promised) if promised == held else b""
        if promised != held or len(content) != promised:
            raise DataError(
                f"{where}: its header promises {promised} bytes (shape {shape}, {dtype}), "
                f"the archive holds {held}"
            )
    if promised == 0:
        raise DataError(f"{where} is empty: shape {shape}")
    return np.frombuffer(content, dtype=dtype).reshape(shape, order="F" if fortran else "C")

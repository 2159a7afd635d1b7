"""NPZ files with Keras' names, read without ever unpickling."""

from __future__ import annotations

import zipfile
from pathlib import Path

from ..array_files import npz_members, read_npz_members
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
        members = npz_members(archive)
        wanted = ["x_train", "y_train"]
        if "x_test" in members or "y_test" in members:
            wanted += ["x_test", "y_test"]
        for name in wanted:
            if name not in members:
                there = ", ".join(sorted(members)) or "nothing"
                raise DataError(
                    f"{path}: no array {name}; {there} found, {', '.join(wanted)} wanted"
                )
        arrays = read_npz_members(path, archive, {name: members[name] for name in wanted})

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

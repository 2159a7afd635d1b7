"""NPZ files with Keras' names, read without ever unpickling."""

from __future__ import annotations

from pathlib import Path

from ..array_files import npz_names, read_npz
from .dataset import DataError, Source, as_features, as_labels, check_names


def read_file(path: Path) -> Source:
    """Read ``x_train``, ``y_train`` and, where they are there, ``x_test``, ``y_test``."""
    names = sorted(npz_names(path))
    parts = ("train", "test") if {"x_test", "y_test"}.intersection(names) else ("train",)
    wanted = [f"{array}_{part}" for part in parts for array in "xy"]
    check_names(path, names, wanted)
    arrays = read_npz(path, wanted)
    samples, shapes = [], []
    for part in parts:
        x, shape = as_features(arrays[f"x_{part}"], f"{path}: x_{part}")
        samples.append((x, as_labels(arrays[f"y_{part}"], len(x), f"{path}: y_{part}")))
        shapes.append(shape)
    if shapes[0] != shapes[-1]:
        raise DataError(
            f"{path}: x_train has shape {arrays['x_train'].shape}, "
            f"x_test {arrays['x_test'].shape}: they do not go together"
        )
    return Source(path.stem, "npz", str(path), *samples, image_shape=shapes[0])

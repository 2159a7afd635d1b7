"""MATLAB 5 files as in Andrew Ng's course: ``X`` (n, features) and ``y``."""

from __future__ import annotations

from pathlib import Path

from ..array_files import read_mat
from .dataset import DataError, Source, as_features, as_labels, check_names, square


def read_file(path: Path) -> Source:
    """Read ``X`` and ``y``; square images are turned from column-major to row-major.

    Labels that run 1…10 are MATLAB's way to count digits: 10 becomes 0.
    """
    arrays = read_mat(path)
    check_names(path, list(arrays), ["X", "y"])
    full = {name: array for name, array in arrays.items() if array is not None and array.ndim == 2}
    for name in ("X", "y"):
        if name not in full:
            raise DataError(f"{path}: {name} is no plain matrix; a full, real one is wanted")

    x, _ = as_features(full["X"], f"{path}: X")
    y = as_labels(full["y"], len(x), f"{path}: y")
    if y.min() >= 1 and y.max() == 10:
        y %= 10
    if shape := square(x.shape[1]):
        x = x.reshape(-1, *shape).transpose(0, 2, 1).reshape(len(x), -1)
    return Source(path.stem, "mat", str(path), (x, y), image_shape=shape)

"""Images that are stored by columns, turned to rows."""

from __future__ import annotations

import numpy as np

from .dataset import DataError, Source


def upright(
    x: np.ndarray, shape: tuple[int, int] | None, source: Source, transpose: bool
) -> tuple[np.ndarray, tuple[int, int] | None, str]:
    """Turn values (n, features) of a source, and the shape in which they are stored, if need be.

    Images that are stored by columns are turned, or all others with `transpose`. Return also a line
    that says how they are taken, where there may be doubt.
    """
    name = source.source
    if shape is None:
        if transpose:
            raise DataError(
                f"{name}: {x.shape[1]} features, which are no image that could be turned; omit"
                " --transpose"
            )
        return x, None, ""
    said = ""
    if source.column_major and transpose:
        said = f"{name}: its images are stored by columns, and taken as they stand (--transpose)"
    elif source.column_major:
        said = (
            f"{name}: its images are stored by columns, as Ng's course and EMNIST store them:"
            " turned; --transpose takes them as they stand"
        )
    elif transpose:
        said = f"{name}: its images are turned, rows for columns (--transpose)"
    elif source.kind == "mat":
        said = f"{name}: its images are taken by rows; --transpose turns them"
    if source.column_major != transpose:
        turned = x.reshape(-1, *shape).transpose(0, 2, 1)
        x, shape = np.ascontiguousarray(turned).reshape(len(x), -1), shape[::-1]
    return x, shape, said

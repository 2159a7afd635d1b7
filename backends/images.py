"""Deformed images, in plain calls of the array API standard; see `trainer.augmentation`."""

from __future__ import annotations

from typing import Any

from .functions import Array


def smooth(xp: Any, fields: Array, down: Array, across: Array) -> Array:
    """Return D F Aᵀ of every field F, shape (…, height, width), with D by rows and A by columns."""
    return xp.matmul(down, xp.matmul(fields, across.T))


def deform(xp: Any, images: Array, maps: Array, fields: Array | None, background: float) -> Array:
    """Look up in each image where the pixels of the deformed one come from.

    A pixel at (y, x), counted from the image's centre, comes from
    ``M (y, x, 1) + field(y, x)``: it is the bilinear mean of the four around that place, or
    the background where that lies outside.

    Parameters
    ----------
    images : array, shape (n, height, width)
        Of any real dtype; integers are rounded.
    maps : array, shape (n, 2, 3)
        M of every image, rows before columns, in the dtype to compute in.
    fields : array, shape (n, 2, height, width), or None
        In pixels, likewise.
    background : float

    Returns
    -------
    array, shape (n, height, width)
        In the images' dtype.
    """
    real = maps.dtype
    n, height, width = images.shape
    middles = (height - 1) / 2, (width - 1) / 2
    y = xp.arange(height, dtype=real)[None, :, None] - middles[0]
    x = xp.arange(width, dtype=real)[None, None, :] - middles[1]
    rows, columns = (
        m[:, 0, None, None] * y + m[:, 1, None, None] * x + m[:, 2, None, None] + middle
        for m, middle in zip((maps[:, 0, :], maps[:, 1, :]), middles, strict=True)
    )
    if fields is not None:
        rows, columns = rows + fields[:, 0, :, :], columns + fields[:, 1, :, :]
    inside = (rows >= 0) & (rows <= height - 1) & (columns >= 0) & (columns <= width - 1)
    rows = xp.where(inside, rows, xp.zeros_like(rows))
    columns = xp.where(inside, columns, xp.zeros_like(columns))
    top, left = xp.astype(rows, xp.int64), xp.astype(columns, xp.int64)
    below = xp.where(rows < height - 1, top + 1, top)
    beside = xp.where(columns < width - 1, left + 1, left)
    starts = xp.arange(n)[:, None, None] * (height * width)
    pixels = xp.reshape(images, (-1,))

    def at(row: Array, column: Array) -> Array:
        where = xp.reshape(starts + row * width + column, (-1,))
        return xp.astype(xp.reshape(xp.take(pixels, where), images.shape), real)

    weight = columns - xp.astype(left, real)
    upper, lower = at(top, left), at(below, left)
    upper += (at(top, beside) - upper) * weight
    lower += (at(below, beside) - lower) * weight
    values = upper + (lower - upper) * (rows - xp.astype(top, real))
    values = xp.where(inside, values, xp.asarray(background, dtype=real))
    if xp.isdtype(images.dtype, "integral"):
        values = xp.round(values)
    return xp.astype(values, images.dtype)

"""Deformed images: where each pixel comes from, and the mean of the four around that place."""

from __future__ import annotations

import numpy as np

from .compiling import compiled, part


@part
def _drawn(image, background, columns):  # type: ignore[no-untyped-def]
    """Find the first and last row and column that are not all background; fills `columns`."""
    top, bottom, left, right = image.shape[0], -1, image.shape[1], -1
    for c in range(columns.size):
        columns[c] = 0
    for r in range(image.shape[0]):
        line = image[r]
        found = np.uint8(0)
        for c in range(columns.size):
            differs = np.uint8(line[c] != background)
            columns[c] |= differs
            found |= differs
        if found:
            top, bottom = min(top, r), r
    for c in range(columns.size):
        if columns[c]:
            left, right = min(left, c), c
    return top, bottom, left, right


@compiled
def deform(worker, workers, barrier, images, maps, fields, background, rounded, out):  # type: ignore[no-untyped-def]
    """`Backend.deform`; each worker takes images. Without fields these are of no images.

    Most of an image is background, and what lies a pixel beyond all else is not looked up.
    """
    n, height, width = images.shape
    real = maps.dtype.type
    y_middle, x_middle = real((height - 1) / 2), real((width - 1) / 2)
    last_row, last_column = real(height - 1), real(width - 1)
    rows, columns = np.empty(width, maps.dtype), np.empty(width, maps.dtype)
    in_column = np.empty(width, np.uint8)
    for i in range(worker * n // workers, (worker + 1) * n // workers):
        image, by_row, by_column = images[i], maps[i, 0], maps[i, 1]
        top, bottom, left, right = _drawn(image, background, in_column)
        lowest, highest = real(max(top - 1, 0)), min(real(bottom + 1), last_row)
        nearest, farthest = real(max(left - 1, 0)), min(real(right + 1), last_column)
        for r in range(height):
            y = real(r) - y_middle
            for c in range(rows.size):
                x = real(c) - x_middle
                rows[c] = by_row[0] * y + by_row[1] * x + by_row[2] + y_middle
                columns[c] = by_column[0] * y + by_column[1] * x + by_column[2] + x_middle
            if fields.shape[0]:
                down, across = fields[i, 0, r], fields[i, 1, r]
                for c in range(rows.size):
                    rows[c] += down[c]
                    columns[c] += across[c]
            line = out[i, r]
            for c in range(rows.size):
                row, column = rows[c], columns[c]
                if not (lowest <= row <= highest and nearest <= column <= farthest):
                    line[c] = background
                    continue
                # unsigned: Numba looks whether other indices are negative
                above, before = np.uint32(row), np.uint32(column)
                below = above + np.uint32(row < last_row)
                beside = before + np.uint32(column < last_column)
                weight = column - real(before)
                upper, lower = real(image[above, before]), real(image[below, before])
                upper += (real(image[above, beside]) - upper) * weight
                lower += (real(image[below, beside]) - lower) * weight
                value = upper + (lower - upper) * (row - real(above))
                line[c] = np.rint(value) if rounded else value

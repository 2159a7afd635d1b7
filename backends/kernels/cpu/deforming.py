"""Deformed images: their smooth random fields, and where each pixel comes from.

Arithmetic goes over a whole image, `_AT_ONCE` pixels at a time, in loops that LLVM can turn into
vector instructions, the four look-ups of a pixel among them. For these the image has a column and a
row more, of zeros: what lies beyond its edge counts for nothing, and need not be asked for.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .compiling import compiled, part
from .dense import ROWS, multiply
from .views import local

_AT_ONCE = 64  # pixels whose numbers stay in the first cache


def _smooth(registers: int) -> Any:
    """Make `Backend.smooth`, of matrices cut into tiles of so many registers."""
    tile, rows = (0,) * registers, (0,) * ROWS[registers]
    most = len(rows)

    @compiled
    def smooth(worker, workers, barrier, fields, down, across, columns, scratch, out):  # type: ignore[no-untyped-def]
        """Compute D F A of fields F; A is as wide as whole tiles, and each worker takes fields."""
        n, height, width = fields.shape
        wide, half, whole = across.shape[1], scratch[worker, 0], scratch[worker, 1]
        for k in range(worker * n // workers, (worker + 1) * n // workers):
            for j in range(0, wide, columns):
                for i in range(0, height, most):
                    count, at = min(most, height - i), k * height * width + i * width
                    multiply(
                        tile, rows, count, True, width, fields, at, width, 1,
                        across, j, wide, half, i * wide + j, wide,
                    )  # fmt: skip
                for i in range(0, height, most):
                    multiply(
                        tile, rows, min(most, height - i), True, height, down, i * height, height,
                        1, half, j, wide, whole, i * wide + j, wide,
                    )  # fmt: skip
            for i in range(height):
                line, smoothed = out[k, i], whole[i]
                for j in range(line.size):
                    line[j] = smoothed[j]

    return smooth


SMOOTH = {registers: _smooth(registers) for registers in ROWS}


@part
def _look_up(padded, wide, at, down, across, values):  # type: ignore[no-untyped-def]
    """Compute the mean of the four pixels from each of `at` on, by how far it is from them."""
    # in memory of its own, which LLVM knows to be apart from the pixels
    found = local(values, _AT_ONCE)
    for i in range(at.size):
        first = at[i]
        below = first + wide
        upper, lower = padded[first], padded[below]
        upper += (padded[first + np.uint32(1)] - upper) * across[i]
        lower += (padded[below + np.uint32(1)] - lower) * across[i]
        found[i] = upper + (lower - upper) * down[i]
    for i in range(at.size):
        values[i] = found[i]


@compiled
def deform(worker, workers, barrier, images, maps, fields, background, rounded, out):  # type: ignore[no-untyped-def]
    """`Backend.deform`; each worker takes images. Without fields these are of no images."""
    n, height, width = images.shape
    real, size, wide = maps.dtype.type, height * width, np.uint32(width + 1)
    zero, outside = real(0), real(background)
    last_row, last_column = real(height - 1), real(width - 1)
    y_middle, x_middle = real((height - 1) / 2), real((width - 1) / 2)
    padded = np.zeros((height + 1) * (width + 1), maps.dtype)
    y, x = np.empty(size, maps.dtype), np.empty(size, maps.dtype)
    for i in range(size):
        y[i], x[i] = real(i // width) - y_middle, real(i % width) - x_middle
    rows, columns = np.empty(_AT_ONCE, maps.dtype), np.empty(_AT_ONCE, maps.dtype)
    values, is_inside = np.empty(_AT_ONCE, maps.dtype), np.empty(_AT_ONCE, np.uint8)
    at = np.empty(_AT_ONCE, np.uint32)
    for k in range(worker * n // workers, (worker + 1) * n // workers):
        for r in range(height):
            line, copied = images[k, r], padded[r * (width + 1) :]
            for c in range(line.size):
                copied[c] = real(line[c])
        by_row, by_column = maps[k, 0], maps[k, 1]
        deformed = out[k].reshape(size)
        for low in range(0, size, _AT_ONCE):
            part_y, part_x = y[low : low + _AT_ONCE], x[low : low + _AT_ONCE]
            for i in range(part_y.size):
                rows[i] = by_row[0] * part_y[i] + by_row[1] * part_x[i] + by_row[2] + y_middle
                columns[i] = by_column[0] * part_y[i] + by_column[1] * part_x[i] + by_column[2]
                columns[i] += x_middle
            if fields.shape[0]:
                down = fields[k, 0].reshape(size)[low : low + _AT_ONCE]
                across = fields[k, 1].reshape(size)[low : low + _AT_ONCE]
                for i in range(down.size):
                    rows[i] += down[i]
                    columns[i] += across[i]
            for i in range(part_y.size):
                row, column = rows[i], columns[i]
                inside = (
                    (row >= zero) & (row <= last_row) & (column >= zero) & (column <= last_column)
                )
                row, column = row if inside else zero, column if inside else zero
                above, before = np.int32(row), np.int32(column)
                rows[i], columns[i] = row - real(above), column - real(before)
                at[i] = np.uint32(above) * wide + np.uint32(before)
                is_inside[i] = inside
            _look_up(padded, wide, at[: part_y.size], rows, columns, values)
            line = deformed[low : low + _AT_ONCE]
            if rounded:
                for i in range(line.size):
                    line[i] = np.rint(values[i] if is_inside[i] else outside)
            else:
                for i in range(line.size):
                    line[i] = values[i] if is_inside[i] else outside

"""Numbers as people read them."""

from __future__ import annotations

import math

import numpy as np


def three_digits(value: float) -> str:
    """Return a positive number with three digits: 0.0123, 1.23, 1,234."""
    return f"{value:,.{max(0, 2 - math.floor(math.log10(value)))}f}"


def duration(seconds: float) -> str:
    """Return a time as 42 s, 3:25 or 1:02:03."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def significant(*values: float, digits: int = 4) -> list[str]:
    """Return each number with so many significant digits."""
    return [f"{float(value):.{digits}g}" for value in values]


def spread(array: np.ndarray, digits: int = 4) -> list[str]:
    """Return the smallest number, the mean and the largest."""
    wide = array.astype(np.float64)
    return significant(wide.min(), wide.mean(), wide.max(), digits=digits)


def shape_text(shape: tuple[int, ...]) -> str:
    """Return an array's shape as 784×200."""
    return "×".join(map(str, shape))

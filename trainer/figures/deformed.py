"""What training on deformed images sees."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .style import GREY, literal_text, new_figure, readable, to_png, white_to_black

_GAP = 2  # pixels between images, and twice so many beside the originals
_TILE = 0.55  # inches


@literal_text
def deformed(
    examples: np.ndarray,
    image_shape: tuple[int, int],
    value_range: tuple[float, float],
    labels: Sequence[str],
) -> bytes:
    """Draw images, a row each: as they are, and then deformed.

    Parameters
    ----------
    examples : array, shape (len(labels), 1 + deformed, height * width)
        The first of each row is the original.
    image_shape : tuple of int
    value_range : tuple of float
        Drawn white and black.
    labels : sequence of str
        The class of each row.

    Returns
    -------
    bytes
        A PNG image.
    """
    height, width = image_shape
    rows, columns = examples.shape[:2]
    shape = (rows * (height + _GAP) - _GAP, columns * (width + _GAP))
    canvas = np.full(shape, np.nan)
    for row in range(rows):
        for column in range(columns):
            top = row * (height + _GAP)
            left = column * (width + _GAP) + (_GAP if column else 0)
            tile = canvas[top : top + height, left : left + width]
            tile[...] = examples[row, column].reshape(image_shape)
    names = [readable(label) for label in labels]
    margin = 0.8 + 0.11 * max(0, max(map(len, names)) - 10)
    figure = new_figure(_TILE * columns + margin, _TILE * rows * height / width + 0.6)
    axes = figure.add_subplot()
    axes.set_facecolor("#dddddd")
    axes.imshow(canvas, interpolation="nearest", **white_to_black(value_range))
    axes.xaxis.tick_top()
    rest = (width + 2 * _GAP + shape[1]) / 2
    axes.set_xticks([(width - 1) / 2, rest], ["original", "deformed"], color=GREY)
    middles = [row * (height + _GAP) + (height - 1) / 2 for row in range(rows)]
    axes.set_yticks(middles, names)
    axes.tick_params(length=0, labelsize=8)
    axes.spines[:].set_visible(False)
    return to_png(figure)

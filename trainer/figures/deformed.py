"""What training on deformed images sees."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from . import style
from .style import GREY, readable

_GAP = 2  # pixels between images, and twice so many beside the originals
_TILE = 0.55  # inches


@style.literal_text
def deformed(
    examples: np.ndarray,
    image_shape: tuple[int, int],
    value_range: tuple[float, float],
    labels: Sequence[str],
) -> Figure:
    """Draw images, a row each class: as they are, and then deformed.

    Of `examples`, shape (len(labels), 1 + deformed, height * width), the first of each row is the
    original. The ends of the value range are drawn white and black.
    """
    height, width = image_shape
    rows, columns = examples.shape[:2]
    canvas = style.tiled(examples.reshape(rows, columns, *image_shape), _GAP)
    canvas = np.insert(canvas, [width] * _GAP, np.nan, axis=1)[:-_GAP, :-_GAP]
    names = [readable(label) for label in labels]
    margin = 0.8 + 0.11 * max(0, max(map(len, names)) - 10)
    figure = style.new_figure(_TILE * columns + margin, _TILE * rows * height / width + 0.6)
    axes = figure.add_subplot()
    axes.set_facecolor("#dddddd")
    axes.imshow(canvas, interpolation="nearest", **style.white_to_black(value_range))
    axes.xaxis.tick_top()
    rest = (width + 2 * _GAP + canvas.shape[1]) / 2
    axes.set_xticks([(width - 1) / 2, rest], ["original", "deformed"], color=GREY)
    axes.set_yticks(np.arange(rows) * (height + _GAP) + (height - 1) / 2, names)
    axes.tick_params(length=0, labelsize=8)
    axes.spines[:].set_visible(False)
    return figure

"""What training on turned and deformed images sees."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from . import style
from .style import GREY, readable

_GAP = 2  # pixels between images, and twice so many between their kinds
_TILE = 0.55  # inches


@style.literal_text
def deformed(
    examples: np.ndarray,
    image_shape: tuple[int, int],
    value_range: tuple[float, float],
    labels: Sequence[str],
    *,
    angles: Sequence[float] = (),
) -> Figure:
    """Draw images, a row each class: as they are, their turned copies, and then deformed.

    Of `examples`, shape (len(labels), 1 + len(angles) + deformed, height * width), the first of
    each row is the original; the copies are turned by the angles, in degrees. The ends of the value
    range are drawn white and black.
    """
    height, width = image_shape
    rows, columns = examples.shape[:2]
    canvas = style.tiled(examples.reshape(rows, columns, *image_shape), _GAP)
    turned = 1 + len(angles)  # the number of the first that is deformed
    apart = sorted({k for k in (1, turned) if k < columns})
    pitch = width + _GAP
    canvas = np.insert(canvas, [k * pitch for k in apart for _ in range(_GAP)], np.nan, axis=1)
    canvas = canvas[:-_GAP, :-_GAP]
    places = np.arange(columns) * pitch + (width - 1) / 2
    places += _GAP * np.searchsorted(apart, np.arange(columns), side="right")
    heads = {float(places[0]): "original"}
    heads |= {float(places[k]): f"{angle:+g}°" for k, angle in enumerate(angles, 1)}
    if turned < columns:
        heads[float(places[turned:].mean())] = "deformed"
    names = [readable(label) for label in labels]
    margin = 0.8 + 0.11 * max(0, max(map(len, names)) - 10)
    figure = style.new_figure(_TILE * columns + margin, _TILE * rows * height / width + 0.6)
    axes = figure.add_subplot()
    axes.set_facecolor("#dddddd")
    axes.imshow(canvas, interpolation="nearest", **style.white_to_black(value_range))
    axes.xaxis.tick_top()
    axes.set_xticks(list(heads), [head.replace("-", "−") for head in heads.values()], color=GREY)
    axes.set_yticks(np.arange(rows) * (height + _GAP) + (height - 1) / 2, names)
    axes.tick_params(length=0, labelsize=8)
    axes.spines[:].set_visible(False)
    return figure

"""One's own pictures, what a network gets of them, and what it answers."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from . import style
from .network import bars
from .style import readable

_ROW = 1.9  # inches


@style.literal_text
def answers(
    names: Sequence[str],
    values: Sequence[np.ndarray],
    outputs: np.ndarray,
    *,
    image_shape: tuple[int, int] | None,
    classes: Sequence[str],
    value_range: tuple[float, float],
    pictures: Sequence[np.ndarray] | None = None,
) -> Figure:
    """Draw a row each sample: its picture if there is one, its values, and the outputs.

    The pictures are 8-bit grey; of values that are images the ends of the value range are drawn
    white and black, others, of shape None, are drawn as bars.
    """
    columns = 3 if pictures else 2
    figure = style.new_figure(2.1 * columns + 1.6, _ROW * len(names) + 0.1)
    widths = [1.0] * (columns - 1) + [1.8]
    rows = figure.subplots(len(names), columns, squeeze=False, width_ratios=widths)
    for number, (axes, name) in enumerate(zip(rows, names, strict=True)):
        title = textwrap.fill(readable(name, 60), 30)
        first = axes[0]
        if pictures:
            look = {"cmap": "gray", "vmin": 0, "vmax": 255, "interpolation": "antialiased"}
            style.draw_image(first, pictures[number], title, 8, **look)
            title = "as the network gets it"
        if image_shape is None:
            bars(axes[-2], values[number], "value", "feature")
            axes[-2].set_title(title, fontsize=8, pad=3)
        else:
            greys = style.white_to_black(value_range)
            style.draw_image(axes[-2], values[number].reshape(image_shape), title, 8, **greys)
        bars(axes[-1], outputs[number], "output", "class", classes)
        best = int(np.argmax(outputs[number]))
        answer = f"{readable(classes[best])}: {outputs[number][best]:.3f}"
        axes[-1].set_title(answer, fontsize=9, pad=3, fontweight="bold")
    return figure

"""Inside a network: numbers as bars, its answers run backwards, its first layer."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.container import BarContainer
from matplotlib.figure import Figure

from . import style
from .style import COLOURS, GREY, readable

if TYPE_CHECKING:
    from ..explain import Backquery, IncomingWeights

_WIDEST, _WIDEST_UNIT = 1300, 170  # screen pixels of the first layer's grid, and of a unit in it
_FEW_COLUMNS = 6  # units a row that can all be named beside it
LONGEST_TICK = 20  # letters of a label below a bar
_FEW = 40  # units whose bars are drawn apart
_VALUED = 12  # bars that have their numbers beside them
_DIGIT, _LINE = 0.048, 0.08  # inches of such a number's digits and height

# what the figures of this module and of `trace` have in common
small_letters = rc_context({"axes.labelsize": 8, "legend.fontsize": 7})


def small_ticks(figure: Figure) -> None:
    """Make the letters of the ticks small, also of those that are made when it is rendered."""
    for axes in figure.axes:
        axes.tick_params(labelsize=7)


def bars(
    axes: Axes,
    values: np.ndarray,
    name: str,
    xlabel: str,
    labels: Sequence[str] | None = None,
    marks: np.ndarray | None = None,
) -> None:
    """Draw a bar a number, the number beside it if few; if very many, their outline."""
    n = len(values)
    places = np.arange(n)
    if n <= _FEW:
        drawn = axes.bar(places, values, color=COLOURS[0], width=0.8)
        if n <= _VALUED:
            _write_values(axes, drawn, values)
    else:
        axes.stairs(values, np.arange(n + 1) - 0.5, fill=True, color=COLOURS[0], linewidth=0)
    if marks is not None and n <= _FEW:
        line: dict[str, Any] = {"color": "black", "linewidth": 1.2}
        axes.hlines(marks, places - 0.45, places + 0.45, **line)
        axes.plot([], [], label="target", **line)
        _legend(axes)
    axes.axhline(0, color=GREY, linewidth=0.6)
    axes.set(xlim=(-0.6, n - 0.4), xlabel=xlabel if labels is None else "class", ylabel=name)
    if labels is not None and n <= 20:
        names = [readable(label, LONGEST_TICK) for label in labels]
        axes.set_xticks(places, names, rotation=90 if max(map(len, names)) > 2 else 0)
    else:
        axes.xaxis.set_major_locator(style.whole_numbers())
    style.tidy(axes)


def _write_values(axes: Axes, drawn: BarContainer, values: np.ndarray) -> None:
    """Write two digits of each bar's number beyond its end, upwards where there is less room."""
    words = [f"{value:.2g}".replace("-", "−") for value in values.tolist()]
    longest = _DIGIT * max(map(len, words))
    place, (width, height) = axes.get_position(), style.figure_size(axes)
    upright = longest > place.width * width / len(words)
    axes.bar_label(drawn, words, rotation=90 * upright, fontsize=5.5, padding=2, color=GREY)
    needed = ((longest if upright else _LINE) + 0.05) / (place.height * height)
    # of the numbers between them, of which the two margins leave less room
    axes.margins(y=needed / max(0.3, 1 - 2 * needed))


def _legend(axes: Axes) -> None:
    """Add a legend above the axes, where nothing is drawn."""
    where: dict[str, Any] = {"loc": "lower right", "bbox_to_anchor": (1, 0.98)}
    axes.legend(frameon=False, ncols=2, borderpad=0, borderaxespad=0, **where)


# --- backwards ------------------------------------------------------------------------------


@style.literal_text
@small_letters
def backquery(
    result: Backquery, *, image_shape: tuple[int, int] | None, classes: Sequence[str]
) -> Figure:
    """Draw what labels look like to a network, in the book's greys: dark is a high value.

    Every picture's own smallest value is white and its largest black; a pixel that never reached
    the network is omitted. Features that are not an image, of shape None, are drawn as bars.
    """
    n = len(result.labels)
    columns = min(5 if image_shape else 2, n)
    width, height = (1.5, 1.72) if image_shape else (4.5, 2.0)
    figure = style.new_figure(width * columns, height * -(-n // columns))
    grid = style.panels(figure, n, columns)
    for axes, code, values in zip(grid, result.labels, result.values, strict=True):
        label = readable(classes[code])
        label = textwrap.fill(label, 24) or label
        if image_shape is None:
            bars(axes, np.nan_to_num(values), "value", "feature")
            axes.set_title(label, fontsize=9, pad=3)
        else:
            style.draw_image(axes, values.reshape(image_shape), label, 11)
    small_ticks(figure)
    return figure


# --- the first layer ------------------------------------------------------------------------


@style.literal_text
def incoming_weights(result: IncomingWeights, *, image_shape: tuple[int, int]) -> Figure:
    """Draw what units look at, in a grid: black is most negative, grey zero, white most positive.

    As ``displayData`` of Ng, *Machine Learning* (2011), programming exercise 4, draws it. The
    numbers at the left are those of a row's units; of the first alone where they are many, and
    where they go on one by one, to which the number above a column is added.
    """
    height, width = image_shape
    n = len(result.units)
    columns = min(n, max(1, round((n * (height + 1) / (width + 1)) ** 0.5)))
    rows = -(-n // columns)
    tiles = np.full((rows * columns, height, width), np.nan)
    tiles[:n] = result.scaled.reshape(n, height, width)
    canvas = style.tiled(tiles.reshape(rows, columns, height, width), 1)
    canvas = np.pad(canvas, [(1, 0), (1, 0)], constant_values=np.nan)
    in_order = bool((np.diff(result.units) == 1).all())
    names = [
        str(row[0]) if in_order or columns > _FEW_COLUMNS else ", ".join(map(str, row))
        for row in np.split(result.units, range(columns, n, columns))
    ]
    # whole screen pixels a weight, so that all are of one size
    zoom = max(1, min(_WIDEST // canvas.shape[1], _WIDEST_UNIT // width))
    size = zoom * np.array(canvas.shape[::-1])
    corner = np.array([44 + 11 * max(map(len, names)), 56])
    above = 34 if in_order and columns > 1 else 10
    whole = np.maximum(size + corner + [10, above], [740, 0])  # as wide as the lines below
    figure = style.new_figure(*(whole / 150))
    figure.set_layout_engine("none")
    axes = figure.add_axes((*(corner / whole), *(size / whole)))
    greys = colormaps["gray"].with_extremes(bad="white")
    axes.imshow(canvas, cmap=greys, vmin=-1, vmax=1, interpolation="nearest", aspect="auto")
    axes.set_xticks([])
    about = "grey is 0, black and white are −1 and 1 times the unit's own largest weight"
    if in_order and columns > 1:
        axes.xaxis.tick_top()
        axes.set_xticks(
            np.arange(columns) * (width + 1) + width / 2, [f"+{i}" for i in range(columns)]
        )
        about += "\na unit's number is that of its row and column added"
    elif columns > _FEW_COLUMNS:
        about += "\nthe numbers are those of each row's first unit"
    axes.set_yticks(np.arange(rows) * (height + 1) + height / 2, names)
    axes.tick_params(length=0, labelsize=8)
    axes.spines[:].set_visible(False)
    axes.set_ylabel("unit", fontsize=8)
    x, y = [10, 8] / whole
    figure.text(x, y, about, fontsize=8, color=GREY)
    return figure

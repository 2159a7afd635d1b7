"""Where a network is wrong: the confusion matrix, and the mistakes of the highest confidence."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from . import style
from .style import GREY, readable

if TYPE_CHECKING:
    from ..metrics import Evaluation, Mistake

_MOST_CLASSES = 40  # whose counts can still be read
_COLUMNS, _OF_MANY = 6, 8  # of the gallery, the latter of more than four rows
_TILE = 1.3  # inches, of the gallery
_LETTERS = 16  # that fit above an image in it


@style.literal_text
def confusion(result: Evaluation) -> Figure:
    """Draw the confusion matrix, the counts in its cells.

    The shade of an error is its fraction of the samples of that class; right answers, which would
    drown every error, have none.
    """
    labels = [readable(score.label) for score in result.classes]
    k = len(labels)
    counts = result.confusion
    support = np.maximum(counts.sum(axis=1, keepdims=True), 1)
    errors = np.where(np.eye(k, dtype=bool), np.nan, 100 * counts / support)
    side = min(min(max(0.35, 5.6 / k), 1.2) * k, 13.0)  # inches
    most = float(np.nanmax(errors)) if k > 1 else 0.0
    size = min(11.0, 0.8 * side / k * 72 / (0.65 * max(len(str(counts.max())), 2)))
    ticks: dict[str, Any] = {"fontsize": min(11.0, 1.2 * size)}
    longest = max(map(len, labels))
    margin = 1.1 * ticks["fontsize"] / 72 * max(0, longest - 10)  # inches, for long labels
    figure = style.new_figure(side + 1.9 + margin, side + 0.7 + margin)
    axes = figure.add_subplot()
    greys = colormaps["Greys"].with_extremes(bad="#e6f1f8")  # of right answers
    image = axes.imshow(errors, cmap=greys, vmin=0, vmax=1.15 * most or 1.0)
    colours = np.where(errors > 0.6 * most, "white", np.where(counts, "black", "#bbbbbb"))
    np.fill_diagonal(colours, "#004a75")
    centred: dict[str, Any] = {"ha": "center", "va": "center_baseline", "fontsize": size}
    for (row, column), count in np.ndenumerate(counts) if k <= _MOST_CLASSES else ():
        weight = "bold" if row == column else "normal"
        look = centred | {"color": colours[row, column], "fontweight": weight}
        text = axes.text(column, row, str(count), **look)
        text.set_in_layout(False)  # hundreds of texts within the axes, all to be measured
    axes.set_xticks(range(k), labels, rotation=90 if longest > 3 else 0, **ticks)
    axes.set_yticks(range(k), labels, **ticks)
    axes.set(xlabel="answer", ylabel="truth")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(image, shrink=0.6, pad=0.02, label="errors, % of the true class")
    bar.outline.set_visible(False)
    return figure


@style.literal_text
def mistakes(
    worst: Sequence[Mistake],
    images: np.ndarray,
    image_shape: tuple[int, int],
    value_range: tuple[float, float],
) -> Figure:
    """Draw mistakes, each with the sample's number, the truth, the answer and the confidence.

    There is at least one; `images` has shape (len(worst), height * width), and the ends of the
    value range are drawn white and black.
    """
    columns = min(_COLUMNS if len(worst) <= 4 * _COLUMNS else _OF_MANY, len(worst))
    rows = -(-len(worst) // columns)
    longest = max(len(readable(m.truth)) + len(readable(m.answer)) for m in worst)
    row = _TILE * (image_shape[0] / image_shape[1] if image_shape[0] < image_shape[1] else 1)
    row += 0.55 + 0.17 * -(-longest // _LETTERS)  # inches, for what is written above and below
    figure = style.new_figure(max(_TILE * columns, 2.2), row * rows)
    greys = style.white_to_black(value_range)
    grid = style.panels(figure, len(worst), columns)
    for axes, mistake, values in zip(grid, worst, images, strict=True):
        words = f"{readable(mistake.truth)}, taken for {readable(mistake.answer)}"
        words = textwrap.fill(words, _LETTERS)
        style.draw_image(axes, values.reshape(image_shape), words, 10, **greys)
        about = f"{mistake.confidence:.3f} sure,\nsample {mistake.index}"
        axes.set_xlabel(about, fontsize=9, color=GREY)
    return figure

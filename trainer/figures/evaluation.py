"""Where a network is wrong: the confusion matrix, and the mistakes of the highest confidence."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.patches import Rectangle

from .style import (
    GREY,
    frame_image,
    literal_text,
    new_figure,
    panels,
    readable,
    to_png,
    white_to_black,
)

if TYPE_CHECKING:
    from ..metrics import Evaluation, Mistake

_MOST_CLASSES = 40  # whose counts can still be read
_COLUMNS, _OF_MANY = 6, 10  # of the gallery, the latter of more than four rows


@literal_text
def confusion(result: Evaluation) -> bytes:
    """Draw the confusion matrix, the counts in its cells.

    The shade of an error is its fraction of the samples of that class; right answers, which would
    drown every error, have none.

    Parameters
    ----------
    result : Evaluation

    Returns
    -------
    bytes
        A PNG image.
    """
    labels = [readable(score.label) for score in result.classes]
    k = len(labels)
    counts = result.confusion
    support = np.maximum(counts.sum(axis=1, keepdims=True), 1)
    errors = np.where(np.eye(k, dtype=bool), np.nan, 100 * counts / support)
    cell = min(max(0.35, 5.6 / k), 1.2)  # inches
    most = float(np.nanmax(errors)) if k > 1 else 0.0
    digits = len(str(counts.max()))
    size = min(11.0, 0.8 * min(cell, 13.0 / k) * 72 / (0.65 * max(digits, 2)))
    ticks: dict[str, Any] = {"fontsize": min(11.0, 1.2 * size)}
    longest = max(map(len, labels))
    margin = 1.1 * ticks["fontsize"] / 72 * max(0, longest - 10)  # inches, for long labels
    figure = new_figure(min(cell * k, 13.0) + 1.9 + margin, min(cell * k, 13.0) + 0.7 + margin)
    axes = figure.add_subplot()
    image = axes.imshow(errors, cmap="Greys", vmin=0, vmax=1.15 * most or 1.0)
    for row in range(k):
        axes.add_patch(
            Rectangle((row - 0.5, row - 0.5), 1, 1, facecolor="#e6f1f8", edgecolor="none")
        )
        for column in range(k) if k <= _MOST_CLASSES else ():
            count = int(counts[row, column])
            if row == column:
                style: dict[str, Any] = {"color": "#004a75", "fontweight": "bold"}
            elif not count:
                style = {"color": "#bbbbbb"}
            else:
                style = {"color": "white" if errors[row, column] > 0.6 * most else "black"}
            text = axes.text(
                column, row, str(count), ha="center", va="center", fontsize=size, **style
            )
            text.set_in_layout(False)  # hundreds of texts within the axes, all to be measured
    axes.set_xticks(range(k), labels, rotation=90 if longest > 3 else 0, **ticks)
    axes.set_yticks(range(k), labels, **ticks)
    axes.set(xlabel="answer", ylabel="truth")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=axes, shrink=0.6, pad=0.02)
    bar.set_label("errors, % of the true class")
    bar.outline.set_visible(False)
    return to_png(figure)


@literal_text
def mistakes(
    worst: Sequence[Mistake],
    images: np.ndarray,
    image_shape: tuple[int, int],
    value_range: tuple[float, float],
) -> bytes:
    """Draw mistakes, each with the sample's number, the truth, the answer and the confidence.

    Parameters
    ----------
    worst : sequence of Mistake
        At least one.
    images : array, shape (len(worst), height * width)
    image_shape : tuple of int
    value_range : tuple of float
        Drawn white and black.

    Returns
    -------
    bytes
        A PNG image.
    """
    columns = min(_COLUMNS if len(worst) <= 4 * _COLUMNS else _OF_MANY, len(worst))
    figure = new_figure(max(1.55 * columns, 2.2), 1.95 * -(-len(worst) // columns))
    grid = panels(figure, len(worst), columns)
    for axes, mistake, values in zip(grid, worst, images, strict=False):
        image = values.reshape(image_shape)
        axes.imshow(image, interpolation="nearest", **white_to_black(value_range))
        frame_image(axes)
        words = f"{readable(mistake.truth)}, taken for {readable(mistake.answer)}"
        axes.set_title("\n".join(textwrap.wrap(words, 22)), fontsize=9, pad=3)
        axes.set_xlabel(
            f"{mistake.confidence:.3f} sure, sample {mistake.index}", fontsize=7.5, color=GREY
        )
    return to_png(figure)

"""The training loss against the learning rate, drawn with characters."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console

from .terminal import styled

if TYPE_CHECKING:
    from ..rate_search import RateSearch

_WIDTH, _HEIGHT = 72, 12
_DECADES_APART = 9  # columns between two labels, at least


def rate_curve(out: Console, result: RateSearch) -> None:
    """Draw the groups' losses as dots, the smoothed loss as a line, and mark the suggestion."""
    if len(result.rates) < 2:
        return
    places = np.log10(result.rates)
    low, top = float(result.losses.min()), float(result.smoothed.max())
    names = [f"{value:.3g}" for value in (top, (low + top) / 2, low)]
    margin = max(map(len, names)) + 1
    width = max(20, min(_WIDTH, out.width - margin - 2))
    span = places[-1] - places[0]
    canvas = np.full((_HEIGHT, width), " ")

    def column(place: float) -> int:
        return min(width - 1, max(0, round((place - places[0]) / span * (width - 1))))

    def row(loss: float) -> int:
        fraction = (top - loss) / (top - low) if top > low else 1.0
        return min(_HEIGHT - 1, max(0, round(fraction * (_HEIGHT - 1))))

    for place, loss in zip(places, result.losses, strict=True):
        canvas[row(loss), column(place)] = "·"
    if result.suggestion is not None:
        canvas[:, column(math.log10(result.suggestion))] = "│"
    at = np.linspace(places[0], places[-1], width)
    for i, loss in enumerate(np.interp(at, places, result.smoothed)):
        canvas[row(loss), i] = "●"
    labels = {0: names[0], _HEIGHT // 2: names[1], _HEIGHT - 1: names[2]}
    out.print(styled("training loss against learning rate", "cyan"))
    for number, cells in enumerate(canvas):
        text = styled(f"{labels.get(number, ''):>{margin}} │")
        for cell in cells:
            style = {"·": "dim", "│": "bold green", "●": "cyan"}.get(cell, "")
            text.append(cell, style)
        text.rstrip()
        out.print(text)
    # as many decades as have room
    decades = range(math.ceil(places[0]), math.floor(places[-1]) + 1)
    step = max(1, math.ceil(_DECADES_APART * span / width))
    shown = [10.0**decade for decade in decades if decade % step == 0]
    shown = shown or [float(f"{rate:.2g}") for rate in result.rates[[0, -1]]]
    ticks = {column(math.log10(rate)): f"{rate:g}" for rate in shown}
    axis = "".join("┬" if place in ticks else "─" for place in range(width))
    out.print(styled(f"{'':>{margin}} └{axis}"))
    out.print(styled(" " * (margin + 2) + _placed(ticks, width)))
    if result.suggestion is not None:
        mark = {column(math.log10(result.suggestion)): f"▲ {result.suggestion:g}"}
        out.print(styled(" " * (margin + 2) + _placed(mark, width), "bold green"))


def _placed(words: dict[int, str], width: int) -> str:
    """Return a line with words that begin at columns, or end at its end."""
    line = ""
    for column, word in words.items():
        line = line.ljust(min(column, width - len(word))) + word
    return line

"""How loss and accuracy went, epoch by epoch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, MaxNLocator

from . import style
from .style import COLOURS, GREY, MARKERS, readable

_SAMPLES: dict[str, tuple[str, Any]] = {
    "test_accuracy": ("test", "-"),
    "validation_accuracy": ("held-out", "--"),
    "train_accuracy": ("training", ":"),
}
_MOST_MARKERS = 15  # on a line
# per cent of right answers, from few ticks to many
_TICKS = (
    (0, 50, 80, 90, 95, 97, 98, 99, 99.5, 99.8, 100),
    (0, 20, 40, 60, 70, 80, 85, 90, 93, 95, 97, 98, 98.5, 99, 99.3, 99.5, 99.7, 99.8, 99.9, 100),
    tuple(n / 2 for n in range(201)),
    tuple(n / 10 for n in range(1001)),
)
_ENOUGH, _ROOM = 4, 0.055  # ticks on the scale, and the part of it between two
_RIGHT = 100.1  # where the scale of the right answers would end
_SCALE = "logarithmic in the errors"


@style.literal_text
def curves(
    runs: Sequence[tuple[str, Sequence[dict[str, Any]]]], *, caption: Sequence[str] = ()
) -> Figure:
    """Draw loss and accuracy by epoch, the runs over each other.

    A run has a label, which is not shown of a single one, and metrics as in ``metrics.jsonl``:
    epoch, train_loss, and the accuracies of `_SAMPLES` where they were measured. The caption, a
    line each, says what was trained on what.
    """
    names = [readable(label, 80) for label, _ in runs]
    columns = max(1, min(3, 110 // (8 + max(map(len, names)))))
    rows = -(-len(runs) // columns) if len(runs) > 1 else 0
    figure = style.new_figure(10, 4 + 0.2 * rows)
    left, right = figure.subplots(1, 2, gridspec_kw={"wspace": 0.08})
    kinds = [kind for kind in _SAMPLES if any(_xy(metrics, kind)[0] for _, metrics in runs)]
    keys = []
    for number, (_, metrics) in enumerate(runs):
        look: dict[str, Any] = {
            "color": COLOURS[number % len(COLOURS)],
            "marker": MARKERS[number % len(MARKERS)],
            "markersize": 5,
            "linewidth": 1.6,
            "markevery": -(-len(metrics) // _MOST_MARKERS),
        }
        keys.append(Line2D([], [], **look))
        left.plot(*_xy(metrics, "train_loss"), **look)
        for kind in kinds:
            epochs, fractions = _xy(metrics, kind)
            right.plot(epochs, 100 * np.array(fractions), linestyle=_SAMPLES[kind][1], **look)
    _spread_by_errors(right)
    left.set_ylabel("mean training loss")
    right.set_ylabel(f"right answers, %\n({_SCALE})")
    for axes in (left, right):
        style.tidy(axes)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if not kinds:
        right.set_ylabel("right answers, %")
        right.text(0.5, 0.5, "not measured", transform=right.transAxes, ha="center", color=GREY)
    elif len(kinds) == 1:
        right.set_ylabel(f"right answers to {_SAMPLES[kinds[0]][0]} samples, %\n({_SCALE})")
    else:
        lines = [Line2D([], [], color="black", linestyle=_SAMPLES[kind][1]) for kind in kinds]
        style.legend(right, lines, [f"{_SAMPLES[kind][0]} samples" for kind in kinds])
    if len(runs) > 1:
        style.legend(figure, keys, names, loc="outside upper center", ncols=columns)
    if caption:
        style.footnote(figure, caption, 140)
    return figure


def _spread_by_errors(axes: Axes) -> None:
    """Scale per cent of right answers by the errors' logarithm: 99 from 98 as 98 from 96."""
    axes.set_yscale(
        "function",
        functions=(
            lambda percent: -np.log(_RIGHT - np.minimum(percent, 100.0)),
            lambda place: _RIGHT - np.exp(-place),
        ),
    )
    low, high = axes.get_ylim()
    low, high = max(low, 0.0), min(high, 100.0)
    axes.set_ylim(low, high)
    for ticks in _TICKS:
        shown = _apart([tick for tick in ticks if low <= tick <= high], low, high)
        if len(shown) >= _ENOUGH:
            axes.yaxis.set_major_locator(FixedLocator(shown))
            break
    axes.yaxis.set_major_formatter("{x:g}")


def _apart(ticks: Sequence[float], low: float, high: float) -> list[float]:
    """Return those ticks, from the highest down, that leave room for each other's letters."""
    shown: list[float] = []
    whole = math.log((_RIGHT - low) / (_RIGHT - high))
    for tick in reversed(ticks):
        if not shown or math.log((_RIGHT - tick) / (_RIGHT - shown[-1])) > _ROOM * whole:
            shown.append(tick)
    return shown


def _xy(metrics: Sequence[dict[str, Any]], name: str) -> tuple[list[int], list[float]]:
    lines = [line for line in metrics if line.get(name) is not None]
    return [line["epoch"] for line in lines], [line[name] for line in lines]

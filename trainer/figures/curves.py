"""How loss and accuracy went, epoch by epoch."""

from __future__ import annotations

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
_TICKS = (0, 20, 40, 60, 80, 90, 95, 98, 99, 99.5, 99.8, 100)  # per cent of right answers
_RIGHT = 100.1  # where the scale of the right answers would end


@style.literal_text
def curves(runs: Sequence[tuple[str, Sequence[dict[str, Any]]]]) -> Figure:
    """Draw loss and accuracy by epoch, the runs over each other.

    A run has a label, which is not shown of a single one, and metrics as in ``metrics.jsonl``:
    epoch, train_loss, and the accuracies of `_SAMPLES` where they were measured.
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
    right.set_ylabel("right answers, %")
    for axes in (left, right):
        style.tidy(axes)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if not kinds:
        right.text(0.5, 0.5, "not measured", transform=right.transAxes, ha="center", color=GREY)
    elif len(kinds) == 1:
        right.set_ylabel(f"right answers to {_SAMPLES[kinds[0]][0]} samples, %")
    else:
        lines = [Line2D([], [], color="black", linestyle=_SAMPLES[kind][1]) for kind in kinds]
        style.legend(right, lines, [f"{_SAMPLES[kind][0]} samples" for kind in kinds])
    if len(runs) > 1:
        style.legend(figure, keys, names, loc="outside lower center", ncols=columns)
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
    axes.set_ylim(max(low, 0.0), min(high, 100.0))
    shown = [tick for tick in _TICKS if low <= tick <= high]
    if len(shown) >= 2:
        axes.yaxis.set_major_locator(FixedLocator(shown))


def _xy(metrics: Sequence[dict[str, Any]], name: str) -> tuple[list[int], list[float]]:
    lines = [line for line in metrics if line.get(name) is not None]
    return [line["epoch"] for line in lines], [line[name] for line in lines]

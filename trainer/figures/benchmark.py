"""How fast each device trains."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from itertools import product
from typing import TYPE_CHECKING

from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from . import style
from .style import COLOURS, MARKERS, readable

if TYPE_CHECKING:
    from ..benchmarking import Measurement


@style.literal_text
def benchmark(measurements: Sequence[Measurement], *, title: str, caption: str) -> Figure:
    """Draw samples a second against the batch size, a line for each device and hidden size.

    There is one measurement a case. The title is the conclusion, wrapped to the width; the caption
    says what they were measured on, a line each.
    """
    devices = list(dict.fromkeys(m.device for m in measurements))
    hidden = sorted({m.hidden for m in measurements})
    height = max(6.0, 3 + 0.2 * len(devices) * len(hidden))  # so that the legend fits
    figure = style.new_figure(9, height)
    axes = figure.add_subplot()
    lines, names = [], []
    for (i, device), (j, units) in product(enumerate(devices), enumerate(hidden)):
        case = [m for m in measurements if (m.device, m.hidden) == (device, units)]
        rows = sorted((m.batch_size, m.slowest, m.samples_per_second, m.fastest) for m in case)
        sizes, slowest, median, fastest = zip(*rows, strict=True) if rows else [()] * 4
        # the more work, the darker
        colour = _lighter(COLOURS[i % len(COLOURS)], 0.5 * (1 - (j + 1) / len(hidden)))
        axes.fill_between(sizes, slowest, fastest, color=colour, alpha=0.2, linewidth=0)
        marker = MARKERS[j % len(MARKERS)]
        lines += axes.plot(sizes, median, color=colour, lw=1.8, ms=5, marker=marker)
        names.append(f"{readable(device)}, {units} hidden")
    axes.set(xscale="log", yscale="log", xlabel="batch size", ylabel="training samples a second")
    axes.set_xticks(sorted({m.batch_size for m in measurements}))
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter("{x:.0f}")
    axes.yaxis.set_major_formatter("{x:,.0f}")
    style.tidy(axes)
    style.legend(axes, lines, names, **style.BESIDE)
    figure.suptitle(textwrap.fill(readable(title, 600), 100), x=0.01, ha="left", fontsize=11)
    style.footnote(figure, caption.split("\n"), 130)
    return figure


def _lighter(colour: str, white: float) -> tuple[float, ...]:
    return tuple(part + (1 - part) * white for part in to_rgb(colour))

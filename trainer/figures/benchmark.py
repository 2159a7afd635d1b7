"""How fast each device trains."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from matplotlib.colors import to_rgb
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from .style import (
    COLOURS,
    MARKERS,
    footnote,
    legend,
    literal_text,
    new_figure,
    readable,
    tidy,
    to_png,
)

if TYPE_CHECKING:
    from ..benchmarking import Measurement


@literal_text
def benchmark(measurements: Sequence[Measurement], *, title: str, caption: str) -> bytes:
    """Draw samples a second against the batch size, a line for each device and hidden size.

    Parameters
    ----------
    measurements : sequence of Measurement
        One a case.
    title : str
        The conclusion, wrapped to the width.
    caption : str
        What they were measured on, a line each.

    Returns
    -------
    bytes
        A PNG image.
    """
    devices = list(dict.fromkeys(m.device for m in measurements))
    hidden = sorted({m.hidden for m in measurements})
    height = max(6.0, 3 + 0.2 * len(devices) * len(hidden))  # so that the legend fits
    figure = new_figure(9, height)
    axes = figure.add_subplot()
    lines, names = [], []
    for i, device in enumerate(devices):
        for j, units in enumerate(hidden):
            rows = sorted(
                (m for m in measurements if (m.device, m.hidden) == (device, units)),
                key=lambda m: m.batch_size,
            )
            x = [m.batch_size for m in rows]
            # the more work, the darker
            colour = _lighter(COLOURS[i % len(COLOURS)], 0.5 * (1 - (j + 1) / len(hidden)))
            axes.fill_between(
                x,
                [m.slowest for m in rows],
                [m.fastest for m in rows],
                color=colour,
                alpha=0.2,
                linewidth=0,
            )
            lines += axes.plot(
                x,
                [m.samples_per_second for m in rows],
                color=colour,
                linewidth=1.8,
                markersize=5,
                marker=MARKERS[j % len(MARKERS)],
            )
            names.append(f"{readable(device)}, {units} hidden")
    axes.set(xscale="log", yscale="log", xlabel="batch size", ylabel="training samples a second")
    axes.set_xticks(sorted({m.batch_size for m in measurements}))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f}"))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    tidy(axes)
    legend(axes, lines, names, loc="upper left", bbox_to_anchor=(1.01, 1))
    figure.suptitle(textwrap.fill(readable(title, 600), 100), x=0.01, ha="left", fontsize=11)
    footnote(figure, caption.split("\n"), 150)
    return to_png(figure)


def _lighter(colour: str, white: float) -> tuple[float, ...]:
    return tuple(part + (1 - part) * white for part in to_rgb(colour))

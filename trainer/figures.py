"""Everything matplotlib. Handed results, it never trains; imported only where one draws."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

if TYPE_CHECKING:
    from .benchmarking import Measurement

# Okabe and Ito (2008): told apart by all, whatever colours they see
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
_MARKERS = "os^Dv<>P"
_GREY = "#555555"


def benchmark(measurements: Sequence[Measurement], *, title: str, caption: str) -> bytes:
    """Draw samples a second against the batch size, a line for each device and hidden size.

    Parameters
    ----------
    measurements : sequence of Measurement
        One a case.
    title : str
        What they say, wrapped to the width.
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
    figure = Figure(figsize=(9, height), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    for i, device in enumerate(devices):
        for j, units in enumerate(hidden):
            rows = sorted(
                (m for m in measurements if (m.device, m.hidden) == (device, units)),
                key=lambda m: m.batch_size,
            )
            x = [m.batch_size for m in rows]
            # the more work, the darker
            colour = _lighter(_COLOURS[i % len(_COLOURS)], 0.5 * (1 - (j + 1) / len(hidden)))
            axes.fill_between(
                x,
                [m.slowest for m in rows],
                [m.fastest for m in rows],
                color=colour,
                alpha=0.2,
                linewidth=0,
            )
            axes.plot(
                x,
                [m.samples_per_second for m in rows],
                color=colour,
                linewidth=1.8,
                markersize=5,
                marker=_MARKERS[j % len(_MARKERS)],
                label=f"{device}, {units} hidden",
            )
    axes.set(xscale="log", yscale="log", xlabel="batch size", ylabel="training samples a second")
    axes.set_xticks(sorted({m.batch_size for m in measurements}))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f}"))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False, fontsize=9)
    figure.suptitle(textwrap.fill(title, 100), x=0.01, ha="left", fontsize=11)
    lines = [part for line in caption.splitlines() for part in textwrap.wrap(line, 150)]
    figure.supxlabel("\n".join(lines), x=0.01, ha="left", fontsize=7.5, color=_GREY)
    image = io.BytesIO()
    figure.savefig(image, format="png")
    return image.getvalue()


def _lighter(colour: str, share: float) -> tuple[float, ...]:
    return tuple(part + (1 - part) * share for part in to_rgb(colour))

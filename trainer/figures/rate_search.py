"""How the training loss depends on the learning rate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure

from . import style
from .style import COLOURS, GREY, readable

if TYPE_CHECKING:
    from ..rate_search import RateSearch


@style.literal_text
def rate_search(result: RateSearch, *, title: str, caption: str) -> Figure:
    """Draw the training loss against the learning rate, and mark the suggestion.

    The title is the conclusion; the caption says what was trained.
    """
    figure = style.new_figure(8, 4.8)
    axes = figure.add_subplot(xscale="log", xlabel="learning rate", ylabel="training loss")
    low, top = float(result.losses.min()), float(result.smoothed.max())
    room = 0.08 * (top - low) or abs(top) or 1.0
    (dots,) = axes.plot(result.rates, result.losses, "o", markersize=3, color=GREY, alpha=0.6)
    (line,) = axes.plot(result.rates, result.smoothed, linewidth=2, color=COLOURS[0])
    handles, names = [dots, line], ["groups of updates", "smoothed"]
    if result.suggestion is not None:
        look: dict[str, Any] = {"linewidth": 1.6, "linestyle": "--", "color": COLOURS[1]}
        handles.append(axes.axvline(result.suggestion, **look))
        names.append(f"suggestion, {result.suggestion:g}")
    axes.xaxis.set_major_formatter("{x:g}")  # the default writes formulas
    # a loss that diverges leaves the figure at its top
    axes.set_ylim(low - room, top + 2 * room)
    style.tidy(axes)
    style.legend(axes, handles, names, **style.BESIDE)
    figure.suptitle(readable(title, 600), x=0.01, ha="left", fontsize=10, wrap=True)
    style.footnote(figure, [caption], 105)
    return figure

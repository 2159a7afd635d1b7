"""How accuracy depends on what a sweep varies."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, NullLocator

from ..plain_text import value_text
from . import style
from .style import COLOURS, GREY, MARKERS, readable

if TYPE_CHECKING:
    from ..sweep import Standing

_MOST_LINES = 12
_MOST_TICKS = 12
_MOST_DOTS = 40
_SMALL: dict[str, Any] = {"fontsize": 8, "color": GREY}


@style.literal_text
def sweep(standings: Sequence[Standing], *, accuracy: str, caption: str) -> Figure:
    """Draw accuracy, by which the standings are ranked, with error bars; mark the best point.

    One option with numbers is a curve, on a linear or a logarithmic axis as they suggest; two
    options, at least one with numbers, a line for each value of the other; all else is dots, the
    best on top. The caption says what was trained.
    """
    axis = _axis(standings)
    if axis is not None:
        figure = style.new_figure(7.5, 4.5)
        axes = figure.add_subplot(ylabel=f"{accuracy}, %")
        _curves(axes, standings, *axis)
    else:
        shown = standings[:_MOST_DOTS]
        names = [readable(_all_options(s), 80) for s in shown]
        margin = 0.1 * max(0, max(map(len, names)) - 60)  # for long names
        figure = style.new_figure(7.5 + margin, 1.6 + 0.25 * len(shown))
        axes = figure.add_subplot(xlabel=f"{accuracy}, %")
        _dots(axes, shown, names)
        if len(shown) < len(standings):
            caption += f"; the best {len(shown)} of {len(standings):,}"
    style.tidy(axes)
    style.footnote(figure, [caption], 105)
    return figure


def _axis(standings: Sequence[Standing]) -> tuple[str, str | None] | None:
    """Return the option along the axis, and which one the lines are of; None for dots."""
    values = {name: [s.values[name] for s in standings] for name in standings[0].values}
    counts = {name: len(set(map(value_text, some))) for name, some in values.items()}
    numeric = [name for name, some in values.items() if all(map(_is_number, some))]
    if not numeric or len(values) > 2:
        return None
    along = max(numeric, key=counts.__getitem__)
    lines_of = next((name for name in values if name != along), None)
    if lines_of is not None and counts[lines_of] > _MOST_LINES:
        return None
    return along, lines_of


def _curves(axes: Axes, standings: Sequence[Standing], along: str, lines_of: str | None) -> None:
    def x(s: Standing) -> float:
        return _number(s.values[along])

    def line_of(s: Standing) -> Any:
        return s.values[lines_of] if lines_of else ""

    groups: dict[str, list[Standing]] = {}
    for s in sorted(standings, key=lambda s: (_order(line_of(s)), x(s))):
        groups.setdefault(value_text(line_of(s)), []).append(s)
    drawn = []
    for i, group in enumerate(groups.values()):
        good = [s for s in group if s.accuracy is not None]
        deviates = any(s.deviation is not None for s in good)
        deviations = [_percent(s.deviation) for s in good] if deviates else None
        shares = [_percent(s.accuracy) for s in good]
        drawn.append(_points(axes, i, list(map(x, good)), shares, yerr=deviations))
    positions = sorted(set(map(x, standings)))
    _scale(axes, positions)
    scale = "" if axes.get_xscale() == "linear" else ", logarithmic scale"
    axes.set_xlabel(_name(along) + scale)
    if diverged := [x(s) for s in standings if s.diverged]:
        foot = axes.get_xaxis_transform()
        axes.plot(diverged, [0.03] * len(diverged), "x", color="black", transform=foot)
        _note(axes, "× diverged", (0.01, 0.03), (0, 6), xycoords="axes fraction", **_SMALL)
    best = standings[0]
    if best.accuracy is not None:
        at = x(best), _percent(best.accuracy)
        where = value_text(best.values[along])
        if lines_of:
            where = f"{value_text(line_of(best))} at {where}"
        side = -1 if at[0] > positions[len(positions) // 2] else 1
        words = f"{readable(where)}: {at[1]:.2f} %"
        _mark_best(axes, at, words, (11 * side, 9), "left" if side > 0 else "right")
        axes.margins(y=0.14)
        axes.set_ylim(top=min(axes.get_ylim()[1], 105))
    else:
        axes.set_ylim(0, 100)
    if lines_of:
        look = style.BESIDE | {"title_fontsize": 9, "alignment": "left"}
        style.legend(axes, drawn, list(map(readable, groups)), title=_name(lines_of), **look)


def _dots(axes: Axes, standings: Sequence[Standing], names: Sequence[str]) -> None:
    for row, s in enumerate(standings):
        if s.accuracy is not None:
            deviation = None if s.deviation is None else _percent(s.deviation)
            _points(axes, 0, _percent(s.accuracy), row, xerr=deviation)
        if s.diverged:
            words = f"{s.diverged} of {s.runs} diverged" if s.runs > 1 else "diverged"
            place: Any = {"xycoords": ("axes fraction", "data"), "va": "center"}
            _note(axes, words, (0.01, row), (0, 0), **place, **_SMALL)
    best = standings[0].accuracy
    if best is not None:
        at = _percent(best)
        _mark_best(axes, (at, 0), f"{at:.2f} %", (0, 10), "center")
        axes.margins(x=0.1)
    else:
        axes.set_xlim(0, 100)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set_ylim(len(names) - 0.5, -1.2)


def _points(axes: Axes, number: int, x: Any, y: Any, **errors: Any) -> ErrorbarContainer:
    """Draw a line of points with error bars, or one such point, in the look of this number."""
    look: dict[str, Any] = {"linewidth": 1.8, "markersize": 5, "elinewidth": 1.0, "capsize": 3}
    look["color"], look["marker"] = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
    return axes.errorbar(x, y, **look, **errors)


def _mark_best(
    axes: Axes, at: tuple[float, float], words: str, offset: tuple[float, float], align: str
) -> None:
    axes.plot(*at, marker="o", markersize=13, fillstyle="none", color="black", zorder=4)
    _note(axes, words, at, offset, ha=align, fontsize=9)


def _note(
    axes: Axes, words: str, at: tuple[float, float], offset: tuple[float, float], **look: Any
) -> None:
    axes.annotate(words, at, xytext=offset, textcoords="offset points", **look)


def _scale(axes: Axes, positions: Sequence[float]) -> None:
    """Choose linear or logarithmic, whichever spaces the values more evenly."""
    above = [value for value in positions if value > 0]
    logarithmic = (
        len(above) > 2
        and above[-1] >= 8 * above[0]
        and (_unevenness(list(map(math.log, above))) < _unevenness(above))
    )
    if logarithmic and above == list(positions):
        axes.set_xscale("log")
    elif logarithmic and positions[0] == 0:
        axes.set_xscale("symlog", linthresh=above[0])
    few = len(positions) <= _MOST_TICKS
    if few:
        axes.set_xticks(positions)
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        axes.xaxis.set_minor_formatter(NullFormatter())
    if few or logarithmic:
        axes.xaxis.set_major_formatter("{x:g}")


def _unevenness(positions: Sequence[float]) -> float:
    gaps = [b - a for a, b in pairwise(positions)]
    return statistics.pstdev(gaps) / statistics.fmean(gaps)


def _is_number(value: Any) -> bool:
    if isinstance(value, tuple):
        return len(value) == 1
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number(value: Any) -> float:
    return float(value[0] if isinstance(value, tuple) else value)


def _order(value: Any) -> tuple[float, str]:
    return (_number(value), "") if _is_number(value) else (math.inf, value_text(value))


def _percent(fraction: float | None) -> float:
    return 100 * (fraction or 0.0)


def _name(option: str) -> str:
    return "hidden units" if option == "hidden" else option.replace("_", " ")


def _all_options(standing: Standing) -> str:
    return ", ".join(f"{_name(k)} {value_text(v)}" for k, v in standing.values.items()) or "all"

"""How accuracy depends on what a sweep varies."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator

from ..plain_text import value_text
from .style import (
    COLOURS,
    GREY,
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
    from ..sweep import Standing

_MOST_LINES = 12
_MOST_TICKS = 12
_MOST_DOTS = 40
_ERROR_BARS: dict[str, Any] = {"capsize": 3, "linewidth": 1.8, "markersize": 5, "elinewidth": 1.0}


@literal_text
def sweep(standings: Sequence[Standing], *, accuracy: str, caption: str) -> bytes:
    """Draw accuracy with error bars, the best point marked.

    One option with numbers is a curve, on a linear or a logarithmic axis as they suggest; two
    options, at least one with numbers, a line for each value of the other; all else is dots, the
    best on top.

    Parameters
    ----------
    standings : sequence of Standing
        The best first.
    accuracy : str
        What they are ranked by.
    caption : str
        What was trained.

    Returns
    -------
    bytes
        A PNG image.
    """
    options = list(standings[0].values)
    numeric = {name: values for name in options if (values := _numbers(standings, name))}
    others = [name for name in options if name not in numeric]
    along, lines_of = None, None
    if len(options) == 1 and numeric:
        along = options[0]
    elif len(options) == 2 and numeric:
        along = max(numeric, key=lambda name: len(set(numeric[name])))
        lines_of = others[0] if others else next(name for name in options if name != along)
        if len({value_text(s.values[lines_of]) for s in standings}) > _MOST_LINES:
            along = None
    if along is not None:
        figure = new_figure(7.5, 4.5)
        axes = figure.add_subplot()
        _curves(axes, standings, along, lines_of)
        axes.set_ylabel(f"{accuracy}, %")
    else:
        shown = standings[:_MOST_DOTS]
        names = [readable(_all_options(s), 80) for s in shown]
        margin = 0.1 * max(0, max(map(len, names)) - 60)  # for long names
        figure = new_figure(7.5 + margin, 1.6 + 0.25 * len(shown))
        axes = figure.add_subplot()
        _dots(axes, shown, names)
        axes.set_xlabel(f"{accuracy}, %")
        if len(shown) < len(standings):
            caption += f"; the best {len(shown)} of {len(standings):,}"
    tidy(axes)
    footnote(figure, [caption], 120)
    return to_png(figure)


def _curves(axes: Axes, standings: Sequence[Standing], along: str, lines_of: str | None) -> None:
    groups: dict[str, list[Standing]] = {}
    ordered = sorted(standings, key=lambda s: _order(s.values[lines_of]) if lines_of else (0, ""))
    for s in ordered:
        groups.setdefault(value_text(s.values[lines_of]) if lines_of else "", []).append(s)
    drawn = []
    for i, group in enumerate(groups.values()):
        good = sorted(
            (s for s in group if s.accuracy is not None), key=lambda s: _number(s.values[along])
        )
        line = axes.errorbar(
            [_number(s.values[along]) for s in good],
            [_percent(s.accuracy) for s in good],
            yerr=[_percent(s.deviation or 0.0) for s in good] if _deviates(good) else None,
            color=COLOURS[i % len(COLOURS)],
            marker=MARKERS[i % len(MARKERS)],
            **_ERROR_BARS,
        )
        drawn.append(line)
    positions = sorted({_number(s.values[along]) for s in standings})
    _scale(axes, positions)
    _mark_diverged(axes, standings, along)
    best = standings[0]
    if best.accuracy is not None:
        at = (_number(best.values[along]), _percent(best.accuracy))
        _mark_best(axes, *at)
        right = at[0] > positions[len(positions) // 2]
        where = value_text(best.values[along])
        if lines_of:
            where = f"{value_text(best.values[lines_of])} at {where}"
        axes.annotate(
            f"{readable(where)}: {at[1]:.2f} %",
            at,
            xytext=(-11 if right else 11, 9),
            textcoords="offset points",
            ha="right" if right else "left",
            fontsize=9,
        )
        axes.margins(y=0.14)
        axes.set_ylim(top=min(axes.get_ylim()[1], 105))
    else:
        axes.set_ylim(0, 100)
    axes.set_xlabel(_name(along))
    if lines_of:
        legend(
            axes,
            drawn,
            [readable(name) for name in groups],
            title=_name(lines_of),
            loc="upper left",
            bbox_to_anchor=(1.01, 1),
            title_fontsize=9,
            alignment="left",
        )


def _mark_best(axes: Axes, x: float, y: float) -> None:
    axes.plot(x, y, marker="o", markersize=13, fillstyle="none", color="black", zorder=4)


def _mark_diverged(axes: Axes, standings: Sequence[Standing], along: str) -> None:
    at = [_number(s.values[along]) for s in standings if s.diverged]
    if at:
        axes.plot(
            at,
            [0.03] * len(at),
            marker="x",
            linestyle="none",
            color="black",
            transform=axes.get_xaxis_transform(),
        )
        axes.annotate(
            "× diverged",
            (0.01, 0.03),
            xycoords="axes fraction",
            xytext=(0, 6),
            textcoords="offset points",
            fontsize=8,
            color=GREY,
        )


def _all_options(standing: Standing) -> str:
    return ", ".join(f"{_name(k)} {value_text(v)}" for k, v in standing.values.items()) or "all"


def _dots(axes: Axes, standings: Sequence[Standing], names: Sequence[str]) -> None:
    rows = range(len(standings))
    for row, s in zip(rows, standings, strict=True):
        if s.accuracy is not None:
            axes.errorbar(
                _percent(s.accuracy),
                row,
                xerr=_percent(s.deviation) if s.deviation is not None else None,
                color=COLOURS[0],
                marker="o",
                **_ERROR_BARS,
            )
        if s.diverged:
            axes.annotate(
                f"{s.diverged} of {s.runs} diverged" if s.runs > 1 else "diverged",
                (0.01, row),
                xycoords=("axes fraction", "data"),
                va="center",
                fontsize=8,
                color=GREY,
            )
    if standings[0].accuracy is not None:
        at = _percent(standings[0].accuracy)
        _mark_best(axes, at, 0)
        axes.annotate(
            f"{at:.2f} %",
            (at, 0),
            xytext=(0, 10),
            textcoords="offset points",
            ha="center",
            fontsize=9,
        )
        axes.margins(x=0.1)
    else:
        axes.set_xlim(0, 100)
    axes.set_yticks(list(rows), names, fontsize=8)
    axes.set_ylim(len(standings) - 0.5, -1.2)


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
    if len(positions) <= _MOST_TICKS:
        axes.set_xticks(positions)
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    else:
        axes.xaxis.set_minor_formatter(NullFormatter())
        if logarithmic:
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _unevenness(positions: Sequence[float]) -> float:
    gaps = [b - a for a, b in pairwise(positions)]
    return statistics.pstdev(gaps) / statistics.fmean(gaps)


def _deviates(standings: Sequence[Standing]) -> bool:
    return any(s.deviation is not None for s in standings)


def _numbers(standings: Sequence[Standing], name: str) -> list[float]:
    """Return an option's values as numbers, or none if one of them is not a number."""
    values = [s.values[name] for s in standings]
    return [_number(value) for value in values] if all(map(_is_number, values)) else []


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

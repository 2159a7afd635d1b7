"""One sample traced through networks: forward, its error back, one update, a figure each stage."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from ..plain_text import one_line
from ..worked import Sheet, backward_sheets, forward_sheets
from . import style
from .network import LONGEST_TICK, bars, small_letters, small_ticks
from .style import COLOURS, GREY, readable

if TYPE_CHECKING:
    from ..explain import LayerTrace, Trace

# Above zero dark and blue, below light and yellow: as in the greys, what is high is dark.
_SIGNED = LinearSegmentedColormap.from_list(
    "signed", ["#fff6cf", "#efb04a", "#9a9a9a", "#2f6cae", "#062a5e"]
)
_WIDTH, _ROW = 9.4, 1.95  # inches, of a figure and of a row of panels
_LEFT, _RIGHT, _TOP, _BOTTOM = 0.58, 0.12, 0.3, 0.43  # of a panel, beside its axes
_SLIDE, _SLIDE_PIXELS = (6.8, 3.825), 1920  # inches, 16:9, and how many pixels wide
_PAIR = 1.5  # times as many inches, and as small letters, has a slide of two networks
_TITLE, _LINE = 0.3, 0.17  # of a figure: above its panels, and of each line of its caption
_BAR = 0.78  # of a map: its bar of colours and the numbers beside that
_FEWEST, _COLUMNS = 3, 5  # panels a row
_CELL, _APART = 1.9, 0.3  # inches, of a panel of one of two networks, and between the two
_LETTER = 0.068  # inches of a letter of a caption
_LARGEST = 10  # rows of a high matrix that are drawn once more
_FINE = 600  # cells that a heat map has at least, either way
Panel = partial[None]  # of a function that draws into axes
_Key = tuple[str, int]  # what a stage or a panel shows, and of which layer, 0 for the output layer


class _Stage(NamedTuple):
    """A figure's title, the lines of its caption, and its panels.

    What is the same in another network has the same key.
    """

    key: _Key
    title: str
    caption: list[str]
    panels: dict[_Key, Panel]


class _Block(NamedTuple):
    """A part of a figure from top to bottom: panels in a grid, None for a place left empty."""

    title: str
    caption: Sequence[str]
    panels: Sequence[Panel | None]


@style.literal_text
@small_letters
def trace(
    result: Trace,
    *,
    title: str,
    image_shape: tuple[int, int] | None,
    classes: Sequence[str],
    value_range: tuple[float, float],
    slides: bool = False,
) -> list[Figure]:
    """Draw one sample's way through a network, a figure each stage, all of one width.

    Slides are of 16:9, with letters that are larger on a screen.

    The title, on the first, says which sample of which network. A sample that is not an image, of
    shape None, is drawn as bars; of an image the ends of the value range are drawn white and black.
    """
    wide = _SLIDE[0] if slides else _WIDTH
    pages: list[Figure] = []
    for stage in _stages(result, image_shape, classes, value_range):
        panels = list(stage.panels.values())
        most = _FEWEST if slides else _COLUMNS
        if slides and all(panel.func is _sheet for panel in panels):
            most = 2  # whose lines are long
        rows = -(-len(panels) // most)
        columns = max(2 if slides else _FEWEST, -(-len(panels) // rows))
        caption = stage.caption if pages else [readable(title, 260), *stage.caption]
        caption = [part for text in caption for part in _wrapped(text, wide)]
        head = textwrap.wrap(stage.title, 60) if slides else [stage.title]
        block = _Block(head[0], [*head[1:], *caption], panels)
        more = _more_below(panels, classes)
        tall = _SLIDE[1] if slides else None
        page, _ = _page([block], columns=columns, cell=wide / columns, more=more, tall=tall)
        if slides:
            page.set_dpi(_SLIDE_PIXELS / wide)
        pages.append(page)
    pages[0].set_label(one_line(title))
    return pages


@style.literal_text
@small_letters
def traces(
    results: Sequence[Trace],
    *,
    title: str,
    names: Sequence[str],
    differences: Sequence[str],
    image_shape: tuple[int, int] | None,
    classes: Sequence[str],
    value_range: tuple[float, float],
    slides: bool = False,
) -> list[Figure]:
    """Draw one sample's way through two networks, a figure each stage, a half each network.

    What can be compared stands in the same place of both halves, and has the same scale there. The
    lines on what differs between the networks are on the first figure. The rest is as in `trace`.
    """
    stages = [
        {stage.key: stage for stage in _stages(result, image_shape, classes, value_range)}
        for result in results
    ]
    wide = _PAIR * _SLIDE[0] if slides else 2 * (_FEWEST * _CELL + _APART)
    tall = _PAIR * _SLIDE[1] if slides else None
    half = wide / 2 - _APART
    above = [part for text in (title, *differences) for part in _wrapped(readable(text, 400), wide)]
    pages: list[Figure] = []
    for key in max(stages, key=len):  # the deeper network's has all of the other's
        pair = [found.get(key, _Stage(key, "has no such layer", [], {})) for found in stages]
        longest_first = sorted(pair, key=lambda stage: -len(stage.panels))
        kinds = list(dict.fromkeys(kind for stage in longest_first for kind in stage.panels))
        drawn = _on_same_scales([stage.panels for stage in pair])
        blocks = []
        for name, stage, panels in zip(names, pair, drawn, strict=True):
            said = stage.title, *stage.caption
            lines = [part for text in said for part in _wrapped(text, half)]
            blocks.append(_Block(readable(name, 50), lines, [panels.get(kind) for kind in kinds]))
        more = _more_below([panel for panels in drawn for panel in panels.values()], classes)
        columns = _FEWEST
        if slides:
            are_sheets = kinds[0][0].startswith("worked")
            columns = 1 if are_sheets else min(_FEWEST, max(1, -(-len(kinds) // 2)))
        look: dict[str, Any] = {"cell": half / columns, "apart": _APART, "tall": tall}
        look |= {"columns": columns, "more": more}
        page, places = _page(blocks, above=[] if pages else above, **look)
        if slides:
            page.set_dpi(_SLIDE_PIXELS / wide)
        for number in range(len(kinds)):
            _same_limits([p[number] for p in places], [block.panels[number] for block in blocks])
        pages.append(page)
    pages[0].set_label(one_line(title))
    return pages


def _more_below(panels: Sequence[Panel], classes: Sequence[str]) -> float:
    """Return how many more inches than numbers need the labels below panels need."""
    if all(panel.keywords.get("labels") is None for panel in panels):
        return 0.0
    longest = min(LONGEST_TICK, max(map(len, classes)))
    return 0.065 * max(0, longest - 2)


def _page(
    blocks: Sequence[_Block],
    *,
    columns: int,
    cell: float,
    more: float,
    apart: float = 0.0,
    above: Sequence[str] = (),
    tall: float | None = None,
) -> tuple[Figure, list[list[Axes | None]]]:
    """Draw blocks beside each other, in grids whose places are known: to find them takes seconds.

    A panel is `cell` inches wide, and below it there are `more` inches than numbers need; right of
    a block there are `apart`; a figure is as high as it needs, or as `tall`. The lines
    above stand over all blocks. Return the axes of each
    block's panels too.
    """
    rows = -(-max(len(block.panels) for block in blocks) // columns)
    below = _BOTTOM + more
    top = _LINE * len(above) + 0.1 * bool(above)
    head = top + _TITLE + _LINE * max(len(block.caption) for block in blocks)
    row = _ROW + more if tall is None else (tall - head) / rows
    height, wide = head + row * rows, cell * columns
    width = (wide + apart) * len(blocks)
    page = style.new_figure(width, height)
    page.set_layout_engine("none")
    small: dict[str, Any] = {"va": "top", "fontsize": 8, "linespacing": 1.3}
    page.text(0.01, 1 - 0.08 / height, "\n".join(above), color=GREY, **small)
    places: list[list[Axes | None]] = []
    for at, block in enumerate(blocks):
        start = at * (wide + apart)
        places.append([])
        for number, draw in enumerate(block.panels):
            if draw is None:
                places[-1].append(None)
                continue
            left, bottom = (
                start + number % columns * cell,
                height - head - (number // columns + 1) * row,
            )
            size = (cell - _LEFT - _RIGHT) / width, (row - _TOP - below) / height
            axes = page.add_axes(((left + _LEFT) / width, (bottom + below) / height, *size))
            draw(axes)
            places[-1].append(axes)
        x, y = start / width + 0.01, top + 0.08
        page.text(x, 1 - y / height, block.title, va="top", fontsize=11, fontweight="bold")
        words = "\n".join(block.caption)
        page.text(x, 1 - (top + _TITLE) / height, words, color=GREY, **small)
    small_ticks(page)
    return page, places


def _on_same_scales(pair: Sequence[dict[_Key, Panel]]) -> list[dict[_Key, Panel]]:
    """Return two networks' panels, with the same ends of colours and bins where both have some."""
    first, second = map(dict, pair)
    for kind in first.keys() & second.keys():
        ends = [panels[kind].keywords.get("ends") for panels in (first, second)]
        if None not in ends:
            low, high = zip(*ends, strict=True)
            for panels in (first, second):
                panels[kind] = partial(panels[kind], ends=(min(low), max(high)))
    return [first, second]


def _same_limits(places: Sequence[Axes | None], panels: Sequence[Panel | None]) -> None:
    """Set the axes of two panels to the same limits, where they are of the same numbers."""
    axes = [place for place in places if place is not None]
    functions = {p.keywords["layer"].function for p in panels if p and p.func is _function}
    if len(axes) < 2 or any(panel and panel.func in (_picture, _heat, _sheet) for panel in panels):
        return
    if functions:
        ends = [end for place in axes for end in place.get_xlim()]
        for place in axes:
            place.set_xlim(min(ends), max(ends))
    if len(functions) < 2:
        ends = [end for place in axes for end in place.get_ylim()]
        for place in axes:
            place.set_ylim(min(ends), max(ends))


def _stages(
    result: Trace,
    image_shape: tuple[int, int] | None,
    classes: Sequence[str],
    value_range: tuple[float, float],
) -> Iterator[_Stage]:
    """Make each figure's title, caption and panels."""
    first, last = result.layers[0], result.layers[-1]
    x, targets = result.inputs, result.targets
    unit = result.unit
    heads = {key: f"{n}. {text}" for n, (key, text) in enumerate(result.stages.items(), start=1)}
    which = f"class {readable(classes[unit])}" if first is last else f"unit {unit}"

    def sample(values: np.ndarray, name: str, ends: tuple[float, float]) -> Panel:
        if image_shape is None:
            return partial(_bars, values=values, name=name, xlabel="feature")
        greys = style.white_to_black(ends)
        look = {"cmap": greys["cmap"], "ends": (greys["vmin"], greys["vmax"])}
        return partial(_picture, image=values.reshape(image_shape), name=name, **look)

    def units(
        values: np.ndarray, name: str, layer: LayerTrace = last, marks: np.ndarray | None = None
    ) -> Panel:
        labels = classes if layer is last else None
        xlabel = _units(layer.number)
        return partial(_bars, values=values, name=name, xlabel=xlabel, labels=labels, marks=marks)

    def weights(W: np.ndarray, name: str) -> Panel:
        assert image_shape is not None
        own = W[:, unit]
        reach = float(np.abs(own).max()) or 1.0
        look: dict[str, Any] = {"cmap": _SIGNED, "ends": (-reach, reach)}
        return partial(_picture, image=own.reshape(image_shape), name=name, **look)

    def heat(W: np.ndarray, name: str, layer: LayerTrace) -> Panel:
        reach = float(np.abs(W).max()) or 1.0
        look: dict[str, Any] = {"layer": layer, "is_last": layer is last, "ends": (-reach, reach)}
        return partial(_heat, W=W, name=name, **look)

    def largest(W: np.ndarray, name: str, layer: LayerTrace) -> Panel:
        rows = np.sort(np.argsort(-np.abs(W).max(axis=1), kind="stable")[:_LARGEST])
        return partial(heat(W, name, layer), rows=rows)

    def key(what: str, layer: LayerTrace) -> _Key:
        return what, 0 if layer is last else layer.number

    panels: dict[_Key, Panel] = {}
    if not _is_same_picture(result.values, x):
        panels["value", 0] = sample(result.values, "value", value_range)
    inputs = sample(x, "input x", (float(x.min()), float(x.max())))
    output = f"output a{last.sub}"
    panels["inputs", 0] = inputs
    panels["targets", 0] = units(targets, "target t")
    panels["outputs", 0] = units(last.outputs, output, marks=targets)
    yield _Stage(
        ("sample", 0),
        f"{heads['sample', 0]}, labelled {readable(classes[result.label])}",
        [result.notation],
        panels,
    )
    for layer in result.layers:
        marks = targets if layer is last else None
        name = f"input {layer.inputs_name}"
        if layer is not first:
            xlabel = _units(layer.number - 1)
            panels = {("inputs", 0): partial(_bars, values=layer.inputs, name=name, xlabel=xlabel)}
        else:
            panels = {("inputs", 0): inputs}
            if image_shape is not None:
                panels["weights", 0] = weights(layer.W, f"W₁ into {which}")
        panels["sums", 0] = units(layer.sums, f"sum z{layer.sub}", layer)
        panels["function", 0] = partial(_function, layer=layer)
        panels["outputs", 0] = units(layer.outputs, f"output a{layer.sub}", layer, marks)
        shows_unit = layer is first and image_shape is not None
        caption = [f"{which} is worked out below"] if shows_unit else []
        caption += ["dots: this sample's units on the curve; ticks: their sums z"]
        if layer is last:
            caption += result.loss_lines
        of = key("forward", layer)
        yield _Stage(of, heads[of], caption, panels)
    for layer in reversed(result.layers):
        error, delta = result.error_formula(layer.number), result.delta_formula(layer.number)
        panels = {("errors", 0): units(layer.errors, error, layer)}
        panels["deltas", 0] = units(layer.deltas, delta, layer)
        caption = [result.error_words if layer is last else result.rule_words]
        of = key("backward", layer)
        yield _Stage(of, heads[of], caption, panels)
    for layer in reversed(result.layers):
        (name, (before, _, change)), *biases = layer.arrays.items()
        panels = {}
        if layer is first and image_shape is not None:
            panels["weights", 0] = weights(before, f"{name} into {which}")
            panels["their change", 0] = weights(change, f"change of {name} into {which}")
        else:
            panels["matrix", 0] = heat(before, name, layer)
        panels["its change", 0] = heat(change, f"change of {name}", layer)
        if ("matrix", 0) in panels and len(change) > 4 * _LARGEST:
            panels["largest", 0] = largest(change, f"its {_LARGEST} largest rows", layer)
        if not biases:
            ends = float(before.min()), float(before.max())
            many: dict[str, Any] = {"values": before, "name": f"weights of {name}", "ends": ends}
            panels["histogram", 0] = partial(_histogram, **many)
        for name, (before, _, change) in biases:
            panels["bias", 0] = units(before, f"bias {name}", layer)
            panels["change of bias", 0] = units(change, f"change of {name}", layer)
        caption = [result.book_formula] if layer is last else []
        if layer is last and (rounding := result.rounding_words):
            caption.append(rounding)
        of = key("update", layer)
        yield _Stage(of, heads[of], caption, panels)
    for kind, make in (("worked forward", forward_sheets), ("worked backward", backward_sheets)):
        panels = {
            (kind, i): partial(_sheet, sheet=sheet) for i, sheet in enumerate(make(result, classes))
        }
        yield _Stage((kind, 0), heads[kind, 0], [f"{which} of layer 1"], panels)
    away = ", ".join(readable(classes[code]) for code in result.moved_away)
    yield _Stage(
        ("after", 0),
        heads["after", 0],
        [f"farther from their targets than before: {away}"] if away else [],
        {
            ("before", 0): units(result.outputs, f"{output} before", marks=targets),
            ("after", 0): units(result.outputs_after, f"{output} after", marks=targets),
            ("change", 0): units(result.outputs_after - result.outputs, f"change of {output}"),
        },
    )


def _wrapped(text: str, wide: float) -> list[str]:
    """Cut a caption into lines of so many inches."""
    return textwrap.wrap(text, int(wide / _LETTER))


def _sheet(axes: Axes, sheet: Sheet) -> None:
    """Write a calculation, in letters as large as there is room for."""
    axes.set_axis_off()
    table = [sheet.header, *([readable(cell, 16) for cell in row] for row in sheet.rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = ["  ".join(cell.rjust(w) for cell, w in zip(row, widths, strict=True)) for row in table]
    lines += [part for text in sheet.lines for part in textwrap.wrap(readable(text, 200), 46)]
    left, bottom, width, height = axes.get_position().bounds
    w, h = style.figure_size(axes)
    axes.set_position((left - _LEFT / 2 / w, bottom - _BOTTOM / h, width, height + _BOTTOM / h))
    room = (width * w + _LEFT / 2) * 72 / (0.61 * max(map(len, lines)))
    size = min(8.5, room, (height * h + _BOTTOM) * 72 / (1.25 * len(lines)))
    look: dict[str, Any] = {"family": "monospace", "va": "top", "linespacing": 1.15}
    axes.text(0, 1, "\n".join(lines), fontsize=size, transform=axes.transAxes, **look)
    _name(axes, readable(sheet.title, 60))


def _is_same_picture(values: np.ndarray, inputs: np.ndarray) -> bool:
    """Return whether the inputs are the values but for their scale, so that they look alike."""
    ends = [int(values.argmin()), int(values.argmax())]
    wide, x = values.astype(np.float64), inputs.astype(np.float64)
    low, high = wide[ends]
    if not np.isfinite(high - low) or high == low:
        return False
    line = x[ends[0]] + (wide - low) / (high - low) * (x[ends[1]] - x[ends[0]])
    return bool(np.allclose(x, line, atol=1e-4 * float(np.ptp(x))))


def _units(number: int) -> str:
    """Name an axis along the units of a layer, 0 for the inputs."""
    return f"unit of layer {number}" if number else "input"


def _name(axes: Axes, name: str) -> None:
    axes.set_title(name, loc="left", fontsize=8.5, y=1, pad=5)  # without y its place is sought


def _bars(axes: Axes, values: np.ndarray, name: str, **look: Any) -> None:
    bars(axes, values, "", **look)
    axes.yaxis.set_major_formatter("{x:g}")
    _name(axes, name)


def _picture(
    axes: Axes, image: np.ndarray, name: str, cmap: Any, ends: tuple[float, float]
) -> None:
    """Draw an image beside its bar of colours, from the left of the panel on."""
    axes.set_position(_beside(axes, image.shape[1] / image.shape[0]))
    low, high = ends
    style.draw_image(axes, image, "", 8, cmap=cmap, vmin=low, vmax=high)
    axes.set_aspect("auto")  # its place has the image's
    _name(axes, name)
    _colours(axes, cmap, ends)


def _beside(axes: Axes, aspect: float | None) -> tuple[float, float, float, float]:
    """Return the axes' place with a bar of colours beside it; width over height as given."""
    left, bottom, width, height = axes.get_position().bounds
    w, h = style.figure_size(axes)
    left, width = left * w - _LEFT / 2 * (aspect is not None), width * w - _BAR + _RIGHT
    bottom, height = bottom * h, height * h
    if aspect is not None:
        bottom, height = bottom - _BOTTOM / 2, height + _BOTTOM / 2  # it has no numbers below
        width, tall = min(width + _LEFT / 2, height * aspect), height
        height = min(height, width / aspect)
        bottom += tall - height
    return left / w, bottom / h, width / w, height / h


def _colours(axes: Axes, cmap: Any, ends: tuple[float, float]) -> None:
    """Add a bar of colours, with numbers at its ends and, of both signs, in the middle."""
    left, bottom, width, height = axes.get_position().bounds
    inch = 1 / style.figure_size(axes)[0]
    place = axes.figure.add_axes((left + width + 0.06 * inch, bottom, 0.07 * inch, height))
    ticks = [ends[0], 0, ends[1]] if ends[0] < 0 < ends[1] else list(ends)
    colours = ScalarMappable(cmap=cmap)
    colours.set_clim(*ends)
    bar = axes.figure.colorbar(colours, cax=place, ticks=ticks)
    bar.ax.set_yticklabels([f"{tick:.3g}".replace("-", "−") for tick in ticks])
    bar.outline.set_visible(False)


def _function(axes: Axes, layer: LayerTrace) -> None:
    """Draw the activation function with this sample's units on it."""
    sums, faint = layer.sums, max(0.4, min(0.9, 60 / len(layer.sums)))
    axes.plot(*layer.curve, color=GREY, linewidth=1.2)
    axes.plot(sums, layer.outputs, "o", color=COLOURS[1], ms=4, mew=0, alpha=faint)
    # where the units are, also when they lie over each other
    axes.plot(sums, np.zeros(len(sums)), "|", color="black", ms=6, alpha=0.4)
    of = f"a{layer.sub} = eᶻ / Σ eᶻ" if layer.function == "softmax" else layer.outputs_formula
    axes.set_xlabel(f"sum z{layer.sub}")
    axes.yaxis.set_major_formatter("{x:g}")
    _name(axes, of)
    style.tidy(axes)


def _heat(
    axes: Axes,
    W: np.ndarray,
    name: str,
    layer: LayerTrace,
    is_last: bool,
    ends: tuple[float, float],
    rows: np.ndarray | None = None,
) -> None:
    """Draw a weight matrix, or some of its rows; zero is middle grey."""
    if rows is not None:
        W = W[rows]
    # so fine that drawing it makes it coarser everywhere, and blurs no border between units
    fine = W
    for axis, n in enumerate(W.shape):
        fine = np.repeat(fine, -(-_FINE // n), axis=axis)
    inputs, units = W.shape
    axes.set_position(_beside(axes, None))
    extent = (-0.5, units - 0.5, inputs - 0.5, -0.5)
    look: dict[str, Any] = {"cmap": _SIGNED, "vmin": ends[0], "vmax": ends[1]}
    axes.imshow(fine, aspect="auto", extent=extent, **look)
    axes.set_xlabel("class" if is_last else _units(layer.number))
    axes.set_ylabel(_units(layer.number - 1), labelpad=1)
    room = int(axes.get_position().width * style.figure_size(axes)[0] / 0.3)
    axes.xaxis.set_major_locator(style.whole_numbers(max(2, min(5, room))))
    if rows is None:
        axes.yaxis.set_major_locator(style.whole_numbers())
    else:
        axes.set_yticks(range(len(rows)), [str(row) for row in rows])
    _name(axes, name)
    _colours(axes, _SIGNED, ends)


def _histogram(axes: Axes, values: np.ndarray, name: str, ends: tuple[float, float]) -> None:
    bins = min(60, max(8, round(values.size**0.5)))
    axes.stairs(*np.histogram(values, bins, ends), fill=True, color=COLOURS[0])
    axes.set_xlabel("weight")
    _name(axes, f"{name}: how many")
    style.tidy(axes)

"""Inside a network: one sample traced through it, its answers run backwards, its first layer."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..plain_text import one_line
from . import style
from .style import COLOURS, GREY, readable

if TYPE_CHECKING:
    from ..explain import Backquery, IncomingWeights, LayerTrace, Trace

# Below zero dark and blue, above it light and yellow, so that grey print tells the sign too.
_SIGNED = LinearSegmentedColormap.from_list(
    "signed", ["#062a5e", "#2f6cae", "#9a9a9a", "#efb04a", "#fff6cf"]
)
_COLUMNS = 4  # panels a row of the trace
_WIDEST, _WIDEST_UNIT = 1300, 170  # screen pixels of the first layer's grid, and of a unit in it
_FEW_COLUMNS = 6  # units a row that can all be named beside it
_LONGEST_TICK = 20  # letters of a label below a bar
_FEW = 40  # units whose bars are drawn apart
_FINE = 600  # cells that a heat map has at least, either way

Panel = Callable[[Axes], None]

_small_letters = rc_context({"axes.labelsize": 8, "legend.fontsize": 7})


def _small_ticks(figure: Figure) -> None:
    """Make the letters of the ticks small, also of those that are made when it is rendered."""
    for axes in figure.axes:
        axes.tick_params(labelsize=7)


# --- one sample traced -----------------------------------------------------------------------


@style.literal_text
@_small_letters
def trace(
    result: Trace,
    *,
    title: str,
    image_shape: tuple[int, int] | None,
    classes: Sequence[str],
    value_range: tuple[float, float],
) -> list[Figure]:
    """Draw one sample's way through a network, a figure each stage, all of one width.

    The title, on the first, says which sample of which network. A sample that is not an image, of
    shape None, is drawn as bars; of an image the ends of the value range are drawn white and black.
    """
    longest = min(_LONGEST_TICK, max(map(len, classes)))
    row = 1.95 + 0.1 * max(0, longest - 12)  # inches, so that long labels leave space for bars
    heading = "\n".join(textwrap.wrap(readable(title, 180), 90)[:2])
    pages: list[Figure] = []
    for name, panels in _stages(result, image_shape, classes, value_range):
        page = style.new_figure(9.4, 0.55 + row * -(-len(panels) // _COLUMNS))
        grid = style.panels(page, len(panels), min(_COLUMNS, len(panels)))
        for axes, draw in zip(grid, panels, strict=True):
            draw(axes)
        page.suptitle(name, x=0.01, ha="left", fontsize=11, fontweight="bold")
        _small_ticks(page)
        pages.append(page)
    pages[0].text(0.99, 0.99, heading, ha="right", va="top", fontsize=7, color=GREY)
    pages[0].set_label(one_line(title))
    return pages


def _stages(
    result: Trace,
    image_shape: tuple[int, int] | None,
    classes: Sequence[str],
    value_range: tuple[float, float],
) -> Iterator[tuple[str, list[Panel]]]:
    """Make each page's title and panels."""
    last = result.layers[-1]

    def sample(values: np.ndarray, name: str, ends: tuple[float, float]) -> Panel:
        if image_shape is None:
            return partial(bars, values=values, name=name, xlabel="feature")
        image, greys = values.reshape(image_shape), style.white_to_black(ends)
        return partial(_map, values=image, name=name, xlabel="column", ylabel="row", **greys)

    def units(
        values: np.ndarray, name: str, layer: LayerTrace = last, marks: np.ndarray | None = None
    ) -> Panel:
        labels = classes if layer is last else None
        xlabel = _units(layer.number)
        return partial(bars, values=values, name=name, xlabel=xlabel, labels=labels, marks=marks)

    x, targets = result.inputs, result.targets
    yield (
        f"The sample: {readable(classes[result.label])}",
        [
            sample(result.values, "value", value_range),
            sample(x, "input x", (float(x.min()), float(x.max()))),
            units(targets, "target t"),
        ],
    )
    for layer in result.layers:
        inputs = f"input {layer.inputs_name}"
        marks = targets if layer is last else None
        yield (
            f"Layer {layer.number} forward: z = {layer.sums_formula}, a = {layer.function}(z)",
            [
                partial(bars, values=layer.inputs, name=inputs, xlabel=_units(layer.number - 1)),
                units(layer.sums, f"sum z{layer.sub}", layer),
                partial(_function, layer=layer),
                units(layer.outputs, f"output a{layer.sub}", layer, marks),
            ],
        )
    back = []
    for layer in reversed(result.layers):
        back.append(units(layer.errors, f"error {result.error_formula(layer.number)}", layer))
        back.append(units(layer.deltas, f"δ{layer.sub} for the update", layer))
    yield "The errors backward", back
    for layer in result.layers:
        (name, (before, after, change)), *biases = layer.arrays.items()
        shown: list[Panel] = [
            partial(_heat, W=before, name=f"{name} before", scale=before, layer=layer),
            partial(_heat, W=after, name=f"{name} after", scale=before, layer=layer),
            partial(_heat, W=change, name=f"change of {name}", scale=change, layer=layer),
            partial(_histogram, before=before, after=after, name=name),
        ]
        for name, (before, after, change) in biases:
            shown.append(units(before, f"bias {name} before", layer))
            shown.append(units(after, f"bias {name} after", layer))
            shown.append(units(change, f"change of {name}", layer))
        yield f"Layer {layer.number}: one update of rate {result.learning_rate:g}", shown
    yield (
        f"After the update: loss {result.loss:.4g} → {result.loss_after:.4g}",
        [
            units(result.outputs, "output before", marks=targets),
            units(result.outputs_after, "output after", marks=targets),
            units(result.outputs_after - result.outputs, "change of output"),
        ],
    )


def _units(number: int) -> str:
    """Name an axis along the units of a layer, 0 for the inputs."""
    return f"unit of layer {number}" if number else "input"


def bars(
    axes: Axes,
    values: np.ndarray,
    name: str,
    xlabel: str,
    labels: Sequence[str] | None = None,
    marks: np.ndarray | None = None,
) -> None:
    """Draw a bar a number; if too many to be distinguished, their outline."""
    n = len(values)
    places = np.arange(n)
    if n <= _FEW:
        axes.bar(places, values, color=COLOURS[0], width=0.8)
    else:
        axes.stairs(values, np.arange(n + 1) - 0.5, fill=True, color=COLOURS[0], linewidth=0)
    if marks is not None and n <= _FEW:
        line: dict[str, Any] = {"color": "black", "linewidth": 1.2}
        axes.hlines(marks, places - 0.45, places + 0.45, **line)
        axes.plot([], [], label="target", **line)
        _legend(axes)
    axes.axhline(0, color=GREY, linewidth=0.6)
    axes.set(xlim=(-0.6, n - 0.4), xlabel=xlabel if labels is None else "class", ylabel=name)
    if labels is not None and n <= 20:
        names = [readable(label, _LONGEST_TICK) for label in labels]
        axes.set_xticks(places, names, rotation=90 if max(map(len, names)) > 2 else 0)
    else:
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    style.tidy(axes)


def _function(axes: Axes, layer: LayerTrace) -> None:
    """Draw the activation function with this sample's units on it."""
    sums, faint = layer.sums, max(0.4, min(0.9, 60 / len(layer.sums)))
    axes.plot(*layer.curve, color=GREY, linewidth=1.2)
    axes.plot(sums, layer.outputs, "o", color=COLOURS[1], ms=4, mew=0, alpha=faint)
    # where the units are, also when they lie over each other
    axes.plot(sums, np.zeros(len(sums)), "|", color="black", ms=6, alpha=0.4)
    of = "eᶻ / Σ eᶻ" if layer.function == "softmax" else f"{layer.function}(z)"
    axes.set(xlabel=f"sum z{layer.sub}", ylabel=of)
    style.tidy(axes)


def _heat(axes: Axes, W: np.ndarray, name: str, scale: np.ndarray, layer: LayerTrace) -> None:
    """Draw a weight matrix; zero is middle grey, the largest few exceed the scale."""
    sizes = np.abs(scale)
    most = float(sizes.max())
    reach = float(np.quantile(sizes, 0.995)) if sizes.size >= 1000 else most
    reach = reach or most or 1.0
    # so fine that drawing it makes it coarser everywhere, and blurs no border between units
    fine = W
    for axis, n in enumerate(W.shape):
        fine = np.repeat(fine, -(-_FINE // n), axis=axis)
    inputs, units = W.shape
    look: dict[str, Any] = {"cmap": _SIGNED, "vmin": -reach, "vmax": reach, "aspect": "auto"}
    look["extent"] = (-0.5, units - 0.5, inputs - 0.5, -0.5)
    look["extend"] = "both" if most > reach else "neither"
    _map(axes, fine, name, _units(layer.number), _units(layer.number - 1), **look)


def _histogram(axes: Axes, before: np.ndarray, after: np.ndarray, name: str) -> None:
    bins = min(60, max(8, round(before.size**0.5)))
    edges = np.histogram_bin_edges(np.stack([before, after]), bins)
    axes.stairs(*np.histogram(before, edges), fill=True, color="#bcbcbc", label="before")
    axes.stairs(*np.histogram(after, edges), color=COLOURS[1], linewidth=1.0, label="after")
    axes.set(xlabel=f"weight of {name}", ylabel="how many")
    _legend(axes)
    style.tidy(axes)


def _legend(axes: Axes) -> None:
    """Add a legend above the axes, where nothing is drawn."""
    where: dict[str, Any] = {"loc": "lower right", "bbox_to_anchor": (1, 0.98)}
    axes.legend(frameon=False, ncols=2, borderpad=0, borderaxespad=0, **where)


def _map(
    axes: Axes,
    values: np.ndarray,
    name: str,
    xlabel: str,
    ylabel: str,
    extend: str = "neither",
    **look: Any,
) -> None:
    """Draw numbers as colours, with ticks at whole numbers and a bar of colours beside the map."""
    image = axes.imshow(values, **look)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    bar = axes.figure.colorbar(image, ax=axes, pad=0.02, aspect=25, label=name, extend=extend)
    bar.outline.set_visible(False)


# --- backwards ------------------------------------------------------------------------------


@style.literal_text
@_small_letters
def backquery(
    result: Backquery, *, image_shape: tuple[int, int] | None, classes: Sequence[str]
) -> Figure:
    """Draw what labels look like to a network, in the book's greys: dark is a high value.

    Every picture's own smallest value is white and its largest black; a pixel that never reached
    the network is omitted. Features that are not an image, of shape None, are drawn as bars.
    """
    n = len(result.labels)
    columns = min(5 if image_shape else 2, n)
    width, height = (1.5, 1.72) if image_shape else (4.5, 2.0)
    figure = style.new_figure(width * columns, height * -(-n // columns))
    grid = style.panels(figure, n, columns)
    for axes, code, values in zip(grid, result.labels, result.values, strict=True):
        label = readable(classes[code])
        label = textwrap.fill(label, 24) or label
        if image_shape is None:
            bars(axes, np.nan_to_num(values), "value", "feature")
            axes.set_title(label, fontsize=9, pad=3)
        else:
            style.draw_image(axes, values.reshape(image_shape), label, 11)
    _small_ticks(figure)
    return figure


# --- the first layer ------------------------------------------------------------------------


@style.literal_text
def incoming_weights(result: IncomingWeights, *, image_shape: tuple[int, int]) -> Figure:
    """Draw what units look at, in a grid: black is most negative, grey zero, white most positive.

    As ``displayData`` of Ng, *Machine Learning* (2011), programming exercise 4, draws it. The
    numbers at the left are those of a row's units, of the first alone where they go on one by one
    or are many.
    """
    height, width = image_shape
    n = len(result.units)
    columns = min(n, max(1, round((n * (height + 1) / (width + 1)) ** 0.5)))
    rows = -(-n // columns)
    tiles = np.full((rows * columns, height, width), np.nan)
    tiles[:n] = result.scaled.reshape(n, height, width)
    canvas = style.tiled(tiles.reshape(rows, columns, height, width), 1)
    canvas = np.pad(canvas, [(1, 0), (1, 0)], constant_values=np.nan)
    in_order = bool((np.diff(result.units) == 1).all())
    names = [
        str(row[0]) if in_order or columns > _FEW_COLUMNS else ", ".join(map(str, row))
        for row in np.split(result.units, range(columns, n, columns))
    ]
    # whole screen pixels a weight, so that all are of one size
    zoom = max(1, min(_WIDEST // canvas.shape[1], _WIDEST_UNIT // width))
    size = zoom * np.array(canvas.shape[::-1])
    corner = np.array([40 + 10 * max(map(len, names)), 34])
    whole = np.maximum(size + corner + 10, [700, 0])  # as wide as the line below
    figure = style.new_figure(*(whole / 150))
    figure.set_layout_engine("none")
    axes = figure.add_axes((*(corner / whole), *(size / whole)))
    greys = colormaps["gray"].with_extremes(bad="white")
    axes.imshow(canvas, cmap=greys, vmin=-1, vmax=1, interpolation="nearest", aspect="auto")
    axes.set_xticks([])
    axes.set_yticks(np.arange(rows) * (height + 1) + height / 2, names)
    axes.tick_params(length=0, labelsize=7)
    axes.spines[:].set_visible(False)
    axes.set_ylabel("unit", fontsize=8)
    about = "grey is 0, black and white are −1 and 1 times the unit's own largest weight"
    x, y = [10, 6] / whole
    figure.text(x, y, about, fontsize=7, color=GREY)
    return figure

"""Inside a network: one sample traced through it, its answers run backwards, its first layer."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.figure import FigureBase
from matplotlib.ticker import MaxNLocator
from PIL import Image

from ..plain_text import one_line
from .style import (
    COLOURS,
    GREY,
    frame_image,
    literal_text,
    new_figure,
    panels,
    readable,
    tidy,
    to_png,
    white_to_black,
)

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
_LARGE, _SHADES = 150_000, 64  # bytes of an image that is reduced to fewer shades, how many

Panel = Callable[[FigureBase, Axes], None]


# --- one sample traced -----------------------------------------------------------------------


@dataclass(frozen=True)
class _Stage:
    """A page of the trace: its title and its panels."""

    title: str
    panels: list[Panel]

    @property
    def rows(self) -> int:
        return -(-len(self.panels) // _COLUMNS)

    def draw(self, figure: FigureBase) -> None:
        grid = panels(figure, len(self.panels), min(_COLUMNS, len(self.panels)))
        for axes, panel in zip(grid, self.panels, strict=True):
            panel(figure, axes)
        figure.suptitle(self.title, x=0.01, ha="left", fontsize=11, fontweight="bold")


@literal_text
def trace(
    result: Trace,
    *,
    title: str,
    image_shape: tuple[int, int] | None,
    classes: Sequence[str],
    value_range: tuple[float, float],
) -> tuple[bytes, bytes]:
    """Draw one sample's way through a network, stage by stage.

    Parameters
    ----------
    result : Trace
    title : str
        Which sample of which network.
    image_shape : tuple of int or None
        (height, width) of the sample; None if it is not an image and is drawn as bars.
    classes : sequence of str
        The labels, in the order of their codes.
    value_range : tuple of float
        Drawn white and black.

    Returns
    -------
    png, pdf : bytes
        An image of all stages, and a document with a page for each.
    """
    stages = _stages(result, image_shape, classes, value_range)
    longest = min(_LONGEST_TICK, max(map(len, classes)))
    row = 1.95 + 0.1 * max(0, longest - 12)  # inches, so that long labels leave space for bars
    heading = "\n".join(textwrap.wrap(readable(title, 180), 90)[:2])
    pages = io.BytesIO()
    images: list[bytes] = []
    # without the time, so that the same sample makes the same file
    with PdfPages(pages, metadata={"Title": one_line(title), "CreationDate": None}) as document:
        for stage in stages:
            page = new_figure(9.4, 0.55 + row * stage.rows)
            stage.draw(page)
            about = page.text(0.99, 0.99, heading, ha="right", va="top", fontsize=7, color=GREY)
            about.set_visible(not images)  # once an image, but on every page
            images.append(to_png(page))
            page.set_layout_engine("none")  # everything is placed
            about.set_visible(True)
            document.savefig(page)
    return _small(_stacked(images)), pages.getvalue()


def _stacked(images: Sequence[bytes]) -> bytes:
    """Return images of one width as one, below each other."""
    parts = [Image.open(io.BytesIO(image)).convert("RGB") for image in images]
    whole = Image.new("RGB", (parts[0].width, sum(part.height for part in parts)))
    top = 0
    for part in parts:
        whole.paste(part, (0, top))
        top += part.height
    written = io.BytesIO()
    whole.save(written, format="PNG")
    return written.getvalue()


def _stages(
    result: Trace,
    image_shape: tuple[int, int] | None,
    classes: Sequence[str],
    value_range: tuple[float, float],
) -> list[_Stage]:
    last = len(result.layers)
    low, high = value_range
    stages = [
        _Stage(
            f"The sample: {readable(classes[result.label])}",
            [
                _sample(result.values, image_shape, (low, high), "value"),
                _sample(result.inputs, image_shape, None, "input x"),
                _bars(result.targets, "class", "target t", classes),
            ],
        )
    ]
    for layer in result.layers:
        n = layer.number
        units = classes if n == last else None
        stages.append(
            _Stage(
                f"Layer {n} forward: z = {layer.sums_formula}, a = {layer.function}(z)",
                [
                    _bars(layer.inputs, _axis_of_inputs(layer), f"input {layer.inputs_name}"),
                    _bars(layer.sums, _units(layer), f"sum z{layer.sub}", units),
                    _function(layer),
                    _bars(
                        layer.outputs,
                        _units(layer),
                        f"output a{layer.sub}",
                        units,
                        marks=result.targets if n == last else None,
                    ),
                ],
            )
        )
    back: list[Panel] = []
    for layer in reversed(result.layers):
        n = layer.number
        units = classes if n == last else None
        back += [
            _bars(layer.errors, _units(layer), f"error {result.error_formula(n)}", units),
            _bars(layer.deltas, _units(layer), f"δ{layer.sub} for the update", units),
        ]
    stages.append(_Stage("The errors backward", back))
    for layer in result.layers:
        n = layer.number
        shown = [
            _heat(layer, layer.W, f"W{layer.sub} before"),
            _heat(layer, layer.W_after, f"W{layer.sub} after", like=layer.W),
            _heat(layer, layer.W_change, f"change of W{layer.sub}"),
            _histogram(layer),
        ]
        if layer.b is not None and layer.b_after is not None and layer.b_change is not None:
            units = classes if n == last else None
            shown += [
                _bars(layer.b, _units(layer), f"bias b{layer.sub} before", units),
                _bars(layer.b_after, _units(layer), f"bias b{layer.sub} after", units),
                _bars(layer.b_change, _units(layer), f"change of b{layer.sub}", units),
            ]
        stages.append(_Stage(f"Layer {n}: one update of rate {result.learning_rate:g}", shown))
    stages.append(
        _Stage(
            f"After the update: loss {result.loss:.4g} → {result.loss_after:.4g}",
            [
                _bars(result.outputs, "class", "output before", classes, marks=result.targets),
                _bars(result.outputs_after, "class", "output after", classes, marks=result.targets),
                _bars(result.outputs_after - result.outputs, "class", "change of output", classes),
            ],
        )
    )
    return stages


def _axis_of_inputs(layer: LayerTrace) -> str:
    return "input" if layer.number == 1 else f"unit of layer {layer.number - 1}"


def _units(layer: LayerTrace) -> str:
    return f"unit of layer {layer.number}"


def _sample(
    values: np.ndarray,
    image_shape: tuple[int, int] | None,
    value_range: tuple[float, float] | None,
    name: str,
) -> Panel:
    if image_shape is None:
        return _bars(values, "feature", name)
    shape = image_shape

    def draw(figure: FigureBase, axes: Axes) -> None:
        greys = white_to_black(value_range or (float(values.min()), float(values.max())))
        image = axes.imshow(values.reshape(shape), **greys)
        axes.set(xlabel="column", ylabel="row")
        _locate(axes)
        _colour_bar(figure, image, axes, name)

    return draw


def _bars(
    values: np.ndarray,
    xlabel: str,
    ylabel: str,
    labels: Sequence[str] | None = None,
    *,
    marks: np.ndarray | None = None,
) -> Panel:
    """Return a panel with a bar a number; if too many to be distinguished, their outline."""

    def draw(figure: FigureBase, axes: Axes) -> None:
        n = len(values)
        if n <= _FEW:
            axes.bar(np.arange(n), values, color=COLOURS[0], width=0.8)
        else:
            edges = np.arange(n + 1) - 0.5
            axes.stairs(values, edges, fill=True, color=COLOURS[0], linewidth=0)
        if marks is not None and n <= _FEW:
            axes.hlines(
                marks, np.arange(n) - 0.45, np.arange(n) + 0.45, color="black", linewidth=1.2
            )
            axes.plot([], [], color="black", linewidth=1.2, label="target")
            _legend(axes)
        axes.axhline(0, color=GREY, linewidth=0.6)
        axes.set(xlim=(-0.6, n - 0.4))
        if labels is not None and n <= 20:
            names = [readable(label, _LONGEST_TICK) for label in labels]
            long = max(map(len, names)) > 2
            axes.set_xticks(range(n), names, rotation=90 if long else 0)
            axes.set_xlabel("class")
        else:
            axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
            axes.set_xlabel(xlabel)
        axes.set_ylabel(ylabel)
        _plain(axes)

    return draw


def _function(layer: LayerTrace) -> Panel:
    """Return a panel of the activation function with this sample's units on it."""

    def draw(figure: FigureBase, axes: Axes) -> None:
        z, a = layer.curve
        axes.plot(z, a, color=GREY, linewidth=1.2)
        axes.plot(
            layer.sums,
            layer.outputs,
            "o",
            color=COLOURS[1],
            markersize=4,
            alpha=max(0.4, min(0.9, 60 / len(layer.sums))),
            markeredgewidth=0,
        )
        # where the units are, also when they lie over each other
        axes.plot(
            layer.sums, np.zeros(len(layer.sums)), "|", color="black", markersize=6, alpha=0.4
        )
        of = "eᶻ / Σ eᶻ" if layer.function == "softmax" else f"{layer.function}(z)"
        axes.set(xlabel=f"sum z{layer.sub}", ylabel=of)
        _plain(axes)

    return draw


def _heat(
    layer: LayerTrace, matrix: np.ndarray, name: str, like: np.ndarray | None = None
) -> Panel:
    """Return a panel of a weight matrix; zero is middle grey, the largest few exceed the scale."""

    def draw(figure: FigureBase, axes: Axes) -> None:
        sizes = np.abs(matrix if like is None else like)
        most = float(sizes.max())
        reach = float(np.quantile(sizes, 0.995)) if sizes.size >= 1000 else most
        reach = reach or most or 1.0
        # so fine that drawing it makes it coarser everywhere, and blurs no border between units
        fine = matrix
        for axis, n in enumerate(matrix.shape):
            fine = np.repeat(fine, -(-_FINE // n), axis=axis)
        inputs, units = matrix.shape
        image = axes.imshow(
            fine,
            cmap=_SIGNED,
            vmin=-reach,
            vmax=reach,
            aspect="auto",
            extent=(-0.5, units - 0.5, inputs - 0.5, -0.5),
        )
        axes.set(xlabel=_units(layer), ylabel=_axis_of_inputs(layer))
        _locate(axes)
        _colour_bar(figure, image, axes, name, extend="both" if most > reach else "neither")

    return draw


def _histogram(layer: LayerTrace) -> Panel:
    def draw(figure: FigureBase, axes: Axes) -> None:
        both = np.concatenate([layer.W.reshape(-1), layer.W_after.reshape(-1)])
        edges = np.histogram_bin_edges(both, bins=min(60, max(8, round(layer.W.size**0.5))))
        before, _ = np.histogram(layer.W, edges)
        after, _ = np.histogram(layer.W_after, edges)
        axes.stairs(before, edges, fill=True, color="#bcbcbc", label="before")
        axes.stairs(after, edges, color=COLOURS[1], linewidth=1.0, label="after")
        axes.set(xlabel=f"weight of W{layer.sub}", ylabel="how many")
        _legend(axes)
        _plain(axes)

    return draw


def _legend(axes: Axes) -> None:
    """Add a legend above the axes, where nothing is drawn."""
    axes.legend(
        frameon=False,
        fontsize=7,
        ncols=2,
        loc="lower right",
        bbox_to_anchor=(1, 0.98),
        borderpad=0,
        borderaxespad=0,
    )


def _plain(axes: Axes) -> None:
    tidy(axes)
    _shrink_labels(axes)
    axes.yaxis.get_offset_text().set_fontsize(7)


def _locate(axes: Axes) -> None:
    """Place small ticks at whole numbers."""
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    _shrink_labels(axes)


def _shrink_labels(axes: Axes) -> None:
    axes.tick_params(labelsize=7)
    axes.xaxis.label.set_fontsize(8)
    axes.yaxis.label.set_fontsize(8)


def _colour_bar(figure: FigureBase, image: Any, axes: Axes, name: str, **options: Any) -> None:
    bar = figure.colorbar(image, ax=axes, pad=0.02, aspect=25, **options)
    bar.set_label(name, fontsize=8)
    bar.ax.tick_params(labelsize=7)
    bar.ax.yaxis.get_offset_text().set_fontsize(7)
    bar.outline.set_visible(False)


# --- backwards ------------------------------------------------------------------------------


@literal_text
def backquery(
    result: Backquery, *, image_shape: tuple[int, int] | None, classes: Sequence[str]
) -> bytes:
    """Draw what labels look like to a network, in the book's greys: dark is a high value.

    Parameters
    ----------
    result : Backquery
    image_shape : tuple of int or None
        (height, width); None if the features are not an image and are drawn as bars.
    classes : sequence of str
        The labels, in the order of their codes.

    Returns
    -------
    bytes
        A PNG image. Every picture's own smallest value is white and its largest black; a pixel
        that never reached the network is omitted.
    """
    n = len(result.labels)
    columns = min(5 if image_shape else 2, n)
    rows = -(-n // columns)
    width, height = (1.5, 1.72) if image_shape else (4.5, 2.0)
    figure = new_figure(width * columns, height * rows)
    grid = panels(figure, n, columns)
    for axes, code, values in zip(grid, result.labels, result.values, strict=True):
        label = "\n".join(textwrap.wrap(readable(classes[code]), 24)) or readable(classes[code])
        if image_shape is None:
            _bars(np.nan_to_num(values), "feature", "value")(figure, axes)
            axes.set_title(label, fontsize=9, pad=3)
            continue
        axes.imshow(values.reshape(image_shape), cmap="Greys", interpolation="nearest")
        frame_image(axes)
        axes.set_title(label, fontsize=11, pad=3)
    return _small(to_png(figure))


# --- the first layer ------------------------------------------------------------------------


@literal_text
def incoming_weights(result: IncomingWeights, *, image_shape: tuple[int, int]) -> bytes:
    """Draw what units look at, in a grid: black is most negative, grey zero, white most positive.

    As ``displayData`` of Ng, *Machine Learning* (2011), programming exercise 4, draws it.

    Parameters
    ----------
    result : IncomingWeights
        Of at least one unit.
    image_shape : tuple of int
        (height, width) of the data.

    Returns
    -------
    bytes
        A PNG image; the numbers at the left are those of a row's units, of the first alone where
        they go on one by one or are many.
    """
    height, width = image_shape
    n = len(result.units)
    columns = min(n, max(1, round((n * (height + 1) / (width + 1)) ** 0.5)))
    rows = -(-n // columns)
    canvas = np.full((rows * (height + 1) + 1, columns * (width + 1) + 1), np.nan)
    for place, tile in enumerate(result.scaled.reshape(n, height, width)):
        top, left = (place // columns) * (height + 1) + 1, (place % columns) * (width + 1) + 1
        canvas[top : top + height, left : left + width] = tile
    # whole screen pixels a weight, so that all are of one size
    zoom = max(1, min(_WIDEST // canvas.shape[1], _WIDEST_UNIT // width))
    in_order = bool((np.diff(result.units) == 1).all())
    names = [
        str(row[0]) if in_order or columns > _FEW_COLUMNS else ", ".join(map(str, row))
        for row in np.split(result.units, range(columns, n, columns))
    ]
    left, below, above = 40 + 10 * max(map(len, names)), 34, 10
    pixels = np.array([zoom * canvas.shape[1] + left + 10, zoom * canvas.shape[0] + below + above])
    pixels[0] = max(pixels[0], 700)  # the line below
    figure = new_figure(*(pixels / 150))
    figure.set_layout_engine("none")
    axes = figure.add_axes(
        (
            left / pixels[0],
            below / pixels[1],
            zoom * canvas.shape[1] / pixels[0],
            zoom * canvas.shape[0] / pixels[1],
        )
    )
    greys = colormaps["gray"].with_extremes(bad="white")
    axes.imshow(canvas, cmap=greys, vmin=-1, vmax=1, interpolation="nearest", aspect="auto")
    axes.set_xticks([])
    axes.set_yticks(
        [row * (height + 1) + height / 2 for row in range(rows)],
        names,
    )
    axes.tick_params(length=0, labelsize=7)
    axes.spines[:].set_visible(False)
    axes.set_ylabel("unit", fontsize=8)
    figure.text(
        10 / pixels[0],
        6 / pixels[1],
        "grey is 0, black and white are −1 and 1 times the unit's own largest weight",
        fontsize=7,
        color=GREY,
    )
    return _small(to_png(figure))


def _small(png: bytes) -> bytes:
    """Return a large image in so few shades that it is small; the loss cannot be seen."""
    if len(png) <= _LARGE:
        return png
    with Image.open(io.BytesIO(png)) as image:
        colours = image.convert("RGB")
    few: Image.Image
    red, green, blue = colours.split()
    if red.tobytes() == green.tobytes() == blue.tobytes():
        step = 255 / (_SHADES - 1)
        few = colours.convert("L").point([round(round(v / step) * step) for v in range(256)])
    else:
        few = colours.quantize(palette=_palette(), dither=Image.Dither.NONE)
    written = io.BytesIO()
    few.save(written, format="PNG", optimize=True)
    return written.getvalue()


def _palette() -> Image.Image:
    """Return every colour of the trace: greys, the heat maps', lines and bars with soft edges."""
    greys = np.repeat(np.linspace(0, 1, 32)[:, None], 3, axis=1)
    signed = _SIGNED(np.linspace(0, 1, 25))[:, :3]
    edges = np.linspace(0, 1, 12)[:, None]
    lines = [edges * to_rgb(colour) + (1 - edges) for colour in COLOURS[:2]]
    shades = np.round(255 * np.concatenate([greys, signed, *lines])).astype(np.uint8)
    palette = Image.new("P", (1, 1))
    palette.putpalette(shades.tobytes())
    return palette

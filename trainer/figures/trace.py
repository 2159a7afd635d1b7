"""One sample traced through a network: forward, its error back, one update, a figure each stage."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from ..plain_text import one_line
from . import style
from .network import LONGEST_TICK, bars, small_letters, small_ticks
from .style import COLOURS, GREY, readable

if TYPE_CHECKING:
    from ..explain import LayerTrace, Trace

# Below zero dark and blue, above it light and yellow, so that grey print tells the sign too.
_SIGNED = LinearSegmentedColormap.from_list(
    "signed", ["#062a5e", "#2f6cae", "#9a9a9a", "#efb04a", "#fff6cf"]
)
_WIDTH, _ROW = 9.4, 1.95  # inches, of a figure and of a row of panels
_LEFT, _RIGHT, _TOP, _BOTTOM = 0.5, 0.12, 0.3, 0.43  # of a panel, beside its axes
_TITLE, _LINE = 0.3, 0.17  # of a figure: above its panels, and of each line of its caption
_BAR = 0.55  # of a map: its bar of colours and the numbers beside that
_FEWEST, _COLUMNS = 3, 5  # panels a row
_FINE = 600  # cells that a heat map has at least, either way
_ERRORS = (
    "e, the error: how much more should have come out of a unit; δ, of the opposite sign: what the"
    " update multiplies the unit's inputs by"
)

Panel = partial[None]  # of a function that draws into axes
_Stage = tuple[str, list[str], list[Panel]]  # title, lines of the caption, panels


@style.literal_text
@small_letters
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
    longest = min(LONGEST_TICK, max(map(len, classes)))
    more = 0.065 * max(0, longest - 2)  # inches, for long labels
    heading = textwrap.wrap(readable(title, 260), 130)
    pages: list[Figure] = []
    for name, caption, panels in _stages(result, image_shape, classes, value_range):
        caption = caption if pages else heading
        labelled = any(panel.keywords.get("labels") is not None for panel in panels)
        pages.append(_page(name, caption, panels, more if labelled else 0.0))
    pages[0].set_label(one_line(title))
    return pages


def _page(name: str, caption: Sequence[str], panels: Sequence[Panel], more: float) -> Figure:
    """Draw panels in a grid whose places are known beforehand: to find them takes seconds.

    Below each panel there are so many inches more than numbers need.
    """
    rows = -(-len(panels) // _COLUMNS)
    columns = max(_FEWEST, -(-len(panels) // rows))
    row, below = _ROW + more, _BOTTOM + more
    head = _TITLE + _LINE * len(caption)
    height = head + row * rows
    page = style.new_figure(_WIDTH, height)
    page.set_layout_engine("none")
    cell = _WIDTH / columns
    for number, draw in enumerate(panels):
        left, bottom = number % columns * cell, height - head - (number // columns + 1) * row
        size = (cell - _LEFT - _RIGHT) / _WIDTH, (row - _TOP - below) / height
        draw(page.add_axes(((left + _LEFT) / _WIDTH, (bottom + below) / height, *size)))
    page.text(0.01, 1 - 0.08 / height, name, va="top", fontsize=11, fontweight="bold")
    words = "\n".join(caption)
    page.text(0.01, 1 - _TITLE / height, words, va="top", fontsize=8, color=GREY, linespacing=1.3)
    small_ticks(page)
    return page


def _stages(
    result: Trace,
    image_shape: tuple[int, int] | None,
    classes: Sequence[str],
    value_range: tuple[float, float],
) -> Iterator[_Stage]:
    """Make each figure's title, caption and panels."""
    first, last = result.layers[0], result.layers[-1]
    x, targets, rate = result.inputs, result.targets, f"{result.learning_rate:g}"
    unit = int(np.argmax(np.abs(first.deltas)))  # whose weights the update changes most
    which = f"class {readable(classes[unit])}" if first is last else f"unit {unit}"

    def sample(values: np.ndarray, name: str, ends: tuple[float, float]) -> Panel:
        if image_shape is None:
            return partial(_bars, values=values, name=name, xlabel="feature")
        greys = style.white_to_black(ends)
        return partial(_picture, image=values.reshape(image_shape), name=name, **greys)

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
        look: dict[str, Any] = {"cmap": _SIGNED, "vmin": -reach, "vmax": reach}
        return partial(_picture, image=own.reshape(image_shape), name=name, **look)

    def heat(W: np.ndarray, name: str, layer: LayerTrace) -> Panel:
        return partial(_heat, W=W, name=name, layer=layer, is_last=layer is last)

    inputs = sample(x, "input x", (float(x.min()), float(x.max())))
    output = f"output a{last.sub}"
    shown = [inputs, units(targets, "target t"), units(last.outputs, output, marks=targets)]
    if not _is_same_picture(result.values, x):
        shown.insert(0, sample(result.values, "value", value_range))
    yield f"The sample: {readable(classes[result.label])}", [], shown
    for layer in result.layers:
        marks = targets if layer is last else None
        name = f"input {layer.inputs_name}"
        if layer is not first:
            shown = [
                partial(_bars, values=layer.inputs, name=name, xlabel=_units(layer.number - 1))
            ]
        elif image_shape is None:
            shown = [inputs]
        else:
            shown = [inputs, weights(layer.W, f"W₁ into {which}")]
        shown += [
            units(layer.sums, f"sum z{layer.sub}", layer),
            partial(_function, layer=layer),
            units(layer.outputs, f"output a{layer.sub}", layer, marks),
        ]
        shows_unit = layer is first and image_shape is not None
        caption = [f"{which}: the one whose weights the update changes most"] if shows_unit else []
        formulas = f"z{layer.sub} = {layer.sums_formula}, {layer.outputs_formula}"
        yield f"Layer {layer.number} forward: {formulas}", caption, shown
    back = []
    for layer in reversed(result.layers):
        back.append(units(layer.errors, result.error_formula(layer.number), layer))
        back.append(units(layer.deltas, result.delta_formula(layer.number), layer))
    yield "The errors backward", [_ERRORS], back
    for layer in result.layers:
        (name, (before, _, change)), *biases = layer.arrays.items()
        shown = []
        if layer is first and image_shape is not None:
            shown.append(weights(before, f"{name} into {which}"))
            shown.append(weights(change, f"change of {name} into {which}"))
        else:
            shown.append(heat(before, name, layer))
        shown.append(heat(change, f"change of {name}", layer))
        if not biases:
            shown.append(partial(_histogram, values=before, name=f"weights of {name}"))
        for name, (before, _, change) in biases:
            shown.append(units(before, f"bias {name}", layer))
            shown.append(units(change, f"change of {name}", layer))
        caption = textwrap.wrap(result.book_formula, 130) if layer is last else []
        formula = result.update_formula(layer.number)
        yield f"Layer {layer.number}: one update, {formula}, η = {rate}", caption, shown
    yield (
        f"After the update: loss {result.loss:.4g} → {result.loss_after:.4g}",
        [],
        [
            units(result.outputs, f"{output} before", marks=targets),
            units(result.outputs_after, f"{output} after", marks=targets),
            units(result.outputs_after - result.outputs, f"change of {output}"),
        ],
    )


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


def _picture(axes: Axes, image: np.ndarray, name: str, **look: Any) -> None:
    """Draw an image beside its bar of colours, from the left of the panel on."""
    axes.set_position(_beside(axes, image.shape[1] / image.shape[0]))
    style.draw_image(axes, image, "", 8, **look)
    axes.set_aspect("auto")  # its place has the image's
    _name(axes, name)
    _colours(axes, **look)


def _beside(axes: Axes, aspect: float | None) -> tuple[float, float, float, float]:
    """Return the axes' place with a bar of colours beside it; width over height as given."""
    left, bottom, width, height = axes.get_position().bounds
    w, h = _size(axes)
    left, width = left * w - _LEFT / 2 * (aspect is not None), width * w - _BAR + _RIGHT
    bottom, height = bottom * h, height * h
    if aspect is not None:
        bottom, height = bottom - _BOTTOM / 2, height + _BOTTOM / 2  # it has no numbers below
        width, tall = min(width + _LEFT / 2, height * aspect), height
        height = min(height, width / aspect)
        bottom += tall - height
    return left / w, bottom / h, width / w, height / h


def _size(axes: Axes) -> tuple[float, float]:
    """Return the width and height of the axes' figure, in inches."""
    figure = axes.figure
    assert isinstance(figure, Figure)
    width, height = figure.get_size_inches()
    return width, height


def _colours(axes: Axes, cmap: Any, vmin: float, vmax: float, extend: str = "neither") -> None:
    """Add a bar of colours, with numbers at its ends and, of both signs, in the middle."""
    left, bottom, width, height = axes.get_position().bounds
    inch = 1 / _size(axes)[0]
    place = axes.figure.add_axes((left + width + 0.06 * inch, bottom, 0.07 * inch, height))
    ticks = [vmin, 0, vmax] if vmin < 0 < vmax else [vmin, vmax]
    colours = ScalarMappable(cmap=cmap)
    colours.set_clim(vmin, vmax)
    bar = axes.figure.colorbar(colours, cax=place, ticks=ticks, extend=extend)
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


def _heat(axes: Axes, W: np.ndarray, name: str, layer: LayerTrace, is_last: bool) -> None:
    """Draw a weight matrix; zero is middle grey, the largest few exceed the scale."""
    sizes = np.abs(W)
    most = float(sizes.max())
    reach = float(np.quantile(sizes, 0.995)) if sizes.size >= 1000 else most
    reach = reach or most or 1.0
    # so fine that drawing it makes it coarser everywhere, and blurs no border between units
    fine = W
    for axis, n in enumerate(W.shape):
        fine = np.repeat(fine, -(-_FINE // n), axis=axis)
    inputs, units = W.shape
    look: dict[str, Any] = {"cmap": _SIGNED, "vmin": -reach, "vmax": reach}
    axes.set_position(_beside(axes, None))
    extent = (-0.5, units - 0.5, inputs - 0.5, -0.5)
    axes.imshow(fine, aspect="auto", extent=extent, **look)
    axes.set_xlabel("class" if is_last else _units(layer.number))
    axes.set_ylabel(_units(layer.number - 1), labelpad=1)
    axes.xaxis.set_major_locator(style.whole_numbers())
    axes.yaxis.set_major_locator(style.whole_numbers())
    _name(axes, name)
    _colours(axes, **look, extend="both" if most > reach else "neither")


def _histogram(axes: Axes, values: np.ndarray, name: str) -> None:
    bins = min(60, max(8, round(values.size**0.5)))
    axes.stairs(*np.histogram(values, bins), fill=True, color=COLOURS[0])
    axes.set_xlabel("weight")
    _name(axes, f"{name}: how many")
    style.tidy(axes)

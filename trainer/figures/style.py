"""How every figure looks: readable in grey and by people who see other colours."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context, rcParams
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.ticker import MaxNLocator

from ..plain_text import escaped, one_line

# Okabe and Ito (2008): colours that colour-blind people can distinguish too
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
MARKERS = "os^Dv<>P"
GREY = "#555555"
BESIDE: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1.01, 1)}  # where a legend goes

# a label such as $x$ or 5_% is not a formula, wherever the figure is rendered later: a text keeps
# what held when it was made
literal_text = rc_context({"text.parse_math": False, "text.usetex": False})

DPI = 150


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure, in inches; it belongs to no window and needs no closing."""
    return Figure(figsize=(width, height), dpi=DPI, layout="constrained")


def tidy(axes: Axes) -> None:
    """Draw a grid behind what is drawn, and no frame except the two axes."""
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def whole_numbers(most: int = 5) -> MaxNLocator:
    """Return where the ticks of an axis along units, features or pixels stand."""
    return MaxNLocator(most, integer=True)


def figure_size(axes: Axes) -> tuple[float, float]:
    """Return the width and height of the axes' figure, in inches."""
    figure = axes.figure
    assert isinstance(figure, Figure)
    width, height = figure.get_size_inches()
    return width, height


def panels(figure: Figure, count: int, columns: int) -> Sequence[Axes]:
    """Return so many axes in a grid of so many columns; the rest of the grid is hidden."""
    grid = figure.subplots(-(-count // columns), columns, squeeze=False).reshape(-1)
    for axes in grid[count:]:
        axes.set_axis_off()
    return list(grid[:count])


def draw_image(axes: Axes, image: np.ndarray, name: str, size: float, **look: Any) -> None:
    """Draw an image in a light frame below its name, the letters of this size."""
    axes.imshow(image, **{"cmap": "Greys", "interpolation": "nearest"} | look)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_color("#bbbbbb")
    axes.set_title(name, fontsize=size, pad=3)


def tiled(images: np.ndarray, gap: int) -> np.ndarray:
    """Return images, shape (rows, columns, height, width), as one, NaN right of and below each."""
    rows, columns, height, width = images.shape
    margins = [(0, 0), (0, 0), (0, gap), (0, gap)]
    apart = np.pad(images.astype(float), margins, constant_values=np.nan)
    return apart.swapaxes(1, 2).reshape(rows * (height + gap), columns * (width + gap))


def footnote(figure: Figure, lines: Sequence[str], columns: int) -> None:
    """Write lines below a figure, each wrapped to so many columns."""
    wrapped = [part for line in lines for part in textwrap.wrap(readable(line, 600), columns)]
    figure.supxlabel("\n".join(wrapped), x=0.01, ha="left", fontsize=8.5, color=GREY)


def readable(name: str, most: int = 40) -> str:
    """Return a name, whatever characters it has, as one line that a figure can show.

    A character that the font lacks is written as its number, so that names which consist of such
    characters can be distinguished. The middle of a longer name is omitted.
    """
    line = one_line(name)
    if not line.isascii():
        line = "".join(c if c.isascii() or _has_glyph(c) else escaped(c) for c in line)
    if len(line) <= most:
        return line
    end = most // 3
    return f"{line[: most - end - 1]}…{line[-end:]}"


def _has_glyph(character: str) -> bool:
    """Return whether the figures' fonts have the character, the bold one too."""

    def has(family: str, weight: str) -> bool:
        font = get_font(findfont(FontProperties(family=[family], weight=weight)))
        return bool(font.get_char_index(ord(character)))

    families = rcParams["font.family"]
    return all(any(has(name, weight) for name in families) for weight in ("normal", "bold"))


def legend(owner: Axes | Figure, handles: Sequence[Any], names: Sequence[str], **look: Any) -> None:
    """Add a legend; Matplotlib by itself omits a name that begins with an underscore."""
    box = owner.legend(handles, ["–"] * len(names), frameon=False, fontsize=9, **look)
    for text, name in zip(box.get_texts(), names, strict=True):
        text.set_text(name)


def white_to_black(value_range: tuple[float, float]) -> dict[str, Any]:
    """Return options with which `imshow` draws the low end of a range white, the high black."""
    low, high = value_range
    return {"cmap": "Greys", "vmin": low, "vmax": high if high > low else low + 1}

"""How every figure looks: readable in grey and by people who see other colours."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context, rcParams
from matplotlib.axes import Axes
from matplotlib.figure import Figure, FigureBase
from matplotlib.font_manager import FontProperties, findfont, get_font
from PIL import Image

from ..plain_text import escaped, one_line

# Okabe and Ito (2008): colours that colour-blind people can distinguish too
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
MARKERS = "os^Dv<>P"
GREY = "#555555"

# decorates every function that draws: a label such as $x$ or 5_% is not a formula
literal_text = rc_context({"text.parse_math": False, "text.usetex": False})

_DPI = 150
_LARGE = 200_000  # bytes


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure, in inches; it belongs to no window and needs no closing."""
    return Figure(figsize=(width, height), dpi=_DPI, layout="constrained")


def tidy(axes: Axes) -> None:
    """Draw a grid behind what is drawn, and no frame except the two axes."""
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def panels(figure: FigureBase, count: int, columns: int) -> Sequence[Axes]:
    """Return so many axes in a grid of so many columns; the rest of the grid is hidden."""
    rows = -(-count // columns)
    grid = np.asarray(figure.subplots(rows, columns, squeeze=False)).reshape(-1)
    for axes in grid[count:]:
        axes.set_axis_off()
    return list(grid[:count])


def frame_image(axes: Axes) -> None:
    """Draw a light frame without ticks."""
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_color("#bbbbbb")


def footnote(figure: Figure, lines: Sequence[str], columns: int) -> None:
    """Write lines below a figure, each wrapped to so many columns."""
    wrapped = [part for line in lines for part in textwrap.wrap(readable(line, 600), columns)]
    figure.supxlabel("\n".join(wrapped), x=0.01, ha="left", fontsize=7.5, color=GREY)


def readable(name: str, most: int = 40) -> str:
    """Return a name as a figure can show it.

    Parameters
    ----------
    name : str
        A label, a path or a title, whatever characters it has.
    most : int
        The middle of a longer one is omitted.

    Returns
    -------
    str
        One line; a character that the font lacks is written as its number, so that names which
        consist of such characters can be distinguished.
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
    return all(
        any(
            get_font(findfont(FontProperties(family=[family], weight=weight))).get_char_index(
                ord(character)
            )
            for family in rcParams["font.family"]
        )
        for weight in ("normal", "bold")
    )


def legend(owner: Axes | Figure, handles: Sequence[Any], names: Sequence[str], **look: Any) -> None:
    """Add a legend; Matplotlib by itself omits a name that begins with an underscore."""
    box = owner.legend(handles, ["–"] * len(names), frameon=False, fontsize=9, **look)
    for text, name in zip(box.get_texts(), names, strict=True):
        text.set_text(name)


def white_to_black(value_range: tuple[float, float]) -> dict[str, Any]:
    """Return options with which `imshow` draws the low end of a range white, the high black."""
    low, high = value_range
    return {"cmap": "Greys", "vmin": low, "vmax": high if high > low else low + 1}


def to_png(figure: Figure) -> bytes:
    """Return a figure as PNG; a large one in 256 colours of its own, at a third of the size."""
    image = io.BytesIO()
    figure.savefig(image, format="png")
    if len(image.getvalue()) <= _LARGE:
        return image.getvalue()
    smaller = io.BytesIO()
    with Image.open(image) as drawn:
        few = drawn.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE)
        few.save(smaller, format="png", optimize=True, dpi=(_DPI, _DPI))
    return smaller.getvalue()


def show(images: Sequence[bytes]) -> str:
    """Open a window for each PNG image and wait until the user has closed them.

    Returns
    -------
    str
        Empty, or if no window can be opened a line that says so, without a full stop.
    """
    from matplotlib import pyplot

    try:
        # "agg" is what is left where there is no display, and it warns of nothing to show
        if pyplot.get_backend().lower() in _interactive():
            for image in images:
                pixels = pyplot.imread(io.BytesIO(image), format="png")
                height, width = pixels.shape[:2]
                window = pyplot.figure(figsize=(width / 100, height / 100), dpi=100)
                axes = window.add_axes((0, 0, 1, 1))
                axes.imshow(pixels)
                axes.set_axis_off()
            if pyplot.get_backend().lower() in _interactive():  # a display may fail to answer
                pyplot.show(block=True)
                return ""
        cause = "there is no display"
    except Exception as error:  # each of a dozen toolkits fails in its own way
        cause = str(error).strip().split("\n")[0] or type(error).__name__
    finally:
        pyplot.close("all")
    return f"--show: no window can be opened here ({cause})"


def _interactive() -> list[str]:
    from matplotlib.backends import BackendFilter, backend_registry

    return backend_registry.list_builtin(BackendFilter.INTERACTIVE)

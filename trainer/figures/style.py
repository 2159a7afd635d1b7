"""How every figure looks: readable in grey and by people who see other colours."""

from __future__ import annotations

import functools
import io
import textwrap
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec

import numpy as np
from matplotlib import rc_context, rcParams
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from PIL import Image

from ..plain_text import escaped, one_line

# Okabe and Ito (2008): colours that colour-blind people can distinguish too
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
MARKERS = "os^Dv<>P"
GREY = "#555555"
BESIDE: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1.01, 1)}  # where a legend goes

# a label such as $x$ or 5_% is not a formula
literal_text = rc_context({"text.parse_math": False, "text.usetex": False})

_DPI = 150
_LARGE, _FEW_COLOURS = 150_000, 128  # bytes of an image that is reduced to fewer colours, how many
_P = ParamSpec("_P")


def as_png(draw: Callable[_P, Figure]) -> Callable[_P, bytes]:
    """Make a function that draws a figure return it as a PNG image, its labels literal."""

    @literal_text
    @functools.wraps(draw)
    def drawn(*args: _P.args, **options: _P.kwargs) -> bytes:
        return to_png(draw(*args, **options))

    return drawn


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure, in inches; it belongs to no window and needs no closing."""
    return Figure(figsize=(width, height), dpi=_DPI, layout="constrained")


def tidy(axes: Axes) -> None:
    """Draw a grid behind what is drawn, and no frame except the two axes."""
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


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
    figure.supxlabel("\n".join(wrapped), x=0.01, ha="left", fontsize=7.5, color=GREY)


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


def to_png(*figures: Figure, fewer: Image.Quantize = Image.Quantize.MAXCOVERAGE) -> bytes:
    """Return figures of one width as one PNG image, below each other.

    A large one has so few colours, chosen by Pillow's method `fewer`, that it is a third of the
    size: MAXCOVERAGE keeps the rare colours, MEDIANCUT the frequent ones.
    """
    canvases = [FigureCanvasAgg(figure) for figure in figures]
    for canvas in canvases:
        canvas.draw()
    drawn = np.concatenate([np.asarray(canvas.buffer_rgba())[..., :3] for canvas in canvases])
    image = Image.fromarray(drawn)
    png = _encoded(image)
    if len(png) > _LARGE:
        png = _encoded(image.quantize(_FEW_COLOURS, fewer, dither=Image.Dither.NONE), optimize=True)
    return png


def _encoded(image: Image.Image, **options: Any) -> bytes:
    written = io.BytesIO()
    image.save(written, format="png", dpi=(_DPI, _DPI), **options)
    return written.getvalue()


def show(images: Sequence[bytes]) -> str:
    """Open a window for each PNG image and wait until the user has closed them.

    If no window can be opened, the string returned says so, else it is empty.
    """
    from matplotlib import pyplot

    try:
        # "agg" is what is left where there is no display, and it warns of nothing to show
        if pyplot.get_backend().lower() in _interactive():
            for image in images:
                drawn = Image.open(io.BytesIO(image))
                window = pyplot.figure(figsize=(drawn.width / 100, drawn.height / 100), dpi=100)
                axes = window.add_axes((0, 0, 1, 1))
                axes.imshow(drawn)
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

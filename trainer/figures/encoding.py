"""What is done with a figure: the content of a file, or a window."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure
from PIL import Image

from . import style

_LARGE, _FEW_COLOURS = 150_000, 128  # bytes of an image that is reduced to fewer colours, how many
_POINTS = 72  # an inch
_OURS: Any = {"savefig.bbox": None, "svg.fonttype": "none"}  # whatever a user's own settings are


@style.literal_text
@rc_context(_OURS)
def encoded(drawn: Figure | Sequence[Figure], suffix: str) -> bytes:
    """Return a figure, or several of one width, as the content of a file.

    The same figure makes the same bytes: no time is written into them.

    Parameters
    ----------
    drawn : matplotlib.figure.Figure or sequence of them
        Several stand below each other in an image, and each on a page of its own in a PDF.
    suffix : {".png", ".svg", ".pdf"}
        An image of pixels, at 150 an inch; one of lines, its letters kept as text; or pages.

    Returns
    -------
    bytes

    Raises
    ------
    ValueError
        For another suffix.
    """
    figures = [drawn] if isinstance(drawn, Figure) else list(drawn)
    encoders = {".png": _png, ".svg": _svg, ".pdf": _pdf}
    if suffix.lower() not in encoders:
        raise ValueError(f"suffix {suffix!r}: expected one of {', '.join(encoders)}")
    return encoders[suffix.lower()](figures)


def _png(figures: Sequence[Figure]) -> bytes:
    """Return an image, a large one in so few colours that it is a third of the size."""
    canvases = [FigureCanvasAgg(figure) for figure in figures]
    for canvas in canvases:
        canvas.draw()
    drawn = np.concatenate([np.asarray(canvas.buffer_rgba())[..., :3] for canvas in canvases])
    image = Image.fromarray(drawn)
    png = _compressed(image)
    if len(png) > _LARGE:
        # this keeps the rare colours, that the frequent ones, such as the middle grey of many maps
        fewer = Image.Quantize.MAXCOVERAGE if len(figures) == 1 else Image.Quantize.MEDIANCUT
        reduced = image.quantize(_FEW_COLOURS, fewer, dither=Image.Dither.NONE)
        png = _compressed(reduced, optimize=True)
    return png


def _compressed(image: Image.Image, **options: Any) -> bytes:
    written = io.BytesIO()
    image.save(written, format="png", dpi=(style.DPI, style.DPI), **options)
    return written.getvalue()


def _svg(figures: Sequence[Figure]) -> bytes:
    """Return an SVG image; several figures stand in it below each other."""
    images = []
    for number, figure in enumerate(figures):
        written = io.BytesIO()
        with rc_context({"svg.hashsalt": f"xptrainer {number}"}):  # names that are nobody else's
            figure.savefig(written, format="svg", metadata={"Date": None})
        images.append(written.getvalue().decode())
    if len(images) == 1:
        return images[0].encode()
    sizes = [figure.get_size_inches() * _POINTS for figure in figures]
    width, height = max(w for w, _ in sizes), sum(h for _, h in sizes)
    whole = [
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
        f' version="1.1" width="{width:g}pt" height="{height:g}pt"'
        f' viewBox="0 0 {width:g} {height:g}">'
    ]
    top = 0.0
    for number, (image, (_, h)) in enumerate(zip(images, sizes, strict=True)):
        inner = re.sub(r"^.*?<svg [^>]*>", "", image, count=1, flags=re.DOTALL)
        inner = inner.rstrip().removesuffix("</svg>")
        # the names that no salt makes different, and that nothing refers to
        inner = inner.replace('<g id="', f'<g id="stage_{number}_')
        inner = re.sub(r'(<image [^>]*?) id="image\w+"', r"\1", inner)
        whole += [f'<g transform="translate(0 {top:g})">', inner, "</g>"]
        top += h
    return "\n".join([*whole, "</svg>\n"]).encode()


def _pdf(figures: Sequence[Figure]) -> bytes:
    """Return a document with a page each figure, named by the first figure's label."""
    written = io.BytesIO()
    title = figures[0].get_label()
    with PdfPages(written, metadata={"Title": title or None, "CreationDate": None}) as document:
        for figure in figures:
            document.savefig(figure)
    return written.getvalue()


def show(windows: Sequence[Figure | Sequence[Figure]]) -> str:
    """Open a window for each figure, or several of one width, and wait until they are closed.

    If no window can be opened, the string returned says so, else it is empty.
    """
    from matplotlib import pyplot

    try:
        # "agg" is what is left where there is no display, and it warns of nothing to show
        if pyplot.get_backend().lower() in _interactive():
            for drawn in windows:
                image = Image.open(io.BytesIO(encoded(drawn, ".png")))
                window = pyplot.figure(figsize=(image.width / 100, image.height / 100), dpi=100)
                axes = window.add_axes((0, 0, 1, 1))
                axes.imshow(image)
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

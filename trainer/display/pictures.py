"""Images and histograms drawn with characters."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .terminal import is_coloured, styled


def half_blocks(image: np.ndarray, *, coloured: bool) -> Text:
    """Draw grey values 0…1, two rows of pixels a line of text."""
    image = np.pad(image, [(0, len(image) % 2), (0, 0)])
    text = Text(no_wrap=True)
    for upper, lower in zip(image[::2], image[1::2], strict=True):
        for a, b in zip(upper, lower, strict=True):
            if coloured:
                ink, paper = (round(255 * min(max(float(v), 0.0), 1.0)) for v in (a, b))
                text.append("▀", f"rgb({ink},{ink},{ink}) on rgb({paper},{paper},{paper})")
            else:
                text.append(" ▄▀█"[2 * (a >= 0.5) + (b >= 0.5)])
        text.append("\n")
    text.rstrip()
    return text


def gallery(out: Console, names: Sequence[str], pictures: Sequence[np.ndarray | None]) -> None:
    """Print pictures with their names, as many in a row as fit; none if not even one fits."""
    drawn = [(name, p) for name, p in zip(names, pictures, strict=True) if p is not None]
    widest = max((p.shape[1] for _, p in drawn), default=out.width)
    columns = out.width // (widest + 2)
    if not columns:
        return
    coloured = is_coloured(out)
    for start in range(0, len(drawn), columns):
        row = drawn[start : start + columns]
        grid = Table.grid(padding=(0, 2))
        for _ in row:
            grid.add_column(overflow="fold")
        grid.add_row(*(styled(name, "bold") for name, _ in row))
        # in two shades only, what exceeds the noise is drawn and not the noise
        images = (p if coloured else p > p.mean() + p.std() for _, p in row)
        grid.add_row(*(half_blocks(image, coloured=coloured) for image in images))
        out.print(grid)
        out.print()


def histogram(array: np.ndarray, bins: int = 12) -> str:
    """Draw how many of the numbers lie where, between the smallest and the largest."""
    counts, _ = np.histogram(array, bins)
    levels = np.ceil(8 * counts / max(counts.max(), 1)).astype(int)
    return "".join(" ▁▂▃▄▅▆▇█"[level] for level in levels)

"""Small pieces of HTML, as a notebook shows them: they inherit its colours, and load nothing."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from .plain_text import one_line

_LONGEST = 80  # letters of a name
_LINE = "1px solid rgba(128,128,128,0.4)"  # visible on white and on black
_CELL = "text-align:right;padding:1px 8px;background:transparent"
_WIDTH, _HEIGHT, _MARGIN = 260, 110, 6  # pixels of a curve
_POINTS = 200  # of a line, about
_COLOURS = ("#0072B2", "#D55E00", "#009E73")  # of Okabe and Ito, as in the figures


class Markup(str):
    """HTML that is put in as it stands; every other text is escaped."""

    __slots__ = ()


def text(value: Any) -> Markup:
    """Return a name or a number as HTML: escaped, in one line, a long one without its end."""
    if isinstance(value, Markup):
        return value
    line = one_line(f"{value:,}" if isinstance(value, int) else str(value))
    return Markup(escape(line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…"))


def block(title: Any, *parts: Markup) -> str:
    """Return parts below each other, under a title in bold."""
    return f"<div><div><b>{text(title)}</b></div>{''.join(parts)}</div>"


def table(rows: Iterable[Sequence[Any]], head: Sequence[Any] = ()) -> Markup:
    """Return a table; numbers and texts are escaped, the first column heads its row."""
    lines = []
    if head:
        cells = "".join(f'<th style="{_CELL};border-bottom:{_LINE}">{text(c)}</th>' for c in head)
        lines.append(f"<tr>{cells}</tr>")
    for first, *others in rows:
        cells = "".join(f'<td style="{_CELL}">{text(cell)}</td>' for cell in others)
        lines.append(
            f'<tr style="background:transparent"><th style="{_CELL}">{text(first)}</th>{cells}</tr>'
        )
    style = "border-collapse:collapse;border:none;margin:4px 0"
    return Markup(f'<table style="{style}">{"".join(lines)}</table>')


def shaded(value: Any, share: float) -> Markup:
    """Return a cell's text on a ground that is the redder, the nearer the share is to 1."""
    red = f"background:rgba(213,94,0,{0.15 + 0.6 * min(share, 1.0):.2f});padding:0 4px"
    return Markup(f'<span style="{red}">{text(value)}</span>') if share else text(value)


def image(png: bytes, alternative: str) -> Markup:
    """Return a PNG image, its bytes within the page."""
    uri = f"data:image/png;base64,{b64encode(png).decode('ascii')}"
    return Markup(f'<img style="image-rendering:pixelated" alt="{text(alternative)}" src="{uri}">')


def bar(share: float) -> Markup:
    """Return a bar that is filled to a share of its length."""
    inner = f"height:6px;width:{100 * min(max(share, 0.0), 1.0):.1f}%;background:{_COLOURS[0]}"
    outer = f"max-width:{2 * _WIDTH}px;border:{_LINE};margin:4px 0"
    return Markup(f'<div style="{outer}"><div style="{inner}"></div></div>')


def training_curves(reports: Sequence[Any]) -> Markup:
    """Return loss and accuracies by epoch, of the epochs' reports."""
    shown = [*reports[: -1 : -(-len(reports) // _POINTS) or 1], *reports[-1:]]
    loss = {"training": [(report.epoch, report.train_loss) for report in shown]}
    right = {
        name: [
            (report.epoch, 100 * fraction)
            for report in shown
            if (fraction := getattr(report, f"{name}_accuracy")) is not None
        ]
        for name in ("test", "validation")
    }
    return Markup(curves("loss", loss) + curves("right answers, %", right))


def curves(title: str, lines: Mapping[str, Sequence[tuple[float, float]]]) -> Markup:
    """Return lines through points (x, y), each with its name and its last value, as SVG."""
    points = [point for line in lines.values() for point in line]
    if not points:
        return Markup("")
    (left, right), (low, high) = ((min(part), max(part)) for part in zip(*points, strict=True))

    def place(x: float, y: float) -> str:
        across = (x - left) / (right - left) if right > left else 0.5
        up = (y - low) / (high - low) if high > low else 0.5
        return (
            f"{_MARGIN + across * (_WIDTH - 2 * _MARGIN):.1f},"
            f"{_HEIGHT - _MARGIN - up * (_HEIGHT - 2 * _MARGIN):.1f}"
        )

    drawn, names = [], []
    for (name, line), colour in zip(lines.items(), _COLOURS, strict=False):
        if line:
            path = " ".join(place(*point) for point in line)
            look = f'fill="none" stroke="{colour}" stroke-width="2" stroke-linecap="round"'
            # a single point is a line of no length, whose round ends are a dot
            drawn.append(f'<polyline points="{path} {path.split()[-1]}" {look}/>')
            names.append(f'<span style="color:{colour}">■</span> {text(name)} {line[-1][1]:.4g}')
    frame = f'width="{_WIDTH}" height="{_HEIGHT}" style="border-left:{_LINE};border-bottom:{_LINE}"'
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" role="img" {frame}>{"".join(drawn)}</svg>'
    about = f"{text(title)}: {', '.join(names)}; {low:.4g} to {high:.4g}"
    return Markup(
        f'<div style="display:inline-block;margin:4px 16px 4px 0">{svg}'
        f'<div style="font-size:smaller">{about}</div></div>'
    )

"""A report as one page that is complete in itself: no script, no request."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from ..templates import read, render


@dataclass(frozen=True)
class Picture:
    """A figure: what it shows, for those who do not see it too, and its content.

    The content is that of an SVG or a PNG file, as the suffix says.
    """

    caption: str
    content: bytes
    suffix: str

    @property
    def html(self) -> Markup:
        """Return the element that shows it."""
        if self.suffix == ".svg":
            svg = self.content.decode()
            svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.S)
            # its size in points becomes the largest, so that it fits a telephone
            width = re.search(r'<svg[^>]* width="([\d.]+)pt"', svg)
            limit = f' style="width:{float(width[1]) * 4 / 3:.0f}px"' if width else ""
            svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
            svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
            name = Markup.escape(self.caption)
            return Markup(svg.replace("<svg", f'<svg role="img" aria-label="{name}"{limit}', 1))
        uri = base64.b64encode(self.content).decode()
        return Markup('<img alt="{}" src="data:image/png;base64,{}">').format(self.caption, uri)


@dataclass(frozen=True)
class Table:
    """A table: the first cell of a row heads it, and the first rows may be marked."""

    name: str
    head: Sequence[Any]
    rows: Sequence[Sequence[Any]]
    marked: int = 0


@dataclass(frozen=True)
class Section:
    """A part of a report; all but the heading may be missing.

    Everything is escaped but `html`, which stands as it is.
    """

    heading: str
    facts: Sequence[tuple[str, Any]] = ()
    lines: Sequence[str] = ()
    code: str = ""
    html: Markup | None = None
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = ()
    parts: Sequence[Section] = ()


def report(title: str, headline: str, sections: Sequence[Section]) -> str:
    """Return the page of a report."""
    template, style = (read(__package__, f"templates/report.{kind}") for kind in ("html", "css"))
    return render(template, title=title, headline=headline, sections=sections, style=Markup(style))

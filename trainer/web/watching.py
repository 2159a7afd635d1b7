"""The page that shows a training as it goes, and again when it has ended."""

from __future__ import annotations

from ..templates import read, with_script


def watch_page(title: str) -> str:
    """Return the page; what it shows comes as events."""
    template, script, style = (
        read(__package__, f"templates/watch.{suffix}") for suffix in ("html", "js", "css")
    )
    return with_script(template, script, style, connects=True, title=title)

"""stdout and stderr: text shown exactly as given, one-line messages, and results as JSON."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import sys
from typing import Any

import numpy as np
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from ..plain_text import one_line

_NARROW = 60  # columns


class _Console(Console):
    """Shows every string exactly: a label may look like markup, an emoji code or an escape."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:  # of tables' cells and headers too
        return super().render_str(one_line(text), **options)

    def on_broken_pipe(self) -> None:
        raise  # rich would end the program with a training unsaved


def console(title: str | None = None) -> Console:
    """Return the terminal on stdout, or plain text if it is not a terminal; print a title first."""
    out = _Console(soft_wrap=not sys.stdout.isatty())
    if title is not None:
        out.print(styled(title, "cyan"))
    return out


def is_narrow(out: Console) -> bool:
    """Return whether it is a terminal in which not all columns of a wide table have room."""
    return not out.soft_wrap and out.width < _NARROW


def is_coloured(out: Console) -> bool:
    """Return whether the console shows colours."""
    return out.color_system is not None and not out.no_color


def line(text: str = "") -> None:
    """Print one line on stdout without wrapping it."""
    print(one_line(text), flush=True)


def json_line(fields: dict[str, Any]) -> None:
    """Print an object as one line of JSON; reports and arrays may be anywhere in it."""
    print(json.dumps(fields, default=as_json), flush=True)


def as_json(report: Any) -> Any:
    """Return a report (a dataclass) as a dictionary of its fields, an array as lists."""
    return report.tolist() if isinstance(report, np.ndarray) else dataclasses.asdict(report)


def styled(words: str, style: str = "") -> Text:
    """Return one line of text for rich, which passes an escape on and drops other controls."""
    return Text(one_line(words), style=style)


def width(label: str) -> int:
    """Return how many columns a label takes."""
    return cell_len(one_line(label))


def error(message: str) -> None:
    """Print one line on stderr as an error, if anybody reads that."""
    _to_stderr(Text.assemble(("error: ", "bold red"), styled(message)))


def note(*messages: str) -> None:
    """Print lines on stderr that are no errors."""
    for message in messages:
        _to_stderr(styled(message))


def _to_stderr(text: Text) -> None:
    with contextlib.suppress(OSError):
        _Console(stderr=True, soft_wrap=True).print(text)


def abandon_stdout() -> None:
    """Discard whatever is still to be shown, because nobody reads it any more."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

"""Tables: facts a line each, devices, recipes and how runs ended."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..plain_text import percent, value_text
from .terminal import console, is_narrow, line, styled


def new_table(headers: Sequence[str], rows: Iterable[Sequence[Any]] = ()) -> Table:
    """Return a table of right-aligned columns, the first in colour."""
    # one space between columns in place of two where there is no room
    table = Table(box=None, pad_edge=False, collapse_padding=is_narrow(console()))
    for number, header in enumerate(headers):
        style = "cyan" if number == 0 else ""
        table.add_column(header, justify="right", style=style, overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


def _grid(rows: Iterable[tuple[str, Text]], **first_column: Any) -> Table:
    """Return a grid of names, which are not broken, and of what is said of each."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True, **first_column)
    grid.add_column(overflow="fold")
    for row in rows:
        grid.add_row(*row)
    return grid


def facts(lines: dict[str, str], out: Console | None = None) -> None:
    """Show names and what is said of each, a line each."""
    out = out or console()
    if out.soft_wrap:  # a pipe or a file
        for name, text in lines.items():
            line(f"{name:>8}  {text}")
    else:
        rows = ((name, styled(text)) for name, text in lines.items())
        out.print(_grid(rows, justify="right", style="cyan"))


def recipes(settings: dict[str, dict[str, Any]], abouts: dict[str, str]) -> None:
    """Show every recipe's settings: all of the first one's, then only what differs from it."""
    out = console()
    first = next(iter(settings))
    for name, about in abouts.items():
        shown = [
            (f"  {key}", styled(value_text(value)))
            for key, value in settings[name].items()
            if name == first or value != settings[first][key]
        ]
        out.print(styled(name, "bold"))
        out.print(styled(f"  {about}"))
        if name != first:
            out.print(styled(f"  as {first}, but for", "dim"))
        out.print(_grid(shown, style="cyan", min_width=17))
        out.print()


def curves(runs: Sequence[tuple[str, str, Sequence[dict[str, Any]]]]) -> None:
    """Show how each run ended: its folder, its metrics and how it differs from the others."""
    table = Table(box=None, pad_edge=False)
    table.add_column("run", style="cyan", overflow="fold")
    for name in ("epochs", "loss", "test"):
        table.add_column(name, justify="right", no_wrap=True)
    if len(runs) > 1:
        table.add_column("what differs", overflow="fold")
    for path, label, metrics in runs:
        last = metrics[-1]
        accuracy = last.get("test_accuracy")
        test = "-" if accuracy is None else percent(accuracy)
        table.add_row(path, str(len(metrics)), f"{last['train_loss']:.6f}", test, styled(label))
    console().print(table)


def devices(rows: Sequence[tuple[str, Sequence[str]]]) -> None:
    """Show every device with what is known of it, or what is missing for one."""
    joined = ((name, Text("\n").join(map(styled, lines))) for name, lines in rows)
    console().print(_grid(joined, style="bold"))

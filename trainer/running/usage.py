"""Mistakes in what was typed, reported with the options as they are typed."""

from __future__ import annotations

import re

from backends import Backend, select

from ..recipes import RECIPES, Recipe


class UsageError(ValueError):
    """A mistake in what was typed: one line with what was given, expected, and to be typed."""


def choose(device: str, matmul: str = "float32") -> Backend:
    """Return the backend that `backends.select` does; raise UsageError for an unknown name."""
    try:
        return select(device, matmul)
    except ValueError as error:
        option = f"--device {device}" + (f" --matmul {matmul}" if matmul != "float32" else "")
        raise UsageError(f"{option}: {error}") from error


def in_options(message: str) -> str:
    """Write settings as they are typed: `init='foo'` as `--init foo`, `bias=False` as --no-bias."""

    def option(match: re.Match[str]) -> str:
        name, value = match[1].replace("_", "-"), match[2]
        if value in ("True", "False"):
            return f"--{'no-' * (value == 'False')}{name}"
        return f"--{name} {value}"

    return re.sub(r"\b([a-z][a-z_0-9]*)='?([^\s',]*[^\s',:])'?", option, message)


def recipe_named(name: str | None) -> Recipe | None:
    """Return the recipe of that name, None for None; UsageError where there is none."""
    if name is not None and name not in RECIPES:
        raise UsageError(
            f"--recipe {name}: there is no such recipe; expected one of {', '.join(RECIPES)}"
            " (see: python -m trainer recipes)"
        )
    return RECIPES[name] if name else None

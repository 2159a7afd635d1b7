"""Mistakes in what was typed, reported with the options as they are typed."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from backends import Backend, select

from ..data import Dataset, load
from ..data.building import arranged_as_before
from ..recipes import RECIPES, Recipe, own_source, source_for
from ..weight_files import WeightFileError


class UsageError(ValueError):
    """A mistake in what was typed: one line with what was given, expected, and to be typed."""


def choose(device: str, matmul: str = "float32") -> Backend:
    """Return the backend that `backends.select` does; raise UsageError for an unknown name."""
    try:
        return select(device, matmul)
    except ValueError as error:
        products = "" if matmul == "float32" else f" --matmul {matmul}"
        raise UsageError(f"--device {device}{products}: {error}") from error


def typed(name: str) -> str:
    """Return an option as it is typed."""
    return f"--{name.replace('_', '-')}"


def in_options(message: str) -> str:
    """Write settings as they are typed: `init='foo'` as `--init foo`, `bias=False` as --no-bias."""

    def option(match: re.Match[str]) -> str:
        name, value = match.groups()
        if value in ("True", "False"):
            return typed("no_" * (value == "False") + name)
        return f"{typed(name)} {value}"

    return re.sub(r"\b([a-z][a-z_0-9]*)='?([^\s',]*[^\s',:])'?", option, message)


@contextmanager
def usage_errors(say: Callable[[str], str] = in_options) -> Iterator[None]:
    """Turn what a ValueError says of settings into a UsageError, by default in options."""
    try:
        yield
    except (UsageError, WeightFileError):
        raise  # which speak of options and files already
    except ValueError as error:
        raise UsageError(say(str(error))) from error


def recipe_named(name: str | None, option: str = "--recipe") -> Recipe | None:
    """Return the recipe of that name, None for None; UsageError where there is none."""
    if name is not None and name not in RECIPES:
        near = difflib.get_close_matches(name, RECIPES, n=1)
        meant = f"did you mean {near[0]}? " if near else ""
        raise UsageError(
            f"{option} {name}: there is no such recipe; {meant}expected one of {', '.join(RECIPES)}"
            " (see: python -m trainer recipes)"
        )
    return RECIPES[name] if name else None


def load_recorded(
    recorded: dict[str, Any], on_progress: Callable[[str, int, int], None] | None = None
) -> Dataset:
    """Load again what the `data` of a config says that a run or a sweep began on."""
    source, test_source = recorded["source"], recorded["test_source"]
    data = load(
        source,
        test_source,
        label=recorded.get("label"),
        transpose=recorded.get("transpose", False),
        validation_part="has_validation_part" in recorded,
        on_progress=on_progress,
    )
    if "transpose" not in recorded and data.kind == "csv" and data.column_major:
        # older versions turned no table
        data = load(source, test_source, label=recorded.get("label"), transpose=True)
    # of older versions
    return data if "shuffled" in recorded else arranged_as_before(data)


def samples_to_hold_out(recorded: dict[str, Any]) -> int:
    """Return how many training samples the `data` of a config says are held out."""
    return 0 if recorded.get("has_validation_part") else int(recorded["validation_samples"])


def load_for(
    recipe: Recipe | None,
    data: str | None,
    test_data: str | None,
    on_progress: Callable[[str, int, int], None] | None = None,
    label: str | None = None,
    transpose: bool = False,
) -> Dataset:
    """Load what was asked for with --data, --test-data, --label and --transpose.

    Where no data was named, load what the recipe was made for.
    """
    test_source = test_data and source_for(recipe, test_data)
    source = source_for(recipe, data or own_source(recipe))
    return load(source, test_source, label=label, transpose=transpose, on_progress=on_progress)

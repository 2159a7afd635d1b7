"""`recipes`: every recipe with all its settings, or one as a file for `--config`."""

from __future__ import annotations

import json

from backends.functions import LOSSES

from .. import display
from ..recipes import RECIPES, Recipe
from ..running.usage import recipe_named
from ..settings import settings_of


def run(name: str | None = None, /, *, toml: str | None = None) -> int:
    """List every recipe with all its settings.

    The first is shown whole, the others by what differs from it.

        python -m trainer recipes
        python -m trainer recipes hundred
        python -m trainer recipes --toml fast > my.toml

    Parameters
    ----------
    name
        Only this one.
    toml
        Write a recipe as a file of options to start from: recipes --toml fast > my.toml, then
        train --config my.toml.
    """
    if (recipe := recipe_named(toml, "--toml")) is not None:
        for line in _toml(recipe):
            display.line(line)
        return 0
    only = recipe_named(name, "recipes")
    shown = list(RECIPES.values()) if only is None else [only]
    settings = {}
    for known in shown:
        loss = LOSSES[known.loss]
        low, high = loss.targets
        implied = {"output": known.output or loss.output, "targets": f"{low:g} / {high:g}"}
        settings[known.name] = known.settings() | implied
    display.recipes(settings, {known.name: known.about for known in shown})
    return 0


def _toml(recipe: Recipe) -> list[str]:
    """Return the lines of a recipe as a file for `--config`."""
    values = {"recipe": recipe.name} | recipe.settings()
    options = {"recipe", *(name for name, known in settings_of(Recipe).items() if known.is_option)}
    # TOML writes texts, numbers, true, false and lists as JSON does
    lines = [
        f"{name} = {json.dumps(value)}"
        for name, value in values.items()
        if name in options and value is not None
    ]
    return [f"# {recipe.about}", *lines]

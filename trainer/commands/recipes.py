"""`recipes`: every recipe with all its settings."""

from __future__ import annotations

from backends.functions import LOSSES

from .. import display
from ..recipes import RECIPES


def run() -> int:
    """List every recipe with all its settings."""
    settings = {}
    for name, recipe in RECIPES.items():
        loss = LOSSES[recipe.loss]
        low, high = loss.targets
        implied = {"output": recipe.output or loss.output, "targets": f"{low:g} / {high:g}"}
        settings[name] = recipe.settings() | implied
    display.recipes(settings, {name: recipe.about for name, recipe in RECIPES.items()})
    return 0

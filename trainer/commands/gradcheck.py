"""`gradcheck`: the analytic gradient against central differences."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from .. import display
from ..data import load
from ..gradients import TOLERANCE, check, conclude, random_samples
from ..network import MLP
from ..recipes import RECIPES, build, changed, default_recipe, source_for
from . import UsageError, choose, in_options
from .trained import TrainedRun


def run(
    path: Path | None,
    *,
    device: str,
    recipe: str | None,
    data: str | None,
    changes: dict[str, Any],
    seed: int,
    samples: int,
    parameters: int | None,
    step: float,
    as_json: bool,
) -> int:
    """Check a run's network or a recipe's, and say whether it is what it should be."""
    if path is None:
        name, model, (x, y, source) = _of_recipe(recipe, data, changes, device, samples, seed)
    elif changes:
        names = ", ".join(f"--{option.replace('_', '-')}" for option in changes)
        raise UsageError(
            f"{names}: {path} has a network of its own; leave {names} away, or check a recipe's:"
            " python -m trainer gradcheck --recipe NAME"
        )
    else:
        trained = TrainedRun(path, device, recipe=recipe, data=data)
        name, model, (x, y, source) = str(path), trained.model, trained.labelled(data)
    try:
        result = check(model, x, y, samples=samples, parameters=parameters, step=step, seed=seed)
    except ValueError as error:
        raise UsageError(in_options(str(error))) from error
    verdict = conclude(result)
    if as_json:
        about = {"network": name, "sizes": list(model.sizes), "source": source}
        conclusion = {"tolerance": TOLERANCE, "verdict": verdict}
        display.json_line(about | display.as_json(result) | conclusion)
    else:
        display.gradient_check(_title(name, model), source, result, verdict)
    return 0 if result.as_expected else 1


def _of_recipe(
    name: str | None,
    source: str | None,
    changes: dict[str, Any],
    device: str,
    samples: int,
    seed: int,
) -> tuple[str, MLP, tuple[np.ndarray, np.ndarray, str]]:
    if name is not None and name not in RECIPES:
        raise UsageError(
            f"--recipe {name}: there is no such recipe; expected one of {', '.join(RECIPES)}"
            " (see: python -m trainer recipes)"
        )
    recipe = RECIPES[name] if name else None
    backend = choose(device)
    if source is None:
        recipe = recipe or RECIPES["rashid"]
        data = random_samples(recipe, samples=samples, seed=seed)
        described = data.name
    else:
        data = load(source_for(recipe, source))
        recipe = recipe or default_recipe(data)
        described = f"training samples of {data.name}"
    try:
        recipe = changed(recipe, changes | {"dtype": "float64"})
        model = build(recipe, data, backend=backend, seed=seed)
    except ValueError as error:
        raise UsageError(in_options(str(error))) from error
    return f"recipe {recipe.name}", model, (data.train_x, data.train_y, described)


def _title(name: str, model: MLP) -> str:
    spec = model.spec
    penalty = f", l2 {model.l2:g}" if model.l2 else ""
    return (
        f"{name}: {' → '.join(map(str, spec.sizes))}, {spec.activation},"
        f" {'with' if spec.bias else 'no'} bias, {spec.loss}{penalty}, on {model.backend.name}"
    )

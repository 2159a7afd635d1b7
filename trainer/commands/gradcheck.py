"""`gradcheck`: the analytic gradient against central differences."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
from cyclopts import Group, Parameter
from cyclopts.validators import Number

from .. import display
from ..data import load
from ..gradients import PARAMETERS, SAMPLES, STEP, TOLERANCE, check, conclude, random_samples
from ..network import MLP
from ..recipes import RECIPES, build, changed, default_recipe, source_for
from ..running.trained import TrainedRun
from ..running.usage import UsageError, choose, in_options, recipe_named
from ..settings import NetworkSettings
from .options import FLAG, WHOLE, Device, Json, given, one_value

_CHECKED = Group("What to check", sort_key=1)
_NETWORK = Group("The network of a recipe (an option given wins)", sort_key=2)
_CHECK = Group("The check", sort_key=3)
_Options: Any = one_value({NetworkSettings: _NETWORK}, omit=["dtype"])


def _check(help: str, **limits: float) -> Parameter:
    return Parameter(group=_CHECK, help=help, validator=Number(**limits) if limits else None)


def run(
    path: Annotated[
        Path | None,
        Parameter(
            name="RUN",
            group=_CHECKED,
            help="A folder that train wrote; without, a recipe is checked.",
        ),
    ] = None,
    /,
    *,
    recipe: Annotated[
        str | None,
        Parameter(group=_CHECKED, help="See the command recipes. [default: rashid, or the data's]"),
    ] = None,
    data: Annotated[
        str | None,
        Parameter(
            group=_CHECKED,
            help="Draw the samples from this, as train takes it. [default: the run's test part, or"
            " random numbers in the shape of the recipe's data]",
        ),
    ] = None,
    device: Annotated[Device, Parameter(group=_CHECKED)] = "auto",
    options: Annotated[_Options, Parameter(name="*")] = _Options(),  # noqa: B008
    samples: Annotated[
        int, WHOLE, _check("How many samples the loss is the mean of.", gte=1)
    ] = SAMPLES,
    parameters: Annotated[
        int, WHOLE, _check("Vary so many numbers of each array, drawn at random.", gte=1)
    ] = PARAMETERS,
    all: Annotated[bool, FLAG, _check("Vary every number; twice the loss for each.")] = False,
    step: Annotated[float, _check("The h of the differences.", gt=0, lt=1)] = STEP,
    seed: Annotated[
        int, WHOLE, _check("Seed of a recipe's weights, and of what is drawn.", gte=0)
    ] = 0,
    as_json: Annotated[Json, Parameter(group=_CHECK)] = False,
) -> int:
    """Check the gradient against differences of the loss, in float64 (Ng's exercise 4).

    The table has ‖a−n‖ / max(‖a‖, ‖n‖) of every array of weights, a being what back-propagation
    computes and n the slopes (loss(w+h) − loss(w−h)) / 2h. Below 1e-6 it is a gradient. The exit
    code is 0 if it is where it should be: everywhere except in the hidden layers of rashid, whose
    rule is none there.
    """
    changes = given(options)
    if path is None:
        name, model, (x, y, source) = _of_recipe(recipe, data, changes, device, samples, seed)
    elif changes:
        names = ", ".join(f"--{option.replace('_', '-')}" for option in changes)
        raise UsageError(
            f"{names}: {path} has a network of its own; omit {names}, or check a recipe's:"
            " python -m trainer gradcheck --recipe NAME"
        )
    else:
        trained = TrainedRun(path, device, recipe=recipe, data=data)
        name, model, (x, y, source) = str(path), trained.model, trained.labelled(data)
    try:
        varied = None if all else parameters
        result = check(model, x, y, samples=samples, parameters=varied, step=step, seed=seed)
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
    recipe = recipe_named(name)
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

"""`gradcheck`: the analytic gradient against central differences."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Group, Parameter
from cyclopts.validators import Number

from .. import display
from ..gradients import PARAMETERS, SAMPLES, STEP, TOLERANCE, check, conclude, random_samples
from ..recipes import RECIPES, build, changed, for_data
from ..running.trained import TrainedRun
from ..running.usage import UsageError, choose, load_for, recipe_named, typed, usage_errors
from .options import COUNT, WHOLE, Device, Flag, Json, Transpose, given, one_value
from .words import network_words

_CHECKED = Parameter(group=Group("What to check", sort_key=1))
_NETWORK = Parameter(group=Group("The network of a recipe (an option given wins)", sort_key=2))
_CHECK = Parameter(group=Group("The check", sort_key=3))
_Options: Any = one_value(_NETWORK, None, omit=["dtype"])


def run(
    path: Annotated[Path | None, Parameter("RUN"), _CHECKED] = None,
    /,
    *,
    recipe: Annotated[str | None, _CHECKED] = None,
    data: Annotated[str | None, _CHECKED] = None,
    transpose: Annotated[Transpose, _CHECKED] = False,
    device: Annotated[Device, _CHECKED] = "auto",
    options: _Options = _Options(),  # noqa: B008
    samples: Annotated[int, COUNT, _CHECK] = SAMPLES,
    parameters: Annotated[int, COUNT, _CHECK] = PARAMETERS,
    all: Annotated[Flag, _CHECK] = False,
    step: Annotated[float, Parameter(validator=Number(gt=0, lt=1)), _CHECK] = STEP,
    seed: Annotated[int, WHOLE, _CHECK] = 0,
    as_json: Annotated[Json, _CHECK] = False,
) -> int:
    """Check the gradient against differences of the loss, in float64 (Ng's exercise 4).

    The table has ‖a−n‖ / max(‖a‖, ‖n‖) of every array of weights, a being what back-propagation
    computes and n the slopes (loss(w+h) − loss(w−h)) / 2h. Below 1e-6 it is a gradient. The exit
    code is 0 if it is where it should be: everywhere except in the hidden layers of rashid, whose
    rule is none there.

        python -m trainer gradcheck
        python -m trainer gradcheck --loss cross_entropy

    Parameters
    ----------
    path
        A folder that train wrote; without, a recipe is checked.
    recipe
        See the command recipes. [default: rashid, or the data's]
    data
        Draw the samples from this, as train takes it. [default: the run's test part, or random
        numbers in the shape of the recipe's data]
    samples
        How many samples the loss is the mean of.
    parameters
        Vary so many numbers of each array, drawn at random.
    all
        Vary every number; twice the loss for each.
    step
        The h of the differences.
    seed
        Seed of a recipe's weights, and of what is drawn.
    """
    changes = given(options)
    if path is not None:
        if changes:
            names = ", ".join(map(typed, changes))
            raise UsageError(
                f"{names}: {path} has a network of its own; omit {names}, or check a recipe's:"
                " python -m trainer gradcheck --recipe NAME"
            )
        trained = TrainedRun(path, device, recipe=recipe, data=data, transpose=transpose)
        name, model, (x, y, source) = str(path), trained.model, trained.labelled(data)
    else:
        chosen, backend = recipe_named(recipe), choose(device)
        if data is None:
            chosen = chosen or RECIPES["rashid"]
            dataset = random_samples(chosen, samples=samples, seed=seed)
            source = dataset.name
        else:
            dataset = load_for(chosen, data, None, transpose=transpose)
            chosen = for_data(chosen, dataset)
            source = f"training samples of {dataset.name}"
        with usage_errors():
            chosen = changed(chosen, changes | {"dtype": "float64"})
            model = build(chosen, dataset, backend=backend, seed=seed)
        name, x, y = f"recipe {chosen.name}", dataset.train_x, dataset.train_y
    with usage_errors():
        varied = None if all else parameters
        result = check(model, x, y, samples=samples, parameters=varied, step=step, seed=seed)
    verdict = conclude(result)
    if as_json:
        about = {"network": name, "sizes": list(model.sizes), "source": source}
        conclusion = {"tolerance": TOLERANCE, "verdict": verdict}
        display.json_line(about | display.as_json(result) | conclusion)
    else:
        penalty = f", l2 {model.l2:g}" if model.l2 else ""
        loss = f"{model.spec.loss}{penalty}"
        title = f"{name}: {network_words(model)}, {loss}, on {model.backend.name}"
        display.gradient_check(title, source, result, verdict)
    return 0 if result.as_expected else 1

"""What the estimator's parameters may be, and the recipe that they make."""

from __future__ import annotations

from dataclasses import replace
from inspect import signature
from numbers import Integral
from typing import Any

import numpy as np

from backends.functions import ACTIVATIONS

from ..recipes import RECIPES, Recipe, changed
from ..settings import EstimatorSettings, Setting, TrainingSettings, check_value, settings_of
from ..training.minimize import METHODS

_PLAIN = Recipe(
    "scikit-learn",
    "what the defaults of scikit-learn's MLPClassifier leave unsaid",
    activation="relu",
    loss="cross_entropy",
    bias=True,
    init="glorot",
)
_SOLVERS = {"adam": "adam", "sgd": "sgd", "lbfgs": "l-bfgs"}
_ACTIVATIONS = {"logistic": "sigmoid"} | {name: name for name in ACTIVATIONS}
# that only batches use, and scikit-learn's class has not
_OWN = ("dropout", "input_dropout", "batch_norm", "schedule", "averaging", "clip")
# parameters, and the settings that they are
_SETTINGS = {
    "batch_size": "batch_size",
    "learning_rate_init": "learning_rate",
    "max_iter": "epochs",
    "shuffle": "shuffle",
    **{name: name for name in _OWN},
}
_OF_ADAM = ("beta_1", "beta_2", "epsilon")
_AUTO_BATCH = 200
_KNOWN = settings_of(EstimatorSettings)
# parameters, and settings that may have the same values
_CHECKED = {
    **{name: _KNOWN[setting] for name, setting in _SETTINGS.items()},
    # a rate of 0 learns nothing
    "learning_rate_init": replace(_KNOWN["learning_rate"], range=_KNOWN["clip"].range),
    **{name: _KNOWN[name] for name in ("alpha", "momentum", *_OF_ADAM)},
    **dict.fromkeys(("power_t", "tol"), _KNOWN["alpha"]),
    **dict.fromkeys(("n_iter_no_change", "max_fun"), _KNOWN["epochs"]),
    "validation_fraction": _KNOWN["dropout"],
    "activation": Setting("relu", choices=_ACTIVATIONS),
    "solver": Setting("adam", choices=_SOLVERS),
    "learning_rate": Setting("constant", choices=("constant", "invscaling", "adaptive")),
    "recipe": Setting(None, choices=RECIPES),
}
_WORDS = {"batch_size": "auto", "n_iter_no_change": np.inf}  # that are values, too
_SWITCHES = ("shuffle", "warm_start", "nesterovs_momentum", "early_stopping", "batch_norm")


class Plan:
    """What an estimator's parameters ask for.

    Attributes
    ----------
    recipe : Recipe
        The network and the training, but for what `settings` adds.
    is_full_batch : bool
        Whether all samples are seen at every step, by `trainer.minimize`.
    follows_schedule : bool
        Whether the training has an end of its own, so that `tol` ends nothing.

    Raises
    ------
    ValueError
        If a parameter is out of range, or does not go with another; the message names what was
        given and expected.
    """

    def __init__(self, estimator: Any) -> None:
        given = _checked(estimator)
        base = _PLAIN
        if estimator.recipe is not None:
            # one that has its default leaves the recipe as it is
            base, known = RECIPES[estimator.recipe], signature(type(estimator)).parameters
            given = {name: value for name, value in given.items() if value != known[name].default}
        self._given = given
        self.recipe = _changed(base, given)
        self.is_full_batch = self.recipe.optimizer in METHODS
        self.follows_schedule = estimator.recipe is not None or self.recipe.schedule != "constant"

    def alpha(self, n: int) -> float:
        """Return α for n samples: a recipe's λ is one of all samples and not of a batch's."""
        if "alpha" in self._given:
            return float(self._given["alpha"])
        return self.recipe.l2 * (1 if self.is_full_batch else min(self.recipe.batch_size / n, 1))

    def settings(self, alpha: float, **changes: Any) -> EstimatorSettings:
        """Return the settings of a training by batches."""
        fields = {name: getattr(self.recipe, name) for name in settings_of(TrainingSettings)}
        fields |= {name: self._given[name] for name in _OF_ADAM if name in self._given}
        return EstimatorSettings(**fields | {"alpha": alpha} | changes)


def _checked(estimator: Any) -> dict[str, Any]:
    """Return the parameters of an estimator, checked."""
    found = estimator.get_params(deep=False)
    for name, setting in _CHECKED.items():
        if name not in _WORDS:
            check_value(name, setting, found[name])
        elif found[name] != (word := _WORDS[name]):
            try:
                check_value(name, setting, found[name])
            except ValueError as error:
                raise ValueError(f"{error}, or {word!r}") from None
    for name in _SWITCHES:
        if not isinstance(found[name], bool | np.bool_):
            raise ValueError(f"{name}={found[name]!r}: expected True or False")
    if found["schedule"] != "constant" and found["learning_rate"] != "constant":
        raise ValueError(
            f"schedule={found['schedule']!r} and learning_rate={found['learning_rate']!r}: expected"
            " one of them to be 'constant'"
        )
    hidden = found["hidden_layer_sizes"]
    sizes = tuple(hidden) if np.iterable(hidden) else (hidden,)
    if not all(isinstance(size, Integral) and int(size) > 0 for size in sizes):
        raise ValueError(
            f"hidden_layer_sizes={hidden!r}: expected whole numbers, one or more: 100 or (100,)"
        )
    return found | {"hidden_layer_sizes": tuple(int(size) for size in sizes)}


def _changed(base: Recipe, given: dict[str, Any]) -> Recipe:
    """Change a recipe by the parameters given."""
    changes: dict[str, Any] = {}
    if "hidden_layer_sizes" in given:
        changes["hidden"] = given["hidden_layer_sizes"]
    if "activation" in given:
        changes["activation"] = _ACTIVATIONS[given["activation"]]
    optimizer = _SOLVERS[given["solver"]] if "solver" in given else base.optimizer
    if optimizer in METHODS:
        for name in _OWN:
            if given.get(name, _KNOWN[name].default) != _KNOWN[name].default:
                raise ValueError(
                    f"{name}={given[name]!r} is for batches: take solver='adam' or 'sgd', not"
                    f" {given.get('solver', optimizer)!r}"
                )
        if "max_iter" in given:
            changes["max_iterations"] = given["max_iter"]
    else:
        changes |= {_SETTINGS[name]: given[name] for name in _SETTINGS if name in given}
        if changes.get("batch_size") == _WORDS["batch_size"]:
            changes["batch_size"] = _AUTO_BATCH
    if optimizer in ("sgd", "nesterov"):
        changes["momentum"] = given.get("momentum", base.momentum)
        is_nesterov = given.get("nesterovs_momentum", base.optimizer == "nesterov")
        optimizer = "nesterov" if changes["momentum"] and is_nesterov else "sgd"
    return changed(base, changes | {"optimizer": optimizer})

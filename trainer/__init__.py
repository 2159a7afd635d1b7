"""Train a multi-layer perceptron on NumPy or CuPy.

>>> from backends import select
>>> from trainer import MLP, fit, load
>>> data = load("digits")
>>> model = MLP([64, 100, 10], backend=select("cpu"), scale=0.99 / 16)
>>> for report in fit(model, data.train_x, data.train_y, test=(data.test_x, data.test_y)):
...     pass
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .augmentation import Deformation
    from .data import DataError, Dataset, load
    from .display import watch
    from .estimator import MLPClassifier
    from .network import MLP
    from .rate_search import RateSearch, find_learning_rate
    from .settings import NetworkSettings, TrainingSettings
    from .training import BatchProgress, Diverged, EpochReport, Training, TrainingState, fit
    from .training.minimize import IterationReport, Minimum, minimize

__version__ = "0.1.0"

__all__ = [
    "MLP",
    "BatchProgress",
    "DataError",
    "Dataset",
    "Deformation",
    "Diverged",
    "EpochReport",
    "IterationReport",
    "MLPClassifier",
    "Minimum",
    "NetworkSettings",
    "RateSearch",
    "Training",
    "TrainingSettings",
    "TrainingState",
    "find_learning_rate",
    "fit",
    "load",
    "minimize",
    "watch",
]

_HOMES = {
    "augmentation": ("Deformation",),
    "data": ("DataError", "Dataset", "load"),
    "display": ("watch",),
    "estimator": ("MLPClassifier",),
    "training": ("BatchProgress", "Diverged", "EpochReport", "Training", "TrainingState", "fit"),
    "training.minimize": ("IterationReport", "Minimum", "minimize"),
    "network": ("MLP",),
    "rate_search": ("RateSearch", "find_learning_rate"),
    "settings": ("NetworkSettings", "TrainingSettings"),
}


def __getattr__(name: str) -> Any:
    """Import a public name at its first use: the command line must first learn to hear Ctrl-C."""
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f".{home}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

"""Train a multi-layer perceptron on NumPy or CuPy.

>>> from backends import select
>>> from trainer import MLP, fit, load
>>> data = load("digits")
>>> model = MLP([64, 100, 10], backend=select("cpu"), scale=0.99 / 16)
>>> for report in fit(model, data.train_x, data.train_y, test=(data.test_x, data.test_y)):
...     pass
"""

from __future__ import annotations

from .augmentation import Deformation
from .data import DataError, Dataset, load
from .fitting import BatchProgress, Diverged, EpochReport, fit
from .minimizing import IterationReport, Minimum, minimize
from .network import MLP

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
    "Minimum",
    "fit",
    "load",
    "minimize",
]

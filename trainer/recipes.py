"""Recipes: named, frozen settings, of the published lessons and ours."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from backends import Backend

from .data import Dataset
from .network import MLP


@dataclass(frozen=True)
class Recipe:
    """Everything that a training needs besides the data.

    Attributes
    ----------
    name, about : str
        What it is called, and in a line what it is and where it comes from.
    hidden : tuple of int
        Units of the hidden layers.
    activation, output, loss, bias, init, l2, dtype
        As `MLP` takes them; an output of None is the one the loss implies.
    inputs : {"scaled", "standardised"}
        Either the data's value range goes to 0.01…1, or every feature gets mean 0 and standard
        deviation 1 over the training samples, and a constant one 0.
    epochs, batch_size, learning_rate, optimizer, momentum, shuffle
        As `fit` takes them.
    """

    name: str
    about: str
    hidden: tuple[int, ...] = (200,)
    activation: str = "sigmoid"
    output: str | None = None
    loss: str = "rashid"
    bias: bool = False
    init: str = "hidden"
    l2: float = 0.0
    dtype: str = "float32"
    inputs: str = "scaled"
    epochs: int = 5
    batch_size: int = 1
    learning_rate: float = 0.1
    optimizer: str = "sgd"
    momentum: float = 0.0
    shuffle: bool = False

    def settings(self) -> dict[str, Any]:
        """All of it but the name and the line about it, for JSON and for tables."""
        fields = dataclasses.asdict(self)
        del fields["name"], fields["about"]
        return fields | {"hidden": list(self.hidden)}


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe("rashid", "the lessons' network and rule, as in their published notebooks"),
        Recipe(
            "book", "Rashid, Make Your Own Neural Network (2016): fan-in weights", init="fan_in"
        ),
        Recipe("hundred", "the book's 100-sample training set, 24 times over", epochs=24),
        Recipe(
            "digits",
            "scikit-learn's 8×8 digits, standardised, one hidden layer of 100",
            hidden=(100,),
            loss="squared_error",
            init="uniform:1",
            inputs="standardised",
            learning_rate=0.3,
            epochs=30,
            shuffle=True,
        ),
    )
}


def default_recipe(data: Dataset) -> Recipe:
    """The recipe where none is named: the 8×8 digits have their own, all else the lessons'."""
    return RECIPES["digits" if data.kind == "digits" else "rashid"]


def input_map(inputs: str, value_range: tuple[float, float], train_x: np.ndarray) -> tuple:
    """Find the scale and shift of the input map.

    Parameters
    ----------
    inputs : {"scaled", "standardised"}
    value_range : tuple of float
        Smallest and largest value the data can have.
    train_x : array, shape (n, features)
        The samples that will be trained on; no others are looked at.

    Returns
    -------
    scale, shift : float, or array of shape (features,)
    """
    if inputs == "scaled":
        low, high = value_range
        scale = 0.99 / (high - low) if high > low else 0.0
        return scale, 0.01 - low * scale
    mean = train_x.mean(axis=0, dtype=np.float64)
    deviation = train_x.std(axis=0, dtype=np.float64)
    constant = train_x.min(axis=0) == train_x.max(axis=0)
    scales = np.where(constant, 0.0, 1 / np.where(constant, 1.0, deviation))
    return scales, -mean * scales


def build(recipe: Recipe, data: Dataset, *, backend: Backend, seed: int | None = 0) -> MLP:
    """Make a recipe's network for a data set: its width, classes and input map are the data's."""
    scale, shift = input_map(recipe.inputs, data.value_range, data.train_x)
    return MLP(
        [data.train_x.shape[1], *recipe.hidden, len(data.classes)],
        backend=backend,
        activation=recipe.activation,
        output=recipe.output,
        loss=recipe.loss,
        bias=recipe.bias,
        init=recipe.init,
        seed=seed,
        dtype=recipe.dtype,
        scale=scale,
        shift=shift,
        l2=recipe.l2,
    )

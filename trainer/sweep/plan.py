"""What a sweep trains: a recipe, every combination of some options, and seeds."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass, replace
from itertools import product
from typing import Any

from backends import Backend, select

from ..data import Dataset
from ..network import MLP
from ..recipes import Recipe, augmentation, build, changed
from ..training import fit
from ..training.minimize import check
from .values import KINDS, Span, as_text

Values = dict[str, Any]


@dataclass(frozen=True)
class Trial:
    """One run: what it differs by from the others of its sweep."""

    values: Values
    seed: int
    _: KW_ONLY
    number: int | None = None  # from 0, of one whose values a sampler chose

    @property
    def key(self) -> tuple[str, ...]:
        """As `sweep.csv` names it."""
        return (*map(as_text, self.values.values()), str(self.seed))


@dataclass(frozen=True)
class Search:
    """Trials whose values a sampler chooses, from ranges and from the lists of a grid."""

    sampler: str
    trials: int
    ranges: dict[str, Span]


@dataclass(frozen=True)
class Plan:
    """What a sweep trains.

    Its options are the settings; "augment" is what `read_augment` takes with + between, or "none".
    """

    recipe: Recipe
    changes: Values  # options that win over the recipe's, in every run
    grid: dict[str, tuple[Any, ...]]  # options, and the values that they take
    seeds: tuple[int, ...] = (0,)
    search: Search | None = None  # which takes the place of every combination

    def __len__(self) -> int:
        if self.search is not None:
            return self.search.trials
        return math.prod(map(len, self.grid.values())) * len(self.seeds)

    @property
    def ranges(self) -> dict[str, Span]:
        """Those that a sampler chooses from."""
        return self.search.ranges if self.search is not None else {}

    @property
    def varied(self) -> tuple[str, ...]:
        """Names of the options that differ between runs."""
        return (*self.grid, *self.ranges)

    def middle(self) -> Trial:
        """Return a trial as a sampler may choose it, to judge by how long one takes."""
        values = {name: values[0] for name, values in self.grid.items()}
        return Trial(values | {k: s.middle() for k, s in self.ranges.items()}, self.seeds[0])

    def trials(self) -> Iterator[Trial]:
        """All runs, every combination with the first seed before any with the second."""
        for seed in self.seeds:
            for values in product(*self.grid.values()):
                yield Trial(dict(zip(self.grid, values, strict=True)), seed)

    def settings(self, values: Values) -> Recipe:
        """Find the recipe that values stand for; ValueError if for none."""
        changes = self.changes | values
        augment = changes.pop("augment", None)
        if augment is not None:
            changes["augment"] = () if augment == "none" else tuple(augment.split("+"))
        return changed(self.recipe, changes)

    def check(self, dataset: Dataset) -> None:
        """Raise ValueError if a value, or a combination of names, is none that can be trained."""
        x, y = dataset.train_x[:1, :1], dataset.train_y[:1]
        least = replace(dataset, train_x=x, train_y=y, columns=None)
        cpu = select("cpu")
        tried = self.grid | {name: span.ends() for name, span in self.ranges.items()}
        # label smoothing goes with some losses only
        words = [n for n in tried if KINDS[n] in (str, bool) or n == "label_smoothing"]
        first = {name: values[0] for name, values in tried.items()}
        combinations = [
            first | dict(zip(words, values, strict=True))
            for values in product(*(tried[name] for name in words))
        ]
        combinations += [
            first | {name: value}
            for name, values in tried.items()
            if name not in words
            for value in values[1:]
        ]
        for values in combinations:
            recipe = self.settings(values)
            augmentation(recipe, dataset)
            new_network(recipe, 0, least, cpu)


def new_network(recipe: Recipe, seed: int, data: Dataset, backend: Backend) -> MLP:
    """Make a new network; ValueError if it cannot be trained so."""
    model = build(recipe, data, backend=backend, seed=seed)
    if recipe.sees_all_samples:
        check(model, recipe.optimizer, recipe.max_iterations)
    else:
        fit(model, data.train_x, data.train_y, replace(recipe, augment=()), seed=seed)
    return model

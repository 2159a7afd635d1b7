"""Optimisers by name: each holds its state between steps, and the backend makes the steps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from math import inf

from backends import Backend, Batches, NetworkSpec, Rule
from backends.functions import Array

from ..settings import EstimatorSettings, TrainingSettings


class Optimizer(ABC):
    """What `fit` asks of an optimiser.

    It has made so many `steps`, updates, so far. Its `memory` is its state by name: arrays shaped
    like the weights, which may be set.
    """

    def __init__(
        self, backend: Backend, weights: Sequence[Array], settings: TrainingSettings
    ) -> None:
        self._backend, self._settings, self.steps = backend, settings, 0
        self._clip = inf if settings.clip is None else float(settings.clip)
        zeros = backend.xp.zeros_like
        self.memory = {name: [zeros(w) for w in weights] for name in self._names()}

    @abstractmethod
    def _names(self) -> tuple[str, ...]:
        """Return the names in `memory`."""

    @abstractmethod
    def _rule(self) -> Rule:
        """Return how gradients change the weights."""

    def block(self, batch_size: int) -> int:
        """Return the samples in a block, between which `learn` may pause, see `Backend.block`."""
        return batch_size

    def learn(
        self,
        spec: NetworkSpec,
        weights: Sequence[Array],
        batches: Batches,
        average: Sequence[Array] = (),
    ) -> Array:
        """Make a step for each batch, in place, also of an average; see `Backend.learn`."""
        before, self.steps = self.steps, self.steps + len(batches.rates)
        rule = self._rule()._replace(clip=self._clip)
        states = [weights, *self.memory.values()]
        if average:
            states.append(average)
            rule = rule._replace(averaging=float(self._settings.averaging))
        return self._backend.learn(spec, states, batches, rule, before)


class SGD(Optimizer):
    """Stochastic gradient descent, w ← w - ηg, or with momentum v ← μv - ηg, w ← w + v.

    Nesterov's is v ← μv - ηg, w ← w + μv - ηg. With a clip, the gradients of a batch are scaled so
    that their joint norm is at most that.
    """

    def _names(self) -> tuple[str, ...]:
        return ("velocity",) if self._settings.momentum else ()

    def _rule(self) -> Rule:
        return Rule(float(self._settings.momentum), self._settings.optimizer == "nesterov")

    def block(self, batch_size: int) -> int:
        return self._backend.block(batch_size)


class Adam(Optimizer):
    """Adam (Kingma and Ba 2015) with the paper's β₁ = 0.9, β₂ = 0.999, ε = 10⁻⁸.

    With a weight decay it is AdamW (Loshchilov and Hutter 2019); biases do not decay.
    """

    def _names(self) -> tuple[str, ...]:
        return "mean", "square"

    def _rule(self) -> Rule:
        settings = self._settings
        rule = Rule(betas=(0.9, 0.999), epsilon=1e-8, decay=float(settings.weight_decay))
        if isinstance(settings, EstimatorSettings):
            betas = float(settings.beta_1), float(settings.beta_2)
            epsilon = float(settings.epsilon)
            rule = rule._replace(betas=betas, epsilon=epsilon, scales_epsilon=True)
        return rule


OPTIMIZERS: dict[str, type[SGD | Adam]] = {"sgd": SGD, "nesterov": SGD, "adam": Adam, "adamw": Adam}

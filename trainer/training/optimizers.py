"""Optimisers by name: each holds its state between steps, and the backend makes the steps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from math import inf

from backends import Backend, Batches, NetworkSpec
from backends.functions import Array

from ..settings import TrainingSettings


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

    def block(self, batch_size: int) -> int:
        """Return the samples in a block, between which `learn` may pause, see `Backend.block`."""
        return batch_size

    @abstractmethod
    def learn(self, spec: NetworkSpec, weights: Sequence[Array], batches: Batches) -> Array:
        """Change the weights in place, one step per batch; see `Backend.sgd`."""


class SGD(Optimizer):
    """Stochastic gradient descent, w ← w - ηg, or with momentum v ← μv - ηg, w ← w + v.

    Nesterov's is v ← μv - ηg, w ← w + μv - ηg. With a clip, the gradients of a batch are scaled so
    that their joint norm is at most that.
    """

    def _names(self) -> tuple[str, ...]:
        return ("velocity",) if self._settings.momentum else ()

    def block(self, batch_size: int) -> int:
        return self._backend.block(batch_size)

    def learn(self, spec: NetworkSpec, weights: Sequence[Array], batches: Batches) -> Array:
        self.steps += len(batches.rates)
        velocities, momentum = self.memory.get("velocity", []), float(self._settings.momentum)
        nesterov = self._settings.optimizer == "nesterov"
        return self._backend.sgd(
            spec, weights, velocities, batches, momentum, nesterov=nesterov, clip=self._clip
        )


class Adam(Optimizer):
    """Adam (Kingma and Ba 2015) with the paper's β₁ = 0.9, β₂ = 0.999, ε = 10⁻⁸.

    With a weight decay it is AdamW (Loshchilov and Hutter 2019); biases do not decay.
    """

    def _names(self) -> tuple[str, ...]:
        return "mean", "square"

    def learn(self, spec: NetworkSpec, weights: Sequence[Array], batches: Batches) -> Array:
        before, self.steps = self.steps, self.steps + len(batches.rates)
        means, squares = self.memory["mean"], self.memory["square"]
        decay = float(self._settings.weight_decay)
        return self._backend.adam(
            spec, weights, means, squares, batches, before, decay=decay, clip=self._clip
        )


OPTIMIZERS: dict[str, type[SGD | Adam]] = {"sgd": SGD, "nesterov": SGD, "adam": Adam, "adamw": Adam}

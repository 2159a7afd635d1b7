"""Optimisers by name: each holds its state between steps, and the backend makes the steps."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Protocol

from backends import Backend, Batches, NetworkSpec
from backends.functions import Array

from ..settings import TrainingSettings


class Optimizer(Protocol):
    """What `fit` asks of an optimiser.

    Attributes
    ----------
    steps : int
        Updates made so far.
    """

    steps: int

    def __init__(
        self, backend: Backend, weights: Sequence[Array], settings: TrainingSettings
    ) -> None:
        """Make the state before the first step; raise ValueError for a setting it does not use."""

    def memory(self) -> dict[str, Sequence[Array]]:
        """Return its state by name: arrays shaped like the weights, which may be set."""

    def block(self, batch_size: int) -> int:
        """Return the samples in a block, between which `learn` may pause, see `Backend.block`."""

    def learn(self, spec: NetworkSpec, weights: Sequence[Array], batches: Batches) -> Array:
        """Change the weights in place, one step per batch; see `Backend.sgd`."""


def _clip(settings: TrainingSettings) -> float:
    return inf if settings.clip is None else float(settings.clip)


class SGD:
    """Stochastic gradient descent, w ← w - ηg, or with momentum v ← μv - ηg, w ← w + v.

    With a clip, the gradients of a batch are scaled so that their joint norm is at most that.
    """

    nesterov = False

    def __init__(
        self, backend: Backend, weights: Sequence[Array], settings: TrainingSettings
    ) -> None:
        if settings.weight_decay:
            raise ValueError(
                f"weight_decay={settings.weight_decay} goes with optimizer='adamw'; sgd takes l2=1"
            )
        self.backend = backend
        self.momentum, self.clip = float(settings.momentum), _clip(settings)
        self.velocities = [backend.xp.zeros_like(w) for w in weights] if self.momentum else []
        self.steps = 0

    def memory(self) -> dict[str, Sequence[Array]]:
        return {"velocity": self.velocities}

    def block(self, batch_size: int) -> int:
        return self.backend.block(batch_size)

    def learn(self, spec: NetworkSpec, weights: Sequence[Array], batches: Batches) -> Array:
        self.steps += len(batches.rates)
        return self.backend.sgd(
            spec,
            weights,
            self.velocities,
            batches,
            self.momentum,
            nesterov=self.nesterov,
            clip=self.clip,
        )


class Nesterov(SGD):
    """SGD with Nesterov's momentum, v ← μv - ηg, w ← w + μv - ηg."""

    nesterov = True

    def __init__(
        self, backend: Backend, weights: Sequence[Array], settings: TrainingSettings
    ) -> None:
        if not settings.momentum:
            raise ValueError("optimizer='nesterov' needs a momentum: take momentum=0.9")
        super().__init__(backend, weights, settings)


class Adam:
    """Adam (Kingma and Ba 2015) with the paper's β₁ = 0.9, β₂ = 0.999, ε = 10⁻⁸."""

    def __init__(
        self, backend: Backend, weights: Sequence[Array], settings: TrainingSettings
    ) -> None:
        if settings.momentum:
            raise ValueError(
                f"momentum={settings.momentum} goes with optimizer='sgd'; adam has its own"
            )
        if settings.weight_decay and type(self) is Adam:
            raise ValueError(f"weight_decay={settings.weight_decay} goes with optimizer='adamw'")
        self.backend = backend
        self.weight_decay, self.clip = float(settings.weight_decay), _clip(settings)
        self.means = [backend.xp.zeros_like(w) for w in weights]
        self.squares = [backend.xp.zeros_like(w) for w in weights]
        self.steps = 0

    def memory(self) -> dict[str, Sequence[Array]]:
        return {"mean": self.means, "square": self.squares}

    def block(self, batch_size: int) -> int:
        return batch_size

    def learn(self, spec: NetworkSpec, weights: Sequence[Array], batches: Batches) -> Array:
        before, self.steps = self.steps, self.steps + len(batches.rates)
        return self.backend.adam(
            spec,
            weights,
            self.means,
            self.squares,
            batches,
            before,
            decay=self.weight_decay,
            clip=self.clip,
        )


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019), biases excluded."""


OPTIMIZERS: dict[str, type[Optimizer]] = {
    "sgd": SGD,
    "nesterov": Nesterov,
    "adam": Adam,
    "adamw": AdamW,
}

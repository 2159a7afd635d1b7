"""Optimisers by name: each holds its state between steps, and the backend makes the steps."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from backends import Backend, Batches, NetworkSpec
from backends.functions import Array

from ..settings import TrainingSettings


class Optimizer:
    """What `fit` asks of an optimiser; it raises ValueError for a setting that it does not use.

    Attributes
    ----------
    steps : int
        Updates made so far.
    memory : dict of str to list of array
        Its state by name: arrays shaped like the weights, which may be set.
    """

    kinds: tuple[str, ...] = ()  # the names of its state

    def __init__(
        self, backend: Backend, weights: Sequence[Array], settings: TrainingSettings
    ) -> None:
        self.backend, self.steps = backend, 0
        self._clip = inf if settings.clip is None else float(settings.clip)
        zeros = backend.xp.zeros_like
        self.memory = {kind: [zeros(w) for w in weights] for kind in self.kinds}

    def block(self, batch_size: int) -> int:
        """Return the samples in a block, between which `learn` may pause, see `Backend.block`."""
        return batch_size

    def learn(self, spec: NetworkSpec, weights: Sequence[Array], batches: Batches) -> Array:
        """Change the weights in place, one step per batch; see `Backend.sgd`."""
        raise NotImplementedError


class SGD(Optimizer):
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
        if self.nesterov and not settings.momentum:
            raise ValueError("optimizer='nesterov' needs a momentum: take momentum=0.9")
        self._momentum = float(settings.momentum)
        self.kinds = ("velocity",) if self._momentum else ()
        super().__init__(backend, weights, settings)

    def block(self, batch_size: int) -> int:
        return self.backend.block(batch_size)

    def learn(self, spec: NetworkSpec, weights: Sequence[Array], batches: Batches) -> Array:
        self.steps += len(batches.rates)
        velocities, momentum = self.memory.get("velocity", []), self._momentum
        return self.backend.sgd(
            spec, weights, velocities, batches, momentum, nesterov=self.nesterov, clip=self._clip
        )


class Nesterov(SGD):
    """SGD with Nesterov's momentum, v ← μv - ηg, w ← w + μv - ηg."""

    nesterov = True


class Adam(Optimizer):
    """Adam (Kingma and Ba 2015) with the paper's β₁ = 0.9, β₂ = 0.999, ε = 10⁻⁸."""

    kinds = ("mean", "square")

    def __init__(
        self, backend: Backend, weights: Sequence[Array], settings: TrainingSettings
    ) -> None:
        if settings.momentum:
            raise ValueError(
                f"momentum={settings.momentum} goes with optimizer='sgd'; adam has its own"
            )
        if settings.weight_decay and type(self) is Adam:
            raise ValueError(f"weight_decay={settings.weight_decay} goes with optimizer='adamw'")
        self._decay = float(settings.weight_decay)
        super().__init__(backend, weights, settings)

    def learn(self, spec: NetworkSpec, weights: Sequence[Array], batches: Batches) -> Array:
        before, self.steps = self.steps, self.steps + len(batches.rates)
        means, squares = self.memory["mean"], self.memory["square"]
        return self.backend.adam(
            spec, weights, means, squares, batches, before, decay=self._decay, clip=self._clip
        )


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019), biases excluded."""


OPTIMIZERS = {"sgd": SGD, "nesterov": Nesterov, "adam": Adam, "adamw": AdamW}

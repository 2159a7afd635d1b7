"""Optimisers by name: what they remember between steps; the steps stand in the backend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from backends import Backend
from backends.functions import Array


class SGD:
    """Stochastic gradient descent, w ← w - ηg, or with momentum v ← μv - ηg, w ← w + v."""

    def __init__(self, backend: Backend, weights: Sequence[Array], momentum: float = 0.0) -> None:
        self.backend = backend
        self.momentum = momentum
        self.velocities = [backend.xp.zeros_like(w) for w in weights] if momentum else []

    def step(self, weights: Sequence[Array], gradients: Sequence[Array], rate: float) -> None:
        """Change the weights in place."""
        for i, (w, gradient) in enumerate(zip(weights, gradients, strict=True)):
            velocity = self.velocities[i] if self.velocities else None
            self.backend.sgd_step(w, velocity, gradient, rate, self.momentum)


class Adam:
    """Adam (Kingma and Ba 2015) with the paper's β₁ = 0.9, β₂ = 0.999, ε = 10⁻⁸."""

    def __init__(self, backend: Backend, weights: Sequence[Array], momentum: float = 0.0) -> None:
        if momentum:
            raise ValueError(f"momentum={momentum} goes with optimizer='sgd'; adam has its own")
        self.backend = backend
        self.means = [backend.xp.zeros_like(w) for w in weights]
        self.squares = [backend.xp.zeros_like(w) for w in weights]
        self.steps = 0

    def step(self, weights: Sequence[Array], gradients: Sequence[Array], rate: float) -> None:
        """Change the weights in place."""
        self.steps += 1
        for w, mean, square, gradient in zip(
            weights, self.means, self.squares, gradients, strict=True
        ):
            self.backend.adam_step(
                w, mean, square, gradient, rate, self.steps, beta1=0.9, beta2=0.999, epsilon=1e-8
            )


OPTIMIZERS: dict[str, Any] = {"sgd": SGD, "adam": Adam}

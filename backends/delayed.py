"""Batch size 1, exactly, as matrix products: the weights change after every sample, in blocks.

Within a block W_1 changes by x_sᵀ d_s a sample, so what sample t sees of it is known without
forming it (a delayed, rank-B update):

    z_t = x_t W + b + Σ_(s<t) (x_t · x_s + 1) d_s

with the + 1 only beside a bias. X W and the Gram matrix X Xᵀ are one matrix product a block; what
is left to do in sequence is small. Momentum and decay change nothing but the coefficients of these
terms, see `block_coefficients`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from .functions import Array

if TYPE_CHECKING:
    from .base import Backend, Layer, NetworkSpec
    from .feeding import Batches, Rule, States


def block_coefficients(
    rates: tuple[float, ...], momentum: float, penalty: float
) -> list[list[float]]:
    """Unroll V ← μV - η_s p W + xᵀd, W ← W + V over a block of B samples.

    Both states are linear in W_0, U (the velocity at the block's start) and every step d_s, so one
    pair of numbers for each of them, carried through the B steps, is the whole of momentum, decay
    and changing rates. Of the B + 2 rows returned row t is that of
    ``W_t = c[0] W_0 + c[1] U + Σ_s c[2 + s] x_sᵀ d_s``, t = 0 … B; the last is the velocity's.
    """
    size = len(rates)
    weight = [1.0, 0.0] + [0.0] * size
    speed = [0.0, 1.0] + [0.0] * size
    rows = [weight]
    for t, rate in enumerate(rates):
        speed = [momentum * v - rate * penalty * w for v, w in zip(speed, weight, strict=True)]
        speed[2 + t] = 1.0
        weight = [w + v for w, v in zip(weight, speed, strict=True)]
        rows.append(weight)
    return [*rows, speed]


class OnlineSGD:
    """SGD with batch size 1 on one network, whose states it changes in place.

    The sequential part consists of the backend's operations; of the rule the momentum counts.
    """

    def __init__(
        self, backend: Backend, spec: NetworkSpec, states: States, rule: Rule, penalty: float
    ) -> None:
        self._backend, self._spec = backend, spec
        self._rule, self._penalty = rule, penalty
        nothing: Layer = None, None
        self._W, self._b = spec.layers(states[0])[0]
        self._U, self._u = spec.layers(states[1])[0] if rule.momentum else nothing
        self._deeper = [state[2 if spec.bias else 1 :] for state in states]

        def coefficients(rates: tuple[float, ...], penalty: float) -> Array:
            rows = block_coefficients(rates, rule.momentum, penalty)
            return backend.xp.asarray(rows, dtype=spec.dtype)

        # at a constant rate all whole blocks have the same
        self._coefficients = lru_cache(maxsize=4)(coefficients)

    def learn(self, batches: Batches) -> Array:
        """Learn samples in order, `block_size` of the backend at a time; returns their losses."""
        backend, n = self._backend, batches.labels.shape[0]
        losses = []
        for start in range(0, n, backend.block_size):
            block = slice(start, min(start + backend.block_size, n))
            x = backend.inputs(self._spec, batches.values[block, :])
            losses.append(self._learn_block(x, batches.labels[block], tuple(batches.rates[block])))
        return backend.xp.concat(losses)

    def _learn_block(self, x: Array, labels: Array, rates: tuple[float, ...]) -> Array:
        W, b, U, u = self._W, self._b, self._U, self._u
        z = x @ W
        mixing = x @ x.T
        if U is None and not self._penalty:  # every coefficient is one
            if b is not None:
                z += b
                mixing += 1
            d, losses = self._recurrence(z, mixing, labels, rates)
            W += x.T @ d
            if b is not None:
                b += self._backend.xp.sum(d, axis=0)
            return losses
        of_W = self._coefficients(rates, self._penalty)
        of_b = self._coefficients(rates, 0.0)
        z *= of_W[:-2, :1]
        mixing *= of_W[:-2, 2:]
        if U is not None:
            z += of_W[:-2, 1:2] * (x @ U)
        if b is not None:
            z += b
            mixing += of_b[:-2, 2:]
            if u is not None:
                z += of_b[:-2, 1:2] * u
        d, losses = self._recurrence(z, mixing, labels, rates)
        _end_block(of_W, W, U, x.T, d)
        if b is not None:
            _end_block(of_b, b, u, self._backend.xp.ones_like(labels, dtype=self._spec.dtype), d)
        return losses

    def _recurrence(
        self, z: Array, mixing: Array, labels: Array, rates: tuple[float, ...]
    ) -> tuple[Array, Array]:
        """Run the sequential part of a block, in which the deeper layers change.

        z, shape (B, sizes[1]), is each sample's first pre-activation as far as the block's start
        determines it, and ``mixing[t, s]`` what sample t's z gets of the step d_s, for s < t.
        Return the first layer's steps d = -η δ_1, shape (B, sizes[1]), and the samples' losses.
        """
        backend, spec = self._backend, self._spec
        d = backend.xp.zeros_like(z)
        losses = backend.xp.zeros_like(z[:, 0])
        targets = backend.targets(spec, labels)
        weights, *velocities = self._deeper
        layers = spec.layers(weights)
        for t, rate in enumerate(rates):
            now = slice(t, t + 1)
            z_t = z[now, :] + mixing[now, :t] @ d[:t, :]
            hidden, kept, logits, outputs = backend.forward(spec, layers, z_t)
            losses[now] = backend.losses(spec, logits, outputs, targets[now, :])
            deltas = backend.backward(spec, layers, kept, outputs, targets[now, :])
            d[now, :] = -rate * deltas[0]
            products = backend.products(hidden, deltas[1:])
            gradients = backend.gradients(layers, products, deltas[1:], self._penalty, 1)
            for w, gradient, *velocity in zip(weights, gradients, *velocities, strict=True):
                backend.sgd_step(w, velocity[0] if velocity else None, gradient, rate, self._rule)
        return d, losses


def _end_block(c: Array, w: Array, velocity: Array | None, xT: Array, d: Array) -> None:
    """Carry w (and its velocity) over a whole block with its coefficients."""
    end = c[-2, 0] * w + xT @ (c[-2, 2:, None] * d)
    if velocity is not None:
        end += c[-2, 1] * velocity
        velocity[...] = c[-1, 0] * w + c[-1, 1] * velocity + xT @ (c[-1, 2:, None] * d)
    w[...] = end

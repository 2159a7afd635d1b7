"""The steps of every optimiser, as passes over pieces that stay in the first cache.

The meaning is `Backend.clipped`, `sgd_step` and `adam_step`, and `Rule.move_average`. A piece goes
through all that is asked for before the next one is read from memory, so that an ingredient more
costs arithmetic and its own numbers, but no other pass over the weights.
"""

from __future__ import annotations

from collections import namedtuple

import numpy as np

from .compiling import part

SGD, NESTEROV, ADAM = range(3)
PIECE = 2048  # numbers, of which four kinds are in the cache at a time


class Rule(
    namedtuple("Rule", "kind momentum beta1 beta2 epsilon decay penalty clip averaging steps")
):
    """How weights step; `clip` is infinite and `averaging` 0 without, `steps` were made before."""


@part
def square_sum(a):  # type: ignore[no-untyped-def]
    """Return Σ a², in eight sums side by side."""
    zero = a.dtype.type(0)
    s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = zero
    whole = a.size - a.size % 8
    for i in range(0, whole, 8):
        s0 += a[i] * a[i]
        s1 += a[i + 1] * a[i + 1]
        s2 += a[i + 2] * a[i + 2]
        s3 += a[i + 3] * a[i + 3]
        s4 += a[i + 4] * a[i + 4]
        s5 += a[i + 5] * a[i + 5]
        s6 += a[i + 6] * a[i + 6]
        s7 += a[i + 7] * a[i + 7]
    total = np.float64(s0) + s1 + s2 + s3 + s4 + s5 + s6 + s7
    for i in range(whole, a.size):
        total += a[i] * a[i]
    return total


@part
def _sgd(w, v, g, step, momentum, nesterov):  # type: ignore[no-untyped-def]
    if momentum == 0:
        for i in range(w.size):
            w[i] += step * g[i]
    elif nesterov:
        for i in range(w.size):
            now = momentum * v[i] + step * g[i]
            v[i] = now
            w[i] += momentum * now + step * g[i]
    else:
        for i in range(w.size):
            now = momentum * v[i] + step * g[i]
            v[i] = now
            w[i] += now


@part
def _adam(w, mean, square, g, factor, rate, rule, decay, correction1, correction2):  # type: ignore[no-untyped-def]
    one = w.dtype.type(1)
    beta1, beta2, epsilon = rule.beta1, rule.beta2, rule.epsilon
    keep, step = one - rate * decay, rate * correction1
    for i in range(w.size):
        gradient = factor * g[i]
        m = beta1 * mean[i] + (one - beta1) * gradient
        s = beta2 * square[i] + (one - beta2) * gradient * gradient
        mean[i], square[i] = m, s
        w[i] = keep * w[i] - step * m / (np.sqrt(s * correction2) + epsilon)


@part
def _move(average, w, fraction):  # type: ignore[no-untyped-def]
    for i in range(w.size):
        average[i] += fraction * (w[i] - average[i])


@part
def step(rule, states, g, start, stop, factor, rate, decay, made, is_learned):  # type: ignore[no-untyped-def]
    """Step the numbers start … stop - 1 of the flat states by a gradient that begins at `start`.

    `made` counts this update too. What is not learned has only an average.
    """
    real = states.dtype.type
    correction1 = correction2 = real(0)
    if rule.kind == ADAM:
        correction1 = real(1 / (1 - np.float64(rule.beta1) ** made))
        correction2 = real(1 / (1 - np.float64(rule.beta2) ** made))
    fraction = real(1 - min(rule.averaging, (1 + made) / (10 + made)))
    for low in range(start, stop, PIECE):
        high = min(low + PIECE, stop)
        w, gradient = states[0, low:high], g[low - start : high - start]
        if not is_learned:
            pass
        elif rule.kind == ADAM:
            _adam(
                w, states[1, low:high], states[2, low:high], gradient, factor, rate, rule, decay,
                correction1, correction2,
            )  # fmt: skip
        else:
            v = states[1, low:high] if rule.momentum != 0 else w
            _sgd(w, v, gradient, -rate * factor, rule.momentum, rule.kind == NESTEROV)
        if rule.averaging != 0:
            _move(states[-1, low:high], w, fraction)

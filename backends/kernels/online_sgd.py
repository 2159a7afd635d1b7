"""The sequential part of online SGD, compiled by Numba.

The meaning is `Backend.online_recurrence`: for every sample t of a block

    z_t = Z_t + Σ_(s<t) mixing_ts d_s             the first layer, seen through earlier steps
    a_1 = f(z_t), z_l = a_(l-1) W_l + b_l, …      forward
    δ_L, then δ_l = (carried_l W_(l+1)ᵀ) f'(a_l)  backward, with the weights before the update
    W_l ← W_l - η (a_(l-1)ᵀ δ_l + p W_l)          update, through a velocity with momentum
    d_t = -η δ_1

The deeper layers lie in one flat buffer: W_2 row by row, (b_2,) W_3, …. Back-propagation and
update share one pass over each weight row: the row is read for the error, then changed.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

ACTIVATION_CODES = {"sigmoid": 0, "tanh": 1, "relu": 2}
LOSS_CODES = {"rashid": 0, "squared_error": 1, "binary_cross_entropy": 2, "cross_entropy": 3}

# reassociation lets sums run in vector registers; NaN and infinity keep their meaning
_FAST = {"contract", "reassoc", "nsz"}


def _compiled(function: Any) -> Any:
    try:
        return numba.njit(function, cache=True, fastmath=_FAST, error_model="numpy")
    except RuntimeError:  # no folder to keep the machine code in: compile at every start
        return numba.njit(function, fastmath=_FAST, error_model="numpy")


@_compiled
def _activate(code, z, a):  # type: ignore[no-untyped-def]
    zero, one = z.dtype.type(0), z.dtype.type(1)
    for j in range(z.size):
        if code == 0:
            a[j] = one / (one + np.exp(-z[j]))
        elif code == 1:
            a[j] = np.tanh(z[j])
        else:
            a[j] = zero if z[j] < 0 else z[j]  # NaN stays NaN


@_compiled
def _derivative(code, a):  # type: ignore[no-untyped-def]
    zero, one = type(a)(0), type(a)(1)
    if code == 0:
        return a * (one - a)
    if code == 1:
        return one - a * a
    return one if a > 0 else zero


@_compiled
def _output(loss_code, z, label, low, high, outputs, delta, carried):  # type: ignore[no-untyped-def]
    """Fill outputs, δ and the error to hand down; return the sample's loss."""
    zero, one = z.dtype.type(0), z.dtype.type(1)
    loss = log_sum = target_sum = zero
    if loss_code == 3:
        largest = z[0]
        for k in range(z.size):
            largest = max(largest, z[k])
        total = zero
        for k in range(z.size):
            outputs[k] = np.exp(z[k] - largest)
            total += outputs[k]
            target_sum += high if k == label else low
        for k in range(z.size):
            outputs[k] /= total
        log_sum = largest + np.log(total)
    else:
        _activate(0, z, outputs)
    for k in range(z.size):
        target = high if k == label else low
        error = outputs[k] - target
        if loss_code <= 1:
            delta[k] = error * outputs[k] * (one - outputs[k])
            carried[k] = error if loss_code == 0 else delta[k]
            loss += error * error / (one + one)
        elif loss_code == 2:
            delta[k] = error
            carried[k] = error
            positive = zero if z[k] < 0 else z[k]
            loss += positive + np.log1p(np.exp(-abs(z[k]))) - target * z[k]
        else:
            delta[k] = outputs[k] * target_sum - target
            carried[k] = delta[k]
            loss += target * (log_sum - z[k])
    return loss


@_compiled
def _step(weights, velocity, i, gradient, rate, momentum):  # type: ignore[no-untyped-def]
    if velocity.size:
        velocity[i] = momentum * velocity[i] - rate * gradient
        weights[i] += velocity[i]
    else:
        weights[i] -= rate * gradient


@_compiled
def recurrence(  # type: ignore[no-untyped-def]
    sizes,
    bias,
    activation_code,
    loss_code,
    weights,
    velocity,
    z,
    mixing,
    labels,
    constants,
    rates,
    d,
    losses,
):
    """Run a block's samples through the network, one after the other.

    `sizes` counts the units of every layer but the inputs; `constants` are target_low,
    target_high, momentum and penalty; `velocity` is empty without momentum. `weights`,
    `velocity`, `d` and `losses` are written.
    """
    low, high, momentum, penalty = constants
    last = sizes.size - 1
    starts = np.zeros(sizes.size + 1, np.int64)  # of each layer's units in `acts`
    for layer in range(sizes.size):
        starts[layer + 1] = starts[layer] + sizes[layer]
    pre = np.empty(sizes.max(), z.dtype)
    acts = np.empty(starts[-1], z.dtype)
    delta = np.empty_like(pre)
    delta_below = np.empty_like(pre)
    carried = np.empty_like(pre)
    carried_below = np.empty_like(pre)
    for t in range(z.shape[0]):
        for j in range(sizes[0]):
            pre[j] = z[t, j]
        for s in range(t):
            factor = mixing[t, s]
            for j in range(sizes[0]):
                pre[j] += factor * d[s, j]

        offset = 0
        for layer in range(last):
            below = acts[starts[layer] : starts[layer + 1]]
            fan_in, fan_out = sizes[layer], sizes[layer + 1]
            _activate(activation_code, pre[:fan_in], below)
            for j in range(fan_out):
                pre[j] = weights[offset + fan_in * fan_out + j] if bias else 0
            for i in range(fan_in):
                a = below[i]
                for j in range(fan_out):
                    pre[j] += a * weights[offset + i * fan_out + j]
            offset += fan_in * fan_out + (fan_out if bias else 0)
        losses[t] = _output(
            loss_code,
            pre[: sizes[last]],
            labels[t],
            low,
            high,
            acts[starts[last] :],
            delta,
            carried,
        )

        rate = rates[t]
        for layer in range(last, 0, -1):
            below = acts[starts[layer - 1] : starts[layer]]
            fan_in, fan_out = sizes[layer - 1], sizes[layer]
            offset -= fan_in * fan_out + (fan_out if bias else 0)
            for i in range(fan_in):
                row = offset + i * fan_out
                error = z.dtype.type(0)
                for j in range(fan_out):
                    error += weights[row + j] * carried[j]
                delta_below[i] = error * _derivative(activation_code, below[i])
                carried_below[i] = error if loss_code == 0 else delta_below[i]
                for j in range(fan_out):
                    gradient = below[i] * delta[j] + penalty * weights[row + j]
                    _step(weights, velocity, row + j, gradient, rate, momentum)
            if bias:
                for j in range(fan_out):
                    _step(
                        weights,
                        velocity,
                        offset + fan_in * fan_out + j,
                        delta[j],
                        rate,
                        momentum,
                    )
            delta, delta_below = delta_below, delta
            carried, carried_below = carried_below, carried
        for j in range(sizes[0]):
            d[t, j] = -rate * delta[j]

"""One sample through the layers behind the first, and its errors back.

The meaning is `Backend.forward`, `losses` and `backward`. The layers lie one after the other in a
flat buffer: the matrix transposed, so that rows are long even before a small output layer, fan_out
rows of fan_in numbers padded to whole registers; then fan_out biases, padded likewise. Each row of
`layout` describes one, see `_layer`. Back-propagation and the step share one pass over a weight: it
is read for the error, then its step is made.
"""

from __future__ import annotations

import numpy as np

from . import products
from .compiling import inlined, part
from .elementwise import activate, exp, times_derivative
from .lanes import REGISTER_BYTES, fma, load, splat, store

LOSS_CODES = {"rashid": 0, "squared_error": 1, "binary_cross_entropy": 2, "cross_entropy": 3}


@inlined
def _layer(layout, layer):  # type: ignore[no-untyped-def]
    """fan-in, the same padded, fan-out; where inputs and logits, matrix and biases begin."""
    row = layout[layer]
    return row[0], row[1], row[2], row[3], row[4], row[5], row[6]


@part
def _forward(layout, bias, code, W, acts):  # type: ignore[no-untyped-def]
    """Propagate the first layer's z at the head of `acts` to the logits."""
    for layer in range(layout.shape[0]):
        fan_in, columns, fan_out, inputs, logits, matrix, biases = _layer(layout, layer)
        activate(code, acts, inputs, columns)
        for j in range(fan_in, columns):
            acts[inputs + j] = 0
        for k in range(fan_out):
            acts[logits + k] = products.dot(W, matrix + k * columns, acts, inputs, columns)
        if bias:
            for k in range(fan_out):
                acts[logits + k] += W[biases + k]


@part
def _output(code, acts, logits, n, label, low, high, outputs, delta, carried):  # type: ignore[no-untyped-def]
    """Fill δ of the output layer and the error to hand down; return the sample's loss."""
    zero, one = acts.dtype.type(0), acts.dtype.type(1)
    loss = zero
    for k in range(n):
        outputs[k] = acts[logits + k]
        delta[k] = low  # the targets, for now
    delta[label] = high
    if code == 3:
        largest, total, targets = outputs[0], zero, zero
        for k in range(n):
            largest = max(largest, outputs[k])
            targets += delta[k]
        for k in range(n):
            outputs[k] = exp(outputs[k] - largest)
            total += outputs[k]
        log_sum = largest + np.log(total)
        for k in range(n):
            loss += delta[k] * (log_sum - acts[logits + k])
            carried[k] = delta[k] = outputs[k] / total * targets - delta[k]
        return loss
    lanes = REGISTER_BYTES // acts.itemsize
    activate(0, outputs, 0, -(-n // lanes) * lanes)
    if code == 2:
        for k in range(n):
            z = acts[logits + k]
            loss += max(z, zero) + np.log1p(exp(-abs(z))) - delta[k] * z
            carried[k] = delta[k] = outputs[k] - delta[k]
        return loss
    for k in range(n):
        error = outputs[k] - delta[k]
        loss += error * error
        delta[k] = error * outputs[k] * (one - outputs[k])
        carried[k] = error if code == 0 else delta[k]
    return loss / (one + one)


@part
def _back_tile(tile, j, rows, columns, W, T, matrix, carried, delta, factor, acts, inputs, error):  # type: ignore[no-untyped-def]
    """One tile of columns: error = Σ_k carried[k] W[k], T[k] += factor · delta[k] · inputs."""
    sums, a = splat(tile, acts.dtype.type(0)), load(tile, acts, inputs + j)
    for k in range(rows):
        at = matrix + k * columns + j
        row = load(tile, W, at)
        sums = fma(carried[k], row, sums)
        store(T, at, fma(factor * delta[k], a, load(tile, T, at)))
    store(error, j, sums)


@part
def _backward(layout, bias, code, raw, W, T, acts, delta, carried, error, factor):  # type: ignore[no-untyped-def]
    """Propagate the output's δ back to the first layer's, and T += factor · gradients."""
    step = REGISTER_BYTES // W.itemsize
    for layer in range(layout.shape[0] - 1, -1, -1):
        fan_in, columns, fan_out, inputs, _, matrix, biases = _layer(layout, layer)
        whole = columns - columns % (4 * step)
        for j in range(0, whole, 4 * step):
            _back_tile(
                (0, 0, 0, 0),
                j,
                fan_out,
                columns,
                W,
                T,
                matrix,
                carried,
                delta,
                factor,
                acts,
                inputs,
                error,
            )
        for j in range(whole, columns, step):
            _back_tile(
                (0,), j, fan_out, columns, W, T, matrix, carried, delta, factor, acts, inputs, error
            )
        if bias:
            for k in range(fan_out):
                T[biases + k] += factor * delta[k]
        times_derivative(code, error, acts, inputs, delta, fan_in)
        for i in range(fan_in):
            carried[i] = error[i] if raw else delta[i]


@part
def begin_batch(layout, W, T, momentum, decay):  # type: ignore[no-untyped-def]
    """T = μT - decay · W, biases without the decay."""
    for i in range(T.size):
        T[i] *= momentum
    if decay != 0:
        for layer in range(layout.shape[0]):
            for i in range(layout[layer, 5], layout[layer, 6]):
                T[i] -= decay * W[i]


@inlined
def learn_sample(  # type: ignore[no-untyped-def]
    layout, units, classes, bias, codes, reals, W, T, acts, errors, label, factor, d
):
    """Propagate z_1 at the head of `acts` forward and the errors back; return the loss.

    T += factor · gradients, and d = factor · δ_1.
    """
    activation, loss_code, low, high = codes[0], codes[1], reals[0], reals[1]
    outputs, delta, carried, error = errors[0], errors[1], errors[2], errors[3]
    last = layout.shape[0] - 1
    logits = layout[last, 4] if last >= 0 else 0
    _forward(layout, bias, activation, W, acts)
    loss = _output(loss_code, acts, logits, classes, label, low, high, outputs, delta, carried)
    raw = loss_code == 0
    _backward(layout, bias, activation, raw, W, T, acts, delta, carried, error, factor)
    for j in range(units):
        d[j] = factor * delta[j]
    return loss

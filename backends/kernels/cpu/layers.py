"""One sample through the layers after the first, and its errors back.

The meaning is `Backend.forward`, `losses` and `backward`. The layers lie one after the other in a
flat buffer: the matrix transposed, so that rows are long even before a small output layer, fan_out
rows of fan_in numbers padded to whole registers; then fan_out biases, padded likewise. Each row of
`layout` describes one, see `_layer`. Back-propagation and the step go over a weight together: it
is read for the error, then its step is made.

A network's weights that do not stay in a core's cache are read by all workers as a `Team`, each of
which takes some units; without one (None) a single worker does everything.
"""

from __future__ import annotations

from collections import namedtuple

import numpy as np

from . import products
from .compiling import inlined, part
from .elementwise import activate, exp, times_slope
from .lanes import REGISTER_BYTES, fma, load, splat, store
from .workers import wait_at_barrier


class Team(namedtuple("Team", "worker workers barrier")):
    """Workers that learn a sample together, and which of them this is."""


@part
def part_of(team, n):  # type: ignore[no-untyped-def]
    """Return which of n things this worker takes: from where on, and where it stops."""
    if team is None:
        return 0, n
    return team.worker * n // team.workers, (team.worker + 1) * n // team.workers


@part
def is_first(team):  # type: ignore[no-untyped-def]
    """Return whether this worker does what one alone must."""
    if team is None:
        return True
    return team.worker == 0


@part
def wait_for(team, passed):  # type: ignore[no-untyped-def]
    """Wait for the others, after so many times before; return how often that is now."""
    if team is not None:
        wait_at_barrier(team.workers, team.barrier, passed)
    return passed + 1


class Network(
    namedtuple("Network", "layout W T units classes bias activation loss low high momentum penalty")
):
    """A network after its first layer, in the kernels' terms.

    `layout` has a row for each layer after the first, see `_layer`; W are their weights, T their
    steps, with momentum the velocity. `units` and `classes` are those of the first layer and the
    last, `activation` and `loss` are codes, momentum and penalty go to each step.
    """


class Samples(namedtuple("Samples", "x sparse labels rates batch losses")):
    """What is learned, `batch` samples at a time with the rate of each batch, and their losses.

    `sparse` is None, or what stands in place of x.
    """


@inlined
def _layer(layout, layer):  # type: ignore[no-untyped-def]
    """Return fan-in, padded fan-in, fan-out; starts of inputs, logits, matrix and biases."""
    row = layout[layer]
    return row[0], row[1], row[2], row[3], row[4], row[5], row[6]


@part
def _forward(network, acts, team, passed):  # type: ignore[no-untyped-def]
    """Propagate the first layer's z at the head of `acts` to the logits."""
    W, step = network.W, REGISTER_BYTES // acts.itemsize
    for layer in range(network.layout.shape[0]):
        fan_in, columns, fan_out, inputs, logits, matrix, biases = _layer(network.layout, layer)
        low, high = part_of(team, columns // step)
        low, high = low * step, high * step
        activate(network.activation, acts, inputs + low, high - low)
        for j in range(max(low, fan_in), high):
            acts[inputs + j] = 0
        passed = wait_for(team, passed)
        low, high = part_of(team, fan_out)
        for k in range(low, high):
            acts[logits + k] = products.dot(W, matrix + k * columns, acts, inputs, columns)
        if network.bias:
            for k in range(low, high):
                acts[logits + k] += W[biases + k]
        passed = wait_for(team, passed)
    return passed


@part
def _output(network, acts, label, errors):  # type: ignore[no-untyped-def]
    """Fill δ of the output layer and the error to hand down; return the sample's loss."""
    zero, one, n = acts.dtype.type(0), acts.dtype.type(1), network.classes
    outputs, delta, carried = errors[0], errors[1], errors[2]
    last = network.layout.shape[0] - 1
    logits = network.layout[last, 4] if last >= 0 else 0
    loss = zero
    for k in range(n):
        outputs[k] = acts[logits + k]
        delta[k] = network.low  # the targets, for now
    delta[label] = network.high
    if network.loss == 3:
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
    if network.loss == 2:
        for k in range(n):
            z = acts[logits + k]
            loss += max(z, zero) + np.log1p(exp(-abs(z))) - delta[k] * z
            carried[k] = delta[k] = outputs[k] - delta[k]
        return loss
    for k in range(n):
        error = outputs[k] - delta[k]
        loss += error * error
        delta[k] = error * outputs[k] * (one - outputs[k])
        carried[k] = error if network.loss == 0 else delta[k]
    return loss / (one + one)


@part
def _back_tile(tile, j, rows, columns, W, T, matrix, factor, acts, inputs, errors):  # type: ignore[no-untyped-def]
    """Go over one tile of columns: error = Σ_k carried[k] W[k], T[k] += factor · δ[k] · inputs."""
    delta, carried = errors[1], errors[2]
    sums, a = splat(tile, acts.dtype.type(0)), load(tile, acts, inputs + j)
    for k in range(rows):
        at = matrix + k * columns + j
        row = load(tile, W, at)
        sums = fma(carried[k], row, sums)
        store(T, at, fma(factor * delta[k], a, load(tile, T, at)))
    store(errors[3], j, sums)


@part
def _backward(network, T, acts, errors, factor, team, passed):  # type: ignore[no-untyped-def]
    """Propagate the output's δ back to the first layer's, and T += factor · gradients."""
    W = network.W
    step = REGISTER_BYTES // W.itemsize
    delta, carried, error = errors[1], errors[2], errors[3]
    for layer in range(network.layout.shape[0] - 1, -1, -1):
        fan_in, columns, fan_out, inputs, _, matrix, biases = _layer(network.layout, layer)
        fours = columns // (4 * step)
        low, high = part_of(team, fours)
        for j in range(low * 4 * step, high * 4 * step, 4 * step):
            four = (0, 0, 0, 0)
            _back_tile(four, j, fan_out, columns, W, T, matrix, factor, acts, inputs, errors)
        if is_first(team):
            for j in range(fours * 4 * step, columns, step):
                _back_tile((0,), j, fan_out, columns, W, T, matrix, factor, acts, inputs, errors)
        passed = wait_for(team, passed)
        if is_first(team):
            if network.bias:
                for k in range(fan_out):
                    T[biases + k] += factor * delta[k]
            for i in range(fan_in):
                delta[i] = error[i]
            times_slope(network.activation, acts[inputs : inputs + fan_in], delta[:fan_in])
            for i in range(fan_in):
                carried[i] = error[i] if network.loss == 0 else delta[i]
        passed = wait_for(team, passed)


@part
def begin_batch(network, rate):  # type: ignore[no-untyped-def]
    """Begin with T = μT - rate · penalty · W, biases without the penalty."""
    W, T = network.W, network.T
    for i in range(T.size):
        T[i] *= network.momentum
    if network.penalty != 0:
        for layer in range(network.layout.shape[0]):
            for i in range(network.layout[layer, 5], network.layout[layer, 6]):
                T[i] -= rate * network.penalty * W[i]


@part
def waits(network):  # type: ignore[no-untyped-def]
    """Count how often a team waits for a sample."""
    return 4 * network.layout.shape[0] + 2


@inlined
def learn_sample(network, T, acts, errors, label, factor, d, team, passed):  # type: ignore[no-untyped-def]
    """Propagate z_1 at the head of `acts` forward and the errors back; return the loss.

    T += factor · gradients, and d = factor · δ_1. `errors` has four rows: outputs, δ, the error
    that is handed down, and that which arrives. A team has waited `passed` times before.
    """
    passed = _forward(network, acts, team, wait_for(team, passed))
    loss = acts.dtype.type(0)
    if is_first(team):
        loss = _output(network, acts, label, errors)
    _backward(network, T, acts, errors, factor, team, wait_for(team, passed))
    if is_first(team):
        for j in range(network.units):
            d[j] = factor * errors[1, j]
    return loss

"""Operations on pieces of the weights: their gradient over a batch, and their step.

The meaning is `Backend.gradients`, `clipped`, `sgd_step` and `adam_step`, and `Rule.move_average`.
A piece is the numbers `begin` to `end` - 1 of a state, for a matrix its rows `low` to `high` - 1;
its gradient, summed and not yet averaged, is stepped by while it is in the cache. With a clip the
gradients of all pieces are kept, and the steps wait for their norm.
"""

from __future__ import annotations

import numpy as np

from .batches import gradient_at, rows_at
from .compiling import part
from .dense import ROWS, multiply
from .elementwise import add
from .program import Operation
from .views import vector

DEPTH = 32  # samples whose δ in a tile is in the first cache while all inputs use it
PIECE = 2048  # numbers, of which four kinds are in the first cache at a time


@part
def _weights(memory, piece):  # type: ignore[no-untyped-def]
    """View a piece's weights."""
    return vector(memory.numbers, piece.begin, piece.end - piece.begin)


@part
def _gradient(job, memory, piece):  # type: ignore[no-untyped-def]
    """View a piece's gradient."""
    return vector(memory.numbers, gradient_at(job, piece), piece.end - piece.begin)


# --- gradients -------------------------------------------------------------------------------


@Operation
def bias_gradient(job, memory, piece):  # type: ignore[no-untyped-def]
    """Sum the δ of some of a layer's units over the batch."""
    layer = memory.layers[piece.layer]
    first = piece.begin - layer.bias
    stop = min(piece.end - layer.bias, layer.units)
    sums = vector(memory.numbers, job.gradient + piece.begin, stop - first)
    at = rows_at(job, job.delta, layer) + first
    for j in range(sums.size):
        sums[j] = 0
    for s in range(piece.n):
        add(sums.dtype.type(1), vector(memory.numbers, at + s * layer.width, sums.size), sums)


def _matrix_gradient(registers: int) -> Operation:
    """Make the gradient of a matrix after the first, whose tiles take so many registers."""
    tile, rows = (0,) * registers, (0,) * ROWS[registers]
    height = len(rows)

    @Operation
    def matrix_gradient(job, memory, piece):  # type: ignore[no-untyped-def]
        """Sum rows of a tile of the gradient over the batch."""
        numbers, n, low, high = memory.numbers, piece.n, piece.low, piece.high
        at, before = memory.layers[piece.layer], memory.layers[piece.layer - 1]
        j = (piece.begin - at.matrix) // (before.units * at.columns) * at.columns
        inputs, delta = rows_at(job, job.hidden, before), rows_at(job, job.delta, at) + j
        gradient = gradient_at(job, piece)
        for s in range(0, n, DEPTH):
            count = min(DEPTH, n - s)
            for k in range(low, high, height):
                multiply(
                    tile, rows, min(height, high - k), s == 0, count,
                    numbers, inputs + s * before.width + k, 1, before.width,
                    numbers, delta + s * at.width, at.width,
                    numbers, gradient + (k - low) * at.columns, at.columns,
                )  # fmt: skip

    return matrix_gradient


GRADIENT = {registers: _matrix_gradient(registers) for registers in ROWS}


@Operation
def add_penalty(job, memory, piece):  # type: ignore[no-untyped-def]
    """Add the gradient of the penalty, as often as the batch has samples."""
    factor = job.penalty * memory.numbers.dtype.type(piece.n)
    add(factor, _weights(memory, piece), _gradient(job, memory, piece))


@Operation
def add_squares(job, memory, piece):  # type: ignore[no-untyped-def]
    """Sum the squares of a piece's gradient, in eight sums side by side."""
    a = _gradient(job, memory, piece)
    s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = a.dtype.type(0)
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
    memory.numbers[job.squares + piece.number] = total


# --- steps -----------------------------------------------------------------------------------


@Operation
def find_norm(job, memory, piece):  # type: ignore[no-untyped-def]
    """Find the factor that averages the gradients and clips their norm."""
    total = 0.0
    for i in range(job.count):
        total += memory.numbers[job.squares + i]
    factor = job.clip / max(np.sqrt(total), np.float64(piece.n) * job.clip)
    memory.numbers[job.factor] = factor


@part
def _factor(job, memory, piece):  # type: ignore[no-untyped-def]
    """Return what a summed gradient is multiplied by."""
    one = memory.numbers.dtype.type(1)
    return memory.numbers[job.factor] if job.is_clipped else one / piece.n


@part
def _rate(job, memory, piece):  # type: ignore[no-untyped-def]
    """Return the batch's learning rate."""
    return memory.numbers[job.rates + piece.start // job.batch]


@part
def _made(job, piece):  # type: ignore[no-untyped-def]
    """Count the steps with this one."""
    return job.made + piece.start // job.batch + 1


@part
def _parts(job, memory, piece, low):  # type: ignore[no-untyped-def]
    """View some of the weights from `low` on, the gradient, and two more states of these."""
    numbers, n = memory.numbers, min(PIECE, piece.end - low)
    g = vector(numbers, gradient_at(job, piece) + low - piece.begin, n)
    first, second = vector(numbers, job.size + low, n), vector(numbers, 2 * job.size + low, n)
    return vector(numbers, low, n), g, first, second


@Operation
def sgd(job, memory, piece):  # type: ignore[no-untyped-def]
    """Step as plain SGD does."""
    real = memory.numbers.dtype.type
    step = -_rate(job, memory, piece) * real(_factor(job, memory, piece))
    add(step, _gradient(job, memory, piece), _weights(memory, piece))


@Operation
def momentum(job, memory, piece):  # type: ignore[no-untyped-def]
    """Step with momentum, or as Nesterov."""
    real, mu = memory.numbers.dtype.type, job.momentum
    step = -_rate(job, memory, piece) * real(_factor(job, memory, piece))
    for low in range(piece.begin, piece.end, PIECE):
        w, g, v, _ = _parts(job, memory, piece, low)
        if job.nesterov:
            for i in range(w.size):
                now = mu * v[i] + step * g[i]
                v[i] = now
                w[i] += mu * now + step * g[i]
        else:
            for i in range(w.size):
                now = mu * v[i] + step * g[i]
                v[i] = now
                w[i] += now


@Operation
def adam(job, memory, piece):  # type: ignore[no-untyped-def]
    """Step as Adam, matrices with a decay."""
    real, one = memory.numbers.dtype.type, memory.numbers.dtype.type(1)
    made = _made(job, piece)
    correction1 = one / real(1 - np.float64(job.beta1) ** made)
    correction2 = one / real(1 - np.float64(job.beta2) ** made)
    rate = _rate(job, memory, piece)
    keep = one - rate * job.decay if piece.high > 0 else one
    step, factor = rate * correction1, real(_factor(job, memory, piece))
    beta1, beta2, epsilon = job.beta1, job.beta2, job.epsilon
    if job.scales_epsilon:
        epsilon *= np.sqrt(correction2)
    for low in range(piece.begin, piece.end, PIECE):
        w, g, mean, square = _parts(job, memory, piece, low)
        for i in range(w.size):
            gradient = factor * g[i]
            m = beta1 * mean[i] + (one - beta1) * gradient
            s = beta2 * square[i] + (one - beta2) * gradient * gradient
            mean[i], square[i] = m, s
            w[i] = keep * w[i] - step * m / (np.sqrt(s * correction2) + epsilon)


@Operation
def move_average(job, memory, piece):  # type: ignore[no-untyped-def]
    """Move the average of a piece."""
    made = _made(job, piece)
    fraction = memory.numbers.dtype.type(1 - min(job.averaging, (1 + made) / (10 + made)))
    w = _weights(memory, piece)
    average = vector(memory.numbers, job.average + piece.begin, w.size)
    for i in range(w.size):
        average[i] += fraction * (w[i] - average[i])

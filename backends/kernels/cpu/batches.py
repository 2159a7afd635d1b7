"""Training in batches, compiled: every layer, every ingredient and every optimiser.

The meaning is `Backend.sgd` and `Backend.adam`. The work on a batch of n samples is cut into
pieces, whose sizes follow from the network and the batch alone; workers take one piece after the
other, and wait for each other where one needs what another has done:

    forward and back    pieces are blocks of samples; where the weights after the first layer do
                        not fit into a core's cache, pieces of a layer's units, layer after layer,
                        and so too where units are normalised over the batch
    gradient and step   pieces are rows of a weight matrix: their gradient is formed, and their
                        step made, while they are in the cache; with a clip the steps wait for the
                        norm of all gradients

All numbers that learn lie in one flat row of `states`, see `Network`, and so do their velocities,
moments and averages in the further rows.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from . import philox, products
from .blas import gemm
from .compiling import compiled, part
from .elementwise import add, exp
from .lanes import REGISTER_BYTES
from .steps import square_sum, step
from .workers import take, wait_at_barrier

# columns of `layout`, a row for every layer
UNITS, WIDTH, OFFSET, MATRIX, BIAS, GAIN, MOMENTS = range(7)
# columns of `pieces`: what it is (moments are AVERAGED), layer, rows, numbers in `states`
FIRST_ROWS, DEEPER_ROWS, BIASES, GAINS, AVERAGED = range(5)
# what the pieces of a phase do
SAMPLES, FIRST, FORWARD, OUTPUT, BACKWARD, GRADIENTS, STEPS = range(7)


class First(NamedTuple):
    """The first layer's input map, a number a row of W, and whether it shifts."""

    tile: Any
    scale: Any
    shift: Any
    no_shift: Any
    has_shift: bool


class Batch(NamedTuple):
    """What is learned, and how, besides the weights.

    `layout` has for each layer its units, how many numbers a row of them takes, the sum of those
    of the layers before it, and where matrix, biases, gains and moments begin in `states` (-1
    where there are none). The first layer's matrix has a row for each input, the others' one for
    each unit of their own.
    """

    layout: Any
    pieces: Any
    phases: Any
    bias: bool
    activation: int
    loss: int
    low: Any
    high: Any
    normalized: bool
    dropped_inputs: Any
    dropped: Any
    block: int
    key: Any


class Workspace(NamedTuple):
    """Scratch: for each worker, and for a whole batch."""

    u: Any
    masks: Any
    r: Any
    noise: Any
    sums: Any
    kept: Any
    hidden: Any
    delta: Any
    carried: Any
    normal: Any
    spread: Any
    gradient: Any
    piece: Any
    squares: Any
    update: Any
    tickets: Any


@part
def _rows(flat, batch, n, layer):  # type: ignore[no-untyped-def]
    """View a layer's numbers of n samples."""
    width = batch.layout[layer, WIDTH]
    start = batch.layout[layer, OFFSET] * n
    return flat[start : start + n * width].reshape(n, width)


@part
def _activate(code, z, a):  # type: ignore[no-untyped-def]
    """Compute a = f(z); z may be a."""
    zero, one = z.dtype.type(0), z.dtype.type(1)
    two = one + one
    if code == 0:
        for j in range(z.size):
            a[j] = one / (one + exp(-z[j]))
    elif code == 1:
        for j in range(z.size):
            a[j] = two / (one + exp(-two * z[j])) - one
    elif code == 3:
        height, steepness = z.dtype.type(1.7159), z.dtype.type(4 / 3)
        for j in range(z.size):
            a[j] = height * (two / (one + exp(-steepness * z[j])) - one)
    elif code == 4:
        scale, cube = z.dtype.type(-2 * 0.7978845608028654), z.dtype.type(0.044715)
        for j in range(z.size):
            a[j] = z[j] / (one + exp(scale * z[j] * (one + cube * z[j] * z[j])))
    else:
        for j in range(z.size):
            a[j] = zero if z[j] < zero else z[j]


@part
def _times_slope(code, kept, delta):  # type: ignore[no-untyped-def]
    """Compute delta *= f'(z), of what f' is written in."""
    zero, one = kept.dtype.type(0), kept.dtype.type(1)
    if code == 0:
        for j in range(delta.size):
            delta[j] *= kept[j] * (one - kept[j])
    elif code == 1:
        for j in range(delta.size):
            delta[j] *= one - kept[j] * kept[j]
    elif code == 3:
        ratio, most = kept.dtype.type(2 / 3 / 1.7159), kept.dtype.type(1.7159 * 1.7159)
        for j in range(delta.size):
            delta[j] *= ratio * (most - kept[j] * kept[j])
    elif code == 4:
        scale, cube = kept.dtype.type(2 * 0.7978845608028654), kept.dtype.type(0.044715)
        three = one + one + one
        for j in range(delta.size):
            z = kept[j]
            s = one / (one + exp(-scale * z * (one + cube * z * z)))
            delta[j] *= s * (one + z * (one - s) * scale * (one + three * cube * z * z))
    else:
        for j in range(delta.size):
            delta[j] = delta[j] if kept[j] > zero else zero


@part
def _drop(batch, update, probability, layer, row, start, a, words):  # type: ignore[no-untyped-def]
    """Multiply a row's numbers, the first of which is its `start`-th, by their mask."""
    one, zero = a.dtype.type(1), a.dtype.type(0)
    groups = (a.size + 7) // 8
    drawn = words[: 4 * groups]
    philox.draw(batch.key, start // 8, row, layer, update, drawn)
    numbers = drawn.view(np.uint16)
    least = np.uint16(probability * 65536)
    factor = one / (one - a.dtype.type(probability))
    for j in range(a.size):
        a[j] *= factor if numbers[j] >= least else zero


@part
def _finish_forward(worker, batch, states, workspace, n, layer, low, high, begin, end):  # type: ignore[no-untyped-def]
    """Turn the sums of units begin … end - 1 of samples low … high - 1 into their activations."""
    at = batch.layout[layer]
    z, a = _rows(workspace.kept, batch, n, layer), _rows(workspace.hidden, batch, n, layer)
    if batch.normalized:
        _normalize(batch, states, workspace, n, layer, begin, end)
    bias = states[0, at[BIAS] + begin : at[BIAS] + end]
    for s in range(low, high):
        sums, row = z[s, begin:end], a[s, begin:end]
        if batch.bias and not batch.normalized and layer > 0:
            for j in range(bias.size):
                sums[j] += bias[j]
        if batch.activation == 4:
            _activate(4, sums, row)
        else:
            _activate(batch.activation, sums, sums)
            if batch.dropped > 0:
                for j in range(row.size):
                    row[j] = sums[j]
        if batch.dropped > 0:
            _drop(
                batch,
                workspace.update[worker],
                batch.dropped,
                layer + 1,
                s,
                begin,
                row,
                workspace.noise[worker],
            )


@part
def _normalize(batch, states, workspace, n, layer, begin, end):  # type: ignore[no-untyped-def]
    """Normalise units over the batch, and move their running moments."""
    at = batch.layout[layer]
    z, normal = _rows(workspace.kept, batch, n, layer), _rows(workspace.normal, batch, n, layer)
    width, real, moments = at[WIDTH], z.dtype.type, at[MOMENTS]
    offset = at[OFFSET]
    mean = workspace.sums[0, offset + begin : offset + end]
    variance = workspace.sums[1, offset + begin : offset + end]
    spread = workspace.spread[offset + begin : offset + end]
    gain = states[0, at[GAIN] + begin : at[GAIN] + end]
    shift = states[0, at[BIAS] + begin : at[BIAS] + end]
    for j in range(mean.size):
        mean[j] = variance[j] = real(0)
    fraction = real(1) / real(n)
    for s in range(n):
        add(fraction, z[s, begin:end], mean)
    for s in range(n):
        row, centred = z[s, begin:end], normal[s, begin:end]
        for j in range(row.size):
            centred[j] = row[j] - mean[j]
            variance[j] += fraction * centred[j] * centred[j]
    for j in range(spread.size):
        spread[j] = real(1) / np.sqrt(variance[j] + real(1e-5))
    for s in range(n):
        row, x = z[s, begin:end], normal[s, begin:end]
        for j in range(row.size):
            x[j] *= spread[j]
            row[j] = gain[j] * x[j] + shift[j]
    if n > 1:
        tenth, unbiased = real(0.1), real(n / (n - 1))
        running = states[0, moments + begin : moments + end]
        for j in range(running.size):
            running[j] += tenth * (mean[j] - running[j])
        running = states[0, moments + width + begin : moments + width + end]
        for j in range(running.size):
            running[j] += tenth * (variance[j] * unbiased - running[j])


@part
def _denormalize(batch, states, workspace, n, layer, begin, end):  # type: ignore[no-untyped-def]
    """Take the error back through a normalisation, and form the gradients of gain and shift."""
    at = batch.layout[layer]
    delta, normal = (
        _rows(workspace.delta, batch, n, layer),
        _rows(workspace.normal, batch, n, layer),
    )
    real = delta.dtype.type
    by_gain = workspace.gradient[at[GAIN] + begin : at[GAIN] + end]
    by_shift = workspace.gradient[at[BIAS] + begin : at[BIAS] + end]
    gain = states[0, at[GAIN] + begin : at[GAIN] + end]
    spread = workspace.spread[at[OFFSET] + begin : at[OFFSET] + end]
    for j in range(by_gain.size):
        by_gain[j] = by_shift[j] = real(0)
    for s in range(n):
        d, x = delta[s, begin:end], normal[s, begin:end]
        for j in range(d.size):
            by_gain[j] += d[j] * x[j]
            by_shift[j] += d[j]
    fraction = real(1) / real(n)
    for s in range(n):
        d, x = delta[s, begin:end], normal[s, begin:end]
        for j in range(d.size):
            rest = d[j] - fraction * by_shift[j] - x[j] * (fraction * by_gain[j])
            d[j] = gain[j] * spread[j] * rest


@part
def _first(worker, first, samples, batch, states, workspace, n, start, low, high):  # type: ignore[no-untyped-def]
    """Compute the first layer's sums of the samples low … high - 1 of the batch from `start` on."""
    rows, width = first.scale.size, batch.layout[0, WIDTH]
    columns = len(first.tile) * (REGISTER_BYTES // states.itemsize)
    W = states[0, : rows * width].reshape(rows, width)
    u, mask = workspace.u[worker], workspace.masks[low // batch.block]
    z = _rows(workspace.kept, batch, n, 0)
    products.prepare(samples.x, start + low, high - low, 0, rows, first.scale, u, mask)
    if batch.dropped_inputs > 0:
        _drop_inputs(worker, first, batch, workspace, low, 0, rows, u[: high - low])
        _mark(u[: high - low], mask)
    for j in range(0, width, columns):
        products.gather(first.tile, j, u, mask, high - low, workspace.r[worker], W, z[low:high])


@part
def _drop_inputs(worker, first, batch, workspace, row, low, high, u):  # type: ignore[no-untyped-def]
    """Add the shift to the pixels low … high - 1 of samples from `row` on, and drop some."""
    update, words = workspace.update[worker], workspace.noise[worker]
    shift = first.shift[low:high]
    for t in range(u.shape[0]):
        mapped = u[t, : high - low]
        add(mapped.dtype.type(1), shift, mapped)
        _drop(batch, update, batch.dropped_inputs, 0, row + t, low, mapped, words)


@part
def _mark(u, mask):  # type: ignore[no-untyped-def]
    """Set the bits of the pixels that are not zero in a sample."""
    for i in range(mask.size):
        mask[i] = 0
    for t in range(u.shape[0]):
        bit, mapped = np.uint32(1) << np.uint32(t), u[t]
        for i in range(mask.size):
            mask[i] |= bit if mapped[i] != 0 else np.uint32(0)


@part
def _forward(worker, batch, states, workspace, n, layer, low, high, begin, end):  # type: ignore[no-untyped-def]
    """Compute the sums of units begin … end - 1 of a layer after the first."""
    at, before = batch.layout[layer], batch.layout[layer - 1]
    size, width, inputs = before[WIDTH], at[WIDTH], before[UNITS]
    gemm(
        False, True, high - low, end - begin, inputs,
        workspace.hidden, before[OFFSET] * n + low * size, size,
        states, at[MATRIX] + begin * size, size,
        states.dtype.type(0), workspace.kept, at[OFFSET] * n + low * width + begin, width,
    )  # fmt: skip


@part
def _output(batch, states, workspace, samples, n, start, low, high):  # type: ignore[no-untyped-def]
    """Compute the losses of samples, and the error to begin with."""
    last = batch.layout.shape[0] - 1
    at = batch.layout[last]
    units, zero, one = at[UNITS], states.dtype.type(0), states.dtype.type(1)
    logits = _rows(workspace.kept, batch, n, last)
    deltas, carried = (
        _rows(workspace.delta, batch, n, last),
        _rows(workspace.carried, batch, n, last),
    )
    bias = states[0, at[BIAS] : at[BIAS] + units]
    for s in range(low, high):
        z, d, raw = logits[s, :units], deltas[s, :units], carried[s, :units]
        label, loss = samples.labels[start + s], zero
        if batch.bias and last > 0:
            for k in range(units):
                z[k] += bias[k]
        if batch.loss == 3:
            largest, total = z[0], zero
            for k in range(units):
                largest = max(largest, z[k])
            for k in range(units):
                d[k] = exp(z[k] - largest)
            for k in range(units):
                total += d[k]
            log_sum = largest + np.log(total)
            targets = batch.low * states.dtype.type(units - 1) + batch.high
            for k in range(units):
                target = batch.high if k == label else batch.low
                loss += target * (log_sum - z[k])
                d[k] = d[k] / total * targets - target
        else:
            _activate(0, z, d)
            for k in range(units):
                target = batch.high if k == label else batch.low
                output = d[k]
                error = output - target
                if batch.loss == 2:
                    loss += max(z[k], zero) + np.log1p(exp(-abs(z[k]))) - target * z[k]
                    d[k] = error
                else:
                    loss += error * error / (one + one)
                    d[k] = error * output * (one - output)
                    if batch.loss == 0:
                        raw[k] = error
        samples.losses[start + s] = loss


@part
def _backward(worker, batch, states, workspace, n, layer, low, high, begin, end):  # type: ignore[no-untyped-def]
    """Compute δ of units begin … end - 1 of a hidden layer."""
    at, after = batch.layout[layer], batch.layout[layer + 1]
    size, width, outputs = after[WIDTH], at[WIDTH], after[UNITS]
    gemm(
        False, False, high - low, end - begin, outputs,
        workspace.carried, after[OFFSET] * n + low * size, size,
        states, after[MATRIX] + begin, width,
        states.dtype.type(0), workspace.delta, at[OFFSET] * n + low * width + begin, width,
    )  # fmt: skip
    kept, deltas = _rows(workspace.kept, batch, n, layer), _rows(workspace.delta, batch, n, layer)
    carried = _rows(workspace.carried, batch, n, layer)
    for s in range(low, high):
        delta = deltas[s, begin:end]
        if batch.dropped > 0:
            _drop(
                batch,
                workspace.update[worker],
                batch.dropped,
                layer + 1,
                s,
                begin,
                delta,
                workspace.noise[worker],
            )
        if batch.loss == 0:
            raw = carried[s, begin:end]
            for j in range(raw.size):
                raw[j] = delta[j]
        _times_slope(batch.activation, kept[s, begin:end], delta)
    if batch.normalized:
        _denormalize(batch, states, workspace, n, layer, begin, end)


@part
def _column_sums(a, begin, sums):  # type: ignore[no-untyped-def]
    for j in range(sums.size):
        sums[j] = 0
    for s in range(a.shape[0]):
        add(a.dtype.type(1), a[s, begin : begin + sums.size], sums)


@part
def _gradient(worker, piece, first, samples, batch, states, workspace, n, start, gradient):  # type: ignore[no-untyped-def]
    """Sum the gradient of a piece over the batch."""
    kind, layer, low, high = piece[0], piece[1], piece[2], piece[3]
    at = batch.layout[layer]
    delta = _rows(workspace.delta, batch, n, layer)
    if kind == FIRST_ROWS:
        d_sum = workspace.sums[2 + worker, : at[WIDTH]]
        width, count = at[WIDTH], high - low
        columns = len(first.tile) * (REGISTER_BYTES // states.itemsize)
        for i in range(gradient.size):
            gradient[i] = 0
        G, u = gradient.reshape(count, width), workspace.u[worker]
        for begin in range(0, n, batch.block):
            end = min(begin + batch.block, n)
            products.scaled(samples.x, start + begin, end - begin, low, high, first.scale, u)
            if batch.dropped_inputs > 0:
                part_of_u = u[: end - begin]
                _drop_inputs(worker, first, batch, workspace, begin, low, high, part_of_u)
            mask = workspace.masks[begin // batch.block, low:high]
            is_shifted = begin == 0 and batch.dropped_inputs == 0  # d_sum is that of all blocks
            shift = first.shift[low:high] if is_shifted else first.no_shift[low:high]
            for j in range(0, width, columns):
                products.scatter(
                    first.tile, j, u, mask, 0, count, shift, delta[begin:end], d_sum, G,
                    workspace.r[worker],
                )  # fmt: skip
    elif kind == DEEPER_ROWS:
        before = batch.layout[layer - 1]
        size = before[WIDTH]
        gemm(
            True, False, high - low, before[UNITS], n,
            workspace.delta, at[OFFSET] * n + low, at[WIDTH],
            workspace.hidden, before[OFFSET] * n, size,
            states.dtype.type(0), gradient, 0, size,
        )  # fmt: skip
    elif (
        kind == BIASES
        and batch.bias
        and not (batch.normalized and layer < batch.layout.shape[0] - 1)
    ):
        _column_sums(delta, 0, gradient[: at[UNITS]])


@part
def _before(worker, kind, first, batch, rule, states, workspace, n):  # type: ignore[no-untyped-def]
    """Compute what each worker needs for itself in a phase; return the clip's factor."""
    real, width, r = states.dtype.type, batch.layout[0, WIDTH], workspace.r[worker]
    has_shift = batch.dropped_inputs == 0 and first.has_shift
    if kind in (SAMPLES, FIRST):
        for j in range(width):
            r[j] = 0
        if has_shift:
            rows = first.scale.size
            W = states[0, : rows * width].reshape(rows, width)
            for j in range(0, width, len(first.tile) * (REGISTER_BYTES // states.itemsize)):
                products.row_sums(first.tile, j, W, first.shift, r)
        if batch.bias and not batch.normalized:
            add(real(1), states[0, batch.layout[0, BIAS] : batch.layout[0, BIAS] + width], r)
    elif kind == GRADIENTS and has_shift:
        _column_sums(_rows(workspace.delta, batch, n, 0), 0, workspace.sums[2 + worker, :width])
    elif kind == STEPS:
        total = 0.0
        for i in range(batch.pieces.shape[0]):
            total += workspace.squares[i]
        return real(rule.clip / max(np.sqrt(total), n * rule.clip))
    return real(1)


@part
def _do(  # type: ignore[no-untyped-def]
    worker, kind, layer, low, high, first, samples, batch, rule, states, workspace, n, start,
    factor, made,
):  # fmt: skip
    """Do a piece of a phase. Each part stands here once, since each call is compiled anew."""
    last, by_units = batch.layout.shape[0] - 1, kind in (FORWARD, BACKWARD)
    rows_low, rows_high = (0, n) if by_units else (low, high)
    if kind in (SAMPLES, FIRST):
        _first(worker, first, samples, batch, states, workspace, n, start, low, high)
    # forward, from one layer to another
    begin, end = 0, 0
    if kind == SAMPLES:
        end = last + 1
    elif kind == FIRST and not batch.normalized:
        end = min(1, last)
    elif kind == FORWARD:
        begin, end = layer, layer + 1
    elif kind == OUTPUT:
        begin, end = last, last + 1
    for h in range(begin, end):
        left, right = (low, high) if by_units else (0, batch.layout[h, UNITS])
        if h > 0:
            _forward(worker, batch, states, workspace, n, h, rows_low, rows_high, left, right)
        if h < last:
            _finish_forward(
                worker, batch, states, workspace, n, h, rows_low, rows_high, left, right
            )
        else:
            _output(batch, states, workspace, samples, n, start, rows_low, rows_high)
    # and back
    begin, end = (last - 1, -1) if kind == SAMPLES else (layer, layer - 1)
    if kind in (SAMPLES, BACKWARD):
        for h in range(begin, end, -1):
            left, right = (low, high) if by_units else (0, batch.layout[h, UNITS])
            _backward(worker, batch, states, workspace, n, h, rows_low, rows_high, left, right)
    if kind in (GRADIENTS, STEPS):
        piece, count = batch.pieces[low], states.dtype.type(n)
        is_matrix, is_clipped = piece[0] <= DEEPER_ROWS, rule.clip < np.inf
        gradient = workspace.gradient[piece[4] : piece[5]]
        if not is_clipped and is_matrix:  # done with before the next
            gradient = workspace.piece[worker, : piece[5] - piece[4]]
        if kind == GRADIENTS:
            _gradient(worker, piece, first, samples, batch, states, workspace, n, start, gradient)
            if rule.penalty != 0 and is_matrix:
                add(count * rule.penalty, states[0, piece[4] : piece[5]], gradient)
            if is_clipped:
                workspace.squares[low] = square_sum(gradient)
            factor = states.dtype.type(1) / count
        if kind == STEPS or not is_clipped:
            rate = samples.rates[start // samples.batch]
            decay = rule.decay if is_matrix else states.dtype.type(0)
            is_learned = piece[0] != AVERAGED
            step(rule, states, gradient, piece[4], piece[5], factor, rate, decay, made, is_learned)


@compiled
def train(worker, workers, barrier, first, samples, batch, rule, states, workspace):  # type: ignore[no-untyped-def]
    """Learn all samples in order; states and losses are written."""
    passed, base, made = 0, 0, rule.steps
    for start in range(0, samples.x.shape[0], samples.batch):
        n = min(samples.batch, samples.x.shape[0] - start)
        made += 1
        workspace.update[worker] += 1
        for phase in range(batch.phases.shape[0]):
            kind, layer, size = (
                batch.phases[phase, 0],
                batch.phases[phase, 1],
                batch.phases[phase, 2],
            )
            if kind in (FORWARD, BACKWARD):
                extent = batch.layout[layer, UNITS]
            elif kind in (GRADIENTS, STEPS):
                extent = batch.pieces.shape[0]
            else:
                extent = n
            factor = _before(worker, kind, first, batch, rule, states, workspace, n)
            pieces = (extent + size - 1) // size
            i = take(workspace.tickets) - base
            while i < pieces:
                low, high = i * size, min((i + 1) * size, extent)
                _do(
                    worker, kind, layer, low, high, first, samples, batch, rule, states, workspace,
                    n, start, factor, made,
                )  # fmt: skip
                i = take(workspace.tickets) - base
            base += pieces + workers
            if not wait_at_barrier(workers, barrier, passed):
                return
            passed += 1

"""Operations on a batch's samples: forward, the losses, and the errors back.

The meaning is `Backend.forward`, `losses` and `backward`, `regularization` and `noise.philox`. What
an operation is handed is described in `program`; `batch_network` says where the numbers lie, and in
which order the operations are called. Where one goes over samples, these are `low` to `high` - 1
of the batch, and the units `begin` to `end` - 1 of the layer.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import philox, products
from .compiling import part
from .dense import ROWS, multiply, turn
from .elementwise import activate, add, exp, times_slope
from .lanes import REGISTER_BYTES
from .program import Operation
from .views import matrix, matrix_at, vector, vector_at

DEPTH = 512  # inputs whose weights in a tile are in the second cache while all samples use them
HEIGHT = 256  # units whose errors are, likewise


@part
def rows_at(job, where, layer):  # type: ignore[no-untyped-def]
    """Return where a layer begins in one of the arrays that hold all layers of a batch."""
    return where + layer.offset * job.batch


@part
def _row(job, memory, piece, where, s):  # type: ignore[no-untyped-def]
    """View the units of a sample, of one of the arrays that hold all layers of a batch."""
    layer = memory.layers[piece.layer]
    at = rows_at(job, where, layer) + s * layer.width + piece.begin
    return vector(memory.numbers, at, piece.end - piece.begin)


@part
def _of_layer(memory, piece, position):  # type: ignore[no-untyped-def]
    """View the piece's units of what is stored once a unit, from a position on."""
    return vector(memory.numbers, position + piece.begin, piece.end - piece.begin)


@part
def gradient_at(job, piece):  # type: ignore[no-untyped-def]
    """Return where a piece's gradient begins; of vectors all are kept."""
    if job.is_clipped or piece.high == 0:
        return job.gradient + piece.begin
    return job.pieces + piece.worker * job.piece_size


@part
def _drop(job, memory, piece, probability, layer, row, start, a):  # type: ignore[no-untyped-def]
    """Multiply a row's numbers, the first of which is its `start`-th, by their mask."""
    skipped = start % 8  # of a counter's eight units: a register may hold fewer numbers
    count = (skipped + a.size + 7) // 8 * 4
    words = vector(memory.words, piece.worker * job.noise_size, count)
    update = job.update + piece.start // job.batch
    philox.draw(job.key, start // 8, job.first_row + row, layer, update, words)
    numbers = words.view(np.uint16)[skipped:]
    one, zero = a.dtype.type(1), a.dtype.type(0)
    least = np.uint16(probability * 65536)
    factor = one / (one - a.dtype.type(probability))
    for j in range(a.size):
        a[j] *= factor if numbers[j] >= least else zero


# --- the first layer -------------------------------------------------------------------------


@part
def _index(job, memory, s):  # type: ignore[no-untyped-def]
    """View the index, see `products.collect`, of the block that begins with the s-th sample."""
    return vector(memory.index, s // job.block * job.rows, job.rows)


@part
def _values(job, memory, s):  # type: ignore[no-untyped-def]
    """View the values in it."""
    return vector(memory.numbers, job.values + s * job.listed, job.block * job.listed)


@part
def _list_inputs(job, memory, piece, x, rows, first, scale_at):  # type: ignore[no-untyped-def]
    """List the inputs that are not zero of the piece's samples, see `products.collect`."""
    index, values = _index(job, memory, piece.low), _values(job, memory, piece.low)
    scale = vector(memory.numbers, scale_at, job.rows)
    marks = vector(memory.marks, piece.worker * job.rows, job.rows)
    products.collect(x, rows, first, piece.high - piece.low, scale, marks, index, values)


@Operation
def begin_sums(job, memory, piece):  # type: ignore[no-untyped-def]
    """Begin the first layer's sums with the biases, after `sum_shift` if there is one."""
    r = vector(memory.numbers, job.r + piece.begin, memory.layers[0].columns)
    bias = vector(memory.numbers, memory.layers[0].bias + piece.begin, memory.layers[0].columns)
    if not job.has_shift:
        for j in range(r.size):
            r[j] = 0
    if job.adds_biases:
        add(r.dtype.type(1), bias, r)


def _of_samples(dtype: Any) -> tuple[Operation, Operation]:
    """Make the operations that go over all inputs of samples, whose dtype this is."""

    @Operation
    def collect(job, memory, piece):  # type: ignore[no-untyped-def]
        """List the inputs that are not zero of a block of samples."""
        x = matrix_at(job.x, dtype, job.stored, job.features)
        _list_inputs(job, memory, piece, x, memory.rows, piece.start + piece.low, job.map)

    @Operation
    def drop_inputs(job, memory, piece):  # type: ignore[no-untyped-def]
        """Map samples and drop some of their inputs, before the rest is listed likewise."""
        x, count = matrix_at(job.x, dtype, job.stored, job.features), piece.high - piece.low
        u = matrix(memory.numbers, job.u + piece.low * job.features, count, job.features)
        scale = vector(memory.numbers, job.map, job.features)
        shift = vector(memory.numbers, job.map + job.rows, job.features)
        for t in range(count):
            row = products.row_of(memory.rows, piece.start + piece.low + t)
            values, mapped = x[row], u[t]
            for i in range(mapped.size):
                mapped[i] = mapped.dtype.type(values[i]) * scale[i] + shift[i]
            _drop(job, memory, piece, job.dropped_inputs, 0, piece.low + t, 0, mapped)
        _list_inputs(job, memory, piece, u, products.IN_ORDER, 0, job.ones)

    return collect, drop_inputs


def _of_sparse(real: Any) -> tuple[Operation, Operation]:
    """Make the same for samples that are sparse, in the numbers' dtype."""

    @part
    def inputs(job):  # type: ignore[no-untyped-def]
        starts = vector_at(job.starts, np.int64, job.samples + 1)
        count = starts[job.samples]
        columns = vector_at(job.columns, np.int32, count)
        return products.SparseInputs(vector_at(job.x, real, count), columns, starts)

    @Operation
    def collect(job, memory, piece):  # type: ignore[no-untyped-def]
        """List the inputs that are not zero of a block of samples."""
        index, values = _index(job, memory, piece.low), _values(job, memory, piece.low)
        scale, first = vector(memory.numbers, job.map, job.rows), piece.start + piece.low
        count = piece.high - piece.low
        products.collect_sparse(inputs(job), first, count, scale, index, values)

    @Operation
    def drop_inputs(job, memory, piece):  # type: ignore[no-untyped-def]
        """Map samples, which makes them dense, and drop some of their inputs."""
        x, count = inputs(job), piece.high - piece.low
        u = matrix(memory.numbers, job.u + piece.low * job.features, count, job.features)
        scale = vector(memory.numbers, job.map, job.features)
        shift = vector(memory.numbers, job.map + job.rows, job.features)
        for t in range(count):
            s, mapped = piece.start + piece.low + t, u[t]
            for i in range(mapped.size):
                mapped[i] = shift[i]
            for n in range(x.starts[s], x.starts[s + 1]):
                i = x.columns[n]
                mapped[i] = x.data[n] * scale[i] + shift[i]
            _drop(job, memory, piece, job.dropped_inputs, 0, piece.low + t, 0, mapped)
        _list_inputs(job, memory, piece, u, products.IN_ORDER, 0, job.ones)

    return collect, drop_inputs


def _of_tile(registers: int) -> tuple[Operation, Operation, Operation]:
    """Make the first layer's products, whose tiles, see `lanes`, take so many registers."""
    tile = (0,) * registers

    @Operation
    def sum_shift(job, memory, piece):  # type: ignore[no-untyped-def]
        """Compute what the input map's shift adds to a tile of the sums."""
        numbers = memory.numbers
        columns = memory.layers[0].columns
        W = matrix(numbers, piece.begin * job.rows, job.rows, columns)
        shift = vector(numbers, job.map + job.rows, job.rows)
        products.row_sums(tile, 0, W, shift, vector(numbers, job.r + piece.begin, columns))

    @Operation
    def gather(job, memory, piece):  # type: ignore[no-untyped-def]
        """Compute a tile of the sums of a block of samples."""
        numbers, count = memory.numbers, piece.high - piece.low
        index, values = _index(job, memory, piece.low), _values(job, memory, piece.low)
        r = vector(numbers, job.r + piece.begin, memory.layers[0].columns)
        W = matrix(numbers, piece.begin * job.rows, job.rows, memory.layers[0].columns)
        z = matrix(numbers, job.kept + piece.low * job.width + piece.begin, count, job.width)
        products.gather(tile, 0, index, values, count, r, W, z)

    @Operation
    def scatter(job, memory, piece):  # type: ignore[no-untyped-def]
        """Sum rows of a tile of the gradient over the batch."""
        numbers, low, rows = memory.numbers, piece.low, piece.high - piece.low
        columns = memory.layers[0].columns
        j = piece.begin // (job.rows * columns) * columns
        G = matrix(numbers, gradient_at(job, piece), rows, columns)
        d_sum = vector(numbers, job.gradient + memory.layers[0].bias + j, columns)
        shift, none = vector(numbers, job.shift + low, rows), vector(numbers, job.no_shift, rows)
        r = vector(numbers, job.unused + piece.worker * columns, columns)
        for begin in range(0, piece.n, job.block):
            count = min(job.block, piece.n - begin)
            index = vector(memory.index, begin // job.block * job.rows + low, rows)
            delta = matrix(numbers, job.delta + begin * job.width + j, count, job.width)
            is_new = begin == 0
            of_block = shift if is_new else none  # the sum of δ is that of all blocks
            values = _values(job, memory, begin)
            products.scatter(tile, 0, index, values, of_block, delta, d_sum, is_new, G, r)

    return sum_shift, gather, scatter


OF_SAMPLES = {np.dtype(kind): _of_samples(kind) for kind in (np.uint8, np.float32, np.float64)}
OF_SPARSE = {np.dtype(kind): _of_sparse(kind) for kind in (np.float32, np.float64)}
OF_TILE = {registers: _of_tile(registers) for registers in products.TILES}


# --- forward ---------------------------------------------------------------------------------


def _forward(registers: int) -> Operation:
    """Make the product of a layer after the first, whose tiles take so many registers."""
    tile, rows = (0,) * registers, (0,) * ROWS[registers]
    height = len(rows)

    @Operation
    def forward(job, memory, piece):  # type: ignore[no-untyped-def]
        """Compute tiles of the sums of samples."""
        numbers, before = memory.numbers, memory.layers[piece.layer - 1]
        at, inputs = memory.layers[piece.layer], rows_at(job, job.hidden, before)
        for j in range(piece.begin, piece.end, at.columns):
            W, z = at.matrix + j * before.units, rows_at(job, job.kept, at) + j
            for low in range(0, before.units, DEPTH):
                count = min(DEPTH, before.units - low)
                for s in range(piece.low, piece.high, height):
                    multiply(
                        tile, rows, min(height, piece.high - s), low == 0, count,
                        numbers, inputs + s * before.width + low, before.width, 1,
                        numbers, W + low * at.columns, at.columns,
                        numbers, z + s * at.width, at.width,
                    )  # fmt: skip

    return forward


FORWARD = {registers: _forward(registers) for registers in ROWS}


@Operation
def add_biases(job, memory, piece):  # type: ignore[no-untyped-def]
    """Add a layer's biases to its sums."""
    bias = _of_layer(memory, piece, memory.layers[piece.layer].bias)
    for s in range(piece.low, piece.high):
        z = _row(job, memory, piece, job.kept, s)
        for j in range(z.size):
            z[j] += bias[j]


@Operation
def activations(job, memory, piece):  # type: ignore[no-untyped-def]
    """Turn a hidden layer's sums into activations, whose derivative is written in these."""
    for s in range(piece.low, piece.high):
        z = _row(job, memory, piece, job.kept, s)
        activate(job.activation, z, 0, z.size)


@Operation
def gelu(job, memory, piece):  # type: ignore[no-untyped-def]
    """Compute the activations of `functions.GELU`, whose derivative is written in its sums."""
    for s in range(piece.low, piece.high):
        z, a = _row(job, memory, piece, job.kept, s), _row(job, memory, piece, job.hidden, s)
        one, cube = z.dtype.type(1), z.dtype.type(0.044715)
        scale = z.dtype.type(-2 * 0.7978845608028654)
        for j in range(z.size):
            a[j] = z[j] / (one + exp(scale * z[j] * (one + cube * z[j] * z[j])))


@Operation
def drop_units(job, memory, piece):  # type: ignore[no-untyped-def]
    """Drop activations; those that the derivative needs are kept."""
    for s in range(piece.low, piece.high):
        dropped = _row(job, memory, piece, job.hidden, s)
        if not job.keeps_sums:
            a = _row(job, memory, piece, job.kept, s)
            for j in range(a.size):
                dropped[j] = a[j]
        _drop(job, memory, piece, job.dropped, piece.layer + 1, s, piece.begin, dropped)


# --- losses, and the errors back -------------------------------------------------------------


@part
def _weight(job, memory, piece, s):  # type: ignore[no-untyped-def]
    """Return what a sample's error is multiplied by: its weight over the mean of the batch's."""
    if job.weights < 0:
        return memory.numbers.dtype.type(1)
    return memory.numbers[job.weights + piece.start + s]


@Operation
def softmax(job, memory, piece):  # type: ignore[no-untyped-def]
    """Compute the losses of softmax and cross-entropy, and the output layer's δ."""
    zero, one = memory.numbers.dtype.type(0), memory.numbers.dtype.type(1)
    for s in range(piece.low, piece.high):
        z, d = _row(job, memory, piece, job.kept, s), _row(job, memory, piece, job.delta, s)
        label, loss = memory.labels[piece.start + s], zero
        largest, total = z[0], zero
        for k in range(z.size):
            largest = max(largest, z[k])
        for k in range(z.size):
            d[k] = exp(z[k] - largest)
        for k in range(z.size):
            total += d[k]
        log_sum, weight = largest + np.log(total), _weight(job, memory, piece, s)
        targets = job.low * (memory.numbers.dtype.type(z.size) - one) + job.high
        for k in range(z.size):
            target = job.high if k == label else job.low
            loss += target * (log_sum - z[k])
            d[k] = weight * (d[k] / total * targets - target)
        memory.numbers[job.losses + piece.start + s] = loss


@Operation
def sigmoids(job, memory, piece):  # type: ignore[no-untyped-def]
    """Compute the losses of the others, and the output layer's δ, or the error itself as well."""
    zero, one = memory.numbers.dtype.type(0), memory.numbers.dtype.type(1)
    for s in range(piece.low, piece.high):
        z, d = _row(job, memory, piece, job.kept, s), _row(job, memory, piece, job.delta, s)
        raw = _row(job, memory, piece, job.carried, s)
        label, loss, weight = memory.labels[piece.start + s], zero, _weight(job, memory, piece, s)
        for k in range(z.size):
            d[k] = one / (one + exp(-z[k]))
        for k in range(z.size):
            target = job.high if k == label else job.low
            output = d[k]
            error = output - target
            if job.loss == 2:
                loss += max(z[k], zero) + np.log1p(exp(-abs(z[k]))) - target * z[k]
                d[k] = weight * error
            else:
                loss += error * error / (one + one)
                d[k] = weight * error * output * (one - output)
                if job.loss == 0:
                    raw[k] = weight * error
        memory.numbers[job.losses + piece.start + s] = loss


def _of_chunk(registers: int) -> tuple[Operation, Operation]:
    """Make what hands errors down, of as many samples at a time as so many registers hold."""
    tile, rows = (0,) * registers, (0,) * ROWS[registers]
    height = len(rows)

    @Operation
    def turn_errors(job, memory, piece):  # type: ignore[no-untyped-def]
        """Write a layer's errors by units: of each chunk of samples a row for each unit."""
        numbers, at, chunk = memory.numbers, memory.layers[piece.layer], job.chunk
        errors = rows_at(job, job.carried, at)
        lanes = REGISTER_BYTES // numbers.itemsize
        for s in range(piece.low, piece.high, lanes):
            turned = job.turned + at.offset * job.padded + s // chunk * chunk * at.width + s % chunk
            for j in range(piece.begin, piece.end, lanes):
                count = min(lanes, piece.end - j)
                by_samples = errors + s * at.width + j
                turn(numbers, by_samples, at.width, numbers, turned + j * chunk, chunk, count)

    @Operation
    def backward(job, memory, piece):  # type: ignore[no-untyped-def]
        """Compute the errors of a hidden layer's activations."""
        numbers, chunk = memory.numbers, job.chunk
        at, after = memory.layers[piece.layer], memory.layers[piece.layer + 1]
        lanes = REGISTER_BYTES // numbers.itemsize
        scratch = job.scratch + piece.worker * HEIGHT * chunk
        for start in range(piece.low, piece.high, chunk):
            errors = job.turned + after.offset * job.padded + start * after.width
            stop = min(start + chunk, piece.high)
            for low in range(piece.begin, piece.end, HEIGHT):
                high = min(low + HEIGHT, piece.end)
                for j in range(0, after.units, after.columns):
                    W, count = after.matrix + j * at.units, min(after.columns, after.units - j)
                    for k in range(low, high, height):
                        multiply(
                            tile, rows, min(height, high - k), j == 0, count,
                            numbers, W + k * after.columns, after.columns, 1,
                            numbers, errors + j * chunk, chunk,
                            numbers, scratch + (k - low) * chunk, chunk,
                        )  # fmt: skip
                whole = -(-(high - low) // lanes) * lanes  # beyond the units all is zero
                rest = vector(numbers, scratch + (high - low) * chunk, (whole - high + low) * chunk)
                for i in range(rest.size):
                    rest[i] = 0
                for s in range(start, stop, lanes):
                    delta = rows_at(job, job.delta, at) + s * at.width + low
                    for k in range(0, whole, lanes):
                        by_unit = scratch + k * chunk + s - start
                        rows_left = min(lanes, stop - s)
                        turn(numbers, by_unit, chunk, numbers, delta + k, at.width, rows_left)

    return turn_errors, backward


OF_CHUNK = {registers: _of_chunk(registers) for registers in ROWS}


@Operation
def drop_errors(job, memory, piece):  # type: ignore[no-untyped-def]
    """Drop the errors of the activations that were dropped."""
    for s in range(piece.low, piece.high):
        delta = _row(job, memory, piece, job.delta, s)
        _drop(job, memory, piece, job.dropped, piece.layer + 1, s, piece.begin, delta)


@Operation
def carry_raw(job, memory, piece):  # type: ignore[no-untyped-def]
    """Keep the error as Rashid's rule hands it down."""
    for s in range(piece.low, piece.high):
        delta = _row(job, memory, piece, job.delta, s)
        raw = _row(job, memory, piece, job.carried, s)
        for j in range(raw.size):
            raw[j] = delta[j]


@Operation
def slopes(job, memory, piece):  # type: ignore[no-untyped-def]
    """Turn errors into δ, by a derivative that is written in activations."""
    for s in range(piece.low, piece.high):
        kept, delta = _row(job, memory, piece, job.kept, s), _row(job, memory, piece, job.delta, s)
        times_slope(job.activation, kept, delta)


@Operation
def gelu_slopes(job, memory, piece):  # type: ignore[no-untyped-def]
    """Turn errors into δ by the derivative of `functions.GELU`."""
    for s in range(piece.low, piece.high):
        kept, delta = _row(job, memory, piece, job.kept, s), _row(job, memory, piece, job.delta, s)
        one, cube = kept.dtype.type(1), kept.dtype.type(0.044715)
        scale, three = kept.dtype.type(2 * 0.7978845608028654), kept.dtype.type(3)
        for j in range(delta.size):
            z = kept[j]
            share = one / (one + exp(-scale * z * (one + cube * z * z)))
            slope = one + z * (one - share) * scale * (one + three * cube * z * z)
            delta[j] *= share * slope


# --- batch normalisation: its units are those of the piece, its samples the batch's ---------------


@Operation
def normalize(job, memory, piece):  # type: ignore[no-untyped-def]
    """Normalise sums over the batch, and move the running moments."""
    layer, n, real = memory.layers[piece.layer], piece.n, memory.numbers.dtype.type
    mean = _of_layer(memory, piece, job.means + layer.offset)
    variance = _of_layer(memory, piece, job.variances + layer.offset)
    spread = _of_layer(memory, piece, job.spread + layer.offset)
    gain, shift = _of_layer(memory, piece, layer.gain), _of_layer(memory, piece, layer.bias)
    fraction = real(1) / real(n)
    for j in range(mean.size):
        mean[j] = variance[j] = real(0)
    for s in range(n):
        add(fraction, _row(job, memory, piece, job.kept, s), mean)
    for s in range(n):
        z, centred = _row(job, memory, piece, job.kept, s), _row(job, memory, piece, job.normal, s)
        for j in range(z.size):
            centred[j] = z[j] - mean[j]
            variance[j] += fraction * centred[j] * centred[j]
    for j in range(spread.size):
        spread[j] = real(1) / np.sqrt(variance[j] + real(1e-5))
    for s in range(n):
        z, x = _row(job, memory, piece, job.kept, s), _row(job, memory, piece, job.normal, s)
        for j in range(z.size):
            x[j] *= spread[j]
            z[j] = gain[j] * x[j] + shift[j]
    if n > 1:
        tenth, unbiased = real(0.1), real(n / (n - 1))
        running = _of_layer(memory, piece, layer.moments)
        for j in range(running.size):
            running[j] += tenth * (mean[j] - running[j])
        running = _of_layer(memory, piece, layer.moments + layer.width)
        for j in range(running.size):
            running[j] += tenth * (variance[j] * unbiased - running[j])


@Operation
def denormalize(job, memory, piece):  # type: ignore[no-untyped-def]
    """Take the errors back through it, and form the gradients of gain and shift."""
    layer, n, real = memory.layers[piece.layer], piece.n, memory.numbers.dtype.type
    by_gain = _of_layer(memory, piece, job.gradient + layer.gain)
    by_shift = _of_layer(memory, piece, job.gradient + layer.bias)
    gain = _of_layer(memory, piece, layer.gain)
    spread = _of_layer(memory, piece, job.spread + layer.offset)
    fraction = real(1) / real(n)
    for j in range(by_gain.size):
        by_gain[j] = by_shift[j] = real(0)
    for s in range(n):
        d, x = _row(job, memory, piece, job.delta, s), _row(job, memory, piece, job.normal, s)
        for j in range(d.size):
            by_gain[j] += d[j] * x[j]
            by_shift[j] += d[j]
    for s in range(n):
        d, x = _row(job, memory, piece, job.delta, s), _row(job, memory, piece, job.normal, s)
        for j in range(d.size):
            rest = d[j] - fraction * by_shift[j] - x[j] * (fraction * by_gain[j])
            d[j] = gain[j] * spread[j] * rest

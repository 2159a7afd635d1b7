"""The first layer's products, skipping zeros.

Most of an image is background. With the input map x = s∘p + b and u = s∘p, whose zeros are the
zeros of the data p,

    x W = u W + r,   r = b W                      for a block of samples (gather)
    W ← W + Σ_t x_tᵀ d_t
      = W + Σ_t u_tᵀ d_t + bᵀ Σ_t d_t             (scatter)
    x_t · x_s = u_t · u_s + β_t + β_s + b · b,   β_t = b · u_t

so only u's non-zeros are multiplied, and b is one sample more. Rows of W are walked through two at
a time, in registers while all the samples of the block that have one of their pixels use them:
`collect` lists which these are, and their numbers. The r of the next block falls off on the way. A
row of W has whole tiles of columns (see `lanes`), zero beyond the layer's units, and each tile lies
by itself; there is an even number of rows.
"""

from __future__ import annotations

from collections import namedtuple

import numpy as np

from .compiling import compiled, part
from .lanes import REGISTER_BYTES, bit_count, fma, load, lowest_bit, splat, store, total
from .views import item

BLOCK = 32  # samples that are learned by delayed updates
LISTED = 64  # samples that are listed at a time at most, the bits of a number
# registers a tile may take: seven and seven are the 200 units of the lessons in float32
TILES = (8, 7)
IN_ORDER = np.zeros(0, np.int64)  # what `collect` takes for samples that lie in their order


class SparseInputs(namedtuple("SparseInputs", "data columns starts")):
    """Samples as CSR: sample t has the numbers `starts[t]` to `starts[t + 1]` - 1 of `data`."""


class First(namedtuple("First", "tile scale shift no_shift W b u index values marks r")):
    """The first layer, as `packed.FirstLayer` describes it."""


@part
def scaled(x, first, count, scale, u):  # type: ignore[no-untyped-def]
    """Fill u[t] = s∘p for samples first … first + count - 1 of x; u has zeros beyond."""
    for t in range(count):
        pixels, mapped = x[first + t], u[t]
        for i in range(pixels.size):
            mapped[i] = u.dtype.type(pixels[i]) * scale[i]


@part
def row_of(rows, s):  # type: ignore[no-untyped-def]
    """Return which row of all values is the s-th sample: s itself if no `rows` are given."""
    return rows[s] if rows.size else s


@part
def collect(x, rows, first, count, scale, marks, index, values):  # type: ignore[no-untyped-def]
    """List the inputs of `count` samples from the `first`-th on that are not zero, see `row_of`.

    Inputs go in pairs, i and i + 1: index[i] has a bit for each sample where one of them is not 0,
    index[i + 1] says where their numbers scale ∘ x begin in `values`, two for each such sample.
    """
    for i in range(index.size):
        index[i] = 0
    for low in range(0, count, 8):  # eight samples in bytes, of which a register holds the most
        for i in range(marks.size):
            marks[i] = 0
        for t in range(low, min(low + 8, count)):
            bit, pixels = np.uint8(1) << np.uint8(t - low), x[row_of(rows, first + t)]
            for i in range(pixels.size):
                marks[i] |= bit if pixels[i] != 0 else np.uint8(0)
        for i in range(marks.size):
            index[i] |= np.uint64(marks[i]) << np.uint64(low)
    features, real, k = x.shape[1], values.dtype.type, 0
    for i in range(0, index.size, 2):
        bits = index[i] | index[i + 1]
        index[i], index[i + 1] = bits, k
        other = min(i + 1, features - 1) - i  # beyond x the scale is 0
        while bits:
            t = lowest_bit(bits)
            bits &= bits - np.uint64(1)
            pixel = row_of(rows, first + t) * features + i
            values[k] = real(item(x, pixel)) * scale[i]
            values[k + 1] = real(item(x, pixel + other)) * scale[i + 1]
            k += 2


@part
def collect_sparse(x, first, count, scale, index, values):  # type: ignore[no-untyped-def]
    """List as `collect` does, of `SparseInputs`."""
    one, real = np.uint64(1), values.dtype.type
    for i in range(index.size):
        index[i] = 0
    for t in range(count):
        for n in range(x.starts[first + t], x.starts[first + t + 1]):
            index[x.columns[n] & ~1] |= one << np.uint64(t)
    k = 0
    for i in range(0, index.size, 2):
        index[i + 1] = k
        k += 2 * bit_count(index[i])
    for i in range(k):
        values[i] = real(0)
    for t in range(count):
        earlier = (one << np.uint64(t)) - one
        for n in range(x.starts[first + t], x.starts[first + t + 1]):
            column = x.columns[n]
            i = column & ~1
            at = np.int64(index[i + 1]) + 2 * bit_count(index[i] & earlier) + (column & 1)
            values[at] = real(x.data[n]) * scale[column]


@part
def row_sums(tile, j, W, shift, r):  # type: ignore[no-untyped-def]
    """Compute r = b W of a tile W, whose columns are those from j on."""
    sums = splat(tile, W.dtype.type(0))
    for i in range(shift.size):
        sums = fma(shift[i], load(tile, W, i * W.shape[1]), sums)
    store(r, j, sums)


@part
def gather(tile, j, index, values, count, r, W, z):  # type: ignore[no-untyped-def]
    """Compute z[t] = u[t] W + r of `count` samples, see `collect`.

    W is a tile, whose columns are those from j on of z and r.
    """
    width, columns, start, k = z.shape[1], W.shape[1], load(tile, r, j), 0
    for t in range(count):
        store(z, t * width + j, start)
    for i in range(0, index.size, 2):
        bits = index[i]
        if bits == 0:
            continue
        row, next_row = load(tile, W, i * columns), load(tile, W, (i + 1) * columns)
        while bits:
            at = lowest_bit(bits) * width + j
            bits &= bits - np.uint64(1)
            sums = fma(item(values, k), row, load(tile, z, at))
            store(z, at, fma(item(values, k + 1), next_row, sums))
            k += 2


@part
def scatter(tile, j, index, values, shift, d, d_sum, is_new, W, r):  # type: ignore[no-untyped-def]
    """Compute W += Σ_t x_tᵀ d[t] of the samples in `index`, see `collect`, and r = b W.

    W is a tile, whose columns are those from j on of the others. If W is new, it is written, and
    not added to.
    """
    sums, zero = load(tile, d_sum, j), splat(tile, W.dtype.type(0))
    width, columns, r_sum = d.shape[1], W.shape[1], zero
    for i in range(0, index.size, 2):
        bits, k = index[i], np.int64(index[i + 1])
        b, next_b = shift[i], shift[i + 1]
        is_shifted = b != 0 or next_b != 0
        if bits == 0 and not is_shifted and not is_new:
            continue
        row = zero if is_new else load(tile, W, i * columns)
        next_row = zero if is_new else load(tile, W, (i + 1) * columns)
        if is_shifted:
            row, next_row = fma(b, sums, row), fma(next_b, sums, next_row)
        while bits:
            of_sample = load(tile, d, lowest_bit(bits) * width + j)
            bits &= bits - np.uint64(1)
            row = fma(item(values, k), of_sample, row)
            next_row = fma(item(values, k + 1), of_sample, next_row)
            k += 2
        store(W, i * columns, row)
        store(W, (i + 1) * columns, next_row)
        if is_shifted:
            r_sum = fma(next_b, next_row, fma(b, row, r_sum))
    store(r, j, r_sum)


@part
def dot(a, i, b, j, n):  # type: ignore[no-untyped-def]
    """Return Σ a[i+k] b[j+k] for k < n, n a multiple of what a register holds."""
    four, one = (0, 0, 0, 0), (0,)
    step = REGISTER_BYTES // a.itemsize
    sums, rest = splat(four, a.dtype.type(0)), splat(one, a.dtype.type(0))
    k = 0
    while k + 4 * step <= n:
        sums = fma(load(four, a, i + k), load(four, b, j + k), sums)
        k += 4 * step
    while k < n:
        rest = fma(load(one, a, i + k), load(one, b, j + k), rest)
        k += step
    return total(sums) + total(rest)


@part
def gram(u, count, shift, g):  # type: ignore[no-untyped-def]
    """Compute g[t, s] = x_t · x_s for s < t, and in the last row β."""
    one = (0,)
    step = REGISTER_BYTES // u.itemsize
    n = u.shape[1]
    beta = g[-1]
    constant = dot(shift, 0, shift, 0, n)
    for t in range(count):
        beta[t] = dot(u, t * n, shift, 0, n)
    # two by four dot products at a time share the loads of what they multiply
    for t in range(0, count, 2):
        for s in range(0, t + 1, 4):
            a0 = a1 = a2 = a3 = b0 = b1 = b2 = b3 = splat(one, u.dtype.type(0))
            for k in range(0, n, step):
                a, b = load(one, u, t * n + k), load(one, u, (t + 1) * n + k)
                x = load(one, u, s * n + k)
                a0, b0 = fma(a, x, a0), fma(b, x, b0)
                x = load(one, u, (s + 1) * n + k)
                a1, b1 = fma(a, x, a1), fma(b, x, b1)
                x = load(one, u, (s + 2) * n + k)
                a2, b2 = fma(a, x, a2), fma(b, x, b2)
                x = load(one, u, (s + 3) * n + k)
                a3, b3 = fma(a, x, a3), fma(b, x, b3)
            g[t, s], g[t + 1, s] = total(a0), total(b0)
            g[t, s + 1], g[t + 1, s + 1] = total(a1), total(b1)
            g[t, s + 2], g[t + 1, s + 2] = total(a2), total(b2)
            g[t, s + 3], g[t + 1, s + 3] = total(a3), total(b3)
    for t in range(count):
        for s in range(t):
            g[t, s] += beta[t] + beta[s] + constant


@part
def gram_sparse(index, values, count, shift, g):  # type: ignore[no-untyped-def]
    """Compute as `gram` does, from the lists of `collect`."""
    beta, constant = g[-1], g.dtype.type(0)
    for t in range(count):
        beta[t] = g.dtype.type(0)
        for s in range(t):
            g[t, s] = g.dtype.type(0)
    for i in range(shift.size):
        constant += shift[i] * shift[i]
    for i in range(0, index.size, 2):
        bits, begin = index[i], np.int64(index[i + 1])
        left, k = bits, begin
        while left:
            t = lowest_bit(left)
            left &= left - np.uint64(1)
            u, next_u = values[k], values[k + 1]
            beta[t] += u * shift[i] + next_u * shift[i + 1]
            earlier, n = bits, begin
            while n < k:
                s = lowest_bit(earlier)
                earlier &= earlier - np.uint64(1)
                g[t, s] += u * values[n] + next_u * values[n + 1]
                n += 2
            k += 2
    for t in range(count):
        for s in range(t):
            g[t, s] += beta[t] + beta[s] + constant


@part
def prepare(x, sparse, first, count, layer, marks, mixing, index, values):  # type: ignore[no-untyped-def]
    """Compute what a block needs besides the weights: its lists, and its `gram` in `mixing`.

    The samples are those of x, or of `sparse` where that is not None.
    """
    if sparse is None:
        scaled(x, first, count, layer.scale, layer.u)
        gram(layer.u, count, layer.shift, mixing)
        collect(x, IN_ORDER, first, count, layer.scale, marks, index, values)
    else:
        collect_sparse(sparse, first, count, layer.scale, index, values)
        gram_sparse(index, values, count, layer.shift, mixing)


@part
def begin_sums(layer, worker):  # type: ignore[no-untyped-def]
    """Compute what every sample's z begins with, r = b W and the biases."""
    W, r = layer.W[0], layer.r[worker]
    for i in range(W.shape[0]):
        row_sums(layer.tile, i * W.shape[2], W[i], layer.shift, r)
    for j in range(r.size):
        r[j] += layer.b[0, j]


@part
def _listed(worker, layer, x, first, count):  # type: ignore[no-untyped-def]
    """List a block of samples, see `collect`, in a worker's own arrays."""
    index, values, marks = layer.index[worker], layer.values[worker], layer.marks[worker]
    collect(x, IN_ORDER, first, count, layer.scale, marks, index, values)
    return index, values


@compiled
def affine(worker, workers, barrier, layer, x, z):  # type: ignore[no-untyped-def]
    """Compute z = x W + b; each worker takes blocks of samples."""
    begin_sums(layer, worker)
    W, r = layer.W[0], layer.r[worker]
    for start in range(worker * LISTED, x.shape[0], workers * LISTED):
        count = min(LISTED, x.shape[0] - start)
        index, values = _listed(worker, layer, x, start, count)
        for i in range(W.shape[0]):
            gather(layer.tile, i * W.shape[2], index, values, count, r, W[i], z[start:])


@compiled
def update(worker, workers, barrier, layer, x, d, d_sum):  # type: ignore[no-untyped-def]
    """Compute W += Σ_t x_tᵀ d[t], W the last state; each worker takes rows of it."""
    pairs = layer.W.shape[2] // 2
    low, high = 2 * (worker * pairs // workers), 2 * ((worker + 1) * pairs // workers)
    W, r, n = layer.W[-1], layer.r[worker], x.shape[0]
    for start in range(0, n, LISTED):
        stop = min(start + LISTED, n)
        index, values = _listed(worker, layer, x, start, stop - start)
        b = layer.shift if start == 0 else layer.no_shift  # d_sum is that of all blocks
        steps = d[start:stop]
        for i in range(W.shape[0]):
            j, rows = i * W.shape[2], W[i, low:high]
            scatter(
                layer.tile, j, index[low:high], values, b[low:high], steps, d_sum, False, rows, r
            )

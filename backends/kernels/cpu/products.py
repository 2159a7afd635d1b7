"""The first layer's products, skipping zeros.

Most of an image is background. With the input map x = s∘p + b and u = s∘p, whose zeros are the
zeros of the data p,

    x W = u W + r,   r = b W                      for a block of samples (gather)
    W ← W + Σ_t x_tᵀ d_t
      = W + Σ_t u_tᵀ d_t + bᵀ Σ_t d_t             (scatter)
    x_t · x_s = u_t · u_s + β_t + β_s + b · b,   β_t = b · u_t

so only u's non-zeros are multiplied, and b is one sample more. Rows of W are walked through in
order, each in registers while all the samples of the block that have its pixel use it: a bit a
sample in `mask` says which. The r of the next block falls off on the way. A row of W has `width`
numbers, whole tiles (see `lanes`), zero beyond the layer's units; there is an even number of rows,
since `gather` takes two at a time.
"""

from __future__ import annotations

from collections import namedtuple

import numpy as np

from .compiling import compiled, part
from .lanes import REGISTER_BYTES, fma, load, lowest_bit, splat, store, total
from .views import item

BLOCK = 32  # samples, the bits of a mask
# registers a tile may take: seven and seven are the 200 units of the lessons in float32
TILES = (8, 7)


class First(namedtuple("First", "tile scale shift no_shift W b u mask r")):
    """The first layer, as `packed.FirstLayer` describes it."""


@part
def tile_width(layer):  # type: ignore[no-untyped-def]
    """Return the numbers in a tile."""
    return len(layer.tile) * (REGISTER_BYTES // layer.W.itemsize)


@part
def prepare(x, first, count, start, stop, scale, u, mask):  # type: ignore[no-untyped-def]
    """Fill u[t] = s∘p and each pixel's mask for samples first … first + count - 1 of x.

    Only for the pixels start … stop - 1; u, mask and scale have zeros for some more than x has.
    """
    # views from 0 on: an index that might be negative keeps LLVM from vectorising the loops
    bits, factor = mask[start:stop], scale[start:stop]
    for i in range(bits.size):
        bits[i] = 0
    for t in range(count):
        bit = np.uint32(1) << np.uint32(t)
        pixels, mapped = x[first + t, start:stop], u[t, start:stop]
        for i in range(pixels.size):
            mapped[i] = u.dtype.type(pixels[i]) * factor[i]
        for i in range(pixels.size):
            bits[i] |= bit if mapped[i] != 0 else np.uint32(0)


@part
def collect(x, first, count, scale, marks, index, values):  # type: ignore[no-untyped-def]
    """List the inputs of `count` samples from the `first`-th on that are not zero.

    Inputs go in pairs, i and i + 1: index[i] has a bit for each sample where one of them is not 0,
    index[i + 1] says where in `values` their numbers scale ∘ x begin, two for each such sample.
    """
    for i in range(index.size):
        index[i] = 0
    for low in range(0, count, 8):  # eight samples in bytes, of which a register holds the most
        for i in range(marks.size):
            marks[i] = 0
        for t in range(low, min(low + 8, count)):
            bit, pixels = np.uint8(1) << np.uint8(t - low), x[first + t]
            for i in range(pixels.size):
                marks[i] |= bit if pixels[i] != 0 else np.uint8(0)
        for i in range(marks.size):
            index[i] |= np.uint64(marks[i]) << np.uint64(low)
    features, real, k = x.shape[1], values.dtype.type, 0
    for i in range(0, index.size, 2):
        bits = index[i] | index[i + 1]
        index[i], index[i + 1] = bits, k
        at = first * features + i
        other = min(i + 1, features - 1) - i  # beyond x the scale is 0
        while bits:
            t = lowest_bit(bits)
            bits &= bits - np.uint64(1)
            pixel = at + t * features
            values[k] = real(item(x, pixel)) * scale[i]
            values[k + 1] = real(item(x, pixel + other)) * scale[i + 1]
            k += 2


@part
def row_sums(tile, j, W, shift, r):  # type: ignore[no-untyped-def]
    """Compute r = b W, in the tile of columns from j on."""
    sums = splat(tile, W.dtype.type(0))
    for i in range(shift.size):
        sums = fma(shift[i], load(tile, W, i * W.shape[1] + j), sums)
    store(r, j, sums)


@part
def gather(tile, j, u, mask, count, r, W, z):  # type: ignore[no-untyped-def]
    """Compute z[t] = u[t] W + r for t < count, in the tile of columns from j on."""
    width = W.shape[1]
    start = load(tile, r, j)
    for t in range(count):
        store(z, t * width + j, start)
    for i in range(0, mask.size, 2):
        bits = mask[i] | mask[i + 1]
        if bits == 0:
            continue
        row, next_row = load(tile, W, i * width + j), load(tile, W, (i + 1) * width + j)
        while bits:
            t = lowest_bit(bits)
            bits &= bits - np.uint32(1)
            sums = fma(u[t, i], row, load(tile, z, t * width + j))
            store(z, t * width + j, fma(u[t, i + 1], next_row, sums))


@part
def scatter(tile, j, u, mask, start, stop, shift, d, d_sum, W, r):  # type: ignore[no-untyped-def]
    """Compute W += Σ_t x_tᵀ d[t] and r = b W, in the tile from j on of rows start … stop - 1."""
    width = W.shape[1]
    sums, r_sum = load(tile, d_sum, j), splat(tile, W.dtype.type(0))
    for i in range(start, stop):
        bits, b = mask[i], shift[i]
        if bits == 0 and b == 0:
            continue
        row = fma(b, sums, load(tile, W, i * width + j))
        while bits:
            t = lowest_bit(bits)
            bits &= bits - np.uint32(1)
            row = fma(u[t, i], load(tile, d, t * width + j), row)
        store(W, i * width + j, row)
        r_sum = fma(b, row, r_sum)
    store(r, j, r_sum)


@part
def gather_listed(tile, index, values, count, r, W, z):  # type: ignore[no-untyped-def]
    """Compute z[t] = x[t] W + r of `count` samples, see `collect`, in the first tile of columns."""
    width, columns, start, k = z.shape[1], W.shape[1], load(tile, r, 0), 0
    for t in range(count):
        store(z, t * width, start)
    for i in range(0, index.size, 2):
        bits = index[i]
        if bits == 0:
            continue
        row, next_row = load(tile, W, i * columns), load(tile, W, (i + 1) * columns)
        while bits:
            at = lowest_bit(bits) * width
            bits &= bits - np.uint64(1)
            sums = fma(item(values, k), row, load(tile, z, at))
            store(z, at, fma(item(values, k + 1), next_row, sums))
            k += 2


@part
def scatter_listed(tile, index, values, shift, d, d_sum, is_new, G):  # type: ignore[no-untyped-def]
    """Compute G += xᵀ d of the samples in `index`, see `collect`, and shiftᵀ d_sum.

    In the first tile of columns. If G is new, it is written, and not added to.
    """
    sums, zero = load(tile, d_sum, 0), splat(tile, G.dtype.type(0))
    width, columns = d.shape[1], G.shape[1]
    for i in range(0, index.size, 2):
        bits, k = index[i], np.int64(index[i + 1])
        row = zero if is_new else load(tile, G, i * columns)
        next_row = zero if is_new else load(tile, G, (i + 1) * columns)
        if shift[i] != 0 or shift[i + 1] != 0:
            row, next_row = fma(shift[i], sums, row), fma(shift[i + 1], sums, next_row)
        while bits:
            of_sample = load(tile, d, lowest_bit(bits) * width)
            bits &= bits - np.uint64(1)
            row = fma(item(values, k), of_sample, row)
            next_row = fma(item(values, k + 1), of_sample, next_row)
            k += 2
        store(G, i * columns, row)
        store(G, (i + 1) * columns, next_row)


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
def begin_sums(layer, worker):  # type: ignore[no-untyped-def]
    """Compute what every sample's z begins with, r = b W and the biases."""
    W, r = layer.W[0], layer.r[worker]
    for j in range(0, W.shape[1], tile_width(layer)):
        row_sums(layer.tile, j, W, layer.shift, r)
    for j in range(r.size):
        r[j] += layer.b[0, j]


@part
def block_sums(layer, worker, x, first, count, z):  # type: ignore[no-untyped-def]
    """Compute z[t] = x_t W + b for a block of samples, after `begin_sums`."""
    W, u, mask = layer.W[0], layer.u[worker, 0], layer.mask[worker, 0]
    prepare(x, first, count, 0, W.shape[0], layer.scale, u, mask)
    for j in range(0, W.shape[1], tile_width(layer)):
        gather(layer.tile, j, u, mask, count, layer.r[worker], W, z)


@part
def update_rows(worker, workers, layer, x, first, count, d, d_sum):  # type: ignore[no-untyped-def]
    """Compute W += Σ_t x_tᵀ d[t] for the samples from `first` on, W the last state; each worker
    takes rows of it."""
    W, u, mask, r = layer.W[-1], layer.u[worker, 0], layer.mask[worker, 0], layer.r[worker]
    low, high = worker * W.shape[0] // workers, (worker + 1) * W.shape[0] // workers
    for start in range(0, count, BLOCK):
        stop = min(start + BLOCK, count)
        prepare(x, first + start, stop - start, low, high, layer.scale, u, mask)
        b = layer.shift if start == 0 else layer.no_shift  # d_sum is that of all blocks
        for j in range(0, W.shape[1], tile_width(layer)):
            scatter(layer.tile, j, u, mask, low, high, b, d[start:stop], d_sum, W, r)


@compiled
def affine(worker, workers, barrier, layer, x, z):  # type: ignore[no-untyped-def]
    """Compute z = x W + b; each worker takes blocks of samples."""
    begin_sums(layer, worker)
    for start in range(worker * BLOCK, x.shape[0], workers * BLOCK):
        block_sums(layer, worker, x, start, min(BLOCK, x.shape[0] - start), z[start:])


@compiled
def update(worker, workers, barrier, layer, x, d, d_sum):  # type: ignore[no-untyped-def]
    """Compute W += Σ_t x_tᵀ d[t]."""
    update_rows(worker, workers, layer, x, 0, x.shape[0], d, d_sum)

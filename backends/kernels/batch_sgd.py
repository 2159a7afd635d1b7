"""Training with larger batches, compiled, skipping the inputs' zeros.

The meaning is `Backend.sgd`. All samples of a batch see the same weights, so that each worker takes
parts of the batch forward and back by itself; then each takes rows of W, and adds all samples'
steps to them. The parts, and the order of all sums, are the same for any number of workers.
"""

from __future__ import annotations

from . import products
from .compiling import compiled, part
from .lanes import REGISTER_BYTES
from .layers import begin_batch, learn_sample
from .products import BLOCK
from .workers import meet


@part
def _clear(a):  # type: ignore[no-untyped-def]
    for i in range(a.size):
        a[i] = 0


@part
def _add(a, sums):  # type: ignore[no-untyped-def]
    for i in range(sums.size):
        sums[i] += a[i]


@part
def _learn_part(  # type: ignore[no-untyped-def]
    tile,
    x,
    labels,
    start,
    begin,
    end,
    factor,
    scale,
    layout,
    units,
    classes,
    bias,
    codes,
    reals,
    W,
    deeper,
    T,
    u,
    mask,
    r,
    z,
    acts,
    errors,
    d,
    d_sum,
    losses,
):
    """Take the samples begin … end - 1 forward and back; d's rows count from `start`."""
    rows, width = W.shape
    step = len(tile) * (REGISTER_BYTES // W.itemsize)
    for low in range(begin, end, BLOCK):
        high = min(low + BLOCK, end)
        products.prepare(x, low, high - low, 0, rows, scale, u, mask)
        for j in range(0, width, step):
            products.gather(tile, j, u, mask, high - low, r, W, z)
        for s in range(low, high):
            for j in range(width):
                acts[j] = z[s - low, j]
            losses[s] = learn_sample(
                layout,
                units,
                classes,
                bias,
                codes,
                reals,
                deeper,
                T,
                acts,
                errors,
                labels[s],
                factor,
                d[s - start],
            )
            _add(d[s - start], d_sum)


@part
def _decay(low, high, momentum, decay, W):  # type: ignore[no-untyped-def]
    """Rows of V ← μV - decay · W where there is a velocity, else of W ← W - decay · W."""
    for i in range(low, high):
        for j in range(W.shape[2]):
            if W.shape[0] == 2:
                W[1, i, j] = momentum * W[1, i, j] - decay * W[0, i, j]
            else:
                W[0, i, j] -= decay * W[0, i, j]


@compiled
def train(  # type: ignore[no-untyped-def]
    worker,
    workers,
    meeting,
    tile,
    x,
    labels,
    rates,
    batch,
    scale,
    shift,
    no_shift,
    W,
    b,
    bias,
    layout,
    units,
    classes,
    codes,
    reals,
    deeper,
    T,
    parts,
    u,
    mask,
    r,
    z,
    acts,
    errors,
    d,
    d_sums,
    losses,
):
    """Learn the samples of `x` in order, `batch` at a time.

    As `online_sgd.train`; `no_shift` are zeros in the place of `shift`, `parts` and `d_sums` are
    room for each part's steps of the deeper layers and sum of d, `d` for a batch, and from u to
    errors there is room for each worker.
    """
    n, (states, rows, width), meetings = x.shape[0], W.shape, 0
    momentum, penalty, count = reals[2], reals[3], parts.shape[0]
    step = len(tile) * (REGISTER_BYTES // W.itemsize)
    low, high = worker * rows // workers, (worker + 1) * rows // workers
    for start in range(0, n, batch):
        stop = min(start + batch, n)
        rate = rates[start // batch]
        factor = -rate / W.dtype.type(stop - start)
        for j in range(0, width, step):
            products.row_sums(tile, j, W[0], shift, r[worker])
        _add(b[0], r[worker])
        for p in range(worker, count, workers):
            _clear(parts[p])
            _clear(d_sums[p])
            begin = start + (stop - start) * p // count
            end = start + (stop - start) * (p + 1) // count
            _learn_part(
                tile,
                x,
                labels,
                start,
                begin,
                end,
                factor,
                scale,
                layout,
                units,
                classes,
                bias,
                codes,
                reals,
                W[0],
                deeper,
                parts[p],
                u[worker],
                mask[worker],
                r[worker],
                z[worker],
                acts[worker],
                errors[worker],
                d,
                d_sums[p],
                losses,
            )
        if not meet(workers, meeting, meetings):
            return

        if worker == 0:
            begin_batch(layout, deeper, T, momentum, rate * penalty)
            for p in range(count):
                _add(parts[p], T)
            _add(T, deeper)
        d_sum = r[worker]
        _clear(d_sum)
        for p in range(count):
            _add(d_sums[p], d_sum)
        if momentum != 0 or penalty != 0:
            _decay(low, high, momentum, rate * penalty, W)
        products.update_rows(
            tile,
            x,
            start,
            stop - start,
            low,
            high,
            scale,
            shift,
            no_shift,
            u[worker],
            mask[worker],
            d,
            d_sum,
            W[states - 1],
            z[worker, 0],
        )
        if states == 2:
            for i in range(low, high):
                _add(W[1, i], W[0, i])
        if bias and worker == 0:
            for j in range(width):
                if states == 2:
                    b[1, j] = momentum * b[1, j] + d_sum[j]
                    b[0, j] += b[1, j]
                else:
                    b[0, j] += d_sum[j]
        if not meet(workers, meeting, meetings + 1):
            return
        meetings += 2

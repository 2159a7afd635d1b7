"""Training with small batches, compiled: blocks of delayed updates, skipping the inputs' zeros.

The meaning is `Backend.online_sgd`. For a block of samples with inputs X, first-layer weights W
(and b) at its start and the steps d_s = -η δ_1 that its samples will make,

    Z = X W + b                                   products.gather
    G = X Xᵀ                                      products.gram
    for every sample t, batch after batch:
        z_t = Z_t + Σ_s (G_ts + 1) d_s            over the earlier batches' samples s
        a_1 = f(z_t), z_l = a_(l-1) W_l + b_l, …  forward
        δ_L, then δ_l = (carried_l W_(l+1)ᵀ) f'(a_l)  backward, with the batch's first weights
        T_l += -η (a_(l-1)ᵀ δ_l),  d_t = -η δ_1
        W_l += T_l                                after the batch's last sample
    W += Xᵀ D, b += Σ d_s                         products.scatter

where η is the learning rate over the size of the batch, and the + 1 stands beside a bias. T starts
at zero, or with momentum μ and decay p at μT - ηpW; both enter the first layer through the
coefficients of `base.block_coefficients`. For single samples without either, T is W itself.
"""

from __future__ import annotations

from . import products
from .compiling import compiled, inlined, part
from .lanes import REGISTER_BYTES, fma, load, store
from .layers import begin_batch, learn_sample
from .workers import meet


@inlined
def _recurrence(  # type: ignore[no-untyped-def]
    tile,
    layout,
    units,
    classes,
    bias,
    codes,
    reals,
    W,
    T,
    z,
    mixing,
    labels,
    rates,
    first,
    count,
    batch,
    acts,
    errors,
    d,
    losses,
):
    """Run the samples first … first + count - 1 through the network, one after the other."""
    momentum, penalty = reals[2], reals[3]
    width, step = z.shape[1], len(tile) * (REGISTER_BYTES // W.itemsize)
    direct = batch == 1 and momentum == 0 and penalty == 0
    for t in range(count):
        start = t // batch * batch
        stop = min(start + batch, count)
        rate = rates[(first + t) // batch]
        if t == start and not direct:
            begin_batch(layout, W, T, momentum, rate * penalty)
        # z_t, straight to where the first layer's activations will be
        for j in range(0, width, step):
            sums = load(tile, z, t * width + j)
            for s in range(start):
                sums = fma(mixing[t, s], load(tile, d, s * width + j), sums)
            store(acts, j, sums)
        losses[first + t] = learn_sample(
            layout,
            units,
            classes,
            bias,
            codes,
            reals,
            W,
            W if direct else T,
            acts,
            errors,
            labels[first + t],
            -rate / W.dtype.type(stop - start),
            d[t],
        )
        if t + 1 == stop and not direct:
            for i in range(W.size):
                W[i] += T[i]


@part
def _add(factor, row, sums):  # type: ignore[no-untyped-def]
    for j in range(sums.size):
        sums[j] += factor * row[j]


@part
def _weigh(c, batch, count, z, mixing):  # type: ignore[no-untyped-def]
    """z[0] = Σ_k c_k z[k], and mixing times its coefficients."""
    for t in range(count):
        at = t // batch
        for j in range(z.shape[2]):
            z[0, t, j] *= c[at, 0]
        if z.shape[0] == 2:
            _add(c[at, 1], z[1, t], z[0, t])
        for s in range(at * batch):
            mixing[t, s] *= c[at, 2 + s // batch]


@part
def _carry(c, states):  # type: ignore[no-untyped-def]
    """Combine the states, weights and velocity, as a block without steps would."""
    for i in range(states.shape[1]):
        w, u = states[0, i], states[-1, i]
        for k in range(states.shape[0]):
            states[k, i] = c[k, 0] * w
            if states.shape[0] == 2:
                states[k, i] += c[k, 1] * u


@part
def _weighted(c, batch, count, d, steps):  # type: ignore[no-untyped-def]
    """steps[t] = c[t's batch] · d[t]."""
    for t in range(count):
        for j in range(d.shape[1]):
            steps[t, j] = c[t // batch] * d[t, j]


@part
def _sum(count, steps):  # type: ignore[no-untyped-def]
    """The last row is the sum of the first."""
    total = steps[-1]
    for j in range(total.size):
        total[j] = steps[0, j]
    for t in range(1, count):
        _add(steps.dtype.type(1), steps[t], total)


@inlined
def _learn(  # type: ignore[no-untyped-def]
    tile,
    layout,
    units,
    classes,
    bias,
    codes,
    reals,
    of_W,
    of_b,
    labels,
    rates,
    first,
    count,
    batch,
    block,
    W,
    b,
    deeper,
    T,
    z,
    mixing,
    acts,
    errors,
    d,
    steps,
    losses,
):
    """Learn a block whose z and mixing come from plain products; fills steps for `scatter`."""
    one = W.dtype.type(1)
    if of_W is not None:
        c, c_b = of_W[first // block], of_b[first // block]
        _weigh(c, batch, count, z, mixing)
        if bias:
            for t in range(count):
                at = t // batch
                for k in range(b.shape[0]):
                    _add(c_b[at, k], b[k], z[0, t])
                for s in range(at * batch):
                    mixing[t, s] += c_b[at, 2 + s // batch]
    elif bias:
        for t in range(count):
            _add(one, b[0], z[0, t])
            for s in range(t):
                mixing[t, s] += one
    _recurrence(
        tile,
        layout,
        units,
        classes,
        bias,
        codes,
        reals,
        deeper,
        T,
        z[0],
        mixing,
        labels,
        rates,
        first,
        count,
        batch,
        acts,
        errors,
        d,
        losses,
    )
    if of_W is None:  # d is steps[0]
        _sum(count, steps[0])
        if bias:
            _add(one, steps[0, -1], b[0])
        return
    end = -(-count // batch)
    c, c_b = of_W[first // block], of_b[first // block]
    _carry(c[end:], W.reshape(W.shape[0], -1))
    _carry(c_b[end:], b)
    for k in range(b.shape[0]):
        if bias:
            _weighted(c_b[end + k, 2:], batch, count, d, steps[k])
            _sum(count, steps[k])
            _add(one, steps[k, -1], b[k])
        _weighted(c[end + k, 2:], batch, count, d, steps[k])
        _sum(count, steps[k])


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
    block,
    scale,
    shift,
    W,
    b,
    bias,
    of_W,
    of_b,
    layout,
    units,
    classes,
    codes,
    reals,
    deeper,
    T,
    u,
    mask,
    mixing,
    r,
    z,
    acts,
    errors,
    d,
    steps,
    losses,
):
    """Learn the samples of `x` in order, `batch` at a time.

    Parameters
    ----------
    worker, workers, meeting : see `workers`
    tile : tuple of zeros
    x, labels : the samples
    rates : the learning rate of every batch
    batch, block : samples, the second a multiple of the first, at most `products.BLOCK`
    scale, shift : the input map, a number for each row of W
    W, b : (1, rows, width), (1, width); with momentum 2 instead of 1, the second the velocity
    bias : whether there are biases
    of_W, of_b : for each block its coefficients; None without momentum and decay, for which a
        simpler kernel is compiled
    layout : of the deeper layers, see `layers`
    units, classes : of the first layer and of the last
    codes, reals : of activation and loss; target_low, target_high, momentum, penalty
    deeper, T : the deeper layers, and the steps (with momentum the velocity) of these
    u, mask : room for two blocks a worker, since one is prepared while the other is learned; each
        has its own, which is in its own cache
    mixing : room for two blocks
    r, z, acts, errors, d, steps : room for a block
    losses : of every sample

    W, b, deeper, T and losses are results, the rest of the arrays from u to steps scratch.
    """
    n, (states, rows, width) = x.shape[0], W.shape
    columns = len(tile) * (REGISTER_BYTES // W.itemsize)
    blocks, meetings = -(-n // block), 0
    upcoming = min(block, n)
    for k in range(states):
        for j in range(worker * columns, width, workers * columns):
            products.row_sums(tile, j, W[k], shift, r[k])
    # turn -1 prepares the first block, the last turn carries the last block's steps into W
    for turn in range(-1, blocks + 1):
        now, other = turn % 2, 1 - turn % 2
        first, count = turn * block, upcoming
        mine, next_u = u[worker, now], u[worker, other]
        if turn >= 0:
            for j in range(worker * columns, width, workers * columns):
                for k in range(states):
                    if turn > 0:
                        products.scatter(
                            tile,
                            j,
                            next_u,
                            mask[worker, other],
                            0,
                            rows,
                            shift,
                            steps[k],
                            steps[k, -1],
                            W[k],
                            r[k],
                        )
                    if turn < blocks:
                        products.gather(tile, j, mine, mask[worker, now], count, r[k], W[k], z[k])
            if turn == blocks or not meet(workers, meeting, meetings):
                return
            meetings += 1
            if worker == 0:
                _learn(
                    tile,
                    layout,
                    units,
                    classes,
                    bias,
                    codes,
                    reals,
                    of_W,
                    of_b,
                    labels,
                    rates,
                    first,
                    count,
                    batch,
                    block,
                    W,
                    b,
                    deeper,
                    T,
                    z,
                    mixing[now],
                    acts,
                    errors,
                    d,
                    steps,
                    losses,
                )
        # beside the recurrence, what the next block needs besides the weights
        upcoming = min(block, n - first - block)
        if upcoming > 0:
            products.prepare(
                x, first + block, upcoming, 0, rows, scale, next_u, mask[worker, other]
            )
            if worker == workers - 1:
                products.gram(next_u, upcoming, shift, mixing[other])
        if not meet(workers, meeting, meetings):
            return
        meetings += 1

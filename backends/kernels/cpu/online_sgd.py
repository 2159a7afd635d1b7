"""Training with small batches, compiled: blocks of delayed updates, skipping the inputs' zeros.

The meaning is `delayed.OnlineSGD`. For a block of samples with inputs X, first-layer weights W
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
coefficients of `delayed.block_coefficients`. For single samples without either, T is W itself.
"""

from __future__ import annotations

from collections import namedtuple

from . import products
from .compiling import compiled, inlined, part
from .elementwise import add
from .lanes import REGISTER_BYTES, fma, load, store
from .layers import Team, begin_batch, is_first, learn_sample, waits
from .workers import wait_at_barrier


class Workspace(namedtuple("Workspace", "mixing z acts errors d steps")):
    """Scratch; mixing is for two blocks, since one is prepared while another is learned."""


@inlined
def _recurrence(tile, network, samples, workspace, mixing, first, count, team):  # type: ignore[no-untyped-def]
    """Run the samples first … first + count - 1 through the network, one after the other."""
    W, T, batch = network.W, network.T, samples.batch
    z, d, acts = workspace.z[0], workspace.d, workspace.acts
    width, step = z.shape[1], len(tile) * (REGISTER_BYTES // W.itemsize)
    direct = batch == 1 and network.momentum == 0 and network.penalty == 0
    for t in range(count):
        start = t // batch * batch
        stop = min(start + batch, count)
        rate, label = samples.rates[(first + t) // batch], samples.labels[first + t]
        if t == start and not direct:
            begin_batch(network, rate)
        # z_t, straight to where the first layer's activations will be
        for j in range(0, width if is_first(team) else 0, step):
            sums = load(tile, z, t * width + j)
            for s in range(start):
                sums = fma(mixing[t, s], load(tile, d, s * width + j), sums)
            store(acts, j, sums)
        factor = -rate / W.dtype.type(stop - start)
        passed = (first + t) * waits(network)
        loss = learn_sample(
            network, W if direct else T, acts, workspace.errors, label, factor, d[t], team, passed
        )
        if is_first(team):
            samples.losses[first + t] = loss
        if t + 1 == stop and not direct:
            add(W.dtype.type(1), T, W)


@part
def _weigh(c, batch, count, z, mixing):  # type: ignore[no-untyped-def]
    """Compute z[0] = Σ_k c_k z[k], and multiply mixing by its coefficients."""
    for t in range(count):
        at = t // batch
        for j in range(z.shape[2]):
            z[0, t, j] *= c[at, 0]
        if z.shape[0] == 2:
            add(c[at, 1], z[1, t], z[0, t])
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
def _sum(count, steps):  # type: ignore[no-untyped-def]
    """Sum the first rows up into the last."""
    total = steps[-1]
    for j in range(total.size):
        total[j] = steps[0, j]
    for t in range(1, count):
        add(steps.dtype.type(1), steps[t], total)


@part
def _weighted(c, batch, count, d, steps):  # type: ignore[no-untyped-def]
    """Compute steps[t] = c[t's batch] · d[t], and their sum in the last row."""
    for t in range(count):
        for j in range(d.shape[1]):
            steps[t, j] = c[t // batch] * d[t, j]
    _sum(count, steps)


@inlined
def _learn(layer, network, samples, block, coefficients, workspace, mixing, first, count, team):  # type: ignore[no-untyped-def]
    """Learn a block whose z and mixing come from plain products; fills steps for `scatter`."""
    W, b, batch = layer.W, layer.b, samples.batch
    z, d, steps = workspace.z, workspace.d, workspace.steps
    one = W.dtype.type(1)
    if coefficients is not None:
        c, c_b = coefficients[first // block, 0], coefficients[first // block, 1]
        _weigh(c, batch, count, z, mixing)
        if network.bias:
            for t in range(count):
                at = t // batch
                for k in range(b.shape[0]):
                    add(c_b[at, k], b[k], z[0, t])
                for s in range(at * batch):
                    mixing[t, s] += c_b[at, 2 + s // batch]
    elif network.bias and is_first(team):
        for t in range(count):
            add(one, b[0], z[0, t])
            for s in range(t):
                mixing[t, s] += one
    _recurrence(layer.tile, network, samples, workspace, mixing, first, count, team)
    if not is_first(team):
        return
    if coefficients is None:  # d is steps[0]
        _sum(count, steps[0])
        if network.bias:
            add(one, steps[0, -1], b[0])
        return
    end = -(-count // batch)
    c, c_b = coefficients[first // block, 0], coefficients[first // block, 1]
    _carry(c[end:], W.reshape(W.shape[0], -1))
    _carry(c_b[end:], b)
    for k in range(b.shape[0]):
        if network.bias:
            _weighted(c_b[end + k, 2:], batch, count, d, steps[k])
            add(one, steps[k, -1], b[k])
        _weighted(c[end + k, 2:], batch, count, d, steps[k])


@compiled
def train(  # type: ignore[no-untyped-def]
    worker, workers, barrier, layer, network, samples, block, coefficients, workspace, together
):
    """Learn all samples in order, and write the weights and the losses.

    The first layer has one state, and with momentum a second, the velocity. A block has so many
    samples, a multiple of the batch, at most `products.BLOCK`. The coefficients are those of W and
    of b for each block; None without momentum and decay, for which a simpler kernel is compiled.
    `together` is a barrier for samples that all workers learn as a `Team`; None if one does.
    """
    x, tile, W, shift, r = samples.x, layer.tile, layer.W, layer.shift, layer.r
    n, (states, tiles, _, columns) = samples.losses.size, W.shape
    blocks, passed = -(-n // block), 0
    upcoming = min(block, n)
    for k in range(states):
        for i in range(worker, tiles, workers):
            products.row_sums(tile, i * columns, W[k, i], shift, r[k])
    # turn -1 prepares the first block, the last turn carries the last block's steps into W
    for turn in range(-1, blocks + 1):
        now, other = turn % 2, 1 - turn % 2
        first, count = turn * block, upcoming
        index, values = layer.index[now], layer.values[now]
        other_index, other_values = layer.index[other], layer.values[other]
        if turn >= 0:
            for i in range(worker, tiles, workers):
                j = i * columns
                for k in range(states):
                    if turn > 0:
                        d, rows = workspace.steps[k], W[k, i]
                        products.scatter(
                            tile, j, other_index, other_values, shift, d, d[-1], False, rows, r[k]
                        )
                    if turn < blocks:
                        products.gather(
                            tile, j, index, values, count, r[k], W[k, i], workspace.z[k]
                        )
            if turn == blocks or not wait_at_barrier(workers, barrier, passed):
                return
            passed += 1
            mixing = workspace.mixing[now]
            if together is not None:
                team = Team(worker, workers, together)
                _learn(layer, network, samples, block, None, workspace, mixing, first, count, team)
            elif worker == 0:
                _learn(
                    layer, network, samples, block, coefficients, workspace, mixing, first, count,
                    None,
                )  # fmt: skip
        # beside the recurrence, what the next block needs besides the weights
        upcoming = min(block, n - first - block)
        if upcoming > 0 and worker == workers - 1:
            products.prepare(
                x, samples.sparse, first + block, upcoming, layer, layer.marks[worker],
                workspace.mixing[other], other_index, other_values,
            )  # fmt: skip
        if not wait_at_barrier(workers, barrier, passed):
            return
        passed += 1

"""Training with larger batches, compiled, skipping the inputs' zeros.

The meaning is `Backend.sgd`. All samples of a batch see the same weights, so that each worker takes
parts of the batch forward and back by itself; then each takes rows of W, and adds all samples'
steps to them. The parts, and the order of all sums, are the same for any number of workers.
"""

from __future__ import annotations

from collections import namedtuple

from .compiling import compiled, part
from .elementwise import add
from .layers import begin_batch, learn_sample
from .products import BLOCK, begin_sums, block_sums, update_rows
from .workers import wait_at_barrier


class Workspace(namedtuple("Workspace", "z acts errors T d d_sum")):
    """Scratch: T and d_sum for each part of a batch, d for a batch, the rest for each worker."""


@part
def _learn_part(worker, p, layer, network, samples, workspace, start, begin, end, factor):  # type: ignore[no-untyped-def]
    """Take the samples begin … end - 1 forward and back; d's rows count from `start`."""
    z, acts, errors = workspace.z[worker], workspace.acts[worker], workspace.errors[worker]
    T, d_sum = workspace.T[p], workspace.d_sum[p]
    T[:] = 0
    d_sum[:] = 0
    for low in range(begin, end, BLOCK):
        high = min(low + BLOCK, end)
        block_sums(layer, worker, samples.x, low, high - low, z)
        for s in range(low, high):
            for j in range(d_sum.size):
                acts[j] = z[s - low, j]
            d, label = workspace.d[s - start], samples.labels[s]
            samples.losses[s] = learn_sample(network, T, acts, errors, label, factor, d)
            add(T.dtype.type(1), d, d_sum)


@part
def _decay(low, high, momentum, decay, W):  # type: ignore[no-untyped-def]
    """Step rows of V ← μV - decay · W where there is a velocity, else of W ← W - decay · W."""
    for i in range(low, high):
        for j in range(W.shape[2]):
            if W.shape[0] == 2:
                W[1, i, j] = momentum * W[1, i, j] - decay * W[0, i, j]
            else:
                W[0, i, j] -= decay * W[0, i, j]


@compiled
def train(worker, workers, barrier, layer, network, samples, workspace):  # type: ignore[no-untyped-def]
    """Learn all samples in order; as `online_sgd.train`."""
    W, b = layer.W, layer.b
    n, (states, rows, width) = samples.x.shape[0], W.shape
    parts, passed = workspace.T.shape[0], 0
    low, high = worker * rows // workers, (worker + 1) * rows // workers
    one = W.dtype.type(1)
    for start in range(0, n, samples.batch):
        count = min(samples.batch, n - start)
        rate = samples.rates[start // samples.batch]
        factor = -rate / W.dtype.type(count)
        begin_sums(layer, worker)
        for p in range(worker, parts, workers):
            begin, end = start + count * p // parts, start + count * (p + 1) // parts
            _learn_part(worker, p, layer, network, samples, workspace, start, begin, end, factor)
        if not wait_at_barrier(workers, barrier, passed):
            return

        if worker == 0:
            begin_batch(network, rate)
            for p in range(parts):
                add(one, workspace.T[p], network.T)
            add(one, network.T, network.W)
        d_sum = workspace.z[worker, 0]
        d_sum[:] = 0
        for p in range(parts):
            add(one, workspace.d_sum[p], d_sum)
        if states == 2 or network.penalty != 0:
            _decay(low, high, network.momentum, rate * network.penalty, W)
        update_rows(worker, workers, layer, samples.x, start, count, workspace.d, d_sum)
        if states == 2:
            for i in range(low, high):
                add(one, W[1, i], W[0, i])
        if network.bias and worker == 0:
            for j in range(width):
                if states == 2:
                    b[1, j] = network.momentum * b[1, j] + d_sum[j]
                    b[0, j] += b[1, j]
                else:
                    b[0, j] += d_sum[j]
        if not wait_at_barrier(workers, barrier, passed + 1):
            return
        passed += 2

"""The CPU: NumPy, and Numba kernels that skip the inputs' zeros."""

from __future__ import annotations

import os
import platform
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import threadpoolctl

from .base import Backend, NetworkSpec
from .feeding import Batches, Rule, States
from .functions import Array
from .kernels.codes import ACTIVATION_CODES, has_codes
from .kernels.coefficients import coefficient_tables
from .kernels.cpu import batch_sgd, deforming, online_sgd
from .kernels.cpu.elementwise import activate_all
from .kernels.cpu.layers import Samples
from .kernels.cpu.packed import DeeperLayers, FirstLayer, aligned, read_only, readable
from .kernels.cpu.products import BLOCK
from .kernels.cpu.workers import work, worker_count

# Weights after the first layer up to which the kernels, that read them once a sample, beat BLAS,
# which reads them once a batch. The cores go to the one or the other, never to both: threads that
# have nothing to do wait busily, and hinder the others'.
_COMPILED_WEIGHTS = 100_000
# Batches below this size leave BLAS too little to gain: twice the weights at half of it.
_FULL_BATCH = 16
# The steps of larger batches are summed up by themselves: added to W one by one, each would lose
# what is below W's last bit. Of smaller ones the loss is small beside the step.
_SUMMED_BATCH = 256
# At most, the parts of a batch that workers take; each sums up its steps by itself.
_PARTS = 16


class _OneBlasThread:
    """Limits BLAS while entered; the limit is the process's, so that entries are counted."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._pools: Any = None
        self._limit: Any = None

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._pools = self._pools or threadpoolctl.ThreadpoolController()
                self._limit = self._pools.limit(limits=1, user_api="blas")
            self._inside += 1

    def __exit__(self, *exception: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                _forget_who_limits()
                self._limit.restore_original_limits()
                _forget_who_limits()


def _forget_who_limits() -> None:
    # threadpoolctl 3.8 listens only to the thread that set a limit, and that may not be the last to
    # leave
    forget = getattr(threadpoolctl.OpenBLASController, "clear_controlling_thread", None)
    if forget:
        forget(force=True)


_ONE_BLAS_THREAD = _OneBlasThread()


class CpuBackend(Backend):
    """NumPy on the host."""

    chunk_size = 1024  # the hidden layers' arrays stay in the cache, and in memory once allocated

    def __init__(self) -> None:
        super().__init__(np, "cpu", processor_name())
        self.threads = worker_count()

    def block(self, batch_size: int) -> int:
        return max(1, min(self.block_size, BLOCK) // batch_size) * batch_size

    def has_kernels(self, spec: NetworkSpec, batch_size: int) -> bool:
        small = batch_size == 1 or _is_small(spec, batch_size)
        return has_codes(spec) or not small  # large ones are BLAS' work

    def numpy_between(self, spec: NetworkSpec) -> AbstractContextManager[Any]:
        # threads of BLAS that wait busily after NumPy's work would hinder the kernels'
        return _cores(to_kernels=_is_small(spec))

    # --- images -------------------------------------------------------------------------

    def smooth(self, fields: Array, down: Array, across: Array) -> Array:
        out = np.empty_like(fields)

        def part(worker: int, workers: int, barrier: Array) -> None:
            n = len(fields)
            rows = slice(worker * n // workers, (worker + 1) * n // workers)
            lines = fields[rows].reshape(-1, fields.shape[-1]) @ across.T
            np.matmul(down, lines.reshape(out[rows].shape), out=out[rows])

        with _cores(to_kernels=True) as workers:  # BLAS has no use for two on matrices so small
            work(part, workers)
        return out

    def deform(self, images: Array, maps: Array, fields: Array | None, background: float) -> Array:
        if fields is None:
            fields = np.empty((0, 2, *images.shape[1:]), maps.dtype)
        out = np.empty(images.shape, images.dtype)
        with _cores(to_kernels=True) as workers:
            arrays = map(read_only, (images, maps, fields))
            background, rounded = images.dtype.type(background), images.dtype.kind in "iu"
            work(deforming.deform, workers, *arrays, background, rounded, out)
        return out

    # --- the network --------------------------------------------------------------------

    def first_affine(self, spec: NetworkSpec, values: Array, W: Array, b: Array | None) -> Array:
        with _cores(to_kernels=_is_small(spec)) as workers:
            state, its_spec = [W] if b is None else [W, b], replace(spec, bias=b is not None)
            layer = FirstLayer(its_spec, [state], workers)
            z = np.empty((values.shape[0], layer.W.shape[2]), spec.dtype)
            layer.affine(readable(spec, values), z)
        return z[:, : W.shape[1]]

    def first_product(self, spec: NetworkSpec, values: Array, delta: Array) -> Array:
        features, units = spec.sizes[:2]
        nothing = [np.zeros(shape, spec.dtype) for shape in spec.shapes[:2]]
        with _cores(to_kernels=_is_small(spec)) as workers:
            layer = FirstLayer(spec, [nothing], workers)
            d = np.zeros((delta.shape[0], layer.W.shape[2]), spec.dtype)
            d[:, :units] = delta
            layer.update(readable(spec, values), d, d.sum(axis=0))
        return layer.W[0, :features, :units]

    def losses_and_gradients(self, spec: NetworkSpec, *args: Any) -> tuple[Array, list[Array]]:
        with _cores(to_kernels=_is_small(spec)):
            return super().losses_and_gradients(spec, *args)

    def propagate(self, spec: NetworkSpec, *args: Any) -> Iterator[Any]:
        with _cores(to_kernels=_is_small(spec)):
            yield from super().propagate(spec, *args)

    def activate(self, name: str, z: Array) -> Array:
        if name not in ACTIVATION_CODES:
            return super().activate(name, z)
        a = np.array(z, order="C")
        activate_all(ACTIVATION_CODES[name], a.reshape(-1))
        return a

    def output(self, name: str, z: Array) -> Array:
        return self.activate(name, z) if name == "sigmoid" else super().output(name, z)

    # --- stochastic gradient descent ------------------------------------------------------

    def learn_faster(
        self, spec: NetworkSpec, states: States, batches: Batches, rule: Rule, steps: int = 0
    ) -> Array | None:
        if rule.betas:
            return None
        batch_size = batches.size
        small = batch_size == 1 or _is_small(spec, batch_size)
        compiled = small and has_codes(spec)
        if batch_size == 1 and not compiled:
            with _ONE_BLAS_THREAD:  # a sample's products are too small for several
                return super().learn_faster(spec, states, batches, rule, steps)
        if not rule.momentum and batch_size > _SUMMED_BATCH:  # plain SGD is momentum of 0
            states = [*states, [np.zeros_like(w) for w in states[0]]]
        learn = self._compiled if compiled else self._in_batches
        with _cores(to_kernels=small) as workers:
            layer = FirstLayer(spec, states, workers)
            x, labels = readable(spec, batches.values), read_only(batches.labels)
            rates, losses = np.array(batches.rates, spec.dtype), np.empty(len(x), spec.dtype)
            samples = Samples(x, labels, rates, batch_size, losses)
            learn(layer, samples, rule, batches.penalty)
            layer.unpack()
        return losses

    def _compiled(self, layer: FirstLayer, samples: Samples, rule: Rule, penalty: float) -> None:
        """Learn in one kernel, the layers after the first sample by sample."""
        real, batch_size = layer.W.dtype, samples.batch
        count, _, width = layer.W.shape
        deeper = DeeperLayers(layer)
        network = deeper.network(rule.momentum, penalty)
        arguments: tuple[Any, ...]
        if batch_size <= BLOCK:
            block, coefficients = self.block(batch_size), None
            plain = not rule.momentum and not penalty
            if not plain:
                size = block // batch_size
                coefficients = coefficient_tables(samples.rates, size, rule.momentum, penalty, real)
            workers = min(layer.workers, layer.tiles)
            steps = aligned((count, BLOCK + 1, width), real)
            workspace: Any = online_sgd.Workspace(
                mixing=aligned((2, BLOCK + 1, BLOCK), real),
                z=aligned((count, BLOCK, width), real),
                acts=aligned((deeper.units,), real),
                errors=aligned((4, deeper.units), real),
                d=steps[0] if plain else aligned((BLOCK, width), real),
                steps=steps,
            )
            kernel, arguments = online_sgd.train, (block, coefficients, workspace)
        else:
            parts = min(_PARTS, -(-batch_size // BLOCK))
            workers = min(layer.workers, parts)
            workspace = batch_sgd.Workspace(
                z=aligned((workers, BLOCK, width), real),
                acts=aligned((workers, deeper.units), real),
                errors=aligned((workers, 4, deeper.units), real),
                T=aligned((parts, network.T.size), real),
                d=aligned((min(batch_size, len(samples.x)), width), real),
                d_sum=aligned((parts, width), real),
            )
            kernel, arguments = batch_sgd.train, (workspace,)
        work(kernel, workers, layer.first, network, samples, *arguments)
        deeper.unpack()

    def _in_batches(self, layer: FirstLayer, samples: Samples, rule: Rule, penalty: float) -> None:
        """Learn as `Backend.sgd`, with the first layer in place and its zeros skipped."""
        spec, states = layer.spec, layer.states
        first, units = (2 if spec.bias else 1), spec.sizes[1]
        weights, speeds, has_speed = states[0], states[-1], len(states) > 1
        deeper = spec.layers(weights)[1:]
        W, T = layer.W[0], layer.W[-1]  # T takes the steps: the velocity, or else W itself
        b, v = layer.b[0], layer.b[-1]
        real, n, batch_size = spec.dtype, len(samples.x), samples.batch
        z = np.empty((self.chunk_size, W.shape[1]), real)
        d = np.zeros((min(batch_size, n), W.shape[1]), real)
        for start, rate in zip(range(0, n, batch_size), samples.rates, strict=True):
            stop = min(start + batch_size, n)
            gradients: list[Array] = []
            for low in range(start, stop, self.chunk_size):
                rows = slice(low, min(low + self.chunk_size, stop))
                x = samples.x[rows]
                layer.affine(x, z)
                hidden, kept, logits, outputs = self.forward(spec, deeper, z[: len(x), :units])
                targets = self.targets(spec, samples.labels[rows])
                samples.losses[rows] = self.losses(spec, logits, outputs, targets)
                deltas = self.backward(spec, deeper, kept, outputs, targets)
                steps = d[low - start : low - start + len(x), :units]
                np.multiply(deltas[0], real(-rate / (stop - start)), out=steps)
                products = self.products(hidden, deltas[1:])
                fraction = real(len(x) / (stop - start))
                parts = self.gradients(deeper, products, deltas[1:], penalty)
                parts = [fraction * part for part in parts]
                gradients = list(map(np.add, gradients, parts)) if gradients else parts

            d_sum = d[: stop - start].sum(axis=0)
            if has_speed:
                T *= real(rule.momentum)
                v *= real(rule.momentum)
            if penalty:
                T -= real(rate * penalty) * W
            layer.update(samples.x[start:stop], d[: stop - start], d_sum)
            if spec.bias:
                v += d_sum
            if has_speed:
                W += T
                b += v
            for w, speed, gradient in zip(weights[first:], speeds[first:], gradients, strict=True):
                self.sgd_step(w, speed if has_speed else None, gradient, rate, rule)


def _is_small(spec: NetworkSpec, batch_size: int = _FULL_BATCH) -> bool:
    read = spec.deeper_weights * min(batch_size, _FULL_BATCH)
    return read <= _COMPILED_WEIGHTS * _FULL_BATCH


@contextmanager
def _cores(*, to_kernels: bool) -> Iterator[int]:
    """Reserve the cores for the kernels or for BLAS; yields how many workers a kernel may have."""
    if to_kernels:
        with _ONE_BLAS_THREAD:
            yield worker_count()
    else:
        yield 1


def processor_name() -> str:
    """Name the processor as its maker does, as far as the system tells."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def describe() -> dict[str, Any]:
    """Describe the CPU: name, cores this process may use, BLAS and its threads."""
    np.ones((2, 2)) @ np.ones((2, 2))
    blas = [pool for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "name": processor_name(),
        "cores": cores,
        "numpy": np.__version__,
        "blas": [
            f"{pool['internal_api']} {pool['version']}, {pool['num_threads']} threads"
            for pool in blas
            if "numpy" in pool["filepath"] or len(blas) == 1
        ],
    }

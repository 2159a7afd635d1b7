"""The CPU: NumPy, and Numba kernels that skip the inputs' zeros."""

from __future__ import annotations

import os
import platform
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import threadpoolctl

from .base import Backend, NetworkSpec
from .feeding import Batches, Feed, PickingFeed, Rule, States
from .functions import ACTIVATIONS, Array
from .kernels.codes import ACTIVATION_CODES, has_codes, keeps_no_sums
from .kernels.coefficients import coefficient_tables
from .kernels.cpu import deforming, online_sgd, philox
from .kernels.cpu.dense import registers_for
from .kernels.cpu.elementwise import activate_all
from .kernels.cpu.lanes import REGISTER_BYTES, lane_count
from .kernels.cpu.layers import Samples
from .kernels.cpu.packed import (
    DeeperLayers,
    FirstLayer,
    aligned,
    most_listed,
    read_only,
    readable,
    readable_sparse,
    round_up,
)
from .kernels.cpu.products import BLOCK
from .kernels.cpu.workers import core_count, new_barrier, work, worker_count
from .noise import noise_key
from .sharded import ShardedRows
from .sparse import SparseRows

# Weights after the first layer up to which the kernels, that read them once a sample, beat BLAS,
# which reads them once a batch. The cores go to the one or the other, never to both: threads that
# have nothing to do wait busily, and hinder the others'.
_COMPILED_WEIGHTS = 100_000
# Batches below this size leave BLAS too little to gain: twice the weights at half of it.
_FULL_BATCH = 16
# Largest batches that are learned fastest by delayed updates, plainly and with momentum or decay,
# where these change all weights once a block.
_ONLINE_BATCH, _ONLINE_BATCH_WITH_STATE = 24, 3
# Weights after the first layer up to which one worker learns a sample; more are too many for its
# cache, and are divided among all.
_WEIGHTS_OF_ONE = 250_000


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

    reads_sparse = True
    chunk_size = 1024  # the hidden layers' arrays stay in the cache, and in memory once allocated

    def __init__(self) -> None:
        super().__init__(np, "cpu", processor_name())
        self.threads = core_count()

    @property
    def kind(self) -> str:
        # in whose layout the kernels sum gradients
        return f"{self.name} with registers of {REGISTER_BYTES} bytes"

    def block(self, batch_size: int) -> int:
        return max(1, min(self.block_size, BLOCK) // batch_size) * batch_size

    def has_kernels(self, spec: NetworkSpec) -> bool:
        return has_codes(spec)

    def numpy_between(self, spec: NetworkSpec) -> AbstractContextManager[Any]:
        # threads of BLAS that wait busily after NumPy's work would hinder the kernels'
        return _cores(to_kernels=_is_small(spec))

    def feed(self, values: Array | SparseRows, labels: Array, unit: int) -> Feed:
        if isinstance(values, SparseRows | ShardedRows):
            return super().feed(values, labels, unit)
        return PickingFeed(np, values, labels)

    def fused(self, arrays: Sequence[Array]) -> np.ndarray:
        return np.concatenate([np.ravel(a) for a in arrays])

    # --- noise and images ---------------------------------------------------------------

    def noise(
        self, key: tuple[int, ...], layer: int, n: int, units: int, dtype: Any, first: int = 0
    ) -> Array:
        out = np.empty((n, -(-units // 8) * 8), dtype)
        with _cores(to_kernels=True) as workers:
            of_key = np.uint64(noise_key(key[:-1]))
            work(philox.fill_uniform, workers, of_key, first, layer, key[-1], out)
        return out[:, :units]

    def smooth(self, fields: Array, down: Array, across: Array) -> Array:
        height, width = fields.shape[-2:]
        lanes = lane_count(fields.dtype)
        registers = registers_for(-(-width // lanes))
        columns = registers * lanes
        wide = round_up(width, columns)
        padded = np.zeros((width, wide), fields.dtype)
        padded[:, :width] = across.T
        fields = np.ascontiguousarray(fields)
        out = np.empty_like(fields)
        with _cores(to_kernels=True) as workers:
            scratch = np.empty((workers, 2, height, wide), fields.dtype)
            arrays = map(read_only, (fields.reshape(-1, height, width), down, padded))
            smoothed = out.reshape(-1, height, width)
            work(deforming.SMOOTH[registers], workers, *arrays, columns, scratch, smoothed)
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

    def inputs(self, spec: NetworkSpec, values: Array | SparseRows) -> Array:
        return super().inputs(spec, self.asarray(values))

    def first_affine(
        self, spec: NetworkSpec, values: Array | SparseRows, W: Array, b: Array | None
    ) -> Array:
        if isinstance(values, SparseRows):
            z = _scaled(spec, values) @ W
            if spec.shift.any():
                z += np.array(np.broadcast_to(spec.shift, W.shape[:1])) @ W
            return z if b is None else z + b
        with _cores(to_kernels=_is_small(spec)) as workers:
            state, its_spec = [W] if b is None else [W, b], replace(spec, bias=b is not None)
            layer = FirstLayer(its_spec, [state], workers)
            z = np.empty((values.shape[0], layer.width), spec.dtype)
            layer.affine(readable(spec, values), z)
        return z[:, : W.shape[1]]

    def first_product(self, spec: NetworkSpec, values: Array | SparseRows, delta: Array) -> Array:
        if isinstance(values, SparseRows):
            product = _scaled(spec, values).T @ delta
            if spec.shift.any():
                product += np.multiply.outer(spec.shift, delta.sum(axis=0))
            return product
        nothing = [np.zeros(shape, spec.dtype) for shape in spec.shapes[:2]]
        with _cores(to_kernels=_is_small(spec)) as workers:
            layer = FirstLayer(spec, [nothing], workers)
            d = np.zeros((delta.shape[0], layer.width), spec.dtype)
            d[:, : delta.shape[1]] = delta
            layer.update(readable(spec, values), d, d.sum(axis=0))
            layer.unpack()
        return nothing[0]

    def losses_and_gradients(self, spec: NetworkSpec, *args: Any) -> tuple[Array, list[Array]]:
        with _cores(to_kernels=_is_small(spec)):
            return super().losses_and_gradients(spec, *args)

    def propagate(self, spec: NetworkSpec, *args: Any) -> Iterator[Any]:
        with _cores(to_kernels=_is_small(spec)):
            yield from super().propagate(spec, *args)

    def activate(self, name: str, z: Array) -> Array:
        if name not in ACTIVATION_CODES or ACTIVATIONS[name].needs_z:
            return super().activate(name, z)
        a = np.array(z, order="C")
        activate_all(ACTIVATION_CODES[name], a.reshape(-1))
        return a

    def output(self, name: str, z: Array) -> Array:
        return self.activate(name, z) if name == "sigmoid" else super().output(name, z)

    # --- learning -------------------------------------------------------------------------

    def learn_faster(
        self, spec: NetworkSpec, states: States, batches: Batches, rule: Rule, steps: int = 0
    ) -> Array | None:
        if self._learns_online(spec, batches, rule):
            return self._learn_online(spec, states, batches, rule)
        if not self.has_kernels(spec) or not _suit_kernels(batches):
            with _ONE_BLAS_THREAD:  # a sample's products are too small for several
                return super().learn_faster(spec, states, batches, rule, steps)
        from .kernels.cpu.batch_network import WholeNetwork  # 0.03 s, which a run at batch 1 saves

        with _cores(to_kernels=True) as workers:
            return WholeNetwork(spec, states, batches, rule).learn(workers, steps)

    def _learns_online(self, spec: NetworkSpec, batches: Batches, rule: Rule) -> bool:
        """Return whether delayed updates are the fastest way to the same result."""
        if rule.betas or rule.has_extras(batches) or not keeps_no_sums(spec):
            return False
        plain = _is_plain(batches, rule)
        largest = _ONLINE_BATCH if plain else _ONLINE_BATCH_WITH_STATE
        if plain and isinstance(batches.values, SparseRows):
            largest = BLOCK  # since weights of inputs that are 0 are not even read
        small = batches.size <= largest and _is_small(spec, batches.size)
        return small or (batches.size == 1 and plain)

    def _learn_online(
        self, spec: NetworkSpec, states: States, batches: Batches, rule: Rule
    ) -> Array:
        with _cores(to_kernels=True) as cores:
            values, sparse = batches.values, None
            if isinstance(values, SparseRows):
                sparse, listed = readable_sparse(spec, values), most_listed(values)
                x = np.empty((0, spec.sizes[0]), spec.dtype)
            else:
                x, listed = readable(spec, values), 0
            layer = FirstLayer(spec, states, cores, listed)
            deeper, real = DeeperLayers(layer), layer.W.dtype
            rates, n = np.array(batches.rates, real), len(batches.values)
            labels = read_only(batches.labels)
            samples = Samples(x, sparse, labels, rates, batches.size, np.empty(n, real))
            network = deeper.network(rule.momentum, batches.penalty)
            block, coefficients = self.block(batches.size), None
            plain = _is_plain(batches, rule)
            if not plain:
                size = block // batches.size
                coefficients = coefficient_tables(rates, size, rule.momentum, batches.penalty, real)
            count, width = layer.b.shape
            steps = aligned((count, BLOCK + 1, width), real)
            workspace = online_sgd.Workspace(
                mixing=aligned((2, BLOCK + 1, BLOCK), real),
                z=aligned((count, BLOCK, width), real),
                acts=aligned((deeper.units,), real),
                errors=aligned((4, deeper.units), real),
                d=steps[0] if plain else aligned((BLOCK, width), real),
                steps=steps,
            )
            workers = min(cores, layer.tiles)
            is_large = spec.deeper_weights > _WEIGHTS_OF_ONE
            together = new_barrier() if is_large and plain and batches.size == 1 else None
            arguments = layer.first, network, samples, block, coefficients, workspace, together
            work(online_sgd.train, workers, *arguments)
            deeper.unpack()
            layer.unpack()
        return samples.losses


def _suit_kernels(batches: Batches) -> bool:
    """Return whether kernels learn these: with other ranks, whether they learn those of all.

    Kernels ask the others for the gradients alone.
    """
    share = batches.share
    if share.ranks.count == 1:
        return len(batches.values) > 0
    asks_more = batches.weights is not None or bool(batches.regularization.moments)
    return not (asks_more or share.leaves_idle or batches.whole < share.batch_size)


def _scaled(spec: NetworkSpec, values: SparseRows) -> Any:
    """Return the part of the input map's result that is sparse, values * scale, as CSR."""
    csr = values.csr
    scale = spec.scale[csr.indices] if spec.scale.ndim else spec.scale
    data = csr.data.astype(spec.dtype, copy=False) * scale
    return type(csr)((data, csr.indices, csr.indptr), csr.shape)


def _is_plain(batches: Batches, rule: Rule) -> bool:
    """Return whether delayed updates need no coefficients."""
    return not rule.momentum and not batches.penalty


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


def limit_cores(count: int) -> None:
    """See `backends.limit_cores`."""
    os.environ["OMP_NUM_THREADS"] = str(min(count, core_count()))
    threadpoolctl.threadpool_limits(count, user_api="blas")


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

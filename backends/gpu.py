"""CUDA GPUs through CuPy.

This is the one module that imports CuPy, and `backends` imports this module only when a GPU was
asked for.
"""

from __future__ import annotations

import re
import socket
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any

import numpy as np

from . import gpu_setup
from .base import Backend, NetworkSpec
from .feeding import Batches, Feed, Rule, States, Streamed
from .functions import Array
from .gpu_setup import device_count, device_name, first_line, not_imported, unavailable
from .interchange import cuda_device, without_gradient
from .kernels.codes import has_codes, keeps_no_sums
from .kernels.cuda.cublas import CublasError, Products
from .kernels.cuda.launching import Kernels, input_map
from .kernels.cuda.online import OnlineSteps, choose_variant
from .kernels.cuda.steps import Forward, Steps
from .noise import noise_key
from .sharded import ShardedRows
from .sparse import SparseRows, is_sparse

_SPARED = 0.2  # of the free memory, for what training itself takes
_STREAMED = 0.25  # of the free memory, for each of the two chunks of data that does not fit
# weights after the first layer that a single thread block should read for every sample; where they
# are more, reading takes it longer than the two or three dozen launches of a batch of one
_ONE_BLOCK = 400_000
_WARM_UP_UNITS = 256  # of a hidden layer at most, where a network only makes kernels compile


class GpuBackend(Backend):
    """CuPy on one CUDA device, which becomes the calling thread's current device.

    Use one such backend a thread, and it in that thread only.

    Parameters
    ----------
    index : int
        The device's number, from 0.
    matmul : {"float32", "tf32", "bfloat16", "float16"}
        What the factors of matrix products of float32 are rounded to; they are summed up in
        float32. Batch size 1 has no such products, it always computes in the weights' dtype.

    Raises
    ------
    BackendUnavailable
        If CuPy, the driver or the device is missing, or does not answer.
    """

    block_size = 64  # of every variant of the kernels a multiple

    def __init__(self, index: int = 0, matmul: str = "float32") -> None:
        self._cupy = cupy = _import_cupy()
        count = device_count(cupy)
        if index >= count:
            there = "gpu:0" if count == 1 else f"gpu:0 to gpu:{count - 1}"
            raise unavailable(f"gpu:{index} does not exist, this machine has {there}")
        try:
            device = cupy.cuda.Device(index)
            device.use()
            # an elementwise kernel and a matrix product: the compiler and cuBLAS answer too
            ones = cupy.ones((2, 2), cupy.float32) + 1
            answer = float((ones @ ones).sum())
        # CuPy hands on errors of a dozen kinds from its libraries
        except Exception as error:
            raise unavailable(f"gpu:{index} does not answer: {first_line(error)}") from error
        if answer != 32.0:
            raise unavailable(f"gpu:{index} calculates wrongly: 32 came out as {answer}")
        super().__init__(cupy, f"gpu:{index}", device_name(cupy, index))
        self.matmul = matmul
        self._index = index
        self._multiprocessors = device.attributes["MultiProcessorCount"]
        self._shared_limit = device.attributes["MaxSharedMemoryPerBlockOptin"]
        self._products = Products(cupy, matmul)
        # no method, which would keep this object and all it holds alive until the next search
        self._kernels = lru_cache(partial(Kernels, self._products))
        self._running: dict[Any, Steps | OnlineSteps] = {}
        self._pinned: np.ndarray | None = None  # what `fused` returned last

    # --- arrays -------------------------------------------------------------------------

    def shared(self, a: Any) -> Any:
        cupy = self._cupy
        if isinstance(a, cupy.ndarray):  # of another GPU by way of the host
            return a if a.device.id == self._index else a.get()
        if isinstance(a, np.ndarray) or cuda_device(a) != self._index:
            return a
        a = without_gradient(a)
        return self.shared(cupy.from_dlpack(a) if hasattr(a, "__dlpack__") else cupy.asarray(a))

    def to_numpy(self, a: Array) -> np.ndarray:
        return self._cupy.asnumpy(a)

    def make_current(self) -> None:
        self._cupy.cuda.Device(self._index).use()

    def synchronize(self) -> None:
        self._cupy.cuda.get_current_stream().synchronize()

    def free_memory(self) -> int:
        """Count the bytes that an array could still have."""
        pool = self._cupy.get_default_memory_pool()
        return self._cupy.cuda.runtime.memGetInfo()[0] + pool.free_bytes()

    def has_kernels(self, spec: NetworkSpec) -> bool:
        return has_codes(spec)

    def warm_up_spec(self, spec: NetworkSpec, batch_size: int) -> NetworkSpec:
        if batch_size == 1:  # whose kernels are compiled for the sizes
            return spec
        first, *hidden, last = spec.sizes
        return replace(spec, sizes=(first, *(min(units, _WARM_UP_UNITS) for units in hidden), last))

    def release(self) -> None:
        self._running.clear()

    def place_samples(self, a: Any) -> Array | SparseRows:
        placed = super().place_samples(a) if is_sparse(a) else a
        if isinstance(placed, SparseRows | ShardedRows):
            return placed
        placed = self.shared(placed)
        if self.is_host(placed):
            host = self.host_array(placed)
            if host.nbytes > (1 - _SPARED) * self.free_memory():
                return host
            placed = host
        return self.asarray(placed)

    def dense(self, rows: SparseRows) -> Array:
        # only what is not zero is uploaded
        csr, (n, features) = rows.csr, rows.shape
        starts = np.arange(n, dtype=np.int64) * features
        places = np.repeat(starts, np.diff(csr.indptr)) + csr.indices
        flat = self.xp.zeros(n * features, rows.dtype)
        flat[self.xp.asarray(places)] = self.xp.asarray(csr.data)
        return flat.reshape(n, features)

    def feed(self, values: Array | SparseRows, labels: Array, unit: int) -> Feed:
        if not isinstance(values, np.ndarray | ShardedRows):
            return super().feed(values, labels, unit)
        rows = int(_STREAMED * self.free_memory() / values[0].nbytes)
        if isinstance(values, ShardedRows):
            rows = min(rows, values.window)
        from cupyx import empty_pinned

        return Streamed(self._cupy, empty_pinned, self._index, values, labels, rows, unit)

    # --- several processes ---------------------------------------------------------------

    def fused(self, arrays: Sequence[Array]) -> np.ndarray:
        from cupyx import empty_pinned

        flat = self._cupy.concatenate([a.ravel() for a in arrays])
        if self._pinned is None or self._pinned.nbytes < flat.nbytes:
            self._pinned = empty_pinned(flat.nbytes, np.uint8)
        host = self._pinned[: flat.nbytes].view(flat.dtype)
        flat.get(out=host)
        return host

    def device_sum(
        self, index: int, gather: Callable[[str], list[str]]
    ) -> Callable[[Sequence[Array]], list[Array]] | None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that there is no NCCL
            nccl: Any = getattr(self._cupy.cuda, "nccl", None)
        place = f"{socket.gethostname()} {self._cupy.cuda.Device(self._index).pci_bus_id}"
        places = gather(place if nccl is not None and nccl.available else "")
        if "" in places or len(set(places)) < len(places):  # it takes one process a GPU
            return None
        identifier = gather(nccl.get_unique_id().hex() if index == 0 else "")[0]
        communicator = nccl.NcclCommunicator(len(places), bytes.fromhex(identifier), index)

        def sum_up(arrays: Sequence[Array]) -> list[Array]:
            flat = self._cupy.concatenate([a.ravel() for a in arrays])
            kind = getattr(nccl, f"NCCL_{flat.dtype.name.upper()}")
            stream, where = self._cupy.cuda.get_current_stream().ptr, flat.data.ptr
            communicator.allReduce(where, where, flat.size, kind, nccl.NCCL_SUM, stream)
            return self.split(flat, arrays)

        return sum_up

    # --- noise and images ---------------------------------------------------------------

    def noise(
        self, key: tuple[int, ...], layer: int, n: int, units: int, dtype: Any, first: int = 0
    ) -> Array:
        out = self.xp.empty((n, units), dtype)
        groups = -(-units // 8)
        place = np.uint64(noise_key(key[:-1])), np.uint32(layer), np.uint32(key[-1] % 2**32)
        self._kernels("noise", out.dtype).for_each(
            "uniform", n * groups, *place, np.uint32(first), groups, units, out
        )
        return out

    def deform(self, images: Array, maps: Array, fields: Array | None, background: float) -> Array:
        if images.dtype == self.xp.float16:  # which the kernels do not know
            return super().deform(images, maps, fields, background)
        arrays = [
            a if a is None else self._cupy.ascontiguousarray(a) for a in (images, maps, fields)
        ]
        out = self.xp.empty(images.shape, images.dtype)
        kernels = self._kernels("deforming", maps.dtype, images.dtype)
        arguments = *images.shape[1:], *arrays, maps.dtype.type(background), out
        kernels.for_each("deform", images.size, *arguments)
        return out

    # --- the network --------------------------------------------------------------------

    def inputs(self, spec: NetworkSpec, values: Array) -> Array:
        part = self._readable(values)
        x = self.xp.empty(part.shape, spec.dtype)
        if part.size:
            kernels = self._kernels("batches", spec.dtype, part.dtype)
            options = input_map(spec)
            kernels.for_each("map_inputs", part.size, part.shape[1], *options, part, x)
        return x

    def propagate(
        self, spec: NetworkSpec, weights: Sequence[Array], values: Array
    ) -> Iterator[tuple[slice, list[Array], Array, Array]]:
        if not self.has_kernels(spec):
            yield from super().propagate(spec, weights, values)
            return
        n = values.shape[0]
        a_sample = (2 * sum(spec.sizes) + spec.sizes[0]) * np.dtype(spec.dtype).itemsize
        most = max(1, int((1 - _SPARED) * self.free_memory()) // a_sample)
        most = min(most, self.at_once(values))
        for start in range(0, max(n, 1), most):
            rows = slice(start, min(start + most, n))
            part = self._readable(self.part(values, rows))
            kernels = self._kernels("batches", spec.dtype, part.dtype)
            run = Forward(kernels, spec, weights, part.shape[0])
            outputs = run.outputs(part)
            yield rows, run.acts[1:-1], run.acts[-1], outputs

    def product(self, a: Array, b: Array) -> Array:
        if self.matmul == "float32" or a.dtype != self.xp.float32:
            return a @ b
        out = self.xp.empty((a.shape[0], b.shape[1]), a.dtype)
        self._products.bind()
        contiguous = self._cupy.ascontiguousarray
        self._products(out, contiguous(a), contiguous(b))
        return out

    # --- training -----------------------------------------------------------------------

    def learn_faster(
        self, spec: NetworkSpec, states: States, batches: Batches, rule: Rule, steps: int = 0
    ) -> Array | None:
        if not self.has_kernels(spec) or batches.share.ranks.count > 1:
            return super().learn_faster(spec, states, batches, rule, steps)
        labels = self._cupy.ascontiguousarray(batches.labels)
        batches = replace(batches, values=self._readable(batches.values), labels=labels)
        running = self._steps(spec, states, batches, rule)
        if isinstance(running, Steps):
            return running.learn(batches, steps)
        logits = running.learn(batches)
        outputs = self.output(spec.output, logits)
        return self.losses(spec, logits, outputs, self.targets(spec, batches.labels))

    def _steps(
        self, spec: NetworkSpec, states: States, batches: Batches, rule: Rule
    ) -> Steps | OnlineSteps:
        """Return the workspace and the graph of such steps, kept from the last two calls or new."""
        regularization, dtype = batches.regularization, batches.values.dtype
        arrays = *states, *regularization.moments
        where = tuple(a.data.ptr for some in arrays for a in some)
        how = batches.size, batches.penalty, regularization.dropped, batches.weights is None, rule
        key = (spec, dtype, where, how)
        if key not in self._running:
            while len(self._running) > 1:
                del self._running[next(iter(self._running))]
            variant = None
            plain = keeps_no_sums(spec) and not rule.betas and not rule.has_extras(batches)
            if batches.size == 1 and plain and spec.deeper_weights <= _ONE_BLOCK:
                device = self._multiprocessors, self._shared_limit
                variant = choose_variant(spec, rule.momentum, *device)
            if variant is None:
                kernels = self._kernels("batches", spec.dtype, dtype)
                self._running[key] = Steps(kernels, spec, states, batches, rule)
            else:
                kernels = self._kernels("online_sgd", spec.dtype, dtype, **variant.macros)
                self._running[key] = OnlineSteps(kernels, variant, spec, states, batches, rule)
        return self._running[key]

    def _readable(self, values: Array) -> Array:
        """Return samples as the kernels read them, which know no float16."""
        half = values.dtype == self.xp.float16
        return self._cupy.ascontiguousarray(values, self.xp.float32 if half else None)


def describe() -> list[dict[str, Any]]:
    """See `backends.gpu_setup.describe`."""
    return gpu_setup.describe(_import_cupy())


def memory_shortage(error: MemoryError) -> str:
    """See `backends.memory_shortage`."""
    cuda = _import_cupy().cuda
    if not isinstance(error, cuda.memory.OutOfMemoryError):
        return str(error)
    free, total = cuda.runtime.memGetInfo()
    asked = re.search(r"allocating ([\d,]+) bytes", str(error))
    needed = _size(int(asked[1].replace(",", ""))) if asked else "more"
    return f"the GPU was asked for {needed}, {_size(free)} of its {_size(total)} are free"


def device_failure(error: Exception) -> str | None:
    """See `backends.device_failure`."""
    cuda = _import_cupy().cuda
    failures = [CublasError, cuda.runtime.CUDARuntimeError, cuda.driver.CUDADriverError]
    with suppress(ImportError):  # where there is no cuBLAS it cannot have failed
        failures.append(cuda.cublas.CUBLASError)
    if not isinstance(error, tuple(failures)):
        return None
    return f"the GPU failed ({first_line(error)}); nvidia-smi says whether it is still there"


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"


def _import_cupy() -> Any:
    try:
        import cupy
    # a wheel of another CUDA, a missing library: CuPy explains at length, in errors of many kinds
    except Exception as error:
        raise not_imported(error) from error
    if not hasattr(cupy, "isdtype"):
        version = cupy.__version__
        raise unavailable(f"CuPy {version} is too old: expected {gpu_setup.OLDEST} or later")
    return cupy

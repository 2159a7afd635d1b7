"""The CPU: NumPy, SciPy's logistic function and a Numba kernel for the sequential part."""

from __future__ import annotations

import os
import platform
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit

from .base import Backend, NetworkSpec
from .functions import Array

_WORTH_SHARING = 1_000_000  # weights of the first layer


class _OneBlasThread:
    """Limits BLAS while anybody is inside; the limit is the process's, so entries are counted."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._pools: Any = None
        self._limit: Any = None

    def __enter__(self) -> None:
        with self._lock:
            if self._pools is None:
                from threadpoolctl import ThreadpoolController

                self._pools = ThreadpoolController()
            if self._inside == 0:
                self._limit = self._pools.limit(limits=1, user_api="blas")
            self._inside += 1

    def __exit__(self, *exception: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._limit.restore_original_limits()


_ONE_BLAS_THREAD = _OneBlasThread()


class CpuBackend(Backend):
    """NumPy on the host."""

    def __init__(self) -> None:
        super().__init__(np, "cpu", processor_name())

    def activate(self, name: str, z: Array) -> Array:
        return expit(z) if name == "sigmoid" else super().activate(name, z)

    def output(self, name: str, z: Array) -> Array:
        return expit(z) if name == "sigmoid" else super().output(name, z)

    def prepare(self, spec: NetworkSpec, *, online: bool) -> None:
        if online:  # batches need no kernel
            weights = [np.zeros(shape, spec.dtype) for shape in spec.shapes]
            values, labels = np.zeros((1, spec.sizes[0]), np.uint8), np.zeros(1, np.int64)
            self.online_sgd(spec, weights, [], values, labels, [0.0])

    def online_sgd(self, spec: NetworkSpec, *args: Any, **options: Any) -> Array:
        # A second thread takes a fifth off an epoch of MNIST on two idle cores, but where another
        # process has its core the small products wait for it, three to fourteen times as long.
        if spec.sizes[0] * spec.sizes[1] >= _WORTH_SHARING:
            return super().online_sgd(spec, *args, **options)
        with _ONE_BLAS_THREAD:
            return super().online_sgd(spec, *args, **options)

    def online_recurrence(
        self,
        spec: NetworkSpec,
        deeper: Sequence[Array],
        velocities: Sequence[Array],
        z: Array,
        mixing: Array,
        labels: Array,
        rates: Sequence[float],
        momentum: float,
        penalty: float,
    ) -> tuple[Array, Array]:
        from .kernels import online_sgd

        def flat(arrays: Sequence[Array]) -> np.ndarray:
            return np.concatenate([np.zeros(0, spec.dtype), *(a.ravel() for a in arrays)])

        d = np.empty_like(z)
        losses = np.empty(len(labels), spec.dtype)
        weights, speeds = flat(deeper), flat(velocities)
        online_sgd.recurrence(
            np.array(spec.sizes[1:], np.int64),
            spec.bias,
            online_sgd.ACTIVATION_CODES[spec.activation],
            online_sgd.LOSS_CODES[spec.loss],
            weights,
            speeds,
            z,
            mixing,
            labels.copy(),  # read-only labels would be another type to Numba and compile anew
            np.array([spec.target_low, spec.target_high, momentum, penalty], spec.dtype),
            np.array(rates, spec.dtype),
            d,
            losses,
        )
        for arrays, buffer in ((deeper, weights), (velocities, speeds)):
            start = 0
            for a in arrays:
                a[...] = buffer[start : start + a.size].reshape(a.shape)
                start += a.size
        return d, losses


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
    from threadpoolctl import threadpool_info

    np.ones((2, 2)) @ np.ones((2, 2))
    blas = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
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

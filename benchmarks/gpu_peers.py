"""The contenders of scripts/gpu_check.py and the machine that they run on.

Each also runs on the CPU, to test its code: NumPy then takes CuPy's place, and a step that would be
captured as a CUDA graph is called.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache, cached_property
from importlib.metadata import PackageNotFoundError, version
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

from backends import Backend, describe_cpu, describe_gpus, select
from benchmarks.peers import (
    Contender,
    Jax,
    Numpy,
    Ours,
    Torch,
    Weights,
    replayed,
    torch_precision,
)
from trainer import Dataset, load

PACKAGES = ("numpy", "scipy", "numba", "torch", "jax", "jaxlib")
IN_A_GRAPH = "empty kernel in a graph, done"  # of the launches
WHEELS = ("cupy-cuda12x", "cupy-cuda13x", "cupy", "jax-cuda12-plugin", "jax-cuda13-plugin")


class OurCpu(Ours):
    about = "this trainer on the CPU"

    def select(self) -> Backend:
        return select("cpu")


class Reference(Ours):
    about = "base.py on NumPy"

    def select(self) -> Backend:
        return Backend(np, "base", "base.py on NumPy")


class TorchGraph(Torch):
    """The same with the whole step, the fetching of its batch included, as one CUDA graph."""

    about = "each step one CUDA graph"

    def __init__(self, data: Dataset, loss: str, device: str = "cpu", precision: str = "float32"):
        super().__init__(data, loss, device, precision)
        self.captured: dict[tuple[Any, ...], Captured] = {}

    def start(self, weights: Weights) -> None:
        dtype = str(weights[0].dtype)
        key = (weights[0].shape, dtype, self.batch)
        super().start(weights)
        if key not in self.captured:
            # one set of addresses for any number of samples
            every = self.samples("train", len(self.data.train_x), dtype)
            self.captured[key] = Captured(self, *every)
        self.step = self.captured[key]
        self.step.restart(weights)
        self.model, self.sgd = self.step.model, self.step.sgd

    def train(self) -> None:
        whole = len(self.x) // self.batch
        self.step.row.zero_()
        for _ in range(whole):
            self.step.replay()
        if rest := len(self.x) - whole * self.batch:
            self.x, self.t, x, t = self.x[-rest:], self.t[-rest:], self.x, self.t
            super().train()  # a smaller batch is no graph of its own
            self.x, self.t = x, t


class Captured:
    """A training step as a CUDA graph, with its own batch, weights and place in the data."""

    def __init__(self, contender: TorchGraph, x: Any, t: Any) -> None:
        torch, batch = contender.torch, contender.batch
        self.torch, self.model, self.sgd = torch, contender.model, contender.sgd
        self.row = torch.zeros(1, dtype=torch.int64, device=x.device)
        within = torch.arange(min(batch, len(x)), device=x.device)
        batch_x, batch_t = x[: len(within)].clone(), t[: len(within)].clone()
        squares = torch.nn.functional.mse_loss

        def step() -> None:
            rows = within + self.row
            torch.index_select(x, 0, rows, out=batch_x)
            torch.index_select(t, 0, rows, out=batch_t)
            self.row.add_(batch)
            loss = squares(self.model(batch_x), batch_t, reduction="sum") / (2 * len(within))
            loss.backward()
            self.sgd.step()

        self.replay = replayed(torch, contender.device, self.sgd, self.row, step)

    def restart(self, weights: Weights) -> None:
        """Take over weights, where the graph reads them."""
        for parameter, w in zip(self.model.parameters(), weights, strict=True):
            parameter.data.copy_(self.torch.from_numpy(w).T)


class Machine:
    """Not a contender: describes the machine and times its memory, products and launches."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.backend = select(device)  # raises the message for the user
        self.xp = self.backend.xp

    def describe(self) -> dict[str, Any]:
        """Return device, driver, CUDA, versions and processor."""
        about: dict[str, Any] = {"device": self.backend.device_name, "cpu": describe_cpu()}
        about["versions"] = {}
        for package in (*PACKAGES, *WHEELS):
            with suppress(PackageNotFoundError):
                about["versions"][package] = version(package)
        if self.device == "gpu":
            about |= describe_gpus()[0]
            properties = self.xp.cuda.runtime.getDeviceProperties(0)
            names = {"multiProcessorCount": "multiprocessors", "l2CacheSize": "l2_bytes"}
            about |= {
                ours: int(properties[its]) for its, ours in names.items() if its in properties
            }
        return about

    @cached_property
    def torch(self) -> Any:
        """PyTorch, if it is installed and sees the device."""
        with suppress(ImportError):
            import torch

            if self.device == "cpu" or torch.cuda.is_available():
                return torch
        return None

    def products(self) -> list[tuple[str, str]]:
        """Return the pairs of library and precision whose product can be timed."""
        pairs = [("cupy" if self.device == "gpu" else "numpy", "float32")]
        if self.torch is not None:
            pairs += [("torch", precision) for precision in ("float32", "tf32", "bfloat16")]
        return pairs

    def product_rate(self, library: str, precision: str, side: int, seconds: float) -> float:
        """Return the GFLOP/s of a product of two square matrices."""
        if library == "torch":
            torch_precision(self.torch, "tf32" if precision == "tf32" else "float32")
        a = self._matrix(library, precision, side)
        return 2e-9 * side**3 / self._seconds(lambda: a @ a, seconds)

    @cache  # noqa: B019 the worker's only object
    def _matrix(self, library: str, precision: str, side: int) -> Any:
        # no zeros: products of zeros can run faster
        host = np.random.default_rng(0).standard_normal((side, side), dtype=np.float32)
        if library != "torch":
            return self.xp.asarray(host)
        a = self.torch.from_numpy(host).to("cuda" if self.device == "gpu" else "cpu")
        return a.to(self.torch.bfloat16) if precision == "bfloat16" else a

    def copy_rate(self, mebibytes: int, seconds: float) -> float:
        """Return the GB/s of a copy on the device, bytes read and bytes written."""
        source, target = self._buffers(mebibytes)

        def copy() -> None:
            target[...] = source

        return 2e-9 * source.nbytes / self._seconds(copy, seconds)

    @cache  # noqa: B019 the worker's only object
    def _buffers(self, mebibytes: int) -> tuple[Any, Any]:
        source = self.xp.arange(mebibytes * 2**18, dtype="float32")
        return source, self.xp.zeros_like(source)

    def launches(self, count: int) -> dict[str, float]:
        """Return the seconds of a launch: on the host, until it may go on, and until all are done.

        Of an elementwise operation, and on a GPU of an empty kernel, alone and in a CUDA graph.
        """
        ones = self.xp.ones(1, "float32")
        calls = {"elementwise": lambda: self.xp.add(ones, 1, out=ones)}
        if self.device == "gpu":
            code = 'extern "C" __global__ void nothing() {}'
            nothing = self.xp.RawKernel(code, "nothing")
            calls["empty kernel"] = lambda: nothing((1,), (1,), ())
        seconds = {}
        for name, call in calls.items():
            runs = [self._timed(call, count) for _ in range(6)][1:]
            for what, column in zip(("host", "done"), zip(*runs, strict=True), strict=True):
                seconds[f"{name}, {what}"] = median(column) / count
        if self.device == "gpu":
            graph = self._graph(calls["empty kernel"], count)
            runs = [self._timed(graph, 1)[1] for _ in range(6)][1:]
            seconds[IN_A_GRAPH] = median(runs) / count
        return seconds

    def _graph(self, call: Callable[[], Any], count: int) -> Callable[[], Any]:
        """Return what replays so many calls, one after the other, as a CUDA graph."""
        stream = self.xp.cuda.Stream(non_blocking=True)
        with stream:
            stream.begin_capture()
            for _ in range(count):
                call()
            graph = stream.end_capture()
        replay: Callable[[], Any] = graph.launch
        return replay

    def _seconds(self, work: Callable[[], Any], seconds: float) -> float:
        """Return the time of doing it once, repeated for about so many seconds."""
        work()
        _, took = self._timed(work, 1)
        count = max(1, int(seconds / took))
        return self._timed(work, count)[1] / count

    def _timed(self, work: Callable[[], Any], count: int) -> tuple[float, float]:
        """Return the seconds until the host may go on, and until the device has finished."""
        self._synchronize()
        started = perf_counter()
        for _ in range(count):
            work()
        host = perf_counter() - started
        self._synchronize()
        return host, perf_counter() - started

    def _synchronize(self) -> None:
        self.backend.synchronize()
        if self.torch is not None and self.device == "gpu":
            self.torch.cuda.synchronize()


@dataclass(frozen=True)
class Entry:
    """A contender: its process, its class, the rule it follows and its matrix products."""

    process: str
    kind: type[Contender]
    loss: str
    precision: str = "float32"

    @property
    def ours(self) -> str:
        """Return the name of this trainer under the same rule at the same precision."""
        name = "ours" if self.loss == "rashid" else "ours, squared error"
        return name if self.precision == "float32" else f"{name}, {self.precision}"


_FLOAT32 = {
    "ours": Entry("ours", Ours, "rashid"),
    "ours, squared error": Entry("ours", Ours, "squared_error"),
    "cpu": Entry("cpu", OurCpu, "rashid"),
    "cupy": Entry("cupy", Numpy, "rashid"),
    "torch": Entry("torch", Torch, "squared_error"),
    "torch graph": Entry("torch", TorchGraph, "squared_error"),
    "jax": Entry("jax", Jax, "rashid"),
}
_TF32 = {
    f"{name}, tf32": Entry(entry.process, entry.kind, entry.loss, "tf32")
    for name, entry in _FLOAT32.items()
    if entry.process in ("ours", "torch", "jax")
}
CONTENDERS = _FLOAT32 | _TF32
REFERENCES = {loss: Entry("reference", Reference, loss) for loss in ("rashid", "squared_error")}


class Process:
    """All contenders of a library, which share the data in one process."""

    def __init__(self, source: str, device: str, samples: int) -> None:
        data = load(source)
        self.data = first_samples(data, samples)
        self.device = device
        self.contenders: dict[str, Any] = {}
        self.samples: dict[str, Any] = {}

    def do(self, name: str, method: str, *arguments: Any) -> Any:
        """Call a contender's method."""
        if name not in self.contenders:
            entry = REFERENCES.get(name) or CONTENDERS[name]
            made = entry.kind(self.data, entry.loss, self.device, entry.precision)
            made.samples = self.samples.setdefault(entry.process, made.samples)
            self.contenders[name] = made
        return getattr(self.contenders[name], method)(*arguments)

    def check(self, name: str, hidden: int, batch: int, n: int, dtype: str) -> Any:
        """Train n samples from the common weights; return the weights then and the answers."""
        return self.do(name, "check", self.do(name, "start_weights", hidden), dtype, batch, n)

    def prepare(self, runs: Iterable[tuple[str, int, int]], until: float) -> int:
        """Compile or capture what runs of a contender, hidden and batch size need.

        It starts none after `until` seconds. What fails here fails again where it is reported.

        Returns
        -------
        int
            How many were prepared.
        """
        ends, done = perf_counter() + until, 0
        for name, hidden, batch in runs:
            if perf_counter() > ends:
                break
            with suppress(Exception):
                n = self.do(name, "samples_of_run", hidden, batch, 0.0)
                self.do(name, "two_passes", hidden, batch, n)
                done += 1
        return done


def first_samples(data: Dataset, samples: int) -> Dataset:
    """Return the first training samples, 0 for all, and no more test samples than those."""
    n = samples or len(data.train_x)
    train, test = (data.train_x[:n], data.train_y[:n]), (data.test_x[:n], data.test_y[:n])
    return replace(data, train_x=train[0], train_y=train[1], test_x=test[0], test_y=test[1])

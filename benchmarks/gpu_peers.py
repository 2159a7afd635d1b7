"""The contenders of scripts/gpu_check.py: this trainer on a GPU and what else trains there.

Each also runs on the CPU, to prove its code: there CuPy's place is taken by NumPy, and what would
be captured as a CUDA graph is called.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache, cached_property
from importlib.metadata import PackageNotFoundError, version
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

from backends import Backend, describe_cpu, describe_gpus, select
from benchmarks import peers
from benchmarks.peers import Weights, has_bias, peak_mib, rate_of
from trainer import MLP, Dataset, Deformation, EpochReport, fit, load
from trainer.initializers import initial_weights

ANSWERS = 0  # in the place of a batch size: the answers to all test samples
ANSWERED = 5  # times in a run
PACKAGES = ("numpy", "scipy", "numba", "torch", "jax", "jaxlib")
WHEELS = ("cupy-cuda12x", "cupy-cuda13x", "cupy", "jax-cuda12-plugin", "jax-cuda13-plugin")


class OnDevice:
    """What contenders have in common here; goes before the `peers.Contender` that it changes.

    Parameters
    ----------
    data : Dataset
    loss : str
    device : {"gpu", "cpu"}
    precision : {"float32", "tf32"}
        Of the matrix products.
    """

    data: Dataset
    sizes: list[int]
    steps: int | None = None  # in a run; None: as many as fit into a time
    setup: Callable[..., None]
    train: Callable[[], Any]
    predict: Callable[[], Any]

    def __init__(self, data: Dataset, loss: str, device: str = "gpu", precision: str = "float32"):
        self.device, self.precision = device, precision
        super().__init__(data, loss)  # type: ignore[call-arg]

    def _samples(self, part: str, n: int, dtype: str) -> tuple[Any, Any]:
        every = len(getattr(self.data, f"{part}_x"))
        if n == every:
            return super()._samples(part, n, dtype)  # type: ignore[misc]
        x, t = self.samples(part, every, dtype)  # type: ignore[attr-defined]
        return x[:n], t[:n]  # the device holds them once

    def synchronize(self) -> None:
        """Wait until the device has finished."""

    def start_weights(self, hidden: int) -> Weights:
        """What all contenders start from, in float64."""
        return _start_weights(self.sizes[0], hidden, self.sizes[-1])

    def samples_of_run(self, hidden: int, batch: int, seconds: float) -> int:
        """Choose how many samples a run takes: whole batches, or all there are."""
        every = len(self.data.train_x)
        if batch == ANSWERS:
            return len(self.data.test_x)
        if self.steps is not None:
            return _whole_batches(self.steps * batch, batch, every)
        most = _whole_batches(every, batch, every)
        n = _whole_batches(max(64, 2 * batch), batch, every)
        self.two_passes(hidden, batch, n)  # what is compiled is compiled now
        while (took := self._pass_seconds(hidden, batch, n)) < seconds / 4 and n < most:
            n = _whole_batches(4 * n, batch, every)
        return _whole_batches(n * seconds / took, batch, every)

    def _pass_seconds(self, hidden: int, batch: int, n: int) -> float:
        seconds = self.two_passes(hidden, batch, n)
        return min(seconds["first"], seconds["second"])

    def two_passes(self, hidden: int, batch: int, n: int) -> dict[str, float]:
        """Seconds of two passes over n samples, or of answering the test samples twice."""
        # what answers is set up as if it were to learn one sample
        self.setup(self.start_weights(hidden), "float32", n if batch else 1, batch or 1)
        seconds = []
        for _ in range(2):
            self.synchronize()
            started = perf_counter()
            if batch == ANSWERS:
                for _ in range(ANSWERED):
                    self.predict()
                    self.synchronize()  # the answers must be there
            else:
                self.train()
            self.synchronize()
            seconds.append(perf_counter() - started)
        if batch == ANSWERS:
            seconds = [s / ANSWERED for s in seconds]
        return {"first": seconds[0], "second": seconds[1]}


def _whole_batches(samples: float, batch: int, every: int) -> int:
    """As many, in whole batches, at least one, and all rather than more than there are."""
    n = max(1, int(samples) // batch) * batch
    return n if n <= every else every // batch * batch or every


@cache
def _start_weights(features: int, hidden: int, classes: int) -> Weights:
    return initial_weights([features, hidden, classes], "hidden", np.random.default_rng(0))


class Ours(OnDevice, peers.Contender):
    """`fit` on a fresh network; the seconds are by its own clock, of a first and a second epoch."""

    about = "`fit`, this trainer"
    epochs = 1

    def select(self) -> Backend:
        """A fresh backend: nothing that it prepared for earlier samples may be found again."""
        return select(self.device, self.precision)

    def setup(self, weights: Weights, dtype: str, n: int, batch: int) -> None:
        backend = self.select()
        if not hasattr(self, "resident"):  # the pixels as they are
            parts = (self.data.train_x, self.data.train_y, self.data.test_x)
            self.resident = [backend.asarray(part) for part in parts]
        x, y, self.test = self.resident
        settings: dict[str, Any] = {"loss": self.loss, "bias": has_bias(self.loss), "dtype": dtype}
        hidden = weights[0].shape[1]
        sizes = [self.sizes[0], hidden, self.sizes[-1]]
        self.model = MLP(sizes, backend=backend, scale=self.scale, shift=self.shift, **settings)
        self.model.set_weights(weights)
        self.fitting = fit(
            self.model,
            x[:n],
            y[:n],
            epochs=self.epochs,
            batch_size=batch,
            learning_rate=rate_of(batch, hidden),
        )

    def train(self) -> None:
        self.reports = [r for r in self.fitting if isinstance(r, EpochReport)]

    def two_passes(self, hidden: int, batch: int, n: int) -> dict[str, float]:
        if batch == ANSWERS:
            return super().two_passes(hidden, batch, n)
        self.epochs = 2
        try:
            self.setup(self.start_weights(hidden), "float32", n, batch)
            self.train()
        finally:
            self.epochs = 1
        first, second = self.reports
        seconds = {"first": first.seconds, "second": second.seconds}
        return seconds | {"compile": first.compile_seconds}

    def synchronize(self) -> None:
        self.model.backend.synchronize()

    def weights(self) -> Weights:
        return self.model.get_weights()

    def predict(self) -> Any:
        return self.model.predict(self.test)

    def host(self, a: Any) -> np.ndarray:
        return self.model.backend.to_numpy(a)

    def peak_memory(self, hidden: int, batch: int) -> float:
        """MiB held at most in an epoch and its evaluation, the data included.

        On a GPU what CuPy's pool has taken, which it gives back only when asked to, so neither
        the driver's context nor the libraries' own; on the CPU all that the process held.
        """
        pool = None
        for last_run in ("model", "fitting", "reports"):
            vars(self).pop(last_run, None)
        gc.collect()
        if self.device == "gpu":
            pool = select("gpu").xp.get_default_memory_pool()
            pool.free_all_blocks()
        self.setup(self.start_weights(hidden), "float32", len(self.data.train_x), batch)
        self.train()
        self.predict()
        self.synchronize()
        return peak_mib() if pool is None else pool.total_bytes() / 2**20

    def deforming(self, hidden: Sequence[int], batch: int) -> dict[str, Any]:
        """Seconds of a step in each epoch after the first, on plain and on deformed images."""
        sizes, shape = [self.sizes[0], *hidden, self.sizes[-1]], self.data.image_shape
        every_way = Deformation(shape, alpha=34.0, sigma=4.0, rotate=15.0, scale=15.0)
        found: dict[str, Any] = {"sizes": sizes}
        for name, deformation in (("plain", None), ("deformed", every_way)):
            model = MLP(sizes, backend=self.select(), scale=self.scale, shift=self.shift, seed=0)
            reports = fit(
                model,
                self.data.train_x,
                self.data.train_y,
                epochs=4,
                batch_size=batch,
                learning_rate=0.01,
                deformation=deformation,
            )
            epochs = [r.seconds for r in reports if isinstance(r, EpochReport)]
            steps = -(-len(self.data.train_x) // batch)
            found[name] = [seconds / steps for seconds in epochs[1:]]
        return found


class OurCpu(Ours):
    about = "this trainer on the CPU"

    def select(self) -> Backend:
        return select("cpu")


class Reference(Ours):
    about = "base.py on NumPy"

    def select(self) -> Backend:
        return Backend(np, "base", "base.py on NumPy")


class PlainCupy(OnDevice, peers.Numpy):
    about = "plain CuPy, the lesson's code"

    def __init__(self, data: Dataset, loss: str, device: str = "gpu", precision: str = "float32"):
        super().__init__(data, loss, device, precision)
        if device == "gpu":
            import cupy
            from cupyx.scipy.special import expit

            self.xp, self.expit = cupy, expit
            cupy.cuda.Device(0).use()

    def native(self, a: np.ndarray) -> Any:
        return self.xp.asarray(a)

    def start(self, weights: Weights) -> None:
        super().start([self.native(w) for w in weights])

    def host(self, a: Any) -> np.ndarray:
        return self.xp.asnumpy(a) if self.device == "gpu" else np.asarray(a)

    def synchronize(self) -> None:
        if self.device == "gpu":
            self.xp.cuda.get_current_stream().synchronize()

    def launches(self, count: int) -> dict[str, float]:
        """Seconds of a launch: on the host, until it may go on, and until all were done.

        Of an elementwise operation, and on a GPU of an empty kernel.
        """
        ones = self.xp.ones(1, "float32")
        calls = {"elementwise": lambda: self.xp.add(ones, 1, out=ones)}
        if self.device == "gpu":
            code = 'extern "C" __global__ void nothing() {}'
            nothing = self.xp.RawKernel(code, "nothing")
            calls["empty kernel"] = lambda: nothing((1,), (1,), ())
        seconds = {}
        for name, call in calls.items():
            hosts, whole = [], []
            for _ in range(6):
                self.synchronize()
                started = perf_counter()
                for _ in range(count):
                    call()
                hosts.append((perf_counter() - started) / count)
                self.synchronize()
                whole.append((perf_counter() - started) / count)
            seconds[f"{name}, host"] = median(hosts[1:])
            seconds[f"{name}, done"] = median(whole[1:])
        return seconds


class TorchEager(OnDevice, peers.Torch):
    about = "PyTorch, eager, autograd and optim.SGD"

    def __init__(self, data: Dataset, loss: str, device: str = "gpu", precision: str = "float32"):
        super().__init__(data, loss, device, precision)
        if device == "gpu" and not self.torch.cuda.is_available():
            raise ImportError("this PyTorch sees no GPU")
        self.place = self.torch.device("cuda" if device == "gpu" else "cpu")

    def setup(self, weights: Weights, dtype: str, n: int, batch: int) -> None:
        _torch_precision(self.torch, self.precision)
        super().setup(weights, dtype, n, batch)

    def native(self, a: np.ndarray) -> Any:
        return self.torch.from_numpy(a).to(self.place)

    def host(self, a: Any) -> np.ndarray:
        return a.cpu().numpy()

    def synchronize(self) -> None:
        if self.device == "gpu":
            self.torch.cuda.synchronize()


class TorchGraph(TorchEager):
    """The same with the whole step, the fetching of its batch included, as one CUDA graph."""

    about = "PyTorch, each step one CUDA graph"

    def __init__(self, data: Dataset, loss: str, device: str = "gpu", precision: str = "float32"):
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
        self.model, self.sgd = contender.model, contender.sgd
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

        self._uncaptured = step
        if contender.device == "cpu":
            self.replay: Callable[[], None] = self._plain
            return
        aside = torch.cuda.Stream()  # as PyTorch's manual has it
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(3):
                self.sgd.zero_grad(set_to_none=True)
                self.row.zero_()
                step()
        torch.cuda.current_stream().wait_stream(aside)
        self.sgd.zero_grad(set_to_none=True)
        self.row.zero_()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            step()
        self.replay = graph.replay

    def _plain(self) -> None:
        self.sgd.zero_grad()
        self._uncaptured()

    def restart(self, weights: Weights) -> None:
        """Take over weights, where the graph reads them."""
        for parameter, w in zip(self.model.parameters(), weights, strict=True):
            parameter.data.copy_(_torch_tensor(w).T)


def _torch_tensor(a: np.ndarray) -> Any:
    import torch

    return torch.from_numpy(a)


def _torch_precision(torch: Any, precision: str) -> None:
    torch.set_float32_matmul_precision("highest" if precision == "float32" else "high")


class Jax(OnDevice, peers.Jax):
    about = "JAX, `lax.scan` under `jit`, formulas by hand"
    steps = 2_000  # their number is compiled in

    def __init__(self, data: Dataset, loss: str, device: str = "gpu", precision: str = "float32"):
        super().__init__(data, loss, device, precision)
        if device == "gpu" and self.jax.default_backend() != "gpu":
            raise ImportError("this JAX sees no GPU")

    def setup(self, weights: Weights, dtype: str, n: int, batch: int) -> None:
        level = "highest" if self.precision == "float32" else "tensorfloat32"
        self.jax.config.update("jax_default_matmul_precision", level)
        super().setup(weights, dtype, n, batch)


class Machine:
    """No contender: what the machine is, and what its memory and its matrix products can do."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.backend = select(device)  # raises what the user is told
        self.xp = self.backend.xp

    def describe(self) -> dict[str, Any]:
        """Device, driver, CUDA, versions, processor."""
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
        """PyTorch, if it is here and sees the device."""
        with suppress(ImportError):
            import torch

            if self.device == "cpu" or torch.cuda.is_available():
                return torch
        return None

    def products(self) -> list[tuple[str, str]]:
        """Pairs of library and precision whose product can be timed."""
        pairs = [("cupy" if self.device == "gpu" else "numpy", "float32")]
        if self.torch is not None:
            pairs += [("torch", precision) for precision in ("float32", "tf32", "bfloat16")]
        return pairs

    def product_rate(self, library: str, precision: str, side: int, seconds: float) -> float:
        """GFLOP/s of a product of two square matrices."""
        if library == "torch":
            _torch_precision(self.torch, "tf32" if precision == "tf32" else "float32")
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
        """GB/s of a copy on the device, bytes read and bytes written."""
        source, target = self._buffers(mebibytes)

        def copy() -> None:
            target[...] = source

        return 2e-9 * source.nbytes / self._seconds(copy, seconds)

    @cache  # noqa: B019 the worker's only object
    def _buffers(self, mebibytes: int) -> tuple[Any, Any]:
        source = self.xp.arange(mebibytes * 2**18, dtype="float32")
        return source, self.xp.zeros_like(source)

    def _seconds(self, work: Callable[[], Any], seconds: float) -> float:
        """Of doing it once, repeated for about so long."""
        work()
        took = self._timed(work, 1)
        count = max(1, int(seconds / took))
        return self._timed(work, count) / count

    def _timed(self, work: Callable[[], Any], count: int) -> float:
        self._synchronize()
        started = perf_counter()
        for _ in range(count):
            work()
        self._synchronize()
        return perf_counter() - started

    def _synchronize(self) -> None:
        self.backend.synchronize()
        if self.torch is not None and self.device == "gpu":
            self.torch.cuda.synchronize()


@dataclass(frozen=True)
class Entry:
    """A contender: its process, its class, the rule it follows and its matrix products."""

    process: str
    kind: type[Any]
    loss: str
    precision: str = "float32"

    @property
    def ours(self) -> str:
        """Name of this trainer under the same rule at the same precision."""
        name = "ours" if self.loss == "rashid" else "ours, squared error"
        return name if self.precision == "float32" else f"{name}, {self.precision}"


_FLOAT32 = {
    "ours": Entry("ours", Ours, "rashid"),
    "ours, squared error": Entry("ours", Ours, "squared_error"),
    "cpu": Entry("cpu", OurCpu, "rashid"),
    "cupy": Entry("cupy", PlainCupy, "rashid"),
    "torch": Entry("torch", TorchEager, "squared_error"),
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
    """What one process holds: all contenders of a library, which share the data there."""

    def __init__(self, source: str, device: str, samples: int) -> None:
        data = load(source)
        self.data = first_samples(data, samples)
        self.device = device
        self.contenders: dict[str, Any] = {}
        self.samples: dict[str, Callable[..., Any]] = {}

    def do(self, name: str, method: str, *arguments: Any) -> Any:
        """Call a method of a contender."""
        if name not in self.contenders:
            entry = REFERENCES.get(name) or CONTENDERS[name]
            made = entry.kind(self.data, entry.loss, self.device, entry.precision)
            made.samples = self.samples.setdefault(entry.process, made.samples)
            self.contenders[name] = made
        return getattr(self.contenders[name], method)(*arguments)

    def check(self, name: str, hidden: int, batch: int, n: int, dtype: str) -> Any:
        """Train n samples from the common weights; the weights after them, the answers."""
        return self.do(name, "check", self.do(name, "start_weights", hidden), dtype, batch, n)

    def prepare(self, runs: Iterable[tuple[str, int, int]], until: float) -> int:
        """Compile or capture what runs of a contender, hidden and batch size need.

        It begins none after so many seconds. What fails here fails again where it is reported.

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
    """The same with fewer training samples, 0 for all; no more test than training samples."""
    n = samples or len(data.train_x)
    train, test = (data.train_x[:n], data.train_y[:n]), (data.test_x[:n], data.test_y[:n])
    return replace(data, train_x=train[0], train_y=train[1], test_x=test[0], test_y=test[1])

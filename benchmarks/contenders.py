"""What every contender of compare_peers.py and gpu_check.py does, and this trainer as one."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from backends import Backend, select
from trainer import MLP, Dataset, Deformation, EpochReport, fit
from trainer.initializers import initial_weights
from trainer.recipes import input_map

HIDDEN = 200
LOW, HIGH = 0.01, 0.99  # targets of the rules with a sigmoid output
BATCHES: tuple[int, ...] = (1, 128, 512, 4096)
CHECKED_SAMPLES = 300
ANSWERS = 0  # in place of a batch size: predict the classes of all test samples
ANSWERED = 5  # times in a run

Weights = list[np.ndarray]


def rate_of(batch: int, hidden: int = HIDDEN) -> float:
    """Return the learning rate; lower for wider networks, whose outputs would oscillate."""
    return (0.1 if batch == 1 else 0.5) * min(1.0, HIDDEN / hidden)


def has_bias(loss: str) -> bool:
    """Return whether the network has biases: only scikit-learn's, which cannot do without."""
    return loss == "cross_entropy"


def last_epoch(reports: Iterable[Any]) -> EpochReport:
    """Train to the end and return the last report."""
    *_, last = reports
    return last


class Contender:
    """Trains from given weights W1[, b1], W2[, b2]; only `train` and `predict` are timed.

    Parameters
    ----------
    data : Dataset
    loss : str
    device : {"cpu", "gpu"}
    precision : {"float32", "tf32"}
        Of the matrix products.
    """

    about = ""
    batches = BATCHES
    slow = False  # at batch size 1: only the first samples are measured
    predicts = True
    steps: int | None = None  # in a run; None: as many as fit into a time

    def __init__(self, data: Dataset, loss: str, device: str = "cpu", precision: str = "float32"):
        self.data, self.loss, self.device, self.precision = data, loss, device, precision
        self.sizes = [data.train_x.shape[1], HIDDEN, len(data.classes)]
        self.scale, self.shift = input_map("scaled", data.value_range, data.train_x)
        self.samples = cache(self._samples)

    def start_weights(self, hidden: int = HIDDEN) -> Weights:
        """Return what all contenders of this rule start from, in float64."""
        return _start_weights(self.sizes[0], hidden, self.sizes[-1], has_bias(self.loss))

    def setup(self, weights: Weights, dtype: str, n: int, batch: int) -> None:
        """Prepare one pass over the first n training samples, untimed."""
        self.batch, self.rate = batch, rate_of(batch, weights[0].shape[1])
        self.x, self.t = self.samples("train", n, dtype)
        self.test_x, _ = self.samples("test", len(self.data.test_x), dtype)
        self.start([w.astype(dtype) for w in weights])

    def _samples(self, part: str, n: int, dtype: str) -> tuple[Any, Any]:
        pixels, labels = (getattr(self.data, f"{part}_{name}") for name in "xy")
        if n < len(pixels) and dtype == "float32":  # so that the device holds them once
            x, t = self.samples(part, len(pixels), dtype)
            return x[:n], t[:n]
        one = np.dtype(dtype).type
        targets = np.full((n, self.sizes[-1]), LOW, dtype)
        targets[np.arange(n), labels[:n]] = HIGH
        x = pixels[:n].astype(dtype) * one(self.scale) + one(self.shift)
        return self.native(x), self.native(targets)

    def native(self, a: np.ndarray) -> Any:
        """Return an array as the contender takes its samples."""
        return a

    def host(self, a: Any) -> np.ndarray:
        """Copy to where NumPy can read it."""
        return np.asarray(a)

    def synchronize(self) -> None:
        """Wait until the device has finished."""

    def start(self, weights: Weights) -> None:
        """Take over the initial weights, untimed."""

    def train(self) -> None:
        """Do the pass."""
        raise NotImplementedError

    def weights(self) -> Iterable[Any]:
        """Return the weights in the order and shapes of `MLP.get_weights`."""
        raise NotImplementedError

    def predict(self) -> Any:
        """Return a class for every test sample."""
        raise NotImplementedError

    def check(
        self, weights: Weights, dtype: str, batch: int, n: int = CHECKED_SAMPLES
    ) -> tuple[Weights, np.ndarray | None]:
        """Train the first n samples; return the weights after them and the answers they give."""
        self.setup(weights, dtype, n, batch)
        self.train()
        result = [self.host(w) for w in self.weights()]
        if {str(w.dtype) for w in result} != {dtype}:
            raise TypeError(f"computed in {result[0].dtype}, not in {dtype}")
        return result, self.host(self.predict()) if self.predicts else None

    def time(self, weights: Weights, n: int, batch: int) -> float:
        """Return the seconds of a pass over n samples, or of predicting the test samples."""
        return self.passes(weights, n, batch, 1)[0]

    def two_passes(self, hidden: int, batch: int, n: int) -> dict[str, float]:
        """Return the seconds of two passes over n samples, or of predicting twice."""
        seconds = self.passes(self.start_weights(hidden), n, batch, 2)
        return dict(zip(("first", "second"), seconds, strict=True))

    def passes(self, weights: Weights, n: int, batch: int, count: int) -> list[float]:
        """Return the seconds of each pass over n samples, or of predicting the test samples."""
        # what predicts is set up as if it were to learn one sample
        self.setup(weights, "float32", n if batch else 1, batch or 1)
        seconds = []
        for _ in range(count):
            self.synchronize()
            started = perf_counter()
            if batch == ANSWERS:
                for _ in range(ANSWERED):
                    self.predict()
                    self.synchronize()  # the answers must be there
            else:
                self.train()
            self.synchronize()
            seconds.append((perf_counter() - started) / (1 if batch else ANSWERED))
        return seconds

    def samples_of_run(self, hidden: int, batch: int, seconds: float) -> int:
        """Choose how many samples a run takes: whole batches, or all there are."""
        every = len(self.data.train_x)
        if batch == ANSWERS:
            return len(self.data.test_x)
        if self.steps is not None:
            return whole_batches(self.steps * batch, batch, every)
        most = whole_batches(every, batch, every)
        n = whole_batches(max(64, 2 * batch), batch, every)
        self.two_passes(hidden, batch, n)  # what is compiled is compiled now
        while (took := self._pass_seconds(hidden, batch, n)) < seconds / 4 and n < most:
            n = whole_batches(4 * n, batch, every)
        return whole_batches(n * seconds / took, batch, every)

    def _pass_seconds(self, hidden: int, batch: int, n: int) -> float:
        seconds = self.two_passes(hidden, batch, n)
        return min(seconds["first"], seconds["second"])


@cache
def _start_weights(features: int, hidden: int, classes: int, bias: bool) -> Weights:
    matrices = initial_weights([features, hidden, classes], "hidden", np.random.default_rng(0))
    return [a for w in matrices for a in ([w, np.zeros(w.shape[1])] if bias else [w])]


def whole_batches(samples: float, batch: int, every: int) -> int:
    """Round down to whole batches, at least one, of `every` sample at most."""
    n = max(1, int(samples) // batch) * batch
    return n if n <= every else every // batch * batch or every


class Ours(Contender):
    """`fit` on a fresh network; the seconds are those of its epochs, by fit's own clock."""

    about = "`fit`, this trainer"

    def select(self) -> Backend:
        """Return a fresh backend, which has prepared nothing for earlier samples."""
        return select(self.device, self.precision)

    def network(self, sizes: Sequence[int], backend: Backend, dtype: str = "float32") -> MLP:
        """Return a network that learns by this contender's rule."""
        settings: dict[str, Any] = {"loss": self.loss, "bias": has_bias(self.loss), "dtype": dtype}
        return MLP(sizes, backend=backend, scale=self.scale, shift=self.shift, **settings)

    def setup(self, weights: Weights, dtype: str, n: int, batch: int, epochs: int = 1) -> None:
        backend = self.select()
        if not hasattr(self, "resident"):  # the pixels as they are
            parts = (self.data.train_x, self.data.train_y, self.data.test_x)
            self.resident = [backend.asarray(part) for part in parts]
        x, y, self.test = self.resident
        hidden = weights[0].shape[1]
        self.model = self.network([self.sizes[0], hidden, self.sizes[-1]], backend, dtype)
        self.model.set_weights(weights)
        step: dict[str, Any] = {"batch_size": batch, "learning_rate": rate_of(batch, hidden)}
        self.fitting = fit(self.model, x[:n], y[:n], epochs=epochs, **step)

    def train(self) -> None:
        self.reports = [r for r in self.fitting if isinstance(r, EpochReport)]

    def passes(self, weights: Weights, n: int, batch: int, count: int) -> list[float]:
        if batch == ANSWERS:
            return super().passes(weights, n, batch, count)
        self.setup(weights, "float32", n, batch, count)
        self.train()
        return [report.seconds for report in self.reports]

    def two_passes(self, hidden: int, batch: int, n: int) -> dict[str, float]:
        seconds = super().two_passes(hidden, batch, n)
        return (
            seconds if batch == ANSWERS else seconds | {"compile": self.reports[0].compile_seconds}
        )

    def synchronize(self) -> None:
        self.model.backend.synchronize()

    def weights(self) -> Weights:
        return self.model.get_weights()

    def predict(self) -> Any:
        return self.model.predict(self.test)

    def host(self, a: Any) -> np.ndarray:
        return self.model.backend.to_numpy(a)

    def peak_memory(self, hidden: int, batch: int) -> float:
        """Return the MiB held at most in an epoch and its evaluation, including the data.

        On a GPU what CuPy's pool has taken, which it returns only when asked to, so neither
        the driver's context nor the libraries' own; on the CPU all that the process held.
        """
        pool = None
        for last_run in ("model", "fitting", "reports"):
            vars(self).pop(last_run, None)
        gc.collect()
        if self.device == "gpu":
            pool = self.select().xp.get_default_memory_pool()
            pool.free_all_blocks()
        self.setup(self.start_weights(hidden), "float32", len(self.data.train_x), batch)
        self.train()
        self.predict()
        self.synchronize()
        return peak_mib() if pool is None else pool.total_bytes() / 2**20

    def deforming(self, hidden: Sequence[int], batch: int) -> dict[str, Any]:
        """Return the seconds of a step in later epochs, on plain and on deformed images."""
        sizes = [self.sizes[0], *hidden, self.sizes[-1]]
        assert self.data.image_shape
        ways = {"alpha": 34.0, "sigma": 4.0, "rotate": 15.0, "scale": 15.0}
        deformations = {"plain": None, "deformed": Deformation(self.data.image_shape, **ways)}
        found: dict[str, Any] = {"sizes": sizes}
        for name, deformation in deformations.items():
            reports = fit(
                self.network(sizes, self.select()),
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

    def cost(self, hidden: tuple[int, ...], density: float | None, dense: bool, n: int) -> float:
        """Return the seconds a sample at batch size 1, over n samples.

        They are synthetic where a density is given, the share of their pixels that is not zero;
        `dense` times only the matrix products that any code needs which multiplies zeros too, of
        the same blocks, by BLAS on all threads.
        """
        data = self.data
        x, y = self._synthetic(density) if density else (data.train_x, data.train_y)
        if dense:
            return dense_products((x[:n] * self.scale + self.shift).astype("float32"), hidden[0])
        model = self.network([self.sizes[0], *hidden, self.sizes[-1]], self.select())
        # a low rate: saturated units would be other arithmetic than a training's
        report = last_epoch(fit(model, x[:n], y[:n], epochs=1, learning_rate=0.01))
        return 1 / report.samples_per_second

    @cache  # noqa: B019 the worker's only object
    def _synthetic(self, density: float) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(0)
        pixels = rng.integers(1, 256, (20_000, self.sizes[0]), np.uint8)
        pixels[rng.random(pixels.shape, np.float32) >= density] = 0
        return pixels, rng.integers(0, self.sizes[-1], len(pixels))


def dense_products(x: np.ndarray, hidden: int) -> float:
    """Return the seconds a sample of Z = X W, G = X Xᵀ and W + Xᵀ D in blocks of 32 samples."""
    W = np.full((x.shape[1], hidden), 0.01, "float32")
    d = np.full((32, hidden), 1e-6, "float32")
    blocks = [x[start : start + 32] for start in range(0, len(x) - 31, 32)]
    started = perf_counter()
    for block in blocks:
        _, _ = block @ W, block @ block.T
        W += block.T @ d
    return (perf_counter() - started) / (32 * len(blocks))


def peak_mib() -> float:
    """Return the largest memory that this process has held."""
    try:  # ru_maxrss would remember the process that started this one as well
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(s.split()[1]) / 1024 for s in lines if s.startswith("VmHWM:"))
    except (OSError, StopIteration):
        import resource

        unit = 2**20 if sys.platform == "darwin" else 2**10
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit

"""The contenders of compare_peers.py and gpu_check.py: what trains such a network.

Each runs on the CPU or, where its library can, on a GPU.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import cache, partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from scipy.special import expit

from backends import Backend, select
from trainer import MLP, Dataset, Deformation, EpochReport, fit
from trainer.initializers import initial_weights
from trainer.recipes import input_map

HIDDEN = 200
LOW, HIGH = 0.01, 0.99  # targets of the rules with a sigmoid output
BATCHES: tuple[int, ...] = (1, 128, 512, 4096)
CHECKED_SAMPLES = 300
PRODUCT = 2048  # side of the matrices whose product gives the machine's rate
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


class Numpy(Contender):
    about = "the lesson's code"
    slow = True

    def __init__(self, data: Dataset, loss: str, device: str = "cpu", precision: str = "float32"):
        super().__init__(data, loss, device, precision)
        self.xp: Any = np
        self.expit: Any = expit
        if device == "gpu":
            import cupy
            from cupyx.scipy import special

            self.xp, self.expit = cupy, special.expit
            cupy.cuda.Device(0).use()

    def native(self, a: np.ndarray) -> Any:
        return self.xp.asarray(a)

    def host(self, a: Any) -> np.ndarray:
        return self.xp.asnumpy(a) if self.device == "gpu" else np.asarray(a)

    def synchronize(self) -> None:
        if self.device == "gpu":
            self.xp.cuda.get_current_stream().synchronize()

    def start(self, weights: Weights) -> None:
        # (units, inputs), as in the lessons
        self.wih, self.who = (self.native(w).T.copy() for w in weights)

    def train(self) -> None:
        if self.batch == 1:
            for x, t in zip(self.x, self.t, strict=True):
                self._learn_sample(x, t)
        else:
            for start in range(0, len(self.x), self.batch):
                rows = slice(start, start + self.batch)
                self._learn_batch(self.x[rows], self.t[rows])

    def _learn_sample(self, x: Any, t: Any) -> None:
        xp = self.xp
        inputs, targets = xp.array(x, ndmin=2).T, xp.array(t, ndmin=2).T
        hidden = self.expit(xp.dot(self.wih, inputs))
        final = self.expit(xp.dot(self.who, hidden))
        output_errors = targets - final
        hidden_errors = xp.dot(self.who.T, output_errors)
        self.who += self.rate * xp.dot(output_errors * final * (1 - final), hidden.T)
        self.wih += self.rate * xp.dot(hidden_errors * hidden * (1 - hidden), inputs.T)

    def _learn_batch(self, x: Any, t: Any) -> None:
        rate = self.rate / len(x)
        hidden = self.expit(x @ self.wih.T)
        final = self.expit(hidden @ self.who.T)
        output_errors = t - final
        hidden_errors = output_errors @ self.who
        self.who += rate * ((output_errors * final * (1 - final)).T @ hidden)
        self.wih += rate * ((hidden_errors * hidden * (1 - hidden)).T @ x)

    def weights(self) -> Iterable[Any]:
        return [self.wih.T, self.who.T]

    def predict(self) -> Any:
        return self.xp.argmax(self.expit(self.expit(self.test_x @ self.wih.T) @ self.who.T), axis=1)


class Machine(Contender):
    """Not a contender: times the machine's matrix products."""

    batches = ()
    predicts = False

    def first_product(self) -> float:
        """Return the seconds of the product that predicting the test images needs in any case."""
        x, _ = self.samples("test", len(self.data.test_x), "float32")
        W = np.ones((x.shape[1], HIDDEN), np.float32)
        started = perf_counter()
        for _ in range(5):
            x @ W
        return (perf_counter() - started) / 5

    def product_rate(self, threads: int) -> float:
        """Return the GFLOP/s of a float32 matrix product."""
        from threadpoolctl import threadpool_limits

        a = np.ones((PRODUCT, PRODUCT), np.float32)
        with threadpool_limits(threads, "blas"):
            started = perf_counter()
            a @ a
            return 2e-9 * PRODUCT**3 / (perf_counter() - started)


class Numba(Contender):
    about = "a compiled loop that skips zeros"
    batches = (1,)
    predicts = False

    def __init__(self, data: Dataset, loss: str, device: str = "cpu", precision: str = "float32"):
        super().__init__(data, loss, device, precision)
        self.learn = zero_skipping_loop()

    def setup(self, weights: Weights, dtype: str, n: int, batch: int) -> None:
        one = np.dtype(dtype).type
        self.settings = [one(v) for v in (self.scale, self.shift, rate_of(batch), LOW, HIGH)]
        # W1 = V + shift · 1 cᵀ, with c = 0 at the start; r = shift · 1ᵀ V
        self.V, self.W2 = (w.astype(dtype) for w in weights)
        self.c, self.r = np.zeros(HIDDEN, dtype), self.settings[1] * self.V.sum(axis=0)
        self.pixels, self.labels = self.data.train_x[:n], self.data.train_y[:n]

    def train(self) -> None:
        self.learn(self.pixels, self.labels, *self.settings, self.V, self.c, self.r, self.W2)

    def weights(self) -> Weights:
        return [self.V + self.settings[1] * self.c, self.W2]


def zero_skipping_loop() -> Callable[..., None]:
    """Compile what one writes in an afternoon: Rashid's rule on only the non-zero pixels."""
    import numba

    @numba.njit(fastmath=True)
    def learn(pixels, labels, scale, shift, rate, low, high, V, c, r, W2):  # type: ignore
        features, hidden = V.shape
        classes = W2.shape[1]
        zero, one = V.dtype.type(0), V.dtype.type(1)
        at, value = np.empty(features, np.int64), np.empty(features, V.dtype)
        a, d = np.empty_like(c), np.empty_like(c)
        error, delta = np.empty(classes, V.dtype), np.empty(classes, V.dtype)
        for t in range(len(labels)):
            count, total = 0, zero
            for i in range(features):
                if pixels[t, i] != 0:
                    at[count], value[count] = i, pixels[t, i] * scale
                    total += value[count]
                    count += 1
            # x W = (s p) V + r + (b Σ s p + b² features) c
            mass = shift * total
            offset = mass + shift * shift * V.dtype.type(features)
            for j in range(hidden):
                a[j] = r[j] + offset * c[j]
            for q in range(count):
                row = V[at[q]]
                for j in range(hidden):
                    a[j] += value[q] * row[j]
            for j in range(hidden):
                a[j] = one / (one + np.exp(-a[j]))
            delta[:] = zero
            for j in range(hidden):
                for k in range(classes):
                    delta[k] += a[j] * W2[j, k]
            for k in range(classes):
                o = one / (one + np.exp(-delta[k]))
                error[k] = (high if k == labels[t] else low) - o
                delta[k] = rate * error[k] * o * (one - o)
            for j in range(hidden):
                split = zero
                for k in range(classes):
                    split += W2[j, k] * error[k]
                    W2[j, k] += a[j] * delta[k]
                d[j] = rate * split * a[j] * (one - a[j])
            for j in range(hidden):
                c[j] += d[j]
                r[j] += mass * d[j]
            for q in range(count):
                row = V[at[q]]
                for j in range(hidden):
                    row[j] += value[q] * d[j]

    return learn


class Jax(Contender):
    about = "`lax.scan` under `jit`, formulas by hand"
    steps = 2_000  # their number is compiled in

    def __init__(self, data: Dataset, loss: str, device: str = "cpu", precision: str = "float32"):
        super().__init__(data, loss, device, precision)
        import jax

        if device == "gpu" and jax.default_backend() != "gpu":
            raise ImportError("this JAX sees no GPU")

        self.jax, sigmoid, outer = jax, jax.nn.sigmoid, jax.numpy.outer

        def sample(rate: float, weights: Any, xt: Any) -> Any:
            (W1, W2), (x, t) = weights, xt
            h = sigmoid(x @ W1)
            o = sigmoid(h @ W2)
            d = W2 @ (t - o) * h * (1 - h)
            return (W1 + rate * outer(x, d), W2 + rate * outer(h, (t - o) * o * (1 - o))), None

        def batch(rate: float, weights: Any, xt: Any) -> Any:
            (W1, W2), (x, t), rate = weights, xt, rate / len(xt[0])
            h = sigmoid(x @ W1)
            o = sigmoid(h @ W2)
            d = (t - o) @ W2.T * h * (1 - h)
            return (W1 + rate * (x.T @ d), W2 + rate * (h.T @ ((t - o) * o * (1 - o)))), None

        def run(online: bool, rate: float, weights: Any, x: Any, t: Any) -> Any:
            return jax.lax.scan(partial(sample if online else batch, rate), weights, (x, t))[0]

        # the weights are donated: their memory may take the new ones
        self.run = jax.jit(run, static_argnums=(0, 1), donate_argnums=2)
        self.answer = jax.jit(lambda W1, W2, x: sigmoid(sigmoid(x @ W1) @ W2).argmax(axis=1))

    def native(self, a: np.ndarray) -> Any:
        return self.jax.device_put(a)

    def setup(self, weights: Weights, dtype: str, n: int, batch: int) -> None:
        level = "highest" if self.precision == "float32" else "tensorfloat32"
        self.jax.config.update("jax_default_matmul_precision", level)
        self.jax.config.update("jax_enable_x64", dtype == "float64")
        super().setup(weights, dtype, n, batch)

    def start(self, weights: Weights) -> None:
        n, batch = len(self.x), self.batch
        whole = n // batch * batch
        self.parts = []  # the whole batches, then the smaller one that may be left
        for rows, size in ((slice(0, whole), batch), (slice(whole, n), n - whole)):
            if rows.start < rows.stop:
                shape = (-1,) if batch == 1 else (-1, size)
                self.parts += [[a[rows].reshape(*shape, a.shape[1]) for a in (self.x, self.t)]]
        self.state = tuple(self.native(w) for w in weights)
        self.jax.block_until_ready((self.parts, self.state, self.test_x))

    def train(self) -> None:
        for x, t in self.parts:
            self.state = self.run(self.batch == 1, self.rate, self.state, x, t)
        self.jax.block_until_ready(self.state)

    def weights(self) -> Iterable[Any]:
        return self.state

    def predict(self) -> Any:
        return self.answer(*self.state, self.test_x).block_until_ready()


class Torch(Contender):
    about = "eager, autograd and optim.SGD"
    slow = True

    def __init__(self, data: Dataset, loss: str, device: str = "cpu", precision: str = "float32"):
        super().__init__(data, loss, device, precision)
        import torch

        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
        if device == "gpu" and not torch.cuda.is_available():
            raise ImportError("this PyTorch sees no GPU")
        self.torch, self.place = torch, torch.device("cuda" if device == "gpu" else "cpu")

    def setup(self, weights: Weights, dtype: str, n: int, batch: int) -> None:
        torch_precision(self.torch, self.precision)
        super().setup(weights, dtype, n, batch)

    def native(self, a: np.ndarray) -> Any:
        return self.torch.from_numpy(a).to(self.place)

    def host(self, a: Any) -> np.ndarray:
        return a.cpu().numpy()

    def synchronize(self) -> None:
        if self.device == "gpu":
            self.torch.cuda.synchronize()

    def start(self, weights: Weights) -> None:
        nn, layers = self.torch.nn, []
        for w in map(self.native, weights):
            layers += [nn.Linear(*w.shape, bias=False, dtype=w.dtype, device=w.device)]
            layers += [nn.Sigmoid()]
            layers[-2].weight.data.copy_(w.T)
        self.model = nn.Sequential(*layers)
        self.sgd = self.torch.optim.SGD(self.model.parameters(), lr=self.rate)

    def train(self) -> None:
        squares = self.torch.nn.functional.mse_loss
        for start in range(0, len(self.x), self.batch):
            x, t = self.x[start : start + self.batch], self.t[start : start + self.batch]
            self.sgd.zero_grad()
            (squares(self.model(x), t, reduction="sum") / (2 * len(x))).backward()
            self.sgd.step()

    def weights(self) -> Iterable[Any]:
        return [w.detach().T for w in self.model.parameters()]

    def predict(self) -> Any:
        with self.torch.inference_mode():
            return self.model(self.test_x).argmax(dim=1)


def torch_precision(torch: Any, precision: str) -> None:
    """Choose how PyTorch multiplies float32 matrices."""
    torch.set_float32_matmul_precision("highest" if precision == "float32" else "high")


class Sklearn(Contender):
    about = "MLPClassifier, solver sgd"
    slow = True

    def start(self, weights: Weights) -> None:
        from sklearn.neural_network import MLPClassifier

        self.y = self.data.train_y[: len(self.x)]
        sgd: dict[str, Any] = {"solver": "sgd", "momentum": 0.0, "nesterovs_momentum": False}
        sgd |= {"learning_rate": "constant", "learning_rate_init": self.rate, "shuffle": False}
        network: dict[str, Any] = {
            "hidden_layer_sizes": (HIDDEN,),
            "activation": "logistic",
            "alpha": 0.0,
        }
        self.model = MLPClassifier(batch_size=self.batch, **network, **sgd)
        # a first step makes the arrays, whose place ours then take
        first, classes = slice(self.batch), np.arange(self.sizes[-1])
        self.model.partial_fit(self.x[first], self.y[first], classes=classes)
        self.model.coefs_, self.model.intercepts_ = weights[::2], weights[1::2]

    def train(self) -> None:
        self.model.partial_fit(self.x, self.y)

    def weights(self) -> Weights:
        pairs = zip(self.model.coefs_, self.model.intercepts_, strict=True)
        return [a for pair in pairs for a in pair]

    def predict(self) -> np.ndarray:
        return self.model.predict(self.test_x)


CONTENDERS: dict[str, tuple[type[Contender], str]] = {
    "ours": (Ours, "rashid"),
    "ours, squared error": (Ours, "squared_error"),
    "ours, cross entropy": (Ours, "cross_entropy"),
    "numba": (Numba, "rashid"),
    "numpy": (Numpy, "rashid"),
    "jax": (Jax, "rashid"),
    "torch": (Torch, "squared_error"),
    "sklearn": (Sklearn, "cross_entropy"),
    "machine": (Machine, "rashid"),
}
OURS = {loss: name for name, (kind, loss) in CONTENDERS.items() if kind is Ours}


def peak_mib() -> float:
    """Return the largest memory that this process has held."""
    try:  # ru_maxrss would remember the process that started this one as well
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(s.split()[1]) / 1024 for s in lines if s.startswith("VmHWM:"))
    except (OSError, StopIteration):
        import resource

        unit = 2**20 if sys.platform == "darwin" else 2**10
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit

"""The contenders of scripts/compare_peers.py: this trainer and what else trains such a network."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from functools import cache, partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from scipy.special import expit

from backends import Backend, select
from trainer import MLP, Dataset, EpochReport, fit
from trainer.recipes import input_map

HIDDEN = 200
LOW, HIGH = 0.01, 0.99  # targets of the rules with a sigmoid output
BATCHES: tuple[int, ...] = (1, 128, 512, 4096)
CHECKED_SAMPLES = 300
PRODUCT = 2048  # side of the matrices whose product gives the machine's rate

Weights = list[np.ndarray]


def rate_of(batch: int, hidden: int = HIDDEN) -> float:
    """The learning rate; lower for wider networks, whose outputs would sway."""
    return (0.1 if batch == 1 else 0.5) * min(1.0, HIDDEN / hidden)


def has_bias(loss: str) -> bool:
    """Only the rule of scikit-learn, which knows no other way."""
    return loss == "cross_entropy"


def last_epoch(reports: Iterable[Any]) -> EpochReport:
    """Train to the end."""
    *_, last = reports
    return last


class Contender:
    """Trains from given weights W1[, b1], W2[, b2]; only `train` and `predict` are timed."""

    about = ""
    batches = BATCHES
    slow = False  # at batch size 1: only the first samples are measured
    predicts = True

    def __init__(self, data: Dataset, loss: str) -> None:
        self.data, self.loss = data, loss
        self.sizes = [data.train_x.shape[1], HIDDEN, len(data.classes)]
        self.scale, self.shift = input_map("scaled", data.value_range, data.train_x)
        self.samples = cache(self._samples)

    def setup(self, weights: Weights, dtype: str, n: int, batch: int) -> None:
        """Make all ready for one pass over the first n training samples, untimed."""
        self.batch, self.rate = batch, rate_of(batch, weights[0].shape[1])
        self.x, self.t = self.samples("train", n, dtype)
        self.test_x, _ = self.samples("test", len(self.data.test_x), dtype)
        self.start([w.astype(dtype) for w in weights])

    def _samples(self, part: str, n: int, dtype: str) -> tuple[Any, Any]:
        pixels = getattr(self.data, f"{part}_x")[:n]
        labels = getattr(self.data, f"{part}_y")[:n]
        one = np.dtype(dtype).type
        targets = np.full((len(labels), self.sizes[-1]), LOW, dtype)
        targets[np.arange(len(labels)), labels] = HIGH
        x = pixels.astype(dtype) * one(self.scale) + one(self.shift)
        return self.native(x), self.native(targets)

    def native(self, a: np.ndarray) -> Any:
        """What the contender likes its samples to be."""
        return a

    def host(self, a: Any) -> np.ndarray:
        """Copy to where NumPy can read it."""
        return np.asarray(a)

    def start(self, weights: Weights) -> None:
        """Take over the initial weights, untimed."""

    def train(self) -> float | None:
        """Do the pass; the seconds it took, where the contender has a clock of its own."""
        raise NotImplementedError

    def weights(self) -> Iterable[Any]:
        """The weights in the order and shapes of `MLP.get_weights`."""
        raise NotImplementedError

    def predict(self) -> Any:
        """A class for every test sample."""
        raise NotImplementedError

    def check(
        self, weights: Weights, dtype: str, batch: int, n: int = CHECKED_SAMPLES
    ) -> tuple[Weights, np.ndarray | None]:
        """Train the first n samples; the weights after them and the answers they give."""
        self.setup(weights, dtype, n, batch)
        self.train()
        result = [self.host(w) for w in self.weights()]
        if {str(w.dtype) for w in result} != {dtype}:
            raise TypeError(f"computed in {result[0].dtype}, not in {dtype}")
        return result, self.host(self.predict()) if self.predicts else None

    def time(self, weights: Weights, n: int, batch: int) -> float:
        """Seconds of a pass over n samples; at batch size 0, of answering the test samples."""
        self.setup(weights, "float32", n, max(batch, 1))
        started = perf_counter()
        if batch:
            own = self.train()
            return perf_counter() - started if own is None else own
        for _ in range(5):
            self.predict()
        return (perf_counter() - started) / 5


class Ours(Contender):
    """`fit` on a fresh network; the seconds are its first epoch's, by fit's own clock."""

    about = "`fit`, this trainer"

    def setup(self, weights: Weights, dtype: str, n: int, batch: int) -> None:
        # a fresh backend: nothing that it prepared for earlier samples may be found again
        self.model = self.network(select("cpu"), dtype=dtype)
        self.model.set_weights(weights)
        x, y = self.data.train_x[:n], self.data.train_y[:n]
        rate = rate_of(batch)
        self.fitting = fit(self.model, x, y, epochs=1, batch_size=batch, learning_rate=rate)

    def network(
        self, backend: Backend, sizes: list[int] | None = None, dtype: str = "float32"
    ) -> MLP:
        settings: dict[str, Any] = {"loss": self.loss, "bias": has_bias(self.loss), "dtype": dtype}
        return MLP(
            sizes or self.sizes, backend=backend, scale=self.scale, shift=self.shift, **settings
        )

    def start_weights(self) -> Weights:
        """What all contenders of this rule start from, in float64."""
        return self.network(select("cpu"), dtype="float64").get_weights()

    def train(self) -> float:
        return last_epoch(self.fitting).seconds

    def weights(self) -> Weights:
        return self.model.get_weights()

    def predict(self) -> np.ndarray:
        return self.model.backend.to_numpy(self.model.predict(self.data.test_x))

    def peak_memory(self, batch: int) -> float:
        """MiB that this process has held at most, after one epoch and its evaluation."""
        data, model = self.data, self.network(select("cpu"))
        test = (data.test_x, data.test_y)
        last_epoch(fit(model, data.train_x, data.train_y, epochs=1, batch_size=batch, test=test))
        return peak_mib()

    def cost(self, hidden: tuple[int, ...], density: float | None, dense: bool, n: int) -> float:
        """Seconds a sample at batch size 1, over n samples.

        They are synthetic where a density is given, the share of their pixels that is not zero;
        `dense` times the matrix products alone that any code needs which multiplies zeros too, of
        the same blocks, by BLAS on all threads.
        """
        data = self.data
        x, y = self._synthetic(density) if density else (data.train_x, data.train_y)
        sizes = [self.sizes[0], *hidden, self.sizes[-1]]
        if dense:
            return dense_products((x[:n] * self.scale + self.shift).astype("float32"), hidden[0])
        model = self.network(select("cpu"), sizes)
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
    """Seconds a sample of Z = X W, G = X Xᵀ and W + Xᵀ D in blocks of 32 samples."""
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
    xp: Any = np
    expit: Any = staticmethod(expit)

    def start(self, weights: Weights) -> None:
        self.wih, self.who = (w.T.copy() for w in weights)  # (units, inputs), as in the lessons

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
    """No contender: what the machine's matrix products can do."""

    batches = ()
    predicts = False

    def first_product(self) -> float:
        """Seconds of the product without which no test image can be answered."""
        x, _ = self.samples("test", len(self.data.test_x), "float32")
        W = np.ones((x.shape[1], HIDDEN), np.float32)
        started = perf_counter()
        for _ in range(5):
            x @ W
        return (perf_counter() - started) / 5

    def product_rate(self, threads: int) -> float:
        """GFLOP/s of a float32 matrix product."""
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

    def __init__(self, data: Dataset, loss: str) -> None:
        super().__init__(data, loss)
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
    """Compile what one writes in an afternoon: Rashid's rule on the non-zero pixels alone."""
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

    def __init__(self, data: Dataset, loss: str) -> None:
        super().__init__(data, loss)
        import jax

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

    def __init__(self, data: Dataset, loss: str) -> None:
        super().__init__(data, loss)
        import torch

        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
        self.torch = torch

    def native(self, a: np.ndarray) -> Any:
        return self.torch.from_numpy(a)

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
    """Memory that this process has held at most."""
    try:  # ru_maxrss would remember the process that started this one as well
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(s.split()[1]) / 1024 for s in lines if s.startswith("VmHWM:"))
    except (OSError, StopIteration):
        import resource

        unit = 2**20 if sys.platform == "darwin" else 2**10
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit

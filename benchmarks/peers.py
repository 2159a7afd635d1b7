"""The contenders of compare_peers.py and gpu_check.py: what trains such a network.

Each runs on the CPU or, where its library can, on a GPU.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np
from scipy.special import expit

from benchmarks.contenders import (
    ANSWERS,
    BATCHES,
    CHECKED_SAMPLES,
    HIDDEN,
    HIGH,
    LOW,
    Contender,
    Ours,
    Weights,
    rate_of,
    whole_batches,
)
from trainer import Dataset

__all__ = [
    "ANSWERS",
    "BATCHES",
    "CHECKED_SAMPLES",
    "CONTENDERS",
    "HIDDEN",
    "OURS",
    "Contender",
    "Jax",
    "Machine",
    "Numba",
    "Numpy",
    "Ours",
    "Sklearn",
    "Torch",
    "Weights",
    "replayed",
    "torch_precision",
    "whole_batches",
]

PRODUCT = 2048  # side of the matrices whose product gives the machine's rate


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


def replayed(
    torch: Any, device: str, optimizer: Any, row: Any, step: Callable[[], None]
) -> Callable[[], None]:
    """Return a step as a CUDA graph, captured as PyTorch's manual has it, or on a CPU as it is.

    Parameters
    ----------
    torch : module
    device : {"cpu", "gpu"}
    optimizer : torch.optim.Optimizer
        Its gradients are set to None before a step that is no replay.
    row : tensor
        The step's place in the data, from 0 on in each step before the capture.
    step : callable
    """

    def plain() -> None:
        optimizer.zero_grad(set_to_none=True)
        step()

    if device == "cpu":
        return plain
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(3):
            row.zero_()
            plain()
    torch.cuda.current_stream().wait_stream(aside)
    optimizer.zero_grad(set_to_none=True)
    row.zero_()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    replay: Callable[[], None] = graph.replay
    return replay


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

"""The contenders of compare_ingredients.py and gpu_check.py, and what they train.

Each is prepared for a `Work`, and then trains epoch after epoch from where it stands, on the CPU or
on a GPU.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from time import perf_counter
from typing import Any

import numpy as np

from backends import Backend, select
from benchmarks.peers import replayed, torch_precision
from trainer import MLP, Dataset, EpochReport, TrainingSettings, fit
from trainer.initializers import initial_weights
from trainer.recipes import input_map

Arrays = list[np.ndarray]

# `gelu` is the activation, all else are settings of the training
MOMENTUM: dict[str, Any] = {"momentum": 0.9}
INGREDIENTS: dict[str, dict[str, Any]] = {
    "sgd": {},
    "momentum": MOMENTUM,
    "nesterov": MOMENTUM | {"optimizer": "nesterov"},
    "adam": {"optimizer": "adam"},
    "adamw": {"optimizer": "adamw", "weight_decay": 0.01},
    "dropout": MOMENTUM | {"dropout": 0.2},
    "input-dropout": MOMENTUM | {"input_dropout": 0.2},
    "clip": MOMENTUM | {"clip": 1.0},
    "batch-norm": MOMENTUM | {"batch_norm": True},
    "gelu": MOMENTUM | {"activation": "gelu"},
    "averaging": MOMENTUM | {"averaging": 0.999},
    "adam+dropout+clip+averaging": {
        "optimizer": "adam",
        "dropout": 0.2,
        "clip": 1.0,
        "averaging": 0.999,
    },
    "all": {
        "optimizer": "adamw",
        "weight_decay": 0.01,
        "activation": "gelu",
        "dropout": 0.2,
        "input_dropout": 0.2,
        "clip": 1.0,
        "batch_norm": True,
        "averaging": 0.999,
    },
}
# low ones, as the networks are learned for many epochs and must not diverge
RATES = {"sgd": 0.01, "nesterov": 0.01, "adam": 0.001, "adamw": 0.001}
FOREVER = 1_000_000  # epochs
CHECKED_UNITS, CHECKED_SAMPLES, CHECKED_EPOCHS = 32, 256, 2
# largest difference of a weight from ours, as a share of its array's largest change; PyTorch's clip
# divides by the norm plus 1e-6
TOLERANCE, CLIP_TOLERANCE = 1e-9, 1e-5
COMPILED = 100  # works, in a process


@dataclass(frozen=True)
class Work:
    """A network and how it is trained: a row of the comparison.

    Attributes
    ----------
    hidden : tuple of int
    ingredient : str
        In `INGREDIENTS`.
    settings : TrainingSettings
        Batch size and ingredients.
    activation : str
    samples : int
        The first so many are an epoch, whole batches of them.
    """

    hidden: tuple[int, ...]
    ingredient: str
    settings: TrainingSettings
    activation: str
    samples: int

    @classmethod
    def of(cls, hidden: tuple[int, ...], batch: int, ingredient: str, samples: int) -> Work:
        """Take the whole batches among so many samples, one batch at least."""
        fields = dict(INGREDIENTS[ingredient])
        activation = fields.pop("activation", "relu")
        rate = RATES[fields.get("optimizer", "sgd")]
        # more layers multiply the gradient's size
        rate /= 4 if len(hidden) > 3 and "adam" not in fields.get("optimizer", "sgd") else 1
        settings = TrainingSettings(batch_size=batch, learning_rate=rate, epochs=FOREVER, **fields)
        return cls(hidden, ingredient, settings, activation, max(1, samples // batch) * batch)

    @property
    def network(self) -> str:
        """Return the hidden layers' widths."""
        return "-".join(map(str, self.hidden))

    @property
    def name(self) -> str:
        """Return what --rows picks the row by."""
        return f"{self.network}/{self.settings.batch_size}/{self.ingredient}"

    def quiet(self, samples: int) -> Work:
        """Return the same without noise, and with gradients that are clipped indeed.

        The contenders' noise differs. What remains of dropout is its code, which drops nothing.
        """
        clip = None if self.settings.clip is None else 0.1
        settings = replace(self.settings, dropout=0.0, input_dropout=0.0, clip=clip)
        return replace(self, settings=settings, samples=samples)

    def checked(self) -> Work:
        """Return the same in small and quiet."""
        work, hidden = self.quiet(CHECKED_SAMPLES), (CHECKED_UNITS,) * len(self.hidden)
        return replace(work, hidden=hidden, settings=replace(work.settings, batch_size=32))


def start_weights(features: int, work: Work, classes: int) -> Arrays:
    """Return what all contenders start from, W1, b1, W2, …, in float64."""
    sizes = [features, *work.hidden, classes]
    matrices = initial_weights(sizes, "he", np.random.default_rng(0))
    return [a for W in matrices for a in (W, np.zeros(W.shape[1]))]


def start_arrays(features: int, work: Work, classes: int) -> Arrays:
    """Return what `Contender.arrays` is before the first step."""
    weights = start_weights(features, work, classes)
    norms: Arrays = []
    if work.settings.batch_norm:
        norms = [np.ones(units) for units in work.hidden]  # the gains
        norms += [a for units in work.hidden for a in (np.zeros(units), np.ones(units))]
    return weights + norms + (weights if work.settings.averaging else [])


def fraction(averaging: float, step: Any, least: Callable[..., Any] = min) -> Any:
    """Return by how much of the difference the average moves in this step, counted from 1."""
    return 1 - least(averaging, (1 + step) / (10 + step))


class Contender:
    """Trains a network, prepared untimed; only `train` is timed.

    Parameters
    ----------
    data : Dataset
    device : {"cpu", "gpu"}
    """

    about = ""

    def __init__(self, data: Dataset, device: str = "cpu"):
        self.data, self.device = data, device
        self.scale, self.shift = input_map("unit", data.value_range, data.train_x)
        self.dense = cache(self._dense)

    def prepare(self, work: Work, dtype: str = "float32") -> None:
        """Take what is to be trained, from its initial weights."""
        self.work = work
        self.use(dtype)
        weights = start_weights(self.data.train_x.shape[1], work, len(self.data.classes))
        self.start([w.astype(dtype) for w in weights], dtype)

    def use(self, dtype: str) -> None:
        """Set the dtype that the library computes in, where it has one."""

    def start(self, weights: Arrays, dtype: str) -> None:
        """Take the initial weights."""
        raise NotImplementedError

    def _dense(self, n: int, dtype: str) -> Any:
        every = len(self.data.train_x)
        if n < every and dtype == "float32":  # so that they are held once
            return self.dense(every, dtype)[:n]
        return self.native(self.data.train_x[:n].astype(dtype) * np.dtype(dtype).type(self.scale))

    def native(self, a: np.ndarray) -> Any:
        """Return an array as the contender takes its samples."""
        return a

    def train(self) -> None:
        """Train one epoch and wait for its end."""
        raise NotImplementedError

    def seconds(self) -> float:
        """Train one more epoch and return how long it took."""
        started = perf_counter()
        self.train()
        return perf_counter() - started

    def arrays(self) -> Arrays:
        """Return all that learns: W1, b1, W2, …; with batch norm the gains, and the running mean
        and variance of each layer; with averaging the average of W1, b1, W2, …."""
        raise NotImplementedError

    @classmethod
    def tolerance(cls, work: Work) -> float:
        """Return by how much what has been learned may differ from ours."""
        return TOLERANCE

    def check(self, work: Work, dtype: str = "float64") -> Arrays:
        """Train some epochs and return what has been learned."""
        try:
            self.prepare(work, dtype)
            for _ in range(CHECKED_EPOCHS):
                self.train()
            found = self.arrays()
        finally:
            self.use("float32")  # what is timed would be compiled again in another
        if wrong := {str(a.dtype) for a in found} - {dtype}:
            raise TypeError(f"computed in {' and '.join(wrong)}, not in {dtype}")
        return found


class Ours(Contender):
    about = "`fit`, this trainer"

    def select(self) -> Backend:
        """Return a fresh backend."""
        return select(self.device)

    def start(self, weights: Arrays, dtype: str) -> None:
        work, data = self.work, self.data
        sizes = [data.train_x.shape[1], *work.hidden, len(data.classes)]
        self.model = MLP(
            sizes,
            backend=self.select(),
            activation=work.activation,
            loss="cross_entropy",
            bias=True,
            dtype=dtype,
            scale=self.scale,
            shift=self.shift,
        )
        self.model.set_weights(weights)
        n = work.samples
        self.fitting = fit(self.model, data.train_x[:n], data.train_y[:n], work.settings, seed=0)

    def train(self) -> None:
        self.report = next(r for r in self.fitting if isinstance(r, EpochReport))

    def seconds(self) -> float:
        self.train()
        return self.report.seconds  # by fit's own clock: compiling is not in it

    def arrays(self) -> Arrays:
        state = self.fitting.state().arrays
        copies = [a for name, a in state.items() if name.startswith("learning.")]
        # without batch norm, which is folded into them, the model's weights are the average
        averages = [a for name, a in state.items() if name.startswith(("average.W", "average.b"))]
        weights = averages or self.model.get_weights()
        return copies + weights * bool(self.work.settings.averaging) if copies else weights


class Reference(Ours):
    about = "base.py on NumPy"

    def select(self) -> Backend:
        return Backend(np, "base", self.about)


class Jax(Contender):
    about = "`lax.scan` under `jit`, optax"

    def __init__(self, data: Dataset, device: str = "cpu"):
        super().__init__(data, device)
        import jax
        import optax

        if device == "gpu" and jax.default_backend() != "gpu":
            raise ImportError("this JAX sees no GPU")
        if device == "gpu":
            jax.config.update("jax_default_matmul_precision", "highest")
        self.jax, self.optax = jax, optax
        self.shaped = lru_cache(3)(self._shaped)

    def _shaped(self, n: int, size: int, dtype: str) -> tuple[Any, ...]:
        """Return the first n samples and labels in batches, on the device."""
        x, y = self.dense(n, dtype), self.data.train_y[:n].astype(np.int32)
        shaped = x.reshape(-1, size, x.shape[1]), y.reshape(-1, size)
        return tuple(map(self.jax.device_put, shaped))

    def use(self, dtype: str) -> None:
        self.jax.config.update("jax_enable_x64", dtype == "float64")

    def start(self, weights: Arrays, dtype: str) -> None:
        jax, work = self.jax, self.work
        self.batches = self.shaped(work.samples, work.settings.batch_size, dtype)
        params: dict[str, Any] = {"weights": [jax.device_put(w) for w in weights], "gains": []}
        moments = []
        if work.settings.batch_norm:
            ones = [jax.numpy.ones(units, dtype) for units in work.hidden]
            params["gains"] = ones
            moments = [(jax.numpy.zeros_like(a), jax.numpy.ones_like(a)) for a in ones]
        optimizer = self._optimizer(work.settings)
        average = jax.tree.map(jax.numpy.copy, params) if work.settings.averaging else None
        step, key = jax.numpy.asarray(0.0, dtype), jax.random.key(0)
        self.state = params, optimizer.init(params), moments, average, step, key

        def epoch(state: Any, batches: Any) -> Any:
            return jax.lax.scan(self._step(optimizer), state, batches)

        # the state is donated: its memory may take the new one
        self.epoch = jax.jit(epoch, donate_argnums=0)
        jax.block_until_ready((self.state[:-1], self.batches))

    def _optimizer(self, settings: TrainingSettings) -> Any:
        optax, rate = self.optax, settings.learning_rate
        if settings.optimizer == "adam":
            optimizer = optax.adam(rate)
        elif settings.optimizer == "adamw":
            optimizer = optax.adamw(
                rate,
                weight_decay=settings.weight_decay,
                mask=lambda params: self.jax.tree.map(lambda w: w.ndim == 2, params),
            )
        else:
            nesterov = settings.optimizer == "nesterov"
            optimizer = optax.sgd(rate, momentum=settings.momentum, nesterov=nesterov)
        if settings.clip is None:
            return optimizer
        return optax.chain(optax.clip_by_global_norm(settings.clip), optimizer)

    def _step(self, optimizer: Any) -> Callable[..., Any]:
        """Return what `lax.scan` does with every batch."""
        jax, optax, work = self.jax, self.optax, self.work
        jnp, random, settings = jax.numpy, jax.random, work.settings
        gelu, relu = jax.nn.gelu, jax.nn.relu  # this gelu is the form with tanh
        activate = gelu if work.activation == "gelu" else relu
        noisy = bool(settings.dropout or settings.input_dropout)

        def dropped(key: Any, a: Any, probability: float) -> Any:
            if not probability:
                return a
            kept = random.bernoulli(key, 1 - probability, a.shape)
            return jnp.where(kept, a / (1 - probability), 0)

        def normalized(z: Any, gain: Any, shift: Any, moments: Any) -> tuple[Any, Any]:
            mean, variance, n = z.mean(axis=0), z.var(axis=0), len(z)
            now = mean, variance * (n / (n - 1))
            moved = tuple(m + 0.1 * (a - m) for m, a in zip(moments, now, strict=True))
            return gain * (z - mean) * jax.lax.rsqrt(variance + 1e-5) + shift, moved

        def loss(params: Any, moments: Any, keys: Any, x: Any, y: Any) -> Any:
            weights, moved = params["weights"], []
            a = dropped(keys[0], x, settings.input_dropout)
            for layer in range(len(work.hidden)):
                W, b = weights[2 * layer : 2 * layer + 2]
                if settings.batch_norm:
                    z, of_layer = normalized(a @ W, params["gains"][layer], b, moments[layer])
                    moved.append(of_layer)
                else:
                    z = a @ W + b
                a = dropped(keys[layer + 1], activate(z), settings.dropout)
            logits = a @ weights[-2] + weights[-1]
            return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean(), moved

        def step(state: Any, batch: Any) -> Any:
            params, memory, moments, average, t, key = state
            keys = [None] * (len(work.hidden) + 1)
            if noisy:
                key, *keys = random.split(key, len(keys) + 1)
            gradients, moments = jax.grad(loss, has_aux=True)(params, moments, keys, *batch)
            updates, memory = optimizer.update(gradients, memory, params)
            params, t = optax.apply_updates(params, updates), t + 1
            if settings.averaging:
                part = fraction(settings.averaging, t, jnp.minimum)
                average = jax.tree.map(lambda a, w: a + part * (w - a), average, params)
            return (params, memory, moments, average, t, key), None

        return step

    def train(self) -> None:
        self.state, _ = self.epoch(self.state, self.batches)
        self.jax.block_until_ready(self.state[:-1])

    def arrays(self) -> Arrays:
        params, _, moments, average, *_ = self.state
        found = [*params["weights"], *params["gains"], *(a for pair in moments for a in pair)]
        return [np.asarray(a) for a in found + (average["weights"] if average else [])]


class Torch(Contender):
    about = "eager, autograd and fused optim"
    fused = True  # the fastest there is without compiling

    def __init__(self, data: Dataset, device: str = "cpu"):
        super().__init__(data, device)
        import torch

        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
        torch.set_flush_denormal(True)
        torch_precision(torch, "float32")
        if device == "gpu" and not torch.cuda.is_available():
            raise ImportError("this PyTorch sees no GPU")
        self.torch, self.place = torch, torch.device("cuda" if device == "gpu" else "cpu")

    def use(self, dtype: str) -> None:
        # a compiled Adam counts its steps in it
        self.torch.set_default_dtype(getattr(self.torch, dtype))

    def native(self, a: np.ndarray) -> Any:
        return self.torch.from_numpy(a).to(self.place)

    @classmethod
    def tolerance(cls, work: Work) -> float:
        return TOLERANCE if work.settings.clip is None else CLIP_TOLERANCE

    def start(self, weights: Arrays, dtype: str) -> None:
        torch, work, size = self.torch, self.work, self.work.settings.batch_size
        self.x = self.dense(work.samples, dtype)
        self.y = self.native(self.data.train_y[: work.samples].astype(np.int64))
        self.batches = list(zip(self.x.split(size), self.y.split(size), strict=True))
        self._build([torch.from_numpy(w) for w in weights])
        averaged = self.learned[: len(weights)] if work.settings.averaging else []
        self.average = [w.detach().clone() for w in averaged]
        self.steps: Any = 0

    def _build(self, weights: Sequence[Any]) -> None:
        nn, work, settings = self.torch.nn, self.work, self.work.settings
        layers: list[Any] = []
        self.learned: list[Any] = []  # W1, b1, W2, …, then the gains
        self.norms: list[Any] = []
        if settings.input_dropout:
            layers.append(nn.Dropout(settings.input_dropout))
        for W, b in zip(weights[::2], weights[1::2], strict=True):
            is_last = W is weights[-2]
            normalizes = settings.batch_norm and not is_last
            linear = nn.Linear(*W.shape, bias=not normalizes, dtype=W.dtype)
            linear.weight.data.copy_(W.T)
            layers.append(linear)
            if normalizes:
                self.norms.append(nn.BatchNorm1d(W.shape[1], dtype=W.dtype))
                layers.append(self.norms[-1])
            layers[-1].bias.data.copy_(b)
            self.learned += [linear.weight, layers[-1].bias]
            if not is_last:
                layers.append(nn.GELU("tanh") if work.activation == "gelu" else nn.ReLU())
                if settings.dropout:
                    layers.append(nn.Dropout(settings.dropout))
        self.learned += [norm.weight for norm in self.norms]
        self.model = nn.Sequential(*layers).to(self.place)  # which keeps its parameters' places
        self.optimizer = self._optimizer(settings)

    def _optimizer(self, settings: TrainingSettings) -> Any:
        optim, rate, fused = self.torch.optim, settings.learning_rate, self.fused or None
        # its count of steps is on the GPU, so that a graph can be made of a step
        capturable = self.device == "gpu"
        if settings.optimizer == "adam":
            return optim.Adam(self.learned, lr=rate, fused=fused, capturable=capturable)
        if settings.optimizer == "adamw":
            decay = settings.weight_decay
            groups = [
                {"params": [w for w in self.learned if w.ndim == 2], "weight_decay": decay},
                {"params": [w for w in self.learned if w.ndim == 1], "weight_decay": 0.0},
            ]
            return optim.AdamW(groups, lr=rate, fused=fused, capturable=capturable)
        nesterov = settings.optimizer == "nesterov"
        momentum = settings.momentum
        return optim.SGD(self.learned, lr=rate, momentum=momentum, nesterov=nesterov, fused=fused)

    def loss(self, x: Any, y: Any) -> Any:
        """Return the mean loss of a batch."""
        return self.torch.nn.functional.cross_entropy(self.model(x), y)

    def update(self) -> None:
        """Make a step from the gradients."""
        if self.work.settings.clip is not None:
            self.torch.nn.utils.clip_grad_norm_(self.learned, self.work.settings.clip)
        self.optimizer.step()
        if self.average:
            with self.torch.no_grad():
                self.move_average()

    def move_average(self) -> None:
        """Count the step, and move the average."""
        self.steps += 1
        part = fraction(self.work.settings.averaging, self.steps)
        self.torch._foreach_lerp_(self.average, self.learned[: len(self.average)], part)

    def train(self) -> None:
        for x, y in self.batches:
            self.optimizer.zero_grad()
            self.loss(x, y).backward()
            self.update()
        self.synchronize()

    def synchronize(self) -> None:
        """Wait until the device has finished."""
        if self.device == "gpu":
            self.torch.cuda.synchronize()

    def arrays(self) -> Arrays:
        moments = [a for norm in self.norms for a in (norm.running_mean, norm.running_var)]
        found = [w.detach() for w in self.learned] + moments + self.average
        return [(a.T if a.ndim == 2 else a).cpu().numpy().copy() for a in found]


class CountingTorch(Torch):
    """The same with the number of steps on the device: in a graph a number would stay the same."""

    def start(self, weights: Arrays, dtype: str) -> None:
        super().start(weights, dtype)
        self.steps = self.torch.zeros((), dtype=self.x.dtype, device=self.place)

    def move_average(self) -> None:
        torch = self.torch
        self.steps.add_(1)
        part = fraction(self.work.settings.averaging, self.steps, lambda a, b: b.clamp(max=a))
        apart = torch._foreach_sub(self.learned[: len(self.average)], self.average)
        torch._foreach_mul_(apart, part)
        torch._foreach_add_(self.average, apart)


class CompiledTorch(CountingTorch):
    about = "`torch.compile` of loss and step"
    fused = False  # the compiler makes its own of the plain one
    mode: str | None = "reduce-overhead"  # on a GPU: makes CUDA graphs of what it compiles

    def __init__(self, data: Dataset, device: str = "cpu"):
        if device == "cpu" and not shutil.which("g++"):
            raise ImportError("torch.compile needs a C++ compiler, and there is no g++")
        super().__init__(data, device)
        config = self.torch._dynamo.config
        config.cache_size_limit = COMPILED
        # a function that is compiled too often would run as it is, unnoticed
        config.fail_on_recompile_limit_hit = True
        self.torch._logging.set_logs(dynamo=logging.ERROR)  # it warns of its own profiler

    def start(self, weights: Arrays, dtype: str) -> None:
        super().start(weights, dtype)
        torch, mode = self.torch, self.mode if self.device == "gpu" else None
        compiled = torch.compile(super().loss, dynamic=False, mode=mode)
        self.update = torch.compile(  # type: ignore[method-assign]
            super().update, dynamic=False, mode=mode
        )

        def loss(x: Any, y: Any) -> Any:
            torch.compiler.cudagraph_mark_step_begin()  # the gradients live until the next step
            return compiled(x, y)

        self.loss = loss if mode else compiled  # type: ignore[method-assign]
        for a in (*self.average, self.steps) if mode else ():
            torch._dynamo.mark_static_address(a)  # else what changes it would be no graph


class TorchGraph(CountingTorch):
    about = "a step one CUDA graph, autograd and fused optim"

    def start(self, weights: Arrays, dtype: str) -> None:
        super().start(weights, dtype)
        torch, size = self.torch, self.work.settings.batch_size
        within, self.row = (torch.arange(k, device=self.place) for k in (size, 1))
        x, y = (a[:size].clone() for a in (self.x, self.y))

        def step() -> None:
            rows = within + self.row
            torch.index_select(self.x, 0, rows, out=x)
            torch.index_select(self.y, 0, rows, out=y)
            self.row.add_(size)
            self.loss(x, y).backward()
            self.update()

        initial = {name: a.clone() for name, a in self.model.state_dict().items()}
        self.step = replayed(torch, self.device, self.optimizer, self.row, step)
        # forget the steps that were made for the capture
        self.model.load_state_dict(initial)
        states = [a for state in self.optimizer.state.values() for a in state.values()]
        for a in (*states, self.steps):
            if a is not None:
                a.zero_()
        with torch.no_grad():
            for a, w in zip(self.average, self.learned[: len(self.average)], strict=True):
                a.copy_(w)

    def train(self) -> None:
        self.row.zero_()
        for _ in self.batches:
            self.step()
        self.synchronize()


class CompiledGraph(TorchGraph, CompiledTorch):
    about = "a step one CUDA graph, of what `torch.compile` makes"
    mode = None


OURS = "ours"
CONTENDERS: dict[str, type[Contender]] = {
    OURS: Ours,
    "jax": Jax,
    "torch": Torch,
    "torch.compile": CompiledTorch,
}
ON_GPU: dict[str, type[Contender]] = {
    OURS: Ours,
    "torch graph": TorchGraph,
    "torch.compile": CompiledTorch,
    "torch.compile graph": CompiledGraph,
    "jax": Jax,
}

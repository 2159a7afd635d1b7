"""Training as a generator of reports: `fit` yields, the caller looks, draws, saves or stops."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from numbers import Real
from time import perf_counter
from typing import Any

from backends.feeding import Feed
from backends.functions import Array

from .network import MLP
from .optimizers import OPTIMIZERS, Optimizer

SAMPLINGS = ("epochs", "with-replacement")

_REPORT_SECONDS = 0.1  # about how often a running epoch reports


@dataclass(frozen=True)
class BatchProgress:
    """Where a running epoch stands; the weights are those after `samples` samples.

    Attributes
    ----------
    epoch, epochs : int
        The running epoch, from 1, and how many there will be.
    samples, total : int
        Samples learned in this epoch, and the epoch's size.
    train_loss : float
        Mean loss of those samples, each before its own update, without the l2 penalty.
    seconds : float
        Of training in this epoch so far.
    samples_per_second : float
    """

    epoch: int
    epochs: int
    samples: int
    total: int
    train_loss: float
    seconds: float
    samples_per_second: float


@dataclass(frozen=True)
class EpochReport:
    """What an epoch came to.

    Attributes
    ----------
    epoch : int
        From 1.
    train_loss : float
        Mean loss over the epoch, each sample's before its own update, without the l2 penalty.
    test_accuracy : float or None
        Fraction of right answers after the epoch; None without test samples.
    seconds : float
        Wall time of training with the device synchronised: shuffling, conversion and upload
        included, what is prepared once charged to the first epoch. Compilation, evaluation and
        the time the generator was suspended are not in it.
    evaluation_seconds, compile_seconds : float
    samples_per_second : float
        Training samples over `seconds`.
    validation_accuracy : float or None
        Likewise on held-out training samples.
    """

    epoch: int
    train_loss: float
    test_accuracy: float | None
    seconds: float
    evaluation_seconds: float
    compile_seconds: float
    samples_per_second: float
    validation_accuracy: float | None = None


class Diverged(ArithmeticError):
    """The loss or a weight became NaN or infinite; the model holds the last good epoch's weights.

    Attributes
    ----------
    epoch, sample : int
        Where, both from 1.
    """

    def __init__(self, epoch: int, sample: int, total: int, rate: float) -> None:
        self.epoch = epoch
        self.sample = sample
        lower = f"a lower learning rate, such as {min(rate / 10, 0.1):g} (it was {rate:g})"
        super().__init__(
            f"training diverged in epoch {epoch} at sample {sample:,} of {total:,}: a number became"
            f" NaN or infinite; try {lower if rate else 'smaller initial weights or input values'}"
        )


class _Stopwatch:
    """Wall time of work on the device; runs from the start on."""

    def __init__(self, synchronize: Callable[[], None]) -> None:
        self._synchronize = synchronize
        self.seconds = 0.0
        self.resume()

    def resume(self) -> None:
        self._synchronize()  # what the caller left running on the device is not training
        self._since = perf_counter()

    def pause(self) -> None:
        self._synchronize()
        self.seconds += perf_counter() - self._since


def fit(
    model: MLP,
    train_x: Any,
    train_y: Any,
    *,
    epochs: int = 5,
    batch_size: int = 1,
    learning_rate: float | Callable[[int], float] = 0.1,
    optimizer: str = "sgd",
    momentum: float = 0.0,
    shuffle: bool = False,
    sampling: str = "epochs",
    steps: int | None = None,
    seed: int | None = None,
    test: tuple[Any, Any] | None = None,
    validation: tuple[Any, Any] | None = None,
) -> Iterator[BatchProgress | EpochReport]:
    """Train a network, yielding reports.

    Parameters
    ----------
    model : MLP
        Changed in place. At every yield its weights are those after the samples reported;
        reading or saving them changes no number that follows.
    train_x : array, shape (n, fan_in)
        Host or device array of any real dtype, unscaled; uploaded once.
    train_y : array of int, shape (n,)
    epochs : int
    batch_size : int
        1 is online training, every sample an update. A batch steps by the learning rate times
        the mean gradient of its samples; the last batch of an epoch may be smaller.
    learning_rate : float or callable
        Constant, or ``learning_rate(step)`` for update 0, 1, 2, … of the whole training.
    optimizer : {"sgd", "adam"}
    momentum : float
        μ of SGD's v ← μv - ηg; 0 is plain SGD.
    shuffle : bool
        A new order every epoch, else the samples' own.
    sampling : {"epochs", "with-replacement"}
        Either every sample once an epoch, or every sample of every batch drawn from all, so that
        some come again before others have come; then `shuffle` means nothing, and an epoch is but
        a report every n draws: as many whole batches as go into n samples.
    steps : int, optional
        With "with-replacement": how many updates there are, in place of `epochs`. At batch size 1
        10,000 steps on 1,437 samples are six epochs of 1,437 draws and one of the last 1,378.
    seed : int or None
        Of the orders, drawn on the host: the same on every device.
    test, validation : tuple of (x, y), optional
        Evaluated after each epoch; nothing is chosen by them here.

    Yields
    ------
    BatchProgress or EpochReport
        Some of the first while an epoch runs, one of the second at its end.

    Raises
    ------
    ValueError
        If an argument is out of range or the samples do not fit the network.
    Diverged
        If the loss or a weight becomes NaN or infinite.
    """
    for name, value in (("epochs", epochs), ("batch_size", batch_size)):
        if not isinstance(value, Real) or value < 1 or value % 1 != 0:
            raise ValueError(f"{name}={value}: expected a whole number, one or more")
    if batch_size >= 2**31:
        raise ValueError(f"batch_size={batch_size}: expected a number of samples below 2³¹")
    if optimizer not in OPTIMIZERS:
        raise ValueError(f"optimizer={optimizer!r} is unknown: expected {' or '.join(OPTIMIZERS)}")
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum={momentum}: expected a number from 0 to below 1")
    if not callable(learning_rate) and not 0 <= learning_rate < math.inf:
        raise ValueError(f"learning_rate={learning_rate}: expected a finite number, zero or more")
    if sampling not in SAMPLINGS:
        raise ValueError(f"sampling={sampling!r} is unknown: expected {' or '.join(SAMPLINGS)}")
    if steps is not None and sampling == "epochs":
        raise ValueError(f"steps={steps}: only with sampling='with-replacement'")
    if steps is not None and (not isinstance(steps, Real) or steps < 1 or steps % 1 != 0):
        raise ValueError(f"steps={steps}: expected a whole number, one or more")
    remember = partial(OPTIMIZERS[optimizer], model.backend, momentum=float(momentum))
    training = _Training(model, remember, learning_rate, int(batch_size))
    course = Course(
        epochs=int(epochs),
        batch_size=int(batch_size),
        shuffle=shuffle,
        sampling=sampling,
        steps=None if steps is None else int(steps),
    )
    return _epochs(training, train_x, train_y, course, seed, test, validation)


@dataclass(frozen=True)
class Course:
    """Which samples are learned when; the attributes are `fit`'s arguments."""

    epochs: int
    batch_size: int = 1
    shuffle: bool = False
    sampling: str = "epochs"
    steps: int | None = None

    def count(self, n: int) -> int:
        """Count the epochs of a training on n samples."""
        if self.steps is None:
            return self.epochs
        return -(-self.steps * self.batch_size // self._draws(n))

    def order(self, rng: Any, n: int, epoch: int) -> Any:
        """Draw the order of the next epoch, counted from 1; None is the samples' own."""
        if self.sampling == "epochs":
            return rng.permutation(n) if self.shuffle else None
        draws = self._draws(n)
        if self.steps is not None:
            draws = min(draws, self.steps * self.batch_size - (epoch - 1) * draws)
        return rng.integers(0, n, size=draws)

    def _draws(self, n: int) -> int:
        """Whole batches, so that no epoch's end makes a smaller one."""
        return max(1, n // self.batch_size) * self.batch_size


class _Training:
    """The model, its optimiser and how many updates they have made."""

    def __init__(
        self,
        model: MLP,
        remember: Callable[[Sequence[Array]], Optimizer],
        learning_rate: float | Callable[[int], float],
        batch_size: int,
    ) -> None:
        self.model = model
        self._remember = remember
        self.optimizer = remember(model.weights)
        self.batch_size = batch_size
        self._learning_rate = learning_rate
        self.steps = 0
        # reports fall between blocks or batches, whose edges depend on the sample's index alone
        self.unit = self.optimizer.block(batch_size)
        self._units = 1

    @property
    def stride(self) -> int:
        """Samples to learn before the next report."""
        return self._units * self.unit

    def aim(self, seconds: float) -> None:
        """Set the stride by what the last one took."""
        wanted = self._units * _REPORT_SECONDS / max(seconds, 1e-9)  # a coarse clock may stand
        self._units = max(1, min(4 * self._units, int(wanted)))

    def prepare(self, dtype: Any) -> None:
        """Have the backend compile what learning and answering samples of a dtype needs.

        Kernels are compiled at their first use: use them on a network of zeros.
        """
        backend, spec = self.model.backend, self.model.spec
        xp = backend.xp
        weights = [xp.zeros_like(w) for w in self.model.weights]
        values, labels = xp.zeros((1, spec.sizes[0]), dtype=dtype), xp.zeros(1, dtype=xp.int64)
        penalty = 1.0 if self.model.l2 else 0.0
        self._remember(weights).learn(
            spec, weights, values, labels, [0.0], self.batch_size, penalty
        )
        for _ in backend.propagate(spec, weights, values):
            pass
        backend.synchronize()

    def rates(self, updates: int) -> list[float]:
        """Learning rates of the next updates."""
        first, self.steps = self.steps, self.steps + updates
        if not callable(self._learning_rate):
            return [float(self._learning_rate)] * updates
        rates = [float(self._learning_rate(step)) for step in range(first, self.steps)]
        for step, rate in enumerate(rates, first):
            if not 0 <= rate < math.inf:
                raise ValueError(
                    f"learning_rate({step}) gave {rate}: expected a finite number, zero or more"
                )
        return rates

    def learn(self, values: Array, labels: Array, m: int) -> tuple[Array, list[float]]:
        """Learn the next samples of a training set of m.

        Returns
        -------
        losses : array, shape (len(values),)
        rates : list of float
            The learning rate of each update.
        """
        model = self.model
        rates = self.rates(-(-labels.shape[0] // self.batch_size))
        losses = self.optimizer.learn(
            model.spec, model.weights, values, labels, rates, self.batch_size, model.l2 / m
        )
        return losses, rates


def _epochs(
    training: _Training,
    train_x: Any,
    train_y: Any,
    course: Course,
    seed: int | None,
    test: tuple[Any, Any] | None,
    validation: tuple[Any, Any] | None,
) -> Iterator[BatchProgress | EpochReport]:
    clock = _Stopwatch(training.model.backend.synchronize)
    model, backend = training.model, training.model.backend
    xp = backend.xp
    x = model.samples(train_x, "train_x")
    n = x.shape[0]
    y = model.labels(train_y, n, "train_y")
    if not n:
        raise ValueError("train_x has no samples: expected at least one")
    dtype = backend.asarray(x[:1, :]).dtype
    for rows in model.chunks(n) if xp.isdtype(dtype, "real floating") else ():
        if not _finite(xp, xp.astype(backend.asarray(x[rows, :]), model.spec.dtype)):
            raise ValueError(f"train_x holds NaN or infinite values in {model.dtype}")
    feed = backend.feed(x, y, training.unit)
    rng = backend.rng(seed)
    clock.pause()
    started = perf_counter()
    held_out = {
        name: _labelled(model, name, part)
        for name, part in (("test", test), ("validation", validation))
        if part is not None
    }
    evaluation_seconds = perf_counter() - started
    started = perf_counter()
    training.prepare(dtype)
    compile_seconds = perf_counter() - started

    epochs = course.count(n)
    for epoch in range(1, epochs + 1):
        clock.resume()
        good = [xp.asarray(w, copy=True) for w in model.weights]
        order = course.order(rng, n, epoch)
        feed.start(order)
        size = n if order is None else len(order)
        try:
            train_loss = yield from _walk(training, clock, feed, n, size, epoch, epochs)
        except Diverged:
            for w, last_good in zip(model.weights, good, strict=True):
                w[...] = last_good
            raise
        clock.pause()
        started = perf_counter()
        accuracy = {name: model.accuracy(*part) for name, part in held_out.items()}
        evaluation_seconds += perf_counter() - started
        yield EpochReport(
            epoch=epoch,
            train_loss=train_loss,
            test_accuracy=accuracy.get("test"),
            seconds=clock.seconds,
            evaluation_seconds=evaluation_seconds,
            compile_seconds=compile_seconds,
            samples_per_second=size / clock.seconds,
            validation_accuracy=accuracy.get("validation"),
        )
        clock.seconds = evaluation_seconds = compile_seconds = 0.0


def _walk(
    training: _Training,
    clock: _Stopwatch,
    feed: Feed,
    m: int,
    size: int,
    epoch: int,
    epochs: int,
) -> Generator[BatchProgress, None, float]:
    """Walk through one epoch; yields its progress with the clock paused, returns its loss."""
    xp = training.model.backend.xp
    done, loss_sum, all_losses = 0, 0.0, []
    rates = [0.0]
    while done < size:
        stop = min(done + training.stride, feed.stop(done))
        losses, rates = training.learn(*feed.rows(done, stop), m)
        part_sum = float(xp.sum(losses, dtype=xp.float64))
        if not math.isfinite(part_sum):
            first = int(xp.argmin(xp.astype(xp.isfinite(losses), xp.uint8)))
            # the very first batch met the weights as they were given: no rate is to blame
            blamed = epoch > 1 or done + first >= training.batch_size
            rate = rates[first // training.batch_size] if blamed else 0.0
            raise Diverged(epoch, done + first + 1, size, rate)
        loss_sum += part_sum
        all_losses.append(losses)
        done += losses.shape[0]
        before = clock.seconds
        clock.pause()
        seconds = clock.seconds
        training.aim(seconds - before)
        if done < size:
            yield BatchProgress(epoch, epochs, done, size, loss_sum / done, seconds, done / seconds)
        clock.resume()
    if not all(_finite(xp, w) for w in training.model.weights):
        raise Diverged(epoch, size, size, rates[-1])
    # summed at once: the running sum's rounding depends on when the reports fell
    return float(xp.sum(xp.concat(all_losses), dtype=xp.float64)) / size


def _labelled(model: MLP, name: str, part: tuple[Any, Any]) -> tuple[Array, Array]:
    values = model.samples(part[0], f"{name} x")
    if not values.shape[0]:
        raise ValueError(f"{name} has no samples: expected some, or None")
    return values, model.labels(part[1], values.shape[0], f"{name} y")


def _finite(xp: Any, a: Array) -> bool:
    return bool(xp.all(xp.isfinite(a)))

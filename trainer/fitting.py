"""Training as a generator of reports: `fit` yields, the caller looks, draws, saves or stops."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import partial
from numbers import Real
from time import perf_counter
from typing import Any

from backends import Batches
from backends.feeding import Feed
from backends.functions import LOSSES, Array
from backends.regularization import (
    Moments,
    Regularization,
    fold_normalization,
    new_normalization,
)

from .augmentation import Deformation, DeformedFeed, Deformer
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


@dataclass(frozen=True, eq=False)
class TrainingState:
    """Where a training stands, whole: `fit` goes on from it as if it had never stopped.

    Attributes
    ----------
    epoch : int
        The epoch that runs or comes next, from 1.
    samples : int
        Learned in that epoch so far.
    steps : int
        Updates made since the very start.
    order : dict
        State of the order's generator before that epoch's order was drawn, fit for JSON.
    seconds, evaluation_seconds, compile_seconds : float
        Spent on that epoch so far; `EpochReport` has what they mean.
    arrays : dict of str to numpy.ndarray
        The model's weights, those that learn where they are others, what the optimiser remembers
        of them, and, inside an epoch, the model's weights at its start and the loss of every sample
        learned in it.
    """

    epoch: int
    samples: int
    steps: int
    order: dict[str, Any]
    seconds: float
    evaluation_seconds: float
    compile_seconds: float
    arrays: dict[str, Any] = field(repr=False)


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
    weight_decay: float = 0.0,
    clip: float | None = None,
    averaging: float = 0.0,
    dropout: float = 0.0,
    input_dropout: float = 0.0,
    batch_norm: bool = False,
    shuffle: bool = False,
    sampling: str = "epochs",
    steps: int | None = None,
    seed: int | None = None,
    test: tuple[Any, Any] | None = None,
    validation: tuple[Any, Any] | None = None,
    state: TrainingState | None = None,
    deformation: Deformation | None = None,
) -> Training:
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
    optimizer : {"sgd", "nesterov", "adam", "adamw"}
    momentum : float
        μ of v ← μv - ηg; with 0 SGD is plain.
    weight_decay : float
        Of adamw: each step the weights, not the biases, lose learning rate × weight_decay of
        themselves.
    clip : float, optional
        The largest norm that the gradients of a batch may have together.
    averaging : float
        β of the weights' moving average, a ← βa + (1 - β)w after every update, with a smaller β
        for the first ones, (1 + t) / (10 + t) of update t (Polyak and Juditsky 1992; the form is
        that of Tan and Le 2019, *EfficientNet*). At every yield the model's weights are the
        average; those that learn are kept apart. Not at batch size 1.
    dropout, input_dropout : float
        Probability with which a hidden unit, or an input, is dropped while a sample is learned
        (Srivastava et al. 2014); drawn on the device, afresh for every batch. Losses are then those
        of what is left.
    batch_norm : bool
        Normalise the hidden layers' sums over each batch, see
        `backends.regularization.BatchNormalization`. What answers, and is the model at every yield,
        is a plain network again, with the running means and variances folded into its weights, see
        `fold_normalization` there. The model needs biases; not at batch size 1, nor for
        ``rashid``. It begins by normalising whatever the model's weights give, so a model that was
        trained before forgets much of it.
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
    state : TrainingState, optional
        Go on from there; with the same model settings, samples and arguments, on the same device
        with as many threads, to the very bits of a training never interrupted. `epochs` counts
        from the very start, and may be more than it was.
    deformation : Deformation, optional
        Deform the training images, every time they are learned in another way that the seed
        decides: the same again on the same device, and not on another.

    Returns
    -------
    Training
        An iterator of `BatchProgress`, some while an epoch runs, and one `EpochReport` at its end;
        between two of them its `state()` can be taken.

    Raises
    ------
    ValueError
        If an argument is out of range, or the samples or the state do not fit the network.
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
    if not 0 <= weight_decay < math.inf:
        raise ValueError(f"weight_decay={weight_decay}: expected a finite number, zero or more")
    if clip is not None and not clip > 0:
        raise ValueError(f"clip={clip}: expected a number above 0")
    if not callable(learning_rate) and not 0 <= learning_rate < math.inf:
        raise ValueError(f"learning_rate={learning_rate}: expected a finite number, zero or more")
    for name, probability in (("dropout", dropout), ("input_dropout", input_dropout)):
        if not 0 <= probability < 1:
            raise ValueError(f"{name}={probability}: expected a number from 0 to below 1")
    if not 0 <= averaging < 1:
        raise ValueError(f"averaging={averaging}: expected a number from 0 to below 1")
    if averaging and batch_size == 1:
        raise ValueError(f"averaging={averaging} goes with batches: take batch_size=32 or more")
    if batch_norm and batch_size == 1:
        raise ValueError("batch_norm=True goes with batches: take batch_size=32 or more")
    if batch_norm and len(model.sizes) == 2:
        raise ValueError("batch_norm=True is for hidden layers: this network has none")
    if batch_norm and not model.spec.bias:
        raise ValueError("batch_norm=True shifts by the network's biases: take bias=True")
    if batch_norm and LOSSES[model.spec.loss].splits_raw_errors:
        raise ValueError(
            f"batch_norm=True follows a gradient, and loss={model.spec.loss!r} has none:"
            " take loss='cross_entropy'"
        )
    if sampling not in SAMPLINGS:
        raise ValueError(f"sampling={sampling!r} is unknown: expected {' or '.join(SAMPLINGS)}")
    if steps is not None and sampling == "epochs":
        raise ValueError(f"steps={steps}: only with sampling='with-replacement'")
    if steps is not None and (not isinstance(steps, Real) or steps < 1 or steps % 1 != 0):
        raise ValueError(f"steps={steps}: expected a whole number, one or more")
    if deformation is not None and math.prod(deformation.image_shape) != model.sizes[0]:
        raise ValueError(
            f"deformation of images of {'×'.join(map(str, deformation.image_shape))} pixels:"
            f" expected as many as the network's {model.sizes[0]} inputs"
        )
    course = Course(
        epochs=int(epochs),
        batch_size=int(batch_size),
        shuffle=shuffle,
        sampling=sampling,
        steps=None if steps is None else int(steps),
    )
    remember = partial(
        OPTIMIZERS[optimizer],
        model.backend,
        momentum=float(momentum),
        weight_decay=float(weight_decay),
        clip=math.inf if clip is None else float(clip),
    )
    held_out = {"test": test, "validation": validation}
    return Training(
        model,
        train_x,
        train_y,
        course,
        remember,
        learning_rate,
        float(averaging),
        (float(input_dropout), float(dropout)),
        batch_norm,
        seed,
        held_out,
        state,
        deformation,
    )


@dataclass(frozen=True)
class Course:
    """Which samples are learned when; the attributes are `fit`'s arguments."""

    epochs: int
    batch_size: int = 1
    shuffle: bool = False
    sampling: str = "epochs"
    steps: int | None = None

    def on(self, n: int) -> Course:
        """Return this course without room in a batch for more samples than there are.

        At least two: a batch is not learned as a single sample is.
        """
        if self.sampling != "epochs":
            return self
        return replace(self, batch_size=min(self.batch_size, max(2, n)))

    def count(self, n: int) -> int:
        """Count the epochs of a training on n samples."""
        if self.steps is None:
            return self.epochs
        return -(-self.steps * self.batch_size // self._draws(n))

    def updates(self, n: int) -> int:
        """Count the updates of a training on n samples."""
        return self.steps or self.epochs * self.updates_per_epoch(n)

    def updates_per_epoch(self, n: int) -> int:
        """Count those of an epoch on n samples."""
        return -(-(n if self.sampling == "epochs" else self._draws(n)) // self.batch_size)

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


class Training(Iterator[BatchProgress | EpochReport]):
    """A training that runs as its reports are asked for; `fit` makes one."""

    def __init__(
        self,
        model: MLP,
        train_x: Any,
        train_y: Any,
        course: Course,
        remember: Callable[[Sequence[Array]], Optimizer],
        learning_rate: float | Callable[[int], float],
        averaging: float,
        dropped: tuple[float, float],
        batch_norm: bool,
        seed: int | None,
        held_out: dict[str, tuple[Any, Any] | None],
        state: TrainingState | None,
        deformation: Deformation | None,
    ) -> None:
        self.model = model
        self._remember = remember
        self._course = course
        self._learning_rate = learning_rate
        self._averaging = averaging
        self._epochs_noise = 0  # what the noise of a batch follows from
        xp = model.backend.xp
        # what learns is the model's own weights, unless the model shows what is made of them
        gains, moments = new_normalization(xp, model.spec) if batch_norm else ([], [])
        self._regularization = Regularization(dropped, moments)
        self._weights = model.weights
        if batch_norm or averaging:
            self._weights = [xp.asarray(w, copy=True) for w in model.weights] + gains
        self._average: list[Array] = []
        if averaging:  # which is what the model shows, unless it is to be folded
            copies = [xp.asarray(a, copy=True) for a in self._learned()]
            self._average = copies if batch_norm else model.weights
        self._optimizer = remember(self._weights)
        self._deformation = deformation
        self._units = 1
        self._is_whole = True  # the weights are those after `_samples` of `_epoch`
        self._rng = model.backend.rng(seed)
        self._order = self._rng.bit_generator.state
        self._epoch, self._samples = 1, 0
        self._losses: list[Array] = []
        self._good: list[Array] = []
        self._clock = _Stopwatch(model.backend.synchronize)
        self._evaluation_seconds = self._compile_seconds = 0.0
        if state is not None:
            self._restore(state)
        self._reports = self._run(train_x, train_y, held_out)

    def __iter__(self) -> Training:
        return self

    def __next__(self) -> BatchProgress | EpochReport:
        return next(self._reports)

    def state(self) -> TrainingState:
        """Copy where the training stands to the host: before the first report, or after any.

        Raises
        ------
        RuntimeError
            If an error ended the training between two reports: its weights are then those of no
            number of samples.
        """
        if not self._is_whole:
            raise RuntimeError("the training was ended between two reports: it has no state")
        to_numpy = self.model.backend.to_numpy
        named = self._named()
        if self._samples:
            named |= dict(zip(self._good_names(), self._good, strict=True))
            named["losses"] = self.model.backend.xp.concat(self._losses)
        return TrainingState(
            epoch=self._epoch,
            samples=self._samples,
            steps=self._optimizer.steps,
            order=dict(self._order),
            seconds=self._clock.seconds,
            evaluation_seconds=self._evaluation_seconds,
            compile_seconds=self._compile_seconds,
            arrays={name: to_numpy(a) for name, a in named.items()},
        )

    def _restore(self, state: TrainingState) -> None:
        """Put model, optimiser and order where they stood; ValueError if they are not like it."""
        backend, dtype = self.model.backend, self.model.spec.dtype
        named = self._named()
        good = self._good_names() if state.samples else []
        wanted = {name: tuple(a.shape) for name, a in named.items()}
        if state.samples:
            wanted |= dict(zip(good, self.model.spec.shapes, strict=True))
            wanted["losses"] = (state.samples,)
        found = {name: tuple(a.shape) for name, a in state.arrays.items()}
        if found != wanted:
            differ = sorted(n for n in {*found, *wanted} if found.get(n) != wanted.get(n))
            raise ValueError(
                f"the state does not fit this training: {differ[0]} has shape"
                f" {found.get(differ[0])}, expected {wanted.get(differ[0])}"
            )
        if min(state.epoch, state.samples + 1, state.steps + 1) < 1:
            raise ValueError("the state does not fit this training: it stands before its start")
        for name, a in named.items():  # one by one, so that no more is on the device twice
            a[...] = backend.asarray(state.arrays[name], dtype=dtype)
        if state.samples:
            *self._good, losses = (
                backend.asarray(state.arrays[name], dtype=dtype) for name in [*good, "losses"]
            )
            self._losses = [losses]
        self._optimizer.steps = state.steps
        try:
            self._rng.bit_generator.state = state.order
        except (TypeError, KeyError, ValueError, OverflowError) as error:
            raise ValueError(f"the state's order is no generator's state ({error})") from error
        self._order = self._rng.bit_generator.state
        self._epoch, self._samples = state.epoch, state.samples
        self._clock.seconds += state.seconds
        self._evaluation_seconds = state.evaluation_seconds
        self._compile_seconds = state.compile_seconds

    def _learned(self) -> list[Array]:
        """All that learning changes but for the optimiser's memory."""
        return [*self._weights, *(a for moments in self._regularization.moments for a in moments)]

    def _named(self) -> dict[str, Array]:
        names = self.model.names
        named = dict(zip(names, self.model.weights, strict=True))
        layers = range(1, 1 + len(self._regularization.moments))
        weights = names + [f"gain{layer}" for layer in layers]
        memory = {kind: (weights, list(a)) for kind, a in self._optimizer.memory().items()}
        if self._weights is not self.model.weights:
            of_moments = [f"{kind}{layer}" for layer in layers for kind in Moments._fields]
            memory["learning"] = weights + of_moments, self._learned()
            if self._regularization.moments:
                memory["average"] = weights + of_moments, self._average
        for kind, (of_arrays, arrays) in memory.items():
            named |= {f"{kind}.{name}": a for name, a in zip(of_arrays, arrays, strict=False)}
        return named

    def _show(self) -> None:
        """Let the model be what was learned so far."""
        if not self._regularization.moments:
            return
        model, count = self.model, len(self._weights)
        weights, moments = self._weights, self._regularization.moments
        if self._average:
            weights, flat = self._average[:count], self._average[count:]
            moments = [Moments(*pair) for pair in zip(flat[::2], flat[1::2], strict=True)]
        self._put(fold_normalization(model.backend.xp, model.spec, weights, moments))

    def _good_names(self) -> list[str]:
        return [f"epoch_start.{name}" for name in self.model.names]

    def _run(self, *samples: Any) -> Iterator[BatchProgress | EpochReport]:
        try:
            yield from self._epochs(*samples)
        finally:  # also where the caller goes no further
            self.model.backend.release()

    def _epochs(
        self, train_x: Any, train_y: Any, held_out: dict[str, tuple[Any, Any] | None]
    ) -> Iterator[BatchProgress | EpochReport]:
        clock, model, backend = self._clock, self.model, self.model.backend
        xp = backend.xp
        clock.resume()
        x = model.samples(train_x, "train_x")
        n = x.shape[0]
        y = model.labels(train_y, n, "train_y")
        if not n:
            raise ValueError("train_x has no samples: expected at least one")
        dtype = backend.asarray(x[:1, :]).dtype
        for rows in model.chunks(n) if xp.isdtype(dtype, "real floating") else ():
            if not _finite(xp, xp.astype(backend.asarray(x[rows, :]), model.spec.dtype)):
                raise ValueError(f"train_x holds NaN or infinite values in {model.dtype}")
        self._course = self._course.on(n)
        # reports fall between blocks or batches, whose edges depend on the sample's index alone
        self._unit = self._optimizer.block(self._course.batch_size)
        samples = feed = backend.feed(x, y, self._unit)
        deformer = self._deformation and Deformer(backend, self._deformation, dtype)
        clock.pause()
        started = perf_counter()
        parts = {
            name: _labelled(model, name, part)
            for name, part in held_out.items()
            if part is not None
        }
        self._evaluation_seconds += perf_counter() - started
        started = perf_counter()
        self._prepare(dtype)
        if deformer:
            deformer(xp.zeros((1, x.shape[1]), dtype=dtype), (0,))
            backend.synchronize()
        self._compile_seconds += perf_counter() - started

        epochs = self._course.count(n)
        while self._epoch <= epochs:
            clock.resume()
            if not self._samples:
                self._good.clear()  # first, so that there is never a second copy beside it
                self._good = [xp.asarray(w, copy=True) for w in model.weights]
            # of the order's generator, so that a state says it, whatever the seed was
            self._epochs_noise = int(deepcopy(self._rng).integers(2**63))
            if deformer:
                feed = DeformedFeed(samples, deformer, (self._epochs_noise, self._epoch))
            order = self._course.order(self._rng, n, self._epoch)
            feed.start(order)
            size = n if order is None else len(order)
            try:
                train_loss = yield from self._walk(feed, n, size, epochs)
            except Diverged:
                self._put(self._good)
                raise
            self._show()
            clock.pause()
            started = perf_counter()
            accuracy = {name: model.accuracy(*part) for name, part in parts.items()}
            self._evaluation_seconds += perf_counter() - started
            report = EpochReport(
                epoch=self._epoch,
                train_loss=train_loss,
                test_accuracy=accuracy.get("test"),
                seconds=clock.seconds,
                evaluation_seconds=self._evaluation_seconds,
                compile_seconds=self._compile_seconds,
                samples_per_second=size / clock.seconds,
                validation_accuracy=accuracy.get("validation"),
            )
            clock.seconds = self._evaluation_seconds = self._compile_seconds = 0.0
            self._order = self._rng.bit_generator.state
            self._epoch, self._samples, self._losses = self._epoch + 1, 0, []
            self._is_whole = True
            yield report

    def _put(self, arrays: Sequence[Array]) -> None:
        for w, a in zip(self.model.weights, arrays, strict=True):
            w[...] = a

    def _walk(
        self, feed: Feed, m: int, size: int, epochs: int
    ) -> Generator[BatchProgress, None, float]:
        """Walk to the epoch's end; yields its progress with the clock paused, returns its loss."""
        xp, clock = self.model.backend.xp, self._clock
        done = self._samples
        loss_sum = sum(float(xp.sum(part, dtype=xp.float64)) for part in self._losses)
        rates = [0.0]
        while done < size:
            stop = min(done + self._units * self._unit, feed.stop(done))
            self._is_whole = False
            losses, rates = self._learn(*feed.rows(done, stop), m)
            part_sum = float(xp.sum(losses, dtype=xp.float64))
            if not math.isfinite(part_sum):
                first = int(xp.argmin(xp.astype(xp.isfinite(losses), xp.uint8)))
                # the very first batch met the weights as they were given: no rate is to blame
                batch_size = self._course.batch_size
                blamed = self._epoch > 1 or done + first >= batch_size
                rate = rates[first // batch_size] if blamed else 0.0
                raise Diverged(self._epoch, done + first + 1, size, rate)
            loss_sum += part_sum
            self._losses.append(losses)
            done += losses.shape[0]
            if done < size:
                self._samples = done
                self._show()
                self._is_whole = True
            before = clock.seconds
            clock.pause()
            seconds = clock.seconds
            self._aim(seconds - before, -(-size // self._unit))
            if done < size:
                yield BatchProgress(
                    self._epoch, epochs, done, size, loss_sum / done, seconds, done / seconds
                )
            clock.resume()
        if not all(_finite(xp, a) for a in self._learned()):
            raise Diverged(self._epoch, size, size, rates[-1])
        # summed at once: the running sum's rounding depends on when the reports fell
        return float(xp.sum(xp.concat(self._losses), dtype=xp.float64)) / size

    def _aim(self, seconds: float, most: int) -> None:
        """Set how many units to learn until the next report by what the last ones took."""
        wanted = self._units * _REPORT_SECONDS / max(seconds, 1e-9)  # a coarse clock may stand
        self._units = max(1, min(4 * self._units, int(wanted), most))

    def _prepare(self, dtype: Any) -> None:
        """Have the backend compile what learning and answering samples of a dtype needs.

        Kernels are compiled at their first use: use them on a network of zeros.
        """
        backend, batch_size = self.model.backend, self._course.batch_size
        xp, spec = backend.xp, backend.warm_up_spec(self.model.spec, batch_size)
        usual = self._regularization
        gains, moments = new_normalization(xp, spec) if usual.moments else ([], [])
        plain = [xp.zeros(shape, dtype=spec.dtype) for shape in spec.shapes]
        weights = plain + gains
        values, labels = xp.zeros((1, spec.sizes[0]), dtype=dtype), xp.zeros(1, dtype=xp.int64)
        penalty = 1.0 if self.model.l2 else 0.0
        alike = Regularization(usual.dropped, moments)
        batches = Batches(values, labels, [0.0], batch_size, penalty, alike)
        self._remember(weights).learn(spec, weights, batches)
        if self._average:
            _move(plain, plain, 0.0)
        for _ in backend.propagate(spec, plain, values):
            pass
        backend.synchronize()
        backend.release()

    def _rates(self, updates: int) -> list[float]:
        """Learning rates of the next updates."""
        if not callable(self._learning_rate):
            return [float(self._learning_rate)] * updates
        first = self._optimizer.steps
        rates = [float(self._learning_rate(step)) for step in range(first, first + updates)]
        for step, rate in enumerate(rates, first):
            if not 0 <= rate < math.inf:
                raise ValueError(
                    f"learning_rate({step}) gave {rate}: expected a finite number, zero or more"
                )
        return rates

    def _learn(self, values: Array, labels: Array, m: int) -> tuple[Array, list[float]]:
        """Learn the next samples of a training set of m.

        Returns
        -------
        losses : array, shape (len(values),)
        rates : list of float
            The learning rate of each update.
        """
        model, batch_size, n = self.model, self._course.batch_size, labels.shape[0]
        rates = self._rates(-(-n // batch_size))
        batches = Batches(
            values,
            labels,
            rates,
            batch_size,
            model.l2 / m,
            self._regularization,
            key=(self._epochs_noise, self._epoch, self._optimizer.steps),
        )
        if not self._average:
            return self._optimizer.learn(model.spec, self._weights, batches), rates
        parts = []
        for batch in batches:
            parts.append(self._optimizer.learn(model.spec, self._weights, batch))
            step = self._optimizer.steps
            share = 1 - min(self._averaging, (1 + step) / (10 + step))
            _move(self._average, self._learned(), share)
        return model.backend.xp.concat(parts), rates


def _labelled(model: MLP, name: str, part: tuple[Any, Any]) -> tuple[Array, Array]:
    values = model.samples(part[0], f"{name} x")
    if not values.shape[0]:
        raise ValueError(f"{name} has no samples: expected some, or None")
    return values, model.labels(part[1], values.shape[0], f"{name} y")


def _move(average: Sequence[Array], learned: Sequence[Array], share: float) -> None:
    """Move an average by a share of the way to what was learned."""
    for a, w in zip(average, learned, strict=True):
        way = w - a
        way *= share
        a += way


def _finite(xp: Any, a: Array) -> bool:
    # the extremes tell, NaN being both, and need no array of truth values as large as a
    return bool(xp.isfinite(xp.min(a)) & xp.isfinite(xp.max(a)))

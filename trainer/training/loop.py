"""Training as a generator of reports: `fit` yields, the caller looks, draws, saves or stops.

The loop is `Training._run`: it draws an epoch's order, learns so many blocks of samples with
`_learn`, yields a report, and so on until the epoch ends. Which samples, and at what rates, is the
`Course`'s; a step is the optimiser's, which calls the backend. The rest measures time, loads the
samples, and saves and restores the state.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from copy import deepcopy
from functools import partial
from typing import Any

from backends import Batches
from backends.feeding import Feed
from backends.functions import LOSSES, Array
from backends.ranks import ALONE, Ranks, Share
from backends.regularization import Regularization, new_normalization
from backends.sharded import ShardedRows
from backends.sparse import SparseRows

from .. import html
from ..augmentation import Deformation, DeformedFeed, Deformer, check_dense, read_augment
from ..network import MLP
from ..settings import DataSettings, EstimatorSettings, TrainingSettings
from .averaging import Learned
from .course import Course, in_windows
from .optimizers import OPTIMIZERS
from .penalty import BatchPenalty
from .reports import BatchProgress, Diverged, EpochReport, TrainingState
from .stopwatch import Stopwatch
from .weighting import balanced_weights, relative_weights

_REPORT_SECONDS = 0.1  # about how often a running epoch reports
_COPIED = 500_000  # weights, whose copying for a report is worth as much time again
_TICK = 1e-9  # in place of the 0 s of a coarse clock


def fit(
    model: MLP,
    train_x: Any,
    train_y: Any,
    settings: TrainingSettings | None = None,
    *,
    test: tuple[Any, Any] | None = None,
    validation: tuple[Any, Any] | None = None,
    sample_weight: Any = None,
    seed: int | None = None,
    state: TrainingState | None = None,
    deformation: Deformation | None = None,
    ranks: Ranks = ALONE,
    **changes: Any,
) -> Training:
    """Train a network, yielding reports.

    Parameters
    ----------
    model : MLP
        Changed in place. At every yield its weights are those after the samples reported;
        reading or saving them changes no number that follows.
    train_x : array, shape (n, fan_in)
        Host or device array of any library and real dtype, unscaled; uploaded once if it fits.
        SciPy's sparse matrices and arrays are never dense as a whole, and `ShardedRows`, as
        `load` returns them of a folder of shards, never in memory as a whole.
    train_y : array of int, shape (n,)
    settings : TrainingSettings, optional
        A recipe is one, too; its `class_weight` multiplies `sample_weight`. If it augments images,
        give the `deformation` that `trainer.recipes.augmented` returns. All samples are learned,
        whatever its `limit`.
    test, validation : tuple of (x, y), optional
        Evaluated after each epoch; nothing is chosen by them here.
    sample_weight : array, shape (n,), optional
        How much each training sample counts, 0 or more: a batch steps by the weighted mean of its
        samples' gradients, and the training loss is weighted likewise. At batch size 1 only whether
        a weight is 0 makes a difference.
    seed : int or None
        Seed of the samples' orders and of dropout's noise, the same on every device.
    state : TrainingState, optional
        Continue from there. With the same model settings, samples and arguments, on the same
        device, the result has the same bits as that of a training never interrupted.
        `epochs` counts from the first start, and may be more than it was.
    deformation : Deformation, optional
        Deform a training image anew every time it is learned. The seed determines how, on every
        device alike.
    ranks : Ranks, optional
        The processes that learn together, ``trainer.parallel.join().ranks(backend)``; each of them
        calls this with the same arguments, and learns its part of every batch. All have the same
        reports, but for their seconds, and the same weights, those of one process up to rounding.
    **changes
        Fields of `TrainingSettings`, which win over `settings`; its documentation describes each.
        The learning rate may also be a callable, ``learning_rate(step)``, for update 0, 1, 2, … of
        the whole training. With `averaging` or `batch_norm` copies of the weights learn, and the
        model has at every yield what they average or fold to, see
        `trainer.training.averaging.Learned`. With dropout
        the losses are those of the remaining network.

    Returns
    -------
    Training
        An iterator of `BatchProgress`, some while an epoch runs, and one `EpochReport` at its end;
        between two of them its `state()` can be taken.

    Raises
    ------
    TypeError
        If one of `changes` is no setting.
    ValueError
        If a setting is out of range, or the samples or the state do not fit the network, or a
        value of them is NaN or infinite.
    Diverged
        If the loss or a weight becomes NaN or infinite.
    """
    settings = (settings or TrainingSettings()).with_changes(changes)
    settings.check()
    if settings.sees_all_samples:
        raise ValueError(
            f"optimizer={settings.optimizer!r} sees all samples at every step: take"
            f" trainer.minimize, or optimizer={' or '.join(OPTIMIZERS)}"
        )
    if settings.batch_norm and len(model.sizes) == 2:
        raise ValueError("batch_norm=True is for hidden layers: this network has none")
    if settings.batch_norm and not model.spec.bias:
        raise ValueError("batch_norm=True shifts by the network's biases: take bias=True")
    if settings.batch_norm and LOSSES[model.spec.loss].splits_raw_errors:
        raise ValueError(
            f"batch_norm=True follows a gradient, and loss={model.spec.loss!r} has none:"
            " take loss='cross_entropy'"
        )
    if isinstance(settings, DataSettings) and deformation is None:
        _, deformed = read_augment(settings.augment)
        if deformed:
            raise ValueError(
                f"augment={','.join(settings.augment)}: fit deforms images by its argument"
                " `deformation`; give it and the data as trainer.recipes.augmented(recipe, data,"
                " model.backend) returns them, or augment=()"
            )
    if deformation is not None and math.prod(deformation.image_shape) != model.sizes[0]:
        raise ValueError(
            f"deformation of images of {'×'.join(map(str, deformation.image_shape))} pixels:"
            f" expected as many as the network's {model.sizes[0]} inputs"
        )
    if deformation is not None:
        check_dense(train_x, "train_x")
    if ranks.count > 1 and settings.batch_size == 1:
        raise ValueError(
            f"batch_size=1 learns one sample after the other, which {ranks.count} processes cannot"
            f" divide: take batch_size={128 * ranks.count} or the like, or one process"
        )
    train_x = in_windows(train_x, settings)
    evaluated = {"test": test, "validation": validation}
    n, weights = length(train_x), None
    if sample_weight is not None:
        weights = relative_weights(model, sample_weight, n)
    if isinstance(settings, DataSettings) and settings.class_weight == "balanced":
        if settings.batch_size == 1:
            raise ValueError(
                "class_weight='balanced' goes with batches: take batch_size=32 or more"
            )
        balanced = balanced_weights(model, model.labels(train_y, n, "train_y"))
        product = balanced if weights is None else balanced * weights
        weights = relative_weights(model, product, n)
    return Training(
        model, train_x, train_y, weights, settings, evaluated, seed, state, deformation, ranks
    )


class Training(Iterator[BatchProgress | EpochReport]):
    """A training that runs as its reports are asked for; `fit` makes one.

    Attributes
    ----------
    model : MLP
    course : Course
    """

    def __init__(
        self,
        model: MLP,
        train_x: Any,
        train_y: Any,
        weights: Array | None,
        settings: TrainingSettings,
        evaluated: dict[str, tuple[Any, Any] | None],
        seed: int | None,
        state: TrainingState | None,
        deformation: Deformation | None,
        ranks: Ranks,
    ) -> None:
        self.model = model
        shards = train_x if isinstance(train_x, ShardedRows) else None
        self.course = Course(settings, length(train_x), shards)
        self._share = Share(ranks, self.course.batch_size)
        # the weights that learn: the model's own, unless these are averaged or normalised
        self._learned = Learned(model, bool(settings.averaging), bool(settings.batch_norm))
        dropped = float(settings.input_dropout), float(settings.dropout)
        self._regularization = Regularization(dropped, self._learned.moments)
        make = OPTIMIZERS[settings.optimizer]
        self._make_optimizer = partial(make, model.backend, settings=settings)
        self._optimizer = self._make_optimizer(self._learned.weights)
        # reports come between two blocks, whose edges do not depend on the time, so that they
        # change nothing of what is learned
        self._block_size = self._optimizer.block(self.course.batch_size)
        self._blocks_a_report = 1
        alpha = settings.alpha if isinstance(settings, EstimatorSettings) else 0.0
        self._alpha = float(alpha)  # of the `BatchPenalty`
        # not a method, which would keep this training, and its arrays, in a cycle of references
        squares = partial(_sum_of_squares, model.backend.xp, self._learned)
        self._penalty = BatchPenalty(self._alpha, self.course.batch_size, squares)
        self._deformation = deformation
        self._weights = weights  # of the training samples, and of the running epoch's in its order
        self._weights_in_order = weights
        # the generator of orders as it is before the running epoch's, and as it is after
        self._rng = self._rng_after = model.backend.rng(seed)
        self._drawn: tuple[int, Any, Any] | None = None  # the next epoch's, see `_draw`
        self._noise_key = 0  # of dropout and deformation, for the running epoch
        self._epoch, self._samples = 1, 0  # the epoch that runs, and how much of it is learned
        self._is_whole = True  # whether the weights are those after `_samples`; not inside `_learn`
        self._losses: list[Array] = []  # of the samples of the epoch that runs or has just ended
        self._weights_at_start: list[Array] = []  # the model's, before the running epoch
        self._clock = Stopwatch(model.backend.synchronize)
        if state is not None:
            self._restore(state)
        self._reports = self._run(train_x, train_y, evaluated)

    def __next__(self) -> BatchProgress | EpochReport:
        return next(self._reports)

    def __repr__(self) -> str:
        return f"Training({self._stands()} of {self.model!r})"

    def _repr_html_(self) -> str:
        """Return how far it is, and the network."""
        part = (self._epoch - 1) / self.course.epochs
        return html.block(f"Training: {self._stands()}", html.bar(part), html.text(self.model))

    def _stands(self) -> str:
        ended, epochs = self._epoch - 1, self.course.epochs
        within = f" and {self._samples:,} samples of the next" if self._samples else ""
        return f"{ended:,} of {epochs:,} epochs{within}"

    def losses(self) -> Any:
        """Copy the losses of the samples learned in the epoch that runs, or has just ended.

        Returns
        -------
        numpy.ndarray, shape (samples,)
            In the order in which they were learned, each before its batch's update, times its
            weight if it has one. After `Diverged` the last of them are NaN or infinite, unless only
            a weight is.
        """
        xp = self.model.backend.xp
        empty = xp.zeros(0, dtype=self.model.spec.dtype)
        return self.model.backend.to_numpy(xp.concat([empty, *self._losses]))

    @property
    def last_rate(self) -> float:
        """Return the learning rate of the last update."""
        return self.course.rates(self._optimizer.steps - 1, 1)[0]

    def undo_epoch(self) -> None:
        """Set the model's weights to those before the epoch that an error ended."""
        for w, a in zip(self.model.weights, self._weights_at_start, strict=True):
            w[...] = a

    # --- the loop -----------------------------------------------------------------------------

    def _run(
        self, train_x: Any, train_y: Any, evaluated: dict[str, tuple[Any, Any] | None]
    ) -> Iterator[BatchProgress | EpochReport]:
        clock, course, share = self._clock, self.course, self._share
        try:
            feed, parts = self._load(train_x, train_y, evaluated)
            while self._epoch <= course.epochs:
                clock.resume()
                size = self._begin_epoch(feed)
                done = self._samples  # above 0 if resumed within the epoch
                loss_sum, rates = sum(map(self._sum, self._losses)), [0.0]
                while done < size:
                    stop = done + self._blocks_a_report * self._block_size
                    fed = share.place(feed.stop(share.own(done)), size)
                    stop = min(stop, fed, self._penalty.stop(done))
                    self._is_whole = False
                    rows = feed.rows(share.own(done), share.own(stop))
                    losses, rates = self._learn(*rows, done, stop)
                    if self._drawn is None and self._epoch < course.epochs:
                        # a GPU is still learning
                        self._drawn = self._draw(self._rng_after, self._epoch + 1)
                    self._losses.append(losses)
                    loss_sum += self._sum_if_finite(losses, rates, done, size)
                    done = stop
                    if done < size:
                        self._samples = done
                        self._learned.update_model()
                        self._is_whole = True
                    self._set_report_interval(clock.lap(), size)
                    if done < size:
                        loss, seconds = loss_sum / done, max(clock.spent["seconds"], _TICK)
                        yield BatchProgress(
                            self._epoch, course.epochs, done, size, loss, seconds, done / seconds
                        )
                        clock.resume()
                yield self._end_epoch(size, rates[-1], parts)
        except Diverged:
            self.undo_epoch()
            raise
        finally:  # also if the caller abandons the iterator
            self.model.backend.release()

    def _begin_epoch(self, feed: Feed) -> int:
        """Set the order of an epoch that starts or was interrupted; return its size."""
        if not self._samples:
            self._losses = []
            # cleared before copying, so that memory never holds two copies
            self._weights_at_start.clear()
            copy = partial(self.model.backend.xp.asarray, copy=True)
            self._weights_at_start = [copy(w) for w in self.model.weights]
        drawn, self._drawn = self._drawn or self._draw(self._rng, self._epoch), None
        self._noise_key, order, self._rng_after = drawn
        if isinstance(feed, DeformedFeed):
            feed.key = (self._noise_key, self._epoch)
        size = self.course.n if order is None else len(order)
        feed.start(self._share.order(order, size))
        if self._weights is not None and order is not None:
            xp = self.model.backend.xp
            self._weights_in_order = xp.take(self._weights, xp.asarray(order), axis=0)
        self._penalty.start(size, self._samples, self._weights_of_batches(size))
        return size

    def _weights_of_batches(self, size: int) -> list[float]:
        """Sum the weights of each batch of an epoch, where its penalty follows from them."""
        batch_size = self.course.batch_size
        if not self._alpha or self._weights_in_order is None or size <= batch_size:
            return []
        weights = self.model.backend.to_numpy(self._weights_in_order).astype("float64")
        return [float(weights[i : i + batch_size].sum()) for i in range(0, size, batch_size)]

    def _draw(self, before: Any, epoch: int) -> tuple[int, Any, Any]:
        """Draw an epoch's key of noise and its order; return also the generator after it."""
        key = int(deepcopy(before).integers(2**63))
        after = deepcopy(before)
        return key, self.course.order(after, epoch), after

    def _learn(
        self, values: Array | SparseRows, labels: Array, done: int, stop: int
    ) -> tuple[Array, list[float]]:
        """Learn the samples done to stop - 1, of which these are the rank's own.

        Return the losses of all, and the rate of each update.
        """
        model, batch_size, n = self.model, self.course.batch_size, stop - done
        learned, optimizer = self._learned, self._optimizer
        rates = self.course.rates(optimizer.steps, -(-n // batch_size))
        key = self._noise_key, self._epoch, optimizer.steps
        penalty = model.l2 / self.course.n + self._penalty.of(done)
        weights, share, xp = self._weights_in_order, self._share, model.backend.xp
        batches = Batches(
            values,
            labels,
            rates,
            share.size,
            penalty,
            self._regularization,
            key,
            None if weights is None else share.part(xp, weights, done, stop),
            share,
            n,
        )
        losses = optimizer.learn(model.spec, learned.weights, batches, learned.average)
        losses = share.together(xp, losses, done, stop)
        return losses if weights is None else losses * weights[done:stop], rates

    def _end_epoch(
        self, size: int, rate: float, parts: dict[str, tuple[Array, Array, int]]
    ) -> EpochReport:
        """Return the report of an epoch that has ended, and prepare the next."""
        xp, clock = self.model.backend.xp, self._clock
        # not finite if a weight is not; a single number, so as to wait for the device once
        learned = float(sum(xp.sum(a, dtype=xp.float64) for a in self._learned.arrays()))
        of_all = self._share.ranks.gather(repr(learned))
        if len(set(of_all)) > 1:
            raise RuntimeError(f"the ranks' weights are not the same: they add up to {of_all}")
        if not math.isfinite(learned):
            raise Diverged(self._epoch, size, size, rate)
        # summed at once, since the rounding of the running sum depends on when reports were made
        train_loss = self._sum(xp.concat(self._losses)) / size + self._penalty.mean()
        if not math.isfinite(train_loss):
            raise Diverged(self._epoch, size, size, rate)
        self._learned.update_model()
        clock.lap()
        right = [xp.asarray(self.model.count_right(x, y)) for x, y, _ in parts.values()]
        right = self._share.ranks.sum(right)
        accuracy = {
            name: int(count) / parts[name][2] for name, count in zip(parts, right, strict=True)
        }
        clock.lap("evaluation_seconds")
        report = EpochReport(
            epoch=self._epoch,
            train_loss=train_loss,
            test_accuracy=accuracy.get("test"),
            samples_per_second=size / max(clock.spent["seconds"], _TICK),
            validation_accuracy=accuracy.get("validation"),
            **clock.spent,
        )
        clock.reset()
        self._rng = self._rng_after
        self._epoch, self._samples = self._epoch + 1, 0
        self._is_whole = True
        return report

    def _sum(self, losses: Array) -> float:
        xp = self.model.backend.xp
        return float(xp.sum(losses, dtype=xp.float64))

    def _sum_if_finite(self, losses: Array, rates: Sequence[float], done: int, size: int) -> float:
        """Return the sum of losses; raise Diverged, naming the sample, if one is not finite."""
        loss = self._sum(losses)
        if not math.isfinite(loss):
            xp, batch_size = self.model.backend.xp, self.course.batch_size
            first = int(xp.argmin(xp.astype(xp.isfinite(losses), xp.uint8)))
            # the very first batch was answered by the initial weights: no rate is to blame
            blamed = self._epoch > 1 or done + first >= batch_size
            rate = rates[first // batch_size] if blamed else 0.0
            raise Diverged(self._epoch, done + first + 1, size, rate)
        return loss

    def _set_report_interval(self, seconds: float, size: int) -> None:
        """Set how many blocks to learn until the next report by how long the last ones took."""
        between = _REPORT_SECONDS * (1 + self.model.weight_count / _COPIED)
        wanted = self._blocks_a_report * between / max(seconds, _TICK)
        self._blocks_a_report = max(
            1, min(4 * self._blocks_a_report, int(wanted), -(-size // self._block_size))
        )
        # the clock of one counts, so that all report at once
        self._blocks_a_report = int(self._share.ranks.gather(str(self._blocks_a_report))[0])

    # --- before the first epoch ---------------------------------------------------------------

    def _load(
        self, train_x: Any, train_y: Any, evaluated: dict[str, tuple[Any, Any] | None]
    ) -> tuple[Feed, dict[str, tuple[Array, Array, int]]]:
        """Check the samples, move to the device what fits, and compile; time each by its kind."""
        clock, model, backend = self._clock, self.model, self.model.backend
        clock.resume()
        x, y = model.labelled(train_x, train_y, "train_")
        blank = backend.blank(x)
        model.check_finite(x, "train_x")
        feed = backend.feed(x, y, max(1, self._share.own(self._block_size)))
        if self._deformation is not None:
            deformer = Deformer(backend, self._deformation, blank.dtype)
            feed = DeformedFeed(feed, deformer, share=self._share)
        clock.lap()
        parts, ranks = {}, self._share.ranks
        for name, part in evaluated.items():
            if part is not None:
                values, labels = model.labelled(*part, f"{name} ")
                model.check_finite(values, f"{name} x")
                n = labels.shape[0]
                own = slice(ranks.index * n // ranks.count, (ranks.index + 1) * n // ranks.count)
                parts[name] = values[own, :], labels[own], n
        clock.lap("evaluation_seconds")
        self._compile(blank)
        if isinstance(feed, DeformedFeed):
            feed.deformer(blank, (0,))
        clock.lap("compile_seconds")
        return feed, parts

    def _compile(self, values: Array | SparseRows) -> None:
        """Compile what learning and answering samples like this one, of zeros, needs.

        Kernels are compiled at their first use, so use each once, on a network of zeros.
        """
        backend, batch_size = self.model.backend, self.course.batch_size
        xp, spec = backend.xp, backend.warm_up_spec(self.model.spec, batch_size)
        gains, moments = new_normalization(xp, spec) if self._learned.moments else ([], [])
        plain = [xp.zeros(shape, dtype=spec.dtype) for shape in spec.shapes]
        weights = plain + gains
        labels = xp.zeros(1, dtype=xp.int64)
        penalty = 1.0 if self.model.l2 or self._alpha else 0.0
        alike = Regularization(self._regularization.dropped, moments)
        weights_of_one = None if self._weights is None else xp.ones(1, dtype=spec.dtype)
        batches = Batches(
            values, labels, [0.0], self._share.size, penalty, alike, (0,), weights_of_one,
            self._share, batch_size,
        )  # fmt: skip
        learned = [*weights, *(a for pair in moments for a in pair)]
        average = [xp.zeros_like(a) for a in learned] if self._learned.average else []
        self._make_optimizer(weights).learn(spec, weights, batches, average)
        for _ in backend.propagate(spec, plain, values):
            pass
        backend.synchronize()
        backend.release()

    # --- the state ----------------------------------------------------------------------------

    def state(self) -> TrainingState:
        """Copy where the training stands to the host: before the first report, or after any.

        Raises
        ------
        RuntimeError
            If an error ended the training between two reports: its weights may then lie inside an
            update.
        """
        if not self._is_whole:
            raise RuntimeError("the training was ended between two reports: it has no state")
        to_numpy = self.model.backend.to_numpy
        named = self._named()
        if self._samples:
            named["losses"] = self.model.backend.xp.concat(self._losses)
        return TrainingState(
            epoch=self._epoch,
            samples=self._samples,
            steps=self._optimizer.steps,
            order=dict(self._rng.bit_generator.state),
            arrays={name: to_numpy(a) for name, a in named.items()},
            **self._clock.spent,
        )

    def _restore(self, state: TrainingState) -> None:
        """Set model, optimiser and order to a state; raise ValueError if it does not fit."""
        if min(state.epoch, state.samples + 1, state.steps + 1) < 1:
            raise ValueError("the state does not fit this training: it stands before its start")
        self._epoch, self._samples = state.epoch, state.samples
        self._optimizer.steps = state.steps
        backend, dtype = self.model.backend, self.model.spec.dtype
        if state.samples:
            self._weights_at_start = self.model.weights  # for their shapes, until they are loaded
        named = self._named()
        wanted = {name: tuple(a.shape) for name, a in named.items()}
        if state.samples:
            wanted["losses"] = (state.samples,)
        found = {name: tuple(a.shape) for name, a in state.arrays.items()}
        if found != wanted:
            differ = sorted(n for n in {*found, *wanted} if found.get(n) != wanted.get(n))
            raise ValueError(
                f"the state does not fit this training: {differ[0]} has shape"
                f" {found.get(differ[0])}, expected {wanted.get(differ[0])}"
            )
        at_start = self._names_at_start()
        for name, a in named.items():  # one by one, so that no two copies of all are on the device
            if name not in at_start:
                a[...] = backend.asarray(state.arrays[name], dtype=dtype)
        if state.samples:
            *self._weights_at_start, losses = (
                backend.asarray(state.arrays[name], dtype=dtype) for name in [*at_start, "losses"]
            )
            self._losses = [losses]
        try:
            self._rng.bit_generator.state = state.order
        except (TypeError, KeyError, ValueError, OverflowError) as error:
            raise ValueError(f"the state's order is no generator's state ({error})") from error
        self._clock.spent = {kind: getattr(state, kind) for kind in self._clock.spent}

    def _named(self) -> dict[str, Array]:
        """Return by name all arrays that learning changes, or goes back to, except the losses."""
        named = dict(zip(self.model.names, self.model.weights, strict=True))
        for kind, arrays in self._optimizer.memory.items():
            names = [f"{kind}.{name}" for name in self._learned.names()]
            named |= dict(zip(names, arrays, strict=True))
        named |= self._learned.named()
        if self._samples:
            named |= dict(zip(self._names_at_start(), self._weights_at_start, strict=True))
        return named

    def _names_at_start(self) -> list[str]:
        return [f"epoch_start.{name}" for name in self.model.names]


def _sum_of_squares(xp: Any, learned: Learned) -> float:
    """Return ΣW² of the matrices that learn, infinite if that is too large for a number."""
    total = 0.0
    for W in (w for w in learned.weights if w.ndim == 2):
        largest = float(xp.max(xp.abs(W)))
        if not math.isfinite(largest):
            return math.inf
        if largest:  # by which no square overflows
            part = xp.astype(W, xp.float64) / largest
            total += largest * (largest * float(xp.sum(part * part)))
    return total


def length(samples: Any) -> int:
    """Return how many samples an array of any library has."""
    shape = getattr(samples, "shape", None)
    return len(samples) if shape is None else (*shape, 0)[0]

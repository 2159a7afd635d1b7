"""The learning rate to begin with, found by one short training with a rising rate.

This is the range test of Smith, *Cyclical Learning Rates for Training Neural Networks* (WACV 2017),
section 3.3, with a rate that rises exponentially, as Gugger, *How Do You Find A Good Learning Rate*
(2018), has it, from so low that nothing is learned to so high that it diverges. Nothing is shown
here: `find_learning_rate` measures, `conclude` says what it means.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from .augmentation import Deformation
from .network import MLP
from .settings import TrainingSettings
from .training import BatchProgress, Diverged, EpochReport, Training, fit
from .training.loop import length

LOWEST, HIGHEST = 1e-6, 100.0  # rates, between which those of sgd and of adam lie
_GROUPS = 100  # of updates, whose losses are averaged
_LEAST_UPDATES, _LEAST_SAMPLES, _MOST_UPDATES = 300, 3_000, 10_000
_SMOOTHING = 4.0  # groups: the standard deviation of the Gaussian that smooths the losses
_ENOUGH = 0.98  # of the loss's whole fall, which it has fallen by at the suggestion
_BETTER, _TRIED_LOWER = 0.9, 4  # a third of a rate ends so much lower, tried so often
_WORSE = 4.0  # times the lowest loss, and more than at the start: it has diverged
_TRAILING = 8  # groups whose mean says so
_LEAST_FALL = 0.05  # of the loss at the start; less than that may be noise


@dataclass(frozen=True, eq=False)
class RateSearch:
    """How the training loss depended on the learning rate, and the rate to begin with.

    Attributes
    ----------
    rates : numpy.ndarray, shape (k,)
        Rising: the geometric mean rate of each of k groups of updates, at most 100.
    losses : numpy.ndarray, shape (k,)
        Mean loss of each group's samples, each before its own update, without the l2 penalty.
    smoothed : numpy.ndarray, shape (k,)
        The same without its noise.
    suggestion : float or None
        The rate at which the smoothed loss had fallen by 98 % of all that it fell, in two digits;
        None if it did not fall by a twentieth, or stopped falling at the very first rates or not
        before the last.
    diverged : float or None
        The rate from which on the loss was above where it started, if it grew beyond four times its
        lowest then, or a number became NaN or infinite: this ended the search.
    updates : int
        How many those groups have.
    """

    rates: np.ndarray
    losses: np.ndarray
    smoothed: np.ndarray
    suggestion: float | None
    diverged: float | None
    updates: int

    @property
    def start(self) -> float:
        """Return the mean loss of the first groups, which have learned next to nothing."""
        return float(self.losses[:_TRAILING].mean())

    @property
    def has_fallen(self) -> bool:
        """Return whether the smoothed loss fell by a twentieth of what it was at the start."""
        return bool(self.smoothed.min() < (1 - _LEAST_FALL) * self.start)

    @property
    def turn(self) -> int:
        """Return the first group with 98 % of the smoothed loss's whole fall behind it."""
        enough = self.start - _ENOUGH * (self.start - self.smoothed.min())
        return int(np.argmax(self.smoothed <= enough))


def find_learning_rate(
    model: MLP,
    train_x: Any,
    train_y: Any,
    settings: TrainingSettings | None = None,
    *,
    lowest: float = LOWEST,
    highest: float = HIGHEST,
    sample_weight: Any = None,
    seed: int | None = None,
    deformation: Deformation | None = None,
    on_progress: Callable[[BatchProgress], None] | None = None,
    **changes: Any,
) -> RateSearch:
    """Train a copy of a network with a rising learning rate; suggest a rate to train it with.

    The rate of update t of T is ``lowest * (highest / lowest) ** (t / (T - 1))``. T is an epoch's
    updates, but 10,000 at most; it is several epochs' if one has fewer than 300 updates or 3,000
    samples. The model is left as it is.

    The suggestion is the lowest rate at which the smoothed loss has fallen by 98 % of all that it
    falls: where the loss stops falling, which is clear of the rates at which it rises, and does not
    depend on where a long flat stretch happens to be lowest. Two rules commonly used, a tenth of
    the rate of the lowest loss and the rate at which the loss falls most steeply (both Gugger's),
    suggest less, and networks trained with that were worse in twelve of thirteen cases:
    `benchmarks/learning_rate.md` compares them with sweeps.

    The suggestion is then tried: as many updates at that rate, from the start, and at a third of
    it, which takes its place as long as the loss ends lower by a tenth.

    Parameters
    ----------
    model, train_x, train_y, settings, sample_weight, seed, deformation
        As `fit` takes them.
    lowest, highest : float
        The first and the last learning rate.
    on_progress : callable, optional
        Is handed every report of progress.
    **changes
        Fields of `TrainingSettings`, which win over `settings`. The learning rate, its schedule and
        warmup, epochs and steps are set here.

    Returns
    -------
    RateSearch

    Raises
    ------
    TypeError, ValueError
        As `fit` does, and if not 0 < lowest < highest.
    Diverged
        If a number becomes NaN or infinite at the very first rates.
    """
    if not 0 < lowest < highest < math.inf:
        raise ValueError(
            f"lowest={lowest}, highest={highest}: expected finite rates, the lower one first"
        )
    settings = (settings or TrainingSettings()).with_changes(changes)
    settings.check()
    n, size = max(1, length(train_x)), int(settings.batch_size)
    per_epoch = max(1, n // size) if settings.sampling == "with-replacement" else -(-n // size)
    updates = max(_LEAST_UPDATES, -(-_LEAST_SAMPLES // size), min(per_epoch, _MOST_UPDATES))

    def rate(update: float) -> float:
        return lowest * (highest / lowest) ** min(1.0, update / (updates - 1))

    own = {"schedule": "constant", "warmup": 0.0, "steps": None}
    settings = settings.with_changes(own | {"epochs": -(-updates // per_epoch)})

    def train(rate: Any) -> tuple[np.ndarray, Diverged | None]:
        training = fit(
            deepcopy(model),
            train_x,
            train_y,
            settings,
            learning_rate=rate,
            sample_weight=sample_weight,
            seed=seed,
            deformation=deformation,
        )
        found: list[float] = []
        failure = None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # NumPy's of overflow
            try:
                _search(training, found, updates, on_progress)
            except Diverged as error:
                failure = error
        return np.array(found[:updates]), failure

    result = _result(*train(rate), updates, rate)
    if result.suggestion is None:
        return result

    def end(rate: float) -> float:
        found, failure = train(rate)
        return float(found[-(updates // 4) :].mean()) if failure is None else math.inf

    # a network that a high rate has killed has a flat loss, too; from the start it shows
    suggestion, loss = result.suggestion, end(result.suggestion)
    for _ in range(_TRIED_LOWER):
        lower = _digits(suggestion / 3)
        loss_lower = end(lower) if lower > lowest else math.inf
        if not loss_lower < _BETTER * loss:
            break
        suggestion, loss = lower, loss_lower
    return replace(result, suggestion=suggestion)


def conclude(result: RateSearch) -> str:
    """Return in a sentence or two what a search has found."""
    low, high = _digits(result.rates[0]), _digits(result.rates[-1])
    if result.suggestion is not None:
        end = f"no rate up to {high:g} made it diverge"
        if result.diverged is not None:
            end = f"it diverged at {_digits(result.diverged):g}"
        return f"learning rate {result.suggestion:g}, where the loss stopped falling; {end}"
    if result.has_fallen and result.turn < _TRAILING:
        return f"no learning rate to suggest: {low:g} is too high already; try lower rates"
    if result.has_fallen:
        return (
            f"no learning rate to suggest: the loss was still falling at {high:g}; try higher rates"
        )
    end = "" if result.diverged is None else f"; it diverged at {_digits(result.diverged):g}"
    return (
        f"no learning rate to suggest: the loss did not fall with rates from {low:g} to {high:g}"
        f"{end}"
    )


def _digits(rate: float) -> float:
    """Return a rate in two digits."""
    return float(f"{rate:.2g}")


def _search(
    training: Training,
    found: list[float],
    updates: int,
    on_progress: Callable[[BatchProgress], None] | None,
) -> None:
    """Train until so many updates are made or the loss has diverged.

    The mean loss of each update is appended to those found, also where the training ends with an
    error.
    """
    size, before = training.course.batch_size, 0
    try:
        for report in training:
            found[before:] = _means(training.losses(), size)
            if isinstance(report, EpochReport):
                before = len(found)
            elif on_progress is not None:
                on_progress(report)
            if len(found) >= updates or _end(_grouped(found, updates)) is not None:
                return
    except Diverged:
        found[before:] = _means(training.losses(), size)
        raise


def _means(losses: np.ndarray, size: int) -> list[float]:
    """Return the mean of the losses of each batch; the last batch may be smaller."""
    starts = np.arange(0, len(losses), size)
    counts = np.diff([*starts, len(losses)])
    with np.errstate(all="ignore"):
        return (np.add.reduceat(losses.astype(np.float64), starts) / counts).tolist()


def _grouped(found: Sequence[float] | np.ndarray, updates: int) -> np.ndarray:
    """Return the mean loss of each group of updates that is whole and finite."""
    losses = np.asarray(found)[:updates]
    finite = np.isfinite(losses)
    count = len(losses) if finite.all() else int(np.argmin(finite))
    edges = _edges(updates)
    edges = edges[edges <= count]
    return np.array([losses[a:b].mean() for a, b in pairwise(edges.tolist())])


def _edges(updates: int) -> np.ndarray:
    """Return where the groups of updates begin, and where the last one ends."""
    return np.linspace(0, updates, _GROUPS + 1).astype(int)


def _end(means: np.ndarray) -> int | None:
    """Return the first group whose loss is that of a diverged training."""
    if len(means) < _TRAILING:
        return None
    trailing = np.convolve(means, np.full(_TRAILING, 1 / _TRAILING), "valid")
    worst = np.maximum(_WORSE * np.minimum.accumulate(trailing), trailing[0])
    diverged = np.flatnonzero(trailing > worst)
    return int(diverged[0]) + _TRAILING - 1 if len(diverged) else None


def _result(
    found: np.ndarray,
    failure: Diverged | None,
    updates: int,
    rate: Callable[[float], float],
) -> RateSearch:
    """Average the losses found in groups, up to where they diverged, and suggest a rate."""
    losses, edges = _grouped(found, updates), _edges(updates)
    if len(losses) == _GROUPS:
        failure = None  # which came after the search, as training ends at a report
    end = _end(losses)
    if end is not None:
        losses = losses[: end + 1]
    elif failure is not None and not len(losses):
        raise failure
    groups = pairwise(edges[: len(losses) + 1].tolist())
    rates = np.array([rate((first + stop - 1) / 2) for first, stop in groups])
    start = float(losses[:_TRAILING].mean())
    diverged = None
    if end is not None or failure is not None:
        below = np.flatnonzero(losses <= start)
        above = int(below[-1]) + 1 if len(below) else 0
        diverged = float(rates[above]) if above < len(rates) else rate(edges[above])
    smoothed = _smoothed(np.minimum(losses, start))
    result = RateSearch(
        rates=rates,
        losses=losses,
        smoothed=smoothed,
        suggestion=None,
        diverged=diverged,
        updates=int(edges[len(losses)]),
    )
    last = len(losses) if diverged is not None else len(losses) - _TRAILING
    if result.has_fallen and _TRAILING <= result.turn < last:
        return replace(result, suggestion=_digits(rates[result.turn]))
    return result


def _smoothed(values: np.ndarray) -> np.ndarray:
    """Return the means of neighbouring values, weighted by a Gaussian."""
    places = np.arange(len(values))
    weights = np.exp(-0.5 * ((places[:, None] - places) / _SMOOTHING) ** 2)
    return weights @ values / weights.sum(axis=1)

"""What the runs of a sweep came to, and which is best."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from .plan import Trial, Values

DONE, DIVERGED = "done", "diverged"


@dataclass(frozen=True)
class Outcome(Trial):
    """What a run came to."""

    epochs: int  # that were finished; iterations of an optimizer that sees all samples at once
    # after the last epoch; None for a run that diverged, or without held-out samples
    test_accuracy: float | None
    validation_accuracy: float | None
    train_loss: float | None
    seconds: float  # of training, without evaluation and compilation
    status: str = DONE


@dataclass(frozen=True)
class Standing:
    """What the runs of one combination of values have come to so far, means over its seeds."""

    values: Values
    runs: int  # finished
    diverged: int  # how many of those, which are in no mean
    accuracy: float | None  # what is ranked by
    deviation: float | None  # its standard deviation (n − 1), of two runs or more
    test_accuracy: float | None
    train_loss: float | None
    seconds: float


def rank(outcomes: Sequence[Outcome], *, by: str = "test_accuracy") -> list[Standing]:
    """Order the combinations by mean accuracy, the best first; those with a run that diverged last.

    The accuracy is "test_accuracy" or "validation_accuracy".
    """
    groups: dict[tuple[str, ...], list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault(outcome.key[:-1], []).append(outcome)
    standings = [_standing(group, by) for group in groups.values()]
    return sorted(standings, key=lambda s: (s.diverged > 0, -(s.accuracy or 0.0)))


def _standing(group: Sequence[Outcome], by: str) -> Standing:
    good = [outcome for outcome in group if outcome.status == DONE]

    def mean(name: str) -> float | None:
        return statistics.fmean(getattr(outcome, name) for outcome in good) if good else None

    ranked = [getattr(outcome, by) for outcome in good]
    return Standing(
        values=group[0].values,
        runs=len(group),
        diverged=len(group) - len(good),
        accuracy=mean(by),
        deviation=statistics.stdev(ranked) if len(ranked) > 1 else None,
        test_accuracy=mean("test_accuracy"),
        train_loss=mean("train_loss"),
        seconds=statistics.fmean(outcome.seconds for outcome in group),
    )

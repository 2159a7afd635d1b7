"""What a training yields and raises: reports, its state, and the error of one that diverged."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..plain_text import percent


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
        Spent on training in this epoch so far.
    samples_per_second : float
    """

    epoch: int
    epochs: int
    samples: int
    total: int
    train_loss: float
    seconds: float
    samples_per_second: float

    def __repr__(self) -> str:
        return (
            f"BatchProgress(epoch {self.epoch} of {self.epochs}: {self.samples:,} of"
            f" {self.total:,} samples, loss {self.train_loss:.4g}, {_speed(self)})"
        )


@dataclass(frozen=True)
class EpochReport:
    """The result of an epoch.

    Attributes
    ----------
    epoch : int
        From 1.
    train_loss : float
        Mean loss over the epoch, each sample's before its own update, without the l2 penalty, but
        with that of `trainer.settings.EstimatorSettings`.
    test_accuracy : float or None
        Fraction of right answers after the epoch; None without test samples.
    seconds : float
        Wall time of training with the device synchronised: shuffling, conversion and upload
        included, what is prepared once charged to the first epoch, and each further epoch's order
        to the one before it, in which it is drawn. Compilation, evaluation and the time the
        generator was suspended are not in it.
    evaluation_seconds, compile_seconds : float
    samples_per_second : float
        Training samples over `seconds`.
    validation_accuracy : float or None
        Likewise on held-out samples.
    """

    epoch: int
    train_loss: float
    test_accuracy: float | None
    seconds: float
    evaluation_seconds: float
    compile_seconds: float
    samples_per_second: float
    validation_accuracy: float | None = None

    def __repr__(self) -> str:
        parts = [f"loss {self.train_loss:.4g}"]
        for name, fraction in (
            ("validation", self.validation_accuracy),
            ("test", self.test_accuracy),
        ):
            if fraction is not None:
                parts.append(f"{name} {percent(fraction)}")
        return f"EpochReport(epoch {self.epoch}: {', '.join(parts)}, {_speed(self)})"


@dataclass(frozen=True, eq=False)
class TrainingState:
    """All that `fit` needs to continue a training as if it had never stopped.

    Attributes
    ----------
    epoch : int
        The epoch that runs or comes next, from 1.
    samples : int
        Learned in that epoch so far.
    steps : int
        Updates made since the first start.
    order : dict
        The state that the generator of orders had before it drew that epoch's, fit for JSON.
    seconds, evaluation_seconds, compile_seconds : float
        Spent on that epoch so far, as defined in `EpochReport`.
    arrays : dict of str to numpy.ndarray
        The model's weights; those that learn, if they are others; the optimiser's state; and inside
        an epoch the model's weights at its start and the losses of the samples learned in it.
    """

    epoch: int
    samples: int
    steps: int
    order: dict[str, Any]
    seconds: float
    evaluation_seconds: float
    compile_seconds: float
    arrays: dict[str, Any] = field(repr=False)


def _speed(report: BatchProgress | EpochReport) -> str:
    return f"{report.seconds:.3g} s, {report.samples_per_second:,.0f} samples/s"


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
        self._arguments = epoch, sample, total, rate
        lower = f"a lower learning rate, such as {min(rate / 10, 0.1):g} (it was {rate:g})"
        super().__init__(
            f"training diverged in epoch {epoch} at sample {sample:,} of {total:,}: a number became"
            f" NaN or infinite; try {lower if rate else 'smaller initial weights or input values'}"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self._arguments  # by default it would be made anew of its message

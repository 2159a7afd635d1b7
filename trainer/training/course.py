"""Which samples are learned when, and at what learning rate."""

from __future__ import annotations

import math
from typing import Any

from backends.sharded import ShardedRows

from ..settings import TrainingSettings
from .schedules import schedule


class Course:
    """The epochs, batches and learning rates of a training on n samples.

    The last batch of an epoch may be smaller; drawn with replacement, an epoch is as many whole
    batches as n samples fill: at batch size 1, 10,000 steps on 1,437 samples are six epochs of
    1,437 draws and one of 1,378. Samples in `shards` are shuffled as `ShardedRows.order` says.
    """

    def __init__(
        self, settings: TrainingSettings, n: int, shards: ShardedRows | None = None
    ) -> None:
        self.n, self._shards = n, shards
        self._settings = settings
        self._is_drawn = settings.sampling == "with-replacement"
        size = int(settings.batch_size)
        # at least two unless one is asked for: batch size 1 is computed otherwise
        self.batch_size = size if self._is_drawn else min(size, max(2, n))
        self._draws = max(1, n // size) * size
        self._steps = None if settings.steps is None else int(settings.steps)
        self.epochs = int(settings.epochs)
        if self._steps is not None:
            self.epochs = -(-self._steps * size // self._draws)
        per_epoch = -(-(self._draws if self._is_drawn else n) // size)
        updates = self._steps or self.epochs * per_epoch
        rate: Any = settings.learning_rate
        if not callable(rate):
            changing = schedule(settings.schedule, rate, updates, per_epoch, settings.warmup)
            rate = changing if settings.rate_changes else float(rate)
        self._rate = rate

    def order(self, rng: Any, epoch: int) -> Any:
        """Draw the order of an epoch, counted from 1; None means the samples' own order."""
        if not self._is_drawn and self._settings.shuffle:
            return rng.permutation(self.n) if self._shards is None else self._shards.order(rng)
        if not self._is_drawn:
            return None
        draws = self._draws
        if self._steps is not None:
            draws = min(draws, self._steps * self.batch_size - (epoch - 1) * draws)
        return rng.integers(0, self.n, size=draws)

    def rates(self, first: int, updates: int) -> list[float]:
        """Return the learning rates of so many updates, starting with number `first`."""
        if not callable(self._rate):
            return [self._rate] * updates
        rates = [float(self._rate(step)) for step in range(first, first + updates)]
        for step, rate in enumerate(rates, first):
            if not 0 <= rate < math.inf:
                raise ValueError(
                    f"learning_rate({step}) gave {rate}: expected a finite number, zero or more"
                )
        return rates


def in_windows(samples: Any, settings: TrainingSettings) -> Any:
    """Return samples in shards with the window that is asked for, all others as they are.

    Raise ValueError where a setting does not go with the kind of samples.
    """
    window = settings.shuffle_window
    if not isinstance(samples, ShardedRows):
        if window is not None:
            raise ValueError(
                f"shuffle_window={window}: only for samples in shards; these are in memory, and"
                " shuffled as a whole: omit it"
            )
        return samples
    if settings.sampling == "with-replacement":
        raise ValueError(
            "sampling='with-replacement' draws from all samples, which in shards are not in memory:"
            " take sampling='epochs'"
        )
    return samples.in_windows(window)

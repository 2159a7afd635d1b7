"""The penalty of scikit-learn, which is one of each batch and not of the whole training set."""

from __future__ import annotations

from collections.abc import Callable, Sequence


class BatchPenalty:
    """The penalty α/(2b) ΣW² of every batch, b being the sum of its samples' weights.

    Without weights b is how many they are: the last batch of an epoch, which may be smaller, has a
    penalty of its own. `squares` returns ΣW² of the weights that learn.
    """

    def __init__(self, alpha: float, batch_size: int, squares: Callable[[], float]) -> None:
        self._alpha, self._batch_size, self._squares = alpha, batch_size, squares

    def start(self, size: int, done: int, weights: Sequence[float]) -> None:
        """Begin an epoch of so many samples, some done before.

        `weights` has the sum of each batch's weights; it is empty if all samples have 1.
        """
        self._size, self._weights = size, weights
        if self._alpha:
            self._batches = -(-size // self._batch_size) - done // self._batch_size
            self._at_start = self._squares()

    def stop(self, done: int) -> int:
        """Return up to which sample all have the penalty `of` the next one."""
        if not self._alpha:
            return self._size
        if self._weights:
            return min((done // self._batch_size + 1) * self._batch_size, self._size)
        whole = self._size // self._batch_size * self._batch_size
        return whole if done < whole else self._size

    def of(self, done: int) -> float:
        """Return α/b of the batch after the samples done, by which it multiplies W."""
        size = min(self._batch_size, self._size - done)
        weight = self._weights[done // self._batch_size] if self._weights else size
        return self._alpha / weight if weight else 0.0

    def mean(self) -> float:
        """Return the mean penalty over the epoch's samples, now that all are learned.

        As the kernels do not return after every batch, squares are interpolated between the
        epoch's ends; each batch pays by those before its update.
        """
        if not self._alpha:
            return 0.0
        count, now = self._batches, self._squares()
        squares = count * self._at_start + (now - self._at_start) * (count - 1) / 2
        return self._alpha / 2 * squares / self._size

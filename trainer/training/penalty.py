"""The penalty of scikit-learn, which is one of each batch and not of the whole training set."""

from __future__ import annotations

from collections.abc import Callable, Sequence

_POINTS = 16  # of an epoch, at most, at which the weights' squares are summed
_SUMMED = 500_000  # weights, of which there are half as many points


class BatchPenalty:
    """The penalty α/(2b) ΣW² of every batch, b being the sum of its samples' weights.

    Without weights b is how many they are: the last batch of an epoch, which may be smaller, has a
    penalty of its own. Blocks are of so many samples, whole batches; `squares` returns ΣW² of the
    weights that learn, of which there are so many.
    """

    def __init__(
        self,
        alpha: float,
        batch_size: int,
        block_size: int,
        weight_count: int,
        squares: Callable[[], float],
    ) -> None:
        self._alpha, self._batch_size, self._block_size = alpha, batch_size, block_size
        # each costs as much as the kernels take to hand out all weights
        self._points = max(1, round(_POINTS / (1 + weight_count / _SUMMED)))
        self._squares = squares

    def start(self, size: int, done: int, weights: Sequence[float]) -> None:
        """Begin an epoch of so many samples, some done before.

        `weights` has the sum of each batch's weights; it is empty if all samples have 1.
        """
        self._size, self._weights, self._sum = size, weights, 0.0
        blocks = -(-size // (self._points * self._block_size))
        self._step = self._batch_size if weights else blocks * self._block_size
        if self._alpha:
            self._batch, self._last = done // self._batch_size, self._squares()

    def stop(self, done: int) -> int:
        """Return up to which sample all have the penalty `of` the next one."""
        if not self._alpha:
            return self._size
        whole = self._size // self._batch_size * self._batch_size
        return min((done // self._step + 1) * self._step, whole if done < whole else self._size)

    def of(self, done: int) -> float:
        """Return α/b of the batch after the samples done, by which it multiplies W."""
        size = min(self._batch_size, self._size - done)
        weight = self._weights[done // self._batch_size] if self._weights else size
        return self._alpha / weight if weight else 0.0

    def add(self, done: int) -> None:
        """Add what the batches up to those samples paid, now that they are learned.

        As the kernels do not return after every batch of many, squares are interpolated between
        some points of the epoch, which are always the same.
        """
        if not self._alpha or (done % self._step and done < self._size):
            return
        batch, now = -(-done // self._batch_size), self._squares()
        count = batch - self._batch
        # each pays by its squares before its update
        self._sum += count * self._last + (now - self._last) * (count - 1) / 2
        self._batch, self._last = batch, now

    def mean(self) -> float:
        """Return the mean penalty over the epoch's samples, as far as they are learned."""
        return self._alpha / 2 * self._sum / self._size

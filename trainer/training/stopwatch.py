"""How long a training took, by what the time was spent on."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter


class Stopwatch:
    """A clock of the device's work, which runs from the moment it is made.

    What was `spent` are the "seconds" of training, "evaluation_seconds" and "compile_seconds".
    """

    def __init__(self, synchronize: Callable[[], None]) -> None:
        self._synchronize = synchronize
        self.reset()
        self.resume()

    def reset(self) -> None:
        """Set all that was spent to zero."""
        self.spent = {"seconds": 0.0, "evaluation_seconds": 0.0, "compile_seconds": 0.0}

    def resume(self) -> None:
        """Start a lap, whatever the time before was spent on."""
        self._synchronize()  # not to count what the caller left running on the device
        self._since = perf_counter()

    def lap(self, kind: str = "seconds") -> float:
        """End a lap and start the next; return its seconds, which are added to those of a kind."""
        before = self._since
        self.resume()
        self.spent[kind] += self._since - before
        return self._since - before

"""Contenders in processes of their own, which take turns until a time is over."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from scripts.measuring import PeerError, Worker
from trainer.benchmarking import Rounds

FAILURES = (ImportError, PeerError)  # of a process
PATIENCE = 60.0  # seconds; who takes longer, compilation included, hangs
RESTARTS = 3  # of a process


class Deadline:
    """A time after which nothing more starts."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._end = clock() + seconds

    @property
    def left(self) -> float:
        """Return the seconds left, 0 once it is over."""
        return max(0.0, self._end - self._clock())

    def within(self, seconds: float) -> Deadline:
        """Return a deadline in so many seconds, no later than this one."""
        return Deadline(min(seconds, self.left), self._clock)


class Processes:
    """The contenders' processes, each restarted after a failure.

    Parameters
    ----------
    objects : dict
        By name what makes each one's object, and its arguments; see `Worker`.
    """

    def __init__(self, objects: Mapping[str, tuple[Any, ...]]) -> None:
        self._objects = objects
        self._workers = {name: Worker(name, *made) for name, made in objects.items()}
        self._restarts: Counter[str] = Counter()

    def process(self, name: str) -> Worker:
        """Return a process that answers; one that ended is restarted, a few times."""
        if not self._workers[name].alive:
            self._restarts[name] += 1
            if self._restarts[name] > RESTARTS:
                raise PeerError(f"{name}: given up")
            self._workers[name] = Worker(name, *self._objects[name])
        return self._workers[name]

    def call(self, name: str, method: str, *arguments: Any, seconds: float) -> Any:
        """Call a process and return its result; see `Worker.result`."""
        worker = self.process(name)
        try:
            return worker.call(method, *arguments, seconds=seconds)
        except PeerError as error:
            if spoiled(worker, error):
                worker.kill()
            raise

    def kill(self) -> None:
        """End all processes."""
        for worker in self._workers.values():
            worker.kill()


def spoiled(worker: Worker, error: Exception) -> bool:
    """Return whether a process cannot go on: it ended, or its GPU met an error."""
    return not worker.alive or bool(re.search("cuda|memory", str(error), re.IGNORECASE))


def named(contender: str, error: Exception) -> str:
    """Format an error of a contender, whose process may have another name."""
    return f"{contender}: {str(error).partition(': ')[2]}"


class Race:
    """Contenders that do the same work in turns.

    Parameters
    ----------
    what : str
        They do, for messages.
    names : sequence of str
    count : int
        Of the rounds that count.
    grace : float
        Seconds by which what started in time may end too late.

    Attributes
    ----------
    rounds : Rounds
        The first is dropped, and with it what is compiled.
    runs : dict
        What was measured, by contender and round.
    wrong : dict
        Why a contender dropped out.
    """

    def __init__(self, what: str, names: Sequence[str], count: int, grace: float) -> None:
        self.what, self.count, self.rounds = what, count, Rounds(names)
        self.wrong: dict[str, str] = {}
        self.runs: dict[str, dict[int, Any]] = {name: {} for name in names}
        self._grace = grace

    def measure(self, name: str, seconds: float) -> Any:
        """Run the work of a contender once, in so many seconds at most."""
        raise NotImplementedError

    @property
    def done(self) -> bool:
        """Return whether all rounds were run."""
        return self.rounds.done > self.count or not self.rounds.cases

    def run(self, rounds: int, until: Deadline, last: Deadline) -> None:
        """Run up to so many rounds that end before `until`, but at least one.

        No run starts after `last`.
        """
        for name in self.rounds.until(rounds + 1, least=2, left=lambda: until.left):
            if last.left <= 0:
                return
            self._take_turn(name, last)

    def leave_out(self, names: Iterable[str]) -> None:
        """Go on without contenders that hang, so as not to wait for them in each round."""
        self.rounds.cases = [name for name in self.rounds.cases if name not in names]

    def _take_turn(self, name: str, last: Deadline) -> None:
        try:
            found = self.measure(name, min(last.left + self._grace, PATIENCE))
        except FAILURES as error:
            self.wrong[name] = f"{self.what}: {named(name, error)}"
            self.rounds.cases.remove(name)
            return
        if self.rounds.done:
            self.runs[name][self.rounds.done] = found

    def cut(self) -> list[str]:
        """Return a line if the time did not suffice for all rounds."""
        counted = max(0, self.rounds.done - 1)
        return [f"{self.what}: {counted} of {self.count} rounds"] * (not self.done)


def run_races(races: Sequence[Race], until: Deadline, save: Callable[[], Any]) -> None:
    """Run every race once, then all its rounds, then what the time of others is left for."""
    hung: set[str] = set()
    for sweep in range(3):
        for at, race in enumerate(races):
            race.leave_out(hung)
            if until.left <= 0 or race.done:
                continue
            print(f"timing {race.what}{', more rounds' * bool(sweep)}", flush=True)
            slot = until.left if sweep == 2 else until.left / (len(races) - at)
            race.run(race.count if sweep else 1, until.within(slot), until)
            hung |= {name for name, line in race.wrong.items() if "no answer" in line}
            save()

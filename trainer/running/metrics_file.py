"""metrics.jsonl, one line per epoch, a copy to repair it from, and a summary of the epochs."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..files import append, read_plain, synchronize, write_whole

FILE = "metrics.jsonl"
COPY = ".metrics.jsonl"
MOST_SECONDS = 1e10  # three centuries: no training can have taken longer

_SECONDS = ("epoch_seconds", "evaluation_seconds", "compile_seconds")
_PARTS = ("test", "validation", "train")
# what reading a line that is no epoch raises
_UNREADABLE = (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError)


@dataclass(frozen=True)
class Tally:
    """A summary of a run's epochs so far, which does not grow with their number.

    Attributes
    ----------
    epochs : int
        How many have ended.
    seconds, other_seconds : float
        Spent on training, and on evaluation and compilation.
    last, best : dict or None
        The metrics of the last epoch, and of the first that is best by held-out samples.
    size, crc32 : int
        Bytes and checksum of the lines in metrics.jsonl.
    """

    epochs: int = 0
    seconds: float = 0.0
    other_seconds: float = 0.0
    last: dict[str, Any] | None = None
    best: dict[str, Any] | None = None
    size: int = 0
    crc32: int = 0

    @classmethod
    def of(cls, state: dict[str, Any]) -> Tally:
        """Read the tally of a checkpoint's state; those of older versions hold all epochs.

        Raises
        ------
        KeyError, TypeError, ValueError, AttributeError
            If it is none.
        """
        if "history" in state:
            tally = cls()
            for metrics in state["history"]:
                check_epoch(metrics)
                tally = tally.after(metrics)
                check_seconds(*(metrics[name] for name in _SECONDS))
            return tally if state["best"] is not None else replace(tally, best=None)
        tally = cls(**state["tally"])
        for metrics in (tally.last, tally.best):
            if metrics is not None:
                check_epoch(metrics)
        if not 0 <= max(tally.best_accuracy, 0) <= 1:
            raise ValueError("its best epoch has an accuracy that cannot be")
        counts = (tally.epochs, tally.size, tally.crc32)
        if not all(isinstance(count, int) and count >= 0 for count in counts):
            raise TypeError("its tally counts by no whole numbers")
        check_seconds(tally.seconds, tally.other_seconds)
        if (tally.last is None) != (tally.epochs == 0):
            raise ValueError("its tally disagrees with its last epoch")
        return tally

    def after(self, metrics: dict[str, Any]) -> Tally:
        """Return the tally with one more epoch."""
        line = _line(metrics)
        accuracy = metrics.get("validation_accuracy")
        is_best = accuracy is not None and accuracy > self.best_accuracy
        return Tally(
            epochs=self.epochs + 1,
            seconds=self.seconds + metrics["epoch_seconds"],
            other_seconds=self.other_seconds
            + metrics["evaluation_seconds"]
            + metrics["compile_seconds"],
            last=metrics,
            best=metrics if is_best else self.best,
            size=self.size + len(line),
            crc32=zlib.crc32(line, self.crc32),
        )

    @property
    def best_accuracy(self) -> float:
        """Return the fraction of held-out samples the best epoch answers right; -1 without one."""
        return -1.0 if self.best is None else float(self.best["validation_accuracy"])


class MetricsFile:
    """A run's metrics.jsonl, to which lines are only added, and a copy of it beside it.

    Parameters
    ----------
    folder : Path
    """

    def __init__(self, folder: Path) -> None:
        self.path, self.copy = folder / FILE, folder / COPY

    def read(self) -> list[dict[str, Any]]:
        """Read all epochs; a last line that was not written whole is omitted.

        Raises
        ------
        OSError, KeyError, ValueError, TypeError, AttributeError, RecursionError
            If it is not there, or damaged.
        """
        return list(_epochs(read_plain(self.path).splitlines(keepends=True)))

    def add(self, metrics: dict[str, Any]) -> None:
        """Append an epoch."""
        append(self.path, _line(metrics))

    def add_to_copy(self, metrics: dict[str, Any]) -> None:
        """Append an epoch to the copy alone; it is on the disk after `synchronize_copy`."""
        append(self.copy, _line(metrics), sync=False)

    def synchronize_copy(self) -> None:
        """Wait until the copy is on the disk."""
        if self.copy.exists():
            synchronize(self.copy)

    def restore(self, state: dict[str, Any] | None) -> tuple[Tally, str]:
        """Restore both files to what they held at a checkpoint; without one, remove them.

        Parameters
        ----------
        state : dict or None
            The checkpoint's.

        Returns
        -------
        tally : Tally
            The checkpoint's, of the lines that there are now.
        fault : str
            What was wrong with metrics.jsonl, or empty; later lines than the checkpoint's are not.
        """
        files = self.path, self.copy
        tally = Tally() if state is None else Tally.of(state)
        if state is None or not tally.epochs:
            for file in files:
                file.unlink(missing_ok=True)
            return Tally(), ""
        found = [_starts_with(file, tally) for file in files]
        if "history" in state:
            whole = b"".join(map(_line, state["history"]))
        elif any(found):
            with files[found.index(True)].open("rb") as lines:
                whole = lines.read(tally.size)
        else:
            whole = self._left(tally.epochs)
            tally = replace(tally, size=len(whole), crc32=zlib.crc32(whole))
        for file, is_whole in zip(files, found, strict=True):
            if not is_whole:
                write_whole(file, whole)
            elif file.stat().st_size > tally.size:
                os.truncate(file, tally.size)
        if not any(found) and "history" not in state:
            left = whole.count(b"\n")
            return tally, (
                f"was damaged, and so was its copy: the numbers of {left:,} of {tally.epochs:,}"
                " epochs are left"
            )
        return tally, "" if found[0] else "was damaged: mended"

    def _left(self, epochs: int) -> bytes:
        """Return the first lines of metrics.jsonl that can be read, at most so many epochs."""
        lines: list[bytes] = []
        with suppress(*_UNREADABLE):
            read = read_plain(self.path).splitlines(keepends=True)[:epochs]
            lines.extend(map(_line, _epochs(read)))
        return b"".join(lines)


def _line(metrics: dict[str, Any]) -> bytes:
    """Return the line that an epoch has in metrics.jsonl."""
    return (json.dumps(metrics) + "\n").encode()


def _epochs(lines: Sequence[bytes]) -> Iterator[dict[str, Any]]:
    for line in lines:
        try:
            metrics = json.loads(line)
        except ValueError:
            if line is lines[-1] and not line.endswith(b"\n"):
                return  # the process was killed while it wrote
            raise
        check_epoch(metrics)
        yield metrics


def _starts_with(file: Path, tally: Tally) -> bool:
    """Return whether a file starts with the lines that a tally counts."""
    crc32, left = 0, tally.size
    try:
        with file.open("rb") as lines:
            while left and (part := lines.read(min(left, 1 << 20))):
                crc32, left = zlib.crc32(part, crc32), left - len(part)
    except OSError:
        return False
    return not left and crc32 == tally.crc32


def check_epoch(epoch: Any) -> None:
    """Raise KeyError, TypeError, ValueError or AttributeError unless this is an epoch's metrics."""
    accuracies = [epoch.get(f"{part}_accuracy") for part in _PARTS]
    if not isinstance(epoch["epoch"], int) or not all(
        isinstance(number, int | float)
        for number in (epoch["train_loss"], *accuracies)
        if number is not None
    ):
        raise TypeError("no numbers")


def check_seconds(*numbers: Any) -> None:
    """Raise TypeError or ValueError unless so many seconds can have passed."""
    if not all(0 <= number < MOST_SECONDS for number in numbers):
        raise ValueError("it has seconds that cannot be")

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

_MOST_SECONDS = 1e10  # three centuries: no training can have taken longer
_SECONDS = ("epoch_seconds", "evaluation_seconds", "compile_seconds")
_ACCURACIES = ("test_accuracy", "validation_accuracy", "train_accuracy")
# what reading a file of JSON raises that is damaged or another's
UNREADABLE = (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError)

_LONGEST = 300  # letters of a fault, which may quote what was read


@dataclass(frozen=True)
class Tally:
    """A summary of a run's epochs so far, which does not grow with their number."""

    epochs: int = 0  # how many have ended
    seconds: float = 0.0  # spent on training
    other_seconds: float = 0.0  # on evaluation and compilation
    last: dict[str, Any] | None = None  # the metrics of the last epoch
    best: dict[str, Any] | None = None  # of the first that is best by held-out samples
    size: int = 0  # bytes of the lines in metrics.jsonl
    crc32: int = 0  # their checksum

    @classmethod
    def of(cls, state: dict[str, Any]) -> Tally:
        """Read the tally of a checkpoint's state; those of older versions hold all epochs.

        Raise one of `UNREADABLE` if it is none.
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
    """A run's metrics.jsonl, to which lines are only added, and a copy of it beside it."""

    def __init__(self, folder: Path) -> None:
        self.path, self.copy = folder / FILE, folder / COPY

    def read(self) -> list[dict[str, Any]]:
        """Read all epochs but a last one that is not whole; `UNREADABLE` if that cannot be."""
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

    def restore(
        self, tally: Tally, history: Sequence[dict[str, Any]] | None = None
    ) -> tuple[Tally, str]:
        """Restore both files to the epochs of a tally, which may be known from a `history`.

        Return the tally of the lines that there are now, and what was wrong with metrics.jsonl, or
        an empty text; lines that are later than the tally's are not wrong.
        """
        files = self.path, self.copy
        if not tally.epochs:
            for path in files:
                path.unlink(missing_ok=True)
            return Tally(), ""
        found = [_counted(path, tally) for path in files]
        whole = found[1] if found[0] is None else found[0]
        damage = "was damaged: mended" if found[0] is None else ""
        if whole is None and history is not None:
            whole = b"".join(map(_line, history))
        elif whole is None:
            lines: list[bytes] = []  # the first ones that can be read
            with suppress(*UNREADABLE):
                read = read_plain(self.path).splitlines(keepends=True)[: tally.epochs]
                lines.extend(map(_line, _epochs(read)))
            whole = b"".join(lines)
            tally = replace(tally, size=len(whole), crc32=zlib.crc32(whole))
            damage = f"was damaged, and so was its copy: the numbers of {len(lines):,} of"
            damage += f" {tally.epochs:,} epochs are left"
        for path, content in zip(files, found, strict=True):
            if content is None:
                write_whole(path, whole)
            elif path.stat().st_size > tally.size:
                os.truncate(path, tally.size)
        return tally, damage


def fault(error: BaseException) -> str:
    """Return in words what is wrong with a file whose reading raised this."""
    words = f"{error} is missing" if isinstance(error, KeyError) else str(error)
    return words if len(words) <= _LONGEST else f"{words[: _LONGEST - 1]}…"


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


def _counted(file: Path, tally: Tally) -> bytes | None:
    """Return the lines that a tally counts, None if the file does not start with them."""
    try:
        if file.stat().st_size < tally.size:  # which a damaged tally may have huge
            return None
        with file.open("rb") as lines:
            start = lines.read(tally.size)
    except OSError:
        return None
    return start if (len(start), zlib.crc32(start)) == (tally.size, tally.crc32) else None


def check_epoch(epoch: Any) -> None:
    """Raise one of `UNREADABLE` unless this is an epoch's metrics."""
    numbers = [epoch["train_loss"], *map(epoch.get, _ACCURACIES)]
    if not all(isinstance(number, int | float | None) for number in numbers):
        raise TypeError("no numbers")
    if not isinstance(epoch["epoch"], int):
        raise TypeError("no number of an epoch")


def check_seconds(*numbers: Any) -> None:
    """Raise TypeError or ValueError unless so many seconds can have passed."""
    if not all(0 <= number < _MOST_SECONDS for number in numbers):
        raise ValueError("it has seconds that cannot be")

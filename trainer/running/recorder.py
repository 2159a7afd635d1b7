"""The recorder: weights, metrics and checkpoints of a training, written into its run folder."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from ..network import MLP
from ..plain_text import percent
from ..training import Training, TrainingState
from ..weight_files import read_checkpoint
from .checkpoints import BEST, FOLDER, Checkpoint
from .metrics_file import Tally, check_seconds
from .run_folder import Run
from .usage import UsageError

_INTERVAL = re.compile(r"(\d+(?:\.\d+)?)(s|m|h)|([1-9]\d*)", re.ASCII)
# epochs that have ended and samples learned in the next, arrays, and the rest, fit for JSON
_Contents = tuple[tuple[int, int], dict[str, Any], dict[str, Any]]
_SECONDS = {"s": 1, "m": 60, "h": 3600}


@dataclass(frozen=True)
class Interval:
    """How often a checkpoint is written: every so many epochs, or seconds."""

    epochs: float
    seconds: float

    @classmethod
    def of(cls, text: str) -> Interval:
        """Read `3`, `30s`, `5m` or `1h`."""
        match = _INTERVAL.fullmatch(text.strip())
        if not match or float(match[1] or 1) == 0:
            raise UsageError(
                f"--checkpoint-every {text or repr(text)}: expected a number of epochs such as 1,"
                " or a time such as 30s, 5m or 1h"
            )
        if match[3]:
            return cls(int(match[3]), math.inf)
        return cls(math.inf, float(match[1]) * _SECONDS[match[2]])


@dataclass(eq=False)
class Recorder:
    """Writes the weights of a training, a line for each epoch, and its checkpoints."""

    folder: Run
    model: MLP
    every: Interval
    training: Training | None  # None for a full-batch training, of which only weights are kept
    tally: Tally  # of the epochs that have ended
    is_resumed: bool = False  # so that the newest checkpoint is up to date
    log: Callable[[dict[str, Any]], None] | None = None  # also takes the numbers of each epoch

    def __post_init__(self) -> None:
        self._is_current, self._written = self.is_resumed, perf_counter()
        inside = 0 if self.training is None else self.training.state().samples
        self._at = (self.tally.epochs, inside) if self.is_resumed else None
        self._epoch_end: _Contents | None = None

    def progress(self) -> None:
        """Write a checkpoint inside an epoch if one is due."""
        self._is_current = False
        if perf_counter() - self._written >= self.every.seconds:
            self.checkpoint()

    def epoch(self, metrics: dict[str, Any]) -> None:
        """Write the weights and numbers of an epoch that has ended."""
        self._is_current = False
        if self.log is not None:
            self.log(metrics)  # before a checkpoint can count the epoch
        before = self.tally.best_accuracy
        self.folder.metrics_file.add_to_copy(metrics)
        self.tally = self.tally.after(metrics)
        self._epoch_end = self._contents()
        self.model.save(self.folder.model_file)
        self.folder.metrics_file.add(metrics)
        if self.tally.best_accuracy > before:
            _, arrays, state = self._epoch_end
            self.folder.checkpoints.write(BEST, arrays, self.model.settings(), state)
        written_epochs = 0 if self._at is None else self._at[0]
        due = self.tally.epochs - written_epochs >= self.every.epochs
        if due or perf_counter() - self._written >= self.every.seconds:
            self._write(self._epoch_end)

    def take_best(self) -> None:
        """Set the run's weights to those of the best epoch."""
        model = self.model
        arrays, _, _ = read_checkpoint(self.folder.checkpoints.folder / BEST)
        model.set_weights([arrays[name] for name in model.names])
        model.save(self.folder.model_file)

    def checkpoint(self, *, ended: bool = False) -> None:
        """Write where the training stands, unless that is written already.

        A training may have `ended` before all its epochs, a minimisation before all its iterations.
        """
        if self._is_current and not ended:
            return
        self._write(self._contents(ended=ended))

    def _write(self, contents: _Contents) -> None:
        at, arrays, state = contents
        self.folder.metrics_file.synchronize_copy()
        self.folder.checkpoints.save(at, arrays, self.model.settings(), state)
        self._at, self._written = at, perf_counter()
        self._is_current = True

    def _contents(self, *, ended: bool = False) -> _Contents:
        state = {"config": self.folder.config, "tally": asdict(self.tally), "ended": ended}
        model, epochs = self.model, self.tally.epochs
        if self.training is None:
            return (epochs, 0), model.arrays(), state
        training = self.training.state()
        if training.epoch != epochs + 1:
            raise RuntimeError("an epoch has ended whose numbers are not written")
        facts = dict(vars(training))
        arrays = facts.pop("arrays")
        at = epochs, training.samples
        return at, arrays | model.input_map(), state | {"training": facts}

    def rescue(self, *, is_settled: bool) -> None:
        """Write the checkpoint that an unexpected end leaves possible, if any.

        Unless the training is settled, so that it can be asked where it stands, and where it stands
        inside an update, that is the end of its last epoch.
        """
        ended_in_order = is_settled and self.training is not None
        for take in [self._contents] * ended_in_order + [lambda: self._epoch_end]:
            with suppress(Exception, KeyboardInterrupt):
                contents = take()
                # writing an older state would remove the checkpoints after it
                if contents is not None and (self._at is None or contents[0] > self._at):
                    self._write(contents)
                return

    def stopped_in(self, where: str) -> str:
        """Return where the training stopped and how to continue it."""
        go_on = resume_command(self.folder.path)
        if self._at is None:
            kept = f"it has no checkpoint yet and begins again with: {go_on}"
        else:
            kept = f"go on after {position(*self._at)}: {go_on}"
        return f"The training stopped in {where}; {kept}"


def position(epochs: int, samples: int) -> str:
    """Return in words how much has been learned."""
    inside = f" and {samples:,} samples" if samples else ""
    return f"{epochs:,} epoch{'s' * (epochs != 1)}{inside}"


def best_line(path: Path, tally: Tally) -> list[str]:
    """Return a line on the best epoch by held-out samples and its file, or none without one."""
    if tally.best is None:
        return []
    return [
        f"best: epoch {tally.best['epoch']} with {percent(tally.best_accuracy)} of the"
        f" held-out samples, {path / FOLDER / BEST}"
    ]


def resume_command(path: Path) -> str:
    """Return the command that resumes a run."""
    return f"python -m trainer train --resume {shlex.quote(str(path))}"


def training_state(checkpoint: Checkpoint) -> TrainingState:
    """Return the state of the training that a checkpoint holds; ValueError if it is damaged."""
    try:
        facts = checkpoint.state["training"]
        counts: dict[str, Any] = {name: int(facts[name]) for name in ("epoch", "samples", "steps")}
        spent = ("seconds", "evaluation_seconds", "compile_seconds")
        seconds: dict[str, Any] = {name: float(facts[name]) for name in spent}
        check_seconds(*seconds.values())
        arrays = {k: v for k, v in checkpoint.arrays.items() if k not in ("scale", "shift")}
        return TrainingState(**counts, **seconds, order=dict(facts["order"]), arrays=arrays)
    except (KeyError, TypeError, OverflowError) as error:
        raise ValueError(f"its state lacks or misstates {error}") from error

"""What keeps a running training on the disk, and what it says when one must end early."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from backends import device_failure, memory_shortage

from .. import display
from ..checkpoints import BEST, FOLDER, Checkpoint
from ..fitting import Training, TrainingState
from ..network import MLP
from ..runs import Run
from ..weight_files import read_checkpoint
from . import UsageError

DEFAULT_INTERVAL = "30s"
MOST_SECONDS = 1e10  # that a training can have taken: three centuries
_INTERVAL = re.compile(r"(\d+(?:\.\d+)?)(s|m|h)|([1-9]\d*)", re.ASCII)
_SECONDS = {"s": 1, "m": 60, "h": 3600}


@dataclass(frozen=True)
class Interval:
    """How often there is a checkpoint: every so many epochs, or seconds."""

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


class Keeper:
    """Writes what a training comes to: its weights, a line an epoch, and its checkpoints.

    Parameters
    ----------
    folder : Run
    model : MLP
    every : Interval
    training : Training or None
        None of a full-batch training, of which weights alone are kept.
    begun : Checkpoint, optional
        Where it goes on from.
    """

    def __init__(
        self,
        folder: Run,
        model: MLP,
        every: Interval,
        training: Training | None,
        begun: Checkpoint | None = None,
    ) -> None:
        self.folder = folder
        self.history: list[dict[str, Any]] = [] if begun is None else list(begun.state["history"])
        self._best = None if begun is None else begun.state["best"]
        self._model, self._every, self._training = model, every, training
        self._written_epochs, self._written = len(self.history), perf_counter()
        inside = 0 if begun is None or training is None else training.state().samples
        self._at = None if begun is None else (len(self.history), inside)
        self._is_current = begun is not None

    def progress(self) -> None:
        """Write a checkpoint inside an epoch if it is time."""
        self._is_current = False
        if perf_counter() - self._written >= self._every.seconds:
            self.checkpoint()

    def epoch(self, metrics: dict[str, Any]) -> None:
        """Keep the weights and numbers of an epoch that has ended."""
        self._is_current = False
        self.history.append(metrics)
        self._model.save(self.folder.model_file)
        self.folder.add_epoch(metrics)
        accuracy = metrics["validation_accuracy"]
        if accuracy is not None and (self._best is None or accuracy > self._best):
            self._best = accuracy
            _, arrays, state = self._contents()
            self.folder.checkpoints.save_best(arrays, self._model.settings(), state)
        due = len(self.history) - self._written_epochs >= self._every.epochs
        if due or perf_counter() - self._written >= self._every.seconds:
            self.checkpoint()

    def keep_best(self) -> None:
        """Let the run's weights be those of the best epoch."""
        model = self._model
        arrays, _, _ = read_checkpoint(self.folder.checkpoints.folder / BEST)
        model.set_weights([arrays[name] for name in model.names])
        model.save(self.folder.model_file)

    def checkpoint(self, *, ended: bool = False) -> None:
        """Write where the training stands, unless that is written already.

        A training may have `ended` before its epochs were done, a method before its iterations.
        """
        if self._is_current and not ended:
            return
        samples, arrays, state = self._contents()
        state["ended"] = ended
        self.folder.checkpoints.save(
            len(self.history), samples, arrays, self._model.settings(), state
        )
        self._at = len(self.history), samples
        self._written_epochs, self._written = len(self.history), perf_counter()
        self._is_current = True

    def _contents(self) -> tuple[int, dict[str, Any], dict[str, Any]]:
        state: dict[str, Any] = {
            "config": self.folder.config,
            "history": self.history,
            "best": self._best,
            "ended": False,
        }
        model = self._model
        if self._training is None:
            return 0, model.arrays(), state
        training = self._training.state()
        facts = asdict(training)
        arrays = facts.pop("arrays")
        return training.samples, arrays | model.input_map(), state | {"training": facts}

    @property
    def go_on(self) -> str:
        """The command that goes on."""
        return resume_command(self.folder.path)

    @contextmanager
    def surviving(self, where: Callable[[], str]) -> Iterator[list[int]]:
        """End a training in one line where its disk, output, memory or device fails.

        Parameters
        ----------
        where : callable
            Says how far it has come: "epoch 3 of 5".

        Yields
        ------
        list of int
            Empty, or the exit code after such an end.
        """
        code: list[int] = []
        try:
            yield code
        except KeyboardInterrupt:  # a second Ctrl-C, amid anything
            code.append(130)
            why = "stopped at once by a second Ctrl-C"
        except OSError as error:
            code.append(1)
            if error.filename is not None:
                why = f"{error.filename}: {error.strerror}"
            else:
                why = f"stdout: {error.strerror or error}"
                display.abandon_stdout()
                with suppress(OSError):
                    self.checkpoint()
        except MemoryError as error:
            code.append(1)
            why = f"this does not fit into memory ({memory_shortage(error)})"
        except Exception as error:
            failure = device_failure(error)
            if failure is None:
                raise
            code.append(1)
            why = failure
        if code:
            display.error(f"{why}. The training stopped in {where()}; {self._kept()}")

    def _kept(self) -> str:
        if self._at is None:
            return f"it has no checkpoint yet and begins again with: {self.go_on}"
        return f"go on after {position(*self._at)}: {self.go_on}"


def position(epochs: int, samples: int) -> str:
    """Say after how much that is."""
    inside = f" and {samples:,} samples" if samples else ""
    return f"{epochs:,} epoch{'s' * (epochs != 1)}{inside}"


def best_epoch(history: Sequence[dict[str, Any]]) -> int:
    """Find the first of the best by held-out samples, from 1; 0 where there are none."""
    accuracies: list[Any] = [epoch.get("validation_accuracy") for epoch in history]
    if not accuracies or None in accuracies:
        return 0
    return accuracies.index(max(accuracies)) + 1


def best_line(path: Path, history: Sequence[dict[str, Any]]) -> list[str]:
    """Say which epoch is the best by held-out samples, if there are any, and where it is."""
    best = best_epoch(history)
    if not best:
        return []
    accuracy = history[best - 1]["validation_accuracy"]
    return [
        f"best: epoch {best} with {display.percent(accuracy)} of the held-out samples,"
        f" {path / FOLDER / BEST}"
    ]


def resume_command(path: Path) -> str:
    """Write the command that goes on with a run."""
    return f"python -m trainer train --resume {shlex.quote(str(path))}"


def training_state(checkpoint: Checkpoint) -> TrainingState:
    """Read where a training stood.

    Raises
    ------
    ValueError
        If something is missing or of another kind.
    """
    arrays = {k: v for k, v in checkpoint.arrays.items() if k not in ("scale", "shift")}
    try:
        facts = checkpoint.state["training"]
        spent = [
            float(facts[name]) for name in ("seconds", "evaluation_seconds", "compile_seconds")
        ]
        if not all(0 <= seconds < MOST_SECONDS for seconds in spent):
            raise ValueError("its state has seconds that cannot be")
        return TrainingState(
            epoch=int(facts["epoch"]),
            samples=int(facts["samples"]),
            steps=int(facts["steps"]),
            order=dict(facts["order"]),
            seconds=spent[0],
            evaluation_seconds=spent[1],
            compile_seconds=spent[2],
            arrays=arrays,
        )
    except (KeyError, TypeError, OverflowError) as error:
        raise ValueError(f"its state lacks or misstates {error}") from error

"""A sweep's folder: what was asked for, and a line for each run that has ended."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from io import StringIO
from itertools import islice
from pathlib import Path
from typing import Any

from ..files import append, read_plain, write_whole
from ..recipes import recorded
from ..running.metrics_file import UNREADABLE, fault
from ..running.run_folder import Run, RunError, claim
from .outcomes import DIVERGED, DONE, Outcome
from .plan import Plan, Trial
from .values import as_text, values_of

FIGURE = "sweep.png"

_COLUMNS = (
    "seed",
    "epochs",
    "test_accuracy",
    "validation_accuracy",
    "train_loss",
    "seconds",
    "status",
)


class SweepFolder:
    """A sweep's folder: config.json, sweep.csv with a line a finished run, sweep.png.

    Parameters
    ----------
    path : Path
    config : dict
        What `config.json` holds.
    plan : Plan
    close : callable
        Lets other processes sweep into the folder.

    Attributes
    ----------
    outcomes : list of Outcome
        Of the runs that are in sweep.csv.
    """

    def __init__(
        self, path: Path, config: dict[str, Any], plan: Plan, close: Callable[[], None]
    ) -> None:
        self.path = path
        self.config = config
        self.plan = plan
        self.outcomes: list[Outcome] = []
        self.close = close

    @classmethod
    def start(cls, out: Path | None, plan: Plan, config: dict[str, Any]) -> SweepFolder:
        """Make the folder (the next free one under sweeps/ if none is named).

        Raises
        ------
        RunError
            If `out` is not empty.
        OSError
            If the folder cannot be made or written.
        """
        recorded = {
            "recipe": plan.recipe.name,
            "settings": {k: v for k, v in vars(plan.recipe).items() if k not in ("name", "about")},
            "changes": {name: as_text(value) for name, value in plan.changes.items()},
            "grid": {name: [as_text(v) for v in values] for name, values in plan.grid.items()},
            "seeds": list(plan.seeds),
        }
        run = Run.start(out, config | {"sweep": recorded}, under="sweeps")
        folder = cls(run.path, run.config, plan, run.close)
        write_whole(folder.table, folder._lines([]).encode())
        return folder

    @classmethod
    def open(cls, path: Path) -> SweepFolder:
        """Read a folder to go on with it; a last line that was not written whole is dropped.

        Raises
        ------
        RunError
            If there is no sweep, or one of its files is damaged.
        """
        file = path / "config.json"
        try:
            config = json.loads(read_plain(file))
            asked = config["sweep"]
            plan = Plan(
                recipe=recorded(asked["recipe"], asked["settings"]),
                changes={name: values_of(name, v)[0] for name, v in asked["changes"].items()},
                grid={
                    name: values_of(name, ",".join(values))
                    for name, values in asked["grid"].items()
                },
                seeds=tuple(map(int, asked["seeds"])),
            )
            data = config["data"]
            texts = (config["device"]["name"], data["source"], data["crc32"])
            if not all(isinstance(text, str) for text in texts):
                raise TypeError("device, data source or crc32 is no text")
            if not isinstance(data["test_source"], str | None):
                raise TypeError("test_source is no text")
            if not isinstance(data["validation_samples"], int):
                raise TypeError("validation_samples is no number")
        except (FileNotFoundError, NotADirectoryError) as error:
            raise RunError(
                f"--resume {path}: no sweep is there; expected a folder that `sweep` wrote, such"
                " as sweeps/s1"
            ) from error
        except UNREADABLE as error:
            raise RunError(f"{file}: not a sweep's config ({fault(error)})") from error
        run = Run(path, config, claim(path))
        folder = cls(path, config, plan, run.close)
        try:
            run.write_config()  # which process it is now
            folder.outcomes = folder._read()
        except BaseException:
            folder.close()
            raise
        return folder

    @property
    def table(self) -> Path:
        """Where the runs are."""
        return self.path / "sweep.csv"

    def left(self) -> list[Trial]:
        """Runs that are not in the table."""
        done = {Trial(outcome.values, outcome.seed).key for outcome in self.outcomes}
        return [trial for trial in self.plan.trials() if trial.key not in done]

    def add(self, outcome: Outcome) -> None:
        """Append a line to the table, whole."""
        append(self.table, self._lines([outcome], header=False).encode())
        self.outcomes.append(outcome)

    def _lines(self, outcomes: Sequence[Outcome], *, header: bool = True) -> str:
        text = StringIO()
        writer = csv.writer(text, lineterminator="\n")
        if header:
            writer.writerow([*self.plan.grid, *_COLUMNS])
        for outcome in outcomes:
            fields = asdict(outcome)
            rest = ("" if fields[name] is None else fields[name] for name in _COLUMNS)
            writer.writerow([*map(as_text, outcome.values.values()), *rest])
        return text.getvalue()

    def _read(self) -> list[Outcome]:
        try:
            text = self.table.read_text(encoding="utf-8")
        except FileNotFoundError:
            text = ""
        except (OSError, ValueError) as error:
            raise RunError(f"{self.table}: cannot be read ({error})") from error
        lines = text.splitlines(keepends=True)
        header = [*self.plan.grid, *_COLUMNS]
        if lines and lines[0].endswith("\n") and lines[0].strip().split(",") != header:
            raise RunError(
                f"{self.table}: line 1 is not {','.join(header)}, as this sweep wrote it"
            )
        trials = {trial.key: trial for trial in self.plan.trials()}
        outcomes: dict[tuple[str, ...], Outcome] = {}
        for number, line in islice(enumerate(lines, 1), 1, None):
            try:
                if not line.endswith("\n"):
                    raise ValueError("it has no end")
                key, outcome = self._outcome(next(csv.reader([line])), trials)
            except (ValueError, LookupError) as error:
                if number == len(lines):
                    break
                raise RunError(
                    f"{self.table}: line {number} is no run of this sweep ({error}); delete the"
                    " line, and the run is made again"
                ) from error
            outcomes[key] = outcome
        kept = list(outcomes.values())
        whole = self._lines(kept)
        if whole != text:
            write_whole(self.table, whole.encode())
        return kept

    def _outcome(
        self, cells: list[str], trials: Mapping[tuple[str, ...], Trial]
    ) -> tuple[tuple[str, ...], Outcome]:
        options = len(self.plan.grid)
        if len(cells) != options + len(_COLUMNS):
            raise ValueError(f"{len(cells)} fields")
        key = tuple(cells[: options + 1])
        if key not in trials:
            raise ValueError("its options and seed")
        fields = dict(zip(_COLUMNS[1:], cells[options + 1 :], strict=True))
        status = fields["status"]
        if status not in (DONE, DIVERGED) or (status == DONE) != bool(fields["test_accuracy"]):
            raise ValueError("its status")
        numbers = {
            name: float(fields[name]) if fields[name] else None
            for name in ("test_accuracy", "validation_accuracy", "train_loss")
        }
        trial = trials[key]
        return key, Outcome(
            values=trial.values,
            seed=trial.seed,
            epochs=int(fields["epochs"]),
            seconds=float(fields["seconds"]),
            status=status,
            **numbers,
        )

"""A sweep's folder: what was asked for, and a line for each run that has ended."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
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

# of a line in sweep.csv, after the options that the sweep varies
_COLUMNS = [field.name for field in fields(Outcome) if field.name != "values"]


class SweepFolder:
    """A sweep's folder: config.json, sweep.csv with a line a finished run, sweep.png.

    Attributes
    ----------
    config : dict
        What `config.json` holds.
    close : callable
        Lets other processes sweep into the folder.
    outcomes : list of Outcome
        Of the runs that are in sweep.csv.
    """

    def __init__(self, run: Run, plan: Plan) -> None:
        self.path, self.config, self.close = run.path, run.config, run.close
        self.plan = plan
        self.outcomes: list[Outcome] = []

    @classmethod
    def start(cls, out: Path | None, plan: Plan, config: dict[str, Any]) -> SweepFolder:
        """Make the folder (the next free one under sweeps/ if none is named), as `Run.start`."""
        recorded = {
            "recipe": plan.recipe.name,
            "settings": {k: v for k, v in vars(plan.recipe).items() if k not in ("name", "about")},
            "changes": {name: as_text(value) for name, value in plan.changes.items()},
            "grid": {name: [as_text(v) for v in values] for name, values in plan.grid.items()},
            "seeds": list(plan.seeds),
        }
        run = Run.start(out, config | {"sweep": recorded}, under="sweeps")
        folder = cls(run, plan)
        write_whole(folder.table, folder._table_of([]))
        return folder

    @classmethod
    def open(cls, path: Path) -> SweepFolder:
        """Read a folder to go on with it; a last line that was not written whole is dropped.

        Raise RunError if there is no sweep, or one of its files is damaged.
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
        folder = cls(run, plan)
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
        done = {outcome.key for outcome in self.outcomes}
        return [trial for trial in self.plan.trials() if trial.key not in done]

    def add(self, outcome: Outcome) -> None:
        """Append a line to the table, whole."""
        append(self.table, _csv([_row(outcome)]))
        self.outcomes.append(outcome)

    def _table_of(self, outcomes: Sequence[Outcome]) -> bytes:
        return _csv([[*self.plan.grid, *_COLUMNS], *map(_row, outcomes)])

    def _read(self) -> list[Outcome]:
        try:
            text = self.table.read_text(encoding="utf-8") if self.table.exists() else ""
        except (OSError, ValueError) as error:
            raise RunError(f"{self.table}: cannot be read ({error})") from error
        lines = text.splitlines(keepends=True)
        header = ",".join([*self.plan.grid, *_COLUMNS])
        if lines and lines[0].endswith("\n") and lines[0].strip() != header:
            raise RunError(f"{self.table}: line 1 is not {header}, as this sweep wrote it")
        trials = {trial.key: trial for trial in self.plan.trials()}
        outcomes: dict[tuple[str, ...], Outcome] = {}
        for number, line in islice(enumerate(lines, 1), 1, None):
            try:
                if not line.endswith("\n"):
                    raise ValueError("it has no end")
                outcome = self._outcome(next(csv.reader([line])), trials)
            except ValueError as error:
                if number == len(lines):
                    break
                raise RunError(
                    f"{self.table}: line {number} is no run of this sweep ({error}); delete the"
                    " line, and the run is made again"
                ) from error
            outcomes[outcome.key] = outcome
        kept = list(outcomes.values())
        whole = self._table_of(kept)
        if whole != text.encode():
            write_whole(self.table, whole)
        return kept

    def _outcome(self, cells: list[str], trials: Mapping[tuple[str, ...], Trial]) -> Outcome:
        of_key = len(self.plan.grid) + 1
        if len(cells) != of_key + len(_COLUMNS) - 1:
            raise ValueError(f"{len(cells)} fields")
        trial = trials.get(tuple(cells[:of_key]))
        if trial is None:
            raise ValueError("its options and seed")
        epochs, *numbers, seconds, status = cells[of_key:]
        test, validation, loss = (float(number) if number else None for number in numbers)
        if status not in (DONE, DIVERGED) or (status == DONE) != (test is not None):
            raise ValueError("its status")
        return Outcome(
            trial.values, trial.seed, int(epochs), test, validation, loss, float(seconds), status
        )


def _row(outcome: Outcome) -> list[Any]:
    texts = map(as_text, outcome.values.values())
    return [*texts, *(getattr(outcome, column) for column in _COLUMNS)]


def _csv(rows: Iterable[Sequence[Any]]) -> bytes:
    text = StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()

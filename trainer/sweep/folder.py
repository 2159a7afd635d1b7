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
from .plan import Plan, Search, Trial
from .values import Span, as_text, span_of, values_of

FIGURE = "sweep.png"

# of a line in sweep.csv, after the options that the sweep varies
_COLUMNS = [field.name for field in fields(Outcome) if field.name not in ("values", "number")]


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
        if plan.search is not None:
            ranges = {name: str(span) for name, span in plan.search.ranges.items()}
            recorded["search"] = vars(plan.search) | {"ranges": ranges}
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
                search=_search(asked["search"]) if "search" in asked else None,
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
        """Runs that are not in the table, of a sweep over every combination."""
        done = {outcome.key for outcome in self.outcomes}
        return [trial for trial in self.plan.trials() if trial.key not in done]

    def add(self, outcome: Outcome) -> None:
        """Append a line to the table, whole."""
        append(self.table, _csv([_row(outcome)]))
        self.outcomes.append(outcome)

    def _table_of(self, outcomes: Sequence[Outcome]) -> bytes:
        return _csv([self._header(), *map(_row, outcomes)])

    def _header(self) -> list[str]:
        return [*["trial"] * (self.plan.search is not None), *self.plan.varied, *_COLUMNS]

    def _read(self) -> list[Outcome]:
        try:
            text = self.table.read_text(encoding="utf-8") if self.table.exists() else ""
        except (OSError, ValueError) as error:
            raise RunError(f"{self.table}: cannot be read ({error})") from error
        lines = text.splitlines(keepends=True)
        header = ",".join(self._header())
        if lines and lines[0].endswith("\n") and lines[0].strip() != header:
            raise RunError(f"{self.table}: line 1 is not {header}, as this sweep wrote it")
        trials: dict[tuple[str, ...], Trial] = {}
        if self.plan.search is None:
            trials = {trial.key: trial for trial in self.plan.trials()}
        outcomes: dict[Any, Outcome] = {}
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
            outcomes[outcome.number, outcome.key] = outcome
        kept = list(outcomes.values())
        whole = self._table_of(kept)
        if whole != text.encode():
            write_whole(self.table, whole)
        return kept

    def _outcome(self, cells: list[str], trials: Mapping[tuple[str, ...], Trial]) -> Outcome:
        if len(cells) != len(self._header()):
            raise ValueError(f"{len(cells)} fields")
        of_key = len(cells) - len(_COLUMNS) + 1
        trial = trials.get(tuple(cells[:of_key]))
        if self.plan.search is not None:
            trial = self._chosen(cells[:of_key])
        if trial is None:
            raise ValueError("its options and seed")
        epochs, *numbers, seconds, status = cells[of_key:]
        test, validation, loss = (float(number) if number else None for number in numbers)
        if status not in (DONE, DIVERGED) or (status == DONE) != (test is not None):
            raise ValueError("its status")
        found = (int(epochs), test, validation, loss, float(seconds), status)
        return Outcome(trial.values, trial.seed, *found, number=trial.number)

    def _chosen(self, cells: list[str]) -> Trial | None:
        """Read a trial whose values a sampler chose; None if it could not have."""
        number, *texts, seed = cells
        trial = Trial(
            {k: values_of(k, t)[0] for k, t in zip(self.plan.varied, texts, strict=True)},
            self.plan.seeds[0],
            number=int(number),
        )
        is_one = trial.key == (*texts, seed) and int(number) in range(len(self.plan))
        is_one &= all(trial.values[name] in values for name, values in self.plan.grid.items())
        is_one &= all(trial.values[name] in span for name, span in self.plan.ranges.items())
        return trial if is_one else None


def _search(recorded: Any) -> Search:
    """Read what `SweepFolder.start` recorded of a search."""
    ranges: dict[str, Span] = {}
    for name, text in recorded["ranges"].items():
        span = span_of(name, text)
        if span is None:
            raise ValueError(f"{name} {text} is no range")
        ranges[name] = span
    return Search(str(recorded["sampler"]), int(recorded["trials"]), ranges)


def _row(outcome: Outcome) -> list[Any]:
    texts = [as_text(value) for value in outcome.values.values()]
    if outcome.number is not None:
        texts.insert(0, str(outcome.number))
    return [*texts, *(getattr(outcome, column) for column in _COLUMNS)]


def _csv(rows: Iterable[Sequence[Any]]) -> bytes:
    text = StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()

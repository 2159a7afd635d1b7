"""Four views with the same methods show a training, a benchmark or a sweep while it runs.

`TerminalView` is live, `PlainView` writes plain lines to a pipe or a file, `JsonView` one object
an event, `QuietView` nothing.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterable, Sequence
from time import perf_counter
from typing import TYPE_CHECKING, Any

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.panel import Panel
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from ..plain_text import one_line
from . import reports
from .answers import report_table
from .formats import duration
from .rate_search import rate_curve
from .tables import facts as show_facts
from .terminal import as_json, console, is_narrow, json_line, line, styled, width

if TYPE_CHECKING:
    from ..benchmarking import Measurement
    from ..metrics import Evaluation
    from ..rate_search import RateSearch
    from ..sweep import Outcome, Standing
    from ..training import BatchProgress, EpochReport
    from ..training.minimize import IterationReport


_PROGRAM = "python -m trainer "


class QuietView:
    """Shows nothing, and is the base of the other views."""

    def note(self, message: str) -> None:
        """Show a line the user should know of."""

    def downloading(self, file: str, done: int, total: int) -> None:
        """Show how many bytes of a file have arrived."""

    def writing(self, file: str, done: int, total: int) -> None:
        """Show how many bytes of all files have been made, and which of them is."""

    def preparing(self) -> None:
        """Show that it takes a moment until the start."""

    def start(self, facts: dict[str, str], config: dict[str, Any]) -> None:
        """Show what is trained on what; a sweep's config says how many runs it has."""

    def progress(self, report: BatchProgress) -> None:
        """Show how far the running epoch is."""

    def epoch(self, report: EpochReport) -> None:
        """Show what an epoch came to."""

    def iteration(self, report: IterationReport) -> None:
        """Show what an iteration of a full-batch training came to."""

    def training_report(self, result: Evaluation) -> None:
        """Show how a full-batch training classifies its own training samples."""

    def rate_search(self, result: RateSearch) -> None:
        """Show how the training loss depended on the learning rate."""

    def measurement(self, measurement: Measurement) -> None:
        """Show a new median of a benchmark's case."""

    def outcome(self, outcome: Outcome) -> None:
        """Show what a run of a sweep came to."""

    def standings(self, standings: Sequence[Standing]) -> None:
        """Show what all runs of a sweep came to, the best first; not called after each."""

    def end(self, lines: Sequence[str], result: dict[str, Any]) -> None:
        """Show that all is finished, or was stopped."""

    def failed(self, message: str, result: dict[str, Any]) -> None:
        """End a training that could not go on; `error` shows why."""
        self.close()

    def close(self) -> None:
        """Restore the terminal."""


def _reported(event: str) -> Any:
    """Make a method that prints a report as an event."""

    def show(view: JsonView, report: Any) -> None:
        view.event(event, as_json(report))

    return show


class JsonView(QuietView):
    """Prints one JSON object a line, nothing else."""

    progress = _reported("progress")
    epoch = _reported("epoch")
    iteration = _reported("iteration")
    measurement = _reported("measurement")
    outcome = _reported("run")

    def event(self, event: str, fields: dict[str, Any]) -> None:
        """Print what happened and what belongs to it."""
        json_line({"event": event} | fields)

    def note(self, message: str) -> None:
        self.event("note", {"message": message})

    def downloading(self, file: str, done: int, total: int) -> None:
        self.event("download", {"file": file, "bytes": done, "total": total})

    def writing(self, file: str, done: int, total: int) -> None:
        self.event("write", {"file": file, "bytes": done, "total": total})

    def start(self, facts: dict[str, str], config: dict[str, Any]) -> None:
        self.event("start", config)

    def training_report(self, result: Evaluation) -> None:
        scores = [*result.classes, *result.averages]
        self.event("training_report", {"accuracy": result.accuracy, "classes": scores})

    def end(self, lines: Sequence[str], result: dict[str, Any]) -> None:
        self.event("end", result)

    def failed(self, message: str, result: dict[str, Any]) -> None:
        self.event("failed", {"message": message} | result)


class PlainView(QuietView):
    """Prints plain lines without a control character, and tables at the end."""

    def __init__(self) -> None:
        self._console = console()
        self._header = False
        self._cases: dict[tuple[str, int, int], Measurement] = {}
        self._runs = self._finished = 0
        self._ranked_by = ""
        self._standings: Sequence[Standing] = ()

    def _print(self, text: str, style: str = "") -> None:
        line(text)

    def note(self, message: str) -> None:
        self._print(message, "yellow")

    def start(self, facts: dict[str, str], config: dict[str, Any]) -> None:
        self._runs, self._finished = config.get("runs", 0), config.get("finished", 0)
        self._ranked_by = config.get("ranked_by", "")
        show_facts(facts, self._console)

    def epoch(self, report: EpochReport) -> None:
        self._row(reports.epoch_cells(report))

    def iteration(self, report: IterationReport) -> None:
        self._row(reports.iteration_cells(report))

    def _row(self, cells: list[reports.Cell]) -> None:
        if not self._console.soft_wrap:
            cells = reports.fitting(cells, self._console.width)
        if not self._header:
            self._print("  ".join(f"{name:>{width}}" for name, width, _ in cells), "bold")
            self._header = True
        self._print("  ".join(f"{value:>{width}}" for _, width, value in cells))

    def training_report(self, result: Evaluation) -> None:
        self._console.print()
        self._console.print(styled("classification report on the training samples", "cyan"))
        self._console.print(report_table(result))
        self._console.print()

    def rate_search(self, result: RateSearch) -> None:
        self._console.print()
        rate_curve(self._console, result)
        self._console.print()

    def measurement(self, measurement: Measurement) -> None:
        case = (measurement.device, measurement.hidden, measurement.batch_size)
        self._cases[case] = measurement

    def outcome(self, outcome: Outcome) -> None:
        self._finished += 1
        counted = f"{self._finished:>{len(str(self._runs))}}/{self._runs}"
        line(f"{counted}  {reports.outcome_line(outcome, self._ranked_by)}")

    def standings(self, standings: Sequence[Standing]) -> None:
        self._standings = standings

    def _table(self) -> Table | None:
        """Return what a benchmark or a sweep has come to."""
        narrow = is_narrow(self._console)
        if self._cases:
            return reports.measurements_table(list(self._cases.values()), narrow=narrow)
        if self._standings:
            return reports.standings_table(self._standings, self._ranked_by, narrow=narrow)
        return None

    def end(self, lines: Sequence[str], result: dict[str, Any]) -> None:
        table = self._table()
        if table is not None:
            self._console.print()
            self._console.print(table)
            self._console.print()
        for text in lines:
            line(text)


class _Shorter:
    """A renderable that leaves room for the ^C of a terminal, which else begins a new line."""

    def __init__(self, whole: RenderableType) -> None:
        self._whole = whole

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        room = max(1, options.max_width - len("^C") - 1)
        yield from console.render(self._whole, options.update(width=room))


class _Bar(Progress):
    def get_renderables(self) -> Iterable[RenderableType]:
        yield _Shorter(self.make_tasks_table(self.tasks))


class TerminalView(PlainView):
    """Shows a live bar below the rows of the epochs, or below a table that changes."""

    def __init__(self) -> None:
        super().__init__()
        self._bar = _Bar(
            TextColumn("{task.description}", style="bold", markup=False),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[text]}", markup=False),
            console=self._console,
            transient=True,
            expand=True,
            speed_estimate_period=0,  # which nothing shows, and would store a sample an epoch
        )
        self._task = self._bar.add_task("", total=None, text="", visible=False)
        self._last: BatchProgress | None = None
        self._live: Live | None = None
        self._before, self._since = 0, 0.0  # runs that were finished at the start, and when it was

    def _print(self, text: str, style: str = "") -> None:
        self._console.print(styled(text, style))

    def _show(self, description: str, done: int, total: int | None, text: str) -> None:
        self._bar.update(
            self._task,
            description=one_line(description),
            completed=done,
            total=total,
            text=text,
            visible=True,
        )
        if self._live is None:
            self._bar.start()

    def downloading(self, file: str, done: int, total: int) -> None:
        self._show(file, done, total, f"{done / 1e6:.1f} of {total / 1e6:.1f} MB")

    def writing(self, file: str, done: int, total: int) -> None:
        self.downloading(file, done, total)

    def preparing(self) -> None:
        self._show("preparing", 0, None, "kernels are compiled on the first start")

    def start(self, facts: dict[str, str], config: dict[str, Any]) -> None:
        super().start(facts, config)
        self._console.print()
        self.preparing()
        if self._runs:
            self._before, self._since = self._finished, perf_counter()
            self._show("running", self._finished, self._runs, "processes are being started")

    def progress(self, report: BatchProgress) -> None:
        self._last = report
        left = (report.epochs - report.epoch + 1) * report.total - report.samples
        rate = report.samples_per_second
        text = f"{rate:,.0f}/s  loss {report.train_loss:.4f}  {duration(left / rate)} left"
        self._show(f"epoch {report.epoch}/{report.epochs}", report.samples, report.total, text)

    def epoch(self, report: EpochReport) -> None:
        super().epoch(report)
        if self._last is not None:  # epochs may be too short to report from within
            same = {n: getattr(report, n) for n in ("epoch", "train_loss", "samples_per_second")}
            self.progress(dataclasses.replace(self._last, samples=self._last.total, **same))

    def iteration(self, report: IterationReport) -> None:
        super().iteration(report)
        done, total = report.iteration, report.iterations
        self._show(f"iteration {done}/{total}", done, total, f"loss {report.train_loss:.4f}")

    def training_report(self, result: Evaluation) -> None:
        self._bar.stop()
        super().training_report(result)

    def rate_search(self, result: RateSearch) -> None:
        self._bar.stop()
        rate_curve(self._console, result)

    def _table_opened(self, *, transient: bool) -> Live:
        """Return the table that takes the bar's place."""
        if self._live is None:
            self._bar.stop()
            self._live = Live(console=self._console, auto_refresh=False, transient=transient)
            self._live.start()
        return self._live

    def measurement(self, measurement: Measurement) -> None:
        super().measurement(measurement)
        live = self._table_opened(transient=False)
        shown = list(self._cases.values())
        if len(shown) + 8 > self._console.height:  # what does not fit could not be read
            shown = [case for case in shown if case.hidden == measurement.hidden]
        running = f"round {measurement.rounds}; Ctrl-C ends it with what has been measured"
        rows = reports.measurements_table(shown, narrow=is_narrow(self._console))
        table = Group(rows, Text(), styled(running, "cyan"))
        live.update(table, refresh=True)

    def outcome(self, outcome: Outcome) -> None:
        self._finished += 1

    def standings(self, standings: Sequence[Standing]) -> None:
        super().standings(standings)
        live = self._table_opened(transient=True)
        fitting = max(1, min(reports.LONGEST_STANDINGS, self._console.height - 6))
        now, left = self._finished - self._before, self._runs - self._finished
        text = f"{self._finished:,} of {self._runs:,} runs"
        if now and left:
            text += f"  {duration((perf_counter() - self._since) / now * left)} left"
        self._show("running", self._finished, self._runs, text)
        table = reports.standings_table(
            standings, self._ranked_by, fitting, narrow=is_narrow(self._console)
        )
        live.update(Group(table, Text(), self._bar.get_renderable()), refresh=True)

    def end(self, lines: Sequence[str], result: dict[str, Any]) -> None:
        table = self._table()
        if self._live is not None and table is not None:
            if self._live.transient:
                self.close()
                self._console.print(table)
            else:
                self._live.update(table, refresh=True)
        self.close()
        self._console.print()
        framed, below = list(lines[1:]), []
        if any(_PROGRAM in text and width(text) > self._console.width - 6 for text in framed):
            # a command that is broken would be copied with the frame around it
            below = [text for text in framed if _PROGRAM in text]
            framed = [text for text in framed if text not in below]
        body = [styled(lines[0], "bold green"), *map(styled, framed)]
        self._console.print(Panel(Text("\n").join(body), expand=False, padding=(0, 2)))
        for text in below:
            said, program, rest = text.partition(_PROGRAM)
            if said.strip():
                self._console.print(styled(said.strip()))
            # a line of its own can be copied whole
            self._console.print(styled(program + rest), soft_wrap=True)

    def close(self) -> None:
        self._bar.stop()
        if self._live is not None:
            self._live.stop()


def choose_view(*, as_json: bool, quiet: bool = False) -> QuietView:
    """Return the view that was asked for, else the one that stdout can show."""
    if as_json:
        return JsonView()
    if quiet:
        return QuietView()
    return TerminalView() if sys.stdout.isatty() else PlainView()

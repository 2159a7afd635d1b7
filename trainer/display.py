"""Everything a person sees in the terminal. Handed results, it never trains.

A training is shown by one of four views with the same methods: `TerminalView` (rich, live),
`PlainView` (a pipe or a file: plain lines), `JsonView` (one object an event) and `QuietView`.
A benchmark is shown by `JsonView` or by the other two's variants with a table.
"""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from .benchmarking import Measurement
    from .fitting import BatchProgress, EpochReport
    from .metrics import ClassScore, Evaluation

_WIDEST_CONFUSION = 12  # classes that fit 80 columns


def console() -> Console:
    """The terminal on stdout, or plain text where it is none."""
    return Console(highlight=False, soft_wrap=not sys.stdout.isatty())


def error(message: str) -> None:
    """One line on stderr."""
    text = Text.assemble(("error: ", "bold red"), message)
    Console(stderr=True, highlight=False, soft_wrap=True).print(text)


# --- a training ---------------------------------------------------------------------------


class QuietView:
    """Shows nothing, and is what the other views are made from."""

    def note(self, message: str) -> None:
        """A line the user should know of."""

    def downloading(self, file: str, done: int, total: int) -> None:
        """So many bytes of a file have come."""

    def start(self, facts: dict[str, str], config: dict[str, Any]) -> None:
        """What is trained on what."""

    def progress(self, report: BatchProgress) -> None:
        """An epoch is running."""

    def epoch(self, report: EpochReport) -> None:
        """An epoch is over."""

    def measurement(self, measurement: Measurement) -> None:
        """A case of a benchmark has a new median."""

    def end(self, lines: Sequence[str], result: dict[str, Any]) -> None:
        """All is over, or was stopped."""

    def failed(self, message: str, result: dict[str, Any]) -> None:
        """The training could not go on; `error` says why."""
        self.close()

    def close(self) -> None:
        """Leave the terminal as it was."""


class JsonView(QuietView):
    """One JSON object a line, nothing else."""

    def _event(self, event: str, fields: dict[str, Any]) -> None:
        print(json.dumps({"event": event} | fields), flush=True)

    def note(self, message: str) -> None:
        self._event("note", {"message": message})

    def downloading(self, file: str, done: int, total: int) -> None:
        self._event("download", {"file": file, "bytes": done, "total": total})

    def start(self, facts: dict[str, str], config: dict[str, Any]) -> None:
        self._event("start", config)

    def progress(self, report: BatchProgress) -> None:
        self._event("progress", dataclasses.asdict(report))

    def epoch(self, report: EpochReport) -> None:
        self._event("epoch", dataclasses.asdict(report))

    def measurement(self, measurement: Measurement) -> None:
        self._event("measurement", dataclasses.asdict(measurement))

    def end(self, lines: Sequence[str], result: dict[str, Any]) -> None:
        self._event("end", result)

    def failed(self, message: str, result: dict[str, Any]) -> None:
        self._event("failed", {"message": message} | result)


class PlainView(QuietView):
    """Plain lines without a control character."""

    def __init__(self) -> None:
        self._header = False

    def note(self, message: str) -> None:
        print(message, flush=True)

    def start(self, facts: dict[str, str], config: dict[str, Any]) -> None:
        for name, text in facts.items():
            print(f"{name:>8}  {text}")
        sys.stdout.flush()

    def epoch(self, report: EpochReport) -> None:
        if not self._header:
            print(_epoch_header(report))
            self._header = True
        print(_epoch_row(report), flush=True)

    def end(self, lines: Sequence[str], result: dict[str, Any]) -> None:
        print("\n".join(lines), flush=True)


class TerminalView(PlainView):
    """Rich: a live bar below the rows of the epochs."""

    def __init__(self) -> None:
        super().__init__()
        self._console = console()
        self._bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[text]}"),
            console=self._console,
            transient=True,
            expand=True,
        )
        self._task = self._bar.add_task("", total=None, text="", visible=False)
        self._last: BatchProgress | None = None

    def _show(self, description: str, done: int, total: int | None, text: str) -> None:
        self._bar.update(
            self._task,
            description=description,
            completed=done,
            total=total,
            text=text,
            visible=True,
        )
        self._bar.start()

    def note(self, message: str) -> None:
        self._console.print(Text(message, style="yellow"))

    def downloading(self, file: str, done: int, total: int) -> None:
        self._show(file, done, total, f"{done / 1e6:.1f} of {total / 1e6:.1f} MB")

    def start(self, facts: dict[str, str], config: dict[str, Any]) -> None:
        grid = Table.grid(padding=(0, 2))
        grid.add_column(justify="right", style="cyan", no_wrap=True)
        grid.add_column(overflow="fold")
        for name, text in facts.items():
            grid.add_row(name, Text(text))
        self._console.print(grid)
        self._console.print()
        self._show("preparing", 0, None, "kernels are compiled on the first start")

    def progress(self, report: BatchProgress) -> None:
        self._last = report
        left = (report.epochs - report.epoch + 1) * report.total - report.samples
        text = (
            f"{report.samples_per_second:,.0f}/s  loss {report.train_loss:.4f}"
            f"  {_duration(left / report.samples_per_second)} left"
        )
        epoch = f"epoch {report.epoch}/{report.epochs}"
        self._show(epoch, report.samples, report.total, text)

    def epoch(self, report: EpochReport) -> None:
        if not self._header:
            self._console.print(Text(_epoch_header(report), style="bold"))
            self._header = True
        self._console.print(Text(_epoch_row(report)))
        if self._last is not None:  # epochs may be too short to report from within
            self.progress(
                dataclasses.replace(
                    self._last,
                    epoch=report.epoch,
                    samples=self._last.total,
                    train_loss=report.train_loss,
                    samples_per_second=report.samples_per_second,
                )
            )

    def end(self, lines: Sequence[str], result: dict[str, Any]) -> None:
        self.close()
        self._console.print()
        body = Text("\n").join([Text(lines[0], style="bold green"), *map(Text, lines[1:])])
        self._console.print(Panel(body, expand=False, padding=(0, 2)))

    def close(self) -> None:
        self._bar.stop()


def training_view(*, as_json: bool, quiet: bool) -> QuietView:
    """Choose how a training is shown: as asked for, else by what stdout is."""
    if as_json:
        return JsonView()
    if quiet:
        return QuietView()
    return TerminalView() if sys.stdout.isatty() else PlainView()


def _epoch_header(report: EpochReport) -> str:
    validation = "  validation" if report.validation_accuracy is not None else ""
    return f"{'epoch':>7}  {'loss':>9}  {'test':>9}{validation}  {'seconds':>8}  {'samples/s':>10}"


def _epoch_row(report: EpochReport) -> str:
    test = "-" if report.test_accuracy is None else percent(report.test_accuracy)
    validation = (
        "" if report.validation_accuracy is None else f"  {percent(report.validation_accuracy):>10}"
    )
    return (
        f"{report.epoch:>7}  {report.train_loss:>9.6f}  {test:>9}{validation}"
        f"  {three_digits(report.seconds):>8}  {report.samples_per_second:>10,.0f}"
    )


def percent(fraction: float) -> str:
    """0.9722 as 97.22 %."""
    return f"{100 * fraction:.2f} %"


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


# --- a benchmark --------------------------------------------------------------------------


class PlainBenchView(PlainView):
    """Plain lines, the table at the end."""

    def __init__(self) -> None:
        super().__init__()
        self._cases: dict[tuple[str, int, int], Measurement] = {}

    def measurement(self, measurement: Measurement) -> None:
        self._cases[_case(measurement)] = measurement

    def end(self, lines: Sequence[str], result: dict[str, Any]) -> None:
        if self._cases:
            out = console()
            out.print()
            out.print(_measurements(list(self._cases.values())))
            out.print()
        super().end(lines, result)


class TerminalBenchView(TerminalView):
    """Rich: a table that fills and changes while it runs."""

    def __init__(self) -> None:
        super().__init__()
        self._cases: dict[tuple[str, int, int], Measurement] = {}
        self._live: Live | None = None

    def measurement(self, measurement: Measurement) -> None:
        self._cases[_case(measurement)] = measurement
        if self._live is None:
            self._bar.stop()
            self._live = Live(console=self._console, auto_refresh=False)
            self._live.start()
        shown = list(self._cases.values())
        if len(shown) + 8 > self._console.height:  # what does not fit could not be read
            shown = [case for case in shown if case.hidden == measurement.hidden]
        running = f"\nround {measurement.rounds}; Ctrl-C ends it with what has been measured"
        self._live.update(Group(_measurements(shown), Text(running, style="cyan")), refresh=True)

    def end(self, lines: Sequence[str], result: dict[str, Any]) -> None:
        if self._live is not None:
            self._live.update(_measurements(list(self._cases.values())), refresh=True)
        super().end(lines, result)

    def close(self) -> None:
        super().close()
        if self._live is not None:
            self._live.stop()


def bench_view(*, as_json: bool) -> QuietView:
    """Choose how a benchmark is shown: as asked for, else by what stdout is."""
    if as_json:
        return JsonView()
    return TerminalBenchView() if sys.stdout.isatty() else PlainBenchView()


def _case(measurement: Measurement) -> tuple[str, int, int]:
    return measurement.device, measurement.hidden, measurement.batch_size


def _measurements(measurements: Sequence[Measurement]) -> Table:
    table = _table(
        "device", "hidden", "batch", "samples/s", "spread", "epoch s", "GFLOP/s", "% matmul"
    )
    before = measurements[0].hidden
    for m in measurements:
        if m.hidden != before:
            table.add_row()
            before = m.hidden
        slowest, fastest = (
            100 * (rate / m.samples_per_second - 1) for rate in (m.slowest, m.fastest)
        )
        table.add_row(
            m.device,
            str(m.hidden),
            str(m.batch_size),
            Text(f"{m.samples_per_second:,.0f}", style="bold"),
            f"{slowest:+.0f} … {fastest:+.0f} %",
            f"{'~' if m.scaled else ''}{three_digits(m.epoch_seconds)}",
            three_digits(m.gflops),
            three_digits(m.percent_of_matmul),
        )
    return table


def three_digits(value: float) -> str:
    """0.0123, 1.23, 1,234."""
    return f"{value:,.{max(0, 2 - math.floor(math.log10(value)))}f}"


# --- answers ------------------------------------------------------------------------------


def evaluation(title: str, result: Evaluation) -> None:
    """Accuracy, the confusion matrix (or the worst confusions of many classes) and the report."""
    out = console()
    right = int(np.trace(result.confusion))
    total = int(result.confusion.sum())
    out.print(Text(title, style="cyan"))
    out.print(Text(f"accuracy {percent(result.accuracy)}: {right:,} of {total:,}", style="bold"))
    out.print()
    labels = [score.label for score in result.classes]
    if len(labels) <= _WIDEST_CONFUSION and max(map(len, labels)) <= 5:
        out.print(Text("confusion matrix: rows the truth, columns the answers", style="cyan"))
        out.print(_confusion_matrix(labels, result.confusion))
    else:
        out.print(Text("most frequent confusions", style="cyan"))
        out.print(_worst_confusions(labels, result.confusion))
    out.print()
    out.print(Text("classification report", style="cyan"))
    out.print(_report(result.classes, result.averages))


def _table(*headers: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for number, header in enumerate(headers):
        table.add_column(header, justify="right", style="cyan" if number == 0 else "")
    return table


def _confusion_matrix(labels: Sequence[str], confusion: np.ndarray) -> Table:
    table = _table("", *labels)
    for row, label in enumerate(labels):
        cells = [
            Text(str(count), style="bold green" if row == column else "red" if count else "dim")
            for column, count in enumerate(confusion[row])
        ]
        table.add_row(label, *cells)
    return table


def _worst_confusions(labels: Sequence[str], confusion: np.ndarray) -> Table:
    table = _table("truth", "answer", "samples")
    wrong = confusion - np.diag(np.diag(confusion))
    for flat in np.argsort(wrong, axis=None)[::-1][:15]:
        row, column = np.unravel_index(flat, wrong.shape)
        if wrong[row, column]:
            table.add_row(labels[row], labels[column], str(wrong[row, column]))
    return table


def _report(classes: Sequence[ClassScore], averages: Sequence[ClassScore]) -> Table:
    table = _table("class", "precision", "recall", "F1", "support")
    for score in [*classes, *averages]:
        numbers = (f"{value:.4f}" for value in (score.precision, score.recall, score.f1))
        table.add_row(score.label, *numbers, f"{score.support:,}")
    return table


def prediction(
    title: str,
    image: np.ndarray | None,
    labels: Sequence[str],
    outputs: np.ndarray,
    truth: str | None,
) -> None:
    """Show a sample, the outputs as bars and the answer.

    Parameters
    ----------
    image : array, shape (height, width), or None
        Grey values from 0 to 1, drawn with half-block characters; None where there is no image.
    outputs : array, shape (k,)
    truth : str or None
        The label, where it is known.
    """
    out = console()
    answer = int(np.argmax(outputs))
    verdict = Text(f"answer: {labels[answer]}", style="bold")
    if truth is not None:
        right = truth == labels[answer]
        verdict.append(f"  (truth: {truth})", style="green" if right else "red")
    bars = _bars(labels, outputs, width=24)
    coloured = out.color_system is not None and not out.no_color
    grid = Table.grid(padding=(0, 4))
    numbers = 34 + max(map(len, labels))  # columns that the bars take
    if image is not None and image.shape[1] + 4 + numbers <= out.width:
        grid.add_row(half_blocks(image, coloured=coloured), Group(verdict, Text(), bars))
    else:
        grid.add_row(Group(verdict, Text(), bars))
    out.print(Text(title, style="cyan"))
    out.print(grid)
    out.print()


def _bars(labels: Sequence[str], outputs: np.ndarray, width: int) -> Text:
    shown = np.argsort(outputs)[::-1][:10] if len(labels) > 10 else range(len(labels))
    margin = max(len(labels[i]) for i in shown)
    text = Text()
    for i in shown:
        filled = round(width * min(max(float(outputs[i]), 0.0), 1.0))
        style = "bold green" if i == int(np.argmax(outputs)) else ""
        text.append(f"{labels[i]:>{margin}} ")
        text.append("█" * filled + "·" * (width - filled), style=style)
        text.append(f" {outputs[i]:.3f}\n")
    text.rstrip()
    return text


def half_blocks(image: np.ndarray, *, coloured: bool) -> Text:
    """Draw grey values 0…1, two rows of pixels a line of text."""
    height, width = image.shape
    if height % 2:
        image = np.vstack([image, np.zeros((1, width))])
    text = Text(no_wrap=True)
    for upper, lower in zip(image[::2], image[1::2], strict=True):
        for a, b in zip(upper, lower, strict=True):
            if coloured:
                grey = [round(255 * min(max(float(v), 0.0), 1.0)) for v in (a, b)]
                style = f"rgb({grey[0]},{grey[0]},{grey[0]}) on rgb({grey[1]},{grey[1]},{grey[1]})"
                text.append("▀", style=style)
            else:
                text.append(" ▄▀█"[2 * (a >= 0.5) + (b >= 0.5)])
        text.append("\n")
    text.rstrip()
    return text


# --- tables -------------------------------------------------------------------------------


def recipes(settings: dict[str, dict[str, Any]], abouts: dict[str, str]) -> None:
    """Every recipe's settings, a column a recipe."""
    out = console()
    table = Table(box=None, pad_edge=False)
    table.add_column("setting", style="cyan")
    for name in settings:
        table.add_column(name, justify="right")
    for key in next(iter(settings.values())):
        table.add_row(key, *(_plain(columns[key]) for columns in settings.values()))
    out.print(table)
    out.print()
    for name, about in abouts.items():
        out.print(Text.assemble((f"{name:>8}", "bold"), f"  {about}"))


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def devices(rows: Sequence[tuple[str, Sequence[str]]]) -> None:
    """Every device with what is known of it, or what is missing for one."""
    out = console()
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, lines in rows:
        grid.add_row(name, Text("\n".join(lines)))
    out.print(grid)

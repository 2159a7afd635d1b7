"""Everything a person sees in the terminal. Handed results, it never trains.

A training is shown by one of four views with the same methods: `TerminalView` (rich, live),
`PlainView` (a pipe or a file: plain lines), `JsonView` (one object an event) and `QuietView`.
A benchmark and a sweep are shown by `JsonView` or by the other two's variants with a table.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import sys
from collections.abc import Sequence
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.cells import cell_len
from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from .plain_text import one_line

if TYPE_CHECKING:
    from .benchmarking import Measurement
    from .explain import Backquery, IncomingWeights, Trace
    from .gradients import GradientCheck
    from .metrics import ClassScore, Evaluation
    from .sweeping import Outcome, Standing
    from .training import BatchProgress, EpochReport
    from .training.minimize import IterationReport

_WIDEST_CONFUSION = 12  # classes that fit 80 columns
_MOST_UNITS = 20  # of a layer that get a row each
_MOST_LABELS = 6  # run backwards that get a column each
_LONGEST_STANDINGS = 20


class _Console(Console):
    """Shows every string as it stands: a label may look like markup, an emoji code or an escape."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:  # of tables' cells and headers too
        return super().render_str(one_line(text), **options)

    def on_broken_pipe(self) -> None:
        raise  # rich would end the program with a training unsaved


def console() -> Console:
    """The terminal on stdout, or plain text where it is none."""
    return _Console(soft_wrap=not sys.stdout.isatty())


def line(text: str = "") -> None:
    """Print one line on stdout, as wide as it is."""
    print(one_line(text), flush=True)


def _text(words: str, style: str = "") -> Text:
    # rich passes an escape on, and drops other control characters
    return Text(one_line(words), style=style)


def _width(label: str) -> int:
    return cell_len(one_line(label))


def abandon_stdout() -> None:
    """Send what is yet to be shown nowhere, because nobody reads it any more."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def error(message: str) -> None:
    """One line on stderr, if anybody reads that."""
    with contextlib.suppress(OSError):
        _Console(stderr=True, soft_wrap=True).print(
            Text.assemble(("error: ", "bold red"), _text(message))
        )


def note(message: str) -> None:
    """One line on stderr that is no error."""
    with contextlib.suppress(OSError):
        _Console(stderr=True, soft_wrap=True).print(_text(message))


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

    def iteration(self, report: IterationReport) -> None:
        """An iteration of a full-batch training is over."""

    def training_report(self, result: Evaluation) -> None:
        """What a full-batch training has made of its training samples."""

    def measurement(self, measurement: Measurement) -> None:
        """A case of a benchmark has a new median."""

    def preparing(self) -> None:
        """It takes a moment until the start."""

    def outcome(self, outcome: Outcome) -> None:
        """A run of a sweep is over."""

    def standings(self, standings: Sequence[Standing]) -> None:
        """What all runs of a sweep have come to, the best first; not after each."""

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

    def iteration(self, report: IterationReport) -> None:
        self._event("iteration", dataclasses.asdict(report))

    def training_report(self, result: Evaluation) -> None:
        scores = [dataclasses.asdict(score) for score in [*result.classes, *result.averages]]
        self._event("training_report", {"accuracy": result.accuracy, "classes": scores})

    def measurement(self, measurement: Measurement) -> None:
        self._event("measurement", dataclasses.asdict(measurement))

    def outcome(self, outcome: Outcome) -> None:
        self._event("run", dataclasses.asdict(outcome))

    def end(self, lines: Sequence[str], result: dict[str, Any]) -> None:
        self._event("end", result)

    def failed(self, message: str, result: dict[str, Any]) -> None:
        self._event("failed", {"message": message} | result)


class PlainView(QuietView):
    """Plain lines without a control character."""

    def __init__(self) -> None:
        self._header = False

    def note(self, message: str) -> None:
        line(message)

    def start(self, facts: dict[str, str], config: dict[str, Any]) -> None:
        for name, text in facts.items():
            line(f"{name:>8}  {text}")

    def epoch(self, report: EpochReport) -> None:
        if not self._header:
            line(_epoch_header(report))
            self._header = True
        line(_epoch_row(report))

    def iteration(self, report: IterationReport) -> None:
        if not self._header:
            line(_iteration_header(report))
            self._header = True
        line(_iteration_row(report))

    def training_report(self, result: Evaluation) -> None:
        out = console()
        out.print()
        out.print(_text("classification report on the training samples", "cyan"))
        out.print(_report(result.classes, result.averages))
        out.print()

    def end(self, lines: Sequence[str], result: dict[str, Any]) -> None:
        for text in lines:
            line(text)


class TerminalView(PlainView):
    """Rich: a live bar below the rows of the epochs."""

    def __init__(self) -> None:
        super().__init__()
        self._console = console()
        self._bar = Progress(
            TextColumn("{task.description}", style="bold", markup=False),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[text]}", markup=False),
            console=self._console,
            transient=True,
            expand=True,
            speed_estimate_period=0,  # which nothing shows, and would keep a sample an epoch
        )
        self._task = self._bar.add_task("", total=None, text="", visible=False)
        self._last: BatchProgress | None = None

    def _show(self, description: str, done: int, total: int | None, text: str) -> None:
        self._bar.update(
            self._task,
            description=one_line(description),
            completed=done,
            total=total,
            text=text,
            visible=True,
        )
        self._bar.start()

    def note(self, message: str) -> None:
        self._console.print(_text(message, "yellow"))

    def downloading(self, file: str, done: int, total: int) -> None:
        self._show(file, done, total, f"{done / 1e6:.1f} of {total / 1e6:.1f} MB")

    def start(self, facts: dict[str, str], config: dict[str, Any]) -> None:
        grid = Table.grid(padding=(0, 2))
        grid.add_column(justify="right", style="cyan", no_wrap=True)
        grid.add_column(overflow="fold")
        for name, text in facts.items():
            grid.add_row(name, _text(text))
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
            self._console.print(_text(_epoch_header(report), "bold"))
            self._header = True
        self._console.print(_text(_epoch_row(report)))
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

    def iteration(self, report: IterationReport) -> None:
        if not self._header:
            self._console.print(_text(_iteration_header(report), "bold"))
            self._header = True
        self._console.print(_text(_iteration_row(report)))
        done, total = report.iteration, report.iterations
        self._show(f"iteration {done}/{total}", done, total, f"loss {report.train_loss:.4f}")

    def training_report(self, result: Evaluation) -> None:
        self._bar.stop()
        super().training_report(result)

    def end(self, lines: Sequence[str], result: dict[str, Any]) -> None:
        self.close()
        self._console.print()
        body = Text("\n").join([_text(lines[0], "bold green"), *map(_text, lines[1:])])
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


def _iteration_header(report: IterationReport) -> str:
    validation = "  validation" if report.validation_accuracy is not None else ""
    return (
        f"{'iteration':>9}  {'evaluations':>11}  {'loss':>9}  {'training':>9}  {'test':>9}"
        f"{validation}  {'seconds':>8}"
    )


def _iteration_row(report: IterationReport) -> str:
    test = "-" if report.test_accuracy is None else percent(report.test_accuracy)
    validation = (
        "" if report.validation_accuracy is None else f"  {percent(report.validation_accuracy):>10}"
    )
    return (
        f"{report.iteration:>9}  {report.evaluations:>11}  {report.train_loss:>9.6f}"
        f"  {percent(report.train_accuracy):>9}  {test:>9}{validation}"
        f"  {three_digits(report.seconds):>8}"
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
        running = f"round {measurement.rounds}; Ctrl-C ends it with what has been measured"
        parts = Group(_measurements(shown), Text(), _text(running, "cyan"))
        self._live.update(parts, refresh=True)

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
            _text(f"{m.samples_per_second:,.0f}", "bold"),
            f"{slowest:+.0f} … {fastest:+.0f} %",
            f"{'~' if m.scaled else ''}{three_digits(m.epoch_seconds)}",
            three_digits(m.gflops),
            three_digits(m.percent_of_matmul),
        )
    return table


def three_digits(value: float) -> str:
    """0.0123, 1.23, 1,234."""
    return f"{value:,.{max(0, 2 - math.floor(math.log10(value)))}f}"


# --- a sweep ------------------------------------------------------------------------------


class PlainSweepView(PlainView):
    """Plain lines, one a run, and the table at the end."""

    def __init__(self) -> None:
        super().__init__()
        self._runs = self._finished = 0
        self._ranked_by = ""
        self._standings: Sequence[Standing] = ()

    def start(self, facts: dict[str, str], config: dict[str, Any]) -> None:
        self._runs, self._finished = config["runs"], config["finished"]
        self._ranked_by = config["ranked_by"]
        super().start(facts, config)

    def outcome(self, outcome: Outcome) -> None:
        self._finished += 1
        where = [f"{_option(name)} {_plain(value)}" for name, value in outcome.values.items()]
        accuracy = getattr(outcome, self._ranked_by)
        text = outcome.status if accuracy is None else percent(accuracy)
        counted = f"{self._finished:>{len(str(self._runs))}}/{self._runs}"
        line(f"{counted}  {', '.join([*where, f'seed {outcome.seed}'])}: {text}")

    def standings(self, standings: Sequence[Standing]) -> None:
        self._standings = standings

    def end(self, lines: Sequence[str], result: dict[str, Any]) -> None:
        if self._standings:
            out = console()
            out.print()
            out.print(_standings(self._standings, self._ranked_by))
            out.print()
        super().end(lines, result)


class TerminalSweepView(TerminalView):
    """Rich: a table of the best and a bar, while it runs."""

    def __init__(self) -> None:
        super().__init__()
        self._live: Live | None = None
        self._runs = self._before = self._finished = 0
        self._ranked_by = ""
        self._standings: Sequence[Standing] = ()

    def start(self, facts: dict[str, str], config: dict[str, Any]) -> None:
        super().start(facts, config)
        self._runs = config["runs"]
        self._before = self._finished = config["finished"]
        self._ranked_by = config["ranked_by"]
        self._since = perf_counter()
        self._show("running", self._finished, self._runs, "processes are being started")

    def preparing(self) -> None:
        self._show("preparing", 0, None, "kernels are compiled on the first start")

    def outcome(self, outcome: Outcome) -> None:
        self._finished += 1

    def standings(self, standings: Sequence[Standing]) -> None:
        self._standings = standings
        if self._live is None:
            self._bar.stop()
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.start()
        fitting = max(1, min(_LONGEST_STANDINGS, self._console.height - 6))
        now, left = self._finished - self._before, self._runs - self._finished
        text = f"{self._finished:,} of {self._runs:,} runs"
        if now and left:
            text += f"  {_duration((perf_counter() - self._since) / now * left)} left"
        self._bar.update(
            self._task, description="running", completed=self._finished, total=self._runs, text=text
        )
        table = _standings(standings, self._ranked_by, fitting)
        self._live.update(Group(table, Text(), self._bar.get_renderable()), refresh=True)

    def end(self, lines: Sequence[str], result: dict[str, Any]) -> None:
        self.close()
        if self._standings:
            self._console.print(_standings(self._standings, self._ranked_by))
        super().end(lines, result)

    def close(self) -> None:
        super().close()
        if self._live is not None:
            self._live.stop()


def sweep_view(*, as_json: bool) -> QuietView:
    """Choose how a sweep is shown: as asked for, else by what stdout is."""
    if as_json:
        return JsonView()
    return TerminalSweepView() if sys.stdout.isatty() else PlainSweepView()


def _standings(
    standings: Sequence[Standing], ranked_by: str, most: int = _LONGEST_STANDINGS
) -> Table:
    held_out = ranked_by == "validation_accuracy"
    headers = [_option(name) for name in standings[0].values]
    several = any(s.runs > 1 for s in standings)
    headers += ["held-out" if held_out else "test", *["±"] * several, *["test"] * held_out]
    table = _table(*headers, "loss", "seconds", "runs")
    for place, s in enumerate(standings[:most]):
        style = "bold green" if place == 0 else ""
        cells = [_plain(value) for value in s.values.values()]
        cells.append("diverged" if s.accuracy is None else percent(s.accuracy))
        if several:
            cells.append("" if s.deviation is None else f"{100 * s.deviation:.2f}")
        if held_out:
            cells.append("" if s.test_accuracy is None else percent(s.test_accuracy))
        cells.append("" if s.train_loss is None else _loss(s.train_loss))
        runs = f"{s.runs - s.diverged} of {s.runs}" if s.diverged else str(s.runs)
        cells += [three_digits(s.seconds) if s.seconds else "", runs]
        table.add_row(*(_text(cell, style) for cell in cells))
    if len(standings) > most:
        table.add_row("…", *[""] * (len(table.columns) - 2), f"{len(standings) - most:,} more")
    return table


def _loss(loss: float) -> str:
    return f"{loss:.6f}" if loss < 1000 else f"{loss:.3g}"


def _option(name: str) -> str:
    return name.replace("_", " ")


# --- answers ------------------------------------------------------------------------------


def evaluation(title: str, result: Evaluation) -> None:
    """Accuracy, the confusion matrix (or the worst confusions of many classes) and the report."""
    out = console()
    right = int(np.trace(result.confusion))
    total = int(result.confusion.sum())
    out.print(_text(title, "cyan"))
    out.print(_text(f"accuracy {percent(result.accuracy)}: {right:,} of {total:,}", "bold"))
    out.print()
    labels = [score.label for score in result.classes]
    if len(labels) <= _WIDEST_CONFUSION and max(map(_width, labels)) <= 5:
        out.print(_text("confusion matrix: rows the truth, columns the answers", "cyan"))
        out.print(_confusion_matrix(labels, result.confusion))
    else:
        out.print(_text("most frequent confusions", "cyan"))
        out.print(_worst_confusions(labels, result.confusion))
    out.print()
    out.print(_text("classification report", "cyan"))
    out.print(_report(result.classes, result.averages))


def _table(*headers: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for number, header in enumerate(headers):
        style = "cyan" if number == 0 else ""
        table.add_column(header, justify="right", style=style, overflow="fold")
    return table


def _confusion_matrix(labels: Sequence[str], confusion: np.ndarray) -> Table:
    table = _table("", *labels)
    for row, label in enumerate(labels):
        cells = [
            _text(str(count), "bold green" if row == column else "red" if count else "dim")
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
    verdict = _text(f"answer: {labels[answer]}", "bold")
    if truth is not None:
        right = truth == labels[answer]
        verdict.append(_text(f"  (truth: {truth})", "green" if right else "red"))
    bars = _bars(labels, outputs, width=24, most=max(0, out.width - 34))
    coloured = out.color_system is not None and not out.no_color
    grid = Table.grid(padding=(0, 4))
    numbers = 34 + max(map(_width, labels))  # columns that the bars take
    if image is not None and image.shape[1] + 4 + numbers <= out.width:
        grid.add_row(half_blocks(image, coloured=coloured), Group(verdict, Text(), bars))
    else:
        grid.add_column(overflow="fold")
        grid.add_row(Group(verdict, Text(), bars))
    out.print(_text(title, "cyan"))
    out.print(grid)
    out.print()


def _bars(labels: Sequence[str], outputs: np.ndarray, width: int, most: int) -> Text:
    """Draw the outputs as bars; `most` columns stand before them, more where a label is longer."""
    shown = np.argsort(outputs)[::-1][:10] if len(labels) > 10 else range(len(labels))
    margin = min(most, max(_width(labels[i]) for i in shown))
    text = Text()
    for i in shown:
        filled = round(width * min(max(float(outputs[i]), 0.0), 1.0))
        style = "bold green" if i == int(np.argmax(outputs)) else ""
        text.append(" " * max(0, margin - _width(labels[i])))
        text.append(_text(f"{labels[i]} "))
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


# --- inside a network -----------------------------------------------------------------------


def walk(
    title: str,
    about: dict[str, str],
    trace: Trace,
    image: np.ndarray | None,
    classes: Sequence[str],
) -> None:
    """One sample's way through a network and one update by it, a table a stage.

    Parameters
    ----------
    about : dict
        What it is a walk through, a line each.
    image : array, shape (height, width), or None
        Grey values from 0 to 1.
    classes : sequence of str
        The labels, in the order of their codes.
    """
    out = console()
    out.print(_text(title, "cyan"))
    facts(about)
    _heading(out, f"the sample: {classes[trace.label]}")
    vectors = {"value": trace.values, "input x": trace.inputs}
    if image is None and len(trace.values) <= _MOST_UNITS:
        _units(out, vectors, [str(feature) for feature in range(len(trace.values))], head="feature")
        out.print()
        vectors = {}
    table = _vectors(vectors | {"target t": trace.targets})
    if image is not None and image.shape[1] + 52 <= out.width:
        grid = Table.grid(padding=(0, 2))
        grid.add_row(half_blocks(image, coloured=_is_coloured(out)), table)
        out.print(grid)
    else:
        out.print(table)
    last = trace.layers[-1]
    for layer in trace.layers:
        n, names = layer.sub, classes if layer is last else None
        formula = f"z{n} = {layer.sums_formula}, a{n} = {layer.function}(z{n})"
        _heading(out, f"layer {layer.number} forward: {formula}")
        inputs = {f"input {layer.inputs_name}": layer.inputs}
        outputs = {f"sum z{n}": layer.sums, f"output a{n}": layer.outputs}
        if layer is last:
            outputs["target t"] = trace.targets
        _units(out, outputs, names, inputs)
    verdict = _text(f"answer: {classes[trace.answer]}", "bold")
    right = trace.answer == trace.label
    verdict.append(_text(f"  (truth: {classes[trace.label]})", "green" if right else "red"))
    out.print(verdict)
    for layer in reversed(trace.layers):
        formula = trace.error_formula(layer.number)
        _heading(out, f"layer {layer.number} backward: {formula}")
        n, names = layer.sub, classes if layer is last else None
        _units(out, {f"error e{n}": layer.errors, f"δ{n}": layer.deltas}, names)
    _heading(out, f"one update: W ← W − {trace.learning_rate:g} aᵀ δ")
    arrays = {}
    for layer in trace.layers:
        arrays[f"W{layer.sub}"] = (layer.W, layer.W_after, layer.W_change)
        if layer.b is not None and layer.b_after is not None and layer.b_change is not None:
            arrays[f"b{layer.sub}"] = (layer.b, layer.b_after, layer.b_change)
    table = _table("weights", "shape", "smallest", "mean", "largest", "deviation", "histogram")
    for name, arrays_of in arrays.items():
        for when, array in zip(("before", "after", "change"), arrays_of, strict=True):
            first = when == "before"
            table.add_row(
                f"{name} {when}" if first else when,
                "×".join(map(str, array.shape)) if first else "",
                *_numbers(
                    array.min(),
                    array.mean(dtype=np.float64),
                    array.max(),
                    array.std(dtype=np.float64),
                    digits=3,
                ),
                _histogram(array),
            )
    out.print(table)
    _heading(out, f"after the update: loss {trace.loss:.4g} → {trace.loss_after:.4g}")
    answers = {
        "before": trace.outputs,
        "after": trace.outputs_after,
        "change": trace.outputs_after - trace.outputs,
        "target t": trace.targets,
    }
    _units(out, answers, classes)
    out.print(_text("the run's own weights are as they were", "dim"))
    out.print()


def _heading(out: Console, text: str) -> None:
    out.print()
    out.print(_text(text, "bold cyan"))


def _is_coloured(out: Console) -> bool:
    return out.color_system is not None and not out.no_color


def _numbers(*values: float, digits: int = 4) -> list[str]:
    return [f"{float(value):.{digits}g}" for value in values]


def _vectors(vectors: dict[str, np.ndarray]) -> Table:
    """How many numbers a vector has and where they lie."""
    table = _table("", "numbers", "smallest", "mean", "largest")
    for name, vector in vectors.items():
        wide = vector.astype(np.float64)
        table.add_row(name, f"{wide.size:,}", *_numbers(wide.min(), wide.mean(), wide.max()))
    return table


def _units(
    out: Console,
    vectors: dict[str, np.ndarray],
    names: Sequence[str] | None,
    whole: dict[str, np.ndarray] | None = None,
    *,
    head: str = "class",
) -> None:
    """Print vectors of one layer, a row a unit where there are few; `whole` in one row anyway."""
    units = len(next(iter(vectors.values())))
    if units > _MOST_UNITS:
        out.print(_vectors((whole or {}) | vectors))
        return
    if whole:
        out.print(_vectors(whole))
        out.print()
    table = _table("unit" if names is None else head, *vectors)
    for unit in range(units):
        numbers = _numbers(*(vector[unit] for vector in vectors.values()))
        table.add_row(str(unit) if names is None else names[unit], *numbers)
    out.print(table)


def _histogram(array: np.ndarray, bins: int = 12) -> str:
    """How many of the numbers lie where, between the smallest and the largest."""
    counts, _ = np.histogram(array, bins)
    levels = np.ceil(8 * counts / max(counts.max(), 1)).astype(int)
    return "".join(" ▁▂▃▄▅▆▇█"[level] for level in levels)


def backquery(
    title: str,
    result: Backquery,
    pictures: Sequence[np.ndarray | None],
    classes: Sequence[str],
) -> None:
    """What labels look like to a network, and what it answers to these looks.

    Parameters
    ----------
    pictures : sequence of arrays, shape (height, width), or None
        One a label; grey values from 0 to 1, None where the features are no image.
    classes : sequence of str
        The labels, in the order of their codes.
    """
    out = console()
    out.print(_text(title, "cyan"))
    names = [classes[code] for code in result.labels]
    _gallery(out, names, pictures)
    features = result.values.shape[1]
    if pictures[0] is None and features <= _MOST_UNITS and len(names) <= _MOST_LABELS:
        rows = [str(feature) for feature in range(features)]
        _units(out, dict(zip(names, result.values, strict=True)), rows, head="feature of")
        out.print()
    table = _table("label", "smallest", "mean", "largest value", "asked forwards", "output")
    for name, values, outputs in zip(names, result.values, result.outputs, strict=True):
        known = values[np.isfinite(values)]
        # what is but rounding beside the largest is 0
        known = np.where(np.abs(known) < 1e-6 * np.abs(known).max(initial=0), 0, known)
        numbers = _numbers(known.min(), known.mean(), known.max()) if known.size else ["–"] * 3
        answer = int(np.argmax(outputs))
        table.add_row(name, *numbers, classes[answer], f"{outputs[answer]:.3f}")
    out.print(table)
    out.print()


def incoming_weights(
    title: str, result: IncomingWeights, pictures: Sequence[np.ndarray | None]
) -> None:
    """How long the incoming weights of units are, and as many units as fit in a row.

    Parameters
    ----------
    pictures : sequence of arrays, shape (height, width)
        One a unit; grey values from 0 to 1, the middle for zero.
    """
    out = console()
    out.print(_text(title, "cyan"))
    order = np.argsort(-result.norms, kind="stable")
    ends = order if len(order) <= 6 else np.concatenate([order[:3], order[-3:]])
    fitting = max(1, out.width // (pictures[0].shape[1] + 2)) if pictures[0] is not None else 0
    if _is_coloured(out):
        names = [f"unit {result.units[i]}" for i in ends]
        _gallery(out, names[:fitting], [pictures[i] for i in ends[:fitting]])
    table = _table("unit", "norm", "smallest", "mean", "largest", "histogram")
    for place, i in enumerate(ends):
        if place == 3 and len(order) > 6:
            table.add_row("…")
        weights = result.weights[i]
        table.add_row(
            str(result.units[i]),
            *_numbers(result.norms[i], weights.min(), weights.mean(), weights.max()),
            _histogram(weights),
        )
    out.print(table)
    out.print(_text("norm: the Euclidean length; longest first", "dim"))
    out.print()


def _gallery(out: Console, names: Sequence[str], pictures: Sequence[np.ndarray | None]) -> None:
    """Pictures with their names, as many in a row as fit; none where not even one fits."""
    drawn = [(name, picture) for name, picture in zip(names, pictures, strict=True)]
    widest = max((p.shape[1] for _, p in drawn if p is not None), default=0)
    columns = out.width // (widest + 2) if widest else 0
    if not columns:
        return
    coloured = _is_coloured(out)
    for start in range(0, len(drawn), columns):
        grid = Table.grid(padding=(0, 2))
        row = [(name, p) for name, p in drawn[start : start + columns] if p is not None]
        for _ in row:
            grid.add_column(overflow="fold")
        grid.add_row(*(_text(name, "bold") for name, _ in row))
        # in two shades only, what stands out is drawn and not the noise around it
        grid.add_row(
            *(
                half_blocks(p if coloured else p > p.mean() + p.std(), coloured=coloured)
                for _, p in row
            )
        )
        out.print(grid)
        out.print()


# --- a gradient check ---------------------------------------------------------------------


def gradient_check(
    title: str, source: str, result: GradientCheck, tolerance: float, verdict: str
) -> None:
    """Show each array's difference from the central differences, and what it means."""
    out = console()
    out.print(_text(title, "cyan"))
    redrawn = f", {result.redrawn:,} more passed over at a kink" if result.redrawn else ""
    out.print(_text(f"float64, step {result.step:g}, {result.samples:,} {source}{redrawn}"))
    out.print()
    table = _table("layer", "array", "shape", "checked", "‖a−n‖/max(‖a‖,‖n‖)", "")
    last = result.arrays[-1].layer
    for array in result.arrays:
        total = math.prod(array.shape)
        right = array.is_gradient == array.expected
        table.add_row(
            f"{'output' if array.layer == last else 'hidden'} {array.layer}",
            array.name,
            "×".join(map(str, array.shape)),
            f"all {total:,}" if array.checked == total else f"{array.checked:,} of {total:,}",
            _text(f"{array.difference:.2e}", "bold"),
            _text(
                f"{'a' if array.is_gradient else 'no'} gradient{'' if right else ', wrongly'}",
                style="green" if right else "red",
            ),
        )
    out.print(table)
    out.print()
    style = "bold green" if result.as_expected else "bold red"
    out.print(_text(f"{verdict}.", style))
    if any(array.checked < math.prod(array.shape) for array in result.arrays):
        out.print(_text("Varied are numbers drawn at random; --all varies every one.", "dim"))


# --- tables -------------------------------------------------------------------------------


def recipes(settings: dict[str, dict[str, Any]], abouts: dict[str, str]) -> None:
    """Every recipe's settings: all of the first one's, and of the others what is different."""
    out = console()
    first = next(iter(settings))
    for name, about in abouts.items():
        grid = Table.grid(padding=(0, 2))
        grid.add_column(style="cyan", no_wrap=True, min_width=17)
        grid.add_column(overflow="fold")
        for key, value in settings[name].items():
            if name == first or value != settings[first][key]:
                grid.add_row(f"  {key}", _text(_plain(value)))
        out.print(_text(name, "bold"))
        out.print(_text(f"  {about}"))
        if name != first:
            out.print(_text(f"  as {first}, but for", "dim"))
        out.print(grid)
        out.print()


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, tuple):
        return "-".join(map(str, value)) or "none"
    if value is None:
        return "–"
    return f"{value:g}" if isinstance(value, float) else str(value)


def facts(lines: dict[str, str]) -> None:
    """What there is to say, a line each."""
    out = console()
    if not out.is_terminal:
        for name, text in lines.items():
            line(f"{name:>8}  {text}")
        return
    grid = Table.grid(padding=(0, 2))
    grid.add_column(justify="right", style="cyan", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, text in lines.items():
        grid.add_row(name, _text(text))
    out.print(grid)


def curves(runs: Sequence[tuple[str, str, Sequence[dict[str, Any]]]]) -> None:
    """How each run ended: its folder, what it does not share with the others, its metrics."""
    table = Table(box=None, pad_edge=False)
    table.add_column("run", style="cyan", overflow="fold")
    for name in ("epochs", "loss", "test"):
        table.add_column(name, justify="right", no_wrap=True)
    if len(runs) > 1:
        table.add_column("what differs", overflow="fold")
    for path, label, metrics in runs:
        last = metrics[-1]
        accuracy = last.get("test_accuracy")
        test = "-" if accuracy is None else percent(accuracy)
        table.add_row(path, str(len(metrics)), f"{last['train_loss']:.6f}", test, _text(label))
    console().print(table)


def devices(rows: Sequence[tuple[str, Sequence[str]]]) -> None:
    """Every device with what is known of it, or what is missing for one."""
    out = console()
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, lines in rows:
        grid.add_row(name, Text("\n").join(map(_text, lines)))
    out.print(grid)

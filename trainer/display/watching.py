"""A training shown while a program of one's own runs it, in a notebook, a terminal or a pipe."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import closing
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeVar

from .. import html
from . import reports
from .formats import duration
from .views import PlainView, QuietView, TerminalView

if TYPE_CHECKING:
    from ..training import BatchProgress, EpochReport

_Report = TypeVar("_Report")
_SECONDS = 0.2  # at least between two updates of a cell
_ROWS = 12  # of the last epochs
_BARS = "▁▂▃▄▅▆▇█"
_WIDEST = 16  # epochs in the curve of a terminal


def watch(training: Iterable[_Report]) -> Iterator[_Report]:
    """Show a training while it runs: a bar, a row for each epoch, and curves.

    In a notebook they stand in the cell's output, where nothing needs to be installed for it; in a
    terminal they are its lines; in a pipe there are the rows only.

    Parameters
    ----------
    training : Training, or another iterable of its reports
        What `fit` returns.

    Yields
    ------
    BatchProgress or EpochReport
        The same reports, unchanged.

    Examples
    --------
    >>> from trainer import MLP, fit, load, watch
    >>> data = load("digits")
    >>> model = MLP([64, 100, 10], backend="cpu", scale=0.99 / 16)
    >>> for report in watch(fit(model, data.train_x, data.train_y)):
    ...     pass
    """
    view: QuietView
    if (show := _notebook()) is not None:
        view = _CellView(show, getattr(getattr(training, "course", None), "epochs", 0))
    else:
        view = _WatchedTerminal() if sys.stdout.isatty() else PlainView()
    with closing(view):  # also where the loop is left, or the cell interrupted
        for report in training:
            shown: Any = report
            if hasattr(report, "samples"):
                view.progress(shown)
            else:
                view.epoch(shown)
            yield report


def _notebook() -> Any:
    """Return what shows an object in a cell and gives it a handle; None outside of notebooks."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if not hasattr(shell, "kernel"):  # as a terminal's shell is
        return None
    from IPython.display import display

    return display


class _WatchedTerminal(TerminalView):
    """Adds the losses of the last epochs to the bar, as a curve of one line."""

    def __init__(self) -> None:
        super().__init__()
        self._losses: list[float] = []

    def epoch(self, report: EpochReport) -> None:
        self._losses.append(report.train_loss)
        super().epoch(report)

    def _show(self, description: str, done: int, total: int | None, text: str) -> None:
        curve = curve_text(self._losses[-_WIDEST:])
        super()._show(description, done, total, f"{text}  {curve}".rstrip())


def curve_text(values: list[float]) -> str:
    """Return a bar a number, the lowest of them for the smallest: ▇▄▂▁."""
    low, high = min(values, default=0.0), max(values, default=0.0)
    steps = (len(_BARS) - 1) / ((high - low) or 1.0)
    return "".join(_BARS[round((value - low) * steps)] for value in values)


class _CellView(QuietView):
    """Keeps a cell's output up to date; what it shows last stays there."""

    def __init__(self, show: Any, epochs: int) -> None:
        self._epochs, self._last = epochs, 0.0
        self._history: list[EpochReport] = []
        self._rows: deque[list[reports.Cell]] = deque(maxlen=_ROWS)
        self._stands, self._done = "preparing", 0.0
        self._handle = show(self, display_id=True)

    def __repr__(self) -> str:
        head = [[(width, name) for name, width, _ in row] for row in [*self._rows][:1]]
        rows = [[(width, value) for _, width, value in row] for row in self._rows]
        lines = ["  ".join(f"{text:>{width}}" for width, text in row) for row in [*head, *rows]]
        return "\n".join([self._stands, *lines])

    def _repr_html_(self) -> str:
        names = [name for name, _, _ in self._rows[-1]] if self._rows else []
        cells = [[value for _, _, value in row] for row in self._rows]
        if len(self._history) > len(cells):
            cells.insert(0, ["…", *[""] * (len(names) - 1)])
        table = html.table(cells, names) if cells else html.Markup("")
        curves = html.training_curves(self._history)
        return html.block(self._stands, html.bar(self._done), curves, table)

    def progress(self, report: BatchProgress) -> None:
        self._epochs = report.epochs
        part = report.samples / report.total
        left = (report.epochs - report.epoch + 1 - part) * report.total
        self._update(
            f"epoch {report.epoch:,} of {report.epochs:,},"
            f" {report.samples_per_second:,.0f} samples/s, loss {report.train_loss:.4g},"
            f" {duration(left / report.samples_per_second)} left",
            (report.epoch - 1 + part) / report.epochs,
        )

    def epoch(self, report: EpochReport) -> None:
        self._history.append(report)
        self._rows.append(reports.epoch_cells(report))
        of = f" of {self._epochs:,}" if self._epochs else ""
        self._update(f"epoch {report.epoch:,}{of}", report.epoch / max(self._epochs, report.epoch))

    def _update(self, stands: str, done: float) -> None:
        self._stands, self._done = stands, done
        if (now := perf_counter()) > self._last + _SECONDS:
            self._last = now
            self._handle.update(self)

    def close(self) -> None:
        if self._done < 1:
            self._stands += "; stopped"
        self._handle.update(self)

"""Reports as rows and tables: of a training, of a benchmark, of a sweep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.table import Table

from ..plain_text import percent, value_text
from .formats import three_digits
from .tables import new_table
from .terminal import styled

if TYPE_CHECKING:
    from ..benchmarking import Measurement
    from ..sweep import Outcome, Standing
    from ..training import EpochReport
    from ..training.minimize import IterationReport

LONGEST_STANDINGS = 20

# columns of a training's rows that a narrow terminal goes without, the first one first
_OMITTED = ("samples/s", "evaluations", "seconds", "training")

Cell = tuple[str, int, str]  # a column's header and width, and the row's value


def fitting(cells: list[Cell], columns: int) -> list[Cell]:
    """Return the cells of a row that so many columns have room for, two spaces apart."""
    kept = list(cells)
    for name in _OMITTED:
        if sum(width + 2 for _, width, _ in kept) - 2 <= columns:
            break
        kept = [cell for cell in kept if cell[0] != name]
    return kept


def epoch_cells(report: EpochReport) -> list[Cell]:
    """Return the cells of an epoch's row."""
    return [
        ("epoch", 7, str(report.epoch)),
        ("loss", 9, f"{report.train_loss:.6f}"),
        *_accuracies(report),
        ("seconds", 8, three_digits(report.seconds)),
        ("samples/s", 10, f"{report.samples_per_second:,.0f}"),
    ]


def iteration_cells(report: IterationReport) -> list[Cell]:
    """Return the cells of the row of an iteration of a full-batch training."""
    return [
        ("iteration", 9, str(report.iteration)),
        ("evaluations", 11, str(report.evaluations)),
        ("loss", 9, f"{report.train_loss:.6f}"),
        ("training", 9, percent(report.train_accuracy)),
        *_accuracies(report),
        ("seconds", 8, three_digits(report.seconds)),
    ]


def _accuracies(report: EpochReport | IterationReport) -> list[Cell]:
    """Return the accuracies on samples that are not trained on."""
    test, validation = report.test_accuracy, report.validation_accuracy
    cells = [("test", 9, "-" if test is None else percent(test))]
    if validation is not None:
        cells.append(("validation", 10, percent(validation)))
    return cells


def measurements_table(measurements: Sequence[Measurement], *, narrow: bool = False) -> Table:
    """Return a row a case, the hidden sizes apart; a narrow table has the rates alone."""
    rates = ["samples/s", "spread", "epoch s", "GFLOP/s", "% matmul"]
    shown = [0, 2] if narrow else range(len(rates))
    table = new_table(["device", "hidden", "batch", *(rates[i] for i in shown)])
    for before, m in zip([measurements[0], *measurements], measurements, strict=False):
        if m.hidden != before.hidden:
            table.add_row()
        median = m.samples_per_second
        slowest, fastest = (100 * (rate / median - 1) for rate in (m.slowest, m.fastest))
        cells: list[RenderableType] = [
            styled(f"{median:,.0f}", "bold"),
            f"{slowest:+.0f} … {fastest:+.0f} %",
            f"{'~' if m.scaled else ''}{three_digits(m.epoch_seconds)}",
            three_digits(m.gflops),
            three_digits(m.percent_of_matmul),
        ]
        table.add_row(m.device, str(m.hidden), str(m.batch_size), *(cells[i] for i in shown))
    return table


def outcome_line(outcome: Outcome, ranked_by: str) -> str:
    """Return what was trained and the accuracy that it reached."""
    values = [f"{_spaced(name)} {value_text(value)}" for name, value in outcome.values.items()]
    accuracy = getattr(outcome, ranked_by)
    result = outcome.status if accuracy is None else percent(accuracy)
    return f"{', '.join([*values, f'seed {outcome.seed}'])}: {result}"


def standings_table(
    standings: Sequence[Standing],
    ranked_by: str,
    most: int = LONGEST_STANDINGS,
    *,
    narrow: bool = False,
) -> Table:
    """Return a row for each of the best combinations, and how many more there are.

    A narrow table leaves loss and seconds out.
    """
    held_out = ranked_by == "validation_accuracy"
    headers = [_spaced(name) for name in standings[0].values]
    several = any(s.runs > 1 for s in standings)
    headers += ["held-out" if held_out else "test", *["±"] * several, *["test"] * held_out]
    table = new_table([*headers, *["loss", "seconds"] * (not narrow), "runs"])
    for place, s in enumerate(standings[:most]):
        style = "bold green" if place == 0 else ""
        cells = [value_text(value) for value in s.values.values()]
        cells.append("diverged" if s.accuracy is None else percent(s.accuracy))
        if several:
            cells.append("" if s.deviation is None else f"{100 * s.deviation:.2f}")
        if held_out:
            cells.append("" if s.test_accuracy is None else percent(s.test_accuracy))
        if not narrow:
            cells.append("" if s.train_loss is None else _loss(s.train_loss))
            cells.append(three_digits(s.seconds) if s.seconds else "")
        cells.append(f"{s.runs - s.diverged} of {s.runs}" if s.diverged else str(s.runs))
        table.add_row(*(styled(cell, style) for cell in cells))
    if len(standings) > most:
        table.add_row("…", *[""] * (len(table.columns) - 2), f"{len(standings) - most:,} more")
    return table


def _loss(loss: float) -> str:
    return f"{loss:.6f}" if loss < 1000 else f"{loss:.3g}"


def _spaced(option: str) -> str:
    return option.replace("_", " ")

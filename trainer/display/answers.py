"""A network's answers: to labelled samples all together, and to one sample."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Group
from rich.table import Table
from rich.text import Text

from ..plain_text import percent
from .pictures import half_blocks
from .tables import new_table
from .terminal import console, is_coloured, styled, width

if TYPE_CHECKING:
    from ..metrics import Evaluation

_WIDEST_CONFUSION = 12  # classes that fit 80 columns


def evaluation(title: str, result: Evaluation) -> None:
    """Show accuracy, confusion matrix (of many classes the worst confusions) and the report."""
    out = console()
    right = int(np.trace(result.confusion))
    total = int(result.confusion.sum())
    out.print(styled(title, "cyan"))
    out.print(styled(f"accuracy {percent(result.accuracy)}: {right:,} of {total:,}", "bold"))
    out.print()
    labels = [score.label for score in result.classes]
    if len(labels) <= _WIDEST_CONFUSION and max(map(width, labels)) <= 5:
        out.print(styled("confusion matrix: rows the truth, columns the answers", "cyan"))
        out.print(_confusion_matrix(labels, result.confusion))
    else:
        out.print(styled("most frequent confusions", "cyan"))
        out.print(_worst_confusions(labels, result.confusion))
    out.print()
    out.print(styled("classification report", "cyan"))
    out.print(report_table(result))


def _confusion_matrix(labels: Sequence[str], confusion: np.ndarray) -> Table:
    table = new_table("", *labels)
    for row, label in enumerate(labels):
        cells = [
            styled(str(count), "bold green" if row == column else "red" if count else "dim")
            for column, count in enumerate(confusion[row])
        ]
        table.add_row(label, *cells)
    return table


def _worst_confusions(labels: Sequence[str], confusion: np.ndarray) -> Table:
    table = new_table("truth", "answer", "samples")
    wrong = confusion - np.diag(np.diag(confusion))
    for flat in np.argsort(wrong, axis=None)[::-1][:15]:
        row, column = np.unravel_index(flat, wrong.shape)
        if wrong[row, column]:
            table.add_row(labels[row], labels[column], str(wrong[row, column]))
    return table


def report_table(result: Evaluation) -> Table:
    """Return the classification report: a row a class, then the averages."""
    table = new_table("class", "precision", "recall", "F1", "support")
    for score in [*result.classes, *result.averages]:
        numbers = (f"{value:.4f}" for value in (score.precision, score.recall, score.f1))
        table.add_row(score.label, *numbers, f"{score.support:,}")
    return table


def verdict(answer: str, truth: str | None) -> Text:
    """Return the answer, and whether it is right where the truth is known."""
    text = styled(f"answer: {answer}", "bold")
    if truth is not None:
        text.append(styled(f"  (truth: {truth})", "green" if truth == answer else "red"))
    return text


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
        Grey values from 0 to 1, drawn with half-block characters; None if there is none.
    outputs : array, shape (k,)
    truth : str or None
        The label, where it is known.
    """
    out = console()
    bars = _bars(labels, outputs, columns=24, most=max(0, out.width - 34))
    answer = Group(verdict(labels[int(np.argmax(outputs))], truth), Text(), bars)
    grid = Table.grid(padding=(0, 4))
    numbers = 34 + max(map(width, labels))  # columns that the bars take
    if image is not None and image.shape[1] + 4 + numbers <= out.width:
        grid.add_row(half_blocks(image, coloured=is_coloured(out)), answer)
    else:
        grid.add_column(overflow="fold")
        grid.add_row(answer)
    out.print(styled(title, "cyan"))
    out.print(grid)
    out.print()


def _bars(labels: Sequence[str], outputs: np.ndarray, columns: int, most: int) -> Text:
    """Draw the outputs as bars; `most` columns stand before them, more where a label is longer."""
    shown = np.argsort(outputs)[::-1][:10] if len(labels) > 10 else range(len(labels))
    margin = min(most, max(width(labels[i]) for i in shown))
    text = Text()
    for i in shown:
        filled = round(columns * min(max(float(outputs[i]), 0.0), 1.0))
        style = "bold green" if i == int(np.argmax(outputs)) else ""
        text.append(" " * max(0, margin - width(labels[i])))
        text.append(styled(f"{labels[i]} "))
        text.append("█" * filled + "·" * (columns - filled), style=style)
        text.append(f" {outputs[i]:.3f}\n")
    text.rstrip()
    return text

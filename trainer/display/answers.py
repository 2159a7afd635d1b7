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
_WIDEST_ROW = 10_000  # columns of a table that is not in a terminal
_MOST_LISTED = 12  # answers that are counted in a line


def evaluation(title: str, result: Evaluation) -> None:
    """Show accuracy, confusion matrix (of many classes the worst confusions) and the report."""
    out = console(title)
    right, total = np.trace(result.confusion), result.confusion.sum()
    out.print(styled(f"accuracy {percent(result.accuracy)}: {right:,} of {total:,}", "bold"))
    out.print(styled(f"balanced accuracy {percent(result.balanced_accuracy)}"))
    answered = np.flatnonzero(result.confusion.sum(axis=0))
    if len(answered) == 1 < len(result.classes):
        only = result.classes[answered[0]]
        out.print(styled(one_answer_words(only.label, only.support / total), "red"))
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


def one_answer_words(label: str, share: float) -> str:
    """Return a line about a network that gives every sample the same answer, of that share."""
    return (
        f"every answer is {label}: the accuracy is only the share of that class, {percent(share)}"
    )


def _confusion_matrix(labels: Sequence[str], confusion: np.ndarray) -> Table:
    def cell(count: int, *, right: bool) -> Text:
        return styled(str(count), "bold green" if right else "red" if count else "dim")

    rows = (
        [label, *(cell(count, right=row == column) for column, count in enumerate(counts))]
        for row, (label, counts) in enumerate(zip(labels, confusion, strict=True))
    )
    return new_table(["", *labels], rows)


def _worst_confusions(labels: Sequence[str], confusion: np.ndarray) -> Table:
    wrong = confusion - np.diag(np.diag(confusion))
    worst = np.argsort(wrong, axis=None)[::-1][:15]
    places = np.stack(np.unravel_index(worst[wrong.flat[worst] > 0], wrong.shape), axis=1)
    rows = ([labels[row], labels[column], str(wrong[row, column])] for row, column in places)
    return new_table(["truth", "answer", "samples"], rows)


def report_table(result: Evaluation) -> Table:
    """Return the classification report: a row a class, then the averages."""
    rows = (
        [s.label, f"{s.precision:.4f}", f"{s.recall:.4f}", f"{s.f1:.4f}", f"{s.support:,}"]
        for s in [*result.classes, *result.averages]
    )
    table = new_table(["class", "precision", "recall", "F1", "support"], rows)
    for column in table.columns[1:]:  # the first one is broken where there is no room
        column.no_wrap, column.overflow = True, "ellipsis"
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
    """Show a sample, its outputs as bars, the answer and, where it is known, the truth.

    The image, if there is one, has grey values from 0 to 1, shape (height, width).
    """
    out = console(title)
    bars = _bars(labels, outputs, columns=24, most=max(0, out.width - 34))
    answer = Group(verdict(labels[int(np.argmax(outputs))], truth), Text(), bars)
    grid = Table.grid(padding=(0, 4))
    numbers = 34 + max(map(width, labels))  # columns that the bars take
    if image is not None and image.shape[1] + 4 + numbers <= out.width:
        grid.add_row(half_blocks(image, coloured=is_coloured(out)), answer)
    else:
        grid.add_column(overflow="fold")
        grid.add_row(answer)
    out.print(grid)
    out.print()


def answers(
    names: Sequence[str],
    labels: Sequence[str],
    outputs: np.ndarray,
    remarks: Sequence[str],
    asked: int,
) -> None:
    """Show the answers to pictures, a row each, and how many got which, of so many asked about."""
    out = console()
    order = np.argsort(-outputs, axis=1, kind="stable")
    table = Table(box=None, pad_edge=False)
    table.add_column("picture", style="cyan", overflow="fold")
    for header in ("answer", "output", "next", "output"):
        table.add_column(header, justify="right", overflow="fold")
    if has_remarks := any(remarks):
        table.add_column("remark", overflow="fold")
    for name, best, row, remark in zip(names, order, outputs, remarks, strict=True):
        cells = [name]
        for code in (best[:2]).tolist():
            cells += [labels[code], f"{row[code]:.3f}"]
        cells += [""] * (5 - len(cells))
        table.add_row(*cells, *([remark] if has_remarks else []))
    if out.soft_wrap:
        out.width = _WIDEST_ROW  # in a pipe or a file a row is a line, however long
    out.print(table)
    counts = np.bincount(order[:, 0], minlength=len(labels))
    frequent = np.argsort(-counts, kind="stable")[: np.count_nonzero(counts)].tolist()
    words = ", ".join(
        f"{counts[code]:,} {'is' if counts[code] == 1 else 'are'} {labels[code]}"
        for code in frequent[:_MOST_LISTED]
    )
    if len(frequent) > _MOST_LISTED:
        words += ", …"
    of = "" if asked == len(names) else f" of {asked:,}"
    least = int(np.argmin(outputs.max(axis=1)))
    out.print()
    out.print(styled(f"{len(names):,}{of} picture{'s' * (asked != 1)}: {words}", "bold"))
    out.print(styled(f"least sure: {names[least]}, {outputs[least].max():.3f}"))


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

"""How good a network's answers are."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from . import html
from .plain_text import percent

_UNBALANCED = 1.5
_MOST_IN_A_MATRIX, _MOST_SCORES = 26, 40  # classes that a notebook shows


@dataclass(frozen=True)
class ClassScore:
    """Precision, recall and F1 (fractions) and the number of samples of one class."""

    label: str
    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class Evaluation:
    """Answers against the truth."""

    accuracy: float  # the fraction of right answers
    balanced_accuracy: float  # the mean of that of each class there is
    confusion: np.ndarray  # (k, k): `confusion[true, answered]` counts samples
    classes: list[ClassScore]
    averages: list[ClassScore]  # of the classes there are: plain, and weighted by support

    def __repr__(self) -> str:
        mean = self.averages[0]
        return (
            f"Evaluation(accuracy {percent(self.accuracy)}, balanced"
            f" {percent(self.balanced_accuracy)}, macro F1 {percent(mean.f1)}:"
            f" {int(self.confusion.sum()):,} samples of {len(self.classes):,} classes)"
        )

    def _repr_html_(self) -> str:
        """Return the confusion matrix and the scores of each class; of many, the scores alone."""
        names = [score.label for score in self.classes]
        title = f"{percent(self.accuracy)} of {int(self.confusion.sum()):,} answers are right"
        parts = []
        if len(names) <= _MOST_IN_A_MATRIX:
            shares = self.confusion / np.maximum(self.confusion.sum(axis=1, keepdims=True), 1)
            np.fill_diagonal(shares, 0.0)
            shares /= shares.max() or 1.0
            rows = [
                (name, *map(html.shaded, counts, of_row))
                for name, counts, of_row in zip(
                    names, self.confusion.tolist(), shares.tolist(), strict=True
                )
            ]
            parts.append(html.table(rows, head=("truth \\ answer", *names)))
        scores = [*self.classes[:_MOST_SCORES], *self.averages]
        lines: list[tuple[object, ...]] = [
            (s.label, percent(s.precision), percent(s.recall), percent(s.f1), s.support)
            for s in scores
        ]
        if (more := len(self.classes) - _MOST_SCORES) > 0:
            lines.insert(_MOST_SCORES, (f"… {more:,} more", "", "", "", ""))
        parts.append(html.table(lines, head=("", "precision", "recall", "F1", "samples")))
        return html.block(title, *parts)


@dataclass(frozen=True)
class Mistake:
    """A wrong answer: the sample's number (from 0), its label, the answer and its output."""

    index: int
    truth: str
    answer: str
    confidence: float


def surest_mistakes(
    labels: np.ndarray, outputs: np.ndarray, classes: Sequence[int | str], most: int
) -> list[Mistake]:
    """List the wrong answers that a network was surest of, surest first, the first of equal ones.

    Labels are codes (n,) in 0…k-1, which stand for the k classes; outputs are (n, k).
    """
    answers = outputs.argmax(axis=1)
    confidence = outputs.max(axis=1)
    wrong = np.flatnonzero(answers != labels)
    order = wrong[np.argsort(-confidence[wrong], kind="stable")][:most]
    return [
        Mistake(int(i), str(classes[labels[i]]), str(classes[answers[i]]), float(confidence[i]))
        for i in order
    ]


def balanced_accuracy(labels: np.ndarray, answers: np.ndarray) -> float:
    """Return the mean, over the classes among the labels, of the fraction answered rightly."""
    counts = np.bincount(labels)
    right = np.bincount(labels[answers == labels], minlength=len(counts))
    return float(np.mean(right[counts > 0] / counts[counts > 0]))


def largest_share(counts: np.ndarray) -> float | None:
    """Return the share of the largest class, None where the classes are balanced.

    They are unbalanced where it is more than `_UNBALANCED` of what equal shares of the classes that
    occur would be; the counts are of samples, by class.
    """
    share = float(counts.max() / counts.sum())
    return share if share * np.count_nonzero(counts) > _UNBALANCED else None


def evaluate(labels: np.ndarray, answers: np.ndarray, classes: Sequence[int | str]) -> Evaluation:
    """Compare answers with labels, both codes in 0…k-1, by scikit-learn's definitions."""
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    codes = np.arange(len(classes))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of a single class, which `labels` names
        confusion = confusion_matrix(labels, answers, labels=codes)
    scores = precision_recall_fscore_support(labels, answers, labels=codes, zero_division=0.0)
    occurring = np.union1d(labels, answers)
    averages = []
    for name, kind in (("macro average", "macro"), ("weighted average", "weighted")):
        mean = precision_recall_fscore_support(
            labels, answers, labels=occurring, average=kind, zero_division=0.0
        )
        precision, recall, f1 = (float(value) for value in mean[:3])
        averages.append(ClassScore(name, precision, recall, f1, len(labels)))
    return Evaluation(
        accuracy=float(np.mean(labels == answers)),
        balanced_accuracy=balanced_accuracy(labels, answers),
        confusion=confusion,
        classes=[
            ClassScore(str(label), float(p), float(r), float(f), int(s))
            for label, p, r, f, s in zip(classes, *scores, strict=True)
        ],
        averages=averages,
    )

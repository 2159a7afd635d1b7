"""How good a network's answers are."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


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
    confusion: np.ndarray  # (k, k): `confusion[true, answered]` counts samples
    classes: list[ClassScore]
    averages: list[ClassScore]  # of the classes there are: plain, and weighted by support


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
        confusion=confusion,
        classes=[
            ClassScore(str(label), float(p), float(r), float(f), int(s))
            for label, p, r, f, s in zip(classes, *scores, strict=True)
        ],
        averages=averages,
    )

"""Scores against scikit-learn's own report of the same answers."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, balanced_accuracy_score, classification_report

from trainer.metrics import evaluate, largest_share

pairs = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=60)


@settings(deadline=None, max_examples=30)
@given(pairs)
def test_scores_are_scikit_learns(pairs):
    labels, answers = np.array(pairs).T
    result = evaluate(labels, answers, ["a", "b", "c", "d"])
    report = classification_report(
        labels,
        answers,
        labels=range(4),
        target_names=["a", "b", "c", "d"],
        output_dict=True,
        zero_division=0.0,
    )
    assert result.accuracy == pytest.approx(accuracy_score(labels, answers))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of classes that only the answers have
        expected = balanced_accuracy_score(labels, answers)
    assert result.balanced_accuracy == pytest.approx(expected)
    for score in result.classes:
        expected = report[score.label]
        assert score.precision == pytest.approx(expected["precision"])
        assert score.recall == pytest.approx(expected["recall"])
        assert score.f1 == pytest.approx(expected["f1-score"])
        assert score.support == expected["support"]
    assert result.averages[1].f1 == pytest.approx(report["weighted avg"]["f1-score"])


@pytest.mark.parametrize(
    ("counts", "share"),
    [([95, 5], 0.95), ([76, 24, 0], 0.76), ([75, 25], None), ([50, 50], None), ([7, 0], None)],
)
def test_the_largest_share_is_told_of_unbalanced_classes_only(counts, share):
    assert largest_share(np.array(counts)) == share


def test_confusion_counts_truth_by_rows():
    result = evaluate(np.array([0, 0, 1]), np.array([0, 1, 1]), [7, 8])
    assert result.confusion.tolist() == [[1, 1], [0, 1]]
    assert [score.label for score in result.classes] == ["7", "8"]


def test_a_class_that_never_occurs_does_not_spoil_the_average():
    result = evaluate(np.array([0, 1]), np.array([0, 1]), [0, 1, 2])
    assert result.averages[0].f1 == 1.0

"""`evaluate`: a run's network against labelled samples."""

from __future__ import annotations

from pathlib import Path

from .. import display
from ..data import load_labelled
from ..metrics import evaluate
from .trained import TrainedRun


def run(path: Path, *, device: str, data: str | None) -> int:
    """Show accuracy, confusion matrix and classification report."""
    trained = TrainedRun(path, device)
    if data is None:
        x, y, name = trained.test_part()
        source = f"test samples of {name}"
    else:
        x, y = load_labelled(data, trained.classes, trained.features, trained.scale)
        source = f"samples of {data}"
    answers = trained.backend.to_numpy(trained.model.predict(x))
    result = evaluate(y, answers, trained.classes)
    display.evaluation(f"{path} on {len(y):,} {source}, {trained.backend.name}", result)
    return 0

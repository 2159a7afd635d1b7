"""`evaluate`: a run's network against labelled samples."""

from __future__ import annotations

from pathlib import Path

from .. import display
from ..data import load, load_labelled
from ..metrics import evaluate
from ..network import MLP
from ..runs import Run
from . import choose


def run(path: Path, *, device: str, data: str | None) -> int:
    """Show accuracy, confusion matrix and classification report."""
    folder = Run.open(path)
    backend = choose(device)
    model = MLP.load(folder.model_file, backend=backend)
    recorded = folder.config["data"]
    classes = recorded["classes"]
    if data is None:
        dataset = load(recorded["source"], recorded["test_source"])
        x, y, source = dataset.test_x, dataset.test_y, recorded["test_source"] or dataset.source
    else:
        x, y = load_labelled(data, tuple(classes), model.sizes[0])
        source = data
    answers = backend.to_numpy(model.predict(x))
    title = f"{path} on {len(y):,} samples of {source}, {backend.name}"
    display.evaluation(title, evaluate(y, answers, classes))
    return 0

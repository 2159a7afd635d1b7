"""`evaluate`: a run's network against labelled samples."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from .. import display
from ..files import write_whole
from ..metrics import Evaluation, Mistake, evaluate, surest_mistakes
from . import UsageError
from .trained import TrainedRun

_CONFUSION, _GALLERY = "confusion.png", "mistakes.png"
_MOST_MISTAKES = 24


def run(
    path: Path,
    *,
    device: str,
    data: str | None,
    recipe: str | None = None,
    draw: bool = False,
    show: bool = False,
    as_json: bool = False,
) -> int:
    """Show accuracy, confusion matrix and classification report, and draw what went wrong."""
    trained = TrainedRun(path, device, recipe=recipe, data=data)
    if draw and trained.run is None:
        raise UsageError(
            f"--figures: {path} is no run, which has a folder for them; make one with: python -m"
            f" trainer import-weights {path}, or look at them with --show"
        )
    x, y, source = trained.labelled(data)
    outputs = trained.outputs(x)
    result = evaluate(y, outputs.argmax(axis=1), trained.classes)
    worst = surest_mistakes(y, outputs, trained.classes, _MOST_MISTAKES)
    if not as_json:
        display.evaluation(f"{path} on {len(y):,} {source}, {trained.backend.name}", result)
    images = _images(trained, result, worst, x) if draw or show else {}
    written = _keep(trained, images) if draw else []
    if as_json:
        fields = {"run": str(path), "samples": len(y), "source": source}
        print(json.dumps(fields | _fields(result, worst) | {"figures": written}))
    elif written:
        print(f"\nfigures: {', '.join(written)}")
    if (draw or show) and _GALLERY not in images:
        cause = "they are no images" if worst else "there are none"
        display.note(f"no picture of the mistakes: {cause}")
    if show:
        from .. import figures

        if refusal := figures.show(list(images.values())):
            display.note(refusal)
    return 0


def _images(
    trained: TrainedRun, result: Evaluation, worst: Sequence[Mistake], x: np.ndarray
) -> dict[str, bytes]:
    from .. import figures  # matplotlib takes its time to import

    images = {_CONFUSION: figures.confusion(result)}
    if worst and trained.image_shape is not None:
        rows = x[[mistake.index for mistake in worst]]
        _, low, high = trained.scale
        images[_GALLERY] = figures.mistakes(worst, rows, trained.image_shape, (low, high))
    return images


def _keep(trained: TrainedRun, images: dict[str, bytes]) -> list[str]:
    """Write the figures into the run's folder; what is out of date goes."""
    assert trained.run is not None
    written = []
    for name in (_CONFUSION, _GALLERY):
        file = trained.run.figure_file(name)
        if name in images:
            write_whole(file, images[name])
            written.append(str(file))
        else:
            file.unlink(missing_ok=True)
    return written


def _fields(result: Evaluation, worst: Sequence[Mistake]) -> dict[str, Any]:
    return {
        "accuracy": result.accuracy,
        "right": int(np.trace(result.confusion)),
        "confusion": result.confusion.tolist(),
        "classes": [asdict(score) for score in result.classes],
        "averages": [asdict(score) for score in result.averages],
        "surest_mistakes": [asdict(mistake) for mistake in worst],
    }

"""What to type next, by what a run was trained on and by how well it answers."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import numpy as np

_POOR = 0.1  # of the way from always answering the largest class to answering all


def next_commands(path: Path, data: dict[str, Any], *, is_poor: bool = False) -> list[str]:
    """Return two or three commands for a run, of whose config this is the `data`."""
    if is_poor:
        kinds = ["lr-find --config {run}", "evaluate {run}"]
    elif data["image_shape"] is None:
        kinds = [
            "evaluate {run}",
            "predict {run} --data new.csv --out answers.csv",
            "export {run} --format onnx",
        ]
    elif data.get("framing") is None:  # no drawings
        kinds = ["predict {run} --index 0", "evaluate {run} --figures", "weights {run}"]
    else:
        kinds = ["evaluate {run}", "demo {run}", "backquery {run}"]
    run = shlex.quote(str(path))
    return [f"python -m trainer {kind.format(run=run)}" for kind in kinds]


def is_poor(accuracy: float, counts: np.ndarray) -> bool:
    """Return whether so many right answers are hardly more than one answer to all would give.

    The counts are of the samples by class.
    """
    largest = float(counts.max() / counts.sum())
    return largest < 1 and accuracy < largest + _POOR * (1 - largest)

"""`backquery`: what a label looks like to a run's network."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Annotated

import numpy as np

from .. import display
from ..explain import Backquery, backquery
from ..running.trained import TrainedRun
from ..running.usage import UsageError, usage_errors
from .figure_files import figure, figure_file, tell_figure, write_figure
from .options import (
    NO_NEGATIVE,
    Device,
    Json,
    RunOrWeights,
    Show,
    Transpose,
    WeightsData,
    WeightsRecipe,
)


@np.errstate(over="ignore", invalid="ignore")  # values near the largest can be asked for too
def run(
    path: RunOrWeights,
    /,
    *classes: str,
    label: Annotated[tuple[str, ...], NO_NEGATIVE] = (),
    data: WeightsData = None,
    transpose: Transpose = False,
    recipe: WeightsRecipe = None,
    out: Annotated[Path | None, figure("backquery.png")] = None,
    show: Show = False,
    as_json: Json = False,
    device: Device = "auto",
) -> int:
    """Run a network backwards: give it a label and see what it takes that to look like.

    The targets go backwards through each layer's activation and weights down to the inputs, and
    are rescaled to 0.01…0.99 on the way, as in the third part of Rashid's book. The last columns
    of the table are what the network answers to its own picture, asked forwards.

        python -m trainer backquery runs/r1
        python -m trainer backquery runs/r1 3 8

    Parameters
    ----------
    classes
        Only these classes. [default: all of them]
    label
        Only this class; again for another. What --label 3 says, 3 alone says too.
    """
    label = (*classes, *label)
    trained = TrainedRun(path, device, recipe=recipe, data=data, transpose=transpose)
    known = [str(name) for name in trained.classes]
    if unknown := [name for name in label if name not in known]:
        raise UsageError(
            f"--label {unknown[0]}: {path} has no such class; expected one of {', '.join(known)}"
        )
    codes = [known.index(name) for name in dict.fromkeys(label)] or list(range(len(known)))
    which = "".join(f"-{re.sub(r'[^-.0-9A-Za-z]+', '_', name)}" for name in dict.fromkeys(label))
    file = figure_file(trained, out, f"backquery{which[:80]}.png")
    _, low, high = trained.scale
    with usage_errors(say=str):  # an activation without an inverse
        result = backquery(trained.model, codes, value_range=(low, high))
    display.note(*trained.assumed)
    if not as_json:
        pictures = [_picture(trained, values) for values in result.values]
        title = f"{path} run backwards, {trained.backend.name}"
        display.backquery(title, result, pictures, known, trained.names)
    from .. import figures  # matplotlib takes its time to import

    drawn = figures.backquery(result, image_shape=trained.image_shape, classes=known)
    write_figure(file, drawn)
    about = {"run": str(path), "image_shape": trained.image_shape}
    fields = about | {"labels": _fields(result, trained)} if as_json else None
    tell_figure(drawn, fields=fields, show=show, figure=file)
    return 0


def _picture(trained: TrainedRun, values: np.ndarray) -> np.ndarray | None:
    """Stretch the values that are known from dark to bright."""
    known = values[np.isfinite(values)]
    if not known.size:
        return None
    low, high = float(known.min()), float(known.max())
    return trained.picture(np.where(np.isfinite(values), values, low), (low, high))


def _fields(result: Backquery, trained: TrainedRun) -> list[dict[str, object]]:
    return [
        {
            "label": trained.classes[code],
            "values": [value if math.isfinite(value) else None for value in values.tolist()],
            "answer": trained.classes[int(outputs.argmax())],
            "outputs": outputs,
        }
        for code, values, outputs in zip(result.labels, result.values, result.outputs, strict=True)
    ]

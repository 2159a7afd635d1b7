"""`export`: a run's network in files that other programs read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
from cyclopts import Parameter

from backends.sharded import ShardedRows

from .. import display
from ..explain import backquery
from ..exports import FORMATS, Exported
from ..exports.torch import loading
from ..running.foreign_weights import describe_input_map
from ..running.trained import TrainedRun
from ..running.usage import UsageError
from ..weight_files import Weights
from .options import Json, RunOrWeights, WeightsData, WeightsRecipe


def run(
    path: RunOrWeights,
    /,
    *,
    format: Annotated[str | None, Parameter(choices=tuple(FORMATS))] = None,
    data: WeightsData = None,
    recipe: WeightsRecipe = None,
    out: Path | None = None,
    as_json: Json = False,
) -> int:
    """Write a run's network into files that other programs read.

    All hold what is needed to answer: the weights, how inputs are scaled, what the units compute,
    and the classes.

        python -m trainer export runs/r1 --format onnx
        python -m trainer export runs/r1 --format html

    Parameters
    ----------
    format
        html: a page to draw on, or a form for a table's columns, for any browser; onnx: a model
        that takes values as they are, for ONNX Runtime and the like; torch: a state dict for
        torch.nn.Sequential, as safetensors; npz: W1, b1, …; npy-pair: the lesson's weights.npy and
        weights02.npy; mat: Theta1, Theta2, …; csv: a file a matrix. With npy-pair and csv,
        network.json holds the rest. [default: what the suffix of --out says, else npz]
    out
        The file, replaced if it is there; for npy-pair and csv a folder, new or empty. [default:
        network.html, model.onnx, model.safetensors, weights.npz, weights.mat or weights]
    """
    if format is None:
        suffixes = {Path(kind.default).suffix: name for name, kind in FORMATS.items()}
        format = "npz" if out is None else suffixes.get(out.suffix.lower() or "none", "npz")
    trained = TrainedRun(path, "cpu", recipe=recipe, data=data)
    network, kind = exported(trained, as_page=format == "html"), FORMATS[format]
    files = kind.write(network, Path(kind.default) if out is None else out.expanduser())
    display.note(*trained.assumed)
    if as_json:
        display.json_line({"run": str(path), "files": [str(file) for file in files]})
        return 0
    facts = {"written": ", ".join(map(str, files)), "holds": kind.contents(network)}
    if format not in ("onnx", "torch", "html"):  # which have that inside
        facts["inputs"] = describe_input_map(trained.model)
    display.facts(facts | _answers(network))
    if format == "torch":
        for line in loading(network, files[0]):
            display.line(line)
    return 0


def exported(trained: TrainedRun, *, as_page: bool = False) -> Exported:
    """Return a run's network, for a page with what there is to be seen of it besides."""
    model = trained.model
    scale, shift = model.input_map().values()
    dtype, low, high = trained.scale
    return Exported(
        Weights(model.get_weights(), model.spec.bias, input_map=(scale, shift)),
        activation=model.spec.activation,
        output=model.spec.output,
        loss=model.spec.loss,
        classes=trained.classes,
        dtype=dtype,
        value_range=(low, high),
        image_shape=trained.image_shape,
        columns=trained.columns,
        framing=trained.framing if as_page and trained.image_shape is not None else None,
        pictures=_pictures(trained) if as_page else None,
        ranges=_ranges(trained) if as_page else None,
    )


def _pictures(trained: TrainedRun) -> list[np.ndarray] | None:
    """Run the network backwards for each class; None of what is no image, or cannot be."""
    if trained.image_shape is None:
        return None
    _, low, high = trained.scale
    try:
        found = backquery(trained.model, value_range=(low, high)).values
    except ValueError:  # an activation without an inverse
        return None
    pictures = []
    for values in found:
        values = np.nan_to_num(values, nan=low, posinf=high, neginf=low)
        span = values.max() - values.min()
        pictures.append((values - values.min()) / (span or 1))
    return pictures


def _ranges(trained: TrainedRun) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the ranges of the inputs that it was trained on; None if these are gone."""
    if trained.image_shape is not None:
        return None
    try:
        x = trained.dataset.train_x
    except UsageError:
        return None
    return x.extremes() if isinstance(x, ShardedRows) else (x.min(axis=0), x.max(axis=0))


def _answers(network: Exported) -> dict[str, Any]:
    """Return what the outputs stand for, where their places do not say it."""
    classes = list(network.classes)
    if classes == list(range(len(classes))):
        return {}
    shown = ", ".join(f"{i} = {label}" for i, label in enumerate(classes[:5]))
    more = f", … ({len(classes)} in all)" if len(classes) > 5 else ""
    return {"answers": f"{shown}{more}"}

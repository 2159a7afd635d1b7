"""`export`: a run's network in files that other programs read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from .. import display
from ..exports import FORMATS, Exported
from ..exports.torch import loading
from ..running.foreign_weights import describe_input_map
from ..running.trained import TrainedRun
from ..weight_files import Weights
from .options import Json, RunOrWeights, WeightsData, WeightsRecipe


def run(
    path: RunOrWeights,
    /,
    *,
    format: Annotated[str, Parameter(choices=tuple(FORMATS))] = "npz",
    data: WeightsData = None,
    recipe: WeightsRecipe = None,
    out: Path | None = None,
    as_json: Json = False,
) -> int:
    """Write a run's network into files that other programs read.

    All hold what is needed to answer: the weights, how inputs are scaled, what the units compute,
    and the classes.

    python -m trainer export runs/r1 --format onnx

    Parameters
    ----------
    format
        onnx: a model that takes values as they are, for ONNX Runtime and the like; torch: a state
        dict for torch.nn.Sequential, as safetensors; npz: W1, b1, …; npy-pair: the lesson's
        weights.npy and weights02.npy; mat: Theta1, Theta2, …; csv: a file a matrix. With npy-pair
        and csv, network.json holds the rest.
    out
        The file, replaced if it is there; for npy-pair and csv a folder, new or empty. [default:
        model.onnx, model.safetensors, weights.npz, weights.mat or weights]
    """
    trained = TrainedRun(path, "cpu", recipe=recipe, data=data)
    network, kind = _exported(trained), FORMATS[format]
    files = kind.write(network, Path(kind.default) if out is None else out.expanduser())
    display.note(*trained.assumed)
    if as_json:
        display.json_line({"run": str(path), "files": [str(file) for file in files]})
        return 0
    facts = {"written": ", ".join(map(str, files)), "holds": kind.contents(network)}
    if format not in ("onnx", "torch"):  # which have that inside
        facts["inputs"] = describe_input_map(trained.model)
    display.facts(facts | _answers(network))
    if format == "torch":
        for line in loading(network, files[0]):
            display.line(line)
    return 0


def _exported(trained: TrainedRun) -> Exported:
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
    )


def _answers(network: Exported) -> dict[str, Any]:
    """Return what the outputs stand for, where their places do not say it."""
    classes = list(network.classes)
    if classes == list(range(len(classes))):
        return {}
    shown = ", ".join(f"{i} = {label}" for i, label in enumerate(classes[:5]))
    more = f", … ({len(classes)} in all)" if len(classes) > 5 else ""
    return {"answers": f"{shown}{more}"}

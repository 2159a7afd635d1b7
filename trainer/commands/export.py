"""`export`: a run's weights in files that other programs read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from .. import display
from ..running.foreign_weights import describe_input_map
from ..running.trained import TrainedRun
from ..weight_files import FORMATS, Weights, contents, write_weights
from .options import Json, RunOrWeights, WeightsData, WeightsRecipe

_DEFAULTS = {"npz": "weights.npz", "mat": "weights.mat", "npy-pair": "weights", "csv": "weights"}


def run(
    path: RunOrWeights,
    /,
    *,
    format: Annotated[str, Parameter(choices=FORMATS)] = "npz",
    data: WeightsData = None,
    recipe: WeightsRecipe = None,
    out: Path | None = None,
    as_json: Json = False,
) -> int:
    """Write a run's weights into files that other programs read.

    Parameters
    ----------
    format
        npz: W1, b1, …; npy-pair: the lesson's weights.npy and weights02.npy; mat: Theta1, Theta2,
        …; csv: a file a matrix.
    out
        The file, replaced if it is there; for npy-pair and csv a folder, new or empty. [default:
        weights.npz, weights.mat or weights]
    """
    trained = TrainedRun(path, "cpu", recipe=recipe, data=data)
    model = trained.model
    scale, shift = model.input_map().values()
    weights = Weights(model.get_weights(), model.spec.bias, input_map=(scale, shift))
    out = Path(_DEFAULTS[format]) if out is None else out.expanduser()
    files = write_weights(
        weights, format, out, image_shape=trained.image_shape, classes=trained.classes
    )
    display.note(*trained.assumed)
    if as_json:
        display.json_line({"run": str(path), "files": [str(file) for file in files]})
    else:
        written = ", ".join(map(str, files))
        arrays, inputs = contents(weights, format), describe_input_map(model)
        display.facts({"written": written, "arrays": arrays, "inputs": inputs})
    return 0

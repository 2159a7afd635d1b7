"""`export`: a run's weights in files that other programs read."""

from __future__ import annotations

from pathlib import Path

from .. import display
from ..weight_files import Weights, contents, write_weights
from .trained import TrainedRun
from .weights_given import describe_input_map

_DEFAULTS = {"npz": "weights.npz", "mat": "weights.mat", "npy-pair": "weights", "csv": "weights"}


def run(path: Path, *, format: str, out: Path | None, as_json: bool) -> int:
    """Write the files and say what is in them."""
    trained = TrainedRun(path, "cpu")
    model = trained.model
    scale, shift = (trained.backend.to_numpy(a) for a in (model.spec.scale, model.spec.shift))
    weights = Weights(model.get_weights(), model.spec.bias, "", input_map=(scale, shift))
    out = Path(_DEFAULTS[format]) if out is None else out.expanduser()
    files = write_weights(
        weights, format, out, image_shape=trained.image_shape, classes=trained.classes
    )
    if as_json:
        display.json_line({"run": str(path), "files": [str(file) for file in files]})
        return 0
    display.facts(
        {
            "written": ", ".join(map(str, files)),
            "arrays": contents(weights, format),
            "inputs": describe_input_map(model),
        }
    )
    return 0

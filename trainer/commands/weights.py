"""`weights`: what the units of a run's first layer look at."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Annotated

from .. import display
from ..explain import incoming_weights
from ..running.trained import TrainedRun
from ..running.usage import UsageError
from .figure_files import figure, figure_file, tell_figure, write_figure
from .options import Device, Json, RunOrWeights, Show, Transpose, WeightsData, WeightsRecipe

_UNITS = re.compile(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?")


def run(
    path: RunOrWeights,
    /,
    *,
    units: str | None = None,
    data: WeightsData = None,
    transpose: Transpose = False,
    recipe: WeightsRecipe = None,
    out: Annotated[Path | None, figure("weights.png")] = None,
    show: Show = False,
    as_json: Json = False,
    device: Device = "auto",
) -> int:
    """Draw what each unit of the first layer looks at: its incoming weights as an image.

    Grey is 0; black and white are minus and plus the unit's own largest weight.

        python -m trainer weights runs/r1
        python -m trainer weights runs/r1 --units 0,5,10-19

    Parameters
    ----------
    units
        Only these units of the first layer: 0,5,10-19. [default: all of them]
    """
    trained = TrainedRun(path, device, recipe=recipe, data=data, transpose=transpose)
    if trained.image_shape is None:
        raise UsageError(
            f"{path}: it was trained on {trained.data['name']}, {trained.features} features that"
            " are no image, so its weights cannot be drawn as images; expected a run on images."
            f" Their histograms: python -m trainer inspect {shlex.quote(str(path))}"
        )
    sizes = trained.model.sizes
    chosen = None if units is None else _chosen(units, sizes[1])
    file = figure_file(trained, out, "weights.png")
    result = incoming_weights(trained.model, chosen)
    display.note(*trained.assumed)
    if not as_json:
        kind = "hidden units" if len(sizes) > 2 else "outputs, as it has no hidden layer"
        height, width = trained.image_shape
        title = (
            f"{path}: the {height}×{width} weights into {len(result.units):,} of the first layer's"
            f" {sizes[1]:,} {kind}"
        )
        pictures = [trained.picture(unit, (-1, 1)) for unit in result.scaled]
        display.incoming_weights(title, result, pictures)
    from .. import figures  # matplotlib takes its time to import

    drawn = figures.incoming_weights(result, image_shape=trained.image_shape)
    write_figure(file, drawn)
    fields = {"run": str(path), "image_shape": trained.image_shape, "units_of_layer": sizes[1]}
    fields["units"] = [
        {
            "unit": int(unit),
            "norm": float(norm),
            "smallest": float(weights.min()),
            "largest": float(weights.max()),
        }
        for unit, norm, weights in zip(result.units, result.norms, result.weights, strict=True)
    ]
    tell_figure(drawn, fields=fields if as_json else None, show=show, figure=file)
    return 0


def _chosen(text: str, count: int) -> list[int]:
    """Read 0,5,10-19; each unit once, in the order given."""
    units: dict[int, None] = {}
    for part in text.split(","):
        match = _UNITS.fullmatch(part)
        if match is None:
            raise UsageError(f"--units {text}: expected numbers and ranges such as 0,5,10-19")
        first, last = int(match[1]), int(match[2] or match[1])
        if first > last:
            raise UsageError(f"--units {text}: {part.strip()} runs backwards; type {last}-{first}")
        if last >= count:
            raise UsageError(
                f"--units {text}: there is no unit {last}; the first layer has 0 to {count - 1}"
            )
        units |= dict.fromkeys(range(first, last + 1))
    return list(units)

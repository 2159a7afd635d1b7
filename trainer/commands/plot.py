"""`plot`: the training curves of runs, over each other."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from .. import display
from ..files import write_whole
from ..recipes import RECIPES
from ..running.run_folder import Run
from ..running.usage import UsageError
from .options import Json, Show, png_file

CURVES = "curves.png"


def run(
    *paths: Annotated[
        Path, Parameter(name="RUNS", help="One or several folders that train wrote.")
    ],
    out: Annotated[
        Path | None,
        Parameter(
            help="The figure, a PNG image; replaced if it is there. [default: figures/curves.png in"
            " the folder of a single run, else curves.png]"
        ),
    ] = None,
    show: Show = False,
    as_json: Json = False,
) -> int:
    """Draw loss and accuracy by epoch, of several runs over each other."""
    if not paths:
        raise UsageError("plot: no run is named; type for instance: python -m trainer plot runs/r1")
    from .. import figures  # matplotlib takes its time to import

    runs = [Run.open(path) for path in dict.fromkeys(paths)]
    metrics = [folder.metrics() for folder in runs]
    if out is None:
        out = runs[0].figure_file(CURVES) if len(runs) == 1 else Path(CURVES)
    out = png_file(out, CURVES)
    labels = _labels(runs)
    image = figures.curves(list(zip(labels, metrics, strict=True)))
    write_whole(out, image)
    names = [str(folder.path) for folder in runs]
    rows = list(zip(names, labels, metrics, strict=True))
    if as_json:
        fields = [dict(zip(("run", "label", "epochs"), row, strict=True)) for row in rows]
        display.json_line({"runs": fields, "figure": str(out)})
    else:
        display.curves(rows)
        display.line()
        display.line(f"figure: {out}")
    if show and (refusal := figures.show([image])):
        display.note(refusal)
    return 0


def draw_curves(folder: Run) -> Path:
    """Draw a run's curves into its folder of figures."""
    from .. import figures

    file = folder.figure_file(CURVES)
    write_whole(file, figures.curves([("", folder.metrics())]))
    return file


def _labels(runs: Sequence[Run]) -> list[str]:
    """Name each run by what it does not share with all others, else by its folder."""
    settings = [_settings(run.config) for run in runs]
    names = dict.fromkeys(name for part in settings for name in part)
    differing = [n for n in names if len({json.dumps(part.get(n)) for part in settings}) > 1]
    if "recipe" in differing:  # what goes with the recipe goes without saying
        pairs = [(part, _of_recipe(part)) for part in settings]
        differing = [n for n in differing if any(a.get(n) != b.get(n) for a, b in pairs)]
    labels = [", ".join(_words(name, part.get(name)) for name in differing) for part in settings]
    folders = [run.path.resolve().name for run in runs]
    if len(set(folders)) < len(runs):
        folders = [str(run.path) for run in runs]
    return [
        label if label and labels.count(label) == 1 else ", ".join(filter(None, (label, folder)))
        for label, folder in zip(labels, folders, strict=True)
    ]


def _settings(config: dict[str, Any]) -> dict[str, Any]:
    data, device = config["data"], config.get("device")
    return {
        "data": data["name"],
        "recipe": config.get("recipe"),
        **config.get("settings", {}),
        "augment": config.get("augment") or None,
        "init_from": config.get("init_from"),
        "seed": config.get("seed"),
        "limit": data.get("limit"),
        "validation": data.get("validation_samples"),
        "device": device["name"] if isinstance(device, dict) else None,
    }


def _of_recipe(settings: dict[str, Any]) -> dict[str, Any]:
    recipe = RECIPES.get(settings["recipe"])
    return {} if recipe is None else recipe.settings()


def _words(name: str, value: Any) -> str:
    name = name.replace("_", " ")
    if value is True:
        return name
    if value in (None, False, []):
        return f"no {name}"
    if isinstance(value, list):
        return f"{name} {','.join(map(str, value))}"
    return f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"

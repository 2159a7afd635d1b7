"""`plot`: the training curves of runs, over each other."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from .. import display
from ..plain_text import value_text
from ..recipes import RECIPES
from ..running.run_folder import Run, settings_in
from ..running.usage import UsageError
from .figure_files import checked_file, save, tell_figure
from .options import Json, Show
from .words import setting_words

CURVES = "curves.png"
_CAPTION = ("data", "recipe", "hidden", "loss", "optimizer", "learning_rate", "batch_size", "seed")
_KINDS = {"rashid": "squared_error"}  # the rule steps otherwise, and its loss is the same


def run(
    *paths: Annotated[Path, Parameter("RUNS", help="One or several folders that train wrote.")],
    out: Path | None = None,
    show: Show = False,
    as_json: Json = False,
) -> int:
    """Draw loss and accuracy by epoch, of several runs over each other.

    A table says how each run ended, and what differs between them.

        python -m trainer plot runs/r1
        python -m trainer plot runs/r1 runs/r2 --out both.png

    Parameters
    ----------
    out
        The figure, a PNG image, or by its suffix SVG or PDF; replaced if it is there. [default:
        figures/curves.png in the folder of a single run, else curves.png]
    """
    if not paths:
        raise UsageError("plot: no run is named; type for instance: python -m trainer plot runs/r1")
    from .. import figures  # matplotlib takes its time to import

    runs = [Run.open(path) for path in dict.fromkeys(paths)]
    metrics = [folder.metrics() for folder in runs]
    if out is None:
        out = runs[0].figure_file(CURVES) if len(runs) == 1 else Path(CURVES)
    out = checked_file(out, CURVES)
    labels = labels_of(runs)
    pairs = list(zip(labels, metrics, strict=True))
    drawn = figures.curves(pairs, caption=curves_caption(runs))
    save(out, drawn)
    names = [str(folder.path) for folder in runs]
    shown = list(zip(names, labels, metrics, strict=True))
    fields = {"runs": [{"run": run, "label": label, "epochs": m} for run, label, m in shown]}
    if not as_json:
        display.curves(shown)
        display.line()
    tell_figure(drawn, fields=fields if as_json else None, show=show, figure=out)
    return 0


def draw_curves(folder: Run) -> Path:
    """Draw a run's curves into its folder of figures."""
    from .. import figures

    file = folder.figure_file(CURVES)
    save(file, figures.curves([("", folder.metrics())], caption=curves_caption([folder])))
    return file


def curves_caption(runs: Sequence[Run]) -> list[str]:
    """Return what runs have in common, a line, and a line each of what is not to be compared."""
    parts = [settings_of_run(run.config) for run in runs]
    said = [f"run {runs[0].path.resolve().name}"] if len(runs) == 1 else []
    for name in _CAPTION:
        values = [part.get(name) for part in parts]
        if values[0] is not None and all(value == values[0] for value in values):
            said.append(str(values[0]) if name == "data" else setting_words(name, values[0]))
    lines = [", ".join(said)]
    data = {run.config["data"]["name"]: None for run in runs}
    if len(data) > 1:
        lines.append(f"trained and tested on different data ({', '.join(data)}): not comparable")
    elif len({run.config["data"].get("crc32") for run in runs} - {None}) > 1:  # of older runs
        lines.append(f"{', '.join(data)} was not the same data in every run: not comparable")
    losses = dict.fromkeys(str(part["loss"]) for part in parts if part.get("loss") is not None)
    if len({_KINDS.get(loss, loss) for loss in losses}) > 1:
        lines.append(f"losses of different kinds ({', '.join(losses)}) are not comparable")
    return [line for line in lines if line]


def labels_of(runs: Sequence[Run]) -> list[str]:
    """Name each run by what it does not share with all others, else by its folder."""
    settings = [settings_of_run(run.config) for run in runs]
    names = dict.fromkeys(name for part in settings for name in part)
    differing = [k for k in names if len({json.dumps(part.get(k)) for part in settings}) > 1]
    if "recipe" in differing:  # what goes with the recipe goes without saying
        recipes = [RECIPES.get(part["recipe"]) for part in settings]
        implied = [{} if recipe is None else recipe.settings() for recipe in recipes]
        pairs = list(zip(settings, implied, strict=True))
        differing = [k for k in differing if any(own.get(k) != by.get(k) for own, by in pairs)]
    labels = [", ".join(setting_words(k, part.get(k)) for k in differing) for part in settings]
    folders = [folder.path.resolve().name for folder in runs]
    if len(set(folders)) < len(runs):
        folders = [str(folder.path) for folder in runs]
    return [
        label if label and labels.count(label) == 1 else ", ".join(filter(None, (label, folder)))
        for label, folder in zip(labels, folders, strict=True)
    ]


def settings_of_run(config: dict[str, Any]) -> dict[str, Any]:
    """Return all that decides what comes of a run, by name."""
    data, device = config["data"], config.get("device")
    return {
        "data": data["name"],
        "recipe": config.get("recipe"),
        "augment": config.get("augment"),  # where runs of older versions have it
        **settings_in(config),
        "init_from": config.get("init_from"),
        "seed": str(config.get("seed")),  # text, since 0 is a seed and not none
        "validation": data.get("validation_samples"),
        "device": device["name"] if isinstance(device, dict) else None,
    }


def settings_beside(
    configs: Sequence[dict[str, Any]],
) -> tuple[list[list[str]], list[list[str]]]:
    """Return the settings of runs, a row each of its name and every run's value.

    First those that differ, then those that do not.
    """
    settings = [settings_of_run(config) for config in configs]
    names = dict.fromkeys(name for part in settings for name in part)
    rows = [
        [name.replace("_", " "), *(value_text(part.get(name)) for part in settings)]
        for name in names
    ]
    differing = [row for row in rows if len(set(row[1:])) > 1]
    return differing, [row for row in rows if len(set(row[1:])) == 1]

"""`evaluate`: a run's network, or several together, against labelled samples."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from cyclopts import Parameter

from .. import display
from ..data import is_data_file
from ..metrics import Evaluation, Mistake, evaluate, surest_mistakes
from ..running.foreign_weights import is_matrix_file
from ..running.trained import TrainedRun
from ..running.usage import UsageError
from .figure_files import checked_file, open_windows, save
from .options import Device, Flag, Json, LabelledData, RunOrWeights, Show, Transpose, WeightsRecipe

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_CONFUSION, _GALLERY = "confusion.png", "mistakes.png"
_SUREST, _ALL = 24, 80  # mistakes that are drawn: all if they are so few, else the surest


def run(
    *paths: Annotated[RunOrWeights, Parameter("RUNS")],
    data: LabelledData = None,
    transpose: Transpose = False,
    recipe: WeightsRecipe = None,
    device: Device = "auto",
    figures: Flag = False,
    out: Path | None = None,
    show: Show = False,
    as_json: Json = False,
) -> int:
    """Test a run: accuracy, confusion matrix, precision, recall and F1.

    Several runs answer together: their outputs are averaged, a committee (Cireşan et al. 2010).
    Several .npy or .csv files are one network, a matrix each.

        python -m trainer evaluate runs/r1 --figures
        python -m trainer evaluate runs/r1 --data other.csv
        python -m trainer evaluate wih.npy who.npy --recipe book

    Parameters
    ----------
    figures
        Draw the confusion matrix and the mistakes, the surest of many, into the run's folder, under
        figures/.
    out
        Draw the confusion matrix into this file, a PNG image, or by its suffix SVG or PDF, and the
        mistakes beside it, into NAME-mistakes; replaced if they are there.
    """
    if not paths:
        raise UsageError(
            "evaluate: no run is named; type for instance: python -m trainer evaluate runs/r1"
        )
    if out is not None:
        out = checked_file(out, _CONFUSION)
    if len(paths) == 2 and data is None and _is_table_for(*paths):
        data, paths = str(paths[-1]), paths[:-1]
    named = shlex.join(map(str, paths))
    others: Sequence[Path] = ()
    if all(map(is_matrix_file, paths)):  # the lesson's pair: one network
        paths, others = paths[:1], paths[1:]
    members = [
        TrainedRun(path, device, recipe=recipe, data=data, transpose=transpose, others=others)
        for path in paths
    ]
    trained = members[0]
    if figures and out is None and len(members) > 1:
        raise UsageError(
            f"--figures: {len(members)} runs have no folder in common to draw into; name a"
            f" place with --out {_CONFUSION}, or look at them with --show"
        )
    if figures and out is None and trained.run is None:
        raise UsageError(
            f"--figures: {paths[0]} is no run, which has a folder for them; name a place with"
            f" --out {_CONFUSION}, make a run with: python -m trainer import-weights"
            f" {named}, or look at them with --show"
        )
    for other in members[1:]:
        _check_alike(trained, other, data)
    x, y, source = trained.labelled(data)
    display.note(*trained.notes)
    each = [member.outputs(x) for member in members]
    outputs = np.mean(each, axis=0)
    result = evaluate(y, outputs.argmax(axis=1), trained.classes)
    alone = [float(np.mean(part.argmax(axis=1) == y)) for part in each]
    right = int(np.trace(result.confusion))
    most = _ALL if len(y) - right <= _ALL else _SUREST
    worst = surest_mistakes(y, outputs, trained.classes, most)
    names = " + ".join(map(str, [*paths, *others]))
    if not as_json:
        if len(members) > 1:
            width = max(len(str(path)) for path in paths)
            for member, accuracy in zip(members, alone, strict=True):
                display.line(f"{member.path!s:>{width}}  {display.percent(accuracy)}")
            display.line()
            display.line("together:")
        display.evaluation(f"{names} on {len(y):,} {source}, {trained.backend.name}", result)
    drawn = _drawn(trained, result, worst, x) if figures or out or show else {}
    written = _keep(trained, drawn, out) if figures or out else []
    if as_json:
        fields: dict[str, Any] = {"run": names, "samples": len(y), "source": source}
        if len(members) > 1:
            fields["each"] = alone
        fields |= vars(result) | {"right": right, "surest_mistakes": worst, "figures": written}
        display.json_line(fields)
    elif written:
        display.line()
        display.line(f"figures: {', '.join(written)}")
    if (figures or out or show) and _GALLERY not in drawn:
        cause = "they are no images" if worst else "there are none"
        display.note(f"no picture of the mistakes: {cause}")
    if show:
        open_windows(list(drawn.values()))
    return 0


def _is_table_for(run: Path, file: Path) -> bool:
    """Whether a run is followed by a table, which is no other run, but samples for it."""
    return (run / "config.json").exists() and file.suffix.lower() == ".csv" and is_data_file(file)


def _check_alike(first: TrainedRun, other: TrainedRun, data: str | None) -> None:
    """Raise UsageError unless both runs answer the same question."""
    asked = [{"classes": run.classes, "inputs": run.features} for run in (first, other)]
    if data is None:
        asked = [run.data | question for run, question in zip((first, other), asked, strict=True)]
    for name in ("classes", "inputs", "source", "test_source", "test_samples"):
        ours, theirs = (question.get(name) for question in asked)
        # weights that came without data do not know how many samples it has
        if ours != theirs and not (name == "test_samples" and None in (ours, theirs)):
            raise UsageError(
                f"{first.path} and {other.path} cannot answer together: {name.replace('_', ' ')}"
                f" {ours} and {theirs}; test them one by one, or on the same --data"
            )


def _drawn(
    trained: TrainedRun, result: Evaluation, worst: Sequence[Mistake], x: np.ndarray
) -> dict[str, Figure]:
    from .. import figures  # matplotlib takes its time to import

    drawn = {_CONFUSION: figures.confusion(result)}
    if worst and trained.image_shape is not None:
        rows = x[[mistake.index for mistake in worst]]
        _, low, high = trained.scale
        drawn[_GALLERY] = figures.mistakes(worst, rows, trained.image_shape, (low, high))
    return drawn


def _keep(trained: TrainedRun, drawn: dict[str, Figure], out: Path | None) -> list[str]:
    """Write the figures to `out` and beside it, else into the run's folder, whose older ones go."""
    if out is not None:
        places = {_CONFUSION: out, _GALLERY: out.with_stem(f"{out.stem}-mistakes")}
    else:
        assert trained.run is not None
        places = {name: trained.run.figure_file(name) for name in (_CONFUSION, _GALLERY)}
    written = []
    for name, file in places.items():
        if name in drawn:
            save(file, drawn[name])
            written.append(str(file))
        elif out is None:
            file.unlink(missing_ok=True)
    return written

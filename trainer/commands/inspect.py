"""`inspect`: one sample's way through a run's network, and one update by it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import numpy as np
from cyclopts import Parameter

from .. import display
from ..explain import LayerTrace, Trace, trace
from ..explain import untrained as with_fresh_weights
from ..recipes import RECIPES
from ..running.run_folder import RunError
from ..running.trained import TrainedRun
from ..running.usage import UsageError
from ..settings import FULL_BATCH_METHODS
from .figure_files import figure, figure_file, tell_figure, write_figure
from .options import (
    INDEX,
    Device,
    Flag,
    Json,
    LabelledData,
    RunOrWeights,
    Show,
    Transpose,
    WeightsRecipe,
)
from .own_pictures import OwnPicture
from .words import network_words, sample_words

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@np.errstate(over="ignore", invalid="ignore")  # values near the largest can be looked at too
def run(
    path: RunOrWeights,
    picture: Annotated[Path | None, Parameter("PICTURE")] = None,
    /,
    *,
    index: Annotated[int | None, INDEX] = None,
    label: str | None = None,
    untrained: Flag = False,
    stages: Flag = False,
    data: LabelledData = None,
    transpose: Transpose = False,
    recipe: WeightsRecipe = None,
    out: Annotated[Path | None, figure("inspect-N.png")] = None,
    show: Show = False,
    as_json: Json = False,
    device: Device = "auto",
) -> int:
    """Follow one sample through a run's network, its error back, and one update by it.

    Every stage is a table and a row of figures: the sample, what goes into each layer and comes
    out, the errors and how they are split, the weights and how the update changes them. The figures
    become one image, or several with --stages; --out NAME.pdf has a page a stage. The run's own
    weights are not changed.

    python -m trainer inspect runs/r1 --index 7

    python -m trainer inspect runs/r1 --index 7 --untrained

    python -m trainer inspect runs/r1 my_4.png --label 4

    python -m trainer inspect runs/r1 --index 7 --stages --out slide.png

    Parameters
    ----------
    picture
        A picture of your own in place of a sample, prepared as predict does it.
    label
        What is in the picture. [default: what the network answers]
    untrained
        Take fresh weights, drawn by the run's own init and seed.
    stages
        Write an image a stage, for slides: NAME-1.png, NAME-2.png and so on, in place of one image.
    """
    if picture is not None and index is not None:
        raise UsageError(f"{picture}: a picture goes without --index")
    if picture is None and label is not None:
        raise UsageError(f"--label {label}: only with a picture, inspect RUN PICTURE --label 4")
    trained = TrainedRun(path, device, recipe=recipe, data=data, transpose=transpose)
    if picture is not None and data is not None and trained.run is not None:
        raise UsageError(f"{picture}: a picture goes without --data: {path} knows what it is for")
    rate = _learning_rate(trained)
    name = str(index or 0) if picture is None else picture.stem
    file = figure_file(trained, out, f"inspect-{name}{'-untrained' if untrained else ''}.png")
    sample = _labelled(trained, data, index or 0) if picture is None else _own(trained, picture)
    title = f"{path}, {sample.words}"
    model = trained.model
    if untrained:
        try:
            model = with_fresh_weights(model)
        except ValueError as error:
            raise UsageError(f"--untrained: {path} does not say its seed ({error})") from error
        title += ", fresh weights"
    outputs = trained.outputs(sample.values[None, :])  # says so where there is no number to show
    code = sample.code
    if code is None:
        code = int(outputs.argmax()) if label is None else _code_of(label, trained)
        title += ", its label as given" if label is not None else ", taken for what it answers"
    result = trace(
        model,
        sample.values,
        code,
        learning_rate=rate,
        training_samples=trained.train_samples or math.inf,
    )
    classes = [str(label) for label in trained.classes]
    if not as_json:
        facts = _facts(trained, result, untrained)
        display.trace(title, facts, result, trained.picture(result.values), classes, trained.names)
    from .. import figures  # matplotlib takes its time to import

    drawn = figures.trace(
        result,
        title=title,
        image_shape=trained.image_shape,
        classes=classes,
        value_range=(trained.scale.low, trained.scale.high),
    )
    files = _write(file, drawn, stages=stages)
    about = {"run": str(path), "sample": None if picture else index or 0}
    about |= {"source": sample.source, "untrained": untrained}
    fields = about | _fields(result, trained.classes) if as_json else None
    tell_figure(drawn, fields=fields, show=show, **files)
    return 0


def _write(file: Path, drawn: Sequence[Figure], *, stages: bool) -> dict[str, Path | list[Path]]:
    """Write the stages as one file, or as one each; return the files by what they are."""
    if not stages or file.suffix.lower() == ".pdf":  # which has a page a stage anyway
        write_figure(file, drawn)
        return {"figure": file}
    files = [file.with_stem(f"{file.stem}-{number}") for number in range(1, len(drawn) + 1)]
    for place, stage in zip(files, drawn, strict=True):
        write_figure(place, stage)
    return {"figures": list(files)}


class _Sample(NamedTuple):
    """A sample, the code of its class if that is known, where it is from, and which it is."""

    values: np.ndarray
    code: int | None
    source: str
    words: str


def _labelled(trained: TrainedRun, data: str | None, index: int) -> _Sample:
    x, y, source = trained.labelled(data)
    display.note(*trained.notes)
    words = sample_words(index, len(x), source)
    return _Sample(x[index], int(y[index]), source, words)


def _own(trained: TrainedRun, file: Path) -> _Sample:
    picture = OwnPicture.read(trained, file)
    display.note(*trained.assumed)
    if picture.remark:
        display.note(f"{file}: {picture.remark}")
    return _Sample(picture.values, None, str(file), str(file))


def _code_of(label: str, trained: TrainedRun) -> int:
    classes = [str(name) for name in trained.classes]
    if label not in classes:
        raise UsageError(f"--label {label}: expected one of {', '.join(classes)}")
    return classes.index(label)


def _learning_rate(trained: TrainedRun) -> float:
    try:
        settings = trained.config["settings"]
        if settings.get("optimizer") in FULL_BATCH_METHODS:
            return RECIPES["rashid"].learning_rate  # they know no rate; the lessons' will do
        return float(settings["learning_rate"])
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(
            f"{trained.path / 'config.json'}: not a run's config, settings.learning_rate is"
            f" missing or no number ({error})"
        ) from error


def _facts(trained: TrainedRun, result: Trace, fresh: bool) -> dict[str, str]:
    model, settings = trained.model, trained.config["settings"]
    weights = (
        f"fresh, init {model.init}, seed {model.seed}" if fresh else "as the training left them"
    )
    update = f"plain sgd by this one sample, rate {result.learning_rate:g}"
    if result.penalty:
        update += f", λ/m {result.penalty:.3g}"
    elif model.l2:
        update += f", without l2 {model.l2:g}: how many samples were trained on is not known"
    differs = []
    if settings.get("optimizer", "sgd") != "sgd":
        differs.append(str(settings["optimizer"]))
    if settings.get("momentum"):
        differs.append(f"momentum {settings['momentum']:g}")
    if (settings.get("batch_size") or 1) > 1:
        differs.append(f"batches of {settings['batch_size']}")
    if differs:
        update += f" (the training: {', '.join(differs)})"
    table = {} if trained.columns is None else {"columns": trained.columns.line()}
    return table | {
        "network": f"{network_words(model)}, loss {model.spec.loss}, {model.dtype},"
        f" {trained.backend.name}",
        "weights": weights,
        "update": update,
    }


def _fields(result: Trace, classes: tuple[int | str, ...]) -> dict[str, Any]:
    return vars(result) | {
        "label": classes[result.label],
        "answer": classes[result.answer],
        "answer_after": classes[result.answer_after],
        "layers": [_layer(layer) for layer in result.layers],
    }


def _layer(layer: LayerTrace) -> dict[str, Any]:
    """Every vector whole, matrices by their figures."""
    counts, edges = np.histogram(layer.W, bins=60)
    fields = {name: value for name, value in vars(layer).items() if value is not None}
    del fields["curve"]
    return {"layer": fields.pop("number"), **fields} | {
        "W": _matrix(layer.W),
        "W_after": _matrix(layer.W_after),
        "W_change": _matrix(layer.W_change),
        "W_histogram": {"edges": edges, "counts": counts},
    }


def _matrix(W: np.ndarray) -> dict[str, Any]:
    wide = W.astype(np.float64)
    return {
        "shape": list(W.shape),
        "mean": float(wide.mean()),
        "deviation": float(wide.std()),
        "smallest": float(wide.min()),
        "largest": float(wide.max()),
        "norm": float(np.sqrt(np.square(wide).sum())),
    }

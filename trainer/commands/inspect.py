"""`inspect`: one sample's way through a run's network, and one update by it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np

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
from .words import network_words, sample_words


@np.errstate(over="ignore", invalid="ignore")  # values near the largest can be looked at too
def run(
    path: RunOrWeights,
    /,
    *,
    index: Annotated[int, INDEX] = 0,
    untrained: Flag = False,
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
    out, the errors and how they are split, the weights before and after. The figures become a PNG
    image, and beside it a PDF with a page a stage. The run's own weights are not changed.

    python -m trainer inspect runs/r1 --index 7

    python -m trainer inspect runs/r1 --index 7 --untrained

    Parameters
    ----------
    untrained
        Take fresh weights, drawn by the run's own init and seed.
    """
    trained = TrainedRun(path, device, recipe=recipe, data=data, transpose=transpose)
    rate = _learning_rate(trained)
    png = figure_file(trained, out, f"inspect-{index}{'-untrained' if untrained else ''}.png")
    x, y, source = trained.labelled(data)
    display.note(*trained.notes)
    title = f"{path}, {sample_words(index, len(x), source)}"
    model = trained.model
    if untrained:
        try:
            model = with_fresh_weights(model)
        except ValueError as error:
            raise UsageError(f"--untrained: {path} does not say its seed ({error})") from error
        title += ", fresh weights"
    trained.outputs(x[index : index + 1])  # says so where there is no number to show
    result = trace(
        model,
        x[index],
        int(y[index]),
        learning_rate=rate,
        training_samples=max(1, int(trained.data.get("train_samples") or 1)),
    )
    classes = [str(label) for label in trained.classes]
    if not as_json:
        facts = _facts(trained, result, untrained)
        display.trace(title, facts, result, trained.picture(result.values), classes, trained.names)
    from .. import figures  # matplotlib takes its time to import

    image, pages = figures.trace(
        result,
        title=title,
        image_shape=trained.image_shape,
        classes=classes,
        value_range=(trained.scale.low, trained.scale.high),
    )
    pdf = png.with_suffix(".pdf")
    write_figure(png, image)
    write_figure(pdf, pages)
    about = {"run": str(path), "sample": index, "source": source, "untrained": untrained}
    fields = about | _fields(result, trained.classes) if as_json else None
    tell_figure(image, fields=fields, show=show, figure=png, pages=pdf)
    return 0


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

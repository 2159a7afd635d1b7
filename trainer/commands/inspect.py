"""`inspect`: one sample's way through a run's network, and one update by it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from .. import display
from ..explain import LayerTrace, Trace, trace, untrained
from ..recipes import RECIPES
from ..runs import RunError
from ..settings import FULL_BATCH_METHODS
from . import UsageError
from .figure_files import figure_file, write_figure
from .trained import TrainedRun


@np.errstate(over="ignore", invalid="ignore")  # values near the largest can be looked at too
def run(
    path: Path,
    *,
    index: int,
    fresh: bool,
    device: str,
    data: str | None,
    recipe: str | None,
    out: Path | None,
    show: bool,
    as_json: bool,
) -> int:
    """Trace the sample, show it stage by stage and draw it; the run's weights stay as they are."""
    trained = TrainedRun(path, device, recipe=recipe, data=data)
    rate = _learning_rate(trained)
    png = figure_file(trained, out, f"inspect-{index}{'-untrained' if fresh else ''}.png")
    x, y, source = trained.labelled(data)
    if not 0 <= index < len(x):
        raise UsageError(f"--index {index}: expected 0 to {len(x) - 1}, the {len(x):,} {source}")
    model = trained.model
    if fresh:
        try:
            model = untrained(model)
        except ValueError as error:
            raise UsageError(f"--untrained: {path} does not say its seed ({error})") from error
    trained.outputs(x[index : index + 1])  # says so where there is no number to show
    result = trace(
        model,
        x[index],
        int(y[index]),
        learning_rate=rate,
        training_samples=max(1, int(trained.data.get("train_samples") or 1)),
    )
    classes = [str(label) for label in trained.classes]
    title = f"{path}, sample {index} of the {len(x):,} {source}"
    if fresh:
        title += ", fresh weights"
    if not as_json:
        facts = _facts(trained, result, fresh)
        display.walk(title, facts, result, trained.picture(result.values), classes)
    from .. import figures  # matplotlib takes its time to import

    image, pages = figures.walk(
        result,
        title=title,
        image_shape=trained.image_shape,
        classes=classes,
        value_range=(trained.scale.low, trained.scale.high),
    )
    pdf = png.with_suffix(".pdf")
    write_figure(png, image)
    write_figure(pdf, pages)
    if as_json:
        fields = {"run": str(path), "sample": index, "source": source, "untrained": fresh}
        files = {"figure": str(png), "pages": str(pdf)}
        print(json.dumps(fields | _fields(result, trained.classes) | files))
    else:
        display.line(f"figure: {png}")
        display.line(f"pages:  {pdf}")
    if show and (refusal := figures.show([image])):
        display.note(refusal)
    return 0


def _learning_rate(trained: TrainedRun) -> float:
    try:
        settings = trained.config["settings"]
        if (
            settings.get("optimizer") in FULL_BATCH_METHODS
        ):  # they know no rate; the lessons' will do
            return RECIPES["rashid"].learning_rate
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
    return {
        "network": f"{' → '.join(map(str, model.sizes))}, {model.spec.activation}, "
        f"{'with' if model.spec.bias else 'no'} bias, loss {model.spec.loss}, {model.dtype}, "
        f"{trained.backend.name}",
        "weights": weights,
        "update": update,
    }


def _fields(result: Trace, classes: tuple[int | str, ...]) -> dict[str, Any]:
    return {
        "label": classes[result.label],
        "answer": classes[result.answer],
        "answer_after": classes[result.answer_after],
        "loss_name": result.loss_name,
        "splits_raw_errors": result.splits_raw_errors,
        "learning_rate": result.learning_rate,
        "penalty": result.penalty,
        "loss": result.loss,
        "loss_after": result.loss_after,
        "values": result.values.tolist(),
        "inputs": result.inputs.tolist(),
        "targets": result.targets.tolist(),
        "outputs": result.outputs.tolist(),
        "outputs_after": result.outputs_after.tolist(),
        "layers": [_layer(layer) for layer in result.layers],
    }


def _layer(layer: LayerTrace) -> dict[str, Any]:
    """Every vector whole, matrices by their figures."""
    counts, edges = np.histogram(layer.W, bins=60)
    biases = {}
    if layer.b is not None and layer.b_after is not None:
        biases = {"b": layer.b.tolist(), "b_after": layer.b_after.tolist()}
    return {
        "layer": layer.number,
        "function": layer.function,
        "inputs": layer.inputs.tolist(),
        "sums": layer.sums.tolist(),
        "outputs": layer.outputs.tolist(),
        "errors": layer.errors.tolist(),
        "deltas": layer.deltas.tolist(),
        "W": _matrix(layer.W),
        "W_after": _matrix(layer.W_after),
        "W_change": _matrix(layer.W_change),
        "W_histogram": {"edges": edges.tolist(), "counts": counts.tolist()},
    } | biases


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

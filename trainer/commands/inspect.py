"""`inspect`: one sample's way through the network of a run, or of two, and one update by it."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import numpy as np
from cyclopts import Parameter
from cyclopts.validators import Number

from .. import display
from ..explain import LayerTrace, Trace, trace
from ..explain import untrained as with_fresh_weights
from ..files import write_whole
from ..network import MLP
from ..recipes import RECIPES
from ..running.foreign_weights import are_weights
from ..running.run_folder import RunError
from ..running.trained import TrainedRun
from ..running.usage import UsageError
from ..settings import FULL_BATCH_METHODS
from .figure_files import checked_file, figure, figure_file, tell_figure, write_figure
from .options import (
    INDEX,
    WHOLE,
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
from .plot import settings_beside
from .words import count, network_words, sample_words

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@np.errstate(over="ignore", invalid="ignore")  # values near the largest can be looked at too
def run(
    path: RunOrWeights,
    /,
    *others: Annotated[
        Path,
        Parameter(
            "RUN|PICTURE",
            help="A second run, to be set beside the first; and a picture of your own in place of a"
            " sample, prepared as predict does it.",
        ),
    ],
    index: Annotated[
        int | None,
        INDEX,
        Parameter(
            help="Sample N, from 0, of the run's test part, or of --data: of its test part if it"
            " has one, else of all. For a training sample name a file of training samples, such as"
            " --data train-images-idx3-ubyte.gz or a CSV. [default: 0]"
        ),
    ] = None,
    label: str | None = None,
    unit: Annotated[int | None, WHOLE] = None,
    learning_rate: Annotated[float | None, Parameter(validator=Number(gte=0))] = None,
    untrained: Flag = False,
    stages: Flag = False,
    data: LabelledData = None,
    transpose: Transpose = False,
    recipe: WeightsRecipe = None,
    out: Annotated[Path | None, figure("inspect-N.png", "; of two runs, in this folder")] = None,
    arrays: Path | None = None,
    show: Show = False,
    as_json: Json = False,
    device: Device = "auto",
) -> int:
    """Follow one sample through a run's network, its error back, and one update by it.

    Every stage is a table and a row of figures: the sample, what goes into each layer and comes
    out, the errors and how they are split, the weights and how the update changes them. The figures
    become one image, or several with --stages; --out NAME.pdf has a page a stage. The run's own
    weights are not changed.

    Two runs of the same data are set beside each other, by the same sample: first what differs in
    their settings, then every stage of both, in the figures on the same scales.

        python -m trainer inspect runs/r1 --index 7 --untrained
        python -m trainer inspect runs/r1 my_4.png --label 4
        python -m trainer inspect runs/r1 runs/r2 --index 7
        python -m trainer inspect runs/r1 --index 7 --stages --out slide.png

    Parameters
    ----------
    label
        What is in the picture. [default: what the network answers]
    unit
        The unit of layer 1 that is worked out with numbers. [default: the one whose weights the
        update changes most]
    learning_rate
        η, the learning rate of the update, which Rashid writes α. [default: the run's own]
    arrays
        Write every array into this .npz file of NumPy's: x, t, z1, a1, e1, delta1, W1, W1_change,
        W1_after and so on; with two runs each name begins with the run's, and a dot.
    untrained
        Take fresh weights, drawn by the run's own init and seed.
    stages
        Write an image a stage, for slides: NAME-1.png, NAME-2.png and so on, in place of one image.
    """
    paths, picture = _sorted(path, others, recipe)
    if picture is not None and index is not None:
        raise UsageError(f"{picture}: a picture goes without --index")
    if picture is None and label is not None:
        raise UsageError(f"--label {label}: only with a picture, inspect RUN PICTURE --label 4")
    runs = [TrainedRun(p, device, recipe=recipe, data=data, transpose=transpose) for p in paths]
    trained = runs[0]
    if picture is not None and data is not None and trained.run is not None:
        raise UsageError(f"{picture}: a picture goes without --data: {path} knows what it is for")
    rates = [_learning_rate(one) if learning_rate is None else learning_rate for one in runs]
    if learning_rate is not None and not math.isfinite(learning_rate):
        raise UsageError(f"--learning-rate {learning_rate}: expected a finite number, zero or more")
    for one in runs:
        if unit is not None and unit >= one.model.sizes[1]:
            raise UsageError(
                f"--unit {unit}: expected 0 to {one.model.sizes[1] - 1}, the units of layer 1 of"
                f" {one.path}"
            )
    if arrays is not None and arrays.suffix.lower() != ".npz":
        raise UsageError(f"--arrays {arrays}: expected a name such as inspect-{index or 0}.npz")
    name = str(index or 0) if picture is None else picture.stem
    file_name = f"inspect-{name}{'-untrained' if untrained else ''}.png"
    if len(runs) == 1:
        file = figure_file(trained, out, file_name)
    else:
        file = checked_file(out or Path(file_name), file_name)
        _check_alike(*runs, data=data, of_picture=picture is not None)
    sample = _labelled(trained, data, index or 0) if picture is None else _own(trained, picture)
    title = f"{' and '.join(map(str, paths))}, {sample.words}"
    models = [_untrained(one) if untrained else one.model for one in runs]
    title += ", fresh weights" if untrained else ""
    outputs = [one.outputs(sample.values[None, :]) for one in runs]  # says where there are none
    code = sample.code
    if code is None:
        code = int(outputs[0].argmax()) if label is None else _code_of(label, trained)
        answers = "it" if len(runs) == 1 else str(path)
        title += (
            ", its label as given" if label is not None else f", taken for what {answers} answers"
        )
    results = [
        trace(
            model,
            sample.values,
            code,
            learning_rate=rate,
            training_samples=one.train_samples or math.inf,
            unit=unit,
        )
        for one, model, rate in zip(runs, models, rates, strict=True)
    ]
    classes = [str(label) for label in trained.classes]
    differing = settings_beside([one.config for one in runs])[0]
    names = _names(paths)
    if not as_json:
        facts = [_facts(one, r, untrained) for one, r in zip(runs, results, strict=True)]
        picture_of = trained.picture(sample.values)
        if len(runs) == 1:
            display.trace(title, facts[0], results[0], picture_of, classes, trained.names)
        else:
            about = names, differing, facts, results
            display.traces(title, *about, picture_of, classes, trained.names)
    from .. import figures  # matplotlib takes its time to import

    look: dict[str, Any] = {
        "title": title,
        "image_shape": trained.image_shape,
        "classes": classes,
        "value_range": (trained.scale.low, trained.scale.high),
    }
    look["slides"] = stages and file.suffix.lower() != ".pdf"
    if len(runs) == 1:
        drawn = figures.trace(results[0], **look)
    else:
        lines = [f"{name} {' / '.join(values)}" for name, *values in differing]
        differences = f"what differs: {'; '.join(lines)}" if lines else "no setting differs"
        drawn = figures.traces(results, names=names, differences=[differences], **look)
    files = _write(file, drawn, stages=stages)
    if arrays is not None:
        _write_arrays(arrays.expanduser(), names if len(runs) > 1 else [""], results)
        files["arrays"] = arrays.expanduser()
    fields = None
    if as_json:
        about_sample = {"sample": None if picture else index or 0, "source": sample.source}
        about_sample |= {"untrained": untrained}
        parts = [
            {"run": str(p)} | about_sample | _fields(result, trained.classes)
            for p, result in zip(paths, results, strict=True)
        ]
        fields = parts[0]
        if len(runs) > 1:
            fields = {"runs": parts, "differences": {name: values for name, *values in differing}}
    tell_figure(drawn, fields=fields, show=show, **files)
    return 0


def _sorted(
    path: Path, others: Sequence[Path], recipe: str | None
) -> tuple[list[Path], Path | None]:
    """Return the one or two runs that are named, and the picture if one is."""
    # what has no suffix and is not there is a mistyped run
    are_runs = [
        (other / "config.json").is_file()
        or other.suffix == ".safetensors"
        or (recipe is not None and are_weights(other))
        or not (other.suffix or other.exists())
        for other in others
    ]
    runs = [path, *(other for other, is_run in zip(others, are_runs, strict=True) if is_run)]
    pictures = [other for other, is_run in zip(others, are_runs, strict=True) if not is_run]
    if len(runs) > 2 or len(pictures) > 1:
        raise UsageError(
            f"inspect: {count(len(runs), 'run')} and {count(len(pictures), 'picture')} are named;"
            " expected one run or two, and at most one picture: inspect RUN RUN PICTURE"
        )
    if len(runs) == 2 and runs[0].resolve() == runs[1].resolve():
        raise UsageError(f"{runs[1]}: the same run twice; expected another to set beside it")
    return runs, pictures[0] if pictures else None


def _names(paths: Sequence[Path]) -> list[str]:
    names = [path.resolve().name for path in paths]
    return names if len(set(names)) == len(names) else [str(path) for path in paths]


def _check_alike(
    first: TrainedRun, second: TrainedRun, *, data: str | None, of_picture: bool
) -> None:
    """Raise UsageError unless two runs take the same samples."""
    kinds = [_kind(one) for one in (first, second)]
    if kinds[0] != kinds[1]:
        why = f"takes {kinds[1]}; {first.path} takes {kinds[0]}"
    elif (first.classes, first.scale, first.names) != (second.classes, second.scale, second.names):
        why = f"has other classes, columns or values than {first.path}"
    elif data is not None or of_picture or _same_test_part(first, second):
        return
    else:
        why = f"was tested on other samples ({second.data['name']}) than {first.path}"
        why += f" ({first.data['name']})"
    raise UsageError(f"{second.path}: {why}; expected two runs of the same data")


def _kind(trained: TrainedRun) -> str:
    shape = trained.image_shape
    what = f"{trained.features} features" if shape is None else f"{shape[0]}×{shape[1]} images"
    return f"{what} of {len(trained.classes)} classes"


def _same_test_part(first: TrainedRun, second: TrainedRun) -> bool:
    digits = [one.data.get("crc32") for one in (first, second)]
    if digits[0] is not None and digits[0] == digits[1]:
        return True  # of all samples
    parts = [one.dataset for one in (first, second)]
    return np.array_equal(parts[0].test_x, parts[1].test_x) and np.array_equal(
        parts[0].test_y, parts[1].test_y
    )


def _untrained(trained: TrainedRun) -> MLP:
    try:
        return with_fresh_weights(trained.model)
    except ValueError as error:
        raise UsageError(f"--untrained: {trained.path} does not say its seed ({error})") from error


def _write(file: Path, drawn: Sequence[Figure], *, stages: bool) -> dict[str, Path | list[Path]]:
    """Write the stages as one file, or as one each; return the files by what they are."""
    if not stages or file.suffix.lower() == ".pdf":  # which has a page a stage anyway
        write_figure(file, drawn)
        return {"figure": file}
    files = [file.with_stem(f"{file.stem}-{number}") for number in range(1, len(drawn) + 1)]
    for place, stage in zip(files, drawn, strict=True):
        write_figure(place, stage)
    return {"figures": list(files)}


def _write_arrays(file: Path, names: Sequence[str], results: Sequence[Trace]) -> None:
    """Write every array of the traces into one file, by the names of the formulas."""
    held: dict[str, np.ndarray] = {}
    for name, result in zip(names, results, strict=True):
        found = {"values": result.values, "x": result.inputs, "t": result.targets}
        for layer in result.layers:
            n = layer.number
            found |= {f"z{n}": layer.sums, f"a{n}": layer.outputs, f"e{n}": layer.errors}
            found |= {f"delta{n}": layer.deltas, f"gradient_delta{n}": layer.gradient_deltas}
            for kind, (before, after, change) in zip("Wb", layer.arrays.values(), strict=False):
                found |= {f"{kind}{n}": before, f"{kind}{n}_after": after}
                found[f"{kind}{n}_change"] = change
        held |= {f"{name}.{key}" if name else key: array for key, array in found.items()}
    content = io.BytesIO()
    np.savez(content, allow_pickle=False, **held)
    try:
        write_whole(file, content.getvalue())
    except OSError as error:
        raise UsageError(f"--arrays {file}: {error.strerror or error}") from error


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
        f"fresh, drawn by --init {model.init} with seed {model.seed}"
        if fresh
        else "as the training left them"
    )
    rate = f"{result.learning_rate:g}"
    update = f"plain sgd by this one sample, η, the learning rate (the book's α), {rate}"
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
        "loss_formula": result.loss_formula,
        "notation": result.notation,
        "rule": result.rule_words,
        "worked": vars(result.worked),
        "layers": [
            _layer(layer)
            | {
                "formulas": {
                    "sums": f"z{layer.sub} = {layer.sums_formula}",
                    "outputs": layer.outputs_formula,
                    "errors": result.error_formula(layer.number),
                    "deltas": result.delta_formula(layer.number),
                    "update": result.update_formula(layer.number),
                }
            }
            for layer in result.layers
        ],
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

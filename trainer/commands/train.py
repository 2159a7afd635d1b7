"""`train`: a recipe's network on data, into a run folder."""

from __future__ import annotations

import shlex
import warnings
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from cyclopts import Group, Parameter
from cyclopts.validators import Number

from backends import MATMULS, Backend

from .. import display
from ..augmentation import Deformation, deformed_examples
from ..data import Dataset
from ..files import write_whole
from ..metrics import evaluate
from ..network import MLP
from ..recipes import Recipe, augmentation
from ..running.metrics_file import Tally
from ..running.recorder import DEFAULT_INTERVAL, Interval, Recorder, best_line, position
from ..running.resuming import ResumedRun
from ..running.run_folder import Run, check_free
from ..running.starting import Job, describe, new_training, resumed_training
from ..running.usage import UsageError
from ..settings import (
    FULL_BATCH_METHODS,
    DataSettings,
    NetworkSettings,
    TrainingSettings,
    settings_of,
)
from ..training import Diverged, EpochReport, Training
from ..training.minimize import IterationReport, Minimum, NotFinite, minimize
from .ending import STOPS, failures_told, interruptible
from .options import (
    FLAG,
    RESULT,
    WHAT,
    WHOLE,
    Count,
    JsonEvents,
    RunOut,
    TestData,
    given,
    one_value,
)
from .plot import draw_curves

_DEFORMED = "deformed.png"
_EXAMPLES, _VERSIONS = 10, 9  # images in it, and how often each is there besides as it is
_NETWORK = Group("The network (an option given wins over the recipe)", sort_key=2)
_TRAINING = Group("The training (likewise)", sort_key=3)
_Options: Any = one_value(
    {NetworkSettings: _NETWORK, TrainingSettings: _TRAINING, DataSettings: _TRAINING}
)


def run(
    *,
    device: Annotated[
        str | None,
        Parameter(
            group=WHAT,
            help="auto, cpu, gpu or gpu:N. auto takes a CUDA GPU where one answers, else the CPU."
            " [default: auto, or the resumed run's]",
        ),
    ] = None,
    data: Annotated[
        str | None,
        Parameter(
            group=WHAT,
            help="auto (MNIST, else digits), mnist, digits, ex4 (5,000 of MNIST's images cut to"
            " 20×20; ex4:PATH of others), or a path: a folder of IDX files, a CSV (label first, a"
            " whole number or a word), a folder with a train and a test CSV, an .npz, a .mat, or a"
            " folder with one sub-folder of images a class. [default: auto]",
        ),
    ] = None,
    test_data: Annotated[TestData, Parameter(group=WHAT)] = None,
    recipe: Annotated[
        str | None,
        Parameter(
            group=WHAT,
            help="Named settings, see the command recipes. [default: digits for the 8×8 digits,"
            " else rashid]",
        ),
    ] = None,
    limit: Annotated[
        Count, Parameter(group=WHAT, help="Only the first N training samples.")
    ] = None,
    validation: Annotated[
        int | None,
        WHOLE,
        Parameter(
            group=WHAT,
            help="Hold N training samples out (before --limit), report accuracy on them too, and"
            " keep the checkpoint that is best by it.",
            validator=Number(gte=0),
        ),
    ] = None,
    options: Annotated[_Options, Parameter(name="*")] = _Options(),  # noqa: B008
    matmul: Annotated[
        str | None,
        Parameter(
            choices=MATMULS,
            group=_NETWORK,
            help="What a GPU rounds the factors of float32 matrix products to, in batches and"
            " answers; sums are float32. [default: float32]",
        ),
    ] = None,
    patience: Annotated[
        Count,
        Parameter(
            group=_TRAINING,
            help="End when accuracy on the held-out samples (--validation) has not risen for N"
            " epochs, and keep the best epoch's weights.",
        ),
    ] = None,
    init_from: Annotated[
        Path | None,
        Parameter(
            group=_TRAINING,
            help="Start with the weights of a run or of a file, see import-weights; they decide"
            " the hidden layers and biases.",
        ),
    ] = None,
    seed: Annotated[
        int | None,
        WHOLE,
        Parameter(
            group=_TRAINING,
            help="Seed of the weights and the order, the same on every device. [default: 0]",
            validator=Number(gte=0),
        ),
    ] = None,
    resume: Annotated[
        Path | None,
        Parameter(
            group=RESULT,
            help="Continue the run in this folder from its newest whole checkpoint, with the same"
            " bits in the end as without a stop. No other option is needed; --epochs may be more"
            " or fewer than before, unless a --schedule depends on them.",
        ),
    ] = None,
    checkpoint_every: Annotated[
        str | None,
        Parameter(
            group=RESULT,
            help="Write all that --resume needs every so many epochs (3), or every so often (30s,"
            " 5m, 1h), besides at the end and when Ctrl-C, SIGTERM or SIGHUP ends it; the last"
            f" three are kept. [default: {DEFAULT_INTERVAL}, or the resumed run's]",
        ),
    ] = None,
    out: Annotated[RunOut, Parameter(group=RESULT)] = None,
    figures: Annotated[
        bool,
        FLAG,
        Parameter(
            group=RESULT,
            help="Draw loss and accuracy by epoch into the run's folder, figures/curves.png, and"
            " images as --augment deforms them, figures/deformed.png.",
        ),
    ] = False,
    as_json: Annotated[JsonEvents, Parameter(group=RESULT)] = False,
    quiet: Annotated[bool, FLAG, Parameter(group=RESULT, help="Nothing but errors.")] = False,
) -> int:
    """Train a network and keep it in a run folder (the default command)."""
    if as_json and quiet:
        raise UsageError("--json and --quiet exclude each other: --json prints nothing else anyway")
    changes = given(options)
    view = display.choose_view(as_json=as_json, quiet=quiet)
    with ExitStack() as cleanup:
        cleanup.callback(_leave, view)
        if checkpoint_every is not None:
            Interval.of(checkpoint_every)  # a mistake in it is told before anything is loaded
        if resume is not None:
            if out is not None:
                raise UsageError(f"--resume {resume} goes on in that folder; omit --out")
            typed = {
                "data": data,
                "test_data": test_data,
                "recipe": recipe,
                **changes,
                "seed": seed,
                "limit": limit,
                "validation": validation,
                "matmul": matmul,
                "patience": patience,
                "init_from": init_from and str(init_from),
            }
            typed = {name: value for name, value in typed.items() if value is not None}
            resumed = ResumedRun(resume.expanduser(), typed)
            cleanup.callback(resumed.folder.close)
            for line in resumed.notes:
                view.note(line)
            if resumed.is_finished:
                lines, result = resumed.finished()
                if figures:
                    drawn = draw_curves(resumed.folder)
                    lines.append(f"figure: {drawn}")
                    result["figure"] = str(drawn)
                view.end(lines, result)
                return 0
            job = resumed_training(view, resumed, device)
            folder, checkpoint = resumed.folder, resumed.checkpoint
            folder.config["device"] = describe(job.model.backend)
            for line in resumed.restore_metrics():
                view.note(line)
            tally = resumed.tally
        else:
            if out is not None:
                out = out.expanduser()
                check_free(out)
            job, config = new_training(
                view,
                device=device or "auto",
                matmul=matmul or "float32",
                data=data or "auto",
                test_data=test_data,
                recipe=recipe,
                changes=changes,
                seed=seed or 0,
                limit=limit,
                validation=validation or 0,
                patience=patience,
                init_from=init_from,
            )
            folder, checkpoint, tally = Run.start(out, config), None, Tally()
            cleanup.callback(folder.close)
        recorded = folder.config.get("checkpoint_every", DEFAULT_INTERVAL)
        every = Interval.of(str(recorded) if checkpoint_every is None else checkpoint_every)
        folder.config["checkpoint_every"] = checkpoint_every or recorded
        folder.write_config()
        recorder = Recorder(folder, job.model, every, job.training, tally, checkpoint)
        if init_from is not None and checkpoint is None:
            recorder.checkpoint()  # whose weights may be gone when the run is to go on
        facts = _facts(folder.config, job.model, folder.path)
        augmented = _augmented(*augmentation(job.recipe, job.data), job.turning_seconds)
        if augmented:
            facts["augment"] = augmented
        event = folder.config | {"run": str(folder.path)}
        if job.deformation is not None and figures:
            drawn = _draw_deformed(folder, job.deformation, job.data, job.model.backend)
            facts["figure"] = event["figure"] = str(drawn)
        if checkpoint is not None:
            samples = 0 if job.training is None else job.training.state().samples
            after = position(tally.epochs, samples)
            facts["resumed"] = f"after {after}, from {checkpoint.path}"
            event["resumed_from"] = str(checkpoint.path)
        view.start(facts, event)
        all_samples = len(job.data.train_y)
        batch_size = all_samples if job.training is None else job.training.course.batch_size
        if not job.model.backend.has_kernels(job.model.spec, batch_size):
            view.note(
                f"{job.model.spec.activation} has no kernel on {job.model.backend.name}: it is"
                " computed by plain array operations, which is slower"
            )
        if job.training is None:
            return _train_by_all_samples(view, recorder, job, figures)
        return _train_by_batches(view, recorder, job, job.training, figures)


def _leave(view: display.QuietView) -> None:
    with suppress(OSError):  # a terminal that is gone cannot be left as it was
        view.close()


def _train_by_batches(
    view: display.QuietView, recorder: Recorder, job: Job, training: Training, figures: bool
) -> int:
    model, path = job.model, recorder.folder.path
    epochs = training.course.epochs
    patience = recorder.folder.config["patience"]

    def where() -> str:
        return f"epoch {min(recorder.tally.epochs + 1, epochs)} of {epochs}"

    stop, stopped_early = 0, False
    with (
        interruptible() as stopped,
        warnings.catch_warnings(),
        failures_told(recorder, where) as failed,
    ):
        # NumPy's warnings of overflow; fit itself ends a training that diverges
        warnings.simplefilter("ignore", RuntimeWarning)
        try:
            for report in training:
                if isinstance(report, EpochReport):
                    recorder.epoch(_metrics(report))
                    view.epoch(report)
                    if patience is not None and _is_over(recorder.tally, patience):
                        stopped_early = True
                        break
                else:
                    recorder.progress()
                    view.progress(report)
                if stopped() and recorder.tally.epochs < epochs:
                    stop = stopped()
                    break
        except Diverged as error:
            model.save(recorder.folder.model_file)
            view.failed(str(error), {"run": str(path), "epoch": error.epoch})
            done = recorder.tally.epochs
            kept = f"those after epoch {done}" if done else "the initial ones"
            display.error(f"{error}. The weights in {path} are {kept}")
            return 1
        if stop:
            model.save(recorder.folder.model_file)
        recorder.checkpoint(ended=stopped_early)
        if patience is not None and not stop:
            recorder.take_best()
    if failed:
        return 128 + stopped() if stopped() else failed[0]
    tally = recorder.tally
    taken = tally.best if patience is not None and not stop else tally.last
    drawn = draw_curves(recorder.folder) if figures and tally.epochs else None
    accuracy = None if taken is None else taken["test_accuracy"]
    result = {
        "run": str(path),
        "epochs": tally.epochs,
        "interrupted": bool(stop),
        "test_accuracy": accuracy,
        "seconds": tally.seconds,
    }
    if stop:
        lines = [
            f"stopped by {STOPS[stop]} in {where()}",
            f"the weights so far are in {path}",
            f"go on:     {recorder.go_on}",
            f"try them:  python -m trainer evaluate {shlex.quote(str(path))}",
            *best_line(path, tally),
        ]
    else:
        lines = [
            f"{display.percent(accuracy or 0)} of {len(job.data.test_y):,} test samples right",
            f"{tally.epochs} epoch{'s' * (tally.epochs > 1)} in"
            f" {display.three_digits(tally.seconds)} s of training,"
            f" {tally.seconds + tally.other_seconds:.2f} s in all",
            f"run:  {path}",
            f"next: python -m trainer predict {shlex.quote(str(path))} --index 0",
            f"      python -m trainer evaluate {shlex.quote(str(path))}",
            *best_line(path, tally),
        ]
        if patience is not None:
            best = 0 if taken is None else taken["epoch"]
            lines.insert(1, f"kept: the weights of epoch {best}, the best by the held-out samples")
    if drawn is not None:
        lines.append(f"figure: {drawn}")
        result["figure"] = str(drawn)
    with failures_told(recorder, where) as failed:
        view.end(lines, result)
    return 128 + stop if stop else sum(failed)


def _train_by_all_samples(
    view: display.QuietView, recorder: Recorder, job: Job, figures: bool
) -> int:
    """Minimise, show and record it; an iteration is what elsewhere is an epoch."""
    folder, model, recipe, data = recorder.folder, job.model, job.recipe, job.data
    before = recorder.tally.epochs

    def keep(report: IterationReport) -> None:
        report = replace(
            report, iteration=before + report.iteration, iterations=recipe.max_iterations
        )
        recorder.epoch(_iteration_metrics(report))
        view.iteration(report)

    def where() -> str:
        return f"iteration {recorder.tally.epochs + 1} of {recipe.max_iterations}"

    with (
        interruptible() as stopped,
        warnings.catch_warnings(),
        failures_told(recorder, where) as failed,
    ):
        # NumPy's warnings of overflow; minimize itself ends a training that diverges
        warnings.simplefilter("ignore", RuntimeWarning)
        try:
            minimum = minimize(
                model,
                data.train_x,
                data.train_y,
                recipe.optimizer,
                recipe.max_iterations - before,
                keep,
                test=(data.test_x, data.test_y),
                validation=job.held_out,
                stop=lambda: bool(stopped()),
            )
        except NotFinite as error:
            model.save(folder.model_file)
            view.failed(str(error), {"run": str(folder.path), "epoch": error.iteration})
            done = recorder.tally.epochs
            kept = f"those after iteration {done}" if done else "the initial ones"
            display.error(f"{error}. The weights in {folder.path} are {kept}")
            return 1
        model.save(folder.model_file)
        recorder.checkpoint(ended=not minimum.stopped)
    if failed:
        return 128 + stopped() if stopped() else failed[0]
    if not minimum.stopped:
        to_numpy = model.backend.to_numpy
        answers = to_numpy(model.predict(data.train_x))
        labels = to_numpy(model.backend.asarray(data.train_y))
        view.training_report(evaluate(labels, answers, data.classes))
    done = recorder.tally.epochs
    result = _minimum_result(folder, minimum) | {"epochs": done}
    if minimum.stopped:
        lines = [
            f"stopped by {STOPS[stopped()]} in {where()}",
            f"the weights after iteration {done} are in {folder.path}",
            f"go on:     {recorder.go_on}",
            f"try them:  python -m trainer evaluate {shlex.quote(str(folder.path))}",
        ]
    else:
        lines = _minimum_lines(folder, minimum, recipe, before, len(data.train_y), len(data.test_y))
    lines += best_line(folder.path, recorder.tally)
    if figures and done:
        drawn = draw_curves(folder)
        lines.append(f"figure: {drawn}")
        result["figure"] = str(drawn)
    with failures_told(recorder, where) as failed:
        view.end(lines, result)
    return 128 + stopped() if minimum.stopped else sum(failed)


def _iteration_metrics(report: IterationReport) -> dict[str, Any]:
    fields = asdict(report)
    del fields["iterations"]
    return {
        "epoch": fields.pop("iteration"),
        "epoch_seconds": fields.pop("seconds"),
        **fields,
    }


def _minimum_result(folder: Run, minimum: Minimum) -> dict[str, Any]:
    fields = asdict(minimum)
    return {
        "run": str(folder.path),
        "epochs": fields.pop("iterations"),
        "interrupted": fields.pop("stopped"),
        **fields,
    }


def _minimum_lines(
    folder: Run,
    minimum: Minimum,
    recipe: Recipe,
    before: int,
    train_samples: int,
    test_samples: int,
) -> list[str]:
    more = f" after the {before} before" if before else ""
    total = minimum.seconds + minimum.evaluation_seconds + minimum.compile_seconds
    lines = [
        f"{display.percent(minimum.train_accuracy)} of {train_samples:,} training samples right,"
        f" {display.percent(minimum.test_accuracy or 0)} of {test_samples:,} test samples",
        f"{minimum.iterations} iterations of {recipe.optimizer}{more},"
        f" {minimum.evaluations} evaluations of loss and gradient",
        f"{display.three_digits(minimum.seconds)} s of training, {total:.2f} s in all",
        f"run:  {folder.path}",
        f"next: python -m trainer predict {shlex.quote(str(folder.path))} --index 0",
        f"      python -m trainer evaluate {shlex.quote(str(folder.path))}",
    ]
    if before + minimum.iterations < recipe.max_iterations:
        lines.insert(3, f"it ended itself: {minimum.message}")
    return lines


def _is_over(tally: Tally, patience: int) -> bool:
    """Whether so many epochs have brought no better one."""
    return tally.best is not None and tally.epochs - tally.best["epoch"] >= patience


def _metrics(report: EpochReport) -> dict[str, Any]:
    fields = asdict(report)
    fields["epoch_seconds"] = fields.pop("seconds")
    return fields


def _facts(config: dict[str, Any], model: MLP, path: Path) -> dict[str, str]:
    """What is trained on what, a line each."""
    data, network, settings = config["data"], config["network"], config["settings"]
    backend = model.backend
    reason = f" ({backend.reason})" if backend.reason else ""
    matmul = f", {backend.matmul} products" if backend.matmul != "float32" else ""
    held_out = data["validation_samples"]
    classes = data["classes"]
    parts = [
        f"{data['name']}: {data['train_samples']:,} training",
        f"{held_out:,} held-out" if held_out else "",
        f"{data['test_samples']:,} test samples",
        f"{'×'.join(map(str, data['image_shape']))} pixels" if data["image_shape"] else "",
        f"{len(classes)} classes" if len(classes) > 1 else f"one class only, {classes[0]}",
    ]
    smoothing = settings.get("label_smoothing")  # runs of older versions do not have it
    smoothed = f", label smoothing {smoothing:g}" if smoothing else ""
    l2 = f", l2 {settings['l2']:g}" if settings["l2"] else ""
    return {
        "device": f"{backend.name}: {backend.device_name}{reason}",
        "data": ", ".join(part for part in parts if part),
        "network": f"{' → '.join(map(str, model.sizes))}, {network['activation']}, "
        f"{'with' if network['bias'] else 'no'} bias, {model.weight_count:,} weights, "
        f"{network['dtype']}{matmul}",
        "recipe": f"{config['recipe']}: loss {network['loss']}{smoothed}{l2}, {_steps(settings)}, "
        f"seed {config['seed']}",
        "run": str(path),
    }


# what a line says of the steps in words of its own
_SAID = ("epochs", "batch_size", "learning_rate", "optimizer", "max_iterations", "schedule")
_SAID_OF_ORDER = ("shuffle", "sampling", "steps")


def _steps(settings: dict[str, Any]) -> str:
    if settings["optimizer"] in FULL_BATCH_METHODS:
        return f"{settings['optimizer']}, at most {settings['max_iterations']} iterations"
    more = ""
    for name, setting in settings_of(TrainingSettings).items():
        value = settings.get(name)  # which older versions lack
        if name not in _SAID + _SAID_OF_ORDER and value not in (None, setting.default):
            more += f" {_in_words(name.replace('_', ' '), value)}"
    schedule = "" if settings["schedule"] == "constant" else f" {settings['schedule']}"
    return (
        f"{settings['optimizer']}{more}, rate {settings['learning_rate']:g}{schedule}, "
        f"batch {settings['batch_size']}, {_order(settings)}"
    )


def _in_words(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return name if value else f"no {name}"
    return f"{name} {value:g}" if isinstance(value, int | float) else f"{name} {value}"


def _order(settings: dict[str, Any]) -> str:
    if settings["sampling"] == "with-replacement":
        steps = settings["steps"]
        return f"{steps:,} steps drawn at random" if steps else "drawn at random"
    return "shuffled" if settings["shuffle"] else "file order"


def _augmented(degrees: Sequence[float], settings: dict[str, float], seconds: float) -> str:
    """Return in words what is made of the images; the turned copies took so many seconds."""
    said = []
    if degrees:
        angles = ", ".join(f"±{angle:g}°" for angle in degrees)
        said.append(
            f"each image and {2 * len(degrees)} copies of it turned by {angles}, made in"
            f" {display.three_digits(seconds)} s"
        )
    ways = {
        "rotate": "rotated by up to {:g}°",
        "scale": "scaled by up to {:g} %",
        "shear": "sheared by up to {:g}°",
        "shift": "shifted by up to {:g} pixels",
    }
    parts = [words.format(settings[name]) for name, words in ways.items() if name in settings]
    if "alpha" in settings:
        elastic = f"elastically with α {settings['alpha']:g} and σ {settings['sigma']:g}"
        parts.insert(0, elastic)
    if parts:
        said.append(f"deformed anew each epoch: {', '.join(parts)}")
    return "; ".join(said)


def _draw_deformed(
    folder: Run, deformation: Deformation, dataset: Dataset, backend: Backend
) -> Path:
    """Draw an image of each class and what becomes of it into a run's folder of figures."""
    from .. import figures  # matplotlib takes its time to import

    labels = backend.to_numpy(backend.asarray(dataset.train_y))
    codes, first = np.unique(labels, return_index=True)
    codes, first = codes[:_EXAMPLES], first[:_EXAMPLES]
    rows = [backend.asarray(dataset.train_x[row : row + 1, :]) for row in first.tolist()]
    examples = deformed_examples(backend, deformation, backend.xp.concat(rows), _VERSIONS)
    image = figures.deformed(
        backend.to_numpy(examples),
        deformation.image_shape,
        dataset.value_range,
        [str(dataset.classes[code]) for code in codes.tolist()],
    )
    file = folder.figure_file(_DEFORMED)
    write_whole(file, image)
    return file

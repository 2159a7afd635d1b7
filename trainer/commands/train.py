"""`train`: a recipe's network on data, into a run folder."""

from __future__ import annotations

import shlex
import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from cyclopts import Parameter

from backends import MATMULS

from .. import display
from ..data import Dataset
from ..metrics import balanced_accuracy, evaluate, largest_share
from ..recipes import augmentation
from ..running.metrics_file import Tally
from ..running.recorder import Interval, Recorder, best_line, position, resume_command
from ..running.resuming import ResumedRun
from ..running.run_folder import Run, check_free
from ..running.starting import Job, describe, new_training, resumed_training
from ..running.usage import UsageError
from ..settings import FULL_BATCH_METHODS, TrainingSettings, settings_of
from ..training import Diverged, EpochReport, Training
from ..training.minimize import IterationReport, Minimum, NotFinite, minimize
from .config_file import ConfigFile
from .deformed import draw_deformed
from .ending import STOPS, failures_told, interruptible
from .next_steps import is_poor, next_commands
from .options import (
    COUNT,
    LABEL,
    NETWORK,
    RESULT,
    TRAINING,
    TRANSPOSE,
    WHAT,
    WHOLE,
    Flag,
    JsonEvents,
    RunOut,
    Source,
    given,
    one_value,
)
from .plot import draw_curves
from .training_log import LOGS, TrainingLog, check_log
from .watched import Watched
from .words import device_words, network_words, samples_words, setting_words

_INTERVAL = "30s"  # of checkpoints, where nothing else is asked for
_Options: Any = one_value(NETWORK, TRAINING)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is trained, besides the settings; a resumed run knows it.

    Parameters
    ----------
    data
        auto (MNIST, else digits), mnist, digits, ex4 (5,000 of MNIST's images cut to 20×20;
        ex4:PATH of others), or a path: a folder of IDX files or one of them, a table (.csv, .tsv,
        .data, .parquet and the like), a folder with a train and a test table, an .npz, a .mat, or a
        folder with one sub-folder of images a class, or with train, valid and test of such;
        docs/data.md has the names that are expected in them. [default: what --recipe was made
        for: digits, ex4, or else auto]
    test_data
        Test on this instead of a part of --data; same kinds.
    label
        Of a table, the column of the labels: its name, or its number from 1, of which -1 is the
        last. [default: the one that can be it, as a line says]
    recipe
        Named settings, see the command recipes. [default: digits for the 8×8 digits, else rashid]
    validation
        Hold N training samples out (before --limit), report accuracy on them too, and keep the
        checkpoint that is best by it. A validation part of the data is held out by itself.
    matmul
        What a GPU rounds the factors of float32 matrix products to, in batches and answers; sums
        are float32. [default: float32]
    init_from
        Start with the weights of a run or of a file, see import-weights; they decide the hidden
        layers and biases.
    seed
        Seed of the weights and the order, the same on every device. [default: 0]
    """

    data: Annotated[Source | None, WHAT] = None
    test_data: Annotated[Source | None, WHAT] = None
    label: Annotated[str | None, LABEL, WHAT] = None
    transpose: Annotated[bool | None, TRANSPOSE, WHAT] = None
    recipe: Annotated[str | None, WHAT] = None
    validation: Annotated[int | None, WHOLE, WHAT] = None
    matmul: Annotated[str | None, Parameter(choices=MATMULS), NETWORK] = None
    init_from: Annotated[Path | None, TRAINING] = None
    seed: Annotated[int | None, WHOLE, TRAINING] = None


def run(
    *,
    config: Annotated[Path | None, WHAT] = None,
    device: Annotated[str | None, WHAT] = None,
    options: _Options = _Options(),  # noqa: B008
    wanted: Wanted = Wanted(),
    patience: Annotated[int | None, COUNT, TRAINING] = None,
    resume: Annotated[Path | None, RESULT] = None,
    checkpoint_every: Annotated[str | None, RESULT] = None,
    out: Annotated[RunOut, RESULT] = None,
    figures: Annotated[Flag, RESULT] = False,
    watch: Annotated[Flag, RESULT] = False,
    log: Annotated[str | None, Parameter(choices=LOGS), RESULT] = None,
    as_json: Annotated[JsonEvents, RESULT] = False,
    quiet: Annotated[Flag, RESULT] = False,
) -> int:
    """Train a network and keep it in a run folder (the default command).

    Settings that no option gives are the recipe's.

        python -m trainer train --data digits --epochs 10
        python -m trainer train --recipe fast
        python -m trainer train --data titanic.csv --label Survived
        python -m trainer train --resume runs/r1

    Parameters
    ----------
    config
        Options from a TOML file: learning_rate = 0.3, hidden = [300, 100], data = "mnist"; or those
        of a run (runs/r1), which is trained anew. What is typed wins; paths are relative to the
        current folder.
    device
        auto, cpu, gpu or gpu:N (or cuda:N). auto takes a CUDA GPU where one answers, else the CPU.
        [default: auto, or the resumed run's]
    patience
        End when accuracy on the held-out samples (--validation) has not risen for N epochs, and
        keep the best epoch's weights.
    resume
        Continue the run in this folder from its newest whole checkpoint, with the same bits in the
        end as without a stop. No other option is needed; --epochs may be more or fewer than before,
        unless a --schedule depends on them.
    checkpoint_every
        Write all that --resume needs every so many epochs (3), or every so often (30s, 5m, 1h),
        besides at the end and when Ctrl-C, SIGTERM or SIGHUP ends it; the last three are kept.
        [default: 30s, or the resumed run's]
    figures
        Draw loss and accuracy by epoch into the run's folder, figures/curves.png, and images as
        --augment turns and deforms them, figures/deformed.png.
    watch
        Show it on a page, too, in a browser of this machine: curves, hidden units, backquery and
        mistakes as they come. The page stays until Ctrl-C; watch RUN shows it again.
    log
        tensorboard: write losses, accuracies, rates, histograms of the weights, a backquery of each
        class and deformed images for TensorBoard, into the run's folder. [default: none, or the
        resumed run's]
    quiet
        Nothing but errors.
    """
    if as_json and quiet:
        raise UsageError("--json and --quiet exclude each other: --json prints nothing else anyway")
    asked, changes = given(wanted), given(options)
    if patience is not None:
        asked["patience"] = patience
    view = display.choose_view(as_json=as_json, quiet=quiet)
    with ExitStack() as cleanup:
        cleanup.callback(_leave, view)
        if resume is not None:
            Interval.of(
                checkpoint_every or _INTERVAL
            )  # a mistake is told before anything is loaded
            if out is not None:
                raise UsageError(f"--resume {resume} goes on in that folder; omit --out")
            if config is not None:
                raise UsageError(f"--resume {resume} goes on with its own options; omit --config")
            folder = Run.resume(resume.expanduser())
            cleanup.callback(folder.close)
            resumed = ResumedRun(folder, changes | asked)
            log = log or folder.config.get("log")
            check_log(log)
            for line in resumed.notes:
                view.note(line)
            if resumed.is_finished:
                lines, result = resumed.finished()
                if figures:
                    _add_curves(folder, lines, result)
                view.end(lines, result)
                return 0
            job = resumed_training(view, resumed, device)
            folder.config["device"] = describe(job.model.backend)
            for line in resumed.restore_metrics():
                view.note(line)
            checkpoint, tally = resumed.checkpoint, resumed.tally
        else:
            file = ConfigFile.read(config, run)
            others: dict[str, Any] = {
                "device": device,
                "out": out,
                "checkpoint_every": checkpoint_every,
                "log": log,
            }
            others = {name: value for name, value in others.items() if value is not None}
            with file.named_in_errors(besides=[*asked, *changes, *others]):
                others = file.others | others
                checkpoint_every = others.get("checkpoint_every", _INTERVAL)
                Interval.of(checkpoint_every)
                out, figures = (
                    check_free(others.get("out")),
                    figures or others.get("figures", False),
                )
                device, log = others.get("device", "auto"), others.get("log")
                check_log(log)
                job, started = new_training(view, device, asked, changes, file.basis)
            folder, checkpoint, tally = Run.start(out, started), None, Tally()
            cleanup.callback(folder.close)
        interval = checkpoint_every or folder.config.get("checkpoint_every", _INTERVAL)
        every = Interval.of(str(interval))
        folder.config |= {"checkpoint_every": interval, "log": log}
        folder.write_config()
        to_log = TrainingLog(folder, job, tally.epochs).epoch if log else None
        recorder = Recorder(
            folder, job.model, every, job.training, tally, checkpoint is not None, to_log
        )
        if checkpoint is None and folder.config["init_from"] is not None:
            recorder.checkpoint()  # whose weights may be gone when the run is to go on
        facts = _facts(job, folder)
        event = folder.config | {"run": str(folder.path)}
        if log:
            beside = shlex.quote(str(folder.path.parent))
            facts["log"] = f"for TensorBoard; see it: tensorboard --logdir {beside}"
        if job.recipe.augment and figures:
            drawn = draw_deformed(folder, job)
            facts["figure"] = event["figure"] = str(drawn)
        if checkpoint is not None:
            samples = 0 if job.training is None else job.training.state().samples
            after = position(tally.epochs, samples)
            facts["resumed"] = f"after {after}, from {checkpoint.path}"
            event["resumed_from"] = str(checkpoint.path)
        view.start(facts, event)
        spec = job.model.spec
        if not job.model.backend.has_kernels(spec):
            view.note(
                f"{spec.activation} with {spec.loss} has no kernel on {job.model.backend.name}: it"
                " is computed by plain array operations, which is slower"
            )
        if not watch:
            return _train(view, recorder, job, figures)
        watched: Any = cleanup.enter_context(Watched(view, folder, job))
        code = _train(watched, recorder, job, figures)
        watched.keep()
        if not code:
            watched.stay()
        return code


def _leave(view: display.QuietView) -> None:
    with suppress(OSError):  # a terminal that is gone cannot be left as it was
        view.close()


def _train(view: display.QuietView, recorder: Recorder, job: Job, figures: bool) -> int:
    """Train, show and record it; of a full-batch training, an iteration is its epoch."""
    folder, model, training = recorder.folder, job.model, job.training
    unit, total = "iteration", job.recipe.max_iterations
    if training is not None:
        unit, total = "epoch", training.course.epochs
    before = recorder.tally.epochs

    def where() -> str:
        return f"{unit} {min(recorder.tally.epochs + 1, total)} of {total}"

    patience = folder.config["patience"]
    stop, ended_early, minimum = 0, False, None
    with (
        interruptible() as stopped,
        warnings.catch_warnings(),
        failures_told(recorder, where) as failed,
    ):
        # NumPy's warnings of overflow; what trains ends itself where it diverges
        warnings.simplefilter("ignore", RuntimeWarning)
        try:
            if training is None:
                minimum = _minimize(view, recorder, job, stopped)
                stop = stopped() if minimum.stopped else 0
                ended_early = not stop
            else:
                stop, ended_early = _learn(view, recorder, training, stopped)
        except (Diverged, NotFinite) as error:
            model.save(folder.model_file)
            done = recorder.tally.epochs
            view.failed(str(error), {"run": str(folder.path), "epoch": done + 1})
            kept = f"those after {unit} {done}" if done else "the initial ones"
            display.error(f"{error}. The weights in {folder.path} are {kept}")
            return 1
        if stop or minimum is not None:
            model.save(folder.model_file)
        recorder.checkpoint(ended=ended_early)
        if patience is not None and not stop:
            recorder.take_best()
    if failed:
        return 128 + stopped() if stopped() else failed[0]
    if minimum is not None and not stop:
        to_numpy = model.backend.to_numpy
        answers = to_numpy(model.predict(job.data.train_x))
        labels = to_numpy(model.backend.asarray(job.data.train_y))
        view.training_report(evaluate(labels, answers, job.data.classes))
    path, tally = shlex.quote(str(folder.path)), recorder.tally
    taken = (tally.best if patience is not None and not stop else tally.last) or {}
    result: dict[str, Any] = {
        "run": str(folder.path),
        "epochs": tally.epochs,
        "interrupted": bool(stop),
    }
    if minimum is None:
        result |= {"test_accuracy": taken.get("test_accuracy"), "seconds": tally.seconds}
    else:
        result |= {k: v for k, v in vars(minimum).items() if k not in ("iterations", "stopped")}
    balance = {} if stop else _balance(job, result["test_accuracy"] or 0.0)
    result |= balance
    if stop:
        kept = "so far" if minimum is None else f"after iteration {tally.epochs}"
        lines = [
            f"stopped by {STOPS[stop]} in {where()}",
            f"the weights {kept} are in {folder.path}",
            f"go on:     {resume_command(folder.path)}",
            f"try them:  python -m trainer evaluate {path}",
        ]
    else:
        if minimum is None:
            lines = _epochs_lines(tally, taken, patience, _tested_words(job.data, balance))
        else:
            lines = _minimum_lines(minimum, job, before, _tested_words(job.data, balance))
        if "one_answer" in balance:
            lines.insert(1, _one_answer_line(job, balance))
        # a full-batch method finds its steps by itself
        poor = minimum is None and is_poor(
            result["test_accuracy"] or 0.0, _class_counts(job, job.data.test_y)
        )
        first, *others = next_commands(folder.path, folder.config["data"], is_poor=poor)
        lines += [f"run:  {folder.path}", f"next: {first}", *(f"      {way}" for way in others)]
    lines += best_line(folder.path, tally)
    if figures and tally.epochs:
        _add_curves(folder, lines, result)
    with failures_told(recorder, where) as failed:
        view.end(lines, result)
    return 128 + stop if stop else sum(failed)


def _learn(
    view: display.QuietView, recorder: Recorder, training: Training, stopped: Callable[[], int]
) -> tuple[int, bool]:
    """Train by batches; return the signal that stopped it or 0, and whether patience ended it."""
    patience = recorder.folder.config["patience"]
    for report in training:
        if isinstance(report, EpochReport):
            recorder.epoch(_metrics(report))
            view.epoch(report)
            best = recorder.tally.best
            if patience and best is not None and recorder.tally.epochs - best["epoch"] >= patience:
                return 0, True
        else:
            recorder.progress()
            view.progress(report)
        if stopped() and recorder.tally.epochs < training.course.epochs:
            return stopped(), False
    return 0, False


def _minimize(
    view: display.QuietView, recorder: Recorder, job: Job, stopped: Callable[[], int]
) -> Minimum:
    """Train by all samples at once, for the iterations that are left."""
    before, data, most = recorder.tally.epochs, job.data, job.recipe.max_iterations

    def keep(report: IterationReport) -> None:
        report = replace(report, iteration=before + report.iteration, iterations=most)
        recorder.epoch(_metrics(report))
        view.iteration(report)

    return minimize(
        job.model,
        data.train_x,
        data.train_y,
        job.recipe.optimizer,
        most - before,
        keep,
        test=(data.test_x, data.test_y),
        validation=job.held_out,
        stop=lambda: bool(stopped()),
    )


def _metrics(report: EpochReport | IterationReport) -> dict[str, Any]:
    """Return the line that a report has in metrics.jsonl."""
    names = {"iteration": "epoch", "seconds": "epoch_seconds"}
    return {names.get(k, k): value for k, value in vars(report).items() if k != "iterations"}


def _add_curves(folder: Run, lines: list[str], result: dict[str, Any]) -> None:
    result["figure"] = str(draw_curves(folder))
    lines.append(f"figure: {result['figure']}")


def _epochs_lines(
    tally: Tally, taken: dict[str, Any], patience: int | None, tested: str
) -> list[str]:
    accuracy = display.percent(taken.get("test_accuracy") or 0)
    kept = f"kept: the weights of epoch {taken.get('epoch', 0)}, the best by the held-out samples"
    return [
        f"{accuracy} of {tested}",
        *([kept] if patience is not None else []),
        f"{tally.epochs} epoch{'s' * (tally.epochs > 1)} in"
        f" {display.three_digits(tally.seconds)} s of training,"
        f" {tally.seconds + tally.other_seconds:.2f} s in all",
    ]


def _minimum_lines(minimum: Minimum, job: Job, before: int, tested: str) -> list[str]:
    more = f" after the {before} before" if before else ""
    total = minimum.seconds + minimum.evaluation_seconds + minimum.compile_seconds
    ended_itself = before + minimum.iterations < job.recipe.max_iterations
    trained = (
        f"{display.percent(minimum.train_accuracy)} of {len(job.data.train_y):,} training samples"
        " right, "
    )
    if job.data.tests_on_training:
        trained = ""
    return [
        f"{trained}{display.percent(minimum.test_accuracy or 0)} of {tested}",
        f"{minimum.iterations} iterations of {job.recipe.optimizer}{more},"
        f" {minimum.evaluations} evaluations of loss and gradient",
        f"{display.three_digits(minimum.seconds)} s of training, {total:.2f} s in all",
        *([f"it ended itself: {minimum.message}"] if ended_itself else []),
    ]


def _class_counts(job: Job, codes: Any) -> np.ndarray:
    """Count the samples of each class."""
    backend = job.model.backend
    host = backend.to_numpy(backend.asarray(codes))
    return np.bincount(host, minlength=len(job.data.classes))


def _balance(job: Job, accuracy: float) -> dict[str, Any]:
    """Return what `end` says of test samples of which accuracy alone may deceive, else nothing.

    They are answered anew only where classes are unbalanced, or so many are right as there are of
    one class.
    """
    data, model = job.data, job.model
    counts = _class_counts(job, data.test_y)
    shares = (largest_share(part) for part in (counts, _class_counts(job, data.train_y)))
    is_unbalanced = any(share is not None for share in shares)
    if not is_unbalanced and round(accuracy * counts.sum()) not in counts:
        return {}
    answers = model.backend.to_numpy(model.predict(data.test_x))
    found: dict[str, Any] = {}
    if is_unbalanced:
        found["balanced_accuracy"] = balanced_accuracy(np.asarray(data.test_y), answers)
    if len(np.unique(answers)) == 1 < len(data.classes):
        found["one_answer"] = data.classes[answers[0]]
    return found


def _tested_words(data: Dataset, balance: dict[str, Any]) -> str:
    """Return what was right, after the accuracy: "200 test samples right"."""
    words = f"{len(data.test_y):,} test samples right"
    if data.tests_on_training:
        words = f"the {len(data.test_y)} training samples right, too few to test on others"
    if "balanced_accuracy" in balance:
        words += f", balanced accuracy {display.percent(balance['balanced_accuracy'])}"
    return words


def _one_answer_line(job: Job, balance: dict[str, Any]) -> str:
    counts, answer = _class_counts(job, job.data.test_y), balance["one_answer"]
    share = counts[job.data.classes.index(answer)] / counts.sum()
    words = display.one_answer_words(str(answer), float(share))
    takes_weights = not job.recipe.sees_all_samples and job.recipe.class_weight == "none"
    if takes_weights and "balanced_accuracy" in balance:
        words += "; --class-weight balanced gives rare classes more weight"
    return words


def _facts(job: Job, folder: Run) -> dict[str, str]:
    """What is trained on what, a line each."""
    config, model = folder.config, job.model
    data, network, settings = config["data"], config["network"], config["settings"]
    matmul = model.backend.matmul
    products = f", {matmul} products" if matmul != "float32" else ""
    classes = data["classes"]
    parts = [
        samples_words(data),
        f"{'×'.join(map(str, data['image_shape']))} pixels" if data["image_shape"] else "",
        f"{len(classes)} classes" if len(classes) > 1 else f"one class only, {classes[0]}",
    ]
    counts = _class_counts(job, job.data.train_y)
    if (share := largest_share(counts)) is not None:
        parts.append(
            f"{display.percent(share)} of the training samples are {classes[counts.argmax()]}"
        )
    smoothing = settings.get("label_smoothing")  # runs of older versions do not have it
    smoothed = f", label smoothing {smoothing:g}" if smoothing else ""
    l2 = f", l2 {settings['l2']:g}" if settings["l2"] else ""
    weighted = ", classes weighted alike" if settings.get("class_weight") == "balanced" else ""
    facts = {
        "device": device_words(model.backend),
        "data": ", ".join(filter(None, parts)),
        "network": f"{network_words(model)}, {model.weight_count:,} weights, {model.dtype}"
        f"{products}",
        "recipe": f"{config['recipe']}: loss {network['loss']}{smoothed}{l2}{weighted},"
        f" {_steps(settings)}, seed {config['seed']}",
        "run": str(folder.path),
    }
    augmented = _augmented(*augmentation(job.recipe, job.data), job.turning_seconds)
    return facts | ({"augment": augmented} if augmented else {})


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
            more += f" {setting_words(name, value)}"
    schedule = "" if settings["schedule"] == "constant" else f" {settings['schedule']}"
    return (
        f"{settings['optimizer']}{more}, rate {settings['learning_rate']:g}{schedule}, "
        f"batch {settings['batch_size']}, {_order(settings)}"
    )


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
        "alpha": "elastically with α {alpha:g} and σ {sigma:g}",
        "rotate": "rotated by up to {rotate:g}°",
        "scale": "scaled by up to {scale:g} %",
        "shear": "sheared by up to {shear:g}°",
        "shift": "shifted by up to {shift:g} pixels",
    }
    parts = [words.format(**settings) for name, words in ways.items() if name in settings]
    if parts:
        said.append(f"deformed anew each epoch: {', '.join(parts)}")
    return "; ".join(said)

"""`train`: a recipe's network on data, into a run folder."""

from __future__ import annotations

import shlex
import warnings
from collections.abc import Callable
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
from ..parallel import ENDED, Process, join, launched
from ..running.checkpoints import Checkpoint
from ..running.metrics_file import Tally
from ..running.recorder import Interval, Recorder, best_line, position, resume_command
from ..running.resuming import ResumedRun
from ..running.run_folder import Run, check_free
from ..running.starting import Job, describe, new_training, resumed_training
from ..running.usage import UsageError
from ..training import Diverged, EpochReport, Training
from ..training.minimize import IterationReport, Minimum, NotFinite, minimize
from .config_file import ConfigFile
from .deformed import draw_deformed
from .ending import MISTAKES, STOPS, failures_told, interruptible
from .facts import class_counts, training_facts
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
from .ranked import follow
from .training_log import LOGS, TrainingLog, check_log
from .watched import Watched

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
    if watch and launched() > 1:
        raise UsageError("--watch: not with several processes; watch RUN shows a run later")
    process = join()
    if not process.is_first:
        view = display.QuietView()
    with ExitStack() as cleanup:
        cleanup.callback(_leave, view)
        if resume is not None:
            Interval.of(checkpoint_every or _INTERVAL)  # before anything is loaded
            if out is not None:
                raise UsageError(f"--resume {resume} goes on in that folder; omit --out")
            if config is not None:
                raise UsageError(f"--resume {resume} goes on with its own options; omit --config")
            with process.together(*MISTAKES):
                path = resume.expanduser()
                folder = Run.resume(path) if process.is_first else Run.open(path)
                cleanup.callback(folder.close)
                resumed = ResumedRun(folder, changes | asked)
                log = log or folder.config.get("log")
                check_log(log)
                for line in resumed.notes:
                    view.note(line)
                job = None
                if not resumed.is_finished:
                    job = resumed_training(view, resumed, device, process)
            if job is None:
                return _finished(view, resumed, figures, process)
            folder.config["device"] = describe(job.model.backend, process.count)
            if process.is_first:
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
                figures = figures or others.get("figures", False)
                device, log = others.get("device", "auto"), others.get("log")
                check_log(log)
                with process.together(*MISTAKES):
                    if process.is_first:
                        out = check_free(others.get("out"))
                    job, started = new_training(view, device, asked, changes, file.basis, process)
                    folder = Run.start(out, started) if process.is_first else Run(Path(), started)
                    cleanup.callback(folder.close)
            checkpoint, tally = None, Tally()
        where = Path(process.gather(str(folder.path))[0])
        process.check_same(
            data=folder.config["data"]["crc32"],
            settings=_alike(folder.config),
            device=job.model.backend.kind,
        )
        if not process.is_first:
            assert job.training is not None
            return follow(job.training, process, where)
        interval = checkpoint_every or folder.config.get("checkpoint_every", _INTERVAL)
        with process.until_vote():
            folder.config |= {"checkpoint_every": interval, "log": log}
            recorder = _recorder(folder, job, tally, is_resumed=checkpoint is not None)
            _show_start(view, recorder, job, checkpoint, process, figures)
        process.vote(0)
        if not watch:
            return _train(view, recorder, job, figures, process)
        watched: Any = cleanup.enter_context(Watched(view, folder, job))
        code = _train(watched, recorder, job, figures, process)
        watched.keep()
        if not code:
            watched.stay()
        return code


def _alike(config: dict[str, Any]) -> dict[str, Any]:
    """Return what all processes of a training must have alike, besides the samples."""
    return {name: config[name] for name in ("version", "recipe", "settings", "seed", "network")}


def _recorder(folder: Run, job: Job, tally: Tally, *, is_resumed: bool) -> Recorder:
    """Write the config; return what writes all that follows."""
    folder.write_config()
    every = Interval.of(str(folder.config["checkpoint_every"]))
    to_log = TrainingLog(folder, job, tally.epochs).epoch if folder.config["log"] else None
    recorder = Recorder(folder, job.model, every, job.training, tally, is_resumed, to_log)
    if not is_resumed and folder.config["init_from"] is not None:
        recorder.checkpoint()  # whose weights may be gone when the run is to go on
    return recorder


def _show_start(
    view: display.QuietView,
    recorder: Recorder,
    job: Job,
    checkpoint: Checkpoint | None,
    process: Process,
    figures: bool,
) -> None:
    """Show what is trained, and from where on."""
    folder = recorder.folder
    facts = training_facts(job, folder, process.count)
    event = folder.config | {"run": str(folder.path)}
    if folder.config["log"]:
        beside = shlex.quote(str(folder.path.parent))
        facts["log"] = f"for TensorBoard; see it: tensorboard --logdir {beside}"
    if job.recipe.augment and figures:
        drawn = draw_deformed(folder, job)
        facts["figure"] = event["figure"] = str(drawn)
    if checkpoint is not None:
        samples = 0 if job.training is None else job.training.state().samples
        after = position(recorder.tally.epochs, samples)
        facts["resumed"] = f"after {after}, from {checkpoint.path}"
        event["resumed_from"] = str(checkpoint.path)
    view.start(facts, event)
    backend, spec = job.model.backend, job.model.spec
    if not backend.has_kernels(spec):
        view.note(
            f"{spec.activation} with {spec.loss} has no kernel on {backend.name}: it is computed by"
            " plain array operations, which is slower"
        )


def _finished(view: display.QuietView, resumed: ResumedRun, figures: bool, process: Process) -> int:
    """Repair and show a run of which nothing is left to train."""
    if process.is_first:
        lines, result = resumed.finished()
        if figures:
            _add_curves(resumed.folder, lines, result)
        view.end(lines, result)
    process.finished()
    return 0


def _leave(view: display.QuietView) -> None:
    with suppress(OSError):  # a terminal that is gone cannot be left as it was
        view.close()


def _train(
    view: display.QuietView, recorder: Recorder, job: Job, figures: bool, process: Process
) -> int:
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
        process.stopped = stopped
        try:
            if training is None:
                minimum = _minimize(view, recorder, job, stopped)
                stop = stopped() if minimum.stopped else 0
                ended_early = not stop
            else:
                stop, ended_early = _learn(view, recorder, training, stopped, process)
        except (Diverged, NotFinite) as error:
            process.finished()
            model.save(folder.model_file)
            done = recorder.tally.epochs
            view.failed(str(error), {"run": str(folder.path), "epoch": done + 1})
            kept = f"those after {unit} {done}" if done else "the initial ones"
            display.error(f"{error}. The weights in {folder.path} are {kept}")
            return 1
        process.finished()
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
            result["test_accuracy"] or 0.0, class_counts(job, job.data.test_y)
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
    view: display.QuietView,
    recorder: Recorder,
    training: Training,
    stopped: Callable[[], int],
    process: Process,
) -> tuple[int, bool]:
    """Train by batches; return the signal that stopped it or 0, and whether patience ended it."""
    patience = recorder.folder.config["patience"]
    for report in training:
        wanted = 0
        with process.until_vote():
            if isinstance(report, EpochReport):
                recorder.epoch(_metrics(report))
                view.epoch(report)
                best = recorder.tally.best
                if patience and best is not None:
                    is_over = recorder.tally.epochs - best["epoch"] >= patience
                    wanted = ENDED if is_over else 0
            else:
                recorder.progress()
                view.progress(report)
        wanted = process.vote(wanted or stopped())
        if wanted == ENDED:
            return 0, True
        if wanted and recorder.tally.epochs < training.course.epochs:
            return wanted, False
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


def _balance(job: Job, accuracy: float) -> dict[str, Any]:
    """Return what `end` says of test samples of which accuracy alone may deceive, else nothing.

    They are answered anew only where classes are unbalanced, or so many are right as there are of
    one class.
    """
    data, model = job.data, job.model
    counts = class_counts(job, data.test_y)
    shares = (largest_share(part) for part in (counts, class_counts(job, data.train_y)))
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
    counts, answer = class_counts(job, job.data.test_y), balance["one_answer"]
    share = counts[job.data.classes.index(answer)] / counts.sum()
    words = display.one_answer_words(str(answer), float(share))
    takes_weights = not job.recipe.sees_all_samples and job.recipe.class_weight == "none"
    if takes_weights and "balanced_accuracy" in balance:
        words += "; --class-weight balanced gives rare classes more weight"
    return words

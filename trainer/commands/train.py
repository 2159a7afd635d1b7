"""`train`: a recipe's network on data, into a run folder."""

from __future__ import annotations

import shlex
import warnings
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from backends import Backend

from .. import __version__, display
from ..augmentation import Deformation
from ..checkpoints import Checkpoint
from ..data import Dataset, hold_out, limited, load
from ..data.dataset import Samples
from ..metrics_file import Tally
from ..network import MLP
from ..recipes import (
    RECIPES,
    Recipe,
    augmentation,
    augmented,
    build,
    changed,
    default_recipe,
    source_for,
)
from ..runs import Run, RunError, check_free
from ..settings import FULL_BATCH_METHODS
from ..training import Diverged, EpochReport, Training, fit
from ..training.minimize import check
from ..weight_files import WeightFileError
from . import STOPS, UsageError, augment, choose, full_batch, in_options, interruptible
from .begun import Begun, changes_since, same_data
from .keeping import (
    DEFAULT_INTERVAL,
    Interval,
    Keeper,
    best_line,
    position,
    training_state,
)
from .plot import draw_curves
from .weights_given import files_of, network_of


@dataclass(frozen=True, eq=False)
class _Job:
    """All that a training is made of, on its device."""

    recipe: Recipe
    model: MLP
    data: Dataset
    held_out: Samples | None
    training: Training | None
    deformation: Deformation | None
    augmented: str


def run(
    *,
    device: str | None,
    matmul: str | None,
    data: str | None,
    test_data: str | None,
    recipe: str | None,
    changes: dict[str, Any],
    seed: int | None,
    limit: int | None,
    validation: int | None,
    out: Path | None,
    as_json: bool,
    quiet: bool,
    patience: int | None = None,
    init_from: Path | None = None,
    figures: bool = False,
    checkpoint_every: str | None = None,
    resume: Path | None = None,
) -> int:
    """Train, show it and keep it; `changes` are the options that win over the recipe's.

    With `resume` a run goes on, and what is not None is only compared with what it began with.
    """
    view = display.training_view(as_json=as_json, quiet=quiet)
    with ExitStack() as cleanup:
        cleanup.callback(_leave, view)
        if checkpoint_every is not None:
            Interval.of(checkpoint_every)  # a mistake in it is told before anything is loaded
        if resume is not None:
            if out is not None:
                raise UsageError(f"--resume {resume} goes on in that folder; leave --out away")
            given = {
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
            begun = Begun(resume.expanduser(), {k: v for k, v in given.items() if v is not None})
            cleanup.callback(begun.folder.close)
            for line in begun.notes:
                view.note(line)
            if begun.is_finished:
                lines, result = begun.finished()
                if figures:
                    drawn = draw_curves(begun.folder)
                    lines.append(f"figure: {drawn}")
                    result["figure"] = str(drawn)
                view.end(lines, result)
                return 0
            job = _continued(view, begun, device)
            folder, checkpoint = begun.folder, begun.checkpoint
            folder.config["device"] = _device(job.model.backend)
            for line in begun.restore_metrics():
                view.note(line)
            tally = begun.tally
        else:
            if out is not None:
                out = out.expanduser()
                check_free(out)
            job, config = _begun(
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
        keeper = Keeper(folder, job.model, every, job.training, tally, checkpoint)
        if init_from is not None and checkpoint is None:
            keeper.checkpoint()  # whose weights may be gone when the run is to go on
        facts = _facts(folder.config, job.model, folder.path)
        if job.augmented:
            facts["augment"] = job.augmented
        event = folder.config | {"run": str(folder.path)}
        if job.deformation is not None and figures:
            drawn = augment.draw_deformed(folder, job.deformation, job.data, job.model.backend)
            facts["figure"] = event["figure"] = str(drawn)
        if checkpoint is not None:
            samples = 0 if job.training is None else job.training.state().samples
            after = position(tally.epochs, samples)
            facts["resumed"] = f"after {after}, from {checkpoint.path}"
            event["resumed_from"] = str(checkpoint.path)
        view.start(facts, event)
        if job.training is None:
            return full_batch.train(
                view, job.model, keeper, job.recipe, job.data, job.held_out, figures
            )
        return _train(view, keeper, job, job.training, figures)


def _leave(view: display.QuietView) -> None:
    with suppress(OSError):  # a terminal that is gone cannot be left as it was
        view.close()


def _begun(
    view: display.QuietView,
    *,
    device: str,
    matmul: str,
    data: str,
    test_data: str | None,
    recipe: str | None,
    changes: dict[str, Any],
    seed: int,
    limit: int | None,
    validation: int,
    patience: int | None,
    init_from: Path | None,
) -> tuple[_Job, dict[str, Any]]:
    """Make the training that was asked for, and its config."""
    if patience is not None and not validation:
        raise UsageError(
            f"--patience {patience}: the test samples choose nothing; hold some training samples"
            " out for it with --validation, such as --validation 5000"
        )
    if recipe is not None and recipe not in RECIPES:
        raise UsageError(
            f"--recipe {recipe}: there is no such recipe; expected one of {', '.join(RECIPES)}"
            " (see: python -m trainer recipes)"
        )
    # a mistake in them is told before anything is loaded
    augment.check(changes.get("augment", ()))
    backend = choose(device, matmul)
    wanted = RECIPES[recipe] if recipe else None
    dataset = load(
        source_for(wanted, data),
        test_data and source_for(wanted, test_data),
        on_progress=view.downloading,
    )
    if dataset.note:
        view.note(dataset.note)
    try:
        chosen = changed(wanted or default_recipe(dataset), changes)
    except ValueError as error:
        raise UsageError(in_options(str(error))) from error
    digits = dataset.fingerprint()

    def make(part: Dataset) -> tuple[MLP, Recipe]:
        if init_from is None:
            return build(chosen, part, backend=backend, seed=seed), chosen
        return _started(init_from, chosen, changes, part, backend, seed)

    job, part = _job(dataset, make, limit, validation, seed, None)
    config = config_of(job.recipe, part, limit, validation, seed, job.model)
    if patience is not None and job.training is None:
        raise UsageError(f"--patience {patience}: not with --optimizer {job.recipe.optimizer}")
    config["data"]["crc32"] = digits
    return job, config | {
        "patience": patience,
        "init_from": init_from and str(init_from),
    }


def _continued(view: display.QuietView, begun: Begun, device: str | None) -> _Job:
    """Make the training that goes on."""
    config = begun.config
    backend = choose(device or config["device"]["name"], config["device"]["matmul"])
    dataset = same_data(begun.folder.path, config["data"], view.downloading)
    checkpoint = begun.checkpoint
    if checkpoint is not None:
        differ = changes_since(config, _device(backend))
        if differ:
            view.note(f"numbers may be rounded otherwise from here on: {differ}")

    def make(part: Dataset) -> tuple[MLP, Recipe]:
        if checkpoint is None:
            return build(begun.recipe, part, backend=backend, seed=config["seed"]), begun.recipe
        return MLP.of(checkpoint.arrays, checkpoint.network, backend=backend), begun.recipe

    recorded = config["data"]
    try:
        job, _ = _job(
            dataset,
            make,
            recorded["limit"],
            recorded["validation_samples"],
            config["seed"],
            checkpoint,
        )
    except UsageError as error:
        raise RunError(f"{begun.folder.path}: what is there does not go on ({error})") from error
    if job.training is None:
        view.note(
            f"{begun.recipe.optimizer} remembers nothing: it starts again from the last weights"
        )
    return job


def _job(
    dataset: Dataset,
    make: Callable[[Dataset], tuple[MLP, Recipe]],
    limit: int | None,
    validation: int,
    seed: int,
    checkpoint: Checkpoint | None,
) -> tuple[_Job, Dataset]:
    """Put samples and network together; also the samples before any were turned."""
    part, held_out = hold_out(dataset, validation)
    part = limited(part, limit)
    try:
        model, chosen = make(part)
        started = perf_counter()
        turned, deformation = augmented(chosen, part, model.backend)
        turning = perf_counter() - started
        training = None
        if chosen.sees_all_samples:
            check(model, chosen.optimizer, chosen.max_iterations)
        else:
            training = fit(
                model,
                turned.train_x,
                turned.train_y,
                chosen,
                seed=seed,
                test=(turned.test_x, turned.test_y),
                validation=held_out,
                state=None if checkpoint is None else training_state(checkpoint),
                deformation=deformation,
            )
    except (UsageError, WeightFileError):
        raise
    except ValueError as error:
        raise UsageError(in_options(str(error))) from error
    said = augment.in_words(*augmentation(chosen, part), turning)
    job = _Job(chosen, model, turned, held_out, training, deformation, said)
    return job, turned if limit else part


def _train(
    view: display.QuietView, keeper: Keeper, job: _Job, training: Training, figures: bool
) -> int:
    model, path = job.model, keeper.folder.path
    epochs = training.course.epochs
    patience = keeper.folder.config["patience"]

    def where() -> str:
        return f"epoch {min(keeper.tally.epochs + 1, epochs)} of {epochs}"

    stop, tired = 0, False
    with interruptible() as stopped, warnings.catch_warnings(), keeper.surviving(where) as failed:
        # NumPy's warnings of overflow; fit itself ends a training that diverges
        warnings.simplefilter("ignore", RuntimeWarning)
        try:
            for report in training:
                if isinstance(report, EpochReport):
                    keeper.epoch(_metrics(report))
                    view.epoch(report)
                    if patience is not None and _is_over(keeper.tally, patience):
                        tired = True
                        break
                else:
                    keeper.progress()
                    view.progress(report)
                if stopped() and keeper.tally.epochs < epochs:
                    stop = stopped()
                    break
        except Diverged as error:
            model.save(keeper.folder.model_file)
            view.failed(str(error), {"run": str(path), "epoch": error.epoch})
            done = keeper.tally.epochs
            kept = f"those after epoch {done}" if done else "the initial ones"
            display.error(f"{error}. The weights in {path} are {kept}")
            return 1
        if stop:
            model.save(keeper.folder.model_file)
        keeper.checkpoint(ended=tired)
        if patience is not None and not stop:
            keeper.keep_best()
    if failed:
        return 128 + stopped() if stopped() else failed[0]
    tally = keeper.tally
    taken = tally.best if patience is not None and not stop else tally.last
    drawn = draw_curves(keeper.folder) if figures and tally.epochs else None
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
            f"go on:     {keeper.go_on}",
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
    with keeper.surviving(where) as failed:
        view.end(lines, result)
    return 128 + stop if stop else sum(failed)


def _is_over(tally: Tally, patience: int) -> bool:
    """Whether so many epochs have brought no better one."""
    return tally.best is not None and tally.epochs - tally.best["epoch"] >= patience


def _started(
    init_from: Path,
    recipe: Recipe,
    changes: dict[str, Any],
    dataset: Dataset,
    backend: Backend,
    seed: int,
) -> tuple[MLP, Recipe]:
    """Make the network with the weights of another; its layers and biases are theirs."""
    if recipe.batch_norm:
        raise UsageError(
            f"--init-from {init_from}: with --batch-norm its layers would be normalised anew and"
            " forget what they know; leave one of the two away"
        )
    model, started, _ = network_of(
        files_of([init_from.expanduser()]),
        recipe,
        dataset,
        backend=backend,
        dtype=recipe.dtype,
        seed=seed,
    )
    for name in ("hidden", "bias"):
        if name in changes and changes[name] != getattr(started, name):
            raise UsageError(
                f"--init-from {init_from}: its network has"
                f" {' → '.join(map(str, model.sizes))} units and {'' if started.bias else 'no '}"
                f"biases; leave --{name} away"
            )
    return model, started


def _metrics(report: EpochReport) -> dict[str, Any]:
    fields = asdict(report)
    fields["epoch_seconds"] = fields.pop("seconds")
    return fields


def config_of(
    recipe: Recipe,
    data: Dataset,
    limit: int | None,
    held_out: int,
    seed: int,
    model: MLP,
) -> dict[str, Any]:
    """Say what a run's `config.json` says, but for what belongs to one way of making it."""
    return {
        "version": __version__,
        "recipe": recipe.name,
        "settings": recipe.settings(),
        "seed": seed,
        "data": {
            "name": data.name,
            "kind": data.kind,
            "source": data.source,
            "test_source": data.test_source,
            "train_samples": len(data.train_y),
            "test_samples": len(data.test_y),
            "validation_samples": held_out,
            "limit": limit,
            "image_shape": data.image_shape and list(data.image_shape),
            "classes": list(data.classes),
            "dtype": str(data.train_x.dtype),
            "value_range": list(data.value_range),
        },
        "network": model.settings(),
        "device": _device(model.backend),
    }


def _device(backend: Backend) -> dict[str, Any]:
    return {
        "name": backend.name,
        "device_name": backend.device_name,
        "matmul": backend.matmul,
        "threads": backend.threads,
    }


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


_SHOWN = (
    "momentum",
    "weight_decay",
    "clip",
    "averaging",
    "dropout",
    "input_dropout",
    "batch_norm",
    "warmup",
)


def _steps(settings: dict[str, Any]) -> str:
    if settings["optimizer"] in FULL_BATCH_METHODS:
        return f"{settings['optimizer']}, at most {settings['max_iterations']} iterations"
    changes = {name: settings.get(name) for name in _SHOWN}  # older versions lack some
    more = "".join(
        f" {k.replace('_', ' ')}" + ("" if v is True else f" {v:g}")
        for k, v in changes.items()
        if v
    )
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

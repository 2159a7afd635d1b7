"""`train`: a recipe's network on data, into a run folder."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from time import perf_counter
from typing import Any

from backends import Backend

from .. import __version__, display
from ..augmentation import parse_augment, with_turned_copies
from ..data import Dataset, hold_out, load
from ..fitting import Course, Diverged, EpochReport, fit
from ..minimizing import check
from ..network import MLP
from ..optimizers import METHODS
from ..recipes import RECIPES, Recipe, build, changed, default_recipe, source_for
from ..runs import Run, check_free
from ..weight_files import WeightFileError
from . import UsageError, choose, full_batch, in_options, interruptible
from .plot import draw_curves
from .weights_given import files_of, network_of


def run(
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
    out: Path | None,
    as_json: bool,
    quiet: bool,
    augment: Sequence[str] = (),
    init_from: Path | None = None,
    figures: bool = False,
) -> int:
    """Train, show it and keep it; `changes` are the options that win over the recipe's."""
    view = display.training_view(as_json=as_json, quiet=quiet)
    try:
        if out is not None:
            out = out.expanduser()
            check_free(out)
        if recipe is not None and recipe not in RECIPES:
            raise UsageError(
                f"--recipe {recipe}: there is no such recipe; expected one of {', '.join(RECIPES)}"
                " (see: python -m trainer recipes)"
            )
        degrees = _degrees(augment)
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
        dataset, held_out = hold_out(dataset, validation)
        if limit is not None:
            dataset = replace(
                dataset, train_x=dataset.train_x[:limit], train_y=dataset.train_y[:limit]
            )
        try:
            if init_from is None:
                model = build(chosen, dataset, backend=backend, seed=seed)
            else:
                model, chosen = _started(init_from, chosen, changes, dataset, backend, seed)
            started = perf_counter()
            dataset = _turned(dataset, augment, degrees, backend)
            turning = perf_counter() - started
            full_batch_wanted = chosen.optimizer in METHODS
            if full_batch_wanted:
                check(model, chosen.optimizer, chosen.max_iterations)
            else:
                reports = fit(
                    model,
                    dataset.train_x,
                    dataset.train_y,
                    epochs=chosen.epochs,
                    batch_size=chosen.batch_size,
                    learning_rate=chosen.learning_rate,
                    optimizer=chosen.optimizer,
                    momentum=chosen.momentum,
                    shuffle=chosen.shuffle,
                    sampling=chosen.sampling,
                    steps=chosen.steps,
                    seed=seed,
                    test=(dataset.test_x, dataset.test_y),
                    validation=held_out,
                )
        except (UsageError, WeightFileError):
            raise
        except ValueError as error:
            raise UsageError(in_options(str(error))) from error
        more = {"augment": list(augment), "init_from": init_from and str(init_from)}
        config = config_of(chosen, dataset, limit, validation, seed, model) | more
        folder = Run.start(out, config)
        facts = _facts(folder.config, model, folder.path)
        if degrees:
            facts["augment"] = _copies(degrees, turning)
        view.start(facts, folder.config | {"run": str(folder.path)})
        if full_batch_wanted:
            return full_batch.train(view, model, folder, chosen, dataset, held_out, figures)
        course = Course(chosen.epochs, chosen.batch_size, steps=chosen.steps)
        epochs = course.count(len(dataset.train_y))
        return _train(view, model, folder, reports, epochs, len(dataset.test_y), figures)
    finally:
        view.close()


def _train(
    view: display.QuietView,
    model: MLP,
    folder: Run,
    reports: Iterator[Any],
    epochs: int,
    test_samples: int,
    figures: bool,
) -> int:
    done: list[EpochReport] = []
    interrupted = False
    with interruptible() as was_interrupted, warnings.catch_warnings():
        # NumPy's warnings of overflow; fit itself ends a training that diverges
        warnings.simplefilter("ignore", RuntimeWarning)
        try:
            for report in reports:
                if isinstance(report, EpochReport):
                    done.append(report)
                    model.save(folder.model_file)
                    folder.add_epoch(_metrics(report))
                    view.epoch(report)
                else:
                    view.progress(report)
                if was_interrupted() and len(done) < epochs:
                    interrupted = True
                    break
        except Diverged as error:
            model.save(folder.model_file)
            view.failed(str(error), {"run": str(folder.path), "epoch": error.epoch})
            kept = f"those after epoch {done[-1].epoch}" if done else "the initial ones"
            display.error(f"{error}. The weights in {folder.path} are {kept}")
            return 1
        if interrupted:
            model.save(folder.model_file)
    drawn = draw_curves(folder) if figures and done else None
    accuracy = done[-1].test_accuracy if done else None
    training = sum(report.seconds for report in done)
    result = {
        "run": str(folder.path),
        "epochs": len(done),
        "interrupted": interrupted,
        "test_accuracy": accuracy,
        "seconds": training,
    }
    if interrupted:
        lines = [
            f"stopped by Ctrl-C in epoch {len(done) + 1} of {epochs}",
            f"the weights so far are in {folder.path}",
            f"try them:    python -m trainer evaluate {folder.path}",
            "start over:  the same command, into another folder",
        ]
    else:
        total = training + sum(r.evaluation_seconds + r.compile_seconds for r in done)
        lines = [
            f"{display.percent(accuracy or 0)} of {test_samples:,} test samples right",
            f"{epochs} epoch{'s' * (epochs > 1)} in {display.three_digits(training)} s of"
            f" training, {total:.2f} s in all",
            f"run:  {folder.path}",
            f"next: python -m trainer predict {folder.path} --index 0",
            f"      python -m trainer evaluate {folder.path}",
        ]
    if drawn is not None:
        lines.append(f"figure: {drawn}")
        result["figure"] = str(drawn)
    view.end(lines, result)
    return 130 if interrupted else 0


def _degrees(augment: Sequence[str]) -> list[float]:
    try:
        return [parse_augment(text) for text in augment]
    except ValueError as error:
        raise UsageError(str(error)) from error


def _turned(
    dataset: Dataset, augment: Sequence[str], degrees: Sequence[float], backend: Backend
) -> Dataset:
    """Put turned copies beside the training images; they are on the device then."""
    if not degrees:
        return dataset
    if dataset.image_shape is None:
        raise UsageError(
            f"--augment {augment[0]}: {dataset.name} has {dataset.train_x.shape[1]} features, which"
            " are no image to turn; leave --augment away, or give images with --data"
        )
    x, y = with_turned_copies(
        backend,
        dataset.train_x,
        dataset.train_y,
        dataset.image_shape,
        degrees,
        dataset.value_range[0],
    )
    backend.synchronize()
    return replace(dataset, train_x=x, train_y=y)


def _copies(degrees: Sequence[float], seconds: float) -> str:
    angles = ", ".join(f"±{angle:g}°" for angle in degrees)
    return (
        f"each image and {2 * len(degrees)} copies of it turned by {angles}, made in"
        f" {display.three_digits(seconds)} s"
    )


def _started(
    init_from: Path,
    recipe: Recipe,
    changes: dict[str, Any],
    dataset: Dataset,
    backend: Backend,
    seed: int,
) -> tuple[MLP, Recipe]:
    """Make the network with the weights of another; its layers and biases are theirs."""
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
        "device": {
            "name": model.backend.name,
            "device_name": model.backend.device_name,
            "matmul": model.backend.matmul,
        },
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
    l2 = f", l2 {settings['l2']:g}" if settings["l2"] else ""
    return {
        "device": f"{backend.name}: {backend.device_name}{reason}",
        "data": ", ".join(part for part in parts if part),
        "network": f"{' → '.join(map(str, model.sizes))}, {network['activation']}, "
        f"{'with' if network['bias'] else 'no'} bias, {model.weight_count:,} weights, "
        f"{network['dtype']}{matmul}",
        "recipe": f"{config['recipe']}: loss {network['loss']}{l2}, {_steps(settings)}, "
        f"seed {config['seed']}",
        "run": str(path),
    }


def _steps(settings: dict[str, Any]) -> str:
    if settings["optimizer"] in METHODS:
        return f"{settings['optimizer']}, at most {settings['max_iterations']} iterations"
    momentum = f" momentum {settings['momentum']:g}" if settings["momentum"] else ""
    return (
        f"{settings['optimizer']}{momentum}, rate {settings['learning_rate']:g}, "
        f"batch {settings['batch_size']}, {_order(settings)}"
    )


def _order(settings: dict[str, Any]) -> str:
    if settings["sampling"] == "with-replacement":
        steps = settings["steps"]
        return f"{steps:,} steps drawn at random" if steps else "drawn at random"
    return "shuffled" if settings["shuffle"] else "file order"

"""`train`: a recipe's network on data, into a run folder."""

from __future__ import annotations

import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from backends import Backend

from .. import __version__, display
from ..data import Dataset, hold_out, load
from ..fitting import Diverged, EpochReport, fit
from ..network import MLP
from ..recipes import RECIPES, Recipe, build, default_recipe
from ..runs import Run, check_free
from . import UsageError, choose

_ADAM_RATE = 0.001  # Kingma and Ba's own; the recipes' rates are SGD's


def run(
    *,
    device: str,
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
) -> int:
    """Train, show it and keep it; `changes` are the options that win over the recipe's."""
    view = display.training_view(as_json=as_json, quiet=quiet)
    try:
        if out is not None:
            check_free(out)
        if recipe is not None and recipe not in RECIPES:
            raise UsageError(
                f"--recipe {recipe}: there is no such recipe; expected one of {', '.join(RECIPES)}"
                " (see: python -m trainer recipes)"
            )
        backend = choose(device)
        dataset = load(data, test_data, on_progress=view.downloading)
        if dataset.note:
            view.note(dataset.note)
        chosen = _changed(RECIPES[recipe] if recipe else default_recipe(dataset), changes)
        dataset, held_out = hold_out(dataset, validation)
        if limit is not None:
            dataset = replace(
                dataset, train_x=dataset.train_x[:limit], train_y=dataset.train_y[:limit]
            )
        try:
            model = build(chosen, dataset, backend=backend, seed=seed)
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
                seed=seed,
                test=(dataset.test_x, dataset.test_y),
                validation=held_out,
            )
        except ValueError as error:
            raise UsageError(str(error)) from error
        config = _config(chosen, dataset, test_data, limit, validation, seed, backend, model)
        folder = Run.start(out, config)
        facts = _facts(chosen, dataset, validation, seed, backend, model, folder)
        view.start(facts, folder.config | {"run": str(folder.path)})
        return _train(view, model, folder, reports, chosen.epochs, len(dataset.test_y))
    finally:
        view.close()


def _changed(recipe: Recipe, changes: dict[str, Any]) -> Recipe:
    if changes.get("optimizer") == "adam" and recipe.optimizer != "adam":
        changes = {"learning_rate": _ADAM_RATE} | changes
    return replace(recipe, **changes)


def _train(
    view: display.QuietView,
    model: MLP,
    folder: Run,
    reports: Iterator[Any],
    epochs: int,
    test_samples: int,
) -> int:
    done: list[EpochReport] = []
    interrupted = False
    with _interruptible() as was_interrupted, warnings.catch_warnings():
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
            view.close()
            display.error(f"{error}. The weights of the last good epoch are in {folder.path}")
            return 1
        if interrupted:
            model.save(folder.model_file)
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
            f"{len(done)} epochs in {training:.2f} s of training, {total:.2f} s in all",
            f"run:  {folder.path}",
            f"next: python -m trainer predict {folder.path} --index 0",
            f"      python -m trainer evaluate {folder.path}",
        ]
    view.end(lines, result)
    return 130 if interrupted else 0


@contextmanager
def _interruptible() -> Iterator[Any]:
    """Turn the first Ctrl-C into a question that the loop asks; the second ends at once."""
    pressed = False

    def handler(number: int, frame: Any) -> None:
        nonlocal pressed
        if pressed:
            raise KeyboardInterrupt
        pressed = True

    before = signal.signal(signal.SIGINT, handler)
    try:
        yield lambda: pressed
    finally:
        signal.signal(signal.SIGINT, before)


def _metrics(report: EpochReport) -> dict[str, Any]:
    fields = asdict(report)
    fields["epoch_seconds"] = fields.pop("seconds")
    return fields


def _config(
    recipe: Recipe,
    dataset: Dataset,
    test_data: str | None,
    limit: int | None,
    validation: int,
    seed: int,
    backend: Backend,
    model: MLP,
) -> dict[str, Any]:
    return {
        "version": __version__,
        "recipe": recipe.name,
        "settings": recipe.settings(),
        "seed": seed,
        "data": {
            "name": dataset.name,
            "kind": dataset.kind,
            "source": dataset.source,
            "test_source": None if test_data is None else _absolute(test_data),
            "train_samples": len(dataset.train_y),
            "test_samples": len(dataset.test_y),
            "validation_samples": validation,
            "limit": limit,
            "image_shape": dataset.image_shape and list(dataset.image_shape),
            "classes": list(dataset.classes),
            "value_range": list(dataset.value_range),
        },
        "network": model.settings(),
        "device": {"name": backend.name, "device_name": backend.device_name},
    }


def _absolute(source: str) -> str:
    path = Path(source).expanduser()
    return str(path.resolve()) if path.exists() else source


def _facts(
    recipe: Recipe,
    dataset: Dataset,
    validation: int,
    seed: int,
    backend: Backend,
    model: MLP,
    folder: Run,
) -> dict[str, str]:
    shape = f", {'×'.join(map(str, dataset.image_shape))} pixels" if dataset.image_shape else ""
    held_out = f", {validation:,} held out" if validation else ""
    spec = model.spec
    order = "shuffled" if recipe.shuffle else "file order"
    momentum = f" momentum {recipe.momentum:g}" if recipe.momentum else ""
    return {
        "device": f"{backend.name}: {backend.device_name}"
        + (f" ({backend.reason})" if backend.reason else ""),
        "data": f"{dataset.name}: {len(dataset.train_y):,} training{held_out}, "
        f"{len(dataset.test_y):,} test samples{shape}, {len(dataset.classes)} classes",
        "network": f"{' → '.join(map(str, model.sizes))}, {spec.activation}, "
        f"{'with' if spec.bias else 'no'} bias, {model.weight_count:,} weights, {model.dtype}",
        "recipe": f"{recipe.name}: loss {spec.loss}, {recipe.optimizer}{momentum}, rate "
        f"{recipe.learning_rate:g}, batch {recipe.batch_size}, {order}, seed {seed}",
        "run": str(folder.path),
    }

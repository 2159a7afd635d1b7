"""`train`: a recipe's network on data, into a run folder."""

from __future__ import annotations

import re
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

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
        backend = choose(device, matmul)
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
            raise UsageError(_in_options(str(error))) from error
        folder = Run.start(out, _config(chosen, dataset, limit, validation, seed, model))
        facts = _facts(folder.config, model, folder.path)
        view.start(facts, folder.config | {"run": str(folder.path)})
        return _train(view, model, folder, reports, chosen.epochs, len(dataset.test_y))
    finally:
        view.close()


def _in_options(message: str) -> str:
    """Write settings as they are typed: `init='foo'` as `--init foo`."""
    return re.sub(
        r"\b([a-z][a-z_0-9]*)='?([^\s',:]+)'?",
        lambda match: f"--{match[1].replace('_', '-')} {match[2]}",
        message,
    )


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
            view.failed(str(error), {"run": str(folder.path), "epoch": error.epoch})
            kept = f"those after epoch {done[-1].epoch}" if done else "the initial ones"
            display.error(f"{error}. The weights in {folder.path} are {kept}")
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
            f"{epochs} epoch{'s' * (epochs > 1)} in {display.three_digits(training)} s of"
            f" training, {total:.2f} s in all",
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
    data: Dataset,
    limit: int | None,
    held_out: int,
    seed: int,
    model: MLP,
) -> dict[str, Any]:
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
    momentum = f" momentum {settings['momentum']:g}" if settings["momentum"] else ""
    l2 = f", l2 {settings['l2']:g}" if settings["l2"] else ""
    return {
        "device": f"{backend.name}: {backend.device_name}{reason}",
        "data": ", ".join(part for part in parts if part),
        "network": f"{' → '.join(map(str, model.sizes))}, {network['activation']}, "
        f"{'with' if network['bias'] else 'no'} bias, {model.weight_count:,} weights, "
        f"{network['dtype']}{matmul}",
        "recipe": f"{config['recipe']}: loss {network['loss']}{l2}, {settings['optimizer']}"
        f"{momentum}, rate {settings['learning_rate']:g}, batch {settings['batch_size']}, "
        f"{'shuffled' if settings['shuffle'] else 'file order'}, seed {config['seed']}",
        "run": str(path),
    }

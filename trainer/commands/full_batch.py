"""`train` with an optimizer that sees all samples at every step."""

from __future__ import annotations

import shlex
import warnings
from dataclasses import asdict, replace
from typing import Any

from .. import display
from ..data import Dataset
from ..data.dataset import Samples
from ..metrics import evaluate
from ..network import MLP
from ..recipes import Recipe
from ..runs import Run
from ..training.minimize import IterationReport, Minimum, NotFinite, minimize
from . import STOPS, interruptible
from .keeping import Keeper, best_line
from .plot import draw_curves


def train(
    view: display.QuietView,
    model: MLP,
    keeper: Keeper,
    recipe: Recipe,
    data: Dataset,
    held_out: Samples | None,
    figures: bool,
) -> int:
    """Minimise, show it and keep it; an iteration is what elsewhere is an epoch."""
    folder = keeper.folder
    before = keeper.tally.epochs

    def keep(report: IterationReport) -> None:
        report = replace(
            report, iteration=before + report.iteration, iterations=recipe.max_iterations
        )
        keeper.epoch(_metrics(report))
        view.iteration(report)

    def where() -> str:
        return f"iteration {keeper.tally.epochs + 1} of {recipe.max_iterations}"

    with interruptible() as stopped, warnings.catch_warnings(), keeper.surviving(where) as failed:
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
                validation=held_out,
                stop=lambda: bool(stopped()),
            )
        except NotFinite as error:
            model.save(folder.model_file)
            view.failed(str(error), {"run": str(folder.path), "epoch": error.iteration})
            done = keeper.tally.epochs
            kept = f"those after iteration {done}" if done else "the initial ones"
            display.error(f"{error}. The weights in {folder.path} are {kept}")
            return 1
        model.save(folder.model_file)
        keeper.checkpoint(ended=not minimum.stopped)
    if failed:
        return 128 + stopped() if stopped() else failed[0]
    if not minimum.stopped:
        to_numpy = model.backend.to_numpy
        answers = to_numpy(model.predict(data.train_x))
        labels = to_numpy(model.backend.asarray(data.train_y))
        view.training_report(evaluate(labels, answers, data.classes))
    done = keeper.tally.epochs
    result = _result(folder, minimum) | {"epochs": done}
    if minimum.stopped:
        lines = [
            f"stopped by {STOPS[stopped()]} in {where()}",
            f"the weights after iteration {done} are in {folder.path}",
            f"go on:     {keeper.go_on}",
            f"try them:  python -m trainer evaluate {shlex.quote(str(folder.path))}",
        ]
    else:
        lines = _lines(folder, minimum, recipe, before, len(data.train_y), len(data.test_y))
    lines += best_line(folder.path, keeper.tally)
    if figures and done:
        drawn = draw_curves(folder)
        lines.append(f"figure: {drawn}")
        result["figure"] = str(drawn)
    with keeper.surviving(where) as failed:
        view.end(lines, result)
    return 128 + stopped() if minimum.stopped else sum(failed)


def _metrics(report: IterationReport) -> dict[str, Any]:
    fields = asdict(report)
    del fields["iterations"]
    return {
        "epoch": fields.pop("iteration"),
        "epoch_seconds": fields.pop("seconds"),
        **fields,
    }


def _result(folder: Run, minimum: Minimum) -> dict[str, Any]:
    fields = asdict(minimum)
    return {
        "run": str(folder.path),
        "epochs": fields.pop("iterations"),
        "interrupted": fields.pop("stopped"),
        **fields,
    }


def _lines(
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

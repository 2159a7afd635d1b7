"""`sweep`: a recipe over every combination of some options, in processes side by side."""

from __future__ import annotations

import math
import shlex
import threading
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

from cyclopts import Group, Parameter
from cyclopts.validators import Number

from backends import Backend, BackendUnavailable

from .. import __version__, display
from ..data import Dataset, hold_out, load
from ..files import write_whole
from ..recipes import RECIPES, default_recipe, source_for
from ..running.resuming import same_data
from ..running.run_folder import check_free
from ..running.usage import UsageError, choose, in_options, recipe_named
from ..settings import DataSettings, NetworkSettings, TrainingSettings
from ..sweep import (
    FIGURE,
    MOST_RUNS,
    Plan,
    Standing,
    SweepFolder,
    Workers,
    as_text,
    divide_cores,
    estimate,
    rank,
    sweep,
    values_of,
)
from .options import FLAG, RESULT, WHAT, WHOLE, Count, JsonEvents, values_to_try

_SHOWN_SECONDS = 0.1
_NETWORK = Group("The network, all of them values to try", sort_key=2)
_TRAINING = Group("The training, likewise", sort_key=3)
_ValuesToTry: Any = values_to_try(
    {NetworkSettings: _NETWORK, TrainingSettings: _TRAINING, DataSettings: _TRAINING}
)


def run(
    *,
    device: Annotated[
        str | None,
        Parameter(
            group=WHAT,
            help="auto, cpu, gpu or gpu:N; a GPU takes one run after the other. [default: auto]",
        ),
    ] = None,
    data: Annotated[
        str | None, Parameter(group=WHAT, help="What train takes. [default: auto]")
    ] = None,
    test_data: Annotated[str | None, Parameter(group=WHAT, help="Likewise, to test on.")] = None,
    recipe: Annotated[
        str | None, Parameter(group=WHAT, help="What is trained where no option says otherwise.")
    ] = None,
    limit: Annotated[
        str | None, Parameter(group=WHAT, help="Only the first N training samples: 100,1000.")
    ] = None,
    validation: Annotated[
        int,
        WHOLE,
        Parameter(
            group=WHAT,
            help="Hold N training samples out (before --limit) and rank by them; else the test"
            " samples rank.",
            validator=Number(gte=0),
        ),
    ] = 0,
    tried: Annotated[_ValuesToTry, Parameter(name="*")] = _ValuesToTry(),  # noqa: B008
    seeds: Annotated[
        Count,
        Parameter(
            group=_TRAINING,
            help="Train everything with seeds 0 to N−1; means and deviations are over them.",
        ),
    ] = None,
    seed: Annotated[
        str | None, Parameter(group=_TRAINING, help="Or with these: 7,8,9. [default: 0]")
    ] = None,
    jobs: Annotated[
        Count,
        Parameter(
            group=RESULT,
            help="Runs at a time, each in a process with its share of the cores. [default: one a"
            " core]",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        Parameter(
            group=RESULT,
            help="The sweep's folder, new or empty: sweep.csv with a line a run, sweep.png,"
            " config.json. [default: the next free name under sweeps/]",
        ),
    ] = None,
    resume: Annotated[
        Path | None,
        Parameter(
            group=RESULT, help="Go on with the sweep in this folder; it needs no other option."
        ),
    ] = None,
    show: Annotated[
        bool, FLAG, Parameter(group=RESULT, help="Open the figure in a window.")
    ] = False,
    as_json: Annotated[JsonEvents, Parameter(group=RESULT)] = False,
) -> int:
    """Train a recipe with every combination of some options, side by side, and rank them.

    Every option of the network and of the training takes one value or several: 0.001,0.003,0.01,
    or a range of numbers as start:stop:step with both ends in it, as in 0.1:0.9:0.1. Several
    options with several values are a grid. Ctrl-C ends it; --resume goes on.

    The book's curve: python -m trainer sweep --recipe book --learning-rate 0.1:0.9:0.1 --epochs 1
    """
    texts = {"limit": limit, **vars(tried), "seed": seed}
    options = {name: text for name, text in texts.items() if text is not None}
    view = display.choose_view(as_json=as_json)
    folder: SweepFolder | None = None
    try:
        if resume is not None:
            given = {
                "data": data,
                "test_data": test_data,
                "recipe": recipe,
                **options,
                "seeds": seeds,
                "validation": validation or None,
                "out": out,
            }
            _check_alone(resume, [name for name, value in given.items() if value is not None])
            folder = SweepFolder.open(resume.expanduser())
            backend = choose(device or folder.config["device"]["name"])
            dataset = same_data(folder.path, folder.config["data"], view.downloading)
            validation = folder.config["data"]["validation_samples"]
        else:
            values = _values(options, seeds)
            if out is not None:
                out = out.expanduser()
                check_free(out, under="sweeps")
            wanted = recipe_named(recipe)
            backend = choose(device or "auto")
            dataset = load(
                source_for(wanted, data or "auto"),
                test_data and source_for(wanted, test_data),
                on_progress=view.downloading,
            )
            plan = _plan(recipe, values, dataset)
            hold_out(dataset, validation)  # whether they can be, before there is a folder
            folder = SweepFolder.start(out, plan, _config(dataset, validation, backend))
        if dataset.note:
            view.note(dataset.note)
        return _sweep(view, folder, dataset, validation, backend, jobs, show)
    finally:
        if folder is not None:
            folder.close()
        view.close()


def _check_alone(resume: Path, given: Sequence[str]) -> None:
    if given:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise UsageError(
            f"--resume {resume}: what is trained is written there; expected no {names}. Type:"
            f" python -m trainer sweep --resume {shlex.quote(str(resume))}"
        )


def _values(options: dict[str, str], seeds: int | None) -> dict[str, tuple[Any, ...]]:
    """Read every option's values; "seed" is one of them."""
    if seeds is not None:
        if "seed" in options:
            raise UsageError(
                f"--seed {options['seed']} and --seeds {seeds} exclude each other: --seeds 3 is"
                " --seed 0,1,2"
            )
        options = options | {"seed": f"0:{seeds - 1}:1"}
    try:
        return {name: values_of(name, text) for name, text in options.items()}
    except ValueError as error:
        raise UsageError(str(error)) from error


def _plan(recipe: str | None, values: dict[str, tuple[Any, ...]], dataset: Dataset) -> Plan:
    plan = Plan(
        recipe=RECIPES[recipe] if recipe else default_recipe(dataset),
        changes={k: v[0] for k, v in values.items() if len(v) == 1 and k != "seed"},
        grid={k: v for k, v in values.items() if len(v) > 1 and k != "seed"},
        seeds=values.get("seed", (0,)),
    )
    if len(plan) > MOST_RUNS:
        raise UsageError(
            f"{_product(plan)} = {len(plan):,} runs; expected {MOST_RUNS:,} at most: give fewer"
            " values, or sweep the options one after the other"
        )
    try:
        plan.check(dataset)
    except ValueError as error:
        raise UsageError(in_options(str(error))) from error
    return plan


def _sweep(
    view: display.QuietView,
    folder: SweepFolder,
    dataset: Dataset,
    validation: int,
    backend: Backend,
    jobs: int | None,
    show: bool,
) -> int:
    plan, path = folder.plan, folder.path
    dataset, held_out = hold_out(dataset, validation)
    by = "validation_accuracy" if held_out else "test_accuracy"
    trials = folder.left()
    workers = divide_cores(len(trials), device=backend.name, jobs=jobs)
    resume = f"python -m trainer sweep --resume {shlex.quote(str(path))}"
    interrupted, broken = False, ""
    try:
        view.preparing()
        seconds = estimate(plan, trials, dataset, backend)
        facts = _facts(folder, dataset, backend, workers, len(trials), seconds)
        if backend.name != "cpu" and not workers.cluster:
            view.note(f"{backend.name} takes one run after the other")
        view.start(
            facts,
            folder.config
            | {
                "sweep_folder": str(path),
                "runs": len(plan),
                "finished": len(folder.outcomes),
                "jobs": workers.jobs,
                "threads": workers.threads,
                "estimated_seconds": seconds,
                "ranked_by": by,
            },
        )
        outcomes = sweep(
            plan, trials, dataset, workers=workers, held_out=held_out, device=backend.name
        )
        with _hushed(), closing(outcomes):
            shown = 0.0
            for outcome in outcomes:
                folder.add(outcome)
                view.outcome(outcome)
                if (started := perf_counter()) > shown:
                    view.standings(rank(folder.outcomes, by=by))
                    now = perf_counter()  # ranking many runs takes its time
                    shown = now + max(_SHOWN_SECONDS, 10 * (now - started))
    except KeyboardInterrupt:
        interrupted = True
    except BrokenExecutor:
        broken = (
            "a process that trained was ended by the system, as it does when memory runs out;"
            f" to go on with fewer at a time: {resume} --jobs {max(1, workers.jobs // 2)}"
        )
    except (OSError, MemoryError, BackendUnavailable, UsageError):
        raise  # a line of their own says what is wrong
    except Exception:
        display.error(
            f"the program failed after {len(folder.outcomes):,} of {_count(len(plan), 'run')};"
            f" go on: {resume}"
        )
        raise
    standings = rank(folder.outcomes, by=by)
    if standings:
        view.standings(standings)
    images = [_draw(folder, standings, dataset, by)] if standings else []
    result = {
        "sweep_folder": str(path),
        "runs": len(plan),
        "finished": len(folder.outcomes),
        "interrupted": interrupted,
        "ranked_by": by,
        "standings": standings,
        "table": str(folder.table),
        "figure": str(path / FIGURE) if images else None,
    }
    if broken:
        view.failed(broken, result)
        display.error(broken)
        return 1
    if interrupted:
        lines = [f"stopped by Ctrl-C after {len(folder.outcomes):,} of {_count(len(plan), 'run')}"]
    else:
        lines = [_best(standings[0], plan, by)]
    lines.append(_ranking(by, len(dataset.test_y)))
    lines.append(f"runs:    {folder.table}")
    if images:
        lines.append(f"figure:  {path / FIGURE}")
    if interrupted:
        lines.append(f"go on:   {resume}")
    elif standings[0].accuracy is not None:
        lines.append(f"train:   {_train_command(folder, standings[0])}")
    view.end(lines, result)
    if show and images:
        from .. import figures

        refusal = figures.show(images)
        if refusal:
            display.note(refusal)
    return 130 if interrupted else 0


@contextmanager
def _hushed() -> Iterator[None]:
    """Without what joblib says of runs that Ctrl-C has ended."""

    def say(args: Any) -> None:
        if args.thread is None or not args.thread.name.startswith("ExecutorManager"):
            before(args)

    before, threading.excepthook = threading.excepthook, say
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".* (not used|have been cancelled)")
            yield
    finally:
        threading.excepthook = before


def _best(best: Standing, plan: Plan, by: str) -> str:
    if best.accuracy is None:
        return "every run diverged; try lower learning rates"
    options = " ".join(f"--{k.replace('_', '-')} {as_text(v)}" for k, v in best.values.items())
    where = f"best: {options}" if options else "all runs"
    spread = "" if best.deviation is None else f" ± {100 * best.deviation:.2f}"
    seeds = f", {_count(best.runs, 'seed')}" if len(plan.seeds) > 1 else ""
    samples = "held-out samples" if by == "validation_accuracy" else "test samples"
    text = f"{where}, {100 * best.accuracy:.2f}{spread} % of the {samples} right{seeds}"
    if by == "validation_accuracy":
        text += f"; {display.percent(best.test_accuracy or 0)} of the test samples"
    return text


def _ranking(by: str, test_samples: int) -> str:
    if by == "validation_accuracy":
        return "ranked by training samples that were held out; the test set chose nothing"
    return (
        f"ranked by the {test_samples:,} test samples, as the book does; --validation N ranks by"
        " held-out training samples"
    )


def _train_command(folder: SweepFolder, best: Standing) -> str:
    """Write the command that trains the best once more, into a run folder."""
    data = folder.config["data"]
    words = ["python -m trainer", "--data", data["source"]]
    if data["test_source"]:
        words += ["--test-data", data["test_source"]]
    words += ["--recipe", folder.plan.recipe.name]
    for name, value in (folder.plan.changes | best.values).items():
        option = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{option}" if value else f"--no-{option}")
        elif name == "augment":
            words += [word for part in value.split("+") for word in (f"--{option}", part)]
        elif isinstance(value, tuple):
            words += [f"--{option}", ",".join(map(str, value)) or "none"]
        else:
            words += [f"--{option}", as_text(value)]
    if data["validation_samples"]:
        words += ["--validation", str(data["validation_samples"])]
    if folder.plan.seeds[0]:
        words += ["--seed", str(folder.plan.seeds[0])]
    return " ".join([words[0], *map(shlex.quote, words[1:])])


def _draw(folder: SweepFolder, standings: Sequence[Standing], dataset: Dataset, by: str) -> bytes:
    from .. import figures  # matplotlib takes its time to import

    seeds = len(folder.plan.seeds)
    parts = [dataset.name, f"recipe {folder.plan.recipe.name}"]
    parts += [f"{name.replace('_', ' ')} {as_text(v)}" for name, v in folder.plan.changes.items()]
    if seeds > 1:
        parts.append(f"mean and standard deviation of {seeds} seeds")
    image = figures.sweep(
        standings,
        accuracy="held-out accuracy" if by == "validation_accuracy" else "test accuracy",
        caption=", ".join(parts),
    )
    write_whole(folder.path / FIGURE, image)
    return image


def _config(dataset: Dataset, validation: int, backend: Backend) -> dict[str, Any]:
    return {
        "version": __version__,
        "data": {
            "name": dataset.name,
            "kind": dataset.kind,
            "source": dataset.source,
            "test_source": dataset.test_source,
            "train_samples": len(dataset.train_y) - validation,
            "test_samples": len(dataset.test_y),
            "validation_samples": validation,
            "crc32": dataset.fingerprint(),
        },
        "device": {"name": backend.name, "device_name": backend.device_name},
    }


def _facts(
    folder: SweepFolder,
    dataset: Dataset,
    backend: Backend,
    workers: Workers,
    left: int,
    seconds: float,
) -> dict[str, str]:
    plan, data = folder.plan, folder.config["data"]
    held_out = data["validation_samples"]
    parts = [
        f"{data['name']}: {len(dataset.train_y):,} training",
        f"{held_out:,} held-out" if held_out else "",
        f"{data['test_samples']:,} test samples",
    ]
    changes = [f"{k.replace('_', ' ')} {as_text(v)}" for k, v in plan.changes.items()]
    reason = f" ({backend.reason})" if backend.reason else ""
    facts = {
        "device": f"{backend.name}: {backend.device_name}{reason}",
        "data": ", ".join(part for part in parts if part),
        "recipe": ", ".join([plan.recipe.name, *changes]),
    }
    varied = [f"{k.replace('_', ' ')} {_shortened(v)}" for k, v in plan.grid.items()]
    if plan.seeds != (0,):
        varied.append(f"seed {_shortened(plan.seeds)}")
    if varied:
        facts["varied"] = "; ".join(varied)
    if workers.cluster:
        way = f"on {_count(workers.jobs, 'core')} of the {workers.cluster} cluster"
        time = ""
    else:
        threads = f"with {_count(workers.threads, 'thread')} each"
        way = f"{workers.jobs} at a time {threads}" if workers.jobs > 1 else "one after the other"
        time = f", about {_about(seconds)}"
    done = f", {len(folder.outcomes):,} of them done before" if folder.outcomes else ""
    if not left:
        way, time = "nothing is left to do", ""
    product = f"{_product(plan)} = " if len(plan.grid) + (len(plan.seeds) > 1) > 1 else ""
    return facts | {
        "runs": f"{product}{len(plan):,}{done}, {way}{time}",
        "folder": str(folder.path),
    }


def _product(plan: Plan) -> str:
    factors = [f"{len(v):,} {k.replace('_', ' ')}" for k, v in plan.grid.items()]
    if len(plan.seeds) > 1:
        factors.append(f"{len(plan.seeds):,} seeds")
    return " × ".join(factors)


def _shortened(values: Sequence[Any]) -> str:
    texts = list(map(as_text, values))
    if len(texts) > 10:
        texts = [*texts[:4], "…", texts[-1]]
    return ", ".join(texts)


def _about(seconds: float) -> str:
    if seconds < 1.5:
        return "a second"
    if seconds < 120:
        return f"{math.ceil(seconds)} s"
    if seconds < 7200:
        return f"{math.ceil(seconds / 60)} min"
    return f"{math.ceil(seconds / 3600)} hours"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number != 1)}"

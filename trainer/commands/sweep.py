"""`sweep`: a recipe over every combination of some options, in processes side by side."""

from __future__ import annotations

import math
import shlex
import threading
import warnings
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Group, Parameter

from backends import Backend, BackendUnavailable

from .. import __version__, display, sweep
from ..data import Dataset, hold_out
from ..data.dataset import Samples
from ..recipes import Recipe
from ..running.resuming import same_data
from ..running.run_folder import check_free
from ..running.starting import data_of, limit_line
from ..running.usage import (
    UsageError,
    choose,
    samples_to_hold_out,
    typed,
    usage_errors,
)
from ..sweep import Plan, Search, Standing, SweepFolder, Workers, as_text
from .config_file import ConfigFile
from .figure_files import checked_file, open_windows, save
from .options import (
    COUNT,
    LABEL,
    RESULT,
    WHAT,
    WHOLE,
    Flag,
    JsonEvents,
    Source,
    Transpose,
    as_words,
    values_to_try,
)
from .train import run as train
from .words import count, device_words, samples_words

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SHOWN_SECONDS = 0.1
_TRIALS = 50  # that a sampler chooses where nothing is said
_NETWORK = Parameter(group=Group("The network, all of them values to try", sort_key=2))
_TRAINING = Parameter(group=Group("The training, likewise", sort_key=3))
_ValuesToTry: Any = values_to_try(_NETWORK, _TRAINING)


def run(
    *,
    config: Annotated[Path | None, WHAT] = None,
    device: Annotated[str | None, WHAT] = None,
    data: Annotated[Source | None, WHAT] = None,
    test_data: Annotated[Source | None, WHAT] = None,
    label: Annotated[str | None, LABEL, WHAT] = None,
    transpose: Annotated[Transpose, WHAT] = False,
    recipe: Annotated[str | None, WHAT] = None,
    validation: Annotated[int | None, WHOLE, WHAT] = None,
    tried: _ValuesToTry = _ValuesToTry(),  # noqa: B008
    seeds: Annotated[int | None, COUNT, _TRAINING] = None,
    seed: Annotated[str | None, _TRAINING] = None,
    sampler: Annotated[Literal["tpe", "random"] | None, RESULT] = None,
    trials: Annotated[int | None, COUNT, RESULT] = None,
    jobs: Annotated[int | None, COUNT, RESULT] = None,
    cluster: Annotated[str | None, RESULT] = None,
    out: Annotated[Path | None, RESULT] = None,
    resume: Annotated[Path | None, RESULT] = None,
    figure: Annotated[Path | None, RESULT] = None,
    show: Annotated[Flag, RESULT] = False,
    as_json: Annotated[JsonEvents, RESULT] = False,
) -> int:
    """Train a recipe with every combination of some options, side by side, and rank them.

    Every option of the network and of the training takes one value or several: 0.001,0.003,0.01,
    or a range of numbers as start:stop:step with both ends in it, as in 0.1:0.9:0.1. Several
    options with several values are a grid; --sampler chooses instead, from lists and from ranges
    LOW:HIGH. Ctrl-C ends it; --resume goes on.

        python -m trainer sweep --learning-rate 0.1:0.9:0.1 --epochs 1
        python -m trainer sweep --hidden 100,200 --batch-size 1,16 --seeds 3
        python -m trainer sweep --sampler tpe --learning-rate 0.001:1:log
        python -m trainer sweep --resume sweeps/s1

    Parameters
    ----------
    config
        What is trained where no option says otherwise, as train takes it: a TOML file or a run.
    device
        auto, cpu, gpu or gpu:N (or cuda:N); a GPU takes one run after the other. [default: auto]
    data
        What train takes. [default: what --recipe was made for: digits, ex4, or else auto]
    test_data
        Likewise, to test on.
    label
        Of a table, the column of the labels, as train takes it.
    recipe
        What is trained where no option says otherwise.
    validation
        Hold N training samples out (before --limit) and rank by them; else the data's validation
        part ranks, or the test samples.
    seeds
        Train everything with seeds 0 to N−1; means and deviations are over them.
    seed
        Or with these: 7,8,9. [default: 0]
    sampler
        Choose the values one after the other, by the accuracies so far: from ranges LOW:HIGH of
        numbers, or LOW:HIGH:log evenly in their logarithm, and from lists. Optuna's tpe or random.
    trials
        How many it chooses. [default: 50]
    jobs
        Runs at a time, each in a process with its share of the cores. [default: one a core]
    cluster
        Train on a cluster: dask or ray starts its processes on this machine; tcp://HOST:PORT is a
        Dask scheduler, ray://HOST:PORT a Ray cluster, auto the one that this machine is in. It
        needs this package on every machine, and no shared files.
    out
        The sweep's folder, new or empty: sweep.csv with a line a run, sweep.png, config.json.
        [default: the next free name under sweeps/]
    resume
        Go on with the sweep in this folder; it needs no other option.
    figure
        The figure, a PNG image, or by its suffix SVG or PDF; replaced if it is there. [default:
        sweep.png in the sweep's folder]
    show
        Open the figure in a window.
    """
    options = _given(**vars(tried), seed=seed)
    asked = _given(
        data=data,
        test_data=test_data,
        label=label,
        transpose=transpose or None,
        recipe=recipe,
    )
    if cluster is not None:
        sweep.check_address(cluster)
    if figure is not None:
        figure = checked_file(figure, "sweep.png", "--figure ")
    view = display.choose_view(as_json=as_json)
    with ExitStack() as cleanup:
        cleanup.callback(view.close)
        if resume is not None:
            what = asked | _given(config=config)
            how = _given(
                seeds=seeds,
                validation=validation,
                sampler=sampler,
                trials=trials,
                out=out,
            )
            if given := what | options | how:
                names = ", ".join(map(typed, given))
                raise UsageError(
                    f"--resume {resume}: what is trained is written there; expected no {names}."
                    f" Type: python -m trainer sweep --resume {shlex.quote(str(resume))}"
                )
            folder = SweepFolder.open(resume.expanduser())
            cleanup.callback(folder.close)
            if folder.plan.search is not None:
                sweep.check_sampler(folder.plan.search.sampler)
            backend = choose(_device(device or folder.config["device"]["name"], cluster))
            dataset = same_data(folder.path, folder.config["data"], view.downloading)
            for line in dataset.note.splitlines():
                view.note(line)
            part, held_out = hold_out(dataset, samples_to_hold_out(folder.config["data"]))
        else:
            values = _values(options, seeds, sampler)
            search = _search(sampler, trials, values)
            out = check_free(out, under="sweeps")
            file = ConfigFile.read(config, train)
            with file.named_in_errors(besides=[*asked, *options, *_given(device=device)]):
                folder, part, held_out, backend = _start(
                    view, file, asked, values, search, validation, device, cluster, out
                )
            cleanup.callback(folder.close)
        return _sweep(view, folder, part, held_out, backend, jobs, cluster, figure, show)


def _start(
    view: display.QuietView,
    file: ConfigFile,
    asked: dict[str, Any],
    values: dict[str, Any],
    search: Search | None,
    validation: int | None,
    device: str | None,
    cluster: str | None,
    out: Path | None,
) -> tuple[SweepFolder, Dataset, Samples | None, Backend]:
    """Start a new sweep's folder; also return its samples, those held out, and its device."""
    basis = file.basis
    for name in ("patience", "init_from", "matmul"):
        if basis.asked.get(name, "float32") != "float32":
            raise UsageError(f"{file.path}: {name}: a sweep takes none; omit it in the file")
    if unused := [] if basis.run else sorted(file.others.keys() - {"device"}):
        view.note(f"{file.path}: a sweep makes no use of {', '.join(unused)}")
    backend = choose(_device(device or file.others.get("device", "auto"), cluster))
    dataset = basis.load(view, asked)
    with usage_errors():
        recipe = basis.recipe_for(dataset, asked)
    if "seed" in basis.asked:
        values = {"seed": (basis.asked["seed"],)} | values
    plan = _plan(recipe, values, search, dataset)
    if validation is None:
        validation = basis.asked.get("validation", 0)
    part, held_out = hold_out(dataset, validation)
    if "limit" not in basis.changes | values:
        for line in limit_line(plan.recipe, len(part.train_y)):
            view.note(line)
    held = 0 if held_out is None else len(held_out[1])
    recorded = data_of(part, held) | {"crc32": dataset.fingerprint()}
    config = {
        "version": __version__,
        "data": basis.arranged(recorded, asked),
        "device": {"name": backend.name, "device_name": backend.device_name},
    }
    if file.path is not None:
        config |= {"config_file": str(file.path), "asked": asked}
    return SweepFolder.start(out, plan, config), part, held_out, backend


def _device(device: str, cluster: str | None) -> str:
    """Return the device for a sweep; UsageError for a GPU where a cluster trains."""
    if cluster is None or device in ("auto", "cpu"):
        return "cpu" if cluster else device
    raise UsageError(f"--device {device}: --cluster trains on CPUs; expected --device cpu")


def _given(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _values(options: dict[str, str], seeds: int | None, sampler: str | None) -> dict[str, Any]:
    """Read every option's values, or a sampler's range; "seed" is one of them."""
    if seeds is not None:
        if "seed" in options:
            raise UsageError(
                f"--seed {options['seed']} and --seeds {seeds} exclude each other: --seeds 3 is"
                " --seed 0,1,2"
            )
        options = options | {"seed": f"0:{seeds - 1}:1"}
    with usage_errors(say=str):
        return {
            name: (sampler and sweep.span_of(name, text)) or sweep.values_of(name, text)
            for name, text in options.items()
        }


def _search(sampler: str | None, trials: int | None, values: dict[str, Any]) -> Search | None:
    """Take the ranges out of the values; None without a sampler."""
    if sampler is None:
        if trials is not None:
            raise UsageError(f"--trials {trials}: only a sampler takes it: add --sampler tpe")
        return None
    ranges = {name: span for name, span in values.items() if isinstance(span, sweep.Span)}
    if not ranges:
        raise UsageError(
            f"--sampler {sampler}: no option has a range; give one, such as --learning-rate"
            " 0.001:1:log"
        )
    if len(values.get("seed", ())) > 1:
        raise UsageError(
            f"--sampler {sampler}: it takes one seed, which is its own and every training's;"
            " expected --seed N"
        )
    sweep.check_sampler(sampler)
    for name in ranges:
        del values[name]
    return Search(sampler, trials or _TRIALS, ranges)


def _plan(
    recipe: Recipe, values: dict[str, tuple[Any, ...]], search: Search | None, dataset: Dataset
) -> Plan:
    plan = Plan(
        recipe=recipe,
        changes={k: v[0] for k, v in values.items() if len(v) == 1 and k != "seed"},
        grid={k: v for k, v in values.items() if len(v) > 1 and k != "seed"},
        seeds=values.get("seed", (0,)),
        search=search,
    )
    if len(plan) > sweep.MOST_RUNS:
        raise UsageError(
            f"{_product(plan)} = {len(plan):,} runs; expected {sweep.MOST_RUNS:,} at most: give"
            " fewer values, or sweep the options one after the other"
        )
    with usage_errors():
        plan.check(dataset)
    return plan


def _sweep(
    view: display.QuietView,
    folder: SweepFolder,
    dataset: Dataset,
    held_out: Samples | None,
    backend: Backend,
    jobs: int | None,
    where: str | None,
    figure: Path | None,
    show: bool,
) -> int:
    plan, path = folder.plan, folder.path
    by = "validation_accuracy" if held_out else "test_accuracy"
    left = len(plan) - len(folder.outcomes)
    trials: Iterable[sweep.Trial]
    if plan.search is None:
        trials = expected = folder.left()
    else:
        trials, expected = sweep.proposals(plan, folder.outcomes, by), left * [plan.middle()]
    workers = sweep.divide_cores(left, device=backend.name, jobs=jobs)
    resume = f"python -m trainer sweep --resume {shlex.quote(str(path))}"
    about = {"sweep_folder": str(path), "runs": len(plan), "ranked_by": by}
    if where is not None:
        resume += f" --cluster {shlex.quote(where)}"
    interrupted, broken = False, ""
    try:
        view.preparing()
        seconds = sweep.estimate(plan, expected, dataset, backend)
        with ExitStack() as cleanup:
            cluster = None
            if where is not None and left:
                most = workers.jobs if where in sweep.LOCAL else jobs
                cluster = cleanup.enter_context(sweep.opened(where, most, workers.threads))
                workers = sweep.Workers(cluster.slots(), cluster.threads)
            facts = _facts(folder, backend, workers, cluster, left, seconds)
            if backend.name != "cpu":
                view.note(f"{backend.name} takes one run after the other")
            event = folder.config | about | {"finished": len(folder.outcomes)}
            event |= {"jobs": workers.jobs, "threads": workers.threads, "cluster": where}
            view.start(facts, event | {"estimated_seconds": seconds})
            outcomes = sweep.sweep(
                plan,
                trials,
                dataset,
                workers=workers,
                held_out=held_out,
                device=backend.name,
                cluster=cluster,
            )
            cleanup.enter_context(_hushed())
            cleanup.enter_context(closing(outcomes))
            shown = 0.0
            for outcome in outcomes:
                folder.add(outcome)
                view.outcome(outcome)
                if (started := perf_counter()) > shown:
                    view.standings(sweep.rank(folder.outcomes, by=by))
                    now = perf_counter()  # ranking many runs takes its time
                    shown = now + max(_SHOWN_SECONDS, 10 * (now - started))
    except KeyboardInterrupt:
        interrupted = True
    except BrokenExecutor:
        broken = (
            "a process that trained was ended by the system, as it does when memory runs out;"
            f" to go on with fewer at a time: {resume} --jobs {max(1, workers.jobs // 2)}"
        )
    except UsageError as error:  # of the cluster
        raise UsageError(f"{error}; then go on: {resume}") from error
    except (OSError, MemoryError, BackendUnavailable):
        raise  # a line of their own says what is wrong
    except Exception:
        display.error(
            f"the program failed after {len(folder.outcomes):,} of {count(len(plan), 'run')};"
            f" go on: {resume}"
        )
        raise
    standings = sweep.rank(folder.outcomes, by=by)
    if standings:
        view.standings(standings)
    figure = figure or path / sweep.FIGURE
    drawn = [draw(folder, standings, dataset.name, by)] if standings else []
    for whole in drawn:
        save(figure, whole)
    result = about | {
        "finished": len(folder.outcomes),
        "interrupted": interrupted,
        "standings": standings,
        "table": str(folder.table),
        "figure": str(figure) if drawn else None,
    }
    if broken:
        view.failed(broken, result)
        display.error(broken)
        return 1
    if interrupted:
        lines = [f"stopped by Ctrl-C after {len(folder.outcomes):,} of {count(len(plan), 'run')}"]
    else:
        lines = [_best(standings[0], plan, by)]
    samples = "training samples that were held out"
    if dataset.validation is not None:
        samples = f"the {len(dataset.validation[1]):,} samples of the validation part"
    ranking = f"{samples}; the test set chose nothing"
    if not held_out:
        ranking = f"the {len(dataset.test_y):,} test samples, as the book does; --validation N"
        ranking += " ranks by held-out training samples"
    lines += [f"ranked by {ranking}", f"runs:    {folder.table}"]
    if drawn:
        lines.append(f"figure:  {figure}")
    if interrupted:
        lines.append(f"go on:   {resume}")
    elif standings[0].accuracy is not None:
        lines.append(f"train:   {train_command(folder, standings[0])}")
        lines.append(f"next:    python -m trainer report {shlex.quote(str(path))}")
    view.end(lines, result)
    if show and drawn:
        open_windows(drawn)
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
    options = " ".join(f"{typed(name)} {as_text(v)}" for name, v in best.values.items())
    where = f"best: {options}" if options else "all runs"
    spread = "" if best.deviation is None else f" ± {100 * best.deviation:.2f}"
    seeds = f", {count(best.runs, 'seed')}" if len(plan.seeds) > 1 else ""
    samples = "held-out samples" if by == "validation_accuracy" else "test samples"
    text = f"{where}, {100 * best.accuracy:.2f}{spread} % of the {samples} right{seeds}"
    if by == "validation_accuracy":
        text += f"; {display.percent(best.test_accuracy or 0)} of the test samples"
    return text


def train_command(folder: SweepFolder, best: Standing) -> str:
    """Write the command that trains the best once more, into a run folder."""
    data, file = folder.config["data"], folder.config.get("config_file")
    asked = {"data": data["source"], "label": data.get("label"), "test_data": data["test_source"]}
    asked |= {"transpose": data.get("transpose"), "recipe": folder.plan.recipe.name}
    words = ["python -m trainer"]
    if file is not None:  # which says all that was not typed
        words += ["--config", file]
        asked = folder.config["asked"]
    values = folder.plan.changes | best.values
    if "augment" in values:
        values["augment"] = tuple(values["augment"].split("+"))
    words += as_words({name: value for name, value in asked.items() if value} | values)
    if held_out := samples_to_hold_out(data):
        words += ["--validation", str(held_out)]
    if folder.plan.seeds[0] or file is not None:
        words += ["--seed", str(folder.plan.seeds[0])]
    return " ".join([words[0], *map(shlex.quote, words[1:])])


def draw(folder: SweepFolder, standings: Sequence[Standing], data: str, by: str) -> Figure:
    """Draw accuracy by what a sweep varied."""
    from .. import figures  # matplotlib takes its time to import

    seeds = len(folder.plan.seeds)
    parts = [data, f"recipe {folder.plan.recipe.name}"]
    parts += [f"{name.replace('_', ' ')} {as_text(v)}" for name, v in folder.plan.changes.items()]
    if seeds > 1:
        parts.append(f"mean and standard deviation of {seeds} seeds")
    return figures.sweep(
        standings,
        accuracy="held-out accuracy" if by == "validation_accuracy" else "test accuracy",
        caption=", ".join(parts),
    )


def _facts(
    folder: SweepFolder,
    backend: Backend,
    workers: Workers,
    cluster: sweep.Cluster | None,
    left: int,
    seconds: float,
) -> dict[str, str]:
    plan = folder.plan
    changes = [f"{k.replace('_', ' ')} {as_text(v)}" for k, v in plan.changes.items()]
    facts = {
        "device": device_words(backend),
        "data": samples_words(folder.config["data"]),
        "recipe": ", ".join([plan.recipe.name, *changes]),
    }
    varied = [f"{k.replace('_', ' ')} {_shortened(v)}" for k, v in plan.grid.items()]
    varied += [f"{k.replace('_', ' ')} {span}" for k, span in plan.ranges.items()]
    if plan.seeds != (0,):
        varied.append(f"seed {_shortened(plan.seeds)}")
    if varied:
        facts["varied"] = "; ".join(varied)
    if not left:
        way = "nothing is left to do"
    elif cluster is not None:
        way = f"{workers.jobs} at a time on a {cluster.name} cluster"
    elif workers.jobs == 1:
        way = f"one after the other, about {_about(seconds)}"
    else:
        threads = count(workers.threads, "thread")
        way = f"{workers.jobs} at a time with {threads} each, about {_about(seconds)}"
    done = f", {len(folder.outcomes):,} of them done before" if folder.outcomes else ""
    factors = "" if plan.search else f"{_product(plan)} = "
    product = factors if len(plan.grid) + (len(plan.seeds) > 1) > 1 else ""
    chosen = f" that {plan.search.sampler} chooses" if plan.search else ""
    runs = f"{product}{len(plan):,}{chosen}{done}, {way}"
    return facts | {"runs": runs, "folder": str(folder.path)}


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

"""A recipe over every combination of some options, trained side by side in processes.

Nothing is shown or drawn here: `sweep` yields what each run came to, `rank` says which is best.
Workers are joblib's, so that a cluster can take their place, see `sweep`.
"""

from __future__ import annotations

import csv
import json
import math
import re
import signal
import statistics
import threading
import warnings
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from decimal import Decimal, InvalidOperation
from io import StringIO
from itertools import islice, pairwise, product
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np

from backends import Backend, select

from .data import Dataset, limited
from .files import append, read_plain, write_whole
from .network import MLP
from .recipes import Recipe, augmentation, augmented, build, changed, recorded
from .runs import Run, RunError, claim
from .settings import DataSettings, NetworkSettings, TrainingSettings, settings_of, types_of
from .training import Diverged, EpochReport, fit
from .training.minimize import NotFinite, check, minimize

MOST_RUNS = 100_000
FIGURE = "sweep.png"

_PROBE_SECONDS = 0.15
_PROBE_SAMPLES = 5000
_PASSES = 2  # over the samples, that an iteration of a minimiser mostly makes
_EVALUATION = 1 / 3  # what answering a sample takes, as a part of learning it
_DONE, _DIVERGED = "done", "diverged"
_COLUMNS = (
    "seed",
    "epochs",
    "test_accuracy",
    "validation_accuracy",
    "train_loss",
    "seconds",
    "status",
)

Values = dict[str, Any]


# --- options ------------------------------------------------------------------------------


_OPTIONS = {
    name: setting
    for name, setting in settings_of(NetworkSettings, TrainingSettings, DataSettings).items()
    if setting.is_option
}
# type of every option that a sweep may vary
KINDS = {name: types_of(Recipe)[name] for name in _OPTIONS} | {"limit": int, "augment": str}
_BETWEEN_NAMES = re.compile(r",(?!\s*[\d.])")  # elastic:34,4 has a comma inside


def values_of(option: str, text: str) -> tuple[Any, ...]:
    """Read the values that an option is to take.

    Parameters
    ----------
    option : str
        One of `KINDS`, or "seed".
    text : str
        Values with commas between them; of numbers, start:stop:step stands for all from the one
        to the other. The widths of one network are joined by -.

    Returns
    -------
    tuple
        Without repetitions, in the order given.

    Raises
    ------
    ValueError
        Naming what was given and what was expected.

    Examples
    --------
    >>> values_of("learning_rate", "0.1:0.3:0.1,1")
    (0.1, 0.2, 0.3, 1.0)
    >>> values_of("hidden", "200-100,50,none")
    ((200, 100), (50,), ())
    """
    kind = int if option == "seed" else KINDS[option]
    values: list[Any] = []
    try:
        for part in _BETWEEN_NAMES.split(text) if option == "augment" else text.split(","):
            part = part.strip()
            if ":" in part and kind is not str:
                values += _range(option, kind, part)
            else:
                values.append(_value(option, kind, part))
    except ValueError as error:
        raise ValueError(f"--{option.replace('_', '-')} {text}: {error}") from error
    return tuple(dict.fromkeys(values))


def as_text(value: Any) -> str:
    """Write a value as `values_of` reads it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return "-".join(map(str, value)) or "none"
    return repr(value).removesuffix(".0") if isinstance(value, float) else str(value)


def _value(option: str, kind: Any, text: str) -> Any:
    wrong = ValueError(_wanted(option, kind))
    if not text:
        raise wrong
    if kind is str:
        return text
    if kind is bool:
        if text not in ("yes", "no"):
            raise wrong
        return text == "yes"
    if kind is int:
        if not text.isdecimal() or int(text) < (option != "seed"):
            raise wrong
        return int(text)
    if kind is float:
        try:
            number = float(text)
        except ValueError:
            raise wrong from None
        if not math.isfinite(number):
            raise wrong
        return number
    widths = [] if text == "none" else text.split("-")
    if not all(width.isdecimal() and int(width) for width in widths):
        raise wrong
    return tuple(map(int, widths))


def _range(option: str, kind: Any, text: str) -> list[Any]:
    if kind is bool:
        raise ValueError(_wanted(option, kind))
    parts = text.split(":")
    example = _range_example(kind)
    if len(parts) != 3:
        raise ValueError(f"expected start:stop:step such as {example}")
    try:
        start, stop, step = map(Decimal, parts)
    except InvalidOperation:
        raise ValueError(f"expected three numbers such as {example}") from None
    if not (start.is_finite() and stop.is_finite() and step.is_finite() and step > 0):
        raise ValueError(f"the step must be above 0, as in {example}")
    if stop < start:
        raise ValueError(f"it stops before it starts; expected {parts[1]}:{parts[0]}:{parts[2]}")
    count = int((stop - start) / step) + 1
    if count > MOST_RUNS:
        raise ValueError(f"these are {count:,} values; expected {MOST_RUNS:,} at most")
    # decimals, so that the third of 0.1:0.9:0.1 is 0.3 and not 0.30000000000000004
    numbers = [f"{(start + i * step).normalize():f}" for i in range(count)]
    return [_value(option, kind, number) for number in numbers]


def _wanted(option: str, kind: Any) -> str:
    if kind is bool:
        return "expected yes, no, or both as in yes,no"
    if kind is str:
        return "expected names with commas between them"
    if kind is int:
        least = "" if option == "seed" else " above 0"
        return f"expected whole numbers{least} such as 1,2,5 or {_range_example(kind)}"
    if kind is float:
        return f"expected numbers such as 0.1,0.3 or {_range_example(kind)}"
    return "expected widths such as 50,100,200, with - between those of one network as in 200-100"


def _range_example(kind: Any) -> str:
    return "0.1:0.9:0.1" if kind is float else "50:200:50"


# --- what is trained ------------------------------------------------------------------------


class Settings(NamedTuple):
    """What one combination of values stands for.

    Attributes
    ----------
    recipe : Recipe
    limit : int or None
        Number of training samples, None for all.
    """

    recipe: Recipe
    limit: int | None


@dataclass(frozen=True)
class Trial:
    """One run: what it differs by from the others of its sweep."""

    values: Values
    seed: int

    @property
    def key(self) -> tuple[str, ...]:
        """As `sweep.csv` names it."""
        return (*map(as_text, self.values.values()), str(self.seed))


@dataclass(frozen=True)
class Plan:
    """What a sweep trains.

    Attributes
    ----------
    recipe : Recipe
    changes : dict
        Options that win over the recipe's, in every run; also "limit", the number of training
        samples, and "augment", what `read_augment` takes with + between, or "none".
    grid : dict of tuple
        Options and the values that they take.
    seeds : tuple of int
    """

    recipe: Recipe
    changes: Values
    grid: dict[str, tuple[Any, ...]]
    seeds: tuple[int, ...] = (0,)

    def __len__(self) -> int:
        return math.prod(map(len, self.grid.values())) * len(self.seeds)

    def trials(self) -> Iterator[Trial]:
        """All runs, every combination with the first seed before any with the second."""
        for seed in self.seeds:
            for values in product(*self.grid.values()):
                yield Trial(dict(zip(self.grid, values, strict=True)), seed)

    def settings(self, values: Values) -> Settings:
        """Find what a combination of values stands for; ValueError if it stands for nothing."""
        changes = self.changes | values
        limit, augment = changes.pop("limit", None), changes.pop("augment", None)
        if augment is not None:
            changes["augment"] = () if augment == "none" else tuple(augment.split("+"))
        return Settings(changed(self.recipe, changes), limit)

    def check(self, dataset: Dataset) -> None:
        """Raise ValueError if a value, or a combination of names, is none that can be trained."""
        least = replace(dataset, train_x=dataset.train_x[:1, :1], train_y=dataset.train_y[:1])
        cpu = select("cpu")
        # label smoothing goes with some losses only
        words = [n for n in self.grid if KINDS[n] in (str, bool) or n == "label_smoothing"]
        first = {name: values[0] for name, values in self.grid.items()}
        combinations = [
            first | dict(zip(words, values, strict=True))
            for values in product(*(self.grid[name] for name in words))
        ]
        combinations += [
            first | {name: value}
            for name, values in self.grid.items()
            if name not in words
            for value in values[1:]
        ]
        for values in combinations:
            recipe, _ = self.settings(values)
            augmentation(recipe, dataset)
            _start(recipe, 0, least, cpu)


@dataclass(frozen=True)
class Outcome:
    """What a run came to.

    Attributes
    ----------
    values : dict
        The options that the sweep varies.
    seed : int
    epochs : int
        That were finished; iterations of an optimizer that sees all samples at once.
    test_accuracy, validation_accuracy, train_loss : float or None
        After the last epoch; None for a run that diverged or without held-out samples.
    seconds : float
        Of training, without evaluation and compilation.
    status : {"done", "diverged"}
    """

    values: Values
    seed: int
    epochs: int
    test_accuracy: float | None
    validation_accuracy: float | None
    train_loss: float | None
    seconds: float
    status: str = _DONE


@dataclass(frozen=True)
class Standing:
    """What the runs of one combination of values have come to so far, means over its seeds.

    Attributes
    ----------
    values : dict
    runs, diverged : int
        Finished, and how many of those diverged, which are in no mean.
    accuracy, deviation : float or None
        Of what is ranked by; the standard deviation (n − 1) of two runs or more.
    test_accuracy, train_loss : float or None
    seconds : float
    """

    values: Values
    runs: int
    diverged: int
    accuracy: float | None
    deviation: float | None
    test_accuracy: float | None
    train_loss: float | None
    seconds: float


def rank(outcomes: Sequence[Outcome], *, by: str = "test_accuracy") -> list[Standing]:
    """Order the combinations by mean accuracy, the best first; those with a run that diverged last.

    Parameters
    ----------
    outcomes : sequence of Outcome
    by : {"test_accuracy", "validation_accuracy"}
    """
    groups: dict[tuple[str, ...], list[Outcome]] = {}
    for outcome in outcomes:
        key = tuple(map(as_text, outcome.values.values()))
        groups.setdefault(key, []).append(outcome)
    standings = [_standing(group, by) for group in groups.values()]
    return sorted(standings, key=lambda s: (s.diverged > 0, -(s.accuracy or 0.0)))


def _standing(group: Sequence[Outcome], by: str) -> Standing:
    good = [outcome for outcome in group if outcome.status == _DONE]

    def mean(name: str) -> float | None:
        return statistics.fmean(getattr(outcome, name) for outcome in good) if good else None

    ranked = [getattr(outcome, by) for outcome in good]
    return Standing(
        values=group[0].values,
        runs=len(group),
        diverged=len(group) - len(good),
        accuracy=mean(by),
        deviation=statistics.stdev(ranked) if len(ranked) > 1 else None,
        test_accuracy=mean("test_accuracy"),
        train_loss=mean("train_loss"),
        seconds=statistics.fmean(outcome.seconds for outcome in group),
    )


# --- training it ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Workers:
    """Who trains.

    Attributes
    ----------
    jobs, threads : int
        Runs at a time, and the threads of each.
    cluster : str
        The joblib backend that is to do it, where one has been made active, else nothing.
    """

    jobs: int
    threads: int
    cluster: str = ""


def share_out(runs: int, *, device: str, jobs: int | None = None) -> Workers:
    """Share the cores out so that processes × threads is no more than there are.

    Parameters
    ----------
    runs : int
    device : str
        A GPU takes one run after the other, in this process.
    jobs : int, optional
        As many runs at a time as wanted; else as there are cores.
    """
    import joblib  # joblib and Numba take their time to import
    from joblib.parallel import get_active_backend

    active, _ = get_active_backend()
    if not active.supports_inner_max_num_threads:  # not joblib's own, loky
        cluster = type(active).__name__.removesuffix("Backend").removesuffix("Distributed")
        return Workers(joblib.effective_n_jobs(-1), 1, cluster)
    if device != "cpu":
        return Workers(1, 1)
    from backends.kernels.cpu.workers import worker_count

    cores = worker_count()
    jobs = max(1, min(jobs or cores, runs))
    return Workers(jobs, max(1, cores // jobs))


def estimate(plan: Plan, trials: Sequence[Trial], dataset: Dataset, backend: Backend) -> float:
    """Estimate the seconds that runs take on this machine, from a moment's training of the first.

    The others are taken to be slower in proportion to their weights, and images to be deformed as
    the first run's are. Kernels are compiled and kept on disk by this, so that workers find them.
    """
    if not trials:
        return 0.0
    first, limit = plan.settings(trials[0].values)
    part = limited(dataset, limit)
    model = _start(first, trials[0].seed, part, backend)
    seconds = _seconds_per_sample(first, model, part)
    features, classes = dataset.train_x.shape[1], len(dataset.classes)
    costs: dict[tuple[str, ...], float] = {}
    for trial in trials:
        key = trial.key[:-1]
        if key not in costs:
            recipe, limit = plan.settings(trial.values)
            degrees, _ = augmentation(recipe, dataset)
            n = min(len(dataset.train_y), limit or len(dataset.train_y)) * (1 + 2 * len(degrees))
            rounds, learned = recipe.epochs, recipe.epochs * n
            if recipe.sees_all_samples:
                rounds = recipe.max_iterations
                learned = _PASSES * rounds * n
            elif recipe.steps is not None:
                learned = recipe.steps * recipe.batch_size
                rounds = -(-learned // n)
            answered = rounds * len(dataset.test_y)
            weights = sum(a * b for a, b in pairwise([features, *recipe.hidden, classes]))
            costs[key] = weights * (learned + _EVALUATION * answered)
    return sum(costs[trial.key[:-1]] for trial in trials) * seconds / model.weight_count


def _seconds_per_sample(recipe: Recipe, model: MLP, data: Dataset) -> float:
    """Try for a moment; 0 if that diverges."""
    if recipe.sees_all_samples:
        x, y = data.train_x[:_PROBE_SAMPLES], data.train_y[:_PROBE_SAMPLES]
        model.gradients(x[:1], y[:1])
        started = perf_counter()
        model.gradients(x, y)
        model.backend.synchronize()
        return (perf_counter() - started) / len(y)
    fastest, samples, seconds, spent = 0.0, 0, 0.0, 0.0
    with _quietly():
        try:
            data, deformation = augmented(recipe, data, model.backend)
            training = fit(
                model, data.train_x, data.train_y, recipe, seed=0, deformation=deformation
            )
            for report in training:
                if isinstance(report, EpochReport):
                    fastest = max(fastest, report.samples_per_second)
                    samples, seconds, spent = 0, 0.0, spent + report.seconds
                else:  # what is prepared once is in its first seconds
                    rate = (report.samples - samples) / max(report.seconds - seconds, 1e-9)
                    fastest = max(fastest, rate)
                    samples, seconds = report.samples, report.seconds
                if spent + seconds > _PROBE_SECONDS:
                    break
        except Diverged:
            return 0.0
    return 1 / fastest


def sweep(
    plan: Plan,
    trials: Sequence[Trial],
    dataset: Dataset,
    *,
    workers: Workers,
    held_out: tuple[np.ndarray, np.ndarray] | None = None,
    device: str = "cpu",
) -> Generator[Outcome, None, None]:
    """Train.

    The data are shared with the processes in memory. Inside ``with
    joblib.parallel_config(backend="dask"):`` (or "ray") the runs go to that cluster instead; its
    machines need this package, and its settings say how many threads a worker may have.

    Parameters
    ----------
    plan : Plan
    trials : sequence of Trial
        Some or all of ``plan.trials()``.
    dataset : Dataset
    workers : Workers
    held_out : tuple of (x, y), optional
        Training samples to measure accuracy on, too.
    device : str
        As `backends.select` takes it.

    Yields
    ------
    Outcome
        In the order in which runs end.

    Raises
    ------
    concurrent.futures.BrokenExecutor
        If a worker was killed, such as by a system that is out of memory.
    """
    import joblib

    facts = replace(dataset, **{name: getattr(dataset, name)[:0] for name in _ARRAYS})
    arrays = [getattr(dataset, name) for name in _ARRAYS] + list(held_out or (None, None))
    calls = (
        joblib.delayed(_train)(*plan.settings(trial.values), trial, device, facts, *arrays)
        for trial in trials
    )
    options: dict[str, Any] = {"return_as": "generator_unordered", "batch_size": 1}
    if workers.cluster:
        yield from joblib.Parallel(n_jobs=-1, **options)(calls)
        return
    with joblib.parallel_config(backend="loky", inner_max_num_threads=workers.threads):
        pool = joblib.Parallel(n_jobs=workers.jobs, **options)
    with _deaf_to_ctrl_c() as hear:
        outcomes = pool(calls)
    with closing(outcomes):
        hear()
        yield from outcomes


_ARRAYS = ("train_x", "train_y", "test_x", "test_y")


def _train(
    recipe: Recipe,
    limit: int | None,
    trial: Trial,
    device: str,
    facts: Dataset,
    train_x: np.ndarray,
    train_y: np.ndarray,
    test_x: np.ndarray,
    test_y: np.ndarray,
    held_x: np.ndarray | None,
    held_y: np.ndarray | None,
) -> Outcome:
    """Train one, in whatever process; large arrays are arguments of their own to be shared."""
    backend = select(device)
    data = limited(replace(facts, train_x=train_x, train_y=train_y), limit)
    model = _start(recipe, trial.seed, data, backend)
    data, deformation = augmented(recipe, data, backend)
    x, y = data.train_x, data.train_y
    held_out: dict[str, Any] = {
        "test": (test_x, test_y),
        "validation": None if held_x is None else (held_x, held_y),
    }
    with _quietly():
        if recipe.sees_all_samples:
            return _minimized(recipe, model, x, y, trial, held_out)
        done, seconds, last = 0, 0.0, None
        try:
            training = fit(
                model, x, y, recipe, seed=trial.seed, deformation=deformation, **held_out
            )
            for report in training:
                if isinstance(report, EpochReport):
                    done, seconds, last = report.epoch, seconds + report.seconds, report
        except Diverged:
            return Outcome(trial.values, trial.seed, done, None, None, None, seconds, _DIVERGED)
    assert last is not None
    return Outcome(
        values=trial.values,
        seed=trial.seed,
        epochs=done,
        test_accuracy=last.test_accuracy,
        validation_accuracy=last.validation_accuracy,
        train_loss=last.train_loss,
        seconds=seconds,
    )


def _minimized(
    recipe: Recipe, model: MLP, x: Any, y: Any, trial: Trial, held_out: dict[str, Any]
) -> Outcome:
    started = perf_counter()
    try:
        minimum = minimize(model, x, y, recipe.optimizer, recipe.max_iterations, **held_out)
    except (NotFinite, ValueError) as error:  # ValueError: it was not finite to begin with
        done = error.iteration - 1 if isinstance(error, NotFinite) else 0
        seconds = perf_counter() - started
        return Outcome(trial.values, trial.seed, done, None, None, None, seconds, _DIVERGED)
    return Outcome(
        values=trial.values,
        seed=trial.seed,
        epochs=minimum.iterations,
        test_accuracy=minimum.test_accuracy,
        validation_accuracy=minimum.validation_accuracy,
        train_loss=minimum.train_loss,
        seconds=minimum.seconds,
    )


def _start(recipe: Recipe, seed: int, data: Dataset, backend: Backend) -> MLP:
    """Make a new network; ValueError if it cannot be trained so."""
    model = build(recipe, data, backend=backend, seed=seed)
    if recipe.sees_all_samples:
        check(model, recipe.optimizer, recipe.max_iterations)
    else:
        fit(model, data.train_x, data.train_y, recipe, seed=seed)
    return model


@contextmanager
def _quietly() -> Iterator[None]:
    """Without NumPy's warnings of overflow; fit itself ends a training that diverges."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        yield


@contextmanager
def _deaf_to_ctrl_c() -> Iterator[Callable[[], None]]:
    """Let processes be started, whole, and such that Ctrl-C does not reach them.

    This one is to hear it, and ends them. A signal that is blocked here stays blocked in a new
    process. Yields what to call when all is over, to hear one that came meanwhile.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    pressed: list[int] = []
    signals = {signal.SIGINT}
    handler = signal.signal(signal.SIGINT, lambda number, frame: pressed.append(number))
    mask = _masked(signal.SIG_BLOCK, signals)
    try:
        yield lambda: signal.raise_signal(signal.SIGINT) if pressed else None
    finally:
        _masked(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGINT, handler)


def _masked(how: int, signals: set[Any]) -> set[Any]:
    # Windows has no masks
    return signal.pthread_sigmask(how, signals) if hasattr(signal, "pthread_sigmask") else set()


# --- keeping it -----------------------------------------------------------------------------


# what a config that is none makes of its reader
_UNREADABLE = (OSError, ValueError, TypeError, AttributeError, LookupError, RecursionError)


class SweepFolder:
    """A sweep's folder: config.json, sweep.csv with a line a finished run, sweep.png.

    Parameters
    ----------
    path : Path
    config : dict
        What `config.json` holds.
    plan : Plan
    close : callable
        Lets other processes sweep into the folder.

    Attributes
    ----------
    outcomes : list of Outcome
        Of the runs that are in sweep.csv.
    """

    def __init__(
        self, path: Path, config: dict[str, Any], plan: Plan, close: Callable[[], None]
    ) -> None:
        self.path = path
        self.config = config
        self.plan = plan
        self.outcomes: list[Outcome] = []
        self.close = close

    @classmethod
    def start(cls, out: Path | None, plan: Plan, config: dict[str, Any]) -> SweepFolder:
        """Make the folder (the next free one under sweeps/ if none is named).

        Raises
        ------
        RunError
            If `out` is not empty.
        OSError
            If the folder cannot be made or written.
        """
        recorded = {
            "recipe": plan.recipe.name,
            "settings": {k: v for k, v in vars(plan.recipe).items() if k not in ("name", "about")},
            "changes": {name: as_text(value) for name, value in plan.changes.items()},
            "grid": {name: [as_text(v) for v in values] for name, values in plan.grid.items()},
            "seeds": list(plan.seeds),
        }
        run = Run.start(out, config | {"sweep": recorded}, under="sweeps")
        folder = cls(run.path, run.config, plan, run.close)
        write_whole(folder.table, folder._lines([]).encode())
        return folder

    @classmethod
    def open(cls, path: Path) -> SweepFolder:
        """Read a folder to go on with it; a last line that was not written whole is dropped.

        Raises
        ------
        RunError
            If there is no sweep, or one of its files is damaged.
        """
        file = path / "config.json"
        try:
            config = json.loads(read_plain(file))
            asked = config["sweep"]
            plan = Plan(
                recipe=recorded(asked["recipe"], asked["settings"]),
                changes={name: values_of(name, v)[0] for name, v in asked["changes"].items()},
                grid={
                    name: values_of(name, ",".join(values))
                    for name, values in asked["grid"].items()
                },
                seeds=tuple(map(int, asked["seeds"])),
            )
            data = config["data"]
            texts = (config["device"]["name"], data["source"], data["crc32"])
            if not all(isinstance(text, str) for text in texts):
                raise TypeError("device, data source or crc32 is no text")
            if not isinstance(data["test_source"], str | None):
                raise TypeError("test_source is no text")
            if not isinstance(data["validation_samples"], int):
                raise TypeError("validation_samples is no number")
        except (FileNotFoundError, NotADirectoryError) as error:
            raise RunError(
                f"--resume {path}: no sweep is there; expected a folder that `sweep` wrote, such"
                " as sweeps/s1"
            ) from error
        except _UNREADABLE as error:
            cause = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            raise RunError(f"{file}: not a sweep's config ({cause})") from error
        run = Run(path, config, claim(path))
        folder = cls(path, config, plan, run.close)
        try:
            run.write_config()  # which process it is now
            folder.outcomes = folder._read()
        except BaseException:
            folder.close()
            raise
        return folder

    @property
    def table(self) -> Path:
        """Where the runs are."""
        return self.path / "sweep.csv"

    def left(self) -> list[Trial]:
        """Runs that are not in the table."""
        done = {Trial(outcome.values, outcome.seed).key for outcome in self.outcomes}
        return [trial for trial in self.plan.trials() if trial.key not in done]

    def add(self, outcome: Outcome) -> None:
        """Append a line to the table, whole."""
        append(self.table, self._lines([outcome], header=False).encode())
        self.outcomes.append(outcome)

    def _lines(self, outcomes: Sequence[Outcome], *, header: bool = True) -> str:
        text = StringIO()
        writer = csv.writer(text, lineterminator="\n")
        if header:
            writer.writerow([*self.plan.grid, *_COLUMNS])
        for outcome in outcomes:
            fields = asdict(outcome)
            rest = ("" if fields[name] is None else fields[name] for name in _COLUMNS)
            writer.writerow([*map(as_text, outcome.values.values()), *rest])
        return text.getvalue()

    def _read(self) -> list[Outcome]:
        try:
            text = self.table.read_text(encoding="utf-8")
        except FileNotFoundError:
            text = ""
        except (OSError, ValueError) as error:
            raise RunError(f"{self.table}: cannot be read ({error})") from error
        lines = text.splitlines(keepends=True)
        header = [*self.plan.grid, *_COLUMNS]
        if lines and lines[0].endswith("\n") and lines[0].strip().split(",") != header:
            raise RunError(
                f"{self.table}: line 1 is not {','.join(header)}, as this sweep wrote it"
            )
        trials = {trial.key: trial for trial in self.plan.trials()}
        outcomes: dict[tuple[str, ...], Outcome] = {}
        for number, line in islice(enumerate(lines, 1), 1, None):
            try:
                if not line.endswith("\n"):
                    raise ValueError("it has no end")
                key, outcome = self._outcome(next(csv.reader([line])), trials)
            except (ValueError, LookupError) as error:
                if number == len(lines):
                    break
                raise RunError(
                    f"{self.table}: line {number} is no run of this sweep ({error}); delete the"
                    " line, and the run is made again"
                ) from error
            outcomes[key] = outcome
        kept = list(outcomes.values())
        whole = self._lines(kept)
        if whole != text:
            write_whole(self.table, whole.encode())
        return kept

    def _outcome(
        self, cells: list[str], trials: Mapping[tuple[str, ...], Trial]
    ) -> tuple[tuple[str, ...], Outcome]:
        options = len(self.plan.grid)
        if len(cells) != options + len(_COLUMNS):
            raise ValueError(f"{len(cells)} fields")
        key = tuple(cells[: options + 1])
        if key not in trials:
            raise ValueError("its options and seed")
        fields = dict(zip(_COLUMNS[1:], cells[options + 1 :], strict=True))
        status = fields["status"]
        if status not in (_DONE, _DIVERGED) or (status == _DONE) != bool(fields["test_accuracy"]):
            raise ValueError("its status")
        numbers = {
            name: float(fields[name]) if fields[name] else None
            for name in ("test_accuracy", "validation_accuracy", "train_loss")
        }
        trial = trials[key]
        return key, Outcome(
            values=trial.values,
            seed=trial.seed,
            epochs=int(fields["epochs"]),
            seconds=float(fields["seconds"]),
            status=status,
            **numbers,
        )

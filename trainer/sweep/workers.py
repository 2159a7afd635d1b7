"""The runs of a sweep, side by side in joblib's processes or on a cluster."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import pairwise
from time import perf_counter
from typing import Any
from warnings import catch_warnings

import numpy as np

from backends import Backend, select

from ..data import Dataset, limited
from ..network import MLP
from ..recipes import Recipe, augmentation, augmented
from ..training import Diverged, EpochReport, fit
from ..training.minimize import IterationReport, Minimum, NotFinite, minimize
from .clusters import Cluster
from .interrupts import ctrl_c_ignored
from .outcomes import DIVERGED, DONE, Outcome
from .plan import Plan, Trial, new_network

_PROBE_SECONDS = 0.15
_PROBE_SAMPLES = 5000
_PASSES = 2  # over the samples, that an iteration of a minimiser mostly makes
_EVALUATION = 1 / 3  # what answering a sample takes, as a part of learning it


@dataclass(frozen=True)
class Workers:
    """Who trains."""

    jobs: int  # runs at a time
    threads: int  # of each run


def divide_cores(runs: int, *, device: str, jobs: int | None = None) -> Workers:
    """Divide the cores so that processes × threads is no more than there are.

    There are `jobs` runs at a time, or as many as cores; a GPU takes one after the other, in this
    process.
    """
    if device != "cpu":
        return Workers(1, 1)
    from backends.kernels.cpu.workers import core_count  # Numba takes its time to import

    cores = core_count()
    jobs = max(1, min(jobs or cores, runs))
    return Workers(jobs, max(1, cores // jobs))


def estimate(plan: Plan, trials: Sequence[Trial], dataset: Dataset, backend: Backend) -> float:
    """Estimate the seconds that runs take on this machine, from a moment's training of the first.

    The others are taken to be slower in proportion to their weights, and images to be deformed as
    the first run's are. Kernels are compiled and kept on disk by this, so that workers find them.
    """
    if not trials:
        return 0.0
    first = plan.settings(trials[0].values)
    part = limited(dataset, first.limit)
    model = new_network(first, trials[0].seed, part, backend)
    seconds = _seconds_per_sample(first, model, part)
    features, classes = dataset.train_x.shape[1], len(dataset.classes)
    costs: dict[tuple[str, ...], float] = {}
    for trial in trials:
        key = trial.key[:-1]
        if key not in costs:
            recipe = plan.settings(trial.values)
            degrees, _ = augmentation(recipe, dataset)
            n = len(dataset.train_y[: recipe.limit]) * (1 + 2 * len(degrees))
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
    with catch_warnings(action="ignore", category=RuntimeWarning):
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
    trials: Iterable[Trial],
    dataset: Dataset,
    *,
    workers: Workers,
    held_out: tuple[np.ndarray, np.ndarray] | None = None,
    device: str = "cpu",
    cluster: Cluster | None = None,
) -> Generator[Outcome, None, None]:
    """Train some or all of ``plan.trials()``, yielding outcomes in the order in which runs end.

    A trial is asked for when a process is free for it. The data are shared with the processes in
    memory; a `cluster`, if there is one, takes the runs in their place. On `held_out`, samples and
    labels, accuracy is measured, too.

    Raises
    ------
    concurrent.futures.BrokenExecutor
        If a worker was killed, such as by a system that is out of memory; on a cluster, if that
        happened to a run again and again.
    """
    none: dict[str, Any] = {name: getattr(dataset, name)[:0] for name in _ARRAYS}
    facts = replace(dataset, **none, validation=None)
    arrays = [getattr(dataset, name) for name in _ARRAYS] + list(held_out or ())
    calls = ((plan.settings(trial.values), trial, device, facts) for trial in trials)
    if cluster is not None:
        yield from cluster.train(_train, calls, arrays)
        return
    import joblib  # which takes its time to import

    options: dict[str, Any] = {"return_as": "generator_unordered", "batch_size": 1}
    with joblib.parallel_config(backend="loky", inner_max_num_threads=workers.threads):
        pool = joblib.Parallel(n_jobs=workers.jobs, pre_dispatch=workers.jobs, **options)
    with ctrl_c_ignored() as hear:
        outcomes = pool(joblib.delayed(_train)(*call, *arrays) for call in calls)
    with closing(outcomes):
        hear()
        yield from outcomes


_ARRAYS = ("train_x", "train_y", "test_x", "test_y")


def _train(
    recipe: Recipe, trial: Trial, device: str, facts: Dataset, *arrays: np.ndarray
) -> Outcome:
    """Train one, in whatever process; large arrays are arguments of their own to be shared."""
    backend = select(device)
    own: dict[str, Any] = dict(zip(_ARRAYS, arrays, strict=False))
    data = replace(facts, **own)
    held_out: dict[str, Any] = {
        "test": (data.test_x, data.test_y),
        "validation": arrays[len(_ARRAYS) :] or None,
    }
    data = limited(data, recipe.limit)
    model = new_network(recipe, trial.seed, data, backend)
    data, deformation = augmented(recipe, data, backend)
    samples = model, data.train_x, data.train_y
    reports: list[EpochReport | IterationReport] = []
    last: EpochReport | IterationReport | Minimum | None = None
    # NumPy's warnings of overflow; fit itself ends a training that diverges
    with catch_warnings(action="ignore", category=RuntimeWarning):
        try:
            if recipe.sees_all_samples:
                method, most = recipe.optimizer, recipe.max_iterations
                last = minimize(*samples, method, most, reports.append, **held_out)
            else:
                training = fit(
                    *samples, recipe, seed=trial.seed, deformation=deformation, **held_out
                )
                for report in training:
                    if isinstance(report, EpochReport):
                        reports.append(report)
                last = reports[-1]
        except (Diverged, NotFinite):
            pass
        except ValueError:
            if not recipe.sees_all_samples:  # whose loss may not be finite to begin with
                raise
    numbers = ("test_accuracy", "validation_accuracy", "train_loss")
    found: dict[str, Any] = {name: getattr(last, name, None) for name in numbers}
    seconds = math.fsum(report.seconds for report in reports)
    status = DIVERGED if last is None else DONE
    found |= {"seconds": seconds, "status": status, "number": trial.number}
    return Outcome(trial.values, trial.seed, len(reports), **found)

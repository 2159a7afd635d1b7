"""Values that a sampler of Optuna's chooses, by what the trials before have come to.

What is chosen follows from the plan, the trial's number and the outcomes so far alone. So the table
of the sweep is all that is kept, and a resumed sweep goes on as if it had not been interrupted.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ..running.usage import UsageError
from .outcomes import Outcome
from .plan import Plan, Trial
from .values import as_text, values_of

_DIGITS = 4  # of a number that is chosen


def check_sampler(sampler: str) -> None:
    """Raise UsageError, saying what to type, where Optuna is not installed."""
    try:
        import optuna  # noqa: F401
    except ImportError as error:
        raise UsageError(
            f"--sampler {sampler}: Optuna is not installed ({error}); type: python -m pip install"
            ' "xptrainer[optuna]"'
        ) from error


def proposals(plan: Plan, finished: Sequence[Outcome], by: str) -> Iterator[Trial]:
    """Yield the trials that are not finished, each chosen when it is asked for.

    Parameters
    ----------
    plan : Plan
        One with a search.
    finished : sequence of Outcome
        Those so far; it is looked at again for each trial.
    by : {"validation_accuracy", "test_accuracy"}
        What is to be as high as can be.
    """
    assert plan.search is not None
    done, begun = {outcome.number for outcome in finished}, list[Trial]()
    for number in range(plan.search.trials):
        if number not in done:
            known = list(finished)
            ended = {outcome.number for outcome in known}
            running = [trial for trial in begun if trial.number not in ended]
            begun = [*running, propose(plan, number, known, running, by)]
            yield begun[-1]


def propose(
    plan: Plan, number: int, finished: Sequence[Outcome], running: Sequence[Trial], by: str
) -> Trial:
    """Choose the values of one trial; what is running counts as poor, to keep the next apart."""
    import optuna

    assert plan.search is not None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    states, create = optuna.trial.TrialState, optuna.trial.create_trial
    distributions: dict[str, Any] = {}
    kinds = optuna.distributions
    for name, choices in plan.grid.items():
        distributions[name] = kinds.CategoricalDistribution([as_text(value) for value in choices])
    for name, span in plan.search.ranges.items():
        is_float = isinstance(span.low, float)
        of_kind: Any = kinds.FloatDistribution if is_float else kinds.IntDistribution
        distributions[name] = of_kind(span.low, span.high, log=span.is_log)

    def known(trial: Trial, **result: Any) -> Any:
        params = {name: as_text(value) for name, value in trial.values.items()}
        for name, span in plan.search.ranges.items() if plan.search else ():
            params[name] = span.number(trial.values[name])
        return create(params=params, distributions=distributions, **result)

    trials = [
        # what diverged has no value, and is the worst
        known(outcome, state=states.PRUNED if value is None else states.COMPLETE, value=value)
        for outcome in finished
        for value in [getattr(outcome, by)]
    ]
    trials += [known(trial, state=states.RUNNING) for trial in running]
    seed = int(np.random.SeedSequence([plan.seeds[0], number]).generate_state(1)[0])
    with warnings.catch_warnings(action="ignore"):  # of what Optuna calls experimental
        if plan.search.sampler == "tpe":
            sampler: Any = optuna.samplers.TPESampler(seed=seed, constant_liar=True)
        else:
            sampler = optuna.samplers.RandomSampler(seed=seed)
        study = optuna.create_study(direction="maximize", sampler=sampler)
        study.add_trials(trials)
        chosen = study.ask(distributions).params
    values = {name: values_of(name, chosen[name])[0] for name in plan.grid}
    for name, span in plan.search.ranges.items():
        values[name] = span.value(chosen[name], _DIGITS)
    return Trial(values, plan.seeds[0], number=number)

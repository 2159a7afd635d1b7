"""How the estimator follows a training, iteration by iteration, as scikit-learn's class does."""

from __future__ import annotations

import warnings
from copy import deepcopy
from dataclasses import replace
from itertools import count
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from ..network import MLP
from ..settings import EstimatorSettings
from ..training import EpochReport, Training, TrainingState, fit
from ..training.minimize import IterationReport, minimize
from .parameters import Plan

_LEAST_RATE = 1e-6  # from which an adaptive rate falls no further
_GROWTH = 10  # times as large as at first, from which a loss is said to have diverged
_FRAMES = 6  # from a warning up to the call of `fit`


class Fitting:
    """One call of an estimator's `fit` or `partial_fit`, whose results become its attributes.

    Parameters
    ----------
    estimator : MLPClassifier
        Whose `network_` is trained.
    plan : Plan
    samples : tuple of X, codes, weights or None
        To learn.
    data : dict
        What callbacks are told: X, y and metadata.
    """

    def __init__(
        self, estimator: Any, plan: Plan, samples: tuple[Any, Any, Any], data: dict[str, Any]
    ) -> None:
        self._estimator, self._plan, self._samples, self._data = estimator, plan, samples, data
        self._network: MLP = estimator.network_

    # --- by batches ---------------------------------------------------------------------

    def learn(self, seed: int, held_out: list[Any] | None, is_partial: bool) -> None:
        """Learn by batches until that is done; `is_partial` learns every sample once.

        With X, codes and weights `held_out`, the weights are kept where these are answered best.
        """
        to, plan, network = self._estimator, self._plan, self._network
        training, settings = self._training(seed, is_partial)
        if held_out is None:
            to.best_loss_ = np.inf if to.best_loss_ is None else to.best_loss_
            to.validation_scores_ = to.best_validation_score_ = None
        elif to.validation_scores_ is None:
            to.best_loss_, to.validation_scores_, to.best_validation_score_ = None, [], -np.inf
        epochs = 1 if is_partial else training.course.epochs
        tasks = _Tasks(to, epochs, self._data, is_silent=is_partial)
        best: list[Any] = []
        to.n_iter_ = 0
        for _ in range(epochs):
            tasks.begin()
            try:
                report = next(r for r in training if isinstance(r, EpochReport))
            except KeyboardInterrupt:
                if not to.n_iter_:
                    raise
                training.undo_epoch()
                _warn(f"training was interrupted: the weights are those of epoch {to.n_iter_}")
                break
            self._note(report.train_loss, len(self._samples[1]))
            if self._is_best(held_out):
                best = [network.backend.xp.asarray(w, copy=True) for w in network.weights]
            is_done = self._is_done(settings, held_out is not None)
            if tasks.end() or is_done:
                break
        else:
            if not (is_partial or plan.follows_schedule):
                _warn(
                    f"max_iter={epochs}: training has not converged after so many epochs; raise"
                    " max_iter or tol",
                    ConvergenceWarning,
                )
        if not is_partial:
            self._warn_of_growth()
        if held_out is not None:
            network.set_weights(best)
        to._state = None if held_out is not None else self._memory(training)
        tasks.close()

    def _warn_of_growth(self) -> None:
        """Warn of a loss that ends far above what the training began with, and a guess has."""
        to = self._estimator
        first = to.loss_curve_[-to.n_iter_]
        if to.loss_ > _GROWTH * max(first, float(np.log(to.n_outputs_))):
            _warn(
                f"the loss grew from {first:.3g} to {to.loss_:.3g}: training has diverged; lower"
                f" learning_rate_init={self._plan.recipe.learning_rate:g}",
                ConvergenceWarning,
            )

    def _training(self, seed: int, is_partial: bool) -> tuple[Training, EstimatorSettings]:
        """Begin a training, or continue that of the last `partial_fit`."""
        to, plan, (X, codes, weights) = self._estimator, self._plan, self._samples
        n = len(codes)
        if to.batch_size != "auto" and plan.recipe.batch_size > n:
            _warn(f"batch_size={to.batch_size}: there are {n} samples, which are one batch")
        # as `fit` divides weights by their mean
        mean = 1.0 if weights is None else float(np.mean(weights)) or 1.0
        settings, state = plan.settings(plan.alpha(n) / mean), to._state
        changes: dict[str, Any] = {}
        if state is None:
            to._rate = settings.learning_rate
        else:
            own = dict(zip(self._network.names, self._network.get_weights(), strict=True))
            state = replace(state, arrays=state.arrays | own)
        if self._rate_follows:
            changes["learning_rate"] = lambda step: to._rate
        if is_partial:
            changes |= {"epochs": 1 if state is None else state.epoch, "steps": None}
        options = {"sample_weight": weights, "seed": seed, "state": state}
        return fit(self._network, X, codes, settings, **options, **changes), settings

    @property
    def _rate_follows(self) -> bool:
        """Return whether the learning rate follows from how the training goes."""
        is_sgd = self._plan.recipe.optimizer in ("sgd", "nesterov")
        return is_sgd and self._estimator.learning_rate != "constant"

    def _is_best(self, held_out: list[Any] | None) -> bool:
        """Count the epochs without improvement; return whether this one is the best on held-out."""
        to, is_best = self._estimator, False
        if held_out is None:
            has_improved = not to.loss_ > to.best_loss_ - to.tol
            to.best_loss_ = min(to.best_loss_, to.loss_)
        else:
            score, best = self._accuracy(*held_out), to.best_validation_score_
            has_improved, is_best = not score < best + to.tol, score > best
            to.best_validation_score_ = max(score, best)
        to._no_improvement = 0 if has_improved else to._no_improvement + 1
        return is_best

    def _accuracy(self, X: Any, codes: np.ndarray, weights: np.ndarray | None) -> float:
        """Return the accuracy on held-out samples, and take note of it."""
        right = self._network.backend.to_numpy(self._network.predict(X)) == codes
        score = float(np.average(right, weights=weights))
        self._estimator.validation_scores_.append(score)
        if self._estimator.verbose:
            print(f"Validation score: {score:f}")
        return score

    def _is_done(self, settings: EstimatorSettings, is_held_out: bool) -> bool:
        """Return whether training is to end after this epoch, and set the rate of the next."""
        to = self._estimator
        if self._rate_follows and to.learning_rate == "invscaling":
            to._rate = settings.learning_rate / (to.t_ + 1) ** to.power_t
        if self._plan.follows_schedule and not is_held_out:
            return False
        if to._no_improvement <= to.n_iter_no_change:
            return False
        is_adaptive = self._rate_follows and to.learning_rate == "adaptive"
        is_lower = is_adaptive and to._rate > _LEAST_RATE
        if is_lower:
            to._rate /= 5
            to._no_improvement = 0
        if to.verbose:
            what = "Validation score" if is_held_out else "Training loss"
            then = "Learning rate too small. Stopping." if is_adaptive else "Stopping."
            then = f"Setting learning rate to {to._rate:f}" if is_lower else then
            print(
                f"{what} did not improve more than tol={to.tol:f} for {to.n_iter_no_change}"
                f" consecutive epochs. {then}"
            )
        return not is_lower

    def _memory(self, training: Training) -> TrainingState | None:
        """Return what the next `partial_fit` needs besides the weights, if that is whole."""
        try:
            state = training.state()
        except RuntimeError:
            return None
        names = self._network.names
        return replace(state, arrays={n: a for n, a in state.arrays.items() if n not in names})

    # --- all samples at once ------------------------------------------------------------

    def minimize(self) -> None:
        """Learn all samples at once until that is done."""
        to, plan, (X, codes, weights) = self._estimator, self._plan, self._samples
        tasks = _Tasks(to, plan.recipe.max_iterations, self._data)
        evaluations, is_ended = count(1), False

        def look(report: IterationReport) -> None:
            nonlocal is_ended
            self._note(report.train_loss, 0)
            is_ended = tasks.end()
            if not is_ended and report.iteration < report.iterations:
                tasks.begin()

        to.n_iter_ = 0
        tasks.begin()
        found = minimize(
            self._network,
            X,
            codes,
            plan.recipe.optimizer,
            plan.recipe.max_iterations,
            look,
            sample_weight=weights,
            tolerance=None if plan.follows_schedule else to.tol,
            stop=lambda: is_ended or next(evaluations) >= to.max_fun,
        )
        to.loss_ = to.best_loss_ = found.train_loss
        tasks.close()
        if not (found.converged or is_ended or plan.follows_schedule):
            _warn(
                f"{to.solver} has not converged after {found.iterations} iterations and"
                f" {found.evaluations} evaluations ({found.message}); raise max_iter or max_fun, or"
                " scale X",
                ConvergenceWarning,
            )

    def _note(self, loss: float, learned: int) -> None:
        """Take note of an iteration, and print it."""
        to = self._estimator
        to.n_iter_ += 1
        to.t_ += learned
        to.loss_ = loss
        to.loss_curve_.append(loss)
        if to.verbose:
            print(f"Iteration {to.n_iter_}, loss = {loss:.8f}")


def _warn(text: str, category: type[Warning] = UserWarning) -> None:
    warnings.warn(text, category, stacklevel=_FRAMES)


class _Tasks:
    """Tells scikit-learn's callbacks when the fit and its iterations begin and end."""

    def __init__(
        self, estimator: Any, iterations: int, data: dict[str, Any], is_silent: bool = False
    ) -> None:
        self._estimator, self._data = estimator, data
        self._fit: Any = None
        self._iteration: Any = None
        # scikit-learn has callbacks from 1.9 on
        if hasattr(estimator, "_init_callback_context") and not is_silent:
            self._fit = estimator._init_callback_context(max_subtasks=iterations)
            self._fit.call_on_fit_task_begin(estimator=estimator, **data)

    def begin(self) -> None:
        """Begin an iteration."""
        if hasattr(self._estimator, "_skl_callbacks") and self._fit is not None:
            self._iteration = self._fit.subcontext(task_name="iteration")
            self._iteration.call_on_fit_task_begin(estimator=self._estimator, **self._data)

    def end(self) -> bool:
        """End an iteration that has begun; return whether a callback ends the training."""
        task, self._iteration = self._iteration, None
        return task is not None and self._call(task)

    def close(self) -> None:
        """End the fit."""
        self.end()
        if self._fit is not None:
            self._call(self._fit)

    def _call(self, task: Any) -> bool:
        estimator = self._estimator
        return task.call_on_fit_task_end(
            estimator=estimator,
            reconstruction_attributes=lambda: {"network_": deepcopy(estimator.network_)},
            **self._data,
        )

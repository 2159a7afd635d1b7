"""Full-batch training: the loss over all samples, handed to `scipy.optimize.minimize`.

The parameters are one vector of float64 on the host, "unrolled" as in Ng's course (*Machine
Learning*, 2011, programming exercise 4); their loss and its gradient are computed on the device,
in the model's dtype, in one pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import accumulate
from math import prod
from time import perf_counter
from typing import Any

import numpy as np

from ..network import MLP

METHODS = {"cg": "CG", "tnc": "TNC", "l-bfgs": "L-BFGS-B"}  # their names in scipy.optimize
# SciPy's own limits, lifted: iterations are counted here, alike for every method
_UNLIMITED = {"CG": ["maxiter"], "TNC": ["maxfun"], "L-BFGS-B": ["maxiter", "maxfun"]}


@dataclass(frozen=True)
class IterationReport:
    """The result of one iteration; the weights are those after it.

    Attributes
    ----------
    iteration, iterations : int
        The iteration that has ended, from 1, and how many there will be at most.
    evaluations : int
        How often loss and gradient have been computed so far.
    train_loss : float
        Over all samples, with the l2 penalty: what is being minimised.
    train_accuracy : float
        Fraction of the training samples that are answered correctly.
    test_accuracy, validation_accuracy : float or None
        Likewise of the test and the held-out samples; None without.
    seconds : float
        Wall time of the iteration with the device synchronised, the first one's with the upload.
        Compilation, accuracies and the time spent in `on_iteration` are not in it.
    evaluation_seconds, compile_seconds : float
        Spent on the accuracies, and on compiling before the first iteration.
    samples_per_second : float
        Training samples times evaluations in the iteration, over `seconds`.
    """

    iteration: int
    iterations: int
    evaluations: int
    train_loss: float
    train_accuracy: float
    test_accuracy: float | None
    validation_accuracy: float | None
    seconds: float
    evaluation_seconds: float
    compile_seconds: float
    samples_per_second: float


@dataclass(frozen=True)
class Minimum:
    """The result of a minimisation.

    Attributes
    ----------
    iterations, evaluations : int
    train_loss, train_accuracy : float
    test_accuracy, validation_accuracy : float or None
    seconds, evaluation_seconds, compile_seconds : float
        As in `IterationReport`, over the whole minimisation.
    message : str
        Why it ended; SciPy's words where the method ended itself.
    stopped : bool
        Whether `stop` ended it.
    """

    iterations: int
    evaluations: int
    train_loss: float
    train_accuracy: float
    test_accuracy: float | None
    validation_accuracy: float | None
    seconds: float
    evaluation_seconds: float
    compile_seconds: float
    message: str
    stopped: bool


class NotFinite(ArithmeticError):
    """The loss became NaN or infinite; the model holds the last good iteration's weights.

    Attributes
    ----------
    iteration : int
        Where, from 1.
    """

    def __init__(self, iteration: int) -> None:
        self.iteration = iteration
        super().__init__(
            f"the minimisation diverged in iteration {iteration}: the loss became NaN or infinite;"
            " try smaller initial weights or another l2"
        )


def check(model: MLP, method: str, max_iterations: int) -> None:
    """Raise ValueError unless `minimize` can train a model like this; the message says how else."""
    if method not in METHODS:
        raise ValueError(f"method={method!r} is unknown: expected {' or '.join(METHODS)}")
    if max_iterations < 1 or max_iterations % 1 != 0:
        raise ValueError(f"max_iterations={max_iterations}: expected a whole number, one or more")
    if model.spec.loss == "rashid" and len(model.sizes) > 2:
        raise ValueError(
            f"loss='rashid' is no gradient, and {method} needs one: take loss='squared_error', "
            "which is the gradient of the same loss"
        )


def minimize(
    model: MLP,
    x: Any,
    y: Any,
    method: str = "cg",
    max_iterations: int = 50,
    on_iteration: Callable[[IterationReport], object] | None = None,
    *,
    test: tuple[Any, Any] | None = None,
    validation: tuple[Any, Any] | None = None,
    stop: Callable[[], bool] | None = None,
) -> Minimum:
    """Train a network on all samples at once, by one of SciPy's minimisers.

    What is minimised is ``model.loss(x, y)``, penalty included, along ``model.gradients(x, y)``:
    exercise 4 of Ng's *Machine Learning* (2011), whose ``fmincg`` is a conjugate gradient method.

    Parameters
    ----------
    model : MLP
        Changed in place. Its units must start with different weights, as every `init` makes them:
        equal ones would stay equal.
    x : array, shape (n, fan_in)
        Host or device array of any real dtype, unscaled; uploaded once.
    y : array of int, shape (n,)
    method : {"cg", "tnc", "l-bfgs"}
        Conjugate gradients, truncated Newton, or BFGS with a limited memory.
    max_iterations : int
        As the method counts them. An iteration mostly evaluates loss and gradient once with
        "l-bfgs" and twice with "cg"; one of "tnc", which finds its direction by conjugate
        gradients of its own, does so 4 to 50 times.
    on_iteration : callable, optional
        Called with an `IterationReport` after every iteration. The model's weights are then those
        after it; reading or saving them changes no number that follows.
    test, validation : tuple of (x, y), optional
        Evaluated after each iteration; nothing is chosen by them here.
    stop : callable, optional
        Called before every evaluation except the first; true ends the minimisation. The weights are
        then those after the last whole iteration.

    Returns
    -------
    Minimum

    Raises
    ------
    ValueError
        If an argument is out of range, the samples do not fit the network, the loss is ``rashid``,
        which has no gradient, or the loss of the initial weights is not finite.
    NotFinite
        If the loss after an iteration is NaN or infinite.
    """
    check(model, method, max_iterations)
    minimization = _Minimization(model, x, y, on_iteration, test, validation, stop)
    return minimization.run(METHODS[method], int(max_iterations))


class _End(Exception):
    """Ends SciPy's loop from within; its arguments are the reason, and whether `stop` asked."""


@dataclass
class _Spent:
    """Time and evaluations that a minimisation has used so far."""

    seconds: float = 0.0
    evaluation_seconds: float = 0.0
    compile_seconds: float = 0.0
    evaluations: int = 0


class _Minimization:
    """The samples of one call of `minimize`, on the device, and its progress."""

    def __init__(
        self,
        model: MLP,
        x: Any,
        y: Any,
        on_iteration: Callable[[IterationReport], object] | None,
        test: tuple[Any, Any] | None,
        validation: tuple[Any, Any] | None,
        stop: Callable[[], bool] | None,
    ) -> None:
        self._model = model
        self._on_iteration = on_iteration
        self._stop = stop
        self._spent, self._reported = _Spent(), _Spent()
        self._lap_started = perf_counter()
        self._parts = {"train": self._held("", x, y)}
        model.backend.synchronize()
        self._spent.seconds += self._lap()
        for name, part in (("test", test), ("validation", validation)):
            if part is not None:
                self._parts[name] = self._held(f"{name} ", *part)
        self._iterations = 0
        self._vector = np.concatenate([w.astype(np.float64).ravel() for w in model.get_weights()])
        self._loss = math.nan
        self._computed = self._vector, self._loss  # the last evaluation's, wherever it was

    def _held(self, name: str, x: Any, y: Any) -> tuple[Any, Any]:
        values = self._model.samples(x, f"{name}x")
        if not values.shape[0]:
            raise ValueError(f"{name}x has no samples: expected at least one")
        return values, self._model.labels(y, values.shape[0], f"{name}y")

    def _lap(self) -> float:
        """Return the seconds since the last call."""
        before, self._lap_started = self._lap_started, perf_counter()
        return self._lap_started - before

    def run(self, method: str, max_iterations: int) -> Minimum:
        """Minimise by one of SciPy's methods."""
        from scipy.optimize import minimize as minimize_by

        self._max_iterations = max_iterations
        x, y = self._parts["train"]
        self._model.loss_and_gradients(x[:1, :], y[:1])  # compiles what it needs
        self._spent.compile_seconds += self._lap()
        self._accuracies = self._evaluate()
        try:
            with self._model.backend.numpy_between(self._model.spec):
                result = minimize_by(
                    self._loss_and_gradient,
                    self._vector,
                    jac=True,
                    method=method,
                    callback=self._end_iteration,
                    options=self._options(method),
                )
            message, stopped = str(result.message), False
        except _End as end:
            message, stopped = end.args
        finally:
            self._set_weights(self._vector)
        self._spent.seconds += self._lap()
        return Minimum(
            iterations=self._iterations,
            evaluations=self._spent.evaluations,
            train_loss=self._loss,
            train_accuracy=self._accuracies["train"],
            test_accuracy=self._accuracies.get("test"),
            validation_accuracy=self._accuracies.get("validation"),
            seconds=self._spent.seconds,
            evaluation_seconds=self._spent.evaluation_seconds,
            compile_seconds=self._spent.compile_seconds,
            message=message,
            stopped=stopped,
        )

    def _options(self, method: str) -> dict[str, float]:
        options: dict[str, float] = dict.fromkeys(_UNLIMITED[method], 2**31 - 1)
        if method == "TNC":
            # the step at which differences of gradients make a product with the Hessian
            options["accuracy"] = float(np.finfo(self._model.dtype).eps) ** 0.5
        return options

    def _set_weights(self, vector: np.ndarray) -> None:
        """Set the model's weights, in their own dtype, from the vector of all parameters."""
        shapes = self._model.spec.shapes
        parts = np.split(vector, list(accumulate(map(prod, shapes)))[:-1])
        self._model.set_weights([a.reshape(s) for a, s in zip(parts, shapes, strict=True)])

    def _loss_and_gradient(self, vector: np.ndarray) -> tuple[float, np.ndarray]:
        first = not self._spent.evaluations
        if not first and self._stop is not None and self._stop():
            raise _End("stopped", True)
        self._set_weights(vector)
        loss, gradients = self._model.loss_and_gradients(*self._parts["train"])
        if first:
            if not math.isfinite(loss):
                raise ValueError(f"the loss of the initial weights is {loss}: expected a number")
            self._loss = loss
        self._spent.evaluations += 1
        self._computed = vector.copy(), loss
        to_numpy = self._model.backend.to_numpy
        return loss, np.concatenate([to_numpy(g).astype(np.float64).ravel() for g in gradients])

    def _evaluate(self) -> dict[str, float]:
        accuracies = {name: self._model.accuracy(*part) for name, part in self._parts.items()}
        self._spent.evaluation_seconds += self._lap()
        return accuracies

    def _end_iteration(self, vector: np.ndarray) -> None:
        self._spent.seconds += self._lap()
        self._set_weights(vector)
        computed, loss = self._computed
        if not np.array_equal(computed, vector):  # a line search may take a point before its last
            loss = self._model.loss(*self._parts["train"])
        if not math.isfinite(loss):
            raise NotFinite(self._iterations + 1)
        self._iterations += 1
        self._vector, self._loss = vector.copy(), loss
        self._accuracies = self._evaluate()
        if self._on_iteration is not None:
            self._on_iteration(self._report())
        if self._iterations == self._max_iterations:
            raise _End("the iterations asked for are done", False)
        self._lap()

    def _report(self) -> IterationReport:
        before, now = self._reported, self._spent
        self._reported = replace(now)
        seconds = now.seconds - before.seconds
        samples = (now.evaluations - before.evaluations) * self._parts["train"][0].shape[0]
        return IterationReport(
            iteration=self._iterations,
            iterations=self._max_iterations,
            evaluations=now.evaluations,
            train_loss=self._loss,
            train_accuracy=self._accuracies["train"],
            test_accuracy=self._accuracies.get("test"),
            validation_accuracy=self._accuracies.get("validation"),
            seconds=seconds,
            evaluation_seconds=now.evaluation_seconds - before.evaluation_seconds,
            compile_seconds=now.compile_seconds - before.compile_seconds,
            samples_per_second=samples / max(seconds, 1e-9),  # 0 on a coarse clock
        )

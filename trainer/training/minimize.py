"""Full-batch training: the loss over all samples, handed to `scipy.optimize.minimize`.

The parameters are one vector of float64 on the host, "unrolled" as in Ng's course (*Machine
Learning*, 2011, programming exercise 4); their loss and its gradient are computed on the device,
in the model's dtype, in one pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import accumulate
from math import prod
from typing import Any

import numpy as np

from ..network import MLP
from .stopwatch import Stopwatch

METHODS = {"cg": "CG", "tnc": "TNC", "l-bfgs": "L-BFGS-B"}  # their names in scipy.optimize
# SciPy's own limits, lifted: iterations are counted here, alike for every method
_UNLIMITED = {"CG": ["maxiter"], "TNC": ["maxfun"], "L-BFGS-B": ["maxiter", "maxfun"]}


@dataclass(frozen=True, kw_only=True)
class _Result:
    """What a report and the result of all iterations have in common; see `IterationReport`."""

    evaluations: int
    train_loss: float
    train_accuracy: float
    test_accuracy: float | None
    validation_accuracy: float | None
    seconds: float
    evaluation_seconds: float
    compile_seconds: float


@dataclass(frozen=True, kw_only=True)
class IterationReport(_Result):
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
    samples_per_second: float


@dataclass(frozen=True, kw_only=True)
class Minimum(_Result):
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
    converged : bool
        Whether the method itself ended it, at a minimum.
    stopped : bool
        Whether `stop` ended it.
    """

    iterations: int
    message: str
    converged: bool
    stopped: bool


class NotFinite(ArithmeticError):
    """The loss became NaN or infinite; the model holds the last good iteration's weights."""

    def __init__(self, iteration: int) -> None:
        self.iteration = iteration  # where, from 1
        super().__init__(
            f"the minimisation diverged in iteration {iteration}: the loss became NaN or infinite;"
            " try smaller initial weights or another l2"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.iteration,)


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
    sample_weight: Any = None,
    tolerance: float | None = None,
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
        Host or device array of any library and real dtype, unscaled; uploaded once. SciPy's
        sparse matrices and arrays are never dense as a whole.
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
    sample_weight : array, shape (n,), optional
        How much each training sample counts, 0 or more: the loss is then the weighted mean, see
        `MLP.loss`.
    tolerance : float, optional
        End where no component of the gradient is larger; SciPy's by default, which differ.
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
    clock = Stopwatch(model.backend.synchronize)
    parts = {"train": model.labelled(x, y)}
    clock.lap()
    for name, part in (("test", test), ("validation", validation)):
        if part is not None:
            parts[name] = model.labelled(*part, f"{name} ")
            model.check_finite(parts[name][0], f"{name} x")
    clock.lap("evaluation_seconds")
    if sample_weight is not None:
        sample_weight = model.sample_weights(sample_weight, parts["train"][1].shape[0])
    how = int(max_iterations), on_iteration, stop
    minimization = _Minimization(model, parts, sample_weight, clock, *how)
    return minimization.run(METHODS[method], tolerance)


class _End(Exception):
    """Ends SciPy's loop from within; its arguments are the reason, and whether `stop` asked."""


class _Minimization:
    """One call of `minimize`: its samples, on the device, and its progress."""

    def __init__(
        self,
        model: MLP,
        parts: dict[str, tuple[Any, Any]],
        sample_weight: Any,
        clock: Stopwatch,
        max_iterations: int,
        on_iteration: Callable[[IterationReport], object] | None,
        stop: Callable[[], bool] | None,
    ) -> None:
        self._model, self._parts, self._clock = model, parts, clock
        self._train = *parts["train"], sample_weight
        self._max_iterations, self._iterations, self._evaluations = max_iterations, 0, 0
        self._on_iteration, self._stop = on_iteration, stop
        self._vector = _joined(model.get_weights())
        self._loss = math.nan
        self._computed = self._vector, self._loss  # the last evaluation's, wherever it was
        self._reported = dict.fromkeys(clock.spent, 0.0), 0

    def run(self, method: str, tolerance: float | None) -> Minimum:
        """Minimise by one of SciPy's methods, down to gradients of some tolerance."""
        from scipy.optimize import minimize as minimize_by

        x, y = self._parts["train"]
        self._model.loss_and_gradients(x[:1, :], y[:1])  # compiles what it needs
        self._clock.lap("compile_seconds")
        self._evaluate()
        options: dict[str, float] = dict.fromkeys(_UNLIMITED[method], 2**31 - 1)
        if tolerance is not None:
            options["gtol"] = float(tolerance)
        if method == "TNC":
            # the step at which differences of gradients make a product with the Hessian
            options["accuracy"] = float(np.finfo(self._model.dtype).eps) ** 0.5
        try:
            with self._model.backend.numpy_between(self._model.spec):
                result = minimize_by(
                    self._loss_and_gradient,
                    self._vector,
                    jac=True,
                    method=method,
                    callback=self._end_iteration,
                    options=options,
                )
            message, converged, stopped = str(result.message), bool(result.success), False
        except _End as end:
            (message, stopped), converged = end.args, False
        finally:
            self._set_weights(self._vector)
        self._clock.lap()
        standing = self._standing(self._clock.spent)
        return Minimum(
            iterations=self._iterations,
            message=message,
            converged=converged,
            stopped=stopped,
            **standing,
        )

    def _set_weights(self, vector: np.ndarray) -> None:
        """Set the model's weights, in their own dtype, from the vector of all parameters."""
        shapes = self._model.spec.shapes
        parts = np.split(vector, list(accumulate(map(prod, shapes)))[:-1])
        self._model.set_weights([a.reshape(s) for a, s in zip(parts, shapes, strict=True)])

    def _loss_and_gradient(self, vector: np.ndarray) -> tuple[float, np.ndarray]:
        first = not self._evaluations
        if not first and self._stop is not None and self._stop():
            raise _End("stopped", True)
        self._set_weights(vector)
        loss, gradients = self._model.loss_and_gradients(*self._train)
        if first:
            if not math.isfinite(loss):
                raise ValueError(f"the loss of the initial weights is {loss}: expected a number")
            self._loss = loss
        self._evaluations += 1
        self._computed = vector.copy(), loss
        return loss, _joined(map(self._model.backend.to_numpy, gradients))

    def _evaluate(self) -> None:
        accuracy = {name: self._model.accuracy(*part) for name, part in self._parts.items()}
        self._accuracies = {
            f"{name}_accuracy": accuracy.get(name) for name in ("train", "test", "validation")
        }
        self._clock.lap("evaluation_seconds")

    def _standing(self, spent: dict[str, float]) -> dict[str, Any]:
        """Return the fields of `_Result`, with the seconds of one iteration or of all."""
        found = {"evaluations": self._evaluations, "train_loss": self._loss}
        return found | self._accuracies | spent

    def _end_iteration(self, vector: np.ndarray) -> None:
        self._clock.lap()
        self._set_weights(vector)
        computed, loss = self._computed
        if not np.array_equal(computed, vector):  # a line search may take a point before its last
            loss = self._model.loss(*self._train)
        if not math.isfinite(loss):
            raise NotFinite(self._iterations + 1)
        self._iterations += 1
        self._vector, self._loss = vector.copy(), loss
        self._evaluate()
        if self._on_iteration is not None:
            self._on_iteration(self._report())
        self._clock.resume()
        if self._iterations == self._max_iterations:
            raise _End("the iterations asked for are done", False)

    def _report(self) -> IterationReport:
        before, evaluations = self._reported
        self._reported = dict(self._clock.spent), self._evaluations
        spent = {kind: now - before[kind] for kind, now in self._clock.spent.items()}
        samples = (self._evaluations - evaluations) * self._parts["train"][1].shape[0]
        return IterationReport(
            iteration=self._iterations,
            iterations=self._max_iterations,
            samples_per_second=samples / max(spent["seconds"], 1e-9),  # 0 on a coarse clock
            **self._standing(spent),
        )


def _joined(arrays: Iterable[np.ndarray]) -> np.ndarray:
    """Return the vector of all parameters, or of their gradients."""
    return np.concatenate([a.astype(np.float64).ravel() for a in arrays])

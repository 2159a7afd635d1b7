"""The gradients of back-propagation against central differences, always in float64.

Nothing is shown here: `check` measures, `conclude` says what it means. The method is that of
``checkNNGradients`` in exercise 4 of Ng's *Machine Learning* (2011).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np

from backends.interchange import to_host
from backends.sharded import ShardedRows

from .data import Dataset
from .network import MLP
from .recipes import Recipe, unseen_data

TOLERANCE = 1e-6
SAMPLES, PARAMETERS, STEP = 8, 50, 1e-5

_DRAWN = 20  # random samples for each that is wanted: a kink costs some


@dataclass(frozen=True)
class ArrayCheck:
    """One array of weights, and how many of its numbers were varied."""

    name: str  # W1, b1, W2, …
    layer: int  # from 1
    shape: tuple[int, ...]
    checked: int
    difference: float  # ‖a - n‖ / max(‖a‖, ‖n‖), analytic gradient a and central differences n
    is_gradient: bool  # whether that is below `TOLERANCE`
    expected: bool  # whether it should be


@dataclass(frozen=True)
class GradientCheck:
    """Every array of a network, in the order of `MLP.get_weights`.

    All is as expected if each array is what it should be: a gradient, but for the hidden layers'
    with ``rashid``, whose rule is none there.
    """

    loss: str
    arrays: list[ArrayCheck]
    samples: int  # how many the loss was the mean of
    redrawn: int  # how many were passed over, because a step could have crossed a kink of relu
    step: float  # of the central differences
    as_expected: bool


def random_samples(recipe: Recipe, *, samples: int = SAMPLES, seed: int = 0) -> Dataset:
    """Draw random pixels and labels in the shape of the data that a recipe was made for."""
    data = unseen_data(recipe.data)
    rng = np.random.default_rng(seed)
    n = _DRAWN * samples
    ink, features = int(data.value_range[1]), data.train_x.shape[1]
    x = rng.integers(0, ink + 1, (n, features), dtype=np.uint8)
    y = rng.integers(0, len(data.classes), n)
    return replace(
        data,
        name=f"random samples in the shape of {recipe.data}",
        train_x=x,
        train_y=y,
        test_x=x,
        test_y=y,
        kind="random",
        source="random",
        note="",
    )


def check(
    model: MLP,
    x: Any,
    y: Any,
    *,
    samples: int = SAMPLES,
    parameters: int | None = PARAMETERS,
    step: float = STEP,
    seed: int | None = 0,
) -> GradientCheck:
    """Compare ``model.gradients`` with the slopes of ``model.loss``, number by number.

    The slope of a number w is (loss(w + h) - loss(w - h)) / 2h, exact but for terms of h² and for
    rounding of the order 10⁻¹⁶ / h. The model is left as it is: a copy in float64 is varied.

    Parameters
    ----------
    model : MLP
    x : array, shape (n, fan_in)
        Host array to draw samples from, unscaled.
    y : array of int, shape (n,)
    samples : int
        How many to draw. With relu only such as lie farther from every kink than a step can move
        them, since the slope across a kink is no derivative.
    parameters : int or None
        How many numbers of each array to vary, drawn at random; None is all.
    step : float
        h.
    seed : int or None
        Of both draws.

    Raises
    ------
    ValueError
        If an argument is out of range, too few samples are far enough from a kink, or a weight is
        so large that the step does not change it.
    """
    for name, value in (("samples", samples), ("parameters", parameters)):
        if value is not None and value < 1:
            raise ValueError(f"{name}={value}: expected a whole number, one or more")
    if not 0 < step < 1:
        raise ValueError(f"step={step}: expected a number between 0 and 1, such as {STEP:g}")
    settings = model.settings() | {"dtype": "float64"}
    model = MLP.of(model.arrays(), settings, backend=model.backend)
    rng = np.random.default_rng(seed)
    x = x if isinstance(x, ShardedRows) else to_host(x)
    x, y, redrawn = _draw(model, x, to_host(y), samples, step, rng)
    held = model.samples(x), model.labels(y, len(y))
    gradients = [model.backend.to_numpy(g) for g in model.gradients(*held)]
    per_layer = 2 if model.spec.bias else 1
    arrays = []
    for number, (w, gradient) in enumerate(zip(model.weights, gradients, strict=True)):
        layer = number // per_layer + 1
        size = prod(w.shape)
        varied = size if parameters is None else min(parameters, size)
        chosen = np.sort(rng.choice(size, varied, replace=False))
        places = [tuple(map(int, np.unravel_index(i, w.shape))) for i in chosen]
        numeric = np.array([_slope(model, w, place, step, held) for place in places])
        difference = _relative(gradient.ravel()[chosen], numeric)
        arrays.append(
            ArrayCheck(
                name=f"{'Wb'[number % per_layer]}{layer}",
                layer=layer,
                shape=w.shape,
                checked=varied,
                difference=difference,
                is_gradient=difference < TOLERANCE,
                expected=model.spec.loss != "rashid" or layer == len(model.sizes) - 1,
            )
        )
    return GradientCheck(
        loss=model.spec.loss,
        arrays=arrays,
        samples=samples,
        redrawn=redrawn,
        step=step,
        as_expected=all(a.is_gradient == a.expected for a in arrays),
    )


def conclude(result: GradientCheck) -> str:
    """Return in a sentence or two what a check has shown."""
    wrong = [a for a in result.arrays if a.is_gradient != a.expected]
    names = ", ".join(a.name for a in wrong)
    if any(a.expected for a in wrong):
        return (
            f"No gradient, though {result.loss} should be one: {names} wrongly, by up to"
            f" {max(a.difference for a in wrong):.1e}; less than {TOLERANCE:g} is expected"
        )
    if wrong:
        return f"A gradient, though {result.loss} should be none in the hidden layers: {names}"
    worst = max((a for a in result.arrays if a.expected), key=lambda a: a.difference)
    within = f"no more than {worst.difference:.1e} off, in {worst.name}"
    hidden = [a for a in result.arrays if not a.expected]
    if not hidden:
        why = "is without a hidden layer" if result.loss == "rashid" else "should be"
        return f"A gradient, as {result.loss} {why}: {within}"
    off = ", ".join(f"{a.name} is {100 * a.difference:.2g} % off" for a in hidden)
    return (
        f"No gradient, as expected of rashid: {off}. The rule splits the raw errors t - o among"
        " the hidden units, without the output's slope o(1 - o) that the chain rule puts there."
        f" The output layer's own update has it, and is a gradient: {within}. The gradient of the"
        " same loss is squared_error"
    )


def _draw(
    model: MLP, x: Any, y: np.ndarray, samples: int, step: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, int]:
    """Take samples at random, passing over those too near to a kink; count these."""
    kept: list[int] = []
    redrawn = 0
    order = rng.permutation(len(x))
    for start in range(0, len(order), samples):
        some = order[start : start + samples]
        near = _near_a_kink(model, x[some], step)
        for row, is_near in zip(some.tolist(), near.tolist(), strict=True):
            if is_near:
                redrawn += 1
            else:
                kept.append(row)
            if len(kept) == samples:
                return x[kept], y[kept], redrawn
    if not redrawn:
        raise ValueError(f"samples={samples}: there are only {len(x)}; take as many or fewer")
    raise ValueError(
        f"step={step:g} could move all but {len(kept)} of {len(x)} samples across a kink of relu,"
        f" and samples={samples} are wanted: take a smaller step, fewer samples, or"
        " activation='gelu'"
    )


def _near_a_kink(model: MLP, x: np.ndarray, step: float) -> np.ndarray:
    """Tell which samples a step of any one number could carry across a kink of relu.

    A step in layer l moves its z by h · max(|a|, 1 for a bias) at most, and what moves the z of a
    layer by m moves the next one's by no more than m times the largest Σ|W| into one of its units.
    """
    backend, spec = model.backend, model.spec
    xp = backend.xp
    near = np.zeros(len(x), bool)
    if spec.activation != "relu":
        return near
    values = model.samples(x)
    a = backend.inputs(spec, values)
    moved = xp.zeros(len(x), dtype=spec.dtype)
    layers = spec.layers(model.weights)
    for W, b in layers[:-1]:
        largest = xp.max(xp.abs(a), axis=1)
        if b is not None:
            largest = xp.maximum(largest, xp.ones_like(largest))
        moved = xp.maximum(step * largest, moved * xp.max(xp.sum(xp.abs(W), axis=0)))
        z = backend.affine(a, W, b)
        near |= backend.to_numpy(xp.min(xp.abs(z), axis=1) < moved)
        a = backend.activate(spec.activation, z)
    return near


def _slope(
    model: MLP, w: Any, place: tuple[int, ...], step: float, samples: tuple[Any, Any]
) -> float:
    """Central difference of the loss by one number of an array of the model's weights."""
    there = float(w[place])
    w[place] = there + step
    above, loss_above = float(w[place]), model.loss(*samples)
    w[place] = there - step
    below, loss_below = float(w[place]), model.loss(*samples)
    w[place] = there
    if above == below:
        raise ValueError(f"step={step:g} is lost beside a weight of {there:g}: too large to check")
    return (loss_above - loss_below) / (above - below)


def _relative(analytic: np.ndarray, numeric: np.ndarray) -> float:
    """‖a - n‖ / max(‖a‖, ‖n‖), 0 where both are 0."""
    largest = max(np.linalg.norm(analytic), np.linalg.norm(numeric))
    return float(np.linalg.norm(analytic - numeric) / largest) if largest else 0.0

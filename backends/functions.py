"""Activations, outputs and losses by name: value, derivative and output error.

A unit adds up its weighted inputs to a sum z and answers a = f(z), f being its activation. Of the
output layer, z are the logits and a the outputs, which a loss compares with the targets.

Everything is written in calls of the Python array API standard on the namespace `xp` that is
handed in, which is NumPy or, on a GPU, CuPy; it works on arrays of any leading shape whose last
axis holds the units. These are the definitions; a backend may only be faster at them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Array = Any


@dataclass(frozen=True)
class Activation:
    """A hidden layer's function and its derivative.

    A new activation is an entry in `ACTIVATIONS`; a network whose activation has no kernel
    (`kernels.codes`) is learned by `base.py`.

    Attributes
    ----------
    value : callable
        ``value(xp, z)``, the activation a = f(z) of the sums z.
    derivative : callable
        ``derivative(xp, a)``, f'(z) written in a = f(z), as the sigmoid's is a (1 - a); or
        ``derivative(xp, z)``, see `needs_z`.
    needs_z : bool
        Whether the derivative is written in z, since a does not determine it. Then each layer's z
        is kept for the way back, in addition to a.
    inverse : callable, optional
        For `trainer.explain.backquery` only: ``inverse(xp, signal)`` of a signal, shape (n, units),
        that it brought back to the layer: the signal rescaled to outputs a that the layer can
        have, and the sums z with f(z) = a. Without it the network cannot be run backwards.
    """

    value: Callable[[Any, Array], Array]
    derivative: Callable[[Any, Array], Array]
    needs_z: bool = False
    inverse: Callable[[Any, Array], tuple[Array, Array]] | None = None


def sigmoid(xp: Any, z: Array) -> Array:
    """Return 1 / (1 + e^-z); for z < 0 it is e^z / (1 + e^z), so that no e^-z overflows."""
    e = xp.exp(-xp.abs(z))
    return xp.where(z >= 0, xp.ones_like(e), e) / (1 + e)


def _relu(xp: Any, z: Array) -> Array:
    return xp.maximum(z, xp.zeros_like(z))


def _relu_slope(xp: Any, a: Array) -> Array:
    return xp.where(a > 0, xp.ones_like(a), xp.zeros_like(a))


SCALED_TANH_A, SCALED_TANH_B = 1.7159, 2 / 3


def scaled_tanh(xp: Any, z: Array) -> Array:
    """Return A tanh(Bz), A = 1.7159 and B = 2/3: ±1 become ±1, where it bends most.

    LeCun, Bottou, Orr and Müller, *Efficient BackProp* (1998), section 4.4, with 2/3 as printed
    there; Cireşan, Meier, Gambardella and Schmidhuber, *Deep, Big, Simple Neural Nets for
    Handwritten Digit Recognition* (2010), write B = 0.6666.
    """
    return SCALED_TANH_A * xp.tanh(SCALED_TANH_B * z)


def _scaled_tanh_slope(xp: Any, a: Array) -> Array:
    return SCALED_TANH_B / SCALED_TANH_A * (SCALED_TANH_A**2 - a * a)


GELU_SCALE, GELU_CUBE = (2 / math.pi) ** 0.5, 0.044715


def gelu(xp: Any, z: Array) -> Array:
    """Return z/2 (1 + tanh u) with u = √(2/π) (z + 0.044715 z³), which is z Φ(z) to within 5e-4.

    Hendrycks and Gimpel, *Gaussian Error Linear Units* (2016), section 2, who give this
    approximation beside the exact form; the normal distribution Φ itself needs erf, which the
    array API standard lacks.
    """
    return z / 2 * (1 + xp.tanh(_gelu_u(z)))


def _gelu_u(z: Array) -> Array:
    return GELU_SCALE * z * (1 + GELU_CUBE * z * z)


def _gelu_slope(xp: Any, z: Array) -> Array:
    # the product rule, with 1 - t² for the derivative of tanh and then that of u
    t = xp.tanh(_gelu_u(z))
    return (1 + t) / 2 + z / 2 * (1 - t * t) * GELU_SCALE * (1 + 3 * GELU_CUBE * z * z)


# --- outputs and losses -----------------------------------------------------------------


def softmax(xp: Any, z: Array) -> Array:
    """Return e^z / Σ e^z over the last axis, shifted by the largest z against overflow."""
    e = xp.exp(z - xp.max(z, axis=-1, keepdims=True))
    return e / xp.sum(e, axis=-1, keepdims=True)


OUTPUTS: dict[str, Callable[[Any, Array], Array]] = {"sigmoid": sigmoid, "softmax": softmax}


def _half_squares(xp: Any, logits: Array, outputs: Array, targets: Array) -> Array:
    """Return ½ Σ (t - o)²."""
    return xp.sum((targets - outputs) ** 2, axis=-1) / 2


def _binary_cross_entropy(xp: Any, logits: Array, outputs: Array, targets: Array) -> Array:
    """Return Σ -t log σ(z) - (1 - t) log(1 - σ(z)) = Σ log(1 + e^z) - t z, σ being the sigmoid."""
    # log(1 + e^z) without overflow; written in o, an output rounded to 0 or 1 would cost infinity
    softplus = _relu(xp, logits) + xp.log1p(xp.exp(-xp.abs(logits)))
    return xp.sum(softplus - targets * logits, axis=-1)


def _cross_entropy(xp: Any, logits: Array, outputs: Array, targets: Array) -> Array:
    """Return -Σ t log o of a softmax output o, which is Σ t (log Σ e^z - z)."""
    largest = xp.max(logits, axis=-1, keepdims=True)  # against overflow, as in `softmax`
    log_sum = largest + xp.log(xp.sum(xp.exp(logits - largest), axis=-1, keepdims=True))
    return xp.sum(targets * (log_sum - logits), axis=-1)


def _through_sigmoid(xp: Any, outputs: Array, targets: Array) -> Array:
    """Return (o - t) o (1 - o): the derivative of ½ (t - o)² by o, times the sigmoid's by z."""
    return (outputs - targets) * outputs * (1 - outputs)


def _difference(xp: Any, outputs: Array, targets: Array) -> Array:
    """Return o - t: the loss's derivative by o, (o - t) / (o (1 - o)), times the sigmoid's by z."""
    return outputs - targets


def _through_softmax(xp: Any, outputs: Array, targets: Array) -> Array:
    """Return o Σt - t, which is o - t where the targets sum to one."""
    return outputs * xp.sum(targets, axis=-1, keepdims=True) - targets


@dataclass(frozen=True)
class Loss:
    """A loss, the output it belongs to and the error it starts back-propagation with.

    Attributes
    ----------
    output : str
        The output function, a key of `OUTPUTS`.
    targets : tuple of float
        The targets (low, high) of a wrong class and of the right one, unless others are given.
    value : callable
        ``value(xp, logits, outputs, targets)``: the loss of every sample, shape (n,).
    delta : callable
        ``delta(xp, outputs, targets)``: δ = ∂loss/∂z of the output layer. It has the
        sign of o - t, and steps subtract it; the lessons write t - o and add.
    splits_raw_errors : bool
        True only for Rashid's rule, which is no gradient: what goes back through the weights is
        the error o - t itself, and the derivative enters only at each layer's own update
        (*Make Your Own Neural Network*, 2016, part 1, "Backpropagating errors").
    """

    output: str
    targets: tuple[float, float]
    value: Callable[[Any, Array, Array, Array], Array]
    delta: Callable[[Any, Array, Array], Array]
    splits_raw_errors: bool = False


LOSSES: dict[str, Loss] = {
    "rashid": Loss(
        "sigmoid", (0.01, 0.99), _half_squares, _through_sigmoid, splits_raw_errors=True
    ),
    "squared_error": Loss("sigmoid", (0.01, 0.99), _half_squares, _through_sigmoid),
    "binary_cross_entropy": Loss("sigmoid", (0.0, 1.0), _binary_cross_entropy, _difference),
    "cross_entropy": Loss("softmax", (0.0, 1.0), _cross_entropy, _through_softmax),
}


# --- inverses, which only `trainer.explain.backquery` needs -------------------------------

LOW, HIGH = 0.01, 0.99  # Rashid's, of targets and of a sigmoid's rescaled signal
_GELU_LOSS = 0.2  # z - gelu(z) is less for every z above 0
_HALVINGS = 60  # then a sum between 0 and 2 is known to its last bit


def logit(xp: Any, p: Array) -> Array:
    """Return log(p / (1 - p)), the inverse of the sigmoid."""
    return xp.log(p) - xp.log1p(-p)


def rescaled(xp: Any, signal: Array, low: float, high: float) -> Array:
    """Map each row's smallest value to low and its largest to high; shape (n, units)."""
    least = xp.min(signal, axis=1, keepdims=True)
    span = xp.max(signal, axis=1, keepdims=True) - least
    one = xp.ones_like(span)
    fraction = (signal - least) / xp.where(span > 0, span, one)
    return low + (high - low) * xp.where(span > 0, fraction, one / 2)


def _back_through_sigmoid(xp: Any, signal: Array) -> tuple[Array, Array]:
    outputs = rescaled(xp, signal, LOW, HIGH)
    return outputs, logit(xp, outputs)


def _back_through_tanh(xp: Any, signal: Array) -> tuple[Array, Array]:
    outputs = rescaled(xp, signal, -HIGH, HIGH)
    return outputs, xp.atanh(outputs)


def _back_through_scaled_tanh(xp: Any, signal: Array) -> tuple[Array, Array]:
    outputs, sums = _back_through_tanh(xp, signal)
    return SCALED_TANH_A * outputs, sums / SCALED_TANH_B


def _back_through_relu(xp: Any, signal: Array) -> tuple[Array, Array]:
    outputs = _relu(xp, signal)
    most = xp.max(outputs, axis=1, keepdims=True)
    outputs = outputs * (HIGH / xp.where(most > 0, most, xp.ones_like(most)))
    return outputs, outputs


def _back_through_gelu(xp: Any, signal: Array) -> tuple[Array, Array]:
    outputs, _ = _back_through_relu(xp, signal)
    low, high = outputs, outputs + _GELU_LOSS
    for _ in range(_HALVINGS):  # gelu rises where z > 0, so halving the interval finds z
        middle = (low + high) / 2
        above = gelu(xp, middle) > outputs
        low, high = xp.where(above, low, middle), xp.where(above, middle, high)
    return outputs, low


# --- the table of activations ---------------------------------------------------------------

ACTIVATIONS: dict[str, Activation] = {
    "sigmoid": Activation(sigmoid, lambda xp, a: a * (1 - a), inverse=_back_through_sigmoid),
    "tanh": Activation(
        lambda xp, z: xp.tanh(z), lambda xp, a: 1 - a * a, inverse=_back_through_tanh
    ),
    "relu": Activation(_relu, _relu_slope, inverse=_back_through_relu),
    "scaled_tanh": Activation(scaled_tanh, _scaled_tanh_slope, inverse=_back_through_scaled_tanh),
    "gelu": Activation(gelu, _gelu_slope, needs_z=True, inverse=_back_through_gelu),
}

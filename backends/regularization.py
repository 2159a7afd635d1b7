"""Dropout and batch normalisation: what training adds to a network's layers, behind one interface.

A `Hook` stands at one place of a network. `Backend.forward` passes a batch's numbers through it,
`Backend.backward` passes the error back through it, and neither knows what it does. A training has
one `Regularization`; of each batch it makes the hooks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, NamedTuple

from .functions import Array
from .noise import noise_key, philox
from .ranks import ALONE, Ranks

if TYPE_CHECKING:
    from .base import Backend, NetworkSpec
    from .feeding import Batches


class Hook:
    """What is done to the numbers of a batch at one place of a network, shape (n, units): here,
    nothing."""

    def forward(self, a: Array) -> Array:
        """Return what takes the place of a."""
        return a

    def backward(self, error: Array) -> Array:
        """Turn the error of what `forward` returned into the error of a."""
        return error


class Dropout(Hook):
    """Multiply by a mask, of `dropout_masks`; what is dropped has no part in the error."""

    def __init__(self, mask: Array) -> None:
        self._mask = mask

    def forward(self, a: Array) -> Array:
        return a * self._mask

    def backward(self, error: Array) -> Array:
        return error * self._mask


class Moments(NamedTuple):
    """Running mean and variance of a hidden layer's sums z, each of shape (units,)."""

    mean: Array
    variance: Array


class BatchNormalization(Hook):
    """Normalise a hidden layer's sums over a batch, z ↦ γ (z - mean) / √(variance + ε) + β.

    Ioffe and Szegedy 2015, *Batch Normalization*, algorithm 1, and the way back of its section 3.
    Mean and variance are the batch's, and move the running ones, the moments, by a tenth. γ and β,
    gain and shift, are learned; all have the shape (units,). After `backward`, `gain_gradient` and
    `shift_gradient` are what these samples add to their mean gradients over the batch. A part of
    a batch of `whole` samples has its moments from all ranks.
    """

    epsilon = 1e-5

    def __init__(
        self,
        xp: Any,
        gain: Array,
        shift: Array,
        moments: Moments,
        ranks: Ranks = ALONE,
        whole: int | None = None,
    ) -> None:
        self.xp, self.gain, self.shift, self.moments = xp, gain, shift, moments
        self._ranks, self._whole = ranks, whole

    def forward(self, a: Array) -> Array:
        xp, sum_up = self.xp, self._ranks.sum
        n = a.shape[0] if self._whole is None else self._whole
        mean = sum_up([xp.sum(a, axis=0)])[0] / n
        z = a - mean
        variance = sum_up([xp.sum(z * z, axis=0)])[0] / n
        self._scale = 1 / xp.sqrt(variance + self.epsilon)
        self._normal = z * self._scale
        if n > 1:  # a single sample has no variance
            for moment, now in zip(self.moments, (mean, variance * (n / (n - 1))), strict=True):
                moment += 0.1 * (now - moment)
        return self.gain * self._normal + self.shift

    def backward(self, error: Array) -> Array:
        n = error.shape[0] if self._whole is None else self._whole
        self.shift_gradient = self.xp.sum(error, axis=0) / n
        self.gain_gradient = self.xp.sum(error * self._normal, axis=0) / n
        shift, gain = self._ranks.sum([self.shift_gradient, self.gain_gradient])
        rest = error - shift - self._normal * gain
        return self.gain * self._scale * rest


class LayerHooks(NamedTuple):
    """The hooks of a hidden layer: on its sums z, and on its activations a = f(z)."""

    sums: Hook = Hook()
    activations: Hook = Hook()


PLAIN_LAYER = LayerHooks()


class BatchHooks:
    """The hooks of a network for one batch, and what they ask of its weights.

    With moments, of the hidden layers if they are normalised, the gain of each follows the weights
    W1, b1, W2, …; its bias is the shift. The masks are from `dropout_masks`, empty without dropout.
    Of a batch that several ranks learn, `whole` is how many samples all have.

    Attributes
    ----------
    layers : list of (W, b)
        The weights, with None for a bias that is a hook's.
    hidden : sequence of LayerHooks
        Of the hidden layers, or empty if there is nothing to do.
    """

    def __init__(
        self,
        xp: Any,
        spec: NetworkSpec,
        weights: Sequence[Array],
        masks: Sequence[Array | None] = (),
        moments: Sequence[Moments] = (),
        ranks: Ranks = ALONE,
        whole: int | None = None,
    ) -> None:
        plain = len(spec.shapes)
        self.layers = spec.layers(weights[:plain])
        self._norms = []
        for layer, (gain, of_layer) in enumerate(zip(weights[plain:], moments, strict=True)):
            W, shift = self.layers[layer]
            self._norms.append(BatchNormalization(xp, gain, shift, of_layer, ranks, whole))
            self.layers[layer] = W, None
        self._input_mask, *hidden_masks = masks or (None,)
        self.hidden = [
            LayerHooks(norm or Hook(), Hook() if mask is None else Dropout(mask))
            for norm, mask in zip_longest(self._norms, hidden_masks)
        ]

    def inputs(
        self, backend: Backend, spec: NetworkSpec, values: Array
    ) -> tuple[NetworkSpec, Array]:
        """Return the samples to learn, and the network with the input map that they take."""
        if self._input_mask is None:
            return spec, values
        one = backend.xp.asarray(1.0, dtype=spec.dtype)
        without_map = replace(spec, scale=one, shift=backend.xp.zeros_like(one))
        return without_map, backend.inputs(spec, values) * self._input_mask

    def gradients(self, gradients: list[Array]) -> list[Array]:
        """Add the hooks' own to the gradients of `layers`, in the order of the weights."""
        for layer, norm in enumerate(self._norms):
            gradients.insert(2 * layer + 1, norm.shift_gradient)
        return gradients + [norm.gain_gradient for norm in self._norms]


@dataclass(frozen=True, eq=False)
class Regularization:
    """The dropout and the batch normalisation of a training; true if there is any.

    Attributes
    ----------
    dropped : tuple of float
        Probabilities with which inputs and hidden units are dropped while a sample is learned.
    moments : sequence of Moments
        Of every hidden layer if the layers are batch-normalised, else empty; changed by training.
    """

    dropped: tuple[float, float] = (0.0, 0.0)
    moments: Sequence[Moments] = ()

    def __bool__(self) -> bool:
        return any(self.dropped) or bool(self.moments)

    def hooks(
        self, backend: Backend, spec: NetworkSpec, weights: Sequence[Array], batch: Batches
    ) -> BatchHooks:
        """Make the hooks of a batch, whose noise follows from its key."""
        masks = dropout_masks(backend.xp, spec, batch, self.dropped) if any(self.dropped) else ()
        ranks, whole = batch.share.ranks, batch.whole
        return BatchHooks(backend.xp, spec, weights, masks, self.moments, ranks, whole)


NO_REGULARIZATION = Regularization()


def dropout_masks(
    xp: Any, spec: NetworkSpec, batch: Batches, dropped: tuple[float, float]
) -> list[Array | None]:
    """Draw what a batch's inputs and hidden units are multiplied by while they are learned.

    0 with the probability that they are to be dropped, to 16 bits, else 1 / (1 - probability), so
    that their sums keep their mean and nothing is to be done when the network answers: dropout
    (Srivastava et al. 2014) in its inverted form. There is a mask for the inputs and for each
    hidden layer, None where the probability is 0.
    """
    key, n = noise_key(batch.key[:-1]), batch.labels.shape[0]

    def mask(layer: int, probability: float) -> Array | None:
        if not probability:
            return None
        drawn = philox(xp, key, batch.key[-1], layer, n, spec.sizes[layer], batch.share.first)
        return xp.astype(drawn >= int(probability * 65536), spec.dtype) / (1 - probability)

    of_inputs, of_hidden = dropped
    hidden = [mask(layer, of_hidden) for layer in range(1, len(spec.sizes) - 1)]
    return [mask(0, of_inputs), *hidden]


def new_normalization(xp: Any, spec: NetworkSpec) -> tuple[list[Array], list[Moments]]:
    """Make the gains, 1, and the running moments, 0 and 1, of every hidden layer."""
    gains = [xp.ones(units, dtype=spec.dtype) for units in spec.sizes[1:-1]]
    return gains, [Moments(xp.zeros_like(gain), xp.ones_like(gain)) for gain in gains]


def fold_normalization(
    xp: Any, spec: NetworkSpec, weights: Sequence[Array], moments: Sequence[Moments]
) -> list[Array]:
    """Turn a batch-normalised network into one that answers alike and has W and b alone.

    With the running moments in the batch's place a normalisation is one more affine map, and
    goes into the weights: W γ / √(variance + ε) and β - γ mean / √(variance + ε).
    """
    plain = len(spec.shapes)
    result = list(weights[:plain])
    for layer, (gain, of_layer) in enumerate(zip(weights[plain:], moments, strict=True)):
        scale = gain / xp.sqrt(of_layer.variance + BatchNormalization.epsilon)
        result[2 * layer] = result[2 * layer] * scale
        result[2 * layer + 1] = result[2 * layer + 1] - scale * of_layer.mean
    return result

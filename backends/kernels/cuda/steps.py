"""Mini-batches on a GPU: a step's launches, captured once in a CUDA graph and replayed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ...base import NetworkSpec
from ...feeding import Batches, Rule, States
from ...functions import ACTIVATIONS, LOSSES, Array
from ...noise import noise_key
from ...regularization import Regularization
from ..codes import ACTIVATION_CODES, LOSS_CODES
from .launching import Kernels, captured, input_map
from .updates import STRIP, THREADS, TO_WEIGHTS, Updates

# the sizes of batches.cu
_CURSOR = 10
_WARPS = THREADS // 32
_FEATURES = 256  # of a sample, that a warp reads
# a graph is worth its making, a millisecond or so, from so many batches on
_WORTH_A_GRAPH = 3


class _Norm(NamedTuple):
    """A normalised layer's gain, running moments and spread, see `hidden` of batches.cu."""

    gain: Array | None = None
    mean: Array | None = None
    variance: Array | None = None
    spread: Array | None = None


class Forward:
    """The forward propagation of up to `rows` samples, with arrays for every layer.

    The kernels are `batches.cu` for the dtype of the values, and the weights C-contiguous. `acts`
    are the inputs, the hidden layers' activations and the logits, each of shape (rows, sizes[l]).
    """

    def __init__(
        self, kernels: Kernels, spec: NetworkSpec, weights: Sequence[Array], rows: int
    ) -> None:
        self._cupy, self._kernels, self._products = kernels.cupy, kernels, kernels.products
        self.spec, self.layers, self.rows = spec, spec.layers(weights), rows
        self.real = np.dtype(spec.dtype).type
        self.acts = self._arrays(spec.sizes)
        self._sums = self.acts  # where a layer's product goes
        self._norms = [_Norm()] * len(spec.sizes)
        self._dropped = [(0, self.real(1))] * len(spec.sizes)
        self._cursor = self._cupy.zeros(_CURSOR, np.int64)
        # of a step; none, as there is no array for its factors
        self._rule = TO_WEIGHTS, *map(self.real, (0, 0)), *map(np.float64, (0, 0, 0)), None

    def _arrays(self, widths: Sequence[int]) -> list[Array]:
        return [self._cupy.empty((self.rows, width), self.real) for width in widths]

    def outputs(self, values: Array) -> Array:
        """Return the outputs of as many samples as there are rows."""
        found = self._cupy.empty((self.rows, self.spec.sizes[-1]), self.real)
        if self.rows:
            self._products.bind()
            self._begin(values)
            self.forward(self.rows)
            self.answer(self.rows, found, None, None)
        return found

    def _begin(self, *samples: Array | None, steps: int = 0, key: tuple[int, ...] = (0,)) -> None:
        """Store where samples are: values, labels, rates, losses and factors, as far as given."""
        arrays = (*samples, *(None,) * (5 - len(samples)))
        numbers = np.int64(steps), np.uint64(noise_key(key[:-1])), np.int64(key[-1])
        self._kernels("begin", 1, 1, self._cursor, *arrays, *numbers)

    def forward(self, n: int) -> None:
        """Propagate the next n samples up to the last layer's product."""
        spec, features = self.spec, self.spec.sizes[0]
        samples = self._cursor, n, self.rows, features, *input_map(spec), *self._dropped[0]
        grid = -(-n * -(-features // _FEATURES) // _WARPS)
        self._kernels("inputs", grid, THREADS, *samples, self.acts[0], *self._rule)
        for layer, (W, b) in enumerate(self.layers, 1):
            self._products(self._sums[layer][:n], self.acts[layer - 1][:n], W)
            if layer < len(self.layers):
                arrays = b, self._sums[layer], self.acts[layer], *self._norms[layer]
                self._pass("hidden", n, layer, *arrays)

    def _pass(self, name: str, n: int, layer: int, *arrays: Any) -> None:
        """Launch a kernel on a hidden layer's numbers of n samples."""
        units = self.spec.sizes[layer]
        # sums over a batch stay in one thread block
        rows = 1 if self._norms[layer].gain is not None else min(-(-n // THREADS), 1 << 15)
        options = n, units, layer, ACTIVATION_CODES[self.spec.activation], *self._dropped[layer]
        grid = -(-units // STRIP), rows
        self._kernels(name, grid, THREADS, self._cursor, *options, *arrays)

    def answer(self, n: int, *results: Array | None) -> None:
        """Turn the last product into logits, and these into outputs, δ and the error to split."""
        spec = self.spec
        targets = map(self.real, (spec.target_low, spec.target_high))
        options = self._cursor, n, self.rows, spec.sizes[-1], LOSS_CODES[spec.loss], *targets
        arrays = self.layers[-1][1], self.acts[-1], *results
        self._kernels("answers", -(-n // _WARPS), THREADS, *options, *arrays)


class Steps(Forward):
    """Steps of any rule on batches of one size and penalty, with dropout and normalised layers.

    The products leave the gradients of the matrices, or where nothing comes between move the
    weights or the velocities at once; one launch, `update`, does what is left.
    """

    def __init__(
        self, kernels: Kernels, spec: NetworkSpec, states: States, batches: Batches, rule: Rule
    ) -> None:
        weights = states[0]
        super().__init__(kernels, spec, weights[: len(spec.shapes)], batches.size)
        raw = LOSSES[spec.loss].splits_raw_errors and len(self.layers) > 1
        self._deltas = self._arrays(spec.sizes[1:])
        self._errors = self._arrays(spec.sizes[1:]) if raw else self._deltas
        self._set_hooks(weights, batches.regularization)

        # a normalised layer's bias has its gradient from `split`
        of_biases = [
            None if norm.gain is not None else delta
            for norm, delta in zip(self._norms[1:], self._deltas, strict=True)
        ]
        self._updates = Updates(kernels, spec, states, batches, rule, of_biases)
        self._rule = self._updates.rule
        self._graph: Any = None
        self._launched = 0  # whole batches, in all calls
        self._capturable = kernels.products.capturable

    def _set_hooks(self, weights: Sequence[Array], regularization: Regularization) -> None:
        """Prepare dropout and normalised layers, and to keep sums where the way back asks."""
        spec, real = self.spec, self.real
        hidden = range(1, len(self.layers))
        moments, gains = regularization.moments, weights[len(spec.shapes) :]
        if moments or ACTIVATIONS[spec.activation].needs_z:
            kept = self._arrays(spec.sizes[1:-1])
            self._sums = [self.acts[0], *kept, self.acts[-1]]
        for layer, gain, of_layer in zip(hidden, gains, moments, strict=False):
            self._norms[layer] = _Norm(gain, *of_layer, self._cupy.empty(gain.shape, real))
        of_inputs, of_hidden = (
            (int(p * 65536), real(1) / real(1 - p)) for p in regularization.dropped
        )
        self._dropped = [of_inputs, *(of_hidden for _ in self.layers)]

    def learn(self, batches: Batches, steps: int = 0) -> Array:
        """Learn samples in order; `steps` have been made before. Returns the losses."""
        cupy, n = self._cupy, batches.values.shape[0]
        losses = cupy.empty(n, self.real)
        rates = cupy.asarray(batches.rates, dtype=self.real)
        self._products.bind()
        samples = batches.values, batches.labels, rates, losses, batches.factors(cupy)
        self._begin(*samples, steps=steps, key=batches.key)
        for left in range(n // self.rows, 0, -1):
            # the first is launched as it is: nothing may be loaded or set up in a capture
            worth = self._launched > 0 and self._launched + left > _WORTH_A_GRAPH
            if worth and self._graph is None and self._capturable:
                whole = partial(self._step, self.rows)
                self._graph = captured(cupy, whole, self._products.bind)
                self._capturable = self._graph is not None
                self._products.bind()
            if self._graph is None:
                self._step(self.rows)
                self._launched += 1
            else:
                self._graph.launch()
        if n % self.rows:
            self._step(n % self.rows)
        return losses

    def _step(self, n: int) -> None:
        self.forward(n)
        delta, error = self._deltas[-1], self._errors[-1]
        self.answer(n, None, delta, None if error is delta else error)
        updates = self._updates
        factors = {"alpha": updates.alpha, "beta": updates.beta}
        per_layer = 2 if self.spec.bias else 1
        for layer in reversed(range(len(self.layers))):
            at = layer * per_layer
            if layer:  # split the errors before the weights move
                error, W = self._errors[layer - 1], self.layers[layer][0]
                self._products(error[:n], self._errors[layer][:n], W, transpose_b=True)
            a, delta = self.acts[layer][:n], self._deltas[layer][:n]
            self._products(updates.targets[at], a, delta, transpose_a=True, **factors)
            if layer:
                self._split(n, layer)
        updates.launch(n)

    def _split(self, n: int, layer: int) -> None:
        """Turn the error split back to a hidden layer into its δ."""
        norm, error, delta = self._norms[layer], self._errors[layer - 1], self._deltas[layer - 1]
        sums = self.layers[layer - 1][1], self._sums[layer], self.acts[layer]
        gradients = None, None
        if norm.gain is not None:
            of_weights = self._updates.gradients
            gains = of_weights[len(self.spec.shapes) :]
            gradients = gains[layer - 1], of_weights[2 * layer - 1]
        arrays = *sums, int(error is not delta), error, delta, norm.gain, norm.spread, *gradients
        self._pass("split", n, layer, *arrays)

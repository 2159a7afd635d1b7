"""Mini-batches on a GPU: a step's launches, captured once in a CUDA graph and replayed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np

from ...base import NetworkSpec
from ...feeding import Batches, Rule, States
from ...functions import LOSSES, Array
from ..codes import ACTIVATION_CODES, LOSS_CODES
from .launching import Kernels, input_map

_SGD, _MOMENTUM, _ADAM = 0, 1, 2
_ALPHA, _BETA = slice(0, 1), slice(1, 2)  # of the factors, see batch_sgd.cu
_FACTORS = 6
_CURSOR = 7
_WARPS = 8
# a graph is worth its making, a millisecond or so, from so many batches on
_WORTH_A_GRAPH = 3


class Forward:
    """The forward propagation of up to `rows` samples, with arrays for every layer.

    The kernels are `batch_sgd.cu` for the dtype of the values, and the weights C-contiguous. `acts`
    are the inputs, the hidden layers' activations and the logits, each of shape (rows, sizes[l]).
    """

    def __init__(
        self, kernels: Kernels, spec: NetworkSpec, weights: Sequence[Array], rows: int
    ) -> None:
        self._cupy, self._kernels, self._products = kernels.cupy, kernels, kernels.products
        self.spec, self.layers, self.rows = spec, spec.layers(weights), rows
        self.real = np.dtype(spec.dtype).type
        self.acts = [self._cupy.empty((rows, width), self.real) for width in spec.sizes]
        self._cursor = self._cupy.zeros(_CURSOR, np.int64)
        self._set_rule(_SGD, Rule(), 0.0, None)

    def _set_rule(self, optimizer: int, rule: Rule, penalty: float, factors: Array) -> None:
        """Set what the factors of a step follow from; without an array of them there is none."""
        betas = map(np.float64, rule.betas or (0.0, 0.0))
        self._rule = optimizer, self.real(rule.momentum), self.real(penalty), *betas, factors

    def outputs(self, values: Array) -> Array:
        """Return the outputs of as many samples as there are rows."""
        found = self._cupy.empty((self.rows, self.spec.sizes[-1]), self.real)
        if self.rows:
            self._products.bind()
            self._kernels("begin", 1, 1, self._cursor, values, None, None, None, np.int64(0))
            self.forward(self.rows)
            self.answer(self.rows, found, None, None)
        return found

    def forward(self, n: int) -> None:
        """Propagate the next n samples up to the last layer's product."""
        spec = self.spec
        samples = self._cursor, n, self.rows, spec.sizes[0], *input_map(spec), self.acts[0]
        self._kernels.for_rows("inputs", n, *samples, *self._rule)
        activation = ACTIVATION_CODES[spec.activation]
        for layer, (W, b) in enumerate(self.layers):
            z = self.acts[layer + 1]
            self._products(z[:n], self.acts[layer][:n], W)
            if layer + 1 < len(self.layers):
                self._kernels.for_rows("hidden", n, spec.sizes[layer + 1], activation, b, z)

    def answer(self, n: int, *results: Array | None) -> None:
        """Turn the last product into logits, and these into outputs, δ and the error to split."""
        spec = self.spec
        targets = map(self.real, (spec.target_low, spec.target_high))
        options = self._cursor, n, spec.sizes[-1], LOSS_CODES[spec.loss], *targets
        arrays = self.layers[-1][1], self.acts[-1], *results
        self._kernels("answers", -(-n // _WARPS), 32 * _WARPS, *options, *arrays)


class Steps(Forward):
    """Steps of SGD, with or without momentum, or of Adam, on batches of one size and penalty."""

    def __init__(
        self, kernels: Kernels, spec: NetworkSpec, states: States, batches: Batches, rule: Rule
    ) -> None:
        super().__init__(kernels, spec, states[0], batches.size)
        cupy, self._states, self._penalty = self._cupy, states, batches.penalty
        if rule.betas:
            optimizer = _ADAM
            # a gradient is used up before the next is taken; zeros, as a factor of 0 on the device
            # need not keep cuBLAS from reading what it is multiplied by
            self._targets = _alternating(cupy.zeros, self.real, spec.shapes, 1)
        elif rule.momentum:
            optimizer, self._targets = _MOMENTUM, list(states[1])
        else:
            optimizer, self._targets = _SGD, list(states[0])
        self._factors = cupy.zeros(_FACTORS, self.real)
        self._set_rule(optimizer, rule, batches.penalty, self._factors)
        self._optimizer, self._decay = optimizer, rule.decay
        self._adam = *rule.betas, rule.epsilon
        self._raw = LOSSES[spec.loss].splits_raw_errors and len(self.layers) > 1
        # at a time there is an error that is split, the one that comes of it, and a single other δ
        shapes = [(self.rows, width) for width in spec.sizes[1:]]
        self._errors = _alternating(cupy.empty, self.real, shapes, 2)
        self._deltas = _alternating(cupy.empty, self.real, shapes, 1) if self._raw else self._errors
        self._graph: Any = None
        self._launched = 0  # whole batches, in all calls
        self._capturable = kernels.products.capturable

    def learn(self, batches: Batches, steps: int = 0) -> Array:
        """Learn samples in order; `steps` have been made before. Returns the losses."""
        cupy, n = self._cupy, batches.values.shape[0]
        losses = cupy.empty(n, self.real)
        rates = cupy.asarray(batches.rates, dtype=self.real)
        self._products.bind()
        samples = batches.values, batches.labels, rates, losses
        self._kernels("begin", 1, 1, self._cursor, *samples, np.int64(steps))
        for left in range(n // self.rows, 0, -1):
            # the first is launched as it is: nothing may be loaded or set up in a capture
            worth = self._launched > 0 and self._launched + left > _WORTH_A_GRAPH
            if worth and self._graph is None and self._capturable:
                self._capture()
            if self._graph is None:
                self._step(self.rows)
                self._launched += 1
            else:
                self._graph.launch()
        if n % self.rows:
            self._step(n % self.rows)
        return losses

    def _capture(self) -> None:
        cupy = self._cupy
        stream = cupy.cuda.Stream(non_blocking=True)
        try:
            with stream:
                self._products.bind()
                stream.begin_capture()
                try:
                    self._step(self.rows)
                finally:
                    self._graph = stream.end_capture()
        except (cupy.cuda.runtime.CUDARuntimeError, NotImplementedError, RuntimeError):
            self._graph, self._capturable = None, False  # then every step is launched as it is
        self._products.bind()

    def _step(self, n: int) -> None:
        self.forward(n)
        delta, error = self._deltas[-1], self._errors[-1]
        self.answer(n, None, delta, error if self._raw else None)
        per_layer = 2 if self.spec.bias else 1
        for layer in reversed(range(len(self.layers))):
            if layer:  # split the errors before the weights move
                error, W = self._errors[layer - 1], self.layers[layer][0]
                self._products(error[:n], self._errors[layer][:n], W, transpose_b=True)
            self._update(layer * per_layer, self.acts[layer][:n], self._deltas[layer][:n])
            if layer:
                activation = ACTIVATION_CODES[self.spec.activation]
                arrays = self.acts[layer], self._errors[layer - 1], self._deltas[layer - 1]
                self._kernels.for_each("split", n * self.spec.sizes[layer], activation, *arrays)

    def _update(self, at: int, a: Array, delta: Array) -> None:
        """Change a layer's matrix, which is array number `at`, and its bias."""
        alpha, beta = self._factors[_ALPHA], self._factors[_BETA]
        self._products(self._targets[at], a, delta, transpose_a=True, alpha=alpha, beta=beta)
        self._move(at, self._penalty, self._decay)
        if self.spec.bias:
            n, units = delta.shape
            arguments = n, units, delta, self._factors, self._targets[at + 1]
            self._kernels("column_sums", -(-units // 32), (32, 8), *arguments)
            self._move(at + 1, 0.0, 0.0)

    def _move(self, at: int, penalty: float, decay: float) -> None:
        real, target = self.real, self._targets[at]
        w, *memory = (state[at] for state in self._states)
        if self._optimizer == _MOMENTUM:
            arrays = self._factors, w, target
            self._kernels.for_each("velocity_step", w.size, real(penalty), *arrays)
        elif self._optimizer == _ADAM:
            numbers = map(real, (penalty, decay, *self._adam))
            arrays = self._factors, target, w, *memory
            self._kernels.for_each("adam_step", w.size, *numbers, *arrays)


def _alternating(
    make: Callable[..., Array], real: Any, shapes: Sequence[tuple[int, ...]], count: int
) -> list[Array]:
    """Make arrays in `count` buffers; those whose numbers differ by `count` share one."""
    sizes = [prod(shape) for shape in shapes]
    buffers = [make(max(sizes[first::count], default=0), real) for first in range(count)]
    return [
        buffers[i % count][:size].reshape(shape)
        for i, (size, shape) in enumerate(zip(sizes, shapes, strict=True))
    ]

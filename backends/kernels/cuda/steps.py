"""Mini-batches on a GPU: a step's launches, captured once in a CUDA graph and replayed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np

from ...base import NetworkSpec
from ...feeding import Batches
from ...functions import LOSSES, Array
from ..codes import ACTIVATION_CODES, LOSS_CODES
from .cublas import Products
from .launching import Kernels, input_map

SGD, MOMENTUM, ADAM = 0, 1, 2
_ALPHA, _BETA = slice(0, 1), slice(1, 2)  # of the factors, see batch_sgd.cu
_FACTORS = 6
_CURSOR = 7
_WARPS = 8
# a graph is worth its making, a millisecond or so, from so many batches on
_WORTH_A_GRAPH = 3


class Forward:
    """The forward propagation of up to `rows` samples, with arrays for every layer.

    Parameters
    ----------
    cupy : module
    kernels : Kernels
        `batch_sgd.cu`, compiled for the dtype of the values.
    products : Products
    spec : NetworkSpec
    weights : sequence of C-contiguous arrays
    rows : int

    Attributes
    ----------
    acts : list of arrays, shape (rows, sizes[l])
        The inputs, the hidden layers' activations, and the logits.
    outputs : array, shape (rows, classes) or None
    """

    def __init__(
        self,
        cupy: Any,
        kernels: Kernels,
        products: Products,
        spec: NetworkSpec,
        weights: Sequence[Array],
        rows: int,
    ) -> None:
        self._kernels, self._products = kernels, products
        self.spec, self.layers = spec, spec.layers(weights)
        self.rows = rows
        self.real = np.dtype(spec.dtype).type
        self.acts = [cupy.empty((rows, width), self.real) for width in spec.sizes]
        self.outputs = None
        self.cursor = cupy.zeros(_CURSOR, np.int64)
        self._input_options: tuple[Any, ...] = (SGD, self.real(0), self.real(0))
        self._betas: tuple[float, float] = (0.0, 0.0)
        self.factors: Array = None

    def begin(
        self,
        values: Array,
        labels: Any = None,
        rates: Any = None,
        losses: Any = None,
        steps: int = 0,
    ) -> None:
        """Store on the device where the next samples are."""
        self._kernels("begin", 1, 1, self.cursor, values, labels, rates, losses, np.int64(steps))

    def forward(self, n: int) -> None:
        """Propagate the next n samples up to the last layer's product."""
        self._kernels.for_rows(
            "inputs",
            n,
            self.cursor,
            n,
            self.rows,
            self.spec.sizes[0],
            *input_map(self.spec),
            self.acts[0],
            *self._input_options,
            *map(np.float64, self._betas),
            self.factors,
        )
        for layer, (W, b) in enumerate(self.layers):
            self._products(self.acts[layer + 1][:n], self.acts[layer][:n], W)
            if layer + 1 < len(self.layers):
                self._kernels.for_rows(
                    "hidden",
                    n,
                    self.spec.sizes[layer + 1],
                    ACTIVATION_CODES[self.spec.activation],
                    b,
                    self.acts[layer + 1],
                )

    def answer(self, n: int, delta: Array | None = None, carried: Array | None = None) -> None:
        """Turn the last product into logits, and these into outputs or errors."""
        spec = self.spec
        self._kernels(
            "answers",
            -(-n // _WARPS),
            32 * _WARPS,
            self.cursor,
            n,
            spec.sizes[-1],
            LOSS_CODES[spec.loss],
            self.real(spec.target_low),
            self.real(spec.target_high),
            self.layers[-1][1],
            self.acts[-1],
            self.outputs,
            delta,
            carried,
        )


class Steps(Forward):
    """Steps of SGD, with or without momentum, or of Adam, on batches of up to `rows` samples.

    Parameters
    ----------
    penalty : float
    optimizer : {SGD, MOMENTUM, ADAM}
    states : sequence of sequences of arrays
        The velocities, or the means and the squares, or none.
    momentum : float
    betas, epsilon, decay : float
        Adam's, and AdamW's of the matrices.

    The others are those of `Forward`.
    """

    def __init__(
        self,
        cupy: Any,
        kernels: Kernels,
        products: Products,
        spec: NetworkSpec,
        weights: Sequence[Array],
        rows: int,
        penalty: float,
        optimizer: int,
        states: Sequence[Sequence[Array]],
        momentum: float = 0.0,
        betas: tuple[float, float] = (0.0, 0.0),
        epsilon: float = 0.0,
        decay: float = 0.0,
    ) -> None:
        super().__init__(cupy, kernels, products, spec, weights, rows)
        self._cupy = cupy
        self._optimizer, self._states = optimizer, states
        self._input_options = (optimizer, self.real(momentum), self.real(penalty))
        self._betas, self._epsilon = betas, epsilon
        self._penalty, self._decay = penalty, decay
        self._weights = weights
        if optimizer == SGD:
            self._targets = weights
        elif optimizer == MOMENTUM:
            self._targets = states[0]
        else:
            # a gradient is used up before the next is taken; zeros, as a factor of 0 on the device
            # need not keep cuBLAS from reading what it is multiplied by
            self._targets = _alternating(cupy.zeros, self.real, spec.shapes, 1)
        self.factors = cupy.zeros(_FACTORS, self.real)
        self._raw = LOSSES[spec.loss].splits_raw_errors and len(self.layers) > 1
        # at a time there is an error that is split, the one that comes of it, and a single other δ
        shapes = [(rows, width) for width in spec.sizes[1:]]
        self._errors = _alternating(cupy.empty, self.real, shapes, 2)
        self._deltas = _alternating(cupy.empty, self.real, shapes, 1) if self._raw else self._errors
        self._graph: Any = None
        self._launched = 0  # whole batches, in all calls
        self._capturable = products.capturable

    def learn(self, batches: Batches, steps: int = 0) -> Array:
        """Learn samples in order; `steps` have been made before. Returns the losses."""
        cupy, n = self._cupy, batches.values.shape[0]
        losses = cupy.empty(n, self.real)
        rates = cupy.asarray(batches.rates, dtype=self.real)
        self._products.bind()
        self.begin(batches.values, batches.labels, rates, losses, steps)
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
        self.answer(n, delta, error if self._raw else None)
        per_layer = 2 if self.spec.bias else 1
        for layer in reversed(range(len(self.layers))):
            if layer:  # split the errors before the weights move
                error, W = self._errors[layer - 1], self.layers[layer][0]
                self._products(error[:n], self._errors[layer][:n], W, transpose_b=True)
            self._update(layer * per_layer, self.acts[layer][:n], self._deltas[layer][:n])
            if layer:
                self._kernels.for_each(
                    "split",
                    n * self.spec.sizes[layer],
                    ACTIVATION_CODES[self.spec.activation],
                    self.acts[layer],
                    self._errors[layer - 1],
                    self._deltas[layer - 1],
                )

    def _update(self, at: int, a: Array, delta: Array) -> None:
        """Change a layer's matrix, which is array number `at`, and its bias."""
        alpha, beta = self.factors[_ALPHA], self.factors[_BETA]
        self._products(self._targets[at], a, delta, transpose_a=True, alpha=alpha, beta=beta)
        self._move(at, self._penalty, self._decay)
        if self.spec.bias:
            n, units = delta.shape
            target = self._targets[at + 1]
            self._kernels(
                "column_sums", -(-units // 32), (32, 8), n, units, delta, self.factors, target
            )
            self._move(at + 1, 0.0, 0.0)

    def _move(self, at: int, penalty: float, decay: float) -> None:
        real, w = self.real, self._weights[at]
        if self._optimizer == MOMENTUM:
            self._kernels.for_each(
                "velocity_step", w.size, real(penalty), self.factors, w, self._targets[at]
            )
        elif self._optimizer == ADAM:
            means, squares = self._states
            self._kernels.for_each(
                "adam_step",
                w.size,
                *map(real, (penalty, decay, *self._betas, self._epsilon)),
                self.factors,
                self._targets[at],
                w,
                means[at],
                squares[at],
            )


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

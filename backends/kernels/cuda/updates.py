"""What a step on a GPU does to the weights: by the products themselves, and by one launch after."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import inf
from typing import Any

import numpy as np

from ...base import NetworkSpec
from ...feeding import Batches, Rule, States
from ...functions import Array
from .launching import Kernels

# the codes, sizes and numbers of updates.cuh and of `inputs` of batches.cu
TO_WEIGHTS, _TO_VELOCITIES, _TO_GRADIENTS = range(3)
_SGD, _MOMENTUM, _NESTEROV, _ADAM, _ADAM_SCALED = range(5)
_ALPHA, _BETA = slice(0, 1), slice(1, 2)
_FACTORS = 6
_PART = 9  # numbers
STRIP, THREADS, _ITEM = 8, 256, 1024
_SUMS, _BLOCKS = 1024, 4096  # thread blocks of `squares` and of `update` at most


class Updates:
    """The step of a rule, with all arrays that it changes.

    Attributes
    ----------
    targets, gradients : list of arrays or None
        In the order of the weights: what the product of a matrix's gradient goes to, and where
        gradients are left. These are only kept where something comes between a gradient and its
        step; else the product moves the matrix, or its velocity, at once.
    alpha, beta : array of one number
        What that product is multiplied by, and its target before.
    rule : tuple
        What the kernel `inputs` sets the factors of a step from.
    """

    def __init__(
        self,
        kernels: Kernels,
        spec: NetworkSpec,
        states: States,
        batches: Batches,
        rule: Rule,
        deltas: Sequence[Array | None],
    ) -> None:
        """`deltas` are those of each layer whose bias has their mean for its gradient."""
        zeros, real = kernels.cupy.zeros, np.dtype(spec.dtype).type
        weights, target = states[0], _TO_GRADIENTS
        if rule.clip == inf and not rule.nesterov and not rule.betas:
            target = _TO_VELOCITIES if rule.momentum else TO_WEIGHTS
        # zeros, as a factor of 0 on the device need not keep cuBLAS from reading what it multiplies
        self.gradients = [
            zeros(w.shape, real) if w.ndim == 1 or target == _TO_GRADIENTS else None
            for w in weights
        ]
        moved = states[1] if rule.momentum else weights
        self.targets = self.gradients if target == _TO_GRADIENTS else moved
        factors = zeros(_FACTORS, real)
        self.alpha, self.beta = factors[_ALPHA], factors[_BETA]
        betas, penalty = rule.betas or (0.0, 0.0), batches.penalty
        in_double = map(np.float64, (*betas, rule.averaging))
        self.rule = target, real(rule.momentum), real(penalty), *in_double, factors

        optimizer = _NESTEROV if rule.nesterov else _MOMENTUM if rule.momentum else _SGD
        numbers = map(real, (rule.momentum, penalty, rule.decay, *betas, rule.epsilon))
        if rule.betas:
            optimizer = _ADAM_SCALED if rule.scales_epsilon else _ADAM
        self._rule = optimizer, *numbers
        self._squares = zeros(_SUMS, real) if rule.clip < inf else None
        self._clip = real(rule.clip), factors
        self._kernels = kernels
        parts = list(self._list_parts(spec, states, batches, rule, deltas))
        # each begins where the one before it ends; an empty one ends the table
        firsts = np.cumsum([0, *(items for items, *_ in parts)])
        rows = [*(part for _, *part in parts), [0] * (_PART - 1)]
        self._items = int(firsts[-1])
        table = np.column_stack([firsts, np.array(rows, np.int64)])
        self._parts = kernels.cupy.asarray(table)

    def _list_parts(
        self,
        spec: NetworkSpec,
        states: States,
        batches: Batches,
        rule: Rule,
        deltas: Sequence[Array | None],
    ) -> Iterator[tuple[int, ...]]:
        """List the arrays that `update` changes: how many items each has, and then its `Part`."""
        weights, *memory = states
        nothing: list[Any] = [None] * len(weights)
        averages = memory.pop() if rule.averaging else nothing
        speeds, squares = [*memory, nothing, nothing][:2]
        of_biases = list(nothing)
        if spec.bias:
            of_biases[1 : len(spec.shapes) : 2] = deltas
        for at, w in enumerate(weights):
            arrays = w, self.gradients[at], speeds[at], squares[at], averages[at], of_biases[at]
            if any(a is not None for a in arrays[1:]):
                size = _ITEM if of_biases[at] is None else STRIP
                yield -(-w.size // size), w.size, *map(_pointer, arrays), w.ndim == 2
        moments = [a for pair in batches.regularization.moments for a in pair]
        for moment, average in zip(moments, averages[len(weights) :], strict=False):
            arrays = moment, None, None, None, average, None
            yield -(-moment.size // _ITEM), moment.size, *map(_pointer, arrays), False

    def launch(self, n: int) -> None:
        """Step after the products of a batch of n samples."""
        if not self._items:
            return
        work = self._parts, self._items, n, *self._rule
        blocks = min(self._items, _SUMS)
        if self._squares is not None:
            self._kernels("squares", blocks, THREADS, *work, self._squares)
        clip = self._squares, blocks, *self._clip
        self._kernels("update", min(self._items, _BLOCKS), THREADS, *work, *clip)


def _pointer(a: Array | None) -> int:
    return 0 if a is None else a.data.ptr

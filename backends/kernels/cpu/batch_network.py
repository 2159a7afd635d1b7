"""A network in the layout of `batches`, and all that kernel needs to learn with it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from ...base import NetworkSpec
from ...feeding import Batches, Rule, States
from ...functions import ACTIVATIONS, LOSSES, Array
from ...noise import noise_key
from ..codes import BATCH_ACTIVATION_CODES, LOSS_CODES
from . import batches, steps
from .lanes import lane_count
from .layers import Samples
from .packed import Packed, aligned, read_only, readable, round_up, tile_of
from .products import BLOCK
from .workers import work

# Weights after the first layer up to which each worker reads them all, for its own samples; more of
# them do not stay in a core's cache, and each worker takes units of all samples.
_CACHED_WEIGHTS = 131_072
_PIECE = 16_384  # numbers of a weight matrix that a worker takes at a time


class WholeNetwork(Packed):
    """All that learns in one flat row a state, as `batches` describes it.

    The states are the weights, with the gains of normalised layers after them, what the rule keeps
    for each of them, and with averaging the average of the weights and the moments.
    """

    def __init__(self, spec: NetworkSpec, states: States, learned: Batches, rule: Rule) -> None:
        self._spec, self._learned, self._rule = spec, learned, rule
        self._real = np.dtype(spec.dtype)
        self._lanes = lane_count(self._real)
        self._rows = round_up(spec.sizes[0], self._lanes)
        self._tile = tile_of(spec)
        moments = [a for pair in learned.regularization.moments for a in pair]
        self._layout = self._lay_out(bool(moments))
        self.states = aligned((len(states), self._size), self._real)
        pairs: list[tuple[Array, np.ndarray]] = []
        for flat, state in zip(self.states, states, strict=True):
            pairs += zip(state, self._views(flat), strict=False)
        pairs += zip(moments, self._moments(self.states[0]), strict=True)
        if rule.averaging:
            average = states[-1][len(states[0]) :]
            pairs += zip(average, self._moments(self.states[-1]), strict=True)
        super().__init__(pairs)

    def _lay_out(self, is_normalized: bool) -> np.ndarray:
        lanes, rows, at, offset = self._lanes, self._rows, 0, 0
        layout: list[list[int]] = []
        for layer, units in enumerate(self._spec.sizes[1:]):
            width = round_up(units, lanes if layer else len(self._tile) * lanes)
            biases = at + (units * layout[-1][batches.WIDTH] if layer else rows * width)
            layout.append([units, width, offset, at, biases, -1, -1])
            at, offset = biases + width, offset + width
        hidden = layout[:-1] if is_normalized else []
        for row in hidden:
            row[batches.GAIN], at = at, at + row[batches.WIDTH]
        for row in hidden:
            row[batches.MOMENTS], at = at, at + 2 * row[batches.WIDTH]
        self._size, self._numbers = at, offset
        return np.array(layout, np.int64)

    def _views(self, flat: np.ndarray) -> Iterator[np.ndarray]:
        """Yield the places of weights and gains."""
        for layer, (fan_in, fan_out) in enumerate(pairwise(self._spec.sizes)):
            _, width, _, matrix, biases, _, _ = self._layout[layer]
            if layer == 0:
                yield flat[:biases].reshape(-1, width)[:fan_in, :fan_out]
            else:
                yield flat[matrix:biases].reshape(fan_out, -1)[:, :fan_in].T
            if self._spec.bias:
                yield flat[biases : biases + fan_out]
        for units, _, _, _, _, gain, _ in self._layout[:-1]:
            if gain >= 0:
                yield flat[gain : gain + units]

    def _moments(self, flat: np.ndarray) -> Iterator[np.ndarray]:
        """Yield the places of running means and variances."""
        for units, width, _, _, _, _, moments in self._layout[:-1]:
            if moments >= 0:
                yield flat[moments : moments + units]
                yield flat[moments + width : moments + width + units]

    def _pieces(self) -> np.ndarray:
        """Cut the weights into pieces for a worker, see `batches`."""
        pieces = []
        for layer, row in enumerate(self._layout.tolist()):
            units, width, _, matrix, biases, _, _ = row
            rows, length = (units, (biases - matrix) // units) if layer else (self._rows, width)
            kind = batches.DEEPER_ROWS if layer else batches.FIRST_ROWS
            height = max(16, _PIECE // length)
            for low in range(0, rows, height):
                high = min(low + height, rows)
                pieces.append(
                    (kind, layer, low, high, matrix + low * length, matrix + high * length)
                )
        for layer, row in enumerate(self._layout.tolist()):
            _, width, _, _, biases, gain, moments = row
            pieces.append((batches.BIASES, layer, 0, 0, biases, biases + width))
            if gain >= 0:
                pieces.append((batches.GAINS, layer, 0, 0, gain, gain + width))
            if moments >= 0:
                pieces.append((batches.AVERAGED, layer, 0, 0, moments, moments + 2 * width))
        return np.array(pieces, np.int64)

    def _phases(self, block: int) -> np.ndarray:
        """List what is done to a batch, one after the other."""
        last = len(self._layout) - 1
        is_normalized = bool(self._learned.regularization.moments)
        if self._spec.deeper_weights <= _CACHED_WEIGHTS and not is_normalized:
            phases = [(batches.SAMPLES, 0, block)]
        else:
            columns = [
                max(64, round_up(-(-units // 16), 16)) for units in self._layout[:, 0].tolist()
            ]
            forward = [(batches.FORWARD, h, columns[h]) for h in range(not is_normalized, last)]
            backward = [(batches.BACKWARD, h, columns[h]) for h in reversed(range(last))]
            phases = [(batches.FIRST, 0, block), *forward, (batches.OUTPUT, 0, block), *backward]
        phases.append((batches.GRADIENTS, 0, 1))
        if self._rule.clip < np.inf:
            phases.append((batches.STEPS, 0, 1))
        return np.array(phases, np.int64)

    def learn(self, workers: int, made: int) -> np.ndarray:
        """Learn the batches, after so many steps before; return the losses."""
        spec, learned, rule, real = self._spec, self._learned, self._rule, self._real
        values, n = readable(spec, learned.values), len(learned.values)
        size = min(learned.size, n)
        block = max(8, min(BLOCK, size // 4))
        dropped = learned.regularization.dropped
        moments = learned.regularization.moments
        scale, shift = aligned((self._rows,), real), aligned((self._rows,), real)
        scale[: spec.sizes[0]], shift[: spec.sizes[0]] = spec.scale, spec.shift
        first = batches.First(self._tile, scale, shift, np.zeros_like(shift), bool(shift.any()))
        pieces = self._pieces()
        activation = BATCH_ACTIVATION_CODES[spec.activation]
        batch = batches.Batch(
            layout=self._layout,
            pieces=pieces,
            phases=self._phases(block),
            bias=spec.bias,
            activation=activation,
            loss=LOSS_CODES[spec.loss],
            low=real.type(spec.target_low),
            high=real.type(spec.target_high),
            normalized=bool(moments),
            dropped_inputs=real.type(dropped[0]),
            dropped=real.type(dropped[1]),
            block=block,
            key=np.uint64(noise_key(learned.key[:-1])),
        )
        of_batch, numbers = size * self._numbers, self._numbers
        kept = aligned((of_batch,), real)
        delta = aligned((of_batch,), real)
        is_kept_apart = bool(dropped[1]) or ACTIVATIONS[spec.activation].needs_z
        workspace = batches.Workspace(
            u=aligned((workers, BLOCK, self._rows), real),
            masks=np.zeros((-(-size // block), self._rows), np.uint32),
            r=aligned((workers, self._layout[0, batches.WIDTH]), real),
            noise=np.zeros((workers, 4 * max(self._rows, *self._layout[:, 1].tolist())), np.uint32),
            sums=aligned((2 + workers, numbers), real),
            kept=kept,
            hidden=aligned((of_batch,), real) if is_kept_apart else kept,
            delta=delta,
            carried=aligned((of_batch,), real) if LOSSES[spec.loss].splits_raw_errors else delta,
            normal=aligned((of_batch if moments else 0,), real),
            spread=aligned((numbers,), real),
            gradient=aligned((self._size,), real),
            piece=aligned((workers, int((pieces[:, 5] - pieces[:, 4]).max())), real),
            squares=np.zeros(len(pieces)),
            update=np.full(workers, learned.key[-1] - 1),
            tickets=np.zeros(16, np.int64),
        )
        kind = steps.ADAM if rule.betas else steps.NESTEROV if rule.nesterov else steps.SGD
        beta1, beta2 = rule.betas or (0.0, 0.0)
        of_rule = (rule.momentum, beta1, beta2, rule.epsilon, rule.decay, learned.penalty)
        for_kernel = kind, *map(real.type, of_rule), float(rule.clip), float(rule.averaging), made
        kernel_rule = steps.Rule._make(for_kernel)
        rates = np.array(learned.rates, real)
        losses = np.empty(n, real)
        samples = Samples(values, read_only(learned.labels), rates, learned.size, losses)
        work(batches.train, workers, first, samples, batch, kernel_rule, self.states, workspace)
        return losses

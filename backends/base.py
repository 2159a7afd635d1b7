"""The backend's contract: every operation of the network, once, in plain array-API calls.

Read this file as the textbook, from the top: what a network is, forward propagation, losses,
back-propagation and gradients, the update steps, learning batch after batch. Each operation stands
here in its clearest form. A backend overrides one only where it is measurably faster, and its
override is tested against the one written here.

What is advanced stands beside this file: batch size 1 as matrix products in `delayed.py`, dropout
and batch normalisation in `regularization.py`. These two act on a layer's numbers through its
hooks: on a first reading, take every hook for one that returns what it is handed. Arrays and their
device are `device.py`'s.

Notation, layer l of L: ``a_0 = x``, ``z_l = a_(l-1) W_l + b_l``, ``a_l = f(z_l)``,
``δ_l = ∂loss/∂z_l``; η is the learning rate, μ the momentum. Rows are samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, repeat
from math import inf
from typing import Any

from .delayed import OnlineSGD
from .device import Device
from .feeding import Batches, Rule, States
from .functions import ACTIVATIONS, LOSSES, OUTPUTS, Array
from .regularization import PLAIN_LAYER, BatchHooks, LayerHooks

# W and b, or None where there is none
Layer = tuple[Array, Array | None]


@dataclass(frozen=True, eq=False)
class NetworkSpec:
    """All that the operations need of a network besides its weights.

    Attributes
    ----------
    sizes : tuple of int
        Units of every layer, inputs first.
    activation, output, loss : str
        Names in `functions.ACTIVATIONS`, `functions.OUTPUTS` and `functions.LOSSES`.
    bias : bool
        Whether the layers have biases; the weights are then W1, b1, W2, b2, …, else W1, W2, ….
    target_low, target_high : float
        The targets of the wrong classes and of the right one.
    scale, shift : device array
        The input map ``x = values * scale + shift``: one number, or one for each input.
    dtype : dtype of `xp`
        Of weights and arithmetic, float32 or float64.
    """

    sizes: tuple[int, ...]
    activation: str
    output: str
    loss: str
    bias: bool
    target_low: float
    target_high: float
    scale: Array
    shift: Array
    dtype: Any

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """Return the weights' shapes: W1 (fan_in, fan_out)[, b1 (fan_out,)], W2, …."""
        shapes: list[tuple[int, ...]] = []
        for fan_in, fan_out in pairwise(self.sizes):
            shapes += [(fan_in, fan_out), (fan_out,)] if self.bias else [(fan_in, fan_out)]
        return shapes

    @property
    def deeper_weights(self) -> int:
        """Count the weights after the first layer, without biases."""
        return sum(fan_in * fan_out for fan_in, fan_out in pairwise(self.sizes[1:]))

    def layers(self, weights: Sequence[Array]) -> list[Layer]:
        """Pair the flat list of weights up as (W, b), with None for b where there is none."""
        if not self.bias:
            return [(W, None) for W in weights]
        return list(zip(weights[::2], weights[1::2], strict=True))


class Backend(Device):
    """The network's operations on one device, written in plain `xp`.

    Attributes
    ----------
    block_size : int
        Samples in a block of `delayed.py`. Any number gives the same result up to rounding; it
        only moves work between matrix products and what is left to do sample by sample.

    The parameters and the other attributes are those of `Device`.
    """

    block_size = 32

    def __reduce__(self) -> tuple[Any, ...]:
        # by name, since what a device hands out is of no use to another process
        from . import restored

        return restored, (self.name, self.matmul)

    def __deepcopy__(self, memo: dict[int, Any]) -> Backend:
        return self

    # --- forward ------------------------------------------------------------------------

    def inputs(self, spec: NetworkSpec, values: Array) -> Array:
        """Return x = values * scale + shift, in the network's dtype."""
        return self.xp.astype(values, spec.dtype) * spec.scale + spec.shift

    def product(self, a: Array, b: Array) -> Array:
        """Return a b, the matrix product."""
        return a @ b

    def affine(self, a: Array, W: Array, b: Array | None) -> Array:
        """Return z = a W + b."""
        z = self.product(a, W)
        return z if b is None else z + b

    def first_affine(self, spec: NetworkSpec, values: Array, W: Array, b: Array | None) -> Array:
        """Return z_1 = x W_1 + b_1 of unscaled values, most of the work: backends override it."""
        return self.affine(self.inputs(spec, values), W, b)

    def activate(self, name: str, z: Array) -> Array:
        """Return a = f(z), a hidden layer's activation."""
        return ACTIVATIONS[name].value(self.xp, z)

    def output(self, name: str, z: Array) -> Array:
        """Return the output layer's activation."""
        return OUTPUTS[name](self.xp, z)

    def forward(
        self, spec: NetworkSpec, deeper: Sequence[Layer], z: Array, hooks: Sequence[LayerHooks] = ()
    ) -> tuple[list[Array], list[Array], Array, Array]:
        """Propagate forward from the first layer's sums z_1.

        Parameters
        ----------
        spec : NetworkSpec
        deeper : sequence of (W, b)
            All layers but the first.
        z : array, shape (n, sizes[1])
            ``z_1``, which `first_affine` returns.
        hooks : sequence of LayerHooks
            Of the hidden layers while a network learns; none while it answers.

        Returns
        -------
        hidden : list of arrays
            ``a_1 … a_(L-1)`` as the next layer receives them, some units dropped or none.
        kept : list of arrays
            What f' is written in: ``a_1 … a_(L-1)`` as f returned them, or f's own arguments.
        logits, outputs : array, shape (n, sizes[-1])
            ``z_L`` and the network's answer.
        """
        hidden, kept = [], []
        # z is the sum of a hidden layer, W and b are the next layer's
        for (W, b), hook in zip(deeper, hooks or repeat(PLAIN_LAYER), strict=False):
            z = hook.sums.forward(z)
            a = self.activate(spec.activation, z)
            kept.append(z if ACTIVATIONS[spec.activation].needs_z else a)
            hidden.append(hook.activations.forward(a))
            z = self.affine(hidden[-1], W, b)
        return hidden, kept, z, self.output(spec.output, z)

    def propagate(
        self, spec: NetworkSpec, weights: Sequence[Array], values: Array
    ) -> Iterator[tuple[slice, list[Array], Array, Array]]:
        """Propagate any number of samples forward, `chunk_size` at a time.

        Yield which samples a chunk has, and their hidden, logits and outputs, see `forward`.
        """
        first, *deeper = spec.layers(weights)
        # one empty chunk if there are no samples, so that the results still have their shape
        for rows in self.chunks(values) if values.shape[0] else [slice(0, 0)]:
            z = self.first_affine(spec, self.part(values, rows), *first)
            hidden, _, logits, outputs = self.forward(spec, deeper, z)
            yield rows, hidden, logits, outputs

    # --- losses, and the error's way back -----------------------------------------------

    def targets(self, spec: NetworkSpec, labels: Array) -> Array:
        """Return target_high at each label's class, target_low elsewhere, shape (n, classes)."""
        xp = self.xp
        right = labels[:, None] == xp.arange(spec.sizes[-1], dtype=labels.dtype)[None, :]
        low = xp.asarray(spec.target_low, dtype=spec.dtype)
        return xp.where(right, xp.asarray(spec.target_high, dtype=spec.dtype), low)

    def losses(self, spec: NetworkSpec, logits: Array, outputs: Array, targets: Array) -> Array:
        """Return the loss of every sample, shape (n,)."""
        return LOSSES[spec.loss].value(self.xp, logits, outputs, targets)

    def backward(
        self,
        spec: NetworkSpec,
        deeper: Sequence[Layer],
        kept: Sequence[Array],
        outputs: Array,
        targets: Array,
        hooks: Sequence[LayerHooks] = (),
        factors: Array | None = None,
    ) -> list[Array]:
        """Propagate the error back: δ of every layer, from the first to the last.

        A hidden unit acts on the loss only through the next layer's sums z_(l+1) = a_l W_(l+1) + …,
        so the chain rule gives its error ∂loss/∂a_l = δ_(l+1) W_(l+1)ᵀ: the next layer's δ, split
        along the weights. As a_l = f(z_l), δ_l is this error times f'(z_l), unit by unit. Rashid's
        rule splits the raw error instead, which starts as o - t and is never multiplied by f'. As
        all that follows is proportional to it, a sample counts more or less by a factor on it.
        """
        loss = LOSSES[spec.loss]
        by = 1 if factors is None else factors[:, None]
        deltas = [by * loss.delta(self.xp, outputs, targets)]
        # what the layer below receives: δ, or by Rashid's rule the raw error
        carried = by * (outputs - targets) if loss.splits_raw_errors else deltas[0]
        for layer in reversed(range(len(deeper))):  # deeper[layer] comes after kept[layer]
            W, hook = deeper[layer][0], hooks[layer] if hooks else PLAIN_LAYER
            error = hook.activations.backward(self.product(carried, W.T))
            slope = ACTIVATIONS[spec.activation].derivative(self.xp, kept[layer])
            delta = hook.sums.backward(error * slope)
            carried = error if loss.splits_raw_errors else delta
            deltas.insert(0, delta)
        return deltas

    def first_product(self, spec: NetworkSpec, values: Array, delta: Array) -> Array:
        """Return xᵀ δ_1 of unscaled values, shape (sizes[0], sizes[1])."""
        return self.product(self.inputs(spec, values).T, delta)

    def products(self, hidden: Sequence[Array], deltas: Sequence[Array]) -> list[Array]:
        """Return a_(l-1)ᵀ δ_l of the layers after the first."""
        return [self.product(a.T, delta) for a, delta in zip(hidden, deltas, strict=True)]

    def gradients(
        self,
        layers: Sequence[Layer],
        products: Sequence[Array],
        deltas: Sequence[Array],
        penalty: float,
        n: int,
    ) -> list[Array]:
        """Return the mean gradient of W (and b) of each layer, a_(l-1)ᵀ δ_l / n + penalty · W.

        As z_l = a_(l-1) W_l + b_l, one sample has ∂loss/∂W_l = a_(l-1)ᵀ δ_l and ∂loss/∂b_l = δ_l;
        `products` are the sums of the former over the n samples.
        """
        result = []
        for (W, b), product, delta in zip(layers, products, deltas, strict=True):
            gradient = product / n
            result.append(gradient + penalty * W if penalty else gradient)
            if b is not None:
                result.append(self.xp.sum(delta, axis=0) / n)
        return result

    def losses_and_gradients(
        self,
        spec: NetworkSpec,
        weights: Sequence[Array],
        values: Array,
        labels: Array,
        penalty: float,
        hooks: BatchHooks | None = None,
        factors: Array | None = None,
        whole: int | None = None,
    ) -> tuple[Array, list[Array]]:
        """Propagate samples forward and their errors back.

        Parameters
        ----------
        weights : sequence of arrays
        values : array, shape (n, sizes[0])
            Before the input map.
        labels : array of int, shape (n,)
        penalty : float
            λ/m of the loss's penalty λ/(2m) ΣW², whose gradient is penalty · W.
        hooks : BatchHooks, optional
            From a `Regularization`.
        factors : array, shape (n,), optional
            Each sample's weight over their mean, see `Batches.factors`.
        whole : int, optional
            How many samples the batch has of which these are a part.

        Returns
        -------
        losses : array, shape (n,)
            Of every sample, without penalty.
        gradients : list of arrays
            Mean over the samples, in the order of the weights; of a part, what it adds to the mean.
        """
        hooks = hooks or BatchHooks(self.xp, spec, weights)
        layers = hooks.layers
        spec, values = hooks.inputs(self, spec, values)
        z = self.first_affine(spec, values, *layers[0])
        hidden, kept, logits, outputs = self.forward(spec, layers[1:], z, hooks.hidden)
        targets = self.targets(spec, labels)
        losses = self.losses(spec, logits, outputs, targets)
        deltas = self.backward(spec, layers[1:], kept, outputs, targets, hooks.hidden, factors)
        products = [self.first_product(spec, values, deltas[0])]
        products += self.products(hidden, deltas[1:])
        n = labels.shape[0] if whole is None else whole
        return losses, hooks.gradients(self.gradients(layers, products, deltas, penalty, n))

    # --- update steps, in place ---------------------------------------------------------

    def clipped(self, gradients: list[Array], largest: float) -> list[Array]:
        """Scale gradients so that their joint norm is at most `largest` (Pascanu et al. 2013)."""
        if largest == inf:
            return gradients
        xp = self.xp
        norm = xp.sqrt(sum(xp.sum(g * g) for g in gradients))
        limit = xp.asarray(largest, dtype=norm.dtype)
        return [g * (limit / xp.maximum(norm, limit)) for g in gradients]

    def sgd_step(
        self, w: Array, velocity: Array | None, gradient: Array, rate: float, rule: Rule
    ) -> None:
        """Step v ← μv - ηg, w ← w + v; without a velocity w ← w - ηg.

        Nesterov's goes by the velocity after this step, w ← w + μv - ηg: the form of Bengio et al.
        2013 (*Advances in optimizing recurrent networks*, eq. 7), whose w is where the gradient is
        taken.
        """
        if velocity is None:
            w -= rate * gradient
        else:
            velocity *= rule.momentum
            velocity -= rate * gradient
            w += rule.momentum * velocity - rate * gradient if rule.nesterov else velocity

    def adam_step(
        self, w: Array, state: Sequence[Array], gradient: Array, rate: float, step: int, rule: Rule
    ) -> None:
        """Make one step of Adam (Kingma and Ba 2015, algorithm 1); `step` counts from 1.

        With a decay, AdamW (Loshchilov and Hutter 2019, algorithm 2): a matrix also loses η · decay
        of itself, which does not enter the moments. There the factor is the schedule alone; with
        the whole rate it is PyTorch's.
        """
        (mean, square), (beta1, beta2) = state, rule.betas
        if rule.decay and w.ndim == 2:
            w *= 1 - rate * rule.decay
        mean *= beta1
        mean += (1 - beta1) * gradient
        square *= beta2
        square += (1 - beta2) * gradient * gradient
        correction = 1 - beta2**step
        epsilon = rule.epsilon / correction**0.5 if rule.scales_epsilon else rule.epsilon
        corrected = self.xp.sqrt(square / correction) + epsilon
        w -= rate / (1 - beta1**step) * mean / corrected

    # --- learning, batch after batch ----------------------------------------------------

    def learn(
        self, spec: NetworkSpec, states: States, batches: Batches, rule: Rule, steps: int = 0
    ) -> Array:
        """Learn samples in order, updating the weights after every batch.

        Parameters
        ----------
        spec : NetworkSpec
        states : sequence of sequences of arrays
            What changes, in place. First the weights W1, (b1,) W2, …, then the hooks' own if they
            learn any. Then, as many each, what the rule keeps for them: the velocities if it has a
            momentum, the gradient's moving means and mean squares if it has betas. With averaging
            the last is the moving average of the weights, and of the moments after them.
        batches : Batches
        rule : Rule
            How a batch's gradients change the weights.
        steps : int
            How many steps have been made before.

        Returns
        -------
        array, shape (n,)
            Loss of every sample before its batch's update.
        """
        found = self.learn_faster(spec, states, batches, rule, steps)
        if found is not None:
            return found
        ranks, (weights, *memory) = batches.share.ranks, states
        losses = []
        for step, batch in enumerate(batches, start=steps + 1):
            if rule.averaging:
                plain = rule._replace(averaging=0.0)
                losses.append(self.learn(spec, states[:-1], batch, plain, step - 1))
                learned = [*weights, *(a for pair in batch.regularization.moments for a in pair)]
                rule.move_average(states[-1], learned, step)
                continue
            rate, hooks = batch.rates[0], batch.regularization.hooks(self, spec, weights, batch)
            batch_losses, gradients = self.losses_and_gradients(
                spec, weights, batch.values, batch.labels, batch.penalty / ranks.count, hooks,
                batch.factors(self.xp), batch.whole,
            )  # fmt: skip
            losses.append(batch_losses)
            gradients = self.clipped(ranks.sum(gradients), rule.clip)
            for w, gradient, *state in zip(weights, gradients, *memory, strict=True):
                if rule.betas:
                    self.adam_step(w, state, gradient, rate, step, rule)
                else:
                    self.sgd_step(w, state[0] if state else None, gradient, rate, rule)
        return self.xp.concat(losses)

    def learn_faster(
        self, spec: NetworkSpec, states: States, batches: Batches, rule: Rule, steps: int = 0
    ) -> Array | None:
        """Learn as `learn` where there is a faster way; else return None."""
        if rule.betas or rule.has_extras(batches) or batches.size > 1:
            return None
        # the same steps, computed a block of samples at a time
        online = OnlineSGD(self, spec, states, rule, batches.penalty)
        return online.learn(batches)

    def block(self, batch_size: int) -> int:
        """Return the samples in a block, after which `learn` may be called anew without effect."""
        return self.block_size if batch_size == 1 else batch_size

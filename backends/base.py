"""The backend's contract: every operation of the network, once, in plain array-API calls.

Read this file as the textbook. Forward propagation, back-propagation and the update
steps stand here in their clearest form. A backend overrides an operation only where it
is measurably faster, and its override is tested against the one written here.

Notation, layer l of L: ``a_0 = x``, ``z_l = a_(l-1) W_l + b_l``, ``a_l = f(z_l)``,
``δ_l = ∂loss/∂z_l``. Rows are samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import pairwise
from math import inf
from typing import Any, NamedTuple

import numpy as np

from .feeding import Feed, Resident
from .functions import ACTIVATIONS, LOSSES, OUTPUTS, Array
from .noise import HostNoise, Noise


@dataclass(frozen=True, eq=False)
class NetworkSpec:
    """What the operations must know of a network besides its weights.

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
        The input map ``x = values * scale + shift``: 0-d, or one value a feature.
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
        """Of the weights: W1 (fan_in, fan_out)[, b1 (fan_out,)], W2, …."""
        shapes: list[tuple[int, ...]] = []
        for fan_in, fan_out in pairwise(self.sizes):
            shapes += [(fan_in, fan_out), (fan_out,)] if self.bias else [(fan_in, fan_out)]
        return shapes

    def layers(self, weights: Sequence[Array]) -> list[tuple[Array, Array | None]]:
        """Pair the flat list of weights up as (W, b), with None for b where there is none."""
        if not self.bias:
            return [(W, None) for W in weights]
        return list(zip(weights[::2], weights[1::2], strict=True))


# probabilities with which inputs and hidden units are dropped
Dropped = tuple[float, float]
# one for the inputs and for each hidden layer; none at all, or None, for what is not dropped
Masks = Sequence[Array | None]
BatchMasks = Callable[[int, int], Masks]


def masked(a: Array, masks: Masks, layer: int) -> Array:
    """Multiply by the mask of a layer, the inputs being 0, if it has one."""
    mask = masks[layer] if masks else None
    return a if mask is None else a * mask


class Moments(NamedTuple):
    """Running mean and variance of a hidden layer's sums z, each of shape (units,)."""

    mean: Array
    variance: Array


class Normalization:
    """Batch normalisation of a hidden layer, z ↦ γ (z - mean) / √(variance + ε) + β, on one batch.

    Ioffe and Szegedy 2015, *Batch Normalization*, algorithm 1, and the way back of its section 3.
    Mean and variance are the batch's, and move the running ones by a tenth.

    Parameters
    ----------
    xp : module
    gain, shift : array, shape (units,)
        γ and β, which are learned.
    moments : Moments
        Changed in place.

    Attributes
    ----------
    of_gain, of_shift : array, shape (units,)
        After `backward`, their mean gradient over the batch.
    """

    epsilon = 1e-5

    def __init__(self, xp: Any, gain: Array, shift: Array, moments: Moments) -> None:
        self.xp, self.gain, self.shift, self.moments = xp, gain, shift, moments

    def forward(self, z: Array) -> Array:
        xp, n = self.xp, z.shape[0]
        mean = xp.mean(z, axis=0)
        z = z - mean
        variance = xp.mean(z * z, axis=0)
        self._scale = 1 / xp.sqrt(variance + self.epsilon)
        self._normal = z * self._scale
        if n > 1:  # a single sample has no variance
            for moment, now in zip(self.moments, (mean, variance * (n / (n - 1))), strict=True):
                moment += 0.1 * (now - moment)
        return self.gain * self._normal + self.shift

    def backward(self, delta: Array) -> Array:
        """Take ∂loss/∂(what forward gave) of every sample to ∂loss/∂z."""
        self.of_shift = self.xp.mean(delta, axis=0)
        self.of_gain = self.xp.mean(delta * self._normal, axis=0)
        rest = delta - self.of_shift - self._normal * self.of_gain
        return self.gain * self._scale * rest


class BackendUnavailable(RuntimeError):
    """A device that was asked for cannot be used; the message says why and what to type."""


class BlockCoefficients(NamedTuple):
    """How W_t and its velocity V_t follow from a block's start, W_0 and U, and its steps d_s.

    ``W_t = start[t] W_0 + velocity[t] U + Σ_(s<t) steps[t][s] x_sᵀ d_s`` for t = 0 … B, and
    ``V_B = end_start W_0 + end_velocity U + Σ_s end_steps[s] x_sᵀ d_s``.
    """

    start: Any
    velocity: Any
    steps: Any
    end_start: Any
    end_velocity: Any
    end_steps: Any


def block_coefficients(
    rates: tuple[float, ...], momentum: float, penalty: float
) -> BlockCoefficients:
    """Unroll V ← μV - η_s p W + xᵀd, W ← W + V over a block of samples.

    Both states are linear in W_0, U and every d_s, so one pair of numbers for each of
    them, carried through the B steps, is the whole of momentum, decay and changing rates.
    """
    size = len(rates)
    # columns: W_0, U, d_0 … d_(B-1)
    weight = [1.0, 0.0] + [0.0] * size
    speed = [0.0, 1.0] + [0.0] * size
    rows = [weight]
    for t, rate in enumerate(rates):
        speed = [momentum * v - rate * penalty * w for v, w in zip(speed, weight, strict=True)]
        speed[2 + t] = 1.0
        weight = [w + v for w, v in zip(weight, speed, strict=True)]
        rows.append(weight)
    return BlockCoefficients(
        start=[row[0] for row in rows],
        velocity=[row[1] for row in rows],
        steps=[row[2:] for row in rows],
        end_start=speed[0],
        end_velocity=speed[1],
        end_steps=speed[2:],
    )


def _upload_coefficients(
    xp: Any, dtype: Any, rates: tuple[float, ...], momentum: float, penalty: float
) -> BlockCoefficients:
    host = block_coefficients(rates, momentum, penalty)
    return BlockCoefficients(*(xp.asarray(c, dtype=dtype) for c in host))


class Backend:
    """Arrays and the network's operations on one device, written in plain `xp`.

    Parameters
    ----------
    xp : module
        A namespace of the Python array API standard.
    name : str
        What the user calls it: "cpu", "gpu:0".
    device_name : str
        What the maker calls it.

    Attributes
    ----------
    reason : str
        Why `select("auto")` chose this backend; empty where it was asked for by name.
    matmul : str
        As `select` takes it: what the factors of float32 matrix products are rounded to.
    threads : int
        Of the host that compute; with another number sums may be rounded otherwise.
    block_size : int
        Samples a block of online training. Any value gives the same result up to
        rounding; it only moves work between the block's matrix products and the recurrence.
    chunk_size : int
        Samples to compute at a time where any number would do, to bound the memory.
    """

    reason = ""
    matmul = "float32"
    threads = 1
    block_size = 32
    chunk_size = 4096

    def __init__(self, xp: Any, name: str, device_name: str) -> None:
        self.xp = xp
        self.name = name
        self.device_name = device_name
        self._array_type = type(xp.empty(0))
        # no method, which would keep this object and all it holds alive until the next search
        self._coefficients = lru_cache(maxsize=8)(partial(_upload_coefficients, xp))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}: {self.device_name}>"

    # --- arrays -------------------------------------------------------------------------

    def asarray(self, a: Any, dtype: Any = None) -> Array:
        """Move an array to the device.

        Parameters
        ----------
        a : array or nested sequence of real numbers
            Host or device array, any strides, byte order and writability. What is on the
            device with the right dtype already is returned as it is, not copied.
        dtype : dtype of `xp` or str, optional
            Kept if not given, but for what no device computes with: a host array's booleans
            become uint8, its float16 float32, and its extended precision float64.

        Raises
        ------
        TypeError
            If a host array's values are not real numbers.
        """
        if isinstance(dtype, str):
            dtype = getattr(self.xp, dtype)
        if self.is_host(a):
            a = self.xp.asarray(self.host_array(a))
        return a if dtype is None else self.xp.astype(a, dtype, copy=False)

    def is_host(self, a: Any) -> bool:
        """Whether that is anything but an array of this device."""
        return isinstance(a, np.ndarray) or not isinstance(a, self._array_type)

    def host_array(self, a: Any) -> np.ndarray:
        """Make an array of the host what `asarray` says of it: contiguous, of a dtype to keep."""
        host = np.asarray(a)
        if host.dtype.kind not in "buif":
            raise TypeError(f"expected an array of real numbers, got dtype {host.dtype}")
        native = host.dtype.newbyteorder("=")
        odd = {np.bool_: np.uint8, np.float16: np.float32, np.longdouble: np.float64}
        return np.asarray(host, odd.get(native.type, native), order="C")

    def hold(self, a: Any) -> Array:
        """Move samples to the device; a backend may leave on the host what is too large for it."""
        return self.asarray(a)

    def feed(self, values: Array, labels: Array, unit: int) -> Feed:
        """Prepare to hand out held samples in any order; parts end after multiples of `unit`."""
        return Resident(self.xp, values, labels)

    def to_numpy(self, a: Array) -> np.ndarray:
        """Copy a device array to the host."""
        return np.array(a)

    def make_current(self) -> None:
        """Let what the calling thread does from now on run on this device."""

    def synchronize(self) -> None:
        """Wait until the device has finished all work handed to it."""

    def rng(self, seed: int | None) -> np.random.Generator:
        """Give the host generator that weights and sample order are drawn from on every device."""
        return np.random.default_rng(seed)

    def noise(self, *key: int) -> Noise:
        """Give the generator that a step draws from on the device, by numbers of zero or more."""
        return HostNoise(self.xp, key)

    def block(self, batch_size: int) -> int:
        """Give the samples a block of `sgd`: calls that end between blocks change no number."""
        return self.block_size if batch_size == 1 else batch_size

    def miniature(self, spec: NetworkSpec, batch_size: int) -> NetworkSpec:
        """Give a network, as small as may be, for which the same is compiled in training."""
        return spec

    def release(self) -> None:
        """Let go of what training keeps from call to call, which refers to the weights."""

    def amid_host_work(self, spec: NetworkSpec) -> AbstractContextManager[Any]:
        """Enter this to compute with NumPy between the network's operations, again and again."""
        return nullcontext()

    # --- images -------------------------------------------------------------------------

    def smooth(self, fields: Array, down: Array, across: Array) -> Array:
        """D F Aᵀ of every field F, shape (…, height, width), with D by rows and A by columns."""
        return self.xp.matmul(down, self.xp.matmul(fields, across.T))

    def deform(self, images: Array, maps: Array, fields: Array | None, background: float) -> Array:
        """Look up in each image where the pixels of the deformed one come from.

        A pixel at (y, x), counted from the image's centre, comes from
        ``M (y, x, 1) + field(y, x)``: it is the bilinear mean of the four around that place, or
        the background where that lies outside.

        Parameters
        ----------
        images : array, shape (n, height, width)
            Of any real dtype; integers are rounded.
        maps : array, shape (n, 2, 3)
            M of every image, rows before columns, in the dtype to compute in.
        fields : array, shape (n, 2, height, width), or None
            In pixels, likewise.
        background : float

        Returns
        -------
        array, shape (n, height, width)
            In the images' dtype.
        """
        xp, real = self.xp, maps.dtype
        n, height, width = images.shape
        middles = (height - 1) / 2, (width - 1) / 2
        y = xp.arange(height, dtype=real)[None, :, None] - middles[0]
        x = xp.arange(width, dtype=real)[None, None, :] - middles[1]
        rows, columns = (
            m[:, 0, None, None] * y + m[:, 1, None, None] * x + m[:, 2, None, None] + middle
            for m, middle in zip((maps[:, 0, :], maps[:, 1, :]), middles, strict=True)
        )
        if fields is not None:
            rows, columns = rows + fields[:, 0, :, :], columns + fields[:, 1, :, :]
        inside = (rows >= 0) & (rows <= height - 1) & (columns >= 0) & (columns <= width - 1)
        rows = xp.where(inside, rows, xp.zeros_like(rows))
        columns = xp.where(inside, columns, xp.zeros_like(columns))
        top, left = xp.astype(rows, xp.int64), xp.astype(columns, xp.int64)
        below = xp.where(rows < height - 1, top + 1, top)
        beside = xp.where(columns < width - 1, left + 1, left)
        starts = xp.arange(n)[:, None, None] * (height * width)
        pixels = xp.reshape(images, (-1,))

        def at(row: Array, column: Array) -> Array:
            where = xp.reshape(starts + row * width + column, (-1,))
            return xp.astype(xp.reshape(xp.take(pixels, where), images.shape), real)

        share = columns - xp.astype(left, real)
        upper, lower = at(top, left), at(below, left)
        upper += (at(top, beside) - upper) * share
        lower += (at(below, beside) - lower) * share
        values = upper + (lower - upper) * (rows - xp.astype(top, real))
        values = xp.where(inside, values, xp.asarray(background, dtype=real))
        if xp.isdtype(images.dtype, "integral"):
            values = xp.round(values)
        return xp.astype(values, images.dtype)

    # --- the network --------------------------------------------------------------------

    def inputs(self, spec: NetworkSpec, values: Array) -> Array:
        """x = values * scale + shift, in the network's dtype."""
        return self.xp.astype(values, spec.dtype) * spec.scale + spec.shift

    def targets(self, spec: NetworkSpec, labels: Array) -> Array:
        """target_high at each label's class and target_low elsewhere, shape (n, classes)."""
        xp = self.xp
        right = labels[:, None] == xp.arange(spec.sizes[-1], dtype=labels.dtype)[None, :]
        low = xp.asarray(spec.target_low, dtype=spec.dtype)
        return xp.where(right, xp.asarray(spec.target_high, dtype=spec.dtype), low)

    def affine(self, a: Array, W: Array, b: Array | None) -> Array:
        """z = a W + b."""
        z = self.product(a, W)
        return z if b is None else z + b

    def product(self, a: Array, b: Array) -> Array:
        """a b, the matrix product."""
        return a @ b

    def first_affine(self, spec: NetworkSpec, values: Array, W: Array, b: Array | None) -> Array:
        """z_1 = x W_1 + b_1 of unscaled values."""
        return self.affine(self.inputs(spec, values), W, b)

    def first_product(self, spec: NetworkSpec, values: Array, delta: Array) -> Array:
        """xᵀ δ_1 of unscaled values, shape (sizes[0], sizes[1])."""
        return self.product(self.inputs(spec, values).T, delta)

    def activate(self, name: str, z: Array) -> Array:
        """A hidden layer's activation."""
        return ACTIVATIONS[name].value(self.xp, z)

    def output(self, name: str, z: Array) -> Array:
        """The output layer's activation."""
        return OUTPUTS[name](self.xp, z)

    def dropout(self, spec: NetworkSpec, n: int, dropped: Dropped, noise: Noise) -> Masks:
        """Draw what n samples' inputs and hidden units are multiplied by while they are learned.

        0 with the probability that they are to be dropped, else 1 / (1 - probability), so that
        their sums keep their mean and nothing is to be done when the network answers: dropout
        (Srivastava et al. 2014) in its inverted form.
        """

        def mask(units: int, probability: float) -> Array | None:
            if not probability:
                return None
            drawn = noise.uniform((n, units), spec.dtype)
            return self.xp.astype(drawn >= probability, spec.dtype) / (1 - probability)

        of_inputs, of_hidden = dropped
        first, *hidden = spec.sizes[:-1]
        return [mask(first, of_inputs), *(mask(units, of_hidden) for units in hidden)]

    def forward(
        self,
        spec: NetworkSpec,
        deeper: Sequence[tuple[Array, Array | None]],
        z: Array,
        masks: Masks = (),
        norms: Sequence[Normalization] = (),
    ) -> tuple[list[Array], list[Array], Array, Array]:
        """Propagate forward from the first layer's pre-activation.

        Parameters
        ----------
        spec : NetworkSpec
        deeper : sequence of (W, b)
            All layers but the first.
        z : array, shape (n, sizes[1])
            ``z_1``, the first layer's pre-activation.
        masks : sequence of arrays or None
            Of the inputs and hidden layers, from `dropout`; none for a network that answers.
        norms : sequence of Normalization
            Of the hidden layers; likewise none.

        Returns
        -------
        hidden : list of arrays
            ``a_1 … a_(L-1)``.
        kept : list of arrays
            What the derivatives f' are written in: the same ``a_1 … a_(L-1)``, not copied, or
            ``z_1 … z_(L-1)``, normalised if they are.
        logits, outputs : array, shape (n, sizes[-1])
            ``z_L`` and the network's answer.
        """
        hidden, kept = [], []
        for layer, (W, b) in enumerate(deeper, start=1):
            z = norms[layer - 1].forward(z) if norms else z
            a = self.activate(spec.activation, z)
            kept.append(z if ACTIVATIONS[spec.activation].needs_z else a)
            hidden.append(masked(a, masks, layer))
            z = self.affine(hidden[-1], W, b)
        return hidden, kept, z, self.output(spec.output, z)

    def propagate(
        self, spec: NetworkSpec, weights: Sequence[Array], values: Array
    ) -> Iterator[tuple[slice, list[Array], Array, Array]]:
        """Propagate any number of samples forward, `chunk_size` at a time.

        Yields which samples these are, and of their `forward` hidden, logits and outputs.
        """
        first, *deeper = spec.layers(weights)
        # one empty chunk for no samples, so that the results still have their shape
        for start in range(0, max(values.shape[0], 1), self.chunk_size):
            rows = slice(start, min(start + self.chunk_size, values.shape[0]))
            z = self.first_affine(spec, self.asarray(values[rows, :]), *first)
            hidden, _, logits, outputs = self.forward(spec, deeper, z)
            yield rows, hidden, logits, outputs

    def losses(self, spec: NetworkSpec, logits: Array, outputs: Array, targets: Array) -> Array:
        """Loss of every sample, shape (n,)."""
        return LOSSES[spec.loss].value(self.xp, logits, outputs, targets)

    def backward(
        self,
        spec: NetworkSpec,
        deeper: Sequence[tuple[Array, Array | None]],
        kept: Sequence[Array],
        outputs: Array,
        targets: Array,
        masks: Masks = (),
        norms: Sequence[Normalization] = (),
    ) -> list[Array]:
        """Propagate the error back: δ of every layer, from the first to the last.

        The error of a layer is the next layer's δ split along its weights, and its own δ that
        error times the activation's derivative, taken at what `forward` has kept for it. Rashid's
        rule splits the raw error instead. What `forward` has dropped has no part in the error.
        """
        loss = LOSSES[spec.loss]
        deltas = [loss.delta(self.xp, outputs, targets)]
        carried = outputs - targets if loss.splits_raw_errors else deltas[0]
        for layer in range(len(deeper), 0, -1):
            W, at = deeper[layer - 1][0], kept[layer - 1]
            carried = masked(self.product(carried, W.T), masks, layer)
            delta = carried * ACTIVATIONS[spec.activation].derivative(self.xp, at)
            delta = norms[layer - 1].backward(delta) if norms else delta
            if not loss.splits_raw_errors:
                carried = delta
            deltas.insert(0, delta)
        return deltas

    def gradients(
        self,
        layers: Sequence[tuple[Array, Array | None]],
        products: Sequence[Array],
        deltas: Sequence[Array],
        penalty: float,
    ) -> list[Array]:
        """Mean gradient of W (and b) of each layer, a_(l-1)ᵀ δ_l / n + penalty · W.

        `products` are the a_(l-1)ᵀ δ_l.
        """
        result = []
        for (W, b), product, delta in zip(layers, products, deltas, strict=True):
            gradient = product / delta.shape[0]
            result.append(gradient + penalty * W if penalty else gradient)
            if b is not None:
                result.append(self.xp.mean(delta, axis=0))
        return result

    def losses_and_gradients(
        self,
        spec: NetworkSpec,
        weights: Sequence[Array],
        values: Array,
        labels: Array,
        penalty: float,
        masks: Masks = (),
        moments: Sequence[Moments] = (),
    ) -> tuple[Array, list[Array]]:
        """Propagate samples forward and their errors back.

        Parameters
        ----------
        weights : sequence of arrays
            With moments, the gain of every hidden layer after them.
        values : array, shape (n, sizes[0])
            Before the input map.
        labels : array of int, shape (n,)
        penalty : float
            λ/m; penalty · W is added to the gradient of each weight matrix.
        masks : sequence of arrays or None
            From `dropout`.
        moments : sequence of Moments
            Of the hidden layers if they are batch-normalised, which needs biases; changed in place.

        Returns
        -------
        losses : array, shape (n,)
            Of every sample, without penalty.
        gradients : list of arrays
            Mean over the samples, in the order of the weights.
        """
        plain = len(spec.shapes)
        layers = spec.layers(weights[:plain])
        norms = [
            Normalization(self.xp, gain, b, layer_moments)
            for gain, layer_moments, (_, b) in zip(weights[plain:], moments, layers, strict=False)
        ]
        for layer in range(len(norms)):  # whose shift takes the place of the bias
            layers[layer] = layers[layer][0], None
        if masks and masks[0] is not None:
            spec, values = self.mapped(spec, values, masks[0])
        z = self.first_affine(spec, values, *layers[0])
        hidden, kept, logits, outputs = self.forward(spec, layers[1:], z, masks, norms)
        targets = self.targets(spec, labels)
        losses = self.losses(spec, logits, outputs, targets)
        deltas = self.backward(spec, layers[1:], kept, outputs, targets, masks, norms)
        products = [self.first_product(spec, values, deltas[0])]
        products += self.products(hidden, deltas[1:])
        gradients = self.gradients(layers, products, deltas, penalty)
        for layer, norm in enumerate(norms):
            gradients.insert(2 * layer + 1, norm.of_shift)
        return losses, gradients + [norm.of_gain for norm in norms]

    def folded(
        self, spec: NetworkSpec, weights: Sequence[Array], moments: Sequence[Moments]
    ) -> list[Array]:
        """Make of a batch-normalised network one that answers alike and has W and b alone.

        With the running moments in the batch's place a normalisation is one more affine map, and
        goes into the weights: W γ / √(variance + ε) and β - γ mean / √(variance + ε).
        """
        plain = len(spec.shapes)
        result = list(weights[:plain])
        for layer, (gain, of_layer) in enumerate(zip(weights[plain:], moments, strict=True)):
            scale = gain / self.xp.sqrt(of_layer.variance + Normalization.epsilon)
            result[2 * layer] = result[2 * layer] * scale
            result[2 * layer + 1] = result[2 * layer + 1] - scale * of_layer.mean
        return result

    def mapped(self, spec: NetworkSpec, values: Array, mask: Array) -> tuple[NetworkSpec, Array]:
        """Give the inputs that a mask leaves, and a network that takes them without a map."""
        one = self.xp.asarray(1.0, dtype=spec.dtype)
        bare = replace(spec, scale=one, shift=self.xp.zeros_like(one))
        return bare, self.inputs(spec, values) * mask

    def products(self, hidden: Sequence[Array], deltas: Sequence[Array]) -> list[Array]:
        """a_(l-1)ᵀ δ_l of the layers behind the first."""
        return [self.product(a.T, delta) for a, delta in zip(hidden, deltas, strict=True)]

    def clipped(self, gradients: list[Array], largest: float) -> list[Array]:
        """Scale gradients so that their norm together is at most that (Pascanu et al. 2013)."""
        if largest == inf:
            return gradients
        xp = self.xp
        norm = xp.sqrt(sum(xp.sum(g * g) for g in gradients))
        limit = xp.asarray(largest, dtype=norm.dtype)
        return [g * (limit / xp.maximum(norm, limit)) for g in gradients]

    # --- update steps, in place ---------------------------------------------------------

    def sgd_step(
        self,
        w: Array,
        velocity: Array | None,
        gradient: Array,
        rate: float,
        momentum: float,
        nesterov: bool = False,
    ) -> None:
        """v ← μv - ηg, w ← w + v; without a velocity w ← w - ηg.

        Nesterov's goes by the velocity after this step, w ← w + μv - ηg: the form of Bengio et al.
        2013 (*Advances in optimizing recurrent networks*, eq. 7), whose w is where the gradient is
        taken.
        """
        if velocity is None:
            w -= rate * gradient
        else:
            velocity *= momentum
            velocity -= rate * gradient
            w += momentum * velocity - rate * gradient if nesterov else velocity

    def adam_step(
        self,
        w: Array,
        mean: Array,
        square: Array,
        gradient: Array,
        rate: float,
        step: int,
        beta1: float,
        beta2: float,
        epsilon: float,
        decay: float = 0.0,
    ) -> None:
        """One step of Adam (Kingma and Ba 2015, algorithm 1); `step` counts from 1.

        With a decay, AdamW (Loshchilov and Hutter 2019, algorithm 2): w loses η · decay of itself
        besides, which the moments never see.
        """
        if decay:
            w *= 1 - rate * decay
        mean *= beta1
        mean += (1 - beta1) * gradient
        square *= beta2
        square += (1 - beta2) * gradient * gradient
        corrected = self.xp.sqrt(square / (1 - beta2**step)) + epsilon
        w -= rate / (1 - beta1**step) * mean / corrected

    # --- training ---------------------------------------------------------------------------

    def sgd(
        self,
        spec: NetworkSpec,
        weights: Sequence[Array],
        velocities: Sequence[Array],
        values: Array,
        labels: Array,
        rates: Sequence[float],
        batch_size: int = 1,
        momentum: float = 0.0,
        penalty: float = 0.0,
    ) -> Array:
        """Learn samples in order, updating the weights after every batch.

        Parameters
        ----------
        spec : NetworkSpec
        weights : sequence of arrays
            W1, (b1,) W2, …; changed in place.
        velocities : sequence of arrays
            One for each of the weights with momentum, empty without; changed in place.
        values : array, shape (n, sizes[0])
            The samples in the order to be learned, before the input map.
        labels : array of int, shape (n,)
        rates : sequence of floats
            The learning rate of each batch's step.
        batch_size : int
            The last batch may be smaller.
        momentum : float
            μ of v ← μv - ηg.
        penalty : float
            λ/m: every step also follows the gradient penalty · W of the weights.

        Returns
        -------
        array, shape (n,)
            Loss of every sample before its batch's update.
        """
        if batch_size == 1:
            return self.online_sgd(
                spec, weights, velocities, values, labels, rates, momentum, penalty
            )
        return self.sgd_by_gradients(
            spec, weights, velocities, values, labels, rates, batch_size, momentum, penalty
        )

    def sgd_by_gradients(
        self,
        spec: NetworkSpec,
        weights: Sequence[Array],
        velocities: Sequence[Array],
        values: Array,
        labels: Array,
        rates: Sequence[float],
        batch_size: int,
        momentum: float,
        penalty: float,
        nesterov: bool = False,
        clip: float = inf,
        masks: BatchMasks | None = None,
        moments: Sequence[Moments] = (),
    ) -> Array:
        """Learn as `sgd`, each batch by its gradients, which are clipped to a norm.

        Parameters
        ----------
        nesterov : bool
            Step as Nesterov's momentum does, see `sgd_step`.
        clip : float
            Largest norm of all gradients of a batch together.
        masks : callable, optional
            ``masks(batch, n)`` gives the `dropout` of a batch, counted from 0, of n samples.
        moments : sequence of Moments
            As in `losses_and_gradients`.

        The others and the result are those of `sgd`.
        """
        losses = []
        for rate, part, gradients in self._batches(
            spec, weights, values, labels, rates, batch_size, penalty, masks, moments
        ):
            for i, (w, gradient) in enumerate(
                zip(weights, self.clipped(gradients, clip), strict=True)
            ):
                velocity = velocities[i] if momentum else None
                self.sgd_step(w, velocity, gradient, rate, momentum, nesterov)
            losses.append(part)
        return self.xp.concat(losses)

    def adam(
        self,
        spec: NetworkSpec,
        weights: Sequence[Array],
        means: Sequence[Array],
        squares: Sequence[Array],
        values: Array,
        labels: Array,
        rates: Sequence[float],
        batch_size: int,
        penalty: float,
        steps: int,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
        decay: float = 0.0,
        clip: float = inf,
        masks: BatchMasks | None = None,
        moments: Sequence[Moments] = (),
    ) -> Array:
        """Learn samples in order by Adam (Kingma and Ba 2015, algorithm 1).

        Parameters
        ----------
        means, squares : sequence of arrays
            The gradient's first and second moment, one each for each of the weights; changed in
            place.
        steps : int
            How many steps have been made before.
        beta1, beta2, epsilon : float
            The paper's.
        decay : float
            AdamW's, of the weights and not of the biases; see `adam_step`.
        clip, masks, moments
            As in `sgd_by_gradients`.

        The others and the result are those of `sgd`.
        """
        losses = []
        for rate, part, gradients in self._batches(
            spec, weights, values, labels, rates, batch_size, penalty, masks, moments
        ):
            steps += 1
            gradients = self.clipped(gradients, clip)
            for w, mean, square, gradient in zip(weights, means, squares, gradients, strict=True):
                of_w = decay if w.ndim == 2 else 0.0
                self.adam_step(w, mean, square, gradient, rate, steps, beta1, beta2, epsilon, of_w)
            losses.append(part)
        return self.xp.concat(losses)

    def _batches(
        self,
        spec: NetworkSpec,
        weights: Sequence[Array],
        values: Array,
        labels: Array,
        rates: Sequence[float],
        batch_size: int,
        penalty: float,
        masks: BatchMasks | None,
        moments: Sequence[Moments],
    ) -> Iterator[tuple[float, Array, list[Array]]]:
        """Walk through the batches; yields the rate, the losses and the gradients of each."""
        for i, rate in enumerate(rates):
            batch = slice(i * batch_size, min((i + 1) * batch_size, values.shape[0]))
            part = values[batch, :], labels[batch]
            mask = () if masks is None else masks(i, part[1].shape[0])
            yield rate, *self.losses_and_gradients(spec, weights, *part, penalty, mask, moments)

    def online_sgd(
        self,
        spec: NetworkSpec,
        weights: Sequence[Array],
        velocities: Sequence[Array],
        values: Array,
        labels: Array,
        rates: Sequence[float],
        momentum: float,
        penalty: float,
    ) -> Array:
        """Batch size 1, exactly, as matrix products: update after every sample, in blocks.

        Within a block W_1 changes by x_sᵀ d_s a sample, so what sample t sees of it is known
        without forming it (a delayed, rank-B update):

            z_t = x_t W + b + Σ_(s<t) (x_t · x_s + 1) d_s

        with the + 1 only beside a bias. X W and the Gram matrix X Xᵀ are one matrix product a
        block; what is left to do in sequence is small. Momentum and decay change nothing but
        the coefficients of these terms, see `block_coefficients`. Parameters as in `sgd`.
        """
        n = values.shape[0]
        losses = []
        for start in range(0, n, self.block_size):
            block = slice(start, min(start + self.block_size, n))
            x = self.inputs(spec, values[block, :])
            losses.append(
                self._online_block(
                    spec,
                    weights,
                    velocities,
                    x,
                    labels[block],
                    tuple(rates[block]),
                    momentum,
                    penalty,
                )
            )
        return self.xp.concat(losses)

    def _online_block(
        self,
        spec: NetworkSpec,
        weights: Sequence[Array],
        velocities: Sequence[Array],
        x: Array,
        labels: Array,
        rates: tuple[float, ...],
        momentum: float,
        penalty: float,
    ) -> Array:
        first = 2 if spec.bias else 1
        W, b = spec.layers(weights)[0]
        U, u = spec.layers(velocities)[0] if velocities else (None, None)
        z = x @ W
        mixing = x @ x.T
        if U is None and not penalty:  # every coefficient is one
            if b is not None:
                z += b
                mixing += 1
        else:
            of_W = self._coefficients(spec.dtype, rates, momentum, penalty)
            of_b = self._coefficients(spec.dtype, rates, momentum, 0.0)
            z *= of_W.start[:-1, None]
            mixing *= of_W.steps[:-1, :]
            if U is not None:
                z += of_W.velocity[:-1, None] * (x @ U)
            if b is not None:
                z += b
                mixing += of_b.steps[:-1, :]
                if u is not None:
                    z += of_b.velocity[:-1, None] * u
        d, losses = self.online_recurrence(
            spec,
            weights[first:],
            velocities[first:],
            z,
            mixing,
            labels,
            rates,
            momentum,
            penalty,
        )
        if U is None and not penalty:
            W += x.T @ d
            if b is not None:
                b += self.xp.sum(d, axis=0)
        else:
            self._end_of_block(of_W, W, U, x.T, d)
            if b is not None:
                self._end_of_block(of_b, b, u, self.xp.ones_like(labels, dtype=spec.dtype), d)
        return losses

    def _end_of_block(
        self, c: BlockCoefficients, w: Array, velocity: Array | None, xT: Array, d: Array
    ) -> None:
        """Carry w (and its velocity) over a whole block."""
        end = c.start[-1] * w + xT @ (c.steps[-1, :, None] * d)
        if velocity is not None:
            end += c.velocity[-1] * velocity
            velocity[...] = (
                c.end_start * w + c.end_velocity * velocity + xT @ (c.end_steps[:, None] * d)
            )
        w[...] = end

    def online_recurrence(
        self,
        spec: NetworkSpec,
        deeper: Sequence[Array],
        velocities: Sequence[Array],
        z: Array,
        mixing: Array,
        labels: Array,
        rates: Sequence[float],
        momentum: float,
        penalty: float,
    ) -> tuple[Array, Array]:
        """Run the sequential part of a block.

        Parameters
        ----------
        deeper, velocities : sequence of arrays
            The weights after the first layer's, and theirs; changed in place.
        z : array, shape (B, sizes[1])
            Each sample's first pre-activation as far as the block's start determines it.
        mixing : array, shape (B, B)
            ``mixing[t, s]`` is what sample t's z gets of the step d_s, for s < t.

        Returns
        -------
        d : array, shape (B, sizes[1])
            The first layer's steps, -η δ_1.
        losses : array, shape (B,)
        """
        xp = self.xp
        d = xp.zeros_like(z)
        losses = xp.zeros_like(z[:, 0])
        targets = self.targets(spec, labels)
        layers = spec.layers(deeper)
        for t, rate in enumerate(rates):
            now = slice(t, t + 1)
            z_t = z[now, :] + mixing[now, :t] @ d[:t, :]
            hidden, kept, logits, outputs = self.forward(spec, layers, z_t)
            losses[now] = self.losses(spec, logits, outputs, targets[now, :])
            deltas = self.backward(spec, layers, kept, outputs, targets[now, :])
            d[now, :] = -rate * deltas[0]
            products = self.products(hidden, deltas[1:])
            gradients = self.gradients(layers, products, deltas[1:], penalty)
            for i, (w, gradient) in enumerate(zip(deeper, gradients, strict=True)):
                self.sgd_step(w, velocities[i] if momentum else None, gradient, rate, momentum)
        return d, losses

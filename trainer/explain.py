"""What a network does, made visible: one sample's way through it, its answers run backwards.

`trace` walks one sample forward, its error back and one update through the backend's own
operations; `backquery` runs a label backwards to the inputs it stands for; `incoming_weights`
gives what each unit of the first layer looks at. All hand out plain results, NumPy arrays on the
host, and leave the model as it was.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from backends import Batches, Rule
from backends.functions import ACTIVATIONS, HIGH, LOSSES, LOW, Array, logit, rescaled

from .network import MLP
from .worked import Worked, worked

_SQUARED = ("rashid", "squared_error")  # losses of ½ Σ (t - a)², whose δ has the slope in it
_REACH = 2.0  # standard deviations, of inputs that have one of 1
_CURVE_POINTS = 201
_SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")
# f'(z) of a layer's function as the lessons write it; of others it is written "name′(z)"
_SLOPES = {"sigmoid": "a ∘ (1 − a)", "tanh": "(1 − a²)", "relu": "(z > 0)"}
_LOSS_FORMULAS = {  # as `backends.functions` computes them
    "rashid": "½ Σ (t − a)²",
    "squared_error": "½ Σ (t − a)²",
    "binary_cross_entropy": "−Σ (t ln a + (1 − t) ln(1 − a))",
    "cross_entropy": "−Σ t ln a",
}
_TRUE_LOSS = "squared_error"  # the loss whose gradient Rashid's rule does not follow
_LOST = 0.05  # of the largest change of an array, what rounding may take without being mentioned


@dataclass(frozen=True, eq=False)
class LayerTrace:
    """One sample in one layer l: a_(l-1) → z_l → a_l, the error that came back, the update.

    The errors are t - a_l in the output layer. In a hidden layer they are what the next layer hands
    back along its weights: by Rashid's rule its raw errors, e_l = e_(l+1) W_(l+1)ᵀ, by every true
    gradient its deltas, e_l = -δ_(l+1) W_(l+1)ᵀ. The deltas δ_l are the backend's, what the update
    takes: W_l ← W_l - η a_(l-1)ᵀ δ_l. In a hidden layer δ_l = -e_l ∘ f'(z_l). The changes are what
    this formula says; in what is after the update they are rounded to the type of the weights.
    """

    number: int  # from 1; the last is the output layer
    function: str  # the name of its activation or of its output function
    inputs: np.ndarray  # (fan_in,): a_(l-1), for the first layer the scaled inputs x
    sums: np.ndarray  # (fan_out,): z_l = a_(l-1) W_l + b_l
    outputs: np.ndarray  # (fan_out,): a_l = f(z_l)
    errors: np.ndarray  # (fan_out,)
    deltas: np.ndarray  # (fan_out,)
    gradient_deltas: np.ndarray  # (fan_out,): ∂loss/∂z_l, which by Rashid's rule the δ_l are not
    W: np.ndarray  # (fan_in, fan_out)
    W_after: np.ndarray  # likewise, after the one update
    W_change: np.ndarray  # likewise, float64: what the update adds
    b: np.ndarray | None  # (fan_out,), None without biases
    b_after: np.ndarray | None
    b_change: np.ndarray | None
    # (2, points): z and f(z) around this sample's sums; for softmax e^z over this sample's Σe^z
    curve: np.ndarray

    @property
    def sub(self) -> str:
        """The number, small and low: "₂"."""
        return _sub(self.number)

    @property
    def inputs_name(self) -> str:
        """What the inputs are called: "x" or "a₁"."""
        return "x" if self.number == 1 else f"a{_sub(self.number - 1)}"

    @property
    def sums_formula(self) -> str:
        """What the sums are: "a₁ W₂ + b₂"."""
        bias = "" if self.b is None else f" + b{self.sub}"
        return f"{self.inputs_name} W{self.sub}{bias}"

    @property
    def outputs_formula(self) -> str:
        """What the outputs are: "a₂ = sigmoid(z₂)"."""
        return f"a{self.sub} = {self.function}(z{self.sub})"

    @property
    def slope_formula(self) -> str:
        """The function's derivative: "a₂ ∘ (1 − a₂)"."""
        known = _SLOPES.get(self.function, f"{self.function}′(z)")
        return re.sub(r"(?<![a-z])[az](?![a-z])", lambda letter: letter[0] + self.sub, known)

    @property
    def arrays(self) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """W and, where there are biases, b by name, "W₂": before, after, what the update added."""
        found = {f"W{self.sub}": (self.W, self.W_after, self.W_change)}
        if self.b is not None and self.b_after is not None and self.b_change is not None:
            found[f"b{self.sub}"] = self.b, self.b_after, self.b_change
        return found


@dataclass(frozen=True, eq=False)
class Trace:
    """One sample's way through a network and back, and one update by it."""

    values: np.ndarray  # (fan_in,): the sample as it stands in the data
    inputs: np.ndarray  # (fan_in,): x = values * scale + shift
    label: int  # the class's code
    targets: np.ndarray  # (classes,): wanted,
    outputs: np.ndarray  # answered,
    outputs_after: np.ndarray  # and what would be answered after the update
    layers: tuple[LayerTrace, ...]
    loss_name: str
    splits_raw_errors: bool  # whether this is Rashid's rule; see `LayerTrace`
    loss: float  # of this sample, without the l2 penalty
    loss_after: float
    learning_rate: float
    l2: float  # λ
    penalty: float  # λ/m, by which the update also shrinks the weights
    unit: int  # of layer 1, the one that is worked out

    @property
    def worked(self) -> Worked:
        """One unit and one output with the terms of their sums."""
        return worked(self)

    @property
    def stages(self) -> dict[tuple[str, int], str]:
        """The headings of all that happens, in order, by kind and layer, 0 for the output layer."""
        n, rate = len(self.layers), f"η = {self.learning_rate:g}"
        found = {("sample", 0): "The sample"}
        for layer in self.layers:
            formulas = f"z{layer.sub} = {layer.sums_formula}, {layer.outputs_formula}"
            found["forward", layer.number % n] = f"Layer {layer.number} forward: {formulas}"
        for number in range(n, 0, -1):
            formulas = f"{self.error_formula(number)}, {self.delta_formula(number)}"
            found["backward", number % n] = f"Layer {number} backward: {formulas}"
        for number in range(n, 0, -1):
            formulas = f"{self.update_formula(number)}, {rate}"
            found["update", number % n] = f"Layer {number} update: {formulas}"
        found["worked forward", 0] = "One unit worked out, forward"
        found["worked backward", 0] = "One unit worked out, backward and update"
        found["after", 0] = f"After the update: loss {self.loss:.4g} → {self.loss_after:.4g}"
        return found

    @property
    def notation(self) -> str:
        """What the formulas' signs mean."""
        text = (
            "Vectors are rows: x W₁ is what the book writes W · I, transposed. x W₁ and xᵀ δ₁ are"
            " matrix products, ∘ multiplies unit by unit. t: targets; z: sums; a: outputs; e:"
            " errors; δ: what the update takes of them."
        )
        hidden = {layer.function for layer in self.layers[:-1]}
        more = " (z > 0): 1 where that holds, else 0." if "relu" in hidden else ""
        if hidden - _SLOPES.keys():
            more += " f′(z): the slope of f at z."
        return text + more

    @property
    def loss_lines(self) -> list[str]:
        """What the loss is, with its numbers, and what the penalty is if there is one."""
        lines = [f"loss = {self.loss_formula} = {self.loss:.4g}"]
        if self.penalty:
            penalty = self.penalty / 2 * self._squares
            lines.append(
                f"penalty = λ/(2m) Σ W² = {penalty:.4g}, with λ = {self.l2:g} and m ="
                f" {self.l2 / self.penalty:,.0f} training samples; the loss does not count it,"
                f" together they are {self.loss + penalty:.4g}"
            )
        return lines

    @property
    def loss_formula(self) -> str:
        """The loss of one sample, without the penalty: "½ Σ (t − a₂)²"."""
        return re.sub(r"\ba\b", f"a{_sub(len(self.layers))}", _LOSS_FORMULAS[self.loss_name])

    @property
    def _squares(self) -> float:
        return sum(float(np.square(layer.W.astype(np.float64)).sum()) for layer in self.layers)

    @property
    def rule_words(self) -> str:
        """What Rashid's rule does otherwise than the gradient; empty where it does not."""
        if not self.splits_raw_errors or len(self.layers) == 1:
            return ""
        first, unit = self.layers[0], self.unit
        return (
            f"Loss rashid is the book's rule, not the gradient: it hands back e₁ = e₂ W₂ᵀ. The"
            f" gradient of the loss, {self.loss_formula}, hands back e₁ = −δ₂ W₂ᵀ (loss"
            f" squared_error does). Unit {unit}: δ₁ = {first.deltas[unit]:.4g} by the rule,"
            f" {first.gradient_deltas[unit]:.4g} by the gradient."
        )

    @property
    def error_words(self) -> str:
        """What an error and a δ are."""
        slope = "what the rule takes for" if self.rule_words else ""
        slope = f"{slope} the slope of the loss by the unit's sum z".strip()
        return (
            "e, the error, of an output is how much more should have come out; of a hidden unit"
            " what the next layer hands back along its weights, as they were before the update. δ:"
            f" {slope}. The update adds −η δ times its inputs to a unit's weights."
        )

    @property
    def rounding_words(self) -> str:
        """What the weights' type loses of the changes; empty where that is little."""
        lost = [
            f"{name} up to {gap:.1g}"
            for layer in self.layers
            for name, (before, after, change) in layer.arrays.items()
            if (gap := np.abs(after.astype(np.float64) - before - change).max(initial=0.0))
            > _LOST * np.abs(change).max(initial=0.0)
        ]
        if not lost:
            return ""
        dtype = self.layers[0].W.dtype
        return f"{dtype} weights are rounded, which takes or adds: {', '.join(lost)}."

    @property
    def moved_away(self) -> np.ndarray:
        """The codes of the classes whose outputs are farther from their targets than before."""
        before, after = (np.abs(self.targets - a) for a in (self.outputs, self.outputs_after))
        return np.flatnonzero(after > before)

    def error_formula(self, number: int) -> str:
        """Return what the errors of a layer, from 1, are: "e₁ = e₂ W₂ᵀ"."""
        if number == len(self.layers):
            return f"e{_sub(number)} = t − a{_sub(number)}"
        above = _sub(number + 1)
        carried = f"e{above}" if self.splits_raw_errors else f"−δ{above}"
        return f"e{_sub(number)} = {carried} W{above}ᵀ"

    def delta_formula(self, number: int) -> str:
        """Return what the deltas of a layer, from 1, are: "δ₂ = −e₂ ∘ a₂ ∘ (1 − a₂)"."""
        n, layer = _sub(number), self.layers[number - 1]
        if number < len(self.layers) or self.loss_name in _SQUARED:
            return f"δ{n} = −e{n} ∘ {layer.slope_formula}"
        if layer.function == "softmax" and not np.isclose(self.targets.sum(), 1):
            return f"δ{n} = a{n} Σt − t"
        return f"δ{n} = −e{n}"  # the loss's derivative by a_l has the slope below its fraction line

    def update_formula(self, number: int) -> str:
        """Return the step of a layer's weights and biases: "W₂ ← W₂ − η a₁ᵀ δ₂"."""
        n, step = _sub(number), f"{self.layers[number - 1].inputs_name}ᵀ δ{_sub(number)}"
        if self.penalty:
            step = f"({step} + λ/m W{n})"
        bias = "" if self.layers[number - 1].b is None else f", b{n} ← b{n} − η δ{n}"
        return f"W{n} ← W{n} − η {step}{bias}"

    @property
    def book_formula(self) -> str:
        """How Rashid's book writes the last layer's step, and what differs where it is another."""
        layer = self.layers[-1]
        n = layer.sub
        step = f"W{n} ← W{n} + α {layer.inputs_name}ᵀ (e{n} ∘ a{n} ∘ (1 − a{n}))"
        if self.loss_name in _SQUARED:
            same = f"The book adds: {step}. That is the same, as δ{n} has the minus sign"
            same += " and α is η"
            if self.penalty:
                same += f"; but the book has no penalty λ/m W{n}"
        else:
            same = f"The book's rule, of another loss: {step}"
        if len(self.layers) > 1 and not self.splits_raw_errors:
            below = _sub(len(self.layers) - 1)
            same += f"; the book hands back e{below} = e{n} W{n}ᵀ, which is no gradient"
        return f"{same}."

    @property
    def answer(self) -> int:
        """The likeliest class's code."""
        return int(np.argmax(self.outputs))

    @property
    def answer_after(self) -> int:
        """Likewise after the update."""
        return int(np.argmax(self.outputs_after))


def trace(
    model: MLP,
    values: Any,
    label: int,
    *,
    learning_rate: float,
    training_samples: float = 1,
    unit: int | None = None,
) -> Trace:
    """Follow one sample forward, its error back, and one update of plain SGD.

    All of it is computed by the backend operations that training uses, on a copy of the weights.
    The formulas stand in `backends/base.py`; the walk is that of Rashid, *Make Your Own Neural
    Network* (2016), part 1.

    The label is the class's code, and the number of training samples the m of the l2 penalty
    λ/(2m) ΣW². The unit of layer 1 that is worked out is the one whose weights the update changes
    most, unless another is named.

    Raises
    ------
    ValueError
        If the sample is no sample of this network, its label none of its classes, or the unit no
        unit of layer 1.
    """
    backend, spec, xp = model.backend, model.spec, model.backend.xp
    values = np.asarray(values)
    sample = backend.asarray(model.samples(values.reshape(1, -1), "values"))
    code = model.labels(np.asarray([label]), 1, "label")
    layers = spec.layers(model.weights)
    loss = LOSSES[spec.loss]
    if unit is not None and not 0 <= unit < model.sizes[1]:
        raise ValueError(f"unit {unit}: expected 0 to {model.sizes[1] - 1}, the units of layer 1")

    x = backend.inputs(spec, sample)
    z = backend.first_affine(spec, sample, *layers[0])
    hidden, kept, logits, outputs = backend.forward(spec, layers[1:], z)
    # of most activations forward keeps no sums; those between the first and the last are made again
    between = [backend.affine(a, *layer) for a, layer in zip(hidden, layers[1:], strict=True)]
    sums = [z, *between[:-1], logits] if hidden else [logits]
    targets = backend.targets(spec, code)
    deltas = backend.backward(spec, layers[1:], kept, outputs, targets)
    gradient = deltas
    if loss.splits_raw_errors:
        true = replace(spec, loss=_TRUE_LOSS)
        gradient = backend.backward(true, layers[1:], kept, outputs, targets)
    errors = [targets - outputs]
    for (W, _), delta in zip(reversed(layers[1:]), reversed(deltas[1:]), strict=True):
        errors.insert(0, backend.product(errors[0] if loss.splits_raw_errors else -delta, W.T))

    weights = [xp.asarray(w, copy=True) for w in model.weights]
    penalty = model.l2 / training_samples
    backend.learn(spec, [weights], Batches(sample, code, [learning_rate], 1, penalty), Rule())
    [(_, _, logits_after, outputs_after)] = backend.propagate(spec, weights, sample)
    losses, losses_after = (
        backend.losses(spec, *answer, targets)
        for answer in ((logits, outputs), (logits_after, outputs_after))
    )

    def vectors(arrays: Sequence[Array]) -> list[np.ndarray]:
        return [backend.to_numpy(a)[0] for a in arrays]

    activations = vectors([x, *hidden, outputs])
    sums, errors, deltas, gradient = map(vectors, (sums, errors, deltas, gradient))
    before, after = (
        [(backend.to_numpy(W), None if b is None else backend.to_numpy(b)) for W, b in held]
        for held in (layers, spec.layers(weights))
    )
    traced = tuple(
        LayerTrace(
            number=i + 1,
            function=spec.activation if i < len(hidden) else spec.output,
            inputs=activations[i],
            sums=sums[i],
            outputs=activations[i + 1],
            errors=errors[i],
            deltas=deltas[i],
            gradient_deltas=gradient[i],
            W=W,
            W_after=W_after,
            W_change=-learning_rate * (_outer(activations[i], deltas[i]) + penalty * _wide(W)),
            b=b,
            b_after=b_after,
            b_change=None if b is None else -learning_rate * _wide(deltas[i]),
            curve=_curve(model, sums[i], is_output=i == len(hidden)),
        )
        for i, ((W, b), (W_after, b_after)) in enumerate(zip(before, after, strict=True))
    )
    return Trace(
        values=values.reshape(-1),
        inputs=activations[0],
        label=int(code[0]),
        targets=backend.to_numpy(targets)[0],
        outputs=activations[-1],
        outputs_after=backend.to_numpy(outputs_after)[0],
        layers=traced,
        loss_name=spec.loss,
        splits_raw_errors=loss.splits_raw_errors,
        loss=float(losses[0]),
        loss_after=float(losses_after[0]),
        learning_rate=float(learning_rate),
        l2=model.l2,
        penalty=penalty,
        unit=int(np.argmax(np.abs(deltas[0]))) if unit is None else unit,
    )


def _wide(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float64)


def _outer(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.outer(_wide(first), _wide(second))


def _sub(number: int) -> str:
    return str(number).translate(_SUBSCRIPTS)


def _curve(model: MLP, sums: np.ndarray, *, is_output: bool) -> np.ndarray:
    """Compute a layer's function around a sample's sums; z and f(z), shape (2, points)."""
    backend, spec = model.backend, model.spec
    sums = sums.astype(np.float64)
    if is_output and spec.output == "softmax":
        most = sums.max()
        z = np.linspace(sums.min() - 1, most, _CURVE_POINTS)
        return np.stack([z, np.exp(z - most) / np.exp(sums - most).sum()])
    reach = max(4.0, 1.05 * float(np.abs(sums).max()))
    z = np.linspace(-reach, reach, _CURVE_POINTS)
    on_device = backend.asarray(z.reshape(1, -1), dtype=spec.dtype)
    if is_output:
        a = backend.output(spec.output, on_device)
    else:
        a = backend.activate(spec.activation, on_device)
    return np.stack([z, backend.to_numpy(a)[0].astype(np.float64)])


def untrained(model: MLP) -> MLP:
    """Make the same network with fresh weights, drawn by its own initialiser and seed.

    Without a seed nobody knows what it began with: ValueError.
    """
    if model.seed is None:
        raise ValueError("seed=None: these initial weights were drawn once and are gone")
    return MLP(**model.settings(), **model.input_map(), backend=model.backend)


# --- backwards ----------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Backquery:
    """Labels run backwards through a network, a row a label."""

    labels: np.ndarray  # (n,): the classes' codes
    targets: np.ndarray  # (n, classes): 0.99 at the label, 0.01 elsewhere
    hidden: tuple[np.ndarray, ...]  # each (n, units): rescaled outputs, from the first layer on
    inputs: np.ndarray  # (n, fan_in): the rescaled inputs
    # (n, fan_in): the inputs with the network's input map undone, on the scale of the data and,
    # where they were to, within its range; NaN for a feature of scale 0
    values: np.ndarray
    outputs: np.ndarray  # (n, classes): what the network answers to these values, asked forwards


def backquery(
    model: MLP,
    labels: Sequence[int] | None = None,
    *,
    value_range: tuple[float, float] | None = None,
) -> Backquery:
    """Run labels backwards through a network: what does it take a "7" to look like?

    The procedure is the "backwards query" of Rashid, *Make Your Own Neural Network* (2016),
    part 3: the targets, 0.99 for the label and 0.01 for the others, go through the logit, the
    inverse of the sigmoid; then back along the weights, z_l W_lᵀ; the signal is rescaled to
    0.01…0.99, whatever it was; and so on through every layer down to the inputs.

    What the book has no case of is done likewise:

    - biases are subtracted before the weights, (z_l - b_l) W_lᵀ;
    - a tanh layer's signal is rescaled to -0.99…0.99 and goes through artanh; that of scaled_tanh,
      A tanh(Bz), to ±0.99 A;
    - a relu layer hands out nothing negative, so what is negative in its signal becomes 0 and the
      rest is scaled to 0…0.99; where it is not negative, relu is the identity;
    - gelu, which takes two sums to each negative output, is dealt with likewise; the sums are
      those from 0 on that give such outputs;
    - softmax has no inverse, as it sees no constant added to all its sums; the logarithm of the
      targets is taken with the constant that makes its mean zero;
    - a signal that is the same everywhere is rescaled to the middle.

    The rescaled inputs are those that the network computes with, so in the end its input map is
    undone: ``values = (inputs - shift) / scale``, feature by feature; the lessons' map takes
    0.01…0.99 to 0…252.4 of 255. A map with a scale or shift for each feature standardises them,
    so that inputs lie around 0 with a deviation of 1 instead of in 0.01…1; there the inputs are
    rescaled to -2…2. A feature of scale 0 (one that was constant in training) never reached the
    network: no value of it can be told, and its signal, which is that of untrained weights, does
    not take part in the rescaling.

    All is computed in float64 on the host but for the answers, which the network gives.

    Parameters
    ----------
    model : MLP
    labels : sequence of int, optional
        Codes of classes, from 0; all of them if not given.
    value_range : tuple of float, optional
        Smallest and largest value that the data can have, to which the values are limited.

    Raises
    ------
    ValueError
        If a label is none of the network's classes, or the hidden layers' activation has no
        inverse.
    """
    spec = model.spec
    classes = model.sizes[-1]
    back_through = ACTIVATIONS[spec.activation].inverse
    if back_through is None and len(model.sizes) > 2:
        invertible = [name for name, known in ACTIVATIONS.items() if known.inverse]
        raise ValueError(
            f"activation={spec.activation!r} has no inverse to go backwards through: expected"
            f" {' or '.join(invertible)}"
        )
    codes = np.arange(classes) if labels is None else np.asarray(labels, dtype=np.int64)
    wrong = [int(code) for code in codes if not 0 <= code < classes]
    if wrong:
        raise ValueError(f"label {wrong[0]}: expected a whole number from 0 to {classes - 1}")
    scale, shift = (
        np.broadcast_to(model.backend.to_numpy(a).astype(np.float64), (model.sizes[0],))
        for a in (spec.scale, spec.shift)
    )
    reached = scale != 0
    targets = np.where(np.arange(classes) == codes[:, None], HIGH, LOW)
    sums = logit(np, targets)
    if spec.output == "softmax":
        sums = np.log(targets)
        sums -= sums.mean(axis=1, keepdims=True)
    hidden: list[np.ndarray] = []
    layers = spec.layers([w.astype(np.float64) for w in model.get_weights()])
    for W, b in reversed(layers[1:]):
        signal = (sums if b is None else sums - b) @ W.T
        assert back_through is not None
        outputs, sums = back_through(np, signal)
        hidden.insert(0, outputs)
    W, b = layers[0]
    signal = (sums if b is None else sums - b) @ W.T
    inputs = np.broadcast_to(shift, signal.shape).copy()
    if reached.any():
        ends = (-_REACH, _REACH) if spec.scale.ndim or spec.shift.ndim else (LOW, HIGH)
        inputs[:, reached] = rescaled(np, signal[:, reached], *ends)
    values = np.full(signal.shape, np.nan)
    values[:, reached] = (inputs[:, reached] - shift[reached]) / scale[reached]
    if value_range is not None:
        values = np.clip(values, *value_range)
    answered = np.where(reached, values, 0.0)
    return Backquery(
        labels=codes,
        targets=targets,
        hidden=tuple(hidden),
        inputs=inputs,
        values=values,
        outputs=model.backend.to_numpy(model.predict_proba(answered)),
    )


# --- the first layer ----------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class IncomingWeights:
    """What units of the first layer look at."""

    units: np.ndarray  # (n,): their numbers, from 0
    weights: np.ndarray  # (n, fan_in): a unit's incoming weights a row, without its bias

    @property
    def norms(self) -> np.ndarray:
        """The Euclidean length of each unit's weights, shape (n,)."""
        return np.sqrt(np.square(self.weights.astype(np.float64)).sum(axis=1))

    @property
    def scaled(self) -> np.ndarray:
        """Each unit's weights over their own largest absolute value, shape (n, fan_in).

        So does ``displayData`` of Ng, *Machine Learning* (2011), programming exercises 3 and 4.
        """
        largest = np.abs(self.weights).max(axis=1, keepdims=True)
        return self.weights / np.where(largest > 0, largest, 1)


def incoming_weights(model: MLP, units: Sequence[int] | None = None) -> IncomingWeights:
    """Take the weights that come into units of the first layer; into all if none are named.

    What is no unit of it is a ValueError.
    """
    count = model.sizes[1]
    chosen = np.arange(count) if units is None else np.asarray(units, dtype=np.int64)
    wrong = [int(unit) for unit in chosen if not 0 <= unit < count]
    if wrong:
        raise ValueError(f"unit {wrong[0]}: expected 0 to {count - 1}, the units of layer 1")
    return IncomingWeights(chosen, np.ascontiguousarray(model.get_weights()[0].T[chosen]))

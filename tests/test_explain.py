"""The walk, the backwards query and the first layer, against plainly written references."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.special import expit, logit

from backends import Backend, select
from backends.functions import ACTIVATIONS, LOSSES
from tests.backends.trainings import SOFTSIGN
from trainer import MLP, fit
from trainer.explain import backquery, incoming_weights, trace, untrained

from .conftest import assert_weights, lesson, networks, samples


def gelu_by_hand(z: np.ndarray) -> np.ndarray:
    return z / 2 * (1 + np.tanh((2 / np.pi) ** 0.5 * (z + 0.044715 * z**3)))


def gelu_slope_by_hand(z: np.ndarray) -> np.ndarray:
    t = np.tanh((2 / np.pi) ** 0.5 * (z + 0.044715 * z**3))
    return (1 + t) / 2 + z / 2 * (1 - t**2) * (2 / np.pi) ** 0.5 * (1 + 3 * 0.044715 * z**2)


def gelu_undone(a: float) -> float:
    return brentq(lambda z: gelu_by_hand(z) - a, 0, 2, xtol=1e-15)


VALUES = {
    "sigmoid": expit,
    "tanh": np.tanh,
    "relu": lambda z: np.maximum(z, 0),
    "scaled_tanh": lambda z: 1.7159 * np.tanh(2 / 3 * z),
    "gelu": gelu_by_hand,
}
SLOPES = {  # of z
    "sigmoid": lambda z: expit(z) * (1 - expit(z)),
    "tanh": lambda z: 1 - np.tanh(z) ** 2,
    "relu": lambda z: (z > 0) * 1.0,
    "scaled_tanh": lambda z: 1.7159 * 2 / 3 * (1 - np.tanh(2 / 3 * z) ** 2),
    "gelu": gelu_slope_by_hand,
}


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max())
    return e / e.sum()


def loss_by_hand(name: str, o: np.ndarray, t: np.ndarray) -> float:
    if name in ("rashid", "squared_error"):
        return float(((t - o) ** 2).sum() / 2)
    if name == "binary_cross_entropy":
        return float(-(t * np.log(o) + (1 - t) * np.log(1 - o)).sum())
    return float(-(t * np.log(o)).sum())


def walk_by_hand(
    weights: list[np.ndarray], settings: dict[str, Any], values: np.ndarray, t: np.ndarray
) -> dict[str, list[np.ndarray]]:
    """One sample forward and back, vector by vector, in float64."""
    step = 2 if settings["bias"] else 1
    matrices = weights[::step]
    biases = weights[1::2] if settings["bias"] else [0.0] * len(matrices)
    f = VALUES[settings["activation"]]
    a = [values * settings["scale"] + settings["shift"]]
    z = []
    for layer, (W, b) in enumerate(zip(matrices, biases, strict=True)):
        z.append(a[-1] @ W + b)
        if layer < len(matrices) - 1:
            a.append(f(z[-1]))
    a.append(softmax(z[-1]) if settings["loss"] == "cross_entropy" else expit(z[-1]))
    o = a[-1]
    if settings["loss"] in ("rashid", "squared_error"):
        delta = (o - t) * o * (1 - o)
    elif settings["loss"] == "binary_cross_entropy":
        delta = o - t
    else:
        delta = o * t.sum() - t
    errors, deltas = [t - o], [delta]
    for layer in range(len(matrices) - 1, 0, -1):
        down = errors[0] if settings["loss"] == "rashid" else -deltas[0]
        errors.insert(0, down @ matrices[layer].T)
        deltas.insert(0, -errors[0] * SLOPES[settings["activation"]](z[layer - 1]))
    return {"z": z, "a": a, "errors": errors, "deltas": deltas}


@given(networks(), st.integers(0, 2), st.integers(1, 50))
def test_a_trace_is_the_walk_written_out_by_hand(backend, settings, label, m):
    assume(settings["activation"] in VALUES)  # a new one is written out by hand when it is
    model = MLP(backend=backend, **settings)
    for w in model.weights:  # biases begin at zero, which would prove nothing
        w += 0.05
    before = model.get_weights()
    values = samples(1, 4, 3, seed=label)[0][0]
    got = trace(model, values, label, learning_rate=0.3, training_samples=m)
    t = np.full(3, model.spec.target_low)
    t[label] = model.spec.target_high
    want = walk_by_hand(before, settings, values, t)
    np.testing.assert_array_equal(got.values, values)
    np.testing.assert_allclose(got.targets, t, rtol=1e-15)
    np.testing.assert_allclose(got.inputs, want["a"][0], rtol=1e-13)
    after: list[np.ndarray] = []
    for i, layer in enumerate(got.layers):
        assert layer.number == i + 1
        np.testing.assert_allclose(layer.inputs, want["a"][i], rtol=1e-11, atol=1e-13)
        np.testing.assert_allclose(layer.sums, want["z"][i], rtol=1e-11, atol=1e-13)
        np.testing.assert_allclose(layer.outputs, want["a"][i + 1], rtol=1e-11, atol=1e-13)
        np.testing.assert_allclose(layer.errors, want["errors"][i], rtol=1e-11, atol=1e-13)
        np.testing.assert_allclose(layer.deltas, want["deltas"][i], rtol=1e-11, atol=1e-13)
        W = layer.W - 0.3 * (np.outer(want["a"][i], want["deltas"][i]) + got.penalty * layer.W)
        np.testing.assert_allclose(layer.W_after, W, rtol=1e-11, atol=1e-13)
        np.testing.assert_allclose(layer.W_change, layer.W_after - layer.W, atol=1e-14)
        after.append(layer.W_after)
        if settings["bias"]:
            b = layer.b - 0.3 * want["deltas"][i]
            np.testing.assert_allclose(layer.b_after, b, rtol=1e-11, atol=1e-13)
            *_, (*_, b_change) = layer.arrays.values()
            np.testing.assert_allclose(b_change, layer.b_after - layer.b, atol=1e-14)
            after.append(layer.b_after)
        else:
            assert layer.b is layer.b_after is None
            assert len(layer.arrays) == 1
        drawn = np.interp(layer.sums, *layer.curve)
        np.testing.assert_allclose(drawn, layer.outputs, atol=0.02 * np.ptp(layer.curve[1]))
    assert got.penalty == settings["l2"] / m
    assert got.loss == pytest.approx(loss_by_hand(settings["loss"], got.outputs, t), rel=1e-9)
    o_after = walk_by_hand(after, settings, values, t)["a"][-1]
    np.testing.assert_allclose(got.outputs_after, o_after, rtol=1e-11)
    assert got.loss_after == pytest.approx(loss_by_hand(settings["loss"], o_after, t), rel=1e-9)
    assert (got.answer, got.answer_after) == (got.outputs.argmax(), o_after.argmax())
    assert_weights(model.get_weights(), before, 0)


def evaluated(formula: str, names: dict[str, Any]) -> np.ndarray:
    """Compute the right side of a formula as it is written for people."""
    text = formula.partition("=")[2].translate(str.maketrans("₁₂₃−∘", "123-*"))
    text = re.sub(r"(\w)ᵀ", r"\1.T", text.replace("²", "**2").replace("Σt", "* t.sum()"))
    text = re.sub(r"([ae]\d|-δ\d) (W\d)", r"\1 @ \2", text)
    return eval(text, {"np": np}, names)  # of our own text


@pytest.mark.parametrize("loss", list(LOSSES))
@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "relu"])  # others only have their names
def test_the_formulas_that_are_shown_are_what_is_computed(activation, loss):
    model = MLP(
        [4, 6, 5, 3], backend=select("cpu"), activation=activation, loss=loss, dtype="float64"
    )
    got = trace(model, samples(1, 4, 3)[0][0], 2, learning_rate=0.3)
    names: dict[str, Any] = {"t": got.targets}
    for i, layer in enumerate(got.layers, 1):
        names |= {f"a{i}": layer.outputs, f"z{i}": layer.sums, f"e{i}": layer.errors}
        names |= {f"δ{i}": layer.deltas, f"W{i}": layer.W}
    for i, layer in enumerate(got.layers, 1):
        for formula, want in (
            (got.error_formula(i), layer.errors),
            (got.delta_formula(i), layer.deltas),
        ):
            np.testing.assert_allclose(evaluated(formula, names), want, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize(
    ("settings", "delta", "book"),
    [
        ({"loss": "rashid"}, "δ₂ = −e₂ ∘ a₂ ∘ (1 − a₂)", "but the book has no penalty λ/m W₂."),
        ({"loss": "squared_error"}, "δ₂ = −e₂ ∘ a₂ ∘ (1 − a₂)", "the book hands back e₁ = e₂ W₂ᵀ"),
        ({"loss": "binary_cross_entropy"}, "δ₂ = −e₂", "of another loss"),
        ({"loss": "cross_entropy"}, "δ₂ = −e₂", "of another loss"),
    ],
)
def test_the_books_update_stands_beside_ours(settings, delta, book):
    model = MLP([4, 5, 3], backend=select("cpu"), activation="gelu", l2=1, **settings)
    got = trace(model, np.ones(4), 1, learning_rate=0.1, training_samples=9)
    assert got.delta_formula(2) == delta
    assert got.delta_formula(1) == "δ₁ = −e₁ ∘ gelu′(z₁)"
    assert got.update_formula(2) == "W₂ ← W₂ − η (a₁ᵀ δ₂ + λ/m W₂)"
    assert "W₂ ← W₂ + α a₁ᵀ (e₂ ∘ a₂ ∘ (1 − a₂))" in got.book_formula
    assert book in got.book_formula


def test_the_gradients_deltas_beside_the_books_are_finite_differences():
    model = MLP([4, 5, 3], backend=select("cpu"), dtype="float64", bias=True)
    x = samples(1, 4, 3)[0][0]
    got = trace(model, x, 2, learning_rate=0.3, unit=1)
    W1, b1, *rest = model.get_weights()
    step, losses = 1e-6, []
    for sign in (1, -1):  # a bias adds to the sum, so the slope by it is δ
        moved = b1.copy()
        moved[1] += sign * step
        model.set_weights([W1, moved, *rest])
        losses.append(model.loss(x[None], [2]))
    slope = (losses[0] - losses[1]) / (2 * step)
    assert got.layers[0].gradient_deltas[1] == pytest.approx(slope, rel=1e-6)
    assert got.worked.gradient_delta == pytest.approx(slope, rel=1e-6)
    assert got.layers[0].deltas[1] != pytest.approx(slope, rel=0.01)
    for sum_, total in (
        (got.worked.z, got.layers[0].sums[1]),
        (got.worked.e, got.layers[0].errors[1]),
    ):
        terms = (sum_.left * sum_.right).sum() + sum_.rest + (sum_.bias or 0)
        assert terms == pytest.approx(total, rel=1e-12)
    with pytest.raises(ValueError, match="unit 5: expected 0 to 4"):
        trace(model, x, 2, learning_rate=0.3, unit=5)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_update_is_the_one_that_training_makes(backend, dtype):
    x, y = samples(1, 20, 3)
    model = MLP([20, 7, 5, 3], backend=backend, dtype=dtype, bias=True, l2=0.5)
    got = trace(model, x[0], y[0], learning_rate=0.2)
    for _ in fit(model, x, y, epochs=1, learning_rate=0.2):
        pass
    after = [array for layer in got.layers for array in (layer.W_after, layer.b_after)]
    assert_weights(after, model.get_weights(), 0)


def test_the_walk_is_the_lessons_own():
    rng = np.random.default_rng(0)
    pixels, label = rng.integers(0, 256, 784), 3
    model = MLP([784, 200, 10], backend=select("cpu"), dtype="float64")
    got = trace(model, pixels, label, learning_rate=0.1)
    want = lesson(model.get_weights(), pixels[None, :], [label], 0.1)
    assert_weights([layer.W_after for layer in got.layers], want, 1e-12)
    who = model.get_weights()[1].T
    np.testing.assert_allclose(
        got.layers[0].errors, who.T @ (got.targets - got.outputs), rtol=1e-12
    )
    assert (got.layers[0].sums_formula, got.layers[1].sums_formula) == ("x W₁", "a₁ W₂")
    assert (got.error_formula(1), got.error_formula(2)) == ("e₁ = e₂ W₂ᵀ", "e₂ = t − a₂")


@pytest.mark.parametrize(
    ("values", "label", "words"),
    [(np.zeros(5), 0, "expected \\(n, 4\\)"), (np.zeros(4), 3, "from 0 to 2")],
)
def test_a_trace_refuses_what_is_no_sample(values, label, words):
    model = MLP([4, 3], backend=select("cpu"))
    with pytest.raises(ValueError, match=words):
        trace(model, values, label, learning_rate=0.1)


def test_untrained_has_the_weights_that_the_training_began_with(backend):
    x, y = samples(20, 6, 3)
    scale = np.linspace(0.1, 0.6, 6)
    model = MLP([6, 5, 3], backend=backend, seed=7, init="he", bias=True, scale=scale, l2=0.1)
    first = model.get_weights()
    for _ in fit(model, x, y, epochs=1):
        pass
    fresh = untrained(model)
    assert_weights(fresh.get_weights(), first, 0)
    assert fresh.settings() == model.settings()
    np.testing.assert_array_equal(
        backend.to_numpy(fresh.spec.scale), backend.to_numpy(model.spec.scale)
    )
    with pytest.raises(ValueError, match="seed=None"):
        untrained(MLP([6, 3], backend=backend, seed=None))


# --- backwards ------------------------------------------------------------------------------


def book(wih: np.ndarray, who: np.ndarray, label: int, classes: int) -> np.ndarray:
    """The book's backquery for its two matrices, (hidden, inputs) and (outputs, hidden)."""
    targets = np.zeros(classes) + 0.01
    targets[label] = 0.99
    final_inputs = logit(np.array(targets, ndmin=2).T)
    hidden_outputs = np.dot(who.T, final_inputs)
    hidden_outputs -= np.min(hidden_outputs)
    hidden_outputs /= np.max(hidden_outputs)
    hidden_outputs *= 0.98
    hidden_outputs += 0.01
    inputs = np.dot(wih.T, logit(hidden_outputs))
    inputs -= np.min(inputs)
    inputs /= np.max(inputs)
    inputs *= 0.98
    inputs += 0.01
    return inputs[:, 0]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_backquery_is_the_books(backend, dtype):
    model = MLP([30, 12, 5], backend=backend, dtype=dtype, seed=3)
    got = backquery(model)
    W1, W2 = (w.astype(np.float64) for w in model.get_weights())
    want = np.array([book(W1.T, W2.T, label, 5) for label in range(5)])
    np.testing.assert_allclose(got.inputs, want, rtol=1e-12)
    np.testing.assert_allclose(got.values, (want - 0.01) * 255 / 0.99, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(got.labels, range(5))
    answers = backend.to_numpy(model.predict_proba(got.values))
    np.testing.assert_array_equal(got.outputs, answers)


def test_one_label_is_its_row_of_all():
    model = MLP([30, 12, 5], backend=select("cpu"))
    every, some = backquery(model), backquery(model, [4, 1])
    np.testing.assert_allclose(some.values, every.values[[4, 1]], rtol=1e-12)
    np.testing.assert_allclose(some.hidden[0], every.hidden[0][[4, 1]], rtol=1e-12)
    with pytest.raises(ValueError, match="label 5: expected a whole number from 0 to 4"):
        backquery(model, [5])


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_a_network_of_permutations_gives_the_permuted_targets_back(depth):
    rng = np.random.default_rng(depth)
    orders = [rng.permutation(6) for _ in range(depth)]
    model = MLP(
        [6] * (depth + 1), backend=select("cpu"), dtype="float64", scale=0.5, shift=-1.0, bias=True
    )
    weights = []
    for order in orders:
        weights += [np.eye(6)[order], np.zeros(6)]
    model.set_weights(weights)
    got = backquery(model)
    want = np.full((6, 6), 0.01)
    for label in range(6):
        unit = label
        for order in reversed(orders):
            unit = int(np.flatnonzero(order == unit)[0])
        want[label, unit] = 0.99
    np.testing.assert_allclose(got.inputs, want, rtol=1e-12)
    np.testing.assert_allclose(got.values, (want + 1) / 0.5, rtol=1e-12)
    np.testing.assert_array_equal(got.outputs.argmax(axis=1), range(6))


def rescale(signal: np.ndarray, low: float, high: float) -> np.ndarray:
    return low + (high - low) * (signal - signal.min()) / (signal.max() - signal.min())


@pytest.mark.parametrize("activation", list(VALUES))
@pytest.mark.parametrize("loss", ["rashid", "cross_entropy"])
def test_biases_other_activations_and_softmax(activation, loss):
    rng = np.random.default_rng(1)
    model = MLP(
        [8, 6, 5, 3],
        backend=select("cpu"),
        dtype="float64",
        bias=True,
        activation=activation,
        loss=loss,
        scale=1.0,
        shift=0.0,
    )
    model.set_weights([rng.normal(size=w.shape) for w in model.get_weights()])
    W1, b1, W2, b2, W3, b3 = model.get_weights()
    got = backquery(model, [2])
    t = np.array([0.01, 0.01, 0.99])
    z = np.log(t) - np.log(t).mean() if loss == "cross_entropy" else np.log(t / (1 - t))
    assert loss != "cross_entropy" or softmax(z) == pytest.approx(t / t.sum())
    for i, (W, b) in reversed(list(enumerate([(W2, b2), (W3, b3)]))):
        signal = W @ (z - b)
        if activation == "sigmoid":
            a = rescale(signal, 0.01, 0.99)
            z = logit(a)
        elif activation == "tanh":
            a = rescale(signal, -0.99, 0.99)
            z = np.arctanh(a)
        elif activation == "scaled_tanh":
            a = rescale(signal, -0.99 * 1.7159, 0.99 * 1.7159)
            z = 1.5 * np.arctanh(a / 1.7159)
        else:
            z = a = 0.99 * np.maximum(signal, 0) / signal.max()
            if activation == "gelu":
                z = np.array([gelu_undone(a) for a in a])
        np.testing.assert_allclose(got.hidden[i][0], a, rtol=1e-12, atol=1e-15)
        np.testing.assert_allclose(VALUES[activation](z), a, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(got.inputs[0], rescale(W1 @ (z - b1), 0.01, 0.99), rtol=1e-12)


def test_a_standardising_map_is_undone_within_two_deviations():
    scale = np.array([0.5, 0.0, 2.0, 1.0])
    shift = np.array([-3.0, 0.0, 1.0, 0.0])
    model = MLP([4, 3], backend=select("cpu"), dtype="float64", scale=scale, shift=shift)
    W = model.get_weights()[0]
    W[1] = 1e6  # untrained weights, which must not flatten all else
    model.set_weights([W])
    got = backquery(model, [0])
    reached = [0, 2, 3]
    signal = W[reached] @ logit(np.array([0.99, 0.01, 0.01]))
    want = rescale(signal, -2, 2)
    np.testing.assert_allclose(got.inputs[0, reached], want, rtol=1e-12)
    np.testing.assert_allclose(
        got.values[0, reached], (want - shift[reached]) / scale[reached], rtol=1e-12
    )
    assert np.isnan(got.values[0, 1])
    assert got.inputs[0, 1] == 0
    assert np.isfinite(got.outputs).all()
    limited = backquery(model, [0], value_range=(0, 1)).values[0]
    np.testing.assert_array_equal(limited[reached], np.clip(got.values[0, reached], 0, 1))


def test_an_activation_without_an_inverse_is_refused(monkeypatch):
    monkeypatch.setitem(ACTIVATIONS, "softsign", SOFTSIGN)
    model = MLP([3, 2, 2], backend=select("cpu"), activation="softsign")
    with pytest.raises(ValueError, match=r"'softsign' has no inverse .* expected sigmoid or tanh"):
        backquery(model)
    assert backquery(MLP([3, 2], backend=select("cpu"), activation="softsign")).values.size == 6


@pytest.mark.parametrize("activation", list(VALUES))
def test_a_signal_that_says_nothing_divides_by_nothing(activation):
    model = MLP([3, 1, 2], backend=select("cpu"), activation=activation, bias=True)
    model.set_weights([np.zeros(w.shape) for w in model.get_weights()])
    got = backquery(model)
    np.testing.assert_allclose(got.inputs, 0.5)
    assert np.isfinite(got.hidden[0]).all()
    none = MLP([3, 2], backend=select("cpu"), scale=0.0)
    assert np.isnan(backquery(none).values).all()


# --- the first layer ------------------------------------------------------------------------


def test_incoming_weights_are_columns_of_the_first_matrix(backend):
    model = MLP([6, 5, 2], backend=backend, bias=True)
    W1 = model.get_weights()[0]
    W1[:, 3] = 0
    model.set_weights([W1, *model.get_weights()[1:]])
    got = incoming_weights(model)
    np.testing.assert_array_equal(got.units, range(5))
    np.testing.assert_array_equal(got.weights, W1.T)
    np.testing.assert_allclose(got.norms, np.linalg.norm(W1.astype(float), axis=0))
    np.testing.assert_allclose(np.abs(got.scaled).max(axis=1), [1, 1, 1, 0, 1])
    np.testing.assert_array_equal(incoming_weights(model, [4, 0]).weights, W1.T[[4, 0]])
    with pytest.raises(ValueError, match="unit 5: expected 0 to 4"):
        incoming_weights(model, [0, 5])


def test_the_model_is_on_its_device_afterwards(backend: Backend):
    model = MLP([4, 3, 2], backend=backend)
    kind = type(model.weights[0])
    trace(model, np.ones(4), 1, learning_rate=1.0)
    backquery(model)
    assert all(type(w) is kind for w in model.weights)

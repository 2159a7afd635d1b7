"""The numbers of the explanations that a reader checks by hand, computed anew by the textbook."""

from __future__ import annotations

import numpy as np
import pytest

from backends import Batches, NetworkSpec, Rule
from tests.conftest import assert_weights
from tests.test_docs import DOCS

X = np.array([[1.0, 1.0], [0.0, 1.0]])
W = np.array([[0.75, 0.25], [0.25, 0.75]])
V = np.array([[1.0], [-1.0]])
LABELS = np.array([0, 1])  # of one output, whose target is 1 for label 0
SPEC = NetworkSpec(
    (2, 2, 1), "relu", "sigmoid", "rashid", False, 0.0, 1.0, np.float64(1), np.float64(0), "float64"
)


def page(name):
    """The text of an explanation, with single blanks and one kind of minus."""
    text = (DOCS / "explanation" / name).read_text("utf-8")
    return " ".join(text.replace("−", "-").split())


def written(numbers):
    """Numbers as the page writes them: (0.5, -0.5), rounded to four places."""
    numbers = [f"{n:g}" if abs(n - round(n, 3)) < 1e-12 else f"{n:.4f}" for n in np.ravel(numbers)]
    return numbers[0] if len(numbers) == 1 else f"({', '.join(numbers)})"


@pytest.fixture
def steps(base_on_numpy):
    """What each of the two samples finds, and the weights in the end."""
    backend, w, v, found = base_on_numpy, W.copy(), V.copy(), []
    for x, label in zip(X[:, None], LABELS[:, None], strict=True):
        before = w.copy(), v.copy()
        z = backend.first_affine(SPEC, x, w, None)
        hidden, kept, logits, outputs = backend.forward(SPEC, [(v, None)], z)
        targets = backend.targets(SPEC, label)
        deltas = backend.backward(SPEC, [(v, None)], kept, outputs, targets)
        w -= x.T @ deltas[0]
        v -= hidden[0].T @ deltas[1]
        found.append((*before, z, hidden[0], logits, outputs, targets - outputs, -deltas[0]))
    return [*found, (w, v)]


def test_the_table_has_the_numbers_of_the_textbook(steps):
    (_, v1, z1, a1, s1, o1, e1, d1), (w2, v2, z2, a2, s2, o2, e2, d2), (w3, v3) = steps
    text = page("delayed.md")

    def both(change):
        return ", ".join(written(row) for row in change)

    for name, first, second in [
        ("W before", "as above", both(w2)),
        ("z = x W", written(z1), written(z2)),
        ("a = max(0, z)", written(a1), written(a2)),
        ("V before", written(v1), written(v2)),
        ("a V", written(s1), written(s2)),
        ("o = sigmoid(a V)", written(o1), written(o2)),
        ("e = t - o", written(e1), written(e2)),
        ("d = e Vᵀ, where z > 0", written(d1), written(d2)),
        ("V changes by aᵀ e · o(1-o)", written(v2 - v1), written(v3 - v2)),
        ("W changes by xᵀ d", both(w2 - W), both(w3 - w2)),
    ]:
        assert f"| {name} | {first} | {second} |" in text
    assert "W = | 1.25 -0.25 | V = | 1.0141 | | 0.0172 0.8199 | | -0.9120 |" in text
    np.testing.assert_allclose(w3, [[1.25, -0.25], [0.0172, 0.8199]], atol=5e-5)
    np.testing.assert_allclose(v3[:, 0], [1.0141, -0.9120], atol=5e-5)


def test_the_block_has_the_numbers_of_the_textbook(steps, base_on_numpy):
    d = np.concatenate([steps[0][-1], steps[1][-1]])
    text = page("delayed.md")
    np.testing.assert_array_equal(X @ W, [[1, 1], [0.25, 0.75]])
    np.testing.assert_array_equal(X @ X.T, [[2, 1], [1, 1]])
    assert "Z = X W = | 1 1 | G = X Xᵀ = | 2 1 | | 0.25 0.75 | | 1 1 |" in text
    z = X[1] @ W + X[1] @ X[0] * d[0]
    assert f"z₂ = Z₂ + G₂₁ d₁ = (0.25, 0.75) + 1 · (0.5, -0.5) = {written(z)}" in text
    np.testing.assert_allclose(z, steps[1][2][0])
    np.testing.assert_allclose(W + X.T @ d, steps[-1][0], rtol=1e-15)
    # and so does the code that trains
    learned = [W.copy(), V.copy()]
    base_on_numpy.learn(SPEC, [learned], Batches(X, LABELS, [1.0, 1.0]), Rule())
    assert_weights(learned, steps[-1], 1e-15)
    # the question at the end, by both ways
    third = np.array([1.0, 0.0])
    np.testing.assert_array_equal(third @ W, [0.75, 0.25])
    np.testing.assert_array_equal(X @ third, [1, 0])
    np.testing.assert_allclose(third @ W + third @ X.T @ d, third @ learned[0], rtol=1e-15)


def test_skipping_zeros_gives_the_same_sum():
    pixels, scale, shift, w = np.array([0, 100, 0]), 0.01, 0.01, np.array([1, 2, 3])
    x, u, r = pixels * scale + shift, pixels * scale, shift * w.sum()
    text = page("zeros.md")
    assert "x W = 0.01 + 2.02 + 0.03 = 2.06" in text
    assert "u W = 1 · 2 = 2, one multiplication, and r = 0.01 · (1 + 2 + 3) = 0.06" in text
    np.testing.assert_allclose([x @ w, u @ w, r], [2.06, 2, 0.06])
    np.testing.assert_allclose(u @ w + r, x @ w)

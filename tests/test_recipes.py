"""Recipes: the published settings, and how they adapt to data."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler

from backends import select
from backends.functions import LOSSES
from tests.conftest import samples
from trainer import MLP, fit, load
from trainer.data import Dataset, limited
from trainer.recipes import (
    RECIPES,
    SMOOTHED,
    build,
    changed,
    default_recipe,
    input_map,
    recorded,
    smoothed_targets,
)


@pytest.fixture(scope="module")
def digits():
    return load("digits")


def test_rashid_is_the_lessons_network():
    recipe = RECIPES["rashid"]
    assert (recipe.hidden, recipe.loss, recipe.bias) == ((200,), "rashid", False)
    assert (recipe.learning_rate, recipe.batch_size, recipe.epochs) == (0.1, 1, 5)
    assert not recipe.shuffle


def test_the_other_lessons_differ_from_it_in_what_they_say():
    rashid = RECIPES["rashid"]
    book, hundred = RECIPES["book"], RECIPES["hundred"]
    assert replace(rashid, name="book", about=book.about, init="fan_in") == book
    assert replace(rashid, name="hundred", about=hundred.about, epochs=24, limit=100) == hundred


def test_the_books_hundred_samples_are_mnists_first(data_folder):
    book = np.loadtxt(
        data_folder / "hundred" / "mnist_train_100.csv", delimiter=",", dtype=np.uint8
    )
    first = limited(load(data_folder / "mnist"), RECIPES["hundred"].limit)
    np.testing.assert_array_equal(first.train_x, book[:, 1:])
    np.testing.assert_array_equal(first.train_y, book[:, 0])


def test_the_digits_get_their_own_recipe_and_all_else_the_lessons(digits):
    assert default_recipe(digits) is RECIPES["digits"]
    assert default_recipe(replace(digits, kind="csv")) is RECIPES["rashid"]


@pytest.mark.parametrize(("inputs", "least"), [("scaled", 0.01), ("symmetric", -1.0)])
@pytest.mark.parametrize("value_range", [(0.0, 255.0), (0.0, 16.0), (-2.5, 3.5)])
def test_scaled_inputs_run_up_to_one(inputs, least, value_range):
    scale, shift = input_map(inputs, value_range, np.zeros((1, 1)))
    assert np.array(value_range) * scale + shift == pytest.approx([least, 1.0])


def test_scaled_inputs_of_one_value_are_defined():
    assert input_map("scaled", (3.0, 3.0), np.zeros((1, 1))) == (0.0, 0.01)


def test_standardised_inputs_are_scikit_learns_with_constant_features_at_zero(digits):
    x = digits.train_x
    scale, shift = input_map("standardised", digits.value_range, x)
    assert x * scale + shift == pytest.approx(StandardScaler().fit_transform(x.astype(float)))
    constant = x.min(axis=0) == x.max(axis=0)
    assert constant.any()
    assert not (digits.test_x * scale + shift)[:, constant].any()


def test_a_network_takes_width_classes_and_map_from_the_data(digits):
    model = build(RECIPES["rashid"], digits, backend=select("cpu"), seed=3)
    assert model.sizes == (64, 200, 10)
    assert float(model.spec.scale) == pytest.approx(0.99 / 16)
    assert model.seed == 3


def test_adam_takes_its_own_rate_and_no_momentum():
    adam = changed(RECIPES["fast"], {"optimizer": "adam"})
    assert (adam.learning_rate, adam.momentum) == (0.001, 0.0)
    given = changed(RECIPES["fast"], {"optimizer": "adam", "learning_rate": 0.01})
    assert given.learning_rate == 0.01


# --- tables ---------------------------------------------------------------------------------


def trained_on(x, y, seed):
    """Train the recipe `table` on all samples and return how many of them are right."""
    data = Dataset(
        "made", x, y, x, y, None, (0, 1), (float(x.min()), float(x.max())), "csv", "made"
    )
    recipe = RECIPES["table"]
    model = build(recipe, data, backend=select("cpu"), seed=seed)
    for _ in fit(model, x, y, recipe, seed=seed):
        pass
    return int(model.count_right(x, y))


@pytest.mark.parametrize(
    ("low", "dtype"),
    [(0, np.uint8), pytest.param(0, np.float32, marks=pytest.mark.thorough), (-1, np.float32)],
)
def test_a_table_of_xor_is_learned(low, dtype):
    x = np.array([[low, low], [low, 1], [1, low], [1, 1]], dtype=dtype)
    right = [trained_on(x, np.array([0, 1, 1, 0]), seed) for seed in range(20)]
    assert right.count(4) >= 19


@pytest.mark.parametrize("rows", [1, 2, 33, 50])
def test_a_table_of_few_rows_or_with_a_constant_column_is_learned(rows):
    rng = np.random.default_rng(rows)
    x = rng.normal(size=(rows, 5)).astype(np.float32)
    x[:, 0] = 7
    assert trained_on(x, (x[:, 1] > x[:, 2]).astype(np.int64), 0) == rows


def test_a_table_with_an_outlier_is_learned():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 5)).astype(np.float32)
    x[7, 3] = 1e6
    assert trained_on(x, (x[:, 1] > x[:, 2]).astype(np.int64), 0) > 490


# --- label smoothing ------------------------------------------------------------------------


@pytest.mark.parametrize("smoothing", [0.0, 0.05, 0.4])
def test_label_smoothing_is_torchs(backend, smoothing):
    torch = pytest.importorskip("torch")
    low, high = smoothed_targets("cross_entropy", 5, smoothing)
    model = MLP(
        [7, 5],
        backend=backend,
        loss="cross_entropy",
        bias=True,
        dtype="float64",
        scale=1.0,
        shift=0.0,
        target_low=low,
        target_high=high,
    )
    x, y = samples(12, 7, 5)
    W, b = (torch.tensor(w, requires_grad=True) for w in model.get_weights())
    loss = torch.nn.functional.cross_entropy(
        torch.tensor(x) @ W + b, torch.tensor(y), label_smoothing=smoothing
    )
    loss.backward()
    ours, gradients = model.loss_and_gradients(x, y)
    assert ours == pytest.approx(loss.item(), rel=1e-12)
    for gradient, theirs in zip(gradients, (W.grad, b.grad), strict=True):
        np.testing.assert_allclose(backend.to_numpy(gradient), theirs, rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("classes", [1, 2, 10])
@pytest.mark.parametrize("loss", SMOOTHED)
def test_smoothed_targets_are_the_mean_of_labels_that_are_not_always_true(loss, classes):
    given, anything = np.eye(classes)[0], np.full(classes, 1 / classes)
    low, high = smoothed_targets(loss, classes, 0.3)
    desired = 0.7 * given + 0.3 * anything
    np.testing.assert_allclose([high, *[low] * (classes - 1)], desired, rtol=1e-15)


def test_a_recipe_smooths_the_targets_and_records_it(digits):
    cpu = select("cpu")
    recipe = replace(RECIPES["rashid"], loss="cross_entropy", label_smoothing=0.2)
    spec = build(recipe, digits, backend=cpu).spec
    assert (spec.target_low, spec.target_high) == pytest.approx((0.02, 0.82))
    assert recipe.settings()["label_smoothing"] == 0.2
    assert recorded("rashid", recipe.settings()) == replace(recipe, about="")
    older = recipe.settings()
    del older["label_smoothing"]
    assert recorded("rashid", older).label_smoothing == 0
    for loss, known in LOSSES.items():
        spec = build(replace(RECIPES["rashid"], loss=loss), digits, backend=cpu).spec
        assert (spec.target_low, spec.target_high) == known.targets


@pytest.mark.parametrize("loss", sorted(set(LOSSES) - set(SMOOTHED)))
def test_other_targets_are_not_smoothed(digits, loss):
    recipe = replace(RECIPES["rashid"], loss=loss, label_smoothing=0.2)
    message = f"label_smoothing=0.2 does not go with loss='{loss}', .*take loss='binary_cross_entro"
    with pytest.raises(ValueError, match=message):
        build(recipe, digits, backend=select("cpu"))


@pytest.mark.parametrize("smoothing", [-0.1, 1.0, float("nan"), float("inf")])
def test_label_smoothing_out_of_range(digits, smoothing):
    recipe = replace(RECIPES["rashid"], loss="cross_entropy", label_smoothing=smoothing)
    with pytest.raises(ValueError, match="expected a number from 0 to below 1"):
        build(recipe, digits, backend=select("cpu"))

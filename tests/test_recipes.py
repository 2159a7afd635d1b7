"""Recipes: the published settings, and how they adapt to data."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler

from backends import select
from trainer import load
from trainer.recipes import RECIPES, build, default_recipe, input_map


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
    assert replace(rashid, name="hundred", about=hundred.about, epochs=24) == hundred


def test_the_digits_get_their_own_recipe_and_all_else_the_lessons(digits):
    assert default_recipe(digits) is RECIPES["digits"]
    assert default_recipe(replace(digits, kind="csv")) is RECIPES["rashid"]


@pytest.mark.parametrize("value_range", [(0.0, 255.0), (0.0, 16.0), (-2.5, 3.5)])
def test_scaled_inputs_run_from_a_hundredth_to_one(value_range):
    scale, shift = input_map("scaled", value_range, np.zeros((1, 1)))
    assert np.array(value_range) * scale + shift == pytest.approx([0.01, 1.0])


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

"""The search for a learning rate: what it measures, suggests and leaves alone."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import scipy.sparse
from scipy.special import expit

from tests.conftest import assert_weights, samples
from trainer import (
    MLP,
    Diverged,
    EpochReport,
    TrainingSettings,
    find_learning_rate,
    fit,
    load,
)
from trainer.rate_search import RateSearch, conclude
from trainer.recipes import RECIPES, augmented, build, changed
from trainer.training import loop


@pytest.fixture(scope="module")
def digits():
    return load("digits")


def network(backend="cpu", **settings):
    settings = {"loss": "cross_entropy", "activation": "tanh", "dtype": "float64"} | settings
    return MLP([6, 5, 3], backend=backend, scale=1.0, shift=0.0, init="fan_in", **settings)


def learnable(n=400, seed=0):
    """Samples whose classes a network can learn."""
    x, _ = samples(n, 6, 3, seed)
    return x, np.argmax(x[:, :3] + 0.5 * x[:, 3:], axis=1)


def equal(a: RateSearch, b: RateSearch) -> bool:
    same = (a.suggestion, a.diverged, a.updates) == (b.suggestion, b.diverged, b.updates)
    return same and all(
        np.array_equal(getattr(a, name), getattr(b, name)) for name in ("rates", "losses")
    )


# --- outside truth ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(n, marks=pytest.mark.thorough) for n in (1, 2, 3))]
)
def test_gradient_descent_diverges_near_the_rate_that_the_curvature_allows(backend, seed):
    """Without a hidden layer and with targets around ½ the loss is nearly quadratic.

    Its Hessian is XᵀX / 4n for each class, and descent is stable below the rate 2/λ, λ being the
    largest eigenvalue. Batches keep the residual from vanishing before the rate gets there.
    """
    x, y = samples(2_000, 6, 2, seed)
    x *= [3, 1, 1, 1, 1, 0.5]
    critical = 2 / np.linalg.eigvalsh(x.T @ x / (4 * len(x))).max()
    soft = {"loss": "binary_cross_entropy", "target_low": 0.4, "target_high": 0.6}
    model = MLP(
        [6, 2], backend=backend, scale=1.0, shift=0.0, init="uniform:0.5", dtype="float64", **soft
    )
    found = find_learning_rate(model, x, y, batch_size=100)
    assert found.suggestion < critical < found.diverged < 2 * critical

    def descended(rate: float) -> float:
        """The loss of plain descent after 200 steps, over that at the start."""
        (W,) = model.get_weights()
        targets = np.where(np.arange(2) == y[:, None], 0.6, 0.4)
        start = 0.0
        for step in range(200):
            z = x @ W
            loss = np.mean(np.sum(np.logaddexp(0, z) - targets * z, axis=1))
            start = start if step else loss
            W = W - rate * x.T @ (expit(z) - targets) / len(x)
        return loss / start

    assert descended(found.suggestion) < 1 < descended(found.diverged)


@pytest.mark.parametrize(
    ("n", "size"),
    [
        pytest.param(400, 1, marks=pytest.mark.thorough),
        (300, 7),
        pytest.param(90, 90, marks=pytest.mark.thorough),
        (50, 64),
    ],
)
def test_the_losses_are_those_of_the_batches_before_their_updates(n, size):
    x, y = learnable(n)
    model = network(bias=True)
    found = find_learning_rate(model, x, y, batch_size=size, highest=1.0)
    updates = max(300, -(-3000 // size), -(-n // size))
    assert (found.updates, len(found.rates), found.diverged) == (updates, 100, None)
    weights, losses = model.get_weights(), []
    twin = network(bias=True)
    batches = [slice(i, i + size) for i in range(0, n, size)]
    rates = 1e-6 ** (1 - np.arange(updates) / (updates - 1))
    for update, rate in enumerate(rates):
        rows = batches[update % len(batches)]
        twin.set_weights(weights)
        loss, gradients = twin.loss_and_gradients(x[rows], y[rows])
        losses.append(loss)
        weights = [w - rate * g for w, g in zip(weights, gradients, strict=True)]
    edges = np.linspace(0, updates, 101).astype(int)
    grouped = [np.mean(losses[a:b]) for a, b in pairwise(edges)]
    np.testing.assert_allclose(found.losses, grouped, rtol=1e-9)
    means = [np.exp(np.log(rates[a:b]).mean()) for a, b in pairwise(edges)]
    np.testing.assert_allclose(found.rates, means, rtol=1e-9)


def test_the_losses_of_a_training_are_those_of_its_epoch():
    x, y = learnable()
    training = fit(network(), x, y, epochs=2, batch_size=32, learning_rate=0.1)
    assert training.losses().shape == (0,)
    for report in training:
        losses = training.losses()
        mean = losses.mean(dtype=float)
        assert mean == pytest.approx(report.train_loss, rel=1e-12)
        assert len(losses) == (len(x) if isinstance(report, EpochReport) else report.samples)


# --- what is left alone, and what decides ---------------------------------------------------


def test_the_model_and_the_samples_are_left_alone(backend):
    x, y = learnable()
    model = network(backend, bias=True)
    before, x_before, y_before = model.get_weights(), x.copy(), y.copy()
    find_learning_rate(model, x, y, batch_size=16, momentum=0.9, shuffle=True, seed=0)
    assert_weights(model.get_weights(), before, 0)
    assert np.array_equal(x, x_before)
    assert np.array_equal(y, y_before)


def test_the_seed_decides_and_the_time_of_reports_does_not(monkeypatch):
    x, y = learnable(2_000)
    reports = []

    def search(seed):
        return find_learning_rate(
            network(), x, y, batch_size=4, shuffle=True, seed=seed, on_progress=reports.append
        )

    first = search(0)
    monkeypatch.setattr(loop, "_REPORT_SECONDS", 0.0)
    reports.clear()
    assert equal(search(0), first)
    assert len(reports) > 50
    assert not equal(search(1), first)


def test_what_the_search_sets_itself_changes_nothing():
    x, y = learnable()
    plain = {"batch_size": 16, "sampling": "with-replacement"}
    more = {"epochs": 9, "steps": 7, "learning_rate": 3.0, "schedule": "one-cycle"}
    found = find_learning_rate(network(), x, y, seed=0, **plain)
    settings = TrainingSettings(**plain | more)
    assert equal(find_learning_rate(network(), x, y, settings, seed=0), found)


# --- everything that fit trains -------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"optimizer": "adam"},
        {"optimizer": "adamw", "weight_decay": 0.1},
        {"momentum": 0.9},
        {"optimizer": "nesterov", "momentum": 0.9},
        {"batch_size": 1},
        {"batch_size": 1, "optimizer": "adam"},
        {"batch_size": 10_000},
        {"sampling": "with-replacement"},
        {"dropout": 0.3, "input_dropout": 0.1, "clip": 1.0},
        {"batch_norm": True, "averaging": 0.9},
    ],
    ids=str,
)
def test_a_rate_is_suggested_whatever_is_trained(changes):
    x, y = learnable()
    model = network(bias=True)
    settings = {"batch_size": 32, "shuffle": True, "seed": 0} | changes
    found = find_learning_rate(model, x, y, **settings)
    assert found.has_fallen
    for _ in fit(model, x, y, epochs=20, learning_rate=found.suggestion, **settings):
        pass
    assert model.accuracy(*learnable(seed=1)) > 0.85


def test_sparse_samples_and_weights_of_samples():
    x, y = learnable()
    x[np.abs(x) < 0.5] = 0
    settings = {"batch_size": 16, "sample_weight": np.arange(len(x))}
    sparse = find_learning_rate(network(), scipy.sparse.csr_array(x), y, **settings)
    dense = find_learning_rate(network(), x, y, **settings)
    np.testing.assert_allclose(sparse.losses, dense.losses, rtol=1e-9)
    assert sparse.suggestion == dense.suggestion
    plain = find_learning_rate(network(), x, y, batch_size=16)
    assert not np.allclose(plain.losses[:9], dense.losses[:9])


def test_a_recipe_that_deforms_images_and_weighs_classes(digits):
    recipe = changed(RECIPES["fast"], {"hidden": (30,), "class_weight": "balanced", "limit": None})
    model = build(recipe, digits, backend="cpu")
    data, deformation = augmented(recipe, digits, "cpu")
    found = find_learning_rate(
        model, data.train_x, data.train_y, recipe, deformation=deformation, seed=0
    )
    assert 0.001 < found.suggestion < 10


def test_the_suggestion_trains_the_digits_recipe_as_well_as_its_own_rate(digits):
    recipe = RECIPES["digits"]
    right = []
    for changes in ({}, {"learning_rate": None}):
        model = build(recipe, digits, backend="cpu")
        if changes:
            found = find_learning_rate(model, digits.train_x, digits.train_y, recipe, seed=0)
            assert found.diverged is None  # a sigmoid's squared error is bounded
            changes = {"learning_rate": found.suggestion}
        for _ in fit(model, digits.train_x, digits.train_y, recipe, seed=0, **changes):
            pass
        right.append(model.accuracy(digits.test_x, digits.test_y))
    assert right[1] > right[0] - 0.015


# --- the ends, and what is said of them -------------------------------------------------------


def test_the_search_ends_where_the_loss_diverges():
    x, y = learnable()
    found = find_learning_rate(network(), x, y, batch_size=16)
    assert found.rates[0] < found.suggestion < found.diverged < found.rates[-1] < 90
    assert found.updates < 300
    start = found.losses[:8].mean()
    assert (found.losses[found.rates >= found.diverged] > start).all()
    assert found.losses[-1] > 4 * found.smoothed.min()
    assert conclude(found) == (
        f"learning rate {found.suggestion:g}, where the loss stopped falling; it diverged at"
        f" {found.diverged:.2g}"
    )


def test_a_number_that_is_infinite_is_the_end_too():
    x, y = learnable()
    model = network(dtype="float32", activation="relu")
    found = find_learning_rate(model, 1e3 * x, y, batch_size=200, highest=1e30)
    assert 0 < found.suggestion < found.diverged
    assert np.isfinite(found.losses).all()


def test_a_divergence_after_the_search_is_none(monkeypatch):
    """The rest of the last report's samples is learned at the highest rate."""
    x, y = learnable(3_200)
    x[3_100:] = 1e300

    def search():
        model = network(activation="relu")
        return find_learning_rate(model, x[order], y[order], batch_size=10, highest=0.1)

    order = np.arange(3_200)
    monkeypatch.setattr("trainer.rate_search._MOST_UPDATES", 300)
    monkeypatch.setattr(loop, "_REPORT_SECONDS", 1e9)
    late = search()
    order = np.arange(3_000)
    assert late.diverged is None
    assert equal(late, search())


def test_weights_that_no_rate_can_train():
    x, y = learnable()
    model = network(dtype="float32", activation="relu")
    model.set_weights([np.full(w.shape, 1e30) for w in model.get_weights()])
    with pytest.raises(Diverged, match="try smaller initial weights or input values"):
        find_learning_rate(model, x, y, batch_size=16)


def test_rates_that_are_too_low_or_too_high_suggest_none():
    x, y = learnable()
    low = find_learning_rate(network(), x, y, batch_size=16, highest=1e-5)
    assert (low.suggestion, low.has_fallen) == (None, False)
    nothing = "no learning rate to suggest: the loss did not fall with rates from"
    assert conclude(low) == f"{nothing} 1e-06 to 9.9e-06"
    high = find_learning_rate(network(), x, y, batch_size=16, lowest=1e5, highest=1e9)
    assert high.suggestion is None
    assert conclude(high) == (
        "no learning rate to suggest: 100000 is too high already; try lower rates"
    )
    noise = samples(3_000, 6, 3)  # from which nothing can be learned
    found = find_learning_rate(network(), *noise, batch_size=10)
    assert (found.suggestion, found.has_fallen) == (None, False)
    assert conclude(found).startswith(f"{nothing} 1.1e-06 to ")
    assert f"; it diverged at {found.diverged:.2g}" in conclude(found)


def test_a_loss_that_still_falls_asks_for_higher_rates():
    x, y = learnable()
    found = find_learning_rate(network(), x, y, batch_size=16, highest=0.03)
    assert (found.suggestion, found.has_fallen) == (None, True)
    assert conclude(found) == (
        "no learning rate to suggest: the loss was still falling at 0.029; try higher rates"
    )


def test_a_loss_that_no_rate_makes_diverge(digits):
    recipe = RECIPES["digits"]
    found = find_learning_rate(build(recipe, digits), digits.train_x, digits.train_y, recipe)
    assert conclude(found).endswith("stopped falling; no rate up to 91 made it diverge")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lowest": 1.0, "highest": 0.1}, "lowest=1.0, highest=0.1: expected finite rates, the"),
        ({"lowest": 0.0}, "lowest=0.0, highest=100.0: expected finite rates"),
        ({"highest": np.inf}, "highest=inf: expected finite rates"),
        ({"highest": np.nan}, "highest=nan: expected finite rates"),
        ({"optimizer": "cg"}, "optimizer='cg' sees all samples at every step: take trainer.min"),
        ({"batch_size": 0}, "batch_size=0: expected a whole number"),
    ],
)
def test_mistakes_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        find_learning_rate(network(), *learnable(), **options)
    with pytest.raises(TypeError, match="no setting 'rate'"):
        find_learning_rate(network(), *learnable(), rate=1)
    with pytest.raises(ValueError, match="train_x has no samples"):
        find_learning_rate(network(), np.zeros((0, 6)), [])


def test_one_sample_is_enough(monkeypatch):
    monkeypatch.setattr("trainer.rate_search._LEAST_SAMPLES", 300)
    found = find_learning_rate(network(), *learnable(1), batch_size=1)
    assert found.has_fallen

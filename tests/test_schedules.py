"""Schedules, against PyTorch's where it is installed, and against what the papers say."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.recipes import RECIPES, changed
from trainer.training.schedules import schedule


def rates(name, updates, per_epoch=1, rate=0.5, warmup=0.0):
    rate_of = schedule(name, rate, updates, per_epoch, warmup)
    return [rate_of(t) for t in range(updates)]


@pytest.mark.parametrize("updates", [1, 2, 10, 337])
@pytest.mark.parametrize(
    ("name", "theirs", "options"),
    [
        ("cosine", "CosineAnnealingLR", lambda n: {"T_max": n}),
        ("one-cycle", "OneCycleLR", lambda n: {"max_lr": 0.5, "total_steps": n}),
        ("step:0.5/2", "StepLR", lambda n: {"step_size": 6, "gamma": 0.5}),
    ],
)
def test_are_pytorchs(updates, name, theirs, options):
    if name == "one-cycle" and updates < 4:
        pytest.skip("PyTorch divides by zero, or starts in the middle")
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.5)
    theirs = getattr(torch.optim.lr_scheduler, theirs)(optimizer, **options(updates))
    desired = []
    for _ in range(updates):
        desired.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        theirs.step() if len(desired) < updates else None
    assert rates(name, updates, per_epoch=3) == pytest.approx(desired, rel=1e-6, abs=1e-9)


def test_the_paper_of_2010_goes_from_a_thousandth_to_a_millionth():
    recipe = RECIPES["deep-big-simple"]
    rate = schedule(recipe.schedule, recipe.learning_rate, 60_000 * recipe.epochs, 60_000)
    assert rate(0) == rate(59_999) == 1e-3
    assert rate(60_000) < 1e-3
    assert rate(60_000 * recipe.epochs - 1) == pytest.approx(1e-6, rel=0.02)


@given(
    name=st.sampled_from(["constant", "cosine", "one-cycle", "step:0.1/3"]),
    updates=st.integers(1, 300),
    warmup=st.floats(0, 0.99),
)
def test_are_never_above_the_rate_nor_below_zero(name, updates, warmup):
    warmup = 0.0 if name == "one-cycle" else warmup
    found = rates(name, updates, warmup=warmup)
    assert 0 <= min(found) <= max(found) <= 0.5 * (1 + 1e-12)


def test_a_warm_up_rises_evenly_then_the_schedule_begins():
    found = rates("cosine", 100, warmup=0.2)
    assert found[:20] == pytest.approx([0.5 * t / 20 for t in range(1, 21)])
    assert found[20:] == pytest.approx(rates("cosine", 80))
    assert found[20] == 0.5


@pytest.mark.parametrize(
    "name", ["", "linear", "cosine:1", "step", "step:0.5", "step:2/1", "step:0/1", "step:nan/1",
             "step:0.5/0", "step:0.5/1.5", "step:0.5/x"],
)  # fmt: skip
def test_an_unknown_one_is_refused(name):
    with pytest.raises(ValueError, match="expected constant, cosine, one-cycle or step:FACTOR"):
        schedule(name, 0.1, 10, 1)


@pytest.mark.parametrize("warmup", [-0.1, 1.0, math.nan])
def test_a_warm_up_is_a_share(warmup):
    with pytest.raises(ValueError, match="expected a share of the updates"):
        schedule("cosine", 0.1, 10, 1, warmup)
    with pytest.raises(ValueError, match="one-cycle' has its own"):
        schedule("one-cycle", 0.1, 10, 1, 0.1)


def test_a_recipe_takes_all_its_updates_into_account(backend):
    from tests.conftest import assert_weights, samples
    from trainer import MLP, fit

    x, y = samples(23, 4, 3)
    network = {"sizes": [4, 3, 3], "backend": backend}
    by_recipe, by_hand = MLP(**network), MLP(**network)
    changes = {"schedule": "cosine", "warmup": 0.25, "epochs": 4, "batch_size": 6}
    list(fit(by_recipe, x, y, changed(RECIPES["rashid"], changes), seed=0))
    by_update = rates("cosine", 16, 4, 0.1, 0.25)  # four epochs of four batches
    list(fit(by_hand, x, y, epochs=4, batch_size=6, learning_rate=lambda t: by_update[t], seed=0))
    assert_weights(by_recipe.get_weights(), by_hand.get_weights(), 0)

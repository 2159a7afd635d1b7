"""The default recipe learns the same on two devices: a GPU and the CPU, the CPU and base.py.

``--lessons FOLDER`` takes other data than the 8×8 digits, ``--lessons-samples`` the first of them.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from backends import Backend, select
from trainer import Dataset, EpochReport, fit, load
from trainer.recipes import RECIPES, build

RECIPE = RECIPES["rashid"]
ACCURACY = 0.002  # of the test samples
WEIGHTS = 1e-9  # relative, after online training in float64
EXACT = 2_000  # samples
EPOCHS = 5
PATIENCE = 20.0  # seconds a device, after which no epoch starts


@pytest.fixture(scope="module")
def data(pytestconfig) -> Dataset:
    found = load(pytestconfig.getoption("--lessons"))
    n = pytestconfig.getoption("--lessons-samples") or len(found.train_x)
    return replace(found, train_x=found.train_x[:n], train_y=found.train_y[:n])


@pytest.fixture(scope="module", params=["cpu", pytest.param("gpu", marks=pytest.mark.gpu)])
def pair(request) -> tuple[Backend, Backend]:
    """A backend, and the one it is compared with."""
    if request.param == "gpu":
        return request.getfixturevalue("gpu_backend"), select("cpu")
    return select("cpu"), request.getfixturevalue("base_on_numpy")


def train(
    backend: Backend, data: Dataset, dtype: str, n: int, batch: int, shuffle: bool
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Train the first n samples once; return the weights before and after."""
    model = build(replace(RECIPE, dtype=dtype), data, backend=backend)
    before = model.get_weights()
    x, y = data.train_x[:n], data.train_y[:n]
    settings: dict[str, Any] = {"batch_size": batch, "shuffle": shuffle, "seed": 1}
    for _ in fit(model, x, y, epochs=1, learning_rate=RECIPE.learning_rate, **settings):
        pass
    return before, model.get_weights()


def accuracies(backend: Backend, data: Dataset) -> list[dict[str, Any]]:
    """Train in float32 and evaluate after each epoch."""
    model = build(RECIPE, data, backend=backend)
    started, rows = time.monotonic(), []
    test = (data.test_x, data.test_y)
    for report in fit(model, data.train_x, data.train_y, epochs=EPOCHS, test=test):
        if isinstance(report, EpochReport):
            rows.append({"accuracy": report.test_accuracy, "seconds": report.seconds})
            if time.monotonic() - started > PATIENCE:
                break
    return rows


def test_online_training_in_float64_ends_with_the_same_weights(pair, data, record_property):
    n = min(EXACT, len(data.train_x))
    (before, one), (_, two) = (train(b, data, "float64", n, 1, False) for b in pair)
    arrays = list(zip(before, one, two, strict=True))
    relative = float(np.max([abs(a - b).max() / abs(b).max() for _, a, b in arrays]))
    changes = [abs(a - b).max() / abs(b - start).max() for start, a, b in arrays]
    of_change = float(np.max(changes))
    found = {"samples": n, "relative": relative, "of_change": of_change, "allowed": WEIGHTS}
    record_property("exact", found)
    assert relative <= WEIGHTS


@pytest.mark.parametrize(("batch_size", "most"), [(1, 10_000), (128, 60_000)])
def test_the_same_seed_gives_the_same_bits(pair, data, record_property, batch_size, most):
    n = min(most, len(data.train_x))
    one, two = (train(pair[0], data, "float32", n, batch_size, True)[1] for _ in range(2))
    same = all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))
    record_property("twice", {"samples": n, "batch": batch_size, "same": same})
    assert same


def test_reaches_the_same_accuracy(pair, data, record_property):
    one, two = rows = [accuracies(backend, data) for backend in pair]
    common = min(map(len, rows))
    apart = abs(one[common - 1]["accuracy"] - two[common - 1]["accuracy"])
    record_property("epochs", rows)
    found = {"common_epochs": common, "apart": apart, "allowed": ACCURACY}
    record_property("accuracy", found)
    assert apart <= ACCURACY + 1e-12


def test_a_slow_device_trains_fewer_epochs(data, base_on_numpy, monkeypatch):
    monkeypatch.setattr("tests.test_devices.PATIENCE", 0.0)
    assert len(accuracies(base_on_numpy, data)) < EPOCHS

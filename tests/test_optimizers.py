import numpy as np
import pytest

from tests.conftest import assert_weights, plain_adam, plain_sgd, samples
from trainer import MLP
from trainer.optimizers import OPTIMIZERS


@pytest.mark.parametrize(
    ("name", "momentum", "reference"),
    [("sgd", 0.0, plain_sgd), ("sgd", 0.9, plain_sgd), ("adam", 0.0, plain_adam)],
)
def test_twenty_steps_are_the_references(backend, name, momentum, reference):
    x, y = samples(20 * 5, 3, 2)
    model = MLP([3, 2], backend=backend, loss="cross_entropy", bias=True, dtype="float64", scale=1)
    optimizer = OPTIMIZERS[name](backend, model.weights, momentum)
    desired, states = model.get_weights(), [{}, {}]
    options = {"momentum": momentum} if name == "sgd" else {}
    rates = np.random.default_rng(0).uniform(0, 0.5, 20).tolist()
    for start in range(0, 20, 10):  # what is remembered lasts from call to call
        rows = slice(5 * start, 5 * start + 50)
        batches = model.samples(x[rows]), model.labels(y[rows], 50)
        optimizer.learn(model.spec, model.weights, *batches, rates[start : start + 10], 5, 0.0)
    actual = model.get_weights()
    for step, rate in enumerate(rates):
        model.set_weights(desired)
        batch = slice(5 * step, 5 * step + 5)
        gradients = [backend.to_numpy(g) for g in model.gradients(x[batch], y[batch])]
        desired = [
            reference(w, g, state, rate, **options)
            for w, g, state in zip(desired, gradients, states, strict=True)
        ]
    assert_weights(actual, desired, 1e-12)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_float32_stays_float32(backend, name):
    x, y = samples(4, 3, 2)
    model = MLP([3, 2], backend=backend)
    values, labels = model.samples(x), model.labels(y, 4)
    optimizer = OPTIMIZERS[name](backend, model.weights)
    optimizer.learn(model.spec, model.weights, values, labels, [0.1], 4, 0.0)
    assert model.weights[0].dtype == backend.xp.float32


def test_adam_takes_no_momentum(backend):
    with pytest.raises(ValueError, match=r"momentum=0\.5 goes with optimizer='sgd'"):
        OPTIMIZERS["adam"](backend, [], 0.5)

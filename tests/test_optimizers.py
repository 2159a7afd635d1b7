import numpy as np
import pytest

from tests.conftest import assert_weights, plain_adam, plain_sgd
from trainer.optimizers import OPTIMIZERS


@pytest.mark.parametrize(
    ("name", "momentum", "reference"),
    [("sgd", 0.0, plain_sgd), ("sgd", 0.9, plain_sgd), ("adam", 0.0, plain_adam)],
)
def test_twenty_steps_are_the_references(backend, name, momentum, reference):
    rng = np.random.default_rng(0)
    desired = [rng.normal(size=(3, 2)), rng.normal(size=2)]
    weights = [backend.asarray(w, dtype="float64") + 0.0 for w in desired]
    optimizer = OPTIMIZERS[name](backend, weights, momentum)
    states = [{}, {}]
    options = {"momentum": momentum} if name == "sgd" else {}
    for _ in range(20):
        gradients, rate = [rng.normal(size=w.shape) for w in desired], rng.uniform(0, 0.5)
        optimizer.step(weights, [backend.asarray(g) for g in gradients], rate)
        desired = [
            reference(w, g, state, rate, **options)
            for w, g, state in zip(desired, gradients, states, strict=True)
        ]
    assert_weights([backend.to_numpy(w) for w in weights], desired, 1e-12)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_float32_stays_float32(backend, name):
    weights = [backend.asarray([1.0, 2.0], dtype="float32")]
    OPTIMIZERS[name](backend, weights).step(weights, weights, 0.1)
    assert weights[0].dtype == backend.xp.float32


def test_adam_takes_no_momentum(backend):
    with pytest.raises(ValueError, match=r"momentum=0\.5 goes with optimizer='sgd'"):
        OPTIMIZERS["adam"](backend, [], 0.5)

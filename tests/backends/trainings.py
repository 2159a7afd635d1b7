"""Networks and samples of every kind, to be learned by two backends."""

from dataclasses import replace

import numpy as np
from hypothesis import strategies as st

from backends import Batches, Rule
from backends.functions import ACTIVATIONS, LOSSES, Activation
from trainer import MLP

HALF_AS_MUCH = replace(  # of the cross-entropy and of its gradient
    LOSSES["cross_entropy"],
    value=lambda xp, *args: LOSSES["cross_entropy"].value(xp, *args) / 2,
    delta=lambda xp, *args: LOSSES["cross_entropy"].delta(xp, *args) / 2,
)
# an activation as one who adds one writes it, without kernels and without an inverse
SOFTSIGN = Activation(lambda xp, z: z / (1 + xp.abs(z)), lambda xp, a: (1 - xp.abs(a)) ** 2)


def problem(draw, density, features, n, kind):
    """Samples of which the fraction `density` of numbers is not zero, and labels 0 to 2."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    ink = rng.random((n, features)) < density
    if kind == "uint8":
        return (rng.integers(1, 256, ink.shape) * ink).astype(np.uint8), rng.integers(0, 3, n)
    return rng.normal(size=ink.shape) * ink, rng.integers(0, 3, n)


@st.composite
def trainings(draw):
    """A network, samples and how they are learned."""
    features = draw(st.integers(1, 40))
    kind = draw(st.sampled_from(["uint8", "float"]))
    scale = 1 / 255 if kind == "uint8" else 0.7
    shift = draw(st.sampled_from([0.0, 0.01, -0.3]))
    if draw(st.booleans()):  # each by itself, as a map may have a vector and a number
        scale = scale * np.linspace(0.5, 1.5, features)
    if draw(st.booleans()):
        # no such numbers that an input comes to 0 but for rounding, where a rectifier has its kink
        shift = shift + np.linspace(-0.1717, 0.4142, features)
    network = {
        "sizes": [features, *draw(st.lists(st.integers(1, 40), max_size=3)), 3],
        "activation": draw(st.sampled_from(list(ACTIVATIONS))),
        "loss": draw(st.sampled_from(list(LOSSES))),
        "bias": draw(st.booleans()),
        "init": "fan_in",
        "scale": scale,
        "shift": shift,
        "seed": 1,
    }
    n = draw(st.integers(1, 120))
    x, y = problem(draw, draw(st.sampled_from([0, 0.05, 0.2, 0.5, 1])), features, n, kind)
    batch_size = draw(st.sampled_from([1, 1, 2, 5, 16, 31, 32, 33, 70]))
    momentum = draw(st.sampled_from([0.0, 0.0, 0.9]))
    # so that a step goes as far with a momentum: what diverges makes any rounding large
    rates = np.random.default_rng(2).uniform(0, 0.1 * (1 - momentum), -(-n // batch_size))
    step = {
        "batch_size": batch_size,
        "momentum": momentum,
        "penalty": draw(st.sampled_from([0.0, 0.0, 0.03])),
        "rates": list(rates),
    }
    return network, x, y, step


def learn(backend, network, x, y, step, dtype="float64"):
    """Train a new network; returns losses, weights and velocities on the host."""
    model = MLP(**{"dtype": dtype, **network}, backend=backend)
    speeds = [backend.xp.zeros_like(w) for w in model.weights] if step["momentum"] else []
    values, labels = model.samples(x), model.labels(y, len(x))
    batches = Batches(values, labels, step["rates"], step["batch_size"], step["penalty"])
    states = [model.weights, speeds] if speeds else [model.weights]
    losses = backend.learn(model.spec, states, batches, Rule(step["momentum"]))
    return [losses, *model.weights, *speeds]

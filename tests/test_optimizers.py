import math

import numpy as np
import pytest

from backends import Batches
from tests.conftest import (
    assert_weights,
    plain_adam,
    plain_adamw,
    plain_nesterov,
    plain_sgd,
    samples,
)
from trainer import MLP, fit
from trainer.settings import TrainingSettings
from trainer.training.optimizers import OPTIMIZERS

REFERENCES = [
    ("sgd", {}, plain_sgd),
    ("sgd", {"momentum": 0.9}, plain_sgd),
    ("nesterov", {"momentum": 0.9}, plain_nesterov),
    ("adam", {}, plain_adam),
    ("adamw", {"weight_decay": 0.3}, plain_adamw),
]
# what each cannot do without
NEEDED = {"nesterov": {"momentum": 0.5}}


@pytest.mark.parametrize("clip", [math.inf, 0.6])
@pytest.mark.parametrize(("name", "options", "reference"), REFERENCES)
def test_twenty_steps_are_the_references(backend, name, options, reference, clip):
    x, y = samples(20 * 5, 3, 2)
    model = MLP([3, 2], backend=backend, loss="cross_entropy", bias=True, dtype="float64", scale=1)
    settings = TrainingSettings(**options, optimizer=name, clip=clip)
    optimizer = OPTIMIZERS[name](backend, model.weights, settings)
    desired, states = model.get_weights(), [{}, {}]
    rates = np.random.default_rng(0).uniform(0, 0.5, 20).tolist()
    for start in range(0, 20, 10):  # what is remembered lasts from call to call
        rows = slice(5 * start, 5 * start + 50)
        part = model.samples(x[rows]), model.labels(y[rows], 50)
        batches = Batches(*part, rates[start : start + 10], 5)
        optimizer.learn(model.spec, model.weights, batches)
    actual, norms = model.get_weights(), []
    for step, rate in enumerate(rates):
        model.set_weights(desired)
        batch = slice(5 * step, 5 * step + 5)
        gradients = [backend.to_numpy(g) for g in model.gradients(x[batch], y[batch])]
        norms.append(np.linalg.norm(np.concatenate([g.ravel() for g in gradients])))
        desired = [
            reference(w, g * min(1.0, clip / norms[-1]), state, rate, **options)
            for w, g, state in zip(desired, gradients, states, strict=True)
        ]
    assert_weights(actual, desired, 1e-12)
    assert clip == math.inf or min(norms) < clip < max(norms)


@pytest.mark.parametrize(
    ("name", "theirs", "options", "their_options"),
    [
        ("nesterov", "SGD", {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True}),
        ("adam", "Adam", {}, {}),
        ("adamw", "AdamW", {"weight_decay": 0.3}, {"weight_decay": 0.3}),
    ],
)
def test_steps_are_pytorchs(base_on_numpy, name, theirs, options, their_options):
    torch = pytest.importorskip("torch")
    x, y = samples(60, 3, 2)
    model = MLP([3, 2], backend=base_on_numpy, loss="cross_entropy", dtype="float64", scale=1)
    W = torch.tensor(model.get_weights()[0], requires_grad=True)
    optimizer = getattr(torch.optim, theirs)([W], lr=0.05, **their_options)
    inputs, labels = torch.tensor(x + 0.01), torch.tensor(y)
    for start in range(0, 60, 5):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(
            inputs[start : start + 5] @ W, labels[start : start + 5]
        )
        loss.backward()
        torch.nn.utils.clip_grad_norm_([W], 0.2)
        optimizer.step()
    settings = {"batch_size": 5, "learning_rate": 0.05, "optimizer": name, "clip": 0.2}
    list(fit(model, x, y, epochs=1, **settings, **options))
    # PyTorch clips to the norm over itself plus a millionth
    assert_weights(model.get_weights(), [W.detach().numpy()], 1e-4)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_float32_stays_float32(backend, name):
    x, y = samples(4, 3, 2)
    for clip in (math.inf, 0.1):
        model = MLP([3, 2], backend=backend)
        batches = Batches(model.samples(x), model.labels(y, 4), [0.1], 4)
        settings = TrainingSettings(**NEEDED.get(name, {}), optimizer=name, clip=clip)
        optimizer = OPTIMIZERS[name](backend, model.weights, settings)
        optimizer.learn(model.spec, model.weights, batches)
        assert model.weights[0].dtype == backend.xp.float32


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("adam", {"momentum": 0.5}, r"momentum=0\.5 goes with optimizer='sgd'"),
        ("adam", {"weight_decay": 0.5}, r"weight_decay=0\.5 goes with optimizer='adamw'"),
        ("sgd", {"weight_decay": 0.5}, r"weight_decay=0\.5 goes with .*'adamw'; sgd takes l2=1"),
        ("nesterov", {}, r"needs a momentum: take momentum=0\.9"),
    ],
)
def test_what_an_optimiser_makes_no_use_of_is_refused(name, options, message):
    with pytest.raises(ValueError, match=message):
        TrainingSettings(**options, optimizer=name).check()

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends import Batches
from backends.regularization import (
    BatchHooks,
    Moments,
    dropout_masks,
    fold_normalization,
)
from tests.conftest import assert_weights, samples
from trainer import MLP, EpochReport, fit

NETWORK = {
    "sizes": [4, 6, 5, 3],
    "activation": "tanh",
    "loss": "cross_entropy",
    "bias": True,
    "init": "glorot",
    "dtype": "float64",
}


def normalized(backend, seed=1, **changes):
    """Draw a network with gains, shifts and running moments that are not those of the start."""
    model, rng = MLP(**NETWORK | changes, backend=backend), np.random.default_rng(seed)
    hidden = model.sizes[1:-1]
    model.set_weights([w + 0.1 * rng.standard_normal(w.shape) for w in model.get_weights()])
    gains = [backend.asarray(rng.uniform(0.5, 1.5, units)) for units in hidden]
    moments = [
        Moments(*(backend.asarray(rng.uniform(0.5, 1.5, units)) for _ in Moments._fields))
        for units in hidden
    ]
    return model, [*model.weights, *gains], moments


@given(
    n=st.integers(4, 9),
    activation=st.sampled_from(["tanh", "gelu", "sigmoid"]),
    loss=st.sampled_from(["cross_entropy", "squared_error"]),
    dropped=st.booleans(),
)
def test_the_gradient_is_that_of_the_loss(backend, n, activation, loss, dropped):
    model, weights, moments = normalized(backend, activation=activation, loss=loss)
    x, y = (backend.asarray(a) for a in samples(n, 4, 3))
    batch = Batches(x, y, [0.1], n, key=(1, 2))
    masks = dropout_masks(backend.xp, model.spec, batch, (0.2, 0.3)) if dropped else ()

    def mean_loss(arrays):
        hooks = BatchHooks(backend.xp, model.spec, arrays, masks, moments)
        losses, gradients = backend.losses_and_gradients(model.spec, arrays, x, y, 0.0, hooks)
        return float(backend.xp.mean(losses)), gradients

    rng, step = np.random.default_rng(n), 1e-5
    gradients = mean_loss(weights)[1]
    assert [g.shape for g in gradients] == [w.shape for w in weights]
    for i, gradient in enumerate(gradients):
        direction = rng.standard_normal(gradient.shape)
        ends = []
        for sign in (1, -1):
            moved = list(weights)
            moved[i] = weights[i] + backend.asarray(sign * step * direction)
            ends.append(mean_loss(moved)[0])
        slope = (ends[0] - ends[1]) / (2 * step)
        along = float(np.sum(backend.to_numpy(gradient) * direction))
        assert along == pytest.approx(slope, rel=1e-4, abs=1e-7)


@pytest.mark.parametrize("n", [2, 7])
def test_is_pytorchs(base_on_numpy, n):
    torch = pytest.importorskip("torch")
    model, weights, moments = normalized(base_on_numpy)
    x, y = samples(n, 4, 3)
    layers, at = [], 0
    for fan_in, fan_out in zip(model.sizes[:-1], model.sizes[1:], strict=True):
        last = fan_out == 3
        linear = torch.nn.Linear(fan_in, fan_out, bias=last).double()
        linear.weight.data = torch.tensor(weights[at].T.copy())
        layers.append(linear)
        if last:
            linear.bias.data = torch.tensor(weights[at + 1])
            continue
        norm = torch.nn.BatchNorm1d(fan_out).double()
        norm.weight.data = torch.tensor(weights[6 + at // 2])
        norm.bias.data = torch.tensor(weights[at + 1])
        norm.running_mean[:] = torch.tensor(moments[at // 2].mean)
        norm.running_var[:] = torch.tensor(moments[at // 2].variance)
        layers += [norm, torch.nn.Tanh()]
        at += 2
    theirs = torch.nn.Sequential(*layers)
    inputs = torch.tensor(base_on_numpy.inputs(model.spec, x))
    loss = torch.nn.functional.cross_entropy(theirs(inputs), torch.tensor(y).long())
    loss.backward()
    hooks = BatchHooks(np, model.spec, weights, moments=moments)
    losses, gradients = base_on_numpy.losses_and_gradients(model.spec, weights, x, y, 0.0, hooks)
    assert np.mean(losses) == pytest.approx(loss.item())
    first, norm1, _, second, norm2, _, last = theirs
    in_our_order = [
        *(first.weight.grad.T, norm1.bias.grad, second.weight.grad.T, norm2.bias.grad),
        *(last.weight.grad.T, last.bias.grad, norm1.weight.grad, norm2.weight.grad),
    ]
    assert_weights(gradients, [g.numpy() for g in in_our_order], 1e-10)
    for norm, of_layer in zip((norm1, norm2), moments, strict=True):
        np.testing.assert_allclose(of_layer.mean, norm.running_mean.numpy(), rtol=1e-12)
        np.testing.assert_allclose(of_layer.variance, norm.running_var.numpy(), rtol=1e-12)
    # what answers has W and b alone
    model.set_weights(fold_normalization(np, model.spec, weights, moments))
    answers = torch.softmax(theirs.eval()(inputs), dim=1).detach().numpy()
    np.testing.assert_allclose(model.predict_proba(x), answers, rtol=1e-9)


def test_a_single_sample_moves_no_moment(backend):
    model, weights, moments = normalized(backend)
    before = [backend.to_numpy(a) for of_layer in moments for a in of_layer]
    x, y = (backend.asarray(a) for a in samples(1, 4, 3))
    hooks = BatchHooks(backend.xp, model.spec, weights, moments=moments)
    backend.losses_and_gradients(model.spec, weights, x, y, 0.0, hooks)
    after = [backend.to_numpy(a) for of_layer in moments for a in of_layer]
    assert_weights(after, before, 0)


@pytest.mark.parametrize("averaging", [0.0, 0.9])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_the_model_is_the_folded_one(backend, optimizer, averaging):
    x, y = samples(30, 4, 3)
    model = MLP(**NETWORK, backend=backend)
    training = fit(
        model, x, y, epochs=2, batch_size=10, learning_rate=0.05, optimizer=optimizer,
        batch_norm=True, averaging=averaging, test=(x, y),
    )  # fmt: skip
    for report in training:
        arrays = training.state().arrays
        kind = "average" if averaging else "learning"
        names = [*model.names, "gain1", "gain2"]
        weights = [backend.asarray(arrays[f"{kind}.{name}"]) for name in names]
        moments = [
            Moments(*(backend.asarray(arrays[f"{kind}.{m}{layer}"]) for m in Moments._fields))
            for layer in (1, 2)
        ]
        folded = fold_normalization(backend.xp, model.spec, weights, moments)
        assert_weights(model.get_weights(), [backend.to_numpy(w) for w in folded], 0)
        assert_weights([arrays[name] for name in model.names], model.get_weights(), 0)
        if isinstance(report, EpochReport):
            assert report.test_accuracy == model.accuracy(x, y)
    assert not np.allclose(arrays["learning.gain1"], 1)
    assert not np.allclose(arrays["learning.mean1"], 0)
    if averaging:
        assert not np.allclose(arrays["learning.gain1"], arrays["average.gain1"])


@pytest.mark.parametrize(
    ("network", "batch_size", "message"),
    [
        ({}, 1, "batch_norm=True goes with batches: take batch_size=32"),
        ({"bias": False}, 5, "take bias=True"),
        ({"sizes": [4, 3]}, 5, "this network has none"),
        ({"loss": "rashid"}, 5, "loss='rashid' has none: take loss='cross_entropy'"),
    ],
)
def test_what_cannot_be_normalised_is_refused(backend, network, batch_size, message):
    x, y = samples(5, 4, 3)
    with pytest.raises(ValueError, match=message):
        fit(MLP(**NETWORK | network, backend=backend), x, y, batch_size=batch_size, batch_norm=True)

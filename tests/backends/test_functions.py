import numpy as np
import pytest
from scipy import special
from sklearn.metrics import log_loss, mean_squared_error

from backends.functions import ACTIVATIONS, LOSSES, OUTPUTS

pytestmark = pytest.mark.filterwarnings("error")

EXTREME = [-np.inf, -1000.0, -80.0, -1e-9, 0.0, 1e-9, 80.0, 1000.0, np.inf]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_sigmoid_is_scipys_expit(backend, dtype):
    z = np.concatenate([np.linspace(-40, 40, 401), EXTREME]).astype(dtype)
    on_device = backend.asarray(z)
    desired = special.expit(z.astype("float64"))
    for actual in (
        ACTIVATIONS["sigmoid"].value(backend.xp, on_device),
        backend.activate("sigmoid", on_device),
        backend.output("sigmoid", on_device),
    ):
        assert actual.dtype == on_device.dtype
        tiny = np.finfo(dtype).tiny  # what is smaller may be rounded to zero
        np.testing.assert_allclose(
            backend.to_numpy(actual), desired, rtol=8 * np.finfo(dtype).eps, atol=tiny
        )


@pytest.mark.parametrize("magnitude", [1, 1000])
def test_softmax_is_scipys(backend, magnitude):
    z = magnitude * np.random.default_rng(0).normal(size=(20, 5))
    actual = backend.to_numpy(backend.output("softmax", backend.asarray(z)))
    np.testing.assert_allclose(actual, special.softmax(z, axis=1), rtol=1e-12, atol=1e-300)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_derivative_is_the_slope_of_the_value(backend, name):
    function, h = ACTIVATIONS[name], 1e-6
    z = np.linspace(-4, 4, 80)  # no point near relu's kink at 0
    above, below = (
        backend.to_numpy(function.value(backend.xp, backend.asarray(z + s))) for s in (h, -h)
    )
    on_device = backend.asarray(z)
    base = on_device if function.needs_z else function.value(backend.xp, on_device)
    derivative = backend.to_numpy(function.derivative(backend.xp, base))
    np.testing.assert_allclose(derivative, (above - below) / (2 * h), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_scaled_tanh_is_lecuns(backend, dtype):
    z = np.concatenate([np.linspace(-9, 9, 401), EXTREME]).astype(dtype)
    on_device = backend.asarray(z)
    desired = 1.7159 * np.tanh(2 / 3 * z.astype("float64"))
    for actual in (
        ACTIVATIONS["scaled_tanh"].value(backend.xp, on_device),
        backend.activate("scaled_tanh", on_device),
    ):
        assert actual.dtype == on_device.dtype
        eps = np.finfo(dtype).eps
        np.testing.assert_allclose(backend.to_numpy(actual), desired, rtol=4 * eps, atol=4 * eps)


def test_scaled_tanh_takes_one_to_one_where_it_bends_most(base_on_numpy):
    def value(z):
        return base_on_numpy.activate("scaled_tanh", z)

    assert value(np.array([1.0, -1.0])) == pytest.approx([1, -1], abs=1e-4)
    z, h = np.linspace(0, 3, 301), 1e-3
    bend = np.abs(value(z + h) - 2 * value(z) + value(z - h))
    assert z[bend.argmax()] == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gelu_is_half_of_z_and_of_its_tanh(backend, dtype):
    z = np.concatenate([np.linspace(-9, 9, 401), EXTREME[1:-1]]).astype(dtype)
    on_device, exact = backend.asarray(z), z.astype("float64")
    actual = backend.activate("gelu", on_device)
    assert actual.dtype == on_device.dtype
    actual = backend.to_numpy(actual)
    desired = exact / 2 * (1 + np.tanh((2 / np.pi) ** 0.5 * (exact + 0.044715 * exact**3)))
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(actual, desired, rtol=4 * eps, atol=8 * eps)
    # as near to z Φ(z) as its docstring says, and no nearer
    assert 4e-4 < np.abs(actual - exact * special.ndtr(exact)).max() < 5e-4


def test_gelu_is_torchs(backend):
    torch = pytest.importorskip("torch")
    z = torch.linspace(-12, 12, 1001, dtype=torch.float64, requires_grad=True)
    a = torch.nn.functional.gelu(z, approximate="tanh")
    a.sum().backward()
    on_device = backend.asarray(z.detach().numpy())
    actual = backend.to_numpy(backend.activate("gelu", on_device))
    np.testing.assert_allclose(actual, a.detach().numpy(), rtol=1e-12, atol=1e-14)
    slope = backend.to_numpy(ACTIVATIONS["gelu"].derivative(backend.xp, on_device))
    np.testing.assert_allclose(slope, z.grad.numpy(), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", LOSSES)
def test_loss_is_scikit_learns(backend, name):
    rng = np.random.default_rng(1)
    labels = np.append(np.arange(4), rng.integers(0, 4, 30))
    targets = np.eye(4)[labels]
    logits = rng.normal(scale=3, size=targets.shape)
    outputs = backend.output(LOSSES[name].output, backend.asarray(logits))
    losses = LOSSES[name].value(
        backend.xp, backend.asarray(logits), outputs, backend.asarray(targets)
    )
    assert losses.shape == labels.shape
    p = backend.to_numpy(outputs)
    desired = {
        "rashid": lambda: 4 / 2 * mean_squared_error(targets, p),
        "squared_error": lambda: 4 / 2 * mean_squared_error(targets, p),
        "binary_cross_entropy": lambda: sum(log_loss(targets[:, k], p[:, k]) for k in range(4)),
        "cross_entropy": lambda: log_loss(labels, p, labels=range(4)),
    }[name]()
    assert np.mean(backend.to_numpy(losses)) == pytest.approx(desired, rel=1e-12)


@pytest.mark.parametrize(
    ("name", "desired"),
    [("binary_cross_entropy", 2000.0), ("cross_entropy", 1000.0)],  # log 2, the third's, is lost
)
def test_saturated_outputs_cost_no_infinity(backend, name, desired):
    logits, targets = backend.asarray([[1000.0, 0.0, -1000.0]]), backend.asarray([[0.0, 0.0, 1.0]])
    if name == "cross_entropy":
        logits, targets = logits[:, :2], targets[:, 1:]
    outputs = backend.output(LOSSES[name].output, logits)
    loss = LOSSES[name].value(backend.xp, logits, outputs, targets)
    assert float(loss[0]) == pytest.approx(desired, abs=1)


def test_nan_stays_nan(backend):
    nan = backend.asarray([[np.nan, 1.0]])
    for name in ACTIVATIONS:
        assert np.isnan(backend.to_numpy(backend.activate(name, nan))[0, 0])
    for name, loss in LOSSES.items():
        outputs = backend.output(loss.output, nan)
        value = loss.value(backend.xp, nan, outputs, backend.asarray([[1.0, 0.0]]))
        assert np.isnan(float(value[0])), name


def test_every_loss_names_an_output():
    assert {loss.output for loss in LOSSES.values()} == set(OUTPUTS)

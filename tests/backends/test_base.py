import numpy as np
import pytest

from backends.delayed import block_coefficients
from backends.functions import ACTIVATIONS
from trainer import MLP


@pytest.mark.parametrize(
    ("given_dtype", "kept"),
    [
        ("bool", "uint8"),
        ("uint8", "uint8"),
        ("int16", "int16"),
        (">i4", "int32"),
        ("uint64", "uint64"),
        ("float16", "float32"),
        (">f4", "float32"),
        (">f8", "float64"),
        ("longdouble", "float64"),
    ],
)
def test_asarray_keeps_what_a_device_can_compute_with(backend, given_dtype, kept):
    host = np.array([[0, 1, 1], [1, 0, 1]]).astype(given_dtype)
    host.flags.writeable = False
    for a in (host, host[::-1, ::-2], np.asfortranarray(host)):
        on_device = backend.asarray(a)
        assert on_device.dtype == getattr(backend.xp, kept)
        assert backend.to_numpy(on_device).tolist() == a.tolist()
    as_float = backend.asarray(host, dtype="float32")
    assert as_float.dtype == backend.xp.float32
    assert backend.to_numpy(as_float).tolist() == host.tolist()


def test_asarray_does_not_copy_a_device_array(backend):
    a = backend.asarray([1.0, 2.0])
    same, also_same = backend.asarray(a), backend.asarray(a, dtype=backend.xp.float64)
    a[0] = 5.0
    assert float(same[0]) == float(also_same[0]) == 5
    assert backend.asarray(a, dtype="float32").dtype == backend.xp.float32
    assert backend.asarray(3).shape == ()


@pytest.mark.parametrize("a", [[1j], ["1"], [None], np.array(["2020"], "M8[Y]")])
def test_asarray_takes_real_numbers_only(backend, a):
    with pytest.raises(TypeError, match="expected an array of real numbers, got dtype"):
        backend.asarray(a)


def test_to_numpy_copies(backend):
    a = backend.asarray([1.0, 2.0])
    host = backend.to_numpy(a)
    host[0] = 5
    assert type(host) is np.ndarray
    assert float(a[0]) == 1


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_forward_keeps_sums_only_where_the_derivative_needs_them(backend, activation):
    model = MLP([4, 3, 5, 2], backend=backend, activation=activation, bias=True)
    z = backend.asarray([[0.5, -0.5, 1.5]], dtype="float32")
    layers = model.spec.layers(model.weights)
    hidden, kept, logits, _ = backend.forward(model.spec, layers[1:], z)
    assert [a.shape for a in hidden] == [(1, 3), (1, 5)]
    assert logits.shape == (1, 2)
    sums = [z, backend.affine(hidden[0], *layers[1])]
    for at, a, z_l in zip(kept, hidden, sums, strict=True):
        if ACTIVATIONS[activation].needs_z:
            np.testing.assert_array_equal(backend.to_numpy(at), backend.to_numpy(z_l))
        else:
            assert at is a


@pytest.mark.parametrize("momentum", [0.5, 0.9])
def test_coefficients_of_momentum_have_the_closed_form(momentum):
    c = np.array(block_coefficients((0.1,) * 6, momentum, 0.0))[:-1]
    t, s = np.arange(7), np.arange(6)
    np.testing.assert_allclose(c[:, 0], np.ones(7))
    np.testing.assert_allclose(c[:, 1], momentum * (1 - momentum**t) / (1 - momentum))
    desired = np.tril((1 - momentum ** (t[:, None] - s[None, :])) / (1 - momentum), -1)
    np.testing.assert_allclose(c[:, 2:], desired, atol=1e-15)


def test_coefficients_of_decay_are_running_products():
    rates, penalty = (0.1, 0.3, 0.2, 0.4), 0.5
    rho = 1 - penalty * np.array(rates)
    c = np.array(block_coefficients(rates, 0.0, penalty))[:-1]
    np.testing.assert_allclose(c[:, 0], [np.prod(rho[:t]) for t in range(5)])
    desired = [[np.prod(rho[s + 1 : t]) if s < t else 0 for s in range(4)] for t in range(5)]
    np.testing.assert_allclose(c[:, 2:], desired)

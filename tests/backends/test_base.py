import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends import select
from backends.base import block_coefficients
from tests.conftest import assert_weights, networks
from trainer import MLP, fit


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


@pytest.mark.parametrize("momentum", [0.5, 0.9])
def test_coefficients_of_momentum_have_the_closed_form(momentum):
    c = block_coefficients((0.1,) * 6, momentum, 0.0)
    t, s = np.arange(7), np.arange(6)
    np.testing.assert_allclose(c.start, np.ones(7))
    np.testing.assert_allclose(c.velocity, momentum * (1 - momentum**t) / (1 - momentum))
    desired = np.tril((1 - momentum ** (t[:, None] - s[None, :])) / (1 - momentum), -1)
    np.testing.assert_allclose(c.steps, desired, atol=1e-15)


def test_coefficients_of_decay_are_running_products():
    rates, penalty = (0.1, 0.3, 0.2, 0.4), 0.5
    rho = 1 - penalty * np.array(rates)
    c = block_coefficients(rates, 0.0, penalty)
    np.testing.assert_allclose(c.start, [np.prod(rho[:t]) for t in range(5)])
    desired = [[np.prod(rho[s + 1 : t]) if s < t else 0 for s in range(4)] for t in range(5)]
    np.testing.assert_allclose(c.steps, desired)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-12), ("float32", 1e-5)])
@given(network=networks(), momentum=st.sampled_from([0.0, 0.9]), magnitude=st.sampled_from([1, 30]))
def test_compiled_recurrence_is_the_textbooks(
    base_on_numpy, dtype, tolerance, network, momentum, magnitude
):
    model = MLP(**{**network, "dtype": dtype}, backend=base_on_numpy)
    rng = np.random.default_rng(0)
    n, first = 9, 2 if network["bias"] else 1
    z = magnitude * rng.normal(size=(n, model.sizes[1])).astype(dtype)
    mixing = rng.normal(size=(n, n)).astype(dtype)
    labels = rng.integers(0, 3, n)
    rates = tuple(rng.uniform(0, 0.1, n))
    results = []
    for backend in (base_on_numpy, select("cpu")):
        weights = model.get_weights()[first:]
        speeds = [0.1 * w for w in weights] if momentum else []
        d, losses = backend.online_recurrence(
            model.spec, weights, speeds, z, mixing, labels, rates, momentum, 0.01
        )
        assert d.dtype == losses.dtype == dtype
        results.append([d, losses, *weights, *speeds])
    # relu hands large numbers on, and their rounding with them
    assert_weights(results[1], results[0], tolerance * magnitude)


@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "relu"])
@pytest.mark.parametrize("loss", ["rashid", "binary_cross_entropy", "cross_entropy"])
def test_compiled_recurrence_propagates_nan(activation, loss):
    cpu = select("cpu")
    model = MLP([1, 2, 3], backend=cpu, activation=activation, loss=loss)
    z, mixing = np.array([[np.nan, 1]], "float32"), np.zeros((1, 1), "float32")
    labels = np.zeros(1, np.int64)
    deeper = model.get_weights()[1:]
    d, losses = cpu.online_recurrence(model.spec, deeper, [], z, mixing, labels, (0.1,), 0.0, 0.0)
    assert np.isnan(losses).all()
    assert np.isnan(d[0, 0])


def test_read_only_labels_compile_nothing_anew():
    from backends.kernels.online_sgd import recurrence

    cpu = select("cpu")
    model = MLP([2, 2, 2], backend=cpu)
    cpu.prepare(model.spec, online=True)
    compiled = len(recurrence.signatures)
    labels = np.zeros(3, np.int64)
    labels.flags.writeable = False
    cpu.online_sgd(model.spec, model.weights, [], np.ones((3, 2)), labels, [0.1] * 3)
    assert len(recurrence.signatures) == compiled


def test_the_blas_limit_outlives_no_thread():
    from concurrent.futures import ThreadPoolExecutor

    from threadpoolctl import threadpool_info

    def threads() -> list[int]:
        return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]

    def train_one(seed: int) -> None:
        rng = np.random.default_rng(seed)
        x, y = rng.integers(0, 256, (400, 30), dtype=np.uint8), rng.integers(0, 3, 400)
        list(fit(MLP([30, 20, 3], backend=select("cpu")), x, y, epochs=20))

    before = threads()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(train_one, range(8)))
    assert threads() == before

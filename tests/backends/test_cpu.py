"""The CPU's kernels: the textbook's numbers, for every shape, density and number of workers."""

import multiprocessing
import os
import platform
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_info

from backends import Batches, Rule, select
from backends.functions import ACTIVATIONS, LOSSES
from backends.kernels.cpu import compiling, elementwise, workers
from backends.kernels.cpu.lanes import REGISTER_BYTES
from backends.kernels.cpu.packed import FirstLayer, readable
from tests.backends.trainings import HALF_AS_MUCH, SOFTSIGN, learn, trainings
from tests.conftest import assert_weights, lesson
from trainer import MLP, fit, load


class TestSgd:
    @settings(max_examples=120)
    @given(training=trainings(), block_size=st.integers(1, 40))
    def test_is_the_textbooks(self, base_on_numpy, training, block_size):
        cpu = select("cpu")
        cpu.block_size = block_size
        assert_weights(learn(cpu, *training), learn(base_on_numpy, *training), 1e-9)

    @pytest.mark.parametrize("batch_size", [1, 4, 50])
    def test_is_the_textbooks_in_float32(self, base_on_numpy, batch_size):
        rng = np.random.default_rng(3)
        x, y = rng.integers(0, 256, (90, 30), dtype=np.uint8), rng.integers(0, 4, 90)
        network = {"sizes": [30, 20, 10, 4], "bias": True}
        step = {"batch_size": batch_size, "momentum": 0.0, "penalty": 0.0, "rates": [0.1] * 90}
        step["rates"] = step["rates"][: -(-90 // batch_size)]
        actual = learn(select("cpu"), network, x, y, step, "float32")
        assert {a.dtype for a in actual} == {np.dtype("float32")}
        assert_weights(actual, learn(base_on_numpy, network, x, y, step, "float32"), 2e-6)

    @pytest.mark.parametrize("sizes", [[90, 40, 4], [90, 400, 300, 4]])
    def test_loses_nothing_of_the_small_steps_of_large_batches(self, base_on_numpy, sizes):
        rng = np.random.default_rng(3)
        x, y = rng.integers(0, 256, (4096, 90), dtype=np.uint8), rng.integers(0, 4, 4096)
        step = {"batch_size": 4096, "momentum": 0.0, "penalty": 0.0}
        found, exact, start = (
            learn(backend, {"sizes": sizes}, x, y, step | {"rates": [rate]}, dtype)[1]
            for backend, rate, dtype in (
                (select("cpu"), 0.1, "float32"),
                (base_on_numpy, 0.1, "float64"),
                (base_on_numpy, 0.0, "float64"),
            )
        )
        assert np.abs(found - exact).max() < 2e-4 * np.abs(exact - start).max()

    @pytest.mark.parametrize("batch_size", [1, 3, 100])
    @pytest.mark.parametrize("count", [2, 3])
    def test_does_not_depend_on_the_workers(self, monkeypatch, batch_size, count):
        rng = np.random.default_rng(4)
        x, y = rng.integers(0, 9, (230, 50), dtype=np.uint8) // 6, rng.integers(0, 3, 230)
        rates = [0.2] * -(-230 // batch_size)
        step = {"batch_size": batch_size, "momentum": 0.0, "penalty": 0.0, "rates": rates}
        outcomes = []
        for n in (1, count):
            monkeypatch.setattr("backends.cpu.worker_count", lambda n=n: n)
            outcomes.append(learn(select("cpu"), {"sizes": [50, 300, 3]}, x, y, step))
        assert_weights(*outcomes, 0)

    @pytest.mark.parametrize(
        ("layers", "bias", "loss"),
        [
            pytest.param(*network, loss, marks=() if loss == quick else pytest.mark.thorough)
            for *network, quick in (
                ([30, 250, 90, 20, 5], True, "cross_entropy"),
                ([30, 250, 7, 4], False, "binary_cross_entropy"),
                ([9, 250, 3], True, "rashid"),
            )
            for loss in LOSSES
        ],
    )
    def test_a_team_learns_what_one_worker_does(
        self, base_on_numpy, monkeypatch, loss, layers, bias
    ):
        rng = np.random.default_rng(9)
        x = rng.integers(0, 256, (50, layers[0]), dtype=np.uint8)
        y = rng.integers(0, layers[-1], 50)
        network = {"sizes": layers, "bias": bias, "loss": loss, "activation": "scaled_tanh"}
        step = {"batch_size": 1, "momentum": 0.0, "penalty": 0.0, "rates": [0.02] * 50}
        alone = learn(select("cpu"), network, x, y, step)
        assert_weights(alone, learn(base_on_numpy, network, x, y, step), 1e-10)
        monkeypatch.setattr("backends.cpu._WEIGHTS_OF_ONE", 0)
        for count in (1, 2, 3):
            monkeypatch.setattr("backends.cpu.worker_count", lambda n=count: n)
            assert_weights(learn(select("cpu"), network, x, y, step), alone, 0)

    @pytest.mark.parametrize("order", ["C", "F", "strided", "read-only", "int64", "float32"])
    def test_takes_samples_however_they_lie(self, base_on_numpy, order):
        rng = np.random.default_rng(5)
        x, y = rng.integers(0, 256, (40, 30)).astype(np.uint8), rng.integers(0, 3, 40)
        step = {"batch_size": 1, "momentum": 0.0, "penalty": 0.0, "rates": [0.1] * 40}
        desired = learn(base_on_numpy, {"sizes": [30, 5, 3]}, x, y, step)
        if order == "F":
            x = np.asfortranarray(x)
        elif order == "strided":
            x = np.repeat(x, 2, axis=1)[:, ::2]
        elif order == "read-only":
            x.flags.writeable = y.flags.writeable = False
        elif order != "C":
            x = x.astype(order)
        assert_weights(learn(select("cpu"), {"sizes": [30, 5, 3]}, x, y, step), desired, 1e-10)

    def test_compiles_nothing_anew_for_read_only_arrays(self):
        from backends.kernels.cpu import online_sgd

        cpu = select("cpu")
        model = MLP([2, 2, 2], backend=cpu)
        list(fit(model, np.ones((3, 2), np.uint8), np.zeros(3, np.int64), epochs=1))
        compiled = len(online_sgd.train.signatures)
        x, y = np.ones((3, 2), np.uint8), np.zeros(3, np.int64)
        x.flags.writeable = y.flags.writeable = False
        list(fit(model, x, y, epochs=1))
        assert len(online_sgd.train.signatures) == compiled

    @pytest.mark.parametrize("activation", list(ACTIVATIONS))
    @pytest.mark.parametrize("loss", list(LOSSES))
    @pytest.mark.parametrize("batch_size", [1, 40])
    def test_propagates_nan(self, activation, loss, batch_size):
        model = MLP([3, 4, 3], backend=select("cpu"), activation=activation, loss=loss)
        model.weights[0][0, 0] = np.nan
        x, y = np.ones((2, 3)), np.zeros(2, np.int64)
        rates = [0.1] * (2 if batch_size == 1 else 1)
        batches = Batches(model.samples(x), y, rates, batch_size)
        losses = model.backend.learn(model.spec, [model.weights], batches, Rule())
        assert np.isnan(losses).all()
        assert np.isnan(model.weights[0][0, 0])

    def test_runs_kernels_for_every_activation(self, monkeypatch):
        cpu, learned = select("cpu"), []

        def count(kernel, *args):
            learned.append(kernel)
            return workers.work(kernel, *args)

        monkeypatch.setattr("backends.cpu.work", count)
        monkeypatch.setattr("backends.kernels.cpu.batch_network.work", count)
        for activation in ACTIVATIONS:
            for batch_size in (1, 2, 40):
                learned.clear()
                step = {"batch_size": batch_size, "momentum": 0.0, "penalty": 0.0}
                step["rates"] = [0.1] * -(-40 // batch_size)
                network = {"sizes": [3, 4, 2], "activation": activation}
                learn(cpu, network, np.ones((40, 3)), np.zeros(40, np.int64), step)
                spec = MLP(**network, backend=cpu).spec
                assert cpu.has_kernels(spec)
                assert learned

    @pytest.mark.parametrize("batch_size", [1, 7, 40])
    @pytest.mark.parametrize("new", [{"activation": "softsign"}, {"loss": "half_as_much"}])
    def test_falls_back_for_what_is_new(self, base_on_numpy, monkeypatch, batch_size, new):
        monkeypatch.setitem(ACTIVATIONS, "softsign", SOFTSIGN)
        monkeypatch.setitem(LOSSES, "half_as_much", HALF_AS_MUCH)
        rng = np.random.default_rng(7)
        x, y = rng.integers(0, 256, (90, 30), dtype=np.uint8), rng.integers(0, 4, 90)
        network = {"sizes": [30, 20, 10, 4], "bias": True, **new}
        step = {"batch_size": batch_size, "momentum": 0.5, "penalty": 0.01}
        step["rates"] = [0.1] * -(-90 // batch_size)
        training = network, x, y, step
        assert_weights(learn(select("cpu"), *training), learn(base_on_numpy, *training), 1e-10)
        assert not select("cpu").has_kernels(MLP(**network, backend="cpu").spec)

    @pytest.mark.parametrize("activation", list(ACTIVATIONS))
    def test_learns_deep_wide_networks(self, base_on_numpy, monkeypatch, activation):
        # whose weights do not stay in a core's cache
        monkeypatch.setattr("backends.kernels.cpu.batch_network._CACHED_WEIGHTS", 500)
        rng = np.random.default_rng(6)
        x, y = rng.integers(0, 256, (70, 20), dtype=np.uint8), rng.integers(0, 3, 70)
        step = {"batch_size": 30, "momentum": 0.9, "penalty": 0.01, "rates": [0.1, 0.2, 0.1]}
        network = {"sizes": [20, 30, 30, 3], "bias": True, "loss": "cross_entropy"}
        network["activation"] = activation
        actual = learn(select("cpu"), network, x, y, step)
        assert_weights(actual, learn(base_on_numpy, network, x, y, step), 1e-10)


@pytest.fixture(scope="module")
def mnist(data_folder):
    return load(str(data_folder / "mnist"))


@pytest.fixture(scope="module")
def desired(mnist):
    start = MLP([784, 200, 10], backend=select("cpu"), dtype="float64", seed=0).get_weights()
    return lesson(start, mnist.train_x[:2000], mnist.train_y[:2000], 0.1)


class TestOnMnist:
    @pytest.mark.parametrize("block_size", [1, 7, 32])
    @pytest.mark.parametrize("count", [1, 2, pytest.param(3, marks=pytest.mark.thorough)])
    def test_is_the_lessons_loop(self, mnist, monkeypatch, desired, block_size, count):
        monkeypatch.setattr("backends.cpu.worker_count", lambda: count)
        cpu = select("cpu")
        cpu.block_size = block_size
        model = MLP([784, 200, 10], backend=cpu, dtype="float64", seed=0)
        list(fit(model, mnist.train_x[:2000], mnist.train_y[:2000], epochs=1))
        assert_weights(model.get_weights(), desired, 1e-10)

    def test_float32_drifts_no_more_than_twice_as_far_as_the_lessons_loop(self, mnist, desired):
        model = MLP([784, 200, 10], backend=select("cpu"), seed=0)
        x, y = mnist.train_x[:2000], mnist.train_y[:2000]
        plain = lesson(model.get_weights(), x, y, np.float32(0.1))
        list(fit(model, x, y, epochs=1))
        for a, p, d in zip(model.get_weights(), plain, desired, strict=True):
            assert a.dtype == p.dtype == np.float32
            assert np.linalg.norm(a - d) <= 2 * np.linalg.norm(p - d)
            assert np.linalg.norm(a - d) <= 1e-4 * np.linalg.norm(d)


class TestFirstLayer:
    @given(
        units=st.integers(1, 260),
        features=st.integers(1, 50),
        n=st.integers(0, 100),
        count=st.integers(1, 3),
        density=st.sampled_from([0.0, 0.2, 1.0]),
    )
    def test_multiplies(self, units, features, n, count, density):
        rng = np.random.default_rng(0)
        scale, shift = rng.normal(size=features), rng.normal(size=features)
        model = MLP(
            [features, units],
            backend=select("cpu"),
            dtype="float64",
            scale=scale,
            shift=shift,
            bias=True,
        )
        p = (rng.integers(1, 256, (n, features)) * (rng.random((n, features)) < density)).astype(
            np.uint8
        )
        x, delta = p * scale + shift, rng.normal(size=(n, units))
        W, b = rng.normal(size=(features, units)), rng.normal(size=units)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("backends.cpu.worker_count", lambda: count)
            patch.setattr("backends.kernels.cpu.packed._SAMPLES_A_WORKER", 1)
            z = model.backend.first_affine(model.spec, p, W, b)
            product = model.backend.first_product(model.spec, p, delta)
        np.testing.assert_allclose(z, x @ W + b, rtol=1e-10, atol=1e-8)
        np.testing.assert_allclose(product, x.T @ delta, rtol=1e-10, atol=1e-8)

    def test_rows_begin_where_registers_do(self):
        model = MLP([30, 20, 3], backend=select("cpu"), bias=True)
        layer = FirstLayer(model.spec, [model.weights], 1)
        for a in (layer.W, layer.b, layer.scale, layer.shift):
            assert a.ctypes.data % REGISTER_BYTES == 0
        assert layer.W.shape[2] * layer.W.itemsize % REGISTER_BYTES == 0
        values = readable(model.spec, np.ones((2, 30), np.uint8))
        assert values.dtype == np.uint8  # not copied to floats


def test_machine_code_is_kept_until_any_kernels_file_changes(tmp_path):
    kernels = tmp_path / "backends" / "kernels" / "cpu"
    shutil.copytree(Path(compiling.__file__).parents[2], tmp_path / "backends")
    for kept in kernels.rglob("*.nb?"):
        kept.unlink()
    code = "import numpy as np; from backends.kernels.cpu import elementwise as e;"
    code += "a = np.zeros(3); e.activate_all(0, a); print(a[0], end=' ');"
    code += "print(sum(e.activate_all.stats.cache_hits.values()))"

    def run():
        command = [sys.executable, "-c", code]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)

    assert run().stdout.split() == ["0.5", "0"]
    assert run().stdout.split() == ["0.5", "1"]
    lanes = kernels / "lanes.py"
    lanes.write_text(lanes.read_text() + "# changed\n")
    assert run().stdout.split() == ["0.5", "0"]


class TestElementwise:
    def test_exponential_is_the_c_librarys_to_1e7(self):
        from numba import njit

        @njit
        def evaluate(x, y):
            for i in range(x.size):
                y[i] = elementwise.exp(x[i])

        x = np.concatenate([np.linspace(-87, 88, 300_001), [0, 1, -1, 1e-30]]).astype("float32")
        y = np.empty_like(x)
        evaluate(x, y)
        np.testing.assert_allclose(y, np.exp(x.astype("float64")), rtol=1e-7)
        beyond = np.array([-np.inf, -1e30, -89, 89, np.inf, np.nan], "float32")
        y = np.empty_like(beyond)
        evaluate(beyond, y)
        np.testing.assert_allclose(y[:3], 0, atol=1e-37)
        assert (y[3:5] > 1e38).all()
        assert np.isnan(y[5])

    @pytest.mark.parametrize("name", list(ACTIVATIONS))
    @pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 3e-7), ("float64", 1e-15)])
    def test_activations_are_the_textbooks(self, name, dtype, tolerance):
        z = np.concatenate([np.linspace(-30, 30, 10_001), [-1e4, 0, 1e4]]).astype(dtype)
        desired = ACTIVATIONS[name].value(np, z.astype("float64"))
        actual = select("cpu").activate(name, z.reshape(4, -1))
        assert actual.dtype == dtype
        np.testing.assert_allclose(actual.reshape(-1), desired, rtol=1e-7, atol=tolerance)


class TestWorkers:
    @pytest.mark.parametrize(
        ("variables", "most"),
        [
            ({"OMP_NUM_THREADS": "1"}, 1),
            ({"OMP_NUM_THREADS": "1,4"}, 1),
            ({"OMP_NUM_THREADS": "nonsense"}, None),
            ({}, None),
        ],
    )
    def test_are_as_many_as_the_environment_says(self, monkeypatch, variables, most):
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        assert 1 <= workers.core_count() <= (most or os.cpu_count())

    @pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
    def test_are_no_more_than_the_cores_they_may_use(self):
        before = os.sched_getaffinity(0)
        try:
            os.sched_setaffinity(0, {min(before)})
            assert workers.core_count() == 1
        finally:
            os.sched_setaffinity(0, before)

    def test_nobody_waits_for_one_that_cannot_come(self):
        layer = FirstLayer(MLP([4, 3], backend=select("cpu")).spec, [[np.zeros((4, 3))]], 1)
        assert layer.workers == 1

        def kernel(worker, count, barrier, arrived):
            if worker == 0:
                raise KeyboardInterrupt
            while not barrier[workers._LINE]:
                pass
            arrived.append(worker)

        arrived = []
        with pytest.raises(KeyboardInterrupt):
            workers.work(kernel, 3, arrived)
        assert sorted(arrived) == [1, 2]

    @pytest.mark.skipif(
        platform.machine() not in ("x86_64", "AMD64"), reason="denormals are flushed on x86 alone"
    )
    @pytest.mark.parametrize("count", [1, 2])
    def test_flush_the_smallest_results_and_leave_the_caller_as_it_was(self, count):
        small, tenth = np.float32(1e-38), np.float32(0.1)
        found = []

        def kernel(worker, workers, barrier):
            found.append(small * tenth)

        def failing(worker, workers, barrier):
            raise KeyboardInterrupt

        workers.work(kernel, count)
        assert found == [0] * count
        assert 0 < small * tenth < small
        with pytest.raises(KeyboardInterrupt):
            workers.work(failing, 1)
        assert 0 < small * tenth < small
        for step in ({"batch_size": 1}, {"batch_size": 30}, {"batch_size": 30, "clip": 0.1}):
            x, y = np.ones((40, 3), np.uint8), np.zeros(40, np.int64)
            list(fit(MLP([3, 4, 2], backend=select("cpu")), x, y, epochs=1, **step))
            assert 0 < small * tenth < small

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
    @pytest.mark.filterwarnings("ignore::DeprecationWarning")
    def test_work_after_a_fork(self):
        accuracy_of_a_training(0)
        with multiprocessing.get_context("fork").Pool(1) as pool:
            assert pool.apply(accuracy_of_a_training, (0,)) == accuracy_of_a_training(0)

    def test_work_for_several_trainings_at_once(self):
        alone = [accuracy_of_a_training(seed) for seed in range(4)]
        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(accuracy_of_a_training, range(4))) == alone


def accuracy_of_a_training(seed):
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, 256, (200, 40), dtype=np.uint8), rng.integers(0, 3, 200)
    model = MLP([40, 150, 3], backend=select("cpu"), seed=seed)
    return [report.train_loss for report in fit(model, x, y, epochs=3)][-1]


def test_the_blas_limit_outlives_no_thread():
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


class TestCrowd:
    """Whether other processes hold cores, as far as kernels were judged by."""

    @pytest.mark.parametrize(
        ("on_cores", "limit"),
        [
            ([1.0, 0.9], np.inf),  # both ran all the time
            ([0.7, 0.6], 1),  # of two cores another process held one
            ([0.9, 0.3], 1),
            ([0.95, 0.95, 0.5, 0.5], 3),
            ([0.1, 0.1], 1),  # one there always is
        ],
    )
    def test_as_many_workers_as_had_cores(self, on_cores, limit):
        crowd = workers._Crowd()
        crowd.judge([1.0] * len(on_cores), on_cores)
        assert crowd.limit() == limit

    def test_one_that_ends_early_was_not_kept_from_a_core(self):
        crowd = workers._Crowd()
        crowd.judge([1.0, 0.1], [1.0, 0.1])
        assert crowd.limit() == np.inf

    def test_one_worker_and_a_short_kernel_say_nothing(self):
        crowd = workers._Crowd()
        crowd.judge([1.0], [0.1])
        crowd.judge([0.001, 0.001], [0.0001, 0.0001])
        assert crowd.limit() == np.inf

    def test_waiting_for_a_kernel_to_be_compiled_says_nothing(self, monkeypatch):
        crowd = workers._Crowd()
        monkeypatch.setattr(workers, "_crowd", crowd)

        @compiling.compiled
        def kernel(worker, workers, barrier):
            pass

        judged = []
        monkeypatch.setattr(crowd, "judge", lambda *times: judged.append(times))
        for count in (0, 0, 1):
            assert len(judged) == count
            workers.work(kernel, 2)

    def test_more_are_tried_again_later_and_later(self, monkeypatch):
        now = 0.0
        monkeypatch.setattr(workers, "perf_counter", lambda: now)
        crowd, free = workers._Crowd(), []
        for _ in range(6):
            crowd.judge([1.0, 1.0], [0.5, 0.5])
            begun = now
            while crowd.limit() == 1:
                now += 0.25
            free.append(now - begun)
        assert free == [1.0, 2.0, 4.0, 8.0, 8.0, 8.0]
        crowd.judge([1.0, 1.0], [1.0, 1.0])
        assert crowd.limit() == np.inf
        crowd.judge([1.0, 1.0], [0.5, 0.5])
        now += 1.0
        assert crowd.limit() == np.inf

"""The GPU's code without a GPU: its kernels run on the host, the rest against a stand-in."""

import ctypes
import gc
import threading
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from math import inf
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from scipy import sparse

from backends import Batches, Rule, device_failure, memory_shortage, select
from backends.delayed import block_coefficients
from backends.feeding import Resident
from backends.functions import ACTIVATIONS, LOSSES
from backends.kernels.codes import ACTIVATION_CODES
from backends.kernels.cuda import cublas
from tests.backends.lessons import RULES, VARIED, Lesson, lessons
from tests.backends.trainings import HALF_AS_MUCH, SOFTSIGN, learn, trainings
from tests.conftest import assert_weights, lesson
from tests.cuda import race_check
from tests.cuda.host_module import NoCompiler, compiler
from tests.cuda.stand_in import fake_cupy, install
from tests.parallel.test_ranks import trained
from tests.parallel.threads import ThreadRanks, together
from trainer import MLP, EpochReport, fit
from trainer.augmentation import Deformation, DeformedFeed, Deformer
from trainer.training import Training
from trainer.training.course import Course

LESSONS = {"sizes": [784, 200, 10]}


@pytest.fixture
def fake(monkeypatch):
    """CuPy on the host."""
    try:
        compiler()
    except NoCompiler as error:
        pytest.skip(str(error))
    fake = fake_cupy()
    install(monkeypatch, fake)
    monkeypatch.setattr(cublas, "cublas_library", lambda major: fake.cuda.cublas)
    return fake


@pytest.fixture
def gpu(fake):
    return select("gpu")


@pytest.fixture(params=["stand-in", pytest.param("device", marks=pytest.mark.gpu)])
def any_gpu(request):
    return request.getfixturevalue("gpu" if request.param == "stand-in" else "gpu_backend")


STEPS = {name: {"rule": rule} for name, rule in RULES.items()} | {
    "sgd without biases": {"bias": False},
    "momentum without biases": {"rule": RULES["momentum"], "bias": False},
    "clip": {"rule": Rule(momentum=0.9, clip=0.1)},
    "averaging": {"rule": Rule(momentum=0.9, averaging=0.9)},
    "dropout": {"dropped": (0.2, 0.5)},
    "batch normalisation": {"normalized": True},
    "sample weights": {"weighted": True},
    "penalty": {"penalty": 0.1, "rule": RULES["momentum"]},
    "everything": {
        "rule": Rule(betas=(0.9, 0.99), decay=0.1, clip=0.1, averaging=0.9),
        "dropped": (0.2, 0.5),
        "normalized": True,
        "weighted": True,
    },
}


def digits(n, features=784, classes=10, seed=0):
    """Pixels of which four fifths are zero, and labels."""
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 256, (n, features)) * (rng.random((n, features)) < 0.2)
    return x.astype(np.uint8), rng.integers(0, classes, n)


def steps(n, batch_size=1, momentum=0.0, penalty=0.0, rate=0.1):
    rates = [rate] * -(-n // batch_size)
    return {"batch_size": batch_size, "momentum": momentum, "penalty": penalty, "rates": rates}


def on_host(arrays):
    return [a.get() for a in arrays]


class TestSgd:
    @settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(training=trainings())
    def test_is_the_textbooks(self, gpu, base_on_numpy, training):
        assert_weights(on_host(learn(gpu, *training)), learn(base_on_numpy, *training), 1e-9)

    @pytest.mark.parametrize("batch_size", [1, 4, 50])
    def test_is_the_textbooks_in_float32(self, gpu, base_on_numpy, batch_size):
        x, y = digits(150, 30, 4)
        network, step = {"sizes": [30, 20, 4], "bias": True}, steps(150, batch_size)
        actual = learn(gpu, network, x, y, step, "float32")
        assert {a.dtype for a in actual} == {np.dtype("float32")}
        assert_weights(on_host(actual), learn(base_on_numpy, network, x, y, step, "float32"), 3e-6)

    @pytest.mark.parametrize(("dtype", "momentum"), [("float32", 0.0), ("float64", 0.5)])
    @pytest.mark.parametrize(
        "hidden",
        [
            *((200,), (513,), (1030,), (300, 40)),
            *(pytest.param((n,), marks=pytest.mark.thorough) for n in (2050, 4097)),
        ],
    )
    def test_every_width_has_a_variant(self, gpu, base_on_numpy, dtype, hidden, momentum):
        n = 40 if dtype == "float64" else 70  # a whole block, and a part of one
        x, y = digits(n, 20, 5)
        network = {"sizes": [20, *hidden, 5], "loss": "cross_entropy", "bias": True}
        step = steps(n, momentum=momentum, penalty=0.01, rate=1 / hidden[0])
        desired = learn(base_on_numpy, network, x, y, step, "float64")
        tolerance = 1e-11 if dtype == "float64" else 1e-5
        assert_weights(on_host(learn(gpu, network, x, y, step, dtype)), desired, tolerance)

    @pytest.mark.parametrize("classes", [1, 2, 5, 16, 32, 33, 62])
    def test_every_number_of_classes(self, gpu, base_on_numpy, classes):
        x, y = digits(40, 20, classes)
        network = {"sizes": [20, 30, classes], "loss": "cross_entropy"}
        desired = learn(base_on_numpy, network, x, y, steps(40))
        assert_weights(on_host(learn(gpu, network, x, y, steps(40))), desired, 1e-11)

    def test_is_the_lessons_loop(self, gpu):
        x, y = digits(300)
        model = MLP([784, 200, 10], backend=gpu, dtype="float64")
        desired = lesson(model.get_weights(), x, y, 0.1)
        list(fit(model, x, y, epochs=1))
        assert_weights(model.get_weights(), desired, 1e-10)

    @pytest.mark.parametrize("dtype", ["bool", "int8", "uint16", "int64", "float16", "float32"])
    def test_takes_samples_of_every_dtype(self, gpu, base_on_numpy, dtype):
        x, y = digits(20, 6, 3)
        x = (x % 2 if dtype == "bool" else x // 2).astype(dtype)
        for batch_size in (1, 8):
            training = {"sizes": [6, 5, 3]}, x, y, steps(20, batch_size)
            assert_weights(on_host(learn(gpu, *training)), learn(base_on_numpy, *training), 1e-12)

    def test_takes_samples_however_they_lie(self, fake, gpu, base_on_numpy):
        x, y = digits(40, 12, 3)
        values = fake.asarray(x)[::2, ::2]
        for batch_size in (1, 8):
            training = {"sizes": [6, 5, 3]}, values, fake.asarray(y)[::2], steps(20, batch_size)
            desired = learn(base_on_numpy, training[0], x[::2, ::2], y[::2], training[3])
            assert_weights(on_host(learn(gpu, *training)), desired, 1e-12)

    @pytest.mark.parametrize("order", ["reverse", "shuffled"])
    @pytest.mark.parametrize("batch_size", [1, 20])
    def test_does_not_depend_on_the_order_of_the_thread_blocks(self, fake, gpu, order, batch_size):
        x, y = digits(130, 90, 5)
        training = {"sizes": [90, 40, 5], "bias": True}, x, y, steps(130, batch_size)
        first = on_host(learn(gpu, *training, "float32"))
        fake.machine.order = order
        assert_weights(on_host(learn(gpu, *training, "float32")), first, 0)

    def test_does_not_depend_on_where_reports_fall(self, gpu, monkeypatch):
        x, y = digits(400, 30, 3)
        outcomes = []
        for seconds in (10.0, 1e-9):
            monkeypatch.setattr("trainer.training.loop._REPORT_SECONDS", seconds)
            model = MLP([30, 40, 3], backend=gpu)
            *_, report = fit(model, x, y, epochs=2, momentum=0.5, shuffle=True, seed=1)
            outcomes.append([*model.get_weights(), report.train_loss])
        assert_weights(*outcomes, 0)

    @pytest.mark.parametrize(
        ("features", "hidden", "momentum"),
        [(30_000, (4,), 0.0), (30, (20, 10), 0.0), (9, (20,), 0.5)],
    )
    def test_beyond_shared_memory_or_with_many_weights_it_takes_batches_of_one(
        self, fake, gpu, base_on_numpy, monkeypatch, features, hidden, momentum
    ):
        monkeypatch.setattr("backends.gpu._ONE_BLOCK", 59)
        x, y = digits(5, features, 3)
        network = {"sizes": [features, *hidden, 3], "bias": True}
        training = network, x, y, steps(5, momentum=momentum, penalty=0.01)
        assert_weights(on_host(learn(gpu, *training)), learn(base_on_numpy, *training), 1e-12)
        names = {launch.name for launch in fake.machine.launches}
        assert "split" in names
        assert "recurrence" not in names

    @pytest.mark.parametrize(("batch_size", "kernel"), [(1, "recurrence"), (40, "split")])
    def test_goes_back_to_the_textbook_for_activations_without_kernels(
        self, fake, gpu, base_on_numpy, monkeypatch, batch_size, kernel
    ):
        monkeypatch.setitem(ACTIVATIONS, "softsign", SOFTSIGN)
        x, y = digits(80, 30, 3)
        for activation in ACTIVATIONS:
            fake.machine.forget()
            network = {"sizes": [30, 8, 3], "activation": activation, "bias": True}
            training = network, x, y, steps(80, batch_size, momentum=0.5)
            assert_weights(on_host(learn(gpu, *training)), learn(base_on_numpy, *training), 1e-10)
            names = [launch.name for launch in fake.machine.launches]
            has_kernel = activation in ACTIVATION_CODES
            # where the sums are to be kept batch size 1 is batches of one
            expected = "split" if ACTIVATIONS[activation].needs_z else kernel
            assert (expected in names) == has_kernel
            assert gpu.has_kernels(MLP(**network, backend=gpu).spec) == has_kernel

    @pytest.mark.parametrize("batch_size", [1, 40])
    def test_goes_back_to_the_textbook_for_a_new_loss(
        self, gpu, base_on_numpy, monkeypatch, batch_size
    ):
        monkeypatch.setitem(LOSSES, "half_as_much", HALF_AS_MUCH)
        x, y = digits(80, 30, 3)
        network = {"sizes": [30, 8, 3], "loss": "half_as_much", "bias": True}
        training = network, x, y, steps(80, batch_size, momentum=0.5)
        assert_weights(on_host(learn(gpu, *training)), learn(base_on_numpy, *training), 1e-10)
        assert not gpu.has_kernels(MLP(**network, backend=gpu).spec)
        model = MLP(**network, backend=gpu, seed=0)
        answers = MLP(**network, backend=base_on_numpy, seed=0).predict_proba(x)
        np.testing.assert_allclose(gpu.to_numpy(model.predict_proba(x)), answers, rtol=1e-5)

    def test_costs_two_launches_a_block(self, fake, gpu):
        x, y = digits(640)
        learn(gpu, LESSONS, x, y, steps(640), "float32")
        names = [launch.name for launch in fake.machine.launches]
        blocks = ["first_layer", "recurrence"] * 10
        assert names == ["begin", "mixing", *blocks, "first_layer"]

    @pytest.mark.parametrize("bias", [False, True])
    @pytest.mark.parametrize("changing", [False, True])
    @pytest.mark.parametrize(("momentum", "penalty"), [(0.9, 0.0), (0.0, 0.03), (0.9, 0.03)])
    @pytest.mark.parametrize("n", [20, 32, 128, 150])
    def test_momentum_and_decay_at_any_rate_are_the_textbooks(
        self, gpu, base_on_numpy, bias, changing, momentum, penalty, n
    ):
        x, y = digits(n, 30, 4)
        step = steps(n, momentum=momentum, penalty=penalty)
        if changing:
            step["rates"] = list(np.geomspace(0.2, 0.01, n))
        training = {"sizes": [30, 20, 4], "bias": bias}, x, y, step
        assert_weights(on_host(learn(gpu, *training)), learn(base_on_numpy, *training), 1e-11)

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    @pytest.mark.parametrize("kinds", [1, 2])
    def test_coefficients_are_the_textbooks(self, fake, gpu, dtype, kinds):
        rates = np.random.default_rng(0).uniform(0, 0.5, 21)
        macros = {"BLOCK": 8, "UNITS": 2, "CLASSES": 3, "COLUMNS": 4}
        kernels = gpu._kernels("online_sgd", dtype, "uint8", **macros)
        tables = fake.empty((3, kinds, 10, 10), dtype)
        rule = np.float64(0.9), np.float64(0.03), kinds - 1
        kernels("coefficients", 3 * kinds, 10, fake.asarray(rates), np.int64(21), *rule, tables)
        for block in range(3):
            own = tuple(rates[8 * block : 8 * block + 8])
            for kind, penalty in enumerate((0.03, 0.0)[:kinds]):
                rows = np.array(block_coefficients(own, 0.9, penalty))
                found = tables.get()[block, kind, : len(rows), : len(rows)]
                np.testing.assert_array_equal(found, rows.astype(dtype))

    def test_rates_are_all_that_is_uploaded_for_a_sample(self, fake, gpu):
        n = 640
        x, y = digits(n, 30, 3)
        model = MLP([30, 20, 3], backend=gpu)
        values, labels = model.samples(x), model.labels(y, n)
        states = [model.weights, [fake.zeros_like(w) for w in model.weights]]
        held = []
        for rows in (slice(64), slice(n)):
            rates = list(np.geomspace(0.2, 0.01, n)[rows])
            batches = Batches(values[rows], labels[rows], rates, penalty=0.03)
            for _ in range(2):
                fake.machine.forget()
                gpu.learn(model.spec, states, batches, Rule(0.9))
            # for the coefficients, in the weights' dtype for the steps; and two targets
            assert fake.machine.uploaded == (8 + 4) * len(rates) + 2 * 4
            held.append(fake.machine.used)
        assert held[0] == held[1]  # nothing that grows with a call outlives it

    @pytest.mark.parametrize(("momentum", "penalty"), [(0.0, 0.0), (0.5, 0.01)])
    def test_a_stretch_of_blocks_is_captured_once_and_replayed(
        self, fake, gpu, monkeypatch, momentum, penalty
    ):
        monkeypatch.setattr("backends.kernels.cuda.online._STRETCH", 3)
        monkeypatch.setattr("backends.kernels.cuda.online._WORTH_A_GRAPH", 6)
        n = 64 * 8 + 10  # nine blocks
        x, y = digits(n, 30, 3)
        model = MLP([30, 20, 3], backend=gpu)
        batches = Batches(model.samples(x), model.labels(y, n), [0.1] * n, penalty=penalty)
        states = [model.weights, [fake.zeros_like(w) for w in model.weights]]
        counts, launches, graphs = fake.machine.counts, [], []
        for _ in range(3):
            fake.machine.forget()
            gpu.learn(model.spec, states[: 1 + bool(momentum)], batches, Rule(momentum))
            assert fake.machine.ran["recurrence"] == 9
            assert fake.machine.ran["first_layer"] == 10
            launched = [launch.name for launch in fake.machine.launches if not launch.captured]
            launches.append(launched.count("recurrence"))
            graphs.append((counts["captures"], counts["graph_launches"]))
        assert graphs == [(1, 2), (0, 3), (0, 3)]
        assert launches == [3, 0, 0]  # the first as it is, and what makes no stretch

    def test_few_blocks_go_without_a_graph(self, fake, gpu):
        x, y = digits(64 * 40, 5, 3)
        learn(gpu, {"sizes": [5, 4, 3]}, x, y, steps(len(x)), "float32")
        assert not fake.machine.counts["captures"]
        learn(gpu, {"sizes": [5, 4, 3]}, x[:0], y[:0], steps(0), "float32")

    @pytest.mark.parametrize("changing", [False, True])
    @pytest.mark.parametrize(("momentum", "penalty"), [(0.0, 0.0), (0.9, 0.01)])
    @pytest.mark.parametrize("bias", [False, True])
    def test_neither_graphs_nor_calls_change_a_bit(
        self, fake, gpu, monkeypatch, changing, momentum, penalty, bias
    ):
        monkeypatch.setattr("backends.kernels.cuda.online._WORTH_A_GRAPH", 4)
        n = 64 * 11 + 20
        x, y = digits(n, 30, 3)
        rates = list(np.geomspace(0.2, 0.01, n)) if changing else [0.1] * n
        outcomes = []
        for stretch, ends in ((99, [n]), (3, [n]), (2, [64, 64 * 6, 64 * 7, n])):
            monkeypatch.setattr("backends.kernels.cuda.online._STRETCH", stretch)
            model = MLP([30, 20, 3], backend=gpu, bias=bias)
            values, labels = model.samples(x), model.labels(y, n)
            speeds = [fake.zeros_like(w) for w in model.weights]
            losses = []
            for start, stop in pairwise([0, *ends]):
                rows = slice(start, stop)
                batches = Batches(values[rows], labels[rows], rates[rows], penalty=penalty)
                states = [model.weights, speeds] if momentum else [model.weights]
                losses.append(gpu.learn(model.spec, states, batches, Rule(momentum)).get())
            graphs = fake.machine.counts["graph_launches"]
            assert bool(graphs) == (stretch < 99)
            outcomes.append([*on_host([*model.weights, *speeds]), np.concatenate(losses)])
            gpu.release()
            fake.machine.forget()
        for outcome in outcomes[1:]:
            assert_weights(outcome, outcomes[0], 0)


class TestBatches:
    def test_a_step_is_captured_once_and_replayed(self, fake, gpu):
        x, y = digits(500, 30, 3)
        model = MLP([30, 20, 3], backend=gpu)
        batches = Batches(model.samples(x), model.labels(y, 500), [0.1] * 7, 80)
        gpu.learn(model.spec, [model.weights], batches, Rule())
        counts = fake.machine.counts
        assert counts["captures"] == 1
        assert counts["graph_launches"] == 5  # the first as it is, the last a smaller one
        fake.machine.forget()
        gpu.learn(model.spec, [model.weights], batches, Rule())
        assert counts["captures"] == 0
        assert counts["graph_launches"] == 6

    def test_a_batch_a_call_is_replayed_too(self, fake, gpu):
        x, y = digits(400, 30, 3)
        model = MLP([30, 20, 3], backend=gpu)
        values, labels = model.samples(x), model.labels(y, 400)
        for start in range(0, 400, 40):
            rows = slice(start, start + 40)
            batch = Batches(values[rows], labels[rows], [0.1], 40)
            gpu.learn(model.spec, [model.weights], batch, Rule())
        assert fake.machine.counts["captures"] == 1
        assert fake.machine.counts["graph_launches"] == 7  # three have to show that it pays
        _, *desired = learn(gpu, {"sizes": [30, 20, 3]}, x, y, steps(400, 40), "float32")
        assert_weights(on_host(model.weights), on_host(desired), 0)

    @settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(lesson=lessons())
    def test_everything_together_is_the_textbook(self, any_gpu, base_on_numpy, lesson):
        assert_weights(lesson.learn(any_gpu), lesson.learn(base_on_numpy), 1e-10)

    @pytest.mark.parametrize("lesson", VARIED.values(), ids=list(VARIED))
    def test_a_cut_changes_no_bit(self, any_gpu, lesson):
        steps = -(-lesson.samples // lesson.size)
        whole = lesson.learn(any_gpu)
        for cuts in ([steps - 1], [1], range(1, steps)):
            assert_weights(lesson.learn(any_gpu, cuts), whole, 0)

    @pytest.mark.parametrize("hidden", [(), (20,), (25, 20, 15, 10, 5)])
    @pytest.mark.parametrize("ingredients", STEPS.values(), ids=list(STEPS))
    def test_a_step_is_its_products_and_a_pass_a_layer(self, fake, gpu, ingredients, hidden):
        lesson = Lesson((30, *hidden, 4), "relu", size=8, **ingredients)
        lesson = replace(lesson, normalized=lesson.normalized and bool(hidden))
        ran = []
        for steps in (4, 5):
            fake.machine.forget()
            replace(lesson, samples=8 * steps).learn(gpu)
            ran.append(Counter(fake.machine.ran))
        layers = len(hidden) + 1
        step = {"inputs": 1, "hidden": layers - 1, "answers": 1, "split": layers - 1, "update": 1}
        step |= {"gemmEx": 3 * layers - 1, "squares": int(lesson.rule.clip < inf)}
        if lesson.rule == Rule() and not lesson.bias:  # the products have moved all there is
            del step["update"]
        assert ran[1] - ran[0] == Counter(step) - Counter()  # without those that are 0

    @pytest.mark.parametrize("batch_size", [1, 50])
    def test_nothing_waits_within_an_epoch(self, fake, gpu, batch_size):
        x, y = digits(500, 30, 3)
        model = MLP([30, 20, 3], backend=gpu)
        values, labels = model.samples(x), model.labels(y, 500)
        learned = []
        for _ in range(2):
            fake.machine.forget()
            batches = Batches(values, labels, [0.1] * (500 // batch_size), batch_size)
            gpu.learn(model.spec, [model.weights], batches, Rule())
            counts = fake.machine.counts
            assert not counts["synchronizations"]
            assert not counts["downloads"]
            learned.append(counts["allocations"])
        # what a call needs, however many batches it has
        rates = [0.1] * (250 // batch_size)
        fake.machine.forget()
        batches = Batches(values[:250], labels[:250], rates, batch_size)
        gpu.learn(model.spec, [model.weights], batches, Rule())
        assert fake.machine.counts["allocations"] == learned[1]

    @pytest.mark.parametrize("hidden", [(4,), (6, 5, 4, 5)])
    def test_an_epochs_end_waits_for_four_numbers(self, fake, gpu, monkeypatch, hidden):
        x, y = digits(40, 30, 3)
        counts, ends = fake.machine.counts, []
        learn = Training._learn

        def counted(*args):
            before = counts["downloads"]
            result = learn(*args)
            ends.append((before, counts["downloads"]))
            return result

        monkeypatch.setattr(Training, "_learn", counted)
        monkeypatch.setattr("trainer.training.loop._REPORT_SECONDS", 10.0)
        model = MLP([30, *hidden, 3], backend=gpu, bias=True)
        list(fit(model, x, y, epochs=3, batch_size=40, shuffle=True, test=(x, y)))
        # sums of the last losses, of the weights, of all losses; and how many answers are right
        between = [first - last for (_, last), (first, _) in pairwise(ends)]
        assert between == [4, 4]

    def test_the_next_order_is_drawn_while_the_device_learns(self, fake, gpu, monkeypatch):
        x, y = digits(40, 30, 3)
        counts, events = fake.machine.counts, []

        def noted(owner, name):
            inner = getattr(owner, name)

            def note(*args):
                result = inner(*args)
                events.append((name, counts["synchronizations"]))
                return result

            monkeypatch.setattr(owner, name, note)

        noted(Training, "_learn")
        noted(Course, "order")
        model = MLP([30, 5, 3], backend=gpu)
        list(fit(model, x, y, epochs=3, batch_size=40, shuffle=True, test=(x, y)))
        assert [name for name, _ in events] == 3 * ["order", "_learn"]
        for (_, learned), (_, drawn) in (events[1:3], events[3:5]):
            assert learned == drawn

    def test_other_weights_get_another_graph(self, gpu, base_on_numpy):
        x, y = digits(500, 30, 3)
        training = {"sizes": [30, 20, 3]}, x, y, steps(500, 80)
        desired = learn(base_on_numpy, *training)
        for _ in range(3):
            assert_weights(on_host(learn(gpu, *training)), desired, 1e-12)

    @pytest.mark.parametrize(
        "activation", ["sigmoid", pytest.param("scaled_tanh", marks=pytest.mark.thorough), "gelu"]
    )
    @pytest.mark.parametrize("bias", [False, True])
    @pytest.mark.parametrize("l2", [0.0, 3.0])
    @pytest.mark.parametrize("batch_size", [1, 40])
    def test_adam_is_the_textbooks(self, gpu, base_on_numpy, activation, bias, l2, batch_size):
        x, y = digits(210, 30, 3)
        outcomes = []
        for backend in (gpu, base_on_numpy):
            network = {"loss": "cross_entropy", "bias": bias, "l2": l2, "dtype": "float64"}
            model = MLP([30, 20, 10, 3], backend=backend, activation=activation, **network)
            options = {"optimizer": "adam", "learning_rate": 0.01, "batch_size": batch_size}
            *_, report = fit(model, x, y, epochs=2, **options)
            outcomes.append([*model.get_weights(), report.train_loss])
        assert_weights(*outcomes, 1e-10)

    @pytest.mark.parametrize("loss", ["rashid", "cross_entropy"])
    @pytest.mark.parametrize("bias", [False, True])
    def test_adamw_is_the_textbooks(self, fake, gpu, base_on_numpy, loss, bias):
        x, y = digits(210, 30, 3)
        outcomes = []
        for backend in (gpu, base_on_numpy):
            network = {"loss": loss, "bias": bias, "l2": 3.0, "dtype": "float64"}
            model = MLP([30, 20, 50, 10, 3], backend=backend, init="fan_in", **network)
            options = {"optimizer": "adamw", "weight_decay": 0.3, "learning_rate": 0.01}
            *_, report = fit(model, x, y, epochs=2, batch_size=40, **options)
            outcomes.append([*model.get_weights(), report.train_loss])
        assert_weights(*outcomes, 1e-10)
        assert fake.machine.ran["update"]

    @pytest.mark.parametrize("batch_size", [1, 40])
    def test_nothing_is_compiled_once_a_training_runs(self, gpu, monkeypatch, batch_size):
        x, y = digits(100, 30, 3)
        compiled, prepare = [], Training._compile

        def prepared(*args):
            prepare(*args)
            compiled.append(gpu._kernels.cache_info().misses)

        monkeypatch.setattr(Training, "_compile", prepared)
        list(fit(MLP([30, 300, 3], backend=gpu), x, y, batch_size=batch_size, test=(x, y)))
        assert compiled == [gpu._kernels.cache_info().misses]


class TestAnswers:
    @pytest.mark.parametrize("loss", ["rashid", "binary_cross_entropy", "cross_entropy"])
    @pytest.mark.parametrize("activation", list(ACTIVATIONS))
    @pytest.mark.parametrize("sizes", [[20, 4], [20, 30, 50], [20, 9, 8, 7, 3]])
    def test_are_the_textbooks(self, gpu, base_on_numpy, loss, activation, sizes):
        x, y = digits(33, 20, sizes[-1])
        answers = []
        for backend in (gpu, base_on_numpy):
            network = {"loss": loss, "activation": activation, "l2": 0.1}
            model = MLP(sizes, backend=backend, bias=True, dtype="float64", **network)
            model.set_weights([w + 0.1 for w in model.get_weights()])
            found = [model.predict_proba(x), model.predict_proba(x[:0]), *model.gradients(x, y)]
            found = [backend.to_numpy(a) for a in found]
            answers.append([*found, model.loss(x, y), model.accuracy(x, y)])
        assert_weights(*answers, 1e-12)

    def test_come_in_as_large_batches_as_fit(self, fake, gpu, base_on_numpy):
        x, _ = digits(3000, 20)
        model = MLP([20, 30, 10], backend=gpu, dtype="float64")
        fake.machine.forget()
        whole = model.predict_proba(x).get()
        assert [launch.name for launch in fake.machine.launches].count("inputs") == 1
        fake.machine.memory = fake.machine.used + 900_000
        fake.machine.forget()
        assert_weights([model.predict_proba(x).get()], [whole], 1e-13)
        assert [launch.name for launch in fake.machine.launches].count("inputs") > 2

    def test_one_number_comes_back(self, fake, gpu):
        x, y = digits(500, 20)
        model = MLP([20, 30, 10], backend=gpu)
        values, labels = model.samples(x), model.labels(y, 500)
        fake.machine.forget()
        model.accuracy(values, labels)
        # one of them says that no label is out of range
        assert fake.machine.counts["downloads"] == 2


def deformations(shape, dtype, real, n=3):
    """Images, maps and fields, by eighths: some places are just at an edge, some means halves."""
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (n, *shape))
    pictures = (pictures / 255 if np.dtype(dtype).kind == "f" else pictures).astype(dtype)
    maps = np.eye(2, 3) + rng.normal(0, [0.2, 0.2, 0.5], (n, 2, 3))
    fields = rng.normal(0, 1, (n, 2, *shape))
    return pictures, *((np.round(8 * a) / 8).astype(real) for a in (maps, fields))


class TestDeform:
    @pytest.mark.parametrize("shape", [(28, 28), (1, 5), (5, 1), (1, 1), (9, 16)])
    @pytest.mark.parametrize(
        ("dtype", "real"),
        [
            ("bool", "float32"),
            ("uint8", "float32"),
            ("int16", "float32"),
            ("float32", "float32"),
            ("float64", "float32"),
            ("float64", "float64"),
        ],
    )
    def test_is_the_textbooks_in_one_launch(self, fake, gpu, base_on_numpy, dtype, real, shape):
        pictures, maps, fields = deformations(shape, dtype, real)
        for by in (fields, None):
            device = [None if a is None else fake.asarray(a) for a in (pictures, maps, by)]
            fake.machine.forget()
            found = gpu.deform(*device, 2.0)
            assert [launch.name for launch in fake.machine.launches] == ["deform"]
            assert fake.machine.ran.total() == 1
            desired = base_on_numpy.deform(pictures, maps, by, 2.0)
            np.testing.assert_array_equal(found.get(), desired, strict=True)

    def test_goes_back_to_the_textbook_for_half_precision(self, fake, gpu, base_on_numpy):
        arrays = deformations((5, 6), "float16", "float32")
        found = gpu.deform(*map(fake.asarray, arrays), 0.0)
        assert not fake.machine.launches
        np.testing.assert_array_equal(found.get(), base_on_numpy.deform(*arrays, 0.0), strict=True)

    def test_takes_arrays_however_they_lie(self, fake, gpu, base_on_numpy):
        def part(pictures, maps, fields):
            return pictures[::2, :, ::-1], maps[1::2], fields[3:, :, :, ::-1]

        arrays = deformations((8, 6), "uint8", "float32", n=6)
        found = gpu.deform(*part(*map(fake.asarray, arrays)), 0.0)
        np.testing.assert_array_equal(found.get(), base_on_numpy.deform(*part(*arrays), 0.0))

    def test_of_no_images_are_none(self, fake, gpu):
        arrays = deformations((4, 5), "uint8", "float32", n=0)
        assert gpu.deform(*map(fake.asarray, arrays), 0.0).shape == (0, 4, 5)

    def test_a_thread_may_take_many_pixels(self, fake, gpu, base_on_numpy):
        arrays = deformations((9, 16), "uint8", "float32")
        images, maps, fields = map(fake.asarray, arrays)
        out = fake.empty(images.shape, images.dtype)
        kernels = gpu._kernels("deforming", maps.dtype, images.dtype)
        count, background = np.int64(images.size), np.float32(0)
        kernels("deform", 2, 32, count, 9, 16, images, maps, fields, background, out)
        np.testing.assert_array_equal(out.get(), base_on_numpy.deform(*arrays, 0.0))

    @pytest.mark.parametrize("wild", [np.nan, np.inf, -np.inf, 3e38, 1e10, -1e10])
    def test_reads_nothing_outside_of_an_image(self, fake, gpu, base_on_numpy, wild):
        if reason := race_check.unavailable("address"):
            pytest.skip(reason)
        pictures, maps, fields = deformations((4, 5), "float32", "float32")
        fields[:, :, ::2] = wild
        maps[-1], fields[-1] = np.eye(2, 3), 0  # which takes the memory's last pixel as it is
        reports = []

        def check(launch):
            reports.append(race_check.races(launch, fake.machine.allocations(), "address"))

        fake.machine.before_launch.append(check)
        found = gpu.deform(*map(fake.asarray, (pictures, maps, fields)), 7.0)
        assert reports == [""]
        np.testing.assert_array_equal(
            found.get(), base_on_numpy.deform(pictures, maps, fields, 7.0)
        )


class TestRanks:
    ARRAYS = np.arange(12.0).reshape(3, 4), np.arange(5.0), np.float64(7)

    def test_arrays_are_fused_by_way_of_pinned_memory(self, any_gpu):
        arrays = [any_gpu.asarray(a) for a in self.ARRAYS]
        fused = any_gpu.fused(arrays)
        assert isinstance(fused, np.ndarray)
        np.testing.assert_array_equal(fused, [*range(12), *range(5), 7])
        fused *= 3
        for found, a in zip(any_gpu.split(fused, arrays), self.ARRAYS, strict=True):
            np.testing.assert_array_equal(any_gpu.to_numpy(found), 3 * a, strict=True)
        small = any_gpu.fused([any_gpu.asarray([1.0, 2.0])])
        assert np.shares_memory(small, fused)

    def test_without_nccl_nothing_sums_on_the_device(self, any_gpu):
        assert any_gpu.device_sum(0, lambda said: [said, ""]) is None

    def test_nccl_sums_on_the_device_where_each_process_has_its_own(self, fake, gpu, monkeypatch):
        """The other process has the same numbers."""
        asked = []

        class Communicator:
            def __init__(self, count, identifier, index):
                asked.append((count, identifier, index))

            def allReduce(self, source, target, count, kind, operation, stream):
                assert (source, kind, operation) == (target, "f8", "sum")
                numbers = (ctypes.c_double * count).from_address(target)
                numbers[:] = [2 * number for number in numbers]

        nccl = SimpleNamespace(
            available=True,
            get_unique_id=lambda: b"\x01\x02",
            NcclCommunicator=Communicator,
            NCCL_FLOAT64="f8",
            NCCL_SUM="sum",
        )
        monkeypatch.setattr(fake.cuda, "nccl", nccl)
        assert gpu.device_sum(0, lambda said: [said, said]) is None  # both have this one
        assert gpu.device_sum(0, lambda said: [said, ""]) is None
        sum_up = gpu.device_sum(0, lambda said: [said, said.replace(":01:", ":02:")])
        assert asked == [(2, b"\x01\x02", 0)]
        for found, a in zip(
            sum_up([gpu.asarray(a) for a in self.ARRAYS]), self.ARRAYS, strict=True
        ):
            np.testing.assert_array_equal(found.get(), 2 * a)

    def test_a_divided_training_ends_where_the_whole_does(self, any_gpu):
        turn, case = threading.Lock(), {"deformed": True, "dropout": 0.2, "momentum": 0.5}

        class Ranks(ThreadRanks):
            """Threads that take turns, on one device."""

            def _exchange(self, what):
                turn.release()
                try:
                    return super()._exchange(what)
                finally:
                    turn.acquire()

            def sum(self, arrays):
                parts = self._exchange(np.array(self.gpu.fused(arrays)))
                return self.gpu.split(sum(parts), arrays)

        def train(ranks):
            ranks.__class__ = Ranks
            with turn:
                ranks.gpu = select("gpu")
                return trained(ranks.gpu, ranks, **case)[0]

        desired, *_ = trained(select("cpu"), **case)
        for found in together(2, train):
            for w, a in zip(desired, found, strict=True):
                np.testing.assert_allclose(a, w, rtol=0, atol=1e-9)


class TestNoise:
    def test_begins_at_any_row(self, any_gpu):
        whole = any_gpu.to_numpy(any_gpu.noise((1, 2, 3), 4, 9, 21, "float64"))
        part = any_gpu.noise((1, 2, 3), 4, 4, 21, "float64", 5)
        np.testing.assert_array_equal(any_gpu.to_numpy(part), whole[5:])

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    @pytest.mark.parametrize(("n", "units"), [(3, 1), (5, 8), (70, 61), (1, 2000)])
    def test_is_the_cpus(self, any_gpu, dtype, n, units):
        for key in ((2**63 - 1, 2, 2**40 + 3), (0, 1, 0)):
            for layer in (0, 2**31 + 1):
                found = any_gpu.noise(key, layer, n, units, dtype)
                desired = select("cpu").noise(key, layer, n, units, dtype)
                np.testing.assert_array_equal(any_gpu.to_numpy(found), desired, strict=True)

    def test_is_one_launch(self, fake, gpu):
        fake.machine.forget()
        gpu.noise((1, 2, 3), 4, 100, 50, "float32")
        assert fake.machine.ran == {"uniform": 1}

    @pytest.mark.parametrize("normalized", [False, True])
    def test_drops_the_cpus_units(self, any_gpu, normalized):
        lesson = Lesson((30, 70, 50, 4), "relu", dropped=(0.2, 0.5), normalized=normalized)
        lesson = replace(lesson, rule=Rule(momentum=0.9), samples=157, size=32)
        assert_weights(lesson.learn(any_gpu), lesson.learn(select("cpu")), 1e-10)
        others = replace(lesson, made=1).learn(any_gpu)
        assert not np.allclose(others[1], lesson.learn(any_gpu)[1], rtol=1e-3)

    @pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
    def test_deforms_to_the_cpus_images(self, any_gpu, dtype):
        x, y = digits(300)
        x = x.astype(dtype)
        how = Deformation((28, 28), alpha=34.0, rotate=15.0, scale=15.0, shear=10.0, shift=2.0)
        images = []
        for backend in (any_gpu, select("cpu")):
            values = backend.asarray(x)
            feed = Resident(backend.xp, values, backend.asarray(y))
            deformed = DeformedFeed(feed, Deformer(backend, how, values.dtype), (5, 1))
            images.append(backend.to_numpy(deformed.rows(100, 300)[0]).astype("float64"))
        found, desired = images
        assert np.abs(found - x[100:]).max() > 50
        if dtype == "uint8":  # where a mean of four is a half but for rounding
            assert np.abs(found - desired).max() <= 1
            assert (found != desired).mean() < 1e-3
        else:
            rounding = 2e-2 if dtype == "float32" else 1e-9
            np.testing.assert_allclose(found, desired, rtol=0, atol=rounding)


class TestMemory:
    @pytest.mark.parametrize("shuffle", [pytest.param(False, marks=pytest.mark.thorough), True])
    @pytest.mark.parametrize("batch_size", [1, 30])
    def test_data_that_does_not_fit_is_streamed(self, fake, shuffle, batch_size):
        x, y = digits(600, 1500, 3)
        outcomes = []
        for short in (False, True):
            gpu = select("gpu")
            model = MLP([1500, 20, 3], backend=gpu)
            if short:
                gc.collect()
                fake.machine.memory = fake.machine.used + x.nbytes
            assert (type(gpu.place_samples(x)) is np.ndarray) == short
            options = {"shuffle": shuffle, "seed": 3, "batch_size": batch_size}
            *_, report = fit(model, x, y, epochs=2, test=(x, y), **options)
            outcomes.append([*model.get_weights(), report.train_loss, report.test_accuracy])
        assert_weights(*outcomes, 0)

    @pytest.mark.parametrize(
        ("training", "arrays"),
        [
            ({}, 2),
            ({"averaging": 0.9}, 3),
            ({"momentum": 0.9}, 3),
            ({"momentum": 0.9, "clip": 1.0}, 4),
            ({"momentum": 0.9, "optimizer": "nesterov"}, 4),
            ({"optimizer": "adam"}, 5),
            ({"optimizer": "adamw", "weight_decay": 0.1}, 5),
        ],
    )
    def test_training_takes_so_many_bytes_a_weight(self, fake, gpu, monkeypatch, training, arrays):
        monkeypatch.setattr("backends.gpu._WARM_UP_UNITS", 16)  # little beside the network
        x, y = digits(20, 64)
        gc.collect()
        before, state = fake.machine.used, None
        for _ in range(2):  # from the start, and from the middle of an epoch
            fake.machine.free_all_blocks()
            model = MLP([64, 300, 200, 10], backend=gpu)
            reports = fit(model, x, y, epochs=2, batch_size=4, state=state, **training)
            next(reports)
            state = reports.state()
            list(reports)
            # weights, their copy of the epoch's start, the optimiser's memory, gradients
            needed = 4 * arrays * model.weight_count
            taken = fake.machine.held - before
            assert needed < taken < needed + 0.6 * model.weight_count
            del model, reports
            assert fake.machine.used == before

    @pytest.mark.parametrize("batch_size", [1, 4])
    def test_a_training_left_early_keeps_nothing(self, gpu, monkeypatch, batch_size):
        monkeypatch.setattr("trainer.training.loop._REPORT_SECONDS", 1e-9)
        x, y = digits(140, 9, 3)
        for _ in fit(MLP([9, 5, 3], backend=gpu), x, y, batch_size=batch_size):
            assert gpu._running
            break
        gc.collect()
        assert not gpu._running

    @pytest.mark.parametrize("training", [{}, {"momentum": 0.5}, {"optimizer": "adam"}])
    def test_a_batch_has_room_for_the_samples_there_are_alone(self, fake, gpu, training):
        x, y = digits(10, 4, 3)
        model = MLP([4, 3, 3], backend=gpu)
        gc.collect()
        fake.machine.memory = fake.machine.used + 10_000
        list(fit(model, x, y, epochs=2, batch_size=2**31 - 1, **training))

    def test_running_out_of_it_is_one_line(self, fake, gpu):
        fake.machine.memory = fake.machine.used + (3 << 20)
        with pytest.raises(MemoryError) as caught:
            MLP([784, 2000, 10], backend=gpu)
        line = memory_shortage(caught.value)
        assert line.startswith("the GPU was asked for 6.0 MiB, 3.0 MiB of its ")
        assert "\n" not in line


class TestMatmul:
    def test_float64_stays(self, fake, base_on_numpy):
        x, y = digits(100, 20, 3)
        training = {"sizes": [20, 10, 3]}, x, y, steps(100, 20)
        actual = on_host(learn(select("gpu", "tf32"), *training))
        assert_weights(actual, learn(base_on_numpy, *training), 1e-12)

    def test_is_the_gpus(self, fake):
        with pytest.raises(ValueError, match="'tf32' is for a GPU: the CPU multiplies in float32"):
            select("cpu", "tf32")
        with pytest.raises(ValueError, match="'int8' is unknown: expected float32 or tf32"):
            select("gpu", "int8")


def test_a_backend_that_nobody_uses_gives_its_handle_back(fake):
    handles = fake.cuda.cublas._handles
    before = len(handles)
    for _ in range(3):
        x, y = digits(40, 9, 3)
        list(fit(MLP([9, 5, 3], backend=select("gpu")), x, y, batch_size=8))
    gc.collect()
    assert len(handles) == before
    gpu = select("gpu")
    assert len(handles) == before + 1
    del gpu  # at once, without a search for cycles
    assert len(handles) == before


def refuse(monkeypatch, method):
    """Make streams refuse to begin or to end a capture, as where graphs are not supported."""
    import cupy

    usual = getattr(cupy.cuda.Stream, method)

    def refuses(stream, *args):
        if method == "end_capture":
            usual(stream, *args)
        raise cupy.cuda.runtime.CUDARuntimeError(801)  # cudaErrorNotSupported

    monkeypatch.setattr(cupy.cuda.Stream, method, refuses)


@pytest.mark.gpu
class TestOnAGpu:
    def test_a_backend_that_nobody_uses_gives_its_handle_back(self, gpu_backend, monkeypatch):
        import cupy

        cublas, there = cupy.cuda.cublas, []
        create, destroy = cublas.create, cublas.destroy

        def created():
            there.append(create())
            return there[-1]

        def destroyed(handle):
            there.remove(handle)
            destroy(handle)

        monkeypatch.setattr(cublas, "create", created)
        monkeypatch.setattr(cublas, "destroy", destroyed)
        gpu = select("gpu")
        gpu.product(gpu.asarray(np.eye(3)), gpu.asarray(np.eye(3)))
        assert len(there) == 1
        del gpu
        assert not there

    @settings(max_examples=60)
    @given(training=trainings())
    def test_is_the_textbooks(self, gpu_backend, base_on_numpy, training):
        actual = [gpu_backend.to_numpy(a) for a in learn(gpu_backend, *training)]
        assert_weights(actual, learn(base_on_numpy, *training), 1e-9)

    @pytest.mark.parametrize("batch_size", [1, 64])
    def test_the_same_twice(self, gpu_backend, batch_size):
        x, y = digits(600)
        outcomes = []
        for _ in range(2):
            model = MLP([784, 200, 10], backend=gpu_backend)
            reports = fit(model, x, y, epochs=2, batch_size=batch_size, shuffle=True, seed=0)
            losses = [report.train_loss for report in reports if isinstance(report, EpochReport)]
            outcomes.append([*model.get_weights(), *losses])
        assert_weights(*outcomes, 0)

    # half the last bit that a factor keeps: 2⁻¹¹, 2⁻⁸ and 2⁻¹¹ of it, at most
    @pytest.mark.parametrize(
        ("matmul", "error"), [("tf32", 2**-11), ("bfloat16", 2**-8), ("float16", 2**-11)]
    )
    def test_products_round_their_factors_alone(self, gpu_backend, matmul, error):
        rng = np.random.default_rng(0)
        a, b = (rng.normal(size=(256, 256)).astype(np.float32) for _ in range(2))
        gpu = select("gpu", matmul)
        found = gpu.to_numpy(gpu.product(gpu.asarray(a), gpu.asarray(b)))
        difference = np.abs(found - a.astype(np.float64) @ b) / (np.abs(a) @ np.abs(b))
        assert difference.max() < 2 * error + 1e-6
        # before Ampere tensor cores knew float16 alone, and cuBLAS may round less than it is let
        if int(gpu.xp.cuda.Device().compute_capability) >= 80:
            assert difference.max() > 1e-6
        assert found.dtype == np.float32

    @pytest.mark.parametrize("matmul", ["tf32", "bfloat16", "float16"])
    def test_learns_as_well_by_rounded_products(self, gpu_backend, matmul):
        x, y = digits(1500, 60, 4)
        y = np.argmax(x[:, :60].astype(int) @ np.random.default_rng(2).normal(size=(60, 4)), axis=1)
        accuracy = {}
        for name in ("float32", matmul):
            model = MLP([60, 40, 4], backend=select("gpu", name))
            options = {"batch_size": 25, "learning_rate": 1.0, "epochs": 10}
            *_, report = fit(model, x, y, test=(x, y), **options)
            accuracy[name] = report.test_accuracy
        assert accuracy["float32"] > 0.9
        assert abs(accuracy[matmul] - accuracy["float32"]) < 0.01

    @pytest.mark.parametrize("refused", ["begin_capture", "end_capture", "library"])
    @pytest.mark.parametrize("momentum", [0.0, 0.9])
    def test_where_no_graph_is_to_be_had_steps_are_launched(
        self, gpu_backend, monkeypatch, refused, momentum
    ):
        x, y = digits(500, 30, 3)
        training = {"sizes": [30, 20, 3], "bias": True}, x, y, steps(500, 80, momentum)
        usual = select("gpu")
        wanted = on_host(learn(usual, *training))
        assert all(batches._graph for batches in usual._running.values())
        if refused == "library":  # CuPy's own wrapper refuses to multiply in a capture
            monkeypatch.setattr(cublas, "cublas_library", lambda major: None)
        else:
            refuse(monkeypatch, refused)
        gpu = select("gpu")
        assert_weights(on_host(learn(gpu, *training)), wanted, 0)
        assert all(batches._graph is None for batches in gpu._running.values())

    @pytest.mark.parametrize("refused", ["begin_capture", "end_capture"])
    @pytest.mark.parametrize("momentum", [0.0, 0.9])
    def test_where_no_graph_is_to_be_had_blocks_are_launched(
        self, gpu_backend, monkeypatch, refused, momentum
    ):
        monkeypatch.setattr("backends.kernels.cuda.online._STRETCH", 3)
        monkeypatch.setattr("backends.kernels.cuda.online._WORTH_A_GRAPH", 4)
        x, y = digits(650, 30, 3)
        step = steps(650, momentum=momentum, penalty=0.01)
        step["rates"] = list(np.geomspace(0.2, 0.01, 650))
        training = {"sizes": [30, 20, 3], "bias": True}, x, y, step, "float32"
        usual = select("gpu")
        wanted = on_host(learn(usual, *training))
        assert all(blocks._graph for blocks in usual._running.values())
        refuse(monkeypatch, refused)
        gpu = select("gpu")
        assert_weights(on_host(learn(gpu, *training)), wanted, 0)
        assert all(blocks._graph is None for blocks in gpu._running.values())


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    "training",
    [
        {},
        {"momentum": 0.9, "shuffle": True},
        {"batch_size": 16, "momentum": 0.5, "shuffle": True},
        {"batch_size": 16, "optimizer": "adam"},
        {"batch_size": 16, "deformation": Deformation((5, 6), alpha=8.0, rotate=20.0)},
        {"batch_size": 16, "dropout": 0.5, "input_dropout": 0.2, "batch_norm": True},
    ],
)
def test_a_training_goes_on_to_the_same_bits(fake, gpu, monkeypatch, training, streamed):
    monkeypatch.setattr("trainer.training.loop._REPORT_SECONDS", 1e-9)
    x, y = digits(150, 30, 4)
    if streamed:
        monkeypatch.setattr(type(gpu), "place_samples", lambda self, a: np.asarray(a))
        monkeypatch.setattr("backends.gpu._STREAMED", 1e-9)  # as few at a time as can be
    network = {"sizes": [30, 20, 4], "backend": gpu, "loss": "cross_entropy", "bias": True}
    whole = MLP(**network)
    reports = fit(whole, x, y, epochs=2, seed=1, **training)
    states = [reports.state() for _ in reports]
    for state in states[::2]:
        model = MLP(**network, seed=9)
        list(fit(model, x, y, epochs=2, seed=1, **training, state=state))
        assert_weights(model.get_weights(), whole.get_weights(), 0)


def test_sparse_samples_become_dense_on_the_device(any_gpu):
    rng = np.random.default_rng(0)
    x = sparse.random_array((60, 30), density=0.1, format="csc", rng=rng, dtype="f4")
    placed = any_gpu.place_samples(x)
    assert placed.csr.nnz == x.nnz
    rows = np.array([5, 0, 5])
    np.testing.assert_array_equal(any_gpu.to_numpy(any_gpu.part(placed, rows)), x.toarray()[rows])
    outcomes = []
    for samples in (x, x.toarray()):
        model = MLP([30, 20, 4], backend=any_gpu)
        for _ in fit(model, samples, np.arange(60) % 4, epochs=2, batch_size=8, seed=3):
            pass
        outcomes.append(model.get_weights())
    assert_weights(*outcomes, 0)


def test_a_lost_gpu_is_told_from_other_errors(fake):
    cuda_error, cublas_error = fake.cuda.runtime.CUDARuntimeError, fake.cuda.cublas.CUBLASError
    for error in (
        cuda_error("cudaErrorLaunchFailure: unspecified launch failure"),
        cublas_error("CUBLAS_STATUS_EXECUTION_FAILED"),
        cublas.CublasError("cuBLAS refused with status 13"),
    ):
        line = f"the GPU failed ({error}); nvidia-smi says whether it is still there"
        assert device_failure(error) == line
    assert device_failure(RuntimeError("something else")) is None

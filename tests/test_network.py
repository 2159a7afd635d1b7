import copy
import inspect
import pickle
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from scipy.special import expit

from backends import select
from backends.functions import ACTIVATIONS, LOSSES
from tests.conftest import assert_weights, drawn_dataset, samples
from trainer import MLP, Deformation, benchmarking, fit
from trainer.augmentation import deformed_examples, rotate, with_turned_copies
from trainer.recipes import RECIPES, augmented, build
from trainer.weight_files import WeightFileError

pytestmark = pytest.mark.filterwarnings("error")


def gradient_errors(model, x, y, h=1e-5):
    """Relative distance of each of `model.gradients` from central differences of `model.loss`."""
    weights = model.get_weights()
    gradients = [model.backend.to_numpy(g) for g in model.gradients(x, y)]
    errors = []
    for w, gradient in zip(weights, gradients, strict=True):
        numeric = np.zeros_like(w)
        for i in np.ndindex(w.shape):
            there, losses = w[i], []
            for w[i] in (there + h, there - h):
                model.set_weights(weights)
                losses.append(model.loss(x, y))
            w[i] = there
            numeric[i] = (losses[0] - losses[1]) / (2 * h)
        norm = max(np.linalg.norm(gradient), np.linalg.norm(numeric))
        errors.append(np.linalg.norm(gradient - numeric) / norm)
    model.set_weights(weights)
    return errors


def small_network(backend, hidden, **settings):
    """A network with weights and biases of order one, none of them zero."""
    sizes = [3, *hidden, 2]
    model = MLP(sizes, backend=backend, dtype="float64", scale=0.5, shift=0.1, **settings)
    rng = np.random.default_rng(3)
    model.set_weights([rng.normal(size=w.shape) for w in model.get_weights()])
    return model


class TestGradients:
    @pytest.mark.parametrize("l2", [0.0, 2.0])
    @pytest.mark.parametrize("bias", [False, True])
    @pytest.mark.parametrize("loss", ["squared_error", "binary_cross_entropy", "cross_entropy"])
    @pytest.mark.parametrize(
        ("activation", "hidden"),
        # without a hidden layer there is no activation; and test_gradcheck.py has one layer too
        [("sigmoid", []), ("sigmoid", [3]), *((name, [3, 3]) for name in ACTIVATIONS)],
        ids=str,
    )
    def test_are_the_slopes_of_the_loss(self, backend, activation, loss, bias, l2, hidden):
        model = small_network(backend, hidden, activation=activation, loss=loss, bias=bias, l2=l2)
        # no pre-activation of these samples lies within a step of relu's kink
        assert max(gradient_errors(model, *samples(5, 3, 2))) < 1e-7

    @pytest.mark.parametrize("loss", ["squared_error", "binary_cross_entropy", "cross_entropy"])
    def test_with_targets_that_do_not_sum_to_one(self, backend, loss):
        model = small_network(backend, [3], loss=loss, target_low=0.1, target_high=0.7)
        assert max(gradient_errors(model, *samples(5, 3, 2))) < 1e-7

    @pytest.mark.parametrize("hidden", [[], [3], [3, 3]], ids=str)
    @pytest.mark.parametrize("bias", [False, True])
    @pytest.mark.parametrize("activation", ACTIVATIONS)
    def test_of_rashids_rule_are_slopes_in_the_output_layer_only(
        self, backend, activation, bias, hidden
    ):
        model = small_network(backend, hidden, activation=activation, bias=bias, l2=1.0)
        errors = gradient_errors(model, *samples(5, 3, 2))
        per_layer = 2 if bias else 1
        assert max(errors[-per_layer:]) < 1e-7
        assert min(errors[:-per_layer], default=1) > 1e-2

    def test_of_ngs_published_example(self, backend):
        parameters = np.arange(1, 19) / 10
        thetas = [
            parameters[:6].reshape(2, 3, order="F"),
            parameters[6:].reshape(4, 3, order="F"),
        ]
        model = MLP(
            [2, 2, 4],
            backend=backend,
            bias=True,
            loss="binary_cross_entropy",
            l2=4,
            dtype="float64",
            scale=1,
            shift=0,
        )
        model.set_weights([part for theta in thetas for part in (theta[:, 1:].T, theta[:, 0])])
        x, y = np.cos([[1, 2], [3, 4], [5, 6]]), np.array([4, 2, 3]) - 1
        assert model.loss(x, y) == pytest.approx(19.474, abs=5e-4)

        W1, b1, W2, b2 = (backend.to_numpy(g) for g in model.gradients(x, y))
        unrolled = np.concatenate([b1, W1.ravel(), b2, W2.ravel()])
        published = """
            0.76614 0.97990 0.37246 0.49749 0.64174 0.74614 0.88342 0.56876 0.58467
            0.59814 1.92598 1.94462 1.98965 2.17855 2.47834 2.50225 2.52644 2.72233
        """
        np.testing.assert_allclose(unrolled, [float(g) for g in published.split()], atol=5.1e-6)


class TestSettings:
    def test_defaults_are_the_lessons(self, backend):
        model = MLP([784, 200, 10], backend=backend)
        assert model.settings() == {
            "sizes": [784, 200, 10],
            "activation": "sigmoid",
            "output": "sigmoid",
            "loss": "rashid",
            "bias": False,
            "init": "hidden",
            "seed": 0,
            "dtype": "float32",
            "target_low": 0.01,
            "target_high": 0.99,
            "l2": 0.0,
        }
        assert float(model.spec.scale) == pytest.approx(0.99 / 255, rel=1e-6)
        assert float(model.spec.shift) == pytest.approx(0.01, rel=1e-6)
        assert model.weight_count == 784 * 200 + 200 * 10
        assert inspect.signature(MLP).parameters["backend"].default == "auto"

    @pytest.mark.parametrize(
        ("loss", "output", "targets"),
        [
            ("rashid", "sigmoid", (0.01, 0.99)),
            ("squared_error", "sigmoid", (0.01, 0.99)),
            ("binary_cross_entropy", "sigmoid", (0, 1)),
            ("cross_entropy", "softmax", (0, 1)),
        ],
    )
    def test_a_loss_implies_its_output_and_targets(self, backend, loss, output, targets):
        spec = MLP([2, 2], backend=backend, loss=loss).spec
        assert (spec.output, spec.target_low, spec.target_high) == (output, *targets)
        spec = MLP([2, 2], backend=backend, loss=loss, target_low=0.0, target_high=0.5).spec
        assert (spec.target_low, spec.target_high) == (0.0, 0.5)

        other = {"sigmoid": "softmax", "softmax": "sigmoid"}[output]
        with pytest.raises(ValueError, match="does not go with") as error:
            MLP([2, 2], backend=backend, loss=loss, output=other)
        advice = str(error.value).split(": ")[1]
        valid = {name for name in LOSSES if (name == "cross_entropy") == (other == "softmax")}
        assert f"output={output!r}" in advice
        assert {name for name in LOSSES if repr(name) in advice} == valid

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            (
                {"activation": "step"},
                "activation='step' is unknown: expected sigmoid or tanh or relu",
            ),
            ({"loss": "mse"}, "loss='mse' is unknown: expected rashid or squared_error or"),
            ({"output": "tanh"}, "output='tanh' is unknown: expected sigmoid or softmax"),
            ({"dtype": "float16"}, "dtype='float16' is unknown: expected float32 or float64"),
            ({"l2": -1}, "l2=-1: expected"),
            ({"l2": float("nan")}, "l2=nan: expected"),
            ({"scale": [1, 2, 3]}, r"scale has shape \(3,\): expected a number or \(2,\)"),
            ({"shift": [[1, 2]]}, r"shift has shape \(1, 2\): expected a number or \(2,\)"),
            ({"init": "zeros"}, "init='zeros' is unknown"),
            ({"sizes": [2]}, r"sizes=\[2\]: expected inputs, hidden layers and outputs"),
            ({"sizes": [2, 0, 2]}, r"sizes=\[2, 0, 2\]: expected"),
        ],
    )
    def test_a_wrong_one_is_named(self, backend, settings, message):
        with pytest.raises(ValueError, match=message):
            MLP(**{"sizes": [2, 2], "backend": backend, **settings})

    @pytest.mark.parametrize("dtype", ["float32", np.float32, np.dtype("float32")])
    def test_dtype_by_name_or_type(self, backend, dtype):
        model = MLP([2, 2], backend=backend, dtype=dtype)
        assert model.dtype == "float32"
        assert model.weights[0].dtype == backend.xp.float32


class TestWeights:
    def test_order_and_shapes(self, backend):
        shapes = [(4, 3), (3, 2), (2, 5)]
        model = MLP([4, 3, 2, 5], backend=backend)
        assert [w.shape for w in model.get_weights()] == shapes
        model = MLP([4, 3, 2, 5], backend=backend, bias=True)
        assert [w.shape for w in model.get_weights()] == [(4, 3), (3,), (3, 2), (2,), (2, 5), (5,)]

    def test_both_ways_are_copies(self, backend):
        model = MLP([2, 2], backend=backend, dtype="float64")
        given = [np.ones((2, 2))]
        model.set_weights(given)
        given[0][:] = 5
        model.get_weights()[0][:] = 6
        assert model.get_weights()[0].tolist() == [[1, 1], [1, 1]]

        on_device = backend.asarray(np.ones((2, 2)))
        model.set_weights([on_device])
        on_device[0, 0] = 7.0
        assert model.get_weights()[0].tolist() == [[1, 1], [1, 1]]

    @pytest.mark.parametrize("shapes", [[(3, 2)], [(2, 3), (4, 2)], [(2, 3), (3, 2), (2,)]])
    def test_of_other_shapes_are_refused(self, backend, shapes):
        model = MLP([2, 3, 2], backend=backend)
        before = model.get_weights()
        with pytest.raises(ValueError, match="weights have shapes") as error:
            model.set_weights([np.zeros(shape) for shape in shapes])
        assert str(shapes) in str(error.value)
        assert "[(2, 3), (3, 2)]" in str(error.value)
        assert_weights(model.get_weights(), before, 0)


class TestAnswers:
    def test_are_scaled_and_propagated(self, backend):
        scale, shift = np.array([0.1, 2.0, 1.0]), np.array([0.0, 1.0, -1.0])
        model = MLP(
            [3, 2, 4],
            backend=backend,
            activation="tanh",
            bias=True,
            dtype="float64",
            scale=scale,
            shift=shift,
        )
        rng = np.random.default_rng(0)
        W1, b1, W2, b2 = weights = [rng.normal(size=w.shape) for w in model.get_weights()]
        model.set_weights(weights)
        x, y = samples(50, 3, 4)
        desired = expit(np.tanh((x * scale + shift) @ W1 + b1) @ W2 + b2)

        proba, classes = model.predict_proba(x), model.predict(x)
        assert isinstance(proba, type(backend.xp.zeros(1)))
        assert isinstance(classes, type(backend.xp.zeros(1)))
        np.testing.assert_allclose(backend.to_numpy(proba), desired, rtol=1e-12)
        assert backend.to_numpy(classes).tolist() == desired.argmax(axis=1).tolist()
        assert model.accuracy(x, y) == np.mean(desired.argmax(axis=1) == y)

    @pytest.mark.parametrize("loss", ["binary_cross_entropy", "cross_entropy"])
    def test_do_not_show_the_chunks(self, backend, loss, monkeypatch):
        x, y = samples(2 * backend.chunk_size + 1, 3, 2)
        model = small_network(backend, [3], loss=loss, bias=True, l2=100.0)

        def answers():
            arrays = [model.predict_proba(x), model.predict(x), *model.gradients(x, y)]
            return [*(backend.to_numpy(a) for a in arrays), model.loss(x, y)]

        chunked = answers()
        monkeypatch.setattr(backend, "chunk_size", len(x))
        assert_weights(chunked, answers(), 1e-12)

    def test_for_no_samples(self, backend):
        model = MLP([3, 4, 2], backend=backend, loss="cross_entropy")
        nothing = np.zeros((0, 3))
        assert model.predict_proba(nothing).shape == (0, 2)
        assert model.predict(nothing).shape == (0,)
        with pytest.raises(ValueError, match="no samples"):
            model.loss(nothing, [])
        with pytest.raises(ValueError, match="no samples"):
            model.gradients(nothing, [])
        with pytest.raises(ValueError, match="no samples"):
            model.accuracy(nothing, [])

    @pytest.mark.parametrize("shape", [(3,), (2, 4), (2, 3, 1), ()])
    def test_need_samples_of_the_networks_width(self, backend, shape):
        with pytest.raises(ValueError, match=r"x has shape \(.*\): expected \(n, 3\)"):
            MLP([3, 2], backend=backend).predict(np.zeros(shape))


class TestLabels:
    @pytest.mark.parametrize("dtype", ["bool", "uint8", "int16", "uint64", ">i4", "float32", "f8"])
    def test_of_any_dtype(self, backend, dtype):
        model = MLP([3, 2], backend=backend)
        x, y = samples(6, 3, 2)
        assert model.loss(x, y.astype(dtype)) == model.loss(x, y) == model.loss(x, y.tolist())

    @pytest.mark.parametrize("wrong", [2, -1, 0.5, 1e300, float("nan")])
    def test_out_of_range_are_refused(self, backend, wrong):
        model = MLP([3, 2], backend=backend)
        with pytest.raises(ValueError, match=r"y\[1\] is .*: expected a whole number from 0 to 1"):
            model.loss(np.zeros((3, 3)), [0, wrong, 1])

    def test_of_another_number_are_refused(self, backend):
        model = MLP([3, 2], backend=backend)
        with pytest.raises(ValueError, match=r"y has shape \(2,\): expected \(3,\)"):
            model.loss(np.zeros((3, 3)), [0, 1])


class TestBackendsByName:
    """Wherever a backend is taken, its name is."""

    def test_makes_what_the_backend_makes(self):
        data, recipe, cpu = drawn_dataset(), RECIPES["rashid"], select("cpu")
        for given in ("cpu", "auto", cpu):
            assert build(recipe, data, backend=given).backend.name == "cpu"
        assert build(recipe, data).backend.name == "cpu"
        assert MLP([3, 2], backend=cpu).backend is cpu
        assert select(cpu) is cpu
        deformation = Deformation((3, 4), alpha=2.0, sigma=1.0)
        turned = replace(recipe, augment=("copies:10",))
        image = replace(data, image_shape=(3, 4))
        for call in (
            lambda on: with_turned_copies(on, data.train_x, data.train_y, (3, 4), [10])[0],
            lambda on: rotate(on, data.train_x, (3, 4), 10),
            lambda on: deformed_examples(on, deformation, data.train_x, 2),
            lambda on: augmented(turned, image, on)[0].train_x,
        ):
            np.testing.assert_array_equal(call("cpu"), call(cpu))
        sizes = {"batch_sizes": [1], "hidden": [3]}
        assert benchmarking.check(["cpu"], data, **sizes).difference < 1e-9
        assert next(benchmarking.benchmark(["cpu"], data, **sizes, seconds=0.1)).device == "cpu"

    @pytest.mark.parametrize("wrong", ["cuba", "CPU", "", 3, None])
    def test_that_are_none_say_what_is_expected(self, wrong):
        message = "unknown device .*: expected auto, cpu, gpu or gpu:N"
        with pytest.raises(ValueError, match=message):
            MLP([3, 2], backend=wrong)
        with pytest.raises(ValueError, match=message):
            build(RECIPES["rashid"], drawn_dataset(), backend=wrong)
        with pytest.raises(ValueError, match=message):
            rotate(wrong, np.zeros((1, 4)), (2, 2), 10)


class Bomb:
    """A pickle that acts when it is loaded."""

    def __reduce__(self):
        return (pytest.fail, ("a weight file was unpickled",))


class TestFiles:
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    @pytest.mark.parametrize("bias", [False, True])
    @pytest.mark.parametrize("scale", [0.25, [0.5, 1.0, 2.0]])
    def test_round_trip(self, backend, base_on_numpy, tmp_path, dtype, bias, scale):
        settings = {"loss": "cross_entropy", "activation": "relu", "l2": 0.5, "init": "he"}
        model = MLP(
            [3, 4, 2], backend=backend, dtype=dtype, bias=bias, scale=scale, seed=None, **settings
        )
        model.save(tmp_path / "model.safetensors")
        x, _ = samples(5, 3, 2)
        for path in (tmp_path, str(tmp_path / "model.safetensors")):
            loaded = MLP.load(path, backend=base_on_numpy)
            assert loaded.settings() == model.settings()
            assert_weights(loaded.get_weights(), model.get_weights(), 0)
            assert [w.dtype for w in loaded.get_weights()] == [dtype] * len(model.weights)
            assert loaded.spec.scale.tolist() == scale
            assert_weights(
                [loaded.predict_proba(x)], [backend.to_numpy(model.predict_proba(x))], 1e-6
            )

    def test_names_inside(self, backend, tmp_path):
        MLP([3, 4, 2], backend=backend, bias=True).save(tmp_path / "model.safetensors")
        shapes = {name: a.shape for name, a in load_file(tmp_path / "model.safetensors").items()}
        layers = {"W1": (3, 4), "b1": (4,), "W2": (4, 2), "b2": (2,)}
        assert shapes == {**layers, "scale": (), "shift": ()}

    def refused(self, path, backend):
        with pytest.raises(WeightFileError) as error:
            MLP.load(path, backend=backend)
        message = str(error.value)
        assert message.startswith(f"{path}")
        assert "\n" not in message
        return message

    def test_missing(self, base_on_numpy, tmp_path):
        assert "no such file" in self.refused(tmp_path / "nothing", base_on_numpy)
        assert "no such file" in self.refused(tmp_path, base_on_numpy)

    @pytest.mark.parametrize("kept", [0, 4, 100, -1])
    def test_truncated(self, base_on_numpy, tmp_path, kept):
        path = tmp_path / "model.safetensors"
        MLP([3, 2], backend=base_on_numpy).save(path)
        path.write_bytes(path.read_bytes()[:kept])
        assert "not a readable safetensors file" in self.refused(path, base_on_numpy)

    def test_foreign(self, base_on_numpy, tmp_path):
        path = tmp_path / "weights"
        path.write_bytes(pickle.dumps(Bomb()))
        assert "not a readable safetensors file" in self.refused(path, base_on_numpy)
        np.save(path.with_suffix(".npy"), np.array([Bomb()]), allow_pickle=True)
        assert "not a readable" in self.refused(path.with_suffix(".npy"), base_on_numpy)
        save_file({"W1": np.zeros((3, 2))}, path)
        assert "without this program's settings" in self.refused(path, base_on_numpy)

    @pytest.mark.parametrize(
        "settings",
        [
            "{",
            "[]",
            "{}",
            '{"sizes": [4, 2]}',
            '{"sizes": [3, 2], "bias": true}',
            '{"sizes": [3, 2], "loss": "mse"}',
            '{"sizes": [3, 2], "init": 5}',
            '{"sizes": [3, Infinity]}',
            '{"sizes": [3, 2], "momentum": 0.5}',
            '{"sizes": [3, 2], "backend": "gpu"}',
        ],
    )
    def test_with_damaged_settings(self, base_on_numpy, tmp_path, settings):
        path = tmp_path / "model.safetensors"
        arrays = {"W1": np.zeros((3, 2)), "scale": np.array(1.0), "shift": np.array(0.0)}
        save_file(arrays, path, metadata={"xptrainer": settings})
        self.refused(path, base_on_numpy)
        # the arrays are sound
        save_file(arrays, path, metadata={"xptrainer": '{"sizes": [3, 2]}'})
        assert MLP.load(path, backend=base_on_numpy).sizes == (3, 2)

    def test_without_an_array(self, base_on_numpy, tmp_path):
        path = tmp_path / "model.safetensors"
        arrays = {"W1": np.zeros((3, 2)), "scale": np.array(1.0)}
        save_file(arrays, path, metadata={"xptrainer": '{"sizes": [3, 2]}'})
        assert "shift" in self.refused(path, base_on_numpy)

    def test_a_failing_save_leaves_the_old_file(self, backend, tmp_path, monkeypatch):
        path = tmp_path / "model.safetensors"
        model = MLP([3, 2], backend=backend)
        model.save(path)
        before = path.read_bytes()
        model.set_weights([np.ones((3, 2))])

        def full(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("os.fsync", full)
        with pytest.raises(OSError, match="No space left"):
            model.save(path)
        assert path.read_bytes() == before
        assert list(tmp_path.iterdir()) == [path]


def test_the_input_map_is_the_networks_own(backend):
    scale = np.ones(2)
    model = MLP([2, 2], backend=backend, dtype="float64", scale=scale)
    before = backend.to_numpy(model.predict_proba(np.ones((1, 2))))
    scale[:] = 7
    np.testing.assert_array_equal(backend.to_numpy(model.predict_proba(np.ones((1, 2)))), before)


@pytest.mark.parametrize("given", ["scale", "shift"])
@pytest.mark.parametrize(
    "settings",
    [
        {"batch_size": 1},
        {"batch_size": 1, "momentum": 0.5},
        {"batch_size": 4},
        {"batch_size": 4, "optimizer": "adam"},
        {"batch_size": 4, "activation": "gelu"},
        {"batch_size": 4, "clip": 0.1, "dropout": 0.2, "input_dropout": 0.2},
        {"batch_size": 4, "batch_norm": True},
    ],
    ids=lambda settings: "-".join(map(str, settings.values())),
)
def test_an_input_map_of_a_vector_and_a_number_is_that_of_two_vectors(backend, given, settings):
    x, y = samples(11, 3, 2)
    vectors = {"scale": np.array([0.5, 1.0, 2.0]), "shift": np.array([0.1, -0.4, 0.8])}
    number = {"shift": 0.01} if given == "scale" else {"scale": 0.7}
    broadcast = {name: np.full(3, value) for name, value in number.items()}
    network = {"activation": settings.get("activation", "tanh"), "loss": "cross_entropy"}
    training = {name: value for name, value in settings.items() if name != "activation"}
    outcomes = []
    for other in (number, broadcast):
        model = MLP([3, 4, 2], backend=backend, bias=True, **network, **{**vectors, **other})
        reports = list(fit(model, x, y, epochs=2, seed=1, test=(x, y), **training))
        answers = [model.predict_proba(x), *model.gradients(x, y)]
        found = [backend.to_numpy(a) for a in answers]
        outcomes.append([*model.get_weights(), *found, model.loss(x, y), reports[-1].train_loss])
    assert_weights(*outcomes, 1e-6)
    assert np.abs(found[0]).max() <= 1


def test_numpy_integers_are_numbers_too(backend, tmp_path):
    model = MLP(np.array([2, 2]), backend=backend, seed=np.int64(3))
    model.save(tmp_path / "m")
    assert MLP.load(tmp_path / "m", backend=backend).seed == 3


@pytest.mark.parametrize("setting", ["scale", "shift", "target_low", "target_high"])
def test_numbers_must_be_finite(backend, setting):
    with pytest.raises(ValueError, match=setting):
        MLP([2, 2], backend=backend, **{setting: float("nan")})


def test_a_backend_may_be_a_name(tmp_path):
    model = MLP([3, 2], backend="cpu")
    assert model.backend.name == MLP([3, 2]).backend.name == "cpu"
    model.save(tmp_path / "model")
    assert MLP.load(tmp_path / "model").backend.name == "cpu"
    assert MLP.load(tmp_path / "model", backend="cpu").backend.name == "cpu"
    with pytest.raises(ValueError, match="tpu"):
        MLP([3, 2], backend="tpu")


PICKLED = {"bias": True, "loss": "cross_entropy", "init": "he", "l2": 0.5, "seed": None}


class TestPickling:
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    @pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
    def test_gives_the_same_network(self, dtype, copied):
        scale = np.random.default_rng(0).random(4)
        model = MLP([4, 3, 2], backend="cpu", scale=scale, shift=0.3, dtype=dtype, **PICKLED)
        other = copied(model)
        assert other.settings() == model.settings()
        assert_weights(other.arrays().values(), model.arrays().values(), 0)
        other.weights[0][...] = 0
        assert model.weights[0].all()  # nothing is shared

    def test_a_copy_stays_on_its_backend(self, backend):
        model = MLP([4, 3, 2], backend=backend, **PICKLED)
        other = copy.deepcopy(model)
        assert other.backend is backend
        assert_weights(other.get_weights(), model.get_weights(), 0)

    def test_without_its_gpu_it_is_loaded_on_the_cpu(self, monkeypatch):
        model = MLP([4, 3, 2], backend="cpu", **PICKLED)
        monkeypatch.setattr(model.backend, "name", "gpu:7")
        pickled = pickle.dumps((model, model.backend))
        with pytest.warns(UserWarning, match="what was on gpu:7 is now on the CPU") as told:
            loaded, its_backend = pickle.loads(pickled)
        assert all("\n" not in str(warning.message) for warning in told)
        assert loaded.backend.name == its_backend.name == "cpu"
        assert_weights(loaded.get_weights(), model.get_weights(), 0)

    @pytest.mark.gpu
    def test_from_a_gpu_it_is_loaded_there_or_on_the_cpu(self, gpu_backend, monkeypatch):
        model = MLP([4, 3, 2], backend=select(gpu_backend.name, "tf32"), **PICKLED)
        pickled = pickle.dumps(model)
        assert b"cupy" not in pickled
        loaded = pickle.loads(pickled)
        assert (loaded.backend.name, loaded.backend.matmul) == (gpu_backend.name, "tf32")
        assert_weights(loaded.arrays().values(), model.arrays().values(), 0)
        monkeypatch.setattr("backends.gpu.device_count", lambda cupy: 0)
        with pytest.warns(UserWarning, match="is now on the CPU"):
            loaded = pickle.loads(pickled)
        assert loaded.backend.name == "cpu"
        assert_weights(loaded.arrays().values(), model.arrays().values(), 0)

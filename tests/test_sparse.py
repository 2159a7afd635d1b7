"""SciPy's sparse samples mean what the dense array of them means, which is never made."""

import tracemalloc

import numpy as np
import pytest
from scipy import sparse
from sklearn.neural_network import MLPClassifier

import backends.sparse
from backends import Backend, select
from backends.sparse import SparseRows
from tests.conftest import assert_weights
from trainer import MLP, Deformation, fit, minimize
from trainer.augmentation import with_turned_copies

pytestmark = pytest.mark.filterwarnings("error")

RNG = np.random.default_rng(4)
DENSE = RNG.normal(size=(70, 21)) * (RNG.random((70, 21)) < 0.15)
LABELS = RNG.integers(0, 3, 70)
SCALE, SHIFT = RNG.random(21), RNG.random(21)
FORMATS = ["csr", "csc", "coo", "lil", "dok", "bsr", "dia"]


def network(backend: Backend | str, dtype: str = "float64", **settings: object) -> MLP:
    settings = {"scale": SCALE, "shift": SHIFT, "loss": "cross_entropy", **settings}
    return MLP(
        [21, 6, 5, 3], backend=backend, bias=True, init="he", seed=2, dtype=dtype, **settings
    )


def trained(backend: Backend | str, x: object, settings: dict, **more: object) -> MLP:
    """A network that has learned two epochs of x; what is no setting of `fit` is the model's."""
    of_model = {k: v for k, v in settings.items() if k in {"scale", "shift", "l2", "activation"}}
    of_fit = {k: v for k, v in settings.items() if k not in of_model}
    model = network(backend, **more, **of_model)
    for _ in fit(model, x, LABELS, epochs=2, seed=1, test=(x, LABELS), **of_fit):
        pass
    return model


class TestAnswers:
    @pytest.mark.parametrize("kind", [*(f + "_array" for f in FORMATS), "csr_matrix", "coo_matrix"])
    def test_are_those_of_the_dense_array(self, kind):
        x, model = getattr(sparse, kind)(DENSE), network("cpu")
        np.testing.assert_allclose(model.predict_proba(x), model.predict_proba(DENSE), atol=1e-14)
        np.testing.assert_array_equal(model.predict(x), model.predict(DENSE))

    def test_losses_and_gradients(self, backend):
        x, model = sparse.coo_array(DENSE), network(backend, l2=0.5)
        to_numpy = backend.to_numpy
        assert model.loss(x, LABELS) == pytest.approx(model.loss(DENSE, LABELS), rel=1e-12)
        assert model.accuracy(x, LABELS) == model.accuracy(DENSE, LABELS)
        loss, gradients = model.loss_and_gradients(x, LABELS)
        wanted_loss, wanted = model.loss_and_gradients(DENSE, LABELS)
        assert loss == pytest.approx(wanted_loss, rel=1e-12)
        assert_weights(list(map(to_numpy, gradients)), list(map(to_numpy, wanted)), 1e-12)

    def test_are_scikit_learns(self):
        x = sparse.csr_array(DENSE)
        theirs = MLPClassifier((6, 5), max_iter=2, random_state=0, solver="lbfgs", tol=1e9)
        theirs.fit(x, LABELS)
        model = network("cpu", activation="relu", scale=1.0, shift=0.0)
        pairs = zip(theirs.coefs_, theirs.intercepts_, strict=True)
        model.set_weights([a for pair in pairs for a in pair])
        np.testing.assert_allclose(model.predict_proba(x), theirs.predict_proba(x), atol=1e-12)

    @pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.float32, np.longdouble])
    def test_of_any_dtype(self, dtype):
        values = (DENSE != 0).astype(dtype) if dtype is bool else (9 * abs(DENSE)).astype(dtype)
        model = network("cpu")
        found, wanted = model.predict_proba(sparse.csr_array(values)), model.predict_proba(values)
        np.testing.assert_allclose(found, wanted, atol=1e-14)

    def test_of_no_samples_have_their_shape(self, backend):
        assert network(backend).predict_proba(sparse.csr_array((0, 21))).shape == (0, 3)

    def test_of_places_that_occur_twice_are_of_the_sum(self):
        twice = sparse.csr_array((np.array([1.0, 2.0, 4.0]), [3, 1, 3], [0, 3]), shape=(1, 21))
        found = network("cpu").predict_proba(twice)
        assert twice.nnz == 3  # the caller's is not changed
        np.testing.assert_allclose(found, network("cpu").predict_proba(twice.toarray()), atol=1e-14)


TRAININGS = {
    "single samples": {"batch_size": 1},
    "single samples with momentum": {"batch_size": 1, "momentum": 0.9},
    "single samples with decay": {"batch_size": 1, "l2": 1.0},
    "single samples without a shift": {"batch_size": 1, "shift": 0.0, "scale": 0.7},
    "small batches": {"batch_size": 8},
    "adam": {"batch_size": 33, "optimizer": "adam"},
    "batches": {"batch_size": 40, "activation": "gelu", "shift": 0.0},
    "dropout": {"batch_size": 33, "optimizer": "adam", "input_dropout": 0.2, "dropout": 0.1},
    "batch norm": {"batch_size": 33, "batch_norm": True, "averaging": 0.9, "clip": 0.5},
    "weights": {"batch_size": 33, "sample_weight": RNG.random(70)},
    "drawn": {"batch_size": 8, "sampling": "with-replacement", "steps": 20},
}


# the others compile kernels of their own, which takes long
QUICK = {"single samples without a shift", "adam", "batch norm"}


class TestTraining:
    @pytest.mark.parametrize(
        "settings",
        [
            pytest.param(value, id=name, marks=() if name in QUICK else pytest.mark.thorough)
            for name, value in TRAININGS.items()
        ],
    )
    def test_learns_what_the_dense_array_teaches(self, backend, settings):
        settings = {"learning_rate": 0.1, **settings}
        found = trained(backend, sparse.csr_array(DENSE), settings)
        wanted = trained(backend, DENSE, settings)
        assert_weights(found.get_weights(), wanted.get_weights(), 1e-12)
        proba = [backend.to_numpy(m.predict_proba(DENSE)) for m in (found, wanted, network("cpu"))]
        np.testing.assert_allclose(proba[0], proba[1], atol=1e-12)
        assert abs(proba[0] - proba[2]).max() > 1e-3  # something was learned

    @pytest.mark.parametrize(
        "dtype", ["float64", pytest.param("float32", marks=pytest.mark.thorough)]
    )
    @pytest.mark.parametrize("optimizer", ["adam", pytest.param("sgd", marks=pytest.mark.thorough)])
    def test_of_large_batches_has_the_same_bits(self, optimizer, dtype):
        settings = {"batch_size": 40, "learning_rate": 0.1, "optimizer": optimizer}
        found = trained("cpu", sparse.csr_array(DENSE), settings, dtype=dtype)
        assert_weights(
            found.get_weights(), trained("cpu", DENSE, settings, dtype=dtype).get_weights(), 0
        )

    @pytest.mark.parametrize("batch_size", [1, 16])
    def test_goes_on_from_a_state(self, backend, batch_size):
        x, settings = sparse.csr_array(DENSE), {"batch_size": batch_size, "learning_rate": 0.1}
        whole = trained(backend, x, settings)
        model = network(backend)
        first = fit(model, x, LABELS, epochs=1, seed=1, **settings)
        for _ in first:
            pass
        for _ in fit(model, x, LABELS, epochs=2, seed=1, state=first.state(), **settings):
            pass
        assert_weights(model.get_weights(), whole.get_weights(), 0)

    def test_by_scipys_minimisers(self, backend):
        losses = [
            minimize(network(backend), x, LABELS, "l-bfgs", 5, test=(x, LABELS)).train_loss
            for x in (sparse.csc_array(DENSE), DENSE)
        ]
        assert losses[0] == pytest.approx(losses[1], rel=1e-8)

    @pytest.mark.parametrize("batch_size", [1, 8])
    def test_makes_few_rows_dense(self, backend, batch_size, monkeypatch):
        unit = backend.block(batch_size)
        monkeypatch.setattr(backends.sparse, "_DENSE_BYTES", 8 * 21 * 20)
        made, dense = [], SparseRows.dense
        watched = lambda rows: made.append(len(rows)) or dense(rows)  # noqa: E731
        monkeypatch.setattr(SparseRows, "dense", watched)
        settings = {"batch_size": batch_size, "learning_rate": 0.1}
        found = trained(backend, sparse.csr_array(DENSE), settings)
        assert max(made, default=0) <= max(20, unit)
        assert backend.name != "cpu" or not made
        wanted = trained(backend, DENSE, settings)
        assert_weights(found.get_weights(), wanted.get_weights(), 1e-12)

    @pytest.mark.parametrize("batch_size", [pytest.param(1, marks=pytest.mark.thorough), 50])
    def test_needs_no_memory_for_the_dense_array(self, batch_size):
        n, features = 1_000, 50_000  # 200 MB of float32
        x = sparse.random_array((n, features), density=1e-4, format="csr", rng=RNG, dtype="f4")
        model = MLP([features, 2, 3], backend="cpu", loss="cross_entropy", shift=0.0)
        y = RNG.integers(0, 3, n)

        def learn() -> None:
            for _ in fit(model, x, y, epochs=1, batch_size=batch_size, test=(x, y)):
                pass

        learn()  # compiles, which takes long where memory is traced
        tracemalloc.start()
        learn()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 100e6


class TestMistakes:
    def test_what_is_not_finite_is_named(self, backend):
        x = sparse.coo_array(([1.0, np.inf], ([0, 4], [2, 7])), shape=(70, 21))
        with pytest.raises(ValueError, match=r"train_x\[4, 7\] is inf"):
            next(fit(network(backend), x, LABELS))
        large = sparse.csr_array(([1e300], ([3], [1])), shape=(70, 21))
        with pytest.raises(ValueError, match=r"in float32: train_x\[3, 1\] is inf"):
            next(fit(network(backend, "float32"), large, LABELS))

    def test_other_shapes_are(self, backend):
        with pytest.raises(ValueError, match=r"x has shape \(2, 3\): expected \(n, 21\)"):
            network(backend).predict(sparse.csr_array((2, 3)))
        with pytest.raises(ValueError, match=r"of shape \(3,\): expected \(n, features\)"):
            network(backend).predict(sparse.coo_array(np.ones(3)))

    def test_indices_out_of_range_are_refused(self):
        for kind in (sparse.csr_array, sparse.csc_array):
            x = kind(DENSE)
            x.indices[5] = 10**6
            with pytest.raises(ValueError, match="indices must be <"):
                network("cpu").predict(x)

    def test_other_numbers_are_refused(self):
        with pytest.raises(TypeError, match="real numbers, got dtype complex128"):
            network("cpu").predict(sparse.csr_array(DENSE * 1j))

    def test_labels_are_dense(self):
        with pytest.raises(ValueError, match=r"y: a sparse array .* take \.toarray\(\)"):
            network("cpu").loss(DENSE, sparse.csr_array(LABELS[:, None]))

    def test_images_are_dense(self):
        x = sparse.csr_array(DENSE)
        with pytest.raises(ValueError, match=r"train_x is sparse: .* take train_x.toarray\(\)"):
            fit(network("cpu"), x, LABELS, deformation=Deformation((3, 7), rotate=5))
        with pytest.raises(ValueError, match="values is sparse"):
            with_turned_copies(select("cpu"), x, LABELS, (3, 7), [10])

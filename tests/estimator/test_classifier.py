"""The scikit-learn estimator: against scikit-learn's own class, its checks and its tools."""

from __future__ import annotations

import pickle
import re
import warnings

import numpy as np
import pytest
from joblib import Parallel, delayed
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_digits, load_iris
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.inspection import permutation_importance
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    cross_val_score,
    learning_curve,
)
from sklearn.neural_network import MLPClassifier as Sklearns
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from backends.kernels.cpu.workers import core_count
from tests.conftest import assert_weights
from trainer import MLP, Diverged, MLPClassifier
from trainer.recipes import RECIPES

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def estimator(**parameters):
    return MLPClassifier(**{"device": "cpu", "random_state": 0} | parameters)


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return X[:500] / 16, y[:500]


@pytest.fixture(scope="module")
def iris():
    X, y = load_iris(return_X_y=True)
    order = np.random.default_rng(0).permutation(150)
    return (X[order] - X.mean(0)) / X.std(0), y[order]


@pytest.mark.thorough
@parametrize_with_checks([estimator(max_iter=20)])
def test_scikit_learns_checks(estimator, check):
    check(estimator)


# --- the same training --------------------------------------------------------------------


def alike(X, y, **parameters):
    """Ours and scikit-learn's with the same weights, which keep the samples' order."""
    parameters = {
        "hidden_layer_sizes": (12, 7),
        "shuffle": False,
        "warm_start": True,
        "random_state": 3,
        "max_iter": 6,
    } | parameters
    ours, sklearns = pair = estimator(**parameters), Sklearns(**parameters)
    for one in pair:
        one.set_params(max_iter=1, early_stopping=False).fit(X, y)
        one.loss_curve_, one.best_loss_, one.t_ = [], np.inf, 0
    if parameters.get("early_stopping"):
        sklearns.validation_scores_, sklearns.best_validation_score_ = [], -np.inf
    ours.coefs_, ours.intercepts_ = sklearns.coefs_, sklearns.intercepts_
    for one in pair:
        one.set_params(**{"early_stopping": False} | parameters)
    return ours, sklearns


def assert_same(ours, sklearns, tolerance=1e-9):
    assert_weights(ours.coefs_, sklearns.coefs_, tolerance)
    assert_weights(ours.intercepts_, sklearns.intercepts_, tolerance)
    assert ours.n_iter_ == sklearns.n_iter_


MOMENTUM = {"solver": "sgd", "learning_rate_init": 0.1}


@pytest.mark.parametrize(
    "parameters",
    [
        {"alpha": 0.3},
        {"activation": "tanh", "beta_1": 0.7, "beta_2": 0.9, "epsilon": 1e-3, "batch_size": 64},
        {"activation": "logistic", "learning_rate_init": 0.01, "hidden_layer_sizes": 5},
        MOMENTUM | {"alpha": 0.1},
        MOMENTUM | {"nesterovs_momentum": False, "momentum": 0.5, "batch_size": 70},
        MOMENTUM | {"momentum": 0, "hidden_layer_sizes": ()},
        MOMENTUM | {"learning_rate": "invscaling", "power_t": 0.3},
    ],
)
def test_the_same_settings_are_the_same_training(digits, parameters):
    ours, sklearns = alike(*digits, **parameters)
    for one in ours, sklearns:
        one.fit(*digits)
    assert_same(ours, sklearns)
    # ours interpolates the penalty within an epoch
    np.testing.assert_allclose(ours.loss_curve_, sklearns.loss_curve_, rtol=2e-5)
    assert ours.loss_ == ours.loss_curve_[-1]
    assert ours.best_loss_ == pytest.approx(sklearns.best_loss_, rel=2e-5)
    assert ours.t_ == sklearns.t_ == 6 * 500
    proba = ours.predict_proba(digits[0])
    np.testing.assert_allclose(proba, sklearns.predict_proba(digits[0]), atol=1e-9)
    assert ours.score(*digits) == sklearns.score(*digits)


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
def test_sample_weights_are_the_same_training(digits, solver):
    weights = np.random.default_rng(1).uniform(0.1, 3, 500)
    ours, sklearns = alike(*digits, solver=solver, alpha=0.3)
    for one in ours, sklearns:
        one.fit(*digits, sample_weight=weights)
    assert_same(ours, sklearns, 1e-6 if solver == "lbfgs" else 1e-9)


@pytest.mark.parametrize(
    "parameters",
    [
        {"learning_rate_init": 0.03},
        {"learning_rate_init": 0.03, "early_stopping": True, "validation_fraction": 0.2},
        MOMENTUM | {"learning_rate": "adaptive"},
        MOMENTUM | {"learning_rate": "adaptive", "early_stopping": True},
    ],
)
def test_training_stops_at_the_same_epoch(digits, parameters, capsys):
    stopping = {"max_iter": 120, "tol": 0.01, "n_iter_no_change": 2, "verbose": True}
    ours, sklearns = alike(*digits, **parameters, **stopping)
    said = []
    for one in ours, sklearns:
        capsys.readouterr()
        one.fit(*digits)
        said.append(capsys.readouterr().out)
    assert 3 < ours.n_iter_ < 120
    assert_same(ours, sklearns, 1e-7)
    if ours.early_stopping:
        assert ours.validation_scores_ == sklearns.validation_scores_
        assert ours.best_validation_score_ == sklearns.best_validation_score_
        assert ours.best_loss_ is None
    else:
        assert ours.validation_scores_ is ours.best_validation_score_ is None
    losses = [
        [float(loss) for loss in re.findall(r"loss = (\d\.\d{8})$", text, re.M)] for text in said
    ]
    assert len(losses[0]) == ours.n_iter_
    np.testing.assert_allclose(*losses, rtol=2e-5)
    same = [re.sub(r"loss = .*", "", text) for text in said]
    assert same[0] == same[1]


def test_partial_fits_are_the_same_training(digits):
    X, y = digits
    ours, sklearns = alike(X, y, batch_size=100)
    del sklearns._optimizer  # which remembers the epoch before; ours forgets where weights are set
    for one in ours, sklearns:
        one.warm_start = False
        for rows in (slice(0, 230), slice(230, 500), slice(100, 350)):
            one.partial_fit(X[rows], y[rows])
    assert_weights(ours.coefs_, sklearns.coefs_, 1e-9)
    assert ours.t_ == sklearns.t_


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_learning_in_parts_is_learning_at_once(digits, dtype):
    X, y = digits[0].astype(dtype), digits[1]
    whole = estimator(max_iter=3, dropout=0.1, n_iter_no_change=np.inf).fit(X, y)
    parts = estimator(max_iter=3, dropout=0.1)
    for _ in range(3):
        parts.partial_fit(X, y, classes=np.arange(10))
    assert whole.coefs_[0].dtype == dtype == whole.predict_proba(X).dtype
    assert_weights(parts.coefs_, whole.coefs_, 0)
    assert parts.loss_curve_ == whole.loss_curve_


# --- what is ours -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "parameters",
    [
        {"dropout": 0.2, "input_dropout": 0.1},
        {"batch_norm": True},
        {"schedule": "one-cycle", "learning_rate_init": 0.02},
        {"averaging": 0.9},
        {"clip": 0.5},
        {"recipe": "table", "max_iter": 20},
        {"recipe": "rashid"},
        {"recipe": "ex4"},
        {"activation": "gelu"},
        {"hidden_layer_sizes": np.array([20, 10])},
    ],
)
def test_what_scikit_learn_has_not_learns_too(iris, parameters):
    found = estimator(**{"max_iter": 30, "learning_rate_init": 0.01} | parameters).fit(*iris)
    assert found.score(*iris) > 0.85
    proba = found.predict_proba(iris[0])
    np.testing.assert_allclose(proba.sum(axis=1), 1, rtol=1e-12)
    assert (found.classes_[proba.argmax(axis=1)] == found.predict(iris[0])).all()
    plain = estimator(max_iter=30, learning_rate_init=0.01).fit(*iris)
    assert not np.allclose(proba, plain.predict_proba(iris[0]), atol=1e-6)


def test_a_recipe_is_what_no_parameter_changes(iris):
    recipe = RECIPES["table"]
    found = estimator(recipe="table", max_iter=3, hidden_layer_sizes=9).fit(*iris)
    assert found.network_.sizes == (4, 9, 3)
    assert (found.n_iter_, found.network_.init) == (3, recipe.init)
    bookish = estimator(recipe="book").fit(*iris)
    assert bookish.network_.spec.loss == "rashid"
    assert bookish.out_activation_ == "logistic"
    assert all((b == 0).all() for b in bookish.intercepts_)
    assert bookish.n_iter_ == RECIPES["book"].epochs


def test_a_schedule_is_followed_to_its_end_unless_a_validation_part_says_otherwise(iris):
    scheduled = {"schedule": "cosine", "tol": 1.0, "n_iter_no_change": 1, "max_iter": 12}
    assert estimator(**scheduled).fit(*iris).n_iter_ == 12
    assert estimator(**scheduled, early_stopping=True).fit(*iris).n_iter_ < 12


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_class_weights_are_sample_weights(iris, solver):
    X, y = iris[0][:90], np.repeat(["few", "many"], [20, 70])
    weights = np.where(y == "few", 4.5, 1.0)
    plain = estimator(solver=solver, max_iter=10)
    expected = clone(plain).fit(X, y, sample_weight=weights).predict_proba(X)
    given = clone(plain).set_params(class_weight={"few": 4.5, "many": 1.0}).fit(X, y)
    assert (given.predict_proba(X) == expected).all()
    balanced = clone(plain).set_params(class_weight="balanced").fit(X, y)
    weights = np.where(y == "few", 90 / 40, 90 / 140)
    same = clone(plain).fit(X, y, sample_weight=weights)
    assert (balanced.predict_proba(X) == same.predict_proba(X)).all()


@pytest.mark.parametrize(
    "labels",
    [
        [3, -1, 7],
        ["cat", "dog", "eel"],
        [True, False, True],
        np.array(["a", "b", "c"], dtype=object),
    ],
)
def test_labels_of_any_kind_come_back(iris, labels):
    y = np.array(labels)[iris[1]]
    found = estimator(max_iter=40, learning_rate_init=0.01).fit(iris[0], y)
    assert found.classes_.tolist() == sorted(set(labels))
    assert found.predict(iris[0]).dtype == y.dtype
    assert found.score(iris[0], y) > 0.8
    assert found.predict_proba(iris[0]).shape == (150, len(set(labels)))


def test_names_of_columns_are_kept_and_checked(iris):
    polars = pytest.importorskip("polars")
    X, y = polars.DataFrame(iris[0], schema=list("abcd")), iris[1]
    found = estimator(max_iter=2).fit(X, y)
    assert found.feature_names_in_.tolist() == list("abcd")
    assert (found.predict_proba(X) == estimator(max_iter=2).fit(*iris).predict_proba(iris[0])).all()
    with pytest.raises(ValueError, match="feature names should match"):
        found.predict(X.rename({"a": "e"}))


def test_weights_can_be_set_and_not_written_to(iris):
    found = estimator(max_iter=2).fit(*iris)
    coefs = found.coefs_
    with pytest.raises(ValueError, match="read-only"):
        coefs[0][:] = 0
    found.coefs_ = [np.zeros_like(W) for W in coefs]
    found.intercepts_ = [np.zeros(100), np.log([0.2, 0.3, 0.5])]
    np.testing.assert_allclose(found.predict_proba(iris[0][:2]), [[0.2, 0.3, 0.5]] * 2)
    with pytest.raises(ValueError, match=r"weights have shapes \[\(3, 3\)"):
        found.coefs_ = [np.zeros((3, 3))]


def test_warnings_are_those_of_scikit_learn(iris):
    for one in estimator(max_iter=2), Sklearns(max_iter=2), estimator(solver="lbfgs", max_iter=2):
        with pytest.warns(ConvergenceWarning):
            one.fit(*iris)
    for solver in "adam", "lbfgs":
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            estimator(solver=solver, max_iter=300, tol=0.01).fit(*iris)
            estimator(recipe="table", max_iter=2).fit(*iris)
    with pytest.warns(UserWarning, match="batch_size=500: there are 150 samples"):
        estimator(batch_size=500, max_iter=2).fit(*iris)


def test_an_interrupted_training_keeps_whole_epochs(digits, monkeypatch):
    plain = estimator(max_iter=2).fit(*digits)
    asked, learn = [], type(plain.network_.backend).learn

    def interrupted(self, *args, **options):
        asked.append(True)
        if len(asked) > 6:  # amid the third epoch, after what compiles
            raise KeyboardInterrupt
        return learn(self, *args, **options)

    monkeypatch.setattr(type(plain.network_.backend), "learn", interrupted)
    found = estimator(max_iter=9)
    with pytest.warns(UserWarning, match="interrupted: the weights are those of epoch 2"):
        found.fit(*digits)
    assert found.n_iter_ == 2
    assert_weights(found.coefs_, plain.coefs_, 0)


# --- mistakes -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"activation": "identity"}, "activation='identity' is unknown: expected logistic or"),
        ({"solver": "cg"}, "solver='cg' is unknown: expected adam or sgd or lbfgs"),
        ({"recipe": "rashit"}, "recipe='rashit' is unknown: expected rashid or"),
        ({"hidden_layer_sizes": (0,)}, r"hidden_layer_sizes=\(0,\): expected whole numbers"),
        ({"hidden_layer_sizes": 2.5}, "hidden_layer_sizes=2.5: expected whole numbers"),
        ({"alpha": -1}, "alpha=-1: expected a finite number, zero or more"),
        ({"batch_size": "all"}, "batch_size='all': expected a whole number.*, or 'auto'"),
        ({"learning_rate_init": 0}, "learning_rate_init=0: expected a number above 0"),
        ({"learning_rate_init": "0.1"}, "learning_rate_init='0.1': expected a number"),
        ({"schedule": None}, "schedule=None is unknown: expected constant, cosine"),
        ({"max_iter": 0}, "max_iter=0: expected a whole number, one or more"),
        ({"n_iter_no_change": 1.5}, "n_iter_no_change=1.5: expected a whole number"),
        ({"shuffle": "yes"}, "shuffle='yes': expected True or False"),
        ({"momentum": 1.0, "solver": "sgd"}, "momentum=1.0: expected a number from 0 to below 1"),
        ({"schedule": "slow"}, "schedule='slow' is unknown: expected constant, cosine"),
        ({"schedule": "cosine", "learning_rate": "adaptive"}, "expected one of them to be"),
        ({"dropout": 0.5, "solver": "lbfgs"}, "dropout=0.5 is for batches: take solver='adam'"),
        ({"batch_norm": True, "batch_size": 1}, "batch_norm=True goes with batches"),
        ({"device": "tpu"}, "unknown device 'tpu': expected auto, cpu, gpu or gpu:N"),
        ({"early_stopping": True, "validation_fraction": 0.001}, "validation_fraction|test_size"),
        ({"class_weight": "heavy"}, "class_weight"),
    ],
)
def test_a_parameter_out_of_range_is_told_at_fit(iris, parameters, words):
    with pytest.raises(ValueError, match=words) as error:
        estimator(**parameters).fit(*iris)
    assert "\n" not in str(error.value)


def test_a_loss_that_grows_without_bound_is_told(iris):
    bounded = {"solver": "sgd", "hidden_layer_sizes": (8,), "max_iter": 20}
    with pytest.warns(ConvergenceWarning, match="diverged; lower learning_rate_init=1e\\+06"):
        found = estimator(**bounded, learning_rate_init=1e6).fit(*iris)
    assert found.loss_ > 1e6
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        estimator(**bounded).fit(*iris)
    assert not any("diverged" in str(one.message) for one in caught)


def test_a_worker_says_why_its_training_failed(iris):
    X, y = iris
    diverging = estimator(solver="sgd", learning_rate_init=1e6, tol=0, n_iter_no_change=np.inf)
    search = GridSearchCV(diverging, {"alpha": [0.0]}, cv=2, n_jobs=2, error_score="raise")
    with pytest.raises(Diverged, match="try a lower learning rate"):
        search.fit(X.astype(np.float32), y)


def test_mistakes_with_data_are_told(iris):
    X, y = iris
    with pytest.raises(NotFittedError):
        estimator().predict(X)
    with pytest.raises(ValueError, match="the first call of partial_fit needs all classes"):
        estimator().partial_fit(X, y)
    found = estimator(max_iter=2, warm_start=True).fit(X, y)
    with pytest.raises(ValueError, match="with warm_start=True expected those of the first fit"):
        found.fit(X, y + 1)
    with pytest.raises(ValueError, match=r"continues a network of the layers \[4, 100, 3\]"):
        found.set_params(hidden_layer_sizes=5).fit(X, y)
    with pytest.raises(ValueError, match=r"y has \[9\]: expected classes among \[0 1 2\]"):
        found.set_params(hidden_layer_sizes=100).partial_fit(X, np.where(y, y, 9))
    with pytest.raises(ValueError, match="first call had"):
        found.partial_fit(X, y, classes=[0, 1])
    for parameters, words in (
        ({"class_weight": "balanced"}, "depends on all labels"),
        ({"schedule": "cosine"}, "depends on the number of epochs"),
        ({"early_stopping": True}, "does not support early_stopping"),
    ):
        with pytest.raises(ValueError, match=words):
            estimator(**parameters).partial_fit(X, y, classes=[0, 1, 2])
    assert not hasattr(estimator(solver="lbfgs"), "partial_fit")
    answers = found.predict(X)
    with pytest.raises(ValueError, match="sample_weight has shape"):
        found.set_params(warm_start=False).fit(X, y > 0, sample_weight=[1.0])
    assert (found.predict(X) == answers).all()
    with pytest.raises(ValueError, match=r"sample_weight has -1\.0: expected 150 numbers of 0 or"):
        estimator().fit(X, y, sample_weight=-np.ones(150))
    for rate in 1e100, 1e200, 1e300:
        with (
            warnings.catch_warnings(action="error"),
            pytest.raises(Diverged, match="try a lower learning rate"),
        ):
            estimator(solver="sgd", learning_rate_init=rate).fit(X, y)


# --- among scikit-learn's tools -----------------------------------------------------------


def test_a_pipeline_and_a_search_with_two_workers(iris):
    X, y = iris
    pipeline = make_pipeline(StandardScaler(), estimator(max_iter=15, learning_rate_init=0.02))
    grid = {"mlpclassifier__hidden_layer_sizes": [(5,), (20, 5)]}
    search = GridSearchCV(pipeline, grid, cv=3, n_jobs=2).fit(X, y)
    assert search.score(X, y) > 0.85
    alone = GridSearchCV(pipeline, grid, cv=3).fit(X, y)
    scores = [one.cv_results_["mean_test_score"] for one in (search, alone)]
    assert (scores[0] == scores[1]).all()
    # joblib gives each worker its part of the cores
    counts = Parallel(n_jobs=2)(delayed(core_count)() for _ in range(2))
    assert sum(counts) <= max(2, core_count())


def test_other_tools_take_it(iris):
    X, y = iris
    fast = estimator(hidden_layer_sizes=10, max_iter=20, learning_rate_init=0.02)
    assert cross_val_score(fast, X, y, cv=3).min() > 0.7
    grid = {"alpha": [1e-4, 1e-1], "hidden_layer_sizes": [(4,), (10,)]}
    assert HalvingGridSearchCV(fast, grid, cv=3, random_state=0).fit(X, y).score(X, y) > 0.7
    calibrated = CalibratedClassifierCV(fast, cv=3).fit(X, y)
    np.testing.assert_allclose(calibrated.predict_proba(X).sum(axis=1), 1)
    importances = permutation_importance(fast.fit(X, y), X, y, n_repeats=3, random_state=0)
    assert importances.importances_mean[2:].min() > importances.importances_mean[:2].max()
    sizes, _, scores = learning_curve(fast, X, y, cv=3, train_sizes=[0.3, 1.0])
    assert sizes.tolist() == [30, 100]
    assert scores.mean() > 0.7


def test_copies_answer_the_same(iris):
    X, y = iris
    found = estimator(max_iter=5).fit(X, y)
    again = pickle.loads(pickle.dumps(found))
    assert (again.predict_proba(X) == found.predict_proba(X)).all()
    for one in again, found:
        one.partial_fit(X, y)
    assert_weights(again.coefs_, found.coefs_, 0)
    fresh = clone(found)
    assert not hasattr(fresh, "coefs_")
    assert (fresh.fit(X, y).loss_curve_) == found.loss_curve_[:5]


def test_callbacks_see_every_iteration(iris):
    pytest.importorskip("sklearn.callback", reason="scikit-learn 1.9")

    class Watcher:
        max_propagation_depth = None

        def __init__(self, last):
            self.last, self.scores, self.begun = last, [], []

        def setup(self, estimator, context):
            self.is_set_up = True

        def on_fit_task_begin(self, estimator, context):
            self.begun.append(context.task_name)

        def on_fit_task_end(self, estimator, context, *, X, y, fitted_estimator):
            self.scores.append(fitted_estimator.score(X, y))
            return len(self.scores) >= self.last

        def teardown(self, estimator, context):
            self.is_set_up = False

    for solver in "adam", "lbfgs":
        watcher, found = Watcher(4), estimator(solver=solver, max_iter=30)
        found.set_callbacks(watcher).fit(*iris)
        assert found.n_iter_ == 4
        assert watcher.begun == ["fit", *["iteration"] * 4]
        assert len(watcher.scores) == 5
        assert watcher.scores[-1] == watcher.scores[-2] == found.score(*iris)
        assert len(set(watcher.scores)) > 1
        assert not watcher.is_set_up


def test_it_is_imported_only_when_asked_for():
    import trainer

    assert trainer.MLPClassifier is MLPClassifier
    assert "MLPClassifier" in dir(trainer)


@pytest.mark.gpu
def test_a_gpu_learns_the_same(gpu_backend, digits):
    X, y = digits[0][:200], digits[1][:200]
    options = {"hidden_layer_sizes": (8,), "max_iter": 3, "batch_size": 64, "alpha": 0.1}
    for solver in "adam", "sgd", "lbfgs":
        cpu, gpu = (
            estimator(device=device, solver=solver, **options).fit(X, y)
            for device in ("cpu", gpu_backend.name)
        )
        assert isinstance(gpu.network_, MLP)
        assert gpu.network_.backend.name == gpu_backend.name
        assert_weights(gpu.coefs_, cpu.coefs_, 1e-8)
        np.testing.assert_allclose(gpu.loss_curve_, cpu.loss_curve_, rtol=1e-8)
        np.testing.assert_allclose(gpu.predict_proba(X), cpu.predict_proba(X), atol=1e-8)

"""The scikit-learn estimator on sparse matrices: as on dense ones, and never dense as a whole."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import make_pipeline

from tests.conftest import assert_weights
from trainer import MLPClassifier

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
FORMATS = [sparse.csr_matrix, sparse.csc_matrix, sparse.coo_matrix, sparse.csr_array]


def estimator(**parameters):
    return MLPClassifier((8,), device="cpu", random_state=0, max_iter=4, **parameters)


@pytest.fixture(scope="module")
def words():
    rng = np.random.default_rng(0)
    X = sparse.random_array((300, 400), density=0.05, rng=rng, format="csr")
    return X, np.asarray(X[:, :200].sum(axis=1) > X[:, 200:].sum(axis=1)).ravel()


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
def test_sparse_samples_are_learned_like_dense_ones(words, kind, solver):
    X, y = kind(words[0]), words[1]
    given, dense = estimator(solver=solver).fit(X, y), estimator(solver=solver).fit(X.toarray(), y)
    np.testing.assert_allclose(given.predict_proba(X), dense.predict_proba(X.toarray()), atol=1e-6)
    np.testing.assert_allclose(given.loss_curve_, dense.loss_curve_, rtol=1e-6)


def test_weights_parts_and_a_validation_part_go_with_sparse_samples(words):
    X, y = words
    weights = np.random.default_rng(1).uniform(0.5, 2, 300)
    for parameters in {"early_stopping": True}, {"class_weight": "balanced"}:
        given, dense = (
            estimator(**parameters).fit(x, y, sample_weight=weights) for x in (X, X.toarray())
        )
        assert_weights(given.coefs_, dense.coefs_, 1e-6)
    given, dense = (
        estimator().partial_fit(x[:100], y[:100], classes=[False, True]).partial_fit(x, y)
        for x in (X, X.toarray())
    )
    assert_weights(given.coefs_, dense.coefs_, 1e-6)


def test_a_hundred_thousand_words_stay_sparse(monkeypatch):
    texts = [f"word{i} word{i + 50_000} {'good' if i % 2 else 'bad'}" for i in range(1000)]
    vectors = TfidfVectorizer(vocabulary={f"word{i}": i for i in range(99_998)} | {
        "good": 99_998, "bad": 99_999
    }, dtype=np.float32)  # fmt: skip
    whole = sparse.csr_matrix.toarray

    def toarray(self, *args, **options):
        assert self.shape[0] < 1000  # 400 MB
        return whole(self, *args, **options)

    monkeypatch.setattr(sparse.csr_matrix, "toarray", toarray)
    network = MLPClassifier((4,), device="cpu", max_iter=3, learning_rate_init=0.02, random_state=0)
    pipeline = make_pipeline(vectors, network).fit(texts, [i % 2 for i in range(1000)])
    assert pipeline.predict(["good", "bad", "good good"]).tolist() == [1, 0, 1]

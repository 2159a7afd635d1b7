from itertools import pairwise

import numpy as np
import pytest
from scipy import stats

from tests.conftest import assert_weights
from trainer import MLP
from trainer.initializers import initial_weights

SIZES = [400, 300, 200]


def normal(*deviations):
    return [stats.norm(0, deviation) for deviation in deviations]


def uniform(*limits):
    return [stats.uniform(-limit, 2 * limit) for limit in limits]


@pytest.mark.parametrize(
    ("init", "sizes", "distributions"),
    [
        ("hidden", [784, 200, 10], normal(200**-0.5, 200**-0.5)),
        ("hidden", [400, 300, 200, 100], normal(300**-0.5, 200**-0.5, 200**-0.5)),
        ("hidden", [400, 100], normal(400**-0.5)),
        ("fan_in", SIZES, normal(400**-0.5, 300**-0.5)),
        ("glorot", SIZES, uniform((6 / 700) ** 0.5, (6 / 500) ** 0.5)),
        ("he", SIZES, normal((2 / 400) ** 0.5, (2 / 300) ** 0.5)),
        ("uniform:0.12", SIZES, uniform(0.12, 0.12)),
    ],
)
def test_distributions(init, sizes, distributions):
    matrices = initial_weights(sizes, init, np.random.default_rng(0))
    assert [m.shape for m in matrices] == list(pairwise(sizes))
    for matrix, distribution in zip(matrices, distributions, strict=True):
        assert stats.kstest(matrix.ravel(), distribution.cdf).pvalue > 1e-3
        four_errors = 4 / (2 * matrix.size) ** 0.5  # a deviation's relative standard error
        assert np.std(matrix) == pytest.approx(distribution.std(), rel=four_errors)


@pytest.mark.parametrize("sizes", [[7, 7], [30, 12, 20, 1, 4], [1, 1]], ids=str)
def test_orthogonal_matrices_are(sizes):
    for W, shape in zip(
        initial_weights(sizes, "orthogonal", np.random.default_rng(3)), pairwise(sizes), strict=True
    ):
        assert W.shape == shape
        assert W.dtype == np.float64
        assert W.flags.c_contiguous
        product = W.T @ W if shape[0] >= shape[1] else W @ W.T
        np.testing.assert_allclose(product, np.eye(min(shape)), atol=1e-14)
        np.testing.assert_allclose(np.linalg.svd(W, compute_uv=False), 1, rtol=1e-13)


@pytest.mark.parametrize("shape", [(3, 3), (4, 2), (2, 4)], ids=str)
def test_orthogonal_matrices_are_drawn_uniformly(shape):
    rng = np.random.default_rng(0)
    drawn = np.array([initial_weights(shape, "orthogonal", rng)[0] for _ in range(2000)])
    # a row of an orthogonal matrix of n is a point on the sphere: its squares are Beta(½, (n-1)/2),
    # and every number's sign is a coin's; without the sign fix the first ones' are all alike
    square = stats.beta(0.5, (max(shape) - 1) / 2)
    for numbers in drawn.reshape(2000, -1).T:
        assert stats.kstest(numbers**2, square.cdf).pvalue > 1e-3
        assert stats.binomtest(int((numbers > 0).sum()), 2000).pvalue > 1e-3


@pytest.mark.parametrize("shape", [(3, 3), (4, 2), (2, 4)], ids=str)
def test_orthogonal_matrices_are_distributed_as_torchs(shape):
    torch = pytest.importorskip("torch")
    rng, theirs = np.random.default_rng(1), torch.Generator().manual_seed(1)
    ours = np.array([initial_weights(shape, "orthogonal", rng)[0] for _ in range(1500)])
    other = np.array(
        [
            torch.nn.init.orthogonal_(torch.empty(shape, dtype=torch.float64), generator=theirs)
            for _ in range(1500)
        ]
    )
    for a, b in zip(ours.reshape(1500, -1).T, other.reshape(1500, -1).T, strict=True):
        assert stats.ks_2samp(a, b).pvalue > 1e-3


def test_same_seed_same_start_on_every_backend(backend, base_on_numpy):
    def start(on, seed):
        return MLP([5, 4, 3], backend=on, bias=True, seed=seed, dtype="float64").get_weights()

    assert_weights(start(backend, 7), start(base_on_numpy, 7), 0)
    assert not np.array_equal(start(backend, 7)[0], start(backend, 8)[0])
    rng = np.random.default_rng(7)
    desired = [rng.normal(0, 0.5, (5, 4)), np.zeros(4), rng.normal(0, 0.5, (4, 3)), np.zeros(3)]
    assert_weights(start(backend, 7), desired, 0)


@pytest.mark.parametrize(
    "init",
    ["", "zeros", "Hidden", "hidden:", "he:3", "orthogonal:2", "uniform"]
    + [f"uniform:{radius}" for radius in ("", "x", "-1", "0", "inf", "nan")],
)
def test_bad_names(init):
    with pytest.raises(
        ValueError, match="is unknown: expected hidden, fan_in, glorot, he, orthogonal or unif"
    ):
        initial_weights([2, 2], init, np.random.default_rng(0))

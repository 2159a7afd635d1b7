"""What single operations cost, measured by pytest-benchmark and run by hand:

    python -m pytest benchmarks --benchmark-group-by=func --benchmark-columns=min,median,max

The samples are drawn, of 784 bytes of which a given share is not zero. A training's time is one
epoch's of `fit`; with `--benchmark-json FILE` the number of samples stands beside it.
"""

import numpy as np
import pytest

from backends import select
from trainer import MLP, fit

pytest.importorskip("pytest_benchmark")


def drawn(n, density):
    """Samples with a share of non-zero pixels, and their labels."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(1, 256, (n, 784), np.uint8)
    pixels[rng.random(pixels.shape, np.float32) >= density] = 0
    return pixels, rng.integers(0, 10, n)


def run_fit(benchmark, hidden, n, density=0.19, block_size=None, **settings):
    """Measure one epoch of a fresh network."""
    x, y = drawn(n, density)

    def setup():
        backend = select("cpu")
        if block_size:
            backend.block_size = block_size
        return (MLP([784, *hidden, 10], backend=backend),), {}

    def epoch(model):
        *_, last = fit(model, x, y, epochs=1, learning_rate=0.01, **settings)
        return last

    epoch(*setup()[0])  # compile
    benchmark.extra_info["samples"] = n
    benchmark.pedantic(epoch, setup=setup, rounds=5)


@pytest.mark.parametrize("hidden", [(50,), (200,), (800,), (200, 200)], ids=str)
def test_online_by_hidden_layers(benchmark, hidden):
    run_fit(benchmark, hidden, 2_000)


@pytest.mark.parametrize("block_size", [8, 16, 32, 64, 128])
def test_online_by_block_size(benchmark, block_size):
    run_fit(benchmark, (200,), 4_000, block_size=block_size)


@pytest.mark.parametrize("density", [0.05, 0.19, 0.5, 1.0])
def test_online_by_density(benchmark, density):
    run_fit(benchmark, (200,), 4_000, density)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("batch_size", [32, 128, 512, 4096])
def test_batches(benchmark, batch_size, optimizer):
    run_fit(benchmark, (200,), 8_192, batch_size=batch_size, optimizer=optimizer)


@pytest.mark.parametrize("n", [1, 100, 10_000])
def test_prediction(benchmark, n):
    x, _ = drawn(n, 0.19)
    model = MLP([784, 200, 10], backend=select("cpu"))
    benchmark.extra_info["samples"] = n
    benchmark(model.predict, x)

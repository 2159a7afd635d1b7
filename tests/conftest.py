"""What the tests share: the backends they run on and plainly written references."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from scipy.special import expit

from backends import Backend, BackendUnavailable, select
from backends.functions import ACTIVATIONS, LOSSES
from tests.browser import EXECUTABLE
from trainer import MLP, Dataset, fit

try:
    import cyclopts  # noqa: F401
except ImportError:  # a machine that only checks a GPU has no command line
    collect_ignore_glob = ["test_cli*.py"]

settings.register_profile("quick", deadline=None, max_examples=25)
settings.load_profile("quick")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("trainer")
    group.addoption("--cases", type=int, default=14, help="of backends/test_drawn.py")
    group.addoption("--cases-seed", type=int, default=0, help="that those are drawn from")
    group.addoption("--lessons", default="digits", help="the data of test_devices.py")
    group.addoption("--lessons-samples", type=int, default=0, help="of them, 0 for all")


def pytest_configure(config: pytest.Config) -> None:
    if "gpu" not in config.getoption("markexpr"):
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


@pytest.fixture(scope="session", autouse=True)
def _kernels_are_compiled_in_turns(request: pytest.FixtureRequest) -> None:
    """Compile the CPU's kernels, each worker of xdist from another end, if most tests will run.

    Without this two workers begin with the same kernels, and each compiles all of them. As it is
    they meet in the middle, and load what the other one has compiled.
    """
    worker = getattr(request.config, "workerinput", {"workerid": ""})["workerid"]
    is_gpu = "gpu" in request.config.getoption("markexpr")
    if not worker or is_gpu or len(request.session.items) < 2000:
        return
    from tests.backends.lessons import VARIED  # which imports this module's neighbours

    jobs = [(real, kind) for real in ("float32", "float64") for kind in ("uint8", real)]
    rng, cpu = np.random.default_rng(0), select("cpu")
    x, y = rng.integers(0, 256, (40, 12)), rng.integers(0, 3, 40)
    for dtype, values in jobs if int(worker[2:]) % 2 == 0 else jobs[::-1]:
        for lesson in VARIED.values():
            replace(lesson, dtype=dtype, values=values).learn(cpu)
        for batch_size, momentum in ((1, 0.0), (1, 0.5), (8, 0.0)):
            model, samples = MLP([12, 5, 3], backend=cpu, bias=True, dtype=dtype), x.astype(values)
            list(
                fit(model, samples, y, batch_size=batch_size, momentum=momentum, test=(samples, y))
            )


def needs_browser(test: Callable[..., None]) -> Callable[..., None]:
    """Mark a test that drives Chromium: skipped without it, and left to CI, as that is slow."""
    skipped = pytest.mark.skipif(EXECUTABLE is None, reason="Chromium is not installed")
    return pytest.mark.thorough(skipped(test))


@pytest.fixture
def torch_as_it_was() -> Iterator[None]:
    """Undo what a contender sets in PyTorch, which holds for the whole process."""
    yield
    if torch := sys.modules.get("torch"):
        torch.set_flush_denormal(False)
        torch.set_float32_matmul_precision("highest")
        torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="session")
def gpu_backend() -> Backend:
    """The first GPU; only tests marked gpu may ask for it."""
    try:
        return select("gpu")
    except BackendUnavailable as error:
        pytest.skip(str(error))


@pytest.fixture(
    scope="session",
    params=["numpy", "array-api-strict", pytest.param("gpu", marks=pytest.mark.gpu)],
)
def backend(request: pytest.FixtureRequest) -> Backend:
    """Every backend; the strict one proves that base.py is portable without a GPU."""
    if request.param == "numpy":
        return select("cpu")
    if request.param == "array-api-strict":
        array_api_strict = pytest.importorskip("array_api_strict")
        return Backend(array_api_strict, "strict", "array-api-strict")
    return request.getfixturevalue("gpu_backend")


@pytest.fixture(scope="session")
def base_on_numpy() -> Backend:
    """The textbook, base.py without an override."""
    return Backend(np, "base", "base.py on NumPy")


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of MNIST and other data that no user has."""
    if "TRAINER_DATA" not in os.environ:
        pytest.skip("TRAINER_DATA is not set")
    folder = Path(os.environ["TRAINER_DATA"])
    if not folder.is_dir():
        pytest.skip(f"TRAINER_DATA={folder} is no folder")
    return folder


@st.composite
def networks(draw: Callable[..., Any]) -> dict[str, Any]:
    """Keyword arguments of a float64 MLP of 0 to 3 hidden layers on inputs of order one."""
    hidden = draw(st.lists(st.integers(1, 5), max_size=3))
    return {
        "sizes": [4, *hidden, 3],
        "activation": draw(st.sampled_from(list(ACTIVATIONS))),
        "loss": draw(st.sampled_from(list(LOSSES))),
        "bias": draw(st.booleans()),
        "l2": draw(st.sampled_from([0.0, 1.5])),
        "init": "fan_in",
        "dtype": "float64",
        "scale": 0.5,
        "shift": 0.1,
        **draw(st.sampled_from([{}, {"target_low": 0.1, "target_high": 0.7}])),
    }


def drawn_dataset() -> Dataset:
    """Draw a small data set of pixels, of which less than half are not zero."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (450, 12), np.uint8) * (rng.random((450, 12)) < 0.4)
    x, y = pixels.astype(np.uint8), rng.integers(0, 3, 450)
    return Dataset("drawn", x[:400], y[:400], x[400:], y[400:], None, (0, 1, 2), (0, 255), "", "")


def samples(n: int, features: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Normal inputs and random labels."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, features)), rng.integers(0, classes, n)


def small_blocks(backend: Backend, patch: pytest.MonkeyPatch, size: int) -> None:
    """Make a backend's blocks so small, unless they are compiled into its kernels, as a GPU's."""
    if not backend.name.startswith("gpu"):
        patch.setattr(backend, "block_size", size)


def assert_weights(actual: Sequence[Any], desired: Sequence[Any], tolerance: float) -> None:
    """Compare lists of host arrays; tolerance 0 means bit for bit."""
    for a, d in zip(actual, desired, strict=True):
        np.testing.assert_allclose(a, d, rtol=tolerance, atol=tolerance)


def plain_sgd(w: Any, g: Any, state: dict[str, Any], rate: float, momentum: float = 0.0) -> Any:
    """v ← μv - ηg, w ← w + v."""
    state["v"] = momentum * state.get("v", 0.0) - rate * g
    return w + state["v"]


def plain_nesterov(w: Any, g: Any, state: dict[str, Any], rate: float, momentum: float) -> Any:
    """v ← μv - ηg, w ← w + μv - ηg."""
    state["v"] = momentum * state.get("v", 0.0) - rate * g
    return w + momentum * state["v"] - rate * g


def plain_adam(w: Any, g: Any, state: dict[str, Any], rate: float) -> Any:
    """Kingma and Ba 2015, algorithm 1, line by line."""
    t = state["t"] = state.get("t", 0) + 1
    m = state["m"] = 0.9 * state.get("m", 0.0) + (1 - 0.9) * g
    v = state["v"] = 0.999 * state.get("v", 0.0) + (1 - 0.999) * g**2
    return w - rate * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)


def plain_adamw(w: Any, g: Any, state: dict[str, Any], rate: float, weight_decay: float) -> Any:
    """Loshchilov and Hutter 2019, algorithm 2; a vector is a bias and keeps itself."""
    step = plain_adam(w, g, state, rate) - w
    return w + step - rate * (weight_decay if w.ndim == 2 else 0.0) * w


def lesson(weights: Sequence[Any], pixels: Any, labels: Any, rate: float) -> list[Any]:
    """Rashid's training loop, one sample after the other, in the weights' dtype."""
    wih, who = (W.T.copy() for W in weights)
    for image, label in zip(pixels, labels, strict=True):
        inputs = (image / 255 * 0.99 + 0.01)[:, None].astype(wih.dtype)
        targets = np.full((who.shape[0], 1), 0.01, wih.dtype)
        targets[label] = 0.99
        hidden = expit(wih @ inputs)
        final = expit(who @ hidden)
        output_errors = targets - final
        hidden_errors = who.T @ output_errors
        who += rate * (output_errors * final * (1 - final)) @ hidden.T
        wih += rate * (hidden_errors * hidden * (1 - hidden)) @ inputs.T
    return [wih.T, who.T]

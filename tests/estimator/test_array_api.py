"""Results in the library of X, as scikit-learn's setting asks; the reference is its own config."""

import numpy as np
import pytest
import sklearn

from backends import select
from trainer.estimator.array_api import device_for, like

strict = pytest.importorskip("array_api_strict")
RESULT = np.array([[0.25, 0.75]], np.float32)


@pytest.fixture
def dispatch(monkeypatch):
    """scikit-learn's dispatch, which SciPy allows only where it was asked for before its import."""
    config = sklearn.get_config() | {"array_api_dispatch": True}
    monkeypatch.setattr(sklearn, "get_config", lambda: config)


def test_without_dispatch_results_are_numpys():
    for x in (RESULT, strict.asarray(RESULT), [[1.0]]):
        assert type(like(strict.asarray(RESULT), x)) is np.ndarray
        assert device_for("auto", x) == "auto"


@pytest.mark.usefixtures("dispatch")
class TestDispatch:
    def test_results_follow_the_library_and_the_device(self):
        for name in ("CPU_DEVICE", "device1"):
            device = strict.Device(name)
            found = like(RESULT, strict.asarray([1], device=device))
            assert type(found) is type(strict.asarray(1))
            assert found.device == device
            assert found.dtype == strict.float32
            there = strict.asarray(found, device=strict.Device("CPU_DEVICE"))
            np.testing.assert_array_equal(np.asarray(there), RESULT)

    def test_numpys_stay_themselves(self):
        assert like(RESULT, np.ones(2)) is RESULT

    @pytest.mark.parametrize("x", [[[1.0]], None, "text"], ids=str)
    def test_what_is_no_array_gets_numpys(self, x):
        assert like(RESULT, x) is RESULT

    def test_names_of_classes_are_numpys(self):
        names = np.array(["no", "yes"])
        assert like(names, strict.asarray([1])) is names

    def test_computing_follows_the_array(self):
        assert device_for("auto", strict.asarray([1])) == "cpu"
        assert device_for("gpu:1", strict.asarray([1])) == "gpu:1"
        assert device_for("auto", [1]) == "auto"

    def test_torch_shares_the_memory(self):
        torch = pytest.importorskip("torch")
        found = like(RESULT, torch.ones(2))
        assert isinstance(found, torch.Tensor)
        assert np.shares_memory(found.numpy(), RESULT)

    @pytest.mark.gpu
    def test_on_a_gpu_results_stay_there(self, gpu_backend):
        on_gpu = gpu_backend.asarray(RESULT)
        assert device_for("auto", on_gpu) == gpu_backend.name
        found = like(on_gpu, gpu_backend.asarray([1]))
        assert found.data.ptr == on_gpu.data.ptr
        moved = like(RESULT, on_gpu)
        assert type(moved) is type(on_gpu)
        np.testing.assert_array_equal(gpu_backend.to_numpy(moved), RESULT)
        np.testing.assert_array_equal(like(on_gpu, RESULT), RESULT)
        assert type(select("cpu").asarray(on_gpu)) is np.ndarray

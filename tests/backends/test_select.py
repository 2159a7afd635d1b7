import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

from backends import Backend, BackendUnavailable, gpu, gpu_setup, select
from tests.cuda import stand_in
from tests.cuda.stand_in import CUDARuntimeError, install

ROOT = Path(__file__).parents[2]


def raising(error):
    def raises(*_):
        raise error

    return raises


@pytest.fixture
def fake_cupy(monkeypatch):
    """CuPy without a GPU, with a runtime that a test can break."""
    return install(monkeypatch, stand_in.fake_cupy())


def refusal(device="gpu"):
    with pytest.raises(BackendUnavailable) as caught:
        select(device)
    message = str(caught.value)
    assert "\n" not in message
    assert "--device cpu" in message
    return message


def test_cpu():
    cpu = select("cpu")
    assert cpu.name == "cpu"
    assert cpu.xp is np
    assert cpu.device_name
    assert cpu.reason == ""


@pytest.mark.parametrize(
    "device", ["", "tpu", "gpu:", "gpu:-1", "gpu:x", "gpu0", "cuda:", "cuda0", "cpu:0"]
)
def test_no_device_of_that_name(device):
    with pytest.raises(ValueError, match="expected auto, cpu, gpu or gpu:N"):
        select(device)


def test_a_misspelt_device_gets_a_hint():
    with pytest.raises(ValueError, match="did you mean 'gpu'"):
        select("GPU")
    with pytest.raises(ValueError, match=r"\(cuda, cuda:N\); did you mean 'cuda'"):
        select("CUDA")


def test_without_cupy(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    message = refusal()
    assert message.startswith("CuPy is not installed")
    assert 'python -m pip install "cupy-cuda1' in message
    fallback = select("auto")
    assert fallback.name == "cpu"
    assert fallback.reason == message.split(";")[0]


@pytest.mark.parametrize(
    "source",
    [
        "raise ImportError('''\\n====\\nlibcudart.so.12: cannot open\\nmuch more''')",
        "import a_part_that_is_missing",
    ],
)
def test_with_a_broken_cupy(monkeypatch, tmp_path, source):
    (tmp_path / "cupy.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    message = refusal()
    assert message.startswith("CuPy does not import: ")
    assert "libcudart.so.12: cannot open;" in message or "a_part_that_is_missing" in message
    assert 'python -m pip install "cupy-cuda1' in message


def test_with_a_cupy_that_is_too_old(fake_cupy, monkeypatch):
    monkeypatch.delattr(fake_cupy, "isdtype")  # which 14.0 did not have
    monkeypatch.setattr(fake_cupy, "__version__", "14.0.1")
    message = refusal()
    assert message.startswith("CuPy 14.0.1 is too old: expected 14.1 or later;")
    assert '[ctk]>=14.1"' in message


def test_every_floor_of_cupy_is_the_one_that_is_checked():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [line for lines in extras["optional-dependencies"].values() for line in lines]
    floors = {re.match(r"cupy-cuda1\dx(?:\[ctk\])?(.*?)(?:;|$)", line) for line in lines}
    assert {floor[1] for floor in floors if floor} == {f">={gpu_setup.OLDEST}"}


@pytest.mark.parametrize(
    ("broken", "with_what", "cause"),
    [
        ("driverGetVersion", lambda: 0, "no NVIDIA driver was found"),
        ("driverGetVersion", raising(CUDARuntimeError("stub")), "no NVIDIA driver was found"),
        (
            "getDeviceCount",
            raising(CUDARuntimeError("cudaErrorInsufficientDriver: CUDA driver version is …")),
            "the NVIDIA driver supports CUDA 12.4, CuPy is built for a newer one",
        ),
        (
            "getDeviceCount",
            raising(CUDARuntimeError("cudaErrorNoDevice: no CUDA-capable device is detected")),
            "no CUDA device is visible to the driver",
        ),
        ("getDeviceCount", lambda: 0, "no CUDA device is visible to the driver"),
    ],
)
def test_with_a_driver_that_does_not_serve(fake_cupy, broken, with_what, cause):
    setattr(fake_cupy.cuda.runtime, broken, with_what)
    message = refusal()
    assert message.startswith(cause)
    assert 'python -m pip install "cupy-cuda1' in message
    assert select("auto").name == "cpu"


def test_with_a_device_that_does_not_serve(fake_cupy):
    runtime = fake_cupy.cuda.runtime
    assert refusal("gpu:1").startswith("gpu:1 does not exist, this machine has gpu:0;")
    runtime.getDeviceCount = lambda: 3
    assert "this machine has gpu:0 to gpu:2" in refusal("gpu:7")
    assert refusal("cuda:7") == refusal("gpu:7")

    fake_cupy.ones = lambda *_: np.zeros((2, 2))
    assert refusal().startswith("gpu:0 calculates wrongly: 32 came out as 8")
    fake_cupy.ones = raising(OSError("libnvrtc.so.12 not found\nand more"))
    assert refusal().startswith("gpu:0 does not answer: libnvrtc.so.12 not found;")

    runtime.getDeviceCount = raising(CUDARuntimeError("cudaErrorUnknown: unknown error"))
    assert refusal().startswith("CUDA does not answer: cudaErrorUnknown")


@pytest.mark.parametrize(("driver", "wheel"), [(0, "13x"), (12040, "12x"), (13000, "13x")])
def test_the_wheel_matches_the_driver(monkeypatch, driver, wheel):
    monkeypatch.setitem(sys.modules, "cupy", None)
    monkeypatch.setattr(gpu_setup, "is_installed", lambda wheel: False)
    monkeypatch.setattr(gpu_setup, "driver_version", lambda: driver)
    message = refusal()
    assert f'"cupy-cuda{wheel}[ctk]>=14.1"' in message
    assert ("no NVIDIA driver was found" in message) == (driver == 0)


@pytest.mark.parametrize(
    ("driver", "first"),
    [
        (0, "for an NVIDIA GPU first its driver, 580 or newer"),
        (11080, "for a GPU first a newer driver, 525 at least (this one is for CUDA 11.8)"),
        (12040, "for a GPU: python -m pip install"),
    ],
)
def test_the_driver_comes_before_cupy(monkeypatch, driver, first):
    monkeypatch.setitem(sys.modules, "cupy", None)
    monkeypatch.setattr(gpu_setup, "driver_version", lambda: driver)
    monkeypatch.setattr(sys, "platform", "linux")
    cause, advice, *_ = refusal().split("; ")
    assert advice.startswith(first)
    assert "pip" not in cause + advice.split("then:")[0] or driver == 12040


def test_on_a_mac_nothing_is_to_be_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    monkeypatch.setattr(sys, "platform", "darwin")
    message = refusal()
    assert "Apple's GPUs are not used" in message
    assert "pip install" not in message
    assert "\n" not in message


def test_every_gpu_by_its_number(fake_cupy):
    fake_cupy.cuda.runtime.getDeviceCount = lambda: 2
    backend = select("gpu:1")
    assert (backend.name, backend.device_name) == ("gpu:1", "Fake 9000")
    assert select("cuda:1").name == "gpu:1"
    assert select("cuda").name == select("gpu").name == "gpu:0"
    assert select("auto").reason == "a CUDA GPU answers"


def test_gpu_describe(fake_cupy, monkeypatch):
    monkeypatch.setattr(fake_cupy.cuda.Device, "mem_info", (1_000, 2_000))
    assert gpu.describe() == [
        {
            "index": 0,
            "name": "Fake 9000",
            "memory_free": 1_000,
            "memory_total": 2_000,
            "compute_capability": "9.0",
            "driver": "12.4",
            "cuda": "12.9",
            "cupy": "14.1.0",
        }
    ]


@pytest.mark.gpu
def test_a_gpu_that_answers(gpu_backend):
    assert select("auto").name == gpu_backend.name == "gpu:0"
    assert gpu.describe()[0]["name"] == gpu_backend.device_name


def test_repr_names_the_device(backend):
    assert isinstance(backend, Backend)
    assert backend.name in repr(backend)
    assert backend.device_name in repr(backend)


def test_importing_the_package_is_light():
    heavy = ["cupy", "matplotlib", "sklearn", "numba", "PIL", "requests"]
    code = (
        f"import sys, backends, trainer;print(*[name for name in {heavy} if name in sys.modules])"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert loaded == []

"""Every CUDA source compiles for the GPUs that people have, within an RTX 3060's limits."""

import itertools
import re

import numpy as np
import pytest

from backends.kernels.cuda.launching import source
from backends.kernels.cuda.online import MOST_CLASSES, SHAPES

ARCHITECTURES = [75, 86, 90, 120]  # Turing, Ampere (the RTX 3060), Hopper, Blackwell
# an RTX 3060's, of one thread block
REGISTERS, SHARED = 65536, 99 << 10
THREADS = {"mixing": 256, "first_layer": 256, "recurrence": 256}
LESSONS = {"REAL": "float32", "VALUE": "uint8", "BLOCK": 64, "UNITS": 2}
TEN_CLASSES = LESSONS | {"CLASSES": 10, "COLUMNS": 4}
VARIANTS = [
    ("batches", {"REAL": "float32", "VALUE": "uint8"}),
    ("batches", {"REAL": "float64", "VALUE": "float32"}),
    ("deforming", {"REAL": "float32", "VALUE": "uint8"}),
    ("deforming", {"REAL": "float64", "VALUE": "float64"}),
    ("noise", {"REAL": "float32"}),
    ("online_sgd", TEN_CLASSES),
    ("online_sgd", LESSONS | {"CLASSES": 0, "COLUMNS": 8}),
    ("online_sgd", LESSONS | {"REAL": "float64", "BLOCK": 32, "CLASSES": 16, "COLUMNS": 4}),
]


def every_variant():
    for real, shapes in SHAPES.items():
        for (units, block, weights), columns in itertools.product(shapes, (1, 2, 4, 8)):
            most = min(MOST_CLASSES, weights // units)
            for classes in {0, min(3, most), most}:
                macros = {"REAL": real, "VALUE": "float32", "BLOCK": block, "UNITS": units}
                yield "online_sgd", macros | {"CLASSES": classes, "COLUMNS": columns}
    for value in ("bool", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"):
        yield "batches", {"REAL": "float32", "VALUE": value}
        yield "deforming", {"REAL": "float32", "VALUE": value}
        yield "online_sgd", TEN_CLASSES | {"VALUE": value}


@pytest.fixture(scope="module")
def nvrtc():
    try:
        from cupy_backends.cuda.libs import nvrtc

        nvrtc.getVersion()
    except Exception as error:  # CuPy is missing, or NVRTC, which it looks for in several ways
        line = str(error).splitlines()[0]
        pytest.skip(f'NVRTC does not answer ({line}); python -m pip install ".[nvrtc]"')
    return nvrtc


def compiled(nvrtc, name, macros, architecture):
    """What the assembler says of each kernel: {kernel: (registers, static shared, spilled)}."""
    program = nvrtc.createProgram(source(name), f"{name}.cu", (), ())
    options = [f"-D{macro}={value}" for macro, value in macros.items()]
    options += [f"--gpu-architecture=sm_{architecture}", "-std=c++17", "-ftz=true"]
    options += ["--ptxas-options=-v"]
    try:
        nvrtc.compileProgram(program, options)
    except nvrtc.NVRTCError as error:
        raise AssertionError(nvrtc.getProgramLog(program)) from error
    assert nvrtc.getCUBIN(program)
    log = nvrtc.getProgramLog(program)
    assert "warning" not in log, log
    found = {}
    for part in log.split("Compiling entry function '")[1:]:
        shared = re.search(r"(\d+) bytes smem", part)
        found[part.split("'")[0]] = (
            int(re.search(r"Used (\d+) registers", part)[1]),
            int(shared[1]) if shared else 0,
            int(re.search(r"(\d+) bytes spill stores", part)[1]),
        )
    return found


def check(found):
    assert found
    for kernel, (registers, shared, spilled) in found.items():
        # registers are given out eight at a time
        assert -(-registers // 8) * 8 * THREADS.get(kernel, 256) <= REGISTERS, kernel
        assert shared <= min(SHARED, 48 << 10), kernel
        assert spilled == 0, kernel


# quickly for the RTX 3060 alone, whose limits they must keep
@pytest.mark.parametrize(
    ("name", "macros", "architecture"),
    [
        pytest.param(
            name, macros, architecture,
            marks=() if architecture == 86 else pytest.mark.thorough,
        )
        for name, macros in VARIANTS
        for architecture in ARCHITECTURES
    ],
)  # fmt: skip
def test_compiles(nvrtc, name, macros, architecture):
    check(compiled(nvrtc, name, macros, architecture))


@pytest.mark.thorough
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize(("name", "macros"), list(every_variant()))
def test_compiles_every_variant(nvrtc, name, macros, architecture):
    check(compiled(nvrtc, name, macros, architecture))


def test_names_its_sources_types():
    text = source("online_sgd")
    for name in ("uint8", "int64", "float32", "float64"):
        assert re.search(rf"typedef .* {name};", text)
        np.dtype(name)

"""Training by programs of compiled operations: the textbook's numbers, whatever comes together."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backends.cpu import CpuBackend
from backends.kernels.cpu.dense import ROWS, multiply, registers_for, turn
from backends.kernels.cpu.lanes import REGISTER_BYTES, lane_count
from backends.kernels.cpu.packed import tile_of
from backends.kernels.cpu.views import item, matrix, matrix_at, vector
from tests.backends.lessons import VARIED, Lesson, lessons
from tests.conftest import assert_weights


class ByPrograms(CpuBackend):
    """The CPU, also where it would learn small batches by delayed updates."""

    def _learns_online(self, *args: Any) -> bool:
        return False


@settings(max_examples=120)
@given(lesson=lessons())
def test_a_program_is_the_textbook(base_on_numpy, lesson):
    assert_weights(lesson.learn(ByPrograms()), lesson.learn(base_on_numpy), 1e-10)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_matrices_may_be_cut_anywhere(base_on_numpy, monkeypatch, dtype):
    """How many rows a piece has follows from the width of the processor's registers."""
    lesson = Lesson((90, 5, 3), dtype=dtype)
    columns = len(tile_of(lesson.spec())) * lane_count(dtype)
    desired = lesson.learn(base_on_numpy)
    for rows in (16, 17, 23, 31):
        monkeypatch.setattr("backends.kernels.cpu.batch_network._PIECE", rows * columns)
        tolerance = 1e-10 if dtype == "float64" else 1e-5
        assert_weights(lesson.learn(ByPrograms()), desired, tolerance)


@pytest.mark.parametrize("values", ["uint8", "float64"])
@pytest.mark.parametrize("layout", ["F", "strided", "read-only"])
def test_samples_and_labels_may_lie_anyhow(values, layout):
    lesson = Lesson((9, 5, 3), values=values)
    found = replace(lesson, layout=layout).learn(ByPrograms(), [1])
    assert_weights(found, lesson.learn(ByPrograms(), [1]), 0)


@pytest.mark.parametrize("kind", ["by programs", "by delayed updates"])
@pytest.mark.parametrize("values", ["uint8", "float32", "float64"])
@pytest.mark.parametrize("lesson", VARIED.values(), ids=list(VARIED))
def test_samples_may_be_picked_from_others(lesson, values, kind):
    backend = ByPrograms() if kind == "by programs" else CpuBackend()
    lesson = replace(lesson, values=values)
    found = replace(lesson, layout="picked").learn(backend, [1])
    assert_weights(found, lesson.learn(backend, [1]), 0)


def test_what_has_no_kernel_learns_picked_samples_too(base_on_numpy):
    lesson = Lesson((9, 5, 3), values="float64")
    found = replace(lesson, layout="picked").learn(base_on_numpy)
    assert_weights(found, lesson.learn(base_on_numpy), 0)


OTHER_PROCESSOR = """
import sys
from llvmlite import binding
features = binding.get_host_cpu_features()
features["avx512f"] = False
features["avx2"] = sys.argv[1] == "32"
binding.get_host_cpu_features = lambda: features
from backends.kernels.cpu import lanes
assert lanes.REGISTER_BYTES == int(sys.argv[1])
import numpy as np
from backends import Backend
from tests.backends import test_programs
test_programs.test_a_program_is_the_textbook(Backend(np, "base", "base.py on NumPy"))
"""


@pytest.mark.thorough
@pytest.mark.parametrize("register_bytes", [16, 32])
def test_programs_for_other_processors_are_the_textbook(tmp_path, register_bytes):
    if register_bytes >= REGISTER_BYTES:
        pytest.skip("this processor's registers are no wider")
    command = [sys.executable, "-c", OTHER_PROCESSOR, str(register_bytes)]
    subprocess.run(command, check=True, env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)})


# --- neither the threads nor where a call ends change a bit --------------------------------


@pytest.fixture(params=[None, 0], ids=["by samples", "by units"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """How a network's deeper layers are shared out."""
    if request.param is not None:
        monkeypatch.setattr("backends.kernels.cpu.batch_network._CACHED_WEIGHTS", request.param)


def learn_by(workers: int, lesson: Lesson, cuts: Sequence[int] = ()) -> list[np.ndarray]:
    """Learn on the CPU with so many workers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("backends.cpu.worker_count", lambda: workers)
        return lesson.learn(ByPrograms(), cuts)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("lesson", VARIED.values(), ids=list(VARIED))
def test_the_number_of_threads_changes_no_bit(lesson):
    alone = learn_by(1, lesson)
    for workers in (2, 3):
        assert_weights(learn_by(workers, lesson), alone, 0)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("lesson", VARIED.values(), ids=list(VARIED))
def test_a_cut_changes_no_bit(lesson):
    steps = -(-lesson.samples // lesson.size)
    whole = learn_by(2, lesson)
    for cuts in ([steps - 1], [1], range(1, steps)):
        assert_weights(learn_by(2, lesson, cuts), whole, 0)


@settings(max_examples=40)
@given(lesson=lessons(), data=st.data())
def test_neither_threads_nor_cuts_change_a_bit(lesson, data):
    steps = -(-lesson.samples // lesson.size)
    cuts = sorted(data.draw(st.sets(st.integers(1, steps - 1)))) if steps > 1 else []
    workers = data.draw(st.integers(1, 3))
    assert_weights(learn_by(workers, lesson, cuts), learn_by(1, lesson), 0)


# --- what operations are made of -------------------------------------------------------------


def parts_kernel(dtype: type) -> Callable[..., None]:
    """Compile a kernel that copies what it views into an array of three rows."""

    @numba.njit
    def kernel(a, address, at, rows, columns, copied):
        line, table = vector(a, at, rows * columns), matrix(a, at, rows, columns)
        foreign = matrix_at(address, dtype, rows, columns)
        for i in range(rows):
            for j in range(columns):
                copied[0, i * columns + j] = line[i * columns + j]
                copied[1, i * columns + j] = table[i, j]
                copied[2, i * columns + j] = item(table[i], j) + item(foreign, i * columns + j)
        line[line.size - 1] = table.size + table.shape[0]
        table[0, 0] = line.size

    return kernel


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_views_of_parts_of_an_array(dtype):
    rng = np.random.default_rng(0)
    kernel = parts_kernel(dtype)
    for size in rng.integers(4, 60, 64):
        a = rng.normal(size=size).astype(dtype)
        rows = int(rng.integers(1, 4))
        columns = len(a) // rows // 2 or 1
        at = int(rng.integers(0, len(a) - rows * columns + 1))
        before, copied = a.copy(), np.zeros((3, rows * columns), dtype)
        other = rng.normal(size=rows * columns).astype(dtype)
        kernel(a, other.ctypes.data, at, rows, columns, copied)
        seen = before[at : at + rows * columns]
        np.testing.assert_array_equal(copied, [seen, seen, seen + other])
        before[at + rows * columns - 1] = rows * columns + rows
        before[at] = rows * columns
        np.testing.assert_array_equal(a, before)


@pytest.mark.parametrize("registers", ROWS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-5), (np.float64, 1e-13)])
def test_a_product_in_registers(dtype, tolerance, registers):
    tile, rows = (0,) * registers, (0,) * ROWS[registers]

    @numba.njit
    def kernel(count, is_new, n, a, by, b, c, places):
        at_a, at_b, by_b, at_c, by_c = places
        multiply(tile, rows, count, is_new, n, a, at_a, by[0], by[1], b, at_b, by_b, c, at_c, by_c)

    rng = np.random.default_rng(registers)
    width = registers * lane_count(dtype)
    for case in range(48):
        count, n = int(rng.integers(1, ROWS[registers] + 1)), int(rng.integers(0, 20))
        is_new = bool(case & 1)
        ats, gaps = rng.integers(0, 9, 3), rng.integers(0, 5, 3)
        stored = (n, count) if case & 2 else (count, n)
        flat, views, steps = [], [], []
        for shape, at, gap in zip((stored, (n, width), (count, width)), ats, gaps, strict=True):
            step = shape[1] + gap
            whole = rng.normal(size=at + shape[0] * step + 3).astype(dtype)
            flat.append(whole)
            views.append(whole[at : at + shape[0] * step].reshape(shape[0], step)[:, : shape[1]])
            steps.append(step)
        left = views[0].T if case & 2 else views[0]
        desired = flat[2].copy()  # what lies around stays as it was
        at, step = ats[2], steps[2]
        part = desired[at : at + count * step].reshape(count, step)[:, :width]
        part[...] = left @ views[1] + (0 if is_new else part)
        by = (1, steps[0]) if case & 2 else (steps[0], 1)
        places = ats[1], steps[1], ats[2], steps[2]
        kernel(count, is_new, n, flat[0], by, flat[1], flat[2], (ats[0], *places))
        np.testing.assert_allclose(flat[2], desired, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_turned_block(dtype):
    @numba.njit
    def kernel(a, at_a, by_a, b, at_b, by_b, rows):
        turn(a, at_a, by_a, b, at_b, by_b, rows)

    lanes, rng = lane_count(dtype), np.random.default_rng(0)
    for rows in (*range(lanes + 1), lanes + 3):
        by_a, by_b = lanes + int(rng.integers(0, 5)), lanes + int(rng.integers(0, 5))
        a = rng.normal(size=2 + lanes * by_a).astype(dtype)
        b = rng.normal(size=3 + lanes * by_b).astype(dtype)
        desired = b.copy()
        block = a[2:].reshape(lanes, by_a)[:, :lanes]
        desired[3:].reshape(lanes, by_b)[:rows, :lanes] = block.T[:rows]
        kernel(a, 2, by_a, b, 3, by_b, rows)
        np.testing.assert_array_equal(b, desired)


def test_tiles_waste_little():
    lanes = REGISTER_BYTES // 4
    for units in (*range(1, 300), 800, 1000, 2500):
        count = -(-units // lanes)
        registers = registers_for(count)
        padded = -(-count // registers) * registers
        assert registers in ROWS
        assert padded <= count + max(1, count // 4)

"""Training by programs of compiled operations: the textbook's numbers, whatever comes together."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import inf
from typing import Any

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backends import Backend, Batches, Rule
from backends.base import NetworkSpec
from backends.cpu import CpuBackend
from backends.functions import ACTIVATIONS, LOSSES
from backends.kernels.cpu.dense import ROWS, multiply, registers_for, turn
from backends.kernels.cpu.lanes import REGISTER_BYTES, lane_count
from backends.kernels.cpu.views import item, matrix, matrix_at, vector
from backends.regularization import Regularization, new_normalization
from tests.conftest import assert_weights


class ByPrograms(CpuBackend):
    """The CPU, also where it would learn small batches by delayed updates."""

    def _learns_online(self, *args: Any) -> bool:
        return False


PLAIN_SGD = Rule()


@dataclass(frozen=True)
class Lesson:
    """A network, samples, and how they are learned."""

    sizes: tuple[int, ...]
    activation: str = "sigmoid"
    loss: str = "cross_entropy"
    bias: bool = True
    rule: Rule = PLAIN_SGD
    values: str = "uint8"
    by_feature: tuple[bool, bool] = (False, False)
    shift: float = 0.1
    samples: int = 40
    size: int = 16
    penalty: float = 0.0
    dropped: tuple[float, float] = (0.0, 0.0)
    normalized: bool = False
    weighted: bool = False
    made: int = 0
    dtype: str = "float64"
    layout: str = "C"
    seed: int = 0

    def spec(self) -> NetworkSpec:
        """Return the network."""
        real, features = np.dtype(self.dtype).type, self.sizes[0]
        scale, shift = real(1 / 255 if self.values == "uint8" else 0.7), real(self.shift)
        if self.by_feature[0]:
            scale = scale * np.linspace(0.5, 1.5, features, dtype=real)
        if self.by_feature[1]:
            # by no such numbers that an input comes to 0 but for rounding, where a rectifier has
            # its kink
            shift = shift + np.linspace(-0.1717, 0.4142, features, dtype=real)
        output = LOSSES[self.loss].output
        return NetworkSpec(
            self.sizes, self.activation, output, self.loss, self.bias, 0.1, 0.8, scale, shift,
            np.dtype(self.dtype),
        )  # fmt: skip

    def learn(self, backend: Backend, cuts: Sequence[int] = ()) -> list[np.ndarray]:
        """Learn in as many calls as the cuts, numbers of batches, make; return all that changed."""
        spec, rng = self.spec(), np.random.default_rng(self.seed)
        n, features = self.samples, self.sizes[0]
        values = rng.integers(1, 256, (n, features)).astype(self.values)
        if self.values != "uint8":
            values = rng.normal(size=values.shape).astype(self.values)
        values[rng.random(values.shape) < rng.choice([0.0, 0.5, 0.9])] = 0
        labels = rng.integers(0, self.sizes[-1], n)
        if self.layout == "F":
            values = np.asfortranarray(values)
        elif self.layout == "strided":
            values, labels = np.repeat(values, 2, axis=1)[:, ::2], np.repeat(labels, 3)[::3]
        values.flags.writeable = labels.flags.writeable = self.layout != "read-only"
        steps = -(-n // self.size)
        rates = rng.uniform(0.01, 0.05, steps)
        sample_weights = (rng.integers(0, 4, n) / 2).astype(spec.dtype) if self.weighted else None
        gains, moments = new_normalization(np, spec) if self.normalized else ([], [])
        weights = [
            rng.normal(0, 1 / np.sqrt(shape[0]) if len(shape) == 2 else 0.3, shape)
            for shape in spec.shapes
        ]
        weights = [w.astype(spec.dtype) for w in weights] + gains
        kept = 2 if self.rule.betas else 1 if self.rule.momentum else 0
        states = [weights]
        if kept:
            states.append([rng.normal(0, 0.01, w.shape).astype(spec.dtype) for w in weights])
        if kept == 2:
            states.append([rng.uniform(0, 0.01, w.shape).astype(spec.dtype) for w in weights])
        flat_moments = [a for pair in moments for a in pair]
        if self.rule.averaging:
            states.append([a.copy() for a in (*weights, *flat_moments)])
        losses = []
        for low, high in pairwise([0, *cuts, steps]):
            rows = slice(low * self.size, high * self.size)
            batches = Batches(
                values[rows],
                labels[rows],
                rates[low:high].tolist(),
                self.size,
                self.penalty,
                Regularization(self.dropped, moments),
                (2**62 + self.seed, 3, self.made + low),
                None if sample_weights is None else sample_weights[rows],
            )
            losses.append(backend.learn(spec, states, batches, self.rule, self.made + low))
        return [np.concatenate(losses), *(a for state in states for a in state), *flat_moments]


RULES = {
    "sgd": PLAIN_SGD,
    "momentum": Rule(momentum=0.9),
    "nesterov": Rule(momentum=0.5, nesterov=True),
    # what is added to the root is large enough that the step of a gradient of 0 stays one of 0,
    # however it was rounded
    "adam": Rule(betas=(0.9, 0.999), epsilon=1e-4),
    "adamw": Rule(betas=(0.8, 0.99), epsilon=1e-4, decay=0.1),
}


@st.composite
def lessons(draw: Callable[..., Any]) -> Lesson:
    """Everything together with everything."""
    hidden = draw(st.lists(st.integers(1, 130), max_size=3))
    if draw(st.integers(0, 14)) == 7:
        hidden = [draw(st.sampled_from([130, 200, 300]))] * draw(st.integers(1, 2))
    if draw(st.integers(0, 24)) == 7:
        hidden = [300, 450]  # more than `batch_network._CACHED_WEIGHTS`
    bias, loss = draw(st.booleans()), draw(st.sampled_from(list(LOSSES)))
    can_normalize = bias and hidden and not LOSSES[loss].splits_raw_errors
    rule = RULES[draw(st.sampled_from(list(RULES)))]
    rule = rule._replace(
        clip=draw(st.sampled_from([inf, inf, 0.1, 1.0])),
        averaging=draw(st.sampled_from([0.0, 0.0, 0.1, 0.99])),
    )
    size = draw(st.one_of(st.integers(2, 70), st.sampled_from([8, 16, 32, 64])))
    steps = draw(st.integers(1, 4))
    return Lesson(
        sizes=(draw(st.integers(1, 40)), *hidden, draw(st.integers(1, 5))),
        activation=draw(st.sampled_from(list(ACTIVATIONS))),
        loss=loss,
        bias=bias,
        rule=rule,
        values=draw(st.sampled_from(["uint8", "float32", "float64"])),
        by_feature=draw(st.tuples(st.booleans(), st.booleans())),
        shift=draw(st.sampled_from([0.0, 0.01, -0.3])),
        samples=size * (steps - 1) + draw(st.integers(1, size)),
        size=size,
        penalty=draw(st.sampled_from([0.0, 0.0, 0.03])),
        dropped=draw(st.sampled_from([(0.0, 0.0), (0.0, 0.3), (0.2, 0.0), (0.2, 0.5)])),
        normalized=bool(can_normalize and draw(st.booleans())),
        weighted=draw(st.booleans()),
        made=draw(st.sampled_from([0, 0, 5, 1000])),
        seed=draw(st.integers(0, 2**16)),
    )


@settings(max_examples=120)
@given(lesson=lessons())
def test_a_program_is_the_textbook(base_on_numpy, lesson):
    assert_weights(lesson.learn(ByPrograms()), lesson.learn(base_on_numpy), 1e-10)


@pytest.mark.parametrize("values", ["uint8", "float64"])
@pytest.mark.parametrize("layout", ["F", "strided", "read-only"])
def test_samples_and_labels_may_lie_anyhow(values, layout):
    lesson = Lesson((9, 5, 3), values=values)
    found = replace(lesson, layout=layout).learn(ByPrograms(), [1])
    assert_weights(found, lesson.learn(ByPrograms(), [1]), 0)


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

ALL = Lesson((30, 70, 150, 20, 4), "relu", rule=RULES["adamw"]._replace(clip=0.5, averaging=0.9))
ALL = replace(ALL, by_feature=(True, True), penalty=0.01, dropped=(0.2, 0.3), weighted=True)
ALL = replace(ALL, samples=157, size=32)
PLAIN = replace(Lesson((30, 70, 50, 4)), samples=157, size=32)
VARIED = {
    "everything": ALL,
    "everything normalised": replace(ALL, normalized=True),
    "everything in float32": replace(ALL, dtype="float32", activation="gelu"),
    "a plain network": PLAIN,
    "without hidden layers": replace(PLAIN, sizes=(30, 4)),
    "Rashid's rule": replace(PLAIN, loss="rashid", rule=RULES["momentum"]),
    "a clip": replace(PLAIN, rule=Rule(clip=0.01)),
    "an average": replace(PLAIN, rule=Rule(averaging=0.99)),
    "Nesterov": replace(PLAIN, rule=RULES["nesterov"], loss="squared_error"),
    "Adam": replace(PLAIN, rule=RULES["adam"], activation="tanh", made=7),
    "dropout": replace(PLAIN, dropped=(0.0, 0.5), activation="gelu"),
    "input dropout": replace(PLAIN, dropped=(0.5, 0.0), bias=False),
    "batch normalisation": replace(PLAIN, normalized=True, rule=RULES["momentum"]),
    "sample weights": replace(PLAIN, weighted=True, loss="binary_cross_entropy"),
    "a penalty": replace(PLAIN, penalty=0.1, shift=0.0),
    "a wide first layer": replace(PLAIN, sizes=(30, 500, 4), values="float64"),
    "small batches": replace(ALL, size=3, samples=31),
    "large batches": replace(ALL, size=200, samples=450),
}


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

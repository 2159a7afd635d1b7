"""Every operation against the textbook: networks of all kinds, in float64 and float32.

The first cases are common networks, the others are drawn: ``--cases 500 --cases-seed 7`` draws so
many from that seed. What a GPU computes is checked by those marked gpu.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import count, pairwise
from typing import Any

import numpy as np
import pytest

from backends import Backend, Batches, Rule, select
from backends.functions import ACTIVATIONS, LOSSES
from trainer import MLP

TOLERANCES = {"float64": 1e-9, "float32": 1e-3}  # of what changed
KINK = 1e-5  # nearer to 0, float32 may find the other slope of a rectifier


# --- cases --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """What a backend computes."""

    operation: str
    sizes: tuple[int, ...]
    activation: str
    loss: str
    bias: bool
    values: str
    batch: int
    samples: int
    momentum: float = 0.0
    penalty: float = 0.0
    by_feature: tuple[str, ...] = ()
    changing_rate: bool = False
    targets: tuple[float, float] | None = None

    @property
    def steps(self) -> int:
        """Return how often the weights change."""
        return -(-self.samples // self.batch)

    def __str__(self) -> str:
        shown = "-".join(map(str, self.sizes))
        parts = [self.operation, shown, self.activation, self.loss, self.values]
        parts += [f"{self.samples} samples by {self.batch}"] + ["biases"] * self.bias
        parts += [f"momentum {self.momentum:g}"] * bool(self.momentum)
        parts += [f"decay {self.penalty:g}"] * bool(self.penalty)
        parts += [f"{' and '.join(self.by_feature)} by feature"] * bool(self.by_feature)
        parts += ["a changing rate"] * self.changing_rate
        return ", ".join(parts + [f"targets {self.targets}"] * bool(self.targets))


_LESSON = Case("sgd", (784, 200, 10), "sigmoid", "rashid", False, "uint8", 1, 133)
# common networks come first, before those that are drawn
FIRST_CASES = (
    _LESSON,
    replace(_LESSON, loss="cross_entropy", bias=True, activation="relu", batch=32, samples=75),
    replace(_LESSON, loss="squared_error", bias=True, momentum=0.9, penalty=1e-3),
    replace(_LESSON, sizes=(784, 300, 100, 10), activation="tanh", loss="cross_entropy", bias=True),
    replace(_LESSON, operation="adam", loss="cross_entropy", bias=True, batch=64, samples=200),
    replace(_LESSON, operation="propagate", samples=257),
    replace(_LESSON, operation="gradients", bias=True, penalty=1e-3, batch=100, samples=100),
    replace(_LESSON, sizes=(784, 800, 10), batch=128, samples=300, momentum=0.9),
    replace(_LESSON, sizes=(784, 10), loss="binary_cross_entropy", bias=True, values="float32"),
    replace(_LESSON, sizes=(100, 33, 10), batch=50, samples=120, by_feature=("shift",)),
    replace(_LESSON, sizes=(784, 1025, 10), samples=65, by_feature=("scale",)),
    replace(_LESSON, operation="adam_step"),
    replace(_LESSON, operation="deform"),
)
OPERATIONS = {"sgd": 0.56, "adam": 0.12, "gradients": 0.12, "propagate": 0.12}
OPERATIONS |= {"adam_step": 0.04, "deform": 0.04}
FEATURES = (1, 5, 16, 63, 64, 65, 100, 783, 784, 785, 1024)
UNITS = (1, 2, 31, 32, 33, 64, 100, 127, 128, 129, 200, 255, 256, 257, 512, 513, 1000, 1025, 2048)
CLASSES = (1, 2, 3, 7, 10, 10, 10, 16, 17, 26, 32, 33, 47, 100)
ONLINE = (1, 2, 31, 32, 33, 63, 64, 65, 100, 127, 128, 129, 200)
# so that the first layer's errors do not vanish
GAINS = {"sigmoid": 8.0, "tanh": 1.5, "relu": 2.0, "scaled_tanh": 1.5, "gelu": 2.0}
BATCHES = (2, 3, 8, 16, 17, 32, 50, 64, 100, 128, 256, 500)


def draw_case(seed: int, number: int) -> Case:
    """Draw a case; only its number decides activation and loss, so that all come up."""
    if number < len(FIRST_CASES):
        return FIRST_CASES[number]
    rng = np.random.default_rng([seed, number, 0])

    def one_of(choices: Iterable[Any], *more: Any) -> Any:
        choices = [*choices, *more]
        return choices[rng.integers(len(choices))]

    depth = int(rng.choice(4, p=[0.15, 0.45, 0.25, 0.15]))
    widest = 2048 if depth == 1 else 300
    units = [u for u in UNITS if u <= widest]
    hidden = [one_of(units) if rng.random() < 0.5 else int(rng.integers(1, 300))] * (depth > 0)
    hidden += [int(rng.integers(1, 130)) for _ in range(depth - 1)]
    features = one_of(FEATURES, int(rng.integers(2, 900)))
    batch = 1 if rng.random() < 0.5 else one_of(BATCHES, int(rng.integers(2, 300)))
    steps = int(rng.integers(1, 5))
    samples = (
        one_of(ONLINE) if batch == 1 else batch * (steps - 1) + int(rng.integers(1, batch + 1))
    )
    operation = str(rng.choice(list(OPERATIONS), p=list(OPERATIONS.values())))
    if operation == "adam":
        samples = min(samples, 4 * batch)  # the textbook's steps are slow
    return Case(
        operation=operation,
        sizes=(features, *hidden, one_of(CLASSES)),
        activation=list(ACTIVATIONS)[number % len(ACTIVATIONS)],
        loss=list(LOSSES)[number // len(ACTIVATIONS) % len(LOSSES)],
        bias=bool(rng.random() < 0.5),
        values=one_of(("uint8", "uint8", "float32", "float64")),
        batch=batch,
        samples=samples,
        momentum=one_of((0.0, 0.0, 0.5, 0.9)) if operation == "sgd" else 0.0,
        penalty=one_of((0.0, 0.0, 1e-4, 1e-2)) if operation != "propagate" else 0.0,
        by_feature=one_of(((), (), (), ("scale",), ("shift",), ("scale", "shift"))),
        changing_rate=bool(rng.random() < 0.3),
        targets=(0.1, 0.7) if rng.random() < 0.2 else None,
    )


# --- what a case computes -------------------------------------------------------------------


class Textbook(Backend):
    """base.py on NumPy, which records how near to 0 a rectifier came."""

    nearest = np.inf

    def __init__(self) -> None:
        super().__init__(np, "base", "base.py on NumPy")

    def activate(self, name: str, z: Any) -> Any:
        if name == "relu" and z.size:
            self.nearest = min(self.nearest, float(np.min(np.abs(z))))
        return super().activate(name, z)


def check_case(backend: Backend, case: Case, seed: int, number: int) -> list[dict[str, Any]]:
    """Compare a backend with the textbook in float64 on one case, in both precisions.

    Returns
    -------
    list of dict
        For each dtype: the largest ``‖out - wanted‖ / ‖what changed‖`` of an array, where half a
        last bit of each number and step counts as changed by a thousand times as much; whether
        last bit of each number and step counts as changed by a thousand times as much; whether
        that is allowed; and whether a second run gave the same bits.
    """
    given, steps = draw_arrays(case, np.random.default_rng([seed, number, 1])), case.steps
    textbook = Textbook()
    wanted = compute(textbook, case, given, "float64")
    before = {name: given[name] for name in wanted if name in given}
    rows = []
    for dtype, tolerance in TOLERANCES.items():
        row: dict[str, Any] = {"number": number, "case": str(case), "operation": case.operation}
        row |= {"dtype": dtype, "tolerance": tolerance, "problem": "", "array": ""}
        row |= {"difference": 0.0, "bit_for_bit": True}
        rows.append(row)
        slopes = case.operation in ("sgd", "adam", "gradients")
        if dtype == "float32" and slopes and textbook.nearest < KINK:
            row["difference"] = None  # not compared
            continue
        poison(backend, wanted)
        found = compute(backend, case, given, dtype)
        for name, v in wanted.items():
            change = np.linalg.norm(v - before[name] if name in before else v)
            off = np.linalg.norm(found[name].astype("float64") - v)
            # what every step rounds away in any case
            rounded = (8 + steps / 2) * np.finfo(dtype).eps * np.linalg.norm(v)
            share = float(off / (change + rounded / tolerance)) if off else 0.0
            if not share <= tolerance:  # so that NaN is a problem
                row["problem"] = f"{name} differs by {share:.1e}"
            if not share <= row["difference"]:
                row |= {"array": name, "difference": share}
        poison(backend, wanted)
        again = compute(backend, case, given, dtype, in_parts=number % 2 == 1)
        row["bit_for_bit"] = all(np.array_equal(again[k], a, True) for k, a in found.items())
        if not (row["bit_for_bit"] or row["problem"]):
            row["problem"] = "a second run gave other bits"
    return rows


def draw_arrays(case: Case, rng: np.random.Generator) -> dict[str, Any]:
    """Draw values, labels, weights and rates with which a network learns without oscillating."""
    features, n = case.sizes[0], case.samples
    if case.values == "uint8":
        values = rng.integers(0, 256, (n, features)).astype(np.uint8)
        values[rng.random(values.shape) >= rng.random()] = 0
        scale, shift = np.full(features, 0.99 / 255), np.full(features, 0.01)
    else:
        values = rng.normal(size=(n, features)).astype(case.values)
        scale, shift = np.full(features, 0.5), np.full(features, 0.1)
    if "scale" in case.by_feature:
        scale = scale * rng.uniform(0.5, 1.5, features)
    if "shift" in case.by_feature:
        shift = rng.normal(0, 0.1, features)
    given: dict[str, Any] = {
        "values": values,
        "labels": rng.integers(0, case.sizes[-1], n),
        "scale": _exact(scale) if "scale" in case.by_feature else float(scale[0]),
        "shift": _exact(shift) if "shift" in case.by_feature else float(shift[0]),
    }
    if case.operation == "deform":
        # by 64ths, which float32 adds up exactly: both precisions find the same places
        maps = np.eye(2, 3) + rng.normal(0, [0.2, 0.2, 1.0], (n, 2, 3))
        fields = rng.normal(0, 2, (n, 2, *image_shape(features)))
        given |= {"maps": np.round(64 * maps) / 64, "fields": np.round(64 * fields) / 64}
    gain = GAINS.get(case.activation, 2.0)
    for layer, (fan_in, fan_out) in enumerate(pairwise(case.sizes), 1):
        given[f"W{layer}"] = _exact(rng.normal(0, (gain / fan_in) ** 0.5, (fan_in, fan_out)))
        if case.bias:
            given[f"b{layer}"] = _exact(rng.normal(0, 0.1, fan_out))
    for name in [name for name in given if name[0] in "Wb"]:
        shape = given[name].shape
        given[f"velocity of {name}"] = _exact(rng.normal(0, 1e-3, shape))
        given[f"mean of {name}"] = _exact(rng.normal(0, 1e-2, shape))
        given[f"square of {name}"] = _exact(rng.uniform(0.5e-4, 1.5e-4, shape))
        given[f"gradient of {name}"] = _exact(rng.normal(0, 1e-2, shape))
    x = values * scale + shift
    # so that a step moves no layer's output farther than about its error, with momentum ten steps
    square = float(np.mean(np.sum(x * x, axis=1)))
    size = max(square, max(case.sizes[1:]) * max(1.0, square / features)) + 1
    rate = rng.uniform(0.3, 1.5) / size / (10 if case.momentum else 1)
    rate *= 10 if case.steps <= 5 else 1  # few steps cannot oscillate
    if case.operation.startswith("adam"):
        rate = 1e-3 * rng.uniform(0.3, 1.5)
    swing = rng.uniform(0.5, 1.5, case.steps) if case.changing_rate else np.ones(case.steps)
    return given | {"rates": (rate * swing).tolist()}


def image_shape(features: int) -> tuple[int, int]:
    """Return height and width of so many pixels, as near to a square as possible.

    Examples
    --------
    >>> image_shape(784), image_shape(63), image_shape(5)
    ((28, 28), (7, 9), (1, 5))
    """
    height = next(h for h in range(math.isqrt(features), 0, -1) if features % h == 0)
    return height, features // height


def _exact(a: np.ndarray) -> np.ndarray:
    """Round to what float32 and float64 can both hold."""
    return a.astype("float32").astype("float64")


def compute(
    backend: Backend, case: Case, given: Mapping[str, Any], dtype: str, in_parts: bool = False
) -> dict[str, np.ndarray]:
    """Compute a case; return arrays by name, on the host.

    `in_parts` learns in two calls, which end between blocks and so must change nothing.
    """
    low, high = case.targets or (None, None)
    model = MLP(
        case.sizes,
        backend=backend,
        activation=case.activation,
        loss=case.loss,
        bias=case.bias,
        dtype=dtype,
        scale=given["scale"],
        shift=given["shift"],
        target_low=low,
        target_high=high,
    )
    spec, xp = model.spec, backend.xp
    values, labels = model.samples(given["values"]), backend.asarray(given["labels"])
    labels = xp.astype(labels, xp.int64, copy=False)
    names = [name for name in given if re.fullmatch(r"[Wb]\d+", name)]

    def arrays(prefix: str = "") -> dict[str, Any]:
        made = {prefix + name: backend.asarray(given[prefix + name], dtype) for name in names}
        return {name: xp.asarray(a, copy=True) for name, a in made.items()}

    weights = arrays()
    result: dict[str, Any] = {}
    states: list[dict[str, Any]] = []
    w = list(weights.values())
    if case.operation == "propagate":
        chunks = []
        for _, hidden, logits, outputs in backend.propagate(spec, w, values):
            # copied, since the next chunk may take their place
            chunks.append([xp.asarray(a, copy=True) for a in (*hidden, logits, outputs)])
        layers = [f"a{i}" for i in range(1, len(names) + 1)][: len(chunks[0]) - 2]
        for name, *parts in zip([*layers, "logits", "outputs"], *chunks, strict=True):
            result[name] = xp.concat(parts)
    elif case.operation == "gradients":
        losses, gradients = backend.losses_and_gradients(spec, w, values, labels, case.penalty)
        result = {"losses": losses}
        result |= {f"gradient by {n}": g for n, g in zip(names, gradients, strict=True)}
    elif case.operation == "deform":
        images = xp.reshape(values, (-1, *image_shape(case.sizes[0])))
        maps, fields = (backend.asarray(given[name], dtype) for name in ("maps", "fields"))
        result = {
            name: backend.deform(images, maps, field, 3.0)
            for name, field in (("deformed by maps", None), ("deformed by fields", fields))
        }
    elif case.operation == "adam_step":
        states = [arrays("mean of "), arrays("square of "), arrays("gradient of ")]
        rule = Rule(betas=(0.9, 0.999), epsilon=1e-8)
        for step in range(1, 4):
            for a, *moments, g in zip(w, *(state.values() for state in states), strict=True):
                rate = given["rates"][0]
                backend.adam_step(a, moments, g, rate, step, rule)
        result = weights | states[0] | states[1]
    else:
        if case.operation == "adam":
            states = [arrays("mean of "), arrays("square of ")]
        elif case.momentum:
            states = [arrays("velocity of ")]
        parts = []
        for rows, rates, done in _calls(backend, case, given["rates"], in_parts):
            batches = Batches(values[rows, :], labels[rows], rates, case.batch, case.penalty)
            held = [list(state.values()) for state in states]
            if case.operation == "adam":
                rule = Rule(betas=(0.9, 0.999), epsilon=1e-8)
            else:
                rule = Rule(case.momentum)
            parts.append(backend.learn(spec, [w, *held], batches, rule, 2 + done))
        result = weights | {"losses": xp.concat(parts)}
        for state in states:
            result |= state
    if not np.array_equal(backend.to_numpy(values), given["values"], True):
        raise AssertionError("the samples were changed")
    return {name: np.array(backend.to_numpy(a)) for name, a in result.items()}


def _calls(
    backend: Backend, case: Case, rates: list[float], in_parts: bool
) -> list[tuple[slice, list[float], int]]:
    """Return the rows, the rates and the earlier steps of each call."""
    n, batch = case.samples, case.batch
    edge = batch if case.operation == "adam" else backend.block(batch)
    if not in_parts or n <= edge:
        return [(slice(0, n), rates, 0)]
    done = edge // batch
    return [(slice(0, edge), rates[:done], 0), (slice(edge, n), rates[done:], done)]


def poison(backend: Backend, like: Mapping[str, np.ndarray]) -> None:
    """Leave NaN in the memory that the next arrays of such sizes get."""
    sizes = [a.size for a in like.values()] + [2**k for k in range(8, 23, 2)]
    blocks = [backend.xp.full(2 * size, float("nan"), dtype=backend.xp.float32) for size in sizes]
    backend.synchronize()
    del blocks


# --- tests ----------------------------------------------------------------------------------


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case_number" in metafunc.fixturenames:
        numbers = range(metafunc.config.getoption("--cases"))
        later = pytest.mark.thorough
        metafunc.parametrize(
            "case_number", [n if n < 2 else pytest.param(n, marks=later) for n in numbers]
        )


@pytest.fixture(params=["cpu", pytest.param("gpu", marks=pytest.mark.gpu)])
def device_backend(request):
    return request.getfixturevalue("gpu_backend") if request.param == "gpu" else select("cpu")


def test_is_the_textbooks(device_backend, case_number, pytestconfig, record_property):
    seed = pytestconfig.getoption("--cases-seed")
    rows = check_case(device_backend, draw_case(seed, case_number), seed, case_number)
    record_property("rows", rows)
    for row in rows:
        if row["problem"]:
            pytest.fail(f"case {case_number} ({row['case']}), {row['dtype']}: {row['problem']}")


class TestCases:
    def test_draws_every_kind_again_from_the_same_seed(self):
        cases = [draw_case(7, number) for number in range(300)]
        assert cases == [draw_case(7, number) for number in range(300)]
        assert cases[: len(FIRST_CASES)] == list(FIRST_CASES)
        assert {(c.activation, c.loss) for c in cases[len(FIRST_CASES) :]} == {
            (a, loss) for a in ACTIVATIONS for loss in LOSSES
        }
        assert {c.operation for c in cases} == set(OPERATIONS)
        assert {len(c.sizes) for c in cases} == {2, 3, 4, 5}
        assert {c.values for c in cases} == {"uint8", "float32", "float64"}
        assert {c.batch == 1 for c in cases} == {c.bias for c in cases} == {True, False}

    @pytest.mark.parametrize("number", range(14))
    def test_passes_the_textbook(self, base_on_numpy, number):
        case = draw_case(3, number)
        if max(case.sizes[1:]) > 800:
            case = replace(case, sizes=(case.sizes[0], 100, 3))
        for row in check_case(base_on_numpy, case, 3, number):
            assert row["problem"] == ""
            assert row["bit_for_bit"]

    @pytest.mark.parametrize("operation", ["sgd", "adam", "gradients"])
    def test_finds_another_step(self, operation):
        class Hasty(Backend):
            def backward(self, *args):
                first, *others = super().backward(*args)
                return [1.01 * first, *others]

        case = replace(FIRST_CASES[0], operation=operation, samples=70, batch=32)
        rows = check_case(Hasty(np, "hasty", ""), case, 0, 0)
        assert all("differs by" in row["problem"] for row in rows)

    def test_finds_a_sample_left_out(self):
        class Forgetful(Backend):
            def learn(self, spec, states, batches, *more):
                values, labels, rates = batches.values, batches.labels, batches.rates
                fewer = {"values": values[:-1, :], "labels": labels[:-1], "rates": rates[:-1]}
                losses = super().learn(spec, states, replace(batches, **fewer), *more)
                return np.concatenate([losses, np.empty(1, losses.dtype)])

        rows = check_case(Forgetful(np, "forgetful", ""), FIRST_CASES[0], 0, 0)
        assert all("differs by" in row["problem"] for row in rows)

    def test_finds_what_changes_from_run_to_run(self):
        ticks = count()

        class Moody(Backend):
            def output(self, name, z):
                return super().output(name, z) * (1 + 1e-14 * next(ticks))

        rows = check_case(Moody(np, "moody", ""), FIRST_CASES[5], 0, 0)
        assert rows[0]["problem"] == "a second run gave other bits"

    def test_allows_no_nan(self):
        class Empty(Backend):
            def losses(self, spec, logits, *more):
                return super().losses(spec, logits, *more) * np.nan

        rows = check_case(Empty(np, "empty", ""), FIRST_CASES[6], 0, 0)
        assert all("losses differs by nan" in row["problem"] for row in rows)

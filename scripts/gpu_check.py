"""Check this trainer on a CUDA GPU and measure it there: one command, under eight minutes.

    python scripts/gpu_check.py FOLDER-WITH-MNIST FOLDER-FOR-THE-REPORT
    python scripts/gpu_check.py FOLDER-WITH-MNIST OUT --quick     # about a minute
    python scripts/gpu_check.py FOLDER-WITH-MNIST --device cpu    # does the script itself run?

It runs from the source tree and needs no network. In this order:

    tests      pytest -m gpu, all that are marked so
    kernels    every operation against backends/base.py on NumPy, random networks of all kinds, in
               float64 (to 1e-9) and float32 (to 1e-3 of what changed), until the time is up
    training   the default recipe on the GPU and on the CPU: accuracy, weights, the same seed twice
    measuring  the machine's own copies and matrix products; then this trainer, plain CuPy, PyTorch,
               PyTorch with CUDA graphs, JAX and this trainer on the CPU, at batch size 1 to 8192
               and 200 to 4096 hidden units, at equal precision, taking turns in rounds

Each contender first shows that it computes what base.py does; one that does not, or is not
installed, is not timed, and the report says so. So it does with whatever the time did not suffice
for. Each library has a process of its own, idle but for its turn; leave the machine alone.

It writes gpu-NAME.json after every part, so that nothing is lost if it is stopped, and gpu-NAME.md
at the end. The exit code is 0 if all of this trainer's checks passed, 1 if one did not or there is
no GPU, 2 for a mistake in the call. Without a GPU it does the same with the CPU, in small.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import re
import secrets
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.util import find_spec
from itertools import count, groupby, pairwise
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # this checkout is checked, not what may be installed

import numpy as np  # noqa: E402

from backends import Backend, Batches, select  # noqa: E402
from backends.functions import ACTIVATIONS, LOSSES  # noqa: E402
from benchmarks.gpu_peers import (  # noqa: E402
    ANSWERS,
    CONTENDERS,
    Machine,
    Ours,
    Process,
    first_samples,
)
from scripts.compare_peers import (  # noqa: E402
    PeerError,
    Row,
    Worker,
    as_number,
    as_spread,
    as_table,
    largest_difference,
    load_average,
    summary,
)
from trainer import MLP, DataError, Dataset, EpochReport, fit, load  # noqa: E402
from trainer.benchmarking import Measurement, conclude, flops_per_sample  # noqa: E402
from trainer.files import write_whole  # noqa: E402
from trainer.recipes import RECIPES, build  # noqa: E402

# the tests' is for a first run, of which compiling is the most; what they leave is for measuring
SHARES = {"tests": 160 / 480, "kernels": 90 / 480, "training": 60 / 480, "rest": 30 / 480}
TOLERANCES = {"float64": 1e-9, "float32": 1e-3}  # of what changed
# of what changed most in an array; TF32 rounds factors to 11 bits
PEER_TOLERANCES = {"float32": 1e-3, "tf32": 3e-2}
OTHER_ANSWERS = 1e-2  # share of test images that rounding may answer otherwise
ACCURACY = 0.002  # of the test images, between GPU and CPU
WEIGHTS = 1e-9  # relative, after online training in float64
CHECKED_SAMPLES = 300
KINK = 1e-5  # nearer to 0, float32 may find the other slope of a rectifier
PATIENCE = 60.0  # seconds; who takes longer, compilation included, hangs
RESTARTS = 3
DEFORMED_BATCH = 100
MISSING_TOOLS = ("cyclopts", "pooch", "array_api_strict")  # that this script does without
FAILURES = (ImportError, PeerError)  # of a process
ANSWERING = ("ours", "cpu", "cupy", "torch", "jax")


# --- plan and time ------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """How much is done.

    Attributes
    ----------
    seconds : float
        In all.
    samples : int
        Of the training set, 0 for all.
    hidden, batches, tf32_hidden, tf32_batches : tuple of int
        What is timed.
    deformed : tuple of tuple of int
        The hidden layers of the networks whose training is also timed on deformed images.
    rounds : int
        At most, after an uncounted first.
    run_seconds : float
        About how long a run of ours lasts.
    side, mebibytes : int
        Of the square matrices, and of the arrays that are copied.
    epochs, exact : int
        Of the default recipe, and how many online samples in float64.
    """

    seconds: float
    samples: int
    hidden: tuple[int, ...]
    batches: tuple[int, ...]
    tf32_hidden: tuple[int, ...]
    tf32_batches: tuple[int, ...]
    deformed: tuple[tuple[int, ...], ...]
    rounds: int
    run_seconds: float
    side: int
    mebibytes: int
    epochs: int
    exact: int

    def cells(self) -> list[tuple[int, int, str]]:
        """Hidden size, batch size (or `ANSWERS`) and precision of all that is timed."""
        cells = [(h, b, "float32") for h in self.hidden for b in (*self.batches, ANSWERS)]
        return cells + [(h, b, "tf32") for h in self.tf32_hidden for b in self.tf32_batches]


FULL = Plan(
    seconds=480,
    samples=0,
    hidden=(200, 800, 4096),
    batches=(1, 32, 128, 512, 2048, 8192),
    tf32_hidden=(800, 4096),
    tf32_batches=(2048, 8192),
    deformed=((800,), (2500, 2000, 1500, 1000, 500)),
    rounds=5,
    run_seconds=0.06,
    side=8192,
    mebibytes=1024,
    epochs=5,
    exact=2_000,
)
QUICK = replace(
    FULL,
    seconds=60,
    hidden=(200,),
    batches=(1, 128, 2048),
    tf32_hidden=(800,),
    tf32_batches=(2048,),
    deformed=((800,),),
    rounds=3,
    side=4096,
)
ON_CPU = Plan(
    seconds=120,
    samples=2_000,
    hidden=(16, 32),
    batches=(1, 32, 128),
    tf32_hidden=(32,),
    tf32_batches=(128,),
    deformed=((32,), (32, 16)),
    rounds=3,
    run_seconds=0.02,
    side=512,
    mebibytes=32,
    epochs=1,
    exact=200,
)


class Deadline:
    """A time after which nothing more is begun."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._end = clock() + seconds

    @property
    def left(self) -> float:
        """Seconds, none once it is over."""
        return max(0.0, self._end - self._clock())

    def within(self, seconds: float) -> Deadline:
        """One that is so near, but not later than this."""
        return Deadline(min(seconds, self.left), self._clock)


# --- (a) the tests ------------------------------------------------------------------------


def run_tests(until: Deadline) -> Row:
    """Run the tests marked gpu in processes of their own."""
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-v", "--tb=short", "-rfEs"]
    command += ["--color=no", "-p", "no:cacheprovider", "--continue-on-collection-errors"]
    abreast = min(4, cores() // 2)
    if abreast > 1 and find_spec("xdist"):  # at first they compile more than they compute
        command += ["-n", str(abreast)]
    started = time.monotonic()
    with tempfile.TemporaryFile("w+", errors="replace") as out:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | {"COLUMNS": "200"},  # for the reasons of what is skipped
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            process.wait(until.left)
        except subprocess.TimeoutExpired:
            pass
        finally:
            if process.poll() is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
        code = process.wait()
        out.seek(0)
        text = out.read()
    return {"exit_code": code, "seconds": time.monotonic() - started} | count_tests(text)


def count_tests(text: str) -> Row:
    """Read pytest's output with -v and -rfEs, of one process or of several."""
    word, share = r"(PASSED|FAILED|ERROR|SKIPPED|XFAIL|XPASS)\b", r"\[ *\d+%\]"
    alone = re.findall(rf" {word}.*{share}$", text, re.MULTILINE)
    counts = Counter(alone or re.findall(rf"^\[gw\d+\] {share} {word}", text, re.MULTILINE))
    failures = re.findall(r"^(?:FAILED|ERROR) (\S.*)$", text, re.MULTILINE)
    tools = "|".join(MISSING_TOOLS)
    absent = [line for line in failures if re.search(f"No module named '({tools})'", line)]
    skipped = Counter()
    for number, reason in re.findall(r"^SKIPPED \[(\d+)\] \S+: (.*)$", text, re.MULTILINE):
        skipped[reason] += int(number)
    return {
        "passed": counts["PASSED"],
        "failed": counts["FAILED"] + counts["ERROR"],
        "skipped": counts["SKIPPED"],
        "skipped_because": dict(skipped.most_common(5)),
        "failures": [line for line in failures if line not in absent],
        "not_collected": absent,
        "ended": bool(re.search(r"^=+ .* in [\d.]+s.*=+$", text, re.MULTILINE)),
        "tail": text[-6000:],
    }


# --- (b) the kernels ----------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """What a backend is asked to compute."""

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
        """How often the weights change."""
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
# what people do comes first, whatever is drawn then
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
# so that the first layer's errors last
GAINS = {"sigmoid": 8.0, "tanh": 1.5, "relu": 2.0, "scaled_tanh": 1.5, "gelu": 2.0}
BATCHES = (2, 3, 8, 16, 17, 32, 50, 64, 100, 128, 256, 500)


def draw_case(seed: int, number: int) -> Case:
    """Draw what a case is; the number alone decides activation and loss, so that all come up."""
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


class Textbook(Backend):
    """base.py on NumPy, which notes how near to 0 a rectifier came."""

    nearest = np.inf

    def __init__(self) -> None:
        super().__init__(np, "base", "base.py on NumPy")

    def activate(self, name: str, z: Any) -> Any:
        if name == "relu" and z.size:
            self.nearest = min(self.nearest, float(np.min(np.abs(z))))
        return super().activate(name, z)


class Kernels:
    """A backend's operations beside the textbook's, on the same drawn arrays."""

    def __init__(self, device: str, seed: int) -> None:
        self.backend = select(device)
        self.seed = seed

    def case(self, number: int) -> list[Row]:
        """Check one case in both precisions."""
        return check_case(self.backend, draw_case(self.seed, number), self.seed, number)


def check_case(backend: Backend, case: Case, seed: int, number: int) -> list[Row]:
    """Compute a case with a backend and with the textbook in float64.

    Returns
    -------
    list of dict
        For each dtype: the largest ``‖out - wanted‖ / ‖what changed‖`` of an array, where half a
        last bit of each number and step counts as changed by a thousand times as much; whether
        that is allowed; and whether a second run came to the same bits.
    """
    given, steps = draw_arrays(case, np.random.default_rng([seed, number, 1])), case.steps
    textbook = Textbook()
    wanted = compute(textbook, case, given, "float64")
    before = {name: given[name] for name in wanted if name in given}
    rows = []
    for dtype, tolerance in TOLERANCES.items():
        row: Row = {"number": number, "case": str(case), "operation": case.operation}
        row |= {"dtype": dtype, "problem": "", "array": "", "difference": 0.0, "bit_for_bit": True}
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
            # what the steps round away in spite of everything
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
            row["problem"] = "a second run came to other bits"
    return rows


def draw_arrays(case: Case, rng: np.random.Generator) -> dict[str, Any]:
    """Draw values, labels, weights and rates that keep the network lively and steady."""
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
    rate *= 10 if case.steps <= 5 else 1  # few steps cannot sway
    if case.operation.startswith("adam"):
        rate = 1e-3 * rng.uniform(0.3, 1.5)
    swing = rng.uniform(0.5, 1.5, case.steps) if case.changing_rate else np.ones(case.steps)
    return given | {"rates": (rate * swing).tolist()}


def image_shape(features: int) -> tuple[int, int]:
    """Height and width of so many pixels, as near to a square as can be.

    Examples
    --------
    >>> image_shape(784), image_shape(63), image_shape(5)
    ((28, 28), (7, 9), (1, 5))
    """
    height = next(h for h in range(math.isqrt(features), 0, -1) if features % h == 0)
    return height, features // height


def _exact(a: np.ndarray) -> np.ndarray:
    """What float32 and float64 can both hold."""
    return a.astype("float32").astype("float64")


def compute(
    backend: Backend, case: Case, given: Mapping[str, Any], dtype: str, in_parts: bool = False
) -> dict[str, np.ndarray]:
    """Do what a case asks for; arrays by name, on the host.

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
        for step in range(1, 4):
            for a, *moments, g in zip(w, *(state.values() for state in states), strict=True):
                rate = given["rates"][0]
                backend.adam_step(a, moments[0], moments[1], g, rate, step, 0.9, 0.999, 1e-8)
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
                means, squares = held
                losses = backend.adam(spec, w, means, squares, batches, 2 + done)
            else:
                speeds = held[0] if held else []
                losses = backend.sgd(spec, w, speeds, batches, case.momentum)
            parts.append(losses)
        result = weights | {"losses": xp.concat(parts)}
        for state in states:
            result |= state
    if not np.array_equal(backend.to_numpy(values), given["values"], True):
        raise AssertionError("the samples were changed")
    return {name: np.array(backend.to_numpy(a)) for name, a in result.items()}


def _calls(
    backend: Backend, case: Case, rates: list[float], in_parts: bool
) -> list[tuple[slice, list[float], int]]:
    """Rows, rates and steps done before of each call."""
    n, batch = case.samples, case.batch
    edge = batch if case.operation == "adam" else backend.block(batch)
    if not in_parts or n <= edge:
        return [(slice(0, n), rates, 0)]
    done = edge // batch
    return [(slice(0, edge), rates[:done], 0), (slice(edge, n), rates[done:], done)]


def poison(backend: Backend, like: Mapping[str, np.ndarray]) -> None:
    """Leave NaN in the memory that the next arrays of such sizes will be given."""
    sizes = [a.size for a in like.values()] + [2**k for k in range(8, 23, 2)]
    blocks = [backend.xp.full(2 * size, float("nan"), dtype=backend.xp.float32) for size in sizes]
    backend.synchronize()
    del blocks


def check_kernels(device: str, seed: int, until: Deadline) -> Row:
    """Check case after case until the time is up, in a few processes at once.

    They compile more than they compute, and one that breaks takes no other along.
    """
    abreast = max(1, min(4, cores() // 4))
    with ThreadPoolExecutor(abreast) as pool:
        parts = list(
            pool.map(lambda k: _cases(device, seed, count(k, abreast), until), range(abreast))
        )
    rows = sorted((row for rows, _ in parts for row in rows), key=lambda row: row["number"])
    problems = [line for _, lines in parts for line in lines]
    problems += [
        f"case {r['number']} ({r['case']}), {r['dtype']}: {r['problem']}"
        for r in rows
        if r["problem"]
    ]
    cases = len({row["number"] for row in rows})
    return {"seed": seed, "cases": cases, "problems": problems, "rows": rows}


def _cases(
    device: str, seed: int, numbers: Iterable[int], until: Deadline
) -> tuple[list[Row], list[str]]:
    rows: list[Row] = []
    problems: list[str] = []
    worker, broken = Worker("kernels", Kernels, device, seed), 0
    for number in numbers:
        if until.left <= 0 or broken > RESTARTS:
            break
        try:
            rows += worker.call("case", number, seconds=min(until.left, PATIENCE))
        except FAILURES as error:
            if until.left <= 0:  # it was the time that ended it
                break
            problems.append(f"case {number} ({draw_case(seed, number)}): {error}")
            if spoiled(worker, error):
                worker.kill()
                worker, broken = Worker("kernels", Kernels, device, seed), broken + 1
    worker.kill()
    return rows, problems


def spoiled(worker: Worker, error: Exception) -> bool:
    """Whether a process is of no more use: it ended, or its GPU met an error."""
    return not worker.alive or bool(re.search("cuda|memory", str(error), re.IGNORECASE))


def cores() -> int:
    """Count the processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


# --- (c) training -------------------------------------------------------------------------


class Training:
    """The default recipe on two devices."""

    def __init__(self, source: str, samples: int) -> None:
        self.data = first_samples(load(source), samples)

    def _backend(self, name: str) -> Backend:
        return Textbook() if name == "base" else select(name)

    def weights(
        self, device: str, dtype: str, n: int, batch: int, shuffle: bool
    ) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Train the first n samples once; weights before and after."""
        recipe = replace(RECIPES["rashid"], dtype=dtype)
        model = build(recipe, self.data, backend=self._backend(device))
        before = model.get_weights()
        x, y = self.data.train_x[:n], self.data.train_y[:n]
        settings: dict[str, Any] = {"batch_size": batch, "shuffle": shuffle, "seed": 1}
        for _ in fit(model, x, y, epochs=1, learning_rate=recipe.learning_rate, **settings):
            pass
        return before, model.get_weights()

    def exact(self, device: str, other: str, n: int) -> Row:
        """Compare online training in float64."""
        before, one = self.weights(device, "float64", n, 1, False)
        _, two = self.weights(other, "float64", n, 1, False)
        pairs = list(zip(one, two, strict=True))
        relative = float(np.max([abs(a - b).max() / abs(b).max() for a, b in pairs]))
        change = largest_difference(one, two, before)
        return {"samples": n, "relative": relative, "of_change": change}

    def twice(self, device: str, n: int, batch: int) -> Row:
        """Train twice from one seed in float32, shuffled: the same bits?"""
        n = min(n, len(self.data.train_x))
        one, two = (self.weights(device, "float32", n, batch, True)[1] for _ in range(2))
        same = all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))
        return {"samples": n, "batch": batch, "same": same}

    def epochs(self, device: str, epochs: int, seconds: float) -> list[Row]:
        """Train in float32, evaluated after each epoch; begins none after so many seconds."""
        recipe, data = RECIPES["rashid"], self.data
        model = build(recipe, data, backend=self._backend(device))
        started, rows = time.monotonic(), []
        test = (data.test_x, data.test_y)
        for report in fit(model, data.train_x, data.train_y, epochs=epochs, test=test):
            if isinstance(report, EpochReport):
                rows.append({"accuracy": report.test_accuracy, "seconds": report.seconds})
            if time.monotonic() - started > seconds:
                break
        return rows


def check_training(source: str, plan: Plan, device: str, until: Deadline) -> Row:
    """Compare the device with the CPU, or the CPU with the textbook."""
    other = "cpu" if device == "gpu" else "base"
    report: Row = {"device": device, "other": other, "problems": [], "cut": [], "twice": []}
    worker = Worker("training", Training, source, plan.samples)

    def call(what: str, method: str, *arguments: Any) -> Any:
        nonlocal worker
        if not worker.alive:
            worker = Worker("training", Training, source, plan.samples)
        if until.left <= 0:
            report["cut"].append(what)
            return None
        try:
            return worker.call(method, *arguments, seconds=until.left)
        except FAILURES as error:
            kind = "cut" if "no answer" in str(error) else "problems"
            report[kind].append(f"{what}: {str(error).removeprefix('training: ')}")
            if spoiled(worker, error):
                worker.kill()
            return None

    exact = report["exact"] = call("float64", "exact", device, other, plan.exact)
    if exact and not exact["relative"] <= WEIGHTS:
        report["problems"].append(f"weights differ by {exact['relative']:.1e}, {WEIGHTS:g} allowed")
    for batch, n in ((1, 10_000), (128, 60_000)):
        row = call(f"the same seed twice at batch size {batch}", "twice", device, n, batch)
        report["twice"] += [row] if row else []
        if row and not row["same"]:
            report["problems"].append(f"batch size {batch}: the same seed came to other bits")
    runs: dict[str, list[Row]] = {}
    for name, share in ((other, 0.5), (device, 0.9)):
        what = f"{_count(plan.epochs, 'epoch')} on {name}"
        runs[name] = call(what, "epochs", name, plan.epochs, share * until.left) or []
        if 0 < len(runs[name]) < plan.epochs:
            report["cut"].append(f"{what}: {len(runs[name])} done")
    report["epochs"] = runs
    common = min(len(rows) for rows in runs.values())
    report["common_epochs"] = common
    if common:
        one, two = (runs[name][common - 1]["accuracy"] for name in (device, other))
        report["apart"] = abs(one - two)
        if not report["apart"] <= ACCURACY + 1e-12:
            report["problems"].append(f"accuracies {one:.2%} and {two:.2%} after epoch {common}")
    worker.kill()
    return report


# --- (d) and (e) measuring ----------------------------------------------------------------


class Team:
    """The contenders' processes, begun afresh where one broke."""

    def __init__(self, source: str, device: str, samples: int, without: Sequence[str]) -> None:
        self._made = (source, device, samples)
        names = dict.fromkeys(entry.process for entry in CONTENDERS.values())
        self.names = [name for name in names if name not in without]
        self._workers: dict[str, Worker] = {}
        self._restarts: Counter[str] = Counter()
        self._wanted: dict[tuple[Any, ...], Any] = {}
        for name in (*self.names, "reference"):
            self._begin(name)

    def _begin(self, name: str) -> None:
        self._workers[name] = Worker(name, Process, *self._made)

    def process(self, name: str) -> Worker:
        """Give a process that answers: one that broke is begun afresh, a few times."""
        if not self._workers[name].alive:
            self._restarts[name] += 1
            if self._restarts[name] > RESTARTS:
                raise PeerError(f"{name}: given up")
            self._begin(name)
        return self._workers[name]

    def call(self, name: str, method: str, *arguments: Any, seconds: float) -> Any:
        """Call a process and wait; see `Worker.result`."""
        worker = self.process(name)
        try:
            return worker.call(method, *arguments, seconds=seconds)
        except PeerError as error:
            if spoiled(worker, error):
                worker.kill()
            raise

    def do(self, contender: str, method: str, *arguments: Any, seconds: float) -> Any:
        """Call a contender's method and wait."""
        name = CONTENDERS[contender].process
        return self.call(name, "do", contender, method, *arguments, seconds=seconds)

    def prepare(self, plan: Plan, seconds: float) -> dict[str, Any]:
        """Have all compile what they will need, beside what else is done meanwhile."""
        calls = {}
        for name, cell in checks(self.names, plan):
            key = (CONTENDERS[name].loss, *cell)
            if key not in self._wanted:
                self._wanted[key] = self._workers["reference"].begin("check", *key, "float64")
        for process in self.names:
            runs = [
                (name, hidden, batch)
                for hidden, batch, precision in plan.cells()
                for name, entry in CONTENDERS.items()
                if entry.process == process and entry.precision == precision
            ]
            calls[process] = self._workers[process].begin("prepare", runs, seconds)
        return calls

    def prepared(self, calls: Mapping[str, Any], seconds: float) -> dict[str, str]:
        """Wait for that; what went wrong by process."""
        wrong, until = {}, Deadline(seconds)
        for process, call in calls.items():
            try:
                self._workers[process].result(call, max(1.0, until.left))
            except FAILURES as error:
                wrong[process] = str(error)
        return wrong

    def wanted(self, key: tuple[str, int, int, int], seconds: float) -> Any:
        """What base.py computes in float64, of a loss, hidden and batch size, and samples."""
        return self._workers["reference"].result(self._wanted[key], seconds)

    def kill(self) -> None:
        """End all."""
        for worker in self._workers.values():
            worker.kill()


def checked_samples(batch: int) -> int:
    """How many samples show that a contender computes the same; the last batch is smaller."""
    return CHECKED_SAMPLES if batch < CHECKED_SAMPLES else batch + 44


def check_contenders(
    team: Team, plan: Plan, until: Deadline
) -> tuple[list[Row], dict[str, str], list[str]]:
    """Compare all with base.py in float64.

    Returns
    -------
    rows : list of dict
    out : dict
        Why a contender is not timed.
    unchecked : list of str
        What there was no time for.
    """
    rows: list[Row] = []
    out: dict[str, str] = {}
    unchecked: list[str] = []
    starts: dict[int, list[np.ndarray]] = {}
    for name, (hidden, batch, n) in checks(team.names, plan):
        entry = CONTENDERS[name]
        if name in out:
            continue
        if until.left <= 0:
            if name in (row["contender"] for row in rows):
                unchecked.append(f"{name}: not checked with {hidden} hidden units by {batch}")
            else:
                out[name] = f"{name}: not checked, for want of time"
            continue
        try:
            right, answers = team.wanted((entry.loss, hidden, batch, n), until.left)
            if hidden not in starts:
                wanted = (entry.loss, "start_weights", hidden)
                starts[hidden] = team.call("reference", "do", *wanted, seconds=until.left)
            run, patience = (name, hidden, batch, n, "float32"), min(until.left, PATIENCE)
            weights, own = team.call(entry.process, "check", *run, seconds=patience)
        except FAILURES as error:
            out[name] = _named(name, error)
            continue
        tolerance, others = PEER_TOLERANCES[entry.precision], float(np.mean(own != answers))
        # few large batches may change the weights by hardly more than their last bits
        blur = 8 * float(np.finfo("float32").eps) / tolerance
        found = largest_difference(weights, right, starts[hidden], blur)
        row = {"contender": name, "hidden": hidden, "batch": batch, "samples": n}
        rows.append(row | {"difference": found, "tolerance": tolerance, "other_answers": others})
        allowed = OTHER_ANSWERS if entry.precision == "float32" else 5 * OTHER_ANSWERS
        if not (found <= tolerance and others <= allowed):
            out[name] = (
                f"{name}: does not compute the same with {hidden} hidden units at batch size "
                f"{batch}: weights differ by {found:.1e} of their change (allowed {tolerance:g}), "
                f"answers by {others:.2%} (allowed {allowed:.0%})"
            )
    return rows, out, unchecked


def checks(processes: Sequence[str], plan: Plan) -> list[tuple[str, tuple[int, int, int]]]:
    """List which contender is checked with how many hidden units, by how many, over how many.

    Ours wherever it is timed, since its kernels depend on the sizes, the others at one width;
    every one once before any is checked again.
    """
    found = []
    for name, entry in CONTENDERS.items():
        if entry.process not in processes:
            continue
        cells = [(h, b) for h, b, p in plan.cells() if p == entry.precision and b != ANSWERS]
        if entry.kind is not Ours:
            first = [cell for cell in cells if cell[0] == cells[0][0]]
            cells = [cell for cell in first if cell[1] in (1, 128)] or first[:1]
        found += [(at, name, (*cell, checked_samples(cell[1]))) for at, cell in enumerate(cells)]
    return [(name, cell) for _, name, cell in sorted(found, key=lambda check: check[0])]


def measure_limits(machine: Worker, plan: Plan, until: Deadline, report: Row) -> None:
    """Time copies and matrix products in turns, in addition to what was timed before."""
    runs = {name: row["runs"] for name, row in report["limits"].items()}
    try:
        pairs = machine.call("products", seconds=PATIENCE)
        jobs = {" ".join(pair): ("product_rate", *pair, plan.side, 0.05) for pair in pairs}
        jobs["copy"] = ("copy_rate", plan.mebibytes, 0.05)
        for number in range(4):
            for name, call in jobs.items():
                if until.left > 0:
                    value = machine.call(*call, seconds=PATIENCE)
                    if number:  # the first wakes the libraries up
                        runs.setdefault(name, []).append(value)
    except FAILURES as error:
        report["not_timed"].append(str(error))
    report["limits"] = {name: summary(values) for name, values in runs.items()}


class Race:
    """All contenders at one hidden size, batch size and precision, in turns.

    Parameters
    ----------
    team : Team
    cell : tuple
        Of `Plan.cells`.
    names : sequence of str
        In `CONTENDERS`.
    plan : Plan

    Attributes
    ----------
    rounds : int
        Those begun; the first is dropped, what is compiled with it.
    wrong : dict
        Why a contender fell out.
    """

    def __init__(
        self, team: Team, cell: tuple[int, int, str], names: Sequence[str], plan: Plan
    ) -> None:
        self.cell, self.rounds = cell, 0
        self.wrong: dict[str, str] = {}
        self._team, self._plan = team, plan
        self._jobs = list(names)
        self._samples: dict[str, int] = {}
        self._runs: dict[str, dict[int, Row]] = {name: {} for name in names}
        self._round_seconds = 0.0

    @property
    def done(self) -> bool:
        """Whether all rounds were run."""
        return self.rounds > self._plan.rounds or not self._jobs

    def run(self, rounds: int, until: Deadline, last: Deadline) -> None:
        """Run what is missing to so many rounds, if it ends before `until`, but one at least.

        No run is begun after `last`.
        """
        while self.rounds <= rounds and self._jobs:
            if self.rounds > 1 and until.left < self._round_seconds:
                return
            began, first = time.monotonic(), self.rounds % len(self._jobs)
            for name in self._jobs[first:] + self._jobs[:first]:
                if last.left <= 0:
                    return
                self._take_turn(name, last)
            self._round_seconds = time.monotonic() - began
            self.rounds += 1

    def leave_out(self, names: Iterable[str]) -> None:
        """Go on without those whose every turn would have to be waited for in vain."""
        self._jobs = [name for name in self._jobs if name not in names]

    def _take_turn(self, name: str, last: Deadline) -> None:
        hidden, batch, _ = self.cell
        # what was begun in time may end
        patience = min(last.left + self._plan.seconds * SHARES["rest"] / 3, PATIENCE)
        try:
            if name not in self._samples:
                choose = ("samples_of_run", hidden, batch, self._plan.run_seconds)
                self._samples[name] = self._team.do(name, *choose, seconds=patience)
            run = ("two_passes", hidden, batch, self._samples[name])
            found = self._team.do(name, *run, seconds=patience)
        except FAILURES as error:
            self.wrong[name] = f"{_cell(self.cell)}: {_named(name, error)}"
            self._jobs.remove(name)
            return
        if self.rounds:
            self._runs[name][self.rounds] = found

    def rows(self) -> list[Row]:
        """What was measured, in seconds a sample or, of the answers, for all of them."""
        hidden, batch, precision = self.cell
        rows = []
        for name, runs in self._runs.items():
            if not runs:
                continue
            n = 1 if batch == ANSWERS else self._samples[name]
            row: Row = {"hidden": hidden, "batch": batch, "precision": precision}
            row |= {"contender": name, "samples": self._samples[name], "times_ours": None}
            for which in next(iter(runs.values())):
                row[which] = summary([run[which] for run in runs.values()], 1 / n)
            ours = CONTENDERS[name].ours
            common = runs.keys() & self._runs.get(ours, {}).keys()
            if common:
                # round by round: what slowed the machine for a while slowed both
                share = 1 if batch == ANSWERS else self._samples[ours] / n
                pairs = [(runs[i]["second"], self._runs[ours][i]["second"]) for i in common]
                row["times_ours"] = statistics.median(a / b * share for a, b in pairs)
            rows.append(row)
        return rows


def measure(
    team: Team,
    machine: Worker,
    plan: Plan,
    device: str,
    report: Row,
    until: Deadline,
    save: Callable[[], Any],
) -> None:
    """Check the contenders, then time everything."""
    print("checking that all contenders compute the same", flush=True)
    report["checks"], out, unchecked = check_contenders(team, plan, until.within(0.5 * until.left))
    report["cut"] += unchecked
    report["not_timed"] = list(dict.fromkeys(out.values()))
    for line in report["not_timed"]:
        print(f"not timed: {line}", flush=True)
    timed = [name for name, e in CONTENDERS.items() if name not in out and e.process in team.names]
    report["problems"] += [line for name, line in out.items() if _must_hold(name, line, device)]
    measure_limits(machine, plan, until.within(0.1 * until.left), report)
    if "cupy" in timed and until.left > 0:
        with suppress(*FAILURES):
            report["launch"] = team.do("cupy", "launches", 300, seconds=PATIENCE)
    if "ours" in timed:
        for hidden, batch in ((plan.hidden[0], 1), *((h, plan.batches[-1]) for h in plan.hidden)):
            call = ("ours", "peak_memory", hidden, batch)
            with suppress(*FAILURES):
                mib = team.do(*call, seconds=max(1.0, 0.1 * until.left))
                report["memory"].append({"hidden": hidden, "batch": batch, "mib": mib})
        for layers in plan.deformed:
            patience = max(1.0, min(until.left, PATIENCE))
            try:
                row = team.do("ours", "deforming", layers, DEFORMED_BATCH, seconds=patience)
            except FAILURES as error:
                report["not_timed"].append(f"on deformed images, {_named('ours', error)}")
                continue
            report["deforming"].append(row | {"batch": DEFORMED_BATCH})
    save()
    timing, races = until.within(0.95 * until.left), []
    for cell in plan.cells():
        names = [n for n in timed if CONTENDERS[n].precision == cell[2]]
        names = [n for n in names if n in ANSWERING or cell[1] != ANSWERS]
        races.append(Race(team, cell, names, plan))
    hung: set[str] = set()
    # every cell once, then all their rounds, then what the time of others is left for
    for sweep, rounds in enumerate((1, plan.rounds, plan.rounds)):
        for at, race in enumerate(races):
            race.leave_out(hung)
            if timing.left <= 0 or race.done:
                continue
            print(f"timing {_cell(race.cell)}{', more rounds' * bool(sweep)}", flush=True)
            slot = timing.left if sweep == 2 else timing.left / (len(races) - at)
            race.run(rounds, timing.within(slot), timing)
            hung |= {name for name, line in race.wrong.items() if "no answer" in line}
            report["times"] = [row for race in races for row in race.rows()]
            save()
    for race in races:
        wrong = race.wrong
        report["not_timed"] += wrong.values()
        report["problems"] += [w for name, w in wrong.items() if _must_hold(name, w, device)]
        if not race.done:
            counted = max(0, race.rounds - 1)
            report["cut"].append(f"{_cell(race.cell)}: {counted} of {plan.rounds} rounds")
    if until.left > 0:  # a machine that has grown slower meanwhile shows it
        measure_limits(machine, plan, until, report)


def _named(contender: str, error: Exception) -> str:
    """Say what went wrong with a contender, whose process is called otherwise."""
    return f"{contender}: {str(error).removeprefix(CONTENDERS[contender].process + ': ')}"


def _must_hold(name: str, line: str, device: str) -> bool:
    """Whether a contender that is out is a failed check of this trainer's."""
    late = "want of time" in line or "no answer" in line
    ours = CONTENDERS[name].process in ("ours", "cpu") and not late
    return ours and not (device == "cpu" and CONTENDERS[name].precision != "float32")


def _cell(cell: tuple[int, int, str]) -> str:
    hidden, batch, precision = cell
    what = "the answers" if batch == ANSWERS else f"batch size {batch}"
    return f"{what}, {hidden} hidden units, {precision}"


# --- shares of the limits -----------------------------------------------------------------


def bytes_per_step(sizes: Sequence[int], batch: int) -> int:
    """Count the fewest bytes that a step moves: weights read and written, samples read.

    Weights are float32, samples bytes with an int64 label. Whatever lies between the layers could
    stay on the chip.

    Examples
    --------
    >>> bytes_per_step([784, 200, 10], 1)
    1271192
    """
    weights = sum(fan_in * fan_out for fan_in, fan_out in pairwise(sizes))
    return 2 * 4 * weights + batch * (sizes[0] + 8)


def best_product(limits: Mapping[str, Row], precision: str) -> float | None:
    """GFLOP/s of the fastest library at a precision."""
    rates = [row["median"] for name, row in limits.items() if name.split()[-1] == precision]
    return max(rates, default=None)


def shares(row: Row, sizes: Sequence[int], limits: Mapping[str, Row]) -> Row:
    """How much of the machine's product rate and copy bandwidth a training takes.

    Returns
    -------
    dict
        products, copies : float or None
            What the operations of `flops_per_sample` would take at the measured rate, and the bytes
            of `bytes_per_step` at the measured bandwidth, as shares of the measured time.
        larger : str
            Which of them; nothing at batch size 1, where each step waits for the one before.
    """
    seconds, batch = row["second"]["median"], row["batch"]
    rate, copy = best_product(limits, row["precision"]), limits.get("copy")
    flops, moved = flops_per_sample(sizes), bytes_per_step(sizes, batch) / batch
    products = flops / (rate * 1e9) / seconds if rate else None
    copies = moved / (copy["median"] * 1e9) / seconds if copy else None
    larger = ""
    if batch > 1 and (products or copies):
        larger = "products" if (products or 0) >= (copies or 0) else "copies"
    return {"products": products, "copies": copies, "larger": larger}


def which_pays(report: Row) -> list[str]:
    """Say from which batch size on the GPU beats the CPU, for each hidden size, as `bench` does."""
    n = report["data"]["train"]
    rate = best_product(report["limits"], "float32") or float("nan")
    names = {"ours": "gpu:0" if report["gpu"] else "the CPU in the GPU's place", "cpu": "cpu"}
    measured = []
    for row in report["times"]:
        if row["contender"] in names and row["batch"] and row["precision"] == "float32":
            times = row["first"]
            flops = flops_per_sample(sizes_of(report, row["hidden"])) / times["median"] / 1e9
            measured.append(
                Measurement(
                    device=names[row["contender"]],
                    hidden=row["hidden"],
                    batch_size=row["batch"],
                    samples=row["samples"],
                    rounds=len(times["runs"]),
                    samples_per_second=1 / times["median"],
                    slowest=1 / times["max"],
                    fastest=1 / times["min"],
                    epoch_seconds=n * times["median"],
                    scaled=row["samples"] < n,
                    gflops=flops,
                    matmul_gflops=rate,
                    percent_of_matmul=100 * flops / rate,
                )
            )
    lines = []
    for hidden, rows in groupby(measured, key=lambda m: m.hidden):
        pairs = list(rows)
        both = [b for b, count in Counter(m.batch_size for m in pairs).items() if count == 2]
        if both:
            lines.append(conclude([m for m in pairs if m.batch_size in both]))
        else:
            lines.append(f"With {hidden} hidden units the two were not both timed.")
    return lines


# --- the report ---------------------------------------------------------------------------

METHOD = """\
- Each library sits in a process of its own and is idle while another measures. In a round each
  does its work once, each round begins with another; a first round is dropped. A run is two passes
  over the same samples, the device synchronised before and after each. The tables show the second
  one; of ours these are `EpochReport.seconds`, the second epoch of a fresh network and, apart, the
  first, with whatever is prepared once but for compilation. Medians of the runs, with the shortest
  and the longest; "×" is the median of the rounds' ratios to this trainer under the same rule at
  the same precision: above 1 the other is slower.
- All data lie on the device beforehand: ours as bytes, the others' scaled to float32. Where fewer
  samples than an epoch were timed, the times are scaled up to it.
- PyTorch follows the true gradient (`squared_error`), the others the lessons' rule (`rashid`).
  Matrix products are float32 (PyTorch "highest", JAX "highest") or, where it says so, TF32.
"""


def markdown(report: Row) -> str:
    """Write the report as tables."""
    m = report["machine"]
    title = f"{m['device']}, checked and measured"
    if not report["gpu"]:
        title = f"No GPU measurement: the script itself, run on the CPU ({m['device']})"
    blocks = [f"# {title}", _about(report), *_verdict(report)]
    if report["limits"]:
        blocks += ["## The machine's own limits", _limits(report)]
    if report["times"]:
        blocks += ["## How it was timed", METHOD.strip()]
        if not report["gpu"]:
            blocks.append("Here NumPy stands in for CuPy, and no step is captured as a graph.")
        for precision in ("float32", "tf32"):
            for hidden in dict.fromkeys(r["hidden"] for r in report["times"]):
                blocks += _training_tables(report, hidden, precision)
        blocks += _answers(report)
        blocks += ["## From which batch size on the GPU pays", *report["pays"]]
        blocks += ["By the first epoch, with what is prepared once; the data lie on the device."]
    if report["memory"]:
        rows = [("hidden units", "batch size", "MiB")]
        rows += [(_n(r["hidden"]), _n(r["batch"]), as_number(r["mib"])) for r in report["memory"]]
        what = "of CuPy's pool, without the driver's context" if report["gpu"] else "of the process"
        blocks += [f"## Memory\n\nHeld at most in an epoch and its evaluation, {what}:"]
        blocks += [as_table(rows)]
    blocks += _deforming(report)
    if report["checks"]:
        blocks += ["## That all compute the same", *_contenders(report)]
    for name, lines in (("Not timed", report["not_timed"]), ("Cut or skipped", report["cut"])):
        if lines:
            blocks += [f"## {name}", "\n".join(f"- {line}" for line in lines)]
    return "\n\n".join(blocks) + "\n"


def _about(report: Row) -> str:
    m, data = report["machine"], report["data"]
    parts = []
    if report["gpu"]:
        parts += [f"{m['device']}: {m.get('multiprocessors', 'unknown')} multiprocessors"]
        parts += [f"compute capability {m['compute_capability']}"]
        parts += [f"{m['memory_total'] / 2**30:.0f} GiB, {m['memory_free'] / 2**30:.0f} free"]
        parts += [f"driver for CUDA {m['driver']}, CUDA {m['cuda']}"]
        parts += [f"nvidia-smi (before and after): {' | '.join(map(str, m['nvidia_smi']))}"]
    cpu = m["cpu"]
    parts += [f"{cpu['name']}, {cpu['cores']} cores; {m['system']}; Python {m['python']}"]
    parts += [", ".join(f"{name} {number}" for name, number in m["versions"].items())]
    parts += [f"load average before and after: {', '.join(map(as_number, m['load']))}"]
    parts += [f"{m['date']}; {report['seconds']:.0f} s of {report['allowed_seconds']:.0f}"]
    parts += [f"data: {data['name']}, {_n(data['train'])} + {_n(data['test'])} samples"]
    return "; ".join(parts) + "."


def _verdict(report: Row) -> list[str]:
    rows = [("check", "done", "worst", "allowed")]
    if tests := report["tests"]:
        done = ", ".join(f"{_n(tests[k])} {k}" for k in ("passed", "failed", "skipped"))
        cut = "" if tests["ended"] else " (cut by the time)"
        rows.append(("pytest -m gpu", done + cut, "", ""))
    if kernels := report["kernels"]:
        compared = [r for r in kernels["rows"] if r["difference"] is not None]
        for operation in dict.fromkeys(r["operation"] for r in compared):
            for dtype, tolerance in TOLERANCES.items():
                some = [r for r in compared if (r["operation"], r["dtype"]) == (operation, dtype)]
                if some:
                    worst = max(some, key=lambda r: r["difference"])
                    text = f"{worst['difference']:.1e} (case {worst['number']}, {worst['array']})"
                    name = f"{operation} against base.py, {dtype}"
                    rows.append((name, _count(len(some), "case"), text, f"{tolerance:g}"))
        same = sum(r["bit_for_bit"] for r in compared)
        rows.append(("a second run, or one in two calls", _count(len(compared), "case"),
                     f"{_n(len(compared) - same)} with other bits", "none"))  # fmt: skip
    if training := report["training"]:
        pair = f"{training['device']} and {training['other']}"
        if exact := training["exact"]:
            done, worst = f"{_n(exact['samples'])} online samples", f"{exact['relative']:.1e}"
            rows.append((f"weights in float64, {pair}", done, worst, f"{WEIGHTS:g}"))
        for row in training["twice"]:
            done = f"{_n(row['samples'])} samples, batch size {row['batch']}"
            rows.append(("the same seed twice", done, "same" if row["same"] else "other", "same"))
        if common := training["common_epochs"]:
            done = (
                _count(common, "epoch")
                + ": "
                + " and ".join(
                    f"{epochs[common - 1]['accuracy']:.2%} on {name}"
                    for name, epochs in training["epochs"].items()
                )
            )
            apart = f"{100 * training['apart']:.2f} points"
            rows.append(("accuracy in float32", done, apart, f"{100 * ACCURACY:g} points"))
    blocks = ["## What was checked", as_table(rows)]
    if kernels and (near := sum(r["difference"] is None for r in kernels["rows"])):
        blocks.append(
            f"Not compared in float32, for a rectifier came to within {KINK:g} of 0: {near}."
        )
    if kernels:
        blocks.append(
            f"Cases are drawn from seed {kernels['seed']}; `--seed {kernels['seed']}` draws them "
            "again. A difference is ‖out - base.py in float64‖ over ‖what changed‖ of an array, "
            "with an allowance for the last bits that each step rounds away."
        )
    found = problems(report)
    blocks.append("**What failed:**" if found else f"**{passed(report)}**")
    return [*blocks, "\n".join(f"- {line}" for line in found)] if found else blocks


def passed(report: Row) -> str:
    """Say what was checked and did not fail."""
    tests, kernels, training = (report[part] or {} for part in ("tests", "kernels", "training"))
    contenders = {row["contender"] for row in report["checks"]}
    numbers = {"test": tests.get("passed", 0), "kernel case": kernels.get("cases", 0)}
    numbers |= {
        "training check": sum(bool(training.get(k)) for k in ("exact", "twice", "common_epochs"))
    }
    numbers |= {"contender": len(contenders)}
    done = ", ".join(_count(number, what) for what, number in numbers.items() if number)
    return f"Every check passed that was made: {done}." if done else "Nothing was checked."


def problems(report: Row) -> list[str]:
    """What of this trainer's own failed."""
    found = list(report["problems"])
    if tests := report["tests"]:
        found += [f"pytest: {line}" for line in tests["failures"]]
        if tests["failed"] and not tests["failures"]:
            found.append(f"pytest: {tests['failed']} failed")
        if report["gpu"] and not tests["passed"]:
            last = (tests["tail"].strip().splitlines() or ["no output"])[-1]
            found.append(f"pytest: no test marked gpu passed: {last}")
    if report["gpu"] and report["kernels"] and not report["kernels"]["cases"]:
        found.append("kernels: not a single case was done")
    for part in ("kernels", "training"):
        found += [f"{part}: {line}" for line in (report[part] or {}).get("problems", [])]
    return found


def _limits(report: Row) -> str:
    rows = [("", "median", "min … max", "")]
    for name, row in report["limits"].items():
        if name == "copy":
            rows.append(("copy, bytes read and written", *as_spread(row, 1), "GB/s"))
        else:
            rows.append((f"matrix product, {name}", *as_spread(row, 1e-3), "TFLOP/s"))
    for name, seconds in report["launch"].items():
        rows.append((f"launch, {name}", as_number(1e6 * seconds), "", "µs"))
    missing = [p for p in ("tf32", "bfloat16") if best_product(report["limits"], p) is None]
    text = as_table(rows)
    return text + f"\n\nNot measured, for want of PyTorch: {', '.join(missing)}." * bool(missing)


SHARES_EXPLAINED = """\
Ours, and what share of the measured time its counted operations would take at the machine's product
rate, and its fewest bytes at the copies' bandwidth; the larger one is the limit. At batch size 1
neither is: each sample waits for the one before, whose latency counts, and the bytes are those of a
loop that reads and writes all weights."""


DEFORMING_EXPLAINED = """\
Ours in float32, every image deformed anew each epoch by an elastic field (α 34, σ 4), turned by up
to 15° and scaled by up to 15 %: medians of epochs after a first."""


def _training_tables(report: Row, hidden: int, precision: str) -> list[str]:
    rows = [
        r
        for r in report["times"]
        if (r["hidden"], r["precision"]) == (hidden, precision) and r["batch"] != ANSWERS
    ]
    if not rows:
        return []
    n, sizes = report["data"]["train"], sizes_of(report, hidden)
    by = {(r["batch"], r["contender"]): r for r in rows}
    batches = list(dict.fromkeys(r["batch"] for r in rows))
    others = [name for name in dict.fromkeys(r["contender"] for r in rows) if not _is_ours(name)]
    unit = f"ms an epoch of {_n(n)}"
    ours: list[list[str]] = [["rule", "batch size", unit, "min … max", "first epoch"]]
    ours[0] += ["µs a sample", "samples timed", "runs", "of the products", "of the copies"]
    ratios: list[list[str]] = [["batch size", *(name.split(", tf32")[0] for name in others)]]
    theirs: list[list[str]] = [["contender", *ours[0][1:4], "samples timed", "runs"]]
    for row in sorted(rows, key=lambda r: list(CONTENDERS).index(r["contender"])):
        time, entry = row["second"], CONTENDERS[row["contender"]]
        start, end = as_spread(time, 1e3 * n), [_n(row["samples"]), str(len(time["runs"]))]
        if not _is_ours(row["contender"]):
            theirs.append([entry.kind.about, _n(row["batch"]), *start, *end])
            continue
        first, each = row["first"]["median"] * 1e3 * n, time["median"] * 1e6
        part = shares(row, sizes, report["limits"])
        marks = {what: "**" * (what == part["larger"]) for what in ("products", "copies")}
        of = [f"{mark}{_percent(part[what])}{mark}" for what, mark in marks.items()]
        cells = [*start, as_number(first), as_number(each), *end, *of]
        ours.append([entry.loss, _n(row["batch"]), *cells])
    for batch in batches:
        found = [by.get((batch, name), {}).get("times_ours") for name in others]
        ratios.append([_n(batch), *("" if r is None else f"× {as_number(r)}" for r in found)])
    blocks = [f"## Training {'-'.join(map(str, sizes))} in {precision}"]
    blocks += [SHARES_EXPLAINED, as_table(ours)] * (len(ours) > 1)
    return blocks + [as_table(ratios), as_table(theirs)] * bool(others)


def _is_ours(name: str) -> bool:
    return CONTENDERS[name].ours == name


def _answers(report: Row) -> list[str]:
    rows = [("contender", "hidden units", "ms", "min … max", "× ours")]
    for r in report["times"]:
        if r["batch"] == ANSWERS:
            ratio = "" if r["times_ours"] is None else as_number(r["times_ours"])
            about = CONTENDERS[r["contender"]].kind.about
            rows.append((about, _n(r["hidden"]), *as_spread(r["second"], 1e3), ratio))
    title = f"## Answering {_n(report['data']['test'])} images"
    return [title, as_table(rows)] if len(rows) > 1 else []


def _deforming(report: Row) -> list[str]:
    """What a step costs on images deformed anew, and which share of it that is."""
    rows = [("network", "batch size", "µs a step", "deformed", "share of deforming")]
    for r in report["deforming"]:
        plain, deformed = (statistics.median(r[which]) for which in ("plain", "deformed"))
        costs = [as_number(1e6 * seconds) for seconds in (plain, deformed)]
        network = "-".join(map(str, r["sizes"]))
        rows.append((network, _n(r["batch"]), *costs, _percent(1 - plain / deformed)))
    title = "## Training on deformed images"
    return [title, DEFORMING_EXPLAINED, as_table(rows)] if len(rows) > 1 else []


def _contenders(report: Row) -> list[str]:
    rows = [("contender", "compared in", "worst", "allowed", "other answers")]
    for name in dict.fromkeys(r["contender"] for r in report["checks"]):
        own = [r for r in report["checks"] if r["contender"] == name]
        cells = ", ".join(f"{r['hidden']}/{r['batch']}" for r in own)
        worst = f"{max(r['difference'] for r in own):.1e}"
        others = f"{max(r['other_answers'] for r in own):.2%}"
        rows.append((name, cells, worst, f"{own[0]['tolerance']:g}", others))
    text = (
        f"{CHECKED_SAMPLES} samples, or more than one batch, from the same weights, against "
        "base.py in float64: the largest difference of a weight as a share of its array's largest "
        "change, with an allowance for last bits, and the test images answered otherwise. In: "
        "hidden units / batch size."
    )
    return [text, as_table(rows)]


def sizes_of(report: Row, hidden: int) -> list[int]:
    """Units of every layer."""
    return [report["data"]["features"], hidden, report["data"]["classes"]]


def _n(value: int) -> str:
    return f"{value:,}"


def _count(value: int, what: str) -> str:
    return f"{value:,} {what}{'s' * (value != 1)}"


def _percent(share: float | None) -> str:
    return "not measured" if share is None else f"{share:.1%}"


# --- the command --------------------------------------------------------------------------


def nvidia_smi() -> str:
    """Read the driver's version and the device's state; what is not known is said."""
    wanted = "driver_version,clocks.sm,clocks.mem,temperature.gpu,power.draw,utilization.gpu"
    try:
        done = subprocess.run(
            ["nvidia-smi", f"--query-gpu={wanted}", "--format=csv,noheader", "--id=0"],
            capture_output=True, text=True, timeout=20,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"nvidia-smi: {type(error).__name__}"
    return (done.stdout or done.stderr).strip() or "nvidia-smi says nothing"


def slug(name: str) -> str:
    """A device's name as part of a file's.

    Examples
    --------
    >>> slug("NVIDIA H200")
    'nvidia-h200'
    """
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def options(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)

    def error(message: str) -> Any:  # without the usage: one line
        parser.exit(2, f"error: {message}; --help explains\n")

    parser.error = error  # type: ignore[method-assign]
    add = parser.add_argument
    add("mnist", help="folder with MNIST's four IDX files, gzipped or not")
    add("folder", nargs="?", type=Path, help="where the report goes, if there is a GPU")
    add("--out", type=Path, help="where the report goes even if it is of a CPU")
    add("--device", choices=("gpu", "cpu"), default="gpu", help="cpu: to see that the script runs")
    add("--quick", action="store_true", help="about a minute: fewer sizes, fewer rounds")
    add("--seconds", type=float, help="in all (default: 480, with --quick 60, on a CPU 120)")
    add("--seed", type=int, help="of the kernels' cases (default: a fresh one, which is printed)")
    add("--skip", default="", metavar="A,B", help=f"of: {', '.join(SKIPPABLE)}")
    given = parser.parse_args(argv)
    given.skip = [name for name in given.skip.split(",") if name]
    for name in given.skip:
        if name not in SKIPPABLE:
            parser.error(f"--skip {name}: expected some of {', '.join(SKIPPABLE)}")
    if given.seconds is not None and not given.seconds > 0:
        parser.error(f"--seconds {given.seconds}: expected more than none")
    if given.device == "gpu" and not (given.folder or given.out):
        parser.error("where does the report go? Give a folder after MNIST's")
    given.seed = secrets.randbits(32) if given.seed is None else given.seed
    return given


SKIPPABLE = ("tests", "kernels", "training", "measuring", "cpu", "cupy", "torch", "jax")


def plan_for(device: str, quick: bool, seconds: float | None) -> Plan:
    """How much is done on a device."""
    plan = ON_CPU if device == "cpu" else QUICK if quick else FULL
    if quick:
        plan = replace(plan, seconds=QUICK.seconds)
    return replace(plan, seconds=seconds) if seconds else plan


def main(argv: Sequence[str] | None = None) -> int:
    """Check and measure; see the module."""
    given = options(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        data = load(given.mnist)
        for folder in (given.folder, given.out):
            if folder:
                folder.mkdir(parents=True, exist_ok=True)
    except (DataError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    os.environ |= {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "TF_CPP_MIN_LOG_LEVEL": "2"}
    for name in ("CUPY_TF32", "NVIDIA_TF32_OVERRIDE", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE"):
        os.environ.pop(name, None)  # precision is this script's to choose
    session = Session(given, data)
    try:
        session.run()
    except KeyboardInterrupt:
        session.report["cut"].append("interrupted; what would follow is missing")
    except Exception as error:  # what was measured must not be lost by it
        traceback.print_exc()
        session.report["problems"].append(f"the script: {type(error).__name__}: {error}")
    return session.end()


class Session:
    """One call of the command.

    Parameters
    ----------
    given : argparse.Namespace
    data : Dataset

    Attributes
    ----------
    report : dict
        What goes to the files, from the start on.
    """

    def __init__(self, given: argparse.Namespace, data: Dataset) -> None:
        self.given, self.data = given, data
        self._started = time.monotonic()
        self.no_gpu = ""
        self._running: list[Any] = []
        self._on(given.device)
        parts = ("tests", "kernels", "training")
        self.report: Row = {"gpu": given.device == "gpu", "data": {}, "machine": {}}
        self.report |= dict.fromkeys(parts) | {"limits": {}, "launch": {}}
        lists = ("checks", "times", "memory", "deforming", "pays", "not_timed", "cut", "problems")
        self.report |= {name: [] for name in lists}

    def _on(self, device: str) -> None:
        self.device = device
        self.plan = plan_for(device, self.given.quick, self.given.seconds)
        self.until = Deadline(self.plan.seconds - (time.monotonic() - self._started))

    def run(self) -> None:
        """Do everything in its order."""
        machine = self._machine()  # which may choose another plan
        given, report, plan = self.given, self.report, self.plan
        print(f"{report['machine']['device']}; cases from seed {given.seed}", flush=True)
        report["cut"] += [f"{name}: skipped, as asked" for name in given.skip]
        seconds = {name: share * plan.seconds for name, share in SHARES.items()}
        if "tests" not in given.skip:
            print("tests: pytest -m gpu", flush=True)
            report["tests"] = tests = run_tests(self.until.within(seconds["tests"]))
            print(f"tests: {tests['passed']} passed, {tests['failed']} failed", flush=True)
            report["cut"] += ["pytest -m gpu, by the time"] * (not tests["ended"])
            self.save()
        # compiled beside what is not timed, where there are cores enough
        ahead = seconds["kernels"] + seconds["training"] / 2 if cores() >= 8 else 0.0
        if ahead:
            self._prepare(ahead)
        if "kernels" not in given.skip:
            print("kernels against base.py", flush=True)
            until = self.until.within(seconds["kernels"])
            report["kernels"] = kernels = check_kernels(self.device, given.seed, until)
            print(f"kernels: {kernels['cases']} cases", flush=True)
            report["cut"] += ["kernels: no case in the time"] * (not kernels["cases"])
            self.save()
        if "training" not in given.skip:
            print("training the default recipe", flush=True)
            until = self.until.within(seconds["training"])
            report["training"] = check_training(given.mnist, plan, self.device, until)
            report["cut"] += report["training"]["cut"]
            self.save()
        if "measuring" not in given.skip:
            if not ahead:
                self._prepare(0.1 * self.until.left)
            wrong = self._team.prepared(self._calls, min(60.0, 0.3 * self.until.left))
            for line in wrong.values():
                print(f"not prepared: {line}", flush=True)
            until = self.until.within(self.until.left - seconds["rest"])
            measure(self._team, machine, plan, self.device, report, until, self.save)

    def _prepare(self, seconds: float) -> None:
        """Start the contenders, and have them compile what they will need."""
        if "measuring" not in self.given.skip:
            self._team = Team(self.given.mnist, self.device, self.plan.samples, self.given.skip)
            self._running.append(self._team)
            self._calls = self._team.prepare(self.plan, seconds)

    def _machine(self) -> Worker:
        """Start the process that knows the device, of the CPU where there is no GPU."""
        if self.device == "gpu":
            machine = Worker("machine", Machine, "gpu")
            self._running.append(machine)
            try:
                self._describe(machine)
                return machine
            except FAILURES as error:
                machine.kill()
                self.no_gpu = re.sub(r"^machine: (BackendUnavailable: )?", "", str(error))
                print(f"no GPU: {self.no_gpu}; going on with the CPU", flush=True)
                self._on("cpu")
                self.report["gpu"] = False
        os.environ |= {"CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu"}
        machine = Worker("machine", Machine, "cpu")
        self._running.append(machine)
        self._describe(machine)
        return machine

    def _describe(self, machine: Worker) -> None:
        about = machine.call("describe", seconds=120.0)
        about |= {"system": platform.platform(), "python": platform.python_version()}
        about |= {"date": time.strftime("%Y-%m-%d %H:%M %z"), "load": [load_average()]}
        about["nvidia_smi"] = [nvidia_smi()] if self.device == "gpu" else []
        self.report["machine"] = about
        small = first_samples(self.data, self.plan.samples)
        numbers = {"train": len(small.train_x), "test": len(small.test_x)}
        numbers |= {"features": small.train_x.shape[1], "classes": len(small.classes)}
        self.report["data"] = {"name": self.data.name} | numbers

    def save(self, text: str = "") -> list[Path]:
        """Write the report as far as it goes, and its text; the files' names."""
        report, out = self.report, self.given.out or (self.given.folder if self.gpu else None)
        report["seconds"] = time.monotonic() - self._started
        report["allowed_seconds"] = self.plan.seconds
        report["pays"] = which_pays(report)
        if not out:
            return []
        name = f"gpu-{slug(report['machine']['device']) if self.gpu else 'cpu'}"
        write_whole(out / f"{name}.json", (json.dumps(report, indent=1) + "\n").encode())
        if text:
            write_whole(out / f"{name}.md", text.encode())
        return [out / f"{name}.md", out / f"{name}.json"]

    @property
    def gpu(self) -> bool:
        """Whether a GPU is what is measured."""
        return self.report["gpu"]

    def end(self) -> int:
        """End the processes, write and print the report; the exit code."""
        for running in self._running:
            running.kill()
        report, files = self.report, []
        if report["machine"]:
            report["machine"]["load"].append(load_average())
            report["machine"]["nvidia_smi"] += [nvidia_smi()] * self.gpu
            self.save()  # the numbers, whatever becomes of the text
            text = markdown(report)
            files = self.save(text)
            print(f"\n{text}")
        found = problems(report)
        if files:
            print(f"written: {', '.join(map(str, files))}")
        elif not self.gpu:
            print("not written, being no GPU measurement; --out FOLDER writes it")
        checked = passed(report).rstrip(".")
        if found:
            more = f" and {len(found) - 1} more, see above" * (len(found) > 1)
            checked = f"FAILED: {found[0]}{more}"
        cut = _count(len(report["cut"]), "part")
        checked += f"; {cut} cut or skipped, see above" * bool(report["cut"])
        if self.no_gpu:
            print(f"no GPU: {self.no_gpu}; what was checked on the CPU: {checked}")
            return 1
        print(checked)
        return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

"""What is measured, in which order, and what is concluded from it; no clock decides a test."""

from __future__ import annotations

import re
from itertools import product
from statistics import median

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends import Backend, select
from trainer import MLP, BatchProgress, EpochReport, benchmarking, load
from trainer.benchmarking import (
    DevicesDisagree,
    Measurement,
    benchmark,
    check,
    conclude,
    flops_per_sample,
)

SMALL = {"hidden": (5,), "batch_sizes": (1, 64)}


# --- counting -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sizes", "by_hand"),
    [
        ([3, 2], 12 + 12),  # forward and gradients: six weights, two operations each
        ([3, 2, 2], 20 + 20 + 8),  # and the error goes back through four weights
        ([2, 2, 2, 2], 24 + 24 + 16),
    ],
)
def test_flops_counted_by_hand(sizes, by_hand):
    assert flops_per_sample(sizes) == by_hand


class Counted(np.ndarray):
    """An array that counts the operations of all products it takes part in."""

    flops = 0

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **options):
        plain = [np.asarray(a) for a in inputs]
        if out is not None:
            options["out"] = tuple(np.asarray(a) for a in out)
        if ufunc is np.matmul:
            Counted.flops += 2 * plain[0].size * plain[1].shape[1]
        result = getattr(ufunc, method)(*plain, **options)
        return result.view(Counted) if isinstance(result, np.ndarray) else result


@pytest.mark.parametrize("sizes", [[7, 4], [7, 5, 3], [7, 6, 5, 4]])
def test_flops_are_those_of_the_textbooks_products(sizes, base_on_numpy):
    model = MLP(sizes, backend=base_on_numpy)
    model.weights[:] = [w.view(Counted) for w in model.weights]
    Counted.flops = 0
    model.gradients(np.ones((11, 7)), np.zeros(11))
    assert flops_per_sample(sizes) * 11 == Counted.flops


# --- the check before -----------------------------------------------------------------------


def test_the_cpu_agrees_with_the_textbook():
    checked = check([select("cpu")], load("digits"), **SMALL)
    assert checked.difference <= 1e-12
    assert checked.cases == checked.of == len(SMALL["hidden"]) * len(SMALL["batch_sizes"])


def test_a_check_without_time_compares_one_case():
    several = {"hidden": (3, 4), "batch_sizes": (8, 64)}
    checked = check([select("cpu")], load("digits"), **several, seconds=0.0)
    assert (checked.cases, checked.of) == (1, 4)


class Off(Backend):
    """Goes wrong by a factor in the steps of one dtype."""

    def __init__(self, dtype: str, factor: float) -> None:
        super().__init__(np, "off", "off")
        self.dtype, self.factor = dtype, factor

    def sgd_step(self, w, velocity, gradient, rate, *more):
        if w.dtype == self.dtype:
            rate *= self.factor
        super().sgd_step(w, velocity, gradient, rate, *more)


@pytest.mark.parametrize(
    ("dtype", "factor"), [("float64", 1 + 1e-6), ("float32", 1.1), ("float64", np.nan)]
)
@pytest.mark.parametrize("batch_size", [1, 64])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_devices_that_disagree_are_named(dtype, factor, batch_size):
    with pytest.raises(ArithmeticError) as caught:
        check(
            [select("cpu"), Off(dtype, factor)],
            load("digits"),
            hidden=(5,),
            batch_sizes=(batch_size,),
        )
    if np.isfinite(factor):  # else fit itself finds the NaN
        assert isinstance(caught.value, DevicesDisagree)
        for words in ("the textbook and off disagree", f"batch size {batch_size}", dtype):
            assert words in str(caught.value)


# --- measuring, with a clock of our own -----------------------------------------------------


class Bench:
    """Stands in for `fit`, the clock and the matrix products; a sample takes as told."""

    def __init__(self, monkeypatch, seconds_per_sample) -> None:
        self.calls: list[tuple[str, int, int, int]] = []
        self.now = 0.0
        self._seconds_per_sample = seconds_per_sample
        monkeypatch.setattr(benchmarking, "fit", self._fit)
        monkeypatch.setattr(benchmarking, "perf_counter", lambda: self.now)
        monkeypatch.setattr(benchmarking, "sleep", lambda seconds: None)
        monkeypatch.setattr(benchmarking, "_MatrixProduct", lambda backend: self)

    def gflops(self) -> float:
        return 100.0

    def _fit(self, model, x, y, settings):
        call = (model.backend.name, model.sizes[1], settings.batch_size, len(x))
        self.calls.append(call)
        seconds = len(x) * self._seconds_per_sample(*call)
        for part in (0.25, 0.5, 0.75):
            rate = len(x) / seconds
            yield BatchProgress(1, 1, int(part * len(x)), len(x), 0.1, part * seconds, rate)
        self.now += seconds
        yield EpochReport(1, 0.1, None, seconds, 0.0, 0.0, len(x) / seconds)


@pytest.fixture(scope="module")
def two():
    return [Backend(np, "a", "one"), Backend(np, "b", "another")]


def test_rounds_go_over_all_cases_and_every_run_yields(two, monkeypatch):
    bench = Bench(monkeypatch, lambda *call: 1e-4)
    yielded = [
        (m.device, m.hidden, m.batch_size, m.rounds)
        for m in benchmark(two, load("digits"), hidden=(3, 4), batch_sizes=(1, 8))
    ]
    a_round = [(d, h, b) for h, b, d in product((3, 4), (1, 8), "ab")]
    assert yielded == [(*case, number) for number in range(1, 10) for case in a_round]
    timed = [call[:3] for call in bench.calls[-9 * len(a_round) :]]
    assert timed == 9 * a_round


def test_medians_and_spreads_are_those_of_the_runs(two, monkeypatch):
    rng = np.random.default_rng(0)
    taken = []

    def seconds_per_sample(*call):
        taken.append(rng.uniform(1, 1.3) * 1e-5)
        return taken[-1]

    Bench(monkeypatch, seconds_per_sample)
    data = load("digits")
    *_, last = benchmark(two[:1], data, hidden=(3,), batch_sizes=(8,))
    rates = [1 / t for t in taken[-9:]]
    assert last.samples_per_second == pytest.approx(median(rates))
    assert last.slowest == pytest.approx(min(rates))
    assert last.fastest == pytest.approx(max(rates))
    assert last.epoch_seconds == pytest.approx(len(data.train_y) / median(rates))
    assert last.gflops == pytest.approx(median(rates) * flops_per_sample([64, 3, 10]) / 1e9)
    assert last.percent_of_matmul == pytest.approx(last.gflops)
    assert (last.samples, last.scaled) == (len(data.train_y), False)


@pytest.mark.parametrize("batch_size", [1, 8, 500])
@pytest.mark.parametrize("speed", [1e-7, 3e-4, 1e-3, 10])
def test_a_run_is_whole_batches_of_about_a_quarter_of_a_second_or_all(
    batch_size, speed, two, monkeypatch
):
    bench = Bench(monkeypatch, lambda *call: speed)
    data = load("digits")
    *_, last = benchmark(two[:1], data, hidden=(3,), batch_sizes=(batch_size,))
    everything = len(data.train_y)
    wanted = min(everything, max(batch_size, 0.25 / speed))
    assert wanted - batch_size < last.samples <= wanted
    assert last.samples == everything or last.samples % batch_size == 0
    assert last.scaled == (last.samples < everything or speed == 10)
    assert last.epoch_seconds == pytest.approx(everything * speed)
    assert bench.calls[-1] == ("a", 3, batch_size, last.samples)


def test_a_run_that_takes_far_too_long_counts_as_far_as_it_came(two, monkeypatch):
    bench = Bench(monkeypatch, lambda *call: 1e-5 if len(bench.calls) < 8 else 1e-2)
    *_, last = benchmark(two[:1], load("digits"), hidden=(3,), batch_sizes=(1,))
    assert last.slowest == pytest.approx(1e2)
    assert last.scaled
    assert bench.now < 1


@given(
    seconds=st.floats(0.01, 100),
    speeds=st.lists(st.floats(1e-6, 1e-2), min_size=1, max_size=7),
)
def test_three_rounds_at_least_nine_at_most_and_none_begins_too_late(seconds, speeds):
    with pytest.MonkeyPatch.context() as monkeypatch:
        bench = Bench(monkeypatch, lambda d, h, b, n: speeds[h - 1])
        backends = [Backend(np, "a", "one")]
        hidden = range(1, 1 + len(speeds))
        *_, last = benchmark(
            backends, load_digits(), hidden=hidden, batch_sizes=(4,), seconds=seconds
        )
        assert 3 <= last.rounds <= 9
        if last.rounds > 3:
            assert bench.now <= seconds * (1 + 1e-9)
        if last.rounds < 9:
            a_round = sum(n * speeds[h - 1] for _, h, _, n in bench.calls[-len(speeds) :])
            assert bench.now + a_round > seconds * (1 - 1e-9)


DIGITS = []


def load_digits():
    """`load("digits")`, once: hypothesis asks often."""
    if not DIGITS:
        DIGITS.append(load("digits"))
    return DIGITS[0]


# --- concluding -----------------------------------------------------------------------------


def made_up(rates, *, hidden=200, rounds=5, spread=0.1):
    """Measurements of {device: {batch size: median}}."""
    return [
        Measurement(
            device=device,
            hidden=hidden,
            batch_size=batch_size,
            samples=1000,
            rounds=rounds,
            samples_per_second=rate,
            slowest=rate * (1 - spread),
            fastest=rate * (1 + spread),
            epoch_seconds=1000 / rate,
            scaled=False,
            gflops=1.0,
            matmul_gflops=10.0,
            percent_of_matmul=10.0,
        )
        for device, by_size in rates.items()
        for batch_size, rate in by_size.items()
    ]


CPU = {1: 100.0, 8: 200.0, 64: 400.0, 512: 500.0}


def times(*factors):
    return {b: rate * f for (b, rate), f in zip(CPU.items(), factors, strict=True)}


@pytest.mark.parametrize(
    ("gpus", "sentence"),
    [
        (
            {"gpu:0": times(0.1, 0.5, 2, 9)},
            "With 200 hidden units cpu pays up to batch size 8, and gpu:0 pays from batch size"
            " 64 on.",
        ),
        (
            {"gpu:0": times(0.1, 0.2, 0.3, 0.5)},
            "With 200 hidden units cpu pays at every batch size measured, 1 to 512.",
        ),
        (
            {"gpu:0": times(2, 3, 4, 5)},
            "With 200 hidden units gpu:0 pays at every batch size measured, 1 to 512.",
        ),
        (
            {"gpu:0": times(0.1, 1.1, 0.95, 3)},
            "With 200 hidden units cpu pays at batch size 1, there is no clear difference between"
            " cpu and gpu:0 from batch size 8 to 64, and gpu:0 pays at batch size 512, the"
            " largest.",
        ),
        (
            {"gpu:0": times(2, 0.5, 2, 2)},
            "With 200 hidden units gpu:0 pays at batch size 1, cpu pays at batch size 8, and"
            " gpu:0 pays from batch size 64 on.",
        ),
        (
            {"gpu:0": times(1, 1, 1, 1)},
            "With 200 hidden units there is no clear difference between cpu and gpu:0 at every"
            " batch size measured, 1 to 512.",
        ),
        (
            {"gpu:0": times(0.1, 0.5, 2, 4), "gpu:1": times(0.1, 0.5, 2.1, 9)},
            "With 200 hidden units cpu pays up to batch size 8, gpu:0 or gpu:1 pays at batch size"
            " 64, with no clear difference between them, and gpu:1 pays at batch size 512, the"
            " largest.",
        ),
    ],
)
def test_the_sentence_where_there_is_a_gpu(gpus, sentence):
    assert conclude(made_up({"cpu": CPU} | gpus)) == sentence


@pytest.mark.parametrize(
    ("missing", "beginning"),
    [
        ("CuPy is not installed", "cpu is the only device here (CuPy is not installed)"),
        ("", "Only cpu was measured"),
    ],
)
def test_the_sentence_where_there_is_only_the_cpu(missing, beginning):
    assert conclude(made_up({"cpu": {1: 100, 8: 50, 64: 500}}), missing) == (
        f"{beginning}; with 200 hidden units it is fastest at batch size 64, 500 samples/s."
    )
    close = conclude(made_up({"cpu": {1: 100, 8: 450, 64: 500, 512: 490}}), missing)
    assert close.endswith("500 samples/s, with no clear difference to 8 and 512.")
    alone = conclude(made_up({"cpu": {8: 450}}), missing)
    assert alone.endswith("; with 200 hidden units it was measured at batch size 8, 450 samples/s.")


def test_the_sentence_speaks_of_200_hidden_units_or_of_the_middle():
    rates = {"cpu": CPU, "gpu:0": times(2, 2, 2, 2)}
    for sizes, spoken_of in (((50, 200, 800, 900), 200), ((30, 60, 90), 60), ((7,), 7)):
        several = [m for hidden in sizes for m in made_up(rates, hidden=hidden)]
        assert conclude(several).startswith(f"With {spoken_of} hidden units ")


@pytest.mark.parametrize("measurements", [[], made_up({"cpu": CPU}, rounds=2)])
def test_no_conclusion_from_too_few_rounds(measurements):
    assert conclude(measurements) == "There is no conclusion from fewer than 3 rounds."


@given(
    st.lists(
        st.tuples(st.floats(1, 1000), st.floats(1, 1000)), min_size=2, max_size=6, unique=True
    ),
    st.floats(0, 0.5),
)
def test_from_b_on_is_b_and_every_larger_size_and_no_smaller_b_would_do(pairs, spread):
    sizes = [2**i for i in range(len(pairs))]
    rates = {
        name: {b: pair[column] for b, pair in zip(sizes, pairs, strict=True)}
        for column, name in enumerate(("cpu", "gpu:0"))
    }
    sentence = conclude(made_up(rates, spread=spread))
    clear = [gpu * (1 - spread) > cpu * (1 + spread) for cpu, gpu in pairs]
    from_here = [all(clear[i:]) for i in range(len(clear))]
    found = re.search(
        r"gpu:0 pays (?:from batch size (\d+) on|at batch size (\d+), the largest"
        r"|at every batch size measured, (\d+) to \d+)\.$",
        sentence,
    )
    if any(from_here):
        assert found is not None
        assert int(found[1] or found[2] or found[3]) == sizes[from_here.index(True)]
    else:
        assert found is None

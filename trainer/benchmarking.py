"""How fast each device trains, by batch size and hidden size, measured on this machine.

Nothing is shown or drawn here: `benchmark` yields medians, `conclude` says what they mean.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations, groupby, pairwise, product
from statistics import median
from time import perf_counter, sleep
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np

from backends import Backend, select

from .data import Dataset
from .network import MLP
from .plain_text import listed
from .recipes import RECIPES, Recipe, build
from .training import BatchProgress, EpochReport, fit

RECIPE = RECIPES["rashid"]
BATCH_SIZES = (1, 8, 32, 128, 512, 4096)
HIDDEN = (50, 200, 800)
LEAST_ROUNDS, MOST_ROUNDS = 3, 9

_REST_SECONDS = 0.1  # after a product BLAS's threads wait busily for more for a while
_RUN_SECONDS = 0.25  # long beside the clock and the launches, short beside the machine's moods
_WARM_UP_ROUNDS = 2  # what finding the number of samples costs, in rounds
_WANTED_ROUNDS = 5
_CHECKED_SAMPLES = 256
_PRODUCT_SECONDS = 0.02
_LARGEST_PRODUCT = 8192  # rows; three such matrices are 0.8 GB
_LESSONS_HIDDEN = 200


T = TypeVar("T")


class DevicesDisagree(ArithmeticError):
    """The same training came to different weights on two devices; nothing was timed."""


class Checked(NamedTuple):
    """What a check of devices came to."""

    difference: float  # the largest between two weights, in float64
    cases: int  # that were compared
    of: int  # cases that there are
    compile_seconds: float


@dataclass(frozen=True)
class Measurement:
    """The results so far of one case: a device, a hidden size and a batch size."""

    device: str
    hidden: int
    batch_size: int
    samples: int  # a run trains on the first so many of the training samples
    rounds: int  # runs so far, one in each round over all cases
    samples_per_second: float  # the median of the runs
    slowest: float  # of the runs, in samples per second
    fastest: float
    epoch_seconds: float  # of all training samples at the median rate
    scaled: bool  # whether that is scaled up, a run having trained fewer
    gflops: float  # 10⁹ operations a second at the median rate, counted by `flops_per_sample`
    matmul_gflops: float  # of float32 matrix products, the median of those timed between the runs
    percent_of_matmul: float  # above 100 where work is saved that `flops_per_sample` counts

    @classmethod
    def of(
        cls,
        device: str,
        sizes: Sequence[int],
        batch_size: int,
        samples: int,
        rates: Sequence[float],
        *,
        epoch: int,
        scaled: bool,
        matmul_gflops: float,
    ) -> Measurement:
        """Summarise the samples a second of several runs; an epoch has so many samples."""
        rate = median(rates)
        gflops = rate * flops_per_sample(sizes) / 1e9
        return cls(
            device=device,
            hidden=sizes[1],
            batch_size=batch_size,
            samples=samples,
            rounds=len(rates),
            samples_per_second=rate,
            slowest=min(rates),
            fastest=max(rates),
            epoch_seconds=epoch / rate,
            scaled=scaled,
            gflops=gflops,
            matmul_gflops=matmul_gflops,
            percent_of_matmul=100 * gflops / matmul_gflops,
        )


class Rounds(Generic[T]):
    """Rounds in which every case is measured once, so that a slow moment of the machine meets all.

    With `rotate` each round starts with another case. A case that is removed from `cases` takes no
    further turn; `done` rounds are complete.
    """

    def __init__(self, cases: Iterable[T], *, rotate: bool = True) -> None:
        self.cases, self.done = list(cases), 0
        self._rotate, self._seconds = rotate, 0.0

    def until(
        self, rounds: int, *, least: int = 0, left: Callable[[], float] | None = None
    ) -> Iterator[T]:
        """Yield the case whose turn it is, until so many rounds are complete in all.

        After the first `least` rounds, none starts that would take longer, by the time of the
        round before, than the seconds that `left()` returns.
        """
        step = max(1, len(self.cases) // rounds) if self._rotate else 0
        while self.done < rounds and self.cases:
            if left and self.done >= least and self._seconds > left():
                return
            started, first = perf_counter(), self.done * step % len(self.cases)
            yield from self.cases[first:] + self.cases[:first]
            self.done, self._seconds = self.done + 1, perf_counter() - started


def flops_per_sample(sizes: Sequence[int]) -> int:
    """Count the operations that training on one sample takes, as the dense textbook does it.

    A multiplication and an addition for every weight in each of three products: forward
    ``a W``, gradients ``aᵀ δ`` and, in all layers but the first, errors back ``δ Wᵀ``. What is
    done once a unit, such as activations, is left out. The CPU backend skips inputs of zero, four
    fifths of MNIST's pixels, and so can do better than its matrix products would allow. The sizes
    are the units of every layer, inputs first.

    Examples
    --------
    >>> flops_per_sample([784, 200, 10])
    639200
    """
    weights = [fan_in * fan_out for fan_in, fan_out in pairwise(sizes)]
    return 2 * (3 * sum(weights) - weights[0])


def check(
    backends: Sequence[Backend | str],
    dataset: Dataset,
    *,
    batch_sizes: Sequence[int] = BATCH_SIZES,
    hidden: Sequence[int] = HIDDEN,
    seconds: float = math.inf,
) -> Checked:
    """Train every case for a few hundred samples on each device and on the textbook; compare.

    The textbook is `backends.base` on NumPy. In float64 no two may differ by more than 1e-9 in
    any weight. In float32, which is timed and may have kernels of its own, by no more than a
    hundredth of the farthest that a weight has moved; otherwise DevicesDisagree is raised. After
    the first case none is begun that would end later than `seconds`, compilation apart, by the time
    of the longest so far; one case is a hidden size and a batch size.
    """
    textbook = Backend(np, "the textbook", "backends/base.py on NumPy")
    largest, compiled, done, started = 0.0, 0.0, 0, perf_counter()
    spent, longest = 0.0, 0.0  # without what compiling took
    cases = list(product(hidden, batch_sizes, ("float64", "float32")))
    for units, batch_size, dtype in cases:
        if done % 2 == 0:  # both dtypes of the case before
            now = perf_counter() - started - compiled
            spent, longest = now, max(longest, now - spent)
            if done and spent + longest > seconds:
                break
        done += 1
        n = min(len(dataset.train_y), max(_CHECKED_SAMPLES, batch_size))
        # steps so large that wide networks oscillate would magnify mere rounding
        rate = min(RECIPE.learning_rate, 10 / units)
        recipe = _recipe(units, batch_size, dtype=dtype, learning_rate=rate)
        start = _weights(build(recipe, dataset, backend=textbook))
        weights = {}
        for backend in (textbook, *map(select, backends)):
            model, reports = _training(backend, recipe, dataset, n)
            for report in reports:
                if isinstance(report, EpochReport):
                    compiled += report.compile_seconds
            weights[backend.name] = _weights(model)
        moved = float(np.max(np.abs(weights[textbook.name] - start)))
        allowed = 1e-9 if dtype == "float64" else moved / 100
        for one, other in combinations(weights, 2):
            difference = float(np.max(np.abs(weights[one] - weights[other])))
            if not difference <= allowed:  # so that NaN disagrees
                raise DevicesDisagree(
                    f"{one} and {other} disagree: after {n:,} samples at batch size {batch_size}"
                    f" with {units} hidden units in {dtype} a weight differs by {difference:.1e},"
                    f" {allowed:.1e} is allowed; nothing was timed"
                )
            if dtype == "float64":
                largest = max(largest, difference)
    return Checked(largest, done // 2, len(cases) // 2, compiled)


def benchmark(
    backends: Sequence[Backend | str],
    dataset: Dataset,
    *,
    batch_sizes: Sequence[int] = BATCH_SIZES,
    hidden: Sequence[int] = HIDDEN,
    seconds: float = 60.0,
) -> Iterator[Measurement]:
    """Time the training of every case, in rounds over all of them.

    A run is one epoch by `fit` of the lessons' network (`RECIPE` with other hidden and batch
    sizes), always from the same seed, on so many samples that it takes a quarter of a second where
    there are enough; should it take twice as long, it counts as far as it came. What `fit`
    prepares once, such as the upload, counts too, compilation does not. Every case is run before
    the first round, uncounted. Each round also times matrix products on each device.

    No round starts that would end later than `seconds`, after the first three; there are nine at
    most. Runs become shorter where five rounds would not fit. After every run that case's
    measurement is yielded.
    """
    started = perf_counter()
    wanted = len(hidden) * len(batch_sizes) * len(backends) * (_WANTED_ROUNDS + _WARM_UP_ROUNDS)
    run_seconds = min(_RUN_SECONDS, seconds / wanted)
    devices = [select(backend) for backend in backends]
    cases = [
        _Case(backend, _recipe(units, batch_size), dataset, run_seconds)
        for units, batch_size, backend in product(hidden, batch_sizes, devices)
    ]
    products = {device.name: _MatrixProduct(device) for device in devices}
    rates: dict[str, list[float]] = {name: [] for name in products}
    for case in cases:
        case.choose_samples()

    rounds = Rounds(cases, rotate=False)
    for case in rounds.until(
        MOST_ROUNDS, least=LEAST_ROUNDS, left=lambda: started + seconds - perf_counter()
    ):
        if case is cases[0]:
            for name in products:
                rates[name].append(products[name].gflops())
            sleep(_REST_SECONDS)
        yield case.measure(median(rates[case.backend.name]))


def conclude(measurements: Sequence[Measurement], missing: str = "") -> str:
    """Conclude in one sentence which device pays from which batch size on.

    A device pays at a batch size if its median is the highest there and its slowest run is
    faster than the fastest of every other device; where spreads overlap there is no clear
    difference. "From b on" is b and every larger size measured, "up to b" every smaller one. It
    speaks of 200 hidden units, or where those were not measured of the middle size. Of every case
    it takes the last measurement; `missing` says why there is no GPU, where one was wanted.
    """
    if min((m.rounds for m in measurements), default=0) < LEAST_ROUNDS:
        return f"There is no conclusion from fewer than {LEAST_ROUNDS} rounds."
    sizes = sorted({m.hidden for m in measurements})
    units = _LESSONS_HIDDEN if _LESSONS_HIDDEN in sizes else sizes[len(sizes) // 2]
    rows = sorted((m for m in measurements if m.hidden == units), key=lambda m: m.batch_size)
    devices = list(dict.fromkeys(m.device for m in rows))
    if len(devices) == 1:
        return _about_one(rows, missing)
    by_size = {b: list(group) for b, group in groupby(rows, key=lambda m: m.batch_size)}
    leading = {b: {m.device for m in _leaders(group)} for b, group in by_size.items()}
    clauses = []
    for _, run in groupby(by_size, key=leading.__getitem__):
        part = list(run)
        names = [name for name in devices if name in leading[part[0]]]
        where = _where(part, list(by_size))
        if len(names) == 1:
            clauses.append(f"{names[0]} pays {where}")
        elif len(names) == len(devices):
            clauses.append(f"there is no clear difference between {listed(names)} {where}")
        else:
            clauses.append(
                f"{' or '.join(names)} pays {where}, with no clear difference between them"
            )
    return f"With {units} hidden units {listed(clauses, ', and ')}."


def _about_one(rows: Sequence[Measurement], missing: str) -> str:
    best, *others = _leaders(rows)
    alone = f"Only {best.device} was measured"
    if missing:
        alone = f"{best.device} is the only device here ({missing})"
    most = "is fastest" if len(rows) > 1 else "was measured"
    text = (
        f"{alone}; with {best.hidden} hidden units it {most} at batch size {best.batch_size},"
        f" {best.samples_per_second:,.0f} samples/s"
    )
    if others:
        text += f", with no clear difference to {listed(m.batch_size for m in others)}"
    return f"{text}."


def _leaders(rows: Sequence[Measurement]) -> list[Measurement]:
    """Find the fastest by the median, then all whose spread overlaps with its."""
    best = max(rows, key=lambda m: m.samples_per_second)
    return [best, *(m for m in rows if m is not best and m.fastest >= best.slowest)]


def _where(part: Sequence[int], sizes: Sequence[int]) -> str:
    first, last = part[0], part[-1]
    if first == last:
        is_largest = last == sizes[-1] and len(sizes) > 1
        return f"at batch size {first}{', the largest' * is_largest}"
    if len(part) == len(sizes):
        return f"at every batch size measured, {first} to {last}"
    if last == sizes[-1]:
        return f"from batch size {first} on"
    return f"up to batch size {last}" if first == sizes[0] else f"from batch size {first} to {last}"


@dataclass(eq=False)
class _Case:
    """A device and a network with its batch size, and the rates of the runs so far."""

    backend: Backend
    recipe: Recipe
    dataset: Dataset
    seconds: float  # of a run
    rates: list[float] = field(default_factory=list)

    def choose_samples(self) -> None:
        """Find how many samples take as long as a run is to take: whole batches, or all."""
        n, most = self._whole_batches(_CHECKED_SAMPLES), len(self.dataset.train_y)
        while n < most and self._run(n).seconds < self.seconds / 4:
            n = self._whole_batches(4 * n)
        self.samples = self._whole_batches(self.seconds * self._run(n).samples_per_second)
        self.scaled = self.samples < most

    def measure(self, matmul_gflops: float) -> Measurement:
        """Run once more."""
        report, data = self._run(self.samples), self.dataset
        self.rates.append(report.samples_per_second)
        self.scaled |= isinstance(report, BatchProgress)
        return Measurement.of(
            self.backend.name,
            [data.train_x.shape[1], *self.recipe.hidden, len(data.classes)],
            self.recipe.batch_size,
            self.samples,
            self.rates,
            epoch=len(data.train_y),
            scaled=self.scaled,
            matmul_gflops=matmul_gflops,
        )

    def _whole_batches(self, samples: float) -> int:
        size = self.recipe.batch_size
        return min(len(self.dataset.train_y), max(1, int(samples) // size) * size)

    def _run(self, n: int) -> BatchProgress | EpochReport:
        """Train n samples, or as many as twice the wanted time allows."""
        _, reports = _training(self.backend, self.recipe, self.dataset, n)
        for report in reports:
            if isinstance(report, EpochReport) or report.seconds > 2 * self.seconds:
                break
        return report


class _MatrixProduct:
    """A product of two square float32 matrices, large enough to be timed."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        backend.make_current()
        side = 512
        while True:
            host = backend.rng(0).random((side, side), dtype=np.float32)
            self._matrix = backend.asarray(host)
            self._seconds()  # the first one wakes the library up
            if self._seconds() >= _PRODUCT_SECONDS or side == _LARGEST_PRODUCT:
                return
            side *= 2

    def gflops(self) -> float:
        """Median of three."""
        self._backend.make_current()
        flops = 2 * self._matrix.shape[0] ** 3
        return flops / median(self._seconds() for _ in range(3)) / 1e9

    def _seconds(self) -> float:
        self._backend.synchronize()
        started = perf_counter()
        self._matrix @ self._matrix
        self._backend.synchronize()
        return perf_counter() - started


def _recipe(units: int, batch_size: int, **changes: Any) -> Recipe:
    return replace(RECIPE, hidden=(units,), batch_size=batch_size, epochs=1, **changes)


def _training(
    backend: Backend, recipe: Recipe, dataset: Dataset, n: int
) -> tuple[MLP, Iterator[BatchProgress | EpochReport]]:
    """Make a new network, and an epoch that trains it on the first n samples."""
    backend.make_current()
    model = build(recipe, dataset, backend=backend)
    return model, fit(model, dataset.train_x[:n], dataset.train_y[:n], recipe)


def _weights(model: MLP) -> np.ndarray:
    """All of them in one row."""
    return np.concatenate([w.ravel() for w in model.get_weights()])

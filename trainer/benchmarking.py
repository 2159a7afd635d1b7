"""How fast each device trains, by batch size and hidden size, measured on this machine.

Nothing is shown or drawn here: `benchmark` yields medians, `conclude` says what they mean.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, groupby, pairwise
from statistics import median
from time import perf_counter, sleep

import numpy as np

from backends import Backend

from .data import Dataset
from .network import MLP
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


class DevicesDisagree(ArithmeticError):
    """The same training came to different weights on two devices; nothing was timed."""


@dataclass(frozen=True)
class Measurement:
    """What the runs of one case (a device, a hidden size, a batch size) have come to so far.

    Attributes
    ----------
    device : str
    hidden, batch_size : int
    samples : int
        A run trains on the first so many of the training samples.
    rounds : int
        Runs so far, one in each round over all cases.
    samples_per_second, slowest, fastest : float
        Median of the runs, and from where to where they go.
    epoch_seconds : float
        Time of all training samples at the median rate.
    scaled : bool
        Whether that is scaled up, a run having trained fewer.
    gflops : float
        10⁹ operations a second at the median rate, counted by `flops_per_sample`.
    matmul_gflops : float
        Of the device's float32 matrix products, the median of those timed between the runs.
    percent_of_matmul : float
        The one of the other. Above 100 where a device saves work that `flops_per_sample` counts.
    """

    device: str
    hidden: int
    batch_size: int
    samples: int
    rounds: int
    samples_per_second: float
    slowest: float
    fastest: float
    epoch_seconds: float
    scaled: bool
    gflops: float
    matmul_gflops: float
    percent_of_matmul: float


def flops_per_sample(sizes: Sequence[int]) -> int:
    """Count the operations that training on one sample takes, as the dense textbook does it.

    A multiplication and an addition for every weight in each of three products: forward
    ``a W``, gradients ``aᵀ δ`` and, in all layers but the first, errors back ``δ Wᵀ``. What is
    done once a unit, such as activations, is left out. The CPU backend skips inputs of zero, four
    fifths of MNIST's pixels, and so can do better than its matrix products would allow.

    Parameters
    ----------
    sizes : sequence of int
        Units of every layer, inputs first.

    Examples
    --------
    >>> flops_per_sample([784, 200, 10])
    639200
    """
    weights = [fan_in * fan_out for fan_in, fan_out in pairwise(sizes)]
    return 2 * (3 * sum(weights) - weights[0])


def check(
    backends: Sequence[Backend],
    dataset: Dataset,
    *,
    batch_sizes: Sequence[int] = BATCH_SIZES,
    hidden: Sequence[int] = HIDDEN,
) -> float:
    """Train every case for a few hundred samples on each device and on the textbook; compare.

    The textbook is `backends.base` on NumPy. In float64 no two may differ by more than 1e-9 in
    any weight. In float32, which is timed and may have kernels of its own, by no more than a
    hundredth of the farthest that a weight has moved.

    Returns
    -------
    float
        The largest difference in float64.

    Raises
    ------
    DevicesDisagree
    """
    textbook = Backend(np, "the textbook", "backends/base.py on NumPy")
    largest = 0.0
    for units in hidden:
        for batch_size in batch_sizes:
            n = min(len(dataset.train_y), max(_CHECKED_SAMPLES, batch_size))
            for dtype in ("float64", "float32"):
                # steps so large that wide networks sway would magnify what is but rounding
                rate = min(RECIPE.learning_rate, 10 / units)
                recipe = replace(RECIPE, hidden=(units,), dtype=dtype, learning_rate=rate)
                start = _weights(build(recipe, dataset, backend=textbook))
                weights = {}
                for backend in (textbook, *backends):
                    model, reports = _training(backend, recipe, dataset, n, batch_size)
                    for _ in reports:
                        pass
                    weights[backend.name] = _weights(model)
                moved = float(np.max(np.abs(weights[textbook.name] - start)))
                allowed = 1e-9 if dtype == "float64" else moved / 100
                for one, other in combinations(weights, 2):
                    difference = float(np.max(np.abs(weights[one] - weights[other])))
                    if not difference <= allowed:  # so that NaN disagrees
                        raise DevicesDisagree(
                            f"{one} and {other} disagree: after {n:,} samples at batch size"
                            f" {batch_size} with {units} hidden units in {dtype} a weight differs"
                            f" by {difference:.1e}, {allowed:.1e} is allowed; nothing was timed"
                        )
                    if dtype == "float64":
                        largest = max(largest, difference)
    return largest


def benchmark(
    backends: Sequence[Backend],
    dataset: Dataset,
    *,
    batch_sizes: Sequence[int] = BATCH_SIZES,
    hidden: Sequence[int] = HIDDEN,
    seconds: float = 60.0,
) -> Iterator[Measurement]:
    """Time the training of every case, in rounds over all of them.

    A run is one epoch by `fit` of the lessons' network (`RECIPE`, but for the hidden and the batch
    size), always from the same seed, on so many samples that it takes a quarter of a second where
    there are enough; should it take twice as long, it counts as far as it came. What `fit`
    prepares once, such as the upload, counts too, compilation does not. Every case is run before
    the first round, uncounted. Each round also times matrix products on each device.

    Parameters
    ----------
    backends : sequence of Backend
    dataset : Dataset
    batch_sizes, hidden : sequence of int
        A case is one of each, on one device.
    seconds : float
        No round is begun that would end later than that, after the first three; there are nine
        at most. Runs become shorter where five rounds would not fit.

    Yields
    ------
    Measurement
        After every run, that case's.
    """
    started = perf_counter()
    wanted = len(hidden) * len(batch_sizes) * len(backends) * (_WANTED_ROUNDS + _WARM_UP_ROUNDS)
    run_seconds = min(_RUN_SECONDS, seconds / wanted)
    cases = [
        _Case(backend, replace(RECIPE, hidden=(units,)), batch_size, dataset, run_seconds)
        for units in hidden
        for batch_size in batch_sizes
        for backend in backends
    ]
    products = {backend.name: _MatrixProduct(backend) for backend in backends}
    rates: dict[str, list[float]] = {name: [] for name in products}
    for case in cases:
        case.choose_samples()

    rounds, round_seconds = 0, 0.0
    while rounds < LEAST_ROUNDS or (
        rounds < MOST_ROUNDS and perf_counter() - started + round_seconds <= seconds
    ):
        began = perf_counter()
        for name, product in products.items():
            rates[name].append(product.gflops())
        sleep(_REST_SECONDS)
        for case in cases:
            yield case.measure(median(rates[case.backend.name]))
        rounds, round_seconds = rounds + 1, perf_counter() - began


def conclude(measurements: Sequence[Measurement], missing: str = "") -> str:
    """Say in one sentence which device pays from which batch size on.

    A device pays at a batch size if its median is the highest there and its slowest run is
    faster than the fastest of every other device; where spreads overlap there is no clear
    difference. "From b on" is b and every larger size measured, "up to b" every smaller one. It
    speaks of 200 hidden units, or where those were not measured of the middle size.

    Parameters
    ----------
    measurements : sequence of Measurement
        The last of every case.
    missing : str
        Why there is no GPU, where one was wanted.
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
        where = _range(part, list(by_size))
        if len(names) == 1:
            clauses.append(f"{names[0]} pays {where}")
        elif len(names) == len(devices):
            clauses.append(f"there is no clear difference between {_list(names)} {where}")
        else:
            clauses.append(
                f"{' or '.join(names)} pays {where}, with no clear difference between them"
            )
    return f"With {units} hidden units {_list(clauses, ', ')}."


def _about_one(rows: Sequence[Measurement], missing: str) -> str:
    best, *others = _leaders(rows)
    alone = (
        f"{best.device} is the only device here ({missing})"
        if missing
        else f"Only {best.device} was measured"
    )
    most = "is fastest" if len(rows) > 1 else "was measured"
    text = (
        f"{alone}; with {best.hidden} hidden units it {most} at batch size {best.batch_size},"
        f" {best.samples_per_second:,.0f} samples/s"
    )
    if others:
        text += f", with no clear difference to {_list([str(m.batch_size) for m in others])}"
    return f"{text}."


def _leaders(rows: Sequence[Measurement]) -> list[Measurement]:
    """Find the fastest by the median, then all whose spread overlaps with its."""
    best = max(rows, key=lambda m: m.samples_per_second)
    return [best, *(m for m in rows if m is not best and m.fastest >= best.slowest)]


def _range(part: Sequence[int], sizes: Sequence[int]) -> str:
    first, last = part[0], part[-1]
    if len(part) == len(sizes):
        return f"at every batch size measured, {first} to {last}" if first < last else _at(first)
    if last == sizes[-1]:
        return f"from batch size {first} on" if first < last else f"{_at(first)}, the largest"
    if first == last:
        return _at(first)
    return f"up to batch size {last}" if first == sizes[0] else f"from batch size {first} to {last}"


def _at(batch_size: int) -> str:
    return f"at batch size {batch_size}"


def _list(words: Sequence[str], before_and: str = " ") -> str:
    *rest, last = words
    return f"{', '.join(rest)}{before_and}and {last}" if rest else last


class _Case:
    """A device, a hidden size and a batch size, and the rates of the runs so far."""

    def __init__(
        self, backend: Backend, recipe: Recipe, batch_size: int, dataset: Dataset, seconds: float
    ) -> None:
        self.backend = backend
        self._recipe = recipe
        self._batch_size = batch_size
        self._dataset = dataset
        self._all = len(dataset.train_y)
        self._seconds = seconds
        self._samples = self._all
        self._scaled = False
        self._rates: list[float] = []

    def choose_samples(self) -> None:
        """Find how many samples take as long as a run is to take: whole batches, or all."""
        n = self._whole_batches(_CHECKED_SAMPLES)
        while n < self._all and self._run(n).seconds < self._seconds / 4:
            n = self._whole_batches(4 * n)
        self._samples = self._whole_batches(self._seconds * self._run(n).samples_per_second)
        self._scaled = self._samples < self._all

    def measure(self, matmul_gflops: float) -> Measurement:
        """Run once more."""
        report = self._run(self._samples)
        self._rates.append(report.samples_per_second)
        self._scaled |= isinstance(report, BatchProgress)
        rate = median(self._rates)
        classes = len(self._dataset.classes)
        sizes = [self._dataset.train_x.shape[1], *self._recipe.hidden, classes]
        gflops = rate * flops_per_sample(sizes) / 1e9
        return Measurement(
            device=self.backend.name,
            hidden=self._recipe.hidden[0],
            batch_size=self._batch_size,
            samples=self._samples,
            rounds=len(self._rates),
            samples_per_second=rate,
            slowest=min(self._rates),
            fastest=max(self._rates),
            epoch_seconds=self._all / rate,
            scaled=self._scaled,
            gflops=gflops,
            matmul_gflops=matmul_gflops,
            percent_of_matmul=100 * gflops / matmul_gflops,
        )

    def _whole_batches(self, samples: float) -> int:
        return min(self._all, max(1, int(samples) // self._batch_size) * self._batch_size)

    def _run(self, n: int) -> BatchProgress | EpochReport:
        """Train n samples, or as many as twice the wanted time allows."""
        _, reports = _training(self.backend, self._recipe, self._dataset, n, self._batch_size)
        for report in reports:
            if isinstance(report, EpochReport) or report.seconds > 2 * self._seconds:
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


def _training(
    backend: Backend, recipe: Recipe, dataset: Dataset, n: int, batch_size: int
) -> tuple[MLP, Iterator[BatchProgress | EpochReport]]:
    """Make a new network, and an epoch that trains it on the first n samples."""
    backend.make_current()
    model = build(recipe, dataset, backend=backend)
    reports = fit(
        model,
        dataset.train_x[:n],
        dataset.train_y[:n],
        epochs=1,
        batch_size=batch_size,
        learning_rate=recipe.learning_rate,
    )
    return model, reports


def _weights(model: MLP) -> np.ndarray:
    """All of them in one row."""
    return np.concatenate([w.ravel() for w in model.get_weights()])

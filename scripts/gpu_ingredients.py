"""The ingredients in scripts/gpu_check.py: this trainer, PyTorch and JAX with each of them.

What a contender needs is compiled or captured beforehand, as far as the time suffices, and kept in
its process. Before it is timed it shows that it computes what base.py does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from copy import copy
from typing import Any

import numpy as np

from benchmarks.gpu_peers import first_samples
from benchmarks.ingredient_peers import (
    CHECKED_EPOCHS,
    CHECKED_SAMPLES,
    CHECKED_UNITS,
    ON_GPU,
    OURS,
    Arrays,
    Contender,
    Reference,
    Work,
    start_arrays,
)
from scripts.gpu_limits import LIMIT_EXPLAINED, limits_of_step
from scripts.measuring import (
    PeerError,
    Row,
    as_contender,
    as_number,
    as_spread,
    as_table,
    largest_difference,
    median_ratio,
    summary,
)
from scripts.racing import FAILURES, Deadline, Processes, Race, run_races
from trainer import load

Cells = tuple[tuple[int, ...], int, tuple[str, ...]]  # hidden layers, batch size, ingredients
Call = tuple[Any, ...]  # contender, method and arguments

REFERENCE = "reference"
# of what an array changed by, in float32, where NumPy differs by 4e-4 and with Adam by 2e-2 in the
# deepest network: Adam divides by gradients that are hardly more than rounding
TIMED_TOLERANCE, ADAM_TOLERANCE = 3e-3, 5e-2
CHECKED_BATCHES = 2


class Prepared:
    """A contender in a process of its own, with what it has prepared."""

    def __init__(self, name: str, source: str, device: str, samples: int) -> None:
        kind = Reference if name == REFERENCE else ON_GPU[name]
        self._contender = kind(first_samples(load(source), samples), device)
        self._prepared: dict[Work, Contender] = {}

    def check(self, work: Work, dtype: str) -> Arrays:
        """Train a little and return what has been learned."""
        return copy(self._contender).check(work, dtype)

    def prepare(self, work: Work) -> None:
        """Compile or capture what a work needs, unless it is there."""
        if work not in self._prepared:
            contender = copy(self._contender)  # which shares the samples
            contender.prepare(work)
            contender.train()
            self._prepared[work] = contender

    def seconds(self, work: Work) -> float:
        """Train an epoch of a work and return how long it took."""
        self.prepare(work)
        return self._prepared[work].seconds()


def works_of(cells: Sequence[Cells], samples: int) -> list[Work]:
    """Return what is timed; an epoch has so many samples."""
    return [
        Work.of(hidden, batch, ingredient, samples)
        for hidden, batch, ingredients in cells
        for ingredient in ingredients
    ]


def checks(contender: str, work: Work) -> list[tuple[Work, str]]:
    """Return in what a contender is compared, and its dtype, before a work is timed.

    All in small in float64; ours, whose kernels depend on the sizes, also as it is timed.
    """
    small = [(work.checked(), "float64")]
    timed = [(work.quiet(CHECKED_BATCHES * work.settings.batch_size), "float32")]
    return small + timed * (contender == OURS)


class Ingredients(Processes):
    """The contenders' processes, and what they were asked to prepare.

    Parameters
    ----------
    source : str
        Of the data.
    device : {"gpu", "cpu"}
    samples : int
        Of the training set, 0 for all.
    without : sequence of str
        Contenders whose names begin so take no part.
    works : list of Work
        The most telling first.
    """

    def __init__(
        self, source: str, device: str, samples: int, without: Sequence[str], works: list[Work]
    ) -> None:
        self.names = [name for name in ON_GPU if not name.startswith(tuple(without))]
        self.works = works
        made = {name: (Prepared, name, source, device, samples) for name in self.names}
        super().__init__(made | {REFERENCE: (Prepared, REFERENCE, source, device, samples)})
        self._calls: dict[Call, Future[Any]] = {}
        self._outcomes: dict[Call, Any] = {}  # what was returned, or the error

    def prepare(self) -> None:
        """Start to check and to compile everything, and do not wait."""
        for work in self.works:
            for name in self.names:
                for small, dtype in checks(name, work):
                    self._start(REFERENCE, "check", small, "float64")
                    self._start(name, "check", small, dtype)
                self._start(name, "prepare", work)

    def _start(self, name: str, *call: Any) -> None:
        key = (name, *call)
        if key not in self._calls:
            try:
                self._calls[key] = self.process(name).start(*call)
            except PeerError as error:
                self._outcomes[key] = error

    def settle(self, seconds: float, grace: float) -> None:
        """Wait for what was started, so long; then start no more and wait for what has begun.

        What has not ended after the grace is ended with its process.
        """
        wait(self._calls.values(), seconds)
        begun = {key: call for key, call in self._calls.items() if not call.cancel()}
        ended, late = wait(begun.values(), grace)
        for key, call in begun.items():
            worker = self._workers[key[0]]
            if call in late:
                worker.kill()
            if call in ended:
                try:
                    self._outcomes[key] = worker.result(call)
                except FAILURES as error:
                    self._outcomes[key] = error
        self._calls.clear()

    def measure(
        self, report: Row, rounds: int, grace: float, until: Deadline, save: Callable[[], Any]
    ) -> None:
        """Time all that was prepared and is right, and add it to the report."""
        wrong: dict[tuple[str, str], list[str]] = {}
        late: dict[str, list[str]] = {}
        races = []
        for work in self.works:
            names = []
            for name in self.names:
                try:
                    if self._is_ready(name, work, report):
                        names.append(name)
                    else:
                        late.setdefault(name, []).append(work.name)
                except FAILURES as error:
                    wrong.setdefault((name, str(error)), []).append(work.name)
            races.append(WorkRace(self, work, names, rounds, grace))
        self._outcomes.clear()  # weights of large networks

        def save_times() -> None:
            report["ingredients"] = [race.row() for race in races if any(race.runs.values())]
            save()

        for (name, line), found in wrong.items():
            line = f"{line} ({_few(found)})"
            report["not_timed"].append(line)
            report["problems"] += [line] * (name == OURS)
        for name, found in late.items():
            report["cut"].append(f"{name}: not prepared in the time: {_few(found)}")
        run_races(races, until, save_times)
        for race in races:
            for name, line in race.wrong.items():
                report["not_timed"].append(line)
                report["problems"] += [line] * (name == OURS and "no answer" not in line)
            report["cut"] += race.cut()

    def _is_ready(self, name: str, work: Work, report: Row) -> bool:
        """Return whether a contender was compared and prepared.

        Raises
        ------
        ImportError, PeerError
            If it cannot, or does not compute the same.
        """
        for small, dtype in checks(name, work):
            found = self._outcomes.get((name, "check", small, dtype))
            wanted = self._outcomes.get((REFERENCE, "check", small, "float64"))
            for outcome in (found, wanted):
                if isinstance(outcome, Exception):
                    raise outcome
                if outcome is None:
                    return False
            row = {"contender": name, "name": small.name, "dtype": dtype}
            row |= compare(found, wanted, report["data"], small, dtype, name)
            if row not in report["ingredient_checks"]:
                report["ingredient_checks"].append(row)
            if not row["difference"] <= row["tolerance"]:
                raise PeerError(
                    f"{name}: does not compute the same in {dtype}: differs by "
                    f"{row['difference']:.1e} (allowed {row['tolerance']:g}) in {small.name}"
                )
        prepared = (name, "prepare", work)
        if isinstance(error := self._outcomes.get(prepared), Exception):
            raise error
        return prepared in self._outcomes


def compare(
    found: Arrays, wanted: Arrays, data: Row, work: Work, dtype: str, contender: str
) -> Row:
    """Return by how much what was learned differs from base.py's in float64.

    In float64 the largest difference of a number counts, as a share of its array's largest change,
    in float32 that of the arrays' norms, as single numbers may turn on rounding.
    """
    start = start_arrays(data["features"], work, data["classes"])
    if dtype == "float64":
        difference = largest_difference(found, wanted, start)
        return {"difference": difference, "tolerance": ON_GPU[contender].tolerance(work)}
    norm = np.linalg.norm
    shares = [norm(a - b) / norm(b - c) for a, b, c in zip(found, wanted, start, strict=True)]
    tolerance = ADAM_TOLERANCE if "adam" in work.settings.optimizer else TIMED_TOLERANCE
    return {"difference": float(np.max(shares)), "tolerance": tolerance}


class WorkRace(Race):
    """All contenders at one work, in seconds an epoch."""

    def __init__(
        self, team: Ingredients, work: Work, names: Sequence[str], rounds: int, grace: float
    ) -> None:
        super().__init__(work.name, names, rounds, grace)
        self._team, self._work = team, work

    def measure(self, name: str, seconds: float) -> float:
        found: float = self._team.call(name, "seconds", self._work, seconds=seconds)
        return found

    def row(self) -> Row:
        """Return what was measured, in seconds a step."""
        work = self._work
        steps = work.samples // work.settings.batch_size
        runs = {name: found for name, found in self.runs.items() if found}
        row: Row = {"hidden": list(work.hidden), "batch": work.settings.batch_size}
        row |= {"ingredient": work.ingredient, "samples": work.samples}
        row["times"] = {name: summary(found.values(), 1 / steps) for name, found in runs.items()}
        ours = runs.get(OURS, {})
        row["times_ours"] = {name: median_ratio(found, ours) for name, found in runs.items()}
        return row


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:2]) + f" and {len(names) - 2} more" * (len(names) > 2)


# --- the report ---------------------------------------------------------------------------

EXPLAINED = """\
Microseconds a step, an epoch's time over its steps: medians of the rounds, with the shortest and
the longest; the share of the limit; and × ours, the median of the rounds' ratios: above × 1 the
other is slower. All are ReLU networks with biases, softmax and cross-entropy, in float32 without
TF32. Each contender goes on learning the same batches, which lie on the device: ours as bytes, the
others' as float32. Ours is `EpochReport.seconds`, the training loss included. The optimiser is SGD
with a momentum of 0.9 where no other is named; a clip is 1, and what is dropped has the probability
0.2; `all` is AdamW with gelu, both kinds of dropout, clipping, batch normalisation and averaging.
`torch.compile` runs on a GPU in the mode "reduce-overhead", which makes CUDA graphs. What was not
timed is named below."""
CHECKED = f"""\
With each ingredient from the same weights, against base.py in float64: {CHECKED_EPOCHS} epochs of
{CHECKED_SAMPLES} samples in batches of 32, in a network with as many hidden layers, of
{CHECKED_UNITS} units each; the largest difference of a weight, gain, running moment or average, as
a share of its array's largest change. Ours also in float32, in the network and the batches that are
timed: the norm of an array's difference as a share of the norm of its change, of which more is
allowed to Adam, as it divides by gradients that may be hardly more than rounding. A clip of 0.1
acts. As each draws other noise, dropout is compared with nothing dropped."""


def ingredient_tables(report: Row) -> list[str]:
    """Format what a step takes with each ingredient, here and in others."""
    rows = report["ingredients"]
    names = [name for name in ON_GPU if any(name in row["times"] for row in rows)]
    blocks = []
    if rows:
        blocks = ["## Ingredients", EXPLAINED]
        blocks += [] if report["times"] else [LIMIT_EXPLAINED]
        blocks += ["; ".join(as_contender(name, ON_GPU[name].about) for name in names) + "."]
    for hidden, batch in dict.fromkeys((tuple(row["hidden"]), row["batch"]) for row in rows):
        group = [row for row in rows if (tuple(row["hidden"]), row["batch"]) == (hidden, batch)]
        sizes = [report["data"]["features"], *hidden, report["data"]["classes"]]
        table: list[list[str]] = [["", "limit, µs", "by", *names, "ours / momentum"]]
        plain = [r["times"].get(OURS) for r in group if r["ingredient"] == "momentum"]
        for row in group:
            work = Work.of(hidden, batch, row["ingredient"], row["samples"])
            limits = limits_of_step(report, sizes, batch, settings=work.settings, bias=True)
            by = max(limits, key=limits.__getitem__, default="")
            cells = [_step(row, name, limits.get(by)) for name in names]
            own = row["times"].get(OURS)
            ratio = own["median"] / plain[0]["median"] if own and any(plain) else None
            limit = as_number(1e6 * limits[by]) if by else "not measured"
            table.append(
                [row["ingredient"], limit, by, *cells, "" if ratio is None else as_number(ratio)]
            )
        network, samples = "-".join(map(str, sizes)), f"{group[0]['samples']:,}"
        blocks += [f"### {network}, batch size {batch}, {samples} samples", as_table(table)]
    return blocks


def _step(row: Row, name: str, limit: float | None) -> str:
    """Format what a contender's step takes."""
    if name not in row["times"]:
        return "–"
    time, ratio = row["times"][name], row["times_ours"][name]
    median, ends = as_spread(time, 1e6)
    share = "" if limit is None else f", {limit / time['median']:.0%}"
    times = "" if name == OURS or ratio is None else f", × {as_number(ratio)}"
    return f"{median} ({ends}){share}{times}"


def ingredients_checked(report: Row) -> list[str]:
    """Format how far each contender is from base.py."""
    rows = [("contender", "dtype", "cases", "worst", "in", "allowed")]
    for name, dtype in dict.fromkeys(
        (row["contender"], row["dtype"]) for row in report["ingredient_checks"]
    ):
        own = [
            row
            for row in report["ingredient_checks"]
            if (row["contender"], row["dtype"]) == (name, dtype)
        ]
        worst = max(own, key=lambda row: row["difference"] / row["tolerance"])
        cells = [f"{worst['difference']:.1e}", worst["name"], f"{worst['tolerance']:g}"]
        rows.append((name, dtype, str(len(own)), *cells))
    return [CHECKED, as_table(rows)] if len(rows) > 1 else []

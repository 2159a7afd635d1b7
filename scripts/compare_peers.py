"""Compare this trainer with what else trains such a network, side by side on this machine.

    python scripts/compare_peers.py                       # MNIST, all cores, seven rounds
    python scripts/compare_peers.py --data FOLDER --threads 2
    python scripts/compare_peers.py --quick               # about a minute, to see that it runs

The network is features-200-classes in float32 (784-200-10 for MNIST); the work is an epoch of
training at batch size 1, 128, 512 and 4096, and the answers to all test images. The others:

    numba    an afternoon's compiled loop that skips zero pixels; only batch size 1
    numpy    the lesson's loop, in column vectors; with batches, the same formulas on matrices
    jax      lax.scan under jit, the same formulas by hand
    torch    nn.Linear, autograd and optim.SGD, eager
    sklearn  MLPClassifier, solver sgd

Each first shows that it computes what this trainer does: a few hundred samples from the same
weights. One that does not is an error and is not timed; one whose package is missing is
skipped. Every contender has a process of its own, idle outside its turn, and they take
turns in rounds. Medians, spreads and ratios go to cpu.json and cpu.md in the folder --out.
Leave the machine alone meanwhile, some four minutes on two cores: where another process takes a
core, a matrix product on all cores waits for it, up to twenty times as long.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # this checkout is measured, not what may be installed

import numpy as np  # noqa: E402

from backends import describe_cpu  # noqa: E402
from benchmarks.peers import (  # noqa: E402
    ANSWERS,
    BATCHES,
    CHECKED_SAMPLES,
    CONTENDERS,
    HIDDEN,
    OURS,
    Contender,
    Machine,
    Ours,
    Weights,
)
from scripts.measuring import (  # noqa: E402
    Parser,
    PeerError,
    Row,
    Worker,
    as_contender,
    as_number,
    as_spread,
    as_table,
    compared,
    describe_machine,
    in_turns,
    load_average,
    machine_line,
    median_ratio,
    summary,
    use_cpu,
    write_report,
)
from trainer import DataError, Dataset, load  # noqa: E402

PACKAGES = ("numpy", "scipy", "numba", "scikit-learn", "torch", "jax", "jaxlib")
CHECKED_BATCHES = (1, 128)  # the last batch of 128 is a smaller one
# largest difference of a weight from ours in float64, as a share of its array's largest change
TOLERANCES = {"float64": 1e-9, "float32": 1e-3}
OTHER_ANSWERS = 1e-3  # share of test images whose class may differ by rounding


def contender(name: str, source: str) -> Contender:
    """Make one of `CONTENDERS` with the data it learns from."""
    kind, loss = CONTENDERS[name]
    return kind(load(source), loss)


# --- the comparison -----------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    rounds: int
    epoch: int  # samples
    slow: int  # samples at batch size 1, of contenders that are slow
    growth_seconds: float  # about, for each point of how the cost grows


def check(
    name: str, call: Callable[..., Any], reference: Callable[..., Any], start: Weights
) -> list[Row]:
    """Compare what a contender computes with ours in float64.

    Parameters
    ----------
    name : str
        In `CONTENDERS`.
    call, reference : callable
        ``call(method, *arguments)`` of the contender, and of ours under the same rule.
    start : list of arrays

    Raises
    ------
    PeerError
        If it does not compute the same.
    """
    rows = []
    for batch in [b for b in CHECKED_BATCHES if b in CONTENDERS[name][0].batches]:
        wanted = reference("check", start, "float64", batch)
        for dtype, tolerance in TOLERANCES.items():
            found = call("check", start, dtype, batch)
            row, wrong = compared(found, wanted, start, tolerance, OTHER_ANSWERS)
            rows.append({"contender": name, "batch": batch, "dtype": dtype} | row)
            if wrong:
                raise PeerError(
                    f"{name}: does not compute the same at batch size {batch} in {dtype}: {wrong}"
                )
    return rows


def race(
    workers: Mapping[str, Worker], starts: Mapping[str, Weights], plan: Plan, batch: int
) -> list[Row]:
    """Time a batch size in seconds a sample; `ANSWERS` predicts all test samples."""
    samples, jobs = {}, {}
    for name, worker in workers.items():
        kind, loss = CONTENDERS[name]
        if batch in kind.batches or (batch == ANSWERS and kind.predicts):
            samples[name] = min(plan.epoch, plan.slow if kind.slow and batch == 1 else plan.epoch)
            jobs[name] = partial(worker.call, "time", starts[loss], samples[name], batch)
    if batch == ANSWERS:
        jobs["machine"] = partial(workers["machine"].call, "first_product")
        samples = dict.fromkeys(jobs, 1)
    rows = []
    measured = in_turns(jobs, plan.rounds)
    for name, runs in measured.items():
        ours = OURS[CONTENDERS[name][1]]
        ratio = median_ratio(dict(enumerate(runs)), dict(enumerate(measured[ours])))
        assert ratio is not None  # each round has both
        ratio *= samples[ours] / samples[name]
        row = {"batch": batch, "contender": name, "samples": samples[name], "times_ours": ratio}
        rows.append(row | summary(runs, 1 / samples[name]))
    return rows


def cost_growth(ours: Worker, plan: Plan) -> list[Row]:
    """Time ours at batch size 1 over widths, depths and densities, in seconds a sample."""
    widths, densities = (50, 100, 200, 400, 800, 1600, 4096), (0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0)
    points: list[tuple[Any, ...]] = [((width,), None, False) for width in widths]
    points += [((HIDDEN,) * depth, None, False) for depth in (2, 3, 4)]
    points += [((HIDDEN,), density, dense) for density in densities for dense in (False, True)]
    jobs, rows = {}, []
    for point in points:
        ours.call("cost", *point, 64)  # what is compiled is compiled now
        n = int(plan.growth_seconds / ours.call("cost", *point, 256))
        n = max(256, min(plan.epoch, n))
        jobs[str(point)] = partial(ours.call, "cost", *point, n)
        rows.append(dict(zip(("hidden", "density", "dense", "samples"), (*point, n), strict=True)))
    runs = in_turns(jobs, plan.rounds)
    return [row | summary(runs[str(point)]) for row, point in zip(rows, points, strict=True)]


def new_worker(name: str, source: str, threads: int) -> Worker:
    """Start a contender's process."""
    return Worker(name, contender, name, source, threads=threads)


def compare(source: str, threads: int, plan: Plan) -> Row:
    """Check and measure everything."""
    data = load(source)
    plan = replace(plan, epoch=min(plan.epoch, len(data.train_x)))
    starts = {loss: Ours(data, loss).start_weights() for loss in OURS}
    report: Row = {
        "machine": describe_machine(threads, PACKAGES),
        "data": describe_data(data, plan),
    }
    report |= {"checks": [], "skipped": [], "failed": [], "times": []}
    use_cpu(threads)
    workers = {name: new_worker(name, source, threads) for name in CONTENDERS}
    for name, worker in list(workers.items()):
        loss = CONTENDERS[name][1]
        try:
            report["checks"] += check(name, worker.call, workers[OURS[loss]].call, starts[loss])
        except (ImportError, PeerError) as error:
            if name in OURS.values():
                raise PeerError(str(error)) from error  # nothing to compare with
            report["skipped" if isinstance(error, ImportError) else "failed"].append(str(error))
            print(f"not timed: {error}", flush=True)
            workers.pop(name).stop()
        else:
            print(f"checked: {name}", flush=True)
    for batch in (*BATCHES, ANSWERS):
        print(f"timing batch size {batch}" if batch else "timing the answers", flush=True)
        report["times"] += race(workers, starts, plan, batch)
    print("timing the machine's matrix products, then ours by width, depth and density", flush=True)
    product = {str(n): partial(workers["machine"].call, "product_rate", n) for n in {1, threads}}
    runs = in_turns(product, plan.rounds)
    report["product_gflops"] = {n: summary(rates) for n, rates in sorted(runs.items())}
    report["growth"] = cost_growth(workers["ours"], plan)
    for worker in workers.values():
        worker.stop()
    report["peak_mib"] = {}
    for batch in (1, 128):
        fresh = [new_worker("ours", source, threads) for _ in range(3)]
        report["peak_mib"][batch] = summary([w.call("peak_memory", HIDDEN, batch) for w in fresh])
        for worker in fresh:
            worker.stop()
    report["machine"]["load"].append(load_average())
    return report


def describe_data(data: Dataset, plan: Plan) -> Row:
    """Describe what is learned, and how much of it in a round."""
    numbers = {"train": len(data.train_x), "test": len(data.test_x)}
    numbers |= {"rounds": plan.rounds, "samples": plan.epoch}
    network = f"{data.train_x.shape[1]}-{HIDDEN}-{len(data.classes)}"
    non_zero = float(np.count_nonzero(data.train_x) / data.train_x.size)
    return {"name": data.name, "network": network, "non_zero": non_zero, **numbers}


# --- the report ---------------------------------------------------------------------------

METHOD = """\
- Every contender has a process of its own with the same number of threads and is idle while
  another measures. In a round each does its work once, each round starts with another, and a
  first round is dropped, compilation with it. Times are medians over the rounds with the shortest
  and the longest; "× ours" is the median of the rounds' ratios to this trainer *under the same
  rule*: above 1 the other is slower.
- Ours is `EpochReport.seconds` of the first epoch of a fresh network: conversion, input map and
  whatever is prepared once are in it. The others' inputs are scaled to float32 outside the time;
  the Numba loop takes the bytes as they are.
- The rules: `rashid` is the lessons', no bias; `squared_error` is its true gradient, for PyTorch's
  autograd, no bias; `cross_entropy` is softmax with biases, scikit-learn's only one.
- Where fewer samples than an epoch are measured, the column says how many.
"""


def markdown(report: Row) -> str:
    """Format the report as tables."""
    data = report["data"]
    rates = [
        f"{as_number(r['median'])} GFLOP/s on {n} thread{'s' * (n != '1')}"
        for n, r in report["product_gflops"].items()
    ]
    blocks = [
        f"# {data['network']} on {data['name']}, measured",
        f"{machine_line(report['machine'])} A float32 matrix product runs at {', '.join(rates)}.",
        f"Rounds: {data['rounds']}; an epoch of {data['samples']:,} of the {data['train']:,} "
        f"samples; {data['non_zero']:.0%} of the pixels are not zero.",
        *["A quick look: what is done once weighs more here than in a whole epoch."]
        * (data["samples"] < data["train"]),
        METHOD.strip(),
        *(f"Not timed: {line}." for line in report["skipped"] + report["failed"]),
    ]
    for batch in (*BATCHES, ANSWERS):
        title, unit, factor = f"Training, batch size {batch}", "s an epoch", data["train"]
        if batch == 1:
            unit, factor = "µs a sample", 1e6
        elif batch == ANSWERS:
            title, unit, factor = f"Answering {data['test']:,} test images", "ms", 1e3
        table = [("", "rule", unit, "min … max", "× ours", "samples")]
        for r in [r for r in report["times"] if r["batch"] == batch]:
            cells = (*_who(r["contender"]), *as_spread(r, factor), as_number(r["times_ours"]))
            table.append((*cells, f"{r['samples'] if batch else data['test']:,}"))
        blocks += [f"## {title}", as_table(table)]
    growth = report["growth"]
    own = [
        ("-".join(map(str, r["hidden"])), *as_spread(r, 1e6)) for r in growth if not r["density"]
    ]
    drawn = [r for r in growth if r["density"]]
    pairs = [
        (f"{sparse['density']:.0%}", *as_spread(sparse, 1e6), *as_spread(dense, 1e6))
        for sparse, dense in zip(drawn[::2], drawn[1::2], strict=True)
    ]
    peaks = [
        f"{as_number(p['median'])} MiB at batch size {b}" for b, p in report["peak_mib"].items()
    ]
    allowed = ", ".join(f"{tolerance:g} in {dtype}" for dtype, tolerance in TOLERANCES.items())
    blocks += [
        "## Ours at batch size 1: hidden layers, zeros",
        as_table([("hidden units", "µs a sample", "min … max"), *own]),
        "Synthetic pixels, by the share that is not zero; beside it only the matrix products that "
        "code needs in each block of 32 samples if it multiplies zeros too:",
        as_table([("not zero", "µs a sample", "min … max", "dense products", "min … max"), *pairs]),
        "## Memory",
        "A fresh process that loads the data, trains an epoch and evaluates holds at most "
        f"{', '.join(peaks)} (medians of three).",
        "## That all compute the same",
        f"{CHECKED_SAMPLES} samples from the same weights, against ours in float64: the largest "
        f"difference of a weight as a share of its array's largest change (allowed: {allowed}), "
        f"and the test images answered otherwise (allowed: {OTHER_ANSWERS:.1%}).",
        as_table([("", "rule", "batch sizes", *TOLERANCES, "other answers"), *_checks(report)]),
    ]
    return "\n\n".join(blocks) + "\n"


def _who(name: str) -> tuple[str, str]:
    kind, loss = CONTENDERS[name]
    if kind is Machine:
        return "a bare float32 product, images × first weights", ""
    return as_contender(name, kind.about), loss


def _checks(report: Row) -> Iterable[tuple[str, ...]]:
    for name in dict.fromkeys(r["contender"] for r in report["checks"]):
        rows = [r for r in report["checks"] if r["contender"] == name]
        worst = [max(r["difference"] for r in rows if r["dtype"] == dtype) for dtype in TOLERANCES]
        batches = ", ".join(str(b) for b in dict.fromkeys(r["batch"] for r in rows))
        answers = [r["other_answers"] for r in rows if r["other_answers"] is not None]
        others = f"{max(answers):.2%}" if answers else ""
        yield (*_who(name), batches, *(f"{w:.1e}" if w else "is it" for w in worst), others)


# --- the command --------------------------------------------------------------------------


def options(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    cores, parser = describe_cpu()["cores"], Parser(__doc__)
    add = parser.add_argument
    add("--data", default="mnist", help="as `trainer --data` takes it (default: mnist)")
    add("--threads", type=int, default=cores, help=f"of each contender (default: all, {cores})")
    add("--rounds", type=int, help="that count (default: 7, with --quick 2)")
    add("--out", type=Path, help="folder for both files (default: benchmarks, with --quick none)")
    add("--quick", action="store_true", help="a tenth of the samples, to see that it runs")
    given = parser.parse_args(argv)
    given.rounds = given.rounds if given.rounds is not None else 2 if given.quick else 7
    given.out = given.out or (None if given.quick else ROOT / "benchmarks")
    if not 1 <= given.threads <= cores:
        parser.error(f"--threads {given.threads}: expected 1 to {cores}, the cores there are")
    if given.rounds < 1:
        parser.error(f"--rounds {given.rounds}: expected one or more")
    return given


def main(argv: Sequence[str] | None = None) -> int:
    """Compare; return 1 if a contender failed, 2 for a mistake in the call."""
    given = options(argv)
    sizes = (6_000, 200, 0.03) if given.quick else (60_000, 2_000, 0.3)
    try:
        if given.out:
            given.out.mkdir(parents=True, exist_ok=True)
        report = compare(given.data, given.threads, Plan(given.rounds, *sizes))
        text = markdown(report)
        print(f"\n{text}")
        if given.out:
            written = write_report(given.out, "cpu", report, text)
            print(f"written: {', '.join(map(str, written))}")
    except KeyboardInterrupt:
        print("\ninterrupted; nothing was written", file=sys.stderr)
        return 130
    except (DataError, OSError, PeerError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1 if isinstance(error, PeerError) else 2
    for line in report["failed"]:
        print(f"error: {line}", file=sys.stderr)
    return 1 if report["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())

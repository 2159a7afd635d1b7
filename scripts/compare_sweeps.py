"""Compare where a sweep's runs are trained, and how their settings are chosen.

    python scripts/compare_sweeps.py [--data mnist] [--rounds 3] [--seeds 5] [--out benchmarks]

First the same sweep of 16 runs: one run at a time, a process a core, and by processes that Dask
and Ray start on this machine. The whole command is timed, in turns, with the start of the cluster.
Then 25 runs each: a grid of 5 × 5 values, Optuna's random sampler and its TPE, from the same
ranges, each with several seeds. Compared are the best run's accuracies, on the held-out samples
that chose it and on the test samples. Needs: pip install ".[dask,ray,optuna]". Writes sweeps.md and
sweeps.json.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from time import perf_counter

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # this checkout is measured, not what may be installed

from scripts.measuring import (  # noqa: E402
    Parser,
    Row,
    after_measuring,
    as_number,
    as_spread,
    as_table,
    before_measuring,
    in_turns,
    summary,
    write_report,
)

WAYS = {
    "one run at a time": ["--jobs", "1"],
    "a process a core": [],
    "Dask": ["--cluster", "dask"],
    "Ray": ["--cluster", "ray"],
}
SWEEP = ["--learning-rate", "0.05:0.4:0.05", "--seeds", "2", "--limit", "20000", "--epochs", "2"]
RUNS, TRIALS = 16, 25  # of that sweep, and of each way to choose
GRID = ["--learning-rate", "0.01,0.042,0.17,0.72,3", "--momentum", "0,0.25,0.5,0.75,0.95"]
RANGES = ["--learning-rate", "0.01:3:log", "--momentum", "0:0.95", "--trials", str(TRIALS)]
CHOSEN = {
    "grid": GRID,
    "random": [*RANGES, "--sampler", "random"],
    "tpe": [*RANGES, "--sampler", "tpe"],
}
NETWORK = ["--limit", "5000", "--validation", "5000", "--epochs", "3", "--batch-size", "32"]


def sweep(data: str, runs: int, *options: str) -> tuple[float, Row]:
    """Do a sweep of so many runs on the CPU; return the command's seconds and its last event."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "trainer", "sweep", "--data", data, "--device", "cpu"]
        command += [*options, "--json", "--out", str(Path(folder, "sweep"))]
        begun = perf_counter()
        done = subprocess.run(
            command,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        seconds, end = perf_counter() - begun, json.loads(done.stdout.splitlines()[-1])
    if end["finished"] != runs:
        raise RuntimeError(f"{end['finished']} of {runs} runs have ended")
    return seconds, end


def best(data: str, options: Sequence[str], seed: int) -> Row:
    """Return the accuracies of the run that a sweep found to be the best."""
    _, end = sweep(data, TRIALS, *NETWORK, *options, "--seed", str(seed), "--jobs", "1")
    return {name: end["standings"][0][name] for name in ("values", "accuracy", "test_accuracy")}


def as_text(report: Row, machine: str) -> str:
    """Format the report; the machine is a sentence."""
    first = report["seconds"]["one run at a time"]["median"]
    rows = [["where", "s", "range", "times as fast"]]
    for name, row in report["seconds"].items():
        rows.append([name, *as_spread(row, 1), as_number(first / row["median"])])
    chosen = [["chosen by", "held-out samples", "test samples", "worst seed, test"]]
    for name, seeds in report["chosen"].items():
        tests = [row["test_accuracy"] for row in seeds]
        held_out = median(row["accuracy"] for row in seeds)
        chosen.append([name, *(f"{value:.2%}" for value in (held_out, median(tests), min(tests)))])
    return "\n\n".join(
        [
            "# Sweeps",
            f"By `scripts/compare_sweeps.py` on {report['data']}. {machine}",
            "## Where the runs are trained",
            f"{RUNS} runs of 784-200-10, two epochs of 20,000 samples each"
            f" (`sweep {' '.join(SWEEP)}`): seconds of the whole command,"
            f" medians of {report['rounds']} after one that does not count, in turns."
            " Starting the cluster is part of it.",
            as_table(rows),
            "## How the values are chosen",
            f"{TRIALS} runs each, of 5,000 samples, three epochs in batches of 32, with learning"
            " rates from 0.01 to 3 and momentum from 0 to 0.95: a grid of 5 × 5 values, evenly"
            " spaced (the rates in their logarithm), or values of a sampler. Accuracies of the run"
            " that was the best on 5,000 held-out samples, medians of"
            f" {len(report['chosen']['grid'])} seeds.",
            as_table(chosen),
        ]
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write the report."""
    parser = Parser(__doc__)
    parser.add_argument("--data", default="mnist", help="60,000 samples")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("benchmarks"))
    given = parser.parse_args(arguments)
    machine = before_measuring(("joblib", "distributed", "ray", "optuna"))
    jobs = {
        name: lambda options=options: sweep(given.data, RUNS, *SWEEP, *options)[0]
        for name, options in WAYS.items()
    }
    times = {name: summary(runs) for name, runs in in_turns(jobs, given.rounds).items()}
    chosen = {
        name: [best(given.data, options, seed) for seed in range(given.seeds)]
        for name, options in CHOSEN.items()
    }
    line = after_measuring(machine)
    report: Row = {"data": Path(given.data).name, "rounds": given.rounds, "machine": machine}
    report |= {"seconds": times, "chosen": chosen}
    text = as_text(report, line) + "\n"
    print(text)
    write_report(given.out, "sweeps", report, text)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Measure what writing a run to the disk costs: python scripts/checkpoint_cost.py [--data mnist]

Runs `train` with the defaults except for --data, --checkpoint-every and --quiet, each in a process
of its own, in rounds, and adds up the time spent on checkpoints, and on the weights and numbers
that every epoch leaves. The share is of the whole training: compiling, learning, evaluating,
writing. Medians of --runs go to stdout and to checkpoints.json in the folder --out.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # this checkout is measured, not what may be installed

from scripts.measuring import Parser, machine_and_versions, write_report  # noqa: E402
from trainer.benchmarking import Rounds  # noqa: E402

INTERVALS = ("30s", "1", "0.1s")  # the default, every epoch, about every report

# only outermost calls are timed, so that nothing is counted twice
_TIMED = """
import json, sys, time
from trainer.cli import main
from trainer.commands import train
from trainer.running.recorder import Recorder
spent = {"checkpoint": 0.0, "epoch": 0.0, "all": 0.0}
count = 0

def timed(owner, name, into):
    inner = getattr(owner, name)
    def outer(*args, **options):
        global count
        started = time.perf_counter()
        before = spent["checkpoint"]
        result = inner(*args, **options)
        spent[into] += time.perf_counter() - started - (spent["checkpoint"] - before)
        return result
    setattr(owner, name, outer)

def counted(*args, **options):
    global count
    count += 1
    return save(*args, **options)

save = Recorder._write
Recorder._write = counted
timed(Recorder, "checkpoint", "checkpoint")
timed(Recorder, "epoch", "epoch")
timed(train, "_train", "all")
code = main(sys.argv[1:])
spent["all"] += spent["checkpoint"]
print(json.dumps(spent | {"count": count}))
sys.exit(code)
"""


def one(data: str, every: str, out: Path) -> dict[str, float]:
    """Train once; return the seconds by their cause, and the number of checkpoints."""
    arguments = ["train", "--data", data, "--checkpoint-every", every, "--out", str(out)]
    result = subprocess.run(
        [sys.executable, "-c", _TIMED, *arguments, "--device", "cpu", "--quiet"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if result.returncode:
        sys.exit(result.stderr.strip())
    spent: dict[str, float] = json.loads(result.stdout)
    return spent


def main() -> None:
    """Measure, print and write the report."""
    parser = Parser(__doc__)
    parser.add_argument("--data", default="mnist")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--out", type=Path, default=Path("benchmarks"))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)  # before the work, not after
    runs: dict[str, list[dict[str, float]]] = {every: [] for every in INTERVALS}
    rounds = Rounds(INTERVALS)
    with tempfile.TemporaryDirectory() as folder:
        for every in rounds.until(given.runs):
            runs[every].append(one(given.data, every, Path(folder, f"{every}-{rounds.done}")))
    table = {}
    for every, spent in runs.items():
        row = {
            "checkpoints": statistics.median(s["count"] for s in spent),
            "training_seconds": statistics.median(s["all"] for s in spent),
            "checkpoint_percent": statistics.median(
                100 * s["checkpoint"] / s["all"] for s in spent
            ),
            "epochs_percent": statistics.median(100 * s["epoch"] / s["all"] for s in spent),
        }
        table[every] = {name: round(value, 4) for name, value in row.items()}
        print(f"--checkpoint-every {every:<5} {table[every]}")
    report = {
        **machine_and_versions(),
        "data": Path(given.data).name,
        "runs": given.runs,
        "intervals": table,
    }
    write_report(given.out, "checkpoints", report)


if __name__ == "__main__":
    main()

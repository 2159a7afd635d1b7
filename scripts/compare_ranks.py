"""Compare a training by 1, 2 and 4 processes: python scripts/compare_ranks.py [--data mnist]

Each number of processes trains the same network with batches of 512, under mpirun on this machine:
once in float64, which must end with the same weights but for rounding, and in several rounds in
float32, which are timed. Counted is what is summed over the processes, and the time that a process
spends in it, waiting for the others included; beside it stands what summing so many bytes takes
where nothing is computed. Some minutes on two cores. The tables go to stdout, and to ranks.md and
ranks.json in the folder --out.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # this checkout is measured, not what may be installed

from scripts import mpi  # noqa: E402
from scripts.measuring import Parser, Row, as_number, as_table, summary  # noqa: E402
from trainer.benchmarking import Rounds  # noqa: E402

SECTION = "One machine"
COUNTS = (1, 2, 4)
# training samples, epochs of a timed run, and those of one in float64
LENGTHS = {"784-200-10": (60_000, 4, 1), "784-2500-2000-1500-1000-500-10": (2048, 3, 1)}
EQUAL = 1e-9  # in float64

# what a process runs: the trainer, whose sums over the processes are counted and timed
COUNTED = """
import json, os, statistics, sys, time
from collections import defaultdict
from pathlib import Path
from trainer.cli import main
from trainer.parallel import launched, launched_index
took = defaultdict(list)
if launched() > 1:
    from trainer.parallel import mpi
    plain = mpi.Communicator.sum
    def timed(self, buffer):
        started = time.perf_counter()
        total = plain(self, buffer)
        took[buffer.nbytes].append(time.perf_counter() - started)
        return total
    mpi.Communicator.sum = timed
code = main()
found = {size: [len(all_), statistics.median(all_)] for size, all_ in took.items()}
Path(os.environ["COUNTED"], f"{launched_index()}.json").write_text(json.dumps(found))
sys.exit(code)
"""

# sums of so many bytes, and nothing else
ALONE = """
import os, statistics, sys, time
from pathlib import Path
import numpy as np
from trainer.parallel import mpi
ranks = mpi.Communicator()
buffer, took = np.zeros(int(sys.argv[1]), np.uint8).view(np.float32), []
for turn in range(int(sys.argv[2]) + 3):
    started = time.perf_counter()
    ranks.sum(buffer)
    took.append(time.perf_counter() - started)
if ranks.index == 0:
    Path(os.environ["COUNTED"]).write_text(repr(statistics.median(took[3:])))
ranks.close()
"""


def train(
    name: str, count: int, given: Any, folder: Path, *, epochs: int, dtype: str
) -> tuple[list[Row], list[Row]]:
    """Train a network once; return the numbers of its epochs, and each process's sums."""
    folder.mkdir(parents=True)
    samples = min(LENGTHS[name][0], given.limit)
    command = [
        *mpi.mpirun("-n", str(count)),
        *(sys.executable, "-c", COUNTED, "train", "--data", given.data, "--device", "cpu"),
        *("--hidden", mpi.HIDDEN[name], "--batch-size", str(mpi.BATCH), "--dtype", dtype),
        *("--epochs", str(epochs), "--limit", str(samples), "--out", str(folder / "run")),
        "--quiet",
    ]
    mpi.run(command, folder / "log", COUNTED=str(folder))
    counted = [json.loads((folder / f"{rank}.json").read_text()) for rank in range(count)]
    return mpi.epochs(folder / "run"), counted


def equality(name: str, given: Any, folder: Path) -> dict[str, Row]:
    """Train in float64 by all numbers of processes, and compare with one."""
    found: dict[str, Row] = {}
    for count in COUNTS:
        here = folder / f"float64-{count}"
        metrics, _ = train(name, count, given, here, epochs=LENGTHS[name][2], dtype="float64")
        weights = mpi.weights(here / "run")
        alone = weights if count == 1 else mpi.weights(folder / "float64-1" / "run")
        found[str(count)] = {
            "difference": mpi.largest_difference(weights, alone),
            "test_accuracy": metrics[-1]["test_accuracy"],
            "train_loss": metrics[-1]["train_loss"],
        }
    return found


def exchange_alone(size: int, count: int, folder: Path, turns: int = 60) -> float:
    """Return the median seconds of summing so many bytes over processes, on an idle machine."""
    into = folder / "alone"
    command = [*mpi.mpirun("-n", str(count)), sys.executable, "-c", ALONE, str(size), str(turns)]
    mpi.run(command, folder / "alone.log", COUNTED=str(into))
    return float(into.read_text())


def summarised(runs: list[tuple[list[Row], list[Row]]]) -> Row:
    """Summarise the timed runs of one number of processes.

    The first epoch of each is left out of the seconds, as the samples are prepared in it.
    """
    metrics = [epoch for epochs, _ in runs for epoch in epochs[1:]]
    counted, epochs = runs[-1][1], len(runs[-1][0])
    sizes = {int(size): n for size, (n, _) in counted[0].items()}
    row: Row = {
        "epoch_seconds": summary(epoch["epoch_seconds"] for epoch in metrics),
        "test_accuracy": metrics[-1]["test_accuracy"],
    }
    if sizes:
        update, updates = max(sizes.items(), key=lambda item: item[0] * item[1])
        row |= {
            "bytes_an_update": update,
            "updates_an_epoch": updates / epochs,
            "bytes_an_epoch": sum(size * n for size, n in sizes.items()) / epochs,
            "exchange_seconds": statistics.median(
                process[str(update)][1] for _, processes in runs for process in processes
            ),
        }
    return row


def measure(name: str, given: Any, folder: Path) -> Row:
    """Compare all numbers of processes by one network."""
    print(f"{name}: float64", flush=True)
    found: Row = {"equality": equality(name, given, folder)}
    runs: dict[int, list[tuple[list[Row], list[Row]]]] = {count: [] for count in COUNTS}
    rounds = Rounds(COUNTS)
    for count in rounds.until(given.rounds):
        print(f"{name}: {count} processes, round {rounds.done + 1}", flush=True)
        here = folder / f"{count}-{rounds.done}"
        found_now = train(name, count, given, here, epochs=LENGTHS[name][1], dtype="float32")
        runs[count].append(found_now)
    found["counts"] = {str(count): summarised(of_one) for count, of_one in runs.items()}
    for count in COUNTS[1:]:
        row = found["counts"][str(count)]
        row["alone_seconds"] = exchange_alone(row["bytes_an_update"], count, folder)
    return found | {"samples": min(LENGTHS[name][0], given.limit)}


def tables(name: str, found: Row) -> str:
    """Format what was measured of a network."""
    titles = [
        "processes", "largest difference, float64", "test accuracy, float64", "s an epoch",
        "range", "times as fast", "MB an update", "MB an epoch", "share in exchange",
        "ms an exchange", "ms of it alone",
    ]  # fmt: skip
    rows = [titles]
    first = found["counts"]["1"]["epoch_seconds"]["median"]
    for count, row in found["counts"].items():
        seconds, equal = row["epoch_seconds"], found["equality"][count]
        cells = [
            count,
            "–" if count == "1" else f"{equal['difference']:.1e}",
            f"{equal['test_accuracy']:.2%}",
            as_number(seconds["median"]),
            f"{as_number(seconds['min'])} … {as_number(seconds['max'])}",
            as_number(first / seconds["median"]),
        ]
        if "bytes_an_update" in row:
            spent = row["exchange_seconds"] * row["updates_an_epoch"]
            cells += [
                as_number(row["bytes_an_update"] / 1e6),
                as_number(row["bytes_an_epoch"] / 1e6),
                f"{spent / seconds['median']:.0%}",
                as_number(row["exchange_seconds"] * 1e3),
                as_number(row["alone_seconds"] * 1e3),
            ]
        rows.append([*cells, *["–"] * (len(titles) - len(cells))])
    updates = found["counts"]["2"]["updates_an_epoch"]
    return f"{name}, {found['samples']:,} samples, {updates:.0f} updates an epoch:\n\n" + as_table(
        rows
    )


def as_text(report: Row, line: str) -> str:
    """Format the section."""
    rounds, data = report["rounds"], report["data"]
    return "\n\n".join(
        [
            f"`mpirun -n N --bind-to none python -m trainer --batch-size {mpi.BATCH}` on {data}, by"
            " scripts/compare_ranks.py. Seconds: the median of all epochs but the first of"
            f" {rounds} runs, which took turns. A process alone has all cores, each of several its"
            f" part; more processes than the {report['cores']} cores here share them. MB are those"
            " of the arrays that are summed over the processes. An exchange is the median sum of an"
            " update as a process sees it, waiting for the others included; alone, where nothing"
            " else is computed.",
            *(tables(name, found) for name, found in report["networks"].items()),
            line,
        ]
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write the report; return 1 if results are not equal."""
    parser = Parser(__doc__)
    parser.add_argument("--data", default="mnist")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--limit", type=int, default=60_000, help="samples at most")
    parser.add_argument("--networks", nargs="+", choices=LENGTHS, default=list(LENGTHS))
    parser.add_argument("--out", type=Path, default=Path("benchmarks"))
    given = parser.parse_args(arguments)
    if given.rounds < 1 or given.limit < mpi.BATCH:
        parser.error(f"--rounds: expected 1 or more, --limit: {mpi.BATCH} or more")
    machine = mpi.machine()
    report: Row = {"data": Path(given.data).name, "rounds": given.rounds, "networks": {}}
    report["cores"] = mpi.cores()
    with tempfile.TemporaryDirectory(prefix="ranks-") as folder:
        try:
            for name in given.networks:
                report["networks"][name] = measure(name, given, Path(folder, name))
        except mpi.RunFailed as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
    mpi.publish(given.out, SECTION, as_text, report, machine)
    wrong = [
        f"{name} by {count} processes: weights differ by {row['difference']:.1e}"
        for name, found in report["networks"].items()
        for count, row in found["equality"].items()
        if not row["difference"] <= EQUAL
        or row["test_accuracy"] != found["equality"]["1"]["test_accuracy"]
    ]
    for line in wrong:
        print(f"error: {line}", file=sys.stderr)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())

"""Kill one of several processes that train together, and resume: python scripts/kill_ranks.py

Trainings by three processes, in float64 on the digits and with checkpoints every fifth of a second,
are killed (SIGKILL) at random moments, from loading on, each time another process. Measured is how
long it takes until all processes have ended, what the program said, and whether one is left; then
the run is resumed, in turns by three processes, which must end with the bits of an undisturbed
training, and by two, which must end within 1e-9 of them. A run that was killed before its first
checkpoint has nothing to resume, and must say so. The table goes to stdout, and to ranks.md and
ranks.json in the folder --out; the exit code is 1 if anything is not as it should be.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # this checkout is tested, not what may be installed

from scripts import mpi  # noqa: E402
from scripts.measuring import Parser, Row, as_number, as_table  # noqa: E402

SECTION = "A process is killed"
COUNT, OTHER = 3, 2
EQUAL = 1e-9
PATIENCE = 60.0  # seconds until all have ended


def command(folder: Path, epochs: int, data: str) -> list[str]:
    """Return the command of a training."""
    return [
        *mpi.mpirun("-n", str(COUNT)),
        *mpi.trainer("--data", data, "--device", "cpu", "--batch-size", "32", "--shuffle"),
        *("--optimizer", "adam", "--learning-rate", "0.01", "--loss", "cross_entropy"),
        *("--dtype", "float64", "--epochs", str(epochs), "--checkpoint-every", "0.2s"),
        *("--out", str(folder), "--quiet"),
    ]


def ranks(run: Path) -> dict[int, int]:
    """Return the numbers of the processes that train into a folder, by their ranks."""
    found = {}
    for folder in Path("/proc").iterdir():
        with suppress(OSError):
            words = (folder / "cmdline").read_bytes().split(b"\0")
            if str(run).encode() in words:
                variables = (folder / "environ").read_bytes().split(b"\0")
                for variable in variables:
                    name, _, value = variable.partition(b"=")
                    if name == b"OMPI_COMM_WORLD_RANK":
                        found[int(value)] = int(folder.name)
    return found


def own_lines(log: str) -> list[str]:
    """Return what the program printed, without Open MPI's notes, which may come around it.

    Examples
    --------
    >>> own_lines("error: lost\\r\\n-----\\nprterun noticed that\\n-----\\n")
    ['error: lost']
    """
    found, is_note = [], False
    for line in log.replace("\r", "").split("\n"):
        if line.startswith("-----"):
            is_note = not is_note
        elif line.startswith("error: ") or (line.strip() and not is_note):
            found.append(line.strip())
    return found


def disturbed(data: str, run: Path, epochs: int, victim: int, seconds: float) -> Row:
    """Train, and kill a process so many seconds after all were there."""
    log = run.with_suffix(".log")
    process = mpi.start(command(run, epochs, data), log)
    while len(found := ranks(run)) < COUNT and process.poll() is None:
        time.sleep(0.005)
    time.sleep(seconds)
    row: Row = {"victim": victim, "after": seconds, "killed": False}
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.kill(found[victim], signal.SIGKILL)
            row["killed"] = True
    begun = time.monotonic()
    while (process.poll() is None or ranks(run)) and time.monotonic() - begun < PATIENCE:
        time.sleep(0.01)
    row |= {"seconds": time.monotonic() - begun, "left": len(ranks(run))}
    for number in ranks(run).values():
        os.kill(number, signal.SIGKILL)
    process.wait()
    said = own_lines(log.read_text(errors="replace"))
    checkpoints = sorted((run / "checkpoints").glob("epoch*.safetensors"))
    return row | {
        "said": [line.replace(str(run), "RUN") for line in said],
        "checkpoint": checkpoints[-1].stem if checkpoints else None,
    }


def resumed(run: Path, whole: Path, count: int) -> Row:
    """Resume a run by so many processes; return how it ended, compared with a whole one."""
    resume = mpi.trainer("--resume", str(run), "--quiet")
    log = run.with_suffix(".resumed")
    try:
        mpi.run([*mpi.mpirun("-n", str(count)), *resume], log)
    except mpi.RunFailed:
        said = own_lines(log.read_text(errors="replace"))
        return {"by": count, "resumed": False, "resume_said": said}
    models = [folder / "model.safetensors" for folder in (run, whole)]
    return {
        "by": count,
        "resumed": True,
        "same_bits": models[0].read_bytes() == models[1].read_bytes(),
        "difference": mpi.largest_difference(mpi.weights(run), mpi.weights(whole)),
    }


def faults(row: Row) -> list[str]:
    """Return what is not as it should be of a run that was killed and resumed."""
    found = []
    if row["left"]:
        found.append(f"{row['left']} processes were left")
    was_loading = row["checkpoint"] is None and not row["said"]  # before it had found the others
    if row["killed"] and len(row["said"]) != 1 and not was_loading:
        found.append(f"it said {len(row['said'])} lines")
    if row["checkpoint"] is None:
        return found
    if not row["resumed"]:
        found.append("it did not resume")
    elif row["by"] == COUNT and not row["same_bits"]:
        found.append("other bits")
    elif not row["difference"] <= EQUAL:
        found.append(f"weights differ by {row['difference']:.1e}")
    return found


def as_text(report: Row, line: str) -> str:
    """Format the section."""
    titles = [
        "killed", "s after the start", "newest checkpoint", "s until all had ended", "left",
        "said", "resumed by", "end",
    ]  # fmt: skip
    rows = [titles]
    for row in report["runs"]:
        end = "nothing to resume"
        if row["resumed"]:
            end = "the same bits" if row["same_bits"] else f"within {row['difference']:.1e}"
        rows.append(
            [
                f"process {row['victim']}" if row["killed"] else "none: it had ended",
                as_number(row["after"]),
                row["checkpoint"] or "none",
                as_number(row["seconds"]),
                str(row["left"]),
                f"{len(row['said'])} line{'s' * (len(row['said']) != 1)}",
                str(row["by"]),
                end,
            ]
        )
    lines = sorted({said for row in report["runs"] for said in row["said"]})
    faulty = [f"run {i}: {', '.join(f)}" for i, f in enumerate(report["faults"], 1) if f]
    return "\n\n".join(
        [
            f"Trainings by {COUNT} processes on {report['data']} ({report['epochs']} epochs, Adam,"
            " batches of 32, float64, a checkpoint every 0.2 s), of which one process was killed"
            " (SIGKILL) at a random moment after all had started; by scripts/kill_ranks.py.",
            as_table(rows),
            "What the program said, besides Open MPI's note:",
            "\n".join(f"- {said}" for said in lines),
            "Not as it should be: " + ("; ".join(faulty) or "nothing") + ".",
            line,
        ]
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Kill, resume, compare and write the report."""
    parser = Parser(__doc__)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--epochs", type=int, default=150)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--out", type=Path, default=Path("benchmarks"))
    given = parser.parse_args(arguments)
    rng, machine = random.Random(given.seed), mpi.machine()
    runs: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="kills-") as name:
        folder = Path(name)
        whole = folder / "whole"
        try:
            # first what is compiled, so that the length is that of a training
            mpi.run(command(folder / "first", 1, given.data), folder / "first.log")
            begun = time.monotonic()
            mpi.run(command(whole, given.epochs, given.data), folder / "whole.log")
        except mpi.RunFailed as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        length = time.monotonic() - begun
        for number in range(given.runs):
            run = folder / f"run{number}"
            moment = rng.random() * length
            row = disturbed(given.data, run, given.epochs, number % COUNT, moment)
            row |= resumed(run, whole, (COUNT, OTHER)[number % 2])
            runs.append(row)
            print(row, flush=True)
    found = [faults(row) for row in runs]
    report = {"data": Path(given.data).name, "epochs": given.epochs, "runs": runs, "faults": found}
    mpi.publish(given.out, SECTION, as_text, report, machine)
    return int(any(found))


if __name__ == "__main__":
    sys.exit(main())

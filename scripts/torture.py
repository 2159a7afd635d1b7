"""Kill trainings at random moments, resume them, and compare every bit with uninterrupted ones.

    python scripts/torture.py                      # 200 runs on MNIST and on the digits
    python scripts/torture.py --runs 20 --seed 7
    python scripts/torture.py --data digits        # without MNIST

Each run is a process of its own, killed (SIGKILL) at a random moment after its first checkpoint
and before its end, and then resumed once, in another process, to its end. It counts as right if
that exits with 0, the final weights and every epoch's numbers except the times are bit for bit
those of the same training without interruption, and every file in its folder can be read. Runs
take turns with these kinds of training, each in one thread:

    online        batch size 1, file order, 600 hidden units
    decayed       batch size 1 with momentum, decay and biases in float64, shuffled
    batches       batches of 32 with momentum, shuffled, held-out samples and the best checkpoint
    adam          batches of 64, shuffled
    drawn         single samples drawn with replacement, so many steps
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # this checkout is tested, not what may be installed

from trainer.running.metrics_file import COPY, FILE  # noqa: E402
from trainer.running.run_folder import Run, RunError  # noqa: E402
from trainer.weight_files import WeightFileError, read_safetensors  # noqa: E402

KINDS = {
    "online": "--hidden 600",
    "decayed": "--momentum 0.5 --learning-rate 0.05 --l2 5 --bias --dtype float64 --shuffle",
    "batches": "--batch-size 32 --momentum 0.9 --shuffle --validation 300",
    "adam": "--batch-size 64 --optimizer adam --loss cross_entropy --shuffle",
    "drawn": "--sampling with-replacement",
}
# epochs, to train for some seconds on one core
LENGTHS = {
    "mnist": {"online": 5, "decayed": 3, "batches": 6, "adam": 4, "drawn": 16},
    "digits": dict.fromkeys(KINDS, 250),
}
CHECKPOINTS = "0.02s"
_TIMES = ("epoch_seconds", "evaluation_seconds", "compile_seconds", "samples_per_second")
_PATIENCE = 300.0  # seconds for any process


class Failure(AssertionError):
    """A run did not survive; its message is one line."""


@dataclass(frozen=True)
class Whole:
    """An uninterrupted training: its results, and the seconds to its first checkpoint and end."""

    weights: bytes
    metrics: list[dict[str, object]]
    first_checkpoint: float
    end: float


def command(data: str, kind: str, out: Path) -> list[str]:
    """Return the command of a training."""
    length = LENGTHS["digits" if data == "digits" else "mnist"][kind]
    return [
        *("train", "--data", data, "--device", "cpu", *KINDS[kind].split()),
        *("--epochs", str(length), "--checkpoint-every", CHECKPOINTS, "--out", str(out)),
    ]


def started(arguments: Sequence[str]) -> subprocess.Popen[str]:
    """Start the trainer in one thread."""
    alone = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return subprocess.Popen(
        [sys.executable, "-m", "trainer", *arguments, "--quiet"],
        env=os.environ | alone | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process: subprocess.Popen[str], what: str) -> None:
    """Wait for a process; raise Failure unless it exits with 0 and prints nothing."""
    try:
        said, _ = process.communicate(timeout=_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        raise Failure(f"{what} hangs") from None
    if process.returncode != 0 or said:
        raise Failure(f"{what} exited with {process.returncode}: {said.strip()[-300:]}")


def until_first_checkpoint(process: subprocess.Popen[str], out: Path) -> None:
    """Wait for a run's first checkpoint, or for its end."""
    while process.poll() is None and not any((out / "checkpoints").glob("epoch*.safetensors")):
        time.sleep(0.002)


def metrics(run: Path) -> list[dict[str, object]]:
    """Return every epoch's numbers except the times."""
    return [
        {name: value for name, value in epoch.items() if name not in _TIMES}
        for epoch in Run.open(run).metrics()
    ]


def uninterrupted(data: str, kind: str, out: Path) -> Whole:
    """Train to the end without interruption."""
    process = started(command(data, kind, out))
    start = time.perf_counter()
    until_first_checkpoint(process, out)
    first = time.perf_counter() - start
    finish(process, f"{kind}, uninterrupted,")
    end = time.perf_counter() - start
    return Whole((out / "model.safetensors").read_bytes(), metrics(out), first, end)


def kill_and_resume(data: str, kind: str, out: Path, whole: Whole, moment: float) -> str:
    """Kill a training, resume it, and compare.

    Parameters
    ----------
    moment : float
        When it is killed, from 0 at its first checkpoint to 1 at its end.

    Returns
    -------
    str
        The checkpoint that was the newest when it was killed; empty if it had ended before.
    """
    process = started(command(data, kind, out))
    until_first_checkpoint(process, out)
    time.sleep(moment * (whole.end - whole.first_checkpoint))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    if process.returncode != -signal.SIGKILL:
        return ""
    newest = max(path.name for path in (out / "checkpoints").glob("epoch*.safetensors"))
    finish(started(["train", "--resume", str(out)]), f"{kind}, resumed,")
    if (out / "model.safetensors").read_bytes() != whole.weights:
        raise Failure(f"{kind}, killed after {newest}: other weights in {out}")
    if metrics(out) != whole.metrics:
        raise Failure(f"{kind}, killed after {newest}: other metrics in {out}")
    for path in out.rglob("*"):
        try:
            if path.suffix == ".safetensors":
                read_safetensors(path)
            elif path.is_file() and path.name not in ("config.json", FILE, COPY):
                raise Failure(f"{kind}, killed after {newest}: {path} is left over")
        except WeightFileError as error:
            raise Failure(f"{kind}, killed after {newest}: {error}") from error
    return newest


def torture(data: str, runs: int, seed: int, jobs: int, folder: Path) -> Iterator[tuple[str, str]]:
    """Kill and resume runs; yield each one's kind and the checkpoint it resumed from.

    Raises
    ------
    Failure
        For the first that did not survive; its folder is left as it was then.
    """
    rng = random.Random(seed)
    kinds = list(KINDS)
    plan = [(number, kinds[number % len(kinds)], rng.random()) for number in range(runs)]
    wholes: dict[str, Whole] = {}

    def one(number: int, kind: str, moment: float) -> tuple[str, str]:
        attempt = 0
        while True:
            out = folder / f"{number:04d}-{attempt}"
            newest = kill_and_resume(data, kind, out, wholes[kind], moment)
            if newest:
                return kind, newest
            attempt, moment = attempt + 1, moment * 0.8  # the machine is faster than it was

    with ThreadPoolExecutor(jobs) as pool:
        wanted = kinds[:runs]
        alone = pool.map(lambda kind: uninterrupted(data, kind, folder / kind), wanted)
        wholes |= zip(wanted, alone, strict=True)
        futures = [pool.submit(one, *item) for item in plan]
        try:
            for future in futures:
                yield future.result()
        finally:
            for future in futures:
                future.cancel()


def main(arguments: Sequence[str] | None = None) -> int:
    """Kill and resume as the command line says; return 1 if a run did not survive."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--data", default="mnist", help="mnist, a folder like it, or digits")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="runs at a time")
    given = parser.parse_args(arguments)
    if min(given.runs, given.jobs) < 1:
        parser.error("--runs and --jobs: expected one or more")
    start = time.perf_counter()
    seen: dict[str, list[str]] = {}
    with tempfile.TemporaryDirectory(prefix="torture-") as folder:
        try:
            for kind, newest in torture(
                given.data, given.runs, given.seed, given.jobs, Path(folder)
            ):
                seen.setdefault(kind, []).append(newest)
                done = sum(map(len, seen.values()))
                print(f"{done:>4} of {given.runs}: {kind:<8} resumed from {newest}", flush=True)
        except (Failure, RunError) as failure:
            print(f"error: {failure}", file=sys.stderr)
            return 1
    print()
    for kind, checkpoints in seen.items():
        inside = sum("+" in name for name in checkpoints)
        print(
            f"{kind:<8}  {len(checkpoints):>4} killed and resumed, {inside} of them inside an"
            f" epoch, from {len(set(checkpoints))} different checkpoints"
        )
    print(
        json.dumps(
            {
                "runs": given.runs,
                "seed": given.seed,
                "data": given.data,
                "right": sum(map(len, seen.values())),
                "seconds": round(time.perf_counter() - start),
            }
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())

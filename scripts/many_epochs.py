"""Measure whether late epochs cost more than early ones: python scripts/many_epochs.py

Trains XOR and the 8×8 digits for many short epochs, each in a process of its own that writes a run
folder, and prints seconds and resident memory of the first and the last hundred epochs. The first
hundred are counted from the end of the first epoch, which compiles. Linux only: memory is read from
/proc.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

ROOT = Path(__file__).resolve().parent.parent
XOR = "0,0.0,0.0\n1,0.0,1.0\n1,1.0,0.0\n0,1.0,1.0\n"
HUNDRED = 100


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--xor", type=int, default=20_000, help="epochs of XOR")
    parser.add_argument("--digits", type=int, default=5_000, help="epochs of the digits")
    chosen = parser.parse_args()
    print(f"Python {platform.python_version()}, {platform.platform()}")
    print(f"{'':>8}  {'epochs':>6}  {'checkpoints':>11}  {'first 100':>18}  {'last 100':>18}")
    with tempfile.TemporaryDirectory() as folder:
        xor = Path(folder, "xor.csv")
        xor.write_text(XOR)
        small = ["--hidden", "4", "--bias", "--loss", "cross_entropy", "--learning-rate", "0.5"]
        cases = {
            "XOR": (["--data", str(xor), "--test-data", str(xor), *small], chosen.xor),
            "digits": (["--data", "digits"], chosen.digits),
        }
        for name, (options, epochs) in cases.items():
            for every in ("30s", "1"):
                out = Path(folder, f"{name}-{every}")
                more = ["--epochs", str(epochs), "--checkpoint-every", every, "--out", str(out)]
                first, last = measure([*options, *more], epochs)
                print(f"{name:>8}  {epochs:>6,}  {every:>11}  {first:>18}  {last:>18}", flush=True)


def measure(options: list[str], epochs: int) -> tuple[str, str]:
    """Train; return seconds and MiB of the first hundred epochs and of the last."""
    if epochs <= 2 * HUNDRED:
        raise SystemExit(f"{epochs} epochs: expected more than {2 * HUNDRED}")
    command = [sys.executable, "-m", "trainer", "train", "--device", "cpu", "--json", *options]
    times: dict[int, tuple[float, float]] = {}
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            event = json.loads(line)
            if event["event"] == "epoch" and (
                event["epoch"] in (1, 1 + HUNDRED, epochs - HUNDRED, epochs)
            ):
                times[event["epoch"]] = perf_counter(), resident(process.pid)
    if process.returncode:
        raise SystemExit(process.returncode)
    return between(times[1], times[1 + HUNDRED]), between(times[epochs - HUNDRED], times[epochs])


def resident(process: int) -> float:
    """Return the MiB that a process has in memory."""
    status = Path(f"/proc/{process}/status").read_text()
    kib = next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(kib) / 1024


def between(start: tuple[float, float], end: tuple[float, float]) -> str:
    """Format the seconds between two moments, and the memory at the second."""
    return f"{end[0] - start[0]:.3f} s {end[1]:.0f} MiB"


if __name__ == "__main__":
    main()

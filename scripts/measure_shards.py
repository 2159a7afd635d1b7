"""Measure training on shards: python scripts/measure_shards.py FOLDER

The folder is one that `augment --write` has filled. Each training is a process of its own, whose
peak memory Linux tells (VmHWM in /proc/self/status); those on a part of the shards and on the same
samples in memory take turns, and medians are of all rounds but the first. At last one epoch of all
is stopped in its middle and goes on from its state; its weights are compared bit by bit with those
of an epoch that was never stopped. Writes benchmarks/shards.md.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

HOW: dict[str, Any] = {
    "batch_size": 100,
    "learning_rate": 0.1,
    "momentum": 0.9,
    "shuffle": True,
    "seed": 0,
}
UNITS = 200
KINDS = ("sharded", "in memory")


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--part", type=int, default=500_000, help="samples that memory holds")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kind", choices=[*KINDS, "cut"], help=argparse.SUPPRESS)
    parser.add_argument("--samples", type=int, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.kind:
        print(json.dumps(trained(chosen.folder, chosen.kind, chosen.samples)))
        return
    runs: dict[str, list[dict[str, Any]]] = {kind: [] for kind in KINDS}
    for _ in range(chosen.rounds + 1):
        for kind, found in runs.items():
            found.append(_in_a_process(chosen.folder, kind, chosen.part))
    whole = _in_a_process(chosen.folder, "sharded", None)
    cut = _in_a_process(chosen.folder, "cut", None)
    text = written(chosen.folder, runs, whole, cut)
    print(text)
    (ROOT / "benchmarks" / "shards.md").write_text(text)


def _in_a_process(folder: Path, kind: str, samples: int | None) -> dict[str, Any]:
    command = [sys.executable, __file__, str(folder), "--kind", kind]
    command += [] if samples is None else ["--samples", str(samples)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    print(kind, found, flush=True)
    return found


def trained(folder: Path, kind: str, samples: int | None) -> dict[str, Any]:
    """Train one epoch on the first samples, or all; return its speed, peak memory and bits."""
    import numpy as np

    from trainer import MLP, fit, load
    from trainer.training import EpochReport

    data = load(folder)
    x, y = data.train_x[:samples], data.train_y[:samples]
    if kind == "in memory":
        x = np.asarray(x)

    def training(state: Any = None) -> tuple[MLP, Any]:
        network = {"activation": "relu", "loss": "cross_entropy", "bias": True, "init": "he"}
        sizes = [x.shape[1], UNITS, len(data.classes)]
        model = MLP(sizes, backend="cpu", seed=0, scale=1 / 255, shift=0.0, **network)
        test = data.test_x, data.test_y
        return model, fit(model, x, y, epochs=1, test=test, state=state, **HOW)

    model, reports = training()
    stopped_at = 0
    if kind == "cut":
        for report in reports:
            stopped_at = report.samples
            if stopped_at >= len(y) // 2:
                break
        model, reports = training(reports.state())
    *_, last = reports
    assert isinstance(last, EpochReport)
    bits = hashlib.sha256(b"".join(w.tobytes() for w in model.get_weights())).hexdigest()
    return {
        "samples": len(y),
        "samples_per_second": last.samples_per_second,
        "test_accuracy": last.test_accuracy,
        "peak_mb": _peak_kb() / 1000,
        "stopped_at": stopped_at,
        "bits": bits[:16],
        "window": getattr(x, "window", 0),
    }


def _peak_kb() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024 // 1000
    raise RuntimeError("/proc/self/status has no VmHWM: Linux is wanted")


def written(
    folder: Path,
    runs: dict[str, list[dict[str, Any]]],
    whole: dict[str, Any],
    cut: dict[str, Any],
) -> str:
    """Return the page."""
    from scripts.measuring import load_average, machine_and_versions

    def row(what: str, found: list[dict[str, Any]]) -> str:
        speeds = [run["samples_per_second"] for run in found]
        ends = f"{min(speeds):,.0f} to {max(speeds):,.0f}"
        peak = max(run["peak_mb"] for run in found)
        return (
            f"| {what} | {found[0]['samples']:,} | {len(found)} |"
            f" {statistics.median(speeds):,.0f} | {ends} | {peak:,.0f} MB |"
        )

    facts = machine_and_versions()
    size = sum(file.stat().st_size for file in folder.iterdir())
    versions = ", ".join(f"{k} {v}" for k, v in facts["versions"].items() if v)
    warm = {kind: found[1:] for kind, found in runs.items()}
    alike = "have the same bits as" if whole["bits"] == cut["bits"] else "DIFFER in their bits from"
    lines = [
        "# Shards",
        "",
        f"Made by `python scripts/measure_shards.py FOLDER`, of {size / 1e9:.2f} GB that"
        f" `augment --write` had written. {facts['machine']}; {versions}; load average"
        f" {load_average() or 0:.1f} at the end.",
        "",
        f"An epoch of a network 784-{UNITS}-10, ReLU, in batches of {HOW['batch_size']} with"
        " momentum, shuffled, in a process of its own. Samples in shards are shuffled in windows of"
        f" {whole['window']:,}, those in memory as a whole. Speeds are medians of the runs, which"
        " took turns, after a first one of either that is not counted; memory is the largest VmHWM"
        " of them.",
        "",
        "| samples | how many | runs | samples/s | from … to | peak memory |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
        row("in memory", warm["in memory"]),
        row("in shards", warm["sharded"]),
        row("in shards, all of them", [whole]),
        "",
        f"Stopped after {cut['stopped_at']:,} of {cut['samples']:,} samples and gone on from the"
        f" state there, the epoch ends with weights that {alike} those of one never stopped"
        f" ({cut['test_accuracy']:.2%} of the test images right).",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()

"""After tens of thousands of epochs one more costs what the first did: counted, not timed."""

from __future__ import annotations

import gc
import os
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from trainer import MLP, EpochReport, fit
from trainer.cli import main
from trainer.running.recorder import Recorder

XOR = ([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], [0, 1, 1, 0])
MANY = [400, pytest.param(5_000, marks=pytest.mark.thorough)]


def kept() -> int:
    """Count the objects that Python keeps, but for the colours that rich caches."""
    gc.collect()
    kinds = Counter(map(type, gc.get_objects()))
    return sum(n for kind, n in kinds.items() if not str(kind.__module__).startswith("rich."))


def written() -> int:
    """Count the bytes that this process has written so far, anywhere."""
    return int(Path("/proc/self/io").read_text().split()[3])


@pytest.mark.parametrize("epochs", MANY)
@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, marks=pytest.mark.thorough),
        {"shuffle": True, "momentum": 0.5, "test": XOR},
        pytest.param(
            {"batch_size": 2, "optimizer": "adam", "averaging": 0.9}, marks=pytest.mark.thorough
        ),
        pytest.param(
            {"sampling": "with-replacement", "learning_rate": lambda step: 0.5 / (1 + step)},
            marks=pytest.mark.thorough,
        ),
    ],
)
def test_the_library_keeps_nothing_of_an_epoch(epochs, options):
    model = MLP([2, 4, 2], backend="cpu", bias=True, loss="cross_entropy", scale=1, shift=0)
    kept()  # the first time it keeps something itself
    counts = {}
    for report in fit(model, *map(np.array, XOR), epochs=epochs, **options):
        if isinstance(report, EpochReport) and report.epoch in (200, epochs):
            counts[report.epoch] = kept()
    assert counts[epochs] - counts[200] < 20


@pytest.fixture
def xor(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "fsync", lambda handle: None)  # what is counted does not hang on it
    rows = [",".join([str(y), *map(str, x)]) for x, y in zip(*XOR, strict=True)]
    Path("xor.csv").write_text("\n".join(rows) + "\n")
    network = ["--hidden", "4", "--bias", "--loss", "cross_entropy", "--learning-rate", "0.5"]
    return ["--data", "xor.csv", "--test-data", "xor.csv", "--device", "cpu", *network]


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="only Linux counts what is written")
@pytest.mark.parametrize("epochs", MANY)
@pytest.mark.parametrize(
    ("view", "options"),
    [
        pytest.param("plain", ["--checkpoint-every", "1"], marks=pytest.mark.thorough),
        ("terminal", ["--checkpoint-every", "1000000"]),
        pytest.param(
            "json",
            ["--checkpoint-every", "1", "--validation", "1", "--patience", "1000000"],
            marks=pytest.mark.thorough,
        ),
    ],
)
def test_the_program_keeps_and_writes_no_more_for_a_late_epoch(
    xor, monkeypatch, capfd, epochs, view, options
):
    if view == "terminal":
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    counts = {}
    keep = Recorder.epoch

    def count(keeper, metrics):
        keep(keeper, metrics)
        if metrics["epoch"] in (200, 300, epochs - 100, epochs):
            sys.stdout.flush()
            counts[metrics["epoch"]] = written(), kept() if metrics["epoch"] in (200, epochs) else 0

    monkeypatch.setattr(Recorder, "epoch", count)
    more = ["--json"] * (view == "json")
    assert main(["train", *xor, *options, "--epochs", str(epochs), *more, "--out", "o"]) == 0
    early, late = (
        counts[stop][0] - counts[start][0] for start, stop in ((200, 300), (epochs - 100, epochs))
    )
    assert late - early < 100 * 40  # digits more of the epoch's number and of the seconds
    objects = counts[epochs][1] - counts[200][1]
    assert objects < min(600, epochs - 200)  # less than one an epoch
    lines = Path("o/metrics.jsonl").read_bytes()
    assert lines.count(b"\n") == epochs


def test_a_sweep_of_many_short_epochs_ends(xor, capfd):
    options = [*xor[:-1], "0.1,0.5", "--epochs", "600", "--out", "o"]
    options.insert(options.index("--bias") + 1, "yes")
    assert main(["sweep", *options]) == 0
    assert Path("o/sweep.csv").read_text().count("done") == 2

"""--transpose: what a run records of it, and what it means for other data."""

from __future__ import annotations

import json

import numpy as np

from trainer import load
from trainer.cli import main
from trainer.running.usage import load_recorded

PICTURES = np.random.default_rng(0).integers(0, 256, (30, 8, 8), dtype=np.uint8)
Y = np.arange(30) % 3
OPTIONS = ["--device", "cpu", "--hidden", "4", "--epochs", "1"]


def test_a_run_keeps_how_its_images_were_taken(tmp_path, capsys):
    np.savez(tmp_path / "a.npz", x=PICTURES, y=Y)
    data, run = str(tmp_path / "a.npz"), tmp_path / "r"
    assert main(["--data", data, "--transpose", *OPTIONS, "--out", str(run)]) == 0
    recorded = json.loads((run / "config.json").read_text())["data"]
    assert recorded["transpose"] is True
    wanted = load(data, transpose=True)
    np.testing.assert_array_equal(load_recorded(recorded).test_x, wanted.test_x)
    assert main(["--resume", str(run), "--epochs", "2", "--quiet", "--transpose"]) == 0
    capsys.readouterr()
    assert main(["evaluate", str(run), "--device", "cpu", "--data", data]) == 0
    assert "not given for these images" in capsys.readouterr().err
    assert main(["evaluate", str(run), "--device", "cpu", "--data", data, "--transpose"]) == 0
    assert "its images are turned" in capsys.readouterr().err
    assert main(["evaluate", str(run), "--device", "cpu", "--transpose"]) == 2
    assert "expected it beside --data" in capsys.readouterr().err


def test_another_orientation_than_the_runs_is_refused_when_it_goes_on(tmp_path, capsys):
    np.savez(tmp_path / "a.npz", x=PICTURES, y=Y)
    run = tmp_path / "r"
    assert main(["--data", str(tmp_path / "a.npz"), *OPTIONS, "--out", str(run)]) == 0
    assert main(["--resume", str(run), "--epochs", "2", "--transpose"]) == 2
    assert "--transpose was no, not yes" in capsys.readouterr().err

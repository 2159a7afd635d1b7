"""What a training proposes at its end: by what was trained, and the app takes it as it stands."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainer.cli import app, main
from trainer.commands.next_steps import is_poor

CPU = ["--device", "cpu"]
ODD = "it's a run"  # which a shell needs quoted


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def proposed(out: str) -> list[list[str]]:
    """The words of the commands that the output ends with, each of which the app takes."""
    (block,) = re.findall(r"^ *next:? +(.*(?:\n +python.*)*)", out, re.M)
    commands = [shlex.split(line) for line in block.splitlines()]
    assert 1 <= len(commands) <= 3
    for command in commands:
        assert command[:3] == ["python", "-m", "trainer"]
        app.parse_args(command[3:], exit_on_error=False, print_error=False)
    return [command[3:] for command in commands]


def trained(capsys, *options: str) -> list[list[str]]:
    assert main([*options, *CPU, "--out", ODD]) == 0
    return proposed(capsys.readouterr().out)


def test_after_digits_they_can_be_drawn_and_asked_for(capsys):
    commands = trained(capsys, "--data", "digits", "--epochs", "5")
    assert [words[0] for words in commands] == ["evaluate", "demo", "backquery"]
    for words in (commands[0], commands[2]):
        assert main([*words, *CPU]) == 0


def test_after_a_table_other_rows_and_an_export_are_next(capsys):
    pytest.importorskip("onnx", reason="export --format onnx needs it")
    rng = np.random.default_rng(0)
    rows = rng.random((200, 2))
    text = "\n".join(f"{a:.3f},{b:.3f},{'yes' if a > b else 'no'}" for a, b in rows)
    Path("t.csv").write_text(f"a,b,label\n{text}\n")
    Path("new.csv").write_text("a,b\n0.9,0.1\n0.1,0.9\n")
    commands = trained(capsys, "--data", "t.csv", "--epochs", "60")
    assert [words[0] for words in commands] == ["evaluate", "predict", "export"]
    for words in commands:
        assert main([*words, *CPU] if words[0] != "export" else words) == 0
    answers = Path("answers.csv").read_text().splitlines()
    assert [row.split(",")[1] for row in answers] == ["answer", "yes", "no"]


def test_after_a_poor_training_a_rate_is_looked_for(capsys):
    commands = trained(capsys, "--data", "digits", "--epochs", "1", "--learning-rate", "1e-6")
    assert [words[0] for words in commands] == ["lr-find", "evaluate"]
    assert main([*commands[0], *CPU]) == 0
    assert "--learning-rate" in capsys.readouterr().out


def test_after_pictures_that_are_no_drawings_nothing_is_to_be_drawn(capsys):
    rng = np.random.default_rng(0)
    for name, level in (("dark", 60), ("light", 190)):
        Path("photos", name).mkdir(parents=True)
        for i in range(30):
            grey = rng.integers(level - 50, level + 50, (12, 12)).astype(np.uint8)
            Image.fromarray(grey).save(Path("photos", name, f"{i}.png"))
    commands = trained(capsys, "--data", "photos", "--epochs", "30")
    assert [words[0] for words in commands] == ["predict", "evaluate", "weights"]
    for words in commands:
        assert main([*words, *CPU]) == 0


def test_after_an_import_it_is_tested_first(capsys):
    np.savez("w.npz", W1=np.ones((64, 5)), W2=np.ones((5, 10)))
    options = ["--recipe", "digits-lesson", "--data", "digits", "--out", ODD]
    assert main(["import-weights", "w.npz", *options, *CPU]) == 0
    commands = proposed(capsys.readouterr().out)
    assert [words[0] for words in commands] == ["evaluate", "demo", "backquery"]
    assert commands[0][1] == ODD


def test_after_a_sweep_a_report_is_next(capsys):
    options = ["--epochs", "1", "--learning-rate", "0.1,0.2", "--jobs", "1", "--out", ODD]
    assert main(["sweep", "--data", "digits", *options, *CPU]) == 0
    ((command, folder),) = proposed(capsys.readouterr().out)
    assert main([command, folder]) == 0
    assert Path(ODD, "report.html").exists()


@pytest.mark.parametrize(
    ("accuracy", "counts", "poor"),
    [
        (0.1, [50] * 10, True),
        (0.15, [50] * 10, True),
        (0.3, [50] * 10, False),
        (0.9, [90, 10], True),
        (0.95, [90, 10], False),
        (1.0, [90, 0], False),  # nothing else can be learned
    ],
)
def test_poor_is_near_the_largest_class(accuracy, counts, poor):
    assert is_poor(accuracy, np.array(counts)) is poor

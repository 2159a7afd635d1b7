"""Terminals of 40 columns: no table is broken, and what has no room is a column as a whole."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.test_cli import ESCAPE, in_a_terminal
from trainer.cli import main

FAST = ["--data", "digits", "--device", "cpu"]


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("narrow") / "r1"
    assert main([*FAST, "--epochs", "2", "--quiet", "--out", str(path)]) == 0
    return str(path)


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def shown(*arguments: str) -> list[str]:
    """The lines that stay in a terminal of 40 columns, none of which is wider but a command."""
    text = ESCAPE.sub("", in_a_terminal(*arguments, columns=40))
    lines = [line.rstrip() for part in text.splitlines() for line in part.split("\r")]
    wide = [line for line in lines if len(line) > 40]
    assert [line for line in wide if not line.startswith("python -m trainer ")] == []
    return lines


def test_train_goes_without_the_last_column():
    lines = shown(*FAST, "--epochs", "2")
    (header,) = [line for line in lines if "loss  " in line]
    assert header.split() == ["epoch", "loss", "test", "seconds"]
    assert sum(bool(re.fullmatch(r" +[12] +0\.\d{6} +\d+\.\d\d % +[\d.]+", x)) for x in lines) == 2


def test_a_full_batch_training_goes_without_what_has_no_room():
    lines = shown(*FAST, "--recipe", "ex4", "--max-iterations", "2")
    (header,) = [line for line in lines if re.match(r" *iteration +loss", line)]
    assert header.split() == ["iteration", "loss", "test"]


def test_evaluate_breaks_no_number(run):
    lines = shown("evaluate", run, "--device", "cpu")
    assert "class precision recall     F1 support" in "\n".join(lines)
    assert sum(bool(re.match(r" +\d( +[01]\.\d{4}){3} +\d+$", line)) for line in lines) == 10


def test_sweep_goes_without_loss_and_seconds():
    options = ["--epochs", "1", "--learning-rate", "0.1,0.2", "--seeds", "2", "--jobs", "1"]
    lines = shown("sweep", *FAST, *options)
    assert [x.split() for x in lines if x.startswith("learning rate ")][-1] == [
        *("learning", "rate", "test", "±", "runs")
    ]
    commands = [line for line in lines if line.startswith("python -m trainer ")]
    assert len(commands) == 2  # each in a line of its own, to be copied
    assert "│" not in "".join(commands)


def test_bench_shows_the_rates_alone():
    options = ["--hidden", "50", "--batch-size", "32,512", "--seconds", "3"]
    lines = shown("bench", *FAST, *options)
    assert ["device", "hidden", "batch", "samples/s", "epoch", "s"] in [x.split() for x in lines]
    assert sum(bool(re.fullmatch(r" +cpu +50 +\d+ +[\d,]+ +~?[\d.]+", x)) for x in lines) >= 2
    assert Path("bench.png").exists()


@pytest.mark.parametrize("command", ["predict", "recipes", "devices"])
def test_other_commands_have_room(run, command):
    words = [run, "--device", "cpu"] if command == "predict" else []
    assert "…" not in "".join(shown(command, *words))

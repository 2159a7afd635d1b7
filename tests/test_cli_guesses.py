"""What people type before they have read the help: it works, or one line says what to type."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainer.cli import main

ROOT = Path(__file__).parents[1]
CPU = ["--device", "cpu"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with a run under runs/, a picture, a table, and the lesson's pair of weights."""
    path = tmp_path_factory.mktemp("guesses")
    run = ["--data", "digits", "--epochs", "2", "--quiet", "--out", str(path / "runs/r1")]
    assert main([*run, *CPU]) == 0
    Image.new("L", (40, 40), 255).save(path / "my_4.png")
    rng = np.random.default_rng(0)
    np.savetxt(path / "x.csv", rng.integers(0, 17, (5, 64)), "%d", delimiter=",")
    np.savetxt(path / "y.csv", rng.integers(0, 10, (5, 65)), "%d", delimiter=",")
    np.save(path / "wih.npy", rng.normal(size=(20, 64)))
    np.save(path / "who.npy", rng.normal(size=(10, 20)))
    return path


@pytest.fixture(autouse=True)
def _there(folder, monkeypatch):
    monkeypatch.chdir(folder)


def answer(capsys, *arguments: str) -> str:
    """What a command writes that succeeds."""
    assert main([*arguments]) == 0
    return capsys.readouterr().out


def test_a_class_may_stand_after_the_run(capsys):
    command = ["backquery", "runs/r1", "--json", *CPU]
    said = json.loads(answer(capsys, *command, "7", "3"))
    assert [field["label"] for field in said["labels"]] == [7, 3]
    assert said == json.loads(answer(capsys, *command, "--label", "7", "--label", "3"))


def test_one_recipe_is_shown_by_its_name(capsys):
    lines = answer(capsys, "recipes", "hundred").splitlines()
    assert [line for line in lines if line[:1].strip()] == ["hundred"]
    assert any(line.split() == ["limit", "100"] for line in lines)


def test_a_data_file_after_the_run_is_data(capsys):
    written = {}
    for words in (["x.csv"], ["--data", "x.csv"]):
        answer(capsys, "predict", "runs/r1", *words, "--out", "a.csv", *CPU)
        written[words[0]] = Path("a.csv").read_text()
    assert len(written["x.csv"].splitlines()) == 6
    assert written["x.csv"] == written["--data"]


def test_a_table_after_the_run_is_what_it_is_tested_on(capsys):
    command = ["evaluate", "runs/r1", "--json", *CPU]
    said = json.loads(answer(capsys, *command, "y.csv"))
    assert (said["run"], said["samples"]) == ("runs/r1", 5)
    assert said == json.loads(answer(capsys, *command, "--data", "y.csv"))


def test_two_matrices_are_one_network(capsys):
    options = ["--recipe", "digits-lesson", "--json", *CPU]
    said = json.loads(answer(capsys, "evaluate", "wih.npy", "who.npy", *options))
    turned = json.loads(answer(capsys, "evaluate", "who.npy", "wih.npy", *options))
    assert said["run"] == "wih.npy + who.npy"
    assert "each" not in said  # no committee
    assert said["confusion"] == turned["confusion"]


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("runs/r1", ["train --resume runs/r1;", "--config runs/r1;", "evaluate runs/r1."]),
        ("train runs/r1", ["train --resume runs/r1;", "train --config runs/r1;"]),
        ("sweep runs/r1", ["sweep --config runs/r1;"]),
        ("mnist", ["python -m trainer --data mnist."]),
        ("digits", ["python -m trainer --data digits."]),
        ("train x.csv", ["python -m trainer train --data x.csv."]),
        ("bench mnist", ["python -m trainer bench --data mnist."]),
        ("hundred", ["python -m trainer --recipe hundred."]),
        ("predict my_4.png", ["python -m trainer predict runs/r1 my_4.png"]),
        ("predict", ["no run is named", "python -m trainer predict runs/r1."]),
        ("demo --device cpu", ["no run is named", "python -m trainer demo runs/r1."]),
        ("predict runs/r1 x.csv", ["predict runs/r1 --data x.csv --out answers.csv"]),
        ("predict wih.npy who.npy", ["import-weights wih.npy who.npy --recipe book"]),
        ("evaluate wih.npy who.npy", ["wih.npy, who.npy: weights alone", "--recipe book"]),
        ("recipes hundrd", ["did you mean hundred?"]),
        ("--recipe fsat", ["did you mean fast?"]),
        ("backquery runs/r1 11", ["no such class", "0, 1, 2"]),
        ("evalute runs/r1", ["did you mean evaluate?"]),
    ],
)
def test_a_guess_gets_one_line_that_says_what_to_type(capsys, typed, words):
    assert main(typed.split()) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert [word for word in words if word not in err] == []


def test_predict_without_any_run_says_how_to_make_one(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["predict"]) == 2
    assert "make one with: python -m trainer;" in capsys.readouterr().err


@pytest.mark.parametrize("script", ["trainer", "trainer/__main__.py"])
def test_a_checkout_runs_by_its_folder_too(script, tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    result = subprocess.run(
        [sys.executable, str(ROOT / script), "recipes", "hundred"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("hundred\n")

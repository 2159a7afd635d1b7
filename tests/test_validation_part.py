"""Data with a validation part of its own, which is held out without an option."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from tests.test_cli_resume import outcome, refused, stopped
from trainer import MLP
from trainer.cli import main
from trainer.data import DataError, hold_out
from trainer.data.building import build
from trainer.data.dataset import Source
from trainer.data.tables import read_table
from trainer.running.run_folder import Run

PARTS = {"train": range(120), "valid": range(200, 240), "test": range(300, 350)}
DATA = ["--device", "cpu", "--hidden", "6", "--data", "d"]
FAST = [*DATA, "--learning-rate", "3"]


@pytest.fixture(scope="module")
def digits():
    x, y = load_digits(return_X_y=True)
    return (15 * x).astype(np.uint8), y


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch, digits):
    """Write some of the 8×8 digits as a folder d of images, and go there."""
    monkeypatch.chdir(tmp_path)
    x, y = digits
    for part, rows in PARTS.items():
        for row in rows:
            path = Path("d", part, str(y[row]), f"{row}.png")
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(x[row].reshape(8, 8)).save(path)


def train(*options):
    return main(["train", *FAST, "--quiet", *options])


def config(run):
    return json.loads(Path(run, "config.json").read_text())


def test_it_chooses_and_ends_with_patience(capsys, digits):
    assert main([*FAST, "--epochs", "60", "--patience", "3", "--out", "o"]) == 0
    said = capsys.readouterr().out
    words = "has a validation part: its 40 samples choose the best checkpoint and end --patience"
    assert f"{Path('d').absolute()} {words}\n" in said
    assert "d: 120 training, 40 held-out, 50 test samples" in said
    data = config("o")["data"]
    assert (data["train_samples"], data["validation_samples"], data["test_samples"]) == (
        *(120, 40, 50),
    )
    accuracies = [epoch["validation_accuracy"] for epoch in Run.open(Path("o")).metrics()]
    best = accuracies.index(max(accuracies)) + 1
    assert len(accuracies) == best + 3 < 60
    assert f"kept: the weights of epoch {best}," in said
    x, y = digits
    rows = PARTS["valid"]
    right = np.mean(MLP.load("o", backend="cpu").predict(x[rows]) == y[rows])
    assert max(accuracies) == pytest.approx(right)


@pytest.mark.parametrize("limit", [[], ["--limit", "70"]])
def test_a_run_that_is_interrupted_ends_with_the_same_bits(monkeypatch, limit):
    options = ["--epochs", "6", "--patience", "5", *limit]
    assert train(*options, "--out", "whole") == 0
    assert stopped(monkeypatch, 2, *options, "--out", "o", run=train) == 143
    assert main(["train", "--resume", "o", "--quiet"]) == 0
    assert outcome("o") == outcome("whole")
    assert main(["train", "--resume", "o", "--quiet", "--validation", "40"]) == 0


def test_its_samples_are_part_of_what_must_not_change(monkeypatch, capsys):
    assert stopped(monkeypatch, 1, "--epochs", "3", "--out", "o", run=train) == 143
    path = next(Path("d/valid").rglob("*.png"))
    Image.new("L", (8, 8), 77).save(path)
    assert "has changed since it began" in refused(capsys, "--resume", "o")


@pytest.mark.parametrize("absent", [["valid"], ["valid", "test"]])
@pytest.mark.parametrize("held_out", [[], ["--validation", "30"]])
def test_a_run_of_an_older_version_goes_on_without(monkeypatch, held_out, absent):
    Path("kept").mkdir()
    for part in absent:
        Path("d", part).rename(Path("kept", part))
    options = ["--epochs", "4", *held_out]
    assert train(*options, "--out", "whole") == 0
    assert stopped(monkeypatch, 2, *options, "--out", "o", run=train) == 143
    Path("kept/valid").rename("d/valid")  # which it passed over
    older = config("o")
    del older["data"]["has_validation_part"]
    Path("o/config.json").write_text(json.dumps(older))
    assert main(["train", "--resume", "o", "--quiet"]) == 0
    assert outcome("o") == outcome("whole")
    assert main(["evaluate", "o"]) == 0


def test_two_ways_to_hold_out_are_refused(capsys):
    said = refused(capsys, *FAST, "--validation", "20")
    assert "d has a validation part of its own, 40 samples: omit --validation 20" in said
    assert not Path("runs").exists()
    assert main(["sweep", *FAST, "--validation", "20"]) == 2


def test_without_a_test_part_nothing_is_held_out(capsys):
    Path("d/test").rename("elsewhere")
    assert main([*FAST, "--epochs", "1", "--out", "o"]) == 0
    assert "has no test part: its validation part tests" in capsys.readouterr().out
    data = config("o")["data"]
    assert (data["validation_samples"], data["test_samples"]) == (0, 40)
    assert main([*FAST, "--patience", "2"]) == 2
    assert "hold some training samples out for it" in capsys.readouterr().err
    # with other samples to test on it is free to choose
    options = ["--epochs", "1", "--test-data", "elsewhere", "--patience", "2", "--quiet"]
    assert main([*FAST, *options, "--out", "other"]) == 0
    data = config("other")["data"]
    assert (data["validation_samples"], data["test_samples"]) == (40, 50)


def test_a_sweep_ranks_by_it_and_goes_on(capsys):
    sweep = ["sweep", *DATA, "--jobs", "1", "--epochs", "2", "--learning-rate", "0.1,3"]
    assert main([*sweep, "--out", "s"]) == 0
    said = capsys.readouterr().out
    assert "ranked by the 40 samples of the validation part; the test set chose nothing" in said
    words = shlex.split(re.search(r"train: +python -m trainer (.*)", said)[1])
    assert main([*words, "--device", "cpu", "--quiet", "--out", "again"]) == 0
    lines = Path("s/sweep.csv").read_text().splitlines()
    names, *rows = [line.split(",") for line in lines]
    accuracies = [float(row[names.index("validation_accuracy")]) for row in rows]
    last = Run.open(Path("again")).metrics()[-1]
    assert last["validation_accuracy"] == max(accuracies)
    Path("s/sweep.csv").write_text("\n".join(lines[:2]) + "\n")
    assert main(["sweep", "--resume", "s", "--jobs", "1"]) == 0
    again = [line.split(",") for line in Path("s/sweep.csv").read_text().splitlines()]
    seconds = names.index("seconds")
    for row in (*again, *rows):
        row[seconds : seconds + 1] = []
    assert again[1:] == rows


# --- the data ---------------------------------------------------------------------------------


def a_source(**parts):
    x = np.arange(40, dtype=np.uint8)[:, None]
    return Source("a", "npz", "a.npz", (x, np.arange(40) % 2), **parts)


def test_it_is_coded_and_held_out():
    test = np.array([[1], [2]], np.uint8), np.array([1, 0])
    validation = np.array([[7.0], [8.0], [9.0]]), np.array([0, 5, 5])
    plain = build(a_source(test=test))
    data = build(a_source(test=test, validation=validation))
    assert data.classes == (0, 1, 5)
    assert "is of 5: 2 of 3 samples of a.npz (validation) can never be right" in data.note
    assert data.fingerprint() != plain.fingerprint() == build(a_source(test=test)).fingerprint()
    part, (x, y) = hold_out(data, 0)
    assert (x.tolist(), x.dtype, y.tolist()) == ([[7], [8], [9]], np.uint8, [0, 2, 2])
    np.testing.assert_array_equal(part.train_x, data.train_x)
    with pytest.raises(DataError, match=r"3 samples: omit --validation 2"):
        hold_out(data, 2)


@pytest.mark.parametrize(
    ("x", "y", "words"),
    [
        (np.zeros((1, 2), np.uint8), [0], r"but a\.npz \(validation\) has 2"),
        (np.full((1, 1), 0.5, np.float32), [0], r"a\.npz \(validation\) has values 0\.5…0\.5"),
        (np.zeros((1, 1), np.uint8), ["a"], "has integer labels, the other part names"),
    ],
)
def test_one_that_does_not_fit_is_refused(x, y, words):
    test = np.zeros((1, 1), np.uint8), np.array([0])
    with pytest.raises(DataError, match=words):
        build(a_source(test=test, validation=(x, np.array(y))))


def test_a_table_is_encoded_by_the_training_part():
    tables = {}
    rows = {"train": "1,x\n2,y\n3,x\n4,y\n", "test": "5,y\n", "valid": "6,x\n,z\n"}
    for part, cells in rows.items():
        Path(f"{part}.csv").write_text(f"size,kind\n{cells}")
        tables[part] = read_table(Path(f"{part}.csv"), fewest=1)
    train, test, validation = (
        (table, np.array(labels))
        for table, labels in zip(tables.values(), ([0, 1, 0, 1], [1], [0, 1]), strict=True)
    )
    source = Source("a", "csv", "a.csv", train, test, validation=validation, label="label")
    data = build(source)
    x, y = data.validation
    assert x.tolist() == [[6, 1, 0], [2.5, 0, 0]]  # the median, and no kind that is known
    assert y.tolist() == [0, 1]
    assert "validation samples: " in data.note

"""What is said of samples that are few, unbalanced, or of classes that were never trained."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

from trainer import MLP, load
from trainer.cli import main

ON = ["--data", "data.npz", "--device", "cpu"]
ONE_ANSWER = "every answer is no: the accuracy is only the share of that class"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def save(x, y, **more):
    np.savez("data.npz", x_train=np.asarray(x), y_train=np.asarray(y), **more)


def xor(scale=1):
    """The four samples of exclusive or, as 0 and 1 or as -1 and 1."""
    x = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], np.float32)
    save(x if scale == 1 else 2 * x - 1, [0, 1, 1, 0])


def unbalanced(rare=18, n=400, shift=0.0):
    y = np.array(["no"] * (n - rare) + ["yes"] * rare)
    rng = np.random.default_rng(0)
    x = rng.random((n, 3)).astype(np.float32) + shift * (y == "yes")[:, None].astype(np.float32)
    order = rng.permutation(n)
    save(x[order], y[order])


LEARNED = ["--hidden", "8", "--activation", "tanh", "--loss", "cross_entropy", "--bias"]
LEARNED += ["--optimizer", "adam", "--learning-rate", "0.1"]


@pytest.mark.parametrize("scale", [1, 2])
def test_xor_trains_on_all_its_samples_and_says_so(capsys, scale):
    xor(scale)
    learned = [*LEARNED, "--batch-size", "4", "--epochs", "200"]
    assert main(["train", *ON, *learned, "--out", "r"]) == 0
    out = capsys.readouterr().out
    assert "only 4 samples: all of them train" in out
    assert "4 training, the same samples test" in out
    assert "\n100.00 % of the 4 training samples right, too few to test on others\n" in out
    assert "test samples right" not in out
    assert json.loads(Path("r/config.json").read_text())["data"]["tests_on_training"] is True
    assert main(["evaluate", "r", "--device", "cpu"]) == 0
    assert "r on 4 training samples of data, which are all there are" in capsys.readouterr().out
    assert main(["train", "--resume", "r"]) == 0
    assert "100.00 % of the training samples right" in capsys.readouterr().out
    assert main(["train", "--resume", "r", "--epochs", "201", "--quiet"]) == 0


def test_unbalanced_classes_are_told_at_the_start_and_at_the_end(capsys):
    unbalanced()
    assert main(["train", *ON, "--out", "r"]) == 0
    out = capsys.readouterr().out
    data = load("data.npz")
    share = np.mean(data.train_y == 0)
    assert f"2 classes, {100 * share:.2f} % of the training samples are no" in out
    assert "balanced accuracy 50.00 %" in out
    assert ONE_ANSWER in out
    assert "--class-weight balanced" in out
    assert main(["evaluate", "r", "--device", "cpu"]) == 0
    out = capsys.readouterr().out
    assert "balanced accuracy 50.00 %" in out
    assert ONE_ANSWER in out
    assert main(["evaluate", "r", "--device", "cpu", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["balanced_accuracy"] == 0.5


@pytest.mark.parametrize("more", [["--patience", "3", "--validation", "40"], []])
def test_balanced_accuracy_is_that_of_the_weights_kept(capsys, more):
    unbalanced(rare=60, shift=0.4)
    options = [*LEARNED, "--batch-size", "32", "--epochs", "30", *more]
    assert main(["train", *ON, *options, "--json", "--out", "r"]) == 0
    end = json.loads(capsys.readouterr().out.splitlines()[-1])
    data, model = load("data.npz"), MLP.load("r", backend="cpu")
    expected = balanced_accuracy_score(data.test_y, model.predict(data.test_x))
    assert end["balanced_accuracy"] == pytest.approx(expected)
    assert 0.5 < expected < 1
    assert "one_answer" not in end


def test_a_full_batch_optimizer_tells_it_too(capsys):
    unbalanced()
    options = ["--optimizer", "cg", "--loss", "squared_error", "--max-iterations", "2"]
    assert main(["train", *ON, *options]) == 0
    out = capsys.readouterr().out
    assert ", balanced accuracy 50.00 %" in out
    assert ONE_ANSWER in out
    assert "--class-weight" not in out


def test_a_network_that_answers_one_class_of_balanced_ones_is_told_so(capsys):
    save(np.zeros((100, 3), np.float32), np.arange(100) % 2)
    assert main(["train", *ON]) == 0
    out = capsys.readouterr().out
    assert "every answer is" in out
    assert "balanced" not in out


def test_balanced_data_are_not_answered_again(monkeypatch, capsys):
    monkeypatch.setattr(MLP, "predict", None)
    assert main(["train", "--data", "digits", "--device", "cpu", "--epochs", "2"]) == 0
    assert "balanced accuracy" not in capsys.readouterr().out


def test_class_weight_is_kept_and_shown_and_helps(capsys):
    unbalanced(rare=30, shift=0.3)
    options = [*LEARNED, "--batch-size", "32", "--epochs", "20"]
    found = []
    for weight in ("none", "balanced"):
        assert main(["train", *ON, *options, "--class-weight", weight, "--json"]) == 0
        events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        start = next(event for event in events if event["event"] == "start")
        assert start["settings"]["class_weight"] == weight
        found.append(events[-1]["balanced_accuracy"])
    assert found[1] > found[0] + 0.05


def test_class_weight_does_not_go_with_single_samples_nor_with_all(capsys):
    unbalanced()
    weighted = ["train", *ON, "--class-weight", "balanced"]
    assert main(weighted) == 2
    assert "--class-weight balanced goes with batches: take --batch-size 32" in (
        capsys.readouterr().err
    )
    assert main([*weighted, "--optimizer", "cg", "--loss", "squared_error"]) == 2
    assert "--class-weight balanced: not with --optimizer cg" in capsys.readouterr().err


def test_class_weight_resumes_to_the_bit():
    unbalanced()
    options = [*ON, *LEARNED, "--batch-size", "32", "--shuffle", "--quiet"]
    options += ["--class-weight", "balanced"]
    assert main(["train", *options, "--epochs", "4", "--out", "whole"]) == 0
    assert main(["train", *options, "--epochs", "2", "--out", "cut"]) == 0
    assert main(["train", "--resume", "cut", "--epochs", "4", "--quiet"]) == 0
    assert Path("cut/model.safetensors").read_bytes() == (
        Path("whole/model.safetensors").read_bytes()
    )


def test_a_sweep_tries_class_weights(capsys):
    unbalanced()
    options = ["--batch-size", "32", "--epochs", "2", "--class-weight", "none,balanced"]
    assert main(["sweep", *ON, *options, "--jobs", "1", "--out", "s"]) == 0
    assert "class_weight" in Path("s/sweep.csv").read_text().splitlines()[0]


def test_a_run_that_is_older_than_the_order_goes_on_in_its_own(monkeypatch):
    x = np.random.default_rng(0).random((60, 3)).astype(np.float32)
    y = np.repeat([0, 1, 2], 20)
    save(x, y, x_test=x, y_test=y)
    with monkeypatch.context() as older:
        older.setattr("trainer.data.building.stand_by_class", lambda codes: False)
        for name, epochs in (("whole", "4"), ("cut", "2")):
            assert main(["train", *ON, "--quiet", "--epochs", epochs, "--out", name]) == 0
    file = Path("cut/config.json")
    config = json.loads(file.read_text())
    del config["data"]["shuffled"], config["data"]["tests_on_training"]
    file.write_text(json.dumps(config))
    assert main(["train", "--resume", "cut", "--epochs", "4", "--quiet"]) == 0
    assert Path("cut/model.safetensors").read_bytes() == (
        Path("whole/model.safetensors").read_bytes()
    )
    assert main(["train", *ON, "--quiet", "--epochs", "4", "--out", "now"]) == 0
    assert Path("now/model.safetensors").read_bytes() != (
        Path("whole/model.safetensors").read_bytes()
    )


def test_a_class_that_only_the_test_samples_have_is_named(capsys):
    x, y = np.zeros((40, 2), np.float32), np.array(["no", "yes"] * 20)
    save(x, y, x_test=x[:10], y_test=np.array(["maybe"] * 10))
    assert main(["train", *ON]) == 0
    out = capsys.readouterr().out
    assert "no training sample is of maybe: 10 of 10 samples of" in out
    assert "can never be right" in out

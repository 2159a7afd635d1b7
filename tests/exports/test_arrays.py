"""Plain arrays: each export holds all that is needed to answer, without this program."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.io import loadmat
from scipy.special import expit, softmax

from trainer import MLP, load
from trainer.cli import main

from .conftest import TABLE
from .test_onnx import NETWORKS, RELU

HIDDEN = {"sigmoid": expit, "relu": lambda z: np.maximum(z, 0), "tanh": np.tanh}
OUTPUT = {"sigmoid": expit, "softmax": lambda z: softmax(z, axis=1)}


def computed(facts, layers: list[tuple[np.ndarray, np.ndarray | float]]) -> np.ndarray:
    """What anybody would compute of an export's arrays and its facts."""
    a = load("digits").test_x * np.asarray(facts["scale"]) + np.asarray(facts["shift"])
    for i, (W, b) in enumerate(layers):
        z = a @ W + b
        last = i == len(layers) - 1
        a = OUTPUT[str(facts["output"])](z) if last else HIDDEN[str(facts["activation"])](z)
    return a


def written(run: Path, format: str, out: Path) -> Path:
    assert main(["export", str(run), "--format", format, "--out", str(out)]) == 0
    return out


@pytest.mark.parametrize("name", ["rashid", "relu", "tanh", "standardised", "float64"])
@pytest.mark.parametrize("format", ["npz", "csv", "mat"])
def test_the_arrays_and_what_is_with_them_give_the_answers(format, name, trained_run, tmp_path):
    run = trained_run(*NETWORKS[name])
    wanted = np.asarray(MLP.load(run, backend="cpu").predict_proba(load("digits").test_x))
    if format == "npz":
        with np.load(written(run, format, tmp_path / "w.npz"), allow_pickle=False) as file:
            facts = dict(file)
    elif format == "csv":
        folder = written(run, format, tmp_path / "w")
        facts = json.loads((folder / "network.json").read_text())
        for file in folder.glob("*.csv"):
            facts[file.stem] = np.loadtxt(file, delimiter=",", ndmin=2)
            if file.stem[0] == "b":
                facts[file.stem] = facts[file.stem].reshape(-1)
    else:
        facts = loadmat(written(run, format, tmp_path / "w.mat"), squeeze_me=True)
    assert list(facts["classes"]) == ([*range(1, 10), 0] if format == "mat" else [*range(10)])
    if format == "mat":
        # MATLAB's order: images column by column, the digit 0 last
        order = np.arange(64).reshape(8, 8).T.reshape(-1)
        layers = []
        while f"Theta{len(layers) + 1}" in facts:
            theta = facts[f"Theta{len(layers) + 1}"].T
            layers.append((theta[1:], theta[0]))
        back = np.argsort(order)
        layers[0] = (layers[0][0][back], layers[0][1])
        for part in ("scale", "shift"):
            facts[part] = facts[part][back] if np.ndim(facts[part]) else facts[part]
        answers = computed(facts, layers)
        np.testing.assert_allclose(answers, wanted[:, [*range(1, 10), 0]], rtol=0, atol=1e-5)
        return
    count = sum(key[0] == "W" and key[1:].isdecimal() for key in facts)
    layers = [(facts[f"W{i}"], facts.get(f"b{i}", 0.0)) for i in range(1, count + 1)]
    np.testing.assert_allclose(computed(facts, layers), wanted, rtol=0, atol=1e-5)


def test_a_pair_has_the_rest_beside_it(trained_run, tmp_path):
    run = trained_run(*NETWORKS["rashid"])
    folder = written(run, "npy-pair", tmp_path / "pair")
    facts = json.loads((folder / "network.json").read_text())
    layers = [(np.load(folder / name).T, 0.0) for name in ("weights02.npy", "weights.npy")]
    wanted = np.asarray(MLP.load(run, backend="cpu").predict_proba(load("digits").test_x))
    np.testing.assert_allclose(computed(facts, layers), wanted, rtol=0, atol=1e-5)


def test_a_tables_columns_are_there(trained_run, tmp_path):
    run = trained_run("--data", str(TABLE), "--label", "kind")
    with np.load(written(run, "npz", tmp_path / "w.npz"), allow_pickle=False) as file:
        columns = json.loads(str(file["columns"]))
        assert file["classes"].tolist() == ["a", "b", "c"]
    recorded = json.loads((run / "config.json").read_text())["data"]["columns"]
    assert columns == recorded


@pytest.mark.parametrize("format", ["npz", "csv", "torch", "onnx"])
@pytest.mark.parametrize("name", ["relu", "tanh", "scaled_tanh", "float64", "no hidden layer"])
def test_what_is_exported_answers_the_same_without_a_recipe(
    format, name, trained_run, tmp_path, monkeypatch
):
    if format == "onnx":
        pytest.importorskip("onnx", reason="the package onnx is not installed")
    monkeypatch.chdir(tmp_path)
    run = trained_run(*NETWORKS[name])
    out = {"npz": "w.npz", "csv": "w", "torch": "w.safetensors", "onnx": "w.onnx"}[format]
    written(run, format, Path(out))
    assert main(["import-weights", out, "--out", "again"]) == 0
    x = load("digits").test_x
    wanted, found = (
        np.asarray(MLP.load(path, backend="cpu").predict_proba(x)) for path in (run, "again")
    )
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)


def test_weights_for_other_classes_are_refused(trained_run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run = trained_run("--data", str(TABLE), "--label", "kind")
    written(run, "npz", Path("w.npz"))
    inputs = range(MLP.load(run, backend="cpu").sizes[0])
    rows = [",".join([*(f"f{j}" for j in inputs), "y"])]
    rows += [",".join([*(str(i * j % 7) for j in inputs), "xyz"[i % 3]]) for i in range(30)]
    Path("other.csv").write_text("\n".join(rows))
    capsys.readouterr()
    assert main(["import-weights", "w.npz", "--data", "other.csv"]) == 2
    assert "answers the classes a, b, c; other has x, y, z" in capsys.readouterr().err


def test_a_start_from_another_activation_is_taken_or_refused(
    trained_run, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    run = trained_run(*RELU)
    start = ["train", "--data", "digits", "--init-from", str(run), "--epochs", "1", "--quiet"]
    start += ["--loss", "cross_entropy"]
    assert main([*start, "--learning-rate", "0", "--out", "a"]) == 0
    assert MLP.load("a", backend="cpu").spec.activation == "relu"
    assert main([*start, "--activation", "tanh", "--out", "b"]) == 2
    assert "units, relu and biases; omit --activation" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "start"), [("a.html", b"<!doctype html>"), ("a.npz", b"PK"), ("a.mat", b"MATLAB")]
)
def test_a_suffix_says_the_format(name, start, trained_run, tmp_path):
    assert main(["export", str(trained_run(*RELU)), "--out", str(tmp_path / name)]) == 0
    assert (tmp_path / name).read_bytes().startswith(start)

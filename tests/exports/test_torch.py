"""State dicts for PyTorch, loaded by the lines that the command prints."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

from trainer import MLP, load
from trainer.cli import main

from .conftest import TABLE
from .test_onnx import NETWORKS, RELU

# what PyTorch's modules of these names compute
FUNCTIONS = {
    "Sigmoid()": lambda z: 1 / (1 + np.exp(-z)),
    "Tanh()": np.tanh,
    "ReLU()": lambda z: np.maximum(z, 0),
    'GELU(approximate="tanh")': lambda z: (
        0.5 * z * (1 + np.tanh(np.sqrt(2 / np.pi) * (z + 0.044715 * z**3)))
    ),
    "Softmax(dim=1)": lambda z: (
        np.exp(z - z.max(axis=1, keepdims=True))
        / np.exp(z - z.max(axis=1, keepdims=True)).sum(axis=1, keepdims=True)
    ),
}


def exported(run: Path, out: Path, capsys) -> list[str]:
    """Export; return the lines that load it."""
    assert main(["export", str(run), "--format", "torch", "--out", str(out)]) == 0
    return [line for line in capsys.readouterr().out.splitlines() if not line.startswith(" ")]


@pytest.mark.parametrize("name", NETWORKS)
def test_linear_layers_and_functions_give_the_networks_answers(name, trained_run, tmp_path, capsys):
    run, file = trained_run(*NETWORKS[name]), tmp_path / "m.safetensors"
    lines = exported(run, file, capsys)
    [built] = [line for line in lines if line.startswith("model = ")]
    modules = re.findall(r"nn\.(Linear\([^)]*\)|\w+\([^)]*\))", built.split("Sequential", 1)[1])
    tensors, a = load_file(file), load("digits").test_x.astype(np.float64)
    x = a
    for i, module in enumerate(modules):
        if not module.startswith("Linear"):
            a = FUNCTIONS[module](a)
            continue
        W = tensors.pop(f"{i}.weight")
        assert module.startswith(f"Linear({W.shape[1]}, {W.shape[0]}")
        a = a @ W.T.astype(np.float64)
        if "bias=False" not in module:
            a = a + tensors.pop(f"{i}.bias")
    assert not tensors
    wanted = np.asarray(MLP.load(run, backend="cpu").predict_proba(x))
    np.testing.assert_allclose(a, wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_pytorch_itself_gives_the_networks_answers(name, trained_run, tmp_path, capsys):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    run, file = trained_run(*NETWORKS[name]), tmp_path / "m.safetensors"
    x = load("digits").test_x
    names = {"values": torch.from_numpy(x)}
    exec("\n".join(exported(run, file, capsys)), names)
    wanted = np.asarray(MLP.load(run, backend="cpu").predict_proba(x))
    found = names["probabilities"].detach().numpy()
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)


def test_the_metadata_say_what_it_computes(trained_run, tmp_path, capsys):
    exported(trained_run(*RELU), tmp_path / "m.safetensors", capsys)
    with safe_open(tmp_path / "m.safetensors", "numpy") as file:
        metadata = file.metadata()
        assert file.get_tensor("0.weight").shape == (100, 64)
        assert sorted(file.keys()) == ["0.bias", "0.weight", "2.bias", "2.weight"]
    assert (metadata["activation"], metadata["output"]) == ("relu", "softmax")
    assert json.loads(metadata["classes"]) == list(range(10))


def test_categories_are_refused_with_a_way_out(trained_run, tmp_path, capsys):
    run = trained_run("--data", str(TABLE), "--label", "kind")
    out = tmp_path / "m.safetensors"
    assert main(["export", str(run), "--format", "torch", "--out", str(out)]) == 2
    message = capsys.readouterr().err
    assert "'label colour' and 1 more columns are categories; take --format onnx" in message
    assert message.count("\n") == 1
    assert not out.exists()


def test_it_needs_no_package(trained_run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    out = tmp_path / "m.safetensors"
    assert main(["export", str(trained_run(*RELU)), "--format", "torch", "--out", str(out)]) == 0

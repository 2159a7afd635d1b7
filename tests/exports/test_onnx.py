"""ONNX exports, read by ONNX's own reference and by ONNX Runtime."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from trainer import MLP, load
from trainer.cli import main
from trainer.data import Columns, load_unlabelled
from trainer.data.dataset import Scale

from .conftest import TABLE, write_table

onnx = pytest.importorskip("onnx", reason="the package onnx is not installed")

SLOW = ("--data", "digits", "--learning-rate", "0.02", "--batch-size", "8")
RELU = (*SLOW, "--activation", "relu", "--bias", "--loss", "cross_entropy")
NETWORKS = {
    "rashid": ("--data", "digits", "--recipe", "rashid"),
    "relu": RELU,
    "gelu": (*SLOW, "--activation", "gelu", "--loss", "cross_entropy"),
    "tanh": (*SLOW, "--activation", "tanh", "--bias", "--hidden", "30,20"),
    "scaled_tanh": (*SLOW, "--activation", "scaled_tanh", "--inputs", "symmetric"),
    "no hidden layer": (*SLOW, "--hidden", "none", "--bias"),
    "standardised": (*RELU, "--inputs", "standardised"),
    "float64": (*RELU, "--dtype", "float64"),
}


def exported(run: Path, out: Path) -> Path:
    assert main(["export", str(run), "--format", "onnx", "--out", str(out)]) == 0
    return out


def answers(file: Path, feed: dict[str, np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Label and probabilities by ONNX's reference, and by ONNX Runtime where it is installed."""
    from onnx.reference import ReferenceEvaluator

    found = [tuple(ReferenceEvaluator(str(file)).run(None, feed))]
    try:
        import onnxruntime
    except ImportError:
        return found
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    return [*found, tuple(session.run(["label", "probabilities"], feed))]


def check_answers(file: Path, feed: dict[str, np.ndarray], wanted: np.ndarray) -> None:
    for label, probabilities in answers(file, feed):
        assert (label.dtype, probabilities.dtype) == (np.int64, np.float32)
        np.testing.assert_allclose(probabilities, wanted, rtol=0, atol=1e-5)
        np.testing.assert_array_equal(label, wanted.argmax(axis=1))


@pytest.mark.parametrize("name", NETWORKS)
def test_raw_values_get_the_networks_answers(name, trained_run, tmp_path):
    run = trained_run(*NETWORKS[name])
    file = exported(run, tmp_path / "m.onnx")
    x = load("digits").test_x
    wanted = np.asarray(MLP.load(run, backend="cpu").predict_proba(x))
    assert x.dtype == np.uint8
    check_answers(file, {"input": x}, wanted)
    check_answers(file, {"input": x[:1]}, wanted[:1])  # any number of samples


def test_old_runtimes_can_read_it(trained_run, tmp_path):
    model = onnx.load(exported(trained_run(*NETWORKS["gelu"]), tmp_path / "m.onnx"))
    onnx.checker.check_model(model, full_check=True)
    assert model.ir_version == 7
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 14)]
    [given] = model.graph.input
    assert given.name == "input"
    assert given.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert [d.dim_param or d.dim_value for d in given.type.tensor_type.shape.dim] == ["n", 64]
    assert [output.name for output in model.graph.output] == ["label", "probabilities"]
    facts = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(facts["classes"]) == list(range(10))
    assert facts["activation"] == "gelu"


def test_the_same_network_makes_the_same_file(trained_run, tmp_path):
    run = trained_run(*RELU)
    files = [exported(run, tmp_path / name) for name in ("a.onnx", "b.onnx")]
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_table_takes_its_cells_as_they_are(dtype, trained_run, tmp_path):
    run = trained_run("--data", str(TABLE), "--label", "kind", "--dtype", dtype)
    file = exported(run, tmp_path / "m.onnx")
    config = json.loads((run / "config.json").read_text())
    columns = Columns.from_json(config["data"]["columns"])
    other = tmp_path / "other.csv"
    write_table(other, 40, seed=1)
    text = other.read_text().replace("red", "never seen", 3)
    other.write_text(text)
    scale = Scale("float32", *config["data"]["value_range"])
    x = load_unlabelled(str(other), len(columns.names), scale, columns, tuple("abc"), print)
    wanted = np.asarray(MLP.load(run, backend="cpu").predict_proba(x))
    rows = [line.split(",") for line in text.splitlines()[1:]]
    numbers = [[float(row[i] or "nan") for i in (0, 2)] for row in rows]
    feed = {
        "input": np.array(numbers, np.float32),
        "label colour": np.array([[row[1]] for row in rows], object),
        "input_": np.array([[row[3]] for row in rows], object),
    }
    assert np.isnan(feed["input"]).any()
    check_answers(file, feed, wanted)
    model = onnx.load(file)
    assert {(o.domain, o.version) for o in model.opset_import} == {("", 14), ("ai.onnx.ml", 1)}
    facts = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(facts["classes"]) == ["a", "b", "c"]
    assert [c["name"] for c in json.loads(facts["columns"])["columns"]][:2] == [
        "size",
        "label colour",
    ]


def test_words_are_told_what_the_labels_stand_for(trained_run, tmp_path, capsys):
    run = trained_run("--data", str(TABLE), "--label", "kind", "--dtype", "float32")
    exported(run, tmp_path / "m.onnx")
    out = capsys.readouterr().out
    assert "0 = a, 1 = b, 2 = c" in out
    assert "input (n, 2) float32, 2 inputs of strings (n, 1)" in out


def test_without_the_package_it_is_one_line(trained_run, tmp_path, monkeypatch, capsys):
    run = trained_run(*RELU)
    monkeypatch.setitem(sys.modules, "onnx", None)
    out = tmp_path / "m.onnx"
    assert main(["export", str(run), "--format", "onnx", "--out", str(out)]) == 2
    assert capsys.readouterr().err == (
        'error: --format onnx needs the package onnx: python -m pip install "xptrainer[onnx]"\n'
    )
    assert not out.exists()


@pytest.mark.thorough
def test_all_of_mnists_test_images_get_the_same_answers(data_folder, trained_run, tmp_path):
    mnist = data_folder / "mnist"
    run = trained_run("--data", str(mnist))
    x = load(str(mnist)).test_x
    wanted = np.asarray(MLP.load(run, backend="cpu").predict_proba(x))
    assert len(x) == 10_000
    check_answers(exported(run, tmp_path / "m.onnx"), {"input": x}, wanted)


@pytest.mark.thorough
def test_the_documented_server_answers_a_picture(data_folder, trained_run, tmp_path):
    import re
    import urllib.request

    from PIL import Image

    pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
    mnist = data_folder / "mnist"
    exported(trained_run("--data", str(mnist)), tmp_path / "model.onnx")
    page = Path(__file__).parents[2] / "docs" / "howto" / "exports.md"
    [server] = re.findall(r"```python\n(from http[^`]*serve_forever\(\)\n)```", page.read_text())
    assert len([line for line in server.splitlines() if line]) == 10
    script = server.replace(
        'HTTPServer(("127.0.0.1", 8000), Answer).serve_forever()',
        's = HTTPServer(("127.0.0.1", 0), Answer); print(s.server_port, flush=True);'
        " s.serve_forever()",
    )
    assert script != server
    (tmp_path / "server.py").write_text(script)
    data = load(str(mnist))
    wanted = np.asarray(
        MLP.load(trained_run("--data", str(mnist)), backend="cpu").predict(data.test_x[:20])
    )
    with subprocess.Popen(
        [sys.executable, "server.py"], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline())
            for image, answer in zip(data.test_x[:20], wanted, strict=True):
                png = io.BytesIO()
                Image.fromarray(image.reshape(28, 28)).save(png, "png")
                url = f"http://127.0.0.1:{port}/"
                with urllib.request.urlopen(url, png.getvalue(), timeout=10) as reply:
                    assert int(reply.read()) == answer
        finally:
            process.kill()

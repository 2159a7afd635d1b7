"""Networks of PyTorch and scikit-learn come in: as ONNX models, and as state dicts."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from trainer import MLP, load
from trainer.cli import main
from trainer.weight_files import WeightFileError
from trainer.weight_files.onnx_graph import read_onnx

onnx = pytest.importorskip("onnx", reason="the package onnx is not installed")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def saved(nodes, constants, *, opset=14, inputs=("x",), output="y", file="m.onnx") -> Path:
    """Write a model of these nodes; it takes (n, 4) and its output may have any shape."""
    graph = helper.make_graph(
        [helper.make_node(*node[:3], **dict(*node[3:])) for node in nodes],
        "g",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in inputs],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("ai.onnx.ml", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=7), file)
    return Path(file)


def layers(*sizes: int) -> dict[str, np.ndarray]:
    """Draw weights W1 (inputs, units), b1, W2, …."""
    arrays = {}
    for i in range(1, len(sizes)):
        arrays[f"W{i}"] = RNG.normal(size=sizes[i - 1 : i + 1]).astype("f4")
        arrays[f"b{i}"] = RNG.normal(size=sizes[i]).astype("f4")
    return arrays


PLAIN = [
    ("MatMul", ["x", "W1"], ["s1"]),
    ("Add", ["s1", "b1"], ["z1"]),
    ("Relu", ["z1"], ["a1"]),
    ("Gemm", ["a1", "W2", "b2"], ["z2"]),
    ("Softmax", ["z2"], ["y"]),
]


def answers(file: Path, x: np.ndarray) -> np.ndarray:
    """Return what ONNX's own reference computes."""
    from onnx.reference import ReferenceEvaluator

    return ReferenceEvaluator(str(file)).run(None, {"x": x})[0]


def ours(file: Path, x: np.ndarray) -> np.ndarray:
    """Return what a network of ours computes with what is read."""
    weights = read_onnx(file)
    scale, shift = weights.input_map or (np.array(1.0), np.array(0.0))
    model = MLP(
        weights.sizes,
        backend="cpu",
        bias=True,
        loss=weights.stated["loss"],
        activation=weights.stated.get("activation", "relu"),
        scale=scale,
        shift=shift,
        dtype="float64",
    )
    model.set_weights(weights.arrays)
    return np.asarray(model.predict_proba(x))


def check(file: Path) -> None:
    x = RNG.normal(size=(50, 4)).astype("f4")
    np.testing.assert_allclose(ours(file, x), answers(file, x), rtol=0, atol=1e-5)


LAST = ("Gemm", ["h", "W2", "b2"], ["z2"])
GELU = [
    ("Mul", ["z1", "z1"], ["g1"]),
    ("Mul", ["g1", "z1"], ["g2"]),
    ("Mul", ["g2", "cube"], ["g3"]),
    ("Add", ["g3", "z1"], ["g4"]),
    ("Mul", ["g4", "scale of z"], ["g5"]),
    ("Tanh", ["g5"], ["g6"]),
    ("Add", ["g6", "one"], ["g7"]),
    ("Mul", ["g7", "z1"], ["g8"]),
    ("Mul", ["g8", "half"], ["a1"]),
]


@pytest.mark.parametrize(
    ("function", "name"),
    [
        ([("Relu", ["z1"], ["a1"])], "relu"),
        ([("Sigmoid", ["z1"], ["a1"])], "sigmoid"),
        ([("Tanh", ["z1"], ["a1"])], "tanh"),
        (GELU, "gelu"),
    ],
)
def test_what_hidden_units_compute_is_found_out(function, name):
    numbers = {"cube": 0.044715, "scale of z": np.sqrt(2 / np.pi), "one": 1.0, "half": 0.5}
    constants = {key: np.float32(value) for key, value in numbers.items()}
    nodes = [*PLAIN[:2], *function, *PLAIN[3:]]
    file = saved(nodes, layers(4, 5, 3) | constants)
    assert read_onnx(file).stated["activation"] == name
    check(file)


def test_a_products_factors_are_taken():
    arrays = layers(4, 5, 3)
    arrays["W2"] = np.ascontiguousarray(arrays["W2"].T)
    gemm = ("Gemm", ["a1", "W2", "b2"], ["z2"], {"transB": 1, "alpha": 0.5, "beta": 2.0})
    check(saved([*PLAIN[:3], gemm, PLAIN[4]], arrays))


@pytest.mark.parametrize(
    ("nodes", "constants"),
    [
        ([("Mul", ["x", "c"], ["m"]), ("Add", ["m", "d"], ["v"])], {"c": 0.5, "d": [1, 2, 3, 4]}),
        ([("Sub", ["x", "d"], ["m"]), ("Div", ["m", "c"], ["v"])], {"c": 0.5, "d": [[1, 2, 3, 4]]}),
        ([("Sub", ["d", "x"], ["v"])], {"d": 1.0}),
        ([("Flatten", ["x"], ["m"]), ("Identity", ["m"], ["v"])], {}),
    ],
)
def test_nodes_before_the_first_product_are_the_input_map(nodes, constants):
    first = ("MatMul", ["v", "W1"], ["s1"])
    given = {name: np.float32(value) for name, value in constants.items()}
    check(saved([*nodes, first, *PLAIN[1:]], layers(4, 5, 3) | given))


@pytest.mark.parametrize("end", ["Sigmoid", "LogSoftmax", None])
def test_the_outputs_function_is_found(end):
    last = [] if end is None else [(end, ["z2"], ["y"])]
    file = saved([*PLAIN[:4], *last], layers(4, 5, 3), output="y" if last else "z2")
    x = RNG.normal(size=(50, 4)).astype("f4")
    found, theirs = ours(file, x), answers(file, x)
    if end == "LogSoftmax":
        theirs = np.exp(theirs)
    if end is None:  # sums, of which the softmax is meant
        theirs = np.exp(theirs) / np.exp(theirs).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found, theirs, rtol=0, atol=1e-5)


def test_one_sigmoid_becomes_two_outputs_of_the_same_probabilities():
    file = saved([*PLAIN[:4], ("Sigmoid", ["z2"], ["y"])], layers(4, 5, 1))
    x = RNG.normal(size=(50, 4)).astype("f4")
    p = answers(file, x)
    np.testing.assert_allclose(ours(file, x), np.hstack([1 - p, p]), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("nodes", "constants", "words"),
    [
        ([*PLAIN[:2], ("Erf", ["z1"], ["a1"]), *PLAIN[3:]], {}, "compute something else (Erf)"),
        ([*PLAIN[:2], ("Identity", ["z1"], ["a1"]), *PLAIN[3:]], {}, "something else (Identity)"),
        ([*PLAIN[:2], ("Softmax", ["z1"], ["a1"]), *PLAIN[3:]], {}, "a node Softmax between two"),
        (
            [
                *PLAIN[:3],
                ("Add", ["a1", "u"], ["h"]),
                ("Gemm", ["h", "W2", "b2"], ["z2"]),
                PLAIN[4],
            ],
            {"u": np.ones(5, "f4")},
            "a number for each unit",
        ),
        (
            [*PLAIN[:3], ("Gemm", ["a1", "W2", "b2"], ["z2"]), ("Exp", ["z2"], ["y"])],
            {},
            "a node Exp after the last layer",
        ),
        (
            [("Exp", ["x"], ["v"]), ("MatMul", ["v", "W1"], ["s1"]), *PLAIN[1:]],
            {},
            "a node Exp before the first product",
        ),
        ([("Relu", ["x"], ["y"])], {}, "no matrix product with constant weights"),
        (
            [*PLAIN[:4], ("Softmax", ["z2"], ["y"], {"axis": 0})],
            {},
            "a softmax that is not over the classes",
        ),
        (
            [*PLAIN[:3], ("MatMul", ["x", "W3"], ["k"]), ("Add", ["a1", "k"], ["h"]), LAST],
            {"W3": np.ones((4, 5), "f4")},
            "more than the layer before it",
        ),
    ],
)
def test_what_is_no_plain_perceptron_is_one_line(nodes, constants, words):
    file = saved(nodes, layers(4, 5, 3) | constants)
    with pytest.raises(WeightFileError, match=r"expected a plain multi-layer perceptron") as error:
        read_onnx(file)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_several_inputs_are_refused():
    nodes = [("Add", ["x", "w"], ["v"]), ("MatMul", ["v", "W1"], ["s1"]), *PLAIN[1:]]
    with pytest.raises(WeightFileError, match="takes 2 inputs"):
        read_onnx(saved(nodes, layers(4, 5, 3), inputs=("x", "w")))


def test_without_the_package_it_is_one_line(monkeypatch, capsys):
    saved(PLAIN, layers(4, 5, 3))
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert main(["import-weights", "m.onnx"]) == 2
    assert 'python -m pip install "xptrainer[onnx]"' in capsys.readouterr().err


def test_pixels_need_to_be_told_how_they_were_scaled(capsys):
    arrays = layers(64, 5, 10)
    saved(PLAIN, arrays)
    assert main(["import-weights", "m.onnx", "--data", "digits"]) == 2
    assert "--inputs unit for 0…1" in capsys.readouterr().err
    assert main(["import-weights", "m.onnx"]) == 2
    assert "--inputs unit for 0…1" in capsys.readouterr().err
    assert main(["import-weights", "m.onnx", "--data", "digits", "--inputs", "unit"]) == 0
    run = capsys.readouterr().out.split("run  ")[1].split()[0]
    x = load("digits").test_x
    model = MLP.load(run, backend="cpu")
    z = np.maximum(x / 16 @ arrays["W1"] + arrays["b1"], 0) @ arrays["W2"] + arrays["b2"]
    np.testing.assert_array_equal(np.asarray(model.predict(x)), z.argmax(axis=1))


# --- the real libraries' files ------------------------------------------------------------------


def right(run: str, capsys) -> float:
    capsys.readouterr()
    assert main(["evaluate", run, "--json"]) == 0
    return json.loads(capsys.readouterr().out)["accuracy"]


@pytest.mark.parametrize("scaled", [False, True])
def test_a_model_of_skl2onnx_answers_as_scikit_learn(scaled, capsys):
    skl2onnx = pytest.importorskip("skl2onnx", reason="skl2onnx is not installed")
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    data = load("digits")
    x, y = data.train_x.astype("f4"), data.train_y
    network = MLPClassifier((30, 20), max_iter=10, random_state=0)
    steps = [StandardScaler()] if scaled else []
    pipeline = make_pipeline(*steps, network).fit(x if scaled else x / 16, y)
    onnx.save(skl2onnx.to_onnx(pipeline, x[:1]), "m.onnx")
    told = [] if scaled else ["--inputs", "unit"]
    assert main(["import-weights", "m.onnx", "--data", "digits", "--out", "r", *told]) == 0
    test = data.test_x.astype("f4") / (1 if scaled else 16)
    found = np.asarray(MLP.load("r", backend="cpu").predict_proba(data.test_x))
    np.testing.assert_allclose(found, pipeline.predict_proba(test), rtol=0, atol=1e-5)
    assert right("r", capsys) == pipeline.score(test, data.test_y)


@pytest.mark.parametrize("form", ["onnx", "safetensors"])
def test_a_model_of_pytorch_answers_as_pytorch(form, capsys):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    from torch import nn

    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(64, 30), nn.ReLU(), nn.Linear(30, 20), nn.ReLU(), nn.Linear(20, 10)
    )
    data = load("digits")
    x = torch.from_numpy(data.test_x / np.float32(16))
    if form == "onnx":
        torch.onnx.export(model, (x[:1],), "m.onnx", dynamo=False, input_names=["x"])
        told = ["m.onnx", "--inputs", "unit"]
    else:
        from safetensors.torch import save_file as save

        save(model.state_dict(), "m.safetensors")
        told = ["m.safetensors", "--recipe", "table", "--inputs", "unit"]
    assert main(["import-weights", *told, "--data", "digits", "--out", "r"]) == 0
    wanted = torch.softmax(model(x), dim=1).detach().numpy()
    found = np.asarray(MLP.load("r", backend="cpu").predict_proba(data.test_x))
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)


# --- state dicts --------------------------------------------------------------------------------


def test_a_state_dict_is_taken_in_the_order_of_its_modules():
    sizes = [64, *[16] * 11, 10]  # so that "10.weight" comes before "2.weight" by letters
    tensors = {}
    for i in range(len(sizes) - 1):
        tensors[f"net.{2 * i}.weight"] = RNG.normal(size=sizes[i : i + 2][::-1]).astype("f4") / 4
        tensors[f"net.{2 * i}.bias"] = RNG.normal(size=sizes[i + 1]).astype("f4")
    save_file(tensors, "m.safetensors")
    told = ["--recipe", "rashid", "--data", "digits", "--inputs", "unit"]
    assert main(["import-weights", "m.safetensors", *told, "--out", "r"]) == 0
    x = load("digits").test_x
    a = x / 16
    for i in range(len(sizes) - 1):
        z = a @ tensors[f"net.{2 * i}.weight"].T + tensors[f"net.{2 * i}.bias"]
        a = 1 / (1 + np.exp(-z))
    found = np.asarray(MLP.load("r", backend="cpu").predict_proba(x))
    np.testing.assert_allclose(found, a, rtol=0, atol=1e-5)


def test_a_layer_without_a_bias_among_others_has_zeros():
    tensors = {
        "fc1.weight": RNG.normal(size=(10, 64)).astype("f4"),
        "fc2.weight": RNG.normal(size=(10, 10)).astype("f4"),
        "fc2.bias": RNG.normal(size=10).astype("f4"),
    }
    save_file(tensors, "m.safetensors")
    assert main(["import-weights", "m.safetensors", "--recipe", "book", "--data", "digits"]) == 0
    W1, b1, W2, b2 = MLP.load("runs/r1", backend="cpu").get_weights()
    np.testing.assert_array_equal(W1, tensors["fc1.weight"].T)
    np.testing.assert_array_equal(W2, tensors["fc2.weight"].T)  # square: known to be PyTorch's
    np.testing.assert_array_equal(b1, np.zeros(10))
    np.testing.assert_array_equal(b2, tensors["fc2.bias"])


def test_a_batch_normalisation_is_refused_with_a_way_out(capsys):
    ones = np.ones(5, "f4")
    tensors = {"0.weight": np.ones((5, 64), "f4"), "0.bias": ones, "1.weight": ones}
    tensors |= {"1.bias": ones, "1.running_mean": ones, "3.weight": np.ones((10, 5), "f4")}
    save_file(tensors, "m.safetensors")
    assert main(["import-weights", "m.safetensors", "--recipe", "book", "--data", "digits"]) == 2
    message = capsys.readouterr().err
    assert "1.running_mean belongs to a batch normalisation" in message
    assert "fuse_linear_bn_eval" in message


def spread(*sizes: int, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Draw the weights of linear layers of these names."""
    return {
        f"{name}.weight": RNG.normal(size=(sizes[i + 1], sizes[i])).astype("f4")
        for i, name in enumerate(names)
    }


def test_names_without_numbers_are_ordered_by_shapes():
    save_file(spread(64, 32, 16, 10, names=("input", "hidden", "output")), "m.safetensors")
    told = ["--recipe", "book", "--data", "digits", "--out", "r"]
    assert main(["import-weights", "m.safetensors", *told]) == 0
    assert MLP.load("r", backend="cpu").sizes == (64, 32, 16, 10)


def test_names_that_tell_no_order_are_refused(capsys):
    tensors = spread(64, 16, 16, 16, 10, names=("fc_in", "fc_mid", "fc_last", "fc_out"))
    save_file(tensors, "m.safetensors")
    told = ["--recipe", "book", "--data", "digits"]
    assert main(["import-weights", "m.safetensors", *told]) == 2
    assert "name them fc1, fc2, … in their order" in capsys.readouterr().err


@pytest.mark.parametrize("other", ["1.weight", "1.bias", "0.weight_mask", "norm.scale"])
def test_tensors_of_other_layers_are_refused(other, capsys):
    tensors = spread(64, 16, 10, names=("0", "2"))
    save_file(tensors | {other: np.ones(16, "f4")}, "m.safetensors")
    told = ["--recipe", "book", "--data", "digits"]
    assert main(["import-weights", "m.safetensors", *told]) == 2
    assert f"{other} (16,) belongs to no linear layer" in capsys.readouterr().err


def test_what_units_compute_can_be_said():
    tensors = spread(64, 16, 10, names=("0", "2"))
    save_file(tensors, "m.safetensors")
    told = ["--recipe", "book", "--data", "digits", "--inputs", "unit", "--activation", "tanh"]
    assert main(["import-weights", "m.safetensors", *told, "--out", "r"]) == 0
    x = load("digits").test_x
    z = np.tanh(x / 16 @ tensors["0.weight"].T) @ tensors["2.weight"].T
    found = np.asarray(MLP.load("r", backend="cpu").predict_proba(x))
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-z)), rtol=0, atol=1e-5)


def normalised() -> dict[str, np.ndarray]:
    """Write a model for pixels 0…1 that normalises them as PyTorch's MNIST example does."""
    nodes = [
        ("Sub", ["x", "mean"], ["m"]),
        ("Div", ["m", "deviation"], ["v"]),
        ("MatMul", ["v", "W1"], ["s1"]),
        *PLAIN[1:],
    ]
    arrays = layers(64, 5, 10)
    constants = {"mean": np.float32(0.1307), "deviation": np.float32(0.03081)}
    saved(nodes, arrays | constants)
    return arrays


@pytest.mark.parametrize("data", [[], ["--data", "digits"]])
def test_a_model_that_normalises_what_was_scaled_before(data, capsys):
    arrays = normalised()
    if data:
        assert main(["import-weights", "m.onnx", *data]) == 2
        assert "were scaled before; import it with --inputs unit" in capsys.readouterr().err
    assert main(["import-weights", "m.onnx", *data, "--inputs", "unit", "--out", "r"]) == 0
    x = load("digits").test_x
    v = (x / 16 - 0.1307) / 0.03081
    z = np.maximum(v @ arrays["W1"] + arrays["b1"], 0) @ arrays["W2"] + arrays["b2"]
    np.testing.assert_array_equal(
        np.asarray(MLP.load("r", backend="cpu").predict(x)), z.argmax(axis=1)
    )


@pytest.mark.parametrize(
    ("make", "file", "more", "words"),
    [
        ("state", "m.safetensors", [], "add --activation"),
        ("state", "m.safetensors", ["--activation", "tanh"], ""),
        ("onnx", "m.onnx", ["--loss", "cross_entropy"], "add --inputs"),
        ("onnx", "m.onnx", ["--inputs", "unit"], "add --loss cross_entropy"),
        ("onnx", "m.onnx", ["--inputs", "unit", "--loss", "cross_entropy"], ""),
    ],
)
def test_a_training_guesses_nothing_of_what_it_starts_with(make, file, more, words, capsys):
    if make == "state":
        save_file(spread(64, 16, 10, names=("0", "2")), file)
    else:
        saved(PLAIN, layers(64, 5, 10))
    start = ["train", "--data", "digits", "--init-from", file, "--epochs", "1", "--quiet"]
    code = main([*start, *more, "--learning-rate", "0.001", "--device", "cpu"])
    message = capsys.readouterr().err
    assert code == (2 if words else 0), message
    assert words in message


def test_a_pickle_is_told_what_to_save(capsys):
    Path("sd.pt").write_bytes(b"PK")
    assert main(["import-weights", "sd.pt", "--recipe", "book"]) == 2
    assert "safetensors.torch.save_file(model.state_dict()" in capsys.readouterr().err


def test_a_network_has_no_answer_to_nan():
    model = MLP([4, 3, 2], backend="cpu")
    with pytest.raises(ValueError, match=r"x\[1\] has no answer"):
        model.predict(np.array([[1, 2, 3, 4], [1, np.nan, 3, 4]], "f4"))

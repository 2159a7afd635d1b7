"""Weights in and out: the lessons' pair, Ng's thetas, and files that mean harm."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.io import savemat
from scipy.special import expit

from backends import select
from trainer import MLP, fit, load, weight_files
from trainer.cli import main
from trainer.weight_files import (
    ShapeError,
    WeightFileError,
    Weights,
    from_matlab,
    read_weights,
    write_weights,
)

CPU = ["--device", "cpu"]
SQUARE = ["--recipe", "book", "--data", "square.csv", "--test-data", "square.csv", *CPU]
DIGITS = ["--recipe", "rashid", "--data", "digits", *CPU]


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRAINER_CACHE", str(tmp_path / "cache"))


def trained(data, hidden: int, n: int) -> list[np.ndarray]:
    """Weights of a short training in float64."""
    backend = select("cpu")
    sizes = [data.train_x.shape[1], hidden, 10]
    model = MLP(sizes, backend=backend, dtype="float64", scale=0.99 / data.value_range[1])
    for _ in fit(model, data.train_x[:n], data.train_y[:n], epochs=1):
        pass
    return model.get_weights()


def lesson_counts(wih: np.ndarray, who: np.ndarray, data) -> int:
    """The lesson's own scoring loop."""
    scorecard = []
    for record, label in zip(data.test_x, data.test_y, strict=True):
        inputs = np.array(record / data.value_range[1] * 0.99 + 0.01, ndmin=2).T
        hidden_outputs = expit(np.dot(wih, inputs))
        outputs = expit(np.dot(who, hidden_outputs))
        scorecard.append(1 if np.argmax(outputs) == label else 0)
    return sum(scorecard)


def said(capsys) -> dict:
    return json.loads(capsys.readouterr().out)


# --- the lesson's pair ----------------------------------------------------------------------


def check_pair(data, source: str, hidden: int, n: int, capsys) -> None:
    W1, W2 = trained(data, hidden, n)
    wih, who = W1.T, W2.T
    np.save("wih.npy", wih)
    np.save("who.npy", who)
    right = lesson_counts(wih, who, data)
    assert right > len(data.test_y) / 2
    options = ["--recipe", "book", "--data", source, *CPU]
    for pair in (["wih.npy", "who.npy"], ["who.npy", "wih.npy"]):
        out = "-".join(pair)
        assert main(["import-weights", *pair, *options, "--out", out]) == 0
        capsys.readouterr()
        assert main(["evaluate", out, *CPU, "--json"]) == 0
        result = said(capsys)
        assert (result["right"], result["samples"]) == (right, len(data.test_y))
    Path("folder").mkdir()
    for file in ("wih.npy", "who.npy"):
        Path(file).rename(Path("folder", file))
    Path("read.txt").write_text("nothing of weights")
    assert main(["predict", "folder", *options, "--index", "0"]) == 0
    assert "answer:" in capsys.readouterr().out


def test_a_pair_scores_as_in_the_lessons_loop_on_digits(capsys):
    check_pair(load("digits"), "digits", 100, 1437, capsys)


def test_a_pair_scores_as_in_the_lessons_loop_on_mnist(data_folder, capsys):
    source = str(data_folder.absolute() / "mnist")
    data = load(source)
    check_pair(data, source, 200, 5000, capsys)
    # without a run: the recipe says the rest
    assert main(["evaluate", "folder", "--recipe", "book", "--data", source, "--json"]) == 0
    assert said(capsys)["samples"] == 10_000
    few = str(data_folder.absolute() / "hundred" / "mnist_test_10.csv")
    assert main(["evaluate", "folder", "--recipe", "book", "--data", few, "--json"]) == 0
    assert said(capsys)["samples"] == 10


# --- which is which -------------------------------------------------------------------------


@st.composite
def networks(draw):
    # none is one more than another, as if there were a column of biases
    sizes = draw(st.lists(st.sampled_from([1, 3, 5, 7]), min_size=2, max_size=4))
    bias = draw(st.booleans())
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    arrays = []
    for fan_in, fan_out in pairwise(sizes):
        arrays.append(rng.normal(size=(fan_in, fan_out)))
        if bias:
            arrays.append(rng.normal(size=fan_out))
    return sizes, bias, arrays


def same(read: Weights, arrays: list[np.ndarray]) -> bool:
    return len(read.arrays) == len(arrays) and all(
        a.shape == b.shape and (a == b).all() for a, b in zip(read.arrays, arrays, strict=True)
    )


@given(
    network=networks(),
    transposed=st.booleans(),
    kind=st.sampled_from(["npy", "npz", "named npz", "mat"]),
)
def test_matrices_find_their_places(tmp_path_factory, network, transposed, kind):
    sizes, bias, arrays = network
    folder = tmp_path_factory.mktemp("w")
    stored = [a.T if transposed else a for a in arrays]
    suffix = ["", "_b"] if bias else [""]
    names = [f"{'b' if s else 'W'}{i + 1}" for i in range(len(sizes) - 1) for s in suffix]
    if kind == "npy":
        files = [folder / f"{name}.npy" for name in names]
        for file, a in zip(files, stored, strict=True):
            np.save(file, a)
    elif kind == "npz":
        files = [folder / "w.npz"]
        np.savez(files[0], *stored)
    elif kind == "named npz":
        files = [folder / "w.npz"]
        np.savez(files[0], epochs=3, note="read me", **dict(zip(names, stored, strict=True)))
    else:
        files = [folder / "w.mat"]
        savemat(files[0], {"lambda": 1.0, **dict(zip(names, stored, strict=True))})
    if len(set(sizes)) == 1:
        with pytest.raises(ShapeError, match="--transposed"):
            read_weights(files, sizes[0], {sizes[-1]})
    # with as many inputs as outputs there may be two ways without numbers
    told = transposed if sizes[0] == sizes[-1] else None
    read = read_weights(files, sizes[0], {sizes[-1]}, transposed=told)
    assert read.bias == bias
    assert read.sizes == sizes
    assert same(read, arrays)


@given(network=networks(), transposed=st.booleans())
def test_a_first_column_of_biases_is_found(tmp_path_factory, network, transposed):
    sizes, bias, arrays = network
    if not bias:
        return
    folder = tmp_path_factory.mktemp("w")
    matrices = [np.vstack([b, W]) for W, b in zip(arrays[::2], arrays[1::2], strict=True)]
    names = ["wih", "middle", "who"][: len(matrices)]
    np.savez(
        folder / "w.npz",
        **{n: M.T if transposed else M for n, M in zip(names, matrices, strict=True)},
    )
    read = read_weights([folder / "w.npz"], sizes[0], {sizes[-1]}, transposed=transposed)
    assert (read.bias, read.sizes) == (True, sizes)
    assert same(read, arrays)


def test_the_dtype_is_the_files():
    for dtype, expected in [
        ("float32", "float32"),
        ("float16", "float32"),
        ("int32", "float64"),
        (">f8", "float64"),
        ("longdouble", "float64"),
    ]:
        np.savez("w.npz", W1=np.ones((3, 2), dtype), W2=np.ones((2, 4), dtype))
        read = read_weights([Path("w.npz")], 3, {4})
        assert [str(a.dtype) for a in read.arrays] == [expected] * 2


# --- out and in again -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("runs")
    common = ["--data", "digits", *CPU, "--epochs", "1", "--quiet"]
    assert main([*common, "--recipe", "rashid", "--out", str(folder / "pair")]) == 0
    deep = ["--recipe", "digits", "--hidden", "9,1,12", "--bias"]
    assert main([*common, *deep, "--out", str(folder / "deep")]) == 0
    return {"pair": folder / "pair", "deep": folder / "deep"}


@pytest.mark.parametrize(
    ("name", "format", "out"),
    [
        ("pair", "npz", "w.npz"),
        ("pair", "npy-pair", "pair"),
        ("pair", "mat", "w.mat"),
        ("pair", "csv", "tables"),
        ("deep", "npz", "w.npz"),
        ("deep", "mat", "w.mat"),
        ("deep", "csv", "tables"),
    ],
)
def test_what_is_exported_is_imported_the_same(runs, name, format, out, capsys):
    run = runs[name]
    assert main(["export", str(run), "--format", format, "--out", out]) == 0
    written = capsys.readouterr().out
    assert out in written
    assert "value ×" in written
    recipe = "rashid" if name == "pair" else "digits"
    options = ["--recipe", recipe, "--data", "digits", *CPU, "--out", "again"]
    assert main(["import-weights", out, *options]) == 0
    backend = select("cpu")
    before, after = (MLP.load(path, backend=backend) for path in (run, "again"))
    assert after.sizes == before.sizes
    step = 1 if before.spec.bias or not after.spec.bias else 2
    for a, b in zip(before.get_weights(), after.get_weights()[::step], strict=True):
        np.testing.assert_array_equal(a, b.astype(np.float32))
    if before.spec.bias != after.spec.bias:  # .mat has a column for them
        assert not any(b.any() for b in after.get_weights()[1::2])
    capsys.readouterr()
    assert main(["evaluate", str(run), *CPU, "--json"]) == 0
    expected = said(capsys)
    assert main(["evaluate", "again", *CPU, "--json"]) == 0
    assert said(capsys)["confusion"] == expected["confusion"]
    config = json.loads(Path("again/config.json").read_text())
    assert config["recipe"] == recipe
    assert config["weights_of"][0].startswith(os.path.abspath(out))


def test_an_input_map_that_is_saved_is_taken(runs):
    """A standardised network's npz needs neither the recipe's map nor its data."""
    assert main(["export", str(runs["deep"]), "--out", "w.npz"]) == 0
    assert main(["import-weights", "w.npz", *DIGITS, "--out", "again"]) == 0
    backend = select("cpu")
    before, after = (MLP.load(path, backend=backend) for path in (runs["deep"], "again"))
    np.testing.assert_array_equal(before.spec.scale, after.spec.scale)
    np.testing.assert_array_equal(before.spec.shift, after.spec.shift)


def test_the_exported_pair_is_the_lessons(runs):
    assert main(["export", str(runs["pair"]), "--format", "npy-pair", "--out", "pair"]) == 0
    W1, W2 = MLP.load(runs["pair"], backend=select("cpu")).get_weights()
    np.testing.assert_array_equal(np.load("pair/weights.npy"), W2.T)
    np.testing.assert_array_equal(np.load("pair/weights02.npy"), W1.T)


def test_the_exported_thetas_predict_as_in_the_course(runs):
    """Ng's predict.m, on images column by column, counts 1…10."""
    from scipy.io import loadmat

    assert main(["export", str(runs["pair"]), "--format", "mat", "--out", "w.mat"]) == 0
    thetas = loadmat("w.mat")
    data = load("digits")
    X = (data.test_x / 16 * 0.99 + 0.01).reshape(-1, 8, 8).transpose(0, 2, 1).reshape(-1, 64)
    ones = np.ones((len(X), 1))
    h1 = expit(np.hstack([ones, X]) @ thetas["Theta1"].T)
    h2 = expit(np.hstack([ones, h1]) @ thetas["Theta2"].T)
    counted = h2.argmax(axis=1) + 1
    model = MLP.load(runs["pair"], backend=select("cpu"))
    np.testing.assert_array_equal(counted % 10, model.predict(data.test_x))


def test_a_safetensors_file_of_ours_needs_no_recipe(runs, capsys):
    file = str(runs["deep"] / "model.safetensors")
    assert main(["import-weights", file, "--data", "digits", *CPU, "--out", "again"]) == 0
    assert Path("again/model.safetensors").read_bytes() == Path(file).read_bytes()
    settings = json.loads(Path("again/config.json").read_text())["settings"]
    assert (settings["hidden"], settings["bias"]) == ([9, 1, 12], True)
    assert settings["loss"] == "squared_error"


def test_safetensors_of_others_are_read():
    from safetensors.numpy import save_file

    rng = np.random.default_rng(0)
    W1, b1, W2, b2 = (rng.normal(size=s).astype("f4") for s in [(5, 64), (5,), (10, 5), (10,)])
    arrays = {"fc1.weight": W1, "fc1.bias": b1, "fc2.weight": W2, "fc2.bias": b2}
    save_file(arrays, "torch.safetensors")
    assert main(["import-weights", "torch.safetensors", *DIGITS, "--out", "o"]) == 0
    read = MLP.load("o", backend=select("cpu")).get_weights()
    assert same(Weights(read, True), [W1.T, b1, W2.T, b2])


@pytest.mark.parametrize(
    ("format", "out", "words"),
    [
        ("npy-pair", "pair", ["4 matrices and biases", "--format npz"]),
        ("npz", "w.mat", ["--out w.mat", ".npz"]),
        ("mat", "nowhere/w.mat", ["there is no folder nowhere"]),
        ("csv", "full", ["--out full", "new or empty"]),
    ],
)
def test_an_export_that_cannot_be_is_one_line(runs, format, out, words, capsys):
    Path("full").mkdir()
    Path("full/there.txt").write_text("mine")
    before = sorted(os.listdir())
    assert main(["export", str(runs["deep"]), "--format", format, "--out", out]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert all(word in error for word in words), error
    assert sorted(os.listdir()) == before


def test_a_folder_of_tables_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    weights = Weights([np.ones((3, 2)), np.ones((2, 4))], False)
    written = []

    def full_disk(path, content):
        written.append(path)
        if len(written) == 2:
            raise OSError(28, "No space left on device", str(path))
        path.write_bytes(content)

    monkeypatch.setattr(weight_files, "write_whole", full_disk)
    out = tmp_path / "a" / "tables"
    with pytest.raises(OSError, match="No space"):
        write_weights(weights, "csv", out, image_shape=None, classes=range(4))
    assert os.listdir(tmp_path / "a") == []


def test_training_starts_with_given_weights(runs, capsys):
    assert main(["export", str(runs["pair"]), "--format", "npy-pair", "--out", "pair"]) == 0
    still = ["--learning-rate", "0", "--epochs", "1", "--quiet", *DIGITS]
    for start in ("pair", str(runs["pair"])):
        out = f"from-{Path(start).name}-{len(start)}"
        assert main([*still, "--init-from", start, "--out", out]) == 0
        backend = select("cpu")
        before, after = (MLP.load(path, backend=backend) for path in (runs["pair"], out))
        assert same(Weights(after.get_weights(), False), before.get_weights())
        assert json.loads(Path(out, "config.json").read_text())["init_from"] == start
    assert main([*still, "--init-from", "pair", "--hidden", "20", "--out", "o"]) == 2
    assert "omit --hidden" in capsys.readouterr().err
    norm = ["--batch-norm", "--bias", "--loss", "cross_entropy", "--batch-size", "9"]
    assert main([*still, "--init-from", "pair", *norm, "--out", "o"]) == 2
    assert "forget what they know; omit one of the two" in capsys.readouterr().err


# --- Ng's -----------------------------------------------------------------------------------


def test_matlabs_order_of_pixels_and_digits():
    rng = np.random.default_rng(0)
    theta1, theta2 = rng.normal(size=(4, 7)), rng.normal(size=(10, 5))
    savemat("w.mat", {"Theta1": theta1, "Theta2": theta2, "X": np.ones((2, 2))})
    read = read_weights([Path("w.mat")], 6, {10})
    assert read.matlab
    W1, b1, W2, b2 = from_matlab(read, (2, 3), range(10)).arrays
    image = rng.normal(size=(2, 3))
    by_columns = image.T.reshape(-1)
    np.testing.assert_allclose(image.reshape(-1) @ W1 + b1, theta1 @ [1, *by_columns])
    hidden = rng.normal(size=4)
    outputs = theta2 @ [1, *hidden]
    np.testing.assert_allclose(hidden @ W2 + b2, [outputs[9], *outputs[:9]])
    # what is no image and no digit stays in its place
    plain = from_matlab(read, None, "abcdefghij").arrays
    np.testing.assert_array_equal(plain[0], theta1[:, 1:].T)
    np.testing.assert_array_equal(plain[2], theta2[:, 1:].T)


def test_the_courses_weights_know_digits(data_folder, capsys):
    file = str(data_folder.absolute() / "ex4" / "ex4weights.mat")
    source = str(data_folder.absolute() / "mnist")
    assert main(["evaluate", file, "--recipe", "ex4", "--data", source, *CPU, "--json"]) == 0
    # trained on other cuttings of the digits; in the wrong order of anything it is 2 to 18 %
    assert said(capsys)["accuracy"] > 0.55


# --- mistakes -------------------------------------------------------------------------------


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("exploded",)


def evil_npy(path: str) -> None:
    np.save(path, np.array([Bomb(), 1], dtype=object), allow_pickle=True)


def evil_npz(path: str) -> None:
    np.savez(path, W1=np.ones((64, 5)), W2=np.array([[Bomb()]], dtype=object))


def raw_pickle(path: str) -> None:
    Path(path).write_bytes(pickle.dumps(Bomb()))


@pytest.mark.parametrize("command", ["import-weights", "evaluate", "train"])
@pytest.mark.parametrize(
    ("name", "make", "words"),
    [
        ("w.npy", evil_npy, "Python objects, which are never unpickled"),
        ("w.npz", evil_npz, "W2 holds Python objects, which are never unpickled"),
        ("w.npy", raw_pickle, "not a readable npy file"),
        ("w.npz", raw_pickle, "not a readable npz archive"),
        ("w.mat", raw_pickle, "no MATLAB 5 file"),
        ("w.safetensors", raw_pickle, "not a readable safetensors file"),
        ("w.csv", raw_pickle, "not a readable table"),
    ],
)
def test_nothing_is_ever_unpickled(command, name, make, words, capsys):
    make(name)
    arguments = [command, "--init-from", name] if command == "train" else [command, name]
    assert main([*arguments, *DIGITS]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert not Path("exploded").exists()
    assert not Path("runs").exists()


def test_an_archive_that_unpacks_to_too_much_is_refused(monkeypatch):
    monkeypatch.setattr(weight_files, "_LARGEST", 100_000)
    with zipfile.ZipFile("w.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("W1.npy", b"\0" * 10_000_000)
    with pytest.raises(WeightFileError, match="10,000,000 bytes unpacked"):
        read_weights([Path("w.npz")], 64, {10})
    savemat("w.mat", {"Theta1": np.zeros((1000, 1000))}, do_compression=True)
    with pytest.raises(WeightFileError, match="more than 100,000 bytes unpacked"):
        read_weights([Path("w.mat")], 64, {10})


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"W1": np.ones((63, 5)), "W2": np.ones((5, 10))}, ["W1 (63, 5)", "64 inputs", "--data"]),
        ({"W1": np.ones((64, 5)), "W2": np.ones((6, 10))}, ["W2 (6, 10)", "10 outputs"]),
        ({"W1": np.ones((64, 5)), "b1": np.ones(5), "W2": np.ones((5, 10))}, ["b1 (5,)"]),
        ({"W1": np.ones((64, 5)) * np.nan, "W2": np.ones((5, 10))}, ["W1 holds NaN"]),
        ({"W1": np.ones((64, 5, 1)), "W2": np.ones((5, 10))}, ["W1 has shape (64, 5, 1)"]),
        ({"W1": np.ones((64, 5)) * 1j, "W2": np.ones((5, 10))}, ["complex128"]),
        ({}, ["no arrays"]),
    ],
)
def test_arrays_that_make_no_network_are_one_line(arrays, words, capsys):
    np.savez("w.npz", **arrays)
    assert main(["import-weights", "w.npz", *DIGITS]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert all(word in error for word in words), error
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["import-weights"], ["wih.npy who.npy --recipe book"]),
        (["import-weights", "w.npz"], ["--recipe book", "recipes"]),
        (["import-weights", "w.npz", "--recipe", "cake"], ["cake", "rashid"]),
        (["import-weights", "nothing.npy", *DIGITS], ["nothing.npy", "no such file"]),
        (["import-weights", "w.txt", *DIGITS], ["w.txt", ".safetensors"]),
        (["import-weights", "mixed", *DIGITS], ["mixed", "of one kind"]),
        (["import-weights", "w.npz", "w.npz", *DIGITS], ["w.npz", "only .npy and .csv"]),
        (["import-weights", "w.npz", *DIGITS, "--out", "mixed"], ["mixed", "is not empty"]),
        (["evaluate", "w.npz"], ["--recipe book"]),
        (["evaluate", "nowhere", "--recipe", "book"], ["nowhere", "omit --recipe"]),
        (["evaluate", "w.npz", *DIGITS, "--figures"], ["import-weights w.npz", "--show"]),
        (["import-weights", "square.npz", *SQUARE], ["fit either way round", "--no-transposed"]),
        (["export", "nowhere"], ["nowhere", "no run"]),
        (["export", "nowhere", "--format", "pickle"], ["pickle", "npy-pair"]),
    ],
)
def test_a_mistake_is_one_line_with_the_way_out(arguments, words, capsys):
    np.savez("w.npz", W1=np.ones((64, 5)), W2=np.ones((5, 10)))
    np.savez("square.npz", W1=np.ones((2, 2)))
    Path("square.csv").write_text("0,1,2\n1,2,3\n" * 5)
    Path("w.txt").write_text("no weights")
    Path("mixed").mkdir()
    for name in ("a.npy", "b.npz"):
        Path("mixed", name).write_bytes(b"")
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert all(word in error for word in words), error
    assert not Path("runs").exists()


def test_a_square_network_is_taken_as_it_is_said_to_be():
    matrix = np.array([[1.0, 2.0], [3.0, 4.0]])
    np.save("w.npy", matrix)
    Path("square.csv").write_text("0,1,2\n1,2,3\n" * 5)
    given = ["import-weights", "w.npy", *SQUARE]
    assert main([*given, "--transposed", "--out", "a"]) == 0
    assert main([*given, "--no-transposed", "--out", "b"]) == 0
    [a], [b] = (MLP.load(path, backend=select("cpu")).get_weights() for path in ("a", "b"))
    np.testing.assert_array_equal(a, matrix.T)
    np.testing.assert_array_equal(b, matrix)


@given(
    kind=st.sampled_from(["npy", "npz", "mat", "csv", "safetensors"]),
    cut=st.booleans(),
    data=st.data(),
)
def test_damage_gives_nothing_but_weight_file_errors(tmp_path_factory, kind, cut, data):
    from safetensors.numpy import save

    path = tmp_path_factory.mktemp("w") / f"w.{kind}"
    W = np.arange(12.0).reshape(4, 3)
    if kind == "npy":
        np.save(path, W)
    elif kind == "npz":
        np.savez(path, W1=W)
    elif kind == "mat":
        savemat(path, {"W1": W}, do_compression=data.draw(st.booleans()))
    elif kind == "csv":
        np.savetxt(path, W, delimiter=",")
    else:
        path.write_bytes(save({"W1": W}))
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    if cut:
        del content[data.draw(st.integers(0, len(content))) :]
    path.write_bytes(content)
    complaint = ""
    try:
        read_weights([path], 4, {3}, transposed=False)
    except WeightFileError as error:
        complaint = str(error)
    assert "\n" not in complaint
    assert not complaint or str(path) in complaint

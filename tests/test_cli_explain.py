"""`inspect`, `backquery` and `weights`: their real output, their figures and their exit codes."""

from __future__ import annotations

import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from backends import select
from trainer import MLP, figures, load
from trainer.cli import main
from trainer.explain import backquery, incoming_weights, trace
from trainer.figures.trace import _SIGNED

from .test_cli import ESCAPE, in_a_terminal

CPU = ["--device", "cpu"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """Return runs of the digits recipe and of a table that is not images; tests get a copy."""
    folder = tmp_path_factory.mktemp("runs")
    options = [*CPU, "--quiet", "--out"]
    assert main(["--data", "digits", "--hidden", "12", *options, str(folder / "digits")]) == 0
    rng = np.random.default_rng(0)
    y = np.arange(60) % 3
    x = rng.normal(size=(60, 5)) + 3 * np.eye(5)[y]
    np.savetxt(folder / "t.csv", np.column_stack([y, x]), delimiter=",", fmt="%g")
    deep = ["--hidden", "5,4", "--bias", "--loss", "cross_entropy", "--activation", "tanh"]
    rest = ["--optimizer", "adam", "--batch-size", "8", "--l2", "0.5", "--epochs", "20"]
    rest += ["--learning-rate", "0.001", "--schedule", "constant"]
    data = ["--data", str(folder / "t.csv")]
    assert main([*data, *deep, *rest, *options, str(folder / "table")]) == 0
    return folder


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRAINER_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def run(trained, tmp_path) -> Path:
    return shutil.copytree(trained / "digits", tmp_path / "digits")


@pytest.fixture
def table(trained, tmp_path) -> Path:
    return shutil.copytree(trained / "table", tmp_path / "table")


def model_of(run: Path) -> MLP:
    return MLP.load(run, backend=select("cpu"))


def is_png(path: Path) -> bool:
    with Image.open(path) as image:
        image.load()
        return image.format == "PNG"


def contents(run: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}


# --- inspect --------------------------------------------------------------------------------


def test_inspect_shows_every_stage_and_draws_them(run, capsys):
    before = contents(run)
    assert main(["inspect", str(run), "--index", "3", *CPU]) == 0
    out = capsys.readouterr().out
    for words in (
        "sample 3 of the 360 test samples of digits",
        "64 → 12 → 10, sigmoid, no bias, loss squared_error",
        "plain sgd by this one sample, η, the learning rate",
        "1. The sample, labelled ",
        "2. Layer 1 forward: z₁ = x W₁, a₁ = sigmoid(z₁)",
        "3. Layer 2 forward: z₂ = a₁ W₂, a₂ = sigmoid(z₂)",
        "loss = ½ Σ (t − a₂)² = ",
        "4. Layer 2 backward: e₂ = t − a₂, δ₂ = −e₂ ∘ a₂ ∘ (1 − a₂)",
        "5. Layer 1 backward: e₁ = −δ₂ W₂ᵀ, δ₁ = −e₁ ∘ a₁ ∘ (1 − a₁)",
        "6. Layer 2 update: W₂ ← W₂ − η a₁ᵀ δ₂, η = 0.3",
        "7. Layer 1 update: W₁ ← W₁ − η xᵀ δ₁, η = 0.3",
        "W₂ ← W₂ + α a₁ᵀ (e₂ ∘ a₂ ∘ (1 − a₂))",
        "W₁ before",
        "After the update: loss ",
        "answer: ",
    ):
        assert words in out
    assert re.search("[▀▄█]", out)
    assert contents(run) == before
    assert is_png(run / "figures" / "inspect-3.png")
    assert [file.name for file in (run / "figures").iterdir()] == ["inspect-3.png"]


@pytest.mark.parametrize("drawn", [False, pytest.param(True, marks=pytest.mark.thorough)])
def test_stages_are_images_or_pages_of_their_own(table, capsys, monkeypatch, drawn):
    if not drawn:
        monkeypatch.setattr(figures, "trace", lambda *_, **__: [Figure((1, 1)) for _ in range(13)])
    asked = ["inspect", str(table), "--json", "--stages", "--out"]
    assert main([*asked, "here.png", *CPU]) == 0
    told = json.loads(capsys.readouterr().out)
    # the sample, three layers forward, back and updated, a unit worked out, what came of them
    assert told["figures"] == [f"here-{number}.png" for number in range(1, 14)]
    if drawn:
        with Image.open("here-2.png") as slide:
            assert slide.size == (1920, 1080)
    assert all(is_png(Path(name)) for name in told["figures"])
    assert main([*asked, "here.pdf", *CPU]) == 0
    assert json.loads(capsys.readouterr().out)["figure"] == "here.pdf"
    pdf = Path("here.pdf").read_bytes()
    assert pdf.startswith(b"%PDF")
    assert len(re.findall(rb"/Type /Page\b", pdf)) == 13
    assert sorted(map(str, Path().glob("here*"))) == sorted([*told["figures"], "here.pdf"])


@pytest.fixture
def undrawn(monkeypatch) -> None:
    """Omit the drawing of the trace, which takes seconds."""
    for name in ("trace", "traces"):
        monkeypatch.setattr(figures, name, lambda *_, **__: [Figure((1, 1))])


@pytest.mark.usefixtures("undrawn")
def test_inspect_gives_the_traces_numbers_as_json(table, capsys):
    assert main(["inspect", str(table), "--index", "2", "--json", *CPU]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    told = json.loads(captured.out)
    config = json.loads((table / "config.json").read_text())["data"]
    data = load(config["source"])
    want = trace(
        model_of(table),
        data.test_x[2],
        data.test_y[2],
        learning_rate=0.001,
        training_samples=config["train_samples"],
    )
    assert (told["loss"], told["loss_after"]) == (want.loss, want.loss_after)
    assert told["penalty"] == pytest.approx(0.5 / 48)
    assert told["splits_raw_errors"] is False
    assert len(told["layers"]) == 3
    for layer, got in zip(want.layers, told["layers"], strict=True):
        for name in ("inputs", "sums", "outputs", "errors", "deltas", "b", "b_after"):
            np.testing.assert_array_equal(np.float32(got[name]), getattr(layer, name))
        assert got["W"]["shape"] == list(layer.W.shape)
        assert got["W_change"]["norm"] == pytest.approx(np.linalg.norm(layer.W_change))
        assert sum(got["W_histogram"]["counts"]) == layer.W.size
    assert told["figure"] == str(table / "figures" / "inspect-2.png")
    assert Path(told["figure"]).exists()


@pytest.mark.usefixtures("undrawn")
def test_inspect_says_what_the_training_did_otherwise(table, capsys):
    assert main(["inspect", str(table), *CPU]) == 0
    out = capsys.readouterr().out
    assert "(the training: adam, batches of 8)" in out
    assert "softmax(z₃)" in out
    assert "b₂ before" in out
    assert re.search(r"^ *feature +value +input x$", out, re.MULTILINE)


@pytest.mark.usefixtures("undrawn")
def test_untrained_weights_have_learned_nothing(run, capsys):
    told = {}
    for option in ([], ["--untrained"]):
        assert main(["inspect", str(run), "--json", *option, *CPU]) == 0
        told[bool(option)] = json.loads(capsys.readouterr().out)
    fresh = MLP(
        [64, 12, 10], backend=select("cpu"), loss="squared_error", init="uniform:1", scale=1.0
    )
    W1, W2 = fresh.get_weights()
    assert told[True]["layers"][0]["W"]["mean"] == pytest.approx(W1.astype(float).mean())
    assert told[True]["layers"][1]["W"]["largest"] == W2.max()
    assert told[True]["loss"] > told[False]["loss"]
    assert told[True]["figure"].endswith("figures/inspect-0-untrained.png")
    assert told[False]["figure"].endswith("figures/inspect-0.png")


@pytest.mark.usefixtures("undrawn")
def test_inspect_takes_other_data_and_another_place(run, capsys):
    data = load("digits")
    rows = np.column_stack([data.test_y, data.test_x])[5:9]
    np.savetxt("other.csv", rows, fmt="%d", delimiter=",")
    asked = ["inspect", str(run), "--data", "other.csv", "--index", "1", "--out", "here.png"]
    assert main([*asked, "--json", *CPU]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["values"] == data.test_x[6].tolist()
    assert is_png(Path("here.png"))
    assert not (run / "figures").exists()


@pytest.mark.thorough
def test_a_terminal_of_80_columns_holds_the_tables(table):
    plain = ESCAPE.sub("", in_a_terminal("inspect", "table", *CPU))
    assert max(map(len, plain.splitlines())) <= 80
    assert "b₃ before" in plain
    assert "…" not in plain


def test_a_terminal_sees_a_backquery_in_greys(run):
    text = in_a_terminal("backquery", "digits", *CPU, COLORTERM="truecolor")
    assert re.search(r"\x1b\[38;2;(\d+);\1;\1;48;2;(\d+);\2;\2m▀", text)
    assert max(map(len, ESCAPE.sub("", text).splitlines())) <= 80


# --- inspect, two runs ----------------------------------------------------------------------


@pytest.fixture
def others(run, tmp_path) -> Path:
    """Return a deeper run of the same data as `run`, with another loss and biases."""
    path = tmp_path / "deep"
    asked = ["--data", "digits", "--loss", "cross_entropy", "--hidden", "9,6", "--bias"]
    assert main([*asked, "--epochs", "1", *CPU, "--quiet", "--out", str(path)]) == 0
    return path


@pytest.mark.parametrize("drawn", [False, pytest.param(True, marks=pytest.mark.thorough)])
def test_two_runs_are_set_beside_each_other(run, others, capsys, monkeypatch, drawn, request):
    if not drawn:
        request.getfixturevalue("undrawn")
    monkeypatch.setenv("COLUMNS", "110")
    assert main(["inspect", str(run), str(others), "--index", "3", *CPU]) == 0
    out = capsys.readouterr().out
    lines = [re.sub(" +", " ", line).strip() for line in out.splitlines()]
    assert lines[0] == f"{run} and {others}, sample 3 of the 360 test samples of digits"
    assert lines[1] == "what differs digits deep"
    for words in ("loss squared_error cross_entropy", "hidden 12 9, 6", "bias no yes"):
        assert words in lines
    assert not any(line.startswith("seed") for line in lines)  # which does not differ
    assert "class sum z₂ output a₂ target t class sum z₃ output a₃ target t" in lines
    assert any(re.match(r"has no such layer \d+\. Layer 2 forward", line) for line in lines)
    # their targets differ
    assert any(re.match(r"largest [-\d.]+ 0\.99 largest [-\d.]+ 1$", line) for line in lines)
    assert is_png(Path("inspect-3.png"))
    assert not (run / "figures").exists()


@pytest.mark.usefixtures("undrawn")
def test_of_two_runs_json_has_what_each_has_alone(run, others, capsys):
    alone = []
    for path in (run, others):
        assert main(["inspect", str(path), "--index", "2", "--json", *CPU]) == 0
        alone.append(json.loads(capsys.readouterr().out))
        del alone[-1]["figure"]
    assert main(["inspect", str(run), str(others), "--index", "2", "--json", *CPU]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["runs"] == alone
    assert told["differences"]["loss"] == ["squared_error", "cross_entropy"]
    assert told["figure"] == "inspect-2.png"


def test_two_runs_have_the_same_scales():
    sample, results = np.arange(6.0), []
    for loss, activation, bias in (("rashid", "sigmoid", False), ("cross_entropy", "relu", True)):
        model = MLP([6, 4, 3], backend="cpu", loss=loss, activation=activation, bias=bias, seed=1)
        results.append(trace(model, sample, 1, learning_rate=0.1))
    pages = figures.traces(
        results,
        title="a and b",
        names=["a", "b"],
        differences=["what differs: loss"],
        image_shape=(2, 3),
        classes=["x", "y", "z"],
        value_range=(0, 5),
    )
    assert len(pages) == 10  # the sample, two layers forward, back, updated; a unit; what came
    middle, compared, limits = 0.5, 0, {}
    for number, page in enumerate(pages):
        texts = [text.get_text() for text in page.texts]
        assert {"a", "b"} <= set(texts)
        for axes in page.axes:
            x, y = np.round(axes.get_position().p0, 3)
            place = number, round((x + (x < middle) * middle) * 100), round(y * 100)
            limits.setdefault((place, axes.get_title(loc="left")), []).append(axes.get_ylim())
    for pair in limits.values():
        if len(pair) == 2:
            compared += 1
            assert pair[0] == pair[1]
    assert compared > 12
    assert "what differs: loss" in pages[0].texts[0].get_text()


def test_few_numbers_stand_beside_their_bars_and_the_largest_rows_apart():
    model = MLP([6, 50, 3], backend="cpu", seed=1)
    result = trace(model, np.arange(6.0), 1, learning_rate=0.1)
    look = {"title": "a", "image_shape": None, "classes": ["x", "y", "z"], "value_range": (0, 5)}
    alone = figures.trace(result, slides=True, **look)
    pair = figures.traces([result] * 2, names=["a", "b"], differences=[], slides=True, **look)
    for page in [*alone, *pair]:
        assert np.round(page.get_size_inches() * page.dpi).tolist() == [1920, 1080]
    panels = {axes.get_title(loc="left"): axes for page in alone for axes in page.axes}
    written = [text.get_text().replace("−", "-") for text in panels["output a₂"].texts]
    np.testing.assert_allclose([float(text) for text in written], result.outputs, rtol=0.05)
    assert not panels["output a₁"].texts
    change = np.abs(result.layers[1].arrays["W₂"][2]).max(axis=1)
    rows = [int(tick.get_text()) for tick in panels["its 10 largest rows"].get_yticklabels()]
    assert rows == sorted(np.argsort(change)[-10:].tolist())


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["RUN", "TABLE"], ["5 features of 3 classes", "8×8 images of 10 classes", "same data"]),
        (["RUN", "RUN"], ["the same run twice"]),
        (["RUN", "OTHER", "TABLE"], ["3 runs", "expected one run or two", "RUN RUN PICTURE"]),
        (["RUN", "a.png", "b.png"], ["2 pictures", "at most one picture"]),
        (["RUN", "nowhere"], ["nowhere: no run is there"]),
        (["RUN", "OTHER", "a.png"], ["a.png"]),
    ],
)
def test_runs_that_cannot_be_set_beside_each_other(
    arguments, expected, run, table, trained, capsys
):
    places = {"RUN": str(run), "TABLE": str(table), "OTHER": str(trained / "digits")}
    assert main(["inspect", *(places.get(word, word) for word in arguments), *CPU]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert all(text in error for text in expected), error
    assert not list(Path().glob("*.png"))


def test_two_runs_of_other_samples_are_refused(table, tmp_path, capsys):
    rows = np.loadtxt(
        json.loads((table / "config.json").read_text())["data"]["source"], delimiter=","
    )
    np.savetxt("u.csv", rows[::-1], delimiter=",", fmt="%g")
    asked = ["--data", "u.csv", "--epochs", "1", *CPU, "--quiet", "--out", "u"]
    assert main(asked) == 0
    assert main(["inspect", str(table), "u", *CPU]) == 2
    error = capsys.readouterr().err
    assert re.match(
        r"error: u: was tested on other samples \(.*\) than .*; expected two runs", error
    )
    assert error.count("\n") == 1


# --- backquery ------------------------------------------------------------------------------


def test_backquery_draws_every_class(run, capsys):
    before = contents(run)
    assert main(["backquery", str(run), *CPU]) == 0
    out = capsys.readouterr().out
    assert re.search("[▀▄█]", out)
    rows = re.findall(r"^ +(\d) +[\d.]+ +[\d.]+ +[\d.]+ +\d +[01]\.\d{3}$", out, re.MULTILINE)
    assert rows == [str(label) for label in range(10)]
    assert contents(run) == before
    assert is_png(run / "figures" / "backquery.png")


def test_backquery_gives_its_numbers_as_json(run, capsys):
    assert main(["backquery", str(run), "--label", "3", "--label", "8", "--json", *CPU]) == 0
    told = json.loads(capsys.readouterr().out)
    want = backquery(model_of(run), [3, 8], value_range=(0, 16))
    assert [row["label"] for row in told["labels"]] == [3, 8]
    for row, values, outputs in zip(told["labels"], want.values, want.outputs, strict=True):
        known = [value for value in row["values"] if value is not None]
        np.testing.assert_array_equal(known, values[np.isfinite(values)])
        assert len(row["values"]) == 64 > len(known)  # some pixels are always 0
        np.testing.assert_array_equal(np.float32(row["outputs"]), outputs)
    assert told["figure"] == str(run / "figures" / "backquery-3-8.png")
    assert is_png(Path(told["figure"]))


def test_backquery_of_what_is_no_image_is_bars_and_a_table(table, capsys):
    assert main(["backquery", str(table), *CPU]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^feature of +0 +1 +2$", out, re.MULTILINE)
    assert is_png(table / "figures" / "backquery.png")


# --- weights --------------------------------------------------------------------------------


def test_weights_draws_every_unit_and_says_how_long_they_are(run, capsys):
    before = contents(run)
    assert main(["weights", str(run), *CPU]) == 0
    out = capsys.readouterr().out
    assert "the 8×8 weights into 12 of the first layer's 12 hidden units" in out
    norms = np.linalg.norm(model_of(run).get_weights()[0].astype(float), axis=0)
    for unit in (norms.argmax(), norms.argmin()):
        assert re.search(rf"^ *{unit} +{norms[unit]:.4g} ", out, re.MULTILINE)
    assert contents(run) == before
    assert is_png(run / "figures" / "weights.png")


def test_weights_takes_units(run, capsys):
    assert main(["weights", str(run), "--units", "7, 2-4,3", "--json", *CPU]) == 0
    told = json.loads(capsys.readouterr().out)
    want = incoming_weights(model_of(run), [7, 2, 3, 4])
    assert [row["unit"] for row in told["units"]] == [7, 2, 3, 4]
    assert [row["norm"] for row in told["units"]] == pytest.approx(want.norms.tolist())
    assert (told["image_shape"], told["units_of_layer"]) == ([8, 8], 12)


def test_a_terminal_sees_the_longest_units(run):
    text = in_a_terminal("weights", "digits", *CPU, COLORTERM="truecolor")
    assert re.search(r"\x1b\[38;2;(\d+);\1;\1;48;2;(\d+);\2;\2m▀", text)
    assert max(map(len, ESCAPE.sub("", text).splitlines())) <= 80


def test_the_units_picture_is_grey_where_a_weight_is_0():
    model = MLP([4, 3], backend=select("cpu"))
    model.set_weights([np.array([[1, -2, 0], [-0.5, 0, 0], [0, 1, 0], [1, 2, 0]])])
    drawn = figures.incoming_weights(incoming_weights(model), image_shape=(2, 2))
    png = figures.encoded(drawn, ".png")
    with Image.open(io.BytesIO(png)) as image:
        shades = {shade for _, shade in image.convert("L").getcolors()}
    assert {0, 127, 255} <= shades or {0, 128, 255} <= shades


@pytest.mark.parametrize(
    ("units", "rows", "columns", "about"),
    [
        (range(10), ["0", "3", "6", "9"], ["+0", "+1", "+2"], "row and column added"),
        ([4, 0, 2, 7, 8], ["4, 0", "2, 7", "8"], [], ""),
        ([0, *range(2, 50)], ["0", "8", "15", "22", "29", "36", "43"], [], "each row's first unit"),
    ],
)
def test_every_unit_of_the_picture_has_its_number(units, rows, columns, about):
    model = MLP([4, 50], backend=select("cpu"))
    drawn = figures.incoming_weights(incoming_weights(model, units), image_shape=(2, 2))
    [axes] = drawn.axes
    assert [text.get_text() for text in axes.get_yticklabels()] == rows
    assert [text.get_text() for text in axes.get_xticklabels()] == columns
    assert about in drawn.texts[0].get_text()


@pytest.mark.usefixtures("undrawn")
def test_inspect_takes_a_unit_a_rate_and_a_file_of_arrays(run, capsys):
    asked = ["inspect", str(run), "--unit", "3", "--learning-rate", "0.5", "--json", *CPU]
    assert main([*asked, "--arrays", "a.npz"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["worked"]["unit"], told["learning_rate"]) == (3, 0.5)
    with np.load("a.npz") as held:
        W1, W2 = model_of(run).get_weights()
        np.testing.assert_array_equal(held["W1"], W1)
        np.testing.assert_array_equal(held["W2"], W2)
        step = -0.5 * np.outer(held["a1"], held["delta2"])
        np.testing.assert_allclose(held["W2_change"], step, rtol=1e-6)
    assert main(["inspect", str(run), "--unit", "12", *CPU]) == 2
    assert "--unit 12: expected 0 to 11" in capsys.readouterr().err


def test_the_heat_maps_colours_are_told_apart_in_grey():
    colours = _SIGNED(np.linspace(0, 1, 51))[:, :3]
    assert (np.diff(colours @ [0.299, 0.587, 0.114]) < 0).all()


# --- what they have in common ---------------------------------------------------------------


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("command", ["inspect", "backquery", "weights"])
def test_weights_of_another_program_go_with_a_recipe(run, command, capsys):
    model = MLP.load(run, backend="cpu")
    np.savez("w.npz", **dict(zip(model.names, model.get_weights(), strict=True)))
    asked = [command, "w.npz", "--recipe", "digits", "--data", "digits", "--json", *CPU]
    assert main([command, str(run), "--json", *CPU]) == 0
    assert main(asked) == 0
    own, others = capsys.readouterr().out.strip().rsplit("\n", 1)
    own, others = json.loads(own), json.loads(others)
    name = "inspect-0.png" if command == "inspect" else f"{command}.png"
    assert others["figure"] == name
    assert Path(name).stat().st_size
    for key in ("outputs", "labels", "units"):
        assert own.get(key) == others.get(key)
    assert main([command, "w.npz", *CPU]) == 2
    assert "--recipe" in capsys.readouterr().err


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("command", ["inspect", "backquery", "weights"])
def test_show_says_where_no_window_can_be_opened(run, command, capsys, monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert main([command, str(run), "--show", *CPU]) == 0
    error = capsys.readouterr().err
    assert error.startswith("--show: ")
    assert error.count("\n") == 1


@pytest.mark.parametrize("command", ["inspect", "backquery", "weights"])
def test_their_help_teaches(command, capsys):
    assert main([command, "--help"]) == 0
    out = capsys.readouterr().out
    assert f"Usage: python -m trainer {command}" in out
    assert f"python -m trainer {command} runs/r1" in out


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["inspect", "nowhere"], ["nowhere", "no run is there"]),
        (["inspect", "RUN", "--index", "360"], ["--index 360", "0 to 359", "360 test samples"]),
        (["inspect", "RUN", "--index", "-1"], ["--index -1", "0 to 359"]),
        (["inspect", "RUN", "--index", "x"], ["--index", "whole number"]),
        (["inspect", "RUN", "--out", "a.jpg"], ["a.jpg", ".png, .svg or .pdf", "inspect-0.png"]),
        (["inspect", "RUN", "--out", "no/a.png"], ["there is no folder no"]),
        (["inspect", "RUN", "--out", "folder.png"], ["folder.png", "it is a folder"]),
        (["inspect", "RUN", "--data", "x.csv"], ["x.csv"]),
        (["inspect", "RUN", "--device", "gqu"], ["gqu", "auto, cpu, gpu or gpu:N"]),
        (["inspect", "RUN", "--recipe", "book"], ["--recipe book", "omit --recipe"]),
        (["backquery", "nowhere"], ["nowhere", "no run is there"]),
        (["backquery", "RUN", "--label", "ten"], ["--label ten", "one of 0, 1, 2", "9"]),
        (["backquery", "RUN", "--out", "a.jpg"], ["a.jpg", "backquery.png"]),
        (["weights", "nowhere"], ["nowhere", "no run is there"]),
        (["weights", "RUN", "--units", "1,x"], ["--units 1,x", "0,5,10-19"]),
        (["weights", "RUN", "--units", "12"], ["there is no unit 12", "0 to 11"]),
        (["weights", "RUN", "--units", "5-3"], ["5-3 runs backwards", "3-5"]),
        (["weights", "RUN", "--units", ""], ["--units", "0,5,10-19"]),
        (["weights", "TABLE"], ["5 features", "no image", "trainer inspect"]),
    ],
)
def test_a_mistake_is_one_line_with_the_way_out(arguments, expected, trained, capsys):
    Path("folder.png").mkdir()
    places = {"RUN": str(trained / "digits"), "TABLE": str(trained / "table")}
    assert main([places.get(word, word) for word in arguments]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert all(text in captured.err for text in expected), captured.err
    assert sorted(path.name for path in Path().iterdir()) == ["folder.png"]


@pytest.mark.parametrize("command", ["inspect", "backquery", "weights"])
def test_a_folder_that_cannot_be_written_is_a_mistake_of_one_line(run, command, capsys):
    (run / "figures").write_text("in the way")
    assert main([command, str(run), *CPU]) == 2
    error = capsys.readouterr().err
    assert f"{run / 'figures'} is a file" in error
    assert "--out" in error
    assert error.count("\n") == 1
    assert (run / "figures").read_text() == "in the way"


def test_a_config_without_a_rate_is_one_line(run, capsys):
    config = json.loads((run / "config.json").read_text())
    del config["settings"]["learning_rate"]
    (run / "config.json").write_text(json.dumps(config))
    assert main(["inspect", str(run), *CPU]) == 2
    error = capsys.readouterr().err
    assert "settings.learning_rate" in error
    assert error.count("\n") == 1


def test_a_run_of_unknown_seed_has_no_fresh_weights(run, capsys):
    model = model_of(run)
    model.seed = None
    model.save(run / "model.safetensors")
    assert main(["inspect", str(run), "--untrained", *CPU]) == 2
    assert "--untrained" in capsys.readouterr().err

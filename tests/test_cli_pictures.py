"""Pictures of one's own, on the command line: `predict` and `inspect`."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainer import MLP, load
from trainer.cli import main

CPU = ["--device", "cpu"]


@pytest.fixture(scope="module")
def digits_run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "digits"
    options = ["--data", "digits", "--recipe", "rashid", "--epochs", "8", "--seed", "1"]
    assert main([*options, *CPU, "--quiet", "--out", str(folder)]) == 0
    return folder


@pytest.fixture
def run(digits_run, tmp_path, monkeypatch) -> Path:
    """A run of the 8×8 digits, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(digits_run, "r"))


def draw(file: str, number: int, *, side: int = 160) -> int:
    """Save a test digit in dark ink on white paper; return its label."""
    data = load("digits")
    ink = Image.fromarray((data.test_x[number].reshape(8, 8) * 15.9).astype(np.uint8))
    page = Image.new("L", (300, 260), 255)
    page.paste(
        Image.eval(ink.resize((side, side), Image.Resampling.BICUBIC), lambda v: 255 - v), (60, 40)
    )
    Path(file).parent.mkdir(parents=True, exist_ok=True)
    page.save(file)
    return int(data.test_y[number])


def test_a_folder_is_a_table_with_a_summary(run, capsys):
    labels = [draw(f"mine/{number:02}.png", number) for number in range(12)]
    Path("mine/notes.txt").write_text("not a picture")
    Path("mine/.hidden.png").write_text("not a picture")
    assert main(["predict", str(run), "mine", *CPU, "--out", "a.csv"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    with open("a.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == [f"mine/{number:02}.png" for number in range(12)]
    assert np.mean([int(r["answer"]) == y for r, y in zip(rows, labels, strict=True)]) > 0.8
    for row in rows:
        line = next(line for line in out.splitlines() if line.startswith(row["file"]))
        answer, output, other, less = line.split()[1:]
        assert answer == row["answer"]
        assert float(output) == pytest.approx(float(row["output"]), abs=6e-4)
        assert (answer != other, float(less) <= float(output)) == (True, True)
    counts = np.bincount([int(row["answer"]) for row in rows])
    [summary] = [line for line in out.splitlines() if line.startswith("12 pictures: ")]
    told = {int(m[2]): int(m[1]) for m in re.finditer(r"(\d+) (?:is|are) (\d)", summary)}
    assert told == {code: count for code, count in enumerate(counts.tolist()) if count}
    least = min(rows, key=lambda row: float(row["output"]))["file"]
    assert f"least sure: {least}" in out


def test_several_pictures_end_with_a_summary_and_one_does_not(run, capsys):
    first, second = draw("a.png", 0), draw("b.png", 1)
    assert main(["predict", str(run), "a.png", "b.png", *CPU]) == 0
    out = capsys.readouterr().out
    assert re.findall(r"answer: (\d)", out) == [str(first), str(second)]
    assert out.index("answer: ") < out.index("2 pictures: ")
    assert main(["predict", str(run), "a.png", *CPU]) == 0
    assert "pictures" not in capsys.readouterr().out


def test_a_folder_of_one_picture_is_a_table_too(run, capsys):
    label = draw("mine/a.png", 0)
    assert main(["predict", str(run), "mine", *CPU]) == 0
    out = capsys.readouterr().out
    assert "answer: " not in out
    assert f"1 picture: 1 is {label}" in out


def test_unreadable_pictures_of_a_folder_are_told_and_the_others_answered(run, capsys):
    draw("mine/a.png", 0)
    draw("mine/b.png", 1)
    Path("mine/c.png").write_text("no picture")
    Image.new("L", (20, 20), 255).save("mine/d.png")
    assert main(["predict", str(run), "mine", *CPU]) == 2
    out, err = capsys.readouterr()
    assert "2 of 4 pictures: " in out
    assert [line.split(":")[1].strip() for line in err.splitlines()] == ["mine/c.png", "mine/d.png"]


@pytest.mark.parametrize("holds", ["nothing", "folders"])
def test_a_folder_without_pictures(run, capsys, holds):
    Path("empty").mkdir(exist_ok=True)
    if holds == "folders":
        draw("empty/3/a.png", 0)
    assert main(["predict", str(run), "empty", *CPU]) == 2
    err = capsys.readouterr().err
    assert "empty: no picture is in this folder" in err
    assert ("evaluate RUN --data empty" in err) == (holds == "folders")


def test_what_is_no_picture_is_told(run, capsys):
    draw("mine/a.png", 0)
    Path("x.csv").write_text("1,2\n")
    Path("x.json").write_text("{}")
    assert main(["predict", str(run), "x.csv", "x.json", *CPU]) == 2
    data, unknown = capsys.readouterr().err.splitlines()
    assert "x.csv: a data file, not a picture; give it as --data x.csv" in data
    assert "x.json: not a readable image" in unknown
    assert "save it as one of these" in unknown
    assert main(["predict", str(run), "mine/*.png", *CPU]) == 2
    assert "for all pictures of a folder give its own name: mine" in capsys.readouterr().err


def test_data_of_the_other_polarity_is_told(run, capsys):
    data = load("digits")
    np.savez("dark.npz", x=16 - data.test_x, y=data.test_y)
    np.savez("light.npz", x=data.test_x, y=data.test_y)
    for file, is_told in (("dark.npz", True), ("light.npz", False)):
        for asked in (["evaluate", str(run)], ["predict", str(run), "--out", "a.csv"]):
            assert main([*asked, "--data", file, *CPU]) == 0
            assert ("are dark on light, those trained on" in capsys.readouterr().err) == is_told


def test_what_else_is_in_a_picture_is_told(run, capsys):
    draw("one.png", 0)
    draw("two.png", 1, side=110)
    pages = [np.asarray(Image.open(name)) for name in ("one.png", "two.png")]
    Image.fromarray(np.concatenate(pages, axis=1)).save("both.png")
    assert main(["predict", str(run), "both.png", *CPU]) == 0
    assert "both.png: something else of a digit's size" in capsys.readouterr().err
    assert main(["predict", str(run), "both.png", "one.png", *CPU]) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if "0." in line]
    assert any(row.startswith("both.png") and "to the right of it" in row for row in rows)


def test_the_figure_has_a_row_a_picture(run, capsys):
    for number in range(3):
        draw(f"mine/{number}.png", number)
    heights = []
    for asked in (["mine/0.png"], ["mine"], ["--index", "3"]):
        assert main(["predict", str(run), *asked, "--figure", "seen.png", *CPU]) == 0
        assert "figure: seen.png" in capsys.readouterr().out
        heights.append(Image.open("seen.png").height)
    assert heights[1] > 2.5 * heights[0]
    assert heights[2] == heights[0]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (["a.png", "--figure", "a.jpg"], ["--figure a.jpg", ".svg", "seen.png"]),
        (["a.png", "--figure", "none/a.png"], ["--figure none/a.png", "no folder none"]),
        (["--data", "digits", "--out", "a.csv", "--figure", "a.png"], ["--figure", "one sample"]),
        (["a.png", "--format", "kaggle", "--out", "a.csv"], ["without --index and --format"]),
        (["a.png", "--data", "digits"], ["without --data", "knows what it is for"]),
    ],
)
def test_mistakes_are_told_in_a_line(run, capsys, asked, words):
    draw("a.png", 0)
    assert main(["predict", str(run), *asked, *CPU]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert all(word in err for word in words)
    assert not Path("a.csv").exists()


def inspected(capsys, *arguments: str) -> dict:
    assert main(["inspect", *arguments, "--json", *CPU]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.thorough
def test_inspect_follows_a_picture(run, capsys):
    label = draw("four.png", 2)
    result = inspected(capsys, str(run), "four.png")
    model = MLP.load(run, backend="cpu")
    values = np.array(result["values"], np.uint8)
    outputs = np.asarray(model.predict_proba(values[None]))[0]
    assert result["outputs"] == pytest.approx(outputs.tolist())
    assert result["label"] == result["answer"] == int(outputs.argmax()) == label
    assert (result["sample"], result["source"]) == (None, "four.png")
    assert Path(result["figure"]).name == "inspect-four.png"
    other = (label + 1) % 10
    result = inspected(capsys, str(run), "four.png", "--label", str(other))
    assert (result["label"], result["answer"]) == (other, label)
    target = np.full(10, 0.01)
    target[other] = 0.99
    assert result["targets"] == pytest.approx(target.tolist())


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (["a.png", "--index", "3"], ["without --index"]),
        (["--label", "3"], ["--label 3: only with a picture"]),
        (["a.png", "--label", "ten"], ["--label ten: expected one of 0, 1"]),
        (["none.png"], ["none.png: there is no such image file"]),
        (["."], [".: a folder; expected one picture"]),
        (["x.npy"], ["x.npy: a data file, not a picture", "--data x.npy"]),
    ],
)
def test_mistakes_of_inspect(run, capsys, asked, words):
    draw("a.png", 0)
    np.save("x.npy", np.zeros((3, 64)))
    assert main(["inspect", str(run), *asked, *CPU]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert all(word in err for word in words)
    assert not list(Path(run).glob("figures/*"))


def images_run(tmp_path: Path, images: np.ndarray, labels: np.ndarray) -> Path:
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        folder = tmp_path / "train" / str(label)
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{number}.png")
    options = ["--recipe", "rashid", "--epochs", "10", "--quiet", *CPU]
    assert main(["--data", str(tmp_path / "train"), *options, "--out", "r"]) == 0
    return Path("r")


@pytest.mark.parametrize(
    "polarity", ["dark ink", pytest.param("light ink", marks=pytest.mark.thorough)]
)
@pytest.mark.parametrize("corner", [pytest.param("middle", marks=pytest.mark.thorough), "corner"])
def test_pictures_become_what_a_folder_of_images_has(tmp_path, monkeypatch, polarity, corner):
    """Scanned digits, on white or on black, centred or in a corner: pictures are made like them."""
    monkeypatch.chdir(tmp_path)
    data = load("digits")
    ink = [
        np.asarray(Image.fromarray((x.reshape(8, 8) * 15.9).astype(np.uint8)).resize((14, 14)))
        for x in data.train_x[:700]
    ]
    images = np.zeros((700, 24, 24), np.uint8)
    start = 5 if corner == "middle" else 1
    images[:, start : start + 14, start : start + 14] = ink
    if polarity == "dark ink":
        images = 255 - images
    run = images_run(tmp_path, images, data.train_y[:700])
    framing = json.loads((run / "config.json").read_text())["data"]["framing"]
    assert framing["background"] == (255 if polarity == "dark ink" else 0)
    assert framing["box"] == pytest.approx([14, 14], abs=1)
    assert framing["centre"] == pytest.approx([start + 7, start + 7], abs=0.7)
    labels = [draw(f"mine/{number:03}.png", number) for number in range(60)]
    assert main(["predict", str(run), "mine", "--out", "a.csv", *CPU]) == 0
    with open("a.csv") as file:
        answers = [int(row["answer"]) for row in csv.DictReader(file)]
    assert np.mean(np.array(answers) == labels) > 0.8


def test_photographs_are_taken_as_they_are(tmp_path, monkeypatch):
    """Images without a background are no drawings, out of which something could be cut."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 2
    images = rng.integers(0, 120, (60, 12, 12)) + 120 * labels[:, None, None]
    run = images_run(tmp_path, images.astype(np.uint8), labels)
    config = json.loads((run / "config.json").read_text())
    assert config["data"]["framing"] is None
    for name, low in (("dark", 0), ("light", 120)):
        Image.fromarray(rng.integers(low, low + 120, (48, 36)).astype(np.uint8)).save(f"{name}.png")
    assert main(["predict", str(run), "dark.png", "light.png", "--out", "a.csv", *CPU]) == 0
    with open("a.csv") as file:
        assert [row["answer"] for row in csv.DictReader(file)] == ["0", "1"]


@pytest.mark.parametrize(
    "recorded",
    [
        *(None, "gone", {}, [3], "x"),
        *({"box": [99, 8]}, {"centre": "ab"}, {"ink": 300}, {"background": 1e300}, {"ink": 0}),
    ],
)
def test_runs_of_older_versions_and_damaged_ones(run, capsys, recorded):
    label = draw("a.png", 0)
    file = run / "config.json"
    config = json.loads(file.read_text())
    whole = config["data"]["framing"]
    if recorded == "gone":
        del config["data"]["framing"]
    else:
        config["data"]["framing"] = (
            whole | recorded if isinstance(recorded, dict) and recorded else recorded
        )
    file.write_text(json.dumps(config))
    code = main(["predict", str(run), "a.png", *CPU])
    out, err = capsys.readouterr()
    if recorded in (None, "gone"):
        assert (code, err) == (0, "")
        assert recorded is None or f"answer: {label}" in out
    else:
        assert code == 2
        assert "data.framing cannot be read" in err
        assert err.count("\n") == 1

"""`evaluate`'s figures and numbers, and `--show`."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from matplotlib import pyplot
from PIL import Image

from trainer import figures, load
from trainer.cli import main
from trainer.figures import style
from trainer.metrics import Mistake, evaluate, surest_mistakes

CPU = ["--device", "cpu"]


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "digits"
    assert main(["--data", "digits", *CPU, "--epochs", "3", "--quiet", "--out", str(path)]) == 0
    return path


@pytest.fixture(autouse=True)
def _in_an_empty_folder_without_a_display(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pyplot, "get_backend", lambda: "agg")


# --- the pictures ---------------------------------------------------------------------------


def answers(classes: list, wrong: float) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    k = len(classes)
    labels = rng.integers(0, k, 5000)
    return labels, np.where(rng.random(5000) < wrong, rng.integers(0, k, 5000), labels)


@pytest.mark.filterwarnings("error")  # matplotlib's, of what does not fit
@pytest.mark.parametrize(
    ("classes", "wrong"),
    [
        (["only"], 0),
        (["cat", "dog"], 0.05),
        (list(range(10)), 0),
        ([f"letter {i}" for i in range(26)], 0.3),
        (list(range(60)), 0.3),
    ],
    ids=["one", "two", "no errors", "names", "many"],
)
def test_a_confusion_matrix_is_a_png_image_of_at_most_200_kb(classes, wrong):
    result = evaluate(*answers(classes, wrong), classes)
    png = figures.encoded(figures.confusion(result), ".png")
    assert len(png) <= 200_000
    with Image.open(io.BytesIO(png)) as image:
        assert image.format == "PNG"
        assert min(image.size) > 200


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("count", "shape"), [(1, (28, 28)), (7, (3, 9)), (24, (8, 8)), (25, (8, 8))]
)
def test_a_gallery_is_a_png_image(count, shape):
    worst = [Mistake(i, "a class of many words", "another one", 0.9) for i in range(count)]
    images = np.zeros((count, shape[0] * shape[1]))
    png = figures.encoded(figures.mistakes(worst, images, shape, (0, 0)), ".png")
    assert len(png) <= 200_000
    with Image.open(io.BytesIO(png)) as image:
        assert image.format == "PNG"


def test_an_image_of_many_colours_keeps_what_it_shows():
    figure = style.new_figure(6, 6)
    noise = np.random.default_rng(0).normal(size=(600, 600))
    figure.add_subplot().imshow(noise, cmap="RdBu")
    figure.set_layout_engine("none")  # which would move the axes a little every time
    plain = io.BytesIO()
    figure.savefig(plain, format="png")
    small = figures.encoded(figure, ".png")
    assert len(small) < len(plain.getvalue()) / 2
    before, after = (
        np.asarray(Image.open(file).convert("RGB"), float) for file in (plain, io.BytesIO(small))
    )
    assert np.abs(before - after).max() < 20


def test_the_surest_mistakes_come_first():
    outputs = np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3], [0.4, 0.6], [0.3, 0.7]])
    labels = np.array([0, 0, 1, 0, 0])
    worst = surest_mistakes(labels, outputs, ("a", "b"), most=3)
    assert [mistake.index for mistake in worst] == [1, 2, 4]
    assert worst[0] == Mistake(1, "a", "b", 0.8)
    assert surest_mistakes(np.array([0, 1, 0, 1, 1]), outputs, ("a", "b"), 3) == []


# --- evaluate -------------------------------------------------------------------------------


def test_evaluate_draws_into_the_runs_folder_and_replaces_only_its_own(run, capsys):
    folder = run / "figures"
    folder.mkdir(exist_ok=True)
    for name in ("mistakes.png", "somebody-elses.png"):
        (folder / name).write_text("older")
    before = {file.name: file.read_bytes() for file in run.iterdir() if file.is_file()}
    assert main(["evaluate", str(run), *CPU, "--figures"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    files = [folder / "confusion.png", folder / "mistakes.png"]
    assert f"figures: {files[0]}, {files[1]}" in captured.out
    assert all(file.read_bytes().startswith(b"\x89PNG") for file in files)
    assert (folder / "somebody-elses.png").read_text() == "older"
    assert {file.name: file.read_bytes() for file in run.iterdir() if file.is_file()} == before


def test_evaluate_tells_its_numbers_in_json(run, capsys):
    assert main(["evaluate", str(run), *CPU, "--json"]) == 0
    captured = capsys.readouterr()
    result = json.loads(captured.out)
    assert (captured.err, captured.out.count("\n")) == ("", 1)
    data = load("digits")
    confusion = np.array(result["confusion"])
    assert confusion.sum() == result["samples"] == len(data.test_y)
    assert np.trace(confusion) == result["right"]
    assert result["accuracy"] == pytest.approx(result["right"] / result["samples"])
    assert [score["label"] for score in result["classes"]] == [str(c) for c in range(10)]
    assert result["figures"] == []
    worst = result["surest_mistakes"]
    wrong = result["samples"] - result["right"]
    assert len(worst) == (wrong if wrong <= 80 else 24)
    assert [w["confidence"] for w in worst] == sorted(
        (w["confidence"] for w in worst), reverse=True
    )
    for mistake in worst:
        assert mistake["truth"] == str(data.test_y[mistake["index"]]) != mistake["answer"]
    assert main(["evaluate", str(run), *CPU, "--json", "--figures"]) == 0
    assert len(json.loads(capsys.readouterr().out)["figures"]) == 2


def test_without_images_there_is_no_gallery_and_one_line_says_so(capsys):
    rng = np.random.default_rng(0)
    rows = np.column_stack([rng.integers(0, 3, 60), rng.integers(0, 256, (60, 5))])
    np.savetxt("own.csv", rows, fmt="%d", delimiter=",")
    assert main(["--data", "own.csv", *CPU, "--epochs", "1", "--quiet", "--out", "o"]) == 0
    assert main(["evaluate", "o", *CPU, "--figures"]) == 0
    captured = capsys.readouterr()
    assert captured.err == "no picture of the mistakes: they are no images\n"
    assert os.listdir("o/figures") == ["confusion.png"]


def test_without_mistakes_an_older_gallery_goes(run, capsys):
    assert main(["evaluate", str(run), *CPU, "--figures"]) == 0
    assert (run / "figures" / "mistakes.png").exists()
    data = load("digits")
    x = np.concatenate([data.train_x, data.test_x])
    y = np.concatenate([data.train_y, data.test_y])
    np.savez("all.npz", x_train=x, y_train=y)
    assert main(["predict", str(run), "--data", "all.npz", "--out", "a.csv", *CPU]) == 0
    answered = np.loadtxt("a.csv", delimiter=",", skiprows=1)[:, 1]
    np.savez("right.npz", x_train=x[answered == y], y_train=y[answered == y])
    capsys.readouterr()
    assert main(["evaluate", str(run), *CPU, "--data", "right.npz", "--figures"]) == 0
    captured = capsys.readouterr()
    assert "accuracy 100.00 %" in captured.out
    assert captured.err == "no picture of the mistakes: there are none\n"
    assert not (run / "figures" / "mistakes.png").exists()


# --- windows --------------------------------------------------------------------------------


def test_without_a_display_one_line_says_so(run, capsys):
    assert main(["evaluate", str(run), *CPU, "--show", "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["figures"] == []
    assert captured.err == "--show: no window can be opened here (there is no display)\n"


def test_with_a_display_every_image_has_a_window_until_they_are_closed(monkeypatch):
    figure = style.new_figure(3, 2)
    waited = []
    monkeypatch.setattr(pyplot, "get_backend", lambda: "TkAgg")
    monkeypatch.setattr(pyplot, "show", lambda block: waited.append(pyplot.get_fignums()))
    assert figures.show([figure, [figure, figure]]) == ""
    assert waited == [[1, 2]]
    assert pyplot.get_fignums() == []


def test_a_toolkit_that_fails_is_one_line(monkeypatch):
    def fail(*args, **options):
        raise RuntimeError("The toolkit requires another.\nAnd more.")

    monkeypatch.setattr(pyplot, "get_backend", fail)
    line = figures.show([style.new_figure(1, 1)])
    assert line == "--show: no window can be opened here (The toolkit requires another.)"

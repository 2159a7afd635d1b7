"""Training curves: the picture, the labels and the numbers of `plot` and `train --figures`."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import pytest
from matplotlib import pyplot
from PIL import Image

from trainer import figures
from trainer.cli import main
from trainer.commands import plot
from trainer.running.run_folder import Run

FAST = ["--data", "digits", "--device", "cpu", "--quiet"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """Return a folder of short runs."""
    folder = tmp_path_factory.mktemp("runs")
    different = {
        "plain": [],
        "same": [],
        "slow": ["--learning-rate", "0.01"],
        "deep": ["--hidden", "20,10", "--bias", "--validation", "100"],
        "rashid": ["--recipe", "rashid"],
        "other": ["--loss", "cross_entropy", "--init", "fan_in"],
        "shifted": ["--augment", "shift:1", "--seed", "1"],
    }
    for name, options in different.items():
        common = [*FAST, "--epochs", "2", "--limit", "300"]
        assert main([*common, *options, "--out", str(folder / name)]) == 0
    return folder


@pytest.fixture(autouse=True)
def _in_an_empty_folder_without_a_display(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pyplot, "get_backend", lambda: "agg")


def metrics(epochs: int, **others: float | None) -> list[dict]:
    lines = [
        {"epoch": e, "train_loss": 1 / e, "test_accuracy": 1 - 0.5 / e} for e in epochs_of(epochs)
    ]
    return [line | others for line in lines]


def epochs_of(count: int) -> range:
    return range(1, count + 1)


@pytest.mark.filterwarnings("error")  # matplotlib's, of what does not fit
@pytest.mark.parametrize(
    "runs",
    [
        [("", metrics(1))],
        [("", metrics(5, test_accuracy=None))],
        [("", metrics(300, validation_accuracy=0.5, train_accuracy=0.9))],
        [("short", metrics(3)), ("long", metrics(80, validation_accuracy=0.7))],
        [(f"learning rate 0.{i}, {'a long setting, ' * i}", metrics(9)) for i in range(20)],
    ],
    ids=["one epoch", "no test", "every kind", "two runs", "more runs than colours"],
)
def test_curves_are_a_png_image_of_at_most_200_kb(runs):
    png = figures.encoded(figures.curves(runs), ".png")
    assert len(png) <= 200_000
    with Image.open(io.BytesIO(png)) as image:
        assert image.format == "PNG"
        assert image.width == 1500
        assert len(image.convert("RGB").getcolors(maxcolors=1 << 20)) > 50


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0.895, 0.991, [90, 95, 97, 98, 99]),
        (0.955, 0.9725, [95.5, 96, 96.5, 97]),
        (0.1, 0.98, [50, 80, 90, 95, 98]),
        (0.5, 1.0, [50, 80, 90, 95, 98, 99, 99.5, 99.8, 100]),
    ],
)
def test_the_scale_of_right_answers_has_ticks_and_says_what_it_is(low, high, ticks):
    lines = [{"epoch": e, "train_loss": 1, "test_accuracy": a} for e, a in enumerate((low, high))]
    right = figures.curves([("", lines)]).axes[1]
    assert "logarithmic in the errors" in right.get_ylabel()
    assert set(right.get_yticks()) >= set(ticks[1:-1])
    assert 4 <= len(right.get_yticks()) <= 12
    # half the errors is as far anywhere, where they are many compared to where the scale ends
    place = right.get_yaxis_transform().transform
    at = [place((0, percent))[1] for percent in (80, 90, 95)]
    assert at[2] - at[1] == pytest.approx(at[1] - at[0], rel=0.05)


def caption_of(names: list[str], runs: Path) -> str:
    return "\n".join(plot.curves_caption([Run.open(runs / name) for name in names]))


def test_a_caption_says_what_was_trained_and_what_is_not_comparable(runs):
    alone = caption_of(["plain"], runs)
    for words in ("run plain", "digits", "hidden 100", "loss squared_error", "learning rate 0.3"):
        assert words in alone
    assert str(runs) not in alone
    for names in (
        ["plain", "slow", "deep"],
        ["plain", "rashid"],
    ):  # whose losses are the same number
        assert "comparable" not in caption_of(names, runs)
    assert "losses of different kinds (squared_error, cross_entropy)" in caption_of(
        ["plain", "other"], runs
    )
    copy = Path(shutil.copytree(runs / "slow", "elsewhere"))
    config = json.loads((copy / "config.json").read_text())
    config["data"] |= {"name": "letters", "crc32": "0"}
    (copy / "config.json").write_text(json.dumps(config))
    told = caption_of(["plain", str(copy.absolute())], runs)
    assert "different data (digits, letters)" in told
    drawn = figures.curves([("a", metrics(2)), ("b", metrics(2))], caption=told.split("\n"))
    assert "different data (digits, letters)" in drawn.get_supxlabel()


def plotted(names: list[str], runs: Path, capsys) -> dict:
    assert main(["plot", *(str(runs / name) for name in names), "--json"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return json.loads(captured.out)


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (["plain", "slow"], ["learning rate 0.3", "learning rate 0.01"]),
        (["plain", "same"], ["plain", "same"]),
        (
            ["plain", "deep"],
            ["hidden 100, no bias, no validation", "hidden 20,10, bias, validation 100"],
        ),
        (["plain", "shifted"], ["no augment, seed 0", "augment shift:1, seed 1"]),
        # what a recipe brings along goes without saying
        (["plain", "rashid"], ["recipe digits", "recipe rashid"]),
        (
            ["plain", "same", "slow"],
            ["learning rate 0.3, plain", "learning rate 0.3, same", "learning rate 0.01"],
        ),
    ],
)
def test_runs_are_named_by_what_differs(runs, names, labels, capsys):
    result = plotted(names, runs, capsys)
    assert [run["label"] for run in result["runs"]] == labels


def test_the_numbers_are_the_runs(runs, capsys):
    result = plotted(["plain", "deep"], runs, capsys)
    assert result["figure"] == "curves.png"
    assert Path("curves.png").read_bytes().startswith(b"\x89PNG")
    for run in result["runs"]:
        lines = Path(run["run"], "metrics.jsonl").read_text().splitlines()
        assert run["epochs"] == [json.loads(line) for line in lines]


def test_a_single_run_is_drawn_into_its_folder(runs, capsys):
    file = runs / "slow" / "figures" / "curves.png"
    assert main(["plot", str(runs / "slow")]) == 0
    assert f"figure: {file}" in capsys.readouterr().out
    file.write_text("an older one")
    result = plotted(["slow"], runs, capsys)
    assert result["figure"] == str(file)
    assert file.read_bytes().startswith(b"\x89PNG")
    assert main(["plot", str(runs / "slow"), "--out", "here.png"]) == 0
    assert Path("here.png").read_bytes() == file.read_bytes()


def test_plot_shows_how_each_run_ended(runs, capsys):
    assert main(["plot", str(runs / "plain"), str(runs / "slow"), "--show"]) == 0
    captured = capsys.readouterr()
    last = json.loads((runs / "slow" / "metrics.jsonl").read_text().splitlines()[-1])
    for text in ("what differs", "0.01", f"{100 * last['test_accuracy']:.2f} %"):
        assert text in captured.out
    assert captured.err.startswith("--show: no window can be opened here (")
    assert captured.err.count("\n") == 1


def test_runs_of_an_older_version_are_plotted_too(runs, capsys):
    config = json.loads((runs / "plain" / "config.json").read_text())
    old = {"data": config["data"], "settings": {"learning_rate": 0.3}, "seed": 0}
    Path("old").mkdir()
    Path("old/config.json").write_text(json.dumps(old))
    Path("old/metrics.jsonl").write_text('{"epoch": 1, "train_loss": 0.5}\n')
    result = plotted(["plain", str(Path("old").absolute())], runs, capsys)
    assert len(result["runs"]) == 2


def test_training_draws_its_curves(capsys):
    options = [*FAST[:-1], "--epochs", "2", "--limit", "100", "--figures"]
    assert main([*options, "--out", "o"]) == 0
    assert "figure: o/figures/curves.png" in capsys.readouterr().out
    assert Path("o/figures/curves.png").read_bytes().startswith(b"\x89PNG")
    assert main([*options, "--out", "p", "--json"]) == 0
    end = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert end["figure"] == "p/figures/curves.png"
    assert main([*FAST, "--epochs", "1", "--limit", "100", "--out", "q"]) == 0
    assert not Path("q/figures").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["plot"], ["python -m trainer plot runs/r1"]),
        (["plot", "nowhere"], ["nowhere", "no run is there"]),
        (["plot", "begun"], ["begun", "no epoch of this run has ended"]),
        (["plot", "damaged"], ["metrics.jsonl", "not a run's metrics"]),
        (["plot", "odd"], ["metrics.jsonl", "not a run's metrics"]),
        (["plot", "RUN", "--out", "a.jpg"], ["a.jpg", ".png, .svg or .pdf", "curves.png"]),
        (["plot", "RUN", "--out", "nowhere/a.png"], ["there is no folder nowhere"]),
    ],
)
def test_a_mistake_is_one_line(runs, arguments, words, capsys):
    lines = {"damaged": '{"epoch": 1,\n', "odd": '{"epoch": 1, "train_loss": "low"}', "begun": ""}
    for name, line in lines.items():
        Path(name).mkdir()
        Path(name, "config.json").write_bytes((runs / "plain" / "config.json").read_bytes())
        Path(name, "metrics.jsonl").write_text(line)
    assert main([str(runs / "plain") if a == "RUN" else a for a in arguments]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert all(word in error for word in words), error

"""Figures as files: what is in a PNG, an SVG and a PDF, and which commands write them."""

from __future__ import annotations

import io
import re
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib import rc_context
from matplotlib.figure import Figure
from PIL import Image

from trainer import figures
from trainer.cli import main
from trainer.commands.figure_files import _SUFFIXES
from trainer.figures import style

CPU = ["--device", "cpu"]
COMMANDS = ["backquery", "evaluate", "inspect", "plot", "predict", "weights"]
SVG = "{http://www.w3.org/2000/svg}"


def a_figure(name: str = "a & <b>") -> Figure:
    figure = style.new_figure(3, 2)
    axes = figure.add_subplot()
    axes.imshow(np.eye(3))
    figure.colorbar(axes.images[0])
    axes.set_title(name)
    return figure


def texts(svg: bytes) -> list[str]:
    return ["".join(node.itertext()) for node in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def test_a_figure_can_be_changed_before_it_is_saved():
    figure = figures.curves([("", [{"epoch": 1, "train_loss": 0.5, "test_accuracy": 0.9}])])
    figure.axes[0].set_title("mine")
    assert "mine" in texts(figures.encoded(figure, ".svg"))


@pytest.mark.parametrize("suffix", _SUFFIXES)
def test_the_same_figure_makes_the_same_bytes(suffix):
    once, again = (figures.encoded([a_figure(), a_figure("c")], suffix) for _ in range(2))
    assert once == again
    with rc_context({"savefig.bbox": "tight", "svg.fonttype": "path", "svg.hashsalt": "other"}):
        assert figures.encoded([a_figure(), a_figure("c")], suffix.upper()) == once


def test_an_svg_image_is_xml_with_its_text_as_text():
    svg = figures.encoded(a_figure(), ".svg")
    assert "a & <b>" in texts(svg)
    assert b"<dc:date>" not in svg
    root = ElementTree.fromstring(svg)
    assert (root.get("width"), root.get("height")) == ("216pt", "144pt")


def test_several_figures_stand_below_each_other():
    drawn = [a_figure("first"), a_figure("second"), a_figure("third")]
    with Image.open(io.BytesIO(figures.encoded(drawn, ".png"))) as image:
        assert image.size == (450, 900)
    svg = figures.encoded(drawn, ".svg")
    root = ElementTree.fromstring(svg)
    assert root.get("viewBox") == "0 0 216 432"
    assert [text for text in texts(svg) if text.isalpha()] == ["first", "second", "third"]
    counts = Counter(node.get("id") for node in root.iter() if node.get("id"))
    assert set(counts.values()) == {1}
    used = set(re.findall(rb'(?:url\(|href=")#([^")]+)', svg))
    assert used
    assert used <= {name.encode() for name in counts}
    pdf = figures.encoded(drawn, ".pdf")
    assert len(re.findall(rb"/Type /Page\b", pdf)) == 3
    assert b"CreationDate" not in pdf


def test_another_suffix_is_named():
    with pytest.raises(ValueError, match=r"'\.jpg': expected one of \.png, \.svg, \.pdf"):
        figures.encoded(a_figure(), ".jpg")


# --- the commands ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "digits"
    options = ["--epochs", "1", "--limit", "200", "--hidden", "8", "--quiet"]
    assert main(["--data", "digits", *CPU, *options, "--out", str(path)]) == 0
    return path


@pytest.mark.parametrize("suffix", [".svg", pytest.param(".pdf", marks=pytest.mark.thorough)])
@pytest.mark.parametrize(
    "command",
    [
        *("backquery", "plot", "predict", "weights"),
        *(pytest.param(name, marks=pytest.mark.thorough) for name in ("evaluate", "inspect")),
    ],
)
def test_every_command_writes_what_the_name_says(
    run, command, suffix, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    option = "--figure" if command == "predict" else "--out"
    device = [] if command == "plot" else CPU
    assert main([command, str(run), option, f"o{suffix}", *device]) == 0
    assert f"o{suffix}" in capsys.readouterr().out
    also = {"evaluate": [f"o-mistakes{suffix}"]}.get(command, [])
    names = sorted({f"o{suffix}", *also})
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    for name in names:
        content = Path(name).read_bytes()
        if name.endswith(".pdf"):
            assert content.startswith(b"%PDF")
        else:
            assert ElementTree.fromstring(content).tag == f"{SVG}svg"


@pytest.mark.parametrize("suffix", [".svg", ".pdf"])
def test_a_sweep_and_a_benchmark_too(suffix, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    small = ["--data", "digits", *CPU, "--hidden", "2"]
    name = f"o{suffix}"
    options = ["--epochs", "1", "--limit", "50", "--jobs", "1", "--out", "s", "--figure", name]
    assert main(["sweep", *small, *options]) == 0
    assert f"figure:  {name}" in capsys.readouterr().out
    assert Path(name).stat().st_size > 1000
    assert not Path("s/sweep.png").exists()
    Path(name).unlink()
    assert main(["sweep", "--resume", "s"]) == 0
    assert Path("s/sweep.png").exists()
    small += ["--batch-size", "64", "--seconds", "0.1"]
    assert main(["bench", *small, "--out", name]) == 0
    assert Path(name).stat().st_size > 1000


def test_several_runs_are_drawn_where_a_place_is_named(run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["evaluate", str(run), str(run), "--out", "both.svg", *CPU]) == 0
    assert "figures: both.svg, both-mistakes.svg" in capsys.readouterr().out
    Path("both-mistakes.svg").unlink()
    for options, words in (
        (["--figures"], "name a place with --out confusion.png"),
        (["--out", "a.gif"], "--out a.gif: a figure is written as .png, .svg or .pdf"),
    ):
        assert main(["evaluate", str(run), str(run), *options, *CPU]) == 2
        error = capsys.readouterr().err
        assert words in error
        assert error.count("\n") == 1

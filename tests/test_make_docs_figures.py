"""The captures of the documentation: what a terminal shows in the end, as an image."""

from __future__ import annotations

import sys
from xml.etree import ElementTree

import pytest

if sys.platform == "win32":
    pytest.skip("the captures need a pseudo-terminal", allow_module_level=True)

from scripts import make_docs_figures as make
from trainer.cli import main


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("a\r\nb\r\n\r\n", ["a", "b"]),
        ("half\rwhole\r\n", ["whole"]),
        ("progress 1\r\x1b[2Kprogress 2\r\x1b[2Kdone\r\n", ["done"]),
        ("row 1\r\nbar\r\x1b[1A\x1b[2Krow 2\r\n\x1b[2K\r\n", ["row 2"]),
        ("x" * 80 + "y\r\n", ["x" * 80, "y"]),
        ("\x1b[?25lx\x1b]8;;a\x1b\\y\x1b[?25h", ["xy"]),
    ],
)
def test_a_screen_is_what_is_left_on_it(text, lines):
    assert make.settled(text) == lines


def test_colours_stay_with_their_letters_and_the_image_is_whole():
    lines = make.settled("\x1b[31mred\x1b[0m plain\r\n\x1b[1;32m97 %\x1b[0m")
    drawing = make.as_svg("a.svg", "evaluate runs/r1 " + "--figures " * 12, lines)
    root = ElementTree.fromstring(drawing)
    words = [text.text.replace("\xa0", " ").strip() for text in root.iter() if text.text]
    assert words.count("red") == words.count("97 %") == 1
    assert any(word.startswith("$ python -m trainer evaluate") for word in words)
    assert any(word.endswith("\\") for word in words)  # and the command goes on
    assert "http" not in drawing.replace("http://www.w3.org/2000/svg", "")


def test_a_long_table_keeps_its_ends():
    rows = [f"   {i:2}   {2 * i}   0.{i:06} " for i in range(50)]
    kept = make.without_middle(["head", *rows, "foot"])
    assert kept == ["head", *rows[:5], "  ⋮", *rows[-5:], "foot"]
    assert make.without_middle(rows[:9]) == rows[:9]


def test_the_commands_that_are_shown_are_known(capsys):
    for command in {arguments.split()[0] for arguments in make.SHOWN.values() if arguments}:
        name = "train" if command.startswith("-") else command
        assert main([name, "--help"]) == 0
    capsys.readouterr()


def test_a_picture_shows_no_folder_of_this_machine(monkeypatch, tmp_path):
    monkeypatch.setattr(make, "DOCS", tmp_path)
    with pytest.raises(SystemExit, match=r"a\.svg: shows a path of this machine"):
        make.write("a.svg", b"<text>/home/me/mnist</text>")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", make.FROM_SOURCES)
def test_what_is_drawn_from_the_sources_is_drawn_from_these(name):
    drawn = make.FROM_SOURCES[name]()
    assert (make.DOCS / name).read_text("utf-8") == drawn, f"type: {make.__doc__.splitlines()[0]}"
    assert ElementTree.fromstring(drawn).tag.endswith("svg")


def test_the_drawing_of_the_packages_has_what_the_sources_import():
    graph = make.drawings.imports()
    assert {"trainer.cli", "trainer.data", "backends.base", "backends.cpu"} <= set(graph)
    assert "trainer.commands" in graph["trainer.cli"]
    assert graph["backends.functions"] == set()
    assert not any(name.startswith("trainer") for name in graph["backends.cpu"])
    assert "backends.base" not in graph["backends.delayed"]  # which only type checkers read

"""Reports: complete in themselves, readable by everybody, and what they say is so."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest

from tests.browser import Browser
from tests.conftest import needs_browser
from trainer.cli import main
from trainer.commands.report import repeat_command
from trainer.web.report import Section, Table, report

DIGITS = ["--data", "digits", "--epochs", "2", "--device", "cpu", "--quiet"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """A folder with two runs and a sweep."""
    folder = tmp_path_factory.mktemp("runs")
    assert main(["train", *DIGITS, "--out", str(folder / "plain")]) == 0
    more = ["--activation", "relu", "--learning-rate", "0.01", "--validation", "100"]
    assert main(["train", *DIGITS, *more, "--out", str(folder / "relu")]) == 0
    sweep = ["sweep", "--data", "digits", "--epochs", "1", "--learning-rate", "0.1,0.2"]
    assert main([*sweep, "--seeds", "2", "--out", str(folder / "sweep")]) == 0
    return folder


class Outline(HTMLParser):
    """The headings, images, tables and addresses of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def check_page(page: str) -> Outline:
    """Check what holds of every report."""
    outline = Outline(page)
    assert not outline.all("script")
    addresses = set(re.findall(r"https?://[^\"'\s<)]*", page))
    assert all(name.startswith("http://www.w3.org/") for name in addresses)  # of languages
    [policy] = [m["content"] for m in outline.all("meta") if m.get("http-equiv")]
    assert policy is not None
    assert "default-src 'none'" in policy
    assert outline.all("html")[0]["lang"] == "en"
    assert len(outline.all("h1")) == 1
    levels = [int(tag[1]) for tag, _ in outline.tags if re.fullmatch(r"h\d", tag)]
    assert all(b <= a + 1 for a, b in pairwise(levels))
    assert all(image["alt"] for image in outline.all("img"))
    drawings = [svg for svg in outline.all("svg") if svg.get("role") == "img"]
    assert drawings
    assert all(svg["aria-label"] for svg in drawings)
    return outline


def written(paths: list[Path], out: Path) -> Outline:
    assert main(["report", *map(str, paths), "--out", str(out)]) == 0
    return check_page(out.read_text())


def test_a_run(runs, tmp_path):
    outline = written([runs / "plain"], tmp_path / "r.html")
    lines = (runs / "plain" / "metrics.jsonl").read_text().splitlines()
    accuracy = json.loads(lines[-1])["test_accuracy"]
    assert f"Accuracy {100 * accuracy:.2f} %: " in outline.text
    assert "of 360 test samples of digits" in outline.text
    for words in ("Confusion matrix", "Scores by class", "64 → 100 → 10", "Backquery", "numpy"):
        assert words in outline.text
    assert "mistakes it was surest of" in outline.text
    assert "python -m trainer --data digits --recipe digits --epochs 2" in outline.text


@pytest.mark.thorough
def test_it_goes_into_the_runs_folder_and_replaces_itself(runs):
    for _ in range(2):
        assert main(["report", str(runs / "plain")]) == 0
    assert (runs / "plain" / "report.html").is_file()
    assert main(["evaluate", str(runs / "plain")]) == 0


def test_runs_beside_each_other_show_first_what_differs(runs, tmp_path):
    outline = written([runs / "plain", runs / "relu"], tmp_path / "r.html")
    text = outline.text
    assert "plain and relu beside each other" in text
    first = text.index("Settings, those that differ first")
    rows = text[first:]
    assert rows.index("activation sigmoid relu") < rows.index("dtype float32 float32")
    assert rows.index("learning rate 0.3 0.01") < rows.index("dtype float32 float32")


def test_a_sweep(runs, tmp_path):
    outline = written([runs / "sweep"], tmp_path / "s.html")
    assert "Ranked by accuracy on the test samples" in outline.text
    assert "deviation" in outline.text
    assert "python -m trainer --data digits --recipe digits" in outline.text
    before = (runs / "sweep" / "sweep.csv").read_bytes()
    assert before.count(b"\n") == 5


def test_the_command_it_names_repeats_the_run(runs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    import shlex

    config = json.loads((runs / "relu" / "config.json").read_text())
    command = shlex.split(repeat_command(config))
    assert command[:3] == ["python", "-m", "trainer"]
    assert main(["train", *command[3:], "--device", "cpu", "--quiet", "--out", "again"]) == 0
    files = [folder / "model.safetensors" for folder in (runs / "relu", Path("again"))]
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "no run is named"),
        (["nowhere"], "no run is there"),
        (["RUNS/plain", "--out", "x.pdf"], "--out x.pdf: a page is written"),
        (["RUNS/plain", "--out", "no/x.html"], "there is no folder no"),
        (["RUNS/plain", "RUNS/sweep"], "a sweep has a report of its own"),
        (["RUNS/sweep", "RUNS/plain"], "a sweep has a report of its own"),
        (["RUNS/plain", "--data", "nothing.csv"], "nothing.csv"),
    ],
)
def test_a_mistake_is_one_line(arguments, words, runs, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["report", *(a.replace("RUNS", str(runs)) for a in arguments)]) == 2
    message = capsys.readouterr().err
    assert words in message
    assert message.count("\n") == 1


def test_everything_is_escaped():
    bad = "<script>alert('x')</script>&"
    parts = [
        Section(bad, facts=[(bad, bad)], lines=[bad], code=bad, tables=[Table(bad, [bad], [[bad]])])
    ]
    page = report(bad, bad, [Section(bad, parts=parts)])
    outline = Outline(page)
    assert not outline.all("script")
    assert outline.text.count("alert('x')") == 12


@needs_browser
def test_it_fits_a_telephone(runs, tmp_path):
    written([runs / "plain"], tmp_path / "r.html")
    browser = Browser()
    try:
        for dark in (False, True):
            page = browser.open((tmp_path / "r.html").as_uri(), width=320, dark=dark)
            assert page.run("document.documentElement.scrollWidth") <= 320
            assert page.problems() == []
            assert page.requests() == [(tmp_path / "r.html").as_uri()]
    finally:
        browser.close()


def test_a_run_that_was_stopped_says_how_to_go_on(tmp_path):
    run = tmp_path / "r"
    assert main(["train", *DIGITS, "--out", str(run)]) == 0
    config = json.loads((run / "config.json").read_text())
    config["settings"]["epochs"] = 50
    (run / "config.json").write_text(json.dumps(config))
    outline = written([run], tmp_path / "r.html")
    assert "It ended after 2 of 50 epochs, or still runs; to go on:" in outline.text
    assert f"python -m trainer train --resume {run}" in outline.text


def test_before_the_first_epoch_there_is_nothing_to_report(tmp_path, capsys):
    run = tmp_path / "r"
    assert main(["train", *DIGITS, "--out", str(run)]) == 0
    (run / "model.safetensors").unlink()
    assert main(["report", str(run)]) == 2
    assert "no epoch of its training has ended yet" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["report", "evaluate"])
def test_data_that_has_changed_is_noticed_or_replaced(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    lines = ["a,b,kind", *(f"{i},{i * 7 % 11},{'xy'[i % 2]}" for i in range(60))]
    Path("t.csv").write_text("\n".join(lines))
    assert main(["train", "--data", "t.csv", "--epochs", "2", "--quiet", "--out", "r"]) == 0
    assert main([command, "r"]) == 0
    Path("t.csv").write_text("\n".join([lines[0], *lines[6:], *lines[1:6]]))
    capsys.readouterr()
    assert main([command, "r"]) == 2
    assert "t.csv has changed since the training" in capsys.readouterr().err
    Path("other.csv").write_text("\n".join(lines[:20]))
    assert main([command, "r", "--data", "other.csv"]) == 0


def test_weights_are_no_run(runs, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["export", str(runs / "plain"), "--out", "w.npz"]) == 0
    assert main(["report", "w.npz"]) == 2
    assert "weights have no training to report" in capsys.readouterr().err

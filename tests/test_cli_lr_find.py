"""`lr-find`: what it shows, the command that it prints, and its mistakes."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.test_cli import ESCAPE, in_a_terminal
from trainer import figures, find_learning_rate, load
from trainer.cli import main
from trainer.rate_search import RateSearch
from trainer.recipes import RECIPES, build

DIGITS = ["lr-find", "--data", "digits"]
FAST = [*DIGITS, "--batch-size", "32"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def events(capsys, *options):
    """The exit code, and the events that --json writes."""
    code = main([*options, "--json"])
    captured = capsys.readouterr()
    assert captured.err == ""
    return code, [json.loads(line) for line in captured.out.splitlines()]


def run_printed(command, *more):
    """Run a command that was printed; return the config of the run."""
    program, words = shlex.split(command)[:3], shlex.split(command)[3:]
    assert program == ["python", "-m", "trainer"]
    assert main([*words, *more, "--quiet", "--out", "run"]) == 0
    return json.loads(Path("run/config.json").read_text())


def test_the_command_printed_trains_with_the_rate(capsys):
    assert main(DIGITS) == 0
    out = capsys.readouterr().out
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", out)
    (rate,) = re.findall(r"^learning rate (\S+), where the loss stopped falling; ", out, re.M)
    (command,) = re.findall(r"^train: +(python .*)$", out, re.M)
    assert command == f"python -m trainer --data digits --learning-rate {rate}"
    assert f"▲ {rate}" in out
    assert out.count("●") > 60
    config = run_printed(command)
    assert config["settings"]["learning_rate"] == float(rate)
    last = json.loads(Path("run/metrics.jsonl").read_text().splitlines()[-1])
    assert last["test_accuracy"] > 0.93
    with Image.open("lr-find.png") as image:
        assert image.format == "PNG"


def test_json_says_what_the_function_returns(capsys):
    code, told = events(capsys, *FAST, "--seed", "3", "--out", "curve.svg")
    assert code == 0
    assert [event["event"] for event in told if event["event"] != "progress"] == ["start", "end"]
    assert told[0]["settings"]["batch_size"] == 32
    end, data = told[-1], load("digits")
    model = build(RECIPES["digits"], data, backend="cpu", seed=3)
    found = find_learning_rate(
        model, data.train_x, data.train_y, RECIPES["digits"], batch_size=32, seed=3
    )
    assert (end["suggestion"], end["diverged"]) == (found.suggestion, found.diverged)
    assert end["losses"] == found.losses.tolist()
    assert end["rates"] == found.rates.tolist()
    assert end["command"].endswith(f" --learning-rate {found.suggestion:g}")
    assert end["figure"] == "curve.svg"
    assert "<svg" in Path("curve.svg").read_text()
    assert not Path("lr-find.png").exists()


def test_every_option_given_is_in_the_command(capsys):
    options = {
        "--device": "cpu",
        "--validation": "100",
        "--seed": "5",
        "--limit": "500",
        "--hidden": "20,10",
        "--loss": "cross_entropy",
        "--activation": "gelu",
        "--init": "glorot",
        "--l2": "0.5",
        "--optimizer": "adamw",
        "--weight-decay": "0.02",
        "--batch-size": "16",
        "--dropout": "0.1",
        "--class-weight": "balanced",
    }
    words = [word for pair in options.items() for word in pair]
    augment = ["--augment", "rotate:5", "--augment", "shift:1"]
    code, told = events(capsys, *DIGITS, *words, *augment, "--bias", "--no-shuffle")
    assert code == 0
    searched, trained = told[0], run_printed(told[-1]["command"], "--epochs", "1")
    changed = {"learning_rate": told[-1]["suggestion"], "epochs": 1}
    assert trained["settings"] == searched["settings"] | changed
    for name in ("network", "seed", "data", "device"):
        assert trained[name] == searched[name]


def test_a_table_and_its_label(folder, capsys):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 3))
    rows = [f"{'yes' if a > b else 'no'},{a},{b},{c}" for a, b, c in x]
    table = folder / "my table.csv"
    table.write_text("\n".join(["bought,a,b,c", *rows]))
    code, told = events(capsys, "lr-find", "--data", str(table), "--label", "bought")
    assert code == 0
    config = run_printed(told[-1]["command"], "--epochs", "2")
    assert config["data"]["label"] == "bought"
    assert config["recipe"] == "table"


def test_quiet_says_nothing_and_draws(capsys):
    assert main([*FAST, "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    assert Path("lr-find.png").exists()


def test_a_terminal_shows_the_curve():
    options = ["--activation", "relu", "--loss", "cross_entropy", "--init", "he"]
    text = ESCAPE.sub("", in_a_terminal(*FAST, *options))
    assert "training loss against learning rate" in text
    assert re.search(r"└[─┬]+", text)
    # the command can be copied: it stands below the frame and is not broken
    (command,) = re.findall(r"^train:\r?\n(python .*?)\r?$", text, re.M)
    assert "--learning-rate" in command
    assert len(command) > 80
    assert max(map(len, text[: text.index("train:")].splitlines())) <= 80


@pytest.mark.parametrize(
    ("option", "said", "next_option"),
    [
        (["--highest", "0.01"], "still falling at 0.009", "--lowest 1e-06 --highest 1"),
        (["--lowest", "10000", "--highest", "1e9"], "", "--lowest 1 --highest 1000000000"),
    ],
)
def test_without_a_suggestion_the_next_search_is_printed(capsys, option, said, next_option):
    loss = ["--loss", "cross_entropy", "--activation", "relu", "--batch-size", "64"]
    assert main([*DIGITS, *loss, *option]) == 1
    out = capsys.readouterr().out
    assert f"no learning rate to suggest: {'the loss was ' * bool(said)}{said}" in out
    (command,) = re.findall(r"^next: +(python .*)$", out, re.M)
    assert command.startswith("python -m trainer lr-find --data digits ")
    assert command.endswith(next_option)
    assert main(shlex.split(command)[3:]) in (0, 1)


def test_weights_that_nothing_can_train_end_it_in_one_line(folder, capsys):
    np.savez(folder / "huge.npz", W1=np.full((64, 5), 1e30), W2=np.full((5, 10), 1e30))
    options = ["--init-from", "huge.npz", "--loss", "cross_entropy", "--activation", "relu"]
    assert main([*FAST, *options]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "smaller initial weights or input values" in error
    assert not Path("lr-find.png").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            ["--recipe", "foo"],
            ["--recipe foo: there is no such recipe", "python -m trainer recipes"],
        ),
        (["--optimizer", "cg"], ["--optimizer cg", "no learning rate", "--optimizer sgd"]),
        (["--recipe", "ex4"], ["--optimizer cg", "no learning rate", "--optimizer sgd"]),
        (["--data", "nowhere.csv"], ["'nowhere.csv' is neither a name nor a file nor a folder"]),
        (["--learning-rate", "0.1"], ["--learning-rate", "lr-find --help"]),
        (["--epochs", "2"], ["--epochs", "lr-find --help"]),
        (["--lowest", "0"], ["--lowest", "> 0"]),
        (["--lowest", "2", "--highest", "1"], ["--lowest 2 --highest 1: expected the lower one"]),
        (["--highest", "inf"], ["--highest inf"]),
        (["--out", "curve.jpg"], ["--out curve.jpg", "such as lr-find.png"]),
        (["--out", "nowhere/curve.png"], ["there is no folder nowhere"]),
        (["--json", "--quiet"], ["--json and --quiet exclude each other"]),
        (["--class-weight", "balanced"], ["--class-weight balanced", "--batch-size 32"]),
        (["--device", "gqu"], ["--device gqu", "auto, cpu, gpu or gpu:N"]),
    ],
)
def test_mistakes_are_one_line(options, words, capsys):
    data = [] if "--data" in options else ["--data", "digits"]
    assert main(["lr-find", *data, *options]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    for word in words:
        assert word in captured.err


# --- the figure ---------------------------------------------------------------------------


def made_up(k=100, suggestion=0.1):
    """A search with a loss that falls, and grows without bound in its last groups."""
    rates = np.geomspace(1e-6, 1.0, k)
    smoothed = np.linspace(2.0, 0.5, k)
    losses = smoothed + 0.1 * np.cos(np.arange(k))
    losses[-2:] = 1e6
    return RateSearch(rates, losses, smoothed, suggestion, None, 3 * k)


def test_the_figure_marks_the_suggestion_and_leaves_out_what_diverges():
    (axes,) = figures.rate_search(made_up(), title="$x$ " * 30, caption="c").axes
    dots, line, mark = axes.lines
    assert list(mark.get_xdata()) == [0.1, 0.1]
    assert np.array_equal(line.get_ydata(), made_up().smoothed)
    assert len(dots.get_xdata()) == 100
    low, top = axes.get_ylim()
    assert low < 0.5 < 2.0 < top < 3.0
    assert axes.get_xscale() == "log"


@pytest.mark.parametrize("k", [1, 2, 3])
def test_a_figure_of_a_few_groups_without_a_suggestion(k):
    drawn = figures.rate_search(made_up(k, None), title="none", caption="c")
    assert len(drawn.axes[0].lines) == 2
    assert figures.encoded(drawn, ".png").startswith(b"\x89PNG")

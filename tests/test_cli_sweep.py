"""The command sweep: its output in a terminal and in a pipe, its folder and its exit codes."""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from joblib.externals.loky import get_reusable_executor
from PIL import Image

from tests.test_cli import ESCAPE, ROOT, in_a_terminal, python
from trainer import load
from trainer.cli import main
from trainer.commands import sweep as command

FAST = ["sweep", "--data", "digits", "--device", "cpu"]
HERE = [*FAST, "--jobs", "1"]  # in this process
SMALL = ["--limit", "200", "--epochs", "2", "--hidden", "10"]
GRID = ["--learning-rate", "0.1,0.3", "--seeds", "2"]


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module", autouse=True)
def _no_process_is_left():
    yield
    get_reusable_executor().shutdown(wait=True)


def rows(path="sweeps/s1"):
    with open(Path(path, "sweep.csv"), newline="") as file:
        return list(csv.DictReader(file))


def is_gone(group):
    """Whether all processes of a group end, soon."""
    for _ in range(100):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


def events(capsys):
    captured = capsys.readouterr()
    assert captured.err == ""
    return [json.loads(line) for line in captured.out.splitlines()]


def test_a_pipe_gets_a_line_a_run_a_table_and_the_best():
    result = python(*FAST, *SMALL, *GRID)
    assert (result.returncode, result.stderr) == (0, "")
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", result.stdout)
    out = result.stdout
    cores = len(os.sched_getaffinity(0))
    way = f"{min(cores, 4)} at a time" if cores > 1 else "one after the other"
    assert f"runs  2 learning rate × 2 seeds = 4, {way}" in out
    assert re.search(r"about (a|\d+) s", out)
    done = re.findall(r"^(\d)/4  learning rate (0\.[13]), seed ([01]): [\d.]+ %", out, re.MULTILINE)
    assert [number for number, *_ in done] == ["1", "2", "3", "4"]
    assert {tuple(which) for _, *which in done} == {(r, s) for r in ("0.1", "0.3") for s in "01"}
    assert re.search(r"^learning rate +test +± +loss +seconds +runs$", out, re.MULTILINE)
    shown = re.findall(r"^ +0\.[13] +([\d.]+) % +[\d.]+ +0\.\d+ +[\d.]+ +2$", out, re.MULTILINE)
    assert sorted(map(float, shown), reverse=True) == list(map(float, shown))
    assert len(shown) == 2
    assert re.search(r"^best: --learning-rate 0\.\d, [\d.]+ ± [\d.]+ % .*, 2 seeds$", out, re.M)
    assert "ranked by the 360 test samples, as the book does; --validation N" in out
    assert {path.name for path in Path("sweeps/s1").iterdir()} == {
        "config.json",
        "sweep.csv",
        "sweep.png",
    }
    with Image.open("sweeps/s1/sweep.png") as image:
        assert image.format == "PNG"


def test_the_table_has_a_line_a_run_and_the_best_can_be_trained_again(capsys):
    assert main([*HERE, *SMALL, *GRID]) == 0
    out = capsys.readouterr().out
    table = rows()
    assert list(table[0]) == [
        "learning_rate",
        "seed",
        "epochs",
        "test_accuracy",
        "validation_accuracy",
        "train_loss",
        "seconds",
        "status",
    ]
    assert [(row["learning_rate"], row["seed"]) for row in table] == [
        ("0.1", "0"),
        ("0.3", "0"),
        ("0.1", "1"),
        ("0.3", "1"),
    ]
    best = re.search(r"--learning-rate (0\.\d)", out)[1]
    words = shlex.split(re.search(r"train: +python -m trainer (.*)", out)[1])
    assert main([*words, "--device", "cpu", "--quiet", "--out", "again"]) == 0
    metrics = [json.loads(line) for line in Path("again/metrics.jsonl").read_text().splitlines()]
    first = next(row for row in table if (row["learning_rate"], row["seed"]) == (best, "0"))
    assert len(metrics) == int(first["epochs"]) == 2
    assert metrics[-1]["test_accuracy"] == float(first["test_accuracy"])
    assert metrics[-1]["train_loss"] == pytest.approx(float(first["train_loss"]), rel=1e-5)


@pytest.mark.parametrize(
    ("hidden", "augment"),
    [("12-5", "copies:10"), ("none", "none"), ("9", "copies:5+elastic:8,2")],
)
def test_every_kind_of_option_can_be_typed_again(hidden, augment, capsys):
    options = {
        "--hidden": hidden,
        "--activation": "gelu",
        "--loss": "cross_entropy",
        "--label-smoothing": "0.1",
        "--bias": "yes",
        "--shuffle": "no",
        "--init": "uniform:0.12",
        "--l2": "0.5",
        "--optimizer": "adam",
        "--batch-size": "32",
        "--dtype": "float64",
        "--augment": augment,
        "--epochs": "1",
    }
    given = [word for pair in options.items() for word in pair]
    assert main([*HERE, *given, "--seed", "3", "--validation", "9", "--limit", "99"]) == 0
    words = shlex.split(re.search(r"train: +python -m trainer (.*)", capsys.readouterr().out)[1])
    assert main([*words, "--device", "cpu", "--quiet", "--out", "again"]) == 0
    last = json.loads(Path("again/metrics.jsonl").read_text().splitlines()[-1])
    (row,) = rows()
    assert float(row["train_loss"]) == pytest.approx(last["train_loss"])
    assert float(row["test_accuracy"]) == last["test_accuracy"]
    assert float(row["validation_accuracy"]) == last["validation_accuracy"]


def test_json_is_one_object_an_event_and_nothing_else(capsys):
    assert main([*HERE, *SMALL, *GRID, "--json", "--out", "here"]) == 0
    start, *runs, end = events(capsys)
    assert start["event"] == "start"
    assert (start["runs"], start["finished"], start["jobs"]) == (4, 0, 1)
    assert start["ranked_by"] == "test_accuracy"
    assert start["estimated_seconds"] > 0
    assert [event["event"] for event in runs] == ["run"] * 4
    assert [float(row["test_accuracy"]) for row in rows("here")] == [
        event["test_accuracy"] for event in runs
    ]
    assert (end["event"], end["interrupted"], end["finished"]) == ("end", False, 4)
    accuracies = [standing["accuracy"] for standing in end["standings"]]
    assert accuracies == sorted(accuracies, reverse=True)
    assert end["standings"][0]["deviation"] >= 0
    assert (end["table"], end["figure"]) == ("here/sweep.csv", "here/sweep.png")


def test_held_out_samples_rank_and_it_says_so(capsys):
    assert main([*HERE, *SMALL, *GRID, "--validation", "100"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^learning rate +held-out +± +test +loss", out, re.MULTILINE)
    assert "ranked by training samples that were held out" in out
    assert re.search(r"% of the held-out samples right, 2 seeds; [\d.]+ % of the test", out)
    means = {}
    for row in rows():
        means.setdefault(row["learning_rate"], []).append(float(row["validation_accuracy"]))
    best = max(means, key=lambda rate: np.mean(means[rate]))
    assert f"best: --learning-rate {best}," in out


def test_a_terminal_of_80_columns_shows_a_live_table_and_a_closing_panel():
    text = in_a_terminal(*HERE, *SMALL, *GRID)
    plain = ESCAPE.sub("", text)
    lines = [line for part in plain.splitlines() for line in part.split("\r")]
    # a command that is too long for the panel stands below it, in a line of its own to be copied
    (command,) = [line for line in lines if line.startswith("python -m trainer --data")]
    assert max(len(line) for line in lines if line != command) <= 80
    assert main([*shlex.split(command)[3:], "--quiet"]) == 0
    assert "4 of 4 runs" in plain
    assert re.search(r"learning rate +test +± +loss +seconds +runs", plain)
    assert "best: --learning-rate" in plain.split("╭")[-1]
    assert "\x1b[?25h" in text  # the cursor is given back


def test_a_divergence_is_a_row_and_not_the_end(capsys):
    options = ["--activation", "relu", "--loss", "cross_entropy", "--learning-rate", "1e30,0.01"]
    assert main([*HERE, *SMALL, *options]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert "1/2  learning rate 1e+30, seed 0: diverged" in captured.out
    bad, good = rows()
    assert (bad["status"], bad["test_accuracy"], bad["train_loss"]) == ("diverged", "", "")
    assert good["status"] == "done"
    assert main([*HERE, *SMALL, *options[:4], "--learning-rate", "1e30,1e31"]) == 0
    assert "every run diverged; try lower learning rates" in capsys.readouterr().out
    with Image.open("sweeps/s2/sweep.png") as image:
        assert image.format == "PNG"


def test_a_recipe_of_minimisers_is_swept_and_resumed(capsys):
    options = ["--recipe", "ex4", "--optimizer", "cg,l-bfgs", "--max-iterations", "2"]
    # its 20×20 pixels come from larger images
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (60, 28, 28), np.uint8), np.arange(60) % 10
    np.savez("own.npz", x_train=images, y_train=labels)
    given = ["sweep", "--data", "own.npz", "--device", "cpu", "--jobs", "1", *options]
    assert main(given) == 0
    assert [(row["optimizer"], row["epochs"]) for row in rows()] == [("cg", "2"), ("l-bfgs", "2")]
    assert main(["sweep", "--resume", "sweeps/s1"]) == 0
    assert "nothing is left to do" in capsys.readouterr().out


# --- interrupted and resumed ----------------------------------------------------------------


def _without_last_words(err):
    # a worker of joblib's that is ended may get no further than the beginning of what it has to say
    return re.sub(r"Process LokyProcess-\d+:\n", "", err)


def ended_by_ctrl_c(command, when, timeout=60):
    """Press Ctrl-C at a line that matches; return the group's number, what followed, and errors."""
    process = subprocess.Popen(
        [sys.executable, "-m", "trainer", *command],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if re.match(when, line):
            break
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does, to all of them
    out, err = process.communicate(timeout=timeout)
    assert process.returncode == 130
    return process.pid, out, err


@pytest.mark.parametrize("jobs", ["1", pytest.param("2", marks=pytest.mark.thorough)])
def test_ctrl_c_leaves_a_folder_that_can_be_resumed(jobs, capsys):
    options = ["--epochs", "40", "--hidden", "30", "--learning-rate", "0.1:1:0.1", "--out", "s"]
    group, out, err = ended_by_ctrl_c([*FAST, *options, "--jobs", jobs], r" *2/10 ")
    assert _without_last_words(err) == ""
    done = rows("s")
    assert 2 <= len(done) < 10
    assert f"stopped by Ctrl-C after {len(done)} of 10 runs" in out
    assert "go on:   python -m trainer sweep --resume s" in out
    assert is_gone(group)

    assert main(["sweep", "--resume", "s", "--jobs", "1"]) == 0
    assert f"10, {len(done)} of them done before" in capsys.readouterr().out
    whole = rows("s")
    assert whole[: len(done)] == done
    assert len({row["learning_rate"] for row in whole}) == len(whole) == 10


@pytest.mark.thorough
def test_ctrl_c_before_the_first_run_ends_is_heard():
    options = ["--epochs", "100000", "--learning-rate", "0.1,0.2,0.3", "--out", "s"]
    # processes are being started
    group, out, err = ended_by_ctrl_c([*FAST, *options], "  folder")
    assert _without_last_words(err) == ""
    assert "stopped by Ctrl-C after 0 of 3 runs" in out
    assert "go on:" in out
    assert is_gone(group)


def test_a_torn_line_is_trained_again(capsys):
    assert main([*HERE, *SMALL, *GRID]) == 0
    table = Path("sweeps/s1/sweep.csv")
    whole = rows()
    table.write_bytes(table.read_bytes()[:-20])
    assert main(["sweep", "--resume", "sweeps/s1", "--jobs", "1", "--json"]) == 0
    captured = capsys.readouterr().out.splitlines()
    resumed = [json.loads(line) for line in captured if line.startswith("{")]
    assert [event["event"] for event in resumed] == ["start", "run", "end"]
    assert resumed[0]["finished"] == 3
    again = rows()
    timeless = [{k: v for k, v in row.items() if k != "seconds"} for row in (*whole, *again)]
    assert timeless[:4] == timeless[4:]


def test_a_recipe_may_take_the_first_samples_only_and_says_so(capsys):
    hundred = ["sweep", "--recipe", "hundred", *HERE[1:], "--epochs", "1"]
    line = "hundred: the first 100 of 1,437 training samples; --limit N takes another number"
    for options, said in ([], True), (["--limit", "100,200"], False):
        assert main([*hundred, *options]) == 0
        captured = capsys.readouterr()
        assert (line in captured.out + captured.err) == said
    (alone,), (same, more) = rows("sweeps/s1"), rows("sweeps/s2")
    assert (same["limit"], more["limit"]) == ("100", "200")
    assert alone["train_loss"] == same["train_loss"] != more["train_loss"]


def test_a_sweep_that_is_complete_is_shown_again(capsys):
    assert main([*HERE, *SMALL, *GRID]) == 0
    first = capsys.readouterr().out
    Path("sweeps/s1/sweep.png").unlink()
    assert main(["sweep", "--resume", "sweeps/s1"]) == 0
    second = capsys.readouterr().out
    assert "runs  2 learning rate × 2 seeds = 4, 4 of them done before, nothing is left" in second
    assert first[first.index("learning rate  ") :].splitlines()[-8:] == second.splitlines()[-8:]
    assert Path("sweeps/s1/sweep.png").exists()


def test_data_that_changed_is_not_gone_on_with(capsys):
    data = load("digits")
    np.savez("own.npz", x_train=data.train_x, y_train=data.train_y)
    own = ["sweep", "--data", "own.npz", "--device", "cpu", "--jobs", "1", *SMALL]
    assert main(own) == 0
    np.savez("own.npz", x_train=data.train_x[::-1], y_train=data.train_y[::-1])
    assert main(["sweep", "--resume", "sweeps/s1"]) == 2
    assert "own.npz has changed since it began" in capsys.readouterr().err
    Path("own.npz").unlink()
    assert main(["sweep", "--resume", "sweeps/s1"]) == 2
    assert "cannot be read again" in capsys.readouterr().err


def test_a_worker_that_the_system_ends_is_one_line_with_the_way_on(monkeypatch, capsys):
    def broken(*args, **options):
        yield from ()
        raise command.BrokenExecutor("a worker died")

    monkeypatch.setattr(command.sweep, "sweep", broken)
    assert main([*FAST, *SMALL, *GRID, "--jobs", "4"]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "--resume sweeps/s1 --jobs 2" in error


def test_a_mistake_of_the_programs_is_not_hidden_and_the_way_on_is_said(monkeypatch, capsys):
    def mistaken(*args, **options):
        yield from ()
        raise RuntimeError("a mistake of the program's")

    monkeypatch.setattr(command.sweep, "sweep", mistaken)
    with pytest.raises(RuntimeError, match="a mistake of"):
        main([*FAST, *SMALL, *GRID])
    error = capsys.readouterr().err
    assert error.startswith("error: the program failed after 0 of 4 runs; go on: ")
    assert error.endswith("python -m trainer sweep --resume sweeps/s1\n")


def test_a_gpu_is_said_to_take_one_run_after_the_other(monkeypatch, capsys):
    def pretended(device):
        backend = choose("cpu")
        backend.name = "gpu:0"
        return backend

    choose = command.choose
    monkeypatch.setattr(command, "choose", pretended)
    monkeypatch.setattr("trainer.sweep.workers.select", lambda device: choose("cpu"))
    assert main([*FAST, *SMALL, *GRID, "--jobs", "2"]) == 0
    out = capsys.readouterr().out
    assert "gpu:0 takes one run after the other" in out
    assert "2 seeds = 4, one after the other" in out


# --- mistakes -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--learning-rate", "0.1:0.9"], ["--learning-rate 0.1:0.9", "0.1:0.9:0.1"]),
        (["--learning-rate", "0.1:0.9:0"], ["0.1:0.9:0", "step", "above 0"]),
        (["--learning-rate", ","], ["--learning-rate ,", "expected numbers such as"]),
        (["--learning-rate", "-0.1"], ["-0.1"]),
        (["--learning-rate", "0.1,-0.1"], ["--learning-rate -0.1", "zero or more"]),
        (["--hidden", "3,x"], ["3,x", "50,100,200"]),
        (["--activation", "relu,step"], ["--activation step", "sigmoid"]),
        (["--loss", "rashid,cross_entropy", "--output", "softmax"], ["--output softmax"]),
        (
            ["--loss", "cross_entropy,rashid", "--label-smoothing", "0,0.1"],
            ["--label-smoothing 0.1", "--loss rashid", "take --loss binary_cross_entropy"],
        ),
        (["--loss", "cross_entropy", "--label-smoothing", "0.1,1"], ["--label-smoothing 1"]),
        (["--bias", "maybe"], ["--bias maybe", "yes,no"]),
        (["--seeds", "0"], ["--seeds", ">= 1"]),
        (["--seeds", "2", "--seed", "1"], ["--seeds 2", "exclude each other"]),
        (["--epochs", "2", "--steps", "5"], ["--epochs 2 and --steps 5"]),
        (["--epochs", "1:1000:1", "--seeds", "1000"], ["1,000,000 runs", "100,000 at most"]),
        (["--jobs", "0"], ["--jobs", ">= 1"]),
        (["--recipe", "cake"], ["cake", "python -m trainer recipes"]),
        (["--data", "minst"], ["minst", "did you mean 'mnist'?"]),
        (["--validation", "1437"], ["1,437", "at least one must train"]),
        (["--device", "gqu"], ["gqu", "auto, cpu, gpu or gpu:N"]),
        (["--resume", "nowhere"], ["--resume nowhere", "such as sweeps/s1"]),
        (["--resume", "x", "--epochs", "2"], ["expected no --epochs", "sweep --resume x"]),
        (["--resume", "x", "--seeds", "2", "--out", "y"], ["expected no --seeds, --out"]),
        (["--learning", "1"], ["--learning-rate"]),
    ],
)
def test_a_mistake_is_one_line_with_the_way_out(arguments, expected, capsys):
    data = [] if {"--data", "--resume"} & set(arguments) else ["--data", "digits"]
    assert main(["sweep", *data, *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert all(text in captured.err for text in expected), captured.err
    assert not Path("sweeps").exists()


def test_a_folder_that_is_not_empty_is_not_swept_into(capsys):
    Path("full").mkdir()
    Path("full/file").touch()
    assert main([*FAST, "--out", "full"]) == 2
    assert "under sweeps/ is taken" in capsys.readouterr().err
    assert [path.name for path in Path("full").iterdir()] == ["file"]


def test_a_large_grid_says_its_count_and_its_time_and_begins(monkeypatch, capsys):
    def stop(*args, **options):
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr(command.sweep, "sweep", stop)
    grid = ["--learning-rate", "0.001:1:0.001", "--seeds", "10"]
    assert main([*FAST, *grid, "--json"]) == 130
    start, end = events(capsys)
    assert start["runs"] == 10_000
    assert start["estimated_seconds"] > 10
    assert (end["finished"], end["interrupted"], end["figure"]) == (0, True, None)
    assert main([*FAST, *grid]) == 130
    assert re.search(r"1,000 learning rate × 10 seeds = 10,000, .*about", capsys.readouterr().out)


def test_help_teaches(capsys):
    assert main(["sweep", "--help"]) == 0
    out = capsys.readouterr().out
    assert "Usage: python -m trainer sweep" in out
    assert "200-100,50,none" in out


def test_show_says_where_there_is_no_window(monkeypatch, capsys):
    monkeypatch.setattr("trainer.figures.show", lambda images: f"--show: {len(images)} shown")
    assert main([*HERE, *SMALL, "--show"]) == 0
    assert capsys.readouterr().err == "--show: 1 shown\n"

"""The runner: its real output in a terminal and in a pipe, its files and its exit codes."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import pty
import re
import select as ready
import signal
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Callable, Sequence
from fcntl import ioctl
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from PIL import Image, ImageOps

from backends import Backend, BackendUnavailable, select
from backends.cpu import CpuBackend
from trainer import MLP, benchmarking, fit, load
from trainer.cli import main
from trainer.commands import bench, facts
from trainer.settings import Setting, TrainingSettings, settings_of

ROOT = Path(__file__).parents[1]
FAST = ["--data", "digits", "--device", "cpu"]
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A finished run of the digits recipe."""
    path = tmp_path_factory.mktemp("runs") / "digits"
    assert main([*FAST, "--quiet", "--out", str(path)]) == 0
    return path


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRAINER_CACHE", str(tmp_path / "cache"))


def python(*arguments: str, **options) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "trainer", *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        **options,
    )


def as_program(arguments: Sequence[str], environment: dict[str, str], follower: int) -> int:
    """Run the command line in a process of its own, which costs two seconds."""
    command = [sys.executable, "-m", "trainer", *arguments]
    environment = environment | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        command, env=environment, stdout=follower, stderr=follower, timeout=60
    ).returncode


def in_this_process(arguments: Sequence[str], environment: dict[str, str], follower: int) -> int:
    """Run the command line with a terminal as this process's stdout and stderr."""
    with contextlib.ExitStack() as undone:
        undone.enter_context(mock.patch.dict(os.environ, environment, clear=True))
        for number, redirect in (
            (1, contextlib.redirect_stdout),
            (2, contextlib.redirect_stderr),
        ):
            kept = os.dup(number)
            undone.callback(os.close, kept)
            undone.callback(os.dup2, kept, number)
            os.dup2(follower, number)
            opened = os.fdopen(number, "w", encoding="utf-8", buffering=1, closefd=False)
            undone.enter_context(redirect(undone.enter_context(opened)))
        return main(arguments)


def in_a_terminal(
    *arguments: str,
    columns: int = 80,
    run: Callable[[Sequence[str], dict[str, str], int], int] = in_this_process,
    **environment: str,
) -> str:
    """What a terminal of so many columns receives."""
    leader, follower = pty.openpty()
    ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR")
    }
    received, over = [], threading.Event()

    def receive() -> None:
        # not until it is closed: what was started may outlive the command and keep it open
        while not over.is_set() or ready.select([leader], [], [], 0)[0]:
            if ready.select([leader], [], [], 0.01)[0]:
                received.append(os.read(leader, 65536))

    terminal = threading.Thread(target=receive)
    terminal.start()
    try:
        code = run(arguments, kept | {"TERM": "xterm-256color"} | environment, follower)
    finally:
        over.set()
        terminal.join()
        os.close(follower)
        os.close(leader)
    assert code == 0
    return b"".join(received).decode()


# --- training -------------------------------------------------------------------------------


def test_a_terminal_of_80_columns_shows_facts_rows_and_a_closing_panel():
    text = in_a_terminal(*FAST, "--epochs", "3", run=as_program)
    plain = ESCAPE.sub("", text)
    lines = [line for part in plain.splitlines() for line in part.split("\r")]
    assert max(map(len, lines)) <= 80
    assert "64 → 100 → 10" in plain
    assert re.search(r" epoch +loss +test +seconds +samples/s", plain)
    assert re.findall(r" ([123]) +\d\.\d{6} +\d+\.\d\d %", plain) == ["1", "2", "3"]
    assert "╭" in plain
    assert "python -m trainer evaluate runs/r1" in plain
    assert "\x1b[?25h" in text  # the cursor is given back


def test_no_color_is_honoured_in_a_terminal():
    text = in_a_terminal(*FAST, "--epochs", "1", NO_COLOR="1")
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", text)


def test_a_pipe_gets_plain_lines():
    result = python(*FAST, "--epochs", "2")
    assert (result.returncode, result.stderr) == (0, "")
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", result.stdout)
    assert len(re.findall(r"^ +[12] +\d\.\d{6} ", result.stdout, re.MULTILINE)) == 2
    assert "of 360 test samples right" in result.stdout


def test_json_is_one_object_an_event_and_nothing_else(capsys):
    assert main([*FAST, "--epochs", "3", "--json", "--out", "here"]) == 0
    captured = capsys.readouterr()
    events = [json.loads(line) for line in captured.out.splitlines()]
    assert captured.err == ""
    assert events[0]["event"] == "start"
    assert events[0]["settings"]["epochs"] == 3
    assert [event["epoch"] for event in events if event["event"] == "epoch"] == [1, 2, 3]
    assert events[-1]["event"] == "end"
    assert events[-1]["run"] == "here"


def test_json_tells_of_a_divergence_too(capsys):
    options = ["--loss", "cross_entropy", "--activation", "relu", "--learning-rate", "1e30"]
    assert main([*FAST, *options, "--json"]) == 1
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (last["event"], last["epoch"]) == ("failed", 1)
    assert "lower learning rate" in last["message"]


@pytest.mark.parametrize("encoding", ["ascii", pytest.param("cp1252", marks=pytest.mark.thorough)])
def test_a_pipe_that_cannot_write_arrows_gets_question_marks(encoding):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": encoding}
    command = [sys.executable, "-m", "trainer", *FAST, "--epochs", "1"]
    result = subprocess.run(command, env=environment, capture_output=True, timeout=120)
    assert (result.returncode, result.stderr) == (0, b"")
    assert b"64 ? 100 ? 10" in result.stdout


def test_a_closed_stdout_ends_nothing():
    code = f"exec {sys.executable} -m trainer --data digits --epochs 1 --out o >&-"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    result = subprocess.run(code, shell=True, env=environment, capture_output=True, timeout=120)
    assert (result.returncode, result.stderr) == (0, b"")
    assert Path("o/model.safetensors").exists()


def test_quiet_says_nothing(capsys):
    assert main([*FAST, "--epochs", "1", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")


def test_the_digits_recipe_reaches_95_percent_and_the_run_folder_tells_it(run):
    metrics = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in metrics] == list(range(1, 31))
    assert metrics[-1]["test_accuracy"] >= 0.95
    assert {"train_loss", "epoch_seconds", "samples_per_second"} <= set(metrics[0])
    config = json.loads((run / "config.json").read_text())
    assert config["recipe"] == "digits"
    assert config["network"]["sizes"] == [64, 100, 10]


def test_the_same_seed_trains_the_same_network(run, tmp_path):
    for seed in ("0", "1"):
        assert main([*FAST, "--quiet", "--out", seed, "--seed", seed]) == 0
    written = {name: Path(name, "model.safetensors").read_bytes() for name in ("0", "1")}
    assert written["0"] == (run / "model.safetensors").read_bytes()
    assert written["1"] != written["0"]


def test_an_option_given_wins_over_the_recipe(tmp_path):
    options = {
        "--hidden": "12,5",
        "--activation": "relu",
        "--loss": "cross_entropy",
        "--label-smoothing": "0.1",
        "--init": "orthogonal",
        "--l2": "0.5",
        "--optimizer": "adam",
        "--batch-size": "32",
        "--learning-rate": "0.01",
        "--epochs": "1",
        "--dtype": "float64",
    }
    given = [word for pair in options.items() for word in pair]
    assert main([*FAST, *given, "--bias", "--no-shuffle", "--quiet", "--out", "o"]) == 0
    config = json.loads(Path("o/config.json").read_text())
    assert config["network"]["sizes"] == [64, 12, 5, 10]
    assert config["network"]["output"] == "softmax"
    assert config["network"]["init"] == "orthogonal"
    assert config["network"]["target_low"] == pytest.approx(0.01)
    assert config["network"]["target_high"] == pytest.approx(0.91)
    assert config["settings"]["label_smoothing"] == 0.1
    assert config["network"]["bias"] is True
    settings = config["settings"]
    assert settings["shuffle"] is False
    assert (settings["optimizer"], settings["batch_size"]) == ("adam", 32)
    assert (settings["learning_rate"], settings["l2"]) == (0.01, 0.5)


def test_adam_without_a_rate_takes_its_own():
    assert main([*FAST, "--optimizer", "adam", "--epochs", "1", "--quiet", "--out", "o"]) == 0
    assert json.loads(Path("o/config.json").read_text())["settings"]["learning_rate"] == 0.001


def test_limit_and_validation_take_from_the_training_part_only():
    options = ["--limit", "100", "--validation", "200", "--epochs", "1", "--quiet", "--out", "o"]
    assert main([*FAST, *options]) == 0
    data = json.loads(Path("o/config.json").read_text())["data"]
    assert (data["train_samples"], data["validation_samples"], data["test_samples"]) == (
        100,
        200,
        360,
    )
    assert 0 <= json.loads(Path("o/metrics.jsonl").read_text())["validation_accuracy"] <= 1


def test_a_recipe_may_take_the_first_samples_only_and_says_so(capsys):
    hundred = [*FAST, "--recipe", "hundred", "--epochs", "1"]
    said = "hundred: the first 100 of 1,{} training samples; --limit N takes another number"
    runs = {
        "o": ([], 100, said.format(437)),
        "held": (["--validation", "200"], 100, said.format(237)),
        "more": (["--limit", "300"], 300, None),
        "all": (["--limit", "2000"], 1437, None),
        "few": (["--validation", "1340"], 97, None),
    }
    for out, (options, samples, line) in runs.items():
        assert main([*hundred, *options, "--out", out]) == 0
        captured = capsys.readouterr()
        assert (captured.out + captured.err).splitlines()[0] == line or line is None
        assert line is not None or "takes another" not in captured.out + captured.err
        config = json.loads(Path(out, "config.json").read_text())
        assert config["data"]["train_samples"] == samples
    model = MLP([64, 200, 10], backend=select("cpu"), scale=0.99 / 16)
    data = load("digits")
    for _ in fit(model, data.train_x[:100], data.train_y[:100], epochs=1):
        pass
    for ours, other in zip(
        model.get_weights(), MLP.load("o", backend=select("cpu")).get_weights(), strict=True
    ):
        np.testing.assert_array_equal(ours, other)


def test_ctrl_c_ends_after_the_batch_saves_and_says_how_to_go_on():
    process = subprocess.Popen(
        [sys.executable, "-m", "trainer", *FAST, "--epochs", "1000000", "--out", "o"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if re.match(r" +2 ", line):
            break
    process.send_signal(signal.SIGINT)
    rest = process.stdout.read()
    assert process.wait(60) == 130
    assert "stopped by Ctrl-C" in rest
    assert "python -m trainer evaluate o" in rest
    assert main(["evaluate", "o", "--device", "cpu"]) == 0


@pytest.mark.thorough
def test_ctrl_c_in_the_first_epoch_saves_too():
    slow = ["--hidden", "1500,1500", "--json"]
    process = subprocess.Popen(
        [sys.executable, "-m", "trainer", *FAST, *slow, "--out", "o"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    events = []
    for line in process.stdout:
        events.append(json.loads(line))
        if events[-1]["event"] == "progress" and len(events) == 2:
            process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    assert (events[-1]["epochs"], events[-1]["interrupted"]) == (0, True)
    assert not Path("o/metrics.jsonl").exists()
    assert main(["evaluate", "o", "--device", "cpu"]) == 0


@pytest.mark.parametrize("batch_size", [pytest.param("1", marks=pytest.mark.thorough), "32"])
def test_divergence_is_one_line_and_leaves_the_last_good_weights(batch_size):
    options = ["--loss", "cross_entropy", "--activation", "relu", "--learning-rate", "1e30"]
    result = python(*FAST, *options, "--batch-size", batch_size, "--out", "o")
    error = result.stderr
    assert (result.returncode, error.count("\n")) == (1, 1)
    assert "epoch 1 at sample" in error
    assert "lower learning rate" in error
    assert main(["evaluate", "o", "--device", "cpu"]) == 0


# --- mistakes -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--device", "gpu"], ["--device cpu", "pip install"]),
        (["--device", "gqu"], ["gqu", "auto, cpu, gpu or gpu:N"]),
        (["trian"], ["trian", "did you mean train?"]),
        (["--epoch", "3"], ["--epoch", "--epochs"]),
        (["--epochs", "0"], ["--epochs", ">= 1"]),
        (["--epochs", "many"], ["--epochs", "many", "whole number"]),
        (["--seed", "1.5"], ["--seed", "1.5", "whole number"]),
        (["--json", "--quiet"], ["--json", "--quiet"]),
        (["--data", "digits", "train"], ["the command comes first"]),
        (["train", "digits"], ["python -m trainer train --help"]),
        (["--momentum", "1"], ["--momentum", "< 1"]),
        (["--activation", "step"], ["step", "sigmoid", "tanh", "relu", "scaled_tanh", "gelu"]),
        (
            ["--data", "digits", "--label-smoothing", "0.1"],
            [
                "--label-smoothing 0.1",
                "--loss squared_error",
                "take --loss binary_cross_entropy or",
            ],
        ),
        (["--label-smoothing", "1"], ["--label-smoothing", "< 1"]),
        (["--data", "minst"], ["minst", "did you mean 'mnist'?"]),
        (["--recipe", "cake"], ["cake", "rashid", "python -m trainer recipes"]),
        (["--data", "digits", "--hidden", "3,x"], ["3,x", "200,100"]),
        (["--data", "digits", "--output", "softmax"], ["--output softmax", "--loss cross_entropy"]),
        (["--data", "digits", "--init", "zero"], ["--init zero", "glorot"]),
        (["--data", "digits", "--validation", "1437"], ["1,437", "at least one must train"]),
        (["evaluate"], ["no run is named", "python -m trainer evaluate runs/r1"]),
        (["evaluate", "nowhere"], ["nowhere", "python -m trainer"]),
        (["predict", "nowhere"], ["nowhere", "python -m trainer"]),
        (["predict", "nowhere", "--data", "x"], ["--out answers.csv", "--index N"]),
        (["predict", "nowhere", "--out", "x"], ["--data FILE"]),
        (["predict", "nowhere", "a.png", "--index", "3"], ["image files go without"]),
        (["bench", "--device", "gpu"], ["--device cpu", "pip install"]),
        (["bench", "--device", "gqu"], ["gqu", "all, cpu, gpu or gpu:N (cuda, cuda:N)"]),
        (["bench", "--hidden", "0,3"], ["--hidden 0,3", "50,200,800"]),
        (["bench", "--batch-size", "1,x"], ["--batch-size 1,x", "whole numbers"]),
        (["bench", "--data", "digits", "--batch-size", "2000"], ["2000", "1,437", "too few"]),
        (["bench", "--seconds", "0"], ["--seconds", "> 0"]),
        (["bench", "--out", "bench.jpg"], ["bench.jpg", ".png, .svg or .pdf", "bench.png"]),
        (["bench", "--out", "nowhere/bench.png"], ["there is no folder nowhere"]),
    ],
)
def test_a_mistake_is_one_line_with_the_way_out(arguments, expected, capsys):
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert all(text in captured.err for text in expected), captured.err
    assert not Path("runs").exists()
    assert not Path("bench.png").exists()


def test_a_folder_that_is_not_empty_is_not_trained_into(run, capsys):
    before = sorted(path.stat().st_mtime_ns for path in run.iterdir())
    assert main([*FAST, "--out", str(run)]) == 2
    assert "is not empty" in capsys.readouterr().err
    assert sorted(path.stat().st_mtime_ns for path in run.iterdir()) == before


def test_a_damaged_model_is_one_line(run, tmp_path, capsys):
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "config.json").write_bytes((run / "config.json").read_bytes())
    (damaged / "model.safetensors").write_bytes((run / "model.safetensors").read_bytes()[:-9])
    assert main(["evaluate", str(damaged), "--device", "cpu"]) == 2
    assert "model.safetensors" in capsys.readouterr().err


@pytest.fixture
def own_run(tmp_path) -> Path:
    """A run on a CSV file of this test's own, which it may change."""
    rng = np.random.default_rng(0)
    rows = np.column_stack([np.arange(40) % 2, rng.integers(0, 256, (40, 4))])
    np.savetxt(tmp_path / "own.csv", rows, fmt="%d", delimiter=",")
    options = ["--data", "own.csv", "--device", "cpu", "--epochs", "1", "--quiet"]
    assert main([*options, "--out", "own"]) == 0
    return tmp_path / "own"


@pytest.mark.parametrize("command", ["evaluate", "predict"])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot be read again"),
        ("0,1,2,3,4\n1,1,2,3,4\n" * 10, "has changed since the training"),
        ("0,1,2,3,4\n7,1,2,3,4\n" * 20, "has changed since the training"),
        ("0,1,2,3\n1,1,2,3\n" * 20, "has changed since the training"),
    ],
)
def test_data_that_changed_since_the_training_is_not_taken(
    own_run, command, content, words, capsys
):
    if content is None:
        Path("own.csv").unlink()
    else:
        Path("own.csv").write_text(content)
    assert main([command, str(own_run), "--device", "cpu"]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert "--data" in error


def test_a_model_of_another_run_is_not_taken(own_run, run, capsys):
    (own_run / "model.safetensors").write_bytes((run / "model.safetensors").read_bytes())
    assert main(["evaluate", str(own_run), "--device", "cpu"]) == 2
    assert "not of one run" in capsys.readouterr().err


def test_data_of_another_scale_is_not_taken(run, tmp_path, capsys):
    data = load("digits")
    np.savez(tmp_path / "scaled.npz", x_train=data.test_x / 16.0, y_train=data.test_y)
    assert main(["evaluate", str(run), "--data", "scaled.npz", "--device", "cpu"]) == 2
    assert "not on the scale of the training data" in capsys.readouterr().err


# --- the other commands ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "command", [[], ["train"], ["evaluate"], ["predict"], ["bench"], ["devices"]]
)
def test_help_teaches(command, capsys):
    assert main([*command, "--help"]) == 0
    assert "Usage: python -m trainer" in capsys.readouterr().out


def test_recipes_lists_every_setting(capsys):
    assert main(["recipes"]) == 0
    out = capsys.readouterr().out
    for name in ("rashid", "book", "hundred", "digits", "learning_rate", "uniform:1", "shuffle"):
        assert name in out
    assert max(map(len, out.splitlines())) <= 80


def test_devices_names_the_cpu_its_blas_and_what_a_gpu_needs(capsys):
    assert main(["devices"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^cpu .*\d+ cores", out, re.MULTILINE)
    assert "NumPy" in out
    assert "threads" in out
    assert "gpu" in out


def test_evaluate_agrees_with_the_training(run, capsys):
    last = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    assert main(["evaluate", str(run), "--device", "cpu"]) == 0
    out = capsys.readouterr().out
    assert f"accuracy {100 * last['test_accuracy']:.2f} %" in out
    for heading in ("confusion matrix", "precision", "recall", "F1", "support"):
        assert heading in out


def digits_csv(path: Path, *, labelled: bool) -> np.ndarray:
    data = load("digits")
    rows = np.column_stack([data.test_y, data.test_x]) if labelled else data.test_x
    np.savetxt(path, rows, fmt="%d", delimiter=",")
    return data.test_y


def test_evaluate_takes_other_data(run, tmp_path, capsys):
    digits_csv(tmp_path / "test.csv", labelled=True)
    assert main(["evaluate", str(run), "--data", "test.csv", "--device", "cpu"]) == 0
    with_data = capsys.readouterr().out
    assert main(["evaluate", str(run), "--device", "cpu"]) == 0
    assert with_data.splitlines()[1:] == capsys.readouterr().out.splitlines()[1:]


@pytest.mark.parametrize("labelled", [False, True])
def test_predict_answers_a_whole_file(run, tmp_path, labelled):
    labels = digits_csv(tmp_path / "x.csv", labelled=labelled)
    assert main(["predict", str(run), "--data", "x.csv", "--out", "a.csv", "--device", "cpu"]) == 0
    with open("a.csv") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["index"]) for row in rows] == list(range(len(labels)))
    last = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    right = np.mean([int(row["answer"]) == y for row, y in zip(rows, labels, strict=True)])
    assert right == pytest.approx(last["test_accuracy"])
    outputs = MLP.load(run, backend="cpu").predict_proba(load("digits").test_x)
    assert list(rows[0]) == ["index", "answer", "output", *map(str, range(10))]
    for row, numbers in zip(rows, outputs.tolist(), strict=True):
        assert [row[str(code)] for code in range(10)] == [f"{number:.6g}" for number in numbers]
        assert row["output"] == f"{max(numbers):.6g}"


def test_predict_writes_what_kaggle_takes(run, tmp_path, capsys):
    digits_csv(tmp_path / "x.csv", labelled=False)
    on = ["predict", str(run), "--data", "x.csv", "--device", "cpu"]
    assert main([*on, "--out", "a.csv", "--format", "kaggle"]) == 0
    answers = MLP.load(run, backend="cpu").predict(load("digits").test_x).tolist()
    lines = [f"{number},{answer}" for number, answer in enumerate(answers, 1)]
    assert Path("a.csv").read_text() == "\n".join(["ImageId,Label", *lines, ""])
    assert main([*on, "--index", "3", "--format", "kaggle"]) == 2
    assert "--format kaggle goes with --data FILE --out" in capsys.readouterr().err
    assert main([*on, "--out", "b.csv", "--format", "parquet"]) == 2
    assert not Path("b.csv").exists()


def test_columns_of_classes_are_told_from_the_others_and_quoted(tmp_path):
    names = ["index", "output", "class index", 'a "b", c', "=1+1", "x"]
    y = np.array(names * 5)
    x = np.eye(6, dtype=np.float32)[np.arange(30) % 6]
    np.savez("d.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    assert main(["--data", "d.npz", "--device", "cpu", "--quiet", "--out", "r"]) == 0
    assert main(["predict", "r", "--device", "cpu", "--data", "d.npz", "--out", "a.csv"]) == 0
    with open("a.csv") as file:
        rows = list(csv.reader(file))
    assert len({len(row) for row in rows}) == 1
    classes = load("d.npz").classes
    assert [name.split("class ")[-1] for name in rows[0][3:]] == [
        name.split("class ")[-1] for name in classes
    ]
    assert len(set(rows[0])) == len(rows[0])
    assert {row[1] for row in rows[1:]} <= set(names)


def test_predict_goes_on_after_a_bad_picture(run, capsys):
    data = load("digits")
    pixels = (255 - data.test_x[0].reshape(8, 8).astype(float) * 255 / 16).astype(np.uint8)
    Image.fromarray(pixels).resize((64, 64)).save("good.png")
    assert main(["predict", str(run), "nope.png", "good.png", "--device", "cpu"]) == 2
    captured = capsys.readouterr()
    assert "nope.png" in captured.err
    assert "good.png" in captured.out


def test_a_narrow_terminal_shows_the_numbers_without_the_picture(run):
    text = ESCAPE.sub("", in_a_terminal("predict", str(run), "--device", "cpu", columns=40))
    assert "▀" not in text
    assert len(re.findall(r"\d [█·]{24} \d\.\d{3}", text)) == 10


def test_predict_shows_a_sample_its_outputs_and_the_truth(run, capsys):
    assert main(["predict", str(run), "--index", "3", "--device", "cpu"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"answer: \d  \(truth: \d\)", out)
    assert re.search("[▀▄█]", out)
    assert len(re.findall(r"\d [█·]{24} \d\.\d{3}", out)) == 10


def test_predict_draws_in_greys_in_a_terminal(run):
    text = in_a_terminal("predict", str(run), "--device", "cpu", COLORTERM="truecolor")
    assert re.search(r"\x1b\[38;2;(\d+);\1;\1;48;2;(\d+);\2;\2m▀", text)


def test_predict_refuses_a_sample_that_is_not_there(run, capsys):
    assert main(["predict", str(run), "--index", "360", "--device", "cpu"]) == 2
    assert "0 to 359" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["grey", "inverted", "rgb", "rgba", "large"])
def test_predict_sees_the_same_digit_in_every_kind_of_picture(run, kind, capsys):
    data = load("digits")
    pixels = (255 - data.test_x[0].reshape(8, 8).astype(float) * 255 / 16).astype(np.uint8)
    picture = Image.fromarray(pixels).resize((64, 64), Image.Resampling.NEAREST)
    picture = ImageOps.expand(picture, 8, 255)
    if kind == "inverted":
        picture = ImageOps.invert(picture)
    if kind in ("rgb", "rgba"):
        picture = picture.convert(kind.upper())
    if kind == "large":
        picture = picture.resize((900, 900))
    picture.save("digit.png")
    assert main(["predict", str(run), "digit.png", "--device", "cpu"]) == 0
    assert f"answer: {data.test_y[0]}" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["nope.png", "text.png", "blank.png"])
def test_predict_says_what_is_wrong_with_a_picture(run, name, capsys):
    Path("text.png").write_text("no picture")
    Image.new("L", (20, 20), 255).save("blank.png")
    assert main(["predict", str(run), name, "--device", "cpu"]) == 2
    error = capsys.readouterr().err
    assert name in error
    assert error.count("\n") == 1


# --- bench ----------------------------------------------------------------------------------

BENCH = ["bench", *FAST, "--json", "--seconds"]
SMALL = ["--hidden", "5,20", "--batch-size", "64,1"]


def test_bench_tells_in_json_what_it_measures_and_draws_it(capsys):
    assert main([*BENCH, "0.2", *SMALL]) == 0
    captured = capsys.readouterr()
    events = [json.loads(line) for line in captured.out.splitlines()]
    assert captured.err == ""
    assert [event["event"] for event in events[:2]] == ["start", "measurement"]
    assert (events[0]["hidden"], events[0]["batch_sizes"]) == ([5, 20], [1, 64])
    end = events[-1]
    assert end["event"] == "end"
    assert end["rounds"] >= 3
    assert end["interrupted"] is False
    assert end["largest_difference"] <= 1e-9
    assert end["conclusion"].startswith("Only cpu was measured; with 20 hidden units")
    assert sum(event["event"] == "measurement" for event in events) == 4 * end["rounds"]
    assert len(end["measurements"]) == 4
    for m in end["measurements"]:
        assert 0 < m["slowest"] <= m["samples_per_second"] <= m["fastest"]
        assert m["epoch_seconds"] == pytest.approx(1437 / m["samples_per_second"])
        assert m["percent_of_matmul"] == pytest.approx(100 * m["gflops"] / m["matmul_gflops"])
    assert end["figure"] == "bench.png"
    with Image.open("bench.png") as image:
        assert image.format == "PNG"


def test_bench_of_few_seconds_measures_one_size_and_says_what_they_are_for(capsys):
    assert main(["bench", *FAST, "--batch-size", "64", "--seconds", "2"]) == 0
    out = capsys.readouterr().out
    assert "64 → 200 → 10" in out
    assert "about 2 s in all, and on the first start some more to compile" in out
    assert "checked before: all weights agree" in out


def test_bench_in_a_terminal_of_80_columns_is_a_table_and_a_sentence():
    text = in_a_terminal("bench", *FAST, *SMALL, "--seconds", "0.2")
    plain = ESCAPE.sub("", text)
    lines = [line for part in plain.splitlines() for line in part.split("\r")]
    assert max(map(len, lines)) <= 80
    assert re.search(r"device +hidden +batch +samples/s +spread +epoch s +GFLOP/s +% matmul", plain)
    assert "Ctrl-C ends it" in plain
    assert "Only cpu was measured" in plain.split("╭")[-1]
    assert "\x1b[?25h" in text  # the cursor is given back


@pytest.mark.thorough
def test_bench_in_a_pipe_is_plain_lines_and_replaces_its_figure():
    Path("there.png").write_text("an older one")
    result = python("bench", *FAST, *SMALL, "--seconds", "0.2", "--out", "there.png")
    assert (result.returncode, result.stderr) == (0, "")
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", result.stdout)
    rows = re.findall(r"^ +cpu +(\d+) +(\d+) +[\d,]+ +\S+ … \S+ % ", result.stdout, re.MULTILINE)
    assert rows == [("5", "1"), ("5", "64"), ("20", "1"), ("20", "64")]
    assert re.search(r"^Only cpu was measured; .* samples/s", result.stdout, re.MULTILINE)
    assert Path("there.png").read_bytes().startswith(b"\x89PNG")


def test_bench_without_a_gpu_measures_the_cpu_and_says_why(capsys):
    assert main(["bench", "--data", "digits", *SMALL, "--seconds", "0.2", "--json"]) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert events[0]["event"] == "note"
    cause = re.match(r"no GPU is measured: (.*) \(see", events[0]["message"])[1]
    assert f"cpu is the only device here ({cause})" in events[-1]["conclusion"]


def test_bench_compares_the_cpu_with_every_gpu_that_answers(monkeypatch, capsys):
    made_current = []

    def pretended(device):
        if device == "gpu:1":
            raise BackendUnavailable("gpu:1 does not answer; for a GPU: another")
        return select("cpu") if device == "cpu" else Backend(np, device, "pretended")

    facts = {"name": "pretended", "cupy": "14.0", "cuda": "13.0"}
    gpus = [{"index": index} | facts for index in range(2)]
    monkeypatch.setattr(bench, "describe_gpus", lambda: gpus)
    monkeypatch.setattr(bench, "select", pretended)
    monkeypatch.setattr(Backend, "make_current", lambda self: made_current.append(self.name))
    assert main(["bench", "--data", "digits", *SMALL, "--seconds", "0.2", "--json"]) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert "not every GPU is measured: gpu:1 does not answer (see" in events[0]["message"]
    assert events[1]["machine"]["gpu:0"] == "pretended, CuPy 14.0, CUDA 13.0"
    end = events[-1]
    assert {m["device"] for m in end["measurements"]} == {"cpu", "gpu:0"}
    assert end["conclusion"].startswith("With 20 hidden units ")
    assert {"cpu", "gpu:0"} <= set(made_current)  # each run makes its device the current one


def test_bench_leaves_out_batches_larger_than_the_data(capsys):
    assert main([*BENCH, "0.2", "--hidden", "5", "--batch-size", "1,2000,3000"]) == 0
    first, second, *_ = map(json.loads, capsys.readouterr().out.splitlines())
    assert "2000 or 3000" in first["message"]
    assert second["batch_sizes"] == [1]


def test_bench_times_nothing_where_devices_disagree(monkeypatch, capsys):
    def disagree(*args, **options):
        raise benchmarking.DevicesDisagree("a and b disagree")

    monkeypatch.setattr(benchmarking, "check", disagree)
    assert main([*BENCH, "0.2", *SMALL]) == 1
    captured = capsys.readouterr()
    assert captured.err == "error: a and b disagree\n"
    last = json.loads(captured.out.splitlines()[-1])
    assert (last["event"], last["message"]) == ("failed", "a and b disagree")
    assert not Path("bench.png").exists()


@pytest.mark.parametrize("rounds", [0, 1, 4])
def test_ctrl_c_ends_a_bench_with_what_has_been_measured(rounds, monkeypatch, capsys):
    def interrupted(*args, **options):
        for m in bench_until_the_end(*args, **options):
            if m.rounds > rounds:
                raise KeyboardInterrupt
            yield m

    bench_until_the_end = benchmarking.benchmark
    monkeypatch.setattr(benchmarking, "benchmark", interrupted)
    assert main([*BENCH, "100", *SMALL]) == 130
    end = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (end["event"], end["interrupted"], end["rounds"]) == ("end", True, rounds)
    assert len(end["measurements"]) == (4 if rounds else 0)
    enough = rounds >= 3
    assert ("no conclusion" in end["conclusion"]) != enough
    assert Path("bench.png").exists() == enough


@pytest.mark.thorough
def test_a_real_ctrl_c_ends_a_bench():
    process = subprocess.Popen(
        [sys.executable, "-m", "trainer", *BENCH, "100", "--hidden", "20", "--batch-size", "1,64"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    events = []
    for line in process.stdout:
        events.append(json.loads(line))
        if [event["event"] for event in events].count("measurement") == 1:
            process.send_signal(signal.SIGINT)
            break
    *_, last = process.stdout
    assert process.wait(60) == 130
    end = json.loads(last)
    assert (end["event"], end["interrupted"]) == ("end", True)


# --- several runs ---------------------------------------------------------------------------


def test_several_runs_answer_together_by_their_mean(capsys):
    for seed in ("1", "2", "3"):
        options = ["--epochs", "2", "--seed", seed, "--out", f"s{seed}", "--quiet"]
        assert main([*FAST, *options]) == 0
    runs = ["s1", "s2", "s3"]
    capsys.readouterr()
    assert main(["evaluate", *runs, "--device", "cpu", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    data = load("digits")
    models = [MLP.load(run, backend=select("cpu")) for run in runs]
    outputs = [model.predict_proba(data.test_x) for model in models]
    answers = (outputs[0] + outputs[1] + outputs[2]).argmax(axis=1)
    assert found["accuracy"] == (answers == data.test_y).mean()
    assert found["each"] == [model.accuracy(data.test_x, data.test_y) for model in models]
    assert main(["evaluate", *runs, "--device", "cpu"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^s2  \d\d\.\d\d %$", out, re.MULTILINE)
    assert "s1 + s2 + s3 on 360 test samples of digits" in out


def test_runs_that_answer_other_questions_do_not_answer_together(capsys):
    assert main([*FAST, "--epochs", "1", "--out", "a", "--quiet"]) == 0
    Path("own.csv").write_text("".join(f"{n % 2},{n},3,4,5\n" for n in range(40)))
    options = ["--data", "own.csv", "--device", "cpu", "--epochs", "1", "--out", "b", "--quiet"]
    assert main(options) == 0
    capsys.readouterr()
    assert main(["evaluate", "a", "b", "--device", "cpu"]) == 2
    assert "a and b cannot answer together: classes" in capsys.readouterr().err
    assert main(["evaluate", "a", "a", "--figures"]) == 2
    assert "--figures: 2 runs have no folder in common" in capsys.readouterr().err


def test_a_network_without_kernels_is_said_once(capsys, monkeypatch):
    options = ["--data", "digits", "--device", "cpu", "--hidden", "9", "--epochs", "2"]
    with monkeypatch.context() as patch:
        patch.setattr(CpuBackend, "has_kernels", lambda *_: False)  # as for a new activation
        assert main(["train", *options, "--activation", "gelu", "--out", "a"]) == 0
    assert capsys.readouterr().out.count("gelu with squared_error has no kernel on cpu") == 1
    assert main(["train", *options, "--activation", "gelu", "--out", "b"]) == 0
    assert "no kernel" not in capsys.readouterr().out


def test_the_panel_words_a_setting_of_any_type(monkeypatch):
    settings = {name: setting.default for name, setting in settings_of(TrainingSettings).items()}
    new = {"a_rule": Setting("plain"), "a_check": Setting(True), "a_rate": Setting(0.0)}
    known = settings_of(TrainingSettings) | new
    monkeypatch.setattr(facts, "settings_of", lambda cls: known)
    given = settings | {"a_rule": "other", "a_check": False, "a_rate": 0.5}
    assert facts._steps(given).startswith("sgd a rule other no a check a rate 0.5, rate")

"""Runs that end early, whatever ends them, and go on."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import trainer
from tests.test_cli import ROOT
from trainer import MLP, fit
from trainer.cli import main
from trainer.display import QuietView
from trainer.running.recorder import Recorder
from trainer.running.run_folder import Run, claim
from trainer.training import Training
from trainer.weight_files import read_checkpoint, write_safetensors

SMALL = ["--data", "digits", "--device", "cpu", "--hidden", "7"]
TIMES = ("epoch_seconds", "evaluation_seconds", "compile_seconds", "samples_per_second")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def hears_hangups():
    """Whoever runs the tests may do so after nohup, under which SIGHUP is ignored."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture
def reports_often(monkeypatch):
    monkeypatch.setattr("trainer.training.loop._REPORT_SECONDS", 1e-9)


def train(*arguments):
    return main(["train", *SMALL, "--quiet", *arguments])


def stopped(monkeypatch, after, *arguments, by=signal.SIGTERM, inside=False, run=train):
    """Train until so many epochs have ended or, inside them, reports have come; then a signal."""
    seen = 0

    def see(view, report):
        nonlocal seen
        seen += 1
        if seen == after:
            os.kill(os.getpid(), by)

    with monkeypatch.context() as patch:
        if inside:
            patch.setattr(QuietView, "progress", see)
        patch.setattr(QuietView, "epoch", see)
        patch.setattr(QuietView, "iteration", see)
        return run(*arguments)


def outcome(run):
    """What a run came to: its weights, and every epoch's numbers but the times."""
    epochs = Run.open(Path(run)).metrics()
    numbers = [{k: v for k, v in epoch.items() if k not in TIMES} for epoch in epochs]
    return Path(run, "model.safetensors").read_bytes(), numbers


@pytest.fixture(scope="module")
def left_alone(tmp_path_factory):
    """Outcomes of trainings that nothing interrupts, each trained once."""

    @cache
    def outcome_of(*options):
        run = tmp_path_factory.mktemp("whole") / "whole"
        assert train(*options, "--out", str(run)) == 0
        return outcome(run)

    return outcome_of


def names(run):
    return sorted(path.name for path in Path(run, "checkpoints").iterdir())


def refused(capsys, *arguments, code=2):
    capsys.readouterr()
    assert main(["train", *arguments]) == code
    out, err = capsys.readouterr()
    assert (out, err.count("\n"), err.startswith("error: ")) == ("", 1, True)
    return err


# --- going on -------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_is_heard_and_the_run_goes_on_to_the_same_bits(
    left_alone, monkeypatch, capsys, by
):
    number = getattr(signal, by)
    assert stopped(monkeypatch, 2, "--epochs", "5", "--out", "o", by=number) == 128 + number
    assert names("o") == ["epoch00002.safetensors"]
    assert main(["train", "--resume", "o"]) == 0
    assert "after 2 epochs, from o/checkpoints/epoch00002.safetensors" in capsys.readouterr().out
    assert outcome("o") == left_alone("--epochs", "5")
    assert not Path("o/.lock").exists()


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--momentum", "0.9", "--l2", "5", "--bias", "--dtype", "float64"],
        ["--batch-size", "32", "--momentum", "0.9"],
        ["--batch-size", "64", "--optimizer", "adam", "--loss", "cross_entropy"],
        ["--sampling", "with-replacement"],
        ["--sampling", "with-replacement", "--steps", "4000"],
        ["--limit", "500", "--validation", "100"],
        ["--augment", "copies:10"],
        ["--augment", "elastic:34,4", "--augment", "rotate:15", "--batch-size", "8"],
    ],
)
@pytest.mark.parametrize("after", [6, pytest.param(30, marks=pytest.mark.thorough)])
def test_it_goes_on_inside_an_epoch_too(monkeypatch, left_alone, reports_often, options, after):
    options = [*options, *([] if "--steps" in options else ["--epochs", "3"])]
    code = stopped(monkeypatch, after, *options, "--out", "o", inside=True)
    assert main(["train", "--resume", "o", "--quiet"]) == 0
    assert code in (0, 143)
    assert outcome("o") == left_alone(*options)


def test_it_goes_on_as_often_as_one_likes(monkeypatch, reports_often):
    options = ["--epochs", "3", "--batch-size", "16"]
    assert train(*options, "--out", "whole") == 0
    assert stopped(monkeypatch, 3, *options, "--out", "o", inside=True) == 143
    for after in (1, 2, 40, 60):
        again = [*options, "--resume", "o"]
        assert stopped(monkeypatch, after, *again, inside=True) == 143
    assert len(names("o")) == 3
    assert train("--resume", "o") == 0
    assert outcome("o") == outcome("whole")


def test_weights_of_others_need_not_be_there_any_more(monkeypatch):
    assert train("--epochs", "1", "--out", "other") == 0
    options = ["--init-from", "other", "--epochs", "3"]
    assert train(*options, "--out", "whole") == 0
    assert stopped(monkeypatch, 1, *options, "--out", "o") == 143
    shutil.rmtree("other")
    assert main(["train", "--resume", "o", "--quiet"]) == 0
    assert outcome("o") == outcome("whole")


def test_before_the_first_checkpoint_it_begins_again(monkeypatch, capsys):
    assert train("--epochs", "2", "--out", "whole") == 0
    with monkeypatch.context() as patch:
        patch.setattr("trainer.running.recorder.Recorder.epoch", lambda *_: os._exit(9))
        process = os.fork()
        if not process:
            train("--epochs", "2", "--out", "o")
        assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 9
    assert sorted(path.name for path in Path("o").iterdir()) == [".lock", "config.json"]
    assert main(["train", "--resume", "o", "--quiet"]) == 0
    assert outcome("o") == outcome("whole")


def test_more_epochs_may_follow_a_finished_run(left_alone, capsys):
    assert train("--epochs", "2", "--shuffle", "--out", "o") == 0
    assert main(["train", "--resume", "o"]) == 0
    assert "o has finished: 2 epochs" in capsys.readouterr().out
    assert main(["train", "--resume", "o", "--json"]) == 0
    end = json.loads(capsys.readouterr().out)
    assert (end["event"], end["epochs"], end["finished_before"]) == ("end", 2, True)
    assert main(["train", "--resume", "o", "--epochs", "4", "--quiet"]) == 0
    assert outcome("o") == left_alone("--epochs", "4", "--shuffle")
    assert Run.open(Path("o")).config["settings"]["epochs"] == 4


def test_full_batch_starts_again_from_its_last_weights(monkeypatch, capsys):
    options = ["--optimizer", "cg", "--loss", "squared_error"]
    assert stopped(monkeypatch, 3, *options, "--max-iterations", "9", "--out", "o") == 143
    three = outcome("o")[1]
    assert len(three) == 3
    assert main(["train", "--resume", "o", "--quiet"]) == 0
    after = outcome("o")[1]
    assert after[:3] == three
    assert [epoch["epoch"] for epoch in after] == list(range(1, 10))
    assert after[3]["train_loss"] < three[2]["train_loss"]
    capsys.readouterr()
    assert main(["train", "--resume", "o", "--max-iterations", "10"]) == 0
    out = capsys.readouterr().out
    assert "cg has no memory: it starts again from the last weights" in out
    assert "1 iterations of cg after the 9 before" in out


def test_a_minimum_that_is_reached_is_finished(capsys):
    options = ["--optimizer", "l-bfgs", "--loss", "squared_error", "--l2", "1000"]
    assert train(*options, "--max-iterations", "5000", "--out", "o") == 0
    iterations = len(outcome("o")[1])
    assert iterations < 5000
    assert main(["train", "--resume", "o"]) == 0
    assert f"o has finished: {iterations} iterations" in capsys.readouterr().out


# --- checkpoints ----------------------------------------------------------------------------


def test_every_so_many_epochs_the_last_three_are_kept(monkeypatch):
    assert train("--epochs", "9", "--checkpoint-every", "2", "--out", "o") == 0
    assert names("o") == [f"epoch0000{n}.safetensors" for n in (6, 8, 9)]
    state = read_checkpoint("o/checkpoints/epoch00006.safetensors")[2]
    assert (state["ended"], state["tally"]["epochs"], state["training"]["epoch"]) == (False, 6, 7)


def test_every_so_many_seconds_inside_epochs(reports_often):
    assert train("--epochs", "1", "--checkpoint-every", "0.0001s", "--out", "o") == 0
    *inside, last = names("o")
    assert [len(name) for name in inside] == [len("epoch00000+000000032.safetensors")] * 2
    assert last == "epoch00001.safetensors"


def test_the_best_by_held_out_samples_is_kept(backend_cpu, capsys):
    for seed in range(1, 20):  # such a rate takes rounding, the processor's, to other accuracies
        options = ["--validation", "200", "--learning-rate", "10", "--seed", str(seed)]
        assert train(*options, "--epochs", "8", "--out", "o") == 0
        accuracies = [epoch["validation_accuracy"] for epoch in Run.open(Path("o")).metrics()]
        best = accuracies.index(max(accuracies)) + 1
        if best < 8:
            break
        shutil.rmtree("o")
    assert len(accuracies) == 8 > best  # else the test tells nothing
    state = read_checkpoint("o/checkpoints/best.safetensors")[2]
    tally = state["tally"]
    assert (tally["epochs"], tally["best"]["validation_accuracy"]) == (best, max(accuracies))
    assert train(*options, "--epochs", str(best), "--out", "until") == 0
    same = [MLP.load(f, backend=backend_cpu) for f in ("o/checkpoints/best.safetensors", "until")]
    for a, b in zip(*(model.get_weights() for model in same), strict=True):
        np.testing.assert_array_equal(a, b)
    capsys.readouterr()
    assert main(["evaluate", "o/checkpoints/best.safetensors", "--json"]) == 0
    evaluated = json.loads(capsys.readouterr().out)
    assert evaluated["accuracy"] == Run.open(Path("o")).metrics()[best - 1]["test_accuracy"]
    assert main(["train", "--resume", "o"]) == 0
    said = f"best: epoch {best} with {100 * max(accuracies):.2f} % of the held-out samples, o/check"
    assert said in capsys.readouterr().out


@pytest.fixture
def backend_cpu():
    from backends import select

    return select("cpu")


def test_the_interval_is_remembered(monkeypatch):
    options = ["--checkpoint-every", "2"]
    assert stopped(monkeypatch, 1, *options, "--epochs", "5", "--out", "o") == 143
    assert main(["train", "--resume", "o", "--quiet"]) == 0
    assert names("o") == [f"epoch0000{n}.safetensors" for n in (1, 3, 5)]


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "0s", "s", "5d", "", "1e3", "٣"])
def test_another_interval_is_refused(capsys, text):
    assert "a number of epochs such as 1, or a time" in refused(
        capsys, *SMALL, f"--checkpoint-every={text}"
    )
    assert not Path("runs").exists()


# --- damage ---------------------------------------------------------------------------------


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def cut(path):
    os.truncate(path, path.stat().st_size // 2)


def empty(path):
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [flip, cut, empty])
def test_of_damaged_checkpoints_the_newest_whole_one_is_taken(
    left_alone, monkeypatch, capsys, damage
):
    options = ["--epochs", "6", "--checkpoint-every", "1", "--out", "o"]
    assert stopped(monkeypatch, 4, *options) == 143
    for epoch in (3, 4):
        damage(Path(f"o/checkpoints/epoch0000{epoch}.safetensors"))
    assert main(["train", "--resume", "o"]) == 0
    out = capsys.readouterr().out
    passed = [line for line in out.splitlines() if line.startswith("passed over: ")]
    assert [line.split("/")[2][:10] for line in passed] == ["epoch00004", "epoch00003"]
    assert "after 2 epochs, from o/checkpoints/epoch00002.safetensors" in out
    assert outcome("o") == left_alone("--epochs", "6")
    for path in Path("o/checkpoints").iterdir():
        read_checkpoint(path)


def test_with_every_checkpoint_damaged_it_begins_again(left_alone, monkeypatch, capsys):
    assert stopped(monkeypatch, 2, "--epochs", "3", "--out", "o") == 143
    flip(Path("o/checkpoints/epoch00002.safetensors"))
    assert main(["train", "--resume", "o"]) == 0
    assert "passed over: o/checkpoints/epoch00002.safetensors: not" in capsys.readouterr().out
    assert outcome("o") == left_alone("--epochs", "3")


@pytest.mark.parametrize("content", ["", "{", "[]", "[" * 100_000])
def test_what_stands_beside_the_checkpoints_is_mended(monkeypatch, capsys, content):
    assert train("--epochs", "3", "--out", "whole") == 0
    assert stopped(monkeypatch, 2, "--epochs", "3", "--out", "o") == 143
    Path("o/config.json").write_text(content)
    Path("o/metrics.jsonl").write_text("?")
    empty(Path("o/model.safetensors"))
    assert main(["train", "--resume", "o"]) == 0
    assert "config.json was damaged: mended from o/checkpoints/" in capsys.readouterr().out
    assert outcome("o") == outcome("whole")
    # and of a finished one
    Path("o/config.json").unlink()
    Path("o/metrics.jsonl").write_text(content)
    flip(Path("o/model.safetensors"))
    assert main(["train", "--resume", "o"]) == 0
    out = capsys.readouterr().out
    for name in ("metrics.jsonl", "model.safetensors"):
        assert f"{name} was damaged: mended from o/checkpoints/epoch00003.safetensors" in out
    assert outcome("o") == outcome("whole")


def test_what_a_killed_process_left_half_written_is_removed(monkeypatch):
    assert stopped(monkeypatch, 2, "--epochs", "3", "--out", "o") == 143
    left = [
        Path("o/.model.safetensors.x1.tmp"),
        Path("o/checkpoints/.epoch00003.safetensors.y.tmp"),
    ]
    for path in left:
        path.write_bytes(b"half")
    mine = Path("o/.mine")
    mine.write_text("mine")
    assert main(["train", "--resume", "o", "--quiet"]) == 0
    assert not any(path.exists() for path in left)
    assert mine.read_text() == "mine"


@pytest.mark.parametrize(
    "name", ["metrics.jsonl", "model.safetensors", "checkpoints", "config.json"]
)
def test_no_link_leads_out_of_the_folder(monkeypatch, capsys, name):
    assert stopped(monkeypatch, 2, "--epochs", "3", "--out", "o") == 143
    inside, outside = Path("o", name), Path("outside")
    inside.rename(outside)
    inside.symlink_to(outside.absolute())
    before = outside.stat().st_mtime_ns
    assert "leads out of the run's folder" in refused(capsys, "--resume", "o")
    assert outside.stat().st_mtime_ns == before


# --- disagreement ---------------------------------------------------------------------------


@pytest.fixture
def begun(monkeypatch):
    assert stopped(monkeypatch, 2, "--epochs", "4", "--seed", "3", "--out", "o") == 143


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--learning-rate", "0.2"], "--learning-rate was 0.3, not 0.2; omit it"),
        (["--seed", "0", "--bias"], "--bias was no, not yes, --seed was 3, not 0; omit them"),
        (["--epochs", "1"], "--epochs 1: 2 have started or ended; expected 2 or more"),
        (["--hidden", "7,7"], "--hidden was 7, not 7,7"),
        (["--data", "mnist"], "data was digits, not mnist"),
        (["--recipe", "book"], "recipe was digits, not book"),
        (["--limit", "7"], "limit was none, not 7"),
        (["--validation", "7"], "validation was 0, not 7"),
        (["--augment", "copies:10"], "--augment was none, not copies:10"),
        (["--augment", "shift:1"], "--augment was none, not shift:1"),
        (["--init-from", "o"], "--init-from was none"),
        (["--matmul", "tf32"], "matmul was float32, not tf32"),
        (["--out", "p"], "omit --out"),
    ],
)
def test_other_options_than_it_began_with_are_refused_by_name(begun, capsys, options, words):
    assert words in refused(capsys, "--resume", "o", *options)


def test_the_same_options_may_be_typed_again(begun):
    assert train("--resume", "o", "--seed", "3", "--epochs", "4") == 0


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (["settings", "learning_rate"], 0.5, "learning_rate is 0.5 there and 0.3 in it"),
        (["seed"], 4, "seed is 4 there and 3 in it"),
        (["data", "crc32"], "0", "crc32 is 0 there"),
    ],
)
def test_a_config_that_was_changed_is_refused_by_name(begun, capsys, path, value, words):
    config = json.loads(Path("o/config.json").read_text())
    part = config
    for name in path[:-1]:
        part = part[name]
    part[path[-1]] = value
    Path("o/config.json").write_text(json.dumps(config))
    error = refused(capsys, "--resume", "o")
    assert words in error
    assert "o/config.json disagrees with o/checkpoints/epoch00002.safetensors" in error


def test_a_run_older_than_a_setting_has_its_default(begun, capsys):
    config = json.loads(Path("o/config.json").read_text())
    path = Path("o/checkpoints/epoch00002.safetensors")
    arrays, network, state = read_checkpoint(path)
    for settings in (config["settings"], state["config"]["settings"]):
        del settings["dropout"], settings["augment"]
    Path("o/config.json").write_text(json.dumps(config))
    write_safetensors(path, arrays, network, state)
    error = refused(capsys, "--resume", "o", "--dropout", "0.5")
    assert "--dropout was 0.0, not 0.5; omit it" in error
    assert train("--resume", "o", "--dropout", "0", "--augment", "none") == 0


def test_a_limit_that_was_recorded_beside_the_data_is_kept(monkeypatch, capsys, left_alone):
    """As it was while it was no setting."""
    options = ["--limit", "500", "--validation", "100", "--epochs", "3"]
    assert stopped(monkeypatch, 1, *options, "--out", "o") == 143
    config = json.loads(Path("o/config.json").read_text())
    path = Path("o/checkpoints/epoch00001.safetensors")
    arrays, network, state = read_checkpoint(path)
    for part in (config, state["config"]):
        part["data"]["limit"] = part["settings"].pop("limit")
    Path("o/config.json").write_text(json.dumps(config))
    write_safetensors(path, arrays, network, state)
    assert "limit was 500, not 7" in refused(capsys, "--resume", "o", "--limit", "7")
    assert train("--resume", "o", "--limit", "500") == 0
    assert outcome("o") == left_alone(*options)


def test_data_that_has_changed_is_refused(monkeypatch, capsys):
    rows = np.random.default_rng(0).integers(0, 9, (60, 5))
    rows[:, 0] %= 2
    np.savetxt("data.csv", rows, "%d", ",")

    def on_csv(*arguments):
        return main(["train", "--data", "data.csv", "--device", "cpu", "--quiet", *arguments])

    options = "--recipe", "rashid", "--epochs", "3", "--out", "o"
    assert stopped(monkeypatch, 1, *options, run=on_csv) == 143
    assert on_csv("--resume", "o") == 0
    rows[7, 3] += 1
    np.savetxt("data.csv", rows, "%d", ",")
    error = refused(capsys, "--resume", "o", "--epochs", "5")
    assert "data.csv has changed since it began" in error
    Path("data.csv").unlink()
    assert "cannot be read again" in refused(capsys, "--resume", "o", "--epochs", "5")


def test_fewer_epochs_may_be_left_to_do(begun):
    assert main(["train", "--resume", "o", "--epochs", "3", "--quiet"]) == 0
    assert len(outcome("o")[1]) == 3


def test_a_best_checkpoint_that_is_damaged_is_said_and_begun_anew(monkeypatch, capsys):
    options = ["--validation", "200", "--epochs", "4", "--out", "o"]
    assert stopped(monkeypatch, 3, *options) == 143
    cut(Path("o/checkpoints/best.safetensors"))
    assert main(["evaluate", "o/checkpoints/best.safetensors"]) == 2
    assert "o/checkpoints/best.safetensors: not a readable" in capsys.readouterr().err
    assert main(["train", "--resume", "o"]) == 0
    out = capsys.readouterr().out
    assert "passed over: o/checkpoints/best.safetensors: not a readable" in out
    assert "the best from here on is kept" in out
    assert read_checkpoint("o/checkpoints/best.safetensors")[2]["tally"]["epochs"] == 4


def test_a_finished_run_without_checkpoints_is_left_alone(capsys):
    assert train("--epochs", "2", "--out", "o") == 0
    before = outcome("o")
    shutil.rmtree("o/checkpoints")
    error = refused(capsys, "--resume", "o")
    assert "o: has finished, and has no whole checkpoint to go on from; python -m trainer" in error
    assert "o/checkpoints: expected" not in error
    assert outcome("o") == before


def test_the_folder_of_checkpoints_is_no_run(capsys):
    assert train("--epochs", "1", "--out", "o") == 0
    assert "The run that this is in is o" in refused(capsys, "--resume", "o/checkpoints")
    assert main(["evaluate", "o/checkpoints"]) == 2
    assert "expected one of its files (epoch00001.safetensors), or the run, o" in (
        capsys.readouterr().err
    )


def test_a_second_ctrl_c_ends_at_once_and_says_how_to_go_on(monkeypatch, capsys):
    def twice(*_):
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(QuietView, "epoch", twice)
    error = refused(capsys, *SMALL, "--epochs", "9", "--quiet", "--out", "o", code=130)
    assert "stopped at once by a second Ctrl-C. The training stopped in epoch 2 of 9" in error
    assert "python -m trainer train --resume o" in error


def test_what_is_no_training_is_refused(capsys):
    assert "no run is there" in refused(capsys, "--resume", "nowhere")
    assert main(["sweep", *SMALL, "--epochs", "1", "--seeds", "2", "--jobs", "1"]) == 0
    assert "python -m trainer sweep --resume sweeps/s1" in refused(capsys, "--resume", "sweeps/s1")
    assert train("--epochs", "1", "--out", "o") == 0
    assert main(["import-weights", "o", "--data", "digits", "--out", "i"]) == 0
    assert "its weights were imported, not trained here" in refused(capsys, "--resume", "i")


def test_another_machine_is_noted(monkeypatch, begun, capsys):
    monkeypatch.setattr("backends.cpu.processor_name", lambda: "abacus")
    monkeypatch.setattr("backends.cpu.core_count", lambda: 77)  # which changes no bit
    assert main(["train", "--resume", "o"]) == 0
    out = capsys.readouterr().out
    assert "numbers may be rounded otherwise from here on: device name was" in out
    assert "and is abacus" in out
    assert "threads" not in out


@pytest.mark.parametrize(
    ("options", "draws"),
    [(["--dropout", "0.2"], True), (["--augment", "shift:1"], True), ([], False)],
)
def test_noise_that_was_drawn_otherwise_is_noted(monkeypatch, capsys, options, draws):
    assert stopped(monkeypatch, 2, "--epochs", "3", "--out", "o", *options) == 143
    config = json.loads(Path("o/config.json").read_text())
    del config["noise"]  # as in runs that are older
    Path("o/config.json").write_text(json.dumps(config))
    assert main(["train", "--resume", "o"]) == 0
    assert ("are drawn in another way" in capsys.readouterr().out) == draws


def test_one_process_at_a_time(begun, capsys):
    release = claim(Path("o"))
    here = f"o: process {os.getpid()} on "
    assert here in refused(capsys, "--resume", "o")
    assert here in refused(capsys, *SMALL, "--out", "o")
    release()
    assert main(["train", "--resume", "o", "--quiet"]) == 0


# --- faults ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "kept"),
    [
        ("epoch00002.safetensors", 1),
        ("model.safetensors", 2),
        ("metrics.jsonl", 2),
        (".metrics.jsonl", 1),
    ],
)
def test_a_full_disk_is_one_line_and_loses_no_epoch_that_can_be_written(
    monkeypatch, capsys, file, kept
):
    options = ["--epochs", "4", "--checkpoint-every", "1"]
    assert train(*options, "--out", "whole") == 0
    replace, append, seen = os.replace, trainer.files.append, 0
    no_space = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def fails(target):
        nonlocal seen
        seen += Path(target).name == file
        return Path(target).name == file and (seen == 2 or file.startswith("epoch"))

    def full(source, target):
        if fails(target):
            raise no_space
        replace(source, target)

    def full_amid_a_line(path, line, **options):
        if not fails(path):
            return append(path, line, **options)
        append(path, line[: len(line) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        patch.setattr("trainer.running.metrics_file.append", full_amid_a_line)
        error = refused(capsys, *SMALL, *options, "--quiet", "--out", "o", code=1)
    assert f"{file}: No space left on device. The training stopped in epoch " in error
    after = f"{kept} epoch{'s' * (kept > 1)}"
    assert f"go on after {after}: python -m trainer train --resume o\n" in error
    assert names("o") == [f"epoch0000{number}.safetensors" for number in range(1, kept + 1)]
    assert main(["train", "--resume", "o", "--quiet"]) == 0
    assert outcome("o") == outcome("whole")


def test_a_folder_that_cannot_be_written_is_one_line(capsys, monkeypatch, begun):
    def read_only(*_, **settings):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), "o/.lock")

    monkeypatch.setattr("filelock.FileLock.acquire", read_only)
    assert "o/.lock: Read-only file system" in refused(capsys, "--resume", "o", code=1)


@pytest.mark.parametrize("error", [MemoryError("3 GiB"), RuntimeError("the card fell off")])
def test_short_memory_and_a_lost_device_are_one_line(monkeypatch, capsys, error):
    options = ["--epochs", "4", "--checkpoint-every", "1"]
    assert train(*options, "--out", "whole") == 0
    learn, calls = MLP.count_right, 0

    def fail(*arguments):
        nonlocal calls
        calls += 1
        if calls == 3:
            raise error
        return learn(*arguments)

    failures = "trainer.commands.ending.device_failure"
    with monkeypatch.context() as patch:
        patch.setattr(failures, lambda e: str(e) if e is error else None)
        patch.setattr(MLP, "count_right", fail)
        line = refused(capsys, *SMALL, *options, "--quiet", "--out", "o", code=1)
    assert str(error) in line
    assert "The training stopped in epoch 3 of 4; go on after 2 epochs: python -m" in line
    assert main(["train", "--resume", "o", "--quiet"]) == 0
    assert outcome("o") == outcome("whole")


class Mistake(Exception):
    """One of the program's own."""


def mistake_in(owner, name, at):
    """Return a method like the one there, but for a mistake in its call number `at`."""
    method, calls = getattr(owner, name), 0

    def mistaken(*arguments, **options):
        nonlocal calls
        calls += 1
        if calls == at:
            raise Mistake
        return method(*arguments, **options)

    return mistaken


@pytest.mark.parametrize(
    "options",
    [[], pytest.param(["--batch-size", "32", "--momentum", "0.9"], marks=pytest.mark.thorough)],
)
@pytest.mark.parametrize(
    ("owner", "name", "at", "after"),
    [
        (Training, "_learn", 2, "it has no checkpoint yet"),
        (Training, "_learn", 60, "go on after 1 epoch:"),
        (MLP, "count_right", 3, "go on after 2 epochs:"),
        (Training, "_set_report_interval", 50, "go on after "),
        (QuietView, "progress", 50, "go on after 1 epoch and "),
        (QuietView, "epoch", 3, "go on after 3 epochs:"),
        (MLP, "save", 3, "go on after 3 epochs:"),
        (Recorder, "progress", 50, "go on after 1 epoch and "),
    ],
)
def test_a_mistake_of_the_programs_is_not_hidden_and_loses_nothing(
    monkeypatch, capsys, left_alone, reports_often, owner, name, at, after, options
):
    """By default, under which a checkpoint comes after 30 seconds."""
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, mistake_in(owner, name, at))
        with pytest.raises(Mistake):
            train("--epochs", "4", *options, "--out", "o")
    error = capsys.readouterr().err
    assert error.startswith("error: the program failed. The training stopped in epoch ")
    assert after in error
    assert error.endswith(": python -m trainer train --resume o\n")
    assert train("--resume", "o") == 0
    assert outcome("o") == left_alone("--epochs", "4", *options)


def test_a_mistake_in_an_update_keeps_the_checkpoints_of_its_epoch(
    monkeypatch, capsys, reports_often
):
    options = ["--epochs", "3"]
    assert train(*options, "--out", "whole") == 0
    progress, reports = Recorder.progress, 0

    def one_checkpoint(recorder):
        nonlocal reports
        reports += 1
        progress(recorder)
        if reports == 50:
            recorder.checkpoint()

    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "progress", one_checkpoint)
        patch.setattr(Training, "_learn", mistake_in(Training, "_learn", 60))
        with pytest.raises(Mistake):
            train(*options, "--out", "o")
    (newest,) = names("o")
    assert newest.startswith("epoch00001+")
    assert "go on after 1 epoch and " in capsys.readouterr().err
    assert train("--resume", "o") == 0
    assert outcome("o") == outcome("whole")


def test_a_full_batch_training_loses_nothing_either(monkeypatch, capsys):
    options = ["--optimizer", "cg", "--loss", "squared_error", "--max-iterations", "6"]
    with monkeypatch.context() as patch:
        patch.setattr(QuietView, "iteration", mistake_in(QuietView, "iteration", 4))
        with pytest.raises(Mistake):
            train(*options, "--out", "o")
    assert "go on after 4 epochs: python -m trainer train --resume o" in capsys.readouterr().err
    assert train("--resume", "o") == 0
    assert len(outcome("o")[1]) == 6


def test_a_state_amid_an_update_is_refused(monkeypatch, backend_cpu):
    model = MLP([4, 3, 2], backend=backend_cpu)
    training = fit(model, np.zeros((5, 4)), np.zeros(5, int), epochs=2)
    next(training)
    monkeypatch.setattr(Training, "_learn", mistake_in(Training, "_learn", 1))
    with pytest.raises(Mistake):
        next(training)
    with pytest.raises(RuntimeError, match="between two reports: it has no state"):
        training.state()


def test_a_clock_that_is_set_back_changes_nothing(monkeypatch):
    now = iter(range(10**9, 0, -1))
    monkeypatch.setattr("time.time", lambda: next(now))
    assert train("--epochs", "3", "--checkpoint-every", "1", "--out", "o") == 0
    assert names("o") == [f"epoch0000{n}.safetensors" for n in (1, 2, 3)]
    for number, name in enumerate(names("o")):  # the oldest file has the newest date
        os.utime(Path("o/checkpoints", name), (10**9 - number, 10**9 - number))
    assert main(["train", "--resume", "o", "--epochs", "4", "--quiet"]) == 0
    assert len(outcome("o")[1]) == 4


def program(*arguments, **settings):
    return subprocess.Popen(
        [sys.executable, "-m", "trainer", "train", *SMALL, *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        text=True,
        **settings,
    )


def test_when_nobody_reads_any_more_it_is_kept_and_ends():
    process = program(
        *("--epochs", "1000000", "--out", "o"), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    for line in process.stdout:
        if line.startswith("      2 "):
            break
    process.stdout.close()
    error = process.stderr.read()
    assert process.wait(60) == 1
    assert error.count("\n") == 1
    assert "stdout: Broken pipe. The training stopped in epoch" in error
    assert error.endswith(": python -m trainer train --resume o\n")
    assert len(names("o")) == 1


@pytest.mark.thorough
def test_after_nohup_a_hangup_is_not_heard():
    process = program(
        *("--epochs", "1000000", "--out", "o"),
        stdout=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )
    assert process.stdout is not None
    seen = 0
    for line in process.stdout:
        if line[:8].strip().isdecimal():
            seen = int(line[:8])
            if seen == 2:
                process.send_signal(signal.SIGHUP)
            if seen == 20:
                process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 143
    assert seen >= 20


def test_when_the_terminal_is_gone_it_is_kept_and_ends():
    leader, follower = os.openpty()
    with open("errors", "w") as errors:
        process = program(
            *("--epochs", "1000000", "--out", "o"),
            stdin=follower,
            stdout=follower,
            stderr=errors,
            start_new_session=True,
            preexec_fn=take_terminal,
        )
    os.close(follower)
    received = b""
    while b"      2 " not in received:
        received += os.read(leader, 65536)
    os.close(leader)  # the system sends SIGHUP
    assert process.wait(60) == 129
    assert Path("errors").read_text().count("\n") <= 1
    assert "Traceback" not in Path("errors").read_text()
    assert len(names("o")) == 1


def take_terminal():
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def test_rates_that_follow_from_the_epochs_go_on_but_not_for_longer(monkeypatch, capsys):
    options = ["--schedule", "cosine", "--warmup", "0.1", "--epochs", "4", "--clip", "0.5"]
    options += ["--optimizer", "adamw", "--batch-size", "16", "--loss", "cross_entropy"]
    assert train(*options, "--out", "whole") == 0
    assert stopped(monkeypatch, 2, *options, "--out", "o") == 143
    assert "rates have followed from that (schedule cosine)" in refused(
        capsys, "--resume", "o", "--epochs", "6"
    )
    assert main(["train", "--resume", "o"]) == 0
    shown = "adamw weight decay 0.01 clip 0.5 warmup 0.1, rate 0.001 cosine, batch 16, shuffled"
    assert shown in " ".join(capsys.readouterr().out.split())
    assert outcome("o") == outcome("whole")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--schedule", "linear"], "--schedule linear is unknown: expected constant, cosine"),
        (["--schedule", "one-cycle", "--warmup", "0.1"], "--schedule one-cycle has its own"),
        (["--warmup", "1"], "--warmup"),
        (["--clip", "0"], "--clip"),
        (["--weight-decay", "0.1"], "--weight-decay 0.1 goes with --optimizer adamw"),
        (["--optimizer", "nesterov"], "--optimizer nesterov needs a momentum: take --momentum 0.9"),
        (["--optimizer", "cg", "--clip", "1"], "--clip 1.0: not with --optimizer cg"),
    ],
)
def test_what_does_not_go_together_is_refused(capsys, options, words):
    assert words in refused(capsys, *SMALL, *options)


class TestPatience:
    OPTIONS = ("--validation", "200", "--learning-rate", "10", "--seed", "1", "--patience", "2")

    def test_it_ends_and_keeps_the_best(self, capsys, backend_cpu):
        options = ["--epochs", "50", *self.OPTIONS]
        capsys.readouterr()
        assert main(["train", *SMALL, *options, "--out", "o"]) == 0
        out = capsys.readouterr().out
        accuracies = [epoch["validation_accuracy"] for epoch in Run.open(Path("o")).metrics()]
        best = accuracies.index(max(accuracies)) + 1
        assert len(accuracies) == best + 2
        for earlier in range(1, best):  # it had the patience until then
            assert max(accuracies[earlier : earlier + 2]) > max(accuracies[:earlier])
        assert f"kept: the weights of epoch {best}, the best by the held-out samples" in out
        test = Run.open(Path("o")).metrics()[best - 1]["test_accuracy"]
        assert f"{100 * test:.2f} % of 360 test samples right" in out
        files = ("o/model.safetensors", "o/checkpoints/best.safetensors")
        models = [MLP.load(file, backend=backend_cpu).get_weights() for file in files]
        for a, b in zip(*models, strict=True):
            np.testing.assert_array_equal(a, b)
        assert main(["train", "--resume", "o"]) == 0
        out = capsys.readouterr().out
        ended = f"o has finished by --patience 2, keeping epoch {best}: {best + 2} epochs"
        assert f"{ended}, {100 * test:.2f} % of the test samples right" in out
        assert "more:" not in out
        whole = outcome("o")
        empty(Path("o/model.safetensors"))
        assert main(["train", "--resume", "o", "--quiet"]) == 0
        assert outcome("o") == whole

    def test_it_is_remembered(self, monkeypatch):
        options = ["--epochs", "50", *self.OPTIONS]
        assert train(*options, "--out", "whole") == 0
        assert stopped(monkeypatch, 2, *options, "--out", "o") == 143
        assert main(["train", "--resume", "o", "--quiet"]) == 0
        assert outcome("o") == outcome("whole")

    def test_it_wants_held_out_samples(self, capsys):
        assert "hold some training samples out" in refused(capsys, *SMALL, "--patience", "3")
        assert "--patience 3: not with --optimizer cg" in refused(
            capsys, *SMALL, "--patience", "3", "--validation", "9", "--optimizer", "cg",
            "--loss", "squared_error",
        )  # fmt: skip

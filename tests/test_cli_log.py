"""`--log tensorboard`: beside the run's own numbers, and across whatever ends a run."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.exports.test_tensorboard import read
from tests.test_cli import ROOT
from tests.test_cli_resume import outcome, refused, stopped, train
from trainer import MLP
from trainer.cli import main

pytest.importorskip("tensorboardX", reason="the extra tensorboard is not installed")
LOG = ["--log", "tensorboard"]
NAMES = ("train_loss", "train_accuracy", "test_accuracy", "validation_accuracy", "epoch_seconds")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def metrics(run):
    return [json.loads(line) for line in Path(run, "metrics.jsonl").read_text().splitlines()]


def assert_logged(run):
    """Compare what TensorBoard reads with metrics.jsonl and with the network's size."""
    found, lines = read(Path(run, "tensorboard")), metrics(run)
    steps = [line["epoch"] for line in lines]
    for name in NAMES:
        written = [np.float32(line[name]) for line in lines if line.get(name) is not None]
        if written:
            events = found.Scalars(name)
            assert [event.step for event in events] == steps
            assert [event.value for event in events] == written
        else:
            assert name not in found.Tags()["scalars"]
    for name, array in MLP.load(run, backend="cpu").arrays().items():
        if name in ("scale", "shift"):
            continue
        events = found.Histograms(name)
        assert {event.histogram_value.num for event in events} == {array.size}
        last = events[-1].histogram_value
        assert (last.min, last.max) == (array.min(), array.max())
    return found


@pytest.mark.parametrize(
    "options",
    [
        "--epochs 3 --bias --validation 100",
        "--epochs 2 --augment shift:1 --batch-size 16 --schedule cosine",
        "--optimizer l-bfgs --loss squared_error --max-iterations 4",
    ],
)
def test_the_log_is_the_run_s_and_changes_no_bit(options):
    words = options.split()
    assert train(*words, *LOG, "--out", "o") == 0
    assert train(*words, "--out", "p") == 0
    assert outcome("o") == outcome("p")
    assert_logged("o")
    assert not Path("p/tensorboard").exists()


def test_images_and_learning_rates():
    words = ["--epochs", "2", "--augment", "shift:1", "--schedule", "step:0.5/1"]
    assert train(*words, "--learning-rate", "0.5", *LOG, "--out", "o") == 0
    found = read("o/tensorboard")
    assert [(e.step, e.value) for e in found.Scalars("learning_rate")] == [(1, 0.5), (2, 0.25)]
    tiles = {"deformed": (10, [0]), "backquery": (1, [1, 2])}
    for name, (rows, steps) in tiles.items():
        events = found.Images(name)
        assert [event.step for event in events] == steps
        for event in events:
            image = np.asarray(Image.open(BytesIO(event.encoded_image_string)))
            assert image.shape == (9 * rows - 1, 89)
            assert image.min() == 0
            assert image.max() == 255
    # the first image of a row is an image as it is
    from trainer import load

    data = load("digits")
    zero = data.train_x[data.train_y == 0][0].reshape(8, 8)
    deformed = Image.open(BytesIO(found.Images("deformed")[0].encoded_image_string))
    np.testing.assert_array_equal(np.asarray(deformed)[:8, :8], np.uint8(255 * (zero / 16)))


def test_columns_that_are_no_image_have_no_images():
    Path("t.csv").write_text("a,b,label\n" + "1,2,x\n3,4,y\n" * 30)
    assert main(["--data", "t.csv", "--epochs", "1", "--quiet", *LOG, "--out", "o"]) == 0
    assert read("o/tensorboard").Tags()["images"] == []


@pytest.mark.parametrize("inside", [False, True])
def test_a_resumed_run_goes_on_without_doubling_or_gaps(monkeypatch, inside):
    monkeypatch.setattr("trainer.training.loop._REPORT_SECONDS", 1e-9)
    words = ["--epochs", "4", *LOG, "--out", "o"]
    assert stopped(monkeypatch, 2, *words, inside=inside, by=signal.SIGTERM) == 143
    assert main(["train", "--quiet", "--resume", "o"]) == 0
    assert len(assert_logged("o").Scalars("train_loss")) == 4
    assert len(list(Path("o/tensorboard").iterdir())) == 2


def test_epochs_after_the_checkpoint_of_a_killed_run_count_once():
    assert train("--epochs", "2", *LOG, "--out", "o") == 0
    shutil.copytree("o", "p")
    assert main(["train", "--quiet", "--resume", "o", "--epochs", "5"]) == 0
    # as if the process had been killed in epoch 6, with its newest checkpoint after epoch 2
    for path in Path("o/tensorboard").iterdir():
        shutil.copy(path, Path("p/tensorboard", path.name))
    assert main(["train", "--quiet", "--resume", "p", "--epochs", "4"]) == 0
    assert len(assert_logged("p").Scalars("train_loss")) == 4


def test_a_run_without_a_log_gets_one_with_all_its_epochs():
    assert train("--epochs", "2", "--out", "o") == 0
    assert main(["train", "--quiet", "--resume", "o", "--epochs", "4", *LOG]) == 0
    found = assert_logged("o")
    assert [event.step for event in found.Scalars("train_loss")] == [1, 2, 3, 4]
    assert [event.step for event in found.Histograms("W1")] == [3, 4]


def test_the_log_is_remembered_and_a_file_may_ask_for_it():
    Path("f.toml").write_text('log = "tensorboard"\nepochs = 1\ndata = "digits"\ndevice = "cpu"\n')
    assert main(["train", "--quiet", "--config", "f.toml", "--out", "o"]) == 0
    assert json.loads(Path("o/config.json").read_text())["log"] == "tensorboard"
    assert main(["train", "--quiet", "--config", "o", "--out", "p"]) == 0
    assert_logged("p")


def test_a_killed_run_leaves_files_that_can_be_read():
    words = ["--data", "digits", "--device", "cpu", "--quiet", "--epochs", "100000", *LOG]
    process = subprocess.Popen(
        [sys.executable, "-m", "trainer", *words, "--out", "o", "--checkpoint-every", "7"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    try:
        deadline = time.monotonic() + 100
        while not Path("o/checkpoints").is_dir() or not list(Path("o/checkpoints").iterdir()):
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        process.kill()
        process.wait()
    before = [event.step for event in read("o/tensorboard").Scalars("train_loss")]
    assert before == list(range(1, len(before) + 1))
    least = json.dumps(max(len(metrics("o")), 8))
    assert main(["train", "--quiet", "--resume", "o", "--epochs", least]) == 0
    assert_logged("o")


def test_mistakes_are_told_before_anything_is_trained(capsys, monkeypatch):
    error = refused(capsys, "--data", "digits", "--log", "wandb")
    assert 'Invalid value "wandb" for --log. Choose from: "tensorboard"' in error
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    error = refused(capsys, "--data", "digits", *LOG, "--out", "o")
    assert 'type: python -m pip install "xptrainer[tensorboard]"' in error
    assert not Path("o").exists()


def test_a_full_disk_is_one_line_and_the_run_goes_on(capsys, monkeypatch):
    def full(path, line, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    assert train("--epochs", "2", *LOG, "--out", "o") == 0
    with monkeypatch.context() as patch:
        patch.setattr("trainer.exports.tensorboard.append", full)
        error = refused(capsys, "--quiet", "--resume", "o", "--epochs", "4", code=1)
    assert "o/tensorboard/events.out.tfevents.000002: No space left on device" in error
    assert main(["train", "--quiet", "--resume", "o", "--epochs", "4"]) == 0
    assert_logged("o")


def test_a_link_out_of_the_run_s_folder_is_not_followed(capsys):
    assert train("--epochs", "1", "--out", "o") == 0
    Path("elsewhere").mkdir()
    Path("o/tensorboard").symlink_to(Path("elsewhere").resolve())
    error = refused(capsys, "--quiet", "--resume", "o", "--epochs", "2", *LOG)
    assert "leads out of the run's folder" in error
    assert not list(Path("elsewhere").iterdir())

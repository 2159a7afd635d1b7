"""metrics.jsonl: appended to, cut, mended from its copy, and what its epochs come to."""

from __future__ import annotations

import json
import shutil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.cli import main
from trainer.running.metrics_file import COPY, FILE, MetricsFile, Tally

EPOCHS = [
    {
        "epoch": epoch,
        "train_loss": 1 / epoch,
        "test_accuracy": 0.5,
        "validation_accuracy": accuracy,
        "epoch_seconds": 0.25,
        "evaluation_seconds": 0.5,
        "compile_seconds": 1.0,
    }
    for epoch, accuracy in enumerate([0.5, 0.75, 0.75, 0.25], 1)
]


@pytest.fixture
def file(tmp_path):
    return filled(tmp_path)


def filled(folder):
    file = MetricsFile(folder)
    for metrics in EPOCHS:
        file.add_to_copy(metrics)
        file.add(metrics)
    return file


def tally_of(epochs):
    tally = Tally()
    for metrics in EPOCHS[:epochs]:
        tally = tally.after(metrics)
    return tally


def state_of(epochs):
    return {"tally": vars(tally_of(epochs))}


def test_a_tally_is_what_all_epochs_come_to():
    tally = tally_of(4)
    assert (tally.epochs, tally.seconds, tally.other_seconds) == (4, 1.0, 6.0)
    assert (tally.last, tally.best) == (EPOCHS[3], EPOCHS[1])  # the first of the best
    assert Tally.of(json.loads(json.dumps(state_of(4)))) == tally
    assert Tally.of({"history": EPOCHS, "best": 0.75}) == tally  # of older versions
    assert Tally.of({"history": EPOCHS, "best": None}).best is None  # whose file was damaged


def test_reading_omits_what_was_not_written_whole(file):
    lines = file.path.read_bytes()
    for cut in range(len(lines) + 1):
        file.path.write_bytes(lines[:cut])
        whole = lines[:cut].count(b"}")  # a newline alone may be missing
        assert file.read() == EPOCHS[:whole]
    file.path.write_bytes(lines.replace(b"0.5", b"0.x"))
    with pytest.raises(ValueError):  # noqa: PT011
        file.read()


@pytest.mark.parametrize("epochs", [0, 1, 3, 4])
def test_it_ends_where_a_checkpoint_stands(file, epochs):
    assert file.restore(tally_of(epochs)) == (tally_of(epochs), "")
    assert file.path.exists() == file.copy.exists() == bool(epochs)
    if epochs:
        assert file.read() == EPOCHS[:epochs]
        assert file.path.read_bytes() == file.copy.read_bytes()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return filled(tmp_path_factory.mktemp("filled")).path.parent


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from([FILE, COPY]),
    junk=st.one_of(st.none(), st.binary(max_size=40)),
    at=st.integers(0, 600),
    epochs=st.integers(1, 4),
)
def test_either_mends_the_other(folder, tmp_path_factory, name, junk, at, epochs):
    here = tmp_path_factory.mktemp("here")
    for path in folder.iterdir():
        shutil.copy(path, here)
    damaged, file = here / name, MetricsFile(here)
    if junk is None:
        damaged.unlink()
    else:
        whole = damaged.read_bytes()
        damaged.write_bytes(whole[:at] + junk)
    tally, fault = file.restore(tally_of(epochs))
    assert tally == tally_of(epochs)
    assert fault in ("", "was damaged: mended")
    assert file.read() == EPOCHS[:epochs]
    assert file.path.read_bytes() == file.copy.read_bytes()


@pytest.mark.parametrize("left", [0, 1, 2])
def test_with_both_damaged_what_is_left_is_kept(file, left):
    lines = file.path.read_bytes().splitlines(keepends=True)
    file.path.write_bytes(b"".join(lines[:left]) + b"?\n" + lines[3])
    file.copy.unlink()
    tally, fault = file.restore(tally_of(3))
    assert f"the numbers of {left} of 3 epochs are left" in fault
    assert (tally.epochs, tally.last, tally.best) == (3, EPOCHS[2], EPOCHS[1])
    file.add_to_copy(EPOCHS[3])
    file.add(EPOCHS[3])
    assert file.read() == [*EPOCHS[:left], EPOCHS[3]]
    assert file.restore(tally.after(EPOCHS[3]))[1] == ""


def test_pandas_reads_the_file_of_a_run(tmp_path):
    pandas = pytest.importorskip("pandas", reason="reads the file as its users do")
    options = ["--epochs", "3", "--limit", "100", "--hidden", "4", "--device", "cpu", "--quiet"]
    assert main(["--data", "digits", *options, "--out", str(tmp_path / "r")]) == 0
    frame = pandas.read_json(tmp_path / "r" / FILE, lines=True)
    lines = [json.loads(line) for line in (tmp_path / "r" / FILE).read_text().splitlines()]
    assert frame["epoch"].tolist() == [1, 2, 3]
    for name, value in lines[-1].items():
        if value is None:
            assert frame[name].isna().all()
        else:
            assert frame[name].iloc[-1] == pytest.approx(value)

"""Folders of shards: what is read of them, what is refused, and how they are written."""

from __future__ import annotations

import json
import struct

import numpy as np
import polars as pl
import pytest

from backends.sharded import ShardedRows
from trainer.augmentation import Deformation, DeformedCopies
from trainer.cli import main
from trainer.data import DataError, hold_out, limited, load, load_labelled
from trainer.data.shards import FACTS

RNG = np.random.default_rng(0)
X = RNG.integers(0, 256, (60, 4, 3), np.uint8)
Y = RNG.integers(0, 3, 60) + 4
PARTS = (("train-00000", 0, 20), ("train-00001", 20, 45), ("test-00000", 45, 60))


def write_npy(folder, x=X, y=Y):
    folder.mkdir(exist_ok=True)
    for stem, first, stop in PARTS:
        np.save(folder / f"{stem}.x.npy", x[first:stop])
        np.save(folder / f"{stem}.y.npy", y[first:stop])
    return folder


def write_idx(folder):
    folder.mkdir()
    for stem, first, stop in PARTS:
        n = stop - first
        images = struct.pack(">4I", 0x803, n, 4, 3) + X[first:stop].tobytes()
        (folder / f"{stem}-images-idx3-ubyte").write_bytes(images)
        labels = struct.pack(">2I", 0x801, n) + Y[first:stop].astype(np.uint8).tobytes()
        (folder / f"{stem}-labels-idx1-ubyte").write_bytes(labels)
    return folder


def write_parquet(folder):
    folder.mkdir()
    flat = X.reshape(60, -1)
    for stem, first, stop in PARTS:
        columns = {"label": Y[first:stop]} | {f"p{j}": flat[first:stop, j] for j in range(12)}
        pl.DataFrame(columns).write_parquet(folder / f"{stem}.parquet")
    return folder


@pytest.mark.parametrize("write", [write_npy, write_idx, write_parquet])
def test_are_the_samples_that_were_written(tmp_path, write):
    data, flat = load(write(tmp_path / "s")), X.reshape(60, -1)
    assert isinstance(data.train_x, ShardedRows)
    assert (data.kind, data.classes, data.value_range) == ("shards", (4, 5, 6), (0, 255))
    assert data.image_shape == (None if write is write_parquet else (4, 3))
    assert np.array_equal(data.train_x, flat[:45])
    assert np.array_equal(data.test_x, flat[45:])
    assert np.array_equal(np.add(data.train_y, 4), Y[:45])
    assert np.array_equal(data.test_y + 4, Y[45:])
    assert data.train_y.dtype == np.uint8
    assert np.array_equal(data.train_x.take(np.array([44, 0, 21])), flat[[44, 0, 21]])
    assert load(tmp_path / "s").fingerprint() == data.fingerprint()


@pytest.mark.parametrize("dtype", [">i4", np.float32, np.float64, bool])
def test_may_be_of_any_dtype(tmp_path, dtype):
    x = (X > 99) if dtype is bool else X.astype(dtype) / (255 if np.dtype(dtype).kind == "f" else 1)
    x = x.astype(dtype)
    data = load(write_npy(tmp_path / "s", x))
    whole = np.dtype(dtype).kind != "f"
    assert data.train_x.dtype == (np.uint8 if whole else np.float32)
    assert np.array_equal(data.train_x, x[:45].reshape(45, -1).astype(data.train_x.dtype))
    low, high = x[:45].min(), x[:45].max()
    assert data.value_range == ((0, 255) if whole else pytest.approx((low, high)))


def test_words_are_labels(tmp_path):
    words = np.array(["", "", "", "", "cat", "dog", "eel"])[Y]
    data = load(write_npy(tmp_path / "s", y=words))
    assert data.classes == ("cat", "dog", "eel")
    assert np.array_equal(np.array(data.classes)[data.train_y], words[:45])


def test_parts_of_them_stay_on_the_disk_and_held_out_ones_do_not(tmp_path):
    data, flat = load(write_npy(tmp_path / "s")), X.reshape(60, -1)
    rest, held_out = hold_out(limited(data, 40), 9)
    assert isinstance(rest.train_x, ShardedRows)
    assert isinstance(held_out[0], np.ndarray)
    assert (len(rest.train_x), len(rest.train_y), len(held_out[1])) == (31, 31, 9)
    found = np.concatenate([np.asarray(rest.train_x), held_out[0]])
    assert sorted(map(bytes, found)) == sorted(map(bytes, flat[:40]))
    places = [np.flatnonzero((flat == row).all(axis=1))[0] for row in np.asarray(rest.train_x)]
    assert np.array_equal(np.sort(places), places)
    assert np.array_equal(Y[places], rest.train_y + 4)


def test_another_source_tests_them(tmp_path):
    folder = write_npy(tmp_path / "s")
    np.savez(tmp_path / "t.npz", x_train=X[:3], y_train=Y[:3], x_test=X[5:9], y_test=Y[5:9])
    for file in folder.glob("test-*"):
        file.unlink()
    with pytest.raises(DataError, match=r"no test shards; .*--test-data PATH"):
        load(folder)
    data = load(folder, tmp_path / "t.npz")
    assert np.array_equal(data.test_x, X[5:9].reshape(4, -1))
    assert np.array_equal(data.test_y + 4, Y[5:9])


def test_their_test_part_is_evaluated(tmp_path):
    x, y = load_labelled(write_npy(tmp_path / "s"), (4, 5, 6), 12)
    assert np.array_equal(x, X[45:].reshape(15, -1))
    assert np.array_equal(y + 4, Y[45:])


def test_one_table_of_each_part_is_no_shard(tmp_path):
    folder = write_parquet(tmp_path / "s")
    (folder / "train-00001.parquet").unlink()
    assert load(folder).kind == "csv"


def test_by_class_is_said(tmp_path):
    order = np.argsort(Y[:45], kind="stable")
    x, y = X.copy(), Y.copy()
    x[:45], y[:45] = X[:45][order], Y[:45][order]
    assert "stand by class" in load(write_npy(tmp_path / "s", x, y)).note
    assert load(write_npy(tmp_path / "s")).note == ""


def shorten(file, to):
    file.write_bytes(file.read_bytes()[:to])


DAMAGE = {
    "truncated": (lambda f: shorten(f / "train-00001.x.npy", 200), "promises 300 bytes"),
    "no labels": (lambda f: (f / "train-00001.y.npy").unlink(), r"train-00001.y.npy is not in"),
    "no values": (lambda f: (f / "train-00001.x.npy").unlink(), r"train-00001.x.npy is not in"),
    "few labels": (lambda f: np.save(f / "train-00001.y.npy", Y[:24]), "24 labels for 25 samples"),
    "width": (lambda f: np.save(f / "train-00001.x.npy", X[:25, :, :2]), "4×2 pixels, .* 4×3"),
    "dtype": (lambda f: np.save(f / "train-00001.x.npy", X[:25] / 2), "integers in one, floats"),
    "range": (lambda f: np.save(f / "train-00001.x.npy", X[:25] * 2.0), "integers in one"),
    "objects": (
        lambda f: np.save(f / "train-00001.x.npy", X[:25].astype(object), allow_pickle=True),
        "never unpickled",
    ),
    "words": (lambda f: np.save(f / "train-00001.y.npy", np.array(["a"] * 25)), "names in others"),
    "columns": (
        lambda f: np.save(f / "train-00001.x.npy", np.asfortranarray(X[20:45])),
        "by columns; .*ascontiguousarray",
    ),
    "zipped": (lambda f: (f / "train-00002-images-idx3-ubyte.gz").touch(), "unpack it: gunzip"),
    "kinds": (lambda f: (f / "train-00002.parquet").touch(), "shards of one kind"),
    "facts": (lambda f: (f / FACTS).write_text("[]"), "shards.json: not readable"),
    "twice": (
        lambda f: np.save(f / "train-1.x.npy", X[:2]),
        "the same number as train-00001.x.npy",
    ),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_damaged_ones_are_one_line(tmp_path, what):
    folder = write_npy(tmp_path / "s")
    damage, words = DAMAGE[what]
    damage(folder)
    with pytest.raises(DataError, match=words) as caught:
        load(folder)
    assert "\n" not in str(caught.value)


def test_infinite_and_large_values_are_found(tmp_path):
    x = X.astype(np.float32)
    x[30, 1, 1] = np.nan
    with pytest.raises(DataError, match=r"train-00001.*sample 10, feature 4 .* is nan"):
        load(write_npy(tmp_path / "s", x))
    with pytest.raises(DataError, match="out of range"):
        load(write_npy(tmp_path / "s", X.astype(np.int32) * 2))


# --- written ----------------------------------------------------------------------------------


def augment(*words):
    return main(["augment", "--data", "digits", "--device", "cpu", "--quiet", *words])


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("w") / "big"
    assert augment("--write", "4000", "--shard-samples", "1500", "--out", str(folder)) == 0
    return folder


def contents(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_copies_are_the_images_in_turn_deformed_anew(written):
    data, digits = load(written), load("digits")
    n = len(digits.train_y)
    assert (len(data.train_x), data.value_range, data.name) == (4000, (0, 16), "digits")
    assert np.array_equal(data.train_y, np.resize(digits.train_y, 4000))
    assert np.array_equal(data.test_x, digits.test_x)
    assert np.array_equal(data.test_y, digits.test_y)
    x = np.asarray(data.train_x)
    assert not np.array_equal(x[:n], x[n : 2 * n])
    assert np.corrcoef(x[:n].ravel(), digits.train_x.ravel())[0, 1] > 0.4
    deformation = Deformation((8, 8), 0.0, alpha=34, sigma=4, rotate=12, scale=12)
    copies = DeformedCopies("cpu", deformation, digits.train_x, 0)
    assert np.array_equal(copies(1999, 3003), x[1999:3003])


def test_copies_do_not_depend_on_how_many_and_in_which_shards(written, tmp_path):
    out = tmp_path / "other"
    assert augment("--write", "700", "--out", str(out)) == 0
    assert np.array_equal(load(out).train_x, load(written).train_x[:700])
    assert augment("--write", "700", "--seed", "1", "--out", str(tmp_path / "third")) == 0
    assert not np.array_equal(load(tmp_path / "third").train_x, load(out).train_x)


def test_what_is_there_is_kept_and_what_is_damaged_written_again(written, capsys):
    before = contents(written)
    kept = (written / "train-00000.x.npy").stat().st_mtime_ns
    (written / "train-00001.y.npy").unlink()
    broken = bytearray(before["train-00002.x.npy"])
    broken[-1] ^= 255
    (written / "train-00002.x.npy").write_bytes(broken)
    with pytest.raises(DataError, match=r"train-00001.y.npy is not in the same folder"):
        load(written)
    assert augment("--write", "4000", "--shard-samples", "1500", "--out", str(written)) == 0
    assert contents(written) == before
    assert (written / "train-00000.x.npy").stat().st_mtime_ns == kept


def test_a_missing_shard_is_told_by_the_facts(written, tmp_path):
    copy = tmp_path / "copy"
    copy.mkdir()
    for name, content in contents(written).items():
        if not name.startswith("train-00002"):
            (copy / name).write_bytes(content)
    with pytest.raises(DataError, match=r"train-00002 is missing, which shards\.json speaks of"):
        load(copy)
    facts = json.loads((copy / FACTS).read_text())
    del facts["files"]["train-00002"]
    (copy / FACTS).write_text(json.dumps(facts))
    assert len(load(copy).train_x) == 3000


def test_other_folders_and_disks_that_are_full_are_refused(written, tmp_path, capsys, monkeypatch):
    assert augment("--write", "4001", "--shard-samples", "1500", "--out", str(written)) == 2
    assert "samples was 4000 and is 4001" in capsys.readouterr().err
    (tmp_path / "notes.txt").touch()
    assert augment("--write", "9", "--out", str(tmp_path)) == 2
    assert "not empty" in capsys.readouterr().err
    monkeypatch.setattr("trainer.commands.augment._free", lambda folder: 2**26 + 1000)
    assert augment("--write", "9", "--out", str(tmp_path / "new")) == 2
    assert "expected room for all" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("way", ["copies:10", "none", "elastic:0,1"])
def test_ways_that_deform_nothing_are_refused(tmp_path, capsys, way):
    assert augment("--write", "9", "--augment", way, "--out", str(tmp_path / "new")) == 2
    assert "expected" in capsys.readouterr().err


def test_a_run_on_them_is_resumed_and_refused_when_they_changed(written, tmp_path, capsys):
    run, how = tmp_path / "r", ["--recipe", "fast", "--augment", "none", "--hidden", "5"]
    words = ["train", "--data", str(written), *how, "--epochs", "2", "--device", "cpu", "--quiet"]
    assert main([*words, "--shuffle-window", "500", "--out", str(run)]) == 0
    assert json.loads((run / "config.json").read_text())["settings"]["shuffle_window"] == 500
    assert main(["evaluate", str(run), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["samples"] == 360
    before = contents(written)["train-00000.y.npy"]
    np.save(written / "train-00000.y.npy", np.zeros(1500, np.uint8))
    try:
        assert main(["evaluate", str(run)]) == 2
    finally:
        (written / "train-00000.y.npy").write_bytes(before)
    assert "has changed since the training" in capsys.readouterr().err

"""Images that are stored by columns, and the option that takes them the other way round."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.io import savemat

from trainer.data import Columns, DataError, load, load_labelled, load_unlabelled
from trainer.running.usage import load_recorded

SIDE = 8
PICTURES = np.random.default_rng(0).integers(0, 256, (30, SIDE, SIDE), dtype=np.uint8)
PICTURES[0, 0, :2] = 0, 255
ROWS = PICTURES.reshape(30, -1)
COLUMNS = PICTURES.transpose(0, 2, 1).reshape(30, -1)
Y = np.arange(30) % 3


def write_table(path, x):
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(",".join(map(str, row)) + "\n" for row in np.c_[Y, x].tolist()))
    return path


@pytest.fixture(params=["mat", "csv", "csv-folder"])
def by_columns(request, tmp_path):
    """Write a source that is known to store its images by columns."""
    if request.param == "mat":
        savemat(tmp_path / "a.mat", {"X": COLUMNS, "y": Y})
        return tmp_path / "a.mat"
    path = write_table(tmp_path / "f" / "emnist-letters-train.csv", COLUMNS)
    if request.param == "csv":
        return path
    write_table(tmp_path / "f" / "emnist-letters-test.csv", COLUMNS)
    return path.parent


@pytest.fixture(params=["npz", "mat", "csv"])
def by_rows(request, tmp_path):
    """Write a source that is taken by rows."""
    if request.param == "npz":
        np.savez(tmp_path / "b.npz", x=PICTURES, y=Y)
    elif request.param == "mat":
        savemat(tmp_path / "b.mat", {"x": ROWS, "y": Y})
    else:
        write_table(tmp_path / "b.csv", ROWS)
    return tmp_path / f"b.{request.param}"


def test_what_is_stored_by_columns_is_turned(by_columns):
    data = load(by_columns, test_data=by_columns)
    np.testing.assert_array_equal(data.train_x, ROWS)
    np.testing.assert_array_equal(data.test_x, ROWS)
    assert data.image_shape == (SIDE, SIDE)
    assert data.note.count("stored by columns") == 1
    assert "turned; --transpose takes them as they stand" in data.note
    data = load(by_columns, test_data=by_columns, transpose=True)
    np.testing.assert_array_equal(data.train_x, COLUMNS)
    np.testing.assert_array_equal(data.test_x, COLUMNS)
    assert "taken as they stand (--transpose)" in data.note
    assert data.transpose


def test_other_images_are_turned_if_that_is_asked_for(by_rows):
    data = load(by_rows, test_data=by_rows)
    np.testing.assert_array_equal(data.train_x, ROWS)
    assert ("taken by rows; --transpose turns them" in data.note) == (by_rows.suffix == ".mat")
    data = load(by_rows, test_data=by_rows, transpose=True)
    np.testing.assert_array_equal(data.train_x, COLUMNS)
    np.testing.assert_array_equal(data.test_x, COLUMNS)
    assert "turned, rows for columns (--transpose)" in data.note


def test_each_source_is_turned_as_it_is_stored(by_columns, by_rows):
    data = load(by_rows, test_data=by_columns)
    np.testing.assert_array_equal(data.train_x, ROWS)
    np.testing.assert_array_equal(data.test_x, ROWS)
    part = load(by_columns)  # of which a fifth tests, if it has no test part
    rows = {row.tobytes() for row in np.concatenate([part.train_x, part.test_x])}
    assert rows == {row.tobytes() for row in ROWS}


@pytest.mark.parametrize("read", [load_labelled, load_unlabelled])
def test_evaluation_data_are_turned_as_they_are_stored(by_columns, by_rows, read):
    for path in (by_columns, by_rows):
        columns = load(path).columns  # of a table
        for transpose in (False, True):
            lines = []
            options = {"columns": columns, "on_note": lines.append, "transpose": transpose}
            if read is load_labelled:
                x, y = load_labelled(path, (0, 1, 2), SIDE**2, **options)
                assert y.tolist() == Y.tolist()
            else:
                x = load_unlabelled(path, SIDE**2, classes=(0, 1, 2), **options)
            np.testing.assert_array_equal(x, COLUMNS if transpose else ROWS)
            said = [line for line in lines if "transpose" in line]
            assert len(said) == (path == by_columns or transpose or path.suffix == ".mat")


def test_an_array_alone_is_turned_for_a_prediction(tmp_path):
    np.save(tmp_path / "a.npy", PICTURES)
    path = tmp_path / "a.npy"
    np.testing.assert_array_equal(load_unlabelled(path, SIDE**2), ROWS)
    np.testing.assert_array_equal(load_unlabelled(path, SIDE**2, transpose=True), COLUMNS)
    np.save(path, np.stack([PICTURES] * 3, -1))
    np.testing.assert_array_equal(load_unlabelled(path, SIDE**2), ROWS)


def test_images_that_are_not_square_change_their_shape(tmp_path):
    x = np.arange(30 * 6, dtype=np.uint8).reshape(30, 2, 3)
    np.savez(tmp_path / "a.npz", x=x, y=Y)
    data = load(tmp_path / "a.npz", test_data=tmp_path / "a.npz", transpose=True)
    assert data.image_shape == (3, 2)
    np.testing.assert_array_equal(data.train_x, x.transpose(0, 2, 1).reshape(30, 6))


def test_what_is_no_image_cannot_be_turned(tmp_path):
    np.savez(tmp_path / "a.npz", x=ROWS[:, :10], y=Y)
    write_table(tmp_path / "emnist-numbers.csv", ROWS[:, :10])
    for name in ("a.npz", "emnist-numbers.csv"):
        path = tmp_path / name
        data = load(path)
        assert "columns, as Ng's" not in data.note
        for read in (
            lambda path=path: load(path, transpose=True),
            lambda path=path, columns=data.columns: load_unlabelled(
                path, 10, columns=columns, transpose=True
            ),
        ):
            with pytest.raises(DataError, match=r"10 features.*no image.*omit --transpose"):
                read()


def test_the_exercise_cuts_before_it_turns(tmp_path):
    x = np.arange(2 * 784).reshape(2, 28, 28).astype(np.float32)
    savemat(tmp_path / "a.mat", {"X": x.reshape(2, 784), "y": [0, 1]})
    data = load(f"ex4:{tmp_path / 'a.mat'}")
    wanted = x.transpose(0, 2, 1)[:, 4:24, 4:24].reshape(2, 400)
    np.testing.assert_array_equal(data.train_x, wanted)


def test_runs_of_older_versions_turned_no_table(tmp_path):
    path = write_table(tmp_path / "emnist-a.csv", COLUMNS)
    recorded = {"source": str(path), "test_source": None, "label": "1", "shuffled": False}
    x = np.concatenate([load_recorded(recorded).train_x, load_recorded(recorded).test_x])
    assert {row.tobytes() for row in x} == {row.tobytes() for row in COLUMNS}
    now = load_recorded(recorded | {"transpose": False})
    assert now.train_x[0].tobytes() in {row.tobytes() for row in ROWS}
    assert isinstance(now.columns, Columns)

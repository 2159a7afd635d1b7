import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.io import savemat
from scipy.sparse import csc_matrix

from trainer.data import DataError, load, load_labelled

X = np.arange(24.0).reshape(6, 4) / 24
Y = np.array([[1], [2], [10], [1], [2], [10]])


@settings(deadline=None, max_examples=40)
@given(
    pictures=hnp.arrays(
        st.sampled_from([np.uint8, np.float64]), (5, 3, 3), elements=st.integers(0, 255)
    ),
    y=hnp.arrays(st.sampled_from([np.uint8, np.float64]), 5, elements=st.integers(0, 9)),
    compressed=st.booleans(),
)
def test_round_trip(tmp_path_factory, pictures, y, compressed):
    path = tmp_path_factory.mktemp("mat") / "ng.mat"
    columns_first = pictures.transpose(0, 2, 1).reshape(5, 9)
    # As in the course: 10 stands for 0, and only then is anything replaced.
    y[0] = 0
    labels = np.where(y == 0, 10, y)[:, np.newaxis]
    savemat(path, {"X": columns_first, "y": labels}, do_compression=compressed)
    x, codes = load_labelled(path, tuple(range(10)), 9)
    np.testing.assert_array_equal(x, pictures.reshape(5, 9))
    np.testing.assert_array_equal(codes, y)
    data = load(path, test_data=path)
    assert data.train_x.dtype == (np.uint8 if pictures.dtype == np.uint8 else np.float32)
    assert (data.kind, data.image_shape) == ("mat", (3, 3))


def test_features_that_are_no_square_stay_in_place(tmp_path):
    savemat(tmp_path / "a.mat", {"X": X[:, :3], "y": [1, 2, 3, 1, 2, 3]})
    data = load(tmp_path / "a.mat", test_data=tmp_path / "a.mat")
    np.testing.assert_array_equal(data.train_x, X[:, :3].astype(np.float32))
    assert data.image_shape is None
    assert data.classes == (1, 2, 3)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"Theta1": X, "y": Y}, ["no array X", "Theta1, y found"]),
        ({"X": X}, ["no array y", "X found"]),
        ({"X": X, "y": Y[:4]}, ["4 labels for 6 samples"]),
        ({"X": X, "y": np.eye(6)}, ["y has shape (6, 6)"]),
        ({"X": X, "y": Y + 0.25}, ["label 1.25"]),
        ({"X": X + np.inf, "y": Y}, ["X: sample 0"]),
        ({"X": np.zeros((0, 4)), "y": Y}, ["X is empty"]),
        ({"X": X.reshape(6, 2, 2), "y": Y}, ["X is no plain matrix"]),
        ({"X": csc_matrix(X), "y": Y}, ["X is no plain matrix"]),
        ({"X": np.array([[1, "a"]], dtype=object), "y": Y}, ["X is no plain matrix"]),
        ({"X": (X * 1000).astype(int), "y": Y}, ["X: integer pixels out of range"]),
    ],
)
def test_bad_arrays(tmp_path, arrays, words):
    path = tmp_path / "a.mat"
    savemat(path, arrays)
    with pytest.raises(DataError) as caught:
        load(path)
    for word in [str(path), *words]:
        assert word in str(caught.value)


def test_other_versions(tmp_path):
    path = tmp_path / "a.mat"
    savemat(path, {"X": X, "y": Y}, format="4")
    with pytest.raises(DataError, match="MATLAB 4 file; version 5 is wanted"):
        load(path)
    path.write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")
    with pytest.raises(DataError, match=r"MATLAB 7.3 \(HDF5\) file"):
        load(path)
    path.write_bytes(b"nothing of the kind" * 9)
    with pytest.raises(DataError, match=r"a\.mat: byte 126: "):
        load(path)


@settings(deadline=None, max_examples=150)
@given(compressed=st.booleans(), cut=st.booleans(), data=st.data())
def test_damage_gives_nothing_but_data_errors(complaint, tmp_path_factory, compressed, cut, data):
    path = tmp_path_factory.mktemp("mat") / "a.mat"
    savemat(path, {"X": X, "y": Y}, do_compression=compressed)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(116, len(content) - 1))] = data.draw(st.integers(0, 255))
    if cut:
        del content[data.draw(st.integers(0, len(content))) :]
    path.write_bytes(content)
    complaint(lambda: load(path), path)


def test_the_courses_weights_are_no_data(real_data):
    with pytest.raises(DataError, match="no array X; Theta1, Theta2 found"):
        load(real_data / "ex4" / "ex4weights.mat")

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.io import savemat
from scipy.sparse import csc_matrix

from trainer.array_files import read_mat
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
        ({"X": X}, ["no labels: X found", "X and y wanted"]),
        ({"X": X, "y": Y[:4]}, ["4 labels for 6 samples"]),
        ({"X": X, "y": np.eye(6)}, ["y has shape (6, 6)"]),
        ({"X": X, "y": Y + 0.25}, ["label 1.25"]),
        ({"X": X + np.inf, "y": Y}, ["X: sample 0"]),
        ({"X": np.zeros((0, 4)), "y": Y}, ["X is empty"]),
        ({"X": X.reshape(3, 1, 2, 2, 2), "y": Y}, ["X is no plain matrix"]),
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
    with pytest.raises(DataError, match=r"MATLAB 7.3 file, which is HDF5.*'-v7'.*h5py"):
        load(path)
    path.write_bytes(b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x02IM")
    with pytest.raises(DataError, match=r"MATLAB 7.3 \(HDF5\) file"):
        load(path)
    path.write_bytes(b"nothing of the kind" * 9)
    with pytest.raises(DataError, match=r"a\.mat: byte 126: "):
        load(path)


PICTURES = np.random.default_rng(0).integers(0, 256, (5, 4, 4), dtype=np.uint8)
ROWS, LABELS = PICTURES.reshape(5, 16), np.array([3, 1, 2, 1, 10])
BY_COLUMNS = PICTURES.transpose(0, 2, 1).reshape(5, 16)


@pytest.mark.parametrize(
    "arrays",
    [
        {"x": ROWS, "y": LABELS},
        {"x": ROWS.T, "y": LABELS},
        {"images": ROWS, "labels": LABELS[:, None]},
        {"images": PICTURES, "labels": LABELS},
        {"images": PICTURES.transpose(1, 2, 0), "labels": LABELS},  # as MATLAB has them
        {"data": ROWS.T, "label": LABELS},
        {"data": ROWS.T, "labels": LABELS},
        {"x_train": ROWS, "y_train": LABELS},
        {"X": PICTURES.transpose(1, 2, 0), "y": LABELS},
        {"X": np.stack([PICTURES] * 3, -1).transpose(1, 2, 3, 0), "y": LABELS},  # as SVHN is
    ],
)
def test_other_names_and_samples_as_columns(tmp_path, arrays):
    path = tmp_path / "a.mat"
    savemat(path, arrays)
    data = load(path, test_data=path)
    np.testing.assert_array_equal(data.train_x, ROWS)
    classes = (0, 1, 2, 3) if "X" in arrays else (1, 2, 3, 10)
    assert [data.classes[code] for code in data.train_y] == [
        i % (10 + (classes[0] > 0)) for i in LABELS
    ]
    assert data.classes == classes
    assert data.image_shape == (4, 4)
    assert f"{path}: its images are taken by rows; --transpose turns them" in data.note


def emnist(mapping=((1, 65, 97), (2, 66, 98), (3, 67, 99))):
    part = {"images": BY_COLUMNS, "labels": [[1], [2], [3], [1], [2]], "writers": np.arange(5)}
    return {"dataset": {"train": part, "test": part, "mapping": np.array(mapping)}}


@pytest.mark.parametrize("compressed", [False, True])
def test_emnists_struct(tmp_path, compressed):
    path = tmp_path / "emnist-letters.mat"
    savemat(path, emnist(), do_compression=compressed)
    data = load(path)
    np.testing.assert_array_equal(data.train_x, ROWS)
    np.testing.assert_array_equal(data.test_x, ROWS)
    assert (data.classes, data.image_shape) == (("A", "B", "C"), (4, 4))
    assert data.test_y.tolist() == [0, 1, 2, 0, 1]
    assert "stored by columns" in data.note


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d["train"].pop("labels"), "dataset.train.labels is no plain matrix"),
        (lambda d: d.update(test=3.0), "dataset.test.images is no plain matrix"),
        (lambda d: d.pop("train"), "no labels: dataset found"),
        (lambda d: d.update(mapping=[[1, 65], [2, 66]]), "no letter for the label 3"),
        (lambda d: d.update(mapping=[[1, np.nan]]), "rows of a code and a letter's number"),
        (lambda d: d.update(mapping="abc"), "mapping is no plain matrix"),
    ],
)
def test_a_struct_that_is_not_emnists(tmp_path, change, words):
    content = emnist()
    content["dataset"]["train"] = dict(content["dataset"]["train"])
    change(content["dataset"])
    savemat(tmp_path / "a.mat", content)
    with pytest.raises(DataError, match=words.replace(".", r"\.")):
        load(tmp_path / "a.mat")


NUMBERS = hnp.arrays(
    st.sampled_from([np.uint8, np.int16, np.float64]),
    hnp.array_shapes(min_dims=2, max_dims=3, max_side=3),
    elements=st.integers(0, 100),
)
FIELDS = st.sampled_from(["a", "train", "images_of_a_name_that_is_long"])
STRUCTS = st.dictionaries(
    FIELDS, NUMBERS | st.dictionaries(FIELDS, NUMBERS, min_size=1, max_size=2), min_size=1
)


@settings(max_examples=25)
@given(variables=STRUCTS, compressed=st.booleans())
def test_structs_are_read_as_scipy_wrote_them(tmp_path_factory, variables, compressed):
    path = tmp_path_factory.getbasetemp() / "structs.mat"
    savemat(path, variables, do_compression=compressed)

    def check(found, wanted):
        if isinstance(wanted, dict):
            assert found.keys() == wanted.keys()
            for name in wanted:
                check(found[name], wanted[name])
        else:
            np.testing.assert_array_equal(found, wanted)
            assert found.dtype == wanted.dtype

    check(read_mat(path), variables)


def test_several_structs_and_deep_ones_are_none(tmp_path):
    deep = {"a": 1.0}
    for _ in range(20):
        deep = {"a": deep}
    several = np.zeros((1, 2), dtype=[("a", object)])
    several["a"] = 1.0
    savemat(tmp_path / "a.mat", {"several": several, "deep": deep, "after": X})
    variables = read_mat(tmp_path / "a.mat")
    assert variables["several"] is None
    depth, inner = 0, variables["deep"]
    while isinstance(inner, dict):
        depth, inner = depth + 1, inner["a"]
    assert inner is None
    assert depth < 20
    np.testing.assert_array_equal(variables["after"], X)


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

import io
import pickle
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from trainer.data import DataError, load, load_unlabelled

X = np.arange(24, dtype=np.uint8).reshape(6, 2, 2)
Y = np.array([0, 1, 2, 0, 1, 2])


@settings(deadline=None, max_examples=40)
@given(
    x=hnp.arrays(
        st.sampled_from([np.uint8, np.int32, np.float32, ">f8"]),
        st.sampled_from([(4, 3, 2), (4, 3, 2, 1), (4, 6)]),
        elements=st.integers(0, 255),
    ),
    y=hnp.arrays(st.sampled_from([np.uint8, np.int64, np.float32]), 4, elements=st.integers(0, 9)),
    column=st.booleans(),
    fortran=st.booleans(),
    compressed=st.booleans(),
)
def test_round_trip(tmp_path_factory, x, y, column, fortran, compressed):
    path = tmp_path_factory.mktemp("npz") / "k.npz"
    save = np.savez_compressed if compressed else np.savez
    stored = np.asfortranarray(x) if fortran else x
    test_y = y[:1].reshape(1, 1) if column else y[:1]
    save(path, x_train=stored, y_train=y, x_test=x[:1], y_test=test_y)
    data = load(path)
    np.testing.assert_array_equal(data.train_x, x.reshape(4, 6))
    np.testing.assert_array_equal(data.test_x, x[:1].reshape(1, 6))
    assert [data.classes[code] for code in data.train_y] == y.tolist()
    assert data.train_x.flags.c_contiguous
    if x.dtype.kind == "f":
        assert data.train_x.dtype == np.float32
        assert data.value_range == (x.min(), x.max())
    else:
        assert data.train_x.dtype == np.uint8
        assert data.value_range == (0, 255)
    assert data.image_shape == (None if x.ndim == 2 else (3, 2))
    assert (data.kind, data.name) == ("npz", "k")


@pytest.mark.parametrize("order", "<>")
def test_words_are_labels(tmp_path, order):
    words = np.array(["cat", "dog ", "é", "cat", "7", "dog"]).astype(f"{order}U5")
    np.savez(tmp_path / "a.npz", x_train=X, y_train=words[:, None], x_test=X, y_test=words)
    data = load(tmp_path / "a.npz")
    assert data.classes == ("7", "cat", "dog", "é")
    assert data.train_y.tolist() == data.test_y.tolist() == [1, 2, 3, 1, 0, 2]


def test_without_a_test_part(tmp_path):
    np.savez(tmp_path / "a.npz", x_train=np.tile(X, (4, 1, 1)), y_train=np.tile(Y, 4))
    data = load(tmp_path / "a.npz")
    assert (len(data.train_x), len(data.test_x)) == (19, 5)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"images": X, "y_train": Y}, ["x_train", "images, y_train found"]),
        ({"x_train": X, "y_train": Y, "x_test": X}, ["no array y_test"]),
        ({"x_train": X, "y_train": Y[:5]}, ["y_train", "5 labels for 6 samples"]),
        ({"x_train": X, "y_train": np.eye(6)}, ["y_train", "(6, 6)"]),
        ({"x_train": X, "y_train": Y + 0.5}, ["y_train", "sample 0", "0.5"]),
        ({"x_train": X, "y_train": np.array([b"a"] * 6)}, ["y_train", "|S1"]),
        ({"x_train": X, "y_train": np.array([*"abcde", ""])}, ["y_train", "sample 5", "''"]),
        ({"x_train": X[:, 0, 0], "y_train": Y}, ["x_train", "(6,)"]),
        ({"x_train": np.stack([X] * 2, -1), "y_train": Y}, ["x_train", "(6, 2, 2, 2)"]),
        ({"x_train": X[:0], "y_train": Y[:0]}, ["x_train", "empty"]),
        ({"x_train": X.astype(int) * 100, "y_train": Y}, ["integer pixels out of range: 0…2300"]),
        ({"x_train": X.astype(int) - 1, "y_train": Y}, ["integer pixels out of range: -1…22"]),
        ({"x_train": X * np.float32(np.nan), "y_train": Y}, ["sample 0, feature 0", "nan"]),
        ({"x_train": np.full((6, 4), 1e300), "y_train": Y}, ["1e+300", "finite float32"]),
        ({"x_train": X * 1j, "y_train": Y}, ["complex128"]),
        ({"x_train": X, "y_train": Y, "x_test": X[:, :1], "y_test": Y}, ["(6, 2, 2)", "(6, 1, 2)"]),
    ],
)
def test_bad_arrays(tmp_path, arrays, words):
    path = tmp_path / "a.npz"
    np.savez(path, **arrays)
    with pytest.raises(DataError) as caught:
        load(path)
    for word in [str(path), *words]:
        assert word in str(caught.value)


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("it was unpickled",))


def archive(path, members, **options):
    with zipfile.ZipFile(path, "w", **options) as file:
        for name, content in members.items():
            file.writestr(f"{name}.npy", content)


def npy(array):
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def write_kuzushiji(folder, name="kmnist", parts=("train", "test")):
    folder.mkdir(exist_ok=True)
    for shift, part in enumerate(parts):
        np.savez_compressed(folder / f"{name}-{part}-imgs.npz", X + shift)
        np.savez_compressed(folder / f"{name}-{part}-labels.npz", Y)
    return folder


@pytest.mark.parametrize("name", ["kmnist", "k49"])
def test_kuzushiji_is_a_folder_of_four_files(tmp_path, name):
    data = load(write_kuzushiji(tmp_path / "k.1", name))
    np.testing.assert_array_equal(data.train_x, X.reshape(6, 4))
    np.testing.assert_array_equal(data.test_x, X.reshape(6, 4) + 1)
    assert (data.test_y.tolist(), data.image_shape) == (Y.tolist(), (2, 2))
    assert (data.name, data.kind, data.source) == ("k.1", "npz", str(tmp_path / "k.1"))
    images = tmp_path / "k.1" / f"{name}-test-imgs.npz"
    np.testing.assert_array_equal(load_unlabelled(images, 4), X.reshape(6, 4) + 1)


def test_what_of_kuzushiji_is_not_enough(tmp_path):
    folder = write_kuzushiji(tmp_path / "k", parts=("test",))
    assert len(load(folder).train_y) == 6  # one pair alone is all there is
    for name, lacks in (("kmnist-test-imgs.npz", "labels"), ("kmnist-test-labels.npz", "images")):
        with pytest.raises(DataError, match=rf"{name}: no {lacks}.*--data {folder}$"):
            load(folder / name)
    np.savez(folder / "kmnist-test-labels.npz", Y, Y)
    with pytest.raises(DataError, match=r"labels\.npz: more than one array found"):
        load(folder)
    (folder / "kmnist-test-labels.npz").unlink()
    with pytest.raises(DataError, match=r"imgs\.npz: kmnist-test-labels\.npz is not in the same"):
        load(folder)
    with pytest.raises(DataError, match="k49 and kmnist found; give each a folder of its own"):
        load(write_kuzushiji(folder, "k49"))


def test_objects_are_never_unpickled(tmp_path):
    path = tmp_path / "a.npz"
    header = npy(np.zeros(6)).replace(b"'<f8'", b"'|O' ")[:128]
    archive(path, {"x_train": header + pickle.dumps(Bomb()), "y_train": npy(Y)})
    with pytest.raises(DataError, match="x_train holds Python objects, which are never"):
        load(path)


def test_a_header_that_promises_too_much(tmp_path):
    path = tmp_path / "a.npz"
    content = npy(X).replace(b"(6, 2, 2)", b"(6000000000, 2, 2)")
    archive(path, {"x_train": content, "y_train": npy(Y)})
    with pytest.raises(DataError, match="x_train: its header promises 24000000000 bytes"):
        load(path)


def test_an_encrypted_member(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, x_train=X, y_train=Y)
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="x_train is encrypted"):
        load(path)


def test_no_archive(tmp_path):
    path = tmp_path / "a.npz"
    path.write_bytes(npy(X))
    with pytest.raises(DataError, match=r"a\.npz: an array alone, without labels"):
        load(path)
    path.write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"a\.npz: not a readable npz archive"):
        load(path)


@settings(deadline=None, max_examples=150)
@given(compressed=st.booleans(), cut=st.booleans(), data=st.data())
def test_damage_gives_nothing_but_data_errors(complaint, tmp_path_factory, compressed, cut, data):
    path = tmp_path_factory.mktemp("npz") / "a.npz"
    (np.savez_compressed if compressed else np.savez)(path, x_train=X, y_train=Y)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    if cut:
        del content[data.draw(st.integers(0, len(content))) :]
    path.write_bytes(content)
    complaint(lambda: load(path), path)


@settings(deadline=None, max_examples=60)
@given(
    header=st.text("{}()[]'\": ,descrfortran_ordhape0123456789<|ufO8TrueFalse\n\\-", max_size=80)
)
def test_any_npy_header(tmp_path_factory, header):
    path = tmp_path_factory.mktemp("npz") / "a.npz"
    raw = header.encode("latin1", "ignore")
    content = b"\x93NUMPY\x01\x00" + len(raw).to_bytes(2, "little") + raw
    archive(path, {"x_train": content, "y_train": npy(Y)})
    with pytest.raises(DataError):
        load(path)

import gzip
import resource
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from trainer.data import DataError, load, load_labelled, load_unlabelled

IMAGES = {part: f"{part}-images-idx3-ubyte" for part in ("train", "t10k")}
LABELS = {part: f"{part}-labels-idx1-ubyte" for part in ("train", "t10k")}


def images(x):
    return struct.pack(">4I", 0x803, *x.shape) + x.tobytes()


def labels(y):
    return struct.pack(">2I", 0x801, len(y)) + bytes(y)


def write_part(folder, part, x, y, zipped=False):
    folder.mkdir(exist_ok=True)
    for name, content in ((IMAGES[part], images(x)), (LABELS[part], labels(y))):
        if zipped:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / name).write_bytes(content)


@pytest.fixture
def folder(tmp_path):
    """Write ten images of 2×3 pixels, and their labels."""
    x = np.arange(60, dtype=np.uint8).reshape(10, 2, 3)
    write_part(tmp_path / "set", "train", x, [0, 1] * 5)
    return tmp_path / "set"


pictures = hnp.arrays(np.uint8, st.tuples(*[st.integers(1, 5)] * 3))


@settings(deadline=None, max_examples=40)
@given(train=pictures, test_count=st.integers(1, 4), zipped=st.booleans(), data=st.data())
def test_round_trip(tmp_path_factory, train, test_count, zipped, data):
    folder = tmp_path_factory.mktemp("idx")
    test = data.draw(hnp.arrays(np.uint8, (test_count, *train.shape[1:])))
    train_y = data.draw(st.lists(st.integers(0, 255), min_size=len(train), max_size=len(train)))
    write_part(folder, "train", train, train_y, zipped)
    write_part(folder, "t10k", test, [train_y[0]] * test_count, zipped)
    loaded = load(folder)
    np.testing.assert_array_equal(loaded.train_x, train.reshape(len(train), -1))
    np.testing.assert_array_equal(loaded.test_x, test.reshape(test_count, -1))
    assert [loaded.classes[code] for code in loaded.train_y] == train_y
    assert loaded.classes == tuple(sorted(set(train_y)))
    assert loaded.train_x.dtype == np.uint8
    assert loaded.train_y.dtype == np.int64
    assert loaded.image_shape == train.shape[1:]
    assert (loaded.kind, loaded.value_range) == ("idx", (0, 255))
    assert (loaded.name, loaded.source) == (folder.name, str(folder))
    name = IMAGES["t10k"] + (".gz" if zipped else "")
    np.testing.assert_array_equal(
        load_unlabelled(folder / name, train[0].size), test.reshape(test_count, -1)
    )


def test_names_with_dots_and_one_pair_alone(folder):
    for path in list(folder.iterdir()):
        path.rename(folder / path.name.replace("-idx", ".idx"))
    loaded = load(folder)
    assert (len(loaded.train_x), len(loaded.test_x)) == (10, 10)
    assert loaded.tests_on_training
    assert loaded.image_shape == (2, 3)


@settings(deadline=None, max_examples=80)
@given(zipped=st.booleans(), which=st.sampled_from([IMAGES, LABELS]), data=st.data())
def test_damage_gives_a_data_error(complaint, tmp_path_factory, zipped, which, data):
    folder = tmp_path_factory.mktemp("idx")
    write_part(folder, "train", np.full((5, 2, 2), 7, np.uint8), [1, 2, 3, 4, 5], zipped)
    path = next(folder.glob(which["train"] + "*"))
    content = bytearray(path.read_bytes())
    # Pixels and labels can be anything; but a byte of the header, or a cut, must show.
    place = data.draw(st.integers(0, len(content) - 1 if zipped else 7))
    if data.draw(st.booleans()):
        del content[place:]
    else:
        content[place] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    if complaint(lambda: load(folder), path) is None:
        # Some bits of gzip mean nothing (the time, the filling of the last byte).
        assert zipped
        loaded = load(folder)
        assert (loaded.train_x == 7).all()
        assert loaded.classes == (1, 2, 3, 4, 5)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda b: labels([1, 2]), ["byte 0", "0x00000801 (IDX labels) found", "0x00000803"]),
        (lambda b: b"PNG!" + b[4:], ["byte 0", "0x504e4721", "wanted"]),
        (lambda b: b"", ["an empty file"]),
        (lambda b: b"<!DOCTYPE html><title>403</title>", ["a web page"]),
        (lambda b: b[:9], ["byte 9", "header"]),
        (lambda b: b[:40], ["byte 40", "promises 76"]),
        (lambda b: b + b"x", ["byte 76", "beyond"]),
        (lambda b: struct.pack(">4I", 0x803, 0, 2, 3), ["byte 4", "[0, 2, 3]"]),
        (lambda b: images(np.zeros((9, 2, 3), np.uint8)), ["10 labels", "9 images"]),
        (lambda b: gzip.compress(b)[:-5], ["gzip"]),
        (lambda b: gzip.compress(b) + b"junk", ["gzip"]),
        (lambda b: gzip.compress(b + b"x"), ["byte 76", "beyond"]),
        (lambda b: gzip.compress(b[:40]), ["byte 40", "promises 76"]),
    ],
)
def test_bad_image_file(folder, change, words):
    path = folder / IMAGES["train"]
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(DataError) as caught:
        load(folder)
    for word in ["train-", str(folder), *words]:
        assert word in str(caught.value)


@pytest.mark.parametrize("zipped", [False, True])
def test_great_promises_allocate_nothing(folder, zipped):
    content = struct.pack(">4I", 0x803, 2**31, 28, 28) + bytes(1000)
    (folder / IMAGES["train"]).write_bytes(gzip.compress(content) if zipped else content)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DataError, match="promises 1683627180048 bytes"):
        load(folder)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000


def test_a_missing_half_is_named(folder):
    (folder / LABELS["train"]).unlink()
    with pytest.raises(DataError, match=r"train-labels-idx1-ubyte\[.gz\] is not"):
        load(folder)


def test_shapes_that_disagree(folder):
    write_part(folder, "t10k", np.zeros((1, 3, 2), np.uint8), [0])
    with pytest.raises(DataError, match=r"\(2, 3\), test images \(3, 2\)"):
        load(folder)


def write_set(folder, name, parts=("train", "test"), samples=6, mapping=None):
    """Write a set as EMNIST does: an image of one row has its pixels by columns."""
    folder.mkdir(exist_ok=True)
    for shift, part in enumerate(parts):
        x = np.arange(samples * 6, dtype=np.uint8).reshape(samples, 2, 3) + shift
        stored = x.transpose(0, 2, 1) if name.startswith("emnist") else x
        content = gzip.compress(images(stored))
        (folder / f"{name}-{part}-images-idx3-ubyte.gz").write_bytes(content)
        content = gzip.compress(labels([1 + i % 3 for i in range(samples)]))
        (folder / f"{name}-{part}-labels-idx1-ubyte.gz").write_bytes(content)
    if mapping is not None:
        (folder / f"{name}-mapping.txt").write_text(mapping)
    return np.arange(samples * 6, dtype=np.uint8).reshape(samples, 6)


LETTERS = "1 65 97\n2 66 98 \r\n3 67 99\n"


@pytest.mark.parametrize(
    ("mapping", "classes"),
    [(None, (1, 2, 3)), (LETTERS, ("A", "B", "C")), ("1 48\n2 49\n3 50", (0, 1, 2))],
)
def test_emnist_is_turned_and_its_classes_are_letters(tmp_path, mapping, classes):
    x = write_set(tmp_path / "e", "emnist-letters", mapping=mapping)
    data = load(tmp_path / "e")
    np.testing.assert_array_equal(data.train_x, x)
    np.testing.assert_array_equal(data.test_x, x + 1)
    assert (data.classes, data.image_shape, data.name) == (classes, (2, 3), "e")
    assert [data.classes[code] for code in data.train_y] == list(classes) * 2
    assert "stored by columns" in data.note


@pytest.mark.parametrize(
    ("mapping", "words"),
    [
        ("1 65\n2 66\n", "no letter for the label 3"),
        ("1 65\n2 65\n3 67\n", "code 2 stands for no letter, or for another's"),
        ("1 65\n1 66\n3 67\n", "code 1 stands"),
        ("1 65\n2\n3 67\n", "code 2 stands"),
        ("1 65\n2 9999999\n3 67\n", "code 2 stands"),
        ("1 65\n2 10\n3 67\n", "code 2 stands"),
        ("1 A\n", "line 1: numbers such as 1 65 97"),
        ("1 65\n" * 20_000, "over 65,536 bytes"),
    ],
)
def test_a_mapping_that_is_none_is_named(tmp_path, mapping, words):
    write_set(tmp_path / "e", "emnist-letters", mapping=mapping)
    with pytest.raises(DataError, match=rf"emnist-letters-mapping\.txt: .*{words}"):
        load(tmp_path / "e")


def test_of_several_sets_a_file_says_which(tmp_path):
    folder = tmp_path / "sets"
    write_set(folder, "emnist-digits", samples=4)
    write_set(folder, "emnist-letters")
    train, test = (folder / f"emnist-letters-{p}-images-idx3-ubyte.gz" for p in ("train", "test"))
    with pytest.raises(
        DataError, match=r"2 sets found, emnist-digits, emnist-letters.*--data"
    ) as e:
        load(folder)
    assert load(str(e.value).rpartition("--data ")[2]).name == "emnist-digits"
    for path in (train, test, str(train).replace("images-idx3", "labels-idx1")):
        data = load(path)  # and the set is read
        assert (len(data.train_x), len(data.test_x)) == (6, 6)
        assert (data.name, data.source) == ("emnist-letters", str(path))
    for path, shift in ((train, 0), (test, 1)):  # of which a trained network gets what is named
        x, y = load_labelled(path, (1, 2, 3), 6)
        np.testing.assert_array_equal(x[:, 0], 6 * np.arange(6) + shift)
        assert y.tolist() == [0, 1, 2] * 2
        np.testing.assert_array_equal(load_unlabelled(path, 6), x)
    data = load(test, test_data=train)
    assert data.test_x[0, 0] == 0
    write_part(folder, "train", np.zeros((5, 2, 3), np.uint8), [0] * 5)
    data = load(folder)  # MNIST's names go before others
    assert len(data.train_x) == 5
    assert "holds emnist-digits, emnist-letters too" in data.note


def test_qmnists_labels_are_rows_whose_first_number_is_the_class(tmp_path):
    x = np.arange(24, dtype=np.uint8).reshape(6, 2, 2)
    rows = (np.arange(48).reshape(6, 8) * 1000).astype(">i4")
    rows[:, 0] = [0, 1, 2, 0, 1, 2]
    for part in ("train", "test", "test10k"):
        (tmp_path / f"qmnist-{part}-images-idx3-ubyte").write_bytes(images(x))
        content = struct.pack(">3I", 0xC02, *rows.shape) + rows.tobytes()
        (tmp_path / f"qmnist-{part}-labels-idx2-int").write_bytes(content)
        x = x + 1
    data = load(tmp_path)
    assert [data.classes[code] for code in data.test_y] == [0, 1, 2] * 2
    assert (data.train_x[0, 0], data.test_x[0, 0]) == (0, 1)
    assert load(tmp_path / "qmnist-test10k-images-idx3-ubyte").test_x[0, 0] == 2
    assert "columns" not in data.note
    path = tmp_path / "qmnist-test-labels-idx2-int"
    path.write_bytes(content[:-1])
    with pytest.raises(DataError, match="ends at byte 203, its header promises 204 bytes"):
        load(tmp_path)


def test_images_of_another_name_have_no_labels(tmp_path):
    path = tmp_path / "digits.gz"
    path.write_bytes(gzip.compress(images(np.zeros((5, 2, 2), np.uint8))))
    with pytest.raises(DataError, match=r"digits\.gz: images without labels; name them as MNIST"):
        load(path)
    assert load_unlabelled(path, 4).shape == (5, 4)


def test_real_mnist(real_data):
    data = load(real_data / "mnist")
    assert data.train_x.shape == (60000, 784)
    assert data.test_x.shape == (10000, 784)
    assert data.classes == tuple(range(10))
    assert data.train_y[:3].tolist() == [5, 0, 4]
    assert data.image_shape == (28, 28)

import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from trainer.data import DataError, Scale, load, load_labelled, load_unlabelled
from trainer.data.building import arranged_as_before


def write_npz(path, x, y, **more):
    np.savez(path, x_train=np.asarray(x), y_train=np.asarray(y), **more)
    return path


def test_the_digits():
    data = load("digits")
    assert (data.train_x.shape, data.test_x.shape) == ((1437, 64), (360, 64))
    assert data.train_x.dtype == data.test_x.dtype == np.uint8
    assert (data.value_range, data.image_shape) == ((0, 16), (8, 8))
    assert (data.name, data.kind, data.source, data.note) == ("digits", "digits", "digits", "")
    assert data.classes == tuple(range(10))
    assert all(type(label) is int for label in data.classes)
    assert np.bincount(data.test_y).min() >= 34
    np.testing.assert_array_equal(data.train_x, load("digits").train_x)
    x, y = load_labelled("digits", data.classes, 64)
    np.testing.assert_array_equal(x, data.test_x)
    np.testing.assert_array_equal(y, data.test_y)
    np.testing.assert_array_equal(load_unlabelled("digits", 64), data.test_x)


def test_two_sources(tmp_path):
    one = tmp_path / "one.csv"
    one.write_text("label,a,b\n" + "".join(f"{i % 5},{i},{i}\n" for i in range(10)))
    two = write_npz(
        tmp_path / "two.npz",
        np.full((3, 2), 7, np.uint8),
        [1, 2, 9],
        x_test=np.full((1, 2), 8, np.uint8),
        y_test=[20],
    )
    data = load(one, test_data=two)
    assert (len(data.train_x), data.test_x.tolist()) == (10, [[8, 8]])
    assert data.classes == (0, 1, 2, 3, 4, 20)
    assert (data.name, data.source) == ("one", str(one))
    data = load(two, test_data=one)
    assert (data.train_x[:, 0].tolist(), data.test_x[:, 0].tolist()) == ([7] * 3, list(range(10)))
    assert data.classes == (0, 1, 2, 3, 4, 9)
    assert data.test_y.dtype == np.int64


def test_sources_that_do_not_go_together(tmp_path):
    four = write_npz(tmp_path / "four.npz", np.ones((4, 4), np.uint8), [0, 0, 1, 1])
    two = write_npz(tmp_path / "two.npz", np.ones((4, 2), np.uint8), [0, 0, 1, 1])
    flat = write_npz(tmp_path / "flat.npz", np.ones((4, 1, 4), np.uint8), [0, 0, 1, 1])
    tall = write_npz(tmp_path / "tall.npz", np.ones((4, 4, 1), np.uint8), [0, 0, 1, 1])
    with pytest.raises(DataError, match=r"four\.npz has 4 features.*two\.npz has 2"):
        load(four, test_data=two)
    with pytest.raises(DataError, match=r"flat\.npz .*\(1, 4\), but .*tall\.npz of \(4, 1\)"):
        load(flat, test_data=tall)
    assert load(four, test_data=flat).image_shape == (1, 4)


def test_pixels_and_floats(tmp_path):
    pixels = write_npz(tmp_path / "pixels.npz", np.array([[0, 255], [3, 4]], np.uint8), [0, 1])
    whole = write_npz(tmp_path / "whole.npz", np.array([[0.0, 250.0], [3.0, 4.0]]), [0, 1])
    unit = write_npz(tmp_path / "unit.npz", np.array([[0.0, 1.0], [0.5, 0.25]]), [0, 1])
    data = load(pixels, test_data=whole)
    assert data.test_x.dtype == np.uint8
    assert data.test_x.tolist() == [[0, 250], [3, 4]]
    data = load(whole, test_data=pixels)
    assert data.test_x.dtype == np.float32
    assert data.value_range == (0, 250)
    for one, other in ((pixels, unit), (unit, pixels)):
        with pytest.raises(DataError) as caught:
            load(one, test_data=other)
        assert str(one) in str(caught.value)
        assert str(other) in str(caught.value)


def test_numbers_and_names(tmp_path):
    from PIL import Image

    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        Image.new("L", (2, 2)).save(tmp_path / "pets" / name / "1.png")
    numbers = write_npz(tmp_path / "numbers.npz", np.ones((4, 4), np.uint8), [0, 0, 1, 1])
    for one, other in ((numbers, tmp_path / "pets"), (tmp_path / "pets", numbers)):
        with pytest.raises(DataError, match=r"numbers\.npz has integer labels"):
            load(one, test_data=other)
    with pytest.raises(DataError, match="label 'cat' is none of the classes 0, 1"):
        load_labelled(tmp_path / "pets", (0, 1), 4)


def test_labelled(tmp_path):
    path = write_npz(tmp_path / "a.npz", np.ones((3, 4), np.uint8), [5, 7, 5])
    x, y = load_labelled(path, (7, 5), 4)
    assert x.shape == (3, 4)
    assert y.tolist() == [1, 0, 1]
    with pytest.raises(DataError, match=r"a\.npz: label 7 is none of the classes 5, 6"):
        load_labelled(path, (5, 6), 4)
    with pytest.raises(DataError, match=r"a\.npz has 4 features a sample, this network takes 784"):
        load_labelled(path, (5, 7), 784)
    assert load_unlabelled(path, 4).shape == (3, 4)
    with pytest.raises(DataError, match=r"a\.npz has 4 features a sample, this network takes 5"):
        load_unlabelled(path, 5)


def test_one_sample_cannot_be_split(tmp_path):
    path = write_npz(tmp_path / "a.npz", np.ones((1, 4), np.uint8), [5])
    with pytest.raises(DataError, match=r"a\.npz holds one sample"):
        load(path)
    assert len(load(path, test_data=path).train_x) == 1


@pytest.mark.parametrize("labels", [[0, 1], [0, 1, 2, 3, 4, 5], [0] * 9 + [1], [3] * 7])
def test_of_few_samples_all_train_and_test(tmp_path, labels):
    x = np.arange(4 * len(labels), dtype=np.uint8).reshape(-1, 4)
    data = load(write_npz(tmp_path / "a.npz", x, labels))
    assert data.tests_on_training
    assert f"only {len(labels)} samples: all of them train" in data.note
    for part_x, part_y in ((data.train_x, data.train_y), (data.test_x, data.test_y)):
        assert sorted(part_x[:, 0].tolist()) == x[:, 0].tolist()
        assert [data.classes[code] for code in part_y] == [labels[v // 4] for v in part_x[:, 0]]


@pytest.mark.parametrize(("samples", "tested"), [(19, 19), (20, 4), (60, 12)])
def test_from_twenty_samples_on_a_fifth_tests(tmp_path, samples, tested):
    x = np.arange(samples, dtype=np.uint8)[:, None]
    data = load(write_npz(tmp_path / "a.npz", x, np.arange(samples) % 2))
    assert len(data.test_y) == tested
    assert data.tests_on_training == (samples == tested)
    apart = set(data.train_x[:, 0]) & set(data.test_x[:, 0])
    assert len(apart) == (tested if data.tests_on_training else 0)


BY_CLASS = np.repeat(np.arange(3), 40)


@pytest.mark.parametrize(
    ("labels", "by_class"),
    [
        (BY_CLASS, True),
        (BY_CLASS[::-1], True),
        (np.repeat([0, 1] * 3, 20), True),  # in a few runs
        (np.repeat([0, 1], [95, 5]), True),
        (np.arange(120) % 3, False),
        (np.random.default_rng(0).permutation(BY_CLASS), False),
        (np.arange(30), False),  # a class a sample: sorted, but no order helps or harms
        ([0, 0, 1, 1], False),  # as likely by chance
        ([5] * 40, False),
    ],
)
def test_training_samples_that_stand_by_class_are_shuffled_once(tmp_path, labels, by_class):
    labels = np.asarray(labels)
    x = np.arange(len(labels), dtype=np.float32)[:, None]
    train = write_npz(tmp_path / "a.npz", x, labels)
    data = load(train, test_data=train)
    order = data.train_x[:, 0].astype(int)
    assert data.is_shuffled == by_class == ("they are shuffled once" in data.note)
    assert (order.tolist() != list(range(len(labels)))) == by_class
    assert sorted(order.tolist()) == list(range(len(labels)))
    assert [data.classes[code] for code in data.train_y] == labels[order].tolist()
    assert data.test_x[:, 0].tolist() == x[:, 0].tolist()  # the test samples keep theirs
    assert load(train, test_data=train).fingerprint() == data.fingerprint()
    before = arranged_as_before(data)
    assert before.train_x.tolist() == x.tolist()
    assert [data.classes[code] for code in before.train_y] == labels.tolist()


def test_every_format_is_shuffled_alike(tmp_path):
    x, y = np.arange(120, dtype=np.uint8).reshape(-1, 1), BY_CLASS
    rows = "".join(f"{label},{value}\n" for label, (value,) in zip(y, x, strict=True))
    (tmp_path / "a.csv").write_text(rows)
    savemat(tmp_path / "a.mat", {"X": x, "y": y})
    npz = write_npz(tmp_path / "a.npz", x, y)
    loaded = [load(path, test_data=path) for path in (npz, tmp_path / "a.csv", tmp_path / "a.mat")]
    for data in loaded:
        assert data.is_shuffled
        assert data.train_x.tolist() == loaded[0].train_x.tolist()


def test_what_older_versions_split_of_few_samples_comes_back(tmp_path):
    x, y = np.arange(12, dtype=np.uint8)[:, None], np.arange(12) % 2
    data = arranged_as_before(load(write_npz(tmp_path / "a.npz", x, y)))
    rows = train_test_split(np.arange(12), test_size=3, random_state=0, stratify=y)
    assert data.train_x[:, 0].tolist() == rows[0].tolist()
    assert data.test_x[:, 0].tolist() == rows[1].tolist()


def test_classes_that_only_the_test_part_has_are_named(tmp_path):
    x, y = np.zeros((40, 2), np.uint8), np.arange(40) % 2
    train = write_npz(tmp_path / "a.npz", x, y)
    test = write_npz(tmp_path / "b.npz", x, np.arange(40) % 4 + 1)
    note = load(train, test_data=test).note
    assert f"no training sample is of 2, 3, 4: 30 of 40 samples of {test} can never be" in note
    assert load(test, test_data=train).note.startswith("no training sample is of 0: 20 of 40")
    assert load(train, test_data=train).note == ""


def test_a_test_part_of_the_other_polarity_is_told(tmp_path):
    digits = load_digits()
    x = (digits.images * 15.9).astype(np.uint8)
    light = write_npz(tmp_path / "light.npz", x, digits.target)
    dark = write_npz(tmp_path / "dark.npz", 255 - x, digits.target)
    for train, test, words in (
        (light, dark, "images are dark on light, those trained on are light on dark"),
        (dark, light, "images are light on dark, those trained on are dark on light"),
    ):
        assert f"{test}: its {words}" in load(train, test_data=test).note
        assert load(train, test_data=train).note == ""
    # what is no drawing has no polarity
    noise = np.random.default_rng(0).integers(0, 256, x.shape).astype(np.uint8)
    photographs = write_npz(tmp_path / "p.npz", noise, digits.target)
    assert load(light, test_data=photographs).note == ""


def test_what_is_nothing_known(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "training.csv").write_text("1,2\n")
    for source, words in {
        "minst": ["'minst'", "did you mean 'mnist'?"],
        "MNIST": ["MNIST cannot be downloaded"],
        "digts": ["did you mean 'digits'?"],
        "trainnig.csv": ["did you mean 'training.csv'?"],
        "~/no/such": ["'~/no/such'", '"mnist", "digits"'],
        "": ["''", '"mnist", "digits"'],
        "nul\0": ["one sub-folder of images a class"],
    }.items():
        with pytest.raises(DataError) as caught:
            load(source)
        for word in ["give", *words]:
            assert word in str(caught.value)
    (tmp_path / "notes.md").write_text("x")
    with pytest.raises(DataError, match=r"notes\.md: a file of unknown kind; give"):
        load(tmp_path / "notes.md")
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(DataError, match=r"notes\.txt: one column found"):
        load(tmp_path / "notes.txt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty: a folder without IDX files"):
        load("empty")
    Image.new("L", (4, 4)).save("empty/4.png")
    with pytest.raises(DataError, match=r"empty: its pictures lie in no sub-folders.*predict RUN"):
        load("empty")
    with pytest.raises(DataError, match=r"notes\.md: a file of unknown kind; give"):
        load_unlabelled("notes.md", 4)


def test_home_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a.csv").write_text("1,2\n2,3\n" * 2)
    assert load("~/a.csv").source == str(tmp_path / "a.csv")


def test_names_too_long_and_folders_locked(tmp_path, monkeypatch):
    with pytest.raises(DataError, match="too long"):
        load("x" * 5000)
    path = write_npz(tmp_path / "a.npz", np.ones((4, 4), np.uint8), [0, 0, 1, 1])
    if os.geteuid() != 0:
        path.chmod(0)
        with pytest.raises(DataError, match=r"a\.npz: .*Permission denied"):
            load(path)


def test_messages_are_one_line():
    assert str(DataError("one\ntwo\r\nthree")) == "one two three"


def test_importing_is_light():
    code = (
        "import sys, trainer.data; "
        "print([m for m in ('sklearn', 'scipy.io', 'scipy.ndimage', 'PIL', 'requests', "
        "'polars') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("scale", "values"),
    [
        (Scale("uint8", 0, 255), np.array([[0.0, 0.5]], np.float32)),
        (Scale("uint8", 0, 16), np.array([[0, 17]], np.uint8)),
        (Scale("float32", 0, 1), np.array([[0, 255]], np.uint8)),
    ],
)
def test_values_of_another_scale_are_refused(tmp_path, scale, values):
    path = write_npz(tmp_path / "a.npz", values, [5])
    for read in (
        lambda: load_labelled(path, (5,), 2, scale),
        lambda: load_unlabelled(path, 2, scale),
    ):
        with pytest.raises(DataError, match="not on the scale of the training data"):
            read()


def test_a_source_without_a_test_part_says_so(tmp_path):
    path = write_npz(tmp_path / "a.npz", np.zeros((20, 4), np.uint8), [0, 1] * 10)
    assert "has no test part: a fifth of it tests" in load(path).note
    assert load(path, test_data=path).note == ""


def test_an_unlabelled_csv_of_another_scale_is_refused_too(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("0.0,0.5\n1.0,0.25\n")
    assert load_unlabelled(path, 2).shape == (2, 2)
    with pytest.raises(DataError, match=r"line 1, column 2: 0\.5 found, a pixel 0…255 wanted"):
        load_unlabelled(path, 2, Scale("uint8", 0, 255))
    path.write_text("0,5\n1,17\n")
    with pytest.raises(DataError, match=r"line 2, column 2: 17 found, a pixel 0…16 wanted"):
        load_unlabelled(path, 2, Scale("uint8", 0, 16))

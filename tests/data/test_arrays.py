"""Named arrays: which are whose labels, and colour made grey."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from scipy.io import savemat
from sklearn.datasets import load_digits

from trainer.data import DataError, load, load_unlabelled, read_grey
from trainer.data.arrays import as_features
from trainer.data.npz import read_file

X = np.arange(30 * 6, dtype=np.uint8).reshape(30, 2, 3)
Y = np.arange(30) % 3


@pytest.mark.parametrize(
    ("values", "labels", "parts"),
    [
        ("x_{}", "y_{}", ("train", "val", "test")),
        ("X_{}", "y_{}", ("train", "val", "test")),
        ("{}_images", "{}_labels", ("train", "val", "test")),  # MedMNIST
        ("x", "y", ("",)),
        ("X", "y", ("",)),
        ("images", "labels", ("",)),
        ("data", "labels", ("",)),
        ("data", "label", ("",)),
        ("data", "target", ("",)),
    ],
)
def test_names_that_people_give(tmp_path, values, labels, parts):
    arrays = {}
    for shift, part in enumerate(parts):
        arrays |= {values.format(part): X + shift, labels.format(part): Y[:, None]}
    np.savez(tmp_path / "a.npz", **arrays, other=np.zeros(4))
    source = read_file(tmp_path / "a.npz")
    found = [source.train, source.validation, source.test][: len(parts)]
    for shift, samples in enumerate(found):
        assert samples is not None
        np.testing.assert_array_equal(samples[0], X.reshape(30, 6) + shift)
        np.testing.assert_array_equal(samples[1], Y)
    assert (source.validation is None) == (source.test is None) == (len(parts) == 1)
    assert load(tmp_path / "a.npz").image_shape == (2, 3)
    if parts == ("",):
        savemat(tmp_path / "a.mat", {values: X, labels: Y})
        np.testing.assert_array_equal(load_unlabelled(tmp_path / "a.mat", 6), X.reshape(30, 6))


def test_a_bunch_of_scikit_learn(tmp_path):
    digits = load_digits()
    np.savez(tmp_path / "digits.npz", **digits)  # with an object among them, which is not read
    data = load(tmp_path / "digits.npz", test_data=tmp_path / "digits.npz")
    np.testing.assert_array_equal(data.test_x, digits.data)
    np.testing.assert_array_equal(data.test_y, digits.target)


@pytest.mark.parametrize("name", ["arr_0", "x_train", "images"])
def test_images_alone_are_no_data_but_can_be_predicted(tmp_path, name):
    path = tmp_path / "a.npz"
    np.savez(path, **{name: X})
    with pytest.raises(DataError, match=rf"a\.npz: no labels: {name} found.*np\.savez\("):
        load(path)
    np.testing.assert_array_equal(load_unlabelled(path, 6), X.reshape(30, 6))


def test_one_hot_rows_and_several_labels_are_refused(tmp_path):
    for y, words in ((np.eye(30), "argmax"), (np.ones((30, 14), int), "one label a sample is")):
        np.savez(tmp_path / "a.npz", train_images=X, train_labels=y)
        with pytest.raises(DataError, match=words):
            load(tmp_path / "a.npz")


def test_channels_first_are_told_apart(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.zeros((9, 3, 8, 8), np.uint8), y=Y[:9])
    with pytest.raises(DataError, match=r"\(9, 3, 8, 8\).*np\.moveaxis\(x, 1, -1\)"):
        load(tmp_path / "a.npz")


@given(hnp.arrays(np.uint8, st.tuples(st.just(2), *[st.integers(1, 6)] * 2, st.just(3))))
def test_colours_become_grey_as_pillow_makes_them(images):
    wanted = [np.asarray(Image.fromarray(image).convert("L")).ravel() for image in images]
    x, shape = as_features(images, "a")
    np.testing.assert_array_equal(x, wanted)
    assert (x.dtype, shape) == (np.uint8, images.shape[1:3])
    as_floats, _ = as_features(images / np.float32(255), "a")
    np.testing.assert_allclose(as_floats * 255, x, atol=0.51)


def test_what_is_transparent_is_laid_over_white_as_in_pictures(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (3, 9, 7, 4), dtype=np.uint8)
    for image, x in zip(images, as_features(images, "a")[0], strict=True):
        Image.fromarray(image).save(tmp_path / "a.png")
        np.testing.assert_allclose(x.reshape(9, 7), read_grey(tmp_path / "a.png"), atol=1)
    floats, _ = as_features(images / 255, "a")
    np.testing.assert_allclose(floats * 255, as_features(images, "a")[0], atol=1.01)


def test_colours_in_many_blocks_and_a_line(tmp_path, monkeypatch):
    colours = np.stack([X, X // 2, X // 3], -1)
    whole, _ = as_features(colours, "a")
    monkeypatch.setattr("trainer.data.arrays._BLOCK", 40)
    np.testing.assert_array_equal(as_features(colours, "a")[0], whole)
    np.savez(tmp_path / "a.npz", x_train=colours, y_train=Y)
    assert "a.npz holds colour images: made grey" in load(tmp_path / "a.npz").note
    np.savez(tmp_path / "a.npz", x_train=X[..., None], y_train=Y)
    assert "made grey" not in load(tmp_path / "a.npz").note

"""The images of exercise 4, cut out of MNIST's."""

from __future__ import annotations

import numpy as np
import pytest

from trainer.data import DataError, load, load_labelled, load_unlabelled
from trainer.data.exercise import cut
from trainer.data.npz import read_file

SIZES = {0: 600, 1: 500, 2: 20}  # training images of each class


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Images of which each has a value of its own, in an .npz with a test part."""
    rng = np.random.default_rng(0)
    y = rng.permutation(np.repeat(list(SIZES), list(SIZES.values())))
    x = rng.integers(0, 256, (len(y), 28, 28), dtype=np.uint8)
    path = tmp_path_factory.mktemp("exercise") / "pictures.npz"
    np.savez(path, x_train=x, y_train=y, x_test=x[:30], y_test=y[:30])
    return path, x, y


def test_it_is_the_centre_of_the_first_500_of_each_class(pictures):
    path, x, y = pictures
    data = load(f"ex4:{path}")
    kept = [i for i in range(len(y)) if np.sum(y[:i] == y[i]) < 500]
    assert np.bincount(data.train_y).tolist() == [500, 500, 20]
    np.testing.assert_array_equal(data.train_y, y[kept])
    np.testing.assert_array_equal(data.train_x, x[kept, 4:24, 4:24].reshape(-1, 400))
    np.testing.assert_array_equal(data.test_x, x[:30, 4:24, 4:24].reshape(-1, 400))
    assert (data.name, data.kind, data.image_shape) == ("ex4", "ex4", (20, 20))
    assert data.value_range == (0.0, 255.0)
    assert "20×20" in data.note


def test_held_out_images_are_cut_too(pictures, tmp_path):
    _, x, y = pictures
    path = tmp_path / "a.npz"
    np.savez(path, x_train=x, y_train=y, x_val=x[:9], y_val=y[:9])
    source = cut(read_file(path))
    np.testing.assert_array_equal(source.validation[0], x[:9, 4:24, 4:24].reshape(9, 400))


def test_its_source_says_how_to_load_it_again(pictures, monkeypatch):
    path, _, _ = pictures
    monkeypatch.chdir(path.parent)
    data = load("ex4:pictures.npz")
    assert data.source == f"ex4:{path}"
    again = load(data.source)
    np.testing.assert_array_equal(again.train_x, data.train_x)
    assert load(f"ex4:{data.source}").source == data.source  # once is enough


def test_what_holds_no_images_of_28_by_28_is_left_alone():
    data, plain = load("ex4:digits"), load("digits")
    assert (data.source, data.kind, data.note) == ("digits", "digits", "")
    np.testing.assert_array_equal(data.train_x, plain.train_x)


def test_other_samples_for_a_trained_network_are_cut_too(pictures):
    path, x, y = pictures
    cut = x[:30, 4:24, 4:24].reshape(-1, 400)
    images, labels = load_labelled(f"ex4:{path}", (0, 1, 2), 400)
    np.testing.assert_array_equal(images, cut)
    np.testing.assert_array_equal(labels, y[:30])
    np.testing.assert_array_equal(load_unlabelled(f"ex4:{path}", 400), cut)
    with pytest.raises(DataError, match=r"784 features.*takes 400; ex4:.* cuts its images to"):
        load_labelled(path, (0, 1, 2), 400)


def test_without_a_test_part_a_fifth_of_it_tests(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (20, 28, 28), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", x_train=x, y_train=np.arange(20) % 2)
    data = load(f"ex4:{tmp_path / 'a.npz'}")
    assert (data.train_x.shape, data.test_x.shape) == ((16, 400), (4, 400))


def test_a_source_that_is_nothing_is_named():
    with pytest.raises(DataError, match="'nowhere' is neither"):
        load("ex4:nowhere")


def test_of_mnist_there_are_5000(real_data):
    data = load(f"ex4:{real_data / 'mnist'}")
    assert np.bincount(data.train_y).tolist() == [500] * 10
    assert data.test_x.shape == (10_000, 400)
    whole = load(real_data / "mnist")
    # digits were drawn into 20×20 and then centred by mass: little of them is cut off
    assert data.test_x.sum() > 0.96 * whole.test_x.sum()

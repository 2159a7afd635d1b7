"""Turned copies: compared with SciPy's, one image after the other."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from backends import Backend, select
from trainer import MLP, fit, load
from trainer.augmentation import read_augment, rotate, with_turned_copies
from trainer.cli import main

FAST = ["--data", "digits", "--device", "cpu", "--quiet"]


def scipy_rotated(images, shape, degrees, background):
    turned = [
        ndimage.rotate(
            image.reshape(shape), degrees, order=1, reshape=False, cval=background
        ).reshape(-1)
        for image in images
    ]
    return np.array(turned)


@pytest.mark.parametrize("shape", [(8, 8), (5, 9), (7, 4), (1, 6), (1, 1)])
@pytest.mark.parametrize("background", [0.0, -3.5])
def test_rotation_is_scipys(backend, shape, background):
    images = np.random.default_rng(0).normal(size=(4, shape[0] * shape[1]))
    for degrees in (10.0, -10.0, 33.3, 45, 90, 180, -90, 270, 0):
        turned = backend.to_numpy(rotate(backend, images, shape, degrees, background))
        expected = scipy_rotated(images, shape, degrees, background)
        np.testing.assert_allclose(turned, expected, rtol=0, atol=1e-12, strict=True)


@given(degrees=st.floats(-180, 180).filter(lambda d: d % 90 > 1e-3), seed=st.integers(0, 9))
def test_rotation_by_any_angle_is_scipys(base_on_numpy, degrees, seed):
    images = np.random.default_rng(seed).normal(size=(1, 42))
    turned = rotate(base_on_numpy, images, (6, 7), degrees, 0.5)
    expected = scipy_rotated(images, (6, 7), degrees, 0.5)
    different = ~np.isclose(turned, expected, rtol=0, atol=1e-9)
    # a pixel on the very edge is in or out by the last bit of the cosine
    assert different.sum() <= 2


def test_bytes_stay_bytes_rounded(backend):
    images = np.random.default_rng(1).integers(0, 256, (20, 784), dtype=np.uint8)
    turned = backend.to_numpy(rotate(backend, images, (28, 28), 10))
    expected = scipy_rotated(images.astype(np.float64), (28, 28), 10, 0)
    assert turned.dtype == np.uint8
    assert np.abs(turned - expected).max() <= 0.5 + 1e-4


def test_a_scaled_image_turned_is_the_turned_image_scaled():
    """The book turns what it has scaled, with 0.01 around it; the same comes out."""
    values = load("digits").train_x[:30].astype(np.float32)
    scaled = values / 16 * 0.99 + 0.01
    ours = rotate(select("cpu"), values, (8, 8), 10) / 16 * 0.99 + 0.01
    np.testing.assert_allclose(ours, scipy_rotated(scaled, (8, 8), 10, 0.01), atol=1e-6)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("chunk", [3, 1000])
def test_copies_follow_their_image(backend, dtype, chunk):
    small = Backend(backend.xp, "small", "") if backend.name != "gpu:0" else backend
    small.chunk_size = chunk
    x = np.random.default_rng(2).integers(0, 17, (7, 30)).astype(dtype)
    y = np.arange(7) % 3
    copies, labels = with_turned_copies(small, x, y, (5, 6), [10, 25.0], 4)
    copies, labels = small.to_numpy(copies), small.to_numpy(labels)
    assert copies.dtype == dtype
    np.testing.assert_array_equal(labels, np.repeat(y, 5))
    for number, degrees in enumerate([0, 10, -10, 25, -25]):
        expected = x if not degrees else small.to_numpy(rotate(small, x, (5, 6), degrees, 4))
        np.testing.assert_array_equal(copies[number::5], expected)


@pytest.mark.parametrize("text", ["copies:10", "copies:0.5", "copies:180"])
def test_degrees_are_read(text):
    assert read_augment([text]) == ([float(text.removeprefix("copies:"))], {})


@pytest.mark.parametrize(
    "text",
    [
        "copies",
        "copies:",
        "copies:x",
        "copies:0",
        "copies:-10",
        "copies:181",
        "copies:nan",
        "copies:inf",
        "turn:3",
    ],
)
def test_a_mistaken_augmentation_is_one_line(text, capsys):
    assert main([*FAST, "--augment", text]) == 2
    captured = capsys.readouterr().err
    assert captured.startswith(f"error: --augment {text}: expected")
    assert "copies:10" in captured
    assert captured.count("\n") == 1


@pytest.fixture
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("in_an_empty_folder")
def test_training_on_copies_is_training_on_three_times_the_samples(capsys):
    options = ["--recipe", "book", "--epochs", "2", "--l2", "0.1", "--limit", "200"]
    fast = [option for option in FAST if option != "--quiet"]
    assert main([*fast, *options, "--augment", "copies:10", "--out", "o"]) == 0
    out = capsys.readouterr().out
    assert "600 training" in out
    assert "each image and 2 copies of it turned by ±10°" in out
    config = json.loads(Path("o/config.json").read_text())
    assert config["settings"]["augment"] == ["copies:10"]
    assert config["data"]["train_samples"] == 600
    data = load("digits")
    x, y = data.train_x[:200], data.train_y[:200]
    turned = [
        np.round(scipy_rotated(x.astype(np.float32), (8, 8), sign * 10, 0)).astype(np.uint8)
        for sign in (1, -1)
    ]
    x = np.stack([x, *turned], axis=1).reshape(-1, 64)
    backend = select("cpu")
    model = MLP([64, 200, 10], backend=backend, init="fan_in", scale=0.99 / 16, l2=0.1)
    for _ in fit(model, x, np.repeat(y, 3), epochs=2, learning_rate=0.1):
        pass
    for ours, other in zip(
        model.get_weights(), MLP.load("o", backend=backend).get_weights(), strict=True
    ):
        np.testing.assert_array_equal(ours, other)


@pytest.mark.usefixtures("in_an_empty_folder")
def test_several_augmentations_add_up():
    both = ["--augment", "copies:10", "--augment", "copies:5"]
    assert main([*FAST, *both, "--epochs", "1", "--limit", "10", "--out", "o"]) == 0
    config = json.loads(Path("o/config.json").read_text())
    assert config["settings"]["augment"] == ["copies:10", "copies:5"]
    assert config["data"]["train_samples"] == 50


@pytest.mark.usefixtures("in_an_empty_folder")
def test_what_is_no_image_is_not_turned(capsys):
    rows = np.column_stack([np.arange(40) % 2, np.arange(120).reshape(40, 3)])
    np.savetxt("own.csv", rows, fmt="%d", delimiter=",")
    assert main(["--data", "own.csv", "--quiet", "--augment", "copies:10", "--out", "o"]) == 2
    error = capsys.readouterr().err
    assert "own has 3 features, which are no image" in error
    assert error.count("\n") == 1
    assert not os.path.exists("o")

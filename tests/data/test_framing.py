"""How drawings lie in images, whatever the images are."""

from __future__ import annotations

import json
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from trainer.data.framing import Framing

STROKE = np.full((50, 40), 255, np.uint8)
STROKE[10:40, 18:23] = 0


@pytest.mark.parametrize("blank", [0, 9, 90])
def test_blank_images_say_nothing_of_how_drawings_lie(blank):
    images = np.zeros((10 + blank, 28, 28), np.uint8)
    images[:10, 4:24, 12:16] = 200
    framing = Framing.measured(images.reshape(len(images), -1), (28, 28))
    assert framing == Framing.measured(images[:10].reshape(10, -1), (28, 28))
    assert (framing.background, framing.ink, framing.box) == (0, 200, (20, 20))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("background", "ink"), [(0, 1e-45), (0, 3e38), (3e38, 0), (3.4e38, -1e38), (-3.4e38, 1e38)]
)
def test_values_of_any_size_are_made_again(background, ink):
    images = np.full((5, 12, 12), background, np.float32)
    images[:, 3:9, 4:7] = ink
    framing = Framing.measured(images.reshape(5, -1), (12, 12))
    values = framing.prepare(STROKE).values
    assert {values.min(), values.max()} == {np.float32(background), np.float32(ink)}


def test_large_images_are_measured_in_little_memory():
    images = np.zeros((60, 500, 500), np.uint8)
    images[:, 100:400, 200:300] = 255
    tracemalloc.start()
    framing = Framing.measured(images.reshape(60, -1), (500, 500))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert framing.box == (300, 300)
    assert most < 300e6, f"{most:,} bytes"


@pytest.mark.filterwarnings("error")
@settings(max_examples=100)
@given(
    x=arrays.arrays(
        st.sampled_from([np.uint8, np.float32]),
        st.tuples(st.integers(1, 5), st.sampled_from([1, 2, 3, 12, 30])),
        elements=st.sampled_from([0, 1, 128, 255]),
        fill=st.just(0),
    ),
    height=st.sampled_from([1, 2, 3]),
)
def test_any_data_are_measured_and_recorded(x, height):
    shape = (height, x.shape[1] // height) if x.shape[1] % height == 0 else (1, x.shape[1])
    framing = Framing.measured(x, shape)
    if framing is None:
        return
    values = framing.prepare(STROKE).values
    assert values.dtype == x.dtype
    assert x.min() <= values.min() <= values.max() <= x.max()
    recorded = json.loads(json.dumps(framing.as_json()))
    assert Framing.from_json(recorded, shape, x.dtype == np.uint8) == framing

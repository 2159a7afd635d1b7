"""What is not the digit in a picture is left out: scikit-learn's digits on paper of every kind.

Truth is the same digit on blank paper.
"""

from __future__ import annotations

import time
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw
from sklearn.datasets import load_digits

from trainer.data import DataError, prepare_digit, read_grey
from trainer.data.framing import Framing
from trainer.data.ink import _without_strips, find_ink

SIDE, PAPER = 400, 250.0


def page(number: int, top: int = 60, left: int = 60, side: int = 280) -> np.ndarray:
    """Draw a digit of scikit-learn's in dark ink on blank paper."""
    small = Image.fromarray((load_digits().images[number] * 15.9).astype(np.uint8))
    ink = np.asarray(small.resize((side, side), Image.Resampling.BICUBIC)).astype(float)
    paper = np.full((SIDE, SIDE), PAPER)
    paper[top : top + side, left : left + side] -= 0.95 * ink
    return paper


def prepared(picture: np.ndarray) -> np.ndarray:
    return prepare_digit(np.clip(picture, 0, 255).astype(np.uint8), (28, 28), (0, 255)).astype(int)


def difference(picture: np.ndarray, other: np.ndarray) -> float:
    """Return by how much the prepared digits differ, of 255 a pixel, moved a pixel at most."""
    ours, theirs = (prepared(p).reshape(28, 28) for p in (picture, other))
    moved = [np.roll(ours, (i, j), (0, 1)) for i in (-1, 0, 1) for j in (-1, 0, 1)]
    return min(float(np.abs(image - theirs).mean()) for image in moved)


def lines(every: float, thick: float, degrees: float, grey: float) -> np.ndarray:
    y, x = np.mgrid[:SIDE, :SIDE]
    angle = np.radians(degrees)
    place = y * np.cos(angle) + x * np.sin(angle) + every / 3
    return np.where(place % every < thick, grey, PAPER)


def box(margin: int, thick: int) -> np.ndarray:
    paper = np.full((SIDE, SIDE), PAPER)
    frame = slice(margin, SIDE - margin), slice(margin, SIDE - margin)
    inner = slice(margin + thick, SIDE - margin - thick)
    paper[frame] = 0
    paper[inner, inner] = PAPER
    return paper


def edge(degrees: float, width: float) -> np.ndarray:
    y, x = np.mgrid[:SIDE, :SIDE]
    wood = 40 + 10 * np.sin(y / 9)
    return np.where(x + (y - SIDE / 2) * np.tan(np.radians(degrees)) < width, wood, PAPER)


GROUNDS = {
    "ruled": lines(40, 2, 0, 190),
    "ruled thickly": lines(50, 5, 0, 120),
    "one line": lines(300, 3, 0, 100),
    "askew": lines(40, 2, 3, 180),
    "squared": np.minimum(lines(40, 1, 0, 180), lines(40, 1, 0, 180).T),
    "margin": lines(400, 3, 0, 150).T,
    "printed box": box(20, 4),
    "box in a form": np.pad(box(10, 4)[::2, ::2], 100, constant_values=PAPER),
    "dark border": box(0, 6),
    "table's edge": edge(0, 30),
    "slanted edge": edge(3, 20),
    "edge below": np.rot90(edge(2, 20)),
    "two edges": np.minimum(edge(1, 20), np.rot90(edge(1, 20))),
}


@pytest.mark.parametrize(
    "number",
    [pytest.param(n, marks=() if n in (1, 5) else pytest.mark.thorough) for n in (0, 1, 3, 5, 7)],
)
@pytest.mark.parametrize("ground", GROUNDS)
def test_the_digit_alone_is_seen(ground, number):
    size = {"top": 140, "left": 140, "side": 120} if ground == "box in a form" else {}
    blank = page(number, **size)
    assert difference(np.minimum(blank, GROUNDS[ground]), blank) < 8
    assert difference(255 - np.minimum(blank, GROUNDS[ground]), 255 - blank) < 8


@pytest.mark.parametrize("number", [0, 3, 4, 8])
def test_a_digit_in_one_of_several_boxes(number):
    blank = page(number, 170, 157, 60)
    joined, apart = (np.full((SIDE, SIDE), PAPER) for _ in range(2))
    for left in range(5, 350, 75):
        joined[150:250, left : left + 79], apart[150:250, left : left + 70] = 0, 0
        for boxes in (joined, apart):
            boxes[153:247, left + 4 : left + 66] = PAPER
    joined[153:247, 5:380] = np.where(np.arange(375) % 75 < 4, 0, PAPER)
    for boxes in (joined, apart):
        assert difference(np.minimum(blank, boxes), blank) < 8


@pytest.mark.parametrize("number", [0, 3, 4, 8])
@pytest.mark.parametrize("width", [3, 40])
@pytest.mark.parametrize("degrees", [0, 25])
def test_a_shadow_across_the_digit(number, width, degrees):
    y, x = np.mgrid[:SIDE, :SIDE]
    place = x - SIDE / 2 + (y - SIDE / 2) * np.tan(np.radians(degrees))
    blank = page(number, 120, 120, 160)
    noise = np.random.default_rng(number).normal(0, 2, blank.shape)
    shaded = blank * (1 - 0.45 / (1 + np.exp(-place / width))) + noise
    assert difference(shaded, blank) < 14  # strokes in the shade are fainter


@pytest.mark.parametrize("number", [0, 3, 4, 8])
@pytest.mark.parametrize("table", [40, 130])
@pytest.mark.parametrize("degrees", [0, 3, 12])
def test_a_sheet_of_paper_on_a_table(number, table, degrees):
    y, x = np.mgrid[:SIDE, :SIDE] - SIDE / 2
    turned = np.radians(degrees)
    across, along = x * np.cos(turned) + y * np.sin(turned), y * np.cos(turned) - x * np.sin(turned)
    blank = page(number, 120, 120, 160)
    noise = np.random.default_rng(number).normal(0, 2, blank.shape)
    on_table = np.where(np.maximum(abs(across), abs(along)) < 145, blank, table) + noise
    assert difference(on_table, blank) < 12


@settings(max_examples=30, deadline=None)
@given(
    number=st.integers(0, 99),
    every=st.integers(25, 90),
    thick=st.integers(1, 4),
    degrees=st.floats(-6, 6),
    grey=st.integers(100, 200),
    upright=st.booleans(),
)
def test_lines_of_any_distance_and_angle(number, every, thick, degrees, grey, upright):
    ruled = lines(every, thick, degrees, grey)
    blank = page(number)
    assert difference(np.minimum(blank, ruled.T if upright else ruled), blank) < 12


@pytest.mark.parametrize("corners", ["7", "Z", "T", "+", "1"])
def test_strokes_as_long_as_the_picture_are_the_digit(corners):
    """Cut close around, its strokes run along the border or from side to side."""
    strokes = {
        "7": [[(0, 0), (1, 0), (0.4, 1)]],
        "Z": [[(0, 0), (1, 0), (0, 1), (1, 1)]],
        "T": [[(0, 0), (1, 0)], [(0.5, 0), (0.5, 1)]],
        "+": [[(0, 0.5), (1, 0.5)], [(0.5, 0), (0.5, 1)]],
        "1": [[(0.2, 0), (0.2, 1)], [(0, 1), (1, 1)]],
    }[corners]
    picture = Image.new("L", (SIDE, SIDE), int(PAPER))
    for points in strokes:
        drawn = [(120 + 160 * x, 120 + 160 * y) for x, y in points]
        ImageDraw.Draw(picture).line(drawn, fill=0, width=14)
    whole = np.asarray(picture)
    rows, columns = (np.flatnonzero((whole < 128).any(axis=axis)) for axis in (1, 0))
    tight = whole[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    assert difference(tight, whole) < 3


def test_what_else_is_of_the_digits_size_is_told():
    small = page(7)[40:360:2, 40:360:2]
    both = np.concatenate([page(3), np.pad(small, [(120, 120), (0, 0)], constant_values=PAPER)], 1)
    for picture, where in (
        (both, "to the right of it"),
        (both[:, ::-1], "to the left of it"),
        (np.rot90(both), "above it"),
        (np.rot90(both, -1), "below it"),
    ):
        found = find_ink(picture.astype(np.uint8))
        assert found.remark.endswith(where)
        assert "looked at" in found.remark
    assert difference(both, page(3)) < 3


@pytest.mark.parametrize(
    "number",
    [pytest.param(n, marks=() if n in (4, 8) else pytest.mark.thorough) for n in (2, 4, 6, 8, 9)],
)
def test_one_digit_gets_no_remark(number):
    for ground in GROUNDS.values():
        if ground.shape == (SIDE, SIDE):
            assert find_ink(np.minimum(page(number), ground).astype(np.uint8)).remark == ""


def test_strokes_with_a_gap_are_one_digit():
    """A five whose bar does not meet it, a four of two strokes."""
    picture = Image.new("L", (SIDE, SIDE), int(PAPER))
    draw = ImageDraw.Draw(picture)
    draw.line([(150, 100), (250, 100)], fill=0, width=16)
    draw.line([(150, 125), (150, 190), (240, 190), (240, 290), (150, 290)], fill=0, width=16)
    found = find_ink(np.asarray(picture))
    assert found.remark == ""
    assert found.amount.shape[0] > 190


@pytest.mark.parametrize("ink", [255, 230, 128, 0])
def test_a_drawing_on_a_transparent_ground(tmp_path, ink):
    blank = page(3)
    pixels = np.zeros((SIDE, SIDE, 4), np.uint8)
    pixels[..., :3] = ink
    pixels[..., 3] = PAPER - blank
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert difference(read_grey(tmp_path / "a.png"), blank) < 3


# --- any picture ----------------------------------------------------------------------------


def drawn_frames(side: int, every: int, thick: int) -> np.ndarray:
    """Draw frames one in the other."""
    picture = np.full((side, side), 255, np.uint8)
    for start in range(side // 16, side // 2 - thick, every):
        picture[start : side - start, start : side - start] = 0
        inner = slice(start + thick, side - start - thick)
        picture[inner, inner] = 255
    return picture


def dots_in_a_frame(side: int, every: int) -> np.ndarray:
    """Draw a thick frame, and in it an upright stroke among dots."""
    picture = drawn_frames(side, side, side // 25)
    inner = slice(side // 8, side - side // 8)
    picture[inner, inner][::every, ::every] = 0
    picture[side // 3 : -side // 3, side * 9 // 20 : side // 2] = 0
    return picture


FILLS = {
    "constant": lambda rng, shape: np.full(shape, rng.integers(256)),
    "random": lambda rng, shape: rng.integers(0, 256, shape),
    "sparse": lambda rng, shape: 255 * (rng.random(shape) < 0.02),
    "one pixel": lambda rng, shape: 255 * (np.arange(np.prod(shape)) == 0).reshape(shape),
    "checkerboard": lambda _, shape: 255 * (np.indices(shape).sum(axis=0) % 2),
    "dots": lambda _, shape: 255 * (np.indices(shape) % 4 == 1).all(axis=0),
    "rows": lambda _, shape: 255 * (np.indices(shape)[0] % 3 > 0),
    "columns": lambda _, shape: 255 * (np.indices(shape)[1] % 3 > 0),
    "halves": lambda _, shape: 255 * (np.indices(shape)[1] > shape[1] // 2),
    "blobs": lambda rng, _: 255 * (np.kron(rng.random((5, 5)), np.ones((9, 9))) > 0.6),
    "shade": lambda _, shape: np.indices(shape).sum(axis=0) * 255 // sum(shape),
}
SMALL = st.tuples(st.integers(1, 60), st.integers(1, 60))
LONG = st.sampled_from([(1, 5000), (5000, 1), (2, 1999), (40_000, 3), (3, 40_000), (700, 90)])
FRAMINGS = st.builds(
    Framing,
    st.just((9, 7)),
    st.just(0.0),
    st.sampled_from([-1.0, 255.0]),
    st.just(False),
    st.tuples(st.integers(1, 9), st.integers(1, 7)),
    st.tuples(st.sampled_from([-1e300, 0.0, 4.5]), st.floats(-9, 9)),
    st.booleans(),
)


@example(6, 17, 0)
@given(st.integers(1, 20), st.integers(1, 20), st.integers(0, 2**16))
def test_strips_leave_something_of_any_picture(height, width, seed):
    rng = np.random.default_rng(seed)
    grey = rng.choice([0.0, 255.0], (height, width), p=[0.2, 0.8])
    for side in (0, -1):  # a strip along each side, which a small picture hardly has room for
        grey[side] = grey[:, side] = 0
    inner, _ = _without_strips(grey)
    assert inner.size


@pytest.mark.filterwarnings("error")
@settings(max_examples=150)
@given(
    shape=SMALL | LONG,
    fill=st.sampled_from(sorted(FILLS)),
    margin=st.sampled_from([0, 0, 1, 5]),
    is_light=st.booleans(),
    framing=FRAMINGS,
    seed=st.integers(0, 2**16),
)
def test_any_picture_is_prepared_or_blank(shape, fill, margin, is_light, framing, seed):
    picture = FILLS[fill](np.random.default_rng(seed), shape)
    picture = np.pad(picture, margin, constant_values=255 if is_light else 0).astype(np.uint8)
    try:
        values = framing.prepare(picture).values
    except DataError:
        return
    assert values.shape == (63,)
    assert sorted([0, framing.ink]) == [values.min(), values.max()]


@pytest.mark.parametrize(
    "picture",
    [
        np.pad(np.tile(np.array([[0, 255], [255, 255]], np.uint8), (498, 498)), 1),
        dots_in_a_frame(999, 3),
        drawn_frames(999, 3, 1),
        drawn_frames(999, 4, 2),
        np.pad(np.random.default_rng(0).integers(0, 2, (995, 995), np.uint8) * 255, 2),
        # corners one in the other, of which every box holds the next and none encloses it
        np.pad(255 * (np.minimum(*np.mgrid[:900, :900]) % 12 > 1), 49, constant_values=255),
    ],
    ids=["dots", "dots in a frame", "thin frames", "frames", "random", "corners"],
)
def test_no_picture_takes_long(picture):
    """However many strokes it has, and whatever lies in what."""
    start = time.process_time()
    with suppress(DataError):  # what is no digit may be none
        find_ink(picture)
    assert time.process_time() - start < 5


@pytest.mark.parametrize("every", [3, 40])
def test_a_digit_is_found_in_a_frame_among_dots(every):
    found = find_ink(dots_in_a_frame(990, every))
    assert found.amount.shape == pytest.approx((330, 50), abs=4)


def test_a_digit_in_three_frames():
    frames = drawn_frames(SIDE, 40, 12)
    frames[140:-140, 140:-140] = 255
    blank = page(3, top=150, left=150, side=100)
    assert difference(np.minimum(blank, frames), blank) < 8

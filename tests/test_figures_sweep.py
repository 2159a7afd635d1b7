"""The sweep's figure is an image, whatever was swept; what it looks like, a person looks at."""

from __future__ import annotations

import io
from itertools import product

import pytest
from PIL import Image

from trainer import figures
from trainer.figures.style import new_figure
from trainer.figures.sweep import _scale
from trainer.sweep import Standing


def standings(grid, *, diverged=0, deviation=0.01):
    """Return invented standings, of which the last few diverged."""
    combinations = [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]
    good = len(combinations) - diverged
    return [
        Standing(values, 2, 0, 0.95 / (1 + i / 9), deviation, 0.9, 0.1, 1.0)
        if i < good
        else Standing(values, 2, 2, None, None, None, None, 1.0)
        for i, values in enumerate(combinations)
    ]


RATES = {"learning_rate": (0.001, 0.003, 0.01, 0.1)}
CASES = {
    "one number": standings(RATES),
    "no deviation": standings({"learning_rate": (0.1, 0.2, 0.3)}, deviation=None),
    "one value": standings({"learning_rate": (0.1,)}),
    "nothing varied": standings({}),
    "zero on a logarithmic axis": standings({"l2": (0.0, 0.1, 1.0, 10.0)}),
    "zero on a linear axis": standings({"momentum": (0.0, 0.5, 0.9)}),
    "more values than ticks": standings({"epochs": tuple(range(1, 40))}),
    "some diverged": standings(RATES, diverged=2),
    "all diverged": standings(RATES, diverged=4),
    "hidden units": standings({"hidden": ((50,), (100,), (200,))}),
    "layers": standings({"hidden": ((50,), (100, 50), ())}),
    "lines a number": standings(RATES | {"hidden": ((50,), (100,))}),
    "lines a name": standings(RATES | {"activation": ("relu", "tanh")}, diverged=3),
    "more lines than colours": standings(RATES | {"epochs": tuple(range(1, 11))}),
    "more lines than are drawn": standings(
        RATES | {"init": tuple(f"uniform:{r}" for r in range(20))}
    ),
    "names": standings({"activation": ("relu", "tanh"), "bias": (True, False)}, diverged=2),
    "three options": standings(RATES | {"epochs": (1, 2), "shuffle": (True, False)}),
    "more dots than are drawn": standings({"init": tuple(f"uniform:{r}" for r in range(99))}),
}


@pytest.mark.filterwarnings("error")  # matplotlib's, of what does not fit
@pytest.mark.parametrize("case", CASES)
def test_a_sweep_is_a_png_image(case):
    drawn = figures.sweep(CASES[case], accuracy="test accuracy", caption="what was trained " * 20)
    png = figures.encoded(drawn, ".png")
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    assert len(png) < 200_000
    with Image.open(io.BytesIO(png)) as image:
        assert image.width == 1125
        assert len(image.convert("RGB").getcolors(maxcolors=1 << 20)) > 50


@pytest.mark.parametrize(
    ("grid", "label"),
    [
        (RATES, "learning rate, logarithmic scale"),
        ({"l2": (0.0, 0.1, 1.0, 10.0)}, "l2, logarithmic scale"),
        ({"momentum": (0.0, 0.5, 0.9)}, "momentum"),
    ],
)
def test_a_logarithmic_axis_says_so(grid, label):
    drawn = figures.sweep(standings(grid), accuracy="test accuracy", caption="")
    assert drawn.axes[0].get_xlabel() == label


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1], "linear"),
        ([0.001, 0.003, 0.01, 0.03], "log"),
        ([1, 8, 64], "log"),
        ([50, 100, 200], "linear"),
        ([0, 0.01, 0.1, 1], "symlog"),
        ([0, 0.5, 0.9], "linear"),
        ([1, 100], "linear"),
        ([1], "linear"),
    ],
)
def test_the_axis_is_what_spaces_the_values_more_evenly(values, scale):
    axes = new_figure(4, 3).add_subplot()
    axes.plot(values, values)
    _scale(axes, values)
    assert axes.get_xscale() == scale

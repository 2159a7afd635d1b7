"""The figures are images; what they look like, a person looks at."""

from __future__ import annotations

import io
import subprocess
import sys

import pytest
from PIL import Image

from trainer import figures

from .test_benchmarking import CPU, made_up, times


@pytest.mark.filterwarnings("error")  # matplotlib's, of what does not fit
@pytest.mark.parametrize(
    "measurements",
    [
        made_up({"cpu": {8: 500.0}}),
        made_up({"cpu": CPU, "gpu:0": times(0.01, 1, 10, 1000)}),
        [m for h in range(1, 10) for m in made_up({f"gpu:{i}": CPU for i in range(8)}, hidden=h)],
    ],
    ids=["one case", "two devices", "more lines than colours and markers"],
)
def test_a_benchmark_is_a_png_image(measurements):
    drawn = figures.benchmark(measurements, title="A sentence. " * 20, caption="a machine\n" * 3)
    png = figures.encoded(drawn, ".png")
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    with Image.open(io.BytesIO(png)) as image:
        assert image.width == 1350
        assert image.height >= 900
        assert len(image.convert("RGB").getcolors(maxcolors=1 << 20)) > 50


def test_only_who_draws_waits_for_matplotlib():
    code = "import sys, trainer.cli; print('matplotlib' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout == "False\n"

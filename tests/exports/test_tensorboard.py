"""Event files, read by TensorBoard itself."""

from __future__ import annotations

import sys
from io import BytesIO
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from trainer.exports.tensorboard import EventFile, require
from trainer.running.usage import UsageError

pytest.importorskip("tensorboardX", reason="the extra tensorboard is not installed")
ALL = {"scalars": 0, "histograms": 0, "images": 0, "compressedHistograms": 0, "tensors": 0}


def read(folder):
    """Read a folder as TensorBoard does, without leaving anything out."""
    reader = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator",
        reason="TensorBoard, which reads the files, is not installed",
    )
    found = reader.EventAccumulator(str(folder), size_guidance=ALL)
    found.Reload()
    return found


def test_numbers_histograms_and_images_are_what_was_written(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {
        "W1": rng.normal(size=(30, 20)).astype(np.float32),
        "b1": np.zeros(7, np.float32),
        "close": np.array([1.0, np.nextafter(1.0, 2.0), 1.0]),
        "broken": np.array([1.0, np.nan]),
    }
    image = rng.integers(0, 256, (5, 9), np.uint8)
    file = EventFile(tmp_path, 1)
    for epoch in (1, 2):
        file.add(epoch, {"loss": 0.1 * epoch, "huge": 1e300}, arrays, {"digits": image})
    found = read(tmp_path)
    assert [(e.step, e.value) for e in found.Scalars("loss")] == [
        (1, np.float32(0.1)),
        (2, np.float32(0.2)),
    ]
    assert [e.value for e in found.Scalars("huge")] == [np.inf] * 2
    assert sorted(found.Tags()["histograms"]) == ["W1", "b1", "close"]
    for name in ("W1", "b1", "close"):
        for event in found.Histograms(name):
            histogram, values = event.histogram_value, np.float64(arrays[name]).ravel()
            assert histogram.num == sum(histogram.bucket) == values.size
            assert (histogram.min, histogram.max) == (values.min(), values.max())
            assert histogram.sum == pytest.approx(values.sum())
            assert histogram.sum_squares == pytest.approx((values**2).sum())
            edges = histogram.bucket_limit
            counted = [
                np.count_nonzero((values >= low) & ((values < high) | (high == edges[-1])))
                for low, high in pairwise(edges)
            ]
            assert [0, *counted] == list(histogram.bucket)
    for event in found.Images("digits"):
        shown = np.asarray(Image.open(BytesIO(event.encoded_image_string)))
        np.testing.assert_array_equal(shown, image)
        assert (event.width, event.height) == (9, 5)


def test_a_file_that_goes_on_takes_the_place_of_later_epochs_only(tmp_path, monkeypatch):
    first = EventFile(tmp_path, 1)
    for epoch in (1, 2, 3, 4):
        first.add(epoch, {"loss": epoch})
    monkeypatch.setattr("time.time", lambda: 0.0)  # a clock that was set back
    second = EventFile(tmp_path, 3)
    for epoch in (3, 4, 5):
        second.add(epoch, {"loss": 10 * epoch})
    assert [(e.step, e.value) for e in read(tmp_path).Scalars("loss")] == [
        (1, 1.0),
        (2, 2.0),
        (3, 30.0),
        (4, 40.0),
        (5, 50.0),
    ]
    numbers = [int(path.name.split(".")[-1]) for path in sorted(tmp_path.iterdir())]
    assert numbers == [1, 2]


@pytest.mark.parametrize("left", [0, 5, 30, -1])
def test_a_file_that_was_cut_off_is_read_as_far_as_it_goes(tmp_path, left):
    file = EventFile(tmp_path, 1)
    file.add(1, {"loss": 1.0})
    whole = file.path.stat().st_size
    file.add(2, {"loss": 2.0})
    content = file.path.read_bytes()
    file.path.write_bytes(content[: whole + left] if left >= 0 else content[:left])
    EventFile(tmp_path, 2).add(2, {"loss": 20.0})
    assert [(e.step, e.value) for e in read(tmp_path).Scalars("loss")] == [(1, 1.0), (2, 20.0)]


def test_without_tensorboardx_one_line_says_what_to_install(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "tensorboardX"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(UsageError, match=r'python -m pip install "xptrainer\[tensorboard\]"'):
        require()


def test_pytorch_is_not_imported_for_it_and_can_be_later():
    before = sys.modules.get("torch")
    require()
    assert sys.modules.get("torch") is before

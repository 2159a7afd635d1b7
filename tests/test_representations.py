"""What objects say of themselves, in a line and as HTML in a notebook."""

from __future__ import annotations

import io
import re
from base64 import b64decode
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from trainer import MLP, BatchProgress, EpochReport, fit, html, load
from trainer.metrics import evaluate

DIGITS = load("digits")
EMPTY = {"img", "polyline", "br"}


class Page(HTMLParser):
    """Collects the tags and the texts, and checks that every tag is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.images: list[bytes] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        for name, value in attrs:
            assert not name.startswith("on")
            if name == "src":
                head, _, data = value.partition(",")
                assert head == "data:image/png;base64"
                self.images.append(b64decode(data))
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in EMPTY:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


ODD = ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "a & b", "\x1b[31m\n"]


def test_a_dataset_is_three_lines_and_a_sheet_of_images():
    data = DIGITS
    text = repr(data)
    assert text.count("\n") == 2
    for words in ("'digits'", "1,437 training and 360 test", "8×8", "uint8 0…16", "10 classes"):
        assert words in text
    page = Page(data._repr_html_())
    assert {"1,437", "360", "64"} <= set(page.texts)
    with Image.open(io.BytesIO(page.images[0])) as sheet:
        assert sheet.size == (12 * 34, 10 * 34)
        first = np.asarray(sheet)[:32:4, :32:4]
    sample = data.train_x[np.flatnonzero(data.train_y == 0)[0]].reshape(8, 8)
    np.testing.assert_allclose(first, 255 - 255 * sample.astype(float) / 16, atol=1)


def test_large_pictures_and_a_class_that_is_missing_are_shown_too():
    data = DIGITS
    x = np.repeat(np.repeat(data.train_x.reshape(-1, 8, 8), 25, 1), 25, 2).reshape(-1, 40000)[:50]
    large = replace(data, train_x=x, train_y=data.train_y[:50] % 9, image_shape=(200, 200))
    page = Page(large._repr_html_())
    with Image.open(io.BytesIO(page.images[0])) as sheet:
        assert sheet.width < 1000
    assert len(large._repr_html_()) < 200_000


def test_a_dataset_of_a_table_lists_its_columns(tmp_path):
    rows = [f"{i},{'mf'[i % 2]},{'yes' if i % 3 else '<i>no'}" for i in range(60)]
    file = tmp_path / "t.csv"
    file.write_text("age,<b>sex,y\n" + "\n".join(rows))
    data = load(str(file))
    assert repr(data).count("\n") <= 2
    assert repr(data.columns) == (
        "Columns(label 'y'; 2 columns, 1 of numbers, 1 of categories (<b>sex: 2))"
    )
    page = Page(data._repr_html_())
    assert {"age", "<b>sex", "number", "category", "f, m"} <= set(page.texts)
    assert not page.images


def test_reports_are_a_line():
    report = EpochReport(3, 0.12345678, 0.9722, 0.512345, 0.1, 0.0, 117_123.4)
    assert repr(report) == (
        "EpochReport(epoch 3: loss 0.1235, test 97.22 %, 0.512 s, 117,123 samples/s)"
    )
    assert "validation 50.00 %" in repr(replace(report, validation_accuracy=0.5))
    progress = BatchProgress(2, 5, 1000, 60_000, 0.5, 0.01, 1e5)
    assert repr(progress) == (
        "BatchProgress(epoch 2 of 5: 1,000 of 60,000 samples, loss 0.5, 0.01 s, 100,000 samples/s)"
    )


def test_a_network_is_a_table_of_its_layers():
    page = Page(MLP([64, 100, 10], backend="cpu", bias=True, activation="relu")._repr_html_())
    text = " ".join(page.texts)
    assert "layer inputs units activation bias weights" in text
    assert "1 64 100 relu yes 6,500" in text
    assert "2 100 10 sigmoid yes 1,010" in text
    assert "7,510 weights" in text


def test_a_training_says_how_far_it_is():
    data, model = DIGITS, MLP([64, 5, 10], backend="cpu", scale=0.99 / 16)
    training = fit(model, data.train_x, data.train_y, epochs=3, batch_size=64)
    assert repr(training).startswith("Training(0 of 3 epochs of MLP([64, 5, 10]")
    assert "width:0.0%" in training._repr_html_()
    for report in training:
        if isinstance(report, EpochReport) and report.epoch == 2:
            break
    assert repr(training).startswith("Training(2 of 3 epochs")
    assert "width:66.7%" in training._repr_html_()
    assert "MLP([64, 5, 10]" in " ".join(Page(training._repr_html_()).texts)


def test_curves_of_epochs_fall_and_rise():
    losses = [(1, 0.5), (2, 0.25), (3, 0.2)]
    text = html.curves("loss", {"training": losses})
    assert Page(text).tags.count("polyline") == 1
    assert "training 0.2" in text
    drawn = [float(y) for y in re.findall(r",([\d.]+)", text.split('points="')[1].split('"')[0])]
    assert drawn == sorted(drawn)  # the loss falls, and y counts downwards


def test_an_evaluation_is_its_confusion_matrix_and_its_scores():
    labels, answers = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 1, 1, 0])
    result = evaluate(labels, answers, ["a", "b", "c"])
    assert repr(result) == (
        "Evaluation(accuracy 66.67 %, balanced 55.56 %, macro F1 48.89 %: 6 samples of 3 classes)"
    )
    text = " ".join(Page(result._repr_html_()).texts)
    assert "a 2 1 0 b 0 2 0 c 1 0 0" in text
    assert "b 66.67 % 100.00 % 80.00 % 2" in text


def test_many_classes_stay_short():
    codes = np.arange(1000)
    result = evaluate(codes, codes[::-1], list(codes))
    page = result._repr_html_()
    assert len(page) < 30_000
    assert "… 960 more" in page


@settings(deadline=None, max_examples=30)
@given(st.lists(st.text(min_size=1, max_size=12), min_size=2, max_size=4, unique=True))
@pytest.mark.parametrize("odd", ODD)
def test_names_are_text_whatever_they_are(odd, names):
    names = [odd, *names]
    codes = np.arange(len(names))
    data = DIGITS
    tags = set(Page(evaluate(codes, codes, names)._repr_html_()).tags)
    assert tags <= {"div", "b", "table", "tr", "th", "td", "span"}
    few = np.arange(50) % len(names)
    data = replace(data, name=odd, source=odd, classes=tuple(names))
    data = replace(data, train_x=data.train_x[:50], train_y=few)
    page = Page(data._repr_html_())
    assert set(page.tags) <= {"div", "b", "table", "tr", "th", "td", "img"}
    assert len(page.images) == 1
    assert repr(data).count("\n") == 2


@given(st.lists(st.tuples(st.integers(1, 50), st.floats(-1e9, 1e9)), max_size=5))
def test_a_curve_stays_in_its_frame(points):
    drawn = html.curves("a", {"b": points})
    for x, y in re.findall(r"([\d.-]+),([\d.-]+)", "".join(re.findall('points="(.*?)"', drawn))):
        assert 0 <= float(x) <= 260
        assert 0 <= float(y) <= 110

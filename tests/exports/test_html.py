"""The page to draw on, in a real browser, beside what `predict` makes of the same drawing."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.browser import Browser, Page
from tests.conftest import needs_browser
from tests.drawn_digits import drawn
from trainer import MLP, load
from trainer.cli import main
from trainer.exports import html
from trainer.running.trained import TrainedRun

from .conftest import TABLE

SIDE = 400  # of the canvas
OUTPUTS = "Array.from(propagate(VALUES).at(-1))"
INK = """(() => {
  const { data } = pen.getImageData(0, 0, side, side);
  return Float32Array.from({ length: side * side }, (_, i) => 255 - data[4 * i]);
})()"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    opened = Browser()
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def digit_page(trained_run, tmp_path_factory) -> tuple[TrainedRun, Path]:
    """A run on the 8×8 digits, as `digits` trains it, and its page."""
    run = trained_run("--data", "digits")
    file = tmp_path_factory.mktemp("page") / "digit.html"
    assert main(["export", str(run), "--format", "html", "--out", str(file)]) == 0
    return TrainedRun(run, "cpu"), file


def drawing(page: Page, strokes: list[np.ndarray]) -> None:
    """Draw strokes at once, without a pointer."""
    page.run("clear()")
    for stroke in strokes:
        points = (SIDE * stroke).round(2).tolist()
        page.run(f"begin({points[0]}); {points[1:]}.forEach(extend)")
    page.run("redraw()")
    page.settle()


def check(page: Page, trained: TrainedRun, file: Path) -> int:
    """Compare what the page makes of its canvas with what `predict` does; return the answer."""
    png = page.run("canvas.toDataURL('image/png')").split(",")[1]
    file.write_bytes(base64.b64decode(png))
    values = page.run(f"Array.from(prepare({INK}))")
    _, wanted = trained.prepare(file)
    assert values == wanted.values.tolist()
    outputs = page.run(OUTPUTS.replace("VALUES", f"Float32Array.from({values})"))
    [answers] = trained.outputs(wanted.values[None])
    np.testing.assert_allclose(outputs, answers, rtol=0, atol=1e-5)
    return int(answers.argmax())


@needs_browser
@pytest.mark.parametrize("touch", [False, True], ids=["mouse", "finger"])
def test_what_is_drawn_is_answered_as_predict_answers_it(touch, browser, digit_page, tmp_path):
    trained, file = digit_page
    page = browser.open(file.as_uri())
    box = page.run("(({ left, top, width }) => [left, top, width])(canvas.getBoundingClientRect())")
    assert page.run("answer.textContent") == "Draw a digit"
    for digit in range(10):
        page.run("clear()")
        for stroke in drawn(digit, seed=touch):
            points = [(box[0] + box[2] * x, box[1] + box[2] * y) for x, y in stroke]
            page.drag(points, touch=touch)
        page.settle()
        answer = check(page, trained, tmp_path / "c.png")
        best = page.run("document.querySelector('.best').lastChild.textContent")
        assert page.run("answer.textContent") == f"{answer}, {best}"  # no share: a sigmoid's output
        assert page.run("document.querySelector('.best span').textContent") == str(answer)
    assert page.requests() == [file.as_uri()]
    assert page.problems() == []


@needs_browser
def test_it_is_drawn_on_by_keyboard(browser, digit_page, tmp_path):
    trained, file = digit_page
    page = browser.open(file.as_uri())
    page.run("canvas.focus()")
    for _ in range(12):
        page.press("ArrowUp")
    page.press(" ", "Space")
    for _ in range(24):
        page.press("ArrowDown")
    page.settle()
    assert page.run("strokes.length") == 1
    assert page.run("strokes[0].points.length") == 25
    check(page, trained, tmp_path / "c.png")
    page.press("z", "KeyZ", modifiers=2)
    page.settle()
    assert page.run("answer.textContent") == "Draw a digit"
    page.press(" ", "Space")  # a dot
    page.settle()
    assert page.run("answer.textContent") != "Draw a digit"
    page.press("ArrowRight")
    page.settle()
    assert page.run("answer.textContent") != "Draw a digit"
    page.press("Delete")
    page.settle()
    assert page.run("answer.textContent") == "Draw a digit"
    page.run("undo()")  # of the clearing, too
    page.settle()
    assert page.run("answer.textContent") != "Draw a digit"


@needs_browser
def test_units_and_answers_show_what_they_look_for(browser, digit_page):
    trained, file = digit_page
    page = browser.open(file.as_uri())
    page.run("lookAt(3)")
    picture = "Array.from(byId('picture').getContext('2d').getImageData(0, 0, 8, 8).data)"
    found = np.array(page.run(picture)).reshape(64, 4)[:, 0]
    incoming = trained.model.get_weights()[0][:, 3]
    most = np.abs(incoming).max()
    wanted = 255 * (most - incoming) / (2 * most)
    np.testing.assert_allclose(found, wanted, atol=1)
    for wrong in ("-1", "1.5", "NaN", "1e9"):
        page.run(f"lookAt({wrong})")
        assert "no such hidden unit" in page.run("byId('caption').textContent")
    page.run("document.querySelectorAll('#bars button')[4].click()")
    assert "takes 4 to look like" in page.run("byId('caption').textContent")
    assert np.ptp(np.array(page.run(picture)).reshape(64, 4)[:, 0]) > 200


@needs_browser
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [320, 1000])
def test_it_fits_a_telephone(width, dark, browser, digit_page):
    _, file = digit_page
    page = browser.open(file.as_uri(), width=width, dark=dark)
    assert page.run("document.documentElement.scrollWidth") <= width
    light = page.run("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
    assert light is not dark
    names = page.run(
        "Array.from(document.querySelectorAll('canvas, button, input, select'), (e) =>"
        " e.getAttribute('aria-label') ?? e.textContent ?? '')"
    )
    assert page.run("canvas.getAttribute('aria-label')").startswith("Draw here")
    assert len(names) > 12


def numbers(page: str) -> dict:
    """Return what a page's network is made of."""
    [found] = re.findall(r'<script type="application/json" id="network">(.*?)</script>', page, re.S)
    return json.loads(found)


def test_the_lessons_network_is_a_small_page(trained_run, data_folder, tmp_path):
    run = trained_run("--data", str(data_folder / "hundred" / "mnist_train_100.csv"))
    out = tmp_path / "d.html"
    assert main(["export", str(run), "--format", "html", "--out", str(out)]) == 0
    page = out.read_text()
    assert MLP.load(run, backend="cpu").sizes == (784, 200, 10)
    assert len(page.encode()) < 1_500_000
    assert not re.search(r"https?:|url\(|import\s*\(|XMLHttpRequest|WebSocket", page)
    [policy] = re.findall(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy.startswith("default-src &#39;none&#39;;")
    assert "connect-src" not in policy
    assert "unsafe" not in policy


@needs_browser
def test_a_large_network_is_rounded_and_says_so(
    trained_run, browser, tmp_path, monkeypatch, capsys
):
    run = trained_run("--data", "digits")
    monkeypatch.setattr(html, "_LARGE", 1000)
    out = tmp_path / "d.html"
    assert main(["export", str(run), "--format", "html", "--out", str(out)]) == 0
    assert "rounded to float16" in capsys.readouterr().out
    page = browser.open(out.as_uri())
    W = MLP.load(run, backend="cpu").get_weights()[0]
    found = page.run("Array.from(layers[0].W)")
    np.testing.assert_array_equal(found, W.astype("f2").astype(float).ravel())


HOSTILE = "</script><script>window.taken = 1</script>"


@needs_browser
def test_names_are_text_wherever_they_come_from(browser, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    rows = [f'"<img src=x onerror=""window.taken=1"">",{HOSTILE},y']
    for i in range(60):
        colour = ("<!--<script>", "&amp;", "blue")[i % 3]
        rows.append(f"{rng.normal() + i % 2:.3f},{colour},{HOSTILE if i % 2 else '<b>no</b>'}")
    Path("t.csv").write_text("\n".join(rows))
    train = ["train", "--data", "t.csv", "--label", "y", "--epochs", "3", "--quiet"]
    assert main([*train, "--device", "cpu", "--out", "r"]) == 0
    assert main(["export", "r", "--format", "html", "--out", "t.html"]) == 0
    page = browser.open((tmp_path / "t.html").as_uri())
    assert page.run("window.taken") is None
    assert page.problems() == []
    label, _, _ = page.run("answer.textContent").rpartition(",")
    assert label in (HOSTILE, "<b>no</b>")
    names = page.run(
        "Array.from(document.querySelectorAll('#form label > span'), (e) => e.textContent)"
    )
    assert names == ['<img src=x onerror="window.taken=1">', HOSTILE]
    assert main(["report", "r"]) == 0
    report = browser.open((tmp_path / "r" / "report.html").as_uri())
    assert report.run("window.taken") is None
    assert report.problems() == []
    assert HOSTILE in report.run("document.body.textContent")
    assert "<script" not in (tmp_path / "r" / "report.html").read_text()


@needs_browser
def test_a_form_answers_as_the_network_does(trained_run, browser, tmp_path):
    run = trained_run("--data", str(TABLE), "--label", "kind")
    out = tmp_path / "t.html"
    assert main(["export", str(run), "--format", "html", "--out", str(out)]) == 0
    page = browser.open(out.as_uri())
    trained = TrainedRun(run, "cpu")
    x = trained.dataset.test_x
    low, high = trained.dataset.train_x.min(axis=0), trained.dataset.train_x.max(axis=0)
    slider = "document.querySelector('input[type=range]')"
    ends = page.run(f"[{slider}.min, {slider}.max].map(Number)")
    np.testing.assert_allclose(ends, [low[0], high[0]], rtol=1e-6)
    found = [page.run(OUTPUTS.replace("VALUES", f"Float32Array.from({row.tolist()})")) for row in x]
    np.testing.assert_allclose(found, trained.outputs(x), rtol=0, atol=1e-5)
    shown = OUTPUTS.replace("VALUES", "Float32Array.from(fields.flatMap((read) => read()))")
    share = round(100 * max(page.run(shown)))
    assert page.run("answer.textContent").endswith(f", {share} %")  # of softmax
    assert page.run("document.querySelector('h1').textContent") == "Predict kind"
    assert page.run("document.querySelectorAll('#bars button').length") == 0
    outside = "document.querySelector('#form small').hidden"
    assert page.run(outside) is True
    page.run("document.querySelector('input[type=number]').value = 1e6; look()")
    assert page.run(outside) is False
    # what the fields hold is what the network gets
    page.run("document.querySelectorAll('select')[0].value = 2")
    values = np.array(page.run("fields.flatMap((read) => read())"))
    assert trained.columns is not None
    sizes = [column.inputs for column in trained.columns.columns]
    assert len(values) == sum(sizes) == x.shape[1]
    np.testing.assert_array_equal(values[1 : 1 + sizes[1]], np.eye(sizes[1])[2])


def test_images_that_are_no_drawings_are_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (40, 8, 8), np.uint8)
    np.savez("noise.npz", x_train=x, y_train=np.arange(40) % 2, x_test=x, y_test=np.arange(40) % 2)
    train = ["train", "--data", "noise.npz", "--epochs", "1", "--quiet", "--device", "cpu"]
    assert main([*train, "--out", "r"]) == 0
    assert main(["export", "r", "--format", "html"]) == 2
    assert "are no drawings on a plain ground" in capsys.readouterr().err


def test_too_many_columns_are_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    header = ",".join(f"{'abc'[i % 3]}{'x' * (i % 7)}{i}" for i in range(201))
    lines = [",".join(f"{v:.3f}" for v in rng.normal(size=201)) + f",{i % 2}" for i in range(20)]
    Path("wide.csv").write_text("\n".join([f"{header},y", *lines]))
    train = ["train", "--data", "wide.csv", "--label", "y", "--epochs", "1", "--quiet"]
    assert main([*train, "--device", "cpu", "--out", "r"]) == 0
    assert main(["export", "r", "--format", "html"]) == 2
    assert "201 columns are too many for a form" in capsys.readouterr().err


@needs_browser
def test_three_hundred_digits_are_prepared_as_predict_prepares_them(
    browser, trained_run, data_folder, tmp_path
):
    from PIL import Image

    mnist = data_folder / "mnist"
    run = trained_run("--data", str(mnist))
    file = tmp_path / "digit.html"
    assert main(["export", str(run), "--format", "html", "--out", str(file)]) == 0
    trained, page = TrainedRun(run, "cpu"), browser.open(file.as_uri())
    right = 0
    for seed in range(15):
        for digit in range(10):
            drawing(page, drawn(digit, seed))
            right += check(page, trained, tmp_path / "c.png") == digit
    assert right >= 135  # of 150 drawn ones
    images = load(str(mnist)).test_x[:150].reshape(-1, 28, 28)
    for image in images:
        png = io.BytesIO()
        Image.fromarray(255 - image).resize((300, 300), Image.Resampling.BICUBIC).save(png, "png")
        uri = f"data:image/png;base64,{base64.b64encode(png.getvalue()).decode()}"
        page.run("clear()")
        page.settle()
        page.run(
            "new Promise((done) => { const image = new Image(); image.onload = () => {"
            f" pen.drawImage(image, 50, 50); done(); }}; image.src = '{uri}'; }})"
        )
        check(page, trained, tmp_path / "c.png")

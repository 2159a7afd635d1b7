"""Ask a network about digits in pictures of many kinds: python scripts/picture_kinds.py

A network of the recipe `rashid` is trained on MNIST; then test digits are drawn into pictures as
people take them: on blank, ruled and squared paper, photographed and scanned, in boxes and frames,
beside a table's edge, on a transparent ground, cut tight, tiny, two in one picture. Of each kind so
many are prepared as `predict` prepares them, and the right answers are counted. Some two minutes on
two cores. The table goes to stdout, to pictures.md and to pictures.json in the folder --out.

    python scripts/picture_kinds.py --data FOLDER_OF_MNIST --digits 50 --out /tmp/pictures
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy import ndimage

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # this checkout is measured, not what may be installed

from scripts.measuring import Parser, as_table, machine_and_versions, write_report  # noqa: E402
from trainer import MLP, fit, load  # noqa: E402
from trainer.data import DataError, Framing, read_grey  # noqa: E402
from trainer.recipes import RECIPES, build  # noqa: E402

Picture = np.ndarray  # (height, width) grey, or (height, width, 4)
Drawer = Callable[[np.random.Generator, np.ndarray], Picture]

_SIDE = 400  # pixels of a page
_PAPER, _INK = 245.0, 25.0
_LINE = 170.0  # grey of printed lines


def _ink(digit: np.ndarray, side: int) -> np.ndarray:
    """Return a digit's ink from 0 to 1, drawn so large and as sharp as a pen draws."""
    large = np.asarray(Image.fromarray(digit).resize((side, side), Image.Resampling.BICUBIC))
    return np.clip((large / 255.0 - 0.3) / 0.4, 0, 1)


def _on(paper: np.ndarray, ink: np.ndarray, top: int, left: int) -> np.ndarray:
    """Draw ink on paper, which it darkens."""
    page = paper.copy()
    part = page[top : top + ink.shape[0], left : left + ink.shape[1]]
    part -= ink * (part - _INK)
    return page


def _page(rng: np.random.Generator, digit: np.ndarray, paper: np.ndarray | None = None) -> Picture:
    side = int(rng.integers(200, 300))
    paper = np.full((_SIDE, _SIDE), _PAPER) if paper is None else paper
    top, left = rng.integers(20, _SIDE - side - 20 + 1, 2)
    return _on(paper, _ink(digit, side), int(top), int(left))


def _lines(rng: np.random.Generator, tilt: float) -> np.ndarray:
    """Return paper with lines across, in one direction, at an angle of up to tilt degrees."""
    y, x = np.mgrid[:_SIDE, :_SIDE]
    angle = np.radians(rng.uniform(-tilt, tilt))
    place = y * np.cos(angle) + x * np.sin(angle) + rng.uniform(0, 40)
    return np.where(place % 40 < rng.uniform(1, 4), _LINE, _PAPER)


def blank(rng: np.random.Generator, digit: np.ndarray) -> Picture:
    return _page(rng, digit)


def ruled(rng: np.random.Generator, digit: np.ndarray) -> Picture:
    return _page(rng, digit, _lines(rng, 0))


def ruled_askew(rng: np.random.Generator, digit: np.ndarray) -> Picture:
    return _page(rng, digit, _lines(rng, 4))


def squared(rng: np.random.Generator, digit: np.ndarray) -> Picture:
    return _page(rng, digit, np.minimum(_lines(rng, 0), _lines(rng, 0).T))


def photograph(rng: np.random.Generator, digit: np.ndarray) -> Picture:
    return _photographed(rng, _page(rng, digit), 8)


def photograph_of_ruled(rng: np.random.Generator, digit: np.ndarray) -> Picture:
    return _photographed(rng, _page(rng, digit, _lines(rng, 0)), 4)


def _photographed(rng: np.random.Generator, page: np.ndarray, tilt: float) -> Picture:
    """Return a page turned, out of focus, in uneven light, with noise."""
    page = ndimage.rotate(page, rng.uniform(-tilt, tilt), reshape=False, mode="nearest")
    y, x = np.mgrid[0 : 1 : _SIDE * 1j, 0 : 1 : _SIDE * 1j]
    light = 0.55 + 0.4 * (x * rng.uniform(-1, 1) + y * rng.uniform(-1, 1))
    return ndimage.gaussian_filter(page, 1.5) * light + rng.normal(0, 6, page.shape)


def scan(rng: np.random.Generator, digit: np.ndarray) -> Picture:
    page = np.kron(_page(rng, digit), np.ones((3, 3)))
    page += rng.normal(0, 4, page.shape)
    for row, column in rng.integers(0, 3 * _SIDE - 6, (30, 2)):
        page[row : row + 4, column : column + 4] = 90  # dust
    return page


def shadow_edge(rng: np.random.Generator, digit: np.ndarray) -> Picture:
    """A page on one side of which a hand or a telephone throws its shadow, across the digit."""
    page = np.pad(_page(rng, digit), 100, constant_values=_PAPER)
    y, x = np.mgrid[-1 : 1 : len(page) * 1j, -1 : 1 : len(page) * 1j]
    place = x + y * np.tan(np.radians(rng.uniform(-25, 25)))
    light = 1 - 0.45 / (1 + np.exp(-place / rng.uniform(0.01, 0.1)))
    return page * light + rng.normal(0, 3, page.shape)


def sheet_on_table(rng: np.random.Generator, digit: np.ndarray) -> Picture:
    page = np.pad(_page(rng, digit), 20, constant_values=_PAPER)
    turned = {"angle": rng.uniform(-12, 12), "reshape": True, "order": 1}
    sheet = ndimage.rotate(page, cval=rng.uniform(40, 140), **turned)
    sheet = np.pad(sheet, int(rng.integers(10, 80)), mode="edge")
    return ndimage.gaussian_filter(sheet, 1) + rng.normal(0, 3, sheet.shape)


def row_of_boxes(rng: np.random.Generator, digit: np.ndarray) -> Picture:
    """A form's boxes, joined or apart, in one of which the digit is written."""
    side, boxes, gap = 130, 6, int(rng.choice([-3, 8]))
    filled, page = int(rng.integers(boxes)), np.full((side + 80, boxes * (side + gap) + 80), _PAPER)
    for i in range(boxes):
        left = 40 + i * (side + gap)
        page[40 : 40 + side, left : left + side] = 20
        page[43 : 37 + side, left + 3 : left + side - 3] = _PAPER
    place = 50, 50 + filled * (side + gap)
    return _on(page, _ink(digit, side - 20), *place)


def _framed(digit: np.ndarray, rng: np.random.Generator, margin: int, width: int) -> Picture:
    page = _page(rng, digit)
    inner = slice(margin + width, _SIDE - margin - width)
    frame = np.zeros((_SIDE, _SIDE), bool)
    frame[margin : _SIDE - margin, margin : _SIDE - margin] = True
    frame[inner, inner] = False
    page[frame] = 20
    return page


def printed_box(rng: np.random.Generator, digit: np.ndarray) -> Picture:
    return _framed(digit, rng, int(rng.integers(4, 16)), int(rng.integers(2, 5)))


def form_cell(rng: np.random.Generator, digit: np.ndarray) -> Picture:
    """A box that is cut out of a form, with paper around it."""
    return np.pad(printed_box(rng, digit), rng.integers(10, 120), constant_values=int(_PAPER))


def dark_border(rng: np.random.Generator, digit: np.ndarray) -> Picture:
    return _framed(digit, rng, 0, int(rng.integers(3, 12)))


def table_edge(rng: np.random.Generator, digit: np.ndarray) -> Picture:
    page = _page(rng, digit)
    y, x = np.mgrid[:_SIDE, :_SIDE]
    edge = x + y * np.tan(np.radians(rng.uniform(-6, 6))) < rng.uniform(10, 20)
    turn = int(rng.integers(4))
    return np.where(np.rot90(edge, turn), 60 + 10 * np.sin(y / 9), page)


def faint_pencil(rng: np.random.Generator, digit: np.ndarray) -> Picture:
    return _PAPER - 0.25 * (_PAPER - _page(rng, digit)) + rng.normal(0, 2, (_SIDE, _SIDE))


def chalk(rng: np.random.Generator, digit: np.ndarray) -> Picture:
    return 270 - _page(rng, digit) + rng.normal(0, 4, (_SIDE, _SIDE))


def white_on_transparent(rng: np.random.Generator, digit: np.ndarray) -> Picture:
    return _transparent(rng, digit, 255)


def black_on_transparent(rng: np.random.Generator, digit: np.ndarray) -> Picture:
    return _transparent(rng, digit, 0)


def _transparent(rng: np.random.Generator, digit: np.ndarray, grey: int) -> Picture:
    alpha = 255 * (_PAPER - _page(rng, digit)) / (_PAPER - _INK)
    return np.stack([np.full(alpha.shape, grey)] * 3 + [alpha], axis=-1)


def tight(rng: np.random.Generator, digit: np.ndarray) -> Picture:
    """A picture cut so close that the digit touches all its sides."""
    page = _page(rng, digit)
    rows, columns = (np.flatnonzero((page < 128).any(axis=axis)) for axis in (1, 0))
    return page[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def tiny(rng: np.random.Generator, digit: np.ndarray) -> Picture:
    page = Image.fromarray(_page(rng, digit).astype(np.uint8))
    side = int(rng.integers(20, 40))
    return np.asarray(page.resize((side, side), Image.Resampling.BILINEAR)).astype(float)


def beside_another(rng: np.random.Generator, digit: np.ndarray) -> Picture:
    """The digit, and a smaller 7 to its right."""
    page = np.full((300, 520), _PAPER)
    page = _on(page, _ink(digit, 260), 20, 20)
    seven = np.zeros((28, 28), np.uint8)
    seven[6:8, 8:20] = 255
    for row in range(8, 22):
        column = round(19 - 0.55 * (row - 7))
        seven[row, column - 1 : column + 1] = 255
    return _on(page, _ink(seven, 220), 40, 290)


KINDS: tuple[Drawer, ...] = (
    blank,
    photograph,
    photograph_of_ruled,
    scan,
    ruled,
    ruled_askew,
    squared,
    printed_box,
    form_cell,
    row_of_boxes,
    dark_border,
    table_edge,
    sheet_on_table,
    shadow_edge,
    faint_pencil,
    chalk,
    white_on_transparent,
    black_on_transparent,
    tight,
    tiny,
    beside_another,
)


def count(model: MLP, drawer: Drawer, digits: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Count the digits of a kind of picture that a network gets right."""
    rng, right, refused, remarked = np.random.default_rng(0), 0, 0, 0
    framing = Framing.as_mnist((28, 28), (0, 255), is_whole=True)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "picture.png"
        for digit, label in zip(digits, labels, strict=True):
            picture = np.clip(np.rint(drawer(rng, digit.reshape(28, 28))), 0, 255)
            Image.fromarray(picture.astype(np.uint8)).save(file)
            try:
                values, remark = framing.prepare(read_grey(file))
            except DataError:
                refused += 1
                continue
            remarked += bool(remark)
            right += int(np.asarray(model.predict(values[None]))[0] == label)
    name = drawer.__name__.replace("_", " ")
    return {"kind": name, "right": right, "refused": refused, "remarked": remarked}


def markdown(report: dict[str, Any]) -> str:
    """Return the report as a page."""
    titles = ("kind of picture", "right", "refused", "with a line on what is beside")
    rows = [
        [row["kind"], *(str(row[k]) for k in ("right", "refused", "remarked"))]
        for row in report["rows"]
    ]
    return (
        "# Digits in pictures of many kinds\n\n"
        f"The first {report['digits']} test digits of MNIST, each drawn into a picture of each kind"
        " by scripts/picture_kinds.py, with a fixed seed, and prepared as `predict` does it; how"
        " many of them a network of the recipe `rashid` gets right, which has"
        f" {report['accuracy']:.2%} of all test images right and {report['plain']} of these where"
        f" they are as they are. {report['machine']};"
        f" {', '.join(f'{k} {v}' for k, v in report['versions'].items())}.\n\n"
        f"{as_table([titles, *rows])}\n"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print and write the report."""
    parser = Parser(__doc__)
    parser.add_argument("--data", default="mnist", help="MNIST, as train takes it")
    parser.add_argument("--digits", type=int, default=200, help="of each kind")
    parser.add_argument("--out", type=Path, default=Path("benchmarks"))
    given = parser.parse_args(argv)
    if given.digits < 1:
        parser.error(f"--digits {given.digits}: expected one or more")
    try:
        data = load(given.data)
    except DataError as error:
        parser.error(str(error))
    if data.image_shape != (28, 28):
        parser.error(f"--data {given.data}: expected MNIST, images of 28×28 pixels")
    given.out.mkdir(parents=True, exist_ok=True)  # before minutes of work, not after
    model = build(RECIPES["rashid"], data, backend="cpu")
    for _ in fit(model, data.train_x, data.train_y, RECIPES["rashid"]):
        pass
    answers = np.asarray(model.predict(data.test_x)) == data.test_y
    digits, labels = data.test_x[: given.digits], data.test_y[: given.digits]
    rows = []
    for drawer in KINDS:
        rows.append(row := count(model, drawer, digits, labels))
        print(f"{row['kind']}: {row['right']} of {len(digits)}", flush=True)
    report = {
        **machine_and_versions(),
        "digits": len(digits),
        "accuracy": float(answers.mean()),
        "plain": int(answers[: len(digits)].sum()),
        "rows": rows,
    }
    page = markdown(report)
    write_report(given.out, "pictures", report, page)
    print(page)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The ink of one drawn digit in a picture: paper, printed lines and what lies beside left out."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .dataset import DataError

_LARGEST = 1000  # pixels a side that are looked at
_FAINTEST_INK = 10.0  # of 255, against its background
_MOST_NOISE = 16.0  # of 255, along a border of one paper in one light
_SHEET = 0.4  # of a picture is more than a digit with a margin covers
_FEW = 0.05  # of the border
_SPECK = 0.03  # of the digit's ink is a speck
_STEEPEST = 0.14  # slope of a printed line: eight degrees
_THIN = 0.03  # of the picture's height is a printed line at most
_COLUMNS = 128  # of a picture, in which lines are looked for
_MOST_STROKES = 1000  # the heaviest, which are looked at; a coarse ground has a hundred thousand
_MOST_FRAMES = 8  # one in the other, that are left out
_MOST_BOXES = 32  # side by side, in one of which the digit is looked for


class Ink(NamedTuple):
    """The ink of a digit, (height, width) of its box, and a line on what else there was, or ''."""

    amount: np.ndarray
    remark: str


class _Stroke(NamedTuple):
    """A connected piece of ink: its number, its weight, its box and how it meets the border."""

    number: int
    weight: float
    top: int
    bottom: int
    left: int
    right: int
    contact: float  # the largest share of a side of the picture that it covers

    @property
    def height(self) -> int:
        return self.bottom - self.top

    @property
    def width(self) -> int:
        return self.right - self.left

    @property
    def size(self) -> int:
        return max(self.height, self.width)


def find_ink(grey: np.ndarray) -> Ink:
    """Find the ink of the one digit in a picture.

    Left out are strips along the sides, lines across the whole picture, frames, what touches a
    long part of the border, and specks; unless nothing else is there, as where a picture is cut
    close around a digit.

    Parameters
    ----------
    grey : numpy.ndarray
        (height, width) uint8, dark on light or light on dark.

    Returns
    -------
    Ink
        How much each pixel differs from the background, cut to the digit's box.

    Raises
    ------
    DataError
        There is no ink in the picture.
    """
    from PIL import Image

    if grey.ndim != 2 or grey.size == 0:
        raise DataError(f"a picture of shape {grey.shape} found, (height, width) wanted")
    if shrink := max(grey.shape) // _LARGEST:
        # Averaging a photograph's pixels takes away noise, not strokes.
        grey = np.asarray(Image.fromarray(grey).reduce(shrink + 1))
    inner, cut = _without_strips(grey)
    ink = _without_lines(_differences(inner))
    strokes, labels = _strokes(ink)
    chosen = _without_surroundings(strokes, labels)
    if not chosen or _touches(_digit(chosen)[0], cut, ink.shape):
        ink = _differences(grey)
        strokes, labels = _strokes(ink)
        chosen = strokes
    if not chosen:
        ink = _without_lines(_dark_strokes(inner))
        strokes, labels = _strokes(ink)
        chosen = _without_surroundings(strokes, labels)
    if not chosen:
        raise DataError(
            "the picture is blank: nothing in it stands out from its background; expected one"
            " digit, dark on light or light on dark"
        )
    kept, remark = _digit(chosen)
    ink = np.where(np.isin(labels, [stroke.number for stroke in kept]), ink, 0)
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    return Ink(ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], remark)


# --- paper ----------------------------------------------------------------------------------


def _differences(grey: np.ndarray) -> np.ndarray:
    """Return how much each pixel differs from the background, 0 where that is only noise.

    It is 0 everywhere if the background is not one paper in one light.
    """
    difference = grey.astype(np.float32)
    difference -= np.median(border(difference))
    if 5 * _noise(difference) > _FAINTEST_INK:  # uneven light, or a coarse ground
        difference = grey - _ground(grey.astype(np.float32))
    noise = _noise(difference)
    ink = _inked(difference, noise)
    return np.zeros_like(ink) if noise > _MOST_NOISE or _is_sheet(ink) else ink


def _inked(difference: np.ndarray, noise: float) -> np.ndarray:
    """Return how much is darker, or how much is lighter, whichever is more and is not noise."""
    dark, light = np.clip(-difference, 0, None), np.clip(difference, 0, None)
    ink = dark if np.square(dark).sum() >= np.square(light).sum() else light
    ink[ink < max(_FAINTEST_INK, 5 * noise, 0.15 * float(ink.max()))] = 0
    return ink


def _is_sheet(ink: np.ndarray) -> bool:
    """Whether what differs from the border is a sheet of paper that lies on something else.

    A digit that covers as much meets the border, as the picture is cut close around it.
    """
    return bool((ink > 0).mean() > _SHEET and (border(ink) > 0).mean() < _FEW)


def _dark_strokes(grey: np.ndarray) -> np.ndarray:
    """Return how much darker strokes are than what is around them, 0 where that is only noise.

    A closing fills what is narrow and dark, and keeps the edges of shadows, papers and tables.
    """
    from scipy import ndimage

    soft = ndimage.uniform_filter(grey.astype(np.float32), 3)
    difference = soft - ndimage.grey_closing(soft, max(3, max(grey.shape) // 8))
    middle = float(np.median(difference))  # as a closing rests on the brightest of the noise
    noise = 1.4826 * float(np.median(np.abs(difference - middle)))
    return _inked(np.minimum(difference - middle, 0), noise)


def border(images: np.ndarray) -> np.ndarray:
    """Return the pixels along the border of an image, or of each of several."""
    inner = images[..., 1:-1, :]
    sides = images[..., 0, :], images[..., -1, :], inner[..., 0], inner[..., -1]
    return np.concatenate(sides, axis=-1)


def _noise(difference: np.ndarray) -> float:
    """Estimate the standard deviation along the border, where no ink is, from the median."""
    return 1.4826 * float(np.median(np.abs(border(difference))))


def _ground(grey: np.ndarray) -> np.ndarray:
    """Fit the paper under shaded light: a quadratic surface through all but the ink."""
    height, width = grey.shape
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    terms = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=-1)
    step = max(1, max(grey.shape) // 100)
    points, values = terms[::step, ::step].reshape(-1, 6), grey[::step, ::step].ravel()
    paper = np.ones(len(values), bool)
    for _ in range(10):
        surface, *_ = np.linalg.lstsq(points[paper], values[paper], rcond=None)
        rest = np.abs(values - points @ surface)
        paper = rest <= max(1.0, 2.5 * 1.4826 * float(np.median(rest)))
    return terms @ surface


def _without_strips(grey: np.ndarray) -> tuple[np.ndarray, tuple[bool, ...]]:
    """Cut off a frame or a table's edge: strips along the sides that are not of the paper.

    Return also of which sides, top, bottom, left, right, something was cut off.
    """
    paper = float(np.median(grey))
    far = 0.3 * max(paper - float(grey.min()), float(grey.max()) - paper, 1.0)
    cuts = []
    for axis in (1, 0):
        least, most = np.quantile(grey, [0.15, 0.85], axis=axis)
        is_strip = (most < paper - far) | (least > paper + far)
        middle = np.median(grey, axis=axis)
        for strip, side in ((is_strip, middle), (is_strip[::-1], middle[::-1])):
            width = int(np.argmin(strip))
            # a shade falls off slowly, a strip ends within a few pixels
            ends = abs(side[max(0, width - 3)] - side[min(len(side) - 1, width + 2)]) > far
            third = len(side) // 3  # two such strips leave something between them
            cuts.append(min(width + 2, third) if 0 < width < third and ends else 0)
    top, bottom, left, right = cuts
    inner = grey[top : grey.shape[0] - bottom, left : grey.shape[1] - right]
    return inner, tuple(cut > 0 for cut in cuts)


# --- lines ----------------------------------------------------------------------------------


def _without_lines(ink: np.ndarray) -> np.ndarray:
    """Take away thin straight lines from border to border, but what crosses them."""
    ink = _without_rows(ink)
    return _without_rows(ink.T).T


def _without_rows(ink: np.ndarray) -> np.ndarray:
    """Take away lines across, each as thick as it is where nothing crosses it."""
    height, width = ink.shape
    mask = ink > 0
    runs = _run_lengths(mask)
    thin = mask & (runs <= max(2, _THIN * height))
    slope, lines = _find_lines(thin, mask & ~thin)
    if not lines.any():
        return ink
    y, x = np.nonzero(thin)
    place = _places(y, x, slope, width)
    on_lines = runs[y, x][lines[place]]
    if not len(on_lines):  # between pixels on both sides of it
        return ink
    thickness = 1 + 1.7 * float(np.median(on_lines))
    near = np.convolve(lines, np.ones(2 * int(thickness) + 3), "same") > 0
    gone = near[place] & (runs[y, x] <= thickness)
    ink = ink.copy()
    ink[y[gone], x[gone]] = 0
    return ink


def _find_lines(thin: np.ndarray, thick: np.ndarray) -> tuple[float, np.ndarray]:
    """Find the slope at which thin ink forms most lines, and which `_places` of it are lines.

    Sums along sheared rows are a Hough transform of lines that lie nearly across; what thick ink
    hides of a line counts neither for nor against it.
    """
    height, width = thin.shape
    step, reach = max(1, width // _COLUMNS), _reach(width)
    slope, lines, most = 0.0, np.zeros(height + 2 * reach, bool), 0
    if (thin | thick)[:, ::step].any(axis=0).mean() < 0.9:
        return slope, lines

    def counts(places: np.ndarray) -> np.ndarray:
        return np.bincount(places, minlength=len(lines))

    wide = thin.copy()  # as a line may lie between two rows
    wide[1:] |= thin[:-1]
    wide[:-1] |= thin[1:]
    columns = np.arange(0, width, step)
    (y, x), (hiding, at) = (np.nonzero(ink[:, ::step]) for ink in (wide, thick))
    x, at = columns[x], columns[at]
    is_end = np.array([columns < width // 20 + 1, columns >= width - width // 20 - 1])
    for tried in np.linspace(-_STEEPEST, _STEEPEST, 2 * max(2, round(_STEEPEST * width)) + 1):
        place = _places(y, x, tried, width)
        hits, hidden = counts(place), counts(_places(hiding, at, tried, width))
        ends = [counts(place[part[x // step]]) > 0.5 * part.sum() for part in is_end]
        found = (hits > 0.6 * (len(columns) - hidden)) & (hits > 0.25 * len(columns))
        found &= ends[0] & ends[1]
        if (number := int(hits[found].sum())) > most:
            slope, lines, most = float(tried), found, number
    if most:  # where one line is, others may leave the picture
        hits = counts(_places(y, x, slope, width))
        hidden = counts(_places(hiding, at, slope, width))
        rows = np.arange(len(lines))[:, None] - reach + slope * (columns - width / 2)
        crossed = ((rows >= 0) & (rows < height)).sum(axis=1)
        seen = crossed - hidden
        lines |= (hits > 0.6 * seen) & (seen > 0.25 * crossed) & (crossed > 0.1 * len(columns))
    return slope, lines


def _places(y: np.ndarray, x: np.ndarray, slope: float, width: int) -> np.ndarray:
    """Return where lines of a slope through pixels meet the middle column, from 0."""
    return np.rint(y - slope * (x - width / 2)).astype(int) + _reach(width)


def _reach(width: int) -> int:
    """Return how far above the picture's first row the steepest line can meet the middle."""
    return round(_STEEPEST * width) + 1


def _run_lengths(mask: np.ndarray) -> np.ndarray:
    """Return for each pixel how long the vertical run of ink is that it lies in."""
    height, width = mask.shape
    flat = np.zeros((width, height + 1), np.int8)
    flat[:, :height] = mask.T
    edges = np.flatnonzero(np.diff(flat.ravel(), prepend=0))
    lengths = np.zeros(flat.size, np.int32)
    starts, ends = edges[::2], edges[1::2]
    lengths[flat.ravel() > 0] = np.repeat(ends - starts, ends - starts)
    return lengths.reshape(width, height + 1)[:, :height].T


# --- strokes --------------------------------------------------------------------------------


def _strokes(ink: np.ndarray) -> tuple[list[_Stroke], np.ndarray]:
    """Find the heaviest connected pieces of ink, and the number of each pixel's, or 0."""
    from scipy import ndimage

    labels, count = ndimage.label(ink, structure=np.ones((3, 3)))
    weights = ndimage.sum_labels(ink, labels, np.arange(count + 1))
    if count > _MOST_STROKES:
        kept = np.sort(1 + np.argpartition(-weights[1:], _MOST_STROKES)[:_MOST_STROKES])
        numbers = np.zeros(count + 1, labels.dtype)
        numbers[kept] = np.arange(1, _MOST_STROKES + 1)
        labels, weights, count = numbers[labels], weights[[0, *kept]], _MOST_STROKES
    sides = (labels[0], labels[-1], labels[:, 0], labels[:, -1])
    contacts = [np.bincount(side, minlength=count + 1) / len(side) for side in sides]
    contact = np.max(contacts, axis=0)
    boxes = ndimage.find_objects(labels)
    return [
        _Stroke(i, weights[i], rows.start, rows.stop, columns.start, columns.stop, contact[i])
        for i, (rows, columns) in enumerate(boxes, 1)
    ], labels


def _without_surroundings(strokes: list[_Stroke], labels: np.ndarray) -> list[_Stroke]:
    """Return the strokes that are neither along the border nor a frame; none if none is of size."""
    inner = [stroke for stroke in strokes if stroke.contact < 0.25]
    size = max((stroke.size for stroke in inner), default=0)
    if size < 0.12 * max(labels.shape):
        return []
    for _ in range(_MOST_FRAMES):
        enclosed = _within_a_frame(inner, labels)
        if not enclosed:
            break
        inner = enclosed
    return inner


def _within_a_frame(strokes: list[_Stroke], labels: np.ndarray) -> list[_Stroke]:
    """Return what lies within the largest frame that holds something; none if none does."""
    by_size = sorted(strokes, key=lambda stroke: -stroke.size)[:_MOST_BOXES]
    for frame in by_size:
        if frame.size > by_size[0].size / 2 and (enclosed := _enclosed(frame, strokes, labels)):
            return enclosed
    return []


def _touches(strokes: list[_Stroke], sides: tuple[bool, ...], shape: tuple[int, ...]) -> bool:
    """Whether one of the strokes touches one of these sides: top, bottom, left, right."""
    (height, width), (top, bottom, left, right) = shape, sides
    return any(
        (top and stroke.top == 0)
        or (bottom and stroke.bottom == height)
        or (left and stroke.left == 0)
        or (right and stroke.right == width)
        for stroke in strokes
    )


def _enclosed(frame: _Stroke, strokes: list[_Stroke], labels: np.ndarray) -> list[_Stroke]:
    """Return what lies within a stroke that is a frame, of whose lesser side it must be a third."""
    from scipy import ndimage

    within = [
        stroke
        for stroke in strokes
        if frame.top < stroke.top
        and stroke.bottom < frame.bottom
        and frame.left < stroke.left
        and stroke.right < frame.right
    ]
    least = min(frame.height, frame.width) / 3
    if all(stroke.size <= least for stroke in within):
        return []
    box = labels[frame.top : frame.bottom, frame.left : frame.right]
    reaching_out = set(np.unique(box[~ndimage.binary_fill_holes(box == frame.number)]).tolist())
    within = [stroke for stroke in within if stroke.number not in reaching_out]
    return within if any(stroke.size > least for stroke in within) else []


def _digit(strokes: list[_Stroke]) -> tuple[list[_Stroke], str]:
    """Return the strokes of the digit, the heaviest and what belongs to it, and a remark."""
    # what the border cuts is rather a neighbour
    main = max(strokes, key=lambda stroke: stroke.weight * (0.3 if stroke.contact else 1))
    kept, beside = [main], []
    for stroke in strokes:
        if stroke is main or stroke.weight < _SPECK * main.weight:
            continue
        if _is_another(stroke, main):
            beside.append(stroke)
        elif max(_gaps(stroke, main)) < 0.5 * main.size:
            kept.append(stroke)
    if not beside:
        return kept, ""
    other = max(beside, key=lambda stroke: stroke.weight)
    across, along = _gaps(other, main)
    if across >= along:
        where = "to the right of it" if other.left > main.left else "to the left of it"
    else:
        where = "below it" if other.top > main.top else "above it"
    return kept, (
        "something else of a digit's size is in the picture: the digit with the most ink is looked"
        f" at, not what is {where}"
    )


def _gaps(stroke: _Stroke, other: _Stroke) -> tuple[int, int]:
    """Return how far apart two boxes lie, across and along; below 0 where they overlap."""
    across = max(stroke.left - other.right, other.left - stroke.right)
    return across, max(stroke.top - other.bottom, other.top - stroke.bottom)


def _is_another(stroke: _Stroke, main: _Stroke) -> bool:
    """Whether a stroke is of the digit's size and stands apart from it."""
    across, along = _gaps(stroke, main)
    if stroke.size < 0.4 * main.size or stroke.weight < 0.15 * main.weight:
        return False
    if across > 0.06 * main.size or along > 0.25 * main.size:
        return True
    # two digits close together are wider than one of two strokes
    width = max(stroke.right, main.right) - min(stroke.left, main.left)
    return across > 0 and width > 1.3 * main.height and stroke.height > 0.6 * main.height

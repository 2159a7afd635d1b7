"""How the images of a data set lie in their frames, and one's own pictures made to lie so too."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from .ink import Ink, border, find_ink

_MARGINLESS = 20  # pixels a side up to which digits fill their frame, where nothing is measured
_MOST_IMAGES, _MOST_PIXELS = 2000, 1 << 22  # that are measured
_LARGEST_FLOAT = float(np.finfo(np.float32).max)


class Prepared(NamedTuple):
    """A picture as the network takes it, (height·width,), and a remark on it, or nothing."""

    values: np.ndarray
    remark: str


@dataclass(frozen=True)
class Framing:
    """How drawings lie in the images of a data set.

    Attributes
    ----------
    image_shape : tuple of int
        (height, width).
    background, ink : float
        The values of the background and of full ink.
    is_whole : bool
        Whether values are whole numbers, uint8; else float32.
    box : tuple of int
        Height and width that a drawing is scaled to fit into.
    centre : tuple of float
        Row and column, from 0 at the edge of the first pixel, that drawings are centred at.
    by_mass : bool
        Whether their centre of mass is there, or the middle of their box.
    """

    image_shape: tuple[int, int]
    background: float
    ink: float
    is_whole: bool
    box: tuple[int, int]
    centre: tuple[float, float]
    by_mass: bool = True

    @property
    def is_light(self) -> bool:
        """Whether drawings are light on dark."""
        return self.ink > self.background

    @classmethod
    def as_mnist(
        cls, image_shape: tuple[int, int], value_range: tuple[float, float], is_whole: bool
    ) -> Framing:
        """Return MNIST's framing for images of another size: 20 of 28 pixels, by centre of mass.

        Images of up to 20 pixels a side are filled, as scikit-learn's 8×8 digits are.
        """
        height, width = (
            side if side <= _MARGINLESS else round(side * 20 / 28) for side in image_shape
        )
        # as measured: MNIST's lie at 14.0 of 0…27, the small digits' at 3.5 of 0…7
        row, column = (s / 2 + 0.5 * (s > _MARGINLESS) for s in image_shape)
        return cls(image_shape, *value_range, is_whole, (height, width), (row, column))

    @classmethod
    def measured(cls, x: Any, image_shape: tuple[int, int]) -> Framing | None:
        """Measure the framing of images (n, height·width); None if they are no drawings.

        Drawings have a background: most pixels along the borders have nearly one value.
        """
        most = max(1, min(_MOST_IMAGES, _MOST_PIXELS // x.shape[1]))
        sampled = np.asarray(x[:: 1 + len(x) // most]).reshape(-1, *image_shape)
        # in which sums and differences are exact, or at least finite
        images: np.ndarray = sampled.astype(np.float32 if x.dtype == np.uint8 else np.float64)
        around = border(images)
        background = float(np.median(around))
        contrast = images - background
        reach = float(np.abs(contrast).max())
        if reach == 0 or np.mean(np.abs(around - background) <= 0.1 * reach) < 0.6:
            return None
        sign = 1.0 if contrast.sum() > 0 else -1.0
        ink = np.clip(sign * contrast, 0, None)
        ink = ink[ink.any(axis=(1, 2))]
        full = float(np.median(ink.max(axis=(1, 2))))
        ink[ink < 0.15 * full] = 0
        ink = ink[ink.any(axis=(1, 2))]
        boxes, masses = [], []
        for axis, side in ((2, image_shape[0]), (1, image_shape[1])):
            profile, places = ink.sum(axis=axis), np.arange(side)
            first = (profile > 0).argmax(axis=1)
            last = side - (profile[:, ::-1] > 0).argmax(axis=1)
            boxes.append((first, last))
            masses.append(profile @ (places + 0.5) / profile.sum(axis=1))
        fills = [
            (last - first) / side for (first, last), side in zip(boxes, image_shape, strict=True)
        ]
        fill = float(np.median(np.max(fills, axis=0)))
        middles = [(first + last) / 2 for first, last in boxes]
        by_mass = sum(map(np.var, masses)) <= sum(map(np.var, middles))
        row, column = (float(np.mean(place)) for place in (masses if by_mass else middles))
        height, width = (max(1, round(fill * side)) for side in image_shape)
        return cls(
            image_shape,
            background,
            background + sign * full,
            x.dtype == np.uint8,
            (height, width),
            (round(row, 2), round(column, 2)),
            bool(by_mass),
        )

    @classmethod
    def from_json(
        cls, recorded: dict[str, Any], image_shape: tuple[int, int], is_whole: bool
    ) -> Framing:
        """Read what `as_json` made; raise TypeError, KeyError or ValueError for anything else."""
        height, width = map(int, recorded["box"])
        row, column = map(float, recorded["centre"])
        background, ink = float(recorded["background"]), float(recorded["ink"])
        fits = 0 < height <= image_shape[0] and 0 < width <= image_shape[1]
        least, most = (0, 255) if is_whole else (-_LARGEST_FLOAT, _LARGEST_FLOAT)
        differ = least <= background <= most and least <= ink <= most and background != ink
        if not (fits and differ and math.isfinite(row) and math.isfinite(column)):
            raise ValueError(
                f"drawings of {height}×{width} about {row:g}, {column:g}, in {background:g} to"
                f" {ink:g}"
            )
        by_mass = bool(recorded["by_mass"])
        return cls(image_shape, background, ink, is_whole, (height, width), (row, column), by_mass)

    def as_json(self) -> dict[str, Any]:
        """Return for config.json what it does not say of the images anyway."""
        return {
            "background": self.background,
            "ink": self.ink,
            "box": list(self.box),
            "centre": list(self.centre),
            "by_mass": self.by_mass,
        }

    def prepare(self, grey: np.ndarray) -> Prepared:
        """Cut the digit out of a picture, and scale, centre and colour it as the data's are."""
        found = find_ink(grey)
        return Prepared(self._placed(found), found.remark)

    def _placed(self, found: Ink) -> np.ndarray:
        from PIL import Image

        factor = min(box / side for box, side in zip(self.box, found.amount.shape, strict=True))
        height, width = (max(1, round(side * factor)) for side in found.amount.shape)
        scaled = Image.fromarray(found.amount).resize((width, height), Image.Resampling.BICUBIC)
        ink = np.clip(np.asarray(scaled), 0, None)
        # MNIST's strokes are saturated in their core; thin ones have faded in scaling.
        ink = np.clip(ink / np.percentile(ink[ink > 0.1 * ink.max()], 60), 0, 1)
        picture = np.zeros(self.image_shape, dtype=np.float32)
        top, left = (self._start(ink.sum(axis=1 - axis), axis) for axis in range(2))
        picture[top : top + height, left : left + width] = ink
        return _scaled(picture, (self.background, self.ink), self.is_whole)

    def _start(self, profile: np.ndarray, axis: int) -> int:
        """Return where along an axis a profile starts if its centre lies where it is to lie."""
        places = np.arange(len(profile)) + 0.5
        own = float(places @ profile / profile.sum()) if self.by_mass else len(profile) / 2
        most = self.image_shape[axis] - len(profile)
        return int(np.clip(round(self.centre[axis] - own), 0, most))


def polarity_note(trained: Framing | None, given: Framing | None, where: str) -> list[str]:
    """Return a line on drawings whose polarity is not that of the training images, or none."""
    if trained is None or given is None or trained.is_light == given.is_light:
        return []
    ways = ("light on dark", "dark on light")
    shown, learned = ways if given.is_light else ways[::-1]
    return [
        f"{where}: its images are {shown}, those trained on are {learned}: few answers can be"
        " right; invert one of the two (255 − value)"
    ]


def resized(
    grey: np.ndarray, image_shape: tuple[int, int], value_range: tuple[float, float], is_whole: bool
) -> np.ndarray:
    """Return a picture as an image that is no drawing: as it is, in another size and range."""
    from PIL import Image

    image = Image.fromarray(grey).resize(image_shape[::-1], Image.Resampling.LANCZOS)
    return _scaled(np.asarray(image, dtype=np.float32) / 255, value_range, is_whole)


def _scaled(picture: np.ndarray, value_range: tuple[float, float], is_whole: bool) -> np.ndarray:
    """Return numbers from 0 to 1 in a range, (height·width,) uint8 or float32."""
    low, high = value_range
    values = low + picture.ravel().astype(np.float64) * (high - low)  # which may be infinite else
    return np.rint(values).astype(np.uint8) if is_whole else values.astype(np.float32)


def prepare_digit(
    grey: np.ndarray, image_shape: tuple[int, int], value_range: tuple[float, float]
) -> np.ndarray:
    """Cut out one drawn or photographed digit, and scale and centre it as MNIST's were.

    Parameters
    ----------
    grey : numpy.ndarray
        (height, width) uint8, dark on light or light on dark, of any size. Lines across the
        picture, frames, what lies along the border, and specks are left out; of several digits the
        one with the most ink is taken.
    image_shape : tuple of int
        Height and width to make. Up to 20 pixels a side the digit fills the frame; beyond, it
        fills 20/28 of it, its centre of mass in the middle.
    value_range : tuple of float
        The values of background and full ink.

    Returns
    -------
    numpy.ndarray
        (height·width,), uint8 where the range is (0, 255) or (0, 16), else float32.

    Raises
    ------
    DataError
        There is no ink in the picture.
    """
    is_whole = tuple(value_range) in ((0, 255), (0, 16))
    return Framing.as_mnist(image_shape, value_range, is_whole).prepare(grey).values

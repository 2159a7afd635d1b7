"""Image files, and single digits made to look like the data."""

from __future__ import annotations

import mmap
import os
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from ..array_files import parsing
from .dataset import DataError, reading

_MOST_PIXELS = 64_000_000
_DEFLATED = 8 * 1032  # pixels of a bit each that a byte of zlib's can at most stand for
_MOST_SCANS = 100  # of a progressive JPEG, which has about ten
# without EPS and the like, which Pillow hands to other programs
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM", "TGA", "ICO")
_FAINTEST_INK = 10.0  # of 255, against its background
_MARGINLESS = 20  # pixels a side up to which digits fill their frame


def read_grey(path: str | os.PathLike[str]) -> np.ndarray:
    """Read an image file as 8-bit grey.

    Parameters
    ----------
    path : str or path-like
        PNG, JPEG, BMP, GIF, TIFF, WebP, PPM, TGA or ICO; what is transparent is laid over
        white, 16 bits are scaled to 8, and a camera's orientation is applied.

    Returns
    -------
    numpy.ndarray
        (height, width) uint8.

    Raises
    ------
    DataError
        A file that is no readable image, or one of more than 64 megapixels.
    """
    from PIL import Image, ImageOps

    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: there is no such image file")
    with reading(path), parsing(path, "image"):
        if path.stat().st_size == 0:
            raise DataError(f"{path}: an empty file")
        # An icon's frame may be larger than the icon says.
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with (
            path.open("rb") as file,
            # Of a file Pillow asks for as many bytes as a chunk promises; a map gives what it has.
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
            _identified(path, content) as image,
        ):
            if image.width * image.height > _MOST_PIXELS:
                raise DataError(
                    f"{path}: {image.width}×{image.height} pixels, more than 64 megapixels"
                )
            if image.format == "PNG" and image.width * image.height > _DEFLATED * len(content):
                raise DataError(
                    f"{path}: {image.width}×{image.height} pixels promised, more than its"
                    f" {len(content):,} bytes can hold"
                )
            if image.format in ("JPEG", "MPO"):
                # A scan of a few bytes can go over all pixels again, and there is no end of them.
                scans = sum(1 for _ in re.finditer(rb"\xff\xda", content))
                if scans > _MOST_SCANS:
                    raise DataError(f"{path}: a JPEG of {scans} scans; at most {_MOST_SCANS}")
            upright = ImageOps.exif_transpose(image)
            if upright.mode.startswith("I"):
                return _to_8_bits(path, np.asarray(upright))
            if upright.mode == "F":
                raise DataError(f"{path}: an image of floats; 8 or 16 bits a channel are wanted")
            if upright.has_transparency_data:
                white = Image.new("RGBA", upright.size, "white")
                upright = Image.alpha_composite(white, upright.convert("RGBA"))
            return np.array(upright.convert("L"))


def _identified(path: Path, content: mmap.mmap) -> Any:
    from PIL import Image, UnidentifiedImageError

    try:
        return Image.open(content, formats=_FORMATS)  # type: ignore[arg-type]
    except UnidentifiedImageError as error:
        kinds = ", ".join(_FORMATS)
        raise DataError(f"{path}: not a readable image: it is none of {kinds}") from error


def _to_8_bits(path: Path, pixels: np.ndarray) -> np.ndarray:
    low, high = int(pixels.min()), int(pixels.max())
    if low < 0 or high > 65535:
        raise DataError(f"{path}: pixels {low}…{high} found, 16 bits (0…65535) wanted")
    return np.rint(pixels / np.float32(257)).astype(np.uint8)


def prepare_digit(
    grey: np.ndarray, image_shape: tuple[int, int], value_range: tuple[float, float]
) -> np.ndarray:
    """Cut out one drawn or photographed digit, and scale and centre it as MNIST's were.

    Parameters
    ----------
    grey : numpy.ndarray
        (height, width) uint8, dark on light or light on dark, of any size.
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
    from PIL import Image

    ink = _find_ink(grey)
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    ink = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]

    boxes = [side if side <= _MARGINLESS else round(side * 20 / 28) for side in image_shape]
    factor = min(box / side for box, side in zip(boxes, ink.shape, strict=True))
    height, width = (max(1, round(side * factor)) for side in ink.shape)
    scaled = Image.fromarray(ink).resize((width, height), Image.Resampling.BICUBIC)
    ink = np.clip(np.asarray(scaled), 0, None)
    # MNIST's strokes are saturated in their core; thin ones have faded in scaling.
    ink = np.clip(ink / np.percentile(ink[ink > 0.1 * ink.max()], 60), 0, 1)

    picture = np.zeros(image_shape, dtype=np.float32)
    top, left = (_offset(ink.sum(axis=1 - axis), image_shape[axis]) for axis in range(2))
    picture[top : top + height, left : left + width] = ink
    low, high = value_range
    values = low + picture.ravel() * (high - low)
    if (low, high) in ((0, 255), (0, 16)):
        return np.rint(values).astype(np.uint8)
    return values.astype(np.float32)


def _find_ink(grey: np.ndarray) -> np.ndarray:
    """Return how much each pixel differs from the background, 0 where that is only noise."""
    from PIL import Image
    from scipy import ndimage

    if grey.ndim != 2 or grey.size == 0:
        raise DataError(f"a picture of shape {grey.shape} found, (height, width) wanted")
    if shrink := max(grey.shape) // 1000:
        # Averaging a photograph's pixels takes away noise, not strokes.
        grey = np.asarray(Image.fromarray(grey).reduce(shrink + 1))
    difference = grey.astype(np.float32)
    difference -= np.median(_border(difference))
    if 5 * _noise(difference) > _FAINTEST_INK:  # uneven light, or a coarse ground
        difference = grey - _ground(grey.astype(np.float32))
    noise = _noise(difference)
    dark, light = np.clip(-difference, 0, None), np.clip(difference, 0, None)
    ink = dark if np.square(dark).sum() >= np.square(light).sum() else light
    threshold = max(_FAINTEST_INK, 5 * noise, 0.15 * float(ink.max()))
    ink[ink < threshold] = 0
    # Specks are what weighs next to nothing beside the largest stroke.
    strokes, count = ndimage.label(ink, structure=np.ones((3, 3)))
    if count == 0:
        raise DataError("the picture is blank: nothing in it differs from its background")
    weights = ndimage.sum_labels(ink, strokes, np.arange(count + 1))
    ink[weights[strokes] < 0.03 * weights.max()] = 0
    return ink


def _border(pixels: np.ndarray) -> np.ndarray:
    return np.concatenate([pixels[0], pixels[-1], pixels[1:-1, 0], pixels[1:-1, -1]])


def _noise(difference: np.ndarray) -> float:
    """Estimate the standard deviation along the border, where no ink is, from the median."""
    return 1.4826 * float(np.median(np.abs(_border(difference))))


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


def _offset(profile: np.ndarray, side: int) -> int:
    """Where along a side to start a profile so that its centre of mass lies in the middle."""
    centre = float(np.arange(len(profile)) @ profile / profile.sum())
    # As measured: MNIST's lie at 14.0 of 0…27, the small digits' at 3.5 of 0…7.
    middle = side / 2 if side > _MARGINLESS else (side - 1) / 2
    return int(np.clip(round(middle - centre), 0, side - len(profile)))

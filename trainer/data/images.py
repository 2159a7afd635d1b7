"""Image files, read as 8-bit grey."""

from __future__ import annotations

import mmap
import os
import re
import shlex
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from ..array_files import parsing
from .dataset import DataError, reading

_MOST_PIXELS = 64_000_000
_DEFLATED = 8 * 1032  # pixels of a bit each that a byte of zlib's can at most stand for
HEIF = (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftypavif")
_LOST = 32  # of 255: so little contrast shows no drawing
_MOST_SCANS = 100  # of a progressive JPEG, which has about ten
# without EPS and the like, which Pillow hands to other programs
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM", "TGA", "ICO")


def read_grey(path: str | os.PathLike[str]) -> np.ndarray:
    """Read an image file as 8-bit grey.

    Parameters
    ----------
    path : str or path-like
        PNG, JPEG, BMP, GIF, TIFF, WebP, PPM, TGA or ICO; what is transparent is laid over
        white, a light drawing on a transparent ground over black, 16 bits are scaled to 8, and a
        camera's orientation is applied.

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
        is_folder = path.is_dir()
        what = "a folder; expected one picture" if is_folder else "there is no such image file"
        raise DataError(f"{path}: {what}")
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
            ImageOps.exif_transpose(image, in_place=True)
            if image.mode.startswith("I"):
                return _to_8_bits(path, np.asarray(image))
            if image.mode == "F":
                raise DataError(f"{path}: an image of floats; 8 or 16 bits a channel are wanted")
            if image.has_transparency_data:
                return _laid_on_paper(image)
            return np.array(image.convert("L"))


def _identified(path: Path, content: mmap.mmap) -> Any:
    from PIL import Image, UnidentifiedImageError

    try:
        return Image.open(content, formats=_FORMATS)  # type: ignore[arg-type]
    except UnidentifiedImageError as error:
        if content[4:12] in HEIF:
            raise DataError(
                f"{path}: a HEIC or AVIF photo, as telephones take them; save it as JPEG or PNG:"
                f" magick {shlex.quote(path.name)} {shlex.quote(path.stem + '.jpg')}"
            ) from error
        kinds = ", ".join(_FORMATS)
        raise DataError(
            f"{path}: not a readable image: it is none of {kinds}; save it as one of these"
        ) from error


def _laid_on_paper(image: Any) -> np.ndarray:
    """Lay what is transparent over white; over black if the drawing is lost on white."""
    from PIL import Image

    if image.mode != "RGBA":
        image = image.convert("RGBA")
    grey, opacity = image.convert("L"), image.getchannel("A")  # of a byte a pixel, unlike RGBA
    on_white, on_black = (
        np.array(Image.composite(grey, Image.new("L", image.size, ground), opacity))
        for ground in (255, 0)
    )
    is_lost = np.ptp(on_white) < min(_LOST, int(np.ptp(on_black)))
    return on_black if is_lost else on_white


def _to_8_bits(path: Path, pixels: np.ndarray) -> np.ndarray:
    low, high = int(pixels.min()), int(pixels.max())
    if low < 0 or high > 65535:
        raise DataError(f"{path}: pixels {low}…{high} found, 16 bits (0…65535) wanted")
    return np.rint(pixels / np.float32(257)).astype(np.uint8)

"""More training samples out of those there are: copies of the images, turned."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from backends import Backend
from backends.functions import Array

_KINDS = ("copies",)


def parse_augment(text: str) -> float:
    """Read ``copies:DEGREES``.

    Returns
    -------
    float
        The degrees, above 0 and at most 180.

    Raises
    ------
    ValueError
        If it is none; one line with what was given and what was wanted.
    """
    kind, _, value = text.partition(":")
    if kind not in _KINDS:
        raise ValueError(f"--augment {text}: expected copies:DEGREES, such as copies:10")
    try:
        degrees = float(value)
    except ValueError:
        degrees = math.nan
    if not 0 < degrees <= 180:
        raise ValueError(
            f"--augment {text}: expected degrees above 0 and at most 180, such as copies:10"
        )
    return degrees


def with_turned_copies(
    backend: Backend,
    values: Any,
    labels: Any,
    image_shape: tuple[int, int],
    degrees: Sequence[float],
    background: float = 0.0,
) -> tuple[Array, Array]:
    """Put two turned copies a number of degrees behind each image, on the device.

    As in *Make Your Own Neural Network* (2016), part 3: an image, the same turned by +10 degrees,
    the same by -10, then the next image.

    Parameters
    ----------
    backend : Backend
    values : array, shape (n, height * width)
        Host or device array, unscaled.
    labels : array of int, shape (n,)
    image_shape : tuple of int
        (height, width).
    degrees : sequence of float
        Each gives a copy turned counter-clockwise by so much, and one clockwise.
    background : float
        What shows up in the corners.

    Returns
    -------
    values : device array, shape (n * (1 + 2 * len(degrees)), height * width)
        In their dtype; integers are rounded.
    labels : device array
    """
    xp = backend.xp
    angles = [sign * angle for angle in degrees for sign in (1, -1)]
    held = backend.hold(values)
    n, features = held.shape
    dtype = backend.asarray(held[:1, :]).dtype
    copies = xp.empty((n, 1 + len(angles), features), dtype=dtype)
    turns = [_Turn(xp, dtype, image_shape, angle, background) for angle in angles]
    for start in range(0, n, backend.chunk_size):
        rows = slice(start, min(start + backend.chunk_size, n))
        images = backend.asarray(held[rows, :])
        copies[rows, 0, :] = images
        for number, turn in enumerate(turns, 1):
            copies[rows, number, :] = turn(images)
    codes = xp.repeat(backend.asarray(labels), 1 + len(angles))
    return xp.reshape(copies, (-1, features)), codes


def rotate(
    backend: Backend,
    images: Any,
    image_shape: tuple[int, int],
    degrees: float,
    background: float = 0.0,
) -> Array:
    """Turn images about their centres.

    What ``scipy.ndimage.rotate(image, degrees, order=1, reshape=False, cval=background)`` does to
    one image, to all at once: each pixel is the bilinear mean of the four around where it comes
    from, or the background where that lies outside. Every image has the same four, hence four
    gathers with the weights beside them do it, on any device.

    Parameters
    ----------
    backend : Backend
    images : array, shape (n, height * width)
    image_shape : tuple of int
        (height, width).
    degrees : float
        Counter-clockwise, with the first row at the top.
    background : float

    Returns
    -------
    device array, shape (n, height * width)
        In the images' dtype; integers are rounded.
    """
    held = backend.asarray(images)
    return _Turn(backend.xp, held.dtype, image_shape, degrees, background)(held)


class _Turn:
    """Where every pixel of a turned image comes from."""

    def __init__(
        self, xp: Any, dtype: Any, image_shape: tuple[int, int], degrees: float, background: float
    ) -> None:
        self._xp, self._dtype = xp, dtype
        self._real = dtype if xp.isdtype(dtype, "real floating") else xp.float32
        height, width = image_shape
        cosine, sine = _cos_sin(degrees)
        y_middle, x_middle = (height - 1) / 2, (width - 1) / 2
        y_offset = y_middle - (cosine * y_middle + sine * x_middle)
        x_offset = x_middle - (-sine * y_middle + cosine * x_middle)
        places: list[list[int]] = [[], [], [], []]
        shares: list[list[float]] = [[], [], [], []]
        outside = []
        for row in range(height):
            for column in range(width):
                y = y_offset + row * cosine + column * sine
                x = x_offset - row * sine + column * cosine
                inside = 0 <= y <= height - 1 and 0 <= x <= width - 1
                outside.append(0.0 if inside else background)
                top, left = (math.floor(y), math.floor(x)) if inside else (0, 0)
                low, right = y - top, x - left
                bottom, far = min(top + 1, height - 1), min(left + 1, width - 1)
                for k, (i, j, share) in enumerate(
                    (
                        (top, left, (1 - low) * (1 - right)),
                        (top, far, (1 - low) * right),
                        (bottom, left, low * (1 - right)),
                        (bottom, far, low * right),
                    )
                ):
                    places[k].append(i * width + j)
                    shares[k].append(share if inside else 0.0)
        self._corners = [
            (xp.asarray(where), xp.asarray(share, dtype=self._real))
            for where, share in zip(places, shares, strict=True)
        ]
        self._outside = xp.asarray(outside, dtype=self._real)

    def __call__(self, images: Array) -> Array:
        xp = self._xp
        turned = xp.zeros(images.shape, dtype=self._real) + self._outside
        for places, shares in self._corners:
            turned += xp.astype(xp.take(images, places, axis=1), self._real) * shares
        if self._real == self._dtype:
            return turned
        return xp.astype(xp.round(turned), self._dtype)


def _cos_sin(degrees: float) -> tuple[float, float]:
    """Cosine and sine, exact at right angles, so that no pixel falls outside by rounding."""
    if degrees % 90:
        return math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return ((1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0))[int(degrees // 90) % 4]

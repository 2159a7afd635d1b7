"""More training samples out of those there are: turned copies, and images deformed each time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from backends import Backend, select
from backends.feeding import Feed, Resident
from backends.functions import Array
from backends.ranks import WHOLE, Share
from backends.sharded import ShardedRows
from backends.sparse import SparseRows, is_sparse

# of each setting of a `Deformation`: its unit, and the most it may be
_LIMITS = {
    "alpha": ("pixels", 1000),
    "sigma": ("pixels", 100),
    "rotate": ("degrees", 180),
    "scale": ("per cent", 90),
    "shear": ("degrees", 80),
    "shift": ("pixels", 1000),
}
# of what --augment takes: the numbers it is given, and an example
_KINDS = {
    "copies": (("rotate",), "copies:10"),
    "elastic": (("alpha", "sigma"), "elastic:34,4"),
    "rotate": (("rotate",), "rotate:15"),
    "scale": (("scale",), "scale:15"),
    "shear": (("shear",), "shear:10"),
    "shift": (("shift",), "shift:2"),
}
_MAPS, _FIELDS = 2**31, 2**31 + 1  # in place of a layer's number, of what is drawn
_COPIES = 256  # of `DeformedCopies` that are drawn at once
_IMAGES = 1024  # deformed at a time, on every device, as what is drawn follows from it
_PIXELS = 1024  # of an image; of larger ones fewer are deformed at a time


def read_augment(texts: Sequence[str]) -> tuple[list[float], dict[str, float]]:
    """Read what ``--augment`` was given, for `with_turned_copies` and for `Deformation`.

    It takes ``copies:DEGREES``, any number of them, and once each ``elastic:ALPHA,SIGMA``,
    ``rotate:DEGREES``, ``scale:PERCENT``, ``shear:DEGREES`` and ``shift:PIXELS``.

    Raises
    ------
    ValueError
        If one is none; one line with what was given and what was wanted.
    """
    copies: list[float] = []
    settings: dict[str, float] = {}
    for text in texts:
        kind, _, value = text.partition(":")
        if kind not in _KINDS:
            examples = ", ".join(example for _, example in _KINDS.values())
            raise ValueError(
                f"--augment {text}: expected one of {examples};"
                " for several, several times --augment"
            )
        names, example = _KINDS[kind]
        if kind != "copies" and names[0] in settings:
            raise ValueError(f"--augment {text}: expected {kind} once, such as {example}")
        try:
            numbers = dict(zip(names, map(float, value.split(",")), strict=True))
        except ValueError:
            numbers = dict.fromkeys(names, math.nan)
        if not all(0 < number <= _LIMITS[name][1] for name, number in numbers.items()):
            wanted = "α and σ in pixels," if kind == "elastic" else _LIMITS[names[0]][0]
            most = " and ".join(str(_LIMITS[name][1]) for name in names)
            raise ValueError(
                f"--augment {text}: expected {wanted} above 0 and at most {most}, such as {example}"
            )
        if kind == "copies":
            copies.append(numbers["rotate"])
        else:
            settings |= numbers
    return copies, settings


def check_dense(values: Any, name: str) -> None:
    """Raise ValueError if images are sparse: turned or deformed they would not be."""
    if is_sparse(values) or isinstance(values, SparseRows):
        raise ValueError(
            f"{name} is sparse: images are turned and deformed dense, take {name}.toarray()"
        )


def with_turned_copies(
    backend: Backend | str,
    values: Any,
    labels: Any,
    image_shape: tuple[int, int],
    degrees: Sequence[float],
    background: float = 0.0,
) -> tuple[Array, Array]:
    """Return each image followed by two copies turned by some degrees, on the device.

    As in *Make Your Own Neural Network* (2016), part 3: an image, the same turned by +10 degrees,
    the same by -10, then the next image.

    Parameters
    ----------
    backend : Backend or str
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
    values, labels : device arrays, of n * (1 + 2 * len(degrees)) rows
        In their dtype; integers are rounded.
    """
    check_dense(values, "values")
    if isinstance(values, ShardedRows):
        raise ValueError(
            "augment=copies: turned copies would have to be in memory, and shards are not: take"
            f" augment=rotate:{max(degrees):g}, which turns images anew each epoch"
        )
    backend = select(backend)
    xp = backend.xp
    angles = [sign * angle for angle in degrees for sign in (1, -1)]
    held = backend.place_samples(values)
    n, features = held.shape
    dtype = backend.asarray(held[:1, :]).dtype
    copies = xp.empty((n, 1 + len(angles), features), dtype=dtype)
    for rows in backend.chunks(held):
        images = backend.asarray(held[rows, :])
        copies[rows, 0, :] = images
        for number, angle in enumerate(angles, 1):
            copies[rows, number, :] = rotate(backend, images, image_shape, angle, background)
    codes = xp.repeat(backend.asarray(labels), 1 + len(angles))
    return xp.reshape(copies, (-1, features)), codes


def rotate(
    backend: Backend | str,
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

    The images (n, height * width) and what comes back have one dtype, integers are rounded. It
    turns counter-clockwise, with the first row at the top.
    """
    backend = select(backend)
    xp, images = backend.xp, backend.asarray(images)
    dtype = images.dtype
    real = dtype if xp.isdtype(dtype, "real floating") else xp.float32
    height, width = image_shape
    cosine, sine = _cos_sin(degrees)
    y_middle, x_middle = (height - 1) / 2, (width - 1) / 2
    y_offset = y_middle - (cosine * y_middle + sine * x_middle)
    x_offset = x_middle - (-sine * y_middle + cosine * x_middle)
    pixels = xp.arange(height * width)
    row, column = (xp.astype(at, xp.float64) for at in (pixels // width, pixels % width))
    y = y_offset + row * cosine + column * sine
    x = x_offset - row * sine + column * cosine
    inside = (y >= 0) & (y <= height - 1) & (x >= 0) & (x <= width - 1)
    zero = xp.zeros_like(y)
    y, x = xp.where(inside, y, zero), xp.where(inside, x, zero)
    top, left = xp.floor(y), xp.floor(x)
    low, right = y - top, x - left
    bottom = xp.where(top < height - 1, top + 1, top)
    far = xp.where(left < width - 1, left + 1, left)
    outside = xp.astype(xp.where(inside, zero, zero + background), real)
    turned = xp.zeros(images.shape, dtype=real) + outside
    for i, j, share in (
        (top, left, (1 - low) * (1 - right)),
        (top, far, (1 - low) * right),
        (bottom, left, low * (1 - right)),
        (bottom, far, low * right),
    ):
        places = xp.astype(i * width + j, xp.int64)
        shares = xp.astype(xp.where(inside, share, zero), real)
        turned += xp.astype(xp.take(images, places, axis=1), real) * shares
    return turned if real == dtype else xp.astype(xp.round(turned), dtype)


def _cos_sin(degrees: float) -> tuple[float, float]:
    """Cosine and sine, exact at right angles, so that no pixel falls outside by rounding."""
    if degrees % 90:
        return math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return ((1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0))[int(degrees // 90) % 4]


@dataclass(frozen=True)
class Deformation:
    """How images are deformed, every time anew, when they are trained on.

    Every image is turned, scaled, sheared and shifted about its centre, and its pixels are
    displaced by a smooth random field; all of it is one look-up of every pixel (see
    `Backend.deform`), with the background where it comes from outside.

    The elastic field is that of Simard, Steinkraus and Platt, *Best Practices for Convolutional
    Neural Networks Applied to Visual Document Analysis* (2003), section 2: displacements by row
    and by column, uniform in [-1, 1] at every pixel, convolved with a Gaussian of standard
    deviation σ and multiplied by α. The Gaussian is normalised to a sum of 1 over the whole plane,
    and the displacements outside of the image count as 0. Away from the edges a displacement then
    has the standard deviation α / (2σ√(3π)): with the paper's σ = 4 and α = 34 it is 1.4 pixels.
    The paper also speaks of normalising the field "to a norm of 1"; on its images of 29×29 pixels
    that is 34/29 = 1.2 pixels in the root mean square, so the two readings hardly differ there.
    Cireşan, Meier, Gambardella and Schmidhuber, *Deep, Big, Simple Neural Nets for Handwritten
    Digit Recognition* (2010), take σ = 5 to 6 and α = 36 to 38, beside rotations of up to 15
    degrees and scaling by up to 15 to 20 per cent.

    Attributes
    ----------
    image_shape : tuple of int
        (height, width).
    background : float
        What shows up at the edges: the low end of the data's value range.
    alpha, sigma : float
        α, 0 for no elastic field, and σ, both in pixels.
    rotate : float
        The most degrees that an image is turned by, either way.
    scale : float
        The most per cent that its height and, by itself, its width grow or shrink by.
    shear : float
        The most degrees that its vertical lines are slanted by, either way.
    shift : float
        The most pixels that it is moved up or down, and left or right.

    All are drawn evenly.

    Raises
    ------
    ValueError
        If a number is out of its range.
    """

    image_shape: tuple[int, int]
    background: float = 0.0
    alpha: float = 0.0
    sigma: float = 4.0
    rotate: float = 0.0
    scale: float = 0.0
    shear: float = 0.0
    shift: float = 0.0

    def __post_init__(self) -> None:
        for name, (unit, most) in _LIMITS.items():
            value = getattr(self, name)
            if not 0 <= value <= most or (name == "sigma" and value == 0):
                least = "above 0" if name == "sigma" else "of 0 or more"
                raise ValueError(f"{name}={value}: expected {unit} {least} and at most {most}")


class Deformer:
    """Deforms images on a device; whatever it draws follows from a key.

    Images of the dtype float64 are deformed in float64, all others in float32. Randomness is drawn
    for `size` images at once, by default as many as any device computes fast.
    """

    def __init__(
        self, backend: Backend, deformation: Deformation, dtype: Any, size: int | None = None
    ) -> None:
        xp = backend.xp
        pixels = math.prod(deformation.image_shape)
        self.size = size or max(1, _IMAGES * _PIXELS // max(_PIXELS, pixels))
        self.backend, self._deformation = backend, deformation
        self._real = xp.float64 if dtype == xp.float64 else xp.float32
        # the noise is from -1/2 to 1/2
        height, width = deformation.image_shape
        self._down = xp.asarray(
            _gaussian(height, deformation.sigma, 2 * deformation.alpha), dtype=self._real
        )
        self._across = xp.asarray(_gaussian(width, deformation.sigma, 1.0), dtype=self._real)
        self._drawn: tuple[tuple[int, ...], Array, Array | None] | None = None

    def __call__(self, values: Array, key: tuple[int, ...], first: int = 0) -> Array:
        """Deform images, the first of which is number `first` of the `size` that the key is for.

        They are (n, height * width) and keep their dtype; integers are rounded.
        """
        if self._drawn is None or self._drawn[0] != key:
            self._drawn = (key, *self._draw(key, 0, self.size))
        _, maps, fields = self._drawn
        stop = first + values.shape[0]
        part = None if fields is None else fields[first:stop, :, :, :]
        return self._deformed(values, maps[first:stop, :, :], part)

    def run(self, values: Array, key: tuple[int, ...], first: int, *, alone: bool = False) -> Array:
        """Deform images that follow each other from number `first` on, of any number of them.

        Every `size` of them have a key of their own, this one and their number. `alone` draws for
        these images only, where no others of theirs will be asked for.
        """
        parts, size, stop = [values[:0, :]], self.size, first + values.shape[0]
        for block in range(first // size, -(-stop // size)):
            start, end = max(first, block * size), min(stop, (block + 1) * size)
            images, of_block = values[start - first : end - first, :], (*key, block)
            at = start - block * size
            if alone:
                parts.append(self._deformed(images, *self._draw(of_block, at, end - start)))
            else:
                parts.append(self(images, of_block, at))
        return self.backend.xp.concat(parts)

    def _deformed(self, values: Array, maps: Array, fields: Array | None) -> Array:
        images = self.backend.xp.reshape(values, (-1, *self._deformation.image_shape))
        background = self._deformation.background
        deformed = self.backend.deform(images, maps, fields, background)
        return self.backend.xp.reshape(deformed, values.shape)

    def _draw(self, key: tuple[int, ...], first: int, n: int) -> tuple[Array, Array | None]:
        """Draw the maps and the fields of n images, as `Backend.deform` takes them."""
        backend, how = self.backend, self._deformation
        maps = self._maps(2 * backend.noise(key, _MAPS, n, 6, self._real, first))
        if not how.alpha:
            return maps, None
        units = 2 * math.prod(how.image_shape)
        drawn = backend.noise(key, _FIELDS, n, units, self._real, first)
        fields = backend.xp.reshape(drawn, (n, 2, *how.image_shape))
        return maps, backend.smooth(fields, self._down, self._across)

    def _maps(self, drawn: Array) -> Array:
        """Find where pixels come from: back from the shift, the turn, the shear and the scaling."""
        xp, how = self.backend.xp, self._deformation
        angle = math.radians(how.rotate) * drawn[:, 0]
        slant = xp.tan(math.radians(how.shear) * drawn[:, 1])
        tall, wide = 1 + how.scale / 100 * drawn[:, 2], 1 + how.scale / 100 * drawn[:, 3]
        down, across = how.shift * drawn[:, 4], how.shift * drawn[:, 5]
        cosine, sine = xp.cos(angle), xp.sin(angle)
        rows = cosine / tall, sine / tall
        columns = -(sine + slant * cosine) / wide, (cosine - slant * sine) / wide
        parts = [(by_y, by_x, -(by_y * down + by_x * across)) for by_y, by_x in (rows, columns)]
        return xp.stack([xp.stack(part, axis=1) for part in parts], axis=1)


def _gaussian(n: int, sigma: float, factor: float) -> list[list[float]]:
    """The matrix that smooths n numbers by a Gaussian, times a factor."""
    reach = range(-math.ceil(10 * sigma) - 1, math.ceil(10 * sigma) + 2)

    def weight(distance: int) -> float:
        in_sigmas = distance / sigma
        return math.exp(-0.5 * in_sigmas * in_sigmas)

    scale = factor / sum(map(weight, reach))
    return [[scale * weight(i - j) for j in range(n)] for i in range(n)]


def deformed_examples(
    backend: Backend | str, deformation: Deformation, values: Any, count: int, seed: int = 0
) -> Array:
    """Return each image as it is, and then deformed in `count` ways: (n, 1 + count, features)."""
    backend = select(backend)
    xp, images = backend.xp, backend.asarray(values)
    feed = Resident(xp, images, xp.arange(images.shape[0]))
    deformer = Deformer(backend, deformation, images.dtype)
    deformed = [DeformedFeed(feed, deformer, (seed, number)) for number in range(count)]
    rows = [part.rows(0, images.shape[0])[0] for part in deformed]
    return xp.stack([images, *rows], axis=1)


class DeformedCopies:
    """Deformed copies of images, any number of them, taken in turn: copy i is of image i mod n.

    How it is deformed follows from the seed and from i alone, on every device.

    Parameters
    ----------
    backend : Backend or str
    deformation : Deformation
    values : array, shape (n, height * width)
    seed : int
    """

    def __init__(
        self, backend: Backend | str, deformation: Deformation, values: Any, seed: int
    ) -> None:
        backend = select(backend)
        self._images, self._seed = backend.asarray(values), seed
        # not as many at once as is fast on one device: others would draw otherwise
        self._deformer = Deformer(backend, deformation, self._images.dtype, _COPIES)

    def __call__(self, first: int, stop: int) -> Array:
        """Return copies number `first` to `stop` - 1, in the images' dtype."""
        xp, n = self._deformer.backend.xp, self._images.shape[0]
        images = xp.take(self._images, xp.arange(first, stop) % n, axis=0)
        return self._deformer.run(images, (self._seed,), first)


class DeformedFeed:
    """The samples of a feed, deformed.

    What a sample becomes follows from the key and the sample's place in the epoch, however it is
    asked for. Every epoch has another key, set before it starts. Of a share it counts the places
    of all samples.
    """

    def __init__(
        self, feed: Feed, deformer: Deformer, key: tuple[int, ...] = (), share: Share = WHOLE
    ) -> None:
        self._feed, self.deformer, self.key, self._share = feed, deformer, key, share

    def start(self, order: Any) -> None:
        self._feed.start(order)

    def stop(self, first: int) -> int:
        return self._feed.stop(first)

    def rows(self, first: int, stop: int) -> tuple[Array, Array]:
        values, labels = self._feed.rows(first, stop)
        values = self.deformer.backend.asarray(values)
        alone, parts, done = self._share.ranks.count > 1, [values[:0, :]], 0
        for start, end in self._share.runs(first, stop):
            images = values[done : done + end - start, :]
            parts.append(self.deformer.run(images, self.key, start, alone=alone))
            done += end - start
        return self.deformer.backend.xp.concat(parts), labels

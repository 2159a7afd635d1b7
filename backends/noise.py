"""Random numbers that a step needs, such as which units are dropped or how an image is deformed.

They come from a counter, not from a state: what is drawn follows from its place alone, so that it
is the same on every device, for any number of threads, and after any cut.
"""

from __future__ import annotations

from typing import Any

from .functions import Array


def noise_key(key: tuple[int, ...]) -> int:
    """Return the 64 bits that several numbers, of a training and its epoch, stand for."""
    total = 0
    for number in key:
        total = (total * 0x9E3779B97F4A7C15 + number) % 2**64
    return total


def philox(xp: Any, key: int, update: int, layer: int, n: int, units: int, first: int = 0) -> Array:
    """Draw whole numbers from 0 to 65535 for n rows of a layer's units, from their place alone.

    Philox 4×32 with ten rounds (Salmon et al. 2011, *Parallel Random Numbers: As Easy as 1, 2, 3*):
    the counter (eight units, row, layer, update) becomes four words, each two of the numbers, the
    lower half first. The same on every device, for any number of threads. Rows are numbered from
    `first`.

    Returns
    -------
    array of uint64, shape (n, units)
    """

    def word(number: int) -> Array:
        return xp.asarray(number % 2**32, dtype=xp.uint64)

    low, half = word(0xFFFFFFFF), xp.asarray(32, dtype=xp.uint64)
    groups = -(-units // 8)
    row = xp.arange(first, first + n, dtype=xp.uint64)[:, None]
    group = xp.arange(groups, dtype=xp.uint64)
    zero = xp.zeros((n, groups), dtype=xp.uint64)
    a, b, c, d = group + zero, row + zero, word(layer) + zero, word(update) + zero
    first, second = key % 2**32, key >> 32
    for _ in range(10):
        p, q = word(0xD2511F53) * a, word(0xCD9E8D57) * c
        a, c = (q >> half) ^ b ^ word(first), (p >> half) ^ d ^ word(second)
        b, d = q & low, p & low
        first, second = first + 0x9E3779B9, second + 0xBB67AE85
    words = xp.stack([a, b, c, d], axis=-1)
    sixteen = xp.asarray(16, dtype=xp.uint64)
    halves = xp.stack([words & word(0xFFFF), words >> sixteen], axis=-1)
    return xp.reshape(halves, (n, 8 * groups))[:, :units]


def uniform(
    xp: Any, key: tuple[int, ...], layer: int, n: int, units: int, dtype: Any, first: int = 0
) -> Array:
    """Draw numbers from -1/2 to below 1/2, in steps of 2⁻¹⁶, for n rows of a layer's units.

    The last number of the key is that of an update, as in `philox`.
    """
    drawn = philox(xp, noise_key(key[:-1]), key[-1], layer, n, units, first)
    return (xp.astype(drawn, dtype) - 32768) / 65536

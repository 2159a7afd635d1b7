"""Random numbers from a counter: Philox 4×32 with ten rounds.

The meaning is `noise.philox`: what a row of a layer draws follows from its place alone, so that any
number of threads, in any order, draws the same.
"""

from __future__ import annotations

import numpy as np

from .compiling import compiled, part

_LOW, _HALF = np.uint64(0xFFFFFFFF), np.uint64(32)
_M0, _M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_W0, _W1 = np.uint32(0x9E3779B9), np.uint32(0xBB67AE85)


@part
def draw(key, first, row, layer, update, words):  # type: ignore[no-untyped-def]
    """Fill four words each for the counters (first + i, row, layer, update)."""
    low, high = np.uint32(key & _LOW), np.uint32(key >> _HALF)
    for i in range(words.size // 4):
        a, b = np.uint32(first + i), np.uint32(row)
        c, d = np.uint32(layer), np.uint32(update)
        k, m = low, high
        for _ in range(10):
            p, q = _M0 * np.uint64(a), _M1 * np.uint64(c)
            a, c = np.uint32(q >> _HALF) ^ b ^ k, np.uint32(p >> _HALF) ^ d ^ m
            b, d = np.uint32(q & _LOW), np.uint32(p & _LOW)
            k, m = np.uint32(k + _W0), np.uint32(m + _W1)
        words[4 * i] = a
        words[4 * i + 1] = b
        words[4 * i + 2] = c
        words[4 * i + 3] = d


@compiled
def fill_uniform(worker, workers, barrier, key, first, layer, update, out):  # type: ignore[no-untyped-def]
    """Compute `noise.uniform`, of whole groups of eight units, for rows from number `first` on."""
    n, real = out.shape[0], out.dtype.type
    words = np.empty(out.shape[1] // 2, np.uint32)
    numbers = words.view(np.uint16)
    centre, step = real(32768), real(2**-16)
    for row in range(worker * n // workers, (worker + 1) * n // workers):
        draw(key, 0, first + row, layer, update, words)
        drawn = out[row]
        for j in range(drawn.size):
            drawn[j] = (real(numbers[j]) - centre) * step

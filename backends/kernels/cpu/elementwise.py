"""Activations in vector registers.

Numba calls the C library's exponential, one number at a time. The float32 one here is a
polynomial in plain arithmetic, which LLVM turns into vector instructions (Cody and Waite 1980,
*Software Manual for the Elementary Functions*, chapter 6):

    e^x = 2^k e^r,   k = x / ln 2 rounded,   r = x - k ln 2,   |r| <= ln 2 / 2

with ln 2 in two parts, the first of which times k is exact, and e^r by the Taylor polynomial of
degree 7, whose remainder is below 6e-9. The relative error is below 1e-7 for -87 <= x <= 88; above
that the result stays at e^88, below it is 0 or as small, and NaN is NaN. In float64 it is the C
library's.
"""

from __future__ import annotations

import numpy as np
from numba import types
from numba.extending import overload

from .compiling import compiled, part

_A, _B = 1.7159, 2 / 3  # of functions.scaled_tanh
_LOG2_E = np.float32(1.4426950408889634)
_LN2_HIGH = np.float32(0.693359375)
_LN2_LOW = np.float32(-2.12194440e-4)
_LARGEST = np.float32(88)
_ROUND = np.float32(12582912)  # 1.5 · 2^23: to add it leaves the nearest whole number in the bits
_ROUND_BITS = np.int32(0x4B400000)
_C7, _C6, _C5, _C4, _C3, _C2 = (np.float32(1 / n) for n in (5040, 720, 120, 24, 6, 2))


@part
def _exp32(x):  # type: ignore[no-untyped-def]
    x = _LARGEST if x > _LARGEST else x
    x = -_LARGEST if x < -_LARGEST else x
    shifted = np.float32(x * _LOG2_E + _ROUND)
    k = shifted - _ROUND
    r = (x - k * _LN2_HIGH) - k * _LN2_LOW
    one = np.float32(1)
    p = ((((_C7 * r + _C6) * r + _C5) * r + _C4) * r + _C3) * r + _C2
    p = (p * r + one) * r + one
    power = np.int32((shifted.view(np.int32) - _ROUND_BITS + np.int32(127)) << np.int32(23))
    return p * power.view(np.float32)


def exp(x: np.floating) -> np.floating:
    """Return e^x, see above."""
    return np.exp(x)


@overload(exp)
def _exp(x):  # type: ignore[no-untyped-def]
    if x == types.float32:
        return lambda x: _exp32(x)
    return lambda x: np.exp(x)


# Loops run over views from 0 on: an index that might be negative keeps LLVM from vectorising them.
@part
def activate(code, numbers, start, n):  # type: ignore[no-untyped-def]
    """Replace n numbers, from `start` on, by their activations."""
    z = numbers[start : start + n]
    zero, one = z.dtype.type(0), z.dtype.type(1)
    if code == 0:
        for j in range(z.size):
            z[j] = one / (one + exp(-z[j]))
    elif code == 1 or code == 3:
        two, a, b = one + one, z.dtype.type(_A), z.dtype.type(2 * _B)
        height, steepness = (one, two) if code == 1 else (a, b)
        for j in range(z.size):
            z[j] = height * (two / (one + exp(-steepness * z[j])) - one)
    else:
        for j in range(z.size):
            z[j] = zero if z[j] < zero else z[j]  # NaN stays NaN


@part
def times_slope(code, kept, delta):  # type: ignore[no-untyped-def]
    """Compute delta *= f'(z), written in the activations f(z)."""
    one, zero = kept.dtype.type(1), kept.dtype.type(0)
    if code == 0:
        for j in range(delta.size):
            delta[j] *= kept[j] * (one - kept[j])
    elif code == 1 or code == 3:
        scaled = kept.dtype.type(_B / _A), kept.dtype.type(_A * _A)
        ratio, most = (one, one) if code == 1 else scaled
        for j in range(delta.size):
            delta[j] *= ratio * (most - kept[j] * kept[j])
    else:
        for j in range(delta.size):
            delta[j] = delta[j] if kept[j] > zero else zero


@part
def add(factor, row, sums):  # type: ignore[no-untyped-def]
    """Add: sums += factor · row."""
    for j in range(sums.size):
        sums[j] += factor * row[j]


@compiled
def activate_all(code, numbers):  # type: ignore[no-untyped-def]
    """Apply `activate` to a whole array of one dimension."""
    activate(code, numbers, 0, numbers.size)

"""Random numbers that a step needs, such as how an image is deformed: drawn on the device."""

from __future__ import annotations

import math
from typing import Any, Protocol

import numpy as np

from .functions import Array


class Noise(Protocol):
    """A generator whose numbers follow from its key: on one device the same, on others not."""

    def uniform(self, shape: tuple[int, ...], dtype: Any) -> Array:
        """Draw numbers from 0 to below 1, even to 16 bits or more, in float32 or float64."""


class HostNoise:
    """NumPy's fastest generator, for an `xp` whose `asarray` takes host arrays."""

    def __init__(self, xp: Any, key: tuple[int, ...]) -> None:
        self._xp = xp
        self._generator = np.random.Generator(np.random.SFC64(np.random.SeedSequence(key)))

    def uniform(self, shape: tuple[int, ...], dtype: Any) -> Array:
        if dtype == self._xp.float64:
            return self._xp.asarray(self._generator.random(shape))
        # four numbers a draw take a third of the time of `random(shape, np.float32)`
        count = math.prod(shape)
        drawn = self._generator.integers(0, 2**64, -(-count // 4), dtype=np.uint64)
        numbers = drawn.view(np.uint16)[:count].astype(np.float32)
        numbers *= np.float32(2**-16)
        return self._xp.asarray(numbers.reshape(shape))

"""The 8×8 digits that scikit-learn carries."""

from __future__ import annotations

import numpy as np

from .dataset import Source, split


def read_digits() -> Source:
    """Return the 1797 digits, uint8 pixels 0…16, split 80/20 with a fixed seed."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    parts = split((x.astype(np.uint8), y.astype(np.int64)), "digits")
    return Source("digits", "digits", "digits", *parts, image_shape=(8, 8), pixel_range=(0.0, 16.0))

"""The 8×8 digits that scikit-learn carries."""

from __future__ import annotations

import numpy as np

from .dataset import Source, split


def read_digits() -> Source:
    """Return the 1797 8×8 digits, split 80/20 with a fixed seed.

    Returns
    -------
    Source
        Pixels 0…16, uint8.
    """
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    train, test = split((x.astype(np.uint8), y.astype(np.int64)), "digits")
    return Source(
        name="digits",
        kind="digits",
        source="digits",
        train=train,
        test=test,
        image_shape=(8, 8),
        pixel_range=(0.0, 16.0),
    )

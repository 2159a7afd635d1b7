"""Images as in exercise 4 of Ng's *Machine Learning* (2011): 5,000 of 20×20 pixels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .dataset import Samples, Source, square

NAME = "ex4"
_A_CLASS = 500
_WHOLE, _CENTRE = (28, 28), (20, 20)
_INNER = slice(4, 24)


def cut(source: Source) -> Source:
    """Cut MNIST's images to their central 20×20, and keep 500 of each class to train on.

    Of each class they are the first 500, in their order; all test images are kept. MNIST's digits
    were drawn into 20×20 pixels before they were centred in 28×28. What holds no images of 28×28,
    such as the exercise's own file, is returned as it is.
    """
    if (source.image_shape or square(source.train[0].shape[1])) != _WHOLE:
        return source
    x, y = source.train
    rows = [np.flatnonzero(y == label)[:_A_CLASS] for label in np.unique(y)]
    kept = np.sort(np.concatenate(rows))
    return replace(
        source,
        name=NAME,
        kind=NAME,
        source=f"{NAME}:{source.source}",
        train=_centre((x[kept], y[kept])),
        test=None if source.test is None else _centre(source.test),
        validation=None if source.validation is None else _centre(source.validation),
        image_shape=_CENTRE,
        note=source.note or "images cut to their central 20×20, 500 a class to train on",
    )


def _centre(samples: Samples) -> Samples:
    x, y = samples
    images = x.reshape(-1, *_WHOLE)[:, _INNER, _INNER]
    return np.ascontiguousarray(images.reshape(len(x), -1)), y

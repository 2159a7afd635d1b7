"""What `--augment` asks for: read, applied, put into words and drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from backends import Backend

from .. import display
from ..augmentation import Deformation, deformed_examples, read_augment, with_turned_copies
from ..data import Dataset
from ..files import write_whole
from ..runs import Run
from . import UsageError

_DEFORMED = "deformed.png"
_EXAMPLES, _VERSIONS = 10, 9  # images in it, and how often each is there besides as it is


def parse(augment: Sequence[str]) -> tuple[list[float], dict[str, float]]:
    """Read what was typed, as `read_augment` does."""
    try:
        return read_augment(augment)
    except ValueError as error:
        raise UsageError(str(error)) from error


def with_copies(dataset: Dataset, copies: Sequence[float], backend: Backend) -> Dataset:
    """Put turned copies beside the training images; they are on the device then."""
    assert dataset.image_shape is not None
    x, y = with_turned_copies(
        backend,
        dataset.train_x,
        dataset.train_y,
        dataset.image_shape,
        copies,
        dataset.value_range[0],
    )
    backend.synchronize()
    return replace(dataset, train_x=x, train_y=y)


def copies_in_words(degrees: Sequence[float], seconds: float) -> str:
    """Say which turned copies were made, and in how many seconds."""
    angles = ", ".join(f"±{angle:g}°" for angle in degrees)
    return (
        f"each image and {2 * len(degrees)} copies of it turned by {angles}, made in"
        f" {display.three_digits(seconds)} s"
    )


def deformation_in_words(settings: dict[str, float]) -> str:
    """Say what is done to the images by the settings of a `Deformation`."""
    parts = []
    if "alpha" in settings:
        parts.append(f"elastically with α {settings['alpha']:g} and σ {settings['sigma']:g}")
    ways = {
        "rotate": "rotated by up to {:g}°",
        "scale": "scaled by up to {:g} %",
        "shear": "sheared by up to {:g}°",
        "shift": "shifted by up to {:g} pixels",
    }
    parts += [words.format(settings[name]) for name, words in ways.items() if name in settings]
    return f"deformed anew each epoch: {', '.join(parts)}"


def draw_deformed(
    folder: Run, deformation: Deformation, dataset: Dataset, backend: Backend
) -> Path:
    """Draw an image of each class and what becomes of it into a run's folder of figures."""
    from .. import figures  # matplotlib takes its time to import

    labels = backend.to_numpy(backend.asarray(dataset.train_y))
    codes, first = np.unique(labels, return_index=True)
    codes, first = codes[:_EXAMPLES], first[:_EXAMPLES]
    rows = [backend.asarray(dataset.train_x[row : row + 1, :]) for row in first.tolist()]
    examples = deformed_examples(backend, deformation, backend.xp.concat(rows), _VERSIONS)
    image = figures.deformed(
        backend.to_numpy(examples),
        deformation.image_shape,
        dataset.value_range,
        [dataset.classes[code] for code in codes.tolist()],
    )
    file = folder.figure_file(_DEFORMED)
    write_whole(file, image)
    return file

"""What `--augment` asks for: read, put into words and drawn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from backends import Backend

from .. import display
from ..augmentation import Deformation, deformed_examples
from ..data import Dataset
from ..files import write_whole
from ..running.run_folder import Run

_DEFORMED = "deformed.png"
_EXAMPLES, _VERSIONS = 10, 9  # images in it, and how often each is there besides as it is


def in_words(degrees: Sequence[float], settings: dict[str, float], seconds: float) -> str:
    """Return in words what is made of the images; the turned copies took so many seconds."""
    said = []
    if degrees:
        angles = ", ".join(f"±{angle:g}°" for angle in degrees)
        said.append(
            f"each image and {2 * len(degrees)} copies of it turned by {angles}, made in"
            f" {display.three_digits(seconds)} s"
        )
    ways = {
        "rotate": "rotated by up to {:g}°",
        "scale": "scaled by up to {:g} %",
        "shear": "sheared by up to {:g}°",
        "shift": "shifted by up to {:g} pixels",
    }
    parts = [words.format(settings[name]) for name, words in ways.items() if name in settings]
    if "alpha" in settings:
        elastic = f"elastically with α {settings['alpha']:g} and σ {settings['sigma']:g}"
        parts.insert(0, elastic)
    if parts:
        said.append(f"deformed anew each epoch: {', '.join(parts)}")
    return "; ".join(said)


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
        [str(dataset.classes[code]) for code in codes.tolist()],
    )
    file = folder.figure_file(_DEFORMED)
    write_whole(file, image)
    return file

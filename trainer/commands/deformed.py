"""A few training images, and what `--augment` makes of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..augmentation import deformed_examples, read_augment
from ..running.run_folder import Run
from ..running.starting import Job
from .figure_files import save

_FILE = "deformed.png"
_EXAMPLES, _VERSIONS = 10, 9  # images in it, and how often each is there besides as it is


def examples(job: Job) -> tuple[np.ndarray, list[int], list[float]]:
    """Return an image of each class and what becomes of it, shape (n, versions, features).

    First the image as it is, then its turned copies, then deformed versions of it; also the n codes
    and the angles of the copies, in degrees. The training must turn or deform images.
    """
    backend, dataset = job.model.backend, job.data
    angles = [sign * angle for angle in read_augment(job.recipe.augment)[0] for sign in (1, -1)]
    labels = backend.to_numpy(backend.asarray(dataset.train_y))
    codes, first = np.unique(labels, return_index=True)  # an image stands before its copies
    codes, first = codes[:_EXAMPLES], first[:_EXAMPLES]
    together = 1 + len(angles)
    rows = [backend.asarray(dataset.train_x[row : row + together, :]) for row in first.tolist()]
    shown = backend.xp.stack(rows)
    if job.deformation is not None:
        deformed = deformed_examples(backend, job.deformation, shown[:, 0, :], _VERSIONS)
        shown = backend.xp.concat([shown, deformed[:, 1:, :]], axis=1)
    return backend.to_numpy(shown), codes.tolist(), angles


def draw_deformed(folder: Run, job: Job) -> Path:
    """Draw the examples into a run's folder of figures."""
    from .. import figures  # matplotlib takes its time to import

    assert job.data.image_shape is not None
    values, codes, angles = examples(job)
    drawn = figures.deformed(
        values,
        job.data.image_shape,
        job.data.value_range,
        [str(job.data.classes[code]) for code in codes],
        angles=angles,
    )
    file = folder.figure_file(_FILE)
    save(file, drawn)
    return file

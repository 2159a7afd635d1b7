"""A few training images, and what `--augment` makes of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..augmentation import deformed_examples
from ..running.run_folder import Run
from ..running.starting import Job
from .figure_files import save

_FILE = "deformed.png"
_EXAMPLES, _VERSIONS = 10, 9  # images in it, and how often each is there besides as it is


def examples(job: Job) -> tuple[np.ndarray, list[int]]:
    """Return an image of each class and what becomes of it, (n, 1 + versions, features); n codes.

    The training must deform images.
    """
    assert job.deformation is not None
    backend, dataset = job.model.backend, job.data
    labels = backend.to_numpy(backend.asarray(dataset.train_y))
    codes, first = np.unique(labels, return_index=True)
    codes, first = codes[:_EXAMPLES], first[:_EXAMPLES]
    rows = [backend.asarray(dataset.train_x[row : row + 1, :]) for row in first.tolist()]
    deformed = deformed_examples(backend, job.deformation, backend.xp.concat(rows), _VERSIONS)
    return backend.to_numpy(deformed), codes.tolist()


def draw_deformed(folder: Run, job: Job) -> Path:
    """Draw the examples into a run's folder of figures."""
    from .. import figures  # matplotlib takes its time to import

    assert job.deformation is not None
    values, codes = examples(job)
    drawn = figures.deformed(
        values,
        job.deformation.image_shape,
        job.data.value_range,
        [str(job.data.classes[code]) for code in codes],
    )
    file = folder.figure_file(_FILE)
    save(file, drawn)
    return file

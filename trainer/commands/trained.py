"""A trained run, opened: what `evaluate` and `predict` share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from backends import Backend

from ..data import DataError, Scale, load
from ..network import MLP
from ..runs import Run, RunError
from . import UsageError, choose


class TrainedRun:
    """A run's network on a device, and what it was trained on.

    Parameters
    ----------
    path : Path
        The run's folder.
    device : str
        As `backends.select` takes it.

    Raises
    ------
    RunError, WeightFileError, UsageError, BackendUnavailable
        If one of them cannot be had, or they do not belong together.
    """

    def __init__(self, path: Path, device: str) -> None:
        folder = Run.open(path)
        self.path = path
        self.data: dict[str, Any] = folder.config["data"]
        self.backend: Backend = choose(device)
        self.model = MLP.load(folder.model_file, backend=self.backend)
        self.classes = tuple(self.data["classes"])
        shape = self.data["image_shape"]
        self.image_shape: tuple[int, int] | None = None if shape is None else tuple(shape)
        pixels = self.features if shape is None else shape[0] * shape[1]
        if (len(self.classes), pixels) != (self.model.sizes[-1], self.features):
            raise RunError(
                f"{folder.model_file}: a network of {self.features} inputs and "
                f"{self.model.sizes[-1]} outputs; config.json speaks of {pixels} and "
                f"{len(self.classes)}: they are not of one run"
            )

    @property
    def features(self) -> int:
        """The network's inputs."""
        return self.model.sizes[0]

    @property
    def scale(self) -> Scale:
        """Of the values that it was trained on."""
        return Scale(self.data["dtype"], *self.data["value_range"])

    def test_part(self) -> tuple[np.ndarray, np.ndarray, str]:
        """Load the test samples, their codes and the data's name, as the training had them.

        Raises
        ------
        UsageError
            If the data is gone or is not what it was.
        """
        recorded = self.data
        try:
            data = load(recorded["source"], recorded["test_source"])
        except DataError as error:
            raise UsageError(
                f"{self.path}: the data it was trained on cannot be read again ({error}); "
                "name other data with --data"
            ) from error
        now = (data.classes, data.test_x.shape, str(data.test_x.dtype))
        then = (self.classes, (recorded["test_samples"], self.features), recorded["dtype"])
        if now != then:
            raise UsageError(
                f"{self.path}: {recorded['source']} has changed since the training: it had "
                f"{then[1][0]:,} test samples of {then[1][1]} features and {len(then[0])} classes, "
                f"now {now[1][0]:,} of {now[1][1]} and {len(now[0])}; name other data with --data"
            )
        return data.test_x, data.test_y, data.name

    def outputs(self, x: np.ndarray) -> np.ndarray:
        """Answer samples (n, features) with one output a class, on the host."""
        return self.backend.to_numpy(self.model.predict_proba(x))

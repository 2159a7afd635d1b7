"""`--log tensorboard`: what a training writes for TensorBoard at the end of every epoch."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np

from ..explain import backquery
from ..exports.tensorboard import EventFile, require
from ..running.run_folder import Run, RunError
from ..running.starting import Job
from .deformed import examples

LOGS = ("tensorboard",)
FOLDER = "tensorboard"
_NUMBERS = (
    "train_loss",
    "train_accuracy",
    "test_accuracy",
    "validation_accuracy",
    "epoch_seconds",
    "learning_rate",
)
_COLUMNS = 10  # of images side by side


def check_log(log: str | None) -> None:
    """Raise UsageError, with what to install, unless such a log, or none, can be written."""
    if log is not None:
        require()


class TrainingLog:
    """A training's numbers, weights and pictures in its run's folder, for TensorBoard.

    Its epochs before, if nothing is there of them, are taken from metrics.jsonl.
    """

    def __init__(self, folder: Run, job: Job, epochs_before: int) -> None:
        from threadpoolctl import ThreadpoolController

        self._job, self._blas = job, ThreadpoolController()
        logs = folder.subfolder(FOLDER)
        is_new = not any(logs.iterdir())
        self._file = EventFile(logs, 1 if is_new else epochs_before + 1)
        if is_new and job.deformation is not None:
            flat = examples(job)[0].reshape(-1, job.data.train_x.shape[1])
            low, high = job.data.value_range
            tiled = _tiled(flat, low, high, job.deformation.image_shape)
            self._file.add(0, {}, images={"deformed": tiled})
        if is_new and epochs_before:
            with suppress(RunError):  # where it was too damaged to be restored
                for metrics in folder.metrics():
                    self._file.add(metrics["epoch"], _numbers(metrics))

    def epoch(self, metrics: dict[str, Any]) -> None:
        """Write an epoch that has ended: the line of metrics.jsonl, the weights, a backquery."""
        job, model = self._job, self._job.model
        if job.training is not None:
            metrics = metrics | {"learning_rate": job.training.last_rate}
        arrays = dict(zip(model.names, model.get_weights(), strict=True))
        images, shape = {}, job.data.image_shape
        if shape is not None:
            # activations may have no inverse; and BLAS' threads, once they have worked, keep their
            # cores for a while, which the next epoch would do without
            with suppress(ValueError), self._blas.limit(limits=1, user_api="blas"):
                asked = backquery(model, value_range=job.data.value_range)
                low, high = (f(asked.values, axis=1, keepdims=True) for f in (np.nanmin, np.nanmax))
                images["backquery"] = _tiled(asked.values, low, high, shape)
        self._file.add(metrics["epoch"], _numbers(metrics), arrays, images)


def _numbers(metrics: dict[str, Any]) -> dict[str, float]:
    return {name: metrics[name] for name in _NUMBERS if metrics.get(name) is not None}


def _tiled(values: np.ndarray, low: Any, high: Any, shape: tuple[int, int]) -> np.ndarray:
    """Lay images (n, features) side by side, low black and high white, as (height, width) uint8."""
    height, width = shape
    span = np.where(np.asarray(high) > low, np.asarray(high) - low, 1.0)
    grey = np.nan_to_num(255 * np.clip((values - low) / span, 0, 1)).astype(np.uint8)
    columns = min(_COLUMNS, len(grey))
    missing = -len(grey) % columns
    tiles = np.pad(grey.reshape(-1, height, width), [(0, missing), (0, 1), (0, 1)])
    grid = tiles.reshape(-1, columns, height + 1, width + 1).swapaxes(1, 2)
    return grid.reshape(-1, columns * (width + 1))[:-1, :-1]

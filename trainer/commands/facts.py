"""What a training is about to do, in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import display
from ..metrics import largest_share
from ..recipes import augmentation
from ..running.run_folder import Run
from ..running.starting import Job
from ..settings import FULL_BATCH_METHODS, TrainingSettings, settings_of
from .words import device_words, network_words, samples_words, setting_words


def class_counts(job: Job, codes: Any) -> np.ndarray:
    """Count the samples of each class."""
    backend = job.model.backend
    host = backend.to_numpy(backend.asarray(codes))
    return np.bincount(host, minlength=len(job.data.classes))


def training_facts(job: Job, folder: Run, processes: int) -> dict[str, str]:
    """Return what is trained on what, a line each."""
    config, model = folder.config, job.model
    data, network, settings = config["data"], config["network"], config["settings"]
    matmul = model.backend.matmul
    among = f", {processes} processes with a part of each batch" if processes > 1 else ""
    products = f", {matmul} products" if matmul != "float32" else ""
    classes = data["classes"]
    parts = [
        samples_words(data),
        f"{'×'.join(map(str, data['image_shape']))} pixels" if data["image_shape"] else "",
        f"{len(classes)} classes" if len(classes) > 1 else f"one class only, {classes[0]}",
    ]
    counts = class_counts(job, job.data.train_y)
    if (share := largest_share(counts)) is not None:
        parts.append(
            f"{display.percent(share)} of the training samples are {classes[counts.argmax()]}"
        )
    smoothing = settings.get("label_smoothing")  # runs of older versions do not have it
    smoothed = f", label smoothing {smoothing:g}" if smoothing else ""
    l2 = f", l2 {settings['l2']:g}" if settings["l2"] else ""
    weighted = ", classes weighted alike" if settings.get("class_weight") == "balanced" else ""
    facts = {
        "device": device_words(model.backend) + among,
        "data": ", ".join(filter(None, parts)),
        "network": f"{network_words(model)}, {model.weight_count:,} weights, {model.dtype}"
        f"{products}",
        "recipe": f"{config['recipe']}: loss {network['loss']}{smoothed}{l2}{weighted},"
        f" {_steps(settings)}, seed {config['seed']}",
        "run": str(folder.path),
    }
    augmented = _augmented(*augmentation(job.recipe, job.data), job.turning_seconds)
    return facts | ({"augment": augmented} if augmented else {})


# what a line says of the steps in words of its own
_SAID = ("epochs", "batch_size", "learning_rate", "optimizer", "max_iterations", "schedule")
_SAID_OF_ORDER = ("shuffle", "sampling", "steps")


def _steps(settings: dict[str, Any]) -> str:
    if settings["optimizer"] in FULL_BATCH_METHODS:
        return f"{settings['optimizer']}, at most {settings['max_iterations']} iterations"
    more = ""
    for name, setting in settings_of(TrainingSettings).items():
        value = settings.get(name)  # which older versions lack
        if name not in _SAID + _SAID_OF_ORDER and value not in (None, setting.default):
            more += f" {setting_words(name, value)}"
    schedule = "" if settings["schedule"] == "constant" else f" {settings['schedule']}"
    return (
        f"{settings['optimizer']}{more}, rate {settings['learning_rate']:g}{schedule}, "
        f"batch {settings['batch_size']}, {_order(settings)}"
    )


def _order(settings: dict[str, Any]) -> str:
    if settings["sampling"] == "with-replacement":
        steps = settings["steps"]
        return f"{steps:,} steps drawn at random" if steps else "drawn at random"
    return "shuffled" if settings["shuffle"] else "file order"


def _augmented(degrees: Sequence[float], settings: dict[str, float], seconds: float) -> str:
    """Return in words what is made of the images; the turned copies took so many seconds."""
    said = []
    if degrees:
        angles = ", ".join(f"±{angle:g}°" for angle in degrees)
        said.append(
            f"each image and {2 * len(degrees)} copies of it turned by {angles}, made in"
            f" {display.three_digits(seconds)} s"
        )
    ways = {
        "alpha": "elastically with α {alpha:g} and σ {sigma:g}",
        "rotate": "rotated by up to {rotate:g}°",
        "scale": "scaled by up to {scale:g} %",
        "shear": "sheared by up to {shear:g}°",
        "shift": "shifted by up to {shift:g} pixels",
    }
    parts = [words.format(**settings) for name, words in ways.items() if name in settings]
    if parts:
        said.append(f"deformed anew each epoch: {', '.join(parts)}")
    return "; ".join(said)

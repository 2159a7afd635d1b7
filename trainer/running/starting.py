"""Assembling a training from data, network and settings, for a new run or a resumed run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol

from backends import Backend

from .. import __version__
from ..augmentation import Deformation, read_augment
from ..data import Dataset, hold_out, limited, load
from ..data.dataset import Samples
from ..network import MLP
from ..recipes import Recipe, augmented, build, changed, default_recipe, source_for
from ..training import Training, fit
from ..training.minimize import check
from ..weight_files import WeightFileError
from .checkpoints import Checkpoint
from .foreign_weights import files_of, network_of
from .recorder import training_state
from .resuming import ResumedRun, changes_since, same_data
from .run_folder import RunError
from .usage import UsageError, choose, in_options, recipe_named


class Listener(Protocol):
    """What is notified while a training is assembled."""

    def note(self, message: str) -> None:
        """Take a line for the user."""

    def downloading(self, file: str, done: int, total: int) -> None:
        """Take how many bytes of a file have been downloaded."""


@dataclass(frozen=True, eq=False)
class Job:
    """The parts of a training, on its device."""

    recipe: Recipe
    model: MLP
    data: Dataset
    held_out: Samples | None
    training: Training | None
    deformation: Deformation | None
    turning_seconds: float  # spent on making turned copies of the images


def new_training(
    listener: Listener,
    *,
    device: str,
    matmul: str,
    data: str,
    test_data: str | None,
    recipe: str | None,
    changes: dict[str, Any],
    seed: int,
    limit: int | None,
    validation: int,
    patience: int | None,
    init_from: Path | None,
) -> tuple[Job, dict[str, Any]]:
    """Assemble a new training; also return its config."""
    if patience is not None and not validation:
        raise UsageError(
            f"--patience {patience}: the test samples choose nothing; hold some training samples"
            " out for it with --validation, such as --validation 5000"
        )
    wanted = recipe_named(recipe)
    try:  # to report a mistake before anything is loaded
        read_augment(changes.get("augment", ()))
    except ValueError as error:
        raise UsageError(str(error)) from error
    backend = choose(device, matmul)
    dataset = load(
        source_for(wanted, data),
        test_data and source_for(wanted, test_data),
        on_progress=listener.downloading,
    )
    if dataset.note:
        listener.note(dataset.note)
    try:
        chosen = changed(wanted or default_recipe(dataset), changes)
    except ValueError as error:
        raise UsageError(in_options(str(error))) from error
    digits = dataset.fingerprint()

    def make(part: Dataset) -> tuple[MLP, Recipe]:
        if init_from is None:
            return build(chosen, part, backend=backend, seed=seed), chosen
        return _started(init_from, chosen, changes, part, backend, seed)

    job, part = _job(dataset, make, limit, validation, seed, None)
    config = config_of(job.recipe, part, limit, validation, seed, job.model)
    if patience is not None and job.training is None:
        raise UsageError(f"--patience {patience}: not with --optimizer {job.recipe.optimizer}")
    config["data"]["crc32"] = digits
    return job, config | {
        "patience": patience,
        "init_from": init_from and str(init_from),
    }


def resumed_training(listener: Listener, resumed: ResumedRun, device: str | None) -> Job:
    """Assemble the training of a resumed run."""
    config = resumed.config
    backend = choose(device or config["device"]["name"], config["device"]["matmul"])
    dataset = same_data(resumed.folder.path, config["data"], listener.downloading)
    checkpoint = resumed.checkpoint
    if checkpoint is not None:
        differ = changes_since(config, describe(backend))
        if differ:
            listener.note(f"numbers may be rounded otherwise from here on: {differ}")

    def make(part: Dataset) -> tuple[MLP, Recipe]:
        if checkpoint is None:
            return build(resumed.recipe, part, backend=backend, seed=config["seed"]), resumed.recipe
        return MLP.of(checkpoint.arrays, checkpoint.network, backend=backend), resumed.recipe

    recorded = config["data"]
    try:
        job, _ = _job(
            dataset,
            make,
            recorded["limit"],
            recorded["validation_samples"],
            config["seed"],
            checkpoint,
        )
    except UsageError as error:
        raise RunError(f"{resumed.folder.path}: what is there does not go on ({error})") from error
    if job.training is None:
        listener.note(
            f"{resumed.recipe.optimizer} has no memory: it starts again from the last weights"
        )
    return job


def _job(
    dataset: Dataset,
    make: Callable[[Dataset], tuple[MLP, Recipe]],
    limit: int | None,
    validation: int,
    seed: int,
    checkpoint: Checkpoint | None,
) -> tuple[Job, Dataset]:
    """Assemble samples and network; also return the samples before any were turned."""
    part, held_out = hold_out(dataset, validation)
    part = limited(part, limit)
    try:
        model, chosen = make(part)
        started = perf_counter()
        turned, deformation = augmented(chosen, part, model.backend)
        turning = perf_counter() - started
        training = None
        if chosen.sees_all_samples:
            check(model, chosen.optimizer, chosen.max_iterations)
        else:
            training = fit(
                model,
                turned.train_x,
                turned.train_y,
                chosen,
                seed=seed,
                test=(turned.test_x, turned.test_y),
                validation=held_out,
                state=None if checkpoint is None else training_state(checkpoint),
                deformation=deformation,
            )
    except (UsageError, WeightFileError):
        raise
    except ValueError as error:
        raise UsageError(in_options(str(error))) from error
    job = Job(chosen, model, turned, held_out, training, deformation, turning)
    return job, turned if limit else part


def _started(
    init_from: Path,
    recipe: Recipe,
    changes: dict[str, Any],
    dataset: Dataset,
    backend: Backend,
    seed: int,
) -> tuple[MLP, Recipe]:
    """Make the network with the weights of another, which decide its layers and biases."""
    if recipe.batch_norm:
        raise UsageError(
            f"--init-from {init_from}: with --batch-norm its layers would be normalised anew and"
            " forget what they know; omit one of the two"
        )
    model, started, _ = network_of(
        files_of([init_from.expanduser()]),
        recipe,
        dataset,
        backend=backend,
        dtype=recipe.dtype,
        seed=seed,
    )
    for name in ("hidden", "bias"):
        if name in changes and changes[name] != getattr(started, name):
            raise UsageError(
                f"--init-from {init_from}: its network has"
                f" {' → '.join(map(str, model.sizes))} units and {'' if started.bias else 'no '}"
                f"biases; omit --{name}"
            )
    return model, started


def config_of(
    recipe: Recipe,
    data: Dataset,
    limit: int | None,
    held_out: int,
    seed: int,
    model: MLP,
) -> dict[str, Any]:
    """Return what `config.json` says of every run, trained here or not."""
    return {
        "version": __version__,
        "recipe": recipe.name,
        "settings": recipe.settings(),
        "seed": seed,
        "data": {
            "name": data.name,
            "kind": data.kind,
            "source": data.source,
            "test_source": data.test_source,
            "train_samples": len(data.train_y),
            "test_samples": len(data.test_y),
            "validation_samples": held_out,
            "limit": limit,
            "image_shape": data.image_shape and list(data.image_shape),
            "classes": list(data.classes),
            "dtype": str(data.train_x.dtype),
            "value_range": list(data.value_range),
        },
        "network": model.settings(),
        "device": describe(model.backend),
    }


def describe(backend: Backend) -> dict[str, Any]:
    """Return what `config.json` says of a device."""
    return {
        "name": backend.name,
        "device_name": backend.device_name,
        "matmul": backend.matmul,
        "threads": backend.threads,
    }

"""Assembling a training from data, network and settings, for a new run or a resumed run."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol

from backends import Backend
from backends.functions import LOSSES

from .. import __version__
from ..augmentation import Deformation, read_augment
from ..data import Dataset, hold_out, limited
from ..data.dataset import Samples
from ..data.framing import Framing
from ..network import MLP
from ..parallel import Process
from ..recipes import Recipe, augmented, build, changed, for_data
from ..training import Training, fit
from ..training.minimize import check
from ..weight_files import read_stated
from .checkpoints import Checkpoint
from .foreign_weights import files_of, network_of
from .recorder import training_state
from .resuming import ResumedRun, changes_since, same_data
from .run_folder import RunError
from .usage import (
    UsageError,
    choose,
    load_for,
    load_recorded,
    recipe_named,
    samples_to_hold_out,
    usage_errors,
)

NOISE = "philox"  # how dropout and deformations are drawn
_DRAWN_OTHERWISE = "dropout and deformations are drawn in another way than"


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


_OF_DATA = ("test_data", "label", "transpose")  # options that belong to a --data
_ABOUT_DATA = {"data", *_OF_DATA}
# how data is arranged, which runs of older versions do not say
_ARRANGEMENT = ("shuffled", "has_validation_part", "transpose")


@dataclass(frozen=True)
class Basis:
    """What a file says of a training, over which the options that are typed win.

    Either it names a recipe and what differs from it, or it is the config of a run.
    """

    asked: dict[str, Any] = field(default_factory=dict)  # options that are no settings
    changes: dict[str, Any] = field(default_factory=dict)  # settings that win over the recipe's
    run: dict[str, Any] | None = None  # the config of a run
    recipe: Recipe | None = None  # that run's

    def with_typed(self, typed: dict[str, Any]) -> dict[str, Any]:
        """Return the options that are no settings; what belongs to other data is not used."""
        left_out = _OF_DATA if "data" in typed else ()
        return {k: v for k, v in self.asked.items() if k not in left_out} | typed

    def load(self, listener: Listener, typed: dict[str, Any]) -> Dataset:
        """Load what was asked for, or a run's data as that run had them."""
        if self.run is not None and not _ABOUT_DATA & typed.keys():
            dataset = load_recorded(self.run["data"], listener.downloading)
            if dataset.fingerprint() != self.run["data"]["crc32"]:
                listener.note(f"{dataset.source} has changed since that run: this is another one")
        else:
            asked = self.with_typed(typed)
            dataset = load_for(
                self.recipe or recipe_named(asked.get("recipe")),
                asked.get("data"),
                asked.get("test_data"),
                listener.downloading,
                asked.get("label"),
                asked.get("transpose", False),
            )
        for line in dataset.note.splitlines():
            listener.note(line)
        return dataset

    def arranged(self, recorded: dict[str, Any], typed: dict[str, Any]) -> dict[str, Any]:
        """Return what is recorded of data so that they are read again as a run had them."""
        if self.run is None or _ABOUT_DATA & typed.keys():
            return recorded
        unsaid = [name for name in _ARRANGEMENT if name not in self.run["data"]]
        return {name: value for name, value in recorded.items() if name not in unsaid}

    def recipe_for(self, dataset: Dataset, typed: dict[str, Any]) -> Recipe:
        """Return the recipe of this for a data set, before what was typed changes it."""
        if self.recipe is not None and "recipe" in typed:
            raise ValueError(
                f"recipe={typed['recipe']}: a run has all its settings; omit it, or type those that"
                " are to change"
            )
        if self.recipe is not None:
            return self.recipe
        own = self.asked.get("recipe")
        if own is not None and typed.get("recipe", own) != own:
            raise ValueError(
                f"recipe={typed['recipe']}: the file names recipe {own}, whose settings it changes;"
                " omit it, or take a file without a recipe"
            )
        named = recipe_named(self.with_typed(typed).get("recipe"))
        return changed(for_data(named, dataset), self.changes)


def new_training(
    listener: Listener,
    device: str,
    typed: dict[str, Any],
    changes: dict[str, Any],
    basis: Basis = Basis(),
    process: Process | None = None,
) -> tuple[Job, dict[str, Any]]:
    """Assemble a new training, or this process's part of it; also return its config.

    All options that were given are in `typed`, but those of the recipe's settings in `changes`.
    """
    asked = basis.with_typed(typed)
    seed, validation = asked.get("seed", 0), asked.get("validation", 0)
    patience, init_from = asked.get("patience"), asked.get("init_from")
    recipe_named(asked.get("recipe"))  # a mistake is told before anything is loaded
    with usage_errors(say=str):
        read_augment((basis.changes | changes).get("augment", ()))
    process = process or Process()
    backend = choose(process.device(device), asked.get("matmul", "float32"))
    dataset = basis.load(listener, typed)
    if patience is not None and not validation and dataset.validation is None:
        raise UsageError(
            f"--patience {patience}: the test samples choose nothing; hold some training samples"
            " out for it with --validation, such as --validation 5000"
        )
    with usage_errors():
        chosen = changed(basis.recipe_for(dataset, typed), changes)
    if basis.run is not None and not typed and not changes:
        if differ := changes_since(basis.run, describe(backend, process.count)):
            listener.note(f"numbers may be rounded otherwise than in that run: {differ}")
        if _draws(chosen) and basis.run.get("noise") != NOISE:
            listener.note(f"{_DRAWN_OTHERWISE} in that run: these are others")
    digits = dataset.fingerprint()
    if init_from is not None and chosen.batch_norm:
        raise UsageError(
            f"--init-from {init_from}: with --batch-norm its layers would be normalised anew and"
            " forget what they know; omit one of the two"
        )
    if init_from is not None and "recipe" not in asked:
        _check_stated(init_from, chosen, basis.changes | changes)
    job, part = _job(dataset, chosen, backend, seed, validation, process, init_from=init_from)
    if part.validation is not None:
        listener.note(
            f"{part.source} has a validation part: its {len(part.validation[1]):,} samples choose"
            " the best checkpoint and end --patience"
        )
    changes = basis.changes | changes
    for name in ("hidden", "bias", "activation"):  # which the weights of another network decide
        if name in changes and changes[name] != getattr(job.recipe, name):
            raise UsageError(
                f"--init-from {init_from}: its network has"
                f" {' → '.join(map(str, job.model.sizes))} units, {job.recipe.activation} and"
                f" {'' if job.recipe.bias else 'no '}biases; omit --{name}"
            )
    held_out = 0 if job.held_out is None else len(job.held_out[1])
    config = config_of(job.recipe, part, held_out, seed, job.model, process.count)
    if "limit" not in changes:
        for line in limit_line(job.recipe, len(dataset.train_y) - validation):
            listener.note(line)
    if patience is not None and job.training is None:
        raise UsageError(f"--patience {patience}: not with --optimizer {job.recipe.optimizer}")
    with_copies = len(job.data.train_y)  # those that are turned, where there are any
    config["data"] |= {"crc32": digits, "train_samples": with_copies}
    config["data"] = basis.arranged(config["data"], typed)
    return job, config | {"patience": patience, "init_from": init_from and str(init_from)}


def _check_stated(init_from: Path, recipe: Recipe, named: dict[str, Any]) -> None:
    """Raise UsageError if the training would guess what weights compute, or take it for another."""
    files = files_of([init_from.expanduser()])
    stated, suffix = read_stated(files), files[0].suffix.lower()
    if suffix == ".safetensors" and "activation" not in stated | named and len(recipe.hidden):
        raise UsageError(
            f"--init-from {init_from}: a state dict does not say what its units compute; add"
            " --activation"
        )
    if suffix == ".onnx" and not {"scale", "inputs"} & (stated | named).keys():
        raise UsageError(
            f"--init-from {init_from}: does not say how the inputs were scaled; add --inputs, or"
            " import it: python -m trainer import-weights"
        )
    output = stated.get("output", LOSSES[recipe.loss].output)
    if output != LOSSES[recipe.loss].output and "loss" not in named:
        loss = {"softmax": "cross_entropy", "sigmoid": "binary_cross_entropy"}[output]
        raise UsageError(
            f"--init-from {init_from}: its outputs are those of a {output}; add --loss"
            f" {stated.get('loss', loss)}, or the --loss that it is to be trained with"
        )


def resumed_training(
    listener: Listener, resumed: ResumedRun, device: str | None, process: Process
) -> Job:
    """Assemble the training of a resumed run, or this process's part of it."""
    config = resumed.config
    was = config["device"]["name"]
    if process.count > 1 and device is None and was != "cpu":
        was = "gpu"  # each process has its own
    backend = choose(process.device(device or was), config["device"]["matmul"])
    dataset = same_data(resumed.folder.path, config["data"], listener.downloading)
    recipe, checkpoint, seed = resumed.recipe, resumed.checkpoint, config["seed"]
    if checkpoint is not None and (
        differ := changes_since(config, describe(backend, process.count))
    ):
        listener.note(f"numbers may be rounded otherwise from here on: {differ}")
    if checkpoint is not None and _draws(recipe) and config.get("noise") != NOISE:
        listener.note(f"{_DRAWN_OTHERWISE} when this run began: from here on they are others")
    validation = samples_to_hold_out(config["data"])
    try:
        job, _ = _job(dataset, recipe, backend, seed, validation, process, checkpoint=checkpoint)
    except UsageError as error:
        raise RunError(f"{resumed.folder.path}: what is there does not go on ({error})") from error
    if job.training is None:
        listener.note(f"{recipe.optimizer} has no memory: it starts again from the last weights")
    return job


def _draws(recipe: Recipe) -> bool:
    return bool(recipe.dropout or recipe.input_dropout or read_augment(recipe.augment)[1])


def _job(
    dataset: Dataset,
    recipe: Recipe,
    backend: Backend,
    seed: int,
    validation: int,
    process: Process,
    *,
    checkpoint: Checkpoint | None = None,
    init_from: Path | None = None,
) -> tuple[Job, Dataset]:
    """Assemble samples and network; also return the samples before any were turned."""
    part, held_out = hold_out(dataset, validation)
    part = limited(part, recipe.limit)
    with usage_errors():
        if checkpoint is not None:
            model = MLP.of(checkpoint.arrays, checkpoint.network, backend=backend)
        elif init_from is not None:
            files = files_of([init_from.expanduser()])
            model, recipe, _ = network_of(
                files,
                recipe,
                part,
                backend=backend,
                dtype=recipe.dtype,
                seed=seed,
                to_train=True,
            )
        else:
            model = build(recipe, part, backend=backend, seed=seed)
        started = perf_counter()
        turned, deformation = augmented(recipe, part, backend)
        turning = perf_counter() - started
        training = None
        if recipe.sees_all_samples and process.count > 1:
            raise ValueError(
                f"optimizer={recipe.optimizer!r} sees all samples at every step, which"
                f" {process.count} processes do not divide: start one, without mpirun"
            )
        if recipe.sees_all_samples:
            check(model, recipe.optimizer, recipe.max_iterations)
        else:
            training = fit(
                model,
                turned.train_x,
                turned.train_y,
                recipe,
                seed=seed,
                test=(turned.test_x, turned.test_y),
                validation=held_out,
                state=None if checkpoint is None else training_state(checkpoint),
                deformation=deformation,
                ranks=process.ranks(backend),
            )
    job = Job(recipe, model, turned, held_out, training, deformation, turning)
    return job, part


def limit_line(recipe: Recipe, samples: int) -> list[str]:
    """Return a line on training samples that a recipe leaves out by itself, or none."""
    if recipe.limit is None or recipe.limit >= samples:
        return []
    return [
        f"{recipe.name}: the first {recipe.limit:,} of {samples:,} training samples; --limit N"
        " takes another number"
    ]


def config_of(
    recipe: Recipe,
    data: Dataset,
    held_out: int,
    seed: int,
    model: MLP,
    processes: int = 1,
) -> dict[str, Any]:
    """Return what `config.json` says of every run, trained here or not."""
    shape, framing = data.image_shape, None
    if shape is not None and len(data.train_y):
        framing = Framing.measured(data.train_x, shape)
    elif shape is not None:
        framing = Framing.as_mnist(shape, data.value_range, data.train_x.dtype == "uint8")
    return {
        "version": __version__,
        "recipe": recipe.name,
        "settings": recipe.settings(),
        "seed": seed,
        "data": data_of(data, held_out)
        | {
            "image_shape": shape and list(shape),
            "classes": list(data.classes),
            "dtype": str(data.train_x.dtype),
            "value_range": list(data.value_range),
            "columns": data.columns and data.columns.as_json(),
            "framing": framing and framing.as_json(),
        },
        "network": model.settings(),
        "noise": NOISE,
        "device": describe(model.backend, processes),
    }


def data_of(data: Dataset, held_out: int) -> dict[str, Any]:
    """Return what `config.json` says of the data of every run and every sweep."""
    return {
        "name": data.name,
        "kind": data.kind,
        "source": data.source,
        "test_source": data.test_source,
        "label": data.label,
        "transpose": data.transpose,
        "train_samples": len(data.train_y) or None,  # None where none have been looked at
        "test_samples": len(data.test_y) or None,
        "validation_samples": held_out,
        "has_validation_part": data.validation is not None,
        "shuffled": data.is_shuffled,
        "tests_on_training": data.tests_on_training,
    }


def describe(backend: Backend, processes: int = 1) -> dict[str, Any]:
    """Return what `config.json` says of a device, and of how many processes have one each."""
    several = {"processes": processes} if processes > 1 else {}
    return several | {
        "name": backend.name,
        "device_name": backend.device_name,
        "matmul": backend.matmul,
        "threads": backend.threads,
    }

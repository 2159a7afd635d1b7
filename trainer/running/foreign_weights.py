"""Weights that other programs have trained, made into a network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np

from backends import Backend

from ..data import Dataset
from ..network import MLP
from ..recipes import OF_MLP, RECIPES, Recipe, build, unseen_data
from ..weight_files import (
    MODEL_FILE,
    SUFFIXES,
    ForeignFileError,
    ShapeError,
    from_matlab,
    read_safetensors,
    read_weights,
    weight_files,
)
from .usage import UsageError, choose, load_for, recipe_named, usage_errors


def are_weights(path: Path) -> bool:
    """Return whether this is a file of weights, or a folder of them that is not a run."""
    if path.is_dir():
        files = [] if (path / "config.json").exists() else path.iterdir()
        return any(file.suffix.lower() in SUFFIXES for file in files)
    return path.is_file() and path.suffix.lower() in SUFFIXES


def files_of(paths: Sequence[Path]) -> list[Path]:
    """Return the files that paths stand for: runs, weight files or folders of them."""
    found = (
        [path / MODEL_FILE] if (path / "config.json").exists() else weight_files(path)
        for path in paths
    )
    return list(chain.from_iterable(found))


def open_weights(
    files: Sequence[Path],
    recipe_name: str | None,
    device: str,
    data: str | None,
    test_data: str | None = None,
    *,
    transposed: bool | None = None,
    transpose: bool = False,
    few_classes: bool = False,
) -> tuple[MLP, Recipe, Dataset]:
    """Load weights, as `network_of` does, for the data that was named or that is their recipe's.

    They need the name of a recipe, except a file that says as much itself. Where no data is named,
    what must be known of it follows from the recipe, and the data set that is returned has no
    samples, unless it is the digits, by which inputs are standardised.
    """
    recipe = recipe_named(recipe_name)
    if recipe is None and not (len(files) == 1 and _is_ours(files[0])):
        raise UsageError(
            f"{', '.join(map(str, files))}: weights alone do not say what their units compute and"
            " how the inputs were scaled; add a recipe that does, such as --recipe book (see:"
            " python -m trainer recipes)"
        )
    backend = choose(device)
    own = "mnist" if recipe is None else recipe.data
    if data is not None or test_data is not None:
        dataset = load_for(recipe, data or own, test_data, transpose=transpose)
    elif recipe is None or recipe.inputs != "standardised":
        dataset = unseen_data(own)
    elif own == "digits":  # which are on every machine
        dataset = load_for(recipe, own, None)
    else:
        raise UsageError(
            f"--recipe {recipe_name}: its inputs are standardised by the data that it was trained"
            " on, which weights alone do not hold; name that data with --data"
        )
    return network_of(
        files, recipe, dataset, backend=backend, transposed=transposed, few_classes=few_classes
    )


def network_of(
    files: Sequence[Path],
    recipe: Recipe | None,
    dataset: Dataset,
    *,
    backend: Backend,
    transposed: bool | None = None,
    dtype: str | None = None,
    seed: int = 0,
    few_classes: bool = False,
) -> tuple[MLP, Recipe, Dataset]:
    """Load weights into a recipe's network for a data set.

    The recipe says all that the files do not; it is None for a file that `train` wrote. The dtype
    is the files' own if not given. With `few_classes`, a network of ten digits may come with data
    that lacks some. Of a data set without samples the images may have another size. Return also
    the recipe with the network's own settings, and the data with all its classes.
    """
    is_unseen = not len(dataset.train_y)
    inputs, classes = dataset.train_x.shape[1], dataset.classes
    outputs = {len(classes)}
    if few_classes and all(isinstance(label, int) and 0 <= label < 10 for label in classes):
        outputs.add(10)
    if recipe is None:
        model = MLP.load(files[0], backend=backend)
        network = model.settings()
        settings = {name: network[name] for name in OF_MLP}
        settings["inputs"] = "standardised" if model.spec.scale.ndim else "scaled"
        recipe = replace(RECIPES["rashid"], hidden=model.sizes[1:-1], **settings)
        if is_unseen:
            dataset = unseen_data(dataset.kind, model.sizes[0])
            inputs = dataset.train_x.shape[1]
        if model.sizes[0] != inputs or model.sizes[-1] not in outputs:
            raise UsageError(
                f"{files[0]}: a network of {model.sizes[0]} inputs and {model.sizes[-1]} outputs;"
                f" {dataset.name} has {inputs} features and {len(classes)} classes: name the data"
                " that it was trained on with --data"
            )
    else:
        try:
            weights = read_weights(
                files, inputs, outputs, transposed=transposed, or_square=is_unseen
            )
        except ShapeError as error:
            raise ShapeError(f"{error} (the data is {dataset.name}; other: --data)") from error
        if is_unseen:
            dataset = unseen_data(dataset.kind, weights.sizes[0])
        dataset = _with_all(dataset, weights.sizes[-1])
        if weights.matlab:
            weights = from_matlab(weights, dataset.image_shape, dataset.classes)
        recipe = replace(
            recipe,
            hidden=tuple(weights.sizes[1:-1]),
            bias=weights.bias,
            dtype=dtype or str(weights.arrays[0].dtype),
        )
        with usage_errors():
            model = build(recipe, dataset, backend=backend, seed=seed, saved_map=weights.input_map)
        model.set_weights(weights.arrays)
    if is_unseen:
        _check_map(model, dataset, files)
    return model, recipe, _with_all(dataset, model.sizes[-1])


def _check_map(model: MLP, dataset: Dataset, files: Sequence[Path]) -> None:
    """Raise UsageError if the input map is not one for the pixels of a data set without samples.

    Every recipe maps full ink to 1. A map for each input is taken where the data is a known one.
    """
    scale, shift = model.input_map().values()
    ink = dataset.value_range[1]
    if scale.ndim or shift.ndim:
        fits = dataset.name == dataset.kind
    else:
        fits = bool(np.isclose(ink * scale + shift, 1, rtol=1e-3))
    if not fits:
        raise UsageError(
            f"{', '.join(map(str, files))}: their inputs, {describe_input_map(model)}, are no"
            f" pixels of 0…{ink:g}; name the data that they are for with --data"
        )


def describe_input_map(model: MLP) -> str:
    """Return in words how a network scales a value before its weights see it."""
    scale, shift = model.input_map().values()
    if scale.ndim or shift.ndim:
        return "value × scale + shift, a pair for each input"
    return f"value × {float(scale):.6g} + {float(shift):.6g}"


def _with_all(dataset: Dataset, outputs: int) -> Dataset:
    """Code the digits of a data set that lacks some as they are coded among all ten."""
    if len(dataset.classes) == outputs:
        return dataset
    codes, validation = np.array(dataset.classes), dataset.validation
    return replace(
        dataset,
        classes=tuple(range(outputs)),
        train_y=codes[dataset.train_y],
        test_y=codes[dataset.test_y],
        validation=validation and (validation[0], codes[validation[1]]),
    )


def _is_ours(file: Path) -> bool:
    if file.suffix.lower() != ".safetensors":
        return False
    try:
        read_safetensors(file)
    except ForeignFileError:
        return False
    return True

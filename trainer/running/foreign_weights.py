"""Weights that other programs have trained, made into a network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from backends import Backend
from backends.functions import LOSSES

from ..data import Dataset
from ..network import MLP
from ..recipes import OF_MLP, RECIPES, Recipe, build, input_map, unseen_data
from ..weight_files import (
    MODEL_FILE,
    SUFFIXES,
    ForeignFileError,
    ShapeError,
    from_matlab,
    read_safetensors,
    read_stated,
    read_weights,
    weight_files,
)
from .usage import UsageError, choose, load_for, recipe_named, usage_errors

_FAR = 30  # what no input map takes pixels to
_OR_INPUTS = ", or import it with --inputs unit for 0…1, or scaled for 0.01…1"


def are_weights(path: Path) -> bool:
    """Return whether this is a file of weights, or a folder of them that is not a run."""
    if path.is_dir():
        files = [] if (path / "config.json").exists() else path.iterdir()
        return any(file.suffix.lower() in SUFFIXES for file in files)
    return path.is_file() and path.suffix.lower() in SUFFIXES


def is_matrix_file(path: Path) -> bool:
    """Return whether a file holds one matrix, of which a network has several."""
    return path.suffix.lower() in (".npy", ".csv") and path.is_file()


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
    inputs: str | None = None,
    activation: str | None = None,
) -> tuple[MLP, Recipe, Dataset]:
    """Load weights, as `network_of` does, for the data that was named or that is their recipe's.

    They need the name of a recipe, except a file that says as much itself; `inputs` are mapped as
    the setting of that name says, and if the file has a map, that is applied after it; where the
    file does not say so, the hidden units compute the `activation`. Where no data is named, what
    must be known of it follows from the recipe, and the data set that is returned has no samples,
    unless it is the digits, by which inputs are standardised.
    """
    recipe, where = recipe_named(recipe_name), ", ".join(map(str, files))
    is_told = recipe is not None or (len(files) == 1 and _is_ours(files[0]))
    has_map = inputs is not None
    if not is_told:
        stated = read_stated(files)
        has_map = has_map or "scale" in stated
        if "output" not in stated or not (has_map or data):
            lacking = "how the inputs were scaled"
            if "output" not in stated:
                lacking = f"what their units compute and {lacking}"
            raise UsageError(
                f"{where}: weights alone do not say {lacking}; add a recipe that does, such as"
                " --recipe book (see: python -m trainer recipes)"
                f"{_OR_INPUTS if 'output' in stated else ''}"
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
    if not is_told and not has_map and dataset.image_shape is not None:
        raise UsageError(
            f"{where}: does not say how the inputs were scaled; add a recipe that does, such as"
            f" --recipe book{_OR_INPUTS}"
        )
    if not is_told:
        recipe = RECIPES["rashid"]
    if recipe is not None and inputs is not None:
        recipe = replace(recipe, inputs=inputs)
    if recipe is not None and activation is not None:
        recipe = replace(recipe, activation=activation)
    return network_of(
        files,
        recipe,
        dataset,
        backend=backend,
        transposed=transposed,
        few_classes=few_classes,
        own_map=None if is_told or has_map else (np.array(1.0), np.array(0.0)),
        has_inputs=inputs is not None,
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
    own_map: tuple[np.ndarray, np.ndarray] | None = None,
    to_train: bool = False,
    has_inputs: bool = False,
) -> tuple[MLP, Recipe, Dataset]:
    """Load weights into a recipe's network for a data set.

    The recipe says all that the files do not; it is None for a file that `train` wrote. The dtype
    is the files' own if not given; so is the input map, if they have none. With `few_classes`, a
    network of ten digits may come with data that lacks some. If it is `to_train`, the loss and the
    outputs are the recipe's. A map in a model comes after that of the recipe if it `has_inputs`,
    which were named. Of a data set without samples the images may have another size. Return
    also the recipe with the network's own settings, and the data with all its classes.
    """
    is_unseen, stated = not len(dataset.train_y), {}
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
        stated = weights.stated
        if not is_unseen:
            _check_classes(stated.get("classes"), dataset, files)
        recipe = replace(
            recipe,
            hidden=tuple(weights.sizes[1:-1]),
            bias=weights.bias,
            dtype=dtype or str(weights.arrays[0].dtype),
            activation=stated.get("activation", recipe.activation),
        )
        if not to_train:
            recipe = _with_output(recipe, stated)
        saved_map = weights.input_map or own_map
        is_model = files[0].suffix.lower() == ".onnx" and "value_range" not in stated
        if saved_map is not None and is_model:
            saved_map = _of_pixels(saved_map, recipe, dataset, files, has_inputs=has_inputs)
        with usage_errors():
            model = build(recipe, dataset, backend=backend, seed=seed, saved_map=saved_map)
        model.set_weights(weights.arrays)
    if is_unseen and not has_inputs:
        _check_map(model, dataset, files, stated.get("value_range"))
    return model, recipe, _with_all(dataset, model.sizes[-1])


def _with_output(recipe: Recipe, stated: dict[str, Any]) -> Recipe:
    """Return the recipe with the output that files state, if they do, and a loss that fits it."""
    output = stated.get("output")
    if output is None or output == LOSSES[recipe.loss].output:
        return replace(recipe, loss=stated.get("loss", recipe.loss))
    fitting = [name for name, loss in LOSSES.items() if loss.output == output]
    loss = stated.get("loss", fitting[-1])
    return replace(recipe, output=None, loss=loss, label_smoothing=0.0)


def _of_pixels(
    own: tuple[np.ndarray, np.ndarray],
    recipe: Recipe,
    dataset: Dataset,
    files: Sequence[Path],
    *,
    has_inputs: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the input map of a model whose own may be meant for pixels that are scaled before.

    Raise UsageError if it is, and how they are scaled was not named.
    """
    if dataset.image_shape is None:
        return own
    low, high = dataset.value_range
    # of most pixels: one that is hardly ever inked may be standardised to hundreds
    reach = np.median(np.abs(own[0] * high + own[1]))
    if reach <= _FAR:
        return own
    if not has_inputs:
        raise UsageError(
            f"{files[0]}: takes pixels {low:g}…{high:g} to {reach:.0f}, so they were scaled before;"
            " import it with --inputs unit for 0…1, or scaled for 0.01…1"
        )
    scale, shift = input_map(recipe.inputs, dataset.value_range, dataset.train_x, None)
    return own[0] * scale, own[0] * shift + own[1]


def _check_classes(
    classes: Sequence[int | str] | None, dataset: Dataset, files: Sequence[Path]
) -> None:
    """Raise UsageError if the classes that files state are as many as the data's, but others."""
    theirs, ours = list(map(str, classes or ())), list(map(str, dataset.classes))
    if len(theirs) == len(ours) and theirs != ours:
        raise UsageError(
            f"{', '.join(map(str, files))}: answers the classes {', '.join(theirs[:10])};"
            f" {dataset.name} has {', '.join(ours[:10])}: name the data that it was trained on with"
            " --data"
        )


def _check_map(
    model: MLP,
    dataset: Dataset,
    files: Sequence[Path],
    value_range: tuple[float, float] | None,
) -> None:
    """Raise UsageError if the input map is not one for the pixels of a data set without samples.

    Every recipe maps full ink to 1. A map for each input is taken where the data is a known one.
    Files may state the range of the values that they are for.
    """
    scale, shift = model.input_map().values()
    ink = dataset.value_range[1]
    if value_range is not None:
        fits = tuple(value_range) == dataset.value_range
    elif scale.ndim or shift.ndim:
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

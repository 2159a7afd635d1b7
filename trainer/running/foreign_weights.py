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
from ..recipes import OF_MLP, RECIPES, Recipe, build
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
    """Load weights, as `network_of` does, with the data that was named or that is their recipe's.

    They need the name of a recipe, except a file that says as much itself.
    """
    recipe = recipe_named(recipe_name)
    if recipe is None and not (len(files) == 1 and _is_ours(files[0])):
        raise UsageError(
            f"{', '.join(map(str, files))}: weights alone do not say what their units compute and"
            " how the inputs were scaled; add a recipe that does, such as --recipe book (see:"
            " python -m trainer recipes)"
        )
    backend = choose(device)
    source = data or (None if recipe is None else recipe.data)
    dataset = load_for(recipe, source, test_data, transpose=transpose)
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
    that lacks some. Return also the recipe with the network's own settings, and the data with all
    its classes.
    """
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
        if model.sizes[0] != inputs or model.sizes[-1] not in outputs:
            raise UsageError(
                f"{files[0]}: a network of {model.sizes[0]} inputs and {model.sizes[-1]} outputs;"
                f" {dataset.name} has {inputs} features and {len(classes)} classes: name the data"
                " that it was trained on with --data"
            )
    else:
        try:
            weights = read_weights(files, inputs, outputs, transposed=transposed)
        except ShapeError as error:
            raise ShapeError(f"{error} (the data is {dataset.name}; other: --data)") from error
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
    return model, recipe, _with_all(dataset, model.sizes[-1])


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
    codes = np.array(dataset.classes)
    return replace(
        dataset,
        classes=tuple(range(outputs)),
        train_y=codes[dataset.train_y],
        test_y=codes[dataset.test_y],
    )


def _is_ours(file: Path) -> bool:
    if file.suffix.lower() != ".safetensors":
        return False
    try:
        read_safetensors(file)
    except ForeignFileError:
        return False
    return True

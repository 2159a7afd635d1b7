"""Data sets made of sources: split, coded, encoded where they are tables, and put in order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from .columns import Columns, encoded
from .dataset import (
    SPLIT_SEED,
    DataError,
    Dataset,
    Label,
    Scale,
    Source,
    code_labels,
    named_classes,
    on_scale,
    split,
    square,
)
from .framing import Framing, polarity_note
from .orientation import upright

_FEWEST_TO_SPLIT = 20  # samples; of fewer all train
_SORTED = 0.1  # so few of the changes of class that chance makes are an order by class


def build(first: Source, other: Source | None = None, *, transpose: bool = False) -> Dataset:
    """Make the data set of one source, or of one to train on and another to test on.

    Images that are stored by columns are turned, or all others with `transpose`.

    Without a test part and without another source the first's validation part tests; if it has
    none, it is split 80/20, with a fixed seed, or trains and tests as a whole if it is small. Of
    another the test part tests if it has one, else the validation part, else all of it. Training
    samples that stand by class are shuffled with a fixed seed: a network trained in that order
    would forget all but the last class.
    """
    parts, notes, tests_on_training = _parts(first, other)
    sources = [part.source for part in parts]
    places, labels = [part.place for part in parts], [part.y for part in parts]
    values, columns, lines = encoded(
        [part.x for part in parts], first.label, first.pixel_range, parts[0].columns
    )
    notes += lines
    for place, x in zip(places, values, strict=True):
        if values[0].shape[1] != x.shape[1]:
            raise DataError(
                f"{first.source} has {values[0].shape[1]} features a sample, "
                f"but {place} has {x.shape[1]}"
            )
    values, image_shape, lines = _upright(values, sources, places, columns, transpose)
    notes += lines
    if columns is not None and columns.is_image:
        value_range = (0.0, columns.high)
    elif values[0].dtype == np.uint8:
        value_range = first.pixel_range
    else:
        value_range = (float(values[0].min()), float(values[0].max()))
    if columns is None or columns.is_image:  # else each column has a scale of its own
        scale = Scale(str(values[0].dtype), *value_range)
        for i, place in enumerate(places[1:], start=1):
            values[i] = on_scale(values[i], scale, first.source, place)

    if other is not None and image_shape is not None:
        trained, tested = (Framing.measured(x, image_shape) for x in values[:2])
        notes += polarity_note(trained, tested, places[1])
    classes = _classes(places, labels)
    codes = [code_labels(y, classes, place) for place, y in zip(places, labels, strict=True)]
    for place, part in zip(places, codes, strict=True):
        notes += untrained(classes, codes[0], part, place)
    is_shuffled = stand_by_class(codes[0])
    if is_shuffled:
        order = _shuffled_order(len(codes[0]))
        values[0], codes[0] = values[0][order], codes[0][order]
        notes.append(f"{first.source} has its samples by class: they are shuffled once to train")
    train, test, *validation = zip(map(np.ascontiguousarray, values), codes, strict=True)
    return Dataset(
        name=first.name,
        train_x=train[0],
        train_y=train[1],
        test_x=test[0],
        test_y=test[1],
        image_shape=image_shape,
        classes=classes,
        value_range=value_range,
        kind=first.kind,
        source=first.source,
        test_source=None if other is None else other.source,
        columns=columns,
        label=first.label,
        note="\n".join(notes),
        is_shuffled=is_shuffled,
        tests_on_training=tests_on_training,
        validation=validation[0] if validation else None,
        column_major=first.column_major and image_shape is not None,
        transpose=transpose,
    )


class _Part(NamedTuple):
    """Samples to train, to test or to validate on, with where they are from in words."""

    source: Source
    place: str
    x: Any
    y: np.ndarray
    columns: Columns | None = None  # where these are known already


def _parts(first: Source, other: Source | None) -> tuple[list[_Part], list[str], bool]:
    """Return two or three parts, lines to show, and whether the training samples test as well."""
    train = _Part(first, first.source, *first.train)
    notes = [first.note] if first.note else []
    validation = []
    if first.validation is not None:
        validation = [_Part(first, f"{first.source} (validation)", *first.validation)]
    if other is not None:
        return (
            [train, _Part(other, other.source, *other.evaluation_part), *validation],
            notes,
            False,
        )
    place = f"{first.source} (test)"
    if first.test is not None:
        return [train, _Part(first, place, *first.test), *validation], notes, False
    if validation:
        notes.append(
            f"{first.source} has no test part: its validation part tests and chooses nothing;"
            " --validation N holds training samples out to choose by"
        )
        return [train, *validation], notes, False
    if 1 < len(train.y) < _FEWEST_TO_SPLIT:
        notes.append(
            f"{first.source} has no test part and only {len(train.y)} samples: all of them train,"
            " and the accuracy is that on these training samples"
        )
        return [train, train._replace(place=place)], notes, True
    x, columns = train.x, None
    if not isinstance(x, np.ndarray):
        # pixels are known without a training part, and arrays are split faster
        columns = Columns.of_pixels(x, first.label or "")
        x = x if columns is None else columns.encode(x)[0]
    samples, tests = split((x, train.y), first.source)
    notes.append(f"{first.source} has no test part: a fifth of it tests and does not train")
    parts = [_Part(first, train.place, *samples, columns), _Part(first, place, *tests, columns)]
    return parts, notes, False


def _upright(
    values: Sequence[np.ndarray],
    sources: Sequence[Source],
    places: Sequence[str],
    columns: Columns | None,
    transpose: bool,
) -> tuple[list[np.ndarray], tuple[int, int] | None, list[str]]:
    """Turn the images of each part that its source stores by columns; return their shape too."""
    known = square(values[0].shape[1]) if columns is None else columns.image_shape
    known = sources[0].image_shape or sources[1].image_shape or known
    turned, shapes, lines = [], [], dict[str, None]()
    for x, source in zip(values, sources, strict=True):
        x, shape, line = upright(x, source.image_shape or known, source, transpose)
        turned.append(x)
        shapes.append(shape)
        lines |= dict.fromkeys([line] if line else [])
    for place, shape in zip(places, shapes, strict=True):
        if shape != shapes[0]:
            raise DataError(f"{places[0]} has images of shape {shapes[0]}, but {place} of {shape}")
    return turned, shapes[0], list(lines)


def untrained(
    classes: tuple[Label, ...], trained: np.ndarray, codes: np.ndarray, place: str
) -> list[str]:
    """Return a line on classes that no training sample is of, if there are any among these."""
    unknown = sorted(set(np.unique(codes)) - set(np.unique(trained)))
    if not unknown:
        return []
    names = ", ".join(str(classes[code]) for code in unknown)
    samples = int(np.isin(codes, unknown).sum())
    return [
        f"no training sample is of {names}: {samples:,} of {len(codes):,} samples of"
        f" {place} can never be right"
    ]


def _classes(places: Sequence[str], labels: Sequence[np.ndarray]) -> tuple[Label, ...]:
    """Return the classes of parts, which are words in all of them or numbers."""
    named = any(map(named_classes, labels))
    for place, part in zip(places, labels, strict=True):
        if named and part.dtype.kind != "U":
            raise DataError(
                f"{place} has integer labels, the other part names: "
                f"{' and '.join(places)} do not go together"
            )
    kind = np.str_ if named else np.int64
    return tuple(np.unique(np.concatenate([part.astype(kind) for part in labels])).tolist())


def stand_by_class(codes: np.ndarray) -> bool:
    """Whether labels, of two classes or more, change much more seldom than by chance."""
    n, counts = len(codes), np.unique(codes, return_counts=True)[1]
    if len(counts) < 2:
        return False
    changes = np.count_nonzero(codes[1:] != codes[:-1])
    by_chance = (n - 1) * (1 - np.sum(counts * (counts - 1)) / (n * (n - 1)))
    few = changes <= max(len(counts) - 1, _SORTED * by_chance)
    return bool(few and changes < by_chance / 2)


def _shuffled_order(samples: int) -> np.ndarray:
    return np.random.default_rng(SPLIT_SEED).permutation(samples)


def arranged_as_before(data: Dataset) -> Dataset:
    """Return data as older versions had them: in their source's order, and always split.

    Runs of those go on with the samples that they began with.
    """
    if data.is_shuffled:
        places = np.argsort(_shuffled_order(len(data.train_y)))
        x, y = data.train_x[places], data.train_y[places]
        data = replace(data, train_x=x, train_y=y, is_shuffled=False)
    if data.tests_on_training:
        (x, y), (test_x, test_y) = split((data.train_x, data.train_y), data.source)
        data = replace(data, train_x=x, train_y=y, test_x=test_x, test_y=test_y)
        data = replace(data, tests_on_training=False)
    return data

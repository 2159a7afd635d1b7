"""Data sets made of sources: split, coded, encoded where they are tables, and put in order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

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
    where = f"{first.source} (test)" if other is None else other.source
    train, test = first.train, first.test if other is None else other.evaluation_part
    validation, of_validation = first.validation, f"{first.source} (validation)"
    columns = None
    notes = [first.note] if first.note else []
    if test is None and validation is not None:
        test, validation, where = validation, None, of_validation
        notes.append(
            f"{first.source} has no test part: its validation part tests and chooses nothing;"
            " --validation N holds training samples out to choose by"
        )
    tests_on_training = test is None and 1 < len(first.train[1]) < _FEWEST_TO_SPLIT
    if tests_on_training:
        test = first.train
        notes.append(
            f"{first.source} has no test part and only {len(train[1])} samples: all of them train,"
            " and the accuracy is that on these training samples"
        )
    elif test is None:
        x, y = first.train
        if not isinstance(x, np.ndarray):
            # pixels are known without a training part, and arrays are split faster
            columns = Columns.of_pixels(x, first.label or "")
            x = x if columns is None else columns.encode(x)[0]
        train, test = split((x, y), first.source)
        notes.append(f"{first.source} has no test part: a fifth of it tests and does not train")
    places, parts = [first.source, where], [train, test]
    if validation is not None:
        places.append(of_validation)
        parts.append(validation)
    values, labels = ([part[i] for part in parts] for i in range(2))
    values, columns, lines = encoded(values, first.label, first.pixel_range, columns)
    train_x, notes = values[0], notes + lines

    for place, x in zip(places, values, strict=True):
        if train_x.shape[1] != x.shape[1]:
            raise DataError(
                f"{first.source} has {train_x.shape[1]} features a sample, "
                f"but {place} has {x.shape[1]}"
            )
    sources = [first, other or first, first]
    known = square(train_x.shape[1]) if columns is None else columns.image_shape
    known = first.image_shape or sources[1].image_shape or known
    shapes, said = [], dict[str, None]()
    for i, (x, source) in enumerate(zip(values, sources, strict=False)):
        values[i], shape, line = upright(x, source.image_shape or known, source, transpose)
        shapes.append(shape)
        said |= dict.fromkeys([line] if line else [])
    notes += said
    train_x, image_shape, test_shape = values[0], shapes[0], shapes[1]
    if image_shape != test_shape:
        raise DataError(
            f"{first.source} has images of shape {image_shape}, but {where} of {test_shape}"
        )
    if columns is not None and columns.is_image:
        value_range = (0.0, columns.high)
    elif train_x.dtype == np.uint8:
        value_range = first.pixel_range
    else:
        value_range = (float(train_x.min()), float(train_x.max()))
    if columns is None or columns.is_image:  # else each column has a scale of its own
        scale = Scale(str(train_x.dtype), *value_range)
        for i, place in enumerate(places[1:], start=1):
            values[i] = on_scale(values[i], scale, first.source, place)

    classes = _classes(places, labels)
    codes = [code_labels(y, classes, place) for place, y in zip(places, labels, strict=True)]
    train_codes = codes[0]
    for place, part in zip(places, codes, strict=True):
        if untrained := sorted(set(np.unique(part)) - set(np.unique(train_codes))):
            names = ", ".join(str(classes[code]) for code in untrained)
            samples = int(np.isin(part, untrained).sum())
            notes.append(
                f"no training sample is of {names}: {samples:,} of {len(part):,} samples of"
                f" {place} can never be right"
            )
    is_shuffled = stand_by_class(train_codes)
    if is_shuffled:
        order = _shuffled_order(len(train_codes))
        train_x, train_codes = train_x[order], train_codes[order]
        notes.append(f"{first.source} has its samples by class: they are shuffled once to train")
    others = zip(map(np.ascontiguousarray, values[1:]), codes[1:], strict=True)
    (test_x, test_codes), *rest = others
    return Dataset(
        name=first.name,
        train_x=np.ascontiguousarray(train_x),
        train_y=train_codes,
        test_x=test_x,
        test_y=test_codes,
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
        validation=rest[0] if rest else None,
        column_major=first.column_major and image_shape is not None,
        transpose=transpose,
    )


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

"""Data sets made of sources: split, coded, encoded where they are tables, and put in order."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .columns import Columns, encoded
from .dataset import (
    SPLIT_SEED,
    DataError,
    Dataset,
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

    Without a test part and without another source the first is split 80/20, with a fixed seed, or
    trains and tests as a whole if it is small; of another the test part tests if it has one, else
    all of it. Training samples that stand by class are shuffled with a fixed seed: a network
    trained in that order would forget all but the last class.
    """
    where = f"{first.source} (test)" if other is None else other.source
    train, test = first.train, first.test if other is None else other.evaluation_part
    columns = None
    notes = [first.note] if first.note else []
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
    (train_x, train_y), (test_x, test_y) = train, test
    (train_x, test_x), columns, lines = encoded(
        train_x, test_x, first.label, first.pixel_range, columns
    )
    notes += lines

    if train_x.shape[1] != test_x.shape[1]:
        raise DataError(
            f"{first.source} has {train_x.shape[1]} features a sample, "
            f"but {where} has {test_x.shape[1]}"
        )
    tested = other or first
    shape = square(train_x.shape[1]) if columns is None else columns.image_shape
    shape = first.image_shape or tested.image_shape or shape
    train_x, image_shape, said = upright(train_x, shape, first, transpose)
    shape = tested.image_shape or shape
    test_x, test_shape, also_said = upright(test_x, shape, tested, transpose)
    notes += dict.fromkeys(filter(None, (said, also_said)))
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
        test_x = on_scale(test_x, Scale(str(train_x.dtype), *value_range), first.source, where)

    named = named_classes(train_y) or named_classes(test_y)
    for labels, origin in ((train_y, first.source), (test_y, where)):
        if named and labels.dtype.kind != "U":
            raise DataError(
                f"{origin} has integer labels, the other part names: "
                f"{first.source} and {where} do not go together"
            )
    kind = np.str_ if named else np.int64
    labels = np.concatenate([train_y.astype(kind), test_y.astype(kind)])
    classes = tuple(np.unique(labels).tolist())

    train_codes = code_labels(train_y, classes, first.source)
    test_codes = code_labels(test_y, classes, where)
    if untrained := sorted(set(np.unique(test_codes)) - set(np.unique(train_codes))):
        names = ", ".join(str(classes[code]) for code in untrained)
        samples = int(np.isin(test_codes, untrained).sum())
        notes.append(
            f"no training sample is of {names}: {samples:,} of {len(test_codes):,} samples of"
            f" {where} can never be right"
        )
    is_shuffled = stand_by_class(train_codes)
    if is_shuffled:
        order = _shuffled_order(len(train_codes))
        train_x, train_codes = train_x[order], train_codes[order]
        notes.append(f"{first.source} has its samples by class: they are shuffled once to train")
    return Dataset(
        name=first.name,
        train_x=np.ascontiguousarray(train_x),
        train_y=train_codes,
        test_x=np.ascontiguousarray(test_x),
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
        column_major=first.column_major and image_shape is not None,
        transpose=transpose,
    )


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

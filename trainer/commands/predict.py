"""`predict`: a run's answers to samples of its data, to image files or to a whole file."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
from cyclopts import Parameter

from .. import display
from ..data import DataError, prepare_digit, read_grey
from ..data.dataset import Label
from ..files import write_whole
from ..running.trained import TrainedRun
from ..running.usage import UsageError
from .options import INDEX, Device, RunOrWeights, Transpose, WeightsRecipe
from .words import sample_words

_FORMATS = ("answers", "kaggle")
_COLUMNS = ("index", "answer", "output")  # of answers, before a column a class


def run(
    path: RunOrWeights,
    /,
    *images: Path,
    index: Annotated[int | None, INDEX] = None,
    data: str | None = None,
    transpose: Transpose = False,
    out: Path | None = None,
    format: Annotated[str, Parameter(choices=_FORMATS)] = "answers",
    recipe: WeightsRecipe = None,
    device: Device = "auto",
) -> int:
    """Show what a run answers, to a test sample, to your own pictures or to a whole file.

    Parameters
    ----------
    images
        Pictures of digits, any size and kind, dark on light or light on dark; they are cut out,
        scaled and centred as MNIST's were.
    data
        Samples with or without labels: a CSV, an IDX file of images, an .npy, or what train takes.
    out
        Write the answers to all of --data into this CSV file.
    format
        Of that file. answers: each sample's number, its answer and the output of that, then the
        output of each class; kaggle: ImageId from 1 and Label, as its digits are handed in.
    """
    if format != "answers" and out is None:
        raise UsageError(f"--format {format} goes with --data FILE --out {format}.csv")
    if images and (data is not None or index is not None or out is not None):
        raise UsageError("image files go without --data, --index and --out")
    if out is not None and (data is None or index is not None):
        raise UsageError("--out goes with --data FILE: predict RUN --data FILE --out answers.csv")
    if data is not None and out is None and index is None:
        raise UsageError("--data wants --out answers.csv for all samples, or --index N for one")
    trained = TrainedRun(path, device, recipe=recipe, data=data, transpose=transpose)
    if images:
        return _show_images(trained, images)
    if out is not None and data is not None:
        _write(trained, data, out, format)
    else:
        _show_sample(trained, data, index or 0)
    return 0


def _show_sample(trained: TrainedRun, data: str | None, index: int) -> None:
    labels: np.ndarray | None
    try:
        x, labels, source = trained.labelled(data)
    except DataError:
        if data is None:
            raise
        x, labels, source = trained.unlabelled(data), None, f"samples of {data}"
    display.note(*trained.notes)
    title = sample_words(index, len(x), source)
    truth = None if labels is None else str(trained.classes[labels[index]])
    _show(trained, title, x[index], truth)


def _show_images(trained: TrainedRun, images: tuple[Path, ...]) -> int:
    code = 0
    for image in images:
        try:
            values = _read(trained, image)
        except DataError as error:  # the other pictures are still wanted
            display.error(str(error))
            code = 2
        else:
            _show(trained, str(image), values, truth=None)
    return code


def _read(trained: TrainedRun, image: Path) -> np.ndarray:
    shape = trained.image_shape
    if shape is None:
        raise UsageError(f"{image}: this run was not trained on images, so it cannot look at one")
    grey = read_grey(image)
    if trained.data["kind"] != "images":
        try:
            return prepare_digit(grey, shape, (trained.scale.low, trained.scale.high))
        except DataError as error:
            raise DataError(f"{image}: {error}") from error
    # a run on a folder of images saw them as they are, not cut out and centred
    from PIL import Image

    resized = Image.fromarray(grey).resize(shape[::-1], Image.Resampling.LANCZOS)
    return np.asarray(resized).reshape(-1)


def _show(trained: TrainedRun, title: str, values: np.ndarray, truth: str | None) -> None:
    labels = [str(label) for label in trained.classes]
    outputs = trained.outputs(values[None, :])[0]
    display.prediction(title, trained.picture(values), labels, outputs, truth)


def _write(trained: TrainedRun, data: str, out: Path, format: str) -> None:
    outputs = trained.outputs(trained.unlabelled(data))
    display.note(*trained.notes)
    answers = outputs.argmax(axis=1)
    labels = [trained.classes[answer] for answer in answers]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if format == "kaggle":
        writer.writerow(["ImageId", "Label"])
        writer.writerows(enumerate(labels, 1))
    else:
        writer.writerow(_headers(trained.classes))
        for number, (label, answer, row) in enumerate(zip(labels, answers, outputs, strict=True)):
            numbers = [f"{value:.6g}" for value in row.tolist()]
            writer.writerow([number, label, numbers[answer], *numbers])
    write_whole(out, text.getvalue().encode())
    display.line(f"{len(answers):,} answers written to {out}")


def _headers(classes: Sequence[Label]) -> list[str]:
    """Name the columns, no two alike."""
    headers = list(_COLUMNS)
    for name in map(str, classes):
        while name in headers:
            name = f"class {name}"
        headers.append(name)
    return headers

"""`predict`: a run's answers to samples of its data, to image files or to a whole file."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np

from backends import Backend

from .. import display
from ..data import DataError, load, load_labelled, load_unlabelled, prepare_digit, read_grey
from ..files import write_whole
from ..network import MLP
from ..runs import Run
from . import UsageError, choose


def run(
    path: Path,
    images: tuple[Path, ...],
    *,
    device: str,
    data: str | None,
    index: int | None,
    out: Path | None,
) -> int:
    """Show the answers, or with `out` write them to a CSV file."""
    if images and (data is not None or index is not None or out is not None):
        raise UsageError("image files go without --data, --index and --out")
    if out is not None and (data is None or index is not None):
        raise UsageError("--out goes with --data FILE: predict RUN --data FILE --out answers.csv")
    if data is not None and out is None and index is None:
        raise UsageError("--data wants --out answers.csv for all samples, or --index N for one")
    folder = Run.open(path)
    backend = choose(device)
    model = MLP.load(folder.model_file, backend=backend)
    if images:
        for image in images:
            _show(backend, model, folder.config["data"], str(image), *_read(image, folder.config))
    elif out is not None and data is not None:
        _write(backend, model, folder.config["data"], data, out)
    else:
        x, labels, source = _samples(folder.config["data"], data, model.sizes[0])
        number = index or 0
        if not 0 <= number < len(x):
            raise UsageError(f"--index {number}: expected 0 to {len(x) - 1}, the {source}")
        truth = None if labels is None else str(folder.config["data"]["classes"][labels[number]])
        title = f"sample {number} of the {source}"
        _show(backend, model, folder.config["data"], title, x[number], truth)
    return 0


def _samples(
    recorded: dict[str, Any], data: str | None, features: int
) -> tuple[np.ndarray, np.ndarray | None, str]:
    if data is None:
        dataset = load(recorded["source"], recorded["test_source"])
        x, labels, name = dataset.test_x, dataset.test_y, f"test samples of {dataset.name}"
    else:
        name = f"samples of {data}"
        try:
            x, labels = load_labelled(data, tuple(recorded["classes"]), features)
        except DataError:
            x, labels = load_unlabelled(data, features), None
    return x, labels, f"{len(x):,} {name}"


def _read(image: Path, config: dict[str, Any]) -> tuple[np.ndarray, None]:
    recorded = config["data"]
    if recorded["image_shape"] is None:
        raise UsageError(f"{image}: this run was not trained on images, so it cannot look at one")
    shape = tuple(recorded["image_shape"])
    grey = read_grey(image)
    try:
        if recorded["kind"] != "images":
            return prepare_digit(grey, shape, tuple(recorded["value_range"])), None
    except ValueError as error:
        raise UsageError(f"{image}: {error}") from error
    # a run on a folder of images saw them as they are, not cut out and centred
    from PIL import Image

    resized = Image.fromarray(grey).resize(shape[::-1], Image.Resampling.LANCZOS)
    return np.asarray(resized).reshape(-1), None


def _show(
    backend: Backend,
    model: MLP,
    recorded: dict[str, Any],
    title: str,
    values: np.ndarray,
    truth: str | None,
) -> None:
    outputs = backend.to_numpy(model.predict_proba(values[None, :]))[0]
    low, high = recorded["value_range"]
    shape = recorded["image_shape"]
    picture = None
    if shape is not None:
        picture = (values.reshape(shape).astype(np.float64) - low) / ((high - low) or 1.0)
    display.prediction(title, picture, [str(c) for c in recorded["classes"]], outputs, truth)


def _write(backend: Backend, model: MLP, recorded: dict[str, Any], data: str, out: Path) -> None:
    x = load_unlabelled(data, model.sizes[0])
    outputs = backend.to_numpy(model.predict_proba(x))
    answers = outputs.argmax(axis=1)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["index", "answer", "output"])
    for number, (answer, row) in enumerate(zip(answers, outputs, strict=True)):
        writer.writerow([number, recorded["classes"][answer], f"{row[answer]:.6g}"])
    write_whole(out, text.getvalue().encode())
    print(f"{len(answers):,} answers written to {out}")

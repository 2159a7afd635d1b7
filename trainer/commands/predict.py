"""`predict`: a run's answers to samples of its data, to image files or to a whole file."""

from __future__ import annotations

import csv
import io
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
from cyclopts import Parameter

from .. import display
from ..data import DataError, is_data_file
from ..data.dataset import Label
from ..data.image_folders import is_image
from ..files import write_whole
from ..running.foreign_weights import is_matrix_file
from ..running.run_folder import newest_run
from ..running.trained import TrainedRun
from ..running.usage import UsageError
from .figure_files import checked_file, tell_figure, write_figure
from .options import INDEX, Device, RunOrWeights, Transpose, WeightsRecipe
from .own_pictures import OwnPicture, files_of
from .words import sample_words

_FORMATS = ("answers", "kaggle")
_MOST_DRAWN = 30  # pictures in a figure


def run(
    path: RunOrWeights,
    /,
    *images: Path,
    index: Annotated[int | None, INDEX] = None,
    data: str | None = None,
    transpose: Transpose = False,
    out: Path | None = None,
    format: Annotated[str, Parameter(choices=_FORMATS)] = "answers",
    figure: Path | None = None,
    recipe: WeightsRecipe = None,
    device: Device = "auto",
) -> int:
    """Show what a run answers, to a test sample, to your own pictures or to a whole file.

    Without pictures and --data it answers a sample of the run's own test part.

        python -m trainer predict runs/r1 --index 7
        python -m trainer predict runs/r1 my_4.png --figure seen.png
        python -m trainer predict runs/r1 my_digits --out answers.csv
        python -m trainer predict runs/r1 --data new.csv --out answers.csv

    Parameters
    ----------
    images
        Pictures of one digit each, or folders of them; any size and kind, dark on light or light on
        dark, on blank or lined paper. What is drawn is cut out, scaled, centred and coloured as the
        images are that the run was trained on. A data file here is taken for --data.
    data
        Samples with or without labels: a CSV, an IDX file of images, an .npy, or what train takes.
        With pictures and weights that are no run: what those are for.
    out
        Write the answers to all of --data, or to the pictures, into this CSV file.
    format
        Of that file. answers: each sample's number or file, its answer and the output of that, then
        the output of each class; kaggle: ImageId from 1 and Label, as its digits are handed in.
    figure
        Draw each picture, what the network gets of it, and its outputs into this file, a PNG image,
        or by its suffix SVG or PDF.
    """
    _check_order(path, images)
    if len(images) == 1 and data is None and is_data_file(images[0]):
        data, images = str(images[-1]), ()
    if format != "answers" and out is None:
        raise UsageError(f"--format {format} goes with --data FILE --out {format}.csv")
    if images and (index is not None or format != "answers"):
        raise UsageError("image files go without --index and --format")
    if not images and out is not None and (data is None or index is not None):
        raise UsageError("--out goes with --data FILE: predict RUN --data FILE --out answers.csv")
    if figure is not None:
        if out is not None and not images:
            raise UsageError("--figure goes with pictures or one sample, not with all of --data")
        figure = checked_file(figure, "seen.png", "--figure ")
    if data is not None and out is None and index is None and not images:
        raise UsageError(
            f"--data {data}: wants --out answers.csv for all samples, or --index N for one; type:"
            f" python -m trainer predict {shlex.join([str(path), '--data', data])} --out"
            " answers.csv"
        )
    trained = TrainedRun(path, device, recipe=recipe, data=data, transpose=transpose)
    if images:
        if data is not None and trained.run is not None:
            raise UsageError(f"image files go without --data: {path} knows what it is for")
        display.note(*trained.assumed)
        return _show_pictures(trained, images, out, figure)
    if out is not None and data is not None:
        outputs = trained.outputs(trained.unlabelled(data))
        display.note(*trained.notes)
        _write(out, trained.classes, outputs, None, format)
    else:
        _show_sample(trained, data, index or 0, figure)
    return 0


def _check_order(path: Path, images: Sequence[Path]) -> None:
    """Raise UsageError if a picture, or a matrix of several, stands where the run is expected."""
    if is_matrix_file(path) and images and all(map(is_matrix_file, images)):
        names = shlex.join(map(str, [path, *images]))
        raise UsageError(
            f"{names}: the files of one network; make a run of them with: python -m trainer"
            f" import-weights {names} --recipe book"
        )
    if path.suffix and is_image(path) and not path.is_dir():
        names = shlex.join(map(str, [newest_run() or "RUN", path, *images]))
        raise UsageError(
            f"{path}: a picture; expected the run first: python -m trainer predict {names}"
        )


def _show_sample(trained: TrainedRun, data: str | None, index: int, figure: Path | None) -> None:
    labels: np.ndarray | None
    try:
        x, labels, source = trained.labelled(data)
    except DataError:
        if data is None:
            raise
        x, labels, source = trained.unlabelled(data), None, f"samples of {data}"
    display.note(*trained.notes)
    title = sample_words(index, len(x), source)
    outputs = trained.outputs(x[index : index + 1])
    truth = None if labels is None else str(trained.classes[labels[index]])
    _show(trained, title, x[index], outputs[0], truth)
    if figure is not None:
        _draw(trained, figure, [title], [x[index]], outputs)


def _show_pictures(
    trained: TrainedRun, images: tuple[Path, ...], out: Path | None, figure: Path | None
) -> int:
    """Show the answers one by one, those of a folder as a table; 2 if a picture is unreadable."""
    files, pictures = files_of(images), []
    has_folder = any(image.is_dir() for image in images)
    for file in files:
        try:
            pictures.append(OwnPicture.read(trained, file))
        except DataError as error:  # the other pictures are still wanted
            display.error(str(error))
    code = 0 if len(pictures) == len(files) else 2
    if not pictures:
        return code
    outputs = trained.outputs(np.stack([picture.values for picture in pictures]))
    if not has_folder:
        for picture, row in zip(pictures, outputs, strict=True):
            _show(trained, picture.name, picture.values, row, truth=None)
            if picture.remark:
                display.note(f"{picture.name}: {picture.remark}")
    names = [picture.name for picture in pictures]
    if has_folder or len(files) > 1:
        remarks = [picture.remark for picture in pictures]
        display.answers(names, list(map(str, trained.classes)), outputs, remarks, len(files))
    if out is not None:
        _write(out, trained.classes, outputs, names, "answers")
    if figure is not None:
        shown = pictures[:_MOST_DRAWN]
        values, greys = [p.values for p in shown], [p.grey for p in shown]
        _draw(trained, figure, [Path(p.name).name for p in shown], values, outputs, greys)
        if len(pictures) > _MOST_DRAWN:
            display.note(f"{figure}: the first {_MOST_DRAWN} of {len(pictures):,} pictures")
    return code


def _show(
    trained: TrainedRun, title: str, values: np.ndarray, outputs: np.ndarray, truth: str | None
) -> None:
    labels = [str(label) for label in trained.classes]
    display.prediction(title, trained.picture(values), labels, outputs, truth)


def _draw(
    trained: TrainedRun,
    file: Path,
    names: Sequence[str],
    values: Sequence[np.ndarray],
    outputs: np.ndarray,
    greys: Sequence[np.ndarray] | None = None,
) -> None:
    from .. import figures  # matplotlib takes its time to import

    drawn = figures.answers(
        names,
        values,
        outputs[: len(names)],
        image_shape=trained.image_shape,
        classes=[str(label) for label in trained.classes],
        value_range=(trained.scale.low, trained.scale.high),
        pictures=greys,
    )
    write_figure(file, drawn)
    tell_figure(drawn, fields=None, show=False, figure=file)


def _write(
    out: Path,
    classes: Sequence[Label],
    outputs: np.ndarray,
    files: Sequence[str] | None,
    format: str,
) -> None:
    """Write answers to samples, or to the pictures in these files, as a CSV file."""
    answers = outputs.argmax(axis=1)
    labels = [classes[answer] for answer in answers]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if format == "kaggle":
        writer.writerow(["ImageId", "Label"])
        writer.writerows(enumerate(labels, 1))
    else:
        writer.writerow(_headers("index" if files is None else "file", classes))
        for number, (label, answer, row) in enumerate(zip(labels, answers, outputs, strict=True)):
            name = number if files is None else files[number]
            numbers = [f"{value:.6g}" for value in row.tolist()]
            writer.writerow([name, label, numbers[answer], *numbers])
    write_whole(out, text.getvalue().encode())
    display.line(f"{len(answers):,} answers written to {out}")


def _headers(first: str, classes: Sequence[Label]) -> list[str]:
    """Name the columns, no two alike."""
    headers = [first, "answer", "output"]
    for name in map(str, classes):
        while name in headers:
            name = f"class {name}"
        headers.append(name)
    return headers

"""How a `Dataset` and the columns of a table show themselves, in a line or in a notebook."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np

from .. import html
from ..plain_text import one_line

if TYPE_CHECKING:
    from .columns import Columns
    from .dataset import Dataset

_LOOKED_AT = 5_000  # samples, in search of some of each class
_OF_A_CLASS, _CLASSES = 12, 16  # images in a row, and rows
_SIDE, _GAP = 32, 2  # screen pixels of an image about, and between two
_COLUMNS = 20  # of a table, that are listed


def line(data: Dataset) -> str:
    """Return what a dataset is, in three lines."""
    n, features = data.train_x.shape
    low, high = data.value_range
    what = f"images of {'×'.join(map(str, data.image_shape))}" if data.image_shape else "no images"
    names = [one_line(str(label))[:40] for label in data.classes]
    if len(names) > 10:
        names = [*names[:8], "…", names[-1]]
    parts = f"{n:,} training and {len(data.test_y):,} test samples"
    if data.validation is not None:
        parts += f", {len(data.validation[1]):,} for validation"
    return (
        f"Dataset({data.name!r}: {parts},\n"
        f"  {features:,} features, {what}, {data.train_x.dtype} {low:g}…{high:g},\n"
        f"  {len(data.classes):,} classes {', '.join(names)}; {data.kind} from {data.source!r})"
    )


def page(data: Dataset) -> str:
    """Return the facts, and some samples of each class or the columns of a table, as HTML."""
    low, high = data.value_range
    rows = [
        ("training samples", len(data.train_y)),
        ("test samples", len(data.test_y)),
        ("features", data.train_x.shape[1]),
        ("values", f"{data.train_x.dtype}, {low:g}…{high:g}"),
        ("classes", len(data.classes)),
        ("source", data.source),
    ]
    if data.validation is not None:
        rows.insert(2, ("validation samples", len(data.validation[1])))
    parts = [html.table(rows)]
    if data.image_shape is not None:
        parts.append(_sheet(data, data.image_shape))
    elif data.columns is not None:
        parts.append(columns_table(data.columns))
    return html.block(data.name, *parts)


def columns_table(columns: Columns) -> html.Markup:
    """Return what each column of a table is, and becomes, as HTML."""
    rows: list[tuple[object, ...]] = []
    for column in columns.columns[:_COLUMNS]:
        about = f"median {column.median:g}" if column.kind == "number" else ""
        if column.categories:
            about = ", ".join("(missing)" if c is None else c for c in column.categories)
        rows.append((column.name, column.kind, column.inputs, about))
    if (more := len(columns.columns) - _COLUMNS) > 0:
        rows.append((f"… {more:,} more", "", "", ""))
    return html.table(rows, head=("column", "kind", "inputs", ""))


def _sheet(data: Dataset, shape: tuple[int, int]) -> html.Markup:
    """Return images of each class, a row a class with its label; high values are dark."""
    from PIL import Image

    labels = data.train_y[:_LOOKED_AT]
    height, width = shape
    zoom, step = max(1, _SIDE // max(shape)), max(1, max(shape) // (2 * _SIDE))
    low, high = data.value_range
    rows, names = [], []
    for code in np.unique(labels)[:_CLASSES].tolist():
        found = np.flatnonzero(labels == code)[:_OF_A_CLASS]
        images = data.train_x[found].reshape(-1, height, width)[:, ::step, ::step].astype(float)
        large = images.repeat(zoom, axis=1).repeat(zoom, axis=2)
        gaps = [(0, _OF_A_CLASS - len(large)), (0, _GAP), (0, _GAP)]
        rows.append(np.concatenate(np.pad(large, gaps, constant_values=low), axis=1))
        names.append(data.classes[code])
    grey = 255 - 255 * (np.concatenate(rows) - low) / ((high - low) or 1.0)
    written = io.BytesIO()
    Image.fromarray(np.clip(grey, 0, 255).astype(np.uint8)).save(written, format="png")
    look = f"height:{len(rows[0])}px;line-height:{len(rows[0])}px;text-align:right"
    lines = [f'<div style="{look}">{html.text(str(name))}</div>' for name in names]
    beside = f'<div style="margin-right:8px">{"".join(lines)}</div>'
    sheet = html.image(written.getvalue(), f"samples of {len(names)} classes, a row each")
    return html.Markup(f'<div style="display:flex">{beside}<div>{sheet}</div></div>')

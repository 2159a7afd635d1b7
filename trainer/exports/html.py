"""Export as one page: the network, what it computes, and something to ask it with."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from ..data.columns import CATEGORY, LEFT_OUT, NUMBER, Column
from ..templates import read, with_script
from ..weight_files import WeightFileError
from .exported import Exported, write_file

_LARGE = 10 << 20  # bytes of a page that takes float16
_MOST_FIELDS = 200  # of a form


def write(network: Exported, out: Path) -> list[Path]:
    """Write the page of `page`.

    Raises
    ------
    WeightFileError
        As `page` does, or if `out` is no name for a file.
    """
    return write_file(out, ".html", page(network).encode())


def contents(network: Exported) -> str:
    """Return in a line what the page is."""
    kind = "a canvas to draw on" if network.image_shape is not None else "a form for the columns"
    rounded = ", weights rounded to float16" if _is_large(network) else ""
    return f"{kind} and the weights, in one page that makes no request{rounded}"


def page(network: Exported, *, asks_server: bool = False) -> str:
    """Return a page in which a person asks the network, by drawing or in a form.

    Everything is in it: it makes no request, unless it `asks_server` for answers.

    Raises
    ------
    WeightFileError
        If the images are no drawings, or there are too many columns for a form.
    """
    is_image = network.image_shape is not None
    if is_image and network.framing is None:
        raise WeightFileError(
            "--format html: the images that it was trained on are no drawings on a plain ground,"
            " so there is nothing to draw; take --format onnx"
        )
    scripts = ["network.js", "draw.js" if is_image else "form.js"]
    values = _drawn(network) if is_image else _form(network)
    title = "Draw a digit" if list(map(str, network.classes)) == list("0123456789") else "Draw"
    return with_script(
        _read("page.html"),
        "\n".join(map(_read, scripts)),
        _read("style.css"),
        connects=asks_server,
        title=title if is_image else _question(network),
        about=f"A neural network of {' → '.join(map(str, network.weights.sizes))} units"
        f" ({network.activation}), which computes in this page alone.",
        body=Markup(_read("draw.html" if is_image else "form.html")),
        network=Markup(_as_json(_numbers(network) | values | {"ask": asks_server})),
    )


def _question(network: Exported) -> str:
    """Return what a form answers: the column that was the label."""
    label = "" if network.columns is None else network.columns.label
    return f"Predict {label}" if label else "Ask the network"


def _read(name: str) -> str:
    return read(__package__, f"page/{name}")


def _as_json(value: Any) -> str:
    """Return JSON that may stand inside a script: a label may be </script>."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _is_large(network: Exported) -> bool:
    return sum(array.size for array in network.weights.arrays) * 4 * 4 / 3 > _LARGE


def _packed(array: np.ndarray, *, half: bool = False) -> str:
    return base64.b64encode(np.asarray(array, "<f2" if half else "<f4").tobytes()).decode()


def _numbers(network: Exported) -> dict[str, Any]:
    """Return the network's numbers, little-endian and in base64, and what it computes."""
    half = _is_large(network)
    maps = network.input_map
    scale, shift = (np.atleast_1d(part).astype(float).tolist() for part in maps)
    return {
        "classes": [str(label) for label in network.classes],
        "activation": network.activation,
        "output": network.output,
        "half": half,
        "layers": [
            {
                "units": W.shape[1],
                "W": _packed(W, half=half),
                "b": None if b is None else _packed(b, half=half),
            }
            for W, b in network.weights.layers
        ],
        "scale": scale,
        "shift": shift,
    }


def _drawn(network: Exported) -> dict[str, Any]:
    """Return what a page to draw on needs besides."""
    framing = network.framing
    assert framing is not None
    pictures = network.pictures or []
    return {
        "shape": network.image_shape,
        "framing": framing.as_json() | {"is_whole": framing.is_whole},
        "backquery": [_packed(picture) for picture in pictures],
    }


def _form(network: Exported) -> dict[str, Any]:
    """Return what a form needs besides: its columns, in the order of the network's inputs."""
    inputs = network.weights.sizes[0]
    if network.columns is None:
        columns = [Column(f"column {i}", NUMBER) for i in range(1, inputs + 1)]
    else:
        columns = [c for c in network.columns.columns if c.kind != LEFT_OUT]
    if len(columns) > _MOST_FIELDS:
        raise WeightFileError(
            f"--format html: {len(columns):,} columns are too many for a form, which has at most"
            f" {_MOST_FIELDS}; take --format onnx"
        )
    low, high = network.ranges if network.ranges is not None else _usual_range(network)
    fields: list[dict[str, Any]] = []
    at = 0
    for column in columns:
        field: dict[str, Any] = {"name": column.name}
        if column.kind == CATEGORY:
            field["categories"] = list(column.categories)
        else:
            least, most = float(low[at]), float(high[at])
            median = column.median if network.columns is not None else (least + most) / 2
            field |= {"low": least, "high": most, "median": median}
        fields.append(field)
        at += column.inputs
    return {"columns": fields}


def _usual_range(network: Exported) -> tuple[np.ndarray, np.ndarray]:
    """Return three deviations about the mean of each input that is standardised, else its range."""
    inputs = network.weights.sizes[0]
    maps = network.input_map
    scale, shift = (np.broadcast_to(part, (inputs,)).astype(float) for part in maps)
    if not maps[0].ndim:
        low, high = network.value_range
        return np.full(inputs, low), np.full(inputs, high)
    deviation = 1 / np.where(scale == 0, 1, scale)
    return (-3 - shift) * deviation, (3 - shift) * deviation

"""What is exported: the weights, and all that is needed to answer with them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..data import Columns
from ..data.framing import Framing
from ..files import write_whole
from ..weight_files import WeightFileError, Weights


@dataclass(frozen=True, eq=False)
class Exported:
    """A trained network.

    Attributes
    ----------
    weights : Weights
        With the input map.
    activation, output, loss : str
        Names in `backends.functions`.
    classes : sequence of int or str
        The label of each output.
    dtype : {"uint8", "float32"}
        Of the values that it takes.
    value_range : tuple of float
        Of the values that it was trained on.
    image_shape : tuple of int or None
        (height, width), None where the inputs are no image.
    columns : Columns or None
        Of a table, what its inputs are made of.
    framing : Framing or None
        How drawings lie in its images.
    pictures : sequence of numpy.ndarray or None
        What the network takes each class to look like, (height·width,) from 0 to 1.
    ranges : tuple of numpy.ndarray or None
        The least and the largest of each input that it was trained on.
    """

    weights: Weights
    activation: str
    output: str
    loss: str
    classes: Sequence[int | str]
    dtype: str
    value_range: tuple[float, float]
    image_shape: tuple[int, int] | None = None
    columns: Columns | None = None
    framing: Framing | None = None
    pictures: Sequence[np.ndarray] | None = None
    ranges: tuple[np.ndarray, np.ndarray] | None = None

    @property
    def input_map(self) -> tuple[np.ndarray, np.ndarray]:
        """Return scale and shift; the weights of others may come without."""
        return self.weights.input_map or (np.array(1.0), np.array(0.0))

    def facts(self) -> dict[str, Any]:
        """Return all but the weights and the input map, fit for JSON."""
        return {
            "activation": self.activation,
            "output": self.output,
            "loss": self.loss,
            "classes": list(self.classes),
            "dtype": self.dtype,
            "value_range": list(self.value_range),
            "image_shape": self.image_shape and list(self.image_shape),
            "columns": self.columns and self.columns.as_json(),
        }

    def metadata(self) -> dict[str, str]:
        """Return the `facts` as texts: names as they are, all else as JSON; none of what is not."""
        facts = {name: value for name, value in self.facts().items() if value is not None}
        return {n: v if isinstance(v, str) else json.dumps(v) for n, v in facts.items()}


def write_file(out: Path, suffix: str, content: bytes) -> list[Path]:
    """Write a file whole or not at all; raise WeightFileError if `out` is no name for it."""
    if out.suffix.lower() != suffix or out.is_dir():
        raise WeightFileError(f"--out {out}: expected a file's name that ends in {suffix}")
    if not out.parent.is_dir():
        raise WeightFileError(f"--out {out}: there is no folder {out.parent}")
    write_whole(out, content)
    return [out]

"""The weights of a network as they come from files or go into them, and MATLAB's order of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

INPUT_MAP = ("scale", "shift")  # names of its arrays
NETWORK_FILE = "network.json"  # beside arrays that cannot hold what else must be known


@dataclass(frozen=True, eq=False)
class Weights:
    """Arrays in the order and orientation of `MLP.get_weights`."""

    arrays: list[np.ndarray]  # W1 (fan_in, fan_out)[, b1 (fan_out,)], W2, …, of one float dtype
    bias: bool
    matlab: bool = False  # whether MATLAB wrote them; see `from_matlab`
    input_map: tuple[np.ndarray, np.ndarray] | None = None  # scale and shift, where it is there
    # what else is known of the network: activation, output, loss, classes, value_range
    stated: dict[str, Any] = field(default_factory=dict)

    @property
    def layers(self) -> list[tuple[np.ndarray, np.ndarray | None]]:
        """W and b of every layer, b None without biases."""
        if not self.bias:
            return [(W, None) for W in self.arrays]
        return list(zip(self.arrays[::2], self.arrays[1::2], strict=True))

    @property
    def sizes(self) -> list[int]:
        """Units of every layer, inputs first."""
        return [self.arrays[0].shape[0], *(W.shape[1] for W, _ in self.layers)]


def from_matlab(
    weights: Weights,
    image_shape: tuple[int, int] | None,
    classes: Sequence[int | str],
    *,
    undo: bool = False,
) -> Weights:
    """Convert weights of MATLAB's into our order of inputs and outputs, or ours into MATLAB's.

    MATLAB stores an image column by column, and Ng's course calls the digit 0 class 10, its last.
    """
    arrays, maps = list(weights.arrays), weights.input_map
    if image_shape is not None:
        rows, columns = image_shape if undo else image_shape[::-1]
        order = np.arange(rows * columns).reshape(rows, columns).T.reshape(-1)
        arrays[0] = arrays[0][order]
        if maps is not None:
            scale, shift = (part[order] if part.ndim else part for part in maps)
            maps = scale, shift
    if list(classes) == list(range(10)):
        last = slice(-2 if weights.bias else -1, None)
        arrays[last] = [np.roll(array, -1 if undo else 1, axis=-1) for array in arrays[last]]
    return replace(weights, arrays=arrays, matlab=undo, input_map=maps)

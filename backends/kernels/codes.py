"""Numbers for the names of functions, which compiled kernels take instead.

An activation or a loss that no kernel was written for has none; the backends learn with it as the
textbook does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..functions import ACTIVATIONS

if TYPE_CHECKING:
    from ..base import NetworkSpec

ACTIVATION_CODES = {"sigmoid": 0, "tanh": 1, "relu": 2, "scaled_tanh": 3, "gelu": 4}
LOSS_CODES = {"rashid": 0, "squared_error": 1, "binary_cross_entropy": 2, "cross_entropy": 3}


def has_codes(spec: NetworkSpec) -> bool:
    """Return whether kernels know what a network computes."""
    return spec.activation in ACTIVATION_CODES and spec.loss in LOSS_CODES


def keeps_no_sums(spec: NetworkSpec) -> bool:
    """Return whether kernels know it that keep a layer's activations alone: batch size 1's."""
    return has_codes(spec) and not ACTIVATIONS[spec.activation].needs_z

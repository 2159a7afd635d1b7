"""Numbers for the names of functions, which compiled kernels take instead.

The kernels store a layer's activations alone, so that an activation whose derivative needs z has no
number, nor has an activation or a loss that no kernel was written for; the backends learn with
these as the textbook does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..base import NetworkSpec

ACTIVATION_CODES = {"sigmoid": 0, "tanh": 1, "relu": 2, "scaled_tanh": 3}
LOSS_CODES = {"rashid": 0, "squared_error": 1, "binary_cross_entropy": 2, "cross_entropy": 3}


def has_codes(spec: NetworkSpec) -> bool:
    """Return whether kernels know what a network computes."""
    return spec.activation in ACTIVATION_CODES and spec.loss in LOSS_CODES

"""The coefficients of delayed updates, laid out for the kernels."""

from __future__ import annotations

import numpy as np

from ..delayed import block_coefficients


def coefficient_table(rates: np.ndarray, size: int, momentum: float, penalty: float) -> np.ndarray:
    """Lay `block_coefficients` of all blocks of `size` batches out as a kernel reads them.

    Row t is for the weights before batch t; after a block's batches stand the weights' and the
    velocity's rows after it. The columns are for W_0, U and the steps.
    """
    whole = len(rates) // size * size
    c = np.zeros((-(-len(rates) // size), size + 2, size + 2))
    parts = [rates[:whole].reshape(-1, size), rates[None, whole:]]
    for first, part in zip((0, whole // size), parts, strict=True):
        if part.size:
            blocks, steps = slice(first, first + len(part)), part.shape[1]
            of = block_coefficients(tuple(part.T), momentum, penalty)
            for t in range(steps + 1):
                for column, value in enumerate((of.start[t], of.velocity[t], *of.steps[t])):
                    c[blocks, t, column] = value
            for column, value in enumerate((of.end_start, of.end_velocity, *of.end_steps)):
                c[blocks, steps + 1, column] = value
    return c

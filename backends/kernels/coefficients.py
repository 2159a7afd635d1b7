"""The coefficients of delayed updates, laid out for the kernels."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..delayed import block_coefficients


def coefficient_tables(
    rates: np.ndarray, size: int, momentum: float, penalty: float, dtype: Any
) -> np.ndarray:
    """Return `block_coefficients` of all blocks of `size` batches, for the weights and the biases.

    The shape is (blocks, 2, size + 2, size + 2); the last block may have fewer batches, and rows.
    """
    whole = len(rates) // size * size
    tables = np.zeros((-(-len(rates) // size), 2, size + 2, size + 2), dtype)
    parts = [rates[:whole].reshape(-1, size), rates[None, whole:]]
    for first, part in zip((0, whole // size), parts, strict=True):
        for kind, its_penalty in enumerate((penalty, 0.0) if part.size else ()):
            c = tables[first : first + len(part), kind]
            for t, row in enumerate(block_coefficients(tuple(part.T), momentum, its_penalty)):
                for column, value in enumerate(row):
                    c[:, t, column] = value
    return tables

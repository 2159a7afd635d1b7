"""How much each training sample counts."""

from __future__ import annotations

from typing import Any

from backends.functions import Array

from ..network import MLP


def relative_weights(model: MLP, sample_weight: Any, n: int) -> Array:
    """Move the weights of n samples to the device, over their mean; see `MLP.sample_weights`."""
    xp = model.backend.xp
    weights = model.sample_weights(sample_weight, n)
    weights = weights / xp.max(weights)  # so that their sum is finite
    return xp.astype(weights / xp.mean(weights), model.spec.dtype)


def balanced_weights(model: MLP, labels: Array) -> Array:
    """Weigh n samples by n / (k count), of the k classes that occur and their counts."""
    xp, n = model.backend.xp, labels.shape[0]
    edges = xp.searchsorted(xp.sort(labels), xp.arange(model.sizes[-1] + 1, dtype=labels.dtype))
    counts = xp.astype(edges[1:] - edges[:-1], xp.float64)
    occurring = float(xp.count_nonzero(counts))
    return n / (occurring * xp.take(counts, labels, axis=0))

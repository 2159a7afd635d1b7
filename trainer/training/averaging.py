"""The weights that learn, where others answer: averaged weights, and normalised layers."""

from __future__ import annotations

from backends.functions import Array
from backends.regularization import Moments, fold_normalization, new_normalization

from ..network import MLP


class Learned:
    """All that learning changes, and the way from there to the model's own weights.

    Without averaging and normalisation the model's own weights learn. Otherwise copies of them do,
    with a gain for each unit of a normalised layer, and the model receives what follows from these:
    their moving average, with the normalisation folded in, see `fold_normalization`. The average
    is `backends.feeding.Rule.move_average`'s, which knows its β; `averaging` says whether there is
    one. As batches are normalised from the start, a model that was
    trained before forgets much.
    """

    def __init__(self, model: MLP, averaging: bool, batch_norm: bool) -> None:
        xp = model.backend.xp
        # of each normalised layer
        gains, self.moments = new_normalization(xp, model.spec) if batch_norm else ([], [])
        self._model = model
        self.weights: list[Array] = model.weights  # that learn; with the gains if there are any
        if batch_norm or averaging:
            self.weights = [xp.asarray(w, copy=True) for w in model.weights] + gains
        self.average: list[Array] = []
        if averaging:  # the model's weights are the average, unless that is still to be folded
            copies = [xp.asarray(a, copy=True) for a in self.arrays()]
            self.average = copies if batch_norm else model.weights

    def arrays(self) -> list[Array]:
        """Return the weights and the moments."""
        return [*self.weights, *(a for moments in self.moments for a in moments)]

    def names(self) -> list[str]:
        """Return the weights' names."""
        layers = range(1, 1 + len(self.moments))
        return [*self._model.names, *(f"gain{layer}" for layer in layers)]

    def named(self) -> dict[str, Array]:
        """Return by name what must be saved besides the model's own weights."""
        if self.weights is self._model.weights:
            return {}
        layers = range(1, 1 + len(self.moments))
        names = self.names() + [f"{kind}{layer}" for layer in layers for kind in Moments._fields]
        named = {f"learning.{n}": a for n, a in zip(names, self.arrays(), strict=True)}
        if self.moments and self.average:
            named |= {f"average.{n}": a for n, a in zip(names, self.average, strict=True)}
        return named

    def update_model(self) -> None:
        """Set the model's weights to what has been learned so far."""
        if not self.moments:
            return
        model, count = self._model, len(self.weights)
        weights, moments = self.weights, self.moments
        if self.average:
            weights, flat = self.average[:count], self.average[count:]
            moments = [Moments(*pair) for pair in zip(flat[::2], flat[1::2], strict=True)]
        folded = fold_normalization(model.backend.xp, model.spec, weights, moments)
        for w, a in zip(model.weights, folded, strict=True):
            w[...] = a

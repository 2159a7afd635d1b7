"""A network, samples and all that may come together where they are learned in batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import inf
from typing import Any

import numpy as np
from hypothesis import strategies as st

from backends import Backend, Batches, Rule
from backends.base import NetworkSpec
from backends.feeding import PickedRows
from backends.functions import ACTIVATIONS, LOSSES
from backends.regularization import Moments, Regularization, new_normalization

PLAIN_SGD = Rule()


@dataclass(frozen=True)
class Lesson:
    """A network, samples, and how they are learned."""

    sizes: tuple[int, ...]
    activation: str = "sigmoid"
    loss: str = "cross_entropy"
    bias: bool = True
    rule: Rule = PLAIN_SGD
    values: str = "uint8"
    by_feature: tuple[bool, bool] = (False, False)
    shift: float = 0.1
    samples: int = 40
    size: int = 16
    penalty: float = 0.0
    dropped: tuple[float, float] = (0.0, 0.0)
    normalized: bool = False
    weighted: bool = False
    made: int = 0
    dtype: str = "float64"
    layout: str = "C"
    seed: int = 0

    def spec(self) -> NetworkSpec:
        """Return the network."""
        real, features = np.dtype(self.dtype).type, self.sizes[0]
        scale, shift = real(1 / 255 if self.values == "uint8" else 0.7), real(self.shift)
        if self.by_feature[0]:
            scale = scale * np.linspace(0.5, 1.5, features, dtype=real)
        if self.by_feature[1]:
            # by no such numbers that an input comes to 0 but for rounding, where a rectifier has
            # its kink
            shift = shift + np.linspace(-0.1717, 0.4142, features, dtype=real)
        output = LOSSES[self.loss].output
        return NetworkSpec(
            self.sizes, self.activation, output, self.loss, self.bias, 0.1, 0.8, scale, shift,
            np.dtype(self.dtype),
        )  # fmt: skip

    def learn(self, backend: Backend, cuts: Sequence[int] = ()) -> list[np.ndarray]:
        """Learn in as many calls as the cuts, numbers of batches, make; return all that changed."""

        def placed(a: np.ndarray) -> Any:
            # where arrays of the host are the device's, as they lie
            return a if backend.xp is np else backend.asarray(a)

        spec, rng = self.spec(), np.random.default_rng(self.seed)
        n, features = self.samples, self.sizes[0]
        values = rng.integers(1, 256, (n, features)).astype(self.values)
        if self.values != "uint8":
            values = rng.normal(size=values.shape).astype(self.values)
        values[rng.random(values.shape) < rng.choice([0.0, 0.5, 0.9])] = 0
        labels = rng.integers(0, self.sizes[-1], n)
        if self.layout == "F":
            values = np.asfortranarray(values)
        elif self.layout == "strided":
            values, labels = np.repeat(values, 2, axis=1)[:, ::2], np.repeat(labels, 3)[::3]
        order, stored = rng.permutation(2 * n)[:n], np.zeros((2 * n, features), self.values)
        stored[order] = values
        values.flags.writeable = labels.flags.writeable = self.layout != "read-only"
        steps = -(-n // self.size)
        rates = rng.uniform(0.01, 0.05, steps)
        sample_weights = (rng.integers(0, 4, n) / 2).astype(spec.dtype) if self.weighted else None
        gains, moments = new_normalization(np, spec) if self.normalized else ([], [])
        weights = [
            rng.normal(0, 1 / np.sqrt(shape[0]) if len(shape) == 2 else 0.3, shape)
            for shape in spec.shapes
        ]
        weights = [w.astype(spec.dtype) for w in weights] + gains
        kept = 2 if self.rule.betas else 1 if self.rule.momentum else 0
        states = [weights]
        if kept:
            states.append([rng.normal(0, 0.01, w.shape).astype(spec.dtype) for w in weights])
        if kept == 2:
            states.append([rng.uniform(0, 0.01, w.shape).astype(spec.dtype) for w in weights])
        if self.rule.averaging:
            states.append([a.copy() for a in (*weights, *(a for pair in moments for a in pair))])
        spec = replace(spec, scale=placed(spec.scale), shift=placed(spec.shift))
        values, labels = placed(values), placed(labels)
        sample_weights = None if sample_weights is None else placed(sample_weights)
        states = [[placed(a) for a in state] for state in states]
        moments = [Moments(*map(placed, pair)) for pair in moments]
        losses = []
        for low, high in pairwise([0, *cuts, steps]):
            rows = slice(low * self.size, high * self.size)
            batches = Batches(
                PickedRows(stored, order[rows]) if self.layout == "picked" else values[rows],
                labels[rows],
                rates[low:high].tolist(),
                self.size,
                self.penalty,
                Regularization(self.dropped, moments),
                (2**62 + self.seed, 3, self.made + low),
                None if sample_weights is None else sample_weights[rows],
            )
            losses.append(backend.learn(spec, states, batches, self.rule, self.made + low))
        changed = [
            *losses,
            *(a for state in states for a in state),
            *(a for m in moments for a in m),
        ]
        found = [np.array(backend.to_numpy(a)) for a in changed]
        return [np.concatenate(found[: len(losses)]), *found[len(losses) :]]


RULES = {
    "sgd": PLAIN_SGD,
    "momentum": Rule(momentum=0.9),
    "nesterov": Rule(momentum=0.5, nesterov=True),
    # what is added to the root is large enough that the step of a gradient of 0 stays one of 0,
    # however it was rounded
    "adam": Rule(betas=(0.9, 0.999), epsilon=1e-4),
    "adamw": Rule(betas=(0.8, 0.99), epsilon=1e-4, decay=0.1),
    "adam, ε scaled": Rule(betas=(0.0, 0.99), epsilon=1e-4, scales_epsilon=True),
}


@st.composite
def lessons(draw: Callable[..., Any]) -> Lesson:
    """Everything together with everything."""
    hidden = draw(st.lists(st.integers(1, 130), max_size=3))
    if draw(st.integers(0, 14)) == 7:
        hidden = [draw(st.sampled_from([130, 200, 300]))] * draw(st.integers(1, 2))
    if draw(st.integers(0, 24)) == 7:
        hidden = [300, 450]  # more than `batch_network._CACHED_WEIGHTS`
    bias, loss = draw(st.booleans()), draw(st.sampled_from(list(LOSSES)))
    can_normalize = bias and hidden and not LOSSES[loss].splits_raw_errors
    rule = RULES[draw(st.sampled_from(list(RULES)))]
    rule = rule._replace(
        clip=draw(st.sampled_from([inf, inf, 0.1, 1.0])),
        averaging=draw(st.sampled_from([0.0, 0.0, 0.1, 0.99])),
    )
    size = draw(st.one_of(st.integers(2, 70), st.sampled_from([8, 16, 32, 64])))
    steps = draw(st.integers(1, 4))
    return Lesson(
        sizes=(draw(st.integers(1, 40)), *hidden, draw(st.integers(1, 5))),
        activation=draw(st.sampled_from(list(ACTIVATIONS))),
        loss=loss,
        bias=bias,
        rule=rule,
        values=draw(st.sampled_from(["uint8", "float32", "float64"])),
        by_feature=draw(st.tuples(st.booleans(), st.booleans())),
        shift=draw(st.sampled_from([0.0, 0.01, -0.3])),
        samples=size * (steps - 1) + draw(st.integers(1, size)),
        size=size,
        penalty=draw(st.sampled_from([0.0, 0.0, 0.03])),
        dropped=draw(st.sampled_from([(0.0, 0.0), (0.0, 0.3), (0.2, 0.0), (0.2, 0.5)])),
        normalized=bool(can_normalize and draw(st.booleans())),
        weighted=draw(st.booleans()),
        made=draw(st.sampled_from([0, 0, 5, 1000])),
        seed=draw(st.integers(0, 2**16)),
    )


# one of each kind
ALL = Lesson((30, 70, 150, 20, 4), "relu", rule=RULES["adamw"]._replace(clip=0.5, averaging=0.9))
ALL = replace(ALL, by_feature=(True, True), penalty=0.01, dropped=(0.2, 0.3), weighted=True)
ALL = replace(ALL, samples=157, size=32)
PLAIN = replace(Lesson((30, 70, 50, 4)), samples=157, size=32)
VARIED = {
    "everything": ALL,
    "everything normalised": replace(ALL, normalized=True),
    "everything in float32": replace(ALL, dtype="float32", activation="gelu"),
    "a plain network": PLAIN,
    "without hidden layers": replace(PLAIN, sizes=(30, 4)),
    "Rashid's rule": replace(PLAIN, loss="rashid", rule=RULES["momentum"]),
    "a clip": replace(PLAIN, rule=Rule(clip=0.01)),
    "an average": replace(PLAIN, rule=Rule(averaging=0.99)),
    "Nesterov": replace(PLAIN, rule=RULES["nesterov"], loss="squared_error"),
    "Adam": replace(PLAIN, rule=RULES["adam"], activation="tanh", made=7),
    "dropout": replace(PLAIN, dropped=(0.0, 0.5), activation="gelu"),
    "input dropout": replace(PLAIN, dropped=(0.5, 0.0), bias=False),
    "batch normalisation": replace(PLAIN, normalized=True, rule=RULES["momentum"]),
    "sample weights": replace(PLAIN, weighted=True, loss="binary_cross_entropy"),
    "a penalty": replace(PLAIN, penalty=0.1, shift=0.0),
    "a wide first layer": replace(PLAIN, sizes=(30, 500, 4), values="float64"),
    "small batches": replace(ALL, size=3, samples=31),
    "large batches": replace(ALL, size=200, samples=450),
}

"""The network's inside: labels run backwards, the first layer, gradients."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from .formats import shape_text, significant, spread
from .pictures import gallery, histogram
from .tables import new_table
from .terminal import console, is_coloured, styled
from .trace import MOST_UNITS, units

if TYPE_CHECKING:
    from ..explain import Backquery, IncomingWeights
    from ..gradients import GradientCheck

_MOST_LABELS = 6  # run backwards that get a column each


def backquery(
    title: str,
    result: Backquery,
    pictures: Sequence[np.ndarray | None],
    classes: Sequence[str],
    features: Sequence[str] | None = None,
) -> None:
    """Show what labels look like to a network, and what it answers to these inputs.

    A picture has grey values from 0 to 1, or is None if the features are not an image; then they
    may have names.
    """
    out = console(title)
    names = [classes[code] for code in result.labels]
    gallery(out, names, pictures)
    inputs = result.values.shape[1]
    if pictures[0] is None and inputs <= MOST_UNITS and len(names) <= _MOST_LABELS:
        vectors = dict(zip(names, result.values, strict=True))
        out.print(units(vectors, features, head="feature of"))
        out.print()
    rows = []
    for name, values, outputs in zip(names, result.values, result.outputs, strict=True):
        known = values[np.isfinite(values)]
        # what is only rounding compared to the largest is 0
        known = np.where(np.abs(known) < 1e-6 * np.abs(known).max(initial=0), 0, known)
        numbers = spread(known) if known.size else ["–"] * 3
        answer = int(np.argmax(outputs))
        rows.append([name, *numbers, classes[answer], f"{outputs[answer]:.3f}"])
    headers = ["label", "smallest", "mean", "largest value", "asked forwards", "output"]
    out.print(new_table(headers, rows))
    out.print()


def incoming_weights(
    title: str, result: IncomingWeights, pictures: Sequence[np.ndarray | None]
) -> None:
    """Show how long the incoming weights of units are, and as many units as fit in a row.

    A picture has grey values from 0 to 1, the middle for zero.
    """
    out = console(title)
    order = np.argsort(-result.norms, kind="stable")
    ends = order if len(order) <= 6 else np.concatenate([order[:3], order[-3:]])
    fitting = max(1, out.width // (pictures[0].shape[1] + 2)) if pictures[0] is not None else 0
    if is_coloured(out):
        names = [f"unit {result.units[i]}" for i in ends]
        gallery(out, names[:fitting], [pictures[i] for i in ends[:fitting]])
    rows = [
        [str(unit), *significant(norm), *spread(weights), histogram(weights)]
        for unit, norm, weights in zip(
            result.units[ends], result.norms[ends], result.weights[ends], strict=True
        )
    ]
    if len(order) > 6:
        rows.insert(3, ["…"])
    out.print(new_table(["unit", "norm", "smallest", "mean", "largest", "histogram"], rows))
    out.print(styled("norm: the Euclidean length; longest first", "dim"))
    out.print()


def gradient_check(title: str, source: str, result: GradientCheck, conclusion: str) -> None:
    """Show each array's difference from the central differences, and what it means."""
    out = console(title)
    redrawn = f", {result.redrawn:,} more passed over at a kink" if result.redrawn else ""
    out.print(styled(f"float64, step {result.step:g}, {result.samples:,} {source}{redrawn}"))
    out.print()
    table = new_table(["layer", "array", "shape", "checked", "‖a−n‖/max(‖a‖,‖n‖)", ""])
    last = result.arrays[-1].layer
    for array in result.arrays:
        total = math.prod(array.shape)
        right = array.is_gradient == array.expected
        finding = f"{'a' if array.is_gradient else 'no'} gradient{'' if right else ', wrongly'}"
        table.add_row(
            f"{'output' if array.layer == last else 'hidden'} {array.layer}",
            array.name,
            shape_text(array.shape),
            f"all {total:,}" if array.checked == total else f"{array.checked:,} of {total:,}",
            styled(f"{array.difference:.2e}", "bold"),
            styled(finding, "green" if right else "red"),
        )
    out.print(table)
    out.print()
    style = "bold green" if result.as_expected else "bold red"
    out.print(styled(f"{conclusion}.", style))
    if any(array.checked < math.prod(array.shape) for array in result.arrays):
        out.print(styled("Varied are numbers drawn at random; --all varies every one.", "dim"))

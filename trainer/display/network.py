"""The network's inside: a traced sample, labels run backwards, the first layer, gradients."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.table import Table

from .answers import verdict
from .formats import shape_text, significant, spread
from .pictures import gallery, half_blocks, histogram
from .tables import facts, new_table
from .terminal import console, is_coloured, styled

if TYPE_CHECKING:
    from ..explain import Backquery, IncomingWeights, Trace
    from ..gradients import GradientCheck

_MOST_UNITS = 20  # of a layer that get a row each
_MOST_LABELS = 6  # run backwards that get a column each


def trace(
    title: str,
    about: dict[str, str],
    result: Trace,
    image: np.ndarray | None,
    classes: Sequence[str],
    features: Sequence[str] | None = None,
) -> None:
    """Show one sample's way through a network and one update by it, a table a stage.

    `about` says which network and update it is, a line each; an image has grey values from 0 to 1,
    shape (height, width); the classes are in the order of their codes; the features may have names.
    """
    out = console(title)
    facts(about)
    _heading(out, f"the sample: {classes[result.label]}")
    vectors = {"value": result.values, "input x": result.inputs}
    if image is None and len(result.values) <= _MOST_UNITS:
        _units(out, vectors, features, head="feature")
        out.print()
        vectors = {}
    table = _vectors(vectors | {"target t": result.targets})
    if image is not None and image.shape[1] + 52 <= out.width:
        grid = Table.grid(padding=(0, 2))
        grid.add_row(half_blocks(image, coloured=is_coloured(out)), table)
        out.print(grid)
    else:
        out.print(table)
    last = result.layers[-1]
    for layer in result.layers:
        n, names = layer.sub, classes if layer is last else None
        formula = f"z{n} = {layer.sums_formula}, {layer.outputs_formula}"
        _heading(out, f"layer {layer.number} forward: {formula}")
        inputs = {f"input {layer.inputs_name}": layer.inputs}
        outputs = {f"sum z{n}": layer.sums, f"output a{n}": layer.outputs}
        if layer is last:
            outputs["target t"] = result.targets
        _units(out, outputs, names, inputs)
    out.print(verdict(classes[result.answer], classes[result.label]))
    for layer in reversed(result.layers):
        formulas = f"{result.error_formula(layer.number)}, {result.delta_formula(layer.number)}"
        _heading(out, f"layer {layer.number} backward: {formulas}")
        n, names = layer.sub, classes if layer is last else None
        _units(out, {f"error e{n}": layer.errors, f"δ{n}": layer.deltas}, names)
    steps = ", ".join(result.update_formula(layer.number) for layer in result.layers)
    _heading(out, f"one update: {steps}, η = {result.learning_rate:g}")
    out.print(styled(result.book_formula, "dim"))
    out.print(_update_table(result))
    _heading(out, f"after the update: loss {result.loss:.4g} → {result.loss_after:.4g}")
    answers = {
        f"a{last.sub} before": result.outputs,
        "after": result.outputs_after,
        "change": result.outputs_after - result.outputs,
        "target t": result.targets,
    }
    _units(out, answers, classes)
    out.print(styled("the run's own weights are as they were", "dim"))
    out.print()


def _update_table(result: Trace) -> Table:
    """Return where the numbers of every array lie before and after the update."""
    rows = []
    for layer in result.layers:
        for name, (before, *others) in layer.arrays.items():
            rows.append([f"{name} before", shape_text(before.shape), *_distribution(before)])
            for when, array in zip(("after", "change"), others, strict=True):
                rows.append([when, "", *_distribution(array)])
    headers = ["weights", "shape", "smallest", "mean", "largest", "deviation", "histogram"]
    return new_table(headers, rows)


def _distribution(array: np.ndarray) -> list[str]:
    deviation = significant(array.std(dtype=np.float64), digits=3)
    return [*spread(array, digits=3), *deviation, histogram(array)]


def _heading(out: Console, text: str) -> None:
    out.print()
    out.print(styled(text, "bold cyan"))


def _vectors(vectors: dict[str, np.ndarray]) -> Table:
    """Return how many numbers each vector has and where they lie."""
    rows = ([name, f"{vector.size:,}", *spread(vector)] for name, vector in vectors.items())
    return new_table(["", "numbers", "smallest", "mean", "largest"], rows)


def _units(
    out: Console,
    vectors: dict[str, np.ndarray],
    names: Sequence[str] | None,
    whole: dict[str, np.ndarray] | None = None,
    *,
    head: str = "",
) -> None:
    """Print vectors of one layer, a row a unit if there are few; `whole` always in one row.

    Units without names are numbered.
    """
    units = len(next(iter(vectors.values())))
    if units > _MOST_UNITS:
        out.print(_vectors((whole or {}) | vectors))
        return
    if whole:
        out.print(_vectors(whole))
        out.print()
    head = head or ("class" if names else "unit")
    names = names or [str(unit) for unit in range(units)]
    columns = zip(*vectors.values(), strict=True)
    rows = ([name, *significant(*numbers)] for name, numbers in zip(names, columns, strict=True))
    out.print(new_table([head, *vectors], rows))


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
    if pictures[0] is None and inputs <= _MOST_UNITS and len(names) <= _MOST_LABELS:
        vectors = dict(zip(names, result.values, strict=True))
        _units(out, vectors, features, head="feature of")
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

"""One unit of a traced network worked out, with the numbers that can be added up on a board."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from .explain import LayerTrace, Trace

_FEW, _SOME, _ALL = 3, 5, 12  # terms of a long sum: of inputs, of units; and what is not long
_DIGITS = 5


@dataclass(frozen=True, eq=False)
class Products:
    """A sum of products: its largest terms, in their order, and what the others come to."""

    numbers: np.ndarray  # (n,): the terms' places in the sum, from 0
    left: np.ndarray  # (n,): the factors
    right: np.ndarray  # (n,)
    others: int  # terms that are not among these
    rest: float  # what they sum to
    bias: float | None
    total: float  # as the network computed it

    @classmethod
    def of(
        cls,
        left: np.ndarray,
        right: np.ndarray,
        total: float | None = None,
        *,
        bias: float | None = None,
        most: int = _SOME,
        also: Sequence[int] = (),
    ) -> Products:
        """Choose the largest terms, and those that are wanted also; all of a short sum."""
        products = left.astype(np.float64) * right
        numbers = np.arange(len(products))
        if len(products) > _ALL:
            largest = np.argsort(-np.abs(products), kind="stable")[:most]
            numbers = np.unique([*largest, *also]).astype(np.int64)
        rest = float(np.delete(products, numbers).sum())
        if total is None:
            total = float(products.sum()) + (bias or 0.0)
        others = len(products) - len(numbers)
        return cls(numbers, left[numbers], right[numbers], others, rest, bias, float(total))


class Sheet(NamedTuple):
    """A calculation: what is computed, a table of it, and the lines that follow."""

    title: str
    header: list[str]
    rows: list[list[str]]
    lines: list[str]


@dataclass(frozen=True, eq=False)
class Worked:
    """One unit of the first layer and one of the output layer, with the terms of their sums."""

    unit: int  # of layer 1
    output: int  # the code of the class whose output is worked out; without hidden layer the unit
    z: Products  # of the unit: x[i] W₁[i, unit]
    z_output: Products | None  # of the output; None without hidden layer
    e: Products | None  # of the unit: what the next layer hands back to it
    gradient_e: Products | None  # likewise by the loss's gradient, where the rule is another
    gradient_delta: float | None


def worked(result: Trace) -> Worked:
    """Work out the unit that a trace has chosen, and the output of the sample's class."""
    first, last, unit = result.layers[0], result.layers[-1], result.unit
    z = _sum_of(first, unit, most=_FEW)
    if first is last:
        return Worked(unit, unit, z, None, None, None, None)
    above = result.layers[1]
    also = [unit] if last is above else []
    row = above.W[unit]
    carried = above.errors if result.splits_raw_errors else -above.deltas
    gradient_e = gradient_delta = None
    if result.splits_raw_errors:
        gradient_e = Products.of(-above.gradient_deltas, row)
        gradient_delta = float(first.gradient_deltas[unit])
    return Worked(
        unit,
        result.label,
        z,
        _sum_of(last, result.label, also=also),
        Products.of(carried, row, float(first.errors[unit])),
        gradient_e,
        gradient_delta,
    )


def _sum_of(layer: LayerTrace, unit: int, most: int = _SOME, also: Sequence[int] = ()) -> Products:
    bias = None if layer.b is None else float(layer.b[unit])
    total = float(layer.sums[unit])
    return Products.of(layer.inputs, layer.W[:, unit], total, bias=bias, most=most, also=also)


def forward_sheets(result: Trace, classes: Sequence[str]) -> list[Sheet]:
    """Return how the sums and outputs of the worked unit and output come about."""
    work, first, last = result.worked, result.layers[0], result.layers[-1]
    name = _unit_name(result, classes)
    sheets = [_sum_sheet(result, first, work.unit, name, work.z)]
    if work.z_output is not None:
        name = classes[work.output]
        sheets.append(_sum_sheet(result, last, work.output, name, work.z_output))
    return sheets


def backward_sheets(result: Trace, classes: Sequence[str]) -> list[Sheet]:
    """Return how the worked unit's error and δ come about, and how its weights change."""
    work, first = result.worked, result.layers[0]
    name = _unit_name(result, classes)
    sheets = []
    if work.e is not None:
        above = result.layers[1]
        names = classes if above is result.layers[-1] else None
        head = "class" if names else "unit"
        raw = f"e{above.sub}" if result.splits_raw_errors else f"−δ{above.sub}"
        kinds = [(raw, work.e, float(first.deltas[work.unit]), "")]
        if work.gradient_e is not None and work.gradient_delta is not None:
            about = "by the gradient: "
            kinds.append((f"−δ{above.sub}", work.gradient_e, work.gradient_delta, about))
        for factor, products, delta, about in kinds:
            title = f"{about}e₁[{name}] = Σ {factor}[k] W{above.sub}[{name}, k]"
            header = [head, factor, f"W{above.sub}", "product"]
            line = _delta_line(result, first, work.unit, name, products.total, delta)
            sheets.append(Sheet(title, header, _rows(products, names), [line]))
    sheets.append(_step_sheet(result, name))
    return sheets


def _unit_name(result: Trace, classes: Sequence[str]) -> str:
    return classes[result.unit] if len(result.layers) == 1 else str(result.unit)


def _sum_sheet(result: Trace, layer: LayerTrace, unit: int, name: str, products: Products) -> Sheet:
    n, x = layer.sub, layer.inputs_name
    bias = "" if layer.b is None else f" + b{n}[{name}]"
    title = f"z{n}[{name}] = Σ {x}[i] W{n}[i, {name}]{bias}"
    header = ["input" if layer.number == 1 else "unit", x, f"W{n}", "product"]
    z, a = float(layer.sums[unit]), float(layer.outputs[unit])
    if layer.function == "softmax":
        lines = [f"a{n}[{name}] = eᶻ / Σ eᶻ = {_text(a)}"]
    else:
        lines = [f"a{n}[{name}] = {layer.function}({_text(z)}) = {_text(a)}"]
    if layer is result.layers[-1]:
        t, e = float(result.targets[unit]), float(layer.errors[unit])
        lines.append(f"e{n}[{name}] = {_text(t)} − {_text(a)} = {_text(e)}")
        lines.append(_delta_line(result, layer, unit, name, e, float(layer.deltas[unit])))
    return Sheet(title, header, _rows(products, None), lines)


def _delta_line(
    result: Trace, layer: LayerTrace, unit: int, name: str, e: float, delta: float
) -> str:
    n, a, z = layer.sub, float(layer.outputs[unit]), float(layer.sums[unit])
    formula = result.delta_formula(layer.number).partition(" = ")[2].replace("∘", "·")
    numbers = ""
    if f"−e{n} · " in formula:
        known = {
            "sigmoid": f"{_text(a)} · {_text(1 - a)}",
            "tanh": f"(1 − {_text(a)}²)",
            "relu": "1" if z > 0 else "0",
        }
        slope = known.get(layer.function, f"{layer.function}′({_text(z)})")
        numbers = f" = −({_text(e)}) · {slope}"
    return f"δ{n}[{name}] = {formula}{numbers} = {_text(delta)}"


def _step_sheet(result: Trace, name: str) -> Sheet:
    layer, work = result.layers[0], result.worked
    unit, numbers = work.unit, work.z.numbers
    step = f"x[i] δ₁[{name}]"
    if result.penalty:
        step = f"({step} + λ/m W₁[i, {name}])"
    columns = (layer.inputs, layer.W[:, unit], layer.W_change[:, unit], layer.W_after[:, unit])
    rows = [
        [str(number), *(_text(float(column[number])) for column in columns)] for number in numbers
    ]
    lines = [f"η = {result.learning_rate:g}, δ₁[{name}] = {_text(float(layer.deltas[unit]))}"]
    if layer.b is not None and layer.b_after is not None:
        before, after = _text(float(layer.b[unit])), _text(float(layer.b_after[unit]))
        lines.append(f"b₁[{name}] ← b₁[{name}] − η δ₁[{name}]: {before} → {after}")
    title = f"W₁[i, {name}] ← W₁[i, {name}] − η {step}"
    return Sheet(title, ["input", "x", "W₁", "change", "after"], rows, lines)


def _rows(products: Products, names: Sequence[str] | None) -> list[list[str]]:
    """Return a row a term, one for all others, one for the bias, and one for the sum."""
    rows = []
    for number, left, right in zip(products.numbers, products.left, products.right, strict=True):
        name = names[number] if names else str(number)
        rows.append([name, *map(_text, (float(left), float(right), float(left) * float(right)))])
    if products.others:
        rows.append([f"{products.others} others", "", "", _text(products.rest)])
    if products.bias is not None:
        rows.append(["bias", "", "", _text(products.bias)])
    return [*rows, ["sum", "", "", _text(products.total)]]


def _text(value: float) -> str:
    return f"{value:.{_DIGITS}g}".replace("-", "−").replace("e−", "e-")

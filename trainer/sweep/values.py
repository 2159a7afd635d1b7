"""The values that a sweep tries, written and read."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from ..plain_text import value_text
from ..recipes import Recipe
from ..settings import settings_of, types_of

MOST_RUNS = 100_000

# type of every option that a sweep may vary
KINDS = {
    name: types_of(Recipe)[name] for name, known in settings_of(Recipe).items() if known.is_option
} | {"augment": str}
_RANGES = {int: "50:200:50", float: "0.1:0.9:0.1"}
_SAMPLED = "with --sampler tpe LOW:HIGH or LOW:HIGH:log"
_WANTED = {
    bool: "yes, no, or both as in yes,no",
    str: "names with commas between them",
    int: f"whole numbers above 0 such as 1,2,5 or {_RANGES[int]}",
    float: f"numbers such as 0.1,0.3 or {_RANGES[float]}",
    tuple[int, ...]: "widths such as 50,100,200, with - between those of one network as in 200-100",
}
_BETWEEN_NAMES = re.compile(r",(?!\s*[\d.])")  # elastic:34,4 has a comma inside

_SPANS = {int: "50:400", float: "0.001:1:log", tuple[int, ...]: "50:400"}


@dataclass(frozen=True)
class Span:
    """The numbers from one to another, both included, that a sampler chooses from.

    Attributes
    ----------
    low, high : float or int
        The ends; of an option whose values are numbers, or the width of the one hidden layer.
    is_log : bool
        Whether numbers are as likely as their logarithms are apart.
    is_width : bool
        Whether a value is a network with one hidden layer of that width.
    """

    low: float
    high: float
    is_log: bool = False
    is_width: bool = False

    def __str__(self) -> str:
        return f"{as_text(self.low)}:{as_text(self.high)}{':log' * self.is_log}"

    def value(self, number: float, digits: int = 17) -> Any:
        """Return the option's value that a number stands for, with so many digits."""
        if isinstance(self.low, float):
            rounded = float(f"{number:.{digits}g}")
            return min(max(rounded, self.low), self.high)
        return (number,) if self.is_width else number

    def number(self, value: Any) -> Any:
        """Return the number that a value stands for."""
        return value[0] if self.is_width else value

    def __contains__(self, value: Any) -> bool:
        return bool(self.low <= self.number(value) <= self.high)

    def ends(self) -> tuple[Any, Any]:
        """Return the first and the last value."""
        return self.value(self.low), self.value(self.high)

    def middle(self) -> Any:
        """Return the value that is as likely exceeded as not."""
        between = math.sqrt(self.low * self.high) if self.is_log else (self.low + self.high) / 2
        return self.value(between if isinstance(self.low, float) else round(between))


def span_of(option: str, text: str) -> Span | None:
    """Read LOW:HIGH or LOW:HIGH:log; None if the text is something else, such as values.

    Raise ValueError, naming what was given and what was expected, for no range of numbers.

    Examples
    --------
    >>> span_of("learning_rate", "0.001:1:log")
    Span(low=0.001, high=1.0, is_log=True, is_width=False)
    """
    kind, parts = KINDS.get(option), [part.strip() for part in text.split(":")]
    is_log = len(parts) == 3 and parts[2] == "log"
    if kind not in _SPANS or not (is_log or len(parts) == 2):
        return None
    low, high = (_value(float if kind is float else int, part, 1) for part in parts[:2])
    given = f"--{option.replace('_', '-')} {text}"
    if low is None or high is None:
        raise ValueError(f"{given}: expected LOW:HIGH or LOW:HIGH:log such as {_SPANS[kind]}")
    if low >= high:
        raise ValueError(f"{given}: its low end is not below its high end, as in {_SPANS[kind]}")
    if is_log and low <= 0:
        raise ValueError(f"{given}: the low end of logarithms must be above 0")
    return Span(low, high, is_log, kind == tuple[int, ...])


def values_of(option: str, text: str) -> tuple[Any, ...]:
    """Read the values that an option, or "seed", is to take: each once, in the order given.

    They have commas between them; of numbers, start:stop:step stands for all from the one to the
    other. The widths of one network are joined by -.

    Raises
    ------
    ValueError
        Naming what was given and what was expected.

    Examples
    --------
    >>> values_of("learning_rate", "0.1:0.3:0.1,1")
    (0.1, 0.2, 0.3, 1.0)
    >>> values_of("hidden", "200-100,50,none")
    ((200, 100), (50,), ())
    """
    kind, least = (int, 0) if option == "seed" else (KINDS[option], 1)
    parts = _BETWEEN_NAMES.split(text) if option == "augment" else text.split(",")
    try:
        texts: list[str] = []
        for part in map(str.strip, parts):
            is_range = ":" in part and kind not in (str, bool)
            texts += _range(part, _RANGES.get(kind, _RANGES[int])) if is_range else [part]
        values = [_value(kind, part, least) for part in texts]
        if None in values:
            wanted = _WANTED[kind] if least else _WANTED[kind].replace(" above 0", "")
            raise ValueError(f"expected {wanted}")
    except ValueError as error:
        raise ValueError(f"--{option.replace('_', '-')} {text}: {error}") from error
    return tuple(dict.fromkeys(values))


def as_text(value: Any) -> str:
    """Write a value as `values_of` reads it."""
    return repr(value).removesuffix(".0") if isinstance(value, float) else value_text(value)


def _value(kind: Any, text: str, least: int) -> Any:
    """Read a value, a whole number being `least` or more; None if the text is none."""
    if kind is str:
        return text or None
    if kind is bool:
        return {"yes": True, "no": False}.get(text)
    if kind is int:
        return int(text) if text.isdecimal() and int(text) >= least else None
    if kind is float:
        try:
            number = float(text)
        except ValueError:
            return None
        return number if math.isfinite(number) else None
    widths = [] if text == "none" else text.split("-")
    known = all(width.isdecimal() and int(width) for width in widths)
    return tuple(map(int, widths)) if known else None


def _range(text: str, example: str) -> list[str]:
    """Return all numbers of a range start:stop:step, both ends included."""
    parts = text.split(":")
    if len(parts) != 3:
        raise ValueError(f"expected start:stop:step such as {example}, or {_SAMPLED}")
    try:
        start, stop, step = map(Decimal, parts)
    except InvalidOperation:
        raise ValueError(f"expected three numbers such as {example}, or {_SAMPLED}") from None
    if not (start.is_finite() and stop.is_finite() and step.is_finite() and step > 0):
        raise ValueError(f"the step must be above 0, as in {example}")
    if stop < start:
        raise ValueError(f"it stops before it starts; expected {parts[1]}:{parts[0]}:{parts[2]}")
    count = int((stop - start) / step) + 1
    if count > MOST_RUNS:
        raise ValueError(f"these are {count:,} values; expected {MOST_RUNS:,} at most")
    # decimals, so that the third of 0.1:0.9:0.1 is 0.3 and not 0.30000000000000004
    return [f"{(start + i * step).normalize():f}" for i in range(count)]

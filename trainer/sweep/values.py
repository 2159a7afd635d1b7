"""The values that a sweep tries, written and read."""

from __future__ import annotations

import math
import re
from decimal import Decimal, InvalidOperation
from typing import Any

from ..recipes import Recipe
from ..settings import DataSettings, NetworkSettings, TrainingSettings, settings_of, types_of

MOST_RUNS = 100_000

_OPTIONS = {
    name: setting
    for name, setting in settings_of(NetworkSettings, TrainingSettings, DataSettings).items()
    if setting.is_option
}
# type of every option that a sweep may vary
KINDS = {name: types_of(Recipe)[name] for name in _OPTIONS} | {"limit": int, "augment": str}
_BETWEEN_NAMES = re.compile(r",(?!\s*[\d.])")  # elastic:34,4 has a comma inside


def values_of(option: str, text: str) -> tuple[Any, ...]:
    """Read the values that an option is to take.

    Parameters
    ----------
    option : str
        One of `KINDS`, or "seed".
    text : str
        Values with commas between them; of numbers, start:stop:step stands for all from the one
        to the other. The widths of one network are joined by -.

    Returns
    -------
    tuple
        Without repetitions, in the order given.

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
    kind = int if option == "seed" else KINDS[option]
    values: list[Any] = []
    try:
        for part in _BETWEEN_NAMES.split(text) if option == "augment" else text.split(","):
            part = part.strip()
            if ":" in part and kind is not str:
                values += _range(option, kind, part)
            else:
                values.append(_value(option, kind, part))
    except ValueError as error:
        raise ValueError(f"--{option.replace('_', '-')} {text}: {error}") from error
    return tuple(dict.fromkeys(values))


def as_text(value: Any) -> str:
    """Write a value as `values_of` reads it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return "-".join(map(str, value)) or "none"
    return repr(value).removesuffix(".0") if isinstance(value, float) else str(value)


def _value(option: str, kind: Any, text: str) -> Any:
    wrong = ValueError(_wanted(option, kind))
    if not text:
        raise wrong
    if kind is str:
        return text
    if kind is bool:
        if text not in ("yes", "no"):
            raise wrong
        return text == "yes"
    if kind is int:
        if not text.isdecimal() or int(text) < (option != "seed"):
            raise wrong
        return int(text)
    if kind is float:
        try:
            number = float(text)
        except ValueError:
            raise wrong from None
        if not math.isfinite(number):
            raise wrong
        return number
    widths = [] if text == "none" else text.split("-")
    if not all(width.isdecimal() and int(width) for width in widths):
        raise wrong
    return tuple(map(int, widths))


def _range(option: str, kind: Any, text: str) -> list[Any]:
    if kind is bool:
        raise ValueError(_wanted(option, kind))
    parts = text.split(":")
    example = _range_example(kind)
    if len(parts) != 3:
        raise ValueError(f"expected start:stop:step such as {example}")
    try:
        start, stop, step = map(Decimal, parts)
    except InvalidOperation:
        raise ValueError(f"expected three numbers such as {example}") from None
    if not (start.is_finite() and stop.is_finite() and step.is_finite() and step > 0):
        raise ValueError(f"the step must be above 0, as in {example}")
    if stop < start:
        raise ValueError(f"it stops before it starts; expected {parts[1]}:{parts[0]}:{parts[2]}")
    count = int((stop - start) / step) + 1
    if count > MOST_RUNS:
        raise ValueError(f"these are {count:,} values; expected {MOST_RUNS:,} at most")
    # decimals, so that the third of 0.1:0.9:0.1 is 0.3 and not 0.30000000000000004
    numbers = [f"{(start + i * step).normalize():f}" for i in range(count)]
    return [_value(option, kind, number) for number in numbers]


def _wanted(option: str, kind: Any) -> str:
    if kind is bool:
        return "expected yes, no, or both as in yes,no"
    if kind is str:
        return "expected names with commas between them"
    if kind is int:
        least = "" if option == "seed" else " above 0"
        return f"expected whole numbers{least} such as 1,2,5 or {_range_example(kind)}"
    if kind is float:
        return f"expected numbers such as 0.1,0.3 or {_range_example(kind)}"
    return "expected widths such as 50,100,200, with - between those of one network as in 200-100"


def _range_example(kind: Any) -> str:
    return "0.1:0.9:0.1" if kind is float else "50:200:50"

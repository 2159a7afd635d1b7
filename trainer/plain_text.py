"""Names from outside and values of settings as text that disturbs nothing around it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

# control characters, line and paragraph separators, what turns the direction of the text around
# it, and the surrogates that stand for bytes of a file name that are not text
_DISTURBING = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def one_line(text: str) -> str:
    r"""Return the text in one line, with a line break as ``\n`` and escape as ``\x1b``."""
    return _DISTURBING.sub(lambda match: escaped(match[0]), text)


def escaped(character: str) -> str:
    r"""Return a character as Python would write it in ASCII, such as ``\u202e``."""
    return character.encode("unicode_escape").decode("ascii")


def value_text(value: Any) -> str:
    """Return the value of a setting as tables and figures show it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, tuple):
        return "-".join(map(str, value)) or "none"
    if value is None:
        return "–"
    return f"{value:g}" if isinstance(value, float) else str(value)


def percent(fraction: float) -> str:
    """Return 0.9722 as 97.22 %."""
    return f"{100 * fraction:.2f} %"


def listed(words: Iterable[Any], before_last: str = " and ") -> str:
    """Return 1, 2, 3 as "1, 2 and 3"."""
    *rest, last = map(str, words)
    return f"{', '.join(rest)}{before_last}{last}" if rest else last

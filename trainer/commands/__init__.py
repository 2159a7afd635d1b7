"""The commands, a thin module each: parse, call, show. Each `run` returns an exit code."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from backends import Backend, select


class UsageError(ValueError):
    """A mistake in what was typed; one line with what was given, what was wanted, what to type."""


def choose(device: str, matmul: str = "float32") -> Backend:
    """`backends.select`, an unknown name being a mistake in what was typed."""
    try:
        return select(device, matmul)
    except ValueError as error:
        option = f"--device {device}" + (f" --matmul {matmul}" if matmul != "float32" else "")
        raise UsageError(f"{option}: {error}") from error


def in_options(message: str) -> str:
    """Write settings as they are typed: `init='foo'` as `--init foo`, `bias=False` as --no-bias."""

    def option(match: re.Match[str]) -> str:
        name, value = match[1].replace("_", "-"), match[2]
        if value in ("True", "False"):
            return f"--{'no-' * (value == 'False')}{name}"
        return f"--{name} {value}"

    return re.sub(r"\b([a-z][a-z_0-9]*)='?([^\s',]*[^\s',:])'?", option, message)


@contextmanager
def interruptible() -> Iterator[Any]:
    """Turn the first Ctrl-C into a question that the loop asks; the second ends at once."""
    pressed = False

    def handler(number: int, frame: Any) -> None:
        nonlocal pressed
        if pressed:
            raise KeyboardInterrupt
        pressed = True

    before = signal.signal(signal.SIGINT, handler)
    try:
        yield lambda: pressed
    finally:
        signal.signal(signal.SIGINT, before)

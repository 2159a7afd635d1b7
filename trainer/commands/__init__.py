"""The commands, a thin module each: parse, call, show. Each `run` returns an exit code."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Iterator
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


STOPS = {
    number: name
    for number, name in (
        (signal.SIGINT, "Ctrl-C"),
        (signal.SIGTERM, "SIGTERM"),
        (getattr(signal, "SIGHUP", None), "SIGHUP (the terminal closed)"),
    )
    if number is not None
}


@contextmanager
def interruptible() -> Iterator[Callable[[], int]]:
    """Turn the first of `STOPS` into an answer to a question that the loop asks: its number, or 0.

    A second Ctrl-C ends at once. What is ignored, as SIGHUP after nohup, stays so.
    """
    came = 0

    def handler(number: int, frame: Any) -> None:
        nonlocal came
        if came and number == signal.SIGINT:
            raise KeyboardInterrupt
        came = came or number

    heard = [number for number in STOPS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, handler) for number in heard}
    try:
        yield lambda: came
    finally:
        for number, was in before.items():
            signal.signal(number, was)

"""The commands, a thin module each: parse, call, show. Each `run` returns an exit code."""

from __future__ import annotations

from backends import Backend, select


class UsageError(ValueError):
    """A mistake in what was typed; one line with what was given, what was wanted, what to type."""


def choose(device: str) -> Backend:
    """`backends.select`, an unknown name being a mistake in what was typed."""
    try:
        return select(device)
    except ValueError as error:
        raise UsageError(f"--device {device}: {error}") from error

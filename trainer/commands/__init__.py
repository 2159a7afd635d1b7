"""The commands, a thin module each: parse, call, show. Each `run` returns an exit code."""

from __future__ import annotations

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

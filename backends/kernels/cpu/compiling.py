"""How every kernel is compiled."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import numba
from numba.core.caching import FunctionCache

# a product and a sum may become one instruction, nothing else is reordered: a kernel's result does
# not depend on where it is inlined; the interpreter goes on beside it
_OPTIONS: dict[str, Any] = {"fastmath": {"contract"}, "error_model": "numpy", "nogil": True}


def part(function: Any) -> Any:
    """Compile a function as a part of those that call it; Python cannot."""
    njit: Any = numba.njit  # whose stubs do not know all that it takes
    return njit(function, no_cpython_wrapper=True, no_cfunc_wrapper=True, **_OPTIONS)


def inlined(function: Any) -> Any:
    """Inline a long function that is called in one place, instead of compiling it twice."""
    return numba.njit(function, inline="always", **_OPTIONS)


def compiled(function: Any) -> Any:
    """Compile a function at its first call with each kind of arguments, and keep that on disk."""
    dispatcher: Any = numba.njit(function, **_OPTIONS)
    with suppress(RuntimeError):  # no folder to keep the machine code in: compile at every start
        dispatcher._cache = _Cache(function)
    return dispatcher


def separate(function: Any) -> Any:
    """Compile a function that is called by its address, and keep that on disk."""
    dispatcher: Any = part(function)
    with suppress(RuntimeError):
        dispatcher._cache = _Cache(function)
    return dispatcher


class _Cache(FunctionCache):
    """Numba's, which looks for changes in a kernel's own file alone, for parts in other files."""

    _files = sorted(Path(__file__).parent.glob("*.py"))
    _sources = hashlib.sha256(b"".join(map(Path.read_bytes, _files))).hexdigest()

    def _index_key(self, *args: Any) -> Any:
        return (*super()._index_key(*args), self._sources)

"""Ctrl-C while processes are started that are to train."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def ctrl_c_ignored() -> Iterator[Callable[[], None]]:
    """Start processes, whole, and such that Ctrl-C does not reach them.

    This one is to hear it, and ends them. A signal that is blocked here stays blocked in a new
    process. Yields what to call when all is over, to hear one that came meanwhile.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    if hasattr(signal, "pthread_sigmask"):
        from multiprocessing import resource_tracker

        # joblib starts it before its processes, and its start may end a mask (Python 3.11 does)
        resource_tracker.ensure_running()
    pressed: list[int] = []
    signals = {signal.SIGINT}
    handler = signal.signal(signal.SIGINT, lambda number, frame: pressed.append(number))
    mask = _masked(signal.SIG_BLOCK, signals)
    try:
        yield lambda: signal.raise_signal(signal.SIGINT) if pressed else None
    finally:
        _masked(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGINT, handler)


def _masked(how: int, signals: set[Any]) -> set[Any]:
    # Windows has no masks
    return signal.pthread_sigmask(how, signals) if hasattr(signal, "pthread_sigmask") else set()

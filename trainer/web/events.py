"""Server-sent events: what happens, to every page that listens, without waiting for any."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Generator
from typing import Any

_MOST_CLIENTS, _WAITING = 8, 64  # and events that wait for one of them
_MOST = 120  # events that are kept for pages that come later
_PULSE = 5.0  # seconds after which a silent connection is tried


class Events:
    """A history of events that goes on.

    Parameters
    ----------
    first : dict
        What a page must know before any event.
    history : sequence of dict
        Events that there are already.
    """

    def __init__(self, first: dict[str, Any], history: list[dict[str, Any]] | None = None) -> None:
        self._first = _text("start", first)
        self._lock = threading.Lock()
        self._clients: set[queue.Queue[str]] = set()
        self.history = list(history or [])
        self._thin()

    def publish(self, event: dict[str, Any]) -> None:
        """Add an event and send it to all who listen; who does not keep up misses older ones."""
        text = _text("frame", event)
        with self._lock:
            self.history.append(event)
            self._thin()
            for client in self._clients:
                if client.full():
                    client.get_nowait()
                client.put_nowait(text)

    def _thin(self) -> None:
        """Keep every second of the older events where there are too many."""
        while len(self.history) > _MOST:
            half = len(self.history) // 2
            self.history[:half] = self.history[:half:2]

    def listen(self) -> Generator[str, None, None] | None:
        """Return all events so far and then those to come, as texts; None if too many listen."""
        client: queue.Queue[str] = queue.Queue(_WAITING)
        with self._lock:
            if len(self._clients) >= _MOST_CLIENTS:
                return None
            self._clients.add(client)
            past = [_text("frame", event) for event in self.history]
        return self._texts(client, past)

    def _texts(self, client: queue.Queue[str], past: list[str]) -> Generator[str, None, None]:
        try:
            yield self._first
            yield from past
            while True:
                try:
                    yield client.get(timeout=_PULSE)
                except queue.Empty:
                    yield ": still here\n\n"
        finally:
            with self._lock:
                self._clients.discard(client)


def _text(kind: str, value: dict[str, Any]) -> str:
    return f"event: {kind}\ndata: {json.dumps(value, allow_nan=False)}\n\n"

"""A server for one page, on this machine alone."""

from __future__ import annotations

import json
import os
import threading
import webbrowser
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import chain
from typing import Any

from .events import Events

HOST = "127.0.0.1"
FIRST_PORT, _TRIES = 8000, 20
_TIMEOUT = 10  # seconds that a client may take for its request
_HEADERS = (
    ("Cache-Control", "no-store"),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
)
_TEXT_BROWSERS = ("www-browser", "links", "elinks", "lynx", "w3m")


class PortError(ValueError):
    """No port is free; the message is one line, fit to be shown as it is."""


class PageServer(ThreadingHTTPServer):
    """Serves a page, and answers for a network if the page asks it to.

    Parameters
    ----------
    page : str
        The HTML.
    answer : callable, optional
        ``answer(body)`` of the bytes of a request: the outputs. It raises ValueError, in words, for
        what it cannot answer. One request is answered at a time.
    size : int
        How many bytes a request has.
    events : Events, optional
        That the page may listen to.
    port : int, optional
        On this port; if not given, on the first free one from 8000 on.

    Raises
    ------
    PortError
        If the port, or all that are tried, are taken.
    """

    daemon_threads = True
    allow_reuse_address = os.name == "posix"  # elsewhere it would take another server's port

    def __init__(
        self,
        page: str,
        answer: Callable[[bytes], Sequence[float]] | None = None,
        size: int = 0,
        port: int | None = None,
        events: Events | None = None,
    ) -> None:
        self.page, self.answer, self.size, self.events = page.encode(), answer, size, events
        self.lock = threading.Lock()
        tried = [port] if port is not None else range(FIRST_PORT, FIRST_PORT + _TRIES)
        for number in tried:
            try:
                super().__init__((HOST, number), _Handler)
                break
            except OSError as error:
                taken = error
        else:
            which = f"{tried[0]}" if len(tried) == 1 else f"{tried[0]} to {tried[-1]}"
            raise PortError(f"port {which}: {taken.strerror or taken}; name a free one with --port")
        self.url = f"http://{HOST}:{self.server_port}/"
        self.names = [f"{name}:{self.server_port}" for name in (HOST, "localhost")]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore a client that has gone away."""


class _Handler(BaseHTTPRequestHandler):
    server: PageServer
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "xptrainer", ""
    timeout = _TIMEOUT

    def do_GET(self) -> None:
        # a page of another site could have its own name point here
        if self.headers.get("Host") not in self.server.names:
            self._reply(403, b"this server has another name", "text/plain")
        elif self.path == "/events" and self.server.events is not None:
            self._send_events(self.server.events)
        elif self.path != "/":
            self._reply(404, b"there is one page, /", "text/plain")
        else:
            self._reply(200, self.server.page, "text/html; charset=utf-8")

    def _send_events(self, events: Events) -> None:
        texts = None
        # another site's page may not listen, not even where it cannot read
        if self.headers.get("Sec-Fetch-Site", "same-origin") == "same-origin":
            texts = events.listen()
        if texts is None:
            return self._reply(403, b"only this server's own page may listen", "text/plain")
        first = next(texts)
        self.close_connection = True
        self.send_response(200)
        for name, value in (("Content-Type", "text/event-stream"), *_HEADERS):
            self.send_header(name, value)
        self.send_header("Connection", "close")
        self.end_headers()
        with suppress(OSError), closing(texts):  # a page that has been closed
            for text in chain([first], texts):
                self.wfile.write(text.encode())
        return None

    def do_POST(self) -> None:
        origins = [f"http://{name}" for name in self.server.names]
        headers, length = self.headers, self.headers.get("Content-Length", "")
        refusal = ""
        if headers.get("Host") not in self.server.names or headers.get("Origin") not in origins:
            refusal = "403 only this server's own page may ask"
        elif self.path != "/answer" or self.server.answer is None:
            refusal = "404 nothing is asked here"
        elif headers.get("Content-Type") != "application/octet-stream":
            refusal = "415 application/octet-stream is wanted"
        elif not length.isascii() or not length.isdecimal() or int(length[:12]) != self.server.size:
            refusal = f"413 {self.server.size} bytes are wanted"
        if refusal:
            self.close_connection = True  # its body has not been read
            code, _, words = refusal.partition(" ")
            return self._reply(int(code), words.encode(), "text/plain")
        assert self.server.answer is not None
        try:
            with self.server.lock:
                outputs = self.server.answer(self.rfile.read(self.server.size))
        except ValueError as error:
            return self._reply(400, str(error).encode(), "text/plain; charset=utf-8")
        return self._reply(200, json.dumps(list(outputs)).encode(), "application/json")

    def _reply(self, code: int, content: bytes, kind: str) -> None:
        self.send_response(code)
        headers = (("Content-Type", kind), ("Content-Length", str(len(content))), *_HEADERS)
        for name, value in headers:
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Write nothing for each request."""


def open_browser(url: str) -> bool:
    """Open a page in the user's browser, and return whether there is one that can show it.

    A browser in the terminal cannot, and would take the terminal away.
    """
    try:
        browser = webbrowser.get()
    except webbrowser.Error:
        return False
    command = os.path.basename(str(getattr(browser, "name", "")))
    return command not in _TEXT_BROWSERS and browser.open(url)

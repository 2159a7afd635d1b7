"""A page served to this machine: the server or one line why not, and its life until Ctrl-C."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from .. import display
from ..running.usage import UsageError
from ..web.server import PageServer, PortError, open_browser


def server_of(page: str, port: int | None = None, **more: Any) -> PageServer:
    """Return a server of the page; raise UsageError if the port, or all that are tried, are taken.

    What else there is goes to `PageServer`.
    """
    try:
        return PageServer(page, port=port, **more)
    except PortError as error:
        raise UsageError(f"{'' if port is None else '--'}{error}") from error


def serve(server: PageServer, facts: dict[str, str], *, no_browser: bool) -> None:
    """Show where the page is and what else is to be said, open it, and serve it until Ctrl-C."""
    with server, suppress(KeyboardInterrupt):
        display.facts({"page": server.url, **facts, "end": "Ctrl-C"})
        if not no_browser and not open_browser(server.url):
            display.note("no browser can be opened here: open that address in one yourself")
        server.serve_forever()
    display.line("stopped")

"""A headless Chromium, driven through a pipe by its DevTools protocol."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import tempfile
from typing import Any

EXECUTABLE = shutil.which("chromium") or shutil.which("chromium-browser")
_FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
    *("--no-first-run", "--remote-debugging-pipe", "--hide-scrollbars"),
)


class Browser:
    """One browser; `open` gives its pages."""

    def __init__(self) -> None:
        assert EXECUTABLE is not None
        theirs_in, self._out = os.pipe()
        ours_in, theirs_out = os.pipe()
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        command = f'exec "$0" "$@" 3<&{theirs_in} 4>&{theirs_out}'
        flags = [*_FLAGS, f"--user-data-dir={self._profile.name}", "about:blank"]
        self._process = subprocess.Popen(
            ["bash", "-c", command, EXECUTABLE, *flags],
            pass_fds=(theirs_in, theirs_out),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._in = os.fdopen(ours_in, "rb")
        self._numbers = itertools.count(1)
        self._rest = b""
        self.events: list[dict[str, Any]] = []

    @property
    def pid(self) -> int:
        """The number of its first process, which started all others."""
        return self._process.pid

    def call(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol and return its result; what happens meanwhile is kept."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]
            self.events.append(answer)

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            part = os.read(self._in.fileno(), 1 << 16)
            if not part:
                raise RuntimeError("the browser has ended")
            self._rest += part
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)

    def open(self, url: str, *, width: int = 1000, height: int = 800, dark: bool = False) -> Page:
        """Open a page, and wait until it is loaded."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, session)
        for domain in ("Page", "Runtime", "Network", "Log"):
            page.call(f"{domain}.enable")
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        page.call("Emulation.setEmulatedMedia", features=[scheme])
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        page.call("Emulation.setDeviceMetricsOverride", **metrics)
        page.call("Page.navigate", url=url)
        while page.run("document.readyState") != "complete" or page.run("location.href") != url:
            pass
        return page

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._out)
        self._in.close()
        self._profile.cleanup()


class Page:
    """A page in a browser."""

    def __init__(self, browser: Browser, session: str) -> None:
        self.browser, self.session = browser, session

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self.browser.call(method, self.session, **parameters)

    def run(self, script: str) -> Any:
        """Run JavaScript and return its value, awaited."""
        asked = {"expression": script, "returnByValue": True, "awaitPromise": True}
        result = self.call("Runtime.evaluate", **asked)
        if "exceptionDetails" in result:
            raise RuntimeError(json.dumps(result["exceptionDetails"])[:500])
        return result["result"].get("value")

    def settle(self) -> None:
        """Wait until what was to be drawn is drawn."""
        self.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def drag(self, points: list[tuple[float, float]], *, touch: bool = False) -> None:
        """Draw a stroke through points of the window, by the mouse or a finger."""
        for i, (x, y) in enumerate([*points, points[-1]]):
            last = i == len(points)
            if touch:
                kind = "touchEnd" if last else "touchMove" if i else "touchStart"
                where = [] if last else [{"x": x, "y": y}]
                self.call("Input.dispatchTouchEvent", type=kind, touchPoints=where)
            else:
                kind = "mouseReleased" if last else "mouseMoved" if i else "mousePressed"
                button = {"button": "left", "buttons": 1, "clickCount": 1}
                self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **button)

    def press(self, key: str, code: str = "", **more: Any) -> None:
        """Press and release a key."""
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=code or key, **more)

    def problems(self) -> list[str]:
        """Return what the page's console has complained of, and the requests it has made."""
        found = []
        for event in self.browser.events:
            if event.get("sessionId") != self.session:
                continue
            if event["method"] == "Runtime.exceptionThrown":
                found.append(json.dumps(event["params"])[:300])
            if event["method"] == "Log.entryAdded":
                found.append(event["params"]["entry"]["text"])
        return found

    def requests(self) -> list[str]:
        """Return the addresses that were asked for; what lies in the page itself is none."""
        events = [e for e in self.browser.events if e.get("sessionId") == self.session]
        sent = [e for e in events if e["method"] == "Network.requestWillBeSent"]
        addresses = [event["params"]["request"]["url"] for event in sent]
        return [address for address in addresses if not address.startswith("data:")]

"""The loopback server: who may ask, what it takes, and how it ends."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
import webbrowser
from collections.abc import Iterator

import numpy as np
import pytest

from backends import select
from trainer import MLP, load
from trainer.cli import main
from trainer.web import server as module
from trainer.web.server import PageServer, PortError, open_browser

GOOD = np.arange(4, dtype="<f4").tobytes()


@pytest.fixture
def server() -> Iterator[PageServer]:
    """A server of four numbers, which it answers by their sum."""

    def answer(body: bytes) -> list[float]:
        values = np.frombuffer(body, "<f4")
        if not np.isfinite(values).all():
            raise ValueError("no numbers")
        return [float(values.sum())]

    with PageServer("<p>page</p>", answer, len(GOOD)) as made:
        thread = threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield made
        made.shutdown()


def ask(server: PageServer, method: str, path: str, body: bytes = b"", **headers: str):
    """Send a request with the headers of the page, some replaced or, if empty, left out."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    usual = {"Host": f"127.0.0.1:{server.server_port}", "Origin": server.url[:-1]}
    usual |= {"Content-Type": "application/octet-stream", "Content-Length": str(len(body))}
    usual |= {name.replace("_", "-"): value for name, value in headers.items()}
    connection.putrequest(method, path, skip_host=True)
    for name, value in usual.items():
        if value:
            connection.putheader(name, value)
    connection.endheaders(body)
    reply = connection.getresponse()
    content = reply.read()
    connection.close()
    return reply.status, content, reply.headers


def test_the_page_and_an_answer(server):
    status, content, headers = ask(server, "GET", "/")
    assert (status, content) == (200, b"<p>page</p>")
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Cache-Control"] == "no-store"
    status, content, _ = ask(server, "POST", "/answer", GOOD)
    assert (status, json.loads(content)) == (200, [6.0])
    local = f"localhost:{server.server_port}"
    status, content, _ = ask(server, "POST", "/answer", GOOD, Host=local, Origin=f"http://{local}")
    assert status == 200


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/", {"Host": "evil.example"}, 403),
        ("GET", "/", {"Host": ""}, 403),
        ("GET", "/", {"Host": "127.0.0.1"}, 403),  # without the port
        ("GET", "/../../etc/passwd", {}, 404),
        ("GET", "/answer", {}, 404),
        ("POST", "/", {}, 404),
        ("POST", "/answer", {"Host": "evil.example:8000"}, 403),
        ("POST", "/answer", {"Origin": "http://evil.example"}, 403),
        ("POST", "/answer", {"Origin": ""}, 403),
        ("POST", "/answer", {"Origin": "null"}, 403),
        ("POST", "/answer", {"Content_Type": "text/plain"}, 415),
        ("POST", "/answer", {"Content_Type": "application/json"}, 415),
        ("POST", "/answer", {"Content_Length": "17"}, 413),
        ("POST", "/answer", {"Content_Length": "9" * 4000}, 413),
        ("POST", "/answer", {"Content_Length": "-1"}, 413),
        ("POST", "/answer", {"Content_Length": "x"}, 413),
        ("POST", "/answer", {"Content_Length": "", "Transfer_Encoding": "chunked"}, 413),
        ("PUT", "/answer", {}, 501),
        ("OPTIONS", "/answer", {}, 501),
    ],
)
def test_what_is_not_the_pages_own_request_is_refused(server, method, path, headers, status):
    assert ask(server, method, path, GOOD if method == "POST" else b"", **headers)[0] == status
    assert ask(server, "POST", "/answer", GOOD)[0] == 200  # and it goes on


def test_what_cannot_be_answered_is_said(server):
    body = np.array([0, np.nan, 0, 0], "<f4").tobytes()
    status, content, _ = ask(server, "POST", "/answer", body)
    assert (status, content) == (400, b"no numbers")


def test_it_listens_on_this_machine_alone(server):
    assert server.socket.getsockname()[0] == "127.0.0.1"


def test_a_client_that_sends_half_a_request_holds_nobody_up(server, monkeypatch):
    with socket.create_connection(("127.0.0.1", server.server_port)) as slow:
        slow.sendall(b"POST /answer HTTP/1.1\r\nHost: 127")
        assert ask(server, "POST", "/answer", GOOD)[0] == 200


def test_a_taken_port_means_the_next_one(server):
    with PageServer("other") as other:
        assert other.server_port > server.server_port
    with pytest.raises(PortError, match=f"port {server.server_port}: .*--port"):
        PageServer("third", port=server.server_port)


@pytest.mark.parametrize("name", ["lynx", "w3m", "/usr/bin/www-browser", "links", "elinks"])
def test_a_text_browser_is_never_opened(name, monkeypatch):
    browser = webbrowser.GenericBrowser(name)
    monkeypatch.setattr(webbrowser, "get", lambda: browser)
    monkeypatch.setattr(browser, "open", lambda *args: pytest.fail("it was opened"))
    assert open_browser("http://127.0.0.1:8000/") is False


def test_without_a_browser_it_says_so(monkeypatch):
    def none():
        raise webbrowser.Error("could not locate runnable browser")

    monkeypatch.setattr(webbrowser, "get", none)
    assert open_browser("http://127.0.0.1:8000/") is False


@pytest.fixture(scope="module")
def digits_run(tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "r"
    train = ["train", "--data", "digits", "--epochs", "1", "--quiet", "--device", "cpu"]
    assert main([*train, "--out", str(run)]) == 0
    return run


def test_ctrl_c_ends_a_demo(digits_run):
    command = [sys.executable, "-m", "trainer", "demo", str(digits_run), "--no-browser"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().split()[-1]
        assert url.startswith("http://127.0.0.1:")
        process.stdout.readline()
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
        assert process.stdout.read() == "stopped\n"


def test_a_device_answers_for_the_page(digits_run, monkeypatch):
    """The page asks where a GPU answers; here the CPU stands for it."""
    served: list[PageServer] = []

    def once(self):
        served.append(self)
        raise KeyboardInterrupt

    monkeypatch.setattr(PageServer, "serve_forever", once)
    backend = select("cpu")
    backend.name = "gpu:0"
    monkeypatch.setattr("trainer.running.trained.choose", lambda device: backend)
    assert main(["demo", str(digits_run), "--no-browser"]) == 0
    [made] = served
    assert made.answer is not None
    x = load("digits").test_x[:1]
    outputs = made.answer(x.astype("<f4").tobytes())
    wanted = np.asarray(MLP.load(digits_run, backend="cpu").predict_proba(x))[0]
    np.testing.assert_allclose(outputs, wanted, rtol=0, atol=1e-6)
    assert "connect-src &#39;self&#39;" in made.page.decode()
    with pytest.raises(ValueError, match="missing or infinite"):
        made.answer(np.full(64, np.nan, "<f4").tobytes())


def test_a_taken_port_is_one_line(digits_run, capsys):
    with PageServer("taken") as taken:
        asked = ["demo", str(digits_run), "--port", str(taken.server_port), "--no-browser"]
        assert main(asked) == 2
    message = capsys.readouterr().err
    assert f"--port {taken.server_port}: " in message
    assert message.count("\n") == 1


def test_the_module_uses_no_address_but_the_loopback():
    assert module.HOST == "127.0.0.1"

"""MNIST from small servers on this machine that behave, or do not."""

import gzip
import hashlib
import struct
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from trainer.data import DataError, load, mnist

PIXELS = np.random.default_rng(0).integers(0, 256, (50, 4, 4), dtype=np.uint8)


def idx(magic, *dimensions, content):
    return gzip.compress(struct.pack(f">{1 + len(dimensions)}I", magic, *dimensions) + content)


CONTENT = {
    "train-images-idx3-ubyte.gz": idx(0x803, 40, 4, 4, content=PIXELS[:40].tobytes()),
    "train-labels-idx1-ubyte.gz": idx(0x801, 40, content=bytes(range(10)) * 4),
    "t10k-images-idx3-ubyte.gz": idx(0x803, 10, 4, 4, content=PIXELS[40:].tobytes()),
    "t10k-labels-idx1-ubyte.gz": idx(0x801, 10, content=bytes(range(10))),
}


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        name = self.path.removeprefix("/")
        content = CONTENT[name]
        behaviour = self.server.behaviour
        if behaviour == "silent":
            self.server.released.wait(20)
            return
        if behaviour == "missing":
            self.send_error(404)
            return
        if behaviour == "tampered":
            content = bytes([content[0] ^ 1]) + content[1:]
        self.send_response(200)
        if behaviour == "endless":
            self.end_headers()
            while not self.server.released.is_set():
                self.wfile.write(content)
            return
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        half = behaviour in ("cut", "halting")
        self.wfile.write(content[: len(content) // 2] if half else content)
        if behaviour in ("stalling", "halting"):
            self.server.released.wait(20)

    def log_message(self, *_):
        pass


@pytest.fixture
def serve(monkeypatch):
    """Return a function that starts one mirror for each behaviour."""
    monkeypatch.setattr(
        mnist,
        "FILES",
        {name: (len(c), hashlib.sha256(c).hexdigest()) for name, c in CONTENT.items()},
    )
    monkeypatch.setattr(mnist, "TIMEOUT", 0.5)
    servers = []

    def start(*behaviours):
        started = []
        for behaviour in behaviours:
            server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
            server.behaviour, server.asked, server.released = behaviour, [], threading.Event()
            server.handle_error = lambda *_: None
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
            started.append(server)
        servers.extend(started)
        urls = tuple(f"http://127.0.0.1:{server.server_port}/" for server in started)
        monkeypatch.setattr(mnist, "MIRRORS", urls)
        return started

    yield start
    for server in servers:
        server.released.set()
        server.shutdown()
        server.server_close()


def cached(tmp_path):
    folder = tmp_path / "cache" / "mnist"
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def check(data):
    np.testing.assert_array_equal(data.train_x, PIXELS[:40].reshape(40, 16))
    np.testing.assert_array_equal(data.test_x, PIXELS[40:].reshape(10, 16))
    assert (data.name, data.kind, data.source, data.note) == ("mnist", "mnist", "mnist", "")


@pytest.mark.parametrize("source", ["mnist", "auto"])
def test_a_good_mirror(serve, tmp_path, source):
    (server,) = serve("good")
    reports = []
    check(load(source, on_progress=lambda *report: reports.append(report)))
    assert cached(tmp_path) == sorted(CONTENT)
    assert {name: done for name, done, _ in reports} == {n: len(c) for n, c in CONTENT.items()}
    assert all(total == len(CONTENT[name]) for name, _, total in reports)
    asked = len(server.asked)
    check(load(source))
    assert len(server.asked) == asked


@pytest.mark.parametrize("source", ["mnist", "auto"])
@pytest.mark.parametrize("bad", ["missing", "tampered", "cut", "silent", "stalling", "endless"])
def test_a_bad_mirror_and_a_good_one(serve, tmp_path, bad, source):
    servers = serve(bad, "good")
    started = time.monotonic()
    check(load(source))
    assert time.monotonic() - started < 4
    assert cached(tmp_path) == sorted(CONTENT)
    # Once for the first file, and once for the probe: not for every file.
    assert len(servers[0].asked) <= 2 or bad == "stalling"


@pytest.mark.parametrize(
    ("behaviour", "why"),
    [
        ("missing", "HTTP status 404"),
        ("tampered", "wrong SHA-256"),
        ("cut", "broke off"),
        ("silent", "no byte within 0.5 s"),
        ("endless", "more than the"),
    ],
)
def test_no_good_mirror(serve, tmp_path, behaviour, why):
    serve(behaviour, "missing")
    with pytest.raises(DataError) as caught:
        load("mnist")
    message = str(caught.value)
    hosts = [mirror.split("/")[2] for mirror in mnist.MIRRORS]
    for word in ("train-images", *hosts, why, "HTTP status 404", "--data PATH", "digits"):
        assert word in message
    assert "\n" not in message
    assert cached(tmp_path) == []
    data = load("auto")
    assert data.kind == data.name == data.source == "digits"
    assert "MNIST cannot be downloaded" in data.note
    assert why in data.note
    assert data.note.endswith("using the 8×8 digits instead")
    assert "\n" not in data.note
    assert cached(tmp_path) == []


def test_a_tampered_cache_is_mended(serve, tmp_path):
    serve("good")
    load("mnist")
    (tmp_path / "cache" / "mnist" / "t10k-labels-idx1-ubyte.gz").write_bytes(b"oops")
    check(load("auto"))


def test_names_that_never_resolve_are_given_up(serve, tmp_path, monkeypatch):
    serve("good")
    released = threading.Event()
    monkeypatch.setattr(mnist, "_get", lambda url, sink: released.wait(20))
    started = time.monotonic()
    data = load("auto")
    released.set()
    assert time.monotonic() - started < 3
    assert data.kind == "digits"
    assert "no byte within 0.5 s" in data.note
    assert not (tmp_path / "cache").exists()


def test_auto_suffers_one_silence_only(serve, monkeypatch):
    monkeypatch.setattr(mnist, "_CHUNK", 16)  # so that bytes arrive before the silence
    halting, silent = serve("halting", "silent")
    data = load("auto")
    assert data.kind == "digits"
    assert "no byte within 0.5 s" in data.note
    assert len(halting.asked) == 2  # by the probe, and in earnest
    assert len(silent.asked) == 1


def test_without_a_network(tmp_path, monkeypatch):
    started = time.monotonic()
    data = load("auto")
    assert time.monotonic() - started < 5
    assert "connection refused" in data.note
    with pytest.raises(DataError, match="connection refused"):
        load("mnist")
    monkeypatch.setattr(mnist, "MIRRORS", ("http://nowhere.invalid/",))
    assert load("auto").kind == "digits"
    assert time.monotonic() - started < 12


def test_a_cache_that_cannot_be_made(serve, tmp_path, monkeypatch):
    serve("good")
    (tmp_path / "no-folder").write_bytes(b"")
    monkeypatch.setenv("TRAINER_CACHE", str(tmp_path / "no-folder"))
    with pytest.raises(DataError, match="no-folder"):
        load("mnist")
    assert load("auto").kind == "digits"

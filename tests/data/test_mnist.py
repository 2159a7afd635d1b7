"""MNIST from small servers on this machine that behave, or do not."""

import gzip
import hashlib
import json
import os
import resource
import socket
import struct
import subprocess
import sys
import threading
import time
import tracemalloc
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

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
        behaviour = self.server.behaviour
        if behaviour == "portal" and name == "login":
            page = b"\n <!DOCTYPE html><html>Welcome! Accept our terms to go online.</html>"
            self.send_response(200)
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            self.wfile.write(page)
            return
        if behaviour in ("portal", "circling"):
            self.send_response(302)
            self.send_header("Location", "/login")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        content = CONTENT[name]
        if behaviour == "silent":
            self.server.released.wait(20)
            return
        if behaviour.isdecimal():
            self.send_error(int(behaviour))
            return
        if behaviour == "tampered":
            content = bytes([content[0] ^ 1]) + content[1:]
        self.send_response(200)
        if behaviour == "endless":
            self.end_headers()
            while not self.server.released.is_set():
                self.wfile.write(content)
            return
        if behaviour == "short":
            self.end_headers()
            self.wfile.write(content[:-9])
            return
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if behaviour in ("dribbling", "slow"):
            step = 1 if behaviour == "dribbling" else -(-len(content) // 10)
            for start in range(0, len(content), step):
                self.wfile.write(content[start : start + step])
                self.server.released.wait(0.02)
            return
        half = behaviour in ("cut", "halting", "reset")
        self.wfile.write(content[: len(content) // 2] if half else content)
        if behaviour == "reset":  # as a router does that forgets the connection
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.server.shutdown_request = self.server.close_request
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
    unpacked = {name: gzip.decompress(content) for name, content in CONTENT.items()}
    sums = {name: (len(c), hashlib.sha256(c).hexdigest()) for name, c in unpacked.items()}
    monkeypatch.setattr(mnist, "UNPACKED", sums)
    monkeypatch.setattr(mnist, "TIMEOUT", 0.5)
    servers = []

    def start(*behaviours):
        started = []
        if "dribbling" in behaviours:
            monkeypatch.setattr(mnist, "_TRIAL", 0.3)
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


EXCUSES = {
    "404": "HTTP status 404",
    "500": "HTTP status 500",
    "503": "HTTP status 503",
    "portal": "a web page in place of the file; a network that wants a login?",
    "circling": "Exceeded 30 redirects",
    "tampered": "wrong SHA-256",
    "cut": "broke off",
    "reset": "broke off",
    "short": "bytes came",
    "silent": "no byte within 0.5 s",
    "dribbling": "too slow: ",
    "endless": "more than the",
}


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
@pytest.mark.parametrize("bad", [*EXCUSES, "stalling"])
def test_a_bad_mirror_and_a_good_one(serve, tmp_path, bad, source):
    servers = serve(bad, "good")
    started = time.monotonic()
    check(load(source))
    assert time.monotonic() - started < 4
    assert cached(tmp_path) == sorted(CONTENT)
    # Once for the first file, and once for the probe: not for every file.
    assert sum(path != "/login" for path in servers[0].asked) <= 2 or bad == "stalling"


@pytest.mark.parametrize(("behaviour", "why"), EXCUSES.items())
def test_no_good_mirror(serve, tmp_path, behaviour, why):
    serve(behaviour, "404")
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
    assert "; using the 8×8 digits instead; --data FOLDER takes MNIST's four files" in data.note
    assert "\n" not in data.note
    assert cached(tmp_path) == []


WRAPPERS = {
    "published": ("{}.gz", lambda content: content),
    "unpacked": ("{}", gzip.decompress),
    "gzipped in another way": ("{}.gz", lambda content: gzip.compress(gzip.decompress(content), 1)),
    "under the archive's names": ("{}", gzip.decompress),
}


@pytest.mark.parametrize("source", ["mnist", "auto"])
@pytest.mark.parametrize("place", ["", "mnist"])
@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_a_folder_that_somebody_else_has_filled(serve, tmp_path, wrapper, place, source):
    serve()
    folder = tmp_path / "cache" / place
    folder.mkdir(parents=True)
    name_of, wrapped = WRAPPERS[wrapper]
    for name, content in CONTENT.items():
        name = name_of.format(name.removesuffix(".gz"))
        if "archive" in wrapper:
            name = name.replace("-idx", ".idx")
        (folder / name).write_bytes(wrapped(content))
    before = {path: path.read_bytes() for path in folder.iterdir()}
    check(load(source))
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_other_files_of_those_names_are_left_alone(serve, tmp_path, wrapper):
    (server,) = serve("good")
    folder = tmp_path / "cache"
    folder.mkdir()
    name_of, wrapped = WRAPPERS[wrapper]
    for name, content in CONTENT.items():
        if "images" in name:  # of clothes, say
            content = gzip.compress(gzip.decompress(content)[:-1] + b"!")
        (folder / name_of.format(name.removesuffix(".gz"))).write_bytes(wrapped(content))
    before = {path: path.read_bytes() for path in folder.iterdir()}
    check(load("mnist"))
    assert {path: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before
    assert cached(tmp_path) == sorted(CONTENT)
    assert len(server.asked) == len(CONTENT)


def test_only_what_is_missing_is_downloaded(serve, tmp_path):
    (server,) = serve("good")
    folder = tmp_path / "cache" / "mnist"
    folder.mkdir(parents=True)
    for name, content in list(CONTENT.items())[:3]:
        (folder / name.removesuffix(".gz")).write_bytes(gzip.decompress(content))
    (folder / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(bytes(1 << 28), 1))
    tracemalloc.start()
    check(load("mnist"))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 1 << 25
    assert server.asked == ["/t10k-labels-idx1-ubyte.gz"]


@pytest.mark.parametrize("place", [".", "mnist"])
def test_the_published_sums_are_those_of_mnist(real_data, monkeypatch, place):
    monkeypatch.setenv("TRAINER_CACHE", str(real_data / place))
    data = load("mnist")
    assert (data.train_x.shape, data.test_x.shape) == ((60000, 784), (10000, 784))
    assert np.bincount(data.test_y).tolist() == [
        980,
        1135,
        1032,
        1010,
        982,
        892,
        958,
        1028,
        974,
        1009,
    ]


def test_a_tampered_cache_is_mended(serve, tmp_path):
    serve("good")
    load("mnist")
    (tmp_path / "cache" / "mnist" / "t10k-labels-idx1-ubyte.gz").write_bytes(b"oops")
    check(load("auto"))


def test_names_that_never_resolve_are_given_up(serve, tmp_path, monkeypatch):
    serve("good")
    released = threading.Event()
    monkeypatch.setattr(mnist, "_parts", lambda url: iter([released.wait(20)]))
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
    monkeypatch.setattr(mnist, "TIMEOUT", 2.0)  # the probe must have its byte on a busy machine too
    data = load("auto")
    assert data.kind == "digits"
    assert "no byte within 2 s" in data.note
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


def test_no_space_is_one_line_and_leaves_nothing(serve, tmp_path):
    serve("good", "good")
    folder = tmp_path / "cache" / "mnist"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))  # a disk that takes 100 bytes
    try:
        with pytest.raises(DataError) as caught:
            load("mnist")
        data = load("auto")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    message = str(caught.value)
    for word in (f"kept in {folder}: File too large", "TRAINER_CACHE", "--data PATH", "digits"):
        assert word in message
    assert "\n" not in message
    assert data.kind == "digits"
    assert f"kept in {folder}: File too large" in data.note
    assert cached(tmp_path) == []
    check(load("mnist"))


def child(tmp_path):
    """Another process that loads MNIST into the same cache, from the same mirrors."""
    program = (
        "import json, sys; from trainer.data import load, mnist;"
        "mnist.MIRRORS, mnist.FILES = json.loads(sys.argv[1]); print(load('mnist').train_x.sum())"
    )
    return subprocess.Popen(
        [sys.executable, "-c", program, json.dumps([mnist.MIRRORS, mnist.FILES])],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_two_processes_at_once_share_the_cache(serve, tmp_path):
    (server,) = serve("slow")
    outcomes = [process.communicate(timeout=30) for process in [child(tmp_path), child(tmp_path)]]
    assert outcomes == [(f"{PIXELS[:40].sum()}\n", "")] * 2
    assert len(server.asked) > len(CONTENT)  # both were at it
    assert cached(tmp_path) == sorted(CONTENT)
    for name, content in CONTENT.items():
        assert (tmp_path / "cache" / "mnist" / name).read_bytes() == content
    asked = len(server.asked)
    check(load("mnist"))
    assert len(server.asked) == asked


def test_a_download_that_was_killed_leaves_nothing_and_starts_again(serve, tmp_path):
    (server,) = serve("halting")
    process = child(tmp_path)
    while not server.asked:
        assert process.poll() is None
        time.sleep(0.01)
    time.sleep(0.1)
    process.kill()
    process.communicate()
    assert process.returncode == -9
    assert cached(tmp_path) == []
    serve("good")
    check(load("mnist"))


def test_progress_tells_of_bytes_as_they_come(serve, monkeypatch):
    monkeypatch.setattr(mnist, "_REPORT_SECONDS", 0.0)
    serve("slow")
    reports = []
    load("mnist", on_progress=lambda *report: reports.append(report))
    for name, content in CONTENT.items():
        done = [done for file, done, _ in reports if file == name]
        assert len(done) > 2
        assert done == sorted(done)
        assert done[-1] == len(content)

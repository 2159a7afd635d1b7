"""A training on a page: the events, the page in a real browser, and the commands."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser import Browser
from tests.conftest import needs_browser
from trainer.cli import main
from trainer.commands.watched import FILE, stored
from trainer.web import events as module
from trainer.web.events import Events
from trainer.web.server import PageServer
from trainer.web.watching import watch_page

TRAIN = ["train", "--data", "digits", "--epochs", "3", "--device", "cpu"]


def frame(epoch: float) -> dict:
    return {"epoch": epoch, "loss": 1 / (1 + epoch), "accuracy": None}


def told(texts: Iterator[str], count: int) -> list[tuple[str, dict]]:
    found = []
    for _ in range(count):
        kind, data = next(texts).strip().split("\n")
        found.append((kind.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found


def test_who_comes_late_hears_all_and_then_goes_on():
    events = Events({"title": "t"})
    events.publish(frame(1))
    texts = events.listen()
    assert texts is not None
    events.publish(frame(2))
    assert told(texts, 3) == [("start", {"title": "t"}), ("frame", frame(1)), ("frame", frame(2))]


def test_who_does_not_keep_up_holds_nobody_up():
    events = Events({})
    slow = events.listen()
    assert slow is not None
    for epoch in range(1000):
        events.publish(frame(epoch))
    [client] = events._clients
    assert client.qsize() == module._WAITING
    assert told(slow, 2)[1] == ("frame", frame(1000 - module._WAITING))  # after the start
    slow.close()
    assert not events._clients


def test_the_history_is_bounded_and_keeps_its_ends():
    events = Events({})
    for epoch in range(5000):
        events.publish(frame(epoch))
    epochs = [event["epoch"] for event in events.history]
    assert len(epochs) <= module._MOST
    assert (epochs[0], epochs[-1]) == (0, 4999)
    assert epochs == sorted(epochs)


def test_too_many_pages_are_refused():
    events = Events({})
    texts = [events.listen() for _ in range(module._MOST_CLIENTS)]
    assert all(texts)
    assert events.listen() is None


@pytest.fixture
def server() -> Iterator[PageServer]:
    with PageServer(watch_page("<b>t</b>"), events=Events({"title": "t"}, [frame(1)])) as made:
        threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True).start()
        yield made
        made.shutdown()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Host": "evil.example"}, 403),
    ],
)
def test_only_its_own_page_may_listen(server, headers, status):
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=5)
    connection.request("GET", "/events", headers=headers)
    reply = connection.getresponse()
    assert reply.status == status
    if status == 200:
        assert reply.headers["Content-Type"] == "text/event-stream"
        assert reply.fp.readline() == b"event: start\n"
    connection.close()


def test_the_title_is_text(server):
    assert "<b>t</b>" not in server.page.decode()


@pytest.fixture(scope="module")
def watched_run(tmp_path_factory) -> Path:
    """A run that was watched, by a process that Ctrl-C ended."""
    run = tmp_path_factory.mktemp("runs") / "r"
    environment = os.environ | {"BROWSER": "/bin/true"}
    command = [sys.executable, "-m", "trainer", *TRAIN, "--watch", "--out", str(run)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if "stays until Ctrl-C" in line:
                break
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
    assert any("watch it at http://127.0.0.1:" in line for line in lines)
    return run


def test_a_watched_training_keeps_its_moments_and_learns_the_same(watched_run, tmp_path):
    about, frames = stored(watched_run)
    assert about is not None
    assert about["classes"] == [str(k) for k in range(10)]
    assert [f["epoch"] for f in frames if f["accuracy"] is not None] == [1, 2, 3]
    assert all("units" in f for f in frames)
    assert main([*TRAIN, "--quiet", "--out", str(tmp_path / "plain")]) == 0
    files = [folder / "model.safetensors" for folder in (watched_run, tmp_path / "plain")]
    assert files[0].read_bytes() == files[1].read_bytes()


@needs_browser
@pytest.mark.parametrize("watched", [True, False])
def test_it_is_shown_again(watched, watched_run, tmp_path):
    run = watched_run
    if not watched:
        run = tmp_path / "plain"
        assert main([*TRAIN, "--quiet", "--out", str(run)]) == 0
    command = [sys.executable, "-m", "trainer", "watch", str(run), "--no-browser"]
    browser = Browser()
    try:
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            url = next(line for line in process.stdout if "http" in line).split()[-1]
            page = browser.open(url, width=320)
            count = len(stored(run)[1]) if watched else 3
            while page.run("frames.length") < count:
                page.settle()
            page.settle()
            assert "epoch 3.00: loss" in page.run("byId('stands').textContent")
            assert page.run("byId('backquery').children.length") == 10
            # numbered as `inspect --unit` takes them
            assert page.run("byId('units').firstElementChild.textContent").strip() == "0"
            assert page.run("document.documentElement.scrollWidth") <= 320
            page.run("show(0)")
            assert "epoch 3.00" not in page.run("byId('stands').textContent")
            page.run("play(true)")
            assert page.run("byId('play').textContent") == "Pause"
            assert page.problems() == []
            assert page.requests() == [url, f"{url}events"]
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 0
    finally:
        browser.close()


def test_a_damaged_file_is_left_alone(watched_run, tmp_path):
    whole = (watched_run / FILE).read_bytes()
    other = (b"", b"{}", b"[1]\n[2]\n", b'{"a": 1}\n{"epoch": "x"}')
    for content in (*other, whole[: len(whole) // 2]):
        (tmp_path / FILE).write_bytes(content)
        about, frames = stored(tmp_path)
        assert about is None or not frames


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["watch", "nowhere"], "no run is there"), (["watch", "runs.npz"], "no run is there")],
)
def test_a_mistake_is_one_line(arguments, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    message = capsys.readouterr().err
    assert words in message
    assert message.count("\n") == 1

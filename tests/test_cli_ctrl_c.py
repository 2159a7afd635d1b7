"""Ctrl-C in a terminal: the bar goes, and nothing of it stays above what is said at the end."""

from __future__ import annotations

import contextlib
import os
import pty
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Sequence
from fcntl import ioctl
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
COLUMNS = 80


def screen_after(received: str) -> list[str]:
    """The lines that a terminal shows, which wraps at its last column, after what it received."""
    pyte = pytest.importorskip("pyte", reason="it stands in for a terminal")
    screen = pyte.Screen(COLUMNS, 60)
    pyte.Stream(screen).feed(received)
    assert not screen.cursor.hidden
    return [line.rstrip() for line in screen.display]


def interrupted(arguments: Sequence[str], when: bytes) -> list[str]:
    """The screen after a command to which Ctrl-C is typed a moment after it wrote something."""
    leader, follower = pty.openpty()
    ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 60, COLUMNS, 0, 0))

    def own_terminal() -> None:
        os.setsid()
        ioctl(0, termios.TIOCSCTTY, 0)

    kept = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES", "NO_COLOR")}
    process = subprocess.Popen(
        [sys.executable, "-m", "trainer", *arguments, "--device", "cpu"],
        env=kept | {"PYTHONPATH": str(ROOT), "TERM": "xterm-256color"},
        stdin=follower,
        stdout=follower,
        stderr=follower,
        preexec_fn=own_terminal,
    )
    os.close(follower)
    received, typed = b"", False
    with contextlib.suppress(OSError):  # Linux says "input/output error" at the end
        while chunk := os.read(leader, 65536):
            received += chunk
            if not typed and when in received:
                time.sleep(0.4)
                os.write(leader, b"\x03")  # which the terminal also shows, as ^C
                typed = True
    os.close(leader)
    assert process.wait(60) == 130
    assert typed
    return screen_after(received.decode())


@pytest.fixture
def data(tmp_path, monkeypatch) -> str:
    """So many samples that an epoch takes a while."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (40_000, 300), np.uint8), rng.integers(0, 10, 40_000)
    np.savez("d.npz", x_train=x, y_train=y, x_test=x[:100], y_test=y[:100])
    return "d.npz"


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("command", "when"),
    [
        (["train", "--epochs", "500"], b" left"),
        (["sweep", "--learning-rate", "0.1:0.9:0.01", "--epochs", "1", "--jobs", "1"], b" left"),
        (["sweep", "--learning-rate", "0.1,0.2", "--jobs", "2"], b"being started"),
        (["bench", "--hidden", "50", "--batch-size", "64,512", "--seconds", "60"], b"round 1"),
    ],
)
def test_ctrl_c_leaves_no_bar_behind(data, command, when):
    lines = interrupted([*command, "--data", data], when)
    text = "\n".join(lines)
    assert "stopped by Ctrl-C" in text
    assert "━" not in text  # of a bar
    assert "^C" not in text
    assert "Traceback" not in text
    headers = [line for line in lines if line.split()[-1:] in (["samples/s"], ["runs"])]
    assert len(headers) <= 1 or command[0] == "train"

"""Cause every fault that a run must survive, and record its message.

    python scripts/faults.py            # prints the table of docs/reliability.md
    python scripts/faults.py --write    # puts it there

Each row is a real command in an empty folder: its line of output and its exit code. A disk that is
full or read-only is a file system in memory, which only root may mount; without root these two
rows are omitted. A GPU that is lost is the tests' stand-in for CuPy, made to fail.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import pty
import re
import resource
import shlex
import signal
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # this checkout is tested, not what may be installed

from trainer.files import write_whole  # noqa: E402

DOCUMENT = ROOT / "docs" / "reliability.md"
_TABLE = re.compile(r"(?<=<!-- table -->\n).*?(?=<!-- end of the table -->)", re.DOTALL)
DIGITS = ["--data", "digits", "--device", "cpu", "--out", "r"]
LONG = [*DIGITS, "--epochs", "100000", "--checkpoint-every", "0.2s"]
FEW = [*DIGITS, "--epochs", "3"]
SHORT = [*FEW, "--checkpoint-every", "1"]
RESUME = ["--resume", "r"]

# a module that Python imports on its start: the clock runs backwards
_CLOCK = "import time; now = iter(range(2 * 10**9, 0, -60)); time.time = lambda: float(next(now))"
# CuPy on the host, whose 41st call of the training's kernels fails
_LOST_GPU = """
import sys
from tests.cuda.stand_in import fake_cupy
fake = fake_cupy()
sys.modules.update(fake.modules)
from backends.kernels.cuda import cublas
cublas.cublas_library = lambda major: fake.cuda.cublas
from backends.gpu import GpuBackend
learn, calls = GpuBackend.learn, []
def failing(*arguments, **options):
    calls.append(1)
    if len(calls) > 40:
        error = "cudaErrorLaunchFailure: unspecified launch failure"
        raise fake.cuda.runtime.CUDARuntimeError(error)
    return learn(*arguments, **options)
GpuBackend.learn = failing
from trainer.cli import main
sys.exit(main())
"""

Row = tuple[str, str, str, int]


class Place:
    """An empty folder, and commands in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def start(self, arguments: list[str], **settings: Any) -> subprocess.Popen[str]:
        """Start `python -m trainer train` with its output in a pipe."""
        environment = os.environ | {"PYTHONPATH": str(ROOT)} | settings.pop("environment", {})
        program = settings.pop("program", ["-m", "trainer"])
        return subprocess.Popen(
            [sys.executable, *program, "train", *arguments],
            cwd=self.folder,
            env=environment,
            text=True,
            **{"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT} | settings,
        )

    def run(self, arguments: list[str], **settings: Any) -> tuple[str, int]:
        """Run it to its end; return its output and its exit code."""
        process = self.start(arguments, **settings)
        said, _ = process.communicate(timeout=300)
        return said or "", process.returncode

    def until(self, pattern: str) -> None:
        """Wait until there is a file."""
        while not any(self.folder.glob(pattern)):
            time.sleep(0.01)

    def newest(self) -> Path:
        """Return the newest checkpoint."""
        return max(self.folder.glob("r/checkpoints/epoch*.safetensors"))


def line(said: str, *words: str) -> str:
    """Return the first line with one of some words, without what differs from run to run."""
    for text in said.splitlines():
        if any(word in text for word in words):
            return re.sub(r"^ *resumed +", "resumed ", text.strip())
    raise AssertionError(f"none of {words} in: {said}")


def typed(arguments: list[str]) -> str:
    """Return a command as one types it."""
    return "python -m trainer train " + shlex.join(arguments)


# --- the faults -----------------------------------------------------------------------------


def killed(place: Place) -> list[Row]:
    """Kill a run with SIGKILL after a checkpoint."""
    process = place.start(LONG)
    place.until("r/checkpoints/epoch*.safetensors")
    process.kill()
    process.communicate()
    told, code = stopped_soon(place, RESUME)
    text = re.sub(r"epoch\d+(\+\d+)?", "epochN", line(told, "resumed"))
    text = re.sub(r"after .*?, from", "after N epochs and M samples, from", text)
    return [
        ("kill -9 at any moment", typed(LONG), "(nothing)", 128 - process.returncode),
        ("… and then, ended by SIGTERM", typed(RESUME), text, code),
    ]


def stopped_soon(place: Place, arguments: list[str]) -> tuple[str, int]:
    """Run a command until it trains, then end it with SIGTERM."""
    process = place.start(arguments)
    assert process.stdout is not None
    said = ""
    for text in process.stdout:
        said += text
        if re.match(r" +\d+ +\d", text):
            process.send_signal(signal.SIGTERM)
            break
    said += process.stdout.read()
    return said, process.wait()


def killed_early(place: Place) -> list[Row]:
    """Kill a run with SIGKILL before there is a checkpoint."""
    process = place.start(FEW)
    place.until("r/config.json")
    process.kill()
    process.communicate()
    said, code = place.run(RESUME)
    assert "resumed" not in said
    return [
        (
            "kill -9 before the first checkpoint, and then",
            typed(RESUME),
            line(said, " of 360 test samples right"),
            code,
        )
    ]


def signals(place: Place) -> list[Row]:
    """Stop a run with Ctrl-C, SIGTERM and SIGHUP."""
    rows = []
    for name, number in (
        ("Ctrl-C", signal.SIGINT),
        ("SIGTERM", signal.SIGTERM),
        ("SIGHUP", signal.SIGHUP),
    ):
        there = Place(place.folder / name)
        there.folder.mkdir()
        process = there.start(LONG)
        there.until("r/metrics.jsonl")
        process.send_signal(number)
        said, _ = process.communicate()
        text = f"{line(said, 'stopped by')} / {line(said, 'go on:')}"
        text = re.sub(r"epoch [\d,]+", "epoch N", text)
        rows.append((name, typed(LONG), text, process.returncode))
    return rows


def full_disk(place: Place) -> list[Row]:
    """Write to a file system of 100 KB."""
    mount(place, "size=100k")
    try:
        said, code = place.run(LONG)
        told, resumed = place.run(RESUME)
    finally:
        unmount(place)
    return [
        ("a full disk", typed(LONG), shortened(line(said, "error:")), code),
        ("… and then, still full", typed(RESUME), shortened(line(told, "error:")), resumed),
    ]


def read_only(place: Place) -> list[Row]:
    """Write to a file system that is read-only."""
    mount(place, "size=2m")
    try:
        assert place.run(SHORT)[1] == 0
        mount(place, "remount,ro")
        more = [*RESUME, "--epochs", "6"]
        said, code = place.run(more)
        new = ["--data", "digits", "--out", "s"]
        told, other = place.run(new)
    finally:
        unmount(place)
    return [
        ("a read-only folder", typed(more), shortened(line(said, "error:")), code),
        ("… for a new run", typed(new), line(told, "error:"), other),
    ]


def mount(place: Place, options: str) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", place.folder], check=True)


def unmount(place: Place) -> None:
    subprocess.run(["umount", place.folder], check=True)


def shortened(text: str) -> str:
    """Omit the folder and the position, which differ from run to run."""
    text = re.sub(r"(error: )/\S*/(r/)", r"\1\2", text)
    text = re.sub(r"epoch [\d,]+", "epoch N", text)
    text = re.sub(r"epoch\d+(\+\d+)?", "epochN", text)
    return re.sub(r"after [\d,]+ epochs?( and [\d,]+ samples)?", "after N epochs", text)


def damaged(place: Place) -> list[Row]:
    """Truncate the newest checkpoint, then flip a bit in another."""
    rows = []
    assert place.run(SHORT)[1] == 0
    os.truncate(place.newest(), 1000)
    more = [*RESUME, "--epochs", "4"]
    for what in ("the newest checkpoint cut off", "a bit flipped in it"):
        said, code = place.run(more)
        text = f"{line(said, 'passed over')} / {line(said, 'resumed')}"
        rows.append((what, typed(more), text, code))
        content = bytearray(place.newest().read_bytes())
        content[len(content) // 2] ^= 1
        place.newest().write_bytes(content)
        more = [*RESUME, "--epochs", "5"]
    return rows


def damaged_beside(place: Place) -> list[Row]:
    """Damage the weights and the config of a finished run."""
    assert place.run(SHORT)[1] == 0
    (place.folder / "r/config.json").write_bytes(b"\x00\xff")
    os.truncate(place.folder / "r/model.safetensors", 100)
    said, code = place.run(RESUME)
    return [
        (
            "config.json and model.safetensors damaged",
            typed(RESUME),
            " / ".join(text for text in said.splitlines() if "mended from" in text),
            code,
        )
    ]


def two_at_once(place: Place) -> list[Row]:
    """Start two runs in one folder."""
    process = place.start(LONG)
    place.until("r/metrics.jsonl")
    said, code = place.run(SHORT)
    told, resumed = place.run(RESUME)
    process.kill()
    process.communicate()

    def plain(text: str) -> str:
        return re.sub(
            r"process \d+ on \S+ since [\d :-]+", "process 4242 on HOST, since DATE", text
        )

    return [
        ("a run into a folder where one runs", typed(SHORT), plain(line(said, "error:")), code),
        ("… and going on with it", typed(RESUME), plain(line(told, "error:")), resumed),
    ]


def clock(place: Place) -> list[Row]:
    """Set the clock back a minute whenever it is read."""
    (place.folder / "usercustomize.py").write_text(_CLOCK)
    environment = {"PYTHONPATH": f"{ROOT}{os.pathsep}{place.folder}"}
    assert place.run(SHORT, environment=environment)[1] == 0
    more = [*RESUME, "--epochs", "4"]
    said, code = place.run(more, environment=environment)
    return [("the clock set back all the time", typed(more), line(said, "resumed"), code)]


def terminal(place: Place) -> list[Row]:
    """Close the terminal."""
    leader, follower = pty.openpty()
    with (place.folder / "errors").open("w") as errors:
        process = place.start(
            LONG,
            stdin=follower,
            stdout=follower,
            stderr=errors,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
    os.close(follower)
    while not (place.folder / "r/metrics.jsonl").exists():
        os.read(leader, 65536)
    os.close(leader)
    code = process.wait()
    assert "Traceback" not in (place.folder / "errors").read_text()
    assert place.newest().exists()
    return [("the terminal gone", typed(LONG), "(nobody is there to read it)", code)]


def closed_stdout(place: Place) -> list[Row]:
    """Close the standard output, as `| head` does."""
    process = place.start(LONG, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    for _ in range(7):
        process.stdout.readline()
    process.stdout.close()
    said = process.stderr.read()
    code = process.wait()
    return [("stdout closed", f"{typed(LONG)} | head -n 7", shortened(line(said, "error:")), code)]


def lost_gpu(place: Place) -> list[Row]:
    """Lose the GPU in the middle of a run."""
    options = ["--data", "digits", "--device", "gpu", "--epochs", "99", "--out", "r"]
    options += ["--checkpoint-every", "1"]
    said, code = place.run(options, program=["-c", _LOST_GPU])
    return [("a GPU lost in mid-run", typed(options), shortened(line(said, "error:")), code)]


def short_memory(place: Place) -> list[Row]:
    """Train a network that does not fit into 8 GB."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))

    options = ["--data", "digits", "--device", "cpu", "--hidden", "90000,90000"]
    said, code = place.run(options, preexec_fn=limit)
    return [("memory short", f"ulimit -v 8388608; {typed(options)}", line(said, "error:"), code)]


def agreement(place: Place) -> list[Row]:
    """Resume with other options, a finished run, and with more epochs."""
    assert place.run(SHORT)[1] == 0
    rows = []
    for what, more, word in (
        ("other options than the run began with", ["--learning-rate", "0.2"], "error:"),
        ("a finished run", [], "has finished"),
        ("more epochs", ["--epochs", "6"], "resumed"),
    ):
        said, code = place.run([*RESUME, *more])
        rows.append((what, typed([*RESUME, *more]), line(said, word), code))
    full = [*("--data", "digits", "--device", "cpu", "--optimizer", "cg", "--out", "s")]
    full += ["--loss", "squared_error", "--max-iterations", "3"]
    assert place.run(full)[1] == 0
    more = ["--resume", "s", "--max-iterations", "6"]
    said, code = place.run(more)
    rows.append(("a full-batch method", typed(more), line(said, "starts again"), code))
    return rows


FAULTS: tuple[Callable[[Place], list[Row]], ...] = (
    killed,
    killed_early,
    signals,
    full_disk,
    read_only,
    damaged,
    damaged_beside,
    two_at_once,
    clock,
    terminal,
    closed_stdout,
    lost_gpu,
    short_memory,
    agreement,
)


def table() -> str:
    """Cause all faults; return a table in Markdown."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        for fault in FAULTS:
            if fault in (full_disk, read_only) and os.geteuid():
                print(f"{fault.__name__}: only root may mount a file system", file=sys.stderr)
                continue
            place = Place(Path(folder, fault.__name__))
            place.folder.mkdir()
            rows += fault(place)
            print(f"{fault.__name__}: done", file=sys.stderr)
    text = "| Fault | Command | Its line | Exit |\n| --- | --- | --- | --- |\n"
    for what, command, said, code in rows:
        text += f"| {what} | `{command.replace('|', chr(92) + '|')}` | {said} | {code} |\n"
    return text


def main() -> None:
    """Print the table, or write it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help=f"into {DOCUMENT.name}")
    given = parser.parse_args()
    rows = table()
    if given.write:
        text = DOCUMENT.read_text()
        write_whole(DOCUMENT, _TABLE.sub(lambda _: f"\n{rows}\n", text).encode())
    else:
        print(rows)


if __name__ == "__main__":
    main()

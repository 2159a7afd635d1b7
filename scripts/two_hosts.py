"""Train by two processes on two hosts: python scripts/two_hosts.py [--data mnist]

The hosts are network namespaces of this machine, with names and processes of their own, which need
root. Open MPI starts its daemon on the other by a script in place of ssh, and both exchange over
TCP. They are joined by a pair of virtual Ethernet devices, and where delay or loss is asked for by
two TAP devices and a program between them, which holds back frames and drops some: it does what
the kernel's netem does, which not every kernel has. Measured is an update by delay and loss, and
what happens where the line is cut in the middle of a training, which is resumed afterwards. All is
removed at the end. The table goes to stdout, and to ranks.md and ranks.json in the folder --out.
"""

from __future__ import annotations

import fcntl
import json
import os
import random
import select
import shlex
import struct
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # this checkout is measured, not what may be installed

from scripts import mpi  # noqa: E402
from scripts.measuring import Parser, Row, as_number, as_table, summary  # noqa: E402

SECTION = "Two hosts"
HOSTS = ("xptr-a", "xptr-b")  # namespaces, and names of the hosts in them
DEVICES = ("xptr0", "xptr1")
ADDRESSES = ("192.0.2.1", "192.0.2.2")  # of RFC 5737, which no network has
MTU = 1500
_TUNSETIFF, _TAP, _NO_INFO = 0x400454CA, 0x0002, 0x1000
_LINE = 64_000  # frames on their way, at most


@dataclass(frozen=True)
class Line:
    """What joins the hosts: a plain pair of devices, or a program that delays and drops.

    Attributes
    ----------
    delay : float
        Milliseconds of a frame's way; there and back take twice that.
    loss : float
        Percent of the frames that are dropped.
    relayed : bool
        Whether the program is between them, which itself takes time.
    """

    delay: float = 0.0
    loss: float = 0.0
    relayed: bool = True

    def __str__(self) -> str:
        return f"{self.delay:g} ms, {self.loss:g} % lost" if self.relayed else "direct"


LINES = (
    Line(relayed=False),
    *(Line(delay, loss) for delay in (0, 1, 5) for loss in (0, 0.1, 1)),
)


# --- the hosts ------------------------------------------------------------------------------


def ip(*arguments: str, check: bool = True) -> None:
    """Run iproute2's `ip`; raise RunFailed with its error."""
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True)
    if check and done.returncode:
        raise mpi.RunFailed(f"ip {' '.join(arguments)}: {done.stderr.strip()}")


def on_host(host: int, *command: str) -> list[str]:
    """Return a command as it runs on one of the hosts."""
    named = 'hostname "$0"; exec "$@"'
    return [
        *("ip", "netns", "exec", HOSTS[host]),
        *("unshare", "--uts", "--ipc", "--", "sh", "-c", named, HOSTS[host], *command),
    ]


def tap(name: str) -> int:
    """Make a TAP device, which is there as long as the returned file is open."""
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _TAP | _NO_INFO))
    return device


def relay(devices: Sequence[int], delay: float, loss: float, seed: int = 0) -> None:
    """Hand frames from each of two devices to the other, later, and drop some; never return.

    Parameters
    ----------
    delay : float
        Seconds.
    loss : float
        The share of frames that are dropped.
    """
    rng, on_way = random.Random(seed), (deque[Any](), deque[Any]())
    while True:
        due = min((way[0][0] for way in on_way if way), default=None)
        wait = None if due is None else max(0.0, due - time.monotonic())
        readable, _, _ = select.select(devices, [], [], wait)
        for side in (0, 1):
            if devices[side] in readable:
                with suppress(BlockingIOError):
                    for _ in range(64):
                        frame = os.read(devices[side], 65536)
                        if rng.random() >= loss and len(on_way[side]) < _LINE:
                            on_way[side].append((time.monotonic() + delay, frame))
            now = time.monotonic()
            while on_way[side] and on_way[side][0][0] <= now:
                with suppress(OSError):  # a device that is down takes none
                    os.write(devices[1 - side], on_way[side][0][1])
                on_way[side].popleft()


@contextmanager
def joined(line: Line) -> Iterator[None]:
    """Make both hosts and the line between them, and remove all of it afterwards."""
    remove()
    program, devices = None, []
    try:
        for host in HOSTS:
            ip("netns", "add", host)
        if line.relayed:
            devices = [tap(name) for name in DEVICES]
        else:
            ip("link", "add", DEVICES[0], "type", "veth", "peer", "name", DEVICES[1])
        for host, device, address in zip(HOSTS, DEVICES, ADDRESSES, strict=True):
            ip("link", "set", device, "netns", host)
            ip("-n", host, "address", "add", f"{address}/24", "dev", device)
            ip("-n", host, "link", "set", device, "mtu", str(MTU), "up")
            ip("-n", host, "link", "set", "lo", "up")
        if line.relayed:
            arguments = devices, line.delay / 1e3, line.loss / 100
            program = get_context("fork").Process(target=relay, args=arguments, daemon=True)
            program.start()
        yield
    finally:
        if program is not None:
            program.kill()
            program.join()
        for device in devices:
            os.close(device)
        remove()


def remove() -> None:
    """Remove the hosts, and with them their devices."""
    for host in HOSTS:
        ip("netns", "del", host, check=False)
    ip("link", "del", DEVICES[0], check=False)


def launcher(folder: Path) -> list[str]:
    """Return mpirun for a process on each host, run on the first; over TCP alone."""
    agent = folder / "agent"
    # called as ssh is: the host, and a command for its shell
    on_other = shlex.join(on_host(1, "sh", "-c"))
    agent.write_text(f'#!/bin/sh\nshift\nexec {on_other} "$*"\n')
    agent.chmod(0o755)
    network = "192.0.2.0/24"
    return on_host(
        0,
        *mpi.mpirun("-n", "2", "--host", f"{ADDRESSES[0]}:1,{ADDRESSES[1]}:1"),
        *("--prtemca", "plm_ssh_agent", str(agent), "--prtemca", "prte_if_include", network),
        *(
            "--mca",
            "pml",
            "ob1",
            "--mca",
            "btl",
            "tcp,self",
            "--mca",
            "btl_tcp_if_include",
            network,
        ),
        # else daemons take some eight minutes to notice that a line is cut
        *("--prtemca", "oob_tcp_keepalive_time", "5", "--prtemca", "oob_tcp_keepalive_intvl", "2"),
        *("--prtemca", "oob_tcp_keepalive_probes", "3", "-x", "PYTHONPATH", "-x", "PATH"),
    )


# --- measuring ------------------------------------------------------------------------------


def trained(given: Any, folder: Path, epochs: int, *options: str) -> list[str]:
    """Return the arguments of a training, of which 784-200-10 is the network."""
    return [
        *("--data", given.data, "--device", "cpu", "--batch-size", str(mpi.BATCH)),
        *("--epochs", str(epochs), "--limit", str(given.limit), "--out", str(folder), *options),
    ]


def step_seconds(given: Any, line: Line, folder: Path) -> Row:
    """Train over a line; return the seconds of an update, by epochs but the first."""
    folder.mkdir()
    with joined(line):
        command = [*launcher(folder), *mpi.trainer(*trained(given, folder / "run", 4), "--quiet")]
        mpi.run(command, folder / "log")
        sent = bytes_sent()
    updates = -(-given.limit // mpi.BATCH)
    metrics = mpi.epochs(folder / "run")
    seconds = summary(epoch["epoch_seconds"] / updates for epoch in metrics[1:])
    return seconds | {"bytes_sent_an_update": sent / updates / len(metrics)}


def bytes_sent() -> int:
    """Return how many bytes the first host has sent, headers and all."""
    asked = ["ip", "-n", HOSTS[0], "-s", "-j", "link", "show", "dev", DEVICES[0]]
    told = json.loads(subprocess.run(asked, capture_output=True, check=True).stdout)
    return int(told[0]["stats64"]["tx"]["bytes"])


def said(log: Path) -> list[str]:
    """Return the lines that the trainer has printed, and not Open MPI."""
    lines = log.read_text(errors="replace").replace("\r", "\n").split("\n")
    return [line.strip() for line in lines if line.strip().startswith("error: ")]


def alive(run: Path) -> list[int]:
    """Return the numbers of processes that still train into a folder."""
    found = []
    for folder in Path("/proc").iterdir():
        with suppress(OSError):
            if folder.name.isdecimal() and str(run).encode() in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
    return found


def cut(given: Any, folder: Path, patience: float) -> Row:
    """Cut the line in the middle of a training; return how it ended, and whether it resumes.

    Parameters
    ----------
    patience : float
        Seconds after which what has not ended is killed.
    """
    folder.mkdir()
    run, epochs, log = folder / "run", 400, folder / "log"
    with joined(Line(relayed=False)):
        command = [
            *launcher(folder),
            *mpi.trainer(*trained(given, run, epochs, "--checkpoint-every", "1s"), "--quiet"),
        ]
        process = mpi.start(command, log)
        while process.poll() is None and not any((run / "checkpoints").glob("epoch*")):
            time.sleep(0.01)
        time.sleep(1)
        ip("-n", HOSTS[0], "link", "set", DEVICES[0], "down")
        begun, ended = time.monotonic(), {}
        while alive(run) and time.monotonic() - begun < patience:
            if process.poll() is not None:
                ended.setdefault("mpirun", time.monotonic() - begun)
            time.sleep(0.05)
        left = alive(run)
        ended["all"] = time.monotonic() - begun
        for number in left:
            with suppress(ProcessLookupError):
                os.kill(number, 9)
        process.wait()
    before = len(mpi.epochs(run))
    wanted = str(before + 5)
    mpi.run(
        [*mpi.mpirun("-n", "2"), *mpi.trainer("--resume", str(run), "--epochs", wanted, "--quiet")],
        folder / "resumed",
    )
    return {
        "seconds": ended,
        "code": process.returncode,
        "left": len(left),
        "said": said(log),
        "mpi_said": " ".join(log.read_text(errors="replace").split())[:1500],
        "epochs_before": before,
        "epochs_after": len(mpi.epochs(run)),
    }


def as_text(report: Row, line: str) -> str:
    """Format the section."""
    rows = [["line, one way", "ms an update", "range", "times the direct one", "MB sent"]]
    first = report["lines"][str(LINES[0])]["median"]
    for name, row in report["lines"].items():
        median, low, high = (as_number(row[key] * 1e3) for key in ("median", "min", "max"))
        sent = as_number(row["bytes_sent_an_update"] / 1e6)
        rows.append([name, median, f"{low} … {high}", as_number(row["median"] / first), sent])
    text = [
        f"784-200-10, batches of {mpi.BATCH}, a process on each of two hosts, which are network"
        " namespaces of one machine and so share its cores; over TCP, frames of"
        f" {MTU} bytes. Seconds of an update: the epochs but the first of a training of"
        f" {report['limit']:,} samples. Direct: a pair of virtual devices; all others: through a"
        " program that holds back and drops frames, and takes time itself. MB sent:"
        " what the first host's device has counted, by updates, evaluation and start included.",
        as_table(rows),
    ]
    if "cut" in report:
        cut = report["cut"]
        whose = "; ".join(f"“{words}”" for words in cut["said"]) or "nothing"
        note = " ".join(cut["mpi_said"].strip("- \0").split()[:8])
        ending = (
            f"{cut['left']} processes were still there after {as_number(cut['seconds']['all'])} s,"
            " and were killed"
            if cut["left"]
            else f"all processes had ended after {as_number(cut['seconds']['all'])} s"
        )
        text.append(
            f"The line was cut in mid-training (`ip link set … down`): {ending}; mpirun exited"
            f" with {cut['code']} and the words “{note} …”. The program said: {whose}. Resumed"
            f" with {cut['epochs_before']} epochs done, it went on to epoch {cut['epochs_after']}."
        )
    return "\n\n".join([*text, line])


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write the report."""
    parser = Parser(__doc__)
    parser.add_argument("--data", default="mnist")
    parser.add_argument("--limit", type=int, default=5120, help="training samples")
    parser.add_argument("--patience", type=float, default=120, help="seconds after the cut")
    parser.add_argument("--no-cut", action="store_true")
    parser.add_argument("--lines", type=int, default=len(LINES), help="only the first so many")
    parser.add_argument("--out", type=Path, default=Path("benchmarks"))
    given = parser.parse_args(arguments)
    if os.geteuid():
        parser.error("network namespaces need root: sudo python scripts/two_hosts.py")
    machine = mpi.machine()
    report: Row = {"data": Path(given.data).name, "limit": given.limit, "lines": {}}
    with tempfile.TemporaryDirectory(prefix="hosts-") as folder:
        try:
            for number, line in enumerate(LINES[: given.lines]):
                print(line, flush=True)
                found = step_seconds(given, line, Path(folder, str(number)))
                report["lines"][str(line)] = found
                print(json.dumps(found), flush=True)
            if not given.no_cut:
                report["cut"] = cut(given, Path(folder, "cut"), given.patience)
        except mpi.RunFailed as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
    mpi.publish(given.out, SECTION, as_text, report, machine)
    return 0


if __name__ == "__main__":
    sys.exit(main())

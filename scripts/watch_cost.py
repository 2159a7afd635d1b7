"""Measure what `train --watch` costs a training: without a page, with a reader, with a browser.

    python scripts/watch_cost.py --data shared/data/mnist --rounds 7 --json watch.json

Each round trains the same network once a case, one after the other: without --watch, with it and
nobody who listens, with curl that reads the events and throws them away, and with the page open in
a headless Chromium that was started before. Compared are the seconds of the epochs, and the CPU
seconds of the training's process and of the browser's, which other work on the machine changes
less. With --before FOLDER the page and the server of another checkout are measured in the same
rounds.

    python scripts/watch_cost.py --data shared/data/mnist --epochs 40 --count

reads the clocks of the threads instead, which says what --watch takes of the cores even where other
work changes the time of a whole training by more than that.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from statistics import median
from time import clock_gettime, perf_counter, pthread_getcpuclockid, sleep, thread_time
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.browser import Browser  # noqa: E402

_TICKS = os.sysconf("SC_CLK_TCK")


def _cpu_seconds(root: int) -> float:
    """Return the CPU seconds that a process and all below it have used, of those that live."""
    parents, used = {}, {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        number = int(stat.parent.name)
        parents[number], used[number] = int(fields[1]), int(fields[11]) + int(fields[12])
    total = 0
    for number in used:
        above = number
        while above not in (root, 0):
            above = parents.get(above, 0)
        total += used[number] if above == root else 0
    return total / _TICKS


def _measured(client: str, code: Path, train: list[str], browser: Browser | None) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder, "run")
        watch = [] if client == "plain" else ["--watch"]
        command = [sys.executable, "-m", "trainer", *train, *watch, "--out", str(run)]
        environment = os.environ | {"PYTHONPATH": str(code), "BROWSER": "true"}
        began = perf_counter()
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        reader, theirs = None, 0.0
        assert process.stdout is not None
        for line in process.stdout:
            if found := re.search(rb"watch it at (\S+)", line):
                url = found[1].decode()
                if client == "curl":
                    reader = subprocess.Popen(["curl", "-sN", f"{url}events", "-o", "/dev/null"])
                elif client == "browser" and browser is not None:
                    theirs = _cpu_seconds(browser.pid)
                    browser.call("Target.createTarget", url=url)
            elif b"the page stays until" in line:
                break
        whole = perf_counter() - began
        if browser is not None and client == "browser":
            theirs = _cpu_seconds(browser.pid) - theirs
        if client != "plain":
            process.send_signal(signal.SIGINT)
        process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = status
        if reader is not None:
            reader.wait()
        lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
        return {
            "epochs": sum(line["epoch_seconds"] for line in lines),
            "whole": whole,
            "cpu": usage.ru_utime + usage.ru_stime,
            "browser_cpu": theirs,
        }


def _counted(train: list[str], browser: Browser | None) -> dict[str, float]:
    """Train once with --watch; return what of the training's time each part of it has taken.

    The clocks of the threads are read when the training ends, so that no other work on the machine
    and no second training counts.
    """
    began = _cpu_seconds(browser.pid) if browser else 0.0
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--one", "--", *train, "--watch"]
        command += ["--out", str(Path(folder, "run"))]
        environment = os.environ | {"BROWSER": "true"}
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        assert process.stdout is not None
        found: dict[str, float] = {}
        for line in process.stdout:
            if browser and (at := re.search(r"watch it at (\S+)", line)):
                began = _cpu_seconds(browser.pid)
                browser.call("Target.createTarget", url=at[1])
            elif line.startswith("counted "):
                found = json.loads(line.removeprefix("counted "))
                if browser:
                    found["browser"] = _cpu_seconds(browser.pid) - began
            elif "the page stays until" in line:
                break
        process.send_signal(signal.SIGINT)
        process.communicate()
        lines = Path(folder, "run", "metrics.jsonl").read_text().splitlines()
    return found | {"epochs": sum(json.loads(line)["epoch_seconds"] for line in lines)}


def _one(arguments: list[str]) -> int:
    """Train in this process, and print what the threads of --watch have used at its end."""
    from trainer.cli import main as program
    from trainer.snapshots import Snapshots
    from trainer.web.server import PageServer

    taken, requests = [0.0], [0.0]
    take, end, answer = Snapshots.take, Snapshots.end, PageServer.process_request_thread

    def timed_take(self: Any, *more: Any) -> None:
        start = perf_counter()
        take(self, *more)
        taken[0] += perf_counter() - start

    def timed_answer(self: Any, *more: Any) -> None:
        answer(self, *more)
        requests[0] += thread_time()  # of a thread that has answered one request

    def counted_end(self: Any) -> None:
        used = {"copies": taken[0], "pictures": 0.0, "server": requests[0]}
        for thread in threading.enumerate():
            name, clock = thread.name, pthread_getcpuclockid(thread.ident or 0)
            if name == "snapshots":
                used["pictures"] += clock_gettime(clock)
            elif "process_request_thread" in name or "serve_forever" in name:
                used["server"] += clock_gettime(clock)
        print("counted", json.dumps(used), flush=True)
        end(self)

    Snapshots.take, Snapshots.end = timed_take, counted_end  # type: ignore[method-assign]
    PageServer.process_request_thread = timed_answer  # type: ignore[method-assign]
    return program(arguments)


def main() -> int:
    if sys.argv[1:3] == ["--one", "--"]:
        return _one(sys.argv[3:])
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", default="mnist")
    parser.add_argument("--epochs", default="5")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--count", action="store_true", help="the clocks of the threads, in place of comparisons"
    )
    parser.add_argument("--before", type=Path, help="another checkout, measured in the same rounds")
    parser.add_argument("--json", type=Path, help="where the measurements go")
    asked = parser.parse_args()
    train = ["--data", str(Path(asked.data).absolute() if os.sep in asked.data else asked.data)]
    train += ["--epochs", asked.epochs, "--device", "cpu"]
    if asked.count:
        counts: dict[str, list[dict[str, float]]] = {}
        for number in range(asked.rounds):
            for name in ("alone", "browser")[:: 1 if number % 2 else -1]:
                browser = Browser() if name == "browser" else None
                try:
                    if browser is not None:
                        sleep(2)  # until it has started
                    counts.setdefault(name, []).append(_counted(train, browser))
                finally:
                    if browser is not None:
                        browser.close()
        if asked.json:
            asked.json.write_text(json.dumps(counts, indent=1))
        cores = len(os.sched_getaffinity(0))
        for name, runs in counts.items():
            medians = {key: median(run[key] for run in runs) for key in runs[0]}
            shares = {key: value / cores / medians["epochs"] for key, value in medians.items()}
            for key, value in medians.items():
                print(f"{name:8} {key:9} {value:.4f} s, {shares[key]:.2%} of {cores} cores")
        return 0
    cases = [(client, ROOT) for client in ("plain", "alone", "curl", "browser")]
    if asked.before:
        cases.insert(3, ("browser", asked.before.absolute()))
    rows: dict[str, list[dict[str, Any]]] = {}
    for number in range(asked.rounds):
        for client, code in cases[number % len(cases) :] + cases[: number % len(cases)]:
            name = client if code == ROOT else f"{client}, before"
            browser = Browser() if client == "browser" else None
            if browser is not None:
                sleep(1)  # until it has started
            try:
                rows.setdefault(name, []).append(_measured(client, code, train, browser))
            finally:
                if browser is not None:
                    browser.close()
            print(number, name, rows[name][-1], flush=True)
            if asked.json:
                asked.json.write_text(json.dumps(rows, indent=1))
    for name, runs in rows.items():
        pairs = list(zip(runs, rows["plain"], strict=True))
        ratios = [run["epochs"] / plain["epochs"] for run, plain in pairs]
        own = [run["cpu"] / plain["cpu"] for run, plain in pairs]
        values = {key: median(run[key] for run in runs) for key in runs[0]}
        words = ", ".join(f"{key} {value:.3f} s" for key, value in values.items())
        print(f"{name:16} {words}; of plain: epochs {median(ratios):.3f}, cpu {median(own):.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

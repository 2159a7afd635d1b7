"""Measure what `train --watch` costs a training: without a page, with a reader, with a browser.

    python scripts/watch_cost.py --data shared/data/mnist --rounds 7 --json watch.json

Each round trains the same network once a case, one after the other: without --watch, with it and
nobody who listens, with curl that reads the events and throws them away, and with the page open in
a headless Chromium that was started before. Compared are the seconds of the epochs, and the CPU
seconds of the training's process and of the browser's, which other work on the machine changes
less. With --before FOLDER the page and the server of another checkout are measured in the same
rounds.
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
from pathlib import Path
from statistics import median
from time import perf_counter, sleep
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


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", default="mnist")
    parser.add_argument("--epochs", default="5")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--before", type=Path, help="another checkout, measured in the same rounds")
    parser.add_argument("--json", type=Path, help="where the measurements go")
    asked = parser.parse_args()
    train = ["--data", str(Path(asked.data).absolute() if os.sep in asked.data else asked.data)]
    train += ["--epochs", asked.epochs, "--device", "cpu"]
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

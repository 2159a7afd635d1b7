"""Do things with files, each in a process of its own with little memory and time, and tell how.

A program: for each line of JSON on its input it writes one to its output.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
import resource
import signal
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

SECONDS = 10
_events: list[str] = []


def main() -> None:
    """Serve until the input ends."""
    from trainer.cli import main as command
    from trainer.data import load, mnist

    from .readers import READERS

    load("digits")
    mnist.MIRRORS = ("http://127.0.0.1:9/",)
    sys.addaudithook(_listen)
    with tempfile.TemporaryDirectory() as folder:
        for reader in READERS.values():  # whatever is imported late is imported now
            if reader.has_threads:
                continue
            reader.prepare(Path(folder, reader.name))
            for seed in reader.seeds:
                reader.refusal(Path(folder, reader.name), seed)

    def work(task: dict[str, Any]) -> object:
        os.chdir(task.get("folder", "."))
        if "command" in task:
            error = io.StringIO()
            with contextlib.redirect_stderr(error), contextlib.redirect_stdout(io.StringIO()):
                code = command(task["command"])
            return [code, error.getvalue()]
        if "unpickle" in task:
            return str(pickle.loads(Path(task["unpickle"]).read_bytes()))
        reader = READERS[task["reader"]]
        try:
            reader.read(Path(task["path"]))
        except reader.errors as refusal:
            return str(refusal)
        return None

    print(flush=True)
    for line in sys.stdin:
        print(json.dumps(_isolated(work, json.loads(line))), flush=True)


def _listen(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "pickle.find_class":
        _events.append(".".join(map(str, arguments)))


def _isolated(work: Any, task: dict[str, Any]) -> dict[str, Any]:
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        _events.clear()
        signal.alarm(SECONDS)
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        if "memory" in task:
            limit = pages * resource.getpagesize() + task["memory"]
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        before = _peak()
        result: dict[str, Any] = {}
        try:
            result["result"] = work(task)
        except BaseException:
            result["traceback"] = traceback.format_exc()[-2000:]
        result |= {"peak": _peak() - before, "unpickled": _events}
        os.write(writing, json.dumps(result).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        answer = file.read()
    status = os.waitpid(child, 0)[1]
    return json.loads(answer) if answer else {"traceback": f"ended by signal {status & 127}"}


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()

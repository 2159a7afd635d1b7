"""Fuzz the readers with damaged files, guided by the code they reach, and report every finding.

    python scripts/fuzz_readers.py png --seconds 60
    python scripts/fuzz_readers.py all --seconds 120 --out findings

A reader may read a file or refuse it with one line that names it. Anything else is a finding: a
traceback, a crash, more than a few seconds, more than 1 GB of memory. The file that caused it is
kept. Needs atheris (pip install atheris), which traces Python code, but no compiled code.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).resolve().parent.parent
WATCHED = ["trainer", "PIL", "gzip", "json", "numpy.lib", "safetensors", "zipfile"]
MEMORY = 1 << 30  # beyond what is in use when a reader starts
PATIENCE = 10  # seconds for one file
LONGEST = 8192  # bytes of one file
COLUMNS = ("reader", "tried", "seconds", "read", "refused", "findings", "slowest s", "peak MB")


def main() -> int:
    """Fuzz one reader or all of them; return 1 if something was found."""
    arguments = _arguments()
    try:
        import atheris  # noqa: F401
    except ImportError:
        print("error: atheris is not installed: pip install atheris", file=sys.stderr)
        return 2
    if arguments.child:
        _fuzz(arguments)
    readers = names() if arguments.reader == "all" else [arguments.reader]
    if unknown := set(readers) - set(names()):
        print(
            f"error: there is no reader {unknown.pop()}; expected all or one of "
            f"{', '.join(names())}",
            file=sys.stderr,
        )
        return 2
    print(f"{COLUMNS[0]:>22}" + "".join(f"{column:>11}" for column in COLUMNS[1:]), flush=True)
    found = 0
    for reader in readers:
        report = _run(reader, arguments)
        found += report["findings"]
        print(
            f"{reader:>22}{report['tried']:>11,}{report['seconds']:>11.0f}{report['read']:>11,}"
            f"{report['refused']:>11,}{report['findings']:>11}{report['slowest']:>11.2f}"
            f"{report['peak_mb']:>11.0f}",
            flush=True,
        )
        for line in report["lines"]:
            print(f"    {line}", flush=True)
    return 1 if found else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("reader", help=f"all, or one of {', '.join(names())}")
    parser.add_argument("--seconds", type=float, default=60, help="for each reader (default 60)")
    parser.add_argument("--seed", type=int, default=0, help="the same finds the same (default 0)")
    parser.add_argument(
        "--out", type=Path, default=Path("findings"), help="where the files found go (./findings)"
    )
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def names() -> list[str]:
    """Return the names of the readers without importing them, which atheris must trace."""
    text = (ROOT / "tests" / "bad_input" / "readers.py").read_text()
    return re.findall(r'\bReader\(\s*"([a-z-]+)"', text)


def _run(reader: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Fuzz one reader in a process of its own, which damaged files may crash."""
    arguments.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=_quick_folder()) as folder:
        log = Path(folder) / "log"
        with log.open("wb") as output:
            done = subprocess.run(
                [
                    sys.executable,
                    __file__,
                    reader,
                    "--child",
                    f"--seconds={arguments.seconds}",
                    f"--seed={arguments.seed}",
                    f"--out={folder}",
                ],
                stdout=output,
                stderr=output,
                timeout=arguments.seconds + 300,
                check=False,
            )
        report_file = Path(folder) / "report.json"
        if not report_file.exists():
            raise SystemExit(f"error: {reader} did not start:\n{log.read_text()[-3000:]}")
        report: dict[str, Any] = json.loads(report_file.read_text())
        if done.returncode:
            last = log.read_text(errors="replace").splitlines()[-1:]
            report["findings"] += 1
            report["lines"].append(f"the process ended with code {done.returncode}: {last}")
        for file in Path(folder).glob("found-*"):
            kept = arguments.out / f"{reader}-{file.name}"
            kept.write_bytes(file.read_bytes())
            report["lines"].append(f"kept: {kept}")
    return report


def _quick_folder() -> str | None:
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def _fuzz(arguments: argparse.Namespace) -> NoReturn:
    import atheris

    sys.path.insert(0, str(ROOT))
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    with atheris.instrument_imports(include=WATCHED):
        from tests.bad_input.readers import READERS
    reader = READERS[arguments.reader]
    folder = arguments.out / "work"
    reader.prepare(folder)
    corpus = arguments.out / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(reader.seeds):
        (corpus / str(number)).write_bytes(seed)
        with contextlib.suppress(Exception):  # which is found below
            reader.refusal(folder, seed)  # whatever is imported late is imported now
    started = time.monotonic()
    before = _peak()
    in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (in_use + MEMORY, in_use + MEMORY))
    report: dict[str, Any] = {
        "tried": 0, "read": 0, "refused": 0, "findings": 0, "slowest": 0.0, "lines": [],
    }  # fmt: skip
    seen = set()
    saved = 0.0

    def save() -> None:
        report["seconds"] = time.monotonic() - started
        report["peak_mb"] = (_peak() - before) / 1024
        (arguments.out / "report.json").write_text(json.dumps(report))

    def finding(content: bytes, what: str, key: object) -> None:
        if key not in seen:
            seen.add(key)
            report["findings"] += 1
            report["lines"].append(what)
            (arguments.out / f"found-{len(seen)}").write_bytes(content)

    def try_one(content: bytes) -> None:
        nonlocal saved
        begin = time.monotonic()
        report["tried"] += 1
        try:
            try:
                refused = reader.refusal(folder, content)
            except Exception:  # what earlier files have left in memory is not this one's fault
                gc.collect()
                refused = reader.refusal(folder, content)
        except Exception as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            key = (type(error), last.filename, last.lineno)
            where = f"{Path(last.filename).name}:{last.lineno}"
            finding(content, f"{type(error).__name__} at {where}: {str(error)[:200]}", key)
        else:
            report["read" if refused is None else "refused"] += 1
        now = time.monotonic()
        report["slowest"] = max(report["slowest"], now - begin)
        if now - begin > PATIENCE / 2:
            finding(content, f"it took {now - begin:.1f} s", "slow")
        if now - started > arguments.seconds:
            save()
            os._exit(0)
        if now - saved > 2:
            saved = now
            save()

    save()
    atheris.Setup(
        [
            sys.argv[0],
            f"-seed={arguments.seed + 1}",  # 0 stands for the clock
            f"-max_len={LONGEST}",
            f"-timeout={PATIENCE}",
            "-rss_limit_mb=0",
            f"-artifact_prefix={arguments.out}/found-",
            str(corpus),
        ],
        try_one,
    )
    atheris.Fuzz()
    os._exit(0)


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    sys.exit(main())

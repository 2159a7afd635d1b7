"""MNIST, from its mirrors or from the cache."""

from __future__ import annotations

import hashlib
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from ..array_files import cause
from ..files import write_whole
from . import idx
from .dataset import DataError, Source

Progress = Callable[[str, int, int], None]

MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
FILES = {
    "train-images-idx3-ubyte.gz": (
        9912422,
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    ),
    "train-labels-idx1-ubyte.gz": (
        28881,
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    ),
    "t10k-images-idx3-ubyte.gz": (
        1648877,
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    ),
    "t10k-labels-idx1-ubyte.gz": (
        4542,
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    ),
}
TIMEOUT = 5.0  # seconds to connect, and seconds without a byte
_SLOWEST = 1000  # bytes a second that must come on the average, once _TRIAL seconds are over
_TRIAL = 20.0
_CHUNK = 1 << 16
_REPORT_SECONDS = 0.1
_ELSEWHERE = "give a folder that holds its four files (--data PATH), or --data digits"


def read_mnist(on_progress: Progress | None = None, *, soon: bool = False) -> Source:
    """Read MNIST from the cache, downloading what is not there or not whole.

    Parameters
    ----------
    on_progress : callable, optional
        Called with the file's name, the bytes that came and the bytes to come in all.
    soon : bool
        Ask first which mirror answers, and give up when no byte comes within `TIMEOUT`.

    Raises
    ------
    DataError
        No mirror gave the files; says why for each.
    """
    folder, mirrors = _folder(), list(MIRRORS)
    missing = [name for name in FILES if not _is_whole(folder / name)]
    if missing and soon:
        answering = _first_to_answer(mirrors)
        mirrors.sort(key=lambda mirror: mirror != answering)
    try:
        for name in missing:
            if _is_whole(folder / name):  # by now, as another process wanted it too
                continue
            folder.mkdir(parents=True, exist_ok=True)
            working = _fetch(folder / name, mirrors, on_progress, soon)
            # A dead mirror costs its timeout once, not once a file.
            mirrors.sort(key=lambda mirror: mirror != working)
    except OSError as error:
        raise DataError(
            f"MNIST cannot be kept in {folder}: {cause(error)}; make room there or name another"
            f" folder in TRAINER_CACHE; {_ELSEWHERE}"
        ) from error
    return replace(idx.read_folder(folder, only=FILES), name="mnist", kind="mnist", source="mnist")


def _folder() -> Path:
    import pooch

    root = os.environ.get("TRAINER_CACHE") or pooch.os_cache("xptrainer")
    return Path(os.path.expanduser(root)) / "mnist"


def _is_whole(file: Path) -> bool:
    return file.is_file() and _sha256(file.read_bytes()) == FILES[file.name][1]


def _sha256(content: bytes | bytearray) -> str:
    return hashlib.sha256(content).hexdigest()


def _fetch(file: Path, mirrors: list[str], on_progress: Progress | None, soon: bool) -> str:
    """Download one file into the cache, whole; return the mirror that worked."""
    failures = {}
    for mirror in mirrors:
        try:
            content = _download(mirror, file.name, on_progress)
        except (OSError, ValueError) as error:
            failures[mirror] = _brief(error)
            if soon and "timed out" in str(error):
                break
        else:
            # Nothing is on the disk before all of it has come and is right.
            write_whole(file, content)
            return mirror
    raise _no_mnist(file.name, failures)


def _first_to_answer(mirrors: list[str]) -> str:
    """Return the mirror whose first byte comes first; nothing is written anywhere."""
    name = next(iter(FILES))
    answers: queue.SimpleQueue[tuple[str, str | None]] = queue.SimpleQueue()

    def probe(mirror: str) -> None:
        try:
            answers.put((mirror, None if next(_parts(mirror + name), b"") else "an empty answer"))
        except Exception as error:  # in a thread of its own, where nobody else would see it
            answers.put((mirror, _brief(error)))

    failures = dict.fromkeys(mirrors, f"no byte within {TIMEOUT:g} s")
    deadline = time.monotonic() + TIMEOUT
    for mirror in mirrors:
        # Daemons, because looking up a name can hang beyond every timeout.
        threading.Thread(target=probe, args=(mirror,), daemon=True).start()
    for _ in mirrors:
        try:
            mirror, failure = answers.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            break
        if failure is None:
            return mirror
        failures[mirror] = failure
    raise _no_mnist(name, failures)


def _parts(url: str) -> Iterator[bytes]:
    """Yield what a URL answers, each part as soon as it comes."""
    import requests
    import urllib3

    identity = {"Accept-Encoding": "identity"}
    try:
        with requests.get(url, stream=True, timeout=TIMEOUT, headers=identity) as response:
            response.raise_for_status()
            while part := response.raw.read1(_CHUNK):
                yield part
    except urllib3.exceptions.HTTPError as error:
        raise OSError(str(error)) from error


def _download(mirror: str, name: str, on_progress: Progress | None) -> bytearray:
    """Return a file, reporting how much has come; ValueError where that cannot be it."""
    size, sha256 = FILES[name]
    content = bytearray()
    started = reported = time.monotonic()
    for part in _parts(mirror + name):
        content += part
        done, now = len(content), time.monotonic()
        if content[:64].lstrip().startswith(b"<"):
            raise ValueError("a web page in place of the file; a network that wants a login?")
        if done > size:
            raise ValueError(f"more than the {size} bytes that the file has")
        seconds = now - started
        if seconds > _TRIAL and done < min(size, _SLOWEST * seconds):
            raise ValueError(f"too slow: {done:,} bytes in {seconds:.0f} s")
        due = done == size or now - reported >= _REPORT_SECONDS
        if due and on_progress is not None:
            reported = now
            on_progress(name, done, size)
    if len(content) < size:
        raise ValueError(f"only {len(content):,} of {size:,} bytes came")
    if _sha256(content) != sha256:
        raise ValueError("its bytes have the wrong SHA-256")
    return content


def _brief(error: BaseException) -> str:
    text = str(error)
    response = getattr(error, "response", None)
    if response is not None and response.status_code >= 400:
        return f"HTTP status {response.status_code}"
    for sign, meaning in (
        ("timed out", f"no byte within {TIMEOUT:g} s"),
        ("resol", "its name cannot be resolved"),
        ("refused", "connection refused"),
        ("Connection broken", "the connection broke off"),
        ("aborted", "the connection broke off"),
    ):
        if sign in text:
            return meaning
    return cause(error)[:120]


def _no_mnist(name: str, failures: dict[str, str]) -> DataError:
    mirrors = "; ".join(f"{urlsplit(mirror).netloc} ({why})" for mirror, why in failures.items())
    return DataError(f"MNIST cannot be downloaded: {name} from {mirrors}; {_ELSEWHERE}")

"""MNIST, from its mirrors, from the cache, or from a folder that somebody else has filled."""

from __future__ import annotations

import gzip
import hashlib
import os
import queue
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
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
# what they hold, which other programs keep unpacked or gzipped in another way
UNPACKED = {
    "train-images-idx3-ubyte.gz": (
        47040016,
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    ),
    "train-labels-idx1-ubyte.gz": (
        60008,
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    ),
    "t10k-images-idx3-ubyte.gz": (
        7840016,
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    ),
    "t10k-labels-idx1-ubyte.gz": (
        10008,
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
}
TIMEOUT = 5.0  # seconds to connect, and seconds without a byte
_SLOWEST = 1000  # bytes a second that must come on the average, once _TRIAL seconds are over
_TRIAL = 20.0
_CHUNK = 1 << 16
_REPORT_SECONDS = 0.1


class NoMnist(DataError):
    """MNIST is not here and cannot be had; `why` leaves out what to give instead."""

    def __init__(self, why: str) -> None:
        super().__init__(
            f"{why}; give a folder that holds its four files (--data PATH), or --data digits"
        )
        self.why = why

    def __reduce__(self) -> tuple[type, tuple[str]]:
        return type(self), (self.why,)


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
    root, mirrors = _cache(), list(MIRRORS)
    if all(files := [_whole_file(root, name) for name in FILES]):
        return _read(root, files)
    folder = root / "mnist"
    found = {name: _whole_file(folder, name) for name in FILES}
    missing = [name for name in FILES if found[name] is None]
    if missing and soon:
        answering = _first_to_answer(mirrors)
        mirrors.sort(key=lambda mirror: mirror != answering)
    try:
        for name in missing:
            found[name] = _whole_file(folder, name)
            if found[name] is not None:  # by now, as another process wanted it too
                continue
            folder.mkdir(parents=True, exist_ok=True)
            working = _fetch(folder / name, mirrors, on_progress, soon)
            found[name] = folder / name
            # A dead mirror costs its timeout once, not once a file.
            mirrors.sort(key=lambda mirror: mirror != working)
    except OSError as error:
        raise NoMnist(
            f"MNIST cannot be kept in {folder}: {cause(error)}; make room there or name another"
            " folder in TRAINER_CACHE"
        ) from error
    return _read(folder, found.values())


def _cache() -> Path:
    from platformdirs import user_cache_dir

    return Path(os.path.expanduser(os.environ.get("TRAINER_CACHE") or user_cache_dir("xptrainer")))


def _read(folder: Path, files: Iterable[Path | None]) -> Source:
    source = idx.read_folder(folder, only={file.name for file in files if file is not None})
    return replace(source, name="mnist", kind="mnist", source="mnist")


def _whole_file(folder: Path, name: str) -> Path | None:
    """Return the file in a folder that holds one of MNIST's four, gzipped or not; None without."""
    names = (name, name.replace("-idx", ".idx"))  # the other is as archives of them were unpacked
    for file in (folder / n for spelt in names for n in (spelt, spelt.removesuffix(".gz"))):
        if file.is_file() and (_holds(file, *FILES[name]) or _unpacks_to(file, *UNPACKED[name])):
            return file
    return None


def _holds(file: Path, size: int, sha256: str) -> bool:
    return file.stat().st_size == size and _sha256(file.read_bytes()) == sha256


def _unpacks_to(file: Path, size: int, sha256: str) -> bool:
    """Whether a file has such content, or is gzip of it."""
    if _holds(file, size, sha256):
        return True
    try:
        with gzip.open(file) as content:
            # no more than is wanted: a few bytes of gzip can hold a terabyte
            return _sha256(content.read(size + 1)) == sha256
    except (OSError, EOFError, zlib.error):
        return False


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


def _no_mnist(name: str, failures: dict[str, str]) -> NoMnist:
    mirrors = "; ".join(f"{urlsplit(mirror).netloc} ({why})" for mirror, why in failures.items())
    return NoMnist(f"MNIST cannot be downloaded: {name} from {mirrors}")

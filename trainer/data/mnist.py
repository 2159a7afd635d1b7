"""MNIST, from its mirrors or from the cache."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

from . import idx
from .dataset import DataError, Source, cause

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
_CHUNK = 1 << 16


def read_mnist(on_progress: Progress | None = None) -> Source:
    """Read MNIST from the cache, downloading what is not there or not whole.

    Parameters
    ----------
    on_progress : callable, optional
        Called with the file's name, the bytes that came and the bytes to come in all.

    Returns
    -------
    Source

    Raises
    ------
    DataError
        No mirror gave the files; says why for each.
    """
    return _read(list(MIRRORS), on_progress)


def read_mnist_soon(on_progress: Progress | None = None) -> Source:
    """Read MNIST as `read_mnist` does, but give up when no byte comes within `TIMEOUT`.

    Parameters
    ----------
    on_progress : callable, optional
        As for `read_mnist`.

    Returns
    -------
    Source

    Raises
    ------
    DataError
        It is not cached, and no mirror answers or gives the files.
    """
    mirrors = list(MIRRORS)
    if not _is_cached():
        answering = _first_to_answer(mirrors)
        mirrors.sort(key=lambda mirror: mirror != answering)
    return _read(mirrors, on_progress, patient=False)


def _folder() -> Path:
    import pooch

    root = os.environ.get("TRAINER_CACHE") or pooch.os_cache("xptrainer")
    return Path(os.path.expanduser(root)) / "mnist"


def _is_cached() -> bool:
    import pooch

    folder = _folder()
    return all(
        (folder / name).is_file() and pooch.file_hash(str(folder / name)) == sha256
        for name, (_, sha256) in FILES.items()
    )


def _read(mirrors: list[str], on_progress: Progress | None, *, patient: bool = True) -> Source:
    folder = _folder()
    for name in FILES:
        working = _fetch(name, folder, mirrors, on_progress, patient)
        # A dead mirror costs its timeout once, not once a file.
        mirrors.sort(key=lambda mirror: mirror != working)
    return replace(idx.read_folder(folder, only=FILES), name="mnist", kind="mnist", source="mnist")


def _fetch(
    name: str, folder: Path, mirrors: list[str], on_progress: Progress | None, patient: bool
) -> str:
    """Have one file in the cache, whole; return the mirror that worked.

    Without patience the first silence of `TIMEOUT` seconds is the last.
    """
    import pooch

    pooch.get_logger().setLevel("WARNING")
    size, sha256 = FILES[name]

    def download(url: str, output_file: str, _: object) -> None:
        with open(output_file, "wb") as file:
            _get(url, _Counted(file, name, size, on_progress))

    failures = []
    for mirror in mirrors:
        try:
            # Into a temporary file, renamed only when its sum is right.
            pooch.retrieve(
                mirror + name, f"sha256:{sha256}", fname=name, path=folder, downloader=download
            )
        except (OSError, ValueError) as error:
            failures.append(_failure(mirror, _brief(error)))
            if not patient and "timed out" in str(error):
                break
        else:
            return mirror
    raise _no_mnist(name, failures)


def _first_to_answer(mirrors: list[str]) -> str:
    """Return the mirror whose first byte comes first; nothing is written anywhere."""
    name = next(iter(FILES))
    answers: queue.SimpleQueue[tuple[str, str | None]] = queue.SimpleQueue()

    def probe(mirror: str) -> None:
        try:
            _get(mirror + name, _FirstByte())
            answers.put((mirror, "an empty answer"))
        except _FirstByteCame:
            answers.put((mirror, None))
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
    raise _no_mnist(name, [_failure(mirror, why) for mirror, why in failures.items()])


def _get(url: str, sink: object) -> None:
    import pooch

    get = pooch.HTTPDownloader(
        chunk_size=_CHUNK, timeout=(TIMEOUT, TIMEOUT), headers={"Accept-Encoding": "identity"}
    )
    get(url, sink, None)


def _failure(mirror: str, why: str) -> str:
    return f"{urlsplit(mirror).netloc} ({why})"


def _brief(error: BaseException) -> str:
    text = str(error)
    response = getattr(error, "response", None)
    if response is not None:
        return f"HTTP status {response.status_code}"
    for sign, meaning in (
        ("hash", "its bytes have the wrong SHA-256"),
        ("timed out", f"no byte within {TIMEOUT:g} s"),
        ("resol", "its name cannot be resolved"),
        ("refused", "connection refused"),
        ("IncompleteRead", "the connection broke off"),
        ("aborted", "the connection broke off"),
    ):
        if sign in text:
            return meaning
    file = getattr(error, "filename", None)
    return f"{file}: {cause(error)}" if file else cause(error)[:120]


def _no_mnist(name: str, failures: list[str]) -> DataError:
    return DataError(
        f"MNIST cannot be downloaded: {name} from {'; '.join(failures)}; "
        "give a folder that holds its four files (--data PATH), or --data digits"
    )


class _Counted:
    """A file that reports what is written to it, and refuses more than was promised."""

    def __init__(self, file: BinaryIO, name: str, size: int, on_progress: Progress | None) -> None:
        self._file, self._name, self._size, self._on_progress = file, name, size, on_progress

    def write(self, chunk: bytes) -> None:
        self._file.write(chunk)
        done = self._file.tell()
        if done > self._size:
            raise ValueError(f"more than the {self._size} bytes that the file has")
        if self._on_progress is not None:
            self._on_progress(self._name, done, self._size)

    def flush(self) -> None:
        """Do nothing: the file is closed before anybody reads it."""


class _FirstByteCame(Exception):
    pass


class _FirstByte:
    def write(self, chunk: bytes) -> None:
        raise _FirstByteCame

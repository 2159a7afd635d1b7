"""Files written whole or not at all, and files that grow by whole lines."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

_TEMPORARY = ".tmp"
_LARGEST = 1 << 26  # bytes of a config, or of the metrics of 200,000 epochs


def read_plain(file: Path) -> bytes:
    """Read a plain file that is not absurdly large; else ValueError."""
    size = file.stat().st_size
    if not file.is_file():  # reading a pipe would never end
        raise ValueError("no plain file")
    if size > _LARGEST:
        raise ValueError(f"{size:,} bytes; at most {_LARGEST:,}")
    return file.read_bytes()


def write_whole(path: str | Path, content: bytes | bytearray) -> None:
    """Write a file so that under its name there is the old content or the new, never a part.

    A link is followed; into what is no regular file (a pipe, a terminal) the content just goes.
    When it returns, the file and its name are on the disk.

    Raises
    ------
    OSError
        If it cannot be written, naming `path`; what stood there before still does.
    """
    path = Path(path).resolve()
    try:
        if path.exists() and not path.is_file():
            path.write_bytes(content)
        else:
            _replace(path, content)
    except OSError as error:
        raise OSError(error.errno or 0, error.strerror or str(error), str(path)) from error


def _replace(path: Path, content: bytes | bytearray) -> None:
    handle, temporary = tempfile.mkstemp(_TEMPORARY, f".{path.name}.", path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)  # mkstemp's 0600 is for secrets
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def append(path: Path, line: bytes, *, sync: bool = True) -> None:
    """Add a line to the end of a file, which is made where there is none.

    Parameters
    ----------
    path : Path
    line : bytes
        With its newline.
    sync : bool
        Whether it is on the disk when this returns; else when `synchronize` does.

    Raises
    ------
    OSError
        If it cannot be written, naming `path`; a part of the line may stand there then.
    """
    try:
        with open(path, "ab", buffering=0) as file:
            if file.write(line) < len(line):  # a disk that is full takes a part
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if sync:
                os.fsync(file.fileno())
    except OSError as error:
        raise OSError(error.errno or 0, error.strerror or str(error), str(path)) from error


def synchronize(path: Path) -> None:
    """Wait until all that was appended to a file is on the disk."""
    with open(path, "ab") as file:
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Write the names in a folder to the disk, where the system allows it."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def remove_leftovers(folder: Path) -> None:
    """Remove what a process that was killed while it wrote has left in a folder."""
    for path in folder.glob(f".*.*{_TEMPORARY}"):
        path.unlink(missing_ok=True)

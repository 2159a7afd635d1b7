"""Files written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

_TEMPORARY = ".tmp"


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


def _sync_folder(folder: Path) -> None:
    """Have the names in a folder written to the disk, where the system lets a program ask."""
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

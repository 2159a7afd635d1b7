"""Where a command's figures go, and how they get there."""

from __future__ import annotations

import os
from pathlib import Path

from ..files import write_whole
from ..running.trained import TrainedRun
from ..running.usage import UsageError


def figure_file(trained: TrainedRun, out: Path | None, name: str) -> Path:
    """Find where a PNG image goes: to `out`, else into the run's folder of figures.

    Raises
    ------
    UsageError
        If nothing can be written there; now, not after the work.
    """
    hint = f"name another place with --out {name}"
    if out is None and trained.run is None:  # weights have no folder of their own
        out = Path(name)
    if out is None:
        folder = trained.path / "figures"
        if folder.exists():
            return _checked(folder / name, "", hint)
        _checked(folder, "", hint)
        return folder / name
    out = out.expanduser()
    if out.suffix.lower() != ".png":
        raise UsageError(f"--out {out}: a PNG image is written; expected a name such as {name}")
    return _checked(out, "--out ", "expected a file's name in a folder that you may write to")


def _checked(file: Path, option: str, hint: str) -> Path:
    cause = ""
    if file.is_dir():
        cause = "it is a folder"
    elif not file.parent.is_dir():
        is_file = file.parent.exists()
        cause = f"{file.parent} is a file" if is_file else f"there is no folder {file.parent}"
    elif not os.access(file.parent, os.W_OK):
        cause = f"the folder {file.parent} may not be written to"
    if cause:
        raise UsageError(f"{option}{file}: {cause}; {hint}")
    return file


def write_figure(file: Path, content: bytes) -> None:
    """Write a figure whole or not at all; the run's folder of figures is made.

    Raises
    ------
    UsageError
        If it cannot be written.
    """
    try:
        file.parent.mkdir(exist_ok=True)
        write_whole(file, content)
    except OSError as error:
        raise UsageError(
            f"{file}: {error.strerror or error}; name another place with --out {file.name}"
        ) from error

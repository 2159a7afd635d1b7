"""Where a command's figures go: the option for it, the checks before the work, and the writing."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from cyclopts import Parameter

from .. import display
from ..files import write_whole
from ..plain_text import listed
from ..running.trained import TrainedRun
from ..running.usage import UsageError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    Drawn: TypeAlias = Figure | Sequence[Figure]

_SUFFIXES = (".png", ".svg", ".pdf")


def figure(name: str, more: str = "") -> Parameter:
    """Return the option for where a run's figure goes; `more` is added on the default."""
    return Parameter(
        help="The figure, a PNG image, or by its suffix SVG or PDF; replaced if it is there."
        f" [default: {name} in the run's folder, under figures/{more}]"
    )


def figure_file(trained: TrainedRun, out: Path | None, name: str) -> Path:
    """Find where a figure goes: to `out`, else into the run's folder of figures.

    Raise UsageError if nothing can be written there; now, not after the work.
    """
    hint = f"name another place with --out {name}"
    if out is not None or trained.run is None:  # weights have no folder of their own
        return checked_file(out or Path(name), name)
    folder = trained.path / "figures"
    if folder.exists():
        return _checked(folder / name, "", hint)
    return _checked(folder, "", hint) / name


def checked_file(out: Path, name: str, option: str = "--out ") -> Path:
    """Return `out` without ~; errors as in `figure_file`, with `name` as an example."""
    out = out.expanduser()
    if out.suffix.lower() not in _SUFFIXES:
        raise UsageError(
            f"{option}{out}: a figure is written as {listed(_SUFFIXES, ' or ')}; expected a name"
            f" such as {name}"
        )
    return _checked(out, option, "expected a file's name in a folder that you may write to")


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


def save(file: Path, drawn: Drawn) -> None:
    """Write a figure whole or not at all, as the file's suffix says; raise OSError."""
    from .. import figures  # matplotlib takes its time to import

    write_whole(file, figures.encoded(drawn, file.suffix))


def write_figure(file: Path, drawn: Drawn) -> None:
    """Write a figure as `save` does, or raise UsageError; make the folder of figures."""
    try:
        file.parent.mkdir(exist_ok=True)
        save(file, drawn)
    except OSError as error:
        raise UsageError(
            f"{file}: {error.strerror or error}; name another place with --out {file.name}"
        ) from error


def tell_figure(
    drawn: Drawn, *, fields: dict[str, Any] | None, show: bool, **files: Path | list[Path]
) -> None:
    """Report where a figure and what belongs to it are: in JSON with `fields`, in lines without."""
    if fields is not None:
        texts = {k: [*map(str, v)] if isinstance(v, list) else str(v) for k, v in files.items()}
        display.json_line(fields | texts)
    else:
        for name, file in files.items():
            ends = f"{file[0]} … {file[-1]}" if isinstance(file, list) else str(file)
            display.line(f"{name + ':':<7} {ends}")
    if show:
        open_windows([drawn])


def open_windows(windows: Sequence[Drawn]) -> None:
    """Open a window for each figure, or say why there is none."""
    from .. import figures

    if refusal := figures.show(windows):
        display.note(refusal)

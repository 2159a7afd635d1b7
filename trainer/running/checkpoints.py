"""A run's checkpoints, each of which holds the whole state of a training in one file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..files import remove_leftovers
from ..weight_files import WeightFileError, read_checkpoint, write_safetensors

FOLDER = "checkpoints"  # in a run folder
BEST = "best.safetensors"
_KEPT = 3
# epochs that have ended and, inside the next one, the samples learned: no clock orders them
_NAME = re.compile(r"epoch(\d{1,9})(?:\+(\d{1,12}))?\.safetensors", re.ASCII)


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """What a checkpoint holds.

    Attributes
    ----------
    path : Path
    arrays : dict of str to numpy.ndarray
        The network's weights and input map, and the arrays of the training's state.
    network : dict
        What `MLP.settings` returns.
    state : dict
        Everything else, fit for JSON.
    """

    path: Path
    arrays: dict[str, Any]
    network: dict[str, Any]
    state: dict[str, Any]


class Checkpoints:
    """The folder of a run's checkpoints, which the first checkpoint makes.

    Parameters
    ----------
    folder : Path
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(
        self,
        epochs: int,
        samples: int,
        arrays: dict[str, Any],
        network: dict[str, Any],
        state: dict[str, Any],
    ) -> Path:
        """Write a checkpoint whole, then remove those that are no longer wanted.

        The last three are kept. Later ones, which remain where a run was resumed from an earlier
        checkpoint, are removed.

        Parameters
        ----------
        epochs, samples : int
            Epochs that have ended, and samples learned in the next.
        arrays, network, state : dict
            As in `Checkpoint`.

        Raises
        ------
        OSError
            If it cannot be written; the checkpoints that were there still are.
        """
        inside = f"+{samples:09d}" if samples else ""
        path = self.folder / f"epoch{epochs:05d}{inside}.safetensors"
        self._write(path, arrays, network, state)
        there = self._in_order()
        here = there.index(path)
        for other in [*there[: max(0, here + 1 - _KEPT)], *there[here + 1 :]]:
            other.unlink(missing_ok=True)
        return path

    def save_best(
        self, arrays: dict[str, Any], network: dict[str, Any], state: dict[str, Any]
    ) -> None:
        """Write a checkpoint as the best so far; parameters and errors as in `save`."""
        self._write(self.folder / BEST, arrays, network, state)

    def _write(self, path: Path, *content: Any) -> None:
        self.folder.mkdir(exist_ok=True)
        write_safetensors(path, *content)

    def newest(self) -> tuple[Checkpoint | None, list[str]]:
        """Read the newest checkpoint that is whole, or None, and list the faults of newer ones.

        The best, which may be much older, is the last resort.
        """
        faults: list[str] = []
        best = [path for path in [self.folder / BEST] if path.is_file()]
        for path in [*reversed(self._in_order()), *best]:
            try:
                return Checkpoint(path, *read_checkpoint(path)), faults
            except WeightFileError as error:
                faults.append(str(error))
        return None, faults

    def clean(self) -> None:
        """Remove the unfinished files of a process that was killed while it wrote."""
        if self.folder.is_dir():
            remove_leftovers(self.folder)

    def _in_order(self) -> list[Path]:
        found = []
        for path in self.folder.glob("epoch*.safetensors"):
            if match := _NAME.fullmatch(path.name):
                found.append((int(match[1]), int(match[2] or 0), path))
        return [path for *_, path in sorted(found)]

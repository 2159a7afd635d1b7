"""A run's checkpoints, each of which holds the whole state of a training in one file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..weight_files import WeightFileError, read_checkpoint, write_safetensors

FOLDER = "checkpoints"  # in a run folder
BEST = "best.safetensors"
_KEPT = 3
# epochs that have ended and, inside the next one, the samples learned: no clock orders them
_NAME = re.compile(r"epoch(\d{1,9})(?:\+(\d{1,12}))?\.safetensors", re.ASCII)


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """What a checkpoint holds: the network's weights and input map, and a training's state.

    The state's arrays are among the `arrays`, everything else of it, fit for JSON, is `state`;
    `network` is what `MLP.settings` returns.
    """

    path: Path
    arrays: dict[str, Any]
    network: dict[str, Any]
    state: dict[str, Any]


class Checkpoints:
    """The folder of a run's checkpoints, which the first checkpoint makes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, at: tuple[int, int], *content: dict[str, Any]) -> None:
        """Write a checkpoint whole, then remove those that are no longer wanted.

        The last three are kept. Later ones, which remain where a run was resumed from an earlier
        checkpoint, are removed. If it cannot be written, those that were there still are.

        `at` is how many epochs have ended, and how many samples were learned in the next; the
        content is as `write` takes it.
        """
        epochs, samples = at
        name = f"epoch{epochs:05d}{f'+{samples:09d}' if samples else ''}.safetensors"
        self.write(name, *content)
        there = self._in_order()
        here = there.index(self.folder / name)
        for other in [*there[: max(0, here + 1 - _KEPT)], *there[here + 1 :]]:
            other.unlink(missing_ok=True)

    def write(
        self, name: str, arrays: dict[str, Any], network: dict[str, Any], state: dict[str, Any]
    ) -> None:
        """Write what a `Checkpoint` holds into a file of the folder."""
        self.folder.mkdir(exist_ok=True)
        write_safetensors(self.folder / name, arrays, network, state)

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

    def _in_order(self) -> list[Path]:
        found = []
        for path in self.folder.glob("epoch*.safetensors"):
            if match := _NAME.fullmatch(path.name):
                found.append((int(match[1]), int(match[2] or 0), path))
        return [path for *_, path in sorted(found)]

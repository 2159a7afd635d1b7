"""The user's own pictures, named one by one or by their folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..data import DataError, is_data_file
from ..data.image_folders import is_image, visible
from ..running.trained import TrainedRun
from ..running.usage import UsageError


@dataclass(frozen=True, eq=False)
class OwnPicture:
    """A picture in grey, as the network takes it, and a remark on it."""

    name: str
    grey: np.ndarray
    values: np.ndarray
    remark: str

    @classmethod
    def read(cls, trained: TrainedRun, file: Path) -> OwnPicture:
        """Read and prepare a picture for a run, as `TrainedRun.prepare` does."""
        if is_data_file(file):
            raise DataError(f"{file}: a data file, not a picture; give it as --data {file}")
        grey, (values, remark) = trained.prepare(file)
        return cls(str(file), grey, values, remark)


def files_of(paths: Sequence[Path]) -> list[Path]:
    """Return the pictures that paths stand for: themselves, or those in a folder."""
    files: list[Path] = []
    for path in paths:
        if not path.is_dir():
            if not path.exists() and set(path.name) & set("*?"):  # Windows leaves them as typed
                raise UsageError(
                    f"{path}: no file has this name; for all pictures of a folder give its own"
                    f" name: {path.parent}"
                )
            files.append(path)
            continue
        entries = visible(path)
        found = [entry for entry in entries if entry.is_file() and is_image(entry)]
        if not found:
            hint = ""
            if any(entry.is_dir() for entry in entries):
                hint = f"; of folders in it, one a class: evaluate RUN --data {path}"
            raise UsageError(f"{path}: no picture is in this folder{hint}")
        files += found
    return files

"""The run folder: config.json, metrics.jsonl and model.safetensors, each written whole."""

from __future__ import annotations

import json
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from .files import write_whole
from .weight_files import MODEL_FILE

_PARTS = ("test", "validation", "train")


class RunError(ValueError):
    """A run folder cannot be started in or read; one line with what to type instead."""


def check_free(out: Path, *, under: str = "runs") -> None:
    """Raise RunError unless `out` is a folder that is empty or can be made."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        kind = "is not empty" if out.is_dir() else "is a file"
        raise RunError(
            f"--out {out}: {kind}; expected a new or empty folder. Name another, or leave --out"
            f" away and the next free name under {under}/ is taken"
        )


class Run:
    """One training's folder.

    Parameters
    ----------
    path : Path
    config : dict
        What `config.json` holds.
    """

    def __init__(self, path: Path, config: dict[str, Any]) -> None:
        self.path = path
        self.config = config
        self._metrics: list[str] = []

    @classmethod
    def start(cls, out: Path | None, config: dict[str, Any], *, under: str = "runs") -> Run:
        """Make the folder (the next free one under runs/ if none is named) and its config.json.

        Raises
        ------
        RunError
            If `out` is not empty.
        OSError
            If the folder cannot be made or written.
        """
        if out is None:
            out = _next_free(Path(under))
        else:
            check_free(out, under=under)
            out.mkdir(parents=True, exist_ok=True)
        run = cls(out, config | {"versions": _versions()})
        write_whole(out / "config.json", (json.dumps(run.config, indent=2) + "\n").encode())
        return run

    @classmethod
    def open(cls, path: Path) -> Run:
        """Read a run's config.

        Raises
        ------
        RunError
            If there is no run, or its config is damaged.
        """
        file = path / "config.json"
        try:
            config = json.loads(file.read_bytes())
            _check(config["data"])
        except (FileNotFoundError, NotADirectoryError) as error:
            raise RunError(
                f"{path}: no run is there; expected, first of all, a folder that `train` wrote."
                f"{_latest()}"
            ) from error
        except KeyError as error:
            raise RunError(f"{file}: not a run's config, {error} is missing") from error
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise RunError(f"{file}: not a run's config ({error})") from error
        return cls(path, config)

    @property
    def model_file(self) -> Path:
        """Where the weights of the last epoch are."""
        return self.path / MODEL_FILE

    def figure_file(self, name: str) -> Path:
        """Where a figure goes; the folder of figures is made."""
        folder = self.path / "figures"
        folder.mkdir(exist_ok=True)
        return folder / name

    def metrics(self) -> list[dict[str, Any]]:
        """Read metrics.jsonl, an epoch a line.

        Raises
        ------
        RunError
            If no epoch has ended, or the file is damaged.
        """
        file = self.path / "metrics.jsonl"
        try:
            lines = [json.loads(line) for line in file.read_text().splitlines()]
            for line in lines:
                accuracies = [line.get(f"{part}_accuracy") for part in _PARTS]
                if not isinstance(line["epoch"], int) or not all(
                    isinstance(number, int | float)
                    for number in (line["train_loss"], *accuracies)
                    if number is not None
                ):
                    raise TypeError("no numbers")
        except FileNotFoundError:
            lines = []
        except KeyError as error:
            raise RunError(f"{file}: not a run's metrics, {error} is missing") from error
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise RunError(f"{file}: not a run's metrics ({error})") from error
        if not lines:
            raise RunError(f"{self.path}: no epoch of this run has ended; expected one that has")
        return lines

    def add_epoch(self, metrics: dict[str, Any]) -> None:
        """Write one more line of metrics.jsonl."""
        self._metrics.append(json.dumps(metrics) + "\n")
        write_whole(self.path / "metrics.jsonl", "".join(self._metrics).encode())


def _check(data: dict[str, Any]) -> None:
    """Raise KeyError, TypeError or ValueError unless this describes a run's data."""
    for name in ("name", "kind", "source"):
        if not isinstance(data[name], str):
            raise TypeError(f"{name} is no text")
    if data["dtype"] not in ("uint8", "float32"):
        raise ValueError("dtype is neither uint8 nor float32")
    if not isinstance(data["test_samples"], int):
        raise TypeError("test_samples is no number")
    if not isinstance(data["test_source"], str | None):
        raise TypeError("test_source is no text")
    classes = data["classes"]
    if not (
        isinstance(classes, list) and classes and all(isinstance(c, int | str) for c in classes)
    ):
        raise TypeError("classes is no list of numbers or names")
    low, high = data["value_range"]
    if not (isinstance(low, int | float) and isinstance(high, int | float) and low <= high):
        raise ValueError("value_range is no range")
    if data["image_shape"] is not None:
        height, width = data["image_shape"]
        if not (isinstance(height, int) and isinstance(width, int) and min(height, width) > 0):
            raise ValueError("image_shape is no shape")


def _next_free(parent: Path) -> Path:
    parent.mkdir(parents=True, exist_ok=True)
    number = 1
    while True:
        path = parent / f"{parent.name[0]}{number}"
        try:
            path.mkdir()  # fails where another process was quicker
        except FileExistsError:
            number += 1
        else:
            return path


def _latest() -> str:
    there = [path.parent for path in Path("runs").glob("*/config.json")]
    if not there:
        return " Make one with: python -m trainer"
    newest = max(there, key=lambda path: path.stat().st_mtime)
    return f" The newest here is {newest}"


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name in ("numpy", "scipy", "numba", "cupy-cuda12x", "cupy-cuda13x"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions

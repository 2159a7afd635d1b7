"""The run folder: who may write it, and its config.json, weights, checkpoints and metrics."""

from __future__ import annotations

import json
import os
import platform
import socket
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..files import read_plain, remove_leftovers, write_whole
from ..weight_files import MODEL_FILE
from .checkpoints import FOLDER, Checkpoints
from .metrics_file import COPY, FILE, MetricsFile

if TYPE_CHECKING:
    from filelock import BaseFileLock

_LOCK = ".lock"


class RunError(ValueError):
    """A run folder cannot be started in or read; one line with what to type instead."""


def check_free(out: Path, *, under: str = "runs") -> None:
    """Raise RunError unless `out` is a folder that is empty or can be made."""
    if not out.exists():
        return
    if out.is_dir():
        if all(path.name == _LOCK for path in out.iterdir()):
            return
        if (out / _LOCK).exists():
            claim(out).release()
    kind = "is not empty" if out.is_dir() else "is a file"
    raise RunError(
        f"--out {out}: {kind}; expected a new or empty folder. Name another, or omit --out"
        f" and the next free name under {under}/ is taken"
    )


class Claim:
    """A lock on a folder, which keeps other processes from training into it."""

    def __init__(self, lock: BaseFileLock) -> None:
        self._lock = lock

    def release(self) -> None:
        """Allow others to train into the folder; do nothing if they already may."""
        if self._lock.is_locked:
            Path(self._lock.lock_file).unlink(missing_ok=True)
            self._lock.release()


def claim(folder: Path) -> Claim:
    """Keep other processes from training into a folder until this one ends, however it does.

    Raises
    ------
    RunError
        If another process does; the message names it.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(folder / _LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise RunError(
            f"{folder}: {_holder(folder)} is training into it; wait for its end, or name another"
            " folder with --out"
        ) from None
    return Claim(lock)


def _holder(folder: Path) -> str:
    try:
        process = json.loads(read_plain(folder / "config.json"))["process"]
        return f"process {process['pid']} on {process['host']}, since {process['since']},"
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return "another process"


class Run:
    """One training's folder. While it is locked, no other process may train into it.

    Parameters
    ----------
    path : Path
    config : dict
        What `config.json` holds.
    lock : Claim, optional
        Without it the folder is only read.

    Attributes
    ----------
    was_mended : bool
        Whether `config.json` was damaged and was restored from a checkpoint.
    """

    def __init__(self, path: Path, config: dict[str, Any], lock: Claim | None = None) -> None:
        self.path = path
        self.config = config
        self.checkpoints = Checkpoints(path / FOLDER)
        self.metrics_file = MetricsFile(path)
        self.was_mended = False
        self._lock = lock

    @classmethod
    def start(cls, out: Path | None, config: dict[str, Any], *, under: str = "runs") -> Run:
        """Make the folder (the next free one under runs/ if none is named) and its config.json.

        Raises
        ------
        RunError
            If `out` is not empty, or another process trains into it.
        OSError
            If the folder cannot be made or written.
        """
        if out is None:
            out = _next_free(Path(under))
        else:
            check_free(out, under=under)
            out.mkdir(parents=True, exist_ok=True)
        lock = claim(out)
        try:
            check_free(out, under=under)  # another process may have been quicker, and have ended
            run = cls(out, config | {"versions": versions()}, lock)
            run.write_config()
        except BaseException:
            lock.release()
            raise
        return run

    @classmethod
    def resume(cls, path: Path) -> Run:
        """Open a run to continue it, and remove the unfinished files of a killed process.

        A damaged config is replaced by that of the newest checkpoint.

        Raises
        ------
        RunError
            If there is no run, another process trains into it, or a link leads out of it.
        OSError
            If the folder cannot be written.
        """
        if not (path / "config.json").exists() and not (path / FOLDER).is_dir():
            return cls.open(path)
        lock = claim(path)
        try:
            try:
                run = cls.open(path)
            except RunError:
                newest, _ = Checkpoints(path / FOLDER).newest()
                if newest is None or "config" not in newest.state:
                    raise
                run = cls(path, newest.state["config"])
                run.was_mended = True
            for name in ("config.json", FILE, COPY, MODEL_FILE, FOLDER):
                run._inside(name)
        except BaseException:
            lock.release()
            raise
        run._lock = lock
        remove_leftovers(path)
        run.checkpoints.clean()
        if run.was_mended:
            run.write_config()
        return run

    def close(self) -> None:
        """Allow other processes to train into the folder."""
        if self._lock is not None:
            self._lock.release()

    def write_config(self) -> None:
        """Write config.json, with this process's number in it."""
        self.config["process"] = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "since": time.strftime("%Y-%m-%d %H:%M:%S"),
        }
        content = json.dumps(self.config, indent=2) + "\n"
        write_whole(self.path / "config.json", content.encode())

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
            config = json.loads(read_plain(file))
            if isinstance(config, dict) and "sweep" in config:
                raise RunError(f"{path}: a sweep; python -m trainer sweep --resume {path} goes on")
            _check(config["data"])
            if not isinstance(config.get("settings", {}), dict):
                raise TypeError("settings is no object")
        except (FileNotFoundError, NotADirectoryError) as error:
            raise RunError(
                f"{path}: no run is there; expected a folder that `train` wrote.{_hint(path)}"
            ) from error
        except RunError:
            raise
        except KeyError as error:
            raise RunError(f"{file}: not a run's config, {error} is missing") from error
        except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
            raise RunError(f"{file}: not a run's config ({error})") from error
        return cls(path, config)

    @property
    def model_file(self) -> Path:
        """Return the path of the last epoch's weights."""
        return self.path / MODEL_FILE

    def figure_file(self, name: str) -> Path:
        """Return the path for a figure, having made the folder of figures."""
        folder = self._inside("figures")
        folder.mkdir(exist_ok=True)
        return self._inside(f"figures/{name}")

    def metrics(self) -> list[dict[str, Any]]:
        """Read metrics.jsonl, one epoch per line, without a last line that is not whole.

        Raises
        ------
        RunError
            If no epoch has ended, or the file is damaged.
        """
        file = self.metrics_file.path
        try:
            lines = self.metrics_file.read()
        except FileNotFoundError:
            lines = []
        except KeyError as error:
            raise RunError(f"{file}: not a run's metrics, {error} is missing") from error
        except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
            raise RunError(f"{file}: not a run's metrics ({error})") from error
        if not lines:
            raise RunError(f"{self.path}: no epoch of this run has ended; expected one that has")
        return lines

    def _inside(self, name: str) -> Path:
        path = self.path / name
        target = path.resolve()
        if not target.is_relative_to(self.path.resolve()):
            raise RunError(
                f"{path}: leads out of the run's folder, to {target}; expected a file in it"
            )
        return path


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


def run_around(path: Path) -> Path | None:
    """Find the run's folder that a file or folder inside one belongs to."""
    around = (folder for folder in path.absolute().parents if (folder / "config.json").is_file())
    folder = next(around, None)
    return None if folder is None else Path(os.path.relpath(folder))


def _hint(path: Path) -> str:
    around = run_around(path)
    if around is not None:
        return f" The run that this is in is {around}"
    there = [path.parent for path in Path("runs").glob("*/config.json")]
    if not there:
        return " Make one with: python -m trainer"
    newest = max(there, key=lambda path: path.stat().st_mtime)
    return f" The newest here is {newest}"


def versions() -> dict[str, str]:
    """Return the versions that a training's numbers come from, besides this program."""
    found = {"python": platform.python_version()}
    for name in ("numpy", "scipy", "numba", "cupy-cuda12x", "cupy-cuda13x"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found

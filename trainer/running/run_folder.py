"""The run folder: who may write it, and its config.json, weights, checkpoints and metrics."""

from __future__ import annotations

import json
import os
import platform
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ..files import read_plain, remove_leftovers, write_whole
from ..weight_files import MODEL_FILE
from .checkpoints import FOLDER, Checkpoints
from .metrics_file import COPY, FILE, UNREADABLE, MetricsFile, fault

_LOCK = ".lock"
_LARGEST_FLOAT = (2 - 2**-23) * 2.0**127  # of float32


class RunError(ValueError):
    """A run folder cannot be started in or read; one line with what to type instead."""


def check_free(out: Path | None, *, under: str = "runs") -> Path | None:
    """Return `out` without ~; raise RunError unless it is empty, can be made or is None."""
    out = out and out.expanduser()
    if out is None or not out.exists():
        return out
    if out.is_dir():
        if all(path.name == _LOCK for path in out.iterdir()):
            return out
        if (out / _LOCK).exists():
            claim(out)()
    kind = "is not empty" if out.is_dir() else "is a file"
    raise RunError(
        f"--out {out}: {kind}; expected a new or empty folder. Name another, or omit --out"
        f" and the next free name under {under}/ is taken"
    )


def claim(folder: Path) -> Callable[[], None]:
    """Keep other processes from training into a folder until this one ends, however it does.

    Return what allows them to earlier; raise RunError if another process trains into it.
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

    def release() -> None:
        if lock.is_locked:
            Path(lock.lock_file).unlink(missing_ok=True)
            lock.release()

    return release


def _holder(folder: Path) -> str:
    try:
        process = json.loads(read_plain(folder / "config.json"))["process"]
        return f"process {process['pid']} on {process['host']}, since {process['since']},"
    except UNREADABLE:
        return "another process"


class Run:
    """One training's folder, with the content of its `config.json`.

    `release` is what `claim` returned; without it the folder is only read.
    """

    def __init__(
        self, path: Path, config: dict[str, Any], release: Callable[[], None] = lambda: None
    ) -> None:
        self.path = path
        self.model_file = path / MODEL_FILE  # the last epoch's weights
        self.config = config
        self.checkpoints = Checkpoints(path / FOLDER)
        self.metrics_file = MetricsFile(path)
        self.was_mended = False  # whether config.json was damaged and is a checkpoint's
        self.close = release  # allows other processes to train into the folder

    @classmethod
    def start(cls, out: Path | None, config: dict[str, Any], *, under: str = "runs") -> Run:
        """Make the folder (the next free one under runs/ if none is named) and its config.json.

        Raise RunError if `out` is not empty, or another process trains into it.
        """
        if out is None:
            out = _next_free(Path(under))
        else:
            check_free(out, under=under)
            out.mkdir(parents=True, exist_ok=True)
        release = claim(out)
        try:
            check_free(out, under=under)  # another process may have been quicker, and have ended
            run = cls(out, config | {"versions": versions()}, release)
            run.write_config()
        except BaseException:
            release()
            raise
        return run

    @classmethod
    def resume(cls, path: Path) -> Run:
        """Open a run to continue it, and remove the unfinished files of a killed process.

        A damaged config is replaced by that of the newest checkpoint. Raise RunError if there is no
        run, another process trains into it, or a link leads out of it.
        """
        if not (path / "config.json").exists() and not (path / FOLDER).is_dir():
            return cls.open(path)
        release = claim(path)
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
            release()
            raise
        run.close = release
        remove_leftovers(path)
        remove_leftovers(path / FOLDER)
        if run.was_mended:
            run.write_config()
        return run

    def write_config(self) -> None:
        """Write config.json, with this process's number in it."""
        pid, since = os.getpid(), time.strftime("%Y-%m-%d %H:%M:%S")
        self.config["process"] = {"pid": pid, "host": socket.gethostname(), "since": since}
        content = json.dumps(self.config, indent=2) + "\n"
        write_whole(self.path / "config.json", content.encode())

    @classmethod
    def open(cls, path: Path) -> Run:
        """Read a run's config; raise RunError if there is no run, or its config is damaged."""
        try:
            return cls(path, read_config(path / "config.json"))
        except (FileNotFoundError, NotADirectoryError) as error:
            raise RunError(
                f"{path}: no run is there; expected a folder that `train` wrote.{_hint(path)}"
            ) from error

    def figure_file(self, name: str) -> Path:
        """Return the path for a figure, having made the folder of figures."""
        self.subfolder("figures")
        return self._inside(f"figures/{name}")

    def subfolder(self, name: str) -> Path:
        """Return a folder inside the run's, having made it."""
        folder = self._inside(name)
        folder.mkdir(exist_ok=True)
        return folder

    def metrics(self) -> list[dict[str, Any]]:
        """Read metrics.jsonl, one epoch per line, without a last line that is not whole.

        Raise RunError if no epoch has ended, or the file is damaged.
        """
        file = self.metrics_file.path
        try:
            lines = self.metrics_file.read()
        except FileNotFoundError:
            lines = []
        except UNREADABLE as error:
            raise RunError(f"{file}: not a run's metrics ({fault(error)})") from error
        if not lines and "weights_of" in self.config:
            raise RunError(
                f"{self.path}: its weights were imported, not trained here; expected a run with"
                " epochs"
            )
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


def read_config(file: Path) -> dict[str, Any]:
    """Read a run's config; raise RunError if it is damaged or another's, OSError if none is there.

    The OSError is a FileNotFoundError or a NotADirectoryError.
    """
    try:
        config = json.loads(read_plain(file))
        if isinstance(config, dict) and "sweep" in config:
            path = file.parent
            raise RunError(f"{path}: a sweep; python -m trainer sweep --resume {path} goes on")
        _check(config)
    except (FileNotFoundError, NotADirectoryError, RunError):
        raise
    except UNREADABLE as error:
        raise RunError(f"{file}: not a run's config ({fault(error)})") from error
    return config


def _check(config: dict[str, Any]) -> None:
    """Raise one of `UNREADABLE` unless this says what data a run was trained on."""
    data = config["data"]
    low, high = data["value_range"]
    least, most = (0, 255) if data["dtype"] == "uint8" else (-_LARGEST_FLOAT, _LARGEST_FLOAT)
    height, width = (1, 1) if data["image_shape"] is None else data["image_shape"]
    classes = data["classes"] if isinstance(data["classes"], list) else []
    is_right = {
        "name": isinstance(data["name"], str),
        "kind": isinstance(data["kind"], str),
        "source": isinstance(data["source"], str),
        "test_source": isinstance(data["test_source"], str | None),
        "label": isinstance(data.get("label"), str | None),
        "transpose": isinstance(data.get("transpose", False), bool),
        "train_samples": isinstance(data.get("train_samples"), int | None),
        "test_samples": isinstance(data["test_samples"], int | None),
        "dtype": data["dtype"] in ("uint8", "float32"),
        "classes": bool(classes) and all(isinstance(label, int | str) for label in classes),
        "value_range": least <= low <= high <= most
        and all(isinstance(v, int | float) for v in (low, high)),
        "image_shape": all(isinstance(side, int) and side > 0 for side in (height, width)),
    }
    for name, right in is_right.items():
        if not right:
            raise ValueError(f"{name} cannot be {data.get(name)!r}")
    if not isinstance(config.get("settings", {}), dict):
        raise TypeError("settings is no object")


def _next_free(parent: Path) -> Path:
    parent.mkdir(parents=True, exist_ok=True)
    number = 1
    while True:
        path = parent / f"{parent.name[0]}{number}"
        with suppress(FileExistsError):  # another process may be quicker
            path.mkdir()
            return path
        number += 1


def run_around(path: Path) -> Path | None:
    """Find the run's folder that a file or folder inside one belongs to."""
    around = (folder for folder in path.absolute().parents if (folder / "config.json").is_file())
    folder = next(around, None)
    return None if folder is None else Path(os.path.relpath(folder))


def newest_run() -> Path | None:
    """Find the newest run under runs/, None if there is none."""
    there = [path.parent for path in Path("runs").glob("*/config.json")]
    return max(there, key=lambda path: path.stat().st_mtime, default=None)


def _hint(path: Path) -> str:
    around = run_around(path)
    if around is not None:
        return f" The run that this is in is {around}"
    newest = newest_run()
    if newest is None:
        return " Make one with: python -m trainer"
    return f" The newest here is {newest}"


def settings_in(config: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a run; older versions recorded its limit beside the data."""
    return {"limit": config["data"].get("limit")} | config.get("settings", {})


def versions() -> dict[str, str]:
    """Return the versions that a training's numbers come from, besides this program."""
    found = {"python": platform.python_version()}
    for name in ("numpy", "scipy", "numba", "cupy-cuda12x", "cupy-cuda13x"):
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found

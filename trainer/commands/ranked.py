"""A training by several processes, for those after the first: they learn, and write nothing."""

from __future__ import annotations

import shlex
import warnings
from pathlib import Path

from backends import device_failure

from .. import display
from ..parallel import Process, RankLost
from ..running.recorder import resume_command
from ..training import Diverged, Training
from .ending import STOPS, interruptible

LOST = "another process of this training has ended"


def follow(training: Training, process: Process, folder: Path) -> int:
    """Take part in a training until all end; return the exit code.

    The folder is the first process's, who writes into it.
    """
    with interruptible() as stopped, warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        process.stopped = stopped
        try:
            if process.vote(0):  # the first could not begin to write
                return 1
            for _ in training:
                if wanted := process.vote(stopped()):
                    return 128 + wanted if wanted in STOPS else 0
        except Diverged:  # in all of them, and the first tells
            process.finished()
            return 1
        except RankLost:
            if process.tells():
                display.error(f"{LOST}; go on with it: {resume_command(folder)}")
            return 1
        except Exception as error:
            failure = device_failure(error)
            if failure is None and not isinstance(error, MemoryError | OSError):
                raise
            why = failure or " ".join(str(error).split())
            display.error(f"process {process.index} of {process.count}: {why}")
            return 1
    process.finished()
    return 0


def refusal(command: str, count: int) -> str:
    """Return why a command is not run by several processes."""
    return (
        f"{command} is one process's, and mpirun has started {count}: start it without mpirun:"
        f" python -m trainer {shlex.quote(command)} …; mpirun is for train"
    )

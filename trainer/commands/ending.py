"""How a training ends early: by signals, and by failures told in one line."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from backends import BackendUnavailable, device_failure, memory_shortage

from .. import display
from ..data import DataError
from ..parallel import RankLost, RanksError
from ..running.recorder import Recorder
from ..running.run_folder import RunError
from ..running.usage import UsageError
from ..weight_files import WeightFileError

# what a user is told in a line
MISTAKES = (UsageError, DataError, RunError, WeightFileError, BackendUnavailable, RanksError)
STOPS: dict[int, str] = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}
if hasattr(signal, "SIGHUP"):
    STOPS[signal.SIGHUP] = "SIGHUP (the terminal closed)"


@contextmanager
def interruptible() -> Iterator[Callable[[], int]]:
    """Turn the first of `STOPS` into an answer to a question that the loop asks: its number, or 0.

    A second Ctrl-C ends at once. What is ignored, as SIGHUP after nohup, stays so.
    """
    came = 0

    def handler(number: int, frame: Any) -> None:
        nonlocal came
        if came and number == signal.SIGINT:
            raise KeyboardInterrupt
        came = came or number

    heard = [number for number in STOPS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, handler) for number in heard}
    try:
        yield lambda: came
    finally:
        for number, was in before.items():
            signal.signal(number, was)


@contextmanager
def failures_told(recorder: Recorder, where: Callable[[], str]) -> Iterator[list[int]]:
    """End a training in one line where its disk, output, memory or device fails.

    `where` says how far it has come: "epoch 3 of 5". Yields a list, which is empty or holds the
    exit code after such an end.
    """
    code: list[int] = []
    is_settled = True
    try:
        yield code
        return
    except KeyboardInterrupt:  # a second Ctrl-C, at any moment
        code.append(130)
        is_settled, why = False, "stopped at once by a second Ctrl-C"
    except RankLost as error:
        code.append(1)
        is_settled, why = False, str(error)
    except OSError as error:
        code.append(1)
        why = f"{error.filename or 'stdout'}: {error.strerror or error}"
        if error.filename is None:
            display.abandon_stdout()
    except MemoryError as error:
        code.append(1)
        why = f"this does not fit into memory ({memory_shortage(error)})"
    except Exception as error:
        failure = device_failure(error)
        if failure is None:
            recorder.rescue(is_settled=True)
            display.error(f"the program failed. {recorder.stopped_in(where())}")
            raise
        code.append(1)
        is_settled, why = False, failure
    # outside, where what the error held of memory is free again
    recorder.rescue(is_settled=is_settled)
    display.error(f"{why}. {recorder.stopped_in(where())}")

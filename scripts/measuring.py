"""What the measuring scripts share: processes, rounds, comparisons and reports."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import signal
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from backends import describe_cpu
from trainer.benchmarking import Rounds
from trainer.files import write_whole
from trainer.running.run_folder import versions

ROOT = Path(__file__).resolve().parent.parent

Row = dict[str, Any]
Weights = list[np.ndarray]


# --- processes ----------------------------------------------------------------------------


class PeerError(RuntimeError):
    """A contender cannot go on, or does not compute the same; one line."""


class Worker:
    """An object that measures in a process of its own, which is idle outside its turn.

    Parameters
    ----------
    name : str
        In messages.
    make : callable
        Makes the object whose methods are called, there and once, from `arguments`.
    arguments
        Strings or numbers.
    threads : int, optional
        So many cores at most.
    """

    def __init__(self, name: str, make: Callable[..., Any], *arguments: Any, threads: int = 0):
        self.name, self.alive = name, True
        self._object = (make, *arguments)
        spawn = multiprocessing.get_context("spawn")  # nothing is shared, no thread pool either
        self._pool = ProcessPoolExecutor(1, spawn, _limit, (threads,))
        self._process = self._pool.submit(os.getpid)
        self._pool.submit(_do, self._object)  # starts to load; errors come with the first call

    def start(self, method: str, *arguments: Any) -> Future[Any]:
        """Call the object's method and do not wait; raises PeerError if the process has ended."""
        try:
            return self._pool.submit(_do, self._object, method, *arguments)
        except RuntimeError as error:
            self.alive = False
            raise PeerError(f"{self.name}: the process has ended") from error

    def result(self, call: Future[Any], seconds: float | None = None) -> Any:
        """Wait for a call and return its result.

        Raises
        ------
        ImportError
            If a package is missing.
        PeerError
            If anything else goes wrong, or it takes longer, which ends the process.
        """
        try:
            return call.result(seconds)
        except ImportError as error:
            raise ImportError(f"{self.name}: {error}") from error
        except TimeoutError as error:
            self.kill()
            raise PeerError(f"{self.name}: no answer within {seconds:.0f} s") from error
        except Exception as error:
            self.alive &= not isinstance(error, BrokenProcessPool)
            raise PeerError(f"{self.name}: {error}") from error

    def call(self, method: str, *arguments: Any, seconds: float | None = None) -> Any:
        """Call the object's method and return its result; see `result`."""
        return self.result(self.start(method, *arguments), seconds)

    def stop(self) -> None:
        """End the process when it has done what was asked."""
        self._pool.shutdown()

    def kill(self) -> None:
        """End the process now."""
        self.alive = False
        with suppress(Exception):  # it may be gone
            os.kill(self._process.result(10), getattr(signal, "SIGKILL", signal.SIGTERM))
        self._pool.shutdown(wait=False, cancel_futures=True)


def use_cpu(threads: int) -> None:
    """Make the workers to come use the CPU alone, with so many threads."""
    # before a worker starts, since a thread pool reads its size once
    for pool in ("OMP", "OPENBLAS", "MKL", "NUMBA"):
        os.environ[f"{pool}_NUM_THREADS"] = str(threads)
    os.environ |= {"CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu"}


def _limit(threads: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    if threads and hasattr(os, "sched_setaffinity"):  # XLA takes as many threads as it sees cores
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


@cache
def _made(make: Callable[..., Any], *arguments: Any) -> Any:
    return make(*arguments)


def _do(made: tuple[Any, ...], method: str = "__str__", *arguments: Any) -> Any:
    try:
        return getattr(_made(*made), method)(*arguments)
    except ImportError:
        raise
    except Exception as error:  # not every library's exceptions can be handed on
        line = " ".join(f"{type(error).__name__}: {error}".split())
        raise RuntimeError(line[:1000]) from None


# --- rounds and comparisons -----------------------------------------------------------------


def in_turns(jobs: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Run each job once a round and drop the first round."""
    order = Rounds(jobs)
    runs: dict[str, list[float]] = {name: [] for name in jobs}
    for name in order.until(rounds + 1):
        time.sleep(0.1)  # let the last one's idle threads go to sleep
        value = jobs[name]()
        if order.done:
            runs[name].append(value)
    return runs


def summary(runs: Iterable[float], factor: float = 1.0) -> Row:
    """Return median, extremes and runs, each times the factor."""
    values = [value * factor for value in runs]
    ends = {"min": min(values), "max": max(values)}
    return {"median": statistics.median(values), **ends, "runs": values}


def median_ratio(runs: Mapping[int, float], others: Mapping[int, float]) -> float | None:
    """Return the median of the common rounds' ratios: a slow moment of the machine met both."""
    common = runs.keys() & others.keys()
    return statistics.median(runs[i] / others[i] for i in common) if common else None


def compared(
    found: tuple[Weights, Any],
    wanted: tuple[Weights, Any],
    start: Weights,
    tolerance: float,
    other_answers: float,
    blur: float = 0.0,
) -> tuple[Row, str]:
    """Compare weights and answers of a contender with those wanted.

    Returns
    -------
    dict, str
        What they differ by, and a phrase about it where that is more than is allowed.
    """
    weights, answers = found
    difference = largest_difference(weights, wanted[0], start, blur)
    others = None if answers is None else float(np.mean(answers != wanted[1]))
    wrong = ""
    if not (difference <= tolerance and (others or 0) <= other_answers):
        wrong = (
            f"weights differ by {difference:.1e} of their change (allowed {tolerance:g}), "
            f"answers by {others or 0:.2%} (allowed {other_answers:.2%})"
        )
    return {"difference": difference, "tolerance": tolerance, "other_answers": others}, wrong


def largest_difference(
    weights: Weights, wanted: Weights, start: Weights, blur: float = 0.0
) -> float:
    """Return the largest difference of a weight, as a share of its array's largest change.

    `blur` times its array's largest weight counts as changed in addition.
    """
    shares = [
        abs(w - v).max() / (abs(v - s).max() + blur * abs(v).max())
        for w, v, s in zip(weights, wanted, start, strict=True)
    ]
    return float(np.max(shares))  # Python's max may lose a NaN


# --- the machine --------------------------------------------------------------------------


def describe_machine(threads: int, packages: Iterable[str]) -> Row:
    """Describe everything that a time on the CPU depends on besides the code."""
    cpu = describe_cpu()
    cpu["blas"] = [name.split(",")[0] for name in cpu["blas"]]  # its threads are this process's
    return cpu | {"threads": threads, "versions": installed(packages)} | circumstances()


def installed(packages: Iterable[str]) -> dict[str, str | None]:
    """Return the version of each package, None for those that are not installed."""
    found: dict[str, str | None] = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def machine_line(machine: Row) -> str:
    """Format what `describe_machine` returned, with the load average again at the end."""
    m = machine
    numbers = [f"{name} {number}" for name, number in m["versions"].items() if number]
    return (
        f"{m['name']}, {m['cores']} cores, threads: {m['threads']}; {m['system']}; Python "
        f"{m['python']}; {', '.join(numbers)}; {', '.join(m['blas'])}; {m['date']}; load "
        f"average before and after: {', '.join(map(as_number, m['load']))}."
    )


def circumstances() -> Row:
    """Return system, Python, date and load: what a time depends on besides code and device."""
    system = {"system": platform.platform(), "python": platform.python_version()}
    return system | {"date": time.strftime("%Y-%m-%d %H:%M %z"), "load": [load_average()]}


def load_average() -> float | None:
    """Return how many processes wanted to run during the last minute, including this one's."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def machine_and_versions() -> dict[str, Any]:
    """Describe the processor in a line, and name the versions of what computes on it."""
    cpu = describe_cpu()
    machine = f"{cpu['name']}, {cpu['cores']} cores, {platform.system()}"
    return {"machine": machine, "versions": versions()}


def before_measuring(packages: Iterable[str]) -> Row:
    """Describe the machine, the versions, those of other packages too, and the load, now."""
    found = machine_and_versions() | circumstances()
    found["versions"] |= installed(packages)
    return found


def after_measuring(measured: Row) -> str:
    """Format what `before_measuring` returned, with the load now added."""
    measured["load"].append(load_average())
    numbers = ", ".join(f"{name} {number}" for name, number in measured["versions"].items())
    loads = " and ".join(map(as_number, measured["load"]))
    return (
        f"{measured['machine']}; {measured['system']}; {numbers}; {measured['date']}; load average"
        f" before and after: {loads}."
    )


# --- reports ------------------------------------------------------------------------------


def as_table(rows: Sequence[Sequence[str]]) -> str:
    """Format rows as Markdown, titles first; the first column and "rule" hold words."""
    kinds = ["---:" if i and title != "rule" else "---" for i, title in enumerate(rows[0])]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (rows[0], kinds, *rows[1:]))


def as_contender(name: str, about: str) -> str:
    """Format a contender's name and what it is."""
    return f"**{name.split(',')[0]}**: {about}"


def as_spread(row: Row, factor: float) -> tuple[str, str]:
    """Format a `summary`, times the factor: its median and its range."""
    median, low, high = (as_number(row[key] * factor) for key in ("median", "min", "max"))
    return median, f"{low} … {high}"


def as_number(value: float | None) -> str:
    """Format a number with three digits."""
    if value is None:
        return "unknown"
    return f"{value:,.0f}" if value >= 100 else f"{value:#.3g}"


def write_report(folder: Path, name: str, report: Mapping[str, Any], text: str = "") -> list[Path]:
    """Write a report as JSON, and its text where there is one, as Markdown; return the paths."""
    files = {f"{name}.json": json.dumps(report, indent=1) + "\n"}
    if text:
        files[f"{name}.md"] = text
    for file, content in files.items():
        write_whole(folder / file, content.encode())
    return [folder / file for file in files]


# --- the command line ---------------------------------------------------------------------


class Parser(argparse.ArgumentParser):
    """A parser whose help is a module's text as it stands, and whose errors are one line.

    Parameters
    ----------
    text : str or None
    """

    def __init__(self, text: str | None) -> None:
        super().__init__(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)

    def error(self, message: str) -> Any:
        self.exit(2, f"error: {message}; --help explains\n")

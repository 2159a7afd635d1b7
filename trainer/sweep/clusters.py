"""Runs on a Dask or a Ray cluster: those in flight, and the ones that were lost with a worker.

joblib has backends for both, but Ray's returns no outcome before the last (joblib 1.6, Ray 2.60),
and Dask's ends the sweep when the worker that held the data is killed (joblib 1.6). So runs are
handed to the clusters themselves. Data and settings travel with the run and its outcome comes back:
a worker needs this package, and no file of this machine.
"""

from __future__ import annotations

import asyncio
import os
import re
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, CancelledError, Future, wait
from contextlib import contextmanager, suppress
from functools import cache
from platform import python_version
from secrets import token_hex
from typing import Any

import numpy as np

from .. import __version__
from ..running.usage import UsageError
from .interrupts import ctrl_c_ignored
from .outcomes import Outcome

EXPECTED = (
    "dask or ray for processes of this machine; tcp://HOST:PORT (or dask://, tls://) for a Dask"
    " scheduler; ray://HOST:PORT, or auto for the Ray cluster that this machine belongs to"
)
LOCAL = ("dask", "ray")  # of processes on this machine
_ADDRESS = re.compile(r"(dask|tcp|tls|ray)://[^\s/]+:\d{1,5}|dask|ray|auto")
_SECONDS = 60  # until a cluster must answer, and have a worker
_GLANCE = 1.0  # seconds between two looks at how many workers there are
_ATTEMPTS = 4  # at a run whose worker was lost each time
_ASKED = "__import__('trainer.sweep.clusters').sweep.clusters._versions()"
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@cache
def _token() -> str:
    """Return what only this process and its workers know; Ray reads it once a process."""
    return token_hex(32)


def check_address(cluster: str) -> None:
    """Raise UsageError unless it is one that `opened` takes."""
    if not _ADDRESS.fullmatch(cluster):
        raise UsageError(f"--cluster {cluster}: expected {EXPECTED}")


class Cluster(ABC):
    """Workers of Dask's or Ray's.

    Attributes
    ----------
    name : str
        "Dask" or "Ray".
    most : int or None
        How many runs there may be at a time, whatever the workers.
    threads : int
        Of a run.
    """

    name = ""
    lost: tuple[type[BaseException], ...] = ()  # errors of a run that is to be begun again
    broken: tuple[type[BaseException], ...] = ()  # and of one that the cluster began so often

    def __init__(self, most: int | None, threads: int) -> None:
        self.most, self.threads = most, threads

    def slots(self) -> int:
        """Count the runs that there may be at a time, now."""
        workers = max(1, self.workers())  # of none at the moment the cluster keeps a run waiting
        return min(workers, self.most or workers)

    @abstractmethod
    def workers(self) -> int:
        """Count the workers that there are now."""

    @abstractmethod
    def share(self, arrays: Sequence[np.ndarray]) -> Sequence[Any]:
        """Send arrays to the workers once; return what stands for them in `submit`."""

    @abstractmethod
    def submit(self, function: Callable[..., Outcome], *args: Any) -> Future[Outcome]:
        """Have a worker call a function, a few times if the worker is lost."""

    @abstractmethod
    def close(self) -> None:
        """Leave the cluster; end the processes that were started for it."""

    def train(
        self,
        function: Callable[..., Outcome],
        calls: Iterable[tuple[Any, ...]],
        arrays: Sequence[np.ndarray],
    ) -> Iterator[Outcome]:
        """Call a function with the arguments of each call and arrays, as workers get free.

        The next call is asked for when the outcomes before it have been taken. What was lost is
        begun again, and nothing else.

        Raises
        ------
        concurrent.futures.BrokenExecutor
            If the workers of one call were lost again and again.
        UsageError
            If a worker has not this package, or another version of it.
        """
        waiting, again = iter(calls), list[tuple[Any, ...]]()
        running: dict[Future[Outcome], tuple[Any, ...]] = {}
        losses: dict[int, int] = {}  # of a call
        shared = self.share(arrays)
        while True:
            slots = self.slots()
            while len(running) < slots:
                call = again.pop() if again else next(waiting, None)
                if call is None:
                    break
                running[self.submit(function, *call, *shared)] = call
            if not running and not again:
                return
            done, _ = wait(running, timeout=_GLANCE, return_when=FIRST_COMPLETED)
            for future in done:
                call = running.pop(future)
                try:
                    outcome = self._result(future)
                except self.broken as error:
                    raise BrokenExecutor(str(error)) from error
                except self.lost as error:
                    losses[id(call)] = losses.get(id(call), 0) + 1
                    if losses[id(call)] == _ATTEMPTS:
                        raise BrokenExecutor(str(error)) from error
                    shared = self.share(arrays)  # which may have been lost as well
                    again.append(call)
                    continue
                yield outcome

    def _result(self, future: Future[Outcome]) -> Outcome:
        return future.result()

    def _compare(self, there: tuple[str, str] | BaseException) -> None:
        """Raise UsageError if a worker misses this program, or has another version of it."""
        if isinstance(there, ImportError):
            raise UsageError(
                f"a worker of the {self.name} cluster cannot import this program ({there});"
                " install there what is here: python -m pip install xptrainer"
            )
        if isinstance(there, tuple) and there != (here := _versions()):
            theirs, ours = (f"xptrainer {a} on Python {b}" for a, b in (there, here))
            raise UsageError(
                f"a worker of the {self.name} cluster has {theirs}, and this machine {ours};"
                " install the same on both, so that results are the same"
            )


class _Dask(Cluster):
    name = "Dask"

    def __init__(self, address: str | None, most: int | None, threads: int) -> None:
        import dask
        import distributed

        super().__init__(most, threads)
        self._cluster: Any = None
        _quiet("distributed")
        if address is None:
            share = dict.fromkeys(_THREADS, threads)
            with dask.config.set({"distributed.nanny.pre-spawn-environ": share}):
                self._cluster = distributed.LocalCluster(
                    n_workers=most,
                    threads_per_worker=threads,
                    host="127.0.0.1",
                    dashboard_address="127.0.0.1:0",
                    memory_limit=0,  # as joblib's processes, which nobody ends for their memory
                    silence_logs="CRITICAL",
                    env=share,
                )
        self._where = address or "dask"
        self._verified: set[str] = set()  # addresses of workers
        self._client = distributed.Client(self._cluster or address, timeout=_SECONDS)
        self._executor = self._client.get_executor(pure=False)
        self.lost, self.broken = (CancelledError,), (distributed.KilledWorker,)

    def workers(self) -> int:
        known = set(self._client.nthreads())
        if new := known - self._verified:
            # what cannot read a run ends: so it is asked first, in words that every Python reads
            answers = self._client.run(eval, _ASKED, workers=list(new), on_error="return")
            for worker, versions in answers.items():
                self._compare(versions)
                if not isinstance(versions, BaseException):
                    self._verified.add(worker)
        return len(known)

    def share(self, arrays: Sequence[np.ndarray]) -> Sequence[Any]:
        try:
            self._client.wait_for_workers(1, timeout=_SECONDS)
            self.workers()
            # to every worker, so that they outlast one
            return self._client.scatter(list(arrays), broadcast=True, hash=False, timeout=_SECONDS)
        except TimeoutError:
            raise UsageError(
                f"--cluster {self._where}: there is no worker, and none has come in {_SECONDS} s;"
                f" start some: dask worker {self._where}"
            ) from None

    def submit(self, function: Callable[..., Outcome], *args: Any) -> Future[Outcome]:
        return self._executor.submit(_on_dask, function, *args)

    def close(self) -> None:
        with suppress(TimeoutError):  # of a crowded machine; its processes end with this one
            self._client.close(timeout=_SECONDS)
            if self._cluster is not None:
                self._cluster.sync(self._end_workers)
                self._cluster.close(timeout=_SECONDS)

    async def _end_workers(self) -> None:
        """End those of this machine, who would finish a run first that nobody waits for."""
        ends = [nanny.close(timeout=1) for nanny in self._cluster.workers.values()]
        await asyncio.gather(*ends, return_exceptions=True)


class _Ray(Cluster):
    name = "Ray"

    def __init__(self, address: str | None, most: int | None, threads: int) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would report to its makers
        if address is None:  # who listens on all addresses of this machine, not on its own alone
            os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": _token()}
        import ray
        import ray._private.worker

        super().__init__(most, threads)
        # which would write of lost workers into the output, even of --json
        ray._private.worker.print_to_stdstream = lambda data, ignore_prefix: None
        self._ray = ray
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": "CRITICAL"}
        if address is None:
            cores = (most or 1) * threads
            options |= {"num_cpus": cores, "include_dashboard": False, "address": "local"}
        else:
            options["address"] = address
        _quiet("ray")
        ray.init(**options)
        errors = ray.exceptions
        self.broken = (
            errors.WorkerCrashedError,
            errors.NodeDiedError,
            errors.OutOfMemoryError,
            errors.ObjectLostError,
            errors.LocalRayletDiedError,
        )

    def workers(self) -> int:
        return int(self._ray.cluster_resources().get("CPU", 0)) // self.threads

    def share(self, arrays: Sequence[np.ndarray]) -> Sequence[Any]:
        return [self._ray.put(array) for array in arrays]

    def submit(self, function: Callable[..., Outcome], *args: Any) -> Future[Outcome]:
        options = {"num_cpus": self.threads, "max_retries": _ATTEMPTS - 1}
        remote = self._ray.remote(_alone).options(**options)
        return remote.remote(self.threads, _checked, _versions(), function, *args).future()

    def close(self) -> None:
        self._ray.shutdown()

    def _result(self, future: Future[Outcome]) -> Outcome:
        try:
            return super()._result(future)
        except self._ray.exceptions.RayTaskError as error:
            cause = error.cause  # without the other machine's traceback
            self._compare(cause.there if isinstance(cause, _OtherVersions) else cause)
            raise (cause if isinstance(cause, Exception) else error) from None


@contextmanager
def opened(cluster: str, most: int | None, threads: int) -> Iterator[Cluster]:
    """Connect with a cluster, or start one of processes on this machine.

    Parameters
    ----------
    cluster : str
        "dask", "ray", or the address of one, as `EXPECTED` says.
    most : int or None
        Runs at a time; of processes on this machine, how many there are.
    threads : int
        Of each of those processes. Elsewhere a run has a Dask worker's threads, or one of Ray's
        CPUs.

    Raises
    ------
    UsageError
        If the package is absent, nothing answers at the address, or there is no worker.
    """
    check_address(cluster)
    on_ray = cluster == "auto" or cluster.startswith("ray")
    is_local = cluster in LOCAL
    address = None if is_local else re.sub("^dask://", "tcp://", cluster)
    kind: Callable[[str | None, int | None, int], Cluster] = _Ray if on_ray else _Dask
    name, package = ("Ray", "ray") if on_ray else ("Dask", "dask")
    environment = dict(os.environ)
    try:
        with ctrl_c_ignored() as hear:
            made = kind(address, most, threads if is_local else 1)
    except ImportError as error:
        raise UsageError(
            f"--cluster {cluster}: {name} is not installed ({error}); type: python -m pip"
            f' install "xptrainer[{package}]"'
        ) from error
    except (OSError, ConnectionError, RuntimeError, ValueError) as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError(
            f"--cluster {cluster}: {name} does not answer there"
            f" ({' '.join(str(error).split()) or type(error).__name__}); expected {EXPECTED}"
        ) from error
    try:
        hear()
        yield made
    finally:
        made.close()
        for name in os.environ.keys() - environment.keys():  # Dask and Ray set some
            del os.environ[name]
        os.environ.update(environment)


def _quiet(package: str) -> None:
    """Keep what a package logs of lost workers off the terminal."""
    import logging

    logging.getLogger(package).setLevel(logging.CRITICAL)


def _versions() -> tuple[str, str]:
    return __version__, python_version().rpartition(".")[0]


# --- in a worker's process ------------------------------------------------------------------

_one_at_a_time = threading.Lock()


def _on_dask(function: Callable[..., Outcome], *args: Any) -> Outcome:
    """Call a function with the threads of the worker that calls it."""
    from distributed import get_worker

    return _alone(get_worker().state.nthreads, function, *args)


def _alone(threads: int, function: Callable[..., Outcome], *args: Any) -> Outcome:
    """Call a function with so many threads, after any other that this process has begun."""
    with _one_at_a_time:
        before = os.environ.get(_THREADS[0])
        os.environ[_THREADS[0]] = str(threads)
        try:
            return function(*args)
        finally:
            with suppress(KeyError):
                del os.environ[_THREADS[0]]
            if before is not None:
                os.environ[_THREADS[0]] = before


class _OtherVersions(Exception):
    """A worker's versions are not those of the machine whose run it got."""

    def __init__(self, there: tuple[str, str]) -> None:
        super().__init__(there)
        self.there = there


def _checked(versions: tuple[str, str], function: Callable[..., Outcome], *args: Any) -> Outcome:
    """Call a function where the versions are these."""
    if versions != _versions():
        raise _OtherVersions(_versions())
    return function(*args)

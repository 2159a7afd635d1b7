"""Look for races between the barriers of the CUDA kernels: ``python -m tests.cuda.race_check``.

Every launch of `CASES` is written to a file with all memory that it can reach, and replayed by a
program of its own under ThreadSanitizer: two threads of a block that touch the same place, one of
them writing, with no barrier between the two, are a race, in whatever order they happened to run.
``--sanitizer address`` finds what is touched outside of an array instead, to the byte.
"""

from __future__ import annotations

import argparse
import os
import platform
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from ctypes import string_at
from dataclasses import fields
from functools import cache, partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from .host_module import CompileError, HostModule, Launch, NoCompiler
from .stand_in import Machine, fake_cupy, install, owner_of


def _learns(*sizes: int, batch_size: int = 1, **options: Any) -> Callable[[ModuleType], object]:
    """Learn and answer a few samples with a network of such sizes."""

    def case(cupy: ModuleType) -> None:
        from backends import select
        from trainer import MLP, fit
        from trainer.settings import TrainingSettings

        rng = np.random.default_rng(0)
        x = rng.integers(0, 256, (80, sizes[0]), dtype=np.uint8)
        y = rng.integers(0, sizes[-1], len(x))
        settings = {field.name for field in fields(TrainingSettings)}
        training = {key: options.pop(key) for key in settings & options.keys()}
        model = MLP(sizes, backend=select("gpu"), **options)
        list(fit(model, x, y, epochs=1, batch_size=batch_size, test=(x, y), **training))

    return case


def _deforms(height: int, width: int, dtype: str) -> Callable[[ModuleType], object]:
    """Deform a few images, also from places far outside."""

    def case(cupy: ModuleType) -> None:
        from backends import select

        rng = np.random.default_rng(0)
        images = rng.integers(0, 256, (30, height, width)).astype(dtype)
        maps = np.eye(2, 3) + rng.normal(0, [0.2, 0.2, 1.0], (30, 2, 3))
        fields = rng.normal(0, 2, (30, 2, height, width))
        fields[::5] *= np.inf
        device = [cupy.asarray(a) for a in (images, maps.astype("f"), fields.astype("f"))]
        for by in (None, device.pop()):
            select("gpu").deform(*device, by, 0.0)

    return case


_ALL = {"optimizer": "adamw", "weight_decay": 0.1, "clip": 1.0, "batch_norm": True}
_ALL |= {"dropout": 0.5, "input_dropout": 0.2, "averaging": 0.9}
#: What to check: each is given a fake CuPy, which is installed, and launches kernels on it.
CASES: list[Callable[[ModuleType], object]] = [
    _learns(784, 200, 10),
    _learns(50, 130, 10, loss="cross_entropy", bias=True, l2=1.0),
    _learns(50, 130, 10, dtype="float64", activation="relu", loss="binary_cross_entropy"),
    _learns(50, 600, 5, bias=True),
    _learns(50, 40, 30, 5, bias=True, loss="cross_entropy"),
    _learns(50, 40, 30, 5, bias=True, momentum=0.5),
    _learns(50, 300, 40, activation="tanh"),
    _learns(50, 5, loss="cross_entropy", bias=True),
    _learns(50, 40, 30, 5, bias=True, batch_size=20),
    _learns(50, 40, 5, bias=True, batch_size=20, momentum=0.5, l2=1.0),
    _learns(50, 40, 40, batch_size=20, loss="cross_entropy", optimizer="adam"),
    _learns(50, 40, 30, 5, bias=True, batch_size=70, optimizer="nesterov", momentum=0.5, clip=0.1),
    _learns(50, 40, 30, 5, batch_size=20, activation="gelu", dropout=0.5, input_dropout=0.2),
    _learns(300, 40, 30, 5, bias=True, batch_size=40, loss="cross_entropy", **_ALL),
    _deforms(28, 28, "uint8"),
    _deforms(1, 5, "float32"),
]

_FOUND = 66  # the exit status of a sanitizer that has something to report


def races(launch: Launch, memory: Iterable[np.ndarray] = (), sanitizer: str = "thread") -> str:
    """Replay a launch under a sanitizer.

    Parameters
    ----------
    launch : Launch
        Its memory is copied, not changed.
    memory : iterable of arrays
        What arguments may point to, besides the arrays among them.
    sanitizer : str
        "thread" for races, "address" for what is touched outside of an array.

    Returns
    -------
    str
        The sanitizer's report, empty if it has nothing to report.
    """
    flags = (f"-fsanitize={sanitizer}", "-g", "-DON_HOST_REPLAY")
    program = launch.kernel.module.build(f".{sanitizer}", flags)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "launch")
        path.write_bytes(_written(launch, memory))
        options = {
            "TSAN_OPTIONS": f"exitcode={_FOUND}:atexit_sleep_ms=0",
            "ASAN_OPTIONS": f"exitcode={_FOUND}:detect_leaks=0:detect_stack_use_after_return=0",
        }
        done = subprocess.run(
            [*_fixed_addresses(), str(program), str(path)],
            env=os.environ | options,
            capture_output=True,
            text=True,
            errors="replace",
        )
    if done.returncode not in (0, _FOUND) or "unexpected memory mapping" in done.stderr:
        raise RuntimeError(f"{launch.kernel} could not be replayed: {done.stderr[-2000:]}")
    return done.stderr if done.returncode else ""


@cache
def unavailable(sanitizer: str = "thread") -> str:
    """Return why nothing can be checked here; empty if it can."""
    try:
        kernel = HostModule('extern "C" __global__ void nothing() {}').get_function("nothing")
        races(kernel.prepare((1,), (32,), ()), sanitizer=sanitizer)
    except (NoCompiler, CompileError, RuntimeError) as error:
        return f"no {sanitizer} sanitizer: {error}"
    return ""


@cache
def _fixed_addresses() -> tuple[str, ...]:
    """Older sanitizers do not know the far addresses that newer systems draw at random."""
    command = ("setarch", platform.machine(), "-R")
    try:
        subprocess.run([*command, "true"], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ()
    return command


def _written(launch: Launch, memory: Iterable[np.ndarray]) -> bytes:
    """Write what `main` in on_host.h reads: sizes, buffers and arguments."""
    owners = {id(owner): owner for owner in map(owner_of, [*launch.arrays, *memory])}.values()
    spans = [(*np.lib.array_utils.byte_bounds(owner), owner) for owner in owners]
    buffers: list[bytes] = []
    numbers: dict[int, int] = {}

    def number_of(low: int, high: int, owner: np.ndarray) -> int:
        if low not in numbers:
            # only integers of 8 bytes can themselves be addresses
            content = string_at(low, high - low)
            written = with_addresses(content, owner.dtype.kind in "iu" and owner.itemsize == 8)
            numbers[low] = len(buffers)
            buffers.append(written)
        return numbers[low]

    def with_addresses(content: bytes, has_any: bool) -> bytes:
        """The bytes, and which of them are addresses: where, in which buffer, how far in."""
        words = np.frombuffer(content, np.uint64, len(content) // 8 if has_any else 0)
        addresses = b"".join(
            struct.pack("3Q", where * 8, number_of(low, high, owner), int(words[where]) - low)
            for low, high, owner in spans
            for where in np.flatnonzero((words >= low) & (words < high)).tolist()
        )
        sizes = len(content), len(addresses) // 24
        return struct.pack("Q", sizes[0]) + content + struct.pack("Q", sizes[1]) + addresses

    kernel = launch.kernel
    args = [with_addresses(value, True) for value in launch.values]
    if len(args) + len(buffers) > 256:
        raise RuntimeError(f"{kernel} reaches more arrays than can be replayed")
    number = list(kernel.module.kernels).index(kernel.name)
    sizes = (number, *launch.grid, *launch.block, launch.shared_mem, len(buffers))
    return struct.pack(f"{len(sizes)}Q", *sizes) + b"".join([*buffers, *args])


def shape_of(launch: Launch) -> tuple[object, ...]:
    """What decides on the way through a kernel: sizes, integers, and which pointers are null."""
    parameters = launch.kernel.entry.parameters
    seen = {b"p": any, b"i": bytes}
    ways = [
        seen[parameters[i].kind](value)
        for i, value in enumerate(launch.values)
        if parameters[i].kind in seen
    ]
    module = launch.kernel.module
    sizes = (launch.grid, launch.block, launch.shared_mem)
    return (module.code, module.options, launch.kernel.name, *sizes, *ways)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.cuda.race_check")
    parser.add_argument("--sanitizer", choices=["thread", "address"], default="thread")
    sanitizer = parser.parse_args().sanitizer
    reason = unavailable(sanitizer) or ("" if CASES else "CASES is empty")
    if reason:
        print(reason)
        return 2
    reports: dict[tuple[object, ...], str] = {}

    def check(machine: Machine, launch: Launch) -> None:
        shape = shape_of(launch)
        if shape not in reports:
            report = reports[shape] = races(launch, machine.allocations(), sanitizer)
            print(*shape[1:], report or "clean", flush=True)

    for case in CASES:
        fake = fake_cupy()
        fake.machine.before_launch.append(partial(check, fake.machine))
        with pytest.MonkeyPatch.context() as monkeypatch:
            case(install(monkeypatch, fake))
    found = sum(map(bool, reports.values()))
    print(f"{found} of {len(reports)} launches with a report")
    return int(found > 0)


if __name__ == "__main__":
    sys.exit(main())

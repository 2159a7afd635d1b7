"""A process that does things with bad files, and tells how it went."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

if sys.platform != "linux":
    collect_ignore_glob = ["test_*.py"]  # they limit memory, and fork


@pytest.fixture
def little_memory() -> Iterator[None]:
    """Allow the test no more than 1 GB beyond what is in use."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + (1 << 30)
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    yield
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@pytest.fixture(scope="session")
def isolated(tmp_path_factory) -> Iterator[Callable[..., dict[str, Any]]]:
    """Return a function that does one task of `isolated.py` and returns what it says."""
    root = Path(__file__).resolve().parents[2]
    cache = str(tmp_path_factory.mktemp("cache"))
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "TRAINER_CACHE": cache}
    with subprocess.Popen(
        [sys.executable, "-m", "tests.bad_input.isolated"],
        cwd=root,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()

        def do(**task: Any) -> dict[str, Any]:
            process.stdin.write(json.dumps(task) + "\n")
            process.stdin.flush()
            return json.loads(process.stdout.readline())

        do.cache = cache
        yield do
        process.stdin.close()

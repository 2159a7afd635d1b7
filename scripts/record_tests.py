"""A pytest plugin that writes the outcome of every test to a file as soon as it is known.

    python -m pytest -p scripts.record_tests --record FILE [--hang SECONDS]

Each line is a JSON object: a test's name, outcome, message and recorded properties. The last line
says that the session ended. A process of pytest-xdist that hangs in a test, or in which a GPU
failed, ends; xdist starts another.
"""

from __future__ import annotations

import faulthandler
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

_LOST_GPU = re.compile(r"cuda\w*error|cublas|memory", re.IGNORECASE)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the plugin's options."""
    parser.addoption("--record", metavar="FILE")
    parser.addoption("--hang", type=float, default=0.0, help="seconds that a test may take")


def pytest_configure(config: pytest.Config) -> None:
    """Record in the process that starts the others."""
    config.pluginmanager.register(Recorder(config, hasattr(config, "workerinput")))


class Recorder:
    """Writes lines, except in a process that pytest-xdist started."""

    def __init__(self, config: pytest.Config, worker: bool) -> None:
        self._file, self._worker = Path(config.getoption("--record")), worker
        self._hang = config.getoption("--hang")

    def _write(self, line: Mapping[str, Any]) -> None:
        if not self._worker:
            with self._file.open("a") as file:
                file.write(json.dumps(line) + "\n")

    def pytest_runtest_setup(self) -> None:
        """Start the time that the test may take."""
        if self._hang:
            faulthandler.dump_traceback_later(self._hang, exit=True)

    @pytest.hookimpl(trylast=True)  # after xdist has sent the report
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Write what a test came to."""
        if report.when == "teardown" and self._hang:
            faulthandler.cancel_dump_traceback_later()
        if report.when == "call" or not report.passed:
            properties = dict(report.user_properties)
            line = {"test": report.nodeid, "outcome": report.outcome, "message": _message(report)}
            self._write(line | {"properties": properties})
        if self._worker and report.failed and _LOST_GPU.search(_message(report)):
            os._exit(70)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Write what could not be collected."""
        if report.failed:
            line = {"test": report.nodeid, "outcome": "failed", "message": _message(report)}
            self._write(line | {"properties": {}})

    def pytest_sessionfinish(self) -> None:
        """Write the last line."""
        self._write({"ended": True})


def _message(report: pytest.TestReport | pytest.CollectReport) -> str:
    if report.outcome == "skipped" and isinstance(report.longrepr, tuple):
        return report.longrepr[2].removeprefix("Skipped: ")
    crash = getattr(report.longrepr, "reprcrash", None)
    lines = (crash.message if crash else report.longreprtext).strip().splitlines()
    return " ".join((lines[0] if crash else lines[-1]).split()) if lines else ""

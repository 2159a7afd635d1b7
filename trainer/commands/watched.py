"""A training on a page of this machine: as it goes (`train --watch`), and again (`watch`)."""

from __future__ import annotations

import json
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from .. import display
from ..files import read_plain, write_whole
from ..running.metrics_file import UNREADABLE
from ..running.run_folder import Run
from ..running.starting import Job
from ..snapshots import Snapshots, about
from ..training import BatchProgress, EpochReport
from ..training.minimize import IterationReport
from ..web.events import Events
from ..web.server import open_browser
from ..web.watching import watch_page
from .serving import server_of
from .words import network_words

FILE = "watch.jsonl"  # in a run's folder: what a page must know, and a line a frame
_LARGEST = 1 << 26  # bytes of it


class Watched:
    """A view of a training that also shows it on a page, until it is left.

    All that it is asked for and does not do itself, the terminal's view does.
    """

    def __init__(self, view: display.QuietView, folder: Run, job: Job) -> None:
        self._view, self._folder = view, folder
        title = f"{folder.path}: {network_words(job.model)}"
        self._about = about(job.data, title, job.model.sizes[1])
        self._events = Events(self._about, stored(folder.path)[1])
        self._server = server_of(watch_page(title), events=self._events)
        self._snapshots = Snapshots(job.model, job.data, self._events.publish)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        view.note(f"watch it at {self._server.url}")
        open_browser(self._server.url)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._view, name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def progress(self, report: BatchProgress) -> None:
        self._view.progress(report)
        self._snapshots.take(report.epoch - 1 + report.samples / report.total, report.train_loss)

    def epoch(self, report: EpochReport) -> None:
        self._view.epoch(report)
        self._snapshots.take(report.epoch, report.train_loss, report.test_accuracy)

    def iteration(self, report: IterationReport) -> None:
        self._view.iteration(report)
        self._snapshots.take(report.iteration, report.train_loss, report.test_accuracy)

    def keep(self) -> None:
        """Make the pictures that are left, and write all into the run's folder."""
        self._snapshots.end()
        lines = [self._about, *self._events.history]
        content = "".join(json.dumps(line) + "\n" for line in lines)
        write_whole(self._folder.path / FILE, content.encode())

    def stay(self) -> None:
        """Wait until Ctrl-C."""
        with suppress(KeyboardInterrupt):
            self._view.note(f"the page stays until Ctrl-C: {self._server.url}")
            threading.Event().wait()


def stored(folder: Path) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
    """Return what `Watched.keep` wrote: what a page must know, or None, and the frames."""
    file = folder / FILE
    try:
        if file.stat().st_size > _LARGEST:
            return None, []
        first, *frames = map(json.loads, read_plain(file).splitlines())
        for frame in frames:
            float(frame["epoch"]), float(frame["loss"])
        return dict(first), frames
    except UNREADABLE:
        return None, []

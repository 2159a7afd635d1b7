"""`watch`: a training again, on a page of this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from cyclopts.validators import Number

from .. import display
from ..running.trained import TrainedRun
from ..running.usage import UsageError
from ..snapshots import about, pictures
from ..web.events import Events
from ..web.watching import watch_page
from .options import Flag
from .serving import serve, server_of
from .watched import stored
from .words import network_words


def run(
    path: Annotated[Path, Parameter("RUN")],
    /,
    *,
    port: Annotated[int | None, Parameter(validator=Number(gte=1, lte=65535))] = None,
    no_browser: Flag = False,
) -> int:
    """Show a training again, on a page that is served to this machine alone, until Ctrl-C.

    A training with --watch keeps its moments, with pictures of its hidden units, its backquery and
    its mistakes; of any other there are the curves, and the pictures of its end.

    python -m trainer watch runs/r1

    Parameters
    ----------
    path
        A folder that train wrote.
    port
        Where it is served. [default: the first free one from 8000 on]
    no_browser
        Open no browser, only say the address.
    """
    trained = TrainedRun(path, "cpu")
    if trained.run is None:
        raise UsageError(f"{path}: weights have no training to show; expected a run")
    title = f"{path}: {network_words(trained.model)}"
    first, frames = stored(trained.run.path)
    if first is None or not frames:
        first, frames = _from_metrics(trained, title)
    server = server_of(watch_page(title), port, events=Events(first, frames))
    serve(server, {"moments": f"{len(frames):,}"}, no_browser=no_browser)
    return 0


def _from_metrics(trained: TrainedRun, title: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return what there is of a training that kept no moments."""
    assert trained.run is not None
    display.note("it was trained without --watch: there are its curves, and pictures of its end")
    frames = [
        {"epoch": m["epoch"], "loss": m["train_loss"], "accuracy": m.get("test_accuracy")}
        for m in trained.run.metrics()
    ]
    try:
        data = trained.dataset
    except UsageError as error:
        display.note(f"no pictures: {error}")
        return {"title": title, "classes": list(map(str, trained.classes))}, frames
    frames[-1] |= pictures(trained.model, data)
    return about(data, title, trained.model.sizes[1]), frames

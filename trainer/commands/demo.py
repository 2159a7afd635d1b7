"""`demo`: the page to draw on, served on this machine."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from cyclopts import Parameter
from cyclopts.validators import Number

from .. import display
from ..exports import html
from ..running.trained import TrainedRun
from .export import exported
from .options import Flag, RunOrWeights, WeightsData, WeightsRecipe
from .serving import serve, server_of


def run(
    path: RunOrWeights,
    /,
    *,
    device: str = "cpu",
    data: WeightsData = None,
    recipe: WeightsRecipe = None,
    port: Annotated[int | None, Parameter(validator=Number(gte=1, lte=65535))] = None,
    no_browser: Flag = False,
) -> int:
    """Open a page to draw a digit on, which the network reads as you draw.

    For a run on a table it is a form. It is served to this machine alone, until Ctrl-C. The same
    page as a file, to be mailed, is what export writes.

        python -m trainer demo runs/r1
        python -m trainer export runs/r1 --format html

    Parameters
    ----------
    device
        With cpu, the page computes the answers itself; with gpu or gpu:N they come from there.
    port
        Where it is served. [default: the first free one from 8000 on]
    no_browser
        Open no browser, only say the address.
    """
    trained = TrainedRun(path, device, recipe=recipe, data=data)
    display.note(*trained.assumed)
    asks = trained.backend.name != "cpu"
    made = html.page(exported(trained, as_page=True), asks_server=asks)
    dtype, features = trained.scale.dtype, trained.features

    def answer(body: bytes) -> list[float]:
        values = np.frombuffer(body, "<f4").astype(np.float64)
        if not np.isfinite(values).all():
            raise ValueError("a value is missing or infinite")
        if dtype == "uint8":
            values = np.clip(np.rint(values), 0, 255)
        return trained.outputs(values.astype(dtype)[None]).astype(float)[0].tolist()

    server = server_of(made, port, answer=answer if asks else None, size=4 * features)
    where = f"computed on {trained.backend.device_name}" if asks else "computed in the page"
    serve(server, {"answers": where}, no_browser=no_browser)
    return 0

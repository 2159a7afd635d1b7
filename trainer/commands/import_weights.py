"""`import-weights`: a run folder made of weights that another program has trained."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from .. import display
from ..data import load
from ..recipes import source_for
from ..runs import Run, check_free
from . import choose
from .train import config_of
from .weights_given import describe_input_map, files_of, network_of, recipe_of


def run(
    paths: Sequence[Path],
    *,
    recipe: str | None,
    data: str | None,
    test_data: str | None,
    transposed: bool | None,
    out: Path | None,
    device: str,
    as_json: bool,
) -> int:
    """Read the weights, find out how they go together, and keep the network."""
    if out is not None:
        out = out.expanduser()
        check_free(out)
    files = files_of([path.expanduser() for path in paths])
    chosen = recipe_of(recipe, files)
    backend = choose(device)
    wanted = data or ("auto" if chosen is None else chosen.data)
    dataset = load(source_for(chosen, wanted), test_data and source_for(chosen, test_data))
    if dataset.note:
        display.note(dataset.note)
    model, chosen, dataset = network_of(
        files, chosen, dataset, backend=backend, transposed=transposed
    )
    config = config_of(chosen, dataset, None, 0, model.seed or 0, model)
    sources = [str(file.absolute()) for file in files]
    folder = Run.start(out, config | {"weights_of": sources})
    model.save(folder.model_file)
    folder.close()
    if as_json:
        display.json_line({"run": str(folder.path), "files": sources, "network": model.settings()})
    else:
        settings = model.settings()
        display.facts(
            {
                "weights": ", ".join(map(str, files)),
                "network": f"{' → '.join(map(str, model.sizes))}, {settings['activation']},"
                f" {'with' if settings['bias'] else 'no'} bias, {settings['dtype']}",
                "recipe": chosen.name,
                "inputs": f"{describe_input_map(model)}, as {dataset.name} has them",
                "run": str(folder.path),
                "next": f"python -m trainer evaluate {shlex.quote(str(folder.path))}",
            }
        )
    return 0

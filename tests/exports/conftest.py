"""Runs to export: each is trained once a session, in seconds, by the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from trainer.cli import main

TABLE = Path("flowers.csv")
COLOURS = ("red", "blue", "", "label")


def write_table(path: Path, n: int = 120, seed: int = 0) -> None:
    """Write a table of two numbers with gaps and two columns of categories with gaps."""
    rng = np.random.default_rng(seed)
    lines = ["size,label colour,weight,input,kind"]
    for _ in range(n):
        kind = int(rng.integers(3))
        size = "" if rng.random() < 0.2 else f"{10 + kind + rng.normal():.3f}"
        colour = COLOURS[int(rng.integers(len(COLOURS)))]
        shape = ("round", "long")[int(rng.integers(2))]
        lines.append(f"{size},{colour},{kind * rng.normal():.3f},{shape},{'abc'[kind]}")
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory) -> Callable[..., Path]:
    """Return a function that trains with some options and returns the run's folder."""
    made: dict[tuple[str, ...], Path] = {}

    def train(*options: str) -> Path:
        if options not in made:
            folder = tmp_path_factory.mktemp("run")
            arguments = [
                str(folder / option) if option == str(TABLE) else option for option in options
            ]
            write_table(folder / TABLE)
            run = folder / "run"
            common = ["--epochs", "2", "--device", "cpu", "--quiet", "--out", str(run)]
            assert main(["train", *arguments, *common]) == 0
            made[options] = run
        return made[options]

    return train

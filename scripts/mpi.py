"""What the scripts share that start trainings by several processes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scripts.measuring import ROOT, Row, after_measuring, before_measuring
from trainer import MLP
from trainer.files import write_whole

REPORT = "ranks"  # the file, in the folder benchmarks
TITLE = "# Training by several processes"
HIDDEN = {"784-200-10": "200", "784-2500-2000-1500-1000-500-10": "2500,2000,1500,1000,500"}
BATCH = 512
PATIENCE = 900.0  # seconds for any training


class RunFailed(RuntimeError):
    """A training of several processes did not end as it should; one line."""


def mpirun(*options: str) -> list[str]:
    """Return the launcher and its options, under which processes may share cores.

    Raises
    ------
    SystemExit
        If it is not installed, with what to type.
    """
    program = shutil.which("mpirun")
    if program is None:
        sys.exit('error: mpirun is not installed; type: pip install "xptrainer[mpi]"')
    # unbound, since Open MPI binds one or two processes to a core each, and more to none
    return [program, "--oversubscribe", "--bind-to", "none", *options]


def trainer(*arguments: str) -> list[str]:
    """Return the command of one process of a training on the CPU."""
    return [sys.executable, "-m", "trainer", "train", *arguments]


def environment() -> dict[str, str]:
    """Return the environment in which this checkout is run, by root too."""
    allowed = ("OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM")
    return os.environ | dict.fromkeys(allowed, "1") | {"PYTHONPATH": str(ROOT)}


def start(command: Sequence[str], log: Path, **others: str) -> subprocess.Popen[bytes]:
    """Start a command in a process group of its own; what it prints goes to a file."""
    with log.open("wb") as file:
        return subprocess.Popen(
            command,
            env=environment() | others,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def run(command: Sequence[str], log: Path, **others: str) -> None:
    """Run a command to its end; see `start`.

    Raises
    ------
    RunFailed
        Unless it exits with 0.
    """
    process = start(command, log, **others)
    try:
        code = process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        raise RunFailed(f"no end within {PATIENCE:.0f} s: {' '.join(command[-12:])}") from None
    if code:
        end = " ".join(log.read_text(errors="replace").split())[-300:]
        raise RunFailed(f"exit code {code}: {end}")


def epochs(folder: Path) -> list[Row]:
    """Return the numbers of each epoch of a run."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def weights(folder: Path) -> list[np.ndarray]:
    """Return the weights that a run has ended with."""
    return MLP.load(folder, backend="cpu").get_weights()


def largest_difference(found: Sequence[np.ndarray], wanted: Sequence[np.ndarray]) -> float:
    """Return the largest difference of a weight; NaN if one is not a number."""
    pairs = zip(found, wanted, strict=True)
    return float(np.max([np.abs(w - v).max() for w, v in pairs]))


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0))


def machine() -> Row:
    """Describe the machine, the versions and the load, now."""
    return before_measuring(("mpi4py", "openmpi"))


def publish(
    folder: Path, title: str, as_text: Callable[[Row, str], str], report: Row, measured: Row
) -> None:
    """Print one part of the report, and write it; `measured` is what `machine` returned before."""
    text = as_text(report, after_measuring(measured))
    print(text)
    write_section(folder, title, text, report | {"machine": measured})


def write_section(folder: Path, title: str, text: str, report: Mapping[str, Any]) -> list[Path]:
    """Write one part of the report, and leave its others as they are; return the paths.

    Parameters
    ----------
    title : str
        The part's heading in ranks.md, and its name in ranks.json.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = folder / f"{REPORT}.md", folder / f"{REPORT}.json"
    parts = json.loads(files[1].read_text()) if files[1].exists() else {}
    before = files[0].read_text() if files[0].exists() else f"{TITLE}\n"
    write_whole(files[0], with_section(before, title, text).encode())
    write_whole(files[1], (json.dumps(parts | {title: report}, indent=1) + "\n").encode())
    return list(files)


def with_section(document: str, title: str, text: str) -> str:
    """Return a Markdown document in which the section of a title has this text."""
    first, *sections = document.split("\n## ")
    kept = {section.partition("\n")[0]: section.partition("\n")[2] for section in sections}
    kept[title] = text
    parts = [first.strip(), *(f"## {name}\n\n{kept[name].strip()}" for name in kept)]
    return "\n\n".join(parts) + "\n"

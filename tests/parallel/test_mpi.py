"""Processes of MPI: the command under mpirun, where mpi4py and Open MPI are installed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from trainer.weight_files import read_safetensors

pytestmark = [
    pytest.mark.thorough,
    pytest.mark.skipif(
        not (Path(sys.executable).parent / "mpirun").exists() and shutil.which("mpirun") is None,
        reason="there is no mpirun",
    ),
]
TRAIN = ["--data", "digits", "--batch-size", "48", "--dtype", "float64", "--optimizer", "adam"]
_NOT_TOLD = dict.fromkeys(("OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"), "1")


def mpirun(count: int, *arguments: str) -> subprocess.Popen[str]:
    pytest.importorskip("mpi4py")
    beside = Path(sys.executable).parent / "mpirun"
    launcher = str(beside) if beside.exists() else "mpirun"
    command = [launcher, "-n", str(count), "--oversubscribe", "--bind-to", "none"]
    command += [sys.executable, "-m", "trainer", *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, env=os.environ | _NOT_TOLD, text=True, **pipes)  # type: ignore[call-overload, no-any-return]


def finish(started: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = started.communicate(timeout=240)
    return started.returncode, out, err


def weights(run: Path) -> list[np.ndarray]:
    arrays = read_safetensors(run / "model.safetensors")[0]
    return [arrays[name] for name in sorted(arrays)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of one process."""
    run = tmp_path_factory.mktemp("whole") / "run"
    command = [sys.executable, "-m", "trainer", *TRAIN, "--epochs", "4", "--quiet", "--out", run]
    subprocess.run(command, check=True)
    return run


@pytest.mark.parametrize("count", [1, 3])
def test_processes_end_where_one_does(tmp_path: Path, whole: Path, count: int) -> None:
    run = tmp_path / "run"
    started = mpirun(count, *TRAIN, "--epochs", "4", "--json", "--out", str(run))
    code, out, err = finish(started)
    assert (code, err) == (0, "")
    for w, other in zip(weights(whole), weights(run), strict=True):
        np.testing.assert_allclose(other, w, rtol=0, atol=1e-9)
    events = [json.loads(line) for line in out.splitlines()]
    assert [event["event"] for event in events].count("epoch") == 4  # of the first process alone
    lines = (run / "metrics.jsonl").read_text("utf-8").splitlines()
    assert len(lines) == 4
    config = json.loads((run / "config.json").read_text("utf-8"))
    assert config["device"].get("processes", 1) == count


def test_a_killed_process_ends_all_and_the_run_goes_on(tmp_path: Path, whole: Path) -> None:
    """The same bits as in a run of three that nothing ended, and nearly those of one process."""
    more = [*TRAIN, "--epochs", "300", "--checkpoint-every", "1", "--quiet"]
    run, undisturbed = tmp_path / "run", tmp_path / "undisturbed"
    started = mpirun(3, *more, "--out", str(run))
    try:
        metrics = run / "metrics.jsonl"
        for _ in range(2000):
            if metrics.exists() and metrics.read_bytes().count(b"\n") > 1:
                break
            time.sleep(0.05)
        os.kill(process_of_rank(1, run), signal.SIGKILL)
        killed = time.perf_counter()
        code, _, err = finish(started)
    finally:
        started.kill()
    assert code
    assert time.perf_counter() - killed < 30
    assert err.count("error:") == 1
    assert "another process of this training has ended" in err
    assert f"--resume {run}" in err.replace("\n", "")
    done = metrics.read_bytes().count(b"\n")
    assert done < 300
    assert finish(mpirun(3, "--resume", str(run), "--epochs", str(done + 2), "--quiet"))[0] == 0
    plain = [*TRAIN, "--epochs", str(done + 2), "--quiet", "--out"]
    assert finish(mpirun(3, *plain, str(undisturbed)))[0] == 0
    for w, other in zip(weights(undisturbed), weights(run), strict=True):
        np.testing.assert_array_equal(other, w)


def process_of_rank(rank: int, run: Path) -> int:
    """Return the number of the process of a rank that trains into a run."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                environment = (folder / "environ").read_bytes().split(b"\0")
                arguments = (folder / "cmdline").read_bytes()
            except OSError:
                continue
            if f"OMPI_COMM_WORLD_RANK={rank}".encode() in environment and (
                str(run).encode() in arguments
            ):
                return int(folder.name)
    raise AssertionError("the process has ended")


def test_a_mistake_is_told_once(tmp_path: Path) -> None:
    code, _, err = finish(mpirun(2, "--data", str(tmp_path / "none"), "--batch-size", "8"))
    assert code == 2
    assert err.count("error:") == 1
    assert "neither a name nor a file nor a folder" in err.replace("\n", " ")

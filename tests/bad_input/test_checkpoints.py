"""Checkpoints that lie, with a checksum that is right: going on says so in a line."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("cyclopts")

from trainer.cli import main
from trainer.weight_files import read_checkpoint, write_safetensors

VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([-1, 0, 1, 7, 2**31, 2**63, 10**400, -0.5, 1e308, float("nan"), float("inf")]),
    st.sampled_from(["", "digits", "../..", "sgd", "\0"]),
    st.sampled_from([[], {}, [None], [[]], {"state": {}}, [{}]]),
)


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A run cut inside its second epoch."""
    run = tmp_path_factory.mktemp("begun") / "r"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trainer.training.loop._REPORT_SECONDS", 1e-9)
        options = ["--data", "digits", "--device", "cpu", "--hidden", "3", "--epochs", "2"]
        more = ["--momentum", "0.5", "--checkpoint-every", "0.0001s", "--quiet"]
        assert main(["train", *options, *more, "--out", str(run)]) == 0
    (run / "checkpoints" / "epoch00002.safetensors").unlink()
    return run


def places(thing, path=()):
    """Every key and index in nested JSON."""
    inner = thing.items() if isinstance(thing, dict) else enumerate(thing)
    for key, value in inner:
        yield (*path, key)
        if isinstance(value, dict | list):
            yield from places(value, (*path, key))


@settings(
    max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(data=st.data())
def test_it_goes_on_or_is_refused(begun, tmp_path, capsys, data):
    run = tmp_path / "r"
    shutil.rmtree(run, ignore_errors=True)
    shutil.copytree(begun, run)
    *others, newest = sorted(Path(run, "checkpoints").iterdir())
    for other in others:
        other.unlink()
    arrays, network, state = read_checkpoint(newest)
    network, state = copy.deepcopy((network, state))
    for _ in range(data.draw(st.integers(1, 2))):
        kind = data.draw(st.sampled_from(["state", "state", "state", "network", "arrays"]))
        if kind == "arrays":
            name = data.draw(st.sampled_from(sorted(arrays)))
            change = data.draw(st.sampled_from(["drop", "shape", "dtype", "nan"]))
            array = arrays.pop(name)
            if change == "shape":
                arrays[name] = array.reshape(-1)[:1]
            elif change == "dtype":
                arrays[name] = array.astype(np.int8)
            elif change == "nan":
                arrays[name] = np.full_like(array, np.nan)
            continue
        part = state if kind == "state" else network
        *path, last = data.draw(st.sampled_from(list(places(part))))
        for key in path:
            part = part[key]
        if data.draw(st.booleans()):
            part[last] = data.draw(VALUES)
        elif isinstance(part, dict):
            del part[last]
    write_safetensors(newest, arrays, network, state)
    capsys.readouterr()
    code = main(["train", "--resume", str(run), "--quiet"])
    out, err = capsys.readouterr()
    assert code in (0, 1, 2)
    assert (out, err.count("\n")) == ("", int(code > 0)), err

"""`devices`: its JSON, and other installed distributions with packages of the same name."""

import json
import sys

import pytest

from backends import describe_cpu, select
from tests.cuda import stand_in
from trainer.cli import main


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Install a distribution of some top-level packages, as far as its metadata goes."""

    def install(name, *packages):
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "top_level.txt").write_text("\n".join(packages))

    # after the others, so that no package of this project is shadowed
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    return install


def printed(capsys):
    assert main(["devices"]) == 0
    return " ".join(capsys.readouterr().out.split())


def test_devices_names_distributions_that_bring_packages_of_the_same_name(install, capsys):
    install("zoo", "backends")
    install("gym-kit", "trainer", "backends", "gym_kit")
    out = printed(capsys)
    assert "the distribution gym-kit also installs trainer and backends, so" in out
    assert "the distribution zoo also installs backends, so" in out
    assert out.index("gym-kit") < out.index("zoo")
    assert "python -m venv .venv" in out


def test_devices_is_silent_about_xptrainer_and_about_other_names(install, capsys):
    install("xptrainer", "trainer", "backends")
    install("trainers", "trainers")
    assert "also installs" not in printed(capsys)


def as_json(capsys):
    assert main(["devices", "--json"]) == 0
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    return json.loads(out)


def test_devices_as_json_without_a_gpu_says_what_the_table_says(install, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    install("zoo", "backends")
    found, table = as_json(capsys), printed(capsys)
    assert list(found) == ["cpu", "gpus", "missing", "notes"]
    assert found["cpu"] == {"device": "cpu"} | describe_cpu()
    assert found["gpus"] == []
    assert found["missing"].startswith("CuPy is not installed")
    assert f"none: {found['missing']}" in table
    assert any("the distribution zoo" in note for note in found["notes"])
    assert all(" ".join(note.split()) in table for note in found["notes"])


def test_devices_as_json_describes_every_gpu_by_the_name_that_select_takes(capsys, monkeypatch):
    cupy = stand_in.install(monkeypatch, stand_in.fake_cupy())
    monkeypatch.setattr(cupy.cuda.Device, "mem_info", (2**30, 2**31))
    found, table = as_json(capsys), printed(capsys)
    assert found["missing"] is None
    (gpu,) = found["gpus"]
    assert select(gpu["device"]).name == gpu["device"] == "gpu:0"
    assert (gpu["name"], gpu["memory_free"], gpu["memory_total"]) == ("Fake 9000", 2**30, 2**31)
    assert "gpu:0 Fake 9000, compute capability 9.0 1.0 of 2.0 GiB free CuPy 14.1.0" in table
    assert "none:" not in table


def test_cuda_is_gpu_on_the_command_line(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    messages = []
    for device in ("cuda", "gpu"):
        assert main(["--device", device, "--data", "digits"]) == 2
        messages.append(capsys.readouterr().err)
    assert messages[0] == messages[1]
    assert "CuPy is not installed" in messages[0]

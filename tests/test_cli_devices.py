"""`devices` where another installed distribution brings a package of the same name."""

import sys

import pytest

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

"""`--install-completion`: what the shells then complete, asked of the shells themselves."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from trainer.cli import main

BASH = """
source ~/.bashrc
COMP_WORDS=(%s); COMP_CWORD=$(( ${#COMP_WORDS[@]} - 1 ))
_xptrainer; printf '%%s\\n' "${COMPREPLY[@]}"
"""
# zsh completes only where it has a terminal: in one of its own, whose output is read
ZSH = """
zmodload zsh/zpty
zpty inner zsh -i
zpty -w inner 'PS1=; print rea""dy'
zpty -r inner line '*ready*'
zpty -w -n inner $'xptrainer train --lear\t'
zpty -r inner line '*xptrainer train --learning-rate*'; print found
"""


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    for name in ("HOME", "ZDOTDIR", "ZSH", "ZSH_CUSTOM", "XDG_CONFIG_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def installed(shell):
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    assert main(["--install-completion", shell]) == 0


def said(*command):
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert not done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("tr", ["train"]),
        ("train --lear", ["--learning-rate"]),
        ("--los", ["--loss"]),
        ("sweep --res", ["--resume"]),
        ("train --matmul tf", ["tf32"]),
        ("--optimizer ada", ["adam", "adamw"]),
    ],
)
@pytest.mark.parametrize("shell", ["bash", "fish"])
def test_a_shell_completes_commands_options_and_values(shell, typed, offered):
    installed(shell)
    if shell == "bash":
        found = said("bash", "--norc", "-c", BASH % f"xptrainer {typed}").split("\n")
    else:
        lines = said("fish", "-c", f"complete -C 'xptrainer {typed}'").split("\n")
        found = [line.split("\t")[0] for line in lines]
    assert sorted(filter(None, found)) == offered


def test_zsh_completes_in_a_terminal():
    installed("zsh")
    assert said("zsh", "-f", "-c", ZSH) == "found\n"


def test_files_are_completed_where_a_path_may_be(home):
    installed("bash")
    script = Path(home, ".local/share/bash-completion/completions/xptrainer").read_text()
    assert script.endswith("\ncomplete -o default -F _xptrainer xptrainer\n")
    found = said("bash", "--norc", "-c", BASH % "xptrainer evaluate ''").split()
    assert found == []  # so that bash takes its own way with files


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_a_startup_file_keeps_what_stood_in_it_and_gets_one_block(home, shell):
    startup = home / f".{shell}rc"
    startup.write_text("alias x=y")
    startup.chmod(0o600)
    for _ in range(2):
        assert main(["--install-completion", shell]) == 0
    content = startup.read_text()
    assert content.startswith("alias x=y\n# completion of xptrainer\n")
    assert content.count("# completion of xptrainer") == 1
    assert startup.stat().st_mode & 0o777 == 0o600


def test_the_shell_is_found_or_asked_for(capsys, monkeypatch, home):
    monkeypatch.setenv("FISH_VERSION", "3.6")
    assert main(["--install-completion"]) == 0
    assert (home / ".config/fish/completions/xptrainer.fish").is_file()
    monkeypatch.delenv("FISH_VERSION")
    monkeypatch.setenv("SHELL", "/bin/tcsh")
    monkeypatch.setenv("PATH", str(home))  # without ps
    for name in ("BASH_VERSION", "ZSH_VERSION"):
        monkeypatch.delenv(name, raising=False)
    capsys.readouterr()
    assert main(["--install-completion"]) == 2
    assert "type: xptrainer --install-completion bash (or zsh, or fish)" in capsys.readouterr().err


def test_an_unknown_shell_and_a_home_that_cannot_be_written_are_one_line(capsys, home, monkeypatch):
    assert main(["--install-completion", "tcsh"]) == 2
    error = capsys.readouterr().err
    assert 'Invalid value "tcsh" for SHELL. Choose from: "bash", "zsh", "fish".' in error
    assert error.count("\n") == 1
    (home / "file").touch()
    monkeypatch.setenv("HOME", str(home / "file"))
    assert main(["--install-completion", "bash"]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert str(home / "file") in error


def test_it_is_one_line_of_the_help_and_in_no_command_s(capsys):
    os.environ.setdefault("COLUMNS", "80")
    assert main(["--help"]) == 0
    assert capsys.readouterr().out.count("--install-completion") == 1
    assert main(["train", "--help"]) == 0
    assert "--install-completion" not in capsys.readouterr().out

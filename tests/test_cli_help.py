"""The help: its examples are lines of their own that the app takes as they stand."""

from __future__ import annotations

import shlex

import pytest

from trainer.cli import _COMMANDS, app, main

PROGRAM = "python -m trainer"


def examples(capsys, *command: str) -> list[str]:
    """The examples in a command's help in 80 columns, without what is said of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "80")
        assert main([*command, "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    lines = lines[1 : next(i for i, line in enumerate(lines) if line.startswith("╭"))]
    found = [line for line in lines if line.strip().startswith((PROGRAM, "xptrainer"))]
    # a second one in a line, or the rest of one in the next, would be a paragraph that was filled
    assert " ".join(lines).count(PROGRAM) == sum(line.count(PROGRAM) for line in found)
    assert all(line.count(PROGRAM) <= 1 for line in found)
    return [line.strip().split("  ")[0] for line in found]


@pytest.mark.parametrize("command", _COMMANDS)
def test_the_examples_of_a_command_are_taken_by_the_app(capsys, command):
    found = examples(capsys, command)
    assert 1 <= len(found) <= 4
    assert any(shlex.split(line)[3] == command for line in found)
    for line in found:
        typed = line.removeprefix(PROGRAM).split(" > ")[0]
        app.parse_args(shlex.split(typed), exit_on_error=False, print_error=False)


def test_the_examples_of_the_program_are_taken_by_it(capsys):
    found = examples(capsys)
    assert len(found) == 13
    for line in found:
        typed = line.removeprefix(PROGRAM).removeprefix("xptrainer").replace("COMMAND", "train")
        app.parse_args(shlex.split(typed), exit_on_error=False, print_error=False)

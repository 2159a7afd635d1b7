"""Killed runs go on to the same bits: the short form of `scripts/torture.py`."""

import os

import pytest

from scripts import torture


@pytest.mark.thorough
@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is POSIX")
def test_killed_runs_end_like_one_left_alone(tmp_path, monkeypatch):
    monkeypatch.setitem(torture.LENGTHS, "digits", dict.fromkeys(torture.KINDS, 40))
    survived = list(torture.torture("digits", 2, 5, 2, tmp_path))
    assert [kind for kind, _ in survived] == ["online", "decayed"]


@pytest.mark.thorough
def test_a_difference_is_noticed(tmp_path, monkeypatch):
    def other(data, kind, out):
        return [*command(data, kind, out), "--seed", str(int(out.name == "online"))]

    command = torture.command
    monkeypatch.setitem(torture.LENGTHS, "digits", dict.fromkeys(torture.KINDS, 20))
    monkeypatch.setattr(torture, "command", other)
    with pytest.raises(torture.Failure, match="other weights"):
        list(torture.torture("digits", 1, 5, 1, tmp_path))

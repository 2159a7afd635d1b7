"""Sweeps whose values a sampler chooses: ranges, the same trials again, and what is resumed."""

from __future__ import annotations

import csv
import sys
from itertools import islice
from pathlib import Path

import pytest

from trainer.cli import main
from trainer.recipes import RECIPES
from trainer.sweep import Outcome, Plan, Search, Span, SweepFolder, proposals, span_of

FAST = ["sweep", "--data", "digits", "--device", "cpu", "--limit", "200", "--epochs", "1"]
TPE = ["--sampler", "tpe"]
SAMPLED = [*TPE, "--learning-rate", "0.01:1:log", "--hidden", "5:20", "--jobs", "1"]


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def rows(path):
    with open(Path(path, "sweep.csv"), newline="") as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


@pytest.mark.parametrize(
    ("option", "text", "span"),
    [
        ("learning_rate", "0.001:1:log", Span(0.001, 1.0, True)),
        ("momentum", "0:0.9", Span(0.0, 0.9)),
        ("hidden", "50:400", Span(50, 400, False, True)),
        ("batch_size", "1:64:log", Span(1, 64, True)),
        ("learning_rate", "0.1:0.9:0.1", None),
        ("learning_rate", "0.1", None),
        ("init", "uniform:0.12", None),
        ("bias", "yes:no", None),
    ],
)
def test_ranges_are_read_and_written(option, text, span):
    assert span_of(option, text) == span
    if span is not None:
        assert str(span) == text


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--learning-rate", "0.001:1:log"], ["--learning-rate 0.001:1:log", "--sampler tpe"]),
        (["--learning-rate", "0.001:1"], ["--learning-rate 0.001:1", "--sampler tpe"]),
        (
            ["--sampler", "tpe", "--learning-rate", "0.1,1"],
            ["no option has a range", "0.001:1:log"],
        ),
        (["--trials", "9"], ["--trials 9", "--sampler tpe"]),
        ([*SAMPLED, "--seeds", "2"], ["--sampler tpe", "one seed", "--seed N"]),
        ([*TPE, "--learning-rate", "1:0.1"], ["--learning-rate 1:0.1", "not below"]),
        ([*TPE, "--learning-rate", "0:1:log"], ["--learning-rate 0:1:log", "above 0"]),
        ([*TPE, "--learning-rate", "a:b"], ["--learning-rate a:b", "expected LOW:HIGH"]),
        ([*SAMPLED, "--momentum", "0:1"], ["--momentum 1", "from 0 to below 1"]),
        (["--sampler", "magic"], ["magic"]),
        (["--resume", "x", "--sampler", "tpe"], ["expected no --sampler"]),
    ],
)
def test_a_mistake_is_one_line_and_starts_nothing(options, expected, capsys):
    given = FAST[:3] if "--resume" not in options else FAST[:1]
    assert main([*given, *options]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert all(words in error for words in expected), error
    assert not Path("sweeps").exists()


def test_without_optuna_it_is_said_what_to_type(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert main([*FAST, *SAMPLED]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert 'python -m pip install "xptrainer[optuna]"' in error
    assert not Path("sweeps").exists()


def test_a_sampled_sweep_is_repeated_and_resumed_to_the_same_trials(capfd):
    pytest.importorskip("optuna", reason="not installed: python -m pip install '.[optuna]'")
    options = [*FAST, *SAMPLED, "--bias", "yes,no", "--trials", "14"]
    assert main([*options, "--out", "a"]) == 0
    assert main([*options, "--out", "b"]) == 0
    assert capfd.readouterr().err == ""
    first = rows("a")
    assert [row["trial"] for row in first] == [str(number) for number in range(14)]
    assert first == rows("b")
    table = Path("b/sweep.csv")
    table.write_text("".join(table.read_text().splitlines(keepends=True)[:12]))
    assert main(["sweep", "--resume", "b", "--jobs", "1"]) == 0
    assert rows("b") == first
    assert main([*options, "--seed", "1", "--out", "c"]) == 0
    assert {row["learning_rate"] for row in rows("c")}.isdisjoint(
        row["learning_rate"] for row in first
    )
    for row in first:
        assert 0.01 <= float(row["learning_rate"]) <= 1
        assert 5 <= int(row["hidden"]) <= 20
        assert row["bias"] in ("yes", "no")
    assert main(["report", "a", "--out", "a.html"]) == 0
    assert "0.01:1:log" in Path("a.html").read_text()


def test_what_diverged_is_the_worst_to_the_sampler():
    pytest.importorskip("optuna", reason="not installed: python -m pip install '.[optuna]'")
    search = Search("tpe", 60, {"learning_rate": Span(0.001, 1000.0, True)})
    plan = Plan(RECIPES["digits"], {}, {}, search=search)
    finished: list[Outcome] = []
    for trial in proposals(plan, finished, "test_accuracy"):
        bad = trial.values["learning_rate"] > 1
        result = (1, None, None, None, 1.0, "diverged") if bad else (1, 0.9, None, 0.1, 1.0)
        finished.append(Outcome(trial.values, trial.seed, *result, number=trial.number))
    rates = [outcome.values["learning_rate"] for outcome in finished]
    assert sum(rate > 1 for rate in rates[-30:]) < sum(rate > 1 for rate in rates[:10]) * 3 / 2


def test_trials_that_run_are_kept_apart_and_a_damaged_table_is_refused(tmp_path):
    pytest.importorskip("optuna", reason="not installed: python -m pip install '.[optuna]'")
    search = Search("random", 9, {"hidden": Span(5, 500, False, True)})
    plan = Plan(RECIPES["digits"], {}, {"init": ("he", "glorot")}, search=search)
    config = {
        "data": {"source": "digits", "test_source": None, "crc32": "0", "validation_samples": 0},
        "device": {"name": "cpu"},
    }
    folder = SweepFolder.start(tmp_path / "s", plan, config)
    for trial in islice(proposals(plan, folder.outcomes, "test_accuracy"), 3):
        folder.add(Outcome(trial.values, 0, 1, 0.5, None, 0.1, 1.0, number=trial.number))
    folder.close()
    again = SweepFolder.open(folder.path)
    again.close()
    assert again.outcomes == folder.outcomes
    assert again.plan.search == search
    text = folder.table.read_text()
    folder.table.write_text(text.replace("\n1,", "\n77,"))
    with pytest.raises(ValueError, match="line 3 is no run of this sweep"):
        SweepFolder.open(folder.path)

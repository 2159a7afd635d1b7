"""The script that compares suggested learning rates with sweeps."""

from __future__ import annotations

import json

import pytest

from scripts import learning_rate


def test_a_report_has_the_rules_and_the_best_of_the_sweep(tmp_path, monkeypatch):
    settings = {"batch_size": 64, "epochs": 2, "limit": 300}
    case = {"a case": ("digits", "digits", settings), "a table": ("table", None, {"epochs": 2})}
    monkeypatch.setattr(learning_rate, "CASES", case)
    monkeypatch.setattr(learning_rate, "SEEDS", range(2))
    monkeypatch.setattr(learning_rate, "SWEEP", [1e-6, 0.005])
    learning_rate.main([str(tmp_path), str(tmp_path)])
    report = json.loads((tmp_path / "learning_rate.json").read_text())
    found = report["cases"]["a table"]
    assert list(found["sweep"]) == ["1e-06", "0.005"]
    for rule in learning_rate.RULES:
        assert len(found["rules"][rule]["rates"]) == len(found["rules"][rule]["accuracies"]) == 2
    low, high = (sum(found["sweep"][rate]) for rate in ("1e-06", "0.005"))
    assert low < high
    text = (tmp_path / "learning_rate.md").read_text()
    assert f"| a table | 0.005 | {50 * high:.2f} ± " in text
    assert report["machine"] in text
    with pytest.raises(SystemExit, match="2"):
        learning_rate.main([])

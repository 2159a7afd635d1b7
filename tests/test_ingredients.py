import json

import pytest

from scripts import ingredients
from scripts.ingredients import AS_IT_IS, Outcome, rows


def outcome(*held_out):
    return Outcome(held_out, tuple(share + 0.01 for share in held_out), (1.0,) * len(held_out))


@pytest.mark.parametrize(
    ("held_out", "best"),
    [
        ((0.5,), 0),
        ((0.5, 0.6, 0.6, 0.5), 1),
        ((0.5, 0.4, 0.4, 0.4, 0.9), 0),  # ended before it came
        ((0.5, 0.4, 0.4, 0.6, 0.5), 3),
    ],
)
def test_early_stopping_takes_the_best_epoch_before_its_patience_ends(held_out, best):
    assert ingredients.PATIENCE == 3
    assert outcome(*held_out).stopped() == best


def test_a_verdict_needs_seeds_that_do_not_overlap():
    plain = [outcome(0.1, 0.5), outcome(0.1, 0.6)]
    table = rows(
        {
            AS_IT_IS: plain,
            "better": [outcome(0.7), outcome(0.61)],
            "worse": [outcome(0.4), outcome(0.2)],
            "alike": [outcome(0.9), outcome(0.6)],
        }
    )
    verdicts = {row["ingredient"]: row["verdict"] for row in table}
    assert verdicts["better"] == "helps"
    assert verdicts["worse"] == "hurts"
    assert verdicts["alike"] == verdicts[AS_IT_IS] == "no clear difference"
    assert table[1]["gain"] == pytest.approx(0.105)
    assert table[1]["test"] == pytest.approx([0.71, 0.62])


def test_it_is_measured_and_kept(tmp_path, monkeypatch, capsys):
    few = {name: ingredients.INGREDIENTS[name] for name in (AS_IT_IS, "rotate:12", "batch norm")}
    monkeypatch.setattr(ingredients, "INGREDIENTS", few)
    options = ["--data", "digits", "--epochs", "1", "--seeds", "2", "--validation", "300"]
    assert ingredients.main([*options, "--out", str(tmp_path)]) == 0
    report = json.loads((tmp_path / "ingredients.json").read_text())
    page = (tmp_path / "ingredients.md").read_text()
    assert page in capsys.readouterr().out
    assert [len(row["test"]) for row in report["rows"]] == [2] * 4
    assert report["training_samples"] == 1437 - 300
    assert report["rows"][0]["cost"] == 1
    for name in (*few, "early stopping, patience 3"):
        assert f"| {name} |" in page

import json

import numpy as np
import pytest
from scipy import sparse

from scripts import compare_sklearn
from scripts.compare_sklearn import SETS, Task


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(compare_sklearn, "_STILL", 0)


@pytest.mark.thorough
def test_both_learn_the_digits_and_the_report_is_kept(tmp_path, capsys):
    options = ["--sets", "digits", "--rounds", "1", "--out", str(tmp_path)]
    assert compare_sklearn.main(options) == 0
    report = json.loads((tmp_path / "sklearn.json").read_text())
    page = (tmp_path / "sklearn.md").read_text()
    assert page in capsys.readouterr().out
    assert [row["solver"] for row in report["rows"]] == ["adam", "sgd"]
    for row in report["rows"]:
        assert (row["shape"], row["classes"], row["density"]) == ([1437, 64], 10, None)
        ours, theirs = (np.mean(row["accuracy"][who]) for who in ("ours", "theirs"))
        assert theirs > 0.95
        assert ours > theirs - 0.02
        seconds = {who: row["seconds"][who]["median"] for who in ("ours", "theirs")}
        assert row["ratio"] == pytest.approx(seconds["theirs"] / seconds["ours"])
    assert "scikit-learn" in report["versions"]
    assert "would take" not in page


def test_what_no_memory_holds_says_how_large_it_were(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    x = sparse.random_array((60, 2000), density=0.01, rng=rng, dtype=np.float32).tocsr()
    y = rng.integers(0, 3, 60)
    monkeypatch.setitem(SETS, "text", lambda source: Task((x, y), (x, y), epochs=2, hidden=3))
    options = ["--sets", "text", "--rounds", "1", "--out", str(tmp_path)]
    assert compare_sklearn.main(options) == 0
    (row, _) = json.loads((tmp_path / "sklearn.json").read_text())["rows"]
    assert row["density"] == 0.01
    page = (tmp_path / "sklearn.md").read_text()
    assert "a dense array of text would take 0 GiB, of which 1.000% are not 0" in page


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--rounds", "0"], "--rounds 0: expected one or more"),
        (["--sets", "mnist", "--data", "nothing-here"], "nothing-here"),
    ],
)
def test_mistakes_are_named_before_any_work(options, message, tmp_path, capsys):
    with pytest.raises(SystemExit):
        compare_sklearn.main([*options, "--out", str(tmp_path)])
    assert message in capsys.readouterr().err

import csv
import json

import numpy as np
import pytest

from scripts import compare_tables
from scripts.compare_tables import TABLES, encoded, read, write_csv


def parts(cells):
    rows = np.random.default_rng(0).permutation(len(cells.labels))
    return rows[: len(rows) // 2], rows[len(rows) // 2 :]


def test_a_file_has_what_the_table_has(tmp_path):
    cells = TABLES["text, gaps, imbalance"]()
    rows, _ = parts(cells)
    write_csv(tmp_path / "train.csv", cells, rows)
    with (tmp_path / "train.csv").open(encoding="utf-8", newline="") as file:
        names, *lines = csv.reader(file)
    assert names[0] == "label"
    assert len(names) == 1 + 10 + 2
    labels, *columns = zip(*lines, strict=True)
    assert np.array_equal(labels, cells.labels[rows])
    numbers = np.array([[cell or "nan" for cell in column] for column in columns[:10]], dtype=float)
    np.testing.assert_array_equal(numbers.T, cells.numbers[rows])
    assert np.array_equal(np.stack(columns[10:], axis=1), cells.words[rows])
    assert 0.03 < np.mean([cell == "" for column in columns[:10] for cell in column]) < 0.07


def test_whole_numbers_are_written_as_such(tmp_path):
    cells = TABLES["letters"]()
    write_csv(tmp_path / "letters.csv", cells, np.arange(20))
    assert "." not in (tmp_path / "letters.csv").read_text()


def test_the_files_are_read_as_the_program_reads_them():
    cells = TABLES["iris"]()
    train, test = parts(cells)
    data = read(cells, train, test)
    np.testing.assert_allclose(data.train_x, cells.numbers[train], rtol=1e-6)
    np.testing.assert_allclose(data.test_x, cells.numbers[test], rtol=1e-6)
    assert np.array_equal(np.array(data.classes)[data.test_y], cells.labels[test])


def test_encoded_words_are_an_input_each_and_gaps_are_filled():
    cells = TABLES["text, gaps, imbalance"]()
    train, test = parts(cells)
    data = encoded(cells, train, test)
    inputs = 10 + 4 + len({*cells.words[train, 1]})
    assert data.train_x.shape == (len(train), inputs)
    assert data.test_x.shape == (len(test), inputs)
    assert np.isfinite(data.train_x).all()
    assert set(np.unique(data.train_x[:, 10:])) == {0, 1}
    assert data.train_x[:, :10].mean(axis=0) == pytest.approx(0, abs=1e-5)
    assert np.array_equal(np.array(data.classes)[data.train_y], cells.labels[train])


def test_iris_is_within_a_point_and_kept(tmp_path, capsys):
    assert compare_tables.main(["--tables", "iris", "--out", str(tmp_path)]) == 0
    report = json.loads((tmp_path / "tables.json").read_text())
    page = (tmp_path / "tables.md").read_text()
    assert page in capsys.readouterr().out
    (row,) = report["rows"]
    assert (row["rows"], row["columns"], row["classes"]) == (150, 4, 3)
    assert [len(runs) for runs in row["accuracy"].values()] == [10, 10]
    ours, theirs = (np.mean(row["accuracy"][who]) for who in ("ours", "theirs"))
    assert row["difference"] == pytest.approx(ours - theirs)
    assert ours > theirs - 0.01
    assert theirs > 0.9
    assert f"| iris | 150 × 4 | 3 | {100 * ours:.2f} ± " in page
    assert "scikit-learn" in page


def test_text_and_gaps_are_within_a_point(tmp_path):
    options = ["--tables", "text, gaps, imbalance", "--encoded", "--splits", "2"]
    assert compare_tables.main([*options, "--out", str(tmp_path)]) == 0
    (row,) = json.loads((tmp_path / "tables.json").read_text())["rows"]
    assert row["difference"] > -0.01
    assert min(row["accuracy"]["ours"]) > 0.88  # the larger class is 85 %


@pytest.mark.parametrize("mistake", ["--splits 0", "--first-split -1", "--tables none"])
def test_a_mistake_is_one_line(mistake, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        compare_tables.main([*mistake.split(), "--out", str(tmp_path)])
    assert stop.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1

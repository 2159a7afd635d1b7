"""The run folder."""

from __future__ import annotations

import json

import pytest

from tests.bad_input.readers import CONFIG
from trainer.running.run_folder import Run, RunError


def test_a_run_keeps_its_config_and_a_line_an_epoch(tmp_path):
    run = Run.start(tmp_path / "a" / "b", CONFIG)
    run.metrics_file.add({"epoch": 1})
    run.metrics_file.add({"epoch": 2})
    lines = (run.path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2]
    assert Run.open(run.path).config["data"] == CONFIG["data"]
    assert "numpy" in Run.open(run.path).config["versions"]


def test_without_a_name_the_next_free_one_is_taken(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "r2").mkdir(parents=True)
    assert [Run.start(None, CONFIG).path.name for _ in range(3)] == ["r1", "r3", "r4"]


def test_an_empty_folder_is_taken_and_a_full_one_refused(tmp_path):
    Run.start(tmp_path, CONFIG)
    with pytest.raises(RunError, match="is not empty"):
        Run.start(tmp_path, CONFIG)
    with pytest.raises(RunError, match="is a file"):
        Run.start(tmp_path / "config.json", CONFIG)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"data": 3}', '{"data": {"classes": 1, "image_shape": null}}']
)
def test_a_damaged_config_is_named(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(RunError, match=r"config\.json: not a run's config"):
        Run.open(tmp_path)


def test_a_missing_run_names_the_newest_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RunError, match="Make one with: python -m trainer"):
        Run.open(tmp_path / "nope")
    Run.start(None, CONFIG)
    with pytest.raises(RunError, match="The newest here is runs/r1"):
        Run.open(tmp_path / "nope")


@pytest.mark.parametrize(
    "change",
    [
        {"test_samples": "1"},
        {"train_samples": "1"},
        {"dtype": "object"},
        {"classes": []},
        {"classes": [[0], [1]]},
        {"value_range": ["0", "1"]},
        {"value_range": [1, 0]},
        {"image_shape": [0, 3]},
        {"test_source": 3},
        {"source": None},
    ],
)
def test_every_key_that_is_read_is_checked(tmp_path, change):
    run = Run.start(tmp_path, {"data": CONFIG["data"] | change})
    with pytest.raises(RunError, match=r"config\.json: not a run's config"):
        Run.open(run.path)


@pytest.mark.parametrize("key", sorted(CONFIG["data"]))
def test_every_key_that_is_missing_is_named(tmp_path, key):
    data = {name: value for name, value in CONFIG["data"].items() if name != key}
    with pytest.raises(RunError, match=f"'{key}' is missing"):
        Run.open(Run.start(tmp_path, {"data": data}).path)

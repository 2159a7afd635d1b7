"""scripts/picture_kinds.py: its pictures hold the digit, and what it counts is right."""

import json

import numpy as np
import pytest
from sklearn.datasets import load_digits

from scripts import picture_kinds
from scripts.picture_kinds import KINDS, count
from trainer.data import Framing


def digits(numbers: list[int]) -> np.ndarray:
    """Return scikit-learn's digits as MNIST has its own: 20 of 28 pixels, in white."""
    images = load_digits().images[numbers]
    framing = Framing.as_mnist((28, 28), (0, 255), is_whole=True)
    pages = [np.pad(np.kron(image, np.ones((20, 20))), 40) * 15.9 for image in images]
    return np.stack([framing.prepare(page.astype(np.uint8)).values for page in pages])


class Remembers:
    """Answers with the digit that is most alike."""

    def __init__(self, known: np.ndarray) -> None:
        self._known = known.astype(float) / np.linalg.norm(known, axis=1, keepdims=True)

    def predict(self, x: np.ndarray) -> np.ndarray:
        return (x.astype(float) @ self._known.T).argmax(axis=1)


@pytest.mark.parametrize("drawer", KINDS, ids=lambda drawer: drawer.__name__)
@pytest.mark.parametrize("numbers", [[2], pytest.param([0, 1, 2], marks=pytest.mark.thorough)])
def test_every_kind_shows_the_digit(drawer, numbers):
    known = digits(list(range(10)))
    row = count(Remembers(known), drawer, known[numbers], np.array(numbers))
    assert row["kind"] == drawer.__name__.replace("_", " ")
    assert (row["right"], row["refused"]) == (len(numbers), 0)
    assert row["remarked"] == (len(numbers) if row["kind"] == "beside another" else 0)


def test_a_wrong_answer_does_not_count():
    known = digits([0, 1])
    row = count(Remembers(known), picture_kinds.blank, known, np.array([1, 1]))
    assert (row["right"], row["refused"], row["remarked"]) == (1, 0, 0)


def test_the_report_says_what_was_measured(tmp_path, monkeypatch, capsys):
    x = digits(list(range(10)))
    images = {"x_train": x.reshape(-1, 28, 28), "y_train": np.arange(10)}
    np.savez(tmp_path / "d.npz", **images, x_test=images["x_train"], y_test=images["y_train"])
    monkeypatch.setattr(picture_kinds, "KINDS", KINDS[:2])
    asked = ["--data", str(tmp_path / "d.npz"), "--digits", "3", "--out", str(tmp_path)]
    assert picture_kinds.main(asked) == 0
    report = json.loads((tmp_path / "pictures.json").read_text())
    assert [row["kind"] for row in report["rows"]] == ["blank", "photograph"]
    page = (tmp_path / "pictures.md").read_text()
    assert page in capsys.readouterr().out
    for row in report["rows"]:
        assert f"| {row['kind']} | {row['right']} | {row['refused']} | {row['remarked']} |" in page
    with pytest.raises(SystemExit):
        picture_kinds.main(["--data", "digits"])
    assert "expected MNIST, images of 28×28" in capsys.readouterr().err

"""Snapshots of a training: they change nothing, end with the network, and stay few."""

from __future__ import annotations

import base64

import numpy as np

from trainer import MLP, BatchProgress, EpochReport, fit, load
from trainer.explain import backquery
from trainer.snapshots import Snapshots, about, pictures

DIGITS = load("digits")


def network() -> MLP:
    return MLP([64, 12, 10], backend="cpu", scale=0.99 / 16, dtype="float64")


def learned(model: MLP, snapshots: Snapshots | None, epochs: int = 3) -> list[np.ndarray]:
    test = (DIGITS.test_x, DIGITS.test_y)
    for report in fit(model, DIGITS.train_x, DIGITS.train_y, epochs=epochs, test=test):
        if snapshots is None:
            continue
        if isinstance(report, EpochReport):
            snapshots.take(report.epoch, report.train_loss, report.test_accuracy)
        else:
            assert isinstance(report, BatchProgress)
            snapshots.take(report.epoch - 0.5, report.train_loss)
    return model.get_weights()


def images(text: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), np.uint8).reshape(-1, 64)


def test_they_change_no_bit_and_end_with_the_network():
    frames: list[dict] = []
    model = network()
    snapshots = Snapshots(model, DIGITS, frames.append)
    weights = learned(model, snapshots)
    snapshots.end()
    for ours, theirs in zip(weights, learned(network(), None), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    ends = [frame for frame in frames if frame["accuracy"] is not None]
    assert [frame["epoch"] for frame in ends] == [1, 2, 3]
    last = frames[-1]
    W = weights[0]
    scaled = (W / np.abs(W).max(axis=0)).T
    np.testing.assert_allclose(images(last["units"]), 255 * (scaled + 1) / 2, atol=0.51)
    values = backquery(model, value_range=DIGITS.value_range).values
    low, high = values.min(axis=1, keepdims=True), values.max(axis=1, keepdims=True)
    np.testing.assert_allclose(
        images(last["backquery"]), 255 * (values - low) / (high - low), atol=0.51
    )
    answers = np.asarray(model.predict(DIGITS.test_x))
    wrong = np.flatnonzero(answers != DIGITS.test_y)
    assert last["wrong"] == f"{len(wrong)} of 360"
    first = last["mistakes"][0]
    assert (first["label"], first["answer"]) == (DIGITS.test_y[wrong[0]], answers[wrong[0]])
    shown = DIGITS.test_x[wrong[0]] / 16 * 255
    np.testing.assert_allclose(images(first["image"])[0], shown, atol=1)


def test_pictures_wait_while_the_training_has_no_time_for_them(monkeypatch):
    """Only the first is made at once; the others come when it has ended."""
    monkeypatch.setattr("trainer.snapshots._SHARE", 1e-9)
    frames: list[dict] = []
    model = network()
    snapshots = Snapshots(model, DIGITS, frames.append)
    learned(model, snapshots)
    assert len(frames) <= 1
    snapshots.end()
    assert len(frames) >= 3
    assert not snapshots._thread.is_alive()


def test_weights_that_wait_are_bounded(monkeypatch):
    monkeypatch.setattr("trainer.snapshots._SHARE", 1e-9)
    monkeypatch.setattr("trainer.snapshots._MOST_BYTES", 3 * 8 * (64 * 12 + 12 * 10))
    frames: list[dict] = []
    snapshots = Snapshots(network(), DIGITS, frames.append)
    for epoch in range(1, 50):
        snapshots.take(epoch, 0.5, 0.9)
    assert len(snapshots._waiting) <= 4
    snapshots.end()
    assert 1 <= len(frames) <= 6


def test_what_has_diverged_has_no_pictures():
    model = network()
    model.set_weights([np.full_like(w, np.nan) for w in model.get_weights()])
    assert pictures(model, DIGITS) == {}


def test_a_page_knows_what_it_shows():
    known = about(DIGITS, "title", 500)
    assert known == {
        "title": "title",
        "classes": [str(k) for k in range(10)],
        "shape": [8, 8],
        "units": 30,
        "of": 500,
    }

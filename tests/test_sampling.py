"""Sampling with replacement: the draws, how they are cut into reports, and who learns from them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends import select
from backends.feeding import Resident, Streamed
from tests.conftest import assert_weights, samples
from trainer import MLP, BatchProgress, Diverged, EpochReport, fit, load
from trainer.cli import main
from trainer.recipes import RECIPES, build, changed
from trainer.settings import TrainingSettings
from trainer.training.course import Course

NETWORK = {"sizes": [4, 5, 3], "dtype": "float64", "loss": "squared_error", "init": "fan_in"}
DRAWN = {"sampling": "with-replacement", "seed": 7}


def train(model, x, y, **settings):
    return [report for report in fit(model, x, y, **settings) if isinstance(report, EpochReport)]


@given(
    n=st.integers(1, 13),
    batch_size=st.integers(1, 15),
    steps=st.integers(1, 30),
    block_size=st.integers(1, 12),
    l2=st.sampled_from([0.0, 1.5]),
    momentum=st.sampled_from([0.0, 0.9]),
)
def test_it_is_a_plain_loop_over_the_generators_draws(
    backend, base_on_numpy, n, batch_size, steps, block_size, l2, momentum
):
    x, y = samples(n, 4, 3)
    network = NETWORK | {"l2": l2, "bias": True}
    plain = MLP(**network | {"l2": 0.0}, backend=base_on_numpy)
    weights = plain.get_weights()
    velocities = [np.zeros_like(w) for w in weights]
    order = np.random.default_rng(7).integers(0, n, size=steps * batch_size)
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        for w, v, g in zip(weights, velocities, plain.gradients(x[batch], y[batch]), strict=True):
            decay = l2 / n * w if w.ndim == 2 else 0.0  # m is what there is to draw from
            v[...] = momentum * v - 0.1 * (g + decay)
            w += v
        plain.set_weights(weights)

    model = MLP(**network, backend=backend)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backend, "block_size", block_size)
        settings = {"batch_size": batch_size, "steps": steps, "momentum": momentum}
        train(model, x, y, **settings, **DRAWN)
    assert_weights(model.get_weights(), weights, 1e-10)


@pytest.mark.parametrize(
    ("n", "batch_size", "steps", "sizes"),
    [
        (1437, 1, 10_000, [1437] * 6 + [1378]),
        (10, 1, 10, [10]),
        (10, 1, 11, [10, 1]),
        (10, 4, 5, [8, 8, 4]),  # whole batches
        (3, 4, 2, [4, 4]),  # a batch larger than the data
    ],
)
def test_draws_are_cut_into_epochs_of_at_most_n(n, batch_size, steps, sizes):
    drawn = {"sampling": "with-replacement", "steps": steps}
    course = Course(TrainingSettings(epochs=99, batch_size=batch_size, **drawn), n)
    rng = np.random.default_rng(0)
    assert course.epochs == len(sizes)
    orders = [course.order(rng, epoch) for epoch in range(1, len(sizes) + 1)]
    assert [len(order) for order in orders] == sizes
    at_once = np.random.default_rng(0).integers(0, n, size=steps * batch_size)
    assert np.array_equal(np.concatenate(orders), at_once)


def test_without_steps_there_are_as_many_epochs_of_n_draws():
    course = Course(TrainingSettings(epochs=3, sampling="with-replacement"), 500)
    order = course.order(np.random.default_rng(0), 1)
    assert (course.epochs, len(order)) == (3, 500)
    assert len(np.unique(order)) == pytest.approx(500 * (1 - np.exp(-1)), abs=40)


def test_reports_count_the_draws(backend):
    x, y = samples(50, 4, 3)
    model = MLP(**NETWORK, backend=backend)
    reports = list(fit(model, x, y, steps=120, **DRAWN))
    epochs = [report for report in reports if isinstance(report, EpochReport)]
    assert [report.epoch for report in epochs] == [1, 2, 3]
    assert [round(r.samples_per_second * r.seconds) for r in epochs] == [50, 50, 20]
    progress = [report for report in reports if isinstance(report, BatchProgress)]
    assert {report.epochs for report in progress} <= {3}
    assert {report.total for report in progress} <= {50, 20}


def test_losses_are_means_over_the_draws(backend):
    x, y = samples(20, 4, 3)
    model = MLP(**NETWORK, backend=backend)
    order = np.random.default_rng(7).integers(0, 20, size=30)
    desired = [model.loss(x[part], y[part]) for part in (order[:20], order[20:])]
    reports = train(model, x, y, steps=30, learning_rate=0.0, **DRAWN)
    assert [report.train_loss for report in reports] == pytest.approx(desired)


def test_a_divergence_counts_the_draws(base_on_numpy):
    x, y = samples(20, 4, 3)
    network = NETWORK | {"activation": "relu", "loss": "cross_entropy"}
    model = MLP(**network, backend=base_on_numpy)
    with np.errstate(all="ignore"), pytest.raises(Diverged, match=r"sample \d of 5"):
        train(model, x, y, steps=5, learning_rate=1e200, **DRAWN)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"sampling": "bootstrap"}, "bootstrap.*epochs or with-replacement"),
        ({"steps": 5}, "steps=5: only with sampling='with-replacement'"),
        ({"steps": 0, "sampling": "with-replacement"}, "steps=0: expected a whole number"),
        ({"steps": 2.5, "sampling": "with-replacement"}, "steps=2.5"),
    ],
)
def test_what_makes_no_sense_is_refused(base_on_numpy, settings, words):
    model = MLP(**NETWORK, backend=base_on_numpy)
    with pytest.raises(ValueError, match=words):
        fit(model, *samples(5, 4, 3), **settings)


@pytest.mark.parametrize("n", [3, 20])  # more and fewer than are drawn
def test_a_feed_takes_an_order_of_any_length(n):
    x, y = samples(n, 4, 3)
    order = np.random.default_rng(0).integers(0, n, size=8)
    feed = Resident(np, x, y)
    for wanted in (order, None, order[:5]):
        feed.start(wanted)
        rows = np.arange(n) if wanted is None else wanted
        assert feed.stop(0) == len(rows)
        values, labels = feed.rows(1, len(rows))
        assert np.array_equal(values, x[rows[1:]])
        assert np.array_equal(labels, y[rows[1:]])


@pytest.mark.gpu
@pytest.mark.parametrize("n", [3, 20])
def test_a_streamed_feed_takes_an_order_of_any_length(gpu_backend, n):
    import cupy
    import cupyx

    x, y = samples(n, 4, 3)
    order = np.random.default_rng(0).integers(0, n, size=8)
    feed = Streamed(cupy, cupyx.empty_pinned, 0, x, cupy.asarray(y), rows=3, unit=1)
    for wanted in (order, None, order[:5]):
        feed.start(wanted)
        rows = np.arange(n) if wanted is None else wanted
        first = 0
        while first < len(rows):
            stop = feed.stop(first)
            values, labels = feed.rows(first, stop)
            assert np.array_equal(values.get(), x[rows[first:stop]])
            assert np.array_equal(labels.get(), y[rows[first:stop]])
            first = stop


class TestTheDigitsLesson:
    def test_is_the_digits_recipe_with_another_sampling(self):
        digits, lesson = RECIPES["digits"], RECIPES["digits-lesson"]
        same = {"name", "about", "epochs", "shuffle", "sampling", "steps"}
        for name, value in vars(digits).items():
            assert name in same or getattr(lesson, name) == value
        assert (lesson.sampling, lesson.steps, lesson.batch_size) == ("with-replacement", 10_000, 1)

    def test_learns_little_at_the_lessons_rates_and_well_at_higher_ones(self):
        data = load("digits")
        means = []
        for rate in (0.001, 0.01, 1.0):
            recipe = changed(RECIPES["digits-lesson"], {"learning_rate": rate})
            accuracies = []
            for seed in range(5):
                model = build(recipe, data, backend=select("cpu"), seed=seed)
                settings = {"sampling": recipe.sampling, "steps": recipe.steps, "seed": seed}
                test = (data.test_x, data.test_y)
                x, y = data.train_x, data.train_y
                *_, last = train(model, x, y, learning_rate=rate, test=test, **settings)
                accuracies.append(last.test_accuracy)
            means.append(np.mean(accuracies))
        assert means == pytest.approx([0.16, 0.59, 0.956], abs=0.03)

    def test_epochs_take_the_place_of_its_steps(self):
        lesson = RECIPES["digits-lesson"]
        assert changed(lesson, {"epochs": 3}).steps is None
        assert changed(lesson, {"sampling": "epochs"}).steps is None
        assert changed(lesson, {"steps": 5}).steps == 5
        with pytest.raises(ValueError, match="expected one of them"):
            changed(lesson, {"epochs": 3, "steps": 5})


class TestTrain:
    @pytest.fixture(autouse=True)
    def _in_an_empty_folder(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)

    def test_takes_so_many_steps_and_says_so(self, capsys):
        options = ["--recipe", "digits-lesson", "--steps", "3000", "--out", "o"]
        assert main(["--device", "cpu", *options]) == 0
        assert json.loads(Path("o/config.json").read_text())["data"]["name"] == "digits"
        assert "3,000 steps drawn at random" in capsys.readouterr().out
        assert len(Path("o/metrics.jsonl").read_text().splitlines()) == 3
        settings = json.loads(Path("o/config.json").read_text())["settings"]
        assert (settings["sampling"], settings["steps"]) == ("with-replacement", 3000)

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            (["--steps", "5"], "--steps 5: only with --sampling with-replacement"),
            (["--sampling", "with-replacement", "--steps", "0"], "--steps"),
            (["--sampling", "often"], "with-replacement"),
            (["--epochs", "3", "--steps", "5"], "--epochs 3 and --steps 5: expected one"),
        ],
    )
    def test_a_mistake_is_one_line(self, options, words, capsys):
        assert main(["--data", "digits", "--device", "cpu", *options]) == 2
        error = capsys.readouterr().err
        assert words in error
        assert error.count("\n") == 1

"""Full-batch training: against scikit-learn's minima, through the API and the command line."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat
from scipy.optimize import check_grad
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier

from backends import select
from tests.conftest import assert_weights, samples
from tests.test_cli import ESCAPE, ROOT, in_a_terminal
from trainer import MLP, load, minimize
from trainer.cli import main
from trainer.recipes import RECIPES, build, changed, input_map, own_source, source_for
from trainer.training.minimize import METHODS, NotFinite

METHOD = pytest.mark.parametrize("method", METHODS)


def network(backend, sizes=(4, 5, 3), **settings):
    settings = {"loss": "cross_entropy", "bias": True, "l2": 1.0, "dtype": "float64"} | settings
    return MLP(sizes, backend=backend, init="fan_in", scale=0.5, shift=0.1, **settings)


@pytest.fixture(scope="module")
def cpu():
    return select("cpu")


@pytest.fixture
def xy():
    return samples(60, 4, 3)


# --- what is minimised --------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["squared_error", "binary_cross_entropy", "cross_entropy"])
def test_loss_and_gradients_come_from_one_pass_and_are_the_two(backend, loss, monkeypatch):
    x, y = samples(2 * 7 + 1, 4, 3)
    model = network(backend, loss=loss)
    for chunk_size in (backend.chunk_size, 7):
        monkeypatch.setattr(backend, "chunk_size", chunk_size)
        value, gradients = model.loss_and_gradients(x, y)
        assert value == pytest.approx(model.loss(x, y), rel=1e-12)
        arrays = [backend.to_numpy(g) for g in gradients]
        assert_weights(arrays, [backend.to_numpy(g) for g in model.gradients(x, y)], 0)


def test_whole_weights_are_like_so_many_samples(backend, monkeypatch):
    x, y = samples(2 * 7 + 1, 4, 3)
    weights = np.arange(15) % 4 * (np.arange(15) >= 7)  # a chunk of none
    monkeypatch.setattr(backend, "chunk_size", 7)
    model = network(backend)
    value, gradients = model.loss_and_gradients(x, y, weights)
    again = np.repeat(np.arange(15), weights)
    wanted, same = model.loss_and_gradients(x[again], y[again])
    assert value == pytest.approx(wanted, rel=1e-12)
    assert model.loss(x, y, weights) == pytest.approx(wanted, rel=1e-12)
    arrays = [[backend.to_numpy(g) for g in found] for found in (gradients, same)]
    assert_weights(*arrays, 1e-12)


def test_scipy_finds_the_gradient_right(cpu, xy):
    model = network(cpu, loss="binary_cross_entropy")
    shapes = [w.shape for w in model.get_weights()]
    cuts = np.cumsum([np.prod(shape) for shape in shapes])[:-1]

    def put(vector):
        parts = np.split(vector, cuts)
        model.set_weights([part.reshape(s) for part, s in zip(parts, shapes, strict=True)])

    def loss(vector):
        put(vector)
        return model.loss(*xy)

    def gradient(vector):
        put(vector)
        return np.concatenate([g.ravel() for g in model.loss_and_gradients(*xy)[1]])

    start = np.concatenate([w.ravel() for w in model.get_weights()])
    assert check_grad(loss, gradient, start) < 1e-6


@METHOD
def test_without_a_hidden_layer_it_is_scikit_learns_logistic_regression(backend, xy, method):
    model = network(backend, (4, 3), l2=2.0)
    minimize(model, *xy, method, 500)
    x = xy[0] * 0.5 + 0.1
    # its loss is ours times m / λ
    sklearn = LogisticRegression(C=1 / 2.0, tol=1e-10, max_iter=10_000).fit(x, xy[1])
    answers = backend.to_numpy(model.predict_proba(xy[0]))
    np.testing.assert_allclose(answers, sklearn.predict_proba(x), atol=1e-4)


def test_a_minimum_of_scikit_learns_network_is_one_of_ours(cpu, xy):
    sklearn = MLPClassifier(
        (5,), "logistic", solver="lbfgs", alpha=1.0, max_iter=5000, tol=1e-12, random_state=0
    ).fit(xy[0] * 0.5 + 0.1, xy[1])
    model = network(cpu)
    pairs = zip(sklearn.coefs_, sklearn.intercepts_, strict=True)
    model.set_weights([a for pair in pairs for a in pair])
    assert model.loss(*xy) == pytest.approx(sklearn.loss_, rel=1e-9)
    before = model.get_weights()
    result = minimize(model, *xy, "l-bfgs", 100)
    assert result.train_loss == pytest.approx(sklearn.loss_, rel=1e-6)
    assert_weights(model.get_weights(), before, 1e-2)


def test_from_random_weights_it_gets_as_low_as_scikit_learns_network(cpu, xy):
    sklearn = MLPClassifier(
        (5,), "logistic", solver="lbfgs", alpha=0.1, max_iter=200, random_state=1
    ).fit(xy[0] * 0.5 + 0.1, xy[1])
    result = minimize(network(cpu, l2=0.1), *xy, "l-bfgs", 200)
    assert result.train_loss == pytest.approx(sklearn.loss_, rel=0.2)


# --- its course ---------------------------------------------------------------------------


@METHOD
def test_reports_say_how_it_stands_after_each_iteration(cpu, xy, method):
    held_out, test = samples(30, 4, 3, seed=1), samples(40, 4, 3, seed=2)
    model = network(cpu)
    reports = []

    def look(report):
        assert report.train_loss == pytest.approx(model.loss(*xy), rel=1e-12)
        assert report.train_accuracy == model.accuracy(*xy)
        assert report.test_accuracy == model.accuracy(*test)
        assert report.validation_accuracy == model.accuracy(*held_out)
        reports.append(report)

    result = minimize(model, *xy, method, 6, look, test=test, validation=held_out)
    assert [r.iteration for r in reports] == list(range(1, 7))
    assert {r.iterations for r in reports} == {6}
    losses = [r.train_loss for r in reports]
    assert losses == sorted(losses, reverse=True)
    counts = [r.evaluations for r in reports]
    assert counts == sorted(set(counts))
    assert all(r.seconds > 0 and r.samples_per_second > 0 for r in reports)
    assert (result.iterations, result.evaluations) == (6, counts[-1])
    assert (result.train_loss, result.train_accuracy) == (losses[-1], reports[-1].train_accuracy)
    assert result.test_accuracy == reports[-1].test_accuracy
    assert not result.stopped
    assert sum(r.seconds for r in reports) <= result.seconds * (1 + 1e-9)


@METHOD
def test_looking_at_it_and_what_it_is_tested_on_change_nothing(cpu, xy, method):
    plain, watched = network(cpu), network(cpu)
    a = minimize(plain, *xy, method, 8)

    def meddle(report):
        watched.get_weights()[0][:] = 0
        watched.predict(xy[0])

    b = minimize(watched, *xy, method, 8, meddle, test=samples(9, 4, 3, seed=5))
    assert a.train_loss == b.train_loss
    assert_weights(watched.get_weights(), plain.get_weights(), 0)


@METHOD
def test_stop_leaves_the_weights_of_the_last_whole_iteration(cpu, xy, method):
    model, asked, after = network(cpu), [], [network(cpu).get_weights()]

    def stop():
        asked.append(True)
        return len(asked) == 9

    result = minimize(
        model, *xy, method, 100, lambda report: after.append(model.get_weights()), stop=stop
    )
    assert result.stopped
    assert result.evaluations == 9
    assert result.iterations == len(after) - 1 < 100
    assert_weights(model.get_weights(), after[-1], 0)


def test_stopped_at_once_it_has_the_initial_weights(cpu, xy):
    model = network(cpu)
    before = model.get_weights()
    result = minimize(model, *xy, stop=lambda: True)
    assert (result.iterations, result.evaluations, result.stopped) == (0, 1, True)
    assert result.train_loss == model.loss(*xy)
    assert_weights(model.get_weights(), before, 0)


@METHOD
def test_an_error_of_the_callers_comes_through(cpu, xy, method):
    model, after = network(cpu), []

    def fail(report):
        after[:] = model.get_weights()
        if report.iteration == 3:
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        minimize(model, *xy, method, 9, fail)
    assert_weights(model.get_weights(), after, 0)


def test_at_the_minimum_it_ends_itself_and_says_so(cpu, xy):
    result = minimize(network(cpu, (4, 3)), *xy, "l-bfgs", 10_000)
    assert result.iterations < 10_000
    assert "CONVERGENCE" in result.message
    assert not result.stopped


@METHOD
def test_float32_gets_where_float64_gets(backend, xy, method):
    results = {}
    for dtype in ("float32", "float64"):
        model = network(backend, dtype=dtype)
        results[dtype] = minimize(model, *xy, method, 12).train_loss
        assert [w.dtype.name for w in model.get_weights()] == [dtype] * 4
    assert results["float32"] == pytest.approx(results["float64"], rel=0.02)


def test_a_loss_that_overflows_leaves_the_last_good_weights(cpu, xy, monkeypatch):
    model, after = network(cpu), []
    right = MLP.loss_and_gradients
    calls = []

    def overflowing(self, *samples):
        loss, gradients = right(self, *samples)
        calls.append(loss)
        return (loss if len(calls) < 9 else float("nan")), gradients

    monkeypatch.setattr(MLP, "loss_and_gradients", overflowing)
    with pytest.raises(NotFinite, match="diverged in iteration"):
        minimize(model, *xy, "l-bfgs", 50, lambda report: after.append(model.get_weights()))
    assert_weights(model.get_weights(), after[-1], 0)


def test_weighted_samples_reach_scikit_learns_minimum(cpu, xy):
    weights = np.random.default_rng(3).uniform(0, 2, 60)
    model, x = network(cpu, (4, 3)), 0.5 * xy[0] + 0.1
    found = minimize(model, *xy, "l-bfgs", 500, sample_weight=weights, tolerance=1e-9)
    other = LogisticRegression(C=1.0, tol=1e-10, max_iter=500).fit(x, xy[1], sample_weight=weights)
    np.testing.assert_allclose(model.predict_proba(xy[0]), other.predict_proba(x), atol=1e-4)
    coarse = minimize(network(cpu, (4, 3)), *xy, "l-bfgs", 500, tolerance=1e-2)
    assert coarse.iterations < found.iterations
    assert found.converged
    assert not minimize(network(cpu), *xy, "l-bfgs", 1).converged


# --- mistakes -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "arguments", "words"),
    [
        ({"loss": "rashid"}, {}, "loss='rashid' is no gradient.*take loss='squared_error'"),
        ({}, {"method": "bfgs"}, "method='bfgs' is unknown: expected cg or tnc or l-bfgs"),
        ({}, {"max_iterations": 0}, "max_iterations=0: expected a whole number"),
        ({}, {"max_iterations": 1.5}, "max_iterations=1.5: expected a whole number"),
        ({}, {"x": np.zeros((0, 4)), "y": []}, "x has no samples"),
        ({}, {"x": np.zeros((2, 3)), "y": [0, 1]}, r"x has shape \(2, 3\): expected \(n, 4\)"),
        ({}, {"y": np.full(60, 3)}, r"y\[0\] is 3"),
        ({}, {"test": (np.zeros((0, 4)), [])}, "test x has no samples"),
        ({}, {"validation": (np.zeros((1, 4)), [7])}, r"validation y\[0\] is 7"),
        ({}, {"x": np.full((60, 4), np.nan)}, "the loss of the initial weights is nan"),
    ],
)
def test_a_mistake_is_named(cpu, xy, settings, arguments, words):
    model = network(cpu, **settings)
    before = model.get_weights()
    with pytest.raises(ValueError, match=words):
        minimize(model, **({"x": xy[0], "y": xy[1]} | arguments))
    assert_weights(model.get_weights(), before, 0)


def test_rashid_without_a_hidden_layer_is_a_gradient_and_is_taken(cpu, xy):
    losses = []
    for loss in ("rashid", "squared_error"):
        losses.append(minimize(network(cpu, (4, 3), loss=loss), *xy, "cg", 5).train_loss)
    assert losses[0] == losses[1]


# --- the recipe ---------------------------------------------------------------------------


def test_ex4_is_ngs_network():
    recipe = RECIPES["ex4"]
    assert (recipe.hidden, recipe.activation, recipe.bias) == ((25,), "sigmoid", True)
    assert (recipe.loss, recipe.l2) == ("binary_cross_entropy", 1.0)
    assert (recipe.optimizer, recipe.max_iterations) == ("cg", 50)
    radius = float(recipe.init.partition(":")[2])
    assert radius == pytest.approx((6 / (400 + 25)) ** 0.5, abs=0.005)


def test_unit_inputs_are_pixels_from_0_to_1_and_floats_as_they_are():
    assert input_map("unit", (0.0, 255.0), np.zeros((1, 1), np.uint8)) == (1 / 255, 0.0)
    assert input_map("unit", (-0.13, 1.13), np.zeros((1, 1), np.float32)) == (1.0, 0.0)


def test_settings_that_an_optimizer_makes_no_use_of_are_none():
    recipe = RECIPES["ex4"]
    assert recipe.settings()["max_iterations"] == 50
    assert {recipe.settings()[name] for name in ("epochs", "batch_size", "shuffle")} == {None}
    by_batches = replace(recipe, optimizer="sgd").settings()
    assert by_batches["max_iterations"] is None
    assert by_batches["epochs"] == 5


def test_options_of_the_other_kind_of_training_are_refused():
    with pytest.raises(ValueError, match=r"^epochs=3, shuffle=True: not with optimizer='cg'"):
        changed(RECIPES["ex4"], {"shuffle": True, "epochs": 3})
    with pytest.raises(ValueError, match=r"^max_iterations=3: not with optimizer='sgd'"):
        changed(RECIPES["rashid"], {"max_iterations": 3})
    assert changed(RECIPES["rashid"], {"optimizer": "tnc", "max_iterations": 3}).optimizer == "tnc"
    assert changed(RECIPES["ex4"], {"optimizer": "adam", "epochs": 3}).learning_rate == 0.001


@pytest.mark.parametrize(
    ("recipe", "data", "source"),
    [
        ("ex4", "auto", "ex4:auto"),
        ("ex4", "/a/folder", "ex4:/a/folder"),
        ("ex4", "ex4", "ex4"),
        ("ex4", "ex4:mnist", "ex4:mnist"),
        ("rashid", "mnist", "mnist"),
        (None, "auto", "auto"),
    ],
)
def test_data_for_ex4_is_cut(recipe, data, source):
    assert source_for(recipe and RECIPES[recipe], data) == source


@pytest.mark.parametrize("recipe", [None, *RECIPES])
def test_a_recipe_takes_the_data_it_was_made_for(recipe):
    own = own_source(recipe and RECIPES[recipe])
    assert own == ("digits" if recipe in ("digits", "digits-lesson") else "auto")


@pytest.fixture(scope="module")
def exercise(data_folder):
    return load(f"ex4:{data_folder / 'mnist'}")


@pytest.mark.parametrize(
    ("method", "iterations", "least", "most"),
    [
        ("cg", 50, 0.9675, 0.985),
        ("l-bfgs", 50, 0.9675, 0.985),
        pytest.param("tnc", 20, 0.995, 1.0, marks=pytest.mark.thorough),
    ],
)
def test_ex4_reaches_its_figures(cpu, exercise, method, iterations, least, most):
    model = build(RECIPES["ex4"], exercise, backend=cpu)
    result = minimize(model, exercise.train_x, exercise.train_y, method, iterations)
    assert least <= result.train_accuracy <= most
    assert model.accuracy(exercise.test_x, exercise.test_y) == pytest.approx(0.915, abs=0.01)
    assert result.evaluations <= 260


# --- the command --------------------------------------------------------------------------

FAST = ["--data", "digits", "--device", "cpu"]
FULL = [*FAST, "--loss", "squared_error", "--optimizer"]


@pytest.fixture
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRAINER_CACHE", str(tmp_path / "cache"))


@pytest.mark.usefixtures("_in_an_empty_folder")
class TestTrain:
    @METHOD
    def test_an_iteration_is_a_line_of_the_run_folder(self, method, capsys):
        options = ["--max-iterations", "4", "--validation", "100", "--json", "--out", "o"]
        assert main([*FULL, method, *options]) == 0
        events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        iterations = [event for event in events if event["event"] == "iteration"]
        assert [event["iteration"] for event in iterations] == [1, 2, 3, 4]
        end = events[-1]
        assert (end["event"], end["epochs"], end["interrupted"]) == ("end", 4, False)
        report = events[-2]
        assert report["event"] == "training_report"
        assert report["accuracy"] == end["train_accuracy"]
        assert [score["label"] for score in report["classes"][:10]] == list("0123456789")
        config = json.loads(Path("o/config.json").read_text())
        settings = config["settings"]
        assert (settings["optimizer"], settings["max_iterations"]) == (method, 4)
        assert settings["learning_rate"] is None
        lines = [json.loads(line) for line in Path("o/metrics.jsonl").read_text().splitlines()]
        assert [line["epoch"] for line in lines] == [1, 2, 3, 4]
        assert {"train_loss", "epoch_seconds", "samples_per_second", "evaluations"} <= set(lines[0])
        assert lines[-1]["train_accuracy"] == end["train_accuracy"]
        assert lines[-1]["test_accuracy"] == end["test_accuracy"]
        assert lines[-1]["validation_accuracy"] == end["validation_accuracy"]
        model = MLP.load("o", backend=select("cpu"))
        digits = load("digits")
        assert model.accuracy(digits.test_x, digits.test_y) == end["test_accuracy"]

    def test_a_pipe_gets_a_line_an_iteration_and_the_report(self, capsys):
        assert main([*FULL, "cg", "--max-iterations", "3", "--out", "o"]) == 0
        out = capsys.readouterr().out
        assert "cg, at most 3 iterations" in out
        assert re.search(r"iteration +evaluations +loss +training +test +seconds", out)
        assert len(re.findall(r"^ +[123] +\d+ +\d\.\d{6} +[\d.]+ % +[\d.]+ % ", out, re.M)) == 3
        assert "classification report on the training samples" in out
        assert re.search(r"[\d.]+ % of 1,437 training samples right, [\d.]+ % of 360 test", out)
        assert "3 iterations of cg" in out

    def test_a_terminal_of_80_columns(self):
        text = in_a_terminal(*FULL, "l-bfgs", "--max-iterations", "3", "--validation", "50")
        plain = ESCAPE.sub("", text)
        lines = [line for part in plain.splitlines() for line in part.split("\r")]
        assert max(map(len, lines)) <= 80
        assert "iteration 3/3" in plain
        assert "╭" in plain
        assert "\x1b[?25h" in text  # the cursor is given back

    def test_a_training_that_ends_itself_says_why(self, capsys):
        options = ["--hidden", "none", "--l2", "500", "--loss", "cross_entropy"]
        assert main([*FAST, *options, "--optimizer", "l-bfgs", "--max-iterations", "900"]) == 0
        assert re.search(r"it ended itself: .*CONVERGENCE", capsys.readouterr().out)

    @pytest.mark.thorough
    def test_ctrl_c_saves_the_weights_so_far(self):
        options = ["--max-iterations", "1000000", "--hidden", "300", "--out", "o"]
        process = subprocess.Popen(
            [sys.executable, "-m", "trainer", *FULL, "tnc", *options],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        for line in process.stdout:
            if re.match(r" +2 ", line):
                break
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
        assert process.wait(60) == 130
        stopped = re.search(r"stopped by Ctrl-C in iteration (\d+) of 1000000", rest)
        assert stopped is not None
        lines = Path("o/metrics.jsonl").read_text().splitlines()
        assert len(lines) == int(stopped[1]) - 1
        model, digits = MLP.load("o", backend=select("cpu")), load("digits")
        accuracy = model.accuracy(digits.test_x, digits.test_y)
        assert accuracy == json.loads(lines[-1])["test_accuracy"]

    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            (["--optimizer", "cg", "--loss", "rashid"], ["--loss rashid", "--loss squared_error"]),
            (
                ["--optimizer", "tnc", "--batch-size", "32", "--learning-rate", "0.1"],
                ["--batch-size 32", "--learning-rate 0.1", "--optimizer tnc", "--max-iterations N"],
            ),
            (
                ["--recipe", "ex4", "--momentum", "0.5", "--epochs", "3", "--no-shuffle"],
                ["--momentum 0.5", "--epochs 3", "--no-shuffle", "--optimizer cg"],
            ),
            (["--max-iterations", "3"], ["--max-iterations 3", "--optimizer sgd", "--epochs N"]),
            (["--optimizer", "cg", "--max-iterations", "0"], ["--max-iterations", ">= 1"]),
            (["--optimizer", "bfgs"], ["bfgs", "l-bfgs"]),
        ],
    )
    def test_a_mistake_is_one_line_with_the_way_out(self, arguments, expected, capsys):
        assert main([*FAST, *arguments]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert all(text in error for text in expected), error
        assert not Path("runs").exists()

    def test_divergence_is_one_line_and_leaves_the_last_good_weights(self, monkeypatch, capsys):
        right, calls = MLP.loss_and_gradients, []

        def overflowing(self, *samples):
            calls.append(0)
            loss, gradients = right(self, *samples)
            return (loss if len(calls) < 9 else float("inf")), gradients

        monkeypatch.setattr(MLP, "loss_and_gradients", overflowing)
        assert main([*FULL, "l-bfgs", "--max-iterations", "50", "--json", "--out", "o"]) == 1
        captured = capsys.readouterr()
        lines = Path("o/metrics.jsonl").read_text().splitlines()
        last = json.loads(captured.out.splitlines()[-1])
        assert (last["event"], last["epoch"]) == ("failed", len(lines) + 1)
        assert re.search(rf"^error: .*those after iteration {len(lines)}\n$", captured.err)
        digits = load("digits")
        model = MLP.load("o", backend=select("cpu"))
        test = model.accuracy(digits.test_x, digits.test_y)
        assert test == json.loads(lines[-1])["test_accuracy"]

    def test_ex4_takes_the_exercises_own_file(self, capsys):
        digits = load("digits")
        pictures = np.zeros((len(digits.train_y), 20, 20))
        pictures[:, 2:18, 2:18] = np.repeat(
            np.repeat(digits.train_x.reshape(-1, 8, 8) / 16, 2, axis=1), 2, axis=2
        )
        columns_first = pictures.transpose(0, 2, 1).reshape(-1, 400)
        labels = np.where(digits.train_y == 0, 10, digits.train_y)[:, None]
        savemat("ex4data1.mat", {"X": columns_first, "y": labels})
        options = ["--recipe", "ex4", "--data", "ex4data1.mat", "--test-data", "ex4data1.mat"]
        assert main([*options, "--max-iterations", "30", "--device", "cpu", "--out", "o"]) == 0
        out = capsys.readouterr().out
        assert "ex4data1: 1,437 training, 1,437 test samples, 20×20 pixels, 10 classes" in out
        assert "400 → 25 → 10, sigmoid, with bias, 10,285 weights, float64" in out
        right = re.search(r"([\d.]+) % of 1,437 training samples right", out)
        assert right is not None
        assert float(right[1]) > 95
        data = json.loads(Path("o/config.json").read_text())["data"]
        assert data["source"] == str(Path("ex4data1.mat").resolve())

    def test_ex4_on_real_data_is_reloaded_by_evaluate(self, data_folder, capsys):
        data = str(data_folder.resolve() / "mnist")
        options = ["--recipe", "ex4", "--data", data, "--max-iterations", "5", "--json"]
        assert main([*options, "--device", "cpu", "--out", "o"]) == 0
        *_, last = capsys.readouterr().out.splitlines()
        assert main(["evaluate", "o", "--device", "cpu"]) == 0
        evaluated = capsys.readouterr().out
        assert f"accuracy {100 * json.loads(last)['test_accuracy']:.2f} %" in evaluated
        assert "10,000 test samples of ex4" in evaluated
        config = json.loads(Path("o/config.json").read_text())["data"]
        assert config["source"] == f"ex4:{data}"
        assert (config["train_samples"], config["image_shape"]) == (5000, [20, 20])

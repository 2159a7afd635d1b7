"""Numbers that nobody plans for: each is handled rightly, or is refused with its reason."""

from __future__ import annotations

import csv
import os
import resource
import subprocess
import sys
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from tests.conftest import assert_weights, samples
from trainer import MLP, Diverged, EpochReport, fit
from trainer.recipes import input_map
from trainer.training.minimize import NotFinite, minimize

ROOT = Path(__file__).parents[1]
LARGEST = float(np.finfo(np.float32).max)
LOSSES = ["rashid", "squared_error", "binary_cross_entropy", "cross_entropy"]

overflowing = pytest.mark.filterwarnings("ignore::RuntimeWarning")


def network(backend, sizes=(4, 3, 3), **settings):
    """A float64 network whose input map is the identity."""
    defaults = {"scale": 1.0, "shift": 0.0, "loss": "squared_error", "bias": True}
    return MLP(sizes, backend=backend, **({"dtype": "float64"} | defaults | settings))


def train(model, x, y, **settings):
    """Train one epoch; return its loss."""
    *_, report = fit(model, x, y, **({"epochs": 1} | settings))
    return report.train_loss


def stepped(model, x, y, rate):
    """The weights after one plain step along the gradient of all samples."""
    gradients = map(model.backend.to_numpy, model.gradients(x, y))
    return [w - rate * g for w, g in zip(model.get_weights(), gradients, strict=True)]


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


# --- images ---------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 4])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_all_zero_images_move_what_lies_behind_them_alone(backend, batch_size, optimizer):
    model = network(backend, scale=1 / 255)
    before = model.get_weights()
    x = np.zeros((10, 4), np.uint8)
    train(model, x, np.arange(10) % 3, batch_size=batch_size, optimizer=optimizer)
    assert_weights(model.get_weights()[:1], before[:1], 0)
    for moved, was in zip(model.get_weights()[1:], before[1:], strict=True):
        assert (moved != was).any()


def test_an_all_zero_image_moves_them_by_the_chain_rule(backend):
    model = network(backend)
    W1, _, W2, _ = model.get_weights()
    h, target = np.full(3, 0.5), np.array([0.01, 0.99, 0.01])
    o = sigmoid(h @ W2)
    d2 = (o - target) * o * (1 - o)
    d1 = (W2 @ d2) * h * (1 - h)
    train(model, np.zeros((1, 4), np.uint8), [1], learning_rate=0.5)
    desired = [W1, -0.5 * d1, W2 - 0.5 * np.outer(h, d2), -0.5 * d2]
    assert_weights(model.get_weights(), desired, 1e-13)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_constant_features_are_standardised_to_zero(backend, dtype):
    x = samples(20, 4, 3)[0].astype(np.float32)
    x[:, 1], x[:, 2] = 0.1, LARGEST
    scale, shift = input_map("standardised", (0.0, 1.0), x)
    varying = [0, 3]
    standard = (x[:, varying] - x[:, varying].mean(axis=0)) / x[:, varying].std(axis=0)
    mapped = x[:, varying] * scale[varying] + shift[varying]
    np.testing.assert_allclose(mapped, standard, atol=1e-5)
    model = network(backend, scale=scale, shift=shift, dtype=dtype)
    before = model.get_weights()
    train(model, x, samples(20, 4, 3)[1])
    assert_weights([model.get_weights()[0][1:3]], [before[0][1:3]], 0)
    assert all(np.isfinite(w).all() for w in model.get_weights())


@pytest.mark.parametrize("batch_size", [1, 5])
def test_values_up_to_the_largest_are_mapped_and_learned(backend, batch_size):
    x, y = samples(20, 4, 3)
    low, high = x.min(), x.max()
    scaled = (x - low) / (high - low)
    outcomes = []
    for values in (scaled, (2 * scaled - 1) * LARGEST):
        values = values.astype(np.float32)
        scale, shift = input_map("scaled", (float(values.min()), float(values.max())), values)
        model = network(backend, scale=scale, shift=shift, dtype="float32")
        outcomes.append([train(model, values, y, batch_size=batch_size), *model.get_weights()])
    assert_weights(*outcomes, 1e-5)


def test_float64_is_rounded_nowhere(backend):
    model, large = network(backend, [1, 2]), 2.0**40
    model.set_weights([np.array([[large, -large]]), np.array([-large, large])])
    x, y = np.array([[1.0], [1.0 + 1 / large]]), [0, 1]
    answers = backend.to_numpy(model.predict_proba(x))
    np.testing.assert_allclose(answers, sigmoid(np.array([[0, 0], [1, -1]])), rtol=1e-15)
    model = network(backend, [1, 2])
    before, gradients = model.get_weights(), map(backend.to_numpy, model.gradients(x, y))
    train(model, x, y, batch_size=2, learning_rate=1e-10)
    for now, was, gradient in zip(model.get_weights(), before, gradients, strict=True):
        np.testing.assert_allclose(now - was, -1e-10 * gradient, rtol=1e-4)


@overflowing
def test_samples_that_the_dtype_cannot_hold_are_refused(backend):
    x, y = samples(5, 4, 3)
    x[3, 2] = 1e39
    with pytest.raises(ValueError, match="train_x holds NaN or infinite values in float32"):
        train(network(backend, dtype="float32"), x, y)
    assert np.isfinite(train(network(backend), x, y))


@overflowing
def test_what_has_no_answer_is_not_answered_rightly(backend):
    model = network(backend, [2, 2], loss="cross_entropy", bias=False, dtype="float32")
    model.set_weights([np.array([[2.0, 0.0], [0.0, 2.0]])])
    x = np.array([[LARGEST, 0.0], [LARGEST, LARGEST], [1.0, 0.0], [0.0, 1.0]], np.float32)
    assert model.accuracy(x, [0, 0, 0, 0]) == 0.25


# --- how many -------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("batch_size", [10, 11, 1000, 2**31 - 1])
def test_a_batch_larger_than_the_data_is_all_of_it(backend, loss, batch_size):
    x, y = samples(10, 4, 3)
    model = network(backend, loss=loss, l2=0.5)
    desired = stepped(model, x, y, 0.3)
    train(model, x, y, batch_size=batch_size, learning_rate=0.3)
    assert_weights(model.get_weights(), desired, 1e-13)


def test_a_batch_beyond_all_counting_is_refused(backend):
    with pytest.raises(ValueError, match=r"batch_size=10+: expected a whole number.* below 2³¹"):
        train(network(backend), *samples(10, 4, 3), batch_size=10**30)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_every_row_twice_in_batches_of_two_is_each_once(backend, momentum):
    x, y = samples(12, 4, 3)
    outcomes = []
    for times in (1, 2):
        model = network(backend)
        data = np.repeat(x, times, axis=0), np.repeat(y, times)
        loss = train(model, *data, batch_size=times, momentum=momentum, epochs=2)
        outcomes.append([*model.get_weights(), loss])
    assert_weights(*outcomes, 1e-12)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("batch_size", [1, 3])
def test_one_sample_is_one_step(backend, loss, batch_size):
    x, y = samples(1, 4, 3)
    model = network(backend, loss=loss)
    desired, before = stepped(model, x, y, 0.1), model.loss(x, y)
    assert train(model, x, y, batch_size=batch_size, test=(x, y)) == pytest.approx(before)
    assert_weights(model.get_weights(), desired, 1e-13)


@pytest.mark.parametrize("batch_size", [1, 4])
def test_one_class_of_softmax_is_certain_and_teaches_nothing(backend, batch_size):
    x, _ = samples(10, 4, 1)
    y = np.zeros(10, int)
    model = network(backend, [4, 3, 1], loss="cross_entropy")
    before = model.get_weights()
    assert train(model, x, y, batch_size=batch_size) == 0
    assert_weights(model.get_weights(), before, 0)
    np.testing.assert_array_equal(backend.to_numpy(model.predict_proba(x)), np.ones((10, 1)))
    assert model.accuracy(x, y) == 1


@pytest.mark.parametrize("loss", LOSSES[:3])
def test_one_class_of_a_sigmoid_comes_to_its_target(backend, loss):
    x, _ = samples(10, 4, 1)
    model = network(backend, [4, 3, 1], loss=loss)
    train(model, x, np.zeros(10, int), epochs=60, learning_rate=2.0, batch_size=2)
    high = 1.0 if loss == "binary_cross_entropy" else 0.99
    np.testing.assert_allclose(backend.to_numpy(model.predict_proba(x)), high, atol=0.05)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_class_that_never_occurs_is_never_answered(backend, loss):
    x, y = samples(40, 4, 2)
    model = network(backend, loss=loss)
    settings = {"epochs": 15, "learning_rate": 1.0, "batch_size": 2}
    *_, report = fit(model, x, y, test=(x, y * 2), **settings)
    answers = backend.to_numpy(model.predict(x))
    assert set(answers) <= {0, 1}
    assert report.test_accuracy == np.mean(answers == y * 2) == np.mean((answers == 0) & (y == 0))


@pytest.mark.parametrize("sizes", [[4, 1, 3], [4, 1, 1, 3], [1, 1, 2], [1, 2]])
def test_widths_of_one_are_widths(backend, sizes):
    x, y = samples(6, sizes[0], sizes[-1])
    plain, model = network(backend, sizes), network(backend, sizes)
    for row in range(6):
        plain.set_weights(stepped(plain, x[row : row + 1], y[row : row + 1], 0.1))
    train(model, x, y)
    assert_weights(model.get_weights(), plain.get_weights(), 1e-13)


def test_more_epochs_than_a_life_has_can_be_begun(backend):
    reports = fit(network(backend), *samples(5, 4, 3), epochs=10**9, steps=None)
    begun = list(islice((r for r in reports if isinstance(r, EpochReport)), 2))
    assert [report.epoch for report in begun] == [1, 2]


def test_a_layer_too_wide_for_any_array_is_refused(backend):
    with pytest.raises(ValueError, match=r"a layer of 1000\d* units is too wide"):
        network(backend, [4, 10**30, 3])


# --- settings -------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 3, 300])
@pytest.mark.parametrize(
    "settings", [{}, {"momentum": 0.9}, {"optimizer": "adam"}], ids=["sgd", "momentum", "adam"]
)
def test_a_rate_of_zero_changes_no_bit(backend, batch_size, settings):
    x, y = samples(10, 4, 3)
    model = network(backend, l2=1.0, dtype="float32")
    before = model.get_weights()
    train(model, x, y, learning_rate=0, batch_size=batch_size, **settings)
    assert_weights(model.get_weights(), before, 0)


@overflowing
@pytest.mark.parametrize("batch_size", [1, 5])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(
    "settings",
    [
        {"learning_rate": 1e6},
        {"learning_rate": 1e39},
        {"learning_rate": 100.0, "momentum": 0.999},
        {"learning_rate": 1e6, "optimizer": "adam"},
        {"learning_rate": 0.1, "l2": 1e30},
    ],
    ids=["1e6", "1e39", "momentum", "adam", "l2"],
)
def test_what_explodes_says_so_and_leaves_the_last_good_weights(
    backend, settings, loss, batch_size
):
    x, y = samples(20, 4, 3)
    settings = dict(settings)
    l2 = settings.pop("l2", 0.0)
    model = network(backend, loss=loss, activation="relu", dtype="float32", l2=l2)
    good, diverged = model.get_weights(), None
    try:
        for report in fit(model, x, y, epochs=3, batch_size=batch_size, **settings):
            assert np.isfinite(report.train_loss)
            if isinstance(report, EpochReport):
                good = model.get_weights()
    except Diverged as error:
        diverged = error
    assert all(np.isfinite(w).all() for w in good)
    assert_weights(model.get_weights(), good, 0)
    rate = settings["learning_rate"]
    if diverged is None:
        assert l2 == 0
        assert rate < 1e38
    else:
        assert f"in epoch {diverged.epoch} at sample {diverged.sample} of 20" in str(diverged)
        lower = f"try a lower learning rate, such as {min(rate / 10, 0.1):g} (it was {rate:g})"
        assert lower in str(diverged)


@overflowing
@pytest.mark.parametrize("batch_size", [1, 5])
def test_what_explodes_before_the_first_step_blames_no_rate(backend, batch_size):
    x, y = samples(20, 4, 3)
    settings = {"activation": "relu", "loss": "binary_cross_entropy", "dtype": "float32"}
    model = network(backend, init="uniform:1e38", **settings)
    with pytest.raises(Diverged, match="try smaller initial weights or input values") as caught:
        train(model, x, y, batch_size=batch_size)
    assert caught.value.sample <= batch_size


@pytest.mark.parametrize("init", ["uniform:1e39", "uniform:1e308", "uniform:inf", "uniform:nan"])
def test_initial_weights_that_no_dtype_holds_are_refused(backend, init):
    with pytest.raises(ValueError, match=r"uniform:R with 0 < R ≤ 1e\+38"):
        network(backend, init=init)


@pytest.mark.parametrize("seed", [2**63, 2**64, 2**128])
def test_a_huge_seed_is_a_seed(backend, seed):
    model = network(backend, init="uniform:1", seed=seed)
    first = np.random.default_rng(seed).uniform(-1, 1, (4, 3))
    assert_weights(model.get_weights()[:1], [first], 0)
    x, y = samples(10, 4, 3)
    train(model, x, y, shuffle=True, seed=seed)
    assert (model.get_weights()[0] != network(backend, init="uniform:1").get_weights()[0]).any()


def test_labels_that_are_words_are_refused(backend):
    message = "train_y: expected an array of real numbers, got dtype <U3.*numpy.unique"
    with pytest.raises(ValueError, match=message):
        train(network(backend), np.zeros((2, 4)), ["cat", "dog"])


@pytest.mark.parametrize("name", ["learning_rate", "momentum", "l2"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_setting_that_is_no_number_is_refused(backend, name, value):
    settings = {name: value}
    of_the_model = settings if name == "l2" else {}
    with pytest.raises(ValueError, match=f"{name}={value}: expected a"):
        train(network(backend, **of_the_model), *samples(5, 4, 3), **settings)


# --- all samples at once --------------------------------------------------------------------


@pytest.mark.parametrize("method", ["cg", "tnc", "l-bfgs"])
@pytest.mark.parametrize("data", ["zeros", "one sample", "one class", "twice"])
def test_minimisers_take_odd_data(backend, method, data):
    x, y = samples(8, 4, 3)
    if data == "zeros":
        x = np.zeros_like(x)
    if data == "one sample":
        x, y = x[:1], y[:1]
    if data == "one class":
        y = np.zeros_like(y)
    if data == "twice":
        x, y = np.repeat(x, 2, axis=0), np.repeat(y, 2)
    model = network(backend, loss="cross_entropy", l2=0.01)
    before = model.loss(x, y)
    minimum = minimize(model, x, y, method, 5)
    assert minimum.train_loss < before
    assert model.loss(x, y) == pytest.approx(minimum.train_loss)


@overflowing
@pytest.mark.parametrize("method", ["cg", "tnc", "l-bfgs"])
def test_minimisers_of_a_huge_penalty_end_or_say_so(backend, method):
    x, y = samples(8, 4, 3)
    model = network(backend, l2=1e300)
    before, diverged = model.get_weights(), None
    try:
        assert np.isfinite(minimize(model, x, y, method, 5).train_loss)
    except NotFinite as error:
        diverged = error
    assert all(np.isfinite(w).all() for w in model.get_weights())
    if diverged is not None:
        assert "try smaller initial weights or another l2" in str(diverged)
        assert_weights(model.get_weights(), before, 0)


# --- commands -------------------------------------------------------------------------------


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """Run a command in an empty folder; return its exit code, stdout and stderr."""
    pytest.importorskip("cyclopts")
    from trainer.cli import main

    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        code = main(list(map(str, arguments)))
        return code, *capsys.readouterr()

    return run


def npz(x, y, x_test=None, y_test=None):
    """Write data.npz here."""
    test = {} if x_test is None else {"x_test": x_test, "y_test": y_test}
    np.savez("data.npz", x_train=x, y_train=y, **test)


def floats(n=20, features=4, classes=3):
    x, y = samples(n, features, classes)
    return x.astype(np.float32), y


def refused(outcome, *words):
    code, _, error = outcome
    assert (code, error.count("\n")) == (2, 1), error
    for word in words:
        assert word in error


TRAIN = ["--data", "data.npz", "--device", "cpu", "--epochs", "1", "--out", "run"]


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--learning-rate", "nan"], ["nan", "--learning-rate", ">= 0"]),
        (["--learning-rate", "inf"], ["--learning-rate inf", "finite"]),
        (["--l2", "nan"], ["nan", "--l2", ">= 0"]),
        (["--l2", "inf"], ["--l2 inf", "finite"]),
        (["--momentum", "nan"], ["nan", "--momentum", "< 1"]),
        (["--init", "uniform:nan"], ["--init uniform:nan is unknown"]),
        (["--init", "uniform:1e308", "--dtype", "float64"], ["--init uniform:1e308", "R ≤ 1e+38"]),
        (["--batch-size", str(10**30)], ["--batch-size 1000", "below 2³¹"]),
        (["--hidden", str(10**18)], ["--hidden 1000", "below 10⁹"]),
        (["--hidden", "1" + "0" * 5000], ["--hidden 1000", "below 10⁹"]),
        (["--seed", "1" + "0" * 5000], ["--seed", "5001 digits"]),
        (["--seed", "-1"], ["--seed", ">= 0"]),
        (["--limit", "0"], ["--limit", ">= 1"]),
        (["--validation", "20"], ["20 samples cannot be held out of 20", "at least one"]),
        (["--validation", str(10**30)], ["cannot be held out of 20"]),
        (["--augment", "copies:nan"], ["copies:nan", "degrees"]),
    ],
)
def test_a_number_that_cannot_be_meant_is_refused(command, options, words):
    npz(*floats(), *floats())
    refused(command("train", *TRAIN, *options), *words)
    assert not Path("run").exists()


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize(
    "options",
    [
        ["--learning-rate", "0"],
        ["--learning-rate", "1e6"],
        ["--limit", "1"],
        ["--limit", str(10**30)],
        ["--validation", "19"],
        ["--batch-size", "1000"],
        ["--seed", str(2**128), "--shuffle"],
        ["--hidden", "1,1"],
        ["--recipe", "digits"],
    ],
)
def test_a_number_at_the_edge_is_taken(command, options):
    npz(*floats(), *floats())
    code, _, error = command("train", *TRAIN, *options)
    assert (code, error) == (0, "")
    assert "NaN" not in Path("run/config.json").read_text() + Path("run/metrics.jsonl").read_text()
    assert command("evaluate", "run", "--device", "cpu")[0] == 0


def test_too_wide_a_layer_is_one_line_about_memory(command):
    npz(*floats())
    child = subprocess.run(
        [sys.executable, "-m", "trainer", *TRAIN, "--hidden", "100000000"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30)),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (child.returncode, child.stderr.count("\n")) == (1, 1), child.stderr
    assert "does not fit into memory" in child.stderr
    assert "--hidden" in child.stderr


@pytest.mark.parametrize(
    ("x", "y", "words"),
    [
        (np.float64(1e39), 0, ["x_train", "sample 7, feature 2", "1e+39", "finite float32"]),
        (np.nan, 0, ["x_train", "sample 7, feature 2", "nan"]),
        (1.0, np.nan, ["y_train", "sample 7", "nan", "integer"]),
        (1.0, 1e30, ["y_train", "sample 7", "1e+30", "integer"]),
    ],
)
def test_a_file_with_a_number_that_is_none_names_the_sample(command, x, y, words):
    values, labels = samples(20, 4, 3)
    values[7, 2] = x
    labels = labels.astype(float)
    labels[7] = y
    npz(values, labels)
    refused(command("train", *TRAIN), "data.npz", *words)


def test_a_file_without_test_samples_says_so(command):
    x, y = floats()
    npz(x, y, x[:0], y[:0])
    refused(command("train", *TRAIN), "x_test is empty")
    npz(x[:1], y[:1])
    refused(command("train", *TRAIN), "one sample", "give test data")


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_values_too_close_together_for_float32_say_so(command):
    x, y = floats()
    npz(np.abs(x) * np.float32(1e-42), y)
    refused(command("train", *TRAIN), "too close together for float32", "--dtype float64")
    assert command("train", *TRAIN, "--dtype", "float64")[0] == 0


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_a_sample_without_an_answer_is_named(command):
    x, y = floats()
    npz(x, y)
    options = ["--hidden", "none", "--loss", "cross_entropy", "--init", "uniform:100"]
    assert command("train", *TRAIN, *options)[0] == 0
    x[5] = LARGEST
    Path("huge").mkdir()
    np.savez("huge/data.npz", x_train=x, y_train=y)
    with_it = ["run", "--data", "huge/data.npz", "--device", "cpu"]
    refused(command("evaluate", *with_it), "run: has no answer to sample 5", "3.40282e+38")
    refused(command("predict", *with_it, "--out", "o.csv"), "no answer to sample 5")
    refused(command("predict", *with_it, "--index", "5"), "no answer to the sample")
    refused(command("inspect", *with_it, "--index", "5"), "no answer to the sample")
    assert command("predict", *with_it, "--index", "4")[0] == 0
    assert not Path("o.csv").exists()


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_weights_beside_which_a_step_is_lost_are_not_checked(command):
    npz(*floats(), *floats())
    assert command("train", *TRAIN, "--learning-rate", "1e37")[0] == 0
    refused(command("gradcheck", "run", "--device", "cpu"), "--step 1e-05 is lost beside a weight")
    assert command("backquery", "run", "--device", "cpu")[0] == 0


def folder_of_images(names):
    rng = np.random.default_rng(0)
    for name in names:
        Path("data.npz", name).mkdir(parents=True)
        for number in range(5):
            pixels = rng.integers(0, 256, (4, 4), dtype=np.uint8)
            Image.fromarray(pixels).save(Path("data.npz", name, f"{number}.png"))


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize(
    ("case", "hidden"),
    [
        ("zeros", "5"),
        ("constant", "1"),
        ("one class", "1"),
        ("one sample", "5"),
        ("one test sample", "1"),
        ("never", "none"),
        ("words", "5"),
        ("word", "1"),
    ],
)
def test_every_command_takes_a_run_on(command, case, hidden):
    x, y = floats()
    classes = 3
    if case == "zeros":
        npz(np.zeros((20, 4), np.uint8), y)
    elif case == "constant":
        npz(np.full((20, 1), LARGEST, np.float32), y)
    elif case == "one class":
        npz(x, np.full(20, 7))
        classes = 1
    elif case == "one sample":
        npz(x[:1], y[:1], x, y)
    elif case == "one test sample":
        npz(x, y, x[:1], y[:1])
    elif case == "never":
        npz(x, np.minimum(y, 1), x, y)
    else:
        folder_of_images(["cat", "dög 2", 'a "b",c'] if case == "words" else ["cat"])
        classes = 3 if case == "words" else 1
    code, _, error = command("train", *TRAIN, "--hidden", hidden)
    assert (code, error) == (0, "")
    on = ["run", "--device", "cpu"]
    code, out, _ = command("evaluate", *on)
    assert code == 0
    assert out.count(".0000") >= classes
    assert command("predict", *on)[0] == 0
    assert command("predict", *on, "--data", "data.npz", "--out", "answers.csv")[0] == 0
    with open("answers.csv", newline="") as file:
        answers = [row["answer"] for row in csv.DictReader(file)]
    if case in ("words", "word"):
        assert set(answers) <= {"cat", "dög 2", 'a "b",c'}
    assert command("backquery", *on)[0] == 0
    assert command("gradcheck", *on, "--samples", 1)[0] == 0
    assert command("plot", "run")[0] == 0
    sweep = ["--data", "data.npz", "--device", "cpu", "--epochs", "1", "--jobs", "1"]
    assert command("sweep", *sweep, "--hidden", "1,2", "--out", "sweep")[0] == 0


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_a_minimised_run_of_one_unit_can_be_inspected(command, monkeypatch):
    monkeypatch.setattr("trainer.figures.trace", lambda *_, **__: [Figure((1, 1))])
    folder_of_images(["cat", "dog"])
    options = ["--loss", "cross_entropy", "--optimizer", "cg", "--hidden", "1"]
    assert command("train", *TRAIN[:4], "--out", "run", *options)[0] == 0
    code, out, _ = command("inspect", "run", "--device", "cpu")
    assert code == 0
    assert "the learning rate (the book's α), 0.1 (the training: cg)" in " ".join(out.split())

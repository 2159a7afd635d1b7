"""The gradient check: it passes what is a gradient, and nothing else."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from backends import Backend, select
from backends.functions import ACTIVATIONS
from tests.conftest import assert_weights, samples
from tests.test_cli import ESCAPE, in_a_terminal
from trainer import MLP
from trainer.cli import main
from trainer.commands import gradcheck
from trainer.gradients import TOLERANCE, _near_a_kink, check, conclude, random_samples
from trainer.recipes import RECIPES, build

TRUE_LOSSES = ["squared_error", "binary_cross_entropy", "cross_entropy"]


def network(backend, hidden=(4, 3), seed=0, **settings):
    """A network with weights and biases of order one, none of them zero."""
    settings = {"dtype": "float64"} | settings
    model = MLP([3, *hidden, 2], backend=backend, scale=0.5, shift=0.1, **settings)
    rng = np.random.default_rng(seed)
    model.set_weights([rng.normal(size=w.shape) for w in model.get_weights()])
    return model


class Off(Backend):
    """The textbook with a mistake: one array's gradient is a little too long."""

    def __init__(self, which: int, by: float) -> None:
        super().__init__(np, "off", "wrong on purpose")
        self.which, self.by = which, by

    def gradients(self, *arguments):
        result = super().gradients(*arguments)
        result[self.which] = result[self.which] * (1 + self.by)
        return result


class RashidIsRight(Backend):
    """The textbook that takes rashid for squared_error."""

    def backward(self, spec, *args):
        true = replace(spec, loss="squared_error") if spec.loss == "rashid" else spec
        return super().backward(true, *args)


# --- the check ----------------------------------------------------------------------------


@pytest.mark.parametrize("hidden", [(), (4,), (4, 3)], ids=str)
@pytest.mark.parametrize(("bias", "l2"), [(False, 0.0), (True, 2.0)])
@pytest.mark.parametrize("loss", TRUE_LOSSES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_true_loss_and_activation_passes(backend, activation, loss, bias, l2, hidden):
    model = network(backend, hidden, activation=activation, loss=loss, bias=bias, l2=l2)
    result = check(model, *samples(60, 3, 2), parameters=None)
    assert result.as_expected
    assert max(array.difference for array in result.arrays) < TOLERANCE == 1e-6
    assert [a.checked for a in result.arrays] == [w.size for w in model.get_weights()]
    assert conclude(result).startswith(f"A gradient, as {loss} should be: no more than ")


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_rashid_fails_in_the_hidden_arrays_alone_and_is_explained(backend, activation, bias):
    model = network(backend, activation=activation, bias=bias)
    result = check(model, *samples(60, 3, 2), parameters=None)
    per_layer = 2 if bias else 1
    assert [a.is_gradient for a in result.arrays] == [False] * 2 * per_layer + [True] * per_layer
    assert min(a.difference for a in result.arrays if not a.is_gradient) > 1e-2
    assert result.as_expected
    text = conclude(result)
    assert text.startswith("No gradient, as expected of rashid: W1 is ")
    assert f"W1 is {100 * result.arrays[0].difference:.2g} % off" in text
    assert "o(1 - o)" in text


def test_rashid_without_a_hidden_layer_is_a_gradient(backend):
    result = check(network(backend, ()), *samples(60, 3, 2))
    assert result.as_expected
    assert [a.is_gradient for a in result.arrays] == [True]
    assert conclude(result).startswith("A gradient, as rashid is without a hidden layer")


@pytest.mark.parametrize("which", range(4))
def test_a_gradient_off_by_a_ten_thousandth_does_not_pass(which):
    model = network(Off(which, 1e-4), (4,), loss="cross_entropy", bias=True)
    result = check(model, *samples(60, 3, 2))
    assert [a.is_gradient for a in result.arrays] == [i != which for i in range(4)]
    assert result.arrays[which].difference == pytest.approx(1e-4, rel=1e-3)
    assert not result.as_expected
    name = result.arrays[which].name
    assert conclude(result).startswith(f"No gradient, though cross_entropy should be one: {name} ")


def test_rashid_that_turns_out_a_gradient_is_not_as_expected():
    result = check(network(RashidIsRight(np, "right", "")), *samples(60, 3, 2))
    assert all(a.is_gradient for a in result.arrays)
    assert not result.as_expected
    assert conclude(result).startswith("A gradient, though rashid should be none in the hidden")


def test_rashid_whose_output_layer_is_wrong_is_not_as_expected():
    result = check(network(Off(1, 1e-4), (4,)), *samples(60, 3, 2))
    assert not result.as_expected
    assert conclude(result).startswith("No gradient, though rashid should be one: W2 ")


def test_it_is_done_in_float64_and_leaves_the_model_alone(backend):
    model = network(backend, loss="cross_entropy", bias=True, dtype="float32")
    before = model.get_weights()
    assert check(model, *samples(60, 3, 2)).as_expected
    assert_weights(model.get_weights(), before, 0)
    assert model.dtype == "float32"


def test_of_large_arrays_a_few_numbers_are_varied_the_seed_saying_which(backend):
    model = network(backend, (30,), loss="squared_error")
    results = [check(model, *samples(60, 3, 2), parameters=20, seed=seed) for seed in (0, 0, 1)]
    assert [a.checked for a in results[0].arrays] == [20, 20]
    assert results[0] == results[1] != results[2]


def test_the_same_samples_are_drawn_on_every_device(cpu, base_on_numpy):
    x, y = samples(60, 3, 2)
    for activation in ACTIVATIONS:
        settings = {"loss": "cross_entropy", "activation": activation}
        a, b = (check(network(on, **settings), x, y) for on in (cpu, base_on_numpy))
        assert (a.redrawn, a.samples) == (b.redrawn, b.samples)


@pytest.fixture(scope="module")
def cpu():
    return select("cpu")


# --- kinks --------------------------------------------------------------------------------


def test_samples_on_a_kink_of_relu_are_redrawn(backend):
    model = network(backend, (1,), activation="relu", loss="squared_error")
    model.set_weights([[[1.0], [1.0], [0.0]], [[1.0, -1.0]]])
    # z is (x₀ + x₁) / 2 + 0.2: 0 for the first sample, and 10⁻⁶ from there for the second
    x = np.array([[0.4, -0.8, 1], [0.4, -0.8 + 2e-6, 1], [1, 1, 1], [2, 1, 1], [-3, 1, 1]])
    assert _near_a_kink(model, x, 1e-5).tolist() == [True, True, False, False, False]
    results = [check(model, x, [0, 1, 0, 1, 0], samples=3, seed=seed) for seed in range(10)]
    assert all(result.as_expected for result in results)
    assert {result.redrawn for result in results} == {0, 1, 2}
    with pytest.raises(ValueError, match=r"step=1e-05 could move all but 3 of 5 samples across"):
        check(model, x, [0, 1, 0, 1, 0], samples=4)


@pytest.mark.parametrize("activation", sorted(set(ACTIVATIONS) - {"relu"}))
def test_without_relu_no_sample_is_redrawn(backend, activation):
    model = network(backend, (1,), activation=activation, loss="squared_error")
    model.set_weights([np.zeros((3, 1)), [[1.0, -1.0]]])
    assert check(model, *samples(8, 3, 2)).redrawn == 0


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("bias", [False, True])
def test_no_step_carries_a_kept_sample_across_a_kink(cpu, bias, seed):
    model = network(cpu, (4, 3, 2), seed, activation="relu", bias=bias)
    x, step = samples(200, 3, 2, seed)[0], 0.01

    def signs():
        a, found = x * 0.5 + 0.1, []
        for W, b in model.spec.layers(model.weights)[:-1]:
            z = a @ W + (0 if b is None else b)
            found.append(z > 0)
            a = np.maximum(z, 0)
        return np.concatenate(found, axis=1)

    kept = ~_near_a_kink(model, x, step)
    assert 0 < kept.sum() < len(x)
    before = signs()
    for w in model.weights:
        for place in np.ndindex(w.shape):
            there = w[place]
            for w[place] in (there - step, there + step):
                assert (signs() == before)[kept].all()
            w[place] = there


# --- samples ------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", RECIPES)
def test_random_samples_have_the_shape_of_the_recipes_data(recipe, cpu):
    recipe = RECIPES[recipe]
    data = random_samples(recipe, seed=3)
    side = {"digits": 8, "ex4": 20}.get(recipe.data, 28)
    assert data.train_x.shape[1] == side**2
    assert data.train_x.max() == data.value_range[1] == (16 if side == 8 else 255)
    assert set(data.train_y.tolist()) == set(range(10))
    np.testing.assert_array_equal(random_samples(recipe, seed=3).train_x, data.train_x)
    assert (random_samples(recipe, seed=4).train_x != data.train_x).any()
    small = replace(recipe, hidden=tuple(min(units, 200) for units in recipe.hidden[:1]))
    result = check(build(small, data, backend=cpu), data.train_x, data.train_y, parameters=10)
    assert result.as_expected


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"samples": 0}, "samples=0: expected"),
        ({"parameters": 0}, "parameters=0: expected"),
        ({"step": 0}, "step=0: expected a number between 0 and 1"),
        ({"samples": 61}, "samples=61: there are only 60"),
    ],
)
def test_a_mistake_is_named(cpu, options, words):
    with pytest.raises(ValueError, match=words):
        check(network(cpu), *samples(60, 3, 2), **options)


# --- the command --------------------------------------------------------------------------

ON_CPU = ["gradcheck", "--device", "cpu"]


@pytest.fixture
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRAINER_CACHE", str(tmp_path / "cache"))


def told(capsys, *arguments):
    code = main([*ON_CPU, *arguments, "--json"])
    return code, json.loads(capsys.readouterr().out)


@pytest.mark.usefixtures("_in_an_empty_folder")
class TestCommand:
    def test_the_lessons_network_is_no_gradient_as_it_should_be(self, capsys):
        assert main(ON_CPU) == 0
        out = capsys.readouterr().out
        assert "recipe rashid: 784 → 200 → 10, sigmoid, no bias, rashid, on cpu" in out
        assert "8 random samples in the shape of mnist" in out
        assert "‖a−n‖/max(‖a‖,‖n‖)" in out
        row = r"hidden 1 +W1 +784×200 +50 of 156,800 +\d\.\d\de[-+]\d\d +no gradient"
        assert len([line for line in out.splitlines() if line.lstrip().startswith("hidden")]) == 1
        assert re.search(row, out)
        assert re.search(r"output 2 +W2 +200×10 +50 of 2,000 +\d\.\d\de-\d\d +a gradient", out)
        assert "No gradient, as expected of rashid" in out
        assert "--all varies every one" in out

    def test_options_change_the_recipes_network(self, capsys):
        options = ["--loss", "cross_entropy", "--activation", "relu", "--bias", "--l2", "0.5"]
        options += ["--label-smoothing", "0.1"]
        more = ["--hidden", "6,5", "--recipe", "digits", "--all", "--init", "he"]
        code, result = told(capsys, *options, *more, "--samples", "4", "--step", "1e-6")
        assert code == 0
        assert result["sizes"] == [64, 6, 5, 10]
        assert [a["name"] for a in result["arrays"]] == ["W1", "b1", "W2", "b2", "W3", "b3"]
        assert [a["checked"] for a in result["arrays"]] == [384, 6, 30, 5, 50, 10]
        assert max(a["difference"] for a in result["arrays"]) < 1e-6
        assert (result["samples"], result["step"], result["tolerance"]) == (4, 1e-6, 1e-6)
        assert result["as_expected"] is True

    def test_data_brings_its_own_recipe_and_samples(self, capsys):
        code, result = told(capsys, "--data", "digits", "--parameters", "7")
        assert code == 0
        assert result["network"] == "recipe digits"
        assert result["source"] == "training samples of digits"
        assert [a["checked"] for a in result["arrays"]] == [7, 7]

    @pytest.mark.parametrize("loss", ["cross_entropy", "rashid"])
    def test_a_run_is_checked_on_its_own_test_samples(self, loss, capsys):
        options = ["--data", "digits", "--loss", loss, "--epochs", "2", "--device", "cpu"]
        assert main([*options, "--quiet", "--out", "o"]) == 0
        before = Path("o/model.safetensors").read_bytes()
        code, result = told(capsys, "o")
        assert code == 0
        assert (result["network"], result["loss"]) == ("o", loss)
        assert "test samples of digits" in result["source"]
        assert result["arrays"][0]["is_gradient"] == (loss != "rashid")
        assert Path("o/model.safetensors").read_bytes() == before
        assert told(capsys, "o", "--data", "digits")[1]["arrays"] == result["arrays"]

    def test_what_is_not_as_expected_ends_with_1(self, monkeypatch, capsys):
        monkeypatch.setattr(gradcheck, "choose", lambda device: Off(0, 0.5))
        assert main([*ON_CPU, "--recipe", "ex4"]) == 1
        out = capsys.readouterr().out
        assert "no gradient, wrongly" in out
        assert "No gradient, though binary_cross_entropy should be one: W1 " in out
        code, result = told(capsys, "--recipe", "ex4")
        assert (code, result["as_expected"]) == (1, False)

    def test_a_terminal_of_80_columns(self):
        text = ESCAPE.sub("", in_a_terminal(*ON_CPU, "--recipe", "ex4", "--parameters", "5"))
        assert max(map(len, text.replace("\r", "").splitlines())) <= 80
        assert "5 of 10,000" in text

    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            (["--recipe", "cake"], ["cake", "rashid", "python -m trainer recipes"]),
            (["nowhere"], ["nowhere", "python -m trainer"]),
            (["nowhere", "--l2", "1", "--no-bias"], ["--bias, --l2", "nowhere", "--recipe NAME"]),
            (["--data", "nowhere"], ["nowhere"]),
            (["--output", "softmax"], ["--output softmax", "--loss cross_entropy"]),
            (["--init", "zero"], ["--init zero", "glorot"]),
            (["--hidden", "x"], ["--hidden x", "200,100"]),
            (["--activation", "step"], ["step", "relu"]),
            (["--samples", "0"], ["--samples", ">= 1"]),
            (["--step", "0"], ["--step", "> 0"]),
            (["--data", "digits", "--samples", "2000"], ["--samples 2000", "1437"]),
            (
                ["--activation", "relu", "--step", "0.5"],
                ["--step 0.5", "kink", "a smaller step"],
            ),
            (["--device", "gqu"], ["gqu"]),
        ],
    )
    def test_a_mistake_is_one_line_with_the_way_out(self, arguments, expected, capsys):
        assert main(["gradcheck", *arguments]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert error.count("\n") == 1
        assert all(text in error for text in expected), error

    def test_help_teaches(self, capsys):
        assert main(["gradcheck", "--help"]) == 0
        out = capsys.readouterr().out
        assert "Usage: python -m trainer gradcheck" in out
        assert "exit code" in out.replace("\n", " ")

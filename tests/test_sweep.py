"""Sweeps: the options' values, the ranking, the training, and the folder that can be resumed."""

from __future__ import annotations

import json
import os
import re
import socket
import statistics
from concurrent.futures import BrokenExecutor
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends import select
from backends.kernels.cpu import workers as kernel_workers
from trainer import EpochReport, fit, load
from trainer.augmentation import Deformation, read_augment, with_turned_copies
from trainer.recipes import RECIPES, Recipe, build
from trainer.running.run_folder import Run, RunError
from trainer.sweep import (
    MOST_RUNS,
    Outcome,
    Plan,
    SweepFolder,
    Workers,
    as_text,
    divide_cores,
    estimate,
    rank,
    sweep,
    values_of,
)
from trainer.sweep.values import KINDS
from trainer.training.minimize import minimize

DIGITS = RECIPES["digits"]
SHORT = {"epochs": 2, "hidden": (10,)}
ALONE, PAIR = Workers(1, 1), Workers(2, 1)


@pytest.fixture(scope="module")
def digits():
    data = load("digits")
    return replace(data, train_x=data.train_x[:300], train_y=data.train_y[:300])


def outcome(accuracy, seed=0, status="done", **values):
    return Outcome(values, seed, 1, accuracy, None, None if accuracy is None else 0.1, 1.0, status)


# --- values ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "text", "values"),
    [
        ("learning_rate", "0.3", (0.3,)),
        ("learning_rate", "0.001,0.003, 0.01", (0.001, 0.003, 0.01)),
        ("learning_rate", "0.1:0.9:0.1", (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)),
        ("learning_rate", "0.1:0.25:0.1", (0.1, 0.2)),
        ("learning_rate", "1e-3:3e-3:1e-3", (0.001, 0.002, 0.003)),
        ("learning_rate", "0.1:0.3:0.1,1,0.2", (0.1, 0.2, 0.3, 1.0)),
        ("learning_rate", "5:5:1", (5.0,)),
        ("batch_size", "1,8,64", (1, 8, 64)),
        ("epochs", "10:30:10", (10, 20, 30)),
        ("seed", "0:3:1", (0, 1, 2, 3)),
        ("steps", "10,100", (10, 100)),
        ("limit", "100,1000", (100, 1000)),
        ("hidden", "50,100,200", ((50,), (100,), (200,))),
        ("hidden", "200-100,50,none", ((200, 100), (50,), ())),
        ("hidden", "50:150:50", ((50,), (100,), (150,))),
        ("bias", "yes,no", (True, False)),
        ("init", "fan_in,uniform:0.12", ("fan_in", "uniform:0.12")),
        ("output", "softmax", ("softmax",)),
        ("augment", "none,copies:5+copies:10", ("none", "copies:5+copies:10")),
        ("augment", "elastic:34,4+rotate:9, scale:5", ("elastic:34,4+rotate:9", "scale:5")),
    ],
)
def test_values_are_read(option, text, values):
    assert values_of(option, text) == values
    assert values_of(option, ",".join(map(as_text, values))) == values


def test_every_setting_of_a_recipe_may_be_swept_that_train_has_an_option_for():
    names = {field.name for field in fields(Recipe)} - {"name", "about", "data"}
    assert set(KINDS) == names


@pytest.mark.parametrize(
    ("option", "text", "words"),
    [
        ("learning_rate", "0.1:0.9", "--learning-rate 0.1:0.9: expected start:stop:step such as"),
        ("learning_rate", "0.1:0.9:0", "the step must be above 0, as in 0.1:0.9:0.1"),
        ("learning_rate", "0.1:0.9:-0.1", "the step must be above 0"),
        ("learning_rate", "0.9:0.1:0.1", "stops before it starts; expected 0.1:0.9:0.1"),
        ("learning_rate", "0.1:x:0.1", "expected three numbers"),
        ("learning_rate", "0:1:1e-9", "1,000,000,001 values"),
        ("learning_rate", "0:inf:1", "step must be above 0"),
        ("learning_rate", "", "--learning-rate : expected numbers such as"),
        ("learning_rate", "0.1,,0.3", "--learning-rate 0.1,,0.3: expected numbers"),
        ("learning_rate", "fast", "--learning-rate fast: expected numbers"),
        ("learning_rate", "nan", "--learning-rate nan: expected numbers"),
        ("batch_size", "0", "--batch-size 0: expected whole numbers above 0"),
        ("batch_size", "1:2:0.5", "--batch-size 1:2:0.5: expected whole numbers"),
        ("seed", "-1", "--seed -1: expected whole numbers such as"),
        ("hidden", "200x100", "--hidden 200x100: expected widths such as 50,100,200"),
        ("hidden", "50,0", "--hidden 50,0: expected widths"),
        ("init", "he,", "--init he,: expected names"),
        ("bias", "maybe", "--bias maybe: expected yes, no, or both"),
        ("bias", "yes:no:1", "--bias yes:no:1: expected yes, no"),
    ],
)
def test_a_mistake_in_values_says_what_is_wanted(option, text, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        values_of(option, text)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_number_is_written_as_it_is_read(number):
    assert values_of("l2", as_text(number)) == (number,)


# --- the plan -------------------------------------------------------------------------------


def test_a_plan_is_every_combination_and_all_of_them_with_the_first_seed_first():
    grid = {"learning_rate": (0.1, 0.2), "bias": (True, False)}
    plan = Plan(DIGITS, {"epochs": 1}, grid, seeds=(0, 7))
    keys = [trial.key for trial in plan.trials()]
    once = [("0.1", "yes"), ("0.1", "no"), ("0.2", "yes"), ("0.2", "no")]
    assert keys == [(*pair, seed) for seed in ("0", "7") for pair in once]
    assert len(plan) == len(keys) == 8


def test_settings_are_the_recipe_the_changes_and_the_values():
    plan = Plan(DIGITS, {"epochs": 1, "limit": 9}, {"learning_rate": (0.1,)})
    assert plan.settings({"learning_rate": 0.1}) == replace(
        DIGITS, epochs=1, learning_rate=0.1, limit=9
    )
    # what an option implies, it implies for its runs
    assert plan.settings({"optimizer": "adam"}).learning_rate == 0.001
    assert plan.settings({"optimizer": "sgd"}).learning_rate == 0.3
    deformed = ("elastic:8,2", "rotate:5")
    assert plan.settings({"augment": "+".join(deformed)}).augment == deformed
    other = Plan(replace(DIGITS, augment=deformed), {}, {})
    assert other.settings({"augment": "none"}).augment == ()
    assert other.settings({}).augment == deformed


@pytest.mark.parametrize(
    ("grid", "words"),
    [
        ({"activation": ("relu", "step")}, "step"),
        ({"learning_rate": (0.1, -0.1)}, "learning_rate=-0.1"),
        ({"momentum": (0.5, 1.0)}, "momentum=1.0"),
        ({"l2": (0.0, -1.0)}, "l2=-1.0"),
        # each is right for some of the others
        ({"loss": ("rashid", "cross_entropy"), "output": ("sigmoid", "softmax")}, "output"),
        ({"init": ("he", "zero"), "hidden": ((5,), (6,))}, "init='zero'"),
        ({"sampling": ("epochs", "with-replacement"), "steps": (5, 6)}, "steps=5"),
        ({"steps": (5, 6), "epochs": (1, 2)}, "epochs=1 and steps=5"),
        ({"optimizer": ("cg", "sgd"), "loss": ("squared_error", "rashid")}, "rashid.*no gradient"),
        ({"optimizer": ("cg", "sgd"), "epochs": (1, 2)}, "epochs=1: not with optimizer='cg'"),
        ({"augment": ("none", "copies:200")}, "--augment copies:200: expected degrees"),
        ({"augment": ("none", "shift:1"), "optimizer": ("sgd", "cg")}, "--augment shift:1: opt"),
    ],
)
def test_a_plan_that_cannot_be_trained_is_found_before_it_begins(digits, grid, words):
    with pytest.raises(ValueError, match=words):
        Plan(DIGITS, {}, grid).check(digits)


def test_only_images_are_turned(digits):
    plan = Plan(DIGITS, {"augment": "copies:10"}, {})
    with pytest.raises(
        ValueError, match="--augment copies:10: digits has 64 features, which are no"
    ):
        plan.check(replace(digits, image_shape=None))


def test_a_plan_that_can_be_trained_passes(digits):
    grid = {"loss": ("rashid", "cross_entropy"), "hidden": ((), (5, 4)), "learning_rate": (1.0,)}
    Plan(DIGITS, {"limit": 5}, grid).check(digits)


# --- the ranking ----------------------------------------------------------------------------


def test_the_best_mean_is_first_and_what_diverged_last():
    outcomes = [
        outcome(0.5, rate=0.1),
        outcome(0.9, rate=0.2),
        outcome(0.8, rate=0.3),
        outcome(0.7, seed=1, rate=0.2),
        outcome(0.99, rate=0.4),
        outcome(None, seed=1, status="diverged", rate=0.4),
        outcome(None, status="diverged", rate=0.5),
    ]
    standings = rank(outcomes)
    assert [s.values["rate"] for s in standings] == [0.2, 0.3, 0.1, 0.4, 0.5]
    best, second, *_, some, none = standings
    assert best.accuracy == pytest.approx(0.8)
    assert best.deviation == pytest.approx(statistics.stdev([0.9, 0.7]))
    assert (second.accuracy, second.deviation) == (0.8, None)
    assert (some.accuracy, some.runs, some.diverged) == (0.99, 2, 1)
    assert (none.accuracy, none.runs, none.diverged, none.train_loss) == (None, 1, 1, None)


def test_held_out_samples_rank_where_there_are_some():
    good = Outcome({"rate": 1}, 0, 1, 0.1, 0.9, 0.1, 1.0)
    bad = Outcome({"rate": 2}, 0, 1, 0.9, 0.1, 0.1, 1.0)
    standings = rank([bad, good], by="validation_accuracy")
    assert [s.accuracy for s in standings] == [0.9, 0.1]
    assert [s.test_accuracy for s in standings] == [0.1, 0.9]


# --- the training ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cores", "runs", "jobs", "expected"),
    [
        (2, 9, None, (2, 1)),
        (8, 3, None, (3, 2)),
        (8, 100, 2, (2, 4)),
        (2, 1, None, (1, 2)),
        (1, 9, None, (1, 1)),
        (2, 9, 6, (6, 1)),
        (2, 0, None, (1, 2)),
    ],
)
def test_processes_times_threads_are_the_cores(monkeypatch, cores, runs, jobs, expected):
    monkeypatch.setattr(kernel_workers, "core_count", lambda: cores)
    workers = divide_cores(runs, device="cpu", jobs=jobs)
    assert (workers.jobs, workers.threads) == expected


def test_a_gpu_takes_one_run_after_the_other():
    assert divide_cores(9, device="gpu:0", jobs=4) == Workers(1, 1)


def directly(data, recipe, seed):
    """The last report of an ordinary training."""
    n = recipe.limit
    data = replace(data, train_x=data.train_x[:n], train_y=data.train_y[:n])
    model = build(recipe, data, backend=select("cpu"), seed=seed)
    x, y = data.train_x, data.train_y
    degrees, settings = read_augment(recipe.augment)
    if degrees:
        x, y = with_turned_copies(model.backend, x, y, data.image_shape, degrees)
    reports = fit(
        model,
        x,
        y,
        deformation=Deformation(data.image_shape, **settings) if settings else None,
        epochs=recipe.epochs,
        learning_rate=recipe.learning_rate,
        shuffle=recipe.shuffle,
        seed=seed,
        test=(data.test_x, data.test_y),
    )
    *_, last = (report for report in reports if isinstance(report, EpochReport))
    return last


@pytest.mark.parametrize("workers", [ALONE, PAIR], ids=["in this process", "in two"])
def test_every_run_comes_to_what_train_comes_to(digits, workers):
    grid = {"learning_rate": (0.1, 0.3), "limit": (100, 300)}
    plan = Plan(DIGITS, SHORT, grid, seeds=(0, 1))
    outcomes = list(sweep(plan, list(plan.trials()), digits, workers=workers))
    assert len(outcomes) == 8
    for result in outcomes:
        desired = directly(digits, plan.settings(result.values), result.seed)
        assert result.test_accuracy == desired.test_accuracy
        assert result.train_loss == pytest.approx(desired.train_loss, rel=1e-5)
        assert (result.epochs, result.validation_accuracy, result.status) == (2, None, "done")
        assert result.seconds > 0


def test_accuracy_on_held_out_samples_is_measured_too(digits):
    plan = Plan(DIGITS, SHORT, {})
    held_out = (digits.test_x[:50], digits.test_y[:50])
    tested = replace(digits, test_x=held_out[0], test_y=held_out[1])
    trials = list(plan.trials())
    (result,) = sweep(plan, trials, tested, workers=ALONE, held_out=held_out)
    assert result.test_accuracy == result.validation_accuracy is not None


def test_minimisers_take_part(digits):
    grid = {"optimizer": ("cg", "l-bfgs")}
    plan = Plan(RECIPES["ex4"], {"max_iterations": 5}, grid)
    pixels = replace(digits, train_x=(digits.train_x / 16).astype(np.float32))
    pixels = replace(pixels, test_x=(digits.test_x / 16).astype(np.float32))
    trials = list(plan.trials())
    assert estimate(plan, trials, pixels, select("cpu")) > 0
    for result in sweep(plan, trials, pixels, workers=ALONE):
        model = build(plan.recipe, pixels, backend=select("cpu"))
        x, y = pixels.train_x, pixels.train_y
        desired = minimize(
            model, x, y, result.values["optimizer"], 5, test=(pixels.test_x, pixels.test_y)
        )
        assert (result.test_accuracy, result.epochs) == (desired.test_accuracy, 5)
        assert result.train_loss == pytest.approx(desired.train_loss)


def test_augmented_images_are_trained_on(digits):
    grid = {"augment": ("none", "copies:10", "copies:5+shift:1"), "limit": (100, 200)}
    plan = Plan(DIGITS, SHORT, grid)
    results = {trial.key: trial for trial in plan.trials()}
    outcomes = list(sweep(plan, list(results.values()), digits, workers=ALONE))
    for result in outcomes:
        desired = directly(digits, plan.settings(result.values), 0)
        assert result.test_accuracy == desired.test_accuracy
    assert len({result.train_loss for result in outcomes}) == 6


@pytest.mark.filterwarnings("error")
def test_a_run_that_diverges_does_not_end_the_sweep(digits):
    changes = SHORT | {"activation": "relu", "loss": "cross_entropy"}
    plan = Plan(DIGITS, changes, {"learning_rate": (1e30, 0.01)})
    bad, good = sweep(plan, list(plan.trials()), digits, workers=ALONE)
    assert (bad.status, bad.epochs, bad.test_accuracy, bad.train_loss) == (
        "diverged",
        0,
        None,
        None,
    )
    assert good.status == "done"


def _kill_yourself(*args):
    os.kill(os.getpid(), 9)


def test_a_killed_worker_is_told_apart(digits, monkeypatch):
    monkeypatch.setattr("trainer.sweep.workers._train", _kill_yourself)
    plan = Plan(DIGITS, SHORT, {}, seeds=(0, 1))
    with pytest.raises(BrokenExecutor):
        list(sweep(plan, list(plan.trials()), digits, workers=PAIR))


def test_workers_keep_to_their_threads_whatever_the_environment_says(digits, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setattr("trainer.sweep.workers._train", _count_threads)
    plan = Plan(DIGITS, SHORT, {}, seeds=(0, 1))
    assert list(sweep(plan, list(plan.trials()), digits, workers=PAIR)) == [1, 1]


def _count_threads(*args):
    return kernel_workers.core_count()


def test_an_estimate_grows_with_the_runs_and_their_weights(digits):
    def seconds(hidden, seeds):
        plan = Plan(DIGITS, {"epochs": 2}, {"hidden": ((10,), hidden)}, seeds=tuple(range(seeds)))
        trials = list(plan.trials())
        return min(estimate(plan, trials, digits, select("cpu")) for _ in range(5))

    assert seconds((10,), 1) > 0
    assert seconds((10,), 100) > 20 * seconds((10,), 1)
    assert seconds((5000,), 1) > 50 * seconds((10,), 1)


# --- the folder -----------------------------------------------------------------------------

GRID = {"hidden": ((5, 4), (6,), ()), "init": ("fan_in", "uniform:0.12"), "l2": (0.1 + 0.2, 1.0)}
DATA = {"source": "digits", "test_source": None, "crc32": "0", "validation_samples": 0}
CONFIG = {"data": DATA, "device": {"name": "cpu"}}


@pytest.fixture
def folder(tmp_path):
    plan = Plan(DIGITS, {"epochs": 1, "bias": True}, GRID, seeds=(0, 3))
    return SweepFolder.start(tmp_path / "s", plan, CONFIG)


def reopened(folder):
    folder.close()
    return SweepFolder.open(folder.path)


def filled(folder, count):
    for number, trial in enumerate(list(folder.plan.trials())[:count]):
        if number % 3:
            result = Outcome(trial.values, trial.seed, 2, 0.1 * number, 0.25, 1e-7, 0.125)
        else:
            result = Outcome(trial.values, trial.seed, 1, None, None, None, 0.125, "diverged")
        folder.add(result)
    return folder.outcomes


def test_a_folder_is_read_as_it_was_written(folder):
    written = filled(folder, 7)
    again = reopened(folder)
    assert again.plan == replace(folder.plan, recipe=replace(DIGITS, about=""))
    assert json.loads((folder.path / "config.json").read_text()) == again.config
    assert again.outcomes == written
    assert [t.key for t in again.left()] == [t.key for t in list(folder.plan.trials())[7:]]


def test_a_folder_older_than_a_setting_has_its_default(tmp_path):
    plan = Plan(RECIPES["hundred"], {"limit": 7}, {"epochs": (1, 2)})
    folder = SweepFolder.start(tmp_path / "s", plan, CONFIG)
    config = json.loads((folder.path / "config.json").read_text())
    assert config["sweep"]["settings"].pop("limit") == 100
    (folder.path / "config.json").write_text(json.dumps(config))
    assert reopened(folder).plan.settings({"epochs": 1}).limit == 7
    config["sweep"]["changes"] = {}
    (folder.path / "config.json").write_text(json.dumps(config))
    assert reopened(folder).plan.settings({"epochs": 1}).limit is None


def test_the_table_is_a_line_a_run(folder):
    filled(folder, 2)
    assert folder.table.read_text().splitlines() == [
        "hidden,init,l2,seed,epochs,test_accuracy,validation_accuracy,train_loss,seconds,status",
        "5-4,fan_in,0.30000000000000004,0,1,,,,0.125,diverged",
        "5-4,fan_in,1,0,2,0.1,0.25,1e-07,0.125,done",
    ]


def test_a_torn_last_line_is_dropped_wherever_it_is_torn(folder):
    filled(folder, 3)
    whole = folder.table.read_bytes()
    kept = whole[: whole.rstrip(b"\n").rindex(b"\n") + 1]
    for end in range(len(kept), len(whole)):
        folder.table.write_bytes(whole[:end])
        assert len(reopened(folder).outcomes) == 2
        assert folder.table.read_bytes() == kept


@pytest.mark.parametrize("content", [None, "", "hidden,in"])
def test_a_table_without_a_line_is_begun_again(folder, content):
    if content is None:
        folder.table.unlink()
    else:
        folder.table.write_text(content)
    again = reopened(folder)
    assert len(again.left()) == len(folder.plan)
    filled(again, 1)
    assert len(reopened(again).outcomes) == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda lines: ["a,b", *lines[1:]], "line 1 is not hidden,init"),
        (lambda lines: [lines[0], lines[1].replace("fan_in", "he"), lines[2]], "line 2 is no run"),
        (lambda lines: [lines[0], "oops", *lines[1:]], "line 2 is no run of this sweep.*1 fields"),
        (lambda lines: [lines[0], lines[1].replace("diverged", "done"), lines[2]], "its status"),
    ],
)
def test_a_table_of_another_sweep_is_refused(folder, change, words):
    filled(folder, 2)
    folder.table.write_text("\n".join(change(folder.table.read_text().splitlines())) + "\n")
    with pytest.raises(RunError, match=words):
        reopened(folder)


@pytest.mark.parametrize(
    "damage",
    [
        "{",
        "[]",
        "{}",
        '{"sweep": {}}',
        '{"sweep": 3}',
        ("sweep.grid.l2", ["much"]),
        ("sweep.grid.flavour", ["salt"]),
        ("sweep.changes.epochs", "0"),
        ("sweep.settings.flavour", "salt"),
        ("sweep.seeds", ["x"]),
        ("device", {}),
        ("data.source", 3),
        ("data.test_source", 3),
        ("data.validation_samples", "many"),
    ],
)
def test_a_damaged_config_is_one_line(folder, damage):
    config = folder.path / "config.json"
    if isinstance(damage, tuple):
        changed = part = json.loads(config.read_text())
        *path, last = damage[0].split(".")
        for name in path:
            part = part[name]
        part[last] = damage[1]
        damage = json.dumps(changed)
    config.write_text(damage)
    with pytest.raises(RunError, match="not a sweep's config") as error:
        reopened(folder)
    assert "\n" not in str(error.value)


def test_a_folder_of_something_else_is_refused(tmp_path):
    with pytest.raises(RunError, match="no sweep is there"):
        SweepFolder.open(tmp_path / "nowhere")
    Run.start(tmp_path / "r", CONFIG)
    with pytest.raises(RunError, match="'sweep' is missing"):
        SweepFolder.open(tmp_path / "r")


def test_one_process_at_a_time_sweeps_into_a_folder(folder):
    here = f"process {os.getpid()} on {socket.gethostname()}, since 2"
    with pytest.raises(RunError, match=f"{here}.*is training into it"):
        SweepFolder.open(folder.path)
    assert not (reopened(folder).path / ".lock").stat().st_size


def test_a_sweep_takes_the_next_free_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plan = Plan(DIGITS, {}, {})
    paths = [SweepFolder.start(None, plan, CONFIG).path for _ in range(2)]
    assert paths == [Path("sweeps/s1"), Path("sweeps/s2")]
    with pytest.raises(RunError, match="under sweeps/ is taken"):
        SweepFolder.start(Path("sweeps/s1"), plan, CONFIG)


def test_a_fingerprint_is_the_datas(digits):
    changed = digits.test_x.copy()
    changed[-1, -1] += 1
    assert digits.fingerprint() == replace(digits, train_x=np.array(digits.train_x)).fingerprint()
    assert digits.fingerprint() != replace(digits, test_x=changed).fingerprint()


def test_a_range_ends_at_the_most_runs_there_may_be():
    assert len(values_of("epochs", f"1:{MOST_RUNS}:1")) == MOST_RUNS

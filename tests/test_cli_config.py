"""`--config`: options from a TOML file, and a run trained anew from its config."""

from __future__ import annotations

import contextlib
import json
import shlex
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.cli import main
from trainer.commands.config_file import ConfigFile
from trainer.commands.train import run as train
from trainer.recipes import RECIPES, Recipe, changed
from trainer.running.run_folder import Run, RunError
from trainer.running.usage import UsageError
from trainer.settings import settings_of

SMALL = ["--data", "digits", "--device", "cpu", "--hidden", "7", "--epochs", "2"]
SMALL_FILE = 'data = "digits"\ndevice = "cpu"\nhidden = [7]\nepochs = 2\n'


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def trained(*arguments, out):
    assert main(["train", "--quiet", *arguments, "--out", out]) == 0
    return Path(out, "model.safetensors").read_bytes()


def refused(capsys, *arguments):
    capsys.readouterr()
    assert main(list(arguments)) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n"), err.startswith("error: ")) == ("", 1, True)
    return err.removeprefix("error: ")


def settings(run):
    return Run.open(Path(run)).config["settings"]


# --- a TOML file ----------------------------------------------------------------------------


def test_a_file_trains_what_the_same_options_train():
    Path("f.toml").write_text(
        'device = "cpu"\nseed = 3\ntranspose = true\ncheckpoint_every = 1\n'
        '[data]\ndata = "digits"\nvalidation = 100\n'
        "[network]\nhidden = [7, 5]\nbias = true\n"
        '[training]\nlearning-rate = 0.05\nepochs = 2\nshuffle = false\naugment = ["rotate:10",'
        ' "scale:10"]\npatience = 5\n'
    )
    words = "--device cpu --seed 3 --transpose --data digits --validation 100 --hidden 7,5 --bias"
    words += " --learning-rate 0.05 --epochs 2 --no-shuffle --augment rotate:10 --augment scale:10"
    words += " --patience 5 --checkpoint-every 1"
    assert trained("--config", "f.toml", out="f") == trained(*words.split(), out="o")
    configs = [Run.open(Path(run)).config for run in "fo"]
    for config in configs:
        del config["process"]
    assert str(configs[0].pop("checkpoint_every")) == configs[1].pop("checkpoint_every")
    assert configs[0] == configs[1]


def test_what_is_typed_wins_over_the_file_and_the_file_over_the_recipe():
    Path("f.toml").write_text(f'{SMALL_FILE}recipe = "ex4"\nloss = "rashid"\noptimizer = "sgd"\n')
    trained("--config", "f.toml", "--epochs", "1", "--hidden", "none", out="o")
    found = settings("o")
    assert (found["epochs"], found["hidden"], found["loss"]) == (1, [], "rashid")
    assert found["l2"] == RECIPES["ex4"].l2


def test_an_optimizer_that_is_typed_takes_its_own_rate_not_the_file_s():
    Path("f.toml").write_text(f"{SMALL_FILE}learning_rate = 0.7\n")
    trained("--config", "f.toml", "--optimizer", "adam", out="adam")
    assert settings("adam")["learning_rate"] == 0.001
    trained("--config", "f.toml", "--optimizer", "cg", "--max-iterations", "2", out="cg")
    assert (settings("cg")["max_iterations"], settings("cg")["epochs"]) == (2, None)


def test_what_belongs_to_the_file_s_data_is_not_asked_of_other_data():
    Path("t.csv").write_text("a,label,b\n" + "1,x,2\n3,y,4\n" * 30)
    Path("f.toml").write_text('data = "t.csv"\nlabel = 2\ntest_data = "t.csv"\nepochs = 1\n')
    trained("--config", "f.toml", out="o")
    assert Run.open(Path("o")).config["data"]["label"] == "label"
    trained("--config", "f.toml", "--data", "digits", out="p")
    assert Run.open(Path("p")).config["data"]["test_source"] is None


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_written_as_a_file_is_that_recipe(capsys, recipe):
    assert main(["recipes", "--toml", recipe]) == 0
    Path("f.toml").write_text(capsys.readouterr().out, encoding="utf-8")
    basis = ConfigFile.read(Path("f.toml"), train).basis
    assert basis.asked == {"recipe": recipe}
    plain = Recipe(recipe, RECIPES[recipe].about, data=RECIPES[recipe].data)
    assert changed(plain, basis.changes).settings() == RECIPES[recipe].settings()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("learnin_rate = 0.3", "learnin_rate: there is no such key; did you mean learning_rate?"),
        ("qqq = 0.3", "qqq: there is no such key; expected an option of train"),
        ('"a\\nb" = 1', "a\\nb: there is no such key"),
        ("[net]\nhidden = [3]", "[net]: there is no such table; expected [data], [network], "),
        ("epochs = 3\n[training]\nepochs = 3", "epochs: is there twice; expected it once"),
        ("batch_size = 3\nbatch-size = 3", "batch-size: is there twice"),
        ('epochs = "5"', 'epochs = "5": expected a whole number'),
        ("epochs = 5.0", "epochs = 5.0: expected a whole number"),
        ("epochs = true", "epochs = true: expected a whole number"),
        (f"epochs = 0x{'f' * 5000}", "epochs: expected a number below 2⁶³"),
        (f"hidden = [[0x{'f' * 5000}]]", "hidden = …: expected whole numbers such as"),
        ("epochs = 0", 'Invalid value "0" for epochs. Must be >= 1.'),
        ("learning-rate = -1", 'Invalid value "-1.0" for learning_rate. Must be >= 0'),
        ('learning_rate = "fast"', 'learning_rate = "fast": expected a number'),
        ("learning_rate = 1979-05-27", 'learning_rate = "1979-05-27": expected a number'),
        ("l2 = [0, 1]", "l2 = [0, 1]: expected a number; what a sweep tries is typed"),
        ("loss = rashid", "(at line 2, column 8); expected lines such as learning_rate = 0.3"),
        ("bias = 1", "bias = 1: expected true or false"),
        ("loss = true", "loss = true: expected a text in quotes"),
        ('loss = "mse"', 'Invalid value "mse" for loss. Choose from: "rashid"'),
        ("hidden = [3, 1.5]", "hidden = [3, 1.5]: expected whole numbers such as [300, 100]"),
        ("hidden = [0]", "hidden 0: expected widths below 10⁹"),
        ('augment = ["elastic"]', "--augment elastic: expected α and σ"),
        ("augment = [1]", "--augment 1: expected"),
        ("resume = 'o'", "resume: is typed with the command; omit it in the file"),
        ("recipe = 'rashed'", "--recipe rashed: there is no such recipe"),
        ("checkpoint_every = 'x'", "--checkpoint-every x: expected a number of epochs"),
        ("optimizer = 'cg'\nepochs = 5", "--epochs 5: not with --optimizer cg"),
        ("momentum = 0.9\noptimizer = 'adam'", "--momentum 0.9 goes with --optimizer sgd"),
        ("patience = 3", "--patience 3: the test samples choose nothing"),
        ("init_from = 'nope'", "init_from: nope: no such file or folder"),
        ("epochs = ", "Invalid value (at line 2, column 10)"),
        ("epochs = [1,", "Invalid value (at line 2, column 13)"),
        ("epochs = 1\nepochs = 1", "Cannot overwrite a value (at line 3, column 11)"),
        ("x = " + "[" * 100_000, "lists or tables in one another, too deep to be read"),
    ],
)
def test_a_mistake_in_a_file_is_one_line_that_names_the_file(capsys, content, words):
    Path("f.toml").write_text(f'data = "digits"\n{content}')
    error = refused(capsys, "train", "--config", "f.toml")
    assert error.startswith("f.toml: ")
    assert words in error
    assert not Path("runs").exists()


def test_a_file_that_is_no_text_or_has_a_mark_before_it(capsys):
    Path("f.toml").write_bytes(b"epochs = 3\nloss = '\xff'")
    assert "expected a text in UTF-8, which line 2 is not" in refused(capsys, "--config", "f.toml")
    Path("f.toml").write_bytes(b"\xef\xbb\xbfepochs = 3")  # as Windows' editor writes it
    assert ConfigFile.read(Path("f.toml"), train).basis.changes == {"epochs": 3}


def test_what_is_no_file_of_options(capsys):
    assert "nope.toml: no such file" in refused(capsys, "--config", "nope.toml")
    assert "nope: no such file" in refused(capsys, "--config", "nope")
    Path("f.yaml").write_text("epochs: 3")
    assert "f.yaml: expected a .toml file, or a run" in refused(capsys, "--config", "f.yaml")
    assert "its options: python -m trainer --config f.toml." in refused(capsys, "f.toml")
    assert "no run is there" in refused(capsys, "--config", ".")
    trained(*SMALL, out="o")
    error = refused(capsys, "--resume", "o", "--config", "o")
    assert error == "--resume o goes on with its own options; omit --config\n"
    error = refused(capsys, "--config", "o/model.safetensors")
    assert "expected a .toml file, or a run: its folder or its config.json" in error


def test_a_path_beside_the_file_is_told(capsys):
    Path("sub").mkdir()
    Path("sub/t.csv").write_text("a,label\n" + "1,x\n3,y\n" * 30)
    Path("sub/f.toml").write_text('data = "t.csv"\nepochs = 1')
    error = refused(capsys, "--config", "sub/f.toml")
    assert "paths are taken from the current folder, so write " in error
    Path("sub/f.toml").write_text(f"data = {shlex.split(error)[-1]!r}\nepochs = 1")
    trained("--config", "sub/f.toml", out="o")


def test_an_error_of_what_is_typed_does_not_name_the_file(capsys):
    Path("f.toml").write_text(SMALL_FILE)
    error = refused(capsys, "--config", "f.toml", "--recipe", "rashed")
    assert error.startswith("--recipe rashed: ")


KEYS = [*settings_of(Recipe), "data", "label", "seed", "out", "device", "Training", "data.data"]
VALUES = st.one_of(
    st.integers(), st.floats(), st.booleans(), st.text(max_size=9), st.dates(), st.none()
)


@given(
    st.dictionaries(
        st.one_of(st.sampled_from(KEYS), st.text(max_size=9)),
        st.recursive(VALUES, lambda inner: st.lists(inner, max_size=3), max_leaves=4),
        max_size=4,
    )
)
def test_no_file_ends_in_a_traceback(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "drawn.toml"
    lines = [f"{json.dumps(key)} = {json.dumps(v, default=str)}" for key, v in content.items()]
    path.write_text("\n".join(lines), encoding="utf-8", errors="replace")
    read_or_refused(path)


@given(st.one_of(st.binary(max_size=60), st.text(alphabet='ab_=[]{}"\n1.#', max_size=40)))
def test_no_bytes_end_in_a_traceback(tmp_path_factory, content):
    for name in ("drawn.toml", "drawn.json"):
        path = tmp_path_factory.getbasetemp() / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        read_or_refused(path)


def read_or_refused(path):
    error = ""
    with contextlib.suppress(UsageError, RunError):
        try:
            ConfigFile.read(path, train)
        except Exception as raised:
            error = str(raised)
            raise
    assert "\n" not in error
    assert not error or error.startswith((str(path), str(path.parent)))


# --- a run's config -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "t.csv"
    rng = np.random.default_rng(0)
    rows = [f"{a:.3f},{'xy'[int(a > 0)]},{b:.3f}" for a, b in rng.normal(size=(60, 2))]
    path.write_text("a,which,b\n" + "\n".join(rows))
    return str(path)


@pytest.mark.parametrize(
    "options",
    [
        "--seed 5 --shuffle --dropout 0.3 --augment shift:1",
        "--validation 100 --patience 1 --loss cross_entropy --output softmax --label-smoothing 0.1",
        "--sampling with-replacement --steps 3000",
        "--optimizer l-bfgs --max-iterations 3 --dtype float64",
        "--augment copies:10 --batch-size 16 --optimizer adamw --limit 300 --transpose",
    ],
)
def test_a_run_s_config_trains_the_same_bits(options):
    words = shlex.split(options)
    epochs = [] if "steps" in options or "iterations" in options else ["--epochs", "2"]
    first = trained(*SMALL[:-2], *epochs, *words, out="o")
    assert trained("--config", "o/config.json", out="p") == first
    Path("moved.json").write_bytes(Path("p/config.json").read_bytes())
    assert trained("--config", "moved.json", out="q") == first
    for name in ("config.json", "metrics.jsonl"):
        assert Path("q", name).exists()
    assert settings("q") == settings("o")


def test_a_run_on_a_table_and_from_other_weights(table):
    first = trained("--data", table, "--label", "which", "--test-data", table, out="o")
    assert trained("--config", "o", out="p") == first
    more = trained("--data", table, "--label", "2", "--epochs", "1", "--init-from", "o", out="q")
    assert trained("--config", "q", out="r") == more != first


def test_a_run_of_an_older_version_trains_the_same_bits_and_goes_on(tmp_path):
    # stands by class, which newer versions shuffle once
    rng = np.random.default_rng(0)
    rows = [
        f"{value + (k > 50):.3f},{'xy'[k > 50]}" for k, value in enumerate(rng.normal(size=100))
    ]
    Path("t.csv").write_text("a,label\n" + "\n".join(rows))
    first = trained("--data", "t.csv", "--test-data", "t.csv", "--epochs", "2", out="o")
    config = json.loads(Path("o/config.json").read_text())
    assert config["data"]["shuffled"]
    for name in ("noise", "checkpoint_every"):
        del config[name]
    for name in ("shuffled", "has_validation_part", "transpose"):
        del config["data"][name]
    for name in ("dropout", "averaging", "class_weight", "limit"):
        del config["settings"][name]
    Path("old").mkdir()
    Path("old/config.json").write_text(json.dumps(config))
    second = trained("--config", "old", out="p")
    assert second != first  # learned in the file's order
    assert trained("--config", "p", out="q") == second
    assert trained("--config", "p", "--epochs", "4", out="r") != second
    settings = ["--config", "p", "--epochs", "3", "--schedule", "constant"]
    trained(*settings, out="s")
    assert main(["train", "--quiet", "--resume", "s", "--epochs", "3"]) == 0


def test_data_that_have_changed_since_are_told(table, capsys):
    Path("t.csv").write_bytes(Path(table).read_bytes())
    trained("--data", "t.csv", "--label", "which", "--epochs", "1", out="o")
    with Path("t.csv").open("a") as file:
        file.write("\n0.1,x,0.2")
    assert main(["train", "--config", "o", "--out", "p"]) == 0
    assert "t.csv has changed since that run: this is another one" in capsys.readouterr().out


def test_a_file_with_a_recipe_takes_no_other(capsys):
    Path("a.toml").write_text('recipe = "ex4"\nlearning_rate = 0.3\n')
    assert main(["train", "--config", "a.toml", "--recipe", "fast", "--data", "digits"]) == 2
    message = capsys.readouterr().err
    assert "recipe ex4" in message
    assert message.count("\n") == 1


def test_a_run_has_no_other_recipe_and_only_a_run_is_taken(capsys):
    trained(*SMALL, out="o")
    error = refused(capsys, "--config", "o", "--recipe", "fast")
    assert error.startswith("--recipe fast: a run has all its settings")
    assert main(["import-weights", "o", "--out", "w"]) == 0
    error = refused(capsys, "--config", "w")
    assert "imported, not trained here; python -m trainer --init-from w" in error
    for damage in ({"seed": "x"}, {"settings": {"epochs": 0}}, {"settings": {"hidden": [10**12]}}):
        config = Run.open(Path("o")).config | damage
        Path("d.json").write_text(json.dumps(config))
        assert "d.json: " in refused(capsys, "--config", "d.json")


@pytest.mark.thorough
def test_no_damage_of_a_run_s_config_ends_in_a_traceback(capsys):
    trained(*SMALL, out="o")
    config = Run.open(Path("o")).config
    for key in config:
        for wrong in (None, [], {}, "x", -1, True):
            Path("d.json").write_text(json.dumps(config | {key: wrong}))
            read_or_refused(Path("d.json"))
    for part in ("data", "settings", "device"):
        for key in config[part]:
            for wrong in (None, [], {}, "x", -1, True):
                Path("d.json").write_text(json.dumps(config | {part: config[part] | {key: wrong}}))
                read_or_refused(Path("d.json"))


# --- a sweep --------------------------------------------------------------------------------


def test_a_sweep_over_a_file_and_the_command_that_trains_its_best(capsys):
    Path("f.toml").write_text(f"{SMALL_FILE}seed = 3\nvalidation = 200\nlearning_rate = 0.7\n")
    swept = ["sweep", "--config", "f.toml", "--learning-rate", "0.001,0.1", "--jobs", "1"]
    assert main([*swept, "--out", "s"]) == 0
    out = capsys.readouterr().out
    rows = Path("s/sweep.csv").read_text().splitlines()
    assert [row.split(",")[:2] for row in rows[1:]] == [["0.001", "3"], ["0.1", "3"]]
    command = next(line for line in out.splitlines() if line.startswith("train:"))
    assert " --config f.toml " in command
    words = shlex.split(command)[4:]
    trained(*words, out="o")
    best = next(row for row in rows if row.startswith("0.1,")).split(",")
    last = Run.open(Path("o")).metrics()[-1]
    assert str(last["validation_accuracy"]) in best
    assert main(["sweep", "--resume", "s"]) == 0


def test_a_sweep_over_a_run(capsys):
    trained(*SMALL, "--seed", "4", "--loss", "squared_error", out="o")
    assert main(["sweep", "--config", "o", "--batch-size", "1,8", "--jobs", "1", "--out", "s"]) == 0
    plain = Path("s/sweep.csv").read_text().splitlines()[1].split(",")
    assert str(Run.open(Path("o")).metrics()[-1]["test_accuracy"]) in plain
    assert "--config f.toml" not in capsys.readouterr().out


def test_a_rate_is_found_for_a_file_and_the_command_trains_it(capsys):
    Path("f.toml").write_text(f"{SMALL_FILE}seed = 3\nbatch_size = 16\n")
    assert main(["lr-find", "--config", "f.toml", "--seed", "4"]) == 0
    lines = capsys.readouterr().out.splitlines()
    command = next(line for line in lines if line.startswith("train:"))
    assert " --config f.toml --seed 4 --learning-rate " in command
    trained(*shlex.split(command)[4:], out="o")
    assert (settings("o")["batch_size"], Run.open(Path("o")).config["seed"]) == (16, 4)
    Path("f.toml").write_text(f"{SMALL_FILE}momentum = 0.9\noptimizer = 'adam'\n")
    assert refused(capsys, "lr-find", "--config", "f.toml").startswith("f.toml: --momentum 0.9")


def test_what_a_sweep_does_not_take_is_told(capsys):
    Path("f.toml").write_text(f"{SMALL_FILE}patience = 3\nvalidation = 100\n")
    error = refused(capsys, "sweep", "--config", "f.toml", "--batch-size", "1,8")
    assert error == "f.toml: patience: a sweep takes none; omit it in the file\n"
    Path("f.toml").write_text(f"{SMALL_FILE}figures = true\nout = 'o'\n")
    assert main(["sweep", "--config", "f.toml", "--jobs", "1"]) == 0
    assert "f.toml: a sweep makes no use of figures, out" in capsys.readouterr().out
    Path("f.toml").write_text(f"{SMALL_FILE}optimizer = 'cg'\n")
    error = refused(capsys, "sweep", "--config", "f.toml")
    assert error.startswith("f.toml: --epochs 2: not with --optimizer cg")

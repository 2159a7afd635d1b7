"""Names from outside are shown literally, whatever they look like, and disturb nothing."""

from __future__ import annotations

import ast
import contextlib
import io
import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import escape

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image
from rich.cells import cell_len

from backends import select
from trainer import MLP, display, figures
from trainer.benchmarking import Measurement
from trainer.cli import main
from trainer.explain import Backquery, IncomingWeights, Trace, backquery, incoming_weights, trace
from trainer.figures.style import _has_glyph, readable
from trainer.gradients import GradientCheck, check
from trainer.metrics import Evaluation, Mistake, evaluate
from trainer.plain_text import one_line
from trainer.sweep import Outcome, Standing
from trainer.training import BatchProgress, EpochReport
from trainer.training.minimize import IterationReport

from .test_cli import ESCAPE, in_a_terminal

TRIPLES = [
    ("[/b]", "[other]", "[red]x"),
    ("[/]", "[link=x]y[/link]", "\\[b]"),
    ("$", "$x$", "$\\frac{"),
    ("$a_$", "$\\frac{1$", "$5 or $6"),
    ("a_b", "_c", "\\"),
    ("^", "{", "%(x)s {0}"),
    (":smile:", "🙂", "👩‍🔬"),
    ("\x1b[31m", "a\nb", "\x07\t\r\x9b1m"),
    ("\x1b]0;title\x07", "\u202egnp.exe", "\udcff"),
    ("", " ", "é"),
    ("数", "שלום", "e\u0301"),
    ("x" * 300, "word " * 60, "数" * 100),
]
ORDINARY = ["sepal width", "C:\\data\\é", "数", "שלום", "👩\u200d🔬", "$x$", "[/b]", ":smile:"]
CONTROLS = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
X = np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32)
Y = np.arange(12) % 3
COLOURED = {"TERM": "xterm-256color", "COLUMNS": "4000", "LINES": "50"}


def odd_names(*, most: int) -> Callable[[Any], Any]:
    """Run a test on each triple above and on so many random ones."""

    def decorate(test: Any) -> Any:
        odd = st.text(st.characters(), max_size=12)
        triples = st.lists(odd, min_size=3, max_size=3, unique=True).map(tuple)
        test = settings(deadline=None, max_examples=most)(given(triples)(test))
        for triple in TRIPLES:
            test = example(triple)(test)
        return test

    return decorate


@pytest.fixture(autouse=True, scope="module")
def _a_wide_terminal() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
            patch.delenv(name, raising=False)
        for name, value in COLOURED.items():
            patch.setenv(name, value)
        yield


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def received(show: Callable[[], Any], screen: io.StringIO) -> str:
    """Return what is written to stdout and stderr, without the escapes of rich for colours."""
    with contextlib.redirect_stdout(screen), contextlib.redirect_stderr(screen):
        show()
    text = screen.getvalue()
    if screen.isatty():
        text = ESCAPE.sub("", text).replace("\r", "\n")
    return text


def assert_shown(show: Callable[[], Any], *names: str) -> None:
    """Check in a pipe and a terminal: each name in full, and nothing that a terminal obeys."""
    for screen in (io.StringIO(), Terminal()):
        text = received(show, screen)
        assert not CONTROLS.search(text)
        for name in names:
            assert one_line(name).strip() in text


# --- what there is to show ----------------------------------------------------------------


def trained(loss: str = "rashid", *, bias: bool = True) -> MLP:
    backend = select("cpu")
    return MLP([4, 5, 3], backend=backend, loss=loss, bias=bias, seed=0, scale=1.0, shift=0.0)


MODEL = trained()
TRACE: Trace = trace(MODEL, X[0], 1, learning_rate=0.1, training_samples=12)
BACKWARDS: Backquery = backquery(MODEL, [0, 1, 2], value_range=(0.0, 1.0))
WEIGHTS: IncomingWeights = incoming_weights(MODEL)
CHECKED: GradientCheck = check(MODEL, X, Y)
EPOCH = EpochReport(1, 0.5, 0.9, 1.0, 0.1, 0.0, 12.0)
BATCH = BatchProgress(1, 2, 6, 12, 0.5, 0.5, 12.0)
ITERATION = IterationReport(
    iteration=1,
    iterations=2,
    evaluations=3,
    train_loss=0.5,
    train_accuracy=0.9,
    test_accuracy=0.8,
    validation_accuracy=None,
    seconds=1.0,
    evaluation_seconds=0.1,
    compile_seconds=0.0,
    samples_per_second=12.0,
)


def evaluation(names: Sequence[str]) -> Evaluation:
    return evaluate(Y, (Y + (np.arange(12) % 5 == 0)) % 3, names)


def measurement(device: str) -> Measurement:
    return Measurement(device, 50, 8, 100, 3, 9e3, 8e3, 1e4, 1.0, False, 1.0, 10.0, 10.0)


def standing(names: Sequence[str], accuracy: float = 0.9) -> Standing:
    values = {f"option_{i}": name for i, name in enumerate(names)}
    return Standing(values, 2, 0, accuracy, 0.01, 0.9, 0.1, 1.0)


# --- the terminal -------------------------------------------------------------------------


def test_ordinary_text_is_left_alone():
    for text in [*ORDINARY, "Foto 9.41\u202fam", "W₁ᵀ δ → 10"]:
        assert one_line(text) == text
    assert one_line("a\nb\x1b[0m\x85\udcff\u202e") == r"a\nb\x1b[0m\x85\udcff\u202e"


@odd_names(most=8)
def test_notes_errors_and_tables_of_names(names):
    a, b, c = names
    assert_shown(lambda: display.note(a), a)
    assert_shown(lambda: display.error(a), a)
    assert_shown(lambda: display.line(a), a)
    assert_shown(lambda: display.facts({"run": a, b or "-": c}), *names)
    assert_shown(lambda: display.devices([(a, [b, c])]), *names)
    metrics = [{"epoch": 1, "train_loss": 0.1, "test_accuracy": 0.9}]
    assert_shown(lambda: display.curves([(a, b, metrics), (c, a, metrics)]), *names)
    recipes = {a: {"data": b, "hidden": (3,)}, a + "2": {"data": c, "hidden": ()}}
    assert_shown(lambda: display.recipes(recipes, dict.fromkeys(recipes, b)), *names)


@odd_names(most=8)
def test_answers(names):
    a, *_ = names
    assert_shown(lambda: display.evaluation(a, evaluation(names)), *names)
    outputs = np.array([0.1, 0.7, 0.2])
    for image in (None, np.eye(4)):
        assert_shown(lambda i=image: display.prediction(a, i, names, outputs, names[2]), *names)


@odd_names(most=4)
def test_inside_a_network(names):
    a, b, _ = names
    for image in (None, X[0].reshape(2, 2)):
        assert_shown(lambda i=image: display.trace(a, {"network": b}, TRACE, i, names), *names)
        pictures = [image] * 3
        assert_shown(lambda p=pictures: display.backquery(a, BACKWARDS, p, names), *names)
    assert_shown(lambda: display.incoming_weights(a, WEIGHTS, [np.eye(2)] * 5), a)
    assert_shown(lambda: display.gradient_check(a, b, CHECKED, a), a, b)


VIEWS: dict[str, Callable[[], display.QuietView]] = {
    "quiet": display.QuietView,
    "json": display.JsonView,
    "plain": display.PlainView,
    "terminal": display.TerminalView,
}


def a_training(view: display.QuietView, names: Sequence[str]) -> None:
    a, b, c = names
    view.note(a)
    view.downloading(b, 1, 2)
    view.start({"data": c}, {"run": c})
    view.progress(BATCH)
    view.epoch(EPOCH)
    view.training_report(evaluation(names))
    view.end([a, b], {"run": a})


def iterations(view: display.QuietView, names: Sequence[str]) -> None:
    a, b, c = names
    view.start({"data": a}, {"run": a})
    view.iteration(ITERATION)
    view.training_report(evaluation(names))
    view.note(b)
    view.failed(b, {"run": c})
    display.error(f"{b} {c}")  # as the command does


def a_benchmark(view: display.QuietView, names: Sequence[str]) -> None:
    a, b, c = names
    view.start({"data": a}, {"data": a})
    for name in names:
        view.measurement(measurement(name))
    view.end([b, c], {"figure": b})


def a_sweep(view: display.QuietView, names: Sequence[str]) -> None:
    a, b, c = names
    config = {"runs": 1, "finished": 0, "ranked_by": "test_accuracy", "data": a}
    view.start({"data": a}, config)
    view.preparing()
    view.outcome(Outcome({"name": b}, 0, 1, 0.9, None, 0.1, 1.0))
    view.standings([standing(names)])
    view.end([c, a], {"run": c})


@pytest.mark.parametrize("kind", VIEWS)
@odd_names(most=4)
def test_every_view(kind, names):
    view = VIEWS[kind]
    shows: list[Any] = [a_training, iterations, a_benchmark, a_sweep]
    for act in shows:
        if kind == "json":
            text = received(lambda act=act: act(view(), names), io.StringIO())
            lines = [line for line in text.split("\n") if line.startswith("{")]
            told = json.dumps([json.loads(line) for line in lines])
            assert all(json.dumps(name)[1:-1] in told for name in names)
        else:
            asked = () if kind == "quiet" else names
            screen = io.StringIO() if kind != "terminal" else Terminal()
            text = received(lambda act=act: act(view(), names), screen)
            assert not CONTROLS.search(text)
            assert all(one_line(name).strip() in text for name in asked)


@pytest.mark.parametrize("names", TRIPLES)
def test_80_columns_are_kept_and_fold_what_is_too_long(names, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    a, b, _ = names
    shows = {
        "evaluation": lambda: display.evaluation(a, evaluation(names)),
        "prediction": lambda: display.prediction(a, np.eye(4), names, np.eye(3)[0], b),
        "trace": lambda: display.trace(a, {"run": b}, TRACE, None, names),
        "backquery": lambda: display.backquery(a, BACKWARDS, [np.eye(4)] * 3, names),
    }
    for show in shows.values():
        text = received(show, Terminal())
        assert all(cell_len(line) <= 80 for line in text.split("\n"))
        assert "…" not in text


def test_text_is_made_at_one_place():
    """Check that all words go through `styled`: a label's escape would reach the terminal."""
    package = Path(display.__file__).parent
    files = {file: ast.parse(file.read_text(encoding="utf-8")) for file in package.glob("*.py")}
    made = {
        f.name: f for f in files[package / "terminal.py"].body if isinstance(f, ast.FunctionDef)
    }
    inside = set(ast.walk(made["styled"]))
    for file, tree in files.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and node not in inside:
                name = ast.unparse(node.func)
                constant = all(isinstance(part, ast.Constant) for part in node.args)
                assert name != "Text" or constant, f"{file.name}, line {node.lineno}"
                assert name != "Console", f"{file.name}, line {node.lineno}"
    for file in (package.parent / "commands").glob("*.py"):
        for line in file.read_text(encoding="utf-8").splitlines():
            assert not re.match(r"\s*print\(", line), f"{file.name}: {line}"


# --- figures ------------------------------------------------------------------------------

ALL = [name for triple in TRIPLES for name in triple]
DRAWN = {
    "short": ALL[:20],
    "other": [*ALL[20:], "W" * 64],
    "one long": ["W" * 64],
    "two long": ALL[-3:-1],
}


def drawn(names: Sequence[str]) -> dict[str, Callable[[], Figure | list[Figure]]]:
    """Return a function that draws for every figure, small."""
    k, (a, b) = len(names), (names[0], names[-1])
    y = np.arange(2 * k) % k
    result = evaluate(y, (y + 1) % k, names)
    worst = [Mistake(i, name, names[i - 1], 0.9) for i, name in enumerate(names)]
    metrics = [{"epoch": e, "train_loss": 0.1, "test_accuracy": 0.9} for e in (1, 2)]
    grid = [
        Standing({"rate": rate, "name": name}, 2, 0, 0.9, 0.01, 0.9, 0.1, 1.0)
        for rate in (0.1, 0.2)
        for name in names[:12]
    ]
    net = MLP([4, k], backend=select("cpu"), seed=0, scale=1.0, shift=0.0)
    backwards = backquery(net, range(min(k, 6)), value_range=(0.0, 1.0))
    way = trace(net, X[0], 0, learning_rate=0.1, training_samples=12)
    options = {"title": b, "classes": names, "value_range": (0.0, 1.0)}
    return {
        "benchmark": lambda: figures.benchmark(
            [measurement(name) for name in names], title=a, caption=f"{b}\n{a}"
        ),
        "confusion": lambda: figures.confusion(result),
        "mistakes": lambda: figures.mistakes(worst, np.zeros((k, 4)), (2, 2), (0.0, 1.0)),
        "curves": lambda: figures.curves([(name, metrics) for name in names]),
        "deformed": lambda: figures.deformed(np.zeros((k, 3, 4)), (2, 2), (0.0, 1.0), names),
        "sweep": lambda: figures.sweep(grid, accuracy="test", caption=a),
        "dots": lambda: figures.sweep(
            [standing([name, str(i)]) for i, name in enumerate(names)], accuracy="test", caption=a
        ),
        "backquery": lambda: figures.backquery(backwards, image_shape=(2, 2), classes=names),
        "backquery of a table": lambda: figures.backquery(
            backwards, image_shape=None, classes=names
        ),
        "trace": lambda: figures.trace(way, image_shape=None, **options),
    }


@pytest.mark.filterwarnings("error")  # matplotlib's, of glyphs and of what does not fit
@pytest.mark.parametrize("figure", drawn(["a", "b", "c"]))
@pytest.mark.parametrize(
    "names",
    [pytest.param(n, marks=() if n == "other" else pytest.mark.thorough) for n in DRAWN],
)
def test_every_figure(figure, names):
    png = figures.encoded(drawn(DRAWN[names])[figure](), ".png")
    with Image.open(io.BytesIO(png)) as image:
        assert len(image.convert("RGB").getcolors(maxcolors=1 << 20)) > 10


@settings(deadline=None, max_examples=100)
@given(st.text(st.characters(), max_size=60))
@example("$x$ \\ _")
@example("\x1b[31m")
def test_a_figures_text_is_one_line_that_its_font_has(name):
    text = readable(name, 30)
    assert len(text) <= 30
    assert not CONTROLS.search(text)
    assert all(c.isascii() or c == "…" or _has_glyph(c) for c in text)
    if name.isascii() and name.isprintable() and len(name) <= 30:
        assert text == name


@pytest.mark.filterwarnings("error")
@settings(deadline=None, max_examples=10)
@given(st.lists(st.text(st.characters(), max_size=12), min_size=2, max_size=2, unique=True))
def test_a_figure_of_any_names(names):
    drawn = figures.deformed(np.zeros((2, 2, 4)), (2, 2), (0.0, 1.0), names)
    assert len(figures.encoded(drawn, ".png")) > 1000
    ElementTree.fromstring(figures.encoded(drawn, ".svg"))


def test_every_name_is_in_a_legend():
    legends = []
    names = ["_", "$a$", "_nolegend_"]
    for name in ("benchmark", "curves", "sweep"):
        figure = drawn(names)[name]()
        boxes = [*figure.legends, *(axes.get_legend() for axes in figure.axes)]
        legends.extend([t.get_text() for t in box.get_texts()] for box in boxes if box is not None)
    assert legends == [[f"{name}, 50 hidden" for name in names], names, sorted(names)]


@pytest.mark.parametrize("figure", drawn(["a", "b", "c"]))
def test_a_label_is_no_formula_whoever_renders_the_figure(figure):
    """Check that an SVG image, saved by Matplotlib itself, has the labels letter by letter."""
    names = ["$\\frac{1", "$x$", "5_%"]
    made = drawn(names)[figure]()
    pages = made if isinstance(made, list) else [made]
    words = [text for page in pages for text in page.findobj(Text) if text.get_text()]
    assert not any(text.get_parse_math() for text in words)
    written = io.StringIO()
    with rc_context({"svg.fonttype": "none"}):
        for page in pages:
            page.savefig(written, format="svg")
    told = "".join(written.getvalue().split())
    shown = names if figure not in ("benchmark", "backquery") else names[:2]
    assert all("".join(escape(name).split()) in told for name in shown)


# --- the command line ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """Return a folder with runs on a table and on a folder of images, all with odd names."""
    folder = tmp_path_factory.mktemp("odd") / "runs [b] $a$"
    folder.mkdir()
    rng = np.random.default_rng(0)
    rows = [",".join([label, *map(str, rng.normal(size=3).round(2))]) for label in WORDS * 20]
    (folder / "[red] $x_ table.csv").write_text("\n".join(rows))
    for label in FOLDERS:
        (folder / "\x1b[2J images" / label).mkdir(parents=True)
        for i in range(10):
            pixels = rng.integers(0, 255, (6, 6), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "\x1b[2J images" / label / f"[b] {i}.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("TRAINER_CACHE", str(folder / "cache"))
        options = ["--device", "cpu", "--hidden", "4", "--epochs", "2", "--quiet"]
        assert main(["--data", "[red] $x_ table.csv", *options, "--out", "[1]"]) == 0
        assert main(["--data", "\x1b[2J images", *options, "--out", "a\nb"]) == 0
    return folder


WORDS = ["[/b]", "[other]", "$x$", "_a\\", ":smile:", "数"]
FOLDERS = ["[other]", "\x1b[31m", "a\nb", "$ _", "y" * 200]


@pytest.fixture
def undrawn(monkeypatch) -> None:
    """Omit the drawing of the trace, which takes seconds."""
    monkeypatch.setattr(figures, "trace", lambda *_, **__: [Figure((1, 1))])


@pytest.mark.usefixtures("undrawn")
@pytest.mark.filterwarnings("error::UserWarning")
@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["evaluate", "[1]", "--figures"], ["[1]", "[1]/figures/confusion.png", *WORDS]),
        (["evaluate", "a\nb", "--figures"], ["a\nb", *FOLDERS]),
        (["evaluate", "[1]", "[1]/model.safetensors"], ["[1]/model.safetensors", *WORDS]),
        (["backquery", "[1]"], ["[1]/figures/backquery.png", *WORDS]),
        (["backquery", "[1]", "--label", "[/b]", "--label", "数"], ["[/b]", "数"]),
        (["backquery", "a\nb"], FOLDERS),
        (["inspect", "[1]"], ["[1]", *WORDS]),
        (["inspect", "a\nb"], FOLDERS),
        (["predict", "[1]"], ["[red] $x_ table", *WORDS]),
        (["predict", "a\nb", "\x1b[2J images/a\nb/[b] 0.png"], ["[b] 0.png", *FOLDERS]),
        (["predict", "[1]", "[1].png"], ["[1].png"]),
        (["predict", "[1]", "--data", "[red] $x_ table.csv", "--out", "[b"], ["to [b"]),
        (["weights", "a\nb"], ["a\nb/figures/weights.png"]),
        (["weights", "[1]"], ["inspect '[1]'"]),
        (["plot", "[1]", "a\nb", "--out", "$ [b].png"], ["[1]", "a\nb", "$ [b].png"]),
        (["export", "[1]", "--out", "[red]\t$.npz"], ["[red]\t$.npz"]),
        (["gradcheck", "[1]"], ["[1]", "[red] $x_ table"]),
        (["evaluate", "[/b] \x1b[31m"], ["[/b] \x1b[31m"]),
        (["backquery", "[1]", "--label", "[/c]\x07"], ["[/c]\x07", *WORDS]),
        (["[/b]\x1b[31m"], ["[/b]\x1b[31m"]),
        (["--recipe", "[/b]\n"], ["[/b]\n"]),
        (["--epochs", "[/b]"], ["[/b]"]),
        (["--data", "[/b]\x1b[31m.csv"], ["[/b]\x1b[31m.csv"]),
        (["--data", "\udcff.csv"], ["\udcff.csv"]),
    ],
)
def test_a_command_shows_names_as_they_stand(words, shown, runs, monkeypatch, capfd):
    monkeypatch.chdir(runs)
    code = main(words if words[0] in ("plot", "export") else [*words, "--device", "cpu"])
    captured = capfd.readouterr()
    text = captured.out + captured.err
    assert code in (0, 1, 2)
    assert (code != 0) == ("error: " in text) or "gradcheck" in words
    assert not CONTROLS.search(text)
    for name in shown:
        assert one_line(name) in text


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("command", ["evaluate", "backquery", "inspect"])
def test_json_has_the_names_themselves(command, runs, monkeypatch, capsys):
    monkeypatch.chdir(runs)
    assert main([command, "a\nb", "--json", "--device", "cpu"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["run"] == "a\nb"
    if command == "evaluate":
        assert [score["label"] for score in told["classes"]] == sorted(FOLDERS)


def test_a_sweep_of_oddly_named_data(runs, monkeypatch, capfd):
    monkeypatch.chdir(runs)
    options = ["--hidden", "2", "--learning-rate", "0.1,0.2", "--epochs", "1", "--device", "cpu"]
    assert main(["sweep", "--data", "\x1b[2J images", *options, "--out", "[s] $x$"]) == 0
    text = capfd.readouterr().out
    assert not CONTROLS.search(text)
    assert "\\x1b[2J images" in text
    assert "[s] $x$" in text
    assert (Path("[s] $x$") / "sweep.png").exists()


def test_a_terminal_shows_a_training_on_them(runs, monkeypatch):
    monkeypatch.chdir(runs)
    options = ["--device", "cpu", "--hidden", "4", "--epochs", "1", "--out", "[b]\t:smile:"]
    text = in_a_terminal("--data", "\x1b[2J images", *options, columns=300)
    assert "\x1b[2J" not in text
    plain = ESCAPE.sub("", text)
    assert not CONTROLS.search(plain.replace("\r", ""))
    assert "\\x1b[2J images" in plain
    assert "[b]\\t:smile:" in plain

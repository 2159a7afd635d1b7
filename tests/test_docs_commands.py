"""Every command and program that the documentation shows, run page by page on small data.

Of a page the ``sh`` and ``python`` blocks are run in order, in a folder of the page's own in which
three runs, a sweep and the files that the pages speak of are there already. MNIST is 6,000 images
made of scikit-learn's digits, and recipes have few epochs. A block is left out where a comment
stands before it, ``<!-- skip: why -->``, and a line where its program is one of `NOT_RUN`.
"""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import shutil
import textwrap
import threading
import warnings
import webbrowser
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

import trainer.sweep
from tests.test_docs import PAGES, ROOT
from trainer import recipes
from trainer.cli import main
from trainer.commands.watched import Watched
from trainer.data import mnist
from trainer.data.dataset import Source
from trainer.sweep.workers import Workers
from trainer.web.server import PageServer

NOT_RUN = {
    "python -m pip": "installs",
    "python -m venv": "installs",
    ". .venv/bin/activate": "installs",
    "python -m pytest": "these are the tests",
    "python scripts/": "measures for minutes; the scripts have tests of their own",
    "ruff": "CI runs it",
    "mypy": "CI runs it",
    "lint-imports": "CI runs it",
}
RUN = ("python -m trainer", "xptrainer")
_BLOCK = re.compile(
    r"^(?:<!-- skip: (?P<why>[^\n]+) -->\n)?```(?P<kind>sh|python)\n(?P<code>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)


class Block(NamedTuple):
    """A block of a page: shell commands, a line each, or a Python program."""

    kind: str
    code: str
    why_not: str | None

    @property
    def commands(self):
        """The lines of a shell block without what is said of them."""
        lines = self.code.replace("\\\n", " ").splitlines()
        return [" ".join(line.partition(" #")[0].split()) for line in lines if line.strip()]


def blocks(page):
    """The blocks of a page, in order."""
    found = _BLOCK.finditer(page.read_text("utf-8"))
    return [Block(m["kind"], textwrap.dedent(m["code"]), m["why"]) for m in found]


SHOWN = [page for page in PAGES if any(block.why_not is None for block in blocks(page))]


def not_run(line):
    """Why a line is not run, or None."""
    return next((why for program, why in NOT_RUN.items() if line.startswith(program)), None)


@pytest.mark.parametrize("page", SHOWN, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_line_is_a_command_or_is_known_not_to_be_run(page):
    for block in blocks(page):
        for line in block.commands if block.kind == "sh" and not block.why_not else ():
            for part in line.split(" && "):
                assert part.startswith(RUN) or not_run(part), line


def test_most_of_what_is_shown_is_run():
    lines = [
        (line, block.why_not or not_run(line))
        for page in PAGES
        for block in blocks(page)
        if block.kind == "sh"
        for line in block.commands
    ]
    run = [line for line, why in lines if why is None]
    assert len(run) > 100
    assert len({line.split()[3] for line in run if len(line.split()) > 3}) > 15


# --- the data -------------------------------------------------------------------------------


def small_mnist(on_progress=None, *, soon=False):
    """Scikit-learn's digits as if they were MNIST: 28×28 bytes, 6,000 to train and 500 to test."""
    digits, rng = load_digits(), np.random.default_rng(0)
    chosen = rng.permutation(np.resize(np.argsort(digits.target, kind="stable"), 6500))
    images = np.pad(digits.images[chosen].repeat(3, axis=1).repeat(3, axis=2), ((0,), (2,), (2,)))
    x = np.minimum(images * 16, 255).astype(np.uint8).reshape(6500, -1)
    y = digits.target[chosen].astype(np.int64)
    parts = (x[:6000], y[:6000]), (x[6000:], y[6000:])
    return Source("mnist", "mnist", "mnist", *parts, image_shape=(28, 28))


def files(folder):
    """The files that the pages speak of."""
    rng = np.random.default_rng(0)
    x, y = small_mnist().evaluation_part

    def picture(name, pixels):
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        Image.fromarray(pixels.reshape(28, 28)).resize((280, 280)).save(folder / name)

    picture("my_digit.png", 255 - x[0])
    for i in range(3):
        picture(f"my_digits/{i}.png", 255 - x[i])
    for i in range(24):
        picture(f"my_images/{'cat' if i % 2 else 'dog'}/{i}.png", x[i])
    for name in ("train", "test"):
        table(folder / f"{name}.csv", ["label", *range(784)], np.c_[y[:200], x[:200]])
    table(folder / "new.csv", range(784), x[:20])
    flowers = rng.normal(size=(120, 4)) + np.arange(120)[:, None] % 3
    kinds = np.array(["setosa", "versicolor", "virginica"])[np.arange(120) % 3]
    table(folder / "iris.csv", ["a", "b", "c", "d", "species"], np.c_[flowers.round(2), kinds])
    age, sex = rng.integers(1, 80, 200), rng.choice(["male", "female"], 200)
    survived = np.where(sex == "female", 1, 0)
    table(folder / "titanic.csv", ["Age", "Sex", "Survived"], np.c_[age, sex, survived])
    table(folder / "passengers.csv", ["Age", "Sex"], np.c_[age, sex][:9])
    (folder / "my_weights").mkdir()
    for name, shape in {"wih": (200, 784), "who": (10, 200)}.items():
        weights = rng.normal(0, 0.05, shape)
        np.save(folder / f"{name}.npy", weights)
        np.save(folder / "my_weights" / f"{name}.npy", weights)
    (folder / "my.toml").write_text('recipe = "book"\ndata = "mnist"\nhidden = [50]\n')


def table(file, names, rows):
    """Write a CSV file."""
    lines = [",".join(map(str, row)) for row in [list(names), *rows]]
    file.write_text("\n".join(lines) + "\n", "utf-8")


@pytest.fixture(scope="module", autouse=True)
def small():
    """Small data, few epochs, one process, and nobody at a browser."""

    def no_browser(name=None):
        raise webbrowser.Error("nobody is here")

    served = PageServer.serve_forever

    def serve(server, *args):
        if threading.current_thread() is threading.main_thread():
            raise KeyboardInterrupt  # which ends every page that is served
        served(server, *args)

    few = {
        name: replace(
            recipe,
            epochs=min(recipe.epochs, 2),
            max_iterations=5,
            steps=recipe.steps and 200,
        )
        for name, recipe in recipes.RECIPES.items()
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mnist, "read_mnist", small_mnist)
        for name, recipe in few.items():
            patch.setitem(recipes.RECIPES, name, recipe)
        patch.setattr(trainer.sweep, "divide_cores", lambda runs, **_: Workers(1, 1))
        patch.setattr(webbrowser, "get", no_browser)
        patch.setattr(PageServer, "serve_forever", serve)
        patch.setattr(Watched, "stay", lambda watched: None)
        yield


@pytest.fixture(scope="module")
def prepared(small, tmp_path_factory):
    """A folder with three runs, a sweep and the files."""
    folder = tmp_path_factory.mktemp("prepared")
    files(folder)
    with contextlib.chdir(folder):
        for seed in "012":
            assert main(["--data", "mnist", "--seed", seed, "--quiet"]) == 0
        assert main(["sweep", "--data", "digits", "--learning-rate", "0.1,0.3"]) == 0
    return folder


def run_line(line):
    """Run a command as it is typed, in this process; return its exit code and what it printed."""
    words = shlex.split(line)
    words = words[1:] if words[0] == "xptrainer" else words[3:]
    target = None
    if ">" in words:
        place = words.index(">")
        target, words = words[place + 1], words[:place]
    if words[:1] == ["bench"]:  # a small one
        given = {"--seconds": "1", "--batch-size": "1"}
        words += [word for option in given.items() if option[0] not in words for word in option]
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        code = main(words)
    if target:
        Path(target).write_text(out.getvalue(), "utf-8")
    return code, out.getvalue()


@pytest.mark.thorough
@pytest.mark.parametrize("page", SHOWN, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_what_a_page_shows_runs(page, prepared, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "here"
    shutil.copytree(prepared, folder)
    monkeypatch.chdir(folder)
    names = {"__name__": "__main__"}
    for block in blocks(page):
        if block.why_not:
            continue
        if block.kind == "python":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of scikit-learn, that few epochs are few
                exec(compile(block.code, f"{page.name}", "exec"), names)
            continue
        for line in block.commands:
            for part in line.split(" && "):
                if not_run(part) is None:
                    code, out = run_line(part)
                    assert code == 0, f"{part}\n{out}\n{capsys.readouterr().err}"

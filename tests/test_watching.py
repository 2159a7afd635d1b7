"""`watch`: the reports unchanged, shown in a terminal, a pipe and a notebook's cell."""

from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from trainer import MLP, BatchProgress, EpochReport, Training, fit, load, watch
from trainer.display import watching
from trainer.display.watching import curve_text

from .test_cli import ESCAPE

DATA = load("digits")


def a_training(epochs: int = 4, **options) -> Training:
    model = MLP([64, 5, 10], backend="cpu", scale=0.99 / 16)
    test = (DATA.test_x, DATA.test_y)
    return fit(model, DATA.train_x, DATA.train_y, epochs=epochs, test=test, **options)


class Cell:
    """Stands for a cell's output, as `IPython.display.display` returns its handle."""

    def __init__(self) -> None:
        self.pages: list[str] = []

    def __call__(self, shown, display_id):
        assert display_id is True
        self.update(shown)
        return self

    def update(self, shown) -> None:
        self.pages.append(shown._repr_html_())
        self.text = repr(shown)


@pytest.fixture
def cell(monkeypatch) -> Cell:
    shown = Cell()
    monkeypatch.setattr(watching, "_notebook", lambda: shown)
    return shown


def test_the_reports_pass_unchanged(cell, capsys):
    reports = [EpochReport(i, 1 / i, 0.5, 0.1, 0.0, 0.0, 1e5) for i in (1, 2)]
    reports.insert(1, BatchProgress(2, 2, 10, 100, 0.4, 0.1, 1e5))
    watched = watch(iter(reports))
    assert all(a is b for a, b in zip(watched, reports, strict=True))
    assert capsys.readouterr() == ("", "")


def test_a_cell_has_a_bar_rows_and_curves(cell):
    training = a_training()
    *_, report = watch(training)
    assert "preparing" in cell.pages[0]
    last = cell.pages[-1]
    assert "epoch 4 of 4" in last
    assert "width:100.0%" in last
    assert last.count("<polyline") == 2
    assert last.count("<tr") == 5
    assert f"{report.train_loss:.6f}" in last
    assert cell.text.splitlines()[0] == "epoch 4 of 4"
    assert len(cell.text.splitlines()) == 6


def test_a_cell_shows_the_last_rows_of_many_epochs(cell):
    reports = [EpochReport(i, 1 / i, None, 0.1, 0.0, 0.0, 1e5) for i in range(1, 3001)]
    list(watch(iter(reports)))
    assert len(cell.pages) < 100
    assert cell.pages[-1].count("<tr") == 14
    assert len(cell.pages[-1]) < 20_000
    for text in (cell.pages[-1], cell.text):
        assert "2988" not in text
        assert "2989" in text
        assert "3000" in text


@pytest.mark.parametrize("how", ["break", "interrupt"])
def test_a_cell_that_is_left_says_so_and_the_training_can_go_on(cell, how):
    training = a_training()

    def run() -> None:
        for report in watch(training):
            if isinstance(report, EpochReport) and report.epoch == 2:
                if how == "break":
                    break
                raise KeyboardInterrupt

    if how == "break":
        run()
    else:
        with pytest.raises(KeyboardInterrupt):
            run()
    assert "epoch 2 of 4; stopped" in cell.pages[-1]
    assert [r.epoch for r in training if isinstance(r, EpochReport)] == [3, 4]


def test_a_pipe_gets_a_row_an_epoch(capsys):
    for _ in watch(a_training(2)):
        pass
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split() == ["epoch", "loss", "test", "seconds", "samples/s"]
    assert [row.split()[0] for row in rows] == ["1", "2"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals of this kind")
def test_a_terminal_has_a_bar_with_a_curve_and_gets_its_cursor_back():
    import pty

    code = """
from trainer import BatchProgress, EpochReport, watch
reports = [BatchProgress(e, 3, 10, 100, 1 / e, 0.1, 1e5) for e in (1, 2, 3)]
ends = [EpochReport(e, 1 / e, 0.5, 0.1, 0.0, 0.0, 1e5) for e in (1, 2)]
for report in watch([reports[0], ends[0], reports[1], ends[1], reports[2]]):
    if report is reports[2]:
        import time
        time.sleep(0.3)
        break
"""
    ours, theirs = pty.openpty()
    environment = {
        "TERM": "xterm-256color",
        "COLUMNS": "120",
        "PATH": "",
        "PYTHONPATH": ":".join(sys.path),
    }
    program = subprocess.run(
        [sys.executable, "-c", code], stdout=theirs, stderr=subprocess.PIPE, env=environment
    )
    assert program.returncode == 0, program.stderr
    os.close(theirs)
    text = os.read(ours, 1 << 16).decode()
    plain = ESCAPE.sub("", text)
    assert "epoch 3/3" in plain
    assert "█▁" in plain
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")


def test_a_terminals_shell_is_no_notebook(monkeypatch):
    for shell in (None, SimpleNamespace()):
        module = SimpleNamespace(get_ipython=lambda shell=shell: shell)
        monkeypatch.setitem(sys.modules, "IPython", module)
        assert watching._notebook() is None


@pytest.mark.parametrize(
    ("values", "curve"),
    [([], ""), ([3.0], "▁"), ([1.0, 0.5, 0.0], "█▅▁"), ([2.0, 2.0], "▁▁")],
)
def test_a_curve_of_one_line(values, curve):
    assert curve_text(values) == curve

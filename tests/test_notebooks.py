"""The notebooks of the documentation: committed without outputs, and executed as they stand."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

DOCS = Path(__file__).resolve().parent.parent / "docs"
NOTEBOOKS = {"book": 13, "table": 2}  # and how many figures come out, at least


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_is_committed_without_what_came_out(name):
    notebook = json.loads((DOCS / f"{name}.ipynb").read_text("utf-8"))
    for cell in notebook["cells"]:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
    first = "".join(notebook["cells"][0]["source"])
    assert first.startswith("# ")


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("name", "data"), [("book", "digits"), ("book", "mnist"), ("table", "its own")]
)
def test_every_cell_runs_and_the_figures_come_out(name, data, tmp_path, monkeypatch, request):
    nbformat = pytest.importorskip("nbformat", reason="executes notebooks")
    nbclient = pytest.importorskip("nbclient", reason="executes notebooks")
    pytest.importorskip("ipykernel", reason="executes notebooks")
    monkeypatch.setenv("TRAINER_CACHE", str(tmp_path / "cache"))
    if data == "mnist":
        folder = request.getfixturevalue("data_folder") / "mnist"
        monkeypatch.setenv("TRAINER_CACHE", str(folder))
    for proxy in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.setenv(proxy, "http://127.0.0.1:9")  # where nobody listens
    notebook = nbformat.read(DOCS / f"{name}.ipynb", as_version=4)
    place = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=300, resources=place).execute()  # raises an error
    outputs = [o for cell in notebook.cells for o in cell.get("outputs", [])]
    assert [o for o in outputs if o.get("name") == "stderr"] == []
    shown = [o["data"] for o in outputs if "data" in o]
    figures = [base64.b64decode(d["image/png"]) for d in shown if "image/png" in d]
    assert len(figures) >= NOTEBOOKS[name]
    for png in figures:
        with Image.open(io.BytesIO(png)) as image:
            assert np.asarray(image.convert("L")).std() > 5
    pages = "".join("".join(d["text/html"]) for d in shown if "text/html" in d)
    assert ("data:image/png;base64" in pages) == (name == "book")
    assert "answers are right" in pages
    if name == "book":
        size = {"digits": "1,437", "mnist": "60,000"}[data]
        assert size in pages
        assert "width:100.0%" in pages  # of the bar that `watch` shows
        assert float(outputs[-1]["data"]["text/plain"]) > 0.9
    else:
        assert "answers that differ from the pipeline's: 0" in outputs[-1]["text"]

"""How Sphinx makes the site: python -m sphinx -W docs OUT. It asks for nothing on a network."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE / "_ext")]

import trainer  # noqa: E402

project = "xptrainer"
author = "the authors of xptrainer"
version = release = trainer.__version__
language = "en"

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.viewcode", "numpydoc", "pages"]
exclude_patterns = ["_build"]
default_role = "py:obj"
smartquotes = False  # which would take the -- of an option for a dash

nb_execution_mode = "off"  # tests/test_notebooks.py executes them
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings have the types, with shapes
numpydoc_show_class_members = False  # autodoc lists them with their docstrings
numpydoc_use_plots = False

html_theme = "furo"
html_title = f"xptrainer {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_js_files = [("site.js", {"defer": "defer"})]
html_math_renderer = "mathml"  # of pages.py; MathJax would come from a network
html_show_copyright = False
html_show_sourcelink = False
html_copy_source = False
html_last_updated_fmt = None

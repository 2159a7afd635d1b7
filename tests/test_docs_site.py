"""The documentation's site: built without a warning, whole, and asking for nothing elsewhere.

The site is built here, or is the one in the folder that DOCS_SITE names.
"""

from __future__ import annotations

import html
import json
import os
import re
import subprocess
import sys
import tempfile
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import backends
import trainer
from tests.test_docs import DOCS, ROOT
from trainer.cli import _COMMANDS
from trainer.recipes import RECIPES
from trainer.settings import settings_of

pytest.importorskip("sphinx", reason="builds the documentation")
pytest.importorskip("myst_nb", reason="builds the documentation")
pytest.importorskip("furo", reason="builds the documentation")
pytestmark = pytest.mark.thorough
_LOADED = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "src"}


class Page(HTMLParser):
    """What a page loads and links to, its anchors, its words and its navigation."""

    def __init__(self, file):
        super().__init__()
        self.loaded, self.links, self.anchors, self.words = [], [], set(), []
        self.feed(file.read_text("utf-8"))

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if "id" in attrs:
            self.anchors.add(attrs["id"])
        if tag == "a" and "href" in attrs:
            self.links.append(attrs["href"])
        if tag in _LOADED and attrs.get(_LOADED[tag]):
            self.loaded.append(attrs[_LOADED[tag]])

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    if "DOCS_SITE" in os.environ:
        return Path(os.environ["DOCS_SITE"])
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-W", "-q", str(DOCS), str(out)]
    nowhere = {f"{name}_proxy": "http://127.0.0.1:9" for name in ("http", "https")}
    done = subprocess.run(command, env=os.environ | nowhere, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return out


@pytest.fixture(scope="module")
def pages(site):
    return {file: Page(file) for file in sorted(site.rglob("*.html"))}


def sources():
    """Every page's name, as Sphinx has it."""
    files = [file for kind in ("md", "ipynb") for file in DOCS.rglob(f"*.{kind}")]
    return {file.relative_to(DOCS).with_suffix("").as_posix() for file in files}


def test_every_page_can_be_reached_from_the_first(site):
    first = Page(site / "index.html")
    reached = {unquote(urlsplit(link).path).removesuffix(".html") for link in first.links}
    assert sources() - {"index"} - reached == set()  # the navigation has all of them


def test_links_lead_to_pages_and_places_in_them(site, pages):
    for file, page in pages.items():
        for link in [*page.links, *page.loaded]:
            parts = urlsplit(link)
            if parts.scheme:
                continue
            target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            assert target.is_file(), f"{file.relative_to(site)}: {link}"
            if parts.fragment and target in pages:
                anchors = pages[target].anchors
                assert unquote(parts.fragment) in anchors, f"{file.relative_to(site)}: {link}"


def test_nothing_is_loaded_from_elsewhere(site, pages):
    for file, page in pages.items():
        assert [link for link in page.loaded if urlsplit(link).netloc] == [], file.name
    for file in site.rglob("*.css"):
        assert not re.search(r"(?:url\(|@import)\s*['\"]?(?:https?:)?//", file.read_text("utf-8"))


def test_formulas_are_drawn_by_the_browser_itself(site):
    text = (site / "book.html").read_text("utf-8")
    assert text.count("<math") >= 5
    assert [link for link in Page(site / "book.html").loaded if "mathjax" in link] == []


def test_no_path_of_this_machine_is_shown(site):
    folders = [str(ROOT), str(site), tempfile.gettempdir(), str(Path.home()), "/home/", "/work/"]
    for file in site.rglob("*"):
        if file.suffix in (".html", ".js", ".svg", ".txt", ".py"):
            text = file.read_text("utf-8")
            assert [f for f in folders if len(f) > 2 and f in text] == [], file.relative_to(site)


def test_the_search_finds_every_page_without_a_server(site):
    text = (site / "searchindex.js").read_text("utf-8")
    index = json.loads(text.removeprefix("Search.setIndex(").removesuffix(")"))
    assert set(index["docnames"]) == sources()
    for word in ("backqueri", "sigmoid", "checkpoint"):  # their stems
        assert word in index["terms"], word
    assert "searchindex.js" in (site / "search.html").read_text("utf-8")


def test_the_reference_has_every_command_and_option(site, capsys):
    from trainer.cli import main

    page = (site / "reference/commands.html").read_text("utf-8")
    for name in _COMMANDS:
        assert f'id="{name}"' in page
        assert main([name, "--help"]) == 0
        for option in set(re.findall(r"^│[ *]*(--[a-z][-a-z0-9]*)", capsys.readouterr().out, re.M)):
            anchor = f'id="cmdoption-python-m-trainer-{name}{option[1:]}"'
            assert anchor in page, f"{name} {option}"


def test_the_reference_has_every_setting_and_recipe(site):
    page = html.unescape((site / "reference/settings.html").read_text("utf-8"))
    for name in [*settings_of(type(RECIPES["rashid"])), *RECIPES]:
        assert f">{name}</span>" in page, name


@pytest.mark.parametrize("package", [trainer, backends], ids=lambda package: package.__name__)
def test_the_reference_has_every_public_name(site, package):
    anchors = Page(site / f"reference/{package.__name__}.html").anchors
    for name in package.__all__:
        assert f"{package.__name__}.{name}" in anchors

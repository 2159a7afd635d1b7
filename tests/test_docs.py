"""The documentation: its links lead somewhere, and its commands are those that CI runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import trainer

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = [
    ROOT / "README.md",
    *(path for name in ("CHANGELOG.md", "CONTRIBUTING.md") if (path := ROOT / name).is_file()),
    *sorted(page for page in DOCS.rglob("*.md") if "_build" not in page.parts),
]
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^(#+) +(.+)$", re.MULTILINE)
_FENCED = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
_CODE = re.compile(r"`([^`]+)`")
_TOCTREE = re.compile(r"^```\{toctree\}\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_INCLUDED = re.compile(r"^```\{include\}")  # all there is of a page that stands elsewhere
_PROGRAM = "python -m trainer"
_OPTION = re.compile(r"--[a-z][-a-z0-9]*")


def prose(page):
    """The text of a page without its blocks of code."""
    return _FENCED.sub("", page.read_text("utf-8"))


def anchors(page):
    """The headings of a page as GitHub makes anchors of them."""
    titles = (title.lower() for _, title in _HEADING.findall(prose(page)))
    return {re.sub(r"[^\w\- ]", "", title).replace(" ", "-") for title in titles}


def commands():
    """The commands that the pages show, with every option that they show with it."""
    shown = {}
    for page in PAGES:
        blocks = "\n".join(_FENCED.findall(page.read_text("utf-8"))).replace("\\\n", " ")
        lines = [line.partition(" #")[0] for line in blocks.splitlines()]
        for code in [*lines, *_CODE.findall(prose(page))]:
            if _PROGRAM in " ".join(code.split()):
                words = " ".join(code.split()).partition(_PROGRAM)[2].split()
                command = words[0] if words and not words[0].startswith("-") else "train"
                options = {word for word in words if _OPTION.fullmatch(word)}
                shown.setdefault(command, set()).update(options)
    return shown


def targets(page):
    """What a page links to in this repository: files and anchors in them."""
    for link in _LINK.findall(prose(page)):
        path, _, anchor = link.partition("#")
        if "://" not in link:
            yield link, (page.parent / path).resolve() if path else page, anchor


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_and_headings(page):
    for link, path, anchor in targets(page):
        assert path.exists(), link
        assert path.is_relative_to(ROOT), link
        assert not anchor or anchor in anchors(path), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_has_one_title_and_opens_with_it(page):
    if _INCLUDED.match(page.read_text("utf-8")):
        return
    assert page.read_text("utf-8").startswith("# ")
    assert [level for level, _ in _HEADING.findall(prose(page))].count("#") == 1


def listed():
    """The pages that a toctree names, as files without their suffix."""
    for page in PAGES:
        for entries in _TOCTREE.findall(page.read_text("utf-8")):
            names = [line for line in entries.splitlines() if line and not line.startswith(":")]
            yield from ((page.parent / name).resolve() for name in names)


def test_every_page_is_in_a_toctree_and_every_picture_is_shown():
    linked = {path for page in PAGES for _, path, _ in targets(page)}
    files = [path for path in DOCS.rglob("*") if path.is_file() and "_build" not in path.parts]
    pages = {path.with_suffix("") for path in files if path.suffix in (".md", ".ipynb")}
    assert pages - {DOCS / "index"} == set(listed())
    pictures = {path for path in files if path.suffix in (".png", ".svg")}
    assert pictures - linked == set()


def test_the_readme_leads_to_the_pages_that_others_are_found_from():
    from_readme = {path for _, path, _ in targets(ROOT / "README.md")}
    assert {DOCS / "index.md", DOCS / "lessons.md", ROOT / "CHANGELOG.md"} <= from_readme


def test_commands_and_options_that_are_shown_exist(capsys):
    main = pytest.importorskip("trainer.cli", exc_type=ImportError).main
    # the program's, and those of mpirun and Slurm
    known = {"--help", "--version", "--bind-to", "--oversubscribe", "--signal"}
    for command, options in commands().items():
        assert main([command, "--help"]) == 0
        out = capsys.readouterr().out
        assert f"{_PROGRAM} {command}" in out
        taken = {*_OPTION.findall(out), "--help"}
        assert options - taken == set(), command
        known |= taken
    alone = [code for page in PAGES for code in _CODE.findall(prose(page)) if code[:2] == "--"]
    assert {option for code in alone for option in _OPTION.findall(code)} - known == set()


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text("utf-8").split()) <= 1600


def test_ci_runs_the_readmes_test_command():
    readme, ci = (ROOT / "README.md").read_text("utf-8"), (ROOT / ".ci/run").read_text("utf-8")
    assert 'python -m pip install ".[test]" && python -m pytest -n 2' in readme
    assert re.search(r'^python -m pip install .*"\.\[test\b.*\]"\npython -m pytest -n 2$', ci, re.M)


def test_the_changelog_and_the_citation_name_the_version():
    version = re.escape(trainer.__version__)
    assert re.search(rf"^## \[{version}\]", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.M)
    assert re.search(rf"^version: {version}$", (ROOT / "CITATION.cff").read_text("utf-8"), re.M)

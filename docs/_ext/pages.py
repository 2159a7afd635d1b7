"""Fill pages with what stands elsewhere, so that it cannot grow stale, and draw formulas offline.

In a page a block ``{generated} NAME`` becomes what the program itself says: its commands, settings,
recipes or public names. A block ``{include} FILE`` becomes a file from outside docs/, and links to
such files lead to their pages. On GitHub, where no block is replaced, links lead to the files.
"""

from __future__ import annotations

import importlib
import inspect
import os
import re
from collections.abc import Iterator
from dataclasses import MISSING
from functools import partial
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx

from trainer.cli import app as program
from trainer.commands.words import setting_words
from trainer.recipes import RECIPES
from trainer.settings import (
    DataSettings,
    NetworkSettings,
    TrainingSettings,
    settings_of,
    types_of,
)

DOCS = Path(__file__).resolve().parent.parent
ROOT = DOCS.parent
PROGRAM = "python -m trainer"
# pages whose text stands outside docs/
HOMES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    **{
        f"benchmarks/{file.name}": f"benchmarks/{file.name}"
        for file in ROOT.glob("benchmarks/*.md")
    },
}
KINDS = {
    bool: "True or False",
    str: "text",
    tuple[int, ...]: "several whole numbers",
    tuple[str, ...]: "several texts",
}
_BLOCK = re.compile(r"^```\{(generated|include)\} (\S+)(?: (.+))?\n```$", re.MULTILINE)
_CODE = re.compile(r"^(?P<fence>```+|~~~+).*?^(?P=fence)$|`[^`\n]+`", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\]\(([^)\s#:]+)(#[^)\s]*)?\)")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register what this extension does with Sphinx."""
    app.connect("source-read", filled)
    app.connect("autodoc-skip-member", inherited)
    app.add_html_math_renderer(
        "mathml", (partial(visit_math, block=False), None), (partial(visit_math, block=True), None)
    )
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def inherited(
    app: Sphinx, what: str, name: str, value: Any, skip: bool, options: Any
) -> bool | None:
    """Leave out what scikit-learn adds to every estimator, and describes in its own manual."""
    return True if re.fullmatch(r"set_\w+_request", name) else None


def visit_math(writer: Any, node: nodes.Element, block: bool) -> None:
    """Write a formula as MathML, which browsers draw themselves."""
    writer.body.append(tex2mathml(node.astext(), as_block=block))
    raise nodes.SkipNode


def filled(app: Sphinx, docname: str, source: list[str]) -> None:
    """Replace the blocks of a page, and the links that lead out of docs/."""
    page = DOCS / f"{docname}.md"
    if not page.is_file():
        return  # a notebook
    text = relinked(source[0], page, page.parent)

    def block(match: re.Match[str]) -> str:
        kind, name, argument = match.groups()
        if kind == "generated":
            return "\n".join(GENERATED[name](*([argument] if argument else [])))
        file = (page.parent / name).resolve()
        app.env.note_dependency(str(file))
        return relinked(file.read_text("utf-8"), page, file.parent)

    source[0] = _BLOCK.sub(block, text)


def relinked(text: str, page: Path, home: Path) -> str:
    """Return a text from the folder `home` with links that hold on the site, in `page`."""
    parts, end = [], 0
    for code in _CODE.finditer(text):  # in which nothing is a link
        parts += [_relinked(text[end : code.start()], page, home), code[0]]
        end = code.end()
    return "".join([*parts, _relinked(text[end:], page, home)])


def _relinked(prose: str, page: Path, home: Path) -> str:
    def link(match: re.Match[str]) -> str:
        path, anchor = match[1], match[2] or ""
        target = (home / path).resolve()
        outside = target.relative_to(ROOT).as_posix()
        if outside in HOMES:
            target = DOCS / HOMES[outside]
        elif not target.is_relative_to(DOCS) and target.suffix != ".py":
            return "]"  # a folder, or a file of numbers, has no page
        return f"]({Path(os.path.relpath(target, page.parent)).as_posix()}{anchor})"

    return _LINK.sub(link, prose)


def plain(text: str) -> str:
    """Return a text in which no sign is taken for Markdown, in one line."""
    return re.sub(r"([\\`*_\[\]<>#$|~{}])", r"\\\1", " ".join(text.split()))


# --- what the program says of itself --------------------------------------------------------


def commands() -> Iterator[str]:
    """Describe every command with its options, from the app."""
    for name in program:
        if not name.startswith("-"):
            yield from _command(name)


def _command(name: str) -> Iterator[str]:
    command = program[name]
    text = inspect.cleandoc(command.help).partition("\nParameters\n-------")[0]
    paragraphs = [part for part in text.split("\n\n") if part.strip()]
    yield from (f"## {name}", "")
    yield from (f"```{{program}} {PROGRAM} {name}", "```", "")
    for paragraph in paragraphs:
        if paragraph.startswith("    "):
            yield from ("```console", *inspect.cleandoc(paragraph).splitlines(), "```", "")
        else:
            yield from (plain(paragraph), "")
    groups: dict[str, list[Any]] = {}
    arguments = [a for a in command.assemble_argument_collection(parse_docstring=True) if a.show]
    arguments.sort(key=lambda a: [g.sort_key or 0 for g in a.parameter.group][:1])
    for argument in arguments:
        groups.setdefault(argument.parameter.group[0].name, []).append(argument)
    for title, members in groups.items():
        yield from (f"**{plain(title)}**", "")
        for argument in members:
            yield from _option(argument)


def _option(argument: Any) -> Iterator[str]:
    parameter = argument.parameter
    yield f"```{{option}} {', '.join(argument.names)}{_values(argument)}"
    yield plain(parameter.help or "")
    choices = argument.get_choices() or ()
    if choices:
        yield from ("", f"One of {', '.join(f'`{choice}`' for choice in choices)}.")
    default = argument.field_info.default
    if parameter.show_default is not False and default not in (None, inspect.Parameter.empty, ()):
        yield from ("", f"Default: `{default}`.")
    if argument.required:
        yield from ("", "Required.")
    yield from ("```", "")


def _values(argument: Any) -> str:
    """Return what stands behind an option: the kind of its value."""
    if not argument.names[0].startswith("-") or argument.hint in (bool, bool | None):
        return ""
    if argument.get_choices():
        return " CHOICE"
    kinds = get_args(argument.hint) if get_origin(argument.hint) is UnionType else [argument.hint]
    names = {"int": "N", "float": "X", "Path": "PATH"}
    return f" {names.get(getattr(kinds[0], '__name__', ''), 'TEXT')}"


def settings() -> Iterator[str]:
    """Describe every setting of a network, a training and the data, from their declarations."""
    titles = {
        "The network": NetworkSettings,
        "The training": TrainingSettings,
        "The data": DataSettings,
    }
    for title, cls in titles.items():
        yield from (f"## {title}", "", "| setting | what it is | default | values |")
        yield "| --- | --- | --- | --- |"
        kinds = types_of(cls)
        for name, setting in settings_of(cls).items():
            if setting.choices:
                values = ", ".join(f"`{choice}`" for choice in setting.choices)
            elif setting.range:
                values = setting.range.text
            else:
                values = KINDS[kinds[name]]
            yield f"| `{name}` | {plain(setting.help)} | `{setting.default!r}` | {values} |"
        yield ""


def recipes() -> Iterator[str]:
    """Describe every recipe by what differs from the first, from their declarations."""
    first, *others = RECIPES.values()
    yield from ("| recipe | what it is | settings |", "| --- | --- | --- |")
    network = ", ".join(_differences(first, {}))
    yield f"| `{first.name}` | {plain(first.about)} | {network} |"
    for recipe in others:
        changes = ", ".join(_differences(recipe, first.settings()))
        yield f"| `{recipe.name}` | {plain(recipe.about)} | as `{first.name}`, but {changes} |"
    yield ""


def _differences(recipe: Any, base: dict[str, Any]) -> Iterator[str]:
    for name, value in recipe.settings().items():
        if value != base.get(name, MISSING) and not (not base and value in (None, False, [])):
            yield plain(setting_words(name, value))


def public(package: str) -> Iterator[str]:
    """Describe every public name of a package, from its docstrings: classes first."""
    module = importlib.import_module(package)
    kinds = {"Classes": [], "Exceptions": [], "Functions": [], "Values": []}  # type: dict[str, Any]
    for name in sorted(module.__all__, key=str.lower):
        value = getattr(module, name)
        if not inspect.isclass(value):
            kind = "Functions" if callable(value) else "Values"
        else:
            kind = "Exceptions" if issubclass(value, Exception) else "Classes"
        kinds[kind].append(name)
    for title, names in kinds.items():
        if not names:
            continue
        yield from (f"## {title}", "")
        for name in names:
            value = getattr(module, name)
            yield from (f"### {name}", "", "```{eval-rst}")
            yield f".. currentmodule:: {package}"
            yield ""
            if title in ("Classes", "Exceptions"):
                yield from (f".. autoclass:: {name}", "   :members:", "")
            elif title == "Functions":
                yield from (f".. autofunction:: {name}", "")
            else:
                yield from (f".. py:data:: {name}", f"   :value: {value!r}", "")
            yield from ("```", "")


GENERATED = {"commands": commands, "settings": settings, "recipes": recipes, "public": public}

"""`--config`: the options of `train` from a TOML file, or from the config of a run."""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from cyclopts import App, CycloptsError, Parameter

from ..data import DataError
from ..files import read_plain
from ..recipes import Recipe
from ..running.resuming import started_with
from ..running.run_folder import Run, read_config
from ..running.starting import Basis
from ..running.usage import UsageError, typed
from ..settings import types_of
from ..weight_files import WeightFileError
from .options import given

_TABLES = ("data", "network", "training")  # headings, under which any key may stand
_ONLY_TYPED = ("config", "resume", "json", "quiet")
_LIMIT = 2**63  # of TOML's whole numbers
_MOST_CHARACTERS = 60  # of a wrong value that a message repeats
_EXPECTED = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text in quotes",
    tuple[int, ...]: "whole numbers such as [300, 100]",
    tuple[str, ...]: 'texts such as ["elastic:34,4", "rotate:10"]',
}


@dataclass(frozen=True)
class ConfigFile:
    """What `--config` names: the basis of a training, and what else `train` is told."""

    path: Path | None = None  # None where there is none
    basis: Basis = field(default_factory=Basis)
    others: dict[str, Any] = field(default_factory=dict)  # options that decide no number
    keys: frozenset[str] = frozenset()  # all that are written in it

    @classmethod
    def read(cls, path: Path | None, command: Any) -> ConfigFile:
        """Read a TOML file, a run's config.json or its folder, by the options of `train`.

        Raises
        ------
        UsageError, RunError
            In one line that names the file, and the key or the line that is wrong.
        """
        if path is None:
            return cls()
        path = path.expanduser()
        if path.is_dir():
            return cls._of_run(path / "config.json", Run.open(path).config, command)
        try:
            if path.suffix == ".json":
                return cls._of_run(path, read_config(path), command)
            tables = _tables(path)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise UsageError(
                f"--config {path}: no such file; expected a .toml file, or a run's folder"
            ) from error
        options = _keys(path, tables)
        asked, changes, others = _read(path, options, command)
        return cls(path, Basis(asked, changes), others, frozenset(options))

    @classmethod
    def _of_run(cls, file: Path, config: dict[str, Any], command: Any) -> ConfigFile:
        recipe, options = started_with(file.parent, config)
        settings = {k: v for k, v in recipe.settings().items() if v is not None and k != "data"}
        asked, _, others = _read(file, settings | options, command)
        basis = Basis(asked, run=config, recipe=recipe)
        return cls(file, basis, others, frozenset(settings | options))

    @contextmanager
    def named_in_errors(self, *, besides: Collection[str]) -> Iterator[None]:
        """Name the file in errors on options that stand in it; not those `besides`."""
        try:
            yield
        except UsageError as error:
            options = re.findall(r"--(?:no-)?([a-z][a-z0-9-]*)", str(error))
            names = {option.replace("-", "_") for option in options}
            if self.keys & names - set(besides):
                raise UsageError(f"{self.path}: {error}") from error
            raise
        except (DataError, WeightFileError) as error:
            for name in {"data", "test_data", "init_from"} & self.basis.asked.keys() - set(besides):
                path = Path(self.basis.asked[name])
                if str(path) not in str(error):
                    continue
                beside = (self.path or path).parent / path
                hint = ""
                if beside.exists() and not path.exists():
                    hint = f"; paths are taken from the current folder, so write {_shown(beside)}"
                raise UsageError(f"{self.path}: {name}: {error}{hint}") from error
            raise


def _tables(file: Path) -> dict[str, Any]:
    """Parse a TOML file; OSError if there is none."""
    text = ""
    if file.suffix != ".toml" and file.exists():
        raise UsageError(
            f"--config {file}: expected a .toml file, or a run: its folder or its config.json"
        )
    try:
        text = read_plain(file).decode("utf-8-sig")
        return tomllib.loads(text)
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise UsageError(f"{file}: expected a text in UTF-8, which line {line} is not") from error
    except RecursionError as error:
        raise UsageError(f"{file}: lists or tables in one another, too deep to be read") from error
    except ValueError as error:
        lines = text.split("\n")
        end = f"at line {len(lines)}, column {len(lines[-1]) + 1}"
        raise UsageError(
            f"{file}: {str(error).replace('at end of document', end)}; expected lines such as"
            ' learning_rate = 0.3, shuffle = true, loss = "rashid"'
        ) from error


def _keys(file: Path, tables: dict[str, Any]) -> dict[str, Any]:
    """Return what a file says by the names of the options, whatever tables they stand in."""
    found: dict[str, Any] = {}
    parts = [tables, *(tables[name] for name in _TABLES if isinstance(tables.get(name), dict))]
    for part in parts:
        for key, value in part.items():
            name = key.replace("-", "_")
            if part is tables and key in _TABLES and isinstance(value, dict):
                continue
            if isinstance(value, dict):
                names = ", ".join(f"[{name}]" for name in _TABLES)
                raise UsageError(
                    f"{file}: [{key}]: there is no such table; expected {names}, or keys without"
                )
            if name in found:
                raise UsageError(f"{file}: {key}: is there twice; expected it once")
            found[name] = value
    return found


def _read(
    file: Path, options: dict[str, Any], command: Any
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Read options as the command line does: those that are no settings, settings, and others."""
    app = App(default_parameter=Parameter(json_list=False), help_flags=[], version_flags=[])
    app.default(command)
    arguments = [a for a in app.assemble_argument_collection() if a.name.startswith("--")]
    known = {a.name[2:].replace("-", "_"): a for a in arguments}
    words: list[str] = []
    for name, value in options.items():
        if name in _ONLY_TYPED:
            raise UsageError(f"{file}: {name}: is typed with the command; omit it in the file")
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else "expected an option of train, see: "
            hint += "" if near else "python -m trainer train --help"
            raise UsageError(f"{file}: {_shown(name)[1:-1]}: there is no such key; {hint}")
        kind = types_of(Recipe).get(name) or (get_args(known[name].hint) or [known[name].hint])[0]
        words += _words(file, name, value, kind)
    try:
        _, bound, *_ = app.parse_args(words, exit_on_error=False, print_error=False)
        read = bound.arguments
        changes = given(read.pop("options")) if "options" in read else {}
    except (CycloptsError, UsageError) as error:
        message = " ".join(str(error).split())
        for name in options:
            message = re.sub(rf"{typed(name)}\b(?!-)", name, message)
        raise UsageError(f"{file}: {message}") from error
    asked = given(read.pop("wanted")) if "wanted" in read else {}
    if "patience" in read:
        asked["patience"] = read.pop("patience")
    return asked, changes, read


def _words(file: Path, name: str, value: Any, kind: Any) -> list[str]:
    """Return an option as it is typed; UsageError for a value of another kind."""
    kind = str if kind is Path else kind
    is_list = bool(get_args(kind))
    values = value if is_list and isinstance(value, list) else [value]
    inner = get_args(kind)[0] if is_list else kind
    allowed = {float: (int, float), str: (str, int)}.get(inner, (inner,))
    if is_list and not isinstance(value, list):
        allowed = (*allowed, str)
    if not all(type(v) in allowed for v in values):
        hint = "; what a sweep tries is typed" if isinstance(value, list) and not is_list else ""
        raise UsageError(f"{file}: {name} = {_shown(value)}: expected {_EXPECTED[kind]}{hint}")
    if any(type(v) is int and not -_LIMIT <= v < _LIMIT for v in values):
        raise UsageError(f"{file}: {name}: expected a number below 2⁶³")
    texts = [str(v).lower() if isinstance(v, bool) else str(v) for v in values]
    if kind == tuple[int, ...] and texts:
        texts = [",".join(texts)]
    return [f"{typed(name)}={text}" for text in texts or ["none"]]


def _shown(value: Any) -> str:
    try:
        text = json.dumps(value, default=str, ensure_ascii=False)
    except ValueError:  # Python writes no number of more than 4,300 digits
        text = "…"
    return text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]}…"

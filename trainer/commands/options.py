"""Options that several commands take, each declared once, and those made of the settings."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Group, Parameter
from cyclopts.validators import Number

from ..files import write_whole
from ..running.trained import TrainedRun
from ..running.usage import UsageError
from ..settings import (
    Setting,
    settings_of,
    types_of,
)

WHAT = Group("What to train on", sort_key=1)
RESULT = Group("The result", sort_key=4)


def _whole(type_: Any, tokens: Sequence[Any]) -> int:
    # cyclopts would round 2.6 to 3 without a word
    if not tokens[0].value.strip().lstrip("+-").isdecimal():
        raise ValueError(f'"{tokens[0].value}" is no whole number.')
    return int(tokens[0].value)


WHOLE = Parameter(converter=_whole)
FLAG = Parameter(negative="", show_default=False)

Count = Annotated[int | None, WHOLE, Parameter(validator=Number(gte=1))]
Device = Annotated[
    str,
    Parameter(
        help="auto, cpu, gpu or gpu:N. auto takes a CUDA GPU where one answers, else the CPU."
    ),
]
Json = Annotated[
    bool, FLAG, Parameter(name="--json", help="One JSON object on stdout, nothing else.")
]
JsonEvents = Annotated[
    bool, FLAG, Parameter(name="--json", help="Write one JSON object per event, nothing else.")
]
Show = Annotated[bool, FLAG, Parameter(help="Open a window, where there is one.")]
_RUN_OR_WEIGHTS = Parameter(
    help="A folder that train wrote, such as runs/r1, or one of its checkpoints, such as"
    " runs/r1/checkpoints/best.safetensors; or with --recipe weights of another program's, see"
    " import-weights."
)
RunOrWeights = Annotated[Path, _RUN_OR_WEIGHTS, Parameter(name="RUN")]
RunsOrWeights = Annotated[Path, _RUN_OR_WEIGHTS, Parameter(name="RUNS")]
WeightsRecipe = Annotated[
    str | None,
    Parameter(help="What weights that are no run belong to, see the command recipes."),
]
WeightsData = Annotated[
    str | None,
    Parameter(help="Of weights that are no run: what they are for, as train takes it."),
]
LabelledData = Annotated[
    str | None,
    Parameter(help="Other labelled samples than the run's own test part; as train takes them."),
]
TestData = Annotated[
    str | None, Parameter(help="Test on this instead of a part of --data; same kinds.")
]
INDEX = Parameter(converter=_whole, help="Sample N, from 0, of the run's test part or of --data.")
Index = Annotated[int | None, INDEX]
RunOut = Annotated[
    Path | None,
    Parameter(help="The run's folder, new or empty. [default: the next free name under runs/]"),
]


def figure(name: str) -> Parameter:
    """Return the option for where a run's figure goes."""
    return Parameter(
        help="The figure, a PNG image; replaced if it is there. [default: "
        f"{name} in the run's folder, under figures/]"
    )


def figure_file(trained: TrainedRun, out: Path | None, name: str) -> Path:
    """Find where a PNG image goes: to `out`, else into the run's folder of figures.

    Raises
    ------
    UsageError
        If nothing can be written there; now, not after the work.
    """
    hint = f"name another place with --out {name}"
    if out is None and trained.run is None:  # weights have no folder of their own
        out = Path(name)
    if out is None:
        folder = trained.path / "figures"
        if folder.exists():
            return _checked(folder / name, "", hint)
        _checked(folder, "", hint)
        return folder / name
    return png_file(out, name)


def png_file(out: Path, name: str) -> Path:
    """Return where --out says that a PNG image goes.

    Raises
    ------
    UsageError
        If nothing can be written there, or the name is none such as `name`.
    """
    out = out.expanduser()
    if out.suffix.lower() != ".png":
        raise UsageError(f"--out {out}: a PNG image is written; expected a name such as {name}")
    return _checked(out, "--out ", "expected a file's name in a folder that you may write to")


def _checked(file: Path, option: str, hint: str) -> Path:
    cause = ""
    if file.is_dir():
        cause = "it is a folder"
    elif not file.parent.is_dir():
        is_file = file.parent.exists()
        cause = f"{file.parent} is a file" if is_file else f"there is no folder {file.parent}"
    elif not os.access(file.parent, os.W_OK):
        cause = f"the folder {file.parent} may not be written to"
    if cause:
        raise UsageError(f"{option}{file}: {cause}; {hint}")
    return file


def write_figure(file: Path, content: bytes) -> None:
    """Write a figure whole or not at all; the run's folder of figures is made.

    Raises
    ------
    UsageError
        If it cannot be written.
    """
    try:
        file.parent.mkdir(exist_ok=True)
        write_whole(file, content)
    except OSError as error:
        raise UsageError(
            f"{file}: {error.strerror or error}; name another place with --out {file.name}"
        ) from error


# --- options made of the settings -------------------------------------------------------------


def one_value(groups: dict[type, Group], omit: Sequence[str] = ()) -> type:
    """Make a class whose fields are options for some settings, each None where it is not given.

    Parameters
    ----------
    groups : dict of type to Group
        Classes of `trainer.settings`, and where the help lists their fields.
    omit : sequence of str
        Settings that are no option there.
    """

    def option(name: str, setting: Setting, kind: Any) -> tuple[Any, Parameter]:
        if kind == tuple[int, ...]:
            return str, Parameter()
        if kind == tuple[str, ...]:
            return list[str], Parameter(negative="")
        more: dict[str, Any] = {"choices": tuple(setting.choices)} if setting.choices else {}
        if kind is int:
            more["converter"] = _whole
        limits = setting.range
        if limits is not None:
            low = {"gt" if limits.is_open else "gte": limits.low}
            # far limits are checked, and explained, with the others of the library
            high = {"lt": limits.high} if limits.high <= 1 else {}
            more["validator"] = Number(**low, **high)
        return kind, Parameter(**more)

    return _options("Options", groups, omit, option, lambda name, setting, kind: setting.help)


def values_to_try(groups: dict[type, Group]) -> type:
    """Make a class whose fields are options for the values of some settings that a sweep tries."""

    def text(name: str, setting: Setting, kind: Any) -> tuple[Any, Parameter]:
        return str, Parameter()

    def help_(name: str, setting: Setting, kind: Any) -> str:
        if kind is bool:
            return "yes, no, or both: yes,no."
        if setting.choices:
            return f"Some of {', '.join(setting.choices)}."
        return setting.tried if setting.tried.endswith(".") else f"{setting.tried}, …"

    return _options("ValuesToTry", groups, (), text, help_)


def _options(
    class_name: str, groups: dict[type, Group], omit: Sequence[str], option: Any, help_: Any
) -> type:
    fields: list[Any] = []
    for cls, group in groups.items():
        kinds = types_of(cls)
        for name, setting in settings_of(cls).items():
            if not setting.is_option or name in omit:
                continue
            kind, parameter = option(name, setting, kinds[name])
            described = Parameter(group=group, help=help_(name, setting, kinds[name]))
            fields.append((name, Annotated[kind | None, parameter, described], None))
    return dataclasses.make_dataclass(
        class_name, fields, frozen=True, kw_only=True, namespace={"__module__": __name__}
    )


def given(options: Any) -> dict[str, Any]:
    """Return those options of such a class that were given, as the settings' values.

    Raises
    ------
    UsageError
        If --hidden is no widths.
    """
    values = {name: value for name, value in vars(options).items() if value is not None}
    if "hidden" in values:
        values["hidden"] = widths(values["hidden"])
    if "augment" in values:
        values["augment"] = () if values["augment"] == ["none"] else tuple(values["augment"])
    return values


def counts(option: str, text: str, example: str) -> list[int]:
    """Read whole numbers with commas between them; each once, the smallest first."""
    parts = [part.strip() for part in text.split(",")]
    if not all(map(_is_count, parts)):
        raise UsageError(
            f"{option} {text}: expected whole numbers above 0 and below 10⁹ such as {example}"
        )
    return sorted(set(map(int, parts)))


def widths(text: str) -> tuple[int, ...]:
    """Read the widths of the hidden layers: 200 or 200,100, or none."""
    if text == "none":
        return ()
    parts = [part.strip() for part in text.split(",")]
    if not all(map(_is_count, parts)):
        raise UsageError(
            f"--hidden {text}: expected widths below 10⁹ such as 200 or 200,100, or none"
        )
    return tuple(map(int, parts))


def _is_count(text: str) -> bool:
    # of numbers below 10⁹ NumPy can say at least how much memory their arrays would want
    return text.isdecimal() and len(text) < 10 and int(text) > 0

"""Options that several commands take, each declared once, and those made of the settings."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Group, Parameter
from cyclopts.validators import Number

from ..recipes import Recipe
from ..running.usage import UsageError, typed
from ..settings import NetworkSettings, Setting, settings_of, types_of
from ..sweep import as_text

WHAT = Parameter(group=Group("What to train on", sort_key=1))
NETWORK = Parameter(group=Group("The network (an option given wins over the recipe)", sort_key=2))
TRAINING = Parameter(group=Group("The training (likewise)", sort_key=3))
RESULT = Parameter(group=Group("The result", sort_key=4))


def _whole(type_: Any, tokens: Sequence[Any]) -> int:
    # cyclopts would round 2.6 to 3 without a word
    if not tokens[0].value.strip().lstrip("+-").isdecimal():
        raise ValueError(f'"{tokens[0].value}" is no whole number.')
    return int(tokens[0].value)


WHOLE = Parameter(converter=_whole, validator=Number(gte=0))  # from 0, or from 1
LABEL = Parameter(allow_leading_hyphen=True)  # -1 is the last column
TRANSPOSE = Parameter(
    help="Take images the other way round: rows for columns.", negative="", show_default=False
)
COUNT = Parameter(converter=_whole, validator=Number(gte=1))
INDEX = Parameter(converter=_whole, help="Sample N, from 0, of the run's test part or of --data.")

NO_NEGATIVE = Parameter(negative="", show_default=False)
Flag = Annotated[bool, NO_NEGATIVE]
Source = str | Path  # always a text; that it may be a path is for the completion of files
Device = Annotated[
    str,
    Parameter(
        help="auto, cpu, gpu or gpu:N (or cuda:N). auto takes a CUDA GPU where one answers, else"
        " the CPU."
    ),
]
Json = Annotated[Flag, Parameter(name="--json", help="One JSON object on stdout, nothing else.")]
JsonEvents = Annotated[
    Flag, Parameter(name="--json", help="Write one JSON object per event, nothing else.")
]
Show = Annotated[Flag, Parameter(help="Open a window, where there is one.")]
RunOrWeights = Annotated[
    Path,
    Parameter(
        "RUN",
        help="A folder that train wrote, such as runs/r1, or one of its checkpoints, such as"
        " runs/r1/checkpoints/best.safetensors; or with --recipe weights of another program's, see"
        " import-weights.",
    ),
]
WeightsRecipe = Annotated[
    str | None,
    Parameter(help="What weights that are no run belong to, see the command recipes."),
]
WeightsData = Annotated[
    str | None,
    Parameter(
        help="Of weights that are no run: what they are for, as train takes it. [default: digits as"
        " the recipe's data has them]"
    ),
]
LabelledData = Annotated[
    str | None,
    Parameter(help="Other labelled samples than the run's own test part; as train takes them."),
]
Transpose = Annotated[bool, TRANSPOSE]
RunOut = Annotated[
    Path | None,
    Parameter(help="The run's folder, new or empty. [default: the next free name under runs/]"),
]


def one_value(network: Parameter, training: Parameter | None, omit: Sequence[str] = ()) -> type:
    """Make a class whose fields are options for the settings, each None where it is not given.

    The help lists the network's and the training's in these groups; without a group, a training has
    no options, nor have the settings to `omit`.
    """

    def option(setting: Setting, kind: Any) -> tuple[Any, Parameter]:
        if kind == tuple[int, ...]:
            return str, Parameter(help=setting.help)
        if kind == tuple[str, ...]:
            return list[str], Parameter(help=setting.help, negative="")
        more: dict[str, Any] = {"choices": tuple(setting.choices)} if setting.choices else {}
        if kind is int:
            more["converter"] = _whole
        limits = setting.range
        if limits is not None:
            low = {"gt" if limits.is_open else "gte": limits.low}
            # far limits are checked, and explained, with the others of the library
            high = {"lt": limits.high} if limits.high <= 1 else {}
            more["validator"] = Number(**low, **high)
        return kind, Parameter(help=setting.help, **more)

    return _options(network, training, option, omit)


def values_to_try(network: Parameter, training: Parameter) -> type:
    """Make a class whose fields are options for the values of the settings that a sweep tries."""

    def option(setting: Setting, kind: Any) -> tuple[Any, Parameter]:
        if kind is bool:
            return str, Parameter(help="yes, no, or both: yes,no.")
        if setting.choices:
            return str, Parameter(help=f"Some of {', '.join(setting.choices)}.")
        more = "" if setting.tried.endswith(".") else ", …"
        return str, Parameter(help=f"{setting.tried}{more}")

    return _options(network, training, option)


def _options(
    network: Parameter, training: Parameter | None, option: Any, omit: Sequence[str] = ()
) -> type:
    fields: list[Any] = []
    kinds = types_of(Recipe)
    for name, setting in settings_of(Recipe).items():
        group = network if name in settings_of(NetworkSettings) else training
        if group is not None and setting.is_option and name not in omit:
            kind, parameter = option(setting, kinds[name])
            fields.append((name, Annotated[kind | None, parameter, group], None))
    made = dataclasses.make_dataclass(
        "Options", fields, frozen=True, kw_only=True, namespace={"__module__": __name__}
    )
    return Parameter(name="*")(made)  # its fields are options of their own


def given(options: Any) -> dict[str, Any]:
    """Return those options of such a class that were given, as the settings' values."""
    values = {name: value for name, value in vars(options).items() if value is not None}
    if "hidden" in values:
        expected = "widths below 10⁹ such as 200 or 200,100, or none"
        hidden = values["hidden"]
        values["hidden"] = () if hidden == "none" else tuple(numbers("--hidden", hidden, expected))
    if "augment" in values:
        values["augment"] = () if values["augment"] == ["none"] else tuple(values["augment"])
    return values


def as_words(values: dict[str, Any]) -> list[str]:
    """Return options with these values, as `given` returns them, as words of a command line."""
    words: list[str] = []
    for name, value in values.items():
        if isinstance(value, bool):
            words.append(typed(name if value else f"no_{name}"))
        elif name == "augment":
            words += [word for part in value or ("none",) for word in (typed(name), part)]
        elif isinstance(value, tuple):
            words += [typed(name), ",".join(map(str, value)) or "none"]
        else:
            words += [typed(name), as_text(value)]
    return words


def numbers(option: str, text: str, expected: str) -> list[int]:
    """Read numbers above 0 and below 10⁹ with commas between them; else say what is expected."""
    parts = [part.strip() for part in text.split(",")]
    # of numbers below 10⁹ NumPy can say at least how much memory their arrays would want
    if not all(part.isdecimal() and len(part) < 10 and int(part) > 0 for part in parts):
        raise UsageError(f"{option} {text}: expected {expected}")
    return list(map(int, parts))

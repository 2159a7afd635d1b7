"""Every setting of a network and of a training, declared once: type, default, range and help.

From these dataclasses come the options of the commands, the values that a sweep may try, the
keyword arguments of `fit` and the defaults of `MLP`, recipes, `config.json`, and the checks.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from functools import cache
from numbers import Real
from textwrap import wrap
from types import UnionType
from typing import Any, Self, TypeVar, get_args, get_type_hints

from backends.functions import ACTIVATIONS, LOSSES, OUTPUTS

from .initializers import NAMES as INITIALIZERS

T = TypeVar("T")

BATCH_OPTIMIZERS = ("sgd", "nesterov", "adam", "adamw")
FULL_BATCH_METHODS = ("cg", "tnc", "l-bfgs")  # which see all samples at every step
# losses whose targets are 0 and 1, so that they can be softened
SMOOTHED = tuple(name for name, loss in LOSSES.items() if loss.targets == (0.0, 1.0))


@dataclass(frozen=True)
class Range:
    """The numbers that a setting may have, ``low <= number < high``."""

    text: str  # which they are, for messages
    low: float = 0.0
    high: float = math.inf
    is_open: bool = False  # whether `low` itself is excluded
    is_whole: bool = False  # whether only whole numbers are taken

    def __contains__(self, value: Any) -> bool:
        number: Any = value if isinstance(value, Real) else math.nan
        if not self.low <= number < self.high or (self.is_open and number == self.low):
            return False
        return not self.is_whole or number % 1 == 0


@dataclass(frozen=True)
class Setting:
    """What is known of a field besides its name and type."""

    default: Any  # if it is None, the setting may be None
    help: str = ""  # what the commands' help says of it
    range: Range | None = None
    choices: Collection[str] = ()  # all values that it may have; empty if they cannot be listed
    tried: str = ""  # values that a sweep might try, for the help of `sweep`
    is_option: bool = True  # whether the commands have an option for it


def _setting(default: Any, help: str = "", **more: Any) -> Any:
    return field(default=default, metadata={"setting": Setting(default, help, **more)})


_COUNT = Range("a whole number, one or more", low=1, is_whole=True)
_SIZE = replace(_COUNT, text=f"{_COUNT.text} and below 2³¹", high=2**31)
_NUMBER = Range("a finite number, zero or more")
_POSITIVE = Range("a number above 0", is_open=True)
_FRACTION = Range("a number from 0 to below 1", high=1)


@cache
def settings_of(cls: type) -> dict[str, Setting]:
    """Return the `Setting` of each field of a dataclass, by name, in their order."""
    fields = dataclasses.fields(cls)
    return {f.name: f.metadata["setting"] for f in fields if "setting" in f.metadata}


def _documented(cls: type[T]) -> type[T]:
    """Describe a dataclass' own fields in its docstring, as numpydoc lists them."""
    lines = [cls.__doc__ or "", "", "Attributes", "----------"]
    for name, annotation in cls.__annotations__.items():
        setting = settings_of(cls)[name]  # type: ignore[arg-type]
        kind = f"{{{', '.join(setting.choices)}}}" if setting.choices else annotation
        lines.append(f"{name} : {kind}, default {setting.default!r}")
        lines += wrap(setting.help, 92, initial_indent="    ", subsequent_indent="    ")
    cls.__doc__ = "\n".join(lines)
    return cls


class _Settings:
    """Changes and checks of the dataclasses below."""

    def with_changes(self, changes: dict[str, Any]) -> Self:
        """Return these settings with some changed; raise TypeError for a name that is none."""
        names = [f.name for f in dataclasses.fields(self)]  # type: ignore[arg-type]
        for name in changes:
            if name not in names:
                near = difflib.get_close_matches(name, names, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"expected {', '.join(names)}"
                raise TypeError(f"there is no setting {name!r}: {hint}")
        return replace(self, **changes)  # type: ignore[type-var]

    def check(self) -> None:
        """Raise ValueError, naming what was given and expected, if a field is out of range."""
        for name, setting in settings_of(type(self)).items():  # type: ignore[arg-type]
            check_value(name, setting, getattr(self, name))


@_documented
@dataclass(frozen=True, kw_only=True)
class NetworkSettings(_Settings):
    """What a network is, except its numbers of inputs and classes, which follow from the data."""

    hidden: tuple[int, ...] = _setting(
        (200,),
        "Widths of the hidden layers: 200 or 200,100, or none.",
        tried="50,100,200 are three networks; - joins the layers of one: 200-100,50,none.",
    )
    activation: str = _setting("sigmoid", "Function of the hidden units.", choices=ACTIVATIONS)
    output: str | None = _setting(
        None, "Function of the output units; the loss implies it.", choices=tuple(OUTPUTS)
    )
    loss: str = _setting(
        "rashid",
        "rashid is the lessons' rule, which is no gradient; squared_error is the gradient of the"
        " same loss; cross_entropy takes a softmax output.",
        choices=LOSSES,
    )
    bias: bool = _setting(False, "Whether layers have biases.")
    label_smoothing: float = _setting(
        0.0,
        "ε: targets of ε/k and 1−ε+ε/k for k classes, with a loss whose targets are 0 and 1:"
        f" {' or '.join(SMOOTHED)}.",
        range=_FRACTION,
        tried="0,0.05,0.1",
    )
    init: str = _setting(
        "hidden",
        f"Initial weights: {', '.join(INITIALIZERS)}, the last for ±R.",
        tried=f"Some of {', '.join(INITIALIZERS)}.",
    )
    l2: float = _setting(0.0, "λ of the penalty λ/(2m) ΣW².", range=_NUMBER, tried="0,0.1,1")
    dtype: str = _setting(
        "float32", "Type of the weights and the arithmetic.", choices=("float32", "float64")
    )


@_documented
@dataclass(frozen=True, kw_only=True)
class TrainingSettings(_Settings):
    """How a network is trained. For `fit` the learning rate may also be a callable."""

    epochs: int = _setting(
        5,
        "How many times each training sample is learned.",
        range=_COUNT,
        tried="1:10:1, or just one number.",
    )
    batch_size: int = _setting(
        1,
        "Samples per update. A batch steps by learning rate × mean gradient, so raise the rate with"
        " the batch.",
        range=_SIZE,
        tried="1,8,64",
    )
    learning_rate: float = _setting(
        0.1,
        "Size of a step. With adam or adamw and none given, 0.001.",
        range=_NUMBER,
        tried="0.1:0.9:0.1 or 0.001,0.003,0.01.",
    )
    optimizer: str = _setting(
        "sgd",
        "How to update the weights: sgd, nesterov, adam and adamw by batches; cg, tnc and l-bfgs by"
        " all samples at once.",
        choices=(*BATCH_OPTIMIZERS, *FULL_BATCH_METHODS),
    )
    max_iterations: int = _setting(
        50,
        "How many iterations cg, tnc and l-bfgs make at most. They take no other option of the"
        " training.",
        range=_COUNT,
        tried="With cg, tnc and l-bfgs: 50,100",
    )
    momentum: float = _setting(
        0.0, "μ of sgd's and nesterov's velocity.", range=_FRACTION, tried="0,0.5,0.9"
    )
    weight_decay: float = _setting(
        0.0,
        "With adamw, each update takes rate × decay of the weights away. With adamw and none given,"
        " 0.01.",
        range=_NUMBER,
        tried="With adamw: 0,0.01,0.1",
    )
    clip: float | None = _setting(
        None,
        "Scale the gradients of a batch so that their norm is at most this.",
        range=_POSITIVE,
        tried="Largest norms of gradients: 0.1,1",
    )
    averaging: float = _setting(
        0.0,
        "β of a moving average of the weights, such as 0.999, which is what is evaluated and kept;"
        " with batches.",
        range=_FRACTION,
        tried="0,0.99,0.999",
    )
    dropout: float = _setting(
        0.0,
        "Probability with which a hidden unit is dropped while a sample is learned: 0.5.",
        range=_FRACTION,
        tried="Of hidden units: 0,0.2,0.5",
    )
    input_dropout: float = _setting(
        0.0,
        "Probability with which an input is dropped while a sample is learned: 0.2.",
        range=_FRACTION,
        tried="Of inputs: 0,0.1,0.2",
    )
    batch_norm: bool = _setting(
        False,
        "Normalise the hidden layers' sums over each batch; with --bias. What is kept is a plain"
        " network, with the normalisation folded into its weights.",
    )
    schedule: str = _setting(
        "constant",
        "How the learning rate changes: constant, cosine (to 0), one-cycle, or step:FACTOR/EPOCHS.",
        tried="constant,cosine,one-cycle.",
    )
    warmup: float = _setting(
        0.0,
        "The first fraction of all updates, in which the rate rises from 0: 0.05.",
        range=_FRACTION,
        tried="0,0.05,0.1",
    )
    shuffle: bool = _setting(False, "Draw a new order every epoch, or keep the file's own.")
    shuffle_window: int | None = _setting(
        None,
        "Of data in shards, how many samples are shuffled together and in memory, twice, at a time;"
        " with --shuffle. If none is given, as many as take 32 to 64 MiB.",
        range=_SIZE,
        tried="Of data in shards: 4096,65536",
    )
    sampling: str = _setting(
        "epochs",
        "Learn every sample once an epoch, or draw each from all samples anew.",
        choices=("epochs", "with-replacement"),
    )
    steps: int | None = _setting(
        None,
        "Updates, in place of epochs, with --sampling with-replacement.",
        range=_COUNT,
        tried="1000,10000",
    )

    @property
    def sees_all_samples(self) -> bool:
        """Return whether the optimiser sees all samples at every step."""
        return self.optimizer in FULL_BATCH_METHODS

    @property
    def rate_changes(self) -> bool:
        """Return whether the learning rate of an update depends on how many there will be."""
        return self.schedule != "constant" or self.warmup > 0

    def check(self) -> None:
        """Raise ValueError if a field is out of range, or does not go with another."""
        super().check()
        adams = self.optimizer in ("adam", "adamw")
        if self.momentum and adams:
            raise ValueError(
                f"momentum={self.momentum} goes with optimizer='sgd'; adam has its own"
            )
        if self.optimizer == "nesterov" and not self.momentum:
            raise ValueError("optimizer='nesterov' needs a momentum: take momentum=0.9")
        if self.weight_decay and self.optimizer != "adamw":
            given = f"weight_decay={self.weight_decay} goes with optimizer='adamw'"
            raise ValueError(given if adams else f"{given}; sgd takes l2=1")
        for name in ("averaging", "batch_norm"):
            if getattr(self, name) and self.batch_size == 1:
                given = f"{name}={getattr(self, name)}"
                raise ValueError(f"{given} goes with batches: take batch_size=32 or more")
        if self.shuffle_window is not None and not self.shuffle:
            raise ValueError(f"shuffle_window={self.shuffle_window} goes with shuffle=True")
        if self.steps is not None and self.sampling == "epochs":
            raise ValueError(f"steps={self.steps}: only with sampling='with-replacement'")
        if callable(self.learning_rate) and self.rate_changes:
            raise ValueError("a callable learning_rate takes neither schedule nor warmup")


@_documented
@dataclass(frozen=True, kw_only=True)
class EstimatorSettings(TrainingSettings):
    """A training as scikit-learn's `MLPClassifier` trains, for `trainer.MLPClassifier`."""

    alpha: float = _setting(
        0.0,
        "α of the penalty α/(2b) ΣW² of every batch, b being the sum of its samples' weights, which"
        " without any is how many they are.",
        range=_NUMBER,
    )
    beta_1: float = _setting(0.9, "β₁ of adam.", range=_FRACTION)
    beta_2: float = _setting(0.999, "β₂ of adam.", range=_FRACTION)
    epsilon: float = _setting(
        1e-8, "ε of adam, scaled as `backends.Rule.scales_epsilon` says.", range=_POSITIVE
    )


@_documented
@dataclass(frozen=True, kw_only=True)
class DataSettings(_Settings):
    """How the data is prepared for the network."""

    limit: int | None = _setting(
        None,
        "Only the first N training samples; a number as large as the data's takes all.",
        range=_COUNT,
        tried="100,1000",
    )
    inputs: str = _setting(
        "scaled",
        "What the inputs are mapped to: the data's range to 0.01…1 (scaled) or to -1…1 (symmetric);"
        " each to mean 0 and deviation 1 (standardised), as columns of numbers always are where"
        " nothing is given; or pixels to 0…1 (unit).",
        choices=("scaled", "symmetric", "standardised", "unit"),
    )
    augment: tuple[str, ...] = _setting(
        (),
        "copies:10 trains on each image and on two copies of it, turned by ±10 degrees. Anew each"
        " epoch, deform images with elastic:ALPHA,SIGMA (elastic:34,4), rotate:DEGREES,"
        " scale:PERCENT, shear:DEGREES, shift:PIXELS, each at most so much; for several, several"
        " times --augment; none, for none of the recipe's.",
        tried="none,copies:10,elastic:34,4, … as train takes them; + joins those of one run:"
        " elastic:34,4+rotate:10.",
    )
    class_weight: str = _setting(
        "none",
        "balanced weighs a sample by n / (k count), of n samples and k classes with so many each: a"
        " rare class counts as much as a frequent one. With batches.",
        choices=("none", "balanced"),
    )


@cache
def types_of(cls: type) -> dict[str, Any]:
    """Return the type of each field of a dataclass, by name, without the None it may be."""
    hints = get_type_hints(cls)
    named = {name: hints[name] for name in settings_of(cls)}
    return {n: get_args(t)[0] if isinstance(t, UnionType) else t for n, t in named.items()}


def check_value(name: str, setting: Setting, value: Any) -> None:
    """Raise ValueError unless a setting may have this value."""
    if value is None and setting.default is None:
        return
    if setting.choices and value not in setting.choices:
        raise ValueError(f"{name}={value!r} is unknown: expected {' or '.join(setting.choices)}")
    is_schedule = name == "learning_rate" and callable(value)
    if setting.range is not None and not is_schedule and value not in setting.range:
        given = repr(value) if isinstance(value, str) else value  # whose quotes say what is wrong
        raise ValueError(f"{name}={given}: expected {setting.range.text}")


def unused_by(optimizer: str) -> tuple[str, ...]:
    """Return the names of the settings that an optimiser does not use."""
    if optimizer not in FULL_BATCH_METHODS:
        return ("max_iterations",)
    used = ("optimizer", "max_iterations")
    unused = [name for name in settings_of(TrainingSettings) if name not in used]
    return (*unused, "class_weight")

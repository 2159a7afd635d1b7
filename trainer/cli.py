"""The commands and their options; nothing else."""

from __future__ import annotations

import difflib
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, CycloptsError, Group, Parameter
from cyclopts.exceptions import UnusedCliTokensError
from cyclopts.validators import Number

from backends import MATMULS, BackendUnavailable, memory_shortage
from backends.functions import ACTIVATIONS, LOSSES, OUTPUTS

from . import __version__, display
from .benchmarking import BATCH_SIZES, HIDDEN
from .commands import UsageError, bench, devices, evaluate, predict, recipes, train
from .data import DataError
from .network import DTYPES
from .optimizers import OPTIMIZERS
from .runs import RunError
from .weight_files import WeightFileError

app = App(
    name="python -m trainer",
    help="""Train a neural network on NumPy or CuPy, from scratch and fast.

Without a command it trains, on MNIST if that can be had and else on scikit-learn's 8×8 digits.
Start here:

    python -m trainer                            train, with everything by default

    python -m trainer --device gpu --epochs 10   the same code on a CUDA GPU

    python -m trainer --data digits              needs no network connection

    python -m trainer predict runs/r1            see the trained network answer

    python -m trainer bench                      measure which device pays from which batch on

    python -m trainer COMMAND --help             what a command takes
""",
    version=__version__,
    suppress_keyboard_interrupt=False,
)
_WHAT = Group("What to train on", sort_key=1)
_NETWORK = Group("The network (an option given wins over the recipe)", sort_key=2)
_TRAINING = Group("The training (likewise)", sort_key=3)
_RESULT = Group("The result", sort_key=4)

_Device = Annotated[
    str,
    Parameter(
        help="auto, cpu, gpu or gpu:N. auto takes a CUDA GPU where one answers, else the CPU."
    ),
]


def _whole(type_: Any, tokens: Sequence[Any]) -> int:
    # cyclopts would round 2.6 to 3 without a word
    if not tokens[0].value.strip().lstrip("+-").isdecimal():
        raise ValueError(f'"{tokens[0].value}" is no whole number.')
    return int(tokens[0].value)


def _widths(text: str) -> tuple[int, ...]:
    if text == "none":
        return ()
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) for part in parts):
        raise UsageError(f"--hidden {text}: expected widths such as 200 or 200,100, or none")
    return tuple(map(int, parts))


def _counts(option: str, text: str, example: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) for part in parts):
        raise UsageError(f"{option} {text}: expected whole numbers above 0 such as {example}")
    return sorted(set(map(int, parts)))


@app.default
@app.command(name="train")
def train_command(
    *,
    device: Annotated[_Device, Parameter(group=_WHAT)] = "auto",
    data: Annotated[
        str,
        Parameter(
            group=_WHAT,
            help="auto (MNIST, else digits), mnist, digits, or a path: a folder of IDX files, a CSV"
            " (label first), a folder with a train and a test CSV, an .npz, a .mat, or a folder"
            " with one sub-folder of images a class.",
        ),
    ] = "auto",
    test_data: Annotated[
        str | None,
        Parameter(group=_WHAT, help="Test on this instead of a part of --data; same kinds."),
    ] = None,
    recipe: Annotated[
        str | None,
        Parameter(
            group=_WHAT,
            help="Named settings, see the command recipes. [default: digits for the 8×8 digits,"
            " else rashid]",
        ),
    ] = None,
    limit: Annotated[
        int | None,
        Parameter(
            converter=_whole,
            group=_WHAT,
            help="Only the first N training samples.",
            validator=Number(gte=1),
        ),
    ] = None,
    validation: Annotated[
        int,
        Parameter(
            converter=_whole,
            group=_WHAT,
            help="Hold N training samples out (before --limit) and report accuracy on them too.",
            validator=Number(gte=0),
        ),
    ] = 0,
    hidden: Annotated[
        str | None,
        Parameter(group=_NETWORK, help="Widths of the hidden layers: 200 or 200,100, or none."),
    ] = None,
    activation: Annotated[
        str | None,
        Parameter(choices=tuple(ACTIVATIONS), group=_NETWORK, help="Of the hidden layers."),
    ] = None,
    output: Annotated[
        str | None,
        Parameter(choices=tuple(OUTPUTS), group=_NETWORK, help="Implied by the loss."),
    ] = None,
    loss: Annotated[
        str | None,
        Parameter(
            choices=tuple(LOSSES),
            group=_NETWORK,
            help="rashid is the lessons' rule, which is no gradient; squared_error is the gradient"
            " of the same loss; cross_entropy takes a softmax output.",
        ),
    ] = None,
    bias: Annotated[
        bool | None, Parameter(group=_NETWORK, help="Whether layers have biases.")
    ] = None,
    init: Annotated[
        str | None,
        Parameter(
            group=_NETWORK, help="Initial weights: hidden, fan_in, glorot, he, or uniform:R for ±R."
        ),
    ] = None,
    l2: Annotated[
        float | None,
        Parameter(group=_NETWORK, help="λ of the penalty λ/(2m) ΣW².", validator=Number(gte=0)),
    ] = None,
    dtype: Annotated[
        str | None,
        Parameter(choices=DTYPES, group=_NETWORK, help="Of weights and arithmetic."),
    ] = None,
    matmul: Annotated[
        str,
        Parameter(
            choices=MATMULS,
            group=_NETWORK,
            help="What a GPU rounds the factors of float32 matrix products to, in batches and"
            " answers; sums are float32.",
        ),
    ] = "float32",
    epochs: Annotated[
        int | None,
        Parameter(
            converter=_whole, group=_TRAINING, help="Times over the data.", validator=Number(gte=1)
        ),
    ] = None,
    batch_size: Annotated[
        int | None,
        Parameter(
            converter=_whole,
            group=_TRAINING,
            help="Samples an update. A batch steps by learning rate × mean gradient, so raise the"
            " rate with the batch.",
            validator=Number(gte=1),
        ),
    ] = None,
    learning_rate: Annotated[
        float | None,
        Parameter(
            group=_TRAINING, help="With adam and none given, 0.001.", validator=Number(gte=0)
        ),
    ] = None,
    optimizer: Annotated[
        str | None, Parameter(choices=tuple(OPTIMIZERS), group=_TRAINING, help="How to step.")
    ] = None,
    momentum: Annotated[
        float | None,
        Parameter(group=_TRAINING, help="μ of sgd's velocity.", validator=Number(gte=0, lt=1)),
    ] = None,
    shuffle: Annotated[
        bool | None,
        Parameter(group=_TRAINING, help="A new order every epoch, or the file's own."),
    ] = None,
    seed: Annotated[
        int,
        Parameter(
            converter=_whole,
            group=_TRAINING,
            help="Of weights and order, the same on every device.",
            validator=Number(gte=0),
        ),
    ] = 0,
    out: Annotated[
        Path | None,
        Parameter(
            group=_RESULT,
            help="The run's folder, new or empty. [default: the next free name under runs/]",
        ),
    ] = None,
    json: Annotated[
        bool,
        Parameter(
            group=_RESULT,
            negative="",
            show_default=False,
            help="One JSON object an event on stdout, nothing else.",
        ),
    ] = False,
    quiet: Annotated[
        bool,
        Parameter(group=_RESULT, negative="", show_default=False, help="Nothing but errors."),
    ] = False,
) -> int:
    """Train a network and keep it in a run folder (the default command)."""
    if json and quiet:
        raise UsageError("--json and --quiet exclude each other: --json prints nothing else anyway")
    options = {
        "hidden": None if hidden is None else _widths(hidden),
        "activation": activation,
        "output": output,
        "loss": loss,
        "bias": bias,
        "init": init,
        "l2": l2,
        "dtype": dtype,
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "optimizer": optimizer,
        "momentum": momentum,
        "shuffle": shuffle,
    }
    return train.run(
        device=device,
        matmul=matmul,
        data=data,
        test_data=test_data,
        recipe=recipe,
        changes={name: value for name, value in options.items() if value is not None},
        seed=seed,
        limit=limit,
        validation=validation,
        out=out,
        as_json=json,
        quiet=quiet,
    )


_RunFolder = Annotated[Path, Parameter(help="A folder that train wrote, such as runs/r1.")]


@app.command(name="evaluate")
def evaluate_command(
    run: _RunFolder,
    /,
    *,
    data: Annotated[
        str | None,
        Parameter(help="Other labelled samples than the run's own test part; as train takes them."),
    ] = None,
    device: _Device = "auto",
) -> int:
    """Test a run: accuracy, confusion matrix, precision, recall and F1."""
    return evaluate.run(run, device=device, data=data)


@app.command(name="predict")
def predict_command(
    run: _RunFolder,
    /,
    *images: Annotated[
        Path,
        Parameter(
            help="Pictures of digits, any size and kind, dark on light or light on dark; they are"
            " cut out, scaled and centred as MNIST's were."
        ),
    ],
    index: Annotated[
        int | None,
        Parameter(converter=_whole, help="Sample N, from 0, of the run's test part or of --data."),
    ] = None,
    data: Annotated[
        str | None,
        Parameter(help="Samples with or without labels: a CSV, an IDX file, or what train takes."),
    ] = None,
    out: Annotated[
        Path | None, Parameter(help="Write the answers to all of --data into this CSV file.")
    ] = None,
    device: _Device = "auto",
) -> int:
    """Show what a run answers, to a test sample, to your own pictures or to a whole file."""
    return predict.run(run, images, device=device, data=data, index=index, out=out)


@app.command(name="bench")
def bench_command(
    *,
    device: Annotated[
        str,
        Parameter(help="all, cpu, gpu or gpu:N. all is the CPU and every CUDA GPU that answers."),
    ] = "all",
    data: Annotated[
        str, Parameter(help="auto (MNIST, else digits), or what else train takes.")
    ] = "auto",
    hidden: Annotated[
        str, Parameter(help="Hidden units; each is a network of its own with one hidden layer.")
    ] = ",".join(map(str, HIDDEN)),
    batch_size: Annotated[
        str, Parameter(help="Batch sizes, up to the number of training samples.")
    ] = ",".join(map(str, BATCH_SIZES)),
    seconds: Annotated[
        float,
        Parameter(
            help="Begin no round that would end later, but make three at least and nine at most.",
            validator=Number(gt=0),
        ),
    ] = 60.0,
    out: Annotated[
        Path, Parameter(help="The figure, a PNG image; replaced if it is there.")
    ] = Path("bench.png"),
    json: Annotated[
        bool,
        Parameter(
            negative="",
            show_default=False,
            help="One JSON object an event on stdout, nothing else; the figure is drawn too.",
        ),
    ] = False,
) -> int:
    """Measure which device pays from which batch size on, on this machine.

    Every device trains every network at every batch size, in turns, again and again. First all
    must arrive at the same weights. samples/s is the median, GFLOP/s counts forward, backward and
    gradients, % matmul compares it with the device's own matrix products. Ctrl-C ends it with
    what has been measured.

    To look quickly: python -m trainer bench --hidden 200 --seconds 10
    """
    return bench.run(
        device=device,
        data=data,
        hidden=_counts("--hidden", hidden, "200 or 50,200,800"),
        batch_sizes=_counts("--batch-size", batch_size, "128 or 1,32,128"),
        seconds=seconds,
        out=out,
        as_json=json,
    )


@app.command(name="recipes")
def recipes_command() -> int:
    """List every recipe with all its settings."""
    return recipes.run()


@app.command(name="devices")
def devices_command() -> int:
    """List the CPU, every GPU, and what is missing for one."""
    return devices.run()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line.

    Returns
    -------
    int
        The exit code: 0, 1 for a training that failed, 2 for a mistake in what was asked, 130
        after Ctrl-C.
    """
    for stream in (sys.stdout, sys.stderr):
        # a terminal or pipe that has no → or █ gets a ? instead of ending the program
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        code = app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
        return code or 0
    except CycloptsError as error:
        display.error(_explain(error))
        return 2
    except (UsageError, DataError, RunError, WeightFileError, BackendUnavailable) as error:
        display.error(str(error))
        return 2
    except KeyboardInterrupt:
        display.error("stopped by Ctrl-C")
        return 130
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except MemoryError as error:
        display.error(
            f"this does not fit into memory ({memory_shortage(error)}); lower --hidden,"
            " --batch-size or --limit"
        )
        return 1
    except OSError as error:
        display.error(f"{error.filename or 'the system'}: {error.strerror or error}")
        return 1


def _explain(error: CycloptsError) -> str:
    command = " ".join(["python -m trainer", *(error.command_chain or ())])
    if isinstance(error, UnusedCliTokensError) and error.unused_tokens:
        given = error.unused_tokens[0]
        names = [name for name in app if not name.startswith("-")]
        near = difflib.get_close_matches(given, names, n=1)
        if error.command_chain:
            hint = "options begin with --."
        elif given in names:
            hint = f"the command comes first: {command} {given} …."
        elif near:
            hint = f"did you mean {near[0]}?"
        elif Path(given).exists():
            hint = f"to train on it: {command} --data {given}."
        else:
            hint = f"the commands are {', '.join(names)}."
        return f'"{given}" is not expected here: {hint} See: {command} --help'
    return f"{' '.join(str(error).split())} See: {command} --help"

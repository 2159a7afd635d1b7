"""The commands and their options; nothing else."""

from __future__ import annotations

import difflib
import io
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
from .commands import (
    UsageError,
    backquery,
    bench,
    devices,
    evaluate,
    export,
    gradcheck,
    import_weights,
    inspect,
    plot,
    predict,
    recipes,
    sweep,
    train,
    weights,
)
from .commands.keeping import DEFAULT_INTERVAL
from .data import DataError
from .gradients import PARAMETERS, SAMPLES, STEP
from .initializers import NAMES as INITIALIZERS
from .runs import RunError
from .settings import BATCH_OPTIMIZERS as OPTIMIZERS
from .settings import DTYPES, SAMPLINGS, SMOOTHED
from .settings import FULL_BATCH_METHODS as METHODS
from .weight_files import FORMATS, WeightFileError

app = App(
    name="python -m trainer",
    help="""Train a neural network on NumPy or CuPy, from scratch and fast.

Without a command it trains, on MNIST if that can be had and else on scikit-learn's 8×8 digits.
Start here:

    python -m trainer                            train, with everything by default

    python -m trainer --device gpu --epochs 10   the same code on a CUDA GPU

    python -m trainer --data digits              needs no network connection

    python -m trainer train --resume runs/r1     go on where Ctrl-C, or a power cut, has ended it

    python -m trainer predict runs/r1            see the trained network answer

    python -m trainer inspect runs/r1            follow one sample through it

    python -m trainer bench                      measure which device pays from which batch on

    python -m trainer sweep --learning-rate 0.1:0.9:0.1     try them all, side by side

    python -m trainer COMMAND --help             what a command takes
""",
    version=__version__,
    suppress_keyboard_interrupt=False,
    default_parameter=Parameter(json_list=False),  # a run may be named [1]
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


def _is_count(text: str) -> bool:
    # of numbers below 10⁹ NumPy can say at least how much memory their arrays would want
    return text.isdecimal() and len(text) < 10 and int(text) > 0


def _widths(text: str) -> tuple[int, ...]:
    if text == "none":
        return ()
    parts = [part.strip() for part in text.split(",")]
    if not all(map(_is_count, parts)):
        raise UsageError(
            f"--hidden {text}: expected widths below 10⁹ such as 200 or 200,100, or none"
        )
    return tuple(map(int, parts))


def _counts(option: str, text: str, example: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    if not all(map(_is_count, parts)):
        raise UsageError(
            f"{option} {text}: expected whole numbers above 0 and below 10⁹ such as {example}"
        )
    return sorted(set(map(int, parts)))


@app.default
@app.command(name="train")
def train_command(
    *,
    device: Annotated[
        str | None,
        Parameter(
            group=_WHAT,
            help="auto, cpu, gpu or gpu:N. auto takes a CUDA GPU where one answers, else the CPU."
            " [default: auto, or the resumed run's]",
        ),
    ] = None,
    data: Annotated[
        str | None,
        Parameter(
            group=_WHAT,
            help="auto (MNIST, else digits), mnist, digits, ex4 (5,000 of MNIST's images cut to"
            " 20×20; ex4:PATH of others), or a path: a folder of IDX files, a CSV (label first, a"
            " whole number or a word), a folder with a train and a test CSV, an .npz, a .mat, or a"
            " folder with one sub-folder of images a class. [default: auto]",
        ),
    ] = None,
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
        int | None,
        Parameter(
            converter=_whole,
            group=_WHAT,
            help="Hold N training samples out (before --limit), report accuracy on them too, and"
            " keep the checkpoint that is best by it.",
            validator=Number(gte=0),
        ),
    ] = None,
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
    label_smoothing: Annotated[
        float | None,
        Parameter(
            group=_NETWORK,
            help="ε: targets of ε/k and 1−ε+ε/k for k classes, with a loss whose targets are 0 and"
            f" 1: {' or '.join(SMOOTHED)}.",
            validator=Number(gte=0, lt=1),
        ),
    ] = None,
    init: Annotated[
        str | None,
        Parameter(
            group=_NETWORK, help=f"Initial weights: {', '.join(INITIALIZERS)}, the last for ±R."
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
        str | None,
        Parameter(
            choices=MATMULS,
            group=_NETWORK,
            help="What a GPU rounds the factors of float32 matrix products to, in batches and"
            " answers; sums are float32. [default: float32]",
        ),
    ] = None,
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
        str | None,
        Parameter(
            choices=(*OPTIMIZERS, *METHODS),
            group=_TRAINING,
            help="How to step: by batches, or with cg, tnc and l-bfgs by all samples at once.",
        ),
    ] = None,
    max_iterations: Annotated[
        int | None,
        Parameter(
            converter=_whole,
            group=_TRAINING,
            help="Of cg, tnc and l-bfgs; the other options of the training are not theirs.",
            validator=Number(gte=1),
        ),
    ] = None,
    momentum: Annotated[
        float | None,
        Parameter(
            group=_TRAINING,
            help="μ of sgd's and nesterov's velocity.",
            validator=Number(gte=0, lt=1),
        ),
    ] = None,
    weight_decay: Annotated[
        float | None,
        Parameter(
            group=_TRAINING,
            help="Of adamw: with every update the weights lose rate × decay of themselves. With"
            " adamw and none given, 0.01.",
            validator=Number(gte=0),
        ),
    ] = None,
    clip: Annotated[
        float | None,
        Parameter(
            group=_TRAINING,
            help="Scale the gradients of a batch so that their norm is at most this.",
            validator=Number(gt=0),
        ),
    ] = None,
    averaging: Annotated[
        float | None,
        Parameter(
            group=_TRAINING,
            help="β of a moving average of the weights, such as 0.999, which is what is evaluated"
            " and kept; with batches.",
            validator=Number(gte=0, lt=1),
        ),
    ] = None,
    dropout: Annotated[
        float | None,
        Parameter(
            group=_TRAINING,
            help="Probability with which a hidden unit is dropped while a sample is learned: 0.5.",
            validator=Number(gte=0, lt=1),
        ),
    ] = None,
    input_dropout: Annotated[
        float | None,
        Parameter(group=_TRAINING, help="Likewise an input: 0.2.", validator=Number(gte=0, lt=1)),
    ] = None,
    batch_norm: Annotated[
        bool | None,
        Parameter(
            group=_TRAINING,
            help="Normalise the hidden layers' sums over each batch; with --bias. What is kept is a"
            " plain network, with the normalisation folded into its weights.",
        ),
    ] = None,
    schedule: Annotated[
        str | None,
        Parameter(
            group=_TRAINING,
            help="How the learning rate changes: constant, cosine (to 0), one-cycle, or"
            " step:FACTOR/EPOCHS.",
        ),
    ] = None,
    warmup: Annotated[
        float | None,
        Parameter(
            group=_TRAINING,
            help="The share of all updates in which the rate rises from 0 first: 0.05.",
            validator=Number(gte=0, lt=1),
        ),
    ] = None,
    shuffle: Annotated[
        bool | None,
        Parameter(group=_TRAINING, help="A new order every epoch, or the file's own."),
    ] = None,
    sampling: Annotated[
        str | None,
        Parameter(
            choices=SAMPLINGS,
            group=_TRAINING,
            help="Every sample once an epoch, or each drawn from all, some again before others.",
        ),
    ] = None,
    steps: Annotated[
        int | None,
        Parameter(
            converter=_whole,
            group=_TRAINING,
            help="Updates, in place of epochs, with --sampling with-replacement.",
            validator=Number(gte=1),
        ),
    ] = None,
    patience: Annotated[
        int | None,
        Parameter(
            converter=_whole,
            group=_TRAINING,
            help="End when accuracy on the held-out samples (--validation) has not risen for N"
            " epochs, and keep the best epoch's weights.",
            validator=Number(gte=1),
        ),
    ] = None,
    augment: Annotated[
        list[str] | None,
        Parameter(
            group=_TRAINING,
            negative="",
            help="copies:10 trains on each image and on two copies of it, turned by ±10 degrees."
            " Anew each epoch, deform images with elastic:ALPHA,SIGMA (elastic:34,4),"
            " rotate:DEGREES, scale:PERCENT, shear:DEGREES, shift:PIXELS, each at most so much;"
            " for several, several times --augment; none, for none of the recipe's.",
        ),
    ] = None,
    init_from: Annotated[
        Path | None,
        Parameter(
            group=_TRAINING,
            help="Start with the weights of a run or of a file, see import-weights; hidden layers"
            " and biases are theirs.",
        ),
    ] = None,
    seed: Annotated[
        int | None,
        Parameter(
            converter=_whole,
            group=_TRAINING,
            help="Of weights and order, the same on every device. [default: 0]",
            validator=Number(gte=0),
        ),
    ] = None,
    resume: Annotated[
        Path | None,
        Parameter(
            group=_RESULT,
            help="Go on with the run in this folder where its newest whole checkpoint stands, to"
            " the same bits as if it had never stopped. It needs no other option; --epochs may be"
            " more than they were, or fewer, unless a --schedule follows from them.",
        ),
    ] = None,
    checkpoint_every: Annotated[
        str | None,
        Parameter(
            group=_RESULT,
            help="Write all that --resume needs every so many epochs (3), or every so often (30s,"
            " 5m, 1h), besides at the end and when Ctrl-C, SIGTERM or SIGHUP ends it; the last"
            f" three are kept. [default: {DEFAULT_INTERVAL}, or the resumed run's]",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        Parameter(
            group=_RESULT,
            help="The run's folder, new or empty. [default: the next free name under runs/]",
        ),
    ] = None,
    figures: Annotated[
        bool,
        Parameter(
            group=_RESULT,
            negative="",
            show_default=False,
            help="Draw loss and accuracy by epoch into the run's folder, figures/curves.png, and"
            " images as --augment deforms them, figures/deformed.png.",
        ),
    ] = False,
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
        "label_smoothing": label_smoothing,
        "bias": bias,
        "init": init,
        "l2": l2,
        "dtype": dtype,
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "optimizer": optimizer,
        "momentum": momentum,
        "weight_decay": weight_decay,
        "clip": clip,
        "averaging": averaging,
        "dropout": dropout,
        "input_dropout": input_dropout,
        "batch_norm": batch_norm,
        "schedule": schedule,
        "warmup": warmup,
        "shuffle": shuffle,
        "sampling": sampling,
        "steps": steps,
        "max_iterations": max_iterations,
        "augment": None if augment is None else () if augment == ["none"] else tuple(augment),
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
        patience=patience,
        init_from=init_from,
        figures=figures,
        checkpoint_every=checkpoint_every,
        resume=resume,
    )


_RunFolder = Annotated[Path, Parameter(help="A folder that train wrote, such as runs/r1.")]


_Json = Annotated[
    bool,
    Parameter(negative="", show_default=False, help="One JSON object on stdout, nothing else."),
]
_Show = Annotated[
    bool, Parameter(negative="", show_default=False, help="Open a window, where there is one.")
]
_RunOrWeights = Annotated[
    Path,
    Parameter(
        help="A folder that train wrote, such as runs/r1, or one of its checkpoints, such as"
        " runs/r1/checkpoints/best.safetensors; or with --recipe weights of another program's, see"
        " import-weights."
    ),
]
_WeightsRecipe = Annotated[
    str | None,
    Parameter(help="What weights that are no run belong to, see the command recipes."),
]


@app.command(name="evaluate")
def evaluate_command(
    *runs: _RunOrWeights,
    data: Annotated[
        str | None,
        Parameter(help="Other labelled samples than the run's own test part; as train takes them."),
    ] = None,
    recipe: _WeightsRecipe = None,
    device: _Device = "auto",
    figures: Annotated[
        bool,
        Parameter(
            negative="",
            show_default=False,
            help="Draw the confusion matrix and the mistakes, the surest of many, into the run's"
            " folder, under figures/.",
        ),
    ] = False,
    show: _Show = False,
    json: _Json = False,
) -> int:
    """Test a run: accuracy, confusion matrix, precision, recall and F1.

    Several runs answer together: their outputs are averaged, a committee (Cireşan et al. 2010).
    """
    if not runs:
        raise UsageError(
            "evaluate: no run is named; type for instance: python -m trainer evaluate runs/r1"
        )
    return evaluate.run(
        runs, device=device, data=data, recipe=recipe, draw=figures, show=show, as_json=json
    )


@app.command(name="plot")
def plot_command(
    *runs: Annotated[Path, Parameter(help="One or several folders that train wrote.")],
    out: Annotated[
        Path | None,
        Parameter(
            help="The figure, a PNG image; replaced if it is there. [default: figures/curves.png in"
            " the folder of a single run, else curves.png]"
        ),
    ] = None,
    show: _Show = False,
    json: _Json = False,
) -> int:
    """Draw loss and accuracy by epoch, of several runs over each other."""
    if not runs:
        raise UsageError("plot: no run is named; type for instance: python -m trainer plot runs/r1")
    return plot.run(runs, out=out, as_json=json, show=show)


@app.command(name="import-weights")
def import_weights_command(
    *files: Annotated[
        Path,
        Parameter(
            help="Two or more .npy or .csv files, one a matrix, in either order; or an .npz, .mat"
            " or .safetensors file; or a folder of one of these."
        ),
    ],
    recipe: Annotated[
        str | None,
        Parameter(
            help="What the units compute and how inputs are scaled, see the command recipes."
        ),
    ] = None,
    data: Annotated[
        str | None,
        Parameter(help="What the weights are for, as train takes it. [default: the recipe's]"),
    ] = None,
    test_data: Annotated[
        str | None, Parameter(help="Test on this instead of a part of --data; same kinds.")
    ] = None,
    transposed: Annotated[
        bool | None,
        Parameter(
            show_default=False,
            help="Whether a row is a unit, as in the lessons. Found out, where shapes tell.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        Parameter(help="The run's folder, new or empty. [default: the next free name under runs/]"),
    ] = None,
    device: _Device = "auto",
    json: _Json = False,
) -> int:
    """Make a run of weights that another program has trained.

    The lesson's pair, Ng's Theta1 and Theta2, arrays W1, b1, W2, …: which is which and which way
    round it is stored is found out by the shapes. Nothing is ever unpickled.

    python -m trainer import-weights wih.npy who.npy --recipe book --data mnist
    """
    if not files:
        raise UsageError(
            "import-weights: no file is named; type for instance: python -m trainer import-weights"
            " wih.npy who.npy --recipe book"
        )
    return import_weights.run(
        files,
        recipe=recipe,
        data=data,
        test_data=test_data,
        transposed=transposed,
        out=out,
        device=device,
        as_json=json,
    )


@app.command(name="export")
def export_command(
    run: _RunFolder,
    /,
    *,
    format: Annotated[
        str,
        Parameter(
            choices=FORMATS,
            help="npz: W1, b1, …; npy-pair: the lesson's weights.npy and weights02.npy; mat:"
            " Theta1, Theta2, …; csv: a file a matrix.",
        ),
    ] = "npz",
    out: Annotated[
        Path | None,
        Parameter(
            help="The file, replaced if it is there; for npy-pair and csv a folder, new or empty."
            " [default: weights.npz, weights.mat or weights]"
        ),
    ] = None,
    json: _Json = False,
) -> int:
    """Write a run's weights into files that other programs read."""
    return export.run(run, format=format, out=out, as_json=json)


@app.command(name="predict")
def predict_command(
    run: _RunOrWeights,
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
    recipe: _WeightsRecipe = None,
    device: _Device = "auto",
) -> int:
    """Show what a run answers, to a test sample, to your own pictures or to a whole file."""
    return predict.run(run, images, device=device, data=data, index=index, out=out, recipe=recipe)


_WeightsData = Annotated[
    str | None,
    Parameter(help="Of weights that are no run: what they are for, as train takes it."),
]


def _figure(name: str) -> Parameter:
    return Parameter(
        help="The figure, a PNG image; replaced if it is there. [default: "
        f"{name} in the run's folder, under figures/]"
    )


@app.command(name="inspect")
def inspect_command(
    run: _RunOrWeights,
    /,
    *,
    index: Annotated[
        int,
        Parameter(converter=_whole, help="Sample N, from 0, of the run's test part or of --data."),
    ] = 0,
    untrained: Annotated[
        bool,
        Parameter(
            negative="",
            show_default=False,
            help="Take fresh weights, drawn by the run's own init and seed.",
        ),
    ] = False,
    data: Annotated[
        str | None,
        Parameter(help="Other labelled samples than the run's own test part; as train takes them."),
    ] = None,
    recipe: _WeightsRecipe = None,
    out: Annotated[Path | None, _figure("inspect-N.png")] = None,
    show: _Show = False,
    json: _Json = False,
    device: _Device = "auto",
) -> int:
    """Follow one sample through a run's network, its error back, and one update by it.

    Every stage is a table and a row of figures: the sample, what goes into each layer and comes
    out, the errors and how they are split, the weights before and after. The figures become a PNG
    image, and beside it a PDF with a page a stage. The run's own weights are not changed.

    python -m trainer inspect runs/r1 --index 7

    python -m trainer inspect runs/r1 --index 7 --untrained
    """
    return inspect.run(
        run,
        index=index,
        fresh=untrained,
        device=device,
        data=data,
        recipe=recipe,
        out=out,
        show=show,
        as_json=json,
    )


@app.command(name="backquery")
def backquery_command(
    run: _RunOrWeights,
    /,
    *,
    label: Annotated[
        tuple[str, ...],
        Parameter(
            negative="",
            show_default=False,
            help="Only this class; again for another. [default: all of them]",
        ),
    ] = (),
    data: _WeightsData = None,
    recipe: _WeightsRecipe = None,
    out: Annotated[Path | None, _figure("backquery.png")] = None,
    show: _Show = False,
    json: _Json = False,
    device: _Device = "auto",
) -> int:
    """Run a network backwards: give it a label and see what it takes that to look like.

    The targets go backwards through each layer's activation and weights down to the inputs, and
    are rescaled to 0.01…0.99 on the way, as in the third part of Rashid's book. The last columns
    of the table are what the network answers to its own picture, asked forwards.

    python -m trainer backquery runs/r1

    python -m trainer backquery runs/r1 --label 3 --label 8
    """
    return backquery.run(
        run,
        labels=label,
        device=device,
        data=data,
        recipe=recipe,
        out=out,
        show=show,
        as_json=json,
    )


@app.command(name="weights")
def weights_command(
    run: _RunOrWeights,
    /,
    *,
    units: Annotated[
        str | None,
        Parameter(help="Only these units of the first layer: 0,5,10-19. [default: all of them]"),
    ] = None,
    data: _WeightsData = None,
    recipe: _WeightsRecipe = None,
    out: Annotated[Path | None, _figure("weights.png")] = None,
    show: _Show = False,
    json: _Json = False,
    device: _Device = "auto",
) -> int:
    """Draw what each unit of the first layer looks at: its incoming weights as an image.

    Grey is 0; black and white are minus and plus the unit's own largest weight.

    python -m trainer weights runs/r1

    python -m trainer weights runs/r1 --units 0,5,10-19
    """
    return weights.run(
        run,
        units=units,
        device=device,
        data=data,
        recipe=recipe,
        out=out,
        show=show,
        as_json=json,
    )


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


_SWEPT_NETWORK = Group("The network, all of them values to try", sort_key=2)
_SWEPT_TRAINING = Group("The training, likewise", sort_key=3)


@app.command(name="sweep")
def sweep_command(
    *,
    device: Annotated[
        str | None,
        Parameter(
            group=_WHAT,
            help="auto, cpu, gpu or gpu:N; a GPU takes one run after the other. [default: auto]",
        ),
    ] = None,
    data: Annotated[
        str | None, Parameter(group=_WHAT, help="What train takes. [default: auto]")
    ] = None,
    test_data: Annotated[str | None, Parameter(group=_WHAT, help="Likewise, to test on.")] = None,
    recipe: Annotated[
        str | None, Parameter(group=_WHAT, help="What is trained where no option says otherwise.")
    ] = None,
    limit: Annotated[
        str | None, Parameter(group=_WHAT, help="Only the first N training samples: 100,1000.")
    ] = None,
    augment: Annotated[
        str | None,
        Parameter(
            group=_WHAT,
            help="none,copies:10,elastic:34,4, … as train takes them; + joins those of one run:"
            " elastic:34,4+rotate:10.",
        ),
    ] = None,
    validation: Annotated[
        int,
        Parameter(
            converter=_whole,
            group=_WHAT,
            help="Hold N training samples out (before --limit) and rank by them; else the test"
            " samples rank.",
            validator=Number(gte=0),
        ),
    ] = 0,
    hidden: Annotated[
        str | None,
        Parameter(
            group=_SWEPT_NETWORK,
            help="50,100,200 are three networks; - joins the layers of one: 200-100,50,none.",
        ),
    ] = None,
    activation: Annotated[
        str | None, Parameter(group=_SWEPT_NETWORK, help=f"Some of {', '.join(ACTIVATIONS)}.")
    ] = None,
    output: Annotated[
        str | None, Parameter(group=_SWEPT_NETWORK, help=f"Some of {', '.join(OUTPUTS)}.")
    ] = None,
    loss: Annotated[
        str | None, Parameter(group=_SWEPT_NETWORK, help=f"Some of {', '.join(LOSSES)}.")
    ] = None,
    bias: Annotated[
        str | None, Parameter(group=_SWEPT_NETWORK, help="yes, no, or both: yes,no.")
    ] = None,
    label_smoothing: Annotated[
        str | None,
        Parameter(group=_SWEPT_NETWORK, help=f"0,0.05,0.1, …, with {' or '.join(SMOOTHED)}."),
    ] = None,
    init: Annotated[
        str | None,
        Parameter(group=_SWEPT_NETWORK, help=f"Some of {', '.join(INITIALIZERS)}."),
    ] = None,
    l2: Annotated[str | None, Parameter(group=_SWEPT_NETWORK, help="0,0.1,1, …")] = None,
    dtype: Annotated[
        str | None, Parameter(group=_SWEPT_NETWORK, help=f"Some of {', '.join(DTYPES)}.")
    ] = None,
    epochs: Annotated[
        str | None, Parameter(group=_SWEPT_TRAINING, help="1:10:1, or just one number.")
    ] = None,
    batch_size: Annotated[str | None, Parameter(group=_SWEPT_TRAINING, help="1,8,64, …")] = None,
    learning_rate: Annotated[
        str | None, Parameter(group=_SWEPT_TRAINING, help="0.1:0.9:0.1 or 0.001,0.003,0.01.")
    ] = None,
    optimizer: Annotated[
        str | None,
        Parameter(group=_SWEPT_TRAINING, help=f"Some of {', '.join([*OPTIMIZERS, *METHODS])}."),
    ] = None,
    max_iterations: Annotated[
        str | None, Parameter(group=_SWEPT_TRAINING, help="Of cg, tnc and l-bfgs: 50,100, …")
    ] = None,
    momentum: Annotated[str | None, Parameter(group=_SWEPT_TRAINING, help="0,0.5,0.9, …")] = None,
    weight_decay: Annotated[
        str | None, Parameter(group=_SWEPT_TRAINING, help="Of adamw: 0,0.01,0.1, …")
    ] = None,
    clip: Annotated[
        str | None, Parameter(group=_SWEPT_TRAINING, help="Largest norms of gradients: 0.1,1, …")
    ] = None,
    averaging: Annotated[
        str | None, Parameter(group=_SWEPT_TRAINING, help="0,0.99,0.999, …")
    ] = None,
    dropout: Annotated[
        str | None, Parameter(group=_SWEPT_TRAINING, help="Of hidden units: 0,0.2,0.5, …")
    ] = None,
    input_dropout: Annotated[
        str | None, Parameter(group=_SWEPT_TRAINING, help="Of inputs: 0,0.1,0.2, …")
    ] = None,
    batch_norm: Annotated[
        str | None, Parameter(group=_SWEPT_TRAINING, help="yes, no, or both: yes,no.")
    ] = None,
    schedule: Annotated[
        str | None, Parameter(group=_SWEPT_TRAINING, help="constant,cosine,one-cycle.")
    ] = None,
    warmup: Annotated[str | None, Parameter(group=_SWEPT_TRAINING, help="0,0.05,0.1, …")] = None,
    shuffle: Annotated[
        str | None, Parameter(group=_SWEPT_TRAINING, help="yes, no, or both: yes,no.")
    ] = None,
    sampling: Annotated[
        str | None, Parameter(group=_SWEPT_TRAINING, help=f"Some of {', '.join(SAMPLINGS)}.")
    ] = None,
    steps: Annotated[str | None, Parameter(group=_SWEPT_TRAINING, help="1000,10000, …")] = None,
    seeds: Annotated[
        int | None,
        Parameter(
            converter=_whole,
            group=_SWEPT_TRAINING,
            help="Train everything with seeds 0 to N−1; means and deviations are over them.",
            validator=Number(gte=1),
        ),
    ] = None,
    seed: Annotated[
        str | None, Parameter(group=_SWEPT_TRAINING, help="Or with these: 7,8,9. [default: 0]")
    ] = None,
    jobs: Annotated[
        int | None,
        Parameter(
            converter=_whole,
            group=_RESULT,
            help="Runs at a time, each in a process with its share of the cores. [default: one a"
            " core]",
            validator=Number(gte=1),
        ),
    ] = None,
    out: Annotated[
        Path | None,
        Parameter(
            group=_RESULT,
            help="The sweep's folder, new or empty: sweep.csv with a line a run, sweep.png,"
            " config.json. [default: the next free name under sweeps/]",
        ),
    ] = None,
    resume: Annotated[
        Path | None,
        Parameter(
            group=_RESULT,
            help="Go on with the sweep in this folder; it needs no other option.",
        ),
    ] = None,
    show: Annotated[
        bool,
        Parameter(
            group=_RESULT, negative="", show_default=False, help="Open the figure in a window."
        ),
    ] = False,
    json: Annotated[
        bool,
        Parameter(
            group=_RESULT,
            negative="",
            show_default=False,
            help="One JSON object an event on stdout, nothing else.",
        ),
    ] = False,
) -> int:
    """Train a recipe with every combination of some options, side by side, and rank them.

    Every option of the network and of the training takes one value or several: 0.001,0.003,0.01,
    or a range of numbers as start:stop:step with both ends in it, as in 0.1:0.9:0.1. Several
    options with several values are a grid. Ctrl-C ends it; --resume goes on.

    The book's curve: python -m trainer sweep --recipe book --learning-rate 0.1:0.9:0.1 --epochs 1
    """
    options = {
        "limit": limit,
        "augment": augment,
        "hidden": hidden,
        "activation": activation,
        "output": output,
        "loss": loss,
        "label_smoothing": label_smoothing,
        "bias": bias,
        "init": init,
        "l2": l2,
        "dtype": dtype,
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "optimizer": optimizer,
        "max_iterations": max_iterations,
        "momentum": momentum,
        "weight_decay": weight_decay,
        "clip": clip,
        "averaging": averaging,
        "dropout": dropout,
        "input_dropout": input_dropout,
        "batch_norm": batch_norm,
        "schedule": schedule,
        "warmup": warmup,
        "shuffle": shuffle,
        "sampling": sampling,
        "steps": steps,
        "seed": seed,
    }
    return sweep.run(
        device=device,
        data=data,
        test_data=test_data,
        recipe=recipe,
        options={name: text for name, text in options.items() if text is not None},
        seeds=seeds,
        validation=validation,
        jobs=jobs,
        out=out,
        resume=resume,
        as_json=json,
        show=show,
    )


_CHECKED = Group("What to check", sort_key=1)
_CHECKED_NETWORK = Group("The network of a recipe (an option given wins)", sort_key=2)
_CHECK = Group("The check", sort_key=3)


@app.command(name="gradcheck")
def gradcheck_command(
    run: Annotated[
        Path | None,
        Parameter(group=_CHECKED, help="A folder that train wrote; without, a recipe is checked."),
    ] = None,
    /,
    *,
    recipe: Annotated[
        str | None,
        Parameter(group=_CHECKED, help="See the command recipes. [default: rashid, or the data's]"),
    ] = None,
    data: Annotated[
        str | None,
        Parameter(
            group=_CHECKED,
            help="Draw the samples from this, as train takes it. [default: the run's test part, or"
            " random numbers in the shape of the recipe's data]",
        ),
    ] = None,
    device: Annotated[_Device, Parameter(group=_CHECKED)] = "auto",
    hidden: Annotated[
        str | None, Parameter(group=_CHECKED_NETWORK, help="200 or 200,100, or none.")
    ] = None,
    activation: Annotated[
        str | None, Parameter(choices=tuple(ACTIVATIONS), group=_CHECKED_NETWORK)
    ] = None,
    output: Annotated[str | None, Parameter(choices=tuple(OUTPUTS), group=_CHECKED_NETWORK)] = None,
    loss: Annotated[str | None, Parameter(choices=tuple(LOSSES), group=_CHECKED_NETWORK)] = None,
    label_smoothing: Annotated[
        float | None, Parameter(group=_CHECKED_NETWORK, validator=Number(gte=0, lt=1))
    ] = None,
    bias: Annotated[bool | None, Parameter(group=_CHECKED_NETWORK)] = None,
    init: Annotated[
        str | None,
        Parameter(group=_CHECKED_NETWORK, help=f"One of {', '.join(INITIALIZERS)}."),
    ] = None,
    l2: Annotated[float | None, Parameter(group=_CHECKED_NETWORK, validator=Number(gte=0))] = None,
    samples: Annotated[
        int,
        Parameter(
            converter=_whole,
            group=_CHECK,
            help="The loss is the mean of so many.",
            validator=Number(gte=1),
        ),
    ] = SAMPLES,
    parameters: Annotated[
        int,
        Parameter(
            converter=_whole,
            group=_CHECK,
            help="Vary so many numbers of each array, drawn at random.",
            validator=Number(gte=1),
        ),
    ] = PARAMETERS,
    all: Annotated[
        bool,
        Parameter(
            group=_CHECK,
            negative="",
            show_default=False,
            help="Vary every number; twice the loss for each.",
        ),
    ] = False,
    step: Annotated[
        float,
        Parameter(group=_CHECK, help="Of the differences.", validator=Number(gt=0, lt=1)),
    ] = STEP,
    seed: Annotated[
        int,
        Parameter(
            converter=_whole,
            group=_CHECK,
            help="Of a recipe's weights, and of what is drawn.",
            validator=Number(gte=0),
        ),
    ] = 0,
    json: Annotated[_Json, Parameter(group=_CHECK)] = False,
) -> int:
    """Check the gradient against differences of the loss, in float64 (Ng's exercise 4).

    The table has ‖a−n‖ / max(‖a‖, ‖n‖) of every array of weights, a being what back-propagation
    computes and n the slopes (loss(w+h) − loss(w−h)) / 2h. Below 1e-6 it is a gradient. The exit
    code is 0 if it is where it should be: everywhere, but for the hidden layers of rashid, whose
    rule is none there.
    """
    options = {
        "hidden": None if hidden is None else _widths(hidden),
        "activation": activation,
        "output": output,
        "loss": loss,
        "label_smoothing": label_smoothing,
        "bias": bias,
        "init": init,
        "l2": l2,
    }
    return gradcheck.run(
        run,
        device=device,
        recipe=recipe,
        data=data,
        changes={name: value for name, value in options.items() if value is not None},
        seed=seed,
        samples=samples,
        parameters=None if all else parameters,
        step=step,
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
        display.abandon_stdout()
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

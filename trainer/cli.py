"""The app: its commands, exit codes, and one line for each error; no options."""

from __future__ import annotations

import difflib
import io
import shlex
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from cyclopts import App, CycloptsError, Parameter
from cyclopts.exceptions import MissingArgumentError, UnusedCliTokensError

from backends import memory_shortage

from . import __version__, display
from .commands import completion, train
from .commands.ending import MISTAKES
from .commands.ranked import refusal
from .data.loading import NAMES
from .parallel import RankLost, launched, launched_index
from .recipes import RECIPES
from .running.run_folder import newest_run
from .running.usage import UsageError

app = App(
    name="python -m trainer",
    help="""Train a neural network on NumPy or CuPy, from scratch and fast.

Without a command it trains on MNIST, or on scikit-learn's 8×8 digits if MNIST cannot be downloaded.
Start here:

    python -m trainer                            train, with everything by default
    python -m trainer --device gpu --epochs 10   the same code on a CUDA GPU
    python -m trainer --data digits              needs no network connection
    python -m trainer train --resume runs/r1     continue an interrupted run
    python -m trainer predict runs/r1            see the trained network answer
    python -m trainer predict runs/r1 my_4.png   have it read your own handwriting
    python -m trainer demo runs/r1               draw a digit, and watch it read
    python -m trainer inspect runs/r1            follow one sample through it
    python -m trainer bench                      measure which device is faster
    python -m trainer sweep --batch-size 1,8,64  train with each, and compare
    python -m trainer lr-find --optimizer adam   find a learning rate for it
    python -m trainer COMMAND --help             what a command takes
    xptrainer --install-completion               Tab completes commands, options
""",
    version=__version__,
    suppress_keyboard_interrupt=False,
    default_parameter=Parameter(json_list=False),  # a run may be named [1]
)
_TRAINING = ("train", "sweep", "lr-find")  # commands that take a recipe and --config
_COMMANDS = [
    "train",
    "evaluate",
    "augment",
    "plot",
    "import-weights",
    "export",
    "demo",
    "report",
    "watch",
    "predict",
    "inspect",
    "backquery",
    "weights",
    "bench",
    "sweep",
    "lr-find",
    "gradcheck",
    "recipes",
    "devices",
]
app.default(train.run)
for _name in _COMMANDS:
    app.command(import_module(f"trainer.commands.{_name.replace('-', '_')}").run, name=_name)
app.command(completion.command(app), name="--install-completion", show=False)


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
    typed = list(sys.argv[1:] if arguments is None else arguments)
    is_first = launched() == 1 or launched_index() == 0
    if not is_first:
        display.abandon_stdout()

    def mistake(message: str, code: int = 2) -> int:
        """All of several processes have made it; the first tells, before mpirun ends it."""
        if is_first:
            display.error(message)
        return code if is_first else 0

    try:
        if launched() > 1 and typed and typed[0] in _COMMANDS[1:]:
            raise UsageError(refusal(typed[0], launched()))
        code = app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
        return code or 0
    except CycloptsError as error:
        return mistake(_explain(error))
    except MISTAKES as error:
        return mistake(str(error))
    except RankLost as error:
        mistake(str(error))
        return 1
    except KeyboardInterrupt:
        return mistake("stopped by Ctrl-C", 130)
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
        hint = _hint(given, error.command_chain or (), command)
        return f'"{given}" is not expected here: {hint} See: {command} --help'
    if isinstance(error, MissingArgumentError) and "RUN" in str(error):
        run = newest_run()
        hint = "type for instance" if run else "make one with: python -m trainer; then"
        return f"no run is named; {hint}: {command} {run or 'runs/r1'}. See: {command} --help"
    return f"{' '.join(str(error).split())} See: {command} --help"


def _hint(given: str, chain: Sequence[str], command: str) -> str:
    """Return what to type where a word stood that no command takes there."""
    quoted, near = shlex.quote(given), difflib.get_close_matches(given, _COMMANDS, n=1)
    if not chain and given in _COMMANDS:
        return f"the command comes first: {command} {given} …."
    if not chain or chain[0] in _TRAINING:
        if Path(given, "config.json").is_file():
            goes_on, anew = f"python -m trainer train --resume {quoted}", f"--config {quoted}"
            tests = f"python -m trainer evaluate {quoted}"
            return (
                f"to go on with this run: {goes_on}; anew: {command} {anew}; to test it: {tests}."
            )
        if given.endswith(".toml"):
            return f"for its options: {command} --config {quoted}."
    if (not chain or chain[0] in (*_TRAINING, "bench")) and (
        given in NAMES or Path(given).exists()
    ):
        return f"to train on it: {command} --data {quoted}."
    if given in RECIPES and (not chain or chain[0] in _TRAINING):
        return f"to train by this recipe: {command} --recipe {given}."
    if chain:
        return "options begin with --."
    return f"did you mean {near[0]}?" if near else f"the commands are {', '.join(_COMMANDS)}."

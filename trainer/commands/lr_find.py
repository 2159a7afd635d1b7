"""`lr-find`: the learning rate to begin with, by one short training with a rising rate."""

from __future__ import annotations

import shlex
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Group, Parameter
from cyclopts.validators import Number

from .. import display
from ..rate_search import HIGHEST, LOWEST, RateSearch, conclude, find_learning_rate
from ..running.starting import Job, new_training
from ..running.usage import UsageError, usage_errors
from ..training import Diverged
from .config_file import ConfigFile
from .figure_files import checked_file, save
from .options import (
    NETWORK,
    RESULT,
    TRAINING,
    WHAT,
    Device,
    Flag,
    JsonEvents,
    as_words,
    given,
    one_value,
)
from .train import Wanted
from .train import run as train
from .words import device_words, network_words, samples_words

_FIGURE = "lr-find.png"
_RATE = Parameter(validator=Number(gt=0), group=Group("The search", sort_key=3.5))
# what the search sets itself, and what only methods without a rate take
_OMITTED = ("epochs", "steps", "learning_rate", "schedule", "warmup", "max_iterations")
_Options: Any = one_value(NETWORK, TRAINING, omit=_OMITTED)


def run(
    *,
    config: Annotated[Path | None, WHAT] = None,
    device: Annotated[Device | None, WHAT] = None,
    options: _Options = _Options(),  # noqa: B008
    wanted: Wanted = Wanted(),  # noqa: B008
    lowest: Annotated[float, _RATE] = LOWEST,
    highest: Annotated[float, _RATE] = HIGHEST,
    out: Annotated[Path, RESULT] = Path(_FIGURE),
    as_json: Annotated[JsonEvents, RESULT] = False,
    quiet: Annotated[Flag, RESULT] = False,
) -> int:
    """Find a learning rate, by one short training in which it rises until the loss diverges.

    It shows the training loss against the rate, suggests the rate at which the loss stopped
    falling, and prints the command that trains with it. It takes the options of train, except those
    of the rate and of how long to train, and keeps no weights. The exit code is 1 if there is no
    rate to suggest.

        python -m trainer lr-find --batch-size 64
        python -m trainer lr-find --data digits --optimizer adam

    Parameters
    ----------
    config
        What is trained where no option says otherwise, as train takes it: a TOML file or a run.
    lowest
        The first rate.
    highest
        The last rate, unless the loss diverges before.
    out
        The figure, a PNG image, or by its suffix SVG or PDF; replaced if it is there.
    quiet
        Nothing but errors; the figure is drawn.
    """
    if as_json and quiet:
        raise UsageError("--json and --quiet exclude each other: --json prints nothing else anyway")
    if not lowest < highest:
        raise UsageError(f"--lowest {lowest:g} --highest {highest:g}: expected the lower one first")
    asked, changes = given(wanted), given(options)
    out = checked_file(out, _FIGURE)
    with closing(display.choose_view(as_json=as_json, quiet=quiet)) as view:
        file = ConfigFile.read(config, train)
        typed = asked | ({} if device is None else {"device": device}) | changes
        with file.named_in_errors(besides=typed):
            chosen = device or file.others.get("device", "auto")
            job, started = new_training(view, chosen, asked, changes, file.basis)
        if job.training is None:
            raise UsageError(
                f"--optimizer {job.recipe.optimizer} finds its steps by itself and takes no"
                " learning rate; take --optimizer sgd, nesterov, adam or adamw"
            )
        facts = _facts(job, started)
        view.start(facts, started)
        try:
            with usage_errors():
                result = find_learning_rate(
                    job.model,
                    job.data.train_x,
                    job.data.train_y,
                    job.recipe,
                    lowest=lowest,
                    highest=highest,
                    seed=started["seed"],
                    deformation=job.deformation,
                    on_progress=view.progress,
                )
        except Diverged as error:
            view.failed(str(error), {})
            display.error(str(error))
            return 1
        view.rate_search(result)
        _draw(out, result, ", ".join(facts[name] for name in ("data", "network", "recipe")))
        lines = [conclude(result), f"figure:  {out}"]
        named = ({} if config is None else {"config": config}) | typed
        command = None
        if result.suggestion is not None:
            command = _command("python -m trainer", named | {"learning_rate": result.suggestion})
            lines.append(f"train:   {command}")
        elif result.has_fallen or (result.diverged is not None and lowest > LOWEST):
            is_high = result.turn < len(result.rates) / 2
            low, high = (lowest / 1e4, highest) if is_high else (lowest, 100 * highest)
            more = {"lowest": low, "highest": high}
            lines.append(f"next:    {_command('python -m trainer lr-find', named | more)}")
        view.end(lines, display.as_json(result) | {"command": command, "figure": str(out)})
        return 0 if command is not None else 1


def _command(program: str, options: dict[str, Any]) -> str:
    return " ".join([program, *map(shlex.quote, as_words(options))])


def _facts(job: Job, config: dict[str, Any]) -> dict[str, str]:
    """What is searched for what, a line each."""
    recipe = job.recipe
    return {
        "device": device_words(job.model.backend),
        "data": samples_words(config["data"]),
        "network": network_words(job.model),
        "recipe": f"{recipe.name}: loss {recipe.loss}, {recipe.optimizer}, batch"
        f" {recipe.batch_size}, seed {config['seed']}",
    }


def _draw(out: Path, result: RateSearch, caption: str) -> None:
    from .. import figures  # matplotlib takes its time to import

    save(out, figures.rate_search(result, title=conclude(result), caption=caption))

"""`import-weights`: a run folder made of weights that another program has trained."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from .. import display
from ..running.foreign_weights import describe_input_map, files_of, open_weights
from ..running.run_folder import Run, check_free
from ..running.starting import config_of
from ..running.usage import UsageError
from ..settings import DataSettings, NetworkSettings, settings_of
from .next_steps import next_commands
from .options import Device, Json, RunOut, Transpose
from .words import network_words, samples_words

_SETTING = settings_of(DataSettings)["inputs"]
_FUNCTION = settings_of(NetworkSettings)["activation"]
_ACTIVATION = Parameter(
    choices=tuple(_FUNCTION.choices),
    help=f"Where the files do not say it. {_FUNCTION.help} [default: the recipe's]",
)
_INPUTS = Parameter(
    choices=tuple(_SETTING.choices),
    help=f"Where the files do not say it. {_SETTING.help} [default: the recipe's]",
)


def run(
    *paths: Annotated[Path, Parameter("FILES")],
    recipe: str | None = None,
    data: str | None = None,
    test_data: str | None = None,
    transpose: Transpose = False,
    transposed: Annotated[bool | None, Parameter(show_default=False)] = None,
    inputs: Annotated[str | None, _INPUTS] = None,
    activation: Annotated[str | None, _ACTIVATION] = None,
    out: RunOut = None,
    device: Device = "auto",
    as_json: Json = False,
) -> int:
    """Make a run of weights that another program has trained.

    The lesson's pair, Ng's Theta1 and Theta2, arrays W1, b1, W2, …: which is which and which way
    round it is stored is found out by the shapes. A PyTorch state dict, saved as safetensors, and
    an ONNX model of a plain perceptron are read too. Nothing is ever unpickled.

        python -m trainer import-weights wih.npy who.npy --recipe book
        python -m trainer import-weights model.onnx --inputs unit

    Parameters
    ----------
    paths
        Two or more .npy or .csv files, one a matrix, in either order; or an .npz, .mat,
        .safetensors or .onnx file; or a folder of one of these.
    recipe
        What the units compute and how inputs are scaled, see the command recipes; what the files
        say themselves is taken from them.
    data
        What the weights are for, as train takes it. Without it that follows from the recipe, and
        no data is needed before the run is tested.
    test_data
        Test on this instead of a part of --data; same kinds.
    transposed
        Whether a row is a unit, as in the lessons. Found out, where shapes tell.
    """
    if not paths:
        raise UsageError(
            "import-weights: no file is named; type for instance: python -m trainer import-weights"
            " wih.npy who.npy --recipe book"
        )
    out = check_free(out)
    files = files_of([path.expanduser() for path in paths])
    model, chosen, dataset = open_weights(
        files,
        recipe,
        device,
        data,
        test_data,
        transposed=transposed,
        transpose=transpose,
        inputs=inputs,
        activation=activation,
    )
    if dataset.note:
        display.note(dataset.note)
    config = config_of(chosen, dataset, 0, model.seed or 0, model)
    sources = [str(file.absolute()) for file in files]
    folder = Run.start(out, config | {"weights_of": sources})
    model.save(folder.model_file)
    folder.close()
    if as_json:
        display.json_line({"run": str(folder.path), "files": sources, "network": model.settings()})
    else:
        first, *others = next_commands(folder.path, config["data"])
        display.facts(
            {
                "weights": ", ".join(map(str, files)),
                "network": f"{network_words(model)}, {model.dtype}",
                "recipe": chosen.name,
                "inputs": describe_input_map(model),
                "data": samples_words(config["data"]),
                "run": str(folder.path),
                "next": first,
            }
        )
        for command in others:
            display.line(f"{'':8}  {command}")
    return 0

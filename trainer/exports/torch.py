"""Export for PyTorch: a state dict that `torch.nn.Sequential` loads as it is."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np

from backends.functions import SCALED_TANH_A, SCALED_TANH_B

from ..data.columns import CATEGORY
from ..weight_files import WeightFileError
from .exported import Exported, write_file

# what computes an activation here and there; scaled_tanh's factors go into the weights
_MODULES = {
    "sigmoid": "Sigmoid()",
    "tanh": "Tanh()",
    "relu": "ReLU()",
    "gelu": 'GELU(approximate="tanh")',
    "scaled_tanh": "Tanh()",
    "softmax": "Softmax(dim=1)",
}


def write(network: Exported, out: Path) -> list[Path]:
    """Write ``0.weight`` (units, inputs), ``0.bias``, ``2.weight``, … as safetensors.

    Values go in as they are: the input map is folded into the first layer, which has a bias for
    that. Activation, output, classes and the like are in the metadata.

    Raises
    ------
    WeightFileError
        If the network takes categories, which are no numbers, or `out` is no name for a file.
    """
    from safetensors.numpy import save

    if network.columns is not None:
        words = [column.name for column in network.columns.columns if column.kind == CATEGORY]
        if words:
            raise WeightFileError(
                f"--format torch: a state dict takes numbers alone, and {words[0]!r}"
                f"{f' and {len(words) - 1} more columns' if len(words) > 1 else ''} are categories;"
                " take --format onnx, which encodes them"
            )
    tensors = {}
    for i, (W, b) in enumerate(_folded(network)):
        tensors[f"{2 * i}.weight"] = np.ascontiguousarray(W.T)
        if b is not None:
            tensors[f"{2 * i}.bias"] = np.ascontiguousarray(b)
    metadata = network.metadata() | {"format": "pt", "scale": "1.0", "shift": "0.0"}
    if network.activation == "scaled_tanh":
        metadata["activation"] = "tanh"
    return write_file(out, ".safetensors", save(tensors, metadata=metadata))


def contents(network: Exported) -> str:
    """Return in a line what `write` writes."""
    layers = enumerate(pairwise(network.weights.sizes))
    return ", ".join(
        f"{2 * i}.weight ({units}, {inputs})"
        + (f", {2 * i}.bias ({units})" if network.weights.bias or not i else "")
        for i, (inputs, units) in layers
    )


def loading(network: Exported, file: Path) -> list[str]:
    """Return the lines of Python that build the network and load the file."""
    sizes, bias = network.weights.sizes, network.weights.bias
    functions = [network.activation] * (len(sizes) - 2) + [network.output]
    layers = []
    for i, (inputs, units) in enumerate(pairwise(sizes)):
        without = "" if bias or not i else ", bias=False"
        layers += [f"nn.Linear({inputs}, {units}{without})", f"nn.{_MODULES[functions[i]]}"]
    is_double = network.weights.arrays[0].dtype == np.float64
    return [
        "from safetensors.torch import load_file",
        "from torch import nn",
        f"model = nn.Sequential({', '.join(layers)})" + ".double()" * is_double,
        f"model.load_state_dict(load_file({str(file)!r}))",
        f"probabilities = model(values.{'double' if is_double else 'float'}())"
        f"  # values as they are, shape (n, {sizes[0]})",
    ]


def _folded(network: Exported) -> list[tuple[np.ndarray, np.ndarray | None]]:
    """Fold the input map into the first layer, and the factors of scaled_tanh into all."""
    layers = network.weights.layers
    dtype = layers[0][0].dtype
    scale, shift = (np.float64(part) for part in network.input_map)
    folded = []
    for i, (W, b) in enumerate(layers):
        W, b = W.astype(np.float64), None if b is None else b.astype(np.float64)
        if i == 0:
            inputs = len(W)
            b = np.broadcast_to(shift, (inputs,)) @ W + (0.0 if b is None else b)
            W = W * np.broadcast_to(scale, (inputs,))[:, None]
        if network.activation == "scaled_tanh":
            if i:
                W = W * SCALED_TANH_A
            if i < len(layers) - 1:
                W, b = W * SCALED_TANH_B, None if b is None else b * SCALED_TANH_B
        folded.append((W.astype(dtype), None if b is None else b.astype(dtype)))
    return folded

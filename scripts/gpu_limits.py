"""What limits a training step on a machine, by what scripts/gpu_check.py measured of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from benchmarks.gpu_peers import IN_A_GRAPH
from scripts.measuring import Row
from trainer import TrainingSettings
from trainer.benchmarking import flops_per_sample

LIMITS = ("products", "copies", "launches")


def bytes_of_step(
    sizes: Sequence[int], batch: int, settings: TrainingSettings, bias: bool
) -> dict[str, int]:
    """Count by kind the fewest bytes that a step moves, of numbers in float32.

    Returns
    -------
    dict
        samples
            Read, as bytes, with an int64 label.
        activations
            Of all layers but the inputs, written forwards and read backwards.
        weights
            Read and written, with biases and the gains of batch normalisation.
        states
            The same of a velocity or Adam's two moments, and of an average.
        gradients
            The same where they are clipped: their norm is known when all are there.

    Examples
    --------
    >>> bytes_of_step([784, 200, 10], 1, TrainingSettings(), bias=False)
    {'samples': 792, 'activations': 1680, 'weights': 1270400, 'states': 0, 'gradients': 0}
    """
    read_and_written = 2 * 4
    learned = sum(fan_in * fan_out for fan_in, fan_out in pairwise(sizes))
    learned += sum(sizes[1:]) * bias + sum(sizes[1:-1]) * settings.batch_norm
    weights = read_and_written * learned
    adam = settings.optimizer in ("adam", "adamw")
    states = 2 if adam else int(settings.momentum > 0)
    return {
        "samples": batch * (sizes[0] + 8),
        "activations": read_and_written * batch * sum(sizes[1:]),
        "weights": weights,
        "states": weights * (states + bool(settings.averaging)),
        "gradients": weights * (settings.clip is not None),
    }


def best_product(limits: Mapping[str, Row], precision: str) -> float | None:
    """Return the GFLOP/s of the fastest library at a precision."""
    rates = [row["median"] for name, row in limits.items() if name.split()[-1] == precision]
    return max(rates, default=None)


LIMIT_EXPLAINED = """\
The limit of a step is the largest of three times: the operations of its products at the measured
rate of matrix products; its bytes at the measured bandwidth of copies (samples read; activations,
weights, the optimiser's states, an average and clipped gradients read and written once); and two
kernels a layer, one forwards and one backwards, at the measured time of an empty kernel in a CUDA
graph. Shares are the limit's of the measured time. They can exceed 100 % where the caches hold what
is moved, where inputs of 0 are skipped, or where a kernel does the work of several."""


def limits_of_step(
    report: Row,
    sizes: Sequence[int],
    batch: int,
    precision: str = "float32",
    settings: TrainingSettings | None = None,
    bias: bool = False,
) -> dict[str, float]:
    """Return the seconds that a step takes at least, by what limits it; see `LIMIT_EXPLAINED`."""
    limits, found = report["limits"], {}
    if rate := best_product(limits, precision):
        found["products"] = batch * flops_per_sample(sizes) / (rate * 1e9)
    if copy := limits.get("copy"):
        moved = sum(bytes_of_step(sizes, batch, settings or TrainingSettings(), bias).values())
        found["copies"] = moved / (copy["median"] * 1e9)
    if launch := report["launch"].get(IN_A_GRAPH):
        found["launches"] = 2 * (len(sizes) - 1) * launch
    return found


def shares(report: Row, row: Row, sizes: Sequence[int]) -> Row:
    """Return which share of a plain training's time each limit is.

    Returns
    -------
    dict
        By limit, and `larger` names the largest; none at batch size 1, where a sample waits for the
        one before and may be no launch of its own.
    """
    seconds, batch = row["second"]["median"] * row["batch"], row["batch"]
    limits = limits_of_step(report, sizes, batch, row["precision"])
    if batch == 1:
        limits.pop("launches", None)
    found: Row = {name: limit / seconds for name, limit in limits.items()}
    larger = max(found, key=found.__getitem__, default="") if batch > 1 else ""
    return found | {"larger": larger}

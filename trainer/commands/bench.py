"""`bench`: which device pays from which batch size on, measured on this machine."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from cyclopts.validators import Number

from backends import Backend, BackendUnavailable, describe_cpu, describe_gpus, select

from .. import __version__, benchmarking, display
from ..benchmarking import RECIPE, DevicesDisagree, Measurement
from ..data import Dataset, load
from ..files import write_whole
from ..running.usage import UsageError
from ..training import Diverged
from .devices import numpy_of
from .options import FLAG, counts, png_file


def run(
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
    ] = ",".join(map(str, benchmarking.HIDDEN)),
    batch_size: Annotated[
        str, Parameter(help="Batch sizes, up to the number of training samples.")
    ] = ",".join(map(str, benchmarking.BATCH_SIZES)),
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
    as_json: Annotated[
        bool,
        FLAG,
        Parameter(
            name="--json",
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
    widths = counts("--hidden", hidden, "200 or 50,200,800")
    batch_sizes = counts("--batch-size", batch_size, "128 or 1,32,128")
    view = display.choose_view(as_json=as_json)
    try:
        out = png_file(out, "bench.png")
        backends, missing = _backends(device, view)
        dataset = load(data, on_progress=view.downloading)
        if dataset.note:
            view.note(dataset.note)
        batch_sizes = _batch_sizes(batch_sizes, dataset, view)
        machine = _machine(backends)
        view.start(
            machine | _facts(dataset, widths, batch_sizes, len(backends), seconds),
            {
                "version": __version__,
                "machine": machine,
                "data": dataset.name,
                "train_samples": len(dataset.train_y),
                "hidden": widths,
                "batch_sizes": list(batch_sizes),
            },
        )
        cases: dict[tuple[str, int, int], Measurement] = {}
        difference, interrupted = None, False
        try:
            cases_of = {"batch_sizes": batch_sizes, "hidden": widths}
            difference = benchmarking.check(backends, dataset, **cases_of)
            for m in benchmarking.benchmark(backends, dataset, seconds=seconds, **cases_of):
                cases[m.device, m.hidden, m.batch_size] = m
                view.measurement(m)
        except (DevicesDisagree, Diverged) as error:
            view.failed(str(error), {})
            display.error(str(error))
            return 1
        except KeyboardInterrupt:
            interrupted = True
        measurements = list(cases.values())
        rounds = min((m.rounds for m in measurements), default=0)
        sentence = benchmarking.conclude(measurements, missing)
        figure = rounds >= benchmarking.LEAST_ROUNDS
        if figure:
            from .. import figures  # matplotlib takes its time to import

            caption = _caption(machine, dataset, rounds)
            write_whole(out, figures.benchmark(measurements, title=sentence, caption=caption))
        lines = [sentence]
        if interrupted:
            lines.append(f"stopped by Ctrl-C after {_count(rounds, 'round')}")
        if difference is not None:
            lines.append(f"checked before: all weights agree to {difference:.0e} in float64")
        if measurements:
            lines += _legend(measurements, rounds, dataset)
        if figure:
            lines.append(f"figure:   {out}")
        view.end(
            lines,
            {
                "conclusion": sentence,
                "rounds": rounds,
                "interrupted": interrupted,
                "largest_difference": difference,
                "measurements": measurements,
                "figure": str(out) if figure else None,
            },
        )
        return 130 if interrupted else 0
    finally:
        view.close()


def _backends(device: str, view: display.QuietView) -> tuple[list[Backend], str]:
    """All that answer, and why there is no GPU; one that was asked for by name must answer."""
    if device != "all":
        try:
            return [select(device)], ""
        except ValueError as error:
            raise UsageError(f"--device {device}: expected all, cpu, gpu or gpu:N") from error
    backends, missing = [select("cpu")], ""
    try:
        names = [f"gpu:{gpu['index']}" for gpu in describe_gpus()]
    except BackendUnavailable as error:
        names, missing = [], _cause(error)
    for name in names:
        try:
            backends.append(select(name))
        except BackendUnavailable as error:
            missing = _cause(error)
    if missing:
        kind = "no GPU is" if len(backends) == 1 else "not every GPU is"
        view.note(f"{kind} measured: {missing} (see: python -m trainer devices)")
    return backends, missing


def _cause(error: BackendUnavailable) -> str:
    return str(error).split(";")[0]


def _batch_sizes(wanted: Sequence[int], dataset: Dataset, view: display.QuietView) -> list[int]:
    n = len(dataset.train_y)
    left_out = [str(size) for size in wanted if size > n]
    if left_out:
        message = f"{dataset.name} has {n:,} training samples, too few for a batch of "
        if len(left_out) == len(wanted):
            raise UsageError(f"--batch-size {','.join(left_out)}: {message}{left_out[0]}")
        view.note(f"{message}{' or '.join(left_out)}, which is left out")
    return [size for size in wanted if size <= n]


def _machine(backends: Sequence[Backend]) -> dict[str, str]:
    """What is measured and with what, a line a device."""
    lines = {}
    for backend in backends:
        if backend.name == "cpu":
            cpu = describe_cpu()
            cores = _count(cpu["cores"], "core")
            lines["cpu"] = f"{cpu['name']}, {cores}, {numpy_of(cpu)}, Numba {version('numba')}"
        else:
            gpu = next(gpu for gpu in describe_gpus() if backend.name == f"gpu:{gpu['index']}")
            lines[backend.name] = f"{gpu['name']}, CuPy {gpu['cupy']}, CUDA {gpu['cuda']}"
    return lines


def _facts(
    dataset: Dataset,
    hidden: Sequence[int],
    batch_sizes: Sequence[int],
    devices: int,
    seconds: float,
) -> dict[str, str]:
    samples, features = dataset.train_x.shape
    cases = _count(devices * len(hidden) * len(batch_sizes), "case")
    rounds = f"{benchmarking.LEAST_ROUNDS} to {benchmarking.MOST_ROUNDS}"
    return {
        "data": f"{dataset.name}: {samples:,} training samples",
        "network": f"{features} → {_or(hidden)} → {len(dataset.classes)}, {RECIPE.activation},"
        f" {RECIPE.dtype}, recipe {RECIPE.name}",
        "batches": f"of {_or(batch_sizes)}",
        "time": f"{cases}, {rounds} rounds, about {seconds:g} s at most",
    }


def _legend(measurements: Sequence[Measurement], rounds: int, dataset: Dataset) -> list[str]:
    """What the table's columns are."""
    rates = {m.device: f"{m.device} {m.matmul_gflops:,.0f} GFLOP/s" for m in measurements}
    samples = f"{len(dataset.train_y):,} samples"
    if any(m.scaled for m in measurements):
        samples += "; ~ is scaled up from runs on fewer"
    lines = [
        f"medians of {_count(rounds, 'interleaved round')}; spread: slowest and fastest run",
        f"epoch s:  {samples}",
        f"% matmul: of float32 matrix products, {', '.join(rates.values())}",
    ]
    if "cpu" in rates:
        lines.append("GFLOP/s:  as if dense; the CPU skips inputs of 0, so % can pass 100")
    return lines


def _caption(machine: dict[str, str], dataset: Dataset, rounds: int) -> str:
    """What was measured and with what."""
    lines = [
        *(f"{name}: {text}" for name, text in machine.items()),
        f"{dataset.name}, recipe {RECIPE.name}, {RECIPE.dtype}; medians of {rounds} interleaved"
        " rounds, shaded from the slowest run to the fastest",
        f"xptrainer {__version__}, Python {platform.python_version()}",
    ]
    return "\n".join(lines)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def _or(numbers: Sequence[Any]) -> str:
    *rest, last = map(str, numbers)
    return f"{', '.join(rest)} or {last}" if rest else last

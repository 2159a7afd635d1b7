"""`bench`: which device pays from which batch size on, measured on this machine."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from time import perf_counter, process_time
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from backends import Backend, BackendUnavailable, describe_cpu, describe_gpus, select

from .. import __version__, benchmarking, display
from ..benchmarking import LEAST_ROUNDS, MOST_ROUNDS, RECIPE, Checked, DevicesDisagree, Measurement
from ..data import Dataset, load
from ..plain_text import listed
from ..running.usage import UsageError
from ..training import Diverged
from .figure_files import checked_file, save
from .options import Flag, Transpose, numbers
from .words import count, numpy_words

_ALL_SIZES = 10.0  # seconds from which on every hidden size has time for its rounds
_DRAWING = 0.3  # of the time that Matplotlib takes to import, which says how fast this machine is
_COMPILED = 2.0  # seconds; less is the loading of kernels that were compiled before


def run(
    *,
    device: str = "all",
    data: str = "auto",
    transpose: Transpose = False,
    hidden: str | None = None,
    batch_size: str = ",".join(map(str, benchmarking.BATCH_SIZES)),
    seconds: Annotated[float, Parameter(validator=Number(gt=0))] = 60.0,
    out: Path = Path("bench.png"),
    as_json: Annotated[Flag, Parameter("--json")] = False,
) -> int:
    """Measure which device pays from which batch size on, on this machine.

    Every device trains every network at every batch size, in turns, again and again. First all
    must arrive at the same weights. samples/s is the median, GFLOP/s counts forward, backward and
    gradients, % matmul compares it with the device's own matrix products. Ctrl-C ends it with
    what has been measured.

        python -m trainer bench
        python -m trainer bench --hidden 200 --seconds 10

    Parameters
    ----------
    device
        all, cpu, gpu or gpu:N (or cuda:N). all is the CPU and every CUDA GPU that answers.
    data
        auto (MNIST, else digits), or what else train takes.
    hidden
        Hidden units; each is a network of its own with one hidden layer. [default: 50,200,800, or
        200 alone where --seconds is below 10]
    batch_size
        Batch sizes, up to the number of training samples.
    seconds
        How long all of it takes: loading, comparing the devices, and three to nine rounds of
        measurements, each as short as that needs. Kernels that are compiled on the first start take
        their time besides.
    out
        The figure, a PNG image, or by its suffix SVG or PDF; replaced if it is there.
    as_json
        One JSON object an event on stdout, nothing else; the figure is drawn too.
    """
    started = perf_counter() - process_time()  # with what importing this program took
    if hidden is None:
        hidden = ",".join(map(str, benchmarking.HIDDEN)) if seconds >= _ALL_SIZES else "200"
    expected = "whole numbers above 0 and below 10⁹ such as"
    widths = sorted(set(numbers("--hidden", hidden, f"{expected} 200 or 50,200,800")))
    batch_sizes = sorted(set(numbers("--batch-size", batch_size, f"{expected} 128 or 1,32,128")))
    with closing(display.choose_view(as_json=as_json)) as view:
        out = checked_file(out, "bench.png")  # checked now, not after a minute of measuring
        backends, missing = _backends(device, view)
        dataset = load(data, transpose=transpose, on_progress=view.downloading)
        if dataset.note:
            view.note(dataset.note)
        batch_sizes = _batch_sizes(batch_sizes, dataset, view)
        machine = _machine(backends)
        cases = count(len(backends) * len(widths) * len(batch_sizes), "case")
        time = (
            f"{cases}, {LEAST_ROUNDS} to {MOST_ROUNDS} rounds; about {seconds:g} s in all, and on"
            " the first start some more to compile"
        )
        view.start(
            machine | _facts(dataset, widths, batch_sizes) | {"time": time},
            {
                "version": __version__,
                "machine": machine,
                "data": dataset.name,
                "train_samples": len(dataset.train_y),
                "hidden": widths,
                "batch_sizes": list(batch_sizes),
            },
        )
        medians: dict[tuple[str, int, int], Measurement] = {}
        checked, interrupted = None, False
        try:
            tried = {"batch_sizes": batch_sizes, "hidden": widths}
            checked = benchmarking.check(backends, dataset, **tried, seconds=seconds / 6)
            importing = perf_counter()
            from .. import figures  # noqa: F401  # now, so that what it takes is known

            now = perf_counter()
            left = seconds - (now - started) - _DRAWING * (now - importing)
            left = max(seconds / 10, left)  # what three rounds take at least
            for m in benchmarking.benchmark(backends, dataset, **tried, seconds=left):
                medians[m.device, m.hidden, m.batch_size] = m
                view.measurement(m)
        except (DevicesDisagree, Diverged) as error:
            view.failed(str(error), {})
            display.error(str(error))
            return 1
        except KeyboardInterrupt:
            interrupted = True
        measurements = list(medians.values())
        rounds = min((m.rounds for m in measurements), default=0)
        sentence = benchmarking.conclude(measurements, missing)
        figure = rounds >= LEAST_ROUNDS
        if figure:
            _draw(out, measurements, sentence, machine, dataset)
        lines = [sentence]
        if interrupted:
            lines.append(f"stopped by Ctrl-C after {count(rounds, 'round')}")
        if checked is not None:
            lines.append(_checked_line(checked))
            if (compiling := checked.compile_seconds) >= _COMPILED:
                lines.append(
                    f"compiling took {compiling:.0f} s more, which only a first start does"
                )
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
                "largest_difference": checked and checked.difference,
                "compile_seconds": checked and checked.compile_seconds,
                "measurements": measurements,
                "figure": str(out) if figure else None,
            },
        )
        return 130 if interrupted else 0


def _backends(device: str, view: display.QuietView) -> tuple[list[Backend], str]:
    """All that answer, and why there is no GPU; one that was asked for by name must answer."""
    if device != "all":
        try:
            return [select(device)], ""
        except ValueError as error:
            expected = "expected all, cpu, gpu or gpu:N (cuda, cuda:N)"
            raise UsageError(f"--device {device}: {expected}") from error
    backends, missing = [select("cpu")], ""
    try:
        names = [f"gpu:{gpu['index']}" for gpu in describe_gpus()]
    except BackendUnavailable as error:
        names, missing = [], str(error).partition(";")[0]
    for name in names:
        try:
            backends.append(select(name))
        except BackendUnavailable as error:
            missing = str(error).partition(";")[0]
    if missing:
        kind = "no GPU is" if len(backends) == 1 else "not every GPU is"
        view.note(f"{kind} measured: {missing} (see: python -m trainer devices)")
    return backends, missing


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
            lines["cpu"] = (
                f"{cpu['name']}, {count(cpu['cores'], 'core')}, {numpy_words(cpu)},"
                f" Numba {version('numba')}"
            )
        else:
            gpu = next(gpu for gpu in describe_gpus() if backend.name == f"gpu:{gpu['index']}")
            lines[backend.name] = f"{gpu['name']}, CuPy {gpu['cupy']}, CUDA {gpu['cuda']}"
    return lines


def _facts(dataset: Dataset, hidden: list[int], batch_sizes: list[int]) -> dict[str, str]:
    samples, features = dataset.train_x.shape
    widths, sizes = listed(hidden, " or "), listed(batch_sizes, " or ")
    return {
        "data": f"{dataset.name}: {samples:,} training samples",
        "network": f"{features} → {widths} → {len(dataset.classes)}, {RECIPE.activation},"
        f" {RECIPE.dtype}, recipe {RECIPE.name}",
        "batches": f"of {sizes}",
    }


def _checked_line(checked: Checked) -> str:
    all_cases = "" if checked.cases == checked.of else f" of {checked.cases} of {checked.of} cases"
    return f"checked before: all weights{all_cases} agree to {checked.difference:.0e} in float64"


def _legend(measurements: Sequence[Measurement], rounds: int, dataset: Dataset) -> list[str]:
    """What the table's columns are."""
    rates = {m.device: f"{m.device} {m.matmul_gflops:,.0f} GFLOP/s" for m in measurements}
    samples = f"{len(dataset.train_y):,} samples"
    if any(m.scaled for m in measurements):
        samples += "; ~ is scaled up from runs on fewer"
    lines = [
        f"medians of {count(rounds, 'interleaved round')}; spread: slowest and fastest run",
        f"epoch s:  {samples}",
        f"% matmul: of float32 matrix products, {', '.join(rates.values())}",
    ]
    if "cpu" in rates:
        lines.append("GFLOP/s:  as if dense; the CPU skips inputs of 0, so % can pass 100")
    return lines


def _draw(
    out: Path,
    measurements: Sequence[Measurement],
    sentence: str,
    machine: dict[str, str],
    dataset: Dataset,
) -> None:
    from .. import figures  # matplotlib takes its time to import

    rounds = min(m.rounds for m in measurements)
    caption = [
        *(f"{name}: {text}" for name, text in machine.items()),
        f"{dataset.name}, recipe {RECIPE.name}, {RECIPE.dtype}; medians of {rounds} interleaved"
        " rounds, shaded from the slowest run to the fastest",
        f"xptrainer {__version__}, Python {platform.python_version()}",
    ]
    drawn = figures.benchmark(measurements, title=sentence, caption="\n".join(caption))
    save(out, drawn)

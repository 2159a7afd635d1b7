"""The report of scripts/gpu_check.py as tables and sentences."""

from __future__ import annotations

import statistics
from collections import Counter
from itertools import groupby

from benchmarks.gpu_peers import CONTENDERS
from benchmarks.peers import ANSWERS, CHECKED_SAMPLES
from scripts.gpu_ingredients import ingredient_tables, ingredients_checked
from scripts.gpu_limits import LIMIT_EXPLAINED, LIMITS, best_product, shares
from scripts.measuring import Row, as_contender, as_number, as_spread, as_table
from trainer.benchmarking import Measurement, conclude


def which_pays(report: Row) -> list[str]:
    """Conclude as `bench` does from which batch size on the GPU pays, for each hidden size."""
    n = report["data"]["train"]
    rate = best_product(report["limits"], "float32") or float("nan")
    names = {"ours": "gpu:0" if report["gpu"] else "the CPU in the GPU's place", "cpu": "cpu"}
    measured = []
    for row in report["times"]:
        if row["contender"] in names and row["batch"] and row["precision"] == "float32":
            measured.append(
                Measurement.of(
                    names[row["contender"]],
                    sizes_of(report, row["hidden"]),
                    row["batch"],
                    row["samples"],
                    [1 / seconds for seconds in row["first"]["runs"]],
                    epoch=n,
                    scaled=row["samples"] < n,
                    matmul_gflops=rate,
                )
            )
    lines = []
    for hidden, rows in groupby(measured, key=lambda m: m.hidden):
        pairs = list(rows)
        both = [b for b, count in Counter(m.batch_size for m in pairs).items() if count == 2]
        if both:
            lines.append(conclude([m for m in pairs if m.batch_size in both]))
        else:
            lines.append(f"With {hidden} hidden units the two were not both timed.")
    return lines


# --- tables -------------------------------------------------------------------------------

METHOD = """\
- Each library has a process of its own and is idle while another measures. In a round each
  does its work once, each round starts with another; a first round is dropped. A run is two passes
  over the same samples, the device synchronised before and after each. The tables show the second
  one; of ours these are `EpochReport.seconds`, the second epoch of a fresh network and, apart, the
  first, with whatever is prepared once except compilation. Medians of the runs, with the shortest
  and the longest; "×" is the median of the rounds' ratios to this trainer under the same rule at
  the same precision: above 1 the other is slower.
- All data lie on the device beforehand: ours as bytes, the others' scaled to float32. Where fewer
  samples than an epoch were timed, the times are scaled up to it.
- PyTorch follows the true gradient (`squared_error`), the others the lessons' rule (`rashid`).
  Matrix products are float32 (PyTorch "highest", JAX "highest") or, where it says so, TF32.
"""


def markdown(report: Row) -> str:
    """Format the report as tables."""
    m = report["machine"]
    title = f"{m['device']}, checked and measured"
    if not report["gpu"]:
        title = f"No GPU measurement: the script itself, run on the CPU ({m['device']})"
    blocks = [f"# {title}", _about(report), *_verdict(report)]
    if report["limits"]:
        blocks += ["## The machine's own limits", _limits(report)]
    if report["times"]:
        blocks += ["## How it was timed", METHOD.strip()]
        if not report["gpu"]:
            blocks.append("Here NumPy stands in for CuPy, and no step is captured as a graph.")
        blocks.append(LIMIT_EXPLAINED)
        for precision in ("float32", "tf32"):
            for hidden in dict.fromkeys(r["hidden"] for r in report["times"]):
                blocks += _training_tables(report, hidden, precision)
        blocks += _answers(report)
        blocks += ["## From which batch size on the GPU pays", *report["pays"]]
        blocks += ["By the first epoch, with what is prepared once; the data lie on the device."]
    blocks += ingredient_tables(report)
    if report["memory"]:
        rows = [("hidden units", "batch size", "MiB")]
        rows += [(_n(r["hidden"]), _n(r["batch"]), as_number(r["mib"])) for r in report["memory"]]
        what = "of CuPy's pool, without the driver's context" if report["gpu"] else "of the process"
        blocks += [f"## Memory\n\nHeld at most in an epoch and its evaluation, {what}:"]
        blocks += [as_table(rows)]
    blocks += _deforming(report)
    if report["checks"]:
        blocks += ["## That all compute the same", *_contenders(report)]
    blocks += ingredients_checked(report)
    for name, lines in (("Not timed", report["not_timed"]), ("Cut or skipped", report["cut"])):
        if lines:
            blocks += [f"## {name}", "\n".join(f"- {line}" for line in lines)]
    return "\n\n".join(blocks) + "\n"


def _about(report: Row) -> str:
    m, data = report["machine"], report["data"]
    parts = []
    if report["gpu"]:
        parts += [f"{m['device']}: {m.get('multiprocessors', 'unknown')} multiprocessors"]
        parts += [f"compute capability {m['compute_capability']}"]
        parts += [f"{m['memory_total'] / 2**30:.0f} GiB, {m['memory_free'] / 2**30:.0f} free"]
        parts += [f"driver for CUDA {m['driver']}, CUDA {m['cuda']}"]
        parts += [f"nvidia-smi (before and after): {' | '.join(map(str, m['nvidia_smi']))}"]
    cpu = m["cpu"]
    parts += [f"{cpu['name']}, {cpu['cores']} cores; {m['system']}; Python {m['python']}"]
    parts += [", ".join(f"{name} {number}" for name, number in m["versions"].items())]
    parts += [f"load average before and after: {', '.join(map(as_number, m['load']))}"]
    parts += [f"{m['date']}; {report['seconds']:.0f} s of {report['allowed_seconds']:.0f}"]
    parts += [f"data: {data['name']}, {_n(data['train'])} + {_n(data['test'])} samples"]
    return "; ".join(parts) + "."


def _verdict(report: Row) -> list[str]:
    rows = [("check", "done", "worst", "allowed")]
    if tests := report["tests"]:
        done = ", ".join(f"{_n(tests[k])} {k}" for k in ("passed", "failed", "skipped"))
        cut = " (cut by the time)" * tests["cut"]
        rows.append(("pytest -m gpu", done + cut, "", ""))
    if kernels := report["kernels"]:
        compared = [r for r in kernels["rows"] if r["difference"] is not None]
        for operation in dict.fromkeys(r["operation"] for r in compared):
            for dtype in ("float64", "float32"):
                some = [r for r in compared if (r["operation"], r["dtype"]) == (operation, dtype)]
                if some:
                    worst = max(some, key=lambda r: r["difference"])
                    text = f"{worst['difference']:.1e} (case {worst['number']}, {worst['array']})"
                    name = f"{operation} against base.py, {dtype}"
                    allowed = f"{worst['tolerance']:g}"
                    rows.append((name, count_of(len(some), "case"), text, allowed))
        same = sum(r["bit_for_bit"] for r in compared)
        rows.append(("a second run, or one in two calls", count_of(len(compared), "case"),
                     f"{_n(len(compared) - same)} with other bits", "none"))  # fmt: skip
    if training := report["training"]:
        pair = f"{training['device']} and {training['other']}"
        if exact := training["exact"]:
            done, worst = f"{_n(exact['samples'])} online samples", f"{exact['relative']:.1e}"
            rows.append((f"weights in float64, {pair}", done, worst, f"{exact['allowed']:g}"))
        for row in training["twice"]:
            done = f"{_n(row['samples'])} samples, batch size {row['batch']}"
            rows.append(("the same seed twice", done, "same" if row["same"] else "other", "same"))
        if common := training["common_epochs"]:
            done = (
                count_of(common, "epoch")
                + ": "
                + " and ".join(
                    f"{epochs[common - 1]['accuracy']:.2%} on {name}"
                    for name, epochs in training["epochs"].items()
                )
            )
            apart = f"{100 * training['apart']:.2f} points"
            rows.append(
                ("accuracy in float32", done, apart, f"{100 * training['allowed']:g} points")
            )
    blocks = ["## What was checked", as_table(rows)]
    if kernels and (near := sum(r["difference"] is None for r in kernels["rows"])):
        blocks.append(f"Not compared in float32, where a rectifier came too near to 0: {near}.")
    if kernels:
        blocks.append(
            f"Cases are drawn from seed {kernels['seed']}; `--seed {kernels['seed']}` draws them "
            "again. A difference is ‖out - base.py in float64‖ over ‖what changed‖ of an array, "
            "with an allowance for the last bits that each step rounds away."
        )
    found = problems(report)
    blocks.append("**What failed:**" if found else f"**{passed(report)}**")
    return [*blocks, "\n".join(f"- {line}" for line in found)] if found else blocks


def passed(report: Row) -> str:
    """Return a sentence about what was checked and did not fail."""
    tests, kernels, training = (report[part] or {} for part in ("tests", "kernels", "training"))
    contenders = {row["contender"] for row in report["checks"]}
    numbers = {"test": tests.get("passed", 0), "kernel case": kernels.get("cases", 0)}
    numbers |= {
        "training check": sum(bool(training.get(k)) for k in ("exact", "twice", "common_epochs"))
    }
    numbers |= {"contender": len(contenders), "ingredient": len(report["ingredient_checks"])}
    done = ", ".join(count_of(number, what) for what, number in numbers.items() if number)
    return f"Every check passed that was made: {done}." if done else "Nothing was checked."


def failures(tests: Row) -> list[str]:
    """Return a line for each test that failed, and one if pytest itself did."""
    found = list(tests["failures"])
    if not tests["cut"] and not (tests["ended"] and tests["exit_code"] in (0, 1)):
        last = (tests["tail"].strip().splitlines() or ["no output"])[-1]
        found.append(f"pytest ended with exit code {tests['exit_code']}: {last}")
    return found


def problems(report: Row) -> list[str]:
    """Return what failed of this trainer."""
    found = list(report["problems"])
    if tests := report["tests"]:
        found += [f"pytest: {line}" for line in failures(tests)]
        if report["gpu"] and not tests["passed"]:
            last = (tests["tail"].strip().splitlines() or ["no output"])[-1]
            found.append(f"pytest: no test marked gpu passed: {last}")
    if report["gpu"] and report["kernels"] and not report["kernels"]["cases"]:
        found.append("kernels: not a single case was done")
    for part in ("kernels", "training"):
        found += [f"{part}: {line}" for line in (report[part] or {}).get("problems", [])]
    return found


def _limits(report: Row) -> str:
    rows = [("", "median", "min … max", "")]
    for name, row in report["limits"].items():
        if name == "copy":
            rows.append(("copy, bytes read and written", *as_spread(row, 1), "GB/s"))
        else:
            rows.append((f"matrix product, {name}", *as_spread(row, 1e-3), "TFLOP/s"))
    for name, seconds in report["launch"].items():
        rows.append((f"launch, {name}", as_number(1e6 * seconds), "", "µs"))
    missing = [p for p in ("tf32", "bfloat16") if best_product(report["limits"], p) is None]
    text = as_table(rows)
    return text + f"\n\nNot measured, for want of PyTorch: {', '.join(missing)}." * bool(missing)


SHARES_EXPLAINED = """\
Ours, and what share of the measured time each limit would take, the largest in bold. At batch
size 1 none is: each sample waits for the one before, whose latency counts, and the bytes are those
of a loop that reads and writes all weights."""


DEFORMING_EXPLAINED = """\
Ours in float32, every image deformed again each epoch by an elastic field (α 34, σ 4), turned by up
to 15° and scaled by up to 15 %: medians of epochs after a first."""


def _training_tables(report: Row, hidden: int, precision: str) -> list[str]:
    rows = [
        r
        for r in report["times"]
        if (r["hidden"], r["precision"]) == (hidden, precision) and r["batch"] != ANSWERS
    ]
    if not rows:
        return []
    n, sizes = report["data"]["train"], sizes_of(report, hidden)
    by = {(r["batch"], r["contender"]): r for r in rows}
    batches = list(dict.fromkeys(r["batch"] for r in rows))
    others = [name for name in dict.fromkeys(r["contender"] for r in rows) if not _is_ours(name)]
    unit = f"ms an epoch of {_n(n)}"
    ours: list[list[str]] = [["rule", "batch size", unit, "min … max", "first epoch"]]
    ours[0] += ["µs a sample", "samples timed", "runs"]
    ours[0] += [f"of the {limit}" for limit in LIMITS]
    ratios: list[list[str]] = [["batch size", *(name.split(", tf32")[0] for name in others)]]
    theirs: list[list[str]] = [
        ["contender", *ours[0][1:4], "samples timed", "runs", "of the limit"]
    ]
    for row in sorted(rows, key=lambda r: list(CONTENDERS).index(r["contender"])):
        time, entry = row["second"], CONTENDERS[row["contender"]]
        start, end = as_spread(time, 1e3 * n), [_n(row["samples"]), str(len(time["runs"]))]
        part = shares(report, row, sizes)
        if not _is_ours(row["contender"]):
            about = as_contender(row["contender"], entry.kind.about)
            on_device = entry.process != "cpu" or not report["gpu"]
            share = _percent(part.get(part["larger"])) if part["larger"] and on_device else ""
            theirs.append([about, _n(row["batch"]), *start, *end, share])
            continue
        first, each = row["first"]["median"] * 1e3 * n, time["median"] * 1e6
        marks = {what: "**" * (what == part["larger"]) for what in LIMITS}
        of = [f"{mark}{_percent(part.get(what))}{mark}" for what, mark in marks.items()]
        of[-1] *= row["batch"] > 1
        cells = [*start, as_number(first), as_number(each), *end, *of]
        ours.append([entry.loss, _n(row["batch"]), *cells])
    for batch in batches:
        found = [by.get((batch, name), {}).get("times_ours") for name in others]
        ratios.append([_n(batch), *("" if r is None else f"× {as_number(r)}" for r in found)])
    blocks = [f"## Training {'-'.join(map(str, sizes))} in {precision}"]
    blocks += [SHARES_EXPLAINED, as_table(ours)] * (len(ours) > 1)
    return blocks + [as_table(ratios), as_table(theirs)] * bool(others)


def _is_ours(name: str) -> bool:
    return CONTENDERS[name].ours == name


def _answers(report: Row) -> list[str]:
    rows: list[tuple[str, ...]] = [("contender", "hidden units", "ms", "min … max", "× ours")]
    for r in report["times"]:
        if r["batch"] == ANSWERS:
            ratio = "" if r["times_ours"] is None else as_number(r["times_ours"])
            about = as_contender(r["contender"], CONTENDERS[r["contender"]].kind.about)
            rows.append((about, _n(r["hidden"]), *as_spread(r["second"], 1e3), ratio))
    title = f"## Answering {_n(report['data']['test'])} images"
    return [title, as_table(rows)] if len(rows) > 1 else []


def _deforming(report: Row) -> list[str]:
    """Format what a step costs on deformed images, and which share of it that is."""
    rows: list[tuple[str, ...]] = [
        ("network", "batch size", "µs a step", "deformed", "share of deforming")
    ]
    for r in report["deforming"]:
        plain, deformed = (statistics.median(r[which]) for which in ("plain", "deformed"))
        costs = [as_number(1e6 * seconds) for seconds in (plain, deformed)]
        network = "-".join(map(str, r["sizes"]))
        rows.append((network, _n(r["batch"]), *costs, _percent(1 - plain / deformed)))
    title = "## Training on deformed images"
    return [title, DEFORMING_EXPLAINED, as_table(rows)] if len(rows) > 1 else []


def _contenders(report: Row) -> list[str]:
    rows: list[tuple[str, ...]] = [
        ("contender", "compared in", "worst", "allowed", "other answers")
    ]
    for name in dict.fromkeys(r["contender"] for r in report["checks"]):
        own = [r for r in report["checks"] if r["contender"] == name]
        cells = ", ".join(f"{r['hidden']}/{r['batch']}" for r in own)
        worst = f"{max(r['difference'] for r in own):.1e}"
        others = f"{max(r['other_answers'] for r in own):.2%}"
        rows.append((name, cells, worst, f"{own[0]['tolerance']:g}", others))
    text = (
        f"{CHECKED_SAMPLES} samples, or more than one batch, from the same weights, against "
        "base.py in float64: the largest difference of a weight as a share of its array's largest "
        "change, with an allowance for last bits, and the test images answered otherwise. In: "
        "hidden units / batch size."
    )
    return [text, as_table(rows)]


def sizes_of(report: Row, hidden: int) -> list[int]:
    """Return the units of every layer."""
    return [report["data"]["features"], hidden, report["data"]["classes"]]


def _n(value: int) -> str:
    return f"{value:,}"


def count_of(value: int, what: str) -> str:
    """Format a number of things."""
    return f"{value:,} {what}{'s' * (value != 1)}"


def _percent(share: float | None) -> str:
    return "not measured" if share is None else f"{share:.1%}"

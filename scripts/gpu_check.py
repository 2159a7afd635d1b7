"""Check this trainer on a CUDA GPU and measure it there: one command, under eight minutes.

    python scripts/gpu_check.py FOLDER-WITH-MNIST FOLDER-FOR-THE-REPORT
    python scripts/gpu_check.py FOLDER-WITH-MNIST OUT --quick     # about a minute
    python scripts/gpu_check.py FOLDER-WITH-MNIST --device cpu    # does the script itself run?

It runs from the source tree and needs no network. In this order:

    tests        pytest -m gpu, all that are marked so
    kernels      tests/backends/test_drawn.py: every operation against backends/base.py on NumPy,
                 random networks of all kinds, in both precisions, until the time is up
    training     tests/test_devices.py: the default recipe on the GPU and on the CPU
    measuring    the machine's own copies, matrix products and launches; then this trainer, plain
                 CuPy, PyTorch, PyTorch with CUDA graphs, JAX and this trainer on the CPU, at batch
                 size 1 to 8192 and 200 to 4096 hidden units, at equal precision, taking turns in
                 rounds
    ingredients  each optimiser, gelu, clipping, dropout, batch normalisation, averaging and all of
                 it, in 784-256-10, 784-200-10 and 784-2500-2000-1500-1000-500-10: this trainer,
                 PyTorch with CUDA graphs, compiled and both, and JAX, in turns

Each contender first shows that it computes what base.py does; one that does not, or is not
installed, is not timed, and the report says so, as it does about all that the time did not suffice
for. Each library has a process of its own, idle outside its turn; leave the machine alone.

It writes gpu-NAME.json after every part, so that nothing is lost if it is stopped, and gpu-NAME.md
at the end. The exit code is 0 if all of this trainer's checks passed, 1 if one did not or there is
no GPU, 2 for a mistake in the call. Without a GPU it does the same with the CPU, on a small scale.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # this checkout is checked, not what may be installed

import numpy as np  # noqa: E402

from benchmarks.gpu_peers import CONTENDERS, Machine, Process, first_samples  # noqa: E402
from benchmarks.ingredient_peers import INGREDIENTS  # noqa: E402
from benchmarks.peers import ANSWERS, CHECKED_SAMPLES, Ours  # noqa: E402
from scripts.gpu_ingredients import Cells, Ingredients, works_of  # noqa: E402
from scripts.gpu_report import (  # noqa: E402
    count_of,
    failures,
    markdown,
    passed,
    problems,
    which_pays,
)
from scripts.measuring import (  # noqa: E402
    Parser,
    Row,
    Worker,
    circumstances,
    compared,
    load_average,
    median_ratio,
    summary,
    write_report,
)
from scripts.racing import (  # noqa: E402
    FAILURES,
    PATIENCE,
    Deadline,
    Processes,
    Race,
    named,
    run_races,
)
from trainer import DataError, Dataset, load  # noqa: E402
from trainer.benchmarking import Rounds  # noqa: E402

# the tests' suffices for a first run, which mostly compiles; what is left over goes to measuring
SHARES = {"tests": 160 / 480, "kernels": 90 / 480, "training": 60 / 480}
SHARES |= {"ingredients": 50 / 480, "rest": 30 / 480}
# of what changed most in an array; TF32 rounds factors to 11 bits
PEER_TOLERANCES = {"float32": 1e-3, "tf32": 3e-2}
OTHER_ANSWERS = 1e-2  # share of test images whose class may differ by rounding
KERNEL_TESTS, TRAINING_TESTS = "tests/backends/test_drawn.py", "tests/test_devices.py"
CASES = 2_000  # at most
DEFORMED_BATCH = 100
MISSING_TOOLS = ("cyclopts", "platformdirs", "array_api_strict")  # that a machine may lack
ANSWERING = ("ours", "cpu", "cupy", "torch", "jax")


# --- plan and time ------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """How much is done.

    Attributes
    ----------
    seconds : float
        In all.
    samples : int
        Of the training set, 0 for all.
    hidden, batches, tf32_hidden, tf32_batches : tuple of int
        What is timed.
    deformed : tuple of tuple of int
        The hidden layers of the networks whose training is also timed on deformed images.
    rounds : int
        At most, after an uncounted first.
    run_seconds : float
        About how long a run of ours lasts.
    side, mebibytes : int
        Of the square matrices, and of the arrays that are copied.
    ingredients : tuple
        Hidden layers, batch size and names in `INGREDIENTS`, the most telling first.
    """

    seconds: float
    samples: int
    hidden: tuple[int, ...]
    batches: tuple[int, ...]
    tf32_hidden: tuple[int, ...]
    tf32_batches: tuple[int, ...]
    deformed: tuple[tuple[int, ...], ...]
    rounds: int
    run_seconds: float
    side: int
    mebibytes: int
    ingredients: tuple[Cells, ...]

    @property
    def grace(self) -> float:
        """Return the seconds by which what started in time may end too late."""
        return self.seconds * SHARES["rest"] / 3

    def cells(self) -> list[tuple[int, int, str]]:
        """Return hidden size, batch size (or `ANSWERS`) and precision of all that is timed."""
        cells = [(h, b, "float32") for h in self.hidden for b in (*self.batches, ANSWERS)]
        return cells + [(h, b, "tf32") for h in self.tf32_hidden for b in self.tf32_batches]


DEEP = (2500, 2000, 1500, 1000, 500)
FULL = Plan(
    seconds=480,
    samples=0,
    hidden=(200, 800, 4096),
    batches=(1, 32, 128, 512, 2048, 8192),
    tf32_hidden=(800, 4096),
    tf32_batches=(2048, 8192),
    deformed=((800,), DEEP),
    rounds=5,
    run_seconds=0.06,
    side=8192,
    mebibytes=1024,
    ingredients=(
        ((256,), 128, ("momentum", "adam", "all", "sgd")),
        (DEEP, 512, ("momentum", "adam", "all")),
        ((256,), 128, ("dropout", "batch-norm", "clip", "gelu", "nesterov")),
        ((256,), 128, ("input-dropout", "averaging", "adamw")),
        (DEEP, 512, ("sgd", "nesterov", "adamw")),
        ((200,), 128, ("sgd", "momentum", "nesterov", "adam", "adamw")),
    ),
)
QUICK = replace(
    FULL,
    seconds=60,
    hidden=(200,),
    batches=(1, 128, 2048),
    tf32_hidden=(800,),
    tf32_batches=(2048,),
    deformed=((800,),),
    rounds=3,
    side=4096,
    ingredients=(((256,), 128, ("momentum", "adam", "all")),),
)
ON_CPU = Plan(
    seconds=120,
    samples=2_000,
    hidden=(16, 32),
    batches=(1, 32, 128),
    tf32_hidden=(32,),
    tf32_batches=(128,),
    deformed=((32,), (32, 16)),
    rounds=3,
    run_seconds=0.02,
    side=512,
    mebibytes=32,
    ingredients=(
        ((16,), 32, ("momentum", "adam", "all")),
        ((32, 16, 16), 64, ("momentum", "adam")),
        ((16,), 32, tuple(name for name in INGREDIENTS if name not in ("momentum", "adam", "all"))),
    ),
)


# --- tests --------------------------------------------------------------------------------


def run_tests(until: Deadline, device: str, processes: int, *arguments: str) -> Row:
    """Run the tests of a device, "gpu" or "cpu", in processes of their own.

    Returns
    -------
    dict
        As of `read_record`; and whether the time cut them short.
    """
    with tempfile.TemporaryDirectory() as folder:
        record, output = Path(folder, "record"), Path(folder, "output")
        command = [sys.executable, "-m", "pytest", "-m", "gpu" if device == "gpu" else "not gpu"]
        command += ["-q", "--tb=short", "--color=no", "-p", "no:cacheprovider"]
        command += ["--continue-on-collection-errors", "-p", "scripts.record_tests"]
        command += [f"--record={record}", *arguments]
        if find_spec("xdist"):  # which replaces a process that ended
            command += ["-n", str(max(1, processes)), "--maxschedchunk=4"]
        started = time.monotonic()
        with output.open("w") as out:
            process = subprocess.Popen(
                command, cwd=ROOT, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
            )
            cut = False
            try:
                process.wait(until.left)
            except subprocess.TimeoutExpired:
                cut = True
            finally:
                if process.poll() is None:
                    with suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGKILL)
        row = {"exit_code": process.wait(), "cut": cut, "seconds": time.monotonic() - started}
        return row | read_record(record) | {"tail": output.read_text(errors="replace")[-6000:]}


def read_record(file: Path) -> dict[str, Any]:
    """Summarise a file of scripts/record_tests.py: numbers of tests, failures, properties."""
    text = file.read_text() if file.exists() else ""
    # a process that was killed may have left half a line
    lines = [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
    tests: dict[str, dict[str, Any]] = {}
    for line in lines:
        # where a process ends with a failed test, xdist reports it again; the first line explains
        if "test" in line and tests.get(line["test"], {}).get("outcome") != "failed":
            tests[line["test"]] = line
    failed = [t for t in tests.values() if t["outcome"] == "failed"]
    tools = re.compile(f"No module named '({'|'.join(MISSING_TOOLS)})'")
    absent = [t for t in failed if tools.search(t["message"])]
    counts = Counter(t["outcome"] for t in tests.values())
    skipped = Counter(t["message"] for t in tests.values() if t["outcome"] == "skipped")
    return {
        **{outcome: counts[outcome] for outcome in ("passed", "failed", "skipped")},
        "skipped_because": dict(skipped.most_common(5)),
        "failures": [f"{t['test']} - {t['message']}" for t in failed if t not in absent],
        "not_collected": [f"{t['test']} - {t['message']}" for t in absent],
        "ended": any("ended" in line for line in lines),
        "properties": [(t["test"], t["properties"]) for t in tests.values() if t["properties"]],
    }


def check_tests(until: Deadline) -> Row:
    """Run all tests marked gpu except those of the sections that follow."""
    others = [f"--ignore={path}" for path in (KERNEL_TESTS, TRAINING_TESTS)]
    # a first run mostly compiles, in several processes faster
    tests = run_tests(until, "gpu", min(4, cores() // 2), *others)
    del tests["properties"]
    return tests


def check_kernels(device: str, seed: int, until: Deadline) -> Row:
    """Check drawn cases until the time is up, in a few processes at once."""
    options = [f"--cases={CASES}", f"--cases-seed={seed}", f"--hang={PATIENCE}"]
    options += ["-k", "test_is_the_textbooks", KERNEL_TESTS]
    tests = run_tests(until, device, min(4, cores() // 4), *options)
    rows = [row for _, properties in tests["properties"] for row in properties.get("rows", ())]
    rows.sort(key=lambda row: row["number"])
    cases = len({row["number"] for row in rows})
    return {"seed": seed, "cases": cases, "problems": failures(tests), "rows": rows}


def check_training(source: str, samples: int, device: str, until: Deadline) -> Row:
    """Compare the device with the CPU, or the CPU with the textbook."""
    other = "cpu" if device == "gpu" else "base"
    if Path(source).exists():
        source = str(Path(source).absolute())  # the tests run in another folder
    options = (f"--lessons={source}", f"--lessons-samples={samples}", TRAINING_TESTS)
    tests = run_tests(until, device, 1, *options)
    report: Row = {"device": device, "other": other, "problems": failures(tests), "twice": []}
    report |= {"exact": None, "epochs": {}, "common_epochs": 0}
    report["cut"] = ["training, by the time"] * tests["cut"]
    for _, properties in tests["properties"]:
        report["exact"] = properties.get("exact", report["exact"])
        report["twice"] += [properties["twice"]] if "twice" in properties else []
        if "epochs" in properties:
            runs = dict(zip((device, other), properties["epochs"], strict=True))
            report |= {"epochs": runs} | properties["accuracy"]
    return report


def cores() -> int:
    """Count the processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


# --- measuring ------------------------------------------------------------------------


class Team(Processes):
    """The processes of the plain contenders."""

    def __init__(self, source: str, device: str, samples: int, without: Sequence[str]) -> None:
        names = dict.fromkeys(entry.process for entry in CONTENDERS.values())
        self.names = [name for name in names if name not in without]
        made = (Process, source, device, samples)
        super().__init__(dict.fromkeys((*self.names, "reference"), made))
        self._wanted: dict[tuple[Any, ...], Any] = {}

    def do(self, contender: str, method: str, *arguments: Any, seconds: float) -> Any:
        """Call a contender's method and return its result."""
        name = CONTENDERS[contender].process
        return self.call(name, "do", contender, method, *arguments, seconds=seconds)

    def prepare(self, plan: Plan, seconds: float) -> dict[str, Any]:
        """Start to compile in all processes what they will need, and return the calls."""
        calls = {}
        for name, cell in checks(self.names, plan):
            key = (CONTENDERS[name].loss, *cell)
            if key not in self._wanted:
                self._wanted[key] = self._workers["reference"].start("check", *key, "float64")
        for process in self.names:
            runs = [
                (name, hidden, batch)
                for hidden, batch, precision in plan.cells()
                for name, entry in CONTENDERS.items()
                if entry.process == process and entry.precision == precision
            ]
            calls[process] = self._workers[process].start("prepare", runs, seconds)
        return calls

    def prepared(self, calls: Mapping[str, Any], seconds: float) -> dict[str, str]:
        """Wait for what `prepare` started; return what went wrong by process."""
        wrong, until = {}, Deadline(seconds)
        for process, call in calls.items():
            try:
                self._workers[process].result(call, max(1.0, until.left))
            except FAILURES as error:
                wrong[process] = str(error)
        return wrong

    def wanted(self, key: tuple[str, int, int, int], seconds: float) -> Any:
        """Return what base.py computes in float64, by loss, hidden and batch size, and samples."""
        return self._workers["reference"].result(self._wanted[key], seconds)


def checked_samples(batch: int) -> int:
    """Return how many samples a contender is checked with; the last batch is smaller."""
    return CHECKED_SAMPLES if batch < CHECKED_SAMPLES else batch + 44


def check_contenders(
    team: Team, plan: Plan, until: Deadline
) -> tuple[list[Row], dict[str, str], list[str]]:
    """Compare all with base.py in float64.

    Returns
    -------
    rows : list of dict
    out : dict
        Why a contender is not timed.
    unchecked : list of str
        What there was no time for.
    """
    rows: list[Row] = []
    out: dict[str, str] = {}
    unchecked: list[str] = []
    starts: dict[int, list[np.ndarray]] = {}
    for name, (hidden, batch, n) in checks(team.names, plan):
        entry = CONTENDERS[name]
        if name in out:
            continue
        if until.left <= 0:
            if name in (row["contender"] for row in rows):
                unchecked.append(f"{name}: not checked with {hidden} hidden units by {batch}")
            else:
                out[name] = f"{name}: not checked, for want of time"
            continue
        try:
            wanted = team.wanted((entry.loss, hidden, batch, n), until.left)
            if hidden not in starts:
                call = (entry.loss, "start_weights", hidden)
                starts[hidden] = team.call("reference", "do", *call, seconds=until.left)
            run, patience = (name, hidden, batch, n, "float32"), min(until.left, PATIENCE)
            found = team.call(entry.process, "check", *run, seconds=patience)
        except FAILURES as error:
            out[name] = named(name, error)
            continue
        tolerance = PEER_TOLERANCES[entry.precision]
        others = OTHER_ANSWERS if entry.precision == "float32" else 5 * OTHER_ANSWERS
        # few large batches may change the weights by hardly more than their last bits
        blur = 8 * float(np.finfo("float32").eps) / tolerance
        difference, wrong = compared(found, wanted, starts[hidden], tolerance, others, blur)
        row = {"contender": name, "hidden": hidden, "batch": batch, "samples": n}
        rows.append(row | difference)
        if wrong:
            where = f"with {hidden} hidden units at batch size {batch}"
            out[name] = f"{name}: does not compute the same {where}: {wrong}"
    return rows, out, unchecked


def checks(processes: Sequence[str], plan: Plan) -> list[tuple[str, tuple[int, int, int]]]:
    """List which contender is checked with how many hidden units, by how many, over how many.

    Ours wherever it is timed, since its kernels depend on the sizes, the others at one width;
    every one once before any is checked again.
    """
    found = []
    for name, entry in CONTENDERS.items():
        if entry.process not in processes:
            continue
        cells = [(h, b) for h, b, p in plan.cells() if p == entry.precision and b != ANSWERS]
        if entry.kind is not Ours:
            first = [cell for cell in cells if cell[0] == cells[0][0]]
            cells = [cell for cell in first if cell[1] in (1, 128)] or first[:1]
        found += [(at, name, (*cell, checked_samples(cell[1]))) for at, cell in enumerate(cells)]
    return [(name, cell) for _, name, cell in sorted(found, key=lambda check: check[0])]


def measure_limits(machine: Worker, plan: Plan, until: Deadline, report: Row) -> None:
    """Time copies and matrix products in turns, in addition to what was timed before."""
    runs = {name: row["runs"] for name, row in report["limits"].items()}
    try:
        pairs = machine.call("products", seconds=PATIENCE)
        jobs = {" ".join(pair): ("product_rate", *pair, plan.side, 0.05) for pair in pairs}
        jobs["copy"] = ("copy_rate", plan.mebibytes, 0.05)
        rounds = Rounds(jobs)
        for name in rounds.until(4):
            if until.left <= 0:
                break
            value = machine.call(*jobs[name], seconds=PATIENCE)
            if rounds.done:  # the first wakes the libraries up
                runs.setdefault(name, []).append(value)
    except FAILURES as error:
        report["not_timed"].append(str(error))
    report["limits"] = {name: summary(values) for name, values in runs.items()}


class CellRace(Race):
    """All contenders at one hidden size, batch size and precision.

    Parameters
    ----------
    team : Team
    cell : tuple
        Of `Plan.cells`.
    names : sequence of str
        In `CONTENDERS`.
    plan : Plan
    """

    def __init__(
        self, team: Team, cell: tuple[int, int, str], names: Sequence[str], plan: Plan
    ) -> None:
        super().__init__(_cell(cell), names, plan.rounds, plan.grace)
        self.cell, self._team, self._plan = cell, team, plan
        self._samples: dict[str, int] = {}

    def measure(self, name: str, seconds: float) -> Row:
        hidden, batch, _ = self.cell
        if name not in self._samples:
            choose = ("samples_of_run", hidden, batch, self._plan.run_seconds)
            self._samples[name] = self._team.do(name, *choose, seconds=seconds)
        run = ("two_passes", hidden, batch, self._samples[name])
        found: Row = self._team.do(name, *run, seconds=seconds)
        return found

    def rows(self) -> list[Row]:
        """Return what was measured, in seconds a sample or, of the answers, for all of them."""
        hidden, batch, precision = self.cell
        rows = []
        for name, runs in self.runs.items():
            if not runs:
                continue
            n = 1 if batch == ANSWERS else self._samples[name]
            row: Row = {"hidden": hidden, "batch": batch, "precision": precision}
            row |= {"contender": name, "samples": self._samples[name]}
            for which in next(iter(runs.values())):
                row[which] = summary([run[which] for run in runs.values()], 1 / n)
            ours = CONTENDERS[name].ours
            pair = [
                {i: run["second"] for i, run in self.runs.get(one, {}).items()}
                for one in (name, ours)
            ]
            ratio = median_ratio(*pair)
            share = 1 if batch == ANSWERS else self._samples.get(ours, 0) / n
            row["times_ours"] = None if ratio is None else ratio * share
            rows.append(row)
        return rows


def measure_machine(machine: Worker, plan: Plan, until: Deadline, report: Row) -> None:
    """Time what limits a step: copies, matrix products and launches."""
    measure_limits(machine, plan, until, report)
    if until.left > 0:
        with suppress(*FAILURES):
            report["launch"] = machine.call("launches", 300, seconds=PATIENCE)


def measure(
    team: Team,
    plan: Plan,
    device: str,
    report: Row,
    until: Deadline,
    save: Callable[[], Any],
) -> None:
    """Check the contenders, then time everything."""
    print("checking that all contenders compute the same", flush=True)
    report["checks"], out, unchecked = check_contenders(team, plan, until.within(0.5 * until.left))
    report["cut"] += unchecked
    report["not_timed"] += dict.fromkeys(out.values())
    for line in report["not_timed"]:
        print(f"not timed: {line}", flush=True)
    timed = [name for name, e in CONTENDERS.items() if name not in out and e.process in team.names]
    report["problems"] += [line for name, line in out.items() if _must_hold(name, line, device)]
    if "ours" in timed:
        for hidden, batch in ((plan.hidden[0], 1), *((h, plan.batches[-1]) for h in plan.hidden)):
            call = ("ours", "peak_memory", hidden, batch)
            with suppress(*FAILURES):
                mib = team.do(*call, seconds=max(1.0, 0.1 * until.left))
                report["memory"].append({"hidden": hidden, "batch": batch, "mib": mib})
        for layers in plan.deformed:
            patience = max(1.0, min(until.left, PATIENCE))
            try:
                row = team.do("ours", "deforming", layers, DEFORMED_BATCH, seconds=patience)
            except FAILURES as error:
                report["not_timed"].append(f"on deformed images, {named('ours', error)}")
                continue
            report["deforming"].append(row | {"batch": DEFORMED_BATCH})
    save()
    timing, races = until.within(0.95 * until.left), []
    for cell in plan.cells():
        names = [n for n in timed if CONTENDERS[n].precision == cell[2]]
        names = [n for n in names if n in ANSWERING or cell[1] != ANSWERS]
        races.append(CellRace(team, cell, names, plan))

    def save_times() -> None:
        report["times"] = [row for race in races for row in race.rows()]
        save()

    run_races(races, timing, save_times)
    for race in races:
        wrong = race.wrong
        report["not_timed"] += wrong.values()
        report["problems"] += [w for name, w in wrong.items() if _must_hold(name, w, device)]
        report["cut"] += race.cut()


def _must_hold(name: str, line: str, device: str) -> bool:
    """Return whether a contender that is out is a failed check of this trainer."""
    late = "want of time" in line or "no answer" in line
    ours = CONTENDERS[name].process in ("ours", "cpu") and not late
    return ours and not (device == "cpu" and CONTENDERS[name].precision != "float32")


def _cell(cell: tuple[int, int, str]) -> str:
    hidden, batch, precision = cell
    what = "the answers" if batch == ANSWERS else f"batch size {batch}"
    return f"{what}, {hidden} hidden units, {precision}"


# --- the command --------------------------------------------------------------------------


def nvidia_smi() -> str:
    """Return the driver's version and the device's state, or why they are unknown."""
    wanted = "driver_version,clocks.sm,clocks.mem,temperature.gpu,power.draw,utilization.gpu"
    try:
        done = subprocess.run(
            ["nvidia-smi", f"--query-gpu={wanted}", "--format=csv,noheader", "--id=0"],
            capture_output=True, text=True, timeout=20,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"nvidia-smi: {type(error).__name__}"
    return (done.stdout or done.stderr).strip() or "nvidia-smi says nothing"


def slug(name: str) -> str:
    """Return a device's name as part of a file name.

    Examples
    --------
    >>> slug("NVIDIA H200")
    'nvidia-h200'
    """
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def options(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(__doc__)
    add = parser.add_argument
    add("mnist", help="folder with MNIST's four IDX files, gzipped or not")
    add("folder", nargs="?", type=Path, help="where the report goes, if there is a GPU")
    add("--out", type=Path, help="where the report goes even if it is of a CPU")
    add("--device", choices=("gpu", "cpu"), default="gpu", help="cpu: to see that the script runs")
    add("--quick", action="store_true", help="about a minute: fewer sizes, fewer rounds")
    add("--seconds", type=float, help="in all (default: 480, with --quick 60, on a CPU 120)")
    add("--seed", type=int, help="of the kernels' cases (default: a fresh one, which is printed)")
    add("--skip", default="", metavar="A,B", help=f"of: {', '.join(SKIPPABLE)}")
    given = parser.parse_args(argv)
    given.skip = [name for name in given.skip.split(",") if name]
    for name in given.skip:
        if name not in SKIPPABLE:
            parser.error(f"--skip {name}: expected some of {', '.join(SKIPPABLE)}")
    if given.seconds is not None and not given.seconds > 0:
        parser.error(f"--seconds {given.seconds}: expected more than none")
    if given.device == "gpu" and not (given.folder or given.out):
        parser.error("where does the report go? type a folder after MNIST's")
    given.seed = secrets.randbits(32) if given.seed is None else given.seed
    return given


SKIPPABLE = ("tests", "kernels", "training", "measuring", "ingredients")
SKIPPABLE += ("cpu", "cupy", "torch", "torch.compile", "jax")


def plan_for(device: str, quick: bool, seconds: float | None) -> Plan:
    """Return how much is done on a device."""
    plan = ON_CPU if device == "cpu" else QUICK if quick else FULL
    if quick:
        plan = replace(plan, seconds=QUICK.seconds)
    return replace(plan, seconds=seconds) if seconds else plan


def main(argv: Sequence[str] | None = None) -> int:
    """Check and measure; see the module."""
    given = options(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        data = load(given.mnist)
        for folder in (given.folder, given.out):
            if folder:
                folder.mkdir(parents=True, exist_ok=True)
    except (DataError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    os.environ |= {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "TF_CPP_MIN_LOG_LEVEL": "2"}
    for name in ("CUPY_TF32", "NVIDIA_TF32_OVERRIDE", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE"):
        os.environ.pop(name, None)  # precision is this script's to choose
    session = Session(given, data)
    try:
        session.run()
    except KeyboardInterrupt:
        session.report["cut"].append("interrupted; what would follow is missing")
    except Exception as error:  # what was measured must not be lost by it
        traceback.print_exc()
        session.report["problems"].append(f"the script: {type(error).__name__}: {error}")
    return session.end()


class Session:
    """One call of the command.

    Parameters
    ----------
    given : argparse.Namespace
    data : Dataset

    Attributes
    ----------
    report : dict
        What goes to the files, from the start on.
    """

    def __init__(self, given: argparse.Namespace, data: Dataset) -> None:
        self.given, self.data = given, data
        self._started = time.monotonic()
        self.no_gpu = ""
        self._running: list[Any] = []
        self._ingredients: Ingredients | None = None
        self._plan_for(given.device)
        parts = ("tests", "kernels", "training")
        self.report: Row = {"gpu": given.device == "gpu", "data": {}, "machine": {}}
        self.report |= dict.fromkeys(parts) | {"limits": {}, "launch": {}}
        lists = ("checks", "times", "ingredient_checks", "ingredients", "memory", "deforming")
        lists += ("pays", "not_timed", "cut", "problems")
        self.report |= {name: [] for name in lists}

    def _plan_for(self, device: str) -> None:
        self.device = device
        self.plan = plan_for(device, self.given.quick, self.given.seconds)
        self.until = Deadline(self.plan.seconds - (time.monotonic() - self._started))

    def run(self) -> None:
        """Do everything in its order."""
        machine = self._machine()  # which may choose another plan
        given, report, plan = self.given, self.report, self.plan
        print(f"{report['machine']['device']}; cases from seed {given.seed}", flush=True)
        report["cut"] += [f"{name}: skipped, as asked" for name in given.skip]
        seconds = {name: share * plan.seconds for name, share in SHARES.items()}
        # compiled beside what is not timed, where there are cores enough
        early = cores() >= 8
        if "ingredients" not in given.skip and early:
            self._prepare_ingredients()
        if "tests" not in given.skip:
            print("tests: pytest -m gpu", flush=True)
            tests = check_tests(self.until.within(seconds["tests"]))
            report["tests"] = tests
            print(f"tests: {tests['passed']} passed, {tests['failed']} failed", flush=True)
            report["cut"] += ["pytest -m gpu, by the time"] * tests["cut"]
            self.save()
        ahead = seconds["kernels"] + seconds["training"] / 2 if early else 0.0
        if ahead:
            self._prepare(ahead)
        if "kernels" not in given.skip:
            print("kernels against base.py", flush=True)
            until = self.until.within(seconds["kernels"])
            report["kernels"] = kernels = check_kernels(self.device, given.seed, until)
            print(f"kernels: {kernels['cases']} cases", flush=True)
            report["cut"] += ["kernels: no case in the time"] * (not kernels["cases"])
            self.save()
        if "training" not in given.skip:
            print("training the default recipe", flush=True)
            until = self.until.within(seconds["training"])
            training = check_training(given.mnist, plan.samples, self.device, until)
            report["training"] = training
            report["cut"] += training["cut"]
            self.save()
        if "measuring" not in given.skip:
            if self._ingredients:  # idle from here on, while others are timed
                self._ingredients.settle(*2 * [min(30.0, 0.1 * self.until.left)])
            if not ahead:
                self._prepare(0.1 * self.until.left)
            wrong = self._team.prepared(self._calls, min(60.0, 0.3 * self.until.left))
            for line in wrong.values():
                print(f"not prepared: {line}", flush=True)
            kept = seconds["rest"] + seconds["ingredients"] * ("ingredients" not in given.skip)
            until = self.until.within(self.until.left - kept)
            measure_machine(machine, plan, until.within(0.1 * until.left), report)
            measure(self._team, plan, self.device, report, until, self.save)
        if "ingredients" not in given.skip:
            print("ingredients", flush=True)
            until = self.until.within(self.until.left - seconds["rest"])
            team = self._ingredients or self._prepare_ingredients()
            team.settle(0.5 * until.left, 0.1 * until.left)
            if not report["limits"]:
                measure_machine(machine, plan, until.within(0.1 * until.left), report)
            team.measure(report, plan.rounds, plan.grace, until, self.save)
        if report["limits"] and self.until.left > 0:  # shows a machine that has become slower
            measure_limits(machine, plan, self.until.within(seconds["rest"] / 3), report)

    def _prepare_ingredients(self) -> Ingredients:
        """Start their contenders, and start to check and compile."""
        given, plan = self.given, self.plan
        works = works_of(plan.ingredients, self.report["data"]["train"])
        team = Ingredients(given.mnist, self.device, plan.samples, given.skip, works)
        self._ingredients = team
        self._running.append(team)
        team.prepare()
        return team

    def _prepare(self, seconds: float) -> None:
        """Start the contenders, and start to compile what they will need."""
        if "measuring" not in self.given.skip:
            self._team = Team(self.given.mnist, self.device, self.plan.samples, self.given.skip)
            self._running.append(self._team)
            self._calls = self._team.prepare(self.plan, seconds)

    def _machine(self) -> Worker:
        """Start the process that describes the device, or the CPU where there is no GPU."""
        if self.device == "gpu":
            machine = Worker("machine", Machine, "gpu")
            self._running.append(machine)
            try:
                self._describe(machine)
                return machine
            except FAILURES as error:
                machine.kill()
                self.no_gpu = re.sub(r"^machine: (BackendUnavailable: )?", "", str(error))
                print(f"no GPU: {self.no_gpu}; going on with the CPU", flush=True)
                self._plan_for("cpu")
                self.report["gpu"] = False
        os.environ |= {"CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu"}
        machine = Worker("machine", Machine, "cpu")
        self._running.append(machine)
        self._describe(machine)
        return machine

    def _describe(self, machine: Worker) -> None:
        about = machine.call("describe", seconds=120.0)
        about |= circumstances()
        about["nvidia_smi"] = [nvidia_smi()] if self.device == "gpu" else []
        self.report["machine"] = about
        small = first_samples(self.data, self.plan.samples)
        numbers = {"train": len(small.train_x), "test": len(small.test_x)}
        numbers |= {"features": small.train_x.shape[1], "classes": len(small.classes)}
        self.report["data"] = {"name": self.data.name} | numbers

    def save(self, text: str = "") -> list[Path]:
        """Write the report so far, and its text; return the paths."""
        report, out = self.report, self.given.out or (self.given.folder if self.gpu else None)
        report["seconds"] = time.monotonic() - self._started
        report["allowed_seconds"] = self.plan.seconds
        report["pays"] = which_pays(report)
        if not out:
            return []
        name = f"gpu-{slug(report['machine']['device']) if self.gpu else 'cpu'}"
        return write_report(out, name, report, text)

    @property
    def gpu(self) -> bool:
        """Return whether a GPU is measured."""
        return self.report["gpu"]

    def end(self) -> int:
        """End the processes, write and print the report; return the exit code."""
        for running in self._running:
            running.kill()
        report, files = self.report, []
        if report["machine"]:
            report["machine"]["load"].append(load_average())
            report["machine"]["nvidia_smi"] += [nvidia_smi()] * self.gpu
            self.save()  # the numbers, whatever becomes of the text
            text = markdown(report)
            files = self.save(text)
            print(f"\n{text}")
        found = problems(report)
        if files:
            print(f"written: {', '.join(map(str, files))}")
        elif not self.gpu:
            print("not written, being no GPU measurement; --out FOLDER writes it")
        checked = passed(report).rstrip(".")
        if found:
            more = f" and {len(found) - 1} more, see above" * (len(found) > 1)
            checked = f"FAILED: {found[0]}{more}"
        cut = count_of(len(report["cut"]), "part")
        checked += f"; {cut} cut or skipped, see above" * bool(report["cut"])
        if self.no_gpu:
            print(f"no GPU: {self.no_gpu}; what was checked on the CPU: {checked}")
            return 1
        print(checked)
        return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

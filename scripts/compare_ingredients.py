"""Compare how long ingredients and depths take, here and in others, side by side on this machine.

    python scripts/compare_ingredients.py                            # MNIST, all cores, five rounds
    python scripts/compare_ingredients.py --rows '256/128/*' '*/adam' --contenders jax
    python scripts/compare_ingredients.py --quick                    # to see that it runs

A row of the comparison is a network, a batch size and an ingredient, NETWORK/BATCH/INGREDIENT:

    256/128, 256/32, 256/1024, 1000/128 and 200-200/128 with each ingredient: sgd, momentum (0.9),
    nesterov (0.9), adam, adamw (decay 0.01), then momentum with one of dropout (0.2),
    input-dropout (0.2), clip (1), batch-norm, gelu or averaging (0.999), and at last
    adam+dropout+clip+averaging and all, which is adamw with each of these
    800-800 and 2500-2000-1500-1000-500, batch 100 and 512, with momentum and adam

All are ReLU networks with biases, softmax and cross-entropy, in float32. The others:

    jax            lax.scan over the batches under jit, with optax
    torch          autograd and the fused optimisers, eager
    torch.compile  its loss and its step compiled, where there is a C++ compiler

Each first shows that it computes what this trainer does, in a small network of the same depth from
the same weights. What does not is an error and is not timed; what is missing is skipped. Every
contender has a process of its own, idle outside its turn, and they take turns in rounds. Medians,
spreads and ratios go to cpu_ingredients.json and .md in the folder --out after every row. Leave the
machine alone meanwhile, about an hour on two cores; --samples, --rows and --contenders shorten it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import partial
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # this checkout is measured, not what may be installed

from backends import describe_cpu  # noqa: E402
from benchmarks.ingredient_peers import (  # noqa: E402
    CHECKED_EPOCHS,
    CHECKED_SAMPLES,
    CHECKED_UNITS,
    CLIP_TOLERANCE,
    CONTENDERS,
    INGREDIENTS,
    OURS,
    TOLERANCE,
    Arrays,
    Contender,
    Work,
    start_arrays,
)
from scripts.measuring import (  # noqa: E402
    Parser,
    PeerError,
    Row,
    Worker,
    as_contender,
    as_number,
    as_spread,
    as_table,
    compared,
    describe_machine,
    in_turns,
    load_average,
    machine_line,
    median_ratio,
    summary,
    use_cpu,
    write_report,
)
from trainer import DataError, Dataset, load  # noqa: E402

PACKAGES = ("numpy", "scipy", "numba", "jax", "jaxlib", "optax", "torch")
PLAIN = "momentum"
LARGEST = 5_000_000  # weights; a larger network is measured on fewer samples
FEW = 5_000
QUICK = ("256/128/momentum", "256/128/batch-norm", "200-200/128/adam+dropout+clip+averaging")


def rows(features: int, classes: int, samples: int) -> list[Work]:
    """Return all rows of the comparison; an epoch has so many samples."""
    shapes: list[tuple[tuple[int, ...], tuple[int, ...], Sequence[str]]] = [
        ((256,), (128, 32, 1024), tuple(INGREDIENTS)),
        ((1000,), (128,), tuple(INGREDIENTS)),
        ((200, 200), (128,), tuple(INGREDIENTS)),
        ((800, 800), (100, 512), (PLAIN, "adam")),
        ((2500, 2000, 1500, 1000, 500), (100, 512), (PLAIN, "adam")),
    ]
    found = []
    for hidden, batches, ingredients in shapes:
        sizes = (features, *hidden, classes)
        weights = sum(a * b for a, b in pairwise(sizes))
        n = min(samples, FEW) if weights > LARGEST else samples
        found += [Work.of(hidden, b, i, n) for b in batches if b <= n for i in ingredients]
    return found


def contender(name: str, source: str) -> Contender:
    """Make one of `CONTENDERS` with the data it learns from."""
    return CONTENDERS[name](load(source))


# --- the comparison -----------------------------------------------------------------------


@dataclass
class Comparison:
    """Checks and times the contenders that there are, row by row, and keeps the report.

    Parameters
    ----------
    workers : dict
        By name in `CONTENDERS`, this trainer among them.
    data : Dataset
    rounds : int
    report : dict
    """

    workers: dict[str, Worker]
    data: Dataset
    rounds: int
    report: Row
    _wanted: dict[Work, Arrays] = field(default_factory=dict)
    _agree: dict[tuple[str, Work], bool] = field(default_factory=dict)

    def run(self, works: Sequence[Work], save: Callable[[], None]) -> None:
        """Measure every row, and save the report after each."""
        for number, work in enumerate(works, start=1):
            print(f"{number} of {len(works)}: {work.name}", flush=True)
            # ours last: it is what the others are checked by, and would lose what it has prepared
            names = sorted(self.workers, key=lambda name: name == OURS)
            ready = [name for name in names if self._can(name, work)]
            jobs = {name: partial(self.workers[name].call, "seconds") for name in ready}
            self.report["rows"].append(row(work, in_turns(jobs, self.rounds), self.data))
            save()

    def _can(self, name: str, work: Work) -> bool:
        """Check and prepare a contender; return whether it can be timed."""
        try:
            if name != OURS and not self._agrees(name, work.checked()):
                return False
            self.workers[name].call("prepare", work)
            self.workers[name].call("train")  # what is compiled is compiled now
        except (ImportError, PeerError) as error:
            if name == OURS:
                raise PeerError(str(error)) from error  # nothing to compare with
            missing = isinstance(error, ImportError)
            line = str(error) if missing else f"{work.name}: {error}"
            self.report["skipped" if missing else "failed"].append(line)
            print(f"not timed: {line}", flush=True)
            if missing or not self.workers[name].alive:
                self.workers.pop(name).stop()
            return False
        return True

    def _agrees(self, name: str, small: Work) -> bool:
        """Return whether a contender computes what ours does; raise PeerError if it is news."""
        if (name, small) not in self._agree:
            self._agree[name, small] = False
            ours, call = self.workers[OURS].call, self.workers[name].call
            if small not in self._wanted:
                self._wanted[small] = ours("check", small)
            features, classes = self.data.train_x.shape[1], len(self.data.classes)
            found = call("check", small), None
            wanted, tolerance = (self._wanted[small], None), call("tolerance", small)
            start = start_arrays(features, small, classes)
            result, wrong = compared(found, wanted, start, tolerance, 0.0)
            check = {"contender": name, "ingredient": small.ingredient, "depth": len(small.hidden)}
            self.report["checks"].append(check | result)
            if wrong:
                raise PeerError(f"{name}: does not compute the same: {wrong}")
            self._agree[name, small] = True
        return self._agree[name, small]


def row(work: Work, runs: Mapping[str, list[float]], data: Dataset) -> Row:
    """Summarise the seconds that the contenders took; those kept are of an epoch of all samples."""
    every = len(data.train_x)
    times = {name: summary(seconds, every / work.samples) for name, seconds in runs.items()}
    peers = {name: time["median"] for name, time in times.items() if name != OURS}
    fastest = min(peers, key=peers.__getitem__, default=None)
    ratio = None
    if fastest is not None:
        ratio = median_ratio(dict(enumerate(runs[fastest])), dict(enumerate(runs[OURS])))
    return {
        "name": work.name,
        "sizes": [data.train_x.shape[1], *work.hidden, len(data.classes)],
        "batch": work.settings.batch_size,
        "ingredient": work.ingredient,
        "samples": work.samples,
        "learning_rate": work.settings.learning_rate,
        "times": times,
        "fastest_peer": fastest,
        "fastest_peer_over_ours": ratio,
    }


# --- the report ---------------------------------------------------------------------------

METHOD = f"""\
- Every contender has a process of its own with the same number of threads and is idle while
  another measures. In a round each learns one more epoch from where it stands, each round starts
  with another, and two epochs before are not counted, compilation with them. Times are medians over
  the rounds, in seconds an epoch, and in brackets the shortest and the longest.
- "fastest peer / ours" is the median of the rounds' ratios to the fastest of the others: above 1
  this trainer is faster. "ours / momentum" is our median over that of plain momentum.
- An epoch is whole batches of the first samples, as many as the title says, in the same order, and
  the times are scaled to all training samples. Ours is `EpochReport.seconds`, from bytes of pixels;
  it includes the training loss, which the others need not sum, and what is done once an epoch,
  which weighs more where the samples are few. The others have the samples as dense float32,
  uploaded before the clock starts.
- Momentum is 0.9, and in Nesterov's form in `nesterov`; AdamW's decay is 0.01, of matrices alone;
  what is dropped has the probability 0.2; a batch's gradients have a joint norm of 1 at most; the
  average's β is 0.999, and less in the first steps; GELU is the form with tanh. All but `sgd` and
  the Adams go with momentum; `all` is AdamW with all of this. The learning rate is Adam's 0.001,
  else 0.01, and a quarter of it with five hidden layers, so that nothing diverges; it costs no
  time.
- That all compute the same is checked in float64, from the same weights: {CHECKED_EPOCHS} epochs of
  {CHECKED_SAMPLES} samples in batches of 32, in a network with as many hidden layers, of
  {CHECKED_UNITS} units each, with a clip of 0.1, which acts. The last table has the largest
  difference from ours of a weight, gain, running moment or average, as a share of its array's
  largest change. Allowed are {TOLERANCE:g}, and {CLIP_TOLERANCE:g} for PyTorch's clip, which
  divides by the norm plus 1e-6. As each draws other noise, dropout is checked with nothing dropped.
"""


def markdown(report: Row) -> str:
    """Format the report as tables."""
    data, contenders = report["data"], report["contenders"]
    about = [as_contender(name, CONTENDERS[name].about) for name in contenders]
    blocks = [
        f"# Ingredients and depths on {data['name']}, measured",
        machine_line(report["machine"]),
        f"Rounds: {report['rounds']}; {data['train']:,} training samples, {data['non_zero']:.0%} of"
        " whose pixels are not zero.",
        "; ".join(about) + ".",
        METHOD.strip(),
        *(f"Not timed: {line}." for line in report["skipped"] + report["failed"]),
    ]
    groups: dict[str, list[Row]] = {}
    for r in report["rows"]:
        network = "-".join(map(str, r["sizes"]))
        title = f"## {network}, batch size {r['batch']}, {r['samples']:,} samples"
        groups.setdefault(title, []).append(r)
    head = ("", *(f"{name}, s" for name in contenders), "fastest peer / ours", "ours / momentum")
    for title, group in groups.items():
        plain = {r["ingredient"]: r["times"][OURS]["median"] for r in group}.get(PLAIN)
        blocks += [title, as_table([head, *(_cells(r, contenders, plain) for r in group)])]
    names = [name for name in contenders if name != OURS]
    kinds = dict.fromkeys((c["ingredient"], c["depth"]) for c in report["checks"])
    checks = {(c["contender"], c["ingredient"], c["depth"]): c for c in report["checks"]}
    if kinds:
        table = [("", "hidden layers", *names)]
        for ingredient, depth in kinds:
            found = [checks.get((name, ingredient, depth)) for name in names]
            cells = [f"{c['difference']:.1e}" if c else "–" for c in found]
            without = "without noise" if "dropout" in ingredient else ""
            table.append((f"{ingredient} {without}".strip(), str(depth), *cells))
        blocks += ["## That all compute the same", as_table(table)]
    return "\n\n".join(blocks) + "\n"


def _cells(r: Row, contenders: Sequence[str], plain: float | None) -> tuple[str, ...]:
    times = []
    for name in contenders:
        if name in r["times"]:
            median, ends = as_spread(r["times"][name], 1.0)
            times.append(f"{median} ({ends})")
        else:
            times.append("–")
    ratio, fastest = r["fastest_peer_over_ours"], r["fastest_peer"]
    over = "–" if ratio is None else f"{as_number(ratio)} ({fastest})"
    own = "–" if plain is None else as_number(r["times"][OURS]["median"] / plain)
    return (r["ingredient"], *times, over, own)


# --- the command --------------------------------------------------------------------------


def options(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    cores, parser = describe_cpu()["cores"], Parser(__doc__)
    others = [name for name in CONTENDERS if name != OURS]
    add = parser.add_argument
    add("--data", default="mnist", help="as `trainer --data` takes it (default: mnist)")
    add("--threads", type=int, default=cores, help=f"of each contender (default: all, {cores})")
    add("--rounds", type=int, help="that count (default: 5, with --quick 2)")
    add("--samples", type=int, help="an epoch is the first so many (default: all)")
    add("--rows", nargs="+", metavar="ROW", help="names or patterns (default: all)")
    add(
        "--contenders", nargs="+", choices=others, default=others, help="beside ours (default: all)"
    )
    add("--out", type=Path, help="folder for both files (default: benchmarks, with --quick none)")
    add("--quick", action="store_true", help="three rows of few samples, to see that it runs")
    given = parser.parse_args(argv)
    for name, quick, default in (("rounds", 2, 5), ("samples", 4_000, 10**9)):
        if getattr(given, name) is None:
            setattr(given, name, quick if given.quick else default)
        if getattr(given, name) < 1:
            parser.error(f"--{name} {getattr(given, name)}: expected one or more")
    given.rows = given.rows or (QUICK if given.quick else ("*",))
    given.out = given.out or (None if given.quick else ROOT / "benchmarks")
    if not 1 <= given.threads <= cores:
        parser.error(f"--threads {given.threads}: expected 1 to {cores}, the cores there are")
    return given


def chosen(works: Sequence[Work], patterns: Sequence[str]) -> list[Work]:
    """Return the rows with such names; raise PeerError if a pattern has none."""
    for pattern in patterns:
        if not any(fnmatchcase(work.name, pattern) for work in works):
            names = ", ".join(work.name for work in works[:3])
            raise PeerError(f"--rows {pattern}: there is no such row; there are {names}, …")
    return [work for work in works if any(fnmatchcase(work.name, p) for p in patterns)]


def main(argv: Sequence[str] | None = None) -> int:
    """Compare; return 1 if a contender failed, 2 for a mistake in the call."""
    given = options(argv)
    workers: dict[str, Worker] = {}
    try:
        if given.out:
            given.out.mkdir(parents=True, exist_ok=True)
        data = load(given.data)
        n, features = data.train_x.shape
        works = rows(features, len(data.classes), min(given.samples, n))
        try:
            works = chosen(works, given.rows)
        except PeerError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        names = [OURS, *given.contenders]
        non_zero = float((data.train_x != 0).mean())
        report: Row = {
            "machine": describe_machine(given.threads, PACKAGES),
            "data": {"name": data.name, "train": n, "non_zero": non_zero},
            "rounds": given.rounds,
            "contenders": names,
            **{key: [] for key in ("checks", "skipped", "failed", "rows")},
        }

        def save() -> None:
            report["machine"]["load"][1:] = [load_average()]
            if given.out:
                write_report(given.out, "cpu_ingredients", report, markdown(report))

        use_cpu(given.threads)
        for name in names:
            workers[name] = Worker(name, contender, name, given.data, threads=given.threads)
        Comparison(workers, data, given.rounds, report).run(works, save)
        print(f"\n{markdown(report)}")
    except KeyboardInterrupt:
        print("\ninterrupted; the rows before were written", file=sys.stderr)
        return 130
    except (DataError, OSError, PeerError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1 if isinstance(error, PeerError) else 2
    finally:
        for worker in workers.values():
            worker.stop()
    for line in report["failed"]:
        print(f"error: {line}", file=sys.stderr)
    return 1 if report["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())

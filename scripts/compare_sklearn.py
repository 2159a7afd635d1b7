"""Compare `trainer.MLPClassifier` with scikit-learn's own: python scripts/compare_sklearn.py

Both get the same arrays and the same settings, and learn for so many epochs as each data set says,
without early stopping: scikit-learn's 8×8 digits, standardised; MNIST, from 0 to 1; and a text set
that no dense array of this machine's memory holds: the modules of Python's standard library in
pieces of twenty lines, whose classes are the packages that they are from and whose features are the
words in them, one to three in a row (TF-IDF). Seeds differ from round to round; both take turns.
Some ten minutes on two cores. The table goes to stdout, to sklearn.md and to sklearn.json in --out.

    python scripts/compare_sklearn.py --data FOLDER_OF_MNIST --sets digits mnist --rounds 3
"""

from __future__ import annotations

import statistics
import sys
import sysconfig
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import sklearn.neural_network
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # this checkout is measured, not what may be installed

from scripts.measuring import (  # noqa: E402
    Parser,
    Row,
    as_number,
    as_table,
    machine_and_versions,
    median_ratio,
    summary,
    write_report,
)
from trainer import MLPClassifier, load  # noqa: E402
from trainer.data import DataError  # noqa: E402

_LINES = 20  # of a module in a piece of text
_FEWEST = 100  # pieces of a package that is a class
_STILL = 0.5  # seconds before a run, as threads of BLAS wait busily for a moment after the last
_SOLVERS: dict[str, dict[str, Any]] = {
    "adam": {},
    "sgd": {"learning_rate_init": 0.1},
}


@dataclass(frozen=True, eq=False)
class Task:
    """Samples to train and to test on, and for how long."""

    train: tuple[Any, np.ndarray]
    test: tuple[Any, np.ndarray]
    epochs: int
    hidden: int = 100


def digits(source: str) -> Task:
    x, y = load_digits(return_X_y=True)
    train, test, train_y, test_y = train_test_split(x, y, test_size=0.2, stratify=y, random_state=0)
    scaler = StandardScaler().fit(train)
    return Task((scaler.transform(train), train_y), (scaler.transform(test), test_y), epochs=50)


def mnist(source: str) -> Task:
    data = load(source)
    x, test_x = (part.astype(np.float32) / 255 for part in (data.train_x, data.test_x))
    return Task((x, data.train_y), (test_x, data.test_y), epochs=10)


def text(source: str) -> Task:
    """Make features of the words in the packages of Python's standard library."""
    pieces, packages = [], []
    root = Path(sysconfig.get_paths()["stdlib"])
    for folder in sorted(root.iterdir()):
        if folder.name in ("site-packages", "test", "lib-dynload") or not folder.is_dir():
            continue
        for file in sorted(folder.rglob("*.py")):
            lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
            for start in range(0, len(lines) - _LINES + 1, _LINES):
                pieces.append("\n".join(lines[start : start + _LINES]))
                packages.append(folder.name)
    names, counts = np.unique(packages, return_counts=True)
    kept = np.isin(packages, names[counts >= _FEWEST])
    x = TfidfVectorizer(ngram_range=(1, 3), dtype=np.float32).fit_transform(
        [piece for piece, is_kept in zip(pieces, kept, strict=True) if is_kept]
    )
    y = np.array(packages)[kept]
    parts = train_test_split(x, y, test_size=0.2, stratify=y, random_state=0)
    return Task((parts[0], parts[2]), (parts[1], parts[3]), epochs=3, hidden=20)


SETS: dict[str, Callable[[str], Task]] = {"digits": digits, "mnist": mnist, "text": text}


def trained(make: Callable[..., Any], task: Task, solver: str, seed: int) -> tuple[float, float]:
    """Train once; return seconds, and the share of the test samples that are right."""
    network = make(
        (task.hidden,),
        solver=solver,
        max_iter=task.epochs,
        n_iter_no_change=task.epochs + 1,
        random_state=seed,
        **_SOLVERS[solver],
    )
    time.sleep(_STILL)
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # all epochs are asked for
        network.fit(*task.train)
    seconds = time.perf_counter() - start
    return seconds, network.score(*task.test)


def compare(name: str, task: Task, solver: str, rounds: int) -> Row:
    """Train both in turns; the first round compiles and does not count."""
    makes = {"ours": on_the_cpu, "theirs": sklearn.neural_network.MLPClassifier}
    found: dict[str, list[tuple[float, float]]] = {who: [] for who in makes}
    for seed in range(rounds + 1):
        for who, make in makes.items():
            if seed or who == "ours":
                result = trained(make, task, solver, seed)
                found[who] += [result] if seed else []
    seconds = {who: dict(enumerate(s for s, _ in runs)) for who, runs in found.items()}
    x = task.train[0]
    return {
        "set": name,
        "shape": list(x.shape),
        "dtype": str(x.dtype),
        "density": x.nnz / np.prod(x.shape, dtype=float) if hasattr(x, "nnz") else None,
        "classes": len(np.unique(task.train[1])),
        "solver": solver,
        "hidden": task.hidden,
        "epochs": task.epochs,
        "seconds": {who: summary(s for s, _ in runs) for who, runs in found.items()},
        "accuracy": {who: [share for _, share in runs] for who, runs in found.items()},
        "ratio": median_ratio(seconds["theirs"], seconds["ours"]),
    }


def on_the_cpu(*arguments: Any, **settings: Any) -> MLPClassifier:
    """Make ours on the CPU, where scikit-learn's is."""
    return MLPClassifier(*arguments, device="cpu", **settings)


def markdown(report: dict[str, Any]) -> str:
    """Return the report as a page."""
    titles = (
        "data",
        "samples × features",
        "solver",
        "epochs",
        "ours, s",
        "scikit-learn, s",
        "times as fast",
        "ours, % right",
        "scikit-learn, % right",
    )
    rows = []
    for row in report["rows"]:
        samples, features = row["shape"]
        seconds = [as_number(row["seconds"][who]["median"]) for who in ("ours", "theirs")]
        right = [f"{100 * statistics.mean(row['accuracy'][who]):.2f}" for who in ("ours", "theirs")]
        size = f"{samples:,} × {features:,}, {row['dtype']}"
        ratio = as_number(row["ratio"])
        rows.append([row["set"], size, row["solver"], str(row["epochs"]), *seconds, ratio, *right])
    held = "; ".join(
        f"a dense array of {row['set']} would take"
        f" {np.prod(row['shape'], dtype=float) * np.dtype(row['dtype']).itemsize / 2**30:.0f} GiB,"
        f" of which {row['density']:.3%} are not 0"
        for row in report["rows"]
        if row["density"] is not None and row["solver"] == report["rows"][-1]["solver"]
    )
    return (
        "# `trainer.MLPClassifier` beside scikit-learn's\n\n"
        f"The same arrays and settings (batches of 200, one hidden layer of {_hidden(report)},"
        " alpha 0.0001, adam at 0.001, sgd at 0.1 with Nesterov's momentum of 0.9), both in turns:"
        f" medians of {report['rounds']} runs of `fit`, the median of their ratios, and the mean"
        f" share of the test samples that are right{f'; {held}' if held else ''}."
        f" {report['machine']}; {', '.join(f'{k} {v}' for k, v in report['versions'].items())}.\n\n"
        f"{as_table([titles, *rows])}\n"
    )


def _hidden(report: dict[str, Any]) -> str:
    widths = {row["set"]: row["hidden"] for row in report["rows"]}
    return ", ".join(f"{hidden} ({name})" for name, hidden in widths.items())


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print and write the report."""
    parser = Parser(__doc__)
    parser.add_argument("--data", default="mnist", help="MNIST, as train takes it")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("benchmarks"))
    given = parser.parse_args(argv)
    if given.rounds < 1:
        parser.error(f"--rounds {given.rounds}: expected one or more")
    given.out.mkdir(parents=True, exist_ok=True)  # before minutes of work, not after
    rows = []
    for name in given.sets:
        try:
            task = SETS[name](given.data)
        except DataError as error:
            parser.error(str(error))
        for solver in _SOLVERS:
            rows.append(row := compare(name, task, solver, given.rounds))
            print(f"{name}, {solver}: {row['ratio']:.2f} times as fast", flush=True)
    machine = machine_and_versions()
    machine["versions"]["scikit-learn"] = version("scikit-learn")
    report = {**machine, "rounds": given.rounds, "rows": rows}
    page = markdown(report)
    write_report(given.out, "sklearn", report, page)
    print(page)
    return 0


if __name__ == "__main__":
    sys.exit(main())

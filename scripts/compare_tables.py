"""Compare the recipe `table` with scikit-learn's MLPClassifier: python scripts/compare_tables.py

Each table is split anew ten times, four fifths to train and one to test, the classes in
proportion. The parts are written as CSV files, text, gaps and all, and read as `python -m trainer
--data TRAIN --test-data TEST` reads them. scikit-learn has the same rows, behind a StandardScaler,
with medians in place of missing numbers and an input for each word, and all its own defaults. With
--encoded both learn the very arrays that scikit-learn makes of the rows, which compares the
training alone. Some two minutes on two cores. The table goes to stdout, to tables.md and with every
split to tables.json in the folder --out. `large` is left out unless it is named: scikit-learn takes
minutes for one split of it.

    python scripts/compare_tables.py --tables large --splits 1 --out /tmp/large
"""

from __future__ import annotations

import csv
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.compose import make_column_transformer
from sklearn.datasets import (
    load_breast_cancer,
    load_digits,
    load_iris,
    load_wine,
    make_classification,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.impute import SimpleImputer
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # this checkout is measured, not what may be installed

from backends import Backend, select  # noqa: E402
from scripts.measuring import (  # noqa: E402
    Parser,
    Row,
    as_number,
    as_table,
    machine_and_versions,
    summary,
    write_report,
)
from trainer import fit, load  # noqa: E402
from trainer.data import DataError, Dataset  # noqa: E402
from trainer.recipes import RECIPES, build  # noqa: E402


@dataclass(frozen=True, eq=False)
class Cells:
    """A table: numbers, NaN where one is missing, words, "" where one is, and labels."""

    numbers: np.ndarray  # (rows, columns) float64
    labels: np.ndarray  # (rows,) int64 or text
    words: np.ndarray | None = None  # (rows, columns) text

    @property
    def features(self) -> np.ndarray:
        """Return numbers and words side by side, (rows, columns) objects."""
        if self.words is None:
            return self.numbers.astype(object)
        return np.hstack([self.numbers.astype(object), self.words.astype(object)])


# --- the tables -------------------------------------------------------------------------------


def _named(loader: Callable[[], Any]) -> Cells:
    bunch = loader()
    return Cells(bunch.data, np.asarray(bunch.target_names)[bunch.target])


def letters(rows: int = 4000) -> Cells:
    """Make 16 whole numbers from 0 to 15 for each of 26 letters, as UCI's letters have them."""
    rng = np.random.default_rng(0)
    centres, codes = rng.integers(2, 14, (26, 16)), rng.integers(0, 26, rows)
    numbers = np.clip(np.rint(centres[codes] + rng.normal(0, 2, (rows, 16))), 0, 15)
    return Cells(numbers, np.array([chr(65 + code) for code in codes]))


def customers(rows: int = 1500) -> Cells:
    """Make a table of unlike scales, gaps and words, of which 85 % belong to one class.

    One number of twenty and one word of forty are missing. Both columns of words, of 4 and of 30
    different ones, go with the class.
    """
    rng = np.random.default_rng(0)
    x, y = make_classification(
        rows, 10, n_informative=6, n_redundant=2, weights=[0.85], flip_y=0.02, random_state=0
    )
    x = x * 10.0 ** np.linspace(-3, 5, 10) + 10.0 ** np.linspace(-2, 4, 10)
    x[rng.random(x.shape) < 0.05] = np.nan
    regions = np.where(rng.random(rows) < 0.4, 3 * y, rng.integers(0, 4, rows))
    towns = rng.integers(0, 30, rows)
    towns = np.where(rng.random(rows) < 0.4, towns // 2 * 2 + y, towns)
    words = np.stack(
        [
            np.array(["north", "east", "south", "west"])[regions],
            np.array([f"town {town}" for town in towns]),
        ],
        axis=1,
    )
    words[rng.random(rows) < 0.05, 1] = ""
    return Cells(x, np.where(y == 1, "left", "stayed"), words)


def large() -> Cells:
    """Make 100,000 rows of 50 columns and seven classes."""
    x, y = make_classification(
        100_000,
        50,
        n_informative=20,
        n_redundant=10,
        n_classes=7,
        n_clusters_per_class=3,
        random_state=0,
    )
    return Cells(x, y.astype(np.int64))


TABLES: dict[str, Callable[[], Cells]] = {
    "iris": lambda: _named(load_iris),
    "wine": lambda: _named(load_wine),
    "breast cancer": lambda: _named(load_breast_cancer),
    "digits": lambda: _named(load_digits),
    "letters": letters,
    "text, gaps, imbalance": customers,
    "large": large,
}
USUAL = tuple(name for name in TABLES if name != "large")


# --- a split of one -----------------------------------------------------------------------------


def write_csv(path: Path, cells: Cells, rows: np.ndarray) -> None:
    """Write some rows: a header, the label first, whole numbers as such, nothing where one lacks.

    Numbers have all the digits that they need.
    """
    features = cells.features
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["label", *(f"x{column}" for column in range(1, features.shape[1] + 1))])
        for row in rows:
            writer.writerow([cells.labels[row], *map(_as_text, features[row])])


def _as_text(cell: float | str) -> str:
    if isinstance(cell, str):
        return cell
    if np.isnan(cell):
        return ""
    return str(int(cell)) if cell == int(cell) else repr(float(cell))


def read(cells: Cells, train: np.ndarray, test: np.ndarray) -> Dataset:
    """Write both parts as CSV files and load them."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{name}.csv" for name in ("train", "test")]
        for path, rows in zip(paths, (train, test), strict=True):
            write_csv(path, cells, rows)
        return load(*paths)


def encoder(cells: Cells) -> Any:
    """Return scikit-learn's usual way from a table to the inputs of a network."""
    n, width = cells.numbers.shape[1], cells.features.shape[1]
    return make_column_transformer(
        (make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), list(range(n))),
        (OneHotEncoder(handle_unknown="ignore"), list(range(n, width))),
        sparse_threshold=0,
    )


def encoded(cells: Cells, train: np.ndarray, test: np.ndarray) -> Dataset:
    """Make a data set of what scikit-learn makes of both parts."""
    made = encoder(cells)
    x = made.fit_transform(cells.features[train]), made.transform(cells.features[test])
    classes, codes = np.unique(cells.labels, return_inverse=True)
    return Dataset(
        name="encoded",
        train_x=np.ascontiguousarray(x[0], dtype=np.float32),
        train_y=codes[train],
        test_x=np.ascontiguousarray(x[1], dtype=np.float32),
        test_y=codes[test],
        image_shape=None,
        classes=tuple(classes.tolist()),
        value_range=(float(x[0].min()), float(x[0].max())),
        kind="csv",
        source="encoded",
    )


def ours(data: Dataset, backend: Backend, seed: int, is_encoded: bool) -> tuple[float, float]:
    """Train by the recipe; return the share of the test part that is right, and seconds."""
    recipe = RECIPES["table"]
    start = time.perf_counter()
    saved_map = (1.0, 0.0) if is_encoded else None
    model = build(recipe, data, backend=backend, seed=seed, saved_map=saved_map)
    for _ in fit(model, data.train_x, data.train_y, recipe, seed=seed):
        pass
    seconds = time.perf_counter() - start
    return int(model.count_right(data.test_x, data.test_y)) / len(data.test_y), seconds


def theirs(cells: Cells, train: np.ndarray, test: np.ndarray, seed: int) -> tuple[float, float]:
    """Train scikit-learn's network likewise."""
    pipeline: Pipeline = make_pipeline(encoder(cells), MLPClassifier(random_state=seed))
    features = cells.features
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # it is measured as it comes
        pipeline.fit(features[train], cells.labels[train])
    seconds = time.perf_counter() - start
    return pipeline.score(features[test], cells.labels[test]), seconds


# --- the comparison -----------------------------------------------------------------------------


def compare(name: str, splits: Sequence[int], backend: Backend, is_encoded: bool) -> Row:
    """Train both on every split of a table; return accuracies and seconds."""
    cells = TABLES[name]()
    found: dict[str, list[tuple[float, float]]] = {"ours": [], "theirs": []}
    for seed in splits:
        train, test = train_test_split(
            np.arange(len(cells.labels)), test_size=0.2, stratify=cells.labels, random_state=seed
        )
        data = (encoded if is_encoded else read)(cells, train, test)
        found["ours"].append(ours(data, backend, seed, is_encoded))
        found["theirs"].append(theirs(cells, train, test, seed))
    accuracy = {who: [share for share, _ in runs] for who, runs in found.items()}
    pairs = zip(accuracy["ours"], accuracy["theirs"], strict=True)
    differences = [mine - other for mine, other in pairs]
    return {
        "table": name,
        "rows": len(cells.labels),
        "columns": cells.features.shape[1],
        "classes": len(np.unique(cells.labels)),
        "accuracy": accuracy,
        "difference": statistics.mean(differences),
        "seconds": {who: [seconds for _, seconds in runs] for who, runs in found.items()},
    }


def markdown(report: Row) -> str:
    """Format the report as Markdown."""
    how = "the arrays that scikit-learn makes" if report["encoded"] else "CSV files"
    titles = ["table", "rows × columns", "classes", "`table`, %", "`MLPClassifier`, %"]
    titles += ["difference", "`table`, s", "`MLPClassifier`, s"]
    rows = [
        [
            row["table"],
            f"{row['rows']:,} × {row['columns']}",
            str(row["classes"]),
            *(_accuracy(row["accuracy"][who]) for who in ("ours", "theirs")),
            f"{100 * row['difference']:+.2f}",
            *(as_number(statistics.median(row["seconds"][who])) for who in ("ours", "theirs")),
        ]
        for row in report["rows"]
    ]
    return (
        "# The recipe `table` beside scikit-learn's `MLPClassifier`\n\n"
        f"Test samples right: means of {report['splits']} random splits, 80 to 20 with the classes"
        " in proportion, with their standard deviation and the lowest and the highest; the"
        " difference of the means in points; median seconds of a training. `table` is as it comes"
        f" and reads {how}; `MLPClassifier()` is as it comes too, behind a StandardScaler, with"
        " medians for missing numbers and one input a word. The recipe was chosen by other splits."
        f" {report['machine']};"
        f" {', '.join(f'{k} {v}' for k, v in report['versions'].items())}.\n\n"
        f"{as_table([titles, *rows])}\n"
    )


def _accuracy(shares: Sequence[float]) -> str:
    row, mean = summary(shares, 100), 100 * statistics.mean(shares)
    deviation = 100 * statistics.stdev(shares) if len(shares) > 1 else 0.0
    return f"{mean:.2f} ± {deviation:.2f} ({row['min']:.2f} … {row['max']:.2f})"


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print and write the report."""
    parser = Parser(__doc__)
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=USUAL)
    parser.add_argument("--splits", type=int, default=10)
    parser.add_argument("--first-split", type=int, default=0, help="seed of the first")
    parser.add_argument("--encoded", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("benchmarks"))
    given = parser.parse_args(argv)
    if given.splits < 1 or given.first_split < 0:
        parser.error("--splits and --first-split: expected one or more, and zero or more")
    given.out.mkdir(parents=True, exist_ok=True)  # before minutes of work, not after
    backend = select("cpu")
    splits = range(given.first_split, given.first_split + given.splits)
    rows = []
    for name in given.tables:
        try:
            row = compare(name, splits, backend, given.encoded)
        except DataError as error:
            parser.error(str(error))
        rows.append(row)
        means = {who: statistics.mean(shares) for who, shares in row["accuracy"].items()}
        print(f"{name}: {means['ours']:.2%} beside {means['theirs']:.2%}", flush=True)
    machine = machine_and_versions()
    machine["versions"]["scikit-learn"] = version("scikit-learn")
    report = {
        **machine,
        "recipe": RECIPES["table"].settings(),
        "splits": given.splits,
        "first_split": given.first_split,
        "encoded": given.encoded,
        "rows": rows,
    }
    page = markdown(report)
    write_report(given.out, "tables", report, page)
    print(page)
    return 0


if __name__ == "__main__":
    sys.exit(main())

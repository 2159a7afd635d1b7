"""Compare the learning rates that lr-find suggests with sweeps.

    python scripts/learning_rate.py MNIST_FOLDER OUT_FOLDER

For each case and each of five seeds it searches for a rate, and trains with it and with every rate
of a sweep. Accuracy is that on held-out training samples. Two other rules are applied to the same
searches: a tenth of the rate of the lowest loss, and the rate at which the loss falls most steeply.
It writes learning_rate.md and learning_rate.json.
"""

from __future__ import annotations

import csv
import sys
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, median, stdev
from typing import Any

import numpy as np
from sklearn.datasets import load_breast_cancer

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from scripts.measuring import Parser, as_table, circumstances, machine_and_versions, write_report
from trainer import Dataset, Diverged, RateSearch, find_learning_rate, fit, load
from trainer.data import hold_out, limited
from trainer.recipes import RECIPES, Recipe, augmented, build, changed, for_data

SEEDS = range(5)
SWEEP = [float(f"{10 ** (k / 4):.2g}") for k in range(-16, 7)]
RULES = ("lr-find", "a tenth of the lowest", "steepest")
RELU = {"activation": "relu", "loss": "cross_entropy", "bias": True, "init": "he", "shuffle": True}
BATCHES = RELU | {"batch_size": 64}
# data, recipe (None is the data's own), settings; MNIST's are its first 10,000 training images
CASES: dict[str, tuple[str, str | None, dict[str, Any]]] = {
    "digits, batch 1": ("digits", "digits", {}),
    "digits, ReLU, batch 64": ("digits", "digits", BATCHES),
    "digits, ReLU, batch 32, adam": (
        "digits", "digits", RELU | {"batch_size": 32, "optimizer": "adam"}
    ),
    "MNIST, rashid, batch 1": ("mnist", "rashid", {}),
    "MNIST, rashid, batch 64": ("mnist", "rashid", {"batch_size": 64, "shuffle": True}),
    "MNIST, ReLU, batch 64": ("mnist", "rashid", BATCHES),
    "the same, 20 epochs": ("mnist", "rashid", BATCHES | {"epochs": 20}),
    "MNIST, ReLU, batch 64, momentum 0.9": ("mnist", "rashid", BATCHES | {"momentum": 0.9}),
    "MNIST, ReLU, batch 64, adam": ("mnist", "rashid", BATCHES | {"optimizer": "adam"}),
    "MNIST, rashid, batch 64, adam": (
        "mnist", "rashid", {"batch_size": 64, "shuffle": True, "optimizer": "adam"}
    ),
    "breast cancer, recipe table (adam)": ("table", None, {}),
    "MNIST, tanh 100, 100, batch 16 *": (
        "mnist",
        "rashid",
        RELU | {"activation": "tanh", "init": "glorot", "hidden": (100, 100), "batch_size": 16},
    ),
    "MNIST, batch norm, dropout 0.2, adamw *": (
        "mnist", "rashid", BATCHES | {"batch_norm": True, "dropout": 0.2, "optimizer": "adamw"}
    ),
    "MNIST, recipe fast, 5 epochs *": ("mnist", "fast", {"epochs": 5}),
}  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every case and write the report."""
    parser = Parser(__doc__)
    parser.add_argument("mnist", type=Path)
    parser.add_argument("out", type=Path)
    chosen = parser.parse_args(arguments)
    report = machine_and_versions() | circumstances()
    report["cases"] = {}
    with tempfile.TemporaryDirectory() as folder:
        table = write_table(Path(folder, "cancer.csv"))
        for name, (source, recipe, changes) in CASES.items():
            data = load({"mnist": chosen.mnist, "table": table}.get(source, source))
            settings = changed(for_data(RECIPES[recipe] if recipe else None, data), changes)
            report["cases"][name] = found = measure(data, settings)
            print(name, *row(found)[1:], sep="  |  ", flush=True)
    for path in write_report(chosen.out, "learning_rate", report, as_text(report)):
        print(path)


def write_table(path: Path) -> Path:
    """Write scikit-learn's breast cancer data as a table."""
    bunch = load_breast_cancer()
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*bunch.feature_names, "label"])
        for x, y in zip(bunch.data.tolist(), bunch.target, strict=True):
            writer.writerow([*x, bunch.target_names[y]])
    return path


def measure(data: Dataset, recipe: Recipe) -> dict[str, Any]:
    """Return the rates of each rule and of the sweep, with the accuracies of every seed."""
    part, held_out = hold_out(data, len(data.train_y) // 5)
    part = limited(part, 10_000)

    def accuracy(rate: float, seed: int) -> float:
        model = build(recipe, part, backend="cpu", seed=seed)
        prepared, deformation = augmented(recipe, part, model.backend)
        x, y = prepared.train_x, prepared.train_y
        settings = {"learning_rate": rate, "seed": seed, "deformation": deformation}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)
                for _ in fit(model, x, y, recipe, **settings):
                    pass
        except Diverged:
            return 0.0
        return model.accuracy(*held_out)

    rates: dict[str, list[float]] = {rule: [] for rule in RULES}
    for seed in SEEDS:
        model = build(recipe, part, backend="cpu", seed=seed)
        prepared, deformation = augmented(recipe, part, model.backend)
        x, y = prepared.train_x, prepared.train_y
        found = find_learning_rate(model, x, y, recipe, seed=seed, deformation=deformation)
        for rule, rate in zip(RULES, suggestions(found), strict=True):
            rates[rule].append(rate)
    rules = {
        rule: {
            "rates": some,
            "accuracies": [accuracy(r, s) for r, s in zip(some, SEEDS, strict=True)],
        }
        for rule, some in rates.items()
    }
    sweep = {rate: [accuracy(rate, seed) for seed in SEEDS] for rate in SWEEP}
    return {"settings": recipe.settings(), "rules": rules, "sweep": sweep}


def suggestions(found: RateSearch) -> tuple[float, ...]:
    """Return the rate that each rule suggests, in the order of `RULES`."""
    if found.suggestion is None:
        raise SystemExit("no rate was suggested")
    lowest = int(found.smoothed.argmin())
    slopes = np.gradient(found.smoothed, np.log(found.rates))[: lowest + 1]
    return found.suggestion, float(found.rates[lowest] / 10), float(found.rates[slopes.argmin()])


def row(found: dict[str, Any]) -> list[str]:
    """Format the rates and accuracies of a case."""
    best = max(found["sweep"], key=lambda rate: fmean(found["sweep"][rate]))
    cells = ["", f"{best:g}", as_accuracy(found["sweep"][best])]
    for rule in RULES:
        rates = found["rules"][rule]["rates"]
        cells.append(f"{median(rates):.2g} ({min(rates):.2g} … {max(rates):.2g})")
        cells.append(as_accuracy(found["rules"][rule]["accuracies"]))
    return cells


def as_accuracy(accuracies: Sequence[float]) -> str:
    """Format the mean and the standard deviation in per cent."""
    return f"{100 * fmean(accuracies):.2f} ± {100 * stdev(accuracies):.2f}"


def as_text(report: dict[str, Any]) -> str:
    """Return the report as Markdown."""
    titles = ["case", "best of the sweep", "right, %"]
    for rule in RULES:
        titles += [rule, "right, %"]
    rows = [titles, *([name, *row(found)[1:]] for name, found in report["cases"].items())]
    numbers = ", ".join(f"{name} {number}" for name, number in report["versions"].items())
    return f"""# The learning rate that `lr-find` suggests, against sweeps

Written by `python scripts/learning_rate.py`: {report["machine"]}; {numbers}; {report["date"]}.

Right answers to held-out training samples, a fifth of them, mean and standard deviation of
{len(SEEDS)} seeds. Each seed has its own search and trains with its own suggestion: the median and
the range of the rates are given. The sweep has {len(SWEEP)} rates from {SWEEP[0]:g} to
{SWEEP[-1]:g}, four a decade; its best is the one with the best mean, which flatters it, since the
same samples chose it. MNIST's cases train on 10,000 images, for the recipe's epochs where nothing
else is said. The rule was chosen by the cases without *; those with * had no part in it. Beside it
stand two common rules, applied to the same searches: a tenth of the rate of the lowest loss, and
the rate at which the loss falls most steeply. A training that diverged has 0 %.

{as_table(rows)}
"""


if __name__ == "__main__":
    main()

"""Measure what each ingredient is worth by itself: python scripts/ingredients.py

A network 784-256-10 with ReLU, biases and cross-entropy, batches of 100, rate 0.1 and momentum
0.9, is trained for 20 epochs on the CPU, again and again with one thing changed, and at last with
three, four and five together. Some training samples are held out (--validation, a sixth where
nothing else is said): the verdict is by these, the test accuracy is only told. Within a seed all
ingredients take turns, so that what slows the machine for a while slows some seeds' times and not
one ingredient's; what an epoch costs is the median of all its epochs. Some ten minutes on two
cores. The table goes to stdout, to ingredients.md and with every run to ingredients.json in the
folder --out.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # this checkout is measured, not what may be installed

import numpy as np  # noqa: E402

from backends import Backend, describe_cpu, select  # noqa: E402
from trainer import EpochReport, fit, load  # noqa: E402
from trainer.data import DataError, Dataset, hold_out  # noqa: E402
from trainer.files import write_whole  # noqa: E402
from trainer.recipes import Recipe, augmented, build, changed  # noqa: E402
from trainer.runs import versions  # noqa: E402

PLAIN = Recipe(
    "plain",
    "what the ingredients are added to",
    hidden=(256,),
    activation="relu",
    loss="cross_entropy",
    bias=True,
    init="he",
    epochs=20,
    batch_size=100,
    learning_rate=0.1,
    momentum=0.9,
    shuffle=True,
)
AS_IT_IS = "as it is"
_ALL_THREE = ("elastic:34,4", "rotate:12", "scale:12")
INGREDIENTS: dict[str, dict[str, Any]] = {
    AS_IT_IS: {},
    "activation sigmoid": {"activation": "sigmoid"},
    "activation tanh": {"activation": "tanh"},
    "activation scaled_tanh": {"activation": "scaled_tanh"},
    "activation gelu": {"activation": "gelu"},
    "init glorot": {"init": "glorot"},
    "init orthogonal": {"init": "orthogonal"},
    "no momentum": {"momentum": 0.0},
    "nesterov": {"optimizer": "nesterov"},
    "adam": {"optimizer": "adam"},
    "adamw, decay 0.01": {"optimizer": "adamw"},
    "cosine": {"schedule": "cosine"},
    "cosine, warm-up 0.1": {"schedule": "cosine", "warmup": 0.1},
    "one-cycle": {"schedule": "one-cycle"},
    "step:0.5/5": {"schedule": "step:0.5/5"},
    "l2 5": {"l2": 5.0},
    "label smoothing 0.05": {"label_smoothing": 0.05},
    "dropout 0.2": {"dropout": 0.2},
    "dropout 0.5": {"dropout": 0.5},
    "input dropout 0.2": {"input_dropout": 0.2},
    "batch norm": {"batch_norm": True},
    "clip 1": {"clip": 1.0},
    "averaging 0.999": {"averaging": 0.999},
    "elastic:34,4": {"augment": ("elastic:34,4",)},
    "rotate:12": {"augment": ("rotate:12",)},
    "scale:12": {"augment": ("scale:12",)},
    "shear:10": {"augment": ("shear:10",)},
    "shift:2": {"augment": ("shift:2",)},
    "elastic, rotate and scale": {"augment": _ALL_THREE},
    "elastic, rotate, scale, one-cycle": {"augment": _ALL_THREE, "schedule": "one-cycle"},
    "elastic, rotate, scale, one-cycle, label smoothing 0.05": {
        "augment": _ALL_THREE,
        "schedule": "one-cycle",
        "label_smoothing": 0.05,
    },
}
PATIENCE = 3
_STOPPED = f"early stopping, patience {PATIENCE}"


@dataclass(frozen=True)
class Outcome:
    """Of one training: accuracies after every epoch, and the seconds that each took."""

    held_out: tuple[float, ...]
    test: tuple[float, ...]
    seconds: tuple[float, ...]

    def stopped(self) -> int:
        """Count the epochs until the best one is so many epochs old, and name that one, from 0."""
        best = 0
        for epoch, accuracy in enumerate(self.held_out):
            best = epoch if accuracy > self.held_out[best] else best
            if epoch - best >= PATIENCE:
                break
        return best


def train(recipe: Recipe, part: Dataset, held_out: Any, backend: Backend, seed: int) -> Outcome:
    """Train once."""
    model = build(recipe, part, backend=backend, seed=seed)
    part, deformation = augmented(recipe, part, backend)
    training = fit(
        model,
        part.train_x,
        part.train_y,
        recipe,
        seed=seed,
        test=(part.test_x, part.test_y),
        validation=held_out,
        deformation=deformation,
    )
    epochs = [report for report in training if isinstance(report, EpochReport)]
    return Outcome(
        tuple(float(report.validation_accuracy or 0) for report in epochs),
        tuple(float(report.test_accuracy or 0) for report in epochs),
        tuple(report.seconds for report in epochs),
    )


def rows(outcomes: Mapping[str, Sequence[Outcome]]) -> list[dict[str, Any]]:
    """Sum the outcomes of every ingredient's seeds up.

    An ingredient helps if its worst seed is above the best without it, by the held-out samples, and
    hurts if its best is below the worst.
    """
    table = []
    plain = outcomes[AS_IT_IS]
    plain_seconds = statistics.median(s for o in plain for s in o.seconds)
    without = [o.held_out[-1] for o in plain]
    for name, runs in {**outcomes, _STOPPED: plain}.items():
        ends = [o.stopped() if name == _STOPPED else -1 for o in runs]
        held_out = [o.held_out[end] for o, end in zip(runs, ends, strict=True)]
        test = [o.test[end] for o, end in zip(runs, ends, strict=True)]
        seconds = statistics.median(s for o in runs for s in o.seconds)
        several = len(runs) > 1  # one seed tells nothing
        helps = several and min(held_out) > max(without)
        hurts = several and max(held_out) < min(without)
        table.append(
            {
                "ingredient": name,
                "held_out": held_out,
                "test": test,
                "gain": statistics.mean(held_out) - statistics.mean(without),
                "epoch_seconds": seconds,
                "cost": seconds / plain_seconds,
                "verdict": "helps" if helps else "hurts" if hurts else "no clear difference",
            }
        )
    return table


def markdown(report: Mapping[str, Any]) -> str:
    """Write the report as the page that is kept."""
    first, *others = report["rows"]
    others.sort(key=lambda row: -row["gain"])
    head = (
        "# What each ingredient is worth by itself\n\n"
        f"{report['network']}, {report['epochs']} epochs, {report['seeds']} seeds, on"
        f" {report['training_samples']:,} images; {report['held_out_samples']:,} held out decide"
        f" the verdict, {report['test_samples']:,} test images are only told. {report['machine']};"
        f" {', '.join(f'{k} {v}' for k, v in report['versions'].items())}. Means over the seeds,"
        " with the lowest and the highest. It *helps* if its worst seed beats the best without it,"
        " *hurts* if its best is below the worst; of three seeds and three, one in twenty would be"
        " so by chance, either way. The cost is an epoch's time over that of the network as it is,"
        " medians.\n\n"
        "| one change | held out, % | gain | test, % | cost | |\n"
        "| --- | --- | ---: | --- | ---: | --- |\n"
    )
    return head + "".join(map(_line, [first, *others]))


def _line(row: Mapping[str, Any]) -> str:
    gain = "" if row["ingredient"] == AS_IT_IS else f"{100 * row['gain']:+.2f}"
    verdict = "" if row["ingredient"] == AS_IT_IS else row["verdict"]
    return (
        f"| {row['ingredient']} | {_spread(row['held_out'])} | {gain} | {_spread(row['test'])} |"
        f" {row['cost']:.2f} × | {verdict} |\n"
    )


def _spread(shares: Sequence[float]) -> str:
    low, mean, high = (100 * f for f in (min(shares), statistics.mean(shares), max(shares)))
    return f"{mean:.2f} ({low:.2f} … {high:.2f})"


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="mnist")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=PLAIN.epochs)
    parser.add_argument("--validation", type=int)
    parser.add_argument("--out", type=Path, default=Path("benchmarks"))
    given = parser.parse_args(argv)
    if min(given.seeds, given.epochs) < 1:
        parser.error("--seeds and --epochs: expected one or more")
    given.out.mkdir(parents=True, exist_ok=True)  # before ten minutes of work, not after
    backend = select("cpu")
    try:
        data = load(given.data)
        validation = given.validation or len(data.train_y) // 6
        part, held_out = hold_out(data, validation)
    except DataError as error:
        parser.error(str(error))
    outcomes: dict[str, list[Outcome]] = {name: [] for name in INGREDIENTS}
    for seed in range(given.seeds):
        # another one begins each time
        names = np.roll(list(INGREDIENTS), -seed * len(INGREDIENTS) // given.seeds)
        for name in map(str, names):
            recipe = changed(PLAIN, {"epochs": given.epochs} | INGREDIENTS[name])
            outcome = train(recipe, part, held_out, backend, seed)
            outcomes[name].append(outcome)
            print(
                f"seed {seed}  {name:<54} {outcome.held_out[-1]:.2%} held out, "
                f"{statistics.median(outcome.seconds):.3g} s an epoch",
                flush=True,
            )
    cpu = describe_cpu()
    report = {
        "machine": f"{cpu['name']}, {cpu['cores']} cores, {platform.system()}",
        "versions": versions(),
        "network": f"{part.train_x.shape[1]}-256-10, {PLAIN.activation}, biases, cross-entropy, "
        f"batches of {PLAIN.batch_size}, rate {PLAIN.learning_rate:g}, momentum {PLAIN.momentum:g}",
        "epochs": given.epochs,
        "seeds": given.seeds,
        "training_samples": len(part.train_y),
        "held_out_samples": validation,
        "test_samples": len(part.test_y),
        "rows": rows(outcomes),
    }
    page = markdown(report)
    write_whole(given.out / "ingredients.json", (json.dumps(report, indent=1) + "\n").encode())
    write_whole(given.out / "ingredients.md", page.encode())
    print(page)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""`report`: a run, several beside each other, or a sweep, as one page to keep."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from cyclopts import Parameter
from markupsafe import Markup

from .. import display
from ..data.dataset import Dataset
from ..explain import backquery, incoming_weights
from ..files import write_whole
from ..metrics import Evaluation, evaluate, surest_mistakes
from ..plain_text import percent, value_text
from ..recipes import RECIPES
from ..running.recorder import resume_command
from ..running.run_folder import settings_in
from ..running.trained import TrainedRun
from ..running.usage import UsageError, samples_to_hold_out
from ..sweep.folder import SweepFolder
from ..sweep.outcomes import rank
from ..sweep.values import as_text
from ..web.report import Picture, Section, Table, report
from .options import Device, Json, LabelledData, as_words
from .plot import curves_caption, settings_beside, settings_of_run
from .sweep import draw as draw_sweep
from .sweep import train_command
from .words import network_words, samples_words

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FILE = "report.html"
_SUREST = 24  # mistakes that are shown
_MOST_UNITS = 200  # that are drawn
_MOST_MATRIX = 40  # classes of a confusion matrix


def run(
    *paths: Annotated[Path, Parameter("RUNS")],
    data: LabelledData = None,
    out: Path | None = None,
    device: Device = "auto",
    as_json: Json = False,
) -> int:
    """Write a report of a run, of several beside each other, or of a sweep: one page to keep.

    It holds settings, data, curves, the confusion matrix, scores by class, the surest mistakes,
    hidden units, backquery, times and the machine, and what to type to repeat it. It needs no
    network connection and no JavaScript, and can be mailed and printed.

        python -m trainer report runs/r1
        python -m trainer report runs/r1 runs/r2 --out both.html

    Parameters
    ----------
    paths
        Folders that train wrote, or one that sweep wrote.
    out
        The page, replaced if it is there. [default: report.html, in the folder where there is one]
    """
    if not paths:
        raise UsageError(
            "report: no run is named; type for instance: python -m trainer report runs/r1"
        )
    paths = tuple(dict.fromkeys(path.expanduser() for path in paths))
    if out is None:
        out = paths[0] / FILE if len(paths) == 1 and paths[0].is_dir() else Path(FILE)
    out = out.expanduser()
    if out.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"--out {out}: a page is written; expected a name such as {FILE}")
    sweeps = [path for path in paths if _is_sweep(path)]
    if sweeps and len(paths) > 1:
        raise UsageError(f"{sweeps[0]}: a sweep has a report of its own: report it alone")
    page = _sweep_page(sweeps[0]) if sweeps else _runs_page(paths, device, data)
    if not out.parent.is_dir():
        raise UsageError(f"--out {out}: there is no folder {out.parent}")
    write_whole(out, page.encode())
    if as_json:
        display.json_line({"runs": list(map(str, paths)), "report": str(out)})
    else:
        display.line(f"report: {out}")
    return 0


def _is_sweep(path: Path) -> bool:
    return (path / "sweep.csv").is_file()


# --- runs -----------------------------------------------------------------------------------


def _runs_page(paths: Sequence[Path], device: str, data: str | None) -> str:
    runs = [_Examined(path, device, data) for path in paths]
    if len(runs) == 1:
        [alone] = runs
        return report(
            f"{alone.name}: {alone.config['data']['name']}", alone.headline, alone.parts()
        )
    names = " and ".join(run.name for run in runs)
    sections = [_side_by_side(runs)]
    sections += [Section(run.name, lines=[run.headline], parts=run.parts()) for run in runs]
    return report(f"{names} beside each other", "", sections)


def _side_by_side(runs: Sequence[_Examined]) -> Section:
    """Return what differs between runs, and then what does not."""
    differing, alike = settings_beside([run.config for run in runs])
    results: list[list[Any]] = [["accuracy", *(percent(run.result.accuracy) for run in runs)]]
    results.append(["seconds of training", *(_seconds(run) for run in runs)])
    results.append(["epochs", *(len(run.metrics) for run in runs)])
    from .. import figures

    caption = curves_caption([run.folder for run in runs])
    curves = figures.curves([(run.name, run.metrics) for run in runs], caption=caption)
    head = ["", *(run.name for run in runs)]
    return Section(
        "Beside each other",
        tables=[
            Table("Results", head, results),
            Table("Settings, those that differ first", head, differing + alike, len(differing)),
        ],
        pictures=[_svg("Loss and accuracy by epoch", curves)] * any(run.metrics for run in runs),
    )


def _seconds(run: _Examined) -> str:
    return display.three_digits(sum(epoch["epoch_seconds"] for epoch in run.metrics))


class _Examined:
    """A run, and what it answers to its test part."""

    def __init__(self, path: Path, device: str, data: str | None) -> None:
        self.trained = TrainedRun(path, device)
        if self.trained.run is None:
            raise UsageError(f"{path}: weights have no training to report; expected a run")
        self.folder, self.config = self.trained.run, self.trained.config
        self.name = self.folder.path.resolve().name
        self.metrics = self.folder.metrics()
        self.x, self.y, self.source = self.trained.labelled(data)
        self.dataset: Dataset | None = None
        try:
            self.dataset = self.trained.dataset
        except UsageError as error:  # where other data was named, it may be gone
            display.note(f"nothing of the training's data is shown: {error}")
        self.answers = self.trained.outputs(self.x)
        self.result: Evaluation = evaluate(
            self.y, self.answers.argmax(axis=1), self.trained.classes
        )

    @property
    def headline(self) -> str:
        right = int(np.trace(self.result.confusion))
        return (
            f"Accuracy {percent(self.result.accuracy)}: {right:,} of {len(self.y):,} {self.source}"
        )

    def _unfinished(self) -> list[str]:
        """Return a line on epochs that are missing, or none."""
        wanted, done = settings_in(self.config).get("epochs"), len(self.metrics)
        if wanted is None or done >= wanted or self.config.get("patience") is not None:
            return []
        go_on = resume_command(self.folder.path)
        return [f"It ended after {done:,} of {wanted:,} epochs, or still runs; to go on: {go_on}"]

    def parts(self) -> list[Section]:
        """Return all that is to be said of the run."""
        from .. import figures

        trained, config = self.trained, self.config
        sections = [
            Section(
                "The network",
                lines=self._unfinished(),
                facts=[
                    ("layers", network_words(trained.model)),
                    ("weights", f"{trained.model.weight_count:,}"),
                    ("recipe", config["recipe"]),
                    ("data", samples_words(config["data"])),
                    ("balanced accuracy", percent(self.result.balanced_accuracy)),
                ],
            ),
        ]
        if self.dataset is not None:
            sections.append(Section("The data", html=Markup(self.dataset._repr_html_())))
        if self.metrics:
            drawn = figures.curves([("", self.metrics)], caption=curves_caption([self.folder]))
            curves = _svg("Loss and accuracy by epoch", drawn)
            sections.append(Section("Training", pictures=[curves]))
        sections.append(self._scores())
        if pictures := self._pictures():
            sections.append(Section("Inside the network", pictures=pictures))
        return [*sections, self._settings(), self._machine()]

    def _scores(self) -> Section:
        from .. import figures

        result, pictures = self.result, []
        if len(result.classes) <= _MOST_MATRIX:
            pictures.append(
                _svg(
                    "Confusion matrix: a row a class, a column an answer", figures.confusion(result)
                )
            )
        worst = surest_mistakes(self.y, self.answers, self.trained.classes, _SUREST)
        tables = [
            Table(
                "Scores by class",
                ("class", "precision", "recall", "F1", "samples"),
                [
                    (
                        s.label,
                        percent(s.precision),
                        percent(s.recall),
                        percent(s.f1),
                        f"{s.support:,}",
                    )
                    for s in (*result.classes, *result.averages)
                ],
            )
        ]
        if worst and self.trained.image_shape is not None:
            rows = self.x[[mistake.index for mistake in worst]]
            _, low, high = self.trained.scale
            drawn = figures.mistakes(worst, rows, self.trained.image_shape, (low, high))
            pictures.append(_png(f"The {len(worst)} mistakes it was surest of", drawn))
        elif worst:
            tables.append(
                Table(
                    "The mistakes it was surest of",
                    ("sample, from 0", "label", "answer", "output"),
                    [(m.index, m.truth, m.answer, f"{m.confidence:.3f}") for m in worst],
                )
            )
        return Section("Test results", tables=tables, pictures=pictures)

    def _pictures(self) -> list[Picture]:
        from .. import figures

        trained, shape = self.trained, self.trained.image_shape
        if shape is None:
            return []
        units = trained.model.sizes[1]
        chosen = None if units <= _MOST_UNITS else list(range(_MOST_UNITS))
        which = f"the first {_MOST_UNITS} of {units:,}" if chosen else f"the {units:,}"
        kind = "hidden units" if len(trained.model.sizes) > 2 else "outputs"
        drawn = figures.incoming_weights(incoming_weights(trained.model, chosen), image_shape=shape)
        pictures = [_png(f"What {which} {kind} look for: their weights", drawn)]
        _, low, high = trained.scale
        classes = [str(label) for label in trained.classes]
        try:
            result = backquery(trained.model, value_range=(low, high))
        except ValueError:  # an activation without an inverse
            return pictures
        drawn = figures.backquery(result, image_shape=shape, classes=classes)
        return [*pictures, _png("Backquery: the network run backwards from each class", drawn)]

    def _settings(self) -> Section:
        settings = settings_of_run(self.config)
        recipe = RECIPES.get(self.config["recipe"])
        usual = {} if recipe is None else recipe.settings()
        rows = [
            (k.replace("_", " "), value_text(v), value_text(usual[k]) if k in usual else "")
            for k, v in settings.items()
            if k not in ("data", "recipe")
        ]
        rows.sort(key=lambda row: row[1] == row[2] or not row[2])
        changed = sum(row[1] != row[2] != "" for row in rows)
        head = ("setting", "this run", f"recipe {self.config['recipe']}")
        return Section(
            "Settings",
            tables=[Table("Settings that differ from the recipe first", head, rows, changed)],
        )

    def _machine(self) -> Section:
        config, epochs = self.config, self.metrics
        facts: list[tuple[str, str]] = []
        if since := config.get("process", {}).get("since"):
            facts.append(("started", str(since)))
        if device := config.get("device"):
            facts.append(("device", f"{device['name']}: {device['device_name']}"))
        facts += [("xptrainer", config["version"]), *config.get("versions", {}).items()]
        if epochs:
            spent = [epoch["epoch_seconds"] for epoch in epochs]
            evaluated, compiled = (
                sum(epoch[f"{name}_seconds"] for epoch in epochs)
                for name in ("evaluation", "compile")
            )
            facts += [
                ("training", f"{display.three_digits(sum(spent))} s in {len(spent):,} epochs"),
                ("an epoch", f"{display.three_digits(float(np.median(spent)))} s, the median"),
                ("evaluation", f"{display.three_digits(evaluated)} s"),
                ("compilation", f"{display.three_digits(compiled)} s"),
            ]
        return Section(
            "Times and machine",
            facts=facts,
            lines=["To repeat it, with the same data in the same place:"],
            code=repeat_command(config),
        )


def repeat_command(config: dict[str, Any]) -> str:
    """Return the command that trains a run once more: what differs from the recipe, as typed."""
    data = config["data"]
    options = {"data": data["source"], "test_data": data["test_source"], "label": data.get("label")}
    options |= {"transpose": data.get("transpose"), "recipe": config["recipe"]}
    options |= {"validation": samples_to_hold_out(data)}
    options |= {name: config.get(name) for name in ("patience", "init_from", "seed")}
    recipe = RECIPES.get(config["recipe"])
    usual = {} if recipe is None else recipe.settings()
    changes = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in settings_in(config).items()
        if name in usual and value is not None and value != usual[name]
    }
    words = as_words({name: value for name, value in options.items() if value} | changes)
    return " ".join(["python -m trainer", *map(shlex.quote, words)])


# --- sweeps ---------------------------------------------------------------------------------


def _sweep_page(path: Path) -> str:
    folder = SweepFolder.open(path)
    folder.close()
    plan, data = folder.plan, folder.config["data"]
    by = "validation_accuracy" if data["validation_samples"] else "test_accuracy"
    standings = rank(folder.outcomes, by=by)
    which = "held-out samples" if by == "validation_accuracy" else "test samples"
    columns: dict[str, list[Any]] = {
        "values": [
            ", ".join(f"{k.replace('_', ' ')} {as_text(v)}" for k, v in s.values.items()) or "all"
            for s in standings
        ],
        which: ["diverged" if s.accuracy is None else percent(s.accuracy) for s in standings],
    }
    if len(plan.seeds) > 1:
        spreads = [s.deviation for s in standings]
        columns["deviation"] = ["" if d is None else f"± {100 * d:.2f} %" for d in spreads]
        columns["runs"] = [s.runs for s in standings]
    if by != "test_accuracy":
        tests = [s.test_accuracy for s in standings]
        columns["test samples"] = ["" if a is None else percent(a) for a in tests]
    losses = [s.train_loss for s in standings]
    columns["training loss"] = ["" if loss is None else f"{loss:.4g}" for loss in losses]
    columns["seconds"] = [display.three_digits(s.seconds) for s in standings]
    rows = list(zip(*columns.values(), strict=True))
    facts = [("data", samples_words(data)), ("recipe", plan.recipe.name)]
    facts += [(k.replace("_", " "), as_text(v)) for k, v in plan.changes.items()]
    facts += [
        (k.replace("_", " "), ", ".join(map(as_text, values))) for k, values in plan.grid.items()
    ]
    facts += [(k.replace("_", " "), str(span)) for k, span in plan.ranges.items()]
    if plan.search is not None:
        facts += [("chosen by", f"{plan.search.sampler}, {len(plan):,} trials")]
    facts += [("seeds", ", ".join(map(str, plan.seeds)))]
    device = folder.config["device"]
    facts += [("device", f"{device['name']}: {device.get('device_name', '')}")]
    table = Table(f"Ranked by accuracy on the {which}", list(columns), rows, 1)
    sections = [Section("The sweep", facts=facts), Section("Results", tables=[table])]
    headline = f"{len(folder.outcomes):,} of {len(plan):,} runs are finished"
    if len(folder.outcomes) < len(plan):
        resume = f"python -m trainer sweep --resume {shlex.quote(str(path))}"
        sections[0] = Section("The sweep", lines=[f"{headline}; to go on: {resume}"], facts=facts)
    if standings and standings[0].accuracy is not None:
        headline = f"Best: {rows[0][0]}, {rows[0][1]} of the {which} right"
        drawn = _svg("Accuracy by what was varied", draw_sweep(folder, standings, data["name"], by))
        sections[1] = Section("Results", pictures=[drawn], tables=[table])
        sections.append(Section("Train the best", code=train_command(folder, standings[0])))
    return report(f"{path.resolve().name}: a sweep on {data['name']}", headline, sections)


def _svg(caption: str, drawn: Figure) -> Picture:
    from .. import figures

    return Picture(caption, figures.encoded(drawn, ".svg"), ".svg")


def _png(caption: str, drawn: Figure) -> Picture:
    from .. import figures

    return Picture(caption, figures.encoded(drawn, ".png"), ".png")

"""Resumed runs: what a run started with, how far it came, and whether all this agrees."""

from __future__ import annotations

import math
import os
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from backends import select

from ..data import DataError, Dataset
from ..network import MLP
from ..plain_text import percent
from ..recipes import Recipe, recorded
from ..settings import FULL_BATCH_METHODS, settings_of
from ..weight_files import MODEL_FILE, WeightFileError, read_checkpoint, read_safetensors
from .checkpoints import BEST
from .metrics_file import FILE, Tally
from .recorder import best_line, resume_command, training_state
from .run_folder import Run, RunError, settings_in, versions
from .usage import load_recorded, samples_to_hold_out, typed

_MAY_CHANGE = ("epochs", "max_iterations")


class ResumedRun:
    """A run's folder, opened by `Run.resume` to continue its training.

    Of the options that are `given` again, by name, `epochs` and `max_iterations` may change, to no
    less than has been done; RunError if another is not what it was.
    """

    def __init__(self, folder: Run, given: dict[str, Any]) -> None:
        self.folder, self.tally = folder, Tally()
        self.config = folder.config  # with the epochs that are wanted now
        self.checkpoint, faults = folder.checkpoints.newest()  # that is whole, or None
        self.notes = [f"passed over: {fault}" for fault in faults]  # what was found damaged
        if folder.was_mended and self.checkpoint is not None:
            self.notes.append(f"config.json was damaged: mended from {self.checkpoint.path}")
        with _training_read(folder.path, self.config):
            self._check(given)
            self.recipe = recorded(self.config["recipe"], settings_in(self.config))

    def _check(self, given: dict[str, Any]) -> None:
        path, now = self.folder.path, _facts(self.config)
        least = 0
        rates_follow = now["schedule"] not in (None, "constant") or bool(now["warmup"])
        if self.checkpoint is not None:
            state = self.checkpoint.state
            self.tally = Tally.of(state)
            best = self.folder.checkpoints.folder / BEST
            try:
                if best.is_file():
                    read_checkpoint(best)
            except WeightFileError as error:
                self.notes.append(f"passed over: {error}; the best from here on is kept")
                self.tally = replace(self.tally, best=None)
            if not isinstance(state["ended"], bool):
                raise TypeError("whether it has ended")
            least = self.tally.epochs
            if now["optimizer"] not in FULL_BATCH_METHODS:
                least += training_state(self.checkpoint).samples > 0
            then = _facts(state["config"])
            differ = [
                f"{name} is {_text(now[name])} there and {_text(then[name])} in it"
                for name in then
                if now[name] != then[name] and (rates_follow or name not in _MAY_CHANGE)
            ]
            if differ:
                raise RunError(
                    f"{path / 'config.json'} disagrees with {self.checkpoint.path}:"
                    f" {', '.join(differ)}; mend config.json, or start a new run"
                )
        elif now["init_from"] is not None:
            raise RunError(
                f"{path}: was ended before its first checkpoint; start it again: the same command,"
                " into another folder"
            )
        elif self._left_metrics_of_all():
            raise RunError(
                f"{path}: has finished, and has no whole checkpoint to go on from;"
                f" python -m trainer --init-from {path} starts a training with its weights"
            )
        else:
            self.notes.append("there is no whole checkpoint: it begins again from its start")
        differ = []
        for name, value in given.items():
            # a run that is older than a setting was trained with its default
            was = now[name] if name in now else settings_of(Recipe)[name].default
            if name in _MAY_CHANGE and value != was and rates_follow:
                raise RunError(
                    f"{path}: {typed(name)} was {was}, not {value}, and its learning rates have"
                    f" followed from that (schedule {now['schedule']}); omit it, or start a new run"
                )
            if name in _MAY_CHANGE and isinstance(was, int):
                if value < least:
                    raise RunError(
                        f"{path}: {typed(name)} {value}: {least:,} have started or ended;"
                        f" expected {least:,} or more"
                    )
                self.config["settings"][name] = value
            elif not _is_same(name, value, was):
                differ.append(f"{typed(name)} was {_text(was)}, not {_text(value)}")
        if differ:
            raise RunError(
                f"{path} was started with other options: {', '.join(differ)}; omit"
                f" {'it' if len(differ) == 1 else 'them'}, or start a new run"
            )

    def _left_metrics_of_all(self) -> bool:
        settings = self.config["settings"]
        wanted = settings["epochs"] or settings["max_iterations"] or math.inf
        with suppress(RunError):
            return len(self.folder.metrics()) >= wanted
        return False

    @property
    def is_finished(self) -> bool:
        """Return whether nothing is left to train."""
        if self.checkpoint is None:
            return False
        state, recipe = self.checkpoint.state, self.recipe
        if recipe.sees_all_samples:
            grown = recipe.max_iterations > state["config"]["settings"]["max_iterations"]
            return (state["ended"] and not grown) or self.tally.epochs >= recipe.max_iterations
        if state["ended"]:
            return True
        if recipe.steps is not None:
            return training_state(self.checkpoint).steps >= recipe.steps
        return self.tally.epochs >= recipe.epochs

    def restore_metrics(self) -> list[str]:
        """Restore metrics.jsonl to the checkpoint's epochs; return lines on what was wrong."""
        # which older versions kept in the checkpoints
        history = None if self.checkpoint is None else self.checkpoint.state.get("history")
        self.tally, fault = self.folder.metrics_file.restore(self.tally, history)
        source = f" from {self.checkpoint.path}" if self.checkpoint and "mended" in fault else ""
        return [f"{FILE} {fault}{source}"] if fault else []

    def finished(self) -> tuple[list[str], dict[str, Any]]:
        """Repair what is damaged in a finished run; return lines and an event's fields on it."""
        path, checkpoint = self.folder.path, self.checkpoint
        assert checkpoint is not None
        lines = self.restore_metrics()
        try:
            read_safetensors(self.folder.model_file)
        except WeightFileError:
            arrays = checkpoint.arrays
            if self.config["patience"] is not None:
                arrays, _, _ = read_checkpoint(self.folder.checkpoints.folder / BEST)
            model = MLP.of(arrays, checkpoint.network, backend=select("cpu"))
            model.save(self.folder.model_file)
            lines.append(f"{MODEL_FILE} was damaged: mended from {checkpoint.path}")
        done, patience = self.tally.epochs, self.config["patience"]
        taken = self.tally.last if patience is None else self.tally.best
        assert taken is not None
        kept, accuracy = taken["epoch"], taken["test_accuracy"]
        full_batch = self.recipe.sees_all_samples
        unit, option = ("iteration", "max-iterations") if full_batch else ("epoch", "epochs")
        stopped_early = checkpoint.state["ended"] and not full_batch
        why = f" by --patience {patience}, keeping epoch {kept}" if stopped_early else ""
        part = "training" if self.config["data"].get("tests_on_training") else "test"
        lines += [
            f"{path} has finished{why}: {done} {unit}{'s' * (done != 1)},"
            f" {percent(accuracy)} of the {part} samples right",
            f"see it: python -m trainer evaluate {shlex.quote(str(path))}",
            *best_line(path, self.tally),
        ]
        if self.recipe.steps is None and not self.recipe.rate_changes and not stopped_early:
            lines.append(f"more:   {resume_command(path)} --{option} {2 * done}")
        event = {"run": str(path), "epochs": done, "interrupted": False, "finished_before": True}
        return lines, event | {"test_accuracy": accuracy}


def started_with(path: Path, config: dict[str, Any]) -> tuple[Recipe, dict[str, Any]]:
    """Return the recipe of a run, with all its settings, and its other options that are not None.

    Raise RunError, naming `path`, if it is none that `train` began.
    """
    with _training_read(path, config):
        facts, settings = _facts(config), settings_in(config)
        names = facts.keys() - settings.keys() - {"crc32", "recipe"}
        options = {name: facts[name] for name in names}
        # a validation part of the data is held out without being asked for
        options["validation"] = samples_to_hold_out(config["data"]) or None
        options["device"] = config["device"]["name"]
        options |= {name: config.get(name) for name in ("checkpoint_every", "log")}
        if not isinstance(config["recipe"], str):
            raise TypeError("its recipe has no name")
        recipe = recorded(config["recipe"], settings)
        changes_since(config, config["device"])
    return recipe, {name: value for name, value in options.items() if value is not None}


@contextmanager
def _training_read(path: Path, config: dict[str, Any]) -> Iterator[None]:
    """Raise RunError, naming `path`, where a config turns out not to be of a training."""
    try:
        yield
    except RunError:
        raise
    except KeyError as error:
        why = f"there is no training to go on with, {error} is missing; expected a run that"
        why += " `train` wrote"
        if "weights_of" in config:
            why = "its weights were imported, not trained here; python -m trainer --init-from"
            why += f" {path} starts a training with them"
        raise RunError(f"{path}: {why}") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise RunError(f"{path}: its training cannot be read ({error})") from error


def same_data(
    folder: Path, recorded_data: dict[str, Any], on_progress: Callable[[str, int, int], None]
) -> Dataset:
    """Load the data of a run or a sweep again; RunError if it is gone or is not what it was."""
    try:
        data = load_recorded(recorded_data, on_progress)
    except DataError as error:
        raise RunError(f"{folder}: the data it began on cannot be read again ({error})") from error
    if data.fingerprint() != recorded_data["crc32"]:
        raise RunError(
            f"{folder}: {recorded_data['source']} has changed since it began; put back what it was,"
            " or start anew"
        )
    return data


def changes_since(config: dict[str, Any], device: dict[str, Any]) -> str:
    """Return how machine and versions differ from those in a config, or an empty text.

    The number of threads changes no bit of a training.
    """
    was = {"processes": 1} | config["device"] | config["versions"]
    now = {"processes": 1} | device | versions()
    differ = [name for name in {**was, **now} if was.get(name) != now.get(name)]
    differ = [name for name in differ if name != "threads"]
    return ", ".join(
        f"{name.replace('_', ' ')} was {was.get(name)} and is {now.get(name)}" for name in differ
    )


def _facts(config: dict[str, Any]) -> dict[str, Any]:
    """Return all that a training's numbers depend on, by the name of its option."""
    data = config["data"]
    return settings_in(config) | {
        "data": data["source"],
        "test_data": data["test_source"],
        "label": data.get("label"),
        "transpose": data.get("transpose", False),
        "crc32": data["crc32"],
        "recipe": config["recipe"],
        "seed": config["seed"],
        "validation": data["validation_samples"],
        "matmul": config["device"]["matmul"],
        "patience": config["patience"],
        "init_from": config["init_from"],
    }


def _is_same(name: str, value: Any, was: Any) -> bool:
    if name in ("data", "test_data") and isinstance(was, str):
        _, cut, path = value.rpartition("ex4:")
        return was in (value, f"{cut}{os.path.abspath(path)}")
    value, was = (list(v) if isinstance(v, tuple) else v for v in (value, was))
    return bool(value == was) or (isinstance(value, Path) and str(value) == was)


def _text(value: Any) -> str:
    """Return a value as it is typed in a command."""
    if isinstance(value, list | tuple):
        return ",".join(map(str, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else f"{value}"

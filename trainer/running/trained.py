"""A trained run, or the weights of another program, opened for the commands that examine it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..data import Columns, DataError, Dataset, Scale, load_labelled, load_unlabelled
from ..network import MLP
from ..recipes import Recipe, source_for
from ..weight_files import MODEL_FILE
from .checkpoints import FOLDER
from .foreign_weights import are_weights, files_of, open_weights
from .run_folder import Run, RunError, run_around
from .starting import config_of
from .usage import UsageError, choose, load_recorded


class TrainedRun:
    """A run's network on a device, and what it was trained on.

    The path is the run's folder, or one of its checkpoints; or, with the name of a recipe, a file
    or a folder of another program's weights, and then `data` is what they are for.
    """

    def __init__(
        self,
        path: Path,
        device: str,
        *,
        recipe: str | None = None,
        data: str | None = None,
        transpose: bool = False,
    ) -> None:
        self.path = path
        self.run: Run | None = None  # None of weights
        self._dataset: Dataset | None = None
        self._recipe: Recipe | None = None
        folder, weights = path, path / MODEL_FILE
        around = run_around(path) if path.exists() else None
        if around is not None and path.is_file() and path.suffix == ".safetensors":
            folder, weights = around, path
        elif around is not None and path.name == FOLDER:
            names = ", ".join(sorted(file.name for file in path.glob("*.safetensors")))
            raise UsageError(f"{path}: expected one of its files ({names}), or the run, {around}")
        if weights != path and are_weights(path):
            self.model, self._recipe, self._dataset = open_weights(
                files_of([path]), recipe, device, data, transpose=transpose, few_classes=True
            )
            self.config = config_of(self._recipe, self._dataset, None, 0, 0, self.model)
        elif recipe is not None:
            raise UsageError(
                f"--recipe {recipe}: {path} is no file or folder of weights that it could belong"
                " to; a run has a recipe of its own, so omit --recipe"
            )
        else:
            if transpose and data is None:
                raise UsageError(
                    f"--transpose: {path} loads its own data as they were trained on; expected it"
                    " beside --data"
                )
            self.run = Run.open(folder)
            self.config = self.run.config
            self.model = MLP.load(weights, backend=choose(device))
        self.features = self.model.sizes[0]
        self.backend = self.model.backend
        self.data: dict[str, Any] = self.config["data"]
        self.scale = Scale(self.data["dtype"], *self.data["value_range"])
        self.classes = tuple(self.data["classes"])
        self.columns = self._columns()
        self._wanted = self.features, self.scale, self.columns  # what samples must be
        self._transpose = transpose
        self.notes: list[str] = []  # lines to show of the samples that were read
        self.names = None if self.columns is None else self.columns.names  # of the inputs
        shape = self.data["image_shape"]
        self.image_shape: tuple[int, int] | None = None if shape is None else tuple(shape)
        inputs = self.features if shape is None else shape[0] * shape[1]
        if self.names is not None:
            inputs = len(self.names)
        if (len(self.classes), inputs) != (self.model.sizes[-1], self.features):
            raise RunError(
                f"{self.path / MODEL_FILE}: a network of {self.features} inputs and "
                f"{self.model.sizes[-1]} outputs; config.json speaks of {inputs} and "
                f"{len(self.classes)}: they are not of one run"
            )

    def labelled(self, data: str | None) -> tuple[np.ndarray, np.ndarray, str]:
        """Load the test part, or other labelled samples: values, class codes, description.

        Raise UsageError if the data of the training is gone or is not what it was.
        """
        if data is None:
            part = self._dataset or self._recorded()
            which = f"test samples of {part.name}"
            if part.tests_on_training:
                which = f"training samples of {part.name}, which are all there are"
            return part.test_x, part.test_y, which
        source = source_for(self._recipe, data)
        notes = self._first_notes()
        x, y = load_labelled(
            source, self.classes, *self._wanted, notes.append, transpose=self._transpose
        )
        self.notes = notes
        return x, y, f"samples of {data}"

    def _columns(self) -> Columns | None:
        recorded = self.data.get("columns")
        try:
            return Columns.from_json(recorded) if recorded else None
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise RunError(
                f"{self.path / 'config.json'}: data.columns cannot be read ({error})"
            ) from error

    def _recorded(self) -> Dataset:
        recorded = self.data
        try:
            data = load_recorded(recorded)
        except DataError as error:
            raise UsageError(
                f"{self.path}: the data it was trained on cannot be read again ({error}); "
                "name other data with --data"
            ) from error
        now = (data.classes, data.test_x.shape, str(data.test_x.dtype))
        then = (self.classes, (recorded["test_samples"], self.features), recorded["dtype"])
        if now != then:
            raise UsageError(
                f"{self.path}: {recorded['source']} has changed since the training: it had "
                f"{then[1][0]:,} test samples of {then[1][1]} features and {len(then[0])} classes, "
                f"now {now[1][0]:,} of {now[1][1]} and {len(now[0])}; name other data with --data"
            )
        return data

    def unlabelled(self, data: str) -> np.ndarray:
        """Load the values of samples with or without labels."""
        source = source_for(self._recipe, data)
        notes = self._first_notes()
        x = load_unlabelled(
            source, *self._wanted, self.classes, notes.append, transpose=self._transpose
        )
        self.notes = notes
        return x

    def _first_notes(self) -> list[str]:
        """Return what is to be said of other data than the run's own, whatever they are."""
        if self.run is None or self._transpose or not self.data.get("transpose"):
            return []
        return ["--transpose was given to the training, and is not given for these images"]

    def picture(
        self, values: np.ndarray, value_range: tuple[float, float] | None = None
    ) -> np.ndarray | None:
        """Return a picture for the terminal of a sample, or of other numbers of its shape.

        It has grey values from 0 to 1 of numbers from dark to bright, which is what `value_range`
        says, or the training's data; None if that is not images.
        """
        if self.image_shape is None:
            return None
        low, high = value_range or (self.scale.low, self.scale.high)
        return (values.reshape(self.image_shape).astype(float) - low) / ((high - low) or 1.0)

    def outputs(self, x: np.ndarray) -> np.ndarray:
        """Answer samples (n, features) with one output a class, on the host.

        Raise UsageError if an output is NaN or infinite.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            outputs = self.backend.to_numpy(self.model.predict_proba(x))
        unanswered = ~np.isfinite(outputs).all(axis=1)
        if unanswered.any():
            at = int(np.argmax(unanswered))
            which = f"sample {at} (from 0)" if len(x) > 1 else "the sample"
            raise UsageError(
                f"{self.path}: has no answer to {which}, with values"
                f" {x[at].min():g}…{x[at].max():g}: a number became NaN or infinite on the way;"
                f" it was trained on values {self.scale.low:g}…{self.scale.high:g}"
            )
        return outputs

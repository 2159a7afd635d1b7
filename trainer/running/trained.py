"""A trained run, or the weights of another program, opened for the commands that examine it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..data import Columns, DataError, Dataset, Scale, load_labelled, load_unlabelled, read_grey
from ..data.framing import Framing, Prepared, polarity_note, resized
from ..data.mnist import NoMnist
from ..network import MLP
from ..recipes import Recipe, source_for
from ..weight_files import MODEL_FILE
from .checkpoints import FOLDER
from .foreign_weights import are_weights, files_of, open_weights
from .recorder import resume_command
from .run_folder import Run, RunError, run_around
from .starting import config_of
from .usage import UsageError, choose, load_recorded


class TrainedRun:
    """A run's network on a device, and what it was trained on.

    The path is the run's folder, or one of its checkpoints; or, with the name of a recipe, a file
    or a folder of another program's weights, and then `data` is what they are for; without it
    that follows from the recipe, whose data is loaded only for samples of it. `others` are the
    files of the same weights where these are several.
    """

    def __init__(
        self,
        path: Path,
        device: str,
        *,
        recipe: str | None = None,
        data: str | None = None,
        transpose: bool = False,
        others: Sequence[Path] = (),
    ) -> None:
        self.path = path
        self.run: Run | None = None  # None of weights
        self._dataset: Dataset | None = None
        self._recipe: Recipe | None = None
        self.assumed: list[str] = []  # a line on what weights are for, where no data was named
        folder, weights = path, path / MODEL_FILE
        around = run_around(path) if path.exists() else None
        if around is not None and path.is_file() and path.suffix == ".safetensors":
            folder, weights = around, path
        elif around is not None and path.name == FOLDER:
            names = ", ".join(sorted(file.name for file in path.glob("*.safetensors")))
            raise UsageError(f"{path}: expected one of its files ({names}), or the run, {around}")
        if weights != path and are_weights(path):
            self.model, self._recipe, dataset = open_weights(
                files_of([path, *others]),
                recipe,
                device,
                data,
                transpose=transpose,
                few_classes=True,
            )
            self.config = config_of(self._recipe, dataset, 0, 0, self.model)
            if len(dataset.train_y):
                self._dataset = dataset
            else:
                self.assumed = [dataset.note]
        elif recipe is not None:
            if around is None:
                files_of([path])  # which says what weights are
            raise UsageError(
                f"--recipe {recipe}: {path} is a run, which has a recipe of its own; omit --recipe"
            )
        else:
            if transpose and data is None:
                raise UsageError(
                    f"--transpose: {path} loads its own data as they were trained on; expected it"
                    " beside --data"
                )
            self.run = Run.open(folder)
            self.config = self.run.config
            if weights == path / MODEL_FILE and not weights.exists():
                raise RunError(
                    f"{path}: no epoch of its training has ended yet; wait for it, or go on with"
                    f" {resume_command(path)}"
                )
            self.model = MLP.load(weights, backend=choose(device))
        self.features = self.model.sizes[0]
        self.backend = self.model.backend
        self.data: dict[str, Any] = self.config["data"]
        self.scale = Scale(self.data["dtype"], *self.data["value_range"])
        self.classes = tuple(self.data["classes"])
        self.train_samples: int | None = self.data.get("train_samples")  # None where not known
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
            part = self.dataset
            which = f"test samples of {part.name}"
            if part.tests_on_training:
                which = f"training samples of {part.name}, which are all there are"
            return part.test_x, part.test_y, which
        source = source_for(self._recipe, data)
        notes = self._first_notes()
        x, y = load_labelled(
            source, self.classes, *self._wanted, notes.append, transpose=self._transpose
        )
        self.notes = notes + self._polarity(x, data)
        return x, y, f"samples of {data}"

    @cached_property
    def dataset(self) -> Dataset:
        """What it was trained on, loaded again; raise UsageError if that is gone or has changed."""
        return self._dataset or self._recorded()

    def _columns(self) -> Columns | None:
        recorded = self.data.get("columns")
        try:
            return Columns.from_json(recorded) if recorded else None
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise RunError(
                f"{self.path / 'config.json'}: data.columns cannot be read ({error})"
            ) from error

    def _recorded(self) -> Dataset:
        recorded, source, tests = self.data, self.data["source"], self.data["test_samples"]
        is_unseen = tests is None  # of weights that came without data
        try:
            data = load_recorded(recorded)
        except DataError as error:
            which = "its recipe is for cannot be read"
            if not is_unseen:
                which = "it was trained on cannot be read again"
            why = error.why if isinstance(error, NoMnist) else error
            raise UsageError(
                f"{self.path}: the data {which} ({why}); name a file or folder of it, or other"
                " data, with --data"
            ) from error
        count, features = data.test_x.shape
        now = data.classes, count, features, str(data.test_x.dtype)
        if now == (self.classes, count if is_unseen else tests, self.features, recorded["dtype"]):
            if recorded.get("crc32", digits := data.fingerprint()) != digits:
                raise UsageError(
                    f"{self.path}: {source} has changed since the training, though it has as many"
                    " test samples: some may have been trained on; name other data with --data"
                )
            self.train_samples = self.train_samples or len(data.train_y)
            return data
        own, others = (
            f"{inputs} features and {len(classes)} classes"
            for inputs, classes in ((self.features, self.classes), (features, data.classes))
        )
        if is_unseen:
            raise UsageError(
                f"{self.path}: takes {own}, {source} has {others}; name the data that it is for"
                " with --data"
            )
        raise UsageError(
            f"{self.path}: {source} has changed since the training: it had {tests:,} test samples"
            f" of {own}, now {count:,} of {others}; name other data with --data"
        )

    def unlabelled(self, data: str) -> np.ndarray:
        """Load the values of samples with or without labels."""
        source = source_for(self._recipe, data)
        notes = self._first_notes()
        x = load_unlabelled(
            source, *self._wanted, self.classes, notes.append, transpose=self._transpose
        )
        self.notes = notes + self._polarity(x, data)
        return x

    def _polarity(self, x: np.ndarray, data: str) -> list[str]:
        """Return a line if other data are light on dark and the training's dark on light."""
        if self.image_shape is None or "framing" not in self.data or self.framing is None:
            return []
        return polarity_note(self.framing, Framing.measured(x, self.image_shape), data)

    def _first_notes(self) -> list[str]:
        """Return what is to be said of other data than the run's own, whatever they are."""
        if self.run is None or self._transpose or not self.data.get("transpose"):
            return []
        return ["--transpose was given to the training, and is not given for these images"]

    def prepare(self, file: Path) -> tuple[np.ndarray, Prepared]:
        """Read one's own picture: in grey, and as the network takes it.

        It is cut out and placed as the drawings are that the network was trained on; if those are
        no drawings, it is taken as it is. Raise UsageError if they are no images, DataError if the
        picture is none or is blank.
        """
        if self.image_shape is None:
            raise UsageError(
                f"{file}: this run was not trained on images, so it cannot look at one"
            )
        grey = read_grey(file)
        framing = self.framing
        if framing is None:
            dtype, low, high = self.scale
            values = resized(grey, self.image_shape, (low, high), dtype == "uint8")
            return grey, Prepared(values, "")
        try:
            return grey, framing.prepare(grey)
        except DataError as error:
            raise DataError(f"{file}: {error}") from error

    @cached_property
    def framing(self) -> Framing | None:
        """How drawings lie in the images it was trained on, None if these are no drawings."""
        assert self.image_shape is not None
        dtype, low, high = self.scale
        if "framing" not in self.data:  # of an older version
            if self.data["kind"] == "images":
                return Framing.measured(self._recorded().train_x, self.image_shape)
            return Framing.as_mnist(self.image_shape, (low, high), dtype == "uint8")
        recorded = self.data["framing"]
        try:
            if recorded is None:
                return None
            return Framing.from_json(recorded, self.image_shape, dtype == "uint8")
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise RunError(
                f"{self.path / 'config.json'}: data.framing cannot be read ({error})"
            ) from error

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

"""The network: its weights, its answers and gradients, and its file.

The formulas stand in `backends/base.py`; an `MLP` holds the weights on a device and hands them,
with the network's `NetworkSpec`, to its backend's operations. `predict_proba` and
`loss_and_gradients` show how; the rest checks what is given, and saves and loads.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import pairwise
from math import isfinite
from operator import index
from pathlib import Path
from typing import Any

from backends import Backend, NetworkSpec, restored, select
from backends.functions import LOSSES, Array
from backends.sharded import ShardedRows
from backends.sparse import SparseRows

from . import html
from .initializers import initial_weights
from .settings import NetworkSettings
from .weight_files import MODEL_FILE, WeightFileError, read_safetensors, write_safetensors


class MLP:
    """A multi-layer perceptron of any depth.

    Parameters
    ----------
    sizes : sequence of int
        Units of every layer, inputs first: ``[784, 200, 10]``.
    backend : Backend or str
        From `backends.select`, or what that takes, such as "cpu"; the weights live there.
    activation : str
        The hidden layers' f, a name in `backends.functions.ACTIVATIONS`: "sigmoid", "relu", …
    output : {"sigmoid", "softmax"}, optional
        The output layer's f; the loss implies it.
    loss : {"rashid", "squared_error", "binary_cross_entropy", "cross_entropy"}
        ``rashid`` is the rule of *Make Your Own Neural Network* (2016), which is no gradient:
        ½Σ(t-o)² with the raw errors split back. ``squared_error`` is the gradient of the same
        loss. Both take a sigmoid output and targets 0.01 and 0.99. ``binary_cross_entropy``
        (sigmoid, Ng's) and ``cross_entropy`` (softmax) take targets 0 and 1.
    bias : bool
        Whether layers have biases, which start at zero.
    init : str
        See `trainer.initializers.initial_weights`.
    seed : int or None
        Seed of the initial weights.
    dtype : {"float32", "float64"}
        Of the weights and the arithmetic.
    scale, shift : float or array of shape (sizes[0],)
        The input map ``x = values * scale + shift``; the default takes 0…255 to 0.01…1.
    target_low, target_high : float, optional
        Targets of the wrong classes and of the right one; the loss implies them.
    l2 : float
        λ of the penalty λ/(2m) ΣW², biases excluded.

    Raises
    ------
    ValueError
        If a setting is unknown or does not go with another; the message names what would.
    BackendUnavailable
        If `backend` names a device that cannot be used.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        backend: Backend | str = "auto",
        activation: str = NetworkSettings.activation,
        output: str | None = NetworkSettings.output,
        loss: str = NetworkSettings.loss,
        bias: bool = NetworkSettings.bias,
        init: str = NetworkSettings.init,
        seed: int | None = 0,
        dtype: str = NetworkSettings.dtype,
        scale: Any = 0.99 / 255,
        shift: Any = 0.01,
        target_low: float | None = None,
        target_high: float | None = None,
        l2: float = NetworkSettings.l2,
    ) -> None:
        backend = select(backend)
        sizes = tuple(index(size) for size in sizes)
        if len(sizes) < 2 or min(sizes) < 1:
            raise ValueError(f"sizes={list(sizes)}: expected inputs, hidden layers and outputs")
        if max(sizes) >= 10**9:
            raise ValueError(f"a layer of {max(sizes)} units is too wide: expected less than 10⁹")
        dtype = getattr(dtype, "__name__", str(dtype))
        NetworkSettings(
            activation=activation,
            output=output,
            loss=loss,
            bias=bias,
            init=init,
            l2=l2,
            dtype=dtype,
        ).check()
        output = output or LOSSES[loss].output
        if output != LOSSES[loss].output:
            valid = [name for name, other in LOSSES.items() if other.output == output]
            raise ValueError(
                f"output={output!r} does not go with loss={loss!r}: take "
                f"output={LOSSES[loss].output!r}, or loss={' or '.join(map(repr, valid))}"
            )
        low, high = LOSSES[loss].targets
        low = low if target_low is None else float(target_low)
        high = high if target_high is None else float(target_high)
        if not (isfinite(low) and isfinite(high)):
            raise ValueError(f"target_low={low}, target_high={high}: expected finite numbers")
        device_type = getattr(backend.xp, dtype)

        def input_map(name: str, value: Any) -> Array:
            if backend.is_host(value):  # since a GPU's conversion turns the smallest numbers into 0
                value = backend.host_array(value).astype(dtype, copy=False)
            array = backend.asarray(value, dtype=device_type)
            if array.shape not in ((), (sizes[0],)):
                raise ValueError(
                    f"{name} has shape {array.shape}: expected a number or ({sizes[0]},)"
                )
            if not bool(backend.xp.all(backend.xp.isfinite(array))):
                raise ValueError(f"{name} holds NaN or infinite values: expected finite numbers")
            return backend.xp.asarray(array, copy=True)

        self.backend = backend
        self.init = init
        self.seed = None if seed is None else index(seed)
        self.l2 = float(l2)
        self.dtype = dtype
        self.spec = NetworkSpec(
            sizes=sizes,
            activation=activation,
            output=output,
            loss=loss,
            bias=bool(bias),
            target_low=low,
            target_high=high,
            scale=input_map("scale", scale),
            shift=input_map("shift", shift),
            dtype=device_type,
        )
        self.weights: list[Array] = []
        for matrix in initial_weights(sizes, init, backend.rng(seed)):
            # rounded on the host: the device may lack memory for a float64 copy
            self.weights.append(backend.asarray(matrix.astype(dtype, copy=False)))
            if bias:
                self.weights.append(backend.xp.zeros(matrix.shape[1], dtype=device_type))

    def __repr__(self) -> str:
        spec = self.spec
        return (
            f"MLP({list(spec.sizes)}, activation={spec.activation!r}, output={spec.output!r}, "
            f"loss={spec.loss!r}, bias={spec.bias}, dtype={self.dtype!r}, on {self.backend.name})"
        )

    def _repr_html_(self) -> str:
        """Return a table of the layers."""
        spec, rows = self.spec, []
        for number, (fan_in, units) in enumerate(pairwise(spec.sizes), 1):
            last = number == len(spec.sizes) - 1
            learned = fan_in * units + units * spec.bias
            function = spec.output if last else spec.activation
            rows.append((number, fan_in, units, function, "yes" if spec.bias else "no", learned))
        head = ("layer", "inputs", "units", "activation", "bias", "weights")
        about = f"{self.weight_count:,} weights, {self.dtype}, loss {spec.loss}"
        return html.block(f"MLP: {about}, on {self.backend.name}", html.table(rows, head))

    @property
    def sizes(self) -> tuple[int, ...]:
        """Return the units of every layer, inputs first."""
        return self.spec.sizes

    @property
    def weight_count(self) -> int:
        """Return how many numbers are learned, biases included."""
        return sum(w.size for w in self.weights)

    # --- weights ------------------------------------------------------------------------

    def get_weights(self) -> list[Any]:
        """Copy the weights to the host: W1 (fan_in, fan_out)[, b1 (fan_out,)], W2, …."""
        return [self.backend.to_numpy(w) for w in self.weights]

    def set_weights(self, arrays: Sequence[Any]) -> None:
        """Replace the weights by copies of others, in the order of `get_weights`.

        Raises
        ------
        ValueError
            If their shapes are not the network's; the message names both.
        """
        xp = self.backend.xp
        new = [self.backend.asarray(a, dtype=self.spec.dtype) for a in arrays]
        given, wanted = [a.shape for a in new], [w.shape for w in self.weights]
        if given != wanted:
            raise ValueError(f"weights have shapes {given}: this network has {wanted}")
        self.weights[:] = [xp.asarray(a, copy=True) for a in new]

    # --- samples on the device ------------------------------------------------------------

    def samples(self, x: Any, name: str = "x") -> Array | SparseRows:
        """Move samples (n, fan_in), unscaled, to the backend; errors call them by `name`.

        Raises
        ------
        ValueError
            If they have another shape.
        """
        values = self.backend.place_samples(x)
        if values.ndim != 2 or values.shape[1] != self.sizes[0]:
            raise ValueError(f"{name} has shape {values.shape}: expected (n, {self.sizes[0]})")
        return values

    def check_finite(self, values: Array | SparseRows, name: str) -> None:
        """Raise ValueError if `samples` are NaN or infinite in the network's dtype."""
        found = self._not_finite(values)
        if found is not None:
            row, column, value = found
            raise ValueError(
                f"{name} holds NaN or infinite values in {self.dtype}:"
                f" {name}[{row}, {column}] is {value:g}"
            )

    def _not_finite(self, values: Array | SparseRows) -> tuple[int, int, float] | None:
        """Return row, column and value of the first number that is NaN or infinite."""
        backend, xp = self.backend, self.backend.xp
        if isinstance(values, SparseRows):
            return values.not_finite(self.dtype)
        if not xp.isdtype(backend.asarray(values[:1, :]).dtype, "real floating"):
            return None
        for rows in backend.chunks(values):
            part = xp.astype(backend.asarray(values[rows, :]), self.spec.dtype)
            # of the extremes, which are NaN if any number is, so as to need no mask as large
            if not bool(xp.isfinite(xp.min(part)) & xp.isfinite(xp.max(part))):
                wrong = xp.astype(~xp.isfinite(part), xp.uint8)
                row, column = divmod(int(xp.argmax(wrong)), part.shape[1])
                return rows.start + row, column, float(part[row, column])
        return None

    def labels(self, y: Any, n: int, name: str = "y", *, narrow: bool = False) -> Array:
        """Move the labels of n samples to the device; errors call them by `name`.

        They become int64; but `narrow` ones that are integers keep their dtype, and no array of
        more bytes is made of them.

        Raises
        ------
        ValueError
            If they are not n whole numbers from 0 to classes - 1.
        """
        xp = self.backend.xp
        try:
            given = self.backend.asarray(y)
        except TypeError as error:  # of words and other objects
            raise ValueError(
                f"{name}: {error}; classes are whole numbers from 0 to {self.sizes[-1] - 1}: code"
                " words by classes, codes = numpy.unique(words, return_inverse=True), or take what"
                " trainer.load returns"
            ) from error
        if given.shape != (n,):
            raise ValueError(f"{name} has shape {given.shape}: expected ({n},), one label a sample")
        whole = narrow and n > 0 and xp.isdtype(given.dtype, "integral")
        if whole and 0 <= int(xp.min(given)) <= int(xp.max(given)) < self.sizes[-1]:
            return given
        number = xp.astype(given, xp.float64, copy=False)
        wrong = (number != xp.floor(number)) | (number < 0) | (number >= self.sizes[-1])
        if bool(xp.any(wrong)):
            at = int(xp.argmax(xp.astype(wrong, xp.uint8)))
            raise ValueError(
                f"{name}[{at}] is {float(number[at]):g}: expected a whole number from 0 to "
                f"{self.sizes[-1] - 1}"
            )
        return xp.astype(given, xp.int64, copy=False)

    def labelled(self, x: Any, y: Any, prefix: str = "") -> tuple[Array | SparseRows, Array]:
        """Move samples, one at least, and their labels; errors call them `prefix` x and y."""
        values = self.samples(x, f"{prefix}x")
        if not values.shape[0]:
            raise ValueError(f"{prefix}x has no samples: expected at least one")
        narrow = isinstance(values, ShardedRows)  # of which there are many
        return values, self.labels(y, values.shape[0], f"{prefix}y", narrow=narrow)

    # --- answers and gradients --------------------------------------------------------------

    def predict_proba(self, x: Any) -> Array:
        """Answer each sample with one output a class.

        Parameters
        ----------
        x : array, shape (n, fan_in)
            Host or device array of any library, or SciPy's sparse, unscaled.

        Returns
        -------
        device array, shape (n, classes)
            Softmax outputs sum to one; sigmoid outputs are each between 0 and 1.
        """
        answers = self.backend.propagate(self.spec, self.weights, self.samples(x))
        parts = [outputs for _, _, _, outputs in answers]
        return parts[0] if len(parts) == 1 else self.backend.xp.concat(parts)

    def predict(self, x: Any) -> Array:
        """Answer each sample with its likeliest class: device array of int, shape (n,).

        Raises
        ------
        ValueError
            If an output is NaN or infinite, as of a sample that is: that is no answer.
        """
        xp = self.backend.xp
        outputs = self.predict_proba(x)
        answered = xp.all(xp.isfinite(outputs), axis=1)
        if not bool(xp.all(answered)):
            at = int(xp.argmin(xp.astype(answered, xp.uint8)))
            raise ValueError(f"x[{at}] has no answer: an output is NaN or infinite")
        return xp.argmax(outputs, axis=1)

    def accuracy(self, x: Any, y: Any) -> float:
        """Return the fraction of samples answered with their label; an answer of NaN is wrong."""
        values, labels = self.labelled(x, y)
        return int(self.count_right(values, labels)) / labels.shape[0]

    def count_right(self, values: Array | SparseRows, labels: Array) -> Array:
        """Count what `accuracy` calls right, in a device array of one number.

        The samples are `labelled`'s. Nothing waits for the device.
        """
        xp = self.backend.xp
        outputs = self.predict_proba(values)
        # NaN is no answer, though argmax finds a class for it
        answered = xp.all(xp.isfinite(outputs), axis=1)
        return xp.count_nonzero((xp.argmax(outputs, axis=1) == labels) & answered)

    def sample_weights(self, weights: Any, n: int) -> Array:
        """Move the weights of n samples to the device.

        Raises
        ------
        ValueError
            If they are not n finite numbers of 0 or more, one of them above.
        """
        xp = self.backend.xp
        weights = self.backend.asarray(weights)
        if weights.shape != (n,):
            raise ValueError(
                f"sample_weight has shape {weights.shape}: expected ({n},), one number a sample"
            )
        weights = xp.astype(weights, xp.float64)
        wrong = ~(xp.isfinite(weights) & (weights >= 0))
        if bool(xp.any(wrong)):
            at = int(xp.argmax(xp.astype(wrong, xp.uint8)))
            raise ValueError(f"sample_weight[{at}] is {float(weights[at]):g}: expected 0 or more")
        if not bool(xp.any(weights > 0)):
            raise ValueError("sample_weight is zero for every sample: expected one above 0")
        return weights

    def loss(self, x: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the mean loss of the samples plus λ/(2m) ΣW², m being their number.

        With weights the mean is weighted, and m is their sum.
        """
        values, labels = self.labelled(x, y)
        total, (weights, m) = self._penalty(), self._weighed(labels, sample_weight)
        answers = self.backend.propagate(self.spec, self.weights, values)
        for rows, _, logits, outputs in answers:
            targets = self.backend.targets(self.spec, labels[rows])
            losses = self.backend.losses(self.spec, logits, outputs, targets)
            total += self._sum(losses, weights, rows)
        return total / m

    def gradients(self, x: Any, y: Any) -> list[Array]:
        """Return the gradient of `loss` by each weight: device arrays, ordered as `get_weights`.

        For ``rashid``, whose rule is no gradient, minus the rule's step without the rate.
        """
        return self.loss_and_gradients(x, y)[1]

    def loss_and_gradients(
        self, x: Any, y: Any, sample_weight: Any = None
    ) -> tuple[float, list[Array]]:
        """Return `loss` and its gradients, from one pass through the network."""
        xp = self.backend.xp
        values, labels = self.labelled(x, y)
        loss, (weights, m) = self._penalty(), self._weighed(labels, sample_weight)
        total: list[Array] = []
        for rows in self.backend.chunks(values):
            part, factors = labels[rows], None
            weight = float(part.shape[0])
            if weights is not None:
                weight = float(xp.sum(weights[rows]))
                mean = weight / part.shape[0] or 1.0  # where all are 0, so are the factors
                factors = xp.astype(weights[rows] / mean, self.spec.dtype)
            samples = self.backend.part(values, rows)
            losses, gradients = self.backend.losses_and_gradients(
                self.spec, self.weights, samples, part, self.l2 / m, None, factors
            )
            loss += self._sum(losses, weights, rows)
            # each chunk's gradients are a mean over its own samples
            parts = [gradient * (weight / m) for gradient in gradients]
            total = [a + b for a, b in zip(total, parts, strict=True)] if total else parts
        return loss / m, total

    def _weighed(self, labels: Array, sample_weight: Any) -> tuple[Array | None, float]:
        """Return the samples' weights on the device, if there are any, and their sum."""
        n = labels.shape[0]
        if sample_weight is None:
            return None, float(n)
        weights = self.sample_weights(sample_weight, n)
        return weights, float(self.backend.xp.sum(weights))

    def _sum(self, losses: Array, weights: Array | None, rows: slice) -> float:
        """Sum the losses of some samples, each times its weight."""
        xp = self.backend.xp
        losses = xp.astype(losses, xp.float64)
        return float(xp.sum(losses if weights is None else losses * weights[rows]))

    def _penalty(self) -> float:
        """Return λ/2 ΣW², which is the penalty when divided by the number of samples."""
        if not self.l2:
            return 0.0
        xp = self.backend.xp
        matrices = [W for W, _ in self.spec.layers(self.weights)]
        return self.l2 / 2 * sum(float(xp.sum(W * W, dtype=xp.float64)) for W in matrices)

    # --- copies and files -----------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        backend = {"device": self.backend.name, "matmul": self.backend.matmul}
        return {"arrays": self.arrays(), "settings": self.settings(), "backend": backend}

    def __setstate__(self, state: dict[str, Any]) -> None:
        backend = restored(**state["backend"])
        loaded = MLP.of(state["arrays"], state["settings"], backend=backend)
        self.__dict__.update(loaded.__dict__)

    def __deepcopy__(self, memo: dict[int, Any]) -> MLP:
        return MLP.of(self.arrays(), self.settings(), backend=self.backend)

    def settings(self) -> dict[str, Any]:
        """Return all that defines this network except input map and weights, fit for JSON."""
        spec = self.spec
        return {
            "sizes": list(spec.sizes),
            "activation": spec.activation,
            "output": spec.output,
            "loss": spec.loss,
            "bias": spec.bias,
            "init": self.init,
            "seed": self.seed,
            "dtype": self.dtype,
            "target_low": spec.target_low,
            "target_high": spec.target_high,
            "l2": self.l2,
        }

    @property
    def names(self) -> list[str]:
        """Return the weights' names: W1[, b1], W2, …."""
        per_layer = ("W", "b") if self.spec.bias else ("W",)
        return [f"{kind}{layer}" for layer in range(1, len(self.sizes)) for kind in per_layer]

    def input_map(self) -> dict[str, Any]:
        """Copy scale and shift to the host, by name."""
        spec, to_numpy = self.spec, self.backend.to_numpy
        return {"scale": to_numpy(spec.scale), "shift": to_numpy(spec.shift)}

    def arrays(self) -> dict[str, Any]:
        """Copy weights and input map to the host, by name, as `of` takes them."""
        return dict(zip(self.names, self.get_weights(), strict=True)) | self.input_map()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write weights, input map and settings to one safetensors file, whole or not at all."""
        write_safetensors(Path(path), self.arrays(), self.settings())

    @classmethod
    def load(cls, run_or_file: str | os.PathLike[str], *, backend: Backend | str = "auto") -> MLP:
        """Read a network from a run folder or from a file that `save` wrote.

        Raises
        ------
        WeightFileError
            If there is no such file, or it is damaged.
        """
        path = Path(run_or_file)
        if path.is_dir():
            path = path / MODEL_FILE
        arrays, settings = read_safetensors(path)
        try:
            return cls.of(arrays, settings, backend=backend)
        except ValueError as error:
            raise WeightFileError(f"{path}: does not hold a whole network ({error})") from error

    @classmethod
    def of(
        cls, arrays: dict[str, Any], settings: dict[str, Any], *, backend: Backend | str = "auto"
    ) -> MLP:
        """Return the network that has these `arrays` and these `settings`, by name.

        Raises
        ------
        ValueError
            If something is missing or does not fit the rest.
        """
        try:
            sizes = settings["sizes"]
            # before the weights are drawn: damaged settings could ask for a huge network
            held = [arrays[f"W{layer}"].shape for layer in range(1, len(sizes))]
            if held != list(pairwise(sizes)):
                raise ValueError(f"sizes {sizes}, but matrices of {held}")
            maps = {name: arrays[name] for name in ("scale", "shift")}
            model = cls(backend=backend, **settings, **maps)
            model.set_weights([arrays[name] for name in model.names])
        except KeyError as error:
            raise ValueError(f"{error} is missing") from error
        except (ArithmeticError, AttributeError, TypeError) as error:
            raise ValueError(str(error)) from error
        return model

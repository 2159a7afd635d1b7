"""Training in batches with every ingredient: a network's arrays, and the program that learns them.

The numbers lie in one flat array. The states come first: the weights, what the rule keeps for each
of them, and the average. A state has layer after layer, first the matrix, then the biases. The
matrix is cut into tiles of columns, see `lanes`, each with a row for each input. After all layers
come the gains of normalised ones, then their running moments. The batch's numbers follow, of each
layer a row for each sample, and what else the operations need, see `_PLACES`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from ...base import NetworkSpec
from ...feeding import Batches, Rule, States
from ...functions import ACTIVATIONS, LOSSES, Array
from ...noise import noise_key
from ...sparse import SparseRows
from ..codes import ACTIVATION_CODES, LOSS_CODES
from . import batches as on
from . import program, steps
from .dense import registers_for
from .lanes import lane_count
from .packed import (
    Packed,
    aligned,
    most_listed,
    read_only,
    readable_in_order,
    readable_sparse,
    round_up,
    tile_of,
    tile_pairs,
)
from .products import IN_ORDER, LISTED
from .workers import work

# Weights after the first layer up to which each worker reads them all, for its own samples; more of
# them do not stay in a core's cache, and each worker takes units of all samples.
_CACHED_WEIGHTS = 131_072
_PIECE = 16_384  # weights that a worker takes at a time, about
_UNITS = 128  # of a layer, likewise
_DENSE = 2.5  # times as long as a weight of the first layer takes one of the others, about

_OF_LAYER = "units", "width", "columns", "offset", "matrix", "bias", "gain", "moments"
_LAYER = np.dtype([(name, np.int64) for name in _OF_LAYER])
# where in the flat array these begin; x is an address, as are its columns and starts if sparse
_PLACES = (
    "x columns starts u values r unused kept hidden delta carried normal means variances spread "
    "gradient pieces turned scratch squares factor map ones shift no_shift rates losses weights "
    "average"
)
_SIZES = (
    "noise_size piece_size rows features listed width block chunk padded samples stored batch"
    " size count first_row"
)
_CHOICES = (
    "update made activation loss has_shift adds_biases is_clipped keeps_sums nesterov"
    " scales_epsilon"
)
_REALS = "low high momentum beta1 beta2 epsilon decay penalty dropped_inputs dropped"


def _job_of(real: np.dtype) -> np.dtype:
    """Return the dtype of all that operations know besides arrays."""
    fields: list[tuple[str, Any]] = [
        (name, np.int64) for name in f"{_PLACES} {_SIZES} {_CHOICES}".split()
    ]
    fields += [("key", np.uint64), ("clip", np.float64), ("averaging", np.float64)]
    return np.dtype(fields + [(name, real) for name in _REALS.split()], align=True)


class _Cut(NamedTuple):
    """A part of the weights: rows of a matrix, biases, gains or moments, and its numbers."""

    kind: str
    layer: int
    low: int
    high: int
    begin: int
    end: int


class WholeNetwork(Packed):
    """All numbers of a training as kernels want them, and the training itself."""

    def __init__(self, spec: NetworkSpec, states: States, learned: Batches, rule: Rule) -> None:
        self._spec, self._learned, self._rule = spec, learned, rule
        self._real = np.dtype(spec.dtype)
        self._lanes = lane_count(self._real)
        self._rows = round_up(spec.sizes[0], self._lanes)
        # numbers that a sample lists at most
        self._listed = self._rows
        if isinstance(learned.values, SparseRows) and not learned.regularization.dropped[0]:
            self._listed = min(self._rows, most_listed(learned.values))
        self._normalized = bool(learned.regularization.moments)
        self._states, self._count = states, len(states)
        # of each layer, how many registers a tile has
        self._tiles = [len(tile_of(spec))]
        self._tiles += [registers_for(-(-units // self._lanes)) for units in spec.sizes[2:]]
        self._layers, self._size, self._width = self._lay_out()
        self._cut = list(self._cut_weights())
        self._batch = min(learned.size, len(learned.values))
        # by the size that is asked for: a last batch is computed alike, learned by itself or not
        tiles = self._tile_count(0)
        self._block = min(LISTED, round_up(-(-learned.size * tiles // 4), 8))
        # registers of samples whose errors are handed down together: in small networks one or two,
        # so that both cores have some
        self._by_samples = spec.deeper_weights <= _CACHED_WEIGHTS and not self._normalized
        registers = -(-learned.size // self._lanes)
        self._chunk = 1 + (registers >= 8) if self._by_samples else registers_for(registers)
        self._operations: list[tuple[int, int]] = []
        self._pieces: list[tuple[int, ...]] = []
        self._phases: list[list[int]] = []

    # --- where the numbers lie --------------------------------------------------------------

    def _lay_out(self) -> tuple[np.ndarray, int, int]:
        """Return the layers' places, and the numbers of a state and of a sample."""
        at, offset, rows = 0, 0, self._rows
        layers = np.full(len(self._spec.sizes) - 1, -1, _LAYER)
        for i, (units, registers) in enumerate(zip(self._spec.sizes[1:], self._tiles, strict=True)):
            columns = registers * self._lanes
            width = round_up(units, columns)
            biases = at + rows * width
            # rows an even number of registers apart would share some sets of the cache's lines
            width += 0 if width // self._lanes % 2 else self._lanes
            layers[i] = units, width, columns, offset, at, biases, -1, -1
            at, offset, rows = biases + width, offset + width, units
        if self._normalized:
            for name, count in ("gain", 1), ("moments", 2):
                for layer in layers[:-1]:
                    layer[name], at = at, at + count * int(layer["width"])
        return layers, at, offset

    def _tile_count(self, layer: int) -> int:
        """Count the tiles of a layer's matrix."""
        return -(-self._spec.sizes[layer + 1] // (self._tiles[layer] * self._lanes))

    def _cut_weights(self) -> Iterator[_Cut]:
        """Cut a state into parts of which workers take one at a time.

        The first layer's, which are the smallest, come last, so that all workers end together.
        """
        for i, layer in reversed(list(enumerate(self._layers.tolist()))):
            _, width, columns, _, matrix, bias, gain, moments = layer
            tiles = self._tile_count(i)
            rows = (bias - matrix) // columns // tiles
            height = max(16, _PIECE // columns // 2 * 2)  # the inputs are listed in pairs
            for tile in range(matrix, bias, rows * columns):
                for low, high in pairwise([*range(0, rows, height), rows]):
                    yield _Cut("matrix", i, low, high, tile + low * columns, tile + high * columns)
            for at in range(bias, bias + tiles * columns, columns) if self._spec.bias else ():
                yield _Cut("bias", i, -1, 0, at, at + columns)
            if gain >= 0:
                yield _Cut("gain", i, -1, 0, gain, gain + width)
            if moments >= 0 and self._rule.averaging:
                yield _Cut("moments", i, -1, 0, moments, moments + 2 * width)

    def _places(
        self, flat: np.ndarray, state: Sequence[Array]
    ) -> Iterator[tuple[Array, np.ndarray]]:
        """Pair weights and gains with their places in a state."""
        arrays = iter(state)
        for i, layer in enumerate(self._layers):
            matrix = flat[layer["matrix"] : layer["bias"]]
            tiles = matrix.reshape(self._tile_count(i), -1, layer["columns"])
            yield from tile_pairs(next(arrays), tiles)
            if self._spec.bias:
                yield next(arrays), flat[layer["bias"] :][: layer["units"]]
        if self._normalized:
            for layer in self._layers[:-1]:
                yield next(arrays), flat[layer["gain"] :][: layer["units"]]

    def _moments(self, flat: np.ndarray) -> Iterator[np.ndarray]:
        """Yield the places of running means and variances."""
        for layer in self._layers[:-1] if self._normalized else ():
            yield flat[layer["moments"] :][: layer["units"]]
            yield flat[layer["moments"] + layer["width"] :][: layer["units"]]

    def _pack(self, numbers: np.ndarray) -> None:
        states = self._states
        moments = [a for pair in self._learned.regularization.moments for a in pair]
        rows = numbers[: self._count * self._size].reshape(self._count, -1)
        pairs: list[tuple[Array, np.ndarray]] = []
        for flat, state in zip(rows, states, strict=True):
            pairs += self._places(flat, state)
        pairs += zip(moments, self._moments(rows[0]), strict=True)
        if self._rule.averaging:
            pairs += zip(states[-1][len(states[0]) :], self._moments(rows[-1]), strict=True)
        super().__init__(pairs)

    # --- learning ---------------------------------------------------------------------------

    def learn(self, workers: int, made: int) -> np.ndarray:
        """Learn the batches, after so many steps before; return the losses."""
        spec, learned, real = self._spec, self._learned, self._real
        n = len(learned.values)
        job, rows = self._job(workers, n), IN_ORDER
        if isinstance(learned.values, SparseRows):
            sparse = readable_sparse(spec, learned.values)
            job["x"], job["columns"], job["starts"] = (a.ctypes.data for a in sparse)
            collect, drop_inputs = on.OF_SPARSE[real]
        else:
            values, rows = readable_in_order(spec, learned.values)
            job["stored"] = len(values)
            job["x"] = values.ctypes.data
            collect, drop_inputs = on.OF_SAMPLES[values.dtype]
        job["made"] = made
        numbers = aligned((self._place(job, workers, n),), real)
        self._pack(numbers)
        scale, shift = (numbers[job["map"] + i * self._rows :][: spec.sizes[0]] for i in (0, 1))
        scale[...], shift[...] = spec.scale, spec.shift
        numbers[job["ones"] :][: spec.sizes[0]] = 1
        if not job["dropped_inputs"]:
            job["has_shift"] = shift.any()
            if job["has_shift"] and not self._normalized:  # of normalised sums δ has no sum
                job["shift"] = job["map"] + self._rows
        numbers[job["rates"] :][: len(learned.rates)] = learned.rates
        if learned.weights is not None:
            numbers[job["weights"] :][:n] = learned.factors(np)
        index = np.zeros(-(-self._batch // self._block) * self._rows, np.uint64)
        marks = np.zeros(workers * self._rows, np.uint8)
        words = np.zeros(workers * job["noise_size"], np.uint32)
        labels = read_only(np.ascontiguousarray(learned.labels, np.int64))
        memory = program.Memory(self._layers, numbers, index, marks, words, labels, read_only(rows))
        listing = drop_inputs if job["dropped_inputs"] else collect
        self._write_program(job, memory, listing, workers)
        if learned.share.ranks.count > 1:
            self._learn_with_others(workers, job, memory)
        else:
            self._run(workers, self._tables(), 0, n, job, memory)
        self.unpack()
        return numbers[job["losses"] :][:n].copy()

    def _tables(self) -> list[np.ndarray]:
        """Return the program as `program.run` takes it."""
        return [np.array(t, np.int64) for t in (self._phases, self._pieces, self._operations)]

    def _run(
        self,
        workers: int,
        tables: list[np.ndarray],
        first: int,
        stop: int,
        job: np.void,
        memory: program.Memory,
    ) -> None:
        tickets, size = np.zeros((workers, 16), np.int64), self._learned.size
        work(program.run, workers, *tables, tickets, first, stop, size, job, memory)

    def _learn_with_others(self, workers: int, job: np.void, memory: program.Memory) -> None:
        """Learn the rank's part of each batch; gradients are summed over all before the steps."""
        learned, clip, n = self._learned, self._rule.clip, len(self._learned.values)
        gradient = memory.numbers[job["gradient"] :][: self._size]
        phases, *others = self._tables()
        until_exchange, after = [phases[:-1], *others], [phases[-1:], *others]
        for number in range(len(learned.rates)):
            first = number * learned.size
            stop = min(first + learned.size, n)
            if first < stop:
                self._run(workers, until_exchange, first, stop, job, memory)
            else:
                gradient[...] = 0
            (gradient[...],) = learned.share.ranks.sum([gradient])
            whole = learned.share.whole(number, learned.whole)
            factor = 1 / whole
            if clip < np.inf:
                parts = [part.ravel() for _, part in self._places(gradient, self._states[0])]
                norm = np.sqrt(sum(float(part @ part) for part in parts))
                factor = clip / max(norm, whole * clip)
            memory.numbers[job["factor"]] = factor
            self._run(workers, after, first, max(stop, first + 1), job, memory)

    def _job(self, workers: int, n: int) -> np.void:
        """Return what operations know besides arrays, as far as it is no place."""
        spec, learned, rule, widths = self._spec, self._learned, self._rule, self._layers["width"]
        dropped, betas = learned.regularization.dropped, rule.betas or (0.0, 0.0)
        noise_size = 4 * max(self._rows, *widths.tolist())
        found = {
            "noise_size": noise_size,
            "piece_size": round_up(max(p.end - p.begin for p in self._cut), self._lanes),
            "rows": self._rows,
            "features": spec.sizes[0],
            "listed": self._listed,
            "width": widths[0],
            "block": self._block,
            "chunk": self._chunk * self._lanes,
            "padded": round_up(self._batch, self._chunk * self._lanes),
            "samples": n,
            "batch": self._batch,
            "size": self._size,
            "count": len(self._cut),
            "first_row": learned.share.first,
            "update": learned.key[-1],
            "activation": ACTIVATION_CODES.get(spec.activation, -1),
            "loss": LOSS_CODES[spec.loss],
            "adds_biases": spec.bias and not (self._normalized and len(widths) > 1),
            "is_clipped": rule.clip < np.inf or learned.share.ranks.count > 1,
            "keeps_sums": ACTIVATIONS[spec.activation].needs_z,
            "nesterov": rule.nesterov,
            "scales_epsilon": rule.scales_epsilon,
            "key": noise_key(learned.key[:-1]),
            "clip": rule.clip,
            "averaging": rule.averaging,
            "low": spec.target_low,
            "high": spec.target_high,
            "momentum": rule.momentum,
            "beta1": betas[0],
            "beta2": betas[1],
            "epsilon": rule.epsilon,
            "decay": rule.decay,
            "penalty": learned.penalty,
            "dropped_inputs": dropped[0],
            "dropped": dropped[1],
        }
        job = np.zeros(1, _job_of(self._real))[0]
        for name, value in found.items():
            job[name] = value
        return job

    def _place(self, job: np.void, workers: int, n: int) -> int:
        """Find a place for everything, and return how many numbers that takes."""
        rows, of_batch = self._rows, self._batch * self._width
        keeps_apart = job["keeps_sums"] or job["dropped"]
        splits = LOSSES[self._spec.loss].splits_raw_errors
        sizes = {
            "u": self._batch * self._spec.sizes[0] if job["dropped_inputs"] else 0,
            "values": round_up(self._batch, self._block) * self._listed,
            "r": job["width"],
            "unused": workers * self._layers["columns"][0],
            "kept": of_batch,
            "hidden": of_batch if keeps_apart else 0,
            "delta": of_batch,
            "carried": of_batch if splits else 0,
            "normal": of_batch if self._normalized else 0,
            "means": self._width,
            "variances": self._width,
            "spread": self._width,
            "gradient": self._size,
            "pieces": workers * job["piece_size"],
            "turned": job["padded"] * self._width,
            "scratch": workers * on.HEIGHT * job["chunk"],
            "squares": len(self._cut),
            "factor": 1,
            "map": 2 * rows,
            "ones": rows,
            "no_shift": rows,
            "rates": len(self._learned.rates),
            "losses": n,
            "weights": n if self._learned.weights is not None else 0,
        }
        at = self._count * self._size
        for name, size in sizes.items():
            job[name], at = at, at + round_up(int(size), self._lanes)
        if not keeps_apart:
            job["hidden"] = job["kept"]
        if not splits:
            job["carried"] = job["delta"]
        if self._learned.weights is None:
            job["weights"] = -1
        job["shift"] = job["no_shift"]
        job["average"] = (self._count - 1) * self._size
        return at

    # --- the program ------------------------------------------------------------------------

    def _write_program(
        self, job: np.void, memory: program.Memory, listing: program.Operation, workers: int
    ) -> None:
        """Fill the tables of `program.run`."""
        spec, units = self._spec, self._layers["units"].tolist()
        last, columns = len(units) - 1, int(self._layers["columns"][0])
        blocks = self._ranges(self._block)
        turn_errors, backward = on.OF_CHUNK[self._chunk]

        def add(names: Sequence[program.Operation], layer: int) -> tuple[int, int]:
            first = len(self._operations)
            self._operations += [(name.address(job, memory), layer) for name in names]
            return first, len(self._operations)

        def phase(pieces: Iterable[tuple[int, ...]]) -> None:
            first, found = len(self._pieces), list(pieces)
            self._pieces += found
            sizes = []  # numbers take time, and samples as well
            for operation, last, of_samples, low, high, begin, end in found:
                size = max(1, high - low if of_samples else end - begin)
                is_deep = not of_samples and last > operation and self._operations[operation][1]
                sizes.append(_DENSE * size if is_deep else size)
            work = np.cumsum([0, *sizes])
            shares = work[-1] * np.arange(workers + 1) / workers
            self._phases.append((first + np.searchsorted(work, shares)).tolist())

        def of_samples(span: tuple[int, int], size: int) -> list[tuple[int, ...]]:
            return [(*span, True, low, high, 0, -1) for low, high in self._ranges(size)]

        def of_units(span: tuple[int, int], layer: int) -> list[tuple[int, ...]]:
            step = int(self._layers["columns"][layer])
            step *= max(1, round(_UNITS / step))
            parts = pairwise([*range(0, units[layer], step), units[layer]])
            return [(*span, True, 0, self._batch, low, high) for low, high in parts]

        tiles = range(0, units[0], columns)
        sum_shift, gather, scatter = on.OF_TILE[self._tiles[0]]
        begin = [sum_shift] if job["has_shift"] else []
        span = add([*begin, on.begin_sums], 0)
        of_tiles: list[tuple[int, ...]] = [(*span, False, 0, 1, j, j + columns) for j in tiles]
        phase(of_samples(add([listing], 0), self._block) + of_tiles)

        is_whole = last > 0 and not self._normalized
        span = add([gather, *(self._activation(job, 0) if is_whole else [])], 0)
        phase(
            (*span, True, low, high, j, min(j + columns, units[0]))
            for j in tiles
            for low, high in blocks
        )
        # the first layer's were gathered
        sums = [[], *([on.FORWARD[registers]] for registers in self._tiles[1:])]
        output = [*sums[last], *([on.add_biases] if spec.bias and last else [])]
        output.append(on.softmax if spec.loss == "cross_entropy" else on.sigmoids)
        if last:
            output.append(turn_errors)
        part = self._lanes * min(self._chunk, 2)
        if self._by_samples:
            first = len(self._operations)
            for layer in range(1, last):
                add([*sums[layer], *self._activation(job, layer)], layer)
            add(output, last)
            for layer in reversed(range(last)):
                add([backward, *self._backward(job)], layer)
                add([turn_errors] if layer else [], layer)
            phase(of_samples((first, len(self._operations)), part))
        else:
            for layer in range(is_whole, last):
                forward = [*sums[layer], *self._activation(job, layer)]
                phase(of_units(add(forward, layer), layer))
            phase(of_samples(add(output, last), part))
            for layer in reversed(range(last)):
                errors = [backward, *self._backward(job), *([turn_errors] if layer else [])]
                phase(of_units(add(errors, layer), layer))

        is_alone = self._learned.share.ranks.count == 1
        is_shifted = job["shift"] != job["no_shift"]
        if is_shifted:
            bias, span = int(self._layers["bias"][0]), add([steps.bias_gradient], 0)
            phase((*span, False, -1, 0, bias + j, bias + j + columns) for j in tiles)
        gradients, later = [], []
        for cut in self._cut:
            names: list[program.Operation] = []
            if cut.kind == "matrix":
                names = [steps.GRADIENT[self._tiles[cut.layer]] if cut.layer else scatter]
                names += [steps.add_penalty] if job["penalty"] else []
            elif cut.kind == "bias" and not (self._normalized and cut.layer < last):
                # for the shift, it was computed before
                names = [] if is_shifted and cut.layer == 0 else [steps.bias_gradient]
            if job["is_clipped"]:
                sums_squares = cut.kind != "moments" and is_alone
                names += [steps.add_squares] if sums_squares else []
                later.append((*add(self._steps(cut), cut.layer), False, *cut[2:]))
            else:
                names += self._steps(cut)
            gradients.append((*add(names, cut.layer), False, *cut[2:]))
        phase(gradients)
        if job["is_clipped"] and is_alone:
            phase([(*add([steps.find_norm], 0), False, 0, 1, 0, 0)])
        if job["is_clipped"]:
            phase(later)

    def _ranges(self, size: int) -> list[tuple[int, int]]:
        """Cut a batch into parts of so many samples."""
        return [(low, min(low + size, self._batch)) for low in range(0, self._batch, size)]

    def _activation(self, job: np.void, layer: int) -> list[program.Operation]:
        """List what leads from a hidden layer's sums to its activations."""
        names = []
        if self._normalized:
            names.append(on.normalize)
        elif self._spec.bias and layer:
            names.append(on.add_biases)
        names.append(on.gelu if job["keeps_sums"] else on.activations)
        return [*names, on.drop_units] if job["dropped"] else names

    def _backward(self, job: np.void) -> list[program.Operation]:
        """List what leads from the errors of a hidden layer's activations to its δ."""
        names = []
        if job["dropped"]:
            names.append(on.drop_errors)
        if LOSSES[self._spec.loss].splits_raw_errors:
            names.append(on.carry_raw)
        names.append(on.gelu_slopes if job["keeps_sums"] else on.slopes)
        return [*names, on.denormalize] if self._normalized else names

    def _steps(self, cut: _Cut) -> list[program.Operation]:
        """List what changes a part of the weights."""
        rule = self._rule
        step = steps.adam if rule.betas else steps.momentum if rule.momentum else steps.sgd
        names = [step] if cut.kind != "moments" else []
        return [*names, steps.move_average] if rule.averaging else names

"""Export to ONNX: raw values in, labels and probabilities out, for runtimes old and new."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from backends.functions import GELU_CUBE, GELU_SCALE, SCALED_TANH_A, SCALED_TANH_B

from ..data.columns import CATEGORY, LEFT_OUT, NUMBER, Column
from ..weight_files import WeightFileError
from .exported import Exported, write_file

OPSET = 14  # GELU is written out, since its own operator came with 20
_IR_VERSION = 7  # the lowest that allows this opset: runtimes refuse what is newer than they are
_LARGEST = (1 << 31) - 1  # bytes of a protocol buffer
_INPUT, _LABEL, _PROBABILITIES = "input", "label", "probabilities"


def write(network: Exported, out: Path) -> list[Path]:
    """Write a model with one tensor of raw values in, and plain tensors out.

    The input ``input`` (n, features) is uint8 for pixels and float32 else; NaN stands for a missing
    number of a table. Each column of categories is an input of its own, (n, 1) strings, named as
    the column; an empty one stands for a missing category. The outputs are ``label`` (n,), int64,
    the place of the answer among the classes, and ``probabilities`` (n, classes), float32.

    Raises
    ------
    WeightFileError
        If the package onnx is missing, or the model would be larger than ONNX allows.
    """
    try:
        import onnx
    except ImportError as error:
        raise WeightFileError(
            '--format onnx needs the package onnx: python -m pip install "xptrainer[onnx]"'
        ) from error
    size = sum(array.nbytes for array in network.weights.arrays)
    if size > _LARGEST - (1 << 20):
        raise WeightFileError(
            f"--format onnx: {size:,} bytes of weights; an ONNX file has at most {_LARGEST:,}: take"
            " --format torch"
        )
    model = _Writer(network).model()
    onnx.checker.check_model(model, full_check=True)
    return write_file(out, ".onnx", model.SerializeToString(deterministic=True))


def contents(network: Exported) -> str:
    """Return in a line what goes into the model and what comes out."""
    numbers, words = _inputs(network)
    values = "uint8" if network.dtype == "uint8" else "float32"
    parts = [f"{_INPUT} (n, {numbers}) {values}"] if numbers else []
    parts += [f"{len(words)} inputs of strings (n, 1)"] if words else []
    k = len(network.classes)
    return (
        f"{', '.join(parts)} → {_LABEL} (n,) int64, {_PROBABILITIES} (n, {k}) float32; opset"
        f" {OPSET}"
    )


def _inputs(network: Exported) -> tuple[int, list[Column]]:
    """Return how many numbers the model takes, and its columns of categories."""
    if network.columns is None:
        return network.weights.sizes[0], []
    columns = network.columns.columns
    words = [column for column in columns if column.kind == CATEGORY]
    return sum(column.kind not in (CATEGORY, LEFT_OUT) for column in columns), words


class _Writer:
    """Collects nodes and constants; every method returns the name of what it adds."""

    def __init__(self, network: Exported) -> None:
        from onnx import helper, numpy_helper

        self.helper, self.from_array = helper, numpy_helper.from_array
        self.network = network
        self.dtype = network.weights.arrays[0].dtype
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.inputs: list[Any] = []

    def node(self, kind: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        name = name or f"net.{len(self.nodes)}"
        domain = "ai.onnx.ml" if kind == "OneHotEncoder" else None
        made = self.helper.make_node(kind, list(inputs), [name], domain=domain, **attributes)
        self.nodes.append(made)
        return name

    def constant(self, name: str, value: Any) -> str:
        name = f"net.{name}"
        if all(name != other.name for other in self.constants):
            self.constants.append(self.from_array(np.asarray(value), name))
        return name

    def number(self, value: float) -> str:
        return self.constant(repr(value), self.dtype.type(value))

    def tensor(self, name: str, kind: str, *shape: int | str) -> Any:
        return self.helper.make_tensor_value_info(name, _element(kind), shape)

    def model(self) -> Any:
        network, helper = self.network, self.helper
        at, order = self.values()
        layers = network.weights.layers
        for i, (W, b) in enumerate(layers, 1):
            W = W if i > 1 or order is None else W[order]
            at = self.node("MatMul", at, self.constant(f"W{i}", W))
            if b is not None:
                at = self.node("Add", at, self.constant(f"b{i}", b))
            if i < len(layers):
                at = self.activation(at)
        attributes = {"axis": -1} if network.output == "softmax" else {}
        is_double = self.dtype == np.float64
        name = "" if is_double else _PROBABILITIES
        kind = {"softmax": "Softmax", "sigmoid": "Sigmoid"}[network.output]
        at = self.node(kind, at, name=name, **attributes)
        self.node("ArgMax", at, name=_LABEL, axis=1, keepdims=0)
        if is_double:
            self.node("Cast", at, name=_PROBABILITIES, to=_element("FLOAT"))
        outputs = [
            self.tensor(_LABEL, "INT64", "n"),
            self.tensor(_PROBABILITIES, "FLOAT", "n", len(network.classes)),
        ]
        outputs[0].doc_string = "the place of the answer among the classes, from 0"
        graph = helper.make_graph(self.nodes, "network", self.inputs, outputs, self.constants)
        opsets = [helper.make_opsetid("", OPSET)]
        if any(node.domain for node in self.nodes):
            opsets.append(helper.make_opsetid("ai.onnx.ml", 1))
        model = helper.make_model(
            graph, producer_name="xptrainer", opset_imports=opsets, ir_version=_IR_VERSION
        )
        model.doc_string = contents(network)
        helper.set_model_props(model, network.metadata())
        return model

    def values(self) -> tuple[str, np.ndarray | None]:
        """Add the inputs and what makes x of them; return also the order of x, None for ours."""
        network = self.network
        numbers, words = _inputs(network)
        parts, order = [], None
        if network.columns is not None and words:
            order = self._order()
        if numbers:
            is_pixels = network.dtype == "uint8"
            self.inputs.append(self.tensor(_INPUT, "UINT8" if is_pixels else "FLOAT", "n", numbers))
            parts.append(self._filled(_INPUT))
        taken = {_INPUT, _LABEL, _PROBABILITIES}
        for column in words:
            name = column.name
            while name in taken or name.startswith("net."):
                name += "_"
            taken.add(name)
            self.inputs.append(self.tensor(name, "STRING", "n", 1))
            names = ["" if word is None else word for word in column.categories]
            hot = self.node("OneHotEncoder", name, cats_strings=names, zeros=1)
            shape = self.constant(f"{len(names)} wide", np.array([0, len(names)], np.int64))
            parts.append(self.node("Reshape", hot, shape))
        at = parts[0] if len(parts) == 1 else self.node("Concat", *parts, axis=1)
        if network.dtype == "uint8" or self.dtype == np.float64:
            kind = "DOUBLE" if self.dtype == np.float64 else "FLOAT"
            at = self.node("Cast", at, to=_element(kind))
        scale, shift = (
            part if order is None or not part.ndim else part[order] for part in network.input_map
        )
        at = self.node("Mul", at, self.constant("scale", scale.astype(self.dtype)))
        return self.node("Add", at, self.constant("shift", shift.astype(self.dtype))), order

    def _filled(self, at: str) -> str:
        """Fill missing numbers of a table with the training's medians."""
        columns = self.network.columns
        if columns is None or columns.is_image:
            return at
        medians = [column.median for column in columns.columns if column.kind == NUMBER]
        if not all(map(math.isfinite, medians)):
            return at
        filler = self.constant("medians", np.array(medians, np.float32))
        return self.node("Where", self.node("IsNaN", at), filler, at)

    def _order(self) -> np.ndarray:
        """Return the places of the model's inputs, numbers first, among the network's."""
        assert self.network.columns is not None
        is_number = self.network.columns.numbers
        return np.concatenate([np.flatnonzero(is_number), np.flatnonzero(~is_number)])

    def activation(self, z: str) -> str:
        """Add a hidden layer's function; see `backends.functions` for the formulas."""
        name = self.network.activation
        if name == "gelu":
            cube = self.node("Mul", self.node("Mul", z, z), z)
            inner = self.node("Add", z, self.node("Mul", cube, self.number(GELU_CUBE)))
            u = self.node("Mul", inner, self.number(GELU_SCALE))
            half = self.node("Mul", z, self.number(0.5))
            return self.node("Mul", half, self.node("Add", self.node("Tanh", u), self.number(1.0)))
        if name == "scaled_tanh":
            bent = self.node("Tanh", self.node("Mul", z, self.number(SCALED_TANH_B)))
            return self.node("Mul", bent, self.number(SCALED_TANH_A))
        return self.node({"sigmoid": "Sigmoid", "tanh": "Tanh", "relu": "Relu"}[name], z)


def _element(kind: str) -> int:
    from onnx import TensorProto

    return int(getattr(TensorProto, kind))

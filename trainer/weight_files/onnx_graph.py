"""A plain multi-layer perceptron in an ONNX file, taken apart into its weights.

Matrix products are found by their nodes. What stands between two of them, one node or several, is
recognised by what it computes: it is run on some numbers and compared with each activation.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from backends.functions import ACTIVATIONS

from .own import WeightFileError, reading
from .weights import Weights

# nodes that change no number, and those that change each by itself
_PASSING = ("Cast", "Dropout", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze")
_ELEMENTWISE = (
    *("Abs", "Add", "Cast", "Clip", "Div", "Dropout", "Elu", "Erf", "Exp", "Gelu", "HardSigmoid"),
    *("HardSwish", "Identity", "LeakyRelu", "Max", "Min", "Mul", "Neg", "Pow", "Relu", "Selu"),
    *("Sigmoid", "Softplus", "Softsign", "Sqrt", "Sub", "Tanh"),
)
_PLAIN = (
    "expected a plain multi-layer perceptron: matrix products, and between them one of"
    f' {", ".join(ACTIVATIONS)}, the last with approximate="tanh"'
)
_PROBE = np.linspace(-4, 4, 64)
_CLOSE = 2e-5  # GELU by erf and by tanh differ by 5e-4


def read_onnx(path: Path) -> Weights:
    """Read the weights, and all else that is known, of a plain perceptron in an ONNX file.

    It has biases in every layer, zeros where the file has none, and ``stated`` holds activation,
    output and loss, and classes where the file has them. The input map is None if the graph takes
    its inputs as they are. A last layer of one sigmoid unit becomes a softmax of two with the same
    probabilities, since σ(z) = softmax(0, z).

    Raises
    ------
    WeightFileError
        If it is none, cannot be read, or the package onnx is not installed.
    """
    try:
        import onnx
    except ImportError as error:
        raise WeightFileError(
            f'{path}: reading ONNX needs the package onnx: python -m pip install "xptrainer[onnx]"'
        ) from error
    if not path.is_file():
        raise WeightFileError(f"{path}: no such file; expected an ONNX model")
    with reading(path, "ONNX file"):
        return _Graph(onnx.load(path), path).weights()


class _Graph:
    """A model's nodes by what they make and take, and its constants by name."""

    def __init__(self, model: Any, path: Path) -> None:
        from onnx import helper, numpy_helper

        graph = model.graph
        self.path, self.model = path, model
        self.constants = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
        self.maker: dict[str, Any] = {}
        self.nodes = list(graph.node)
        for node in self.nodes:
            if node.op_type == "Constant":
                value = helper.get_attribute_value(node.attribute[0])
                is_tensor = node.attribute[0].name == "value"
                self.constants[node.output[0]] = (
                    numpy_helper.to_array(value) if is_tensor else np.asarray(value)
                )
            elif node.op_type == "Identity" and node.input[0] in self.constants:
                self.constants[node.output[0]] = self.constants[node.input[0]]
            for name in node.output:
                self.maker[name] = node
        self.inputs = [i.name for i in graph.input if i.name not in self.constants]

    def refused(self, why: str) -> WeightFileError:
        return WeightFileError(f"{self.path}: {why}; {_PLAIN}")

    def weights(self) -> Weights:
        if len(self.inputs) != 1:
            raise self.refused(f"takes {len(self.inputs)} inputs")
        products = [node for node in self.nodes if self._is_product(node)]
        if not products:
            raise self.refused("has no matrix product with constant weights")
        arrays: list[np.ndarray] = []
        functions: list[str] = []
        scale, shift = self._input_map(products[0].input[0])
        sums = ""  # the name of a layer's z
        for product in products:
            if sums:
                functions.append(self._activation(sums, product.input[0]))
            W, b, sums = self._layer(product)
            arrays += [W, b]
        if len(set(functions)) > 1:
            raise self.refused(f"its layers compute different functions, {', '.join(functions)}")
        output = self._output(sums)
        if arrays[-2].shape[1] == 1:
            if output != "sigmoid":
                raise self.refused("one output without a sigmoid, which is no classifier's")
            W, b = arrays[-2:]
            arrays[-2:] = [np.hstack([np.zeros_like(W), W]), np.concatenate([np.zeros_like(b), b])]
            output = "softmax"
        loss = {"softmax": "cross_entropy", "sigmoid": "binary_cross_entropy"}[output]
        stated: dict[str, Any] = {"output": output, "loss": loss}
        if functions:
            stated["activation"] = functions[0]
        stated |= self._metadata()
        is_plain = not scale.ndim and not shift.ndim and (scale, shift) == (1, 0)
        return Weights(arrays, True, input_map=None if is_plain else (scale, shift), stated=stated)

    def _metadata(self) -> dict[str, Any]:
        """Return what an export of this program says of itself."""
        found = {entry.key: entry.value for entry in self.model.metadata_props}
        if self.model.producer_name == "skl2onnx" and "classes" in self.constants:
            classes = self.constants["classes"].reshape(-1).tolist()
            return {"classes": tuple(c.decode() if isinstance(c, bytes) else c for c in classes)}
        if self.model.producer_name != "xptrainer":
            return {}
        lists = {name: tuple(json.loads(found[name])) for name in ("classes", "value_range")}
        return lists | {"loss": found["loss"]}

    def _is_product(self, node: Any) -> bool:
        if node.op_type not in ("Gemm", "MatMul"):
            return False
        W = self.constants.get(node.input[1])
        return W is not None and W.ndim == 2 and node.input[0] not in self.constants

    def _layer(self, node: Any) -> tuple[np.ndarray, np.ndarray, str]:
        """Return W (inputs, units), b and the name of the sums that they make."""
        W, sums = self.constants[node.input[1]], node.output[0]
        if W.dtype not in (np.float32, np.float64) or not W.size:
            raise self.refused(f"weights of {W.dtype} and shape {W.shape}")
        b = None
        if node.op_type == "Gemm":
            given = {a.name: a.f if a.name in ("alpha", "beta") else a.i for a in node.attribute}
            if given.get("transA"):
                raise self.refused("a product with its samples in columns")
            W = (W.T if given.get("transB") else W) * W.dtype.type(given.get("alpha", 1))
            if len(node.input) > 2 and node.input[2]:
                b = self._vector(node.input[2], W.shape[1])
                b = None if b is None else b * W.dtype.type(given.get("beta", 1))
                if b is None:
                    raise self.refused("a bias that is no constant")
        else:
            for taker in self._takers(sums):
                other = [name for name in taker.input if name != sums]
                vector = self._vector(other[0], W.shape[1]) if len(other) == 1 else None
                if taker.op_type == "Add" and vector is not None:
                    b, sums = vector, taker.output[0]
        none = np.zeros(W.shape[1], W.dtype)
        arrays = [np.ascontiguousarray(W), none if b is None else b.astype(W.dtype)]
        if not all(np.isfinite(array).all() for array in arrays):
            raise WeightFileError(f"{self.path}: holds NaN or infinite weights")
        return arrays[0], arrays[1], sums

    def _vector(self, name: str, units: int) -> np.ndarray | None:
        """Return the constant of this name as one number a unit, None if it is none such."""
        value = self.constants.get(name)
        if value is None or value.dtype.kind != "f" or value.size not in (1, units):
            return None
        return np.broadcast_to(value.reshape(-1), (units,))

    def _takers(self, name: str) -> list[Any]:
        return [node for node in self.nodes if name in node.input]

    def _input_map(self, end: str) -> tuple[np.ndarray, np.ndarray]:
        """Return scale and shift with which the first product takes the graph's input."""
        chain: list[tuple[Any, str]] = []
        while end != self.inputs[0]:
            node = self.maker.get(end)
            varying = [] if node is None else [n for n in node.input if n not in self.constants]
            if node is not None and node.op_type == "Where":  # the median of a missing number
                varying = self._filled(node)
            if node is None or len(varying) != 1 or len(chain) > len(self.nodes):
                raise self.refused("inputs that come to the first product in more than one way")
            chain.append((node, varying[0]))
            end = varying[0]
        scale, shift = np.array(1.0), np.array(0.0)
        for node, taken in reversed(chain):
            kind, given = node.op_type, list(node.input)
            if kind in _PASSING or kind == "Where":
                continue
            if kind == "Scaler":
                parts = {a.name: np.array(a.floats, np.float64) for a in node.attribute}
                shift = (shift - parts["offset"]) * parts["scale"]
                scale = scale * parts["scale"]
                continue
            other = [name for name in given if name != taken]
            value = self.constants[other[0]].astype(np.float64) if len(other) == 1 else None
            if value is None or sum(n > 1 for n in value.shape) > 1:
                raise self.refused(f"a node {kind} before the first product")
            value = value.reshape(-1) if value.size > 1 else value.reshape(())
            first = given[0] == taken
            if kind == "Mul":
                scale, shift = scale * value, shift * value
            elif kind == "Add":
                shift = shift + value
            elif kind == "Sub":
                scale, shift = (scale, shift - value) if first else (-scale, value - shift)
            elif kind == "Div" and first:
                scale, shift = scale / value, shift / value
            else:
                raise self.refused(f"a node {kind} before the first product")
        return np.asarray(scale), np.asarray(shift)

    def _filled(self, node: Any) -> list[str]:
        """Return the input of a node that replaces what is NaN in it by a constant."""
        condition, when_missing, value = node.input
        test = self.maker.get(condition)
        is_test = test is not None and test.op_type == "IsNaN" and test.input[0] == value
        return [value] if is_test and when_missing in self.constants else []

    def _between(self, start: str, end: str) -> Iterator[Any]:
        """Find the nodes that make one value of another and of constants, in order."""
        wanted = [end]
        found: list[Any] = []
        while wanted:
            name = wanted.pop()
            if name == start or name in self.constants:
                continue
            node = self.maker.get(name)
            if node is None:
                raise self.refused("a layer takes more than the layer before it")
            if node.op_type == "BatchNormalization":
                raise self.refused(
                    "a batch normalisation between two layers: fold it into the layer before it,"
                    " torch.nn.utils.fusion.fuse_linear_bn_eval(linear, norm), or export with"
                    " dynamo=True"
                )
            if node.op_type not in _ELEMENTWISE:
                raise self.refused(f"a node {node.op_type} between two layers")
            if not any(node is other for other in found):
                found.append(node)
                wanted.extend(name for name in node.input if name)
        return (node for node in self.nodes if any(node is other for other in found))

    def _activation(self, start: str, end: str) -> str:
        """Return the name of the function that makes the inputs of a layer of another's sums."""
        from onnx import TensorProto, helper, numpy_helper
        from onnx.reference import ReferenceEvaluator

        nodes = list(self._between(start, end))
        if not nodes:
            raise self.refused("two layers without a function between them")
        names = {name for node in nodes for name in node.input if name in self.constants}
        constants = [numpy_helper.from_array(self.constants[name], name) for name in sorted(names)]
        if any(self.constants[name].size > 1 for name in names):
            raise self.refused("a node with a number for each unit between two layers")
        ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n"]) for n in (start, end)]
        graph = helper.make_graph(nodes, "between", ends[:1], ends[1:], constants)
        made = helper.make_model(graph, opset_imports=list(self.model.opset_import))
        for dtype in (np.float32, np.float64):
            try:
                [found] = ReferenceEvaluator(made).run(None, {start: _PROBE.astype(dtype)})
                break
            except TypeError:  # constants of the other type
                continue
        for name, function in ACTIVATIONS.items():
            if np.allclose(found, function.value(np, _PROBE), rtol=0, atol=_CLOSE):
                return name
        what = " ".join(node.op_type for node in nodes)
        raise self.refused(f"its hidden units compute something else ({what})")

    def _output(self, sums: str) -> str:
        """Return the function of the outputs; of a graph that ends with sums it is the softmax."""
        while True:
            takers = [node for node in self._takers(sums) if node.op_type != "Shape"]
            kinds = {node.op_type for node in takers}
            if not takers or kinds == {"ArgMax"}:
                return "softmax"
            if "Sigmoid" in kinds:
                return "sigmoid"
            for node in takers:
                if node.op_type in ("Softmax", "LogSoftmax"):
                    if [a.i for a in node.attribute if a.name == "axis"] not in ([], [-1], [1]):
                        raise self.refused("a softmax that is not over the classes")
                    return "softmax"
            if len(takers) == 1 and takers[0].op_type in _PASSING:
                sums = takers[0].output[0]
                continue
            raise self.refused(f"a node {' and '.join(sorted(kinds))} after the last layer")

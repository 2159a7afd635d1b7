"""A damaged file is read or refused in one line that names it; nothing else may happen."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from scripts import fuzz_readers

from .readers import (
    CONFIG,
    CONFIG_OF_IMAGES,
    FRAMING,
    MATRIX,
    READERS,
    chunk,
    model_of,
    npy,
    picture,
)

BYTES_OF_NUMBERS = [
    struct.pack(order + kind, value)
    for kind, bits in (("B", 8), ("H", 16), ("I", 32), ("Q", 64))
    for order in "<>"
    for value in (0, 1, 2 ** (bits - 1) - 1, 2 ** (bits - 1), 2**bits - 1)
]
NUMBERS = st.sampled_from([0, 1, -1, 2, 255, 2**31 - 1, 2**31, 2**32 - 1, 2**63, 10**30, 10**4000])
SMALLER = NUMBERS.filter(lambda number: number < 2**70)
TEXTS = ["9" * 30, "-1", "1e999", "nan", '"', "\n", "\r", "\x00", "\x1b[2J", "[" * 3000, "é", ","]


@st.composite
def damaged(draw: Callable[..., Any], seeds: tuple[bytes, ...]) -> bytes:
    """Change a good file in one to four places."""
    content = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 4))):
        places = st.integers(0, len(content))
        start, end = sorted((draw(places), draw(places)))
        how = draw(st.sampled_from(["flip", "cut", "drop", "insert", "number", "text", "swap"]))
        if how == "flip" and start < len(content):
            content[start] ^= 1 << draw(st.integers(0, 7))
        elif how == "cut":
            del content[end:]
        elif how == "drop":
            del content[start : min(end, start + 9)]
        elif how == "insert":
            content[start:start] = draw(st.binary(max_size=9))
        elif how == "number":
            number = draw(st.sampled_from(BYTES_OF_NUMBERS))
            content[start : start + len(number)] = number
        elif how == "text":
            content[start : start + 1] = draw(st.sampled_from(TEXTS)).encode()
        elif how == "swap":
            middle = (start + end) // 2
            content[start:end] = content[middle:end] + content[start:middle]
    return bytes(content)


# --- headers that are whole, and lie --------------------------------------------------------

_WORDS = st.integers(0, 2**32 - 1) | st.sampled_from([0, 1, 2, 4, 6, 2**16, 2**31, 2**32 - 1])


def _idx(magic: int, dimensions: int) -> st.SearchStrategy[bytes]:
    sizes = st.lists(_WORDS, min_size=dimensions, max_size=dimensions)
    return st.tuples(sizes, st.binary(max_size=64)).map(
        lambda d: struct.pack(f">{dimensions + 1}I", magic, *d[0]) + d[1]
    )


def _npy(text: str) -> bytes:
    header = text.encode("latin1")
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(96)


_NPY = st.builds(
    lambda descr, order, shape: _npy(str({"descr": descr, "fortran_order": order, "shape": shape})),
    st.sampled_from(["<f8", "|O", "<U3", "S0", "V9999999999", ">c16", "M8", [("a", "O")], 3, None]),
    st.sampled_from([True, False, 0, None]),
    st.lists(NUMBERS, max_size=4).map(tuple) | NUMBERS,
) | st.text("{}()[]'\": ,descrfortran_ordhape0123456789<|ufO8TrueFalse\n\\-", max_size=80).map(_npy)

_PNG_HEADERS = st.builds(
    lambda w, h, rest, data: (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">2I", w, h) + rest) + data
    ),
    _WORDS,
    _WORDS,
    st.binary(min_size=5, max_size=5),
    st.just(picture("PNG")[33:]),
)


def _element(kind: int, content: bytes) -> bytes:
    return struct.pack("<2I", kind, len(content)) + content + bytes(-len(content) % 8)


_MAT = st.builds(
    lambda flags, shape, name, kind, data: _element(
        14,
        _element(6, struct.pack("<2I", flags, 0))
        + _element(5, struct.pack(f"<{len(shape)}I", *shape))
        + _element(1, name)
        + _element(kind, data),
    ),
    st.integers(0, 20) | _WORDS,
    st.lists(_WORDS, max_size=4),
    st.binary(max_size=9),
    st.integers(0, 20),
    st.binary(max_size=64),
)


_STRUCT = st.builds(
    lambda shape, length, names, fields: _element(
        14,
        _element(6, struct.pack("<2I", 2, 0))
        + _element(5, struct.pack(f"<{len(shape)}I", *shape))
        + _element(1, b"dataset")
        + _element(5, struct.pack("<I", length))
        + _element(1, names)
        + b"".join(fields),
    ),
    st.just([1, 1]) | st.lists(_WORDS, max_size=3),
    st.sampled_from([8, 32]) | _WORDS,
    st.sampled_from([b"train\0\0\0", b"train\0\0\0test\0\0\0\0"]) | st.binary(max_size=32),
    st.lists(_MAT, max_size=3),
)


def _safetensors(header: object) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(96)


_TENSOR = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F64", "F32", "F16", "BF16", "F8_E4M3", "I4", "BOOL", "X", 3]),
        "shape": st.lists(SMALLER, max_size=3),
        "data_offsets": st.lists(SMALLER, min_size=2, max_size=2),
    }
)
_NAMES = st.sampled_from(["W1", "b1", "W" + "9" * 5000, "a\nb", "\x1b[31m", "[bold]", ""])
_SAFETENSORS = st.dictionaries(_NAMES, _TENSOR, max_size=3).map(_safetensors) | _NAMES.map(
    lambda name: save({name: MATRIX})
)

_JSON = st.recursive(
    st.none() | st.booleans() | SMALLER | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)


def _with(field: str, value: object) -> bytes:
    return json.dumps(CONFIG | {"data": CONFIG["data"] | {field: value}}).encode()


def _with_framing(field: str, value: object) -> bytes:
    framing = FRAMING | {field: value}
    return json.dumps({"data": CONFIG_OF_IMAGES["data"] | {"framing": framing}}).encode()


_SETTINGS = {"sizes": [4, 3, 2], "bias": True}
STRUCTURED: dict[str, st.SearchStrategy[bytes]] = {
    "idx-images": _idx(0x803, 3),
    "idx-images-in-gz": _idx(0x803, 3),
    "idx-labels": _idx(0x801, 1),
    "npz-images": _NPY,
    "npz-labels": _NPY,
    "npy-weights": _NPY,
    "idx-integers": _idx(0xC02, 2),
    "npz-colours": _NPY,
    "npy": _NPY,
    "mat-element": _MAT,
    "mat-struct-element": _MAT | _STRUCT,
    "png": _PNG_HEADERS,
    "safetensors-weights": _SAFETENSORS,
    "model": st.builds(
        lambda field, value: model_of(json.dumps(_SETTINGS | {field: value})),
        st.sampled_from(["sizes", "bias", "dtype", "l2", "init", "activation", "backend", "seed"]),
        _JSON | st.lists(SMALLER, max_size=4),
    ),
    "config": st.builds(_with, st.sampled_from(sorted(CONFIG["data"])), _JSON),
    "run-of-images": st.builds(
        _with_framing,
        st.sampled_from(sorted(FRAMING)),
        _JSON | st.floats() | st.lists(SMALLER | st.floats(), min_size=2, max_size=2),
    ),
    "metrics": _JSON.map(lambda value: json.dumps(value).encode())
    | st.builds(
        lambda field, value: json.dumps({"epoch": 1, "train_loss": 1.0, field: value}).encode(),
        st.sampled_from(["epoch", "train_loss", "test_accuracy"]),
        _JSON,
    ),
}


PARQUET = [name for name in READERS if name.startswith("parquet")]


@pytest.mark.usefixtures("little_memory")
@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", [name for name in READERS if name not in PARQUET])
@settings(max_examples=20)
@given(data=st.data())
def test_it_is_read_or_refused(tmp_path_factory, name, data):
    read_damaged(tmp_path_factory, name, data)


@pytest.mark.usefixtures("little_memory")
@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", PARQUET)
@settings(max_examples=10, deadline=None)  # each is read in a process of its own
@given(data=st.data())
def test_a_parquet_file_is_read_or_refused(tmp_path_factory, name, data):
    read_damaged(tmp_path_factory, name, data)


def read_damaged(tmp_path_factory, name, data):
    reader = READERS[name]
    content = data.draw(damaged(reader.seeds) | STRUCTURED.get(name, st.binary(max_size=40)))
    folder = tmp_path_factory.getbasetemp() / name
    reader.prepare(folder)
    reader.refusal(folder, content)


@pytest.mark.parametrize("name", READERS)
def test_what_is_good_is_read(tmp_path, name):
    """Else the damage would not show anything."""
    reader = READERS[name]
    reader.prepare(tmp_path)
    assert reader.refusal(tmp_path, reader.seeds[0]) is None


@pytest.mark.parametrize("code", [0xD800, 0x7FFFFFFF, 10, 0])
def test_text_that_is_none_is_refused(tmp_path, code):
    reader = READERS["npz-labels"]
    reader.prepare(tmp_path)
    content = npy(np.array(list("abcabc")))
    content = content[:-24] + struct.pack("<6I", *[code] * 6)
    assert "y_train" in (reader.refusal(tmp_path, content) or "")


def test_the_fuzzer_knows_every_reader():
    assert fuzz_readers.names() == list(READERS)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize(
    "value_range",
    [[-1e39, 0], [0, float("inf")], [float("nan"), 1], [0, 10**400], [3, 2], [0, [1]], ["0", "9"]],
)
def test_a_config_whose_values_no_array_can_hold_is_refused(tmp_path, dtype, value_range):
    data = CONFIG["data"] | {"image_shape": [2, 2], "dtype": dtype, "value_range": value_range}
    READERS["run-of-images"].prepare(tmp_path)
    refusal = READERS["run-of-images"].refusal(tmp_path, json.dumps({"data": data}).encode())
    assert "not a run's config" in (refusal or "")


@pytest.mark.parametrize("settings", [None, 3, "x", []])
def test_a_config_without_whole_settings_is_refused(tmp_path, settings):
    content = json.dumps(CONFIG | {"settings": settings}).encode()
    assert "settings" in (READERS["config"].refusal(tmp_path, content) or "")

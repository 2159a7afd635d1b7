"""Every reader of files that others may have written, with small good files to damage."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import json
import lzma
import os
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import polars as pl
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import save
from scipy.io import savemat

from backends import select
from trainer import MLP
from trainer.data import Columns, DataError, load, load_labelled, load_unlabelled, read_grey
from trainer.data import mnist as mnist_files
from trainer.data.dataset import reading
from trainer.data.framing import Framing
from trainer.data.idx import read_labels
from trainer.data.unreadable import refuse
from trainer.running.foreign_weights import open_weights
from trainer.running.run_folder import Run, RunError
from trainer.running.trained import TrainedRun
from trainer.running.usage import UsageError
from trainer.weight_files import WeightFileError, read_stated, read_weights

LONGEST_MESSAGE = 2000

PIXELS = np.arange(24, dtype=np.uint8).reshape(6, 2, 2)
LABELS = np.array([0, 1, 2, 0, 1, 2])
MATRIX = np.arange(12.0).reshape(4, 3)
CONFIG = {
    "data": {
        "name": "x",
        "kind": "csv",
        "source": "/x.csv",
        "test_source": None,
        "dtype": "uint8",
        "test_samples": 1,
        "classes": [0, 1],
        "image_shape": None,
        "value_range": [0, 255],
    }
}
FRAMING = {"background": 0.0, "ink": 255.0, "box": [2, 1], "centre": [1.0, 1.5], "by_mass": True}
CONFIG_OF_IMAGES = {"data": CONFIG["data"] | {"image_shape": [2, 2], "framing": FRAMING}}


class Finding(AssertionError):
    """A reader has neither read nor refused a file as it should."""


@dataclass(frozen=True)
class Reader:
    """One reader.

    Attributes
    ----------
    name : str
    file : str
        What it reads is called so, below a folder.
    read : callable
        Takes the file's path.
    errors : type, or several
        What it may raise.
    good : tuple of bytes, or callable
        Good contents, before `wrap`; or what makes them.
    wrap : callable
        Makes the file of a content: compresses it, sets its sums right.
    beside : mapping of str to bytes
        Other files that are wanted there.
    has_threads : bool
        Whether reading starts threads, without which a forked process waits for ever.
    """

    name: str
    file: str
    read: Callable[[Path], object]
    errors: type[Exception] | tuple[type[Exception], ...]
    good: tuple[bytes, ...] | Callable[[], tuple[bytes, ...]]
    wrap: Callable[[bytes], bytes] = bytes
    beside: Mapping[str, bytes] = field(default_factory=dict)
    has_threads: bool = False

    @property
    def seeds(self) -> tuple[bytes, ...]:
        """Return the good contents."""
        return self.good if isinstance(self.good, tuple) else self.good()

    def prepare(self, folder: Path) -> None:
        """Write what stands beside the file."""
        for name in (self.file, *self.beside):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
        for name, content in self.beside.items():
            (folder / name).write_bytes(content)

    def refusal(self, folder: Path, content: bytes) -> str | None:
        """Read such a file in a folder that was prepared.

        Returns
        -------
        str or None
            The message with which it was refused, None if it was read.

        Raises
        ------
        Finding
            If the message is not one line that names the file, or speaks of memory.
        Exception
            Whatever else the reader raises.
        """
        path = folder / self.file
        path.write_bytes(self.wrap(content))
        try:
            self.read(path)
        except self.errors as error:
            message = str(error)
            if not message.isprintable() or len(message) > LONGEST_MESSAGE:
                raise Finding(f"not one printable line: {message!r}") from error
            if str(folder) not in message:
                raise Finding(f"the file is not named: {message!r}") from error
            if "memory" in message:
                raise Finding(f"it took too much memory: {message!r}") from error
            return message
        return None


# --- good files -----------------------------------------------------------------------------


def npy(array: np.ndarray, version: tuple[int, int] = (1, 0)) -> bytes:
    """Write as np.save does."""
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, version=version, allow_pickle=False)
    return buffer.getvalue()


def archive(members: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Zip members."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return buffer.getvalue()


def mat(*, do_compression: bool = False, **arrays: np.ndarray) -> bytes:
    """Write as MATLAB does."""
    buffer = io.BytesIO()
    savemat(buffer, arrays, do_compression=do_compression)
    return buffer.getvalue()


def picture(kind: str, mode: str = "L", **options: object) -> bytes:
    """Draw a small image."""
    buffer = io.BytesIO()
    grey = Image.fromarray(np.arange(48, dtype=np.uint8).reshape(6, 8) * 5)
    grey.convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(name: bytes, content: bytes) -> bytes:
    """Make a chunk of a PNG."""
    return struct.pack(">I", len(content)) + name + content + _sum(name + content)


def _sum(content: bytes) -> bytes:
    return struct.pack(">I", zlib.crc32(content))


def with_sums(png: bytes) -> bytes:
    """Set the sums of a PNG's chunks right, as far as there are chunks."""
    content, place = bytearray(png), 8
    while place + 12 <= len(content):
        size = int.from_bytes(content[place : place + 4], "big")
        end = place + 8 + size
        if end + 4 > len(content):
            break
        content[end : end + 4] = _sum(bytes(content[place + 4 : end]))
        place = end + 4
    return bytes(content)


def emnist(*, do_compression: bool = False) -> bytes:
    """Write a struct as EMNIST's is."""
    mapping = np.array([line.split() for line in MAPPING.decode().splitlines()], int)
    fields = {"train": EMNIST_PART, "test": EMNIST_PART, "mapping": mapping}
    return mat(do_compression=do_compression, dataset=fields)


def with_packed_element(content: bytes) -> bytes:
    """Make a MATLAB file of labels and a packed element."""
    packed = zlib.compress(content)
    return mat(y=LABELS) + struct.pack("<2I", 15, len(packed)) + packed


def model() -> bytes:
    """Write a network as `MLP.save` does."""
    network = MLP([4, 3, 2], backend=select("cpu"), bias=True)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.safetensors"
        network.save(path)
        return path.read_bytes()


def model_of(settings: str) -> bytes:
    """Write that network with other settings, given as JSON."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.safetensors"
        path.write_bytes(model())
        with safe_open(path, framework="numpy") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    return save(arrays, metadata={"xptrainer": settings})


IDX_IMAGES = struct.pack(">4I", 0x803, *PIXELS.shape) + PIXELS.tobytes()
QMNIST_LABELS = struct.pack(">3I", 0xC02, 6, 2) + np.c_[LABELS, LABELS].astype(">i4").tobytes()
EMNIST_PART = {"images": PIXELS.reshape(6, 4), "labels": LABELS + 1}
MAPPING = b"1 65 97\n2 66 98\n3 67 99\n"
IDX_LABELS = struct.pack(">2I", 0x801, len(LABELS)) + bytes(LABELS.tolist())
_PIXEL_ROWS = "".join(f"{i % 2}," + ",".join(["0", "255"] * 24) + f",{i}\n" for i in range(4))
_CSV = (
    b"label,a,b\n1,0.5,-2\n2,1e3,3\n1,,4\n2,5,6\n",
    b"7,0,1,2,255\n3,4,5,6,7\n7,1,1,1,1\n3,2,2,2,2\n",
    b'\xef\xbb\xbf"town";"age";"species"\r\n"U;lm";1,5;x\r\nBonn;2,5;"y"\r\nUlm;?;x\r\n',
    b'cat,0,1\n"do""g, big",1,2\ncat,2,3\n"do""g, big",9,9\n',
    b"\ta\tb\n0\t1.5\tx\n1\t2.5\ty\n2\t3.5\tx\n",
    b"0,1,2,3,4\n5,6,7,8,1\n5,7,7,8,2\n5,7,7,8,1\n",
    b"# a b y\n 1  2.5 0\n\n2 3.5 1\n 3 4.5 0\n",
    "a|y\n1|ä\n2|ö\n3|ä\n".encode("utf-16"),
    _PIXEL_ROWS.encode(),
)
_ROWS = (
    b"a,b,c,y\n0.5,u,1,0\n,v,2,1\n1.5,?,3,0\n",
    b"c;b;a\n1;u;0,5\n2;w;1,5\n",
    b"0.5,u,1,0\n1.5,v,2,1\n",
    b"0,0.5,u,1\n1,1.5,v,2\n",
    b"0.5 u 1\n1.5 v 2\n",
)
_PACKINGS = {
    "gz": lambda content: gzip.compress(content, mtime=0),
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zip": lambda content: archive({"a.csv": content}),
}


def parquet(frame: pl.DataFrame, **options: Any) -> bytes:
    """Write as Polars does."""
    buffer = io.BytesIO()
    frame.write_parquet(buffer, **options)
    return buffer.getvalue()


def _table() -> pl.DataFrame:
    words = ["u", "v", None, "u"]
    return pl.DataFrame(
        {"a": [0.5, None, 1.5, 2], "b": words, "c": [1, 2, 3, 4], "y": [0, 1, 0, 1]}
    )


@cache
def _parquet() -> tuple[bytes, ...]:
    table = _table()
    return (
        parquet(table, compression="uncompressed"),
        parquet(table, compression="zstd", row_group_size=2),
        parquet(table.cast({"b": pl.Categorical, "c": pl.Float32, "y": pl.Boolean})),
    )


_STRUCT_ELEMENT = emnist()[128:]
_MAT_ELEMENT = mat(X=PIXELS.reshape(6, 4))[128:]
_PNGS = (
    picture("PNG"),
    picture("PNG", "RGBA"),
    picture("PNG", "LA"),
    picture("PNG", "I;16"),
    picture("PNG", "P", transparency=3),
    picture("PNG", "1"),
)
_CONFIGS = tuple(
    json.dumps({"data": data}, indent=2).encode()
    for data in (CONFIG_OF_IMAGES["data"], CONFIG["data"] | {"image_shape": [2, 2]})
)
_DRAWING = b"\x17" + bytes(255 * (7 < i % 24 < 15 and i < 480) for i in range(600))
_METRICS = b"".join(
    json.dumps({"epoch": i, "train_loss": 0.5, "test_accuracy": 0.25}).encode() + b"\n"
    for i in (1, 2)
)


_MNIST_FILES = {
    "train-images-idx3-ubyte": IDX_IMAGES,
    "train-labels-idx1-ubyte": IDX_LABELS,
    "t10k-images-idx3-ubyte": IDX_IMAGES,
    "t10k-labels-idx1-ubyte": IDX_LABELS,
}
_MNIST = {
    f"{name}.gz": (len(content), hashlib.sha256(content).hexdigest())
    for name, content in _MNIST_FILES.items()
}
# as another program trained them for images of 7×7 pixels
_FOREIGN = {"W1": np.ones((49, 2), "f4"), "b1": np.ones(2, "f4"), "W2": np.ones((2, 10), "f4")}
_FOREIGN["b2"] = np.ones(10, "f4")


def onnx_models() -> tuple[bytes, ...]:
    """Write a perceptron as other programs do, as ONNX; nothing where that is not installed."""
    try:
        from onnx import TensorProto, helper, numpy_helper
    except ImportError:
        return ()
    matrices = {"W1": MATRIX.astype("f4"), "b1": MATRIX[0].astype("f4")}
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", size])
        for name, size in (("x", 4), ("y", 3))
    ]
    nodes = [
        helper.make_node("Mul", ["x", "half"], ["v"]),
        helper.make_node("Gemm", ["v", "W1", "b1"], ["z"]),
        helper.make_node("Tanh", ["z"], ["a"]),
        helper.make_node("Gemm", ["a", "W2"], ["s"]),
        helper.make_node("Softmax", ["s"], ["y"]),
    ]
    arrays = matrices | {"W2": np.eye(3, dtype="f4"), "half": np.float32(0.5)}
    constants = [numpy_helper.from_array(np.asarray(a), name) for name, a in arrays.items()]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], constants)
    return (helper.make_model(graph).SerializeToString(),)


def _weights(path: Path) -> object:
    return read_weights([path], 4, {3}, transposed=False)


def _data(path: Path) -> object:
    return load(path, test_data=path)


def _packed(how: str) -> tuple[bytes, ...]:
    return tuple(_PACKINGS[how](content) for content in _CSV[:2])


@cache
def _learned() -> Columns:
    """Return the columns a, b and c of `_table`."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.parquet"
        _table().write_parquet(path)
        columns = load(path, test_data=path, label="y").columns
    assert columns is not None
    return columns


def _answer(path: Path) -> object:
    """Read a table as predict does for a network that was trained on one."""
    return load_unlabelled(path, 4, columns=_learned(), classes=(0, 1))


def _evaluate(path: Path) -> object:
    return load_labelled(path, (0, 1), 4, columns=_learned())


def _refuse(path: Path) -> None:
    with reading(path):
        refuse(path)


def _drawing(content: bytes) -> bytes:
    """Make a picture of any bytes: the first one says how wide it is."""
    width, pixels = 1 + content[0] if content else 1, content[1:]
    height = max(1, len(pixels) // width)
    return b"P5 %d %d 255\n" % (width, height) + pixels.ljust(width, b"\0")


def _prepared(path: Path) -> object:
    """Prepare one's own picture, as `TrainedRun.prepare` does."""
    grey = read_grey(path)
    try:
        return Framing((9, 7), 255.0, 0.0, True, (6, 6), (5.0, 3.5)).prepare(grey)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def _looked_at(config: Path) -> object:
    return TrainedRun(config.parent, "cpu").prepare(config.parent / "a.png")


def _cached(path: Path) -> object:
    """Read MNIST, here of a few images, from its folder in the cache, which has one damaged."""
    with (
        mock.patch.dict(os.environ, TRAINER_CACHE=str(path.parent.parent)),
        mock.patch.multiple(mnist_files, MIRRORS=(), FILES=_MNIST, UNPACKED=_MNIST),
    ):
        try:
            return mnist_files.read_mnist()
        except DataError as error:
            raise DataError(f"{path}: {error}") from error


def _mat_of_packed(content: bytes) -> bytes:
    packed = zlib.compress(content)
    return mat()[:128] + struct.pack("<2I", 15, len(packed)) + packed


def _idx_folder(path: Path) -> object:
    return load(path.parent, test_data=path.parent)


READERS = {
    reader.name: reader
    for reader in (
        Reader("idx-images", "a.idx", lambda p: load_unlabelled(p, 4), DataError, (IDX_IMAGES,)),
        Reader(
            "idx-images-gz",
            "a.gz",
            lambda p: load_unlabelled(p, 4),
            DataError,
            (gzip.compress(IDX_IMAGES, mtime=0), gzip.compress(b"", mtime=0) * 2),
        ),
        Reader(
            "idx-images-in-gz",
            "a.gz",
            lambda p: load_unlabelled(p, 4),
            DataError,
            (IDX_IMAGES,),
            wrap=lambda content: gzip.compress(content, 1),
        ),
        Reader("idx-labels", "a", read_labels, DataError, (IDX_LABELS,)),
        Reader(
            "idx-folder",
            "train-labels-idx1-ubyte",
            _idx_folder,
            DataError,
            (IDX_LABELS,),
            beside={"train-images-idx3-ubyte": IDX_IMAGES},
        ),
        Reader("idx-integers", "a", read_labels, DataError, (QMNIST_LABELS,)),
        Reader(
            "emnist",
            "emnist-a-train-images-idx3-ubyte",
            _data,
            DataError,
            (IDX_IMAGES,),
            beside={
                "emnist-a-train-labels-idx1-ubyte": IDX_LABELS[:8] + bytes([1, 2, 3, 1, 2, 3]),
                "emnist-a-mapping.txt": MAPPING,
            },
        ),
        Reader(
            "emnist-mapping",
            "emnist-a-mapping.txt",
            _idx_folder,
            DataError,
            (MAPPING,),
            beside={
                "emnist-a-train-images-idx3-ubyte": IDX_IMAGES,
                "emnist-a-train-labels-idx1-ubyte": IDX_LABELS[:8] + bytes([1, 2, 3, 1, 2, 3]),
            },
        ),
        Reader(
            "mnist-cache",
            "mnist/train-images-idx3-ubyte",
            _cached,
            DataError,
            (IDX_IMAGES, gzip.compress(IDX_IMAGES, mtime=0)),
            beside={f"mnist/{name}": content for name, content in _MNIST_FILES.items()},
        ),
        Reader("csv", "a.csv", _data, DataError, _CSV, has_threads=True),
        Reader(
            "csv-unlabelled",
            "a.csv",
            lambda p: load_unlabelled(p, 2, classes=(1, 2)),
            DataError,
            tuple(text.replace(b"1,,4", b"1,7,4") for text in _CSV),
            has_threads=True,
        ),
        Reader("csv-answered", "a.csv", _answer, DataError, _ROWS, has_threads=True),
        Reader("csv-evaluated", "a.csv", _evaluate, DataError, _ROWS, has_threads=True),
        Reader(
            "csv-folder",
            "train.csv",
            lambda p: load(p.parent),
            DataError,
            _CSV,
            beside={"test.csv": _CSV[0]},
            has_threads=True,
        ),
        Reader(
            "csv-tested",
            "test.csv",
            lambda p: load(p.parent),
            DataError,
            _CSV,
            beside={"train.csv": _CSV[0]},
            has_threads=True,
        ),
        Reader("csv-gz", "a.csv.gz", _data, DataError, _packed("gz"), has_threads=True),
        Reader("csv-bzip", "a.csv.bz2", _data, DataError, _packed("bz2"), has_threads=True),
        Reader("csv-xz", "a.csv.xz", _data, DataError, _packed("xz"), has_threads=True),
        Reader("csv-zip", "a.csv.zip", _data, DataError, _packed("zip"), has_threads=True),
        Reader("parquet", "a.parquet", _data, DataError, _parquet, has_threads=True),
        Reader("parquet-answered", "a.parquet", _answer, DataError, _parquet, has_threads=True),
        Reader(
            "mat",
            "a.mat",
            _data,
            DataError,
            tuple(
                mat(X=PIXELS.reshape(6, 4), y=LABELS, do_compression=packed)
                for packed in (False, True)
            ),
        ),
        Reader("mat-element", "a.mat", _data, DataError, (_MAT_ELEMENT,), with_packed_element),
        Reader(
            "mat-columns",
            "a.mat",
            _data,
            DataError,
            (mat(images=PIXELS.transpose(1, 2, 0), labels=LABELS),),
        ),
        Reader(
            "mat-struct",
            "a.mat",
            _data,
            DataError,
            (emnist(), emnist(do_compression=True)),
        ),
        Reader("mat-struct-element", "a.mat", _data, DataError, (_STRUCT_ELEMENT,), _mat_of_packed),
        Reader(
            "npz",
            "a.npz",
            _data,
            DataError,
            tuple(
                archive({"x_train.npy": npy(PIXELS), "y_train.npy": npy(y)}, method)
                for y in (LABELS, np.array(list("abcabc")))
                for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
            ),
        ),
        Reader(
            "npz-images",
            "a.npz",
            _data,
            DataError,
            (npy(PIXELS), npy(np.asfortranarray(PIXELS), (2, 0)), npy(PIXELS.astype(">f8"))),
            lambda x: archive({"x_train.npy": x, "y_train.npy": npy(LABELS)}),
        ),
        Reader(
            "npz-labels",
            "a.npz",
            _data,
            DataError,
            (npy(LABELS), npy(np.array(list("abcabc")))),
            lambda y: archive({"x_train.npy": npy(PIXELS), "y_train.npy": y}),
        ),
        Reader(
            "npz-colours",
            "a.npz",
            _data,
            DataError,
            tuple(npy(np.stack([PIXELS] * n, -1).astype(t)) for n, t in ((3, "u1"), (4, "f4"))),
            lambda x: archive({"train_images.npy": x, "train_labels.npy": npy(LABELS[:, None])}),
        ),
        Reader(
            "kuzushiji",
            "kmnist-train-imgs.npz",
            lambda p: load(p.parent, test_data=p.parent),
            DataError,
            (archive({"arr_0.npy": npy(PIXELS)}),),
            beside={"kmnist-train-labels.npz": archive({"arr_0.npy": npy(LABELS)})},
        ),
        Reader("npy", "a.npy", lambda p: load_unlabelled(p, 4), DataError, (npy(PIXELS),)),
        Reader(
            "unreadable",
            "a.bin",
            _refuse,
            DataError,
            (b"nothing", archive({"cat/a.png": b"x"}), gzip.compress(b"\x80\x04x", mtime=0)),
        ),
        Reader("npy-weights", "w.npy", _weights, WeightFileError, (npy(MATRIX),)),
        Reader(
            "npz-weights",
            "w.npz",
            _weights,
            WeightFileError,
            (archive({"W1.npy": npy(MATRIX), "b1.npy": npy(MATRIX[0])}),),
        ),
        Reader(
            "mat-weights",
            "w.mat",
            _weights,
            WeightFileError,
            tuple(mat(W1=MATRIX, do_compression=packed) for packed in (False, True)),
        ),
        Reader(
            "csv-weights",
            "w.csv",
            _weights,
            WeightFileError,
            (b"".join(b"1,2.5,-3e-4\n" for _ in range(4)),),
        ),
        Reader(
            "safetensors-weights",
            "w.safetensors",
            _weights,
            WeightFileError,
            (
                save({"W1": MATRIX, "b1": MATRIX[0]}),
                save({"fc1.weight": MATRIX.astype("f4")}, metadata={"a": "b"}),
            ),
        ),
        *(Reader("onnx", "w.onnx", _weights, WeightFileError, (m,)) for m in onnx_models()),
        Reader(
            "network-file",
            "network.json",
            lambda p: read_stated([p.parent / "W1.csv"]),
            WeightFileError,
            (
                b'{"program": "xptrainer", "activation": "relu", "output": "softmax", "loss":'
                b' "cross_entropy", "classes": ["a", 1], "value_range": [0, 1], "scale": [1, 2],'
                b' "shift": 0.5}',
            ),
            beside={"W1.csv": b"1,2"},
        ),
        Reader(
            "weights-alone",
            "w.npz",
            lambda p: open_weights([p], "book", "cpu", None),
            (WeightFileError, UsageError),
            (
                archive({f"{name}.npy": npy(array) for name, array in _FOREIGN.items()}),
                archive({f"{name}.npy": npy(_FOREIGN[name].T) for name in ("W1", "W2")}),
            ),
        ),
        Reader(
            "model",
            "model.safetensors",
            lambda p: MLP.load(p, backend=select("cpu")),
            WeightFileError,
            (model(),),
        ),
        Reader("png", "a.png", read_grey, DataError, _PNGS),
        Reader("png-chunks", "a.png", read_grey, DataError, _PNGS, with_sums),
        Reader(
            "image",
            "a",
            read_grey,
            DataError,
            (
                *(picture(kind) for kind in ("GIF", "BMP", "JPEG", "TIFF", "PPM", "TGA", "ICO")),
                picture("TIFF", compression="tiff_deflate"),
                picture("WEBP", "RGB"),
            ),
        ),
        Reader(
            "image-folder",
            "cat/a.png",
            lambda p: load(p.parent.parent, test_data=p.parent.parent),
            DataError,
            _PNGS[:1],
            with_sums,
            {"dog/b.png": _PNGS[0]},
        ),
        Reader(
            "image-folder-parts",
            "train/cat/a.png",
            lambda p: load(p.parents[2], test_data=p.parents[2]),
            DataError,
            _PNGS[:1],
            with_sums,
            {
                f"{part}/{name}.png": _PNGS[0]
                for part in ("train", "valid", "test")
                for name in ("cat/b", "dog/c")
            },
        ),
        Reader("drawing", "a.pgm", _prepared, DataError, (_DRAWING,), _drawing),
        Reader(
            "run-of-images",
            "config.json",
            _looked_at,
            (RunError, UsageError, DataError, WeightFileError),
            _CONFIGS,
            beside={"model.safetensors": model(), "a.png": _drawing(_DRAWING)},
        ),
        Reader(
            "config",
            "config.json",
            lambda p: Run.open(p.parent),
            RunError,
            (json.dumps(CONFIG, indent=2).encode(),),
        ),
        Reader(
            "metrics",
            "metrics.jsonl",
            lambda p: Run(p.parent, {}).metrics(),
            RunError,
            (_METRICS,),
        ),
    )
}

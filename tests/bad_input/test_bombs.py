"""Small files that promise or unpack to a lot cost next to nothing, and are refused."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import struct
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator

import numpy as np
import polars as pl
import pytest
from PIL import Image

from .readers import (
    EMNIST_PART,
    IDX_IMAGES,
    LABELS,
    LONGEST_MESSAGE,
    PIXELS,
    READERS,
    archive,
    chunk,
    mat,
    model_of,
    npy,
    parquet,
    picture,
)

MEGABYTE = 1 << 20
MEMORY = 600 * MEGABYTE  # of addresses; what is used of it is bounded more tightly below
DEEP = "[" * 100_000 + "]" * 100_000


def packed_zeros(count: int, start: bytes = b"", bits: int = 15) -> bytes:
    """Compress a start and many zeros, which are never in memory together."""
    packer = zlib.compressobj(1, zlib.DEFLATED, bits)
    zeros = bytes(MEGABYTE)
    parts = [packer.compress(start)]
    parts += [packer.compress(zeros) for _ in range(count // MEGABYTE)]
    return b"".join([*parts, packer.flush()])


def zip_of(name: str, packed: bytes, size: int, method: int, start: bytes = b"") -> bytes:
    """Zip one member that is packed already, whatever its size is said to be."""
    sums = struct.pack("<3I", zlib.crc32(start), len(packed), size)
    local = struct.pack("<4s5H", b"PK\x03\x04", 20, 0, method, 0, 0) + sums
    local += struct.pack("<2H", len(name), 0) + name.encode() + packed
    entry = struct.pack("<4s6H", b"PK\x01\x02", 20, 20, 0, method, 0, 0) + sums
    entry += struct.pack("<5H2I", len(name), 0, 0, 0, 0, 0, 0) + name.encode()
    return (
        local
        + entry
        + struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 1, 1, len(entry), len(local), 0)
    )


def header(shape: tuple[int, ...], descr: str = "|u1") -> bytes:
    text = str({"descr": descr, "fortran_order": False, "shape": shape}).encode().ljust(118)
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def npz_bomb(name: str) -> bytes:
    start = header((300 * MEGABYTE // 4, 4))
    packed = packed_zeros(300 * MEGABYTE, start, -15)
    return zip_of(f"{name}.npy", packed, 300 * MEGABYTE + 128, zipfile.ZIP_DEFLATED)


def mat_bomb(stored: int, size: int, *, times: int = 1) -> bytes:
    """Pack so many zeros as X of MATLAB's doubles."""
    start = struct.pack("<2I", 14, size + 56)
    start += struct.pack("<4I", 6, 8, 6, 0)
    start += struct.pack("<4I", 5, 8, size // (8 if stored == 9 else 1) // 4, 4)
    element = []
    for i in range(times):
        name = struct.pack("<2I8s", 1, 2, b"X%d" % i)
        packed = packed_zeros(size, start + name + struct.pack("<2I", stored, size))
        element.append(struct.pack("<2I", 15, len(packed)) + packed)
    return mat(y=LABELS)[:128] + b"".join(element)


def struct_of(names: bytes, *fields: bytes, length: int = 8) -> bytes:
    """Make a MATLAB struct of one element, whose fields are matrices."""

    def element(kind: int, content: bytes) -> bytes:
        return struct.pack("<2I", kind, len(content)) + content + bytes(-len(content) % 8)

    start = element(6, struct.pack("<2I", 2, 0)) + element(5, struct.pack("<2I", 1, 1))
    start += element(1, b"dataset") + element(5, struct.pack("<I", length)) + element(1, names)
    return element(14, start + b"".join(fields))


def deep_struct() -> bytes:
    inner = b""
    for _ in range(3000):
        inner = struct_of(b"train\0\0\0", inner)
    return mat(y=LABELS)[:128] + inner


def empty_matrix(name: bytes, rows: int) -> bytes:
    """Make a matrix of so many rows and no columns."""
    start = struct.pack("<6I", 6, 8, 6, 0, 5, 8) + struct.pack("<2I", rows, 0)
    content = start + struct.pack("<2I8s", 1, len(name), name) + struct.pack("<2I", 9, 0)
    return struct.pack("<2I", 14, len(content)) + content


def mat_of_empty_labels() -> bytes:
    return mat(X=PIXELS.reshape(6, 4)) + empty_matrix(b"y", 2**31 - 1)


def mat_of_empty_mapping() -> bytes:
    whole = mat(dataset={"train": EMNIST_PART, "test": EMNIST_PART, "mapping": np.zeros((9, 0))})
    return whole.replace(struct.pack("<4I", 5, 8, 9, 0), struct.pack("<4I", 5, 8, 2**31 - 1, 0))


def lzma_of_dictionary(size: int) -> bytes:
    packed = lzma.compress(b"1,2\n3,4\n", lzma.FORMAT_ALONE)
    return packed[:1] + struct.pack("<I", size) + packed[5:]


def long_mapping() -> bytes:
    """Map each of many codes to a letter of its own, and the last one that of the first."""
    letters = [n for n in range(33, sys.maxunicode) if chr(n).isalnum()][:50_000]
    mapping = np.c_[: len(letters), letters]
    mapping[-1, 1] = letters[0]
    return mat(dataset={"train": EMNIST_PART, "test": EMNIST_PART, "mapping": mapping})


def png(*chunks: bytes, size: tuple[int, int] = (8, 6)) -> bytes:
    whole = picture("PNG")
    start = whole[:8] + chunk(b"IHDR", struct.pack(">2I5B", *size, 8, 0, 0, 0, 0))
    return start + b"".join(chunks) + whole[33:]


def jpeg_of_scans(count: int) -> bytes:
    """Make a progressive JPEG whose last scan comes again and again."""
    whole = picture("JPEG", progressive=True)
    last = whole[whole.rindex(b"\xff\xda") : -2]
    return whole[:-2] + last * (count - whole.count(b"\xff\xda")) + whole[-2:]


def parquet_of_rows(count: int) -> bytes:
    """Write a column of one value, which takes next to no room, twice."""
    value = pl.repeat(1, count, dtype=pl.Int8, eager=True)
    return parquet(pl.DataFrame({"a": value, "b": value}))


def safetensors(header: object, size: int | None = None) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text) if size is None else size) + text


def huge_tensor(end: int) -> dict[str, object]:
    return {"W1": {"dtype": "F64", "shape": [end // 8, 1], "data_offsets": [0, end]}}


_ZEROS = 200 * MEGABYTE
TERA = header((2**40, 4))
IDX_TERA = struct.pack(">4I", 0x803, 2**31, 28, 28) + bytes(1000)
IDX_HUGE = struct.pack(">4I", 0x803, _ZEROS // 4, 2, 2)
BOMBS: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "a terabyte promised": ("idx-images", lambda: IDX_TERA, "promises"),
    "labels promised": (
        "idx-labels",
        lambda: struct.pack(">2I", 0x801, 2**32 - 1) + bytes(99),
        "promises",
    ),
    "a terabyte promised in gzip": ("idx-images-gz", lambda: gzip.compress(IDX_TERA), "promises"),
    "more in gzip than promised": (
        "idx-images-gz",
        lambda: packed_zeros(_ZEROS, IDX_IMAGES, 31),
        "beyond what its header promises",
    ),
    "as much in gzip as promised": (
        "idx-images-gz",
        lambda: packed_zeros(_ZEROS, IDX_HUGE, 31),
        "gunzip",
    ),
    "npz data": ("npz", lambda: npz_bomb("x_train"), "no labels: x_train"),
    "npz data with labels": (
        "npz",
        lambda: archive(
            {"x_train.npy": npy(np.zeros((40 * MEGABYTE, 4), "u1")), "y_train.npy": npy(LABELS)}
        ),
        "np.savez",
    ),
    "npz weights": ("npz-weights", lambda: npz_bomb("W1"), "np.savez"),
    "npz by another method": (
        "npz-weights",
        lambda: zip_of("W1.npy", bz2.compress(bytes(_ZEROS // 4)), 1000, zipfile.ZIP_BZIP2),
        "method 12",
    ),
    "npz with less in its directory": (
        "npz-weights",
        lambda: zip_of("W1.npy", packed_zeros(_ZEROS, TERA, -15), 1000, zipfile.ZIP_DEFLATED),
        "not a readable npz archive",
    ),
    "npz with more in its directory": (
        "npz-weights",
        lambda: zip_of("W1.npy", TERA, 2**32 - 2, zipfile.ZIP_STORED),
        "unpack",
    ),
    "npz header": ("npz-images", lambda: TERA, "promises"),
    "npy header": ("npy-weights", lambda: TERA + bytes(99), "promises"),
    "npy text of a header": (
        "npy-weights",
        lambda: b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**32 - 1) + b"{" * 99,
        "a header of 4,294,967,295 bytes",
    ),
    "mat": ("mat", lambda: mat_bomb(9, _ZEROS), "-v6"),
    "mat weights": ("mat-weights", lambda: mat_bomb(9, _ZEROS), "-v6"),
    "mat of bytes for doubles": ("mat", lambda: mat_bomb(2, 32 * MEGABYTE), "-v6"),
    "mat in parts": ("mat", lambda: mat_bomb(9, 50 * MEGABYTE, times=4), "-v6"),
    "mat of deep structs": ("mat-struct", deep_struct, "images is no plain matrix"),
    "mat of many fields": (
        "mat-struct",
        lambda: mat(y=LABELS)[:128] + struct_of(b"a" * MEGABYTE, length=1),
        "a struct with 1,048,576 bytes of names of 1 each",
    ),
    "mat of rows of no labels": ("mat", mat_of_empty_labels, "y is empty"),
    "mat of a mapping of nothing": ("mat-struct", mat_of_empty_mapping, "mapping is empty"),
    "mat of a long mapping": ("mat-struct", long_mapping, "or for another's"),
    "npy of samples": ("npy", lambda: TERA + bytes(99), "promises"),
    "npz of colours": ("npz-colours", lambda: header((2**20, 2**10, 2**10, 3)), "promises"),
    "a long mapping": ("emnist-mapping", lambda: b"1 65\n" * 10 * MEGABYTE, "over 65,536 bytes"),
    "integers promised": (
        "idx-integers",
        lambda: struct.pack(">3I", 0xC02, 2**31, 8) + bytes(99),
        "promises",
    ),
    "pickle in gzip": ("unreadable", lambda: packed_zeros(_ZEROS, b"\x80\x04", 31), "a pickle"),
    "png": ("png", lambda: png(size=(100_000, 100_000)), "a.png"),
    "png of 10,000 megapixels a side": ("png", lambda: png(size=(2**31 - 1, 2**31 - 1)), "a.png"),
    "png of 62 megapixels in no bytes": ("png", lambda: png(size=(7_900, 7_900)), "a.png"),
    "png with text": (
        "png",
        lambda: png(chunk(b"zTXt", b"a\0\0" + packed_zeros(_ZEROS))),
        "not a readable image",
    ),
    "png with text of another kind": (
        "png",
        lambda: png(chunk(b"iTXt", b"a\0\1\0\0\0" + packed_zeros(_ZEROS))),
        "not a readable image",
    ),
    "png of a long chunk": (
        "png",
        lambda: picture("PNG")[:33] + struct.pack(">I", 2**32 - 1) + b"IDATx",
        "not a readable image",
    ),
    "jpeg of many scans": ("image", lambda: jpeg_of_scans(20_000), "20000 scans"),
    "safetensors": (
        "safetensors-weights",
        lambda: safetensors(huge_tensor(2**43)),
        "not a readable safetensors file",
    ),
    "safetensors header": (
        "safetensors-weights",
        lambda: safetensors({}, 2**62),
        "not a readable safetensors file",
    ),
    "model": ("model", lambda: safetensors(huge_tensor(2**43)), "model.safetensors"),
    "model of many units": (
        "model",
        lambda: model_of('{"sizes": [100000, 100000, 2]}'),
        "model.safetensors",
    ),
    "deep settings of a model": ("model", lambda: model_of(DEEP), "model.safetensors"),
    "deep config": ("config", DEEP.encode, "config.json"),
    "deep metrics": ("metrics", DEEP.encode, "metrics.jsonl"),
    "long config": ("config", lambda: b'["' + b"a" * 100 * MEGABYTE + b'"]', "104,857,604 byte"),
    "long metrics": ("metrics", lambda: b"{}\n" * 33 * MEGABYTE, "metrics.jsonl"),
    "csv of one line": ("csv", lambda: b"1," * 25 * MEGABYTE + b"1\n", "a line of more"),
    "csv of one long cell": ("csv", lambda: b"1" * 50 * MEGABYTE + b"\n", "a line of more"),
    "csv with a second line": ("csv", lambda: b"1,2\n" + b"1," * 25 * MEGABYTE, "a line of more"),
    "csv weights": ("csv-weights", lambda: b"1," * 25 * MEGABYTE, "a line of more"),
    "csv of nothing": ("csv", lambda: bytes(50 * MEGABYTE), "a byte 0 at 0"),
    "csv of quotes": ("csv", lambda: b'"\n' * MEGABYTE, "a.csv"),
    "csv with nothing in it": ("csv", lambda: b"1,\0\n2,3\n", "a byte 0 at 2"),
    "csv of a million columns": (
        "csv-unlabelled",
        lambda: b"1" + b",2" * 1_000_000,
        "1,000,001 columns; at most",
    ),
    "csv of commas": ("csv", lambda: b"1" + b"," * 4_000_000, "4,000,001 columns; at most"),
    "csv of long labels": (
        "csv",
        lambda: b"".join(b"%0300d,x,1\n" % i for i in range(999)),
        "a.csv",
    ),
    "csv of text labels that are long": (
        "csv",
        lambda: b"label,a,b\n" + b"".join(b"a%01000d,1,1\n" % i for i in range(9999)),
        "column 1 (label): label 'a000",
    ),
    "csv in gzip": ("csv-gz", lambda: packed_zeros(_ZEROS, b"1,2\n", 31), "unpack it"),
    "csv in a zip": (
        "csv-zip",
        lambda: zip_of(
            "a.csv", packed_zeros(_ZEROS, b"", -15), _ZEROS, zipfile.ZIP_DEFLATED, bytes(_ZEROS)
        ),
        "unpack it",
    ),
    "csv in bzip2": ("csv-bzip", lambda: bz2.compress(bytes(_ZEROS // 2)) * 8, "unpack it"),
    "csv in xz": ("csv-xz", lambda: lzma.compress(bytes(_ZEROS // 2), preset=0) * 8, "unpack it"),
    "csv in xz that asks for memory": (
        "csv-xz",
        lambda: lzma_of_dictionary(2**32 - 1),
        "limit exceeded",
    ),
    "parquet of many rows": ("parquet", lambda: parquet_of_rows(20_000_000), "20,000,000 rows"),
}
# what may be unpacked before the sum of it is too much
ALLOWED = {
    "mat of bytes for doubles": 80 * MEGABYTE,
    "mat in parts": 280 * MEGABYTE,
    "csv of commas": 100 * MEGABYTE,
    "csv of text labels that are long": 64 * MEGABYTE,
    # up to the limit, which is 128 MB or 200 times the file, and as much again while it is joined
    **dict.fromkeys(("csv in gzip", "csv in a zip", "csv in bzip2", "csv in xz"), 400 * MEGABYTE),
}
POLARS = 16 * MEGABYTE  # once, for its threads and what it allocates beforehand


# each has a cheaper sibling among the others
SLOW = {
    "npz data with labels",
    "npz weights",
    "npz by another method",
    "mat weights",
    "mat in parts",
    "png with text of another kind",
    "csv of commas",
    "csv of one long cell",
    "csv in a zip",
    "csv in bzip2",
    "csv in xz",
}


@pytest.mark.parametrize(
    "what", [pytest.param(w, marks=pytest.mark.thorough if w in SLOW else ()) for w in BOMBS]
)
def test_a_bomb_is_refused_and_takes_no_memory(tmp_path, isolated, what):
    name, make, words = BOMBS[what]
    reader = READERS[name]
    content = make()
    reader.prepare(tmp_path)
    path = tmp_path / reader.file
    path.write_bytes(reader.wrap(content))
    size = path.stat().st_size
    done = isolated(reader=name, path=str(path), memory=MEMORY + 8 * size)
    assert "traceback" not in done, done
    message = done["result"]
    assert message is not None
    assert words in message
    assert str(tmp_path) in message
    assert "memory" not in message
    assert message.isprintable()
    assert len(message) <= LONGEST_MESSAGE
    most = ALLOWED.get(what, 32 * MEGABYTE) + 4 * size + POLARS * reader.has_threads
    assert done["peak"] < most, f"{done['peak']:,} bytes for {size:,}"


def test_what_is_packed_and_not_huge_is_read(tmp_path, isolated):
    """Zeros of some megabytes are no bomb, and the limit grows with the file."""
    for name, content in {
        "npz": archive(
            {
                "x_train.npy": npy(np.zeros((9000, 784), "u1")),
                "y_train.npy": npy(np.zeros(9000, int)),
            }
        ),
        "mat": mat(X=np.zeros((5000, 784)), y=np.zeros(5000), do_compression=True),
        "idx-images-gz": gzip.compress(struct.pack(">4I", 0x803, 9000, 2, 2) + bytes(36000)),
    }.items():
        reader = READERS[name]
        reader.prepare(tmp_path)
        path = tmp_path / reader.file
        path.write_bytes(content)
        assert isolated(reader=name, path=str(path))["result"] is None


def test_a_large_transparent_picture_takes_little_more_than_itself(tmp_path, isolated):
    path = tmp_path / "a.png"
    Image.new("RGBA", (4000, 4000)).save(path, compress_level=1)
    done = isolated(reader="png", path=str(path))
    assert done["result"] is None
    assert done["peak"] < 3 * 4 * 4000 * 4000


def test_the_memory_is_limited_indeed(tmp_path, isolated):
    """An honest file of 100 MB needs more than 50."""
    path = tmp_path / "a.npz"
    x = np.zeros((100, MEGABYTE), "u1")
    content = archive({"x_train.npy": npy(x), "y_train.npy": npy(np.zeros(len(x), "u1"))}, 0)
    path.write_bytes(content)
    done = isolated(reader="npz", path=str(path), memory=50 * MEGABYTE)
    assert "memory" in done["result"]
    done = isolated(reader="npz", path=str(path))
    assert done["result"] is None
    assert done["peak"] > 100 * MEGABYTE


@pytest.fixture(autouse=True)
def _leave_no_large_files(tmp_path) -> Iterator[None]:
    yield
    for path in tmp_path.rglob("*"):
        if path.is_file():
            path.unlink()

"""IDX files, the format of MNIST, gzipped or not."""

from __future__ import annotations

import gzip
import math
import re
import zlib
from collections.abc import Collection
from pathlib import Path

import numpy as np

from ..array_files import unpacked_limit
from .dataset import DataError, Source

_MAGIC = {0x00000803: "IDX images", 0x00000801: "IDX labels"}
_NAME = re.compile(r"(train|t10k)-(images[-.]idx3|labels[-.]idx1)-ubyte(\.gz)?")
_CHUNK = 1 << 20


def is_idx_folder(folder: Path) -> bool:
    """Whether a folder holds a file named as MNIST's are."""
    return any(_NAME.fullmatch(entry.name) and entry.is_file() for entry in folder.iterdir())


def read_folder(folder: Path, only: Collection[str] | None = None) -> Source:
    """Read a folder with MNIST's file names; one pair alone, training or test, is all there is.

    With the names of some files only these are read, whatever else is there.
    """
    files: dict[tuple[str, str], Path] = {}
    # In reverse, so that of a file and its .gz the file itself is taken.
    for entry in sorted(folder.iterdir(), reverse=True):
        match = _NAME.fullmatch(entry.name)
        if match and entry.is_file() and (only is None or entry.name in only):
            files[match[1], match[2][:6]] = entry
    parts, shapes = [], []
    for part in ("train", "t10k"):
        images, labels = files.get((part, "images")), files.get((part, "labels"))
        if images is None and labels is None:
            continue
        if images is None or labels is None:
            found, missing = (labels, "images-idx3") if images is None else (images, "labels-idx1")
            raise DataError(f"{found}: {part}-{missing}-ubyte[.gz] is not in the same folder")
        x, shape = read_images(images)
        y = read_labels(labels)
        if len(x) != len(y):
            raise DataError(f"{labels}: {len(y)} labels for the {len(x)} images of {images.name}")
        parts.append((x, y))
        shapes.append(shape)
    if len(set(shapes)) > 1:
        raise DataError(
            f"{folder}: training images have shape {shapes[0]}, test images {shapes[1]}"
        )
    return Source(folder.name, "idx", str(folder), *parts, image_shape=shapes[0])


def read_images(path: Path) -> tuple[np.ndarray, tuple[int, int]]:
    """Read images, (n, rows·columns) uint8, and their shape (rows, columns)."""
    content, (count, rows, columns) = _read(path, 0x00000803)
    return content.reshape(count, rows * columns), (rows, columns)


def read_labels(path: Path) -> np.ndarray:
    """Read labels, (n,) int64."""
    return _read(path, 0x00000801)[0].astype(np.int64)


def _read(path: Path, magic: int) -> tuple[np.ndarray, list[int]]:
    with path.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    try:
        with gzip.open(path) if zipped else path.open("rb") as file:
            header = file.read(4)
            found = int.from_bytes(header, "big")
            if len(header) < 4 or found != magic:
                seen = f"0x{header.hex()}" + (f" ({_MAGIC[found]})" if found in _MAGIC else "")
                raise DataError(
                    f"{path}: byte 0: magic {seen} found, 0x{magic:08x} ({_MAGIC[magic]}) wanted"
                )
            header = file.read(4 * (magic & 0xFF))
            if len(header) < 4 * (magic & 0xFF):
                raise DataError(f"{path}: byte {4 + len(header)}: the header ends too early")
            sizes = np.frombuffer(header, dtype=">u4").tolist()
            start, wanted = 4 + len(header), math.prod(sizes)
            if wanted == 0:
                raise DataError(f"{path}: byte 4: nothing in it: dimensions {sizes}")
            if not zipped:
                _check_size(path, start, wanted, path.stat().st_size - start)
            elif start + wanted > unpacked_limit(packed := path.stat().st_size):
                raise DataError(
                    f"{path}: its header promises {start + wanted} bytes, far more than {packed} "
                    "bytes of gzip hold; if so many are meant, unpack it: gunzip"
                )
            # By chunks: a header may promise 2³¹ images that are not there.
            content = bytearray()
            while len(content) <= wanted and (chunk := file.read(_CHUNK)):
                content += chunk
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path}: damaged gzip file: {error}") from error
    _check_size(path, start, wanted, len(content))
    return np.frombuffer(content, dtype=np.uint8), sizes


def _check_size(path: Path, start: int, wanted: int, found: int) -> None:
    if found < wanted:
        raise DataError(
            f"{path}: ends at byte {start + found}, its header promises {start + wanted} bytes"
        )
    if found > wanted:
        raise DataError(f"{path}: byte {start + wanted}: bytes beyond what its header promises")

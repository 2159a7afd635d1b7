"""IDX files, the format of MNIST, gzipped or not."""

from __future__ import annotations

import gzip
import math
import re
import zlib
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import IO

import numpy as np

from ..array_files import unpacked_limit
from . import emnist, unreadable
from .dataset import DataError, Source

_IMAGES = 0x00000803
_LABELS = (0x00000801, 0x00000C01, 0x00000C02)  # bytes, and QMNIST's integers
_MAGIC = {_IMAGES: "IDX images"} | dict.fromkeys(_LABELS, "IDX labels")
_TYPES = {0x08: "u1", 0x0C: ">i4"}
# MNIST's names; EMNIST's and QMNIST's begin with the name of a set
_NAME = re.compile(
    r"(?:(?P<set>.+)-)?(?P<part>train|t10k|test|test10k|test50k)-(?P<what>images|labels)"
    r"[-.]idx\d-(?:ubyte|int)(?:\.gz)?"
)
_TESTS = ("t10k", "test", "test10k", "test50k")  # the first that is there counts
_CHUNK = 1 << 20

_Files = dict[tuple[str, str], Path]  # by part, and images or labels


def is_named(path: Path) -> bool:
    """Whether a file is named as MNIST's are, or as another set's of that kind."""
    return _NAME.fullmatch(path.name) is not None and path.is_file()


def is_idx_folder(folder: Path) -> bool:
    """Whether a folder holds such a file."""
    return any(is_named(entry) for entry in folder.iterdir())


def read_folder(folder: Path, only: Collection[str] | None = None) -> Source:
    """Read a folder of such files; one pair alone, training or test, is all there is.

    With the names of some files only these are read, whatever else is there.
    """
    sets = _sets(folder, only)
    name, *others = sets
    if name and others:
        file = sets[name].get(("train", "images")) or next(iter(sets[name].values()))
        raise DataError(
            f"{folder}: {len(sets)} sets found, {', '.join(sets)}; say which by its images, such as"
            f" --data {file}"
        )
    source = replace(_read_set(folder, name, sets[name]), name=folder.name, source=str(folder))
    if not others:
        return source
    return replace(source, note=f"{folder} holds {', '.join(others)} too; --data FILE takes these")


def read_file(path: Path, *, alone: bool = False) -> Source:
    """Read the set that a file belongs to, or alone the part: its images and labels."""
    match = _NAME.fullmatch(path.name)
    assert match is not None
    name, part = match["set"] or "", match["part"]
    files = _sets(path.parent)[name] | {(part, match["what"]): path}
    wanted = [part] if alone else ["train", part]
    if wanted == ["train", "train"]:
        wanted += _TESTS
    files = {key: file for key, file in files.items() if key[0] in wanted}
    source = _read_set(path.parent, name, files)
    return replace(source, name=name or path.parent.name, source=str(path))


def holds_images(path: Path) -> bool:
    """Whether a file, gzipped or not, begins as one of images does, whatever its name."""
    return _start(path) == _IMAGES


def may_be(path: Path) -> bool:
    """Whether a file, gzipped or not, is named or begins as an IDX file, whole or not."""
    return "idx" in path.name.lower() or _start(path) in _MAGIC


def is_column_major(path: Path) -> bool:
    """Whether a file of images stores them by columns."""
    return emnist.is_column_major(path.name)


def _sets(folder: Path, only: Collection[str] | None = None) -> dict[str, _Files]:
    """Find the files by the name of their set, MNIST's, which has none, before others."""
    sets: dict[str, _Files] = {}
    # In reverse, so that of a file and its .gz the file itself is taken.
    for entry in sorted(folder.iterdir(), reverse=True):
        match = _NAME.fullmatch(entry.name)
        if match and entry.is_file() and (only is None or entry.name in only):
            sets.setdefault(match["set"] or "", {})[match["part"], match["what"]] = entry
    return dict(sorted(sets.items()))


def _read_set(folder: Path, name: str, files: _Files) -> Source:
    parts, shapes = [], []
    for part in (("train",), _TESTS):
        names = [each for each in part if any(found == each for found, _ in files)]
        if not names:
            continue
        images, labels = (files.get((names[0], what)) for what in ("images", "labels"))
        if images is None or labels is None:
            found, missing = (labels, "images-idx3") if images is None else (images, "labels-idx1")
            lacking = "-".join(filter(None, (name, names[0], missing)))
            raise DataError(f"{found}: {lacking}-ubyte[.gz] is not in the same folder")
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
    by_columns = emnist.is_column_major(name)
    source = Source(
        name, "idx", str(folder), *parts, image_shape=shapes[0], column_major=by_columns
    )
    mapping = folder / f"{name}-mapping.txt"
    if not by_columns or not mapping.is_file():
        return source
    return emnist.lettered(source, emnist.read_mapping(mapping), str(mapping))


def read_images(path: Path) -> tuple[np.ndarray, tuple[int, int]]:
    """Read images, (n, rows·columns) uint8, and their shape (rows, columns)."""
    content, (count, rows, columns) = _read(path, _IMAGES)
    return content.reshape(count, rows * columns), (rows, columns)


def read_labels(path: Path) -> np.ndarray:
    """Read labels, (n,) int64; of several columns, as QMNIST has them, the first."""
    content, sizes = _read(path, *_LABELS)
    return content.reshape(sizes[0], -1)[:, 0].astype(np.int64)


def _start(path: Path) -> int:
    with (
        suppress(OSError, EOFError, zlib.error),
        gzip.open(path) if _is_zipped(path) else path.open("rb") as file,
    ):
        return int.from_bytes(file.read(4), "big")
    return 0


def _is_zipped(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


def _header(
    file: IO[bytes] | gzip.GzipFile, path: Path, magics: Sequence[int]
) -> tuple[np.dtype, list[int], int]:
    """Read a header that begins with one of these: dtype, dimensions, and its own length."""
    header = file.read(4)
    found = int.from_bytes(header, "big")
    if len(header) < 4 or found not in magics:
        unreadable.refuse(path)
        seen = f"0x{header.hex()}" + (f" ({_MAGIC[found]})" if found in _MAGIC else "")
        raise DataError(
            f"{path}: byte 0: magic {seen} found, 0x{magics[0]:08x} ({_MAGIC[magics[0]]}) wanted"
        )
    dtype = np.dtype(_TYPES[found >> 8])
    header = file.read(4 * (found & 0xFF))
    if len(header) < 4 * (found & 0xFF):
        raise DataError(f"{path}: byte {4 + len(header)}: the header ends too early")
    sizes = np.frombuffer(header, dtype=">u4").tolist()
    if math.prod(sizes) == 0:
        raise DataError(f"{path}: byte 4: nothing in it: dimensions {sizes}")
    return dtype, sizes, 4 + len(header)


def images_layout(path: Path) -> tuple[int, tuple[int, int], int]:
    """Read how many images there are in a file that is not gzipped, their shape, and where."""
    if _is_zipped(path):
        raise DataError(f"{path}: gzipped, and so not to be read in parts; unpack it: gunzip")
    with path.open("rb") as file:
        _, (count, rows, columns), start = _header(file, path, [_IMAGES])
    _check_size(path, start, count * rows * columns, path.stat().st_size - start)
    return count, (rows, columns), start


def _read(path: Path, *magics: int) -> tuple[np.ndarray, list[int]]:
    """Read a file that begins with one of these: its values in a row, and its dimensions."""
    zipped = _is_zipped(path)
    try:
        with gzip.open(path) if zipped else path.open("rb") as file:
            dtype, sizes, start = _header(file, path, magics)
            wanted = math.prod(sizes) * dtype.itemsize
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
    return np.frombuffer(content, dtype), sizes


def _check_size(path: Path, start: int, wanted: int, found: int) -> None:
    if found < wanted:
        raise DataError(
            f"{path}: ends at byte {start + found}, its header promises {start + wanted} bytes"
        )
    if found > wanted:
        raise DataError(f"{path}: byte {start + wanted}: bytes beyond what its header promises")

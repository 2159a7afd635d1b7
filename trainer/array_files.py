"""Arrays in files of NumPy's and MATLAB's, read without ever unpickling and without trust."""

from __future__ import annotations

import io
import math
import mmap
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

MatValue = np.ndarray | dict[str, "MatValue"] | None

_HEADER = 128
_MATRIX, _COMPRESSED = 14, 15
_STRUCT = 2
_DEEPEST, _MOST_FIELDS = 8, 1000  # of structs in structs
# How numbers are stored, and what they are to MATLAB: a double may be stored as a byte.
_STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8"}
_STORED |= {12: "i8", 13: "u8"}
_CLASSES = dict(enumerate(("f8", "f4", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"), start=6))
_COMPLEX = 0x0800
_LONGEST_MESSAGE = 2000
_LONGEST_LINE = 1 << 22
_LONGEST_HEADER = 10_000  # what NumPy trusts
# What a compressed file may hold without suspicion; zeros pack a thousandfold, pictures tenfold.
_UNPACKED_BYTES, _UNPACKED_TIMES = 1 << 27, 200


def one_line(message: str) -> str:
    """Make a message fit for one line of a terminal, whatever names a file has put into it."""
    line = " ".join(message.splitlines())
    if len(line) > _LONGEST_MESSAGE:
        half = _LONGEST_MESSAGE // 2 - 2
        line = f"{line[:half]} … {line[-half:]}"
    return "".join(letter if letter.isprintable() else "?" for letter in line)


class FileError(ValueError):
    """A file cannot be read; the message is one line, fit to be shown as it is."""

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


class ArrayFileError(FileError):
    """A file of arrays cannot be read; says which and what is the matter."""


def unpacked_limit(packed: int) -> int:
    """Return how many bytes a compressed file of so many is trusted to unpack to."""
    return max(_UNPACKED_BYTES, _UNPACKED_TIMES * packed)


def check_lines(path: Path) -> None:
    """Raise ArrayFileError for a text file with a line too long for a row of numbers.

    NumPy takes twenty times a line's length to part it.
    """
    if not path.stat().st_size:
        return
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        start = 0
        while len(content) - start > _LONGEST_LINE:
            last = start + _LONGEST_LINE + 1
            end = content.rfind(b"\n", start, last)
            if end < 0:
                end = content.rfind(b"\r", start, last)
            if end < 0:
                raise ArrayFileError(
                    f"{path}: byte {start}: a line of more than {_LONGEST_LINE:,} bytes; "
                    "a row of fewer numbers is wanted"
                )
            start = end + 1


def cause(error: BaseException) -> str:
    """Return in few words what an exception of somebody else's complains about."""
    if isinstance(error, MemoryError):
        return "does not fit into memory"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


@contextmanager
def parsing(path: Path, what: str) -> Iterator[None]:
    """Turn whatever a foreign parser stumbles over into an ArrayFileError that names the file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what they do not refuse is read, or refused by us
            yield
    except FileError:
        raise
    except Exception as error:  # zipfile, NumPy and Pillow raise nearly anything on damaged bytes
        raise ArrayFileError(f"{path}: not a readable {what}: {cause(error)}") from error


# --- NumPy's --------------------------------------------------------------------------------


def read_npy(path: Path) -> np.ndarray:
    """Read a ``.npy`` file of numbers, which holds as many as its header promises."""
    with parsing(path, "npy file"), path.open("rb") as file:
        return _npy(file, path.stat().st_size, str(path))


def npz_names(path: Path) -> list[str]:
    """Return the names of an npz archive's arrays, in its order."""
    with parsing(path, "npz archive"), zipfile.ZipFile(path) as archive:
        return list(_members(archive))


def read_npz(
    path: Path, names: Sequence[str] | None = None, limit: int | None = None
) -> dict[str, np.ndarray]:
    """Read arrays of an npz archive, all in its order if none are named; see `read_npy`.

    More bytes than the limit, unpacked, are refused, as are more than the file can be trusted with.
    """
    packed = path.stat().st_size
    arrays = {}
    with parsing(path, "npz archive"), zipfile.ZipFile(path) as archive:
        members = _members(archive)
        if names is not None:
            members = {name: members[name] for name in names}
        size = sum(entry.file_size for entry in members.values())
        if limit is not None and size > limit:
            raise ArrayFileError(f"{path}: {size:,} bytes unpacked; at most {limit:,} are read")
        if size > unpacked_limit(packed):
            raise ArrayFileError(
                f"{path}: {packed:,} bytes that unpack to {size:,}, over {_UNPACKED_TIMES} times as"
                " many; if that is meant, save it uncompressed: np.savez(…)"
            )
        for name, entry in members.items():
            if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                # Python unpacks the others beyond what is asked of it.
                raise ArrayFileError(
                    f"{path}: {name} is packed by method {entry.compress_type}; stored or deflated,"
                    " as np.savez and np.savez_compressed do it, is wanted"
                )
            if entry.flag_bits & 0x1:
                raise ArrayFileError(
                    f"{path}: {name} is encrypted; an archive without a password is wanted"
                )
            with archive.open(entry) as file:
                arrays[name] = _npy(file, entry.file_size, f"{path}: {name}")
    return arrays


def _members(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    return {
        entry.filename.removesuffix(".npy"): entry
        for entry in archive.infolist()
        if entry.filename.endswith(".npy")
    }


class Layout(NamedTuple):
    """How an array lies in a file: its shape and dtype, after how many bytes, by columns or not."""

    shape: tuple[int, ...]
    dtype: np.dtype
    offset: int
    by_columns: bool


def npy_layout(path: Path) -> Layout:
    """Read how the array of a ``.npy`` file lies in it, which holds as much as it promises."""
    with parsing(path, "npy file"), path.open("rb") as file:
        return _layout(file, path.stat().st_size, str(path))


def _layout(file: IO[bytes], size: int, where: str) -> Layout:
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ArrayFileError(f"{where} is in npy version {version}; 1.0 or 2.0 is wanted")
    length = int.from_bytes(file.read(2 * version[0]), "little")
    if length > _LONGEST_HEADER:
        raise ArrayFileError(
            f"{where}: a header of {length:,} bytes; at most {_LONGEST_HEADER:,} are read"
        )
    text = io.BytesIO(length.to_bytes(2, "little") + file.read(length))
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(text)
    if dtype.hasobject:
        raise ArrayFileError(
            f"{where} holds Python objects, which are never unpickled; save numbers"
        )
    promised, held = math.prod(shape) * dtype.itemsize, size - file.tell()
    if promised != held:
        raise _broken_promise(where, shape, dtype, held)
    if promised == 0:
        raise ArrayFileError(f"{where} is empty: shape {shape}")
    return Layout(shape, dtype, file.tell(), fortran)


def _broken_promise(where: str, shape: tuple[int, ...], dtype: np.dtype, held: int) -> Exception:
    return ArrayFileError(
        f"{where}: its header promises {math.prod(shape) * dtype.itemsize} bytes (shape {shape},"
        f" {dtype}), {held} are there"
    )


def _npy(file: IO[bytes], size: int, where: str) -> np.ndarray:
    # before anything is allocated, and without believing an archive's directory either
    shape, dtype, offset, by_columns = _layout(file, size, where)
    content = file.read(size - offset)
    if len(content) != size - offset:
        raise _broken_promise(where, shape, dtype, len(content))
    return np.frombuffer(content, dtype=dtype).reshape(shape, order="F" if by_columns else "C")


# --- MATLAB's -------------------------------------------------------------------------------


def read_mat(path: Path, limit: int | None = None) -> dict[str, MatValue]:
    """Read all variables of a MATLAB 5 file, in its order.

    A struct of one element becomes a dictionary of its fields; None is what is neither that nor a
    real, full array. A file of more bytes than the limit, unpacked, is refused. SciPy's reader ends
    the whole process on some damaged files, hence one of our own.
    """
    content = path.read_bytes()
    if 0 in content[:4]:
        raise ArrayFileError(f"{path}: MATLAB 4 file; version 5 is wanted: save(…, '-v7')")
    if content.startswith(b"MATLAB 7.3") or content[124:_HEADER] in (b"\0\2IM", b"\2\0MI"):
        raise ArrayFileError(f"{path}: MATLAB 7.3 (HDF5) file; version 5 is wanted: save(…, '-v7')")
    order = {b"IM": "<", b"MI": ">"}.get(content[126:_HEADER])
    if order is None:
        seen = content[126:_HEADER].hex() or "the end"
        raise ArrayFileError(f"{path}: byte 126: {seen} found, no MATLAB 5 file (IM or MI wanted)")
    arrays: dict[str, MatValue] = {}
    trusted = unpacked_limit(len(content))
    left = trusted if limit is None else min(limit, trusted)
    with parsing(path, "MATLAB 5 file"):
        for kind, element in _elements(memoryview(content)[_HEADER:], order):
            if kind == _COMPRESSED:
                element = _unpacked(element, order, left)
            if element and kind in (_MATRIX, _COMPRESSED):
                name, arrays[name] = _matrix(element, order, left)
                left -= _size(arrays[name])
    return arrays


def _size(value: MatValue) -> int:
    """Return how many bytes the arrays of a variable take."""
    if isinstance(value, dict):
        return sum(map(_size, value.values()))
    return 0 if value is None else value.nbytes


def _unpacked(element: memoryview, order: str, limit: int) -> memoryview:
    """Unpack a matrix, if it is one and no larger."""
    unpacking = zlib.decompressobj()
    tag = unpacking.decompress(element, 8)
    kind, size = (int(i) for i in np.frombuffer(tag, order + "u4", 2))
    if kind != _MATRIX:
        return memoryview(b"")
    if size > limit:
        raise ValueError(_too_many(limit))
    content = unpacking.decompress(unpacking.unconsumed_tail, size + 1)
    if len(content) != size or not unpacking.eof:
        raise ValueError(f"a packed element that does not hold the {size} bytes that it promises")
    return memoryview(content)


def _too_many(limit: int) -> str:
    return (
        f"more than {limit:,} bytes unpacked; if so many are meant, save it uncompressed: "
        "save(…, '-v6')"
    )


def _elements(content: memoryview, order: str) -> Iterator[tuple[int, memoryview]]:
    """Yield type and data of each element, none longer than what is there."""
    place = 0
    while place < len(content):
        kind, size = (int(i) for i in np.frombuffer(content, order + "u4", 2, place))
        start, step = place + 8, 8
        if kind >> 16:  # up to four bytes of data stand in the tag itself
            kind, size, start, step = kind & 0xFFFF, kind >> 16, place + 4, 4
        if start + size > len(content):
            raise ValueError(f"an element of {size} bytes where {len(content) - start} are left")
        yield kind, content[start : start + size]
        padding = 0 if kind == _COMPRESSED else -size % step
        place = start + size + padding


def _matrix(content: memoryview, order: str, limit: int, depth: int = 0) -> tuple[str, MatValue]:
    elements = _elements(content, order)
    _, flags = next(elements)
    _, dimensions = next(elements)
    _, letters = next(elements)
    name = bytes(letters).decode("latin1")
    flag = int(np.frombuffer(flags, order + "u4", 1)[0])
    shape = np.frombuffer(dimensions, order + "i4").tolist()
    if flag & 0xFF == _STRUCT and shape == [1, 1] and depth < _DEEPEST:
        return name, _fields(elements, order, limit, depth + 1)
    dtype = _CLASSES.get(flag & 0xFF)
    if dtype is None or flag & _COMPLEX:
        return name, None
    stored, data = next(elements, (9, memoryview(b"")))
    if stored not in _STORED:
        raise ValueError(f"numbers of the unknown type {stored}")
    values = np.frombuffer(data, order + _STORED[stored])
    if min(shape) < 0 or values.size != math.prod(shape):
        raise ValueError(f"{values.size} values where dimensions {shape} are promised")
    if values.size * np.dtype(dtype).itemsize > limit:
        raise ValueError(_too_many(limit))
    with np.errstate(invalid="ignore", over="ignore"):
        return name, values.astype(dtype).reshape(shape, order="F")


def _fields(
    elements: Iterator[tuple[int, memoryview]], order: str, limit: int, depth: int
) -> dict[str, MatValue]:
    """Read a struct's fields: their names, all of one length, and then a matrix for each."""
    _, size = next(elements)
    _, letters = next(elements)
    length = int(np.frombuffer(size, order + "i4", 1)[0])
    if length < 1 or len(letters) % length or len(letters) > _MOST_FIELDS * length:
        raise ValueError(f"a struct with {len(letters):,} bytes of names of {length:,} each")
    fields: dict[str, MatValue] = {}
    for start in range(0, len(letters), length):
        name = bytes(letters[start : start + length]).split(b"\0")[0].decode("latin1")
        kind, content = next(elements)
        if kind != _MATRIX:
            raise ValueError(f"a field {name} of type {kind}, which is no matrix")
        fields[name] = _matrix(content, order, limit, depth)[1] if content else None
        limit -= _size(fields[name])
    return fields

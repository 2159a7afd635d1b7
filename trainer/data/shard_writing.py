"""Folders of shards, written a shard at a time, each file whole or not at all."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from ..files import remove_leftovers, write_whole
from .dataset import DataError, Samples, reading
from .image_folders import visible
from .shards import FACTS, Facts, X, Y, read_facts

_SHARD_BYTES = 100_000_000  # at most, where no number of samples is given
_BLOCK = 4096  # samples that are made at a time
_CHECKED = 64  # samples at either end of a shard that is there, which are made again


def shard_samples(features: int, dtype: np.dtype) -> int:
    """Return a round number of samples that take 40 to 100 MB."""
    fitting = max(1, _SHARD_BYTES // (features * dtype.itemsize))
    power = 10 ** (len(str(fitting)) - 1)
    return power * max(step for step in (1, 2, 5) if step * power <= fitting)


def files_of(train: int, test: int, in_one: int) -> dict[str, int]:
    """Return how many samples each shard has, by the beginning of its files' names."""
    return {
        f"{part}-{number:05d}": min(in_one, count - first)
        for part, count in (("train", train), ("test", test))
        for number, first in enumerate(range(0, count, in_one))
    }


class ShardWriter:
    """Writes the shards of a folder.

    Parameters
    ----------
    folder : Path
        New or empty, or what one of the same facts has left.
    facts : Facts
        Its `files` are as `files_of` returns them.
    dtype : numpy.dtype
        Of the values.
    features : int
    make : callable
        ``make(part, first, stop)`` returns values and codes of these samples of "train" or "test",
        the same whenever it is asked.

    Attributes
    ----------
    whole, damaged : list of str
        The shards that are there already as they are wanted, and otherwise. Their sizes, labels
        and a few samples at either end are compared.

    Raises
    ------
    DataError
        If the folder holds something else.
    """

    def __init__(
        self,
        folder: Path,
        facts: Facts,
        dtype: np.dtype,
        features: int,
        make: Callable[[str, int, int], Samples],
    ) -> None:
        self._folder, self._facts, self._make = folder, facts, make
        self._features = features
        # of the values and of the labels
        self._dtypes = dtype, np.min_scalar_type(len(facts.classes) - 1)
        self.whole: list[str] = []
        self.damaged: list[str] = []
        with reading(folder):
            self._look()

    def _look(self) -> None:
        folder, facts = self._folder, self._facts
        if not folder.exists():
            return
        if not folder.is_dir():
            raise DataError(f"{folder}: no folder; name a new one")
        found, there = read_facts(folder), visible(folder)
        if found is None and there:
            raise DataError(f"{folder}: not empty ({there[0].name}, …); name a new folder")
        if found is not None and found != facts:
            differ = [
                f"{name.replace('_', ' ')} was {found.made.get(name)} and is {facts.made.get(name)}"
                for name in {**found.made, **facts.made}
                if found.made.get(name) != facts.made.get(name)
            ]
            raise DataError(
                f"{folder}: holds other shards ({'; '.join(differ) or 'of other data'}); name a new"
                " folder, or remove this one"
            )
        for stem, first, stop in self._places() if found is not None else ():
            if all(file.is_file() for file in self._paths(stem)):
                is_whole = self._is_whole(stem, first, stop)
                (self.whole if is_whole else self.damaged).append(stem)

    def bytes_left(self) -> int:
        """Return how many bytes are still to be written."""
        files = self._facts.files.items()
        return sum(self._size(count) for stem, count in files if stem not in self.whole)

    def write(
        self, on_progress: Callable[[str, int, int], None], stopped: Callable[[], object]
    ) -> None:
        """Write what is not there yet, and add it to `whole`.

        Parameters
        ----------
        on_progress : callable
            Called with a shard's name, the bytes made so far and those of all.
        stopped : callable
            Asked all the time; what is true ends it after what has been written whole.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(self._folder)
        write_whole(self._folder / FACTS, self._facts.as_bytes())
        left = self.bytes_left()
        total = sum(map(self._size, self._facts.files.values()))
        for stem, first, stop in self._places():
            if stem in self.whole:
                continue
            contents, arrays = self._blank(stop - first)
            for start in range(first, stop, _BLOCK):
                if stopped():
                    return
                end = min(start + _BLOCK, stop)
                for array, made in zip(arrays, self._made(stem, start, end), strict=True):
                    array[start - first : end - first] = made
                share = self._size(stop - first) * (end - first) // (stop - first)
                on_progress(stem, total - left + share, total)
            for file, content in zip(self._paths(stem), contents, strict=True):
                write_whole(file, content)
            left -= self._size(stop - first)
            self.whole.append(stem)

    def _places(self) -> Iterator[tuple[str, int, int]]:
        """Yield each shard with its first sample's number in its part, and the one after."""
        ends = {"train": 0, "test": 0}
        for stem, count in self._facts.files.items():
            part = stem.partition("-")[0]
            ends[part] += count
            yield stem, ends[part] - count, ends[part]

    def _paths(self, stem: str) -> tuple[Path, Path]:
        return self._folder / f"{stem}{X}", self._folder / f"{stem}{Y}"

    def _made(self, stem: str, first: int, stop: int) -> Samples:
        return self._make(stem.partition("-")[0], first, stop)

    def _headers(self, count: int) -> list[bytes]:
        """Return the beginnings of a shard's two files."""
        shapes = (count, *(self._facts.image_shape or (self._features,))), (count,)
        headers = []
        for dtype, shape in zip(self._dtypes, shapes, strict=True):
            written = io.BytesIO()
            descr = np.lib.format.dtype_to_descr(dtype)
            facts = {"descr": descr, "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(written, facts)
            headers.append(written.getvalue())
        return headers

    def _rows(self) -> tuple[int, int]:
        """Return the bytes of a sample's values and of its label."""
        values, label = self._dtypes
        return self._features * values.itemsize, label.itemsize

    def _size(self, count: int) -> int:
        """Return the bytes of a shard's two files."""
        return sum(map(len, self._headers(count))) + sum(self._rows()) * count

    def _blank(self, count: int) -> tuple[list[bytearray], list[np.ndarray]]:
        """Return the contents of a shard's two files, of zeros, and views of the arrays in them."""
        contents, arrays = [], []
        for header, row, dtype in zip(
            self._headers(count), self._rows(), self._dtypes, strict=True
        ):
            content = bytearray(len(header) + row * count)
            content[: len(header)] = header
            contents.append(content)
            array = np.frombuffer(content, dtype, offset=len(header))
            arrays.append(array.reshape(count, -1) if row > dtype.itemsize else array)
        return contents, arrays

    def _is_whole(self, stem: str, first: int, stop: int) -> bool:
        headers, rows = self._headers(stop - first), self._rows()
        for start in (first, max(first, stop - _CHECKED)):
            end = min(start + _CHECKED, stop)
            made = self._made(stem, start, end)
            parts = zip(self._paths(stem), headers, rows, self._dtypes, made, strict=True)
            for file, header, row, dtype, array in parts:
                if file.stat().st_size != len(header) + row * (stop - first):
                    return False
                with file.open("rb") as content:
                    if content.read(len(header)) != header:
                        return False
                    content.seek(len(header) + row * (start - first))
                    found = content.read(row * (end - start))
                if found != np.ascontiguousarray(array, dtype).tobytes():
                    return False
        return True

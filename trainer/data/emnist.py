"""What is peculiar to EMNIST: images stored by columns, and a mapping of codes to letters."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from .dataset import DataError, Samples, Source, is_word

_PREFIX = "emnist-"
_LONGEST_MAPPING = 1 << 16  # bytes; the longest of EMNIST's has 62 lines


def is_column_major(name: str) -> bool:
    """Whether a file or a set of files is EMNIST's by its name, and so stored by columns."""
    return f"{name}-".lower().startswith(_PREFIX)


def read_mapping(path: Path) -> list[list[int]]:
    """Read a file of lines of a code and the letters that it stands for, as their numbers."""
    with path.open("rb") as file:
        content = file.read(_LONGEST_MAPPING + 1)
    if len(content) > _LONGEST_MAPPING:
        raise DataError(
            f"{path}: over {_LONGEST_MAPPING:,} bytes; lines such as 1 65 97 are wanted"
        )
    rows = [line.split() for line in content.decode("latin1").splitlines() if line.strip()]
    for number, row in enumerate(rows, start=1):
        if not all(cell.isdecimal() and len(cell) < 8 for cell in row):
            raise DataError(f"{path}: line {number}: numbers such as 1 65 97 are wanted")
    return [list(map(int, row)) for row in rows]


def lettered(source: Source, mapping: Iterable[list[int]], where: str) -> Source:
    """Replace the codes that are labels by the first letter that each stands for."""
    names: dict[int, str] = {}
    letters: set[str] = set()
    for code, *numbers in mapping:
        letter = chr(numbers[0]) if numbers and 0 < numbers[0] <= sys.maxunicode else ""
        if not is_word(letter) or code in names or letter in letters:
            raise DataError(
                f"{where}: code {code} stands for no letter, or for another's; a code and its"
                " letter's number are wanted, such as 1 65"
            )
        names[code] = letter
        letters.add(letter)

    def of(samples: Samples) -> Samples:
        x, labels = samples
        codes, places = np.unique(labels, return_inverse=True)
        if unknown := [code for code in codes.tolist() if code not in names]:
            raise DataError(f"{where}: no letter for the label {unknown[0]}")
        return x, np.array([names[code] for code in codes.tolist()])[places]

    test = None if source.test is None else of(source.test)
    return replace(source, train=of(source.train), test=test)

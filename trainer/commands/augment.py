"""`augment`: deformed copies of images, as many as are wanted, in shards on the disk."""

from __future__ import annotations

import shlex
import shutil
from contextlib import closing
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

import numpy as np
from cyclopts import Parameter

from backends import Backend
from backends.sharded import ShardedRows

from .. import display
from ..augmentation import Deformation, DeformedCopies, read_augment
from ..data import Dataset
from ..data.dataset import Samples
from ..data.shard_writing import ShardWriter, files_of, shard_samples
from ..data.shards import Facts
from ..recipes import RECIPES
from ..running.usage import UsageError, choose, load_for, usage_errors
from .ending import STOPS, interruptible
from .options import COUNT, WHOLE, Device, Flag, JsonEvents

_STRONGEST = "modern"  # the recipe whose deformations are taken where none are given
_SPARED = 64 * 2**20  # bytes that are left free on a disk


def run(
    *,
    write: Annotated[int, COUNT],
    out: Path,
    data: str | None = None,
    augment: Annotated[list[str] | None, Parameter(negative="")] = None,
    seed: Annotated[int, WHOLE] = 0,
    shard_samples: Annotated[int | None, COUNT] = None,
    device: Device = "auto",
    as_json: JsonEvents = False,
    quiet: Flag = False,
) -> int:
    """Write deformed copies of images into a folder of shards, which train takes as --data.

    The training images are taken in turn, each time deformed anew, until there are N; the test
    images are written as they are. A training on them reads a window at a time, so they may be more
    than memory holds. First it says how many bytes they take. Stopped, it goes on by the same
    command.

        python -m trainer augment --write 5000000 --out big
        python -m trainer augment --write 9000 --augment rotate:10 --out more
        python -m trainer train --data big --recipe fast --augment none

    Parameters
    ----------
    write
        How many deformed training images: N.
    out
        The folder, new or empty, or one that the same command has begun to fill.
    data
        Whose images, as train takes it. [default: auto]
    augment
        How they are deformed, as train takes it: elastic:ALPHA,SIGMA, rotate:DEGREES,
        scale:PERCENT, shear:DEGREES, shift:PIXELS; for several, several times --augment. [default:
        as recipe modern deforms]
    seed
        Of what is drawn. With the number of an image it says how that is deformed, whatever the
        device, N and size of the shards.
    shard_samples
        Images a shard. [default: a round number that takes 40 to 100 MB]
    quiet
        Nothing but errors.
    """
    ways = tuple(augment or RECIPES[_STRONGEST].augment)
    with usage_errors(say=str):
        degrees, settings = read_augment(ways)
    if degrees or not settings:
        raise UsageError(
            f"--augment {' --augment '.join(ways)}: every image that is written is deformed anew;"
            " expected elastic:34,4, rotate:10 and the like"
        )
    folder = out.expanduser()
    with closing(display.choose_view(as_json=as_json, quiet=quiet)) as view:
        backend = choose(device)
        dataset = load_for(None, data, None, view.downloading)
        for line in dataset.note.splitlines():
            view.note(line)
        in_one = shard_samples or _in_one(dataset)
        facts = _facts(dataset, ways, write, seed, in_one)
        made = _Made(dataset, backend, settings, seed)
        x = dataset.train_x
        writer = ShardWriter(folder, facts, x.dtype, x.shape[1], made)
        left, free = writer.bytes_left(), _free(folder)
        for stem in writer.damaged:
            view.note(f"{folder}/{stem}: not as it was written: it is written again")
        there = f", {len(writer.whole)} of them are there" if writer.whole else ""
        told = {
            "data": f"{dataset.name}: {len(dataset.train_y):,} training images",
            "augment": ", ".join(ways),
            "writes": f"{write:,} deformed and {len(dataset.test_y):,} test images in"
            f" {len(facts.files)} shards{there}",
            "room": f"{left / 1e6:,.1f} MB to write, {free / 1e6:,.0f} MB free",
            "folder": str(folder),
        }
        about = {"folder": str(folder), "bytes": left, "free": free}
        view.start(told, about | {"shards": len(facts.files), "made": facts.made})
        if left > free - _SPARED:
            raise UsageError(
                f"--out {folder}: {left / 1e6:,.1f} MB are to be written, {free / 1e6:,.0f} MB are"
                " free; expected room for all: name a folder on another disk, or a lower --write"
            )
        started = perf_counter()
        with interruptible() as stopped:
            writer.write(view.writing, stopped)
            stop = stopped()
        seconds = perf_counter() - started
        whole = f"{len(writer.whole)} of {len(facts.files)}"
        result = about | {"whole": len(writer.whole), "seconds": seconds, "interrupted": bool(stop)}
        if stop:
            lines = [
                f"stopped by {STOPS[stop]}: {whole} shards are whole; the same command goes on"
            ]
        else:
            lines = [
                f"{(left - writer.bytes_left()) / 1e6:,.1f} MB in"
                f" {display.three_digits(seconds)} s, {whole} shards",
                f"train: python -m trainer train --data {shlex.quote(str(folder))} --recipe fast"
                " --augment none",
            ]
        view.end(lines, result)
        return 128 + stop if stop else 0


def _in_one(dataset: Dataset) -> int:
    return shard_samples(dataset.train_x.shape[1], dataset.train_x.dtype)


def _facts(dataset: Dataset, ways: tuple[str, ...], write: int, seed: int, in_one: int) -> Facts:
    if dataset.image_shape is None:
        raise UsageError(
            f"{dataset.name} has {dataset.train_x.shape[1]} features, which are no image to deform;"
            " give images with --data"
        )
    if isinstance(dataset.train_x, ShardedRows):
        raise UsageError(
            f"--data {dataset.source}: shards already; train deforms them as it reads them:"
            " --augment elastic:34,4 and the like"
        )
    made = {
        "data": dataset.source,
        "crc32": dataset.fingerprint(),
        "augment": list(ways),
        "samples": write,
        "seed": seed,
        "shard_samples": in_one,
    }
    return Facts(
        dataset.name,
        dataset.image_shape,
        dataset.classes,
        dataset.value_range,
        files_of(write, len(dataset.test_y), in_one),
        made,
    )


class _Made:
    """Makes the samples of the shards, any part of them whenever it is asked for."""

    def __init__(
        self, dataset: Dataset, backend: Backend, settings: dict[str, float], seed: int
    ) -> None:
        assert dataset.image_shape is not None
        deformation = Deformation(dataset.image_shape, dataset.value_range[0], **settings)
        self._dataset, self._backend = dataset, backend
        self._copies = DeformedCopies(backend, deformation, dataset.train_x, seed)

    def __call__(self, part: str, first: int, stop: int) -> Samples:
        if part == "test":
            return self._dataset.test_x[first:stop], self._dataset.test_y[first:stop]
        codes: Any = self._dataset.train_y
        labels = codes[np.arange(first, stop) % len(codes)]
        return self._backend.to_numpy(self._copies(first, stop)), labels


def _free(folder: Path) -> int:
    """Return the bytes that are free on the disk where a folder is, or will be."""
    there = folder.absolute()
    while not there.exists():
        there = there.parent
    return shutil.disk_usage(there).free

"""TensorBoard's event files: numbers, histograms of arrays and images, by epoch."""

from __future__ import annotations

import struct
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from ..files import append
from ..running.usage import UsageError

_NAME = "events.out.tfevents"  # TensorBoard reads files with the last part in their names
_BINS = 64


@contextmanager
def _without_torch() -> Iterator[None]:
    """Hide PyTorch, which tensorboardX would import, in two seconds, for an annotation."""
    is_there = "torch" in sys.modules
    if not is_there:
        sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if not is_there:
            del sys.modules["torch"]


def require() -> None:
    """Raise UsageError, with what to install, unless event files can be written."""
    try:
        with _without_torch():
            import tensorboardX  # noqa: F401
    except ImportError as error:
        raise UsageError(
            "--log tensorboard: tensorboardX is not installed; type: python -m pip install"
            f' "xptrainer[tensorboard]" ({error})'
        ) from error


class EventFile:
    """A new file in a folder of TensorBoard's, which goes on from those that are there.

    Parameters
    ----------
    folder : Path
    first : int
        The first epoch that it will hold. What older files hold of it and of later epochs, which a
        killed process had written, does not count any more.

    Attributes
    ----------
    path : Path
    """

    def __init__(self, folder: Path, first: int) -> None:
        require()
        from tensorboardX.proto.event_pb2 import SessionLog

        numbers = [int(path.suffix[1:]) for path in folder.glob(f"{_NAME}.*[0-9]")]
        # in the order of their names, not of the machine's clock
        self.path = folder / f"{_NAME}.{max(numbers, default=0) + 1:06}"
        self._write(file_version="brain.Event:2")
        self._write(step=first, session_log=SessionLog(status=SessionLog.START))

    def add(
        self,
        epoch: int,
        numbers: Mapping[str, float],
        arrays: Mapping[str, np.ndarray] | None = None,
        images: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        """Write what there is of an epoch, whole or not at all.

        Parameters
        ----------
        epoch : int
            From 1; 0 stands for before the training.
        numbers : mapping of str to float
            Kept as float32.
        arrays : mapping of str to numpy.ndarray
            Of any shape, for histograms; one with a NaN or infinity is omitted.
        images : mapping of str to numpy.ndarray
            (height, width) uint8.

        Raises
        ------
        OSError
            If it cannot be written, naming the file.
        """
        from tensorboardX.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=k, simple_value=v) for k, v in numbers.items()]
        for name, array in (arrays or {}).items():
            if np.isfinite(array).all():
                values.append(Summary.Value(tag=name, histo=_histogram(array)))
        for name, image in (images or {}).items():
            height, width = image.shape
            shown = Summary.Image(
                height=height, width=width, colorspace=1, encoded_image_string=_png(image)
            )
            values.append(Summary.Value(tag=name, image=shown))
        self._write(step=epoch, summary=Summary(value=values))

    def _write(self, **fields: Any) -> None:
        """Append an event as a record: its length and itself, each with its checksum."""
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.record_writer import masked_crc32c

        event = Event(wall_time=time.time(), **fields).SerializeToString()
        length = struct.pack("<Q", len(event))
        sums = [struct.pack("<I", masked_crc32c(part)) for part in (length, event)]
        append(self.path, length + sums[0] + event + sums[1])


def _histogram(array: np.ndarray) -> Any:
    from tensorboardX.proto.summary_pb2 import HistogramProto

    values = array.ravel().astype(np.float64)
    try:
        counts, edges = np.histogram(values, _BINS)
    except ValueError:  # they lie too close together for so many
        counts, edges = np.histogram(values, 1)
    return HistogramProto(
        min=values.min(),
        max=values.max(),
        num=values.size,
        sum=values.sum(),
        sum_squares=np.square(values).sum(),
        # a limit is the upper end of its bucket: the first bucket, of none, ends where they begin
        bucket_limit=edges.tolist(),
        bucket=[0, *counts.tolist()],
    )


def _png(image: np.ndarray) -> bytes:
    from PIL import Image

    file = BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()

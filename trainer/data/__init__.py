"""From names, files and folders to arrays of labelled samples."""

from trainer.data.dataset import DataError, Dataset, Scale, hold_out
from trainer.data.images import prepare_digit, read_grey
from trainer.data.loading import load, load_labelled, load_unlabelled

__all__ = [
    "DataError",
    "Dataset",
    "Scale",
    "hold_out",
    "load",
    "load_labelled",
    "load_unlabelled",
    "prepare_digit",
    "read_grey",
]

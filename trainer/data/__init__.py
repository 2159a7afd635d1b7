"""From names, files and folders to arrays of labelled samples."""

from .columns import Columns
from .dataset import DataError, Dataset, Scale, hold_out, limited
from .framing import Framing, prepare_digit
from .images import read_grey
from .loading import is_data_file, load, load_labelled, load_unlabelled

__all__ = [
    "Columns",
    "DataError",
    "Dataset",
    "Framing",
    "Scale",
    "hold_out",
    "is_data_file",
    "limited",
    "load",
    "load_labelled",
    "load_unlabelled",
    "prepare_digit",
    "read_grey",
]

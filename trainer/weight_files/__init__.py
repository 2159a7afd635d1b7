"""Weights on disk: this program's own file, and what other programs write."""

from .foreign import SUFFIXES, ShapeError, read_weights, weight_files
from .own import (
    MODEL_FILE,
    ForeignFileError,
    WeightFileError,
    read_checkpoint,
    read_safetensors,
    write_safetensors,
)
from .stated import read_stated
from .weights import Weights, from_matlab

__all__ = [
    "MODEL_FILE",
    "SUFFIXES",
    "ForeignFileError",
    "ShapeError",
    "WeightFileError",
    "Weights",
    "from_matlab",
    "read_checkpoint",
    "read_safetensors",
    "read_stated",
    "read_weights",
    "weight_files",
    "write_safetensors",
]

"""Training by batches, `fit`, and by all samples at once, `minimize`."""

from .loop import Training, fit
from .reports import BatchProgress, Diverged, EpochReport, TrainingState

__all__ = ["BatchProgress", "Diverged", "EpochReport", "Training", "TrainingState", "fit"]

"""The network as an estimator of scikit-learn; imported when asked for, as it takes a second."""

from .classifier import MLPClassifier

__all__ = ["MLPClassifier"]

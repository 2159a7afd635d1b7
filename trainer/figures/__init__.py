"""Everything matplotlib. Handed results, it never trains; imported only to draw."""

from .benchmark import benchmark
from .curves import curves
from .deformed import deformed
from .evaluation import confusion, mistakes
from .network import backquery, incoming_weights, trace
from .style import show
from .sweep import sweep

__all__ = [
    "backquery",
    "benchmark",
    "confusion",
    "curves",
    "deformed",
    "incoming_weights",
    "mistakes",
    "show",
    "sweep",
    "trace",
]

"""Everything matplotlib. Handed results, it never trains; imported only to draw.

Each function draws one figure and returns it as a PNG image; `trace` returns a PDF with it, and
`show` opens windows. Labels of classes are in the order of their codes, an image's shape is
(height, width).
"""

from .answers import answers
from .benchmark import benchmark
from .curves import curves
from .deformed import deformed
from .evaluation import confusion, mistakes
from .network import backquery, incoming_weights, trace
from .style import show
from .sweep import sweep

__all__ = [
    "answers",
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

"""Everything matplotlib. Handed results, it never trains; imported only to draw.

Each function draws one figure, `trace` several, and returns it as a Matplotlib figure, which may be
changed before it is saved; `encoded` makes the content of a file of it, and `show` opens windows.
Labels of classes are in the order of their codes, an image's shape is (height, width).
"""

from .answers import answers
from .benchmark import benchmark
from .curves import curves
from .deformed import deformed
from .encoding import encoded, show
from .evaluation import confusion, mistakes
from .network import backquery, incoming_weights
from .rate_search import rate_search
from .sweep import sweep
from .trace import trace, traces

__all__ = [
    "answers",
    "backquery",
    "benchmark",
    "confusion",
    "curves",
    "deformed",
    "encoded",
    "incoming_weights",
    "mistakes",
    "rate_search",
    "show",
    "sweep",
    "trace",
    "traces",
]

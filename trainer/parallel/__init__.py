"""Several processes that train one network together: the ranks that `mpirun` has started.

`join` is what a command calls: it returns a `Process`, which also stands for the one process of an
ordinary run, and whose `ranks` go to `fit`.
"""

from .process import ENDED, FAILED, Process, RankLost, RanksError, join, launched, launched_index

__all__ = [
    "ENDED",
    "FAILED",
    "Process",
    "RankLost",
    "RanksError",
    "join",
    "launched",
    "launched_index",
]

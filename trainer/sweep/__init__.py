"""A recipe over every combination of some options, trained side by side and ranked.

Nothing is shown or drawn here: `sweep` yields what each run came to, `rank` says which is best.
"""

from .clusters import LOCAL, Cluster, check_address, opened
from .folder import FIGURE, SweepFolder
from .outcomes import Outcome, Standing, rank
from .plan import Plan, Trial
from .values import MOST_RUNS, as_text, values_of
from .workers import Workers, divide_cores, estimate, sweep

__all__ = [
    "FIGURE",
    "LOCAL",
    "MOST_RUNS",
    "Cluster",
    "Outcome",
    "Plan",
    "Standing",
    "SweepFolder",
    "Trial",
    "Workers",
    "as_text",
    "check_address",
    "divide_cores",
    "estimate",
    "opened",
    "rank",
    "sweep",
    "values_of",
]

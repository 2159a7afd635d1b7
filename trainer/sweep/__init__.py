"""A recipe over every combination of some options, trained side by side and ranked.

Nothing is shown or drawn here: `sweep` yields what each run came to, `rank` says which is best.
"""

from .clusters import LOCAL, Cluster, check_address, opened
from .folder import FIGURE, SweepFolder
from .outcomes import Outcome, Standing, rank
from .plan import Plan, Search, Trial
from .sampling import check_sampler, proposals
from .values import MOST_RUNS, Span, as_text, span_of, values_of
from .workers import Workers, divide_cores, estimate, sweep

__all__ = [
    "FIGURE",
    "LOCAL",
    "MOST_RUNS",
    "Cluster",
    "Outcome",
    "Plan",
    "Search",
    "Span",
    "Standing",
    "SweepFolder",
    "Trial",
    "Workers",
    "as_text",
    "check_address",
    "check_sampler",
    "divide_cores",
    "estimate",
    "opened",
    "proposals",
    "rank",
    "span_of",
    "sweep",
    "values_of",
]

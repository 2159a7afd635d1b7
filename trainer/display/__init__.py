"""Everything a person sees in the terminal. Handed results, it never trains.

What takes long (a training, a benchmark, a sweep) is shown while it runs by one of four views,
chosen by `choose_view`; each of the other functions shows one result.
"""

from ..plain_text import percent
from .answers import answers, evaluation, one_answer_words, prediction
from .formats import three_digits
from .network import backquery, gradient_check, incoming_weights
from .tables import curves, devices, facts, recipes
from .terminal import abandon_stdout, as_json, error, json_line, line, note
from .trace import trace, traces
from .views import JsonView, PlainView, QuietView, TerminalView, choose_view
from .watching import watch

__all__ = [
    "JsonView",
    "PlainView",
    "QuietView",
    "TerminalView",
    "abandon_stdout",
    "answers",
    "as_json",
    "backquery",
    "choose_view",
    "curves",
    "devices",
    "error",
    "evaluation",
    "facts",
    "gradient_check",
    "incoming_weights",
    "json_line",
    "line",
    "note",
    "one_answer_words",
    "percent",
    "prediction",
    "recipes",
    "three_digits",
    "trace",
    "traces",
    "watch",
]

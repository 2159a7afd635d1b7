"""What a training looks like from moment to moment: pictures of its network, made beside it."""

from __future__ import annotations

import base64
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from time import perf_counter
from typing import Any

import numpy as np

from backends import Backend

from .data import Dataset
from .explain import backquery, incoming_weights
from .network import MLP

_UNITS, _TESTED, _WRONG = 30, 1000, 12  # hidden units, test samples, and mistakes that are shown
_SHARE = 0.01  # of the time of a training that may go into pictures while it runs
_EVERY = 0.1  # seconds between two snapshots within an epoch, at first
_MOST, _MOST_BYTES = 120, 1 << 26  # snapshots that are kept, and bytes of weights that wait


class Snapshots:
    """Takes snapshots of a network that learns, and makes pictures of them in a thread.

    A snapshot is a copy of the weights, which costs the training next to nothing; the pictures get
    a hundredth of its time, and what is left of them is made when it has ended. Nothing of what is
    learned changes.

    Parameters
    ----------
    model : MLP
        That learns.
    data : Dataset
        That it learns from.
    publish : callable
        ``publish(frame)``, called in that thread with each frame, in order: a dictionary fit for
        JSON with ``epoch``, ``loss``, ``accuracy``, and where the data is images ``units``,
        ``backquery`` and ``mistakes``.
    """

    def __init__(
        self, model: MLP, data: Dataset, publish: Callable[[dict[str, Any]], None]
    ) -> None:
        self._model, self._data, self._publish = model, data, publish
        # the textbook in NumPy: the training has the kernels and their threads to itself
        self._shown = MLP.of(model.arrays(), model.settings(), backend=Backend(np, "cpu", "NumPy"))
        self._bytes = sum(array.nbytes for array in self._shown.get_weights())
        self._waiting: deque[tuple[dict[str, Any], list[np.ndarray]]] = deque()
        self._taken, self._every, self._last = 0, _EVERY, -np.inf
        self._ready, self._ended = threading.Condition(), False
        self._thread = threading.Thread(target=self._work, name="snapshots", daemon=True)
        self._thread.start()

    def take(self, epoch: float, loss: float, accuracy: float | None = None) -> None:
        """Keep the weights as they are, if it is time to; `epoch` counts parts of the running one.

        The end of an epoch is always kept, unless too much waits already.
        """
        now, is_end = perf_counter(), accuracy is not None
        if not is_end and now < self._last + self._every:
            return
        with self._ready:
            if self._waiting and len(self._waiting) * self._bytes > _MOST_BYTES:
                return
            frame = {"epoch": epoch, "loss": loss, "accuracy": accuracy}
            self._waiting.append((frame, self._model.get_weights()))
            self._ready.notify()
        self._last, self._taken = now, self._taken + 1
        if self._taken % _MOST == 0:
            self._every *= 2

    def end(self) -> None:
        """Make the pictures that are left, and return when they are made."""
        with self._ready:
            self._ended = True
            self._ready.notify()
        self._thread.join()

    def _work(self) -> None:
        from threadpoolctl import ThreadpoolController

        blas, started, spent = ThreadpoolController(), perf_counter(), 0.0
        while True:
            with self._ready:
                # a share of the time that has passed, so that pictures never slow the training
                self._ready.wait_for(lambda: self._ended or bool(self._waiting))
                while not self._ended and spent > _SHARE * (perf_counter() - started):
                    self._ready.wait(max(0.01, spent / _SHARE - (perf_counter() - started)))
                if not self._waiting:
                    if self._ended:
                        return
                    continue
                frame, weights = self._waiting.popleft()
            began = perf_counter()
            # BLAS' threads, once they have worked, keep their cores for a while
            with blas.limit(limits=1, user_api="blas"):
                self._shown.set_weights(weights)
                self._publish(frame | pictures(self._shown, self._data))
            spent += perf_counter() - began


def pictures(model: MLP, data: Dataset) -> dict[str, Any]:
    """Return pictures of a network on images, fit for JSON; nothing for other data.

    Returns
    -------
    dict
        ``units`` and, if the activation has an inverse, ``backquery``, grey images in base64;
        ``mistakes`` among the first test samples, and in words how many are ``wrong``.
    """
    if data.image_shape is None or not all(np.isfinite(w).all() for w in model.get_weights()):
        return {}
    chosen = list(range(min(_UNITS, model.sizes[1])))
    made: dict[str, Any] = {"units": _grey((incoming_weights(model, chosen).scaled + 1) / 2)}
    with suppress(ValueError):  # an activation without an inverse
        values = backquery(model, value_range=data.value_range).values
        least, most = (f(values, axis=1, keepdims=True) for f in (np.nanmin, np.nanmax))
        made["backquery"] = _grey((values - least) / np.where(most > least, most - least, 1))
    x, labels = data.test_x[:_TESTED], data.test_y[:_TESTED]
    answers = np.asarray(model.predict(x))
    wrong = np.flatnonzero(answers != labels)
    low, high = data.value_range
    shown = [
        {
            "image": _grey((x[i].astype(np.float64) - low) / ((high - low) or 1.0)),
            "label": int(labels[i]),
            "answer": int(answers[i]),
        }
        for i in wrong[:_WRONG]
    ]
    return made | {"mistakes": shown, "wrong": f"{len(wrong):,} of {len(answers):,}"}


def about(data: Dataset, title: str, units: int) -> dict[str, Any]:
    """Return what a page must know of a training before its first frame."""
    fields: dict[str, Any] = {"title": title, "classes": [str(label) for label in data.classes]}
    if data.image_shape is not None:
        fields |= {"shape": list(data.image_shape), "units": min(_UNITS, units), "of": units}
    return fields


def _grey(values: np.ndarray) -> str:
    """Pack numbers from 0 to 1 as bytes in base64."""
    levels = np.rint(255 * np.clip(np.nan_to_num(values), 0, 1)).astype(np.uint8)
    return base64.b64encode(levels.tobytes()).decode()

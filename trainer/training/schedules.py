"""Learning rates that change from update to update, by name."""

from __future__ import annotations

import math
from collections.abc import Callable

# of Smith and Topin's one cycle: the fraction that rises, and the ratios that it starts and ends at
_UP, _START, _END = 0.3, 25.0, 1e4


def schedule(
    name: str, rate: float, updates: int, updates_per_epoch: int, warmup: float = 0.0
) -> Callable[[int], float]:
    """Return the learning rate of every update of a training, as a function of its number from 0.

    The name is that of its shape, whose largest rate is `rate`:

    - ``"constant"``;
    - ``"cosine"``: η/2 (1 + cos πt/T), from the rate to 0 (Loshchilov and Hutter 2017, SGDR, eq. 5,
      without restarts);
    - ``"one-cycle"``: from 1/25 of the rate up to it in three tenths of the updates, then down to
      1/250,000 of it, both along a cosine (Smith and Topin 2018; the numbers of fast.ai);
    - ``"step:FACTOR/EPOCHS"``: multiplied by the factor every so many epochs. With
      ``"step:0.9914/1"`` Cireşan et al.'s (2010) 10⁻³ becomes their 10⁻⁶ in 800 epochs.

    In the first fraction `warmup` of the updates, from 0 to below 1, the rate rises evenly to its
    value; then the schedule begins (Goyal et al. 2017, section 2.2). Raise ValueError if there is
    no such schedule, or warmup is out of range.
    """
    if not 0 <= warmup < 1:
        raise ValueError(f"warmup={warmup}: expected a fraction of the updates, from 0 to below 1")
    rising = math.ceil(warmup * updates)
    after = _after(name, rate, updates - rising, updates_per_epoch)
    if name == "one-cycle" and warmup:
        raise ValueError(f"warmup={warmup}: schedule='one-cycle' has its own; omit it")
    return lambda t: rate * (t + 1) / rising if t < rising else after(t - rising)


def _after(name: str, rate: float, updates: int, updates_per_epoch: int) -> Callable[[int], float]:
    if name == "constant":
        return lambda t: rate
    if name == "cosine":
        return lambda t: _cosine(rate, 0.0, t / updates)
    if name == "one-cycle":
        top = max(1.0, _UP * updates - 1)
        down = max(1.0, updates - 1 - top)

        def cycle(t: int) -> float:
            if t <= top:
                return _cosine(rate / _START, rate, t / top)
            return _cosine(rate, rate / _START / _END, (t - top) / down)

        return cycle
    factor, epochs = _steps(name)
    return lambda t: rate * factor ** (t // (updates_per_epoch * epochs))


def _cosine(start: float, end: float, progress: float) -> float:
    """Return the value between start and end, along half a cosine, at a progress from 0 to 1."""
    return end + (start - end) * (1 + math.cos(math.pi * min(1.0, progress))) / 2


def _steps(name: str) -> tuple[float, int]:
    kind, _, text = str(name).partition(":")
    factor, _, epochs = text.partition("/")
    try:
        if kind == "step" and 0 < float(factor) <= 1 and int(epochs) > 0:
            return float(factor), int(epochs)
    except ValueError:
        pass
    raise ValueError(
        f"schedule={name!r} is unknown: expected constant, cosine, one-cycle or step:FACTOR/EPOCHS"
        " such as step:0.5/10"
    )

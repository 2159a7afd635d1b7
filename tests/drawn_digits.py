"""Digits as a person draws them: strokes through points, each time a little different."""

from __future__ import annotations

import numpy as np


def _arc(x: float, y: float, a: float, b: float, start: float, end: float) -> list[list[float]]:
    turn = np.linspace(np.radians(start), np.radians(end), 16)
    return np.column_stack([x + a * np.cos(turn), y + b * np.sin(turn)]).tolist()


# in a square from 0 to 1, y downwards; angles clockwise from the right
STROKES: dict[int, list[list[list[float]]]] = {
    0: [_arc(0.5, 0.5, 0.24, 0.36, -90, 270)],
    1: [[[0.38, 0.28], [0.52, 0.14], [0.52, 0.86]]],
    2: [[*_arc(0.48, 0.34, 0.22, 0.2, -170, 30), [0.3, 0.84], [0.75, 0.84]]],
    3: [[*_arc(0.46, 0.32, 0.2, 0.17, -150, 90), *_arc(0.46, 0.67, 0.24, 0.18, -90, 150)]],
    4: [[[0.58, 0.14], [0.24, 0.6], [0.8, 0.6]], [[0.6, 0.4], [0.6, 0.88]]],
    5: [[[0.7, 0.15], [0.36, 0.15], [0.32, 0.46], *_arc(0.47, 0.63, 0.23, 0.21, -125, 150)]],
    6: [[[0.62, 0.13], [0.42, 0.32], [0.32, 0.56], *_arc(0.5, 0.66, 0.19, 0.19, 180, 540)]],
    7: [[[0.25, 0.16], [0.74, 0.16], [0.56, 0.48], [0.44, 0.86]]],
    8: [[*_arc(0.5, 0.31, 0.17, 0.17, 90, -270), *_arc(0.5, 0.67, 0.21, 0.19, -90, 270)]],
    9: [[*_arc(0.48, 0.33, 0.19, 0.19, 0, -360), [0.66, 0.5], [0.6, 0.86]]],
}


def drawn(digit: int, seed: int) -> list[np.ndarray]:
    """Return the strokes of a digit, (points, 2) from 0 to 1: slanted, resized, moved, shaky."""
    rng = np.random.default_rng([digit, seed])
    slant, size = rng.normal(0, 0.12), rng.uniform(0.6, 1.0, 2)
    turn = np.array([[size[0], 0], [slant * size[1], size[1]]])
    middle = 0.5 + rng.uniform(-0.08, 0.08, 2)
    strokes = []
    for stroke in STROKES[digit]:
        shaken = (np.array(stroke) - 0.5) @ turn + middle + rng.normal(0, 0.006, (len(stroke), 2))
        strokes.append(np.clip(shaken, 0.03, 0.97))
    return strokes

"""Initial weights by name, drawn on the host so that every device starts alike."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

NAMES = ("hidden", "fan_in", "glorot", "he", "orthogonal", "uniform:R")
_LARGEST = 1e38  # what float32 still holds


def initial_weights(sizes: Sequence[int], init: str, rng: Any) -> list[Any]:
    """Draw the weight matrices of a network.

    Parameters
    ----------
    sizes : sequence of int
        Units of every layer, inputs first.
    init : str
        - ``"hidden"``: normal, standard deviation fan_out^-½ for every layer but the last and
          fan_in^-½ for the last: the lessons' hidden^-½ for both of their matrices;
        - ``"fan_in"``: normal, fan_in^-½ (Rashid, *Make Your Own Neural Network*, 2016);
        - ``"glorot"``: uniform, ±√(6 / (fan_in + fan_out)) (Glorot and Bengio 2010, eq. 16);
        - ``"he"``: normal, √(2 / fan_in) (He et al. 2015, eq. 10);
        - ``"orthogonal"``: orthonormal columns, or rows where there are fewer of them, drawn
          uniformly from all such matrices, with gain 1: all singular values are 1 (Saxe,
          McClelland and Ganguli 2014);
        - ``"uniform:R"``: uniform, ±R (Ng's exercise 4 takes 0.12).
    rng : numpy.random.Generator
        From `Backend.rng`.

    Returns
    -------
    list of float64 host arrays, each of shape (fan_in, fan_out)

    Raises
    ------
    ValueError
        If there is no such initialiser.
    """
    kind, colon, argument = str(init).partition(":")
    radius = _positive(argument) if kind == "uniform" else None
    if radius is None and (colon or kind not in NAMES):
        names = ", ".join(NAMES[:-1])
        raise ValueError(
            f"init={init!r} is unknown: expected {names} or uniform:R with 0 < R ≤ {_LARGEST:g}"
        )
    matrices = []
    for layer, (fan_in, fan_out) in enumerate(pairwise(sizes)):
        shape = (fan_in, fan_out)
        deviations = {
            "hidden": (fan_in if layer == len(sizes) - 2 else fan_out) ** -0.5,
            "fan_in": fan_in**-0.5,
            "he": (2 / fan_in) ** 0.5,
        }
        if kind in deviations:
            matrices.append(rng.normal(0.0, deviations[kind], shape))
        elif kind == "orthogonal":
            matrices.append(_orthogonal(rng.normal(size=(max(shape), min(shape))), shape))
        else:
            limit = (6 / (fan_in + fan_out)) ** 0.5 if radius is None else radius
            matrices.append(rng.uniform(-limit, limit, shape))
    return matrices


def _orthogonal(normal: Any, shape: tuple[int, int]) -> Any:
    """Q of the QR decomposition of a normal matrix, turned to the shape.

    With the signs that make R's diagonal positive, Q is distributed uniformly (Mezzadri, *How to
    Generate Random Matrices from the Classical Compact Groups*, 2007).
    """
    xp = normal.__array_namespace__()
    Q, R = xp.linalg.qr(normal)
    Q = Q * xp.sign(xp.linalg.diagonal(R))
    return Q if Q.shape == shape else xp.asarray(Q.T, order="C", copy=True)


def _positive(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if 0 < number <= _LARGEST else None

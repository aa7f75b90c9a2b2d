"""Transverse excursions: how far a stretch of the path bends away from its chord."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from lossatlas.diffusion.arrays import Array, Ints


@dataclass(frozen=True)
class Excursions:
    """Stretches A = x_a .. B = x_{a+l} and their largest distance from the line through A and B.

    Attributes:
        start: (n,) a.
        chord: (n,) |B - A|^2.
        excursion: (n,) largest squared distance from the line; NaN where A = B.
        place: (n,) j in 1 .. l of the largest one; -1 where A = B.
    """

    start: Ints
    chord: Array
    excursion: Array
    place: Ints


def transverse_excursions(
    distances: Array, length: int = 100, starts: ArrayLike | None = None
) -> Excursions:
    """Measure the excursions of stretches of `length` steps from pair distances alone.

    h^2 = D_AC - (D_AC + D_AB - D_BC)^2 / (4 D_AB) for each C = x_{a+j}, j = 1 .. l, clipped at 0:
    the distance from the infinite line, not from the chord, as in the authors'
    `transverse_excursion_avalanche_enviroment.m`, which needs the weights.

    Args:
        distances: (T, T) squared pair distances.
        length: l, steps of a stretch.
        starts: Starting points a; default every l-th, so that stretches do not overlap. The paper
            drew 50 of them at random: `random_starts`.

    Raises:
        ValueError: If a stretch does not fit into the window.
    """
    size = len(distances)
    if not 1 <= length < size:
        raise ValueError(f"a stretch of {length} steps does not fit into {size} points")
    begin = np.arange(0, size - length, length) if starts is None else np.asarray(starts)
    begin = begin.astype(np.int64)
    if not len(begin) or begin.min() < 0 or begin.max() + length >= size:
        raise ValueError(f"stretches must start in 0..{size - 1 - length}")
    inner = begin[:, None] + np.arange(1, length + 1)
    chord = distances[begin, begin + length]
    from_start = distances[begin[:, None], inner]
    from_end = distances[inner, (begin + length)[:, None]]
    with np.errstate(divide="ignore", invalid="ignore"):
        along = (from_start + chord[:, None] - from_end) ** 2 / (4 * chord[:, None])
    height = np.maximum(from_start - along, 0.0)
    open_ = chord > 0
    return Excursions(
        begin,
        chord,
        np.where(open_, height.max(axis=1), np.nan),
        np.where(open_, height.argmax(axis=1) + 1, -1),
    )


def random_starts(points: int, length: int, count: int, rng: np.random.Generator) -> Ints:
    """Draw starting points of stretches uniformly, with repetition (the paper: 50 of 100 steps).

    Raises:
        ValueError: If a stretch of `length` steps does not fit into the window.
    """
    if not 1 <= length < points:
        raise ValueError(f"a stretch of {length} steps does not fit into {points} points")
    return rng.integers(0, points - length, size=count)

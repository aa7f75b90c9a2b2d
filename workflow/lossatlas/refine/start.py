"""The coarse grid that a refinement starts from."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np


def evenly(count: int, kept: int, random: np.random.Generator | None = None) -> list[int]:
    """Return `kept` of `count` places, both ends among them, evenly spread or shaken by a half step."""
    places = np.linspace(0, count - 1, kept)
    if random is not None and kept > 2:
        step = places[1]
        places[1:-1] += random.uniform(-step / 2, step / 2, kept - 2)
    return sorted({int(place + 0.5) for place in places})


def kept_of(count: int) -> int:
    """Return how many values of an axis of `count` values the coarse grid keeps."""
    return min(count, max(2, round(count / 4) + 1))


def coarse(
    points: Sequence[Sequence[Any]], kept: int = 0, random: np.random.Generator | None = None
) -> list[int]:
    """Return the numbers of the cells of a coarse grid.

    Args:
        points: Axis values of each cell; of a grid that lacks cells, those that there are.
        kept: Values of each axis that are kept; 0: a quarter, and one more.
        random: Shakes the inner places; None: evenly.
    """
    axes = [sorted(set(values)) for values in zip(*points, strict=True)]
    inner = []
    for values in axes:
        places = evenly(len(values), min(len(values), kept) or kept_of(len(values)), random)
        inner.append([values[place] for place in places])
    at = {tuple(point): number for number, point in enumerate(points)}
    return [at[point] for point in product(*inner) if point in at]

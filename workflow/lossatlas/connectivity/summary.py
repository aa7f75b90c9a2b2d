"""One number for a path: definitions and signs. Needs no torch.

All take values e(t) at increasing places t from 0 to 1, and are NaN if any value is not finite.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import numpy as np

Reference = Literal["line", "mean"]


class Extremes(NamedTuple):
    """How far a path goes below and above its reference, in the unit of its values; both >= 0.

    Attributes:
        connectivity: `dip` if it is the larger of the two, else `-bump`. Negative: a barrier;
            about 0: well connected; positive: the path is better than its ends, which therefore
            have not converged.
        dip: How far the best point is below the reference.
        bump: How far the worst point is above it: the barrier.
    """

    connectivity: float
    dip: float
    bump: float


def extremes(t: np.ndarray, values: np.ndarray, reference: Reference = "line") -> Extremes:
    """Compare the values along a path with its ends.

    With d(t) = r(t) - e(t), t* is the place of the largest |d| (the first of equal ones), and
    `connectivity` is d(t*). Two references:

    - "mean": r = (e(0) + e(1)) / 2 (Yang et al., 2021, Eq. 4). Ends are candidates too, so two
      unequal ends give |e(0) - e(1)| / 2, with either sign, though nothing lies between them.
    - "line": r(t) = (1 - t) e(0) + t e(1), the better-founded one. d is 0 at both ends, so only
      the inside of the path counts, and unequal ends on a flat slope give 0. With equal ends
      both references agree.

    The single number hides the smaller extreme and jumps in sign where the two are about equal,
    hence `dip` and `bump`.

    Args:
        t: Places (T,), increasing, from 0 to 1.
        values: e(t), (T,), such as the training error in percent.
        reference: As above.

    Raises:
        ValueError: If shapes differ, there are fewer than 2 places, or they are not increasing
            from 0 to 1.
    """
    places, e = np.asarray(t, dtype=np.float64), np.asarray(values, dtype=np.float64)
    if places.ndim != 1 or places.shape != e.shape or len(places) < 2:
        raise ValueError(f"needs as many values as places, at least 2: {e.shape}, {places.shape}")
    if places[0] != 0 or places[-1] != 1 or np.any(np.diff(places) <= 0):
        raise ValueError("places must increase from 0 to 1")
    if not np.all(np.isfinite(e)):
        return Extremes(math.nan, math.nan, math.nan)
    flat = reference == "mean"
    base = (e[0] + e[-1]) / 2 if flat else (1 - places) * e[0] + places * e[-1]
    difference = base - e
    star = int(np.argmax(np.abs(difference)))
    found = (difference[star], max(difference.max(), 0.0), max(-difference.min(), 0.0))
    return Extremes(*(float(value) + 0.0 for value in found))  # + 0.0: never -0


def linear_barrier(t: np.ndarray, values: np.ndarray) -> float:
    """Return max over t of e(t) - ((1 - t) e(0) + t e(1)) along the straight line, >= 0.

    The error barrier of Frankle et al. (2020) and Entezari et al. (2022); 0 means linearly
    connected. The sign is the opposite of `mode_connectivity`, where barriers are negative.

    Args:
        t: As in `extremes`.
        values: As in `extremes`, of points on the straight line.

    Raises:
        ValueError: As `extremes`.
    """
    return extremes(t, values, "line").bump


class Statistics(NamedTuple):
    """Statistics of values along a path."""

    minimum: float
    maximum: float
    average: float
    integral: float


def statistics(values: np.ndarray, steps: np.ndarray) -> Statistics:
    """Return minimum, maximum, plain mean, and mean weighted by arc length (trapezoids).

    As in Garipov et al. (2018). The integral is NaN on a path of length 0.

    Args:
        values: (T,).
        steps: Lengths (T - 1,) of the steps from each point to the next.

    Raises:
        ValueError: If there is not one step fewer than values.
    """
    e, lengths = np.asarray(values, dtype=np.float64), np.asarray(steps, dtype=np.float64)
    if e.ndim != 1 or lengths.shape != (len(e) - 1,):
        raise ValueError(f"{len(e)} values need {len(e) - 1} steps, not {lengths.shape}")
    total = lengths.sum()
    integral = float(((e[:-1] + e[1:]) / 2) @ lengths / total) if total > 0 else math.nan
    return Statistics(float(e.min()), float(e.max()), float(e.mean()), integral)

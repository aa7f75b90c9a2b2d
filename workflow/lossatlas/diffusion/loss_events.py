"""Avalanches of the loss: runs of large changes between steps, and what surrounds them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from lossatlas.diffusion.arrays import Array, Ints, finite


@dataclass(frozen=True)
class Avalanches:
    """Maximal runs of steps with a_t = |L_{t+1} - L_t| above a threshold.

    Attributes:
        change: (T - 1,) a_t.
        threshold: Largest change that is not part of an avalanche.
        start: (n,) first step of each run.
        length: (n,) steps of each run (its duration).
        peak: (n,) step of the largest change in the run; the first one among equals.
        size: (n,) sum of the changes in the run.
    """

    change: Array
    threshold: float
    start: Ints
    length: Ints
    peak: Ints
    size: Array


@dataclass(frozen=True)
class Surroundings:
    """What follows the peaks of the longest avalanches.

    Attributes:
        peak: (k,) steps of the peaks, longest avalanche first, the earlier one among equals.
        loss: (k, span) loss from the peak on.
        change: (k, span) its absolute changes; NaN past the end of the window.
        contour: (k, span) path length from the peak on, or None without step lengths.
        wanted: How many were asked for; k is smaller if there are fewer avalanches.
    """

    peak: Ints
    loss: Array
    change: Array
    contour: Array | None
    wanted: int


def avalanches(
    loss: ArrayLike, threshold: float | None = None, *, leave_out: int = 0
) -> Avalanches:
    """Find the avalanches of a loss curve, as `SGD_analysis_step_level.m` defines them.

    Args:
        loss: (T,) loss at each step.
        threshold: Default the sample standard deviation (N - 1 norm) of all a_t. A constant loss
            has no avalanches.
        leave_out: Changes at the end of the window in which no run counts (they still enter the
            threshold); a run that reaches into them is cut.

    Raises:
        ValueError: If the loss has fewer than 3 entries or one is not finite, or nothing is left.
    """
    change = np.abs(np.diff(finite(loss, "the loss", least=3)))
    if not 0 <= leave_out < len(change):
        raise ValueError(f"cannot leave out {leave_out} of {len(change)} changes")
    level = float(change.std(ddof=1)) if threshold is None else threshold
    above = (change > level)[: len(change) - leave_out]
    edges = np.diff(np.concatenate([[0], above.astype(np.int8), [0]]))
    start, end = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    runs = [change[a:b] for a, b in zip(start, end, strict=True)]
    peak = np.array([a + run.argmax() for a, run in zip(start, runs, strict=True)], dtype=np.int64)
    size = np.array([run.sum() for run in runs], dtype=np.float64)
    return Avalanches(change, level, start, end - start, peak, size)


def surroundings(
    loss: ArrayLike, steps: ArrayLike | None = None, *, count: int = 5, span: int = 51
) -> Surroundings:
    """Return loss, its changes and path length after the peaks of the longest avalanches.

    Defaults are the authors': 5 avalanches, 51 points, none in the last 50 changes.

    Args:
        loss: (T,) loss at each point.
        steps: (T - 1,) squared step lengths, see `gram.Path`.
        count: How many of the longest avalanches.
        span: Points from the peak on.

    Raises:
        ValueError: If the loss is shorter than span + 2 or not finite, or `steps` does not match.
    """
    values = finite(loss, "the loss", least=span + 2)
    found = avalanches(values, leave_out=span - 1)
    peak = found.peak[np.argsort(-found.length, kind="stable")[:count]]
    place = peak[:, None] + np.arange(span)
    contour = None
    if steps is not None:
        lengths = np.sqrt(finite(steps, "the squared step lengths"))
        if len(lengths) != len(values) - 1:
            raise ValueError(f"{len(values)} points need {len(values) - 1} squared step lengths")
        reached = np.append(0.0, np.cumsum(lengths))
        contour = reached[place] - reached[peak][:, None]
    change = np.append(found.change, np.nan)
    return Surroundings(peak, values[place], change[place], contour, count)

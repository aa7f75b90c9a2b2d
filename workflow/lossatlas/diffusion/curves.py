"""Averaged curves with block-bootstrap errors."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lossatlas.diffusion.arrays import Array, Bools, Ints

REPLICATES = 200
BLOCKS = 5  # of a window: as long as lags are reliable, so that pairs of two blocks hardly overlap
_ROUNDING = 1e-13  # relative spread below which replicates count as equal


@dataclass(frozen=True)
class Curve:
    """An average over pairs of points, as a function of lag, contour length or distance.

    Attributes:
        x: (n,) lag in steps, contour length or distance; increasing.
        y: (n,) averages; NaN where there is nothing to average.
        stderr: (n,) standard errors over the replicates; NaN without replicates.
        count: (n,) pairs behind each average.
        reliable: (n,) False where most pairs lie more than T / 4 steps apart: few independent
            stretches of the window remain and slopes are biased.
        replicates: (R, n) the curve recomputed on resampled blocks; (0, n) without errors.
        df: Degrees of freedom of the errors: one fewer than the blocks; NaN without errors.
    """

    x: Array
    y: Array
    stderr: Array
    count: Ints
    reliable: Bools
    replicates: Array
    df: float = math.nan


def block_length(points: int, block: int | None) -> int:
    """Return the length of bootstrap blocks in steps; default a fifth of the window.

    Pairs that start in one block end in the next where the lag is longer than a block. Measured on
    random walks (docs/uncertainty.md), ten blocks make errors too small at the lags of the fits.

    Raises:
        ValueError: If fewer than 2 blocks fit.
    """
    length = max(-(-points // BLOCKS), 1) if block is None else block
    if length < 1 or -(-points // length) < 2:
        raise ValueError(f"blocks of {length} steps do not divide {points} points into 2 or more")
    return length


def curve_of_blocks(
    x: Array,
    sums: Array,
    counts: Array,
    reliable: Bools,
    rng: np.random.Generator | None,
    replicates: int = REPLICATES,
) -> Curve:
    """Return the averages with errors from resampling blocks of the window.

    Blocks are stretches of starting points. Each replicate draws B - 1 of the B blocks with
    replacement, which makes the variance of a mean unbiased (Efron 1982, section 5.7). Averages at
    lags beyond the block length share pairs between blocks, and their errors come out too small. So
    few blocks want Student's t with `df`. Blocks know nothing of what changes along the window: in
    the first steps of training their errors are many times too large, and replicas tell more.

    Args:
        x: (n,) abscissae.
        sums: (B, n) sum of the quantity over the pairs that start in each block.
        counts: (B, n) the number of these pairs.
        reliable: (n,) see `Curve`.
        rng: Draws the blocks; None: no replicates and NaN errors.
        replicates: How many.
    """
    total = counts.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        y = sums.sum(axis=0) / total
        df = math.nan
        if rng is None or len(sums) < 2:
            drawn = np.empty((0, len(y)))
        else:
            df = len(sums) - 1.0
            size = len(sums)
            weights = rng.multinomial(size - 1, np.full(size, 1 / size), size=replicates)
            drawn = (weights @ sums) / (weights @ counts)
    return Curve(x, y, spread(drawn), total.astype(np.int64), reliable, drawn, df)


def spread(replicates: Array) -> Array:
    """Return the standard deviation of (R, ...) replicates over the defined ones.

    NaN for fewer than 2, and for equal ones: no error is 0.
    """
    defined = np.isfinite(replicates)
    count = defined.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.where(defined, replicates, 0.0).sum(axis=0) / count
        squares = np.where(defined, replicates - mean, 0.0) ** 2
        deviation = np.sqrt(squares.sum(axis=0) / (count - 1))
    varies = deviation > _ROUNDING * np.abs(mean)
    return np.where((count > 1) & varies, deviation, np.nan)

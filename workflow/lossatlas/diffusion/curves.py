"""Averaged curves with block-bootstrap errors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lossatlas.diffusion.arrays import Array, Bools, Ints

REPLICATES = 200


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
    """

    x: Array
    y: Array
    stderr: Array
    count: Ints
    reliable: Bools
    replicates: Array


def block_length(points: int, block: int | None) -> int:
    """Return the length of bootstrap blocks in steps; default a tenth of the window.

    Raises:
        ValueError: If fewer than 2 blocks fit.
    """
    length = max(points // 10, 1) if block is None else block
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
    lags beyond the block length share pairs between blocks, and their errors come out too small.

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
        if rng is None or len(sums) < 2:
            drawn = np.empty((0, len(y)))
        else:
            size = len(sums)
            weights = rng.multinomial(size - 1, np.full(size, 1 / size), size=replicates)
            drawn = (weights @ sums) / (weights @ counts)
    return Curve(x, y, spread(drawn), total.astype(np.int64), reliable, drawn)


def spread(replicates: Array) -> Array:
    """Return the standard deviation of (R, ...) replicates over the defined ones; NaN if < 2."""
    defined = np.isfinite(replicates)
    count = defined.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.where(defined, replicates, 0.0).sum(axis=0) / count
        squares = np.where(defined, replicates - mean, 0.0) ** 2
        deviation = np.sqrt(squares.sum(axis=0) / (count - 1))
    return np.where(count > 1, deviation, np.nan)

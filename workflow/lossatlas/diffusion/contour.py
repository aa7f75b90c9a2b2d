"""Displacement and loss difference against contour length and distance.

Mode `fixed` averages over logarithmic bins and takes the mean of the squared loss difference. Mode
`paper` averages pairs whose key is exactly equal, counts the step that enters the first point of a
pair to its contour length, and takes the square of the mean loss difference, as the authors'
`get_contour_lenth_MSD_loss.m` does.
The paper's single precision is not imitated.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from lossatlas.diffusion.arrays import Array, Ints, Mode, finite
from lossatlas.diffusion.curves import REPLICATES, Curve, block_length, curve_of_blocks
from lossatlas.diffusion.gram import Path, squared_distances

BINS_PER_DECADE = 10
ROUNDING = 1e-14  # of squared distances from a Gram matrix, as a share of the largest


def contour_lengths(path: Path, mode: Mode = "fixed") -> Array:
    """Return S (T, T): the length of the path from x_i to x_j for i < j, 0 elsewhere.

    `fixed`: S_ij = sum of |x_{m+1} - x_m| for m = i .. j - 1. `paper`: the same plus
    |x_i - x_{i-1}| for i > 0.
    """
    lengths = np.sqrt(path.steps)
    reached = np.append(0.0, np.cumsum(lengths))
    before = reached if mode == "fixed" else reached - np.append(0.0, lengths)
    return np.triu(reached - before[:, None], 1)


def mean_contour_length(path: Path, mode: Mode = "fixed") -> Array:
    """Return the contour length averaged over all pairs at each lag 1 .. T - 1, (T - 1,)."""
    lengths = contour_lengths(path, mode)
    return np.array([np.diagonal(lengths, lag).mean() for lag in range(1, len(path))])


def msd_against_contour(
    path: Path,
    mode: Mode = "fixed",
    *,
    rng: np.random.Generator | None = None,
    block: int | None = None,
    replicates: int = REPLICATES,
    bins_per_decade: int = BINS_PER_DECADE,
) -> Curve:
    """Average squared displacement over pairs of about equal contour length (Fig. 3c).

    Exponent 2 is a straight path, 1 a random walk; 2 / exponent is the dimension of the path.

    Args:
        path: T points.
        mode: See the module; in `paper` one point per distinct length, no errors.
        rng: For errors; None: no errors.
        block: Steps per bootstrap block; default T / 5.
        replicates: Bootstrap replicates.
        bins_per_decade: Of the contour length.
    """
    lengths, distances = contour_lengths(path, mode), squared_distances(path)
    if mode == "paper":
        return grouped_pairs(lengths, distances)
    return binned_pairs(lengths, distances, rng, block, replicates, bins_per_decade)


def msl_against_contour(
    path: Path,
    loss: ArrayLike,
    mode: Mode = "fixed",
    *,
    rng: np.random.Generator | None = None,
    block: int | None = None,
    replicates: int = REPLICATES,
    bins_per_decade: int = BINS_PER_DECADE,
) -> Curve:
    """Average squared loss difference over pairs of about equal contour length.

    Args:
        path: T points.
        loss: (T,) loss at each point. The mini-batch loss logged at a step belongs to the weights
            before it.
        mode: See the module.
        rng: For errors; None: no errors.
        block: Steps per bootstrap block; default T / 5.
        replicates: Bootstrap replicates.
        bins_per_decade: Of the contour length.

    Raises:
        ValueError: If the loss has another length or is not finite.
    """
    differences = _loss_differences(loss, len(path))
    lengths = contour_lengths(path, mode)
    if mode == "paper":
        return grouped_pairs(lengths, differences, square_of_mean=True)
    return binned_pairs(lengths, np.square(differences), rng, block, replicates, bins_per_decade)


def msl_against_distance(
    path: Path,
    loss: ArrayLike,
    mode: Mode = "fixed",
    *,
    rng: np.random.Generator | None = None,
    block: int | None = None,
    replicates: int = REPLICATES,
    bins_per_decade: int = BINS_PER_DECADE,
) -> Curve:
    """Average squared loss difference over pairs at about equal distance (Fig. 3a).

    At short distance it tends to twice the variance of the mini-batch loss and not to 0. Arguments
    and errors as in `msl_against_contour`.
    """
    differences = _loss_differences(loss, len(path))
    squares = squared_distances(path)
    if mode == "paper":
        ties = ROUNDING * float(squares.max())
        found = grouped_pairs(squares, differences, tolerance=ties, square_of_mean=True)
        return replace(found, x=np.sqrt(found.x))
    keys = np.where(squares > ROUNDING * squares.max(), np.sqrt(squares), 0.0)
    return binned_pairs(keys, np.square(differences), rng, block, replicates, bins_per_decade)


def grouped_pairs(
    keys: Array, values: Array, *, tolerance: float = 0.0, square_of_mean: bool = False
) -> Curve:
    """Average values over the pairs i < j whose keys are equal.

    Args:
        keys: (T, T); the upper triangle counts.
        values: (T, T) likewise.
        tolerance: Keys that differ by no more than this from the next smaller one are equal.
        square_of_mean: Return the squared average, as the authors' code does for the loss.

    Returns:
        One point per distinct key, without errors. x is the smallest key of a group.
    """
    first, second = np.triu_indices(len(keys), 1)
    key, value = keys[first, second], values[first, second]
    order = np.argsort(key, kind="stable")
    key, value = key[order], value[order]
    starts = np.append(0, 1 + np.flatnonzero(np.diff(key) > tolerance))
    counts = np.diff(np.append(starts, len(key)))
    means = np.add.reduceat(value, starts) / counts
    near = (second - first)[order] <= len(keys) / 4
    reliable = np.add.reduceat(near.astype(np.int64), starts) * 2 >= counts
    y = np.square(means) if square_of_mean else means
    none = np.empty((0, len(y)))
    return Curve(key[starts], y, np.full(len(y), np.nan), counts, reliable, none)


def binned_pairs(
    keys: Array,
    values: Array,
    rng: np.random.Generator | None = None,
    block: int | None = None,
    replicates: int = REPLICATES,
    bins_per_decade: int = BINS_PER_DECADE,
) -> Curve:
    """Average values over the pairs i < j in logarithmic bins of their key.

    Pairs with key 0 (a revisited point) belong to no bin and are left out; so are empty bins. If
    all keys are 0, the curve has no points.

    Args:
        keys: (T, T) >= 0; the upper triangle counts.
        values: (T, T) likewise.
        rng: For errors; None: no errors.
        block: Starting points i per bootstrap block; default T / 5.
        replicates: Bootstrap replicates.
        bins_per_decade: Bins per factor of 10 of the key.

    Returns:
        x is the mean key of a bin.
    """
    size = len(keys)
    length = size if rng is None else block_length(size, block)
    upper = keys[np.triu_indices(size, 1)]
    positive = upper[upper > 0]
    if not len(positive):
        nothing = np.empty(0)
        return Curve(nothing, nothing, nothing, nothing.astype(np.int64),
                     nothing.astype(np.bool_), np.empty((0, 0)))  # fmt: skip
    low, high = np.log10(positive.min()), np.log10(positive.max())
    bins = max(int(np.ceil((high - low) * bins_per_decade)), 1)
    scale = bins / (high - low) if high > low else 0.0
    rows = []
    for first in range(0, size, length):
        start, end = _pairs_from(first, min(first + length, size), size)
        key, value = keys[start, end], values[start, end]
        kept = key > 0
        place = ((np.log10(key[kept]) - low) * scale).astype(np.int64).clip(0, bins - 1)
        near = (end - start)[kept] <= size / 4
        rows.append([
            np.bincount(place, weights, bins) for weights in (value[kept], None, key[kept], near)
        ])  # fmt: skip
    sums, counts, key_sums, near_counts = np.swapaxes(np.array(rows, dtype=np.float64), 0, 1)
    total = counts.sum(axis=0)
    full = total > 0
    x = key_sums.sum(axis=0)[full] / total[full]
    reliable = near_counts.sum(axis=0)[full] * 2 >= total[full]
    return curve_of_blocks(x, sums[:, full], counts[:, full], reliable, rng, replicates)


def _pairs_from(first: int, end: int, size: int) -> tuple[Ints, Ints]:
    rows, columns = np.triu_indices(end - first, 1 + first, size)
    return rows + first, columns


def _loss_differences(loss: ArrayLike, size: int) -> Array:
    """Return L_j - L_i (T, T)."""
    values = finite(loss, "the loss")
    if len(values) != size:
        raise ValueError(f"the loss has {len(values)} entries for {size} points")
    return values - values[:, None]

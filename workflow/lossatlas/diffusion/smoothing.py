"""Coarse graining and moving averages, as the figures of the paper use them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike

from lossatlas.diffusion.arrays import Array, finite

_PIECE = 8192  # windows that are summed at a time


def coarse_grain(x: ArrayLike, y: ArrayLike, bins: int = 50) -> tuple[Array, Array]:
    """Average y in bins of equal width between the smallest and the largest x (Fig. 3a).

    As in the authors' code, a bin excludes its upper edge and so the largest x is lost; an empty
    bin is NaN.

    Args:
        x: (n,) abscissae.
        y: (n,) values.
        bins: How many bins.

    Returns:
        Mid points and means, (bins,) each.

    Raises:
        ValueError: If lengths differ, values are not finite, or all x are equal.
    """
    keys, values = finite(x, "x"), finite(y, "y")
    if len(keys) != len(values):
        raise ValueError(f"x and y have {len(keys)} and {len(values)} entries")
    if bins < 1 or keys.min() == keys.max():
        raise ValueError("coarse graining needs at least 1 bin and two different x")
    edges = np.linspace(keys.min(), keys.max(), bins + 1)
    place = np.searchsorted(edges, keys, side="right") - 1
    inside = place < bins
    sums = np.bincount(place[inside], weights=values[inside], minlength=bins)
    counts = np.bincount(place[inside], minlength=bins)
    means = np.full(bins, np.nan)
    np.divide(sums, counts, out=means, where=counts > 0)
    return (edges[1:] + edges[:-1]) / 2, means


def moving_mean(values: ArrayLike, before: int = 40, after: int = 400) -> Array:
    """Return the mean of each entry with `before` previous and `after` following ones (Fig. 3c).

    The window shrinks at both ends. Defaults are the authors'; the asymmetry moves
    features to larger x.

    Args:
        values: (n,) values in order.
        before: Entries before.
        after: Entries after.

    Raises:
        ValueError: If a width is negative or a value is not finite.
    """
    pieces = _padded_windows(finite(values, "values"), before, after)
    return np.concatenate([np.nansum(windows, axis=1) / counts for windows, counts in pieces])


def moving_variance(loss: ArrayLike, before: int = 0, after: int = 100) -> Array:
    """Return the variance (N - 1 norm) of the loss in a window around each step (Fig. 5f).

    The window shrinks at both ends; a window of one step has variance 0. Defaults are the
    authors': 101 steps forward (`plot_fig5.m`).

    Args:
        loss: (n,) mini-batch loss at each step.
        before: Steps before.
        after: Steps after.

    Raises:
        ValueError: If a width is negative or a loss is not finite.
    """
    found = []
    for windows, counts in _padded_windows(finite(loss, "the loss"), before, after):
        means = np.nansum(windows, axis=1) / counts
        squares = np.nansum(np.square(windows - means[:, None]), axis=1)
        found.append(squares / np.maximum(counts - 1, 1))
    return np.concatenate(found)


def _padded_windows(values: Array, before: int, after: int) -> Iterator[tuple[Array, Array]]:
    """Yield windows (m, before + 1 + after) padded with NaN, and the entries in each, in pieces.

    The pairs of a window of 1000 steps have 500,000 windows, too many to hold at once.
    """
    if before < 0 or after < 0:
        raise ValueError(f"a window reaches {before} back and {after} ahead; both must be >= 0")
    padded = np.concatenate([np.full(before, np.nan), values, np.full(after, np.nan)])
    windows = sliding_window_view(padded, before + 1 + after)
    place = np.arange(len(values))
    counts = np.minimum(place, before) + 1.0 + np.minimum(place[::-1], after)
    for first in range(0, len(values), _PIECE):
        yield windows[first : first + _PIECE], counts[first : first + _PIECE]

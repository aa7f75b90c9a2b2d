"""Estimates with standard errors, degrees of freedom and intervals. Needs no torch.

All standard errors that tables and figures show are made here, or are the spread of replicates with
the degrees of freedom beside it, and `half_width` makes all intervals. The replicas of a cell are
the sample: errors say how far a mean over a few seeds may lie from that over all seeds, on these
data.

An error that cannot be had (one replica, equal numbers) is NaN and never 0.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri, stdtrit

LEVEL = 0.95  # of intervals, unless another is asked for
_ROUNDING = 16 * np.finfo(np.float64).eps  # relative spread below which numbers count as equal

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A number and how sure it is.

    Attributes:
        value: The estimate; NaN if there is none.
        stderr: Its standard error; NaN if it cannot be had.
        df: Degrees of freedom of `stderr`, for Student's t; 0 where there is nothing to compare.
        count: Numbers that entered.
    """

    value: float
    stderr: float = math.nan
    df: float = 0.0
    count: int = 0

    @property
    def status(self) -> str:
        """Say whether the standard error is known: `ok` or `undefined`."""
        return "ok" if math.isfinite(self.stderr) else "undefined"

    def interval(self, level: float = LEVEL) -> tuple[float, float]:
        """Return the ends of the interval that covers with probability `level`; NaN if unknown."""
        reach = float(half_width(self.stderr, self.df, level))
        return self.value - reach, self.value + reach


def half_width(stderr: ArrayLike, df: ArrayLike, level: float = LEVEL) -> Floats:
    """Return half the width of intervals: the quantile of Student's t times the standard error.

    Args:
        stderr: Standard errors, any shape.
        df: Degrees of freedom; infinite for the normal law. NaN errors and fewer than one degree
            give NaN.
        level: Probability of covering.
    """
    errors, degrees = np.asarray(stderr, np.float64), np.asarray(df, np.float64)
    known = np.where(degrees > 0, degrees, np.nan)
    return np.asarray(errors * stdtrit(known, (1 + level) / 2))


def mean(values: ArrayLike) -> Estimate:
    """Return the mean of independent numbers (n,): error s / sqrt(n), n - 1 degrees of freedom."""
    numbers = np.asarray(values, np.float64)
    count = len(numbers)
    if not count:
        return Estimate(math.nan)
    value = float(numbers.mean())
    if count == 1 or _equal(numbers):
        return Estimate(value, math.nan, count - 1.0, count)
    return Estimate(value, float(numbers.std(ddof=1)) / math.sqrt(count), count - 1.0, count)


def mean_of_groups(values: ArrayLike, members: Sequence[Sequence[Hashable]]) -> Estimate:
    """Return the mean of numbers that each belong to a group of replicas, such as a pair.

    Groups share replicas, so their numbers are dependent. In the model y_g = m + sum of a_r over
    the replicas r of g + e_g, with independent a of variance A and e of variance E, two groups that
    share k replicas have the covariance k A, and E more for a group with itself. A and E follow
    from two sums of squares of the residuals by the method of moments, for any groups: all pairs
    (where this is the unbiased variance of a U-statistic of order 2), a chain of pairs, overlapping
    ensembles. Where the groups cannot tell A from E, as the three pairs of three replicas, all is
    put down to the replicas, as the jackknife over replicas does: too wide if it is the pairs' own.
    One that comes out negative is 0.

    Degrees of freedom are Satterthwaite's (1946), for normal numbers with these A and E: n - 1 for
    all pairs of n > 2 replicas that differ by a alone, at most the number of groups less one. They
    are estimates as well, and those below 2 are taken as 2 where the groups have two contrasts
    between replicas; intervals cover as they should, and are narrower (docs/uncertainty.md).

    Args:
        values: (g,) numbers.
        members: Replicas of each group; groups without any count as independent.
    """
    numbers = np.asarray(values, np.float64)
    count = len(numbers)
    incidence = _incidence(members)
    if count < 2 or _equal(numbers):
        df = 0.0 if count < 2 else float(_contrasts(incidence))
        return replace(mean(numbers), df=df)
    variance, df = _variance(numbers, incidence)
    stderr = math.sqrt(variance) if variance > 0 else math.nan
    return Estimate(float(numbers.mean()), stderr, df, count)


def proportion(
    successes: ArrayLike, trials: ArrayLike, level: float = LEVEL
) -> tuple[Floats, Floats]:
    """Return the ends of Wilson's (1927) intervals for the probability of a success.

    Args:
        successes: Counts, any shape.
        trials: Counts, at least 1, likewise.
        level: Probability of covering, approximately.
    """
    count = np.asarray(trials, np.float64)
    share, z = np.asarray(successes, np.float64) / count, float(ndtri((1 + level) / 2))
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * np.sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2)
    return middle - half, middle + half


def jackknife(whole: float, without: ArrayLike) -> Estimate:
    """Return a smooth statistic with its error from leaving out one replica at a time.

    sqrt((n - 1) / n sum of squares of the deviations) (Efron and Stein, 1981), n - 1 degrees of
    freedom.

    Args:
        whole: The statistic of all n replicas.
        without: (n,) the statistic without each of them.
    """
    found = np.asarray(without, np.float64)
    count = len(found)
    if count < 2 or not np.isfinite(found).all() or _equal(found):
        return Estimate(whole, math.nan, max(count - 1.0, 0.0), count)
    stderr = math.sqrt((count - 1) / count * float(np.square(found - found.mean()).sum()))
    return Estimate(whole, stderr, count - 1.0, count)


def logarithm(estimate: Estimate) -> Estimate:
    """Return the natural logarithm of a positive estimate, its error by the delta method."""
    if not estimate.value > 0:
        return replace(estimate, value=math.nan, stderr=math.nan)
    value, stderr = math.log(estimate.value), estimate.stderr / estimate.value
    return replace(estimate, value=value, stderr=stderr)


def _equal(numbers: Floats) -> bool:
    """Say whether numbers differ by rounding at most."""
    return bool(np.ptp(numbers) <= _ROUNDING * np.abs(numbers).max())


def _incidence(members: Sequence[Sequence[Hashable]]) -> Floats:
    """Return which replicas (columns) belong to which group (rows): 0 or 1.

    A group without replicas gets a column of its own.
    """
    named = [tuple(group) or (("alone", place),) for place, group in enumerate(members)]
    order = {name: place for place, name in enumerate(dict.fromkeys(n for g in named for n in g))}
    found = np.zeros((len(named), len(order)))
    for row, group in enumerate(named):
        found[row, [order[name] for name in group]] = 1
    return found


def _contrasts(incidence: Floats) -> int:
    if len(incidence) < 2:
        return 0
    return int(np.linalg.matrix_rank(incidence - incidence.mean(axis=0)))


def _variance(numbers: Floats, incidence: Floats) -> tuple[float, float]:
    """Return the variance of the mean of groups, and its df; see `mean_of_groups`."""
    count = len(numbers)
    centre = np.eye(count) - 1 / count
    covariances = (incidence @ incidence.T, np.eye(count))  # of A and of E
    forms = (centre @ covariances[0] @ centre, centre)  # of squares: of replicas' sums, of groups
    found = np.array([numbers @ form @ numbers for form in forms])
    expected = np.array([[np.sum(form * by) for by in covariances] for form in forms])
    of_mean = np.array([by.mean() for by in covariances])
    scale = np.linalg.norm(expected[0]) * np.linalg.norm(expected[1])
    one_for_all = abs(np.linalg.det(expected)) <= 1e-9 * scale
    parts = np.array([1.0, -1.0]) if one_for_all else np.linalg.solve(expected, found)
    if parts[1] < 0:  # all is A, or nothing tells it from E
        parts = np.array([found[0] / expected[0, 0], 0.0])
        weights = np.array([of_mean[0] / expected[0, 0], 0.0])
    elif parts[0] < 0:
        parts = np.array([0.0, found[1] / expected[1, 1]])
        weights = np.array([0.0, of_mean[1] / expected[1, 1]])
    else:
        weights = np.linalg.solve(expected.T, of_mean)
    form = weights[0] * forms[0] + weights[1] * forms[1]  # numbers @ form @ numbers: the variance
    spread = form @ (parts[0] * covariances[0] + parts[1] * covariances[1])
    df = float(np.trace(spread)) ** 2 / float(np.trace(spread @ spread))
    return float(of_mean @ parts), max(df, min(2.0, float(_contrasts(incidence))))

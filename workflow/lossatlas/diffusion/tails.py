"""Heavy tails: two tail-index estimators, power law against exponential, a scale-mixture null."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import scipy.special
from numpy.typing import ArrayLike

from lossatlas.diffusion.arrays import Array, finite
from lossatlas.diffusion.stable import LEAST, fit_by_characteristic


@dataclass(frozen=True)
class PowerLaw:
    """A power law p(x) ~ x^-exponent above a smallest value, and how it compares.

    Attributes:
        exponent: Maximum likelihood; NaN if undefined.
        stderr: (exponent - 1) / sqrt(n).
        smallest: x_min, where the tail starts.
        tail: Values in the tail.
        distance: Kolmogorov-Smirnov distance of the tail from the power law.
        ratio: Log likelihood of the power law less that of the exponential law; > 0 favours the
            power law.
        z: `ratio` over its standard deviation (Vuong 1989); NaN if it has none.
        p: Two-sided p of `ratio` being 0: below 0.05 where |z| > 1.96; large p: the data cannot
            tell.
        status: `undefined` with fewer than 10 distinct values, and of whole numbers.
    """

    exponent: float
    stderr: float
    smallest: float
    tail: int
    distance: float
    ratio: float
    z: float
    p: float
    status: Literal["ok", "undefined"]


@dataclass(frozen=True)
class MixtureNull:
    """The stable index of pooled entries against Gaussians of the same scales.

    Attributes:
        alpha: Index of the pooled entries.
        standardised_alpha: Index after each column is divided by its standard deviation; NaN with
            fewer than 50 entries of columns that vary.
        null_alpha: (m,) index of each surrogate pool of Gaussians with the columns' deviations.
        p: Share of surrogates with an index at most alpha, (k + 1) / (m + 1): large when mixing of
            scales alone explains the tail.
        status: `undefined` if no column varies.
    """

    alpha: float
    standardised_alpha: float
    null_alpha: Array
    p: float
    status: Literal["ok", "undefined"]


def tail_index_by_blocks(values: ArrayLike, block: int) -> float:
    """Estimate alpha from how sums of m rows grow: 1/alpha = (<ln|Y|> - <ln|X|>) / ln m.

    Y are the sums of consecutive blocks of m rows, |.| is the norm of a row (Mohammadi,
    Mohammadpour and Ogata 2015, Corollary 2.4). 2 for independent Gaussians in the
    limit of many blocks.

    Args:
        values: (N, d) or (N,) rows; N divisible by m. Columns should have mean 0.
        block: m > 1.

    Returns:
        NaN if a row or a sum is exactly 0 (its logarithm is not defined), or if sums are no larger
        than rows: consecutive rows then cancel, and no stable law grows like that.

    Raises:
        ValueError: If m does not divide N, or a value is not finite.
    """
    rows, sums = _log_norms(values, block)
    large, small = sums.mean(), rows.mean()
    if not np.isfinite([large, small]).all() or large <= small:
        return float("nan")
    return float(np.log(block) / (large - small))


def tail_index_by_order(values: ArrayLike, block: int, rank: int) -> float:
    """Estimate alpha from ordered norms: 1/alpha = (ln|Y|_(k) - ln|X|_(mk)) / ln m.

    Y as in `tail_index_by_blocks`; (k) is the k-th smallest, k = 1 .. N / m (Corollary 2.2 of the
    same paper).

    Args:
        values: (N, d) or (N,) rows; N divisible by m.
        block: m > 1.
        rank: k.

    Returns:
        NaN if one of the two norms is 0, or that of the sums is no larger.

    Raises:
        ValueError: If m does not divide N, k is out of range, or a value is not finite.
    """
    rows, sums = _log_norms(values, block)
    if not 1 <= rank <= len(sums):
        raise ValueError(f"the rank must lie in 1..{len(sums)}, not {rank}")
    large, small = np.sort(sums)[rank - 1], np.sort(rows)[block * rank - 1]
    if not np.isfinite([large, small]).all() or large <= small:
        return float("nan")
    return float(np.log(block) / (large - small))


_CONTINUOUS = 50.0  # x_min from which whole numbers are like continuous values, within 1 percent


def fit_power_law(
    values: ArrayLike, *, smallest: float | None = None, candidates: int = 100
) -> PowerLaw:
    """Fit a power-law tail and compare it with an exponential one (Clauset, Shalizi, Newman 2009).

    Args:
        values: (n,) values; those that are not positive are left out.
        smallest: x_min. Default: of at most `candidates` quantiles of the values, the one with the
            smallest Kolmogorov-Smirnov distance that leaves 10 or more values in the tail.
        candidates: See `smallest`.

    Returns:
        The fit; of whole numbers from an x_min below 50 with the status `undefined`: the formula is
        for continuous values, and gives exponents that are too large for such.

    Raises:
        ValueError: If a value is not finite, or `smallest` is not positive.
    """
    if smallest is not None and not smallest > 0:
        raise ValueError(f"x_min must be positive, not {smallest}")
    given = np.sort(finite(values, "the sample"))
    data = given[given > 0]
    distinct = np.unique(data)
    nothing = _undefined(0)
    if len(distinct) < 10:
        return nothing
    if smallest is not None:
        starts = np.array([smallest])
    else:
        usable = distinct[distinct <= data[-10]]
        picked = np.linspace(0, len(usable) - 1, min(candidates, len(usable)))
        starts = usable[np.rint(picked).astype(np.int64)]
    fits = [_power_law_above(data, float(start)) for start in starts]
    sound = [fit for fit in fits if fit.status == "ok"]
    if not sound:
        return nothing
    best = min(sound, key=lambda fit: fit.distance)
    counts = best.smallest < _CONTINUOUS and np.array_equal(data, np.rint(data))
    return replace(best, status="undefined") if counts else best


def scale_mixture_null(
    samples: ArrayLike, rng: np.random.Generator, *, surrogates: int = 20, entries: int = 5000
) -> MixtureNull:
    """Ask whether mixed scales alone explain the heavy tail of pooled gradient entries.

    A pool of Gaussians of different scales has stable indices below 2 as well.
    The null replaces each column (parameter or layer) by Gaussians of its standard deviation, and
    fits the pool in the same way.

    Args:
        samples: (n, p) repeated measurements of p quantities, for example n steps.
        rng: Draws the surrogates and the entries.
        surrogates: How many.
        entries: Entries drawn from each pool for the fit (the paper: 5000).

    Raises:
        ValueError: If there are fewer than 2 rows, fewer than 50 entries, or one is not finite.
    """
    data = finite(samples, "the samples", dimensions=2, least=2)
    centred = data - data.mean(axis=0)
    scale = centred.std(axis=0, ddof=1)
    if not (scale > 0).any():
        return MixtureNull(float("nan"), float("nan"), np.empty(0), float("nan"), "undefined")
    picks = rng.choice(data.size, min(entries, data.size), replace=False)
    pooled = centred.ravel()[picks]
    columns = picks % data.shape[1]
    varying = scale[columns] > 0
    alpha = fit_by_characteristic(pooled).law.alpha
    alone = float("nan")
    if varying.sum() >= LEAST:
        alone = fit_by_characteristic(pooled[varying] / scale[columns][varying]).law.alpha
    null = np.array([
        fit_by_characteristic(scale[columns] * rng.standard_normal(len(picks))).law.alpha
        for _ in range(surrogates)
    ])  # fmt: skip
    if not np.isfinite(alpha):
        return MixtureNull(alpha, alone, null, float("nan"), "undefined")
    p = (1 + int((null <= alpha).sum())) / (1 + surrogates)
    return MixtureNull(alpha, alone, null, p, "ok")


def _log_norms(values: ArrayLike, block: int) -> tuple[Array, Array]:
    """Return ln|X| (N,) and ln|Y| (N / m,); minus infinity where a norm is 0."""
    array = np.asarray(values, dtype=np.float64)
    rows = finite(array[:, None] if array.ndim == 1 else array, "the rows", dimensions=2)
    if block < 2 or len(rows) % block:
        raise ValueError(f"blocks of {block} rows do not divide {len(rows)} rows into blocks > 1")
    sums = rows.reshape(-1, block, rows.shape[1]).sum(axis=1)
    with np.errstate(divide="ignore"):
        return np.log(np.linalg.norm(rows, axis=1)), np.log(np.linalg.norm(sums, axis=1))


def _undefined(size: int) -> PowerLaw:
    nan = float("nan")
    return PowerLaw(nan, nan, nan, size, nan, nan, nan, nan, "undefined")


def _power_law_above(data: Array, smallest: float) -> PowerLaw:
    """Fit the tail of sorted positive data from `smallest` on."""
    tail = data[np.searchsorted(data, smallest) :]
    size = len(tail)
    logs = np.log(tail / smallest)
    if size < 2 or logs.sum() <= 0:
        return _undefined(size)
    slope = size / logs.sum()
    model = -np.expm1(-slope * logs)
    ranks = np.arange(size + 1) / size
    distance = max(np.abs(model - ranks[1:]).max(), np.abs(model - ranks[:-1]).max())
    excess = tail.mean() - smallest
    power = np.log(slope / smallest) - (slope + 1) * logs
    exponential = -np.log(excess) - (tail - smallest) / excess
    difference = power - exponential
    spread = difference.std()
    ratio = float(difference.sum())
    z = ratio / (np.sqrt(size) * float(spread)) if spread > 0 else float("nan")
    p = float(scipy.special.erfc(abs(z) / np.sqrt(2))) if spread > 0 else 1.0
    return PowerLaw(
        float(slope + 1),
        float(slope / np.sqrt(size)),
        smallest,
        size,
        float(distance),
        ratio,
        z,
        p,
        "ok",
    )

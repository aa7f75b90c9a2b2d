"""Exponents of curves on logarithmic axes: over a range, locally, and in two segments."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from lossatlas.diffusion.arrays import Array, Bools, Ints, finite
from lossatlas.diffusion.curves import Curve, spread

Status = Literal["ok", "undefined", "unconverged"]


@dataclass(frozen=True)
class Exponent:
    """The slope of log y against log x.

    Attributes:
        value: Slope; NaN if undefined.
        stderr: Spread of the slope over the curve's replicates; NaN without them.
        df: Its degrees of freedom.
        prefactor: y at x = 1 on the fitted line.
        low: Smallest x of the fit.
        high: Largest x of the fit.
        points: Points fitted.
        reliable: Whether all of them are (see `Curve`): False for lags beyond T / 4.
        status: `undefined` with fewer than 2 points or some y that is not positive.
    """

    value: float
    stderr: float
    prefactor: float
    low: float
    high: float
    points: int
    reliable: bool
    status: Status
    df: float = math.nan


@dataclass(frozen=True)
class LocalExponents:
    """Slopes in windows of constant logarithmic width.

    Attributes:
        x: (n,) centres of the windows.
        value: (n,) slopes; NaN where a window has fewer than 2 points or a y <= 0.
        stderr: (n,) spread over the replicates.
        points: (n,) points in each window.
        reliable: (n,) whether all of them are.
    """

    x: Array
    value: Array
    stderr: Array
    points: Ints
    reliable: Bools


@dataclass(frozen=True)
class TwoSegments:
    """A continuous line with one bend in log y against log x.

    Attributes:
        first: Exponent before the crossover.
        first_stderr: Its spread over the replicates, each with its own crossover.
        second: Exponent after the crossover.
        second_stderr: Likewise.
        change_stderr: The spread of second - first.
        crossover: x at the bend (tau_0).
        crossover_low: 16th percentile of the bend over the replicates; NaN without them.
        crossover_high: 84th percentile.
        residual: Root mean square of log y about the bent line.
        straight_residual: The same about the best straight line; a bend matters only if it is
            clearly larger.
        status: `undefined` without enough points on both sides or with some y <= 0; `unconverged`
            if the best bend lies at the end of the range searched.
    """

    first: float
    first_stderr: float
    second: float
    second_stderr: float
    change_stderr: float
    crossover: float
    crossover_low: float
    crossover_high: float
    residual: float
    straight_residual: float
    status: Status


def fit_exponent(
    curve: Curve,
    low: float = 10,
    high: float = 100,
    *,
    weights: Literal["equal", "blocks"] = "equal",
) -> Exponent:
    """Fit log y against log x by least squares over low <= x <= high.

    Args:
        curve: The curve; its replicates give the error.
        low: Smallest x.
        high: Largest x; the default range is 10 to 100 steps, short of which overshooting
            along sharp directions bends the curve.
        weights: `equal` for each point, or `blocks`: pairs / x, the number of stretches of the
            window that do not overlap (for curves against lag).

    Raises:
        ValueError: If the range is empty or not positive.
    """
    if not 0 < low < high:
        raise ValueError(f"a fit needs 0 < low < high, not {low} and {high}")
    inside = (curve.x >= low) & (curve.x <= high)
    x, number = curve.x[inside], int(inside.sum())
    both = np.vstack([curve.y[inside], curve.replicates[:, inside]])
    slope, level = _lines(x, both, curve.count[inside] / x if weights == "blocks" else None)
    status: Status = "ok" if np.isfinite(slope[0]) else "undefined"
    reliable = number > 0 and bool(curve.reliable[inside].all())
    return Exponent(
        float(slope[0]),
        float(spread(slope[1:])),
        float(np.exp(level[0])),
        float(x[0]) if number else float("nan"),
        float(x[-1]) if number else float("nan"),
        number,
        reliable,
        status,
        curve.df,
    )


def local_exponents(curve: Curve, *, decades: float = 0.3, per_decade: int = 10) -> LocalExponents:
    """Fit slopes in windows of constant logarithmic width, weighted by independent stretches.

    The paper's fixed offset of 20 lags spans 1.3 decades at lag 1 and 0.02 at lag 500
    (`paper_local_exponents`); here each slope sees the same width.

    Args:
        curve: The curve.
        decades: Width of the windows.
        per_decade: Windows per factor of 10.

    Raises:
        ValueError: If the curve is empty or a width is not positive.
    """
    if not len(curve.x) or decades <= 0 or per_decade < 1:
        raise ValueError("local exponents need a curve with points and a positive width")
    first, last = np.log10(curve.x[0]), np.log10(curve.x[-1])
    centres = 10 ** np.linspace(first, last, max(round((last - first) * per_decade), 1) + 1)
    reach = 10 ** (decades / 2) * (1 + 1e-9)
    fits = [
        fit_exponent(curve, centre / reach, centre * reach, weights="blocks") for centre in centres
    ]
    return LocalExponents(
        centres,
        np.array([fit.value for fit in fits]),
        np.array([fit.stderr for fit in fits]),
        np.array([fit.points for fit in fits], dtype=np.int64),
        np.array([fit.reliable for fit in fits], dtype=np.bool_),
    )


def paper_local_exponents(x: ArrayLike, y: ArrayLike, offset: int = 20) -> Array:
    """Return (ln y_k - ln y_{k+h}) / (ln x_k - ln x_{k+h}), (n - h,), drawn at x_k (Fig. 2c).

    h = 20 in `plot_fig2.m`. NaN where a y is not positive.

    Raises:
        ValueError: If the offset is not in 1 .. n - 1, or x is not positive and finite.
    """
    keys, values = finite(x, "x"), np.asarray(y, dtype=np.float64)
    if not 1 <= offset < len(keys):
        raise ValueError(f"the offset must lie in 1..{len(keys) - 1}, not {offset}")
    if keys.min() <= 0:
        raise ValueError("local exponents need positive x")
    logs = _logarithms(values)
    return (logs[offset:] - logs[:-offset]) / np.log(keys[offset:] / keys[:-offset])


def two_segments(
    curve: Curve,
    low: float = 1,
    high: float | None = None,
    *,
    per_decade: int = 20,
    least: int = 4,
) -> TwoSegments:
    """Fit a continuous line with one bend: exponent 1, exponent 2 and the crossover tau_0.

    Least squares on points thinned to equal density in log x, the bend searched over a grid of
    the same density. The paper's three numbers were read off plots by hand.

    Args:
        curve: The curve; its replicates give the errors.
        low: Smallest x of the fit.
        high: Largest x; default the largest reliable one.
        per_decade: Points and candidate bends per factor of 10.
        least: Points needed on each side of a bend.
    """
    end = high if high is not None else float(np.max(curve.x[curve.reliable], initial=0.0))
    picked = _thinned(curve.x, low, end, per_decade)
    logs = _logarithms(np.vstack([curve.y[picked], curve.replicates[:, picked]]))
    x = np.log(curve.x[picked])
    bends = _candidates(x, per_decade, least)
    if not len(bends) or not np.isfinite(logs[0]).all():
        return _no_segments()
    logs = logs[np.isfinite(logs).all(axis=1)]
    errors = np.empty((len(bends), len(logs)))
    slopes = np.empty((len(bends), 2, len(logs)))
    for row, bend in enumerate(bends):
        design = np.stack([np.ones_like(x), np.minimum(x - bend, 0), np.maximum(x - bend, 0)], 1)
        coefficients = np.linalg.lstsq(design, logs.T, rcond=None)[0]
        errors[row] = np.square(logs.T - design @ coefficients).mean(axis=0)
        slopes[row] = coefficients[1:]
    best = errors.argmin(axis=0)
    column = np.arange(len(logs))
    first, second = slopes[best, 0, column], slopes[best, 1, column]
    crossover = np.exp(bends[best])
    straight = np.polyfit(x, logs[0], 1)
    some = len(logs) > 2
    return TwoSegments(
        float(first[0]),
        float(spread(first[1:])),
        float(second[0]),
        float(spread(second[1:])),
        float(spread(second[1:] - first[1:])),
        float(crossover[0]),
        float(np.percentile(crossover[1:], 16)) if some else float("nan"),
        float(np.percentile(crossover[1:], 84)) if some else float("nan"),
        float(np.sqrt(errors[best[0], 0])),
        float(np.sqrt(np.square(logs[0] - np.polyval(straight, x)).mean())),
        status="unconverged" if best[0] in (0, len(bends) - 1) else "ok",
    )


def _no_segments() -> TwoSegments:
    nan = float("nan")
    return TwoSegments(nan, nan, nan, nan, nan, nan, nan, nan, nan, nan, "undefined")


def _lines(x: Array, curves: Array, weights: Array | None) -> tuple[Array, Array]:
    """Return slope and intercept (R,) of log curves (R, n) against log x (n,)."""
    if len(x) < 2:
        nothing = np.full(len(curves), np.nan)
        return nothing, nothing
    share = np.ones_like(x) if weights is None else weights
    share = share / share.sum()
    keys, logs = np.log(x), _logarithms(curves)
    centred = keys - share @ keys
    slope = logs @ (share * centred) / (share @ centred**2)
    return slope, logs @ share - slope * (share @ keys)


def _logarithms(values: Array) -> Array:
    """Return natural logarithms, NaN where a value is not positive."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(values > 0, np.log(values), np.nan)


def _thinned(x: Array, low: float, high: float, per_decade: int) -> Ints:
    """Return the indices of the first x in each cell of a logarithmic grid within the range."""
    inside = np.flatnonzero((x >= low * (1 - 1e-12)) & (x <= high * (1 + 1e-12)))
    cells = np.floor(np.log10(x[inside]) * per_decade + 1e-9)
    return inside[np.unique(cells, return_index=True)[1]]


def _candidates(x: Array, per_decade: int, least: int) -> Array:
    """Return bends (in log x) with at least `least` points on either side."""
    if len(x) < 2 * least:
        return np.empty(0)
    low, high = x[least - 1], x[-least]
    count = max(int((high - low) / np.log(10) * per_decade), 1) + 1
    return np.linspace(low, high, count)

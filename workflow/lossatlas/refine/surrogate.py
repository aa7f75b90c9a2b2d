"""Interpolates a metric over a grid from the cells that are measured, with the error of that.

A Gaussian process with a Matern-5/2 kernel, a length for each axis (Rasmussen and Williams, 2006,
chapters 2 and 4), over the logarithms of the axes. Its noise is the squared standard error of each
cell, and a nugget that is fitted for what standard errors do not tell. Metrics jump by orders of
magnitude at some transitions, and only the side of a limit counts: so asinh((value - limit) / s) is
interpolated, where s is the median distance from the limit: linear near it, logarithmic far off.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

Floats = NDArray[np.float64]
Cells = NDArray[np.int64]  # numbers of cells in the grid

_PRIOR_DF = 4.0  # with which the mean variance of all cells enters that of each
_LENGTH, _SPREAD = 0.7, 0.5  # of the lengths' prior: median, standard deviation of the logarithm
_LEAST = 1e-6  # of a noise variance, in units of the variance over cells


def coordinates(points: ArrayLike) -> Floats:
    """Return places (n, d) in the unit cube of cells whose axes have these values (n, d).

    An axis is logarithmic where all its values are positive, else linear.
    """
    values = np.asarray(points, np.float64)
    logarithmic = (values > 0).all(axis=0)
    scaled = np.where(logarithmic, np.log(np.where(logarithmic, values, 1.0)), values)
    low, high = scaled.min(axis=0), scaled.max(axis=0)
    return np.asarray((scaled - low) / np.where(high > low, high - low, 1.0))


@dataclass(frozen=True)
class Surrogate:
    """What is known of one metric on the n cells of a grid, in units of its own.

    Attributes:
        mean: (n,) minus the limit: above 0 is the side of large values.
        covariance: (n, n) of the errors of `mean`.
        noise: (n,) variance of a measurement of a cell with as many replicas as it has, or as is
            usual where it has none.
    """

    mean: Floats
    covariance: Floats
    noise: Floats

    @property
    def spread(self) -> Floats:
        """The standard deviation (n,) of the errors of `mean`."""
        return np.sqrt(np.maximum(np.diag(self.covariance), 1e-12))

    def believing(self, cell: int) -> Surrogate:
        """Return it as if a cell had been measured once more, and as expected."""
        column = self.covariance[:, cell]
        shrunk = self.covariance - np.outer(column, column) / (column[cell] + self.noise[cell])
        return replace(self, covariance=shrunk)


def fit(
    places: Floats,
    measured: Cells,
    values: Floats,
    stderr: Floats,
    df: Floats,
    limit: float | None,
) -> tuple[Surrogate, float]:
    """Interpolate one metric.

    Args:
        places: (n, d) of the cells, from `coordinates`.
        measured: (m,) numbers of the cells that have a value.
        values: (m,) their values, finite.
        stderr: (m,) standard errors; NaN where they are unknown.
        df: (m,) degrees of freedom of the errors.
        limit: What parts the two sides; None: the median over all cells, by interpolation.

    Returns:
        The surrogate, and the limit.
    """
    centre = float(np.median(values)) if limit is None else limit
    scale = float(np.median(np.abs(values - centre))) or float(np.std(values)) or 1.0
    warped = np.arcsinh((values - centre) / scale)
    slope = 1 / np.hypot(scale, values - centre)  # of asinh((value - centre) / scale)
    level, unit = float(warped.mean()), float(warped.std()) or 1.0
    errors = np.maximum((_pooled(stderr, df) * slope / unit) ** 2, _LEAST)
    model = _model(places.shape[1], errors)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a length at its bound is no fault
        model.fit(places[measured], (warped - level) / unit)
    nugget = float(model.kernel_.k2.noise_level)
    mean, covariance = model.predict(places, return_cov=True)
    covariance -= nugget * np.eye(len(places))  # that of the metric, not of a measurement
    noise = np.full(len(places), float(np.median(errors)))
    noise[measured] = errors
    if limit is None:
        middle = mean.copy()
        middle[measured] = (warped - level) / unit
        zero = float(np.median(middle))
        limit = centre + scale * float(np.sinh(zero * unit + level))
    else:
        zero = -level / unit
    return Surrogate(mean - zero, covariance, noise + nugget), limit


def _model(axes: int, errors: Floats) -> GaussianProcessRegressor:
    kernel = ConstantKernel(1.0, (0.1, 30.0)) * Matern(
        np.full(axes, 0.5), (0.08, 5.0), nu=2.5
    ) + WhiteKernel(1e-3, (1e-5, 0.3))
    return GaussianProcessRegressor(kernel, alpha=errors, optimizer=_roughly, random_state=0)


def _roughly(objective: Callable[..., Any], start: Floats, bounds: Floats) -> tuple[Floats, float]:
    """Maximise the posterior to 0.1 %, which takes half as long as to the last digit.

    The lengths have a prior, log-normal around `_LENGTH`: of few values on an axis the likelihood
    alone may say that each cell is on its own.
    """

    def posterior(theta: Floats) -> tuple[float, Floats]:
        value, slope = objective(theta)
        off = (theta[1:-1] - np.log(_LENGTH)) / _SPREAD
        slope = np.array(slope)
        slope[1:-1] += off / _SPREAD
        return value + float(off @ off) / 2, slope

    found = minimize(
        posterior, start, method="L-BFGS-B", jac=True, bounds=bounds, options={"ftol": 1e-3}
    )
    return found.x, found.fun


def _pooled(stderr: Floats, df: Floats) -> Floats:
    """Return standard errors (m,): each variance is drawn to the mean one, as few replicas tell.

    Where none is known they are 0, and the nugget has all the noise.
    """
    known = np.isfinite(stderr) & (df > 0)
    if not known.any():
        return np.zeros(len(stderr))
    usual = float(np.mean(stderr[known] ** 2))
    own = np.where(known, stderr, 0.0) ** 2
    weight = np.where(known, np.minimum(df, 1e6), 0.0)
    return np.asarray(np.sqrt((weight * own + _PRIOR_DF * usual) / (weight + _PRIOR_DF)))

"""Durations of loss events: a discrete power law, and the geometric law of independent changes."""

from __future__ import annotations

import numpy as np
import scipy.optimize
import scipy.special
from numpy.typing import ArrayLike

from lossatlas.diffusion.arrays import Array, Ints
from lossatlas.diffusion.tails import PowerLaw

LEAST = 10  # durations in a tail that is fitted
_EXPONENTS = (1.0 + 1e-6, 30.0)  # between which the likelihood is searched
_STEP = 1e-3  # of the second difference of the logarithm of zeta


def fit_durations(durations: ArrayLike, *, smallest: int | None = None) -> PowerLaw:
    """Fit P(k) = k^-a / zeta(a, k_min) to durations, and compare it with a geometric law.

    By maximum likelihood, after Clauset, Shalizi and Newman (2009), section 3.1. If changes exceed
    a threshold independently of each other, runs of them have a geometric law.

    Args:
        durations: (n,) whole numbers, 1 or more.
        smallest: k_min. Default: the one with the smallest Kolmogorov-Smirnov distance that leaves
            10 or more durations in the tail.

    Returns:
        The fit; `ratio` and `z` compare with the geometric law of the same tail. `undefined` with
        fewer than 10 durations, or if all of them are equal.

    Raises:
        ValueError: If a duration is not a whole number from 1 on, or `smallest` is below 1.
    """
    given = np.asarray(durations, dtype=np.float64)
    if not (np.isfinite(given).all() and (given >= 1).all() and (given == np.rint(given)).all()):
        raise ValueError("durations are whole numbers from 1 on")
    if smallest is not None and smallest < 1:
        raise ValueError(f"the smallest duration is 1 or more, not {smallest}")
    data = np.sort(given).astype(np.int64)
    starts = [smallest] if smallest is not None else np.unique(data[: len(data) - LEAST + 1])
    fits = [_above(data[data >= start], int(start)) for start in starts]
    sound = [fit for fit in fits if fit.status == "ok"]
    return min(sound, key=lambda fit: fit.distance) if sound else _undefined(len(data))


def survival(durations: ArrayLike, fit: PowerLaw) -> Array:
    """Return the fitted share of durations of the tail that are as long, or longer."""
    zeta = scipy.special.zeta
    return zeta(fit.exponent, np.asarray(durations, np.float64)) / zeta(fit.exponent, fit.smallest)


def _above(tail: Ints, smallest: int) -> PowerLaw:
    """Fit a tail of sorted durations that begins at `smallest`."""
    size, logs = len(tail), np.log(tail)
    if size < LEAST or tail[0] == tail[-1]:
        return _undefined(size)

    def cost(exponent: float) -> float:
        return float(np.log(scipy.special.zeta(exponent, smallest)) + exponent * logs.mean())

    found = scipy.optimize.minimize_scalar(
        cost, bounds=_EXPONENTS, method="bounded", options={"xatol": 1e-9}
    )
    exponent = float(found.x)
    power = -np.log(scipy.special.zeta(exponent, smallest)) - exponent * logs
    stay = 1 - 1 / (tail.mean() - smallest + 1)  # of the geometric law: share that goes on
    geometric = np.log1p(-stay) + (tail - smallest) * np.log(stay)
    difference = power - geometric
    spread = float(difference.std())
    z = float(difference.sum()) / (np.sqrt(size) * spread) if spread > 0 else float("nan")
    p = float(scipy.special.erfc(abs(z) / np.sqrt(2))) if spread > 0 else 1.0
    values = np.unique(tail)
    longer = 1 - np.searchsorted(tail, values) / size
    bend = (cost(exponent + _STEP) - 2 * cost(exponent) + cost(exponent - _STEP)) / _STEP**2
    made = PowerLaw(
        exponent, float(1 / np.sqrt(size * bend)), float(smallest), size, 0.0,
        float(difference.sum()), z, p, "ok",
    )  # fmt: skip
    distance = float(np.abs(survival(values, made) - longer).max())
    return PowerLaw(**{**vars(made), "distance": distance})


def _undefined(size: int) -> PowerLaw:
    nan = float("nan")
    return PowerLaw(nan, nan, nan, size, nan, nan, nan, nan, "undefined")

"""Null models of a path: the same increments in another order or with random signs."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from lossatlas.diffusion.curves import Curve, spread
from lossatlas.diffusion.gram import Path, increments, path_of_increments, squared_distances
from lossatlas.diffusion.msd import time_averaged_msd

Kind = Literal["order", "signs"]


def surrogate(path: Path, kind: Kind, rng: np.random.Generator) -> Path:
    """Return a path with the same step lengths and no correlation between steps.

    Args:
        path: T points.
        kind: `order` shuffles the increments: their sum, and so the mean drift, stays. `signs`
            gives each increment a random sign: the drift goes as well.
        rng: Draws the order or the signs.
    """
    products = increments(path)
    if kind == "order":
        order = rng.permutation(len(products))
        return path_of_increments(products[np.ix_(order, order)])
    signs = rng.choice([-1.0, 1.0], size=len(products))
    return path_of_increments(products * signs * signs[:, None])


def surrogate_msd(
    path: Path,
    rng: np.random.Generator,
    *,
    kind: Kind = "order",
    members: int = 20,
    lags: ArrayLike | None = None,
) -> Curve:
    """Return the time-averaged MSD of an ensemble of surrogates.

    Without drift its exponent is 1; whatever the measured curve has more or less comes from the
    order of the steps.

    Args:
        path: T points.
        rng: Draws the surrogates.
        kind: See `surrogate`.
        members: How many.
        lags: Lags; default 1 .. T - 1.

    Returns:
        The mean over the members. Its replicates are the members and its errors their spread: what
        one path should be compared with. `of_mean` has the errors of the mean instead.

    Raises:
        ValueError: If there are fewer than 2 members, or a lag does not fit.
    """
    if members < 2:
        raise ValueError(f"an ensemble needs at least 2 members, not {members}")
    curves = [
        time_averaged_msd(squared_distances(surrogate(path, kind, rng)), lags)
        for _ in range(members)
    ]
    drawn = np.array([curve.y for curve in curves])
    return replace(
        curves[0], y=drawn.mean(axis=0), stderr=spread(drawn), replicates=drawn, df=members - 1.0
    )


def of_mean(curve: Curve) -> Curve:
    """Return the mean over m members with its own errors: replicates are drawn in by sqrt(m)."""
    drawn = curve.y + (curve.replicates - curve.y) / math.sqrt(len(curve.replicates))
    return replace(curve, stderr=spread(drawn), replicates=drawn)

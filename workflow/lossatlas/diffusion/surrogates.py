"""Null models of a path: the same increments in another order or with random signs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from lossatlas.diffusion.arrays import Array, Ints
from lossatlas.diffusion.curves import Curve, spread
from lossatlas.diffusion.gram import Path, increments, path_of_increments, squared_distances
from lossatlas.diffusion.msd import time_averaged_msd

Kind = Literal["order", "signs"]


@dataclass(frozen=True)
class Surrogate:
    """MSD of an ensemble of surrogates of one path.

    Attributes:
        lag: (n,) lags.
        msd: (n,) mean over the ensemble.
        stddev: (n,) standard deviation over the ensemble.
        members: (m, n) each member's curve.
        kind: `order` or `signs`.
    """

    lag: Ints
    msd: Array
    stddev: Array
    members: Array
    kind: Kind

    def curve(self) -> Curve:
        """Return the mean with the members as replicates, for `exponents`.

        Errors then are the spread between members, which is what one path should be compared with.
        """
        size = int(self.lag.max())
        count = np.full(len(self.lag), len(self.members), dtype=np.int64)
        reliable = np.full(len(self.lag), size > 0)
        return Curve(
            self.lag.astype(np.float64), self.msd, self.stddev, count, reliable, self.members
        )


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
) -> Surrogate:
    """Return the time-averaged MSD of an ensemble of surrogates.

    Without drift its exponent is 1; whatever the measured curve has more or less comes from the
    order of the steps.

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
    lag = curves[0].x.astype(np.int64)
    return Surrogate(lag, drawn.mean(axis=0), spread(drawn), drawn, kind)

"""Spectra from quadratures: what Ritz values and weights say of the eigenvalues, and how surely.

A probe's quadrature has nodes t_1 < ... < t_m (Ritz values) and weights w_k that sum to 1. Nothing
is smoothed: the eigenvalue that a share y of all lies above is the node at which the weights, added
up from the largest node on, reach y. Its logarithm is averaged over replicas, with an interval.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter

from lossatlas import uncertainty
from lossatlas.figures.grid import Floats

RITZ = "hessian_ritz"  # the series
POINTS = 80  # of a curve
DECADES = 4.0  # of eigenvalues below the largest that are drawn
SURE = 0.05  # widest range of a share that is told in words
SIDES = {"above x": 1.0, "below −x": -1.0}


Quadrature = tuple[Floats, Floats]  # nodes (m,), ascending, and weights (m,)


@dataclass(frozen=True)
class Curve:
    """Eigenvalues beyond which some shares of all lie: their geometric mean over the sample.

    Attributes:
        share: (n,) shares.
        x: (n,) moduli; NaN where a member of the sample has no eigenvalue on that side.
        low: (n,) lower ends of 95% intervals, from those of log x; NaN without any.
        high: (n,) upper ends.
    """

    share: Floats
    x: Floats
    low: Floats
    high: Floats


def sample(rows: pd.DataFrame) -> list[Quadrature]:
    """Return a quadrature per replica, the mean of its probes; of a single replica one per probe.

    Probes that are not finite are left out.

    Args:
        rows: Rows of the series `RITZ` of one cell and moment.
    """
    found = []
    for _, replica in rows.groupby("replica", sort=True):
        probes = [
            (part["x"].to_numpy(float), part["y"].to_numpy(float))
            for _, part in replica.groupby("probe", sort=True)
        ]
        found.append([one for one in probes if np.isfinite(np.concatenate(one)).all()])
    found = [probes for probes in found if probes]
    if len(found) == 1:
        return [_together([one]) for one in found[0]]
    return [_together(probes) for probes in found]


def _together(probes: list[Quadrature]) -> Quadrature:
    nodes = np.concatenate([one for one, _ in probes])
    weights = np.concatenate([one for _, one in probes]) / len(probes)
    order = np.argsort(nodes, kind="stable")
    return nodes[order], weights[order]


def beyond(found: Quadrature, shares: Floats, side: float) -> Floats:
    """Return the moduli (n,) beyond which shares of the eigenvalues lie, on a side of 0.

    Args:
        found: A quadrature.
        shares: (n,) between 0 and 1.
        side: 1: largest eigenvalues; -1: those farthest below 0.

    Returns:
        NaN where less than the share lies on that side.
    """
    nodes, weights = side * found[0], found[1]
    order = np.argsort(-nodes, kind="stable")
    nodes, total = nodes[order], np.cumsum(weights[order])
    place = np.searchsorted(total, shares * (1 - 1e-12))
    at = nodes[np.minimum(place, len(nodes) - 1)]
    return np.where((place < len(nodes)) & (at > 0), at, np.nan)


def curve(found: list[Quadrature], shares: Floats, side: float) -> Curve:
    """Return the mean of `beyond` over a sample, of its logarithm, with 95% intervals."""
    logs = np.log([beyond(one, shares, side) for one in found])
    over = [uncertainty.mean(column) for column in logs.T]
    middle = np.array([one.value for one in over])
    half = uncertainty.half_width([one.stderr for one in over], [one.df for one in over])
    return Curve(shares, np.exp(middle), np.exp(middle - half), np.exp(middle + half))


def bounds(found: Quadrature, x: float) -> tuple[float, float]:
    """Return the least and the largest share of the eigenvalues up to x that fit a quadrature.

    For t_k <= x < t_(k+1) they are w_1 + ... + w_(k-1) and w_1 + ... + w_(k+1): the separation
    theorem of Chebyshev, Markov and Stieltjes (Szegö, Orthogonal Polynomials, 3.41).
    """
    nodes, weights = found
    up_to = np.concatenate([np.zeros(1), np.cumsum(weights)])
    k = int(np.searchsorted(nodes, x, side="right"))
    return float(up_to[max(k - 1, 0)]), float(up_to[min(k + 1, len(nodes))])


def below_zero(rows: pd.DataFrame) -> str:
    """Return the range of the share of negative eigenvalues in words; "" if it is not known.

    It is known if the bounds of all quadratures, of each probe and replica, lie within `SURE`.
    """
    probes = [part for _, part in rows.groupby(["replica", "probe"], sort=False)]
    ends = [bounds(one, 0.0) for part in probes for one in sample(part)]
    if not ends:
        return ""
    low, high = min(low for low, _ in ends), max(high for _, high in ends)
    return f"{100 * low:.2g}–{100 * high:.2g}% below 0" if high - low <= SURE else ""


def largest(rows: pd.DataFrame) -> float:
    """Return the largest modulus of a node; 0 if there is none."""
    found = np.abs(rows["x"].to_numpy(float))
    return float(found[np.isfinite(found)].max(initial=0.0))


def least(rows: pd.DataFrame) -> float:
    """Return where the axis of shares begins: below the smallest weight that is drawn."""
    weights = rows["y"].to_numpy(float)
    weights = weights[np.isfinite(weights) & (weights > 0)]
    return float(max(weights.min(initial=1e-3) / 2, 1e-7))


def draw(
    axes: Axes, rows: pd.DataFrame, floor: float, look: Mapping[str, str], sides: Sequence[str]
) -> pd.DataFrame:
    """Draw weights at their nodes, and the eigenvalues beyond which shares lie; return the numbers.

    Args:
        axes: Where.
        rows: Rows of the series `RITZ` of one cell and moment.
        floor: The smallest share.
        look: Colour of each of `SIDES`.
        sides: Which of them.

    Returns:
        quantity, replica, probe, x, y, low and high (of x).
    """
    shares = np.geomspace(floor, 1.0, POINTS)
    parts = [rows[["replica", "probe", "x", "y"]].assign(quantity="weight")]
    found = sample(rows)
    for name in sides:
        side = SIDES[name]
        some = rows[(side * rows["x"] > 0) & (rows["y"] > 0)]
        fill = look[name] if side > 0 else "white"
        axes.plot(
            side * some["x"], some["y"], "o", color=look[name], mfc=fill, ms=2.2, mew=0.5,
            alpha=0.6, gid="weights",
        )  # fmt: skip
        if not found:
            continue
        one = curve(found, shares, side)
        axes.fill_betweenx(
            shares, one.low, one.high, color=look[name], alpha=0.25, lw=0, gid="band"
        )
        line = "-" if side > 0 else "--"
        axes.plot(one.x, shares, line, color=look[name], linewidth=1.1, gid="share")
        columns = {"x": one.x, "y": shares, "low": one.low, "high": one.high}
        kept = pd.DataFrame(columns).dropna(subset=["x"])
        parts.append(kept.assign(quantity=f"share {name}"))
    numbers = pd.concat([part for part in parts if len(part)] or parts[:1], ignore_index=True)
    return numbers.reindex(columns=["quantity", "replica", "probe", "x", "y", "low", "high"])


def scales(axes: Axes, widest: float, floor: float) -> None:
    """Make both axes logarithmic, with labels at every second power of ten."""
    axes.set_xscale("log")
    axes.set_yscale("log", nonpositive="clip")
    if widest > 0:
        axes.set_xlim(widest * 10**-DECADES, widest * 2)
    axes.set_ylim(floor, 1.6)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(100.0, numticks=6))
        axis.set_minor_locator(LogLocator(10.0, numticks=12))
        axis.set_minor_formatter(NullFormatter())

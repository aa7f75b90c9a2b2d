"""Mean squared displacement and its relatives, from pair distances or straight from weights.

Lags are in steps, displacements in the units of the weights.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import ArrayLike, NDArray

from lossatlas.diffusion.arrays import Array, Ints, finite, lags_within
from lossatlas.diffusion.curves import REPLICATES, Curve, block_length, curve_of_blocks, spread
from lossatlas.diffusion.gram import Path, increments

_COLUMNS = 64  # of a transform; 64 columns of some thousand rows stay in the cache


@dataclass(frozen=True)
class LagAverages:
    """What lag averages alone can tell about a window of T points, without a Gram matrix.

    Attributes:
        lag: (T - 1,) 1 .. T - 1.
        msd: (T - 1,) time-averaged squared displacement.
        msd_without_drift: (T - 1,) the same after subtracting the mean increment.
        from_start: (T,) |x_t - x_0|^2.
        steps: (T - 1,) squared step lengths.
    """

    lag: Ints
    msd: Array
    msd_without_drift: Array
    from_start: Array
    steps: Array


def time_averaged_msd(
    distances: Array,
    lags: ArrayLike | None = None,
    *,
    moment: float = 2.0,
    block: int | None = None,
    rng: np.random.Generator | None = None,
    replicates: int = REPLICATES,
) -> Curve:
    """Average |x_{i+tau} - x_i|^q over all i of a window, for each lag tau.

    MSD(tau) = 1 / (T - tau) sum_i D_{i, i+tau} for q = 2 (Fig. 2). Other moments tell heavy-tailed
    steps from correlated ones: a Levy flight of index alpha has exponent 1 at q = 2 and q / alpha
    at q < alpha.

    Args:
        distances: (T, T) squared pair distances.
        lags: Lags; default 1 .. T - 1. Those beyond T / 4 are flagged as not reliable.
        moment: q > 0.
        block: Steps per bootstrap block; default T / 5.
        rng: For errors; None: no errors.
        replicates: Bootstrap replicates.

    Raises:
        ValueError: If a lag lies outside 1 .. T - 1 or the moment is not positive.
    """
    size = len(distances)
    steps = lags_within(lags, size)
    if not moment > 0:
        raise ValueError(f"the moment must be positive, not {moment}")
    power = None if moment == 2 else moment / 2
    return _lag_curve(distances, steps, block, rng, replicates, power)


def msd_from_start(distances: Array) -> Array:
    """Return |x_t - x_0|^2, t = 0 .. T - 1: the displacement without time average (Fig. 2f)."""
    return distances[0].copy()


def paper_msd_from_start(chunks: Iterable[ArrayLike]) -> Array:
    """Return what the authors' code draws in Fig. 2f: sum_p (x_t[p] - x_t[0])^2 at t = 0 .. T - 1.

    It subtracts the first parameter where the first point was meant, so that it is no
    displacement, and it needs the weights.

    Args:
        chunks: Arrays (T, p_k); the first column of the first chunk is parameter 0.

    Raises:
        ValueError: If there is no chunk or a point is not finite.
    """
    total: Array | None = None
    for chunk in chunks:
        points = finite(chunk, "the trajectory", dimensions=2)
        if total is None:
            first, total = points[:, :1].copy(), np.zeros(len(points))
        total += np.square(points - first).sum(axis=1)
    if total is None:
        raise ValueError("a trajectory needs at least one chunk of parameters")
    return total


def velocity_autocorrelation(
    path: Path,
    lags: ArrayLike | None = None,
    *,
    block: int | None = None,
    rng: np.random.Generator | None = None,
    replicates: int = REPLICATES,
) -> Curve:
    """Return mean <v_i, v_{i+tau}> / mean |v_i|^2 with v_i = x_{i+1} - x_i.

    1 at lag 0 by definition, 1 at all lags for a straight line, 0 for independent steps, negative
    at lag 1 when steps overshoot along sharp directions.

    Args:
        path: T points.
        lags: Lags in 0 .. T - 2; default all.
        block: Steps per bootstrap block; default T / 5.
        rng: For errors; None: no errors.
        replicates: Bootstrap replicates.

    Raises:
        ValueError: If a lag lies outside 0 .. T - 2.
    """
    wanted = lags_within(lags, len(path) - 1, least=0)
    raw = _lag_curve(increments(path), np.append(0, wanted), block, rng, replicates, None)
    with np.errstate(divide="ignore", invalid="ignore"):
        y, drawn = raw.y[1:] / raw.y[0], raw.replicates[:, 1:] / raw.replicates[:, :1]
    return Curve(raw.x[1:], y, spread(drawn), raw.count[1:], raw.reliable[1:], drawn, raw.df)


def lag_averages(chunks: Iterable[ArrayLike], *, workers: int = 1) -> LagAverages:
    """Return all lag averages of a trajectory by Fourier transform, without pair distances.

    The sum of products at each lag comes from the power spectrum of the zero-padded, drift-free
    chunks, summed over parameters before the one inverse transform: O(P T log T) operations and
    one chunk of memory (Kneller et al. 1995 for the splitting of the square).

    Args:
        chunks: Arrays (T, p_k), the same T points restricted to disjoint sets of parameters.
        workers: Threads of the transform.

    Raises:
        ValueError: If there is no chunk, or a point is not finite.
    """
    sums: _LagSums | None = None
    for chunk in chunks:
        given = np.asarray(chunk)
        if given.ndim != 2 or len(given) < 2:
            raise ValueError("each chunk must have 2 axes and at least 2 points")
        sums = _LagSums.zeros(len(given)) if sums is None else sums
        for first in range(0, given.shape[1], _COLUMNS * workers):
            sums.add(given[:, first : first + _COLUMNS * workers], workers)
    if sums is None:
        raise ValueError("a trajectory needs at least one chunk of parameters")
    return sums.averages()


def displacement_of_walkers(positions: Array) -> Array:
    """Return the time-averaged MSD (T - 1, W) of W paths (T, W, d), one lag a row, by FFT.

    Raises:
        ValueError: If the array has not 3 axes, has fewer than 2 points, or is not finite.
    """
    points = finite(positions, "positions", dimensions=3, least=2)
    size = len(points)
    columns = np.moveaxis(points - points.mean(axis=0), 0, -1)
    spectrum = scipy.fft.rfft(columns, _padded(size))
    power = (spectrum.real**2 + spectrum.imag**2).sum(axis=1)
    products = scipy.fft.irfft(power, _padded(size))[:, :size].T
    return _displacement(np.square(columns).sum(axis=1).T, products)


@dataclass
class _LagSums:
    """Running sums over parameters, of points z from which start and drift v are taken out.

    x_t = x_0 + t v + z_t with z_0 = z_{T-1} = 0: what is left is small, so that the squares that
    cancel in an average are small too.
    """

    power: Array  # of z, real and imaginary parts interleaved
    norms: Array  # |z_t|^2
    moves: Array  # |z_{t+1} - z_t|^2
    along: Array  # <z_t, v>
    squared_drift: float

    @classmethod
    def zeros(cls, size: int) -> _LagSums:
        power = np.zeros(_padded(size) // 2 * 2 + 2)
        return cls(power, np.zeros(size), np.zeros(size - 1), np.zeros(size), 0.0)

    def add(self, given: NDArray[Any], workers: int) -> None:
        """Add parameters (T, p)."""
        size = len(given)
        if size != len(self.norms):
            raise ValueError(f"chunks have {len(self.norms)} and {size} points")
        columns = given.T
        with np.errstate(invalid="ignore", over="ignore"):  # a diverged run; refused below
            points = np.subtract(columns, columns[:, :1], dtype=np.float64, order="C")
            drift = points[:, -1] / (size - 1)
            points -= drift[:, None] * np.arange(size)
            norms = np.einsum("pt,pt->t", points, points)
        if not np.isfinite(norms).all():
            finite(given, "the trajectory", dimensions=2)
            raise ValueError("the trajectory is too large for float64: the run diverged")
        moves = np.diff(points)
        self.norms += norms
        self.moves += np.einsum("pt,pt->t", moves, moves)
        self.along += drift @ points
        self.squared_drift += float(drift @ drift)
        parts = scipy.fft.rfft(points, _padded(size), workers=workers).view(np.float64)
        self.power += np.einsum("pf,pf->f", parts, parts)

    def averages(self) -> LagAverages:
        """Put start and drift back."""
        size = len(self.norms)
        time, lag = np.arange(size), np.arange(1, size)
        power = self.power[::2] + self.power[1::2]
        products = scipy.fft.irfft(power, _padded(size))[:size, None]
        still = _displacement(self.norms[:, None], products)[:, 0]
        rise = np.cumsum(self.along[::-1]) - np.cumsum(self.along)
        moved = 2 * lag * rise[:-1][::-1] / (size - lag)
        start = self.norms + 2 * time * self.along + time**2 * self.squared_drift
        steps = self.moves + 2 * np.diff(self.along) + self.squared_drift
        return LagAverages(
            lag,
            np.maximum(still + moved + lag**2 * self.squared_drift, 0.0),
            still,
            np.maximum(start, 0.0),
            np.maximum(steps, 0.0),
        )


def _padded(size: int) -> int:
    """Return a fast transform length at which lagged products do not wrap around."""
    return scipy.fft.next_fast_len(2 * size, real=True)


def _displacement(norms: Array, products: Array) -> Array:
    """Return (T - 1, W) lag averages from |z_t|^2 (T, W) and lagged products (T, W)."""
    size = len(norms)
    ends = np.cumsum(norms, axis=0) + np.cumsum(norms[::-1], axis=0)
    lag = np.arange(1, size)
    raw = (ends[size - 1 - lag] - 2 * products[lag]) / (size - lag)[:, None]
    return np.maximum(raw, 0.0)


def _lag_curve(
    values: Array,
    lags: Ints,
    block: int | None,
    rng: np.random.Generator | None,
    replicates: int,
    power: float | None,
) -> Curve:
    """Average the diagonals of a (T, T) matrix, with errors over blocks of starting points."""
    size = len(values)
    length = size if rng is None else block_length(size, block)
    starts = np.arange(0, size, length)
    sums = np.zeros((len(starts), len(lags)))
    for column, lag in enumerate(lags):
        diagonal = np.diagonal(values, lag)
        used = starts[starts < len(diagonal)]
        powered = diagonal if power is None else diagonal**power
        sums[: len(used), column] = np.add.reduceat(powered, used)
    counts = np.clip(size - lags - starts[:, None], 0, length)
    return curve_of_blocks(lags.astype(np.float64), sums, counts, lags <= size / 4, rng, replicates)

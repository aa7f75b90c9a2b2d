"""Roughness of a surface: structure function, box count, radial power spectrum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from lossatlas.diffusion.arrays import Array, Ints, lags_within
from lossatlas.diffusion.surfaces import check_surface


@dataclass(frozen=True)
class StructureFunction:
    """S2(l) = mean (z(p + l) - z(p))^2 along rows and columns.

    Attributes:
        lag: (n,) l in nodes, increasing.
        value: (n,) S2, in the units of z squared.
        local: (n - 1,) d ln S2 / d ln l between neighbouring lags; 2 is smooth, 2 H in general.
            NaN where S2 is 0.
    """

    lag: Ints
    value: Array
    local: Array


@dataclass(frozen=True)
class BoxCount:
    """Boxes needed to cover the graph of a surface.

    Attributes:
        size: (n,) box edge as a share of the side, increasing.
        count: (n,) boxes.
        dimension: Minus the slope of ln count against ln size over all sizes; 2 for a smooth
            surface, 3 - H for a self-affine one. One surface tells no error of it: boxes of
            different sizes cover the same graph, so their scatter about the line is none.
        local: (n - 1,) minus the slope between neighbouring sizes.
        status: `undefined` with fewer than 3 sizes.
    """

    size: Array
    count: Ints
    dimension: float
    local: Array
    status: Literal["ok", "undefined"]


@dataclass(frozen=True)
class Spectrum:
    """Radially averaged power of a surface.

    Attributes:
        frequency: (n,) cycles per side, 1, 2, ... up to half the nodes.
        power: (n,) mean of |Fourier coefficient|^2 in rings of width 1.
        modes: (n,) coefficients in each ring.
    """

    frequency: Array
    power: Array
    modes: Ints


def structure_function(surface: ArrayLike, lags: ArrayLike | None = None) -> StructureFunction:
    """Measure the structure function of a surface.

    Args:
        surface: (side, side).
        lags: In nodes; default 1, 2, 4, ... up to a quarter of the side.

    Raises:
        ValueError: If the surface is not square or not finite, or a lag does not fit.
    """
    z = check_surface(surface)
    doubled = 2 ** np.arange(max(int(np.log2(len(z) / 4)), 0) + 1)
    lag = lags_within(doubled if lags is None else lags, len(z))
    value = np.array([
        (np.square(z[step:] - z[:-step]).mean() + np.square(z[:, step:] - z[:, :-step]).mean()) / 2
        for step in lag
    ])  # fmt: skip
    return StructureFunction(lag, value, _slopes(lag.astype(np.float64), value))


def box_counting(surface: ArrayLike, height: float | None = None) -> BoxCount:
    """Count boxes over the graph of a surface at dyadic sizes.

    A column of boxes of edge s stands on each s x s cell, borders shared; it holds as many boxes
    as its lowest and highest node span. A crude measure that converges slowly with the range of
    sizes: prefer the structure function, and compare surfaces at equal sides.

    Args:
        surface: (side, side) with side - 1 a power of 2.
        height: Height in units of z that equals the side of the base; default the range of z.

    Raises:
        ValueError: If the surface is not square or not finite, side - 1 is no power of 2, or the
            height is not positive.
    """
    z = check_surface(surface)
    levels = (len(z) - 1).bit_length() - 1
    if len(z) != 2**levels + 1:
        raise ValueError(f"box counting needs 2^n + 1 nodes per side, not {len(z)}")
    extent = float(np.ptp(z)) if height is None else height
    if height is not None and not height > 0:
        raise ValueError(f"the height must be positive, not {height}")
    scaled = (z - z.min()) / extent if extent > 0 else np.zeros_like(z)
    low = _pooled(scaled, np.minimum)
    high = _pooled(scaled, np.maximum)
    sizes, counts = [], []
    for level in range(levels):
        edge = 2.0 ** (level - levels)
        spanned = np.floor(high / edge) - np.floor(low / edge) + 1
        sizes.append(edge)
        counts.append(int(spanned.sum()))
        low, high = _halved(low, np.minimum), _halved(high, np.maximum)
    size, count = np.array(sizes), np.array(counts, dtype=np.int64)
    local = -_slopes(size, count.astype(np.float64))
    if levels < 3:
        return BoxCount(size, count, float("nan"), local, "undefined")
    x, y = np.log(size), np.log(count)
    slope, _ = np.polyfit(x, y, 1)
    return BoxCount(size, count, float(-slope), local, "ok")


def radial_spectrum(surface: ArrayLike, *, window: bool = True) -> Spectrum:
    """Average the power spectrum of a surface over rings of wave number.

    A self-affine surface of exponent H has power ~ k^-(2 H + 2).

    Args:
        surface: (side, side); the mean is subtracted.
        window: Multiply by a Hann window first, so that the jump between opposite borders does not
            add power ~ k^-2 at all wave numbers. The window's mean square is divided out.

    Raises:
        ValueError: If the surface is not square or not finite.
    """
    z = check_surface(surface)
    side = len(z)
    centred = z - z.mean()
    if window:
        taper = np.sin(np.pi * (np.arange(side) + 0.5) / side) ** 2
        weight = taper * taper[:, None]
        centred = (z - (weight * z).sum() / weight.sum()) * weight
        centred = centred / np.sqrt(np.square(weight).mean())
    power = np.abs(np.fft.fft2(centred)) ** 2 / side**4
    wave = np.fft.fftfreq(side, 1 / side)
    ring = np.rint(np.hypot(wave, wave[:, None])).astype(np.int64).ravel()
    modes = np.bincount(ring)
    total = np.bincount(ring, power.ravel())
    kept = slice(1, side // 2 + 1)
    return Spectrum(
        np.arange(len(modes), dtype=np.float64)[kept], (total / modes)[kept], modes[kept]
    )


def _pooled(z: Array, extreme: np.ufunc) -> Array:
    """Return the extreme over the four corners of each cell."""
    rows = extreme(z[:-1], z[1:])
    return extreme(rows[:, :-1], rows[:, 1:])


def _halved(cells: Array, extreme: np.ufunc) -> Array:
    """Return the extreme over each 2 x 2 block of cells."""
    rows = extreme(cells[::2], cells[1::2])
    return extreme(rows[:, ::2], rows[:, 1::2])


def _slopes(x: Array, y: Array) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.where(y > 0, np.log(y), np.nan)
    return np.diff(logs) / np.diff(np.log(x))

"""Rough and smooth surfaces for the toy walker: fractal, shuffled, cone, Gaussian, quadratic, flat.

A surface is a square array z[row, column] over [-1, 1]^2; row is y and column is x. Walkers descend
f = 10 - z, so that they climb z.
"""

from __future__ import annotations

import numpy as np
import scipy.ndimage
from numpy.typing import ArrayLike

from lossatlas.diffusion.arrays import Array, Ints, Mode, finite


def check_surface(surface: ArrayLike) -> Array:
    """Return a surface in float64.

    Raises:
        ValueError: If it is not square with at least 3 x 3 nodes, or a node is not finite.
    """
    z = finite(surface, "the surface", dimensions=2, least=3)
    if z.shape[0] != z.shape[1]:
        raise ValueError(f"the surface must be square, not {z.shape[0]} x {z.shape[1]}")
    return z


def diamond_square(
    side: int,
    draws: np.random.Generator | ArrayLike,
    *,
    amplitude: float = 3.0,
    hurst: float = 1.0,
    mode: Mode = "fixed",
) -> Array:
    """Generate a fractal surface by midpoint displacement (Fournier, Fussell, Carpenter 1982).

    Corners are 0. Each level sets the square centres to the mean of 4 corners plus u r, then the
    edge midpoints to the mean of their 4 neighbours (3 on the border) plus u r, with u uniform on
    [-1/2, 1/2); r starts at `amplitude` and shrinks by 2^-hurst per level. Defaults are those of
    `fractal_landscape_generator.m`; the structure function then has exponents 1.5 to 1.75, not 2.

    Args:
        side: Nodes per side, 2^n + 1 (the paper: 1025).
        draws: A generator, or the side^2 - 4 numbers u in the order of `mode`.
        amplitude: r of the first level.
        hurst: Decay of r.
        mode: Order of the draws of a level's edge midpoints: row by row, or `paper`: for each
            square centre, column by column, its north, east, south and west midpoint if still
            unset. The law is the same.

    Raises:
        ValueError: If the side is not 2^n + 1 with n >= 1, or the number of draws does not fit.
    """
    levels = (side - 1).bit_length() - 1
    if side < 3 or side != 2**levels + 1:
        raise ValueError(f"the side of a surface must be 2^n + 1 (3, 5, 9, ..., 1025), not {side}")
    needed = side**2 - 4
    if isinstance(draws, np.random.Generator):
        noise = draws.random(needed) - 0.5
    else:
        noise = finite(draws, "the draws")
        if len(noise) != needed:
            raise ValueError(f"a side of {side} needs {needed} draws, not {len(noise)}")
    z, used = np.zeros((side, side)), 0
    for level in range(levels):
        step = (side - 1) >> level
        height = amplitude * 2.0 ** (-hurst * level)
        used = _set_centres(z, step, height, noise, used)
        used = _set_midpoints(z, step, height, noise, used, mode)
    return z


def shuffled(
    surface: ArrayLike,
    rng: np.random.Generator,
    *,
    sigma: float = 8.0,
    power: float = 0.7,
    mode: Mode = "fixed",
) -> Array:
    """Return the surface with its nodes permuted and smoothed: same values, no hierarchy.

    A Gaussian filter of `sigma` nodes (cut at 2 sigma, border repeated), then sign(z) |z|^power.

    Args:
        surface: (side, side).
        rng: Draws the permutation.
        sigma: Width in nodes; 8 in the paper.
        power: 0.7 in the paper.
        mode: `paper` takes z^power without the sign, which has no real value below 0.

    Raises:
        ValueError: In mode `paper` if a smoothed node is negative.
    """
    z = check_surface(surface)
    mixed = rng.permutation(z.ravel()).reshape(z.shape)
    smooth = scipy.ndimage.gaussian_filter(mixed, sigma, mode="nearest", truncate=2.0)
    if mode == "paper" and (smooth < 0).any():
        share = float((smooth < 0).mean())
        raise ValueError(
            f"{share:.0%} of the smoothed surface is negative and has no real power {power}: "
            "use mode 'fixed', which keeps the sign"
        )
    return np.sign(smooth) * np.abs(smooth) ** power


def cone(side: int = 257) -> Array:
    """Return z = 1 - r / 2: what the paper's "convex" file holds."""
    return 1 - _radius(side) / 2


def quadratic(side: int = 257) -> Array:
    """Return z = 1 - r^2 / 2."""
    return 1 - np.square(_radius(side)) / 2


def gaussian(side: int = 257, height: float = 10.0) -> Array:
    """Return z = height exp(-r^2 / 2): what the paper's "convex" surface was meant to be."""
    return height * np.exp(-np.square(_radius(side)) / 2)


def flat(side: int = 257) -> Array:
    """Return z = 0: walkers see noise alone."""
    return np.zeros((side, side))


def _radius(side: int) -> Array:
    if side < 3:
        raise ValueError(f"a surface needs at least 3 nodes per side, not {side}")
    axis = np.linspace(-1, 1, side)
    return np.hypot(axis, axis[:, None])


def _set_centres(z: Array, step: int, height: float, noise: Array, used: int) -> int:
    half = step // 2
    corners = z[::step, ::step]
    mean = (corners[:-1, :-1] + corners[1:, :-1] + corners[:-1, 1:] + corners[1:, 1:]) / 4
    z[half::step, half::step] = mean + height * noise[used : used + mean.size].reshape(mean.shape)
    return used + mean.size


def _set_midpoints(z: Array, step: int, height: float, noise: Array, used: int, mode: Mode) -> int:
    """Set the nodes of the half grid (row + column odd) from their neighbours on it."""
    half = step // 2
    grid = z[::half, ::half]
    size = len(grid)
    around = np.pad(grid, 1)
    total = around[:-2, 1:-1] + around[2:, 1:-1] + around[1:-1, :-2] + around[1:-1, 2:]
    index = np.arange(size)
    edge = (index == 0) | (index == size - 1)
    count = 4.0 - edge - edge[:, None]
    row, column = _midpoints(size, mode)
    mean = total[row, column] / count[row, column]
    grid[row, column] = mean + height * noise[used : used + len(row)]
    return used + len(row)


def _midpoints(size: int, mode: Mode) -> tuple[Ints, Ints]:
    """Return rows and columns of the midpoints of a half grid in the order of their draws."""
    index = np.arange(size)
    if mode == "fixed":
        row, column = np.nonzero((index + index[:, None]) % 2)
        return row, column
    centre = index[1::2]
    column, row = (part.ravel() for part in np.meshgrid(centre, centre, indexing="ij"))
    rows = (row[:, None] + np.array([-1, 0, 1, 0])).ravel()
    columns = (column[:, None] + np.array([0, 1, 0, -1])).ravel()
    first = np.sort(np.unique(rows * size + columns, return_index=True)[1])
    return rows[first], columns[first]

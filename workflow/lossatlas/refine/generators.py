"""Grids whose phases are known, to develop and to test the choice of cells on.

`DEVELOPED` are those that the method was developed on, `HELD_OUT` those that were looked at after
it had been frozen: `wavy` after the first time, and `tongue` after the lengths of the process had
got their prior, because a test had met lengths that made each cell stand alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
NAMES = ("log_hessian_trace", "mode_connectivity", "cka")
Noise = Callable[[np.random.Generator, Floats, int], Floats]


@dataclass(frozen=True)
class Generated:
    """A grid of n cells.

    Attributes:
        name: Of the shape of its boundaries.
        shape: Values on the load and the temperature axis.
        points: (n, 2) values of load and temperature, load varying slowest.
        truth: (3, n) true values of `NAMES`.
        noise: (random, (3, n) true values, replicas) -> (replicas, 3, n) errors of replicas.
    """

    name: str
    shape: tuple[int, int]
    points: Floats
    truth: Floats
    noise: Noise


def _axes(loads: int, temperatures: int) -> tuple[Floats, Floats, Floats]:
    """Return points (n, 2), and x and y (n,) from 0 to 1."""
    x, y = np.meshgrid(np.linspace(0, 1, loads), np.linspace(0, 1, temperatures), indexing="ij")
    flat: tuple[Floats, Floats] = x.ravel(), y.ravel()
    points = np.stack([2.0 ** (1 + 6 * flat[0]), 2.0 ** (4 + 6 * flat[1])], axis=1)
    return points, *flat


def _step(x: Floats, width: float) -> Floats:
    return np.asarray(1 / (1 + np.exp(-x / width)))


def straight() -> Generated:
    """Boundaries along straight lines, smooth; the same noise everywhere."""
    points, x, y = _axes(14, 13)
    trace = 8.0 - 4.5 * _step(x + 0.5 * y - 0.62, 0.06) + 0.8 * y
    connectivity = 1.5 - 26.0 * _step(0.42 - x + 0.1 * y, 0.10)
    cka = 0.45 + 0.40 * _step(x - 0.55 * y - 0.30, 0.22)
    size = np.array([0.15, 1.2, 0.02])[:, None]

    def noise(random: np.random.Generator, truth: Floats, replicas: int) -> Floats:
        return random.normal(size=(replicas, *truth.shape)) * size

    return Generated("straight", (14, 13), points, np.stack([trace, connectivity, cka]), noise)


def island() -> Generated:
    """A bay and an island; noise that grows at the transitions, as where some runs have learned."""
    points, x, y = _axes(16, 12)
    bay = (x - 0.75) ** 2 / 0.30 + (y - 0.45) ** 2 / 0.12 - 1
    trace = 4.2 + 3.5 * np.tanh(bay / 0.8) + 0.4 * np.sin(3 * y)
    connectivity = 0.3 - 18.0 * np.maximum(0.0, 0.30 + 0.35 * (y - 0.3) ** 2 * 4 - x) ** 1.3 / 0.3
    cka = 0.80 - 0.9 * ((x - 0.80) ** 2 + 1.4 * (y - 0.5) ** 2)

    def noise(random: np.random.Generator, truth: Floats, replicas: int) -> Floats:
        near = np.exp(-np.abs(truth[0] - 5.25))
        size = np.stack([0.08 + 0.35 * near, 0.3 + 0.06 * np.abs(truth[1]), 0.012 + 0.02 * near])
        return random.normal(size=(replicas, *truth.shape)) * size

    return Generated("island", (16, 12), points, np.stack([trace, connectivity, cka]), noise)


def wavy() -> Generated:
    """Cliffs along waves and a kink; errors with heavy tails that depend on the temperature."""
    points, x, y = _axes(15, 14)
    cliff = y - 0.45 - 0.16 * np.sin(7.5 * x)
    trace = 6.3 - 2.2 * np.tanh(cliff / 0.05) - 0.6 * x
    connectivity = np.where(x < 0.28 + np.abs(y - 0.6) * 0.5, -9.0 + 14 * (x - 0.3), 0.0 + 0.4 * x)
    cka = 0.62 + 0.14 * np.tanh((x - 0.60 + 0.35 * np.cos(5 * y) * 0.5) / 0.15)

    def noise(random: np.random.Generator, truth: Floats, replicas: int) -> Floats:
        size = np.stack([0.20 + 0.15 * y, 0.6 + 0.9 * y, 0.015 + 0.015 * (1 - y)])
        return random.standard_t(4, size=(replicas, *truth.shape)) * size / np.sqrt(2)

    return Generated("wavy", (15, 14), points, np.stack([trace, connectivity, cka]), noise)


def tongue() -> Generated:
    """A tongue of sharp cells into flat ones, and steps; errors of size of the numbers' own."""
    points, x, y = _axes(16, 13)
    tip = 0.25 + 0.5 * np.exp(-(((y - 0.55) / 0.14) ** 2))
    trace = 4.0 + 3.2 * _step(tip - x, 0.035) + 1.2 * (1 - y) * x
    connectivity = 1.0 - 14.0 * _step(0.75 - 0.6 * y - x, 0.07) - 2.0 * y * (1 - x)
    cka = 0.50 + 0.28 * np.sqrt(x) + 0.06 * np.cos(6 * y)

    def noise(random: np.random.Generator, truth: Floats, replicas: int) -> Floats:
        size = np.stack([0.12 + 0.03 * truth[0], 0.5 + 0.08 * np.abs(truth[1]), 0.04 - 0.02 * x])
        return random.laplace(size=(replicas, *truth.shape)) * size / np.sqrt(2)

    return Generated("tongue", (16, 13), points, np.stack([trace, connectivity, cka]), noise)


DEVELOPED = (straight, island)
HELD_OUT = (wavy, tongue)

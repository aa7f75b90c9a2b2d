"""What the diffusion tests share: reference numbers, naive definitions, known processes."""

import json
from pathlib import Path

import numpy as np

ORACLE = json.loads((Path(__file__).parent / "diffusion_oracle.json").read_text())


def rng(seed=0):
    return np.random.default_rng(seed)


def naive_distances(points):
    """D_ij by the definition, in float64, one pair at a time."""
    points = np.asarray(points, dtype=np.float64)
    size = len(points)
    distances = np.zeros((size, size))
    for i in range(size):
        for j in range(i + 1, size):
            distances[i, j] = distances[j, i] = np.square(points[i] - points[j]).sum()
    return distances


def naive_msd(points):
    points = np.asarray(points, dtype=np.float64)
    return np.array([
        np.square(points[lag:] - points[:-lag]).sum(axis=1).mean() for lag in range(1, len(points))
    ])  # fmt: skip


def brownian(size, dimension, seed):
    return np.cumsum(rng(seed).standard_normal((size, dimension)), axis=0)


def fractional_brownian(size, dimension, hurst, seed):
    """Exact fractional Brownian motion by circulant embedding of its increments."""
    lag = np.arange(size)
    power = 2 * hurst
    covariance = (np.abs(lag + 1.0) ** power - 2 * lag**power + np.abs(lag - 1.0) ** power) / 2
    circle = np.concatenate([covariance, covariance[-2:0:-1]])
    spectrum = np.sqrt(np.maximum(np.fft.fft(circle).real, 0) / len(circle))
    draws = rng(seed).standard_normal((2, dimension, len(circle)))
    noise = np.fft.fft(spectrum * (draws[0] + 1j * draws[1]))[:, :size].real
    return np.cumsum(noise, axis=1).T

"""Are barycentric draws uniform in simplexes of any shape? (Benton et al., 2021, appendix A.1)."""

from __future__ import annotations

import numpy as np
import torch
from scipy import stats

from lossatlas.simplex import sampling
from lossatlas.store import Record, Rows
from lossatlas.training.seeds import generator

# Vertices are the columns.
SHAPES = (
    np.array([[0, 0, 1], [0, 1, 0], [1, 0, 0]], dtype=np.float64),
    np.array([[0, 0, 100], [0, 1, 0], [1, 0, 0]], dtype=np.float64),
)
DRAWS, SHOWN = 20_000, 200


def quarters(weights: np.ndarray) -> np.ndarray:
    """Return which of four congruent triangles a point (N, 3) lies in: a corner, or 3 the middle.

    The lines between the middles of the edges cut any triangle into four of equal area.
    """
    return np.where(weights.max(axis=1) > 0.5, weights.argmax(axis=1), 3)


def draws(wrong: bool, words: object) -> np.ndarray:
    """Return weights (DRAWS, 3): of Dirichlet(1, 1, 1), or normalised uniform numbers."""
    draw = generator("sampling bias", words)
    if not wrong:
        return sampling.uniform(DRAWS, 3, draw).numpy()
    u = torch.rand(DRAWS, 3, generator=draw, dtype=torch.float64).numpy()
    return np.asarray(u / u.sum(axis=1, keepdims=True))


def study() -> Record:
    """Draw in the notebook's two triangles, with the right sampler and with a wrong one.

    Returns:
        A record with tables: `points` (wrong, elongated, x, y, z: 200 each) and `tests`,
        a row per sampler and triangle: shares of the four quarters (each should be 1/4), chi-square
        and its p-value, the least p-value of Kolmogorov-Smirnov tests of the weights against
        Beta(1, 2), and the mean place along the long axis over its length (should be 1/3).
    """
    record, points, tests = Record("sampling_bias"), Rows(), Rows()
    for wrong in (False, True):
        for elongated, vertices in enumerate(SHAPES):
            weights = draws(wrong, elongated)
            places = weights @ vertices.T
            for x, y, z in places[:SHOWN]:
                points.add(wrong=wrong, elongated=elongated, x=x, y=y, z=z)
            counts = np.bincount(quarters(weights), minlength=4)
            chi = stats.chisquare(counts)
            beta = stats.beta(1, 2).cdf
            least = min(float(stats.kstest(weights[:, i], beta).pvalue) for i in range(3))
            tests.add(
                wrong=wrong,
                elongated=elongated,
                **{f"quarter{i}": count / DRAWS for i, count in enumerate(counts)},
                chi_square=float(chi.statistic),
                p_chi_square=float(chi.pvalue),
                p_kolmogorov=least,
                mean=float(places[:, 0].mean() / vertices[0].max()),
            )
    record.tables += points.tables("points") + tests.tables("tests")
    return record

"""A window of a trajectory as its Gram matrix: all pair distances without the weights.

A trajectory of T points in R^P is known up to a shift and a rotation from the T x T inner products
of its centred points. Distances, lag averages, contour lengths, excursions, drift removal and
reordered increments need nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from lossatlas.diffusion.arrays import Array, finite


@dataclass(frozen=True)
class Path:
    """A window of a trajectory up to a shift and a rotation.

    Attributes:
        gram: (T, T) inner products of the points, centred at their mean.
        steps: (T - 1,) squared step lengths |x_{t+1} - x_t|^2.
    """

    gram: Array
    steps: Array

    def __len__(self) -> int:
        return len(self.gram)


@dataclass(frozen=True)
class Embedding:
    """Points with the distances of a path.

    Attributes:
        points: (T, r) coordinates along the principal axes, largest variance first.
        variance: (r,) share of the total squared distance from the centre on each axis.
    """

    points: Array
    variance: Array


def path_of_chunks(chunks: Iterable[ArrayLike]) -> Path:
    """Accumulate a path over chunks of parameters, in float64.

    The first point is subtracted in float64 before the product, and step lengths come from
    differences of the weights: a product of raw float32 weights loses all digits of the shortest
    distances. Memory is two chunks in float64 and two T x T matrices.

    Args:
        chunks: Arrays (T, p_k), the same T points restricted to disjoint sets of parameters.

    Raises:
        ValueError: If there is no chunk, T differs or is below 2, or a point is not finite (a
            diverged run: the message names its first bad point).
    """
    gram: Array | None = None
    steps: Array | None = None
    for chunk in chunks:
        given = np.asarray(chunk)
        if given.ndim != 2 or len(given) < 2:
            raise ValueError("each chunk must have 2 axes and at least 2 points")
        if gram is None or steps is None:
            gram, steps = np.zeros((len(given), len(given))), np.zeros(len(given) - 1)
        elif len(given) != len(gram):
            raise ValueError(f"chunks have {len(gram)} and {len(given)} points")
        with np.errstate(invalid="ignore", over="ignore"):  # a diverged run; refused below
            points = np.subtract(given, given[0], dtype=np.float64)
            products = points @ points.T
        if not np.isfinite(np.diagonal(products)).all():
            finite(given, "the trajectory", dimensions=2)
            raise ValueError("the trajectory is too large for float64: the run diverged")
        gram += products
        moves = np.diff(points, axis=0)
        steps += np.einsum("tp,tp->t", moves, moves)
    if gram is None or steps is None:
        raise ValueError("a trajectory needs at least one chunk of parameters")
    return Path(_centred(gram), steps)


def path_of_points(points: ArrayLike) -> Path:
    """Return the path of points (T, P), or (T,) in one dimension; see `path_of_chunks`."""
    array = np.asarray(points)
    return path_of_chunks([array[:, None] if array.ndim == 1 else array])


def path_of_gram(gram: ArrayLike, steps: ArrayLike | None = None) -> Path:
    """Return the path of a recorded Gram matrix, centred again in float64.

    Args:
        gram: (T, T) inner products; best recorded centred, since digits that an uncentred product
            lost do not come back.
        steps: (T - 1,) squared step lengths, recorded from differences of the weights. Default:
            from the Gram matrix.

    Raises:
        ValueError: If the matrix is not square, not symmetric, smaller than 2 x 2, or not finite
            (a diverged run), or if `steps` has another length or negative entries.
    """
    array = finite(gram, "the Gram matrix", dimensions=2, least=2)
    if array.shape[0] != array.shape[1]:
        raise ValueError(f"the Gram matrix must be square, not {array.shape}")
    if not np.allclose(array, array.T, rtol=0, atol=1e-9 * float(np.abs(array).max())):
        raise ValueError("the Gram matrix must be symmetric")
    centred = _centred(array)
    if steps is None:
        return Path(centred, _neighbours(centred))
    lengths = finite(steps, "the squared step lengths")
    if len(lengths) != len(array) - 1 or lengths.min() < 0:
        raise ValueError(f"{len(array)} points need {len(array) - 1} squared step lengths >= 0")
    return Path(centred, lengths)


def finite_points(gram: ArrayLike) -> int:
    """Return how many leading points of a recorded (T, T) Gram matrix are finite.

    A run that diverges at step t fills row and column t with NaN or infinity; the points before
    it are sound only if the window was not centred at a mean that includes it.
    """
    bad = ~np.isfinite(np.diagonal(np.asarray(gram)))
    return int(np.argmax(bad)) if bad.any() else len(bad)


def squared_distances(path: Path) -> Array:
    """Return D (T, T), D_ij = |x_i - x_j|^2 = G_ii + G_jj - 2 G_ij, clipped at 0.

    Neighbours get the squared step lengths of the path, which have the smaller rounding error.
    """
    norms = np.diagonal(path.gram)
    distances = np.maximum(norms + norms[:, None] - 2.0 * path.gram, 0.0)
    np.fill_diagonal(distances, 0.0)
    before = np.arange(len(path) - 1)
    distances[before, before + 1] = distances[before + 1, before] = path.steps
    return distances


def embedding(path: Path, rank: int | None = None) -> Embedding:
    """Return points with the path's distances (classical scaling, Torgerson 1952).

    Args:
        path: T points.
        rank: Axes to keep, largest variance first; default all T.

    Raises:
        ValueError: If the rank is not in 1 .. T.
    """
    keep = len(path) if rank is None else rank
    if not 1 <= keep <= len(path):
        raise ValueError(f"the rank must lie in 1..{len(path)}, not {keep}")
    values, vectors = np.linalg.eigh(path.gram)
    values = np.maximum(values[::-1], 0.0)
    total = values.sum()
    share = values / total if total > 0 else np.full_like(values, np.nan)
    return Embedding(vectors[:, ::-1][:, :keep] * np.sqrt(values[:keep]), share[:keep])


def without_drift(path: Path) -> Path:
    """Return the path after subtracting its mean increment, x_t - t (x_{T-1} - x_0) / (T - 1).

    Pure noise becomes a bridge, whose mean squared displacement bends down at long lags: compare
    with a surrogate and not with exponent 1.
    """
    size = len(path)
    time = (np.arange(size) - (size - 1) / 2) / (size - 1)
    along = path.gram[:, -1] - path.gram[:, 0]
    squared = along[-1] - along[0]
    crossed = along[:, None] * time
    gram = path.gram - crossed - crossed.T + squared * time[:, None] * time
    steps = path.steps - 2 * np.diff(along) / (size - 1) + squared / (size - 1) ** 2
    return Path(gram, np.maximum(steps, 0.0))


def increments(path: Path) -> Array:
    """Return K (T - 1, T - 1), K_st = <v_s, v_t> with v_t = x_{t+1} - x_t."""
    products = np.diff(np.diff(path.gram, axis=0), axis=1)
    np.fill_diagonal(products, path.steps)
    return products


def path_of_increments(products: Array) -> Path:
    """Return the path whose increments have the inner products K (T - 1, T - 1)."""
    size = len(products) + 1
    gram = np.zeros((size, size))
    gram[1:, 1:] = np.cumsum(np.cumsum(products, axis=0), axis=1)
    return Path(_centred(gram), np.diagonal(products).copy())


def _centred(gram: Array) -> Array:
    """Return the inner products of the points after subtracting their mean."""
    rows = gram.mean(axis=0)
    return gram - (rows + rows[:, None]) + rows.mean()


def _neighbours(gram: Array) -> Array:
    norms = np.diagonal(gram)
    return np.maximum(norms[1:] + norms[:-1] - 2.0 * np.diagonal(gram, 1), 0.0)

"""How probable each phase is in each cell, and which cells tell most of it.

The next measurement is the one that is expected to leave the fewest cells on the wrong side of a
limit (stepwise uncertainty reduction; Bect, Ginsbourger, Li, Picheny and Vazquez, 2012). A metric
that is m away from its limit, with the error s, is on the wrong side with probability
Phi(-|m| / s). A measurement of cell x with noise variance r moves the mean of cell y by a normal
number with variance c(x, y)^2 / (c(x, x) + r), and takes that off its variance; the expectation is
over that number, by Gauss-Hermite quadrature. So a second measurement of a cell is chosen where
noise decides, and a new cell where distance does.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.special import ndtr

from lossatlas.refine.surrogate import Cells, Floats, Surrogate

FLAT, CONNECTED, SIMILAR, LEARNED = "log_hessian_trace", "mode_connectivity", "cka", "train_loss"
LOW = (FLAT, LEARNED)  # flat, and learned, are below their limits; the others above
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(7)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()

Found = Mapping[str, Surrogate]  # quantity -> what is known of it


def sides(found: Found) -> dict[str, Floats]:
    """Return quantity -> probability (n,) that a cell is flat, connected, similar, learned."""
    shares = {name: ndtr(one.mean / one.spread) for name, one in found.items()}
    return {name: 1 - share if name in LOW else share for name, share in shares.items()}


def shares(found: Found) -> Floats:
    """Return the probability (n, 6) of I, II, III, IV-A, IV-B, and of not having learned.

    The errors of the quantities count as independent. Without a quantity for it all have learned.
    """
    side = sides(found)
    flat, connected, similar = side[FLAT], side[CONNECTED], side[SIMILAR]
    learned = side.get(LEARNED, np.ones_like(flat))
    four = flat * connected
    phases = [
        (1 - flat) * (1 - connected),
        (1 - flat) * connected,
        flat * (1 - connected),
        four * (1 - similar),
        four * similar,
    ]
    return np.stack([*(learned * phase for phase in phases), 1 - learned], axis=1)


def gains(found: Found, candidates: Cells) -> Floats:
    """Return by how much a measurement of each candidate (c,) makes fewer cells wrong."""
    side = sides(found)
    learned = side.get(LEARNED, np.ones(len(side[FLAT])))
    weights = {SIMILAR: learned * side[FLAT] * side[CONNECTED], LEARNED: np.ones_like(learned)}
    total = np.zeros(len(candidates))
    for name, one in found.items():
        total += _gain(one, candidates) @ weights.get(name, learned)
    return total


def _gain(one: Surrogate, candidates: Cells) -> Floats:
    """Return by how much a measurement of each candidate lowers each cell's error (c, n)."""
    before = one.spread**2
    column = one.covariance[candidates]
    own = column[np.arange(len(candidates)), candidates] + one.noise[candidates]
    moved = np.minimum(column**2 / own[:, None], before)
    after = np.sqrt(np.maximum(before - moved, 1e-12))
    error = np.zeros_like(moved)
    for node, weight in zip(_NODES, _WEIGHTS, strict=True):
        error += weight * ndtr(-np.abs(one.mean + node * np.sqrt(moved)) / after)
    return np.asarray(ndtr(-np.abs(one.mean) / one.spread) - error)


def choose(found: Found, candidates: Cells, count: int) -> list[int]:
    """Return the candidates to measure next, each once, the most useful first.

    After each choice the variances are those after a measurement that is as expected, so that the
    next one does not ask the same.
    """
    chosen: list[int] = []
    left = np.array(candidates)
    known = dict(found)
    while len(chosen) < count and len(left):
        best = int(left[np.argmax(gains(known, left))])
        chosen.append(best)
        left = left[left != best]
        known = {name: one.believing(best) for name, one in known.items()}
    return chosen

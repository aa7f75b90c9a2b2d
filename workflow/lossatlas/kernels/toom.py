"""Convolutions with three taps along one axis, with fewer products than places times taps.

m places of a convolution with three taps need only m + 2 products of numbers that are sums of
inputs with sums of taps (Toom 1963, Cook 1966; for networks Lavin and Gray, 2016).
"""

from __future__ import annotations

import numpy as np

# Beside infinity, by how many places a tile has. In float32 these round least of those tried: six
# times as much as torch, where 0, 1, -1, 2, -2 round 14 times as much.
_POINTS = {2: (0.0, 1.0, -1.0), 3: (0.0, 0.7, -0.7, 1.4), 4: (0.0, 2 / 3, -2 / 3, 1.5, -1.5)}


def matrices(side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return into (products, tiles, side), back (side, products, tiles), taps (products, 3).

    Two places and the zeros beside them are the product of a vector of two with a matrix of three
    numbers, the taps; so there inputs and taps change their parts, and three products are enough.
    """
    if side == 1:
        return np.ones((1, 1, 1)), np.ones((1, 1, 1)), np.array([[0.0, 1.0, 0.0]])
    if side == 2:
        back, into, taps = _toom(2, 2, (0.0, 1.0))
        return into[:, None, :], back[::-1, :, None].copy(), taps
    places = min(_POINTS, key=lambda m: ((m + 2) * -(-side // m), m))
    tiles = -(-side // places)
    outputs, taps, inputs = _toom(places, 3, _POINTS[places])
    into = np.zeros((places + 2, tiles, side))
    back = np.zeros((side, places + 2, tiles))
    for tile in range(tiles):
        first = tile * places
        for column in range(places + 2):
            if 0 <= (place := first + column - 1) < side:
                into[:, tile, place] = inputs[:, column]
        back[first : first + places, :, tile] = outputs[: side - first]
    return into, back, taps


def _toom(m: int, r: int, points: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return A (m, n), G (n, r), B (n, n): A (G g * B d) is the correlation of d with g.

    A product of polynomials of m and r coefficients is known by its values at n = m + r - 1 points,
    the last of them infinity; its transpose is the correlation (Winograd 1980).
    """
    n = m + r - 1

    def values(coefficients: int) -> np.ndarray:
        at = np.vander(np.array(points), coefficients, increasing=True)
        return np.vstack([at, np.eye(coefficients)[-1]])

    sums = np.linalg.inv(values(n)).T
    scale = np.abs(sums).max(axis=1, keepdims=True)  # inputs keep their size
    return values(m).T, values(r) * scale, sums / scale

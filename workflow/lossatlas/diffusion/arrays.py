"""Array types and the checks of inputs that the diffusion modules share."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Mode = Literal["fixed", "paper"]


def finite(values: ArrayLike, what: str, *, dimensions: int = 1, least: int = 1) -> Array:
    """Return `values` in float64 after checking shape and finiteness.

    Args:
        values: Array with `dimensions` axes and at least `least` entries along the first.
        what: Name of the values in messages, for example "loss".
        dimensions: How many axes there must be.
        least: Smallest length of the first axis.

    Raises:
        ValueError: On a wrong number of axes, too few entries, or NaN or infinite entries (the
            message names the first bad index along the first axis).
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != dimensions:
        raise ValueError(f"{what} must have {dimensions} axes, not {array.ndim}")
    if len(array) < least:
        raise ValueError(f"{what} needs at least {least} entries, not {len(array)}")
    good = np.isfinite(array)
    if not good.all():
        first = int(np.argwhere(~good)[0, 0])
        raise ValueError(f"{what} is not finite from index {first} on: cut it there or drop it")
    return array


def lags_within(lags: ArrayLike | None, points: int, *, least: int = 1) -> Ints:
    """Return the lags as integers; `None` means every lag from `least` to `points` - 1.

    Raises:
        ValueError: If a lag is not an integer, or lies outside `least` .. `points` - 1.
    """
    if lags is None:
        return np.arange(least, points, dtype=np.int64)
    given: NDArray[Any] = np.atleast_1d(np.asarray(lags))
    if given.ndim != 1 or given.size == 0 or not np.all(given == np.floor(given)):
        raise ValueError("lags must be a non-empty list of whole numbers of steps")
    if given.min() < least or given.max() > points - 1:
        raise ValueError(
            f"lags must lie in {least}..{points - 1} for {points} points, "
            f"not {given.min()}..{given.max()}"
        )
    return given.astype(np.int64)


def log_lags(first: int, last: int, per_decade: int = 20) -> Ints:
    """Return distinct whole lags about evenly spaced in the logarithm, both ends included.

    Raises:
        ValueError: If not 1 <= first <= last.
    """
    if not 1 <= first <= last:
        raise ValueError(f"lags need 1 <= first <= last, not {first} and {last}")
    count = int(np.ceil(np.log10(last / first) * per_decade)) + 1
    return np.unique(np.rint(np.geomspace(first, last, count)).astype(np.int64))

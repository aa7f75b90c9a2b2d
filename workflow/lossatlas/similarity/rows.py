"""Scalars of a record: a number that is not finite is NaN with the status `undefined`."""

from __future__ import annotations

import math

from lossatlas.store import Scalar


def scalar(
    name: str,
    value: float,
    *,
    replica: int | None = None,
    partner: int | None = None,
    unit: str = "",
) -> Scalar:
    """Return a `Scalar` of status `ok`, or `undefined` with NaN if `value` is not finite."""
    if math.isfinite(value):
        return Scalar(name, value, replica, partner, unit=unit)
    return Scalar(name, math.nan, replica, partner, status="undefined", unit=unit)

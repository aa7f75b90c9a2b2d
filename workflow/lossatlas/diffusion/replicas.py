"""What the replicas of a cell say together: means with errors between runs. Needs no torch."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from lossatlas import uncertainty
from lossatlas.store import Record, Scalar, Series

MEAN = "_mean"  # ends the names of means over replicas
_GOOD = ("ok", "unconverged")


def with_means(record: Record, x_name: str) -> Record:
    """Add means over replicas to the record of a cell, if it has two or more.

    A run's own errors come from blocks of its windows, which take windows as stationary: in the
    first steps of training they are many times too large. Runs from other seeds show how far a
    number really varies. So where there are two or more replicas, their rows have no errors, and
    rows without replica, named "<name>_mean", have the mean and its error (`uncertainty.mean`).

    Args:
        record: Rows of all replicas.
        x_name: Of series of numbers, which get a mean as well.
    """
    seeds = {row.replica for row in record.scalars if row.replica is not None}
    if len(seeds) < 2:
        return record
    scalars = [replace(row, stderr=math.nan, df=math.nan) for row in record.scalars]
    for name in dict.fromkeys(row.name for row in record.scalars):
        rows = [row for row in record.scalars if row.name == name]
        found, status = mean([(row.value, row.status) for row in rows], name)
        row = Scalar(name + MEAN, found.value, stderr=found.stderr, df=found.df, status=status)
        scalars.append(replace(row, unit=rows[0].unit))
    curves = [replace(curve, stderr=None, df=None) for curve in record.series]
    numbers = [curve for curve in record.series if curve.x_name == x_name]
    for name in dict.fromkeys(curve.name for curve in numbers):
        curves += _mean_series([curve for curve in numbers if curve.name == name])
    return replace(record, scalars=scalars, series=curves)


def mean(numbers: Iterable[tuple[float, str]], name: str) -> tuple[uncertainty.Estimate, str]:
    """Return the mean of numbers with their statuses, and the status of the mean.

    Numbers that are `diverged` or `undefined` stay out, and crossovers that are `unconverged`, too:
    they lie at an end of the lags searched. Without any the mean is `diverged` if all diverged.
    """
    given = list(numbers)
    wanted = _GOOD[:1] if name.startswith("crossover") else _GOOD
    entered = [(v, status) for v, status in given if status in wanted and math.isfinite(v)]
    if not entered:
        lost = bool(given) and all(status == "diverged" for _, status in given)
        return uncertainty.mean([]), "diverged" if lost else "undefined"
    rough = any(status == "unconverged" for _, status in entered)
    return uncertainty.mean([value for value, _ in entered]), "unconverged" if rough else "ok"


def _mean_series(curves: list[Series]) -> list[Series]:
    """Return the mean of one number over replicas at each x; nothing where all are absent."""
    places = sorted({x for curve in curves for x in curve.x.tolist()})
    if not places:
        return []
    at = [[float(y) for c in curves for y in c.y[c.x == place]] for place in places]
    found = [uncertainty.mean(numbers) for numbers in at]
    first = curves[0]
    mean_of = Series(
        first.name + MEAN,
        np.array(places),
        np.array([one.value for one in found]),
        first.x_name,
        status="unconverged" if any(c.status == "unconverged" for c in curves) else "ok",
        stderr=np.array([one.stderr for one in found]),
        df=np.array([one.df for one in found]),
    )
    return [replace(mean_of, x_unit=first.x_unit, y_unit=first.y_unit)]

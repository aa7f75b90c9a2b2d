"""Differences between two experiments over one grid, replica by replica."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from lossatlas import uncertainty
from lossatlas.tables.collect import SUMMARY, axes_of

STATUSES = ("ok", "unconverged")  # of numbers that enter
_ROUNDING = 16 * np.finfo(np.float64).eps  # of the numbers: differences within it are equal


def gains(table: pd.DataFrame, metric: str, first: str, second: str) -> pd.DataFrame:
    """Return, for each cell of the first experiment, a metric there minus that of the second.

    Replicas of one seed start from the same weights and see the same order of images in both
    experiments, so that their difference is taken first, and the mean and its error over these.

    Args:
        table: Scalars of both experiments, which have the same axes; the metric is one of replicas.
        metric: Its name in the table.
        first: Name of the experiment.
        second: Of what is subtracted.

    Returns:
        Columns <axes>, value, stderr, df, stderr_status, count (seeds that both have), status,
        diverged (seeds that diverged in either). A cell that the second experiment does not have,
        or without a seed that ended well in both, has the value NaN and the status `undefined`, or
        `diverged`.
    """
    axes = axes_of(table)
    rows = table[table["metric"] == metric]
    one, other = (
        rows[rows["experiment"] == name][[*axes, "replica", "value", "status"]]
        for name in (first, second)
    )
    both = one.merge(other, on=[*axes, "replica"], how="left", suffixes=("", "_other"))
    found = []
    for place, cell in both.groupby(axes, sort=False):
        found.append([*place, *_gain(cell)])
    return pd.DataFrame(found, columns=[*axes, *SUMMARY[1:]])


def _gain(cell: pd.DataFrame) -> tuple[float, float, float, str, int, str, int]:
    """Return value, stderr, df, stderr_status, count, status and diverged of one cell."""
    good = cell["status"].isin(STATUSES) & cell["status_other"].isin(STATUSES)
    lost = int(((cell["status"] == "diverged") | (cell["status_other"] == "diverged")).sum())
    numbers = cell.loc[good, ["value", "value_other"]].to_numpy(float)
    differences = numbers[:, 0] - numbers[:, 1]
    if len(differences) and np.ptp(differences) <= _ROUNDING * np.abs(numbers).max():
        differences[:] = differences.mean()  # they differ by rounding: no error can be had
    estimate = uncertainty.mean(differences)
    rough = (cell.loc[good, ["status", "status_other"]] == "unconverged").any(axis=None)
    status = "unconverged" if rough else "ok"
    if math.isnan(estimate.value):
        status = "diverged" if lost == len(cell) else "undefined"
    known = estimate.value, estimate.stderr, estimate.df, estimate.status, estimate.count
    return (*known, status, lost)

"""A summary as arrays over batch size and width, and the questions that claims ask of it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from lossatlas.spec.figures import Thresholds
from lossatlas.tables.collect import axes_of
from lossatlas.tables.phases import phases

FEWEST = 3  # points that make a trend
Range = tuple[float, float]
EVERYWHERE: Range = (0, math.inf)


class NotTestableError(Exception):
    """This experiment cannot tell whether a claim holds; the message says why."""


@dataclass(frozen=True)
class Grid:
    """Quantities and phases over batch size (rows, ascending) and width (columns, ascending)."""

    batch: np.ndarray
    width: np.ndarray
    metrics: dict[str, np.ndarray]
    phase: np.ndarray

    def __getitem__(self, metric: str) -> np.ndarray:
        """Return a quantity (B, W), NaN where it is absent.

        Raises:
            NotTestableError: If no cell has it.
        """
        if metric not in self.metrics or np.isnan(self.metrics[metric]).all():
            raise NotTestableError(f"no cell has {metric}")
        return self.metrics[metric]

    def where(self, batch: Range = EVERYWHERE, width: Range = EVERYWHERE) -> np.ndarray:
        """Return the cells with batch size and width in these ranges, ends included (B, W)."""
        rows = (self.batch >= batch[0]) & (self.batch <= batch[1])
        columns = (self.width >= width[0]) & (self.width <= width[1])
        return rows[:, None] & columns

    def part(self, batch: Range = EVERYWHERE, width: Range = EVERYWHERE) -> Grid:
        """Return the rows and columns in these ranges.

        Raises:
            NotTestableError: If there are none.
        """
        kept = self.where(batch, width)
        rows, columns = kept.any(axis=1), kept.any(axis=0)
        if not kept.any():
            raise NotTestableError(f"no cell has {_between('batch size', batch, 'width', width)}")
        cut = np.ix_(rows, columns)
        metrics = {name: values[cut] for name, values in self.metrics.items()}
        return Grid(self.batch[rows], self.width[columns], metrics, self.phase[cut])

    def along_width(self, metric: str) -> dict[int, float]:
        """Return batch size -> Spearman's rho of width and a quantity, for rows that have enough.

        Raises:
            NotTestableError: If no row has `FEWEST` numbers.
        """
        return _trends(self.batch, self.width, self[metric], f"widths with {metric}")

    def along_batch(self, metric: str) -> dict[int, float]:
        """Return width -> Spearman's rho of batch size and a quantity.

        Raises:
            NotTestableError: If no column has `FEWEST` numbers.
        """
        return _trends(self.width, self.batch, self[metric].T, f"batch sizes with {metric}")


def grid(summary: pd.DataFrame, thresholds: Thresholds | None = None) -> Grid:
    """Arrange a summary of one experiment.

    Args:
        summary: From `tables.collect.cell_summary`.
        thresholds: Of the phases.

    Raises:
        NotTestableError: If its axes are not width and batch size, or it has no cells.
    """
    axes = axes_of(summary)
    if sorted(axes) != ["batch_size", "width"]:
        raise NotTestableError(f"its axes are {', '.join(axes)}, not width and batch_size")
    if summary.empty:
        raise NotTestableError("it has no cells")
    metrics = {
        str(name): rows.pivot(index="batch_size", columns="width", values="value")
        for name, rows in summary.groupby("metric")
    }
    labels = phases(summary, thresholds).pivot(index="batch_size", columns="width", values="phase")
    arrays = {
        name: table.reindex(index=labels.index, columns=labels.columns).to_numpy(np.float64)
        for name, table in metrics.items()
    }
    phase = labels.fillna("").to_numpy(str)
    return Grid(labels.index.to_numpy(), labels.columns.to_numpy(), arrays, phase)


def rho(x: np.ndarray, y: np.ndarray) -> float:
    """Return Spearman's rank correlation of what is finite in both; 0 if either is constant.

    Raises:
        NotTestableError: If fewer than `FEWEST` points are left.
    """
    kept = np.isfinite(x) & np.isfinite(y)
    if kept.sum() < FEWEST:
        raise NotTestableError(f"{kept.sum()} points make no trend")
    x, y = x[kept], y[kept]
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return 0.0
    return float(spearmanr(x, y).statistic)


def finite(values: np.ndarray, kept: np.ndarray, what: str) -> np.ndarray:
    """Return the finite numbers of some cells.

    Raises:
        NotTestableError: If there are none; the message says that no cell has `what`.
    """
    found = values[kept & np.isfinite(values)]
    if not found.size:
        raise NotTestableError(f"no cell has {what}")
    return found


def best(values: np.ndarray) -> int:
    """Return the place of the largest number of a row, NaN left out.

    Raises:
        NotTestableError: If all are NaN.
    """
    if np.isnan(values).all():
        raise NotTestableError("a row has no numbers")
    return int(np.nanargmax(values))


def _trends(
    lines: np.ndarray, along: np.ndarray, values: np.ndarray, what: str
) -> dict[int, float]:
    found = {
        int(line): rho(along, row)
        for line, row in zip(lines, values, strict=True)
        if np.isfinite(row).sum() >= FEWEST
    }
    if not found:
        raise NotTestableError(f"fewer than {FEWEST} {what}")
    return found


def _between(first: str, one: Range, second: str, two: Range) -> str:
    named = ((first, one), (second, two))
    return " and ".join(
        f"{name} {_range(limits)}" for name, limits in named if limits != EVERYWHERE
    )


def _range(limits: Range) -> str:
    low, high = limits
    if high == math.inf:
        return f"of {low:g} or more"
    return f"of {high:g} or less" if low == 0 else f"from {low:g} to {high:g}"

"""A summary as arrays over batch size and width, and the questions that claims ask of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

import numpy as np
import pandas as pd

from lossatlas.claims.conditions import NotTestableError
from lossatlas.claims.statistics import unit
from lossatlas.spec.figures import Thresholds
from lossatlas.tables.collect import axes_of, cell_summary
from lossatlas.tables.phases import labels

FEWEST = 3  # points that make a trend
Range = tuple[float, float]
Lines = tuple[list[np.ndarray], list[np.ndarray]]  # places and values, line by line
EVERYWHERE: Range = (0, math.inf)


class Arranged:
    """Quantities and phases of the cells of an experiment, in arrays of one shape.

    Attributes:
        metrics: Quantity -> its numbers, NaN where they are absent.
        phase: The phase of each cell, '' where there is none.
        unconverged: How many numbers are left out because they did not converge.
        read: Quantities that were asked for.
    """

    metrics: dict[str, np.ndarray]
    phase: np.ndarray
    unconverged: int
    read: set[str]

    def __getitem__(self, metric: str) -> np.ndarray:
        """Return a quantity, NaN where it is absent.

        Raises:
            NotTestableError: If no cell has it.
        """
        self.read.add(metric)
        if metric not in self.metrics or np.isnan(self.metrics[metric]).all():
            raise NotTestableError(f"no cell has {metric}")
        return self.metrics[metric]


A = TypeVar("A", bound=Arranged)


@dataclass(frozen=True)
class Grid(Arranged):
    """Quantities and phases over batch size (rows, ascending) and width (columns, ascending)."""

    batch: np.ndarray
    width: np.ndarray
    metrics: dict[str, np.ndarray]
    phase: np.ndarray
    unconverged: int = 0  # numbers that are left out because they did not converge
    read: set[str] = field(default_factory=set)  # quantities that were asked for

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
        return replace(
            self,
            batch=self.batch[rows],
            width=self.width[columns],
            metrics=metrics,
            phase=self.phase[cut],
        )

    def along_width(self, metric: str) -> Lines:
        """Return width and a quantity of each row that has at least `FEWEST` numbers.

        Raises:
            NotTestableError: If no row has.
        """
        return _lines(self.width, self[metric], f"widths with {metric}")

    def along_batch(self, metric: str) -> Lines:
        """Return batch size and a quantity of each column that has at least `FEWEST` numbers.

        Raises:
            NotTestableError: If no column has.
        """
        return _lines(self.batch, self[metric].T, f"batch sizes with {metric}")


@dataclass(frozen=True)
class Grids(Generic[A]):
    """An experiment, and the same with one replica left out of every cell, for each replica."""

    whole: A
    left_out: tuple[A, ...]

    def same(self, names: set[str]) -> bool:
        """Say whether some quantities stay the same whichever replica is left out: of one pair."""
        return all(
            np.array_equal(
                self.whole.metrics[name], part.metrics.get(name, np.empty(0)), equal_nan=True
            )
            for name in names
            for part in self.left_out
        )


def grids(table: pd.DataFrame, thresholds: Thresholds | None = None) -> Grids[Grid]:
    """Arrange the scalars of one experiment over width and batch size.

    Args:
        table: Scalars of its metrics.
        thresholds: Of the phases.

    Raises:
        NotTestableError: If its axes are not width and batch size, it has no cells, or all its
            replicas are equal, or there is one.
    """
    check_axes(table)
    return jackknifed(table, lambda part: grid(cell_summary(part), thresholds))


def jackknifed(table: pd.DataFrame, arrange: Callable[[pd.DataFrame], A]) -> Grids[A]:
    """Arrange scalars as a whole, and with each replica left out.

    A quantity that would vanish from the whole experiment without a replica (the mode connectivity
    of a single pair) stays as it is. Replicas that are equal in every number count once.

    Raises:
        NotTestableError: If all replicas are equal, or there is one.
    """
    table = distinct(table)
    seeds = sorted(table["replica"].dropna().unique())
    if len(seeds) < 2:
        raise NotTestableError("one independent replica")
    return Grids(arrange(table), tuple(arrange(_without(table, seed)) for seed in seeds))


def _without(table: pd.DataFrame, seed: int) -> pd.DataFrame:
    of_seed = ((table["replica"] == seed) | (table["partner"] == seed)).fillna(False).astype(bool)
    stays = of_seed & ~table["metric"].isin(table.loc[~of_seed, "metric"].unique())
    return table[~of_seed | stays]


def distinct(table: pd.DataFrame) -> pd.DataFrame:
    """Return scalars without replicas that equal one before them: they are no other runs."""
    again = copies(table)
    return table[~(table["replica"].isin(again) | table["partner"].isin(again))]


def copies(table: pd.DataFrame) -> list[int]:
    """Return the replicas that equal one before them in every number of every cell."""
    alone = table[table["replica"].notna() & table["partner"].isna() & table["value"].notna()]
    if alone.empty:
        return []
    place = alone.groupby(["cell", "metric"], sort=False).ngroup()
    wide = alone.assign(place=place).pivot_table(index="replica", columns="place", values="value")
    return [int(seed) for seed in wide.index[wide.duplicated()]]


def check_axes(table: pd.DataFrame) -> None:
    """Refuse an experiment that is not over width and batch size, or has no cells.

    Raises:
        NotTestableError: With the axes that it has.
    """
    axes = axes_of(table)
    if sorted(axes) != ["batch_size", "width"]:
        raise NotTestableError(f"its axes are {', '.join(axes)}, not width and batch_size")
    if table.empty:
        raise NotTestableError("it has no cells")


def grid(summary: pd.DataFrame, thresholds: Thresholds | None = None) -> Grid:
    """Arrange a summary of one experiment. Numbers that did not converge count as absent.

    Args:
        summary: From `tables.collect.cell_summary`.
        thresholds: Of the phases.

    Raises:
        NotTestableError: If its axes are not width and batch size, or it has no cells.
    """
    check_axes(summary)
    rough = summary["status"] == "unconverged"
    summary = summary.assign(value=summary["value"].where(~rough))
    metrics = {
        str(name): rows.pivot(index="batch_size", columns="width", values="value")
        for name, rows in summary.groupby("metric")
    }
    phases = labels(summary, thresholds).pivot(index="batch_size", columns="width", values="phase")
    arrays = {
        name: table.reindex(index=phases.index, columns=phases.columns).to_numpy(np.float64)
        for name, table in metrics.items()
    }
    phase = phases.fillna("").to_numpy(str)
    unsure = int(rough.sum())
    return Grid(phases.index.to_numpy(), phases.columns.to_numpy(), arrays, phase, unsure)


def rho(x: np.ndarray, y: np.ndarray) -> float:
    """Return Spearman's rank correlation of what is finite in both; 0 if either is constant.

    Raises:
        NotTestableError: If fewer than `FEWEST` points are left.
    """
    kept = np.isfinite(x) & np.isfinite(y)
    if kept.sum() < FEWEST:
        raise NotTestableError(f"{kept.sum()} points make no trend")
    return float(unit(x[kept], ranks=True) @ unit(y[kept], ranks=True))


def finite(values: np.ndarray, kept: np.ndarray, what: str) -> np.ndarray:
    """Return the finite numbers of some cells.

    Raises:
        NotTestableError: If there are none; the message says that no cell has `what`.
    """
    found = values[kept & np.isfinite(values)]
    if not found.size:
        raise NotTestableError(f"no cell has {what}")
    return found


def place_of_best(places: np.ndarray, values: np.ndarray) -> float:
    """Return where the largest of a row's numbers lies, the mean place of those that tie.

    Raises:
        NotTestableError: If all are NaN.
    """
    if np.isnan(values).all():
        raise NotTestableError("a row has no numbers")
    return float(places[values == np.nanmax(values)].mean())


def _lines(along: np.ndarray, values: np.ndarray, what: str) -> Lines:
    found: list[tuple[np.ndarray, np.ndarray]] = []
    for row in values:
        known = np.isfinite(row)
        if known.sum() >= FEWEST:
            found.append((along[known].astype(np.float64), row[known]))
    if not found:
        raise NotTestableError(f"fewer than {FEWEST} {what}")
    return [x for x, _ in found], [y for _, y in found]


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

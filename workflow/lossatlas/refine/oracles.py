"""Grids of which every cell is known: the generated ones, and the one that was published."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from lossatlas import paths, uncertainty
from lossatlas.reference import taxonomy_published, taxonomy_tables
from lossatlas.refine.generators import NAMES, Generated
from lossatlas.refine.surrogate import Cells, Floats
from lossatlas.spec.figures import PUBLISHED
from lossatlas.tables.collect import cell_summary

REPLICAS = 3
MOST = 8  # purchases of one cell of a generated grid

Reveal = Callable[[int, int], tuple[Floats, Floats, float]]


@dataclass(frozen=True)
class Oracle:
    """A grid of n cells of which all is known.

    Attributes:
        points: (n, 2) values of the axes.
        labels: (n,) phases, 0 to 4 as in `tables.phases.PHASES`.
        reveal: (cell, times it was bought) -> values (3,) of `NAMES`, their standard errors (3,)
            and degrees of freedom.
        again: Whether a cell can be bought more than once.
    """

    points: Floats
    labels: Cells
    reveal: Reveal
    again: bool


def labels_of(values: Floats) -> Cells:
    """Return the phases (n,) by the published limits of values (3, n)."""
    trace, connectivity, cka = values
    flat = trace <= PUBLISHED["log_hessian_trace"]
    poor = connectivity < PUBLISHED["mode_connectivity"]
    four = np.where(cka >= PUBLISHED["cka"], 4, 3)
    return np.where(flat, np.where(poor, 2, four), np.where(poor, 0, 1))


def generated(grid: Generated, seed: int) -> Oracle:
    """Return a generated grid with noise of its own; its labels are those without noise."""
    random = np.random.default_rng([seed, 1])
    draws = grid.truth + grid.noise(random, grid.truth, REPLICAS * MOST)

    def reveal(cell: int, times: int) -> tuple[Floats, Floats, float]:
        some = draws[: REPLICAS * times, :, cell]
        found = [uncertainty.mean(column) for column in some.T]
        values = np.array([one.value for one in found])
        return values, np.array([one.stderr for one in found]), len(some) - 1.0

    return Oracle(grid.points, labels_of(grid.truth), reveal, again=True)


def published() -> Oracle:
    """Return the grid of Yang et al. (2021): 169 cells, whose labels are those of their numbers.

    A cell has five runs and one curve between two of them, so that its mode connectivity has no
    standard error.

    Raises:
        UserError: If the table of their numbers is missing or damaged.
    """
    kinds = ("hessian", "connectivity", "cka")
    tables = taxonomy_tables.tables(taxonomy_published.read(Path(paths.published())))
    rows = pd.concat([tables[kind][0] for kind in kinds], ignore_index=True)
    summary = cell_summary(taxonomy_tables.plotted(rows))
    axes = ["width", "batch_size"]

    def wide(column: str) -> pd.DataFrame:
        return summary.pivot(index=axes, columns="metric", values=column)[list(NAMES)]

    values, errors, df = (wide(column) for column in ("value", "stderr", "df"))
    numbers = values.to_numpy(), errors.to_numpy(), float(df["log_hessian_trace"].iloc[0])

    def reveal(cell: int, times: int) -> tuple[Floats, Floats, float]:
        del times
        return numbers[0][cell], numbers[1][cell], numbers[2]

    points = np.array(values.index.to_list(), np.float64)
    return Oracle(points, labels_of(numbers[0].T), reveal, again=False)

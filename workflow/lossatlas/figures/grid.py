"""The load-temperature grid: where its tiles lie.

Tiles reach to the geometric mid-points between neighbouring values, so that unequal spacing is
shown as it is. The hottest row is on top: small batches, large learning rates.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from lossatlas.errors import UserError
from lossatlas.figures import style
from lossatlas.tables.collect import axes_of

Floats = NDArray[np.float64]

COLD_AXES = ("batch_size",)  # of these, larger is colder
_WIDE = 50.0  # largest/smallest positive value from which an axis with a 0 is still logarithmic
_ROOMY = 0.15
_LABEL = (1.5, 2.5)  # mm: width of a character of a tick label, height of the label


@dataclass(frozen=True)
class Axis:
    """One axis: its name and its values, ascending."""

    name: str
    values: Floats

    @cached_property
    def centres(self) -> Floats:
        """Where the values lie: log10, with 0 one step before the rest; linear if 0 is close."""
        positive = self.values[self.values > 0]
        if len(positive) == len(self.values):
            return np.log10(self.values)
        if self.values[0] < 0 or len(positive) == 0 or positive[-1] <= _WIDE * positive[0]:
            return self.values
        logs = np.log10(positive)
        step = float(np.median(np.diff(logs)))
        return np.concatenate([[logs[0] - step], logs])

    @cached_property
    def edges(self) -> Floats:
        """Edges of the tiles, one more than values."""
        centres = self.centres
        if len(centres) == 1:
            return np.array([centres[0] - 0.5, centres[0] + 0.5])
        middles = (centres[1:] + centres[:-1]) / 2
        first, last = 2 * centres[0] - middles[0], 2 * centres[-1] - middles[-1]
        return np.concatenate([[first], middles, [last]])

    @cached_property
    def middles(self) -> Floats:
        """Middles of the tiles: where text and marks stand."""
        return (self.edges[1:] + self.edges[:-1]) / 2

    def labelled(self, room: float, *, upright: bool) -> list[int]:
        """Return indices of values whose labels fit beside each other, first and last preferred.

        Args:
            room: Length of the axis (mm).
            upright: Whether it is the vertical one, where the labels' height counts.
        """
        places = (self.centres - self.edges[0]) / (self.edges[-1] - self.edges[0]) * room
        sizes = [
            _LABEL[1] if upright else _LABEL[0] * len(style.spell_axis(v)) + 0.8
            for v in self.values
        ]

        def fit(a: int, b: int) -> bool:
            return bool(abs(places[a] - places[b]) >= (sizes[a] + sizes[b]) / 2)

        kept, last = [0], len(places) - 1
        for k in range(1, last + 1):
            if fit(kept[-1], k) and (k == last or fit(k, last)):
                kept.append(k)
        return kept


@dataclass(frozen=True)
class Grid:
    """A load axis (x) and a temperature axis (y)."""

    load: Axis
    temperature: Axis

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of temperatures and of loads."""
        return len(self.temperature.values), len(self.load.values)

    @property
    def roomy(self) -> bool:
        """Whether numbers fit into the tiles: into six of equal size beside each other."""
        return self.narrowest >= _ROOMY

    @property
    def narrowest(self) -> float:
        """Width or height of the narrowest tile, as a share of the whole."""
        axes = (self.load.edges, self.temperature.edges)
        return float(min(np.diff(edges).min() / np.ptp(edges) for edges in axes))

    @property
    def rows_hot_first(self) -> list[int]:
        """Indices of the temperatures, from top to bottom."""
        rows = list(range(self.shape[0]))
        return rows if self.temperature.name in COLD_AXES else rows[::-1]

    def matrix(self, rows: pd.DataFrame, column: str) -> Floats:
        """Return a column as (temperatures, loads); NaN where there is no row.

        Raises:
            ValueError: If two rows are of the same cell.
        """
        keys = [self.temperature.name, self.load.name]
        if rows.duplicated(keys).any():
            raise ValueError(f"two rows of '{column}' for one cell")
        found = np.full(self.shape, np.nan)
        i = np.searchsorted(self.temperature.values, rows[keys[0]].to_numpy(float))
        j = np.searchsorted(self.load.values, rows[keys[1]].to_numpy(float))
        found[i, j] = rows[column].to_numpy(float)
        return found

    def place(self, row: pd.Series[Any]) -> tuple[int, int]:
        """Return the indices of temperature and load of a row."""
        i = int(np.searchsorted(self.temperature.values, float(row[self.temperature.name])))
        return i, int(np.searchsorted(self.load.values, float(row[self.load.name])))

    def tile(self, i: int, j: int) -> Rectangle:
        """Return the tile of a temperature and a load, unstyled."""
        x, y = self.load.edges, self.temperature.edges
        return Rectangle((x[j], y[i]), x[j + 1] - x[j], y[i + 1] - y[i])


def grid_of(table: pd.DataFrame, load: str, temperature: str) -> Grid:
    """Return the grid that a table covers.

    Raises:
        UserError: If the experiment lacks an axis, has one too many, or the table has no rows.
    """
    for axis, group in ((load, "load"), (temperature, "temperature")):
        if not axis:
            fix = f"give the experiment a {group} axis; one value is enough"
            raise UserError(f"the figure needs a {group} axis", where="experiments", fix=fix)
    if table.empty:
        fix = "let the experiment measure what the figure shows, then run the same command again"
        raise UserError("the figure's tables have no rows", where="figures", fix=fix)
    for axis in (load, temperature):
        if axis not in table:
            raise UserError(
                f"the tables have no axis '{axis}'", where="figures", fix="collect anew"
            )
    for axis in {*axes_of(table)} - {load, temperature}:
        if table[axis].nunique(dropna=False) > 1:
            what = f"the figure has room for '{load}' and '{temperature}', and '{axis}' varies too"
            fix = f"make one experiment per value of '{axis}'"
            raise UserError(what, where="experiments", fix=fix)
    axes = (Axis(a, np.unique(table[a].to_numpy(float))) for a in (load, temperature))
    return Grid(*axes)
